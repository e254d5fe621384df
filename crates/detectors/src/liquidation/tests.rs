use std::sync::Arc;

use headwater_events::{AsOf, DecodedBlock, Price, Protocol, SaleStep, SwapStep};
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
    let [SaleStep { step, price_impact_ppm }] = &plan.sale[..] else { panic!("one pool") };
    let SwapStep { amount_in, amount_out, .. } = step.swap;
    assert_eq!((step.protocol, step.pool_id, step.zero_for_one), (Protocol::UniswapV2, None, true));
    // 98 of a million.
    assert_eq!((*price_impact_ppm, plan.unsearched), (98, 0));
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
    use alloy_primitives::B256;
    use headwater_amm::PoolKey;
    use headwater_events::{TokenJudged, TokenVerdict};
    use headwater_market::{
        BlockRef, ConcentratedBook, ConcentratedEvent, ConcentratedFactory, ConcentratedManager,
        ConcentratedPrice, ConcentratedUpdate, MarketConfig, PoolBook, ResolvedMarket,
    };

    use super::*;
    use crate::liquidation::sale::{Routes, Sale};

    const MANAGER: Address = Address::repeat_byte(0xf4);
    const HOOKS: Address = Address::ZERO;

    /// A pool with concentrated liquidity at a price of one.
    #[derive(Clone)]
    struct Ranged {
        is_v4: bool,
        tokens: [u8; 2],
        fee: u32,
        /// In each of these ranges about the price, so many ticks to either side.
        ranges: Vec<i32>,
        liquidity: u64,
    }

    fn factory() -> ConcentratedFactory {
        let address = token(0xfa);
        ConcentratedFactory { name: "v3".into(), address, init_code_hash: B256::ZERO, deployer: None }
    }

    impl Ranged {
        /// Deep and wide.
        fn new(is_v4: bool, tokens: [u8; 2], fee: u32) -> Self {
            Self { is_v4, tokens, fee, ranges: vec![60_000], liquidity: 1_000_000 }
        }

        fn key(&self) -> PoolKey {
            let [currency0, currency1] = self.tokens.map(token);
            PoolKey { currency0, currency1, fee: self.fee, tick_spacing: 60, hooks: HOOKS }
        }

        fn address(&self) -> Address {
            factory().derive(token(self.tokens[0]), token(self.tokens[1]), self.fee)
        }

        fn updates(&self) -> Vec<ConcentratedUpdate> {
            let (key, price) = (self.key(), ConcentratedPrice { sqrt_price: U256::ONE << 96usize, tick: 0 });
            let (pool, id) = (self.address(), key.id());
            let said = |event| match self.is_v4 {
                true => ConcentratedUpdate::V4 { manager: MANAGER, id, event, charged: None },
                false => ConcentratedUpdate::Pool { emitter: pool, event },
            };
            let mut updates = match self.is_v4 {
                true => vec![ConcentratedUpdate::V4Initialized { manager: MANAGER, id, key, price }],
                false => vec![
                    ConcentratedUpdate::PoolCreated {
                        emitter: factory().address,
                        token0: key.currency0,
                        token1: key.currency1,
                        fee: self.fee,
                        tick_spacing: 60,
                        pool,
                    },
                    said(ConcentratedEvent::Initialized(price)),
                ],
            };
            let delta = i128::from(self.liquidity) * i128::from(UNIT);
            updates.extend(
                self.ranges.iter().map(|half| {
                    said(ConcentratedEvent::LiquidityChanged { lower: -half, upper: *half, delta })
                }),
            );
            updates
        }
    }

    /// The market of these pools, and of those with concentrated liquidity; token 8 is refused.
    fn mixed(table: &PoolTable, ranged: &[Ranged]) -> MarketSnapshot {
        let manager = ConcentratedManager { name: "v4".into(), address: MANAGER };
        let market = ResolvedMarket {
            concentrated_factories: vec![factory()],
            concentrated_managers: vec![manager],
            ..ResolvedMarket::resolve(&MarketConfig::default(), 1).expect("the default")
        };
        let (mut book, mut verdicts) = (ConcentratedBook::new(&market), PoolBook::new(&market));
        let block = BlockRef { number: 5, hash: [5; 32].into(), parent_hash: B256::ZERO };
        book.apply_block(block, ranged.iter().flat_map(Ranged::updates));
        assert_eq!(book.counts(), Default::default());
        for number in (0..8).chain([9]) {
            let verdict = TokenVerdict::Accepted { decimals: 8, symbol: String::new() };
            verdicts.token_judged(&TokenJudged { token: token(number), verdict });
        }
        let plain = view(None, table, 0, &[]).market().clone();
        MarketSnapshot { concentrated: book.table().clone(), refused: verdicts.refused(), ..plain }
    }

    fn sell(market: &MarketSnapshot, [from, to]: [u8; 2], amount: u64) -> Sale {
        let mut routes = Routes::default();
        routes.learn(market);
        routes.sell(market, token(from), token(to), U256::from(amount))
    }

    fn check(table: &PoolTable, tokens: [u8; 2], amount: u64, expected: Option<&[u8]>) {
        let sale = sell(&mixed(table, &[]), tokens, amount);
        let through: Vec<u8> = sale.steps.iter().map(|step| step.step.swap.pool[0] - 100).collect();
        assert_eq!(sale.is_sold.then_some(&through[..]), expected, "{tokens:?}");
        assert_eq!(sale.unsearched, 0);
    }

    /// What the pools are called, one after the other.
    fn names(sale: &Sale) -> Vec<(Protocol, Address, Option<B256>)> {
        let name = |step: &SaleStep| (step.step.protocol, step.step.swap.pool, step.step.pool_id);
        sale.steps.iter().map(name).collect()
    }

    fn name(pool: &Ranged) -> (Protocol, Address, Option<B256>) {
        match pool.is_v4 {
            true => (Protocol::UniswapV4, MANAGER, Some(pool.key().id())),
            false => (Protocol::UniswapV3, pool.address(), None),
        }
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
        pool(&mut table, 9, [1, 5], [1_000, 1_000]);
        pool(&mut table, 3, [1, 5], [1_000, 1_000]);
        pool(&mut table, 8, [5, 6], [1_000, 1_000]);
        pool(&mut table, 2, [5, 6], [1_000, 1_000]);
        check(&table, [1, 6], UNIT, Some(&[3, 2]));
    }

    #[test]
    fn a_pool_that_cannot_take_the_amount_or_gives_nothing_is_no_way() {
        let mut table = PoolTable::default();
        pool(&mut table, 1, [1, 2], [1_000, 1_000]);
        check(&table, [1, 2], 1, None);
        let market = mixed(&table, &[]);
        let mut routes = Routes::default();
        routes.learn(&market);
        for most in [U256::from(u128::MAX >> 16), U256::MAX] {
            assert!(!routes.sell(&market, token(1), token(2), most).is_sold);
        }
    }

    #[test]
    fn reserves_are_looked_up_anew_and_later_pools_are_learnt() {
        let mut table = PoolTable::default();
        pool(&mut table, 1, [1, 2], [1_000, 1_000]);
        let mut routes = Routes::default();
        routes.learn(&mixed(&table, &[]));
        pool(&mut table, 2, [1, 2], [1_000, 2_000]);
        let ranged = [Ranged { liquidity: 100, ..Ranged::new(false, [1, 2], 3_000) }];
        routes.learn(&mixed(&table, &ranged));
        let best = |routes: &Routes, table: &PoolTable| {
            let sale = routes.sell(&mixed(table, &ranged), token(1), token(2), U256::from(UNIT));
            sale.steps[0].step.swap.pool
        };
        assert_eq!(best(&routes, &table), token(102));
        for n in [102, 101] {
            let id = table.find(&token(n)).expect("it is there");
            assert_eq!(best(&routes, &table), token(n));
            table.set_reserves(id, None);
        }
        assert_eq!(best(&routes, &table), ranged[0].address());
        routes.learn(&mixed(&PoolTable::default(), &ranged));
        assert_eq!(best(&routes, &PoolTable::default()), ranged[0].address(), "another table");
    }

    #[test]
    fn pools_of_every_make_are_sold_through_in_any_mix() {
        let mut table = PoolTable::default();
        pool(&mut table, 1, [1, 2], [1_000, 1_000]);
        pool(&mut table, 2, [2, 5], [1_000_000, 1_000_000]);
        let [v3, v4] = [false, true].map(|is_v4| Ranged::new(is_v4, [1, 5], 500 + u32::from(is_v4)));
        let other = Ranged::new(true, [2, 5], 100);
        let market = mixed(&table, &[v3.clone(), v4.clone(), other.clone()]);
        let amount = 100 * UNIT;
        let sale = sell(&market, [1, 2], amount);
        assert_eq!(names(&sale), [name(&v3), name(&other)]);
        let [first, second] = &sale.steps[..] else { panic!("two pools") };
        assert_eq!((first.step.zero_for_one, second.step.zero_for_one), (true, false));
        assert_eq!(first.step.swap.amount_out, second.step.swap.amount_in);
        assert_eq!(second.step.swap.amount_out, sale.amount_out);
        // A hundred of a million, on each.
        assert_eq!((first.price_impact_ppm, second.price_impact_ppm), (100, 100));
        let without = mixed(&table, &[v4]);
        let sale = sell(&without, [1, 2], amount);
        assert_eq!(names(&sale)[1], (Protocol::UniswapV2, token(102), None));
        assert_eq!(sell(&without, [5, 1], amount).steps.len(), 1);
    }

    #[test]
    fn ticks_on_the_way_are_counted_and_a_refused_token_leads_nowhere() {
        let ranges = vec![60, 120, 60_000];
        let deep = Ranged { ranges, liquidity: 1_000, ..Ranged::new(false, [1, 2], 3_000) };
        let refused = [Ranged::new(true, [1, 8], 100), Ranged::new(true, [2, 8], 100)];
        let [one, other] = refused;
        let market = mixed(&PoolTable::default(), &[deep, one, other]);
        for (units, crossings) in [(1, 0), (12, 1), (40, 2)] {
            let sale = sell(&market, [1, 2], units * UNIT);
            assert_eq!((sale.steps.len(), sale.crossings), (1, crossings), "{units}");
        }
        assert!(!sell(&market, [1, 8], UNIT).is_sold);
    }

    #[test]
    fn a_pool_that_refuses_the_greatest_output_is_behind_the_greatest_that_it_takes() {
        let mut table = PoolTable::default();
        pool(&mut table, 1, [1, 5], [1_000_000, 2_000_000]);
        pool(&mut table, 2, [1, 5], [1_000_000, 900_000]);
        pool(&mut table, 3, [1, 5], [1_000_000, 800_000]);
        // It takes some 1,140 of token 5.
        let shallow = Ranged { ranges: vec![60], liquidity: 380_000, ..Ranged::new(false, [2, 5], 3_000) };
        let market = mixed(&table, &[shallow]);
        let first = |amount| sell(&market, [1, 2], amount).steps[0].step.swap.pool;
        assert_eq!(first(100 * UNIT), token(101));
        assert_eq!(first(1_000 * UNIT), token(102));
        assert!(!sell(&market, [1, 2], 2_000 * UNIT).is_sold);
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let mut table = PoolTable::default();
        for number in 0..300u32 {
            let meta = PoolMeta {
                address: Address::from_word(U256::from(number + 1).into()),
                factory: Address::ZERO,
                protocol: Protocol::UniswapV2,
                token0: token(1),
                token1: token(2),
                fee_ppm: 3_000,
            };
            let id = table.insert(meta, true);
            // A hundred for one, and next to nothing of it.
            table.set_reserves(id, Some(Reserves { reserve0: 1_000, reserve1: 100_000 }));
        }
        pool(&mut table, 1, [1, 2], [1_000, 1_000]);
        let sale = sell(&mixed(&table, &[]), [1, 2], UNIT);
        assert_eq!(sale.steps[0].step.swap.pool, token(101));
        assert_eq!(sale.unsearched, 301 - 256);
        // Of three hundred ticks nobody goes over more than some.
        let ranges = (1..300).map(|step| 60 * step).collect();
        let long = Ranged { ranges, liquidity: 1, ..Ranged::new(false, [1, 2], 3_000) };
        let sale = sell(&mixed(&PoolTable::default(), &[long]), [1, 2], 1_000 * UNIT);
        assert!(!sale.is_sold && sale.unsearched == 1, "{sale:?}");
    }
}
