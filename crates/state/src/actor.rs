use std::fmt;
use std::sync::Arc;

use alloy_primitives::B256;
use headwater_actor::{Component, Resume};
use headwater_bus::{
    Backlog, Delivery, DerivedPublisher, DropNewest, Message, Outlet, SnapshotWriter, Stage, Timeline,
};
use headwater_events::{AsOf, BusEvent, Envelope};
use headwater_market::{MarketSnapshot, ResolvedMarket};
use serde::Serialize;
use tracing::{debug, warn};

use crate::error::RebuildError;
use crate::rebuild::rebuild;
use crate::world::{AppliedBlock, LoadRequest, World, WorldCounts};

/// What the state's mailbox carries: source events.
#[derive(Clone, Debug)]
pub struct StateMessage(pub Delivery);

impl StateMessage {
    /// What the state reads of the bus.
    pub fn interest(event: &BusEvent) -> bool {
        World::concerns(event)
    }
}

impl From<Delivery> for StateMessage {
    fn from(delivery: Delivery) -> Self {
        Self(delivery)
    }
}

impl Message for StateMessage {
    fn seq(&self) -> Option<u64> {
        Some(match &self.0 {
            Delivery::Event(envelope) => envelope.seq,
            Delivery::Resync(gone) => gone.to,
        })
    }
}

/// What the state is connected to.
#[derive(Clone)]
pub struct Wiring {
    /// Which pools there are.
    pub market: Arc<ResolvedMarket>,
    /// Where snapshots are published. It outlives the actor.
    pub snapshots: SnapshotWriter<MarketSnapshot>,
    /// Where changes of liquidity are told.
    pub derived: DerivedPublisher,
    /// Where blocks are stamped.
    pub timeline: Timeline,
    /// The loader's mailbox; nobody in a replay, where everything that was learnt is on record.
    pub loader: Option<Outlet<LoadRequest, DropNewest>>,
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

/// What can be seen of the state from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StateObserved {
    /// The last block.
    pub as_of: Option<AsOf>,
    /// The world in figures.
    pub world: WorldCounts,
    /// Questions handed to the loader by this incarnation.
    pub requested: u64,
    /// Questions that its full mailbox did not take.
    pub not_requested: u64,
    /// Of pools and undo records, once it has drained.
    pub digest: Option<B256>,
}

/// The state as an actor.
#[derive(Debug)]
pub struct StateActor {
    world: World,
    wiring: Wiring,
    requested: u64,
    not_requested: u64,
    digest: Option<B256>,
}

impl StateActor {
    /// An incarnation with the world as of [`Resume::last_processed`]. Publishes nothing.
    ///
    /// # Errors
    ///
    /// [`RebuildError`] when the record does not reach that far, back or forth.
    pub async fn build(wiring: Wiring, resume: Resume) -> Result<Self, RebuildError> {
        let world = match resume.last_processed {
            Some(last) => wiring.world_after(last).await?,
            None => World::new(&wiring.market),
        };
        Ok(Self { world, wiring, requested: 0, not_requested: 0, digest: None })
    }

    async fn event(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        if let Some(block) = self.world.apply(envelope)? {
            self.wiring.snapshots.publish(Arc::clone(&block.snapshot));
            self.wiring.timeline.stamp(envelope.seq, Stage::Applied);
            // The detectors were woken on this thread; they go first, what is only told can wait.
            tokio::task::yield_now().await;
            self.tell(envelope.seq, &block);
            self.ask(&block);
        }
        Ok(())
    }

    fn tell(&self, cause: u64, block: &AppliedBlock) {
        let liquidity = block.liquidity().map(BusEvent::LiquidityChange);
        if self.wiring.derived.publish(cause, 0, liquidity).is_err() {
            debug!(cause, "nobody hears of derived events any longer");
        }
    }

    fn ask(&mut self, block: &AppliedBlock) {
        let Some(loader) = &self.wiring.loader else { return };
        for request in self.world.requests(block) {
            match loader.offer(request) {
                Ok(true) => self.requested += 1,
                // It is asked again when the pool trades again.
                Ok(false) => self.not_requested += 1,
                Err(_) => {
                    self.wiring.loader = None;
                    return;
                }
            }
        }
    }
}

impl Wiring {
    async fn world_after(&self, last: u64) -> Result<World, RebuildError> {
        rebuild(&self.market, &self.backlog, self.first_seq, last).await
    }
}

impl Component for StateActor {
    type Message = StateMessage;
    type Observed = StateObserved;

    async fn handle(&mut self, message: &StateMessage) -> anyhow::Result<()> {
        match &message.0 {
            Delivery::Event(envelope) => self.event(envelope).await?,
            Delivery::Resync(gone) => {
                warn!(gone.from, gone.to, "events were lost on the way; rebuilding from the record");
                self.world = self.wiring.world_after(gone.to).await?;
            }
        }
        Ok(())
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        self.digest = Some(self.world.digest());
        Ok(())
    }

    fn observe(&self) -> StateObserved {
        StateObserved {
            as_of: self.world.last(),
            world: self.world.counts(),
            requested: self.requested,
            not_requested: self.not_requested,
            digest: self.digest,
        }
    }
}

#[cfg(test)]
mod tests;
