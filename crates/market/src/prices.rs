use alloy_primitives::{Address, BlockNumber};
use headwater_events::{AsOf, Price, Snapshot};
use serde::{Deserialize, Serialize};

use crate::address_index::AddressIndex;
use crate::pages::Pages;

/// The prices as of a block, in wei of the native token.
#[derive(Clone, Debug)]
pub struct PriceSnapshot {
    /// The block.
    pub as_of: AsOf,
    /// What prices are counted in: the wrapped native token.
    pub quote: Address,
    /// The prices by token.
    pub prices: PriceTable,
}

/// The place of a token in a [`PriceTable`]: dense, and never given to another token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PriceId(u32);

impl PriceId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Prices by token. A copy shares with its original what neither changes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "SavedPrices")]
pub struct PriceTable {
    #[serde(skip)]
    places: AddressIndex<PriceId>,
    tokens: Pages<Address>,
    /// By place; those that are missing at the end are `None`.
    prices: Pages<Option<TokenPrice>>,
    #[serde(skip)]
    priced: usize,
}

/// A table as it is saved: the rest follows.
#[derive(Deserialize)]
struct SavedPrices {
    tokens: Pages<Address>,
    prices: Pages<Option<TokenPrice>>,
}

impl From<SavedPrices> for PriceTable {
    fn from(saved: SavedPrices) -> Self {
        let SavedPrices { tokens, prices } = saved;
        let places = tokens.iter().copied().zip((0..).map(PriceId)).collect();
        let priced = prices.iter().flatten().count();
        Self { places, tokens, prices, priced }
    }
}

impl PriceTable {
    /// How many tokens have a price.
    pub fn len(&self) -> usize {
        self.priced
    }

    /// Whether no token has a price.
    pub fn is_empty(&self) -> bool {
        self.priced == 0
    }

    /// The price of a token.
    pub fn get(&self, token: &Address) -> Option<&TokenPrice> {
        self.at(self.places.get(token)?)
    }

    /// The price of the token at a place.
    pub fn at(&self, place: PriceId) -> Option<&TokenPrice> {
        self.prices.get(place.index())?.as_ref()
    }

    /// Every token that has a price, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (&Address, &TokenPrice)> {
        self.tokens.iter().zip(self.prices.iter()).filter_map(|(token, price)| Some((token, price.as_ref()?)))
    }

    /// The place of a token; one that is new gets the next.
    pub fn place(&mut self, token: Address) -> PriceId {
        if let Some(place) = self.places.get(&token) {
            return place;
        }
        let place = PriceId(u32::try_from(self.tokens.len()).expect("fewer than 2^32 tokens"));
        self.places.insert(token, place);
        self.tokens.push(token);
        place
    }

    /// The token at a place.
    pub fn token(&self, place: PriceId) -> Option<Address> {
        self.tokens.get(place.index()).copied()
    }

    /// Sets the price at a place, or takes it away.
    pub fn set(&mut self, place: PriceId, price: Option<TokenPrice>) {
        debug_assert!(place.index() < self.tokens.len(), "a place of another table");
        while self.prices.len() <= place.index() {
            self.prices.push(None);
        }
        self.priced += usize::from(price.is_some());
        let before = self.prices.set(place.index(), price).expect("it was just made sure of");
        self.priced -= usize::from(before.is_some());
    }

    /// Touches the prices at these places: see [`Pages::fetch`].
    pub fn fetch(&self, places: impl IntoIterator<Item = PriceId>) {
        self.prices.fetch(places.into_iter().map(PriceId::index));
    }

    /// As [`PoolTable::settle`](crate::PoolTable::settle).
    pub fn settle(&mut self) {
        self.prices.settle();
    }

    /// The places at which an earlier copy of this table had another price, each with that.
    pub fn differing(&self, earlier: &Self) -> Vec<(PriceId, Option<TokenPrice>)> {
        let places = self.prices.differing(&earlier.prices).into_iter().map(|index| PriceId(index as u32));
        let before = |place| earlier.at(place).copied();
        let changed = places.filter(|place| self.at(*place).copied() != before(*place));
        changed.map(|place| (place, before(place))).collect()
    }

    /// Brings back the prices of an earlier copy of this table. The places stay.
    pub fn roll_back_to(&mut self, earlier: &Self) {
        self.prices = earlier.prices.clone();
        self.priced = earlier.priced;
    }
}

/// A price with where and when it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
