//! Positions that may be liquidated, and what that is worth once the collateral is sold.

use std::cmp::Reverse;
use std::sync::Arc;

use alloy_primitives::{Address, I256, U256};
use headwater_events::{Kind, LiquidationPlan, Opportunity, Plan};
use headwater_lending::{
    Crossing, LendingError, Liquidation, LiquidationCall, LiquidationIndex, Market, Pair, Refusal, ReserveId,
    Revision, Touch,
};
use headwater_market::{LendingMarket, WholeView};
use tracing::warn;

use crate::{Detector, LiquidationConfig};

mod sale;

use sale::{Routes, Sale};

/// Finds every position that may be liquidated, with the greatest call that goes through for the pair of assets that is worth
/// most, and the sale of what is seized.
///
/// **Which time.** Interest accrues by the second. Health and amounts are those of a call that is executed on the state and
/// at the time of the view's block: exactly what a node answers when it is asked at that block. In the next block a little more
/// is owed, so that nothing that is found here has become healthy by time alone; a call that names `debt_to_cover` repays and
/// seizes what is said here or, where that is all that is allowed, a little more of both.
///
/// It keeps an index of accounts by their distance to liquidation, and looks only at those whose prices, indices or holdings
/// have moved across it. What differs from the view before, the markets tell themselves, so that a skipped block or a
/// reorganisation is nothing special.
#[derive(Debug)]
pub struct Liquidations {
    config: LiquidationConfig,
    followed: Vec<Followed>,
    routes: Routes,
    looked_at: u64,
    unsearched: u64,
}

/// A lending pool as of the view that was evaluated last.
#[derive(Debug)]
struct Followed {
    pool: Address,
    market: Arc<Market>,
    index: LiquidationIndex,
}

/// One way to liquidate a position.
struct Way<'a> {
    pool: Address,
    market: &'a Market,
    crossing: &'a Crossing,
    pair: Pair,
    debt_to_cover: U256,
    liquidation: Liquidation,
    sale: Sale,
    /// Wei; absent where there is no sale or the debt has no price.
    net_profit: Option<I256>,
    /// What is seized is worth so much more than what is repaid, by the pool's own prices.
    surplus: U256,
}

impl Liquidations {
    /// Nothing is known yet: the first evaluation looks at every account.
    pub fn new(config: LiquidationConfig) -> Self {
        Self { config, followed: Vec::new(), routes: Routes::default(), looked_at: 0, unsearched: 0 }
    }

    /// How many accounts were looked at in the last evaluation.
    pub fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// How many swaps were left out of the sales of the last evaluation, because there were too many or they were too long: zero says
    /// that there are no better ones.
    pub fn unsearched(&self) -> u64 {
        self.unsearched
    }

    /// Brings the indices up to date with the view's markets.
    fn catch_up(&mut self, view: &WholeView) {
        let timestamp = view.market().head.timestamp;
        let mut before = std::mem::take(&mut self.followed);
        for LendingMarket { pool, market, .. } in view.market().lending.iter() {
            let known = before.iter().position(|followed| followed.pool == *pool);
            let followed = match known.map(|at| before.swap_remove(at)) {
                Some(followed) => followed.at(market, timestamp),
                None => Followed::new(*pool, market, timestamp),
            };
            self.followed.push(followed);
        }
    }

    /// The best way to liquidate one position; `None` where the contract refuses every one, or none is worth it.
    fn best<'a>(
        &self,
        view: &WholeView,
        pool: Address,
        market: &'a Market,
        crossing: &'a Crossing,
    ) -> Option<Way<'a>> {
        let ways = market.pairs(crossing.account).into_iter();
        let ways = ways.filter_map(|pair| self.way(view, pool, market, crossing, pair));
        let mut unsearched = 0u32;
        let ways = ways.inspect(|way| unsearched = unsearched.saturating_add(way.sale.unsearched));
        // Of equals the first: pairs come in the order of the reserves.
        let mut best = ways.min_by_key(|way| (Reverse(way.net_profit), Reverse(way.surplus)))?;
        // What was left out of another pair's sale might have made it the best.
        best.sale.unsearched = unsearched;
        Some(best)
    }

    fn way<'a>(
        &self,
        view: &WholeView,
        pool: Address,
        market: &'a Market,
        crossing: &'a Crossing,
        pair: Pair,
    ) -> Option<Way<'a>> {
        let call = LiquidationCall {
            borrower: crossing.account,
            // Anybody but the borrower.
            liquidator: Address::ZERO,
            pair,
            debt_to_cover: U256::MAX,
            receive_a_token: false,
        };
        let (debt_to_cover, liquidation) = greatest(market, &call, view.market().head.timestamp)?;
        let [collateral, debt] = [pair.collateral, pair.debt].map(|id| asset(market, id));
        let (collateral, debt) = (collateral?, debt?);
        let seized = liquidation.collateral_to_liquidator;
        let sale = self.routes.sell(view.market(), collateral, debt, seized);
        let surplus = worth(market, pair.collateral, seized)?.saturating_sub(worth(
            market,
            pair.debt,
            liquidation.debt_repaid,
        )?);
        let mut way =
            Way { pool, market, crossing, pair, debt_to_cover, liquidation, sale, net_profit: None, surplus };
        way.net_profit = self.net_profit(view, &way, debt);
        Some(way)
    }

    /// Wei after gas at the next block's base fee.
    fn net_profit(&self, view: &WholeView, way: &Way<'_>, debt: Address) -> Option<I256> {
        let (sale, repaid) = (&way.sale, way.liquidation.debt_repaid);
        if !sale.is_sold {
            return None;
        }
        let price = view.prices().price(&debt)?;
        let value = |amount: U256| I256::try_from(price.value(amount)?).ok();
        let gross = match sale.amount_out.checked_sub(repaid) {
            Some(gain) => value(gain)?,
            None => value(repaid - sale.amount_out)?.checked_neg()?,
        };
        let base_fee = view.market().head.next_base_fee_per_gas().unwrap_or(0);
        let cost = U256::from(self.gas(sale)) * U256::from(base_fee);
        gross.checked_sub(I256::try_from(cost).ok()?)
    }

    fn gas(&self, sale: &Sale) -> u64 {
        self.config.gas(sale.protocols(), sale.crossings)
    }

    fn is_worth_it(&self, way: &Way<'_>) -> bool {
        let least = I256::try_from(self.config.min_net_profit_wei.max(U256::ONE)).unwrap_or(I256::MAX);
        !self.config.profit_after_gas || way.net_profit.is_some_and(|net| net >= least)
    }

    fn opportunity(&self, view: &WholeView, way: Way<'_>) -> Option<Opportunity> {
        let collateral = asset(way.market, way.pair.collateral)?;
        let debt = asset(way.market, way.pair.debt)?;
        let Liquidation { debt_repaid: repay, collateral_to_liquidator: seize, .. } = way.liquidation;
        let gas = self.gas(&way.sale);
        let Sale { steps, amount_out, is_sold, unsearched, .. } = way.sale;
        let swaps = || steps.iter().map(|step| &step.step.swap);
        let (pools, tokens) = (swaps().map(|swap| swap.pool), swaps().map(|swap| swap.token_out));
        Some(Opportunity {
            kind: Kind::Liquidation,
            as_of: view.as_of(),
            path: std::iter::once(way.pool).chain(pools).collect(),
            tokens: [debt, collateral].into_iter().chain(tokens).collect(),
            amount_in: repay,
            amount_out,
            profit: if is_sold { amount_out.saturating_sub(repay) } else { U256::ZERO },
            gas,
            net_profit_wei: way.net_profit,
            valid_until: view.as_of().number + 1,
            plan: Plan::Liquidate(Box::new(LiquidationPlan {
                protocol: protocol(way.market.revision()).to_owned(),
                pool: way.pool,
                borrower: way.crossing.account,
                collateral,
                debt,
                debt_to_cover: way.debt_to_cover,
                repay,
                seize,
                health_factor: way.crossing.data.health_factor,
                sale: steps,
                unsearched,
            })),
        })
    }
}

