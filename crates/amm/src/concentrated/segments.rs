use std::iter::FusedIterator;

use alloy_primitives::U256;

use super::full_width::mul_div;
use super::pool::{ConcentratedPool, PoolPrice};
use super::quote::{Direction, Quote};
use super::sqrt_price::{amount0, amount1};
use super::tick_math::{MAX_SQRT_PRICE, MIN_SQRT_PRICE};
use super::ticks::Tick;

/// A stretch of prices over which the liquidity does not change: there the pool is one of constant product, with reserves that
/// are virtual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The square root of the price at which it begins, with 96 bits after the point.
    pub sqrt_price_start: U256,
    /// Where it ends: at an initialised tick, or at the end of all prices.
    pub sqrt_price_end: U256,
    /// Not zero.
    pub liquidity: u128,
    /// Hundredths of a basis point of the input.
    pub fee_pips: u32,
    /// What takes the pool from the segment's begin to its end, the fee included.
    pub amount_in: U256,
    /// What the pool gives for it.
    pub amount_out: U256,
}

/// The segments of a pool in one direction, from its price on; stretches without liquidity are left out.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    pool: &'a ConcentratedPool,
    direction: Direction,
    /// `None` at the end.
    at: Option<(PoolPrice, u128)>,
}

/// A stretch of prices over which the liquidity does not change, in floating point: it ranks, and is never an amount.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    /// Virtual reserve of the token that goes in, where the stretch begins.
    pub(crate) virtual_in: f64,
    /// Of the one that comes out.
    pub(crate) virtual_out: f64,
    /// What the fee leaves of the input.
    pub(crate) keep: f64,
    /// Input, the fee included, that takes the pool to the end.
    pub(crate) room: f64,
}

/// The stretches of a pool in one direction, from its price on; those without liquidity are left out. However many words of the
/// bitmap one covers, it costs the same.
#[derive(Clone, Debug)]
pub(crate) struct Stretches<'a> {
    pool: &'a ConcentratedPool,
    direction: Direction,
    /// `None` at the end.
    at: Option<(PoolPrice, u128)>,
}

impl ConcentratedPool {
    /// As [`Self::segments`], roughly.
    pub(crate) fn stretches(&self, direction: Direction) -> Stretches<'_> {
        Stretches { pool: self, direction, at: self.price().map(|price| (price, self.liquidity())) }
    }

    /// How much of token 0, or of token 1, changes hands on the way from the pool's price to another one: without fees, each stretch
    /// rounded down. What lies behind more than `most_ticks` initialised ticks is not counted. A pool that is not initialised has
    /// none.
    pub fn amount_up_to(&self, is_token0: bool, sqrt_price: U256, most_ticks: usize) -> U256 {
        let target = sqrt_price.clamp(MIN_SQRT_PRICE, MAX_SQRT_PRICE);
        let Some(PoolPrice { sqrt_price: mut here, tick: mut index }) = self.price() else {
            return U256::ZERO;
        };
        let downwards = target < here;
        let (mut liquidity, mut sum) = (self.liquidity(), U256::ZERO);
        for _ in 0..=most_ticks {
            let next = self.table().next(index, downwards);
            let on_the_way = |tick: &&Tick| {
                if downwards { tick.sqrt_price > target } else { tick.sqrt_price < target }
            };
            let reached = next.filter(on_the_way);
            let end = reached.map_or(target, |tick| tick.sqrt_price);
            let (lower, upper) = (here.min(end), here.max(end));
            let between = if is_token0 { amount0 } else { amount1 };
            sum = sum.saturating_add(between(lower, upper, liquidity, false));
            let Some(tick) = reached else { break };
            let net = if downwards { -tick.liquidity_net } else { tick.liquidity_net };
            let Some(behind) = liquidity.checked_add_signed(net) else { break };
            (here, liquidity) = (end, behind);
            index = if downwards { tick.index - 1 } else { tick.index };
        }
        sum
    }

    /// What a search for the best input walks along. A pool that is not initialised has none.
    pub fn segments(&self, direction: Direction) -> Segments<'_> {
        Segments { pool: self, direction, at: self.price().map(|price| (price, self.liquidity())) }
    }
}

