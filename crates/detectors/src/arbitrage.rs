//! Cycles of constant-product pools that end with more than they began with.

use std::cmp::Reverse;

use alloy_primitives::{Address, I256, U256, U512};
use headwater_events::{Kind, Opportunity, Plan, Price, SwapStep};
use headwater_market::{PoolId, PoolTable, Touched, WholeView};

use crate::{ArbitrageConfig, Detector};

mod graph;
mod search;

use graph::Graph;
use search::{Cycle, Search};

/// Finds every cycle of two or three pools that gains, from the first configured base token that it contains.
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
        let graph = Graph::new(&base_tokens, config.max_hops.get());
        Self { config, base_tokens, graph, search: Search::default() }
    }

    /// How many cycles gain before gas, as of the last evaluation.
    pub fn standing(&self) -> usize {
        self.search.standing().count()
    }

    fn examine(&mut self, pools: &PoolTable, touched: &Touched) {
        // A table that shrank is another table.
        if *touched == Touched::All || pools.len() < self.graph.pools() {
            self.graph = Graph::new(&self.base_tokens, self.config.max_hops.get());
            self.search = Search::default();
        }
        let unseen = self.graph.pools()..pools.len();
        let fresh: Vec<PoolId> = unseen.filter_map(|index| self.graph.insert(pools, index)).collect();
        let changed: &[PoolId] = if let Touched::Pools(changed) = touched { changed } else { &[] };
        self.graph.fetch(changed);
        self.graph.begin_round();
        for id in fresh.iter().chain(changed) {
            self.graph.update(*id, pools.quoted(*id));
        }
        self.search.examine(&mut self.graph);
    }

    fn report(&self, view: &WholeView) -> Vec<Opportunity> {
        let worth = Worth::at(view, &self.config, &self.base_tokens);
        let standing = self.search.standing().filter(|cycle| worth.is_worth_it(cycle));
        let mut found: Vec<_> = standing.filter_map(|cycle| self.opportunity(view, &worth, cycle)).collect();
        found.sort_by(|a, b| {
            let key = |found: &Opportunity| (Reverse(found.net_profit_wei), Reverse(found.profit));
            key(a).cmp(&key(b)).then_with(|| (&a.path, &a.tokens).cmp(&(&b.path, &b.tokens)))
        });
        found
    }

    fn opportunity(&self, view: &WholeView, worth: &Worth<'_>, cycle: &Cycle) -> Option<Opportunity> {
        let pools = &view.market().pools;
        let mut amount_in = U256::from(cycle.sizing.amount_in);
        let mut steps = Vec::with_capacity(cycle.hops.len());
        for (hop, amount_out) in cycle.hops.iter().zip(&cycle.sizing.amounts) {
            let meta = pools.meta(PoolId(hop.pool))?;
            let (token_in, token_out) = self.graph.tokens_of(hop);
            let amount_out = U256::from(*amount_out);
            steps.push(SwapStep { pool: meta.address, token_in, token_out, amount_in, amount_out });
            amount_in = amount_out;
        }
        let first = steps.first()?.token_in;
        Some(Opportunity {
            kind: Kind::Arbitrage,
            as_of: view.as_of(),
            path: steps.iter().map(|step| step.pool).collect(),
            tokens: std::iter::once(first).chain(steps.iter().map(|step| step.token_out)).collect(),
            amount_in: U256::from(cycle.sizing.amount_in),
            amount_out: U256::from(cycle.sizing.amount_out),
            profit: U256::from(cycle.sizing.profit),
            gas: self.config.gas(cycle.hops.len()),
            net_profit_wei: worth.net_profit(cycle),
            valid_until: view.as_of().number + 1,
            plan: Plan::Swaps(steps),
        })
    }
}

impl Detector for Arbitrage {
    fn name(&self) -> &str {
        "arbitrage"
    }

    fn evaluate(&mut self, view: &WholeView) -> Vec<Opportunity> {
        self.examine(&view.market().pools, view.touched());
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
    /// By rank of the base token: its price, and the least profit that is worth it for each number of hops.
    bases: Vec<(Option<Price>, [Option<u128>; 4])>,
}

impl<'a> Worth<'a> {
    fn at(view: &WholeView, config: &'a ArbitrageConfig, base_tokens: &[Address]) -> Self {
        let next_base_fee = view.market().head.next_base_fee_per_gas().unwrap_or(0);
        let mut worth = Self { config, next_base_fee, bases: Vec::with_capacity(base_tokens.len()) };
        for token in base_tokens {
            let price = view.prices().price(token);
            let least = [0, 1, 2, 3].map(|hops| worth.least_profit(price?, hops));
            worth.bases.push((price, least));
        }
        worth
    }

    /// One comparison: of all standing cycles, few are worth more.
    fn is_worth_it(&self, cycle: &Cycle) -> bool {
        !self.config.profit_after_gas
            || self.bases[cycle.base].1[cycle.hops.len()].is_some_and(|least| cycle.sizing.profit >= least)
    }

    fn net_profit(&self, cycle: &Cycle) -> Option<I256> {
        let gross = self.bases[cycle.base].0?.value(U256::from(cycle.sizing.profit))?;
        I256::try_from(gross).ok()?.checked_sub(I256::try_from(self.cost(cycle.hops.len())).ok()?)
    }

    fn cost(&self, hops: usize) -> U256 {
        U256::from(self.config.gas(hops)) * U256::from(self.next_base_fee)
    }

    /// The least profit whose value, rounded down, covers gas and the configured minimum; `None` if none can.
    fn least_profit(&self, price: Price, hops: usize) -> Option<u128> {
        let minimum = self.config.min_net_profit_wei.max(U256::ONE);
        let value = U512::from(minimum.checked_add(self.cost(hops))?);
        let mantissa = Some(U512::from(price.mantissa)).filter(|mantissa| !mantissa.is_zero())?;
        let scale = U512::from(10u8).pow(U512::from(Price::SCALE));
        // ⌊profit · mantissa / scale⌋ ≥ value, solved for the profit.
        let least = value.checked_mul(scale)?.div_ceil(mantissa);
        (least.bit_len() <= 128).then(|| least.to())
    }
}

#[cfg(test)]
mod tests;
