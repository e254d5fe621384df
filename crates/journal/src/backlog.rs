use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use headwater_bus::{Backlog, BacklogError};
use headwater_events::{Envelope, RunId};

use crate::error::JournalError;
use crate::recording::Recording;
use crate::records::Records;

/// Readers that go on where they stopped; more positions than this cost a search each.
const CURSORS: usize = 4;

/// Bytes in memory that a read gives out at most, but for its last event. Small events are followed by large ones: how many of
/// them a reader can bear, it does not know.
const BATCH_BYTES: usize = 1 << 20;

/// Answers the bus's repairs of lag from a journal, also from one that is being written to.
///
/// It has file handles of its own and shares nothing with the writer but the number of what is recorded. Reading on
/// where an earlier read stopped does not search.
#[derive(Debug)]
pub struct JournalBacklog {
    source: Source,
    recorded: Arc<AtomicU64>,
    /// Readers in the order of their last use, each with the sequence number that it reads next.
    cursors: Mutex<Vec<(u64, Records)>>,
}

#[derive(Debug)]
enum Source {
    /// Segments come while we read, so it is opened anew.
    Growing(PathBuf),
    /// Complete, and given out as events of another run.
    Complete { recording: Recording, run_id: RunId },
}

impl JournalBacklog {
    /// Of a journal that is being written; `recorded` is the last event that is readable.
    pub(crate) fn of_journal(directory: PathBuf, recorded: Arc<AtomicU64>) -> Self {
        Self { source: Source::Growing(directory), recorded, cursors: Mutex::default() }
    }

    pub(crate) fn of_recording(recording: &Recording, run_id: RunId) -> Self {
        let source = Source::Complete { recording: recording.clone(), run_id };
        Self { source, recorded: Arc::new(AtomicU64::new(u64::MAX)), cursors: Mutex::default() }
    }

    fn read_batch(&self, from: u64, limit: usize) -> Result<Vec<Arc<Envelope>>, JournalError> {
        let last =
            self.recorded.load(Ordering::Acquire).min(from.saturating_add(limit as u64).saturating_sub(1));
        let mut events = Vec::new();
        let mut bytes = 0;
        let mut next = from;
        let mut cursor = self.take_cursor(from);
        while next <= last && bytes < BATCH_BYTES {
            let records = match cursor.as_mut() {
                Some(records) => records,
                None => cursor.insert(self.open()?.records(next)),
            };
            let before = next;
            for record in records.by_ref().take(usize::try_from(last - next + 1).unwrap_or(usize::MAX)) {
                match record {
                    // What was asked for is no longer kept. The reader stands elsewhere now, so it is not kept either.
                    Ok(record) if record.envelope.seq != next => return Ok(events),
                    Ok(record) => {
                        bytes += record.envelope.event.weight();
                        events.push(self.own(record.envelope));
                    }
                    // What stands before the damage is given out; who reads on from there is told.
                    Err(_) if !events.is_empty() => return Ok(events),
                    Err(error) => return Err(error),
                }
                next += 1;
                if bytes >= BATCH_BYTES {
                    break;
                }
            }
            let is_exhausted = next <= last && bytes < BATCH_BYTES;
            if is_exhausted && next == before {
                break;
            }
            if is_exhausted {
                cursor = None;
            }
        }
        if let Some(records) = cursor {
            self.keep_cursor(next, records);
        }
        Ok(events)
    }

    fn open(&self) -> Result<Recording, JournalError> {
        match &self.source {
            Source::Growing(directory) => Recording::open(directory),
            Source::Complete { recording, .. } => Ok(recording.clone()),
        }
    }

    fn own(&self, envelope: Arc<Envelope>) -> Arc<Envelope> {
        match &self.source {
            Source::Growing(_) => envelope,
            Source::Complete { run_id, .. } => {
                let mut envelope = Arc::unwrap_or_clone(envelope);
                envelope.run_id = *run_id;
                Arc::new(envelope)
            }
        }
    }

    fn take_cursor(&self, from: u64) -> Option<Records> {
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        let index = cursors.iter().position(|(next, _)| *next == from)?;
        Some(cursors.remove(index).1)
    }

    fn keep_cursor(&self, next: u64, records: Records) {
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        cursors.push((next, records));
        if cursors.len() > CURSORS {
            cursors.remove(0);
        }
    }

    fn gone(&self, wanted: u64) -> Result<(), BacklogError> {
        let oldest = while_files_vanish(|| self.open()).map_err(unreadable)?.first_seq();
        if wanted < oldest { Err(BacklogError::Gone { wanted, oldest }) } else { Ok(()) }
    }
}

impl Backlog for JournalBacklog {
    fn read(&self, from: u64, limit: usize) -> Result<Vec<Arc<Envelope>>, BacklogError> {
        let events = while_files_vanish(|| self.read_batch(from, limit)).map_err(unreadable)?;
        match events.first() {
            Some(first) if first.seq == from => Ok(events),
            _ => self.gone(from).map(|()| Vec::new()),
        }
    }
}

/// Retention may remove a segment between its being found and its being opened: then the next attempt finds others.
fn while_files_vanish<T>(read: impl Fn() -> Result<T, JournalError>) -> Result<T, JournalError> {
    const ATTEMPTS: usize = 16;
    let mut outcome = read();
    for _ in 1..ATTEMPTS {
        match &outcome {
            Err(error) if error.is_missing_file() => outcome = read(),
            _ => break,
        }
    }
    outcome
}

fn unreadable(error: JournalError) -> BacklogError {
    BacklogError::Unreadable(Box::new(error))
}

#[cfg(test)]
mod tests {
    use headwater_events::BusEvent;

    use super::*;
    use crate::appender::Appender;
    use crate::samples::{devnet_block, envelopes, wrap};

    #[test]
    fn large_events_behind_small_ones_are_given_out_in_bounded_batches() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let mut appender = Appender::new(directory.path().to_owned(), RunId(7), 64 << 20, 0, 1);
        appender.begin_segment()?;
        appender.append(&envelopes(1..=100))?;
        let blocks = (101..=4_000).map(|seq| wrap(seq, BusEvent::NewBlock(devnet_block(seq))));
        appender.append(&blocks.collect::<Vec<_>>())?;
        let backlog = JournalBacklog::of_journal(directory.path().to_owned(), Arc::new(4_000.into()));
        let mut next = 1;
        while next <= 4_000 {
            let batch = backlog.read(next, 10_000)?;
            let weights: Vec<_> = batch.iter().map(|envelope| envelope.event.weight()).collect();
            let (_, before) = weights.split_last().expect("something is left");
            assert!(before.iter().sum::<usize>() < BATCH_BYTES, "{} events", batch.len());
            assert!(batch.iter().map(|envelope| envelope.seq).eq(next..next + batch.len() as u64));
            next += batch.len() as u64;
        }
        Ok(())
    }
}
