//! The digest of a state, as the README of `crates/market` describes it, from the blocks alone: all of them are folded
//! again, and what each of the last ones changed is written down on the way. Every pool has to be proven by then: of other
//! contracts nothing is known here.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use alloy_primitives::{Address, B256, U256, keccak256};
use serde_json::Value;

use crate::fake_node::{FakeBlock, bytes, sync_topic};
use crate::scratch::{Known, Scratch, ScratchPool, ScratchPrice, before_blocks};

/// Blocks that can be undone.
const HORIZON: usize = 64;

/// The digest after these blocks, which stand on each other and on the block of the hash `loaded`, at which the pools of
/// `known` were loaded.
pub fn state_digest(known: &Known, loaded: B256, blocks: &[FakeBlock]) -> B256 {
    let [state, oracle] = accounts(known, loaded, blocks);
    keccak256([keccak256(state), keccak256(oracle)].concat())
}

/// The account of the state, and that of the oracle.
pub fn accounts(known: &Known, loaded: B256, blocks: &[FakeBlock]) -> [String; 2] {
    let (old, last) = blocks.split_at(blocks.len().saturating_sub(HORIZON));
    let mut market = before_blocks(known);
    old.iter().for_each(|block| market.block(known, block));
    let (mut undo, mut undo_quoted, mut undo_prices) = (String::new(), String::new(), String::new());
    for block in last {
        let before = market.clone();
        market.block(known, block);
        undo.push_str(&undo_of(block, &before, |_| true));
        undo_quoted.push_str(&undo_of(block, &before, |pool| holds(pool, known.wrapped_native)));
        undo_prices.push_str("unprice\n");
        undo_prices.push_str(&changed_prices(known, &before, &market));
    }
    let base = old.last().map_or(loaded, FakeBlock::hash);
    let head = blocks.last().map_or(loaded, FakeBlock::hash);
    let heading = format!("book {base:#x} {head:#x}\n");
    let state = [heading.clone(), pools(&market, |_| true), undo].concat();
    let quoted = pools(&market, |pool| holds(pool, known.wrapped_native));
    let oracle = [heading, quoted, undo_quoted, prices(known, &market), undo_prices].concat();
    [state, oracle]
}

fn holds(pool: &ScratchPool, token: Address) -> bool {
    pool.token0 == token || pool.token1 == token
}

fn pools(market: &Scratch, is_told: impl Fn(&ScratchPool) -> bool) -> String {
    let mut text = String::new();
    for (address, pool) in market.pools.iter().filter(|(_, pool)| is_told(pool)) {
        let ScratchPool { factory, token0, token1, fee_ppm, reserves, is_quoted } = pool;
        let quoted = if *is_quoted { "quoted" } else { "-" };
        let held = held(*reserves);
        let _ = writeln!(
            text,
            "pool {address:#x} {factory:#x} uniswap-v2 {token0:#x} {token1:#x} {fee_ppm} {held} {quoted}"
        );
    }
    text
}

/// What was before each `Sync` of a block.
fn undo_of(block: &FakeBlock, before: &Scratch, is_told: impl Fn(&ScratchPool) -> bool) -> String {
    let mut market = before.pools.clone();
    let (number, hash, parent) = (block.number(), block.hash(), block.parent_hash());
    let mut text = format!("undo {number} {hash:#x} {parent:#x}\n");
    for log in block.logs() {
        let Some((address, now)) = sync(log) else { continue };
        let Some(pool) = market.get_mut(&address).filter(|pool| is_told(pool)) else { continue };
        let since = pool.reserves.map_or_else(|| "-".to_owned(), |_| number.to_string());
        let _ = writeln!(text, "was {address:#x} {} {since} -", held(pool.reserves));
        pool.reserves = Some(now);
    }
    text
}

