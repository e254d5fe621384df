//! The contracts' logs as events of the crate. What has no say in a liquidation is passed over.

use alloy_primitives::{Address, Log, U256};
use alloy_sol_types::SolEvent;
use anyhow::Context;
use headwater_lending::{CollateralTerms, EModeCategory, LendingEvent, Rates, ReserveId, Scaling};
use headwater_reference::aave::contracts::{Configurator, ConfiguratorV3_6, Pool, ScaledToken, StableToken};
use headwater_reference::aave::{Release, World};

pub(super) fn event(world: &World, log: &Log) -> anyhow::Result<Option<LendingEvent>> {
    let address = log.address;
    if address == world.pool {
        return in_pool(world, log);
    }
    if address == world.configurator {
        return in_configurator(world, log);
    }
    for (place, site) in world.reserves.iter().enumerate() {
        let reserve = id(place)?;
        if address == site.a_token {
            return Ok(supply(log, reserve));
        }
        if address == site.variable_debt {
            return Ok(debt(log, reserve));
        }
        if world.release == Release::V3_0 && address == site.stable_debt {
            return Ok(stable(log, reserve));
        }
    }
    Ok(None)
}

fn id(place: usize) -> anyhow::Result<ReserveId> {
    Ok(ReserveId(u16::try_from(place)?))
}

fn of(world: &World, asset: Address) -> anyhow::Result<ReserveId> {
    id(world.reserves.iter().position(|site| site.asset == asset).context("an unknown asset")?)
}

fn read<E: SolEvent>(log: &Log) -> Option<E> {
    E::decode_log_data(&log.data).ok()
}

fn supply(log: &Log, reserve: ReserveId) -> Option<LendingEvent> {
    if let Some(moved) = read::<ScaledToken::BalanceTransfer>(log) {
        let ScaledToken::BalanceTransfer { from, to, value, .. } = moved;
        return Some(LendingEvent::SupplyTransferred { reserve, from, to, scaled: value });
    }
    minted(log, reserve)
        .map(LendingEvent::SupplyMinted)
        .or_else(|| burned(log, reserve).map(LendingEvent::SupplyBurned))
}

fn debt(log: &Log, reserve: ReserveId) -> Option<LendingEvent> {
    minted(log, reserve)
        .map(LendingEvent::DebtMinted)
        .or_else(|| burned(log, reserve).map(LendingEvent::DebtBurned))
}

fn minted(log: &Log, reserve: ReserveId) -> Option<Scaling> {
    let ScaledToken::Mint { onBehalfOf: account, value, balanceIncrease, index, .. } = read(log)?;
    Some(Scaling { reserve, account, value, balance_increase: balanceIncrease, index })
}

fn burned(log: &Log, reserve: ReserveId) -> Option<Scaling> {
    let ScaledToken::Burn { from: account, value, balanceIncrease, index, .. } = read(log)?;
    Some(Scaling { reserve, account, value, balance_increase: balanceIncrease, index })
}

fn stable(log: &Log, reserve: ReserveId) -> Option<LendingEvent> {
    if let Some(mint) = read::<StableToken::Mint>(log) {
        let StableToken::Mint { onBehalfOf: account, amount, newRate: new_rate, .. } = mint;
        return Some(LendingEvent::StableDebtMinted { reserve, account, amount, new_rate });
    }
    let StableToken::Burn { from: account, amount, .. } = read(log)?;
    Some(LendingEvent::StableDebtBurned { reserve, account, amount })
}

fn in_pool(world: &World, log: &Log) -> anyhow::Result<Option<LendingEvent>> {
    if let Some(update) = read::<Pool::ReserveDataUpdated>(log) {
        return Ok(Some(LendingEvent::ReserveDataUpdated(Rates {
            reserve: of(world, update.reserve)?,
            liquidity_rate: update.liquidityRate,
            variable_borrow_rate: update.variableBorrowRate,
            liquidity_index: update.liquidityIndex,
            variable_borrow_index: update.variableBorrowIndex,
        })));
    }
    if let Some(used) = read::<Pool::ReserveUsedAsCollateralEnabled>(log) {
        let reserve = of(world, used.reserve)?;
        return Ok(Some(LendingEvent::CollateralUseChanged { reserve, account: used.user, enabled: true }));
    }
    if let Some(used) = read::<Pool::ReserveUsedAsCollateralDisabled>(log) {
        let reserve = of(world, used.reserve)?;
        return Ok(Some(LendingEvent::CollateralUseChanged { reserve, account: used.user, enabled: false }));
    }
    if let Some(set) = read::<Pool::UserEModeSet>(log) {
        return Ok(Some(LendingEvent::EModeSet { account: set.user, category: set.categoryId }));
    }
    let Some(call) = read::<Pool::LiquidationCall>(log) else { return Ok(None) };
    let collateral = of(world, call.collateralAsset)?;
    Ok(Some(LendingEvent::Liquidated { collateral, receive_a_token: call.receiveAToken }))
}

