use std::sync::Arc;

use alloy_primitives::{Address, B256};
use headwater_amm::{ConcentratedError, ConcentratedPool, SwapFee, Version};
use serde::{Deserialize, Serialize};

use crate::address_index::AddressIndex;
use crate::pages::Pages;

/// The place of a pool in a [`ConcentratedTable`]: dense, and never given to another pool within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConcentratedId(pub u32);

impl ConcentratedId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a pool with concentrated liquidity is called. No two have the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConcentratedKey {
    /// A contract of its own: Uniswap V3 and forks.
    V3(Address),
    /// One of many in a manager: Uniswap V4.
    V4 {
        /// The `PoolManager`, which emits the logs of all its pools.
        manager: Address,
        /// The hash of what the pool is made of ([`headwater_amm::PoolKey`]).
        id: B256,
    },
}

/// Of which make a pool with concentrated liquidity is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConcentratedKind {
    /// Uniswap V3 and forks: the pool is a contract.
    #[default]
    V3,
    /// Uniswap V4 without hooks: the pool is an entry of a `PoolManager`.
    V4 {
        /// Its id there.
        id: B256,
    },
}

/// What of a pool with concentrated liquidity never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConcentratedMeta {
    /// The contract that emits its logs and moves its tokens: the pool itself, or V4's manager, which is that of many pools.
    pub address: Address,
    /// The factory that proved it; V4's manager.
    pub factory: Address,
    /// The token with the lower address. In V4, zero is the native currency, which is a token of its own: it is not the wrapped
    /// one.
    pub token0: Address,
    /// The token with the higher address.
    pub token1: Address,
    /// Fee in hundredths of a basis point of the input; in V4 without the protocol's, which changes.
    pub fee: u32,
    /// Ticks that may be initialised are multiples of it.
    pub tick_spacing: i32,
    /// Of which make it is.
    pub kind: ConcentratedKind,
}

impl ConcentratedMeta {
    /// What the pool is called.
    pub fn key(&self) -> ConcentratedKey {
        match self.kind {
            ConcentratedKind::V3 => ConcentratedKey::V3(self.address),
            ConcentratedKind::V4 { id } => ConcentratedKey::V4 { manager: self.address, id },
        }
    }

    pub(super) fn version(&self) -> Version {
        match self.kind {
            ConcentratedKind::V3 => Version::V3,
            ConcentratedKind::V4 { .. } => Version::V4,
        }
    }

    /// The pool before anything happened to it.
    pub(super) fn empty(&self) -> Result<ConcentratedPool, ConcentratedError> {
        ConcentratedPool::new(self.version(), SwapFee::of_lp(self.fee), self.tick_spacing)
    }
}

/// The pools with concentrated liquidity of a snapshot. A clone shares all pools with the original.
///
/// A pool never leaves the table; where nothing is known of it (it was created on a chain that was reorganised away, or has to
/// be read anew), [`ConcentratedTable::pool`] is `None`.
#[derive(Clone, Debug, Default)]
pub struct ConcentratedTable {
    metas: Pages<ConcentratedMeta>,
    pools: Pages<Option<Arc<ConcentratedPool>>>,
    /// Those of V3.
    by_address: AddressIndex<ConcentratedId>,
    /// Those of V4, by manager and id.
    by_id: imbl::HashMap<(Address, B256), ConcentratedId>,
}

impl ConcentratedTable {
    /// How many pools there are; their ids run from zero to one less.
    pub fn len(&self) -> usize {
        self.metas.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.metas.is_empty()
    }

    /// The id of the pool of V3 at an address.
    pub fn find(&self, address: &Address) -> Option<ConcentratedId> {
        self.by_address.get(address)
    }

    /// The id of the pool of that name.
    pub fn find_key(&self, key: &ConcentratedKey) -> Option<ConcentratedId> {
        match key {
            ConcentratedKey::V3(address) => self.find(address),
            ConcentratedKey::V4 { manager, id } => self.by_id.get(&(*manager, *id)).copied(),
        }
    }

    /// What of a pool never changes.
    pub fn meta(&self, id: ConcentratedId) -> Option<&ConcentratedMeta> {
        self.metas.get(id.index())
    }

    /// The pool as of the snapshot's block, if it is known.
    pub fn pool(&self, id: ConcentratedId) -> Option<&Arc<ConcentratedPool>> {
        self.pools.get(id.index())?.as_ref()
    }

    /// Every pool's id, meta and state, by ascending id.
    pub fn iter(
        &self,
    ) -> impl Iterator<Item = (ConcentratedId, &ConcentratedMeta, Option<&Arc<ConcentratedPool>>)> {
        let ids = (0..).map(ConcentratedId);
        ids.zip(self.metas.iter()).zip(self.pools.iter()).map(|((id, meta), pool)| (id, meta, pool.as_ref()))
    }

    /// Adds a pool of which nothing is known; one that is there already under its key is no longer found.
    pub(super) fn push(&mut self, meta: ConcentratedMeta) -> ConcentratedId {
        let id = ConcentratedId(u32::try_from(self.metas.len()).expect("fewer than 2^32 pools"));
        match meta.key() {
            ConcentratedKey::V3(address) => self.by_address.insert(address, id),
            ConcentratedKey::V4 { manager, id: name } => drop(self.by_id.insert((manager, name), id)),
        }
        self.metas.push(meta);
        self.pools.push(None);
        id
    }

    pub(super) fn set(&mut self, id: ConcentratedId, pool: Option<Arc<ConcentratedPool>>) {
        self.pools.set(id.index(), pool);
    }

    pub(super) fn settle(&mut self) {
        self.pools.settle();
    }
}
