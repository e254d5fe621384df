//! Random exchanges that share their tokens.

use alloy_primitives::U256;
use anyhow::Context;
use headwater_amm::{
    ConcentratedPool, Direction, Fee, Hop, MAX_TICK, MixedHop, PoolEvent, PoolPrice, SwapFee, Version,
    sqrt_price_at_tick,
};
use headwater_reference::formulas::{Formula, Way};
use headwater_reference::pools::{Code, Several};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::Mix;

/// Decimals, and the price of a whole one in dollars.
const TOKENS: [(i32, f64); 8] =
    [(18, 3_000.0), (6, 1.0), (6, 0.9996), (8, 90_000.0), (18, 1.0), (18, 15.0), (18, 0.000_02), (9, 0.4)];

const V3_FEES: [(u32, i32); 4] = [(100, 1), (500, 10), (3_000, 60), (10_000, 200)];
const V4_FEES: [(u32, i32); 5] = [(0, 1), (100, 1), (450, 7), (3_000, 60), (12_345, 90)];

/// One hop of a cycle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leg {
    pub(super) pool: usize,
    pub(super) zero_for_one: bool,
    pub(super) token_in: usize,
}

/// The contracts' pools as Headwater has them, and the judge.
pub(super) struct World {
    /// By the place of the token.
    kinds: Vec<(i32, f64)>,
    pools: Vec<Known>,
}

struct Known {
    tokens: [usize; 2],
    pool: Pool,
    /// The judge's.
    formula: Formula,
}

enum Pool {
    Pair([u128; 2]),
    Concentrated(ConcentratedPool),
}

impl Pool {
    /// By the place in a [`Mix`].
    fn kind(&self) -> usize {
        match self {
            Self::Pair(_) => 0,
            Self::Concentrated(pool) if pool.version() == Version::V3 => 1,
            Self::Concentrated(_) => 2,
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pools = self.pools.iter().map(|known| match &known.pool {
            Pool::Pair(reserves) => format!("{:?} {reserves:?}", known.tokens),
            Pool::Concentrated(pool) => {
                let (price, ticks) = (pool.price(), pool.ticks().count());
                format!(
                    "{:?} {:?} {price:?} {ticks} ticks {}",
                    known.tokens,
                    pool.version(),
                    pool.liquidity()
                )
            }
        });
        f.debug_struct("World")
            .field("tokens", &self.kinds)
            .field("pools", &pools.collect::<Vec<_>>())
            .finish()
    }
}

impl World {
    /// Three to five tokens, and between any two of them a pool of each kind; a quarter of them is missing.
    pub(super) fn create(random: &mut ChaCha8Rng, code: &Code<'_>) -> anyhow::Result<(Several, Self)> {
        let count = random.random_range(3..=5);
        let mut kinds = TOKENS.to_vec();
        kinds.shuffle(random);
        kinds.truncate(count);
        let (mut real, mut world) = (Several::create(code, count)?, Self { kinds, pools: Vec::new() });
        for token0 in 0..count {
            for token1 in token0 + 1..count {
                for version in [None, Some(Version::V3), Some(Version::V4)] {
                    if random.random_range(0..4) > 0 {
                        world.add(random, &mut real, [token0, token1], version)?;
                    }
                }
            }
        }
        Ok((real, world))
    }

    /// Of two to four pools, not all of them pairs; half of the time of certain kinds only, since chance seldom makes those.
    pub(super) fn cycle(&self, random: &mut ChaCha8Rng) -> Vec<Leg> {
        loop {
            let allowed = if random.random() { [true; 3] } else { random.random() };
            let length = random.random_range(2..=self.kinds.len().min(4));
            let mut tokens: Vec<usize> = (0..self.kinds.len()).collect();
            tokens.shuffle(random);
            tokens.truncate(length);
            let legs = self.close(random, &tokens, allowed);
            let has_ticks = |leg: &Leg| matches!(self.pools[leg.pool].pool, Pool::Concentrated(_));
            if let Some(legs) = legs.filter(|legs| legs.iter().any(has_ticks)) {
                return legs;
            }
        }
    }

    fn close(&self, random: &mut ChaCha8Rng, tokens: &[usize], allowed: [bool; 3]) -> Option<Vec<Leg>> {
        let mut legs: Vec<Leg> = Vec::new();
        for (place, token_in) in tokens.iter().copied().enumerate() {
            let token_out = tokens[(place + 1) % tokens.len()];
            let pair = [token_in.min(token_out), token_in.max(token_out)];
            let is_free = |index: &usize| {
                let known = &self.pools[*index];
                let is_used = legs.iter().any(|leg| leg.pool == *index);
                known.tokens == pair && allowed[known.pool.kind()] && !is_used
            };
            let free: Vec<usize> = (0..self.pools.len()).filter(is_free).collect();
            let pool = *free.get(random.random_range(0..free.len().max(1)))?;
            legs.push(Leg { pool, zero_for_one: token_in < token_out, token_in });
        }
        Some(legs)
    }

