//! The hand-over under thousands of schedules: the senders and an incarnation are polled by hand, in an order that a seed
//! decides, and the incarnation is killed between two polls or fails in the midst of a message. A seed that fails is named,
//! and gives the same schedule again.

use std::task::{Context, Poll, Waker};

use headwater_bus::{Outlet, Topology, Wait};

use super::*;

const SEEDS: u64 = 20_000;
const SENDERS: u8 = 2;
const MESSAGES: u64 = 12;

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

/// What became of each message, in the order of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Begun(Note),
    Done(Note),
}

/// SplitMix64.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Handles a message in a few steps, and sometimes fails.
struct Log {
    entries: Arc<Mutex<Vec<Entry>>>,
    random: Random,
}

impl Component for Log {
    type Message = Note;
    type Observed = ();

    async fn handle(&mut self, note: &Note) -> anyhow::Result<()> {
        lock(&self.entries).push(Entry::Begun(*note));
        for _ in 0..self.random.below(3) {
            tokio::task::yield_now().await;
        }
        anyhow::ensure!(self.random.below(12) > 0, "it fails before");
        lock(&self.entries).push(Entry::Done(*note));
        tokio::task::yield_now().await;
        anyhow::ensure!(self.random.below(12) > 0, "it fails after");
        Ok(())
    }

    fn observe(&self) {}
}

type Task<T> = Pin<Box<dyn Future<Output = T>>>;

