use std::mem;

use alloy_primitives::{Address, BlockHash, U256};
use headwater_abi::{Malformed, logs};
use headwater_events::{ConcentratedLoaded, Log, V3Action, V4Action, V4Loaded};
use headwater_market::{
    BadImage, BlockRef, Changes, ConcentratedBook, ConcentratedId, ConcentratedImage, ConcentratedKind,
    ConcentratedMeta, ConcentratedPrice, ConcentratedUpdate, PairLike, ResolvedMarket, RolledBack, V4Key,
    concentrated_event, v4_event,
};

/// The pools of Uniswap V3 and V4 that hold the native token, and what each says of the price of the other one.
///
/// In V4 the native token has a currency of its own, the zero address, and it is worth what the wrapped one is.
#[derive(Clone, Debug)]
pub(crate) struct RangedPools {
    quote: Address,
    managers: Vec<Address>,
    pub(crate) book: ConcentratedBook,
    /// By pool id, as of the last time that changes were taken.
    told: Vec<Option<PairLike>>,
    /// Blocks were undone since: the prices are those of an earlier moment, verdicts and pools that were read later are not in them.
    is_rolled_back: bool,
}

impl RangedPools {
    pub(crate) fn new(market: &ResolvedMarket) -> Self {
        Self::of_book(market, ConcentratedBook::new(market))
    }

    pub(crate) fn of_image(market: &ResolvedMarket, image: ConcentratedImage) -> Result<Self, BadImage> {
        let mut pools = Self::of_book(market, ConcentratedBook::of_image(market, image)?);
        let ids: Vec<_> = pools.ids().collect();
        ids.into_iter().for_each(|id| pools.look_at(id));
        Ok(pools)
    }

    fn of_book(market: &ResolvedMarket, book: ConcentratedBook) -> Self {
        let managers = market.concentrated_managers.iter().map(|manager| manager.address).collect();
        Self { quote: market.wrapped_native, managers, book, told: Vec::new(), is_rolled_back: false }
    }

    pub(crate) fn roll_back(&mut self, ancestor: BlockHash) {
        self.is_rolled_back |= matches!(self.book.roll_back(ancestor), RolledBack::Undone(1..));
    }

    /// Follows what a block says; how many of its logs could not be read.
    pub(crate) fn apply_block(&mut self, block: BlockRef, logs: &[Log]) -> u64 {
        if !self.book.is_active() {
            return 0;
        }
        let mut malformed = 0;
        let mut updates = Vec::new();
        for log in logs {
            let is_of_v4 = self.managers.contains(&log.address);
            let read = if is_of_v4 { v4_update(log) } else { v3_update(log) };
            updates.extend(read.unwrap_or_else(|_| {
                malformed += 1;
                let emitter = log.address;
                Some(match log.topics.get(1).filter(|_| is_of_v4) {
                    Some(id) => ConcentratedUpdate::V4Unreadable { manager: emitter, id: *id },
                    None => ConcentratedUpdate::Unreadable { emitter },
                })
            }));
        }
        updates.retain(|update| match *update {
            ConcentratedUpdate::PoolCreated { token0, token1, .. } => {
                self.beside_quote(token0, token1, false).is_some()
            }
            ConcentratedUpdate::V4Initialized { key: V4Key { currency0, currency1, .. }, .. } => {
                self.beside_quote(currency0, currency1, true).is_some()
            }
            _ => true,
        });
        self.book.apply_block(block, updates);
        malformed
    }

    pub(crate) fn v3_loaded(&mut self, loaded: &ConcentratedLoaded) {
        if self.beside_quote(loaded.token0, loaded.token1, false).is_some() {
            self.book.pool_loaded(loaded);
        }
    }

    pub(crate) fn v4_loaded(&mut self, loaded: &V4Loaded) {
        if self.beside_quote(loaded.currency0, loaded.currency1, true).is_some() {
            self.book.v4_loaded(loaded);
        }
    }

    /// The pools that may say something else than when this was last asked, or whose prices may be of another moment.
    pub(crate) fn take_changes(&mut self) -> Vec<ConcentratedId> {
        let ids = match self.book.take_changes() {
            Changes::All => self.ids().collect(),
            Changes::Pools(ids) => ids.to_vec(),
        };
        ids.iter().for_each(|id| self.look_at(*id));
        if mem::take(&mut self.is_rolled_back) { self.ids().collect() } else { ids }
    }

    /// Every pool.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ConcentratedId> + use<> {
        (0..self.book.table().len() as u32).map(ConcentratedId)
    }

    /// The token that a pool holds beside the native one, and whether that is its token 0.
    pub(crate) fn side(&self, id: ConcentratedId) -> Option<(&ConcentratedMeta, Address, bool)> {
        let meta = self.book.table().meta(id)?;
        let is_of_v4 = matches!(meta.kind, ConcentratedKind::V4 { .. });
        let (token, is_first) = self.beside_quote(meta.token0, meta.token1, is_of_v4)?;
        Some((meta, token, is_first))
    }

    /// What a pool says, whatever was found about its tokens.
    pub(crate) fn told(&self, id: ConcentratedId) -> Option<&PairLike> {
        self.told.get(id.index())?.as_ref()
    }

    fn look_at(&mut self, id: ConcentratedId) {
        let told =
            self.side(id).and_then(|(.., is_first)| PairLike::of(self.book.table().pool(id)?, is_first));
        self.told.resize(self.told.len().max(id.index() + 1), None);
        self.told[id.index()] = told;
    }

    fn beside_quote(&self, token0: Address, token1: Address, is_of_v4: bool) -> Option<(Address, bool)> {
        let is_native = |token: Address| token == self.quote || (is_of_v4 && token.is_zero());
        match (is_native(token0), is_native(token1)) {
            (true, false) => Some((token1, true)),
            (false, true) => Some((token0, false)),
            _ => None,
        }
    }
}

fn v3_update(log: &Log) -> Result<Option<ConcentratedUpdate>, Malformed> {
    let emitter = log.address;
    Ok(match logs::concentrated_change(log)? {
        Some(V3Action::PoolCreated { token0, token1, fee, tick_spacing, pool }) => {
            Some(ConcentratedUpdate::PoolCreated { emitter, token0, token1, fee, tick_spacing, pool })
        }
        Some(action) => concentrated_event(&action).map(|event| ConcentratedUpdate::Pool { emitter, event }),
        None => None,
    })
}

fn v4_update(log: &Log) -> Result<Option<ConcentratedUpdate>, Malformed> {
    let manager = log.address;
    let Some(action) = logs::v4_change(log)? else { return Ok(None) };
    let charged = match action {
        V4Action::Initialize { id, currency0, currency1, fee, tick_spacing, hooks, sqrt_price_x96, tick } => {
            let key = V4Key { currency0, currency1, fee, tick_spacing, hooks };
            let price = ConcentratedPrice { sqrt_price: U256::from(sqrt_price_x96), tick };
            return Ok(Some(ConcentratedUpdate::V4Initialized { manager, id, key, price }));
        }
        V4Action::Swap { fee, .. } => Some(fee),
        _ => None,
    };
    Ok(v4_event(&action).map(|(id, event)| ConcentratedUpdate::V4 { manager, id, event, charged }))
}

#[cfg(test)]
mod tests;