impl Detector for Liquidations {
    fn name(&self) -> &str {
        "liquidation"
    }

    fn evaluate(&mut self, view: &WholeView) -> Vec<Opportunity> {
        self.catch_up(view);
        self.routes.learn(view.market());
        (self.looked_at, self.unsearched) = (0, 0);
        let timestamp = view.market().head.timestamp;
        let mut found = Vec::new();
        let mut all = std::mem::take(&mut self.followed);
        for Followed { pool, market, index } in &mut all {
            let examined = index.examine(market, timestamp);
            self.looked_at += examined.looked_at as u64;
            for crossing in &examined.below {
                let best = self.best(view, *pool, market, crossing);
                self.unsearched += best.as_ref().map_or(0, |way| u64::from(way.sale.unsearched));
                let best = best.filter(|way| self.is_worth_it(way));
                found.extend(best.and_then(|way| self.opportunity(view, way)));
            }
        }
        self.followed = all;
        if self.unsearched > 0 {
            let (block, swaps) = (view.as_of().number, self.unsearched);
            warn!(block, swaps, "sales of collateral were not searched to the end");
        }
        // Within a pool they are by borrower, which a stable sort keeps.
        found.sort_by_key(|found| Reverse(found.net_profit_wei));
        found
    }
}

impl Followed {
    fn new(pool: Address, market: &Arc<Market>, timestamp: u64) -> Self {
        Self { pool, market: Arc::clone(market), index: LiquidationIndex::new(market, timestamp) }
    }

    fn at(mut self, market: &Arc<Market>, timestamp: u64) -> Self {
        if !Arc::ptr_eq(&self.market, market) {
            let touched: Vec<Touch> = market.touched_since(&self.market);
            self.index.follow(touched.into_iter(), market, timestamp);
            self.market = Arc::clone(market);
        }
        self
    }
}

/// The greatest call that goes through: all that is allowed, which is right in the next block as well, or as much as leaves no
/// dust and burns no more debt than there is.
fn greatest(market: &Market, call: &LiquidationCall, timestamp: u64) -> Option<(U256, Liquidation)> {
    match market.liquidate(call, timestamp) {
        Ok(liquidation) => Some((call.debt_to_cover, liquidation)),
        Err(Refusal::MustNotLeaveDust | Refusal::Unknown(LendingError::Arithmetic)) => {
            let (call, liquidation) = market.best_liquidation(call, timestamp).ok()?;
            Some((call.debt_to_cover, liquidation))
        }
        Err(_) => None,
    }
}

/// As the configuration has it.
fn protocol(revision: Revision) -> &'static str {
    match revision {
        Revision::V2 => "aave-v2",
        Revision::V3_0 | Revision::V3_6 => "aave-v3",
    }
}

fn asset(market: &Market, id: ReserveId) -> Option<Address> {
    market.reserve(id).ok().map(|reserve| reserve.asset)
}

/// Base currency, rounded down.
fn worth(market: &Market, id: ReserveId, amount: U256) -> Option<U256> {
    let reserve = market.reserve(id).ok()?;
    let price = market.price(reserve.asset).ok()?;
    let unit = U256::from(10).checked_pow(U256::from(reserve.decimals))?;
    amount.checked_mul(price)?.checked_div(unit)
}

#[cfg(test)]
mod tests;
