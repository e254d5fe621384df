use std::sync::Arc;

use alloy_primitives::{Address, B256, keccak256};
use headwater_abi::{aave, logs};
use headwater_bus::Message;
use headwater_events::{
    AsOf, BlockEvent, BusEvent, Envelope, LendingLog, LiquidityEvent, Log, ReorgEvent, ResyncRequest,
    V2Action,
};
use headwater_market::{
    Applied, BadImage, BlockRef, BookCounts, BookImage, Head, LendingBook, LendingCounts, LendingTable,
    MarketSnapshot, PoolBook, PoolUpdate, Reserves, ResolvedMarket, RolledBack,
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
    lending: LendingBook,
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
    lending: LendingBook,
    last: Option<AsOf>,
    blocks: u64,
    malformed: u64,
}

impl WorldImage {
    /// Version of what is saved: it changes when this or anything within it does.
    pub const VERSION: u16 = 2;
}

/// What a block did to the world.
#[derive(Clone, Debug)]
pub struct AppliedBlock {
    /// The market as of the block.
    pub snapshot: Arc<MarketSnapshot>,
    /// Which pools it touched, which it created, and whom nobody knows.
    pub applied: Applied,
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
    Token(Address),
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
    /// Logs with the topic of `Sync` or `PairCreated` that do not decode.
    pub malformed: u64,
    /// Whether it is lost, and gives no snapshots.
    pub lost: bool,
    /// What the book did not take.
    pub book: BookCounts,
    /// The lending pools that are followed.
    pub lending_pools: u64,
    /// What became of what was said about lending pools.
    pub lending: LendingCounts,
}

impl World {
    /// Nothing is known but the market's configuration.
    pub fn new(market: &ResolvedMarket) -> Self {
        let (book, lending) = (PoolBook::new(market), LendingBook::new(&market.lending_pools()));
        Self { book, lending, last: None, seen: None, blocks: 0, malformed: 0 }
    }

    /// The world as it is now, to be saved.
    pub fn image(&self) -> WorldImage {
        let Self { book, lending, last, blocks, malformed, .. } = self;
        let (book, lending) = (book.image(), lending.clone());
        WorldImage { book, lending, last: *last, blocks: *blocks, malformed: *malformed }
    }

    /// The world that an image was taken of, about the same market.
    ///
    /// # Errors
    ///
    /// [`BadImage`] where the parts of the image contradict each other.
    pub fn of_image(market: &ResolvedMarket, image: WorldImage) -> Result<Self, BadImage> {
        let WorldImage { book, lending, last, blocks, malformed } = image;
        if !lending.is_about(&market.lending_pools()) {
            return Err(BadImage);
        }
        Ok(Self { book: PoolBook::of_image(market, book)?, lending, last, seen: last, blocks, malformed })
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
            | BusEvent::LendingLoaded(_) => true,
            BusEvent::NewPendingTx(_)
            | BusEvent::SourceGap(_)
            | BusEvent::Reconnected(_)
            | BusEvent::FeedResolved(_)
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
                if self.book.roll_back(reorg.ancestor_hash) == RolledBack::Lost {
                    self.last = None;
                    self.seen = Some(ancestor_of(envelope.seq, reorg));
                }
            }
            BusEvent::MarketResynced(resynced) => {
                self.book.resync(resynced);
            }
            BusEvent::PoolLoaded(loaded) => self.book.pool_loaded(loaded),
            BusEvent::TokenJudged(judged) => self.book.token_judged(judged),
            BusEvent::MarketLoaded(loaded) => {
                self.book.market_loaded(loaded);
                self.lending.stand_on(loaded.hash);
            }
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
            BusEvent::TokenJudged(judged) => self.book.refuse_token(judged.token),
            _ => {}
        }
    }

    /// The world is lost; the next block stands on `head`, or on whatever it says.
    pub fn lose(&mut self, head: Option<AsOf>) {
        self.book.lose(head.map(|head| head.hash));
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

    /// The questions that a block raises: about emitters of `Sync` that are not proven, and about tokens of its pools
    /// that nobody has judged. Ascending, without repetition.
    pub fn requests(&self, block: &AppliedBlock) -> Vec<LoadRequest> {
        let Applied { touched, created, unproven } = &block.applied;
        let tokens = touched.iter().chain(created).flat_map(|id| self.book.unjudged_tokens(*id));
        let pools = unproven.iter().copied().map(Subject::Pool);
        let mut subjects: Vec<_> = pools.chain(tokens.map(Subject::Token)).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let as_of = block.snapshot.as_of;
        subjects.into_iter().map(|subject| LoadRequest { subject, as_of }).collect()
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
    }

    /// keccak-256 of the account of all pools and undo records ([`PoolBook::account`]).
    pub fn digest(&self) -> B256 {
        let mut text = String::new();
        self.book.account(&mut text);
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
        let block_ref = BlockRef { number, hash, parent_hash };
        let applied = self.book.apply_block(block_ref, updates)?;
        self.malformed += malformed;
        if !self.lending.is_idle() {
            let said = self.lending_logs(block);
            self.lending.apply_block(block_ref, header.timestamp, said);
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
        };
        Ok(Some(AppliedBlock { snapshot: Arc::new(snapshot), applied }))
    }
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

#[cfg(test)]
mod tests;
