use std::fmt;

use alloy_primitives::U256;
use serde::{Deserialize, Serialize};

use crate::LendingError;
use crate::math::{RAY, Rounding, ray_div, ray_mul};

/// Which version of Aave's arithmetic a pool runs. Only what was compared with its own bytecode is here.
///
/// | | 2 | 3.0 | 3.6 |
/// |---|---|---|---|
/// | base currency | ether | the oracle's | the oracle's |
/// | average threshold | truncated to basis points before the health factor | as 2 | kept whole |
/// | balances | rounded to the nearest unit | as 2 | supply down, debt up |
/// | compounding | the binomial's first three terms, of a rate by the second | the same, of a rate by the year | Taylor's |
/// | close factor | half of the reserve's debt | half or all of it, by health | all, unless healthier than 0.95 and both sides above 2,000: half of all debt |
/// | the bonus is added | before the collateral is rounded | behind | behind |
/// | dust | – | – | either side is cleared, or both leave 1,000 |
/// | treasury's part of the bonus | – | per reserve | per reserve |
/// | stable debt | yes | yes | – |
/// | pause | of the whole pool | per reserve | per reserve |
/// | grace periods | – | – | per reserve |
/// | e-mode | – | one category per reserve, with a price of its own | bitmaps per category |
/// | borrow index | stands still while suppliers earn nothing | grows | grows |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Revision {
    /// `@aave/protocol-v2` 1.0.1, `LENDINGPOOL_REVISION` 2.
    V2,
    /// The first release: `@aave/core-v3` 1.19.3, `POOL_REVISION` 1.
    V3_0,
    /// `@aave-dao/aave-v3-origin` 3.6.0, `POOL_REVISION` 10.
    V3_6,
}

impl Revision {
    /// All there are.
    pub const PROVEN: [Self; 3] = [Self::V2, Self::V3_0, Self::V3_6];
    pub(crate) const PROVEN_NAMES: &'static str = "1 (Aave V3.0) and 10 (Aave V3.6)";

    /// By the `POOL_REVISION` of a pool of V3.
    ///
    /// # Errors
    /// A revision that is not proven; the error names those that are.
    pub const fn from_pool_revision(revision: u64) -> Result<Self, LendingError> {
        match revision {
            1 => Ok(Self::V3_0),
            10 => Ok(Self::V3_6),
            _ => Err(LendingError::UnprovenRevision(revision)),
        }
    }

    /// By the `LENDINGPOOL_REVISION` of a pool of V2.
    ///
    /// # Errors
    /// A revision that is not proven; the error names the one that is.
    pub const fn from_lending_pool_revision(revision: u64) -> Result<Self, LendingError> {
        match revision {
            2 => Ok(Self::V2),
            _ => Err(LendingError::UnprovenLendingPool(revision)),
        }
    }

    /// The pool's `POOL_REVISION`, or its `LENDINGPOOL_REVISION` in V2.
    pub const fn pool_revision(self) -> u64 {
        match self {
            Self::V2 => 2,
            Self::V3_0 => 1,
            Self::V3_6 => 10,
        }
    }

    /// What a supplier's balance is rounded to (`AToken.balanceOf`; `TokenMath.getATokenBalance` from 3.5 on).
    pub(crate) const fn supply_rounding(self) -> Rounding {
        match self {
            Self::V2 | Self::V3_0 => Rounding::Nearest,
            Self::V3_6 => Rounding::Down,
        }
    }

    /// What a debt is rounded to (`VariableDebtToken.balanceOf`; `TokenMath.getVTokenBalance` from 3.5 on).
    pub(crate) const fn debt_rounding(self) -> Rounding {
        match self {
            Self::V2 | Self::V3_0 => Rounding::Nearest,
            Self::V3_6 => Rounding::Up,
        }
    }

