//! What an executed transaction did to tracked pools: what its logs say, and what the pools say of themselves behind it.

use alloy_primitives::{Bytes, U256};
use headwater_abi::logs::{concentrated_change, pool_change, v4_change};
use headwater_events::{Log, V2Action, V4Action};
use headwater_market::{
    ConcentratedId, ConcentratedKey, ConcentratedPool, ConcentratedPrice, MarketSnapshot, PoolId, Reserves,
    concentrated_event,
};

use crate::Unfollowed;
use crate::effects::Changed;
use crate::pinned::Question;

/// `UniswapV3Pool.slot0()`: the root of the price and the tick come first, in forks as well.
const SLOT0: [u8; 4] = [0x38, 0x50, 0xc7, 0xbd];
/// `UniswapV3Pool.liquidity()`
const LIQUIDITY: [u8; 4] = [0x1a, 0x68, 0x65, 0x02];

/// What each touched pool of V3 is asked behind the transaction, in the order in which [`changed`] wants the answers.
pub(crate) fn questions(market: &MarketSnapshot, logs: &[Log]) -> Vec<Question> {
    let asked = |id: ConcentratedId| {
        let of = market.concentrated.meta(id).map(|meta| meta.address).unwrap_or_default();
        [SLOT0, LIQUIDITY].map(|function| Question { of, function })
    };
    touched(market, logs).into_iter().flat_map(asked).collect()
}

/// The pools of V3 of which something is known and that say that they changed, each once.
fn touched(market: &MarketSnapshot, logs: &[Log]) -> Vec<ConcentratedId> {
    let mut touched = Vec::new();
    for log in logs {
        let Some(id) = market.concentrated.find(&log.address) else { continue };
        let changes = !matches!(concentrated_change(log), Ok(None));
        if changes && market.concentrated.pool(id).is_some() && !touched.contains(&id) {
            touched.push(id);
        }
    }
    touched
}

/// What the transaction changed. Price and liquidity of a pool of V3 are what it answers behind it; its ticks follow its logs, and
/// these have to lead where it stands.
pub(crate) fn changed(
    market: &MarketSnapshot,
    logs: &[Log],
    answers: &[Option<Bytes>],
) -> Result<Changed, Unfollowed> {
    if logs.iter().any(|log| is_of_v4(market, log)) {
        return Err(Unfollowed::V4);
    }
    let mut concentrated = Vec::new();
    for (id, answers) in touched(market, logs).into_iter().zip(answers.chunks(2)) {
        let pool = followed(market, id, logs).ok_or(Unfollowed::Contradiction)?;
        if standing(answers) != pool.price().map(|price| (price, pool.liquidity())) {
            return Err(Unfollowed::Contradiction);
        }
        concentrated.push((id, pool));
    }
    Ok(Changed { reserves: reserves(market, logs), concentrated })
}

/// Whether a tracked pool of V4 changed.
fn is_of_v4(market: &MarketSnapshot, log: &Log) -> bool {
    let id = match v4_change(log) {
        Ok(Some(V4Action::Swap { id, .. } | V4Action::ModifyLiquidity { id, .. })) => id,
        Ok(Some(V4Action::ProtocolFeeUpdated { id, .. })) => id,
        _ => return false,
    };
    market.concentrated.find_key(&ConcentratedKey::V4 { manager: log.address, id }).is_some()
}

/// What the pairs hold by their last logs.
fn reserves(market: &MarketSnapshot, logs: &[Log]) -> Vec<(PoolId, Reserves)> {
    let mut changed: Vec<(PoolId, Reserves)> = Vec::new();
    for log in logs {
        let Some(pool) = market.pools.find(&log.address) else { continue };
        let Ok(Some(V2Action::Sync { reserve0, reserve1 })) = pool_change(log) else { continue };
        changed.retain(|(other, _)| *other != pool);
        changed.push((pool, Reserves { reserve0, reserve1 }));
    }
    changed
}

/// The pool as its logs lead it on; `None` where it cannot have emitted them.
fn followed(market: &MarketSnapshot, id: ConcentratedId, logs: &[Log]) -> Option<ConcentratedPool> {
    let (meta, pool) = (market.concentrated.meta(id)?, market.concentrated.pool(id)?);
    let mut pool = ConcentratedPool::clone(pool);
    for log in logs.iter().filter(|log| log.address == meta.address) {
        if let Some(event) = concentrated_change(log).ok()?.as_ref().and_then(concentrated_event) {
            pool.apply(&event).ok()?;
        }
    }
    Some(pool)
}

/// Where the pool says that it stands.
fn standing(answers: &[Option<Bytes>]) -> Option<(ConcentratedPrice, u128)> {
    let [Some(slot0), Some(liquidity)] = answers else { return None };
    let (words, _) = slot0.as_chunks::<32>();
    let [sqrt_price, tick, ..] = words else { return None };
    let tick = i32::from_be_bytes(*tick.last_chunk()?);
    let liquidity = U256::from_be_bytes(*liquidity.first_chunk::<32>()?);
    let price = ConcentratedPrice { sqrt_price: U256::from_be_bytes(*sqrt_price), tick };
    Some((price, u128::try_from(liquidity).ok()?))
}
