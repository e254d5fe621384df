//! Whether what is followed is what the node holds: a few pools with every block, in turn.

mod probe;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use headwater_abi::logs;
use headwater_actor::Component;
use headwater_bus::{Message, SourcePublisher};
use headwater_events::{
    AsOf, BusEvent, Difference, Log, PoolQuarantined, Topics, V2Action, V3Action, V4Action, V4Quarantined,
};
use headwater_market::{ConcentratedId, MarketSnapshot, PoolId, ResolvedMarket};
use headwater_node::{Answer, Node, NodeConfig, NodeError, ask, ensure_canonical};
use serde::{Deserialize, Serialize};
use tracing::{debug, error, warn};

use self::probe::{BESIDE_TICKS, Found, Probe, Said};
use crate::config::TripwireConfig;
use crate::error::LoadError;

/// Until a sample is given up; well within the span after which an actor is taken for stalled.
const SAMPLE_AT_MOST: Duration = Duration::from_secs(8);

/// Until a difference is told without what the node's logs say of it.
const LOGS_AT_MOST: Duration = Duration::from_secs(2);

/// Times that a sample may fail before it is the next pools' turn.
const TRIES: u32 = 3;

/// Blocks within which so many pools may be quarantined as are configured, and in which an event that was missed is looked for.
const WINDOW: u64 = 256;

/// Calls of a sample beside those that read pools: whether its block is canonical, before and after the second opinion.
const CANONICAL: usize = 2;

/// A block that was followed: some of its pools are to be compared.
#[derive(Clone, Debug)]
pub struct SampleRequest {
    /// The market as of the block.
    pub snapshot: Arc<MarketSnapshot>,
}

impl Message for SampleRequest {
    fn seq(&self) -> Option<u64> {
        None
    }
}

/// Compares followed pools with the node, in turn, as of the very block that they are followed up to, and has a pool that differs
/// quarantined by a source event.
///
/// A difference is asked for a second time, at another endpoint where there is one, and counts only if both say the same. Where
/// more pools differ than are to be believed, it is the node that is not.
#[derive(Debug)]
pub struct Tripwire {
    config: TripwireConfig,
    node_config: NodeConfig,
    node: Option<Node>,
    publisher: SourcePublisher,
    next: Place,
    /// Times that all pools had their turn.
    laps: usize,
    /// Times in a row that the sample of those whose turn it is failed.
    tries: u32,
    /// Pools that differed lately, and the heights at which they did.
    differed: VecDeque<(u64, Name)>,
    observed: TripwireObserved,
}

/// What a pool is called: its address, and of V4 its manager's and its id.
type Name = (Address, Option<B256>);

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Pair(PoolId),
    Concentrated(ConcentratedId),
}

/// The tripwire in figures, by incarnation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TripwireObserved {
    /// Blocks of which pools were sampled.
    pub samples: u64,
    /// Pools that were compared.
    pub compared: u64,
    /// Times that all pools had their turn.
    pub laps: u64,
    /// Calls made, but for those that the node was too busy for.
    pub calls: u64,
    /// Pools quarantined.
    pub quarantined: u64,
    /// Differences of which the second opinion, of the same endpoint, was another one: its fault.
    pub wavered: u64,
    /// Differences about which two endpoints contradict one another: nobody knows whose fault.
    pub contradicted: u64,
    /// The two endpoints that did so last: hosts, no more.
    pub contradicting: Option<[String; 2]>,
    /// Differences that were too many to be believed: the endpoint's fault.
    pub blamed: u64,
    /// Blocks that the node does not have, or no longer.
    pub block_gone: u64,
    /// Samples that failed for another reason.
    pub failed: u64,
    /// Differences that are certain, and of which the node does not tell whether an event was missed: its logs were refused.
    pub unexplained: u64,
}

/// What is compared in one block.
#[derive(Debug)]
struct Sample {
    as_of: AsOf,
    probes: Vec<Probe>,
    next: Place,
    laps: usize,
}

/// Pools that differ for certain, and who said so last.
#[derive(Debug)]
struct Certain {
    pools: Vec<(Probe, Found)>,
    told_by: Node,
}

impl Tripwire {
    /// Not connected yet.
    pub fn new(
        market: &ResolvedMarket,
        config: TripwireConfig,
        mut node_config: NodeConfig,
        publisher: SourcePublisher,
    ) -> Self {
        node_config.chain_id = Some(market.chain_id);
        Self {
            config,
            node_config,
            node: None,
            publisher,
            next: Place::Pair(PoolId(0)),
            laps: 0,
            tries: 0,
            differed: VecDeque::new(),
            observed: TripwireObserved::default(),
        }
    }

