//! Pools of Uniswap V3, read from a node that answers from a table.

use std::collections::BTreeMap;

use alloy_primitives::{Bytes, I256};
use headwater_events::{ConcentratedLoaded, ConcentratedState, LoadedTick, Protocol};
use headwater_market::{ConcentratedFactory, ConcentratedKey};
use headwater_reference::fake_node::{CallRequest, address_word, word};

use super::*;

/// A pool as its contract tells of it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) address: Address,
    pub(super) tokens: [Address; 2],
    pub(super) fee: u32,
    spacing: i32,
    slot0: (U256, i32),
    liquidity: u128,
    ticks: BTreeMap<i32, (i128, u128)>,
}

fn signed(value: i128) -> Bytes {
    word(I256::try_from(value).expect("it fits").into_raw())
}

fn argument(call: &CallRequest<'_>) -> i32 {
    I256::from_raw(call.argument(0)).try_into().expect("a tick or a word")
}

impl Place {
    pub(super) fn new(market: &ResolvedMarket, one: u64, other: u64, (fee, spacing): (u32, i32)) -> Self {
        let tokens = [token(one), token(other)];
        let address = market.concentrated_factories[0].derive(tokens[0], tokens[1], fee);
        let slot0 = (U256::ONE << 96, 0);
        Self { address, tokens, fee, spacing, slot0, liquidity: 0, ticks: BTreeMap::new() }
    }

    pub(super) fn position(mut self, lower: i32, upper: i32, liquidity: u128) -> Self {
        for (tick, sign) in [(lower, 1), (upper, -1)] {
            let (net, gross) = self.ticks.entry(tick).or_default();
            *net += sign * liquidity.cast_signed();
            *gross += liquidity;
        }
        if (lower..upper).contains(&self.slot0.1) {
            self.liquidity += liquidity;
        }
        self
    }

    /// What it holds of its tokens, which it does not say itself.
    fn holding(&self) -> V2Pair {
        let ([token0, token1], address) = (self.tokens, self.address);
        V2Pair { address, factory: Address::ZERO, token0, token1, reserve0: 50_000, reserve1: 60_000 }
    }

    fn answer(&self, call: &CallRequest<'_>) -> Result<Bytes, RpcErr> {
        let known: [(&str, Vec<Bytes>); 5] = [
            ("token0()", vec![address_word(self.tokens[0])]),
            ("token1()", vec![address_word(self.tokens[1])]),
            ("fee()", vec![word(U256::from(self.fee))]),
            ("tickSpacing()", vec![signed(self.spacing.into())]),
            ("liquidity()", vec![word(U256::from(self.liquidity))]),
        ];
        if let Some((_, words)) = known.iter().find(|(signature, _)| call.is(signature)) {
            return Ok(words.concat().into());
        }
        let padded = |first: [Bytes; 2], words: usize| {
            let mut bytes = first.concat();
            bytes.resize(32 * words, 0);
            Ok(bytes.into())
        };
        if call.is("slot0()") {
            return padded([word(self.slot0.0), signed(self.slot0.1.into())], 7);
        }
        if call.is("ticks(int24)") {
            let (net, gross) = self.ticks.get(&argument(call)).copied().unwrap_or_default();
            return padded([word(U256::from(gross)), signed(net)], 8);
        }
        if call.is("tickBitmap(int16)") {
            let own = |tick: &&i32| (**tick / self.spacing).div_euclid(256) == argument(call);
            let bits = self.ticks.keys().filter(own).fold(U256::ZERO, |mut bits, tick| {
                bits.set_bit((tick / self.spacing).rem_euclid(256) as usize, true);
                bits
            });
            return Ok(word(bits));
        }
        Err(RpcErr::reverted(&[]))
    }

    /// What is to be read of it.
    fn state(&self) -> Option<ConcentratedState> {
        let ticks = self.ticks.iter().map(|(index, (liquidity_net, liquidity_gross))| LoadedTick {
            index: *index,
            liquidity_net: *liquidity_net,
            liquidity_gross: *liquidity_gross,
        });
        let (sqrt_price, tick) = self.slot0;
        let ticks = ticks.collect();
        (!sqrt_price.is_zero()).then_some(ConcentratedState {
            sqrt_price,
            tick,
            liquidity: self.liquidity,
            ticks,
        })
    }
}

/// As [`market`], with a factory of V3 on top; cycles begin with the first three tokens.
pub(super) fn market_v3() -> ResolvedMarket {
    market(|config| {
        config.base_tokens = Some((0..3).map(|index| token(index).to_string()).collect());
        config.factories.push(FactoryConfig {
            protocol: Protocol::UniswapV3,
            name: None,
            address: factory_address(3).to_string(),
            init_code_hash: Some(B256::repeat_byte(3).to_string()),
            deployer: None,
            fee_ppm: 3_000,
        });
    })
}

