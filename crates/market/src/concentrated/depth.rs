use alloy_primitives::{U256, U512};
use headwater_amm::ConcentratedPool;
use headwater_events::Price;

/// Initialised ticks on either side within which depth is looked for; what lies behind them counts for nothing.
const MOST_TICKS: usize = 256;

/// What a pool with concentrated liquidity says of a token's price, and with the weight of which pair.
///
/// The reserves of the pair that a pool is like at its price are no measure of what it holds: a narrow range makes them as great as
/// one likes with little capital. What counts is how much of the native token it takes to move the price by a factor of 9/4, a little
/// more than the 2 by which the oracle lets a price differ from the median: a pair that holds `B` takes `B/2` for that upwards, and
/// gives `B/3` downwards. So a pool weighs as much as the pair that takes and gives as much as it does, by the side on which that
/// is less. A full range has the depth of the pair that it is; a pool whose price has left all ranges has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairLike {
    /// Wei of the native token for one smallest unit of the other one, scaled by 10^[`Price::SCALE`], rounded down; below 2^249.
    pub mantissa: U256,
    /// What a pair of the same depth holds of the native token, rounded down.
    pub reserve: u128,
}

impl PairLike {
    /// Of a pool of which token 0 or token 1 is the native token; `None` before it has a price.
    pub fn of(pool: &ConcentratedPool, is_native_first: bool) -> Option<Self> {
        let sqrt_price = pool.price()?.sqrt_price;
        let (square, one) = (U512::from(sqrt_price) * U512::from(sqrt_price), U512::from(Price::ONE));
        // Prices have at most 320 bits and at least 65, ONE 120: below 2^440, and at most 2^248 when divided.
        let mantissa: U512 =
            if is_native_first { (one << 192usize).checked_div(square)? } else { (square * one) >> 192usize };
        // The square root of 9/4.
        let (higher, lower) =
            (sqrt_price * U256::from(3) / U256::from(2), sqrt_price * U256::from(2) / U256::from(3));
        let (dearer, cheaper) = if is_native_first { (lower, higher) } else { (higher, lower) };
        let taken = pool.amount_up_to(is_native_first, dearer, MOST_TICKS).saturating_mul(U256::from(2));
        let given = pool.amount_up_to(is_native_first, cheaper, MOST_TICKS).saturating_mul(U256::from(3));
        Some(Self { mantissa: mantissa.to(), reserve: taken.min(given).saturating_to() })
    }
}

#[cfg(test)]
mod tests {
    use headwater_amm::{PoolEvent, PoolPrice, SwapFee, Version, sqrt_price_at_tick};

    use super::*;

    const WIDE: i32 = 887_220;

    fn pool(tick: i32, ranges: &[(i32, i32, i128)]) -> ConcentratedPool {
        let mut pool = ConcentratedPool::new(Version::V3, SwapFee::of_lp(3_000), 60).expect("a pool");
        let sqrt_price = sqrt_price_at_tick(tick).expect("a tick that there is");
        pool.apply(&PoolEvent::Initialized(PoolPrice { sqrt_price, tick })).expect("the first event");
        for (lower, upper, delta) in ranges {
            let event = PoolEvent::LiquidityChanged { lower: *lower, upper: *upper, delta: *delta };
            pool.apply(&event).expect("a range");
        }
        pool
    }

    fn is_near(found: u128, expected: u128) -> bool {
        found.abs_diff(expected) <= expected / 1_000_000 + 3
    }

    #[test]
    fn a_full_range_is_the_pair_that_it_is() {
        const L: i128 = 1_000_000_000_000_000_000;
        for (tick, times) in [(0, 1.0), (23_027, 3.162_26), (-23_028, 0.316_21)] {
            let pool = pool(tick, &[(-WIDE, WIDE, L)]);
            let [first, second] =
                [true, false].map(|is_first| PairLike::of(&pool, is_first).expect("a price"));
            // It holds L/√P of token 0 and L·√P of token 1.
            let (held0, held1) = (L as f64 / times, L as f64 * times);
            for (pair, held, other) in [(first, held0, held1), (second, held1, held0)] {
                assert!((pair.reserve as f64 / held - 1.0).abs() < 1e-4, "{pair:?} holds {held} at {tick}");
                let price = f64::from(pair.mantissa) / 1e36;
                assert!((price / (held / other) - 1.0).abs() < 1e-3, "{pair:?} at {tick}");
            }
        }
    }

    #[test]
    fn a_narrow_range_weighs_what_it_holds_and_not_what_it_is_like() {
        const L: i128 = 1_000_000_000_000_000_000_000;
        let narrow = PairLike::of(&pool(0, &[(-60, 60, L)]), false).expect("a price");
        // Within 0.6 % it holds a 334th of the liquidity on either side: twice that, of a thousand.
        assert!(is_near(narrow.reserve, 2 * 3_004_354_062_741_925_653), "{}", narrow.reserve);
        let out_of_range = PairLike::of(&pool(120, &[(-60, 60, L)]), false).expect("a price");
        assert_eq!(out_of_range.reserve, 0);
        // All of it on one side.
        let beside = PairLike::of(&pool(0, &[(60, 6_000, L)]), false).expect("a price");
        assert_eq!(beside.reserve, 0);
    }

    #[test]
    fn what_lies_behind_an_end_of_a_range_counts_with_its_own_liquidity() {
        let (narrow, wide) = (5_000_000_000_000_000_000, 1_000_000_000_000_000_000);
        let alone = PairLike::of(&pool(0, &[(-60, 60, narrow)]), true).expect("a price");
        let full = PairLike::of(&pool(0, &[(-WIDE, WIDE, wide)]), true).expect("a price");
        let both = PairLike::of(&pool(0, &[(-60, 60, narrow), (-WIDE, WIDE, wide)]), true).expect("a price");
        assert!(is_near(both.reserve, alone.reserve + full.reserve), "{alone:?} {full:?} {both:?}");
        assert_eq!(both.mantissa, Price::ONE);
    }

    #[test]
    fn the_ends_of_all_prices_are_no_trap() {
        for tick in [-887_272, -887_271, 887_270, 887_271] {
            for is_first in [true, false] {
                let pool = pool(tick, &[(-WIDE, WIDE, 1 << 100)]);
                assert!(PairLike::of(&pool, is_first).is_some());
            }
        }
        let empty = ConcentratedPool::new(Version::V4, SwapFee::of_lp(3_000), 60).expect("a pool");
        assert_eq!(PairLike::of(&empty, true), None);
    }
}
