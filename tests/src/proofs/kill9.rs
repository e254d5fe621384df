//! The real process, killed again and again while a chain grows, and going on each time with what it had recorded.
//!
//! It dies at random moments, and at each fail point: before each write, rename, removal and forcing to the disk of its
//! journal, its snapshots and its description, and in the middle of each write.
//!
//! The chain does not wait for it: blocks and reorganisations come while it is dead. In the end its record has to be the
//! chain, each block once; its snapshots have to hold the reserves, the prices and the undo records of their block; and whatever it found, in any of its lives, has to be what the exhaustive search finds on the
//! reserves of that block, which are kept here beside the generator.

mod points;
mod snapshots;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;
use anyhow::{Context, ensure};
use headwater_bus::clock;
use headwater_events::BusEvent;
use headwater_journal::Recording;
use headwater_reference::arbitrage::Pool;
use headwater_reference::fake_node::{BlockBuilder, FakeBlock, FakeNode};
use headwater_reference::rebuild::Rebuild;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use super::poison::panic_in_each;
use super::replay::as_json;
use crate::exhaustive::Exhaustive;
use crate::follower::{Pieces, Results};
use crate::latency::{FACTORIES, Load, WETH, World, config_text};
use crate::proof::{Proof, ProofArgs, Report};
use crate::workflows::{Process, headwater};

/// `kill -9`.
pub const KILL9: Proof = Proof {
    name: "kill9",
    about: "the process, killed at random moments and at every fail point under load: its record is the chain, its state that \
            of the chain, and what it finds stays right",
    full_duration: "6 min",
    run,
};

const CHAIN_ID: u64 = 424_243;

/// Small, so that the exhaustive search of every block is quick; every block carries a hundred logs.
const LOAD: Load = Load { pools: 40, touched: 12, shocked: 4, transactions: 20, logs: 100 };

/// For the many lives that end at fail points.
const LIGHT: Load = Load { pools: 40, touched: 6, shocked: 2, transactions: 12, logs: 24 };

/// For a long record: the node and the judge keep every block in memory.
/// A transaction carries one swap at most, and the first of these blocks puts back what the last one shocked.
const SLIGHT: Load = Load { pools: 40, touched: 1, shocked: 0, transactions: 6, logs: 8 };

/// From one block to the next.
const BLOCK_TIME: Duration = Duration::from_millis(15);
/// Of light blocks.
const LIGHT_BLOCK_TIME: Duration = Duration::from_millis(25);

/// Of a hundred blocks, how many come with a reorganisation of the ones before them.
const REORGS_IN_100: u32 = 6;
const DEEPEST: usize = 4;

/// For what takes a few hundred milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// More of it for a block that has to be generated first.
const PER_BLOCK: Duration = Duration::from_millis(50);

/// Blocks from one snapshot to the next: many of them in a short life.
const SNAPSHOT_BLOCKS: u64 = 8;

struct Size {
    kills: u64,
    /// How often the process dies at each fail point.
    rounds: u64,
    /// At how many of them, if not at all.
    points: usize,
    /// Blocks on record when the process is last started.
    journal: usize,
    floor: u64,
}

const FULL: Size = Size { kills: 100, rounds: 10, points: usize::MAX, journal: 10_000, floor: 1_000 };
const QUICK: Size = Size { kills: 4, rounds: 1, points: 8, journal: 0, floor: 15 };

/// How soon a process has to be ready behind a long record.
const READY_WITHIN: Duration = Duration::from_secs(3);

/// How soon an actor that panicked behind it has to be at work again.
const RESTARTED_WITHIN: Duration = Duration::from_secs(1);

/// What ingest waits besides: it connects at most once a second, and the last time was just before.
const BETWEEN_CONNECTIONS: Duration = Duration::from_secs(1);

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let size = if args.quick { QUICK } else { FULL };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(prove(args.seed, &size))
}

