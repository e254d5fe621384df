//! Searches of the chain's logs, from a block on, that go on where they were broken off.

use std::collections::HashSet;
use std::num::NonZeroU64;

use alloy_primitives::{Address, B256, BlockHash, BlockNumber, Bytes, U64};
use headwater_abi::logs;
use headwater_events::{Log, V3Action, V4Action};
use headwater_market::{ConcentratedFactory, ConcentratedKey, History, ResolvedMarket, V4Key};
use headwater_node::Node;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::bulk::number_of;
use crate::error::LoadError;

/// Blocks below the last one that are searched again: they may have been others.
const OVERLAP: u64 = 64;

/// Pools of one factory that are remembered; a node that tells of more is not believed.
const MOST_FOUND: usize = 1 << 20;

/// A search that can be kept and gone on with by another process.
pub trait HistorySearch {
    /// What it gathers.
    type Found: Serialize + DeserializeOwned;

    /// Whose logs are searched.
    fn contract(&self) -> Address;

    /// What is searched for, and from where on. One that says otherwise is another search.
    fn about(&self) -> String;

    /// Searches up to a canonical block, but so many ranges of blocks at most; says whether that is all. What was searched stays
    /// searched, whatever happens. `told` hears of the first block that was not searched yet, behind each range.
    ///
    /// # Errors
    ///
    /// [`LoadError::BlockGone`] where the node no longer knows the block; else what it failed with.
    fn search(
        &mut self,
        node: &Node,
        block: BlockHash,
        ranges: u32,
        told: &(impl Fn(BlockNumber) + Sync),
    ) -> impl Future<Output = Result<bool, LoadError>> + Send;

    /// What it has so far.
    fn searched(&self) -> Searched<&Self::Found>;

    /// Takes what an earlier one about the same had.
    fn go_on(&mut self, searched: Searched<Self::Found>);
}

/// How far a search has come, and what it found there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Searched<F> {
    /// The first block that was not searched.
    pub next: BlockNumber,
    /// What was found below.
    pub found: F,
}

/// How far a search has come.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    first: BlockNumber,
    next: BlockNumber,
    /// Blocks that are asked for at once.
    range: u64,
}

/// A part of it.
#[derive(Debug)]
pub(super) struct Stretch<'a> {
    walk: &'a mut Walk,
    from: BlockNumber,
    until: BlockNumber,
    ranges: u32,
}

impl Walk {
    pub(super) fn new(first: BlockNumber, range: NonZeroU64) -> Self {
        Self { first, next: first, range: range.get() }
    }

    pub(super) fn next(&self) -> BlockNumber {
        self.next
    }

    pub(super) fn begin_anew(&mut self) {
        self.next = self.first;
    }

    pub(super) fn go_on(&mut self, next: BlockNumber) {
        self.next = next.max(self.first);
    }

    /// From where it is up to a block, but so many ranges at most.
    pub(super) fn stretch(&mut self, until: BlockNumber, ranges: u32) -> Stretch<'_> {
        let from = self.next.saturating_sub(OVERLAP).max(self.first);
        Stretch { walk: self, from, until, ranges }
    }
}

impl Stretch<'_> {
    /// The blocks to ask for next, the last one included.
    pub(super) fn due(&self) -> Option<(BlockNumber, BlockNumber)> {
        let to = self.from.saturating_add(self.walk.range - 1).min(self.until);
        (self.ranges > 0 && !self.is_through()).then_some((self.from, to))
    }

    /// Gives the first block that was not searched yet.
    pub(super) fn searched(&mut self, to: BlockNumber) -> BlockNumber {
        (self.from, self.walk.next) = (to + 1, to + 1);
        self.ranges -= 1;
        self.from
    }

    /// Too many blocks or too many logs, perhaps; the node's words for it are its own.
    pub(super) fn refused(&mut self, error: LoadError) -> Result<(), LoadError> {
        match error {
            LoadError::Node(error) if self.walk.range > 1 && error.rpc().is_some() => {
                self.walk.range /= 2;
                Ok(())
            }
            error => Err(error),
        }
    }

    pub(super) fn is_through(&self) -> bool {
        self.from > self.until
    }
}

