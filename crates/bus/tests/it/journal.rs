//! What the bus does with a journal that is slow.

use std::time::Duration;

use headwater_bus::clock;

use crate::{Kept, Setup, event, events};

#[tokio::test(start_paused = true)]
async fn a_journal_that_stalls_is_said_and_loses_nothing() {
    let (kept, recorder) = Kept::new(2);
    let setup = Setup::new(100, Some(recorder), Some(kept.clone()));
    let mut stalled = setup.bus.journal_stalled();
    setup.publish(1).await;
    setup.publish(2).await;
    assert!(!*stalled.borrow(), "the queue holds two");

    let publisher = setup.bus.publisher();
    let before = clock::now();
    let third = tokio::spawn(async move { publisher.publish(event(3), None).await });
    stalled.wait_for(|stalled| *stalled).await.expect("the bus lives");
    assert_eq!(before.elapsed().as_millis(), 250);
    assert!(!third.is_finished(), "an event that is not on its way to the record is not broadcast");

    kept.record();
    assert_eq!(third.await.expect("it ends"), Ok(3));
    assert!(!*stalled.borrow(), "it keeps up again");
    assert_eq!(setup.take_rest().await, events(1..=3));
    kept.record();
    assert_eq!(kept.envelopes.lock().expect("no panic holds it").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_gone_stops_the_acting_side_and_not_the_flow() {
    let (kept, recorder) = Kept::new(2);
    let setup = Setup::new(100, Some(recorder), None);
    kept.queue.lock().expect("no panic holds it").close();
    setup.publish(1).await;
    setup.publish(2).await;
    assert!(*setup.bus.journal_stalled().borrow());
    assert_eq!(setup.take_rest().await, events(1..=2));
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_slow_but_in_time_is_not_stalled() {
    let (kept, recorder) = Kept::new(1);
    let setup = Setup::new(100, Some(recorder), Some(kept.clone()));
    let stalled = setup.bus.journal_stalled();
    setup.publish(1).await;
    let publisher = setup.bus.publisher();
    let second = tokio::spawn(async move { publisher.publish(event(2), None).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    kept.record();
    assert_eq!(second.await.expect("it ends"), Ok(2));
    assert!(!stalled.has_changed().expect("the bus lives"), "nobody was told to stop");
}
