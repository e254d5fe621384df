use std::sync::Arc;

use alloy_primitives::Address;
use headwater_amm::ConcentratedPool;
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

/// What of a pool with concentrated liquidity never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConcentratedMeta {
    /// Its address.
    pub address: Address,
    /// The factory that proved it.
    pub factory: Address,
    /// The token with the lower address.
    pub token0: Address,
    /// The token with the higher address.
    pub token1: Address,
    /// Fee in hundredths of a basis point of the input.
    pub fee: u32,
    /// Ticks that may be initialised are multiples of it.
    pub tick_spacing: i32,
}

/// The pools with concentrated liquidity of a snapshot. A clone shares all pools with the original.
///
/// A pool never leaves the table; where nothing is known of it (it was created on a chain that was reorganised away, or has to
/// be read anew), [`ConcentratedTable::pool`] is `None`.
#[derive(Clone, Debug, Default)]
pub struct ConcentratedTable {
    metas: Pages<ConcentratedMeta>,
    pools: Pages<Option<Arc<ConcentratedPool>>>,
    by_address: AddressIndex<ConcentratedId>,
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

    /// The id of the pool at an address.
    pub fn find(&self, address: &Address) -> Option<ConcentratedId> {
        self.by_address.get(address)
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

    /// Adds a pool of which nothing is known; one that is there already at its address is no longer found.
    pub(super) fn push(&mut self, meta: ConcentratedMeta) -> ConcentratedId {
        let id = ConcentratedId(u32::try_from(self.metas.len()).expect("fewer than 2^32 pools"));
        self.by_address.insert(meta.address, id);
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
