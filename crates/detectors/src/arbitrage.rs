//! Cycles of pools, of constant product or with concentrated liquidity, that end with more than they began with.

use std::cmp::Reverse;

use alloy_primitives::{Address, B256, I256, U256, U512};
use headwater_events::{Kind, MixedStep, Opportunity, Plan, Price, Protocol, SwapStep};
use headwater_market::{ConcentratedKind, ConcentratedMeta, MarketSnapshot, PoolId, Touched, WholeView};

use crate::{ArbitrageConfig, Detector};

mod graph;
mod search;

use graph::{AnyPool, Graph};
pub use search::Examined;
use search::{Cycle, Search};

/// What the findings of [`Arbitrage`] are told under.
pub const ARBITRAGE: &str = "arbitrage";

/// Finds every cycle of two pools and up to as many as configured that gains, from the first configured base token that it contains.
///
/// It keeps the cycles that gain before gas, with their exact sizes, and re-examines only those through pools that a
/// block touched. What of them is worth its gas is decided anew for every block, because the base fee and the prices
/// change with every block; so the findings follow from the view alone.
#[derive(Debug)]
pub struct Arbitrage {
    config: ArbitrageConfig,
    base_tokens: Vec<Address>,
    graph: Graph,
    search: Search,
}

impl Arbitrage {
    /// `base_tokens` in the order of the configuration: a cycle is reported from the first one that it contains.
    pub fn new(config: ArbitrageConfig, base_tokens: Vec<Address>) -> Self {
        let graph = Graph::new(&base_tokens, &config);
        Self { config, base_tokens, graph, search: Search::default() }
    }

    /// How many cycles gain before gas, as of the last evaluation.
    pub fn standing(&self) -> usize {
        self.search.standing().count()
    }

    /// What the last evaluation looked at.
    pub fn examined(&self) -> Examined {
        self.search.examined()
    }

    fn examine(&mut self, view: &WholeView) {
        let market = view.market();
        if self.is_to_begin_anew(view) {
            self.graph = Graph::new(&self.base_tokens, &self.config);
            self.search = Search::default();
        }
        let fresh = self.graph.insert_new(market);
        let changed: &[PoolId] = if let Touched::Pools(changed) = view.touched() { changed } else { &[] };
        let concentrated = if let Touched::Pools(ids) = view.touched_concentrated() { &ids[..] } else { &[] };
        self.graph.fetch(changed);
        self.graph.begin_round();
        let changed = changed.iter().copied().map(AnyPool::Plain);
        let concentrated = concentrated.iter().copied().map(AnyPool::Concentrated);
        for pool in fresh.into_iter().chain(changed).chain(concentrated) {
            self.graph.update(pool, market);
        }
        self.search.examine(&mut self.graph);
    }

    /// Where anything may have changed, or the tables are others.
    fn is_to_begin_anew(&self, view: &WholeView) -> bool {
        let market = view.market();
        *view.touched() == Touched::All
            || (*view.touched_concentrated() == Touched::All && !market.concentrated.is_empty())
            || self.graph.is_beyond(market)
    }

    fn report(&self, view: &WholeView) -> Vec<Opportunity> {
        let mut worth = Worth::at(view, &self.config, &self.base_tokens);
        let standing: Vec<_> = self.search.standing().filter(|cycle| worth.is_worth_it(cycle)).collect();
        let found = standing.into_iter().filter_map(|cycle| self.opportunity(view, &worth, cycle));
        let mut found: Vec<_> = found.collect();
        found.sort_by(|a, b| {
            let key = |found: &Opportunity| (Reverse(found.net_profit_wei), Reverse(found.profit));
            let way = |found: &Opportunity| (found.path.clone(), found.tokens.clone(), pool_ids(found));
            key(a).cmp(&key(b)).then_with(|| way(a).cmp(&way(b)))
        });
        found
    }

    fn opportunity(&self, view: &WholeView, worth: &Worth<'_>, cycle: &Cycle) -> Option<Opportunity> {
        let steps = self.steps(view.market(), cycle)?;
        let swaps = || steps.iter().map(|step| &step.swap);
        let first = swaps().next()?.token_in;
        Some(Opportunity {
            kind: Kind::Arbitrage,
            as_of: view.as_of(),
            path: swaps().map(|swap| swap.pool).collect(),
            tokens: std::iter::once(first).chain(swaps().map(|swap| swap.token_out)).collect(),
            amount_in: U256::from(cycle.sizing.amount_in),
            amount_out: U256::from(cycle.sizing.amount_out),
            profit: U256::from(cycle.sizing.profit),
            gas: cycle.gas,
            net_profit_wei: worth.net_profit(cycle),
            valid_until: view.as_of().number + 1,
            plan: plan_of(steps),
        })
    }