/// A pool that logs tell of. Nobody has to be believed: its address, or its id, says whether it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FoundPool {
    /// Of Uniswap V3: its address.
    V3(Address),
    /// Of Uniswap V4, without hooks.
    V4 {
        /// The `PoolManager`.
        manager: Address,
        /// The token with the lower address; zero for the native currency.
        currency0: Address,
        /// The other one.
        currency1: Address,
        /// In hundredths of a basis point.
        fee: u32,
        /// Ticks between two that can be initialised.
        tick_spacing: i32,
    },
}

impl FoundPool {
    fn of_v4(manager: Address, key: V4Key) -> Self {
        let V4Key { currency0, currency1, fee, tick_spacing, .. } = key;
        Self::V4 { manager, currency0, currency1, fee, tick_spacing }
    }

    pub(super) fn v3(&self) -> Option<Address> {
        match self {
            Self::V3(pool) => Some(*pool),
            Self::V4 { .. } => None,
        }
    }

    pub(super) fn v4(&self, of: Address) -> Option<V4Key> {
        match *self {
            Self::V4 { manager, currency0, currency1, fee, tick_spacing } if manager == of => {
                Some(V4Key { currency0, currency1, fee, tick_spacing, hooks: Address::ZERO })
            }
            _ => None,
        }
    }

    pub(super) fn key(&self) -> ConcentratedKey {
        match *self {
            Self::V3(pool) => ConcentratedKey::V3(pool),
            Self::V4 { manager, currency0, currency1, fee, tick_spacing } => {
                let key = V4Key { currency0, currency1, fee, tick_spacing, hooks: Address::ZERO };
                ConcentratedKey::V4 { manager, id: key.id() }
            }
        }
    }
}

/// The pools that a factory of V3 or a manager of V4 says to have made; a search goes on from the one before.
#[derive(Clone, Debug)]
pub struct PoolSearch {
    maker: Maker,
    walk: Walk,
    gathered: Gathered,
}

/// Who makes the pools, and which of them are wanted.
#[derive(Clone, Debug)]
struct Maker {
    history: History,
    /// The factory, if it is one of V3.
    factory: Option<ConcentratedFactory>,
    /// Both tokens of a pool are among these; all pools are taken if there is none.
    tokens: Vec<Address>,
}

#[derive(Clone, Debug, Default)]
struct Gathered {
    /// The oldest first.
    pools: Vec<FoundPool>,
    known: HashSet<FoundPool>,
    refused: u64,
}

impl PoolSearch {
    /// Nothing was searched yet.
    pub fn new(market: &ResolvedMarket, history: &History) -> Self {
        let mut factories = market.concentrated_factories.iter();
        let maker = Maker {
            factory: factories.find(|factory| factory.address == history.factory).cloned(),
            tokens: market.load.tokens.clone(),
            history: history.clone(),
        };
        let walk = Walk::new(history.from_block, history.log_range);
        Self { maker, walk, gathered: Gathered::default() }
    }

    /// The pools found so far, the oldest first.
    pub fn pools(&self) -> &[FoundPool] {
        &self.gathered.pools
    }

    /// Logs that tell of no pool that can be, of one with a hook or a dynamic fee, or of more than are remembered.
    pub fn refused(&self) -> u64 {
        self.gathered.refused
    }
}

impl Gathered {
    fn take(&mut self, pool: Option<FoundPool>) {
        match pool {
            Some(pool) if self.known.contains(&pool) => {}
            Some(pool) if self.pools.len() < MOST_FOUND => {
                self.known.insert(pool);
                self.pools.push(pool);
            }
            _ => self.refused += 1,
        }
    }
}

