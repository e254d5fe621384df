//! A sample of the proof `live`; and how the effects of what waits for the next block are known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use anyhow::{Context, bail, ensure};
use headwater_events::{PendingTxEvent, Transaction};
use headwater_market::{MarketSnapshot, Preset};
use headwater_node::{NodeConfig, Redial};
use headwater_simulation::{Effects, Limits, Means, NoEffect, NodeState, RouterKind, Routers};
use headwater_tests::devnet::{self, CHAIN_ID, Devnet, Trader};
use headwater_tests::follower::{Follower, research};
use headwater_tests::proof::{self, ProofArgs};
use serde_json::{Value, json};

#[test]
fn a_live_chain_is_followed_and_its_findings_are_worth_what_they_say() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 3, quick: true, rest: Vec::new() };
    let report = (proof::find("live")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}

/// Effects of the calls of a router.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    computed: u64,
    executed: u64,
}

#[test]
fn what_waits_for_the_later_routers_is_computed_unless_permit2_pays() -> anyhow::Result<()> {
    if !devnet::available("the effects of what the devnet's routers are asked for")? {
        return Ok(());
    }
    let devnet = Devnet::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut follower = runtime.block_on(Follower::start(research(), &devnet.ws_url()))?;
    let mut effects = Effects::new(node_state(&devnet)?, limits(), routers()?);
    let mut trader = Trader::new(5, &devnet);
    let mut known = BTreeMap::<Address, Known>::new();
    for _ in 0..40 {
        trader.trade(&devnet)?;
        if let Some(market) = follower.market() {
            for pending in waiting(&devnet)? {
                let Some(means) = runtime.block_on(means(&mut effects, &pending, &market))? else { continue };
                let known = known.entry(pending.transaction.to.context("a call")?).or_default();
                match means {
                    Means::Native => known.computed += 1,
                    Means::Executed | Means::Recorded => known.executed += 1,
                }
            }
        }
        let head = devnet.mine()?;
        runtime.block_on(follower.until_found_in(head.hash))?;
    }
    runtime.block_on(follower.finish())?;
    let of = |router| known.get(&router).copied().unwrap_or_default();
    let addresses = devnet.addresses().routers;
    let (second, universal) = (of(addresses.swap_router_02), of(addresses.universal));
    eprintln!("SwapRouter02: {second:?}; the Universal Router: {universal:?}");
    ensure!(second.computed >= 5 && second.executed * 4 <= second.computed, "SwapRouter02: {second:?}");
    ensure!(universal.computed >= 2 && universal.executed >= 2, "the Universal Router: {universal:?}");
    Ok(())
}

/// `None` where there is no effect on the pools.
async fn means(
    effects: &mut Effects<NodeState>,
    pending: &PendingTxEvent,
    market: &Arc<MarketSnapshot>,
) -> anyhow::Result<Option<Means>> {
    match effects.of(pending, market).await {
        Ok(effect) => Ok(Some(effect.means)),
        Err(NoEffect::Fails(_) | NoEffect::Impossible(_) | NoEffect::Untouched) => Ok(None),
        Err(error @ (NoEffect::Contradiction | NoEffect::Unknown(_))) => bail!("{error}: {pending:?}"),
    }
}

fn node_state(devnet: &Devnet) -> anyhow::Result<NodeState> {
    let mut config = NodeConfig::new(vec![devnet.ws_url().parse()?]);
    config.chain_id = Some(CHAIN_ID);
    Ok(NodeState::new(Redial::new(config), Duration::from_secs(10)))
}

fn limits() -> Limits {
    Limits { chain_id: CHAIN_ID, block_time_s: devnet::BLOCK_SECONDS, max_gas: 3_000_000, max_fetched: 4_096 }
}

/// Those that the preset names beside the routers of pairs.
fn routers() -> anyhow::Result<Routers> {
    let preset = Preset::Devnet.tables().context("a chain")?;
    let second = preset.swap_routers_02.into_iter().map(|router| (router, RouterKind::SwapRouter02));
    let universal = preset.universal_routers.into_iter().map(|router| (router, RouterKind::UniversalRouter));
    Ok(Routers { kinds: second.chain(universal).collect(), wrapped_native: preset.wrapped_native })
}

/// What the node has in its pool for these routers.
fn waiting(devnet: &Devnet) -> anyhow::Result<Vec<PendingTxEvent>> {
    let content: Value = devnet.rpc().call("txpool_content", json!([]))?;
    let senders = content["pending"].as_object().context("a pool")?;
    let transactions = senders.values().filter_map(Value::as_object).flat_map(|sent| sent.values());
    let devnet::Routers { swap_router_02, universal, .. } = devnet.addresses().routers;
    let mut waiting: Vec<PendingTxEvent> = transactions.map(pending).collect::<Result<_, _>>()?;
    waiting.retain(|pending| [Some(swap_router_02), Some(universal)].contains(&pending.transaction.to));
    Ok(waiting)
}

fn pending(transaction: &Value) -> anyhow::Result<PendingTxEvent> {
    let number = |name: &str| -> anyhow::Result<U256> {
        serde_json::from_value(transaction[name].clone()).with_context(|| name.to_owned())
    };
    let max_fee_per_gas = number("maxFeePerGas")?.to();
    let max_priority_fee_per_gas = Some(number("maxPriorityFeePerGas")?.to());
    let transaction = Transaction {
        hash: serde_json::from_value(transaction["hash"].clone())?,
        from: serde_json::from_value(transaction["from"].clone())?,
        to: serde_json::from_value(transaction["to"].clone())?,
        value: number("value")?,
        input: serde_json::from_value(transaction["input"].clone())?,
        nonce: number("nonce")?.to(),
        gas_limit: number("gas")?.to(),
    };
    Ok(PendingTxEvent { transaction, max_fee_per_gas, max_priority_fee_per_gas })
}
