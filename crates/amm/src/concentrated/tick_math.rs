//! `TickMath.sol` of v3-core: a tick is a price of `1.0001^tick`, whose square root is kept with 96 bits after the point.

use alloy_primitives::{U256, uint};

use super::full_width::div;

/// The lowest tick.
pub const MIN_TICK: i32 = -887_272;
/// The highest tick.
pub const MAX_TICK: i32 = 887_272;
/// The square root of the price at [`MIN_TICK`]; a pool can have it from its initialisation only.
pub const MIN_SQRT_PRICE: U256 = uint!(4295128739_U256);
/// The square root of the price at [`MAX_TICK`]; no pool ever has it.
pub const MAX_SQRT_PRICE: U256 = uint!(1461446703485210103287273052203988822378723970342_U256);

/// `2^128 · sqrt(1.0001)^-(2^i)` at index `i`, as the contract has them.
const POWERS: [u128; 20] = [
    0xfffcb933bd6fad37aa2d162d1a594001,
    0xfff97272373d413259a46990580e213a,
    0xfff2e50f5f656932ef12357cf3c7fdcc,
    0xffe5caca7e10e4e61c3624eaa0941cd0,
    0xffcb9843d60f6159c9db58835c926644,
    0xff973b41fa98c081472e6896dfb254c0,
    0xff2ea16466c96a3843ec78b326b52861,
    0xfe5dee046a99a2a811c461f1969c3053,
    0xfcbe86c7900a88aedcffc83b479aa3a4,
    0xf987a7253ac413176f2b074cf7815e54,
    0xf3392b0822b70005940c7a398e4b70f3,
    0xe7159475a2c29b7443b29c7fa6e889d9,
    0xd097f3bdfd2022b8845ad8f792aa5825,
    0xa9f746462d870fdf8a65dc1f90e061e5,
    0x70d869a156d2a1b890bb3df62baf32f7,
    0x31be135f97d08fd981231505542fcfa6,
    0x9aa508b5b7a84e1c677de54f3e99bc9,
    0x5d6af8dedb81196699c329225ee604,
    0x2216e584f5fa1ea926041bedfe98,
    0x48a170391f7dc42444e8fa2,
];

/// Ticks per doubling of the square root: `2 / log2(1.0001)`.
const TICKS_PER_DOUBLING: f64 = 13_863.636_746_827_591;

/// How near to a whole number the floating-point tick may be before it is checked in integers. The logarithm is within 10^-8
/// ticks; the contract's rounding of a square root to whole units is up to 5 · 10^-6 ticks, at the lowest price.
const DOUBT: f64 = 1e-4;

/// The square root of the price at a tick, rounded as the contract rounds it: `getSqrtRatioAtTick`. `None` beyond the
/// ticks that there are.
pub fn sqrt_price_at_tick(tick: i32) -> Option<U256> {
    (MIN_TICK..=MAX_TICK).contains(&tick).then(|| sqrt_price(tick))
}

/// The greatest tick whose price is not above this one: `getTickAtSqrtRatio`. `None` for a square root below
/// [`MIN_SQRT_PRICE`], or from [`MAX_SQRT_PRICE`] on.
pub fn tick_at_sqrt_price(sqrt_price: U256) -> Option<i32> {
    (MIN_SQRT_PRICE..MAX_SQRT_PRICE).contains(&sqrt_price).then(|| tick(sqrt_price))
}

/// As [`sqrt_price_at_tick`], of a tick that there is.
pub(super) fn sqrt_price(tick: i32) -> U256 {
    debug_assert!((MIN_TICK..=MAX_TICK).contains(&tick));
    let mut bits = tick.unsigned_abs();
    if bits == 0 {
        return U256::ONE << 96;
    }
    let mut ratio = POWERS[bits.trailing_zeros() as usize];
    bits &= bits - 1;
    while bits != 0 {
        ratio = high_half(ratio, POWERS[bits.trailing_zeros() as usize]);
        bits &= bits - 1;
    }
    if tick < 0 {
        return U256::from((ratio >> 32) + u128::from(ratio as u32 != 0));
    }
    let inverse = div(U256::MAX, U256::from(ratio));
    (inverse >> 32) + U256::from(inverse.as_limbs()[0] as u32 != 0)
}

