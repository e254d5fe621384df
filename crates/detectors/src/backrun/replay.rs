//! Backruns from the record: behind the transactions that something was found behind.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_actor::Component;
use headwater_bus::{BlockProgress, Delivery, Message, Outlet, SnapshotReader, Wait};
use headwater_events::{AsOf, BackrunSet, BlockEvent, BusEvent, Opportunity, OpportunitySet, PendingEffect};
use headwater_market::{MarketSnapshot, PriceSnapshot, Touched};
use serde::Serialize;
use tracing::warn;

use super::actor::BACKRUN;
use super::recorded::recall;
use crate::{Backruns, Detector, EvaluationError, Indices};

/// Blocks that an effect may come late by: what was found live was on one of the last.
const KEPT: usize = 8;

/// What the mailbox carries: blocks and recorded effects.
#[derive(Clone, Debug)]
pub struct RecordedMessage(Delivery);

impl RecordedMessage {
    /// What is read of the bus.
    pub fn interest(event: &BusEvent) -> bool {
        matches!(event, BusEvent::NewBlock(_) | BusEvent::PendingEffect(_))
    }
}

impl From<Delivery> for RecordedMessage {
    fn from(delivery: Delivery) -> Self {
        Self(delivery)
    }
}

impl Message for RecordedMessage {
    fn seq(&self) -> Option<u64> {
        match &self.0 {
            Delivery::Event(envelope) => Some(envelope.seq),
            Delivery::Resync(gone) => Some(gone.to),
        }
    }
}

/// What it is connected to. `M` is what the reader of the findings has in its mailbox.
#[derive(Debug)]
pub struct RecordedWiring<M> {
    /// The market of the last few blocks.
    pub market: SnapshotReader<MarketSnapshot>,
    /// The prices of the last few blocks.
    pub prices: SnapshotReader<PriceSnapshot>,
    /// Where the findings go.
    pub findings: Outlet<M, Wait>,
    /// Where it takes its turn among the detectors, as [`BlockProgress::attended_by`] of [`BACKRUN`].
    pub progress: BlockProgress,
    /// What was seen and is not told yet. It outlives every incarnation.
    pub memory: RecordedMemory,
}

impl<M> Clone for RecordedWiring<M> {
    fn clone(&self) -> Self {
        Self {
            market: self.market.clone(),
            prices: self.prices.clone(),
            findings: self.findings.clone(),
            progress: self.progress.clone(),
            memory: self.memory.clone(),
        }
    }
}

/// What the incarnations have in common.
#[derive(Clone, Debug, Default)]
pub struct RecordedMemory(Arc<Mutex<Memory>>);

type Snapshots = (Arc<MarketSnapshot>, Arc<PriceSnapshot>);

#[derive(Debug, Default)]
struct Memory {
    /// The states behind the last blocks, the newest last.
    states: VecDeque<Snapshots>,
    /// What was found and waits for its turn.
    found: VecDeque<BackrunSet>,
    /// The last effect that was looked at.
    looked_at: u64,
    /// The last block.
    last: u64,
    indices: Indices,
}

impl Memory {
    fn state_behind(&self, block: &AsOf) -> Option<Snapshots> {
        self.states.iter().rev().find(|(market, _)| market.as_of == *block).cloned()
    }
}

impl RecordedMemory {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds in a replay what was found live behind pending transactions: the record has their effects, so no node is asked.
///
/// What is found is handed over with the next block, at its turn among the detectors: so the order of the findings is that of the
/// record, whatever the threads do.
#[derive(Debug)]
pub struct BackrunReplay<D, M> {
    backruns: Backruns<D>,
    wiring: RecordedWiring<M>,
    observed: RecordedObserved,
}

/// What can be seen from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecordedObserved {
    /// The last block that was seen.
    pub as_of: Option<AsOf>,
    /// Effects in the record.
    pub effects: u64,
    /// Of these, such as are of no market that is known: a part of it was lost or set aside.
    pub strange: u64,
    /// Findings.
    pub found: u64,
}

impl<D: Detector, M: Message + From<BackrunSet>> BackrunReplay<D, M> {
    /// One that has seen no block.
    pub fn new(search: D, wiring: RecordedWiring<M>) -> Self {
        Self { backruns: Backruns::new(search), wiring, observed: RecordedObserved::default() }
    }

