//! Pools of V4; those of V3 are the proof `tracking`'s, and the loader's tests'.

use headwater_amm::{DYNAMIC_FEE, sqrt_price_at_tick};

use super::*;
use crate::{FactoryConfig, MarketConfig, Preset};

const MANAGER: Address = Address::repeat_byte(0x44);

fn book() -> (ResolvedMarket, ConcentratedBook) {
    let factory = FactoryConfig {
        protocol: headwater_events::Protocol::UniswapV4,
        name: None,
        address: MANAGER.to_string(),
        init_code_hash: None,
        deployer: None,
        fee_ppm: 3_000,
    };
    let config = MarketConfig {
        preset: Some(Preset::None),
        wrapped_native: Some(Address::repeat_byte(0xee).to_string()),
        factories: vec![factory],
        ..MarketConfig::default()
    };
    let market = ResolvedMarket::resolve(&config, 1).expect("the table is right");
    let book = ConcentratedBook::new(&market);
    (market, book)
}

fn key() -> PoolKey {
    let (currency0, currency1) = (Address::ZERO, Address::repeat_byte(2));
    PoolKey { currency0, currency1, fee: 3_000, tick_spacing: 60, hooks: Address::ZERO }
}

fn price(tick: i32) -> PoolPrice {
    PoolPrice { sqrt_price: sqrt_price_at_tick(tick).expect("a tick"), tick }
}

fn initialized(manager: Address, key: PoolKey) -> ConcentratedUpdate {
    ConcentratedUpdate::V4Initialized { manager, id: key.id(), key, price: price(0) }
}

fn said(event: PoolEvent, charged: Option<u32>) -> ConcentratedUpdate {
    ConcentratedUpdate::V4 { manager: MANAGER, id: key().id(), event, charged }
}

fn swapped(tick: i32, charged: u32) -> ConcentratedUpdate {
    said(PoolEvent::Swapped { price: price(tick), liquidity: 0 }, Some(charged))
}

fn apply(book: &mut ConcentratedBook, number: u8, update: ConcentratedUpdate) -> ConcentratedApplied {
    let hash = B256::repeat_byte(number);
    let parent_hash = B256::repeat_byte(number - 1);
    book.apply_block(BlockRef { number: number.into(), hash, parent_hash }, [update])
}

fn pool(book: &ConcentratedBook) -> Option<&Arc<ConcentratedPool>> {
    let key = ConcentratedKey::V4 { manager: MANAGER, id: key().id() };
    book.table().pool(book.proven_key(&key)?)
}

#[test]
fn a_swap_that_charges_another_fee_says_that_a_log_is_missing() {
    // 0.1 % of token 0 in and 0.05 % of token 1 in, with the pool's 0.3 %: `calculateSwapFee`.
    let fees = said(PoolEvent::ProtocolFeeChanged(1_000 | 500 << 12), None);
    for (tick, charged, is_followed) in
        [(-5, 3_997, true), (5, 3_499, true), (-5, 3_499, false), (5, 3_997, false), (5, 3_000, false)]
    {
        let (_, mut book) = book();
        apply(&mut book, 1, initialized(MANAGER, key()));
        apply(&mut book, 2, fees);
        apply(&mut book, 3, swapped(tick, charged));
        assert_eq!(pool(&book).is_some(), is_followed, "{tick} {charged}");
        assert_eq!(book.counts().contradictions, u64::from(!is_followed));
        let before = book.roll_back(B256::repeat_byte(2));
        assert_eq!(before, RolledBack::Undone(1));
        assert_eq!(pool(&book).and_then(|pool| pool.price()), Some(price(0)));
    }
}

#[test]
fn a_protocol_fee_is_undone_and_saved_with_its_block() {
    let (market, mut book) = book();
    apply(&mut book, 1, initialized(MANAGER, key()));
    apply(&mut book, 2, said(PoolEvent::ProtocolFeeChanged(7 | 9 << 12), None));
    let written = serde_json::to_string(&book.image()).expect("it is written");
    let image = serde_json::from_str(&written).expect("it is read");
    for mut book in [ConcentratedBook::of_image(&market, image).expect("of this market"), book] {
        assert_eq!(pool(&book).map(|pool| pool.fee().protocol), Some([7, 9]));
        book.roll_back(B256::repeat_byte(1));
        assert_eq!(pool(&book).map(|pool| pool.fee().protocol), Some([0, 0]));
        book.roll_back(B256::ZERO);
        assert!(pool(&book).is_none(), "nobody created it");
    }
}

#[test]
fn what_the_undone_blocks_had_touched_is_told_as_changed() {
    let (_, mut book) = book();
    assert_eq!(book.take_changes(), Changes::All);
    apply(&mut book, 1, initialized(MANAGER, key()));
    let id = book.proven_key(&ConcentratedKey::V4 { manager: MANAGER, id: key().id() }).expect("it is new");
    let told = |book: &mut ConcentratedBook, ids: &[ConcentratedId]| {
        assert_eq!(book.take_changes(), Changes::Pools(ids.into()));
    };
    told(&mut book, &[id]);
    let other = PoolKey { fee: 500, tick_spacing: 10, ..key() };
    apply(&mut book, 2, initialized(MANAGER, other));
    apply(&mut book, 3, swapped(5, 3_000));
    assert_eq!(book.take_changes(), Changes::Pools([id, ConcentratedId(1)].into()));
    assert_eq!(book.roll_back(B256::repeat_byte(2)), RolledBack::Undone(1));
    told(&mut book, &[id]);
    assert_eq!(book.roll_back(B256::repeat_byte(1)), RolledBack::Undone(1));
    told(&mut book, &[ConcentratedId(1)]);
    assert_eq!(book.roll_back(B256::repeat_byte(9)), RolledBack::Lost);
    assert_eq!(book.take_changes(), Changes::All);
}

