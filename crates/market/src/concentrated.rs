//! Pools with concentrated liquidity as the chain's events tell them.

mod account;
mod image;
mod table;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use alloy_primitives::{Address, BlockHash};
use headwater_amm::{ConcentratedError, ConcentratedPool, PoolEvent, PoolPrice, SwapFee, Version};
use headwater_events::{ConcentratedLoaded, MarketLoaded};
use serde::{Deserialize, Serialize};

pub use self::image::ConcentratedImage;
pub use self::table::{ConcentratedId, ConcentratedMeta, ConcentratedTable};
use crate::book::{BlockRef, HORIZON, RolledBack};
use crate::config::{ConcentratedFactory, ResolvedMarket};
use crate::snapshot::Changes;

/// Events of unknown pools that are kept of a block; from one that has more, a pool cannot be taken up below it.
const HEARD_PER_BLOCK: usize = 4_096;

/// The pools of configured factories of Uniswap V3, with undo.
///
/// A pool is tracked only with proof: its factory created it in a block, or it was read ([`ConcentratedLoaded`]) and its address
/// derives from its factory. From there on its own logs are followed, and no contract is asked. What anybody else logs is only
/// kept for as long as the block can be undone, so that a pool that was read as of a block can be taken up under the blocks
/// that came meanwhile.
///
/// Logs are deltas: one that a pool cannot have emitted means that one before it is missing. Nothing is known of the pool then, until
/// it is read anew; the same holds for all pools where a block is missing, or a reorganisation reaches beyond what is
/// remembered.
///
/// Without a configured factory it remembers nothing and costs nothing.
#[derive(Clone, Debug)]
pub struct ConcentratedBook {
    factories: Vec<ConcentratedFactory>,
    table: ConcentratedTable,
    /// By pool id.
    standing: Vec<Standing>,
    /// One per applied block, oldest first; at most [`HORIZON`].
    records: VecDeque<Record>,
    /// The block below the oldest record, where it is known.
    base: Option<BlockHash>,
    changed: Vec<ConcentratedId>,
    all_changed: bool,
    counts: ConcentratedCounts,
}

/// Whether a pool in the table is proven, and by what: a block's word is undone with the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Standing {
    /// The block that created it was undone.
    Unproven,
    /// A configured factory's event in a block.
    Created,
    /// Read from the node.
    Loaded,
    /// Proven, and not what the node says that it is: nothing is followed or known of it any longer.
    Quarantined,
}

/// What a block changed, so that it can be undone, and what it said of pools that were not known.
#[derive(Clone, Debug)]
struct Record {
    block: BlockRef,
    /// One per pool.
    touches: Arc<Vec<Touch>>,
    heard: Arc<Heard>,
}

/// A pool before a block, shared with the snapshots of that time.
#[derive(Clone, Debug)]
struct Touch {
    id: ConcentratedId,
    before: Option<Arc<ConcentratedPool>>,
    /// Whether the pool was created here.
    created: bool,
}

/// What unknown pools logged in a block.
#[derive(Clone, Debug, Default)]
struct Heard {
    events: Vec<(Address, PoolEvent)>,
    /// There was more.
    is_cut: bool,
}

/// A pool that a block touches.
struct Working {
    id: ConcentratedId,
    before: Option<Arc<ConcentratedPool>>,
    now: Option<ConcentratedPool>,
    created: bool,
}

/// What a log of a block says about pools with concentrated liquidity: to be given in the order of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConcentratedUpdate {
    /// `PoolCreated` of whatever contract.
    PoolCreated {
        /// Who emitted it.
        emitter: Address,
        /// The token with the lower address.
        token0: Address,
        /// The token with the higher address.
        token1: Address,
        /// Hundredths of a basis point.
        fee: u32,
        /// Ticks that may be initialised are multiples of it.
        tick_spacing: i32,
        /// The pool.
        pool: Address,
    },
    /// `Initialize`, `Swap`, `Mint` or `Burn` of whatever contract.
    Pool {
        /// Who emitted it.
        emitter: Address,
        /// What it says.
        event: PoolEvent,
    },
    /// A log with the topic of such an event and another shape: whoever tracks its emitter no longer knows where it stands.
    Unreadable {
        /// Who emitted it.
        emitter: Address,
    },
}

