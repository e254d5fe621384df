//! What the contracts say and do, beside what was predicted.

use alloy_primitives::{Address, U256};
use alloy_sol_types::SolError;
use anyhow::{Context, bail, ensure};
use headwater_lending::{AccountData, LendingError, Liquidation, LiquidationCall, Market, Pair, Refusal};
use headwater_reference::aave::contracts::{Errors, Pool, ScaledToken};
use headwater_reference::aave::{Release, World};
use headwater_reference::evm::{Failure, Receipt, Revert};

use super::Tally;
use super::follower::events;

/// The six numbers as the contract has them.
pub(super) fn account_data(world: &mut World, account: Address) -> anyhow::Result<AccountData> {
    let data = world.account_data(account)?;
    Ok(AccountData {
        total_collateral: data.totalCollateralBase,
        total_debt: data.totalDebtBase,
        available_borrows: data.availableBorrowsBase,
        liquidation_threshold: data.currentLiquidationThreshold,
        ltv: data.ltv,
        health_factor: data.healthFactor,
    })
}

/// Runs a call on the contracts, compares it with the prediction, and takes it back.
pub(super) fn compare(
    world: &mut World,
    market: &Market,
    call: &LiquidationCall,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let predicted = market.liquidate(call, world.evm.block().timestamp);
    let before = world.evm.snapshot();
    let outcome = compare_executed(world, market, call, &predicted, tally);
    world.evm.revert(&before)?;
    outcome.with_context(|| format!("{call:?} was predicted as {predicted:?}"))
}

fn compare_executed(
    world: &mut World,
    market: &Market,
    call: &LiquidationCall,
    predicted: &Result<Liquidation, Refusal>,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let (collateral, debt) = (market.reserve(call.pair.collateral)?, market.reserve(call.pair.debt)?);
    let held = holdings(world, call)?;
    let sent = Pool::liquidationCallCall {
        collateralAsset: collateral.asset,
        debtAsset: debt.asset,
        user: call.borrower,
        debtToCover: call.debt_to_cover,
        receiveAToken: call.receive_a_token,
    };
    match (world.in_pool(call.liquidator, &sent), predicted) {
        (Ok(receipt), Ok(liquidation)) => {
            same_amounts(world, &receipt, call, liquidation)?;
            same_balances(world, call, liquidation, held)?;
            follows(world, market, &receipt, call)?;
            tally.executed(market, call, liquidation)
        }
        (Err(Failure::Reverted(revert)), Err(refusal)) => {
            ensure!(says(world.release, &revert, refusal), "the contract said {revert}");
            tally.refused(refusal);
            Ok(())
        }
        (Ok(_), Err(_)) => bail!("the contract let it through"),
        (Err(failure), _) => bail!("the contract did not: {failure}"),
    }
}

/// What the events tell: the debt repaid, the collateral taken, the treasury's part, what was written off.
fn same_amounts(
    world: &World,
    receipt: &Receipt,
    call: &LiquidationCall,
    predicted: &Liquidation,
) -> anyhow::Result<()> {
    let [done] = &receipt.events::<Pool::LiquidationCall>(world.pool)[..] else {
        bail!("not one LiquidationCall")
    };
    ensure!(done.debtToCover == predicted.debt_repaid, "it repaid {}", done.debtToCover);
    ensure!(
        done.liquidatedCollateralAmount == predicted.collateral_to_liquidator,
        "it took {}",
        done.liquidatedCollateralAmount
    );
    let site = world.reserves[usize::from(call.pair.collateral.0)];
    let moved = receipt.events::<ScaledToken::BalanceTransfer>(site.a_token);
    let fee: U256 = moved.iter().filter(|moved| moved.to == world.treasury).map(|moved| moved.value).sum();
    ensure!(fee == predicted.scaled_protocol_fee, "the treasury got {fee} scaled");
    let owed = world.reserves[usize::from(call.pair.debt.0)].asset;
    let written_off = receipt.events::<Pool::DeficitCreated>(world.pool);
    let written_off: U256 = written_off
        .iter()
        .filter(|deficit| deficit.debtAsset == owed)
        .map(|deficit| deficit.amountCreated)
        .sum();
    ensure!(written_off == predicted.deficit, "it wrote off {written_off}");
    Ok(())
}

/// Debt tokens, collateral tokens and scaled supply of the liquidator.
fn holdings(world: &mut World, call: &LiquidationCall) -> anyhow::Result<[U256; 3]> {
    let collateral = world.reserves[usize::from(call.pair.collateral.0)];
    let debt = world.reserves[usize::from(call.pair.debt.0)];
    let scaled = ScaledToken::scaledBalanceOfCall { user: call.liquidator };
    Ok([
        world.balance(debt.asset, call.liquidator)?,
        world.balance(collateral.asset, call.liquidator)?,
        world.evm.read(collateral.a_token, &scaled)?,
    ])
}

/// What the liquidator's own balances tell.
fn same_balances(
    world: &mut World,
    call: &LiquidationCall,
    predicted: &Liquidation,
    before: [U256; 3],
) -> anyhow::Result<()> {
    let (tokens, scaled) = match call.receive_a_token {
        true => (U256::ZERO, predicted.scaled_to_liquidator),
        false => (predicted.collateral_to_liquidator, U256::ZERO),
    };
    // Who liquidates himself, as V2 and the first release of V3 let him, loses what is seized.
    let lost = match call.borrower == call.liquidator {
        true => predicted.scaled_to_liquidator + predicted.scaled_protocol_fee,
        false => U256::ZERO,
    };
    let same_asset = call.pair.collateral == call.pair.debt;
    let [debt, collateral, supply] = before;
    let paid = debt - predicted.debt_repaid;
    let expected = match same_asset {
        true => [paid + tokens, paid + tokens, supply + scaled - lost],
        false => [paid, collateral + tokens, supply + scaled - lost],
    };
    let after = holdings(world, call)?;
    ensure!(after == expected, "the liquidator has {after:?} instead of {expected:?}");
    Ok(())
}

