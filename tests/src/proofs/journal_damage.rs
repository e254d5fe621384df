//! A journal that is cut, bent, filled with zeros or mixed up: what stands before the damage is read, and the damage is
//! named.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, ensure};
use headwater_bus::{Backlog, BacklogError, BusConfig, EventBus, Timeline, Topology};
use headwater_events::{BusEvent, Envelope, RunId};
use headwater_journal::{Damage, Journal, JournalConfig, JournalError, MAX_RECORD_BYTES, Recording};
use headwater_reference::journal::{End, Fault, Record, Verdict, crc32c, read};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::proof::{Proof, ProofArgs, Report};
use crate::replayed::{bundled, runtime};
use crate::workflows::headwater;

/// Damage of every kind.
pub const JOURNAL_DAMAGE: Proof = Proof {
    name: "journal-damage",
    about: "a journal cut at every byte of its last records, bent, zeroed, mixed up: all before the damage is read, and the damage named",
    full_duration: "3 min",
    run,
};

/// Bytes of a segment: some blocks each.
const SEGMENT_BYTES: u64 = 40 << 10;
/// Events of each of the two runs that wrote the journal.
const EVENTS: usize = 28;
/// Bit flips of the full size.
const FLIPS: usize = 1_000;
/// KiB of address space that the process may have: a record of the greatest length fits, one of 4 GiB does not.
const MOST_KIB: u64 = 1 << 20;
const HEADER: usize = 32;
const HEAD: usize = 18;

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let bench = Bench::new(args.seed)?;
    let mut report = Report { seed: args.seed, ..Report::default() };
    report.lines.push(bench.describe());
    let (step, flips) = if args.quick { (97, FLIPS / 10) } else { (1, FLIPS) };
    report.floor = (bench.last_three() / step + flips) as u64;
    let mut table = Table::default();
    let mut check = |kind, case: &Case| {
        let told = bench.check(case).with_context(|| format!("{kind}: {}", case.what))?;
        table.add(kind, &told);
        report.checked += 1;
        anyhow::Ok(())
    };
    bench.cuts(step).try_for_each(|case| check("truncation", &case))?;
    bench.flips(flips, args.seed).try_for_each(|case| check("bit flip", &case))?;
    for (kind, cases) in bench.others(!args.quick) {
        let step = if args.quick && cases.len() > 60 { 5 } else { 1 };
        cases.iter().step_by(step).try_for_each(|case| check(kind, case))?;
    }
    report.lines.extend(table.lines());
    if !args.quick {
        report.lines.push(in_the_process(&bench, args.seed, 1)?);
    }
    Ok(report)
}

/// The same, as `headwater journal` tells it with little memory to spend; of the truncations and flips one in so many.
///
/// # Errors
/// A case that is told wrongly.
pub fn process(seed: u64, one_in: usize) -> anyhow::Result<String> {
    in_the_process(&Bench::new(seed)?, seed, one_in)
}

fn in_the_process(bench: &Bench, seed: u64, one_in: usize) -> anyhow::Result<String> {
    let whole = Case { what: "nothing".to_owned(), files: bench.pristine.clone(), forged: None };
    let others = bench.others(one_in == 1).into_iter().flat_map(|(_, cases)| cases);
    let cases = [whole].into_iter().chain(bench.cuts(61 * one_in)).chain(bench.flips(FLIPS / one_in, seed));
    let (mut checked, mut named) = (0, 0);
    for case in cases.chain(others).step_by(one_in.isqrt()) {
        checked += 1;
        named += u64::from(bench.check_process(&case).with_context(|| case.what.clone())?);
    }
    Ok(format!(
        "headwater journal verify, with {} MiB of address space: {checked} cases, {named} named on stderr with exit code 1, no abort",
        MOST_KIB >> 10
    ))
}

type File = (String, Arc<Vec<u8>>);
/// Makes a payload that is no event of one that is.
type Forge = fn(&[u8]) -> Vec<u8>;

/// The files of a journal after something happened to them.
struct Case {
    what: String,
    files: Vec<File>,
    /// A record whose checksum holds and whose payload is no event: its file and place.
    forged: Option<(usize, usize)>,
}

