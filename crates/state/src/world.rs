use std::sync::Arc;

use alloy_primitives::{Address, B256, U256, keccak256};
use headwater_abi::{aave, logs};
use headwater_bus::Message;
use headwater_events::{
    AsOf, BlockEvent, BusEvent, Envelope, LendingLog, LiquidityEvent, Log, ReorgEvent, ResyncRequest,
    V2Action, V3Action, V4Action, V4Quarantined,
};
use headwater_market::{
    Applied, BadImage, BlockRef, BookCounts, BookImage, ConcentratedApplied, ConcentratedBook,
    ConcentratedCounts, ConcentratedImage, ConcentratedKey, ConcentratedPrice, ConcentratedUpdate, Head,
    LendingBook, LendingCounts, LendingTable, MarketSnapshot, PoolBook, PoolUpdate, Reserves, ResolvedMarket,
    RolledBack, V4Key, concentrated_event, v4_event,
};
use serde::{Deserialize, Serialize};

use crate::error::WorldError;

/// The market as a fold over source events: each block gives a snapshot.
///
/// It is a function of the events alone. Two worlds that were given the same events give the same snapshots, pool ids
/// included.
#[derive(Clone, Debug)]
pub struct World {
    book: PoolBook,
    concentrated: ConcentratedBook,
    lending: LendingBook,
    /// The managers of V4's pools, for a glance at each log.
    managers: Vec<Address>,
    /// The block of the last snapshot: what the next one's changes are relative to.
    last: Option<AsOf>,
    /// The last block, whether it gave a snapshot or not.
    seen: Option<AsOf>,
    blocks: u64,
    malformed: u64,
}

/// The world at a moment, to be saved; cheap to take.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorldImage {
    book: BookImage,
    last: Option<AsOf>,
    blocks: u64,
    malformed: u64,
    concentrated: ConcentratedImage,
    lending: LendingBook,
}

impl WorldImage {
    /// Version of what is saved: it changes when this or anything within it does.
    pub const VERSION: u16 = 5;
}

/// What a block did to the world.
#[derive(Clone, Debug)]
pub struct AppliedBlock {
    /// The market as of the block.
    pub snapshot: Arc<MarketSnapshot>,
    /// Which pools it touched, which it created, and whom nobody knows.
    pub applied: Applied,
    /// The same of pools with concentrated liquidity.
    pub concentrated: ConcentratedApplied,
}

/// A question to the node that would tell the world more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadRequest {
    /// Whom it is about.
    pub subject: Subject,
    /// The block in which it became known: what the answer is to be true for.
    pub as_of: AsOf,
}

/// Whom a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A contract that emitted `Sync`: is it a pool of ours?
    Pool(Address),
    /// A token of a pool of ours: may it be quoted?
    Token {
        /// The token.
        token: Address,
        /// The pool, which holds of it.
        holder: Address,
    },
    /// What emits as a pool of Uniswap V3 does, or a pool of a configured manager of V4, of which nothing is known, or no longer: is it
    /// ours, and where does it stand?
    Concentrated(ConcentratedKey),
}

impl Message for LoadRequest {
    /// Several stem from the same event.
    fn seq(&self) -> Option<u64> {
        None
    }
}

/// A request to load a lending pool as of a block, because it is not followed yet or was lost. The answer is a
/// [`LendingLoaded`](headwater_events::LendingLoaded).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LendingRequest {
    /// The pool.
    pub pool: Address,
    /// The last block that is known.
    pub as_of: AsOf,
}

impl Message for LendingRequest {
    /// Several stem from the same event.
    fn seq(&self) -> Option<u64> {
        None
    }
}

/// The world in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WorldCounts {
    /// Blocks applied, undone ones included.
    pub blocks: u64,
    /// Pools in the table.
    pub pools: u64,
    /// Contracts that emitted `Sync` and are not proven.
    pub candidates: u64,
    /// Logs with the topic of `Sync` or `PairCreated`, or of an event of V3 where such pools are followed, that do not decode.
    pub malformed: u64,
    /// Whether it is lost, and gives no snapshots.
    pub lost: bool,
    /// What the book did not take.
    pub book: BookCounts,
    /// Pools with concentrated liquidity in their table.
    pub concentrated_pools: u64,
    /// What their book did not take.
    pub concentrated: ConcentratedCounts,
    /// The lending pools that are followed.
    pub lending_pools: u64,
    /// What became of what was said about lending pools.
    pub lending: LendingCounts,
}

