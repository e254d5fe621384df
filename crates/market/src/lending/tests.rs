use alloy_primitives::{I256, U256};
use headwater_events::{
    LendingAccount, LendingContracts, LendingHolding, LendingPrice, LendingProtocol, LendingReserve,
    ScaledChange, Sequencer,
};
use proptest::prelude::*;

use super::*;

const POOL: Address = Address::repeat_byte(0x90);
const CONFIGURATOR: Address = Address::repeat_byte(0x91);
const ORACLE: Address = Address::repeat_byte(0x93);
const SEQUENCER: Address = Address::repeat_byte(0x94);
const ASSETS: [Address; 2] = [Address::repeat_byte(0xa0), Address::repeat_byte(0xa1)];
const FEEDS: [Address; 2] = [Address::repeat_byte(0xf0), Address::repeat_byte(0xf1)];
const PROXY: Address = Address::repeat_byte(0xe0);
const BORROWER: Address = Address::repeat_byte(0xbb);
const RAY: U256 = U256::from_limbs([0x9fd0803ce8000000, 0x33b2e3c, 0, 0]);
const BEGAN: u64 = 1_700_000_000;

fn supply_token(asset: u8) -> Address {
    Address::repeat_byte(0xc0 + asset)
}

fn debt_token(asset: u8) -> Address {
    Address::repeat_byte(0xd0 + asset)
}

fn hash(number: u64, branch: u8) -> BlockHash {
    let mut hash = BlockHash::with_last_byte(branch);
    hash[..8].copy_from_slice(&number.to_be_bytes());
    hash
}

fn at(number: u64, branch: u8) -> BlockRef {
    BlockRef { number, hash: hash(number, branch), parent_hash: hash(number - 1, 0) }
}

fn time(number: u64) -> u64 {
    BEGAN + 12 * number
}

/// Two reserves on the terms of 3.6: 80 % and 5 % bonus, eight decimals.
fn reserve(id: u8) -> LendingReserve {
    let configuration = U256::from(7_500u64)
        | U256::from(8_000u64) << 16
        | U256::from(10_500u64) << 32
        | U256::from(8u64) << 48
        | U256::ONE << 56;
    LendingReserve {
        id: id.into(),
        asset: ASSETS[usize::from(id)],
        a_token: supply_token(id),
        variable_debt: debt_token(id),
        stable_debt: None,
        configuration,
        liquidity_index: RAY,
        variable_borrow_index: RAY,
        liquidity_rate: U256::ZERO,
        variable_borrow_rate: U256::ZERO,
        last_update: BEGAN,
        scaled_variable_debt: U256::from(70u64),
        grace_period_until: 0,
    }
}

/// A borrower with 100 of the first asset against 70 of the second, all prices one.
fn loaded(number: u64) -> LendingLoaded {
    let nothing = LendingHolding {
        reserve: 0,
        scaled_supply: U256::ZERO,
        scaled_debt: U256::ZERO,
        stable_principal: U256::ZERO,
        stable_rate: U256::ZERO,
        stable_last_update: 0,
        collateral: false,
    };
    let supply = LendingHolding { scaled_supply: U256::from(100u64), collateral: true, ..nothing };
    let debt = LendingHolding { reserve: 1, scaled_debt: U256::from(70u64), ..nothing };
    let price = |place: usize| LendingPrice {
        source: ASSETS[place],
        price: U256::from(100_000_000u64),
        proxy: PROXY,
        feed: Some(FEEDS[place]),
    };
    LendingLoaded {
        pool: POOL,
        number,
        hash: hash(number, 0),
        protocol: LendingProtocol::AaveV3,
        revision: 10,
        paused: false,
        contracts: LendingContracts {
            provider: Address::repeat_byte(0x92),
            configurator: CONFIGURATOR,
            oracle: ORACLE,
        },
        sequencer: None,
        reserves: vec![reserve(0), reserve(1)],
        stable_supplies: Vec::new(),
        categories: Vec::new(),
        prices: vec![price(0), price(1)],
        accounts: vec![LendingAccount { account: BORROWER, e_mode: 0, holdings: vec![supply, debt] }],
    }
}

fn book() -> LendingBook {
    let mut book = LendingBook::new(&[POOL]);
    book.stand_on(hash(0, 0));
    assert_eq!(book.load(&loaded(0)), Ok(true));
    book
}

