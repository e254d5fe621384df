//! The whole bundled bot in this process, following a node over a real socket; its results are read back from its NDJSON.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU64;
use std::sync::Arc;

use alloy_primitives::{Address, B256, I256, U256};
use anyhow::{Context, ensure};
use headwater_bus::{BlockProgress, EventHandler, SnapshotWriter};
use headwater_events::{BusEvent, Envelope};
use headwater_market::MarketSnapshot;
use headwater_node::NodeConfig;
use headwater_supervisor::{Config, Failure, Hooks, Live, Session};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// A bot at work.
#[derive(Debug)]
pub struct Follower {
    head: watch::Receiver<Option<Seen>>,
    progress: BlockProgress,
    market: SnapshotWriter<MarketSnapshot>,
    stop: oneshot::Sender<()>,
    work: JoinHandle<anyhow::Result<()>>,
    /// Journal and results; gone with the follower.
    folder: TempDir,
}

/// What a bot wrote, line by line.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// The blocks that are canonical once every reorganisation is applied, in the order of their lines.
    pub blocks: Vec<BlockLine>,
    /// Blocks that were reorganised away.
    pub orphaned: Vec<BlockLine>,
    /// Gaps, filled or not.
    pub gaps: u64,
    /// Findings, by the hash of their block, in the order of their lines.
    pub found: BTreeMap<B256, Vec<FoundLine>>,
    /// Outcomes.
    pub outcomes: Vec<OutcomeLine>,
    /// The last line.
    pub summary: SummaryLine,
}

/// A `block` line.
#[derive(Clone, Debug, Deserialize)]
pub struct BlockLine {
    /// Height.
    pub number: u64,
    /// Hash.
    pub hash: B256,
    /// Hash of the block before.
    pub parent_hash: B256,
    /// Uniswap V2 `Swap` logs.
    pub swaps: u64,
    latency_ns: BTreeMap<String, u64>,
}

/// An `opportunity` line.
#[derive(Clone, Debug, Deserialize)]
pub struct FoundLine {
    /// What it is.
    pub kind: String,
    /// Who found it.
    pub detector: String,
    /// Its place in the detector's set.
    pub index: u64,
    /// How many pools there are, where some have concentrated liquidity.
    #[serde(default)]
    pub hops: Option<Vec<IgnoredAny>>,
    /// Whose position is liquidated, where that is what it is.
    #[serde(default)]
    pub borrower: Option<Address>,
    /// The borrower's.
    #[serde(default)]
    pub health_factor: Option<U256>,
    /// What is seized of it.
    #[serde(default)]
    pub collateral: Option<Address>,
    /// What is repaid for it.
    #[serde(default)]
    pub debt: Option<Address>,
    /// Smallest units of the debt.
    #[serde(default)]
    pub repay: Option<U256>,
    /// Smallest units of the collateral.
    #[serde(default)]
    pub seize: Option<U256>,
    /// Height of its block.
    pub block: u64,
    /// Hash of its block.
    pub block_hash: B256,
    /// Pools.
    pub path: Vec<Address>,
    /// Tokens: one more than pools.
    pub tokens: Vec<Address>,
    /// Smallest units of the first token.
    pub amount_in: U256,
    /// Smallest units of the first token.
    pub amount_out: U256,
    /// Smallest units of the first token.
    pub profit: U256,
}

/// An `outcome` line.
#[derive(Clone, Debug, Deserialize)]
pub struct OutcomeLine {
    /// Hash of the block.
    pub block_hash: B256,
    /// Who found what it is about.
    pub detector: String,
    /// The finding's place in the detector's set.
    pub index: u64,
    /// What was decided.
    pub verdict: String,
    /// Why it was refused.
    #[serde(default)]
    pub reason: Option<String>,
    /// The same in words.
    #[serde(default)]
    pub detail: Option<String>,
}

/// The `summary` line, as far as it is judged.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct SummaryLine {
    /// Blocks, orphaned ones included.
    pub blocks: u64,
    /// Blocks in gaps that were not filled.
    pub unfilled: u64,
    /// Each edge.
    pub edges: Vec<EdgeLine>,
}

