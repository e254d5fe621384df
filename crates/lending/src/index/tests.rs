use std::collections::BTreeSet;

use alloy_primitives::{Address, U256};
use proptest::prelude::*;

use super::LiquidationIndex;
use crate::math::RAY;
use crate::{EModeCategory, Holding, LendingEvent, Market, Position, Reserve, ReserveId, Revision};

const START: u64 = 1_700_000_000;
const YEAR: u64 = 31_536_000;

fn asset(id: u16) -> Address {
    Address::with_last_byte(u8::try_from(id).expect("few reserves") + 1)
}

fn account(number: usize) -> Address {
    Address::left_padding_from(&(number + 1_000).to_be_bytes())
}

fn reserve(id: u16, rate_percent: u64) -> Reserve {
    Reserve {
        id: ReserveId(id),
        asset: asset(id),
        decimals: [18, 6, 8, 18][usize::from(id)],
        liquidity_index: RAY * U256::from(11) / U256::from(10),
        variable_borrow_index: RAY * U256::from(12) / U256::from(10),
        liquidity_rate: RAY * U256::from(rate_percent) / U256::from(300),
        variable_borrow_rate: RAY * U256::from(rate_percent) / U256::from(100),
        last_update: START,
        scaled_variable_debt: RAY,
        ltv: 7_000,
        liquidation_threshold: [8_250, 8_000, 7_501, 6_666][usize::from(id)],
        liquidation_bonus: 10_500,
        liquidation_protocol_fee: 1_000,
        active: true,
        frozen: false,
        paused: false,
        grace_period_until: 0,
        e_mode_category: u8::from(id == 3),
    }
}

/// An account in cents: what it holds of one reserve and owes in another, and its category.
type Drawn = (u16, u64, u16, u64, bool);

fn market(revision: Revision, rates: [u64; 4], accounts: &[Drawn]) -> Market {
    let mut market = Market::new(revision);
    for id in 0..4 {
        market.set_reserve(reserve(id, rates[usize::from(id)])).expect("it is in range");
        market.set_price(
            asset(id),
            U256::from([200_000_000_000u64, 100_000_000, 4_000_000_000_000, 123][usize::from(id)]),
        );
    }
    let category = EModeCategory {
        ltv: 9_000,
        liquidation_threshold: 9_300,
        liquidation_bonus: 10_200,
        collateral_bitmap: 0b1000,
        ..EModeCategory::default()
    };
    market.set_e_mode_category(1, category);
    for (number, (held, worth, owed, debt, e_mode)) in accounts.iter().enumerate() {
        let units = |id: u16, cents: u64| {
            let reserve = market.reserve(ReserveId(id)).expect("listed");
            let price = market.price(asset(id)).expect("given");
            U256::from(cents) * U256::from(1_000_000) * reserve.unit().expect("small") / price
        };
        let mut position = Position::new(u8::from(*e_mode));
        let supply = units(*held, *worth);
        position.set_holding(Holding {
            scaled_supply: supply,
            collateral: true,
            ..Holding::none(ReserveId(*held))
        });
        let other = position.holding(ReserveId(*owed));
        position.set_holding(Holding { scaled_debt: units(*owed, worth * debt / 1_000), ..other });
        market.set_position(account(number), position);
    }
    market
}

fn full_scan(market: &Market, timestamp: u64) -> BTreeSet<Address> {
    let below = market.accounts().filter(|(account, _)| {
        market.account_data(*account, timestamp).expect("everything is known").is_below_threshold()
    });
    below.map(|(account, _)| account).collect()
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (0..4u16, 1..10_000_000u64, 0..4u16, 0..900u64, any::<bool>())
}

