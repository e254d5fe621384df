//! What an account has, owes and may (`GenericLogic.calculateUserAccountData`, `Pool.getUserAccountData`).

use alloy_primitives::{Address, U256};

use crate::math::{PERCENTAGE_FACTOR, Rounding, WAD, add, div, mul, mul_div, percent_mul};
use crate::{Holding, LendingError, Market, Position, Reserve, Revision};

/// The six numbers of `Pool.getUserAccountData`, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountData {
    /// Base currency, usually 8 decimals; ether, with 18, in V2.
    pub total_collateral: U256,
    /// Base currency.
    pub total_debt: U256,
    /// Base currency.
    pub available_borrows: U256,
    /// Basis points, the average over the collateral.
    pub liquidation_threshold: U256,
    /// Basis points, the average over the collateral.
    pub ltv: U256,
    /// Wads; all ones without a debt.
    pub health_factor: U256,
}

#[derive(Default)]
struct Totals {
    collateral: U256,
    debt: U256,
    /// Base currency times basis points.
    weighted_ltv: U256,
    /// Base currency times basis points.
    weighted_threshold: U256,
}

impl AccountData {
    /// Whether the account may be liquidated as far as its health goes.
    pub fn is_below_threshold(&self) -> bool {
        self.health_factor < WAD
    }

    const NOTHING: Self = Self {
        total_collateral: U256::ZERO,
        total_debt: U256::ZERO,
        available_borrows: U256::ZERO,
        liquidation_threshold: U256::ZERO,
        ltv: U256::ZERO,
        health_factor: U256::MAX,
    };
}

impl Market {
    /// What `getUserAccountData` says of an account at this time. An account that was never seen has nothing.
    ///
    /// # Errors
    /// A price that is missing, a time before a reserve's last update, numbers that the contract reverts on.
    pub fn account_data(&self, account: Address, timestamp: u64) -> Result<AccountData, LendingError> {
        match self.position(account) {
            Some(position) => self.position_data(position, timestamp),
            None => Ok(AccountData::NOTHING),
        }
    }

    pub(crate) fn position_data(
        &self,
        position: &Position,
        timestamp: u64,
    ) -> Result<AccountData, LendingError> {
        let mut totals = Totals::default();
        for holding in position.holdings().iter().filter(|holding| holding.collateral || holding.owes()) {
            // A place that was emptied is passed over, as the contract does.
            if let Some(reserve) = self.listed(holding.reserve) {
                self.add_holding(&mut totals, position.e_mode, reserve, holding, timestamp)?;
            }
        }
        totals.account_data(self.revision())
    }

    fn add_holding(
        &self,
        totals: &mut Totals,
        e_mode: u8,
        reserve: &Reserve,
        holding: &Holding,
        timestamp: u64,
    ) -> Result<(), LendingError> {
        let price = self.price(self.price_source(e_mode, reserve)?)?;
        if self.counts_as_collateral(reserve, holding) {
            let index = reserve.normalized_income(timestamp)?;
            let balance = self.revision().supply_balance(holding.scaled_supply, index)?;
            let worth = mul_div(balance, price, reserve.unit()?, Rounding::Down)?;
            totals.collateral = add(totals.collateral, worth)?;
            let ltv = mul(worth, U256::from(self.ltv(e_mode, reserve)))?;
            totals.weighted_ltv = add(totals.weighted_ltv, ltv)?;
            let threshold = mul(worth, U256::from(self.liquidation_threshold(e_mode, reserve)))?;
            totals.weighted_threshold = add(totals.weighted_threshold, threshold)?;
        }
        if holding.owes() {
            let owed = self.total_debt(reserve, holding, timestamp)?;
            totals.debt = add(totals.debt, self.debt_worth(reserve, owed, price)?)?;
        }
        Ok(())
    }

    /// A reserve without a threshold counts nothing up to 3.0; later its worth still weighs on the averages.
    pub(crate) fn counts_as_collateral(&self, reserve: &Reserve, holding: &Holding) -> bool {
        holding.collateral && (self.revision() == Revision::V3_6 || reserve.liquidation_threshold != 0)
    }

