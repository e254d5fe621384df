//! What an actor's end leaves untouched: the order, the messages behind it, its siblings, the findings.

use std::collections::BTreeMap;
use std::panic;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use headwater_actor::{
    ActorControl, ActorHandle, ActorStatus, Command, Component, Delays, Exit, Fault, RestartPolicy, System,
};
use headwater_bus::{DropReason, EventHandler, Mailbox, Message, Outlet, Topology, Wait};
use headwater_events::{BusEvent, Envelope};
use headwater_journal::Recording;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::proof::{Proof, ProofArgs, Report};
use crate::replayed::{Lines, Replayed, Setup, bundled, replay, runtime};

/// Panics and kills, in one actor at full load and in each actor of the real bot.
pub const ACTORS: Proof = Proof {
    name: "actors",
    about: "a panic in 20,000 messages; drained stop; panic storm; each actor of the bot killed during a replay",
    full_duration: "30 s",
    run,
};

/// Messages through one actor.
const MANY: u64 = 20_000;
/// The one in the middle.
const MIDDLE: u64 = MANY / 2;

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    mute_planned_panics();
    let mut report = Report { floor: 7 * MANY, seed: args.seed, ..Report::default() };
    runtime(2)?.block_on(async {
        a_poison_message(&mut report).await.context("a poison message")?;
        a_panic_that_does_not_come_back(&mut report).await.context("a panic that does not come back")?;
        a_panic_after_the_message_was_handed_on(&mut report).await.context("a panic behind the message")?;
        a_drained_stop(&mut report).await.context("a drained stop")?;
        a_panic_storm(&mut report).await.context("a panic storm")
    })?;
    let path = args.rest.first().map_or_else(bundled, PathBuf::from);
    let recording = Recording::open(&path).with_context(|| format!("opening {}", path.display()))?;
    disturb_the_bot(&recording, args, &mut report)?;
    Ok(report)
}

async fn a_poison_message(report: &mut Report) -> anyhow::Result<()> {
    let stage = Stage::new(64, |number, _| number == MIDDLE).await?;
    stage.send().await?;
    ensure!(stage.drained().await? == all_but(MIDDLE), "not all but the poison, once and in order");
    let status = stage.actor.control().status();
    ensure!((status.processed, status.restarts, status.quarantined) == (MANY - 1, 2, 1), "{status:?}");
    stage.ensure_counts(MANY, MANY - 1, DropReason::Quarantined, 1)?;
    report.checked += MANY;
    report.lines.push(format!(
        "{MANY} messages, of which one always panics: all others once and in order, that one set aside"
    ));
    Ok(())
}

async fn a_panic_that_does_not_come_back(report: &mut Report) -> anyhow::Result<()> {
    let stage = Stage::new(64, |number, tries| number == MIDDLE && tries == 0).await?;
    stage.send().await?;
    ensure!(stage.drained().await? == all_but(0), "not all messages, once and in order");
    ensure!(stage.actor.control().status().restarts == 1, "{:?}", stage.actor.control().status());
    stage.ensure_counts(MANY, MANY, DropReason::Quarantined, 0)?;
    report.checked += MANY;
    report.lines.push(format!("{MANY} messages, of which one panics once: all once and in order"));
    Ok(())
}

/// The actor has handed the message on when it panics, and hands it on again: the next one takes it once.
async fn a_panic_after_the_message_was_handed_on(report: &mut Report) -> anyhow::Result<()> {
    let (system, topology) = (System::start().await?, Topology::new());
    let (one, two) = (Mailbox::new(&topology, "first", 64), Mailbox::new(&topology, "second", 64));
    let (numbers, next) = (one.waiting("proof", "numbers"), two.waiting("first", "numbers"));
    let between = Arc::clone(next.edge());
    let record = Record::default();
    let first = spawn(&system, one, &Record::default(), |_, _| false, Some(next));
    let second = spawn(&system, two, &record, |_, _| false, None);
    for number in 1..=MANY {
        if number % (MANY / 4) == 0 {
            first.control().inject(Fault::PanicAfter);
        }
        numbers.send(Number(number)).await?;
    }
    drop(numbers);
    let ended = [first.control().ended().await, second.control().ended().await];
    ensure!(ended == [Exit::Drained, Exit::Drained], "{ended:?}");
    ensure!(record.noted() == all_but(0), "the second does not get all messages once and in order");
    let (restarts, counts) = (u64::from(first.control().status().restarts), between.counts());
    ensure!((1..=4).contains(&restarts), "{restarts} restarts");
    ensure!(second.control().status().restarts == 0, "the second was restarted");
    let repeated = counts.dropped_for(DropReason::Repeated);
    ensure!((counts.accepted, counts.processed, repeated) == (MANY + restarts, MANY, restarts), "{counts:?}");
    system.end();
    report.checked += 2 * MANY;
    report.lines.push(format!(
        "{MANY} messages through two actors, {restarts} panics in the first behind what it had handed on: the second gets all once \
         and in order"
    ));
    Ok(())
}

