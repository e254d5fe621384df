//! The devnet and the real `headwater` process together.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use headwater_events::BusEvent;
use headwater_journal::{Recording, examine, export_recording, verify};

use crate::devnet::{Addresses, Devnet, Pace, Routers, Trader};
use crate::replayed::{Lines, Setup, replay};

/// The supervisor that was built beside the running executable.
///
/// # Errors
/// Where it was not built.
pub fn headwater() -> anyhow::Result<PathBuf> {
    beside_us("headwater")
}

/// The executable of a name that was built beside the running one.
///
/// # Errors
/// Where it was not built.
pub fn beside_us(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.parent().context("an executable has a folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let binary = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    ensure!(
        binary.is_file(),
        "{} is not there: build it with `cargo build -p headwater-supervisor -p headwater-tests`, as cargo xtask does",
        binary.display()
    );
    Ok(binary)
}

/// A process that is killed when it is forgotten.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        Ok(Self(command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?))
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Waits for its end. Says whether it ended as by `std::process::abort`.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn was_aborted(&mut self) -> anyhow::Result<bool> {
        const ABORTED: i32 = 6;
        Ok(self.0.wait()?.signal() == Some(ABORTED))
    }

    /// How it has ended, if it has.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ending(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.0.try_wait()?)
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When the system does not.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Its standard input, once, if it was piped.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.0.stdin.take()
    }

    /// Its standard output, once, if it was piped.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Ctrl-C.
    ///
    /// # Errors
    /// When the system does not pass it on.
    pub fn interrupt(&self) -> anyhow::Result<()> {
        let told = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status()?;
        ensure!(told.success(), "kill -INT: {told}");
        Ok(())
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.0.try_wait()?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it ended in an error.
    pub fn succeed(mut self) -> anyhow::Result<()> {
        let status = self.0.wait()?;
        ensure!(status.success(), "headwater ended with {status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A configuration for a devnet, with its journal beside it.
///
/// # Errors
/// When it cannot be written.
pub fn configure(folder: &Path, devnet: &Devnet) -> anyhow::Result<PathBuf> {
    let path = folder.join("headwater.toml");
    let journal = folder.join(JOURNAL);
    let text =
        format!("{}\n[journal]\ndirectory = {:?}\n", devnet.configuration(), journal.display().to_string());
    fs::write(&path, text)?;
    Ok(path)
}

const JOURNAL: &str = "journal";

const MEMPOOL: &str = "\n[mempool]\nenabled = true\n";

/// Devnet and supervisor together, live: a block every 250 ms, a reorganisation now and then, pending transactions.
///
/// # Errors
/// Whatever goes wrong on either side.
pub fn demo(seed: u64, blocks: u64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    follow(seed, blocks, Duration::from_millis(250), folder.path(), MEMPOOL, None)
}

/// Records `blocks` canonical blocks of the devnet, reorganisations among them, into one compressed file.
///
/// # Errors
/// Whatever goes wrong on the way, and a recording that is too small or too large to be bundled.
pub fn record(seed: u64, blocks: u64, file: &Path) -> anyhow::Result<String> {
    const MOST_BYTES: u64 = 1 << 20;
    let folder = tempfile::tempdir()?;
    let results = folder.path().join("results.ndjson");
    follow(seed, blocks, Duration::from_millis(100), folder.path(), MEMPOOL, Some(&results))?;
    let run = run_in(folder.path())?.context("a run leaves a journal")?;
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let exported = export_recording(&run, file, None)?;
    let info = verify(file)?;
    let (recorded, reorgs) = (info.count("new_block"), info.count("reorg"));
    let effects = info.count("pending_effect");
    if recorded < blocks || reorgs == 0 || effects == 0 || exported.compressed_bytes >= MOST_BYTES {
        bail!(
            "{recorded} blocks, {reorgs} reorganisations, {effects} effects, {} bytes",
            exported.compressed_bytes
        );
    }
    let backruns = ensure_found_again(&results, file)?;
    let [second, universal] = count_routed(file)?;
    let bytes = exported.compressed_bytes;
    Ok(format!(
        "{}: {recorded} blocks, {reorgs} reorganisations, {backruns} backruns behind {effects} effects, of which {second} through \
         SwapRouter02 and {universal} through the Universal Router, {bytes} bytes",
        file.display()
    ))
}

/// How many of the recorded effects are of calls of `SwapRouter02`, and of the Universal Router; there are some of each.
fn count_routed(file: &Path) -> anyhow::Result<[usize; 2]> {
    let Routers { swap_router_02, universal, .. } = Addresses::derive().routers;
    let recording = Recording::open(file)?;
    let mut counts = [0; 2];
    for record in recording.records(recording.first_seq()) {
        let record = record?;
        let BusEvent::PendingEffect(effect) = &record.envelope.event else { continue };
        for (count, router) in counts.iter_mut().zip([swap_router_02, universal]) {
            *count += usize::from(effect.pending.transaction.to == Some(router));
        }
    }
    ensure!(!counts.contains(&0), "nothing is found behind calls of one of the routers: {counts:?}");
    Ok(counts)
}

/// That a replay finds behind pending transactions all that was told live, byte for byte, if in another order; how many it finds. Live, what
/// is too much for the executor is dropped.
fn ensure_found_again(results: &Path, file: &Path) -> anyhow::Result<usize> {
    let backruns = |lines: Lines| {
        let is_one = |line: &String| line.contains("\"kind\":\"backrun\"");
        let mut backruns: Vec<String> = lines.opportunities.into_iter().filter(is_one).collect();
        backruns.sort_unstable();
        backruns
    };
    let told = backruns(Lines::parse(&fs::read_to_string(results)?)?);
    let again = backruns(replay(&Recording::open(file)?, &Setup::default(), |_| ())?.lines);
    ensure!(!told.is_empty(), "nothing was found behind a pending transaction");
    let found: BTreeSet<&String> = again.iter().collect();
    let missing = told.iter().find(|line| !found.contains(line));
    ensure!(missing.is_none(), "told live, and not found in its record: {missing:?}");
    Ok(again.len())
}

/// The journal of the one run in a folder, once there is one.
fn run_in(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(folder.join(JOURNAL)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Beside it stands what searches of the chain remember.
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn follow(
    seed: u64,
    blocks: u64,
    block_time: Duration,
    folder: &Path,
    also: &str,
    results: Option<&Path>,
) -> anyhow::Result<()> {
    let devnet = Devnet::start()?;
    let mut trader = Trader::new(seed, &devnet);
    let config = configure(folder, &devnet)?;
    fs::write(&config, fs::read_to_string(&config)? + also)?;
    let mut command = Command::new(headwater()?);
    command.arg("run").arg("--config").arg(config).args(["--blocks", &blocks.to_string()]);
    if let Some(results) = results {
        command.arg("--ndjson").arg(results);
    }
    let mut process = Process::start(&mut command)?;
    wait_for_load(&mut process, folder, devnet.addresses().lending.len() as u64)?;
    let pace = Pace { block_time, reorg_every: NonZeroU64::new(37) };
    let mut asked = Ok(());
    devnet.run(&mut trader, pace, |_| match process.has_ended() {
        Ok(ended) => !ended,
        Err(error) => {
            asked = Err(error);
            false
        }
    })?;
    asked?;
    process.succeed()
}

/// Nobody trades before the lending pools are loaded, which come last: so that every block is announced to one who follows.
fn wait_for_load(process: &mut Process, folder: &Path, pools: u64) -> anyhow::Result<()> {
    while !process.has_ended()? {
        // It may be writing there right now.
        let examined = run_in(folder)?.and_then(|run| examine(run).ok());
        if examined.is_some_and(|examined| examined.info.count("lending_loaded") >= pools) {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
