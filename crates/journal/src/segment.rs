use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Damage, JournalError};
use crate::format::{BadHeader, HEADER_BYTES, MAGIC, RECORD_HEADER_BYTES, RecordHeader, SegmentHeader};

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
    Bad(BadHeader),
}

/// Reads the header of a file.
pub(crate) fn read_head(path: &Path) -> Result<Head, JournalError> {
    let mut file = File::open(path).map_err(JournalError::io("open", path))?;
    read_head_of(&mut file).map_err(JournalError::io("read", path))
}

fn read_head_of(file: &mut File) -> io::Result<Head> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    file.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut bytes)?;
    let is_cut = bytes.len() < HEADER_BYTES && MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]);
    // Some file systems show zeros where the data of a new file had not reached the disk. Where something stands behind
    // the zeros, the header had reached it, and was lost since.
    if is_cut || is_blank(&bytes) && is_blank_to_the_end(file)? {
        return Ok(Head::Torn { bytes: file.metadata()?.len() });
    }
    Ok(SegmentHeader::decode(&bytes).map_or_else(Head::Bad, Head::Good))
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn is_blank_to_the_end(file: &File) -> io::Result<bool> {
    let mut file = BufReader::with_capacity(CHUNK, file.take(MOST_SEARCHED));
    loop {
        let bytes = file.fill_buf()?;
        let read = bytes.len();
        if read == 0 || !is_blank(bytes) {
            return Ok(read == 0 && file.get_ref().limit() > 0);
        }
        file.consume(read);
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
/// How much of it is in memory at once.
const CHUNK: usize = 64 << 10;

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
        let search = || {
            let end = File::open(path)?.metadata()?.len();
            let bytes = end.saturating_sub(self.offset);
            let is_torn = bytes <= MOST_SEARCHED && !has_later_record(path, self.offset, end, self.next_seq)?;
            Ok(is_torn.then_some(bytes))
        };
        search().map_err(JournalError::io("read", path))
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

/// Whether a whole record of event `next_seq` or a later one stands anywhere behind the broken one at `offset`.
///
/// This tells a torn tail, behind which there is nothing, from damage in the middle.
fn has_later_record(path: &Path, offset: u64, end: u64, next_seq: u64) -> io::Result<bool> {
    let later = next_seq..=next_seq.saturating_add((end - offset) / RECORD_HEADER_BYTES as u64);
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset + 1))?;
    let mut place = offset + 1;
    let mut chunk = Vec::with_capacity(CHUNK + RECORD_HEADER_BYTES);
    while file.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)? > 0 {
        let mut passed = 0;
        while let Some(head) = chunk[passed..].first_chunk() {
            let head = RecordHeader::decode(head);
            let begin = place + (passed + RECORD_HEADER_BYTES) as u64;
            if later.contains(&head.seq) && holds_at(path, &head, begin, end)? {
                return Ok(true);
            }
            passed += 1;
        }
        chunk.drain(..passed);
        place += passed as u64;
    }
    Ok(false)
}

/// Whether the payload that `head` describes begins at `begin` and ends before `end`.
fn holds_at(path: &Path, head: &RecordHeader, begin: u64, end: u64) -> io::Result<bool> {
    if !head.has_sane_length() || u64::from(head.length) > end.saturating_sub(begin) {
        return Ok(false);
    }
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(begin))?;
    let mut payload = BufReader::with_capacity(CHUNK, file.take(head.length.into()));
    let mut crc = head.crc_of_head();
    loop {
        let part = payload.fill_buf()?;
        if part.is_empty() {
            return Ok(crc == head.crc);
        }
        crc = crc32c::crc32c_append(crc, part);
        let read = part.len();
        payload.consume(read);
    }
}

fn open_at(path: &Path, offset: u64) -> Result<BufReader<File>, JournalError> {
    let mut file = File::open(path).map_err(JournalError::io("open", path))?;
    file.seek(SeekFrom::Start(offset)).map_err(JournalError::io("read", path))?;
    Ok(BufReader::with_capacity(256 << 10, file))
}
