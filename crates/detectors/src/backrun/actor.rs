use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::TxHash;
use headwater_actor::Component;
use headwater_bus::clock::{self, Instant};
use headwater_bus::{Delivery, DropNewest, Message, Outlet, SnapshotReader, SourcePublisher};
use headwater_events::{AsOf, BackrunSet, BlockEvent, BusEvent, OpportunitySet, PendingTxEvent};
use headwater_market::{Arrival, MarketSnapshot, PendingPool, PoolCounts, PriceSnapshot, Touched};
use headwater_simulation::{Effects, Means, NoEffect, StateReader};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use super::recorded::record;
use crate::{Backruns, Detector, EvaluationError, MempoolConfig};

/// What the mailbox carries.
#[derive(Clone, Debug)]
pub enum BackrunMessage {
    /// Blocks and reorgs.
    Chain(Delivery),
    /// A pending transaction was seen.
    Pending(Arc<PendingTxEvent>),
}

impl BackrunMessage {
    /// What is read of the bus.
    pub fn interest(event: &BusEvent) -> bool {
        matches!(event, BusEvent::NewBlock(_) | BusEvent::Reorg(_))
    }
}

impl From<Delivery> for BackrunMessage {
    fn from(delivery: Delivery) -> Self {
        Self::Chain(delivery)
    }
}

impl From<Arc<PendingTxEvent>> for BackrunMessage {
    fn from(pending: Arc<PendingTxEvent>) -> Self {
        Self::Pending(pending)
    }
}

impl Message for BackrunMessage {
    fn seq(&self) -> Option<u64> {
        match self {
            Self::Chain(Delivery::Event(envelope)) => Some(envelope.seq),
            Self::Chain(Delivery::Resync(gone)) => Some(gone.to),
            Self::Pending(_) => None,
        }
    }
}

/// The transactions with findings that stand: pending, and their block the newest that was looked at. Whoever would act on a
/// finding looks here first.
pub type Standing = Arc<BTreeSet<TxHash>>;

/// What it is connected to. `M` is what the reader of the findings has in its mailbox.
#[derive(Debug)]
pub struct BackrunWiring<M> {
    /// The market of the last few blocks.
    pub market: SnapshotReader<MarketSnapshot>,
    /// The prices of the last few blocks.
    pub prices: SnapshotReader<PriceSnapshot>,
    /// Where the findings go; what is too much is dropped, for it is soon void.
    pub findings: Outlet<M, DropNewest>,
    /// Where it is said which of them stand.
    pub standing: watch::Sender<Standing>,
    /// Where the effects are told that something was found behind.
    pub record: SourcePublisher,
    /// What names the findings of a block apart, whichever incarnation found them.
    pub indices: Indices,
}

/// Gives out indices among all that is derived from a block. It outlives every incarnation: an index that was given before the
/// actor was restarted would be taken for a repetition.
#[derive(Clone, Debug, Default)]
pub struct Indices(Arc<Mutex<(u64, u32)>>);

impl Indices {
    /// The first of `count` that nobody was given for the block of `seq`.
    pub(crate) fn take(&self, seq: u64, count: u32) -> u32 {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if given.0 != seq {
            *given = (seq, 0);
        }
        let first = given.1;
        given.1 += count;
        first
    }
}

impl<M> Clone for BackrunWiring<M> {
    fn clone(&self) -> Self {
        Self {
            market: self.market.clone(),
            prices: self.prices.clone(),
            findings: self.findings.clone(),
            standing: self.standing.clone(),
            record: self.record.clone(),
            indices: self.indices.clone(),
        }
    }
}

/// Keeps the pending transactions, and finds what can be gained behind them. It delays no block: they wait for it in their own
/// forwarder, pending transactions and findings are dropped where they are too many.
#[derive(Debug)]
pub struct BackrunActor<D, R, M> {
    backruns: Backruns<D>,
    effects: Effects<R>,
    pool: PendingPool,
    wiring: BackrunWiring<M>,
    config: MempoolConfig,
    started: Instant,
    /// The block that was looked at last: what is touched counts from there.
    last: Option<AsOf>,
    /// The greatest sequence number of a block or reorg that was heard of, handled or waiting.
    newest: u64,
    observed: BackrunObserved,
}