    /// The next pools in turn for which the budget suffices even if all of them differ. Who differs already, or is not quoted, is
    /// passed over.
    fn plan(&self, snapshot: &MarketSnapshot) -> Sample {
        let mut sample =
            Sample { as_of: snapshot.as_of, probes: Vec::new(), next: self.next, laps: self.laps };
        let all = snapshot.pools.len() + snapshot.concentrated.len();
        let mut left = self.config.budget() - CANONICAL;
        for _ in 0..all {
            if sample.probes.len() == self.config.pools.get() {
                break;
            }
            let place = in_range(sample.next, snapshot);
            let laps = sample.laps + usize::from(place != sample.next);
            if let Some(probe) = self.probe(snapshot, place, laps) {
                let cost = 2 * probe.len() + 1;
                if cost > left {
                    break;
                }
                left -= cost;
                sample.probes.push(probe);
            }
            sample.laps = laps;
            sample.next = match place {
                Place::Pair(PoolId(id)) if id as usize + 1 < snapshot.pools.len() => {
                    Place::Pair(PoolId(id + 1))
                }
                Place::Pair(_) => Place::Concentrated(ConcentratedId(0)),
                Place::Concentrated(ConcentratedId(id)) => Place::Concentrated(ConcentratedId(id + 1)),
            };
        }
        sample
    }

    fn probe(&self, snapshot: &MarketSnapshot, place: Place, laps: usize) -> Option<Probe> {
        match place {
            Place::Pair(id) => Some(Probe::pair(snapshot.pools.meta(id)?, snapshot.pools.quoted(id)?)),
            Place::Concentrated(id) => {
                let meta = snapshot.concentrated.meta(id)?;
                let pool = snapshot.quoted_concentrated(id)?;
                let most = (self.config.budget() - CANONICAL - 1) / 2 - BESIDE_TICKS;
                Some(Probe::concentrated(meta, pool, laps, self.config.ticks.min(most)))
            }
        }
    }

    /// What of the pools differs, for certain.
    async fn compare(&mut self, sample: &Sample) -> Result<Certain, LoadError> {
        let node = self.connect().await?;
        let first = self.differing(&node, sample.as_of, sample.probes.clone()).await?;
        if first.is_empty() {
            return Ok(Certain { pools: first, told_by: node });
        }
        let other = self.other(&node).await?;
        let probes = first.iter().map(|(probe, _)| probe.clone()).collect();
        let second = self.differing(&other, sample.as_of, probes).await?;
        let mut pools = Vec::new();
        for (probe, found) in first {
            let again = second.iter().find(|(other, _)| other.name() == probe.name()).map(|(_, found)| found);
            if again == Some(&found) {
                pools.push((probe, found));
            } else {
                let again = again.map_or("what we hold", |again| &again.theirs);
                self.note_doubt([&node, &other], &probe, &found, again, sample.as_of);
            }
        }
        Ok(Certain { pools, told_by: other })
    }

    /// Names the causes. One that the node does not tell keeps no difference from being told.
    async fn explain(&mut self, certain: &mut Certain, as_of: AsOf) {
        let Certain { pools, told_by } = certain;
        let (all, mut explained) = (pools.len(), 0);
        let asking = async {
            for (probe, found) in pools.iter_mut() {
                match self.cause(told_by, probe, found, as_of).await {
                    Ok(cause) => {
                        found.difference = cause;
                        explained += 1;
                    }
                    Err(error) => note_unexplained(probe, as_of, &error),
                }
            }
        };
        if tokio::time::timeout(LOGS_AT_MOST, asking).await.is_err() {
            warn!(
                block = as_of.number,
                "the node is slow to tell its logs: whether events were missed is unknown"
            );
        }
        self.observed.unexplained += (all - explained) as u64;
    }

    /// A difference that is not one, or of which nobody knows.
    fn note_doubt(&mut self, nodes: [&Node; 2], probe: &Probe, found: &Found, again: &str, as_of: AsOf) {
        let [endpoint, other] = nodes.map(|node| node.endpoint().to_string());
        let (pool, id, block, theirs) = (probe.pool, probe.id, as_of.number, &found.theirs);
        if nodes[0].endpoint() == nodes[1].endpoint() {
            self.observed.wavered += 1;
            warn!(%pool, ?id, block, theirs, again, endpoint, "the node says of a pool one thing and then another; it is not believed");
            return;
        }
        self.observed.contradicted += 1;
        warn!(%pool, ?id, block, theirs, again, endpoint, other, "two endpoints contradict one another about a pool; neither is believed");
        self.observed.contradicting = Some([endpoint, other]);
    }

