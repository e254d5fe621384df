//! The liquidations that were found, beside what the lending pools themselves say of every borrower at the same block.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolEvent};
use anyhow::{Context, ensure};
use headwater_reference::aave::contracts::Pool;
use headwater_reference::rpc::Refusal;
use serde_json::{Value, json};

use crate::devnet::{BANKER, Borrower, Devnet, Lending};
use crate::follower::{BlockLine, Results};

/// One, as health factors are counted.
const WAD: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);

/// Of the blocks between two that are asked about in any case.
const EVERY: usize = 4;

/// Asks about every so many blocks, and about all where somebody comes to be liquidatable or ceases to be: who is below one is who is
/// found, with the same health factor. Whoever is not found, the pool lets nobody liquidate. `floor`: how many are found, a sixth of
/// them at least in each of the pools.
pub(super) fn judge(devnet: &Devnet, results: &Results, floor: u64) -> anyhow::Result<String> {
    let borrowers = devnet.borrowers();
    let evaluated: Vec<&BlockLine> = results.blocks.iter().filter(|block| block.was_evaluated()).collect();
    let found: Vec<BTreeMap<Address, U256>> =
        evaluated.iter().map(|block| found_in(results, block.hash)).collect::<Result<_, _>>()?;
    let who = |index: usize| found.get(index).map(|found| found.keys().collect::<Vec<_>>());
    let is_edge = |index: usize| {
        who(index) != who(index + 1) || index.checked_sub(1).is_some_and(|before| who(index) != who(before))
    };
    let (mut blocks, mut edges, mut refused) = (0u64, 0u64, 0u64);
    let mut equal: BTreeMap<Address, u64> = BTreeMap::new();
    for (index, (block, found)) in evaluated.iter().zip(&found).enumerate() {
        if !is_edge(index) && !index.is_multiple_of(EVERY) {
            continue;
        }
        let not_found =
            compare(devnet, &borrowers, block, found).with_context(|| format!("block {}", block.number))?;
        blocks += 1;
        edges += u64::from(is_edge(index));
        for borrower in borrowers.iter().filter(|borrower| found.contains_key(&borrower.account)) {
            *equal.entry(borrower.pool).or_default() += 1;
        }
        refused += not_found;
    }
    let carried_out = carried_out(devnet, &evaluated)?;
    let (mut all, mut by_pool) = (0, Vec::new());
    for Lending { name, pool, .. } in &devnet.addresses().lending {
        let of = |counts: &BTreeMap<Address, u64>| counts.get(pool).copied().unwrap_or_default();
        let (equal, carried_out) = (of(&equal), of(&carried_out));
        ensure!(equal >= floor / 6, "only {equal} liquidations are found in {name}");
        ensure!(carried_out >= floor / 50, "only {carried_out} liquidations are carried out in {name}");
        all += equal;
        by_pool.push(format!("{equal} in {name} (where others carry out {carried_out})"));
    }
    ensure!(all >= floor, "only {all} liquidations are found, below {floor}");
    let asked = blocks * borrowers.len() as u64;
    Ok(format!(
        "{asked} accounts asked for by getUserAccountData in {blocks} blocks, {edges} of them before or behind a change: {} are below \
         one and found with this health factor, no other is found, {refused} are below one and the pool refuses their liquidation",
        by_pool.join(", ")
    ))
}

/// Borrowers and their health factors.
fn found_in(results: &Results, block: B256) -> anyhow::Result<BTreeMap<Address, U256>> {
    let mut found = BTreeMap::new();
    for line in results.found_in(block).iter().filter(|line| line.kind == "liquidation") {
        let (borrower, health) = line.borrower.zip(line.health_factor).context("a liquidation of nobody")?;
        ensure!(found.insert(borrower, health).is_none(), "{borrower} is found twice in {block}");
    }
    Ok(found)
}

/// By pool, how many liquidations the blocks hold.
fn carried_out(devnet: &Devnet, blocks: &[&BlockLine]) -> anyhow::Result<BTreeMap<Address, u64>> {
    let questions: Vec<_> = blocks
        .iter()
        .map(|block| {
            let topics = [Pool::LiquidationCall::SIGNATURE_HASH];
            ("eth_getLogs", json!([{ "blockHash": block.hash, "topics": topics }]))
        })
        .collect();
    let mut counts = BTreeMap::new();
    for logs in devnet.rpc().batch(&questions)? {
        for log in logs.as_array().context("no list of logs")? {
            *counts.entry(serde_json::from_value(log["address"].clone())?).or_default() += 1;
        }
    }
    Ok(counts)
}

/// How many below one are not found.
fn compare(
    devnet: &Devnet,
    borrowers: &[Borrower],
    block: &BlockLine,
    found: &BTreeMap<Address, U256>,
) -> anyhow::Result<u64> {
    let health = health_factors(devnet, borrowers, block.hash)?;
    let known: BTreeSet<Address> = borrowers.iter().map(|borrower| borrower.account).collect();
    let stranger = found.keys().find(|account| !known.contains(*account));
    ensure!(stranger.is_none(), "{stranger:?} is found, and is no borrower");
    let mut not_found = 0;
    for (borrower, health) in borrowers.iter().zip(health) {
        match found.get(&borrower.account) {
            Some(told) => {
                let account = borrower.account;
                ensure!(health < WAD, "{account} is found, and has a health factor of {health}");
                ensure!(*told == health, "{account} has a health factor of {health} and not of {told}");
            }
            None if health < WAD => {
                ensure_refused(devnet, borrower, block.hash)
                    .with_context(|| format!("{borrower:?} has a health factor of {health}"))?;
                not_found += 1;
            }
            None => {}
        }
    }
    Ok(not_found)
}

/// By the pool, at the block and its time.
fn health_factors(devnet: &Devnet, borrowers: &[Borrower], block: B256) -> anyhow::Result<Vec<U256>> {
    let questions: Vec<_> = borrowers
        .iter()
        .map(|borrower| {
            let call = Pool::getUserAccountDataCall { user: borrower.account };
            ("eth_call", question(borrower.pool, Address::ZERO, &call, block))
        })
        .collect();
    let answers = devnet.rpc().batch(&questions)?;
    answers
        .into_iter()
        .map(|answer| {
            let answer: Bytes = serde_json::from_value(answer)?;
            Ok(Pool::getUserAccountDataCall::abi_decode_returns(&answer)?.healthFactor)
        })
        .collect()
}

/// No part of the debt can be repaid by a liquidator.
fn ensure_refused(devnet: &Devnet, borrower: &Borrower, block: B256) -> anyhow::Result<()> {
    let quarter = borrower.borrowed / U256::from(4);
    for repay in [U256::MAX, quarter, quarter + quarter, borrower.borrowed - quarter, U256::from(1_000)] {
        let call = Pool::liquidationCallCall {
            collateralAsset: borrower.collateral,
            debtAsset: borrower.debt,
            user: borrower.account,
            debtToCover: repay,
            receiveAToken: false,
        };
        match devnet.rpc().call::<Value>("eth_call", question(borrower.pool, BANKER, &call, block)) {
            Ok(_) => anyhow::bail!("it is not found, and a liquidation of {repay} goes through"),
            Err(error) => {
                let refusal = error.downcast::<Refusal>()?;
                ensure!(refusal.message.contains("revert"), "the node fails: {refusal}");
            }
        }
    }
    Ok(())
}

fn question<C: SolCall>(pool: Address, from: Address, call: &C, block: B256) -> Value {
    json!([{ "from": from, "to": pool, "data": Bytes::from(call.abi_encode()) }, { "blockHash": block }])
}