/// What can be seen from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BackrunObserved {
    /// The block that was looked at last.
    pub as_of: Option<AsOf>,
    /// What became of the transactions.
    pub pool: PoolCounts,
    /// Effects that were computed.
    pub native: u64,
    /// Effects that were executed.
    pub executed: u64,
    /// Transactions that fail.
    pub failing: u64,
    /// Transactions that the next block cannot begin with.
    pub impossible: u64,
    /// Transactions that change no tracked pool.
    pub untouched: u64,
    /// Transactions behind which a pool does not stand where its logs lead.
    pub contradicting: u64,
    /// Transactions whose effect could not be told, for lack of time, of gas or of a node.
    pub unknown: u64,
    /// Looks that were not taken, because a newer block was there or there were too many.
    pub skipped: u64,
    /// Findings.
    pub found: u64,
    /// Findings beside these that nobody is told of, as the bus takes no more effects.
    pub untold: u64,
}

/// Names the findings.
pub const BACKRUN: &str = "backrun";

impl<D: Detector, R: StateReader, M: Message + From<BackrunSet>> BackrunActor<D, R, M> {
    /// One that knows of no pending transaction.
    pub fn new(search: D, effects: Effects<R>, config: MempoolConfig, wiring: BackrunWiring<M>) -> Self {
        Self {
            backruns: Backruns::new(search),
            effects,
            pool: PendingPool::new(config.pool()),
            wiring,
            config,
            started: clock::now(),
            last: None,
            newest: 0,
            observed: BackrunObserved::default(),
        }
    }

    async fn block(&mut self, seq: u64, block: &BlockEvent) -> Result<(), EvaluationError> {
        self.pool.mine(block, self.now());
        self.void();
        if seq < self.newest {
            self.observed.skipped += self.pool.counts().pending;
            return Ok(());
        }
        let as_of = AsOf { seq, number: block.header.number, hash: block.header.hash };
        if !self.stand_behind(&as_of).await? {
            return Ok(());
        }
        let again: Vec<_> = self.pool.newest().cloned().collect();
        let most = self.config.max_per_block.get().min(again.len());
        self.observed.skipped += (again.len() - most) as u64;
        for (done, pending) in again[..most].iter().enumerate() {
            // While this goes on, the next block may have come.
            if self.wiring.market.latest().is_some_and(|latest| latest.as_of.seq > seq) {
                self.observed.skipped += (most - done) as u64;
                break;
            }
            self.look_behind(pending).await?;
        }
        Ok(())
    }

    /// Whether there is a state to stand behind.
    async fn stand_behind(&mut self, as_of: &AsOf) -> Result<bool, EvaluationError> {
        let since = self.last.take();
        let market = self.wiring.market.wait_for(as_of).await;
        let prices = self.wiring.prices.wait_for(as_of).await;
        let (Ok(market), Ok(prices)) = (market, prices) else {
            self.backruns.forget();
            return Ok(false);
        };
        let window = self.wiring.market.window();
        let touched = Touched::between(&window, since, &market);
        let concentrated = Touched::concentrated_between(&window, since, &market);
        self.backruns.stand_behind(market, prices, touched, concentrated)?;
        self.last = Some(*as_of);
        self.observed.as_of = self.last;
        Ok(true)
    }

    async fn pending(&mut self, pending: &Arc<PendingTxEvent>) -> Result<(), EvaluationError> {
        let arrival = self.pool.see(Arc::clone(pending), self.now());
        self.withdraw();
        let is_kept = self.pool.get(&pending.transaction.hash).is_some();
        match arrival {
            Arrival::Duplicate | Arrival::Outbid => Ok(()),
            Arrival::New | Arrival::Replacing(_) if !is_kept => Ok(()),
            // It is looked at with the block that waits.
            Arrival::New | Arrival::Replacing(_) if self.is_behind() => {
                self.observed.skipped += 1;
                Ok(())
            }
            Arrival::New | Arrival::Replacing(_) => self.look_behind(pending).await,
        }
    }

    /// Whether a newer block waits than the one that is stood behind.
    fn is_behind(&self) -> bool {
        self.last.is_none_or(|last| last.seq < self.newest)
    }

