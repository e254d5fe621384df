use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_events::RunId;
use serde::Serialize;

use crate::backlog::JournalBacklog;
use crate::compressed;
use crate::config::RUN_PREFIX;
use crate::error::{Damage, JournalError};
use crate::format::{BadHeader, FORMAT_VERSION, HEADER_BYTES, SegmentHeader};
use crate::records::Records;
use crate::segment::{Head, Segment, read_head};

/// How the names of segments end.
const EXTENSION: &str = "hwj";

/// A journal to read: a directory of segments, one segment, or a compressed recording.
#[derive(Clone, Debug)]
pub struct Recording {
    path: PathBuf,
    segments: Arc<[Segment]>,
    /// A last file that was cut off before its header was whole.
    torn_head: Option<TornTail>,
    /// The file behind the segments, where it is none.
    broken: Option<Broken>,
}

/// A file that stands where a segment should. What stands before it can be read.
#[derive(Clone, Debug)]
struct Broken {
    path: PathBuf,
    offset: u64,
    damage: Damage,
}

impl Broken {
    fn error(&self) -> JournalError {
        JournalError::damaged(&self.path, self.offset, self.damage.clone())
    }
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

impl From<TornTail> for JournalError {
    fn from(torn: TornTail) -> Self {
        Self::Torn { path: torn.file, offset: torn.offset, bytes: torn.bytes }
    }
}

impl Recording {
    /// Opens a journal for reading. It may be being written to; then what was written when a record is read counts.
    ///
    /// # Errors
    ///
    /// [`JournalError::NotAJournal`] for a foreign file, [`JournalError::Empty`] or [`JournalError::Runs`] for a directory
    /// without segments, [`JournalError::Damaged`] where a header or a compressed recording does not hold.
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
        Ok(Self::of_segments(path, vec![segment]))
    }

    fn of_segments(path: &Path, segments: Vec<Segment>) -> Self {
        Self { path: path.into(), segments: segments.into(), torn_head: None, broken: None }
    }

    fn open_file(path: &Path) -> Result<Self, JournalError> {
        match read_head(path)? {
            Head::Good(header) => Ok(Self::of_segments(path, vec![open_segment(path, header)?])),
            Head::Bad(BadHeader::Damaged) => Err(JournalError::damaged(path, 0, Damage::Header)),
            Head::Bad(BadHeader::Newer(found)) => {
                Err(JournalError::UnsupportedFormat { path: path.into(), found, supported: FORMAT_VERSION })
            }
            Head::Torn { .. } | Head::Bad(BadHeader::Foreign) => {
                Err(JournalError::NotAJournal { path: path.into() })
            }
        }
    }

    fn open_directory(path: &Path) -> Result<Self, JournalError> {
        let files = segment_files(path)?;
        let mut segments = Vec::with_capacity(files.len());
        let mut torn_head = None;
        let mut broken = None;
        for (position, (_, file)) in files.iter().enumerate() {
            let damage = match read_head(file)? {
                Head::Good(header) => match open_segment(file, header) {
                    Ok(segment) => {
                        segments.push(segment);
                        continue;
                    }
                    Err(JournalError::Damaged { offset, damage, .. }) => (offset, damage),
                    Err(other) => return Err(other),
                },
                Head::Torn { bytes } if position + 1 == files.len() => {
                    torn_head = Some(TornTail { file: file.clone(), offset: 0, bytes, last_seq: 0 });
                    break;
                }
                Head::Bad(BadHeader::Foreign) => (0, Damage::Magic),
                Head::Bad(BadHeader::Newer(found)) => (0, Damage::Format(found)),
                Head::Torn { .. } | Head::Bad(BadHeader::Damaged) => (0, Damage::Header),
            };
            broken = Some(Broken { path: file.clone(), offset: damage.0, damage: damage.1 });
            break;
        }
        if let Some((position, damage)) = stranger(&segments) {
            broken = Some(Broken { path: segments[position].path.to_path_buf(), offset: 0, damage });
            torn_head = None;
            segments.truncate(position);
        }
        match &broken {
            Some(broken) if segments.is_empty() => Err(broken.error()),
            None if segments.is_empty() && torn_head.is_none() => Err(match runs(path).pop() {
                Some(newest) => JournalError::Runs { path: path.into(), newest },
                None => JournalError::Empty { path: path.into() },
            }),
            _ => Ok(Self { path: path.into(), segments: segments.into(), torn_head, broken }),
        }
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

    /// What is wrong with the file behind the segments.
    pub(crate) fn broken(&self) -> Option<JournalError> {
        self.broken.as_ref().map(Broken::error)
    }

    /// Whether nothing stands behind the segments.
    pub(crate) fn ends_with_segments(&self) -> bool {
        self.torn_head.is_none() && self.broken.is_none()
    }

    /// What a writer that was cut off left at the end. Reads the last segment, without decoding.
    ///
    /// # Errors
    ///
    /// [`JournalError::Damaged`] where the last segment is damaged and not merely cut off.
    pub fn torn_tail(&self) -> Result<Option<TornTail>, JournalError> {
        self.read_tail().map(|(_, torn)| torn)
    }

    /// Reads the last segment to its end: the sequence number that comes next, and what is torn behind it.
    pub(crate) fn read_tail(&self) -> Result<(u64, Option<TornTail>), JournalError> {
        let Some(last) = self.segments.last() else { return Ok((1, self.torn_head.clone())) };
        let mut records = Records::new(self.clone(), last.header.first_seq);
        let next_seq = records.skip_to_end()?;
        Ok((next_seq, records.torn_tail().cloned()))
    }
}

fn open_segment(path: &Path, header: SegmentHeader) -> Result<Segment, JournalError> {
    let records = if header.compressed { Some(compressed::read(path)?) } else { None };
    Ok(Segment { path: path.into(), header, records })
}

/// The first segment that stands between two of another run: the segments of a run stand together.
fn stranger(segments: &[Segment]) -> Option<(usize, Damage)> {
    let run = |segment: &Segment| segment.header.run_id;
    (1..segments.len()).find_map(|position| {
        let (expected, actual) = (run(&segments[position - 1]), run(&segments[position]));
        let goes_on = || segments[position + 1..].iter().any(|later| run(later) == expected);
        (actual != expected && goes_on()).then_some((position, Damage::Run { expected, actual }))
    })
}

/// The runs that have their journals in a directory, as they were begun: their names sort by time. None where it cannot be read.
pub fn runs(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let runs = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(RUN_PREFIX));
    let mut runs: Vec<PathBuf> = runs.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    runs.sort_unstable();
    runs
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

pub(crate) fn segment_index(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let index = name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse().ok()?;
    (segment_name(index) == name).then_some(index)
}
