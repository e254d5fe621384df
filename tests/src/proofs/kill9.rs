//! The real process, killed again and again while a chain grows, and going on each time with what it had recorded.
//!
//! The chain does not wait for it: blocks and reorganisations come while it is dead. In the end its record has to be the
//! chain, each block once; and whatever it found, in any of its lives, has to be what the exhaustive search finds on the
//! reserves of that block, which are kept here beside the generator.

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
use tokio::time::{Instant, interval, sleep, timeout_at};

use super::replay::as_json;
use crate::exhaustive::Exhaustive;
use crate::follower::{Pieces, Results};
use crate::latency::{FACTORIES, Load, WETH, World, config_text};
use crate::proof::{Proof, ProofArgs, Report};
use crate::workflows::{Process, headwater};

/// `kill -9`.
pub const KILL9: Proof = Proof {
    name: "kill9",
    about: "the process, killed at random moments under load: its record is the chain, and what it finds stays right",
    full_duration: "3 min",
    run,
};

const CHAIN_ID: u64 = 424_243;

/// Small, so that the exhaustive search of every block is quick; every block carries a hundred logs.
const LOAD: Load = Load { pools: 40, touched: 12, shocked: 4, transactions: 20, logs: 100 };

/// For a long record: the node and the judge keep every block in memory.
/// A transaction carries one swap at most, and the first of these blocks puts back what the last one shocked.
const SLIGHT: Load = Load { pools: 40, touched: 1, shocked: 0, transactions: 6, logs: 8 };

/// From one block to the next.
const BLOCK_TIME: Duration = Duration::from_millis(15);

/// Of a hundred blocks, how many come with a reorganisation of the ones before them.
const REORGS_IN_100: u32 = 6;
const DEEPEST: usize = 4;

/// For what takes a few hundred milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// More of it for a block that has to be generated first.
const PER_BLOCK: Duration = Duration::from_millis(50);

struct Size {
    kills: u64,
    /// Blocks on record when the process is last started.
    journal: usize,
    floor: u64,
}

const FULL: Size = Size { kills: 100, journal: 10_000, floor: 1_000 };
const QUICK: Size = Size { kills: 6, journal: 0, floor: 15 };

/// How soon a process has to be ready behind a long record.
const READY_WITHIN: Duration = Duration::from_secs(3);

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
    let lives = Lives { folder: folder.path().to_owned(), url };
    fs::write(lives.config(), config_text(&lives.journal()))?;

    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x9e37_79b9);
    let mut feeding = feed(&node, &chain, BLOCK_TIME);
    let mut unready = 0;
    for life in 0..size.kills {
        let mut process = lives.start(life)?;
        // The first one has to get through its load, or there is nothing to go on with.
        let is_early = life > 0 && random.random_range(0..10) < 3;
        if is_early {
            sleep(Duration::from_millis(random.random_range(0..250))).await;
            unready += 1;
        } else {
            lives.until_written(life, 1).await?;
            sleep(Duration::from_millis(random.random_range(0..300))).await;
        }
        process.kill()?;
    }
    if size.journal > 0 {
        feeding.abort();
        lock(&chain).world.reload(SLIGHT);
        feeding = feed(&node, &chain, Duration::from_millis(2));
        let life = size.kills;
        let mut process = lives.start(life)?;
        lives.until_written(life, size.journal).await?;
        process.kill()?;
    }
    feeding.abort();
    let _ = feeding.await;

    let last = size.kills + 1;
    let began = clock::now();
    let process = lives.start(last)?;
    lives.until_written(last, 0).await?;
    // The line of a block without findings is written when another one comes.
    let head = lock(&chain).next();
    let hash = head.hash();
    node.push_block(head);
    let next = lock(&chain).next();
    node.push_block(next);
    lives.until_seen(last, hash).await?;
    let ready = began.elapsed();
    ensure!(size.journal == 0 || ready <= READY_WITHIN, "ready after {ready:?}");
    interrupt(process).await?;

    let chain = Arc::try_unwrap(chain).ok().context("somebody still feeds")?;
    let chain = chain.into_inner().unwrap_or_else(PoisonError::into_inner);
    let record = lives.judge_record(&chain)?;
    let findings = lives.judge_findings(&chain, last)?;
    let resumed = lives.count("going on with an earlier run", last)?;
    let torn = lives.count("cut off the incomplete record", last)?;
    ensure!(resumed >= size.kills, "only {resumed} lives went on with what was there");
    Ok(Report {
        checked: findings.blocks,
        floor: size.floor,
        skipped: 0,
        seed,
        lines: vec![
            format!(
                "{} kills, {unready} of them before the process was ready; {resumed} lives went on",
                size.kills
            ),
            format!("{torn} records cut off in the middle, removed and reported"),
            format!(
                "the record: {} canonical blocks, each once, as generated; {} reorganisations, {} gaps filled",
                record.blocks, record.reorgs, record.gaps
            ),
            format!("{} reserves at the end as a plain fold of the chain has them", record.pools),
            format!(
                "{} blocks judged, {} cycles: all found, none invented",
                findings.blocks, findings.cycles
            ),
            format!("the last life had decided on its first new block {ready:?} after its start"),
        ],
    })
}