/// An edge of the summary.
#[derive(Clone, Debug, Deserialize)]
pub struct EdgeLine {
    /// Where it begins.
    pub from: String,
    /// Where it ends.
    pub to: String,
    /// What travels on it.
    pub carries: String,
    /// Handed over.
    pub accepted: u64,
    /// Done with.
    pub processed: u64,
    /// Given up, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// A block that the bot has published to its components.
#[derive(Clone, Copy, Debug)]
struct Seen {
    hash: B256,
    seq: u64,
}

/// A configuration with which everything that gains is reported, whatever gas costs, and the best of it simulated.
pub fn research() -> Config {
    let mut config = Config::default();
    config.detectors.arbitrage.profit_after_gas = false;
    config.detectors.liquidation.profit_after_gas = false;
    config.executor.min_net_profit_wei = I256::MIN;
    // For a machine that has more to do than this.
    config.executor.simulation_timeout_ms = const { NonZeroU64::new(2_000).expect("not zero") };
    config
}

impl Follower {
    /// Connects, loads the market at the node's head, and follows the chain from there.
    ///
    /// # Errors
    ///
    /// A node that does not answer, or a configuration that does not fit its chain.
    pub async fn start(config: Config, url: &str) -> anyhow::Result<Self> {
        Self::start_with(config, url, Hooks::default()).await
    }

    /// As [`Follower::start`], with what is added to the wiring.
    ///
    /// # Errors
    ///
    /// As [`Follower::start`].
    pub async fn start_with(mut config: Config, url: &str, hooks: Hooks) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        config.journal.directory = folder.path().join("journal");
        let mut live = Live::connect_with(config, NodeConfig::new(vec![url.parse()?]), &hooks)
            .await
            .map_err(from_failure)?;
        let session = Session::observe(&mut live.bot, Some(&folder.path().join(RESULTS)))?;
        let (heads, head) = watch::channel(None);
        live.bot.register("heads", Heads(heads));
        live.load(|_, _| {}).await?;
        let (progress, market) = (live.bot.progress.clone(), live.bot.market.clone());
        let (running, record) = live.follow(None);
        let (stop, stopped) = oneshot::channel();
        let work = tokio::spawn(async move {
            let asked = async { drop(stopped.await) };
            let (_, ended, written) = session.finish(running, asked).await;
            record.writer.close().await?;
            written?;
            match ended.fatal {
                Some(fatal) => Err(fatal.into()),
                None => Ok(()),
            }
        });
        Ok(Self { head, progress, market, stop, work, folder })
    }

    /// Waits until this block is the newest and its findings are out.
    ///
    /// # Errors
    ///
    /// A bot that ended before.
    pub async fn until_found_in(&mut self, block: B256) -> anyhow::Result<()> {
        let is_it = |seen: &Option<Seen>| seen.is_some_and(|seen| seen.hash == block);
        let seen = *self.head.wait_for(is_it).await.context("the bot has ended")?;
        self.progress.wait_for(seen.context("a block was seen")?.seq).await;
        Ok(())
    }

    /// The market as of the newest block that it was published for.
    pub fn market(&self) -> Option<Arc<MarketSnapshot>> {
        self.market.window().last().cloned()
    }

    /// Stops it, drained, and reads what it wrote.
    ///
    /// # Errors
    ///
    /// A bot that did not end well, or results that contradict themselves.
    pub async fn finish(self) -> anyhow::Result<Results> {
        // A bot that has ended already needs no telling.
        let _ = self.stop.send(());
        self.work.await??;
        Results::parse(&fs::read_to_string(self.folder.path().join(RESULTS))?)
    }
}

const RESULTS: &str = "results.ndjson";

fn from_failure(failure: Failure) -> anyhow::Error {
    match failure {
        Failure::Usage(error) | Failure::Runtime(error) => error,
        Failure::GivenUp(fatal) => fatal.into(),
    }
}

