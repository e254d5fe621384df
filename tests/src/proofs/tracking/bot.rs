//! The bot as it is started, on a devnet with everything, while heads come and go: what it asks the node once its market is loaded, and
//! the market that its state publishes.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, I256};
use alloy_sol_types::{SolEvent, sol};
use anyhow::{Context, ensure};
use headwater_market::{HistoryConfig, MarketSnapshot, Reserves};
use headwater_reference::pools::{PlaceV3, PlaceV4};
use headwater_supervisor::Config;
use serde::Deserialize;
use serde_json::json;

use super::exchange::{FAR, reserves, storage};
use super::tap::{Held, Tap, meanwhile};
use super::{Place, Stored, ensure_equal};
use crate::devnet::{Devnet, Head, Trader};
use crate::follower::{Follower, Results, research};
use crate::replayed::runtime;

/// The bot is given this long for a block.
const PATIENCE: Duration = Duration::from_secs(60);

/// Turns from one reorganisation to the next.
const REORG_EVERY: u64 = 13;

/// Requests from one block to the next, behind the choice of a block to load or to search up to, and blocks at most until the next choice.
const REQUESTS_PER_BLOCK: u64 = 6;
const BLOCKS_PER_CHOICE: u64 = 8;

/// So many requests after the load has chosen a block, the block is replaced: more than a search of the history takes.
const REPLACED_BEHIND: u64 = 40;

/// Turns from one look at all pools to the next: those whose ticks are one apart take the longest.
const ALL_EVERY: u64 = 10;

sol! {
    event PairCreated(address indexed token0, address indexed token1, address pair, uint256 count);
    event PoolCreated(
        address indexed token0, address indexed token1, uint24 indexed fee, int24 tickSpacing, address pool
    );
    event Initialize(
        bytes32 indexed id, address indexed currency0, address indexed currency1, uint24 fee, int24 tickSpacing,
        address hooks, uint160 sqrtPriceX96, int24 tick
    );
}

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) blocks: u64,
    pub(super) reorgs: u64,
    /// Calls that read state until the market was loaded.
    pub(super) loading: u64,
    /// Requests of any kind behind that.
    pub(super) requests: u64,
    /// Blocks that came while it loaded, above the block that it stayed with.
    pub(super) blocks_while_loading: u64,
    /// Times that the block of the load was replaced, so that it chose another one.
    pub(super) begun_anew: u64,
    /// Times that a pool was compared with its storage: of V2, V3 and V4.
    pub(super) compared: [u64; 3],
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
    let (tap, mut gate) = Tap::with_gate(devnet.http_url().trim_start_matches("http://").parse()?)?;
    let runtime = runtime(2)?;
    let mut trader = Trader::new(seed, &devnet);
    let mut moves = Moves::default();
    let url = tap.ws_url();
    let start = Follower::start(config(&devnet, turns)?, &url);
    let between = async |held: &Held| moves.make(held, &devnet, &mut trader);
    let mut follower = runtime.block_on(meanwhile(start, &mut gate, between))??;
    drop(gate);
    let (loading, requests) = (tap.state_calls() as u64, tap.requests() as u64);
    ensure!(loading > 0, "the tap heard nothing of the load");
    let mut tally = Tally { loading, begun_anew: moves.begun_anew, ..Tally::default() };
    tally.blocks_while_loading = devnet.head()?.number - moves.stands_at.context("it asked for no head")?;
    ensure!(moves.begun_anew > 0, "the block of the load was never replaced: {moves:?}");
    ensure!(
        tally.blocks_while_loading >= BLOCKS_PER_CHOICE / 2,
        "hardly a block came while it loaded: {moves:?}"
    );
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
        let market = follower.market().context("there is no market")?;
        ensure!(market.as_of.hash == hash, "block {number}: the market is of {:?}", market.as_of);
        let all = turn % ALL_EVERY == 0 || turn == turns;
        compare(&devnet, &market, all, &mut tally).with_context(|| format!("block {number}"))?;
    }
    let least = [20, 6, 2].map(|pools| pools * turns);
    ensure!(tally.compared.iter().zip(least).all(|(count, least)| *count >= least), "compared: {tally:?}");
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

/// The chain while the bot loads.
#[derive(Debug, Default)]
struct Moves {
    /// The block that it chose last, how much it asked since, and how many blocks came.
    stands_at: Option<u64>,
    asked: u64,
    blocks: u64,
    replaced: bool,
    begun_anew: u64,
}

impl Moves {
    /// What comes before a request.
    fn make(&mut self, held: &Held, devnet: &Devnet, trader: &mut Trader) -> anyhow::Result<()> {
        if held.asks_for_head() {
            (self.stands_at, self.asked, self.blocks) = (Some(devnet.head()?.number), 0, 0);
            self.begun_anew = u64::from(self.replaced);
            return Ok(());
        }
        let Some(stands_at) = self.stands_at else { return Ok(()) };
        self.asked += 1;
        if !self.replaced && self.asked == REPLACED_BEHIND {
            devnet.reorg(devnet.head()?.number + 1 - stands_at, trader)?;
            self.replaced = true;
        } else if self.asked.is_multiple_of(REQUESTS_PER_BLOCK) && self.blocks < BLOCKS_PER_CHOICE {
            trader.trade(devnet)?;
            devnet.mine()?;
            self.blocks += 1;
        }
        Ok(())
    }
}

