//! The bundled bot on a recording: one run, with everything about it that runs are compared by.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use headwater_actor::{ActorControl, ActorStatus, Delays, Exit};
use headwater_bus::{
    Backlog, BusConfig, EventBus, EventHandler, HandlerReport, Recorder, SourcePublisher, Timeline, Topology,
};
use headwater_events::{BusEvent, Envelope, Opportunity, RunId};
use headwater_journal::{Journal, JournalConfig, JournalWriter, Recording};
use headwater_simulation::Unavailable;
use headwater_supervisor::commands::replay_parts;
use headwater_supervisor::{Bot, Config, Ended, Session};
use headwater_telemetry::{NdjsonSink, Summary};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// The recording that is part of the program.
pub fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/devnet.hwj")
}

/// How to replay.
#[derive(Clone)]
pub struct Setup {
    /// As a user would configure it.
    pub config: Config,
    /// Threads of the runtime.
    pub workers: usize,
    /// Pauses before the messages of each actor.
    pub delays: Option<Delays>,
    /// Where the run is recorded in its turn, and what lag is then repaired from.
    pub record: Option<(Recorder, Arc<dyn Backlog>)>,
    /// Set to every actor as soon as the run has begun, for those who disturb it.
    pub actors: Arc<OnceLock<Vec<ActorControl>>>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { config: Config::default(), workers: 2, delays: None, record: None, actors: Arc::default() }
    }
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup")
            .field("workers", &self.workers)
            .field("delayed", &self.delays.is_some())
            .finish_non_exhaustive()
    }
}

/// What a replay said and how it ended.
#[derive(Debug)]
pub struct Replayed {
    /// What the NDJSON says.
    pub lines: Lines,
    /// The findings behind its `opportunity` lines.
    pub found: Vec<Opportunity>,
    /// The counts.
    pub summary: Summary,
    /// The end of every part.
    pub ended: Ended,
    /// The life of every actor.
    pub actors: Vec<(String, ActorStatus)>,
}

/// NDJSON without what may differ from run to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// The `opportunity` lines, byte for byte.
    pub opportunities: Vec<String>,
    /// The `block`, `reorg` and `gap` lines, in their order, without latencies.
    pub chain: Vec<String>,
}

/// A replay that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// Replays `recording` through the bundled bot; `register` may add handlers to it.
///
/// # Errors
/// A bot that cannot be wired, does not end, or cannot write its results.
pub fn replay(
    recording: &Recording,
    setup: &Setup,
    register: impl FnOnce(&mut Bot),
) -> anyhow::Result<Replayed> {
    runtime(setup.workers)?.block_on(async {
        let run = run(recording, setup, register);
        tokio::time::timeout(PATIENCE, run).await.context("the replay does not end")?
    })
}

/// A runtime of so many threads.
///
/// # Errors
/// The system gives none.
pub fn runtime(workers: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(workers).enable_all().build()
}

async fn run(
    recording: &Recording,
    setup: &Setup,
    register: impl FnOnce(&mut Bot),
) -> anyhow::Result<Replayed> {
    let mut parts = replay_parts(setup.config.clone(), recording, RunId(7))?;
    parts.delays = setup.delays.clone();
    if let Some((recorder, backlog)) = &setup.record {
        (parts.recorder, parts.backlog) = (Some(recorder.clone()), Arc::clone(backlog));
    }
    let mut bot = Bot::wire(parts, Unavailable).await?;
    let (written, found) = (Written::default(), Found::default());
    let session = Session::with_sink(&mut bot, Some(NdjsonSink::to_writer("memory", written.clone())));
    bot.register("found", found.clone());
    register(&mut bot);
    let running = bot.replay(recording);
    let actors: Vec<ActorControl> = running.actors().cloned().collect();
    ensure!(setup.actors.set(actors.clone()).is_ok(), "a setup serves one run");
    let (summary, ended, results) = session.finish(running, std::future::pending()).await;
    results?;
    let actors = actors.iter().map(|actor| (actor.name().to_owned(), actor.status())).collect();
    Ok(Replayed { lines: Lines::parse(&written.text()?)?, found: found.take(), summary, ended, actors })
}

