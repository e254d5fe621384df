use std::collections::BTreeMap;

use alloy_primitives::{Address, B256};
use headwater_events::{PoolProof, TokenJudged};
use proptest::prelude::*;

use super::*;
use crate::config::{MarketConfig, ResolvedMarket};

const GENESIS: B256 = B256::ZERO;

fn market() -> ResolvedMarket {
    let config = MarketConfig { max_candidates: Some(3), ..MarketConfig::default() };
    let mut market = ResolvedMarket::resolve(&config, 1).expect("the preset supplies everything");
    // The pools of these tests have addresses that are easily read.
    market.factories.iter_mut().for_each(|factory| factory.init_code_hash = None);
    market
}

fn book() -> PoolBook {
    let mut book = PoolBook::new(&market());
    book.market_loaded(&MarketLoaded { number: 0, hash: GENESIS, chain_id: 1, pools: 0 });
    book
}

/// A book that knows good verdicts about the tokens of all pools.
fn judged_book() -> PoolBook {
    let mut book = book();
    (0xa0..=0xaa).for_each(|token| book.token_judged(&judged(token, false)));
    book
}

fn address(seed: u8) -> Address {
    Address::repeat_byte(seed)
}

fn hash(number: u64, branch: u8) -> B256 {
    let mut hash = B256::with_last_byte(branch);
    hash[..8].copy_from_slice(&number.to_be_bytes());
    hash
}

fn reserves(amount: u128) -> Reserves {
    Reserves { reserve0: amount, reserve1: 2 * amount }
}

fn sync(seed: u8, amount: u128) -> PoolUpdate {
    PoolUpdate::Sync { emitter: address(seed), reserves: reserves(amount) }
}

fn created(emitter: Address, seed: u8) -> PoolUpdate {
    PoolUpdate::PairCreated {
        emitter,
        token0: address(0xa0),
        token1: address(0xa0 + seed),
        pair: address(seed),
    }
}

fn factory() -> Address {
    market().factories[0].address
}

fn loaded(seed: u8, as_of: Option<(u128, B256)>) -> PoolLoaded {
    PoolLoaded {
        pool: address(seed),
        factory: factory(),
        protocol: Protocol::UniswapV2,
        token0: address(0xa0),
        token1: address(0xa0 + seed),
        fee_ppm: 3_000,
        reserves: as_of.map(|(amount, _)| (amount, 2 * amount)),
        block_number: 0,
        block_hash: as_of.map_or(GENESIS, |(_, hash)| hash),
        proof: PoolProof::FactoryAnswer,
    }
}

fn judged(seed: u8, refused: bool) -> TokenJudged {
    let accepted = TokenVerdict::Accepted { decimals: 18, symbol: String::new() };
    let verdict = if refused { TokenVerdict::Refused("it lies".into()) } else { accepted };
    TokenJudged { token: address(seed), verdict }
}

/// Applies block `number` of the only branch.
fn apply(book: &mut PoolBook, number: u64, updates: &[PoolUpdate]) -> Applied {
    let parent_hash = if number == 1 { GENESIS } else { hash(number - 1, 0) };
    let block = BlockRef { number, hash: hash(number, 0), parent_hash };
    book.apply_block(block, updates.iter().copied()).expect("it stands on the head")
}

/// Undoes blocks that can be undone.
fn roll_back(book: &mut PoolBook, ancestor: B256) {
    assert_ne!(book.roll_back(ancestor), RolledBack::Lost, "within the horizon");
}

fn quoted(book: &PoolBook, seed: u8) -> Option<u128> {
    let id = book.proven(&address(seed))?;
    book.table().quoted(id).map(|held| held.reserve0)
}

fn account(book: &PoolBook) -> String {
    let mut text = String::new();
    book.account(&mut text);
    text
}

/// What the oldest block that can be undone changed.
fn changed(book: &mut PoolBook) -> &mut Vec<Touch> {
    std::sync::Arc::make_mut(&mut book.records[0].touches)
}

