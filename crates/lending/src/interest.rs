//! Interest between updates: linear for suppliers, compounded for borrowers.

use alloy_primitives::{U256, uint};

use crate::math::{RAY, Rounding, add, mul, ray_mul};
use crate::{LendingError, Revision};

const SECONDS_PER_YEAR: U256 = uint!(31_536_000_U256);

/// What one ray of supply has become (`MathUtils.calculateLinearInterest`).
///
/// Rate in rays a year, elapsed seconds, result in rays.
pub(crate) fn linear(rate: U256, elapsed: u64) -> Result<U256, LendingError> {
    add(RAY, mul(rate, U256::from(elapsed))? / SECONDS_PER_YEAR)
}

/// What one ray of debt has become (`MathUtils.calculateCompoundedInterest`).
///
/// Rate in rays a year, elapsed seconds, result in rays. An approximation, and which one it is belongs to the revision.
pub(crate) fn compounded(revision: Revision, rate: U256, elapsed: u64) -> Result<U256, LendingError> {
    if elapsed == 0 {
        return Ok(RAY);
    }
    match revision {
        Revision::V2 => binomial_by_second(rate, elapsed),
        Revision::V3_0 => binomial(rate, elapsed),
        Revision::V3_6 => taylor(rate, elapsed),
    }
}

/// The rate of a second is rounded down before anything else is done with it.
fn binomial_by_second(rate: U256, elapsed: u64) -> Result<U256, LendingError> {
    let by_second = rate / SECONDS_PER_YEAR;
    let squared = ray_mul(by_second, by_second, Rounding::Nearest)?;
    let cubed = ray_mul(squared, by_second, Rounding::Nearest)?;
    terms(mul(by_second, U256::from(elapsed))?, squared, cubed, elapsed)
}

fn binomial(rate: U256, elapsed: u64) -> Result<U256, LendingError> {
    let squared = ray_mul(rate, rate, Rounding::Nearest)? / (SECONDS_PER_YEAR * SECONDS_PER_YEAR);
    let cubed = ray_mul(squared, rate, Rounding::Nearest)? / SECONDS_PER_YEAR;
    let first = mul(rate, U256::from(elapsed))? / SECONDS_PER_YEAR;
    terms(first, squared, cubed, elapsed)
}

/// The binomial's first three terms and the one before them.
fn terms(first: U256, squared: U256, cubed: U256, elapsed: u64) -> Result<U256, LendingError> {
    let [n, less_one, less_two] = [0, 1, 2].map(|less| U256::from(elapsed.saturating_sub(less)));
    let pairs = mul(n, less_one)?;
    let second = mul(pairs, squared)? / U256::from(2);
    let third = mul(mul(pairs, less_two)?, cubed)? / U256::from(6);
    add(add(add(RAY, first)?, second)?, third)
}

fn taylor(rate: U256, elapsed: u64) -> Result<U256, LendingError> {
    let x = mul(rate, U256::from(elapsed))? / SECONDS_PER_YEAR;
    let sixth = ray_mul(x, x / U256::from(6), Rounding::Nearest)?;
    let rest = ray_mul(x, add(x / U256::from(2), sixth)?, Rounding::Nearest)?;
    add(add(RAY, x)?, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: u64 = 31_536_000;

    fn percent(rate: u64) -> U256 {
        RAY * U256::from(rate) / U256::from(100)
    }

    #[test]
    fn without_time_or_rate_nothing_grows() {
        for revision in Revision::PROVEN {
            assert_eq!(compounded(revision, percent(50), 0), Ok(RAY));
            assert_eq!(compounded(revision, U256::ZERO, YEAR), Ok(RAY));
        }
        assert_eq!(linear(percent(50), 0), Ok(RAY));
    }

    #[test]
    fn a_year_of_ten_percent_is_linear_for_suppliers() {
        assert_eq!(linear(percent(10), YEAR), Ok(RAY + percent(10)));
    }

    #[test]
    fn a_year_of_ten_percent_compounds_close_to_the_exponential() {
        // e^0.1 = 1.10517…; three terms give 1.10516…
        for revision in Revision::PROVEN {
            let grown = compounded(revision, percent(10), YEAR).expect("no overflow");
            assert!(grown > RAY * U256::from(11_051) / U256::from(10_000), "{grown}");
            assert!(grown < RAY * U256::from(11_052) / U256::from(10_000), "{grown}");
        }
    }

    #[test]
    fn one_second_has_no_second_term_in_the_binomial() {
        let rate = percent(100);
        for revision in [Revision::V2, Revision::V3_0] {
            assert_eq!(compounded(revision, rate, 1), Ok(RAY + rate / SECONDS_PER_YEAR));
        }
        assert!(compounded(Revision::V3_6, rate, 1).expect("small") > RAY + rate / SECONDS_PER_YEAR);
    }

    #[test]
    fn the_second_version_rounds_the_rate_of_a_second_down_first() {
        // A hundredth less than a unit a second: nothing, though a hundred seconds were worth 99 units.
        let rate = SECONDS_PER_YEAR * U256::from(99) / U256::from(100);
        assert_eq!(compounded(Revision::V2, rate, 100), Ok(RAY));
        assert_eq!(compounded(Revision::V3_0, rate, 100), Ok(RAY + U256::from(99)));
    }
}
