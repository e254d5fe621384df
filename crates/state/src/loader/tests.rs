mod concentrated;
mod history;
mod resumed;

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use alloy_primitives::{Address, B256, Bytes, U256};
use headwater_actor::Component;
use headwater_bus::{BusConfig, EventBus, EventHandler, HandlerReport, Timeline, Topology};
use headwater_events::{AsOf, BusEvent, Envelope, PoolLoaded, PoolProof, TokenJudged, TokenVerdict};
use headwater_market::{ConcentratedKey, Factory, FactoryConfig, MarketConfig, Preset, ResolvedMarket};
use headwater_node::{Node, NodeConfig};
use headwater_reference::fake_node::{
    BlockBuilder, FakeBlock, FakeLog, FakeNode, FakeTransaction, Fault, OtherTimes, RpcErr, Times, V2Pair,
    V2World,
};

use headwater_reference::tokens::Habit;
use tokio::task::JoinHandle;

use super::{BulkLoad, LoadReport, Loader, LoaderObserved, bulk_load};
use crate::config::StateConfig;
use crate::error::LoadError;
use crate::world::{LoadRequest, Subject};

const CHAIN_ID: u64 = 5;

fn token(index: u64) -> Address {
    Address::left_padding_from(&(0xa000_0000 + index).to_be_bytes())
}

fn factory_address(index: u8) -> Address {
    Address::repeat_byte(0xf0 + index)
}

/// Two factories whose pools derive and one whose do not; the tokens from `token(0)` on.
fn market(adapt: impl FnOnce(&mut MarketConfig)) -> ResolvedMarket {
    let factory = |index: u8, init_code_hash: Option<B256>| FactoryConfig {
        protocol: headwater_events::Protocol::UniswapV2,
        name: Some(format!("factory {index}")),
        address: factory_address(index).to_string(),
        init_code_hash: init_code_hash.map(|hash| hash.to_string()),
        deployer: None,
        fee_ppm: 3_000 + u32::from(index),
    };
    let mut config = MarketConfig {
        preset: Some(Preset::None),
        factories: vec![
            factory(0, Some(B256::repeat_byte(1))),
            factory(1, Some(B256::repeat_byte(2))),
            factory(2, None),
        ],
        wrapped_native: Some(token(0).to_string()),
        ..MarketConfig::default()
    };
    adapt(&mut config);
    ResolvedMarket::resolve(&config, CHAIN_ID).expect("the table is right")
}

/// The pool of two tokens of a factory, where it derives; else somewhere.
fn pair(market: &ResolvedMarket, factory: usize, one: u64, other: u64) -> V2Pair {
    let Factory { address: factory_address, .. } = market.factories[factory];
    let (token0, token1) = (token(one.min(other)), token(one.max(other)));
    let somewhere = Address::left_padding_from(&(0xc000_0000 + 1_000 * one + other).to_be_bytes());
    V2Pair {
        address: market.factories[factory].derive(token0, token1).unwrap_or(somewhere),
        factory: factory_address,
        token0,
        token1,
        reserve0: 1_000 + u128::from(one),
        reserve1: 2_000 + u128::from(other),
    }
}

fn world(market: &ResolvedMarket, pairs: &[V2Pair]) -> V2World {
    let empty = market.factories.iter().fold(V2World::default(), |world, known| world.factory(known.address));
    let tokens = pairs.iter().flat_map(|pair| [pair.token0, pair.token1]);
    let world = tokens.fold(empty, |world, address| world.token(address, 18, "TKN"));
    pairs.iter().fold(world, |world, pair| world.pair(*pair))
}

/// A fake node with one block, and a connection.
struct Bench {
    fake: FakeNode,
    url: String,
    block: FakeBlock,
}

impl Bench {
    async fn new(world: V2World) -> Self {
        let (fake, url) = FakeNode::start(CHAIN_ID).await.expect("a port");
        let block = BlockBuilder::first(100).build();
        fake.push_block(block.clone());
        fake.answer_v2(world);
        Self { fake, url, block }
    }

    fn node_config(&self) -> NodeConfig {
        NodeConfig::new(vec![self.url.parse().expect("a URL")])
    }

    async fn load_at(&self, market: &ResolvedMarket, block: B256) -> Result<BulkLoad, LoadError> {
        let (node, _) = Node::connect_first(&self.node_config()).await.expect("it listens");
        bulk_load(&node, market, block, |_, _| {}).await
    }

