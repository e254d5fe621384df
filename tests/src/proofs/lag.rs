//! A reader that is a hundred times too slow gets every event, or is told exactly which it will never get.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, ensure};
use headwater_bus::{
    Backlog, BacklogError, BusConfig, Delivery, DropReason, EventBus, EventHandler, Inbox, Mailbox, Message,
    Recorder, Resync, Timeline, Topology,
};
use headwater_events::{BusEvent, Envelope, Reconnected, RunId};
use headwater_journal::{Journal, JournalConfig, JournalWriter, Recording};
use tokio::sync::{Mutex, Semaphore};

use crate::proof::{Proof, ProofArgs, Report};
use crate::replayed::runtime;

/// Lag, on a broadcast of sixteen.
pub const LAG: Proof = Proof {
    name: "lag",
    about: "readers 100 times too slow on a broadcast of 16: every event once, in order, or an exact Resync",
    full_duration: "20 s",
    run,
};

/// Events that a broadcast holds.
const BROADCAST: usize = 16;
/// Events published for each that is read.
const TOO_SLOW: u64 = 100;
/// Events that a small ring holds.
const SMALL: usize = 50;

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let (events, floor) = if args.quick { (20_000, 100_000) } else { (200_000, 1_000_000) };
    let mut report = Report { floor, seed: args.seed, ..Report::default() };
    report.lines.push(format!(
        "{events} events, one read for every {TOO_SLOW} published, a broadcast of {BROADCAST}"
    ));
    runtime(2)?.block_on(async {
        repaired_by_the_ring(events, &mut report).await.context("the ring")?;
        repaired_by_the_journal(events, &mut report).await.context("the journal")?;
        slow_handler(events, &mut report).await.context("a handler")?;
        told_what_is_gone(events, &mut report).await.context("beyond the ring")?;
        frozen(events, &mut report).await.context("a reader that does not read")?;
        beyond_the_journal(events, &mut report).await.context("beyond the journal")
    })?;
    Ok(report)
}

async fn repaired_by_the_ring(events: u64, report: &mut Report) -> anyhow::Result<()> {
    let stage = Stage::new(events as usize, None, None);
    let seen = stage.publish_and_read(events).await?;
    let (delivered, gone) = tiles(&seen, 1..=events)?;
    ensure!((delivered, gone) == (events, 0), "{gone} events gone, and the ring had them");
    stage.ensure_conserved(events, gone)?;
    report.checked += delivered;
    report.lines.push(format!("ring: all {delivered} events, once and in order"));
    Ok(())
}

async fn repaired_by_the_journal(events: u64, report: &mut Report) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (writer, recorder) = journal(directory.path(), 1)?;
    let backlog = Counting::new(writer.backlog());
    let stage = Stage::new(SMALL, Some(recorder), Some(backlog.clone()));
    let seen = stage.publish_and_read(events).await?;
    let (delivered, gone) = tiles(&seen, 1..=events)?;
    ensure!((delivered, gone) == (events, 0), "{gone} events gone, and the journal had them");
    stage.ensure_conserved(events, gone)?;
    let repaired = backlog.events.load(Ordering::Relaxed);
    ensure!(repaired >= events / 2, "only {repaired} events came out of the journal: the lag was too small");
    drop(stage);
    writer.close().await?;
    let recorded = headwater_journal::verify(directory.path())?;
    ensure!(recorded.records == events, "{} of {events} events are recorded", recorded.records);
    report.checked += delivered;
    report.lines.push(format!(
        "journal: all {delivered} events, once and in order, {repaired} of them read from the journal while it was written"
    ));
    Ok(())
}

async fn slow_handler(events: u64, report: &mut Report) -> anyhow::Result<()> {
    let stage = Stage::new(events as usize, None, None);
    let handler = Slow::default();
    let ended = stage.bus.register("slow", handler.clone());
    for number in 1..=events {
        stage.publish(number).await?;
        if number % TOO_SLOW == 0 {
            handler.permits.add_permits(1);
        }
    }
    handler.permits.add_permits(events as usize);
    stage.bus.close_source();
    stage.bus.close_derived();
    let told = ended.await?;
    ensure!((told.handled, told.lost) == (events, 0), "{told:?}");
    ensure!(*handler.seen.lock().await == (1..=events).collect::<Vec<_>>(), "not in order, or not once");
    // The mailbox beside it, which nobody reads meanwhile, gets all as well.
    let (delivered, gone) = tiles(&stage.read_rest().await, 1..=events)?;
    ensure!(gone == 0, "{gone} events gone");
    stage.ensure_conserved(events, 0)?;
    report.checked += told.handled + delivered;
    report.lines.push(format!("handler: all {} events, once and in order", told.handled));
    Ok(())
}

