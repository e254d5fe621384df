//! Following the protocol by its events, each of which can be taken back.

use std::sync::Arc;

use alloy_primitives::{Address, U256};
use serde::{Deserialize, Serialize};

use crate::event::{LendingEvent, Rates, Scaling, StableSupply};
use crate::math::{Rounding, add, ray_div, sub};
use crate::{
    EModeCategory, Holding, LendingError, Market, Position, Reserve, ReserveId, Revision, StableDebt,
};

/// What an event has replaced; [`Market::revert`] puts it back. Undo records are reverted last first.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[must_use = "without it the event cannot be taken back"]
pub struct Undo(Vec<Before>);

/// Whose distance to liquidation an event has changed, beside what prices and indices do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// One account's.
    Account(Address),
    /// Possibly everybody's: terms have changed.
    Everyone,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Before {
    Reserve(ReserveId, Option<Arc<Reserve>>),
    /// As before, but thresholds or membership changed.
    Terms(ReserveId, Option<Arc<Reserve>>),
    Position(Address, Option<Arc<Position>>),
    Category(u8, Option<EModeCategory>),
    Price(Address, Option<U256>),
    LiquidationAllowed(bool),
    PoolPaused(bool),
    StableSupply(ReserveId, Option<StableDebt>),
}

/// Which balance a token keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Supply,
    Debt,
}

impl Undo {
    /// What has to be looked at again, after the event and after it was taken back.
    pub fn touches(&self) -> impl Iterator<Item = Touch> {
        self.0.iter().filter_map(|before| match before {
            Before::Position(account, _) => Some(Touch::Account(*account)),
            Before::Terms(..) | Before::Category(..) => Some(Touch::Everyone),
            Before::Reserve(..)
            | Before::Price(..)
            | Before::LiquidationAllowed(_)
            | Before::PoolPaused(_)
            | Before::StableSupply(..) => None,
        })
    }
}

impl Market {
    /// Follows one event of a block of this time.
    ///
    /// # Errors
    /// An event of something that was not loaded, that the revision does not have, or that does not follow from what is
    /// held. Then nothing has changed.
    pub fn apply(&mut self, event: &LendingEvent, timestamp: u64) -> Result<Undo, LendingError> {
        let mut undo = Undo::default();
        let followed = self.follow(event, timestamp, &mut undo);
        match followed {
            Ok(()) => Ok(undo),
            Err(error) => {
                self.revert(undo);
                Err(error)
            }
        }
    }

    /// Takes back the event that left this record, which has to be the last one that was not taken back.
    pub fn revert(&mut self, undo: Undo) {
        for before in undo.0.into_iter().rev() {
            self.restore(before);
        }
    }

    fn restore(&mut self, before: Before) {
        match before {
            Before::Reserve(id, reserve) | Before::Terms(id, reserve) => {
                // It was there before, so its place exists.
                let _ = self.put_reserve(id, reserve);
            }
            Before::Position(account, position) => self.put_position(account, position),
            Before::Category(id, Some(category)) => drop(self.categories.insert(id, category)),
            Before::Category(id, None) => drop(self.categories.remove(&id)),
            Before::Price(source, Some(price)) => drop(self.prices.insert(source, price)),
            Before::Price(source, None) => drop(self.prices.remove(&source)),
            Before::LiquidationAllowed(allowed) => self.liquidation_allowed = allowed,
            Before::PoolPaused(paused) => self.paused = paused,
            Before::StableSupply(reserve, supply) => self.put_stable_supply(reserve, supply),
        }
    }