    async fn load(&self, market: &ResolvedMarket) -> Result<BulkLoad, LoadError> {
        self.load_at(market, self.block.hash()).await
    }
}

fn pools(load: &BulkLoad) -> Vec<&PoolLoaded> {
    load.events
        .iter()
        .filter_map(|event| match event {
            BusEvent::PoolLoaded(pool) => Some(pool),
            _ => None,
        })
        .collect()
}

fn verdict_of(load: &BulkLoad, token: Address) -> Option<&TokenVerdict> {
    load.events.iter().find_map(|event| match event {
        BusEvent::TokenJudged(judged) if judged.token == token => Some(&judged.verdict),
        _ => None,
    })
}

#[tokio::test]
async fn pools_and_tokens_are_loaded_as_of_one_block() {
    let market = market(|_| {});
    let pairs = [pair(&market, 0, 0, 1), pair(&market, 1, 0, 1), pair(&market, 2, 0, 2)];
    let bench = Bench::new(world(&market, &pairs)).await;
    let later = BlockBuilder::child_of(&bench.block)
        .transaction(FakeTransaction::emitting(vec![FakeLog::sync(pairs[0].address, 7, 9)]));
    bench.fake.push_block(later.build());
    let load = bench.load(&market).await.expect("an honest node");
    let told: Vec<_> = pools(&load)
        .iter()
        .map(|pool| (pool.pool, pool.reserves, pool.fee_ppm, pool.block_hash == bench.block.hash()))
        .collect();
    let expected: Vec<_> = (3_000..)
        .zip(&pairs)
        .map(|(fee, pair)| (pair.address, Some((pair.reserve0, pair.reserve1)), fee, true))
        .collect();
    assert_eq!(told, expected, "a Sync of a later block is not seen");
    let proofs: Vec<_> = pools(&load).iter().map(|pool| pool.proof).collect();
    let derived = |byte| PoolProof::Create2 { init_code_hash: B256::repeat_byte(byte) };
    assert_eq!(proofs, [derived(1), derived(2), PoolProof::FactoryAnswer]);
    assert_eq!(load.judged_tokens().collect::<Vec<_>>(), [token(0), token(1), token(2)]);
    let Some(BusEvent::MarketLoaded(loaded)) = load.events.last() else { panic!("it comes last") };
    assert_eq!((loaded.number, loaded.pools, loaded.chain_id), (100, 3, CHAIN_ID));
    assert_eq!(loaded.hash, bench.block.hash());
}

#[tokio::test]
async fn what_a_lying_factory_lists_is_refused() {
    let market = market(|_| {});
    let honest = pair(&market, 0, 0, 1);
    let elsewhere = V2Pair { address: Address::repeat_byte(7), ..pair(&market, 0, 0, 2) };
    let foreign = V2Pair { factory: honest.factory, ..pair(&market, 1, 0, 3) };
    let reversed = {
        let pair = pair(&market, 2, 0, 4);
        V2Pair { token0: pair.token1, token1: pair.token0, ..pair }
    };
    let bench = Bench::new(world(&market, &[elsewhere, honest, foreign, honest, reversed])).await;
    let load = bench.load(&market).await.expect("an answering node");
    assert_eq!(pools(&load).iter().map(|pool| pool.pool).collect::<Vec<_>>(), [honest.address]);
    assert_eq!(load.report, LoadReport { pools: 1, refused: 4, tokens: 2, ..LoadReport::default() });
}

#[tokio::test]
async fn a_factory_that_never_tells_the_truth_is_left() {
    let market = market(|config| config.factories.truncate(1));
    let bench = Bench::new(V2World::default()).await;
    bench.fake.answer_calls(|call| {
        let endless = call.is("allPairsLength()");
        Ok(headwater_reference::fake_node::word(if endless {
            U256::MAX
        } else {
            call.argument(0) + U256::ONE
        }))
    });
    let load = bench.load(&market).await.expect("an answering node");
    assert_eq!((load.report.pools, load.report.refused), (0, 1_000));
}

