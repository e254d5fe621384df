use std::sync::Arc;

use headwater_events::{AsOf, DecodedBlock, Price, Protocol, SwapStep};
use headwater_lending::{Holding, LendingEvent, Position, Reserve, Revision};
use headwater_market::{
    Head, LendingTable, MarketSnapshot, PoolMeta, PoolTable, PriceSnapshot, Reserves, TokenPrice, Touched,
};

use super::*;

const GWEI: u64 = 1_000_000_000;
const POOL: Address = Address::repeat_byte(0x90);
const BORROWER: Address = Address::repeat_byte(0xbb);
/// Seconds since 1970.
const NOW: u64 = 1_700_000_000;
/// Of every asset here.
const UNIT: u64 = 100_000_000;

fn token(n: u8) -> Address {
    Address::repeat_byte(n)
}

fn pool(table: &mut PoolTable, n: u8, [token0, token1]: [u8; 2], reserves: [u128; 2]) {
    let meta = PoolMeta {
        address: token(100 + n),
        factory: Address::ZERO,
        protocol: Protocol::UniswapV2,
        token0: token(token0),
        token1: token(token1),
        fee_ppm: 3_000,
    };
    let id = table.insert(meta, true);
    let [reserve0, reserve1] = reserves.map(|reserve| reserve * u128::from(UNIT));
    table.set_reserves(id, Some(Reserves { reserve0, reserve1 }));
}

fn reserve(id: u16) -> Reserve {
    let ray = U256::from(10).pow(U256::from(27));
    Reserve {
        id: ReserveId(id),
        asset: token(id as u8 + 1),
        decimals: 8,
        liquidity_index: ray,
        variable_borrow_index: ray,
        liquidity_rate: U256::ZERO,
        variable_borrow_rate: ray / U256::from(10),
        last_update: NOW,
        scaled_variable_debt: U256::ZERO,
        ltv: 7_500,
        liquidation_threshold: 8_000,
        liquidation_bonus: 10_500,
        liquidation_protocol_fee: 0,
        active: true,
        frozen: false,
        paused: false,
        grace_period_until: 0,
        e_mode_category: 0,
    }
}

/// A borrower with 100 of token 1 and 10 of token 3 against 80 of token 2; all are worth one.
fn market() -> Market {
    let mut market = Market::new(Revision::V3_6);
    let mut position = Position::default();
    let units = |amount: u64| U256::from(amount) * U256::from(UNIT);
    for id in 0..3 {
        market.set_reserve(reserve(id)).expect("in range");
        market.set_price(token(id as u8 + 1), U256::from(UNIT));
    }
    let holding = |id| Holding::none(ReserveId(id));
    position.set_holding(Holding { scaled_supply: units(100), collateral: true, ..holding(0) });
    position.set_holding(Holding { scaled_debt: units(80), ..holding(1) });
    position.set_holding(Holding { scaled_supply: units(10), collateral: true, ..holding(2) });
    market.set_position(BORROWER, position);
    market
}

fn changed(market: &Market, event: &LendingEvent) -> Market {
    let mut market = market.clone();
    let _ = market.apply(event, NOW).expect("it follows");
    market
}

fn priced(market: &Market, asset: u8, price: u64) -> Market {
    changed(market, &LendingEvent::PriceChanged { source: token(asset), price: U256::from(price) })
}

/// A pool between tokens 1 and 2, and one between 3 and 2.
fn pools() -> PoolTable {
    let mut table = PoolTable::default();
    pool(&mut table, 1, [1, 2], [1_000_000, 1_000_000]);
    pool(&mut table, 3, [2, 3], [1_000_000, 1_000_000]);
    table
}

