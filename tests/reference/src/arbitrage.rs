//! Exhaustive search for arbitrage: every simple cycle of two or three constant-product pools through a base token,
//! each sized by a search over integers. No closed form, no filter but break-even, no memory between blocks.

use alloy_primitives::{Address, I256, U256, Uint};

mod markets;
mod mixed;
mod sizing;

pub use markets::Market;
pub use mixed::{MixedCycle, MixedPool, PoolName, each_mixed_cycle, size_gaining, unit_of_each};
pub use sizing::{Best, best_input};

/// A constant-product pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its address.
    pub address: Address,
    /// The token of `reserve0`.
    pub token0: Address,
    /// The token of `reserve1`.
    pub token1: Address,
    /// Smallest units of token 0.
    pub reserve0: u128,
    /// Smallest units of token 1.
    pub reserve1: u128,
    /// Fee in parts per million of the input.
    pub fee_ppm: u32,
}

/// One direction through a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Swap {
    /// Smallest units of the token that goes in.
    pub reserve_in: u128,
    /// Smallest units of the token that comes out.
    pub reserve_out: u128,
    /// Fee in parts per million of the input.
    pub fee_ppm: u32,
}

/// Millionths in a whole.
const WHOLE: u32 = 1_000_000;
/// The greatest balance that a pair can hold.
const MAX_BALANCE: u128 = (1 << 112) - 1;

impl Swap {
    /// What comes out for `amount_in`, as the pair's check of its product allows; `None` where its balance would not
    /// fit `uint112`.
    pub fn output(&self, amount_in: u128) -> Option<u128> {
        if amount_in > MAX_BALANCE - self.reserve_in {
            return None;
        }
        let kept = U256::from(amount_in) * U256::from(WHOLE - self.fee_ppm);
        let output =
            kept * U256::from(self.reserve_out) / (U256::from(self.reserve_in) * U256::from(WHOLE) + kept);
        Some(output.to())
    }
}

/// A cycle that gains.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cycle {
    /// The pools in the order of the swaps.
    pub path: Vec<Address>,
    /// The tokens: one more than pools, the first and the last the same base token.
    pub tokens: Vec<Address>,
    /// Smallest units of the base token.
    pub amount_in: u128,
    /// Smallest units out of each pool.
    pub amounts: Vec<u128>,
    /// Smallest units of the base token.
    pub profit: u128,
    /// No input gains more than this.
    pub ceiling: u128,
}

/// Every cycle of two, and of three where `max_hops` says so, that gains, sorted by path. One that
/// cannot gain more than a single unit may be missing.
///
/// A cycle starts at the first of `bases` that it contains. The tokens of a cycle are distinct, and so are its pools.
pub fn search(pools: &[Pool], bases: &[Address], max_hops: usize) -> Vec<Cycle> {
    search_sized_by(pools, bases, max_hops, &mut best_input)
}

/// [`search`] with the sizing in the caller's hands: for one who remembers the cycles of blocks before.
pub fn search_sized_by(
    pools: &[Pool],
    bases: &[Address],
    max_hops: usize,
    size: &mut dyn FnMut(&[Swap]) -> Option<Best>,
) -> Vec<Cycle> {
    let mut found = Vec::new();
    for_each_cycle(pools, bases, max_hops, &mut |path| {
        let swaps: Vec<Swap> = path.iter().map(|step| step.swap()).collect();
        if let Some(best) = size(&swaps) {
            found.push(cycle(path, best));
        }
    });
    found.sort();
    found
}

/// How many cycles there are, whether they gain or not.
pub fn count_cycles(pools: &[Pool], bases: &[Address], max_hops: usize) -> usize {
    let mut count = 0;
    for_each_cycle(pools, bases, max_hops, &mut |_| count += 1);
    count
}

/// What is left of a profit after gas, in wei. `price` is wei per unit of the base token, times 10^36; without one there
/// is nothing to say. Without a base fee (before EIP-1559) gas counts nothing.
pub fn net_profit(profit: u128, price: Option<U256>, gas: u64, next_base_fee: Option<u64>) -> Option<I256> {
    type Wide = Uint<512, 8>;
    let gross = Wide::from(profit) * Wide::from(price?) / Wide::from(10u8).pow(Wide::from(36u8));
    let cost = U256::from(gas) * U256::from(next_base_fee.unwrap_or(0));
    let gross = (gross.bit_len() < 256).then(|| gross.to::<U256>())?;
    I256::try_from(gross).ok()?.checked_sub(I256::try_from(cost).ok()?)
}

/// One step of a path: a pool, and whether token 0 goes in.
#[derive(Clone, Copy)]
struct Step<'a> {
    pool: &'a Pool,
    zero_in: bool,
}

impl Step<'_> {
    fn swap(&self) -> Swap {
        let Pool { reserve0, reserve1, fee_ppm, .. } = *self.pool;
        let (reserve_in, reserve_out) =
            if self.zero_in { (reserve0, reserve1) } else { (reserve1, reserve0) };
        Swap { reserve_in, reserve_out, fee_ppm }
    }

    fn token_in(&self) -> Address {
        if self.zero_in { self.pool.token0 } else { self.pool.token1 }
    }

    fn token_out(&self) -> Address {
        if self.zero_in { self.pool.token1 } else { self.pool.token0 }
    }
}

