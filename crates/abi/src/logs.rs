//! Events by fixed layout.
//!
//! Nearly everything here is static in size: a topic or a word of data holds one value, so that decoding is a check of two
//! lengths and a few loads. A value whose unused bytes are not zero is refused, as Solidity's own decoder does.

use std::array::from_fn;

use alloy_primitives::{Address, B256, U256};
use headwater_events::{Action, Log, TokenTransfer, V2Action, V3Action, V4Action, WethAction};

use crate::Malformed;
use crate::aave;
use crate::words::{address, uint112, uint256};

pub(crate) mod feeds;
mod lending;
mod pools;
mod topics;

pub use topics::*;

/// The first topics of all logs that anything here reads: those of actions, and those that only a lending pool is followed by.
pub const FOLLOWED: &[B256] = &FOLLOWED_TOPICS;

const FOLLOWED_TOPICS: [B256; TOPICS.len() + aave::TOPICS.len()] = {
    let mut all = [B256::ZERO; TOPICS.len() + aave::TOPICS.len()];
    let mut next = 0;
    while next < all.len() {
        all[next] = if next < TOPICS.len() { TOPICS[next] } else { aave::TOPICS[next - TOPICS.len()] };
        next += 1;
    }
    all
};

/// Decodes a log of one topic.
type Decode = fn(&Log) -> Result<Action, Malformed>;

/// The rarer events, by ascending topic.
const OTHERS: [(B256, Decode); 36] = [
    (AAVE_COLLATERAL_ENABLED, lending::collateral_enabled),
    (ANSWER_UPDATED, feeds::answer_updated),
    (V3_BURN, pools::v3_burn),
    (ABSORB_DEBT, lending::absorb_debt),
    (PANCAKE_V3_SWAP, pools::pancake_v3_swap),
    (LIQUIDATE_BORROW, lending::liquidate_borrow),
    (V4_DONATE, pools::v4_donate),
    (AAVE_SUPPLY, lending::supply),
    (AAVE_DEFICIT_CREATED, lending::deficit_created),
    (AAVE_WITHDRAW, lending::withdraw),
    (AGGREGATOR_CONFIRMED, feeds::aggregator_confirmed),
    (V4_SWAP, pools::v4_swap),
    (AAVE_COLLATERAL_DISABLED, lending::collateral_disabled),
    (AAVE_REPAY_V2, lending::repay_v2),
    (V3_COLLECT, pools::v3_collect),
    (V3_POOL_CREATED, pools::v3_pool_created),
    (V3_MINT, pools::v3_mint),
    (AAVE_RESERVE_DATA_UPDATED, lending::reserve_data_updated),
    (AAVE_DEFICIT_COVERED, lending::deficit_covered),
    (V3_SET_FEE_PROTOCOL, pools::v3_set_fee_protocol),
    (ABSORB_COLLATERAL, lending::absorb_collateral),
    (V3_INITIALIZE, pools::v3_initialize),
    (AAVE_REPAY, lending::repay),
    (AAVE_BORROW, lending::borrow),
    (V3_FLASH, pools::v3_flash),
    (V3_SWAP, pools::v3_swap),
    (AAVE_BORROW_V2, lending::borrow_v2),
    (NEW_TRANSMISSION_OCR2, feeds::new_transmission_ocr2),
    (AAVE_USER_E_MODE_SET, lending::user_e_mode_set),
    (V4_INITIALIZE, pools::v4_initialize),
    (AAVE_DEPOSIT, lending::supply),
    (AAVE_LIQUIDATION_CALL, lending::liquidation_call),
    (V4_PROTOCOL_FEE_UPDATED, pools::v4_protocol_fee_updated),
    (V4_MODIFY_LIQUIDITY, pools::v4_modify_liquidity),
    (NEW_TRANSMISSION_OCR1, feeds::new_transmission_ocr1),
    (BUY_COLLATERAL, lending::buy_collateral),
];

/// The action that a log tells of; `None` where its shape is nobody's that is known here.
///
/// # Errors
///
/// [`Malformed`] when it carries a known topic with arguments that do not belong to it.
pub fn action(log: &Log) -> Result<Option<Action>, Malformed> {
    let Some(topic) = log.topics.first() else { return Ok(None) };
    // Most logs of a block are of these.
    match *topic {
        TRANSFER if log.topics.len() == 4 => Ok(None),
        TRANSFER => transfer(log).map(Some),
        SYNC => v2(log, sync),
        SWAP => v2(log, swap),
        V3_SWAP => pools::v3_swap(log).map(Some),
        MINT if log.topics.len() == 1 => Ok(None),
        MINT => v2(log, mint),
        BURN => v2(log, burn),
        PAIR_CREATED => v2(log, pair_created),
        DEPOSIT => weth(log, |account, amount| WethAction::Deposit { account, amount }),
        WITHDRAWAL => weth(log, |account, amount| WethAction::Withdrawal { account, amount }),
        other => match OTHERS.binary_search_by(|(known, _)| known.cmp(&other)) {
            Ok(found) => OTHERS[found].1(log).map(Some),
            Err(_) => Ok(None),
        },
    }
}

