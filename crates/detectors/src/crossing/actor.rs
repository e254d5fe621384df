use std::collections::HashSet;
use std::num::NonZeroUsize;

use alloy_primitives::TxHash;
use headwater_actor::Component;
use headwater_bus::{DropNewest, Message, Outlet, SnapshotReader};
use headwater_events::{AsOf, BackrunSet, OpportunitySet};
use headwater_market::{MarketSnapshot, PendingReports, PriceSnapshot};
use serde::Serialize;

use super::Crossings;
use crate::{EvaluationError, Indices};

/// What the mailbox carries: all reports that are pending, as of a block.
#[derive(Clone, Debug)]
pub struct CrossingMessage(PendingReports);

impl From<PendingReports> for CrossingMessage {
    fn from(reports: PendingReports) -> Self {
        Self(reports)
    }
}

impl Message for CrossingMessage {
    fn seq(&self) -> Option<u64> {
        // Several are of one block.
        None
    }
}

/// What it is connected to. `M` is what the reader of the findings has in its mailbox.
#[derive(Debug)]
pub struct CrossingWiring<M> {
    /// The market of the last few blocks.
    pub market: SnapshotReader<MarketSnapshot>,
    /// The prices of the last few blocks.
    pub prices: SnapshotReader<PriceSnapshot>,
    /// Where the findings go; what is too much is dropped, for it is soon void.
    pub findings: Outlet<M, DropNewest>,
    /// What names the findings of a block apart, whichever incarnation found them.
    pub indices: Indices,
    /// Reports that are looked at behind one block at most, the first seen first.
    pub max_per_block: NonZeroUsize,
}

impl<M> Clone for CrossingWiring<M> {
    fn clone(&self) -> Self {
        Self {
            market: self.market.clone(),
            prices: self.prices.clone(),
            findings: self.findings.clone(),
            indices: self.indices.clone(),
            max_per_block: self.max_per_block,
        }
    }
}

/// What can be seen from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CrossingObserved {
    /// The block that was looked at last.
    pub as_of: Option<AsOf>,
    /// Reports that were looked at, once for each block.
    pub looked_at: u64,
    /// Looks that were not taken, because a newer block was there or there were too many.
    pub skipped: u64,
    /// Findings.
    pub found: u64,
}

/// Finds what pending reports make liquidatable, once behind each block.
#[derive(Debug)]
pub struct CrossingActor<M> {
    crossings: Crossings,
    wiring: CrossingWiring<M>,
    /// Looked at behind the block that is stood behind.
    done: HashSet<TxHash>,
    newest: u64,
    observed: CrossingObserved,
}

/// Names the findings.
const NAME: &str = "pending-liquidation";

impl<M: Message + From<BackrunSet>> CrossingActor<M> {
    /// One that stands nowhere yet.
    pub fn new(crossings: Crossings, wiring: CrossingWiring<M>) -> Self {
        let (done, observed) = (HashSet::new(), CrossingObserved::default());
        Self { crossings, wiring, done, newest: 0, observed }
    }

    async fn look_behind(&mut self, reports: &PendingReports) -> Result<(), EvaluationError> {
        let Some(as_of) = reports.as_of else {
            self.forget();
            return Ok(());
        };
        if as_of.seq < self.newest {
            self.observed.skipped += reports.reports.len() as u64;
            return Ok(());
        }
        if self.observed.as_of != Some(as_of) && !self.stand_behind(&as_of).await? {
            return Ok(());
        }
        for report in reports.reports.iter() {
            if self.done.contains(&report.pending.transaction.hash) {
                continue;
            }
            if self.done.len() == self.wiring.max_per_block.get() {
                self.observed.skipped += 1;
                continue;
            }
            self.done.insert(report.pending.transaction.hash);
            self.observed.looked_at += 1;
            let items = self.crossings.behind(report)?;
            if !items.is_empty() {
                self.observed.found += items.len() as u64;
                // A finding and an outcome for each.
                let first = self.wiring.indices.take(as_of.seq, 2 * items.len() as u32);
                let set = OpportunitySet { as_of, detector: NAME.into(), items };
                self.wiring.findings.offer(BackrunSet { set, first }.into())?;
            }
        }
        Ok(())
    }

    /// Whether there is a state to stand behind.
    async fn stand_behind(&mut self, as_of: &AsOf) -> Result<bool, EvaluationError> {
        self.forget();
        let market = self.wiring.market.wait_for(as_of).await;
        let prices = self.wiring.prices.wait_for(as_of).await;
        let (Ok(market), Ok(prices)) = (market, prices) else { return Ok(false) };
        self.crossings.stand_behind(market, prices)?;
        self.observed.as_of = Some(*as_of);
        Ok(true)
    }

    fn forget(&mut self) {
        self.crossings.forget();
        self.done.clear();
        self.observed.as_of = None;
    }
}

impl<M: Message + From<BackrunSet>> Component for CrossingActor<M> {
    type Message = CrossingMessage;
    type Observed = CrossingObserved;

    async fn handle(&mut self, CrossingMessage(reports): &CrossingMessage) -> anyhow::Result<()> {
        self.newest = self.newest.max(reports.as_of.map_or(0, |as_of| as_of.seq));
        Ok(self.look_behind(reports).await?)
    }

    async fn set_aside(&mut self, _: &CrossingMessage) -> anyhow::Result<()> {
        self.forget();
        Ok(())
    }

    fn look_ahead(&mut self, CrossingMessage(waiting): &CrossingMessage) {
        self.newest = self.newest.max(waiting.as_of.map_or(0, |as_of| as_of.seq));
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        self.wiring.market.settle();
        self.wiring.prices.settle();
        Ok(())
    }

    fn observe(&self) -> CrossingObserved {
        self.observed
    }
}
