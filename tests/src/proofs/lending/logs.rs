//! The contracts' logs as events of the crate. What has no say in a liquidation is passed over.

use alloy_primitives::{Address, Log, U256};
use alloy_sol_types::SolEvent;
use anyhow::Context;
use headwater_lending::{
    CollateralTerms, EModeCategory, LendingEvent, Rates, ReserveId, Scaling, StableSupply,
};
use headwater_reference::aave::contracts::{
    Configurator, ConfiguratorV2, ConfiguratorV3_6, DebtTokenV2, Pool, PoolV2, ScaledToken, StableToken,
    SupplyTokenV2,
};
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
        if world.release != Release::V3_6 && address == site.stable_debt {
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
        return Some(LendingEvent::SupplyTransferred { reserve, from, to, value });
    }
    if let Some(SupplyTokenV2::Mint { from, value, index }) = read(log) {
        return Some(LendingEvent::SupplyMinted(exact(reserve, from, value, index)));
    }
    if let Some(SupplyTokenV2::Burn { from, value, index, .. }) = read(log) {
        return Some(LendingEvent::SupplyBurned(exact(reserve, from, value, index)));
    }
    minted(log, reserve)
        .map(LendingEvent::SupplyMinted)
        .or_else(|| burned(log, reserve).map(LendingEvent::SupplyBurned))
}

/// Without interest, which V2 does not tell.
fn exact(reserve: ReserveId, account: Address, value: U256, index: U256) -> Scaling {
    Scaling { reserve, account, value, balance_increase: U256::ZERO, index }
}

fn debt(log: &Log, reserve: ReserveId) -> Option<LendingEvent> {
    if let Some(DebtTokenV2::Mint { onBehalfOf, value, index, .. }) = read(log) {
        return Some(LendingEvent::DebtMinted(exact(reserve, onBehalfOf, value, index)));
    }
    if let Some(DebtTokenV2::Burn { user, amount, index }) = read(log) {
        return Some(LendingEvent::DebtBurned(exact(reserve, user, amount, index)));
    }
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
        return Some(LendingEvent::StableDebtMinted {
            reserve,
            account: mint.onBehalfOf,
            amount: mint.amount,
            balance_increase: mint.balanceIncrease,
            new_rate: mint.newRate,
            supply: StableSupply { total: mint.newTotalSupply, average_rate: mint.avgStableRate },
        });
    }
    let burn: StableToken::Burn = read(log)?;
    let supply = StableSupply { total: burn.newTotalSupply, average_rate: burn.avgStableRate };
    Some(LendingEvent::StableDebtBurned { reserve, account: burn.from, amount: burn.amount, supply })
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
    if let Some(PoolV2::Paused {}) = read(log) {
        return Ok(Some(LendingEvent::PoolPaused(true)));
    }
    if let Some(PoolV2::Unpaused {}) = read(log) {
        return Ok(Some(LendingEvent::PoolPaused(false)));
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
    if let Some(event) = in_configurator_v2(world, log)? {
        return Ok(Some(event));
    }
    in_configurator_v3_6(world, log)
}

fn in_configurator_v2(world: &World, log: &Log) -> anyhow::Result<Option<LendingEvent>> {
    if let Some(ConfiguratorV2::ReserveActivated { asset }) = read(log) {
        return Ok(Some(LendingEvent::ReserveActive(of(world, asset)?, true)));
    }
    if let Some(ConfiguratorV2::ReserveDeactivated { asset }) = read(log) {
        return Ok(Some(LendingEvent::ReserveActive(of(world, asset)?, false)));
    }
    if let Some(ConfiguratorV2::ReserveFrozen { asset }) = read(log) {
        return Ok(Some(LendingEvent::ReserveFrozen(of(world, asset)?, true)));
    }
    let Some(ConfiguratorV2::ReserveUnfrozen { asset }) = read(log) else { return Ok(None) };
    Ok(Some(LendingEvent::ReserveFrozen(of(world, asset)?, false)))
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
