//! A replay finds the same, whatever the threads and the delays, and what it finds is what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use anyhow::{Context, bail, ensure};
use headwater_actor::Delays;
use headwater_bus::EventHandler;
use headwater_events::{BlockEvent, BusEvent, Envelope, Kind, Plan};
use headwater_journal::Recording;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::devnet::write_skip;
use crate::proof::{Proof, ProofArgs, Report};
use crate::replayed::{Lines, Replayed, Setup, begin_journal, bundled, replay, rewrite, rewrite_until};

mod judged;

pub(crate) use self::judged::as_json;

/// The bundled recording through the real bot, in every order that threads and delays make.
pub const REPLAY: Proof = Proof {
    name: "replay",
    about: "the bundled recording, 20 times with random delays, offline, rewritten, altered; each block = the reference",
    full_duration: "5 min",
    run,
};

/// How much is examined.
struct Size {
    /// Where the recording is only begun when it is replayed again and again: how many blocks of it.
    begun: Option<u64>,
    /// Replays with delays.
    runs: u64,
    /// Replays in which one reserve is another.
    altered: usize,
    /// Every so manieth block is judged by the reference search.
    judged: usize,
    /// Fewer cases than this, in all and of each sort that is judged, prove nothing.
    floor: u64,
    judged_floor: judged::Floor,
}

const FULL: Size = Size {
    begun: None,
    runs: 20,
    altered: 5,
    judged: 1,
    floor: 10_000,
    judged_floor: judged::Floor { searched: 300, cycles: 1_000, after_gas: 1_000, behind: 1_000 },
};
const QUICK: Size = Size {
    begun: Some(48),
    runs: 4,
    altered: 1,
    judged: 12,
    floor: 25_000,
    judged_floor: judged::Floor { searched: 24, cycles: 400, after_gas: 5_000, behind: 1_000 },
};

/// What a recording, and its beginning, must hold.
struct Contents {
    blocks: u64,
    blocks_without_a_finding: u64,
}

const WHOLE: Contents = Contents { blocks: 300, blocks_without_a_finding: 50 };
const BEGUN: Contents = Contents { blocks: 48, blocks_without_a_finding: 5 };

/// A recording, and what an undisturbed replay of it said.
struct Subject {
    path: PathBuf,
    recording: Recording,
    plain: Replayed,
}

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let size = if args.quick { QUICK } else { FULL };
    let path = args.rest.first().map_or_else(bundled, PathBuf::from);
    let mut report = Report { floor: size.floor, seed: args.seed, ..Report::default() };

    let whole = Subject::open(path)?;
    ensure_enough(&whole.plain, &WHOLE, &mut report)?;
    let directory = tempfile::tempdir()?;
    let begun = size.begun.map(|blocks| whole.begin(blocks, directory.path(), &mut report)).transpose()?;
    let subject = begun.as_ref().unwrap_or(&whole);
    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    repeat(subject, size.runs, &mut random, &mut report)?;
    let built_in = args.rest.is_empty().then_some(&whole.plain.lines);
    offline(subject, built_in, &mut report)?;
    stripped(subject, &mut report)?;
    altered(subject, size.altered, &mut random, &mut report)?;
    judged::judge(&whole.recording, &whole.plain, size.judged, &size.judged_floor, &mut report)?;
    Ok(report)
}

impl Subject {
    fn open(path: PathBuf) -> anyhow::Result<Self> {
        let recording = Recording::open(&path).with_context(|| format!("opening {}", path.display()))?;
        let plain = replay(&recording, &Setup::default(), |_| ()).context("the plain replay")?;
        Ok(Self { path, recording, plain })
    }

    /// The first so many blocks as a recording of their own: what is found in them does not depend on what comes behind.
    fn begin(&self, blocks: u64, directory: &Path, report: &mut Report) -> anyhow::Result<Self> {
        let records = self.recording.records(self.recording.first_seq());
        let of_blocks = records.filter(|record| {
            record.as_ref().map_or(true, |record| matches!(record.envelope.event, BusEvent::NewBlock(_)))
        });
        let last = of_blocks.take(blocks as usize).last().context("there are no blocks")??.envelope.seq;
        rewrite_until(&self.recording, directory, last, |_| ())?;
        let begun = Self::open(directory.to_owned())?;
        ensure_enough(&begun.plain, &BEGUN, report)?;
        self.plain.lines.ensure_begin_with(&begun.plain.lines).context("without what comes behind")?;
        report
            .lines
            .push(format!("the first {blocks} blocks alone: the same lines as with the others behind them"));
        Ok(begun)
    }
}

