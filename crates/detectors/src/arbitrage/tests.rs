use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_events::{AsOf, DecodedBlock, Protocol};
use headwater_market::{Head, MarketSnapshot, PoolMeta, PoolTable, PriceSnapshot, Reserves, TokenPrice};
use headwater_reference::arbitrage as reference;
use headwater_reference::arbitrage::{Market, Pool, Swap};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const GWEI: u64 = 1_000_000_000;

fn token(n: u8) -> Address {
    Address::repeat_byte(n)
}

fn pool(n: u8, token0: u8, token1: u8, reserve0: u128, reserve1: u128) -> Pool {
    let (token0, token1, address) = (token(token0), token(token1), Address::repeat_byte(100 + n));
    Pool { address, token0, token1, reserve0, reserve1, fee_ppm: 3000 }
}

fn insert(table: &mut PoolTable, pool: &Pool) -> PoolId {
    let meta = PoolMeta {
        address: pool.address,
        factory: Address::ZERO,
        protocol: Protocol::UniswapV2,
        token0: pool.token0,
        token1: pool.token1,
        fee_ppm: pool.fee_ppm,
    };
    let id = table.insert(meta, true);
    table.set_reserves(id, Some(Reserves { reserve0: pool.reserve0, reserve1: pool.reserve1 }));
    id
}

fn table(pools: &[Pool]) -> PoolTable {
    let mut table = PoolTable::default();
    for pool in pools {
        insert(&mut table, pool);
    }
    table
}

/// A block with these pools. The base fee is at its target, so that the next one equals it.
fn view(
    number: u64,
    pools: &PoolTable,
    touched: Touched,
    base_fee: Option<u64>,
    prices: &[(Address, Price)],
) -> WholeView {
    let as_of = AsOf { seq: number, number, hash: U256::from(number + 1).into() };
    let quote = token(1);
    let head = Head { timestamp: 0, base_fee_per_gas: base_fee, gas_used: 15_000_000, gas_limit: 30_000_000 };
    let market = MarketSnapshot::of_pools(as_of, head, pools.clone());
    let mut snapshot =
        PriceSnapshot { as_of, quote, prices: Default::default(), sources: Default::default() };
    for (token, price) in prices {
        let known = TokenPrice { price: *price, source: Address::ZERO, changed_at: number, changed_at_s: 0 };
        let place = snapshot.prices.place(*token);
        snapshot.prices.set(place, Some(known));
    }
    let decoded = DecodedBlock {
        as_of,
        actions: Vec::new(),
        unknown_logs: 0,
        unknown_calls: 0,
        malformed: 0,
        set_aside: false,
    };
    WholeView::new(Arc::new(market), Arc::new(snapshot), Arc::new(decoded), touched).expect("one block")
}

/// Everything that gains, whatever gas costs.
fn gross() -> ArbitrageConfig {
    ArbitrageConfig { profit_after_gas: false, ..ArbitrageConfig::default() }
}

fn evaluate(
    config: ArbitrageConfig,
    bases: &[u8],
    pools: &[Pool],
    fee: Option<u64>,
    prices: &[(Address, Price)],
) -> Vec<Opportunity> {
    let mut detector = Arbitrage::new(config, bases.iter().copied().map(token).collect());
    detector.evaluate(&view(1, &table(pools), Touched::All, fee, prices))
}

/// The cycles found, as the pools' numbers in order.
fn cycles(config: ArbitrageConfig, bases: &[u8], pools: &[Pool]) -> Vec<Vec<u8>> {
    let found = evaluate(config, bases, pools, Some(GWEI), &[]);
    let mut cycles: Vec<Vec<u8>> =
        found.iter().map(|found| found.path.iter().map(|pool| pool[0] - 100).collect()).collect();
    cycles.sort();
    cycles
}

const M: u128 = 1_000_000_000;

#[test]
fn cycles_are_found_from_the_first_base_token_that_they_contain() {
    let check = |bases: &[u8], pools: &[Pool], expected: &[&[u8]]| {
        assert_eq!(cycles(gross(), bases, pools), expected, "{bases:?} in {pools:?}");
    };
    let pair = [pool(1, 1, 2, M, M), pool(2, 1, 2, M, M + M / 10)];
    check(&[1], &pair, &[&[2, 1]]);
    check(&[2], &pair, &[&[1, 2]]);
    check(&[2, 1], &pair, &[&[1, 2]]);
    check(&[1, 2], &pair, &[&[2, 1]]);
    check(&[3], &pair, &[]);
    check(&[], &pair, &[]);
    let triangle = [pool(1, 1, 2, M, M), pool(2, 2, 3, M, M), pool(3, 1, 3, M + M / 5, M)];
    check(&[1], &triangle, &[&[1, 2, 3]]);
    check(&[2], &triangle, &[&[2, 3, 1]]);
    check(&[3], &triangle, &[&[3, 1, 2]]);
    check(&[3, 2], &triangle, &[&[3, 1, 2]]);
    check(&[1, 2, 3], &triangle, &[&[1, 2, 3]]);
    let doubled = [triangle[0], triangle[1], triangle[2], pool(4, 2, 3, M, M + M / 50)];
    check(&[1], &doubled, &[&[1, 2, 3], &[1, 4, 3]]);
    check(&[2], &doubled, &[&[2, 3, 1], &[4, 2], &[4, 3, 1]]);
}

