mod account;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::mem;
use std::sync::Arc;

use alloy_primitives::{Address, BlockHash, BlockNumber};
use headwater_events::{MarketLoaded, MarketResynced, PoolLoaded, Protocol, TokenJudged, TokenVerdict};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::config::{Factory, ResolvedMarket};
use crate::pools::{PoolId, PoolMeta, PoolTable, Reserves};
use crate::snapshot::Changes;

/// How many blocks can be rolled back.
pub const HORIZON: usize = 64;

/// Blocks without a `Sync` after which an unproven emitter is forgotten. Beyond the horizon, so that it is the blocks
/// that decide, and not how often they were reorganised.
const CANDIDATE_LIFETIME: BlockNumber = 256;

/// Blocks between two searches for candidates to forget.
const SWEEP_EVERY: BlockNumber = 64;

/// The reserves of constant-product pools as the chain's events tell them, with undo.
///
/// A pool is tracked only with proof: it was loaded ([`PoolLoaded`]) or its configured factory said so
/// ([`PoolUpdate::PairCreated`]). The `Sync` of any other contract only makes it a *candidate*, whose latest reserves
/// are remembered for the case that the proof arrives; nothing is ever quoted from a candidate.
///
/// What blocks say is undone when they are; what was learnt from the node stays. The book is a function of the blocks
/// that survive and of what was learnt in between: a reorganisation leaves no trace but the ids of pools that it
/// un-created, and those have no reserves.
///
/// A market that is *lost*, because a block could not be applied or undone, goes on without the reserves that it had: what
/// the blocks say from then on is taken, and a [`MarketResynced`] tells the rest, as of one of them.
#[derive(Clone, Debug)]
pub struct PoolBook {
    factories: Vec<Factory>,
    table: PoolTable,
    /// By pool id.
    standing: Vec<Standing>,
    /// The pools that a token is in: who is concerned when it is judged.
    pools_of: HashMap<Address, Vec<PoolId>>,
    /// Whether a token that was judged was refused.
    refused: imbl::HashMap<Address, bool>,
    candidates: imbl::HashMap<Address, Sighting>,
    max_candidates: usize,
    max_pools: usize,
    /// One per applied block, oldest first; at most [`HORIZON`].
    records: VecDeque<Record>,
    /// The block below the oldest record, where it is known.
    base: Option<BlockHash>,
    changed: Vec<PoolId>,
    all_changed: bool,
    /// While the market is lost: how many ids had been given out when it was. What came later is known from its blocks.
    lost: Option<usize>,
    counts: BookCounts,
}

/// Whether a pool in the table is proven, and by what: a block's word is undone with the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Standing {
    /// The block that created it was undone.
    Unproven,
    /// A configured factory's event in a block.
    Created,
    /// Learnt from the node.
    Loaded,
    /// Proven, and not what the node says that it is: followed, and never quoted.
    Quarantined,
}

/// The latest `Sync` of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sighting {
    reserves: Reserves,
    number: BlockNumber,
}

/// What a block changed, so that it can be undone.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    block: BlockRef,
    touches: Arc<Vec<Touch>>,
}

/// One change, in the order of application. By address and not by id, because between the block and its undoing a
/// candidate may have become a pool.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Touch {
    address: Address,
    before: Option<Sighting>,
    /// Whether the pool was created here.
    created: bool,
}

/// A block and the one below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRef {
    /// Height.
    pub number: BlockNumber,
    /// Hash.
    pub hash: BlockHash,
    /// Hash of the block below.
    pub parent_hash: BlockHash,
}

/// What a log of a block says about pools: to be given in the order of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolUpdate {
    /// `Sync(uint112,uint112)` of whatever contract.
    Sync {
        /// Who emitted it.
        emitter: Address,
        /// What it says that it holds.
        reserves: Reserves,
    },
    /// `PairCreated` of whatever contract.
    PairCreated {
        /// Who emitted it.
        emitter: Address,
        /// The token with the lower address.
        token0: Address,
        /// The token with the higher address.
        token1: Address,
        /// The pool.
        pair: Address,
    },
}

