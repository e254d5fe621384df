//! What can be gained right behind a pending transaction.

use std::collections::HashMap;
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};
use headwater_events::{Behind, DecodedBlock, Kind, MixedStep, Opportunity, PendingTxEvent, Plan};
use headwater_market::{
    Changes, ConcentratedId, ConcentratedKind, MarketSnapshot, MixedBlocks, PoolId, PriceSnapshot, Touched,
    WholeView,
};
use headwater_simulation::Effect;

use crate::Detector;

mod actor;
mod config;
mod recorded;
mod replay;

pub use actor::{BACKRUN, BackrunActor, BackrunMessage, BackrunObserved, BackrunWiring, Indices, Standing};
pub use config::MempoolConfig;
pub use replay::{BackrunReplay, RecordedMemory, RecordedMessage, RecordedObserved, RecordedWiring};

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
    /// What is gained without any transaction.
    gains: HashMap<Way, U256>,
}

/// The pools of a cycle and its tokens.
type Way = (Vec<Place>, Vec<Address>);

/// What tells a pool from all others: its address, and its id where many share that.
type Place = (Address, Option<B256>);

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
        let gains = found.iter().map(|found| (way(found), found.profit)).collect();
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
        let pools: Vec<PoolId> = effect.reserves.iter().map(|(pool, _)| *pool).collect();
        let concentrated: Vec<ConcentratedId> = effect.concentrated.iter().map(|(pool, _)| *pool).collect();
        let of = |market| {
            let view = view(market, prices, Touched::Pools(pools.clone()))?;
            Ok(view.with_touched_concentrated(Touched::Pools(concentrated.clone())))
        };
        let after = Arc::new(MarketSnapshot {
            changes: Changes::Pools(pools.as_slice().into()),
            concentrated_changes: Changes::Pools(concentrated.as_slice().into()),
            ..with_effect(market, effect)
        });
        let found = self.search.evaluate(&of(&after)?);
        self.search.evaluate(&of(market)?);
        let changed = places(market, &pools, &concentrated);
        let opened = found.into_iter().filter(|found| {
            let way = way(found);
            way.0.iter().any(|place| changed.contains(place))
                && gains.get(&way).is_none_or(|without| *without < found.profit)
        });
        Ok(opened.filter_map(|found| follow(found, pending)).collect())
    }
}

/// The market with what a transaction changes.
fn with_effect(market: &MarketSnapshot, effect: &Effect) -> MarketSnapshot {
    let mut after = MarketSnapshot { parent: Some(market.as_of), ..market.clone() };
    for (pool, reserves) in &effect.reserves {
        after.pools.set_reserves(*pool, Some(*reserves));
    }
    for (pool, state) in &effect.concentrated {
        after.concentrated.set(*pool, Some(Arc::clone(state)));
    }
    after
}

/// What these pools are called.
fn places(market: &MarketSnapshot, pools: &[PoolId], concentrated: &[ConcentratedId]) -> Vec<Place> {
    let plain = pools.iter().filter_map(|id| Some((market.pools.meta(*id)?.address, None)));
    let concentrated = concentrated.iter().filter_map(|id| market.concentrated.meta(*id));
    let concentrated = concentrated.map(|meta| match meta.kind {
        ConcentratedKind::V3 => (meta.address, None),
        ConcentratedKind::V4 { id } => (meta.address, Some(id)),
    });
    plain.chain(concentrated).collect()
}

fn way(found: &Opportunity) -> Way {
    let places = match &found.plan {
        Plan::Mixed(steps) => steps.iter().map(|step| (step.swap.pool, step.pool_id)).collect(),
        _ => found.path.iter().map(|pool| (*pool, None)).collect(),
    };
    (places, found.tokens.clone())
}

/// The finding as one that follows the transaction; `None` where it has no swaps to follow it with.
fn follow(found: Opportunity, pending: &PendingTxEvent) -> Option<Opportunity> {
    let steps = match found.plan {
        Plan::Swaps(swaps) => swaps.into_iter().map(MixedStep::from).collect(),
        Plan::Mixed(steps) => steps,
        _ => return None,
    };
    let plan = Plan::Behind(Box::new(Behind::new(pending.clone(), steps)));
    Some(Opportunity { kind: Kind::Backrun, plan, ..found })
}

/// A view without a block's actions: what a pending transaction follows is not what a block did.
pub(crate) fn view(
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
