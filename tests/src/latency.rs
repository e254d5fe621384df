//! The latency of the whole bot over a real socket, beside the pattern of the seed, interleaved block by block.
//!
//! A node of our own serves each block to both: the clock starts when its last byte has been handed to the socket, and ends
//! when the executor has the findings in hand. Both search the same market with the same detector, and what they find is
//! compared: a faster wrong answer fails.

mod seed;
mod world;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use alloy_primitives::{Address, B256, U256};
use anyhow::{Context, ensure};
use headwater_bus::{BlockProgress, EventHandler, SnapshotWriter, Stage, Timeline};
use headwater_events::{BusEvent, Envelope};
use headwater_market::{MarketSnapshot, ResolvedMarket};
use headwater_node::NodeConfig;
use headwater_reference::fake_node::{BlockBuilder, FakeBlock, FakeNode, V2World};
use headwater_supervisor::{Bot, Config, Live, Record, Running, Session};
use headwater_telemetry::Summary;
use tokio::time::Instant;

use self::seed::Seed;
pub(crate) use self::world::{FACTORIES, WETH};
pub use self::world::{Load, World};

/// What is measured, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The market and its blocks.
    pub load: Load,
    /// Everything that is random comes out of this.
    pub seed: u64,
    /// Blocks that are measured.
    pub blocks: usize,
    /// Blocks before them that are not.
    pub warm_up: usize,
    /// From one block to the next.
    pub pace: Duration,
}

/// What was measured.
#[derive(Debug)]
pub struct Measured {
    /// Nanoseconds from the feeder's last byte to the executor, by block.
    pub ours: Vec<u64>,
    /// The same of the pattern of the seed, which asks for the receipts alone.
    pub seed: Vec<u64>,
    /// The same of the pattern when it asks for what Headwater asks for: the transactions as well.
    pub whole_seed: Vec<u64>,
    /// Findings compared.
    pub findings: usize,
    /// Ours by stage, since the last byte was read, as the bot itself measures it.
    pub stages: String,
}

/// What identifies a finding here: its pools and its profit.
pub(crate) type Found = BTreeMap<Vec<Address>, U256>;

/// No chain has it.
pub(crate) const CHAIN_ID: u64 = 424_242;

impl Measured {
    /// The medians of the seed's over the median of ours.
    pub fn ratios(&self) -> [f64; 2] {
        let ours = percentile(&self.ours, 0.5).max(1) as f64;
        [&self.seed, &self.whole_seed].map(|samples| percentile(samples, 0.5) as f64 / ours)
    }

    /// As a table.
    pub fn table(&self) -> String {
        let mut text = String::from("µs from the feeder's last byte to the executor\n");
        let _ = writeln!(text, "{:24} {:>9} {:>9} {:>9} {:>9}", "", "p50", "p90", "p99", "max");
        let rows = [
            ("headwater", &self.ours),
            ("seed pattern", &self.seed),
            ("… with transactions", &self.whole_seed),
        ];
        for (name, samples) in rows {
            let _ = write!(text, "{name:24}");
            for share in [0.5, 0.9, 0.99, 1.0] {
                let _ = write!(text, " {:>9.1}", percentile(samples, share) as f64 / 1e3);
            }
            text.push('\n');
        }
        let (blocks, [receipts_only, whole]) = (self.ours.len(), self.ratios());
        let _ = writeln!(
            text,
            "{blocks} blocks each, {} findings equal; ratios of the medians {receipts_only:.1} and {whole:.1}",
            self.findings,
        );
        let _ = write!(text, "\nwithin headwater, µs since the block's last byte was read\n{}", self.stages);
        text
    }
}