/// What a block did to the book.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Pools whose reserves the block set, ascending and without repetition.
    pub touched: Vec<PoolId>,
    /// Pools that the block created, ascending.
    pub created: Vec<PoolId>,
    /// Emitters of a `Sync` that are not proven, ascending and without repetition: to be asked about. None where no more pools are
    /// tracked.
    pub unproven: Vec<Address>,
}

/// What the book did not take, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookCounts {
    /// `PairCreated` of contracts that are no configured factory.
    pub foreign_factories: u64,
    /// `Sync` with a reserve beyond 112 bits, which no pair can emit.
    pub impossible_reserves: u64,
    /// `Sync` of new candidates while as many as configured were remembered.
    pub candidates_refused: u64,
    /// Loaded reserves as of a block that the book does not know: the pool's next `Sync` tells them.
    pub foreign_reserves: u64,
    /// Pools that two proofs describe differently; the first holds.
    pub conflicting_proofs: u64,
    /// Times that the market was lost.
    pub losses: u64,
    /// Answers to that which could not be used: of a block that is none of the known ones, or not about all pools.
    pub foreign_resyncs: u64,
    /// Pools that are quarantined.
    pub quarantined: u64,
    /// `PairCreated` of configured factories at addresses that do not derive from them.
    pub underived_pairs: u64,
    /// Pools that were refused because as many as configured are tracked.
    pub pools_refused: u64,
}

/// What became of the blocks above an ancestor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolledBack {
    /// So many were undone.
    Undone(usize),
    /// They reach beyond what is remembered: the market is lost.
    Lost,
}

/// The verdicts about tokens, as of a snapshot: which of them no pool with concentrated liquidity is quoted with. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct Refused(imbl::HashMap<Address, bool>);

impl Refused {
    /// Whether a token was refused, or was not judged yet; the native currency needs no verdict.
    pub fn contains(&self, token: &Address) -> bool {
        self.0.get(token).copied().unwrap_or(!token.is_zero())
    }
}

/// A book at a moment, undo records included, to be saved. Taking it costs what the last blocks touched, because it shares
/// the rest with the book; a book that is made of it goes on as the first one does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BookImage {
    table: PoolTable,
    standing: Vec<Standing>,
    #[serde(with = "ordered")]
    refused: imbl::HashMap<Address, bool>,
    #[serde(with = "ordered")]
    candidates: imbl::HashMap<Address, Sighting>,
    records: VecDeque<Record>,
    base: Option<BlockHash>,
    changed: Vec<PoolId>,
    all_changed: bool,
    counts: BookCounts,
}

/// Why a [`BookImage`] is of no book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its parts contradict each other")]
pub struct BadImage;

/// Why a block cannot be applied or undone. The book is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// The block does not stand on the last one: blocks are missing.
    #[error("block {number} ({hash}) stands on {parent}, but the head is {head}")]
    Discontinuous {
        /// Height of the block.
        number: BlockNumber,
        /// Its hash.
        hash: BlockHash,
        /// The hash below it.
        parent: BlockHash,
        /// The hash of the last block that was applied.
        head: BlockHash,
    },
}

impl PoolBook {
    /// An empty book about a market.
    pub fn new(market: &ResolvedMarket) -> Self {
        Self {
            factories: market.factories.clone(),
            table: PoolTable::default(),
            standing: Vec::new(),
            pools_of: HashMap::new(),
            refused: imbl::HashMap::new(),
            candidates: imbl::HashMap::new(),
            max_candidates: market.max_candidates,
            max_pools: market.load.max_tracked_pools,
            records: VecDeque::with_capacity(HORIZON + 1),
            base: None,
            changed: Vec::new(),
            all_changed: true,
            lost: None,
            counts: BookCounts::default(),
        }
    }

    /// The book as it is now, to be saved.
    pub fn image(&self) -> BookImage {
        BookImage {
            table: self.table.clone(),
            standing: self.standing.clone(),
            refused: self.refused.clone(),
            candidates: self.candidates.clone(),
            records: self.records.clone(),
            base: self.base,
            changed: self.changed.clone(),
            all_changed: self.all_changed,
            counts: self.counts,
        }
    }