/// As [`tick_at_sqrt_price`], of a price that a pool can have.
pub(super) fn tick(sqrt_price: U256) -> i32 {
    let estimate = log2(sqrt_price) * TICKS_PER_DOUBLING;
    let nearest = estimate.round();
    if (estimate - nearest).abs() > DOUBT {
        return estimate.floor() as i32;
    }
    let nearest = (nearest as i32).clamp(MIN_TICK, MAX_TICK);
    if self::sqrt_price(nearest) <= sqrt_price { nearest } else { nearest - 1 }
}

/// Of the square root itself, its 96 bits after the point taken off. Within 10^-12.
fn log2(sqrt_price: U256) -> f64 {
    let exponent = sqrt_price.bit_len() as i32 - 1;
    let shift = exponent - 63;
    let top = if shift > 0 { sqrt_price >> shift as usize } else { sqrt_price << (-shift) as usize };
    // From 1 to 2.
    let mantissa = top.as_limbs()[0] as f64 / (1u64 << 63) as f64;
    mantissa.log2() + f64::from(exponent - 96)
}

/// `a · b / 2^128`
fn high_half(a: u128, b: u128) -> u128 {
    let (a1, a0) = (a >> 64, a as u64 as u128);
    let (b1, b0) = (b >> 64, b as u64 as u128);
    let low = (a0 * b0) >> 64;
    let middle = a1 * b0;
    let other = a0 * b1;
    let carried = low + (middle as u64 as u128) + (other as u64 as u128);
    a1 * b1 + (middle >> 64) + (other >> 64) + (carried >> 64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prices_at_ticks_are_the_contracts() {
        // The vectors of v3-core's `TickMath.spec.ts`.
        let check = |tick, expected: &str| {
            let expected = expected.parse::<U256>().expect("a number");
            assert_eq!(sqrt_price_at_tick(tick), Some(expected), "{tick}");
        };
        check(MIN_TICK, "4295128739");
        check(MIN_TICK + 1, "4295343490");
        check(MAX_TICK - 1, "1461373636630004318706518188784493106690254656249");
        check(MAX_TICK, "1461446703485210103287273052203988822378723970342");
        check(0, "79228162514264337593543950336");
        check(50, "79426470787362580746886972461");
        check(-50, "79030349367926598376800521322");
        assert_eq!(sqrt_price_at_tick(MIN_TICK - 1), None);
        assert_eq!(sqrt_price_at_tick(MAX_TICK + 1), None);
        assert_eq!(sqrt_price_at_tick(i32::MIN), None);
    }

    #[test]
    fn a_price_outside_of_all_ticks_has_none() {
        assert_eq!(tick_at_sqrt_price(MIN_SQRT_PRICE - U256::ONE), None);
        assert_eq!(tick_at_sqrt_price(MIN_SQRT_PRICE), Some(MIN_TICK));
        assert_eq!(tick_at_sqrt_price(MAX_SQRT_PRICE - U256::ONE), Some(MAX_TICK - 1));
        assert_eq!(tick_at_sqrt_price(MAX_SQRT_PRICE), None);
    }

    #[test]
    fn every_fifth_tick_is_found_at_its_price_and_not_one_unit_below() {
        for tick in (MIN_TICK + 1..MAX_TICK).step_by(5) {
            let price = sqrt_price(tick);
            assert!(price > sqrt_price(tick - 1));
            assert_eq!(tick_at_sqrt_price(price), Some(tick));
            assert_eq!(tick_at_sqrt_price(price - U256::ONE), Some(tick - 1));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn a_price_lies_between_its_tick_and_the_next(limbs in any::<[u64; 4]>(), shift in 96usize..224) {
            let price = U256::from_limbs(limbs) >> shift;
            prop_assume!((MIN_SQRT_PRICE..MAX_SQRT_PRICE).contains(&price));
            let found = tick(price);
            prop_assert!(sqrt_price(found) <= price && price < sqrt_price(found + 1));
        }
    }
}