async fn prove(seed: u64, size: &Size) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir()?;
    let (node, url) = FakeNode::start(CHAIN_ID).await?;
    let node = Arc::new(node);
    let generator = Generator::new(seed);
    node.answer_v2(generator.world.contracts());
    node.push_block(generator.blocks[0].block.clone());
    let chain = Arc::new(Mutex::new(generator));
    let mut lives = Lives::new(&folder.path().join("killed"), &url, "")?;

    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x9e37_79b9);
    let mut feeding = feed(&node, &chain, BLOCK_TIME);
    lives.begin(&chain).await?;
    let unready = kill_at_random(&mut lives, &mut random, size.kills).await?;
    feeding.abort();
    lock(&chain).world.reload(LIGHT);
    feeding = feed(&node, &chain, LIGHT_BLOCK_TIME);
    let died = points::die_at_each(&mut lives, &mut random, size, &chain, folder.path()).await?;
    let without = if size.journal > 0 {
        feeding.abort();
        lock(&chain).world.reload(SLIGHT);
        feeding = feed(&node, &chain, Duration::from_millis(2));
        let mut process = lives.start(None)?;
        lives.until_written(size.journal).await?;
        process.kill()?;
        feeding.abort();
        let aside = lives.put_snapshots_aside()?;
        let (mut process, ready) = lives.start_ready(&node, &chain).await?;
        process.kill()?;
        lives.put_back(&aside)?;
        Some(ready)
    } else {
        None
    };
    feeding.abort();
    let _ = feeding.await;
    let restarts = panic_in_each(&node, &url, &fs::read_to_string(lives.config())?, &chain).await?;
    let is_late = |(actor, took): &(&str, Duration)| {
        *took > RESTARTED_WITHIN + if *actor == "ingest" { BETWEEN_CONNECTIONS } else { Duration::ZERO }
    };
    let slowest = restarts.iter().map(|(_, took)| *took).max().unwrap_or_default();
    ensure!(
        size.journal == 0 || !restarts.iter().any(is_late),
        "restarts behind a long record: {restarts:?}"
    );

    let (process, ready) = lives.start_ready(&node, &chain).await?;
    ensure!(size.journal == 0 || ready <= READY_WITHIN, "ready after {ready:?}");
    let head = snapshots::until_saved(&lives, &node, &chain).await?;
    interrupt(process).await?;

    let chain = Arc::try_unwrap(chain).ok().context("somebody still feeds")?;
    let chain = chain.into_inner().unwrap_or_else(PoisonError::into_inner);
    let record = lives.judge_record(&chain)?;
    let state = snapshots::judge(&lives.run()?, &chain, head)?;
    let findings = lives.judge_findings(&chain)?;
    let resumed = lives.count("going on with an earlier run")?;
    let torn = lives.count("cut off the incomplete record")?;
    let anew = lives.count("beginning anew")? + lives.count("loading anew")?;
    ensure!(anew == 0, "{anew} of {} lives did not go on with what was there", lives.begun);
    let restored = lives.count("rebuilding from a snapshot")?;
    let last = fs::read_to_string(lives.log(lives.begun - 1))?;
    let from_snapshots = last.matches("rebuilding from a snapshot").count();
    ensure!(
        from_snapshots == 2,
        "state and oracle of the last life were not both rebuilt from a snapshot:\n{last}"
    );
    let behind = match without {
        Some(without) => format!("; {without:?} when the snapshots were put aside"),
        None => String::new(),
    };
    Ok(Report {
        checked: findings.blocks,
        floor: size.floor,
        skipped: died.skipped,
        seed,
        lines: vec![
            format!("{} kills, {unready} of them before the process was ready", size.kills),
            format!(
                "{} deaths at {} fail points: {}",
                died.deaths,
                died.points.len(),
                died.points.join(", ")
            ),
            format!(
                "{resumed} lives went on, {restored} of them from snapshots; {torn} records cut off in the middle"
            ),
            died.retained,
            format!(
                "the record: {} canonical blocks, each once, as generated; {} reorganisations, {} gaps filled",
                record.blocks, record.reorgs, record.gaps
            ),
            format!("{} reserves at the end as a plain fold of the chain has them", record.pools),
            format!(
                "the last snapshots: {} reserves, {} prices and {} blocks undone one by one, all as the chain has them",
                state.pools, state.prices, state.undone
            ),
            format!(
                "{} blocks judged, {} cycles: all found, none invented",
                findings.blocks, findings.cycles
            ),
            format!(
                "each actor panicked behind that record: started anew, and a further block done, at most {slowest:?} later"
            ),
            format!("the last life had decided on its first new block {ready:?} after its start{behind}"),
        ],
    })
}

