use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headwater_events::{BusEvent, Envelope, Origin, RunId};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::backlog::{Backlog, JournalHealth, Recorder};
use crate::clock::{self, Instant};
use crate::edge::{Channel, OverflowPolicy, Topology};
use crate::handler::{EventHandler, HandlerReport, run_handler};
use crate::lane::{Delivery, Lane, Reader};
use crate::mailbox::{Message, Outlet, Wait};
use crate::timeline::Timeline;

/// The other end is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the channel is closed")]
pub struct Closed;

/// Sizes of the bus.
#[derive(Clone, Debug)]
pub struct BusConfig {
    /// Labels every envelope.
    pub run_id: RunId,
    /// Sequence number of the first source event; in a replay that of the recording.
    pub first_seq: u64,
    /// Events that a broadcast holds before a slow reader is repaired from the ring.
    pub capacity: usize,
    /// Bytes that the ring of source events holds, approximately; beyond it a reader is repaired from the journal. By
    /// default 32 MiB, which are more than a hundred blocks of the mainnet.
    pub ring_bytes: usize,
    /// Bytes that the ring of derived events holds, approximately. Nothing is behind it: what a handler that lags finds no
    /// longer there, it never gets. By default 16 MiB, which are more than twenty thousand events.
    pub derived_ring_bytes: usize,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            run_id: RunId(0),
            first_seq: 1,
            capacity: 256,
            ring_bytes: 32 << 20,
            derived_ring_bytes: 16 << 20,
        }
    }
}

/// A journal that takes longer than this to accept an event stops the acting side.
const JOURNAL_STALL: Duration = Duration::from_millis(250);

/// The event bus: one lane of source events, one of derived ones.
///
/// Source events are numbered without holes, remembered in a ring, queued for the journal and only then broadcast, so
/// that whatever a reader has seen can be read again.
#[derive(Clone)]
pub struct EventBus {
    run_id: RunId,
    source: Lane,
    derived: Lane,
    topology: Topology,
    timeline: Timeline,
    recorder: Option<Recorder>,
    /// Held while a source event is numbered and queued: there is one order.
    sequence: Arc<AsyncMutex<()>>,
    /// What each origin has said of its latest causes.
    said: Arc<Mutex<BTreeMap<Origin, BTreeMap<u64, u32>>>>,
    journal: JournalHealth,
    capacity: usize,
}

impl fmt::Debug for EventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBus").field("run_id", &self.run_id).finish_non_exhaustive()
    }
}

impl EventBus {
    /// A bus without readers.
    pub fn new(
        config: &BusConfig,
        topology: &Topology,
        timeline: &Timeline,
        recorder: Option<Recorder>,
        backlog: Option<Arc<dyn Backlog>>,
    ) -> Self {
        Self {
            run_id: config.run_id,
            source: Lane::new(config.first_seq, config.capacity, config.ring_bytes, backlog),
            derived: Lane::new(1, config.capacity, config.derived_ring_bytes, None),
            topology: topology.clone(),
            timeline: timeline.clone(),
            journal: recorder.as_ref().map(|recorder| recorder.health().clone()).unwrap_or_default(),
            recorder,
            sequence: Arc::default(),
            said: Arc::default(),
            capacity: config.capacity,
        }
    }

    /// Where source events enter.
    pub fn publisher(&self) -> SourcePublisher {
        SourcePublisher { bus: self.clone() }
    }

    /// Where `origin` publishes its conclusions.
    pub fn derived(&self, origin: impl Into<Origin>) -> DerivedPublisher {
        DerivedPublisher { bus: self.clone(), origin: origin.into() }
    }

    /// Feeds the source events that `interest` picks into a mailbox, from now on.
    ///
    /// The task holds the position and outlives every incarnation of the reader. It ends when the source ends or the
    /// mailbox is gone for good.
    pub fn feed<M>(&self, outlet: Outlet<M, Wait>, interest: fn(&BusEvent) -> bool) -> JoinHandle<()>
    where
        M: Message + From<Delivery>,
    {
        let reader = self.read(&self.source, outlet.edge().to.to_string(), "source events");
        tokio::spawn(async move {
            if let Some(reader) = reader {
                forward(reader, outlet, interest).await;
            }
        })
    }

    /// Registers a subscriber of every event, source and derived, from now on. A handler that fails or panics is
    /// logged, counted and isolated.
    pub fn register<H: EventHandler>(
        &self,
        name: impl Into<Origin>,
        handler: H,
    ) -> JoinHandle<HandlerReport> {
        let name = name.into();
        let source = self.read(&self.source, name.to_string(), "source events");
        let derived = self.read(&self.derived, name.to_string(), "derived events");
        tokio::spawn(run_handler(name, handler, source, derived))
    }

    fn read(&self, lane: &Lane, to: String, carries: &'static str) -> Option<Reader> {
        let edge =
            self.topology.edge("bus", to, carries, Channel::Broadcast, self.capacity, OverflowPolicy::Repair);
        lane.reader(edge)
    }

    /// No more source events: readers get what was published, then the end.
    pub fn close_source(&self) {
        self.source.close();
    }

