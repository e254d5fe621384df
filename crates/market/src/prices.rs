use alloy_primitives::{Address, BlockNumber, U512};
use headwater_events::{AsOf, Price, Snapshot};
use serde::{Deserialize, Serialize};

use crate::address_index::AddressIndex;
use crate::feeds::{FeedPrice, Feeds, NotPending, PendingAnswer, PendingPrice};
use crate::pages::Pages;
use crate::window::{PriceWindow, TimeWeighted};

/// The prices as of a block, in wei of the native token.
#[derive(Clone, Debug)]
pub struct PriceSnapshot {
    /// The block.
    pub as_of: AsOf,
    /// What prices are counted in: the wrapped native token.
    pub quote: Address,
    /// The prices in pools as of the block, by token.
    pub prices: PriceTable,
    /// What else is known about prices.
    pub sources: PriceSources,
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
    /// The pool that weighs most in it; of a pool of Uniswap V4 the manager.
    pub source: Address,
    /// The block in which a pool last changed it.
    pub changed_at: BlockNumber,
    /// The timestamp of that block, in seconds since the Unix epoch.
    pub changed_at_s: u64,
}

impl TokenPrice {
    /// Blocks since it last changed, at `now`.
    pub fn age(&self, now: BlockNumber) -> u64 {
        now.saturating_sub(self.changed_at)
    }
}

/// What prices come from beside the pools as of the block, and what a price is held to.
#[derive(Clone, Debug, Default)]
pub struct PriceSources {
    /// Timestamp of the block, in seconds since the Unix epoch.
    pub timestamp: u64,
    /// The Chainlink feeds.
    pub feeds: Feeds,
    /// How the prices in pools changed in the last blocks.
    pub window: PriceWindow,
    /// What a price in pools is held to before it is acted upon.
    pub limits: PriceLimits,
}

/// What a price in pools is held to before it is acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceLimits {
    /// Seconds over which prices are averaged.
    pub average_window_s: u64,
    /// Parts per million by which a price may lie from that of its token's feed; 0: it is not held to feeds.
    pub max_feed_deviation_ppm: u32,
    /// The same for its time-weighted average.
    pub max_average_deviation_ppm: u32,
}

impl Default for PriceLimits {
    fn default() -> Self {
        Self { average_window_s: 1_800, max_feed_deviation_ppm: 50_000, max_average_deviation_ppm: 0 }
    }
}

/// A price with where it comes from, how old it is, and what speaks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The price.
    pub price: Price,
    /// Where it comes from.
    pub source: PriceSource,
    /// Seconds to the block: of pools, since they last changed it (what they hold is known as of the block, so that an old price is
    /// one that stands); of a feed, since the older of the answers that it is made of; of an average, how long ago the seconds
    /// lie that it is of, in the mean.
    pub age_s: u64,
    /// Confidence: the parts per million by which the furthest of the token's other sources lies from it, of the lower of both.
    /// `None` where no other source has a price: then nothing but itself speaks for it.
    pub deviation_ppm: Option<u64>,
    /// What of that is not explained by the feed's silence, which lets a price move by its `deviation_ppm` before it is answered:
    /// above zero, an answer is due, and much above it one of the sources is wrong. As much for averages and pools, between which
    /// nothing is explained so.
    pub unexplained_ppm: Option<u64>,
}

/// Where a price comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PriceSource {
    /// The pools as of the block.
    Pools {
        /// The one that weighs most; of a pool of Uniswap V4 the manager.
        deepest: Address,
    },
    /// A Chainlink feed that is not stale.
    Feed {
        /// Its proxy.
        proxy: Address,
    },
    /// The pools over time.
    TimeWeighted {
        /// Seconds that it speaks of.
        covered_s: u64,
    },
}

impl PriceSource {
    fn is_feed(&self) -> bool {
        matches!(self, Self::Feed { .. })
    }
}

impl Quote {
    /// Before it is compared with others.
    fn alone(price: Price, source: PriceSource, age_s: u64) -> Self {
        Self { price, source, age_s, deviation_ppm: None, unexplained_ppm: None }
    }
}

impl PriceSnapshot {
    /// The price of a token to be acted upon: that of its pools as of the block. The quote itself is worth one.
    ///
    /// There is none where the price lies further from that of the token's feed, or from its time-weighted average, than
    /// [`PriceLimits`] allows, or where the feed is stale. A feed of which nothing is known, and an average that covers too
    /// little, object to nothing.
    pub fn price(&self, token: &Address) -> Option<Price> {
        if *token == self.quote {
            return Some(Price::unit(self.quote));
        }
        let price = self.prices.get(token)?.price;
        (self.is_near_feed(token, &price) && self.is_near_average(token, &price)).then_some(price)
    }

