//! The one initial load: what the pool is asked for, made into a market.

use alloy_primitives::{Address, U256};
use anyhow::Context;
use headwater_lending::{EModeCategory, Holding, Market, Position, Reserve, ReserveId, Revision, StableDebt};
use headwater_reference::aave::contracts::{Pool, PoolV2, ScaledToken, StableToken, StableTokenV2};
use headwater_reference::aave::{CATEGORIES, Release, Site, World};

/// Everything about these accounts, as the contracts say it now.
pub(super) fn load(world: &mut World, accounts: &[Address]) -> anyhow::Result<Market> {
    let mut market = Market::new(revision(world)?);
    if world.release == Release::V2 {
        market.set_paused(world.evm.read(world.pool, &PoolV2::pausedCall {})?);
        for (place, site) in world.reserves.clone().iter().enumerate() {
            let supply = world.evm.read(site.stable_debt, &StableTokenV2::getSupplyDataCall {})?;
            let (principal, rate) = (supply.principal, supply.averageRate);
            let supply = StableDebt { principal, rate, last_update: supply.lastUpdate.to() };
            market.set_stable_supply(ReserveId(u16::try_from(place)?), supply);
        }
    }
    let listed = world.evm.read(world.pool, &Pool::getReservesListCall {})?;
    for asset in listed {
        let reserve = reserve(world, asset)?;
        market.set_reserve(reserve)?;
        market.set_price(asset, world.price(asset)?);
    }
    let categories = if world.release == Release::V2 { &[][..] } else { &CATEGORIES };
    for category in categories {
        market.set_e_mode_category(category.id, self::category(world, category.id)?);
    }
    if let Some((source, _)) = world.category_source {
        market.set_price(source, world.price(source)?);
    }
    market.set_liquidation_allowed(world.liquidation_allowed()?);
    for account in accounts {
        market.set_position(*account, position(world, *account)?);
    }
    Ok(market)
}

fn revision(world: &mut World) -> anyhow::Result<Revision> {
    Ok(match world.release {
        Release::V2 => {
            let number = world.evm.read(world.pool, &PoolV2::LENDINGPOOL_REVISIONCall {})?;
            Revision::from_lending_pool_revision(number.to())?
        }
        Release::V3_0 | Release::V3_6 => {
            let number = world.evm.read(world.pool, &Pool::POOL_REVISIONCall {})?;
            Revision::from_pool_revision(number.to())?
        }
    })
}

/// In the words of V3, as far as they are needed.
fn reserve_data(world: &mut World, asset: Address) -> anyhow::Result<Pool::ReserveData> {
    let pool = world.pool;
    if world.release != Release::V2 {
        return world.evm.read(pool, &Pool::getReserveDataCall { asset });
    }
    let data = world.evm.read(pool, &PoolV2::getReserveDataCall { asset })?;
    Ok(Pool::ReserveData {
        configuration: data.configuration,
        liquidityIndex: data.liquidityIndex,
        currentLiquidityRate: data.currentLiquidityRate,
        variableBorrowIndex: data.variableBorrowIndex,
        currentVariableBorrowRate: data.currentVariableBorrowRate,
        currentStableBorrowRate: data.currentStableBorrowRate,
        lastUpdateTimestamp: data.lastUpdateTimestamp,
        id: data.id.into(),
        aTokenAddress: data.aTokenAddress,
        stableDebtTokenAddress: data.stableDebtTokenAddress,
        variableDebtTokenAddress: data.variableDebtTokenAddress,
        interestRateStrategyAddress: data.interestRateStrategyAddress,
        accruedToTreasury: 0,
        unbacked: 0,
        isolationModeTotalDebt: 0,
    })
}

