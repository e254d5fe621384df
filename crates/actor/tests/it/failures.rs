use std::sync::atomic::Ordering;
use std::time::Duration;

use headwater_actor::{Command, Exit, Fault, Poison, Quarantined, RestartPolicy, System};
use headwater_bus::{DropReason, Mailbox, Topology};

use crate::{Deed, Noting, Number, Record, Stage};

const MANY: u64 = 20_000;

fn all_but(poison: u64) -> Vec<u64> {
    (1..=MANY).filter(|number| *number != poison).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_message_in_the_middle_is_all_that_is_lost() {
    let plan = |number, _| if number == MANY / 2 { Deed::Panic } else { Deed::Note };
    let stage = Stage::new(64, RestartPolicy::default(), plan).await;
    stage.send(1..=MANY).await;
    stage.actor.control().tell(Command::Drain);
    assert_eq!(stage.actor.control().ended().await, Exit::Drained);
    assert_eq!(stage.record.noted(), all_but(MANY / 2));
    let status = stage.actor.control().status();
    assert_eq!((status.processed, status.restarts, status.quarantined), (MANY - 1, 2, 1));
    let [Quarantined { actor, from, seq, reason }] = &stage.system.quarantined()[..] else {
        panic!("one is")
    };
    assert_eq!((actor.as_str(), from.as_str(), *seq), ("noting", "test", Some(MANY / 2)));
    assert!(reason.contains("on 10000"), "{reason}");
    let counts = stage.numbers.edge().counts();
    assert_eq!((counts.accepted, counts.dropped_for(DropReason::Quarantined)), (MANY, 1));
    stage.assert_conserved();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_that_does_not_come_back_loses_and_repeats_nothing() {
    for plan in [
        (|number, tries| if (number, tries) == (MANY / 2, 0) { Deed::Panic } else { Deed::Note })
            as crate::Plan,
        |number, tries| if (number, tries) == (MANY / 2, 0) { Deed::Fail } else { Deed::Note },
    ] {
        let stage = Stage::new(64, RestartPolicy::default(), plan).await;
        stage.send(1..=MANY).await;
        stage.actor.control().tell(Command::Drain);
        assert_eq!(stage.actor.control().ended().await, Exit::Drained);
        assert_eq!(stage.record.noted(), all_but(0));
        assert_eq!(stage.actor.control().status().restarts, 1);
        stage.assert_conserved();
    }
}

#[tokio::test(start_paused = true)]
async fn an_injected_fault_hits_one_message_once() {
    // Before the message it is as if nothing had been; after it the message is handled a second time.
    for (fault, expected) in [(Fault::PanicBefore, vec![1, 2]), (Fault::PanicAfter, vec![1, 1, 2])] {
        let stage = Stage::new(4, RestartPolicy::default(), |_, _| Deed::Note).await;
        stage.actor.control().inject(fault);
        stage.send([1, 2]).await;
        stage.actor.control().tell(Command::Drain);
        assert_eq!(stage.actor.control().ended().await, Exit::Drained);
        assert_eq!(stage.record.noted(), expected, "{fault:?}");
        stage.assert_conserved();
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_in_the_middle_of_a_message_has_it_tried_again() {
    let plan = |number, tries| if (number, tries) == (3, 0) { Deed::Hang } else { Deed::Note };
    let stage = Stage::new(8, RestartPolicy::default(), plan).await;
    stage.send(1..=5).await;
    stage.record.in_hand(3).await;
    stage.actor.control().kill();
    stage.actor.control().tell(Command::Drain);
    assert_eq!(stage.actor.control().ended().await, Exit::Drained);
    assert_eq!(stage.record.noted(), [1, 2, 3, 4, 5]);
    assert_eq!(stage.actor.control().status().restarts, 1);
    stage.assert_conserved();
}

#[tokio::test(start_paused = true)]
async fn a_hang_is_taken_for_one_when_the_deadline_has_passed() {
    let plan = |number, tries| if (number, tries) == (2, 0) { Deed::Hang } else { Deed::Note };
    let policy = RestartPolicy { stall: Duration::from_secs(7), ..RestartPolicy::default() };
    let stage = Stage::new(8, policy, plan).await;
    let before = headwater_bus::clock::now();
    stage.send(1..=3).await;
    stage.actor.control().tell(Command::Drain);
    assert_eq!(stage.actor.control().ended().await, Exit::Drained);
    assert_eq!(stage.record.noted(), [1, 2, 3]);
    let took = before.elapsed();
    assert!(took > Duration::from_secs(7) && took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_actor_is_not_taken_for_a_stalled_one() {
    let stage = Stage::new(8, RestartPolicy::default(), |_, _| Deed::Note).await;
    stage.send([1]).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    stage.send([2]).await;
    stage.actor.control().tell(Command::Drain);
    assert_eq!(stage.actor.control().ended().await, Exit::Drained);
    assert_eq!(stage.actor.control().status().restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_storm_escalates_and_what_was_left_is_counted() {
    let stage = Stage::new(64, RestartPolicy::default(), |_, _| Deed::Panic).await;
    stage.send(1..=50).await;
    let fatal = stage.system.fatal().await;
    assert_eq!(fatal.actor, "noting");
    assert!(fatal.reason.contains("on 3"), "two each of the first three: {}", fatal.reason);
    let exit = stage.actor.control().ended().await;
    assert!(matches!(exit, Exit::Failed(_)), "{exit:?}");
    assert_eq!(stage.record.builds.load(Ordering::Relaxed), RestartPolicy::default().intensity + 1);
    assert!(stage.numbers.send(Number(51)).await.is_err(), "nobody will ever read it");
    let counts = stage.numbers.edge().counts();
    assert_eq!(counts.dropped_for(DropReason::Quarantined), 2);
    assert_eq!(counts.dropped_for(DropReason::Abandoned), 48);
    stage.assert_conserved();
}

#[tokio::test(start_paused = true)]
async fn failures_that_lie_apart_are_borne_for_ever() {
    let plan =
        |number: u64, tries| if number.is_multiple_of(2) && tries == 0 { Deed::Panic } else { Deed::Note };
    let stage = Stage::new(8, RestartPolicy::default(), plan).await;
    for number in 1..=40 {
        stage.send([number]).await;
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    stage.actor.control().tell(Command::Drain);
    assert_eq!(stage.actor.control().ended().await, Exit::Drained);
    assert_eq!(stage.record.noted(), (1..=40).collect::<Vec<_>>());
    assert_eq!(stage.actor.control().status().restarts, 20);
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_skipped_gives_the_actor_up_instead() {
    let policy = RestartPolicy { poison: Poison::Escalate, ..RestartPolicy::default() };
    let plan = |number, _| if number == 3 { Deed::Panic } else { Deed::Note };
    let stage = Stage::new(8, policy, plan).await;
    stage.send(1..=5).await;
    let fatal = stage.system.fatal().await;
    assert!(fatal.reason.contains("must not be skipped") && fatal.reason.contains('3'), "{fatal}");
    assert_eq!(stage.record.noted(), [1, 2], "nothing behind it was handled");
    assert_eq!(stage.system.quarantined(), []);
    stage.actor.control().ended().await;
    stage.assert_conserved();
}

#[tokio::test(start_paused = true)]
async fn a_component_that_cannot_be_built_is_given_up() {
    let system = System::start().await.expect("the root starts");
    let mailbox = Mailbox::<Number>::new(&Topology::new(), "unbuildable", 4);
    let _numbers = mailbox.waiting("test", "numbers");
    let actor = system.spawn(mailbox, RestartPolicy::default(), |_| async {
        anyhow::Result::<Noting>::Err(anyhow::anyhow!("no ground").context("cannot be built"))
    });
    assert_eq!(actor.control().ended().await, Exit::Failed("cannot be built: no ground".into()));
    assert_eq!(system.given_up().map(|fatal| fatal.actor), Some("unbuildable".into()));
    assert_eq!(actor.observed(), None);
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_is_told_where_to_end() {
    let (system, topology, record) =
        (System::start().await.expect("the root starts"), Topology::new(), Record::new());
    let mailbox = Mailbox::new(&topology, "noting", 8);
    let numbers = mailbox.waiting("test", "numbers");
    let resumes = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (told, for_actor) = (resumes.clone(), record.clone());
    let plan = |number, tries| if (number, tries) == (8, 0) { Deed::Panic } else { Deed::Note };
    let actor = system.spawn(mailbox, RestartPolicy::default(), move |resume| {
        told.lock().expect("no panic holds it").push((resume.incarnation, resume.last_processed));
        let noting = Noting { record: for_actor.clone(), plan, next: None, supersedes: false };
        async { Ok(noting) }
    });
    for number in [5, 7, 8, 9] {
        numbers.send(Number(number)).await.expect("open");
    }
    drop(numbers);
    assert_eq!(actor.control().ended().await, Exit::Drained);
    assert_eq!(*resumes.lock().expect("no panic holds it"), [(0, None), (1, Some(7))]);
    assert_eq!(record.noted(), [5, 7, 8, 9]);
}
