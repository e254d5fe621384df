//! Pools with concentrated liquidity as the chain's events tell them.

mod account;
mod depth;
mod event;
mod image;
mod table;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use alloy_primitives::{Address, B256, BlockHash};
use headwater_amm::{
    ConcentratedError, ConcentratedPool, Direction, PoolEvent, PoolKey, PoolPrice, SwapFee, Unsupported,
};
use headwater_events::{ConcentratedLoaded, ConcentratedState, MarketLoaded, V4Loaded};
use serde::{Deserialize, Serialize};

pub use self::depth::PairLike;
pub use self::event::{concentrated_event, v4_event};
pub use self::image::ConcentratedImage;
pub use self::table::{
    ConcentratedId, ConcentratedKey, ConcentratedKind, ConcentratedMeta, ConcentratedTable,
};
use crate::book::{BlockRef, HORIZON, RolledBack, tell_refused};
use crate::config::{ConcentratedFactory, ConcentratedManager, ResolvedMarket};
use crate::snapshot::Changes;

/// Events of unknown pools that are kept of a block; from one that has more, a pool cannot be taken up below it.
const HEARD_PER_BLOCK: usize = 4_096;

/// Ids of refused pools that are remembered; whoever pays for more makes the loader ask about them.
const MOST_REFUSED: usize = 65_536;

/// The pools of configured factories of Uniswap V3 and of configured managers of V4, with undo.
///
/// A pool is tracked only with proof: its factory or manager created it in a block, or it was read ([`ConcentratedLoaded`],
/// [`V4Loaded`]) and its address derives from its factory, its id from what it is made of. From there on its own logs are followed, and no contract is asked. What anybody else logs is only
/// kept for as long as the block can be undone, so that a pool that was read as of a block can be taken up under the blocks
/// that came meanwhile.
///
/// Logs are deltas: one that a pool cannot have emitted means that one before it is missing. Nothing is known of the pool then, until
/// it is read anew; the same holds for all pools where a block is missing, or a reorganisation reaches beyond what is
/// remembered.
///
/// Pools of V4 with a hook, or with a fee that a hook sets, are recognised and refused: what they give, their logs do not tell.
/// An id is the hash of all this, so that what is refused once stays refused on every branch of the chain.
///
/// Without a configured factory or manager it remembers nothing and costs nothing.
#[derive(Clone, Debug)]
pub struct ConcentratedBook {
    factories: Vec<ConcentratedFactory>,
    managers: Vec<ConcentratedManager>,
    table: ConcentratedTable,
    /// By pool id.
    standing: Vec<Standing>,
    /// One per applied block, oldest first; at most [`HORIZON`].
    records: VecDeque<Record>,
    /// The block below the oldest record, where it is known.
    base: Option<BlockHash>,
    changed: Vec<ConcentratedId>,
    all_changed: bool,
    max_pools: usize,
    counts: ConcentratedCounts,
    /// By manager and id; shared with the images.
    refused: imbl::OrdSet<(Address, B256)>,
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
    events: Vec<(ConcentratedKey, PoolEvent)>,
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
    /// V4's `Initialize`, by which a pool comes into being with its price.
    V4Initialized {
        /// Who emitted it.
        manager: Address,
        /// The pool, by the log.
        id: B256,
        /// What it is made of.
        key: PoolKey,
        /// Its first price.
        price: PoolPrice,
    },
    /// V4's `Swap`, `ModifyLiquidity` or `ProtocolFeeUpdated`.
    V4 {
        /// Who emitted it.
        manager: Address,
        /// The pool.
        id: B256,
        /// What it says.
        event: PoolEvent,
        /// Of a swap, the fee that it says it charged, the protocol's included, in hundredths of a basis point.
        charged: Option<u32>,
    },
    /// A log with the topic of such an event about a pool of V4, and another shape.
    V4Unreadable {
        /// Who emitted it.
        manager: Address,
        /// The pool.
        id: B256,
    },
}

/// A log about a pool, once it is clear about which.
struct Said {
    event: PoolEvent,
    charged: Option<u32>,
}