impl World {
    /// Nothing is known but the market's configuration.
    pub fn new(market: &ResolvedMarket) -> Self {
        let (book, concentrated) = (PoolBook::new(market), ConcentratedBook::new(market));
        let lending = LendingBook::new(&market.lending_pools());
        let managers = managers_of(market);
        Self { book, concentrated, lending, managers, last: None, seen: None, blocks: 0, malformed: 0 }
    }

    /// The world as it is now, to be saved.
    pub fn image(&self) -> WorldImage {
        let Self { book, concentrated, lending, last, blocks, malformed, .. } = self;
        let (last, blocks, malformed) = (*last, *blocks, *malformed);
        let (book, concentrated, lending) = (book.image(), concentrated.image(), lending.clone());
        WorldImage { book, lending, last, blocks, malformed, concentrated }
    }

    /// The world that an image was taken of, about the same market.
    ///
    /// # Errors
    ///
    /// [`BadImage`] where the parts of the image contradict each other.
    pub fn of_image(market: &ResolvedMarket, image: WorldImage) -> Result<Self, BadImage> {
        let WorldImage { book, lending, last, blocks, malformed, concentrated } = image;
        if !lending.is_about(&market.lending_pools()) {
            return Err(BadImage);
        }
        let book = PoolBook::of_image(market, book)?;
        let concentrated = ConcentratedBook::of_image(market, concentrated)?;
        let managers = managers_of(market);
        Ok(Self { book, concentrated, lending, managers, last, seen: last, blocks, malformed })
    }

    /// Whether an event changes the world.
    pub fn concerns(event: &BusEvent) -> bool {
        match event {
            BusEvent::NewBlock(_)
            | BusEvent::Reorg(_)
            | BusEvent::PoolLoaded(_)
            | BusEvent::TokenJudged(_)
            | BusEvent::MarketLoaded(_)
            | BusEvent::MarketResynced(_)
            | BusEvent::PoolQuarantined(_)
            | BusEvent::V4Quarantined(_)
            | BusEvent::ConcentratedLoaded(_)
            | BusEvent::LendingLoaded(_)
            | BusEvent::V4Loaded(_) => true,
            BusEvent::NewPendingTx(_)
            | BusEvent::SourceGap(_)
            | BusEvent::Reconnected(_)
            | BusEvent::FeedResolved(_)
            | BusEvent::PendingEffect(_)
            | BusEvent::PriceUpdate(_)
            | BusEvent::LiquidityChange(_)
            | BusEvent::OpportunityFound(_)
            | BusEvent::OutcomeRecorded(_)
            | BusEvent::HealthCheck(_)
            | BusEvent::Shutdown => false,
        }
    }

    /// Applies the next source event; a block gives a snapshot, unless the world is lost.
    ///
    /// # Errors
    ///
    /// [`WorldError`] when it does not follow from those before.
    pub fn apply(&mut self, envelope: &Envelope) -> Result<Option<AppliedBlock>, WorldError> {
        match &envelope.event {
            BusEvent::NewBlock(block) => return self.block(envelope.seq, block),
            BusEvent::Reorg(reorg) => {
                self.lending.roll_back(reorg.ancestor_hash);
                if self.book.roll_back_by_touch(reorg.ancestor_hash) == RolledBack::Lost {
                    self.concentrated.lose(Some(reorg.ancestor_hash));
                    self.last = None;
                    self.seen = Some(ancestor_of(envelope.seq, reorg));
                } else {
                    self.concentrated.roll_back(reorg.ancestor_hash);
                }
            }
            BusEvent::MarketResynced(resynced) => {
                self.book.resync(resynced);
            }
            BusEvent::PoolQuarantined(pool) => {
                self.book.quarantine(&pool.pool);
                self.concentrated.quarantine(&pool.pool);
            }
            BusEvent::V4Quarantined(pool) => self.concentrated.quarantine_key(&key_of(pool)),
            BusEvent::PoolLoaded(loaded) => self.book.pool_loaded(loaded),
            BusEvent::TokenJudged(judged) => self.judge(judged.token, |book| book.token_judged(judged)),
            BusEvent::MarketLoaded(loaded) => {
                self.book.market_loaded(loaded);
                self.concentrated.market_loaded(loaded);
                self.lending.stand_on(loaded.hash);
            }
            BusEvent::ConcentratedLoaded(loaded) => self.concentrated.pool_loaded(loaded),
            BusEvent::V4Loaded(loaded) => self.concentrated.v4_loaded(loaded),
            // What is of no use is counted; the loader has told why.
            BusEvent::LendingLoaded(loaded) => drop(self.lending.load(loaded)),
            other => debug_assert!(!Self::concerns(other), "{} is forgotten here", other.name()),
        }
        Ok(None)
    }