    /// The book that an image was taken of; `market` is that of this book.
    ///
    /// # Errors
    ///
    /// [`BadImage`] where the parts of the image contradict each other.
    pub fn of_image(market: &ResolvedMarket, image: BookImage) -> Result<Self, BadImage> {
        let BookImage { table, standing, refused, candidates, records, base, changed, all_changed, counts } =
            image;
        let is_known = |id: &PoolId| id.index() < table.len();
        if standing.len() != table.len() || records.len() > HORIZON || !changed.iter().all(is_known) {
            return Err(BadImage);
        }
        let mut pools_of: HashMap<_, Vec<_>> = HashMap::new();
        for (id, meta, _) in table.iter() {
            pools_of.entry(meta.token0).or_default().push(id);
            pools_of.entry(meta.token1).or_default().push(id);
        }
        let empty = Self::new(market);
        let book = Self { table, standing, pools_of, refused, candidates, records, base, ..empty };
        Ok(Self { changed, all_changed, counts, ..book })
    }

    /// The pools; a clone of it is a snapshot.
    pub fn table(&self) -> &PoolTable {
        &self.table
    }

    /// See [`PoolTable::settle`].
    pub fn settle(&mut self) {
        self.table.settle();
    }

    /// Hash of the last block, or of the one that the initial load is true for.
    pub fn head(&self) -> Option<BlockHash> {
        self.records.back().map(|record| record.block.hash).or(self.base)
    }

    /// The pool at an address, if it is proven.
    pub fn proven(&self, address: &Address) -> Option<PoolId> {
        self.table.find(address).filter(|id| self.standing(*id) != Standing::Unproven)
    }

    /// The tokens of a pool about which nothing was learnt yet.
    pub fn unjudged_tokens(&self, id: PoolId) -> impl Iterator<Item = Address> {
        let tokens = self.table.meta(id).map(|meta| [meta.token0, meta.token1]);
        tokens.into_iter().flatten().filter(|token| !self.is_judged(token))
    }

    /// Whether there is nothing to learn about a token: it was judged, or is V4's name of the native currency.
    pub fn is_judged(&self, token: &Address) -> bool {
        token.is_zero() || self.refused.contains_key(token)
    }

    /// The verdicts; cheap to ask for.
    pub fn refused(&self) -> Refused {
        Refused(self.refused.clone())
    }

    /// How many blocks can be rolled back.
    pub fn undoable(&self) -> usize {
        self.records.len()
    }

    /// How many unproven emitters are remembered.
    pub fn candidates(&self) -> usize {
        self.candidates.len()
    }

    /// What was not taken so far. Undone blocks stay counted.
    pub fn counts(&self) -> BookCounts {
        self.counts
    }

    /// What changed since this was last asked: everything at first, after a [`PoolBook::roll_back`], and where the market was lost or
    /// taken up.
    pub fn take_changes(&mut self) -> Changes {
        let mut changed = mem::take(&mut self.changed);
        if mem::take(&mut self.all_changed) {
            return Changes::All;
        }
        changed.sort_unstable();
        changed.dedup();
        Changes::Pools(changed.into())
    }

    /// Applies what a block says, in the order of its logs.
    ///
    /// # Errors
    ///
    /// [`BookError::Discontinuous`] unless the block stands on the head.
    pub fn apply_block(
        &mut self,
        block: BlockRef,
        updates: impl IntoIterator<Item = PoolUpdate>,
    ) -> Result<Applied, BookError> {
        let head = self.head().unwrap_or(block.parent_hash);
        if head != block.parent_hash {
            let BlockRef { number, hash, parent_hash: parent } = block;
            return Err(BookError::Discontinuous { number, hash, parent, head });
        }
        self.base.get_or_insert(head);
        let updates: Vec<_> = updates.into_iter().collect();
        self.table.fetch(updates.iter().map(|update| match update {
            PoolUpdate::Sync { emitter, .. } => *emitter,
            PoolUpdate::PairCreated { pair, .. } => *pair,
        }));
        let mut applied = Applied::default();
        let mut touches = Vec::with_capacity(updates.len());
        for update in updates {
            match update {
                PoolUpdate::Sync { emitter, reserves } => {
                    touches.extend(self.sync(block.number, emitter, reserves, &mut applied));
                }
                PoolUpdate::PairCreated { emitter, token0, token1, pair } => {
                    touches.extend(self.pair_created(emitter, token0, token1, pair, &mut applied));
                }
            }
        }
        if block.number.is_multiple_of(SWEEP_EVERY) {
            self.forget_old_candidates(block.number, &mut touches);
        }
        self.remember(Record { block, touches: Arc::new(touches) });
        applied.settle();
        self.note_changes(&applied.touched);
        self.note_changes(&applied.created);
        Ok(applied)
    }