/// What a block did to the book.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConcentratedApplied {
    /// Pools that the block changed or created, ascending and without repetition.
    pub touched: Vec<ConcentratedId>,
    /// Emitters of which nothing is known, ascending and without repetition: to be asked about.
    pub unknown: Vec<Address>,
}

/// What the book did not take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConcentratedCounts {
    /// `PoolCreated` of contracts that are no configured factory.
    pub foreign_factories: u64,
    /// Logs of tracked pools that do not follow from those before.
    pub contradictions: u64,
    /// Logs of unknown pools that were not kept, because the block had too many of them.
    pub not_heard: u64,
    /// Pools that two proofs describe differently; the first holds.
    pub conflicting_proofs: u64,
    /// Times that blocks were missing, or more were to be undone than are remembered.
    pub losses: u64,
    /// Readings of pools that do not derive from a configured factory.
    pub unproven_loads: u64,
    /// Readings as of a block that the book does not know, or below one that says more than was kept.
    pub foreign_loads: u64,
    /// Readings whose parts are not of one pool.
    pub impossible_loads: u64,
    /// Readings of pools that are known.
    pub repeated_loads: u64,
    /// Pools that are quarantined.
    pub quarantined: u64,
}

/// Why a reading is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotTaken {
    Unproven,
    Foreign,
    Impossible,
    Repeated,
    Conflict,
}

impl ConcentratedBook {
    /// An empty book about a market.
    pub fn new(market: &ResolvedMarket) -> Self {
        Self {
            factories: market.concentrated_factories.clone(),
            table: ConcentratedTable::default(),
            standing: Vec::new(),
            records: VecDeque::new(),
            base: None,
            changed: Vec::new(),
            all_changed: true,
            counts: ConcentratedCounts::default(),
        }
    }

    /// Whether there is anything to follow.
    pub fn is_active(&self) -> bool {
        !self.factories.is_empty()
    }

    /// The pools; a clone of it is a snapshot.
    pub fn table(&self) -> &ConcentratedTable {
        &self.table
    }

    /// Brings the table's pages up to date, when there is time. What it holds stays the same.
    pub fn settle(&mut self) {
        self.table.settle();
    }

    /// Hash of the last block.
    pub fn head(&self) -> Option<BlockHash> {
        self.records.back().map(|record| record.block.hash).or(self.base)
    }

    /// The pool at an address, if it is proven.
    pub fn proven(&self, address: &Address) -> Option<ConcentratedId> {
        self.table.find(address).filter(|id| self.standing[id.index()] != Standing::Unproven)
    }

    /// How many blocks can be rolled back.
    pub fn undoable(&self) -> usize {
        self.records.len()
    }

    /// Logs of unknown pools that are kept.
    pub fn heard(&self) -> usize {
        self.records.iter().map(|record| record.heard.events.len()).sum()
    }

    /// What was not taken so far. Undone blocks stay counted.
    pub fn counts(&self) -> ConcentratedCounts {
        self.counts
    }

    /// Whether its token may be quoted has changed, and so have all pools of it: the verdicts themselves are the
    /// [`PoolBook`](crate::PoolBook)'s.
    pub fn note_token(&mut self, token: &Address) {
        let pools = self.table.iter().filter(|(_, meta, _)| meta.token0 == *token || meta.token1 == *token);
        let pools: Vec<_> = pools.map(|(id, ..)| id).collect();
        self.note_changes(&pools);
    }

    /// What changed since this was last asked: everything at first and after a rollback.
    pub fn take_changes(&mut self) -> Changes<ConcentratedId> {
        let mut changed = mem::take(&mut self.changed);
        if mem::take(&mut self.all_changed) {
            return Changes::All;
        }
        changed.sort_unstable();
        changed.dedup();
        Changes::Pools(changed.into())
    }

