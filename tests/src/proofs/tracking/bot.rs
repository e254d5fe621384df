//! The bot as it is started, on a devnet with everything: what it asks the node once its market is loaded.

use std::num::NonZeroU64;
use std::time::Duration;

use alloy_primitives::I256;
use anyhow::{Context, ensure};
use headwater_market::HistoryConfig;
use headwater_supervisor::Config;

use super::tap::Tap;
use crate::devnet::{Devnet, Head, Trader};
use crate::follower::{Follower, Results, research};
use crate::replayed::runtime;

/// The bot is given this long for a block.
const PATIENCE: Duration = Duration::from_secs(60);

/// Turns from one reorganisation to the next.
const REORG_EVERY: u64 = 13;

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) blocks: u64,
    pub(super) reorgs: u64,
    /// Calls that read state until the market was loaded.
    pub(super) loading: u64,
    /// Requests of any kind behind that.
    pub(super) requests: u64,
    pub(super) findings: u64,
    /// What they are.
    pub(super) kinds: Vec<String>,
}

/// Everything is as it is by default, but for what asks the node on purpose. Findings are told and not simulated: the executor's
/// simulations are calls. The tripwire and the mempool are off, and feeds are asked again behind more blocks than there are here. Pools
/// that nobody lists are searched for at the start, so that none has to be read when it first trades.
fn config(devnet: &Devnet, blocks: u64) -> anyhow::Result<Config> {
    let mut config = research();
    let concentrated = &devnet.addresses().concentrated;
    let log_range = const { NonZeroU64::new(1_000).expect("not zero") };
    config.market.history = [concentrated.factory, concentrated.manager]
        .map(|factory| HistoryConfig { factory: factory.to_string(), from_block: 0, log_range })
        .into();
    config.executor.min_net_profit_wei = I256::MAX;
    config.mempool.enabled = false;
    ensure!(!config.state.tripwire.enabled, "the tripwire is off");
    let recheck = config.oracle.feed_recheck_blocks.get();
    ensure!(recheck > 2 * blocks, "feeds are asked again behind {recheck} blocks");
    Ok(config)
}

/// Follows for so many turns, each a block or a reorganisation. No request behind the load reads state.
pub(super) fn follow(turns: u64, seed: u64) -> anyhow::Result<Tally> {
    let devnet = Devnet::start()?;
    let tap = Tap::to(devnet.http_url().trim_start_matches("http://").parse()?)?;
    let runtime = runtime(2)?;
    let mut follower = runtime.block_on(Follower::start(config(&devnet, turns)?, &tap.ws_url()))?;
    let (loading, requests) = (tap.state_calls() as u64, tap.requests() as u64);
    ensure!(loading > 0, "the tap heard nothing of the load");
    let mut trader = Trader::new(seed, &devnet);
    let mut tally = Tally { loading, ..Tally::default() };
    for turn in 1..=turns {
        let Head { hash, number, .. } = if turn % REORG_EVERY == 0 {
            tally.reorgs += 1;
            devnet.reorg(1 + turn / REORG_EVERY % 3, &mut trader)?
        } else {
            trader.trade(&devnet)?;
            devnet.mine()?
        };
        let followed = async { tokio::time::timeout(PATIENCE, follower.until_found_in(hash)).await };
        runtime.block_on(followed).with_context(|| format!("block {number}"))??;
    }
    let read = tap.state_calls() as u64 - loading;
    ensure!(read == 0, "{read} calls that read state behind the load: {:?}", tap.readers());
    let results = runtime.block_on(follower.finish())?;
    tally.blocks = results.blocks.len() as u64;
    ensure!(tally.blocks >= turns, "{} blocks in {turns} turns", tally.blocks);
    tally.requests = tap.requests() as u64 - requests;
    ensure!(tally.requests >= tally.blocks, "the tap heard only {} requests", tally.requests);
    note_findings(&results, &mut tally);
    ensure!(tally.findings > 0, "nothing was found");
    Ok(tally)
}

fn note_findings(results: &Results, tally: &mut Tally) {
    let found = || results.found.values().flatten();
    tally.findings = found().count() as u64;
    tally.kinds = found().map(|found| found.kind.clone()).collect();
    tally.kinds.sort();
    tally.kinds.dedup();
}

pub(super) fn lines_of(tally: &Tally) -> Vec<String> {
    let Tally { blocks, reorgs, loading, requests, findings, kinds } = tally;
    vec![
        format!(
            "{blocks} blocks of a devnet followed by the bot as it is started, over a WebSocket, {reorgs} reorganisations: {loading} calls \
             that read state while it loaded, none behind that among {requests} requests"
        ),
        format!(
            "  {findings} findings ({}); tripwire, mempool and simulations of the executor off, feeds due for another look only later",
            kinds.join(", ")
        ),
    ]
}