    /// A supplied amount at this index.
    pub(crate) fn supply_balance(self, scaled: U256, index: U256) -> Result<U256, LendingError> {
        ray_mul(scaled, index, self.supply_rounding())
    }

    /// An owed amount at this index.
    pub(crate) fn debt_balance(self, scaled: U256, index: U256) -> Result<U256, LendingError> {
        ray_mul(scaled, index, self.debt_rounding())
    }

    /// What taking an amount from a supplier takes from his scaled balance.
    pub(crate) fn scaled_supply_taken(self, amount: U256, index: U256) -> Result<U256, LendingError> {
        match self {
            Self::V2 | Self::V3_0 => ray_div(amount, index, Rounding::Nearest),
            Self::V3_6 => ray_div(amount, index, Rounding::Up),
        }
    }

    /// What repaying an amount takes from the scaled debt.
    pub(crate) fn scaled_debt_repaid(self, amount: U256, index: U256) -> Result<U256, LendingError> {
        match self {
            Self::V2 | Self::V3_0 => ray_div(amount, index, Rounding::Nearest),
            Self::V3_6 => ray_div(amount, index, Rounding::Down),
        }
    }

    /// The scaled balance whose rounded product with the index is this balance, if there is one. As an index is never
    /// below one ray, there is at most one.
    pub(crate) fn scaled_of(
        self,
        balance: U256,
        index: U256,
        rounding: Rounding,
    ) -> Result<Option<U256>, LendingError> {
        if index < RAY {
            return Ok(None);
        }
        let inverse = match rounding {
            Rounding::Down => Rounding::Up,
            Rounding::Nearest => Rounding::Nearest,
            Rounding::Up => Rounding::Down,
        };
        let scaled = ray_div(balance, index, inverse)?;
        Ok((ray_mul(scaled, index, rounding)? == balance).then_some(scaled))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2 => "Aave V2",
            Self::V3_0 => "Aave V3.0",
            Self::V3_6 => "Aave V3.6",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_revision_that_is_not_proven_is_refused_with_the_names_of_those_that_are() {
        for revision in (0..50).filter(|revision| ![1, 10].contains(revision)) {
            let error = Revision::from_pool_revision(revision).expect_err("not proven");
            let said = format!(
                "revision {revision} of the pool is not proven; proven are 1 (Aave V3.0) and 10 (Aave V3.6)"
            );
            assert_eq!(error.to_string(), said);
        }
    }

    #[test]
    fn a_proven_revision_goes_by_its_number_and_is_named_in_the_refusal() {
        for revision in [Revision::V3_0, Revision::V3_6] {
            assert_eq!(Revision::from_pool_revision(revision.pool_revision()), Ok(revision));
            let name = format!("{} ({revision})", revision.pool_revision());
            assert!(Revision::PROVEN_NAMES.contains(&name), "{name}");
        }
    }

    #[test]
    fn a_pool_of_the_second_version_goes_by_its_own_number() {
        assert_eq!(Revision::from_lending_pool_revision(Revision::V2.pool_revision()), Ok(Revision::V2));
        for revision in [0, 1, 3, 10] {
            let error = Revision::from_lending_pool_revision(revision).expect_err("not proven");
            let said =
                format!("revision {revision} of the lending pool is not proven; proven is 2 (Aave V2)");
            assert_eq!(error.to_string(), said);
        }
    }

    proptest! {
        #[test]
        fn a_scaled_balance_comes_back_from_its_rounded_product(
            scaled in any::<u128>(), above in any::<u64>(), way in 0..3usize,
        ) {
            let rounding = [Rounding::Down, Rounding::Nearest, Rounding::Up][way];
            let index = RAY + U256::from(above) * U256::from(1_000_000_000u64);
            let scaled = U256::from(scaled);
            let balance = ray_mul(scaled, index, rounding)?;
            prop_assert_eq!(Revision::V3_6.scaled_of(balance, index, rounding)?, Some(scaled));
        }
    }
}