#[tokio::test]
async fn the_limit_is_shared_and_the_filters_hold() {
    let pairs = |market: &ResolvedMarket| {
        let of = |factory| (1..4).map(move |other| (factory, other));
        let all = of(0).chain(of(1));
        all.map(|(factory, other)| pair(market, factory, 0, other)).collect::<Vec<_>>()
    };
    let names = |market: &ResolvedMarket, load: &BulkLoad| -> Vec<(usize, u64)> {
        let place = |pool: &PoolLoaded| {
            let factory = market.factories.iter().position(|known| known.address == pool.factory);
            let other = (1..4).find(|other| token(*other) == pool.token1);
            (factory.expect("a configured factory"), other.expect("a known token"))
        };
        pools(load).into_iter().map(place).collect()
    };
    let whole = market(|_| {});
    let bench = Bench::new(world(&whole, &pairs(&whole))).await;
    for (adapt, expected) in [
        (
            Box::new(|_: &mut MarketConfig| {}) as Box<dyn FnOnce(&mut _)>,
            vec![(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)],
        ),
        (Box::new(|config: &mut MarketConfig| config.max_pools = Some(2)), vec![(0, 1), (0, 2)]),
        (Box::new(|config| config.max_pools = Some(0)), vec![]),
        (Box::new(|config| config.tokens = vec![token(2).to_string()]), vec![(0, 2), (1, 2)]),
        (
            Box::new(|config| drop(config.min_reserves.insert(token(3).to_string(), "2004".into()))),
            vec![(0, 1), (0, 2), (1, 1), (1, 2)],
        ),
        (
            Box::new(|config| drop(config.min_reserves.insert(token(3).to_string(), "2003".into()))),
            vec![(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)],
        ),
    ] {
        let market = market(adapt);
        let load = bench.load(&market).await.expect("an honest node");
        assert_eq!(names(&market, &load), expected);
    }
}

#[tokio::test]
async fn tokens_that_do_not_say_their_decimals_are_refused() {
    let market = market(|_| {});
    let pairs = [pair(&market, 0, 0, 1), pair(&market, 0, 2, 3)];
    let bench = Bench::new(world(&market, &pairs)).await;
    let honest = world(&market, &pairs).token(token(0), 6, "USDC\u{202e}");
    bench.fake.answer_calls(move |call| match (call.is("decimals()"), call.is("symbol()")) {
        _ if !call.overrides.is_null() => honest.call(call),
        // What it says is the contract's choice, and not the node's word that the block is gone.
        (true, _) if call.to == token(1) => {
            Err(RpcErr::new(3, "execution reverted: hash is not currently canonical"))
        }
        (true, _) if call.to == token(2) => Ok(headwater_reference::fake_node::word(U256::from(78))),
        (_, true) if call.to == token(3) => Err(RpcErr::new(-32015, "VM execution error.")),
        _ => honest.call(call),
    });
    let load = bench.load(&market).await.expect("an honest node");
    let verdict = |index| verdict_of(&load, token(index)).expect("every token is judged");
    assert_eq!(verdict(0), &TokenVerdict::Accepted { decimals: 6, symbol: "USDC".into() });
    assert!(matches!(verdict(1), TokenVerdict::Refused(reason) if reason.contains("reverted")));
    assert!(matches!(verdict(2), TokenVerdict::Refused(reason) if reason.contains("78")));
    assert_eq!(verdict(3), &TokenVerdict::Accepted { decimals: 18, symbol: String::new() });
    assert_eq!((load.report.tokens, load.report.tokens_refused), (4, 2));
}

#[tokio::test]
async fn a_node_without_state_overrides_is_named_with_its_remedy() {
    let market = market(|_| {});
    let pairs = [pair(&market, 0, 0, 1)];
    for answer in [Err(RpcErr::new(-32602, "too many arguments, want at most 2")), Ok(Bytes::new())] {
        let bench = Bench::new(world(&market, &pairs)).await;
        let honest = world(&market, &pairs);
        let (expected, answered) = (answer.is_err(), answer);
        bench.fake.answer_calls(move |call| match call.overrides.is_null() {
            true => honest.call(call),
            false => answered.clone(),
        });
        let error = bench.load(&market).await.expect_err("no token can be tried out");
        assert!(matches!(error, LoadError::NoTrials(_)) && !error.is_retryable(), "{error}");
        let told = error.to_string();
        assert!(told.contains("state overrides") && told.contains("geth"), "{told}");
        assert_eq!(told.contains("too many arguments"), expected, "{told}");
    }
}

