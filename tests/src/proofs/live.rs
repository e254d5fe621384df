//! The whole bot on a live chain: every block once, every finding worth what it says, none missing.

mod lending;
mod liquidated;
mod routers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use alloy_primitives::{Address, B256, I256};
use anyhow::{Context, bail, ensure};
use headwater_reference::executed::{Cycle, Execution, Judge};
use headwater_reference::market::pools_at;
use headwater_supervisor::Hooks;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use self::routers::Listening;
use crate::devnet::{self, Artifacts, Devnet, Head, Pace, Trader};
use crate::exhaustive::Exhaustive;
use crate::follower::{BlockLine, Follower, FoundLine, OutcomeLine, Results, research};
use crate::proof::{Proof, ProofArgs, Report};

/// The bot on a devnet at four blocks a second, over a WebSocket.
pub const LIVE: Proof = Proof {
    name: "live",
    about: "60 s live on anvil: its chain block by block, each finding in pairs executed on a fork, none missing; who may be liquidated as \
            the lending pool says, liquidations carried out to the wei, swaps through routers decoded",
    full_duration: "3 min",
    run,
};

/// Four blocks in a second.
const BLOCK_TIME: Duration = Duration::from_millis(250);

/// The bot is given this long for the last block.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much is examined.
struct Size {
    turns: u64,
    reorg_every: u64,
    floor: u64,
    /// Findings that are executed; if there are more, the seed says which.
    executions: usize,
    /// Liquidations that are compared with the lending pool.
    liquidations: u64,
    /// Those that are carried out.
    liquidated: liquidated::Size,
    /// Swaps of each make through each of the later routers.
    routed: u64,
    /// The share of blocks that may be passed over; a sample shares its machine with other tests.
    passed_over: f64,
}

const FULL: Size = Size {
    turns: 240,
    reorg_every: 37,
    floor: 50,
    executions: 10_000,
    liquidations: 100,
    liquidated: liquidated::Size { most: 30, floor: 30, floor_of_each: 5 },
    routed: 10,
    passed_over: 0.05,
};
const QUICK: Size = Size {
    turns: 40,
    reorg_every: 17,
    floor: 10,
    executions: 24,
    liquidations: 10,
    liquidated: liquidated::Size { most: 10, floor: 5, floor_of_each: 1 },
    routed: 1,
    passed_over: 0.25,
};

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    if !devnet::available("the live proof")? {
        return Ok(Report { skipped: 1, seed: args.seed, ..Report::default() });
    }
    let size = if args.quick { QUICK } else { FULL };
    let devnet = Devnet::start()?;
    let (first, results, listening) = follow(&devnet, &size, args.seed)?;
    let mut lines = vec![
        compare_chain(&devnet, first, &results)?,
        judge_losses(&results, &size)?,
        search_again(&devnet, &results)?.to_string(),
    ];
    let (outcomes, contradicted) = judge_outcomes(&results)?;
    lines.push(outcomes);
    execute(&devnet, &contradicted)?;
    let sample = sample(&results, size.executions, args.seed);
    execute(&devnet, &sample)?;
    let all: usize = results.blocks.iter().map(|block| results.found_in_pairs(block.hash).len()).sum();
    lines.push(format!(
        "{} of {all} findings in pairs{} executed on a fork of their block: the balance is the predicted one to the wei",
        sample.len(),
        if sample.len() < all { ", picked by the seed," } else { "" }
    ));
    lines.push(listening.judge(&devnet, &results, size.routed)?);
    lines.push(lending::judge(&devnet, &results, size.liquidations)?);
    lines.push(liquidated::execute(&devnet, &results, size.liquidated, args.seed)?);
    lines.push(judged_elsewhere(&results)?);
    Ok(Report { checked: sample.len() as u64, floor: size.floor, skipped: 0, seed: args.seed, lines })
}

/// What has judges of its own: here it has to be there.
fn judged_elsewhere(results: &Results) -> anyhow::Result<String> {
    let found = || results.blocks.iter().flat_map(|block| results.found_in(block.hash));
    let liquidations = found().filter(|found| found.kind == "liquidation").count();
    let mixed = found().filter(|found| found.hops.is_some() && found.kind != "liquidation").count();
    ensure!(
        mixed > 0 && liquidations > 0,
        "{mixed} cycles over pools of V3 and V4, {liquidations} liquidations"
    );
    Ok(format!(
        "not judged here: {mixed} cycles with pools of V3 or V4 (the proofs recall-mixed and cycles do), the sales of {liquidations} \
         liquidations (the proof liquidations)"
    ))
}

