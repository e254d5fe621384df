use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::BlockNumber;
use headwater_events::BusEvent;
use serde::Serialize;

use crate::error::JournalError;
use crate::recording::{Recording, TornTail};
use crate::records::Record;

/// What a journal holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Info {
    /// Where it is.
    pub path: PathBuf,
    /// Its files.
    pub segments: Vec<SegmentInfo>,
    /// The runs that wrote it, as 16 hexadecimal digits each.
    pub runs: BTreeSet<String>,
    /// How many events.
    pub records: u64,
    /// The first event; 0 if there is none.
    pub first_seq: u64,
    /// The last event; 0 if there is none.
    pub last_seq: u64,
    /// How many events of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Lowest and highest block.
    pub blocks: Option<(BlockNumber, BlockNumber)>,
    /// Blocks undone in the deepest reorganisation.
    pub deepest_reorg: usize,
    /// Size of all files in bytes.
    pub bytes: u64,
    /// What a writer that was cut off left at the end.
    pub torn: Option<TornTail>,
}

/// One file of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentInfo {
    /// The file.
    pub file: PathBuf,
    /// The run that wrote it, as 16 hexadecimal digits.
    pub run: String,
    /// The first event that it can hold.
    pub first_seq: u64,
    /// How many events.
    pub records: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether it is compressed.
    pub compressed: bool,
}

impl Info {
    /// How many events of the kind that [`BusEvent::name`] names.
    pub fn count(&self, kind: &str) -> u64 {
        self.kinds.get(kind).copied().unwrap_or(0)
    }

    fn begin(recording: &Recording) -> Result<Self, JournalError> {
        let segments = recording
            .segments()
            .iter()
            .map(|segment| {
                let bytes = file_size(&segment.path)?;
                let header = &segment.header;
                Ok(SegmentInfo {
                    file: segment.path.to_path_buf(),
                    run: header.run_id.to_string(),
                    first_seq: header.first_seq,
                    records: 0,
                    bytes,
                    compressed: header.compressed,
                })
            })
            .collect::<Result<Vec<_>, JournalError>>()?;
        Ok(Self {
            path: recording.path().into(),
            runs: segments.iter().map(|segment| segment.run.clone()).collect(),
            records: 0,
            first_seq: 0,
            last_seq: 0,
            kinds: BTreeMap::new(),
            blocks: None,
            deepest_reorg: 0,
            bytes: segments.iter().map(|segment| segment.bytes).sum(),
            torn: None,
            segments,
        })
    }

    fn add(&mut self, record: &Record) {
        let Record { envelope, file, .. } = record;
        self.records += 1;
        self.first_seq = if self.first_seq == 0 { envelope.seq } else { self.first_seq };
        self.last_seq = envelope.seq;
        *self.kinds.entry(envelope.event.name()).or_default() += 1;
        if let Some(segment) = self.segments.iter_mut().rfind(|segment| *segment.file == **file) {
            segment.records += 1;
        }
        match &envelope.event {
            BusEvent::NewBlock(block) => {
                let number = block.header.number;
                let (low, high) = self.blocks.unwrap_or((number, number));
                self.blocks = Some((low.min(number), high.max(number)));
            }
            BusEvent::Reorg(reorg) => self.deepest_reorg = self.deepest_reorg.max(reorg.depth()),
            _ => {}
        }
    }
}

/// A journal that was read as far as it holds.
#[derive(Debug)]
pub struct Examined {
    /// What stands before the damage, or all there is.
    pub info: Info,
    /// The first thing that does not hold. What follows it was not read.
    pub damage: Option<JournalError>,
}

/// Reads a journal as far as it holds and says what that is. Every record's checksum and place in the sequence is
/// checked, and every event decoded. An incomplete record at the end is reported in [`Info::torn`].
///
/// # Errors
///
/// When there is no journal, or not so much as its first header holds.
pub fn examine(path: impl AsRef<Path>) -> Result<Examined, JournalError> {
    let recording = Recording::open(path)?;
    let mut info = Info::begin(&recording)?;
    let mut records = recording.records(recording.first_seq());
    let mut damage = None;
    for record in records.by_ref() {
        match record {
            Ok(record) => info.add(&record),
            Err(error) => damage = Some(error),
        }
    }
    info.torn = records.torn_tail().cloned();
    Ok(Examined { info, damage })
}

/// As [`examine`], of a journal that holds.
///
/// # Errors
///
/// The first thing that does not hold. An incomplete record at the end is reported in [`Info::torn`].
pub fn info(path: impl AsRef<Path>) -> Result<Info, JournalError> {
    let Examined { info, damage } = examine(path)?;
    damage.map_or(Ok(info), Err)
}

/// As [`info`], and an incomplete record at the end is an error as well.
///
/// # Errors
///
/// The first thing that does not hold.
pub fn verify(path: impl AsRef<Path>) -> Result<Info, JournalError> {
    let info = info(path)?;
    match info.torn.clone() {
        None => Ok(info),
        Some(torn) => Err(torn.into()),
    }
}

fn file_size(path: &Arc<Path>) -> Result<u64, JournalError> {
    std::fs::metadata(path).map(|metadata| metadata.len()).map_err(JournalError::io("read", path))
}
