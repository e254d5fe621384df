//! Positions that an oracle's pending report would make liquidatable.

use std::collections::BTreeSet;
use std::sync::Arc;

use alloy_primitives::{Address, I256, U256};
use headwater_events::{LiquidateBehind, Opportunity, PendingTxEvent, Plan};
use headwater_market::{LendingTable, MarketSnapshot, MixedBlocks, PendingReport, PriceSnapshot, Touched};

use crate::backrun::view;
use crate::{Detector, LiquidationConfig, Liquidations};

mod actor;

pub use actor::{CrossingActor, CrossingMessage, CrossingObserved, CrossingWiring};

/// Finds what a pending report makes liquidatable: positions that are not without it, in the block that would take it.
///
/// **Which time.** The report lands in the next block, so that health and amounts are those of a call right behind it, at the time
/// that a next block is taken to have. What interest alone makes liquidatable until then is not told here: the block's own
/// findings have it as soon as it is so. Nor is a position that may be liquidated anyhow, whose amounts the report only moves.
///
/// Sales and what they are worth are by the pools and the confirmed prices of the block: a pending price is used for the health of
/// positions and for what the pool pays, as the contract will, and for nothing else.
#[derive(Debug)]
pub struct Crossings {
    config: LiquidationConfig,
    block_time_s: u64,
    /// Of everything, whatever it is worth.
    search: Liquidations,
    base: Option<Base>,
}

/// The state behind a block.
#[derive(Debug)]
struct Base {
    market: Arc<MarketSnapshot>,
    prices: Arc<PriceSnapshot>,
    /// What may be liquidated in the next block without any report: pool and borrower.
    open: BTreeSet<(Address, Address)>,
}

impl Crossings {
    /// `block_time_s`: seconds from a block to the one that takes a report.
    pub fn new(config: LiquidationConfig, block_time_s: u64) -> Self {
        let everything = LiquidationConfig { profit_after_gas: false, ..config.clone() };
        Self { config, block_time_s, search: Liquidations::new(everything), base: None }
    }

    /// Goes on to the state behind a block.
    ///
    /// # Errors
    ///
    /// [`MixedBlocks`] where market and prices are of different ones.
    pub fn stand_behind(
        &mut self,
        market: Arc<MarketSnapshot>,
        prices: Arc<PriceSnapshot>,
    ) -> Result<(), MixedBlocks> {
        self.base = None;
        let lending = market.lending.at(self.next(&market));
        let found = self.evaluate(&market, &prices, lending)?;
        let open = found.iter().filter_map(position).collect();
        self.base = Some(Base { market, prices, open });
        Ok(())
    }

    /// Stands nowhere, until the next block.
    pub fn forget(&mut self) {
        self.base = None;
    }

    /// What can be liquidated right behind a report and not without it. Each names the transaction, is of the block's state and void
    /// after the next block.
    ///
    /// # Errors
    ///
    /// [`MixedBlocks`], never for a state that [`Crossings::stand_behind`] has taken.
    pub fn behind(&mut self, report: &PendingReport) -> Result<Vec<Opportunity>, MixedBlocks> {
        let Some(base) = self.base.take() else { return Ok(Vec::new()) };
        let found = self.behind_base(&base, report);
        self.base = Some(base);
        found
    }

    fn behind_base(&mut self, base: &Base, report: &PendingReport) -> Result<Vec<Opportunity>, MixedBlocks> {
        let Base { market, prices, open } = base;
        let PendingReport { aggregator, answer, pending, .. } = report;
        let Some(lending) = market.lending.behind(aggregator, *answer, self.next(market)) else {
            return Ok(Vec::new());
        };
        let found = self.evaluate(market, prices, lending)?.into_iter();
        let new = found.filter(|found| position(found).is_some_and(|position| !open.contains(&position)));
        let worth_it = new.filter(|found| self.is_worth_it(found));
        Ok(worth_it.filter_map(|found| follow(found, pending)).collect())
    }

    fn next(&self, market: &MarketSnapshot) -> u64 {
        market.head.timestamp.saturating_add(self.block_time_s)
    }

    fn evaluate(
        &mut self,
        market: &Arc<MarketSnapshot>,
        prices: &Arc<PriceSnapshot>,
        lending: LendingTable,
    ) -> Result<Vec<Opportunity>, MixedBlocks> {
        let mut next = MarketSnapshot { lending, ..MarketSnapshot::clone(market) };
        next.head.timestamp = self.next(market);
        Ok(self.search.evaluate(&view(&Arc::new(next), prices, Touched::All)?))
    }

    fn is_worth_it(&self, found: &Opportunity) -> bool {
        let least = I256::try_from(self.config.min_net_profit_wei.max(U256::ONE)).unwrap_or(I256::MAX);
        !self.config.profit_after_gas || found.net_profit_wei.is_some_and(|net| net >= least)
    }
}

fn position(found: &Opportunity) -> Option<(Address, Address)> {
    let Plan::Liquidate(plan) = &found.plan else { return None };
    Some((plan.pool, plan.borrower))
}

/// The finding as one that follows the transaction.
fn follow(found: Opportunity, pending: &PendingTxEvent) -> Option<Opportunity> {
    let Plan::Liquidate(plan) = found.plan else { return None };
    let plan = Plan::LiquidateBehind(Box::new(LiquidateBehind::new(pending.clone(), *plan)));
    Some(Opportunity { plan, ..found })
}
