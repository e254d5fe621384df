use std::io;
use std::path::{Path, PathBuf};

use headwater_events::RunId;

use crate::format::SCHEMA_VERSION;

/// Why a journal cannot be written or read. Every message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file is something else, or too short to tell.
    #[error("not a headwater journal: {}", path.display())]
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
    /// There is a directory, and no journal in it.
    #[error("no journal in {}", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// The directory is that of all runs, and each of them has a journal.
    #[error("{} holds the journals of several runs; the newest is {}", path.display(), newest.display())]
    Runs {
        /// The directory.
        path: PathBuf,
        /// The newest run's.
        newest: PathBuf,
    },
    /// A journal is there already.
    #[error("there is a journal in {} already", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// Another writer has it.
    #[error("the journal in {} is being written by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Written by a later version.
    #[error("{}: format {found} is newer than this program, which reads up to {supported}", path.display())]
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u16,
        /// The newest that can be read.
        supported: u16,
    },
    /// The file is damaged: not merely cut off at its end.
    #[error("{} is damaged at byte {offset}: {damage}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged record or header begins; in a compressed recording, in its decompressed form.
        offset: u64,
        /// What is wrong there.
        damage: Damage,
    },
    /// The last record is incomplete: the writer was cut off.
    #[error("{} ends in an incomplete record: {bytes} bytes from byte {offset} on", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// Where the incomplete record begins.
        offset: u64,
        /// How much there is of it.
        bytes: u64,
    },
    /// An event came out of turn: the journal would have a hole.
    #[error("event {actual} was to be recorded where {expected} comes next")]
    OutOfTurn {
        /// The sequence number that comes next.
        expected: u64,
        /// The one that came.
        actual: u64,
    },
    /// Only source events are recorded.
    #[error("event {seq} ({name}) is no source event and cannot be recorded")]
    NotASource {
        /// Its sequence number.
        seq: u64,
        /// Its name.
        name: &'static str,
    },
    /// The event cannot be encoded.
    #[error("event {seq} cannot be encoded: {reason}")]
    Encode {
        /// Its sequence number.
        seq: u64,
        /// The encoder's words.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The writer's thread is gone without a word; a defect here.
    #[error("the journal's writer is gone")]
    WriterGone,
}

impl JournalError {
    /// For `map_err`: says what was tried, on what.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// Whether it may pass, as when a disk is full: then what was to be written can be written later. A failed sync does not:
    /// nobody knows what of it is on the disk.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Io { action, .. } if *action != "sync")
    }

    /// Whether a file was to be opened that is not there.
    pub(crate) fn is_missing_file(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    pub(crate) fn damaged(path: &Path, offset: u64, damage: Damage) -> Self {
        Self::Damaged { path: path.to_path_buf(), offset, damage }
    }
}

/// What is wrong with a record or a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The header's checksum does not hold.
    #[error("the header's checksum does not hold")]
    Header,
    /// The file does not begin as a segment does.
    #[error("it does not begin as a segment does")]
    Magic,
    /// The header is of a format that this program does not know.
    #[error("format {0} is newer than this program")]
    Format(u16),
    /// A segment of another run stands between two of one run.
    #[error("a segment of run {actual} stands among those of run {expected}")]
    Run {
        /// The run around it.
        expected: RunId,
        /// The run that wrote it.
        actual: RunId,
    },
    /// A record's checksum does not hold.
    #[error("the record's checksum does not hold")]
    Checksum,
    /// A record claims a length that none can have.
    #[error("a record of {0} bytes is claimed")]
    Length(u32),
    /// The file ends within a record.
    #[error("the file ends within a record")]
    Incomplete,
    /// The sequence has a hole or a repetition.
    #[error("event {actual} stands where {expected} comes next")]
    Sequence {
        /// What comes next.
        expected: u64,
        /// What stands there.
        actual: u64,
    },
    /// The payload is of a schema that this program does not know.
    #[error(
        "schema {0} is not known to this program, which knows {SCHEMA_VERSION} (a version of Headwater that wrote it reads it)"
    )]
    Schema(u16),
    /// The payload is no event, although its checksum holds.
    #[error("the payload does not decode: {0}")]
    Payload(String),
    /// A derived event among the source events.
    #[error("{0} is no source event")]
    NotASource(&'static str),
    /// The compressed part of a recording does not decompress to what its header says.
    #[error("the compressed part does not hold: {0}")]
    Compression(String),
}
