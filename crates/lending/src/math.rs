//! Fixed point as the protocol has it: rays (27 digits), wads (18 digits), basis points. Every product and every sum is
//! checked, because the contracts revert where 256 bits do not suffice.
//!
//! Sources: `WadRayMath.sol`, `PercentageMath.sol`, `MathUtils.sol`.

use alloy_primitives::{U256, uint};

use crate::LendingError;

pub(crate) const RAY: U256 = uint!(1_000_000_000_000_000_000_000_000_000_U256);
pub(crate) const WAD: U256 = uint!(1_000_000_000_000_000_000_U256);
/// The whole in basis points.
pub(crate) const PERCENTAGE_FACTOR: U256 = uint!(10_000_U256);

/// What becomes of a fraction of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    Down,
    /// Half goes up.
    Nearest,
    Up,
}

/// `a · b / divisor`.
pub(crate) fn mul_div(a: U256, b: U256, divisor: U256, rounding: Rounding) -> Result<U256, LendingError> {
    div(mul(a, b)?, divisor, rounding)
}

pub(crate) fn div(value: U256, divisor: U256, rounding: Rounding) -> Result<U256, LendingError> {
    if divisor.is_zero() {
        return Err(LendingError::Arithmetic);
    }
    match rounding {
        Rounding::Down => Ok(value / divisor),
        Rounding::Nearest => Ok(add(value, divisor >> 1)? / divisor),
        Rounding::Up => Ok(value.div_ceil(divisor)),
    }
}

pub(crate) fn ray_mul(a: U256, b: U256, rounding: Rounding) -> Result<U256, LendingError> {
    mul_div(a, b, RAY, rounding)
}

pub(crate) fn ray_div(a: U256, b: U256, rounding: Rounding) -> Result<U256, LendingError> {
    mul_div(a, RAY, b, rounding)
}

pub(crate) fn percent_mul(value: U256, bps: u16, rounding: Rounding) -> Result<U256, LendingError> {
    mul_div(value, U256::from(bps), PERCENTAGE_FACTOR, rounding)
}

pub(crate) fn percent_div(value: U256, bps: u16, rounding: Rounding) -> Result<U256, LendingError> {
    mul_div(value, PERCENTAGE_FACTOR, U256::from(bps), rounding)
}

pub(crate) fn add(a: U256, b: U256) -> Result<U256, LendingError> {
    a.checked_add(b).ok_or(LendingError::Arithmetic)
}

pub(crate) fn sub(a: U256, b: U256) -> Result<U256, LendingError> {
    a.checked_sub(b).ok_or(LendingError::Arithmetic)
}

pub(crate) fn mul(a: U256, b: U256) -> Result<U256, LendingError> {
    a.checked_mul(b).ok_or(LendingError::Arithmetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: u64, b: u64, divisor: u64, expected: [u64; 3]) {
        let [a, b, divisor] = [a, b, divisor].map(U256::from);
        let ways = [Rounding::Down, Rounding::Nearest, Rounding::Up];
        let found = ways.map(|rounding| mul_div(a, b, divisor, rounding).expect("no overflow"));
        assert_eq!(found, expected.map(U256::from), "{a} · {b} / {divisor}");
    }

    #[test]
    fn a_half_goes_up() {
        check(1, 5, 10, [0, 1, 1]);
        check(1, 4, 10, [0, 0, 1]);
        check(3, 5, 15, [1, 1, 1]);
        check(7, 3, 9, [2, 2, 3]);
        check(0, 3, 9, [0, 0, 0]);
        // Of an odd divisor half is rounded down before it is added.
        check(1, 1, 3, [0, 0, 1]);
        check(1, 2, 3, [0, 1, 1]);
    }

    #[test]
    fn a_product_beyond_256_bits_is_refused() {
        assert_eq!(mul_div(U256::MAX, U256::from(2), RAY, Rounding::Down), Err(LendingError::Arithmetic));
    }

    #[test]
    fn nearest_refuses_where_the_half_does_not_fit() {
        assert_eq!(div(U256::MAX, RAY, Rounding::Nearest), Err(LendingError::Arithmetic));
        assert!(div(U256::MAX, RAY, Rounding::Down).is_ok());
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        assert_eq!(div(RAY, U256::ZERO, Rounding::Up), Err(LendingError::Arithmetic));
    }
}
