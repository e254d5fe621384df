//! `UniswapV3Pool.swap` of v3-core and `Pool.swap` of v4-core, with `SwapMath`, `SqrtPriceMath`, `TickMath` and the stops of
//! `TickBitmap`.

use std::collections::BTreeMap;

use alloy_primitives::{U256, U512, uint};

use super::{mul_div, mul_div_up};
use crate::pools::{Change, State};

const MIN_TICK: i32 = -887_272;
const MAX_TICK: i32 = 887_272;

/// A router's limits: one beyond the least price, one short of the greatest.
pub(crate) const LOWEST: U256 = uint!(4295128740_U256);
pub(crate) const HIGHEST: U256 = uint!(1461446703485210103287273052203988822378723970341_U256);

const WHOLE_FEE: u32 = 1_000_000;

/// The magic numbers of `getSqrtRatioAtTick`, for the bits of a tick from the lowest.
const RATIOS: [u128; 20] = [
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

/// A pool of concentrated liquidity as it stands, with every place where its loop may stop.
#[derive(Clone, Debug)]
pub struct Ranged {
    sqrt_price: U256,
    liquidity: u128,
    /// Of token 0 in, and of token 1 in.
    fee_pips: [u32; 2],
    /// Downwards from the price, the first one first.
    below: Vec<Stop>,
    /// Upwards.
    above: Vec<Stop>,
}

#[derive(Clone, Copy, Debug)]
struct Stop {
    sqrt_price: U256,
    /// What crossing it downwards, or upwards, adds to the liquidity.
    net: i128,
    /// Whether a range begins or ends there.
    is_tick: bool,
}

/// What a swap came to.
struct Done {
    taken: U256,
    given: U256,
    crossings: u32,
}

/// `computeSwapStep` of `SwapMath.sol`.
struct Step {
    sqrt_price: U256,
    amount_in: U256,
    amount_out: U256,
}

/// One of two amounts is asked for.
#[derive(Clone, Copy)]
enum Asked {
    In(U256),
    Out(U256),
}

impl Ranged {
    /// `fee_pips` of an input of token 0 and of token 1: of V3 twice the same, of V4 with the protocol's part.
    pub fn new(state: State, changes: &[Change], tick_spacing: i32, fee_pips: [u32; 2]) -> Self {
        let mut nets = BTreeMap::<i32, i128>::new();
        for change in changes {
            *nets.entry(change.lower).or_default() += change.delta;
            *nets.entry(change.upper).or_default() -= change.delta;
        }
        // A bit of a word of the bitmap for each multiple of the spacing; a loop stops at the word's end.
        let word = 256 * tick_spacing;
        let words = MIN_TICK.div_euclid(word)..=MAX_TICK.div_euclid(word);
        let stops = |last: i32| {
            let mut stops: BTreeMap<i32, i128> =
                words.clone().map(|index| ((index * word + last).clamp(MIN_TICK, MAX_TICK), 0)).collect();
            stops.extend(&nets);
            stops
        };
        let stop = |tick: i32, net: i128| Stop {
            sqrt_price: sqrt_price_at(tick),
            net,
            is_tick: nets.contains_key(&tick),
        };
        let (downwards, upwards) = (stops(0), stops(255 * tick_spacing));
        Self {
            sqrt_price: state.sqrt_price,
            liquidity: state.liquidity,
            fee_pips,
            below: downwards.range(..=state.tick).rev().map(|(tick, net)| stop(*tick, -net)).collect(),
            above: upwards.range(state.tick + 1..).map(|(tick, net)| stop(*tick, *net)).collect(),
        }
    }

    /// The price and what the fee leaves, as a fraction.
    pub(super) fn rate(&self, zero_for_one: bool) -> [U512; 2] {
        let price: [U512; 2] = [self.sqrt_price.widening_mul(self.sqrt_price), U512::ONE << 192];
        let [out, into] = if zero_for_one { price } else { [price[1], price[0]] };
        let fee = self.fee_pips[usize::from(!zero_for_one)];
        [out * U512::from(WHOLE_FEE - fee), into * U512::from(WHOLE_FEE)]
    }

    /// `None` where the pool does not take all of it.
    pub(super) fn output(&self, zero_for_one: bool, amount_in: u128) -> Option<u128> {
        self.swap(zero_for_one, Asked::In(U256::from(amount_in)))?.given.try_into().ok()
    }

    /// Ticks where a range begins or ends that a swap of this input goes over.
    pub(super) fn crossings(&self, zero_for_one: bool, amount_in: u128) -> Option<u32> {
        Some(self.swap(zero_for_one, Asked::In(U256::from(amount_in)))?.crossings)
    }

    /// What the pool asks for an output, which is near the least input; `None` where it does not have it.
    pub(super) fn input(&self, zero_for_one: bool, amount_out: u128) -> Option<u128> {
        self.swap(zero_for_one, Asked::Out(U256::from(amount_out)))?.taken.try_into().ok()
    }

    fn swap(&self, zero_for_one: bool, mut asked: Asked) -> Option<Done> {
        let (stops, limit) = if zero_for_one { (&self.below, LOWEST) } else { (&self.above, HIGHEST) };
        let (mut price, mut liquidity) = (self.sqrt_price, self.liquidity);
        let (mut taken, mut given, mut crossings) = (U256::ZERO, U256::ZERO, 0);
        for stop in stops {
            let target = if zero_for_one { stop.sqrt_price.max(limit) } else { stop.sqrt_price.min(limit) };
            if liquidity > 0 {
                let step = self.step(zero_for_one, price, target, liquidity, asked)?;
                taken += step.amount_in;
                given += step.amount_out;
                asked = match asked {
                    Asked::In(left) => Asked::In(left - step.amount_in),
                    Asked::Out(left) => Asked::Out(left - step.amount_out),
                };
                price = step.sqrt_price;
            } else {
                price = target;
            }
            crossings += u32::from(stop.is_tick && price == stop.sqrt_price);
            if matches!(asked, Asked::In(left) | Asked::Out(left) if left.is_zero()) {
                return Some(Done { taken, given, crossings });
            }
            liquidity = liquidity.checked_add_signed(stop.net)?;
        }
        None
    }

    fn step(
        &self,
        zero_for_one: bool,
        price: U256,
        target: U256,
        liquidity: u128,
        asked: Asked,
    ) -> Option<Step> {
        let fee = U256::from(self.fee_pips[usize::from(!zero_for_one)]);
        let whole = U256::from(WHOLE_FEE);
        let input = |to: U256| {
            if zero_for_one {
                amount0(to, price, liquidity, true)
            } else {
                amount1(price, to, liquidity, true)
            }
        };
        let output = |to: U256| {
            if zero_for_one {
                amount1(to, price, liquidity, false)
            } else {
                amount0(price, to, liquidity, false)
            }
        };
        let next = match asked {
            Asked::In(left) => {
                let kept = mul_div(left, whole - fee, whole)?;
                let is_whole = kept >= input(target)?;
                if is_whole { target } else { after_input(zero_for_one, price, liquidity, kept)? }
            }
            Asked::Out(left) => {
                let is_whole = left >= output(target)?;
                if is_whole { target } else { after_output(zero_for_one, price, liquidity, left)? }
            }
        };
        let (mut amount_in, mut amount_out) = (input(next)?, output(next)?);
        match asked {
            Asked::In(left) if next != target => amount_in = left,
            Asked::In(_) => amount_in += mul_div_up(amount_in, fee, whole - fee)?,
            Asked::Out(left) => {
                amount_in += mul_div_up(amount_in, fee, whole - fee)?;
                amount_out = amount_out.min(left);
            }
        }
        Some(Step { sqrt_price: next, amount_in, amount_out })
    }
}

/// `getAmount0Delta` of `SqrtPriceMath.sol`.
fn amount0(lower: U256, upper: U256, liquidity: u128, is_up: bool) -> Option<U256> {
    let shifted: U256 = U256::from(liquidity) << 96usize;
    if is_up {
        mul_div_up(mul_div_up(shifted, upper - lower, upper)?, U256::ONE, lower)
    } else {
        Some(mul_div(shifted, upper - lower, upper)? / lower)
    }
}

/// `getAmount1Delta`.
fn amount1(lower: U256, upper: U256, liquidity: u128, is_up: bool) -> Option<U256> {
    let divide = if is_up { mul_div_up } else { mul_div };
    divide(U256::from(liquidity), upper - lower, U256::ONE << 96)
}

/// `getNextSqrtPriceFromInput`.
fn after_input(zero_for_one: bool, price: U256, liquidity: u128, amount: U256) -> Option<U256> {
    if !zero_for_one {
        return price.checked_add(mul_div(amount, U256::ONE << 96usize, U256::from(liquidity))?);
    }
    if amount.is_zero() {
        return Some(price);
    }
    let shifted: U256 = U256::from(liquidity) << 96usize;
    let sum = amount.checked_mul(price).and_then(|product| shifted.checked_add(product));
    match sum {
        Some(sum) => mul_div_up(shifted, price, sum),
        None => mul_div_up(shifted, U256::ONE, (shifted / price).checked_add(amount)?),
    }
}

/// `getNextSqrtPriceFromOutput`.
fn after_output(zero_for_one: bool, price: U256, liquidity: u128, amount: U256) -> Option<U256> {
    if zero_for_one {
        return price.checked_sub(mul_div_up(amount, U256::ONE << 96usize, U256::from(liquidity))?);
    }
    let shifted: U256 = U256::from(liquidity) << 96usize;
    mul_div_up(shifted, price, shifted.checked_sub(amount.checked_mul(price)?)?)
}

/// What a pool of V4 takes of an input of token 0 and of token 1, with what the protocol takes in 24 bits: `calculateSwapFee` of
/// `ProtocolFeeLibrary.sol`.
pub fn fees_v4(fee_pips: u32, protocol: u32) -> [u32; 2] {
    [protocol & 0xfff, protocol >> 12].map(|part| {
        let both = u64::from(part) * u64::from(fee_pips) / u64::from(WHOLE_FEE);
        part + fee_pips - both as u32
    })
}

/// `getSqrtRatioAtTick` of `TickMath.sol`.
pub fn sqrt_price_at(tick: i32) -> U256 {
    let bits = (0..RATIOS.len()).filter(|bit| tick.unsigned_abs() >> bit & 1 == 1);
    let ratio: U256 =
        bits.fold(U256::ONE << 128usize, |ratio, bit| (ratio * U256::from(RATIOS[bit])) >> 128usize);
    let ratio: U256 = if tick > 0 { U256::MAX / ratio } else { ratio };
    let is_whole = (ratio & U256::from(u32::MAX)).is_zero();
    (ratio >> 32usize) + U256::from(u8::from(!is_whole))
}

#[cfg(test)]
mod tests {
    use super::super::{Formula, Way};
    use super::*;

    #[test]
    fn the_ends_of_all_prices_are_those_of_the_contract() {
        assert_eq!(sqrt_price_at(MIN_TICK), LOWEST - U256::ONE);
        assert_eq!(sqrt_price_at(MAX_TICK), HIGHEST + U256::ONE);
        assert_eq!(sqrt_price_at(0), U256::ONE << 96);
    }

    #[test]
    fn the_least_input_over_ticks_is_the_least_and_a_pool_ends_where_its_ranges_do() {
        let state =
            State { sqrt_price: (U256::ONE << 96) + U256::from(12_345u32), tick: 0, liquidity: 30_000_000 };
        let changes = [
            Change { lower: -600, upper: 600, delta: 10_000_000 },
            Change { lower: -60, upper: 120, delta: 20_000_000 },
            Change { lower: 6_000, upper: 7_200, delta: 5_000_000 },
        ];
        let formula = Formula::Ranged(Ranged::new(state, &changes, 60, [3_000, 500]));
        for zero_for_one in [true, false] {
            let way = Way { formula: &formula, zero_for_one };
            for amount in [1u128, 2, 1_000, 59_999, 123_456, 300_000] {
                let least = way.least_input(amount).expect("the pool has it");
                assert!(
                    way.output(least) >= Some(amount) && way.output(least - 1) < Some(amount),
                    "{amount}"
                );
            }
            assert_eq!((way.output(10_000_000), way.least_input(10_000_000)), (None, None));
        }
        let down = Way { formula: &formula, zero_for_one: true };
        // Some 90,000 of token 0 take the price to tick -60, and 270,000 more to the end.
        let crossings = [1, 89_000, 91_000, 370_000].map(|amount| down.crossings(amount));
        assert_eq!(crossings, [Some(0), Some(0), Some(1), None]);
    }
}