impl Replayed {
    /// Whether all that there was went through: no actor given up or stopped, every edge conserved, nothing lost, no
    /// hole, no trouble with the observers.
    ///
    /// # Errors
    /// What was not so.
    pub fn ensure_whole(&self) -> anyhow::Result<()> {
        let Self { ended, summary, .. } = self;
        ensure!(ended.fatal.is_none() && !ended.interrupted, "it was given up: {:?}", ended.fatal);
        for (actor, exit) in &ended.exits {
            ensure!(*exit == Exit::Drained, "{actor} ended as {exit:?}");
        }
        for edge in &ended.edges {
            ensure!(edge.counts.conserved(), "not conserved: {edge:?}");
        }
        ensure!(summary.lost() == 0, "{} events lost", summary.lost());
        ensure!(summary.unfilled == 0, "{} blocks are missing", summary.unfilled);
        for observer in ["tally", "latencies", "best", "ndjson", "found"] {
            let HandlerReport { failed, panicked, lost, .. } = self.handler(observer)?;
            ensure!(failed + panicked + lost == 0, "{observer} had trouble");
        }
        Ok(())
    }

    /// The report of a handler.
    ///
    /// # Errors
    /// There was none of that name.
    pub fn handler(&self, name: &str) -> anyhow::Result<&HandlerReport> {
        let mut reports = self.ended.handlers.iter();
        reports.find(|report| report.name == name).with_context(|| format!("no handler {name}"))
    }

    /// Whether it said the same as another run.
    ///
    /// # Errors
    /// The first line that differs.
    pub fn ensure_same_lines(&self, expected: &Lines) -> anyhow::Result<()> {
        self.lines.ensure_same(expected)
    }
}

impl Lines {
    /// Takes from NDJSON what must not differ.
    ///
    /// # Errors
    /// A line that is no JSON.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut lines = Self { opportunities: Vec::new(), chain: Vec::new() };
        for line in text.lines() {
            let mut value: Value = serde_json::from_str(line).context("a line is no JSON")?;
            match value["type"].as_str() {
                Some("opportunity") => lines.opportunities.push(line.to_owned()),
                Some("block" | "reorg" | "gap") => {
                    value.as_object_mut().context("a line is no object")?.remove("latency_ns");
                    lines.chain.push(value.to_string());
                }
                _ => {}
            }
        }
        Ok(lines)
    }

    /// Whether a run said what these begin with.
    ///
    /// # Errors
    /// The first line that differs.
    pub fn ensure_begin_with(&self, beginning: &Self) -> anyhow::Result<()> {
        let first = |lines: &[String], count: usize| lines[..count.min(lines.len())].to_vec();
        let own = Self {
            opportunities: first(&self.opportunities, beginning.opportunities.len()),
            chain: first(&self.chain, beginning.chain.len()),
        };
        beginning.ensure_same(&own)
    }

    /// Whether two runs said the same.
    ///
    /// # Errors
    /// The first line that differs.
    pub fn ensure_same(&self, expected: &Self) -> anyhow::Result<()> {
        for (what, ours, theirs) in [
            ("opportunity", &self.opportunities, &expected.opportunities),
            ("chain", &self.chain, &expected.chain),
        ] {
            let different = ours.iter().zip(theirs).position(|(one, other)| one != other);
            if let Some(at) = different {
                anyhow::bail!("{what} line {at} differs:\n{}\n{}", ours[at], theirs[at]);
            }
            ensure!(ours.len() == theirs.len(), "{} {what} lines instead of {}", ours.len(), theirs.len());
        }
        Ok(())
    }
}

