//! Effects as they are recorded: by addresses, so that whoever reads the record finds the pools in a market of its own.

use std::sync::Arc;

use headwater_events::{ConcentratedEffect, ConcentratedState, LoadedTick, PendingEffect, PendingTxEvent};
use headwater_market::{
    ConcentratedId, ConcentratedKey, ConcentratedKind, ConcentratedPool, ConcentratedPrice, MarketSnapshot,
    PoolId, Reserves,
};
use headwater_simulation::{Effect, Means};

/// What is recorded of an effect behind the block of `market`; `None` where one of its pools is none of this market.
pub(super) fn record(
    pending: &PendingTxEvent,
    effect: &Effect,
    market: &MarketSnapshot,
) -> Option<PendingEffect> {
    let reserves = effect.reserves.iter().map(|(pool, reserves)| {
        let address = market.pools.meta(*pool)?.address;
        Some((address, (reserves.reserve0, reserves.reserve1)))
    });
    let concentrated = effect.concentrated.iter().map(|(pool, after)| {
        let meta = market.concentrated.meta(*pool)?;
        let id = match meta.kind {
            ConcentratedKind::V3 => None,
            ConcentratedKind::V4 { id } => Some(id),
        };
        let before = market.concentrated.pool(*pool)?;
        Some(ConcentratedEffect { pool: meta.address, id, state: difference(before, after)? })
    });
    Some(PendingEffect {
        behind: market.as_of,
        pending: pending.clone(),
        reserves: reserves.collect::<Option<_>>()?,
        concentrated: concentrated.collect::<Option<_>>()?,
    })
}

/// The effect on a market behind the same block; `None` where it does not know one of the pools, or one that could not be.
pub(super) fn recall(recorded: &PendingEffect, market: &MarketSnapshot) -> Option<Effect> {
    let reserves = recorded.reserves.iter().map(|(address, (reserve0, reserve1))| {
        let reserves = Reserves { reserve0: *reserve0, reserve1: *reserve1 };
        Some((market.pools.find(address)?, reserves))
    });
    let concentrated = recorded.concentrated.iter().map(|ConcentratedEffect { pool, id, state }| {
        let key = match id {
            Some(id) => ConcentratedKey::V4 { manager: *pool, id: *id },
            None => ConcentratedKey::V3(*pool),
        };
        let id = market.concentrated.find_key(&key)?;
        let before = market.concentrated.pool(id)?;
        Some((id, Arc::new(moved(before, state)?)))
    });
    let mut reserves: Vec<(PoolId, Reserves)> = reserves.collect::<Option<_>>()?;
    let mut concentrated: Vec<(ConcentratedId, Arc<ConcentratedPool>)> =
        concentrated.collect::<Option<_>>()?;
    // Another run may have met the pools in another order.
    reserves.sort_unstable_by_key(|(pool, _)| *pool);
    concentrated.sort_unstable_by_key(|(pool, _)| *pool);
    Some(Effect { reserves, concentrated, means: Means::Recorded })
}

/// Where a pool has gone to, and which of its ticks have changed.
fn difference(before: &ConcentratedPool, after: &ConcentratedPool) -> Option<ConcentratedState> {
    let ConcentratedPrice { sqrt_price, tick } = after.price()?;
    let ticks = after.differing_ticks(before).into_iter();
    let ticks = ticks.map(|(index, liquidity_net, liquidity_gross)| LoadedTick {
        index,
        liquidity_net,
        liquidity_gross,
    });
    Some(ConcentratedState { sqrt_price, tick, liquidity: after.liquidity(), ticks: ticks.collect() })
}

/// The pool where [`difference`] says that it has gone to.
fn moved(before: &ConcentratedPool, state: &ConcentratedState) -> Option<ConcentratedPool> {
    let price = ConcentratedPrice { sqrt_price: state.sqrt_price, tick: state.tick };
    let ticks = state.ticks.iter().map(|tick| (tick.index, tick.liquidity_net, tick.liquidity_gross));
    before.at_another_moment(Some(price), state.liquidity, ticks).ok()
}
