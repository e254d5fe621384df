use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use headwater_actor::Component;
use headwater_bus::clock::{self, Instant};
use headwater_bus::{Delivery, DropNewest, Message, Outlet, SnapshotReader};
use headwater_events::{AsOf, BlockEvent, BusEvent, PendingTxEvent};
use headwater_market::{MarketSnapshot, PendingReports, PoolLimits, PriceSnapshot};
use serde::Serialize;
use tokio::sync::watch;

use super::{TransmissionCounts, Transmissions};

/// What the mailbox carries.
#[derive(Clone, Debug)]
pub enum TransmissionMessage {
    /// Blocks and reorgs.
    Chain(Delivery),
    /// A pending transaction was seen.
    Pending(Arc<PendingTxEvent>),
}

impl TransmissionMessage {
    /// What is read of the bus.
    pub fn interest(event: &BusEvent) -> bool {
        matches!(event, BusEvent::NewBlock(_) | BusEvent::Reorg(_))
    }
}

impl From<Delivery> for TransmissionMessage {
    fn from(delivery: Delivery) -> Self {
        Self::Chain(delivery)
    }
}

impl From<Arc<PendingTxEvent>> for TransmissionMessage {
    fn from(pending: Arc<PendingTxEvent>) -> Self {
        Self::Pending(pending)
    }
}

impl Message for TransmissionMessage {
    fn seq(&self) -> Option<u64> {
        match self {
            Self::Chain(Delivery::Event(envelope)) => Some(envelope.seq),
            Self::Chain(Delivery::Resync(gone)) => Some(gone.to),
            Self::Pending(_) => None,
        }
    }
}

/// What it is connected to. `M` is what the reader of the reports has in its mailbox.
#[derive(Debug)]
pub struct TransmissionWiring<M> {
    /// The prices of the last few blocks: they say which aggregators the feeds read from.
    pub prices: SnapshotReader<PriceSnapshot>,
    /// The market of the last few blocks: it says whose answers the lending pools read.
    pub market: SnapshotReader<MarketSnapshot>,
    /// Where it is said which reports are pending.
    pub reports: watch::Sender<PendingReports>,
    /// Who is told when that changes, and behind each block; what is too much is dropped, for the next says it all.
    pub reader: Option<Outlet<M, DropNewest>>,
    /// What is kept.
    pub limits: PoolLimits,
}

impl<M> Clone for TransmissionWiring<M> {
    fn clone(&self) -> Self {
        Self {
            prices: self.prices.clone(),
            market: self.market.clone(),
            reports: self.reports.clone(),
            reader: self.reader.clone(),
            limits: self.limits,
        }
    }
}

/// What can be seen from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TransmissionObserved {
    /// The block that the reports are behind.
    pub as_of: Option<AsOf>,
    /// What became of them.
    pub counts: TransmissionCounts,
}

/// Follows the pending reports, and tells which there are. It delays nobody, and nothing of it is recorded.
#[derive(Debug)]
pub struct TransmissionActor<M> {
    transmissions: Transmissions,
    wiring: TransmissionWiring<M>,
    followed: BTreeSet<Address>,
    as_of: Option<AsOf>,
    /// The greatest sequence number of a block or reorg that was heard of, handled or waiting.
    newest: u64,
    started: Instant,
}

impl<M: Message + From<PendingReports>> TransmissionActor<M> {
    /// One that knows of no report.
    pub fn new(wiring: TransmissionWiring<M>) -> Self {
        Self {
            transmissions: Transmissions::new(wiring.limits),
            wiring,
            followed: BTreeSet::new(),
            as_of: None,
            newest: 0,
            started: clock::now(),
        }
    }

    async fn block(&mut self, seq: u64, block: &BlockEvent) -> anyhow::Result<()> {
        let followed = &self.followed;
        let now = clock::now() - self.started;
        self.transmissions.mine(block, |aggregator| followed.contains(aggregator), now);
        self.as_of = None;
        let as_of = AsOf { seq, number: block.header.number, hash: block.header.hash };
        if seq == self.newest {
            let prices = self.wiring.prices.wait_for(&as_of).await;
            let market = self.wiring.market.wait_for(&as_of).await;
            if let (Ok(prices), Ok(market)) = (prices, market) {
                self.followed = followed_in(&prices, &market);
                self.as_of = Some(as_of);
            }
        }
        self.tell()
    }

    fn tell(&self) -> anyhow::Result<()> {
        let told = PendingReports { as_of: self.as_of, reports: self.transmissions.reports() };
        self.wiring.reports.send_replace(told.clone());
        if let Some(reader) = &self.wiring.reader {
            reader.offer(told.into())?;
        }
        Ok(())
    }
}

/// The aggregators that feeds and lending pools read from.
fn followed_in(prices: &PriceSnapshot, market: &MarketSnapshot) -> BTreeSet<Address> {
    let readings = prices.sources.feeds.readings.iter();
    let feeds = readings.filter_map(|reading| Some(reading.round()?.aggregator));
    let lending = market.lending.iter().flat_map(|lending| lending.feeds.aggregators());
    feeds.chain(lending).collect()
}

impl<M: Message + From<PendingReports>> Component for TransmissionActor<M> {
    type Message = TransmissionMessage;
    type Observed = TransmissionObserved;

    async fn handle(&mut self, message: &TransmissionMessage) -> anyhow::Result<()> {
        let now: Duration = clock::now() - self.started;
        match message {
            TransmissionMessage::Pending(pending) => {
                let followed = &self.followed;
                if self.transmissions.see(pending, |aggregator| followed.contains(aggregator), now) {
                    self.tell()?;
                }
            }
            TransmissionMessage::Chain(Delivery::Event(envelope)) => {
                self.newest = self.newest.max(envelope.seq);
                match &envelope.event {
                    BusEvent::NewBlock(block) => self.block(envelope.seq, block).await?,
                    BusEvent::Reorg(reorg) => {
                        let followed = &self.followed;
                        self.transmissions.undo(reorg, |aggregator| followed.contains(aggregator), now);
                        self.as_of = None;
                        self.tell()?;
                    }
                    _ => {}
                }
            }
            // What the blocks that are gone mined ages out.
            TransmissionMessage::Chain(Delivery::Resync(_)) => {
                self.as_of = None;
                self.tell()?;
            }
        }
        Ok(())
    }

    async fn set_aside(&mut self, message: &TransmissionMessage) -> anyhow::Result<()> {
        if let TransmissionMessage::Chain(_) = message {
            self.as_of = None;
            self.tell()?;
        }
        Ok(())
    }

    fn look_ahead(&mut self, waiting: &TransmissionMessage) {
        if let TransmissionMessage::Chain(Delivery::Event(envelope)) = waiting {
            self.newest = self.newest.max(envelope.seq);
        }
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        self.wiring.market.settle();
        self.wiring.prices.settle();
        Ok(())
    }

    fn observe(&self) -> TransmissionObserved {
        TransmissionObserved { as_of: self.as_of, counts: self.transmissions.counts() }
    }
}