/// The reason for which a token with a habit is refused.
async fn check_habit(habit: impl FnOnce(Address) -> Habit, decimals: u8, expected: Option<&str>) {
    let market = market(|_| {});
    let pairs = [pair(&market, 0, 0, 1)];
    let habit = habit(pairs[0].address);
    let world = world(&market, &pairs).hostile_token(token(1), decimals, habit);
    let load = Bench::new(world).await.load(&market).await.expect("an honest node");
    let reason = match verdict_of(&load, token(1)) {
        Some(TokenVerdict::Refused(reason)) => reason.split(':').next().map(str::to_owned),
        Some(TokenVerdict::Accepted { .. }) => None,
        None => panic!("{habit:?} is not judged"),
    };
    assert_eq!(reason.as_deref(), expected, "{habit:?}");
    assert!(
        matches!(verdict_of(&load, token(0)), Some(TokenVerdict::Accepted { .. })),
        "its pool's other token"
    );
}

#[tokio::test]
async fn a_token_is_tried_out_before_its_pools_are_known() {
    check_habit(|_| Habit::Ordinary, 18, None).await;
    check_habit(|_| Habit::Silent, 1, None).await;
    check_habit(|_| Habit::Fee(0), 77, None).await;
    check_habit(|_| Habit::Fee(10_000), 18, Some("inexact")).await;
    check_habit(|pool| Habit::FeeTo(pool, 10_000), 18, Some("inexact")).await;
    check_habit(Habit::OnlyFrom, 18, Some("transfer-fails")).await;
    check_habit(|_| Habit::Once, 18, Some("transfer-fails")).await;
    check_habit(|_| Habit::Endless, 18, Some("gas")).await;
    check_habit(|_| Habit::Verbose(64), 18, Some("transfer-fails")).await;
    check_habit(|_| Habit::Verbose(u32::MAX), 18, Some("gas")).await;
    check_habit(|_| Habit::Denies, 18, Some("no-success")).await;
    check_habit(|_| Habit::Grows, 18, Some("inexact")).await;
    check_habit(|_| Habit::Ordinary, 0, Some("decimals")).await;
    check_habit(|_| Habit::Ordinary, 255, Some("decimals")).await;
}

/// A pool with a million times what [`pair`] has, so that what a few seconds add to it does not hide in what it holds.
fn deep_pair(market: &ResolvedMarket) -> V2Pair {
    let pair = pair(market, 0, 0, 1);
    V2Pair { reserve0: pair.reserve0 << 40, reserve1: pair.reserve1 << 40, ..pair }
}

/// The reason for which a token is refused whose pool holds that much of it, and how many tokens nobody looked at later.
async fn check_later(
    habit: Habit,
    held: impl FnOnce(u128) -> u128,
    times: OtherTimes,
    expected: (Option<&str>, u64),
) {
    let market = market(|_| {});
    let pool = deep_pair(&market);
    let world = world(&market, &[pool])
        .hostile_token(token(1), 18, habit)
        .holding(pool.address, token(1), held(pool.reserve1))
        .at_other_times(times);
    let load = Bench::new(world).await.load(&market).await.expect("an honest node");
    let reason = match verdict_of(&load, token(1)) {
        Some(TokenVerdict::Refused(reason)) => reason.split(':').next().map(str::to_owned),
        _ => None,
    };
    assert_eq!((reason.as_deref(), load.report.untimed), expected, "{habit:?} {times:?}");
}

#[tokio::test]
async fn a_balance_that_changes_with_time_alone_is_found() {
    let same = |reserve| reserve;
    check_later(Habit::Accrues, same, OtherTimes::Seen, (Some("accrues"), 0)).await;
    check_later(Habit::Decays, same, OtherTimes::Seen, (Some("accrues"), 0)).await;
    check_later(Habit::Ordinary, same, OtherTimes::Seen, (None, 0)).await;
}

#[tokio::test]
async fn a_node_that_runs_nothing_at_another_time_is_counted_and_refuses_nobody() {
    for times in [OtherTimes::Refused, OtherTimes::Ignored] {
        for habit in [Habit::Ordinary, Habit::Accrues] {
            check_later(habit, |reserve| reserve, times, (None, 2)).await;
        }
        check_later(Habit::Fee(10_000), |reserve| reserve, times, (Some("inexact"), 1)).await;
    }
}

#[tokio::test]
async fn a_pool_may_hold_more_than_its_reserve_and_not_less() {
    check_later(Habit::Ordinary, |reserve| reserve - 1, OtherTimes::Seen, (Some("shrunk"), 0)).await;
    check_later(Habit::Ordinary, |reserve| reserve + 1, OtherTimes::Seen, (None, 0)).await;
    check_later(Habit::Ordinary, |reserve| reserve * 2, OtherTimes::Seen, (None, 0)).await;
}

