use std::sync::{Arc, Mutex};
use std::time::Duration;

use headwater_bus::{BusConfig, EventBus, EventHandler, HandlerReport, Timeline, Topology};
use headwater_events::{BusEvent, Envelope, Health, HealthEvent};

use crate::event;

/// What a handler saw: the sequence number, and the index of what was derived.
type Seen = (u64, Option<u32>);

/// Notes everything, and misbehaves as it is told.
#[derive(Clone)]
struct Notes {
    seen: Arc<Mutex<Vec<Seen>>>,
    /// How often it lets others go first before it takes an event.
    hesitation: usize,
    misbehave: fn(&Envelope) -> anyhow::Result<()>,
}

impl Notes {
    fn new(hesitation: usize, misbehave: fn(&Envelope) -> anyhow::Result<()>) -> Self {
        Self { seen: Arc::default(), hesitation, misbehave }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic holds it").clone()
    }
}

impl EventHandler for Notes {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        for _ in 0..self.hesitation {
            tokio::task::yield_now().await;
        }
        let seen = (envelope.seq, envelope.derived.as_ref().map(|(_, index)| *index));
        self.seen.lock().expect("no panic holds it").push(seen);
        (self.misbehave)(envelope)
    }
}

fn bus() -> (EventBus, Topology) {
    let topology = Topology::new();
    let config = BusConfig { capacity: 16, ..BusConfig::default() };
    (EventBus::new(&config, &topology, &Timeline::default(), None, None), topology)
}

fn conclusion() -> BusEvent {
    BusEvent::HealthCheck(HealthEvent { component: "test".into(), health: Health::Running })
}

