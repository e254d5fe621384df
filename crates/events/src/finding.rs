use std::fmt;

use alloy_primitives::{Address, B256, BlockNumber, I256, TxHash, U256};
use serde::{Deserialize, Serialize};

use crate::envelope::{of_origin, of_vec};
use crate::{AsOf, Origin, PendingTxEvent, Protocol};

/// What a detector found, with everything that is needed to act on it and nothing of when it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opportunity {
    /// What sort of finding.
    pub kind: Kind,
    /// The block that the amounts are exact for.
    pub as_of: AsOf,
    /// The pools, in the order of the swaps.
    pub path: Vec<Address>,
    /// The tokens: `tokens[i]` goes into `path[i]`, the last comes out of the last pool.
    pub tokens: Vec<Address>,
    /// Smallest units of the first token.
    pub amount_in: U256,
    /// Smallest units of the last token.
    pub amount_out: U256,
    /// Smallest units of the first token, before gas.
    pub profit: U256,
    /// Gas that acting on it is expected to use.
    pub gas: u64,
    /// Wei after gas at the next base fee; `None` where the first token has no price at this block, and then nobody
    /// acts on it.
    pub net_profit_wei: Option<I256>,
    /// The last block in which acting on it can still be right.
    pub valid_until: BlockNumber,
    /// How to act on it.
    pub plan: Plan,
}

impl Opportunity {
    /// The pending transaction that acting on it comes right behind; `None` for what stands by itself.
    pub fn follows(&self) -> Option<TxHash> {
        match &self.plan {
            Plan::Behind(behind) => Some(behind.pending.transaction.hash),
            Plan::LiquidateBehind(behind) => Some(behind.pending.transaction.hash),
            Plan::Swaps(_) | Plan::Inform | Plan::Liquidate(_) | Plan::Mixed(_) => None,
        }
    }

    pub(crate) fn on_heap(&self) -> usize {
        let kind = if let Kind::Custom(name) = &self.kind { name.capacity() } else { 0 };
        let plan = match &self.plan {
            Plan::Swaps(steps) => of_vec(steps),
            Plan::Liquidate(plan) => size_of::<LiquidationPlan>() + plan.on_heap(),
            Plan::LiquidateBehind(behind) => {
                size_of::<LiquidateBehind>()
                    + behind.pending.transaction.on_heap()
                    + behind.liquidation.on_heap()
            }
            Plan::Behind(behind) => {
                size_of::<Behind>() + of_vec(&behind.swaps) + behind.pending.transaction.on_heap()
            }
            Plan::Mixed(steps) => of_vec(steps),
            Plan::Inform => 0,
        };
        of_vec(&self.path) + of_vec(&self.tokens) + kind + plan
    }
}

/// What sort of finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A cycle of swaps that ends with more than it began with.
    Arbitrage,
    /// A position that may be liquidated.
    Liquidation,
    /// An arbitrage that a named pending transaction opens.
    Backrun,
    /// A strategy of the user's own.
    Custom(String),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arbitrage => "arbitrage",
            Self::Liquidation => "liquidation",
            Self::Backrun => "backrun",
            Self::Custom(name) => name,
        })
    }
}

/// How the executor can act on an opportunity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Plan {
    /// Swaps through pools, each output the next input.
    Swaps(Vec<SwapStep>),
    /// For information only: the executor refuses it.
    Inform,
    /// A liquidation, and the sale of what was seized. Boxed, because few findings are.
    Liquidate(Box<LiquidationPlan>),
    /// Swaps right behind a pending transaction.
    Behind(Box<Behind>),
    /// Swaps through pools of which some have concentrated liquidity, each output the next input.
    Mixed(Vec<MixedStep>),
    /// A liquidation right behind a pending transaction that makes it possible.
    LiquidateBehind(Box<LiquidateBehind>),
}