#[test]
fn a_flood_of_pools_is_refused_and_counted() {
    let mut market = market();
    market.load.max_tracked_pools = 2;
    let mut book = PoolBook::new(&market);
    book.market_loaded(&MarketLoaded { number: 0, hash: GENESIS, chain_id: 1, pools: 0 });
    let flood: Vec<_> = (1..=9).map(|seed| created(factory(), seed)).collect();
    apply(&mut book, 1, &flood);
    book.pool_loaded(&loaded(10, None));
    assert_eq!((book.table().len(), book.counts().pools_refused), (2, 8));
    (0xa0..0xa2).for_each(|token| book.token_judged(&judged(token, false)));
    apply(&mut book, 2, &[sync(1, 5), sync(10, 5)]);
    assert_eq!((quoted(&book, 1), quoted(&book, 10)), (Some(5), None));
    let applied = apply(&mut book, 3, &[sync(11, 5)]);
    assert!(applied.unproven.is_empty(), "nothing comes of asking");
}

#[test]
fn a_pair_at_an_address_that_does_not_derive_from_its_factory_is_refused() {
    let market =
        ResolvedMarket::resolve(&MarketConfig::default(), 1).expect("the preset supplies everything");
    let factory = &market.factories[0];
    let (token0, token1) = (address(0xa0), address(0xa1));
    let derived = factory.derive(token0, token1).expect("it has a hash");
    let mut book = PoolBook::new(&market);
    let announced = |pair| PoolUpdate::PairCreated { emitter: factory.address, token0, token1, pair };
    let applied = apply(&mut book, 1, &[announced(address(1)), announced(derived), sync(1, 5)]);
    assert_eq!((book.proven(&address(1)), book.counts().underived_pairs), (None, 1));
    assert_eq!(applied.created.as_slice(), [book.proven(&derived).expect("it derives")]);
    assert_eq!(applied.unproven, [address(1)], "it is asked about as any other contract");
}

#[test]
fn no_field_can_change_without_changing_the_account() {
    let mut book = book();
    book.pool_loaded(&loaded(1, Some((100, GENESIS))));
    apply(&mut book, 1, &[sync(1, 7), sync(9, 3), created(factory(), 2)]);
    let id = book.proven(&address(1)).expect("it was loaded");
    let whole = account(&book);
    let differs = |what: &str, change: &dyn Fn(&mut PoolBook)| {
        let mut other = book.clone();
        change(&mut other);
        assert_ne!(account(&other), whole, "{what}");
    };
    let meta = |change: &dyn Fn(&mut PoolMeta)| {
        let mut meta = book.table.meta(id).expect("it is there").clone();
        change(&mut meta);
        let (reserves, mut table) = (book.table.reserves(id), PoolTable::default());
        table.insert(meta, true);
        for (other, meta, held) in book.table.iter().skip(1) {
            table.insert(meta.clone(), true);
            table.set_reserves(other, held);
        }
        table.set_reserves(id, reserves);
        table
    };
    differs("address", &|book| book.table = meta(&|meta| meta.address = address(8)));
    differs("factory", &|book| book.table = meta(&|meta| meta.factory = address(8)));
    differs("token0", &|book| book.table = meta(&|meta| meta.token0 = address(8)));
    differs("token1", &|book| book.table = meta(&|meta| meta.token1 = address(8)));
    differs("fee", &|book| book.table = meta(&|meta| meta.fee_ppm += 1));
    differs("reserve0", &|book| {
        book.table.set_reserves(id, Some(Reserves { reserve0: 8, ..reserves(7) }));
    });
    differs("reserve1", &|book| {
        book.table.set_reserves(id, Some(Reserves { reserve1: 8, ..reserves(7) }));
    });
    differs("whether it is quoted", &|book| book.table.set_admitted(id, false));
    differs("base", &|book| book.base = Some(hash(9, 9)));
    differs("number of an undo record", &|book| book.records[0].block.number += 1);
    differs("hash of an undo record", &|book| book.records[0].block.hash = hash(9, 9));
    differs("parent of an undo record", &|book| book.records[0].block.parent_hash = hash(9, 9));
    assert_eq!(book.records[0].touches.len(), 3);
    for touch in 0..3 {
        differs("address of a change", &|book| changed(book)[touch].address = address(8));
        differs("creation", &|book| changed(book)[touch].created ^= true);
        differs("what was before", &|book| {
            let before = &mut changed(book)[touch].before;
            *before = match before {
                Some(_) => None,
                None => Some(Sighting { reserves: reserves(1), number: 1 }),
            };
        });
    }
    differs("reserve0 before", &|book| {
        let before = &mut changed(book)[0].before;
        before.as_mut().expect("it was loaded").reserves.reserve0 += 1;
    });
    differs("reserve1 before", &|book| {
        let before = &mut changed(book)[0].before;
        before.as_mut().expect("it was loaded").reserves.reserve1 += 1;
    });
    differs("age of what was before", &|book| {
        let before = &mut changed(book)[0].before;
        before.as_mut().expect("it was loaded").number += 1;
    });
    differs("order", &|book| changed(book).reverse());
}

