mod account;
mod following;

use std::collections::VecDeque;
use std::sync::Arc;

use alloy_primitives::{Address, BlockHash};
use headwater_events::{LendingLoaded, LendingLog};
use headwater_lending::{LendingError, Market};
use serde::{Deserialize, Serialize};

pub use self::following::LendingCheck;
use self::following::{Following, Undone};
use crate::book::{BlockRef, HORIZON, RolledBack};

/// The lending pools as of a block: what a snapshot carries. A clone costs a reference count.
#[derive(Clone, Debug, Default)]
pub struct LendingTable(Arc<[LendingMarket]>);

/// One lending pool of which everything is known.
#[derive(Clone, Debug)]
pub struct LendingMarket {
    /// The pool.
    pub pool: Address,
    /// Its reserves, prices and accounts.
    pub market: Arc<Market>,
}

impl LendingTable {
    /// Those of which everything is known, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &LendingMarket> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<LendingMarket> for LendingTable {
    fn from_iter<I: IntoIterator<Item = LendingMarket>>(markets: I) -> Self {
        Self(markets.into_iter().collect())
    }
}

/// Reserves, prices and accounts of the configured lending pools as the chain's events tell them, with undo.
///
/// A pool is followed from a [`LendingLoaded`] on. It is *lost* where a log does not follow from what is held, or says that
/// the pool has become something that only the node can tell; then it is in no table until it was loaded again, and whoever
/// holds the book asks for that. The other pools go on.
///
/// A load applies as of the block that it names, under the blocks that came meanwhile, whose logs are kept for that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LendingBook {
    /// In the order of the configuration.
    pools: Vec<Place>,
    /// One per applied block, oldest first; at most [`HORIZON`].
    records: VecDeque<Record>,
    /// The block below the oldest record, where it is known.
    base: Option<BlockHash>,
    counts: LendingCounts,
}

/// A configured pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Place {
    pool: Address,
    following: Option<Following>,
    is_lost: bool,
}

/// What a block said and changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    block: BlockRef,
    timestamp: u64,
    /// By emitter, in the order of the logs.
    said: Arc<Vec<(Address, LendingLog)>>,
    /// By place: how the block is taken back; nothing where the pool was not followed yet.
    undo: Vec<Option<Arc<Undone>>>,
}

/// The lending pools in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LendingCounts {
    /// Loads that were taken up.
    pub loads: u64,
    /// Loads of a block that is none of the known ones, of a pool that is not configured, or that do not hold together.
    pub loads_refused: u64,
    /// Times that a pool was lost.
    pub losses: u64,
    /// Logs that were followed.
    pub logs: u64,
}

impl LendingBook {
    /// About the pools of the configuration, of which nothing is known yet.
    pub fn new(pools: &[Address]) -> Self {
        let place = |pool: &Address| Place { pool: *pool, following: None, is_lost: true };
        Self {
            pools: pools.iter().map(place).collect(),
            records: VecDeque::new(),
            base: None,
            counts: LendingCounts::default(),
        }
    }

    /// Whether it is about these pools.
    pub fn is_about(&self, pools: &[Address]) -> bool {
        self.pools.iter().map(|place| place.pool).eq(pools.iter().copied())
    }

    /// Whether no pool is configured: then there is nothing to do for a block.
    pub fn is_idle(&self) -> bool {
        self.pools.is_empty()
    }

    /// Whether the logs of this contract are followed.
    pub fn follows(&self, emitter: &Address) -> bool {
        self.pools.iter().filter_map(|place| place.following.as_ref()).any(|pool| pool.knows(emitter))
    }

    /// The pools of which everything is known.
    pub fn table(&self) -> LendingTable {
        let whole = self.pools.iter().filter(|place| !place.is_lost);
        whole
            .filter_map(|place| {
                let market = Arc::clone(place.following.as_ref()?.market());
                Some(LendingMarket { pool: place.pool, market })
            })
            .collect()
    }

    /// The pools that have to be loaded, for the first time or again.
    pub fn lost_pools(&self) -> impl Iterator<Item = Address> {
        self.pools.iter().filter(|place| place.is_lost).map(|place| place.pool)
    }

    /// The configured pools, lost ones included.
    pub fn len(&self) -> usize {
        self.pools.len()
    }