/// Tells of each block that it passes.
struct Heads(watch::Sender<Option<Seen>>);

impl EventHandler for Heads {
    fn interested_in(&self, event: &BusEvent) -> bool {
        matches!(event, BusEvent::NewBlock(_))
    }

    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        if let BusEvent::NewBlock(block) = &envelope.event {
            self.0.send_replace(Some(Seen { hash: block.header.hash, seq: envelope.seq }));
        }
        Ok(())
    }
}

/// Blocks, and findings by the hash of their block.
pub(crate) type Pieces = (Vec<BlockLine>, BTreeMap<B256, Vec<FoundLine>>);

/// Any line.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Block(BlockLine),
    Reorg { depth: usize, old_head: B256, new_head: B256 },
    Gap {},
    Opportunity(Box<FoundLine>),
    Outcome(OutcomeLine),
    Summary(SummaryLine),
}

impl Results {
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (results, is_complete) = Self::read(text)?;
        ensure!(is_complete, "no summary");
        Ok(results)
    }

    /// Of a bot that is still at work; the end of a line may be missing.
    pub(crate) fn so_far(text: &str) -> anyhow::Result<Self> {
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        Ok(Self::read(whole)?.0)
    }

    /// Says whether a summary was among the lines.
    fn read(text: &str) -> anyhow::Result<(Self, bool)> {
        let mut results = Self::default();
        let mut is_complete = false;
        for line in text.lines() {
            ensure!(!is_complete, "a line behind the summary");
            match serde_json::from_str(line).with_context(|| line.to_owned())? {
                Line::Block(block) => results.append(block)?,
                Line::Reorg { depth, old_head, new_head } => results.undo(depth, old_head, new_head)?,
                Line::Gap {} => results.gaps += 1,
                Line::Opportunity(found) => results.found.entry(found.block_hash).or_default().push(*found),
                Line::Outcome(outcome) => results.outcomes.push(outcome),
                Line::Summary(summary) => {
                    results.summary = summary;
                    is_complete = true;
                }
            }
        }
        Ok((results, is_complete))
    }

    /// The blocks and the findings alone, of results that may begin and end anywhere.
    pub(crate) fn read_lines(text: &str) -> anyhow::Result<Pieces> {
        let (mut blocks, mut found) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
        for line in text.lines() {
            match serde_json::from_str(line).with_context(|| line.to_owned())? {
                Line::Block(block) => blocks.push(block),
                Line::Opportunity(line) => found.entry(line.block_hash).or_default().push(*line),
                Line::Reorg { .. } | Line::Gap {} | Line::Outcome(_) | Line::Summary(_) => {}
            }
        }
        Ok((blocks, found))
    }

    fn append(&mut self, block: BlockLine) -> anyhow::Result<()> {
        if let Some(parent) = self.blocks.last() {
            let follows = block.number == parent.number + 1 && block.parent_hash == parent.hash;
            ensure!(follows, "block {} does not follow {}", block.number, parent.number);
        }
        self.blocks.push(block);
        Ok(())
    }

    /// Takes back the last blocks. `new_head` is what the next block must lead to, or the block that the chain fell back to.
    fn undo(&mut self, depth: usize, old_head: B256, new_head: B256) -> anyhow::Result<()> {
        let head = self.blocks.last().context("a reorganisation before any block")?;
        ensure!(head.hash == old_head && new_head != old_head, "not the head that was replaced: {old_head}");
        let kept = self.blocks.len().checked_sub(depth).context("deeper than what was followed")?;
        self.orphaned.extend(self.blocks.drain(kept..));
        Ok(())
    }

    /// The findings of a block.
    pub fn found_in(&self, block: B256) -> &[FoundLine] {
        self.found.get(&block).map_or(&[], Vec::as_slice)
    }

    /// Of them, the cycles of pools of constant product alone.
    pub fn found_in_pairs(&self, block: B256) -> Vec<FoundLine> {
        self.found_in(block).iter().filter(|found| found.is_in_pairs()).cloned().collect()
    }

    /// Every edge gave up or processed exactly what it was handed, and nothing was lost.
    ///
    /// # Errors
    ///
    /// The first edge of which that is not true.
    pub fn ensure_conserved(&self) -> anyhow::Result<()> {
        ensure!(!self.summary.edges.is_empty(), "no edges");
        for edge in &self.summary.edges {
            let dropped: u64 = edge.dropped.values().sum();
            ensure!(edge.accepted == edge.processed + dropped, "not conserved: {edge:?}");
            let lost = edge
                .dropped
                .keys()
                .find(|reason| ["full", "lost", "quarantined", "abandoned"].contains(&&reason[..]));
            ensure!(lost.is_none(), "lost: {edge:?}");
        }
        Ok(())
    }
}

