//! Actors as their users see them: what survives what.

mod endings;
mod failures;
mod quarantine;
mod sources;

use std::collections::VecDeque;
use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use headwater_actor::{ActorHandle, Component, RestartPolicy, System};
use headwater_bus::{Mailbox, Message, Outlet, Topology, Wait};
use tokio::sync::Notify;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number(u64);

impl Message for Number {
    fn seq(&self) -> Option<u64> {
        Some(self.0)
    }
}

/// What an actor does with a number, the nth time that it sees it (from 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Note,
    Panic,
    Fail,
    /// Never returns.
    Hang,
    /// Notes it and waits until it is let go.
    Hold,
}

type Plan = fn(u64, u32) -> Deed;

/// What outlives the incarnations.
#[derive(Clone)]
struct Record {
    noted: Arc<Mutex<Vec<u64>>>,
    tries: Arc<Mutex<VecDeque<(u64, u32)>>>,
    begun: Arc<Notify>,
    gate: Arc<Notify>,
    builds: Arc<AtomicU32>,
    finished: Arc<AtomicU32>,
}

impl Record {
    fn new() -> Self {
        Self {
            noted: Arc::default(),
            tries: Arc::default(),
            begun: Arc::default(),
            gate: Arc::default(),
            builds: Arc::default(),
            finished: Arc::default(),
        }
    }

    fn noted(&self) -> Vec<u64> {
        self.noted.lock().expect("no panic holds it").clone()
    }

    fn note(&self, number: u64) {
        self.noted.lock().expect("no panic holds it").push(number);
    }

    /// Waits until the number is in hand.
    async fn in_hand(&self, number: u64) {
        while !self.tries.lock().expect("no panic holds it").iter().any(|(tried, _)| *tried == number) {
            self.begun.notified().await;
        }
    }

    /// How often the number was seen before; the last few are remembered.
    fn tried(&self, number: u64) -> u32 {
        let mut tries = self.tries.lock().expect("no panic holds it");
        if let Some((_, count)) = tries.iter_mut().find(|(tried, _)| *tried == number) {
            *count += 1;
            return *count;
        }
        tries.push_back((number, 0));
        if tries.len() > 8 {
            tries.pop_front();
        }
        0
    }
}

struct Noting {
    record: Record,
    plan: Plan,
    next: Option<Outlet<Number, Wait>>,
    supersedes: bool,
}

impl Component for Noting {
    type Message = Number;
    type Observed = u64;

    async fn handle(&mut self, Number(number): &Number) -> anyhow::Result<()> {
        let tries = self.record.tried(*number);
        self.record.begun.notify_one();
        match (self.plan)(*number, tries) {
            Deed::Note => self.record.note(*number),
            Deed::Panic => panic!("on {number}"),
            Deed::Fail => anyhow::bail!("on {number}"),
            Deed::Hang => pending().await,
            Deed::Hold => {
                self.record.note(*number);
                self.record.gate.notified().await;
            }
        }
        if let Some(next) = &self.next {
            next.send(Number(*number)).await?;
        }
        Ok(())
    }

    fn superseded(&self, _: &Number, _: &Number) -> bool {
        self.supersedes
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        self.record.finished.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn observe(&self) -> u64 {
        self.record.noted.lock().expect("no panic holds it").last().copied().unwrap_or(0)
    }
}

/// One actor that notes numbers.
struct Stage {
    system: System,
    topology: Topology,
    record: Record,
    actor: ActorHandle<u64>,
    numbers: Outlet<Number, Wait>,
}

fn spawn(
    system: &System,
    mailbox: Mailbox<Number>,
    policy: RestartPolicy,
    record: &Record,
    plan: Plan,
    next: Option<Outlet<Number, Wait>>,
) -> ActorHandle<u64> {
    let record = record.clone();
    system.spawn(mailbox, policy, move |_| {
        record.builds.fetch_add(1, Ordering::Relaxed);
        let noting = Noting { record: record.clone(), plan, next: next.clone(), supersedes: false };
        async { Ok(noting) }
    })
}

impl Stage {
    async fn new(capacity: usize, policy: RestartPolicy, plan: Plan) -> Self {
        let (system, topology) = (System::start().await.expect("the root starts"), Topology::new());
        let mailbox = Mailbox::new(&topology, "noting", capacity);
        let numbers = mailbox.waiting("test", "numbers");
        let record = Record::new();
        let actor = spawn(&system, mailbox, policy, &record, plan, None);
        Self { system, topology, record, actor, numbers }
    }

    async fn send(&self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.numbers.send(Number(number)).await.expect("the mailbox is open");
        }
    }

    fn assert_conserved(&self) {
        for edge in self.topology.report() {
            assert!(edge.counts.conserved(), "{edge:?}");
        }
    }
}
