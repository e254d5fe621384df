use alloy_primitives::B256;
use headwater_events::{
    BusEvent, ConcentratedState, Difference, LoadedTick, MarketResynced, PoolProof, PoolQuarantined, Price,
    Protocol, V4Quarantined,
};
use headwater_market::{MarketConfig, PriceSnapshot};

use super::*;
use crate::samples::*;
use crate::{Oracle, OracleConfig};

const V3: Address = Address::repeat_byte(0xf3);
const MANAGER: Address = Address::repeat_byte(0xf4);
const WIDE: i32 = 887_220;

fn market() -> ResolvedMarket {
    let text = format!(
        "preset = 'none'\nwrapped_native = '{QUOTE}'\n[[factories]]\nprotocol = 'uniswap-v2'\naddress = '{FACTORY}'\n\
         [[factories]]\nprotocol = 'uniswap-v3'\naddress = '{V3}'\ninit_code_hash = '{}'\n\
         [[factories]]\nprotocol = 'uniswap-v4'\naddress = '{MANAGER}'",
        B256::repeat_byte(1)
    );
    let config: MarketConfig = toml::from_str(&text).expect("a market table");
    ResolvedMarket::resolve(&config, 31_337).expect("complete")
}

/// At a price of one, with one range that is as wide as can be.
fn state(liquidity: u128) -> ConcentratedState {
    let net = liquidity as i128;
    let ticks = [(-WIDE, net), (WIDE, -net)].map(|(index, liquidity_net)| LoadedTick {
        index,
        liquidity_net,
        liquidity_gross: liquidity,
    });
    ConcentratedState { sqrt_price: U256::ONE << 96, tick: 0, liquidity, ticks: ticks.to_vec() }
}

fn v3(number: u8, liquidity: u128) -> (Address, BusEvent) {
    let (token0, token1) = (token(number).min(QUOTE), token(number).max(QUOTE));
    let pool = market().concentrated_factories[0].derive(token0, token1, 3_000);
    let loaded = ConcentratedLoaded {
        pool,
        factory: V3,
        protocol: Protocol::UniswapV3,
        token0,
        token1,
        fee: 3_000,
        tick_spacing: 60,
        number: 0,
        hash: hash(0),
        proof: PoolProof::Create2 { init_code_hash: B256::repeat_byte(1) },
        state: Some(state(liquidity)),
    };
    (pool, BusEvent::ConcentratedLoaded(loaded))
}

/// Of the native currency and a token.
fn v4(currency1: Address, fee: u32, liquidity: u128) -> (B256, BusEvent) {
    let key = V4Key { currency0: Address::ZERO, currency1, fee, tick_spacing: 60, hooks: Address::ZERO };
    let loaded = V4Loaded {
        manager: MANAGER,
        id: key.id(),
        currency0: Address::ZERO,
        currency1,
        fee,
        tick_spacing: 60,
        number: 0,
        hash: hash(0),
        protocol_fee: 0,
        state: state(liquidity),
    };
    (key.id(), BusEvent::V4Loaded(loaded))
}

struct Story {
    oracle: Oracle,
    seq: u64,
    height: u64,
}

impl Story {
    fn begin(learnt: impl IntoIterator<Item = BusEvent>) -> Self {
        let mut story = Self { oracle: Oracle::new(&market(), &OracleConfig::default()), seq: 0, height: 0 };
        story.tell(market_loaded());
        story.tell(quote_accepted());
        story.tell(judged(1, false));
        learnt.into_iter().for_each(|event| story.tell(event));
        story
    }

    fn tell(&mut self, event: BusEvent) {
        self.seq += 1;
        self.oracle.apply(&envelope(self.seq, event)).expect("it follows");
    }

    /// The price of the first token behind another block, and the contract that weighs most in it.
    fn price(&mut self) -> Option<(U256, Address)> {
        self.seq += 1;
        self.height += 1;
        let block = envelope(self.seq, plain_block(self.height, vec![]));
        let priced = self.oracle.apply(&block).expect("it follows").expect("a block");
        let snapshot: &PriceSnapshot = &priced.snapshot;
        snapshot.prices.get(&token(1)).map(|known| (known.price.mantissa, known.source))
    }
}

#[test]
fn a_token_that_only_pools_of_v3_or_v4_hold_has_a_price() {
    let (pool, loaded) = v3(1, 2 * ETHER);
    assert_eq!(Story::begin([loaded]).price(), Some((Price::ONE, pool)));
    let (_, loaded) = v4(token(1), 500, 2 * ETHER);
    assert_eq!(Story::begin([loaded]).price(), Some((Price::ONE, MANAGER)));
    let (_, thin) = v4(token(1), 500, ETHER / 2);
    assert_eq!(Story::begin([thin]).price(), None);
}