/// The value below which a share of the samples lies.
pub fn percentile(samples: &[u64], share: f64) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// Measures.
///
/// # Errors
/// When either side loses a block, or they find different things.
pub fn measure(plan: Plan) -> anyhow::Result<Measured> {
    let mut world = World::new(plan.load, plan.seed);
    let contracts = world.contracts();
    let anchor = BlockBuilder::first(1_000).build();
    let feeder = || Feeder::start(&anchor, &contracts);
    let feeders = [feeder()?, feeder()?, feeder()?];
    let blocks = std::iter::successors(Some(anchor), |parent| Some(world.block(parent)));
    let blocks = blocks.skip(1).take(plan.warm_up + plan.blocks);
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(interleave(plan, blocks, &feeders, folder.path()))
}

async fn interleave(
    plan: Plan,
    blocks: impl Iterator<Item = FakeBlock>,
    feeders: &[Feeder; 3],
    folder: &Path,
) -> anyhow::Result<Measured> {
    let findings = Findings::default();
    let limit = (plan.warm_up + plan.blocks) as u64;
    let ours =
        Ours::start(&feeders[0], folder, limit, |bot| bot.register("findings", findings.clone())).await?;
    let config = configuration(folder)?;
    let mut seeds = [
        Seed::start(feeders[1].node()?, &config, CHAIN_ID, false).await?,
        Seed::start(feeders[2].node()?, &config, CHAIN_ID, true).await?,
    ];
    for feeder in feeders {
        feeder.subscribed()?;
    }

    let mut measured = Measured {
        ours: Vec::new(),
        seed: Vec::new(),
        whole_seed: Vec::new(),
        findings: 0,
        stages: String::new(),
    };
    let mut due = Instant::now();
    for (index, block) in blocks.enumerate() {
        let hash = block.hash();
        // Each in turn, when what the one before left to be done is done; who begins changes from block to block.
        let mut took = [0; 3];
        for side in (0..3).map(|turn| (index + turn) % 3) {
            due += plan.pace / 3;
            feeders[side].forget_old()?;
            feeders[side].prepare(block.clone())?;
            tokio::time::sleep_until(due).await;
            feeders[side].announce(hash)?;
            took[side] = if side == 0 {
                ours.latency_of(hash, &feeders[0]).await?
            } else {
                let found = seeds[side - 1].found();
                let received =
                    tokio::time::timeout(DEADLINE, found).await.context("the seed lost a block")??;
                let last_byte = feeders[side].last_byte(hash)?;
                u64::try_from(received.saturating_duration_since(last_byte).as_nanos())?
            };
        }
        if index >= plan.warm_up {
            measured.ours.push(took[0]);
            measured.seed.push(took[1]);
            measured.whole_seed.push(took[2]);
        }
    }
    let summary = ours.finish().await?;
    ensure!(summary.gaps == 0, "{} gaps", summary.gaps);
    let ours = findings.take();
    for seed in &seeds {
        measured.findings = compare(&ours, &seed.all_found())?;
    }
    measured.stages = stages(&summary);
    Ok(measured)
}

/// The bundled bot in this process, following a feeder.
pub(crate) struct Ours {
    timeline: Timeline,
    progress: BlockProgress,
    pub(crate) market: SnapshotWriter<MarketSnapshot>,
    session: Session,
    running: Running,
    record: Record,
}

impl Ours {
    /// Loads the market and follows the feeder for `limit` blocks; `observers` are registered before.
    pub(crate) async fn start(
        feeder: &Feeder,
        folder: &Path,
        limit: u64,
        observers: impl FnOnce(&mut Bot),
    ) -> anyhow::Result<Self> {
        let live = Live::connect(configuration(folder)?, feeder.node()?).await;
        let mut live = live.map_err(|failure| anyhow::anyhow!("{failure}"))?;
        observers(&mut live.bot);
        let session = Session::with_sink(&mut live.bot, None);
        live.load(|_, _| {}).await?;
        let bot = &live.bot;
        let (timeline, progress, market) = (bot.timeline.clone(), bot.progress.clone(), bot.market.clone());
        let (running, record) = live.follow(Some(limit));
        Ok(Self { timeline, progress, market, session, running, record })
    }

