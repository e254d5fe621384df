//! Mixed cycles, carried out on the contracts' own bytecode, and against a search that asks the contracts.

mod world;

use std::collections::BTreeMap;
use std::fmt;

use alloy_primitives::U256;
use anyhow::{Context, ensure};
use headwater_amm::{CycleSizing, Effort, MixedHop, may_profit, size_mixed_cycle};
use headwater_reference::arbitrage::unit_of_each;
use headwater_reference::evm::Artifact;
use headwater_reference::fine_search::{self, Found, fine_search};
use headwater_reference::formulas::Way;
use headwater_reference::pools::{Code, Several};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::world::{Leg, World};
use crate::devnet::Artifacts;
use crate::proof::{Proof, ProofArgs, Report};

/// Every hop to the wei, and nothing better to be found.
pub const CYCLES: Proof = Proof {
    name: "cycles",
    about: "5,000 mixed cycles of Uniswap V2, V3 and V4: executed to the wei, and a fine search finds nothing better by 10⁻⁹, nor than what the \
            detector's brief sizing finds by a unit of each token",
    full_duration: "20 min",
    run,
};

/// How much is examined.
struct Size {
    /// That gain.
    cycles: u64,
    /// Cycles looked at in one world.
    per_world: u64,
    /// Of each length, and of each mix of kinds.
    each: u64,
    crossing: u64,
    losing: u64,
}

const FULL: Size = Size { cycles: 5_000, per_world: 120, each: 200, crossing: 1_000, losing: 1_000 };
const QUICK: Size = Size { cycles: 60, per_world: 40, each: 1, crossing: 10, losing: 10 };

const MOST_WORLDS: u64 = 400;

/// A gain may be short of the search's best by this part of it, and by one unit, because amounts are whole.
const PART: i128 = 1_000_000_000;

/// Of so many cycles one that gains less than a unit of each token may be missed by the brief sizing.
const LET_PASS: u64 = 500;

/// How far the search goes where something is found, and where nothing is.
const EFFORT: fine_search::Effort = fine_search::Effort { coarsest: 2_500, others: 40 };
const EFFORT_IN_VAIN: fine_search::Effort = fine_search::Effort { coarsest: 60, others: 4 };

#[derive(Debug, Default)]
struct Tally {
    worlds: u64,
    cycles: u64,
    lengths: BTreeMap<usize, u64>,
    mixes: BTreeMap<Mix, u64>,
    crossing: u64,
    crossings: u64,
    better: u64,
    equal: u64,
    short: u64,
    brief: Brief,
    /// In parts of the best.
    worst: f64,
    refused_by_rate: u64,
    refused_by_size: u64,
    /// By the search.
    tried: u64,
    /// Of the contracts, about the search's formulas.
    asked: u64,
}

/// Which kinds of pools a cycle goes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Mix([bool; 3]);

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["V2", "V3", "V4"].into_iter().zip(self.0).filter(|(_, is_in)| *is_in);
        f.write_str(&names.map(|(name, _)| name).collect::<Vec<_>>().join("+"))
    }
}

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let size = if args.quick { QUICK } else { FULL };
    let artifacts = Artifacts::install()?;
    let (factory_v2, factory_v3) = (artifacts.factory_v2()?, artifacts.factory_v3()?);
    let manager: [Artifact; 4] = artifacts.manager_v4()?;
    let [a, b, c, d] = &manager;
    let code = Code { factory_v2: &factory_v2, factory_v3: &factory_v3, manager_v4: [a, b, c, d] };
    let mut tally = Tally::default();
    // Some mixes are rare: so many worlds that each comes up often enough.
    while tally.cycles < size.cycles || (!is_mixed_enough(&size, &tally) && tally.worlds < MOST_WORLDS) {
        let mut random =
            ChaCha8Rng::seed_from_u64(args.seed.wrapping_mul(1_000_003).wrapping_add(tally.worlds));
        run_world(&mut random, &size, &code, &mut tally)
            .with_context(|| format!("world {}, seed {}", tally.worlds, args.seed))?;
        tally.worlds += 1;
    }
    verify(&size, &tally)?;
    Ok(Report {
        checked: tally.cycles,
        floor: size.cycles,
        skipped: 0,
        seed: args.seed,
        lines: lines(&tally),
    })
}

fn run_world(random: &mut ChaCha8Rng, size: &Size, code: &Code<'_>, tally: &mut Tally) -> anyhow::Result<()> {
    let (mut real, world) = World::create(random, code)?;
    for _ in 0..size.per_world {
        let legs = world.cycle(random);
        examine(random, &mut real, &world, &legs, tally).with_context(|| format!("{legs:?} in {world:?}"))?;
    }
    Ok(())
}