/// How many were killed before they were ready.
async fn kill_at_random(lives: &mut Lives, random: &mut ChaCha8Rng, kills: u64) -> anyhow::Result<u64> {
    let mut unready = 0;
    for _kill in 0..kills {
        let mut process = lives.start(None)?;
        if random.random_range(0..10) < 3 {
            sleep(Duration::from_millis(random.random_range(0..250))).await;
            unready += 1;
        } else {
            lives.until_written(1).await?;
            sleep(Duration::from_millis(random.random_range(0..300))).await;
        }
        process.kill()?;
    }
    Ok(unready)
}

/// A chain that grows, with the reserves after each of its blocks.
pub(super) struct Generator {
    pub(super) world: World,
    /// The canonical blocks, oldest first.
    pub(super) blocks: Vec<Generated>,
    /// Of every block there ever was.
    pub(super) pools: BTreeMap<B256, Vec<Pool>>,
    random: ChaCha8Rng,
    /// Whether nothing is reorganised: a run that begins anew cannot go below the block that it loaded the market at.
    calm: bool,
}

pub(super) struct Generated {
    pub(super) block: FakeBlock,
    /// As it was after the block; of the last few only.
    world: Option<World>,
}

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        let world = World::new(LOAD, seed);
        let block = BlockBuilder::first(1_000).build();
        let mut generator = Self {
            world,
            blocks: Vec::new(),
            pools: BTreeMap::new(),
            random: ChaCha8Rng::seed_from_u64(seed),
            calm: true,
        };
        generator.append(block);
        generator
    }

    fn append(&mut self, block: FakeBlock) {
        self.pools.insert(block.hash(), self.world.pools());
        self.blocks.push(Generated { block, world: Some(self.world.clone()) });
        if let Some(old) = self.blocks.iter_mut().rev().nth(2 * DEEPEST) {
            old.world = None;
        }
    }

    pub(super) fn head(&self) -> &FakeBlock {
        &self.blocks[self.blocks.len() - 1].block
    }

    pub(super) fn next(&mut self) -> FakeBlock {
        let parent = self.head().clone();
        let block = self.world.block(&parent);
        self.append(block.clone());
        block
    }

    /// A branch that is one block longer than what it replaces.
    pub(super) fn reorganise(&mut self) -> Vec<FakeBlock> {
        let depth = self.random.random_range(1..=DEEPEST).min(self.blocks.len() - 1);
        self.blocks.truncate(self.blocks.len() - depth);
        if let Some(Generated { world: Some(world), .. }) = self.blocks.last() {
            self.world = world.diverted(self.random.random());
        }
        (0..=depth).map(|_| self.next()).collect()
    }
}

fn lock(chain: &Mutex<Generator>) -> std::sync::MutexGuard<'_, Generator> {
    chain.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the chain grow at a steady pace until it is aborted.
fn feed(node: &Arc<FakeNode>, chain: &Arc<Mutex<Generator>>, pace: Duration) -> JoinHandle<()> {
    let (node, chain) = (Arc::clone(node), Arc::clone(chain));
    tokio::spawn(async move {
        let mut ticks = interval(pace);
        // A machine that is busy gets no burst of blocks.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut chain = lock(&chain);
            if !chain.calm && chain.random.random_range(0..100) < REORGS_IN_100 {
                let branch = chain.reorganise();
                node.reorg_to(branch);
            } else {
                node.push_block(chain.next());
            }
        }
    })
}

/// The processes that go on with each other, and what they leave in a folder.
struct Lives {
    folder: PathBuf,
    url: String,
    /// How many there were; the last one is the greatest number below it.
    begun: u64,
}

/// What the record holds.
struct Recorded {
    blocks: usize,
    pools: usize,
    reorgs: usize,
    gaps: usize,
}

/// What was judged of the findings.
#[derive(Default)]
struct Judged {
    blocks: u64,
    cycles: u64,
}

impl Lives {
    /// None yet; `journal` is what their `[journal]` has beside its directory.
    fn new(folder: &Path, url: &str, journal: &str) -> anyhow::Result<Self> {
        fs::create_dir(folder)?;
        let lives = Self { folder: folder.to_owned(), url: url.to_owned(), begun: 0 };
        let config = config_text(&lives.journal());
        fs::write(lives.config(), format!("{config}snapshot_blocks = {SNAPSHOT_BLOCKS}\n{journal}"))?;
        Ok(lives)
    }