/// From the lowest tick that there can be to the highest, at both ends of a word, and more ticks than fit in a page.
fn wide(market: &ResolvedMarket) -> Place {
    let place = Place::new(market, 0, 1, (500, 10)).position(-887_270, 887_270, 5);
    let narrow = (0..600).map(|at| 10 * at).fold(place, |place, at| place.position(at - 10, at, 1));
    narrow.position(-2_560, 2_550, 7).position(2_560, 5_120, 9)
}

pub(super) fn answer(fake: &FakeNode, market: &ResolvedMarket, places: &[Place]) {
    let v2 = world(market, &[pair(market, 0, 0, 1), pair(market, 0, 0, 2)]);
    let v2 = places.iter().fold(v2, |v2, place| v2.pair(place.holding()));
    let places = places.to_vec();
    fake.answer_calls(move |call| match places.iter().find(|place| place.address == call.to) {
        Some(place) => place.answer(call),
        None => v2.call(call),
    });
}

async fn lazy(market: &ResolvedMarket, places: &[Place]) -> Lazy {
    let lazy = Lazy::new(market.clone(), &[]).await;
    answer(&lazy.bench.fake, market, places);
    lazy
}

impl Lazy {
    /// The pools with concentrated liquidity that were published.
    async fn read(self) -> Vec<ConcentratedLoaded> {
        self.bus.close_source();
        self.bus.close_derived();
        self.handler.await.expect("it ends with the bus");
        let events = self.published.0.lock().expect("no panic");
        events
            .iter()
            .filter_map(|event| match event {
                BusEvent::ConcentratedLoaded(loaded) => Some(loaded.clone()),
                _ => None,
            })
            .collect()
    }
}

#[tokio::test]
async fn a_pool_is_read_to_its_last_tick_as_of_one_block() {
    let market = market_v3();
    let place = wide(&market);
    let mut lazy = lazy(&market, std::slice::from_ref(&place)).await;
    let hash = lazy.bench.block.hash();
    let observed = lazy.ask(Subject::Concentrated(ConcentratedKey::V3(place.address))).await;
    assert_eq!((observed.pools, observed.tokens, observed.refused), (1, 1, 0));
    let ConcentratedFactory { address: factory, init_code_hash, .. } =
        market.concentrated_factories[0].clone();
    let expected = ConcentratedLoaded {
        pool: place.address,
        factory,
        protocol: Protocol::UniswapV3,
        token0: place.tokens[0],
        token1: place.tokens[1],
        fee: 500,
        tick_spacing: 10,
        number: 100,
        hash,
        proof: PoolProof::Create2 { init_code_hash },
        state: place.state(),
    };
    assert!(place.ticks.len() > 600, "more than a page");
    assert_eq!(lazy.read().await, [expected]);
}

#[tokio::test]
async fn a_pool_without_a_price_is_read_with_six_questions() {
    let market = market_v3();
    let place = Place { slot0: (U256::ZERO, 0), ..Place::new(&market, 0, 1, (500, 10)) };
    let mut lazy = lazy(&market, std::slice::from_ref(&place)).await;
    lazy.ask(Subject::Concentrated(ConcentratedKey::V3(place.address))).await;
    // The other five are about a token: its trial, and the look at a later time among them.
    assert_eq!(lazy.bench.fake.requests("eth_call"), 6 + 5);
    let read = lazy.read().await;
    assert_eq!((read.len(), &read[0].state), (1, &None));
}

#[tokio::test]
async fn what_derives_from_no_factory_is_refused_once_and_for_all() {
    let market = market_v3();
    let stranger = Place { address: Address::repeat_byte(7), ..wide(&market) };
    let liar = Place { fee: 3_000, ..wide(&market) };
    let mut lazy = lazy(&market, &[stranger.clone(), liar.clone()]).await;
    let nobody = Address::repeat_byte(8);
    for address in [stranger.address, liar.address, nobody, nobody, stranger.address] {
        lazy.ask(Subject::Concentrated(ConcentratedKey::V3(address))).await;
    }
    let observed = lazy.loader.observe();
    assert_eq!((observed.refused, observed.repeated, observed.pools), (3, 2, 0));
    assert_eq!(lazy.bench.fake.requests("eth_call"), 3 * 6, "its ticks are of no interest");
    assert!(lazy.read().await.is_empty());
}

#[tokio::test]
async fn whoever_has_not_seen_the_answer_is_not_answered_twice_and_who_lost_it_is() {
    let market = market_v3();
    let place = Place::new(&market, 0, 1, (500, 10)).position(-10, 10, 1);
    let mut lazy = lazy(&market, std::slice::from_ref(&place)).await;
    let subject = Subject::Concentrated(ConcentratedKey::V3(place.address));
    lazy.ask(subject).await;
    let asked = lazy.bench.fake.requests("eth_call");
    assert_eq!(lazy.ask(subject).await.repeated, 1);
    assert_eq!(lazy.bench.fake.requests("eth_call"), asked);
    let as_of = AsOf { seq: 1_000, number: 100, hash: lazy.bench.block.hash() };
    lazy.loader.handle(&LoadRequest { subject, as_of }).await.expect("a loader bears what a node does");
    let read = lazy.read().await;
    assert_eq!((read.len(), &read[0].state, &read[1].state), (2, &place.state(), &place.state()));
}

