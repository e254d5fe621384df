//! The process, and what it has written so far.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use alloy_primitives::B256;
use anyhow::{Context, bail, ensure};
use headwater_bus::clock;

use crate::devnet::Devnet;
use crate::follower::Results;
use crate::workflows::{Process, configure, headwater};

/// For what takes milliseconds, a restart of the node a few seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at another process.
const LOOK: Duration = Duration::from_millis(5);

/// `headwater run` on a devnet.
#[derive(Debug)]
pub(super) struct Following {
    process: Process,
    results: PathBuf,
    log: PathBuf,
}

impl Following {
    /// Returns when it follows the chain behind a loaded market. `life` tells the files of several in one folder apart.
    pub(super) fn start(folder: &Path, devnet: &Devnet, life: u64) -> anyhow::Result<Self> {
        let config = configure(folder, devnet)?;
        let text = fs::read_to_string(&config)?;
        fs::write(&config, format!("{text}\n{RESEARCH}"))?;
        let (results, log) = (folder.join(format!("{life}.ndjson")), folder.join(format!("{life}.log")));
        let mut command = Command::new(headwater()?);
        command.args(["run", "--config"]).arg(&config).arg("--ndjson").arg(&results).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?);
        let mut following = Self { process: Process::start(&mut command)?, results, log };
        following.until("it does not follow the chain", |this| {
            Ok(this.said()?.contains("following the chain").then_some(()))
        })?;
        Ok(following)
    }

    /// Waits until it has written the line of a block; says how many reorganisations it has told of.
    pub(super) fn until_written(&mut self, block: B256) -> anyhow::Result<usize> {
        let line = format!(r#""hash":"{block:#x}""#);
        self.until("it does not come to the head", |this| {
            let written = this.written()?;
            let there = written.lines().any(|written| written.contains(BLOCK) && written.contains(&line));
            Ok(there.then(|| written.matches(REORG).count()))
        })
    }

    /// Waits until it has said all of this.
    pub(super) fn until_said(&mut self, words: &[&str]) -> anyhow::Result<()> {
        self.until("it does not say what it should", |this| {
            let said = this.said()?;
            Ok(words.iter().all(|words| said.contains(words)).then_some(()))
        })
    }

    /// What it has written so far.
    pub(super) fn so_far(&self) -> anyhow::Result<Results> {
        Results::so_far(&self.written()?)
    }

    /// Ctrl-C, a good end, and everything that it wrote.
    pub(super) fn finish(mut self) -> anyhow::Result<Results> {
        self.process.interrupt()?;
        let status = self.until("it does not end", |this| this.process.status())?;
        ensure!(status.success(), "it ended with {status}:\n{}", self.said()?);
        Results::parse(&self.written()?)
    }

    /// It ends by itself, as a failure and not as a crash, and its last words are these.
    pub(super) fn ends_saying(mut self, words: &str) -> anyhow::Result<()> {
        let status = self.until("it goes on", |this| this.process.status())?;
        let said = self.said()?;
        ensure!(!status.success() && status.code().is_some(), "it ended with {status}:\n{said}");
        let last = said.lines().last().unwrap_or_default();
        ensure!(
            last.starts_with("error: ") && last.contains(words),
            "its last words are not {words:?}:\n{said}"
        );
        ensure!(!said.contains("panicked"), "it panicked:\n{said}");
        Ok(())
    }

    fn until<T>(
        &mut self,
        complaint: &str,
        mut look: impl FnMut(&mut Self) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let began = clock::now();
        while began.elapsed() < PATIENCE {
            let has_ended = self.process.has_ended()?;
            if let Some(seen) = look(self)? {
                return Ok(seen);
            }
            ensure!(!has_ended, "it has ended:\n{}", self.said()?);
            thread::sleep(LOOK); // another process, with a deadline
        }
        bail!("{complaint}:\n{}", self.said()?)
    }

    fn written(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(&self.results).unwrap_or_default())
    }

    fn said(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.log).with_context(|| self.log.display().to_string())
    }
}

const BLOCK: &str = r#""type":"block""#;
const REORG: &str = r#""type":"reorg""#;

/// Everything that gains is reported; a node that is gone is asked for soon again.
const RESEARCH: &str = "[detectors.arbitrage]\nprofit_after_gas = false\n\n[ingest]\nreconnect_min_ms = 100\nreconnect_max_ms = 500\n";