#[test]
fn pairs_and_pools_of_ranges_are_weighed_together() {
    // One for one with two of it, and twice that with six.
    let (_, ranged) = v3(1, 6 * ETHER + 10);
    let pair = loaded(pool(1), 1, Some((2 * ETHER, ETHER)), (0, hash(0)));
    let (price, source) = Story::begin([ranged, pair]).price().expect("both are deep");
    assert_ne!(source, pool(1));
    let expected = Price::ONE * U256::from(5) / U256::from(4);
    assert!(price.abs_diff(expected) < Price::ONE / U256::from(1_000_000_000), "{price}");
}

#[test]
fn a_pool_of_the_native_token_and_the_wrapped_one_prices_nothing() {
    let (_, own) = v4(QUOTE, 500, 2 * ETHER);
    let mut story = Story::begin([own]);
    assert_eq!(story.price(), None);
    assert_eq!((story.oracle.counts().pools, story.oracle.counts().prices), (0, 0));
}

#[test]
fn a_refused_token_has_no_price_and_neither_has_one_that_nobody_tried_out() {
    let (_, loaded) = v3(1, 2 * ETHER);
    let mut story = Story::begin([loaded]);
    assert!(story.price().is_some());
    story.tell(judged(1, true));
    assert_eq!(story.price(), None);
    story.tell(judged(1, false));
    assert!(story.price().is_some());
    let mut unjudged = Story::begin([v3(3, 2 * ETHER).1]);
    unjudged.price();
    assert_eq!(unjudged.oracle.counts().prices, 0);
}

#[test]
fn a_quarantined_pool_says_nothing_any_longer_and_the_others_go_on() {
    let (pool, first) = v3(1, 2 * ETHER);
    let ((id, second), (_, third)) = (v4(token(1), 500, 3 * ETHER), v4(token(1), 3_000, 5 * ETHER));
    let mut story = Story::begin([first, second, third]);
    assert_eq!(story.price(), Some((Price::ONE, MANAGER)));
    assert_eq!(story.oracle.counts().pools, 3);
    story.tell(BusEvent::V4Quarantined(Box::new(V4Quarantined {
        manager: MANAGER,
        id,
        number: 1,
        hash: hash(1),
        difference: Difference::Liquidity,
        ours: String::new(),
        theirs: String::new(),
    })));
    assert!(story.price().is_some());
    story.tell(BusEvent::PoolQuarantined(Box::new(PoolQuarantined {
        pool,
        protocol: Protocol::UniswapV3,
        number: 1,
        hash: hash(1),
        difference: Difference::Liquidity,
        ours: String::new(),
        theirs: String::new(),
    })));
    assert_eq!(story.price(), Some((Price::ONE, MANAGER)), "by the third");
}

#[test]
fn what_was_undone_is_priced_anew_whether_its_pool_was_touched_or_not() {
    let mut story = Story::begin([v3(1, 2 * ETHER).1]);
    assert!(story.price().is_some());
    // Below the first block there were no prices.
    story.tell(reorg((0, hash(0)), vec![hash(1)]));
    story.height = 0;
    assert!(story.price().is_some());
    story.tell(judged(1, true));
    assert_eq!(story.price(), None);
    // A verdict is no block's.
    story.tell(reorg((1, hash(1)), vec![hash(2)]));
    story.height = 1;
    assert_eq!(story.price(), None);
}

#[test]
fn what_is_lost_has_no_price_until_it_is_read_and_an_image_goes_on() {
    let mut story = Story::begin([v3(1, 2 * ETHER).1, v4(token(1), 500, 3 * ETHER).1]);
    assert!(story.price().is_some());
    let restored =
        Oracle::of_image(&market(), &OracleConfig::default(), story.oracle.image()).expect("its own");
    assert_eq!(restored.digest(), story.oracle.digest());
    story.oracle = restored;
    assert!(story.price().is_some());
    story.oracle.lose(None);
    let told = story.oracle.counts();
    assert!(told.lost && told.pools == 2);
    // The pairs are told anew, and the pools of ranges read: of the block that was lost, nothing is known.
    story.height += 1;
    story.seq += 1;
    let block = envelope(story.seq, plain_block(story.height, vec![]));
    assert!(story.oracle.apply(&block).expect("it stands on whatever it says").is_none());
    let (number, known) = (story.height, hash(story.height));
    story.tell(BusEvent::MarketResynced(MarketResynced { number, hash: known, reserves: vec![] }));
    assert_eq!(story.price(), None);
    let BusEvent::ConcentratedLoaded(loaded) = v3(1, 4 * ETHER).1 else { unreachable!("it is one") };
    let (number, hash) = (story.height, hash(story.height));
    story.tell(BusEvent::ConcentratedLoaded(ConcentratedLoaded { number, hash, ..loaded }));
    assert_eq!(story.price().map(|(price, _)| price), Some(Price::ONE));
}
