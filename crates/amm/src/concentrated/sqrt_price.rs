//! `SqrtPriceMath.sol`: what a price and a liquidity make of an amount, and back. V3 and V4 agree in every bit.
//!
//! Prices are square roots with 96 bits after the point. A `None` stands where the contract reverts; a pool's own state leads
//! to none of them.

use alloy_primitives::U256;

use super::full_width::{div, div_up, mul_div, mul_div_up, mul_shift_96};

const MAX_UINT160: U256 = U256::from_limbs([u64::MAX, u64::MAX, u32::MAX as u64, 0]);

/// `getAmount0Delta`: how much of token 0 lies between two prices, the lower one first.
pub(super) fn amount0(lower: U256, upper: U256, liquidity: u128, is_rounded_up: bool) -> U256 {
    let (numerator, width) = (U256::from(liquidity) << 96, upper - lower);
    // The quotients are below `liquidity · 2^96` and below 2^225: no overflow.
    if is_rounded_up {
        div_up(mul_div_up(numerator, width, upper).unwrap_or(U256::MAX), lower)
    } else {
        div(mul_div(numerator, width, upper).unwrap_or(U256::MAX), lower)
    }
}

/// `getAmount1Delta`: how much of token 1 lies between two prices, the lower one first.
pub(super) fn amount1(lower: U256, upper: U256, liquidity: u128, is_rounded_up: bool) -> U256 {
    mul_shift_96(liquidity, &(upper - lower), is_rounded_up)
}

/// What [`amount0`] loses when it is rounded down.
pub(super) fn fraction0(lower: U256, upper: U256, liquidity: u128) -> f64 {
    let quotient = mul_div(U256::from(liquidity) << 96, upper - lower, upper).unwrap_or(U256::ZERO);
    f64::from(quotient % lower) / f64::from(lower)
}

/// What [`amount1`] loses when it is rounded down.
pub(super) fn fraction1(lower: U256, upper: U256, liquidity: u128) -> f64 {
    let product = U256::from(liquidity).wrapping_mul(upper - lower);
    f64::from(product & ((U256::ONE << 96) - U256::ONE)) / 2f64.powi(96)
}

/// `getNextSqrtPriceFromInput`; the liquidity is not zero.
pub(super) fn after_input(price: U256, liquidity: u128, amount: U256, zero_for_one: bool) -> Option<U256> {
    if zero_for_one {
        after_more_of_token0(price, liquidity, amount)
    } else {
        price.checked_add(quotient1(amount, liquidity, false)?).filter(|price| *price <= MAX_UINT160)
    }
}

/// `getNextSqrtPriceFromOutput`; the liquidity is not zero.
pub(super) fn after_output(price: U256, liquidity: u128, amount: U256, zero_for_one: bool) -> Option<U256> {
    if zero_for_one {
        price.checked_sub(quotient1(amount, liquidity, true)?).filter(|price| !price.is_zero())
    } else {
        after_less_of_token0(price, liquidity, amount)
    }
}

/// `getNextSqrtPriceFromAmount0RoundingUp`, adding.
fn after_more_of_token0(price: U256, liquidity: u128, amount: U256) -> Option<U256> {
    if amount.is_zero() {
        return Some(price);
    }
    let numerator: U256 = U256::from(liquidity) << 96;
    let denominator = amount.checked_mul(price).and_then(|product| numerator.checked_add(product));
    if let Some(denominator) = denominator {
        return mul_div_up(numerator, price, denominator);
    }
    Some(div_up(numerator, div(numerator, price).checked_add(amount)?))
}

/// `getNextSqrtPriceFromAmount0RoundingUp`, removing.
fn after_less_of_token0(price: U256, liquidity: u128, amount: U256) -> Option<U256> {
    if amount.is_zero() {
        return Some(price);
    }
    let numerator: U256 = U256::from(liquidity) << 96;
    let denominator = numerator.checked_sub(amount.checked_mul(price)?).filter(|left| !left.is_zero())?;
    mul_div_up(numerator, price, denominator).filter(|price| *price <= MAX_UINT160)
}

/// By how much token 1 moves the square root.
fn quotient1(amount: U256, liquidity: u128, is_rounded_up: bool) -> Option<U256> {
    let liquidity = U256::from(liquidity);
    if amount > MAX_UINT160 {
        let divide = if is_rounded_up { mul_div_up } else { mul_div };
        return divide(amount, U256::ONE << 96, liquidity);
    }
    let divide = if is_rounded_up { div_up } else { div };
    Some(divide(amount << 96, liquidity))
}