/// What a block did to the book.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConcentratedApplied {
    /// Pools that the block changed or created, ascending and without repetition.
    pub touched: Vec<ConcentratedId>,
    /// Pools, or what logs like one, of which nothing is known, ascending and without repetition: to be asked about. None that is new
    /// where no more pools are tracked.
    pub unknown: Vec<ConcentratedKey>,
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
    /// `Initialize` of pools of V4 with a hook, which are refused.
    pub hooked_pools: u64,
    /// `Initialize` of pools of V4 whose fee a hook sets, which are refused.
    pub dynamic_fee_pools: u64,
    /// Pools that are quarantined.
    pub quarantined: u64,
    /// Pools that were refused because as many as configured are tracked.
    pub pools_refused: u64,
    /// `PoolCreated` of configured factories at addresses that do not derive from them.
    pub underived_pools: u64,
}

/// Why a pool is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotTaken {
    Unproven,
    Foreign,
    Impossible,
    Repeated,
    Conflict,
    /// As many as configured are tracked.
    Full,
}

impl ConcentratedBook {
    /// An empty book about a market.
    pub fn new(market: &ResolvedMarket) -> Self {
        Self {
            factories: market.concentrated_factories.clone(),
            managers: market.concentrated_managers.clone(),
            table: ConcentratedTable::default(),
            standing: Vec::new(),
            records: VecDeque::new(),
            base: None,
            changed: Vec::new(),
            all_changed: true,
            max_pools: market.load.max_tracked_pools,
            counts: ConcentratedCounts::default(),
            refused: imbl::OrdSet::new(),
        }
    }