    /// Undoes the blocks above `ancestor`. If it is none of the blocks that are remembered, the market is lost, and goes on
    /// above it. Everything counts as changed, for what was learnt from the node in between stays: whoever goes back to something
    /// older of his own has to look at every pool.
    pub fn roll_back(&mut self, ancestor: BlockHash) -> RolledBack {
        let rolled_back = self.roll_back_by_touch(ancestor);
        self.all_changed |= matches!(rolled_back, RolledBack::Undone(1..));
        rolled_back
    }

    /// As [`PoolBook::roll_back`], but only what the undone blocks had touched counts as changed: for whoever keeps nothing beside
    /// the book.
    pub fn roll_back_by_touch(&mut self, ancestor: BlockHash) -> RolledBack {
        let kept = self.records.len();
        let above = self.records.iter().rev().take_while(|record| record.block.hash != ancestor).count();
        if above == kept && self.base != Some(ancestor) {
            self.lose(Some(ancestor));
            return RolledBack::Lost;
        }
        for record in self.records.split_off(kept - above).iter().rev() {
            #[cfg(feature = "planted-bugs")]
            if headwater_events::is_planted("no-rollback") {
                continue;
            }
            record.touches.iter().rev().for_each(|touch| self.undo(touch));
        }
        RolledBack::Undone(above)
    }

    /// The market is lost: of no pool is known what it holds. The next block stands on `head`; on whatever it says, where
    /// that is not known.
    pub fn lose(&mut self, head: Option<BlockHash>) {
        let ids: Vec<_> = self.table.iter().map(|(id, ..)| id).collect();
        for id in &ids {
            self.table.set_reserves(*id, None);
        }
        self.candidates.clear();
        self.records.clear();
        self.base = head;
        self.all_changed = true;
        self.lost = Some(ids.len());
        self.counts.losses += 1;
    }

    /// Whether the market is lost: then nothing may be concluded from it.
    pub fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Every proven pool: whom to ask about when the market is lost.
    pub fn proven_pools(&self) -> Vec<Address> {
        let ids = self.table.iter().filter(|(id, ..)| self.standing[id.index()] != Standing::Unproven);
        ids.map(|(_, meta, _)| meta.address).collect()
    }

    /// Takes up a lost market: what the pools hold as of a block, up to the first `Sync` above it. The blocks below it can
    /// no longer be undone; says how many they are. `None` where the market stays as it is: it is not lost, the block is
    /// none of the known ones, or a pool is missing.
    pub fn resync(&mut self, resynced: &MarketResynced) -> Option<usize> {
        let known = self.lost?;
        let told: BTreeMap<_, _> = resynced.reserves.iter().copied().collect();
        let at = self.records.iter().position(|record| record.block.hash == resynced.hash);
        let is_foreign = at.is_none() && self.base != Some(resynced.hash);
        let is_missing = |(id, meta): (PoolId, &PoolMeta)| {
            self.standing[id.index()] != Standing::Unproven && !told.contains_key(&meta.address)
        };
        if is_foreign || self.table.iter().take(known).any(|(id, meta, _)| is_missing((id, meta))) {
            self.counts.foreign_resyncs += 1;
            return None;
        }
        let forgotten = at.map_or(0, |at| at + 1);
        self.records.drain(..forgotten);
        self.base = Some(resynced.hash);
        for (address, held) in told {
            self.take_up(
                address,
                held.map(|(reserve0, reserve1)| Reserves { reserve0, reserve1 }),
                resynced.number,
            );
        }
        self.lost = None;
        self.all_changed = true;
        Some(forgotten)
    }

    /// What a pool holds as of the block below all records.
    fn take_up(&mut self, address: Address, held: Option<Reserves>, number: BlockNumber) {
        let Some(id) = self.proven(&address) else { return };
        let Some(reserves) = held else { return self.doubt(address, id) };
        let touched = |record: &&mut Record| record.touches.iter().any(|touch| touch.address == address);
        match self.records.iter_mut().find(touched) {
            Some(record) => {
                record.learn_before(address, Sighting { reserves, number });
            }
            None => {
                self.table.set_reserves(id, Some(reserves));
            }
        }
    }

