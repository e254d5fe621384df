//! A quote, the closed form and the sizing of a cycle.

use std::hint::black_box;

use alloy_primitives::U256;
use criterion::{Criterion, criterion_group, criterion_main};
use headwater_amm::{Fee, Hop, is_profitable, size_cycle};

const ETHER: u128 = 1_000_000_000_000_000_000;
const USDC: u128 = 1_000_000;

fn hop(reserve_in: u128, reserve_out: u128) -> Hop {
    Hop::new(reserve_in, reserve_out, Fee::UNISWAP_V2).expect("reserves within uint112")
}

fn amm(criterion: &mut Criterion) {
    let pool = hop(1_000 * ETHER, 3_000_000 * USDC);
    criterion.bench_function("quote", |b| b.iter(|| black_box(pool).quote(black_box(3 * ETHER))));
    let amount = U256::from(3 * ETHER);
    criterion.bench_function("amount_out", |b| b.iter(|| black_box(pool).amount_out(black_box(amount))));
    criterion.bench_function("log_rate", |b| b.iter(|| black_box(pool).log_rate()));
    let cycles = [
        ("2 hops", vec![hop(1_000 * ETHER, 3_100_000 * USDC), hop(6_000_000 * USDC, 2_000 * ETHER)]),
        (
            "3 hops",
            vec![
                hop(1_000 * ETHER, 500_000 * ETHER),
                hop(90_000 * ETHER, 30_000 * ETHER),
                hop(40_000 * ETHER, 250 * ETHER),
            ],
        ),
        (
            "3 hops, two coarse tokens",
            vec![
                hop(1_000 * ETHER, 3_100_000 * USDC),
                hop(5_000_000 * USDC, 5_010_000 * USDC),
                hop(6_000_000 * USDC, 2_010 * ETHER),
            ],
        ),
        ("3 hops that lose", vec![hop(ETHER, ETHER), hop(ETHER, ETHER), hop(ETHER, ETHER)]),
    ];
    for (name, hops) in cycles {
        criterion.bench_function(&format!("is_profitable, {name}"), |b| {
            b.iter(|| is_profitable(black_box(&hops)))
        });
        criterion.bench_function(&format!("size_cycle, {name}"), |b| b.iter(|| size_cycle(black_box(&hops))));
    }
}

criterion_group!(benches, amm);
criterion_main!(benches);