    /// Whether there is anything to follow.
    pub fn is_active(&self) -> bool {
        !self.factories.is_empty() || !self.managers.is_empty()
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

    /// The pool of V3 at an address, if it is proven.
    pub fn proven(&self, address: &Address) -> Option<ConcentratedId> {
        self.proven_key(&ConcentratedKey::V3(*address))
    }

    /// The pool of that name, if it is proven.
    pub fn proven_key(&self, key: &ConcentratedKey) -> Option<ConcentratedId> {
        self.table.find_key(key).filter(|id| self.standing[id.index()] != Standing::Unproven)
    }

    /// Whether a pool of V4 is one that is recognised and refused.
    pub fn is_refused(&self, manager: Address, id: B256) -> bool {
        self.refused.contains(&(manager, id))
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

    /// What changed since this was last asked, be it by being undone: everything at first, and where nothing was known any longer.
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
                    let said = Said { event, charged: None };
                    self.say(ConcentratedKey::V3(emitter), said, &mut working, &mut heard, &mut applied);
                }
                ConcentratedUpdate::Unreadable { emitter } => {
                    self.follow(&ConcentratedKey::V3(emitter), None, &mut working);
                }
                ConcentratedUpdate::PoolCreated { emitter, token0, token1, fee, tick_spacing, pool } => {
                    let meta = ConcentratedMeta {
                        address: pool,
                        factory: emitter,
                        token0,
                        token1,
                        fee,
                        tick_spacing,
                        kind: ConcentratedKind::V3,
                    };
                    self.create(meta, &mut working);
                }
                ConcentratedUpdate::V4Initialized { manager, id, key, price } => {
                    self.initialize(manager, id, &key, price, &mut working);
                }
                ConcentratedUpdate::V4 { manager, id, event, charged } => {
                    if self.has_manager(&manager) && !self.is_refused(manager, id) {
                        let key = ConcentratedKey::V4 { manager, id };
                        self.say(key, Said { event, charged }, &mut working, &mut heard, &mut applied);
                    }
                }
                ConcentratedUpdate::V4Unreadable { manager, id } => {
                    self.follow(&ConcentratedKey::V4 { manager, id }, None, &mut working);
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
        self.quarantine_key(&ConcentratedKey::V3(*pool));
    }

    /// As [`ConcentratedBook::quarantine`], of the pool of that name: the others of its manager go on.
    pub fn quarantine_key(&mut self, key: &ConcentratedKey) {
        let Some(id) = self.proven_key(key).filter(|id| !self.is_quarantined(*id)) else { return };
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

    /// Takes up a pool of V3 as of a block that the book knows; what the blocks above it said comes on top. Where that cannot be done
    /// it is counted, and nothing changes.
    pub fn pool_loaded(&mut self, loaded: &ConcentratedLoaded) {
        let taken = self.read_v3(loaded).and_then(|(meta, pool)| self.take_up(meta, pool, loaded.hash));
        self.count_taken(ConcentratedKey::V3(loaded.pool), taken);
    }

    /// The same of a pool of V4.
    pub fn v4_loaded(&mut self, loaded: &V4Loaded) {
        let taken = self.read_v4(loaded).and_then(|(meta, pool)| self.take_up(meta, pool, loaded.hash));
        self.count_taken(ConcentratedKey::V4 { manager: loaded.manager, id: loaded.id }, taken);
    }

    fn count_taken(&mut self, key: ConcentratedKey, taken: Result<(), NotTaken>) {
        if let Err(reason) = taken {
            let counts = &mut self.counts;
            *match reason {
                NotTaken::Unproven => &mut counts.unproven_loads,
                NotTaken::Foreign => &mut counts.foreign_loads,
                NotTaken::Impossible => &mut counts.impossible_loads,
                NotTaken::Repeated => &mut counts.repeated_loads,
                NotTaken::Conflict => &mut counts.conflicting_proofs,
                NotTaken::Full => &mut counts.pools_refused,
            } += 1;
            if reason == NotTaken::Full {
                tell_refused(key, counts.pools_refused, "as many as configured are tracked");
            }
        }
    }

    fn read_v3(&self, loaded: &ConcentratedLoaded) -> Result<(ConcentratedMeta, ConcentratedPool), NotTaken> {
        let factory = self.factories.iter().find(|factory| factory.address == loaded.factory);
        let derived = factory.map(|factory| factory.derive(loaded.token0, loaded.token1, loaded.fee));
        if derived != Some(loaded.pool) {
            return Err(NotTaken::Unproven);
        }
        let meta = meta_of(loaded);
        let pool = match &loaded.state {
            Some(state) => pool_at(&meta, SwapFee::of_lp(meta.fee), state),
            None => meta.empty(),
        };
        Ok((meta, pool.map_err(|_| NotTaken::Impossible)?))
    }

    fn read_v4(&self, loaded: &V4Loaded) -> Result<(ConcentratedMeta, ConcentratedPool), NotTaken> {
        let key = PoolKey {
            currency0: loaded.currency0,
            currency1: loaded.currency1,
            fee: loaded.fee,
            tick_spacing: loaded.tick_spacing,
            hooks: Address::ZERO,
        };
        let is_proven = self.has_manager(&loaded.manager)
            && key.currency0 < key.currency1
            && key.id() == loaded.id
            && key.pool().is_ok();
        if !is_proven {
            return Err(NotTaken::Unproven);
        }
        let meta = meta_of_key(loaded.manager, &key);
        let fee = SwapFee::of_lp(meta.fee).with_protocol(loaded.protocol_fee);
        let pool = pool_at(&meta, fee, &loaded.state).map_err(|_| NotTaken::Impossible)?;
        Ok((meta, pool))
    }

    fn take_up(
        &mut self,
        meta: ConcentratedMeta,
        pool: ConcentratedPool,
        hash: BlockHash,
    ) -> Result<(), NotTaken> {
        let key = meta.key();
        let is_known = |id: ConcentratedId| self.table.pool(id).is_some() || self.is_quarantined(id);
        if self.proven_key(&key).is_some_and(is_known) {
            return Err(NotTaken::Repeated);
        }
        let above = self.first_above(hash).ok_or(NotTaken::Foreign)?;
        let there = self.table.find_key(&key);
        let is_whole = |record: &Record| !record.heard.is_cut && !record.touches_id(there);
        if !self.records.iter().skip(above).all(is_whole) {
            return Err(NotTaken::Foreign);
        }
        let id = self.admit(meta)?;
        self.standing[id.index()] = Standing::Loaded;
        self.base.get_or_insert(hash);
        self.forget_below(id, &key, above);
        let now = self.fold_above(id, &key, above, Arc::new(pool));
        self.table.set(id, now);
        self.note_changes(&[id]);
        Ok(())
    }

    /// Below the last block that said something of the pool, nothing is known of it.
    fn forget_below(&mut self, id: ConcentratedId, key: &ConcentratedKey, above: usize) {
        let says = |record: &&mut Record| record.speaks_of(key) || record.touches_id(Some(id));
        let below = self.records.iter_mut().take(above).rev().find(says);
        if let Some(record) = below.filter(|record| !record.touches_id(Some(id))) {
            Arc::make_mut(&mut record.touches).push(Touch { id, before: None, created: false });
        }
    }

    /// The pool after what the blocks from `above` on say of it; `None` where they contradict it.
    fn fold_above(
        &mut self,
        id: ConcentratedId,
        key: &ConcentratedKey,
        above: usize,
        pool: Arc<ConcentratedPool>,
    ) -> Option<Arc<ConcentratedPool>> {
        let mut pool = pool;
        for record in self.records.iter_mut().skip(above).filter(|record| record.speaks_of(key)) {
            let before = Some(Arc::clone(&pool));
            Arc::make_mut(&mut record.touches).push(Touch { id, before, created: false });
            let heard = Arc::make_mut(&mut record.heard);
            let mut own = heard.events.extract_if(.., |(emitter, _)| emitter == key);
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

    /// Follows a log about a pool, or remembers it where the pool is not known.
    fn say(
        &mut self,
        key: ConcentratedKey,
        said: Said,
        working: &mut Vec<Working>,
        heard: &mut Heard,
        applied: &mut ConcentratedApplied,
    ) {
        if !self.follow(&key, Some(&said), working) {
            self.hear(key, said.event, heard);
            if self.has_room_for(&key) {
                applied.unknown.push(key);
            }
        }
    }

    /// Follows a log of a pool that is known; `false` where it is not, or no longer. Without anything said the log cannot be read.
    fn follow(&mut self, key: &ConcentratedKey, said: Option<&Said>, working: &mut Vec<Working>) -> bool {
        let Some(id) = self.proven_key(key) else { return false };
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
        let is_followed = |pool: &mut ConcentratedPool| {
            said.is_some_and(|said| said.charges_as(pool) && pool.apply(&said.event).is_ok())
        };
        if now.as_mut().is_some_and(|pool| !is_followed(pool)) {
            self.counts.contradictions += 1;
            *now = None;
        }
        now.is_some()
    }

    fn hear(&mut self, key: ConcentratedKey, event: PoolEvent, heard: &mut Heard) {
        if heard.events.len() < HEARD_PER_BLOCK {
            heard.events.push((key, event));
        } else {
            heard.is_cut = true;
            self.counts.not_heard += 1;
        }
    }

    /// A factory creates a pool once: what it creates again was undone, or is no longer known.
    fn create(&mut self, meta: ConcentratedMeta, working: &mut Vec<Working>) {
        let Some(factory) = self.factories.iter().find(|factory| factory.address == meta.factory) else {
            self.counts.foreign_factories += 1;
            return;
        };
        if factory.derive(meta.token0, meta.token1, meta.fee) != meta.address {
            self.counts.underived_pools += 1;
            let refused = self.counts.underived_pools;
            return tell_refused(meta.address, refused, "its address does not derive from its factory");
        }
        let pool = meta.empty();
        self.begin(meta, pool, working);
    }

    /// The same of V4, where what cannot be followed is recognised here.
    fn initialize(
        &mut self,
        manager: Address,
        id: B256,
        key: &PoolKey,
        price: PoolPrice,
        working: &mut Vec<Working>,
    ) {
        if !self.has_manager(&manager) {
            self.counts.foreign_factories += 1;
            return;
        }
        match key.pool() {
            Err(Unsupported::Hooked(_)) => {
                self.counts.hooked_pools += 1;
                self.refuse(manager, id);
            }
            Err(Unsupported::DynamicFee) => {
                self.counts.dynamic_fee_pools += 1;
                self.refuse(manager, id);
            }
            Ok(mut pool) if key.id() == id => {
                let pool = pool.apply(&PoolEvent::Initialized(price)).map(|_| pool);
                self.begin(meta_of_key(manager, key), pool, working);
            }
            Ok(_) | Err(Unsupported::Invalid(_)) => self.counts.conflicting_proofs += 1,
        }
    }

    fn refuse(&mut self, manager: Address, id: B256) {
        if self.refused.len() < MOST_REFUSED {
            self.refused.insert((manager, id));
        }
    }

    fn has_manager(&self, manager: &Address) -> bool {
        self.managers.iter().any(|known| known.address == *manager)
    }

    fn begin(
        &mut self,
        meta: ConcentratedMeta,
        pool: Result<ConcentratedPool, ConcentratedError>,
        working: &mut Vec<Working>,
    ) {
        let known = self.proven_key(&meta.key()).filter(|id| {
            self.table.pool(*id).is_some()
                || self.is_quarantined(*id)
                || working.iter().any(|working| working.id == *id)
        });
        let key = meta.key();
        let taken = match (known, pool) {
            (None, Ok(pool)) => self.admit(meta).map(|id| (id, pool)),
            _ => Err(NotTaken::Conflict),
        };
        let (id, pool) = match taken {
            Ok(taken) => taken,
            Err(reason) => return self.count_taken(key, Err(reason)),
        };
        let standing = &mut self.standing[id.index()];
        let created = *standing == Standing::Unproven;
        if created {
            *standing = Standing::Created;
        }
        working.push(Working { id, before: None, now: Some(pool), created });
    }

    /// Whether a proof of a pool could be taken.
    fn has_room_for(&self, key: &ConcentratedKey) -> bool {
        self.table.len() < self.max_pools || self.table.find_key(key).is_some()
    }

    /// The id of a pool that is proven now, unless it is proven already to be another one, or no more are tracked.
    fn admit(&mut self, meta: ConcentratedMeta) -> Result<ConcentratedId, NotTaken> {
        if let Some(id) = self.table.find_key(&meta.key()) {
            if self.table.meta(id) == Some(&meta) {
                return Ok(id);
            }
            if self.standing[id.index()] != Standing::Unproven {
                return Err(NotTaken::Conflict);
            }
        }
        if self.table.len() >= self.max_pools {
            return Err(NotTaken::Full);
        }
        self.standing.push(Standing::Unproven);
        Ok(self.table.push(meta))
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
            self.note_changes(&[touch.id]);
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
    fn speaks_of(&self, key: &ConcentratedKey) -> bool {
        self.heard.is_cut || self.heard.events.iter().any(|(emitter, _)| emitter == key)
    }
}

impl Said {
    /// Whether a swap charges what the pool takes in the direction in which the price went: else the change of the protocol's fee
    /// is missing.
    fn charges_as(&self, pool: &ConcentratedPool) -> bool {
        let (PoolEvent::Swapped { price, .. }, Some(charged)) = (self.event, self.charged) else {
            return true;
        };
        let before = pool.price().map_or(price.sqrt_price, |before| before.sqrt_price);
        let may = |direction| pool.fee().pips(direction) == charged;
        (price.sqrt_price <= before && may(Direction::ZeroForOne))
            || (price.sqrt_price >= before && may(Direction::OneForZero))
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
        kind: ConcentratedKind::V3,
    }
}

/// What of a pool of V4 never changes.
fn meta_of_key(manager: Address, key: &PoolKey) -> ConcentratedMeta {
    ConcentratedMeta {
        address: manager,
        factory: manager,
        token0: key.currency0,
        token1: key.currency1,
        fee: key.fee,
        tick_spacing: key.tick_spacing,
        kind: ConcentratedKind::V4 { id: key.id() },
    }
}

fn pool_at(
    meta: &ConcentratedMeta,
    fee: SwapFee,
    state: &ConcentratedState,
) -> Result<ConcentratedPool, ConcentratedError> {
    let price = PoolPrice { sqrt_price: state.sqrt_price, tick: state.tick };
    let ticks = state.ticks.iter().map(|tick| (tick.index, tick.liquidity_net, tick.liquidity_gross));
    ConcentratedPool::from_parts(meta.version(), fee, meta.tick_spacing, price, state.liquidity, ticks)
}

#[cfg(test)]
mod tests;
