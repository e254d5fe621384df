use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::{self, Instant};

/// The way of a block through the system, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its last byte was read from the socket.
    LastByte,
    /// It was published as a source event.
    Published,
    /// Its actions were decoded.
    Decoded,
    /// Its prices were published.
    Priced,
    /// The market as of it was published.
    Applied,
    /// The last detector had evaluated it.
    Detected,
    /// The executor held the findings.
    Received,
    /// The last outcome was recorded, of all detectors: not stamped where one of them passed the block over.
    Decided,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 8] = [
        Self::LastByte,
        Self::Published,
        Self::Decoded,
        Self::Priced,
        Self::Applied,
        Self::Detected,
        Self::Received,
        Self::Decided,
    ];

    /// As written in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LastByte => "last_byte",
            Self::Published => "published",
            Self::Decoded => "decoded",
            Self::Priced => "priced",
            Self::Applied => "applied",
            Self::Detected => "detected",
            Self::Received => "received",
            Self::Decided => "decided",
        }
    }
}

/// Blocks whose stamps are kept.
const SLOTS: usize = 1024;

/// Where components stamp a block as it passes; lock-free, and never read by them.
#[derive(Clone, Debug)]
pub struct Timeline {
    origin: Instant,
    slots: Arc<[Slot]>,
}

#[derive(Debug, Default)]
struct Slot {
    seq: AtomicU64,
    /// Nanoseconds since `origin`, plus one; zero where the stage was not reached.
    stamps: [AtomicU64; Stage::ALL.len()],
}

/// The stamps of one block, in nanoseconds since its first stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamps {
    stamps: [Option<u64>; Stage::ALL.len()],
}

impl Stamps {
    /// Nanoseconds from the first stamp of the block to this one.
    pub fn since_first(&self, stage: Stage) -> Option<u64> {
        let first = self.stamps.iter().flatten().min()?;
        self.stamps[stage as usize].map(|stamp| stamp - first)
    }
}

impl Default for Timeline {
    fn default() -> Self {
        Self { origin: clock::now(), slots: (0..SLOTS).map(|_| Slot::default()).collect() }
    }
}

impl Timeline {
    /// Begins the stamps of the block of `seq`.
    pub fn begin(&self, seq: u64, last_byte: Option<Instant>) {
        let slot = self.slot(seq);
        slot.stamps.iter().for_each(|stamp| stamp.store(0, Ordering::Relaxed));
        slot.seq.store(seq, Ordering::Release);
        if let Some(at) = last_byte {
            self.store(slot, Stage::LastByte, at);
        }
        self.store(slot, Stage::Published, clock::now());
    }

    /// Stamps a stage with the present. A later stamp of the same stage wins: the last of several detectors.
    pub fn stamp(&self, seq: u64, stage: Stage) {
        let slot = self.slot(seq);
        if slot.seq.load(Ordering::Acquire) == seq {
            self.store(slot, stage, clock::now());
        }
    }

    /// The stamps of the block of `seq`, if they are still kept.
    pub fn read(&self, seq: u64) -> Option<Stamps> {
        let slot = self.slot(seq);
        let stamps = slot.stamps.each_ref().map(|stamp| stamp.load(Ordering::Relaxed).checked_sub(1));
        (slot.seq.load(Ordering::Acquire) == seq).then_some(Stamps { stamps })
    }

    /// Nanoseconds from `since` to the stamp of `stage`: for a harness that has a clock of its own at the other end.
    pub fn elapsed_until(&self, seq: u64, stage: Stage, since: Instant) -> Option<u64> {
        let slot = self.slot(seq);
        let stamp = slot.stamps[stage as usize].load(Ordering::Relaxed).checked_sub(1)?;
        let since = u64::try_from(since.checked_duration_since(self.origin)?.as_nanos()).ok()?;
        (slot.seq.load(Ordering::Acquire) == seq).then(|| stamp.saturating_sub(since))
    }

    fn slot(&self, seq: u64) -> &Slot {
        &self.slots[seq as usize % SLOTS]
    }

    fn store(&self, slot: &Slot, stage: Stage, at: Instant) {
        let nanos =
            u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX - 1);
        slot.stamps[stage as usize].store(nanos + 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn stamps_are_counted_from_the_last_byte() {
        let timeline = Timeline::default();
        let last_byte = clock::now();
        tokio::time::advance(Duration::from_micros(5)).await;
        timeline.begin(3, Some(last_byte));
        tokio::time::advance(Duration::from_micros(7)).await;
        timeline.stamp(3, Stage::Received);
        let stamps = timeline.read(3).expect("it was begun");
        assert_eq!(stamps.since_first(Stage::Published), Some(5_000));
        assert_eq!(stamps.since_first(Stage::Received), Some(12_000));
        assert_eq!(stamps.since_first(Stage::Decoded), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_whose_slot_was_taken_over_has_no_stamps() {
        let timeline = Timeline::default();
        timeline.begin(1, None);
        timeline.begin(1 + SLOTS as u64, None);
        timeline.stamp(1, Stage::Received);
        assert_eq!(timeline.read(1), None);
    }
}
