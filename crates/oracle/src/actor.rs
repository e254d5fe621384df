use std::fmt;
use std::sync::Arc;

use alloy_primitives::{B256, BlockNumber};
use headwater_actor::{Component, Quarantine, Resume};
use headwater_bus::{
    Backlog, Delivery, DerivedPublisher, DropNewest, Images, Message, Outlet, SnapshotWriter, Stage, Timeline,
};
use headwater_events::{AsOf, BusEvent, Envelope, FeedRequest, ResyncRequest};
use headwater_market::{PriceSnapshot, ResolvedMarket};
use serde::Serialize;
use tracing::{debug, error, info, warn};

use crate::config::OracleConfig;
use crate::error::RebuildError;
use crate::prices::{Oracle, OracleCounts, OracleImage, PricedBlock};
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
    /// Who asks for the reserves anew when they are lost; nobody in a replay.
    pub resynchroniser: Option<Outlet<ResyncRequest, DropNewest>>,
    /// Who asks what feeds read; nobody in a replay, where all that was learnt is on record.
    pub feed_resolver: Option<Outlet<FeedRequest, DropNewest>>,
    /// What was set aside, and is left out when the actor is rebuilt.
    pub quarantine: Quarantine,
    /// What a restarted actor is rebuilt from.
    pub backlog: Arc<dyn Backlog>,
    /// Where images of the oracle are saved, so that a rebuild need not begin with the record; nowhere in a replay.
    pub images: Option<Images<OracleImage>>,
    /// The first source event of the record.
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
        let images = self.images.as_ref().map(|images| Arc::clone(&images.shelf));
        rebuild(&self.market, &self.config, images, &self.backlog, &self.quarantine, self.first_seq, last)
            .await
    }
}

/// What can be seen of the oracle from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OracleObserved {
    /// The last block that this incarnation priced.
    pub as_of: Option<AsOf>,
    /// The oracle in figures.
    pub oracle: OracleCounts,
    /// Times that the reserves were asked for anew, because they were lost.
    pub resync_requests: u64,
    /// Times that feeds were asked what they read.
    pub feed_requests: u64,
    /// Of pools, prices and undo records, once it has drained.
    pub digest: Option<B256>,
}

/// The oracle as an actor.
#[derive(Debug)]
pub struct OracleActor {
    oracle: Oracle,
    wiring: Wiring,
    as_of: Option<AsOf>,
    resync_requests: u64,
    feed_requests: u64,
    /// When feeds were asked last: an answer takes its time.
    feeds_asked_at: Option<BlockNumber>,
    digest: Option<B256>,
}

/// Blocks until feeds are asked again that were asked and about which nothing has arrived.
const PATIENCE: BlockNumber = 3;

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
        Ok(Self {
            oracle,
            wiring,
            as_of: None,
            resync_requests: 0,
            feed_requests: 0,
            feeds_asked_at: None,
            digest: None,
        })
    }

    async fn event(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        let was_lost = self.oracle.is_lost();
        let priced = self.oracle.apply(envelope)?;
        self.note_loss(was_lost, envelope);
        if let Some(PricedBlock { snapshot, changed }) = priced {
            let as_of = snapshot.as_of;
            self.as_of = Some(as_of);
            let past = self.wiring.snapshots.publish(snapshot);
            self.wiring.timeline.stamp(envelope.seq, Stage::Priced);
            // The detectors were woken on this thread; they go first, what is only told can wait.
            tokio::task::yield_now().await;
            let updates = changed.into_iter().map(BusEvent::PriceUpdate);
            if self.wiring.derived.publish(envelope.seq, 0, updates).is_err() {
                debug!(cause = envelope.seq, "nobody hears of derived events any longer");
            }
            self.oracle.settle();
            drop(past);
            self.save(as_of);
            self.ask_feeds(as_of.number);
        } else if let BusEvent::NewBlock(block) = &envelope.event {
            self.wiring.snapshots.pass(envelope.seq);
            self.ask_anew();
            self.ask_feeds(block.header.number);
        }
        Ok(())
    }

    fn note_loss(&mut self, was_lost: bool, envelope: &Envelope) {
        match (was_lost, self.oracle.is_lost()) {
            (false, true) => {
                error!(
                    seq = envelope.seq,
                    event = envelope.event.name(),
                    "what prices come from is lost; nothing is found until the node has told it anew"
                );
                self.ask_anew();
            }
            (true, false) => info!(seq = envelope.seq, "there are prices again"),
            _ => {}
        }
    }

    /// Asks for the reserves of all pools while they are lost. Whatever comes of it, the next block asks again.
    fn ask_anew(&mut self) {
        let Some(request) = self.oracle.resync_request() else { return };
        if let Some(resynchroniser) = &self.wiring.resynchroniser {
            self.resync_requests += u64::from(resynchroniser.offer(request) == Ok(true));
        }
    }

    /// Asks what feeds read whose word is missing, or may be an old one.
    fn ask_feeds(&mut self, number: BlockNumber) {
        let Some(resolver) = &self.wiring.feed_resolver else { return };
        if self.feeds_asked_at.is_some_and(|asked| number >= asked && number < asked + PATIENCE) {
            return;
        }
        let Some(request) = self.oracle.feed_request() else { return };
        if resolver.offer(request) == Ok(true) {
            self.feed_requests += 1;
            self.feeds_asked_at = Some(number);
        }
    }

    /// Rebuilds the prices as of the event `last`; they are lost where the record does not tell.
    async fn resynchronise(&mut self, last: u64) -> anyhow::Result<()> {
        match self.wiring.oracle_after(last).await {
            Ok(oracle) => self.oracle = oracle,
            Err(error @ RebuildError::Oracle { .. }) => return Err(error.into()),
            Err(error) => {
                error!(%error, "what prices come from is lost; nothing is found until the node has told it anew");
                self.oracle.lose(None);
            }
        }
        self.wiring.snapshots.pass(last);
        self.ask_anew();
        Ok(())
    }
    fn save(&self, as_of: AsOf) {
        let Some(images) = &self.wiring.images else { return };
        if images.offer(as_of, || self.oracle.image()).is_err() {
            debug!(block = as_of.number, "nobody saves snapshots any longer");
        }
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
                self.resynchronise(gone.to).await?;
            }
        }
        Ok(())
    }

    async fn set_aside(&mut self, message: &OracleMessage) -> anyhow::Result<()> {
        match &message.0 {
            Delivery::Event(envelope) => {
                let was_lost = self.oracle.is_lost();
                self.oracle.leave_out(envelope);
                self.note_loss(was_lost, envelope);
                self.wiring.snapshots.pass(envelope.seq);
            }
            Delivery::Resync(gone) => {
                self.oracle.lose(None);
                self.wiring.snapshots.pass(gone.to);
            }
        }
        Ok(())
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        self.digest = Some(self.oracle.digest());
        Ok(())
    }

    fn observe(&self) -> OracleObserved {
        OracleObserved {
            as_of: self.as_of,
            oracle: self.oracle.counts(),
            resync_requests: self.resync_requests,
            feed_requests: self.feed_requests,
            digest: self.digest,
        }
    }
}

#[cfg(test)]
mod tests;