/// Every pool that the node's logs tell of is in the market, as the node's storage holds it at its head; those whose ticks are one apart
/// only where it is said.
fn compare(devnet: &Devnet, market: &MarketSnapshot, all: bool, tally: &mut Tally) -> anyhow::Result<()> {
    let held: BTreeMap<_, _> = market.pools.iter().map(|(_, meta, held)| (meta.address, held)).collect();
    for exchange in &devnet.addresses().factories {
        for PairCreated { pair, .. } in created(devnet, exchange.address)? {
            let held = held.get(&pair).with_context(|| format!("pair {pair} is not known"))?;
            let [reserve0, reserve1] = reserves(devnet, pair)?;
            let stored = (reserve0 > 0 || reserve1 > 0).then_some(Reserves { reserve0, reserve1 });
            ensure!(*held == stored, "pair {pair}: {held:?}, its storage has {stored:?}");
            tally.compared[0] += 1;
        }
    }
    for place in places(devnet)?.iter().filter(|place| all || place.spacing() > 1) {
        let table = &market.concentrated;
        let pool = table.find_key(&place.key()).and_then(|id| table.pool(id));
        let pool = pool.with_context(|| format!("{place:?} is not known"))?;
        ensure_equal(pool, &stored(devnet, *place)?)?;
        tally.compared[if matches!(place, Place::V3(_)) { 1 } else { 2 }] += 1;
    }
    Ok(())
}

/// The pools of V3, and those of V4, by the node's logs; the devnet has none with a hook.
fn places(devnet: &Devnet) -> anyhow::Result<Vec<Place>> {
    let (factory, manager) =
        (devnet.addresses().concentrated.factory, devnet.addresses().concentrated.manager);
    let mut places = Vec::new();
    for PoolCreated { token0, token1, fee, tickSpacing, pool } in created(devnet, factory)? {
        let (tokens, fee, spacing) = ([token0, token1], fee.to(), tickSpacing.as_i32());
        places.push(Place::V3(PlaceV3 { pool, factory, tokens, fee, spacing }));
    }
    for Initialize { currency0, currency1, fee, tickSpacing, hooks, .. } in created(devnet, manager)? {
        let (currencies, fee, spacing) = ([currency0, currency1], fee.to(), tickSpacing.as_i32());
        places.push(Place::V4(PlaceV4 { manager, currencies, fee, spacing, hooks }));
    }
    Ok(places)
}

fn stored(devnet: &Devnet, place: Place) -> anyhow::Result<Stored> {
    let (state, ticks, protocol_fee) = match place {
        Place::V3(place) => {
            let (state, ticks) = place.read(FAR, |slots| storage(devnet, place.pool, slots))?;
            (state, ticks, 0)
        }
        Place::V4(place) => place.read(FAR, |slots| storage(devnet, place.manager, slots))?,
    };
    Ok(Stored { place, state, ticks, protocol_fee })
}

#[derive(Deserialize)]
struct ToldLog {
    topics: Vec<B256>,
    data: Bytes,
}

/// What a contract says to have made, on the node's chain as it is now.
fn created<E: SolEvent>(devnet: &Devnet, contract: Address) -> anyhow::Result<Vec<E>> {
    let topics = [E::SIGNATURE_HASH];
    let filter = json!({ "address": contract, "topics": topics, "fromBlock": "0x0", "toBlock": "latest" });
    let logs: Vec<ToldLog> = devnet.rpc().call("eth_getLogs", json!([filter]))?;
    logs.into_iter().map(|log| Ok(E::decode_raw_log(log.topics, &log.data)?)).collect()
}

fn note_findings(results: &Results, tally: &mut Tally) {
    let found = || results.found.values().flatten();
    tally.findings = found().count() as u64;
    tally.kinds = found().map(|found| found.kind.clone()).collect();
    tally.kinds.sort();
    tally.kinds.dedup();
}

pub(super) fn lines_of(tally: &Tally) -> Vec<String> {
    let Tally { blocks, reorgs, loading, requests, findings, kinds, .. } = tally;
    let [v2, v3, v4] = tally.compared;
    vec![
        format!(
            "{blocks} blocks of a devnet followed by the bot as it is started, over a WebSocket, {reorgs} reorganisations: {loading} calls \
             that read state while it loaded, none behind that among {requests} requests"
        ),
        format!(
            "  {} blocks came while it loaded, {} times the block of its load was replaced; in every block the market that its state \
             published was the node's storage: {v2} times a pair of V2, {v3} times a pool of V3, {v4} times one of V4",
            tally.blocks_while_loading, tally.begun_anew
        ),
        format!(
            "  {findings} findings ({}); tripwire, mempool and simulations of the executor off, feeds due for another look only later",
            kinds.join(", ")
        ),
    ]
}