fn reserve(world: &mut World, asset: Address) -> anyhow::Result<Reserve> {
    let pool = world.pool;
    let data = reserve_data(world, asset)?;
    let scaled_variable_debt =
        world.evm.read(data.variableDebtTokenAddress, &ScaledToken::scaledTotalSupplyCall {})?;
    let grace_period_until = match world.release {
        Release::V2 | Release::V3_0 => 0,
        Release::V3_6 => world.evm.read(pool, &Pool::getLiquidationGracePeriodCall { asset })?.to(),
    };
    // `ReserveConfiguration.sol`: where each number begins, and how wide it is.
    let bits = |at: usize, width: usize| {
        ((data.configuration >> at) & ((U256::ONE << width) - U256::ONE)).to::<u16>()
    };
    let category = if world.release == Release::V3_0 { bits(168, 8) } else { 0 };
    Ok(Reserve {
        id: ReserveId(data.id),
        asset,
        decimals: u8::try_from(bits(48, 8))?,
        liquidity_index: U256::from(data.liquidityIndex),
        variable_borrow_index: U256::from(data.variableBorrowIndex),
        liquidity_rate: U256::from(data.currentLiquidityRate),
        variable_borrow_rate: U256::from(data.currentVariableBorrowRate),
        last_update: data.lastUpdateTimestamp.to(),
        scaled_variable_debt,
        ltv: bits(0, 16),
        liquidation_threshold: bits(16, 16),
        liquidation_bonus: bits(32, 16),
        liquidation_protocol_fee: bits(152, 16),
        active: bits(56, 1) == 1,
        frozen: bits(57, 1) == 1,
        paused: bits(60, 1) == 1,
        grace_period_until,
        e_mode_category: u8::try_from(category)?,
    })
}

fn category(world: &mut World, id: u8) -> anyhow::Result<EModeCategory> {
    let pool = world.pool;
    let data = world.evm.read(pool, &Pool::getEModeCategoryDataCall { id })?;
    let (collateral_bitmap, ltv_zero_bitmap) = match world.release {
        Release::V2 | Release::V3_0 => (0, 0),
        Release::V3_6 => (
            world.evm.read(pool, &Pool::getEModeCategoryCollateralBitmapCall { id })?,
            world.evm.read(pool, &Pool::getEModeCategoryLtvzeroBitmapCall { id })?,
        ),
    };
    Ok(EModeCategory {
        ltv: data.ltv,
        liquidation_threshold: data.liquidationThreshold,
        liquidation_bonus: data.liquidationBonus,
        price_source: Some(data.priceSource).filter(|source| !source.is_zero()),
        collateral_bitmap,
        ltv_zero_bitmap,
    })
}

fn position(world: &mut World, account: Address) -> anyhow::Result<Position> {
    let pool = world.pool;
    let flags = world.evm.read(pool, &Pool::getUserConfigurationCall { user: account })?;
    let e_mode = match world.release {
        Release::V2 => U256::ZERO,
        Release::V3_0 | Release::V3_6 => world.evm.read(pool, &Pool::getUserEModeCall { user: account })?,
    };
    let mut position = Position::new(e_mode.to());
    for (place, site) in world.reserves.clone().iter().enumerate() {
        let id = ReserveId(u16::try_from(place).context("few reserves")?);
        let collateral = flags.bit(2 * place + 1);
        position.set_holding(holding(world, site, id, account, collateral)?);
    }
    Ok(position)
}

fn holding(
    world: &mut World,
    site: &Site,
    reserve: ReserveId,
    user: Address,
    collateral: bool,
) -> anyhow::Result<Holding> {
    let scaled = ScaledToken::scaledBalanceOfCall { user };
    let stable_debt = match world.release {
        Release::V2 | Release::V3_0 => stable_debt(world, site, user)?,
        Release::V3_6 => StableDebt::default(),
    };
    Ok(Holding {
        reserve,
        scaled_supply: world.evm.read(site.a_token, &scaled)?,
        scaled_debt: world.evm.read(site.variable_debt, &scaled)?,
        stable_debt,
        collateral,
    })
}

fn stable_debt(world: &mut World, site: &Site, user: Address) -> anyhow::Result<StableDebt> {
    let token = site.stable_debt;
    Ok(StableDebt {
        principal: world.evm.read(token, &StableToken::principalBalanceOfCall { user })?,
        rate: world.evm.read(token, &StableToken::getUserStableRateCall { user })?,
        last_update: world.evm.read(token, &StableToken::getUserLastUpdatedCall { user })?.to(),
    })
}