#[test]
fn a_quarantine_is_of_one_pool_of_its_manager() {
    let (_, mut book) = book();
    let other = PoolKey { fee: 500, tick_spacing: 10, ..key() };
    apply(&mut book, 1, initialized(MANAGER, key()));
    apply(&mut book, 2, initialized(MANAGER, other));
    let [own, other] = [key(), other].map(|key| ConcentratedKey::V4 { manager: MANAGER, id: key.id() });
    book.quarantine(&MANAGER);
    assert_eq!(book.counts().quarantined, 0, "a manager is no pool");
    book.quarantine_key(&own);
    let known = |key| book.table().pool(book.proven_key(&key).expect("it is proven")).is_some();
    assert_eq!((known(own), known(other), book.counts().quarantined), (false, true, 1));
}

#[test]
fn pools_with_a_hook_or_a_dynamic_fee_are_refused_by_name_for_good() {
    let (market, mut book) = book();
    let hooks = Address::repeat_byte(0x80);
    let hooked = PoolKey { hooks, ..key() };
    let dynamic = PoolKey { fee: DYNAMIC_FEE, ..hooked };
    apply(&mut book, 1, initialized(MANAGER, hooked));
    apply(&mut book, 2, initialized(MANAGER, dynamic));
    let counts = book.counts();
    assert_eq!((counts.hooked_pools, counts.dynamic_fee_pools, book.table().len()), (1, 1, 0));
    book.roll_back(B256::ZERO);
    let mut book = ConcentratedBook::of_image(&market, book.image()).expect("of this market");
    for (number, key) in [(1, hooked), (2, dynamic)] {
        let event = PoolEvent::ProtocolFeeChanged(1);
        let update = ConcentratedUpdate::V4 { manager: MANAGER, id: key.id(), event, charged: None };
        assert_eq!(apply(&mut book, number, update), ConcentratedApplied::default(), "nobody is asked");
    }
}

#[test]
fn only_a_configured_manager_makes_pools_and_only_under_their_own_id() {
    let (_, mut book) = book();
    apply(&mut book, 1, initialized(Address::repeat_byte(0x45), key()));
    assert_eq!((book.counts().foreign_factories, book.table().len()), (1, 0));
    let lie = ConcentratedUpdate::V4Initialized {
        manager: MANAGER,
        id: B256::repeat_byte(1),
        key: key(),
        price: price(0),
    };
    apply(&mut book, 2, lie);
    assert_eq!((book.counts().conflicting_proofs, book.table().len()), (1, 0));
}

#[test]
fn a_pool_that_was_read_is_taken_up_under_the_blocks_since_and_only_under_its_own_id() {
    let (_, mut book) = book();
    apply(&mut book, 1, said(PoolEvent::ProtocolFeeChanged(1), None));
    let applied = apply(&mut book, 2, swapped(5, 3_000));
    assert_eq!(applied.unknown, [ConcentratedKey::V4 { manager: MANAGER, id: key().id() }]);
    let PoolPrice { sqrt_price, tick } = price(0);
    let loaded = V4Loaded {
        manager: MANAGER,
        id: key().id(),
        currency0: key().currency0,
        currency1: key().currency1,
        fee: key().fee,
        tick_spacing: key().tick_spacing,
        number: 1,
        hash: B256::repeat_byte(1),
        protocol_fee: 1,
        state: ConcentratedState { sqrt_price, tick, liquidity: 0, ticks: Vec::new() },
    };
    book.v4_loaded(&V4Loaded { fee: 500, ..loaded.clone() });
    assert_eq!((book.counts().unproven_loads, pool(&book).is_none()), (1, true));
    book.v4_loaded(&loaded);
    assert_eq!(pool(&book).and_then(|pool| pool.price()), Some(price(5)));
    assert_eq!(pool(&book).map(|pool| pool.fee().protocol), Some([1, 0]));
    book.roll_back(B256::repeat_byte(1));
    assert_eq!(pool(&book).and_then(|pool| pool.price()), Some(price(0)));
}

#[test]
fn a_flood_of_pools_is_refused_and_nobody_is_asked_about_more() {
    let (mut market, _) = book();
    market.load.max_tracked_pools = 2;
    let mut book = ConcentratedBook::new(&market);
    let keys = [100, 500, 3_000, 10_000].map(|fee| PoolKey { fee, ..key() });
    for (number, key) in (1..).zip(keys) {
        apply(&mut book, number, initialized(MANAGER, key));
    }
    assert_eq!((book.table().len(), book.counts().pools_refused), (2, 2));
    assert_eq!(book.counts().conflicting_proofs, 0);
    let applied = apply(&mut book, 5, swapped(5, 3_000));
    assert_eq!((applied.unknown, book.heard()), (vec![], 1));
    book.roll_back(B256::repeat_byte(0));
    apply(&mut book, 1, initialized(MANAGER, keys[0]));
    assert_eq!(book.counts().pools_refused, 2, "it has its place");
}
