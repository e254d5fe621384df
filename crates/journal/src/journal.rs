use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use headwater_bus::Recorder;
use headwater_events::RunId;

use crate::appender::{Appender, cut};
use crate::config::JournalConfig;
use crate::durable::sync_directory;
use crate::error::JournalError;
use crate::recording::{Recording, TornTail, segment_files};
use crate::retention::Retention;
use crate::writer::JournalWriter;

/// The file in a run's directory in which the run says what it is about; it is removed with the run.
pub const DESCRIPTION: &str = "about.json";

/// Tells other processes that the journal is being written.
pub(crate) const LOCK: &str = "lock";

/// A journal that this process may write: repaired, locked, and not yet begun.
#[derive(Debug)]
pub struct Journal {
    config: JournalConfig,
    run_id: RunId,
    next_index: u32,
    next_seq: u64,
    torn: Option<TornTail>,
    lock: File,
    runs: Option<PathBuf>,
    needed_from: u64,
}

impl Journal {
    /// Makes a journal whose first event will be `first_seq`.
    ///
    /// # Errors
    ///
    /// [`JournalError::Exists`] where the directory holds one already.
    pub fn create(config: &JournalConfig, run_id: RunId, first_seq: u64) -> Result<Self, JournalError> {
        let lock = lock(&config.directory)?;
        if !segment_files(&config.directory)?.is_empty() {
            return Err(JournalError::Exists { path: config.directory.clone() });
        }
        Ok(Self::locked(config, run_id, 1, first_seq, lock))
    }

    /// Opens the journal of the configured directory to go on writing it, or makes one. The incomplete record of a
    /// writer that was cut off is removed and reported by [`Journal::torn_tail`]. Each run writes segments of its own.
    ///
    /// # Errors
    ///
    /// [`JournalError::InUse`] while another process writes it; [`JournalError::Damaged`] where the last segment is
    /// damaged and not merely cut off.
    pub fn open(config: &JournalConfig, run_id: RunId) -> Result<Self, JournalError> {
        let directory = &config.directory;
        let lock = lock(directory)?;
        let Some((last_index, last_file)) = segment_files(directory)?.pop() else {
            return Ok(Self::locked(config, run_id, 1, 1, lock));
        };
        let recording = Recording::open(directory)?;
        let (next_seq, torn) = recording.read_tail()?;
        if let Some(torn) = &torn {
            remove_torn(torn, directory)?;
        }
        let is_empty = recording
            .segments()
            .last()
            .is_none_or(|last| *last.path == *last_file && last.header.first_seq == next_seq);
        if is_empty && last_file.exists() {
            fs::remove_file(&last_file).map_err(JournalError::io("remove", &last_file))?;
        }
        Ok(Self { torn, ..Self::locked(config, run_id, last_index + 1, next_seq, lock) })
    }

    fn locked(config: &JournalConfig, run_id: RunId, next_index: u32, next_seq: u64, lock: File) -> Self {
        let config = config.clone();
        Self { config, run_id, next_index, next_seq, torn: None, lock, runs: None, needed_from: u64::MAX }
    }

    /// Retention goes for the runs beneath `directory` as well: all of them count, and the older go first.
    pub fn with_older_runs(self, directory: impl Into<PathBuf>) -> Self {
        Self { runs: Some(directory.into()), ..self }
    }

    /// Retention keeps events from `seq` on, whatever their size and age; [`JournalWriter::keep_from`] moves that later.
    /// Without it, only the newest two segments are certain to stay.
    pub fn keep_from(self, seq: u64) -> Self {
        Self { needed_from: seq, ..self }
    }

    /// What was cut off when the journal was opened.
    pub fn torn_tail(&self) -> Option<&TornTail> {
        self.torn.as_ref()
    }

    /// The sequence number of the event that comes next.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Begins a segment and starts the writer's thread. The [`Recorder`] is for the bus.
    ///
    /// # Errors
    ///
    /// [`JournalError::Io`] where the segment cannot be made.
    pub fn start(self) -> Result<(JournalWriter, Recorder), JournalError> {
        let JournalConfig { directory, segment_bytes, .. } = self.config.clone();
        let mut appender =
            Appender::new(directory, self.run_id, segment_bytes, self.next_index, self.next_seq);
        appender.begin_segment()?;
        let retention = Retention::new(&self.config, self.runs);
        JournalWriter::start(&self.config, appender, self.lock, retention, self.needed_from)
    }
}

fn lock(directory: &Path) -> Result<File, JournalError> {
    fs::create_dir_all(directory).map_err(JournalError::io("create", directory))?;
    let path = directory.join(LOCK);
    let file = File::create(&path).map_err(JournalError::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse { path: directory.into() }),
        Err(TryLockError::Error(error)) => Err(JournalError::io("lock", &path)(error)),
    }
}

/// Cuts off an incomplete record; removes a file without so much as a header.
fn remove_torn(torn: &TornTail, directory: &Path) -> Result<(), JournalError> {
    if torn.offset > 0 {
        return cut(&torn.file, torn.offset);
    }
    fs::remove_file(&torn.file).map_err(JournalError::io("remove", &torn.file))?;
    sync_directory(directory)
}

#[cfg(test)]
mod tests;