    fn config(&self) -> PathBuf {
        self.folder.join("headwater.toml")
    }

    fn journal(&self) -> PathBuf {
        self.folder.join("journal")
    }

    fn results(&self, life: u64) -> PathBuf {
        self.folder.join(format!("{life}.ndjson"))
    }

    fn log(&self, life: u64) -> PathBuf {
        self.folder.join(format!("{life}.log"))
    }

    /// The directory of the only run that has recorded a block.
    fn run(&self) -> anyhow::Result<PathBuf> {
        let mut runs = Vec::new();
        for entry in fs::read_dir(self.journal())? {
            let run = entry?.path();
            let is_one =
                fs::read_dir(&run)?.flatten().any(|file| file.path().extension() == Some("hwj".as_ref()));
            if is_one && headwater_journal::info(&run)?.blocks.is_some() {
                runs.push(run);
            }
        }
        let [run] = &runs[..] else { anyhow::bail!("{} records instead of one", runs.len()) };
        Ok(run.clone())
    }

    /// The first life: it gets through its load and some blocks, so that there is something to go on with, and is killed.
    async fn begin(&mut self, chain: &Mutex<Generator>) -> anyhow::Result<()> {
        lock(chain).calm = true;
        let mut process = self.start(None)?;
        self.until_written(DEEPEST + 2).await?;
        process.kill()?;
        lock(chain).calm = false;
        Ok(())
    }

    /// Starts the next life; `dying` arms a fail point.
    fn start(&mut self, dying: Option<&str>) -> anyhow::Result<Process> {
        let life = self.begun;
        self.begun += 1;
        let mut command = Command::new(headwater()?);
        command
            .args(["run", "--rpc", &self.url, "--config"])
            .arg(self.config())
            .arg("--ndjson")
            .arg(self.results(life))
            .env_remove("RUST_LOG")
            .envs(dying.map(|point| ("HEADWATER_FAIL_POINT", point)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.log(life))?);
        Process::start(&mut command)
    }

    /// Starts a life; how long it takes until it has decided on its first new block.
    async fn start_ready(
        &mut self,
        node: &FakeNode,
        chain: &Mutex<Generator>,
    ) -> anyhow::Result<(Process, Duration)> {
        let began = clock::now();
        let process = self.start(None)?;
        self.until_written(0).await?;
        // The line of a block without findings is written when another one comes.
        let head = lock(chain).next();
        let hash = head.hash();
        node.push_block(head);
        let next = lock(chain).next();
        node.push_block(next);
        self.until_seen(hash).await?;
        Ok((process, began.elapsed()))
    }