/// What a recording must hold, and that an undisturbed replay drops nothing for any reason.
fn ensure_enough(plain: &Replayed, least: &Contents, report: &mut Report) -> anyhow::Result<()> {
    plain.ensure_whole()?;
    let (summary, found) = (&plain.summary, &plain.found);
    for edge in &plain.ended.edges {
        ensure!(edge.counts.dropped_total() == 0, "an undisturbed replay drops: {edge:?}");
    }
    let mut by_block: BTreeMap<u64, u64> = BTreeMap::new();
    for found in found {
        *by_block.entry(found.as_of.seq).or_default() += 1;
    }
    let empty = summary.blocks - by_block.len() as u64;
    let of = |kind: Kind| found.iter().filter(|found| found.kind == kind).count() as u64;
    let mixed = found.iter().filter(|found| matches!(found.plan, Plan::Mixed(_))).count() as u64;
    for (what, count, least) in [
        ("opportunities", found.len() as u64, 50),
        ("arbitrages in pairs", of(Kind::Arbitrage) - mixed, 50),
        ("arbitrages with pools of V3 or V4", mixed, 50),
        ("liquidations", of(Kind::Liquidation), 50),
        ("backruns", of(Kind::Backrun), 50),
        ("blocks", summary.blocks, least.blocks),
        ("blocks without a finding", empty, least.blocks_without_a_finding),
        ("reorgs", summary.reorgs, 1),
    ] {
        ensure!(count >= least, "{count} {what}; at least {least} are due");
    }
    ensure!(found.len() == plain.lines.opportunities.len(), "a finding has no line");
    report.lines.push(format!(
        "{} blocks, {} reorgs, {} holes in what was announced and all filled, {} opportunities ({mixed} with pools of V3 or V4, {} \
         liquidations, {} backruns), {empty} blocks without one; \
         nothing lost, nothing dropped, {} edges conserved, {} actors drained",
        summary.blocks,
        summary.reorgs,
        summary.gaps,
        found.len(),
        of(Kind::Liquidation),
        of(Kind::Backrun),
        plain.ended.edges.len(),
        plain.ended.exits.len()
    ));
    Ok(())
}

/// Who is slow in a run.
const SLOW: [&str; 8] =
    ["everybody", "oracle", "state", "decoder", "arbitrage", "backrun-replay", "liquidation", "executor"];

fn repeat(
    Subject { recording, plain, .. }: &Subject,
    runs: u64,
    random: &mut ChaCha8Rng,
    report: &mut Report,
) -> anyhow::Result<()> {
    for run in 0..runs {
        let (workers, slow) = ([1, 2, 4][run as usize % 3], SLOW[run as usize % SLOW.len()]);
        let seed = random.random();
        let setup = Setup { workers, delays: Some(delays(seed, slow)), ..Setup::default() };
        let dawdler = Dawdler { random: ChaCha8Rng::seed_from_u64(seed) };
        let replayed = replay(recording, &setup, |bot| bot.register("dawdler", dawdler))
            .and_then(|replayed| {
                replayed.ensure_whole()?;
                replayed.ensure_same_lines(&plain.lines)
            })
            .with_context(|| format!("run {run}: {workers} threads, {slow} slow, delays of seed {seed}"));
        replayed?;
        report.checked += plain.found.len() as u64;
    }
    report.lines.push(format!(
        "{runs} replays on 1, 2 and 4 threads with random delays (everybody slow, or one, and a slow subscriber): the same {} lines",
        plain.found.len()
    ));
    Ok(())
}

