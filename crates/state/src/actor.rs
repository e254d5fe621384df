use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use alloy_primitives::B256;
use headwater_actor::{Component, Quarantine, Resume};
use headwater_bus::{
    Backlog, Delivery, DerivedPublisher, DropNewest, Images, Message, Outlet, SnapshotWriter, Stage, Timeline,
};
use headwater_events::{AsOf, BusEvent, Envelope, ResyncRequest};
use headwater_market::{MarketSnapshot, ResolvedMarket};
use serde::Serialize;
use tracing::{debug, error, info, warn};

use crate::error::RebuildError;
use crate::rebuild::rebuild;
use crate::tripwire::SampleRequest;
use crate::world::{AppliedBlock, LendingRequest, LoadRequest, World, WorldCounts, WorldImage};

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
    /// Who loads the lending pools; nobody in a replay, and where none is configured.
    pub lending_loader: Option<Outlet<LendingRequest, DropNewest>>,
    /// Who compares what is followed with the node, and with which blocks; nobody in a replay, and unless it is asked for.
    pub tripwire: Option<(Outlet<SampleRequest, DropNewest>, NonZeroU64)>,
    /// Who asks for the reserves anew when the world is lost; nobody in a replay.
    pub resynchroniser: Option<Outlet<ResyncRequest, DropNewest>>,
    /// What was set aside, and is left out when the actor is rebuilt.
    pub quarantine: Quarantine,
    /// What a restarted actor is rebuilt from.
    pub backlog: Arc<dyn Backlog>,
    /// Where images of the world are saved, so that a rebuild need not begin with the record; nowhere in a replay.
    pub images: Option<Images<WorldImage>>,
    /// The first source event of the record.
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
    /// Times that the reserves were asked for anew, because the world was lost.
    pub resync_requests: u64,
    /// Times that a lending pool was asked for.
    pub lending_requests: u64,
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
    resync_requests: u64,
    lending_requests: u64,
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
        Ok(Self {
            world,
            wiring,
            requested: 0,
            not_requested: 0,
            resync_requests: 0,
            lending_requests: 0,
            digest: None,
        })
    }

    async fn event(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        let was_lost = self.world.is_lost();
        let applied = self.world.apply(envelope)?;
        self.note_loss(was_lost, envelope);
        if let Some(block) = applied {
            let past = self.wiring.snapshots.publish(Arc::clone(&block.snapshot));
            self.wiring.timeline.stamp(envelope.seq, Stage::Applied);
            // The detectors were woken on this thread; they go first, what is only told can wait.
            tokio::task::yield_now().await;
            self.tell(envelope.seq, &block);
            self.ask(&block);
            self.world.settle();
            drop(past);
            self.save(block.snapshot.as_of);
        } else if let BusEvent::NewBlock(_) = &envelope.event {
            self.wiring.snapshots.pass(envelope.seq);
            self.ask_anew();
        }
        Ok(())
    }

    fn note_loss(&mut self, was_lost: bool, envelope: &Envelope) {
        match (was_lost, self.world.is_lost()) {
            (false, true) => {
                error!(
                    seq = envelope.seq,
                    event = envelope.event.name(),
                    "the market is lost; nothing is found until the node has told it anew"
                );
                self.ask_anew();
            }
            (true, false) => info!(seq = envelope.seq, "the market is whole again"),
            _ => {}
        }
    }

    /// Asks for the reserves of all pools while the world is lost. Whatever comes of it, the next block asks again.
    fn ask_anew(&mut self) {
        let Some(request) = self.world.resync_request() else { return };
        if let Some(resynchroniser) = &self.wiring.resynchroniser {
            self.resync_requests += u64::from(resynchroniser.offer(request) == Ok(true));
        }
    }

    /// Rebuilds the world as of the event `last`; it is lost where the record does not tell.
    async fn resynchronise(&mut self, last: u64) -> anyhow::Result<()> {
        match self.wiring.world_after(last).await {
            Ok(world) => self.world = world,
            Err(error @ RebuildError::World { .. }) => return Err(error.into()),
            Err(error) => {
                error!(%error, "the market is lost; nothing is found until the node has told it anew");
                self.world.lose(None);
            }
        }
        self.wiring.snapshots.pass(last);
        self.ask_anew();
        Ok(())
    }

    fn save(&self, as_of: AsOf) {
        let Some(images) = &self.wiring.images else { return };
        if images.offer(as_of, || self.world.image()).is_err() {
            debug!(block = as_of.number, "nobody saves snapshots any longer");
        }
    }

    fn tell(&self, cause: u64, block: &AppliedBlock) {
        let liquidity = block.liquidity().map(BusEvent::LiquidityChange);
        if self.wiring.derived.publish(cause, 0, liquidity).is_err() {
            debug!(cause, "nobody hears of derived events any longer");
        }
    }

    fn ask(&mut self, block: &AppliedBlock) {
        if let Some(loader) = &self.wiring.lending_loader {
            for request in self.world.lending_requests(block) {
                // Whatever comes of it, the next block asks again.
                self.lending_requests += u64::from(loader.offer(request) == Ok(true));
            }
        }
        if let Some((tripwire, every)) = &self.wiring.tripwire
            && block.snapshot.as_of.number.is_multiple_of(every.get())
        {
            // Whatever comes of it, a later block is sampled as well.
            let _ = tripwire.offer(SampleRequest { snapshot: Arc::clone(&block.snapshot) });
        }
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
        let images = self.images.as_ref().map(|images| Arc::clone(&images.shelf));
        rebuild(&self.market, images, &self.backlog, &self.quarantine, self.first_seq, last).await
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
                self.resynchronise(gone.to).await?;
            }
        }
        Ok(())
    }

    async fn set_aside(&mut self, message: &StateMessage) -> anyhow::Result<()> {
        match &message.0 {
            Delivery::Event(envelope) => {
                let was_lost = self.world.is_lost();
                self.world.leave_out(envelope);
                self.note_loss(was_lost, envelope);
                self.wiring.snapshots.pass(envelope.seq);
            }
            Delivery::Resync(gone) => {
                self.world.lose(None);
                self.wiring.snapshots.pass(gone.to);
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
            resync_requests: self.resync_requests,
            lending_requests: self.lending_requests,
            digest: self.digest,
        }
    }
}

#[cfg(test)]
mod tests;