fn answered(answer: i64) -> LendingLog {
    LendingLog::Answered { answer: I256::try_from(answer).expect("small"), updated_at: U256::ZERO }
}

fn supplied(account: Address, value: u64) -> LendingLog {
    let (value, index) = (U256::from(value), RAY);
    LendingLog::Minted(ScaledChange { account, value, balance_increase: U256::ZERO, index })
}

fn market(book: &LendingBook) -> Arc<Market> {
    Arc::clone(&book.table().iter().next().expect("it is followed").market)
}

fn health(book: &LendingBook, number: u64) -> f64 {
    let data = market(book).account_data(BORROWER, time(number)).expect("everything is known");
    f64::from(data.health_factor) / 1e18
}

fn text(book: &LendingBook) -> String {
    let mut text = String::new();
    book.account(&mut text);
    text
}

#[test]
fn a_pool_is_followed_from_its_load_on() {
    let mut book = LendingBook::new(&[POOL]);
    assert_eq!(book.lost_pools().collect::<Vec<_>>(), [POOL]);
    assert!(book.table().is_empty() && !book.follows(&FEEDS[0]));
    book.stand_on(hash(0, 0));
    assert_eq!(book.load(&loaded(0)), Ok(true));
    assert!(book.lost_pools().next().is_none() && book.follows(&FEEDS[0]));
    assert!((health(&book, 0) - 80.0 / 70.0).abs() < 1e-6);
}

#[test]
fn an_answer_that_is_pending_is_a_price_behind_it_and_nowhere_else() {
    let book = book();
    let (table, answer) = (book.table(), I256::try_from(50_000_000).expect("small"));
    let behind = table.behind(&FEEDS[0], answer, time(1)).expect("it is a price");
    let health = |table: &LendingTable| {
        let market = &table.iter().next().expect("it is followed").market;
        f64::from(market.account_data(BORROWER, time(1)).expect("everything is known").health_factor) / 1e18
    };
    assert!((health(&behind) - 40.0 / 70.0).abs() < 1e-6);
    assert!(
        (health(&table) - 80.0 / 70.0).abs() < 1e-6 && (health(&book.table()) - 80.0 / 70.0).abs() < 1e-6
    );
    assert!(table.behind(&PROXY, answer, time(1)).is_none(), "it is nobody's answer");
    assert!(table.behind(&FEEDS[0], I256::ZERO, time(1)).is_none(), "it is no price");
    let mut aggregators: Vec<_> = table.iter().next().expect("it is followed").feeds.aggregators().collect();
    aggregators.sort_unstable();
    assert_eq!(aggregators, FEEDS);
}

#[test]
fn a_sentinel_allows_what_it_allows_at_the_time_that_is_asked_about() {
    let sequencer = Sequencer { feed: Some(SEQUENCER), is_down: false, since: time(1), grace_period: 20 };
    let mut book = LendingBook::new(&[POOL]);
    book.stand_on(hash(0, 0));
    assert_eq!(book.load(&LendingLoaded { sequencer: Some(sequencer), ..loaded(0) }), Ok(true));
    book.apply_block(at(1, 0), time(1), Vec::new());
    let allowed = |number| {
        let table = book.table().at(time(number));
        table.iter().next().expect("it is followed").market.is_liquidation_allowed()
    };
    assert_eq!([1, 2, 3].map(allowed), [false, false, true]);
}

#[test]
fn an_answer_of_a_feed_is_a_price() {
    let mut book = book();
    book.apply_block(at(1, 0), time(1), vec![(FEEDS[0], answered(50_000_000))]);
    assert!((health(&book, 1) - 40.0 / 70.0).abs() < 1e-6);
}

#[test]
fn what_a_contract_says_that_is_not_its_business_changes_nothing() {
    let mut book = book();
    let before = market(&book);
    let said = vec![
        (FEEDS[0], supplied(BORROWER, 5)),
        (supply_token(0), answered(1)),
        (POOL, LendingLog::Paused(ASSETS[0], true)),
        (CONFIGURATOR, LendingLog::EModeSet { account: BORROWER, category: 1 }),
        (BORROWER, supplied(BORROWER, 5)),
    ];
    book.apply_block(at(1, 0), time(1), said);
    assert!(Arc::ptr_eq(&market(&book), &before), "an untouched market is the same one");
}

