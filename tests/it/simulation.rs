//! The simulation against the contracts themselves: what it yields is what the reference search predicts.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use headwater_events::{AsOf, Kind, Opportunity, Plan, SwapStep};
use headwater_node::{NodeConfig, Redial};
use headwater_reference::arbitrage::{Cycle, search};
use headwater_reference::market::pools_at;
use headwater_simulation::{NodeSimulator, SimulationError, Simulator};
use headwater_tests::devnet::{self, Devnet, Extent, Head, Trader};

/// A cycle that the reference search found, as a detector would say it.
fn opportunity(head: Head, found: &Cycle) -> Opportunity {
    let amounts: Vec<U256> =
        [found.amount_in].iter().chain(&found.amounts).map(|amount| U256::from(*amount)).collect();
    let hops = found.path.len();
    let steps = (0..hops).map(|hop| SwapStep {
        pool: found.path[hop],
        token_in: found.tokens[hop],
        token_out: found.tokens[(hop + 1) % hops],
        amount_in: amounts[hop],
        amount_out: amounts[hop + 1],
    });
    Opportunity {
        kind: Kind::Arbitrage,
        as_of: AsOf { seq: 1, number: head.number, hash: head.hash },
        path: found.path.clone(),
        tokens: found.tokens.clone(),
        amount_in: amounts[0],
        amount_out: amounts[hops],
        profit: U256::from(found.profit),
        gas: 0,
        net_profit_wei: None,
        valid_until: head.number + 1,
        plan: Plan::Swaps(steps.collect()),
    }
}

/// One unit more out of the last pool than it gives.
fn too_greedy(mut opportunity: Opportunity) -> Opportunity {
    let Plan::Swaps(steps) = &mut opportunity.plan else { panic!("the plan is made of swaps") };
    let last = steps.last_mut().expect("a cycle has steps");
    last.amount_out += U256::ONE;
    opportunity
}

fn simulator(devnet: &Devnet) -> anyhow::Result<NodeSimulator> {
    let node = Redial::new(NodeConfig::new(vec![devnet.ws_url().parse()?]));
    Ok(NodeSimulator::new(node, Duration::from_secs(10)))
}

fn found(devnet: &Devnet, head: Head) -> anyhow::Result<Vec<Opportunity>> {
    let factories: Vec<Address> =
        devnet.addresses().factories.iter().map(|exchange| exchange.address).collect();
    let pools = pools_at(devnet.rpc(), &factories, head.number)?;
    let bases = [devnet.addresses().weth, devnet.addresses().token("USDC")];
    Ok(search(&pools, &bases, 3).iter().map(|cycle| opportunity(head, cycle)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_simulation_yields_the_predicted_profit_and_one_unit_more_reverts() -> anyhow::Result<()> {
    if !devnet::available("the simulation on real contracts")? {
        return Ok(());
    }
    let devnet = Devnet::start_with(Extent::Pairs)?;
    let mut trader = Trader::new(29, &devnet);
    let simulator = simulator(&devnet)?;
    let (mut simulated, mut hops) = (0, BTreeSet::new());
    for _ in 0..10 {
        trader.trade(&devnet)?;
        let head = devnet.mine()?;
        for opportunity in found(&devnet, head)? {
            let answer = simulator.simulate(&opportunity).await?;
            assert_eq!(answer.profit, opportunity.profit, "{opportunity:?}");
            let gas = answer.gas_used.expect("the program counts it");
            assert!((100_000..1_000_000).contains(&gas), "{gas} gas");
            hops.insert(opportunity.path.len());
            let refusal = simulator.simulate(&too_greedy(opportunity)).await;
            assert_eq!(refusal, Err(SimulationError::Reverted("UniswapV2: K".to_owned())));
            simulated += 1;
        }
    }
    assert!(simulated >= 20, "only {simulated} findings were simulated");
    assert_eq!(hops, BTreeSet::from([2, 3]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_is_simulated_on_its_own_block_and_on_none_that_was_replaced() -> anyhow::Result<()> {
    if !devnet::available("the simulation on old and replaced blocks")? {
        return Ok(());
    }
    let devnet = Devnet::start_with(Extent::Pairs)?;
    let mut trader = Trader::new(31, &devnet);
    let simulator = simulator(&devnet)?;
    let mut early = None;
    while early.is_none() {
        trader.trade(&devnet)?;
        let head = devnet.mine()?;
        early = found(&devnet, head)?.into_iter().next();
    }
    let early = early.expect("the loop ends with one");
    for _ in 0..3 {
        trader.trade(&devnet)?;
        devnet.mine()?;
    }
    assert_eq!(simulator.simulate(&early).await?.profit, early.profit, "the trades after it do not matter");
    devnet.reorg(4, &mut trader)?;
    let refusal = simulator.simulate(&early).await;
    assert!(matches!(refusal, Err(SimulationError::BlockUnknown(_))), "{refusal:?}");
    Ok(())
}