impl Case {
    /// What the judge says.
    fn verdict(&self) -> Verdict {
        let files: Vec<&[u8]> = self.files.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        let mut verdict = read(&files);
        if let Some(place) = self.forged {
            // To the judge a payload is bytes.
            verdict.records.retain(|record| (record.file, record.offset) < place);
        }
        verdict
    }
}

/// What was seen of a case.
struct Told {
    recovered: usize,
    named: String,
}

/// A journal, and what was recorded in it.
struct Bench {
    _folder: tempfile::TempDir,
    directory: PathBuf,
    pristine: Vec<File>,
    records: Vec<Record>,
    events: Vec<BusEvent>,
    /// A journal of the same events by another run.
    strange: Vec<File>,
}

impl Bench {
    fn new(seed: u64) -> anyhow::Result<Self> {
        let recording = Recording::open(bundled())?;
        let events = recording
            .records(recording.first_seq())
            .take(240)
            .map(|record| Ok(record?.envelope.event.clone()));
        let mut events = events.collect::<Result<Vec<_>, JournalError>>()?;
        // What was loaded and what pending transactions did is small, blocks are large; the seed says where the blocks begin.
        events.retain(|event| !matches!(event, BusEvent::PendingEffect(_)));
        let from = 20 + usize::try_from(seed % 4)?;
        events.drain(..from);
        events.truncate(2 * EVENTS);
        // As many as it takes for the last segment to hold three.
        loop {
            let bench = Self::of_events(events.clone())?;
            let in_last = bench.records.iter().filter(|record| record.file + 1 == bench.pristine.len());
            if in_last.count() >= 3 {
                return Ok(bench);
            }
            events.pop().context("no last segment holds three records")?;
        }
    }

    fn of_events(events: Vec<BusEvent>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let directory = folder.path().join("journal");
        let other = folder.path().join("other");
        write(&directory, 1, &events[..EVENTS])?;
        write(&directory, 2, &events[EVENTS..])?;
        write(&other, 3, &events)?;
        let (pristine, strange) = (files(&directory)?, files(&other)?);
        let whole = Case { what: String::new(), files: pristine.clone(), forged: None }.verdict();
        ensure!(
            whole.end == End::Whole && whole.records.len() == events.len(),
            "the judge says {:?}",
            whole.end
        );
        ensure!(
            pristine.len() >= 6 && strange.len() >= 5,
            "{} and {} segments",
            pristine.len(),
            strange.len()
        );
        Ok(Self { _folder: folder, directory, pristine, records: whole.records, events, strange })
    }

    fn describe(&self) -> String {
        let bytes: usize = self.pristine.iter().map(|(_, bytes)| bytes.len()).sum();
        format!(
            "a journal of {} events by two runs: {bytes} bytes in {} segments",
            self.events.len(),
            self.pristine.len()
        )
    }

    /// Bytes of the last three records.
    fn last_three(&self) -> usize {
        self.records.iter().rev().take(3).map(|record| HEAD + record.length).sum()
    }

    fn case(&self, what: String, change: impl FnOnce(&mut Vec<File>)) -> Case {
        let mut files = self.pristine.clone();
        change(&mut files);
        // Their order is that of their names.
        for (index, (name, _)) in files.iter_mut().enumerate() {
            *name = name.strip_prefix('+').map_or_else(|| name.clone(), |_| format!("{:08}.hwj", index + 1));
        }
        Case { what, files, forged: None }
    }

    fn edit(&self, what: String, file: usize, change: impl FnOnce(&mut Vec<u8>)) -> Case {
        self.case(what, |files| {
            let bytes = Arc::make_mut(&mut files[file].1);
            change(bytes);
        })
    }

    /// Every `step`-th length of the last file, down to the third record from its end; and within its header.
    fn cuts(&self, step: usize) -> impl Iterator<Item = Case> {
        let last = self.pristine.len() - 1;
        let end = self.pristine[last].1.len();
        let lengths = (end - self.last_three()..end).rev().step_by(step).chain(0..HEADER + 1);
        lengths.map(move |length| self.edit(format!("cut at {length}"), last, |bytes| bytes.truncate(length)))
    }

