//! Events of lending pools.

use alloy_primitives::{B256, U256};
use headwater_events::{AaveAction, Action, CompoundAction, Log};

use super::shape;
use crate::Malformed;
use crate::words::{address, boolean, uint8, uint16, uint256};

fn aave(log: &Log, action: AaveAction) -> Action {
    Action::Aave { log_index: log.log_index, emitter: log.address, action }
}

fn compound(log: &Log, action: CompoundAction) -> Action {
    Action::Compound { log_index: log.log_index, emitter: log.address, action }
}

pub(super) fn supply(log: &Log) -> Result<Action, Malformed> {
    let [user, amount] = &shape::<4, 2>(log)?;
    let action = AaveAction::Supply {
        reserve: address(&log.topics[1])?,
        user: address(user)?,
        on_behalf_of: address(&log.topics[2])?,
        amount: uint256(amount),
        referral_code: uint16(&log.topics[3])?,
    };
    Ok(aave(log, action))
}

pub(super) fn withdraw(log: &Log) -> Result<Action, Malformed> {
    let [amount] = &shape::<4, 1>(log)?;
    let action = AaveAction::Withdraw {
        reserve: address(&log.topics[1])?,
        user: address(&log.topics[2])?,
        to: address(&log.topics[3])?,
        amount: uint256(amount),
    };
    Ok(aave(log, action))
}

pub(super) fn borrow(log: &Log) -> Result<Action, Malformed> {
    borrowed(log, |mode| uint8(mode).map(U256::from))
}

/// As later versions, but with another type of the rate's mode.
pub(super) fn borrow_v2(log: &Log) -> Result<Action, Malformed> {
    borrowed(log, |mode| Ok(uint256(mode)))
}

fn borrowed(log: &Log, rate_mode: fn(&B256) -> Result<U256, Malformed>) -> Result<Action, Malformed> {
    let [user, amount, mode, rate] = &shape::<4, 4>(log)?;
    let action = AaveAction::Borrow {
        reserve: address(&log.topics[1])?,
        user: address(user)?,
        on_behalf_of: address(&log.topics[2])?,
        amount: uint256(amount),
        rate_mode: rate_mode(mode)?,
        borrow_rate: uint256(rate),
        referral_code: uint16(&log.topics[3])?,
    };
    Ok(aave(log, action))
}

pub(super) fn repay(log: &Log) -> Result<Action, Malformed> {
    let [amount, use_atokens] = &shape::<4, 2>(log)?;
    repaid(log, amount, boolean(use_atokens)?)
}

pub(super) fn repay_v2(log: &Log) -> Result<Action, Malformed> {
    let [amount] = &shape::<4, 1>(log)?;
    repaid(log, amount, false)
}

fn repaid(log: &Log, amount: &B256, use_atokens: bool) -> Result<Action, Malformed> {
    let action = AaveAction::Repay {
        reserve: address(&log.topics[1])?,
        user: address(&log.topics[2])?,
        repayer: address(&log.topics[3])?,
        amount: uint256(amount),
        use_atokens,
    };
    Ok(aave(log, action))
}

pub(super) fn liquidation_call(log: &Log) -> Result<Action, Malformed> {
    let [debt, collateral, liquidator, receive_atoken] = &shape::<4, 4>(log)?;
    let action = AaveAction::LiquidationCall {
        collateral_asset: address(&log.topics[1])?,
        debt_asset: address(&log.topics[2])?,
        user: address(&log.topics[3])?,
        debt_to_cover: uint256(debt),
        liquidated_collateral_amount: uint256(collateral),
        liquidator: address(liquidator)?,
        receive_atoken: boolean(receive_atoken)?,
    };
    Ok(aave(log, action))
}

pub(super) fn reserve_data_updated(log: &Log) -> Result<Action, Malformed> {
    let [liquidity_rate, stable_borrow_rate, variable_borrow_rate, liquidity_index, variable_borrow_index] =
        shape::<2, 5>(log)?.each_ref().map(uint256);
    let action = AaveAction::ReserveDataUpdated {
        reserve: address(&log.topics[1])?,
        liquidity_rate,
        stable_borrow_rate,
        variable_borrow_rate,
        liquidity_index,
        variable_borrow_index,
    };
    Ok(aave(log, action))
}

pub(super) fn collateral_enabled(log: &Log) -> Result<Action, Malformed> {
    used_as_collateral(log, true)
}

pub(super) fn collateral_disabled(log: &Log) -> Result<Action, Malformed> {
    used_as_collateral(log, false)
}

fn used_as_collateral(log: &Log, enabled: bool) -> Result<Action, Malformed> {
    let [] = shape::<3, 0>(log)?;
    let (reserve, user) = (address(&log.topics[1])?, address(&log.topics[2])?);
    Ok(aave(log, AaveAction::UsedAsCollateral { reserve, user, enabled }))
}

pub(super) fn user_e_mode_set(log: &Log) -> Result<Action, Malformed> {
    let [category] = &shape::<2, 1>(log)?;
    let action = AaveAction::UserEModeSet { user: address(&log.topics[1])?, category: uint8(category)? };
    Ok(aave(log, action))
}

pub(super) fn deficit_created(log: &Log) -> Result<Action, Malformed> {
    let [amount] = &shape::<3, 1>(log)?;
    let action = AaveAction::DeficitCreated {
        user: address(&log.topics[1])?,
        debt_asset: address(&log.topics[2])?,
        amount: uint256(amount),
    };
    Ok(aave(log, action))
}

pub(super) fn deficit_covered(log: &Log) -> Result<Action, Malformed> {
    let [caller, amount] = &shape::<2, 2>(log)?;
    let action = AaveAction::DeficitCovered {
        reserve: address(&log.topics[1])?,
        caller: address(caller)?,
        amount: uint256(amount),
    };
    Ok(aave(log, action))
}

pub(super) fn liquidate_borrow(log: &Log) -> Result<Action, Malformed> {
    let [liquidator, borrower, repay, collateral, seize] = &shape::<1, 5>(log)?;
    let action = CompoundAction::LiquidateBorrow {
        liquidator: address(liquidator)?,
        borrower: address(borrower)?,
        repay_amount: uint256(repay),
        collateral: address(collateral)?,
        seize_tokens: uint256(seize),
    };
    Ok(compound(log, action))
}

pub(super) fn absorb_debt(log: &Log) -> Result<Action, Malformed> {
    let [base_paid_out, usd_value] = shape::<3, 2>(log)?.each_ref().map(uint256);
    let (absorber, borrower) = (address(&log.topics[1])?, address(&log.topics[2])?);
    Ok(compound(log, CompoundAction::AbsorbDebt { absorber, borrower, base_paid_out, usd_value }))
}

pub(super) fn absorb_collateral(log: &Log) -> Result<Action, Malformed> {
    let [collateral_absorbed, usd_value] = shape::<4, 2>(log)?.each_ref().map(uint256);
    let action = CompoundAction::AbsorbCollateral {
        absorber: address(&log.topics[1])?,
        borrower: address(&log.topics[2])?,
        asset: address(&log.topics[3])?,
        collateral_absorbed,
        usd_value,
    };
    Ok(compound(log, action))
}

pub(super) fn buy_collateral(log: &Log) -> Result<Action, Malformed> {
    let [base_amount, collateral_amount] = shape::<3, 2>(log)?.each_ref().map(uint256);
    let (buyer, asset) = (address(&log.topics[1])?, address(&log.topics[2])?);
    Ok(compound(log, CompoundAction::BuyCollateral { buyer, asset, base_amount, collateral_amount }))
}
