//! Everything that there is to find is found, and sized as well as integers allow.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use alloy_primitives::{Address, U256};
use anyhow::{Context, ensure};
use headwater_detectors::{Arbitrage, ArbitrageConfig, Detector};
use headwater_events::{AsOf, DecodedBlock, Opportunity, Plan, Protocol};
use headwater_market::{
    Head, MarketSnapshot, PoolId, PoolMeta, PoolTable, PriceSnapshot, Reserves, Touched, WholeView,
};
use headwater_reference::arbitrage::{Best, Cycle, Market, Pool, Swap, best_input, search_sized_by};

use crate::proof::{Proof, ProofArgs, Report};

/// The detector against the exhaustive search, block after block.
pub const RECALL: Proof = Proof {
    name: "recall",
    about: "100 seeded markets of 60 pools, 20 blocks each: found = exhaustive search, sizes within 2 units",
    full_duration: "1 min",
    run,
};

/// Gains of a unit or two are within the tolerance of both sides: they may be found or not.
const DUST: u128 = 2;

/// How much is examined.
struct Size {
    markets: u64,
    pools: usize,
    blocks: u64,
    floor: u64,
}

const FULL: Size = Size { markets: 100, pools: 60, blocks: 20, floor: 100_000 };
const QUICK: Size = Size { markets: 6, pools: 40, blocks: 6, floor: 500 };

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let size = if args.quick { QUICK } else { FULL };
    let mut tally = Tally::default();
    for market in 0..size.markets {
        let seed = args.seed.wrapping_mul(1_000_003).wrapping_add(market);
        run_market(seed, &size, &mut tally).with_context(|| format!("market of seed {seed}"))?;
    }
    let Size { markets, pools, blocks, floor } = size;
    let Tally { cycles, unsettled, exact, dust, blocks: evaluated, .. } = tally;
    Ok(Report {
        checked: cycles,
        floor,
        skipped: unsettled,
        seed: args.seed,
        lines: vec![
            format!("{markets} markets of {pools} pools, {blocks} blocks each: {evaluated} blocks evaluated"),
            format!(
                "{cycles} profitable cycles compared: all found, none invented, every amount quoted again"
            ),
            format!(
                "{exact} sized as the exhaustive search or better, the others within {DUST} units of the best"
            ),
            format!("{dust} findings of up to {DUST} units beside them"),
        ],
    })
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    blocks: u64,
    pub(super) cycles: u64,
    pub(super) exact: u64,
    pub(super) dust: u64,
    pub(super) unsettled: u64,
}

fn run_market(seed: u64, size: &Size, tally: &mut Tally) -> anyhow::Result<()> {
    let mut market = Market::new(seed, size.pools);
    let mut table = table(&market.pools);
    let config = ArbitrageConfig { profit_after_gas: false, ..ArbitrageConfig::default() };
    let mut detector = Arbitrage::new(config, market.bases.clone());
    let mut remembered: HashMap<Vec<Swap>, Option<Best>> = HashMap::new();
    let mut touched = Touched::All;
    for number in 1..=size.blocks {
        let found = detector.evaluate(&view(number, &table, touched)?);
        let mut size =
            |swaps: &[Swap]| *remembered.entry(swaps.to_vec()).or_insert_with(|| best_input(swaps));
        let truth = search_sized_by(&market.pools, &market.bases, 3, &mut size);
        compare(&found, &truth, &market.pools, tally).with_context(|| format!("block {number}"))?;
        tally.blocks += 1;
        let changed = market.trade();
        for index in &changed {
            table.set_reserves(PoolId(*index as u32), Some(reserves(&market.pools[*index])));
        }
        touched = Touched::Pools(changed.into_iter().map(|index| PoolId(index as u32)).collect());
    }
    Ok(())
}

/// Path and tokens: what tells one cycle from another.
type Way<'a> = (&'a [Address], &'a [Address]);

fn way(found: &Opportunity) -> Way<'_> {
    (&found.path, &found.tokens)
}