fn examine(
    random: &mut ChaCha8Rng,
    real: &mut Several,
    world: &World,
    legs: &[Leg],
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let hops: Vec<MixedHop<'_>> = legs.iter().map(|leg| world.hop(leg)).collect();
    let rates =
        hops.iter().map(|hop| hop.log_rate().context("a pool without a price")).sum::<Result<f64, _>>()?;
    let sizing = size_mixed_cycle(&hops, Effort::Thorough);
    let brief = size_mixed_cycle(&hops, Effort::Brief);
    let is_refused = !may_profit(rates);
    let crossings = sizing.as_ref().map_or(0, |sizing| crossings(&hops, sizing));
    let suspect = sizing.as_ref().map(|sizing| sizing.amount_in);
    let ways: Vec<Way<'_>> = legs.iter().map(|leg| world.way(leg)).collect();
    let found = fine_search(&ways, suspect, if sizing.is_some() { EFFORT } else { EFFORT_IN_VAIN });
    tally.tried += found.tried;
    let asked = [found.amount_in, sample(random, found.amount_in)];
    tally.asked += ask(real, legs, &ways, asked)?;
    let Some(sizing) = sizing else {
        ensure!(found.gain <= 0, "refused, but {found:?}");
        ensure!(brief.is_none(), "refused, but {brief:?}");
        *(if is_refused { &mut tally.refused_by_rate } else { &mut tally.refused_by_size }) += 1;
        return Ok(());
    };
    ensure!(!is_refused, "the rates, {rates}, turn {sizing:?} away");
    execute(real, legs, &sizing)?;
    compare(&sizing, &found, tally)?;
    if let Some(brief) = &brief {
        execute(real, legs, brief)?;
    }
    tally.brief.note(brief.as_ref(), found.gain.max(sizing.profit.cast_signed()), unit_of_each(&ways))?;
    tally.cycles += 1;
    *tally.lengths.entry(legs.len()).or_default() += 1;
    *tally.mixes.entry(world.mix(legs)).or_default() += 1;
    tally.crossing += u64::from(crossings > 0);
    tally.crossings += u64::from(crossings);
    Ok(())
}

/// What the detector's sizing finds of the best that is known.
#[derive(Debug, Default)]
struct Brief {
    as_good: u64,
    within_part: u64,
    within_unit_of_each: u64,
    /// Nothing was found, of no more than that.
    missed: u64,
    /// In parts of the best.
    worst: f64,
}

impl Brief {
    fn note(&mut self, brief: Option<&CycleSizing>, best: i128, unit_of_each: u128) -> anyhow::Result<()> {
        let short = best - brief.map_or(0, |brief| brief.profit.cast_signed());
        let count = match short {
            ..=0 => &mut self.as_good,
            _ if short <= best / PART + 1 => &mut self.within_part,
            _ if short.unsigned_abs() <= unit_of_each => &mut self.within_unit_of_each,
            _ => anyhow::bail!("{brief:?} is short of {best} by {short}, and units are worth {unit_of_each}"),
        };
        *count += 1;
        self.missed += u64::from(brief.is_none());
        self.worst = self.worst.max(short as f64 / best as f64);
        Ok(())
    }
}

/// Of any size below the double.
fn sample(random: &mut ChaCha8Rng, amount: u128) -> u128 {
    (amount << 1 >> random.random_range(0..8)).saturating_sub(u128::from(random.random::<u32>()) & amount)
}

