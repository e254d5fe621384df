use std::sync::Arc;

use headwater_amm::ConcentratedPool;
use headwater_events::{AsOf, Snapshot};
use serde::Serialize;

use crate::book::Refused;
use crate::concentrated::{ConcentratedId, ConcentratedTable};
use crate::fees::next_base_fee;
use crate::lending::LendingTable;
use crate::pools::{PoolId, PoolTable};

/// The market as of a block.
#[derive(Clone, Debug)]
pub struct MarketSnapshot {
    /// The block.
    pub as_of: AsOf,
    /// The snapshot that this one was made from, and that `changes` is relative to.
    pub parent: Option<AsOf>,
    /// The block's own figures.
    pub head: Head,
    /// The pools.
    pub pools: PoolTable,
    /// The lending pools of which everything is known. What differs from another snapshot, they tell themselves.
    pub lending: LendingTable,
    /// What differs from the parent.
    pub changes: Changes,
    /// The pools with concentrated liquidity.
    pub concentrated: ConcentratedTable,
    /// What of them differs from the parent.
    pub concentrated_changes: Changes<ConcentratedId>,
    /// The verdicts about tokens. Of pools of constant product the table knows already what follows from them.
    pub refused: Refused,
}

impl MarketSnapshot {
    /// A market in which nothing but these pools is followed, and everything counts as changed.
    pub fn of_pools(as_of: AsOf, head: Head, pools: PoolTable) -> Self {
        Self {
            as_of,
            parent: None,
            head,
            pools,
            lending: LendingTable::default(),
            changes: Changes::All,
            concentrated: ConcentratedTable::default(),
            concentrated_changes: Changes::All,
            refused: Refused::default(),
        }
    }

    /// A pool with concentrated liquidity that may be quoted: known, and every token of it judged and not refused.
    pub fn quoted_concentrated(&self, id: ConcentratedId) -> Option<&Arc<ConcentratedPool>> {
        let meta = self.concentrated.meta(id)?;
        let pool = self.concentrated.pool(id)?;
        let is_refused = self.refused.contains(&meta.token0) || self.refused.contains(&meta.token1);
        (!is_refused).then_some(pool)
    }
}

/// What of a block's header the market needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    /// Wei per gas in this block; absent before London.
    pub base_fee_per_gas: Option<u64>,
    /// Gas used.
    pub gas_used: u64,
    /// Gas limit.
    pub gas_limit: u64,
}

impl Head {
    /// Wei per gas in the next block (EIP-1559); absent before London.
    pub fn next_base_fee_per_gas(&self) -> Option<u64> {
        Some(next_base_fee(self.base_fee_per_gas?, self.gas_used, self.gas_limit))
    }
}

/// Which pools differ from the parent snapshot, which is the one before it and may be of an undone block: state, admission, or the
/// pool is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes<Id = PoolId> {
    /// Any of them may: the first snapshot, or the first after the market was lost.
    All,
    /// At most these, ascending and without repetition.
    Pools(Arc<[Id]>),
}

impl Snapshot for MarketSnapshot {
    fn as_of(&self) -> AsOf {
        self.as_of
    }
}
