//! What a liquidation call takes and gives (`LiquidationLogic.executeLiquidationCall`), and whether it is let through
//! (`ValidationLogic.validateLiquidationCall`); in V2 both stand in `LendingPoolCollateralManager.liquidationCall`.

use alloy_primitives::{Address, U256, uint};

use crate::math::{
    RAY, Rounding, WAD, add, div, mul, mul_div, percent_div, percent_mul, ray_div, ray_mul, sub,
};
use crate::{AccountData, Holding, LendingError, Market, Position, Refusal, Reserve, ReserveId, Revision};

/// Above it only half is closed (`LiquidationLogic.CLOSE_FACTOR_HF_THRESHOLD`). Wads.
const CLOSE_FACTOR_THRESHOLD: U256 = uint!(950_000_000_000_000_000_U256);
/// `LiquidationLogic.DEFAULT_LIQUIDATION_CLOSE_FACTOR`, basis points.
const DEFAULT_CLOSE_FACTOR: u16 = 5_000;
/// Below it everything is closed (`LiquidationLogic.MIN_BASE_MAX_CLOSE_FACTOR_THRESHOLD`, from 3.3 on). Base currency.
const SMALL_SIDE: U256 = uint!(200_000_000_000_U256);
/// What has to remain on either side (`LiquidationLogic.MIN_LEFTOVER_BASE`, from 3.3 on). Base currency.
const MIN_LEFTOVER: U256 = uint!(100_000_000_000_U256);
/// Below it the sentinel has no say (`ValidationLogic.MINIMUM_HEALTH_FACTOR_LIQUIDATION_THRESHOLD`). Wads.
const SENTINEL_THRESHOLD: U256 = CLOSE_FACTOR_THRESHOLD;

/// Which collateral is taken for which debt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    /// Seized.
    pub collateral: ReserveId,
    /// Repaid.
    pub debt: ReserveId,
}

/// `Pool.liquidationCall`, with the one who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiquidationCall {
    /// Whose debt.
    pub borrower: Address,
    /// Who pays it.
    pub liquidator: Address,
    /// What for what.
    pub pair: Pair,
    /// Smallest units of the debt; more than is allowed means all that is allowed.
    pub debt_to_cover: U256,
    /// Whether the collateral stays in the pool.
    pub receive_a_token: bool,
}

/// What a liquidation call does, in smallest units.
///
/// It goes through if the liquidator has `debt_repaid` and the pool has `collateral_to_liquidator` at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liquidation {
    /// What the liquidator pays.
    pub debt_repaid: U256,
    /// What the liquidator receives.
    pub collateral_to_liquidator: U256,
    /// The same as the supply token counts it.
    pub scaled_to_liquidator: U256,
    /// What the treasury receives, as supply in the pool.
    pub protocol_fee: U256,
    /// The same as the supply token counts it.
    pub scaled_protocol_fee: U256,
    /// What is written off of this debt, because no collateral is left (from 3.3 on).
    pub deficit: U256,
    /// Whether the collateral's balance was what limited it.
    pub collateral_capped: bool,
    /// Whether nothing of this debt is left.
    pub debt_cleared: bool,
    /// Of the account before the call.
    pub health_factor: U256,
}

/// Everything about an account that its liquidation depends on.
struct Case<'a> {
    revision: Revision,
    account: AccountData,
    collateral: &'a Reserve,
    collateral_holding: Holding,
    collateral_index: U256,
    collateral_balance: U256,
    collateral_unit: U256,
    collateral_price: U256,
    /// As the debt is burned by.
    debt_index: U256,
    scaled_debt: U256,
    variable_debt: U256,
    total_debt: U256,
    debt_unit: U256,
    debt_price: U256,
    liquidation_bonus: u16,
}

/// `LiquidationLogic._calculateAvailableCollateralToLiquidate`.
struct Amounts {
    debt: U256,
    /// Without the fee.
    collateral: U256,
    fee: U256,
    /// Base currency, with the fee.
    collateral_worth: U256,
    capped: bool,
}

impl Market {
    /// What a call does at this time.
    ///
    /// # Errors
    /// Why the contract would refuse it.
    pub fn liquidate(&self, call: &LiquidationCall, timestamp: u64) -> Result<Liquidation, Refusal> {
        let case = self.case(call, timestamp)?;
        case.carry_out(call.debt_to_cover, call.receive_a_token)
    }