    async fn look_behind(&mut self, pending: &Arc<PendingTxEvent>) -> Result<(), EvaluationError> {
        let Some(market) = self.backruns.market().cloned() else { return Ok(()) };
        let effect = match timeout(self.config.effect_timeout(), self.effects.of(pending, &market)).await {
            Ok(Ok(effect)) => effect,
            Ok(Err(none)) => {
                *self.none_for(&none) += 1;
                return Ok(());
            }
            Err(_) => {
                self.observed.unknown += 1;
                return Ok(());
            }
        };
        *match effect.means {
            Means::Native => &mut self.observed.native,
            Means::Executed | Means::Recorded => &mut self.observed.executed,
        } += 1;
        let items = self.backruns.behind(pending, &effect)?;
        if items.is_empty() {
            return Ok(());
        }
        // What a finding rests on goes to the record before the finding goes anywhere.
        let is_told = match record(pending, &effect, &market) {
            Some(record) => {
                let record = BusEvent::PendingEffect(Box::new(record));
                self.wiring.record.publish(record, None).await.is_ok()
            }
            None => false,
        };
        if !is_told {
            self.observed.untold += items.len() as u64;
            return Ok(());
        }
        self.observed.found += items.len() as u64;
        let hash = pending.transaction.hash;
        self.wiring.standing.send_modify(|standing| {
            Arc::make_mut(standing).insert(hash);
        });
        // A finding and an outcome for each.
        let first = self.wiring.indices.take(market.as_of.seq, 2 * items.len() as u32);
        let set = OpportunitySet { as_of: market.as_of, detector: BACKRUN.into(), items };
        self.wiring.findings.offer(BackrunSet { set, first }.into())?;
        Ok(())
    }

    fn none_for(&mut self, none: &NoEffect) -> &mut u64 {
        match none {
            NoEffect::Fails(_) => &mut self.observed.failing,
            NoEffect::Impossible(_) => &mut self.observed.impossible,
            NoEffect::Untouched => &mut self.observed.untouched,
            NoEffect::Contradiction => &mut self.observed.contradicting,
            NoEffect::Unknown(_) => &mut self.observed.unknown,
        }
    }

    /// All findings are void.
    fn void(&mut self) {
        self.wiring.standing.send_replace(Standing::default());
    }

    /// The findings behind transactions that are no longer pending are void.
    fn withdraw(&mut self) {
        let pool = &self.pool;
        self.wiring.standing.send_if_modified(|standing| {
            let gone: Vec<_> = standing.iter().filter(|hash| pool.get(hash).is_none()).copied().collect();
            for hash in &gone {
                Arc::make_mut(standing).remove(hash);
            }
            !gone.is_empty()
        });
    }

    fn now(&self) -> Duration {
        clock::now() - self.started
    }
}

impl<D: Detector, R: StateReader, M: Message + From<BackrunSet>> Component for BackrunActor<D, R, M> {
    type Message = BackrunMessage;
    type Observed = BackrunObserved;

    async fn handle(&mut self, message: &BackrunMessage) -> anyhow::Result<()> {
        match message {
            BackrunMessage::Pending(pending) => self.pending(pending).await?,
            BackrunMessage::Chain(Delivery::Event(envelope)) => {
                self.newest = self.newest.max(envelope.seq);
                match &envelope.event {
                    BusEvent::NewBlock(block) => self.block(envelope.seq, block).await?,
                    BusEvent::Reorg(reorg) => {
                        self.pool.undo(reorg, self.now());
                        self.backruns.forget();
                        self.void();
                    }
                    _ => {}
                }
            }
            BackrunMessage::Chain(Delivery::Resync(_)) => {
                warn!("blocks are gone: what they mined ages out");
                self.backruns.forget();
                self.void();
            }
        }
        Ok(())
    }

    async fn set_aside(&mut self, message: &BackrunMessage) -> anyhow::Result<()> {
        if let BackrunMessage::Chain(_) = message {
            self.backruns.forget();
            self.void();
        }
        Ok(())
    }

    fn look_ahead(&mut self, waiting: &BackrunMessage) {
        if let BackrunMessage::Chain(Delivery::Event(envelope)) = waiting {
            self.newest = self.newest.max(envelope.seq);
        }
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        self.wiring.market.settle();
        self.wiring.prices.settle();
        Ok(())
    }

    fn observe(&self) -> BackrunObserved {
        BackrunObserved { pool: self.pool.counts(), ..self.observed.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_given_once_for_a_block_whoever_asks() {
        let indices = Indices::default();
        let of_the_next_incarnation = indices.clone();
        assert_eq!(indices.take(7, 4), 0);
        assert_eq!(of_the_next_incarnation.take(7, 2), 4);
        assert_eq!(of_the_next_incarnation.take(8, 2), 0);
    }
}