/// The same pool as V2 has it: the price of the first asset is the oracle's own.
fn loaded_second(number: u64) -> LendingLoaded {
    let mut loaded = LendingLoaded { protocol: LendingProtocol::AaveV2, revision: 2, ..loaded(number) };
    (loaded.prices[0].proxy, loaded.prices[0].feed) = (ORACLE, Some(ORACLE));
    loaded
}

#[test]
fn a_pool_of_the_second_version_is_paused_as_a_whole_and_told_so_again_behind_an_undo() {
    let mut book = LendingBook::new(&[POOL]);
    book.stand_on(hash(0, 0));
    assert_eq!(book.load(&loaded_second(0)), Ok(true));
    let before = market(&book);
    assert_eq!(before.revision(), headwater_lending::Revision::V2);
    assert!((health(&book, 0) - 80.0 / 70.0).abs() < 1e-6, "a price that nobody reports is known");
    let moved = LendingLog::Transferred { from: BORROWER, to: POOL, value: U256::from(30u64) };
    book.apply_block(at(1, 0), time(1), vec![(POOL, LendingLog::PoolPaused(true)), (supply_token(0), moved)]);
    assert!((health(&book, 1) - 56.0 / 70.0).abs() < 1e-6);
    assert_ne!(*market(&book), *before);
    book.roll_back(hash(0, 0));
    assert_eq!(*market(&book), *before);
    book.apply_block(at(1, 1), time(1), vec![(ORACLE, LendingLog::Reshaped)]);
    assert_eq!(book.lost_pools().collect::<Vec<_>>(), [POOL]);
}

#[test]
fn a_revision_of_one_version_is_none_of_the_other() {
    let mut book = LendingBook::new(&[POOL]);
    book.stand_on(hash(0, 0));
    assert!(book.load(&LendingLoaded { revision: 10, ..loaded_second(0) }).is_err());
    assert!(book.load(&LendingLoaded { revision: 2, ..loaded(0) }).is_err());
}

#[test]
fn a_pool_is_lost_where_only_the_node_can_tell_what_follows() {
    let foreign = Address::repeat_byte(0x77);
    let reshaping = [
        (ORACLE, LendingLog::Reshaped),
        (PROXY, LendingLog::Reshaped),
        (supply_token(1), LendingLog::Reshaped),
        (FEEDS[1], answered(0)),
        (FEEDS[1], answered(-1)),
        (POOL, LendingLog::CollateralUse { asset: foreign, account: BORROWER, enabled: true }),
        (
            CONFIGURATOR,
            LendingLog::EModeCategory {
                category: 1,
                ltv: 1,
                liquidation_threshold: 1,
                liquidation_bonus: 1,
                price_source: foreign,
            },
        ),
        // A burn of more than is there.
        (
            supply_token(0),
            LendingLog::Burned(ScaledChange {
                account: BORROWER,
                value: U256::from(101u64),
                balance_increase: U256::ZERO,
                index: RAY,
            }),
        ),
    ];
    for said in reshaping {
        let mut book = book();
        book.apply_block(at(1, 0), time(1), vec![said.clone()]);
        assert!(book.table().is_empty(), "{said:?}");
        assert_eq!((book.lost_pools().count(), book.counts().losses), (1, 1), "{said:?}");
        assert_eq!(book.load(&loaded(1)), Ok(true), "{said:?}");
        assert_eq!(book.counts().loads, 2);
    }
}

#[test]
fn a_load_applies_under_the_blocks_that_came_meanwhile() {
    let mut book = book();
    book.apply_block(at(1, 0), time(1), vec![(ORACLE, LendingLog::Reshaped)]);
    book.apply_block(at(2, 0), time(2), vec![(FEEDS[0], answered(50_000_000))]);
    book.apply_block(at(3, 0), time(3), vec![]);
    assert_eq!(book.load(&loaded(1)), Ok(true));
    assert!((health(&book, 3) - 40.0 / 70.0).abs() < 1e-6);
    // And what came meanwhile can be undone, down to the load.
    assert_eq!(book.roll_back(hash(1, 0)), RolledBack::Undone(2));
    assert!((health(&book, 1) - 80.0 / 70.0).abs() < 1e-6);
}

