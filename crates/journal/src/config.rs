use std::path::PathBuf;
use std::time::Duration;

use headwater_events::RunId;
use serde::{Deserialize, Serialize};

/// `[journal]`: where source events are recorded, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JournalConfig {
    /// The directory of the segments; made if it does not exist. The supervisor gives each run a directory of its own
    /// inside it. Default: `headwater-journal`.
    pub directory: PathBuf,
    /// Bytes after which a new segment is begun. Default: 67,108,864 (64 MiB).
    pub segment_bytes: u64,
    /// Milliseconds that a record may wait before it is forced to the disk. Default: 200.
    ///
    /// A record survives the process as soon as it is written, which is at once; this bounds what a failing machine
    /// can take with it.
    pub sync_interval_ms: u64,
    /// Events that wait for the writer before the bus waits. Default: 1,024.
    pub queue: usize,
    /// Bytes that this journal and those of older runs may have together; 0: any number. Default: 0.
    ///
    /// What was recorded is worth more than the room it takes, so nothing is removed unless it was asked for; a full
    /// disk stops the acting side, says so, and loses nothing.
    pub keep_bytes: u64,
    /// Blocks from one snapshot of the state and the oracle to the next: a start and a restart fold the events behind
    /// the newest one, and not the whole record. 0: none is taken. Default: 256.
    pub snapshot_blocks: u64,
    /// Hours for which a segment or an older run is kept after it was last written; 0: for ever. Default: 0.
    pub keep_hours: u64,
}

/// How the name of a run's directory begins.
pub(crate) const RUN_PREFIX: &str = "run-";

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            directory: "headwater-journal".into(),
            segment_bytes: 64 << 20,
            sync_interval_ms: 200,
            queue: 1024,
            keep_bytes: 0,
            keep_hours: 0,
            snapshot_blocks: 256,
        }
    }
}

impl JournalConfig {
    /// The defaults, in another directory.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), ..Self::default() }
    }

    /// The same, in a directory of the run's own inside this one. Their names sort by time where the runs' numbers do.
    pub fn of_run(&self, run_id: RunId) -> Self {
        Self { directory: self.directory.join(format!("{RUN_PREFIX}{run_id}")), ..self.clone() }
    }

    pub(crate) fn sync_interval(&self) -> Duration {
        Duration::from_millis(self.sync_interval_ms)
    }
}