    /// Leaves an event out that must not be applied. If it is one of the chain, the world is lost from there on: it goes on
    /// with what the blocks behind it say, and gives no snapshot until the rest is told. A token whose verdict is left out is refused.
    pub fn leave_out(&mut self, envelope: &Envelope) {
        match &envelope.event {
            BusEvent::NewBlock(BlockEvent { header, .. }) => {
                self.lose(Some(AsOf { seq: envelope.seq, number: header.number, hash: header.hash }));
            }
            BusEvent::Reorg(reorg) => self.lose(Some(ancestor_of(envelope.seq, reorg))),
            BusEvent::TokenJudged(judged) => self.judge(judged.token, |book| book.refuse_token(judged.token)),
            BusEvent::PoolQuarantined(pool) => {
                self.book.quarantine(&pool.pool);
                self.concentrated.quarantine(&pool.pool);
            }
            BusEvent::V4Quarantined(pool) => self.concentrated.quarantine_key(&key_of(pool)),
            _ => {}
        }
    }

    /// Has the book take a verdict, which holds for pools of either sort.
    fn judge(&mut self, token: Address, take: impl FnOnce(&mut PoolBook)) {
        let before = self.book.refused().contains(&token);
        take(&mut self.book);
        if self.book.refused().contains(&token) != before {
            self.concentrated.note_token(&token);
        }
    }

    /// The world is lost; the next block stands on `head`, or on whatever it says.
    pub fn lose(&mut self, head: Option<AsOf>) {
        self.book.lose(head.map(|head| head.hash));
        self.concentrated.lose(head.map(|head| head.hash));
        self.lending.lose(head.map(|head| head.hash));
        (self.last, self.seen) = (None, head);
    }

    /// Whether it is lost, and gives no snapshots.
    pub fn is_lost(&self) -> bool {
        self.book.is_lost()
    }

    /// What to ask the node while the world is lost.
    pub fn resync_request(&self) -> Option<ResyncRequest> {
        let as_of = self.seen.filter(|_| self.book.is_lost())?;
        Some(ResyncRequest { as_of, pools: self.book.proven_pools() })
    }

    /// The questions that a block raises: about emitters of `Sync` or of V3's events that are not known, and about tokens of its
    /// pools that nobody has judged. Ascending, without repetition.
    pub fn requests(&self, block: &AppliedBlock) -> Vec<LoadRequest> {
        let Applied { touched, unproven, .. } = &block.applied;
        // What a pool does not hold yet cannot be tried out.
        let tokens = touched.iter().flat_map(|id| {
            let holder = self.book.table().meta(*id).map(|meta| meta.address);
            let tokens = self.book.unjudged_tokens(*id);
            tokens.filter_map(move |token| Some(Subject::Token { token, holder: holder? }))
        });
        let tokens = tokens.chain(self.unjudged_of_concentrated(block));
        let concentrated = block.concentrated.unknown.iter().copied().map(Subject::Concentrated);
        let pools = unproven.iter().copied().map(Subject::Pool).chain(concentrated);
        let mut subjects: Vec<_> = pools.chain(tokens).collect();
        subjects.sort_unstable();
        subjects.dedup_by(|next, last| match (&*next, &*last) {
            (Subject::Token { token, .. }, Subject::Token { token: before, .. }) => token == before,
            (next, last) => next == last,
        });
        let as_of = block.snapshot.as_of;
        subjects.into_iter().map(|subject| LoadRequest { subject, as_of }).collect()
    }

