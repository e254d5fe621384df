use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_events::RunId;
use serde::Serialize;

use crate::backlog::JournalBacklog;
use crate::compressed;
use crate::error::{Damage, JournalError};
use crate::format::{HEADER_BYTES, SegmentHeader};
use crate::records::Records;
use crate::segment::{Head, Segment, SegmentReader, read_head};

/// How the names of segments end.
const EXTENSION: &str = "hwj";

/// A journal to read: a directory of segments, one segment, or a compressed recording.
#[derive(Clone, Debug)]
pub struct Recording {
    path: PathBuf,
    segments: Arc<[Segment]>,
    /// A last file that was cut off before its header was whole.
    torn_head: Option<TornTail>,
}

/// What a writer that was cut off left behind the last whole record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TornTail {
    /// The file.
    pub file: PathBuf,
    /// Where the incomplete record begins.
    pub offset: u64,
    /// How many bytes of it there are.
    pub bytes: u64,
    /// The last event that is whole; 0 if there is none.
    pub last_seq: u64,
}

impl Recording {
    /// Opens a journal for reading. It may be being written to; then what was written when a record is read counts.
    ///
    /// # Errors
    ///
    /// [`JournalError::NotAJournal`] for a foreign file, [`JournalError::Empty`] for a directory without segments,
    /// [`JournalError::Damaged`] where a header or a compressed recording does not hold.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, JournalError> {
        let path = path.as_ref();
        let metadata = fs::metadata(path).map_err(JournalError::io("open", path))?;
        if metadata.is_dir() { Self::open_directory(path) } else { Self::open_file(path) }
    }

    /// A compressed recording that is part of the program; `name` stands for its path in errors.
    ///
    /// # Errors
    ///
    /// [`JournalError::Damaged`] where it does not hold.
    pub fn embedded(name: &str, bytes: &[u8]) -> Result<Self, JournalError> {
        let path = Path::new(name);
        let header = SegmentHeader::decode(bytes.get(..HEADER_BYTES).unwrap_or(bytes))
            .ok()
            .filter(|header| header.compressed)
            .ok_or_else(|| JournalError::NotAJournal { path: path.into() })?;
        let records = Some(compressed::decompress_named(path, bytes)?);
        let segment = Segment { path: path.into(), header, records };
        Ok(Self { path: path.into(), segments: [segment].into(), torn_head: None })
    }

    fn open_file(path: &Path) -> Result<Self, JournalError> {
        let Head::Good(header) = read_head(path)? else {
            return Err(JournalError::NotAJournal { path: path.into() });
        };
        let records = if header.compressed { Some(compressed::read(path)?) } else { None };
        let segment = Segment { path: path.into(), header, records };
        Ok(Self { path: path.into(), segments: [segment].into(), torn_head: None })
    }

    fn open_directory(path: &Path) -> Result<Self, JournalError> {
        let files = segment_files(path)?;
        let mut segments = Vec::with_capacity(files.len());
        let mut torn_head = None;
        for (position, (_, file)) in files.iter().enumerate() {
            match read_head(file)? {
                Head::Good(header) => {
                    let records = if header.compressed { Some(compressed::read(file)?) } else { None };
                    segments.push(Segment { path: file.as_path().into(), header, records });
                }
                Head::Torn { bytes } if position + 1 == files.len() => {
                    torn_head = Some(TornTail { file: file.clone(), offset: 0, bytes, last_seq: 0 });
                }
                Head::Torn { .. } => return Err(JournalError::damaged(file, 0, Damage::Header)),
            }
        }
        if segments.is_empty() && torn_head.is_none() {
            return Err(JournalError::Empty { path: path.into() });
        }
        Ok(Self { path: path.into(), segments: segments.into(), torn_head })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sequence number of the first event that is kept; that of the next one where none is.
    pub fn first_seq(&self) -> u64 {
        self.segments.first().map_or(1, |segment| segment.header.first_seq)
    }

    /// The run that began it.
    pub fn run_id(&self) -> RunId {
        self.segments.first().map_or(RunId(0), |segment| segment.header.run_id)
    }

    /// The events from sequence number `from` on, in order.
    pub fn records(&self, from: u64) -> Records {
        Records::new(self.clone(), from)
    }

    /// Answers the bus's repairs of lag from this recording, as events of the run `run_id`.
    pub fn backlog(&self, run_id: RunId) -> JournalBacklog {
        JournalBacklog::of_recording(self, run_id)
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(crate) fn torn_head(&self) -> Option<&TornTail> {
        self.torn_head.as_ref()
    }

    /// Reads the last segment to its end: the sequence number that comes next, and what is torn behind it.
    pub(crate) fn read_tail(&self) -> Result<(u64, Option<TornTail>), JournalError> {
        let Some(last) = self.segments.last() else { return Ok((1, self.torn_head.clone())) };
        let from = SegmentReader::open(last)?.next_seq;
        let mut records = Records::new(self.clone(), from);
        let next_seq = records.skip_to_end()?;
        Ok((next_seq, records.torn_tail().cloned()))
    }
}

/// The name of segment `index`.
pub(crate) fn segment_name(index: u32) -> String {
    format!("{index:08}.{EXTENSION}")
}

/// The segments of a directory in order, with their indices.
pub(crate) fn segment_files(directory: &Path) -> Result<Vec<(u32, PathBuf)>, JournalError> {
    let unreadable = || JournalError::io("read", directory);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable())? {
        let path = entry.map_err(unreadable())?.path();
        if let Some(index) = segment_index(&path) {
            files.push((index, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn segment_index(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let index = name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse().ok()?;
    (segment_name(index) == name).then_some(index)
}