async fn told_what_is_gone(events: u64, report: &mut Report) -> anyhow::Result<()> {
    let stage = Stage::new(SMALL, None, None);
    let seen = stage.publish_and_read(events).await?;
    let (delivered, gone) = tiles(&seen, 1..=events)?;
    ensure!(gone > events / 2, "only {gone} events gone from a ring of {SMALL}");
    stage.ensure_conserved(events, gone)?;
    let told = seen.iter().filter(|seen| matches!(seen, Seen::Gone(_))).count();
    report.checked += delivered + gone;
    report.lines.push(format!(
        "beyond the ring: {delivered} events in order, and {told} times Resync with the exact bounds of {gone} others"
    ));
    Ok(())
}

/// Of a reader that stands still it is known to the event what it misses: everything but what it had taken and what
/// the ring holds.
async fn frozen(events: u64, report: &mut Report) -> anyhow::Result<()> {
    let stage = Stage::new(SMALL, None, None);
    for number in 1..=events {
        stage.publish(number).await?;
    }
    let seen = stage.read_rest().await;
    let (delivered, gone) = tiles(&seen, 1..=events)?;
    let Some(Seen::Gone(last)) = seen.iter().rev().find(|seen| matches!(seen, Seen::Gone(_))) else {
        anyhow::bail!("a reader that stood still was told nothing");
    };
    ensure!(
        last.to == events - SMALL as u64,
        "the ring holds {SMALL}, and events up to {} are gone",
        last.to
    );
    stage.ensure_conserved(events, gone)?;
    report.checked += delivered + gone;
    report.lines.push(format!(
        "standing still: the last {SMALL} events, and Resync up to exactly the one before them"
    ));
    Ok(())
}

/// The journal reaches back, but not far enough: it begins with the second half.
async fn beyond_the_journal(events: u64, report: &mut Report) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let half = events / 2;
    let (writer, recorder) = journal(directory.path(), half + 1)?;
    let later = EventBus::new(
        &BusConfig { first_seq: half + 1, ..BusConfig::default() },
        &Topology::new(),
        &Timeline::default(),
        Some(recorder),
        None,
    );
    for number in half + 1..=events {
        later.publisher().publish(event(number), None).await?;
    }
    drop(later);
    writer.close().await?;
    let recording = Recording::open(directory.path())?;
    let backlog = Counting::new(recording.backlog(RunId(0)));
    let stage = Stage::new(SMALL, None, Some(backlog.clone()));
    let seen = stage.publish_and_read(events).await?;
    let (delivered, gone) = tiles(&seen, 1..=events)?;
    let told: Vec<_> =
        seen.iter().filter_map(|seen| if let Seen::Gone(gone) = seen { Some(*gone) } else { None }).collect();
    ensure!(
        told.last().is_some_and(|last| last.to <= half),
        "told to be gone, and the journal holds it: {:?}",
        told.last()
    );
    let repaired = backlog.events.load(Ordering::Relaxed);
    ensure!(repaired >= half / 2, "only {repaired} events came out of the journal");
    stage.ensure_conserved(events, gone)?;
    report.checked += delivered + gone;
    report.lines.push(format!(
        "beyond the journal, which begins with event {}: {gone} events told to be gone, {delivered} in order",
        half + 1
    ));
    Ok(())
}

fn journal(directory: &std::path::Path, first_seq: u64) -> anyhow::Result<(JournalWriter, Recorder)> {
    Ok(Journal::create(&JournalConfig::in_directory(directory), RunId(0), first_seq)?.start()?)
}

/// A source event that is told from others by its number.
fn event(number: u64) -> BusEvent {
    BusEvent::Reconnected(Reconnected { epoch: number, endpoint: 0 })
}

/// A delivery as it is compared; an event by the number that was published, which must be its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Event(u64),
    Gone(Resync),
}

/// Checks that what was delivered and what was told to be gone follow each other without overlap or hole; says how
/// many events each were.
fn tiles(seen: &[Seen], expected: RangeInclusive<u64>) -> anyhow::Result<(u64, u64)> {
    let (mut next, mut delivered, mut gone) = (*expected.start(), 0, 0);
    for seen in seen {
        match *seen {
            Seen::Event(number) => {
                ensure!(number == next, "event {number} comes where {next} was due");
                delivered += 1;
                next += 1;
            }
            Seen::Gone(Resync { from, to }) => {
                ensure!(
                    from == next && to >= from,
                    "{from} to {to} are told to be gone where {next} was due"
                );
                gone += to - from + 1;
                next = to + 1;
            }
        }
    }
    ensure!(next == expected.end() + 1, "it ends before {next}; {} was the last", expected.end());
    Ok((delivered, gone))
}

/// What the mailbox carries.
#[derive(Debug)]
struct Got(Delivery);

impl From<Delivery> for Got {
    fn from(delivery: Delivery) -> Self {
        Self(delivery)
    }
}

impl Message for Got {
    fn seq(&self) -> Option<u64> {
        Some(match &self.0 {
            Delivery::Event(envelope) => envelope.seq,
            Delivery::Resync(gone) => gone.to,
        })
    }
}

impl Got {
    fn seen(&self) -> Seen {
        match &self.0 {
            Delivery::Resync(gone) => Seen::Gone(*gone),
            // A place that is not the number shows as event 0, which is never due.
            Delivery::Event(envelope) => match &envelope.event {
                BusEvent::Reconnected(event) if event.epoch == envelope.seq => Seen::Event(envelope.seq),
                _ => Seen::Event(0),
            },
        }
    }
}

