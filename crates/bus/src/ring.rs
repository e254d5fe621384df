use std::collections::VecDeque;
use std::sync::Arc;

use headwater_events::Envelope;

/// The newest events of a lane, bounded in bytes; positions are contiguous.
///
/// An event that is not recorded yet is never evicted, because nobody else could repair a lag with it; the recorder's
/// queue is bounded, so this is as well.
#[derive(Debug)]
pub(crate) struct Ring {
    events: VecDeque<Arc<Envelope>>,
    /// Position of the first event in `events`.
    first: u64,
    bytes: usize,
    capacity: usize,
}

impl Ring {
    pub(crate) fn new(first: u64, capacity: usize) -> Self {
        Self { events: VecDeque::new(), first, bytes: 0, capacity }
    }

    /// The position that the next event will have.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Appends; evicts from the old end what is above the capacity and at a position up to `recorded`, and gives it
    /// back, to be dropped when nobody waits: an event may be large.
    pub(crate) fn push(&mut self, envelope: Arc<Envelope>, recorded: u64) -> Vec<Arc<Envelope>> {
        self.bytes += envelope.event.weight();
        self.events.push_back(envelope);
        let mut past = Vec::new();
        while self.bytes > self.capacity && self.first <= recorded && self.events.len() > 1 {
            if let Some(evicted) = self.events.pop_front() {
                self.bytes -= evicted.event.weight();
                self.first += 1;
                past.push(evicted);
            }
        }
        past
    }

    /// Events from position `from` on, at most `limit`; `None` if the ring no longer has the first of them.
    pub(crate) fn read(&self, from: u64, limit: usize) -> Option<Vec<Arc<Envelope>>> {
        let skip = usize::try_from(from.checked_sub(self.first)?).ok()?;
        Some(self.events.iter().skip(skip).take(limit).cloned().collect())
    }

    /// Position of the oldest event that is still here.
    pub(crate) fn oldest(&self) -> u64 {
        self.first
    }
}

#[cfg(test)]
mod tests {
    use headwater_events::{BusEvent, RunId};

    use super::*;

    fn envelope(seq: u64) -> Arc<Envelope> {
        Arc::new(Envelope { run_id: RunId(0), seq, received_at: 0, derived: None, event: BusEvent::Shutdown })
    }

    fn filled(count: u64, kept: usize, recorded: u64) -> Ring {
        let weight = BusEvent::Shutdown.weight();
        let mut ring = Ring::new(1, weight * kept);
        (1..=count).for_each(|seq| drop(ring.push(envelope(seq), recorded)));
        ring
    }

    fn seqs(ring: &Ring, from: u64) -> Option<Vec<u64>> {
        Some(ring.read(from, 100)?.iter().map(|envelope| envelope.seq).collect())
    }

    #[test]
    fn it_keeps_the_newest_that_fit() {
        assert_eq!(seqs(&filled(10, 3, u64::MAX), 8), Some(vec![8, 9, 10]));
        assert_eq!(seqs(&filled(10, 3, u64::MAX), 7), None);
    }

    #[test]
    fn reading_beyond_the_end_is_empty_and_not_gone() {
        assert_eq!(seqs(&filled(10, 3, u64::MAX), 11), Some(vec![]));
    }

    #[test]
    fn what_is_not_recorded_is_not_evicted() {
        assert_eq!(seqs(&filled(10, 3, 4), 5), Some(vec![5, 6, 7, 8, 9, 10]));
        assert_eq!(seqs(&filled(10, 3, 4), 4), None);
    }
}