    /// Nanoseconds from the feeder's last byte of a block until the executor had its findings in hand.
    pub(crate) async fn latency_of(&self, hash: B256, feeder: &Feeder) -> anyhow::Result<u64> {
        let seq = seq_of(&self.market, hash).await?;
        tokio::time::timeout(DEADLINE, self.progress.wait_for(seq)).await.context("the block is not done")?;
        let last_byte = feeder.last_byte(hash)?;
        self.timeline.elapsed_until(seq, Stage::Received, last_byte).context("the stamp is gone")
    }

    /// The end, which comes after the last block.
    pub(crate) async fn finish(self) -> anyhow::Result<Summary> {
        let (summary, ended, written) = self.session.finish(self.running, std::future::pending()).await;
        written?;
        self.record.writer.close().await?;
        ensure!(ended.fatal.is_none(), "{:?}", ended.fatal);
        ensure!(summary.lost() == 0, "something was lost: {:?}", summary.edges);
        Ok(summary)
    }
}

/// Blocks below the head that a feeder keeps where the rest is forgotten: in a process that grows by megabytes with each block, a reader
/// finds no page at hand for what it reads.
const SERVED: u64 = 16;

/// From a block's announcement to its end, generously.
const DEADLINE: Duration = Duration::from_secs(10);

/// The sequence number under which a block was published.
async fn seq_of(market: &SnapshotWriter<MarketSnapshot>, hash: B256) -> anyhow::Result<u64> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let window = market.window();
        if let Some(snapshot) = window.iter().rev().find(|snapshot| snapshot.as_of.hash == hash) {
            return Ok(snapshot.as_of.seq);
        }
        ensure!(Instant::now() < deadline, "block {hash} does not arrive");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn compare(ours: &BTreeMap<B256, Found>, seed: &BTreeMap<B256, Found>) -> anyhow::Result<usize> {
    let mut findings = 0;
    for (hash, found) in seed {
        let same = ours.get(hash).cloned().unwrap_or_default();
        ensure!(same == *found, "different findings in {hash}: {same:?} and {found:?}");
        findings += found.len();
    }
    Ok(findings)
}

fn configuration(folder: &Path) -> anyhow::Result<Config> {
    let text = config_text(&folder.join("journal"));
    Config::parse(&text).map_err(|faults| anyhow::anyhow!("{faults:?}"))
}

/// The market of that configuration.
pub(crate) fn market() -> anyhow::Result<ResolvedMarket> {
    Ok(ResolvedMarket::resolve(&configuration(Path::new("nowhere"))?.market, CHAIN_ID)?)
}

/// The configuration of a bot in a [`World`]: everything that gains is reported.
pub(crate) fn config_text(journal: &Path) -> String {
    let factories = world::FACTORIES.map(|factory| {
        format!(
            "[[market.factories]]\nprotocol = \"uniswap-v2\"\naddress = \"{factory:#x}\"\ninit_code_hash = \"{:#x}\"\n",
            world::INIT_CODE_HASH
        )
    });
    format!(
        "[market]\npreset = \"none\"\nwrapped_native = \"{:#x}\"\nmax_pools = 1000000\n{}\n[detectors.arbitrage]\n\
         profit_after_gas = false\n[executor]\nmax_simulations_per_block = 1\n[journal]\ndirectory = {:?}\n",
        world::WETH,
        factories.concat(),
        journal.display().to_string(),
    )
}

fn stages(summary: &Summary) -> String {
    let mut text = String::new();
    for (grade, report) in &summary.latency_ns.by_grade {
        let _ = writeln!(text, "graded {grade}:  {:>14} {:>9} {:>9} {:>9}", "p50", "p90", "p99", "own p50");
        for stage in &report.stages {
            let micros = |nanos: u64| nanos as f64 / 1e3;
            let (since, own) = (&stage.since_first, &stage.own);
            let _ = writeln!(
                text,
                "  {:16} {:>12.1} {:>9.1} {:>9.1} {:>9.1}",
                stage.stage,
                micros(since.p50),
                micros(since.p90),
                micros(since.p99),
                micros(own.p50)
            );
        }
    }
    text
}