#[tokio::test]
async fn a_stranger_that_holds_less_than_its_reserve_is_found_too() {
    for (taken, refused) in [(1, 1), (0, 0)] {
        let market = market(|_| {});
        let pool = deep_pair(&market);
        let world = world(&market, &[pool]).holding(pool.address, token(1), pool.reserve1 - taken);
        let mut lazy = Lazy::new(market, &[]).await;
        lazy.bench.fake.answer_v2(world);
        let observed = lazy.ask(Subject::Pool(pool.address)).await;
        assert_eq!((observed.pools, observed.tokens_refused), (1, refused));
    }
}

#[tokio::test]
async fn a_pool_that_holds_nothing_waits_until_its_tokens_can_be_tried_out() {
    let market = market(|_| {});
    let empty = V2Pair { reserve0: 0, reserve1: 0, ..pair(&market, 0, 0, 1) };
    let mut lazy = Lazy::new(market, &[empty]).await;
    let observed = lazy.ask(Subject::Pool(empty.address)).await;
    assert_eq!((observed.pools, observed.tokens, observed.refused), (0, 0, 0));
    let logs = vec![FakeLog::sync(empty.address, 7_000, 9_000)];
    let block =
        BlockBuilder::child_of(&lazy.bench.block).transaction(FakeTransaction::emitting(logs)).build();
    lazy.bench.fake.push_block(block.clone());
    let observed = lazy.ask_at(Subject::Pool(empty.address), block.hash()).await;
    assert_eq!((observed.pools, observed.tokens, observed.tokens_refused), (1, 1, 0));
}

#[tokio::test]
async fn a_block_that_is_gone_is_told_apart_from_a_node_that_fails() {
    let market = market(|_| {});
    let bench = Bench::new(world(&market, &[pair(&market, 0, 0, 1)])).await;
    let unknown = bench.load_at(&market, B256::repeat_byte(9)).await.expect_err("nobody has it");
    assert!(matches!(unknown, LoadError::BlockGone { .. }) && unknown.is_retryable(), "{unknown}");

    let pruned = RpcErr::new(-32000, "missing trie node 12ab (path ) state 0x12 is not available");
    bench.fake.answer_with_error("eth_call", pruned, 1);
    assert!(matches!(bench.load(&market).await, Err(LoadError::BlockGone { .. })));

    let refused = RpcErr::new(-32601, "the method eth_call does not exist");
    bench.fake.answer_with_error("eth_call", refused, 1);
    let failed = bench.load(&market).await.expect_err("it says so");
    assert!(matches!(failed, LoadError::Node(_)) && !failed.is_retryable(), "{failed}");

    // The chain turns while the load goes on; this node answers for orphaned blocks all the same.
    bench.fake.push_block(BlockBuilder::first(100).salt(1).build());
    assert!(matches!(bench.load(&market).await, Err(LoadError::BlockGone { .. })));
}

