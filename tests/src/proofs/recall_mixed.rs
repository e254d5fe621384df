//! Every cycle of mixed pools that gains is found, and nothing else.

mod world;

use std::collections::{BTreeMap, HashMap};

use alloy_primitives::{Address, U256};
use anyhow::{Context, ensure};
use headwater_detectors::{Arbitrage, ArbitrageConfig, Detector, MaxHops};
use headwater_events::{MixedStep, Opportunity, Plan, Protocol, SwapStep};
use headwater_reference::arbitrage::{MixedCycle, MixedPool, each_mixed_cycle, size_gaining};
use headwater_reference::formulas::Formula;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use self::world::World;
use crate::proof::{Proof, ProofArgs, Report};

/// A detector that examines what was touched, against a search of everything.
pub const RECALL_MIXED: Proof = Proof {
    name: "recall-mixed",
    about: "100 markets of 60 pools of Uniswap V2 and V3, 3 blocks each: the cycles of 2 to 4 pools that an exhaustive search finds, \
            all of them and no others",
    full_duration: "5 min",
    run,
};

struct Size {
    markets: u64,
    pools: usize,
    blocks: u64,
    cycles: u64,
    each: u64,
}

const FULL: Size = Size { markets: 100, pools: 60, blocks: 3, cycles: 20_000, each: 1_000 };
const QUICK: Size = Size { markets: 2, pools: 40, blocks: 2, cycles: 40, each: 0 };

const MOST_HOPS: usize = 4;

/// A gain may be short of the search's best by this part of it and by one unit.
const PART: u128 = 1_000_000_000;

const GAS_BASE: u64 = 1_000;
const GAS_PER_HOP: u64 = 10;
const GAS_PER_V3_HOP: u64 = 100;

#[derive(Debug, Default)]
struct Tally {
    blocks: u64,
    looked_at: u64,
    gaining: u64,
    lengths: BTreeMap<usize, u64>,
    plain: u64,
    ranged: u64,
    as_good: u64,
    within_part: u64,
    within_grain: u64,
    only_searched: u64,
    only_found: u64,
}

/// Path and tokens: what tells one cycle from another.
type Way = (Vec<Address>, Vec<Address>);

/// What a search made of a cycle, by its pools as they stood, and its tokens.
type Remembered = HashMap<(Vec<(Address, u64)>, Vec<Address>), Option<MixedCycle>>;

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let size = if args.quick { QUICK } else { FULL };
    let mut tally = Tally::default();
    for market in 0..size.markets {
        let seed = args.seed.wrapping_mul(1_000_003).wrapping_add(market);
        run_market(seed, &size, &mut tally)
            .with_context(|| format!("market {market}, seed {}", args.seed))?;
    }
    let checked: u64 = tally.lengths.values().sum();
    ensure!(tally.lengths.len() == 3, "a length is missing: {:?}", tally.lengths);
    let of_kinds = [tally.plain, tally.ranged, checked - tally.plain - tally.ranged];
    let least = tally.lengths.values().chain(&of_kinds).min().copied().unwrap_or(0);
    ensure!(least >= size.each, "only {least} of a length or a mix: {:?}, {of_kinds:?}", tally.lengths);
    Ok(Report { checked, floor: size.cycles, skipped: 0, seed: args.seed, lines: lines(&size, &tally) })
}

fn lines(size: &Size, tally: &Tally) -> Vec<String> {
    let Tally { blocks, looked_at, gaining, plain, ranged, as_good, within_part, within_grain, .. } = tally;
    let Tally { only_searched, only_found, .. } = tally;
    let lengths = tally.lengths.iter().map(|(length, count)| format!("{count} of {length} pools"));
    let checked: u64 = tally.lengths.values().sum();
    vec![
        format!(
            "{} markets of {} pools of V2 and V3 (none of V4): {looked_at} cycles looked at in {blocks} blocks, \
             {gaining} of them gain by their rates",
            size.markets, size.pools
        ),
        format!("{checked} gain in whole units, all found, none invented, every amount quoted again"),
        format!("  {}; {plain} of V2 alone, {ranged} of V3 alone", lengths.collect::<Vec<_>>().join(", ")),
        format!(
            "  {as_good} sized as the search or better, {within_part} within 10⁻⁹ and a unit, {within_grain} within two units and \
             one of each token between"
        ),
        format!(
            "beside them {only_searched} that the search alone finds, of no more than those units; and {only_found} whose amounts gain and that \
             it misses"
        ),
    ]
}

fn run_market(seed: u64, size: &Size, tally: &mut Tally) -> anyhow::Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World::create(&mut random, size.pools)?;
    let config = ArbitrageConfig {
        max_hops: MaxHops::FOUR,
        profit_after_gas: false,
        gas_base: GAS_BASE,
        gas_per_hop: GAS_PER_HOP,
        gas_per_v3_hop: GAS_PER_V3_HOP,
        gas_per_crossing: 0,
        ..ArbitrageConfig::default()
    };
    let mut detector = Arbitrage::new(config, world::bases());
    let mut remembered = Remembered::new();
    for number in 1..=size.blocks {
        let found = detector.evaluate(&world.view(number)?);
        let truth = search(&world, &mut remembered, tally);
        compare(&found, &truth, &world.judged(), tally).with_context(|| format!("block {number}"))?;
        tally.blocks += 1;
        world.trade(&mut random, number)?;
    }
    Ok(())
}

