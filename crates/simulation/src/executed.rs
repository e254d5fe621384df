//! What an executed transaction did to tracked pools: what its logs say, and where the pools stand behind it.

use alloy_primitives::{B256, Bytes, U256, keccak256};
use headwater_abi::logs::{concentrated_change, pool_change, v4_change};
use headwater_events::{Log, V2Action};
use headwater_market::{
    ConcentratedEvent, ConcentratedId, ConcentratedKey, ConcentratedKind, ConcentratedMeta, ConcentratedPool,
    ConcentratedPrice, MarketSnapshot, PoolId, Reserves, concentrated_event, v4_event,
};

use crate::assembler::calldata;
use crate::effects::Changed;
use crate::pinned::Question;

/// `UniswapV3Pool.slot0()`: the root of the price and the tick come first, in forks as well.
const SLOT0: [u8; 4] = [0x38, 0x50, 0xc7, 0xbd];
/// `UniswapV3Pool.liquidity()`
const LIQUIDITY: [u8; 4] = [0x1a, 0x68, 0x65, 0x02];
/// `PoolManager.extsload(bytes32 slot)`
const EXTSLOAD: [u8; 4] = [0x1e, 0x2e, 0xae, 0xaf];

/// The slot of `PoolManager`'s mapping of pools (v4-core `StateLibrary.sol`).
const V4_POOLS: U256 = U256::from_limbs([6, 0, 0, 0]);
/// Behind the word with the price, and two fee growths.
const V4_LIQUIDITY: U256 = U256::from_limbs([3, 0, 0, 0]);

/// What each touched pool with concentrated liquidity is asked behind the transaction, in the order in which [`changed`] wants the
/// answers.
pub(crate) fn questions(market: &MarketSnapshot, logs: &[Log]) -> Vec<Question> {
    let metas = touched(market, logs).into_iter().filter_map(|id| market.concentrated.meta(id));
    metas.flat_map(where_it_stands).collect()
}

/// Where a pool stands, and its liquidity.
fn where_it_stands(meta: &ConcentratedMeta) -> [Question; 2] {
    let calldata = match meta.kind {
        ConcentratedKind::V3 => [SLOT0, LIQUIDITY].map(|function| calldata(function, &[])),
        ConcentratedKind::V4 { id } => {
            let slot: U256 = keccak256([id, B256::from(V4_POOLS)].concat()).into();
            [slot, slot.wrapping_add(V4_LIQUIDITY)].map(|slot| calldata(EXTSLOAD, &[slot]))
        }
    };
    calldata.map(|calldata| Question { of: meta.address, calldata })
}

/// What a log says about a tracked pool with concentrated liquidity; the event is absent where it cannot be read.
fn said(market: &MarketSnapshot, log: &Log) -> Option<(ConcentratedId, Option<ConcentratedEvent>)> {
    let table = &market.concentrated;
    let (id, event) = match table.find(&log.address) {
        Some(id) => match concentrated_change(log) {
            Ok(action) => (id, Some(concentrated_event(&action?)?)),
            Err(_) => (id, None),
        },
        None => {
            let (id, event) = match v4_change(log) {
                Ok(action) => v4_event(&action?).map(|(id, event)| (id, Some(event)))?,
                Err(_) => (*log.topics.get(1)?, None),
            };
            (table.find_key(&ConcentratedKey::V4 { manager: log.address, id })?, event)
        }
    };
    // Of a pool of which nothing is known, nothing is known behind the transaction either.
    table.pool(id).map(|_| (id, event))
}

/// The pools that say that they changed, each once.
fn touched(market: &MarketSnapshot, logs: &[Log]) -> Vec<ConcentratedId> {
    let mut touched = Vec::new();
    for (id, _) in logs.iter().filter_map(|log| said(market, log)) {
        if !touched.contains(&id) {
            touched.push(id);
        }
    }
    touched
}

/// What the transaction changed. A pool with concentrated liquidity follows its logs, as it does in a block, and they have to lead where
/// it stands; `None` where they do not.
pub(crate) fn changed(market: &MarketSnapshot, logs: &[Log], answers: &[Option<Bytes>]) -> Option<Changed> {
    let touched = touched(market, logs);
    let mut concentrated = Vec::with_capacity(touched.len());
    for (place, id) in touched.into_iter().enumerate() {
        let pool = followed(market, id, logs)?;
        let answers = answers.get(2 * place..)?.first_chunk::<2>()?;
        let is_there = match market.concentrated.meta(id)?.kind {
            ConcentratedKind::V3 => stands_v3(&pool, answers),
            ConcentratedKind::V4 { .. } => stands_v4(&pool, answers),
        };
        is_there.filter(|is_there| *is_there)?;
        concentrated.push((id, pool));
    }
    Some(Changed { reserves: reserves(market, logs), concentrated })
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
    let mut pool = ConcentratedPool::clone(market.concentrated.pool(id)?);
    let said = logs.iter().filter_map(|log| said(market, log));
    for (_, event) in said.filter(|(of, _)| *of == id) {
        pool.apply(&event?).ok()?;
    }
    Some(pool)
}

/// By what `slot0()` and `liquidity()` answer.
fn stands_v3(pool: &ConcentratedPool, [slot0, liquidity]: &[Option<Bytes>; 2]) -> Option<bool> {
    let [sqrt_price, tick, ..] = slot0.as_ref()?.as_chunks::<32>().0 else { return None };
    let tick = i32::from_be_bytes(*tick.last_chunk()?);
    let price = ConcentratedPrice { sqrt_price: U256::from_be_bytes(*sqrt_price), tick };
    Some(pool.price() == Some(price) && U256::from(pool.liquidity()) == word(liquidity)?)
}

/// By the words of the manager's storage: price, tick and the protocol's fee share one, from the lowest bit on.
fn stands_v4(pool: &ConcentratedPool, [slot0, liquidity]: &[Option<Bytes>; 2]) -> Option<bool> {
    let slot0 = word(slot0)?;
    let bits = |from: usize, count: usize| (slot0 >> from) & ((U256::ONE << count) - U256::ONE);
    let tick = (bits(160, 24).to::<u32>() << 8) as i32 >> 8;
    let price = ConcentratedPrice { sqrt_price: bits(0, 160), tick };
    let is_fee = U256::from(pool.fee().packed_protocol()) == bits(184, 24);
    Some(is_fee && pool.price() == Some(price) && U256::from(pool.liquidity()) == word(liquidity)?)
}

fn word(answer: &Option<Bytes>) -> Option<U256> {
    Some(U256::from_be_bytes(*answer.as_ref()?.first_chunk::<32>()?))
}

#[cfg(test)]
mod tests;