/// What the bot found, by block.
#[derive(Clone, Debug, Default)]
struct Findings(Arc<Mutex<BTreeMap<B256, Found>>>);

impl Findings {
    fn take(&self) -> BTreeMap<B256, Found> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl EventHandler for Findings {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        if let BusEvent::OpportunityFound(found) = &envelope.event {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(found.as_of.hash).or_default().insert(found.path.clone(), found.profit);
        }
        Ok(())
    }

    fn interested_in(&self, event: &BusEvent) -> bool {
        matches!(event, BusEvent::OpportunityFound(_))
    }
}

/// A node on a thread of its own.
pub(crate) struct Feeder {
    url: String,
    orders: mpsc::SyncSender<Order>,
}

enum Order {
    Prepare(Box<FakeBlock>, mpsc::SyncSender<()>),
    Announce(B256, mpsc::SyncSender<()>),
    Forget(mpsc::SyncSender<()>),
    LastByte(B256, mpsc::SyncSender<Option<Instant>>),
    Subscribed(mpsc::SyncSender<()>),
}

impl Feeder {
    pub(crate) fn start(anchor: &FakeBlock, contracts: &V2World) -> anyhow::Result<Self> {
        let (anchor, contracts) = (anchor.clone(), contracts.clone());
        let (orders, queue) = mpsc::sync_channel(8);
        let (started, url) = mpsc::sync_channel(1);
        thread::spawn(move || -> anyhow::Result<()> {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            let (node, url) = runtime.block_on(FakeNode::start(CHAIN_ID))?;
            node.answer_v2(contracts);
            node.push_block(anchor);
            started.send(url)?;
            while let Ok(order) = queue.recv() {
                match order {
                    Order::Prepare(block, done) => {
                        node.add_block(*block);
                        done.send(())?;
                    }
                    Order::Announce(hash, done) => {
                        node.announce(hash);
                        done.send(())?;
                    }
                    Order::Forget(done) => {
                        node.forget_old(SERVED);
                        done.send(())?;
                    }
                    Order::LastByte(hash, answer) => answer.send(node.last_sent_at(hash))?,
                    Order::Subscribed(done) => {
                        runtime.block_on(node.until_subscribed("newHeads", 1));
                        done.send(())?;
                    }
                }
            }
            Ok(())
        });
        Ok(Self { url: url.recv()?, orders })
    }

    fn node(&self) -> anyhow::Result<NodeConfig> {
        Ok(NodeConfig::new(vec![self.url.parse()?]))
    }

    /// Writes the answers about a block, so that serving it costs nothing.
    pub(crate) fn prepare(&self, block: FakeBlock) -> anyhow::Result<()> {
        self.order(|done| Order::Prepare(Box::new(block), done))
    }

    pub(crate) fn announce(&self, hash: B256) -> anyhow::Result<()> {
        self.order(|done| Order::Announce(hash, done))
    }

    /// Frees the blocks that nobody asks for any more.
    fn forget_old(&self) -> anyhow::Result<()> {
        self.order(Order::Forget)
    }

    fn order(&self, order: impl FnOnce(mpsc::SyncSender<()>) -> Order) -> anyhow::Result<()> {
        let (done, wait) = mpsc::sync_channel(1);
        self.orders.send(order(done)).ok().context("the feeder is gone")?;
        Ok(wait.recv()?)
    }

    pub(crate) fn last_byte(&self, hash: B256) -> anyhow::Result<Instant> {
        let (answer, wait) = mpsc::sync_channel(1);
        self.orders.send(Order::LastByte(hash, answer)).ok().context("the feeder is gone")?;
        wait.recv()?.context("nothing was sent of this block")
    }

    pub(crate) fn subscribed(&self) -> anyhow::Result<()> {
        self.order(Order::Subscribed)
    }
}