/// Every cycle whose rates gain.
fn search(world: &World, remembered: &mut Remembered, tally: &mut Tally) -> BTreeMap<Way, MixedCycle> {
    let pools = world.judged();
    let mut truth = BTreeMap::new();
    each_mixed_cycle(&pools, &world::bases(), MOST_HOPS, &mut |path, tokens| {
        tally.looked_at += 1;
        let standing = path.iter().map(|pool| (pool.address, world.version(pool.address))).collect();
        let sized =
            remembered.entry((standing, tokens.to_vec())).or_insert_with(|| size_gaining(path, tokens));
        if let Some(cycle) = sized {
            truth.insert((cycle.path.clone(), cycle.tokens.clone()), cycle.clone());
        }
    });
    tally.gaining += truth.len() as u64;
    truth
}

fn compare(
    found: &[Opportunity],
    truth: &BTreeMap<Way, MixedCycle>,
    pools: &[MixedPool],
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let by_way: BTreeMap<Way, &Opportunity> =
        found.iter().map(|found| ((found.path.clone(), found.tokens.clone()), found)).collect();
    ensure!(by_way.len() == found.len(), "a cycle is reported twice");
    for (way, found) in &by_way {
        ensure!(truth.contains_key(way), "no cycle that gains, even in the small: {found:?}");
        quote_again(found, pools).with_context(|| format!("{found:?}"))?;
    }
    for (way, cycle) in truth {
        compare_cycle(by_way.get(way).copied(), cycle, tally)?;
    }
    Ok(())
}

/// Both sides have inputs that gain what they say; so neither may be better than the other by more than whole units explain.
fn compare_cycle(found: Option<&Opportunity>, cycle: &MixedCycle, tally: &mut Tally) -> anyhow::Result<()> {
    let gain = u128::try_from(cycle.found.gain).unwrap_or(0);
    let profit = found.map_or(0, |found| found.profit.to::<u128>());
    let short = gain.saturating_sub(profit);
    let quality = match short {
        0 => &mut tally.as_good,
        _ if short <= gain / PART + 1 => &mut tally.within_part,
        _ if short <= cycle.grain => &mut tally.within_grain,
        _ => anyhow::bail!("{profit} only, short by {short}: {cycle:?}"),
    };
    match (gain, found) {
        (0, None) => {}
        // Its rates gain, and its amounts were quoted again: it is there, and the search had not gone far enough.
        (0, Some(_)) => tally.only_found += 1,
        (_, None) => tally.only_searched += 1,
        (_, Some(found)) => {
            *quality += 1;
            *tally.lengths.entry(found.path.len()).or_default() += 1;
            let ranged = ranged(found);
            tally.plain += u64::from(ranged == 0);
            tally.ranged += u64::from(ranged == found.path.len());
        }
    }
    Ok(())
}

/// How many of its pools have concentrated liquidity.
fn ranged(found: &Opportunity) -> usize {
    match &found.plan {
        Plan::Mixed(steps) => steps.iter().filter(|step| step.protocol == Protocol::UniswapV3).count(),
        _ => 0,
    }
}

/// Every amount of the plan is what the pool gives, every pool is named for what it is, and the sums are right.
fn quote_again(found: &Opportunity, pools: &[MixedPool]) -> anyhow::Result<()> {
    let steps = steps_of(found)?;
    ensure!(steps.len() == found.path.len(), "another path than its plan's");
    let mut amount = found.amount_in;
    let mut gas = GAS_BASE;
    for (step, (path, tokens)) in steps.iter().zip(found.path.iter().zip(found.tokens.windows(2))) {
        let SwapStep { pool, token_in, token_out, amount_in, amount_out } = step.swap;
        ensure!(
            (pool, [token_in, token_out]) == (*path, [tokens[0], tokens[1]]),
            "another path than its plan's"
        );
        let pool = pools.iter().find(|known| known.address == pool).context("an unknown pool")?;
        let (protocol, of_hop) = match pool.formula {
            Formula::Pair(_) => (Protocol::UniswapV2, GAS_PER_HOP),
            Formula::Ranged(_) => (Protocol::UniswapV3, GAS_PER_V3_HOP),
        };
        ensure!(step.protocol == protocol, "not what the pool computes: {step:?}");
        ensure!(step.zero_for_one == (token_in == pool.token0), "another direction: {step:?}");
        ensure!(amount_in == amount, "{step:?} does not continue with {amount}");
        let output = pool.way(&token_in).output(amount_in.to());
        ensure!(output.map(U256::from) == Some(amount_out), "{step:?} gives {output:?}");
        (amount, gas) = (amount_out, gas + of_hop);
    }
    ensure!(found.amount_out == amount && found.amount_in + found.profit == amount, "sums differ");
    ensure!(found.gas == gas, "gas of {}, not {gas}", found.gas);
    Ok(())
}

fn steps_of(found: &Opportunity) -> anyhow::Result<Vec<MixedStep>> {
    match &found.plan {
        Plan::Mixed(steps) => {
            let is_mixed = steps.iter().any(|step| step.protocol != Protocol::UniswapV2);
            ensure!(is_mixed, "a plan that the executor could carry out, and refuses");
            Ok(steps.clone())
        }
        Plan::Swaps(swaps) => {
            let step = |swap: &SwapStep| MixedStep {
                pool_id: None,
                protocol: Protocol::UniswapV2,
                zero_for_one: swap.token_in < swap.token_out,
                swap: swap.clone(),
            };
            Ok(swaps.iter().map(step).collect())
        }
        plan => anyhow::bail!("not a plan of swaps: {plan:?}"),
    }
}