proptest! {
    #[test]
    fn nobody_below_the_threshold_is_missed(
        newer in any::<bool>(),
        rates in any::<[u8; 4]>(),
        accounts in proptest::collection::vec(drawn(), 1..40),
        moves in proptest::collection::vec((0..4u16, 900..1_100u64, 0..YEAR / 20), 1..12),
    ) {
        let revision = if newer { Revision::V3_6 } else { Revision::V3_0 };
        let mut market = market(revision, rates.map(|rate| u64::from(rate % 64)), &accounts);
        let mut timestamp = START + 5;
        let mut index = LiquidationIndex::new(&market, timestamp);
        for (id, permille, seconds) in moves {
            let price = market.price(asset(id)).expect("given") * U256::from(permille) / U256::from(1_000);
            market.set_price(asset(id), price.max(U256::ONE));
            timestamp += seconds;
            let below = full_scan(&market, timestamp);
            prop_assert!(index.candidates(&market, timestamp).is_superset(&below));
            let examined = index.examine(&market, timestamp);
            let found: BTreeSet<_> = examined.below.iter().map(|crossing| crossing.account).collect();
            prop_assert_eq!(found, below);
            prop_assert!(examined.unknown.is_empty());
        }
    }

    #[test]
    fn going_back_in_time_and_price_misses_nobody(
        newer in any::<bool>(),
        accounts in proptest::collection::vec(drawn(), 1..40),
        percent in 80..125u64,
        seconds in 1..YEAR / 4,
    ) {
        let revision = if newer { Revision::V3_6 } else { Revision::V3_0 };
        let then = market(revision, [10, 40, 3, 25], &accounts);
        let mut now = then.clone();
        now.set_price(asset(0), now.price(asset(0)).expect("given") * U256::from(percent) / U256::from(100));
        let index = LiquidationIndex::new(&now, START + seconds);
        let below = full_scan(&then, START);
        prop_assert!(index.candidates(&then, START).is_superset(&below));
    }
}

/// A thousand accounts between safe and close.
fn crowd() -> Market {
    let accounts: Vec<Drawn> =
        (0..1_000).map(|number| (0, 1_000_000 + number, 1, 300 + number % 440, false)).collect();
    market(Revision::V3_6, [2, 8, 1, 5], &accounts)
}

#[test]
fn a_price_that_moves_a_little_is_no_reason_to_look_at_everybody() {
    let mut market = crowd();
    let mut index = LiquidationIndex::new(&market, START);
    assert!(index.examine(&market, START).below.is_empty());
    let price = market.price(asset(0)).expect("given");
    market.set_price(asset(0), price * U256::from(995) / U256::from(1_000));
    let examined = index.examine(&market, START + 12);
    assert!(examined.looked_at < 50, "{}", examined.looked_at);
}

#[test]
fn a_price_of_another_asset_concerns_nobody() {
    let mut market = crowd();
    let mut index = LiquidationIndex::new(&market, START);
    market.set_price(asset(2), U256::ONE);
    assert_eq!(index.examine(&market, START).looked_at, 0);
}

#[test]
fn interest_alone_is_noticed() {
    let market = crowd();
    let mut index = LiquidationIndex::new(&market, START);
    let (mut timestamp, mut examined) = (START, index.examine(&market, START));
    while examined.below.is_empty() {
        assert_eq!(full_scan(&market, timestamp), BTreeSet::new());
        timestamp += YEAR / 50;
        examined = index.examine(&market, timestamp);
    }
    let found: BTreeSet<_> = examined.below.iter().map(|crossing| crossing.account).collect();
    assert_eq!(found, full_scan(&market, timestamp));
}

#[test]
fn an_account_without_debt_is_not_watched() {
    let mut market = crowd();
    let mut index = LiquidationIndex::new(&market, START);
    let before = index.len();
    let mut position = market.position(account(3)).expect("it is there").clone();
    position.set_holding(Holding { scaled_debt: U256::ZERO, ..position.holding(ReserveId(1)) });
    market.set_position(account(3), position);
    index.follow([crate::Touch::Account(account(3))].into_iter(), &market, START);
    assert_eq!(index.len(), (before.0 - 1, before.1));
}

#[test]
fn a_change_of_terms_concerns_everybody() {
    let mut market = crowd();
    let mut index = LiquidationIndex::new(&market, START);
    let terms = crate::CollateralTerms {
        reserve: ReserveId(0),
        ltv: 10,
        liquidation_threshold: 3_500,
        liquidation_bonus: 10_500,
    };
    let event = LendingEvent::CollateralConfigurationChanged(terms);
    let undo = market.apply(&event, START).expect("the reserve is listed");
    index.follow(undo.touches(), &market, START);
    let found = index.examine(&market, START).below.len();
    assert_eq!(found, full_scan(&market, START).len());
    assert!(found > 500, "{found}");
}

#[test]
fn a_price_that_nobody_knows_is_said() {
    let market = crowd();
    let mut index = LiquidationIndex::new(&market, START);
    let mut blind = Market::new(Revision::V3_6);
    for reserve in market.reserves() {
        blind.set_reserve(reserve.clone()).expect("it is in range");
    }
    for (account, position) in market.accounts() {
        blind.set_position(account, position.clone());
    }
    let examined = index.examine(&blind, START);
    assert_eq!((examined.unknown.len(), examined.below.len()), (1_000, 0));
}