/// A chain that grows, with the reserves after each of its blocks.
pub(super) struct Generator {
    pub(super) world: World,
    /// The canonical blocks, oldest first.
    pub(super) blocks: Vec<Generated>,
    /// Of every block there ever was.
    pub(super) pools: BTreeMap<B256, Vec<Pool>>,
    random: ChaCha8Rng,
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
        loop {
            ticks.tick().await;
            let mut chain = lock(&chain);
            if chain.blocks.len() > DEEPEST && chain.random.random_range(0..100) < REORGS_IN_100 {
                let branch = chain.reorganise();
                node.reorg_to(branch);
            } else {
                node.push_block(chain.next());
            }
        }
    })
}

/// The processes, and what they leave in a folder.
struct Lives {
    folder: PathBuf,
    url: String,
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

    fn start(&self, life: u64) -> anyhow::Result<Process> {
        let mut command = Command::new(headwater()?);
        command
            .args(["run", "--rpc", &self.url, "--config"])
            .arg(self.config())
            .arg("--ndjson")
            .arg(self.results(life))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.log(life))?);
        Process::start(&mut command)
    }

    /// Waits until a life has written the lines of so many blocks, or, for none, until it follows the chain.
    async fn until_written(&self, life: u64, blocks: usize) -> anyhow::Result<()> {
        let patience = PATIENCE + blocks as u32 * PER_BLOCK;
        self.until(life, patience, |results, log| match blocks {
            0 => log.contains("following the chain"),
            _ => results.matches(r#""type":"block""#).count() >= blocks,
        })
        .await
    }

    async fn until_seen(&self, life: u64, block: B256) -> anyhow::Result<()> {
        let seen = format!(r#""hash":"{block:#x}""#);
        self.until(life, PATIENCE, |results, _| results.contains(&seen)).await
    }

    async fn until(
        &self,
        life: u64,
        patience: Duration,
        is_so: impl Fn(&str, &str) -> bool,
    ) -> anyhow::Result<()> {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let deadline = Instant::now() + patience;
        let mut ticks = interval(Duration::from_millis(10));
        while !is_so(&read(&self.results(life)), &read(&self.log(life))) {
            let in_time = timeout_at(deadline, ticks.tick()).await;
            in_time.with_context(|| format!("life {life} does not come on:\n{}", read(&self.log(life))))?;
        }
        Ok(())
    }

    /// The one record that all lives wrote, against the generator's chain.
    fn judge_record(&self, chain: &Generator) -> anyhow::Result<Recorded> {
        let runs: Vec<_> = fs::read_dir(self.journal())?.collect::<Result<_, _>>()?;
        let [run] = &runs[..] else { anyhow::bail!("{} records instead of one", runs.len()) };
        let mut rebuild = Rebuild::new(FACTORIES.map(|factory| (factory, 3_000)));
        let (mut reorgs, mut gaps) = (0, 0);
        for record in Recording::open(run.path())?.records(1) {
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
    fn judge_findings(&self, chain: &Generator, last: u64) -> anyhow::Result<Judged> {
        let (mut judged, mut exhaustive) = (Judged::default(), Exhaustive::default());
        let bases = [WETH];
        for life in 0..=last {
            let Ok(text) = fs::read_to_string(self.results(life)) else { continue };
            let (blocks, found) = whole_blocks(&text, life == last)?;
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
    fn count(&self, what: &str, last: u64) -> anyhow::Result<u64> {
        let logs = (0..=last).filter(|life| self.log(*life).is_file());
        let logs = logs.map(|life| fs::read_to_string(self.log(life))).collect::<Result<Vec<_>, _>>()?;
        Ok(logs.iter().filter(|log| log.contains(what)).count() as u64)
    }
}

/// The blocks of a life of which everything was written: the last one of a killed process may be there in part.
fn whole_blocks(text: &str, is_complete: bool) -> anyhow::Result<Pieces> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let (mut blocks, found) = Results::read_lines(whole)?;
    if !is_complete {
        blocks.pop();
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