    /// No more derived events: handlers get what was published, then the end.
    pub fn close_derived(&self) {
        self.derived.close();
    }

    /// Waits until no reader is more than half a broadcast behind, so that a source without a clock of its own
    /// overruns nobody. Cancel-safe.
    pub async fn settle(&self) {
        let distance = self.capacity as u64 / 2;
        self.source.readers_within(distance).await;
        self.derived.readers_within(distance).await;
    }

    /// True while the journal does not keep up or cannot be written: nobody may act on what might not be on record.
    pub fn journal_stalled(&self) -> watch::Receiver<bool> {
        self.journal.stalled()
    }

    /// Room for the next event in the journal's queue; `None` where nothing is recorded. Cancel-safe.
    async fn room_in_journal(&self) -> Option<tokio::sync::mpsc::Permit<'_, Arc<Envelope>>> {
        let recorder = self.recorder.as_ref()?;
        let permit = match tokio::time::timeout(JOURNAL_STALL, recorder.queue().reserve()).await {
            Ok(permit) => permit,
            Err(_) => {
                warn!(
                    seq = self.source.next_position(),
                    "the journal does not keep up; nothing is acted upon until it does"
                );
                self.journal.set_behind(true);
                recorder.queue().reserve().await
            }
        };
        self.journal.set_behind(permit.is_err());
        permit.ok()
    }
}

/// Where source events enter the bus.
#[derive(Clone, Debug)]
pub struct SourcePublisher {
    bus: EventBus,
}

impl SourcePublisher {
    /// Publishes a source event and says its sequence number. `last_byte` is when the last byte of it was read from
    /// the socket. Whoever is cancelled has published it whole or not at all, and does not know which.
    ///
    /// # Errors
    ///
    /// [`Closed`] after [`EventBus::close_source`].
    pub async fn publish(&self, event: BusEvent, last_byte: Option<Instant>) -> Result<u64, Closed> {
        debug_assert!(event.is_source(), "{} is derived", event.name());
        let bus = &self.bus;
        let _order = bus.sequence.lock().await;
        // From here on there is nothing to wait for until it is published: a number that is given has its event on record.
        let room = bus.room_in_journal().await;
        let seq = bus.source.next_position();
        let is_block = matches!(event, BusEvent::NewBlock(_));
        let envelope = Arc::new(Envelope {
            run_id: bus.run_id,
            seq,
            received_at: clock::unix_nanos(),
            derived: None,
            event,
        });
        let recorded = bus.recorder.as_ref().map_or(u64::MAX, Recorder::recorded);
        let (_, past) = bus.source.remember(&envelope, recorded)?;
        if let Some(room) = room {
            room.send(Arc::clone(&envelope));
        }
        if is_block {
            bus.timeline.begin(seq, last_byte);
        }
        bus.source.announce(seq, &envelope);
        if !past.is_empty() {
            // The readers were woken on this thread; they go first.
            tokio::task::yield_now().await;
        }
        Ok(seq)
    }

    /// See [`EventBus::settle`].
    pub async fn settle(&self) {
        self.bus.settle().await;
    }
}

/// Causes that an origin's repetitions are recognised for.
const REMEMBERED_CAUSES: usize = 256;

/// Where one origin publishes its conclusions.
#[derive(Clone, Debug)]
pub struct DerivedPublisher {
    bus: EventBus,
    origin: Origin,
}

impl DerivedPublisher {
    /// Publishes `events`, which follow from the source event `cause`; `first` is the index of the first of them among
    /// all that this origin derives from that cause. What was said before is not said again, so that an origin that
    /// was restarted in the middle may repeat itself.
    ///
    /// # Errors
    ///
    /// [`Closed`] after [`EventBus::close_derived`].
    pub fn publish(
        &self,
        cause: u64,
        first: u32,
        events: impl IntoIterator<Item = BusEvent>,
    ) -> Result<(), Closed> {
        let mut said = self.bus.said.lock().unwrap_or_else(PoisonError::into_inner);
        let causes = said.entry(self.origin.clone()).or_default();
        for (index, event) in (first..).zip(events) {
            debug_assert!(!event.is_source(), "{} is a source event", event.name());
            let next = causes.entry(cause).or_default();
            if index < *next {
                continue;
            }
            *next = index + 1;
            let envelope = Arc::new(Envelope {
                run_id: self.bus.run_id,
                seq: cause,
                received_at: clock::unix_nanos(),
                derived: Some((self.origin.clone(), index)),
                event,
            });
            let (position, _) = self.bus.derived.remember(&envelope, u64::MAX)?;
            self.bus.derived.announce(position, &envelope);
        }
        while causes.len() > REMEMBERED_CAUSES {
            causes.pop_first();
        }
        Ok(())
    }
}

async fn forward<M>(mut reader: Reader, outlet: Outlet<M, Wait>, interest: fn(&BusEvent) -> bool)
where
    M: Message + From<Delivery>,
{
    while let Some(delivery) = reader.next().await {
        let wanted = match &delivery {
            Delivery::Event(envelope) => interest(&envelope.event),
            Delivery::Resync(_) => true,
        };
        if wanted && outlet.send(M::from(delivery)).await.is_err() {
            return;
        }
    }
}
