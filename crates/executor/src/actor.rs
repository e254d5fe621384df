use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::TxHash;
use futures_util::{StreamExt, stream};
use headwater_actor::{Component, Fatal};
use headwater_bus::{BlockProgress, Closed, Delivery, DerivedPublisher, EventBus, Message, Stage, Timeline};
use headwater_events::{
    BackrunSet, BusEvent, Opportunity, OpportunityId, OpportunitySet, Outcome, Refusal, Simulated, Verdict,
};
use headwater_simulation::Simulator;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::ExecutorConfig;
use crate::executor::{Circumstances, Counted, Executor, Next};

/// What the executor's mailbox carries.
#[derive(Clone, Debug)]
pub enum ExecutorMessage {
    /// Heads and reorgs.
    Chain(Delivery),
    /// What a detector found in a block.
    Found(OpportunitySet),
    /// What was found behind a pending transaction. Its simulation holds the mailbox, so that an executor of its own gets it.
    Behind(BackrunSet),
}

impl ExecutorMessage {
    /// What the executor reads of the bus.
    pub fn interest(event: &BusEvent) -> bool {
        matches!(event, BusEvent::NewBlock(_) | BusEvent::Reorg(_))
    }
}

impl From<Delivery> for ExecutorMessage {
    fn from(delivery: Delivery) -> Self {
        Self::Chain(delivery)
    }
}

impl From<OpportunitySet> for ExecutorMessage {
    fn from(set: OpportunitySet) -> Self {
        Self::Found(set)
    }
}

impl From<BackrunSet> for ExecutorMessage {
    fn from(set: BackrunSet) -> Self {
        Self::Behind(set)
    }
}

impl Message for ExecutorMessage {
    fn seq(&self) -> Option<u64> {
        match self {
            Self::Chain(Delivery::Event(envelope)) => Some(envelope.seq),
            Self::Chain(Delivery::Resync(gone)) => Some(gone.to),
            Self::Found(set) => Some(set.as_of.seq),
            // Several are of one block.
            Self::Behind(_) => None,
        }
    }
}

/// Where the executor reports to.
#[derive(Clone, Debug)]
pub struct Reports {
    /// For findings and outcomes, as derived events.
    pub bus: EventBus,
    /// For the stamps of receipt and decision.
    pub timeline: Timeline,
    /// For the receipt of every detector's set.
    pub progress: BlockProgress,
}

/// The executor as an actor.
#[derive(Debug)]
pub struct ExecutorActor<S> {
    executor: Executor,
    simulator: S,
    timeout: Duration,
    concurrency: usize,
    journal_stalled: watch::Receiver<bool>,
    given_up: watch::Receiver<Option<Fatal>>,
    /// Of the pending transactions, those that have findings and stand.
    standing: watch::Receiver<Arc<BTreeSet<TxHash>>>,
    reports: Reports,
}

impl<S: Simulator> ExecutorActor<S> {
    /// An executor that simulates with `simulator`. Once `given_up` holds an actor, nothing is acted upon any more.
    pub fn new(
        executor: Executor,
        config: &ExecutorConfig,
        simulator: S,
        given_up: watch::Receiver<Option<Fatal>>,
        reports: Reports,
    ) -> Self {
        Self {
            executor,
            simulator,
            timeout: config.simulation_timeout(),
            concurrency: config.concurrency.get(),
            given_up,
            standing: watch::channel(Arc::default()).1,
            journal_stalled: reports.bus.journal_stalled(),
            reports,
        }
    }

    /// Acts behind the pending transactions that `standing` holds; without it, behind none.
    pub fn behind(self, standing: watch::Receiver<Arc<BTreeSet<TxHash>>>) -> Self {
        Self { standing, ..self }
    }

    fn circumstances(&self) -> Circumstances {
        Circumstances {
            has_state: S::HAS_STATE,
            journal_stalled: *self.journal_stalled.borrow(),
            ending: self.given_up.borrow().is_some(),
        }
    }

    async fn found_behind(&mut self, BackrunSet { set, first }: &BackrunSet) -> Result<(), Closed> {
        let publisher = self.reports.bus.derived(set.detector.clone());
        publisher.publish(
            set.as_of.seq,
            *first,
            set.items.iter().cloned().map(BusEvent::OpportunityFound),
        )?;
        let standing = Arc::clone(&self.standing.borrow());
        let next = self.executor.receive_behind(set, self.circumstances(), &standing);
        self.decide(set, *first, next, &publisher).await
    }

