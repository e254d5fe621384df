//! A reader that is a hundred times too slow, on a broadcast of sixteen.

use std::sync::atomic::Ordering;

use headwater_bus::{DropReason, Resync};

use crate::{Kept, Seen, Setup, events};

const EVENTS: u64 = 3000;

/// Publishes; the reader takes one for every hundred that are published.
async fn publish_a_hundred_times_too_fast(setup: &Setup, kept: Option<&Kept>) -> Vec<Seen> {
    let mut seen = Vec::new();
    for number in 1..=EVENTS {
        setup.publish(number).await;
        kept.inspect(|kept| kept.record());
        if number % 100 == 0 {
            seen.extend(setup.take().await);
        }
    }
    seen
}

/// Checks that what was delivered and what was told to be gone follow each other without overlap or hole; says how
/// many events each were.
fn tiles(seen: &[Seen], expected: std::ops::RangeInclusive<u64>) -> (u64, u64) {
    let (mut next, mut delivered, mut gone) = (*expected.start(), 0, 0);
    for seen in seen {
        match *seen {
            Seen::Event(seq) => {
                assert_eq!(seq, next);
                delivered += 1;
                next += 1;
            }
            Seen::Gone(Resync { from, to }) => {
                assert_eq!(from, next, "the hole begins right behind what was delivered");
                assert!(to >= from);
                gone += to - from + 1;
                next = to + 1;
            }
        }
    }
    assert_eq!(next, expected.end() + 1, "nothing is missing at the end");
    (delivered, gone)
}

#[tokio::test]
async fn the_ring_repairs_every_lag_in_order_and_once() {
    let setup = Setup::new(10_000, None, None);
    let mut seen = publish_a_hundred_times_too_fast(&setup, None).await;
    assert_eq!(seen.len(), 30, "it was slow");
    seen.extend(setup.take_rest().await);
    assert_eq!(seen, events(1..=EVENTS));
    setup.assert_conserved();
}

#[tokio::test]
async fn the_journal_repairs_what_the_ring_no_longer_has() {
    let (kept, recorder) = Kept::new(16);
    let setup = Setup::new(20, Some(recorder), Some(kept.clone()));
    let mut seen = publish_a_hundred_times_too_fast(&setup, Some(&kept)).await;
    seen.extend(setup.take_rest().await);
    assert_eq!(seen, events(1..=EVENTS));
    assert!(kept.reads.load(Ordering::Relaxed) >= EVENTS / 256, "the ring cannot have had them");
    setup.assert_conserved();
}

#[tokio::test]
async fn beyond_ring_and_journal_the_reader_is_told_exactly_what_is_gone() {
    let setup = Setup::new(50, None, None);
    setup.publish(1).await;
    assert_eq!(setup.take().await, Some(Seen::Event(1)));
    for number in 2..=1000 {
        setup.publish(number).await;
    }
    let (delivered, gone) = tiles(&setup.take_rest().await, 2..=1000);
    assert!(gone > 0, "the ring holds fifty");
    let bus_edge = &setup.topology.report()[1];
    assert_eq!((bus_edge.counts.accepted, bus_edge.counts.processed), (1000, 1 + delivered));
    assert_eq!(bus_edge.counts.dropped_for(DropReason::Lost), gone);
    setup.assert_conserved();
}

#[tokio::test]
async fn a_journal_that_has_let_go_of_it_is_no_repair() {
    let (kept, recorder) = Kept::new(16);
    let setup = Setup::new(50, Some(recorder), Some(kept.clone()));
    kept.oldest.store(500, Ordering::Relaxed);
    for number in 1..=1000 {
        setup.publish(number).await;
        kept.record();
    }
    let (_, gone) = tiles(&setup.take_rest().await, 1..=1000);
    assert!(gone > 0 && kept.reads.load(Ordering::Relaxed) > 0);
    setup.assert_conserved();
}

#[tokio::test]
async fn one_slow_reader_does_not_hold_up_another() {
    let setup = Setup::new(10_000, None, None);
    let quick = headwater_bus::Mailbox::<crate::Got>::new(&setup.topology, "quick", 64);
    setup.bus.feed(quick.waiting("bus", "source events"), |_| true);
    let quick = quick.into_inbox();
    for number in 1..=EVENTS {
        setup.publish(number).await;
        let mut inbox = quick.lock().await;
        assert!(inbox.fill().await);
        assert_eq!(headwater_bus::Message::seq(inbox.front().expect("it is there")), Some(number));
        inbox.complete();
    }
    assert_eq!(setup.take_rest().await, events(1..=EVENTS));
    setup.assert_conserved();
}

#[tokio::test]
async fn a_reader_that_is_gone_counts_what_it_left() {
    let setup = Setup::new(10_000, None, None);
    for number in 1..=10 {
        setup.publish(number).await;
    }
    assert_eq!(setup.take().await, Some(Seen::Event(1)));
    let Setup { bus, topology, inbox } = setup;
    drop(inbox);
    // It notices when it wants to hand over the next.
    bus.settle().await;
    while topology.report().iter().any(|edge| !edge.counts.conserved()) {
        tokio::task::yield_now().await;
    }
    let abandoned: u64 =
        topology.report().iter().map(|edge| edge.counts.dropped_for(DropReason::Abandoned)).sum();
    assert!(abandoned > 0);
    bus.publisher().publish(crate::event(11), None).await.expect("the bus does not need readers");
}
