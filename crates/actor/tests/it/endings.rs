use std::sync::atomic::Ordering;

use headwater_actor::{Command, Exit, RestartPolicy, System};
use headwater_bus::{DropReason, Mailbox, Topology};

use crate::{Deed, Noting, Number, Record, Stage, spawn};

#[tokio::test]
async fn a_drain_processes_everything_that_was_accepted() {
    let stage = Stage::new(500, RestartPolicy::default(), |_, _| Deed::Note).await;
    stage.send(1..=500).await;
    stage.actor.control().tell(Command::Drain);
    assert_eq!(stage.actor.control().ended().await, Exit::Drained);
    assert_eq!(stage.record.noted().len(), 500);
    assert_eq!(stage.record.finished.load(Ordering::Relaxed), 1);
    assert_eq!(stage.actor.observed(), Some(500));
    assert!(stage.numbers.send(Number(501)).await.is_err());
    stage.assert_conserved();
}

#[tokio::test]
async fn a_drain_that_is_told_before_the_actor_stands_is_heeded() {
    let stage = Stage::new(8, RestartPolicy::default(), |_, _| Deed::Note).await;
    stage.actor.control().tell(Command::Drain);
    assert_eq!(stage.actor.control().ended().await, Exit::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_drain_survives_a_panic() {
    let plan = |number, tries| if (number, tries) == (2, 0) { Deed::Panic } else { Deed::Note };
    let stage = Stage::new(8, RestartPolicy::default(), plan).await;
    stage.send(1..=4).await;
    stage.actor.control().tell(Command::Drain);
    assert_eq!(stage.actor.control().ended().await, Exit::Drained);
    assert_eq!(stage.record.noted(), [1, 2, 3, 4]);
    stage.assert_conserved();
}

#[tokio::test]
async fn a_stop_gives_up_what_is_left_and_counts_it() {
    let plan = |number, _| if number == 10 { Deed::Hold } else { Deed::Note };
    let stage = Stage::new(500, RestartPolicy::default(), plan).await;
    stage.send(1..=500).await;
    stage.record.in_hand(10).await;
    stage.actor.control().tell(Command::Stop);
    assert_eq!(stage.actor.control().ended().await, Exit::Stopped);
    let counts = stage.numbers.edge().counts();
    assert_eq!((counts.processed, counts.dropped_for(DropReason::Abandoned)), (9, 491));
    assert_eq!(stage.record.finished.load(Ordering::Relaxed), 0);
    stage.assert_conserved();
}

#[tokio::test]
async fn a_stop_overrules_a_drain_and_not_the_other_way_round() {
    let plan = |number, _| if number == 1 { Deed::Hold } else { Deed::Note };
    let stage = Stage::new(8, RestartPolicy::default(), plan).await;
    stage.send(1..=3).await;
    stage.record.begun.notified().await;
    stage.actor.control().tell(Command::Drain);
    stage.actor.control().tell(Command::Stop);
    stage.actor.control().tell(Command::Drain);
    assert_eq!(stage.actor.control().ended().await, Exit::Stopped);
    stage.assert_conserved();
}

#[tokio::test]
async fn the_end_of_the_first_drains_the_whole_chain_in_the_order_of_the_data() {
    let (system, topology) = (System::start().await.expect("the root starts"), Topology::new());
    let mailboxes = ["first", "second", "third"].map(|name| Mailbox::new(&topology, name, 4));
    let head = mailboxes[0].waiting("test", "numbers");
    let next = [
        Some(mailboxes[1].waiting("first", "numbers")),
        Some(mailboxes[2].waiting("second", "numbers")),
        None,
    ];
    let record = Record::new();
    let actors: Vec<_> = mailboxes
        .into_iter()
        .zip(next)
        .map(|(mailbox, next)| {
            let plan = |_, _| Deed::Note;
            spawn(&system, mailbox, RestartPolicy::default(), &record, plan, next)
        })
        .collect();
    for number in 1..=1000 {
        head.send(Number(number)).await.expect("open");
    }
    drop(head);
    let mut ended = Vec::new();
    for actor in &actors {
        assert_eq!(actor.control().ended().await, Exit::Drained);
        ended.push(actor.control().status().processed);
        assert_eq!(*ended.last().expect("just pushed"), 1000);
    }
    assert_eq!(record.noted().len(), 3000);
    assert_eq!(record.finished.load(Ordering::Relaxed), 3);
    assert!(topology.report().iter().all(|edge| edge.counts.accepted == 1000 && edge.counts.conserved()));
}

#[tokio::test]
async fn what_a_newer_one_makes_pointless_is_skipped_and_counted() {
    let (system, topology, record) =
        (System::start().await.expect("the root starts"), Topology::new(), Record::new());
    let mailbox = Mailbox::new(&topology, "noting", 16);
    let numbers = mailbox.waiting("test", "numbers");
    for number in 1..=10 {
        numbers.send(Number(number)).await.expect("open");
    }
    let for_actor = record.clone();
    let actor = system.spawn(mailbox, RestartPolicy::default(), move |_| {
        let plan = |_, _| Deed::Note;
        let noting = Noting { record: for_actor.clone(), plan, next: None, supersedes: true };
        async { Ok(noting) }
    });
    let edge = numbers.edge().clone();
    drop(numbers);
    assert_eq!(actor.control().ended().await, Exit::Drained);
    assert_eq!(record.noted(), [10]);
    let counts = edge.counts();
    assert_eq!((counts.processed, counts.dropped_for(DropReason::Superseded)), (1, 9));
}

#[tokio::test]
async fn the_end_of_the_system_ends_every_actor() {
    let stage = Stage::new(8, RestartPolicy::default(), |_, _| Deed::Hang).await;
    stage.send([1]).await;
    stage.record.begun.notified().await;
    stage.system.end();
    // Its mailbox falls with it.
    while stage.numbers.send(Number(2)).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