/// A block `later` seconds behind the markets' last updates, in which these tokens have a price: a hundred million wei for the
/// smallest unit.
fn view(market: Option<&Market>, pools: &PoolTable, later: u64, priced: &[u8]) -> WholeView {
    let as_of = AsOf { seq: 5, number: 5, hash: [5; 32].into() };
    let lending: LendingTable = market
        .map(|market| LendingMarket {
            pool: POOL,
            market: Arc::new(market.clone()),
            feeds: Default::default(),
        })
        .into_iter()
        .collect();
    let head = Head {
        timestamp: NOW + later,
        base_fee_per_gas: Some(GWEI),
        gas_used: 15_000_000,
        gas_limit: 30_000_000,
    };
    let market = MarketSnapshot { lending, ..MarketSnapshot::of_pools(as_of, head, pools.clone()) };
    let quote = token(9);
    let mut prices = PriceSnapshot { as_of, quote, prices: Default::default(), sources: Default::default() };
    for token in priced.iter().copied().map(token) {
        let price = Price { quote, mantissa: Price::ONE * U256::from(100_000_000u64) };
        let place = prices.prices.place(token);
        let known = TokenPrice { price, source: Address::ZERO, changed_at: 5, changed_at_s: 0 };
        prices.prices.set(place, Some(known));
    }
    let decoded = DecodedBlock {
        as_of,
        actions: Vec::new(),
        unknown_logs: 0,
        unknown_calls: 0,
        malformed: 0,
        set_aside: false,
    };
    WholeView::new(Arc::new(market), Arc::new(prices), Arc::new(decoded), Touched::All).expect("one block")
}

fn everything() -> LiquidationConfig {
    LiquidationConfig { profit_after_gas: false, ..LiquidationConfig::default() }
}

fn found(market: &Market, pools: &PoolTable, priced: &[u8]) -> Vec<Opportunity> {
    Liquidations::new(everything()).evaluate(&view(Some(market), pools, 0, priced))
}

fn plan(found: &Opportunity) -> &LiquidationPlan {
    let Plan::Liquidate(plan) = &found.plan else { panic!("not a liquidation: {found:?}") };
    plan
}

#[test]
fn a_healthy_position_is_not_found() {
    assert!(found(&market(), &pools(), &[2]).is_empty());
}

#[test]
fn a_position_below_one_is_found_with_its_call_its_sale_and_what_is_left() {
    // 0.9 * 0.8 * 100 + 8 = 80 against 80 of debt at 1.05.
    let market = priced(&priced(&market(), 1, 90_000_000), 2, 105_000_000);
    let [found] = &found(&market, &pools(), &[2])[..] else { panic!("one position") };
    let plan = plan(found);
    assert_eq!((plan.borrower, plan.collateral, plan.debt), (BORROWER, token(1), token(2)));
    let unit = U256::from(UNIT);
    // 80 · 1.05 / 0.9 · 1.05 = 98.
    assert_eq!((plan.repay, plan.seize), (U256::from(80) * unit, U256::from(98) * unit));
    assert_eq!(plan.debt_to_cover, U256::MAX);
    assert_eq!(plan.health_factor, U256::from(952_380_952_380_952_380u64));
    assert_eq!(
        (&found.path[..], &found.tokens[..]),
        (&[POOL, token(101)][..], &[token(2), token(1), token(2)][..])
    );
    let [SwapStep { amount_in, amount_out, .. }] = plan.sale[..] else { panic!("one pool") };
    assert_eq!((amount_in, found.amount_in, found.amount_out), (plan.seize, plan.repay, amount_out));
    assert_eq!(found.profit, amount_out - plan.repay);
    let worth = found.profit * U256::from(100_000_000u64) - U256::from(520_000 * GWEI);
    assert_eq!(found.net_profit_wei, Some(I256::from_raw(worth)));
    assert_eq!((found.gas, found.valid_until, found.kind.clone()), (520_000, 6, Kind::Liquidation));
}

#[test]
fn interest_alone_makes_a_position_liquidatable() {
    let (market, pools) = (market(), pools());
    let mut detector = Liquidations::new(everything());
    let mut at = |later| detector.evaluate(&view(Some(&market), &pools, later, &[2])).len();
    assert_eq!(at(0), 0);
    assert_eq!(at(12), 0);
    assert_eq!(at(3 * 365 * 86_400), 1);
    assert_eq!(at(12), 0, "a reorganisation may set the clock back");
}