    async fn found(&mut self, set: &OpportunitySet) -> Result<(), Closed> {
        let Reports { bus, timeline, progress } = &self.reports;
        timeline.stamp(set.as_of.seq, Stage::Received);
        let publisher = bus.derived(set.detector.clone());
        publisher.publish(set.as_of.seq, 0, set.items.iter().cloned().map(BusEvent::OpportunityFound))?;
        let is_whole = progress.receive_set(&set.detector, set.as_of.seq);
        let next = self.executor.receive(set, self.circumstances());
        self.decide(set, 0, next, &publisher).await?;
        if is_whole {
            self.reports.timeline.stamp(set.as_of.seq, Stage::Decided);
        }
        Ok(())
    }

    /// Simulates what has to be, several at a time, and publishes the outcomes in the order of the findings.
    async fn decide(
        &mut self,
        set: &OpportunitySet,
        first: u32,
        next: Vec<Next>,
        publisher: &DerivedPublisher,
    ) -> Result<(), Closed> {
        let deadline = Instant::now() + self.timeout;
        let verdicts: Vec<_> = set
            .items
            .iter()
            .zip(next)
            .map(|(finding, next)| decide(&self.simulator, finding, next, deadline, self.timeout))
            .collect();
        let mut verdicts = stream::iter(verdicts).buffered(self.concurrency);
        let mut index = first;
        let after_the_found = set.items.len() as u32;
        while let Some((verdict, simulated)) = verdicts.next().await {
            let follows = set.items.get((index - first) as usize).and_then(Opportunity::follows);
            let verdict = self.unless_gone(verdict, follows);
            self.executor.count(&verdict);
            let opportunity = OpportunityId { as_of: set.as_of, detector: set.detector.clone(), index };
            let outcome = Outcome { opportunity, verdict, simulated };
            let place = after_the_found + index;
            publisher.publish(set.as_of.seq, place, [BusEvent::OutcomeRecorded(outcome)])?;
            index += 1;
        }
        Ok(())
    }
}

impl<S> ExecutorActor<S> {
    /// While the simulation ran, the transaction may have been mined or replaced.
    fn unless_gone(&self, verdict: Verdict, follows: Option<TxHash>) -> Verdict {
        match follows {
            Some(hash) if verdict == Verdict::WouldSend && !self.standing.borrow().contains(&hash) => {
                Verdict::Refused(Refusal::TransactionGone)
            }
            _ => verdict,
        }
    }
}

async fn decide<S: Simulator>(
    simulator: &S,
    finding: &Opportunity,
    next: Next,
    deadline: Instant,
    timeout: Duration,
) -> (Verdict, Option<Simulated>) {
    if let Next::Judged(verdict) = next {
        return (verdict, None);
    }
    match timeout_at(deadline, simulator.simulate(finding)).await {
        Ok(result) => {
            let simulated = result.as_ref().ok().cloned();
            (Executor::conclude(finding, result), simulated)
        }
        Err(_) => {
            let reason = format!("no answer within {timeout:?}");
            (Verdict::Refused(Refusal::SimulationFailed(reason)), None)
        }
    }
}

impl<S: Simulator> Component for ExecutorActor<S> {
    type Message = ExecutorMessage;
    type Observed = Counted;

    async fn handle(&mut self, message: &ExecutorMessage) -> anyhow::Result<()> {
        match message {
            ExecutorMessage::Chain(Delivery::Event(envelope)) => {
                self.executor.apply(envelope.seq, &envelope.event);
            }
            ExecutorMessage::Chain(Delivery::Resync(_)) => self.executor.forget(),
            ExecutorMessage::Found(set) => self.found(set).await?,
            ExecutorMessage::Behind(set) => self.found_behind(set).await?,
        }
        Ok(())
    }

    async fn set_aside(&mut self, message: &ExecutorMessage) -> anyhow::Result<()> {
        match message {
            ExecutorMessage::Chain(Delivery::Event(envelope)) => self.executor.lose_track(envelope.seq),
            ExecutorMessage::Chain(Delivery::Resync(_)) => self.executor.forget(),
            ExecutorMessage::Found(set) => {
                self.reports.progress.receive(&set.detector, set.as_of.seq);
            }
            ExecutorMessage::Behind(_) => {}
        }
        Ok(())
    }

    fn look_ahead(&mut self, waiting: &ExecutorMessage) {
        match waiting {
            ExecutorMessage::Chain(Delivery::Event(envelope)) => self.executor.foresee(envelope.seq),
            ExecutorMessage::Found(set) => self.executor.foresee(set.as_of.seq),
            ExecutorMessage::Behind(BackrunSet { set, .. }) => self.executor.foresee(set.as_of.seq),
            ExecutorMessage::Chain(Delivery::Resync(_)) => {}
        }
    }

    fn observe(&self) -> Counted {
        self.executor.counted()
    }
}

#[cfg(test)]
mod tests;
