use std::collections::VecDeque;
use std::future::ready;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

use headwater_events::Envelope;
use tokio::sync::{Notify, broadcast};
use tracing::{debug, error, warn};

use crate::backlog::{Backlog, BacklogError};
use crate::bus::Closed;
use crate::edge::{DropReason, Edge};
use crate::ring::Ring;
use crate::sync::{AtomicU64, Mutex, MutexGuard, blocking};

/// What a reader of the bus gets.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// The next event, in order, once.
    Event(Arc<Envelope>),
    /// Events are gone for good: whoever holds a state must rebuild it.
    Resync(Resync),
}

/// Events that could not be repaired, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resync {
    /// Position of the first that is gone.
    pub from: u64,
    /// Position of the last that is gone.
    pub to: u64,
}

/// A broadcast with a memory: every reader gets every event in order, once, or is told what it will never get.
#[derive(Clone)]
pub(crate) struct Lane(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    backlog: Option<Arc<dyn Backlog>>,
    advanced: Notify,
}

struct State {
    /// `None` once the lane is closed.
    sender: Option<broadcast::Sender<Item>>,
    ring: Ring,
    readers: Vec<Registration>,
}

/// What is broadcast. It does not hold the event: the ring does, which is bounded in bytes, and a broadcast only in number.
#[derive(Clone)]
struct Item {
    position: u64,
    envelope: Weak<Envelope>,
}

/// What the lane knows of a reader.
struct Registration {
    next: Weak<AtomicU64>,
    edge: Arc<Edge>,
}

/// Events fetched at once to repair a lag, at first and at most.
const FIRST_BATCH: usize = 16;
const GREATEST_BATCH: usize = 256;

/// Bytes fetched at once, approximately: as much waits in a reader that is behind. What a journal gives is decoded on any
/// thread of a pool, and the system's allocator keeps the most that each of them ever needed.
const BATCH_BYTES: usize = 1 << 20;

impl Lane {
    pub(crate) fn new(
        first: u64,
        capacity: usize,
        ring_bytes: usize,
        backlog: Option<Arc<dyn Backlog>>,
    ) -> Self {
        let (sender, _) = broadcast::channel(capacity);
        let state = State { sender: Some(sender), ring: Ring::new(first, ring_bytes), readers: Vec::new() };
        Self(Arc::new(Shared { state: Mutex::new(state), backlog, advanced: Notify::new() }))
    }

    /// The position that the next event will have.
    pub(crate) fn next_position(&self) -> u64 {
        self.0.lock().ring.next()
    }

    /// Puts an event into the ring, so that a lag can be repaired with it from now on; says at which position, and what
    /// it replaces there.
    pub(crate) fn remember(
        &self,
        envelope: &Arc<Envelope>,
        recorded: u64,
    ) -> Result<(u64, Vec<Arc<Envelope>>), Closed> {
        let mut state = self.0.lock();
        if state.sender.is_none() {
            return Err(Closed);
        }
        let position = state.ring.next();
        let past = state.ring.push(Arc::clone(envelope), recorded);
        state.readers.iter().for_each(|reader| reader.edge.accept(1));
        Ok((position, past))
    }

    /// Broadcasts an event that is in the ring at `position`.
    pub(crate) fn announce(&self, position: u64, envelope: &Arc<Envelope>) {
        let envelope = Arc::downgrade(envelope);
        if let Some(sender) = &self.0.lock().sender {
            // An error means that nobody listens, which is not a loss: the ring has it.
            let _ = sender.send(Item { position, envelope });
        }
    }

    /// A reader of everything from now on.
    pub(crate) fn reader(&self, edge: Arc<Edge>) -> Option<Reader> {
        let mut state = self.0.lock();
        let receiver = state.sender.as_ref()?.subscribe();
        let next = Arc::new(AtomicU64::new(state.ring.next()));
        state.readers.push(Registration { next: Arc::downgrade(&next), edge: Arc::clone(&edge) });
        let (lane, repaired) = (self.clone(), VecDeque::new());
        Some(Reader {
            lane,
            receiver,
            next,
            is_behind: false,
            repaired,
            reading: None,
            batch: FIRST_BATCH,
            edge,
        })
    }

    /// No more events. Readers get what was published, then the end.
    pub(crate) fn close(&self) {
        self.0.lock().sender = None;
    }

    /// Waits until no reader is more than `distance` events behind. Cancel-safe.
    pub(crate) async fn readers_within(&self, distance: u64) {
        loop {
            let advanced = self.0.advanced.notified();
            tokio::pin!(advanced);
            advanced.as_mut().enable();
            if self.greatest_lag() <= distance {
                return;
            }
            advanced.await;
        }
    }