async fn a_drained_stop(report: &mut Report) -> anyhow::Result<()> {
    let stage = Stage::new(MANY as usize, |_, _| false).await?;
    stage.send().await?;
    stage.actor.control().tell(Command::Drain);
    ensure!(stage.drained().await? == all_but(0), "not all that was accepted");
    ensure!(stage.numbers.send(Number(MANY + 1)).await.is_err(), "it takes more after its end");
    stage.ensure_counts(MANY, MANY, DropReason::Abandoned, 0)?;

    // While somebody still sends: what was accepted is processed, and nothing else is.
    let stage = Stage::new(64, |_, _| false).await?;
    let mut accepted = 0;
    for number in 1..=MANY {
        if number == MIDDLE {
            stage.actor.control().tell(Command::Drain);
        }
        match stage.numbers.send(Number(number)).await {
            Ok(()) => accepted = number,
            Err(_) => break,
        }
    }
    let noted = stage.drained().await?;
    ensure!(noted == (1..=accepted).collect::<Vec<_>>(), "{} of {accepted} accepted", noted.len());
    ensure!(
        (MIDDLE - 1..MANY).contains(&accepted),
        "{accepted} were accepted, and it was stopped at {MIDDLE}"
    );
    stage.ensure_counts(accepted, accepted, DropReason::Abandoned, 0)?;
    report.checked += MANY + accepted;
    report.lines.push(format!("drained with {MANY} messages waiting, and at message {MIDDLE} while more came: all that was accepted is processed"));
    Ok(())
}

async fn a_panic_storm(report: &mut Report) -> anyhow::Result<()> {
    let stage = Stage::new(MANY as usize, |_, _| true).await?;
    stage.send().await?;
    let fatal = stage.system.fatal().await;
    ensure!(fatal.actor == "noting" && fatal.reason.contains("planned"), "{fatal:?}");
    let exit = stage.actor.control().ended().await;
    ensure!(matches!(exit, Exit::Failed(_)), "it ended as {exit:?}");
    let (built, intensity) = (stage.record.built.load(Ordering::Relaxed), RestartPolicy::default().intensity);
    ensure!(built == intensity + 1, "{built} incarnations, and {intensity} failures are borne");
    // Every message ends two incarnations; the one that ended one is abandoned with the rest.
    let set_aside = u64::from(built - 1) / 2;
    let counts = stage.numbers.edge().counts();
    ensure!(counts.conserved() && counts.accepted == MANY && counts.processed == 0, "{counts:?}");
    ensure!(counts.dropped_for(DropReason::Quarantined) == set_aside, "{counts:?}");
    ensure!(counts.dropped_for(DropReason::Abandoned) == MANY - set_aside, "{counts:?}");
    report.checked += MANY;
    report.lines.push(format!("a panic storm: given up after {built} incarnations, the system told, all {MANY} messages accounted for"));
    Ok(())
}

/// How an actor of the bot is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// With a message in hand.
    Killed,
    /// Whatever it is doing when the bus carries a certain block.
    KilledFromOutside,
    /// With a message in hand, before it is handled.
    PanicsBefore,
    /// With a message in hand, after it was handled and before that is noted.
    PanicsAfter,
}

/// The actors with a mailbox.
const COMPONENTS: [&str; 6] = ["decoder", "oracle", "state", "arbitrage", "liquidation", "executor"];
const WAYS: [Way; 4] = [Way::Killed, Way::PanicsBefore, Way::PanicsAfter, Way::KilledFromOutside];

fn disturb_the_bot(recording: &Recording, args: &ProofArgs, report: &mut Report) -> anyhow::Result<()> {
    let plain = replay(recording, &Setup::default(), |_| ())?;
    plain.ensure_whole()?;
    let expected = &plain.lines;
    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    let ways = COMPONENTS.iter().flat_map(|name| WAYS.map(|way| (*name, way)));
    let mut cases: Vec<_> = [("ingest", Way::KilledFromOutside)].into_iter().chain(ways).collect();
    if args.quick {
        // Each actor once, each way at least once.
        let quick = cases.iter().enumerate().filter(|(index, _)| index % 5 == 0 || *index == 1);
        cases = quick.map(|(_, case)| *case).collect();
    }
    let mut ends = 0;
    for (name, way) in &cases {
        let points = [20..=100, 120..=190, 210..=280].map(|range| random.random_range(range));
        ends += end(recording, name, *way, points, expected)
            .with_context(|| format!("{name}: {way:?} at its messages or blocks {points:?}"))?;
        report.checked += expected.opportunities.len() as u64;
    }
    a_bad_handler(recording, expected).context("a bad handler")?;
    report.checked += expected.opportunities.len() as u64;
    report.lines.extend([
        format!(
            "{} replays, each actor of the bot ended in turn, {ends} ends in all (killed in hand and from outside, panics \
             before and after): the same {} opportunities, every sibling untouched",
            cases.len(),
            expected.opportunities.len()
        ),
        "ingest, which has no messages, is only killed from outside".to_owned(),
        "a handler that fails and panics: the same opportunities, the others undisturbed".to_owned(),
    ]);
    Ok(())
}

