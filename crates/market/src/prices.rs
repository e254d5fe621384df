use alloy_primitives::{Address, BlockNumber};
use headwater_events::{AsOf, Price, Snapshot};
use serde::Serialize;

/// The prices as of a block, in wei of the native token.
#[derive(Clone, Debug)]
pub struct PriceSnapshot {
    /// The block.
    pub as_of: AsOf,
    /// What prices are counted in: the wrapped native token.
    pub quote: Address,
    /// The prices by token.
    pub prices: imbl::HashMap<Address, TokenPrice>,
}

/// A price with where and when it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TokenPrice {
    /// The price.
    pub price: Price,
    /// The pool that weighs most in it.
    pub source: Address,
    /// The block in which a pool last changed it.
    pub changed_at: BlockNumber,
}

impl TokenPrice {
    /// Blocks since it last changed, at `now`.
    pub fn age(&self, now: BlockNumber) -> u64 {
        now.saturating_sub(self.changed_at)
    }
}

impl PriceSnapshot {
    /// The price of a token; the quote itself is worth one.
    pub fn price(&self, token: &Address) -> Option<Price> {
        if *token == self.quote {
            return Some(Price::unit(self.quote));
        }
        self.prices.get(token).map(|known| known.price)
    }
}

impl Snapshot for PriceSnapshot {
    fn as_of(&self) -> AsOf {
        self.as_of
    }
}
