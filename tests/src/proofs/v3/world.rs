//! Random pools: where they stand, and who has liquidity in them.

use alloy_primitives::U256;
use headwater_amm::{MAX_TICK, MIN_TICK, sqrt_price_at_tick};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Fees of V3 and their tick spacings.
const V3_FEES: [(u32, i32); 4] = [(100, 1), (500, 10), (3_000, 60), (10_000, 200)];

/// PancakeSwap's, of which two are Uniswap's.
const PANCAKE_FEES: [(u32, i32); 4] = [(100, 1), (500, 10), (2_500, 50), (10_000, 200)];

/// V4 pools choose both freely.
const V4_FEES: [(u32, i32); 6] =
    [(0, 1), (100, 1), (3_000, 60), (12_345, 7), (650_000, 500), (1_000_000, 32_767)];

/// Where a pool begins.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) fee: u32,
    pub(super) spacing: i32,
    pub(super) sqrt_price: U256,
    pub(super) is_extreme: bool,
    pub(super) protocol_fee: Option<u32>,
    tick: i32,
}

/// One range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub(super) lower: i32,
    pub(super) upper: i32,
    /// What is in it.
    pub(super) delta: i128,
}

impl Place {
    pub(super) fn of_v3(random: &mut ChaCha8Rng) -> Self {
        Self::new(random, &V3_FEES)
    }

    pub(super) fn of_pancake(random: &mut ChaCha8Rng) -> Self {
        Self::new(random, &PANCAKE_FEES)
    }

    pub(super) fn of_v4(random: &mut ChaCha8Rng) -> Self {
        let mut place = Self::new(random, &V4_FEES);
        // The manager takes up to 1000 for each direction.
        let mut fee = || random.random_range(0..=1000u32);
        let packed = fee() | fee() << 12;
        place.protocol_fee = (random.random_range(0..2) == 0).then_some(packed);
        place
    }

    fn new(random: &mut ChaCha8Rng, fees: &[(u32, i32)]) -> Self {
        let (fee, spacing) = fees[random.random_range(0..fees.len())];
        let kind = random.random_range(0..10);
        let tick = match kind {
            0 => MIN_TICK + random.random_range(0..4 * spacing + 4),
            1 => MAX_TICK - 1 - random.random_range(0..4 * spacing + 4),
            2..4 => random.random_range(-880_000..880_000),
            _ => random.random_range(-100_000..100_000),
        };
        let at = |tick| sqrt_price_at_tick(tick).expect("a tick that there is");
        let width = at(tick + 1) - at(tick);
        let part = U256::from(random.random_range(0..1u64 << 32));
        let sqrt_price =
            if random.random_range(0..4) == 0 { at(tick) } else { at(tick) + ((width * part) >> 32usize) };
        Self { fee, spacing, sqrt_price, is_extreme: kind < 2, protocol_fee: None, tick }
    }

    /// Few wide ranges, or a chain of narrow ones with gaps; and sometimes one over everything.
    pub(super) fn positions(&self, random: &mut ChaCha8Rng) -> Vec<Position> {
        let mut positions = Vec::new();
        if random.random_range(0..3) > 0 {
            self.add_chain(random, &mut positions);
        } else {
            self.add_wide(random, &mut positions);
        }
        if random.random_range(0..5) == 0 {
            positions.push(self.position(random, MIN_TICK, MAX_TICK));
        }
        positions.retain(|position| position.lower < position.upper);
        positions
    }

    fn add_chain(&self, random: &mut ChaCha8Rng, positions: &mut Vec<Position>) {
        let (length, scale) = (random.random_range(20..70), 1 << random.random_range(0..6));
        let mut lower = self.tick - random.random_range(0..length) * self.spacing * scale;
        for _ in 0..length {
            let width = self.spacing * random.random_range(1..=scale);
            if random.random_range(0..6) > 0 {
                positions.push(self.position(random, lower, lower + width));
            }
            lower += width;
        }
    }

    fn add_wide(&self, random: &mut ChaCha8Rng, positions: &mut Vec<Position>) {
        for _ in 0..random.random_range(1..25) {
            let width = self.spacing.saturating_mul(1 << random.random_range(0..12)).min(MAX_TICK);
            let offset = random.random_range(-3 * width..=2 * width);
            let lower = self.tick + offset;
            let upper = lower + random.random_range(1..=width);
            positions.push(self.position(random, lower, upper));
        }
    }

    fn position(&self, random: &mut ChaCha8Rng, lower: i32, upper: i32) -> Position {
        let highest = MAX_TICK / self.spacing * self.spacing;
        let align = |tick: i32| (tick.div_euclid(self.spacing) * self.spacing).clamp(-highest, highest);
        let (lower, upper) = (align(lower), align(upper.saturating_add(self.spacing - 1)));
        Position { lower, upper, delta: liquidity(random) }
    }
}

impl Position {
    /// More, a part of it, or all of it out.
    pub(super) fn another(&self, random: &mut ChaCha8Rng) -> i128 {
        match random.random_range(0..3) {
            0 if self.delta > 0 => -self.delta,
            1 if self.delta > 1 => -random.random_range(1..self.delta),
            _ => liquidity(random),
        }
    }
}

/// Of any order of magnitude.
fn liquidity(random: &mut ChaCha8Rng) -> i128 {
    let bits = random.random_range(10..96);
    random.random_range(1..1i128 << bits)
}