    fn follow(&mut self, event: &LendingEvent, timestamp: u64, undo: &mut Undo) -> Result<(), LendingError> {
        match event {
            LendingEvent::ReserveDataUpdated(rates) => self.update_rates(rates, timestamp, undo),
            LendingEvent::SupplyMinted(scaling) => self.scale(scaling, Side::Supply, true, undo),
            LendingEvent::SupplyBurned(scaling) => self.scale(scaling, Side::Supply, false, undo),
            LendingEvent::DebtMinted(scaling) => self.scale(scaling, Side::Debt, true, undo),
            LendingEvent::DebtBurned(scaling) => self.scale(scaling, Side::Debt, false, undo),
            LendingEvent::SupplyTransferred { reserve, from, to, value } => {
                let scaled = self.scaled_transfer(*reserve, *value, timestamp)?;
                self.transfer(*reserve, *from, *to, scaled, undo)
            }
            LendingEvent::StableDebtMinted {
                reserve,
                account,
                amount,
                balance_increase,
                new_rate,
                supply,
            } => {
                self.only_in(&[Revision::V2, Revision::V3_0], "stable debt")?;
                let missed = LendingError::DoesNotFollow { reserve: *reserve, account: *account };
                let is_loan = self.is_loan(*reserve, *amount, supply, timestamp)?.ok_or(missed)?;
                let added = if is_loan { add(*amount, *balance_increase)? } else { *amount };
                self.follow_stable_supply(*reserve, supply, is_loan, timestamp, undo);
                self.change_holding(*reserve, *account, undo, |holding| {
                    holding.stable_debt.principal = add(holding.stable_debt.principal, added)?;
                    holding.stable_debt.rate = *new_rate;
                    holding.stable_debt.last_update = timestamp;
                    Ok(())
                })
            }
            LendingEvent::StableDebtBurned { reserve, account, amount, supply } => {
                self.only_in(&[Revision::V2, Revision::V3_0], "stable debt")?;
                let missed = LendingError::DoesNotFollow { reserve: *reserve, account: *account };
                self.follow_stable_supply(*reserve, supply, false, timestamp, undo);
                self.change_holding(*reserve, *account, undo, |holding| {
                    let stable = &mut holding.stable_debt;
                    stable.principal = sub(stable.principal, *amount).map_err(|_| missed)?;
                    stable.last_update = timestamp;
                    if stable.principal.is_zero() {
                        *stable = Default::default();
                    }
                    Ok(())
                })
            }
            LendingEvent::CollateralUseChanged { reserve, account, enabled } => {
                self.change_holding(*reserve, *account, undo, |holding| {
                    holding.collateral = *enabled;
                    Ok(())
                })
            }
            LendingEvent::EModeSet { account, category } => {
                self.change_position(*account, undo, |position| {
                    position.e_mode = *category;
                    Ok(())
                })
            }
            LendingEvent::Liquidated { collateral, receive_a_token } => {
                self.accrue_silently(*collateral, *receive_a_token, timestamp, undo)
            }
            LendingEvent::PriceChanged { source, price } => {
                undo.0.push(Before::Price(*source, self.prices.insert(*source, *price)));
                Ok(())
            }
            LendingEvent::LiquidationAllowed(allowed) => {
                undo.0.push(Before::LiquidationAllowed(self.liquidation_allowed));
                self.liquidation_allowed = *allowed;
                Ok(())
            }
            LendingEvent::PoolPaused(paused) => {
                self.only_in(&[Revision::V2], "pause of the whole pool")?;
                undo.0.push(Before::PoolPaused(self.paused));
                self.paused = *paused;
                Ok(())
            }
            terms => self.configure(terms, undo),
        }
    }

