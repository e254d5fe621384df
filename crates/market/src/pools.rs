use alloy_primitives::Address;
use headwater_events::Protocol;
use serde::{Deserialize, Serialize};

use crate::address_index::AddressIndex;
use crate::pages::Pages;

/// The place of a pool in the tables: dense, and never given to another pool within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PoolId(pub u32);

impl PoolId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What of a pool never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolMeta {
    /// Its address.
    pub address: Address,
    /// The factory that proved it.
    pub factory: Address,
    /// What it computes.
    pub protocol: Protocol,
    /// The token with the lower address.
    pub token0: Address,
    /// The token with the higher address.
    pub token1: Address,
    /// Fee in parts per million of the input.
    pub fee_ppm: u32,
}

/// What a constant-product pool holds, in smallest units; both below 2^112.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reserves {
    /// Of the token with the lower address.
    pub reserve0: u128,
    /// Of the token with the higher address.
    pub reserve1: u128,
}

impl Reserves {
    /// Whether a pair can hold this much: its reserves are `uint112` (v2-core `UniswapV2Pair.sol`).
    pub fn is_possible(self) -> bool {
        (self.reserve0 | self.reserve1) >> 112 == 0
    }
}

/// The pools of a snapshot.
///
/// A pool never leaves the table: where its reserves are unknown (it was created on a chain that was reorganised
/// away) or it may not be quoted (one of its tokens was refused), [`PoolTable::quoted`] is `None`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(into = "SavedTable", try_from = "SavedTable")]
pub struct PoolTable {
    metas: Pages<PoolMeta>,
    states: Pages<PoolState>,
    by_address: AddressIndex<PoolId>,
}

/// What of a pool changes.
#[derive(Clone, Copy, Debug)]
struct PoolState {
    reserves: Option<Reserves>,
    /// Whether it may be quoted.
    admitted: bool,
}

/// A table as it is saved: the index follows from the rest.
#[derive(Serialize, Deserialize)]
struct SavedTable {
    metas: Pages<PoolMeta>,
    reserves: Vec<Option<Reserves>>,
    admitted: Vec<bool>,
}

impl From<PoolTable> for SavedTable {
    fn from(table: PoolTable) -> Self {
        let reserves = table.states.iter().map(|state| state.reserves).collect();
        let admitted = table.states.iter().map(|state| state.admitted).collect();
        Self { metas: table.metas, reserves, admitted }
    }
}

impl TryFrom<SavedTable> for PoolTable {
    type Error = &'static str;

    fn try_from(saved: SavedTable) -> Result<Self, Self::Error> {
        let SavedTable { metas, reserves, admitted } = saved;
        if reserves.len() != metas.len() || admitted.len() != metas.len() {
            return Err("the columns of the pools differ in length");
        }
        let states = reserves.into_iter().zip(admitted);
        let states = states.map(|(reserves, admitted)| PoolState { reserves, admitted }).collect();
        // Of several pools at an address, the last one is there.
        let by_address = metas.iter().map(|meta| meta.address).zip((0..).map(PoolId)).collect();
        Ok(Self { metas, states, by_address })
    }
}

impl PoolTable {
    /// How many pools there are; their ids run from zero to one less.
    pub fn len(&self) -> usize {
        self.metas.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.metas.is_empty()
    }

    /// The id of the pool at an address.
    pub fn find(&self, address: &Address) -> Option<PoolId> {
        self.by_address.get(address)
    }

    /// What of a pool never changes.
    pub fn meta(&self, id: PoolId) -> Option<&PoolMeta> {
        self.metas.get(id.index())
    }

    /// The reserves as of the snapshot's block, if they are known.
    pub fn reserves(&self, id: PoolId) -> Option<Reserves> {
        self.states.get(id.index())?.reserves
    }

    /// The reserves of a pool that may be quoted: known, not empty, no token of it refused.
    pub fn quoted(&self, id: PoolId) -> Option<Reserves> {
        let PoolState { reserves, admitted } = *self.states.get(id.index())?;
        reserves.filter(|held| admitted && held.reserve0 > 0 && held.reserve1 > 0)
    }

    /// Every pool's id, meta and reserves, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = (PoolId, &PoolMeta, Option<Reserves>)> {
        let ids = (0..).map(PoolId);
        ids.zip(self.metas.iter())
            .zip(self.states.iter())
            .map(|((id, meta), state)| (id, meta, state.reserves))
    }

    /// Adds a pool, or finds the one that is there already.
    pub fn insert(&mut self, meta: PoolMeta, admitted: bool) -> PoolId {
        match self.find(&meta.address) {
            Some(id) => id,
            None => self.replace(meta, admitted),
        }
    }

    /// Adds a pool; one that is there already at its address keeps its id, loses its reserves and is no longer found:
    /// the contract was made anew on another branch of the chain.
    pub fn replace(&mut self, meta: PoolMeta, admitted: bool) -> PoolId {
        if let Some(gone) = self.find(&meta.address) {
            self.set_reserves(gone, None);
            self.set_admitted(gone, false);
        }
        let id = PoolId(u32::try_from(self.metas.len()).expect("fewer than 2^32 pools"));
        self.by_address.insert(meta.address, id);
        self.metas.push(meta);
        self.states.push(PoolState { reserves: None, admitted });
        id
    }

    /// Sets the reserves of a pool; says what they were. Nothing happens for an unknown id.
    pub fn set_reserves(&mut self, id: PoolId, reserves: Option<Reserves>) -> Option<Reserves> {
        let state = *self.states.get(id.index())?;
        self.states.set(id.index(), PoolState { reserves, ..state })?.reserves
    }

    /// Sets whether a pool may be quoted.
    pub fn set_admitted(&mut self, id: PoolId, admitted: bool) {
        if let Some(state) = self.states.get(id.index()).copied() {
            self.states.set(id.index(), PoolState { admitted, ..state });
        }
    }

    /// Touches what changes of the pools at these addresses: see [`Pages::fetch`].
    pub(crate) fn fetch(&self, addresses: impl Iterator<Item = Address>) {
        let found: Vec<_> = addresses.filter_map(|address| self.find(&address)).collect();
        self.states.fetch(found.iter().map(|id| id.index()));
    }

    /// Brings the pages up to date with what changed since the last time: to be done when a snapshot is published and
    /// nobody waits. What the table holds stays the same.
    pub fn settle(&mut self) {
        self.states.settle();
    }
}
