use std::fmt;
use std::sync::Arc;

use alloy_primitives::B256;
use headwater_actor::{Component, Resume};
use headwater_bus::{Backlog, Delivery, DerivedPublisher, Message, SnapshotWriter, Stage, Timeline};
use headwater_events::{AsOf, BusEvent, Envelope};
use headwater_market::{PriceSnapshot, ResolvedMarket};
use serde::Serialize;
use tracing::{debug, warn};

use crate::config::OracleConfig;
use crate::error::RebuildError;
use crate::prices::{Oracle, OracleCounts, PricedBlock};
use crate::rebuild::rebuild;

/// What the oracle's mailbox carries: source events.
#[derive(Clone, Debug)]
pub struct OracleMessage(pub Delivery);

impl OracleMessage {
    /// What the oracle reads of the bus.
    pub fn interest(event: &BusEvent) -> bool {
        Oracle::concerns(event)
    }
}

impl From<Delivery> for OracleMessage {
    fn from(delivery: Delivery) -> Self {
        Self(delivery)
    }
}

impl Message for OracleMessage {
    fn seq(&self) -> Option<u64> {
        Some(match &self.0 {
            Delivery::Event(envelope) => envelope.seq,
            Delivery::Resync(gone) => gone.to,
        })
    }
}

/// What the oracle is connected to.
#[derive(Clone)]
pub struct Wiring {
    /// Which pools there are, and what prices are counted in.
    pub market: Arc<ResolvedMarket>,
    /// `[oracle]`.
    pub config: OracleConfig,
    /// Where snapshots are published. It outlives the actor.
    pub snapshots: SnapshotWriter<PriceSnapshot>,
    /// Where changes of prices are told.
    pub derived: DerivedPublisher,
    /// Where blocks are stamped.
    pub timeline: Timeline,
    /// What a restarted actor is rebuilt from.
    pub backlog: Arc<dyn Backlog>,
    /// The first source event of this run.
    pub first_seq: u64,
}

impl fmt::Debug for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wiring").field("first_seq", &self.first_seq).finish_non_exhaustive()
    }
}

impl Wiring {
    fn empty(&self) -> Oracle {
        Oracle::new(&self.market, &self.config)
    }

    async fn oracle_after(&self, last: u64) -> Result<Oracle, RebuildError> {
        rebuild(self.empty(), &self.backlog, self.first_seq, last).await
    }
}

/// What can be seen of the oracle from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OracleObserved {
    /// The last block that this incarnation priced.
    pub as_of: Option<AsOf>,
    /// The oracle in figures.
    pub oracle: OracleCounts,
    /// Of pools, prices and undo records, once it has drained.
    pub digest: Option<B256>,
}

/// The oracle as an actor.
#[derive(Debug)]
pub struct OracleActor {
    oracle: Oracle,
    wiring: Wiring,
    as_of: Option<AsOf>,
    digest: Option<B256>,
}

impl OracleActor {
    /// An incarnation with the prices as of [`Resume::last_processed`]. Publishes nothing.
    ///
    /// # Errors
    ///
    /// [`RebuildError`] when the record does not reach that far, back or forth.
    pub async fn build(wiring: Wiring, resume: Resume) -> Result<Self, RebuildError> {
        let oracle = match resume.last_processed {
            Some(last) => wiring.oracle_after(last).await?,
            None => wiring.empty(),
        };
        Ok(Self { oracle, wiring, as_of: None, digest: None })
    }

    async fn event(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        if let Some(PricedBlock { snapshot, changed }) = self.oracle.apply(envelope)? {
            self.as_of = Some(snapshot.as_of);
            self.wiring.snapshots.publish(snapshot);
            self.wiring.timeline.stamp(envelope.seq, Stage::Priced);
            // The detectors were woken on this thread; they go first, what is only told can wait.
            tokio::task::yield_now().await;
            let updates = changed.into_iter().map(BusEvent::PriceUpdate);
            if self.wiring.derived.publish(envelope.seq, 0, updates).is_err() {
                debug!(cause = envelope.seq, "nobody hears of derived events any longer");
            }
        }
        Ok(())
    }
}

impl Component for OracleActor {
    type Message = OracleMessage;
    type Observed = OracleObserved;

    async fn handle(&mut self, message: &OracleMessage) -> anyhow::Result<()> {
        match &message.0 {
            Delivery::Event(envelope) => self.event(envelope).await?,
            Delivery::Resync(gone) => {
                warn!(gone.from, gone.to, "events were lost on the way; rebuilding from the record");
                self.oracle = self.wiring.oracle_after(gone.to).await?;
            }
        }
        Ok(())
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        self.digest = Some(self.oracle.digest());
        Ok(())
    }

    fn observe(&self) -> OracleObserved {
        OracleObserved { as_of: self.as_of, oracle: self.oracle.counts(), digest: self.digest }
    }
}

#[cfg(test)]
mod tests;