#[test]
fn a_load_of_other_contracts_waits_for_the_next_one() {
    let mut book = book();
    book.apply_block(at(1, 0), time(1), vec![(ORACLE, LendingLog::Reshaped)]);
    book.apply_block(at(2, 0), time(2), vec![]);
    let other_feed = Address::repeat_byte(0xf7);
    let moved = |number| {
        let mut loaded = loaded(number);
        loaded.prices[0].feed = Some(other_feed);
        loaded
    };
    assert_eq!(book.load(&moved(1)), Ok(false), "block 2 was not asked for what the new feed says");
    assert!(book.follows(&other_feed) && book.table().is_empty());
    book.apply_block(at(3, 0), time(3), vec![(other_feed, answered(50_000_000))]);
    assert_eq!(book.load(&moved(2)), Ok(true));
    assert!((health(&book, 3) - 40.0 / 70.0).abs() < 1e-6);
}

#[test]
fn a_load_of_an_unknown_block_or_pool_is_refused() {
    let mut book = book();
    book.apply_block(at(1, 0), time(1), vec![]);
    assert_eq!(book.load(&loaded(7)), Ok(false));
    assert_eq!(book.load(&LendingLoaded { pool: BORROWER, ..loaded(1) }), Ok(false));
    assert_eq!(
        book.load(&LendingLoaded { revision: 9, ..loaded(1) }),
        Err(LendingError::UnprovenRevision(9))
    );
    assert_eq!(book.counts().loads_refused, 3);
    assert!(!book.table().is_empty(), "what was followed still is");
}

#[test]
fn undoing_the_block_of_a_load_loses_the_pool() {
    let mut book = book();
    book.apply_block(at(1, 0), time(1), vec![]);
    book.apply_block(at(2, 0), time(2), vec![]);
    assert_eq!(book.load(&loaded(2)), Ok(true));
    assert_eq!(book.roll_back(hash(1, 0)), RolledBack::Undone(1));
    assert!(book.table().is_empty());
}

#[test]
fn a_load_that_no_block_stands_on_is_not_followed() {
    let mut book = LendingBook::new(&[POOL]);
    book.lose(None);
    assert_eq!(book.load(&loaded(5)), Ok(true));
    book.apply_block(at(7, 0), time(7), Vec::new());
    assert_eq!(book.lost_pools().collect::<Vec<_>>(), [POOL], "nobody knows what block 6 said");
    assert_eq!(book.load(&loaded(7)), Ok(true));
    book.apply_block(at(8, 0), time(8), Vec::new());
    assert_eq!(book.lost_pools().count(), 0);
}

#[test]
fn a_reorganisation_beyond_the_horizon_loses_every_pool() {
    let mut book = book();
    for number in 1..=HORIZON as u64 + 1 {
        book.apply_block(at(number, 0), time(number), vec![]);
    }
    assert_eq!(book.roll_back(hash(0, 0)), RolledBack::Lost);
    assert!(book.table().is_empty());
    assert_eq!(book.load(&loaded(0)), Ok(true), "the book stands on the ancestor");
}

#[test]
fn a_price_that_no_log_tells_of_is_not_used() {
    let mut unfollowed = loaded(0);
    unfollowed.prices[0].feed = None;
    let mut book = LendingBook::new(&[POOL]);
    assert_eq!(book.load(&unfollowed), Ok(true));
    let said = market(&book).account_data(BORROWER, time(0));
    assert_eq!(said, Err(LendingError::MissingPrice(ASSETS[0])));
    let check = LendingCheck::of(&unfollowed).expect("proven");
    assert!(check.account_data(BORROWER, time(0)).is_ok(), "but the load is held to it");
}

#[test]
fn the_sentinel_follows_its_sequencer_and_the_clock() {
    let sequencer = |is_down, since| Sequencer { feed: Some(SEQUENCER), is_down, since, grace_period: 60 };
    let check = |sequencer: Option<Sequencer>, said: Vec<(Address, LendingLog)>, number, allowed| {
        let mut book = LendingBook::new(&[POOL]);
        assert_eq!(book.load(&LendingLoaded { sequencer, ..loaded(0) }), Ok(true));
        book.apply_block(at(1, 0), time(number), said);
        assert_eq!(market(&book).is_liquidation_allowed(), allowed);
        let before = book.roll_back(hash(0, 0));
        assert_eq!(before, RolledBack::Undone(1));
        assert!(market(&book).is_liquidation_allowed(), "as it was loaded");
    };
    let up_at = |number| {
        let updated_at = U256::from(time(number));
        vec![(SEQUENCER, LendingLog::Answered { answer: I256::ZERO, updated_at })]
    };
    check(None, vec![], 1, true);
    check(Some(sequencer(false, 0)), vec![], 1, true);
    check(Some(sequencer(true, 0)), vec![], 1, false);
    check(Some(sequencer(true, 0)), up_at(1), 6, false);
    check(Some(sequencer(true, 0)), up_at(1), 7, true);
    check(Some(sequencer(false, 0)), vec![(SEQUENCER, answered(1))], 7, false);
    check(Some(Sequencer { feed: None, ..sequencer(false, 0) }), vec![], 7, false);
}

