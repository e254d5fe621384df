use std::iter;
use std::path::Path;
use std::sync::Arc;

use headwater_events::Envelope;

use crate::error::{Damage, JournalError};
use crate::format::decode_payload;
use crate::recording::{Recording, TornTail};
use crate::segment::{Frame, FrameError, SegmentReader};

/// An event as it was recorded.
#[derive(Clone, Debug)]
pub struct Record {
    /// The event, in the envelope in which it was published.
    pub envelope: Arc<Envelope>,
    /// The file that it stands in.
    pub file: Arc<Path>,
    /// Where in the file; in a compressed recording, in its decompressed form.
    pub offset: u64,
    /// Bytes of its payload.
    pub bytes: usize,
    /// Version of its payload.
    pub schema: u16,
}

/// The events of a recording in order, each checked. Ends after the first error.
#[derive(Debug)]
pub struct Records {
    recording: Recording,
    /// Index of the segment that is read next.
    next_segment: usize,
    reader: Option<SegmentReader>,
    from: u64,
    torn: Option<TornTail>,
    /// The sequence number that the next segment must begin with.
    next_seq: Option<u64>,
    ended: bool,
}

impl Records {
    pub(crate) fn new(recording: Recording, from: u64) -> Self {
        // In a damaged journal they may be in no order, or there twice.
        let firsts = || recording.segments().iter().map(|segment| segment.header.first_seq);
        let follows =
            |(before, first): &(Option<u64>, u64)| *first <= from && before.is_none_or(|it| it < *first);
        let later = iter::once(None).chain(firsts().map(Some)).zip(firsts()).take_while(follows).count();
        Self {
            recording,
            next_segment: later.saturating_sub(1),
            reader: None,
            from,
            torn: None,
            next_seq: None,
            ended: false,
        }
    }

    /// Once the end was reached: what a writer that was cut off left there.
    pub fn torn_tail(&self) -> Option<&TornTail> {
        self.torn.as_ref()
    }

    /// Reads to the end without decoding; the sequence number that comes next.
    pub(crate) fn skip_to_end(&mut self) -> Result<u64, JournalError> {
        while self.next_frame()?.is_some() {}
        Ok(self.next_seq.unwrap_or_else(|| self.recording.first_seq()))
    }

    fn next_record(&mut self) -> Result<Option<Record>, JournalError> {
        while let Some(frame) = self.next_frame()? {
            if frame.seq >= self.from {
                return self.decode(frame).map(Some);
            }
        }
        Ok(None)
    }

    fn decode(&self, frame: Frame) -> Result<Record, JournalError> {
        let reader = self.reader.as_ref().expect("a frame comes from a reader");
        let Frame { offset, seq, schema } = frame;
        let file = Arc::clone(&reader.segment.path);
        let envelope = decode_payload(reader.segment.header.run_id, seq, schema, reader.payload())
            .map_err(|damage| JournalError::damaged(&file, offset, damage))?;
        Ok(Record { envelope: Arc::new(envelope), file, offset, bytes: reader.payload().len(), schema })
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, JournalError> {
        loop {
            if self.reader.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let reader = self.reader.as_mut().expect("it was opened just now");
            match reader.next_frame() {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {
                    self.next_seq = Some(reader.next_seq);
                    self.reader = None;
                }
                Err(FrameError::Io(error)) => {
                    return Err(JournalError::io("read", &reader.segment.path)(error));
                }
                Err(FrameError::Invalid(damage)) => return self.end_of_tail(damage).map(|()| None),
            }
        }
    }

    /// Opens the segment that comes next, if there is one.
    fn open_next(&mut self) -> Result<bool, JournalError> {
        let Some(segment) = self.recording.segments().get(self.next_segment) else {
            if let Some(error) = self.recording.broken() {
                return Err(error);
            }
            if self.torn.is_none() {
                let last_seq = self.next_seq.unwrap_or(1).saturating_sub(1);
                self.torn = self.recording.torn_head().map(|torn| TornTail { last_seq, ..torn.clone() });
            }
            return Ok(false);
        };
        let actual = segment.header.first_seq;
        if let Some(expected) = self.next_seq.filter(|expected| *expected != actual) {
            return Err(JournalError::damaged(&segment.path, 0, Damage::Sequence { expected, actual }));
        }
        self.reader = Some(SegmentReader::open(segment)?);
        self.next_segment += 1;
        Ok(true)
    }

    /// A record that does not hold: the torn end of the last segment, or damage.
    fn end_of_tail(&mut self, damage: Damage) -> Result<(), JournalError> {
        let reader = self.reader.take().expect("the damage came from it");
        let path = &reader.segment.path;
        let is_last =
            self.next_segment == self.recording.segments().len() && self.recording.ends_with_segments();
        let may_be_torn = is_last && !matches!(damage, Damage::Sequence { .. });
        let torn = if may_be_torn { reader.torn_bytes()? } else { None };
        let Some(bytes) = torn else {
            return Err(JournalError::damaged(path, reader.offset, damage));
        };
        self.next_seq = Some(reader.next_seq);
        self.torn = Some(TornTail {
            file: path.to_path_buf(),
            offset: reader.offset,
            bytes,
            last_seq: reader.next_seq.saturating_sub(1),
        });
        Ok(())
    }
}

impl Iterator for Records {
    type Item = Result<Record, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_record().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}