    /// Every source that has a price of a token: pools, feed, time-weighted average, in this order. The quote has none.
    pub fn quotes(&self, token: &Address) -> Vec<Quote> {
        let pools = self.prices.get(token).map(|known| {
            let age_s = self.sources.timestamp.saturating_sub(known.changed_at_s);
            Quote::alone(known.price, PriceSource::Pools { deepest: known.source }, age_s)
        });
        let (feed, unanswered_ppm) = match self.feed_price(token) {
            FeedPrice::Fresh { price, proxy, age_s, unanswered_ppm } => {
                (Some(Quote::alone(price, PriceSource::Feed { proxy }, age_s)), unanswered_ppm)
            }
            FeedPrice::Unknown | FeedPrice::Stale => (None, 0),
        };
        let average = self.average(token).map(|TimeWeighted { mantissa, covered_s, age_s }| {
            let price = Price { quote: self.quote, mantissa };
            Quote::alone(price, PriceSource::TimeWeighted { covered_s }, age_s)
        });
        let mut quotes: Vec<Quote> = [pools, feed, average].into_iter().flatten().collect();
        let alone = quotes.clone();
        for (at, quote) in quotes.iter_mut().enumerate() {
            for (_, other) in alone.iter().enumerate().filter(|(other, _)| *other != at) {
                let deviation = deviation_ppm(&quote.price, &other.price);
                let is_of_feed = quote.source.is_feed() || other.source.is_feed();
                let unexplained = deviation.saturating_sub(if is_of_feed { unanswered_ppm } else { 0 });
                quote.deviation_ppm = quote.deviation_ppm.max(Some(deviation));
                quote.unexplained_ppm = quote.unexplained_ppm.max(Some(unexplained));
            }
        }
        quotes
    }

    /// The price of a token as its feed gives it.
    pub fn feed_price(&self, token: &Address) -> FeedPrice {
        self.sources.feeds.price(token, self.quote, self.sources.timestamp)
    }

    /// The time-weighted average of a token's price in pools; `None` where it covers less than half of its window.
    pub fn average(&self, token: &Address) -> Option<TimeWeighted> {
        let place = self.prices.places.get(token)?;
        let current = self.prices.at(place).map(|known| known.price.mantissa);
        let PriceSources { timestamp, window, limits, .. } = &self.sources;
        window.average(place, current, *timestamp, limits.average_window_s)
    }

    /// The prices that a pending transmission will give once it lands: see [`Feeds::pending`].
    ///
    /// # Errors
    ///
    /// [`NotPending`] where it changes no price of the feeds.
    pub fn pending(&self, pending: &PendingAnswer) -> Result<Vec<PendingPrice>, NotPending> {
        self.sources.feeds.pending(pending, self.quote, self.sources.timestamp)
    }

    fn is_near_feed(&self, token: &Address, price: &Price) -> bool {
        let most = self.sources.limits.max_feed_deviation_ppm;
        most == 0
            || match self.feed_price(token) {
                FeedPrice::Unknown => true,
                FeedPrice::Stale => false,
                FeedPrice::Fresh { price: feed, .. } => deviation_ppm(price, &feed) <= u64::from(most),
            }
    }

    fn is_near_average(&self, token: &Address, price: &Price) -> bool {
        let most = self.sources.limits.max_average_deviation_ppm;
        most == 0
            || self.average(token).is_none_or(|TimeWeighted { mantissa, .. }| {
                deviation_ppm(price, &Price { mantissa, ..*price }) <= u64::from(most)
            })
    }
}

/// By how many parts per million of the lower one two prices differ, rounded up.
pub(crate) fn deviation_ppm(one: &Price, other: &Price) -> u64 {
    let (low, high) = (one.mantissa.min(other.mantissa), one.mantissa.max(other.mantissa));
    if low.is_zero() {
        return if high.is_zero() { 0 } else { u64::MAX };
    }
    let parts = (U512::from(high - low) * U512::from(1_000_000)).div_ceil(U512::from(low));
    u64::try_from(parts).unwrap_or(u64::MAX)
}

