//! The objects as they are written: types of their own, so that results stay stable when events grow.

use alloy_primitives::{Address, B256, BlockHash, TxHash, b256};
use headwater_bus::{Stage, Stamps};
use headwater_events::{
    BlockEvent, LiquidationPlan, MixedStep, Opportunity, Origin, Outcome, Plan, Protocol, Refusal,
    ReorgEvent, SaleStep, SourceGap, Verdict,
};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// Topic 0 of the swaps that are counted: `keccak256` of each event's canonical signature.
pub(crate) const SWAPS: [B256; 4] = [
    // Swap(address,uint256,uint256,uint256,uint256,address), of a Uniswap V2 pair.
    b256!("d78ad95fa46c994b6551d0da85fc275fe613ce37657fb8d5e3d130840159d822"),
    // Swap(address,address,int256,int256,uint160,uint128,int24), of a Uniswap V3 pool.
    b256!("c42079f94a6350d7e6235f29174924f928cc2ac818eb64fed8004e115fbcca67"),
    // The same of PancakeSwap V3, with uint128,uint128 behind.
    b256!("19b47279256b2a23a1665c810c8d55a1758940ee09377d4f8d26497a3577dc83"),
    // Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24), of the Uniswap V4 PoolManager.
    b256!("40e9cecb9f5f1f1c5b9c97dec2917b7ee92e57ba5563708daca94dd84ad7112f"),
];

/// How many `Swap` logs of Uniswap V2, V3 and V4 and PancakeSwap V3 a block has, whoever emitted them.
pub(crate) fn swaps(block: &BlockEvent) -> u64 {
    let is_swap = |topic: &B256| SWAPS.contains(topic);
    block.logs.iter().filter(|log| log.topics.first().is_some_and(is_swap)).count() as u64
}

#[derive(Debug, Serialize)]
pub(super) struct BlockView {
    number: u64,
    hash: BlockHash,
    parent_hash: BlockHash,
    txs: u64,
    logs: u64,
    swaps: u64,
    grade: &'static str,
    latency_ns: StampsView,
}

impl BlockView {
    pub(super) fn new(block: &BlockEvent) -> Self {
        Self {
            number: block.header.number,
            hash: block.header.hash,
            parent_hash: block.header.parent_hash,
            txs: block.transactions.len() as u64,
            logs: block.logs.len() as u64,
            swaps: swaps(block),
            grade: block.grade.as_str(),
            latency_ns: StampsView(None),
        }
    }

    pub(super) fn stamped(self, stamps: Option<Stamps>) -> Self {
        Self { latency_ns: StampsView(stamps), ..self }
    }
}

/// Nanoseconds since the first stamp for each stage that was reached.
#[derive(Debug)]
struct StampsView(Option<Stamps>);

impl Serialize for StampsView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for stage in Stage::ALL {
            if let Some(nanos) = self.0.and_then(|stamps| stamps.since_first(stage)) {
                map.serialize_entry(stage.as_str(), &nanos)?;
            }
        }
        map.end()
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ReorgView {
    depth: u64,
    old_head: BlockHash,
    new_head: BlockHash,
}