pub(super) fn compare(
    found: &[Opportunity],
    truth: &[Cycle],
    pools: &[Pool],
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let by_way: BTreeMap<Way<'_>, &Opportunity> = found.iter().map(|found| (way(found), found)).collect();
    ensure!(by_way.len() == found.len(), "a cycle is reported twice");
    for cycle in truth {
        let profit =
            by_way.get(&(&cycle.path[..], &cycle.tokens[..])).map_or(0, |found| found.profit.to::<u128>());
        ensure!(profit <= cycle.ceiling, "{profit} is more than any input gains in {cycle:?}");
        // The search's own best is at most one unit from the ceiling that it proved, unless it gave up proving.
        let within = profit + DUST >= cycle.ceiling || profit + DUST > cycle.profit;
        ensure!(within, "{profit} is not within {DUST} units of the best in {cycle:?}");
        tally.cycles += 1;
        tally.exact += u64::from(profit >= cycle.profit);
        tally.unsettled += u64::from(cycle.ceiling > cycle.profit + 1);
    }
    let known: BTreeMap<Way<'_>, &Cycle> =
        truth.iter().map(|cycle| ((&cycle.path[..], &cycle.tokens[..]), cycle)).collect();
    for found in found {
        quote_again(found, pools)?;
        if !known.contains_key(&way(found)) {
            ensure!(found.profit <= U256::from(DUST), "invented: {found:?}");
            tally.dust += 1;
        }
    }
    Ok(())
}

/// Every amount of the plan is what the pool gives, and the profit what they leave.
pub(super) fn quote_again(found: &Opportunity, pools: &[Pool]) -> anyhow::Result<()> {
    let Plan::Swaps(steps) = &found.plan else { anyhow::bail!("not a plan of swaps: {found:?}") };
    let mut amount = found.amount_in;
    for step in steps {
        let pool = pools.iter().find(|pool| pool.address == step.pool).context("an unknown pool")?;
        let Pool { reserve0, reserve1, fee_ppm, .. } = *pool;
        let (reserve_in, reserve_out) =
            if step.token_in == pool.token0 { (reserve0, reserve1) } else { (reserve1, reserve0) };
        let output = Swap { reserve_in, reserve_out, fee_ppm }.output(step.amount_in.to());
        ensure!(step.amount_in == amount, "{step:?} does not continue with {amount}");
        ensure!(output == Some(step.amount_out.to()), "{step:?} gives {output:?}");
        amount = step.amount_out;
    }
    ensure!(
        amount == found.amount_out && found.amount_out - found.amount_in == found.profit,
        "sums differ: {found:?}"
    );
    Ok(())
}

fn reserves(pool: &Pool) -> Reserves {
    Reserves { reserve0: pool.reserve0, reserve1: pool.reserve1 }
}

fn table(pools: &[Pool]) -> PoolTable {
    let mut table = PoolTable::default();
    for pool in pools {
        let meta = PoolMeta {
            address: pool.address,
            factory: Address::ZERO,
            protocol: Protocol::UniswapV2,
            token0: pool.token0,
            token1: pool.token1,
            fee_ppm: pool.fee_ppm,
        };
        let id = table.insert(meta, true);
        table.set_reserves(id, Some(reserves(pool)));
    }
    table
}

fn view(number: u64, pools: &PoolTable, touched: Touched) -> anyhow::Result<WholeView> {
    let as_of = AsOf { seq: number, number, hash: U256::from(number).into() };
    let head = Head { timestamp: 0, base_fee_per_gas: None, gas_used: 0, gas_limit: 0 };
    let market = MarketSnapshot::of_pools(as_of, head, pools.clone());
    let prices = PriceSnapshot {
        as_of,
        quote: Address::ZERO,
        prices: Default::default(),
        sources: Default::default(),
    };
    let decoded = DecodedBlock {
        as_of,
        actions: Vec::new(),
        unknown_logs: 0,
        unknown_calls: 0,
        malformed: 0,
        set_aside: false,
    };
    Ok(WholeView::new(Arc::new(market), Arc::new(prices), Arc::new(decoded), touched)?)
}
