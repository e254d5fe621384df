//! Events by fixed layout.
//!
//! Everything here is static in size: a topic or a word of data holds one value, so that decoding is a check of two
//! lengths and a few loads. A value whose unused bytes are not zero is refused, as Solidity's own decoder does.

use alloy_primitives::{Address, B256, U256, b256};
use headwater_events::{Action, Log, TokenTransfer, V2Action, WethAction};

use crate::Malformed;
use crate::chainlink::{AGGREGATOR_CONFIRMED, ANSWER_UPDATED};

/// `Transfer(address indexed from, address indexed to, uint256 value)` (EIP-20). ERC-721 has the same topic and indexes
/// the third argument as well.
pub const TRANSFER: B256 = b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");
/// `Sync(uint112 reserve0, uint112 reserve1)` (v2-core, `UniswapV2Pair.sol`).
pub const SYNC: B256 = b256!("1c411e9a96e071241c2f21f7726b17ae89e3cab4c78be50e062b03a9fffbbad1");
/// `Swap(address indexed sender, uint256 amount0In, uint256 amount1In, uint256 amount0Out, uint256 amount1Out,
/// address indexed to)` (v2-core, `UniswapV2Pair.sol`).
pub const SWAP: B256 = b256!("d78ad95fa46c994b6551d0da85fc275fe613ce37657fb8d5e3d130840159d822");
/// `Mint(address indexed sender, uint256 amount0, uint256 amount1)` (v2-core, `UniswapV2Pair.sol`). Compound V2's
/// `CToken` has an event of the same topic that indexes nothing.
pub const MINT: B256 = b256!("4c209b5fc8ad50758f13e2e1088ba56a560dff690a1c6fef26394f4c03821c4f");
/// `Burn(address indexed sender, uint256 amount0, uint256 amount1, address indexed to)` (v2-core,
/// `UniswapV2Pair.sol`).
pub const BURN: B256 = b256!("dccd412f0b1252819cb1fd330b93224ca42612892bb3f4f789976e6d81936496");
/// `PairCreated(address indexed token0, address indexed token1, address pair, uint256 count)` (v2-core,
/// `UniswapV2Factory.sol`).
pub const PAIR_CREATED: B256 = b256!("0d3648bd0f6ba80134a33ba9275ac585d9d315f0ad8355cddefde31afa28d0e9");
/// `Deposit(address indexed dst, uint256 wad)` (`WETH9.sol`).
pub const DEPOSIT: B256 = b256!("e1fffcc4923d04b559f4d29a8bfc6cda04eb5b0d3c460751c2402c5c5cc9109c");
/// `Withdrawal(address indexed src, uint256 wad)` (`WETH9.sol`).
pub const WITHDRAWAL: B256 = b256!("7fcf532c15f0a6db0bd6d0e038bea71d30d808c7d98cb3bf7268a95bf5081b65");

/// The first topics of all logs that are decoded here.
pub const TOPICS: [B256; 10] = [
    TRANSFER,
    SYNC,
    SWAP,
    MINT,
    BURN,
    PAIR_CREATED,
    DEPOSIT,
    WITHDRAWAL,
    ANSWER_UPDATED,
    AGGREGATOR_CONFIRMED,
];