#[test]
fn a_book_is_read_back_as_it_was_saved() {
    let mut book = book();
    book.apply_block(at(1, 0), time(1), vec![(FEEDS[0], answered(7)), (supply_token(0), supplied(POOL, 3))]);
    let saved = serde_json::to_vec(&book).expect("it can be written");
    let mut read: LendingBook = serde_json::from_slice(&saved).expect("it can be read");
    assert_eq!(text(&read), text(&book));
    for book in [&mut read, &mut book] {
        book.roll_back(hash(0, 0));
        book.apply_block(at(1, 1), time(1), vec![(supply_token(1), supplied(BORROWER, 9))]);
    }
    assert_eq!(text(&read), text(&book));
}

/// What may be said in a block, by a number.
fn said(number: u8) -> Vec<(Address, LendingLog)> {
    let account = Address::repeat_byte(number % 5);
    match number % 6 {
        0 => vec![],
        1 => vec![(FEEDS[usize::from(number / 6 % 2)], answered(i64::from(number) + 1))],
        2 => vec![(supply_token(number / 6 % 2), supplied(account, u64::from(number) + 1))],
        3 => vec![(debt_token(1), supplied(account, u64::from(number) + 1))],
        4 => vec![(CONFIGURATOR, LendingLog::Paused(ASSETS[0], number.is_multiple_of(4)))],
        _ => vec![(POOL, LendingLog::EModeSet { account, category: number % 3 })],
    }
}

proptest! {
    /// Blocks that are undone leave no trace, however many they are.
    #[test]
    fn undone_blocks_leave_no_trace(
        kept in proptest::collection::vec(any::<u8>(), 0..40),
        undone in proptest::collection::vec(any::<u8>(), 1..=64),
        then in proptest::collection::vec(any::<u8>(), 1..20),
    ) {
        let mut book = book();
        let mut number = 0;
        for say in &kept {
            number += 1;
            book.apply_block(at(number, 0), time(number), said(*say));
        }
        let mut plain = book.clone();
        let (fork, mut parent) = (number, hash(number, 0));
        for (above, say) in (number + 1..).zip(&undone) {
            let block = BlockRef { number: above, hash: hash(above, 1), parent_hash: parent };
            book.apply_block(block, time(above), said(*say));
            parent = block.hash;
        }
        prop_assert_eq!(book.roll_back(hash(fork, 0)), RolledBack::Undone(undone.len()));
        for say in &then {
            number += 1;
            book.apply_block(at(number, 0), time(number), said(*say));
            plain.apply_block(at(number, 0), time(number), said(*say));
        }
        prop_assert_eq!(market(&book), market(&plain));
    }

    /// A pool that is loaded late is what one is that was followed all the time.
    #[test]
    fn a_late_load_is_as_good_as_an_early_one(
        blocks in proptest::collection::vec(any::<u8>(), 1..50), at_block in any::<prop::sample::Index>(),
    ) {
        let mut early = book();
        let mut late = book();
        late.pools[0].is_lost = true;
        let at_block = at_block.index(blocks.len()) as u64;
        for (number, say) in (1..).zip(&blocks) {
            early.apply_block(at(number, 0), time(number), said(*say));
            late.apply_block(at(number, 0), time(number), said(*say));
        }
        prop_assert!(late.table().is_empty());
        prop_assert_eq!(late.load(&loaded(0)), Ok(true));
        prop_assert_eq!(market(&early), market(&late));
        prop_assert_eq!(late.roll_back(hash(at_block, 0)), RolledBack::Undone(blocks.len() - at_block as usize));
        early.roll_back(hash(at_block, 0));
        prop_assert_eq!(market(&early), market(&late));
    }
}