    /// A pool that was read came with the verdicts about its tokens; one that was created in a block did not.
    fn unjudged_of_concentrated(&self, block: &AppliedBlock) -> impl Iterator<Item = Subject> {
        let metas = block.concentrated.touched.iter().filter_map(|id| self.concentrated.table().meta(*id));
        let held = metas.flat_map(|meta| [meta.token0, meta.token1].map(|token| (token, meta.address)));
        let unjudged = held.filter(|(token, _)| !self.book.is_judged(token));
        unjudged.map(|(token, holder)| Subject::Token { token, holder })
    }

    /// The lending pools that have to be loaded, as of a block.
    pub fn lending_requests(&self, block: &AppliedBlock) -> impl Iterator<Item = LendingRequest> {
        let as_of = block.snapshot.as_of;
        self.lending.lost_pools().map(move |pool| LendingRequest { pool, as_of })
    }

    /// The lending pools of which everything is known.
    pub fn lending(&self) -> LendingTable {
        self.lending.table()
    }

    /// What of a block can wait until its snapshot is published.
    pub fn settle(&mut self) {
        self.book.settle();
        self.concentrated.settle();
    }

    /// keccak-256 of the account of all pools and undo records ([`PoolBook::account`], [`ConcentratedBook::account`]).
    pub fn digest(&self) -> B256 {
        let mut text = String::new();
        self.book.account(&mut text);
        self.concentrated.account(&mut text);
        self.lending.account(&mut text);
        keccak256(text)
    }

    /// The block of the last snapshot.
    pub fn last(&self) -> Option<AsOf> {
        self.last
    }

    /// What the contracts of lending pools say in a block. One of their logs that does not decode says that they are other
    /// contracts than was thought.
    fn lending_logs(&mut self, block: &BlockEvent) -> Vec<(Address, LendingLog)> {
        let mut said = Vec::new();
        for log in block.logs.iter().filter(|log| self.lending.follows(&log.address)) {
            match aave::log(log) {
                Ok(told) => said.extend(told.map(|told| (log.address, told))),
                Err(_) => {
                    self.malformed += 1;
                    said.push((log.address, LendingLog::Reshaped));
                }
            }
        }
        said
    }

    /// The world in figures.
    pub fn counts(&self) -> WorldCounts {
        WorldCounts {
            blocks: self.blocks,
            pools: self.book.table().len() as u64,
            candidates: self.book.candidates() as u64,
            malformed: self.malformed,
            lost: self.book.is_lost(),
            book: self.book.counts(),
            concentrated_pools: self.concentrated.table().len() as u64,
            concentrated: self.concentrated.counts(),
            lending_pools: (self.lending.len() - self.lending.lost_pools().count()) as u64,
            lending: self.lending.counts(),
        }
    }

    fn block(&mut self, seq: u64, block: &BlockEvent) -> Result<Option<AppliedBlock>, WorldError> {
        let header = &block.header;
        let (number, hash, parent_hash) = (header.number, header.hash, header.parent_hash);
        let mut malformed = 0;
        let updates = block.logs.iter().filter_map(|log| {
            pool_update(log).unwrap_or_else(|_| {
                malformed += 1;
                None
            })
        });
        let place = BlockRef { number, hash, parent_hash };
        let applied = self.book.apply_block(place, updates)?;
        self.malformed += malformed;
        let concentrated = self.concentrated_block(place, &block.logs);
        if !self.lending.is_idle() {
            let said = self.lending_logs(block);
            self.lending.apply_block(place, header.timestamp, said);
        }
        self.blocks += 1;
        let as_of = AsOf { seq, number, hash };
        self.seen = Some(as_of);
        if self.book.is_lost() {
            return Ok(None);
        }
        let snapshot = MarketSnapshot {
            as_of,
            parent: self.last.replace(as_of),
            head: Head {
                timestamp: header.timestamp,
                base_fee_per_gas: header.base_fee_per_gas,
                gas_used: header.gas_used,
                gas_limit: header.gas_limit,
            },
            pools: self.book.table().clone(),
            lending: self.lending.table(),
            changes: self.book.take_changes(),
            concentrated: self.concentrated.table().clone(),
            concentrated_changes: self.concentrated.take_changes(),
            refused: self.book.refused(),
        };
        Ok(Some(AppliedBlock { snapshot: Arc::new(snapshot), applied, concentrated }))
    }