/// Only what changes a table of pools: `Sync` and `PairCreated`; `None` for every other log.
///
/// # Errors
///
/// As [`action`].
pub fn pool_change(log: &Log) -> Result<Option<V2Action>, Malformed> {
    match log.topics.first() {
        Some(&SYNC) => sync(log).map(Some),
        Some(&PAIR_CREATED) => pair_created(log).map(Some),
        _ => Ok(None),
    }
}

/// Only what changes a pool of Uniswap V3: `PoolCreated`, `Initialize`, `Swap` (also PancakeSwap's), `Mint` and `Burn`; `None` for
/// every other log.
///
/// # Errors
///
/// As [`action`].
pub fn concentrated_change(log: &Log) -> Result<Option<V3Action>, Malformed> {
    let decode = match log.topics.first() {
        Some(&V3_SWAP) => pools::v3_swap,
        Some(&PANCAKE_V3_SWAP) => pools::pancake_v3_swap,
        Some(&V3_MINT) => pools::v3_mint,
        Some(&V3_BURN) => pools::v3_burn,
        Some(&V3_INITIALIZE) => pools::v3_initialize,
        Some(&V3_POOL_CREATED) => pools::v3_pool_created,
        _ => return Ok(None),
    };
    Ok(match decode(log)? {
        Action::V3 { action, .. } => Some(action),
        _ => None,
    })
}

/// Only what changes a pool of Uniswap V4: `Initialize`, `Swap`, `ModifyLiquidity` and `ProtocolFeeUpdated`; `None` for every other
/// log.
///
/// # Errors
///
/// As [`action`].
pub fn v4_change(log: &Log) -> Result<Option<V4Action>, Malformed> {
    let decode = match log.topics.first() {
        Some(&V4_SWAP) => pools::v4_swap,
        Some(&V4_MODIFY_LIQUIDITY) => pools::v4_modify_liquidity,
        Some(&V4_INITIALIZE) => pools::v4_initialize,
        Some(&V4_PROTOCOL_FEE_UPDATED) => pools::v4_protocol_fee_updated,
        _ => return Ok(None),
    };
    Ok(match decode(log)? {
        Action::V4 { action, .. } => Some(action),
        _ => None,
    })
}

fn v2(log: &Log, decode: fn(&Log) -> Result<V2Action, Malformed>) -> Result<Option<Action>, Malformed> {
    let action = decode(log)?;
    Ok(Some(Action::V2 { log_index: log.log_index, emitter: log.address, action }))
}

fn sync(log: &Log) -> Result<V2Action, Malformed> {
    let words = shape::<1, 2>(log)?;
    Ok(V2Action::Sync { reserve0: uint112(&words[0])?, reserve1: uint112(&words[1])? })
}

fn swap(log: &Log) -> Result<V2Action, Malformed> {
    let [amount0_in, amount1_in, amount0_out, amount1_out] = shape::<3, 4>(log)?.each_ref().map(uint256);
    let (sender, to) = (address(&log.topics[1])?, address(&log.topics[2])?);
    Ok(V2Action::Swap { sender, to, amount0_in, amount1_in, amount0_out, amount1_out })
}

fn mint(log: &Log) -> Result<V2Action, Malformed> {
    let [amount0, amount1] = shape::<2, 2>(log)?.each_ref().map(uint256);
    Ok(V2Action::Mint { sender: address(&log.topics[1])?, amount0, amount1 })
}

fn burn(log: &Log) -> Result<V2Action, Malformed> {
    let [amount0, amount1] = shape::<3, 2>(log)?.each_ref().map(uint256);
    Ok(V2Action::Burn { sender: address(&log.topics[1])?, to: address(&log.topics[2])?, amount0, amount1 })
}

fn pair_created(log: &Log) -> Result<V2Action, Malformed> {
    let words = shape::<3, 2>(log)?;
    let (token0, token1) = (address(&log.topics[1])?, address(&log.topics[2])?);
    Ok(V2Action::PairCreated { token0, token1, pair: address(&words[0])?, count: uint256(&words[1]) })
}

fn transfer(log: &Log) -> Result<Action, Malformed> {
    let [amount] = shape::<3, 1>(log)?.each_ref().map(uint256);
    let (from, to) = (address(&log.topics[1])?, address(&log.topics[2])?);
    let transfer = TokenTransfer { token: log.address, from, to, amount };
    Ok(Action::Transfer { log_index: log.log_index, transfer })
}

fn weth(log: &Log, make: fn(Address, U256) -> WethAction) -> Result<Option<Action>, Malformed> {
    let [amount] = shape::<2, 1>(log)?.each_ref().map(uint256);
    let action = make(address(&log.topics[1])?, amount);
    Ok(Some(Action::Weth { log_index: log.log_index, emitter: log.address, action }))
}

/// The words of a log's data, once it is sure that it has so many topics and so many words.
fn shape<const TOPICS: usize, const WORDS: usize>(log: &Log) -> Result<[B256; WORDS], Malformed> {
    indexed::<TOPICS>(log)?;
    if log.data.len() != 32 * WORDS {
        return Err(Malformed::DataLength { expected: 32 * WORDS, found: log.data.len() });
    }
    Ok(from_fn(|word| B256::from_slice(&log.data[32 * word..32 * (word + 1)])))
}

fn indexed<const TOPICS: usize>(log: &Log) -> Result<(), Malformed> {
    if log.topics.len() != TOPICS {
        return Err(Malformed::Topics { expected: TOPICS, found: log.topics.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