#[test]
fn what_may_not_be_quoted_is_not() {
    let pools = [pool(1, 1, 2, M, M), pool(2, 1, 2, M, M + M / 10)];
    let check = |change: &dyn Fn(&mut PoolTable), expected: usize| {
        let mut table = table(&pools);
        change(&mut table);
        let mut detector = Arbitrage::new(gross(), vec![token(1)]);
        assert_eq!(detector.evaluate(&view(1, &table, Touched::All, None, &[])).len(), expected);
    };
    let set = |table: &mut PoolTable, held: Option<(u128, u128)>| {
        table.set_reserves(PoolId(1), held.map(|(reserve0, reserve1)| Reserves { reserve0, reserve1 }));
    };
    check(&|_| {}, 1);
    check(&|table| table.set_admitted(PoolId(0), false), 0);
    check(&|table| set(table, None), 0);
    check(&|table| set(table, Some((0, M))), 0);
    check(&|table| set(table, Some((M, 1 << 112))), 0);
}

#[test]
fn cycles_of_three_are_searched_only_where_configured() {
    let triangle = [pool(1, 1, 2, M, M), pool(2, 2, 3, M, M), pool(3, 1, 3, M + M / 5, M)];
    let config = ArbitrageConfig { max_hops: crate::MaxHops::TWO, ..gross() };
    assert_eq!(cycles(config, &[1], &triangle), Vec::<Vec<u8>>::new());
}

#[test]
fn a_finding_says_what_is_needed_to_act_on_it() {
    let ether = 10u128.pow(18);
    let pools = [pool(1, 1, 2, 1_000 * ether, 1_000 * ether), pool(2, 1, 2, 1_000 * ether, 1_100 * ether)];
    let found = evaluate(ArbitrageConfig::default(), &[1], &pools, Some(GWEI), &[]);
    let [found] = &found[..] else { panic!("one finding, not {found:?}") };
    assert_eq!(found.kind, Kind::Arbitrage);
    assert_eq!(found.path, [pools[1].address, pools[0].address]);
    assert_eq!(found.tokens, [token(1), token(2), token(1)]);
    assert_eq!(found.amount_out - found.amount_in, found.profit);
    assert_eq!((found.gas, found.valid_until, found.as_of.number), (180_000, 2, 1));
    let gas = I256::try_from(180_000 * GWEI).expect("it fits");
    assert_eq!(found.net_profit_wei, Some(I256::try_from(found.profit).expect("it fits") - gas));
    let Plan::Swaps(steps) = &found.plan else { panic!("swaps, not {:?}", found.plan) };
    assert_eq!((steps[0].amount_in, steps[1].amount_out), (found.amount_in, found.amount_out));
    assert_eq!(steps[0].amount_out, steps[1].amount_in);
    assert_eq!((steps[0].token_in, steps[0].token_out), (token(1), token(2)));
}

#[test]
fn what_gas_leaves_decides_what_is_reported() {
    let ether = 10u128.pow(18);
    // Gains 0.0169 of the base token for a gas of 180,000.
    let pools = [pool(1, 1, 2, 100 * ether, 100 * ether), pool(2, 1, 2, 100 * ether, 102 * ether)];
    let gain = evaluate(gross(), &[1], &pools, None, &[])[0].profit;
    let price = |numerator: u32, denominator: u32| Price {
        quote: token(1),
        mantissa: Price::unit(token(1)).mantissa * U256::from(numerator) / U256::from(denominator),
    };
    let after_gas = |least: U256| ArbitrageConfig { min_net_profit_wei: least, ..ArbitrageConfig::default() };
    let check = |config: ArbitrageConfig,
                 base: u8,
                 fee: Option<u64>,
                 prices: &[(Address, Price)],
                 expected: usize| {
        let found = evaluate(config.clone(), &[base], &pools, fee, prices);
        assert_eq!(found.len(), expected, "{config:?}, base {base}, fee {fee:?}: {found:?}");
    };
    let break_even = u64::try_from(gain / U256::from(180_000)).expect("it fits");
    check(after_gas(U256::ZERO), 1, None, &[], 1);
    check(after_gas(U256::ZERO), 1, Some(break_even), &[], 1);
    check(after_gas(U256::ZERO), 1, Some(break_even + 1), &[], 0);
    check(gross(), 1, Some(break_even + 1), &[], 1);
    check(after_gas(gain), 1, None, &[], 1);
    check(after_gas(gain + U256::ONE), 1, None, &[], 0);
    check(after_gas(U256::MAX), 1, Some(GWEI), &[], 0);
    // The same cycle counted in the other token: without a price nobody can say what it is worth.
    check(after_gas(U256::ZERO), 2, Some(1), &[], 0);
    check(gross(), 2, Some(1), &[], 1);
    check(after_gas(U256::ZERO), 2, Some(1), &[(token(2), price(1, 1))], 1);
    check(after_gas(U256::ZERO), 2, Some(break_even / 2), &[(token(2), price(1, 3))], 0);
    check(after_gas(U256::ZERO), 2, Some(break_even * 2), &[(token(2), price(3, 1))], 1);
    check(after_gas(U256::ZERO), 2, None, &[(token(2), price(0, 1))], 0);
}