/// Publishes source events, two conclusions after each, and closes the bus at once.
async fn publish(bus: &EventBus, events: u64) {
    let (publisher, derived) = (bus.publisher(), bus.derived("test"));
    for number in 1..=events {
        let seq = publisher.publish(event(number), None).await.expect("open");
        derived.publish(seq, 0, [conclusion(), conclusion()]).expect("open");
        tokio::task::yield_now().await;
    }
    bus.close_source();
    bus.close_derived();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_derived_comes_after_its_cause_and_nothing_is_missing_at_the_end() {
    let (bus, topology) = bus();
    let notes = Notes::new(3, |_| Ok(()));
    let handler = bus.register("notes", notes.clone());
    publish(&bus, 2000).await;
    let report = handler.await.expect("it ends");
    assert_eq!((report.handled, report.lost), (6000, 0));
    let (mut causes, mut conclusions) = (0, Vec::new());
    for (seq, index) in notes.seen() {
        match index {
            None => {
                assert_eq!(seq, causes + 1);
                causes = seq;
            }
            Some(index) => {
                assert!(seq <= causes, "a conclusion from {seq} came when {causes} was the last cause");
                conclusions.push((seq, index));
            }
        }
    }
    assert_eq!(causes, 2000);
    assert!(conclusions.is_sorted() && conclusions.len() == 4000);
    assert!(topology.report().iter().all(|edge| edge.counts.conserved()));
}

#[tokio::test]
async fn a_handler_that_fails_or_panics_disturbs_nobody() {
    let (bus, topology) = bus();
    let bad = Notes::new(0, |envelope| match envelope.seq % 5 {
        0 => panic!("every fifth"),
        1 => anyhow::bail!("every sixth but one"),
        _ => Ok(()),
    });
    let good = Notes::new(0, |_| Ok(()));
    let (bad_runs, good_runs) = (bus.register("bad", bad.clone()), bus.register("good", good.clone()));
    publish(&bus, 100).await;
    let (bad_report, good_report) = (bad_runs.await.expect("it ends"), good_runs.await.expect("it ends"));
    assert_eq!((bad_report.handled, bad_report.failed, bad_report.panicked), (180, 60, 60));
    assert_eq!((good_report.handled, good_report.failed, good_report.panicked), (300, 0, 0));
    assert_eq!(bad.seen(), good.seen(), "after a failure the next event follows");
    assert!(topology.report().iter().all(|edge| edge.counts.conserved()));
}

#[tokio::test]
async fn an_origin_that_repeats_itself_after_a_restart_is_heard_once() {
    let (bus, _) = bus();
    let notes = Notes::new(0, |_| Ok(()));
    let handler = bus.register("notes", notes.clone());
    let seq = bus.publisher().publish(event(1), None).await.expect("open");
    let origin = bus.derived("test");
    origin.publish(seq, 0, [conclusion(), conclusion()]).expect("open");
    // The next incarnation says it all again, and a little more.
    let next = bus.derived("test");
    next.publish(seq, 0, [conclusion(), conclusion(), conclusion()]).expect("open");
    bus.derived("another").publish(seq, 0, [conclusion()]).expect("open");
    bus.close_source();
    bus.close_derived();
    handler.await.expect("it ends");
    assert_eq!(notes.seen(), [(1, None), (1, Some(0)), (1, Some(1)), (1, Some(2)), (1, Some(0))]);
}

#[tokio::test]
async fn a_closed_bus_takes_nothing() {
    let (bus, _) = bus();
    bus.close_source();
    bus.close_derived();
    assert!(bus.publisher().publish(event(1), None).await.is_err());
    assert!(bus.derived("test").publish(1, 0, [conclusion()]).is_err());
    let report = bus.register("late", Notes::new(0, |_| Ok(()))).await.expect("it ends");
    assert_eq!(report.handled, 0);
}

#[tokio::test]
async fn a_source_that_settles_overruns_nobody() {
    let (bus, topology) = bus();
    let notes = Notes::new(20, |_| Ok(()));
    let handler = bus.register("notes", notes.clone());
    let publisher = bus.publisher();
    for number in 1..=500 {
        publisher.publish(event(number), None).await.expect("open");
        publisher.settle().await;
        assert!(number - notes.seen().len() as u64 <= 9, "half a broadcast, and the one in hand");
    }
    bus.close_source();
    bus.close_derived();
    assert_eq!(handler.await.expect("it ends").handled, 500);
    assert!(topology.report().iter().all(|edge| edge.counts.conserved()));
}

/// Has something to do twice after the last event, and fails the first time if it is told to.
struct Ripening {
    left: u32,
    fails: bool,
    lulls: Arc<Mutex<u32>>,
}

impl EventHandler for Ripening {
    async fn handle(&mut self, _: &Envelope) -> anyhow::Result<()> {
        self.left = 2;
        Ok(())
    }

    async fn lull(&mut self) -> anyhow::Result<bool> {
        *self.lulls.lock().expect("no panic holds it") += 1;
        anyhow::ensure!(!self.fails, "unripe");
        self.left = self.left.saturating_sub(1);
        Ok(self.left > 0)
    }
}

async fn lulls(fails: bool) -> (u32, HandlerReport) {
    let (bus, _) = bus();
    let lulls = Arc::new(Mutex::new(0));
    let handler = bus.register("ripening", Ripening { left: 0, fails, lulls: Arc::clone(&lulls) });
    for number in 1..=2 {
        bus.publisher().publish(event(number), None).await.expect("open");
        // The clock is paused: this is as long as nothing else happens.
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    bus.close_source();
    bus.close_derived();
    let report = handler.await.expect("it ends");
    let lulls = *lulls.lock().expect("no panic holds it");
    (lulls, report)
}

#[tokio::test(start_paused = true)]
async fn in_a_lull_a_handler_is_called_until_it_has_nothing_left_to_do() {
    let (lulls, report) = lulls(false).await;
    assert_eq!((lulls, report.handled, report.failed), (4, 2, 0), "twice after each event");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_fails_in_a_lull_goes_on_with_the_next_event() {
    let (lulls, report) = lulls(true).await;
    assert_eq!((lulls, report.handled, report.failed), (2, 2, 2), "once after each event");
}
