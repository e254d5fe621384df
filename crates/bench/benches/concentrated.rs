//! Quotes of concentrated liquidity, and our full-width division against the library's.

use std::hint::black_box;

use alloy_primitives::{U256, U512};
use criterion::{Criterion, criterion_group, criterion_main};
use headwater_amm::{
    ConcentratedPool, Direction, Effort, Fee, Hop, MixedHop, PoolEvent, PoolPrice, SwapFee, Version, mul_div,
    size_mixed_cycle, sqrt_price_at_tick, tick_at_sqrt_price,
};

/// Where the pool stands: about USDC in WETH.
const TICK: i32 = 200_001;

fn price(tick: i32) -> U256 {
    sqrt_price_at_tick(tick).expect("a tick that there is")
}

/// By the product and the quotient of 512 bits that the library has.
fn library(a: U256, b: U256, divisor: U256) -> U256 {
    let product: U512 = a.widening_mul(b);
    (product / U512::from(divisor)).to()
}

fn division(criterion: &mut Criterion) {
    let liquidity = U256::from(123_456_789_012_345_678_901_234_567u128) << 96;
    let near = liquidity + U256::from(987_654_321_987_654_321u64) * price(TICK);
    let cases = [
        ("384 by 256 bits", liquidity, price(TICK), near),
        ("512 by 256 bits", U256::MAX - U256::from(5), U256::MAX >> 3, U256::MAX >> 2),
        ("384 by 160 bits", liquidity, price(TICK + 10) - price(TICK), price(TICK + 10)),
    ];
    for (name, a, b, divisor) in cases {
        assert_eq!(mul_div(a, b, divisor), Some(library(a, b, divisor)));
        criterion.bench_function(&format!("mul_div, {name}, ours"), |bench| {
            bench.iter(|| mul_div(black_box(a), black_box(b), black_box(divisor)))
        });
        criterion.bench_function(&format!("mul_div, {name}, the library's"), |bench| {
            bench.iter(|| library(black_box(a), black_box(b), black_box(divisor)))
        });
    }
    criterion
        .bench_function("sqrt_price_at_tick", |bench| bench.iter(|| sqrt_price_at_tick(black_box(TICK))));
    let between = price(TICK) + U256::from(1_000_000);
    criterion
        .bench_function("tick_at_sqrt_price", |bench| bench.iter(|| tick_at_sqrt_price(black_box(between))));
}

/// Eighty ticks, forty on each side of the price.
fn pool() -> ConcentratedPool {
    let (spacing, middle) = (10, TICK / 10 * 10);
    let mut pool = ConcentratedPool::new(Version::V3, SwapFee::of_lp(500), spacing).expect("a pool");
    let sqrt_price = price(TICK) + U256::from(123_456_789);
    let mut follow = |event| pool.apply(&event).expect("an event of this pool");
    follow(PoolEvent::Initialized(PoolPrice { sqrt_price, tick: TICK }));
    for count in 1..=40 {
        let (lower, upper) = (middle - 2 * count * spacing, middle + 2 * count * spacing);
        follow(PoolEvent::LiquidityChanged { lower, upper, delta: 10i128.pow(18) });
    }
    pool
}

fn quotes(criterion: &mut Criterion) {
    let pool = pool();
    for direction in [Direction::ZeroForOne, Direction::OneForZero] {
        let segments: Vec<_> = pool.segments(direction).collect();
        for crossings in [0, 1, 5, 20] {
            let through: U256 = segments[..crossings].iter().map(|segment| segment.amount_in).sum();
            let amount_in = through + (segments[crossings].amount_in >> 1);
            let quote = pool.exact_in(direction, amount_in, None).expect("a quote");
            assert_eq!(quote.crossings as usize, crossings);
            criterion.bench_function(&format!("exact_in, {direction:?}, {crossings} crossings"), |bench| {
                bench.iter(|| black_box(&pool).exact_in(direction, black_box(amount_in), None))
            });
            let amount_out = quote.amount_out;
            criterion.bench_function(&format!("exact_out, {direction:?}, {crossings} crossings"), |bench| {
                bench.iter(|| black_box(&pool).exact_out(direction, black_box(amount_out), None))
            });
        }
        criterion.bench_function(&format!("segments, {direction:?}, {}", segments.len()), |bench| {
            bench.iter(|| black_box(&pool).segments(direction).count())
        });
    }
    criterion.bench_function("a change of liquidity after a clone", |bench| {
        bench.iter(|| {
            let mut next = black_box(&pool).clone();
            let (lower, upper) = (TICK / 10 * 10 - 20, TICK / 10 * 10 + 20);
            next.apply(&PoolEvent::LiquidityChanged { lower, upper, delta: 1 }).expect("it fits");
            next
        })
    });
}