#[test]
fn the_least_profit_is_exactly_where_the_net_profit_reaches_the_minimum() {
    let config = ArbitrageConfig { min_net_profit_wei: U256::from(12_345), ..ArbitrageConfig::default() };
    let worth = Worth { config: &config, next_base_fee: 7, bases: Vec::new() };
    let gas = config.gas([Protocol::UniswapV2; 2], 0);
    let unit = Price::unit(token(1)).mantissa;
    for mantissa in
        [unit, unit / U256::from(3), unit * U256::from(1_000_003) / U256::from(17), U256::from(1u64 << 60)]
    {
        let price = Price { quote: token(1), mantissa };
        let Some(least) = worth.least_profit(price, gas) else { continue };
        let net =
            |profit: u128| price.value(U256::from(profit)).expect("it fits").checked_sub(worth.cost(gas));
        assert!(net(least) >= Some(config.min_net_profit_wei), "{mantissa}");
        assert!(net(least - 1) < Some(config.min_net_profit_wei), "{mantissa}");
    }
}

#[test]
fn findings_are_sorted_best_first_and_the_same_however_they_came_about() {
    let pools = [
        pool(1, 1, 2, M, M),
        pool(2, 1, 2, M, M + M / 10),
        pool(3, 1, 3, M, M),
        pool(4, 1, 3, M, M + M / 4),
        pool(5, 2, 3, M, M),
    ];
    let found = evaluate(gross(), &[1, 2], &pools, None, &[]);
    assert!(found.len() > 3);
    let nets: Vec<_> = found.iter().map(|found| found.net_profit_wei).collect();
    assert!(nets.is_sorted_by(|a, b| a >= b), "{nets:?}");
    // Inserted the other way round, the pools have other ids.
    let reversed: Vec<_> = pools.iter().rev().copied().collect();
    assert_eq!(evaluate(gross(), &[1, 2], &reversed, None, &[]), found);
}

/// What must agree with the reference: nothing is missing beyond dust, nothing is invented, and every amount is exact.
fn check_against_the_reference(found: &[Opportunity], pools: &[Pool], bases: &[Address]) -> usize {
    let by_path: BTreeMap<_, _> = found.iter().map(|found| ((&found.path, &found.tokens), found)).collect();
    assert_eq!(by_path.len(), found.len(), "a cycle is reported twice");
    let truth = reference::search(pools, bases, 3);
    for cycle in &truth {
        let found = by_path.get(&(&cycle.path, &cycle.tokens)).map_or(0, |found| found.profit.to::<u128>());
        assert!(found + 2 >= cycle.profit && found <= cycle.ceiling, "{found}, not {cycle:?}");
    }
    let known: BTreeMap<_, _> = truth.iter().map(|cycle| ((&cycle.path, &cycle.tokens), cycle)).collect();
    let by_address: BTreeMap<_, _> = pools.iter().map(|pool| (pool.address, pool)).collect();
    for found in found {
        let dust = found.profit <= U256::from(2);
        assert!(dust || known.contains_key(&(&found.path, &found.tokens)), "invented: {found:?}");
        let Plan::Swaps(steps) = &found.plan else { panic!("swaps, not {:?}", found.plan) };
        for step in steps {
            let pool = by_address[&step.pool];
            let (reserve_in, reserve_out) = if step.token_in == pool.token0 {
                (pool.reserve0, pool.reserve1)
            } else {
                (pool.reserve1, pool.reserve0)
            };
            let swap = Swap { reserve_in, reserve_out, fee_ppm: pool.fee_ppm };
            assert_eq!(swap.output(step.amount_in.to()).map(U256::from), Some(step.amount_out));
        }
    }
    truth.len()
}