#[test]
fn a_sync_of_an_unknown_contract_changes_nothing_until_it_is_proven() {
    let mut book = book();
    let applied = apply(&mut book, 1, &[sync(1, 5), sync(1, 7)]);
    assert_eq!(applied, Applied { unproven: vec![address(1)], ..Applied::default() });
    assert!(book.table().is_empty());
    book.pool_loaded(&loaded(1, None));
    assert_eq!((quoted(&book, 1), book.candidates()), (Some(7), 0));
}

#[test]
fn a_pair_counts_only_when_a_configured_factory_says_so() {
    let mut book = judged_book();
    apply(&mut book, 1, &[created(address(9), 1), sync(1, 5)]);
    assert_eq!((quoted(&book, 1), book.counts().foreign_factories), (None, 1));
    apply(&mut book, 2, &[created(factory(), 2), sync(2, 6)]);
    assert_eq!(quoted(&book, 2), Some(6));
}

#[test]
fn a_pool_of_an_undone_block_stays_without_reserves_and_without_proof() {
    let mut book = judged_book();
    apply(&mut book, 1, &[created(factory(), 1), sync(1, 5)]);
    assert_eq!(book.roll_back(GENESIS), RolledBack::Undone(1));
    assert_eq!((book.table().len(), book.proven(&address(1))), (1, None));
    assert_eq!(apply(&mut book, 1, &[sync(1, 8)]).unproven, [address(1)]);
    assert!(book.table().iter().all(|(_, _, held)| held.is_none()));
    assert_eq!(apply(&mut book, 2, &[created(factory(), 1), sync(1, 9)]).created, [PoolId(0)]);
    assert_eq!(quoted(&book, 1), Some(9));
}

#[test]
fn another_pool_at_the_address_of_an_undone_one_gets_an_id_of_its_own() {
    let mut book = book();
    apply(&mut book, 1, &[created(factory(), 1), sync(1, 5)]);
    roll_back(&mut book, GENESIS);
    let other = PoolLoaded { token1: address(0xff), ..loaded(1, Some((3, GENESIS))) };
    book.pool_loaded(&other);
    assert_eq!((book.proven(&address(1)), quoted(&book, 1)), (Some(PoolId(1)), Some(3)));
    assert_eq!(book.table().reserves(PoolId(0)), None);
    book.pool_loaded(&loaded(1, None));
    assert_eq!((book.proven(&address(1)), book.counts().conflicting_proofs), (Some(PoolId(1)), 1));
}

#[test]
fn loaded_reserves_hold_from_their_block_to_the_next_sync() {
    let mut book = book();
    book.pool_loaded(&loaded(1, Some((10, GENESIS))));
    apply(&mut book, 1, &[sync(2, 21)]);
    apply(&mut book, 2, &[sync(1, 12), sync(3, 32)]);
    book.pool_loaded(&loaded(2, Some((99, hash(2, 0)))));
    book.pool_loaded(&loaded(3, Some((31, hash(1, 0)))));
    book.pool_loaded(&loaded(4, Some((42, hash(2, 0)))));
    book.pool_loaded(&loaded(5, Some((52, hash(2, 7)))));
    let all = |book: &PoolBook| [1, 2, 3, 4, 5].map(|seed| quoted(book, seed));
    assert_eq!(all(&book), [Some(12), Some(21), Some(32), Some(42), None]);
    assert_eq!(book.counts().foreign_reserves, 1);
    roll_back(&mut book, hash(1, 0));
    assert_eq!(all(&book), [Some(10), Some(21), Some(31), None, None]);
    roll_back(&mut book, GENESIS);
    assert_eq!(all(&book), [Some(10), None, None, None, None]);
}