    /// The pools that differ as of a block, which was canonical throughout.
    async fn differing(
        &mut self,
        node: &Node,
        as_of: AsOf,
        probes: Vec<Probe>,
    ) -> Result<Vec<(Probe, Found)>, LoadError> {
        let questions: Vec<_> = probes.iter().flat_map(Probe::questions).collect();
        self.observed.calls += questions.len() as u64;
        let answers = ask(node, as_of.hash, &questions).await?;
        self.observed.calls += 1;
        ensure_canonical(node, as_of.hash, as_of.number).await?;
        let mut rest: &[Answer] = &answers;
        let judged = probes.into_iter().filter_map(|probe| {
            let (own, others) = rest.split_at(probe.len());
            rest = others;
            let found = probe.judge(own)?;
            Some((probe, found))
        });
        Ok(judged.collect())
    }

    /// Whether the node's own logs tell of what is not known here.
    async fn cause(
        &mut self,
        node: &Node,
        probe: &Probe,
        found: &Found,
        as_of: AsOf,
    ) -> Result<Difference, NodeError> {
        let Some(said) = found.said else { return Ok(found.difference) };
        self.observed.calls += 1;
        let filter = Filter {
            address: probe.pool,
            topics: probe.id.map_or(Vec::new(), |id| vec![None, Some(id)]),
            from_block: U64::from(as_of.number.saturating_sub(WINDOW)),
            to_block: U64::from(as_of.number),
        };
        let lines: Vec<Line> = node.call("eth_getLogs", (filter,)).await?;
        let said_by = lines.into_iter().rev().filter_map(|line| said_by(&line.log()?));
        let last = said_by.into_iter().find(|last| last.is_of_kind(said));
        Ok(if last == Some(said) { Difference::MissedEvent } else { found.difference })
    }

    async fn connect(&mut self) -> Result<Node, NodeError> {
        if let Some(node) = &self.node {
            return Ok(node.clone());
        }
        let (node, _) = Node::connect_first(&self.node_config).await?;
        Ok(self.node.insert(node).clone())
    }

    /// Somebody else, where more than one endpoint is configured.
    async fn other(&self, node: &Node) -> Result<Node, NodeError> {
        let mut config = self.node_config.clone();
        if config.urls.len() < 2 {
            return Ok(node.clone());
        }
        let at = config.urls.iter().position(|url| url == node.endpoint());
        config.urls.rotate_left(at.map_or(0, |at| at + 1));
        Ok(Node::connect_first(&config).await?.0)
    }

    /// Whether as many pools differed lately as may; those that do now are among them then.
    fn is_beyond_belief(&mut self, number: u64, pools: impl Iterator<Item = Name>) -> bool {
        self.differed.retain(|(at, _)| at.saturating_add(WINDOW) > number);
        for pool in pools {
            if !self.differed.iter().any(|(_, known)| *known == pool) {
                self.differed.push_back((number, pool));
            }
        }
        // What cannot be told apart any longer need not be counted further.
        self.differed.truncate(2 * self.config.most_quarantined.get());
        self.differed.len() > self.config.most_quarantined.get()
    }

    async fn report(&mut self, as_of: AsOf, certain: Vec<(Probe, Found)>) {
        let pools = certain.iter().map(|(probe, _)| probe.name());
        if !certain.is_empty() && self.is_beyond_belief(as_of.number, pools) {
            self.observed.blamed += certain.len() as u64;
            error!(
                block = as_of.number,
                differing = certain.len(),
                endpoint = self.node.as_ref().map(|node| node.endpoint().to_string()),
                "more pools differ from what the node says than is to be believed: the endpoint is to blame, and no pool is \
                 quarantined; compare it with another one"
            );
            return;
        }
        for (probe, found) in certain {
            self.quarantine(as_of, &probe, found).await;
        }
    }

    async fn quarantine(&mut self, as_of: AsOf, probe: &Probe, found: Found) {
        let Found { difference, ours, theirs, .. } = found;
        warn!(
            pool = %probe.pool,
            id = ?probe.id,
            block = as_of.number,
            hash = %as_of.hash,
            difference = difference.name(),
            ours,
            theirs,
            "a pool is not what the node says: it is quoted no longer, until a new record begins and loads it anew"
        );
        let AsOf { number, hash, .. } = as_of;
        let (pool, protocol) = (probe.pool, probe.protocol);
        let event = match probe.id {
            None => {
                let event = PoolQuarantined { pool, protocol, number, hash, difference, ours, theirs };
                BusEvent::PoolQuarantined(Box::new(event))
            }
            Some(id) => {
                let event = V4Quarantined { manager: pool, id, number, hash, difference, ours, theirs };
                BusEvent::V4Quarantined(Box::new(event))
            }
        };
        match self.publisher.publish(event, None).await {
            Ok(_) => self.observed.quarantined += 1,
            Err(_) => debug!("nothing is published any longer"),
        }
    }