fn in_configurator(world: &World, log: &Log) -> anyhow::Result<Option<LendingEvent>> {
    if let Some(changed) = read::<Configurator::CollateralConfigurationChanged>(log) {
        return Ok(Some(LendingEvent::CollateralConfigurationChanged(CollateralTerms {
            reserve: of(world, changed.asset)?,
            ltv: bps(changed.ltv)?,
            liquidation_threshold: bps(changed.liquidationThreshold)?,
            liquidation_bonus: bps(changed.liquidationBonus)?,
        })));
    }
    if let Some(changed) = read::<Configurator::LiquidationProtocolFeeChanged>(log) {
        let (reserve, fee) = (of(world, changed.asset)?, bps(changed.newFee)?);
        return Ok(Some(LendingEvent::LiquidationProtocolFeeChanged { reserve, fee }));
    }
    if let Some(changed) = read::<Configurator::ReserveActive>(log) {
        return Ok(Some(LendingEvent::ReserveActive(of(world, changed.asset)?, changed.active)));
    }
    if let Some(changed) = read::<Configurator::ReserveFrozen>(log) {
        return Ok(Some(LendingEvent::ReserveFrozen(of(world, changed.asset)?, changed.frozen)));
    }
    if let Some(changed) = read::<Configurator::ReservePaused>(log) {
        return Ok(Some(LendingEvent::ReservePaused(of(world, changed.asset)?, changed.paused)));
    }
    if let Some(added) = read::<Configurator::EModeCategoryAdded>(log) {
        let category = EModeCategory {
            ltv: bps(added.ltv)?,
            liquidation_threshold: bps(added.liquidationThreshold)?,
            liquidation_bonus: bps(added.liquidationBonus)?,
            price_source: Some(added.oracle).filter(|oracle| !oracle.is_zero()),
            ..EModeCategory::default()
        };
        return Ok(Some(LendingEvent::EModeCategoryAdded(added.categoryId, category)));
    }
    if let Some(changed) = read::<Configurator::EModeAssetCategoryChanged>(log) {
        let (reserve, category) = (of(world, changed.asset)?, changed.newCategoryId);
        return Ok(Some(LendingEvent::EModeAssetCategoryChanged { reserve, category }));
    }
    in_configurator_v3_6(world, log)
}

fn in_configurator_v3_6(world: &World, log: &Log) -> anyhow::Result<Option<LendingEvent>> {
    if let Some(changed) = read::<ConfiguratorV3_6::LiquidationGracePeriodChanged>(log) {
        let (reserve, until) = (of(world, changed.asset)?, changed.gracePeriodUntil.to());
        return Ok(Some(LendingEvent::GracePeriodChanged { reserve, until }));
    }
    if let Some(changed) = read::<ConfiguratorV3_6::LiquidationGracePeriodDisabled>(log) {
        return Ok(Some(LendingEvent::GracePeriodChanged { reserve: of(world, changed.asset)?, until: 0 }));
    }
    if let Some(changed) = read::<ConfiguratorV3_6::AssetCollateralInEModeChanged>(log) {
        return Ok(Some(LendingEvent::AssetCollateralInEModeChanged {
            reserve: of(world, changed.asset)?,
            category: changed.categoryId,
            collateral: changed.collateral,
        }));
    }
    let Some(changed) = read::<ConfiguratorV3_6::AssetLtvzeroInEModeChanged>(log) else { return Ok(None) };
    Ok(Some(LendingEvent::AssetLtvZeroInEModeChanged {
        reserve: of(world, changed.asset)?,
        category: changed.categoryId,
        ltv_zero: changed.ltvzero,
    }))
}

fn bps(value: U256) -> anyhow::Result<u16> {
    u16::try_from(value).context("more than 65535 basis points")
}