    /// Applies what a block says, in the order of its logs. Where it does not stand on the last block, nothing is known of any
    /// pool below it.
    pub fn apply_block(
        &mut self,
        block: BlockRef,
        updates: impl IntoIterator<Item = ConcentratedUpdate>,
    ) -> ConcentratedApplied {
        if !self.is_active() {
            return ConcentratedApplied::default();
        }
        if self.head().is_some_and(|head| head != block.parent_hash) {
            self.lose(Some(block.parent_hash));
        }
        self.base.get_or_insert(block.parent_hash);
        let (mut working, mut heard) = (Vec::new(), Heard::default());
        let mut applied = ConcentratedApplied::default();
        for update in updates {
            match update {
                ConcentratedUpdate::Pool { emitter, event } => {
                    if !self.follow(&emitter, Some(&event), &mut working) {
                        self.hear(emitter, event, &mut heard);
                        applied.unknown.push(emitter);
                    }
                }
                ConcentratedUpdate::Unreadable { emitter } => {
                    self.follow(&emitter, None, &mut working);
                }
                ConcentratedUpdate::PoolCreated { emitter, token0, token1, fee, tick_spacing, pool } => {
                    let meta = ConcentratedMeta {
                        address: pool,
                        factory: emitter,
                        token0,
                        token1,
                        fee,
                        tick_spacing,
                    };
                    self.create(meta, &mut working);
                }
            }
        }
        applied.touched.extend(working.iter().map(|working| working.id));
        let touches = working.into_iter().map(|working| self.finish(working)).collect();
        self.remember(Record { block, touches: Arc::new(touches), heard: Arc::new(heard) });
        applied.settle();
        self.note_changes(&applied.touched);
        applied
    }

    /// Undoes the blocks above `ancestor`. If it is none of the blocks that are remembered, nothing is known of any pool.
    pub fn roll_back(&mut self, ancestor: BlockHash) -> RolledBack {
        if !self.is_active() {
            return RolledBack::Undone(0);
        }
        let kept = self.records.len();
        let above = self.records.iter().rev().take_while(|record| record.block.hash != ancestor).count();
        if above == kept && self.base != Some(ancestor) {
            self.lose(Some(ancestor));
            return RolledBack::Lost;
        }
        for record in self.records.split_off(kept - above).iter().rev() {
            record.touches.iter().rev().for_each(|touch| self.undo(touch));
        }
        self.all_changed |= above > 0;
        RolledBack::Undone(above)
    }

    /// Nothing is known of any pool from here on, until it is read or created. The next block stands on `head`; on whatever it
    /// says, where that is not known.
    pub fn lose(&mut self, head: Option<BlockHash>) {
        if !self.is_active() {
            return;
        }
        (0..self.table.len() as u32).for_each(|id| self.table.set(ConcentratedId(id), None));
        self.records.clear();
        self.base = head;
        self.all_changed = true;
        self.counts.losses += 1;
    }

    /// Knows nothing of a pool any longer, and asks nobody about it. No reorganisation undoes it.
    pub fn quarantine(&mut self, pool: &Address) {
        let Some(id) = self.proven(pool).filter(|id| !self.is_quarantined(*id)) else { return };
        self.standing[id.index()] = Standing::Quarantined;
        self.table.set(id, None);
        self.note_changes(&[id]);
        self.counts.quarantined += 1;
    }

    fn is_quarantined(&self, id: ConcentratedId) -> bool {
        self.standing[id.index()] == Standing::Quarantined
    }

    /// Takes note of the block that the initial load is true for: the first block stands on it.
    pub fn market_loaded(&mut self, loaded: &MarketLoaded) {
        if self.is_active() {
            self.base.get_or_insert(loaded.hash);
        }
    }

    /// Takes up a pool as of a block that the book knows; what the blocks above it said comes on top. Where that cannot be done it is
    /// counted, and nothing changes.
    pub fn pool_loaded(&mut self, loaded: &ConcentratedLoaded) {
        if let Err(reason) = self.take_up(loaded) {
            let counts = &mut self.counts;
            *match reason {
                NotTaken::Unproven => &mut counts.unproven_loads,
                NotTaken::Foreign => &mut counts.foreign_loads,
                NotTaken::Impossible => &mut counts.impossible_loads,
                NotTaken::Repeated => &mut counts.repeated_loads,
                NotTaken::Conflict => &mut counts.conflicting_proofs,
            } += 1;
        }
    }

