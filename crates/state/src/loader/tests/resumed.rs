//! The initial load from a node that fails on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use alloy_primitives::{Selector, keccak256};
use headwater_reference::fake_node::Asked;

use super::concentrated::{Place, answer, market_v3};
use super::*;
use crate::loader::{BulkLoader, Patience, load_market};

/// Pools of the factories that list theirs, in [`answer`].
const PAIRS: u64 = 2;
/// Pools with concentrated liquidity that may be there: three pairs of tokens, five fees.
const CANDIDATES: u64 = 15;
const TOKENS: u64 = 3;

/// Twelve pools, more than are read at a time, some of them in one page and some in several.
fn places(market: &ResolvedMarket) -> Vec<Place> {
    let pairs = [(0, 1), (0, 2), (1, 2)];
    let fees = [(500, 10), (2_500, 50), (3_000, 60), (10_000, 200)];
    let place = |(one, other)| fees.map(|fee| Place::new(market, one, other, fee).position(-600, 600, 3));
    pairs.into_iter().flat_map(place).collect()
}

async fn bench(market: &ResolvedMarket) -> Bench {
    let bench = Bench::new(V2World::default()).await;
    answer(&bench.fake, market, &places(market));
    bench
}

impl Bench {
    /// The fault strikes behind so many requests of the method.
    fn strike_behind(&self, requests: u64, method: &str, fault: Fault) {
        self.fake.inject(method, Fault::Delay(Duration::ZERO), Times::Next(requests));
        self.fake.inject(method, fault, Times::Next(1));
    }

    async fn patience(&self, adapt: impl FnOnce(&mut StateConfig)) -> Patience {
        let millis = |millis| NonZeroU64::new(millis).expect("not zero");
        let mut config = StateConfig { first_retry_ms: millis(1), ..StateConfig::default() };
        config.greatest_retry_ms = millis(2);
        adapt(&mut config);
        let (node, _) = Node::connect_first(&self.node_config()).await.expect("it listens");
        Patience::new(&config, &self.node_config(), node)
    }

    /// Calls without overrides, by contract and selector.
    fn calls_from(&self, first: usize) -> BTreeMap<(Address, Selector), usize> {
        let mut calls = BTreeMap::new();
        for Asked { params, .. } in &self.fake.asked()[first..] {
            let [to, data] = [&params[0]["to"], &params[0]["data"]];
            if let (Some(to), Some(data)) = (to.as_str(), data.as_str()) {
                let to = to.parse().expect("an address");
                let data = alloy_primitives::hex::decode(data).expect("calldata");
                *calls.entry((to, Selector::from_slice(&data[..4]))).or_default() += 1;
            }
        }
        calls
    }
}

fn with_room(market: &ResolvedMarket, max_pools: usize) -> ResolvedMarket {
    let load = headwater_market::LoadFilter { max_pools, ..market.load.clone() };
    ResolvedMarket { load, ..market.clone() }
}

fn selector(signature: &str) -> Selector {
    Selector::from_slice(&keccak256(signature)[..4])
}

/// What was loaded, apart from how.
fn market_of(load: &BulkLoad) -> (&[BusEvent], LoadReport) {
    (&load.events, LoadReport { failures: 0, begun_anew: 0, ..load.report })
}

#[tokio::test]
async fn a_load_that_is_resumed_asks_no_pool_again_that_was_read() {
    let market = market_v3();
    let undisturbed = bench(&market).await;
    let expected = undisturbed.load(&market).await.expect("an honest node");
    let calls = undisturbed.fake.requests("eth_call") as u64;
    assert_eq!(expected.report.concentrated_pools, 12);
    let pools: BTreeSet<_> = places(&market).iter().map(|place| place.address).collect();
    let reads = [selector("tickBitmap(int16)"), selector("ticks(int24)")];
    let mut midway = 0;
    for tenth in 1..10 {
        let bench = bench(&market).await;
        bench.strike_behind(calls * tenth / 10, "eth_call", Fault::DropConnection);
        let (hash, done) = (bench.block.hash(), AtomicU64::new(0));
        let progress = |now, _| done.store(now, Ordering::Relaxed);
        let mut loader = BulkLoader::new(&market, &[]);
        let (node, _) = Node::connect_first(&bench.node_config()).await.expect("it listens");
        let error = loader.go_on(&node, hash, progress).await.expect_err("the connection is dropped");
        assert!(error.is_retryable(), "{error}");

        let (asked, done) = (bench.fake.asked().len(), done.load(Ordering::Relaxed));
        let (node, _) = Node::connect_first(&bench.node_config()).await.expect("it listens");
        let load = loader.go_on(&node, hash, |_, _| {}).await.expect("it goes on");
        let again = bench.calls_from(asked);
        let read_now: BTreeSet<_> = again
            .keys()
            .filter(|(to, data)| pools.contains(to) && reads.contains(data))
            .map(|(to, _)| *to)
            .collect();
        let read_before = done.saturating_sub(PAIRS + CANDIDATES).min(12);
        assert!(read_now.len() as u64 <= 12 - read_before, "{read_before} and {read_now:?}");
        if done >= PAIRS + CANDIDATES {
            let listing = again.keys().filter(|(_, data)| *data == selector("allPairs(uint256)"));
            assert_eq!(listing.count(), 0, "which pools there are is known");
            midway += u64::from((1..12).contains(&read_before));
        }
        assert_eq!(market_of(&load), market_of(&expected));
        assert_eq!(load.report.begun_anew, 0);
    }
    assert!(midway > 0, "no connection was dropped while some pools were read and others were not");
}