/// Lets the bot follow the devnet for a while, and says with which block it had to begin.
fn follow(devnet: &Devnet, size: &Size, seed: u64) -> anyhow::Result<(u64, Results, Listening)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (listener, listening) = routers::listener();
    let hooks = Hooks { strategies: vec![listener], ..Hooks::default() };
    let mut follower = runtime.block_on(Follower::start_with(research(), &devnet.ws_url(), hooks))?;
    let first = devnet.head()?.number + 1;
    let mut trader = Trader::new(seed, devnet);
    let pace = Pace { block_time: BLOCK_TIME, reorg_every: NonZeroU64::new(size.reorg_every) };
    let mut left = size.turns;
    devnet.run(&mut trader, pace, |_| {
        left -= 1;
        left > 0
    })?;
    let Head { hash, .. } = devnet.head()?;
    let results = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, follower.until_found_in(hash)).await.context("the last block")??;
        follower.finish().await
    })?;
    Ok((first, results, listening))
}

/// The blocks are the node's, from the first to its head.
pub(super) fn compare_chain(devnet: &Devnet, first: u64, results: &Results) -> anyhow::Result<String> {
    let last = devnet.head()?.number;
    let questions: Vec<_> = (first..=last)
        .map(|number| ("eth_getBlockByNumber", json!([format!("{number:#x}"), false])))
        .collect();
    let canonical = devnet.rpc().batch(&questions)?;
    let canonical: Vec<B256> = canonical.iter().map(hash_of).collect::<Result<_, _>>()?;
    let numbers: Vec<u64> = results.blocks.iter().map(|block| block.number).collect();
    ensure!(numbers == (first..=last).collect::<Vec<_>>(), "blocks {first} to {last}: {numbers:?}");
    for (block, hash) in results.blocks.iter().zip(&canonical) {
        ensure!(block.hash == *hash, "block {} is {hash} and not {}", block.number, block.hash);
    }
    let orphaned = results.orphaned.len();
    ensure!(orphaned > 0, "no block was reorganised away");
    Ok(format!(
        "{} blocks ({first} to {last}), each once and in order, with the node's hashes; {orphaned} others were undone",
        canonical.len()
    ))
}

fn hash_of(block: &Value) -> anyhow::Result<B256> {
    serde_json::from_value(block["hash"].clone()).context("a block without a hash")
}

/// Nothing was lost, and hardly a block passed over. Blocks that replace others come at once and not at the pace: these
/// may be passed over for the last of them.
fn judge_losses(results: &Results, size: &Size) -> anyhow::Result<String> {
    results.ensure_conserved()?;
    ensure!(results.summary.unfilled == 0, "{} blocks are missing", results.summary.unfilled);
    let replaced: BTreeSet<u64> = results.orphaned.iter().map(|block| block.number).collect();
    let passed_over = results.blocks.iter().filter(|block| !block.was_evaluated()).map(|block| block.number);
    let (at_once, paced): (Vec<u64>, Vec<u64>) = passed_over.partition(|number| replaced.contains(number));
    let share = paced.len() as f64 / results.blocks.len() as f64;
    ensure!(share < size.passed_over, "passed over of {} blocks: {paced:?}", results.blocks.len());
    Ok(format!(
        "{} edges conserved, nothing lost, {} gaps; {} blocks passed over for newer ones ({paced:?}, and {at_once:?} \
         when several came at once)",
        results.summary.edges.len(),
        results.gaps,
        paced.len() + at_once.len()
    ))
}

/// The findings of each block that are in pairs are those of the exhaustive search on the reserves that the node tells.
pub(super) fn search_again(devnet: &Devnet, results: &Results) -> anyhow::Result<Searched> {
    let addresses = devnet.addresses();
    let factories: Vec<Address> = addresses.factories.iter().map(|exchange| exchange.address).collect();
    let tokens = ["USDC", "USDT", "DAI", "WBTC"].map(|symbol| addresses.token(symbol));
    let bases: Vec<Address> = std::iter::once(addresses.weth).chain(tokens).collect();
    let mut exhaustive = Exhaustive::default();
    let mut searched = Searched::default();
    for block in &results.blocks {
        let found = results.found_in_pairs(block.hash);
        if !block.was_evaluated() {
            let all = results.found_in(block.hash);
            let is_silent = all.is_empty() || !block.was_passed_over();
            ensure!(is_silent, "findings in block {}, which was passed over", block.number);
            continue;
        }
        let pools = pools_at(devnet.rpc(), &factories, block.number)?;
        let here =
            exhaustive.compare(&found, &pools, &bases).with_context(|| format!("block {}", block.number))?;
        searched.blocks += 1;
        searched.cycles += here;
        searched.without += u64::from(here == 0);
    }
    Ok(searched)
}

/// What an exhaustive search found as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Searched {
    pub(super) blocks: u64,
    pub(super) cycles: u64,
    /// Blocks without any.
    pub(super) without: u64,
}