fn poll<T>(task: &mut Task<T>) -> Option<T> {
    match task.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// An actor whose incarnations follow one another on one mailbox.
struct Rig {
    random: Random,
    topology: Topology,
    shared: Arc<Shared>,
    entries: Arc<Mutex<Vec<Entry>>>,
    senders: Vec<Option<Task<()>>>,
    life: Task<anyhow::Result<Exit>>,
    inbox: Arc<tokio::sync::Mutex<Inbox<Note>>>,
}

impl Rig {
    fn new(seed: u64) -> Self {
        let topology = Topology::new();
        let mailbox = Mailbox::new(&topology, "actor", 3);
        let outlets: Vec<_> = (0..SENDERS)
            .map(|sender| (sender, mailbox.waiting(format!("sender {sender}"), "notes")))
            .collect();
        let senders = outlets.into_iter().map(|(sender, outlet)| Some(send(sender, outlet))).collect();
        let inbox = mailbox.into_inbox();
        let shared = Arc::new(Shared::new("actor".into(), RestartPolicy::default(), Quarantine::default()));
        let (mut random, entries) = (Random(seed), Arc::default());
        let life = live(&shared, &inbox, &entries, &mut random);
        Self { random, topology, shared, entries, senders, life, inbox }
    }

    /// To the end of the actor; says how often it died.
    fn run(&mut self) -> (Exit, u64) {
        let mut deaths = 0;
        let command_at = self.random.below(400);
        for step in 0u64.. {
            assert!(step < 100_000, "it does not end");
            if step == command_at {
                let command = if self.random.below(2) == 0 { Command::Drain } else { Command::Stop };
                self.shared.command.send_replace(command);
            }
            let turn = self.random.below(24);
            if let Some(sender) = self.senders.get_mut(turn as usize % 8) {
                if sender.as_mut().is_some_and(|task| poll(task).is_some()) {
                    *sender = None;
                }
            } else if turn == 23 {
                deaths += 1;
                self.revive();
            } else {
                match poll(&mut self.life) {
                    Some(Ok(exit)) => return (exit, deaths),
                    Some(Err(_)) => {
                        deaths += 1;
                        self.revive();
                    }
                    None => {}
                }
            }
        }
        unreachable!("the loop ends by itself")
    }

    fn revive(&mut self) {
        self.life = Box::pin(std::future::pending());
        self.life = live(&self.shared, &self.inbox, &self.entries, &mut self.random);
    }
}

fn send(sender: u8, outlet: Outlet<Note, Wait>) -> Task<()> {
    Box::pin(async move {
        for seq in 1..=MESSAGES {
            if outlet.send(Note { sender, seq }).await.is_err() {
                return;
            }
        }
    })
}

fn live(
    shared: &Arc<Shared>,
    inbox: &Arc<tokio::sync::Mutex<Inbox<Note>>>,
    entries: &Arc<Mutex<Vec<Entry>>>,
    random: &mut Random,
) -> Task<anyhow::Result<Exit>> {
    let (shared, inbox, entries) = (Arc::clone(shared), Arc::clone(inbox), Arc::clone(entries));
    let random = Random(random.below(u64::MAX));
    Box::pin(async move {
        let mut inbox = Inbox::lock(&inbox).await;
        let (component, observed) = (Log { entries, random }, watch::channel(None).0);
        Incarnation { shared: &shared, inbox: &mut inbox, component, observed, delays: None, poisons: None }
            .run()
            .await
    })
}

/// Each message was handled to its end or set aside after two deaths, and none came before an earlier one of its sender.
fn judge(rig: Rig, exit: &Exit, seed: u64) -> u64 {
    let Rig { topology, shared, entries, inbox, senders, life, .. } = rig;
    drop((senders, life, inbox));
    let aside: Vec<_> = shared.quarantine.own().iter().filter_map(|aside| aside.seq).collect();
    let entries = lock(&entries);
    let (mut processed, mut quarantined, mut abandoned) = (0, 0, 0);
    let edges = topology.report();
    for edge in &edges {
        assert!(edge.counts.conserved(), "seed {seed}: {edge:?}");
        processed += edge.counts.processed;
        quarantined += edge.counts.dropped_for(DropReason::Quarantined);
        abandoned += edge.counts.dropped_for(DropReason::Abandoned);
    }
    assert_eq!(processed, shared.processed.load(Ordering::Relaxed), "seed {seed}");
    assert_eq!(quarantined, aside.len() as u64, "seed {seed}");
    assert!(*exit == Exit::Stopped || abandoned == 0, "seed {seed}: drained, and gave up {abandoned}");
    let count = |wanted| entries.iter().filter(|entry| **entry == wanted).count();
    let (begun, is_done) = (|note| count(Entry::Begun(note)), |note| count(Entry::Done(note)) > 0);
    let mut undone = 0;
    for (sender, edge) in (0..SENDERS).zip(&edges) {
        let mut last = 0;
        for note in (1..=edge.counts.accepted).map(|seq| Note { sender, seq }) {
            assert!(begun(note) <= TRIES as usize, "seed {seed}: {note:?} came too often");
            undone += u64::from(!is_done(note));
            let began = entries.iter().position(|entry| *entry == Entry::Begun(note));
            assert!(began.is_none_or(|at| at >= last), "seed {seed}: {note:?} came before an earlier one");
            last = began.unwrap_or(last);
        }
    }
    assert!(undone <= quarantined + abandoned, "seed {seed}: {undone} were never handled");
    for seq in aside {
        let came = (0..SENDERS).map(|sender| begun(Note { sender, seq })).max();
        assert_eq!(came, Some(TRIES as usize), "seed {seed}: {seq} was set aside too early");
    }
    processed
}

#[test]
fn schedules_of_deaths_lose_no_message_and_repeat_none_but_the_one_in_hand() {
    let (mut deaths, mut processed, mut drained) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut rig = Rig::new(seed);
        let (exit, died) = rig.run();
        deaths += died;
        drained += u64::from(exit == Exit::Drained);
        processed += judge(rig, &exit, seed);
    }
    assert!(deaths > SEEDS && processed > 8 * SEEDS, "{deaths} deaths, {processed} messages: too little");
    assert!((SEEDS / 4..SEEDS).contains(&drained), "{drained} of {SEEDS} drained");
}
