//! Exhaustive search over pools of any kind: every simple cycle through a base token whose rates gain, sized by trying.

use alloy_primitives::{Address, B256, Uint};

use crate::fine_search::{Effort, Found, fine_search};
use crate::formulas::{Formula, Way};

/// What tells a pool from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolName {
    /// The contract.
    pub address: Address,
    /// Which of the pools of that contract, which is a manager of Uniswap V4.
    pub id: Option<B256>,
}

/// A pool of any kind.
#[derive(Clone, Debug)]
pub struct MixedPool {
    /// What it is called.
    pub name: PoolName,
    /// The token with the lower address.
    pub token0: Address,
    /// The token with the higher address.
    pub token1: Address,
    /// What it gives.
    pub formula: Formula,
}

/// A cycle whose rates gain, with the best that a search made of whole units.
#[derive(Clone, Debug)]
pub struct MixedCycle {
    /// The pools in the order of the swaps.
    pub path: Vec<PoolName>,
    /// The tokens: one more than pools, the first and the last the same base token.
    pub tokens: Vec<Address>,
    /// What the search found; no gain where whole units take it all.
    pub found: Found,
    /// What whole units may cost: one of each token on the way, at its rate in the first, and two of the first.
    pub grain: u128,
}

/// Wide enough for four squares of a price with fees.
type Wide = Uint<1536, 24>;

/// Whole amounts that are gone through.
const EFFORT: Effort = Effort { coarsest: 16, others: 2 };

/// Calls with every cycle of up to `max_hops` pools: the pools, and the token that goes into each.
///
/// A cycle starts at the first of `bases` that it contains. The tokens of a cycle are distinct, and so are its pools.
pub fn each_mixed_cycle<'a>(
    pools: &'a [MixedPool],
    bases: &[Address],
    max_hops: usize,
    visit: &mut dyn FnMut(&[&'a MixedPool], &[Address]),
) {
    for (rank, base) in bases.iter().enumerate() {
        let mut walk = Walk {
            pools,
            max_hops,
            excluded: &bases[..rank],
            path: Vec::new(),
            tokens: vec![*base],
            visit: &mut *visit,
        };
        walk.go_on();
    }
}

/// The cycle, if an infinitely small input gains: otherwise none does, because every pool gets worse with the amount, and rounds
/// for itself. The comparison is exact.
pub fn size_gaining(path: &[&MixedPool], tokens: &[Address]) -> Option<MixedCycle> {
    let ways: Vec<Way<'_>> = path.iter().zip(tokens).map(|(pool, from)| pool.way(from)).collect();
    let (gets, gives) = rate(&ways);
    if gets <= gives {
        return None;
    }
    Some(MixedCycle {
        path: path.iter().map(|pool| pool.name).collect(),
        tokens: tokens.iter().chain(tokens.first()).copied().collect(),
        found: fine_search(&ways, None, EFFORT),
        grain: unit_of_each(&ways),
    })
}

/// Output per input of an infinitely small swap, as a fraction.
fn rate(ways: &[Way<'_>]) -> (Wide, Wide) {
    ways.iter().fold((Wide::ONE, Wide::ONE), |(gets, gives), way| {
        let [out, into] = way.rate();
        (gets * Wide::from(out), gives * Wide::from(into))
    })
}

/// What a unit of each token between is worth in the first token's units, by the rates of infinitely small swaps; and two units.
pub fn unit_of_each(ways: &[Way<'_>]) -> u128 {
    let units = (1..ways.len()).map(|at| {
        let (gets, gives) = rate(&ways[at..]);
        u128::try_from(gets.div_ceil(gives)).unwrap_or(u128::MAX)
    });
    units.fold(2, u128::saturating_add)
}

impl MixedPool {
    /// In with this token.
    pub fn way(&self, token_in: &Address) -> Way<'_> {
        Way { formula: &self.formula, zero_for_one: *token_in == self.token0 }
    }

    fn other(&self, token: Address) -> Option<Address> {
        match token {
            token if token == self.token0 => Some(self.token1),
            token if token == self.token1 => Some(self.token0),
            _ => None,
        }
    }
}

struct Walk<'a, 'b> {
    pools: &'a [MixedPool],
    max_hops: usize,
    /// Base tokens that come before the one it started at.
    excluded: &'b [Address],
    path: Vec<&'a MixedPool>,
    tokens: Vec<Address>,
    visit: &'b mut dyn FnMut(&[&'a MixedPool], &[Address]),
}