/// Replays while the actor `name` is ended at three points; says how often it was restarted.
fn end(
    recording: &Recording,
    name: &str,
    way: Way,
    points: [u64; 3],
    expected: &Lines,
) -> anyhow::Result<u64> {
    let mut setup = Setup::default();
    let actors = Arc::clone(&setup.actors);
    let points = Points { next: Mutex::new(points.into()), seen: AtomicU64::new(0) };
    let replayed = match way {
        Way::KilledFromOutside => {
            // With the state slow, whoever waits for it is found waiting.
            let slow = |actor: &str| Duration::from_millis(u64::from(actor == "state"));
            setup.delays = Some(Arc::new(slow));
            let killer = Killer { name: name.to_owned(), points, actors };
            replay(recording, &setup, |bot| bot.register("killer", killer))?
        }
        _ => {
            setup.delays = Some(ending(name.to_owned(), way, points, actors));
            replay(recording, &setup, |_| ())?
        }
    };
    replayed.ensure_whole()?;
    replayed.ensure_same_lines(expected)?;
    ensure_untouched(&replayed, name)
}

fn ensure_untouched(replayed: &Replayed, ended: &str) -> anyhow::Result<u64> {
    let lives: BTreeMap<_, _> =
        replayed.actors.iter().map(|(name, status)| (name.as_str(), status)).collect();
    for (name, ActorStatus { restarts, quarantined, .. }) in &lives {
        let expected = if *name == ended { 3 } else { 0 };
        ensure!(*restarts == expected, "{name} was restarted {restarts} times instead of {expected}");
        ensure!(*quarantined == 0, "{name} set {quarantined} messages aside");
    }
    Ok(lives.get(ended).with_context(|| format!("no actor {ended}"))?.restarts.into())
}

/// When to strike.
struct Points {
    next: Mutex<Vec<u64>>,
    seen: AtomicU64,
}

impl Points {
    /// Counts one more; says whether a point is reached.
    fn is_due(&self) -> bool {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let due = next.first().is_some_and(|point| seen >= *point);
        if due {
            next.remove(0);
        }
        due
    }
}

type Actors = Arc<OnceLock<Vec<ActorControl>>>;

fn find<'a>(actors: &'a Actors, name: &str) -> Option<&'a ActorControl> {
    actors.get()?.iter().find(|actor| actor.name() == name)
}

/// A pause before each message is where an actor can be ended with that message in hand.
fn ending(name: String, way: Way, points: Points, actors: Actors) -> Delays {
    Arc::new(move |actor: &str| {
        let Some(control) = find(&actors, &name).filter(|_| actor == name) else { return Duration::ZERO };
        if !points.is_due() {
            return Duration::ZERO;
        }
        match way {
            Way::PanicsBefore => control.inject(Fault::PanicBefore),
            Way::PanicsAfter => control.inject(Fault::PanicAfter),
            Way::Killed | Way::KilledFromOutside => {
                control.kill();
                // It does not get to the end of this pause.
                return Duration::from_secs(3600);
            }
        }
        Duration::ZERO
    })
}

/// Kills an actor when the bus carries certain blocks.
struct Killer {
    name: String,
    points: Points,
    actors: Actors,
}

impl EventHandler for Killer {
    fn interested_in(&self, event: &BusEvent) -> bool {
        matches!(event, BusEvent::NewBlock(_))
    }

    async fn handle(&mut self, _: &Envelope) -> anyhow::Result<()> {
        if let Some(actor) = find(&self.actors, &self.name)
            && self.points.is_due()
        {
            actor.kill();
        }
        Ok(())
    }
}

fn a_bad_handler(recording: &Recording, expected: &Lines) -> anyhow::Result<()> {
    let replayed = replay(recording, &Setup::default(), |bot| bot.register("bad", Bad { seen: 0 }))?;
    replayed.ensure_whole()?;
    replayed.ensure_same_lines(expected)?;
    let (bad, good) = (replayed.handler("bad")?, replayed.handler("tally")?);
    ensure!(bad.failed >= 50 && bad.panicked >= 50, "it was not bad: {bad:?}");
    ensure!(bad.handled + bad.failed + bad.panicked == good.handled, "it missed events: {bad:?}, {good:?}");
    ensure!(replayed.actors.iter().all(|(_, status)| status.restarts == 0), "an actor was restarted");
    Ok(())
}