#[test]
fn loaded_reserves_are_taken_of_a_pool_that_was_created_and_has_said_nothing() {
    let mut book = judged_book();
    apply(&mut book, 1, &[created(factory(), 1)]);
    apply(&mut book, 2, &[]);
    book.pool_loaded(&loaded(1, Some((5, hash(2, 0)))));
    assert_eq!(quoted(&book, 1), Some(5));
    roll_back(&mut book, hash(1, 0));
    assert_eq!((quoted(&book, 1), book.proven(&address(1))), (None, Some(PoolId(0))));
}

#[test]
fn the_pools_of_a_refused_token_are_not_quoted() {
    let mut book = book();
    book.token_judged(&judged(0xa2, true));
    for seed in [1, 2, 3] {
        book.pool_loaded(&loaded(seed, Some((5, GENESIS))));
    }
    book.take_changes();
    book.token_judged(&judged(0xa1, true));
    assert_eq!(book.take_changes(), Changes::Pools([PoolId(0)].into()));
    assert_eq!([1, 2, 3].map(|seed| quoted(&book, seed)), [None, None, Some(5)]);
    book.token_judged(&judged(0xa1, false));
    assert_eq!(quoted(&book, 1), Some(5));
    assert_eq!(book.unjudged_tokens(PoolId(0)).collect::<Vec<_>>(), [address(0xa0)]);
}

/// A loaded pool, a created one and a stranger, of which the first two are quarantined behind block 2.
fn quarantined() -> PoolBook {
    let mut book = book();
    book.pool_loaded(&loaded(1, Some((10, GENESIS))));
    apply(&mut book, 1, &[sync(1, 11), sync(9, 1)]);
    apply(&mut book, 2, &[created(factory(), 2), sync(1, 12), sync(2, 22)]);
    book.take_changes();
    [1, 2, 9, 1].into_iter().for_each(|seed| book.quarantine(&address(seed)));
    book
}

#[test]
fn a_quarantined_pool_is_followed_and_never_quoted_again() {
    let mut book = quarantined();
    assert_eq!(book.take_changes(), Changes::Pools([PoolId(0), PoolId(1)].into()));
    assert_eq!(book.counts().quarantined, 2, "neither a stranger nor a pool twice");
    let applied = apply(&mut book, 3, &[sync(1, 13), sync(2, 23), created(factory(), 2)]);
    assert_eq!(applied, Applied { touched: vec![PoolId(0), PoolId(1)], ..Applied::default() });
    book.pool_loaded(&loaded(1, Some((99, hash(3, 0)))));
    [true, false].into_iter().for_each(|refused| book.token_judged(&judged(0xa0, refused)));
    book.lose(Some(hash(3, 0)));
    assert_eq!(book.resync(&resynced(3, hash(3, 0), &[(1, Some(14)), (2, Some(24))])), Some(0));
    let held = [PoolId(0), PoolId(1)].map(|id| (book.table().reserves(id), book.table().quoted(id)));
    assert_eq!(held, [(Some(reserves(14)), None), (Some(reserves(24)), None)]);
    book.pool_loaded(&loaded(9, Some((5, hash(3, 0)))));
    assert_eq!(quoted(&book, 9), Some(5), "a stranger has no standing that could be lost");
}

#[test]
fn no_reorganisation_undoes_a_quarantine() {
    let mut book = quarantined();
    roll_back(&mut book, hash(1, 0));
    let held = [PoolId(0), PoolId(1)].map(|id| (book.table().reserves(id), book.table().quoted(id)));
    assert_eq!(held, [(Some(reserves(11)), None), (None, None)]);
    assert_eq!(
        book.proven(&address(2)),
        Some(PoolId(1)),
        "what is created again there is quarantined as well"
    );
    apply(&mut book, 2, &[created(factory(), 2), sync(2, 32), sync(1, 31)]);
    assert_eq!([1, 2].map(|seed| quoted(&book, seed)), [None, None]);
    roll_back(&mut book, GENESIS);
    assert_eq!([1, 2].map(|seed| quoted(&book, seed)), [None, None]);
}