fn for_each_cycle<'a>(
    pools: &'a [Pool],
    bases: &[Address],
    max_hops: usize,
    visit: &mut dyn FnMut(&[Step<'a>]),
) {
    for (rank, base) in bases.iter().enumerate() {
        if !bases[..rank].contains(base) {
            extend(pools, *base, &bases[..rank], max_hops, &mut Vec::new(), visit);
        }
    }
}

/// All ways on from the end of `path` that come back to `base` and avoid the bases before it.
fn extend<'a>(
    pools: &'a [Pool],
    base: Address,
    earlier: &[Address],
    max_hops: usize,
    path: &mut Vec<Step<'a>>,
    visit: &mut dyn FnMut(&[Step<'a>]),
) {
    let here = path.last().map_or(base, Step::token_out);
    for pool in pools.iter().filter(|pool| pool.reserve0 > 0 && pool.reserve1 > 0) {
        for zero_in in [true, false] {
            let step = Step { pool, zero_in };
            let used = path.iter().any(|before| before.pool.address == pool.address);
            if step.token_in() != here || used {
                continue;
            }
            let next = step.token_out();
            path.push(step);
            if next == base {
                if path.len() >= 2 {
                    visit(path);
                }
            } else if path.len() < max_hops
                && !earlier.contains(&next)
                && !path.iter().any(|step| step.token_in() == next)
            {
                extend(pools, base, earlier, max_hops, path, visit);
            }
            path.pop();
        }
    }
}

fn cycle(path: &[Step<'_>], best: Best) -> Cycle {
    let mut tokens: Vec<_> = path.iter().map(Step::token_in).collect();
    tokens.extend(path.last().map(Step::token_out));
    let mut amount = Some(best.amount_in);
    let mut output = |step: &Step<'_>| {
        amount = step.swap().output(amount?);
        amount
    };
    Cycle {
        amounts: path.iter().filter_map(&mut output).collect(),
        path: path.iter().map(|step| step.pool.address).collect(),
        tokens,
        amount_in: best.amount_in,
        profit: best.profit,
        ceiling: best.ceiling,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(n: u8) -> Address {
        Address::repeat_byte(n)
    }

    fn pool(n: u8, token0: u8, token1: u8, reserve0: u128, reserve1: u128) -> Pool {
        Pool {
            address: Address::repeat_byte(100 + n),
            token0: token(token0),
            token1: token(token1),
            reserve0,
            reserve1,
            fee_ppm: 3000,
        }
    }

    #[test]
    fn cycles_are_counted_once_from_their_first_base() {
        // A triangle with one doubled side: one pair of pools (two directions), and two triangles (two directions each).
        let pools = [pool(1, 1, 2, 9, 9), pool(2, 1, 2, 9, 9), pool(3, 2, 3, 9, 9), pool(4, 1, 3, 9, 9)];
        let check = |bases: &[u8], max_hops, expected| {
            let bases: Vec<_> = bases.iter().copied().map(token).collect();
            assert_eq!(count_cycles(&pools, &bases, max_hops), expected, "{bases:?}, {max_hops}");
        };
        check(&[1], 2, 2);
        check(&[1], 3, 6);
        check(&[1, 2, 3], 3, 6);
        check(&[3], 3, 4);
        check(&[3, 1], 3, 6);
        check(&[1, 1], 3, 6);
        check(&[9], 3, 0);
        check(&[], 3, 0);
    }

    #[test]
    fn a_price_difference_between_two_pools_is_found_in_one_direction() {
        let pools = [pool(1, 1, 2, 1_000_000, 1_000_000), pool(2, 1, 2, 1_000_000, 1_100_000)];
        let found = search(&pools, &[token(1)], 3);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, [pools[1].address, pools[0].address]);
        assert_eq!(found[0].tokens, [token(1), token(2), token(1)]);
        let exhaustive = (1..200_000u128).max_by_key(|input| {
            let middle = Step { pool: &pools[1], zero_in: true }.swap().output(*input).expect("it fits");
            let out = Step { pool: &pools[0], zero_in: false }.swap().output(middle).expect("it fits");
            (out as i128 - *input as i128, -(*input as i128))
        });
        let gain = |cycle: &Cycle| cycle.amounts[1] - cycle.amount_in;
        assert_eq!(gain(&found[0]), found[0].profit);
        assert!(exhaustive.is_some_and(|input| input.abs_diff(found[0].amount_in) < 2_000));
        assert!(found[0].ceiling - found[0].profit <= 1);
    }

    #[test]
    fn pools_within_their_fees_of_each_other_yield_nothing() {
        let pools = [pool(1, 1, 2, 1_000_000, 1_000_000), pool(2, 1, 2, 1_000_000, 1_005_000)];
        assert_eq!(search(&pools, &[token(1), token(2)], 3), []);
        let empty = [pool(1, 1, 2, 0, 1_000_000), pool(2, 1, 2, 1_000_000, 0)];
        assert_eq!(search(&empty, &[token(1)], 3), []);
    }

    #[test]
    fn the_net_profit_is_what_gas_leaves() {
        let unit = U256::from(10u8).pow(U256::from(36u8));
        let check = |profit, price, gas, fee, expected: Option<i64>| {
            let expected = expected.map(|value| I256::try_from(value).expect("it fits"));
            assert_eq!(net_profit(profit, price, gas, fee), expected);
        };
        check(1_000, Some(unit), 100, Some(3), Some(700));
        check(100, Some(unit), 100, Some(3), Some(-200));
        check(1_000, Some(unit), 100, None, Some(1_000));
        check(1_000, Some(unit / U256::from(3)), 0, Some(1), Some(333));
        check(1_000, None, 100, Some(3), None);
    }
}