impl Segment {
    /// The reserves of the constant product that the segment is a part of, at its begin, rounded down: of the token that goes in
    /// and of the one that comes out.
    pub fn virtual_reserves(&self, direction: Direction) -> (U256, U256) {
        let (liquidity, one) = (U256::from(self.liquidity), U256::ONE << 96);
        // At most 224 and at most 192 bits.
        let token0 = mul_div(liquidity, one, self.sqrt_price_start).unwrap_or(U256::MAX);
        let token1 = mul_div(liquidity, self.sqrt_price_start, one).unwrap_or(U256::MAX);
        if direction.is_zero_for_one() { (token0, token1) } else { (token1, token0) }
    }
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        loop {
            let (price, liquidity) = self.at.take()?;
            let tick = self.pool.table().next(price.tick, self.direction.is_zero_for_one());
            let end = end_of(tick, self.direction);
            let after = self.pool.walk(self.direction, price, liquidity, end)?;
            if after.price == price {
                // A fee takes all that goes in: nothing moves the price.
                return None;
            }
            if tick.is_some() {
                self.at = Some((after.price, after.liquidity));
            }
            if liquidity > 0 && after.price.sqrt_price != price.sqrt_price {
                return Some(self.segment(price, liquidity, &after));
            }
        }
    }
}

impl FusedIterator for Segments<'_> {}

/// Where a stretch ends: at a tick, or just before the end of all prices.
fn end_of(tick: Option<&Tick>, direction: Direction) -> U256 {
    match (tick, direction) {
        (Some(tick), _) => tick.sqrt_price,
        (None, Direction::ZeroForOne) => MIN_SQRT_PRICE + U256::ONE,
        (None, Direction::OneForZero) => MAX_SQRT_PRICE - U256::ONE,
    }
}

impl Iterator for Stretches<'_> {
    type Item = Stretch;

    fn next(&mut self) -> Option<Stretch> {
        let zero_for_one = self.direction.is_zero_for_one();
        loop {
            let (price, liquidity) = self.at.take()?;
            let tick = self.pool.table().next(price.tick, zero_for_one);
            let end = end_of(tick, self.direction);
            if let Some(tick) = tick {
                let net = if zero_for_one { -tick.liquidity_net } else { tick.liquidity_net };
                let index = if zero_for_one { tick.index - 1 } else { tick.index };
                let after = PoolPrice { sqrt_price: end, tick: index };
                self.at = liquidity.checked_add_signed(net).map(|liquidity| (after, liquidity));
            }
            if liquidity > 0 && end != price.sqrt_price {
                return self.stretch(price.sqrt_price, end, liquidity);
            }
        }
    }
}

impl Stretches<'_> {
    /// `None` where a fee takes all that goes in.
    fn stretch(&self, from: U256, to: U256, liquidity: u128) -> Option<Stretch> {
        let keep = 1.0 - f64::from(self.pool.fee().pips(self.direction)) / 1e6;
        let (liquidity, unit) = (liquidity as f64, 2f64.powi(96));
        let [start, end, way] = [from, to, from.abs_diff(to)].map(|price| f64::from(price) / unit);
        let (token0, token1) = (liquidity / start, liquidity * start);
        let (virtual_in, virtual_out, kept) = if self.direction.is_zero_for_one() {
            (token0, token1, liquidity * (way / start / end))
        } else {
            (token1, token0, liquidity * way)
        };
        // Less than a unit has no use.
        (keep > 0.0).then(|| Stretch {
            virtual_in: virtual_in.max(1.0),
            virtual_out,
            keep,
            room: kept / keep,
        })
    }
}

impl Segments<'_> {
    fn segment(&self, from: PoolPrice, liquidity: u128, to: &Quote) -> Segment {
        Segment {
            sqrt_price_start: from.sqrt_price,
            sqrt_price_end: to.price.sqrt_price,
            liquidity,
            fee_pips: self.pool.fee().pips(self.direction),
            amount_in: to.amount_in,
            amount_out: to.amount_out,
        }
    }
}
