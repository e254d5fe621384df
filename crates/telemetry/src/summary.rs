use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::B256;
use headwater_bus::{DropReason, EdgeReport, EventHandler, Topology};
use headwater_events::{BusEvent, Envelope, Kind, Plan, Verdict};
use serde::Serialize;

use crate::latencies::{Latencies, LatencyReport};
use crate::ndjson::{reason, swaps, verdict};

/// What happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Blocks, those that were reorganised away later included.
    pub blocks: u64,
    /// Height of the first.
    pub first_block: Option<u64>,
    /// Height of the last.
    pub last_block: Option<u64>,
    /// Transactions in them.
    pub txs: u64,
    /// Logs in them.
    pub logs: u64,
    /// Uniswap V2 `Swap` logs in them.
    pub swaps: u64,
    /// Reorganisations.
    pub reorgs: u64,
    /// Holes in what the node announced.
    pub gaps: u64,
    /// Blocks in those holes that were not filled.
    pub unfilled: u64,
    /// Connections made anew.
    pub reconnects: u64,
    /// Times that the reserves of the tracked pools were asked anew, because state or oracle had lost the market.
    pub resynchronisations: u64,
    /// Pools that are not what the node says, by the kind of difference.
    pub differing_pools: BTreeMap<&'static str, u64>,
    /// Messages that ended an actor twice and were set aside.
    pub quarantined: Vec<SetAside>,
    /// Findings by kind.
    pub opportunities: BTreeMap<String, u64>,
    /// Of the arbitrages, those through a pool with concentrated liquidity.
    pub mixed_arbitrages: u64,
    /// Outcomes by verdict.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Refused outcomes by reason.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Of pools, prices and undo records as of the last block; absent where state or oracle did not drain.
    pub state_digest: Option<B256>,
    /// What went over each edge.
    pub edges: Vec<EdgeSummary>,
    /// Nanoseconds per stage.
    pub latency_ns: LatencyReport,
}

impl Summary {
    /// Findings of every kind.
    pub fn found(&self) -> u64 {
        self.opportunities.values().sum()
    }

    /// What was dropped on all edges for reasons that lose something: full queues, lag beyond repair, quarantine.
    pub fn lost(&self) -> u64 {
        let losses = [DropReason::Full, DropReason::Lost, DropReason::Quarantined].map(DropReason::as_str);
        self.edges.iter().flat_map(|edge| losses.iter().filter_map(|loss| edge.dropped.get(loss))).sum()
    }
}

/// A message that was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SetAside {
    /// Whose message it was.
    pub actor: String,
    /// The source event that it stems from.
    pub seq: Option<u64>,
    /// What it did.
    pub reason: String,
}

/// What went over an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EdgeSummary {
    /// Where it begins.
    pub from: String,
    /// Where it ends.
    pub to: String,
    /// What travels on it.
    pub carries: &'static str,
    /// Handed over.
    pub accepted: u64,
    /// Done with.
    pub processed: u64,
    /// Given up, by reason; reasons without a case are left out.
    pub dropped: BTreeMap<&'static str, u64>,
}

impl From<EdgeReport> for EdgeSummary {
    fn from(edge: EdgeReport) -> Self {
        let dropped = DropReason::ALL
            .into_iter()
            .map(|reason| (reason.as_str(), edge.counts.dropped_for(reason)))
            .filter(|(_, count)| *count > 0)
            .collect();
        let (accepted, processed) = (edge.counts.accepted, edge.counts.processed);
        Self { from: edge.from, to: edge.to, carries: edge.carries, accepted, processed, dropped }
    }
}

/// Counts for the summary.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    counted: Arc<Mutex<Summary>>,
}

impl Tally {
    /// What counts; to be registered on the bus.
    pub fn handler(&self) -> TallyHandler {
        TallyHandler { tally: self.clone() }
    }