/// Repaying somebody's debt for his collateral, which is sold for what was repaid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiquidationPlan {
    /// What the pool computes, as `"aave-v3.6"`.
    pub protocol: String,
    /// The lending pool.
    pub pool: Address,
    /// Whose debt.
    pub borrower: Address,
    /// What is seized.
    pub collateral: Address,
    /// What is repaid.
    pub debt: Address,
    /// What the call names as the most that it pays: all ones, for all that is allowed, unless that would leave dust.
    pub debt_to_cover: U256,
    /// Smallest units of the debt that the call then takes.
    pub repay: U256,
    /// Smallest units of the collateral that the liquidator receives.
    pub seize: U256,
    /// Of the borrower before the call, in wads; below one.
    pub health_factor: U256,
    /// How the collateral is sold for the debt, each output the next input; none where both are the same, or where no pool leads
    /// from one to the other.
    pub sale: Vec<SaleStep>,
    /// Swaps that were left out when collateral, debt and sale were chosen, and might have made them better: beyond the bound of
    /// what is looked at. Zero says that there is no better sale.
    pub unsearched: u32,
}

/// One swap of a sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleStep {
    /// Through which pool, and how much.
    pub step: MixedStep,
    /// By how much less comes out than if all of it went at the pool's price, the fee taken either way: in parts per million,
    /// rounded up.
    pub price_impact_ppm: u32,
}

impl LiquidationPlan {
    fn on_heap(&self) -> usize {
        self.protocol.capacity() + of_vec(&self.sale)
    }
}

/// A liquidation that follows a pending transaction, an oracle's report: as [`Behind`], there is no place in front of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiquidateBehind {
    pending: PendingTxEvent,
    liquidation: LiquidationPlan,
}

impl LiquidateBehind {
    /// `liquidation` right behind `pending`.
    pub fn new(pending: PendingTxEvent, liquidation: LiquidationPlan) -> Self {
        Self { pending, liquidation }
    }

    /// The transaction that is followed.
    pub fn pending(&self) -> &PendingTxEvent {
        &self.pending
    }

    /// What is done then: health and amounts are those behind the transaction.
    pub fn liquidation(&self) -> &LiquidationPlan {
        &self.liquidation
    }
}

/// Swaps that follow a pending transaction of somebody else's.
///
/// The order is part of the type: there is one list of swaps, it stands behind the transaction, and there is no place in front
/// of it. So nothing that is made of this can be put before a user's trade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    pending: PendingTxEvent,
    swaps: Vec<MixedStep>,
}

/// A part of what is to be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg<'a> {
    /// The transaction as its sender signed it.
    Theirs(&'a PendingTxEvent),
    /// The swaps, each output the next input.
    Ours(&'a [MixedStep]),
}

impl Behind {
    /// `swaps` right behind `pending`.
    pub fn new(pending: PendingTxEvent, swaps: Vec<MixedStep>) -> Self {
        Self { pending, swaps }
    }

    /// The transaction that is followed.
    pub fn pending(&self) -> &PendingTxEvent {
        &self.pending
    }

    /// The swaps, each output the next input.
    pub fn swaps(&self) -> &[MixedStep] {
        &self.swaps
    }

    /// Whether any of the pools has concentrated liquidity.
    pub fn is_mixed(&self) -> bool {
        self.swaps.iter().any(|step| step.protocol != Protocol::UniswapV2)
    }

    /// What is executed, in the order in which it is.
    pub fn in_order(&self) -> [Leg<'_>; 2] {
        [Leg::Theirs(&self.pending), Leg::Ours(&self.swaps)]
    }
}

/// One swap through a pool; by itself, of constant product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapStep {
    /// The pool.
    pub pool: Address,
    /// The token that goes in.
    pub token_in: Address,
    /// The token that comes out.
    pub token_out: Address,
    /// Smallest units in.
    pub amount_in: U256,
    /// Smallest units out.
    pub amount_out: U256,
}

/// One swap through a pool of whatever kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixedStep {
    /// What the pool computes.
    pub protocol: Protocol,
    /// Which of the pools at the address it is: the `PoolId` of Uniswap V4; none where each has an address of its own.
    pub pool_id: Option<B256>,
    /// Whether its token 0, the one with the lower address, goes in.
    pub zero_for_one: bool,
    /// Where, and how much.
    pub swap: SwapStep,
}

