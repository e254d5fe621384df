//! Events of concentrated-liquidity pools.

use headwater_events::{Action, Log, V3Action, V4Action};

use super::shape;
use crate::Malformed;
use crate::words::{address, int24, int128, int256, uint8, uint24, uint128, uint160, uint256};

fn v3(log: &Log, action: V3Action) -> Action {
    Action::V3 { log_index: log.log_index, emitter: log.address, action }
}

fn v4(log: &Log, action: V4Action) -> Action {
    Action::V4 { log_index: log.log_index, emitter: log.address, action }
}

pub(super) fn v3_initialize(log: &Log) -> Result<Action, Malformed> {
    let [price, tick] = &shape::<1, 2>(log)?;
    Ok(v3(log, V3Action::Initialize { sqrt_price_x96: uint160(price)?, tick: int24(tick)? }))
}

pub(super) fn v3_swap(log: &Log) -> Result<Action, Malformed> {
    let [amount0, amount1, price, liquidity, tick] = &shape::<3, 5>(log)?;
    let action = V3Action::Swap {
        sender: address(&log.topics[1])?,
        recipient: address(&log.topics[2])?,
        amount0: int256(amount0),
        amount1: int256(amount1),
        sqrt_price_x96: uint160(price)?,
        liquidity: uint128(liquidity)?,
        tick: int24(tick)?,
        protocol_fees: None,
    };
    Ok(v3(log, action))
}

pub(super) fn pancake_v3_swap(log: &Log) -> Result<Action, Malformed> {
    let [amount0, amount1, price, liquidity, tick, fees0, fees1] = &shape::<3, 7>(log)?;
    let action = V3Action::Swap {
        sender: address(&log.topics[1])?,
        recipient: address(&log.topics[2])?,
        amount0: int256(amount0),
        amount1: int256(amount1),
        sqrt_price_x96: uint160(price)?,
        liquidity: uint128(liquidity)?,
        tick: int24(tick)?,
        protocol_fees: Some((uint128(fees0)?, uint128(fees1)?)),
    };
    Ok(v3(log, action))
}

pub(super) fn v3_mint(log: &Log) -> Result<Action, Malformed> {
    let [sender, amount, amount0, amount1] = &shape::<4, 4>(log)?;
    let action = V3Action::Mint {
        sender: address(sender)?,
        owner: address(&log.topics[1])?,
        tick_lower: int24(&log.topics[2])?,
        tick_upper: int24(&log.topics[3])?,
        amount: uint128(amount)?,
        amount0: uint256(amount0),
        amount1: uint256(amount1),
    };
    Ok(v3(log, action))
}

pub(super) fn v3_burn(log: &Log) -> Result<Action, Malformed> {
    let [amount, amount0, amount1] = &shape::<4, 3>(log)?;
    let action = V3Action::Burn {
        owner: address(&log.topics[1])?,
        tick_lower: int24(&log.topics[2])?,
        tick_upper: int24(&log.topics[3])?,
        amount: uint128(amount)?,
        amount0: uint256(amount0),
        amount1: uint256(amount1),
    };
    Ok(v3(log, action))
}

pub(super) fn v3_collect(log: &Log) -> Result<Action, Malformed> {
    let [recipient, amount0, amount1] = &shape::<4, 3>(log)?;
    let action = V3Action::Collect {
        owner: address(&log.topics[1])?,
        recipient: address(recipient)?,
        tick_lower: int24(&log.topics[2])?,
        tick_upper: int24(&log.topics[3])?,
        amount0: uint128(amount0)?,
        amount1: uint128(amount1)?,
    };
    Ok(v3(log, action))
}

pub(super) fn v3_flash(log: &Log) -> Result<Action, Malformed> {
    let [amount0, amount1, paid0, paid1] = shape::<3, 4>(log)?.each_ref().map(uint256);
    let (sender, recipient) = (address(&log.topics[1])?, address(&log.topics[2])?);
    Ok(v3(log, V3Action::Flash { sender, recipient, amount0, amount1, paid0, paid1 }))
}

pub(super) fn v3_set_fee_protocol(log: &Log) -> Result<Action, Malformed> {
    let [old0, old1, new0, new1] = &shape::<1, 4>(log)?;
    let action = V3Action::SetFeeProtocol {
        old0: uint8(old0)?,
        old1: uint8(old1)?,
        new0: uint8(new0)?,
        new1: uint8(new1)?,
    };
    Ok(v3(log, action))
}

pub(super) fn v3_pool_created(log: &Log) -> Result<Action, Malformed> {
    let [tick_spacing, pool] = &shape::<4, 2>(log)?;
    let action = V3Action::PoolCreated {
        token0: address(&log.topics[1])?,
        token1: address(&log.topics[2])?,
        fee: uint24(&log.topics[3])?,
        tick_spacing: int24(tick_spacing)?,
        pool: address(pool)?,
    };
    Ok(v3(log, action))
}

pub(super) fn v4_initialize(log: &Log) -> Result<Action, Malformed> {
    let [fee, tick_spacing, hooks, price, tick] = &shape::<4, 5>(log)?;
    let action = V4Action::Initialize {
        id: log.topics[1],
        currency0: address(&log.topics[2])?,
        currency1: address(&log.topics[3])?,
        fee: uint24(fee)?,
        tick_spacing: int24(tick_spacing)?,
        hooks: address(hooks)?,
        sqrt_price_x96: uint160(price)?,
        tick: int24(tick)?,
    };
    Ok(v4(log, action))
}

pub(super) fn v4_modify_liquidity(log: &Log) -> Result<Action, Malformed> {
    let [tick_lower, tick_upper, delta, salt] = &shape::<3, 4>(log)?;
    let action = V4Action::ModifyLiquidity {
        id: log.topics[1],
        sender: address(&log.topics[2])?,
        tick_lower: int24(tick_lower)?,
        tick_upper: int24(tick_upper)?,
        liquidity_delta: int256(delta),
        salt: *salt,
    };
    Ok(v4(log, action))
}

pub(super) fn v4_swap(log: &Log) -> Result<Action, Malformed> {
    let [amount0, amount1, price, liquidity, tick, fee] = &shape::<3, 6>(log)?;
    let action = V4Action::Swap {
        id: log.topics[1],
        sender: address(&log.topics[2])?,
        amount0: int128(amount0)?,
        amount1: int128(amount1)?,
        sqrt_price_x96: uint160(price)?,
        liquidity: uint128(liquidity)?,
        tick: int24(tick)?,
        fee: uint24(fee)?,
    };
    Ok(v4(log, action))
}

pub(super) fn v4_donate(log: &Log) -> Result<Action, Malformed> {
    let [amount0, amount1] = shape::<3, 2>(log)?.each_ref().map(uint256);
    let (id, sender) = (log.topics[1], address(&log.topics[2])?);
    Ok(v4(log, V4Action::Donate { id, sender, amount0, amount1 }))
}

pub(super) fn v4_protocol_fee_updated(log: &Log) -> Result<Action, Malformed> {
    let [protocol_fee] = shape::<2, 1>(log)?;
    Ok(v4(log, V4Action::ProtocolFeeUpdated { id: log.topics[1], protocol_fee: uint24(&protocol_fee)? }))
}