impl Maker {
    fn filter(&self, from: BlockNumber, to: BlockNumber) -> LogFilter {
        let is_v4 = self.factory.is_none();
        let tokens = |native: bool| -> Option<Vec<B256>> {
            let native = native.then_some(Address::ZERO);
            let all = native.iter().chain(&self.tokens).map(|token| token.into_word()).collect();
            (!self.tokens.is_empty()).then_some(all)
        };
        let topics = if is_v4 {
            vec![Some(vec![logs::V4_INITIALIZE]), None, tokens(true), tokens(false)]
        } else {
            vec![Some(vec![logs::V3_POOL_CREATED]), tokens(false), tokens(false)]
        };
        LogFilter {
            address: self.history.factory,
            topics,
            from_block: U64::from(from),
            to_block: U64::from(to),
        }
    }

    /// The pool that a log tells of, if it can be one.
    fn read(&self, told: ToldLog) -> Option<FoundPool> {
        let log = Log {
            address: self.history.factory,
            topics: told.topics.into_iter().take(4).collect(),
            data: told.data,
            transaction_index: 0,
            log_index: 0,
        };
        match &self.factory {
            Some(factory) => self.read_v3(factory, &log),
            None => self.read_v4(&log),
        }
    }

    fn read_v3(&self, factory: &ConcentratedFactory, log: &Log) -> Option<FoundPool> {
        let V3Action::PoolCreated { token0, token1, fee, pool, .. } =
            logs::concentrated_change(log).ok()??
        else {
            return None;
        };
        let is_one = factory.derive(token0, token1, fee) == pool && self.wants(&token0, &token1);
        is_one.then_some(FoundPool::V3(pool))
    }

    fn read_v4(&self, log: &Log) -> Option<FoundPool> {
        let V4Action::Initialize { id, currency0, currency1, fee, tick_spacing, hooks, .. } =
            logs::v4_change(log).ok()??
        else {
            return None;
        };
        let key = V4Key { currency0, currency1, fee, tick_spacing, hooks };
        let is_one = key.id() == id && key.pool().is_ok() && self.wants(&currency0, &currency1);
        is_one.then(|| FoundPool::of_v4(self.history.factory, key))
    }

    /// A node may tell of more than it was asked for.
    fn wants(&self, token0: &Address, token1: &Address) -> bool {
        let listed = |token: &Address| self.tokens.binary_search(token).is_ok();
        self.tokens.is_empty() || ((token0.is_zero() || listed(token0)) && listed(token1))
    }
}

impl HistorySearch for PoolSearch {
    type Found = Vec<FoundPool>;

    fn contract(&self) -> Address {
        self.maker.history.factory
    }

    fn about(&self) -> String {
        let History { factory, from_block, .. } = self.maker.history;
        format!("pools of {factory} from block {from_block} on, of the tokens {:?}", self.maker.tokens)
    }

    async fn search(
        &mut self,
        node: &Node,
        block: BlockHash,
        ranges: u32,
        told: &(impl Fn(BlockNumber) + Sync),
    ) -> Result<bool, LoadError> {
        let until = number_of(node, block).await?;
        let mut stretch = self.walk.stretch(until, ranges);
        while let Some((from, to)) = stretch.due() {
            let filter = self.maker.filter(from, to);
            let logs: Result<Vec<ToldLog>, _> = node.call("eth_getLogs", (filter,)).await;
            match logs {
                Ok(logs) => {
                    logs.into_iter().for_each(|log| self.gathered.take(self.maker.read(log)));
                    told(stretch.searched(to));
                }
                Err(error) => stretch.refused(error.into())?,
            }
        }
        Ok(stretch.is_through())
    }

    fn searched(&self) -> Searched<&Vec<FoundPool>> {
        Searched { next: self.walk.next(), found: &self.gathered.pools }
    }

    fn go_on(&mut self, searched: Searched<Vec<FoundPool>>) {
        self.walk.go_on(searched.next);
        let known = searched.found.iter().copied().collect();
        self.gathered = Gathered { pools: searched.found, known, refused: 0 };
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LogFilter {
    address: Address,
    /// `null` takes everything.
    topics: Vec<Option<Vec<B256>>>,
    from_block: U64,
    to_block: U64,
}

#[derive(Deserialize)]
struct ToldLog {
    topics: Vec<B256>,
    data: Bytes,
}