    fn take_up(&mut self, loaded: &ConcentratedLoaded) -> Result<(), NotTaken> {
        let address = loaded.pool;
        let factory = self.factories.iter().find(|factory| factory.address == loaded.factory);
        let derived = factory.map(|factory| factory.derive(loaded.token0, loaded.token1, loaded.fee));
        if derived != Some(address) {
            return Err(NotTaken::Unproven);
        }
        let pool = pool_of(loaded).map_err(|_| NotTaken::Impossible)?;
        let is_known = |id: ConcentratedId| self.table.pool(id).is_some() || self.is_quarantined(id);
        if self.proven(&address).is_some_and(is_known) {
            return Err(NotTaken::Repeated);
        }
        let above = self.first_above(loaded.hash).ok_or(NotTaken::Foreign)?;
        let there = self.table.find(&address);
        let is_whole = |record: &Record| !record.heard.is_cut && !record.touches_id(there);
        if !self.records.iter().skip(above).all(is_whole) {
            return Err(NotTaken::Foreign);
        }
        let id = self.admit(meta_of(loaded)).ok_or(NotTaken::Conflict)?;
        self.standing[id.index()] = Standing::Loaded;
        self.base.get_or_insert(loaded.hash);
        self.forget_below(id, &address, above);
        let now = self.fold_above(id, &address, above, Arc::new(pool));
        self.table.set(id, now);
        self.note_changes(&[id]);
        Ok(())
    }

    /// Below the last block that said something of the pool, nothing is known of it.
    fn forget_below(&mut self, id: ConcentratedId, address: &Address, above: usize) {
        let says = |record: &&mut Record| record.speaks_of(address) || record.touches_id(Some(id));
        let below = self.records.iter_mut().take(above).rev().find(says);
        if let Some(record) = below.filter(|record| !record.touches_id(Some(id))) {
            Arc::make_mut(&mut record.touches).push(Touch { id, before: None, created: false });
        }
    }

    /// The pool after what the blocks from `above` on say of it; `None` where they contradict it.
    fn fold_above(
        &mut self,
        id: ConcentratedId,
        address: &Address,
        above: usize,
        pool: Arc<ConcentratedPool>,
    ) -> Option<Arc<ConcentratedPool>> {
        let mut pool = pool;
        for record in self.records.iter_mut().skip(above).filter(|record| record.speaks_of(address)) {
            let before = Some(Arc::clone(&pool));
            Arc::make_mut(&mut record.touches).push(Touch { id, before, created: false });
            let heard = Arc::make_mut(&mut record.heard);
            let mut own = heard.events.extract_if(.., |(emitter, _)| emitter == address);
            let now = Arc::make_mut(&mut pool);
            if own.by_ref().any(|(_, event)| now.apply(&event).is_err()) {
                self.counts.contradictions += 1;
                return None;
            }
        }
        Some(pool)
    }

    /// The place of the first record above a block; `None` where the block is none of the known ones.
    fn first_above(&self, hash: BlockHash) -> Option<usize> {
        let at = self.records.iter().position(|record| record.block.hash == hash);
        let is_base = self.base.map_or(self.records.is_empty(), |base| base == hash);
        at.map(|at| at + 1).or_else(|| is_base.then_some(0))
    }

    /// Follows a log of a pool that is known; `false` where it is not, or no longer. Without an event the log cannot be read.
    fn follow(&mut self, emitter: &Address, event: Option<&PoolEvent>, working: &mut Vec<Working>) -> bool {
        let Some(id) = self.proven(emitter) else { return false };
        if self.is_quarantined(id) {
            return true;
        }
        let place = working.iter().position(|working| working.id == id);
        let place = place.or_else(|| {
            let before = self.table.pool(id).cloned()?;
            let now = Some(ConcentratedPool::clone(&before));
            working.push(Working { id, before: Some(before), now, created: false });
            Some(working.len() - 1)
        });
        let Some(Working { now: now @ Some(_), .. }) = place.map(|place| &mut working[place]) else {
            return false;
        };
        let is_followed = |pool: &mut ConcentratedPool| event.is_some_and(|event| pool.apply(event).is_ok());
        if now.as_mut().is_some_and(|pool| !is_followed(pool)) {
            self.counts.contradictions += 1;
            *now = None;
        }
        now.is_some()
    }

