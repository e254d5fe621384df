use std::sync::Arc;

use alloy_primitives::{BlockHash, BlockNumber, U256, U512};
use imbl::Vector;
use serde::{Deserialize, Serialize};

use crate::book::HORIZON;
use crate::prices::PriceId;

/// Blocks that a window holds at most, however short they are: then it covers less time.
pub const MAX_WINDOW_BLOCKS: usize = 8_192;

/// How the prices of tokens changed in the last blocks: what their time-weighted averages are made of.
///
/// A price counts for as long as it stood, from the timestamp of the block that set it to that of the block that changed it, so
/// that what a block does to a price weighs nothing in that block itself. A copy shares with its original what neither changes,
/// and a block costs what it changed.
///
/// # How far one block can move an average
///
/// No price counts with more than twice, or less than half, of the time-weighted median of the window. So if all honest prices
/// in the window lie between `lo` and `hi ≤ 2·lo`, and others stood for `d` of the `c` seconds that it covers, with `d < c / 2`,
/// then the average lies between `lo·(1 − d/2c)` and `hi·(1 + d/c)`, whatever those others were: of half an hour, a block of 12
/// seconds moves it by at most 0.67 percent up or 0.34 percent down.
#[derive(Clone, Debug, Default)]
pub struct PriceWindow {
    /// Oldest first.
    blocks: Vector<Arc<BlockPrices>>,
}

/// What a block changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockPrices {
    /// Height.
    pub number: BlockNumber,
    /// Hash.
    pub hash: BlockHash,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    /// By ascending place.
    pub changes: Vec<PriceChange>,
}

/// A price that was changed, as mantissas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceChange {
    /// Whose.
    pub place: PriceId,
    /// What it was before the block, if there was one.
    pub before: Option<U256>,
    /// What it is after it, if there is one.
    pub after: Option<U256>,
}

/// The mean of a price over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWeighted {
    /// The mean, as a mantissa, rounded down.
    pub mantissa: U256,
    /// Seconds of the window in which there was a price.
    pub covered_s: u64,
    /// How many seconds ago those lie, in the mean, rounded down: 900 where half an hour is covered whole.
    pub age_s: u64,
}

impl PriceWindow {
    /// The window that these blocks, oldest first, are of.
    pub fn of_blocks(blocks: Vec<BlockPrices>) -> Self {
        Self { blocks: blocks.into_iter().map(Arc::new).collect() }
    }

    /// The blocks, oldest first.
    pub fn blocks(&self) -> impl DoubleEndedIterator<Item = &BlockPrices> {
        self.blocks.iter().map(|block| &**block)
    }

    /// How many blocks it holds.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Adds a block, and forgets those of which no average over `window_s` seconds is made any longer, not even after as many
    /// blocks as can be were undone.
    pub fn push(&mut self, mut block: BlockPrices, window_s: u64) {
        block.changes.sort_unstable_by_key(|change| change.place);
        self.blocks.push_back(Arc::new(block));
        let undone = self.blocks.len().saturating_sub(HORIZON + 1);
        let needed_from = self.blocks.get(undone).map_or(0, |block| block.timestamp).saturating_sub(window_s);
        while self.blocks.len() > MAX_WINDOW_BLOCKS
            || self.blocks.get(1).is_some_and(|second| second.timestamp <= needed_from)
        {
            self.blocks.pop_front();
        }
    }