    /// It is the next pools' turn.
    fn pass_on(&mut self, sample: &Sample) {
        (self.next, self.laps, self.tries) = (sample.next, sample.laps, 0);
        self.observed.laps = sample.laps as u64;
    }

    fn note_failure(&mut self, sample: &Sample, error: &LoadError) {
        let as_of = sample.as_of;
        self.tries += 1;
        if self.tries == TRIES {
            self.pass_on(sample);
        }
        if let LoadError::BlockGone { .. } = error {
            self.observed.block_gone += 1;
            debug!(%error, block = as_of.number, "the node does not have the block, so that it is not compared");
            return;
        }
        self.observed.failed += 1;
        warn!(%error, block = as_of.number, "pools cannot be compared with the node");
        if self.node.as_ref().is_some_and(|node| node.close_reason().is_some()) {
            self.node = None;
        }
    }
}

fn note_unexplained(probe: &Probe, as_of: AsOf, error: &NodeError) {
    let (pool, id, block) = (probe.pool, probe.id, as_of.number);
    warn!(%error, %pool, ?id, block, "the node does not tell its logs: whether an event of the pool was missed is unknown");
}

/// The first place, where there is none any longer.
fn in_range(place: Place, snapshot: &MarketSnapshot) -> Place {
    match place {
        Place::Pair(id) if id.index() < snapshot.pools.len() => place,
        Place::Pair(_) if !snapshot.concentrated.is_empty() => Place::Concentrated(ConcentratedId(0)),
        Place::Concentrated(id) if id.index() < snapshot.concentrated.len() => place,
        Place::Pair(_) | Place::Concentrated(_) if snapshot.pools.is_empty() => {
            Place::Concentrated(ConcentratedId(0))
        }
        Place::Pair(_) | Place::Concentrated(_) => Place::Pair(PoolId(0)),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    address: Address,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    topics: Vec<Option<B256>>,
    from_block: U64,
    to_block: U64,
}

/// A log, as far as it matters here.
#[derive(Deserialize)]
struct Line {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
}

impl Line {
    fn log(self) -> Option<Log> {
        let topics = Topics::try_from(self.topics.as_slice()).ok()?;
        Some(Log { address: self.address, topics, data: self.data, transaction_index: 0, log_index: 0 })
    }
}

fn said_by(log: &Log) -> Option<Said> {
    if let Ok(Some(V2Action::Sync { reserve0, reserve1 })) = logs::pool_change(log) {
        return Some(Said::Reserves(reserve0, reserve1));
    }
    if let Ok(Some(change)) = logs::v4_change(log) {
        return match change {
            V4Action::Swap { sqrt_price_x96, .. } | V4Action::Initialize { sqrt_price_x96, .. } => {
                Some(Said::Price(U256::from(sqrt_price_x96)))
            }
            V4Action::ProtocolFeeUpdated { protocol_fee, .. } => Some(Said::ProtocolFee(protocol_fee)),
            _ => None,
        };
    }
    match logs::concentrated_change(log).ok()?? {
        V3Action::Swap { sqrt_price_x96, .. } | V3Action::Initialize { sqrt_price_x96, .. } => {
            Some(Said::Price(U256::from(sqrt_price_x96)))
        }
        _ => None,
    }
}

impl Component for Tripwire {
    type Message = SampleRequest;
    type Observed = TripwireObserved;

    async fn handle(&mut self, request: &SampleRequest) -> anyhow::Result<()> {
        let sample = self.plan(&request.snapshot);
        if sample.probes.is_empty() {
            return Ok(());
        }
        let compared = match tokio::time::timeout(SAMPLE_AT_MOST, self.compare(&sample)).await {
            Ok(compared) => compared,
            Err(_) => Err(NodeError::Timeout { method: "eth_call".to_owned(), after: SAMPLE_AT_MOST }.into()),
        };
        match compared {
            Ok(mut certain) => {
                self.observed.samples += 1;
                self.observed.compared += sample.probes.len() as u64;
                self.pass_on(&sample);
                self.explain(&mut certain, sample.as_of).await;
                self.report(sample.as_of, certain.pools).await;
            }
            Err(error) => self.note_failure(&sample, &error),
        }
        Ok(())
    }

    /// Any block will do.
    fn superseded(&self, _request: &SampleRequest, _later: &SampleRequest) -> bool {
        true
    }

    fn observe(&self) -> TripwireObserved {
        self.observed.clone()
    }
}

#[cfg(test)]
mod tests;
