//! What can be gained right behind a pending transaction.

use std::collections::HashMap;
use std::sync::Arc;

use alloy_primitives::{Address, U256};
use headwater_events::{Behind, DecodedBlock, Kind, Opportunity, PendingTxEvent, Plan};
use headwater_market::{
    Changes, ConcentratedId, MarketSnapshot, MixedBlocks, PoolId, PriceSnapshot, Touched, WholeView,
};
use headwater_simulation::Effect;

use crate::Detector;

mod actor;
mod config;

pub use actor::{BackrunActor, BackrunMessage, BackrunObserved, BackrunWiring, Indices, Standing};
pub use config::MempoolConfig;

/// Has a search of its own evaluate the state behind pending transactions.
///
/// The search stands at the state behind a block. For a transaction it is shown that state with the effect in it, and then
/// the block's again: so the findings of one transaction know nothing of another, and those of the block, which another
/// instance finds, nothing of any.
#[derive(Debug)]
pub struct Backruns<D> {
    search: D,
    base: Option<Base>,
}

/// The state behind a block.
#[derive(Debug)]
struct Base {
    market: Arc<MarketSnapshot>,
    prices: Arc<PriceSnapshot>,
    /// What is gained without any transaction, by pools and tokens.
    gains: HashMap<Way, U256>,
}

type Way = (Vec<Address>, Vec<Address>);

impl<D: Detector> Backruns<D> {
    /// Finds with `search`, which nobody else uses.
    pub fn new(search: D) -> Self {
        Self { search, base: None }
    }

    /// Goes on to the state behind a block; `touched` and `concentrated`: which pools of either table changed since the last one.
    ///
    /// # Errors
    ///
    /// [`MixedBlocks`] where market and prices are of different ones.
    pub fn stand_behind(
        &mut self,
        market: Arc<MarketSnapshot>,
        prices: Arc<PriceSnapshot>,
        touched: Touched,
        concentrated: Touched<ConcentratedId>,
    ) -> Result<(), MixedBlocks> {
        self.base = None;
        let view = view(&market, &prices, touched)?.with_touched_concentrated(concentrated);
        let found = self.search.evaluate(&view);
        let gains = found.into_iter().map(|found| ((found.path, found.tokens), found.profit)).collect();
        self.base = Some(Base { market, prices, gains });
        Ok(())
    }

    /// Stands nowhere, until the next block.
    pub fn forget(&mut self) {
        self.base = None;
    }

    /// The market behind the block.
    pub fn market(&self) -> Option<&Arc<MarketSnapshot>> {
        self.base.as_ref().map(|base| &base.market)
    }

    /// What can be gained right behind a transaction of this effect: only what goes through a pool that it changes, and gains
    /// more behind it than without it. Each names the transaction, is of the block's state and void after the next block.
    ///
    /// # Errors
    ///
    /// [`MixedBlocks`], never for a state that [`Backruns::stand_behind`] has taken.
    pub fn behind(
        &mut self,
        pending: &PendingTxEvent,
        effect: &Effect,
    ) -> Result<Vec<Opportunity>, MixedBlocks> {
        let Some(Base { market, prices, gains }) = &self.base else { return Ok(Vec::new()) };
        let ids: Vec<PoolId> = effect.reserves.iter().map(|(pool, _)| *pool).collect();
        let changed: Vec<Address> =
            ids.iter().filter_map(|id| Some(market.pools.meta(*id)?.address)).collect();
        let mut pools = market.pools.clone();
        for (pool, after) in &effect.reserves {
            pools.set_reserves(*pool, Some(*after));
        }
        let after = Arc::new(MarketSnapshot {
            parent: Some(market.as_of),
            pools,
            changes: Changes::Pools(ids.as_slice().into()),
            concentrated_changes: Changes::Pools([].into()),
            ..MarketSnapshot::clone(market)
        });
        let of = |market| {
            let view = view(market, prices, Touched::Pools(ids.clone()))?;
            Ok(view.with_touched_concentrated(Touched::Pools(Vec::new())))
        };
        let found = self.search.evaluate(&of(&after)?);
        self.search.evaluate(&of(market)?);
        let opened = found.into_iter().filter(|found| {
            let way = (found.path.clone(), found.tokens.clone());
            found.path.iter().any(|pool| changed.contains(pool))
                && gains.get(&way).is_none_or(|without| *without < found.profit)
        });
        Ok(opened.filter_map(|found| follow(found, pending)).collect())
    }
}

/// The finding as one that follows the transaction; `None` where it has no swaps to follow it with, or some that nobody carries
/// out behind it.
fn follow(found: Opportunity, pending: &PendingTxEvent) -> Option<Opportunity> {
    let Plan::Swaps(swaps) = found.plan else { return None };
    let plan = Plan::Behind(Box::new(Behind::new(pending.clone(), swaps)));
    Some(Opportunity { kind: Kind::Backrun, plan, ..found })
}

/// A view without a block's actions: what a pending transaction follows is not what a block did.
fn view(
    market: &Arc<MarketSnapshot>,
    prices: &Arc<PriceSnapshot>,
    touched: Touched,
) -> Result<WholeView, MixedBlocks> {
    let nothing = DecodedBlock {
        as_of: market.as_of,
        actions: Vec::new(),
        unknown_logs: 0,
        unknown_calls: 0,
        malformed: 0,
        set_aside: false,
    };
    WholeView::new(Arc::clone(market), Arc::clone(prices), Arc::new(nothing), touched)
}