    /// The word of a block for a pool that was not there is void, unless it was created above.
    fn doubt(&mut self, address: Address, id: PoolId) {
        let mut touches = self.records.iter().flat_map(|record| record.touches.iter());
        let is_new = touches.any(|touch| touch.address == address && touch.created);
        if !is_new && self.standing[id.index()] == Standing::Created {
            self.set_standing(id, Standing::Unproven);
            self.table.set_reserves(id, None);
        }
    }

    /// Takes a pool whose factory proved it. Its reserves are taken if they are as of a block that the book knows and
    /// no `Sync` has told them already.
    pub fn pool_loaded(&mut self, loaded: &PoolLoaded) {
        let meta = PoolMeta {
            address: loaded.pool,
            factory: loaded.factory,
            protocol: loaded.protocol,
            token0: loaded.token0,
            token1: loaded.token1,
            fee_ppm: loaded.fee_ppm,
        };
        let Some(id) = self.admit(meta) else { return };
        if self.standing(id) == Standing::Quarantined {
            return;
        }
        self.set_standing(id, Standing::Loaded);
        if let Some(sighting) = self.candidates.remove(&loaded.pool) {
            self.table.set_reserves(id, Some(sighting.reserves));
        }
        if let Some((reserve0, reserve1)) = loaded.reserves {
            self.take_loaded_reserves(id, loaded, Reserves { reserve0, reserve1 });
        }
        self.note_changes(&[id]);
    }

    /// Quotes a pool no longer, whatever is learnt of it; of one that is not proven nothing is quoted anyway. No reorganisation
    /// undoes it.
    pub fn quarantine(&mut self, pool: &Address) {
        let Some(id) = self.proven(pool).filter(|id| self.standing(*id) != Standing::Quarantined) else {
            return;
        };
        self.set_standing(id, Standing::Quarantined);
        self.note_changes(&[id]);
        self.counts.quarantined += 1;
    }

    /// Takes a verdict: the pools of a refused token are not quoted.
    pub fn token_judged(&mut self, judged: &TokenJudged) {
        self.judge(judged.token, matches!(judged.verdict, TokenVerdict::Refused(_)));
    }

    /// Refuses a token whose verdict cannot be taken.
    pub fn refuse_token(&mut self, token: Address) {
        self.judge(token, true);
    }

    fn judge(&mut self, token: Address, refused: bool) {
        let concerned = self.pools_of.get(&token).cloned().unwrap_or_default();
        let before: Vec<_> = concerned.iter().map(|id| self.is_admissible(*id)).collect();
        self.refused.insert(token, refused);
        for (id, before) in concerned.into_iter().zip(before) {
            let admitted = self.is_admissible(id);
            if admitted != before {
                self.table.set_admitted(id, admitted);
                self.note_changes(&[id]);
            }
        }
    }

    /// Takes note of the block that the initial load is true for: the first block stands on it.
    pub fn market_loaded(&mut self, loaded: &MarketLoaded) {
        self.base.get_or_insert(loaded.hash);
    }

    fn sync(
        &mut self,
        number: BlockNumber,
        emitter: Address,
        reserves: Reserves,
        applied: &mut Applied,
    ) -> Option<Touch> {
        if !reserves.is_possible() {
            self.counts.impossible_reserves += 1;
            return None;
        }
        if let Some(id) = self.proven(&emitter) {
            applied.touched.push(id);
            let before = self.table.set_reserves(id, Some(reserves));
            return Some(Touch::of(emitter, before.map(|reserves| Sighting { reserves, number })));
        }
        if self.has_room_for(&emitter) {
            applied.unproven.push(emitter);
        }
        let sighting = Sighting { reserves, number };
        if let Some(known) = self.candidates.get_mut(&emitter) {
            return Some(Touch::of(emitter, Some(mem::replace(known, sighting))));
        }
        if self.candidates.len() >= self.max_candidates {
            self.counts.candidates_refused += 1;
            return None;
        }
        self.candidates.insert(emitter, sighting);
        Some(Touch::of(emitter, None))
    }

