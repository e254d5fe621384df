//! `SwapMath.sol`: one step of a swap, towards one target, at one liquidity.

use alloy_primitives::U256;

use super::full_width::{mul_div, mul_div_up};
use super::pool::ConcentratedPool;
use super::quote::{Direction, LastStep};
use super::sqrt_price::{after_input, after_output, amount0, amount1, fraction0, fraction1};
use crate::ConcentratedError;

/// Parts of a fee: hundredths of a basis point.
pub(super) const WHOLE_FEE: u32 = 1_000_000;

/// Which of the two contracts: a step is the same in both, but V4 counts in narrower integers and takes any fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Uniswap V3 and the forks that keep its `SwapMath.sol` (Pancake V3, Sushi V3).
    V3,
    /// Uniswap V4.
    V4,
}

/// What is the same in every step of a swap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) version: Version,
    pub(super) fee_pips: u32,
    pub(super) zero_for_one: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) sqrt_price: U256,
    /// With the fee.
    pub(super) amount_in: U256,
    pub(super) amount_out: U256,
}

impl Terms {
    pub(super) fn of(pool: &ConcentratedPool, direction: Direction) -> Self {
        Self {
            version: pool.version(),
            fee_pips: pool.fee().pips(direction),
            zero_for_one: direction.is_zero_for_one(),
        }
    }

    /// `computeSwapStep` for an input, the fee included.
    pub(super) fn step_in(
        &self,
        price: U256,
        target: U256,
        liquidity: u128,
        left: U256,
    ) -> Result<Step, ConcentratedError> {
        let less_fee = self.less_fee(left);
        let to_target = self.input(price, target, liquidity);
        if less_fee >= to_target {
            let amount_in = self.with_fee(to_target)?;
            let amount_out = self.output(price, target, liquidity);
            return Ok(Step { sqrt_price: target, amount_in, amount_out });
        }
        let next =
            after_input(price, liquidity, less_fee, self.zero_for_one).ok_or(ConcentratedError::Overflow)?;
        // V3 decides by the price whether the target was reached, V4 by the amount. It is the same: the input to the target is
        // the least whole one (its two roundings up are one), so that less than it leaves the price short of the target.
        debug_assert!(next != target);
        let amount_out = self.output(price, next, liquidity);
        Ok(Step { sqrt_price: next, amount_in: left, amount_out })
    }

    /// `computeSwapStep` for an output.
    pub(super) fn step_out(
        &self,
        price: U256,
        target: U256,
        liquidity: u128,
        left: U256,
    ) -> Result<Step, ConcentratedError> {
        let to_target = self.output(price, target, liquidity);
        let (next, amount_out) = if left >= to_target {
            (target, to_target)
        } else {
            let next = after_output(price, liquidity, left, self.zero_for_one);
            (next.ok_or(ConcentratedError::Overflow)?, left)
        };
        let amount_in = self.with_fee(self.input(price, next, liquidity))?;
        Ok(Step { sqrt_price: next, amount_in, amount_out })
    }

    /// A step that uses up what is left on its way from the first price to the second, where the third is as far as it may go.
    pub(super) fn describe(&self, way: [U256; 3], liquidity: u128, left: U256) -> LastStep {
        let [start, here, end] = way;
        let (kept, parts) = (U256::from(WHOLE_FEE - self.fee_pips), U256::from(WHOLE_FEE));
        let fee_rest = left.wrapping_mul(kept) % parts;
        let (lower, upper) = (start.min(here), start.max(here));
        let rest = if self.zero_for_one {
            fraction1(lower, upper, liquidity)
        } else {
            fraction0(lower, upper, liquidity)
        };
        let (liquidity, unit) = (liquidity as f64, 2f64.powi(96));
        let reserves = |price: U256| {
            let price = f64::from(price) / unit;
            let (token0, token1) = (liquidity / price, liquidity * price);
            if self.zero_for_one { (token0, token1) } else { (token1, token0) }
        };
        let (virtual_in, virtual_out) = reserves(here);
        LastStep {
            virtual_in,
            virtual_out,
            keep: f64::from(WHOLE_FEE - self.fee_pips) / f64::from(WHOLE_FEE),
            fee_rest: f64::from(fee_rest) / f64::from(WHOLE_FEE),
            rest,
            reach: (reserves(start).0 - virtual_in, reserves(end).0 - virtual_in),
        }
    }

    /// Without the fee, rounded up.
    fn input(&self, from: U256, to: U256, liquidity: u128) -> U256 {
        if self.zero_for_one {
            amount0(to, from, liquidity, true)
        } else {
            amount1(from, to, liquidity, true)
        }
    }

    /// Rounded down.
    fn output(&self, from: U256, to: U256, liquidity: u128) -> U256 {
        if self.zero_for_one {
            amount1(to, from, liquidity, false)
        } else {
            amount0(from, to, liquidity, false)
        }
    }

    fn less_fee(&self, amount: U256) -> U256 {
        let kept = WHOLE_FEE - self.fee_pips;
        let limbs = amount.as_limbs();
        if limbs[1] == 0 && limbs[2] == 0 && limbs[3] == 0 {
            let product = u128::from(limbs[0]) * u128::from(kept);
            return U256::from(product / u128::from(WHOLE_FEE));
        }
        // Not more than the amount.
        mul_div(amount, U256::from(kept), U256::from(WHOLE_FEE)).unwrap_or(amount)
    }

    fn with_fee(&self, amount: U256) -> Result<U256, ConcentratedError> {
        if self.fee_pips == WHOLE_FEE {
            return Ok(amount);
        }
        let fee = mul_div_up(amount, U256::from(self.fee_pips), U256::from(WHOLE_FEE - self.fee_pips));
        fee.and_then(|fee| amount.checked_add(fee)).ok_or(ConcentratedError::Overflow)
    }
}