    /// The greatest call that goes through, whatever its `debt_to_cover` says, and what it does. The bonus is a share of
    /// what is repaid, so that the greatest is the best.
    ///
    /// # Errors
    /// Why the contract would refuse every amount.
    pub fn best_liquidation(
        &self,
        call: &LiquidationCall,
        timestamp: u64,
    ) -> Result<(LiquidationCall, Liquidation), Refusal> {
        let case = self.case(call, timestamp)?;
        let debt_to_cover = case.best_cover()?;
        let liquidation = case.carry_out(debt_to_cover, call.receive_a_token)?;
        Ok((LiquidationCall { debt_to_cover, ..*call }, liquidation))
    }

    /// Everything that can be known before an amount is named; refuses what is refused for any amount.
    fn case(&self, call: &LiquidationCall, timestamp: u64) -> Result<Case<'_>, Refusal> {
        if self.paused {
            return Err(Refusal::PoolPaused);
        }
        let empty = Position::default();
        let position = self.position(call.borrower).unwrap_or(&empty);
        let collateral = self.reserve(call.pair.collateral)?;
        let debt = self.reserve(call.pair.debt)?;
        let account = self.position_data(position, timestamp)?;
        let collateral_holding = position.holding(collateral.id);
        let debt_holding = position.holding(debt.id);
        let total_debt = self.total_debt(debt, &debt_holding, timestamp)?;
        if self.revision() == Revision::V3_6 && call.liquidator == call.borrower {
            return Err(Refusal::SelfLiquidation);
        }
        self.validate(collateral, debt, &account, timestamp)?;
        if !self.counts_as_collateral(collateral, &collateral_holding) {
            return Err(Refusal::CollateralCannotBeLiquidated);
        }
        if total_debt.is_zero() {
            return Err(Refusal::NotBorrowed);
        }
        let (collateral_source, debt_source) = self.price_sources(position.e_mode, collateral, debt);
        let collateral_index = collateral.normalized_income(timestamp)?;
        Ok(Case {
            revision: self.revision(),
            account,
            collateral,
            collateral_holding,
            collateral_index,
            collateral_balance: self
                .revision()
                .supply_balance(collateral_holding.scaled_supply, collateral_index)?,
            collateral_unit: collateral.unit()?,
            collateral_price: self.price(collateral_source)?,
            debt_index: debt.updated_borrow_index(self.revision(), timestamp)?,
            scaled_debt: debt_holding.scaled_debt,
            variable_debt: self.variable_debt(debt, &debt_holding, timestamp)?,
            total_debt,
            debt_unit: debt.unit()?,
            debt_price: self.price(debt_source)?,
            liquidation_bonus: self.liquidation_bonus(position.e_mode, collateral),
        })
    }

    fn validate(
        &self,
        collateral: &Reserve,
        debt: &Reserve,
        account: &AccountData,
        timestamp: u64,
    ) -> Result<(), Refusal> {
        if !collateral.active || !debt.active {
            return Err(Refusal::ReserveInactive);
        }
        if collateral.paused || debt.paused {
            return Err(Refusal::ReservePaused);
        }
        if !self.liquidation_allowed && account.health_factor >= SENTINEL_THRESHOLD {
            return Err(Refusal::PriceOracleSentinel);
        }
        let until = collateral.grace_period_until.max(debt.grace_period_until);
        if self.revision() == Revision::V3_6 && until >= timestamp {
            return Err(Refusal::GracePeriod { until });
        }
        if account.health_factor >= WAD {
            return Err(Refusal::HealthFactorNotBelowThreshold(account.health_factor));
        }
        Ok(())
    }

    /// `LiquidationLogic._getConfigurationData` in 3.0: a category's price replaces that of the debt whatever the debt
    /// is, and that of a collateral which is in the category.
    fn price_sources(&self, e_mode: u8, collateral: &Reserve, debt: &Reserve) -> (Address, Address) {
        let Some(source) = self.category_source(e_mode) else { return (collateral.asset, debt.asset) };
        let in_category = self.e_mode_terms(e_mode, collateral).is_some();
        (if in_category { source } else { collateral.asset }, source)
    }
}

