use alloy_primitives::{B256, U160, U256};
use headwater_amm::{PoolEvent, PoolPrice};
use headwater_events::{V3Action, V4Action};

/// What a log of a pool of Uniswap V3 changes about it; `None` for what changes no swap.
pub fn concentrated_event(action: &V3Action) -> Option<PoolEvent> {
    Some(match *action {
        V3Action::Initialize { sqrt_price_x96, tick } => PoolEvent::Initialized(price(sqrt_price_x96, tick)),
        V3Action::Swap { sqrt_price_x96, tick, liquidity, .. } => {
            PoolEvent::Swapped { price: price(sqrt_price_x96, tick), liquidity }
        }
        V3Action::Mint { tick_lower, tick_upper, amount, .. } => change(tick_lower, tick_upper, amount, 1),
        V3Action::Burn { tick_lower, tick_upper, amount, .. } => change(tick_lower, tick_upper, amount, -1),
        V3Action::Collect { .. }
        | V3Action::Flash { .. }
        | V3Action::SetFeeProtocol { .. }
        | V3Action::PoolCreated { .. } => return None,
    })
}

/// What a log of a V4 manager changes about one of its pools, and about which; `None` for what changes no swap, and for what makes a
/// pool.
pub fn v4_event(action: &V4Action) -> Option<(B256, PoolEvent)> {
    Some(match *action {
        V4Action::Swap { id, sqrt_price_x96, liquidity, tick, .. } => {
            (id, PoolEvent::Swapped { price: price(sqrt_price_x96, tick), liquidity })
        }
        V4Action::ModifyLiquidity { id, tick_lower: lower, tick_upper: upper, liquidity_delta, .. } => {
            let delta = i128::try_from(liquidity_delta).unwrap_or(i128::MIN);
            (id, PoolEvent::LiquidityChanged { lower, upper, delta })
        }
        V4Action::ProtocolFeeUpdated { id, protocol_fee } => {
            (id, PoolEvent::ProtocolFeeChanged(protocol_fee))
        }
        V4Action::Initialize { .. } | V4Action::Donate { .. } => return None,
    })
}

fn price(sqrt_price_x96: U160, tick: i32) -> PoolPrice {
    PoolPrice { sqrt_price: U256::from(sqrt_price_x96), tick }
}

/// More than the contract's integers hold contradicts every pool.
fn change(lower: i32, upper: i32, amount: u128, sign: i128) -> PoolEvent {
    let delta = i128::try_from(amount).map_or(i128::MIN, |amount| sign * amount);
    PoolEvent::LiquidityChanged { lower, upper, delta }
}