#[tokio::test]
async fn an_address_without_a_factory_is_named() {
    let market = market(|_| {});
    let bench = Bench::new(V2World::default()).await;
    let error = bench.load(&market).await.expect_err("there is none");
    assert!(matches!(&error, LoadError::NoFactory { factory, .. } if factory == "factory 0"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_the_node_is_too_busy_for_is_repeated() {
    let market = market(|_| {});
    let bench = Bench::new(world(&market, &[pair(&market, 0, 0, 1)])).await;
    bench.fake.answer_with_error("eth_call", RpcErr::new(-32005, "limit exceeded"), 4);
    let load = bench.load(&market).await.expect("it recovers");
    assert_eq!(load.report.pools, 1);
    bench.fake.inject("eth_call", Fault::Error(RpcErr::new(-32005, "limit exceeded")), Times::Always);
    let error = bench.load(&market).await.expect_err("it does not recover");
    assert!(matches!(error, LoadError::Node(_)) && error.is_retryable(), "{error}");
}

#[tokio::test]
async fn ten_thousand_pools_come_in_batches() {
    const POOLS: u64 = 10_000;
    let market = market(|_| {});
    let places = (0..POOLS / 2).map(|index| (index % 100, 100 + index / 100));
    let pairs: Vec<_> =
        places.flat_map(|(one, other)| [0, 1].map(|factory| pair(&market, factory, one, other))).collect();
    let bench = Bench::new(world(&market, &pairs)).await;
    let (node, _) = Node::connect_first(&bench.node_config()).await.expect("it listens");
    let (done, total) = (AtomicU64::new(0), AtomicU64::new(0));
    let load = bulk_load(&node, &market, bench.block.hash(), |now, of| {
        assert!(done.swap(now, Ordering::Relaxed) <= now && now <= of);
        total.store(of, Ordering::Relaxed);
    })
    .await
    .expect("an honest node");
    assert_eq!((load.report.pools, load.report.tokens), (POOLS, 150));
    assert_eq!(done.into_inner(), total.into_inner());
    let calls = 3 + 4 * POOLS as usize + (3 + 2) * 150;
    assert_eq!(bench.fake.requests("eth_call"), calls);
    assert_eq!(bench.fake.connections(), 1);
}

/// What the loader published.
#[derive(Clone, Default)]
struct Published(Arc<Mutex<Vec<BusEvent>>>);

impl EventHandler for Published {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        self.0.lock().expect("no panic").push(envelope.event.clone());
        Ok(())
    }
}

/// A loader on a bus of its own.
struct Lazy {
    bench: Bench,
    bus: EventBus,
    loader: Loader,
    published: Published,
    handler: JoinHandle<HandlerReport>,
}

impl Lazy {
    async fn new(market: ResolvedMarket, pairs: &[V2Pair]) -> Self {
        let bench = Bench::new(world(&market, pairs)).await;
        let bus = EventBus::new(&BusConfig::default(), &Topology::new(), &Timeline::default(), None, None);
        let published = Published::default();
        let handler = bus.register("published", published.clone());
        let config = StateConfig { first_retry_ms: NonZeroU64::MIN, ..StateConfig::default() };
        let loader = Loader::new(Arc::new(market), config, bench.node_config(), bus.publisher(), [token(0)]);
        Self { bench, bus, loader, published, handler }
    }

    async fn ask_at(&mut self, subject: Subject, block: B256) -> LoaderObserved {
        let as_of = AsOf { seq: 1, number: 100, hash: block };
        self.loader.handle(&LoadRequest { subject, as_of }).await.expect("a loader bears what a node does");
        self.loader.observe()
    }

    async fn ask(&mut self, subject: Subject) -> LoaderObserved {
        self.ask_at(subject, self.bench.block.hash()).await
    }

    /// What was published, in words.
    async fn published(self) -> Vec<String> {
        self.bus.close_source();
        self.bus.close_derived();
        self.handler.await.expect("it ends with the bus");
        let events = self.published.0.lock().expect("no panic");
        events.iter().map(in_words).collect()
    }
}

fn in_words(event: &BusEvent) -> String {
    match event {
        BusEvent::PoolLoaded(PoolLoaded { pool, factory, reserves, proof, block_number, .. }) => {
            let proof = if *proof == PoolProof::FactoryAnswer { "answered" } else { "derived" };
            format!("pool {pool} of {factory} {proof} at {block_number}, reserves {reserves:?}")
        }
        BusEvent::TokenJudged(TokenJudged { token, verdict: TokenVerdict::Accepted { .. } }) => {
            format!("token {token} accepted")
        }
        BusEvent::TokenJudged(TokenJudged { token, .. }) => format!("token {token} refused"),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stranger_is_published_with_proof_after_its_tokens() {
    let market = market(|_| {});
    let pairs = [pair(&market, 1, 0, 1), pair(&market, 2, 2, 3)];
    let mut lazy = Lazy::new(market, &pairs).await;
    for pair in &pairs {
        lazy.ask(Subject::Pool(pair.address)).await;
    }
    let observed = lazy.loader.observe();
    assert_eq!((observed.pools, observed.tokens, observed.refused), (2, 3, 0));
    let [derived, answered] = pairs.map(|pair| (pair.address, pair.factory));
    assert_eq!(
        lazy.published().await,
        [
            format!("token {} accepted", token(1)),
            format!("pool {} of {} derived at 100, reserves None", derived.0, derived.1),
            format!("token {} accepted", token(2)),
            format!("token {} accepted", token(3)),
            format!("pool {} of {} answered at 100, reserves None", answered.0, answered.1),
        ]
    );
}

#[tokio::test]
async fn what_is_no_pool_of_ours_is_asked_about_once() {
    let market = market(|_| {});
    let pretender = V2Pair { address: Address::repeat_byte(7), ..pair(&market, 0, 0, 1) };
    let mut world_pairs = vec![pretender];
    world_pairs.push(pair(&market, 2, 0, 1));
    let mut lazy = Lazy::new(market, &world_pairs).await;
    let nobody = Address::repeat_byte(8);
    for address in [pretender.address, nobody] {
        lazy.ask(Subject::Pool(address)).await;
    }
    let asked = lazy.bench.fake.requests("eth_call");
    for address in [pretender.address, nobody] {
        lazy.ask(Subject::Pool(address)).await;
    }
    let observed = lazy.loader.observe();
    assert_eq!((observed.requests, observed.repeated, observed.refused), (4, 2, 2));
    assert_eq!(lazy.bench.fake.requests("eth_call"), asked);
    assert_eq!(lazy.published().await, [""; 0]);
}

#[tokio::test]
async fn a_token_is_judged_once() {
    let market = market(|_| {});
    let pairs = [pair(&market, 0, 1, 2)];
    let holder = pairs[0].address;
    let mut lazy = Lazy::new(market, &pairs).await;
    for index in [0, 1, 1, 9] {
        lazy.ask(Subject::Token { token: token(index), holder }).await;
    }
    assert_eq!(
        lazy.published().await,
        [format!("token {} accepted", token(1)), format!("token {} refused", token(9))]
    );
}

#[tokio::test]
async fn an_orphaned_block_leaves_the_question_open() {
    let market = market(|_| {});
    let pairs = [pair(&market, 0, 0, 1)];
    let mut lazy = Lazy::new(market, &pairs).await;
    let subject = Subject::Pool(pairs[0].address);
    let observed = lazy.ask_at(subject, B256::repeat_byte(9)).await;
    assert_eq!((observed.block_gone, observed.pools, observed.refused), (1, 0, 0));
    assert_eq!(lazy.ask(subject).await.pools, 1);
}

/// Its logs are asked for by height, and so answered without the block.
#[tokio::test]
async fn an_orphaned_block_leaves_it_open_what_a_pool_of_v4_is_made_of() {
    let manager = Address::repeat_byte(0x44);
    let of_v4 = |config: &mut MarketConfig| {
        config.factories.push(FactoryConfig {
            protocol: headwater_events::Protocol::UniswapV4,
            name: None,
            address: manager.to_string(),
            init_code_hash: None,
            deployer: None,
            fee_ppm: 3_000,
        });
    };
    let mut lazy = Lazy::new(market(of_v4), &[]).await;
    let subject = Subject::Concentrated(ConcentratedKey::V4 { manager, id: B256::repeat_byte(5) });
    let observed = lazy.ask_at(subject, B256::repeat_byte(9)).await;
    assert_eq!((observed.block_gone, observed.unnamed, observed.refused), (1, 0, 0));
    let observed = lazy.ask(subject).await;
    assert_eq!((observed.unnamed, observed.refused, observed.repeated), (1, 1, 0));
}

#[tokio::test]
async fn a_node_that_fails_is_asked_again_over_a_new_connection() {
    let market = market(|_| {});
    let pairs = [pair(&market, 0, 0, 1)];
    let mut lazy = Lazy::new(market, &pairs).await;
    let subject = Subject::Pool(pairs[0].address);

    // Twice within one request, then it is left; the contract is not held for refused.
    lazy.bench.fake.inject("eth_call", Fault::DropConnection, Times::Always);
    let observed = lazy.ask(subject).await;
    assert_eq!((observed.failed, observed.given_up, observed.refused), (2, 1, 0));
    assert_eq!(lazy.bench.fake.connections(), 2);

    lazy.bench.fake.mend("eth_call");
    let observed = lazy.ask(subject).await;
    assert_eq!((observed.pools, observed.given_up), (1, 1));
    assert_eq!(lazy.bench.fake.connections(), 3);
    assert_eq!(lazy.published().await.len(), 2);
}

#[tokio::test]
async fn a_node_on_another_chain_is_not_believed() {
    let mut market = market(|_| {});
    let pairs = [pair(&market, 0, 0, 1)];
    market.chain_id = CHAIN_ID + 1;
    let mut lazy = Lazy::new(market, &pairs).await;
    let observed = lazy.ask(Subject::Pool(pairs[0].address)).await;
    assert_eq!((observed.given_up, observed.pools), (1, 0));
    assert_eq!(lazy.published().await, [""; 0]);
}
