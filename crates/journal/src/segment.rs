use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Damage, JournalError};
use crate::format::{
    BadHeader, FORMAT_VERSION, HEADER_BYTES, MAGIC, RECORD_HEADER_BYTES, RecordHeader, SegmentHeader,
    has_later_record,
};

/// One file of a journal, or the decompressed records of a recording.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) path: Arc<Path>,
    pub(crate) header: SegmentHeader,
    /// The records, where they were compressed in the file.
    pub(crate) records: Option<Arc<[u8]>>,
}

/// What the first bytes of a file are.
#[derive(Debug)]
pub(crate) enum Head {
    Good(SegmentHeader),
    /// The writer was cut off before the header was whole.
    Torn {
        bytes: u64,
    },
}

/// Reads the header of a file.
pub(crate) fn read_head(path: &Path) -> Result<Head, JournalError> {
    let mut file = File::open(path).map_err(JournalError::io("open", path))?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    file.by_ref()
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut bytes)
        .map_err(JournalError::io("read", path))?;
    let size = file.metadata().map_err(JournalError::io("read", path))?.len();
    let is_cut = bytes.len() < HEADER_BYTES && MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]);
    // Some file systems show zeros where the data of a new file had not reached the disk.
    let is_blank = bytes.iter().all(|byte| *byte == 0);
    if is_cut || is_blank {
        return Ok(Head::Torn { bytes: size });
    }
    match SegmentHeader::decode(&bytes) {
        Ok(header) => Ok(Head::Good(header)),
        Err(BadHeader::Foreign) => Err(JournalError::NotAJournal { path: path.into() }),
        Err(BadHeader::Damaged) => Err(JournalError::damaged(path, 0, Damage::Header)),
        Err(BadHeader::Newer(found)) => {
            Err(JournalError::UnsupportedFormat { path: path.into(), found, supported: FORMAT_VERSION })
        }
    }
}

#[derive(Debug)]
enum Input {
    File(BufReader<File>),
    Memory(Cursor<Arc<[u8]>>),
}

impl Input {
    fn len(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => Ok(file.get_ref().metadata()?.len()),
            Self::Memory(cursor) => Ok((HEADER_BYTES + cursor.get_ref().len()) as u64),
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Memory(cursor) => cursor.read(buffer),
        }
    }
}

/// A record whose checksum holds; its payload is [`SegmentReader::payload`] until the next is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) offset: u64,
    pub(crate) seq: u64,
    pub(crate) schema: u16,
}

/// Why there is no next frame.
#[derive(Debug)]
pub(crate) enum FrameError {
    Io(io::Error),
    Invalid(Damage),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads the records of one segment in order.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    pub(crate) segment: Segment,
    input: Input,
    /// Where the next record begins.
    pub(crate) offset: u64,
    /// Length of the input when it was last asked for: a journal may be growing.
    length: u64,
    /// The sequence number that must come next.
    pub(crate) next_seq: u64,
    payload: Vec<u8>,
}

/// A broken tail beyond this size is not searched; it counts as damage.
const MOST_SEARCHED: u64 = 256 << 20;

impl SegmentReader {
    pub(crate) fn open(segment: &Segment) -> Result<Self, JournalError> {
        let input = match &segment.records {
            Some(records) => Input::Memory(Cursor::new(Arc::clone(records))),
            None => Input::File(open_at(&segment.path, HEADER_BYTES as u64)?),
        };
        Ok(Self {
            segment: segment.clone(),
            input,
            offset: HEADER_BYTES as u64,
            length: 0,
            next_seq: segment.header.first_seq,
            payload: Vec::new(),
        })
    }

    /// The payload of the last frame.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The next record; `None` where the segment ends between two records.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let offset = self.offset;
        if self.remaining(RECORD_HEADER_BYTES as u64)? == 0 {
            return Ok(None);
        }
        self.need(RECORD_HEADER_BYTES as u64)?;
        let mut head = [0; RECORD_HEADER_BYTES];
        self.input.read_exact(&mut head)?;
        let head = RecordHeader::decode(&head);
        if !head.has_sane_length() {
            return Err(FrameError::Invalid(Damage::Length(head.length)));
        }
        let whole = RECORD_HEADER_BYTES as u64 + u64::from(head.length);
        self.need(whole)?;
        self.payload.resize(head.length as usize, 0);
        self.input.read_exact(&mut self.payload)?;
        if !head.holds_for(&self.payload) {
            return Err(FrameError::Invalid(Damage::Checksum));
        }
        if head.seq != self.next_seq {
            let damage = Damage::Sequence { expected: self.next_seq, actual: head.seq };
            return Err(FrameError::Invalid(damage));
        }
        self.offset += whole;
        self.next_seq = self.next_seq.saturating_add(1);
        Ok(Some(Frame { offset, seq: head.seq, schema: head.schema }))
    }

    /// After [`FrameError::Invalid`]: how many bytes of a torn record stand at the end; `None` where it is damage,
    /// because whole records follow.
    pub(crate) fn torn_bytes(&self) -> Result<Option<u64>, JournalError> {
        if self.segment.records.is_some() {
            return Ok(None);
        }
        let path = &self.segment.path;
        let mut rest = Vec::new();
        open_at(path, self.offset)?
            .take(MOST_SEARCHED + 1)
            .read_to_end(&mut rest)
            .map_err(JournalError::io("read", path))?;
        let bytes = rest.len() as u64;
        let is_torn = bytes <= MOST_SEARCHED && !has_later_record(&rest, self.next_seq);
        Ok(is_torn.then_some(bytes))
    }

    /// Bytes from here to the end. The file is asked for its length only when less than `wanted` are known.
    fn remaining(&mut self, wanted: u64) -> io::Result<u64> {
        if self.length < self.offset + wanted {
            self.length = self.input.len()?;
        }
        Ok(self.length.saturating_sub(self.offset))
    }

    /// Refuses a record that the file is too short for, before anything is allocated for it.
    fn need(&mut self, wanted: u64) -> Result<(), FrameError> {
        match self.remaining(wanted)? {
            enough if enough >= wanted => Ok(()),
            _ => Err(FrameError::Invalid(Damage::Incomplete)),
        }
    }
}

fn open_at(path: &Path, offset: u64) -> Result<BufReader<File>, JournalError> {
    let mut file = File::open(path).map_err(JournalError::io("open", path))?;
    file.seek(SeekFrom::Start(offset)).map_err(JournalError::io("read", path))?;
    Ok(BufReader::with_capacity(256 << 10, file))
}