    /// A fifth each in a segment's header, a record's length, its checksum, the rest of its head, its payload.
    fn flips(&self, count: usize, seed: u64) -> impl Iterator<Item = Case> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let flip = move |number: usize| {
            let record = self.records[random.random_range(0..self.records.len())];
            let (file, from, length) = match number % 5 {
                0 => (random.random_range(0..self.pristine.len()), 0, HEADER),
                1 => (record.file, record.offset, 4),
                2 => (record.file, record.offset + 4, 4),
                3 => (record.file, record.offset + 8, 10),
                _ => (record.file, record.offset + HEAD, record.length),
            };
            let (at, bit) = (from + random.random_range(0..length), random.random_range(0..8));
            self.edit(format!("bit {bit} of byte {at} in file {file}"), file, |bytes| bytes[at] ^= 1 << bit)
        };
        (0..count).map(flip)
    }

    /// All other kinds; the greatest tails only at full size.
    fn others(&self, full: bool) -> Vec<(&'static str, Vec<Case>)> {
        vec![
            ("absurd length", self.lengths()),
            ("zeros", self.zeros(full)),
            ("missing segment", self.missing()),
            ("segment of another run", self.strangers()),
            ("doubled record", self.doubled()),
            ("no event, checksum made to hold", self.forged()),
        ]
    }

    fn lengths(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        let most = u32::try_from(MAX_RECORD_BYTES).expect("it is below 4 GiB");
        for record in &self.records {
            let left = self.pristine[record.file].1.len() - record.offset - HEAD;
            let own = record.length as u32;
            for length in [0, 1, own - 1, own + 1, left as u32 + 1, most, most + 1, u32::MAX] {
                cases.push(self.edit(format!("length {length} at {record:?}"), record.file, |bytes| {
                    bytes[record.offset..record.offset + 4].copy_from_slice(&length.to_le_bytes());
                }));
            }
        }
        cases
    }

    fn zeros(&self, full: bool) -> Vec<Case> {
        let last = self.pristine.len() - 1;
        let end = self.pristine[last].1.len();
        let huge = if full { &[4 << 20, MAX_RECORD_BYTES + (1 << 20)][..] } else { &[] };
        let appended = [1, 17, 18, 19, 511, 512, 4096, 65_536, 1 << 20].iter().chain(huge);
        let mut cases: Vec<_> = appended
            .map(|zeros| {
                self.edit(format!("{zeros} zeros behind the end"), last, |bytes| bytes.resize(end + zeros, 0))
            })
            .collect();
        let in_last = self.records.iter().filter(|record| record.file == last);
        let begins = in_last
            .flat_map(|record| [record.offset, record.offset + 4, record.offset + 20, record.end() - 1]);
        for begin in begins.chain([0, 1, HEADER - 1]).chain((0..end).step_by(512)) {
            cases.push(self.edit(format!("zeros from {begin} on"), last, |bytes| bytes[begin..].fill(0)));
        }
        for file in 0..=last {
            let length = self.pristine[file].1.len();
            cases.push(
                self.edit(format!("a header of zeros in file {file}"), file, |bytes| bytes[..HEADER].fill(0)),
            );
            cases.push(self.edit(format!("only zeros in file {file}"), file, |bytes| bytes.fill(0)));
            cases.push(
                self.edit(format!("zeros behind file {file}"), file, |bytes| bytes.resize(length + 512, 0)),
            );
            for page in (0..length / 512).step_by(7) {
                cases.push(self.edit(format!("page {page} of file {file} is zeros"), file, |bytes| {
                    bytes[512 * page..512 * (page + 1)].fill(0);
                }));
            }
        }
        cases
    }

    fn missing(&self) -> Vec<Case> {
        let middle = 1..self.pristine.len() - 1;
        middle
            .map(|file| self.case(format!("without file {file}"), |files| drop(files.remove(file))))
            .collect()
    }

    /// A segment of another run in the place of each but the last, and between any two.
    fn strangers(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for (number, (_, strange)) in self.strange.iter().enumerate() {
            for file in 1..self.pristine.len() {
                cases.push(self.case(
                    format!("segment {number} of another run between {file} and the one before"),
                    |files| {
                        files.insert(file, (String::new(), Arc::clone(strange)));
                        files.iter_mut().for_each(|file| file.0 = "+".to_owned());
                    },
                ));
                if file + 1 < self.pristine.len() {
                    cases.push(self.case(format!("segment {number} of another run for {file}"), |files| {
                        files[file].1 = Arc::clone(strange);
                    }));
                }
            }
        }
        cases
    }

    /// Each record twice in a row, and again at the end; each segment twice.
    fn doubled(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        let last = self.pristine.len() - 1;
        for record in &self.records {
            let copy = self.pristine[record.file].1[record.offset..record.end()].to_vec();
            cases.push(self.edit(format!("{record:?} twice"), record.file, |bytes| {
                bytes.splice(record.end()..record.end(), copy.iter().copied());
            }));
            cases.push(self.edit(format!("{record:?} again at the end"), last, |bytes| bytes.extend(&copy)));
        }
        for file in 0..=last {
            cases.push(self.case(format!("file {file} twice"), |files| {
                files.insert(file, files[file].clone());
                files.iter_mut().for_each(|file| file.0 = "+".to_owned());
            }));
        }
        cases
    }

    /// Payloads that are no events, with the checksum that they ought to have.
    fn forged(&self) -> Vec<Case> {
        let payloads: [Forge; 3] = [
            |payload| payload[..payload.len() / 2].to_vec(),
            |payload| vec![0xff; payload.len()],
            |payload| [payload, &[0]].concat(),
        ];
        let mut cases = Vec::new();
        for record in self.records.iter().step_by(5) {
            for (number, payload) in payloads.iter().enumerate() {
                let case = self.edit(format!("payload {number} at {record:?}"), record.file, |bytes| {
                    let payload = payload(&bytes[record.offset + HEAD..record.end()]);
                    let covered = [
                        &(payload.len() as u32).to_le_bytes()[..],
                        &bytes[record.offset + 8..][..10],
                        &payload,
                    ]
                    .concat();
                    let forged = [&covered[..4], &crc32c(&covered).to_le_bytes(), &covered[4..]].concat();
                    bytes.splice(record.offset..record.end(), forged);
                });
                cases.push(Case { forged: Some((record.file, record.offset)), ..case });
            }
        }
        cases
    }

    /// Lays the files out.
    fn lay_out(&self, files: &[File]) -> anyhow::Result<()> {
        if self.directory.exists() {
            fs::remove_dir_all(&self.directory)?;
        }
        fs::create_dir(&self.directory)?;
        for (name, bytes) in files {
            fs::write(self.directory.join(name), bytes.as_slice())?;
        }
        Ok(())
    }

    /// Reads the damaged journal as every reader does, opens it for writing, and compares with the judge.
    fn check(&self, case: &Case) -> anyhow::Result<Told> {
        let verdict = case.verdict();
        self.lay_out(&case.files)?;
        let (events, named) = match Recording::open(&self.directory) {
            Ok(recording) => {
                let told = read_all(&recording);
                // Where damage took no event with it, a reader that seeks what comes behind it finds it.
                let repaired = repair(&recording)?;
                ensure!(
                    repaired.len() >= told.0.len(),
                    "the backlog has {} events, and {} stand",
                    repaired.len(),
                    told.0.len()
                );
                self.ensure_published(&repaired)?;
                told
            }
            Err(error) => (Vec::new(), Ending::Damaged(error)),
        };
        self.ensure_recovered(&verdict.records, &events)?;
        let named = self.ensure_named(case, &verdict.end, &named)?;
        self.ensure_cut_only_where_torn(case, &verdict.end)?;
        Ok(Told { recovered: events.len(), named })
    }

    /// All that stands, and nothing else, as it was published.
    fn ensure_recovered(&self, standing: &[Record], events: &[Arc<Envelope>]) -> anyhow::Result<()> {
        ensure!(
            events.len() == standing.len(),
            "{} events were read, and {} stand",
            events.len(),
            standing.len()
        );
        ensure!(
            standing.iter().map(|record| record.seq).eq(1..=standing.len() as u64),
            "the judge sees a hole"
        );
        self.ensure_published(events)
    }

    /// From the first on, in order, and as they were published.
    fn ensure_published(&self, events: &[Arc<Envelope>]) -> anyhow::Result<()> {
        ensure!(events.len() <= self.events.len(), "{} events of {}", events.len(), self.events.len());
        for (envelope, (seq, published)) in events.iter().zip((1..).zip(&self.events)) {
            ensure!(
                envelope.seq == seq && envelope.event == *published,
                "event {seq} is not as it was published"
            );
        }
        Ok(())
    }

    fn ensure_named(&self, case: &Case, end: &End, named: &Ending) -> anyhow::Result<String> {
        let place = |file: usize| self.directory.join(&case.files[file].0);
        match (end, named) {
            (End::Whole, Ending::Whole) if case.forged.is_none() => Ok("nothing missing".to_owned()),
            (End::Torn { file, offset }, Ending::Torn(path, at)) if *path == place(*file) && at == offset => {
                Ok("torn tail".to_owned())
            }
            (_, Ending::Damaged(JournalError::Damaged { path, offset, damage })) => {
                let (file, at) = match (case.forged, end) {
                    (Some((file, at)), _) => (file, at),
                    (None, End::Damaged { file, offset, .. }) => (*file, *offset),
                    (None, end) => anyhow::bail!("{damage} at byte {offset}, and the judge says {end:?}"),
                };
                ensure!(
                    *path == place(file) && *offset == at as u64,
                    "{} byte {offset}, not {at}",
                    path.display()
                );
                let fault = fault_of(damage);
                let is_kind = match end {
                    End::Damaged { fault: judged, .. } if case.forged.is_none() => fault == Some(*judged),
                    _ => matches!(damage, Damage::Payload(_)),
                };
                ensure!(is_kind, "named {damage:?}, and the judge says {end:?}");
                Ok(fault.map_or_else(|| "Payload".to_owned(), |fault| format!("{fault:?}")))
            }
            _ => anyhow::bail!("the judge says {end:?}, and it is told as {named:?}"),
        }
    }

    /// Opening for writing takes away a torn tail, and nothing else, whether it succeeds or not.
    fn ensure_cut_only_where_torn(&self, case: &Case, end: &End) -> anyhow::Result<()> {
        let opened = Journal::open(&JournalConfig::in_directory(&self.directory), RunId(5));
        let mut expected = case.files.clone();
        if let End::Torn { file, offset } = end {
            let journal = opened.as_ref().ok().context("a torn tail keeps nobody from writing")?;
            ensure!(journal.torn_tail().is_some(), "it was cut, and not said");
            Arc::make_mut(&mut expected[*file].1).truncate(*offset);
        }
        // A last segment without a record gives way to that of the new run.
        if opened.is_ok() && expected.last().is_some_and(|(_, bytes)| bytes.len() <= HEADER) {
            expected.pop();
        }
        drop(opened);
        let left = files(&self.directory)?;
        let sizes =
            |files: &[File]| files.iter().map(|file| (file.0.clone(), file.1.len())).collect::<Vec<_>>();
        ensure!(left == expected, "left are {:?} instead of {:?}", sizes(&left), sizes(&expected));
        Ok(())
    }

    /// What `headwater journal` says; whether it named something.
    fn check_process(&self, case: &Case) -> anyhow::Result<bool> {
        let verdict = case.verdict();
        self.lay_out(&case.files)?;
        let (code, said) = self.headwater("verify")?;
        let place = match (case.forged, verdict.end) {
            (Some(place), _) => Some(place),
            (None, End::Whole) => None,
            (None, End::Torn { file, offset } | End::Damaged { file, offset, .. }) => Some((file, offset)),
        };
        let Some((file, offset)) = place else {
            ensure!(code == Some(0) && said.is_empty(), "{code:?} {said}");
            return Ok(false);
        };
        let (name, at) = (&case.files[file].0, format!("byte {offset}"));
        ensure!(
            code == Some(1) && said.contains(name) && said.contains(&at),
            "{name}, {at}: {code:?} {said}"
        );
        if !verdict.records.is_empty() {
            let before = format!("events 1 to {} before it hold", verdict.records.len());
            ensure!(said.contains(&before), "{before}: {said}");
        }
        if let End::Torn { .. } = verdict.end {
            let (code, said) = self.headwater("info")?;
            ensure!(code == Some(0) && said.contains(name) && said.contains(&at), "info: {code:?} {said}");
        }
        Ok(true)
    }

    /// The exit code and what stands on stderr, with little memory to spend.
    fn headwater(&self, command: &str) -> anyhow::Result<(Option<i32>, String)> {
        let output = Command::new("sh")
            .args(["-c", "ulimit -v \"$0\" && exec \"$@\"", &MOST_KIB.to_string()])
            .arg(headwater()?)
            .args(["journal", command])
            .arg(&self.directory)
            .env_remove("RUST_LOG")
            .output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

/// Records `events` behind what is there.
fn write(directory: &Path, run: u64, events: &[BusEvent]) -> anyhow::Result<()> {
    let config = JournalConfig { segment_bytes: SEGMENT_BYTES, ..JournalConfig::in_directory(directory) };
    let journal = Journal::open(&config, RunId(run))?;
    let bus = BusConfig { run_id: RunId(run), first_seq: journal.next_seq(), ..BusConfig::default() };
    let (writer, recorder) = journal.start()?;
    runtime(1)?.block_on(async {
        let bus = EventBus::new(&bus, &Topology::new(), &Timeline::default(), Some(recorder), None);
        for event in events {
            bus.publisher().publish(event.clone(), None).await?;
        }
        drop(bus);
        writer.close().await?;
        Ok(())
    })
}

fn files(directory: &Path) -> anyhow::Result<Vec<File>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".hwj") {
            files.push((name, Arc::new(fs::read(entry.path())?)));
        }
    }
    files.sort();
    Ok(files)
}