    /// Forgets the blocks above a height.
    pub fn roll_back(&mut self, ancestor: BlockNumber) {
        while self.blocks.back().is_some_and(|block| block.number > ancestor) {
            self.blocks.pop_back();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.blocks.clear();
    }

    /// The mean of a price over the `window_s` seconds before `now`, the timestamp of the last block, behind which it is
    /// `current`. `None` where there was a price for less than half of that time.
    pub fn average(
        &self,
        place: PriceId,
        current: Option<U256>,
        now: u64,
        window_s: u64,
    ) -> Option<TimeWeighted> {
        let (mut stood, ages) = self.stood(place, current, now, window_s);
        let covered_s: u64 = stood.iter().map(|(_, seconds)| seconds).sum();
        if covered_s == 0 || covered_s.saturating_mul(2) < window_s {
            return None;
        }
        stood.sort_unstable();
        let median = median(&stood, covered_s)?;
        let (least, most) = (median / U256::from(2), median.saturating_mul(U256::from(2)));
        let weighted: U512 = stood
            .iter()
            .map(|(mantissa, seconds)| U512::from((*mantissa).clamp(least, most)) * U512::from(*seconds))
            .sum();
        let mantissa = (weighted / U512::from(covered_s)).to();
        let age_s = (ages / (2 * u128::from(covered_s))) as u64;
        Some(TimeWeighted { mantissa, covered_s, age_s })
    }

    /// Which prices stood for how many seconds; and twice the sum of how long ago each of those seconds was, from its middle.
    fn stood(
        &self,
        place: PriceId,
        current: Option<U256>,
        now: u64,
        window_s: u64,
    ) -> (Vec<(U256, u64)>, u128) {
        let start = now.saturating_sub(window_s);
        let mut ages = 0u128;
        let (mut price, mut until) = (current, now);
        let mut stood: Vec<(U256, u64)> = Vec::new();
        for block in self.blocks.iter().rev() {
            let from = block.timestamp.max(start);
            if let Some(price) = price.filter(|_| from < until) {
                let seconds = until - from;
                ages += u128::from(seconds) * u128::from((now - from) + (now - until));
                match stood.last_mut().filter(|(last, _)| *last == price) {
                    Some((_, more)) => *more += seconds,
                    None => stood.push((price, seconds)),
                }
            }
            if block.timestamp <= start {
                break;
            }
            until = block.timestamp;
            if let Ok(at) = block.changes.binary_search_by_key(&place, |change| change.place) {
                price = block.changes[at].before;
            }
        }
        (stood, ages)
    }
}

/// The lowest price that, with those below it, stood for at least half of the time.
fn median(ascending: &[(U256, u64)], covered_s: u64) -> Option<U256> {
    let mut passed = 0u64;
    let reached = ascending.iter().find(|(_, seconds)| {
        passed += seconds;
        passed.saturating_mul(2) >= covered_s
    });
    reached.map(|(mantissa, _)| *mantissa)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256};
    use proptest::prelude::*;

    use super::*;
    use crate::PriceTable;

    const WINDOW: u64 = 1_800;

    fn place() -> PriceId {
        PriceTable::default().place(Address::ZERO)
    }

    /// A window of blocks that come every so many seconds, from second 10,000 on, each setting a price; and the last price.
    fn window(prices: &[(u64, Option<u64>)]) -> (PriceWindow, Option<U256>, u64) {
        let (mut window, mut before, mut timestamp) = (PriceWindow::default(), None, 10_000);
        for (number, (seconds, price)) in (1..).zip(prices) {
            timestamp += seconds;
            let after = price.map(U256::from);
            let change = PriceChange { place: place(), before, after };
            let changes = if before == after { vec![] } else { vec![change] };
            window.push(BlockPrices { number, hash: B256::ZERO, timestamp, changes }, WINDOW);
            before = after;
        }
        (window, before, timestamp)
    }

    fn check(prices: &[(u64, Option<u64>)], expected: Option<(u64, u64)>) {
        let (window, current, now) = window(prices);
        let found = window.average(place(), current, now, WINDOW);
        let found = found.map(|average| (average.mantissa, average.covered_s));
        assert_eq!(found, expected.map(|(mantissa, covered)| (U256::from(mantissa), covered)), "{prices:?}");
    }

    #[test]
    fn a_price_counts_for_as_long_as_it_stood() {
        check(&[(0, Some(100)), (1_350, Some(180)), (450, Some(7))], Some((120, 1_800)));
        // What stood before the window does not count.
        check(&[(0, Some(5)), (9_000, Some(100)), (1_800, Some(7))], Some((100, 1_800)));
        check(&[(0, Some(100)), (9_000, Some(100))], Some((100, 1_800)));
        // Rounded down.
        check(&[(0, Some(100)), (899, Some(101)), (901, Some(101))], Some((100, 1_800)));
    }

    #[test]
    fn without_a_price_for_half_of_the_window_there_is_no_average() {
        check(&[], None);
        check(&[(0, Some(100))], None);
        check(&[(0, Some(100)), (899, Some(100))], None);
        check(&[(0, Some(100)), (900, Some(100))], Some((100, 900)));
        check(&[(0, Some(100)), (800, None), (500, Some(100)), (100, Some(100))], Some((100, 900)));
    }

