//! The lane and the mailbox under thousands of schedules: at each lock, atomic and await of ours, shuttle decides who goes on.
//!
//! `cargo test -p headwater-bus --features shuttle --lib schedules`. A schedule that fails is printed, and is replayed with
//! `shuttle::replay`. Tokio's channels are taken as they are: each of their operations is one step.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64 as Counter, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use headwater_events::{BusEvent, Envelope, RunId};
use shuttle::future::{block_on, spawn, yield_now};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};

use crate::backlog::{Backlog, BacklogError};
use crate::edge::{Channel, DropReason, Edge, OverflowPolicy, Topology};
use crate::lane::{Delivery, Lane};
use crate::mailbox::{Inbox, Mailbox, Message};
use crate::sync::{AtomicU64, Mutex};

/// Of each of the two ways to choose one.
const SCHEDULES: usize = 3_000;

const SEED: u64 = 0x6865_6164_7761_7465;

/// At random, and with few changes at places of chance (PCT), which finds what needs one particular order. Gives the sum of
/// what the runs count.
fn explore(test: impl Fn() -> u64 + Send + Sync + 'static) -> u64 {
    let (test, runs, sum) = (Arc::new(test), Arc::new(Counter::new(0)), Arc::new(Counter::new(0)));
    let counted = || {
        let (test, runs, sum) = (Arc::clone(&test), Arc::clone(&runs), Arc::clone(&sum));
        move || {
            sum.fetch_add(test(), Ordering::Relaxed);
            runs.fetch_add(1, Ordering::Relaxed);
        }
    };
    let config = shuttle::Config::default;
    shuttle::Runner::new(RandomScheduler::new_from_seed(SEED, SCHEDULES), config()).run(counted());
    shuttle::Runner::new(PctScheduler::new_from_seed(SEED, 4, SCHEDULES), config()).run(counted());
    assert_eq!(runs.load(Ordering::Relaxed), 2 * SCHEDULES as u64);
    sum.load(Ordering::Relaxed)
}

/// Events that a publisher says in a run.
const EVENTS: u64 = 12;

fn envelope(seq: u64) -> Arc<Envelope> {
    Arc::new(Envelope { run_id: RunId(0), seq, received_at: 0, derived: None, event: BusEvent::Shutdown })
}

/// A journal that is written behind the publisher.
#[derive(Default)]
struct Record {
    events: Mutex<Vec<Arc<Envelope>>>,
    recorded: AtomicU64,
    /// Older ones are no longer kept.
    oldest: u64,
}

impl Record {
    fn append(&self, envelope: Arc<Envelope>) {
        let seq = envelope.seq;
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(envelope);
        self.recorded.store(seq, Ordering::Release);
    }
}

impl Backlog for Record {
    fn read(&self, from: u64, limit: usize) -> Result<Vec<Arc<Envelope>>, BacklogError> {
        if from < self.oldest {
            return Err(BacklogError::Gone { wanted: from, oldest: self.oldest });
        }
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(events.iter().filter(|envelope| envelope.seq >= from).take(limit).cloned().collect())
    }
}

fn edge(topology: &Topology, to: &'static str) -> Arc<Edge> {
    topology.edge("bus", to, "events", Channel::Broadcast, 2, OverflowPolicy::Repair)
}

/// A reader that comes when it comes and pauses as long as it likes. Gets everything in order, once, or hears what is gone;
/// leaves after `most` deliveries. Says how often something was gone.
async fn read(lane: Lane, edge: Arc<Edge>, most: usize) -> u64 {
    let Some(mut reader) = lane.reader(edge) else { return 0 };
    let (mut due, mut resyncs) = (None, 0);
    for _ in 0..most {
        if thread_rng().gen_range(0..3) == 0 {
            reader.wake().await;
        }
        let Some(delivery) = reader.next().await else {
            // To the last that was published.
            assert!(due.is_none_or(|due| due == lane.next_position()), "{due:?}: the end comes early");
            return resyncs;
        };
        let (from, to) = match delivery {
            Delivery::Event(envelope) => (envelope.seq, envelope.seq),
            Delivery::Resync(gone) => {
                resyncs += 1;
                (gone.from, gone.to)
            }
        };
        assert!(from <= to && due.is_none_or(|due| due == from), "{from} to {to} where {due:?} is due");
        due = Some(to + 1);
        for _ in 0..thread_rng().gen_range(0..6) {
            yield_now().await;
        }
    }
    resyncs
}

