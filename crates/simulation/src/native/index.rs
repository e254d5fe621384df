use alloy_primitives::Address;
use headwater_market::{
    ConcentratedId, ConcentratedKind, ConcentratedTable, MarketSnapshot, PoolId, PoolTable,
};
use rustc_hash::{FxHashMap, FxHashSet};

/// Pools by what a router looks them up by: their factory and tokens, and in V3 their fee.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pairs: FxHashMap<(Address, Address, Address), PoolId>,
    pools: FxHashMap<(Address, Address, Address, u32), ConcentratedId>,
    factories_v2: FxHashSet<Address>,
    factories_v3: FxHashSet<Address>,
    managers: FxHashSet<Address>,
    seen: [usize; 2],
}

impl Index {
    /// Takes the pools in that are new. A table that shrank is another table.
    pub(crate) fn follow(&mut self, market: &MarketSnapshot) {
        let MarketSnapshot { pools, concentrated, .. } = market;
        if pools.len() < self.seen[0] || concentrated.len() < self.seen[1] {
            *self = Self::default();
        }
        self.follow_pairs(pools);
        self.follow_concentrated(concentrated);
        self.seen = [pools.len(), concentrated.len()];
    }

    fn follow_pairs(&mut self, table: &PoolTable) {
        for index in self.seen[0]..table.len() {
            let Ok(id) = u32::try_from(index).map(PoolId) else { break };
            if let Some(meta) = table.meta(id) {
                self.pairs.insert((meta.factory, meta.token0, meta.token1), id);
                self.factories_v2.insert(meta.factory);
            }
        }
    }

    fn follow_concentrated(&mut self, table: &ConcentratedTable) {
        for index in self.seen[1]..table.len() {
            let Ok(id) = u32::try_from(index).map(ConcentratedId) else { break };
            let Some(meta) = table.meta(id) else { continue };
            match meta.kind {
                ConcentratedKind::V3 => {
                    self.pools.insert((meta.factory, meta.token0, meta.token1, meta.fee), id);
                    self.factories_v3.insert(meta.factory);
                }
                // The table itself finds these by their names.
                ConcentratedKind::V4 { .. } => drop(self.managers.insert(meta.address)),
            }
        }
    }

    pub(super) fn pair(&self, factory: Address, a: Address, b: Address) -> Option<PoolId> {
        self.pairs.get(&(factory, a.min(b), a.max(b))).copied()
    }

    pub(super) fn pool(&self, factory: Address, a: Address, b: Address, fee: u32) -> Option<ConcentratedId> {
        self.pools.get(&(factory, a.min(b), a.max(b), fee)).copied()
    }

    /// The factory of V2, that of V3 and the manager of V4 whose addresses stand in a contract's code as immutable words, where there
    /// is exactly one of its kind: a Universal Router has no function that names them (universal-router `UniswapImmutables.sol`).
    pub(crate) fn makers_in(&self, code: &[u8]) -> [Option<Address>; 3] {
        [&self.factories_v2, &self.factories_v3, &self.managers].map(|makers| {
            let mut found = makers.iter().filter(|maker| is_in(code, maker));
            found.next().copied().filter(|_| found.next().is_none())
        })
    }
}

/// Whether an address stands in a code, pushed as a word.
pub(crate) fn is_in(code: &[u8], address: &Address) -> bool {
    const PUSH32: u8 = 0x7f;
    let pushed: Vec<u8> = std::iter::once(PUSH32).chain(address.into_word().0).collect();
    code.windows(pushed.len()).any(|window| window == pushed)
}