impl Walk<'_, '_> {
    fn go_on(&mut self) {
        let (Some(&at), Some(&start)) = (self.tokens.last(), self.tokens.first()) else { return };
        for pool in self.pools {
            let Some(next) = pool.other(at) else { continue };
            if self.path.iter().any(|used| used.name == pool.name) || self.excluded.contains(&next) {
                continue;
            }
            self.path.push(pool);
            if next == start {
                if self.path.len() > 1 {
                    (self.visit)(&self.path, &self.tokens);
                }
            } else if self.path.len() < self.max_hops && !self.tokens.contains(&next) {
                self.tokens.push(next);
                self.go_on();
                self.tokens.pop();
            }
            self.path.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(n: u8) -> Address {
        Address::repeat_byte(n)
    }

    fn pool(n: u8, token0: u8, token1: u8, reserves: [u128; 2]) -> MixedPool {
        let name = PoolName { address: Address::repeat_byte(100 + n), id: None };
        let (token0, token1) = (token(token0), token(token1));
        MixedPool { name, token0, token1, formula: Formula::Pair(reserves) }
    }

    fn count(pools: &[MixedPool], bases: &[u8], max_hops: usize) -> usize {
        let bases: Vec<_> = bases.iter().copied().map(token).collect();
        let mut count = 0;
        each_mixed_cycle(pools, &bases, max_hops, &mut |_, _| count += 1);
        count
    }

    #[test]
    fn every_cycle_is_visited_once() {
        // All pairs of four tokens: four triangles and three squares, each in two directions.
        let pairs = [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)];
        let mut pools: Vec<_> = (0..).zip(pairs).map(|(n, (a, b))| pool(n, a, b, [9, 9])).collect();
        assert_eq!([2, 3, 4].map(|hops| count(&pools, &[1, 2, 3, 4], hops)), [0, 8, 14]);
        assert_eq!(count(&pools, &[4], 4), 12);
        pools.push(pool(9, 1, 2, [9, 9]));
        // A second pool of two tokens: two cycles of two pools, and all through the pair a second time.
        assert_eq!([2, 3, 4].map(|hops| count(&pools, &[1, 2, 3, 4], hops)), [2, 14, 24]);
    }

    #[test]
    fn pools_of_one_address_are_told_apart_by_their_ids() {
        let numbered = |n: u8| {
            let name = PoolName { address: Address::repeat_byte(9), id: Some(B256::repeat_byte(n)) };
            MixedPool { name, ..pool(9, 1, 2, [9, 9]) }
        };
        assert_eq!(count(&[numbered(1), numbered(2), numbered(3)], &[1], 2), 6);
        assert_eq!(count(&[numbered(1), numbered(1)], &[1], 2), 0);
    }

    #[test]
    fn only_what_gains_in_the_small_is_sized() {
        let (even, better) = (pool(1, 1, 2, [1 << 40, 1 << 40]), pool(2, 1, 2, [1 << 40, 11 << 37]));
        let tokens = [token(1), token(2)];
        let cycle = size_gaining(&[&better, &even], &tokens).expect("it gains");
        assert!(cycle.found.gain > 1 << 25, "{cycle:?}");
        // A unit of the token between is worth a little less than one of the first, rounded up.
        assert_eq!(cycle.grain, 3);
        assert!(size_gaining(&[&even, &better], &tokens).is_none());
        let within_fees = pool(3, 1, 2, [1_000_000, 1_006_000]);
        assert!(size_gaining(&[&within_fees, &even], &tokens).is_none());
    }
}
