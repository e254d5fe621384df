//! The best input of a cycle by trying: of the cycle it is only known that more in is never less out, and that amounts are whole.
//!
//! Where a unit of some token on the way is worth much, what comes out is a staircase, and the best input is the foot of one of
//! many thousand steps that differ by fractions of that unit. No grid over inputs hits such feet. But every best input is the
//! least one for what it makes of any token on the way; so going through the whole amounts of one token, and from each
//! back to its least input, misses nothing. Of the token with the fewest units that is the shortest way.

use crate::formulas::Way;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Smallest units; negative where every input that was tried loses.
    pub gain: i128,
    /// Smallest units.
    pub amount_in: u128,
    /// How many inputs were tried.
    pub tried: u64,
}

/// How far a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Whole amounts of the coarsest token, on each side of the best so far.
    pub coarsest: u128,
    /// Of every other token.
    pub others: u128,
}

/// The greatest gain that a search finds.
///
/// It tries every power of two, then ever finer grids about the best; then the whole amounts of each token about the best so
/// far and about the `suspect`, an input that somebody holds for the best, for as long as that gains.
pub fn fine_search(ways: &[Way<'_>], suspect: Option<u128>, effort: Effort) -> Found {
    let mut search = Search { ways, best: (i128::MIN, 0), tried: 0 };
    for bits in 0..112 {
        search.try_input(1 << bits);
    }
    let mut width = search.best.1 / 2;
    while width > search.best.1 >> 30 {
        search.grid(width, 4);
        width /= 4;
    }
    search.go_through(effort);
    if let Some(suspect) = suspect {
        search.about(suspect, effort);
        search.go_through(effort);
    }
    let (gain, amount_in) = search.best;
    Found { gain, amount_in, tried: search.tried }
}

struct Search<'a> {
    ways: &'a [Way<'a>],
    /// Gain and input.
    best: (i128, u128),
    tried: u64,
}

impl Search<'_> {
    fn try_input(&mut self, amount_in: u128) {
        self.try_at(0, amount_in);
    }

    /// So much of the token before a pool, from the least input, and to the end.
    fn try_at(&mut self, place: usize, amount: u128) {
        self.tried += 1;
        let (before, after) = self.ways.split_at(place);
        let amount_in = before.iter().rev().try_fold(amount, |amount, way| way.least_input(amount));
        let out = after.iter().try_fold(amount, |amount, way| way.output(amount));
        let (Some(amount_in), Some(out)) = (amount_in.filter(|amount| *amount > 0), out) else { return };
        let gain = out as i128 - amount_in as i128;
        if gain > self.best.0 {
            self.best = (gain, amount_in);
        }
    }

    /// So many inputs on each side, up to `width` away.
    fn grid(&mut self, width: u128, steps: u128) {
        let middle = self.best.1;
        for step in 1..=steps {
            let away = width / steps * step;
            self.try_input(middle.saturating_sub(away));
            self.try_input(middle.saturating_add(away));
        }
    }

    /// For as long as the best moves.
    fn go_through(&mut self, effort: Effort) {
        for _ in 0..4 {
            let before = self.best;
            self.about(before.1, effort);
            if self.best == before {
                break;
            }
        }
    }

    /// The whole amounts of every token about an input.
    fn about(&mut self, amount_in: u128, effort: Effort) {
        let mut amounts = vec![amount_in];
        for way in self.ways {
            let Some(out) = amounts.last().and_then(|amount| way.output(*amount)) else { return };
            amounts.push(out);
        }
        // The last token is the first one: of either of its amounts the lesser is not coarser.
        let coarsest = (0..self.ways.len()).min_by_key(|place| amounts[*place]).unwrap_or(0);
        for (place, amount) in amounts.into_iter().enumerate() {
            let reach = if place == coarsest { effort.coarsest } else { effort.others };
            for amount in amount.saturating_sub(reach).max(1)..=amount.saturating_add(reach) {
                self.try_at(place, amount);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formulas::Formula;

    const EFFORT: Effort = Effort { coarsest: 400, others: 8 };

    /// The truth, of pairs so small that every input can be tried.
    fn check(pairs: &[[u128; 2]], inputs: u128, expected_least: i128) {
        let formulas: Vec<Formula> = pairs.iter().copied().map(Formula::Pair).collect();
        let ways: Vec<Way<'_>> = formulas.iter().map(|formula| Way { formula, zero_for_one: true }).collect();
        let gain = |amount: u128| {
            let out = ways.iter().try_fold(amount, |amount, way| way.output(amount));
            out.map(|out| out as i128 - amount as i128)
        };
        let truth = (1..inputs).filter_map(gain).max().expect("an input");
        let found = fine_search(&ways, None, EFFORT);
        assert_eq!((found.gain, gain(found.amount_in)), (truth, Some(truth)), "{pairs:?}");
        assert!(truth >= expected_least, "{truth} of {pairs:?}");
    }

    #[test]
    fn every_foot_of_the_stairs_is_tried() {
        check(&[[3_000_000, 3_100_000], [3_000_000, 3_000_000]], 300_000, 100);
        // One coarse token, then two, then a loss.
        check(&[[3_000_000, 4_000], [3_900, 3_000_000]], 300_000, 100);
        check(&[[3_000_000, 4_000], [40_000, 41_000], [3_900, 3_000_000]], 300_000, 100);
        check(&[[3_000_000, 4_000], [4_000, 3_000_000]], 300_000, i128::MIN);
    }

    #[test]
    fn a_better_neighbour_of_a_suspect_is_found() {
        let coarse = [Formula::Pair([3 << 70, 4 << 40]), Formula::Pair([31 << 37, 3 << 70])];
        let ways: Vec<Way<'_>> = coarse.iter().map(|formula| Way { formula, zero_for_one: true }).collect();
        let none = Effort { coarsest: 0, others: 0 };
        let (without, with) = (fine_search(&ways, None, none), fine_search(&ways, None, EFFORT));
        assert!(with.gain > without.gain, "{with:?} {without:?}");
        let told = fine_search(&ways, Some(with.amount_in + 1), none);
        assert!(told.gain >= with.gain, "{told:?}");
    }
}
