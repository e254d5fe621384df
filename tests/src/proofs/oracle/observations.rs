//! The sums of ticks over time, and the mean ticks that follow from them, beside those of a real pool.

use std::collections::BTreeSet;

use alloy_primitives::U256;
use anyhow::{Context, bail, ensure};
use headwater_amm::{MAX_TICK, MIN_TICK, sqrt_price_at_tick};
use headwater_oracle::{ObserveError, TickObservations, mean_tick};
use headwater_reference::evm::{Artifact, Failure};
use headwater_reference::pools::{Order, PoolV3};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::devnet::Artifacts;

const FEES: [(u32, i32); 3] = [(500, 10), (3_000, 60), (10_000, 200)];

/// Times at which each step asks.
const ASKED: usize = 4;

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) compared: u64,
    pools: u64,
    old: u64,
    /// Between two observations.
    within: u64,
    means: u64,
    /// In seconds of which the 32 bits had come to their end since the pool began.
    wrapped: u64,
    raised: u64,
}

/// A real pool, and what follows its logs.
struct Followed {
    real: PoolV3,
    observed: TickObservations,
    tick: i32,
    spacing: i32,
    /// Ranges, and what is in them.
    positions: Vec<([i32; 2], i128)>,
    /// When something happened: what is asked about lies near.
    moments: BTreeSet<u64>,
    began: u64,
}

pub(super) fn run(seed: u64, is_quick: bool) -> anyhow::Result<Tally> {
    let artifacts = Artifacts::install()?;
    let (factory, [.., token]) = (artifacts.factory_v3()?, artifacts.manager_v4()?);
    let (pools, steps) = if is_quick { (4, 40) } else { (60, 120) };
    let mut tally = Tally::default();
    for index in 0..pools {
        let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_add(index));
        follow(&mut random, [&factory, &token], steps, &mut tally)
            .with_context(|| format!("pool {index} that observes"))?;
    }
    let Tally { old, within, means, wrapped, raised, .. } = tally;
    let least = if is_quick { 1 } else { 100 };
    for (what, count) in [
        ("sums that are forgotten", old),
        ("sums between two observations", within),
        ("mean ticks", means),
        ("sums beyond the end of 32 bits", wrapped),
        ("times that a pool made room", raised),
    ] {
        ensure!(count >= least, "only {count} {what}");
    }
    Ok(tally)
}

impl Tally {
    pub(super) fn line(&self) -> String {
        let Self { compared, pools, old, within, means, wrapped, raised } = self;
        format!(
            "{compared} sums of ticks in {pools} pools of Uniswap V3 equal those of the pool's own `observe`: {within} between two \
             observations, {old} forgotten by both, {wrapped} beyond the end of 32 bits; {means} mean ticks; {raised} times room was made"
        )
    }
}

fn follow(
    random: &mut ChaCha8Rng,
    contracts: [&Artifact; 2],
    steps: u32,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let mut pool = Followed::create(random, contracts)?;
    for _ in 0..steps {
        // Now and then twice in a second, and sometimes nothing for long.
        let seconds = match random.random_range(0..10) {
            0..3 => 0,
            3 => random.random_range(100..20_000),
            _ => random.random_range(1..60),
        };
        pool.real.advance(seconds);
        pool.act(random, tally)?;
        pool.moments.insert(pool.real.now());
        for _ in 0..ASKED {
            pool.compare(random, tally)?;
        }
    }
    tally.pools += 1;
    Ok(())
}

impl Followed {
    fn create(random: &mut ChaCha8Rng, contracts: [&Artifact; 2]) -> anyhow::Result<Self> {
        let (fee, spacing) = FEES[random.random_range(0..FEES.len())];
        let began = match random.random_range(0..3) {
            0 => 1_700_000_000,
            _ => (1u64 << 32) - random.random_range(1..2_000),
        };
        let tick = random.random_range(-300_000..300_000);
        let real = PoolV3::create_at(began, contracts, (fee, spacing), at(tick)?)?;
        let observed = TickObservations::begin(began as u32);
        let mut pool =
            Self { real, observed, tick, spacing, positions: Vec::new(), moments: [began].into(), began };
        pool.tick = pool.real.state().tick;
        let most = MAX_TICK / spacing * spacing;
        pool.change([-most, most], 1_000_000_000_000)?;
        Ok(pool)
    }

    fn act(&mut self, random: &mut ChaCha8Rng, tally: &mut Tally) -> anyhow::Result<()> {
        match random.random_range(0..10) {
            0 => {
                let observations = random.random_range(1..40);
                self.real.remember(observations)?;
                self.observed.raise(observations);
                tally.raised += 1;
            }
            1..3 => {
                // About the tick, or beside it.
                let lower = self.tick.div_euclid(self.spacing) + random.random_range(-6..4);
                let upper = lower + random.random_range(1..8);
                let delta = random.random_range(1..1_000_000_000_000_000i128);
                self.change([lower, upper].map(|end| end * self.spacing), delta)?;
            }
            3 if self.positions.len() > 1 => {
                let place = random.random_range(1..self.positions.len());
                let (range, held) = self.positions[place];
                let delta = if random.random() { held } else { random.random_range(1..=held) };
                self.change(range, -delta)?;
            }
            _ => self.swap(random)?,
        }
        Ok(())
    }