    /// What was counted so far.
    pub fn summary(&self, topology: &Topology, latencies: &Latencies) -> Summary {
        Summary {
            edges: topology.report().into_iter().map(Into::into).collect(),
            latency_ns: latencies.report(),
            ..self.lock().clone()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Summary> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts events.
#[derive(Debug)]
pub struct TallyHandler {
    tally: Tally,
}

impl EventHandler for TallyHandler {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        self.tally.lock().count(&envelope.event);
        Ok(())
    }
}

impl Summary {
    fn count(&mut self, event: &BusEvent) {
        match event {
            BusEvent::NewBlock(block) => {
                self.blocks += 1;
                self.first_block.get_or_insert(block.header.number);
                self.last_block = Some(block.header.number);
                self.txs += block.transactions.len() as u64;
                self.logs += block.logs.len() as u64;
                self.swaps += swaps(block);
            }
            BusEvent::Reorg(_) => self.reorgs += 1,
            BusEvent::SourceGap(gap) => {
                self.gaps += 1;
                self.unfilled += (gap.to + 1).saturating_sub(gap.from).saturating_sub(gap.filled);
            }
            BusEvent::Reconnected(_) => self.reconnects += 1,
            BusEvent::MarketResynced(_) => self.resynchronisations += 1,
            BusEvent::PoolQuarantined(pool) => {
                *self.differing_pools.entry(pool.difference.name()).or_default() += 1;
            }
            BusEvent::V4Quarantined(pool) => {
                *self.differing_pools.entry(pool.difference.name()).or_default() += 1;
            }
            BusEvent::OpportunityFound(found) => {
                *self.opportunities.entry(found.kind.to_string()).or_default() += 1;
                let is_mixed = found.kind == Kind::Arbitrage && matches!(found.plan, Plan::Mixed(_));
                self.mixed_arbitrages += u64::from(is_mixed);
            }
            BusEvent::OutcomeRecorded(outcome) => {
                *self.outcomes.entry(verdict(&outcome.verdict)).or_default() += 1;
                if let Verdict::Refused(refusal) = &outcome.verdict {
                    *self.refusals.entry(reason(refusal)).or_default() += 1;
                }
            }
            BusEvent::NewPendingTx(_)
            | BusEvent::PoolLoaded(_)
            | BusEvent::TokenJudged(_)
            | BusEvent::MarketLoaded(_)
            | BusEvent::FeedResolved(_)
            | BusEvent::ConcentratedLoaded(_)
            | BusEvent::LendingLoaded(_)
            | BusEvent::V4Loaded(_)
            | BusEvent::PendingEffect(_)
            | BusEvent::PriceUpdate(_)
            | BusEvent::LiquidityChange(_)
            | BusEvent::HealthCheck(_)
            | BusEvent::Shutdown => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_bus::{Channel, OverflowPolicy, Timeline};
    use headwater_events::{Opportunity, Refusal, SourceGap};

    use super::*;
    use crate::samples::{block, opportunity, outcome};

    #[test]
    fn everything_is_counted_under_its_name() {
        let tally = Tally::default();
        let custom = Opportunity { kind: Kind::Custom("mine".into()), ..opportunity(2) };
        for event in [
            block(1),
            block(2),
            BusEvent::SourceGap(SourceGap { from: 3, to: 7, filled: 4 }),
            BusEvent::OpportunityFound(opportunity(2)),
            BusEvent::OpportunityFound(custom),
            BusEvent::OpportunityFound(Opportunity { plan: Plan::Mixed(Vec::new()), ..opportunity(2) }),
            outcome(2, Verdict::Refused(Refusal::TooMany), None),
            outcome(2, Verdict::WouldSend, None),
        ] {
            tally.lock().count(&event);
        }
        let topology = Topology::new();
        let edge = topology.edge("bus", "state", "events", Channel::Mpsc, 1, OverflowPolicy::Wait);
        edge.accept(5);
        edge.process(2);
        edge.drop_for(DropReason::Lost, 2);
        edge.drop_for(DropReason::Superseded, 1);

        let summary = tally.summary(&topology, &Latencies::new(&Timeline::default()));
        assert_eq!((summary.blocks, summary.first_block, summary.last_block), (2, Some(1), Some(2)));
        assert_eq!((summary.logs, summary.swaps), (4, 2));
        assert_eq!((summary.gaps, summary.unfilled), (1, 1));
        assert_eq!((summary.found(), summary.opportunities["mine"], summary.mixed_arbitrages), (3, 1, 1));
        assert_eq!((summary.outcomes["refused"], summary.outcomes["would_send"]), (1, 1));
        assert_eq!(summary.refusals["too_many"], 1);
        assert_eq!((summary.lost(), summary.edges[0].dropped["superseded"]), (2, 1));
    }
}
