//! The market as the node itself tells it: every pair of the given factories with its reserves at one block, asked for one by
//! one through the contracts' own view functions.

use alloy_primitives::{Address, B256, Bytes, U256};
use anyhow::ensure;
use serde_json::{Value, json};

use crate::arbitrage::Pool;
use crate::rpc::Rpc;

/// Uniswap V2's 0.3 %.
const FEE_PPM: u32 = 3_000;

const ALL_PAIRS: &str = "1e3dd18b";
const ALL_PAIRS_LENGTH: &str = "574f2ba3";
const GET_RESERVES: &str = "0902f1ac";
const TOKEN0: &str = "0dfe1681";
const TOKEN1: &str = "d21220a7";

/// All pairs of these Uniswap V2 factories at the end of `block`, in the order of their creation.
///
/// # Errors
/// A node without the state of that block, or factories that are none.
pub fn pools_at(rpc: &Rpc, factories: &[Address], block: u64) -> anyhow::Result<Vec<Pool>> {
    let mut addresses = Vec::new();
    for factory in factories {
        let count = ask(rpc, block, &[(*factory, ALL_PAIRS_LENGTH.to_owned())])?[0][0].to::<u64>();
        let pairs: Vec<_> = (0..count).map(|index| (*factory, format!("{ALL_PAIRS}{index:064x}"))).collect();
        addresses.extend(ask(rpc, block, &pairs)?.iter().map(|words| address(words[0])));
    }
    let ask_all = |selector: &str| {
        let calls: Vec<_> = addresses.iter().map(|pool| (*pool, selector.to_owned())).collect();
        ask(rpc, block, &calls)
    };
    let (tokens0, tokens1, reserves) = (ask_all(TOKEN0)?, ask_all(TOKEN1)?, ask_all(GET_RESERVES)?);
    let pools = addresses.iter().enumerate().map(|(index, pool)| Pool {
        address: *pool,
        token0: address(tokens0[index][0]),
        token1: address(tokens1[index][0]),
        reserve0: reserves[index][0].to(),
        reserve1: reserves[index][1].to(),
        fee_ppm: FEE_PPM,
    });
    Ok(pools.collect())
}

/// The words of each answer; at least one each.
fn ask(rpc: &Rpc, block: u64, calls: &[(Address, String)]) -> anyhow::Result<Vec<Vec<U256>>> {
    let questions: Vec<(&str, Value)> = calls
        .iter()
        .map(|(to, data)| {
            ("eth_call", json!([{ "to": to, "data": format!("0x{data}") }, format!("{block:#x}")]))
        })
        .collect();
    let answers = rpc.batch(&questions)?;
    answers.into_iter().zip(calls).map(|(answer, (to, _))| words(answer, *to)).collect()
}

fn words(answer: Value, of: Address) -> anyhow::Result<Vec<U256>> {
    let bytes: Bytes = serde_json::from_value(answer)?;
    ensure!(
        !bytes.is_empty() && bytes.len().is_multiple_of(32),
        "{of} does not answer as a Uniswap V2 contract does"
    );
    Ok(bytes.chunks(32).map(U256::from_be_slice).collect())
}

fn address(word: U256) -> Address {
    Address::from_word(B256::from(word))
}
