//! Pools that the logs of their makers tell of.

use alloy_primitives::{Bytes, I256, keccak256};
use headwater_market::{ConcentratedKey, History, V4Key};
use headwater_reference::fake_node::{address_word, word};

use super::concentrated::{Place, answer, market_v3};
use super::*;
use crate::loader::{BulkLoader, FoundPool, HistorySearch, PoolSearch};

const MANAGER: Address = Address::repeat_byte(0x44);
/// The first block of the chain, and how many there are.
const FIRST: u64 = 1;
const BLOCKS: u64 = 300;

fn signed(value: i32) -> Bytes {
    word(I256::try_from(value).expect("it fits").into_raw())
}

fn history(factory: Address, range: u64) -> History {
    let log_range = NonZeroU64::new(range).expect("not zero");
    History { factory, from_block: FIRST, log_range }
}

fn log(address: Address, signature: &str, topics: &[B256], words: &[Bytes]) -> FakeLog {
    let topics = [keccak256(signature)].iter().chain(topics).copied().collect();
    FakeLog { address, topics, data: words.concat().into() }
}

fn created(market: &ResolvedMarket, place: &Place) -> FakeLog {
    let [token0, token1] = place.tokens.map(|token| token.into_word());
    let fee = U256::from(place.fee).into();
    log(
        market.concentrated_factories[0].address,
        "PoolCreated(address,address,uint24,int24,address)",
        &[token0, token1, fee],
        &[signed(10), address_word(place.address)],
    )
}

fn initialized(key: &V4Key, id: B256) -> FakeLog {
    let topics = [id, key.currency0.into_word(), key.currency1.into_word()];
    let price = word(U256::ONE << 96);
    let words =
        [word(U256::from(key.fee)), signed(key.tick_spacing), address_word(key.hooks), price, signed(0)];
    log(MANAGER, "Initialize(bytes32,address,address,uint24,int24,address,uint160,int24)", &topics, &words)
}

/// A chain whose blocks hold what is told, each at its height.
async fn chain(logs: &[(u64, FakeLog)], salt: u64) -> Bench {
    let (fake, url) = FakeNode::start(CHAIN_ID).await.expect("a port");
    let mut block = BlockBuilder::first(FIRST).salt(salt).build();
    fake.push_block(block.clone());
    for number in FIRST + 1..=BLOCKS {
        let told = logs.iter().filter(|(at, _)| *at == number).map(|(_, log)| log.clone()).collect();
        block = BlockBuilder::child_of(&block).transaction(FakeTransaction::emitting(told)).build();
        fake.push_block(block.clone());
    }
    Bench { fake, url, block }
}

impl Bench {
    async fn node(&self) -> Node {
        Node::connect_first(&self.node_config()).await.expect("it listens").0
    }
}

#[tokio::test]
async fn a_search_that_is_broken_off_finds_what_one_in_one_piece_finds() {
    let market = market_v3();
    let places = [(0, 1, 11), (0, 2, 12), (1, 2, 13)]
        .map(|(one, other, fee)| Place::new(&market, one, other, (fee, 10)));
    let heights = [2, 100, 300];
    let logs: Vec<_> =
        heights.into_iter().zip(&places).map(|(at, place)| (at, created(&market, place))).collect();
    let bench = chain(&logs, 0).await;
    let (node, block) = (bench.node().await, bench.block.hash());
    let expected: Vec<_> = places.iter().map(|place| FoundPool::V3(place.address)).collect();
    let factory = market.concentrated_factories[0].address;

    let mut whole = PoolSearch::new(&market, &history(factory, 1_000));
    assert_eq!(whole.search(&node, block, 1, &|_| {}).await, Ok(true));
    assert_eq!(whole.pools(), expected);
    let mut pieces = PoolSearch::new(&market, &history(factory, 90));
    let mut found = Vec::new();
    while !pieces.search(&node, block, 1, &|_| {}).await.expect("an honest node") {
        found.push(pieces.pools().len());
        let kept = serde_json::to_string(&pieces.searched()).expect("it can be written");
        pieces = PoolSearch::new(&market, &history(factory, 90));
        pieces.go_on(serde_json::from_str(&kept).expect("and read"));
    }
    assert_eq!(pieces.pools(), expected);
    assert!(found.len() > 3 && found.contains(&1) && found.contains(&2), "{found:?}");
    assert_eq!(pieces.about(), whole.about());
}

#[tokio::test]
async fn blocks_that_became_others_are_searched_again() {
    let market = market_v3();
    let place = Place::new(&market, 0, 1, (11, 10));
    let factory = market.concentrated_factories[0].address;
    let mut search = PoolSearch::new(&market, &history(factory, 1_000));
    let before = chain(&[], 0).await;
    assert_eq!(search.search(&before.node().await, before.block.hash(), 1, &|_| {}).await, Ok(true));
    assert!(search.pools().is_empty());
    let after = chain(&[(BLOCKS - 63, created(&market, &place))], 1).await;
    assert_eq!(search.search(&after.node().await, after.block.hash(), 1, &|_| {}).await, Ok(true));
    assert_eq!(search.pools(), [FoundPool::V3(place.address)]);
}