/// A publisher, a journal behind it, readers of every kind, and perhaps somebody who closes the lane at any time. Says how
/// often something was gone.
fn a_lane(oldest: u64, closes_early: bool) -> u64 {
    let record = Arc::new(Record { oldest, ..Record::default() });
    let ring = BusEvent::Shutdown.weight() * 2;
    let lane = Lane::new(1, 2, ring, Some(Arc::clone(&record) as Arc<dyn Backlog>));
    let topology = Topology::new();
    let readers: Vec<_> = [("whole", usize::MAX), ("other", usize::MAX), ("leaves", 3)]
        .into_iter()
        .map(|(name, most)| spawn(read(lane.clone(), edge(&topology, name), most)))
        .collect();
    let publisher = spawn({
        let (lane, record) = (lane.clone(), Arc::clone(&record));
        async move {
            for seq in 1..=EVENTS {
                let recorded = record.recorded.load(Ordering::Acquire);
                let envelope = envelope(seq);
                let Ok((position, _)) = lane.remember(&envelope, recorded) else { return };
                record.append(Arc::clone(&envelope));
                yield_now().await;
                lane.announce(position, &envelope);
            }
            // What was announced is read without anything that comes after it.
            if thread_rng().gen_range(0..2) == 0 {
                lane.readers_within(0).await;
            }
            lane.close();
        }
    });
    let resyncs = block_on(async {
        if closes_early {
            lane.close();
        } else {
            lane.readers_within(2).await;
        }
        publisher.await.expect("it publishes");
        let mut resyncs = 0;
        for reader in readers {
            resyncs += reader.await.expect("it reads");
        }
        resyncs
    });
    for edge in topology.report() {
        assert!(edge.counts.conserved(), "{edge:?}");
        assert!(
            resyncs > 0 || edge.counts.dropped_for(DropReason::Lost) == 0,
            "lost without a word: {edge:?}"
        );
    }
    resyncs
}

#[test]
fn schedules_of_readers_that_lag_come_and_leave() {
    assert_eq!(explore(|| a_lane(0, false)), 0);
}

#[test]
fn schedules_of_readers_behind_which_events_are_gone() {
    let resyncs = explore(|| a_lane(EVENTS, false));
    assert!(resyncs > 100, "only {resyncs} had something to tell");
}

#[test]
fn schedules_of_a_lane_that_is_closed_meanwhile() {
    assert_eq!(explore(|| a_lane(0, true)), 0);
}

/// A message of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Note {
    sender: u8,
    seq: u64,
}

impl Message for Note {
    fn seq(&self) -> Option<u64> {
        Some(self.seq)
    }
}

/// Dies at an await of chance, if it does not end before.
struct Mortal<F> {
    work: Pin<Box<F>>,
    polls: u32,
}

impl<F: Future> Future for Mortal<F> {
    /// `None`: it died.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        match self.work.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // It may also die of nothing.
            Poll::Pending if self.polls == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

type Handled = Arc<Mutex<BTreeMap<Note, u32>>>;

/// One life of an actor: handles what comes, each in three steps, between which it may die.
async fn incarnation(inbox: Arc<tokio::sync::Mutex<Inbox<Note>>>, handled: Handled) {
    let mut inbox = Inbox::lock(&inbox).await;
    while inbox.fill().await {
        while let Some(note) = inbox.front().copied() {
            inbox.attempt();
            yield_now().await;
            *handled.lock().unwrap_or_else(PoisonError::into_inner).entry(note).or_default() += 1;
            yield_now().await;
            inbox.complete();
        }
    }
}

/// Two senders, one of which waits, says some things twice and one of which drops; an actor that dies again and again. Says how often
/// a message was handled anew.
fn a_mailbox() -> u64 {
    let topology = Topology::new();
    let mailbox = Mailbox::new(&topology, "actor", 2);
    let (waiting, dropping) = (mailbox.waiting("patient", "notes"), mailbox.dropping("hasty", "notes"));
    let inbox = mailbox.into_inbox();
    let (handled, taken) = (Handled::default(), Handled::default());
    let patient = spawn(async move {
        for seq in [1, 2, 2, 3, 1, 4, 5] {
            waiting.send(Note { sender: 0, seq }).await.expect("the mailbox outlives the actor");
        }
    });
    let hasty = spawn({
        let taken = Arc::clone(&taken);
        async move {
            for seq in 1..=5 {
                let note = Note { sender: 1, seq };
                if dropping.offer(note).expect("the mailbox outlives the actor") {
                    taken.lock().unwrap_or_else(PoisonError::into_inner).insert(note, 1);
                }
                yield_now().await;
            }
        }
    });
    let mut deaths = 0;
    block_on(async {
        while deaths < 6 {
            let work = Box::pin(incarnation(Arc::clone(&inbox), Arc::clone(&handled)));
            let polls = thread_rng().gen_range(1..12);
            if (Mortal { work, polls }).await.is_some() {
                break;
            }
            deaths += 1;
        }
        if deaths == 6 {
            incarnation(Arc::clone(&inbox), Arc::clone(&handled)).await;
        }
        patient.await.expect("it sends");
        hasty.await.expect("it sends");
    });
    let handled = handled.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    let due = (1..=5).map(|seq| Note { sender: 0, seq }).chain(taken.keys().copied());
    assert!(handled.keys().copied().eq(due), "handled: {handled:?}; taken: {taken:?}");
    let again: u32 = handled.values().map(|times| times - 1).sum();
    assert!(again <= deaths, "{again} handled again after {deaths} deaths");
    for edge in topology.report() {
        assert!(edge.counts.conserved(), "{edge:?}");
        let processed = if edge.from == "patient" { 5 } else { taken.len() as u64 };
        assert_eq!(edge.counts.processed, processed, "{edge:?}");
        let repeated = if edge.from == "patient" { 2 } else { 0 };
        assert_eq!(edge.counts.dropped_for(DropReason::Repeated), repeated, "{edge:?}");
    }
    u64::from(again)
}

#[test]
fn schedules_of_an_actor_that_dies_with_messages_in_hand() {
    let again = explore(a_mailbox);
    assert!(again > 100, "only {again} messages had to be handled anew");
}