    /// Whether no pool is configured.
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }

    /// In figures. Undone blocks stay counted.
    pub fn counts(&self) -> LendingCounts {
        self.counts
    }

    /// Takes note of the block that the first one stands on.
    pub fn stand_on(&mut self, base: BlockHash) {
        self.base.get_or_insert(base);
    }

    /// Applies what a block says: logs of contracts that are followed, in their order. The block stands on the one before.
    pub fn apply_block(&mut self, block: BlockRef, timestamp: u64, said: Vec<(Address, LendingLog)>) {
        let head = self.records.back().map(|record| record.block.hash).or(self.base);
        if head.is_some_and(|head| head != block.parent_hash) {
            // What was loaded is of another block than this one stands on.
            self.lose(Some(block.parent_hash));
        }
        self.base.get_or_insert(block.parent_hash);
        self.counts.logs += said.len() as u64;
        let record = Record { block, timestamp, said: Arc::new(said), undo: Vec::new() };
        let undo = self.pools.iter_mut().map(|place| place.apply(&record, &mut self.counts)).collect();
        self.records.push_back(Record { undo, ..record });
        if self.records.len() > HORIZON {
            self.base = self.records.pop_front().map(|oldest| oldest.block.hash);
        }
    }

    /// Undoes the blocks above `ancestor`. If it is none of the blocks that are remembered, all pools are lost.
    pub fn roll_back(&mut self, ancestor: BlockHash) -> RolledBack {
        let kept = self.records.len();
        let above = self.records.iter().rev().take_while(|record| record.block.hash != ancestor).count();
        if above == kept && self.base != Some(ancestor) {
            self.lose(Some(ancestor));
            return RolledBack::Lost;
        }
        for record in self.records.split_off(kept - above).iter().rev() {
            for (place, undo) in self.pools.iter_mut().zip(&record.undo) {
                place.take_back(undo.as_deref(), &mut self.counts);
            }
        }
        RolledBack::Undone(above)
    }

    /// All pools are lost; the next block stands on `head`, or on whatever it says.
    pub fn lose(&mut self, head: Option<BlockHash>) {
        self.records.clear();
        self.base = head;
        for place in &mut self.pools {
            place.lose(&mut self.counts);
        }
    }

    /// Takes up a pool as of a block; says whether it is followed now. Blocks up to that one can no longer be undone without
    /// losing the pool.
    ///
    /// # Errors
    ///
    /// Why the pool cannot be followed: a revision that is not proven, or a reserve beyond the bitmap.
    pub fn load(&mut self, loaded: &LendingLoaded) -> Result<bool, LendingError> {
        let at = self.records.iter().position(|record| record.block.hash == loaded.hash);
        if self.records.is_empty() {
            self.base.get_or_insert(loaded.hash);
        }
        let is_foreign = at.is_none() && self.base != Some(loaded.hash);
        let index = self.pools.iter().position(|place| place.pool == loaded.pool);
        let (Some(index), false) = (index, is_foreign) else {
            self.counts.loads_refused += 1;
            return Ok(false);
        };
        let following = Following::new(loaded).inspect_err(|_| self.counts.loads_refused += 1)?;
        let first_above = at.map_or(0, |at| at + 1);
        let place = &mut self.pools[index];
        let same_contracts = place.following.as_ref().is_some_and(|known| known.has_contracts_of(&following));
        place.following = Some(following);
        if first_above < self.records.len() && !same_contracts {
            // The blocks above were not asked for what these contracts say: from now on they are, for the next load.
            place.is_lost = true;
            self.counts.loads_refused += 1;
            return Ok(false);
        }
        place.is_lost = false;
        self.counts.loads += 1;
        for record in self.records.iter_mut().take(first_above) {
            record.undo[index] = None;
        }
        for record in self.records.iter_mut().skip(first_above) {
            record.undo[index] = self.pools[index].apply(record, &mut self.counts);
        }
        Ok(!self.pools[index].is_lost)
    }
}

impl Place {
    fn apply(&mut self, record: &Record, counts: &mut LendingCounts) -> Option<Arc<Undone>> {
        let following = self.following.as_mut().filter(|_| !self.is_lost)?;
        let undone = following.apply(record.timestamp, &record.said);
        if undone.is_none() {
            self.lose(counts);
        }
        undone.map(Arc::new)
    }

    fn take_back(&mut self, undo: Option<&Undone>, counts: &mut LendingCounts) {
        match (self.following.as_mut().filter(|_| !self.is_lost), undo) {
            (Some(following), Some(undo)) => following.take_back(undo),
            _ => self.lose(counts),
        }
    }

    fn lose(&mut self, counts: &mut LendingCounts) {
        counts.losses += u64::from(!self.is_lost);
        self.is_lost = true;
    }
}

#[cfg(test)]
mod tests;