fn sync(log: &Value) -> Option<(Address, (u128, u128))> {
    let topics = log["topics"].as_array()?;
    if topics.len() != 1 || bytes(&topics[0]) != sync_topic().0 {
        return None;
    }
    let data = bytes(&log["data"]);
    let word = |at: usize| U256::try_from_be_slice(data.get(at..at + 32)?)?.try_into().ok();
    Some((Address::from_slice(&bytes(&log["address"])), (word(0)?, word(32)?)))
}

fn prices(known: &Known, market: &Scratch) -> String {
    market.prices.iter().map(|(token, price)| price_line(known, "price", token, Some(price))).collect()
}

fn changed_prices(known: &Known, before: &Scratch, after: &Scratch) -> String {
    let tokens: BTreeSet<_> = before.prices.keys().chain(after.prices.keys()).collect();
    let changed = tokens.into_iter().filter(|token| before.prices.get(*token) != after.prices.get(*token));
    changed.map(|token| price_line(known, "was", token, before.prices.get(token))).collect()
}

fn price_line(known: &Known, word: &str, token: &Address, price: Option<&ScratchPrice>) -> String {
    match price {
        None => format!("{word} {token:#x} -\n"),
        Some(ScratchPrice { mantissa, source, changed_at }) => {
            format!("{word} {token:#x} {:#x} {mantissa} {source:#x} {changed_at}\n", known.wrapped_native)
        }
    }
}

fn held(reserves: Option<(u128, u128)>) -> String {
    reserves.map_or_else(|| "- -".to_owned(), |(reserve0, reserve1)| format!("{reserve0} {reserve1}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_node::{BlockBuilder, FakeLog, FakeTransaction, V2Pair};

    const WETH: Address = Address::repeat_byte(1);
    const FACTORY: Address = Address::repeat_byte(0xfa);

    fn pair(address: u8, token0: u8, token1: u8) -> V2Pair {
        let [address, token0, token1] = [address, token0, token1].map(Address::repeat_byte);
        V2Pair { address, factory: FACTORY, token0, token1, reserve0: 100, reserve1: 50 }
    }

    #[test]
    fn an_account_is_what_the_description_says() {
        let known = Known {
            factories: [(FACTORY, 3_000)].into(),
            wrapped_native: WETH,
            min_base_reserve: U256::from(10),
            loaded: vec![pair(0x10, 1, 2), pair(0x11, 2, 3)],
            ..Known::default()
        };
        let syncs = [(0x11, 7, 8), (0x10, 120, 40), (0x10, 120, 60)];
        let logs = syncs.map(|(pool, a, b)| FakeLog::sync(Address::repeat_byte(pool), a, b)).to_vec();
        let loaded = BlockBuilder::first(5).build();
        let block = BlockBuilder::child_of(&loaded).transaction(FakeTransaction::emitting(logs)).build();
        let [state, oracle] = accounts(&known, loaded.hash(), std::slice::from_ref(&block));
        let [weth, two, three, ten, eleven, factory] =
            [1, 2, 3, 0x10, 0x11, 0xfa].map(|byte| format!("{:#x}", Address::repeat_byte(byte)));
        let (base, head) = (format!("{:#x}", loaded.hash()), format!("{:#x}", block.hash()));
        let quoted = format!("pool {ten} {factory} uniswap-v2 {weth} {two} 3000 120 60 quoted\n");
        let undo = format!("undo 6 {head} {base}\n");
        let was = format!("was {ten} 100 50 6 -\nwas {ten} 120 40 6 -\n");
        let heading = format!("book {base} {head}\n");
        assert_eq!(
            state,
            format!(
                "{heading}{quoted}pool {eleven} {factory} uniswap-v2 {two} {three} 3000 7 8 quoted\n{undo}was {eleven} 100 50 6 -\n{was}"
            )
        );
        let mantissa = U256::from(2) * U256::from(10).pow(U256::from(36));
        assert_eq!(
            oracle,
            format!(
                "{heading}{quoted}{undo}{was}price {two} {weth} {mantissa} {ten} 6\nunprice\nwas {two} -\n"
            )
        );
    }
}