    fn pair_created(
        &mut self,
        emitter: Address,
        token0: Address,
        token1: Address,
        pair: Address,
        applied: &mut Applied,
    ) -> Option<Touch> {
        let Some(factory) = self.factories.iter().find(|factory| factory.address == emitter) else {
            self.counts.foreign_factories += 1;
            return None;
        };
        if factory.derive(token0, token1).is_some_and(|derived| derived != pair) {
            self.counts.underived_pairs += 1;
            tell_refused(pair, self.counts.underived_pairs, "its address does not derive from its factory");
            return None;
        }
        let (protocol, fee_ppm) = (factory.protocol, factory.fee_ppm);
        // A factory creates a pair once, so that what it creates again was undone beyond what is remembered.
        let is_anew = |id: &PoolId| self.lost.is_some() && self.standing[id.index()] == Standing::Created;
        let already = self.proven(&pair).is_some_and(|id| !is_anew(&id));
        let meta = PoolMeta { address: pair, factory: emitter, protocol, token0, token1, fee_ppm };
        let id = self.admit(meta)?;
        if already {
            return None;
        }
        self.set_standing(id, Standing::Created);
        applied.created.push(id);
        // A pair that is created now has not said anything yet.
        self.table.set_reserves(id, None);
        Some(Touch { address: pair, before: self.candidates.remove(&pair), created: true })
    }

    /// The id of a pool that is proven now. `None` if it is proven already to be another one.
    fn admit(&mut self, meta: PoolMeta) -> Option<PoolId> {
        if let Some(id) = self.table.find(&meta.address) {
            let same = self.table.meta(id) == Some(&meta);
            if !same && self.standing(id) != Standing::Unproven {
                self.counts.conflicting_proofs += 1;
                return None;
            }
            if same {
                return Some(id);
            }
        }
        if self.table.len() >= self.max_pools {
            self.counts.pools_refused += 1;
            tell_refused(meta.address, self.counts.pools_refused, "as many as configured are tracked");
            return None;
        }
        let (token0, token1) = (meta.token0, meta.token1);
        let id = self.table.replace(meta, false);
        self.standing.push(Standing::Unproven);
        self.pools_of.entry(token0).or_default().push(id);
        self.pools_of.entry(token1).or_default().push(id);
        Some(id)
    }

    /// Whether a proof of a pool could be taken.
    fn has_room_for(&self, pool: &Address) -> bool {
        self.table.len() < self.max_pools || self.table.find(pool).is_some()
    }

    /// A protocol that is not quoted here, or a refused token, keeps a pool out. Whoever loads a pool has judged its tokens; anybody
    /// can have a factory create one of tokens that nobody has judged.
    fn is_admissible(&self, id: PoolId) -> bool {
        if self.standing(id) == Standing::Quarantined {
            return false;
        }
        let is_unjudged_refused = self.standing(id) == Standing::Created;
        let refused = |token| self.refused.get(token).copied().unwrap_or(is_unjudged_refused);
        self.table.meta(id).is_some_and(|meta| match meta.protocol {
            Protocol::UniswapV2 => !refused(&meta.token0) && !refused(&meta.token1),
            Protocol::UniswapV3 | Protocol::UniswapV4 => false,
        })
    }

    /// Reserves as of a block apply from that block on, up to the first `Sync` above it.
    fn take_loaded_reserves(&mut self, id: PoolId, loaded: &PoolLoaded, reserves: Reserves) {
        let address = loaded.pool;
        let sighting = Sighting { reserves, number: loaded.block_number };
        if self.records.is_empty() {
            if *self.base.get_or_insert(loaded.block_hash) != loaded.block_hash {
                self.counts.foreign_reserves += 1;
            } else if self.table.reserves(id).is_none() {
                self.table.set_reserves(id, Some(reserves));
            }
            return;
        }
        let at = self.records.iter().position(|record| record.block.hash == loaded.block_hash);
        if at.is_none() && self.base != Some(loaded.block_hash) {
            self.counts.foreign_reserves += 1;
            return;
        }
        let first_above = at.map_or(0, |at| at + 1);
        let touched = |record: &Record| record.touches.iter().any(|touch| touch.address == address);
        let next = self.records.iter_mut().skip(first_above).find(|record| touched(record));
        let was_unknown = match next {
            Some(record) => record.learn_before(address, sighting),
            None if self.table.reserves(id).is_none() => {
                self.table.set_reserves(id, Some(reserves));
                true
            }
            None => false,
        };
        if let Some(at) = at
            && was_unknown
        {
            Arc::make_mut(&mut self.records[at].touches).push(Touch::of(address, None));
        }
    }

