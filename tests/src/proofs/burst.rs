//! Blocks of ten thousand logs, with and without a subscriber that is a hundred times too slow.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use anyhow::{Context, ensure};
use headwater_bus::EventHandler;
use headwater_bus::clock::{self, Instant};
use headwater_events::{BusEvent, Envelope};
use headwater_market::MarketSnapshot;
use headwater_reference::fake_node::{BlockBuilder, FakeBlock, FakeNode, V2World};
use headwater_state::World as State;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::latency::{CHAIN_ID, Feeder, Load, Ours, World, config_text, market, percentile};
use crate::proof::{Proof, ProofArgs, Report};
use crate::replayed::runtime;
use crate::workflows::{Process, headwater};

/// Bursts, and a node that is faster than the bot.
pub const BURST: Proof = Proof {
    name: "burst",
    about: "blocks of 10,000 logs: a subscriber 100 times too slow delays nobody and ends in the same state; memory is bounded",
    full_duration: "2 min",
    run,
};

/// How much slower the slow subscriber is than the other ones.
const TOO_SLOW: u64 = 100;
/// At most this much longer may the others take beside it.
const MOST: f64 = 1.5;
const WARM_UP: usize = 3;
/// MiB: rings of 32 and 16, the market, what is in flight, and room.
const MOST_MEMORY: u64 = 512;
/// From one look at another process to the next.
const POLL: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(120);

struct Size {
    bursts: usize,
    /// How much longer the fast ones may take beside the slow one: of a sample nothing is asked, the machine may be busy.
    most: f64,
    load: Load,
    /// Blocks that the node has ahead, and the logs of each.
    ahead: usize,
    logs_ahead: usize,
}

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let load = Load { pools: 4_000, touched: 1_500, shocked: 8, transactions: 1_500, logs: 10_000 };
    let quick = Load { pools: 500, touched: 200, shocked: 4, transactions: 200, logs: 1_500 };
    let size = match args.quick {
        true => Size { bursts: 9, most: f64::INFINITY, load: quick, ahead: 60, logs_ahead: 600 },
        false => Size { bursts: 60, most: MOST, load, ahead: 1_500, logs_ahead: 600 },
    };
    let floor = (2 * size.bursts + size.ahead) as u64;
    let mut report = Report { floor, seed: args.seed, ..Report::default() };
    runtime(2)?.block_on(async {
        bursts(&size, args.seed, &mut report).await.context("bursts")?;
        behind(&size, args.seed, &mut report).await.context("a node that is faster")
    })?;
    Ok(report)
}

/// The same bursts to two bots in turn, one of which has the slow subscriber.
async fn bursts(size: &Size, seed: u64, report: &mut Report) -> anyhow::Result<()> {
    let mut world = World::new(size.load, seed);
    let (anchor, contracts) = (BlockBuilder::first(1_000).build(), world.contracts());
    let blocks = WARM_UP + size.bursts;
    let took = Took::default();
    let slow = Subscriber::new(Arc::clone(&took), TOO_SLOW)?;
    let slowly = slow.last.subscribe();
    let mut sides = [
        Side::start(&anchor, &contracts, blocks, &took, None).await?,
        Side::start(&anchor, &contracts, blocks, &took, Some(slow)).await?,
    ];
    let mut parent = anchor;
    for burst in 0..blocks {
        parent = world.block(&parent);
        for side in [burst % 2, (burst + 1) % 2] {
            sides[side].burst(&parent).await?;
        }
    }
    let state = sides[1].bot.market.window().last().cloned().context("a snapshot")?;
    let slow = until_at(&slowly, parent.hash()).await.context("the slow subscriber")?;
    ensure!(pools(&slow.0) == pools(&state), "the slow subscriber ends in another state");
    let held = world.pools().into_iter().map(|pool| (pool.address, pool.reserve0, pool.reserve1)).collect();
    ensure!(pools(&state) == sorted(held), "the state is not the world's");
    report.lines.push(format!(
        "{} blocks of {} logs to each of two bots, one with a subscriber that takes {} ms for each; it ends in the same state of {} pools",
        size.bursts,
        size.load.logs,
        TOO_SLOW * median(&took) / 1_000_000,
        size.load.pools,
    ));
    for (what, latencies) in
        [("decided", Side::decided as fn(&Side) -> f64), ("known to a fast subscriber", Side::known)]
    {
        let [alone, beside] = [0, 1].map(|side| latencies(&sides[side]));
        let ratio = beside / alone;
        report.lines.push(format!(
            "{what} after {alone:.1} ms alone, {beside:.1} ms beside it: {ratio:.2} times (at most {MOST})"
        ));
        ensure!(ratio <= size.most, "the slow subscriber delays the others {ratio:.2} times: {report}");
    }
    for side in sides {
        let summary = side.bot.finish().await?;
        ensure!(summary.blocks == blocks as u64 && summary.gaps == 0, "{} blocks", summary.blocks);
    }
    report.checked += 2 * size.bursts as u64;
    Ok(())
}