impl fmt::Display for Searched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blocks, cycles, without } = self;
        write!(
            f,
            "{cycles} profitable cycles by exhaustive search on the node's reserves in {blocks} blocks, all found, none \
             invented; {without} blocks have none"
        )
    }
}

/// Whatever was simulated on its own block yields what it promised.
///
/// Anvil answers a call that waits while a block is mined by the state of the new block. So a simulation that contradicts its finding
/// is no verdict yet: those findings are handed back, to be executed on a fork of their block, and have to be few.
fn judge_outcomes(results: &Results) -> anyhow::Result<(String, Vec<FoundLine>)> {
    let canonical: BTreeMap<B256, &BlockLine> =
        results.blocks.iter().map(|block| (block.hash, block)).collect();
    let others = results.found.values().flatten().filter(|found| !found.is_in_pairs());
    let others: BTreeSet<_> =
        others.map(|found| (found.block_hash, found.detector.as_str(), found.index)).collect();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut contradicted = Vec::new();
    for outcome in &results.outcomes {
        let is_canonical = canonical.contains_key(&outcome.block_hash);
        let is_of_another_kind =
            others.contains(&(outcome.block_hash, outcome.detector.as_str(), outcome.index));
        let judged = judge_outcome(outcome, is_canonical, is_of_another_kind);
        let of_another_block = ["reverted", "profit_differs"].map(Some).contains(&outcome.reason.as_deref());
        let name = if judged.is_err() && of_another_block && !is_of_another_kind {
            contradicted.push(finding_of(outcome, results)?.clone());
            "to be executed".to_owned()
        } else {
            judged?
        };
        *counts.entry(name).or_default() += 1;
    }
    contradicted.sort_by_key(|found| found.block);
    let simulated = counts.get("would_send").copied().unwrap_or_default();
    ensure!(
        contradicted.len() as u64 * 50 <= simulated,
        "{} simulations of {simulated} contradict their finding, as of {:?}",
        contradicted.len(),
        contradicted.first()
    );
    let sent = counts.get("would_send").copied().unwrap_or_default();
    ensure!(sent > 0, "nothing was simulated: {counts:?}");
    let found: usize = results.found.values().map(Vec::len).sum();
    ensure!(results.outcomes.len() == found, "{} outcomes of {found} findings", results.outcomes.len());
    let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    Ok((format!("{} outcomes, one a finding: {}", results.outcomes.len(), counts.join(", ")), contradicted))
}

fn finding_of<'a>(outcome: &OutcomeLine, results: &'a Results) -> anyhow::Result<&'a FoundLine> {
    let mut found = results.found_in(outcome.block_hash).iter();
    found
        .find(|found| found.detector == outcome.detector && found.index == outcome.index)
        .with_context(|| format!("an outcome of no finding: {outcome:?}"))
}

/// `is_of_another_kind`: of a finding that the executor does not carry out, and never says that it would.
fn judge_outcome(
    outcome: &OutcomeLine,
    is_canonical: bool,
    is_of_another_kind: bool,
) -> anyhow::Result<String> {
    let was_slow = outcome.detail.as_ref().is_some_and(|words| words.contains("no answer within"));
    match (&outcome.verdict[..], outcome.reason.as_deref()) {
        (_, Some(reason @ "not_executable")) if is_of_another_kind => Ok(reason.to_owned()),
        ("expired", _) if is_of_another_kind => Ok("expired".to_owned()),
        _ if is_of_another_kind => bail!("it is not to be carried out: {outcome:?}"),
        (verdict @ ("would_send" | "expired"), _) => Ok(verdict.to_owned()),
        (_, Some(reason @ ("too_many" | "no_net_profit" | "orphaned"))) => Ok(reason.to_owned()),
        (_, Some("simulation_failed")) if was_slow => Ok("unanswered".to_owned()),
        // Anvil forgets a replaced block at once.
        (_, Some(_)) if !is_canonical => Ok("refused on replaced blocks".to_owned()),
        _ => bail!("the simulation contradicts the finding: {outcome:?}"),
    }
}

/// The findings in pairs of canonical blocks, or as many as are asked for, picked by the seed; in the order of the chain.
fn sample(results: &Results, most: usize, seed: u64) -> Vec<FoundLine> {
    let mut all: Vec<_> =
        results.blocks.iter().flat_map(|block| results.found_in_pairs(block.hash)).collect();
    all.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    all.truncate(most);
    all.sort_by_key(|found| found.block);
    all
}