/// Writes a recording anew through a journal of its own in `directory`: of the events that `change` has seen, those
/// that are source events.
///
/// # Errors
/// Whatever the journals fail with.
pub fn rewrite(
    recording: &Recording,
    directory: &Path,
    change: impl FnMut(&mut Envelope),
) -> anyhow::Result<Recording> {
    rewrite_until(recording, directory, u64::MAX, change)
}

/// As [`rewrite`], up to the event `last`.
///
/// # Errors
/// Whatever the journals fail with.
pub fn rewrite_until(
    recording: &Recording,
    directory: &Path,
    last: u64,
    mut change: impl FnMut(&mut Envelope),
) -> anyhow::Result<Recording> {
    let (writer, recorder) = begin_journal(recording, directory)?;
    runtime(2)?.block_on(async {
        let publisher = recorded_bus(recording, recorder);
        for record in recording.records(recording.first_seq()) {
            let mut envelope = Arc::unwrap_or_clone(record?.envelope);
            if envelope.seq > last {
                break;
            }
            change(&mut envelope);
            if envelope.event.is_source() {
                publisher.publish(envelope.event, None).await?;
            }
        }
        drop(publisher);
        Ok::<_, anyhow::Error>(writer.close().await?)
    })?;
    Ok(Recording::open(directory)?)
}

/// A journal in `directory` that numbers as `recording` does.
///
/// # Errors
/// It cannot be made.
pub fn begin_journal(recording: &Recording, directory: &Path) -> anyhow::Result<(JournalWriter, Recorder)> {
    let config = JournalConfig::in_directory(directory);
    Ok(Journal::create(&config, recording.run_id(), recording.first_seq())?.start()?)
}

fn recorded_bus(recording: &Recording, recorder: Recorder) -> SourcePublisher {
    let config = BusConfig { first_seq: recording.first_seq(), ..BusConfig::default() };
    EventBus::new(&config, &Topology::new(), &Timeline::default(), Some(recorder), None).publisher()
}

/// Memory that a sink writes into.
#[derive(Clone, Debug, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())?)
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps the findings.
#[derive(Clone, Debug, Default)]
struct Found(Arc<Mutex<Vec<Opportunity>>>);

impl Found {
    fn take(&self) -> Vec<Opportunity> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl EventHandler for Found {
    fn interested_in(&self, event: &BusEvent) -> bool {
        matches!(event, BusEvent::OpportunityFound(_))
    }

    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        if let BusEvent::OpportunityFound(opportunity) = &envelope.event {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(opportunity.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "{\"type\":\"opportunity\",\"block\":1,\"profit\":\"5\"}\n\
                         {\"type\":\"block\",\"number\":1,\"latency_ns\":{\"decoded\":7}}\n\
                         {\"type\":\"summary\"}\n";

    fn same(one: &str, other: &str) -> bool {
        let parse = |text| Lines::parse(text).expect("it is NDJSON");
        parse(one).ensure_same(&parse(other)).is_ok()
    }

    #[test]
    fn lines_differ_in_what_they_say_and_not_in_when() {
        assert!(same(LINES, &LINES.replace("\"decoded\":7", "\"decoded\":8")));
        assert!(!same(LINES, &LINES.replace("\"5\"", "\"6\"")));
        assert!(!same(LINES, &LINES.replace("\"number\":1", "\"number\":2")));
        assert!(!same(LINES, &LINES.replace("\"type\":\"opportunity\",\"block\"", "\"block\"")));
        assert!(!same("", LINES) && !same(LINES, ""));
        assert!(Lines::parse("no JSON").is_err());

        let begins = |whole: &str, beginning: &str| {
            let parse = |text| Lines::parse(text).expect("it is NDJSON");
            parse(whole).ensure_begin_with(&parse(beginning)).is_ok()
        };
        let more = LINES.replace("\"5\"", "\"6\"");
        assert!(begins(&format!("{LINES}{more}"), LINES) && begins(LINES, LINES));
        assert!(!begins(&format!("{more}{LINES}"), LINES) && !begins("", LINES));
    }
}