#[test]
fn what_cannot_be_taken_is_not_found() {
    let below = priced(&market(), 1, 80_000_000);
    assert_eq!(found(&below, &pools(), &[]).len(), 1);
    let paused = changed(&below, &LendingEvent::ReservePaused(ReserveId(1), true));
    assert!(found(&paused, &pools(), &[]).is_empty());
    let until = |until| LendingEvent::GracePeriodChanged { reserve: ReserveId(1), until };
    assert!(found(&changed(&below, &until(NOW)), &pools(), &[]).is_empty());
    assert_eq!(found(&changed(&below, &until(NOW - 1)), &pools(), &[]).len(), 1);
}

#[test]
fn of_several_collaterals_the_one_that_leaves_most_is_taken() {
    let below = priced(&market(), 1, 80_000_000);
    // A pool in which hardly anything is left of what is sold.
    let mut thin = PoolTable::default();
    pool(&mut thin, 1, [1, 2], [10, 1]);
    pool(&mut thin, 3, [2, 3], [1_000_000, 1_000_000]);
    for (table, collateral) in [(pools(), 1), (thin, 3)] {
        let found = found(&below, &table, &[2]);
        assert_eq!(plan(&found[0]).collateral, token(collateral));
    }
}

#[test]
fn without_a_sale_or_a_price_nothing_is_said_of_what_is_left() {
    let below = priced(&market(), 1, 80_000_000);
    let unsold = found(&below, &PoolTable::default(), &[1, 2, 3]);
    assert_eq!((unsold[0].net_profit_wei, unsold[0].profit), (None, U256::ZERO));
    assert_eq!((unsold[0].path.len(), unsold[0].tokens.len()), (1, 2));
    assert_eq!(unsold[0].amount_out, plan(&unsold[0]).seize);
    let unpriced = found(&below, &pools(), &[1, 3]);
    assert_eq!(unpriced[0].net_profit_wei, None);
    assert!(unpriced[0].profit > U256::ZERO);
    let mut detector = Liquidations::new(LiquidationConfig::default());
    assert!(detector.evaluate(&view(Some(&below), &pools(), 0, &[1, 3])).is_empty());
    assert_eq!(detector.evaluate(&view(Some(&below), &pools(), 0, &[2])).len(), 1);
}

#[test]
fn a_loss_is_told_and_not_reported_as_a_profit() {
    let below = priced(&market(), 1, 80_000_000);
    let mut thin = PoolTable::default();
    pool(&mut thin, 1, [1, 2], [50, 40]);
    let loss = found(&below, &thin, &[2]);
    assert_eq!(loss[0].profit, U256::ZERO);
    let repay = plan(&loss[0]).repay;
    let value = (repay - loss[0].amount_out) * U256::from(100_000_000u64) + U256::from(520_000 * GWEI);
    assert_eq!(loss[0].net_profit_wei, Some(-I256::from_raw(value)));
    let least = LiquidationConfig { min_net_profit_wei: U256::ZERO, ..LiquidationConfig::default() };
    assert!(Liquidations::new(least).evaluate(&view(Some(&below), &thin, 0, &[2])).is_empty());
}

#[test]
fn a_pool_that_is_lost_has_no_findings_and_comes_back() {
    let (below, pools) = (priced(&market(), 1, 80_000_000), pools());
    let mut detector = Liquidations::new(everything());
    for (market, expected) in [(Some(&below), 1), (None, 0), (Some(&below), 1)] {
        assert_eq!(detector.evaluate(&view(market, &pools, 0, &[])).len(), expected);
    }
}

#[test]
fn a_detector_that_was_there_finds_what_a_new_one_finds() {
    let (healthy, pools) = (market(), pools());
    let mut detector = Liquidations::new(everything());
    let events = [
        LendingEvent::PriceChanged { source: token(1), price: U256::from(80_000_000u64) },
        LendingEvent::CollateralUseChanged { reserve: ReserveId(0), account: BORROWER, enabled: false },
        LendingEvent::PriceChanged { source: token(2), price: U256::from(9_000_000u64) },
        LendingEvent::ReserveFrozen(ReserveId(0), true),
        LendingEvent::EModeSet { account: BORROWER, category: 1 },
    ];
    let mut now = healthy.clone();
    for event in &events {
        now = changed(&now, event);
        let view = view(Some(&now), &pools, 0, &[2]);
        assert_eq!(detector.evaluate(&view), Liquidations::new(everything()).evaluate(&view), "{event:?}");
    }
    assert!(detector.evaluate(&view(Some(&healthy), &pools, 0, &[2])).is_empty(), "all of it undone");
}