/// How a reader came to its end.
#[derive(Debug)]
enum Ending {
    Whole,
    Torn(PathBuf, usize),
    Damaged(JournalError),
}

fn read_all(recording: &Recording) -> (Vec<Arc<Envelope>>, Ending) {
    let mut records = recording.records(1);
    let mut events = Vec::new();
    for record in records.by_ref() {
        match record {
            Ok(record) => events.push(record.envelope),
            Err(error) => return (events, Ending::Damaged(error)),
        }
    }
    let torn = records.torn_tail().map(|torn| (torn.file.clone(), torn.offset));
    (
        events,
        torn.map_or(Ending::Whole, |(file, at)| {
            Ending::Torn(file, usize::try_from(at).unwrap_or(usize::MAX))
        }),
    )
}

/// What the bus's repairs get of it.
fn repair(recording: &Recording) -> anyhow::Result<Vec<Arc<Envelope>>> {
    let backlog = recording.backlog(RunId(5));
    let mut events = Vec::new();
    loop {
        match backlog.read(events.len() as u64 + 1, 17) {
            Ok(read) if read.is_empty() => return Ok(events),
            Ok(read) => events.extend(read),
            Err(BacklogError::Unreadable(_)) => return Ok(events),
            Err(gone) => return Err(gone.into()),
        }
    }
}