/// The judge's formulas answer what the contracts do.
fn ask(real: &mut Several, legs: &[Leg], ways: &[Way<'_>], inputs: [u128; 2]) -> anyhow::Result<u64> {
    let mut asked = 0;
    for input in inputs {
        let mut amount = Some(input);
        for (leg, way) in legs.iter().zip(ways) {
            let Some(amount_in) = amount.filter(|amount| *amount > 0) else { break };
            let (formula, contract) =
                (way.output(amount_in), real.answer(leg.pool, leg.zero_for_one, amount_in));
            ensure!(
                formula == contract,
                "the formula gives {formula:?} for {amount_in}, {leg:?} {contract:?}"
            );
            (amount, asked) = (contract, asked + 1);
        }
    }
    Ok(asked)
}

fn crossings(hops: &[MixedHop<'_>], sizing: &CycleSizing) -> u32 {
    let inputs = std::iter::once(sizing.amount_in).chain(sizing.amounts.iter().copied());
    let crossed = |(hop, amount): (&MixedHop<'_>, u128)| match hop {
        MixedHop::ConstantProduct(_) => 0,
        MixedHop::Concentrated(pool, direction) => {
            pool.exact_in(*direction, U256::from(amount), None).map_or(0, |quote| quote.crossings)
        }
    };
    hops.iter().zip(inputs).map(crossed).sum()
}

/// Hop by hop for good, and back: each gives what was predicted, and the traders are richer by the profit and nothing else.
fn execute(real: &mut Several, legs: &[Leg], sizing: &CycleSizing) -> anyhow::Result<()> {
    real.try_out(|real| {
        let tokens = real.tokens().len();
        let before = (0..tokens).map(|token| real.purse(token)).collect::<Result<Vec<_>, _>>()?;
        let mut amount = sizing.amount_in;
        for (leg, expected) in legs.iter().zip(&sizing.amounts) {
            real.swap(leg.pool, leg.zero_for_one, amount, *expected).with_context(|| format!("{leg:?}"))?;
            amount = *expected;
        }
        for (token, before) in before.into_iter().enumerate() {
            let profit = if token == legs[0].token_in { U256::from(sizing.profit) } else { U256::ZERO };
            let after = real.purse(token)?;
            ensure!(after == before + profit, "{before} and {profit}, not {after}, of token {token}");
        }
        Ok(())
    })
}

fn compare(sizing: &CycleSizing, found: &Found, tally: &mut Tally) -> anyhow::Result<()> {
    let profit = i128::try_from(sizing.profit)?;
    let short = found.gain - profit;
    match short {
        0 => tally.equal += 1,
        ..0 => tally.better += 1,
        _ => {
            tally.short += 1;
            tally.worst = tally.worst.max((short - 1) as f64 / found.gain as f64);
        }
    }
    ensure!(short <= found.gain / PART + 1, "{sizing:?} is short of {found:?} by {short}");
    Ok(())
}

/// All sets of kinds but that of V2 alone and the empty one.
fn is_mixed_enough(size: &Size, tally: &Tally) -> bool {
    tally.mixes.len() == 6 && tally.mixes.values().all(|count| *count >= size.each)
}

fn verify(size: &Size, tally: &Tally) -> anyhow::Result<()> {
    let least = |counts: Vec<u64>| counts.into_iter().min().unwrap_or(0);
    ensure!(tally.lengths.len() == 3, "a length is missing: {:?}", tally.lengths);
    ensure!(tally.mixes.len() == 6, "a mix of kinds is missing: {:?}", tally.mixes);
    let each = least(tally.lengths.values().chain(tally.mixes.values()).copied().collect());
    ensure!(each >= size.each, "only {each} of a length or a mix: {:?}, {:?}", tally.lengths, tally.mixes);
    ensure!(tally.crossing >= size.crossing, "only {} cycles cross ticks", tally.crossing);
    let missed = tally.brief.missed;
    ensure!(missed * LET_PASS <= tally.cycles.max(LET_PASS), "{missed} are not found briefly");
    let losing = tally.refused_by_rate + tally.refused_by_size;
    ensure!(losing >= size.losing, "only {losing} cycles that do not gain");
    Ok(())
}

fn lines(tally: &Tally) -> Vec<String> {
    let Tally { worlds, cycles, crossing, crossings, better, equal, short, worst, .. } = tally;
    let Tally { refused_by_rate, refused_by_size, tried, asked, .. } = tally;
    let lengths = tally.lengths.iter().map(|(length, count)| format!("{count} of {length} pools"));
    let mixes = tally.mixes.iter().map(|(mix, count)| format!("{count} {mix}"));
    vec![
        format!(
            "{worlds} worlds: {cycles} cycles executed on the contracts, every hop and the profit to the wei"
        ),
        format!("  {}; {}", lengths.collect::<Vec<_>>().join(", "), mixes.collect::<Vec<_>>().join(", ")),
        format!("  {crossing} cross ticks, {crossings} in all"),
        format!(
            "  the fine search, {tried} inputs by formulas that {asked} answers of the contracts confirm: {equal} as good, \
             {better} worse, {short} better, by {worst:.1e} of the profit and one unit at most"
        ),
        format!(
            "  sized briefly, as the detector does, and executed as well: {} as good as the best known, {} within 10⁻⁹ and a unit, {} within \
             a unit of each token, by {:.1e} of the profit at most; {} of them not found",
            tally.brief.as_good,
            tally.brief.within_part,
            tally.brief.within_unit_of_each,
            tally.brief.worst,
            tally.brief.missed
        ),
        format!(
            "{} cycles more that do not gain: {refused_by_rate} refused by their rates, {refused_by_size} by their \
             size, and the search finds no gain",
            refused_by_rate + refused_by_size
        ),
    ]
}
