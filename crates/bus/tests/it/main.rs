//! The bus as its users see it.

mod handlers;
mod journal;
mod lag;
mod mailboxes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use headwater_bus::{
    Backlog, BusConfig, Delivery, EventBus, Inbox, Mailbox, Message, Recorder, Resync, Timeline, Topology,
};
use headwater_events::{BusEvent, Envelope, Reconnected};
use tokio::sync::{Mutex, mpsc};

/// A source event that is told from others by its number.
fn event(number: u64) -> BusEvent {
    BusEvent::Reconnected(Reconnected { epoch: number, endpoint: 0 })
}

/// What a mailbox of these tests carries.
#[derive(Debug)]
struct Got(Delivery);

impl From<Delivery> for Got {
    fn from(delivery: Delivery) -> Self {
        Self(delivery)
    }
}

impl Message for Got {
    fn seq(&self) -> Option<u64> {
        match &self.0 {
            Delivery::Event(envelope) => Some(envelope.seq),
            Delivery::Resync(gone) => Some(gone.to),
        }
    }
}

/// A delivery as tests compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Event(u64),
    Gone(Resync),
}

/// A bus with one reader that takes when it is told to.
struct Setup {
    bus: EventBus,
    topology: Topology,
    inbox: Arc<Mutex<Inbox<Got>>>,
}

impl Setup {
    /// A broadcast of 16, and a ring that holds about `ring_events` events.
    fn new(ring_events: usize, recorder: Option<Recorder>, backlog: Option<Arc<dyn Backlog>>) -> Self {
        let topology = Topology::new();
        let config =
            BusConfig { capacity: 16, ring_bytes: ring_events * event(0).weight(), ..BusConfig::default() };
        let bus = EventBus::new(&config, &topology, &Timeline::default(), recorder, backlog);
        let mailbox = Mailbox::new(&topology, "reader", 1);
        bus.feed::<Got>(mailbox.waiting("bus", "source events"), |_| true);
        Self { bus, topology, inbox: mailbox.into_inbox() }
    }

    async fn publish(&self, number: u64) {
        self.bus.publisher().publish(event(number), None).await.expect("the bus is open");
    }

    async fn take(&self) -> Option<Seen> {
        let mut inbox = self.inbox.lock().await;
        if !inbox.fill().await {
            return None;
        }
        let seen = match &inbox.front()?.0 {
            Delivery::Event(envelope) => Seen::Event(envelope.seq),
            Delivery::Resync(gone) => Seen::Gone(*gone),
        };
        inbox.complete();
        Some(seen)
    }

    /// Closes the bus and takes what is left.
    async fn take_rest(&self) -> Vec<Seen> {
        self.bus.close_source();
        let mut rest = Vec::new();
        while let Some(seen) = self.take().await {
            rest.push(seen);
        }
        rest
    }

    fn assert_conserved(&self) {
        for edge in self.topology.report() {
            assert!(edge.counts.conserved(), "{edge:?}");
        }
    }
}

fn events(seqs: impl IntoIterator<Item = u64>) -> Vec<Seen> {
    seqs.into_iter().map(Seen::Event).collect()
}

/// A journal in memory that keeps what is from `oldest` on.
struct Kept {
    envelopes: std::sync::Mutex<Vec<Arc<Envelope>>>,
    oldest: AtomicU64,
    reads: AtomicU64,
    queue: std::sync::Mutex<mpsc::Receiver<Arc<Envelope>>>,
    recorded: Arc<AtomicU64>,
}

impl Kept {
    /// A journal and the bus's end of it, with a queue of `capacity`.
    fn new(capacity: usize) -> (Arc<Self>, Recorder) {
        let (sender, receiver) = mpsc::channel(capacity);
        let recorded = Arc::new(AtomicU64::new(0));
        let kept = Self {
            envelopes: std::sync::Mutex::default(),
            oldest: AtomicU64::new(1),
            reads: AtomicU64::new(0),
            queue: std::sync::Mutex::new(receiver),
            recorded: Arc::clone(&recorded),
        };
        (Arc::new(kept), Recorder::new(sender, recorded))
    }

    /// Records everything that is queued.
    fn record(&self) {
        let mut queue = self.queue.lock().expect("no panic holds it");
        while let Ok(envelope) = queue.try_recv() {
            let seq = envelope.seq;
            self.envelopes.lock().expect("no panic holds it").push(envelope);
            self.recorded.store(seq, Ordering::Release);
        }
    }
}

impl Backlog for Kept {
    fn read(&self, from: u64, limit: usize) -> Result<Vec<Arc<Envelope>>, headwater_bus::BacklogError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let oldest = self.oldest.load(Ordering::Relaxed);
        if from < oldest {
            return Err(headwater_bus::BacklogError::Gone { wanted: from, oldest });
        }
        let envelopes = self.envelopes.lock().expect("no panic holds it");
        Ok(envelopes.iter().filter(|envelope| envelope.seq >= from).take(limit).cloned().collect())
    }
}