    async fn block(&mut self, seq: u64, block: &BlockEvent) -> Result<(), EvaluationError> {
        let as_of = AsOf { seq, number: block.header.number, hash: block.header.hash };
        let market = self.wiring.market.wait_for(&as_of).await;
        let prices = self.wiring.prices.wait_for(&as_of).await;
        self.wiring.progress.wait_for_turn(BACKRUN, seq).await;
        self.hand_over().await?;
        if let (Ok(market), Ok(prices)) = (market, prices) {
            let mut memory = self.wiring.memory.lock();
            memory.states.retain(|(market, _)| market.as_of != as_of);
            memory.states.push_back((market, prices));
            if memory.states.len() > KEPT {
                memory.states.pop_front();
            }
        }
        self.wiring.memory.lock().last = seq;
        self.observed.as_of = Some(as_of);
        self.wiring.progress.receive(BACKRUN, seq);
        Ok(())
    }

    async fn hand_over(&mut self) -> Result<(), EvaluationError> {
        // One that is told twice, because this ended in between, is known by its index.
        loop {
            let Some(set) = self.wiring.memory.lock().found.front().cloned() else { return Ok(()) };
            self.wiring.findings.send(set.into()).await?;
            self.wiring.memory.lock().found.pop_front();
        }
    }

    fn effect(&mut self, seq: u64, effect: &PendingEffect) -> Result<(), EvaluationError> {
        if self.wiring.memory.lock().looked_at >= seq {
            return Ok(());
        }
        let items = self.look_behind(effect)?;
        let mut memory = self.wiring.memory.lock();
        memory.looked_at = seq;
        self.observed.effects += 1;
        let Some(items) = items else {
            let PendingEffect { behind, pending, .. } = effect;
            warn!(transaction = %pending.transaction.hash, block = behind.number, "an effect is of no market that is known");
            self.observed.strange += 1;
            return Ok(());
        };
        if !items.is_empty() {
            self.observed.found += items.len() as u64;
            let as_of = effect.behind;
            let first = memory.indices.take(as_of.seq, 2 * items.len() as u32);
            let set = OpportunitySet { as_of, detector: BACKRUN.into(), items };
            memory.found.push_back(BackrunSet { set, first });
        }
        Ok(())
    }

    /// `None` where the market behind its block is not known, or is another one.
    fn look_behind(&mut self, effect: &PendingEffect) -> Result<Option<Vec<Opportunity>>, EvaluationError> {
        let Some((market, prices)) = self.wiring.memory.lock().state_behind(&effect.behind) else {
            return Ok(None);
        };
        let Some(recalled) = recall(effect, &market) else { return Ok(None) };
        if self.backruns.market().is_none_or(|stood| stood.as_of != market.as_of) {
            self.backruns.stand_behind(market, prices, Touched::All, Touched::All)?;
        }
        Ok(Some(self.backruns.behind(&effect.pending, &recalled)?))
    }
}

impl<D: Detector, M: Message + From<BackrunSet>> Component for BackrunReplay<D, M> {
    type Message = RecordedMessage;
    type Observed = RecordedObserved;

    async fn handle(&mut self, RecordedMessage(delivery): &RecordedMessage) -> anyhow::Result<()> {
        match delivery {
            Delivery::Event(envelope) => match &envelope.event {
                BusEvent::NewBlock(block) => self.block(envelope.seq, block).await?,
                BusEvent::PendingEffect(effect) => self.effect(envelope.seq, effect)?,
                _ => {}
            },
            Delivery::Resync(gone) => {
                self.wiring.progress.receive(BACKRUN, gone.to);
            }
        }
        Ok(())
    }

    async fn set_aside(&mut self, RecordedMessage(delivery): &RecordedMessage) -> anyhow::Result<()> {
        match delivery {
            Delivery::Event(envelope) if matches!(envelope.event, BusEvent::NewBlock(_)) => {
                self.wiring.progress.receive(BACKRUN, envelope.seq);
            }
            _ => {}
        }
        Ok(())
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        // Nobody has a turn behind the last block.
        let last = self.wiring.memory.lock().last;
        self.wiring.progress.wait_for(last).await;
        self.hand_over().await?;
        self.wiring.market.settle();
        self.wiring.prices.settle();
        Ok(())
    }

    fn observe(&self) -> RecordedObserved {
        self.observed.clone()
    }
}
