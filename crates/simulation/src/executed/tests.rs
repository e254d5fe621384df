use alloy_primitives::{Address, B256};
use headwater_events::Topics;

use super::*;
use crate::testing::{pool, price, snapshot, table};

const LOWER: i32 = -600;
const UPPER: i32 = 600;
const DELTA: i128 = 1_000_000;

/// A pool of V3 with one range.
fn market() -> MarketSnapshot {
    snapshot(table([
        ConcentratedEvent::Initialized(price()),
        ConcentratedEvent::LiquidityChanged { lower: LOWER, upper: UPPER, delta: DELTA },
    ]))
}

fn log(topics: impl IntoIterator<Item = B256>, words: &[U256]) -> Log {
    Log {
        address: pool(),
        topics: topics.into_iter().collect::<Topics>(),
        data: words.iter().flat_map(U256::to_be_bytes::<32>).collect(),
        transaction_index: 0,
        log_index: 0,
    }
}

/// `Burn` of all that there is, or more.
fn burn(amount: u128) -> Log {
    let ticks = [LOWER, UPPER].map(signed).map(B256::from);
    let topics = [headwater_abi::logs::V3_BURN, B256::ZERO, ticks[0], ticks[1]];
    log(topics, &[U256::from(amount), U256::ZERO, U256::ZERO])
}

/// `Swap` to a tick whose price is the same.
fn swap(sqrt_price: U256, liquidity: u128) -> Log {
    let topics = [headwater_abi::logs::V3_SWAP, B256::ZERO, B256::ZERO];
    log(topics, &[U256::ZERO, U256::ZERO, sqrt_price, U256::from(liquidity), U256::ZERO])
}

fn signed(tick: i32) -> U256 {
    alloy_primitives::I256::try_from(tick).expect("a tick").into_raw()
}

fn answers(sqrt_price: U256, liquidity: u128) -> [Option<Bytes>; 2] {
    let words = |words: &[U256]| Some(words.iter().flat_map(U256::to_be_bytes::<32>).collect());
    [words(&[sqrt_price, U256::ZERO, U256::ONE]), words(&[U256::from(liquidity)])]
}

fn check(logs: &[Log], answers: &[Option<Bytes>], expected: Option<&[(U256, u128, usize)]>) {
    let changed = changed(&market(), logs, answers);
    let standing = |pool: &ConcentratedPool| {
        (pool.price().map_or(U256::ZERO, |price| price.sqrt_price), pool.liquidity(), pool.ticks().count())
    };
    let found = changed.map(|changed| changed.concentrated.iter().map(|(_, pool)| standing(pool)).collect());
    assert_eq!(found, expected.map(<[_]>::to_vec), "{logs:?}");
}

#[test]
fn a_pool_follows_its_logs_to_where_it_stands() {
    let (all, other) = (DELTA.unsigned_abs(), price().sqrt_price + U256::from(7));
    check(&[swap(other, all)], &answers(other, all), Some(&[(other, all, 2)]));
    check(&[swap(other, all), burn(all)], &answers(other, 0), Some(&[(other, 0, 0)]));
    check(&[burn(all / 2)], &answers(price().sqrt_price, all / 2), Some(&[(price().sqrt_price, all / 2, 2)]));
    check(&[], &[], Some(&[]));
}

#[test]
fn a_pool_that_stands_elsewhere_or_says_what_it_cannot_have_done_is_a_contradiction() {
    let (all, at) = (DELTA.unsigned_abs(), price().sqrt_price);
    let other = at + U256::from(7);
    check(&[swap(other, all)], &answers(at, all), None);
    check(&[swap(other, all)], &answers(other, all + 1), None);
    check(&[swap(other, all)], &[None, None], None);
    check(&[burn(all + 1)], &answers(at, 0), None);
    let unreadable = Log { data: Bytes::new(), ..burn(all) };
    check(&[unreadable], &answers(at, all), None);
}

#[test]
fn what_a_stranger_logs_changes_nothing_and_nobody_is_asked() {
    let (all, other) = (DELTA.unsigned_abs(), price().sqrt_price + U256::from(7));
    let stranger = Log { address: Address::repeat_byte(0x34), ..swap(other, all) };
    assert_eq!(questions(&market(), std::slice::from_ref(&stranger)), []);
    check(&[stranger], &[], Some(&[]));
}

#[test]
fn the_selectors_are_those_of_the_signatures() {
    for (selector, signature) in
        [(SLOT0, "slot0()"), (LIQUIDITY, "liquidity()"), (EXTSLOAD, "extsload(bytes32)")]
    {
        assert_eq!(selector, keccak256(signature)[..4], "{signature}");
    }
}