#[test]
fn an_image_knows_what_is_quarantined() {
    let book = quarantined();
    let saved = serde_json::to_string(&book.image()).expect("an image is JSON");
    let image = serde_json::from_str(&saved).expect("as it was written");
    let mut restored = PoolBook::of_image(&market(), image).expect("it is of a book");
    assert_eq!(account(&restored), account(&book));
    restored.token_judged(&judged(0xa0, true));
    restored.token_judged(&judged(0xa0, false));
    restored.pool_loaded(&loaded(1, Some((99, hash(2, 0)))));
    roll_back(&mut restored, hash(1, 0));
    assert_eq!([1, 2].map(|seed| quoted(&restored, seed)), [None, None]);
}

#[test]
fn a_pool_that_a_block_created_is_not_quoted_before_the_verdicts_about_its_tokens() {
    let mut book = book();
    book.token_judged(&judged(0xa0, false));
    apply(&mut book, 1, &[created(factory(), 1), created(factory(), 2), created(factory(), 3)]);
    apply(&mut book, 2, &[sync(1, 5), sync(2, 6), sync(3, 7)]);
    let all = |book: &PoolBook| [1, 2, 3].map(|seed| quoted(book, seed));
    assert_eq!(all(&book), [None; 3]);
    book.take_changes();
    book.token_judged(&judged(0xa1, false));
    book.token_judged(&judged(0xa2, true));
    assert_eq!(book.take_changes(), Changes::Pools([PoolId(0)].into()));
    assert_eq!(all(&book), [Some(5), None, None]);
    book.pool_loaded(&loaded(3, None));
    assert_eq!(all(&book), [Some(5), None, Some(7)], "whoever loads a pool has judged its tokens");
    roll_back(&mut book, hash(1, 0));
    apply(&mut book, 2, &[sync(1, 8), sync(2, 8)]);
    assert_eq!(all(&book), [Some(8), None, None], "a verdict outlives the block");
}

#[test]
fn changes_are_told_once_and_are_everything_after_a_rollback() {
    let mut book = judged_book();
    assert_eq!(book.take_changes(), Changes::All);
    book.pool_loaded(&loaded(2, None));
    apply(&mut book, 1, &[created(factory(), 1), sync(1, 5), sync(2, 5), sync(1, 6), sync(3, 1)]);
    assert_eq!(book.take_changes(), Changes::Pools([PoolId(0), PoolId(1)].into()));
    assert_eq!(book.take_changes(), Changes::Pools([].into()));
    assert_eq!(book.roll_back(hash(1, 0)), RolledBack::Undone(0));
    assert_eq!(book.take_changes(), Changes::Pools([].into()));
    assert_eq!(book.roll_back(GENESIS), RolledBack::Undone(1));
    assert_eq!(book.take_changes(), Changes::All);
}

#[test]
fn what_is_undone_by_touch_names_what_the_undone_blocks_had_touched() {
    let mut book = judged_book();
    (1..=6).for_each(|seed| book.pool_loaded(&loaded(seed, None)));
    let changed = |book: &mut PoolBook, ids: &[u32]| {
        assert_eq!(book.take_changes(), Changes::Pools(ids.iter().copied().map(PoolId).collect()));
    };
    assert_eq!(book.take_changes(), Changes::All);
    apply(&mut book, 1, &[sync(1, 5), sync(2, 5)]);
    apply(&mut book, 2, &[sync(3, 5), sync(7, 5), created(factory(), 8)]);
    apply(&mut book, 3, &[sync(3, 6), sync(4, 6)]);
    // What was a candidate in the undone block has become a pool.
    book.pool_loaded(&loaded(7, None));
    changed(&mut book, &[0, 1, 2, 3, 6, 7]);
    assert_eq!(book.roll_back_by_touch(hash(1, 0)), RolledBack::Undone(2));
    changed(&mut book, &[2, 3, 6, 7]);
    assert_eq!(book.roll_back_by_touch(hash(1, 0)), RolledBack::Undone(0));
    changed(&mut book, &[]);
    assert_eq!(book.roll_back_by_touch(hash(9, 9)), RolledBack::Lost);
    assert_eq!(book.take_changes(), Changes::All);
}