impl Snapshot for PriceSnapshot {
    fn as_of(&self) -> AsOf {
        self.as_of
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{B256, U256};
    use headwater_events::FeedRound;

    use super::*;
    use crate::{BlockPrices, Feed, FeedQuote, FeedReading, PriceChange};

    const QUOTE: Address = Address::repeat_byte(1);
    const TOKEN: Address = Address::repeat_byte(2);
    const NOW: u64 = 100_000;

    fn price(mantissa: u64) -> Price {
        Price { quote: QUOTE, mantissa: U256::from(mantissa) }
    }

    /// The token is worth `pools` as of the block, `feed` by a feed of that age, and `average` over the last half hour.
    fn snapshot(pools: u64, feed: Option<(u64, u64)>, average: Option<u64>) -> PriceSnapshot {
        let as_of = AsOf::GENESIS;
        let mut prices = PriceTable::default();
        let place = prices.place(TOKEN);
        let source = Address::repeat_byte(9);
        let changed_at_s = NOW - 90;
        prices.set(place, Some(TokenPrice { price: price(pools), source, changed_at: 0, changed_at_s }));
        let mut window = PriceWindow::default();
        if let Some(average) = average {
            let (before, after) = (Some(U256::from(average)), Some(U256::from(pools)));
            for (timestamp, changes) in
                [(NOW - 1_800, vec![]), (NOW, vec![PriceChange { place, before, after }])]
            {
                window.push(BlockPrices { number: 0, hash: B256::ZERO, timestamp, changes }, 1_800);
            }
        }
        // 10^18 of its smallest units are worth the answer in wei, so that a mantissa is 10^18 times that of the answer.
        let known = Feed {
            name: String::new(),
            proxy: Address::repeat_byte(8),
            token: TOKEN,
            quote: FeedQuote::Native,
            heartbeat_s: 3_600,
            deviation_ppm: 1,
        };
        let reading = feed.map_or(FeedReading::Unknown, |(answer, age)| {
            FeedReading::Round(FeedRound {
                aggregator: Address::ZERO,
                phase: 1,
                decimals: 36,
                token_decimals: 18,
                round: 1,
                answer: Some(U256::from(answer)),
                updated_at: NOW - age,
            })
        });
        let feeds = Feeds { feeds: [known].into(), readings: [reading].into(), grace_s: 0 };
        let limits = PriceLimits { max_average_deviation_ppm: 100_000, ..PriceLimits::default() };
        let sources = PriceSources { timestamp: NOW, feeds, window, limits };
        PriceSnapshot { as_of, quote: QUOTE, prices, sources }
    }

    fn check(pools: u64, feed: Option<(u64, u64)>, average: Option<u64>, is_given: bool) {
        let found = snapshot(pools, feed, average).price(&TOKEN);
        assert_eq!(found, is_given.then(|| price(pools)), "{pools} {feed:?} {average:?}");
    }

    #[test]
    fn a_price_is_acted_upon_while_feed_and_average_bear_it_out() {
        check(1_000_000, None, None, true);
        check(1_050_000, Some((1_000_000, 0)), None, true);
        check(1_050_001, Some((1_000_000, 0)), None, false);
        check(1_000_000, Some((1_050_001, 0)), None, false);
        check(1_000_000, Some((1_000_000, 3_600)), None, true);
        check(1_000_000, Some((1_000_000, 3_601)), None, false);
        check(1_100_000, None, Some(1_000_000), true);
        check(1_100_001, None, Some(1_000_000), false);
        check(1_000_000, Some((1_000_000, 0)), Some(1_200_000), false);
    }

    #[test]
    fn without_limits_nothing_is_held_to_anything() {
        let mut free = snapshot(5, Some((1_000, 9_000)), Some(1_000_000));
        (free.sources.limits.max_feed_deviation_ppm, free.sources.limits.max_average_deviation_ppm) = (0, 0);
        assert_eq!(free.price(&TOKEN), Some(price(5)));
        assert_eq!(free.price(&QUOTE), Some(Price::unit(QUOTE)));
        assert_eq!(free.price(&Address::ZERO), None);
    }

    #[test]
    fn each_source_says_how_old_it_is_and_how_far_the_others_lie() {
        let quotes = snapshot(1_000_000, Some((1_010_000, 7)), Some(1_020_000)).quotes(&TOKEN);
        let told: Vec<_> =
            quotes.iter().map(|quote| (quote.source, quote.age_s, quote.deviation_ppm)).collect();
        let expected = [
            (PriceSource::Pools { deepest: Address::repeat_byte(9) }, 90, Some(20_000)),
            (PriceSource::Feed { proxy: Address::repeat_byte(8) }, 7, Some(10_000)),
            (PriceSource::TimeWeighted { covered_s: 1_800 }, 900, Some(20_000)),
        ];
        assert_eq!(told, expected);
        let alone = snapshot(5, Some((5, 3_601)), None).quotes(&TOKEN);
        assert_eq!(alone.iter().map(|quote| quote.deviation_ppm).collect::<Vec<_>>(), [None]);
    }

    #[test]
    fn what_a_feed_lets_pass_without_an_answer_explains_as_much_of_a_distance_and_no_more() {
        let unexplained = |threshold: u32, pools: u64, average: Option<u64>| -> Vec<Option<u64>> {
            let mut snapshot = snapshot(pools, Some((1_000_000, 7)), average);
            let known = Feed { deviation_ppm: threshold, ..snapshot.sources.feeds.feeds[0].clone() };
            snapshot.sources.feeds.feeds = [known].into();
            snapshot.quotes(&TOKEN).iter().map(|quote| quote.unexplained_ppm).collect()
        };
        assert_eq!(unexplained(5_000, 1_005_000, None), [Some(0), Some(0)]);
        assert_eq!(unexplained(5_000, 1_005_001, None), [Some(1), Some(1)]);
        assert_eq!(unexplained(0, 1_005_001, None), [Some(5_001), Some(5_001)]);
        // Between pools and average the feed explains nothing.
        assert_eq!(unexplained(20_000, 1_010_000, Some(1_000_000)), [Some(10_000), Some(0), Some(10_000)]);
    }
}