/// A bot with its node.
struct Side {
    feeder: Feeder,
    bot: Ours,
    fast: watch::Receiver<Option<Known>>,
    /// Nanoseconds from a burst's last byte until the executor had its findings in hand, and until the fast subscriber
    /// knew its state.
    latencies: Vec<[u64; 2]>,
    _folder: TempDir,
}

impl Side {
    async fn start(
        anchor: &FakeBlock,
        contracts: &V2World,
        blocks: usize,
        took: &Took,
        slow: Option<Subscriber>,
    ) -> anyhow::Result<Self> {
        let (feeder, folder) = (Feeder::start(anchor, contracts)?, tempfile::tempdir()?);
        let subscriber = Subscriber::new(Arc::clone(took), 0)?;
        let fast = subscriber.last.subscribe();
        let bot = Ours::start(&feeder, folder.path(), blocks as u64, |bot| {
            bot.register("fast", subscriber);
            if let Some(slow) = slow {
                bot.register("slow", slow);
            }
        });
        let bot = bot.await?;
        feeder.subscribed()?;
        Ok(Self { feeder, bot, fast, latencies: Vec::new(), _folder: folder })
    }

    async fn burst(&mut self, block: &FakeBlock) -> anyhow::Result<()> {
        let hash = block.hash();
        self.feeder.prepare(block.clone())?;
        self.feeder.announce(hash)?;
        let decided = self.bot.latency_of(hash, &self.feeder).await?;
        let (_, known_at) = until_at(&self.fast, hash).await.context("the fast subscriber")?;
        let known = known_at.saturating_duration_since(self.feeder.last_byte(hash)?);
        self.latencies.push([decided, u64::try_from(known.as_nanos())?]);
        Ok(())
    }

    fn decided(&self) -> f64 {
        self.median(0)
    }

    fn known(&self) -> f64 {
        self.median(1)
    }

    /// Milliseconds.
    fn median(&self, which: usize) -> f64 {
        let samples: Vec<u64> = self.latencies.iter().skip(WARM_UP).map(|both| both[which]).collect();
        percentile(&samples, 0.5) as f64 / 1e6
    }
}

/// The state as of a block, and when it was known.
type Known = (Arc<MarketSnapshot>, Instant);

async fn until_at(known: &watch::Receiver<Option<Known>>, hash: B256) -> anyhow::Result<Known> {
    let mut known = known.clone();
    let is_it =
        |known: &Option<Known>| known.as_ref().is_some_and(|(snapshot, _)| snapshot.as_of.hash == hash);
    let known =
        tokio::time::timeout(PATIENCE, known.wait_for(is_it)).await.context("it does not arrive")??.clone();
    known.context("it was just seen")
}

type Held = (Address, u128, u128);

fn pools(snapshot: &MarketSnapshot) -> Vec<Held> {
    let pools = snapshot.pools.iter();
    sorted(pools.filter_map(|(_, meta, held)| Some((meta.address, held?.reserve0, held?.reserve1))).collect())
}

fn sorted(mut pools: Vec<Held>) -> Vec<Held> {
    pools.sort_unstable();
    pools
}

/// Nanoseconds that the fast subscribers took for each block.
type Took = Arc<Mutex<Vec<u64>>>;

fn median(took: &Took) -> u64 {
    percentile(&took.lock().unwrap_or_else(PoisonError::into_inner), 0.5)
}

/// Follows the market on its own, as fast as it can, or so many times slower than those that do.
struct Subscriber {
    state: State,
    took: Took,
    times: u64,
    last: watch::Sender<Option<Known>>,
}