#[test]
fn beyond_the_horizon_the_market_is_lost() {
    let mut book = book();
    book.pool_loaded(&loaded(1, Some((5, GENESIS))));
    for number in 1..=HORIZON as u64 + 1 {
        apply(&mut book, number, &[sync(1, 6)]);
    }
    let mut deeper = book.clone();
    assert_eq!(book.roll_back(hash(1, 0)), RolledBack::Undone(HORIZON));
    assert!(!book.is_lost() && quoted(&book, 1) == Some(6));
    assert_eq!(deeper.roll_back(GENESIS), RolledBack::Lost);
    assert_eq!((deeper.is_lost(), quoted(&deeper, 1), deeper.head()), (true, None, Some(GENESIS)));
    assert_eq!(deeper.resync(&resynced(0, GENESIS, &[(1, Some(5))])), Some(0));
    assert_eq!((deeper.is_lost(), quoted(&deeper, 1)), (false, Some(5)));
}

fn resynced(number: u64, hash: B256, held: &[(u8, Option<u128>)]) -> MarketResynced {
    let held = held.iter().map(|(seed, held)| (address(*seed), held.map(|amount| (amount, 2 * amount))));
    MarketResynced { number, hash, reserves: held.collect() }
}

#[test]
fn an_answer_of_an_unknown_block_or_about_too_few_pools_leaves_the_market_lost() {
    let mut book = book();
    (1..=2).for_each(|seed| book.pool_loaded(&loaded(seed, Some((5, GENESIS)))));
    apply(&mut book, 1, &[]);
    assert_eq!(book.resync(&resynced(1, hash(1, 0), &[(1, Some(7)), (2, Some(7))])), None);
    assert_eq!(quoted(&book, 1), Some(5), "it was not lost");
    book.lose(Some(hash(2, 0)));
    assert_eq!(book.proven_pools(), [address(1), address(2)]);
    assert_eq!(book.resync(&resynced(1, hash(1, 0), &[(1, Some(7)), (2, Some(7))])), None);
    assert_eq!(book.resync(&resynced(2, hash(2, 0), &[(1, Some(7))])), None);
    assert_eq!((book.is_lost(), book.counts().foreign_resyncs), (true, 2));
    assert_eq!(book.resync(&resynced(2, hash(2, 0), &[(1, Some(7)), (2, Some(8))])), Some(0));
    assert_eq!((quoted(&book, 1), quoted(&book, 2)), (Some(7), Some(8)));
}

#[test]
fn a_pool_that_is_not_there_any_longer_is_not_proven_unless_it_was_created_since() {
    let mut book = judged_book();
    apply(&mut book, 1, &[created(factory(), 1), created(factory(), 2), sync(1, 5), sync(2, 5)]);
    book.lose(Some(GENESIS));
    apply(&mut book, 1, &[]);
    let above = BlockRef { number: 2, hash: hash(2, 0), parent_hash: hash(1, 0) };
    book.apply_block(above, [created(factory(), 2), sync(2, 9)]).expect("it stands on the head");
    assert_eq!(book.resync(&resynced(1, hash(1, 0), &[(1, None), (2, None)])), Some(1));
    assert_eq!((book.proven(&address(1)), quoted(&book, 2)), (None, Some(9)));
    roll_back(&mut book, hash(1, 0));
    assert_eq!(book.proven(&address(2)), None);
}

#[test]
fn a_block_that_does_not_stand_on_the_head_is_refused() {
    let mut book = book();
    apply(&mut book, 1, &[sync(1, 1)]);
    let orphan = BlockRef { number: 3, hash: hash(3, 0), parent_hash: hash(2, 0) };
    assert!(matches!(book.apply_block(orphan, []), Err(BookError::Discontinuous { number: 3, .. })));
    assert_eq!(book.head(), Some(hash(1, 0)));
}

#[test]
fn candidates_are_bounded_and_the_silent_ones_are_forgotten() {
    let mut book = book();
    let flood: Vec<_> = (1..=5).map(|seed| sync(seed, 1)).collect();
    assert_eq!(apply(&mut book, 1, &flood).unproven.len(), 5);
    assert_eq!((book.candidates(), book.counts().candidates_refused), (3, 2));
    for number in 2..=320 {
        apply(&mut book, number, if number == 200 { &flood[..1] } else { &[] });
    }
    assert_eq!(book.candidates(), 1);
    roll_back(&mut book, hash(319, 0));
    assert_eq!(book.candidates(), 3, "the block that forgot them is undone");
}