/// Up to two milliseconds before half of the messages of whoever is slow, a twentieth of that for everybody else. Each
/// actor has a sequence of its own, so that it does not depend on who asks first.
fn delays(seed: u64, slow: &'static str) -> Delays {
    let sequences: Mutex<BTreeMap<String, ChaCha8Rng>> = Mutex::default();
    Arc::new(move |actor: &str| {
        let mut sequences = sequences.lock().unwrap_or_else(PoisonError::into_inner);
        let random = sequences.entry(actor.to_owned()).or_insert_with(|| {
            let name = keccak256(actor.as_bytes());
            ChaCha8Rng::seed_from_u64(seed ^ u64::from_be_bytes(name[..8].try_into().expect("32 bytes")))
        });
        let greatest = if slow == "everybody" || slow == actor { 2_000 } else { 100 };
        if random.random() {
            Duration::from_micros(random.random_range(0..=greatest))
        } else {
            Duration::ZERO
        }
    })
}

/// A subscriber that is slow at every tenth event.
struct Dawdler {
    random: ChaCha8Rng,
}

impl EventHandler for Dawdler {
    async fn handle(&mut self, _: &Envelope) -> anyhow::Result<()> {
        if self.random.random_range(0..10) == 0 {
            let micros = self.random.random_range(0..=2_000);
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
        Ok(())
    }
}

/// The program itself, in a network namespace without a single interface that is up; on what is `built_in` as well, where that is
/// what the proof is about.
fn offline(subject: &Subject, built_in: Option<&Lines>, report: &mut Report) -> anyhow::Result<()> {
    let program = program()?;
    let Some(isolation) = ["-rn", "-n"].into_iter().find(|option| unshares(option)) else {
        let (why, what) = ("`unshare -n` is not allowed here", "the replay without a network");
        write_skip(why, what)?;
        report.skipped += 1;
        report.lines.push(format!("SKIPPED, because {why}: {what}"));
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let output = directory.path().join("results.ndjson");
    let replay = ["replay".as_ref(), subject.path.as_os_str()];
    let bundled = ["run".as_ref()];
    let mut commands = vec![(&replay[..], &subject.plain.lines)];
    // What is built into the program is what stands beside it.
    commands.extend(built_in.map(|expected| (&bundled[..], expected)));
    for (arguments, expected) in &commands {
        let mut command = Command::new("unshare");
        command.arg(isolation).arg(&program).args(*arguments).arg("--ndjson").arg(&output);
        let ended = command.current_dir(directory.path()).output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success(), "{arguments:?} ended with {}: {said}", ended.status);
        ensure!(said.contains("REPLAY"), "{arguments:?} does not say that it replays: {said}");
        let lines = Lines::parse(&std::fs::read_to_string(&output)?)?;
        lines.ensure_same(expected).with_context(|| format!("{arguments:?} without a network"))?;
        report.checked += lines.opportunities.len() as u64;
    }
    report.lines.push(format!("{} runs of the program without a network: the same lines", commands.len()));
    Ok(())
}

fn unshares(option: &str) -> bool {
    Command::new("unshare").args([option, "true"]).output().is_ok_and(|ended| ended.status.success())
}

/// The program, as it was built beside this one.
fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("an executable stands in a folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().context("above deps")? } else { folder };
    let program = folder.join("headwater");
    ensure!(program.exists(), "{} is not built: cargo build -p headwater-supervisor", program.display());
    Ok(program)
}

/// The recording holds no conclusions; written anew from its source events alone it replays the same; and so does the
/// record of a replay, which publishes thousands of conclusions while it is recorded.
fn stripped(Subject { recording, plain, .. }: &Subject, report: &mut Report) -> anyhow::Result<()> {
    let expected = &plain.lines;
    let records = ensure_only_source_events(recording)?;
    let directory = tempfile::tempdir()?;
    let rewritten = rewrite(recording, &directory.path().join("rewritten"), |_| ())?;
    let again = replay(&rewritten, &Setup::default(), |_| ())?;
    again.ensure_same_lines(expected).context("rewritten from its source events")?;

    let directory = directory.path().join("recorded again");
    let (writer, recorder) = begin_journal(recording, &directory)?;
    let setup = Setup { record: Some((recorder, Arc::new(writer.backlog()))), ..Setup::default() };
    let recorded = replay(recording, &setup, |_| ())?;
    recorded.ensure_same_lines(expected).context("while it is recorded")?;
    drop(setup);
    tokio::runtime::Builder::new_current_thread().build()?.block_on(writer.close())?;
    let second = Recording::open(&directory)?;
    ensure!(ensure_only_source_events(&second)? == records, "the second record is of another length");
    replay(&second, &Setup::default(), |_| ())?.ensure_same_lines(expected).context("recorded again")?;
    report.checked += 3 * expected.opportunities.len() as u64;
    report.lines.push(format!(
        "{records} events recorded, all of them source events; rewritten from these, and recorded again while replaying: \
         the same lines"
    ));
    Ok(())
}

fn ensure_only_source_events(recording: &Recording) -> anyhow::Result<u64> {
    let mut records = 0;
    for record in recording.records(recording.first_seq()) {
        let envelope = record?.envelope;
        let is_source = envelope.event.is_source() && envelope.derived.is_none();
        ensure!(is_source, "event {} is derived: {}", envelope.seq, envelope.event.name());
        records += 1;
    }
    Ok(records)
}

/// One reserve in one `Sync` a thousandth greater: other findings from that block on, and the same before it.
fn altered(
    Subject { recording, plain, .. }: &Subject,
    times: usize,
    random: &mut ChaCha8Rng,
    report: &mut Report,
) -> anyhow::Result<()> {
    let places = alterable(recording, plain)?;
    ensure!(places.len() >= times, "only {} reserves decide a finding", places.len());
    for _ in 0..times {
        let place = places[random.random_range(0..places.len())];
        let directory = tempfile::tempdir()?;
        let mut changed = 0;
        let altered = rewrite(recording, directory.path(), |envelope| {
            if let BusEvent::NewBlock(block) = &mut envelope.event
                && envelope.seq == place.seq
            {
                let data = &mut block.logs[place.log].data;
                let mut words = data.to_vec();
                let reserve = U256::from_be_slice(&words[..32]);
                words[..32].copy_from_slice(&(reserve + reserve / U256::from(1000)).to_be_bytes::<32>());
                *data = Bytes::from(words);
                changed += 1;
            }
        })?;
        ensure!(changed == 1, "{changed} reserves were altered");
        let other = replay(&altered, &Setup::default(), |_| ())?;
        other.ensure_whole()?;
        // What is found behind a block's pending transactions is told among the findings of the next one.
        let before = |replayed: &Replayed| -> Vec<String> {
            let lines = replayed.found.iter().zip(&replayed.lines.opportunities);
            let before = lines.filter(|(found, _)| found.as_of.seq < place.seq);
            before.map(|(_, line)| line.clone()).collect()
        };
        ensure!(before(&other) == before(plain), "findings before the altered block differ");
        let (ours, theirs) = (&other.lines.opportunities, &plain.lines.opportunities);
        if ours == theirs {
            bail!("one reserve is another in event {}, and the findings are the same", place.seq);
        }
        report.checked += 1;
    }
    report.lines.push(format!(
        "{times} times one reserve in one Sync a thousandth greater: other findings from that block on, none before it"
    ));
    Ok(())
}

/// A `Sync` by its block's event and its place in the block.
#[derive(Clone, Copy)]
struct Place {
    seq: u64,
    log: usize,
}

/// The last `Sync` of each pool in a block in which a finding goes through that pool.
fn alterable(recording: &Recording, plain: &Replayed) -> anyhow::Result<Vec<Place>> {
    let mut places = Vec::new();
    for record in recording.records(recording.first_seq()) {
        let envelope = record?.envelope;
        let BusEvent::NewBlock(block) = &envelope.event else { continue };
        let found = plain.found.iter().filter(|found| found.as_of.seq == envelope.seq);
        let used: BTreeSet<&Address> = found.flat_map(|found| &found.path).collect();
        let last: BTreeMap<Address, usize> = syncs(block).collect();
        let decisive = last.into_iter().filter(|(pool, _)| used.contains(pool));
        places.extend(decisive.map(|(_, log)| Place { seq: envelope.seq, log }));
    }
    Ok(places)
}

fn syncs(block: &BlockEvent) -> impl Iterator<Item = (Address, usize)> {
    let sync: B256 = keccak256("Sync(uint112,uint112)");
    let logs = block.logs.iter().enumerate();
    logs.filter(move |(_, log)| log.topics.first() == Some(&sync)).map(|(index, log)| (log.address, index))
}
