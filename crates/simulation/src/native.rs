//! What a call of a known router does to tracked pools, without executing it.
//!
//! A router is followed step by step on a copy of the pools, with what it holds meanwhile. Whatever is not sure to go as it is
//! followed here is left to the execution: permissions by signature, payments through Permit2, commands that may fail.

mod index;
mod ledger;
mod routers;
mod universal;
mod v2;
mod v4;

use alloy_primitives::{Address, B256, U256};
use headwater_events::Transaction;
use headwater_market::{ConcentratedId, ConcentratedPool, MarketSnapshot, PoolId, Reserves};

pub(crate) use self::index::{Index, is_in};
use self::ledger::Ledger;

/// Which contract a router is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouterKind {
    /// `UniswapV2Router02`.
    UniswapV2,
    /// `SwapRouter` of Uniswap V3.
    UniswapV3,
    /// `SwapRouter02`, for V2 and V3.
    SwapRouter02,
    /// The Universal Router before V4.
    UniversalRouterV1,
    /// The Universal Router since V4.
    UniversalRouter,
}

/// What a router is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Router {
    pub(crate) address: Address,
    pub(crate) kind: RouterKind,
    /// Of the pairs that it goes through; absent where it knows none that is followed.
    pub(crate) factory_v2: Option<Address>,
    /// The same of V3.
    pub(crate) factory_v3: Option<Address>,
    /// The same of V4: its `PoolManager`.
    pub(crate) manager: Option<Address>,
    pub(crate) wrapped_native: Address,
}

/// What of its surroundings a call depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Of the next block.
    pub(crate) timestamp: u64,
    /// The block below it.
    pub(crate) parent: B256,
    /// What the router has before the call, in wei.
    pub(crate) native: U256,
}

/// What a call does, if nothing outside the pools is against it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swapped {
    /// The pairs that it goes through, before and after.
    pub(crate) hops: Vec<Swap>,
    /// The pools with concentrated liquidity that it goes through, as they are afterwards.
    pub(crate) concentrated: Vec<(ConcentratedId, ConcentratedPool)>,
    /// What the router takes from the sender's tokens.
    pub(crate) pays: Vec<(Address, U256)>,
    /// Who is sent native tokens, which a contract can refuse.
    pub(crate) paid_native: Vec<Address>,
    /// The tokens of which the router is taken to have had nothing.
    pub(crate) presumed_empty: Vec<Address>,
    /// Whether it is a single swap, so that the sender has to have all that is taken.
    pub(crate) is_single: bool,
}

/// A pair that is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Swap {
    pub(crate) pool: PoolId,
    pub(crate) before: Reserves,
    pub(crate) after: Reserves,
}

/// Why nothing is known without executing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Not {
    /// The call reverts.
    Succeeding(&'static str),
    /// It has to be executed to be known.
    Known,
}

/// The call of a router with pools as they are in `market`.
pub(crate) fn swap(
    transaction: &Transaction,
    router: &Router,
    market: &MarketSnapshot,
    index: &Index,
    moment: &Moment,
) -> Result<Swapped, Not> {
    let mut ledger = Ledger::new(transaction, router, market, index, moment);
    let ended = match router.kind {
        RouterKind::UniswapV2 => v2::follow(transaction, &mut ledger),
        RouterKind::UniswapV3 | RouterKind::SwapRouter02 => routers::follow(transaction, &mut ledger),
        RouterKind::UniversalRouterV1 | RouterKind::UniversalRouter => {
            universal::follow(transaction, &mut ledger)
        }
    };
    ledger.end(ended)
}

#[cfg(test)]
mod tests;
