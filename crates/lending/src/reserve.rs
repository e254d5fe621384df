use std::fmt;

use alloy_primitives::{Address, U256};
use serde::{Deserialize, Serialize};

use crate::math::{Rounding, ray_mul};
use crate::{LendingError, Revision, interest};

/// How many reserves a pool has room for (`ReserveConfiguration.MAX_RESERVES_COUNT`, and the bitmap of a user).
pub const MAX_RESERVES: u16 = 128;

/// The place of a reserve in the pool's list (`DataTypes.ReserveData.id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReserveId(pub u16);

/// One asset of the pool: what accounts are valued and liquidated by.
///
/// Not here: caps, ceilings and what else keeps somebody from entering a position. They have no say in a liquidation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// Its place in the pool's list.
    pub id: ReserveId,
    /// The underlying token; prices go by it.
    pub asset: Address,
    /// Of the underlying token.
    pub decimals: u8,
    /// Rays; as of `last_update`.
    pub liquidity_index: U256,
    /// Rays; as of `last_update`.
    pub variable_borrow_index: U256,
    /// Rays a year, to suppliers.
    pub liquidity_rate: U256,
    /// Rays a year, from borrowers.
    pub variable_borrow_rate: U256,
    /// Seconds since 1970; from then on interest accrues.
    pub last_update: u64,
    /// What all borrowers owe, scaled: without it the borrow index stands still (`ReserveLogic._updateIndexes`).
    pub scaled_variable_debt: U256,
    /// Basis points.
    pub ltv: u16,
    /// Basis points.
    pub liquidation_threshold: u16,
    /// Basis points of the debt's worth, the whole included: 10500 is five percent more.
    pub liquidation_bonus: u16,
    /// Basis points of the bonus that go to the treasury.
    pub liquidation_protocol_fee: u16,
    /// Without it nothing works.
    pub active: bool,
    /// Nothing new, but liquidations go on.
    pub frozen: bool,
    /// Nothing works, liquidations neither.
    pub paused: bool,
    /// Seconds since 1970; no liquidation up to and including this second. Zero where the revision has no such thing.
    pub grace_period_until: u64,
    /// Zero for none; 3.0 only.
    pub e_mode_category: u8,
}

/// A category of assets that move together, with terms of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EModeCategory {
    /// Basis points.
    pub ltv: u16,
    /// Basis points.
    pub liquidation_threshold: u16,
    /// Basis points, the whole included.
    pub liquidation_bonus: u16,
    /// Where the price of all its assets is asked for, as `AaveOracle.getAssetPrice` takes it; 3.0 only.
    pub price_source: Option<Address>,
    /// Bit `n` is reserve `n`: collateral on these terms; from 3.2 on.
    pub collateral_bitmap: u128,
    /// Bit `n` is reserve `n`: nothing is lent against it; from 3.6 on.
    pub ltv_zero_bitmap: u128,
}

/// What one account has in one reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Where.
    pub reserve: ReserveId,
    /// Supplied, scaled by the liquidity index.
    pub scaled_supply: U256,
    /// Owed at the variable rate, scaled by the variable borrow index.
    pub scaled_debt: U256,
    /// Owed at a rate of its own; 2 and 3.0.
    pub stable_debt: StableDebt,
    /// Whether the account uses its supply as collateral.
    pub collateral: bool,
}

/// A debt at the rate at which it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StableDebt {
    /// Smallest units, as of `last_update`.
    pub principal: U256,
    /// Rays a year.
    pub rate: U256,
    /// Seconds since 1970.
    pub last_update: u64,
}

/// What one account has in the pool.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// The e-mode category; zero for none.
    pub e_mode: u8,
    holdings: Vec<Holding>,
}

impl ReserveId {
    pub(crate) fn bit(self) -> u128 {
        1u128.checked_shl(self.0.into()).unwrap_or(0)
    }
}

impl fmt::Display for ReserveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Reserve {
    /// The liquidity index at this time (`ReserveLogic.getNormalizedIncome`). Rays.
    ///
    /// # Errors
    /// A time before the last update, or numbers that the contract reverts on.
    pub fn normalized_income(&self, timestamp: u64) -> Result<U256, LendingError> {
        let grown = interest::linear(self.liquidity_rate, self.elapsed(timestamp)?)?;
        ray_mul(grown, self.liquidity_index, Rounding::Nearest)
    }

    /// The variable borrow index at this time (`ReserveLogic.getNormalizedDebt`). Rays.
    ///
    /// # Errors
    /// As [`Reserve::normalized_income`].
    pub fn normalized_debt(&self, revision: Revision, timestamp: u64) -> Result<U256, LendingError> {
        let grown = interest::compounded(revision, self.variable_borrow_rate, self.elapsed(timestamp)?)?;
        ray_mul(grown, self.variable_borrow_index, Rounding::Nearest)
    }