/// A bus with one mailbox that is read when it is told to.
struct Stage {
    bus: EventBus,
    topology: Topology,
    inbox: Arc<Mutex<Inbox<Got>>>,
}

impl Stage {
    fn new(ring_events: usize, recorder: Option<Recorder>, backlog: Option<Arc<dyn Backlog>>) -> Self {
        let topology = Topology::new();
        let ring_bytes = ring_events * event(0).weight();
        let config = BusConfig { capacity: BROADCAST, ring_bytes, ..BusConfig::default() };
        let bus = EventBus::new(&config, &topology, &Timeline::default(), recorder, backlog);
        let mailbox = Mailbox::new(&topology, "reader", 1);
        bus.feed::<Got>(mailbox.waiting("forwarder", "events"), |_| true);
        Self { bus, topology, inbox: mailbox.into_inbox() }
    }

    async fn publish(&self, number: u64) -> anyhow::Result<()> {
        let seq = self.bus.publisher().publish(event(number), None).await?;
        ensure!(seq == number, "event {number} got the number {seq}");
        Ok(())
    }

    /// Reads one for every hundred published, and the rest behind the last.
    async fn publish_and_read(&self, events: u64) -> anyhow::Result<Vec<Seen>> {
        let mut seen = Vec::new();
        for number in 1..=events {
            self.publish(number).await?;
            if number % TOO_SLOW == 0 {
                seen.extend(self.read().await);
            }
        }
        ensure!(seen.len() as u64 == events / TOO_SLOW, "it was not slow");
        seen.extend(self.read_rest().await);
        Ok(seen)
    }

    /// `None` at the end.
    async fn read(&self) -> Option<Seen> {
        let mut inbox = self.inbox.lock().await;
        if !inbox.fill().await {
            return None;
        }
        let seen = inbox.front().map(Got::seen);
        inbox.complete();
        seen
    }

    async fn read_rest(&self) -> Vec<Seen> {
        self.bus.close_source();
        let mut seen = Vec::new();
        while let Some(next) = self.read().await {
            seen.push(next);
        }
        seen
    }

    /// Every edge: accepted = processed + dropped; and what was dropped is what was told to be gone.
    fn ensure_conserved(&self, events: u64, gone: u64) -> anyhow::Result<()> {
        let edges = self.topology.report();
        ensure!(edges.iter().all(|edge| edge.counts.conserved()), "not conserved: {edges:?}");
        let from_bus =
            edges.iter().find(|edge| edge.from == "bus" && edge.to == "reader").context("the edge")?;
        let counts = from_bus.counts;
        ensure!(
            (counts.accepted, counts.dropped_for(DropReason::Lost)) == (events, gone)
                && counts.dropped_total() == gone,
            "{counts:?}, and {gone} of {events} events were told to be gone"
        );
        Ok(())
    }
}

/// A handler that needs a permit for every event.
#[derive(Clone)]
struct Slow {
    permits: Arc<Semaphore>,
    seen: Arc<Mutex<Vec<u64>>>,
}

impl Default for Slow {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(0)), seen: Arc::default() }
    }
}

impl EventHandler for Slow {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        self.permits.acquire().await?.forget();
        self.seen.lock().await.push(envelope.seq);
        Ok(())
    }
}

/// A backlog that counts what it gave.
struct Counting {
    inner: headwater_journal::JournalBacklog,
    events: AtomicU64,
}

impl Counting {
    fn new(inner: headwater_journal::JournalBacklog) -> Arc<Self> {
        Arc::new(Self { inner, events: AtomicU64::new(0) })
    }
}

impl Backlog for Counting {
    fn read(&self, from: u64, limit: usize) -> Result<Vec<Arc<Envelope>>, BacklogError> {
        let events = self.inner.read(from, limit)?;
        self.events.fetch_add(events.len() as u64, Ordering::Relaxed);
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_overlaps_and_repetitions_are_seen() {
        let gone = |from, to| Seen::Gone(Resync { from, to });
        let check = |seen: &[Seen], expected| assert_eq!(tiles(seen, 1..=5).ok(), expected, "{seen:?}");
        check(&[1, 2, 3, 4, 5].map(Seen::Event), Some((5, 0)));
        check(&[Seen::Event(1), gone(2, 4), Seen::Event(5)], Some((2, 3)));
        check(&[1, 2, 4, 5].map(Seen::Event), None);
        check(&[1, 2, 2, 3, 4, 5].map(Seen::Event), None);
        check(&[2, 1, 3, 4, 5].map(Seen::Event), None);
        check(&[1, 2, 3, 4].map(Seen::Event), None);
        check(&[Seen::Event(1), gone(2, 3), Seen::Event(5)], None);
        check(&[Seen::Event(1), gone(2, 5), Seen::Event(5)], None);
        check(&[Seen::Event(1), gone(1, 4), Seen::Event(5)], None);
    }
}
