use std::collections::VecDeque;
use std::time::Duration;

use alloy_primitives::BlockNumber;

/// Blocks that the mean is taken over.
const BLOCKS: usize = 16;

/// Shorter block times are not believed: timestamps are whole seconds, and on a chain that mines on demand they say
/// nothing.
const LEAST: Duration = Duration::from_millis(250);

/// The time from one block to the next, as the chain's own timestamps tell it. Arrivals would not do: blocks that are
/// fetched after an outage arrive at once.
#[derive(Debug, Default)]
pub(crate) struct BlockTime {
    stamps: VecDeque<(BlockNumber, u64)>,
}

impl BlockTime {
    /// Takes in a block that became the head.
    pub(crate) fn observe(&mut self, number: BlockNumber, timestamp: u64) {
        while self.stamps.back().is_some_and(|(last, _)| *last >= number) {
            self.stamps.pop_back();
        }
        if self.stamps.len() > BLOCKS {
            self.stamps.pop_front();
        }
        self.stamps.push_back((number, timestamp));
    }

    /// The mean over the last blocks; `None` before the second one.
    pub(crate) fn mean(&self) -> Option<Duration> {
        let ((first, from), (last, to)) = (self.stamps.front()?, self.stamps.back()?);
        let blocks = u32::try_from(last - first).ok().filter(|blocks| *blocks > 0)?;
        Some((Duration::from_secs(to.saturating_sub(*from)) / blocks).max(LEAST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stamps: impl IntoIterator<Item = (u64, u64)>, millis: Option<u64>) {
        let mut block_time = BlockTime::default();
        stamps.into_iter().for_each(|(number, timestamp)| block_time.observe(number, timestamp));
        assert_eq!(block_time.mean(), millis.map(Duration::from_millis));
    }

    #[test]
    fn the_mean_of_the_last_sixteen_is_told() {
        check([], None);
        check([(7, 100)], None);
        check([(7, 100), (8, 112)], Some(12_000));
        check((0..100).map(|number| (number, number / 2)), Some(500));
        check((0..100).map(|number| (number, 5)), Some(250));
        // An hour that lies further back than sixteen blocks.
        check((0..40).map(|number| (number, if number < 20 { 0 } else { 3600 + number })), Some(1_000));
        // A branch that replaces another.
        check([(1, 10), (2, 11), (3, 999), (3, 12), (4, 13)], Some(1_000));
    }
}