/// The second page fails, twice in one request; the next request is of a later block, in which the pool stands elsewhere.
#[tokio::test]
async fn what_was_read_before_a_failure_is_not_asked_again() {
    let market = market_v3();
    let place = wide(&market);
    let mut lazy = lazy(&market, std::slice::from_ref(&place)).await;
    let subject = Subject::Concentrated(ConcentratedKey::V3(place.address));
    let known = place.clone();
    lazy.bench.fake.answer_calls(move |call| match call.is("ticks(int24)") {
        true => Err(RpcErr::new(-32603, "internal error")),
        false => known.answer(call),
    });
    let observed = lazy.ask(subject).await;
    assert_eq!((observed.given_up, observed.pools, observed.refused), (1, 0, 0));

    answer(&lazy.bench.fake, &market, std::slice::from_ref(&place));
    let asked = lazy.bench.fake.requests("eth_call");
    let later = BlockBuilder::child_of(&lazy.bench.block).build();
    lazy.bench.fake.push_block(later.clone());
    let as_of = AsOf { seq: 2, number: 101, hash: later.hash() };
    lazy.loader.handle(&LoadRequest { subject, as_of }).await.expect("a loader bears what a node does");
    assert_eq!(lazy.bench.fake.requests("eth_call") - asked, place.ticks.len() + 5, "ticks and a token");
    let read = lazy.read().await;
    assert_eq!((read.len(), read[0].number, &read[0].state), (1, 100, &place.state()));
}

#[tokio::test]
async fn a_reading_whose_block_is_undone_begins_anew() {
    let market = market_v3();
    let place = wide(&market);
    let mut lazy = lazy(&market, std::slice::from_ref(&place)).await;
    let subject = Subject::Concentrated(ConcentratedKey::V3(place.address));
    // Whole but for the last question, which is whether the block is still there.
    let other = BlockBuilder::first(100).salt(1).build();
    lazy.bench.fake.push_block(other.clone());
    assert_eq!(lazy.ask(subject).await.block_gone, 1);
    let observed = lazy.ask_at(subject, other.hash()).await;
    assert_eq!((observed.pools, observed.refused), (1, 0));
    let read = lazy.read().await;
    assert_eq!((read.len(), read[0].hash, &read[0].state), (1, other.hash(), &place.state()));
}

#[tokio::test]
async fn a_pool_whose_ticks_do_not_answer_as_ticks_do_is_refused() {
    let market = market_v3();
    let place = wide(&market);
    let mut lazy = lazy(&market, std::slice::from_ref(&place)).await;
    let known = place.clone();
    lazy.bench.fake.answer_calls(move |call| match call.is("ticks(int24)") {
        true => Ok(word(U256::ONE)),
        false => known.answer(call),
    });
    assert_eq!(lazy.ask(Subject::Concentrated(ConcentratedKey::V3(place.address))).await.refused, 1);
    assert!(lazy.read().await.is_empty());
}

#[tokio::test]
async fn pools_of_base_tokens_are_there_from_the_start() {
    let market = market_v3();
    let own = |one, other, fee| Place::new(&market, one, other, fee).position(-600, 600, 3);
    let places =
        [own(0, 1, (500, 10)), own(0, 1, (3_000, 60)), own(1, 2, (10_000, 200)), own(0, 3, (500, 10))];
    let bench = Bench::new(V2World::default()).await;
    answer(&bench.fake, &market, &places);
    let load = bench.load(&market).await.expect("an honest node");
    let read: Vec<_> = load
        .events
        .iter()
        .filter_map(|event| match event {
            BusEvent::ConcentratedLoaded(loaded) => Some((loaded.pool, loaded.state.clone())),
            _ => None,
        })
        .collect();
    let expected: Vec<_> = places[..3].iter().map(|place| (place.address, place.state())).collect();
    assert_eq!(read, expected, "the fourth is of a token that nobody listed");
    assert_eq!((load.report.concentrated_pools, load.report.pools), (3, 2));
    assert!(matches!(load.events.last(), Some(BusEvent::MarketLoaded(_))));
    assert!(load.judged_tokens().any(|judged| judged == token(1)), "tokens of such pools are judged as well");
}

#[tokio::test]
async fn the_limit_is_shared_with_the_pools_of_reserves() {
    let mut market = market_v3();
    market.load.max_pools = 3;
    let own = |fee| Place::new(&market, 0, 1, fee).position(-600, 600, 3);
    let places = [own((500, 10)), own((3_000, 60))];
    let bench = Bench::new(V2World::default()).await;
    answer(&bench.fake, &market, &places);
    let report = bench.load(&market).await.expect("an honest node").report;
    assert_eq!((report.pools, report.concentrated_pools), (2, 1));
}