impl Case<'_> {
    /// `LiquidationLogic._calculateDebt` in 3.0, the middle of `executeLiquidationCall` in 3.6.
    fn max_cover(&self) -> Result<U256, LendingError> {
        let healthy = self.account.health_factor > CLOSE_FACTOR_THRESHOLD;
        match self.revision {
            Revision::V2 => percent_mul(self.total_debt, DEFAULT_CLOSE_FACTOR, Rounding::Nearest),
            Revision::V3_0 if healthy => {
                percent_mul(self.total_debt, DEFAULT_CLOSE_FACTOR, Rounding::Nearest)
            }
            Revision::V3_0 => Ok(self.total_debt),
            Revision::V3_6 => {
                let debt_worth = self.debt_worth(self.total_debt)?;
                let collateral_worth = self.collateral_worth(self.collateral_balance)?;
                let half = percent_mul(self.account.total_debt, DEFAULT_CLOSE_FACTOR, Rounding::Nearest)?;
                let limited = healthy && collateral_worth >= SMALL_SIDE && debt_worth >= SMALL_SIDE;
                if limited && debt_worth > half {
                    mul_div(half, self.debt_unit, self.debt_price, Rounding::Down)
                } else {
                    Ok(self.total_debt)
                }
            }
        }
    }

    /// The greatest amount that leaves no dust. Both leftovers shrink as the amount grows, so that halving finds it.
    fn best_cover(&self) -> Result<U256, LendingError> {
        let max = self.burnable(self.max_cover()?)?;
        if !self.leaves_dust(&self.amounts(max)?)? {
            return Ok(max);
        }
        let (mut clean, mut dusty) = (U256::ZERO, max);
        while dusty - clean > U256::ONE {
            let middle = clean + ((dusty - clean) >> 1);
            if self.leaves_dust(&self.amounts(middle)?)? { dusty = middle } else { clean = middle }
        }
        Ok(clean)
    }

    /// In V2 no more than what burns the variable debt that there is, where its index has not grown with the balance.
    fn burnable(&self, cover: U256) -> Result<U256, LendingError> {
        if self.revision != Revision::V2 {
            return Ok(cover);
        }
        let burned = self.amounts(cover)?.debt.min(self.variable_debt);
        if self.revision.scaled_debt_repaid(burned, self.debt_index)? <= self.scaled_debt {
            return Ok(cover);
        }
        // The greatest amount that is rounded to the scaled debt; half a unit goes up.
        let half = self.debt_index.div_ceil(U256::from(2));
        div(add(mul(self.scaled_debt, self.debt_index)?, half)? - U256::ONE, RAY, Rounding::Down)
    }

    fn carry_out(&self, debt_to_cover: U256, receive_a_token: bool) -> Result<Liquidation, Refusal> {
        let amounts = self.amounts(debt_to_cover.min(self.max_cover()?))?;
        if self.leaves_dust(&amounts)? {
            return Err(Refusal::MustNotLeaveDust);
        }
        let outstanding = sub(self.total_debt, amounts.debt)?;
        let no_collateral_left =
            self.revision == Revision::V3_6 && amounts.collateral_worth == self.account.total_collateral;
        let burned = if no_collateral_left { self.total_debt } else { amounts.debt };
        self.check_debt_burn(burned)?;
        let scaled = self.revision.scaled_supply_taken(amounts.collateral, self.collateral_index)?;
        if scaled.is_zero() && !receive_a_token {
            return Err(Refusal::InvalidBurnAmount);
        }
        let left = sub(self.collateral_holding.scaled_supply, scaled)?;
        let (protocol_fee, scaled_protocol_fee) = self.fee(amounts.fee, left)?;
        Ok(Liquidation {
            debt_repaid: amounts.debt,
            collateral_to_liquidator: amounts.collateral,
            scaled_to_liquidator: scaled,
            protocol_fee,
            scaled_protocol_fee,
            deficit: if no_collateral_left { outstanding } else { U256::ZERO },
            collateral_capped: amounts.capped,
            debt_cleared: outstanding.is_zero() || no_collateral_left,
            health_factor: self.account.health_factor,
        })
    }

    fn amounts(&self, cover: U256) -> Result<Amounts, LendingError> {
        let bonus = self.liquidation_bonus;
        let worth_of_debt = mul(mul(self.debt_price, cover)?, self.collateral_unit)?;
        let worth_of_one = mul(self.collateral_price, self.debt_unit)?;
        let wanted = match self.revision {
            Revision::V2 => {
                div(percent_mul(worth_of_debt, bonus, Rounding::Nearest)?, worth_of_one, Rounding::Down)?
            }
            Revision::V3_0 | Revision::V3_6 => {
                let base = div(worth_of_debt, worth_of_one, Rounding::Down)?;
                percent_mul(base, bonus, Rounding::Nearest)?
            }
        };
        let capped = wanted > self.collateral_balance;
        let (seized, debt) = match capped {
            true => (self.collateral_balance, self.debt_for_all_collateral()?),
            false => (wanted, cover),
        };
        // Rounded up it may be more than was asked for, which V2 never takes.
        let debt = if self.revision == Revision::V2 { debt.min(cover) } else { debt };
        let fee = self.protocol_share(seized)?;
        Ok(Amounts {
            debt,
            collateral: sub(seized, fee)?,
            fee,
            collateral_worth: self.collateral_worth(seized)?,
            capped,
        })
    }

    fn debt_for_all_collateral(&self) -> Result<U256, LendingError> {
        let worth = mul(mul(self.collateral_price, self.collateral_balance)?, self.debt_unit)?;
        let whole = mul_div(worth, U256::ONE, mul(self.debt_price, self.collateral_unit)?, Rounding::Down)?;
        let rounding = match self.revision {
            Revision::V2 | Revision::V3_0 => Rounding::Nearest,
            Revision::V3_6 => Rounding::Up,
        };
        percent_div(whole, self.liquidation_bonus, rounding)
    }

    fn protocol_share(&self, seized: U256) -> Result<U256, LendingError> {
        let share = self.collateral.liquidation_protocol_fee;
        if share == 0 {
            return Ok(U256::ZERO);
        }
        let without_bonus = percent_div(seized, self.liquidation_bonus, Rounding::Nearest)?;
        percent_mul(sub(seized, without_bonus)?, share, Rounding::Nearest)
    }

    fn leaves_dust(&self, amounts: &Amounts) -> Result<bool, LendingError> {
        let seized = add(amounts.collateral, amounts.fee)?;
        let clears = amounts.debt >= self.total_debt || seized >= self.collateral_balance;
        if self.revision != Revision::V3_6 || clears {
            return Ok(false);
        }
        let debt_left = self.debt_worth(self.total_debt - amounts.debt)?;
        let collateral_left = self.collateral_worth(self.collateral_balance - seized)?;
        Ok(debt_left < MIN_LEFTOVER || collateral_left < MIN_LEFTOVER)
    }

    /// `VariableDebtToken.burn` takes nothing that rounds to nothing; what exceeds the variable debt is stable debt.
    fn check_debt_burn(&self, burned: U256) -> Result<(), Refusal> {
        if burned <= self.variable_debt {
            let scaled = self.revision.scaled_debt_repaid(burned, self.debt_index)?;
            if scaled.is_zero() {
                return Err(Refusal::InvalidBurnAmount);
            }
            if self.revision == Revision::V2 && scaled > self.scaled_debt {
                return Err(LendingError::Arithmetic.into());
            }
        } else if self.revision == Revision::V2
            && self.revision.scaled_debt_repaid(self.variable_debt, self.debt_index)? > self.scaled_debt
        {
            // The whole variable debt, at an index that has not grown with it.
            return Err(LendingError::Arithmetic.into());
        } else if burned > self.total_debt {
            return Err(LendingError::Arithmetic.into());
        }
        Ok(())
    }

    /// The treasury's share is cut to what is left of the scaled balance.
    fn fee(&self, fee: U256, left: U256) -> Result<(U256, U256), LendingError> {
        if fee.is_zero() {
            return Ok((fee, fee));
        }
        let scaled = self.revision.scaled_supply_taken(fee, self.collateral_index)?;
        match self.revision {
            _ if scaled <= left => Ok((fee, scaled)),
            Revision::V2 | Revision::V3_0 => {
                let fee = ray_mul(left, self.collateral_index, Rounding::Nearest)?;
                Ok((fee, ray_div(fee, self.collateral_index, Rounding::Nearest)?))
            }
            Revision::V3_6 => Ok((self.revision.supply_balance(left, self.collateral_index)?, left)),
        }
    }

    /// Base currency, rounded up as 3.6 does.
    fn debt_worth(&self, owed: U256) -> Result<U256, LendingError> {
        mul_div(owed, self.debt_price, self.debt_unit, Rounding::Up)
    }

    /// Base currency.
    fn collateral_worth(&self, amount: U256) -> Result<U256, LendingError> {
        mul_div(amount, self.collateral_price, self.collateral_unit, Rounding::Down)
    }
}
