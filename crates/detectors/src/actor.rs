use std::fmt::Display;
use std::sync::Arc;

use headwater_actor::Component;
use headwater_bus::{BlockProgress, Message, Outlet, SnapshotReader, Stage, Timeline, Wait};
use headwater_events::{AsOf, DecodedBlock, OpportunitySet, Origin};
use headwater_market::{MarketSnapshot, PriceSnapshot, Touched, WholeView};
use serde::Serialize;
use tracing::warn;

use crate::{Detector, EvaluationError};

/// Runs a [`Detector`]: waits until market and prices are of the block that was decoded, has the whole view evaluated,
/// and sends one set per evaluated block, be it empty.
#[derive(Debug)]
pub struct DetectorActor<D, M> {
    detector: D,
    name: Origin,
    wiring: Wiring<M>,
    /// The block that was evaluated last: what is touched counts from there.
    last: Option<AsOf>,
    observed: Observed,
}

/// What a detector is connected to. `M` is what the reader of the findings has in its mailbox.
#[derive(Debug)]
pub struct Wiring<M> {
    /// The market of the last few blocks.
    pub market: SnapshotReader<MarketSnapshot>,
    /// The prices of the last few blocks.
    pub prices: SnapshotReader<PriceSnapshot>,
    /// Where the findings go.
    pub findings: Outlet<M, Wait>,
    /// Where the end of the evaluation is stamped.
    pub timeline: Timeline,
    /// Where it is said that a block cannot be evaluated, so that nobody waits for its set.
    pub progress: BlockProgress,
    /// Whether blocks may be skipped.
    pub pace: Pace,
}

impl<M> Clone for Wiring<M> {
    fn clone(&self) -> Self {
        Self {
            market: self.market.clone(),
            prices: self.prices.clone(),
            findings: self.findings.clone(),
            timeline: self.timeline.clone(),
            progress: self.progress.clone(),
            pace: self.pace,
        }
    }
}

/// What to do when blocks come faster than they are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Evaluate each, as in a replay.
    EveryBlock,
    /// Go on with the newest; what the skipped blocks touched is examined with it.
    Newest,
}

/// A detector as it can be seen from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// The block that was evaluated last.
    pub as_of: Option<AsOf>,
    /// Blocks evaluated.
    pub evaluated: u64,
    /// Of these, evaluations that had to examine everything.
    pub full_examinations: u64,
    /// Findings.
    pub found: u64,
    /// Blocks that could not be evaluated, because a part of their view had passed, was lost or was set aside.
    pub missed: u64,
}

impl<D: Detector, M: Message + From<OpportunitySet>> DetectorActor<D, M> {
    /// A detector that has seen nothing yet: its first evaluation examines everything.
    pub fn new(detector: D, wiring: Wiring<M>) -> Self {
        let name = Origin::Owned(detector.name().to_owned());
        Self { detector, name, wiring, last: None, observed: Observed::default() }
    }

    async fn view(&mut self, decoded: &Arc<DecodedBlock>) -> Result<WholeView, EvaluationError> {
        let market = self.wiring.market.wait_for(&decoded.as_of).await?;
        let prices = self.wiring.prices.wait_for(&decoded.as_of).await?;
        let window = self.wiring.market.window();
        let touched = Touched::between(&window, self.last, &market);
        let concentrated = Touched::concentrated_between(&window, self.last, &market);
        let view = WholeView::new(market, prices, Arc::clone(decoded), touched)?;
        Ok(view.with_touched_concentrated(concentrated))
    }

    fn evaluate(&mut self, view: &WholeView) -> OpportunitySet {
        let items = self.detector.evaluate(view);
        self.last = Some(view.as_of());
        self.observed.as_of = self.last;
        self.observed.evaluated += 1;
        self.observed.full_examinations += u64::from(*view.touched() == Touched::All);
        self.observed.found += items.len() as u64;
        OpportunitySet { as_of: view.as_of(), detector: self.name.clone(), items }
    }
}

impl<D: Detector, M: Message + From<OpportunitySet>> Component for DetectorActor<D, M> {
    type Message = Arc<DecodedBlock>;
    type Observed = Observed;

    async fn handle(&mut self, decoded: &Arc<DecodedBlock>) -> anyhow::Result<()> {
        if decoded.set_aside {
            self.miss(&decoded.as_of, "its actions were set aside");
            return Ok(());
        }
        let view = match self.view(decoded).await {
            Ok(view) => view,
            Err(EvaluationError::Missing(missing)) => {
                self.miss(&decoded.as_of, missing);
                self.last = None;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let set = self.evaluate(&view);
        self.wiring.timeline.stamp(set.as_of.seq, Stage::Detected);
        self.wiring.findings.send(set.into()).await.map_err(EvaluationError::from)?;
        Ok(())
    }

    fn superseded(&self, _decoded: &Arc<DecodedBlock>, _later: &Arc<DecodedBlock>) -> bool {
        self.wiring.pace == Pace::Newest
    }

    async fn set_aside(&mut self, decoded: &Arc<DecodedBlock>) -> anyhow::Result<()> {
        self.miss(&decoded.as_of, "its evaluation was set aside");
        Ok(())
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        self.wiring.market.settle();
        self.wiring.prices.settle();
        Ok(())
    }

    fn observe(&self) -> Observed {
        self.observed.clone()
    }
}

impl<D, M> DetectorActor<D, M> {
    /// Nothing can be said about this block. What it touched is examined with a later one.
    fn miss(&mut self, as_of: &AsOf, reason: impl Display) {
        warn!(detector = %self.name, block = as_of.number, %reason, "a block is not evaluated");
        self.wiring.progress.receive(&self.name, as_of.seq);
        self.observed.missed += 1;
    }
}

#[cfg(test)]
mod tests;