    fn forget_old_candidates(&mut self, now: BlockNumber, touches: &mut Vec<Touch>) {
        let is_old = |sighting: &Sighting| sighting.number.saturating_add(CANDIDATE_LIFETIME) <= now;
        let old = self.candidates.iter().filter(|(_, sighting)| is_old(sighting));
        let mut old: Vec<_> = old.map(|(address, sighting)| Touch::of(*address, Some(*sighting))).collect();
        old.sort_unstable_by_key(|touch| touch.address);
        for touch in &old {
            self.candidates.remove(&touch.address);
        }
        touches.extend(old);
    }

    /// While everything counts as changed, which may be as long as the market is lost, nothing has to be noted.
    fn note_changes(&mut self, ids: &[PoolId]) {
        if !self.all_changed {
            self.changed.extend_from_slice(ids);
        }
    }

    fn standing(&self, id: PoolId) -> Standing {
        self.standing[id.index()]
    }

    fn set_standing(&mut self, id: PoolId, standing: Standing) {
        self.standing[id.index()] = standing;
        self.table.set_admitted(id, self.is_admissible(id));
    }

    fn remember(&mut self, record: Record) {
        self.records.push_back(record);
        if self.records.len() > HORIZON {
            self.base = self.records.pop_front().map(|oldest| oldest.block.hash);
        }
    }

    fn undo(&mut self, touch: &Touch) {
        let Touch { address, before, created } = *touch;
        if let Some(id) = self.table.find(&address) {
            if created && self.standing(id) == Standing::Created {
                self.set_standing(id, Standing::Unproven);
                self.table.set_reserves(id, None);
            }
            self.note_changes(&[id]);
        }
        match (self.proven(&address), before) {
            (Some(id), before) => {
                self.table.set_reserves(id, before.map(|sighting| sighting.reserves));
            }
            (None, Some(sighting)) => {
                self.candidates.insert(address, sighting);
            }
            (None, None) => {
                self.candidates.remove(&address);
            }
        }
    }
}

/// A flood of them is told of ever more seldom.
pub(crate) fn tell_refused(pool: impl std::fmt::Debug, refused: u64, reason: &str) {
    if refused.is_power_of_two() {
        warn!(?pool, refused, reason, "a pool is refused");
    }
}

impl Touch {
    fn of(address: Address, before: Option<Sighting>) -> Self {
        Self { address, before, created: false }
    }
}

impl Record {
    /// The first change of an address in this block started from `sighting`, as is known now. Says whether it was
    /// unknown before.
    fn learn_before(&mut self, address: Address, sighting: Sighting) -> bool {
        let touches = Arc::make_mut(&mut self.touches);
        let first = touches.iter_mut().find(|touch| touch.address == address);
        let unknown = first.filter(|touch| touch.before.is_none());
        unknown.map(|touch| touch.before = Some(sighting)).is_some()
    }
}

/// A map as a sequence of pairs by ascending key, so that the same image is always the same bytes.
mod ordered {
    use std::hash::Hash;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K, V, S>(map: &imbl::HashMap<K, V>, serializer: S) -> Result<S::Ok, S::Error>
    where
        K: Serialize + Ord + Hash,
        V: Serialize,
        S: Serializer,
    {
        let mut pairs: Vec<_> = map.iter().collect();
        pairs.sort_unstable_by_key(|(key, _)| *key);
        pairs.serialize(serializer)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<imbl::HashMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Hash + Eq + Clone,
        V: Deserialize<'de> + Clone,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

impl Applied {
    fn settle(&mut self) {
        self.touched.sort_unstable();
        self.touched.dedup();
        self.created.sort_unstable();
        self.unproven.sort_unstable();
        self.unproven.dedup();
    }
}

#[cfg(test)]
mod tests;
