use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_events::{Envelope, RunId};

use crate::error::JournalError;
use crate::format::{HEADER_BYTES, SegmentHeader, encode_record};
use crate::recording::segment_name;

/// Writes records into segments. Knows nothing of queues and threads.
#[derive(Debug)]
pub(crate) struct Appender {
    directory: PathBuf,
    run_id: RunId,
    segment_bytes: u64,
    segment: Option<OpenSegment>,
    next_index: u32,
    next_seq: u64,
    /// Bytes written by this appender, headers included.
    pub(crate) bytes: u64,
    /// Segments begun by this appender.
    pub(crate) segments: u32,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct OpenSegment {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Appender {
    pub(crate) fn new(
        directory: PathBuf,
        run_id: RunId,
        segment_bytes: u64,
        next_index: u32,
        next_seq: u64,
    ) -> Self {
        Self {
            directory,
            run_id,
            segment_bytes,
            segment: None,
            next_index,
            next_seq,
            bytes: 0,
            segments: 0,
            buffer: Vec::new(),
        }
    }

    /// The sequence number of the last event that was written.
    pub(crate) fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Begins a segment, so that even a run without events leaves a journal.
    pub(crate) fn begin_segment(&mut self) -> Result<(), JournalError> {
        self.sync()?;
        let path = self.directory.join(segment_name(self.next_index));
        let mut file = File::create_new(&path).map_err(JournalError::io("create", &path))?;
        let header = SegmentHeader { compressed: false, run_id: self.run_id, first_seq: self.next_seq };
        file.write_all(&header.encode()).map_err(JournalError::io("write", &path))?;
        file.sync_all().map_err(JournalError::io("sync", &path))?;
        sync_directory(&self.directory)?;
        self.segment = Some(OpenSegment { file, path, bytes: HEADER_BYTES as u64 });
        self.next_index += 1;
        self.segments += 1;
        self.bytes += HEADER_BYTES as u64;
        Ok(())
    }

    /// Writes events; on return each of them can be read. A batch is one write, unless a segment ends within it.
    pub(crate) fn append(&mut self, batch: &[Arc<Envelope>]) -> Result<(), JournalError> {
        for envelope in batch {
            self.encode(envelope)?;
            let in_segment = self.segment.as_ref().map_or(u64::MAX, |segment| segment.bytes);
            if in_segment.saturating_add(self.buffer.len() as u64) >= self.segment_bytes {
                self.write_out()?;
                self.begin_segment()?;
            }
        }
        self.write_out()
    }

    /// Forces what was written to the disk.
    pub(crate) fn sync(&mut self) -> Result<(), JournalError> {
        match &self.segment {
            Some(segment) => segment.file.sync_data().map_err(JournalError::io("sync", &segment.path)),
            None => Ok(()),
        }
    }

    fn encode(&mut self, envelope: &Envelope) -> Result<(), JournalError> {
        let seq = envelope.seq;
        if seq != self.next_seq {
            return Err(JournalError::OutOfTurn { expected: self.next_seq, actual: seq });
        }
        if envelope.derived.is_some() || !envelope.event.is_source() {
            return Err(JournalError::NotASource { seq, name: envelope.event.name() });
        }
        encode_record(envelope, &mut self.buffer).map_err(|reason| JournalError::Encode { seq, reason })?;
        self.next_seq += 1;
        Ok(())
    }

    fn write_out(&mut self) -> Result<(), JournalError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Some(segment) = &mut self.segment else { return Err(JournalError::WriterGone) };
        segment.file.write_all(&self.buffer).map_err(JournalError::io("write", &segment.path))?;
        segment.bytes += self.buffer.len() as u64;
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Makes the names of new files durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), JournalError> {
    let open = File::open(directory).map_err(JournalError::io("open", directory))?;
    open.sync_all().map_err(JournalError::io("sync", directory))
}

/// Cuts a file off and makes that durable.
pub(crate) fn cut(path: &Path, length: u64) -> Result<(), JournalError> {
    let file = fs::OpenOptions::new().write(true).open(path).map_err(JournalError::io("open", path))?;
    file.set_len(length).map_err(JournalError::io("cut", path))?;
    file.sync_all().map_err(JournalError::io("sync", path))
}
