//! Every cycle of mixed pools that gains is found, and nothing else.

mod asked;
mod world;

use std::collections::{BTreeMap, HashMap};

use alloy_primitives::{Address, U256};
use anyhow::{Context, ensure};
use headwater_detectors::{Arbitrage, ArbitrageConfig, Detector, MaxHops};
use headwater_events::{MixedStep, Opportunity, Plan, Protocol, SwapStep};
use headwater_reference::arbitrage::{MixedCycle, MixedPool, PoolName, each_mixed_cycle, size_gaining};
use headwater_reference::evm::Artifact;
use headwater_reference::formulas::Formula;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use self::world::World;
use crate::devnet::{self, Artifacts};
use crate::proof::{Proof, ProofArgs, Report};

/// A detector that examines what was touched, against a search of everything.
pub const RECALL_MIXED: Proof = Proof {
    name: "recall-mixed",
    about: "100 markets of 60 pools of Uniswap V2, V3 and V4, 3 blocks each: the cycles of 2 to 4 pools that an exhaustive search finds, \
            all of them but for dust, and no others",
    full_duration: "5 min",
    run,
};

struct Size {
    cycles: u64,
    each: u64,
    /// Cycles with a hop through a pool of V4, and through several.
    v4: [u64; 2],
    /// Of the native token.
    native: u64,
    /// Hops that the manager's own code is asked about.
    asked: u64,
}

const FULL: Size = Size { cycles: 20_000, each: 1_000, v4: [10_000, 2_000], native: 800, asked: 3_000 };
const QUICK: Size = Size { cycles: 1_000, each: 20, v4: [200, 50], native: 10, asked: 100 };

const MARKETS: u64 = 100;
/// Those of the sample: each notices a sizing that goes less far in one way or another.
const TELLING: [u64; 4] = [18, 38, 40, 57];
const POOLS: usize = 60;
const BLOCKS: u64 = 3;

/// Hops of one market that are asked about.
const MOST_ASKED: usize = 60;

const MOST_HOPS: usize = 4;

/// Of so many cycles one that the search alone finds, of less than its grain, is let pass.
const LET_PASS: u64 = 5_000;

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
    v4: [u64; 2],
    native: u64,
    asked: u64,
    as_good: u64,
    within_part: u64,
    within_grain: u64,
    only_searched: u64,
    only_found: u64,
}

/// Path and tokens: what tells one cycle from another.
type Way = (Vec<PoolName>, Vec<Address>);

/// What a search made of a cycle, by its pools as they stood, and its tokens.
type Remembered = HashMap<(Vec<(PoolName, u64)>, Vec<Address>), Option<MixedCycle>>;

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let size = if args.quick { QUICK } else { FULL };
    let is_there = devnet::available("recall-mixed: pools of V4 against their manager's bytecode")?;
    let manager = is_there.then(|| Artifacts::install()?.manager_v4()).transpose()?;
    let mut tally = Tally::default();
    let markets: Vec<u64> = if args.quick { TELLING.to_vec() } else { (0..MARKETS).collect() };
    for market in &markets {
        let seed = args.seed.wrapping_mul(1_000_003).wrapping_add(*market);
        run_market(seed, manager.as_ref(), &mut tally)
            .with_context(|| format!("market {market}, seed {}", args.seed))?;
    }
    let checked: u64 = tally.lengths.values().sum();
    ensure!(tally.lengths.len() == 3, "a length is missing: {:?}", tally.lengths);
    ensure!(
        tally.only_searched * LET_PASS <= checked,
        "{} cycles are not found, beside {checked}",
        tally.only_searched
    );
    let of_kinds = [tally.plain, tally.ranged, checked - tally.plain - tally.ranged];
    let least = tally.lengths.values().chain(&of_kinds).min().copied().unwrap_or(0);
    ensure!(least >= size.each, "only {least} of a length or a mix: {:?}, {of_kinds:?}", tally.lengths);
    let Tally { v4, native, asked, .. } = tally;
    ensure!(v4[0] >= size.v4[0] && v4[1] >= size.v4[1], "only {v4:?} cycles through pools of V4");
    ensure!(native >= size.native, "only {native} cycles through the native token");
    ensure!(manager.is_none() || asked >= size.asked, "the manager was asked {asked} times only");
    let skipped = u64::from(manager.is_none());
    Ok(Report { checked, floor: size.cycles, skipped, seed: args.seed, lines: lines(markets.len(), &tally) })
}