    fn greatest_lag(&self) -> u64 {
        let state = self.0.lock();
        let published = state.ring.next();
        state
            .readers
            .iter()
            .filter_map(|reader| reader.next.upgrade())
            .map(|next| published - next.load(Ordering::Acquire))
            .max()
            .unwrap_or(0)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads events from `from` on.
    fn read_backlog(&self, from: u64, limit: usize) -> Reading {
        let Some(backlog) = self.backlog.clone() else { return Box::pin(ready(Err(None))) };
        Box::pin(async move {
            match blocking(move || backlog.read(from, limit)).await {
                Ok(Ok(events)) if events.first().is_some_and(|first| first.seq == from) => Ok(events),
                Ok(Ok(_)) => Err(None),
                Ok(Err(BacklogError::Gone { oldest, .. })) => Err(Some(oldest)),
                Ok(Err(error)) => {
                    error!(%error, from, "the backlog does not answer");
                    Err(None)
                }
                Err(error) => {
                    error!(%error, from, "reading the backlog failed");
                    Err(None)
                }
            }
        })
    }
}

/// Reads a lane in order, without holes and without repetition.
pub(crate) struct Reader {
    lane: Lane,
    receiver: broadcast::Receiver<Item>,
    /// Position of the event that comes next; shared, so that the lane can see who is behind.
    next: Arc<AtomicU64>,
    /// Whether what comes next does not come by the broadcast.
    is_behind: bool,
    repaired: VecDeque<Arc<Envelope>>,
    /// What the backlog is being asked for. Whoever is cancelled meanwhile goes on with it: each of many attempts would leave a
    /// thread behind that reads for nobody.
    reading: Option<Reading>,
    /// Events that the next repair fetches.
    batch: usize,
    edge: Arc<Edge>,
}

/// Events from the backlog; an error where it does not have them, with the first that it has if it says so.
type Reading = Pin<Box<dyn Future<Output = Result<Vec<Arc<Envelope>>, Option<u64>>> + Send>>;

impl Reader {
    /// The next delivery; `None` once the lane is closed and read to its end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Delivery> {
        loop {
            if let Some(envelope) = self.repaired.pop_front() {
                return Some(self.deliver(envelope));
            }
            if self.is_behind {
                if let Some(resync) = self.repair().await {
                    return Some(Delivery::Resync(resync));
                }
                continue;
            }
            match self.receiver.recv().await {
                Ok(item) if item.position == self.position() => match item.envelope.upgrade() {
                    Some(envelope) => return Some(self.deliver(envelope)),
                    None => self.is_behind = true,
                },
                // Came by way of a repair already.
                Ok(item) if item.position < self.position() => {}
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => self.is_behind = true,
                Err(broadcast::error::RecvError::Closed) => {
                    if self.lane.0.lock().ring.next() == self.position() {
                        return None;
                    }
                    self.is_behind = true;
                }
            }
        }
    }

    /// Whether nothing is there to be read, and the lane is open.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lane.0.lock();
        self.repaired.is_empty() && state.ring.next() == self.position() && state.sender.is_some()
    }

    /// Waits until there is something to be read, or the lane is closed. Cancel-safe.
    pub(crate) async fn wake(&mut self) {
        if !self.is_idle() {
            return;
        }
        // What comes is kept for the next reading; that the lane is closed, the next reading finds out as well.
        match self.receiver.recv().await {
            Ok(item) if item.position == self.position() => match item.envelope.upgrade() {
                Some(envelope) => self.repaired.push_back(envelope),
                None => self.is_behind = true,
            },
            // Two publishers may announce in another order than they are remembered in: it would not come again.
            Ok(item) if item.position > self.position() => self.is_behind = true,
            Ok(_) | Err(_) => {}
        }
    }

    fn position(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    fn advance(&self, by: u64) {
        self.next.fetch_add(by, Ordering::AcqRel);
        self.lane.0.advanced.notify_waiters();
    }

    fn deliver(&mut self, envelope: Arc<Envelope>) -> Delivery {
        self.edge.process(1);
        self.advance(1);
        Delivery::Event(envelope)
    }

    /// Fetches what comes next from the ring, else from the backlog; says what is gone if neither has it.
    async fn repair(&mut self) -> Option<Resync> {
        let next = self.position();
        #[cfg(feature = "planted-bugs")]
        if headwater_events::is_planted("no-lag-repair") {
            let skipped = self.lane.next_position() - next;
            self.edge.process(skipped);
            self.advance(skipped);
            self.is_behind = false;
            return None;
        }
        let read = match &mut self.reading {
            Some(reading) => reading.await,
            None => {
                let from_ring = self.lane.0.lock().ring.read(next, self.batch);
                match from_ring {
                    Some(events) => Ok(events),
                    None => self.reading.insert(self.lane.0.read_backlog(next, self.batch)).await,
                }
            }
        };
        self.reading = None;
        self.is_behind = false;
        match read {
            Ok(events) => self.repaired.extend(events),
            Err(kept_from) => return Some(self.give_up(next, kept_from)),
        }
        self.batch = batch_behind(&self.repaired).unwrap_or(self.batch);
        debug!(reader = %self.edge.to, from = next, events = self.repaired.len(), "a lag is repaired");
        None
    }

    /// Gives up what neither the ring nor the backlog has, and not what either has.
    fn give_up(&mut self, from: u64, kept_from: Option<u64>) -> Resync {
        let in_ring = self.lane.0.lock().ring.oldest();
        let oldest = kept_from.filter(|kept| *kept > from).map_or(in_ring, |kept| kept.min(in_ring));
        let lost = oldest - from;
        warn!(reader = %self.edge.to, from, to = oldest - 1, "events are gone for good; the reader must rebuild");
        self.edge.drop_for(DropReason::Lost, lost);
        self.advance(lost);
        Resync { from, to: oldest - 1 }
    }
}