impl FoundLine {
    /// Whether it is a cycle of pools of constant product alone: the executor carries out nothing else.
    pub fn is_in_pairs(&self) -> bool {
        self.kind == "arbitrage" && self.hops.is_none()
    }
}

impl BlockLine {
    /// Whether every detector has looked at it: one that was behind passed it over for a newer one.
    pub fn was_evaluated(&self) -> bool {
        self.latency_ns.contains_key("decided")
    }

    /// Whether no detector has.
    pub fn was_passed_over(&self) -> bool {
        !self.latency_ns.contains_key("detected")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64, parent: u64, own: u64) -> String {
        let hash = |low: u64| B256::from(U256::from(low));
        format!(
            r#"{{"type":"block","number":{number},"hash":"{}","parent_hash":"{}","txs":0,"logs":0,"swaps":0,"grade":"matched","latency_ns":{{}}}}"#,
            hash(own),
            hash(parent)
        )
    }

    const SUMMARY: &str = r#"{"type":"summary","blocks":3,"unfilled":0,"edges":[]}"#;

    fn parse(lines: &[String]) -> anyhow::Result<Results> {
        Results::parse(&lines.iter().map(String::as_str).chain([SUMMARY]).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn a_reorganisation_is_applied() {
        let hash = |low: u64| B256::from(U256::from(low));
        let reorg =
            format!(r#"{{"type":"reorg","depth":1,"old_head":"{}","new_head":"{}"}}"#, hash(2), hash(3));
        let results = parse(&[block(1, 0, 1), block(2, 1, 2), reorg, block(2, 1, 3)]).expect("a chain");
        let hashes = |blocks: &[BlockLine]| blocks.iter().map(|block| block.hash).collect::<Vec<_>>();
        assert_eq!(
            (hashes(&results.blocks), hashes(&results.orphaned)),
            (vec![hash(1), hash(3)], vec![hash(2)])
        );
    }

    #[test]
    fn a_skipped_and_a_repeated_block_are_seen() {
        assert!(parse(&[block(1, 0, 1), block(3, 2, 3)]).is_err());
        assert!(parse(&[block(1, 0, 1), block(1, 0, 1)]).is_err());
        assert!(parse(&[block(1, 0, 1), block(2, 9, 2)]).is_err());
    }

    #[test]
    fn results_without_a_summary_are_incomplete() {
        assert!(Results::parse(&block(1, 0, 1)).is_err());
    }

    #[test]
    fn an_edge_that_loses_or_swallows_is_named() {
        let with_edge = |processed: u64, dropped: &str| {
            let edge = format!(
                r#"{{"from":"a","to":"b","carries":"c","accepted":5,"processed":{processed},"dropped":{dropped}}}"#
            );
            let summary = format!(r#"{{"type":"summary","blocks":3,"unfilled":0,"edges":[{edge}]}}"#);
            Results::parse(&summary).expect("a summary").ensure_conserved()
        };
        assert!(with_edge(5, "{}").is_ok());
        assert!(with_edge(4, r#"{"superseded":1}"#).is_ok());
        assert!(with_edge(4, "{}").is_err());
        assert!(with_edge(4, r#"{"full":1}"#).is_err());
    }
}