    /// What governance and guardians do.
    fn configure(&mut self, event: &LendingEvent, undo: &mut Undo) -> Result<(), LendingError> {
        match event {
            LendingEvent::ReserveListed(reserve) => {
                self.replace_terms(reserve.id, Some(Arc::new((**reserve).clone())), undo)
            }
            LendingEvent::ReserveDropped(id) => self.replace_terms(*id, None, undo),
            LendingEvent::CollateralConfigurationChanged(terms) => {
                let mut reserve = self.reserve(terms.reserve)?.clone();
                reserve.ltv = terms.ltv;
                reserve.liquidation_threshold = terms.liquidation_threshold;
                reserve.liquidation_bonus = terms.liquidation_bonus;
                self.replace_terms(terms.reserve, Some(Arc::new(reserve)), undo)
            }
            LendingEvent::EModeAssetCategoryChanged { reserve, category } => {
                self.only_in(&[Revision::V3_0], "e-mode category per asset")?;
                let mut changed = self.reserve(*reserve)?.clone();
                changed.e_mode_category = *category;
                self.replace_terms(*reserve, Some(Arc::new(changed)), undo)
            }
            LendingEvent::LiquidationProtocolFeeChanged { reserve, fee } => {
                self.change_reserve(*reserve, undo, |reserve| reserve.liquidation_protocol_fee = *fee)
            }
            LendingEvent::ReserveActive(reserve, active) => {
                self.change_reserve(*reserve, undo, |reserve| reserve.active = *active)
            }
            LendingEvent::ReserveFrozen(reserve, frozen) => {
                self.change_reserve(*reserve, undo, |reserve| reserve.frozen = *frozen)
            }
            LendingEvent::ReservePaused(reserve, paused) => {
                self.change_reserve(*reserve, undo, |reserve| reserve.paused = *paused)
            }
            LendingEvent::GracePeriodChanged { reserve, until } => {
                self.only_in(&[Revision::V3_6], "grace period per reserve")?;
                self.change_reserve(*reserve, undo, |reserve| reserve.grace_period_until = *until)
            }
            LendingEvent::EModeCategoryAdded(id, terms) => {
                let EModeCategory { collateral_bitmap, ltv_zero_bitmap, .. } = self.category_or_none(*id);
                self.replace_category(
                    *id,
                    EModeCategory { collateral_bitmap, ltv_zero_bitmap, ..*terms },
                    undo,
                )
            }
            LendingEvent::AssetCollateralInEModeChanged { reserve, category, collateral } => {
                self.only_in(&[Revision::V3_6], "bitmap of a category")?;
                let mut changed = self.category_or_none(*category);
                set_bit(&mut changed.collateral_bitmap, *reserve, *collateral);
                self.replace_category(*category, changed, undo)
            }
            LendingEvent::AssetLtvZeroInEModeChanged { reserve, category, ltv_zero } => {
                self.only_in(&[Revision::V3_6], "bitmap of a category")?;
                let mut changed = self.category_or_none(*category);
                set_bit(&mut changed.ltv_zero_bitmap, *reserve, *ltv_zero);
                self.replace_category(*category, changed, undo)
            }
            // Everything else is what accounts, time and prices do.
            _ => Ok(()),
        }
    }

    fn update_rates(&mut self, rates: &Rates, timestamp: u64, undo: &mut Undo) -> Result<(), LendingError> {
        self.change_reserve(rates.reserve, undo, |reserve| {
            reserve.liquidity_rate = rates.liquidity_rate;
            reserve.variable_borrow_rate = rates.variable_borrow_rate;
            reserve.liquidity_index = rates.liquidity_index;
            reserve.variable_borrow_index = rates.variable_borrow_index;
            reserve.last_update = timestamp;
        })
    }

    /// From 3.1 on both reserves of a liquidation accrue, but only those whose rates change say so.
    fn accrue_silently(
        &mut self,
        collateral: ReserveId,
        receive_a_token: bool,
        timestamp: u64,
        undo: &mut Undo,
    ) -> Result<(), LendingError> {
        let revision = self.revision();
        if revision != Revision::V3_6 || !receive_a_token {
            return Ok(());
        }
        let mut reserve = self.reserve(collateral)?.clone();
        reserve.accrue(revision, timestamp)?;
        self.change_reserve(collateral, undo, |held| *held = reserve)
    }