/// How many events like these make a batch.
fn batch_behind(events: &VecDeque<Arc<Envelope>>) -> Option<usize> {
    let bytes: usize = events.iter().map(|envelope| envelope.event.weight()).sum();
    Some((BATCH_BYTES * events.len()).checked_div(bytes)?.clamp(1, GREATEST_BATCH))
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.lane.0.lock();
        let left = state.ring.next() - self.next.load(Ordering::Acquire);
        self.edge.drop_for(DropReason::Abandoned, left);
        state.readers.retain(|reader| !std::ptr::eq(reader.next.as_ptr(), Arc::as_ptr(&self.next)));
        drop(state);
        self.lane.0.advanced.notify_waiters();
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use futures_util::FutureExt;
    use headwater_events::{BusEvent, RunId};

    use super::*;
    use crate::edge::{Channel, OverflowPolicy, Topology};

    /// Answers when it may, and counts how often it was asked.
    struct Slow {
        asked: AtomicU64,
        may_answer: Mutex<std::sync::mpsc::Receiver<()>>,
    }

    impl Backlog for Slow {
        fn read(&self, from: u64, limit: usize) -> Result<Vec<Arc<Envelope>>, BacklogError> {
            self.asked.fetch_add(1, Ordering::AcqRel);
            let may_answer = self.may_answer.lock().expect("nobody panics");
            may_answer.recv().expect("the test lives");
            Ok((from..).take(limit).map(envelope).collect())
        }
    }

    fn envelope(seq: u64) -> Arc<Envelope> {
        Arc::new(Envelope { run_id: RunId(0), seq, received_at: 0, derived: None, event: BusEvent::Shutdown })
    }

    #[test]
    fn who_was_woken_by_the_later_of_two_announcements_gets_both_events() {
        let lane = Lane::new(1, 16, 1 << 20, None);
        let edge = Topology::new().edge("bus", "a", "events", Channel::Broadcast, 16, OverflowPolicy::Wait);
        let mut reader = lane.reader(edge).expect("the lane is open");
        let mut waiting = Box::pin(reader.wake());
        assert_eq!(waiting.as_mut().now_or_never(), None, "there is nothing yet");
        let published = [1, 2].map(envelope).map(|envelope| {
            let (position, _) = lane.remember(&envelope, 0).expect("the lane is open");
            (position, envelope)
        });
        for (position, envelope) in published.iter().rev() {
            lane.announce(*position, envelope);
        }
        assert_eq!(waiting.now_or_never(), Some(()));
        let mut seqs = Vec::new();
        while let Some(Some(Delivery::Event(envelope))) = reader.next().now_or_never() {
            seqs.push(envelope.seq);
        }
        assert_eq!(seqs, [1, 2]);
    }

    #[tokio::test]
    async fn a_reader_that_is_cancelled_again_and_again_asks_the_backlog_once() {
        let (may_answer, waiting) = std::sync::mpsc::sync_channel(1);
        let backlog = Arc::new(Slow { asked: AtomicU64::new(0), may_answer: Mutex::new(waiting) });
        let weight = envelope(1).event.weight();
        let lane = Lane::new(1, 16, weight, Some(Arc::clone(&backlog) as Arc<dyn Backlog>));
        let edge = Topology::new().edge("bus", "a", "events", Channel::Broadcast, 16, OverflowPolicy::Wait);
        let mut reader = lane.reader(edge).expect("the lane is open");
        for seq in 1..=40 {
            let envelope = envelope(seq);
            let (position, _) = lane.remember(&envelope, u64::MAX).expect("the lane is open");
            lane.announce(position, &envelope);
        }
        for _ in 0..10 {
            assert!(reader.next().now_or_never().is_none(), "the backlog waits");
        }
        may_answer.send(()).expect("it waits");
        let Some(Delivery::Event(first)) = reader.next().await else { panic!("there are events") };
        assert_eq!((first.seq, backlog.asked.load(Ordering::Acquire)), (1, 1));
    }
}