/// The events of the call lead to the accounts that the contracts have afterwards, and back.
fn follows(
    world: &mut World,
    market: &Market,
    receipt: &Receipt,
    call: &LiquidationCall,
) -> anyhow::Result<()> {
    let timestamp = world.evm.block().timestamp;
    let mut after = market.clone();
    let mut undo = Vec::new();
    for event in events(world, &receipt.logs)? {
        undo.push(after.apply(&event, timestamp).with_context(|| format!("{event:?}"))?);
    }
    // Later, because what accrued in silence shows only then.
    world.evm.advance(86_400);
    for account in [call.borrower, call.liquidator, world.treasury] {
        let (found, said) = (after.account_data(account, timestamp + 86_400)?, account_data(world, account)?);
        ensure!(found == said, "a day later the contract says {said:?} of {account}, the events {found:?}");
    }
    undo.into_iter().rev().for_each(|undo| after.revert(undo));
    ensure!(after == *market, "taking it back left something else");
    Ok(())
}

fn says(release: Release, revert: &Revert, refusal: &Refusal) -> bool {
    if release == Release::V2 {
        return says_second(revert, refusal);
    }
    let (code, selector) = match refusal {
        // The machine's own arithmetic: nothing at all, or a panic.
        Refusal::Unknown(LendingError::Arithmetic) => {
            return revert.data.is_empty() || revert.panic_code().is_some();
        }
        Refusal::Unknown(_) | Refusal::PoolPaused => return false,
        Refusal::SelfLiquidation => ("", Errors::SelfLiquidation::SELECTOR),
        Refusal::ReserveInactive => ("27", Errors::ReserveInactive::SELECTOR),
        Refusal::ReservePaused => ("29", Errors::ReservePaused::SELECTOR),
        Refusal::PriceOracleSentinel => ("59", Errors::PriceOracleSentinelCheckFailed::SELECTOR),
        Refusal::GracePeriod { .. } => ("", Errors::LiquidationGraceSentinelCheckFailed::SELECTOR),
        Refusal::HealthFactorNotBelowThreshold(_) => ("45", Errors::HealthFactorNotBelowThreshold::SELECTOR),
        Refusal::CollateralCannotBeLiquidated => ("46", Errors::CollateralCannotBeLiquidated::SELECTOR),
        Refusal::NotBorrowed => ("47", Errors::SpecifiedCurrencyNotBorrowedByUser::SELECTOR),
        Refusal::MustNotLeaveDust => ("", Errors::MustNotLeaveDust::SELECTOR),
        Refusal::InvalidBurnAmount => ("25", Errors::InvalidBurnAmount::SELECTOR),
    };
    match release {
        Release::V3_0 => revert.reason().as_deref() == Some(code),
        Release::V2 | Release::V3_6 => revert.selector() == Some(selector),
    }
}

/// `Errors.sol` of V2, whose pool says 23 whatever made its collateral manager revert.
fn says_second(revert: &Revert, refusal: &Refusal) -> bool {
    let code = match refusal {
        Refusal::Unknown(LendingError::Arithmetic) | Refusal::InvalidBurnAmount => "23",
        Refusal::PoolPaused => "64",
        Refusal::ReserveInactive => "2",
        Refusal::HealthFactorNotBelowThreshold(_) => "42",
        Refusal::CollateralCannotBeLiquidated => "43",
        Refusal::NotBorrowed => "44",
        _ => return false,
    };
    revert.reason().as_deref() == Some(code)
}

/// Calls worth comparing for a pair: everything, the best, a part, next to nothing; with and without leaving the pool.
pub(super) fn calls(
    market: &Market,
    borrower: Address,
    liquidator: Address,
    pair: Pair,
    timestamp: u64,
    part: u64,
) -> anyhow::Result<Vec<LiquidationCall>> {
    let everything =
        LiquidationCall { borrower, liquidator, pair, debt_to_cover: U256::MAX, receive_a_token: false };
    let mut calls = vec![everything, LiquidationCall { receive_a_token: true, ..everything }];
    if let Ok((best, liquidation)) = market.best_liquidation(&everything, timestamp) {
        calls.push(best);
        let debt_to_cover = liquidation.debt_repaid * U256::from(part) / U256::from(1_000);
        calls.push(LiquidationCall { debt_to_cover, receive_a_token: part.is_multiple_of(2), ..everything });
        let crumb = U256::from(part % 5);
        calls.push(LiquidationCall { debt_to_cover: crumb, ..everything });
        let limited = market.liquidate(&everything, timestamp) == Err(Refusal::MustNotLeaveDust);
        if limited {
            // One unit more than the best leaves dust.
            let debt_to_cover = best.debt_to_cover + U256::ONE;
            ensure!(
                market.liquidate(&LiquidationCall { debt_to_cover, ..everything }, timestamp)
                    == Err(Refusal::MustNotLeaveDust),
                "more than the best would go through"
            );
            calls.push(LiquidationCall { debt_to_cover, ..everything });
        }
    }
    Ok(calls)
}

/// Whether the collateral goes by the terms of a category.
pub(super) fn in_e_mode(market: &Market, call: &LiquidationCall) -> anyhow::Result<bool> {
    let reserve = market.reserve(call.pair.collateral)?;
    let terms = market.collateral_terms(call.borrower, reserve.id)?;
    Ok(terms.liquidation_bonus != reserve.liquidation_bonus)
}
