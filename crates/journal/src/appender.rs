use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_events::{Envelope, RunId};

use crate::durable::sync_directory;
use crate::error::JournalError;
use crate::fail_points::{self, FailPoint, pass};
use crate::format::{HEADER_BYTES, SegmentHeader, encode_record};
use crate::recording::segment_name;

/// What is collected for one write, and kept from one to the next: what piled up while a disk was full is not kept for good.
const WRITE_BYTES: usize = 256 << 10;

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
    /// Whether the last attempt to write failed: then the next one finds some of its events in the buffer.
    failed: bool,
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
            failed: false,
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
        pass(FailPoint::SegmentCreate);
        let mut file = File::create_new(&path).map_err(JournalError::io("create", &path))?;
        if let Err(error) = self.write_header(&mut file, &path) {
            // The next attempt makes it anew. If it cannot be removed, that one says so.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.segment = Some(OpenSegment { file, path, bytes: HEADER_BYTES as u64 });
        self.next_index += 1;
        self.segments += 1;
        self.bytes += HEADER_BYTES as u64;
        Ok(())
    }

    fn write_header(&self, file: &mut File, path: &Path) -> Result<(), JournalError> {
        let header = SegmentHeader { compressed: false, run_id: self.run_id, first_seq: self.next_seq };
        let (before, half) = (FailPoint::SegmentHeaderWrite, FailPoint::SegmentHeaderWriteHalf);
        fail_points::write_all(file, &header.encode(), before, half)
            .map_err(JournalError::io("write", path))?;
        pass(FailPoint::SegmentHeaderSync);
        file.sync_all().map_err(JournalError::io("sync", path))?;
        pass(FailPoint::SegmentDirectorySync);
        sync_directory(&self.directory)
    }

    /// Writes events; on return each of them can be read. A batch is one write, unless it is large or a segment ends within
    /// it. After an error the same batch may be tried again: what is on the disk of it is found or cut off.
    pub(crate) fn append(&mut self, batch: &[Arc<Envelope>]) -> Result<(), JournalError> {
        let is_again = std::mem::replace(&mut self.failed, true);
        if is_again {
            self.rewind()?;
        }
        let done_before = if is_again { self.next_seq } else { 0 };
        for envelope in batch {
            if envelope.seq >= done_before {
                self.encode(envelope)?;
            }
            let in_segment = self.segment.as_ref().map_or(u64::MAX, |segment| segment.bytes);
            if in_segment.saturating_add(self.buffer.len() as u64) >= self.segment_bytes {
                self.write_out()?;
                self.begin_segment()?;
            } else if self.buffer.len() >= WRITE_BYTES {
                self.write_out()?;
            }
        }
        self.write_out()?;
        self.failed = false;
        Ok(())
    }

    /// Cuts off what an attempt that failed may have left behind the last whole record.
    fn rewind(&mut self) -> Result<(), JournalError> {
        let Some(OpenSegment { file, path, bytes }) = &mut self.segment else { return Ok(()) };
        file.set_len(*bytes).map_err(JournalError::io("cut", path))?;
        file.seek(SeekFrom::Start(*bytes)).map_err(JournalError::io("seek in", path))?;
        Ok(())
    }

    /// Forces what was written to the disk.
    pub(crate) fn sync(&mut self) -> Result<(), JournalError> {
        let Some(segment) = &self.segment else { return Ok(()) };
        let synced = fail_points::attempt(FailPoint::RecordSync).and_then(|()| segment.file.sync_data());
        synced.map_err(JournalError::io("sync", &segment.path))
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
        let (before, half) = (FailPoint::RecordWrite, FailPoint::RecordWriteHalf);
        fail_points::write_all(&mut segment.file, &self.buffer, before, half)
            .map_err(JournalError::io("write", &segment.path))?;
        segment.bytes += self.buffer.len() as u64;
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(WRITE_BYTES);
        Ok(())
    }
}

/// Cuts a file off and makes that durable.
pub(crate) fn cut(path: &Path, length: u64) -> Result<(), JournalError> {
    let file = fs::OpenOptions::new().write(true).open(path).map_err(JournalError::io("open", path))?;
    pass(FailPoint::TailCut);
    file.set_len(length).map_err(JournalError::io("cut", path))?;
    pass(FailPoint::TailSync);
    file.sync_all().map_err(JournalError::io("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{devnet_block, wrap};

    #[test]
    fn what_piled_up_is_written_in_parts_and_not_kept() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let mut appender = Appender::new(directory.path().to_owned(), RunId(7), 64 << 20, 0, 1);
        appender.begin_segment()?;
        let batch: Vec<_> = (1..=4_000)
            .map(|seq| wrap(seq, headwater_events::BusEvent::NewBlock(devnet_block(seq))))
            .collect();
        appender.append(&batch)?;
        assert!(appender.bytes > 8 * WRITE_BYTES as u64, "{} bytes", appender.bytes);
        assert!(appender.buffer.capacity() <= 2 * WRITE_BYTES, "{} bytes", appender.buffer.capacity());
        Ok(())
    }
}