#[tokio::test]
async fn a_refused_range_is_halved_and_what_was_found_stays() {
    let market = market_v3();
    let place = Place::new(&market, 0, 1, (11, 10));
    let bench = chain(&[(5, created(&market, &place))], 0).await;
    let (node, block) = (bench.node().await, bench.block.hash());
    let factory = market.concentrated_factories[0].address;
    let mut search = PoolSearch::new(&market, &history(factory, 400));
    let refusal = RpcErr::new(-32602, "query returned more than 10000 results");
    bench.fake.answer_with_error("eth_getLogs", refusal.clone(), 2);
    assert_eq!(search.search(&node, block, 1, &|_| {}).await, Ok(false));
    assert_eq!(bench.fake.requests("eth_getLogs"), 3, "400, 200, 100");
    assert_eq!(search.searched().next, FIRST + 100);
    bench.fake.answer_with_error("eth_getLogs", refusal, 100);
    let error = search.search(&node, block, 9, &|_| {}).await.expect_err("it refuses a single block");
    assert!(matches!(error, LoadError::Node(_)), "{error}");
    assert_eq!((search.searched().next, search.pools().len()), (FIRST + 100, 1));
}

#[tokio::test]
async fn what_cannot_be_a_pool_and_what_has_a_hook_is_refused() {
    let base = market_v3();
    let market = ResolvedMarket {
        concentrated_managers: vec![headwater_market::ConcentratedManager {
            name: "v4".to_owned(),
            address: MANAGER,
        }],
        ..base
    };
    let key = |fee, hooks| V4Key {
        currency0: token(0),
        currency1: token(1),
        fee,
        tick_spacing: 10,
        hooks: Address::repeat_byte(hooks),
    };
    let (honest, hooked, dynamic) = (key(77, 0), key(77, 9), key(0x80_0000, 0));
    let mut foreign = Place::new(&market, 0, 1, (11, 10));
    foreign.address = Address::repeat_byte(7);
    let logs = [
        (3, initialized(&hooked, hooked.id())),
        (4, initialized(&honest, honest.id())),
        (5, initialized(&dynamic, dynamic.id())),
        (6, initialized(&honest, hooked.id())),
        (7, initialized(&honest, honest.id())),
        (8, created(&market, &foreign)),
    ];
    let bench = chain(&logs, 0).await;
    let (node, block) = (bench.node().await, bench.block.hash());
    let mut of_v4 = PoolSearch::new(&market, &history(MANAGER, 1_000));
    assert_eq!(of_v4.search(&node, block, 1, &|_| {}).await, Ok(true));
    let expected = ConcentratedKey::V4 { manager: MANAGER, id: honest.id() };
    assert_eq!(of_v4.pools().iter().map(FoundPool::key).collect::<Vec<_>>(), [expected]);
    assert_eq!(of_v4.refused(), 3);
    let mut of_v3 = PoolSearch::new(&market, &history(market.concentrated_factories[0].address, 1_000));
    assert_eq!(of_v3.search(&node, block, 1, &|_| {}).await, Ok(true));
    assert_eq!((of_v3.pools(), of_v3.refused()), (&[] as &[_], 1));
}

#[tokio::test]
async fn only_pools_of_listed_tokens_are_asked_for() {
    let market = market_v3();
    let market = ResolvedMarket {
        load: headwater_market::LoadFilter { tokens: vec![token(0), token(1)], ..market.load.clone() },
        ..market
    };
    let wanted = Place::new(&market, 0, 1, (11, 10));
    let other = Place::new(&market, 0, 2, (11, 10));
    let bench = chain(&[(3, created(&market, &wanted)), (4, created(&market, &other))], 0).await;
    let factory = market.concentrated_factories[0].address;
    let mut search = PoolSearch::new(&market, &history(factory, 1_000));
    assert_eq!(search.search(&bench.node().await, bench.block.hash(), 1, &|_| {}).await, Ok(true));
    assert_eq!((search.pools(), search.refused()), (&[FoundPool::V3(wanted.address)] as &[_], 0));
}

#[tokio::test]
async fn of_the_pools_found_those_with_liquidity_are_loaded_once_each() {
    let market = market_v3();
    let place = |fee| Place::new(&market, 3, 4, (fee, 10));
    // The last one is found by its fee as well.
    let (deep, empty) = (place(11).position(-10, 10, 5), place(12));
    let usual = Place::new(&market, 0, 1, (500, 10)).position(-10, 10, 5);
    let places = [deep, empty, usual];
    let bench = Bench::new(V2World::default()).await;
    answer(&bench.fake, &market, &places);
    let found: Vec<_> = places.iter().map(|place| FoundPool::V3(place.address)).collect();
    let mut loader = BulkLoader::new(&market, &found);
    let load = loader.go_on(&bench.node().await, bench.block.hash(), |_, _| {}).await;
    let load = load.expect("an honest node");
    let mut loaded: Vec<_> = load
        .events
        .iter()
        .filter_map(|event| match event {
            BusEvent::ConcentratedLoaded(loaded) => Some(loaded.pool),
            _ => None,
        })
        .collect();
    loaded.sort();
    let mut expected = [places[0].address, places[2].address];
    expected.sort();
    assert_eq!((loaded, load.report.concentrated_pools), (expected.to_vec(), 2));
}