    /// Stores the indices of this time (`ReserveLogic.updateState`).
    pub(crate) fn accrue(&mut self, revision: Revision, timestamp: u64) -> Result<(), LendingError> {
        let income = self.normalized_income(timestamp)?;
        if !self.scaled_variable_debt.is_zero() {
            self.variable_borrow_index = self.normalized_debt(revision, timestamp)?;
        }
        self.liquidity_index = income;
        self.last_update = timestamp;
        Ok(())
    }

    /// Whether accounts are valued on the same terms: all but indices, rates and what keeps a call from being let through.
    pub(crate) fn has_terms_of(&self, other: &Self) -> bool {
        let terms = |reserve: &Self| {
            let Self { id, asset, decimals, liquidation_threshold, e_mode_category, .. } = *reserve;
            (id, asset, decimals, liquidation_threshold, e_mode_category)
        };
        terms(self) == terms(other)
    }

    /// The variable borrow index that an update at this time stores. V2 moves it only while suppliers earn something
    /// (`ReserveLogic._updateIndexes`), although balances go by the normalized one.
    pub(crate) fn updated_borrow_index(
        &self,
        revision: Revision,
        timestamp: u64,
    ) -> Result<U256, LendingError> {
        if revision == Revision::V2 && (self.liquidity_rate.is_zero() || self.scaled_variable_debt.is_zero())
        {
            return Ok(self.variable_borrow_index);
        }
        self.normalized_debt(revision, timestamp)
    }

    /// Smallest units in one token.
    pub(crate) fn unit(&self) -> Result<U256, LendingError> {
        U256::from(10).checked_pow(U256::from(self.decimals)).ok_or(LendingError::Arithmetic)
    }

    fn elapsed(&self, timestamp: u64) -> Result<u64, LendingError> {
        let Self { id, last_update, .. } = *self;
        timestamp.checked_sub(last_update).ok_or(LendingError::BeforeLastUpdate {
            reserve: id,
            last_update,
            timestamp,
        })
    }
}

impl StableDebt {
    /// What it has grown to (`StableDebtToken.balanceOf`).
    pub(crate) fn balance(&self, revision: Revision, timestamp: u64) -> Result<U256, LendingError> {
        if self.principal.is_zero() {
            return Ok(U256::ZERO);
        }
        let elapsed = timestamp.checked_sub(self.last_update).ok_or(LendingError::Arithmetic)?;
        ray_mul(self.principal, interest::compounded(revision, self.rate, elapsed)?, Rounding::Nearest)
    }
}

impl Holding {
    /// Nothing, in this reserve.
    pub const fn none(reserve: ReserveId) -> Self {
        let stable_debt = StableDebt { principal: U256::ZERO, rate: U256::ZERO, last_update: 0 };
        Self { reserve, scaled_supply: U256::ZERO, scaled_debt: U256::ZERO, stable_debt, collateral: false }
    }

    /// Whether anything is owed.
    pub fn owes(&self) -> bool {
        !self.scaled_debt.is_zero() || !self.stable_debt.principal.is_zero()
    }

    fn is_none(&self) -> bool {
        *self == Self::none(self.reserve)
    }
}

impl Position {
    /// Without holdings, in this e-mode category; zero for none.
    pub const fn new(e_mode: u8) -> Self {
        Self { e_mode, holdings: Vec::new() }
    }

    /// In the order of the reserves.
    pub fn holdings(&self) -> &[Holding] {
        &self.holdings
    }

    /// In one reserve; nothing where there is nothing.
    pub fn holding(&self, reserve: ReserveId) -> Holding {
        match self.place(reserve) {
            Ok(place) => self.holdings[place],
            Err(_) => Holding::none(reserve),
        }
    }

    /// Puts a holding in the place of the one in the same reserve.
    pub fn set_holding(&mut self, holding: Holding) {
        match (self.place(holding.reserve), holding.is_none()) {
            (Ok(place), true) => drop(self.holdings.remove(place)),
            (Ok(place), false) => self.holdings[place] = holding,
            (Err(_), true) => {}
            (Err(place), false) => self.holdings.insert(place, holding),
        }
    }

    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.e_mode == 0 && self.holdings.is_empty()
    }

    fn place(&self, reserve: ReserveId) -> Result<usize, usize> {
        self.holdings.binary_search_by_key(&reserve, |holding| holding.reserve)
    }
}