/// A pool with liquidity around a price, in fifty ranges.
fn ranges(tick: i32, liquidity: i128, fee: u32) -> ConcentratedPool {
    let spacing = 10;
    let mut pool = ConcentratedPool::new(Version::V3, SwapFee::of_lp(fee), spacing).expect("a pool");
    let mut follow = |event| pool.apply(&event).expect("an event of this pool");
    follow(PoolEvent::Initialized(PoolPrice { sqrt_price: price(tick) + U256::from(123_456_789), tick }));
    let middle = tick / spacing * spacing;
    for count in 1..=50 {
        let (lower, upper) = (middle - 2 * count * spacing, middle + 2 * count * spacing);
        follow(PoolEvent::LiquidityChanged { lower, upper, delta: liquidity });
    }
    pool
}

/// The first two begin with WETH and go through USDC; of the last one every token has six decimals and little value, so that roundings
/// take a large part of the gain.
fn sizing(criterion: &mut Criterion) {
    let (eth, usdc) = (10u128.pow(18), 10u128.pow(6));
    let [into, stable] = [ranges(-195_000, 10i128.pow(15), 500), ranges(20, 10i128.pow(12), 500)];
    let out = ranges(195_090, 10i128.pow(15), 500);
    let coarse = [ranges(30, 10i128.pow(6), 100), ranges(20, 10i128.pow(6), 100)];
    let mut dust = ConcentratedPool::new(Version::V3, SwapFee::of_lp(500), 1).expect("a pool");
    for event in [
        PoolEvent::Initialized(PoolPrice { sqrt_price: price(-100_000), tick: -100_000 }),
        PoolEvent::LiquidityChanged { lower: -887_272, upper: 887_272, delta: 10i128.pow(13) },
    ] {
        dust.apply(&event).expect("an event of this pool");
    }
    let back = |usdc_in, eth_out| {
        MixedHop::ConstantProduct(Hop::new(usdc_in, eth_out, Fee::UNISWAP_V2).expect("reserves"))
    };
    let v3 = |pool| MixedHop::Concentrated(pool, Direction::ZeroForOne);
    for (name, hops) in [
        ("2 hops", vec![v3(&into), back(3_300_000 * usdc, 1_000 * eth)]),
        ("3 hops, two coarse tokens", vec![v3(&into), v3(&stable), back(3_390_000 * usdc, 1_000 * eth)]),
        ("3 hops of V3, two coarse tokens", vec![v3(&into), v3(&stable), v3(&out)]),
        ("2 hops, one of dust over all prices", vec![v3(&dust), back(10u128.pow(13), eth)]),
        ("3 hops, coarse tokens alone", vec![v3(&coarse[0]), v3(&coarse[1]), back(100 * usdc, 101 * usdc)]),
        ("2 hops that lose", vec![v3(&into), back(3_500_000 * usdc, 1_000 * eth)]),
    ] {
        for effort in [Effort::Brief, Effort::Thorough] {
            assert_eq!(size_mixed_cycle(&hops, effort).is_none(), name.ends_with("lose"), "{name}");
            criterion.bench_function(&format!("size_mixed_cycle, {effort:?}, {name}"), |bench| {
                bench.iter(|| size_mixed_cycle(black_box(&hops), effort))
            });
        }
    }
}

criterion_group!(benches, division, quotes, sizing);
criterion_main!(benches);
