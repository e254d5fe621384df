//! The lives of the process, one after the other on the same journal, and what can be seen of them.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;
use anyhow::{Context, bail, ensure};
use headwater_events::Grade;
use serde_json::Value;
use tokio::time::{Instant, interval};

use crate::workflows::{Process, beside_us};

/// How often the files are looked into.
const LOOK: Duration = Duration::from_millis(10);

/// Until a failure of an actor no longer counts, and some more.
pub(super) const GIVEN_UP_AFTER: Duration = Duration::from_secs(11);

/// Lines of a log that a failure shows.
const SHOWN: usize = 60;

/// Mounts a file system for the journal in a namespace of its own, and keeps it.
const SMALL_PLACE: &str = "mount -t tmpfs -o size=8g tmpfs \"$1\" && echo ready && exec cat";

/// Where the journal is: on a file system that can be made to be full, where one can be mounted.
pub(super) struct Disk {
    place: PathBuf,
    holder: Option<Process>,
}

impl Disk {
    pub(super) fn mount(place: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir(&place)?;
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", SMALL_PLACE, "sh"]).arg(&place);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let Ok(mut holder) = Process::start(&mut command) else { return Ok(Self { place, holder: None }) };
        let mut ready = String::new();
        if let Some(said) = holder.stdout() {
            BufReader::new(said).read_line(&mut ready)?;
        }
        let holder = (ready == "ready\n").then_some(holder);
        Ok(Self { place, holder })
    }

    pub(super) fn can_be_full(&self) -> bool {
        self.holder.is_some()
    }

    /// A command whose file systems are ours and this one.
    fn command(&self, program: &Path) -> Command {
        let Some(holder) = &self.holder else { return Command::new(program) };
        let mut command = Command::new("nsenter");
        command.args(["-t", &holder.id().to_string(), "-U", "-m", "--preserve-credentials"]).arg(program);
        command
    }

    /// Leaves no room, or makes some.
    pub(super) fn fill(&self, full: bool) -> anyhow::Result<()> {
        const TRIES: u32 = 20;
        for _ in 0..TRIES {
            // Less than what is used meanwhile is refused.
            let size = if full { self.used()? + (48 << 10) } else { 8 << 30 };
            let mut command = self.command(Path::new("mount"));
            command.args(["-o", &format!("remount,size={size}")]).arg(&self.place);
            if command.stderr(Stdio::null()).status()?.success() {
                return Ok(());
            }
        }
        bail!("the file system cannot be given another size")
    }

    fn used(&self) -> anyhow::Result<u64> {
        let output =
            self.command(Path::new("df")).args(["-B1", "--output=used"]).arg(&self.place).output()?;
        let text = String::from_utf8(output.stdout)?;
        Ok(text.lines().nth(1).context("df says nothing")?.trim().parse()?)
    }

    /// The place as it is seen from here.
    pub(super) fn seen_from_here(&self) -> anyhow::Result<PathBuf> {
        let Some(holder) = &self.holder else { return Ok(self.place.clone()) };
        Ok(PathBuf::from(format!("/proc/{}/root", holder.id())).join(self.place.strip_prefix("/")?))
    }

    pub(super) fn place(&self) -> &Path {
        &self.place
    }
}

/// What the process has shown so far, in all its lives.
#[derive(Default)]
pub(super) struct Shown {
    /// The lines of its logs, and when they were seen.
    pub(super) log: Vec<(Instant, String)>,
    /// When the line of a block was first seen.
    pub(super) blocks: HashMap<B256, Instant>,
    /// When a reorganisation was told, and its new head.
    pub(super) reorgs: Vec<(Instant, B256)>,
    /// Tasks of the runtime, as last told.
    pub(super) tasks: Option<u64>,
    /// Bytes of the heap in use, as last told.
    pub(super) heap: Option<u64>,
}

/// How complete the lives want their blocks, by turns.
#[derive(Default)]
struct Grades {
    now: Option<(Grade, Instant)>,
    /// How long each was in force.
    lived: BTreeMap<Grade, Duration>,
    /// Which is to be the next one.
    wanted: Option<Grade>,
}