impl Subscriber {
    fn new(took: Took, times: u64) -> anyhow::Result<Self> {
        Ok(Self { state: State::new(&market()?), took, times, last: watch::Sender::new(None) })
    }
}

impl EventHandler for Subscriber {
    fn interested_in(&self, event: &BusEvent) -> bool {
        State::concerns(event)
    }

    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        let begun = clock::now();
        let Some(block) = self.state.apply(envelope)? else { return Ok(()) };
        let now = clock::now();
        if self.times == 0 {
            let took = u64::try_from(now.saturating_duration_since(begun).as_nanos())?;
            self.took.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        } else {
            tokio::time::sleep(Duration::from_nanos(self.times * median(&self.took))).await;
        }
        self.last.send_replace(Some((block.snapshot, now)));
        Ok(())
    }
}

/// A node that has very many blocks ready at once: the process takes them one after the other, in bounded memory.
async fn behind(size: &Size, seed: u64, report: &mut Report) -> anyhow::Result<()> {
    let load = Load { pools: 1_000, logs: size.logs_ahead, ..Load::default() };
    let mut world = World::new(load, seed);
    let folder = tempfile::tempdir()?;
    let (node, url) = FakeNode::start(CHAIN_ID).await?;
    node.answer_v2(world.contracts());
    let anchor = BlockBuilder::first(1_000).build();
    node.push_block(anchor.clone());
    fs::write(folder.path().join("headwater.toml"), config_text(&folder.path().join("journal")))?;
    let results = folder.path().join("results");
    let mut command = Command::new(headwater()?);
    command.args(["run", "--rpc", &url, "--blocks", &size.ahead.to_string(), "--config"]);
    command.arg(folder.path().join("headwater.toml")).arg("--ndjson").arg(&results);
    command.stdout(Stdio::null()).stderr(fs::File::create(folder.path().join("log"))?);
    let process = Process::start(&mut command)?;
    tokio::time::timeout(PATIENCE, node.until_subscribed("newHeads", 1)).await?;
    let memory = Memory::of(&process);
    let before = memory.now()?;

    let mut parent = anchor;
    let chain: Vec<FakeBlock> = (0..size.ahead)
        .map(|_| {
            parent = world.block(&parent);
            parent.clone()
        })
        .collect();
    let hashes: Vec<B256> = chain.iter().map(FakeBlock::hash).collect();
    chain.into_iter().for_each(|block| node.push_block(block));
    let half = memory.until_written(&results, size.ahead / 2).await?;
    let whole = memory.until_written(&results, size.ahead).await?;
    process.succeed()?;
    let written = crate::follower::Results::parse(&fs::read_to_string(&results)?)?;
    let seen: Vec<B256> = written.blocks.iter().map(|block| block.hash).collect();
    ensure!(seen == hashes, "not every block once and in order");
    written.ensure_conserved()?;
    report.checked += hashes.len() as u64;
    report.lines.push(format!(
        "{} blocks of {} logs at once, all taken in order: resident {before} MiB before, at most {half} MiB up to the half of them, {whole} MiB up to the last",
        size.ahead, size.logs_ahead
    ));
    ensure!(whole <= half + half / 4, "memory grows with what is ahead: {before}, {half}, {whole} MiB");
    ensure!(whole <= MOST_MEMORY, "{whole} MiB resident");
    Ok(())
}

/// What a process holds, in MiB, as the system tells it.
struct Memory(String);

impl Memory {
    fn of(process: &Process) -> Self {
        Self(format!("/proc/{}/status", process.id()))
    }

    fn now(&self) -> anyhow::Result<u64> {
        self.read("VmRSS:")
    }

    fn read(&self, name: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(&self.0).context("the process has ended")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such figure")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
    }

    /// Waits until so many blocks are in the results; the most that was held until then.
    async fn until_written(&self, results: &Path, blocks: usize) -> anyhow::Result<u64> {
        let deadline = clock::now() + PATIENCE;
        loop {
            let most = self.read("VmHWM:")?;
            let written =
                fs::read_to_string(results).unwrap_or_default().matches("\"type\":\"block\"").count();
            if written >= blocks {
                return Ok(most);
            }
            ensure!(clock::now() < deadline, "only {written} of {blocks} blocks");
            tokio::time::sleep(POLL).await;
        }
    }
}