#[test]
fn one_price_touches_only_whom_it_can_cross() {
    let mut market = market();
    let position = market.position(BORROWER).cloned().expect("he is there");
    for number in 0..100 {
        market.set_position(Address::with_last_byte(number), position.clone());
    }
    let pools = pools();
    let mut detector = Liquidations::new(everything());
    detector.evaluate(&view(Some(&market), &pools, 0, &[]));
    // A fifth of what separates them from liquidation.
    detector.evaluate(&view(Some(&priced(&market, 1, 98_500_000)), &pools, 0, &[]));
    assert_eq!(detector.looked_at(), 0);
    let one = changed(
        &market,
        &LendingEvent::CollateralUseChanged { reserve: ReserveId(2), account: BORROWER, enabled: false },
    );
    detector.evaluate(&view(Some(&one), &pools, 0, &[]));
    let looked_at = detector.looked_at();
    assert!(looked_at <= 1, "{looked_at}");
}

mod sale {
    use super::*;
    use crate::liquidation::sale::Routes;

    fn check(table: &PoolTable, [from, to]: [u8; 2], amount: u64, expected: Option<&[u8]>) {
        let mut routes = Routes::default();
        routes.learn(table);
        let sale = routes.sell(table, token(from), token(to), U256::from(amount));
        let through: Option<Vec<u8>> =
            sale.map(|sale| sale.steps.iter().map(|step| step.pool[0] - 100).collect());
        assert_eq!(through.as_deref(), expected, "{from} to {to}");
    }

    #[test]
    fn the_way_that_yields_most_is_taken() {
        let mut table = PoolTable::default();
        pool(&mut table, 1, [1, 2], [1_000, 1_000]);
        pool(&mut table, 2, [1, 2], [1_000, 1_001]);
        check(&table, [1, 2], UNIT, Some(&[2]));
        check(&table, [2, 1], UNIT, Some(&[1]));
        pool(&mut table, 3, [1, 5], [1_000, 1_000]);
        pool(&mut table, 4, [2, 5], [1_000, 1_000]);
        check(&table, [1, 2], UNIT, Some(&[2]));
        pool(&mut table, 5, [2, 5], [1_100, 1_000]);
        check(&table, [1, 2], UNIT, Some(&[3, 5]));
        check(&table, [1, 9], UNIT, None);
        check(&table, [1, 1], UNIT, Some(&[]));
    }

    #[test]
    fn of_equals_the_shorter_and_then_the_lower_address_is_taken() {
        let mut table = PoolTable::default();
        pool(&mut table, 7, [1, 2], [1_000, 1_000]);
        pool(&mut table, 4, [1, 2], [1_000, 1_000]);
        check(&table, [1, 2], UNIT, Some(&[4]));
    }

    #[test]
    fn a_pool_that_cannot_take_the_amount_or_gives_nothing_is_no_way() {
        let mut table = PoolTable::default();
        pool(&mut table, 1, [1, 2], [1_000, 1_000]);
        check(&table, [1, 2], 1, None);
        let most = U256::from(u128::MAX >> 16);
        let mut routes = Routes::default();
        routes.learn(&table);
        assert!(routes.sell(&table, token(1), token(2), most).is_none());
    }

    #[test]
    fn reserves_are_looked_up_anew_and_later_pools_are_learnt() {
        let mut table = PoolTable::default();
        pool(&mut table, 1, [1, 2], [1_000, 1_000]);
        let mut routes = Routes::default();
        routes.learn(&table);
        pool(&mut table, 2, [1, 2], [1_000, 2_000]);
        routes.learn(&table);
        let best = |routes: &Routes, table: &PoolTable| {
            let sale = routes.sell(table, token(1), token(2), U256::from(UNIT)).expect("there is a way");
            sale.steps[0].pool
        };
        assert_eq!(best(&routes, &table), token(102));
        let id = table.find(&token(102)).expect("it is there");
        table.set_reserves(id, None);
        assert_eq!(best(&routes, &table), token(101));
    }
}
