//! Random orders of every kind.

use alloy_primitives::U256;
use headwater_amm::{
    ConcentratedPool, Direction, MAX_SQRT_PRICE, MAX_TICK, MIN_SQRT_PRICE, MIN_TICK, Segment,
    sqrt_price_at_tick,
};
use headwater_reference::pools::Order;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// The deepest swap that is asked for.
const DEEPEST: usize = 51;

pub(super) fn order(random: &mut ChaCha8Rng, pool: &ConcentratedPool) -> Order {
    let mut direction = either(random, Direction::ZeroForOne, Direction::OneForZero);
    let mut segments = ahead(pool, direction);
    if segments.is_empty() {
        direction = opposite(direction);
        segments = ahead(pool, direction);
    }
    let zero_for_one = direction == Direction::ZeroForOne;
    let is_exact_in = random.random_range(0..2) == 0;
    let sqrt_price_limit = limit(random, pool, zero_for_one);
    Order { zero_for_one, amount: amount(random, &segments, is_exact_in), is_exact_in, sqrt_price_limit }
}

fn ahead(pool: &ConcentratedPool, direction: Direction) -> Vec<Segment> {
    pool.segments(direction).take(DEEPEST).collect()
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::ZeroForOne => Direction::OneForZero,
        Direction::OneForZero => Direction::ZeroForOne,
    }
}

/// Dust, more than there is, or through some segments and a part of the next.
fn amount(random: &mut ChaCha8Rng, segments: &[Segment], is_exact_in: bool) -> U256 {
    match random.random_range(0..20) {
        0 => return U256::from(random.random_range(0..4u32)),
        1 => return U256::from(random.random_range(1..=u128::MAX)) << random.random_range(0..127usize),
        _ => {}
    }
    let of = |segment: &Segment| if is_exact_in { segment.amount_in } else { segment.amount_out };
    let deepest = segments.len().min(if random.random_range(0..3) == 0 { 2 } else { DEEPEST });
    let count = random.random_range(0..=deepest);
    let whole = segments[..count].iter().map(of).fold(U256::ZERO, |sum, amount| sum.saturating_add(amount));
    let next = segments.get(count).map_or(U256::ZERO, of);
    let part = match random.random_range(0..8) {
        // Just to a tick, and a unit about it.
        0 => U256::ZERO,
        1 => U256::ONE,
        2 => return whole.saturating_sub(U256::ONE),
        _ => {
            let share = U256::from(random.random_range(0..1u64 << 32));
            let high = (next >> 32usize).saturating_mul(share);
            high.saturating_add(((next & U256::from(u32::MAX)) * share) >> 32usize).max(U256::ONE)
        }
    };
    whole.saturating_add(part)
}

/// Mostly as far as it goes; else at a tick, at the end of a word of the bitmap, near one, anywhere; and sometimes behind.
fn limit(random: &mut ChaCha8Rng, pool: &ConcentratedPool, zero_for_one: bool) -> U256 {
    let farthest = if zero_for_one { MIN_SQRT_PRICE + U256::ONE } else { MAX_SQRT_PRICE - U256::ONE };
    let Some(here) = pool.price().map(|price| price.tick) else { return farthest };
    let sign = if zero_for_one { -1 } else { 1 };
    let bits = random.random_range(1..20);
    let away = random.random_range(0..1 << bits) * sign;
    let word = 256 * pool.tick_spacing();
    let near = match random.random_range(0..24) {
        0 => here + away,
        1 => (here + away).div_euclid(word) * word,
        2 => (here + away).div_euclid(word) * word - pool.tick_spacing(),
        3 | 4 => {
            let ticks: Vec<_> = pool.ticks().map(|tick| tick.index).collect();
            if ticks.is_empty() { here } else { ticks[random.random_range(0..ticks.len())] }
        }
        5 => here - sign * random.random_range(0..100),
        6 => return either(random, MIN_SQRT_PRICE, MAX_SQRT_PRICE),
        _ => return farthest,
    };
    let exact = sqrt_price_at_tick(near.clamp(MIN_TICK, MAX_TICK)).expect("a tick that there is");
    match random.random_range(0..4) {
        0 => exact + U256::ONE,
        1 => exact - U256::ONE,
        _ => exact,
    }
}

fn either<T>(random: &mut ChaCha8Rng, one: T, other: T) -> T {
    if random.random_range(0..2) == 0 { one } else { other }
}