#[test]
fn reserves_that_no_pair_can_hold_are_refused() {
    let mut book = book();
    let greatest = (1 << 112) - 1;
    let of = |reserve0, reserve1| PoolUpdate::Sync {
        emitter: address(1),
        reserves: Reserves { reserve0, reserve1 },
    };
    apply(&mut book, 1, &[of(greatest, greatest), of(greatest + 1, 1), of(1, u128::MAX)]);
    assert_eq!(book.counts().impossible_reserves, 2);
    book.pool_loaded(&loaded(1, None));
    assert_eq!(quoted(&book, 1), Some(greatest));
}

/// One step of a history: what a block says, what is learnt, or how many blocks are undone.
#[derive(Clone, Debug)]
enum Step {
    Block(Vec<PoolUpdate>),
    Loaded { seed: u8, reserves: Option<u128>, blocks_ago: usize },
    Judged { seed: u8, refused: bool },
    Undo(usize),
}

fn any_update() -> impl Strategy<Value = PoolUpdate> {
    prop_oneof![
        6 => (1u8..9, 1u128..1_000).prop_map(|(seed, amount)| sync(seed, amount)),
        1 => (1u8..9).prop_map(|seed| created(factory(), seed)),
        1 => (1u8..9).prop_map(|seed| created(address(0xee), seed)),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(any_update(), 0..6).prop_map(Step::Block),
        2 => (1u8..9, prop::option::of(1u128..1_000), 0usize..4)
            .prop_map(|(seed, reserves, blocks_ago)| Step::Loaded { seed, reserves, blocks_ago }),
        1 => (0xa0u8..0xa9, any::<bool>()).prop_map(|(seed, refused)| Step::Judged { seed, refused }),
        1 => prop_oneof![3 => 1usize..5, 1 => 5usize..=HORIZON].prop_map(Step::Undo),
    ]
}

/// What has happened, with every block on a branch of its own.
#[derive(Clone, Debug)]
enum Event {
    Block(BlockRef, Vec<PoolUpdate>),
    Loaded(PoolLoaded),
    Judged(TokenJudged),
    Reorg(B256),
}

fn play(book: &mut PoolBook, event: &Event) {
    match event {
        Event::Block(block, updates) => {
            book.apply_block(*block, updates.iter().copied()).expect("it stands on the head");
        }
        Event::Loaded(loaded) => book.pool_loaded(loaded),
        Event::Judged(judged) => book.token_judged(judged),
        Event::Reorg(ancestor) => {
            roll_back(book, *ancestor);
        }
    }
}

/// The events of a history, and those of them that survive its reorganisations.
fn write_history(first: u64, steps: Vec<Step>) -> (Vec<Event>, Vec<Event>, Vec<B256>) {
    let (mut events, mut survivors) = (Vec::new(), Vec::new());
    let mut chain = vec![GENESIS];
    // Blocks that can still be undone: a reorganisation does not bring the horizon nearer to the genesis.
    let mut undoable = 0;
    for (branch, step) in steps.into_iter().enumerate() {
        let event = match step {
            Step::Block(updates) => {
                let number = first + chain.len() as u64 - 1;
                let parent_hash = *chain.last().expect("the genesis");
                let hash = hash(number, u8::try_from(branch % 251).expect("below 251") + 1);
                chain.push(hash);
                undoable = HORIZON.min(undoable + 1);
                Event::Block(BlockRef { number, hash, parent_hash }, updates)
            }
            Step::Loaded { seed, reserves, blocks_ago } => {
                // Within the horizon of both histories, the one with and the one without reorganisations.
                let hash = chain[chain.len() - 1 - blocks_ago.min(undoable)];
                Event::Loaded(loaded(seed, reserves.map(|amount| (amount, hash))))
            }
            Step::Judged { seed, refused } => Event::Judged(judged(seed, refused)),
            Step::Undo(depth) => {
                let depth = depth.min(undoable);
                undoable -= depth;
                chain.truncate(chain.len() - depth);
                let undone = survivors.iter().rposition(|event| match event {
                    Event::Block(block, _) => chain.last() == Some(&block.hash),
                    _ => false,
                });
                let kept = undone.map_or(0, |last| last + 1);
                let above = survivors.split_off(kept);
                survivors.extend(above.into_iter().filter(|event| !matches!(event, Event::Block(..))));
                events.push(Event::Reorg(*chain.last().expect("the genesis")));
                continue;
            }
        };
        events.push(event.clone());
        survivors.push(event);
    }
    let reachable = chain.split_off(chain.len() - 1 - undoable);
    (events, survivors, reachable)
}