fn fault_of(damage: &Damage) -> Option<Fault> {
    Some(match damage {
        Damage::Magic => Fault::Magic,
        Damage::Header => Fault::Header,
        Damage::Run { .. } => Fault::Run,
        Damage::Sequence { .. } => Fault::Sequence,
        Damage::Length(_) => Fault::Length,
        Damage::Incomplete => Fault::Incomplete,
        Damage::Checksum => Fault::Checksum,
        _ => return None,
    })
}

/// Counts by kind.
#[derive(Default)]
struct Table(Vec<(&'static str, Row)>);

#[derive(Default)]
struct Row {
    cases: u64,
    recovered: u64,
    named: BTreeMap<String, u64>,
}

impl Table {
    fn add(&mut self, kind: &'static str, told: &Told) {
        if self.0.last().is_none_or(|(last, _)| *last != kind) {
            self.0.push((kind, Row::default()));
        }
        let row = &mut self.0.last_mut().expect("it was pushed just now").1;
        row.cases += 1;
        row.recovered += told.recovered as u64;
        *row.named.entry(told.named.clone()).or_default() += 1;
    }

    fn lines(&self) -> Vec<String> {
        let head = format!("{:32} {:>7} {:>10}  named as", "damage", "cases", "recovered");
        let row = |(kind, row): &(&str, Row)| {
            let named = row
                .named
                .iter()
                .map(|(name, count)| format!("{name} {count}"))
                .collect::<Vec<_>>()
                .join(", ");
            format!("{kind:32} {:7} {:10}  {named}", row.cases, row.recovered)
        };
        [head].into_iter().chain(self.0.iter().map(row)).collect()
    }
}