impl Grades {
    /// The one that is wanted, or else was in force for the shortest time so far.
    fn next(&mut self, now: Instant) -> Grade {
        if let Some((grade, since)) = self.now.take() {
            *self.lived.entry(grade).or_default() += now.duration_since(since);
        }
        let lived = |grade: &Grade| self.lived.get(grade).copied().unwrap_or_default();
        let next = [Grade::Matched, Grade::Proven, Grade::Assumed].into_iter().min_by_key(lived);
        let next = self.wanted.take().or(next).unwrap_or(Grade::Matched);
        self.now = Some((next, now));
        next
    }
}

/// The process as it is now.
pub(super) struct Lives {
    folder: PathBuf,
    pub(super) disk: Disk,
    planted: Option<String>,
    /// The configuration of every life; at its end, in the table `ingest`, how complete blocks have to be.
    configuration: String,
    grades: Mutex<Grades>,
    process: Mutex<Option<(Process, ChildStdin)>>,
    shown: Arc<Mutex<Shown>>,
    count: Mutex<usize>,
    /// Whether the process is to end by itself.
    may_end: AtomicBool,
    tails: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl Lives {
    pub(super) fn new(
        folder: &Path,
        planted: Option<&str>,
        configuration: impl FnOnce(&Path) -> String,
    ) -> anyhow::Result<Self> {
        let disk = Disk::mount(folder.join("disk"))?;
        Ok(Self {
            folder: folder.to_owned(),
            configuration: configuration(&disk.place().join("journal")),
            grades: Mutex::default(),
            disk,
            planted: planted.map(str::to_owned),
            process: Mutex::default(),
            shown: Arc::default(),
            count: Mutex::new(0),
            may_end: AtomicBool::new(false),
            tails: Mutex::default(),
        })
    }

    /// What the next life is to ask for.
    pub(super) fn want(&self, grade: Option<Grade>) {
        lock(&self.grades).wanted = grade;
    }

    /// How complete the blocks of the present life have to be.
    pub(super) fn grade(&self) -> Grade {
        lock(&self.grades).now.map_or(Grade::Matched, |(grade, _)| grade)
    }

    fn config(&self) -> PathBuf {
        self.folder.join("headwater.toml")
    }

    /// How many there were.
    pub(super) fn count(&self) -> usize {
        *lock(&self.count)
    }

    pub(super) fn results(&self, life: usize) -> PathBuf {
        self.folder.join(format!("{life}.ndjson"))
    }

    pub(super) fn log(&self, life: usize) -> PathBuf {
        self.folder.join(format!("{life}.log"))
    }

    pub(super) fn shown(&self) -> MutexGuard<'_, Shown> {
        lock(&self.shown)
    }