#[tokio::test]
async fn lost_connections_do_not_end_a_resumed_load() {
    let market = market_v3();
    let bench = bench(&market).await;
    let expected = bench.load(&market).await.expect("an honest node");
    let before = bench.fake.connections();
    for requests in [0, 40, 400, 400, 1_200, 900] {
        bench.strike_behind(requests, "eth_call", Fault::DropConnection);
    }
    let mut patience = bench.patience(|_| {}).await;
    let load = load_market(&mut patience, &market, &[], |_, _| {}).await.expect("it bears that");
    assert_eq!(market_of(&load), market_of(&expected));
    assert_eq!((load.report.failures, load.report.begun_anew), (6, 0));
    assert_eq!(bench.fake.connections() - before, 7);
}

#[tokio::test]
async fn an_endpoint_that_comes_back_is_waited_for_by_a_resumed_load() {
    let market = market_v3();
    let bench = bench(&market).await;
    bench.strike_behind(500, "eth_call", Fault::DropConnection);
    let mut patience = bench.patience(|_| {}).await;
    let refusing = AtomicBool::new(false);
    let progress = |_, _| {
        if !refusing.swap(true, Ordering::Relaxed) {
            bench.fake.refuse_connections(true);
        }
    };
    let comes_back = async {
        bench.fake.until(|fake| fake.connections() >= 6).await;
        bench.fake.refuse_connections(false);
    };
    let (load, ()) = tokio::join!(load_market(&mut patience, &market, &[], progress), comes_back);
    let report = load.expect("it is back in time").report;
    assert_eq!((report.concentrated_pools, report.begun_anew), (12, 0));
    assert!(report.failures >= 6, "{report:?}");
}

/// The chain turns while pools are read; on the other branch a pair and a pool stand elsewhere.
#[tokio::test]
async fn a_load_whose_block_is_gone_begins_anew_and_asks_only_for_what_blocks_change() {
    let market = market_v3();
    let bench = bench(&market).await;
    let pair = pair(&market, 0, 0, 1);
    let moved = FakeTransaction::emitting(vec![FakeLog::sync(pair.address, 7_777, 9_999)]);
    let other = BlockBuilder::first(100).salt(1).transaction(moved).build();
    let (turned, restarts, last) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let progress = |now, of| {
        assert!(of > 0 && now <= of);
        if now > PAIRS + CANDIDATES + 2 && !turned.swap(true, Ordering::Relaxed) {
            bench.fake.push_block(other.clone());
        }
        if now < last.swap(now, Ordering::Relaxed) {
            restarts.fetch_add(1, Ordering::Relaxed);
        }
    };
    let mut patience = bench.patience(|_| {}).await;
    let load = load_market(&mut patience, &market, &[], progress).await.expect("the next block is there");
    assert_eq!((load.report.begun_anew, load.report.failures, restarts.into_inner()), (1, 0, 1));
    let calls = bench.calls_from(0);
    let asked = |to, signature| calls.get(&(to, selector(signature))).copied().unwrap_or_default();
    for place in places(&market) {
        let all = ["token0()", "token1()", "fee()", "tickSpacing()"].map(|data| asked(place.address, data));
        assert_eq!(all, [1; 4], "what a pool is made of is asked for once");
        assert_eq!(asked(place.address, "slot0()"), 2, "where it stands is asked for anew");
    }
    assert_eq!((asked(pair.address, "token0()"), asked(pair.address, "getReserves()")), (1, 2));

    let expected = bench.load_at(&market, other.hash()).await.expect("an honest node");
    assert_eq!(market_of(&load), market_of(&expected));
    let reserves = pools(&load).iter().find(|it| it.pool == pair.address).and_then(|it| it.reserves);
    assert_eq!(reserves, Some((7_777, 9_999)));
}

