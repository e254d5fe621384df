use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use headwater_actor::{
    ActorHandle, Aside, Command, Component, Exit, Quarantine, Quarantined, RestartPolicy, System,
};
use headwater_bus::{DropReason, Mailbox, Topology};

use crate::Number;

/// What happened to numbers, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Handled(u64),
    WrittenDown(u64),
    SetAside(u64),
}

use Deed::{Handled, SetAside, WrittenDown};

#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<Deed>>>);

impl Diary {
    fn note(&self, deed: Deed) {
        self.0.lock().expect("no panic holds it").push(deed);
    }
}

impl Component for Diary {
    type Message = Number;
    type Observed = ();

    async fn handle(&mut self, Number(number): &Number) -> anyhow::Result<()> {
        self.note(Handled(*number));
        Ok(())
    }

    async fn set_aside(&mut self, Number(number): &Number) -> anyhow::Result<()> {
        self.note(SetAside(*number));
        Ok(())
    }

    fn observe(&self) {}
}

/// Hands four numbers to a diary, of which `poison` are poisonous; says what happened to them.
async fn run(system: System, diary: &Diary, poison: &'static [u64]) -> (Vec<Deed>, ActorHandle<()>) {
    let system = system.poisoned_by(Arc::new(|actor, seq| actor == "diary" && poison.contains(&seq)));
    let mailbox = Mailbox::new(&Topology::new(), "diary", 8);
    let numbers = mailbox.waiting("test", "numbers");
    let own = diary.clone();
    let actor = system.spawn(mailbox, RestartPolicy::default(), move |_| {
        let diary = own.clone();
        async move { Ok(diary) }
    });
    for number in 1..=4 {
        numbers.send(Number(number)).await.expect("the mailbox is open");
    }
    actor.control().tell(Command::Drain);
    assert_eq!(actor.control().ended().await, Exit::Drained);
    let set_aside = numbers.edge().counts().dropped_for(DropReason::Quarantined);
    assert_eq!(set_aside, actor.control().status().quarantined);
    (diary.0.lock().expect("no panic holds it").clone(), actor)
}

fn known(seq: u64, from: &str) -> Quarantined {
    let words = String::from;
    Quarantined { actor: words("diary"), from: words(from), seq: Some(seq), reason: words("before") }
}

#[tokio::test(start_paused = true)]
async fn what_is_set_aside_is_written_down_and_told_before_the_flow_goes_on() {
    let diary = Diary::default();
    let own = diary.clone();
    let aside: Aside = Arc::new(move |set_aside| {
        own.note(WrittenDown(set_aside.seq.expect("a number")));
        Ok(())
    });
    let quarantine = Quarantine::new([], Some(aside));
    let system = System::start().await.expect("a system").with_quarantine(quarantine.clone());
    let (deeds, actor) = run(system, &diary, &[2]).await;
    assert_eq!(deeds, [Handled(1), WrittenDown(2), SetAside(2), Handled(3), Handled(4)]);
    assert_eq!(actor.control().status().restarts, 2);
    assert!(quarantine.contains("diary", 2) && !quarantine.contains("diary", 3));
    assert!(!quarantine.contains("another", 2));
    assert_eq!(quarantine.own().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_down_is_remembered_and_stops_nobody() {
    let (diary, tries) = (Diary::default(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&tries);
    let aside: Aside = Arc::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        anyhow::bail!("no room")
    });
    let system = System::start().await.expect("a system").with_quarantine(Quarantine::new([], Some(aside)));
    let (deeds, _) = run(system, &diary, &[2, 4]).await;
    assert_eq!(deeds, [Handled(1), SetAside(2), Handled(3), SetAside(4)]);
    assert_eq!(tries.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_set_aside_before_is_never_handled_and_ends_nobody() {
    let quarantine = Quarantine::new([known(2, "test"), known(3, "another sender")], None);
    let system = System::start().await.expect("a system").with_quarantine(quarantine.clone());
    let (deeds, actor) = run(system, &Diary::default(), &[2]).await;
    assert_eq!(deeds, [Handled(1), SetAside(2), Handled(3), Handled(4)]);
    assert_eq!(actor.control().status().restarts, 0);
    assert_eq!(quarantine.own(), [], "it is not news");
}