fn lines(markets: usize, tally: &Tally) -> Vec<String> {
    let Tally { blocks, looked_at, gaining, plain, ranged, as_good, within_part, within_grain, .. } = tally;
    let Tally { v4: [v4, several], native, asked, only_searched, only_found, .. } = tally;
    let lengths = tally.lengths.iter().map(|(length, count)| format!("{count} of {length} pools"));
    let checked: u64 = tally.lengths.values().sum();
    vec![
        format!(
            "{markets} markets of {POOLS} pools of V2, V3 and V4: {looked_at} cycles looked at in {blocks} blocks, \
             {gaining} of them gain by their rates",
        ),
        format!("{checked} gain in whole units, all found, none invented, every amount quoted again"),
        format!("  {}; {plain} of V2 alone, {ranged} without V2", lengths.collect::<Vec<_>>().join(", ")),
        format!(
            "  {v4} with a hop through V4, {several} of them with several through the same manager; {native} by way of the native token"
        ),
        format!("  {asked} hops through V4 asked of the manager's own bytecode: to the wei"),
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

fn run_market(seed: u64, manager: Option<&[Artifact; 4]>, tally: &mut Tally) -> anyhow::Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World::create(&mut random, POOLS)?;
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
    for number in 1..=BLOCKS {
        let found = detector.evaluate(&world.view(number)?);
        let truth = search(&world, &mut remembered, tally);
        compare(&found, &truth, &world.judged(), tally).with_context(|| format!("block {number}"))?;
        tally.blocks += 1;
        if let Some(manager) = manager.filter(|_| number == BLOCKS) {
            tally.asked += asked::ask(manager, &world, &found, MOST_ASKED)?;
        }
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
        let standing = path.iter().map(|pool| (pool.name, world.version(pool.name))).collect();
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
        found.iter().map(|found| ((path_of(found), found.tokens.clone()), found)).collect();
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
            let [v2, _, v4] = makes(found);
            tally.plain += u64::from(v2 == found.path.len());
            tally.ranged += u64::from(v2 == 0);
            tally.v4[0] += u64::from(v4 > 0);
            tally.v4[1] += u64::from(v4 > 1);
            tally.native += u64::from(found.tokens.contains(&Address::ZERO));
        }
    }
    Ok(())
}

/// How many of its pools are of V2, V3 and V4.
fn makes(found: &Opportunity) -> [usize; 3] {
    let Plan::Mixed(steps) = &found.plan else { return [found.path.len(), 0, 0] };
    let of = |protocol| steps.iter().filter(|step| step.protocol == protocol).count();
    [Protocol::UniswapV2, Protocol::UniswapV3, Protocol::UniswapV4].map(of)
}

/// The pools of V4 have one address.
fn path_of(found: &Opportunity) -> Vec<PoolName> {
    match &found.plan {
        Plan::Mixed(steps) => steps.iter().map(name_of).collect(),
        _ => found.path.iter().map(|address| PoolName { address: *address, id: None }).collect(),
    }
}

fn name_of(step: &MixedStep) -> PoolName {
    PoolName { address: step.swap.pool, id: step.pool_id }
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
        let pool = pools.iter().find(|known| known.name == name_of(step)).context("an unknown pool")?;
        let (protocol, of_hop) = match (&pool.formula, pool.name.id) {
            (Formula::Pair(_), _) => (Protocol::UniswapV2, GAS_PER_HOP),
            (Formula::Ranged(_), None) => (Protocol::UniswapV3, GAS_PER_V3_HOP),
            (Formula::Ranged(_), Some(_)) => (Protocol::UniswapV4, GAS_PER_V3_HOP),
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