    pub(super) fn hop(&self, leg: &Leg) -> MixedHop<'_> {
        match &self.pools[leg.pool].pool {
            Pool::Pair([reserve0, reserve1]) => {
                let (reserve_in, reserve_out) =
                    if leg.zero_for_one { (*reserve0, *reserve1) } else { (*reserve1, *reserve0) };
                let hop = Hop::new(reserve_in, reserve_out, Fee::UNISWAP_V2);
                MixedHop::ConstantProduct(hop.expect("a pair's own reserves"))
            }
            Pool::Concentrated(pool) => {
                let direction = if leg.zero_for_one { Direction::ZeroForOne } else { Direction::OneForZero };
                MixedHop::Concentrated(pool, direction)
            }
        }
    }

    pub(super) fn way(&self, leg: &Leg) -> Way<'_> {
        Way { formula: &self.pools[leg.pool].formula, zero_for_one: leg.zero_for_one }
    }

    pub(super) fn mix(&self, legs: &[Leg]) -> Mix {
        let mut mix = Mix::default();
        for leg in legs {
            mix.0[self.pools[leg.pool].pool.kind()] = true;
        }
        mix
    }

    fn add(
        &mut self,
        random: &mut ChaCha8Rng,
        real: &mut Several,
        tokens: [usize; 2],
        version: Option<Version>,
    ) -> anyhow::Result<()> {
        // A pool of a thousand to thirty million dollars, whose price is a little off.
        let (depth, skew) = (10f64.powf(random.random_range(3.0..7.5)), random.random_range(-0.02f64..0.02));
        let [amount0, amount1] = tokens.map(|token| {
            let (decimals, price) = self.kinds[token];
            depth / price * 10f64.powi(decimals)
        });
        let amount1 = amount1 * skew.exp();
        let pool = match version {
            None => {
                let reserves = [amount0, amount1].map(|amount| amount as u128 + 10_000);
                let index = real.add_v2(tokens, reserves)?;
                Pool::Pair(real.reserves(index)?)
            }
            Some(version) => {
                let pool = Self::concentrated(random, real, tokens, version, [amount0, amount1]);
                Pool::Concentrated(pool.context("a pool of concentrated liquidity")?)
            }
        };
        let formula = real.formula(self.pools.len())?;
        self.pools.push(Known { tokens, pool, formula });
        Ok(())
    }

    fn concentrated(
        random: &mut ChaCha8Rng,
        real: &mut Several,
        tokens: [usize; 2],
        version: Version,
        [amount0, amount1]: [f64; 2],
    ) -> anyhow::Result<ConcentratedPool> {
        let fees: &[_] = if version == Version::V3 { &V3_FEES } else { &V4_FEES };
        let (fee, spacing) = fees[random.random_range(0..fees.len())];
        let tick = ((amount1 / amount0).ln() / 1.0001f64.ln()).floor() as i32;
        let at = |tick| sqrt_price_at_tick(tick).context("a tick beyond all prices");
        let part = U256::from(random.random_range(0..1u64 << 32));
        let sqrt_price = at(tick)? + (((at(tick + 1)? - at(tick)?) * part) >> 32usize);
        let fee_of_lp = SwapFee::of_lp(fee);
        let (index, fee) = match version {
            Version::V3 => (real.add_v3(tokens, fee, spacing, sqrt_price)?, fee_of_lp),
            Version::V4 => {
                let mut half = || random.random_range(0..2u32) * random.random_range(0..=1000u32);
                let packed = half() | half() << 12;
                let index = real.add_v4(tokens, fee, spacing, sqrt_price, packed)?;
                (index, fee_of_lp.with_protocol(packed))
            }
        };
        let mut pool = ConcentratedPool::new(version, fee, spacing)?;
        let state = real.state(index)?;
        let price = PoolPrice { sqrt_price: state.sqrt_price, tick: state.tick };
        pool.apply(&PoolEvent::Initialized(price))?;
        let liquidity = (amount0 * amount1).sqrt();
        for (lower, upper) in ranges(random, tick, spacing) {
            let amount = (liquidity * 10f64.powf(random.random_range(-1.0..0.5))) as u128 + 1_000;
            let change = real.add_liquidity(index, lower, upper, amount)?;
            let (lower, upper, delta) = (change.lower, change.upper, change.delta);
            pool.apply(&PoolEvent::LiquidityChanged { lower, upper, delta })?;
        }
        Ok(pool)
    }
}

/// Ranges about a tick, some of which the price is not in; and mostly one over everything.
fn ranges(random: &mut ChaCha8Rng, tick: i32, spacing: i32) -> Vec<(i32, i32)> {
    let highest = MAX_TICK / spacing * spacing;
    let align = |tick: i32| (tick.div_euclid(spacing) * spacing).clamp(-highest, highest);
    let mut ranges = Vec::new();
    if random.random_range(0..4) > 0 {
        ranges.push((-highest, highest));
    }
    for _ in 0..random.random_range(1..10) {
        let width = 10f64.powf(random.random_range(1.0..3.3)) as i32;
        let middle = tick + random.random_range(-width..=width);
        let (lower, upper) = (align(middle - width), align(middle + width) + spacing);
        ranges.push((lower, upper.min(highest)));
    }
    ranges.retain(|(lower, upper)| lower < upper);
    ranges
}