    fn concentrated_block(&mut self, block: BlockRef, logs: &[Log]) -> ConcentratedApplied {
        if !self.concentrated.is_active() {
            return ConcentratedApplied::default();
        }
        let mut malformed = 0;
        let updates = logs.iter().filter_map(|log| {
            let is_of_v4 = self.managers.contains(&log.address);
            let read = if is_of_v4 { v4_update(log) } else { concentrated_update(log) };
            read.unwrap_or_else(|_| {
                malformed += 1;
                let (emitter, id) = (log.address, log.topics.get(1).copied());
                match id.filter(|_| is_of_v4) {
                    Some(id) => Some(ConcentratedUpdate::V4Unreadable { manager: emitter, id }),
                    None => Some(ConcentratedUpdate::Unreadable { emitter }),
                }
            })
        });
        let applied = self.concentrated.apply_block(block, updates);
        self.malformed += malformed;
        applied
    }

    /// The pools with concentrated liquidity.
    pub fn concentrated(&self) -> &ConcentratedBook {
        &self.concentrated
    }
}

fn key_of(pool: &V4Quarantined) -> ConcentratedKey {
    ConcentratedKey::V4 { manager: pool.manager, id: pool.id }
}

/// The block that a reorganisation leaves on top.
fn ancestor_of(seq: u64, reorg: &ReorgEvent) -> AsOf {
    AsOf { seq, number: reorg.ancestor_number, hash: reorg.ancestor_hash }
}

impl AppliedBlock {
    /// The reserves that the block set, by ascending pool id.
    pub fn liquidity(&self) -> impl Iterator<Item = LiquidityEvent> {
        let MarketSnapshot { as_of, pools, .. } = &*self.snapshot;
        self.applied.touched.iter().filter_map(|id| {
            let (meta, held) = (pools.meta(*id)?, pools.reserves(*id)?);
            let (pool, reserve0, reserve1) = (meta.address, held.reserve0, held.reserve1);
            Some(LiquidityEvent { as_of: *as_of, pool, reserve0, reserve1 })
        })
    }
}

fn pool_update(log: &Log) -> Result<Option<PoolUpdate>, headwater_abi::Malformed> {
    let emitter = log.address;
    Ok(match logs::pool_change(log)? {
        Some(V2Action::Sync { reserve0, reserve1 }) => {
            Some(PoolUpdate::Sync { emitter, reserves: Reserves { reserve0, reserve1 } })
        }
        Some(V2Action::PairCreated { token0, token1, pair, .. }) => {
            Some(PoolUpdate::PairCreated { emitter, token0, token1, pair })
        }
        _ => None,
    })
}

fn concentrated_update(log: &Log) -> Result<Option<ConcentratedUpdate>, headwater_abi::Malformed> {
    let emitter = log.address;
    let Some(action) = logs::concentrated_change(log)? else { return Ok(None) };
    if let V3Action::PoolCreated { token0, token1, fee, tick_spacing, pool } = action {
        let created = ConcentratedUpdate::PoolCreated { emitter, token0, token1, fee, tick_spacing, pool };
        return Ok(Some(created));
    }
    Ok(concentrated_event(&action).map(|event| ConcentratedUpdate::Pool { emitter, event }))
}

fn v4_update(log: &Log) -> Result<Option<ConcentratedUpdate>, headwater_abi::Malformed> {
    let manager = log.address;
    let Some(action) = logs::v4_change(log)? else { return Ok(None) };
    if let V4Action::Initialize { id, currency0, currency1, fee, tick_spacing, hooks, sqrt_price_x96, tick } =
        action
    {
        let key = V4Key { currency0, currency1, fee, tick_spacing, hooks };
        let price = ConcentratedPrice { sqrt_price: U256::from(sqrt_price_x96), tick };
        return Ok(Some(ConcentratedUpdate::V4Initialized { manager, id, key, price }));
    }
    let charged = if let V4Action::Swap { fee, .. } = action { Some(fee) } else { None };
    Ok(v4_event(&action).map(|(id, event)| ConcentratedUpdate::V4 { manager, id, event, charged }))
}

fn managers_of(market: &ResolvedMarket) -> Vec<Address> {
    market.concentrated_managers.iter().map(|manager| manager.address).collect()
}

#[cfg(test)]
mod tests;
