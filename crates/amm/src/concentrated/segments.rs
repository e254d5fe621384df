use std::iter::FusedIterator;

use alloy_primitives::U256;

use super::full_width::mul_div;
use super::pool::{ConcentratedPool, PoolPrice};
use super::quote::{Direction, Quote};
use super::tick_math::{MAX_SQRT_PRICE, MIN_SQRT_PRICE};

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

impl ConcentratedPool {
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
            let end = match (tick, self.direction) {
                (Some(tick), _) => tick.sqrt_price,
                (None, Direction::ZeroForOne) => MIN_SQRT_PRICE + U256::ONE,
                (None, Direction::OneForZero) => MAX_SQRT_PRICE - U256::ONE,
            };
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