/// All that can be seen of a book, but ids and counters.
fn seen(book: &PoolBook) -> (Option<B256>, BTreeMap<Address, String>) {
    let pools = book.table().iter().filter(|(id, meta, _)| book.proven(&meta.address) == Some(*id));
    let pools =
        pools.map(|(id, meta, held)| (meta.address, format!("{held:?} {:?}", book.table().quoted(id))));
    let candidates = book.candidates.iter().map(|(address, sighting)| (*address, format!("{sighting:?}")));
    (book.head(), pools.chain(candidates).collect())
}

proptest! {
    #[test]
    fn a_reorganised_book_equals_one_rebuilt_from_the_surviving_chain(
        first in prop_oneof![Just(1u64), Just(63u64)],
        steps in prop::collection::vec(any_step(), 0..200),
    ) {
        let (events, survivors, reachable) = write_history(first, steps);
        let (mut reorganised, mut rebuilt) = (book(), book());
        events.iter().for_each(|event| play(&mut reorganised, event));
        survivors.iter().for_each(|event| play(&mut rebuilt, event));
        prop_assert_eq!(seen(&reorganised), seen(&rebuilt));
        // Their undo records agree as well.
        for ancestor in reachable.iter().rev() {
            roll_back(&mut reorganised, *ancestor);
            roll_back(&mut rebuilt, *ancestor);
            prop_assert_eq!(seen(&reorganised), seen(&rebuilt));
        }
    }
}

proptest! {
    /// At some block the market is lost, and some blocks later it is told as of one of those since.
    #[test]
    fn a_market_that_was_lost_and_taken_up_again_is_the_one_that_was_never_lost(
        blocks in prop::collection::vec((prop::collection::vec((1u8..9, 1u128..1_000), 0..6), 0usize..6), 8..60),
        lost_at in 0usize..6,
        [asked_after, told_after] in [0usize..4, 0usize..4],
    ) {
        let (mut whole, mut lossy) = (book(), book());
        for seed in 1..9 {
            for book in [&mut whole, &mut lossy] {
                book.pool_loaded(&loaded(seed, Some((500, GENESIS))));
            }
        }
        let (mut chain, mut answer, mut taken_up) = (vec![GENESIS], None, 0);
        for (at, (syncs, depth)) in blocks.iter().enumerate() {
            // Every sixth reorganises, and never before the market has been taken up again.
            let depth = if *depth == 5 && taken_up > 0 { 3.min(chain.len() - 1) } else { 0 };
            chain.truncate(chain.len() - depth);
            let parent_hash = *chain.last().expect("the genesis");
            prop_assert_eq!(whole.roll_back(parent_hash), RolledBack::Undone(depth));
            lossy.roll_back(parent_hash);
            let number = chain.len() as u64;
            let block = BlockRef { number, hash: hash(number, u8::try_from(at).expect("below 60")), parent_hash };
            chain.push(block.hash);
            let updates: Vec<_> = syncs.iter().map(|(seed, amount)| sync(*seed, *amount)).collect();
            whole.apply_block(block, updates.clone()).expect("it stands on the head");
            if at == lost_at {
                lossy.lose(Some(block.hash));
            } else {
                lossy.apply_block(block, updates).expect("it stands on the head");
            }
            // Once it is lost again, it is told at once.
            let is_due = if taken_up == 0 { at == lost_at + asked_after } else { lossy.is_lost() };
            if is_due {
                let held = whole.table().iter().map(|(_, meta, held)| {
                    (meta.address, held.map(|held| (held.reserve0, held.reserve1)))
                });
                answer = Some((at, MarketResynced { number, hash: block.hash, reserves: held.collect() }));
            }
            if let Some((asked_at, told)) = answer.take_if(|(asked_at, _)| taken_up > 0 || at >= *asked_at + told_after) {
                prop_assert!(lossy.resync(&told).is_some(), "asked at {asked_at}, told at {at}");
                taken_up += 1;
            }
            if taken_up > 0 {
                prop_assert_eq!(seen(&lossy), seen(&whole));
            }
        }
        prop_assert!(taken_up > 0 || blocks.len() <= lost_at + asked_after + told_after);
    }
}