    fn scale(
        &mut self,
        scaling: &Scaling,
        side: Side,
        minted: bool,
        undo: &mut Undo,
    ) -> Result<(), LendingError> {
        let Scaling { reserve, account, .. } = *scaling;
        let mut holding = self.position(account).map_or(Holding::none(reserve), |held| held.holding(reserve));
        let scaled = match side {
            Side::Supply => &mut holding.scaled_supply,
            Side::Debt => &mut holding.scaled_debt,
        };
        let before = *scaled;
        *scaled = scaled_after(self.revision(), side, before, scaling, minted)?;
        let after = *scaled;
        if side == Side::Debt {
            let total = add(self.reserve(reserve)?.scaled_variable_debt, after)?;
            let total = sub(total, before).map_err(|_| scaling.does_not_follow())?;
            self.change_reserve(reserve, undo, |reserve| reserve.scaled_variable_debt = total)?;
        }
        self.change_position(account, undo, |position| {
            position.set_holding(holding);
            Ok(())
        })
    }

    /// What a transfer moves. V2 tells it in smallest units, at the index that the token has asked the pool for.
    fn scaled_transfer(&self, reserve: ReserveId, value: U256, timestamp: u64) -> Result<U256, LendingError> {
        match self.revision() {
            Revision::V2 => {
                let index = self.reserve(reserve)?.normalized_income(timestamp)?;
                ray_div(value, index, Rounding::Nearest)
            }
            Revision::V3_0 | Revision::V3_6 => Ok(value),
        }
    }

    /// Whether a `Mint` of stable debt says what was lent, interest left out, or what a repayment that was smaller than the
    /// interest has left of it: V2 says both in the same words. What all owe grows by what is lent, and else shrinks.
    /// Nothing where neither fits.
    fn is_loan(
        &self,
        reserve: ReserveId,
        amount: U256,
        supply: &StableSupply,
        timestamp: u64,
    ) -> Result<Option<bool>, LendingError> {
        if self.revision() != Revision::V2 {
            return Ok(Some(false));
        }
        let held = self.stable_supplies.get(&reserve).copied().unwrap_or_default();
        let before = held.balance(self.revision(), timestamp)?;
        let is_loan = supply.total > before;
        Ok(Some(is_loan).filter(|_| !is_loan || add(before, amount) == Ok(supply.total)))
    }

    /// A repayment that leaves an average rate of nothing leaves no supply either, whatever its event says
    /// (`StableDebtToken.burn` in V2).
    fn follow_stable_supply(
        &mut self,
        reserve: ReserveId,
        supply: &StableSupply,
        is_loan: bool,
        timestamp: u64,
        undo: &mut Undo,
    ) {
        if self.revision() != Revision::V2 {
            return;
        }
        let is_gone = !is_loan && supply.average_rate.is_zero();
        let principal = if is_gone { U256::ZERO } else { supply.total };
        let after = StableDebt { principal, rate: supply.average_rate, last_update: timestamp };
        undo.0.push(Before::StableSupply(reserve, self.stable_supplies.get(&reserve).copied()));
        self.put_stable_supply(reserve, Some(after));
    }

    fn transfer(
        &mut self,
        reserve: ReserveId,
        from: Address,
        to: Address,
        scaled: U256,
        undo: &mut Undo,
    ) -> Result<(), LendingError> {
        let missed = LendingError::DoesNotFollow { reserve, account: from };
        self.change_holding(reserve, from, undo, |holding| {
            holding.scaled_supply = sub(holding.scaled_supply, scaled).map_err(|_| missed)?;
            Ok(())
        })?;
        self.change_holding(reserve, to, undo, |holding| {
            holding.scaled_supply = add(holding.scaled_supply, scaled)?;
            Ok(())
        })
    }

    fn change_holding(
        &mut self,
        reserve: ReserveId,
        account: Address,
        undo: &mut Undo,
        change: impl FnOnce(&mut Holding) -> Result<(), LendingError>,
    ) -> Result<(), LendingError> {
        self.reserve(reserve)?;
        self.change_position(account, undo, |position| {
            let mut holding = position.holding(reserve);
            change(&mut holding)?;
            position.set_holding(holding);
            Ok(())
        })
    }