    /// Begins the next life.
    pub(super) fn start(&self) -> anyhow::Result<()> {
        let life = self.count();
        *lock(&self.count) += 1;
        let grade = match lock(&self.grades).next(Instant::now()) {
            Grade::Proven => "proven",
            Grade::Matched => "matched",
            Grade::Assumed => "assumed",
        };
        fs::write(self.config(), format!("{}completeness = {grade:?}\n", self.configuration))?;
        File::create(self.results(life))?;
        let mut command = self.disk.command(&beside_us("headwater-chaos")?);
        command.args(["run", "--config"]).arg(self.config()).arg("--ndjson").arg(self.results(life));
        command.env("RUST_LOG", "warn,headwater=info,headwater_ingest=debug,headwater_bus=debug");
        // Whoever prints a backtrace keeps the debug information that it has read, for good: with panics that are injected all
        // the time, that is a growth of the standard library's, of tens of MiB.
        command.env("RUST_BACKTRACE", "0");
        // What is free is given back within a lull, and not within half a minute: what is left is what it needs. Without this the
        // caches of the allocator's threads keep some MiB of it, now more and now less.
        command.env("_RJEM_MALLOC_CONF", "tcache:false,narenas:1,dirty_decay_ms:500,muzzy_decay_ms:0");
        if let Some(planted) = &self.planted {
            command.env("HEADWATER_PLANTED", planted);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(File::create(self.log(life))?);
        let mut process = Process::start(&mut command)?;
        let stdin = process.stdin().context("it has a standard input")?;
        *lock(&self.process) = Some((process, stdin));
        let tail = Tail {
            log: File::open(self.log(life))?,
            results: File::open(self.results(life))?,
            rest: [Vec::new(), Vec::new()],
        };
        lock(&self.tails).push(tokio::spawn(tail.follow(Arc::clone(&self.shown))));
        Ok(())
    }

    /// The number of the process.
    pub(super) fn id(&self) -> Option<u32> {
        lock(&self.process).as_ref().map(|(process, _)| process.id())
    }

    /// Says a line to the process.
    pub(super) fn say(&self, line: &str) -> anyhow::Result<()> {
        let mut process = lock(&self.process);
        let (_, stdin) = process.as_mut().context("nobody lives")?;
        writeln!(stdin, "{line}").with_context(|| format!("saying {line:?}"))
    }

    pub(super) fn kill(&self) -> anyhow::Result<()> {
        match lock(&self.process).take() {
            Some((mut process, _)) => process.kill(),
            None => Ok(()),
        }
    }

    /// From now on the process may end by itself, or may not.
    pub(super) fn let_end(&self, may_end: bool) {
        self.may_end.store(may_end, Ordering::Relaxed);
    }

    /// Whether the process has ended by itself.
    pub(super) fn has_ended(&self) -> anyhow::Result<bool> {
        lock(&self.process).as_mut().map_or(Ok(false), |(process, _)| process.has_ended())
    }

    /// How the process has ended, for how long it lived, and what it left.
    pub(super) fn ending(&self) -> String {
        let life = self.count().saturating_sub(1);
        let ending = lock(&self.process).as_mut().map(|(process, _)| (process.id(), process.ending()));
        let lived = lock(&self.grades).now.map(|(grade, since)| (grade, since.elapsed()));
        let bytes = |path: PathBuf| fs::metadata(path).map(|file| file.len()).ok();
        format!(
            "life {life}: process and end {ending:?}, grade and age {lived:?}, bytes of its log {:?}, of its results {:?}",
            bytes(self.log(life)),
            bytes(self.results(life))
        )
    }

    /// The exit code of a process that has ended by itself.
    pub(super) fn exit_code(&self) -> Option<i32> {
        lock(&self.process).as_mut().and_then(|(process, _)| process.ending().ok().flatten()?.code())
    }

    /// Ctrl-C, and a good end.
    pub(super) async fn interrupt(&self, patience: Duration) -> anyhow::Result<()> {
        lock(&self.process).as_ref().context("nobody lives")?.0.interrupt()?;
        let deadline = Instant::now() + patience;
        while !self.has_ended()? {
            ensure!(Instant::now() < deadline, "it does not end:\n{}", self.last_words());
            tokio::time::sleep(LOOK).await;
        }
        let (process, _) = lock(&self.process).take().context("nobody lives")?;
        process.succeed().with_context(|| self.last_words())
    }

    /// Waits until something is shown; `None` when that takes too long.
    pub(super) async fn until<T>(
        &self,
        patience: Duration,
        found: impl Fn(&Shown) -> Option<T>,
    ) -> anyhow::Result<Option<T>> {
        let deadline = Instant::now() + patience;
        let mut ticks = interval(LOOK);
        loop {
            if let Some(found) = found(&self.shown()) {
                return Ok(Some(found));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            ticks.tick().await;
        }
    }

    /// As [`Lives::until`], and an error where the process ends meanwhile.
    pub(super) async fn until_alive<T>(
        &self,
        patience: Duration,
        found: impl Fn(&Shown) -> Option<T>,
    ) -> anyhow::Result<Option<T>> {
        let ended = async {
            let mut ticks = interval(Duration::from_millis(100));
            while self.may_end.load(Ordering::Relaxed) || !self.has_ended()? {
                ticks.tick().await;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            found = self.until(patience, found) => found,
            ended = ended => {
                ended?;
                bail!("it ended by itself: {}\n{}", self.ending(), self.last_words())
            }
        }
    }

    /// The end of the newest log; if that says nothing, of the one before too.
    pub(super) fn last_words(&self) -> String {
        let newest = self.count().saturating_sub(1);
        match self.words_of(newest) {
            words if words.is_empty() && newest > 0 => {
                format!("(nothing; before it:)\n{}", self.words_of(newest - 1))
            }
            words => words,
        }
    }

    fn words_of(&self, life: usize) -> String {
        let text = String::from_utf8_lossy(&fs::read(self.log(life)).unwrap_or_default()).into_owned();
        let is_noise = |line: &&str| !line.contains("\"sampled\"") && !line.contains("a lag is repaired");
        let lines: Vec<&str> = text.lines().filter(is_noise).collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Lives {
    fn drop(&mut self) {
        lock(&self.tails).iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Reads what a life writes.
struct Tail {
    log: File,
    results: File,
    /// Of either, what is not yet a line.
    rest: [Vec<u8>; 2],
}

impl Tail {
    async fn follow(mut self, shown: Arc<Mutex<Shown>>) {
        let mut ticks = interval(LOOK);
        loop {
            ticks.tick().await;
            let (logged, told) = (
                new_lines(&mut self.log, &mut self.rest[0]),
                new_lines(&mut self.results, &mut self.rest[1]),
            );
            if logged.is_empty() && told.is_empty() {
                continue;
            }
            let (now, mut shown) = (Instant::now(), lock(&shown));
            logged.into_iter().for_each(|line| shown.take_log(now, line));
            told.iter().for_each(|line| shown.take_result(now, line));
        }
    }
}

fn new_lines(file: &mut File, rest: &mut Vec<u8>) -> Vec<String> {
    // From where the last reading ended.
    if file.read_to_end(rest).is_err() {
        return Vec::new();
    }
    let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
    let whole: Vec<u8> = rest.drain(..=end).collect();
    String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
}

impl Shown {
    fn take_log(&mut self, now: Instant, line: String) {
        if line.contains("\"sampled\"") {
            let sampled = serde_json::from_str::<Value>(&line).unwrap_or_default();
            self.tasks = sampled["tasks"].as_u64().or(self.tasks);
            self.heap = sampled["heap"].as_u64().or(self.heap);
        } else {
            self.log.push((now, line));
        }
    }

    fn take_result(&mut self, now: Instant, line: &str) {
        let is = |kind: &str| line.starts_with(&format!("{{\"type\":\"{kind}\""));
        if !is("block") && !is("reorg") {
            return;
        }
        let Ok(value) = serde_json::from_str::<Value>(line) else { return };
        let hash = |name: &str| value[name].as_str().and_then(|hash| hash.parse().ok());
        if let Some(block) = hash("hash") {
            self.blocks.entry(block).or_insert(now);
        }
        if let Some(head) = hash("new_head") {
            self.reorgs.push((now, head));
        }
    }

    /// How often an actor failed in the time after which failures no longer count.
    pub(super) fn failures(&self, actor: &str) -> usize {
        let (now, named) = (Instant::now(), format!("\"actor\":\"{actor}\""));
        let recent = self.log.iter().rev().take_while(|(at, _)| now.duration_since(*at) < GIVEN_UP_AFTER);
        recent.filter(|(_, line)| line.contains("failed; restarting") && line.contains(&named)).count()
    }

    /// When a line with all these words was logged, at `from` or behind.
    pub(super) fn logged(&self, from: usize, words: &[&str]) -> Option<Instant> {
        let has_all = |line: &str| words.iter().all(|word| line.contains(word));
        self.log.iter().skip(from).find(|(_, line)| has_all(line)).map(|(at, _)| *at)
    }
}