    /// Basis points.
    pub(crate) fn liquidation_threshold(&self, e_mode: u8, reserve: &Reserve) -> u16 {
        self.e_mode_terms(e_mode, reserve)
            .map_or(reserve.liquidation_threshold, |category| category.liquidation_threshold)
    }

    /// Basis points, the whole included.
    pub(crate) fn liquidation_bonus(&self, e_mode: u8, reserve: &Reserve) -> u16 {
        self.e_mode_terms(e_mode, reserve)
            .map_or(reserve.liquidation_bonus, |category| category.liquidation_bonus)
    }

    /// Basis points (`ValidationLogic.getUserReserveLtv` in 3.6).
    pub(crate) fn ltv(&self, e_mode: u8, reserve: &Reserve) -> u16 {
        let Some(category) = self.e_mode_terms(e_mode, reserve) else { return reserve.ltv };
        let is_zero = match self.revision() {
            Revision::V2 | Revision::V3_0 => reserve.ltv == 0,
            Revision::V3_6 => category.ltv_zero_bitmap & reserve.id.bit() != 0,
        };
        if is_zero { 0 } else { category.ltv }
    }

    /// Smallest units, at both rates.
    pub(crate) fn total_debt(
        &self,
        reserve: &Reserve,
        holding: &Holding,
        timestamp: u64,
    ) -> Result<U256, LendingError> {
        let variable = self.variable_debt(reserve, holding, timestamp)?;
        add(variable, holding.stable_debt.balance(self.revision(), timestamp)?)
    }

    pub(crate) fn variable_debt(
        &self,
        reserve: &Reserve,
        holding: &Holding,
        timestamp: u64,
    ) -> Result<U256, LendingError> {
        if holding.scaled_debt.is_zero() {
            return Ok(U256::ZERO);
        }
        let index = reserve.normalized_debt(self.revision(), timestamp)?;
        self.revision().debt_balance(holding.scaled_debt, index)
    }

    /// Base currency (`GenericLogic._getUserDebtInBaseCurrency`).
    pub(crate) fn debt_worth(
        &self,
        reserve: &Reserve,
        owed: U256,
        price: U256,
    ) -> Result<U256, LendingError> {
        let rounding = match self.revision() {
            Revision::V2 | Revision::V3_0 => Rounding::Down,
            Revision::V3_6 => Rounding::Up,
        };
        mul_div(owed, price, reserve.unit()?, rounding)
    }
}

impl Totals {
    fn account_data(&self, revision: Revision) -> Result<AccountData, LendingError> {
        let Self { collateral, debt, weighted_ltv, weighted_threshold } = *self;
        let average = |weighted: U256| weighted.checked_div(collateral).unwrap_or(U256::ZERO);
        let (ltv, threshold) = (average(weighted_ltv), average(weighted_threshold));
        let health_factor = match revision {
            _ if debt.is_zero() => U256::MAX,
            Revision::V2 | Revision::V3_0 => {
                let weighed = mul_div(collateral, threshold, PERCENTAGE_FACTOR, Rounding::Nearest)?;
                mul_div(weighed, WAD, debt, Rounding::Nearest)?
            }
            Revision::V3_6 => {
                let weighed = mul_div(weighted_threshold, WAD, debt, Rounding::Nearest)?;
                div(weighed, PERCENTAGE_FACTOR, Rounding::Down)?
            }
        };
        Ok(AccountData {
            total_collateral: collateral,
            total_debt: debt,
            available_borrows: available_borrows(revision, collateral, debt, ltv)?,
            liquidation_threshold: threshold,
            ltv,
            health_factor,
        })
    }
}

/// `GenericLogic.calculateAvailableBorrows`.
fn available_borrows(
    revision: Revision,
    collateral: U256,
    debt: U256,
    ltv: U256,
) -> Result<U256, LendingError> {
    let rounding = match revision {
        Revision::V2 | Revision::V3_0 => Rounding::Nearest,
        Revision::V3_6 => Rounding::Down,
    };
    // An average of basis points is one of them.
    let ltv = u16::try_from(ltv).map_err(|_| LendingError::Arithmetic)?;
    Ok(percent_mul(collateral, ltv, rounding)?.saturating_sub(debt))
}