    /// Waits until the last life has written the lines of so many blocks, or, for none, until it follows the chain.
    async fn until_written(&self, blocks: usize) -> anyhow::Result<()> {
        let patience = PATIENCE + blocks as u32 * PER_BLOCK;
        self.until(patience, |results, log| match blocks {
            0 => log.contains("following the chain"),
            _ => results.matches(r#""type":"block""#).count() >= blocks,
        })
        .await
    }

    async fn until_seen(&self, block: B256) -> anyhow::Result<()> {
        let seen = format!(r#""hash":"{block:#x}""#);
        self.until(PATIENCE, |results, _| results.contains(&seen)).await
    }

    async fn until(&self, patience: Duration, is_so: impl Fn(&str, &str) -> bool) -> anyhow::Result<()> {
        let life = self.begun - 1;
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let deadline = Instant::now() + patience;
        let mut ticks = interval(Duration::from_millis(10));
        while !is_so(&read(&self.results(life)), &read(&self.log(life))) {
            let in_time = timeout_at(deadline, ticks.tick()).await;
            in_time.with_context(|| format!("life {life} does not come on:\n{}", read(&self.log(life))))?;
        }
        Ok(())
    }

    /// Takes away the snapshots that there are; says where to.
    fn put_snapshots_aside(&self) -> anyhow::Result<PathBuf> {
        let aside = self.folder.join("aside");
        fs::create_dir(&aside)?;
        for snapshot in snapshots::files(&self.run()?)? {
            fs::rename(&snapshot, aside.join(snapshot.file_name().context("a file has a name")?))?;
        }
        Ok(aside)
    }

    fn put_back(&self, aside: &Path) -> anyhow::Result<()> {
        let run = self.run()?;
        for snapshot in snapshots::files(aside)? {
            fs::rename(&snapshot, run.join(snapshot.file_name().context("a file has a name")?))?;
        }
        Ok(())
    }

    /// The one record that all lives wrote, against the generator's chain.
    fn judge_record(&self, chain: &Generator) -> anyhow::Result<Recorded> {
        let mut rebuild = Rebuild::new(FACTORIES.map(|factory| (factory, 3_000)));
        let (mut reorgs, mut gaps) = (0, 0);
        for record in Recording::open(self.run()?)?.records(1) {
            let envelope = record?.envelope;
            reorgs += usize::from(matches!(envelope.event, BusEvent::Reorg(_)));
            gaps += usize::from(matches!(envelope.event, BusEvent::SourceGap(_)));
            rebuild.take(&as_json(&envelope)?)?;
        }
        let recorded: Vec<B256> = rebuild.chain().map(|at| at.hash).collect();
        let generated: Vec<B256> = chain.blocks.iter().map(|generated| generated.block.hash()).collect();
        let head = recorded.last().context("no block was recorded")?;
        let end = generated.iter().rposition(|hash| hash == head).context("the record is not the chain")?;
        ensure!(end + 2 >= generated.len(), "the record ends {} blocks early", generated.len() - end - 1);
        let from = (end + 1).checked_sub(recorded.len()).context("more blocks than there are")?;
        ensure!(recorded == generated[from..=end], "the record is not the chain");
        let expected = chain.pools.get(head).context("the head was generated")?;
        let mut expected = expected.clone();
        expected.sort_by_key(|pool| pool.address);
        ensure!(rebuild.pools() == expected, "other reserves than the chain's");
        Ok(Recorded { blocks: recorded.len(), pools: expected.len(), reorgs, gaps })
    }

    /// What each life found in the blocks that it evaluated.
    fn judge_findings(&self, chain: &Generator) -> anyhow::Result<Judged> {
        let (mut judged, mut exhaustive) = (Judged::default(), Exhaustive::default());
        let bases = [WETH];
        for life in 0..self.begun {
            let Ok(text) = fs::read_to_string(self.results(life)) else { continue };
            let (blocks, found) = whole_blocks(&text, life + 1 == self.begun)?;
            for block in blocks.iter().filter(|block| block.was_evaluated()) {
                let pools = chain.pools.get(&block.hash).context("a block that nobody generated")?;
                let found = found.get(&block.hash).map_or(&[][..], Vec::as_slice);
                let cycles = exhaustive.compare(found, pools, &bases);
                judged.cycles += cycles.with_context(|| format!("life {life}, block {}", block.number))?;
                judged.blocks += 1;
            }
        }
        Ok(judged)
    }

    /// In how many logs something stands.
    fn count(&self, what: &str) -> anyhow::Result<u64> {
        let logs = (0..self.begun).filter(|life| self.log(*life).is_file());
        let logs = logs.map(|life| fs::read_to_string(self.log(life))).collect::<Result<Vec<_>, _>>()?;
        Ok(logs.iter().filter(|log| log.contains(what)).count() as u64)
    }
}

/// The blocks of a life of which everything was written. Findings come over a lane of their own, so that those of the last
/// blocks of a killed process may be missing: all are there of the blocks before the last one that has any.
fn whole_blocks(text: &str, is_complete: bool) -> anyhow::Result<Pieces> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let (mut blocks, found) = Results::read_lines(whole)?;
    if !is_complete {
        let settled = blocks.iter().rposition(|block| found.contains_key(&block.hash));
        blocks.truncate(settled.unwrap_or(0));
    }
    Ok((blocks, found))
}

/// Ctrl-C, and a good end.
async fn interrupt(mut process: Process) -> anyhow::Result<()> {
    process.interrupt()?;
    let deadline = Instant::now() + PATIENCE;
    let mut ticks = interval(Duration::from_millis(10));
    while !process.has_ended()? {
        timeout_at(deadline, ticks.tick()).await.context("the last life does not end")?;
    }
    process.succeed()
}