/// Fails at every third event and panics at every fourth.
struct Bad {
    seen: u64,
}

impl EventHandler for Bad {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        self.seen += 1;
        if self.seen.is_multiple_of(4) {
            panic!("planned, on event {}", envelope.seq);
        }
        ensure!(!self.seen.is_multiple_of(3), "planned, on event {}", envelope.seq);
        Ok(())
    }
}

/// Panics that this proof has planned are not told on stderr; all others are.
pub(super) fn mute_planned_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let planned = |text: &str| text.starts_with("planned") || text.starts_with("injected");
            if !info.payload_as_str().is_some_and(planned) {
                tell(info);
            }
        }));
    });
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number(u64);

impl Message for Number {
    fn seq(&self) -> Option<u64> {
        Some(self.0)
    }
}

fn all_but(poison: u64) -> Vec<u64> {
    (1..=MANY).filter(|number| *number != poison).collect()
}

/// Whether to panic at a number, seen for the nth time (from 0).
type Plan = fn(u64, u32) -> bool;

/// What outlives the incarnations.
#[derive(Clone, Debug, Default)]
struct Record {
    noted: Arc<Mutex<Vec<u64>>>,
    /// The number that panicked last, and how often it has.
    panics: Arc<Mutex<(u64, u32)>>,
    built: Arc<AtomicU32>,
}

impl Record {
    fn noted(&self) -> Vec<u64> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn panics_at(&self, number: u64) -> u32 {
        let (last, times) = *self.panics.lock().unwrap_or_else(PoisonError::into_inner);
        if last == number { times } else { 0 }
    }
}

/// Notes numbers, and hands them on.
struct Noting {
    record: Record,
    plan: Plan,
    next: Option<Outlet<Number, Wait>>,
}

impl Component for Noting {
    type Message = Number;
    type Observed = ();

    async fn handle(&mut self, Number(number): &Number) -> anyhow::Result<()> {
        let times = self.record.panics_at(*number);
        if (self.plan)(*number, times) {
            *self.record.panics.lock().unwrap_or_else(PoisonError::into_inner) = (*number, times + 1);
            panic!("planned, on {number}");
        }
        self.record.noted.lock().unwrap_or_else(PoisonError::into_inner).push(*number);
        if let Some(next) = &self.next {
            next.send(Number(*number)).await?;
        }
        Ok(())
    }

    fn observe(&self) {}
}

fn spawn(
    system: &System,
    mailbox: Mailbox<Number>,
    record: &Record,
    plan: Plan,
    next: Option<Outlet<Number, Wait>>,
) -> ActorHandle<()> {
    let record = record.clone();
    system.spawn(mailbox, RestartPolicy::default(), move |_| {
        record.built.fetch_add(1, Ordering::Relaxed);
        let noting = Noting { record: record.clone(), plan, next: next.clone() };
        async { Ok(noting) }
    })
}

/// One actor that notes numbers.
struct Stage {
    system: System,
    record: Record,
    actor: ActorHandle<()>,
    numbers: Outlet<Number, Wait>,
}

impl Stage {
    async fn new(capacity: usize, plan: Plan) -> anyhow::Result<Self> {
        let (system, record) = (System::start().await?, Record::default());
        let mailbox = Mailbox::new(&Topology::new(), "noting", capacity);
        let numbers = mailbox.waiting("proof", "numbers");
        let actor = spawn(&system, mailbox, &record, plan, None);
        Ok(Self { system, record, actor, numbers })
    }

    async fn send(&self) -> anyhow::Result<()> {
        for number in 1..=MANY {
            self.numbers.send(Number(number)).await?;
        }
        Ok(())
    }

    /// What it has noted when it has drained.
    async fn drained(&self) -> anyhow::Result<Vec<u64>> {
        self.actor.control().tell(Command::Drain);
        let exit = self.actor.control().ended().await;
        ensure!(exit == Exit::Drained, "it ended as {exit:?}");
        self.system.end();
        Ok(self.record.noted())
    }

    /// `dropped` for `reason`, and for no other.
    fn ensure_counts(
        &self,
        accepted: u64,
        processed: u64,
        reason: DropReason,
        dropped: u64,
    ) -> anyhow::Result<()> {
        let counts = self.numbers.edge().counts();
        let as_due =
            (counts.accepted, counts.processed, counts.dropped_for(reason)) == (accepted, processed, dropped);
        ensure!(as_due && counts.dropped_total() == dropped && counts.conserved(), "{counts:?}");
        Ok(())
    }
}