/// Carries out each finding on a fork of its block.
fn execute(devnet: &Devnet, findings: &[FoundLine]) -> anyhow::Result<()> {
    let mut judge = Judge::start(&Artifacts::install()?.anvil()?, &devnet.http_url())?;
    for found in findings {
        let FoundLine { block, path, tokens, .. } = found;
        let amounts = judge.amounts(*block, path, tokens, found.amount_in)?;
        ensure!(amounts.last() == Some(&found.amount_out), "the reserves give {amounts:?}: {found:?}");
        let cycle = Cycle { pools: path.clone(), tokens: tokens.clone(), amounts };
        let profit = I256::try_from(found.profit).context("a profit of this world")?;
        match judge.execute(*block, &cycle)? {
            Execution::Balanced { gained, .. } => {
                ensure!(gained == profit, "gained {gained} instead of what was promised: {found:?}");
            }
            Execution::Reverted => bail!("the contracts refuse {found:?}"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U256;

    use super::*;

    fn outcome(verdict: &str, reason: Option<&str>, detail: Option<&str>) -> OutcomeLine {
        OutcomeLine {
            block_hash: B256::ZERO,
            detector: "arbitrage".to_owned(),
            index: 0,
            verdict: verdict.to_owned(),
            reason: reason.map(str::to_owned),
            detail: detail.map(str::to_owned),
        }
    }

    #[test]
    fn a_simulation_that_contradicts_a_finding_is_a_failure() {
        let judge = |outcome, is_canonical| judge_outcome(&outcome, is_canonical, false).ok();
        assert_eq!(judge(outcome("would_send", None, None), true).as_deref(), Some("would_send"));
        assert_eq!(judge(outcome("refused", Some("too_many"), None), true).as_deref(), Some("too_many"));
        let slow = outcome("refused", Some("simulation_failed"), Some("no answer within 2s"));
        assert_eq!(judge(slow, true).as_deref(), Some("unanswered"));
        for reason in ["reverted", "profit_differs", "simulation_failed", "below_minimum"] {
            assert_eq!(judge(outcome("refused", Some(reason), None), true), None, "{reason}");
            assert!(judge(outcome("refused", Some(reason), None), false).is_some(), "{reason}");
        }
        assert_eq!(judge(outcome("unsimulated", None, None), true), None);
        assert_eq!(judge(outcome("refused", Some("not_executable"), None), true), None);
    }

    #[test]
    fn what_is_not_to_be_carried_out_has_one_outcome() {
        let judge = |outcome| judge_outcome(&outcome, true, true).ok();
        assert!(judge(outcome("refused", Some("not_executable"), None)).is_some());
        assert!(judge(outcome("expired", None, None)).is_some());
        assert_eq!(judge(outcome("would_send", None, None)), None);
        assert_eq!(judge(outcome("refused", Some("reverted"), None)), None);
    }

    /// A chain of a hundred blocks, of which the first `passed_over` have not been evaluated.
    fn results(passed_over: u64, unfilled: u64) -> Results {
        let hash = |number: u64| B256::from(U256::from(number));
        let block = |number: u64| {
            let stages = if number <= passed_over { "" } else { r#""decided":5"# };
            format!(
                r#"{{"type":"block","number":{number},"hash":"{}","parent_hash":"{}","swaps":0,"latency_ns":{{{stages}}}}}"#,
                hash(number),
                hash(number - 1)
            )
        };
        let edge = r#"{"from":"a","to":"b","carries":"c","accepted":1,"processed":1,"dropped":{}}"#;
        let summary = format!(r#"{{"type":"summary","blocks":100,"unfilled":{unfilled},"edges":[{edge}]}}"#);
        let lines: Vec<String> = (1..=100).map(block).chain([summary]).collect();
        Results::parse(&lines.join("\n")).expect("well-formed")
    }

    #[test]
    fn few_blocks_may_be_passed_over_and_none_may_be_missing() {
        assert!(judge_losses(&results(4, 0), &FULL).expect("four of a hundred").contains("[1, 2, 3, 4]"));
        assert!(judge_losses(&results(5, 0), &FULL).is_err());
        assert!(judge_losses(&results(0, 1), &FULL).is_err());
    }

    #[test]
    fn a_sample_is_picked_by_the_seed_and_keeps_the_order() {
        let mut results = results(0, 0);
        for block in &results.blocks.clone() {
            let found = FoundLine {
                kind: "arbitrage".to_owned(),
                detector: "arbitrage".to_owned(),
                index: 0,
                hops: None,
                borrower: None,
                health_factor: None,
                collateral: None,
                debt: None,
                repay: None,
                seize: None,
                block: block.number,
                block_hash: block.hash,
                path: Vec::new(),
                tokens: Vec::new(),
                amount_in: U256::ONE,
                amount_out: U256::ONE,
                profit: U256::ZERO,
            };
            results.found.insert(block.hash, vec![found]);
        }
        let numbers = |seed| sample(&results, 10, seed).iter().map(|found| found.block).collect::<Vec<_>>();
        assert_eq!((numbers(1).len(), numbers(1)), (10, numbers(1)));
        assert!(numbers(1).is_sorted() && numbers(1) != numbers(2));
        assert_eq!(sample(&results, 1_000, 1).len(), 100);
    }
}