impl ReorgView {
    pub(super) fn new(reorg: &ReorgEvent) -> Self {
        Self { depth: reorg.depth() as u64, old_head: reorg.old_head, new_head: reorg.new_head }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct GapView {
    from: u64,
    to: u64,
    filled: u64,
}

impl GapView {
    pub(super) fn new(gap: &SourceGap) -> Self {
        Self { from: gap.from, to: gap.to, filled: gap.filled }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct OpportunityView<'a> {
    kind: String,
    block: u64,
    block_hash: BlockHash,
    path: &'a [Address],
    tokens: &'a [Address],
    amount_in: String,
    amount_out: String,
    profit: String,
    gas: u64,
    net_profit_wei: Option<String>,
    /// The pending transaction that acting on it comes right behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    follows: Option<TxHash>,
    detector: Option<&'a str>,
    index: Option<u32>,
    #[serde(flatten)]
    liquidation: Option<LiquidationView<'a>>,
    /// What each pool computes and does, where they are not all of constant product, and of every sale.
    #[serde(skip_serializing_if = "Option::is_none")]
    hops: Option<Vec<HopView>>,
}

/// One pool of a path that mixes kinds.
#[derive(Debug, Serialize)]
struct HopView {
    protocol: Protocol,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_id: Option<B256>,
    zero_for_one: bool,
    amount_in: String,
    amount_out: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    price_impact_ppm: Option<u32>,
}

/// What only a liquidation has.
#[derive(Debug, Serialize)]
struct LiquidationView<'a> {
    protocol: &'a str,
    borrower: Address,
    collateral: Address,
    debt: Address,
    repay: String,
    seize: String,
    health_factor: String,
    /// Swaps that were left out of the search for the best sale.
    #[serde(skip_serializing_if = "Option::is_none")]
    unsearched: Option<u32>,
}

impl<'a> OpportunityView<'a> {
    pub(super) fn new(found: &'a Opportunity, derived: Option<&'a (Origin, u32)>) -> Self {
        Self {
            kind: found.kind.to_string(),
            block: found.as_of.number,
            block_hash: found.as_of.hash,
            path: &found.path,
            tokens: &found.tokens,
            amount_in: found.amount_in.to_string(),
            amount_out: found.amount_out.to_string(),
            profit: found.profit.to_string(),
            gas: found.gas,
            net_profit_wei: found.net_profit_wei.map(|wei| wei.to_string()),
            follows: found.follows(),
            detector: derived.map(|(origin, _)| origin.as_ref()),
            index: derived.map(|(_, index)| *index),
            liquidation: liquidation(&found.plan).map(LiquidationView::new),
            hops: match &found.plan {
                Plan::Mixed(steps) => Some(steps.iter().map(HopView::new).collect()),
                Plan::Behind(behind) if behind.is_mixed() => {
                    Some(behind.swaps().iter().map(HopView::new).collect())
                }
                Plan::Liquidate(_) | Plan::LiquidateBehind(_) => sale(&found.plan),
                Plan::Swaps(_) | Plan::Behind(_) | Plan::Inform => None,
            },
        }
    }
}

fn liquidation(plan: &Plan) -> Option<&LiquidationPlan> {
    match plan {
        Plan::Liquidate(plan) => Some(plan),
        Plan::LiquidateBehind(behind) => Some(behind.liquidation()),
        Plan::Swaps(_) | Plan::Behind(_) | Plan::Mixed(_) | Plan::Inform => None,
    }
}

/// The swaps that sell what is seized, if there are any.
fn sale(plan: &Plan) -> Option<Vec<HopView>> {
    let sale = liquidation(plan).map(|plan| &plan.sale).filter(|sale| !sale.is_empty())?;
    let told = |SaleStep { step, price_impact_ppm }: &SaleStep| HopView {
        price_impact_ppm: Some(*price_impact_ppm),
        ..HopView::new(step)
    };
    Some(sale.iter().map(told).collect())
}

impl HopView {
    fn new(step: &MixedStep) -> Self {
        Self {
            protocol: step.protocol,
            pool_id: step.pool_id,
            zero_for_one: step.zero_for_one,
            amount_in: step.swap.amount_in.to_string(),
            amount_out: step.swap.amount_out.to_string(),
            price_impact_ppm: None,
        }
    }
}

impl<'a> LiquidationView<'a> {
    fn new(plan: &'a LiquidationPlan) -> Self {
        Self {
            protocol: &plan.protocol,
            borrower: plan.borrower,
            collateral: plan.collateral,
            debt: plan.debt,
            repay: plan.repay.to_string(),
            seize: plan.seize.to_string(),
            health_factor: plan.health_factor.to_string(),
            unsearched: Some(plan.unsearched).filter(|swaps| *swaps > 0),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct OutcomeView<'a> {
    block: u64,
    block_hash: BlockHash,
    detector: &'a str,
    index: u32,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    simulated_profit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gas_used: Option<u64>,
}

impl<'a> OutcomeView<'a> {
    pub(super) fn new(outcome: &'a Outcome) -> Self {
        let refusal = match &outcome.verdict {
            Verdict::Refused(refusal) => Some(refusal),
            Verdict::WouldSend | Verdict::Expired | Verdict::Unsimulated => None,
        };
        let simulated = outcome.simulated.as_ref();
        Self {
            block: outcome.opportunity.as_of.number,
            block_hash: outcome.opportunity.as_of.hash,
            detector: &outcome.opportunity.detector,
            index: outcome.opportunity.index,
            verdict: verdict(&outcome.verdict),
            reason: refusal.map(reason),
            detail: refusal.and_then(detail),
            simulated_profit: simulated.map(|simulated| simulated.profit.to_string()),
            gas_used: simulated.and_then(|simulated| simulated.gas_used),
        }
    }
}

/// A verdict as it is written.
pub(crate) fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::WouldSend => "would_send",
        Verdict::Refused(_) => "refused",
        Verdict::Expired => "expired",
        Verdict::Unsimulated => "unsimulated",
    }
}

/// A refusal as it is written.
pub(crate) fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Orphaned => "orphaned",
        Refusal::NoNetProfit => "no_net_profit",
        Refusal::BelowMinimum => "below_minimum",
        Refusal::Reverted(_) => "reverted",
        Refusal::ProfitDiffers { .. } => "profit_differs",
        Refusal::SimulationFailed(_) => "simulation_failed",
        Refusal::NothingToDo => "nothing_to_do",
        Refusal::JournalStalled => "journal_stalled",
        Refusal::TooMany => "too_many",
        Refusal::Ending => "ending",
        Refusal::NotExecutable => "not_executable",
        Refusal::TransactionGone => "transaction_gone",
        Refusal::NotWhole(_) => "not_whole",
    }
}

fn detail(refusal: &Refusal) -> Option<&str> {
    match refusal {
        Refusal::Reverted(words) | Refusal::SimulationFailed(words) | Refusal::NotWhole(words) => Some(words),
        _ => None,
    }
}
