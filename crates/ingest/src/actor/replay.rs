use std::collections::VecDeque;
use std::sync::Arc;

use alloy_primitives::{BlockHash, BlockNumber};
use headwater_actor::{ActorHandle, RestartPolicy, Source, StopSignal, System};
use headwater_bus::{BlockProgress, SourcePublisher, WINDOW};
use headwater_events::{BusEvent, Envelope};
use headwater_journal::{JournalError, Recording, Records};
use serde::Serialize;
use tokio::sync::Mutex;

use crate::error::IngestError;
use crate::outbox::Outbox;

/// Events read from the recording at once: reading is done where it may block.
const READ_AHEAD: usize = 32;

/// What can be seen of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayStatus {
    /// The last event that was published.
    pub seq: u64,
    /// The last block that was published.
    pub head: Option<(BlockNumber, BlockHash)>,
    /// Blocks published, those that were undone later included.
    pub blocks: u64,
    /// Blocks undone.
    pub undone: u64,
}

impl ReplayStatus {
    fn note(&mut self, seq: u64, event: &BusEvent) {
        self.seq = seq;
        match event {
            BusEvent::NewBlock(block) => {
                self.blocks += 1;
                self.head = Some((block.header.number, block.header.hash));
            }
            BusEvent::Reorg(reorg) => self.undone += reorg.depth() as u64,
            _ => {}
        }
    }
}

/// Publishes the source events of a recording, in order, under the numbers that they had. Needs no node.
///
/// At most [`WINDOW`] blocks are under way at a time, so that every block finds the snapshots that it is evaluated on,
/// and the bus is never ahead of its readers by more than half its capacity. Every incarnation is a clone: the
/// position is shared.
#[derive(Clone, Debug)]
pub struct ReplayIngest {
    player: Arc<Mutex<Player>>,
}

impl ReplayIngest {
    /// The bus must begin with [`Recording::first_seq`]. `progress` tells when a block is done; without it, as where
    /// nothing evaluates blocks, only the readers of the bus bound the pace. `limit`: how many canonical blocks to
    /// publish before it ends.
    pub fn new(
        recording: &Recording,
        publisher: SourcePublisher,
        progress: Option<BlockProgress>,
        limit: Option<u64>,
    ) -> Self {
        let player = Player {
            next: recording.first_seq(),
            recording: recording.clone(),
            outbox: Outbox::new(publisher.clone()),
            publisher,
            progress,
            limit,
            unfinished: VecDeque::with_capacity(WINDOW),
            status: ReplayStatus::default(),
            out_of_step: None,
        };
        Self { player: Arc::new(Mutex::new(player)) }
    }

    /// Runs it as the actor `ingest`.
    pub fn spawn(self, system: &System, policy: RestartPolicy) -> ActorHandle<ReplayStatus> {
        system.spawn_source("ingest", policy, move |_| {
            let source = self.clone();
            async move { Ok(source) }
        })
    }
}

impl Source for ReplayIngest {
    type Observed = ReplayStatus;

    async fn run(
        &mut self,
        mut stop: StopSignal,
        observe: &(dyn Fn(ReplayStatus) + Send + Sync),
    ) -> anyhow::Result<()> {
        let mut player = self.player.lock().await;
        player.finish_publication().await?;
        let mut records = Some(player.recording.records(player.next));
        while !player.is_done() {
            let batch = match records.take() {
                Some(records) => read_batch(records).await?,
                None => break,
            };
            records = batch.rest;
            for envelope in batch.events {
                let ready = tokio::select! {
                    biased;
                    () = stop.stopped() => false,
                    () = player.wait_for_room(&envelope.event) => true,
                };
                if !ready || player.is_done() {
                    return Ok(());
                }
                player.publish(envelope).await?;
                observe(player.status.clone());
            }
        }
        Ok(())
    }
}

/// What outlives the incarnations.
#[derive(Debug)]
struct Player {
    recording: Recording,
    publisher: SourcePublisher,
    outbox: Outbox,
    progress: Option<BlockProgress>,
    limit: Option<u64>,
    /// The event that comes next.
    next: u64,
    /// Blocks that were published and are not known to be done, oldest first.
    unfinished: VecDeque<u64>,
    status: ReplayStatus,
    /// An event that got another number, with that number: no incarnation goes on behind it.
    out_of_step: Option<(u64, u64)>,
}

impl Player {
    /// Waits until the next event may be published. Cancel-safe.
    async fn wait_for_room(&mut self, event: &BusEvent) {
        self.publisher.settle().await;
        let Some(progress) = &self.progress else { return };
        while self.unfinished.front().is_some_and(|seq| *seq <= progress.finished()) {
            self.unfinished.pop_front();
        }
        if matches!(event, BusEvent::NewBlock(_)) && self.unfinished.len() >= WINDOW {
            progress.wait_for(self.unfinished[0]).await;
            self.unfinished.pop_front();
        }
    }

    /// Publishes an event under the number that it had. What is noted is noted before the first await, because from
    /// then on the event will be published whatever happens.
    async fn publish(&mut self, envelope: Arc<Envelope>) -> Result<(), IngestError> {
        let Envelope { seq, event, .. } = Arc::unwrap_or_clone(envelope);
        self.status.note(seq, &event);
        self.next = seq + 1;
        if matches!(event, BusEvent::NewBlock(_)) {
            self.unfinished.push_back(seq);
        }
        self.outbox.accept(event, None);
        self.finish_publication().await
    }

    async fn finish_publication(&mut self) -> Result<(), IngestError> {
        let recorded = self.next.saturating_sub(1);
        let published = self.outbox.flush().await?.unwrap_or(recorded);
        if published != recorded {
            self.out_of_step.get_or_insert((recorded, published));
        }
        match self.out_of_step {
            Some((recorded, published)) => Err(IngestError::OutOfStep { recorded, published }),
            None => Ok(()),
        }
    }

    fn is_done(&self) -> bool {
        let canonical = self.status.blocks.saturating_sub(self.status.undone);
        self.limit.is_some_and(|limit| canonical >= limit)
    }
}

struct Batch {
    events: Vec<Arc<Envelope>>,
    /// `None` at the end.
    rest: Option<Records>,
}

async fn read_batch(mut records: Records) -> Result<Batch, IngestError> {
    let read = tokio::task::spawn_blocking(move || {
        let mut events = Vec::with_capacity(READ_AHEAD);
        for record in records.by_ref().take(READ_AHEAD) {
            events.push(record?.envelope);
        }
        let rest = (events.len() == READ_AHEAD).then_some(records);
        Ok::<_, JournalError>(Batch { events, rest })
    });
    Ok(read.await.map_err(|_| IngestError::ReaderDied)??)
}

#[cfg(test)]
mod tests;
