//! The judge by execution, judged: what the reference search promises is what the contracts pay, and not a wei more.

use std::collections::BTreeSet;

use alloy_primitives::{Address, I256, U256};
use headwater_reference::arbitrage::{self, search};
use headwater_reference::executed::{Cycle, Execution, Judge};
use headwater_reference::market::pools_at;
use headwater_tests::devnet::{self, Artifacts, Devnet, Extent, Trader};

fn factories(devnet: &Devnet) -> Vec<Address> {
    devnet.addresses().factories.iter().map(|exchange| exchange.address).collect()
}

fn bases(devnet: &Devnet) -> [Address; 2] {
    [devnet.addresses().weth, devnet.addresses().token("USDC")]
}

fn predicted(found: &arbitrage::Cycle) -> Cycle {
    let amounts = [found.amount_in].iter().chain(&found.amounts).map(|amount| U256::from(*amount)).collect();
    Cycle { pools: found.path.clone(), tokens: found.tokens.clone(), amounts }
}

#[test]
fn the_balance_is_the_predicted_one_and_one_wei_more_reverts() -> anyhow::Result<()> {
    if !devnet::available("the judge by execution")? {
        return Ok(());
    }
    let devnet = Devnet::start_with(Extent::Pairs)?;
    let mut trader = Trader::new(11, &devnet);
    let mut judge = Judge::start(&Artifacts::install()?.anvil()?, &devnet.http_url())?;
    let (mut executed, mut hops, mut first_tokens) = (0, BTreeSet::new(), BTreeSet::new());
    for count in 0..20 {
        trader.trade(&devnet)?;
        devnet.mine()?;
        // The fork must not remember a block that was replaced.
        let head = if count % 7 == 6 { devnet.reorg(1, &mut trader)? } else { devnet.head()? };
        let block = head.number;
        let pools = pools_at(devnet.rpc(), &factories(&devnet), block)?;
        let found = search(&pools, &bases(&devnet), 3);
        // The first, a middle one and the last of the list: different lengths and bases.
        for index in BTreeSet::from([0, found.len() / 2, found.len().saturating_sub(1)]) {
            let Some(found) = found.get(index) else { continue };
            let mut cycle = predicted(found);
            assert_eq!(judge.amounts(block, &cycle.pools, &cycle.tokens, cycle.amounts[0])?, cycle.amounts);
            match judge.execute(block, &cycle)? {
                Execution::Balanced { gained, gas } => {
                    assert_eq!(gained, I256::try_from(found.profit)?, "block {block}: {cycle:?}");
                    assert!((100_000..1_000_000).contains(&gas), "{gas} gas");
                }
                Execution::Reverted => panic!("block {block}: the contracts refuse {cycle:?}"),
            }
            *cycle.amounts.last_mut().expect("amounts") += U256::ONE;
            assert_eq!(
                judge.execute(block, &cycle)?,
                Execution::Reverted,
                "block {block}: one unit too greedy"
            );
            executed += 1;
            hops.insert(found.path.len());
            first_tokens.insert(found.tokens[0]);
        }
    }
    assert!(executed >= 20, "only {executed} cycles were executed");
    assert_eq!(hops, BTreeSet::from([2, 3]));
    assert_eq!(first_tokens, BTreeSet::from(bases(&devnet)));
    Ok(())
}

#[test]
fn a_cycle_that_loses_is_no_gain() -> anyhow::Result<()> {
    if !devnet::available("the judge by execution, on losses")? {
        return Ok(());
    }
    let devnet = Devnet::start_with(Extent::Pairs)?;
    let block = devnet.head()?.number;
    let mut judge = Judge::start(&Artifacts::install()?.anvil()?, &devnet.http_url())?;
    let addresses = devnet.addresses();
    let pools = ["uniswap", "sushi"].map(|factory| addresses.pool(factory, "WETH", "USDC").address);
    let tokens = ["WETH", "USDC", "WETH"].map(|symbol| addresses.token(symbol));
    let amounts = judge.amounts(block, &pools, &tokens, U256::from(10).pow(U256::from(18)))?;
    let cycle = Cycle { pools: pools.to_vec(), tokens: tokens.to_vec(), amounts };
    // Both pools stand at the same price, so the fees are lost; the caller, who owns nothing, cannot pay the loan back.
    assert!(cycle.amounts[2] < cycle.amounts[0]);
    assert_eq!(judge.execute(block, &cycle)?, Execution::Reverted);
    assert!(
        judge.execute(block + 1000, &cycle).is_err(),
        "a block that does not exist is an error, not a verdict"
    );
    Ok(())
}

#[test]
fn three_hundred_blocks_hold_both_profit_and_peace() -> anyhow::Result<()> {
    if !devnet::available("the trader's markets")? {
        return Ok(());
    }
    let devnet = Devnet::start_with(Extent::Pairs)?;
    let mut trader = Trader::new(1, &devnet);
    let (mut none, mut gross, mut net) = (0, 0, 0);
    let mut pools_at_the_end = 0;
    for _ in 0..300 {
        trader.trade(&devnet)?;
        let head = devnet.mine()?;
        let pools = pools_at(devnet.rpc(), &factories(&devnet), head.number)?;
        pools_at_the_end = pools.len();
        let best = |hops| {
            let found = search(&pools, &[devnet.addresses().weth], hops);
            found.iter().map(|cycle| cycle.profit).max().unwrap_or(0)
        };
        let gas = u128::from(head.base_fee_per_gas) * 300_000;
        // Three pools are looked at only where two do not settle the matter: the reference search takes its time.
        let best = Some(best(2)).filter(|best| *best > gas).unwrap_or_else(|| best(3));
        none += u32::from(best == 0);
        gross += u32::from(best > 0);
        net += u32::from(best > gas);
    }
    eprintln!(
        "{none} blocks without a profitable cycle, {gross} with, {net} after gas; {pools_at_the_end} pools"
    );
    assert!(none >= 50, "only {none} blocks without a profitable cycle");
    assert!(net >= 100, "only {net} blocks with one that pays its gas, {gross} before gas");
    assert!(pools_at_the_end > devnet.addresses().pools.len(), "no pair was created on the way");
    Ok(())
}