    fn change(&mut self, range: [i32; 2], delta: i128) -> anyhow::Result<()> {
        let change = self.real.modify(range[0], range[1], delta).context("a change of liquidity")?;
        match self.positions.iter().position(|(known, _)| *known == range) {
            Some(place) => self.positions[place].1 += delta,
            None => self.positions.push((range, delta)),
        }
        self.positions.retain(|(_, held)| *held > 0);
        self.observed.liquidity_changed(self.real.now() as u32, self.tick, [change.lower, change.upper]);
        Ok(())
    }

    /// To about a tick; or with so little that the tick stays.
    fn swap(&mut self, random: &mut ChaCha8Rng) -> anyhow::Result<()> {
        let away = 1 << random.random_range(0..17);
        let target = self.tick + random.random_range(-away..=away);
        let target = at(target.clamp(MIN_TICK + 1, MAX_TICK - 1))? + U256::from(random.random_range(0..9u32));
        let here = self.real.state().sqrt_price;
        if target == here {
            return Ok(());
        }
        let zero_for_one = target < here;
        let amount = match random.random_range(0..8) {
            0 => U256::from(random.random_range(1..1_000u32)),
            _ => U256::ONE << 160usize,
        };
        let order = Order { zero_for_one, amount, is_exact_in: true, sqrt_price_limit: target };
        let outcome = self.real.swap(&order).context("a swap")?;
        self.observed.swapped(self.real.now() as u32, self.tick, outcome.state.tick);
        self.tick = outcome.state.tick;
        Ok(())
    }

    /// Somewhere in the past, mostly at a moment at which something happened, or a second beside it.
    fn ago(&self, random: &mut ChaCha8Rng) -> u32 {
        let now = self.real.now();
        let ago = match random.random_range(0..4) {
            0 => random.random_range(0..=now - self.began + 3),
            _ => {
                let place = self.moments.len() - 1 - random.random_range(0..self.moments.len().min(45));
                let moment = self.moments.iter().nth(place).copied().unwrap_or(now);
                (now - moment + random.random_range(0..3)).saturating_sub(1)
            }
        };
        u32::try_from(ago).expect("the pool is younger than that")
    }

    fn compare(&mut self, random: &mut ChaCha8Rng, tally: &mut Tally) -> anyhow::Result<()> {
        let (now, ago) = (self.real.now(), self.ago(random));
        let later = if random.random() { 0 } else { random.random_range(0..=ago) };
        let own = [ago, later].map(|ago| self.observed.observe(now as u32, self.tick, ago));
        let told = match self.real.observe(&[ago, later]) {
            Ok(sums) => sums,
            Err(Failure::Reverted(revert)) if revert.reason().as_deref() == Some("OLD") => {
                let is_old = own.contains(&Err(ObserveError::Old));
                ensure!(is_old, "{ago} and {later} seconds ago {own:?}, which the pool has forgotten");
                tally.old += 1;
                tally.compared += 1;
                return Ok(());
            }
            Err(failure) => bail!("the pool does not observe: {failure:?}"),
        };
        let is_same = own.iter().zip(&told).all(|(own, told)| *own == Ok(*told)) && told.len() == 2;
        ensure!(is_same, "{ago} and {later} seconds ago {own:?}, and the pool says {told:?}");
        tally.compared += 2;
        let then = now - u64::from(ago);
        tally.within +=
            u64::from(!self.moments.contains(&then) && self.moments.range(then..).next().is_some());
        tally.wrapped += u64::from(self.began < 1 << 32 && now >= 1 << 32);
        let Some(seconds) = ago.checked_sub(later).filter(|seconds| *seconds > 0) else { return Ok(()) };
        let mean = consult(told[0], told[1], seconds);
        let own_mean = if later == 0 {
            self.observed.consult(now as u32, self.tick, ago)
        } else {
            mean_tick(told[0], told[1], seconds)
        };
        ensure!(own_mean == Ok(mean), "the mean tick over {seconds} is {own_mean:?}, and not {mean}");
        tally.means += 1;
        Ok(())
    }
}

fn at(tick: i32) -> anyhow::Result<U256> {
    sqrt_price_at_tick(tick).context("there is no such tick")
}

/// As v3-periphery's `OracleLibrary.consult` rounds: what division has cut off a negative sum takes one more.
fn consult(earlier: i64, later: i64, seconds: u32) -> i32 {
    let (delta, seconds) = (later - earlier, i64::from(seconds));
    let mean = delta / seconds;
    (if delta < 0 && delta % seconds != 0 { mean - 1 } else { mean }) as i32
}