    #[test]
    fn an_average_is_as_old_as_the_seconds_that_it_is_of() {
        let age = |prices: &[(u64, Option<u64>)]| {
            let (window, current, now) = window(prices);
            window.average(place(), current, now, WINDOW).map(|average| average.age_s)
        };
        assert_eq!(age(&[(0, Some(100)), (9_000, Some(100))]), Some(900));
        assert_eq!(age(&[(0, Some(100)), (1_000, Some(100))]), Some(500));
        // 800 seconds a while ago, and the last 100: (800 · 1,000 + 100 · 50) / 900.
        assert_eq!(age(&[(0, Some(100)), (800, None), (500, Some(7)), (100, Some(7))]), Some(894));
        // It is of the first 1,000 of the last 1,800 seconds.
        assert_eq!(age(&[(0, Some(100)), (1_000, None), (800, None)]), Some(1_300));
    }

    #[test]
    fn what_a_block_does_weighs_nothing_in_the_block_itself() {
        check(&[(0, Some(100)), (1_800, Some(1_000_000))], Some((100, 1_800)));
        check(&[(0, Some(100)), (1_800, None)], Some((100, 1_800)));
    }

    #[test]
    fn a_price_counts_with_at_most_twice_and_at_least_half_of_the_median() {
        check(&[(0, Some(300)), (1_788, Some(u64::MAX)), (12, Some(300))], Some((302, 1_800)));
        check(&[(0, Some(300)), (1_788, Some(1)), (12, Some(300))], Some((299, 1_800)));
    }

    proptest! {
        /// The bound that the documentation states, for any honest prices and any others.
        #[test]
        fn one_manipulated_block_moves_an_average_within_the_stated_bound(
            honest in proptest::collection::vec((1u64..120, 1_000u64..2_000), 1..120),
            at in 0usize..120,
            others in any::<u64>(),
        ) {
            let at = at % honest.len();
            let mut prices: Vec<_> = honest.iter().map(|(seconds, price)| (*seconds, Some(*price))).collect();
            prices[at].1 = Some(others.max(1));
            prices.push((12, Some(1_500)));
            let (window, current, now) = window(&prices);
            let Some(average) = window.average(place(), current, now, WINDOW) else { return Ok(()) };
            let d = prices[at + 1].0;
            prop_assume!(d < average.covered_s.div_ceil(2));
            let kept: Vec<u64> = honest.iter().map(|(_, price)| *price).chain([1_500]).collect();
            let (lo, hi) = (*kept.iter().min().expect("one"), *kept.iter().max().expect("one"));
            let c = average.covered_s;
            let (low, high) = (lo * (2 * c - d) / (2 * c), (hi * (c + d)).div_ceil(c));
            prop_assert!(average.mantissa + U256::from(1) >= U256::from(low) && average.mantissa <= U256::from(high),
                "{} is not within {low} and {high}", average.mantissa);
        }

        /// Whatever was undone, the average is that of the blocks that survive.
        #[test]
        fn undone_blocks_leave_no_trace(
            kept in proptest::collection::vec((1u64..120, proptest::option::of(1u64..9)), 1..300),
            undone in proptest::collection::vec((1u64..120, proptest::option::of(1u64..9)), 1..=HORIZON),
            then in proptest::collection::vec((1u64..120, proptest::option::of(1u64..9)), 0..80),
        ) {
            let all: Vec<_> = kept.iter().chain(&undone).copied().collect();
            let (mut rolled, ..) = window(&all);
            rolled.roll_back(kept.len() as u64);
            let survivors: Vec<_> = kept.iter().chain(&then).copied().collect();
            let (whole, current, now) = window(&survivors);
            let blocks: Vec<_> = whole.blocks().skip_while(|block| block.number <= kept.len() as u64).cloned().collect();
            blocks.into_iter().for_each(|block| rolled.push(block, WINDOW));
            prop_assert_eq!(
                rolled.average(place(), current, now, WINDOW),
                whole.average(place(), current, now, WINDOW)
            );
        }
    }

    #[test]
    fn a_window_forgets_what_is_too_old_even_for_what_can_be_undone() {
        let prices: Vec<_> = (0..1_000).map(|price| (12, Some(price + 1))).collect();
        let (window, ..) = window(&prices);
        assert_eq!(window.len(), HORIZON + 1 + 150);
        let short: Vec<_> = (0..MAX_WINDOW_BLOCKS as u64 + 10).map(|price| (0, Some(price + 1))).collect();
        assert_eq!(super::tests::window(&short).0.len(), MAX_WINDOW_BLOCKS);
    }
}