/// The action that a log tells of; `None` where its shape is nobody's that is known here.
///
/// # Errors
///
/// [`Malformed`] when it carries a known topic with arguments that do not belong to it.
pub fn action(log: &Log) -> Result<Option<Action>, Malformed> {
    let Some(topic) = log.topics.first() else { return Ok(None) };
    match *topic {
        TRANSFER if log.topics.len() == 4 => Ok(None),
        TRANSFER => transfer(log).map(Some),
        SYNC => v2(log, sync),
        SWAP => v2(log, swap),
        MINT if log.topics.len() == 1 => Ok(None),
        MINT => v2(log, mint),
        BURN => v2(log, burn),
        PAIR_CREATED => v2(log, pair_created),
        DEPOSIT => weth(log, |account, amount| WethAction::Deposit { account, amount }),
        WITHDRAWAL => weth(log, |account, amount| WethAction::Withdrawal { account, amount }),
        _ => Ok(None),
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

fn v2(log: &Log, decode: fn(&Log) -> Result<V2Action, Malformed>) -> Result<Option<Action>, Malformed> {
    let action = decode(log)?;
    Ok(Some(Action::V2 { log_index: log.log_index, emitter: log.address, action }))
}

fn sync(log: &Log) -> Result<V2Action, Malformed> {
    let words = shape::<1, 2>(log)?;
    Ok(V2Action::Sync { reserve0: uint112(&words[0])?, reserve1: uint112(&words[1])? })
}

fn swap(log: &Log) -> Result<V2Action, Malformed> {
    let [amount0_in, amount1_in, amount0_out, amount1_out] = shape::<3, 4>(log)?.map(uint256);
    let (sender, to) = (address(&log.topics[1])?, address(&log.topics[2])?);
    Ok(V2Action::Swap { sender, to, amount0_in, amount1_in, amount0_out, amount1_out })
}

fn mint(log: &Log) -> Result<V2Action, Malformed> {
    let [amount0, amount1] = shape::<2, 2>(log)?.map(uint256);
    Ok(V2Action::Mint { sender: address(&log.topics[1])?, amount0, amount1 })
}

fn burn(log: &Log) -> Result<V2Action, Malformed> {
    let [amount0, amount1] = shape::<3, 2>(log)?.map(uint256);
    Ok(V2Action::Burn { sender: address(&log.topics[1])?, to: address(&log.topics[2])?, amount0, amount1 })
}

fn pair_created(log: &Log) -> Result<V2Action, Malformed> {
    let words = shape::<3, 2>(log)?;
    let (token0, token1) = (address(&log.topics[1])?, address(&log.topics[2])?);
    Ok(V2Action::PairCreated { token0, token1, pair: address(&words[0])?, count: uint256(words[1]) })
}

fn transfer(log: &Log) -> Result<Action, Malformed> {
    let [amount] = shape::<3, 1>(log)?.map(uint256);
    let (from, to) = (address(&log.topics[1])?, address(&log.topics[2])?);
    let transfer = TokenTransfer { token: log.address, from, to, amount };
    Ok(Action::Transfer { log_index: log.log_index, transfer })
}

fn weth(log: &Log, make: fn(Address, U256) -> WethAction) -> Result<Option<Action>, Malformed> {
    let [amount] = shape::<2, 1>(log)?.map(uint256);
    let action = make(address(&log.topics[1])?, amount);
    Ok(Some(Action::Weth { log_index: log.log_index, emitter: log.address, action }))
}

/// The words of a log's data, once it is sure that it has so many topics and so many words.
fn shape<const TOPICS: usize, const WORDS: usize>(log: &Log) -> Result<[B256; WORDS], Malformed> {
    if log.topics.len() != TOPICS {
        return Err(Malformed::Topics { expected: TOPICS, found: log.topics.len() });
    }
    if log.data.len() != 32 * WORDS {
        return Err(Malformed::DataLength { expected: 32 * WORDS, found: log.data.len() });
    }
    Ok(std::array::from_fn(|word| B256::from_slice(&log.data[32 * word..32 * (word + 1)])))
}

fn uint256(word: B256) -> U256 {
    U256::from_be_bytes(word.0)
}

fn uint112(word: &B256) -> Result<u128, Malformed> {
    let [high @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _] = &word.0;
    if *high != [0; 18] {
        return Err(Malformed::OutOfRange("uint112"));
    }
    let mut low = [0; 16];
    low.copy_from_slice(&word[16..]);
    Ok(u128::from_be_bytes(low))
}

fn address(word: &B256) -> Result<Address, Malformed> {
    if word[..12] != [0; 12] {
        return Err(Malformed::OutOfRange("address"));
    }
    Ok(Address::from_word(*word))
}

#[cfg(test)]
mod tests;
