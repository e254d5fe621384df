//! `headwater run` with a remote control: each line on stdin is a fault to be injected.
//!
//! `panic-before ACTOR`, `panic-after ACTOR`: once. `poison ACTOR`: its next message ends two incarnations.
//! `slow ACTOR MS`: before each message, until it is 0 again. `slow-handler MS`: a subscriber of its own.
//! `fail POINT TIMES`: the disk, there and so often, with the feature `planted-bugs`.

#![expect(clippy::print_stderr, reason = "a process that is started by a proof")]

use std::collections::HashMap;
use std::io::BufRead;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use headwater_actor::{ActorControl, Fault};
use headwater_bus::{BusConfig, EventHandler};
use headwater_events::{BusEvent, Envelope};
use headwater_supervisor::cli::{Cli, Command};
use headwater_supervisor::{Failure, Hooks, commands};
use headwater_telemetry::{LogFormat, init_tracing};
use tracing::info;

/// As that of the supervisor.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Events that the broadcast holds: few, so that whoever is slow lags.
const BROADCAST: usize = 16;

/// Bytes that the ring of source events holds: few, so that what lags most is repaired from the journal.
const RING: usize = 1 << 20;

/// Bytes that the ring of derived events holds, which nothing else does: as much as the slowest is behind.
const DERIVED_RING: usize = 4 << 20;

const SAMPLE_EVERY: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let arguments = match cli.command {
        Some(Command::Run(arguments)) => arguments,
        _ => {
            eprintln!("error: only `run` is known here");
            return ExitCode::from(2);
        }
    };
    match init_tracing(LogFormat::Json).map_err(Failure::usage).and_then(|()| run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(arguments: headwater_supervisor::cli::RunArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::runtime)?;
    runtime.block_on(async {
        let remote = Remote::default();
        let listening = remote.clone();
        std::thread::spawn(move || listening.listen());
        tokio::spawn(sample());
        let (delays, poisons, started) = (remote.clone(), remote.clone(), remote.clone());
        let hooks = Hooks {
            delays: Some(Arc::new(move |actor| delays.pause(actor))),
            poisons: Some(Arc::new(move |actor, seq| poisons.is_poison(actor, seq))),
            bus: BusConfig {
                capacity: BROADCAST,
                ring_bytes: RING,
                derived_ring_bytes: DERIVED_RING,
                ..BusConfig::default()
            },
            strategies: Vec::new(),
            wired: Box::new(move |bot| bot.register("slow", Slow(remote))),
            running: Box::new(move |running| {
                started.lock().actors = running.actors().cloned().collect();
                info!(disk_can_fail = cfg!(feature = "planted-bugs"), "under remote control");
            }),
        };
        commands::run_with(arguments, hooks).await
    })
}

/// What was asked for and has not happened yet.
#[derive(Clone, Default)]
struct Remote(Arc<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    actors: Vec<ActorControl>,
    poison: HashMap<String, Poison>,
    slow: HashMap<String, Duration>,
}

/// Poison that was given to an actor.
#[derive(Default)]
struct Poison {
    /// The event that the poisonous message stems from, once there is one.
    seq: Option<u64>,
    /// Incarnations that this message has ended.
    ended: u32,
    /// Incarnations that were ended in all.
    of_all: u32,
}

/// Incarnations that one message ends until it is set aside.
const TRIES: u32 = 2;
/// Most incarnations that are ended for one poison: fewer than make an actor be given up.
const MOST: u32 = 4;

impl Poison {
    /// Whether it strikes a message that stems from this event. What was superseded before it was tried again makes room
    /// for the next.
    fn strikes(&mut self, seq: u64) -> bool {
        if self.is_spent() {
            return false;
        }
        if self.seq != Some(seq) {
            (self.seq, self.ended) = (Some(seq), 0);
        }
        self.ended += 1;
        self.of_all += 1;
        true
    }

    fn is_spent(&self) -> bool {
        self.ended == TRIES || self.of_all == MOST
    }
}

/// The name under which the slow handler's pause is kept.
const HANDLER: &str = "the slow handler";

impl Remote {
    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self) {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if let Err(error) = self.obey(&line) {
                eprintln!("error: {line:?}: {error:#}");
            }
        }
    }

    fn obey(&self, line: &str) -> anyhow::Result<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut asked = self.lock();
        match words[..] {
            ["panic-before", actor] => asked.actor(actor)?.inject(Fault::PanicBefore),
            ["panic-after", actor] => asked.actor(actor)?.inject(Fault::PanicAfter),
            ["poison", actor] => drop(asked.poison.insert(actor.to_owned(), Poison::default())),
            ["fail", point, times] => fail(point, times.parse()?)?,
            ["slow", actor, millis] => {
                asked.slow.insert(actor.to_owned(), Duration::from_millis(millis.parse()?));
            }
            ["slow-handler", millis] => {
                asked.slow.insert(HANDLER.to_owned(), Duration::from_millis(millis.parse()?));
            }
            _ => bail!("no such fault"),
        }
        Ok(())
    }

    fn pause(&self, actor: &str) -> Duration {
        self.lock().slow.get(actor).copied().unwrap_or_default()
    }

    fn is_poison(&self, actor: &str, seq: u64) -> bool {
        self.lock().poison.get_mut(actor).is_some_and(|poison| poison.strikes(seq))
    }
}

/// Makes the disk fail at a point.
#[cfg(feature = "planted-bugs")]
fn fail(point: &str, times: u32) -> anyhow::Result<()> {
    let point = headwater_journal::FailPoint::ALL.iter().find(|known| known.name() == point);
    headwater_journal::fail_at(*point.context("no such point")?, times);
    Ok(())
}

#[cfg(not(feature = "planted-bugs"))]
fn fail(_: &str, _: u32) -> anyhow::Result<()> {
    bail!("built without the disk that fails")
}

impl Asked {
    fn actor(&self, name: &str) -> anyhow::Result<&ActorControl> {
        self.actors.iter().find(|actor| actor.name() == name).context("no such actor")
    }
}

/// A subscriber that takes its time.
struct Slow(Remote);

impl EventHandler for Slow {
    fn interested_in(&self, event: &BusEvent) -> bool {
        event.is_source()
    }

    async fn handle(&mut self, _: &Envelope) -> anyhow::Result<()> {
        let pause = self.0.lock().slow.get(HANDLER).copied().unwrap_or_default();
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Tells what only the process itself can see.
async fn sample() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    loop {
        ticks.tick().await;
        let heap =
            tikv_jemalloc_ctl::epoch::advance().and_then(|_| tikv_jemalloc_ctl::stats::allocated::read());
        info!(tasks = metrics.num_alive_tasks(), heap = heap.unwrap_or_default(), "sampled");
    }
}