    fn change_position(
        &mut self,
        account: Address,
        undo: &mut Undo,
        change: impl FnOnce(&mut Position) -> Result<(), LendingError>,
    ) -> Result<(), LendingError> {
        let before = self.positions.get(&account).cloned();
        let mut position = before.as_deref().cloned().unwrap_or_default();
        change(&mut position)?;
        undo.0.push(Before::Position(account, before));
        self.put_position(account, Some(Arc::new(position)));
        Ok(())
    }

    fn change_reserve(
        &mut self,
        id: ReserveId,
        undo: &mut Undo,
        change: impl FnOnce(&mut Reserve),
    ) -> Result<(), LendingError> {
        let before = self.listed(id).cloned().ok_or(LendingError::UnknownReserve(id))?;
        let mut reserve = (*before).clone();
        change(&mut reserve);
        undo.0.push(Before::Reserve(id, Some(before)));
        self.put_reserve(id, Some(Arc::new(reserve)))
    }

    fn replace_terms(
        &mut self,
        id: ReserveId,
        reserve: Option<Arc<Reserve>>,
        undo: &mut Undo,
    ) -> Result<(), LendingError> {
        let before = self.listed(id).cloned();
        self.put_reserve(id, reserve)?;
        undo.0.push(Before::Terms(id, before));
        Ok(())
    }

    fn replace_category(
        &mut self,
        id: u8,
        category: EModeCategory,
        undo: &mut Undo,
    ) -> Result<(), LendingError> {
        undo.0.push(Before::Category(id, self.categories.insert(id, category)));
        Ok(())
    }

    fn category_or_none(&self, id: u8) -> EModeCategory {
        self.categories.get(&id).copied().unwrap_or_default()
    }

    fn only_in(&self, revisions: &[Revision], what: &'static str) -> Result<(), LendingError> {
        if revisions.contains(&self.revision()) {
            return Ok(());
        }
        Err(LendingError::NotInRevision(self.revision(), what))
    }
}

impl Scaling {
    fn does_not_follow(&self) -> LendingError {
        LendingError::DoesNotFollow { reserve: self.reserve, account: self.account }
    }
}

/// The scaled balance after `Mint` or `Burn`, neither of which names it.
///
/// A mint that is smaller than the interest is a burn that was smaller than it (`ScaledBalanceTokenBase._burnScaled`).
/// Up to 3.0 the amount is exact, and its scaled form is what was added or taken. From 3.5 on the event tells the
/// difference of two rounded balances, of which the scaled balance follows, as no two have the same.
fn scaled_after(
    revision: Revision,
    side: Side,
    scaled: U256,
    event: &Scaling,
    minted: bool,
) -> Result<U256, LendingError> {
    let Scaling { value, balance_increase, index, .. } = *event;
    let (added, taken) = match minted {
        true if value >= balance_increase => (value - balance_increase, U256::ZERO),
        true => (U256::ZERO, balance_increase - value),
        false => (U256::ZERO, add(value, balance_increase)?),
    };
    let missed = |_| event.does_not_follow();
    match revision {
        Revision::V2 | Revision::V3_0 => {
            let added = ray_div(added, index, Rounding::Nearest)?;
            let taken = ray_div(taken, index, Rounding::Nearest)?;
            sub(add(scaled, added)?, taken).map_err(missed)
        }
        Revision::V3_6 => {
            let rounding = match side {
                Side::Supply => revision.supply_rounding(),
                Side::Debt => revision.debt_rounding(),
            };
            let before = crate::math::ray_mul(scaled, index, rounding)?;
            let after = sub(add(before, added)?, taken).map_err(missed)?;
            revision.scaled_of(after, index, rounding)?.ok_or(event.does_not_follow())
        }
    }
}

fn set_bit(bitmap: &mut u128, reserve: ReserveId, set: bool) {
    if set {
        *bitmap |= reserve.bit();
    } else {
        *bitmap &= !reserve.bit();
    }
}

#[cfg(test)]
mod tests;
