//! Which files of a journal have had their time.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use tracing::{info, warn};

use crate::aside::QUARANTINE;
use crate::config::{JournalConfig, RUN_PREFIX};
use crate::fail_points::{FailPoint, pass};
use crate::journal::{DESCRIPTION, LOCK};
use crate::recording::segment_files;
use crate::segment::{Head, read_head};
use crate::snapshots::snapshot_files;

/// Newest segments that always stay: the one that is written, and the one before it, from which lag is repaired.
const NEWEST: usize = 2;

/// What may be removed of the journal in a directory, and of older runs.
#[derive(Clone, Debug)]
pub(crate) struct Retention {
    directory: PathBuf,
    /// Where the directories of older runs are.
    runs: Option<PathBuf>,
    keep_bytes: Option<u64>,
    keep: Option<Duration>,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    pub(crate) runs: u64,
    pub(crate) segments: u64,
    pub(crate) bytes: u64,
}

/// Files that go together or stay.
#[derive(Debug)]
struct Unit {
    path: PathBuf,
    bytes: u64,
    /// When it was last written, since the Unix epoch.
    written: Duration,
}

impl Retention {
    pub(crate) fn new(config: &JournalConfig, runs: Option<PathBuf>) -> Self {
        Self {
            directory: config.directory.clone(),
            runs,
            keep_bytes: (config.keep_bytes > 0).then_some(config.keep_bytes),
            keep: (config.keep_hours > 0).then(|| Duration::from_hours(config.keep_hours)),
        }
    }

    /// Removes what is too old or too much, oldest first: whole older runs, then segments of the run's own journal.
    /// No event from `needed_from` on is removed, nor a run that is being written. `now` is since the Unix epoch.
    ///
    /// What cannot be removed is logged, and stays.
    pub(crate) fn apply(&self, needed_from: u64, now: Duration) -> Removed {
        let mut removed = Removed::default();
        if self.keep_bytes.is_none() && self.keep.is_none() {
            return removed;
        }
        if let Err(error) = self.try_apply(needed_from, now, &mut removed) {
            warn!(%error, journal = %self.directory.display(), "old parts of the journal cannot be removed");
        }
        if removed != Removed::default() {
            let Removed { runs, segments, bytes } = removed;
            info!(runs, segments, bytes, "old parts of the journal were removed");
        }
        removed
    }

    fn try_apply(&self, needed_from: u64, now: Duration, removed: &mut Removed) -> io::Result<()> {
        let runs = self.older_runs();
        let segments = units(&self.directory)?;
        let mut total: u64 = runs.iter().chain(&segments).map(|unit| unit.bytes).sum();
        for run in &runs {
            if !self.is_surplus(run, total, now) {
                continue;
            }
            match remove_run(&run.path) {
                Ok(true) => {
                    total -= run.bytes;
                    removed.runs += 1;
                    removed.bytes += run.bytes;
                }
                Ok(false) => {}
                Err(error) => warn!(%error, run = %run.path.display(), "an old run cannot be removed"),
            }
        }
        let spare = segments.len().saturating_sub(NEWEST);
        for (segment, next) in segments.iter().zip(&segments[segments.len().min(1)..]).take(spare) {
            // A segment ends where the next begins.
            let is_needed = first_seq(&next.path).is_none_or(|end| end > needed_from);
            if is_needed || !self.is_surplus(segment, total, now) {
                break;
            }
            pass(FailPoint::SegmentRemove);
            fs::remove_file(&segment.path)?;
            total -= segment.bytes;
            removed.segments += 1;
            removed.bytes += segment.bytes;
        }
        Ok(())
    }

    fn older_runs(&self) -> Vec<Unit> {
        let Some(runs) = &self.runs else { return Vec::new() };
        older_runs(runs, &self.directory).unwrap_or_else(|error| {
            warn!(%error, journal = %runs.display(), "older runs cannot be found");
            Vec::new()
        })
    }

    fn is_surplus(&self, unit: &Unit, total: u64, now: Duration) -> bool {
        let is_too_much = self.keep_bytes.is_some_and(|keep| total > keep);
        let is_too_old = self.keep.is_some_and(|keep| now.saturating_sub(unit.written) > keep);
        is_too_much || is_too_old
    }
}

fn first_seq(path: &Path) -> Option<u64> {
    match read_head(path) {
        Ok(Head::Good(header)) => Some(header.first_seq),
        _ => None,
    }
}

/// The segments of a directory, oldest first.
fn units(directory: &Path) -> io::Result<Vec<Unit>> {
    let files = segment_files(directory).map_err(io::Error::other)?;
    files.into_iter().map(|(_, path)| unit(path)).collect()
}

fn unit(path: PathBuf) -> io::Result<Unit> {
    let metadata = fs::symlink_metadata(&path)?;
    let written = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Unit { path, bytes: metadata.len(), written })
}

/// The runs beneath `runs` other than `own`, oldest first. What has another name, or holds no segment, is not among them.
fn older_runs(runs: &Path, own: &Path) -> io::Result<Vec<Unit>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(runs)? {
        let entry = entry?;
        let path = entry.path();
        let is_run = entry.file_name().to_str().is_some_and(|name| name.starts_with(RUN_PREFIX));
        // The type is that of a link, not of what it leads to.
        if !is_run || !entry.file_type()?.is_dir() || own.ends_with(entry.file_name()) {
            continue;
        }
        let segments = units(&path)?;
        let Some(written) = segments.iter().map(|segment| segment.written).max() else { continue };
        found.push(Unit { path, bytes: segments.iter().map(|segment| segment.bytes).sum(), written });
    }
    found.sort_by(|a, b| (a.written, &a.path).cmp(&(b.written, &b.path)));
    Ok(found)
}

/// Removes a run that nobody writes; says whether. Only files of the journal are touched, so that the directory stays
/// where it holds others.
fn remove_run(directory: &Path) -> io::Result<bool> {
    let lock = directory.join(LOCK);
    let held = File::options().read(true).write(true).create(true).truncate(false).open(&lock)?;
    match held.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(false),
        Err(fs::TryLockError::Error(error)) => return Err(error),
    }
    for segment in units(directory)? {
        fs::remove_file(segment.path)?;
    }
    for snapshot in snapshot_files(directory).map_err(io::Error::other)? {
        fs::remove_file(snapshot)?;
    }
    for name in [DESCRIPTION, QUARANTINE] {
        match fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::remove_file(&lock)?;
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
        _ => Ok(true),
    }
}

#[cfg(test)]
mod tests;