    /// The swaps of a cycle, each output the next input.
    fn steps(&self, market: &MarketSnapshot, cycle: &Cycle) -> Option<Vec<MixedStep>> {
        let mut amount_in = U256::from(cycle.sizing.amount_in);
        let mut steps = Vec::with_capacity(cycle.hops.len());
        for (hop, amount_out) in cycle.hops.iter().zip(&cycle.sizing.amounts) {
            let (id, protocol, zero_for_one) = self.graph.pool_of(hop);
            let (pool, pool_id) = match id {
                AnyPool::Plain(id) => (market.pools.meta(id)?.address, None),
                AnyPool::Concentrated(id) => address_of(market.concentrated.meta(id)?),
            };
            let (token_in, token_out) = self.graph.tokens_of(hop);
            let amount_out = U256::from(*amount_out);
            let swap = SwapStep { pool, token_in, token_out, amount_in, amount_out };
            steps.push(MixedStep { protocol, pool_id, zero_for_one, swap });
            amount_in = amount_out;
        }
        Some(steps)
    }
}

fn address_of(meta: &ConcentratedMeta) -> (Address, Option<B256>) {
    match meta.kind {
        ConcentratedKind::V3 => (meta.address, None),
        ConcentratedKind::V4 { id } => (meta.address, Some(id)),
    }
}

/// What tells pools apart that share an address.
fn pool_ids(found: &Opportunity) -> Vec<Option<B256>> {
    match &found.plan {
        Plan::Mixed(steps) => steps.iter().map(|step| step.pool_id).collect(),
        _ => Vec::new(),
    }
}

/// A program of plain swaps, where all pools are of constant product.
fn plan_of(steps: Vec<MixedStep>) -> Plan {
    if steps.iter().all(|step| step.protocol == Protocol::UniswapV2) {
        Plan::Swaps(steps.into_iter().map(|step| step.swap).collect())
    } else {
        Plan::Mixed(steps)
    }
}

impl Detector for Arbitrage {
    fn name(&self) -> &str {
        ARBITRAGE
    }

    fn evaluate(&mut self, view: &WholeView) -> Vec<Opportunity> {
        self.examine(view);
        self.report(view)
    }
}

/// What a profit is worth after gas, in one block.
///
/// Gas is paid at the base fee of the next block, and counts nothing on a chain that has none. A base token without a
/// price has no net profit.
struct Worth<'a> {
    config: &'a ArbitrageConfig,
    next_base_fee: u64,
    /// By rank of the base token.
    bases: Vec<WorthOf>,
}

/// What a profit in one base token is worth.
#[derive(Default)]
struct WorthOf {
    price: Option<Price>,
    /// The least profit that is worth so much gas, for the few figures of gas that came up.
    least: Vec<(u64, Option<u128>)>,
}

impl<'a> Worth<'a> {
    fn at(view: &WholeView, config: &'a ArbitrageConfig, base_tokens: &[Address]) -> Self {
        let next_base_fee = view.market().head.next_base_fee_per_gas().unwrap_or(0);
        let of = |token| WorthOf { price: view.prices().price(token), least: Vec::new() };
        Self { config, next_base_fee, bases: base_tokens.iter().map(of).collect() }
    }

    /// One comparison: of all standing cycles, few are worth more.
    fn is_worth_it(&mut self, cycle: &Cycle) -> bool {
        !self.config.profit_after_gas
            || self.least(cycle.base, cycle.gas).is_some_and(|least| cycle.sizing.profit >= least)
    }

    fn least(&mut self, base: usize, gas: u64) -> Option<u128> {
        let WorthOf { price, least } = &self.bases[base];
        if let Some((_, least)) = least.iter().find(|(of, _)| *of == gas) {
            return *least;
        }
        let least = price.and_then(|price| self.least_profit(price, gas));
        self.bases[base].least.push((gas, least));
        least
    }

    fn net_profit(&self, cycle: &Cycle) -> Option<I256> {
        let gross = self.bases[cycle.base].price?.value(U256::from(cycle.sizing.profit))?;
        I256::try_from(gross).ok()?.checked_sub(I256::try_from(self.cost(cycle.gas)).ok()?)
    }

    fn cost(&self, gas: u64) -> U256 {
        U256::from(gas) * U256::from(self.next_base_fee)
    }

    /// The least profit whose value, rounded down, covers gas and the configured minimum; `None` if none can.
    fn least_profit(&self, price: Price, gas: u64) -> Option<u128> {
        let minimum = self.config.min_net_profit_wei.max(U256::ONE);
        let value = U512::from(minimum.checked_add(self.cost(gas))?);
        let mantissa = Some(U512::from(price.mantissa)).filter(|mantissa| !mantissa.is_zero())?;
        let scale = U512::from(10u8).pow(U512::from(Price::SCALE));
        // ⌊profit · mantissa / scale⌋ ≥ value, solved for the profit.
        let least = value.checked_mul(scale)?.div_ceil(mantissa);
        (least.bit_len() <= 128).then(|| least.to())
    }
}

#[cfg(test)]
mod tests;