impl From<SwapStep> for MixedStep {
    /// A swap through a pool of constant product.
    fn from(swap: SwapStep) -> Self {
        let zero_for_one = swap.token_in < swap.token_out;
        Self { protocol: Protocol::UniswapV2, pool_id: None, zero_for_one, swap }
    }
}

/// All that one detector found in one block; empty sets are sent as well, so that a block can be known to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpportunitySet {
    /// The block.
    pub as_of: AsOf,
    /// The detector.
    pub detector: Origin,
    /// Sorted, best first.
    pub items: Vec<Opportunity>,
}

/// What was found behind one pending transaction. It says nothing of the block itself: that is in the detectors' own sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackrunSet {
    /// The findings; their block is the one that transaction and plan would follow.
    pub set: OpportunitySet,
    /// How many findings and outcomes were derived from the block before, so that each has an index of its own.
    pub first: u32,
}

/// Names an opportunity within a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OpportunityId {
    /// The block.
    pub as_of: AsOf,
    /// The detector.
    pub detector: Origin,
    /// Place in the detector's set.
    pub index: u32,
}

/// What became of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which finding.
    pub opportunity: OpportunityId,
    /// What became of it.
    pub verdict: Verdict,
    /// What the simulation said, where one ran.
    pub simulated: Option<Simulated>,
}

impl Outcome {
    pub(crate) fn on_heap(&self) -> usize {
        let reason = match &self.verdict {
            Verdict::Refused(
                Refusal::Reverted(words) | Refusal::SimulationFailed(words) | Refusal::NotWhole(words),
            ) => words.capacity(),
            _ => 0,
        };
        of_origin(&self.opportunity.detector) + reason
    }
}

/// The executor's judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Simulated and worth it: this would be sent, if sending were allowed.
    WouldSend,
    /// Not to be acted upon.
    Refused(Refusal),
    /// Its block was no longer the head when its turn came.
    Expired,
    /// There is no state to simulate on, as in a replay; never acted upon.
    Unsimulated,
}

/// Why a finding is not acted upon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// Its block was reorganised away.
    Orphaned,
    /// No price, hence no net profit.
    NoNetProfit,
    /// Less than the configured least.
    BelowMinimum,
    /// The execution reverted or failed, with the reason.
    Reverted(String),
    /// The simulation yields less than the detector predicted.
    ProfitDiffers {
        /// Smallest units that the simulation yields.
        simulated: U256,
    },
    /// The simulation could not be run, with the reason; a finding that was not simulated is not sent.
    SimulationFailed(String),
    /// The plan says nothing to act on.
    NothingToDo,
    /// The journal does not keep up: what would be acted upon might not be on record.
    JournalStalled,
    /// Better ones of the same set used up the simulations that a block is allowed.
    TooMany,
    /// A part of the system was given up: the process is about to end.
    Ending,
    /// The executor does not carry out plans of this sort yet.
    NotExecutable,
    /// The transaction that it follows is no longer pending: mined, replaced, or not seen for too long.
    TransactionGone,
    /// The transaction that it follows and the plan could not be executed one after the other, with the reason.
    NotWhole(String),
}

/// What a simulation said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Simulated {
    /// Smallest units of the first token gained.
    pub profit: U256,
    /// Gas used, where the simulation tells.
    pub gas_used: Option<u64>,
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{B256, Bytes};

    use super::*;
    use crate::Transaction;

    #[test]
    fn the_transaction_comes_before_what_follows_it() {
        let transaction = Transaction {
            hash: B256::repeat_byte(7),
            from: Address::ZERO,
            to: None,
            value: U256::ZERO,
            input: Bytes::new(),
            nonce: 0,
            gas_limit: 0,
        };
        let pending = PendingTxEvent { transaction, max_fee_per_gas: 1, max_priority_fee_per_gas: None };
        let behind = Behind::new(pending.clone(), Vec::new());
        assert_eq!(behind.in_order(), [Leg::Theirs(&pending), Leg::Ours(&[])]);
    }
}