#[tokio::test]
async fn a_resumed_load_whose_blocks_go_again_and_again_is_given_up_with_a_remedy() {
    let market = market_v3();
    let bench = bench(&market).await;
    let pruned = RpcErr::new(-32000, "missing trie node 12ab (path ) state 0x12 is not available");
    bench.fake.inject("eth_call", Fault::Error(pruned), Times::Always);
    let mut patience = bench.patience(|_| {}).await;
    let error = load_market(&mut patience, &market, &[], |_, _| {}).await.expect_err("it never answers");
    let told = error.to_string();
    assert!(matches!(error, LoadError::GivenUp { .. }) && !error.is_retryable(), "{told}");
    assert!(told.contains("state of its blocks for longer") && told.contains("block 100"), "{told}");
}

#[tokio::test]
async fn a_resumed_load_that_a_node_refuses_for_good_says_where_and_what_to_do() {
    let market = market_v3();
    for (fault, tries, words) in [
        (Fault::DropConnection, 12, "name another one in node.urls"),
        (Fault::Error(RpcErr::new(-32601, "the method eth_call does not exist")), 1, "serves this request"),
    ] {
        let bench = bench(&market).await;
        // The pools of reserves are there, and the questions about the others.
        bench.fake.inject("eth_call", Fault::Delay(Duration::ZERO), Times::Next(300));
        bench.fake.inject("eth_call", fault, Times::Always);
        let mut patience = bench.patience(|_| {}).await;
        let error = load_market(&mut patience, &market, &[], |_, _| {}).await.expect_err("it refuses");
        let LoadError::GivenUp { failures, .. } = &error else { panic!("{error}") };
        let told = error.to_string();
        assert_eq!(*failures, tries, "{told}");
        assert_eq!(patience.failures(), u64::from(tries));
        for part in ["as of block 100, reading pools of Uniswap V3", "127.0.0.1", words] {
            assert!(told.contains(part), "{told}");
        }
    }
}

#[tokio::test]
async fn a_resumed_load_does_not_wait_for_a_node_that_wants_to_be_left_alone_for_an_hour() {
    let market = market_v3();
    let mut bench = bench(&market).await;
    bench.url = bench.fake.http_url();
    bench.fake.inject("eth_call", Fault::TooManyRequests(3_600), Times::Always);
    let mut patience = bench.patience(|_| {}).await;
    let error = load_market(&mut patience, &market, &[], |_, _| {}).await.expect_err("it refuses");
    let told = error.to_string();
    assert!(told.contains("lower node.max_batch and node.max_in_flight"), "{told}");
    assert!(patience.failures() <= 2, "{told}");
}

#[tokio::test]
async fn the_bar_moves_with_each_pool_and_never_stands_at_nothing() {
    let market = market_v3();
    let bench = bench(&market).await;
    let told = Mutex::new(Vec::new());
    let progress = |now, of| told.lock().expect("no panic").push((now, of));
    let (node, _) = Node::connect_first(&bench.node_config()).await.expect("it listens");
    bulk_load(&node, &market, bench.block.hash(), progress).await.expect("an honest node");
    let told = told.into_inner().expect("no panic");
    assert!(told.is_sorted_by_key(|(now, _)| *now));
    assert!(told.iter().all(|(now, of)| *of > 0 && now <= of), "{told:?}");
    let all = PAIRS + CANDIDATES + 12 + TOKENS + 1;
    assert_eq!(told.last(), Some(&(all, all)));
    let positions: BTreeSet<_> = told.iter().map(|(now, _)| *now).collect();
    let of_pools = PAIRS + CANDIDATES..=PAIRS + CANDIDATES + 12;
    assert!(of_pools.clone().all(|position| positions.contains(&position)), "{told:?}");

    let nothing = with_room(&market, 0);
    let seen = AtomicU64::new(0);
    let progress = |now, of| {
        assert!(of > 0 && now <= of);
        seen.store(of, Ordering::Relaxed);
    };
    bulk_load(&node, &nothing, bench.block.hash(), progress).await.expect("an honest node");
    assert_eq!(seen.into_inner(), 1, "the block itself is looked at");
}

#[tokio::test]
async fn pools_that_are_read_at_the_same_time_are_taken_in_their_order() {
    let market = market_v3();
    let bench = bench(&market).await;
    let load = |config: NodeConfig| {
        let (market, block) = (&market, bench.block.hash());
        async move {
            let (node, _) = Node::connect_first(&config).await.expect("it listens");
            bulk_load(&node, market, block, |_, _| {}).await.expect("an honest node")
        }
    };
    let one = NonZeroUsize::new(1).expect("not zero");
    let one_by_one = load(NodeConfig { max_in_flight: one, ..bench.node_config() }).await;
    let together = load(bench.node_config()).await;
    assert_eq!(market_of(&together), market_of(&one_by_one));
    let some = bench.load(&with_room(&market, 7)).await.expect("an honest node");
    let keys = |load: &BulkLoad| -> Vec<_> {
        let pools = load.events.iter().filter_map(|event| match event {
            BusEvent::ConcentratedLoaded(loaded) => Some(loaded.pool),
            _ => None,
        });
        pools.collect()
    };
    assert_eq!(keys(&some), keys(&together)[..5]);
}