#[test]
fn every_cycle_of_the_reference_is_found_block_after_block() {
    let mut compared = 0;
    for seed in 0..4 {
        let mut market = Market::new(seed, 40);
        let mut table = table(&market.pools);
        let mut detector = Arbitrage::new(gross(), market.bases.clone());
        let mut touched = Touched::All;
        for number in 1..=8 {
            let found = detector.evaluate(&view(number, &table, touched, Some(GWEI), &[]));
            compared += check_against_the_reference(&found, &market.pools, &market.bases);
            let changed = market.trade();
            for index in &changed {
                let Pool { reserve0, reserve1, .. } = market.pools[*index];
                table.set_reserves(PoolId(*index as u32), Some(Reserves { reserve0, reserve1 }));
            }
            touched = Touched::Pools(changed.into_iter().map(|index| PoolId(index as u32)).collect());
        }
    }
    assert!(compared > 500, "only {compared} cycles compared");
}

/// Changes some pools at random: reserves, admission, reserves forgotten, new pools. Says which.
fn disturb(table: &mut PoolTable, spare: &mut Vec<Pool>, random: &mut impl Rng) -> Vec<PoolId> {
    let mut touched = Vec::new();
    for _ in 0..random.random_range(0..5) {
        let id = PoolId(random.random_range(0..table.len() as u32));
        match random.random_range(0..20) {
            0 => table.set_admitted(id, false),
            1..=2 => table.set_admitted(id, true),
            3 => {
                table.set_reserves(id, None);
            }
            _ => {
                let mut shaken = |reserve: u128| reserve / 1000 * random.random_range(970..1030) + 1;
                let held = table.reserves(id).unwrap_or(Reserves { reserve0: M, reserve1: M });
                let held = Reserves { reserve0: shaken(held.reserve0), reserve1: shaken(held.reserve1) };
                table.set_reserves(id, Some(held));
            }
        }
        touched.push(id);
    }
    if random.random_range(0..10) == 0 {
        touched.extend(spare.pop().map(|pool| insert(table, &pool)));
    }
    touched.sort_unstable();
    touched.dedup();
    touched
}

#[test]
fn re_examining_what_was_touched_gives_what_a_full_examination_gives() {
    let (mut blocks_with_findings, mut findings) = (0, 0);
    for seed in 0..6 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let market = Market::new(seed, 60);
        let (mut table, mut spare) = (table(&market.pools[..30]), market.pools[30..].to_vec());
        let mut incremental = Arbitrage::new(gross(), market.bases.clone());
        let mut touched = Touched::All;
        for number in 1..=150 {
            // Now and then a block is skipped, and what it touched is examined with the next.
            if random.random_range(0..5) > 0 {
                let full = Arbitrage::new(gross(), market.bases.clone()).evaluate(&view(
                    number,
                    &table,
                    Touched::All,
                    None,
                    &[],
                ));
                let found = incremental.evaluate(&view(number, &table, touched, None, &[]));
                assert_eq!(found, full, "seed {seed}, block {number}");
                (blocks_with_findings, findings) =
                    (blocks_with_findings + usize::from(!full.is_empty()), findings + full.len());
                touched = Touched::Pools(Vec::new());
            }
            let more = disturb(&mut table, &mut spare, &mut random);
            if let Touched::Pools(ids) = &mut touched {
                ids.extend(more);
                ids.sort_unstable();
                ids.dedup();
            }
        }
    }
    assert!(
        blocks_with_findings > 300 && findings > 3_000,
        "{blocks_with_findings} blocks, {findings} findings"
    );
}

#[test]
fn what_is_touched_and_what_is_not_are_told_apart() {
    // A detector that is told of no change reports what it knew: it does not look where nothing is said to have happened.
    let pools = [pool(1, 1, 2, M, M), pool(2, 1, 2, M, M + M / 10)];
    let mut table = table(&pools);
    let mut detector = Arbitrage::new(gross(), vec![token(1)]);
    assert_eq!(detector.evaluate(&view(1, &table, Touched::All, None, &[])).len(), 1);
    table.set_reserves(PoolId(1), Some(Reserves { reserve0: M, reserve1: M }));
    assert_eq!(detector.evaluate(&view(2, &table, Touched::Pools(vec![]), None, &[])).len(), 1);
    assert_eq!(detector.evaluate(&view(3, &table, Touched::Pools(vec![PoolId(0)]), None, &[])).len(), 1);
    assert_eq!(detector.evaluate(&view(4, &table, Touched::Pools(vec![PoolId(1)]), None, &[])).len(), 0);
    assert_eq!(detector.standing(), 0);
}

mod mixed;