    fn hear(&mut self, emitter: Address, event: PoolEvent, heard: &mut Heard) {
        if heard.events.len() < HEARD_PER_BLOCK {
            heard.events.push((emitter, event));
        } else {
            heard.is_cut = true;
            self.counts.not_heard += 1;
        }
    }

    /// A factory creates a pool once: what it creates again was undone, or is no longer known.
    fn create(&mut self, meta: ConcentratedMeta, working: &mut Vec<Working>) {
        if !self.factories.iter().any(|factory| factory.address == meta.factory) {
            self.counts.foreign_factories += 1;
            return;
        }
        let known = self.proven(&meta.address).filter(|id| {
            self.table.pool(*id).is_some()
                || self.is_quarantined(*id)
                || working.iter().any(|working| working.id == *id)
        });
        let pool = ConcentratedPool::new(Version::V3, SwapFee::of_lp(meta.fee), meta.tick_spacing);
        let (None, Ok(pool), Some(id)) = (known, pool, self.admit(meta)) else {
            self.counts.conflicting_proofs += 1;
            return;
        };
        let standing = &mut self.standing[id.index()];
        let created = *standing == Standing::Unproven;
        if created {
            *standing = Standing::Created;
        }
        working.push(Working { id, before: None, now: Some(pool), created });
    }

    /// The id of a pool that is proven now. `None` if it is proven already to be another one.
    fn admit(&mut self, meta: ConcentratedMeta) -> Option<ConcentratedId> {
        if let Some(id) = self.table.find(&meta.address) {
            if self.table.meta(id) == Some(&meta) {
                return Some(id);
            }
            if self.standing[id.index()] != Standing::Unproven {
                return None;
            }
        }
        self.standing.push(Standing::Unproven);
        Some(self.table.push(meta))
    }

    fn finish(&mut self, working: Working) -> Touch {
        let Working { id, before, now, created } = working;
        self.table.set(id, now.map(Arc::new));
        Touch { id, before, created }
    }

    fn undo(&mut self, touch: &Touch) {
        let standing = &mut self.standing[touch.id.index()];
        if touch.created && *standing == Standing::Created {
            *standing = Standing::Unproven;
        }
        if *standing != Standing::Quarantined {
            self.table.set(touch.id, touch.before.clone());
        }
    }

    fn remember(&mut self, record: Record) {
        self.records.push_back(record);
        if self.records.len() > HORIZON {
            self.base = self.records.pop_front().map(|oldest| oldest.block.hash);
        }
    }

    fn note_changes(&mut self, ids: &[ConcentratedId]) {
        if !self.all_changed {
            self.changed.extend_from_slice(ids);
        }
    }
}

impl Record {
    fn touches_id(&self, id: Option<ConcentratedId>) -> bool {
        self.touches.iter().any(|touch| Some(touch.id) == id)
    }

    /// Whether it says something of an unknown pool, or may have.
    fn speaks_of(&self, address: &Address) -> bool {
        self.heard.is_cut || self.heard.events.iter().any(|(emitter, _)| emitter == address)
    }
}

impl ConcentratedApplied {
    fn settle(&mut self) {
        self.touched.sort_unstable();
        self.unknown.sort_unstable();
        self.unknown.dedup();
    }
}

fn meta_of(loaded: &ConcentratedLoaded) -> ConcentratedMeta {
    ConcentratedMeta {
        address: loaded.pool,
        factory: loaded.factory,
        token0: loaded.token0,
        token1: loaded.token1,
        fee: loaded.fee,
        tick_spacing: loaded.tick_spacing,
    }
}

fn pool_of(loaded: &ConcentratedLoaded) -> Result<ConcentratedPool, ConcentratedError> {
    let fee = SwapFee::of_lp(loaded.fee);
    let Some(state) = &loaded.state else {
        return ConcentratedPool::new(Version::V3, fee, loaded.tick_spacing);
    };
    let price = PoolPrice { sqrt_price: state.sqrt_price, tick: state.tick };
    let ticks = state.ticks.iter().map(|tick| (tick.index, tick.liquidity_net, tick.liquidity_gross));
    ConcentratedPool::from_parts(Version::V3, fee, loaded.tick_spacing, price, state.liquidity, ticks)
}
