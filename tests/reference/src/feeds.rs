//! Prices from feeds and over time, computed anew for every block from the blocks that survive: each second of a window is looked
//! at, and nothing is ever undone.

use std::cell::RefCell;
use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256, U512};

use crate::formulas::sqrt_price_at;
use crate::pools::Change;

/// A block, as far as prices depend on it.
#[derive(Clone, Debug, Default)]
pub struct PriceBlock {
    /// Its hash.
    pub hash: B256,
    /// Seconds.
    pub timestamp: u64,
    /// What pools hold of the native token and of the other one, in the order of the logs.
    pub syncs: Vec<(Address, u128, u128)>,
    /// What pools of Uniswap V3 and V4 say, by name: the id, or the address as a word.
    pub ranged: Vec<(B256, RangedSaid)>,
    /// `AnswerUpdated` of anybody, in the order of the logs.
    pub answers: Vec<Answered>,
    /// `AggregatorConfirmed` of anybody, with the new aggregator, behind all answers.
    pub confirmed: Vec<(Address, Address)>,
}

/// What a pool with concentrated liquidity says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangedSaid {
    /// It stands at the square root of this price now.
    Stands(U256),
    /// Liquidity came or went.
    Changes(Change),
}

/// A pool with concentrated liquidity before the first block.
#[derive(Clone, Debug)]
pub struct JudgedRange {
    /// The token beside the native one.
    pub token: Address,
    /// Whether the native token is its token 0.
    pub is_native_first: bool,
    /// The square root of its price, with 96 bits after the point.
    pub sqrt_price: U256,
    /// All that was put into it.
    pub changes: Vec<Change>,
}

/// An `AnswerUpdated`.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// Who says it.
    pub emitter: Address,
    /// The round.
    pub round: u64,
    /// The answer.
    pub answer: i64,
    /// Seconds.
    pub updated_at: u64,
}

/// What a proxy read as of a block.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// Whom it reads from.
    pub aggregator: Address,
    /// Decimal places of the answer.
    pub decimals: u8,
    /// The last round.
    pub last: Answered,
}

/// A feed.
#[derive(Clone, Debug)]
pub struct JudgedFeed {
    /// The proxy.
    pub proxy: Address,
    /// The token.
    pub token: Address,
    /// Its decimal places.
    pub token_decimals: u8,
    /// Whether it is counted in US dollars; else in the native token.
    pub in_dollars: bool,
    /// Seconds between two answers, and how much later one may be.
    pub lifetime: u64,
    /// Parts per million by which the price moves without an answer.
    pub deviation_ppm: u64,
}

/// All that is known beside the blocks.
#[derive(Clone, Debug, Default)]
pub struct KnownPrices {
    /// The native token.
    pub native: Address,
    /// The pools of each token against the native one.
    pub pools: BTreeMap<Address, Vec<Address>>,
    /// Pools of Uniswap V3 and V4, by name.
    pub ranged: BTreeMap<B256, JudgedRange>,
    /// What the pools held before the first block.
    pub held: BTreeMap<Address, (u128, u128)>,
    /// What a pool must hold of the native token.
    pub least: u128,
    /// The feeds.
    pub feeds: Vec<JudgedFeed>,
    /// What was learnt: by proxy and block.
    pub learnt: BTreeMap<(Address, B256), Read>,
    /// Seconds over which prices are averaged.
    pub window: u64,
    /// What was found of a pool with concentrated liquidity behind a block, so that no block is computed twice.
    pub ranges_told: RefCell<BTreeMap<(B256, B256), (U256, U256)>>,
}

/// The price of a feed in the native token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JudgedPrice {
    /// Nothing is known.
    Unknown,
    /// There is none now.
    Stale,
    /// Wei for a smallest unit times 10^36, and the age in seconds.
    Fresh(U256, u64),
}

/// The prices of a token behind the last block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// In its pools.
    pub pool: Option<U256>,
    /// Whether the price in a pool is less than half or more than twice of that together.
    pub is_torn: bool,
    /// By its feed.
    pub feed: JudgedPrice,
    /// Over time, and how many seconds that covers.
    pub average: Option<(U256, u64)>,
    /// Seconds for which the pools have said that.
    pub pool_age_s: u64,
    /// How long ago the seconds lie that the average is over, in the mean.
    pub average_age_s: u64,
    /// Parts per million by which the price moves while the feeds say nothing.
    pub unanswered_ppm: u64,
}

/// What is told of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JudgedQuote {
    /// The price.
    pub price: U256,
    /// Seconds.
    pub age_s: u64,
    /// From the furthest of the others, of the lower of both, rounded up.
    pub deviation_ppm: Option<u64>,
    /// The same, where a feed is compared less what it says nothing about.
    pub unexplained_ppm: Option<u64>,
}

impl Judged {
    /// Pools, feed and average, where they have a price.
    pub fn quotes(&self) -> Vec<JudgedQuote> {
        let feed = match self.feed {
            JudgedPrice::Fresh(price, age) => Some((price, age)),
            JudgedPrice::Unknown | JudgedPrice::Stale => None,
        };
        let average = self.average.map(|(price, _)| (price, self.average_age_s));
        let sources = [self.pool.map(|price| (price, self.pool_age_s)), feed, average];
        let told = |own: usize| {
            let (price, age_s) = sources[own]?;
            let others = (0..3).filter(|other| *other != own);
            let distances = others.filter_map(|other| {
                let (low, high) = (price.min(sources[other]?.0), price.max(sources[other]?.0));
                let parts = U512::from(high - low) * U512::from(1_000_000);
                let parts = (parts + U512::from(low) - U512::from(1)) / U512::from(low);
                let silent = if own == 1 || other == 1 { self.unanswered_ppm } else { 0 };
                let parts = u64::try_from(parts).unwrap_or(u64::MAX);
                Some((parts, parts.saturating_sub(silent)))
            });
            let distances: Vec<(u64, u64)> = distances.collect();
            let deviation_ppm = distances.iter().map(|(parts, _)| *parts).max();
            let unexplained_ppm = distances.iter().map(|(_, parts)| *parts).max();
            Some(JudgedQuote { price, age_s, deviation_ppm, unexplained_ppm })
        };
        (0..3).filter_map(told).collect()
    }

    /// The price that may be acted upon, if it may lie so many parts per million from feed and average; 0: as far as it likes.
    pub fn to_act_upon(&self, feed_ppm: u64, average_ppm: u64) -> Option<U256> {
        let price = self.pool?;
        let near = |other: U256, ppm: u64| {
            let (low, high) = (price.min(other), price.max(other));
            (high - low) * U256::from(1_000_000) <= low * U256::from(ppm)
        };
        let by_feed = match self.feed {
            JudgedPrice::Unknown => true,
            JudgedPrice::Stale => false,
            JudgedPrice::Fresh(feed, _) => near(feed, feed_ppm),
        };
        let by_average = self.average.is_none_or(|(average, _)| near(average, average_ppm));
        ((feed_ppm == 0 || by_feed) && (average_ppm == 0 || by_average)).then_some(price)
    }
}

/// The prices of a token behind the last of these blocks, which stand on the one where everything was loaded, `loaded`.
pub fn judge(known: &KnownPrices, loaded: B256, blocks: &[PriceBlock], token: Address) -> Judged {
    let now = blocks.last().map_or(0, |block| block.timestamp);
    let pool_prices: Vec<Option<U256>> =
        (1..=blocks.len()).map(|upto| pool_price(known, &blocks[..upto], token)).collect();
    let (average, average_age_s) = average(known.window, blocks, &pool_prices, now).unzip();
    Judged {
        pool: pool_prices.last().copied().flatten(),
        is_torn: is_torn(known, blocks, token),
        feed: feed_price(known, loaded, blocks, token, now),
        average,
        pool_age_s: age(blocks, &pool_prices, now),
        average_age_s: average_age_s.unwrap_or_default(),
        unanswered_ppm: unanswered_ppm(known, token),
    }
}

/// Since the last block behind which the price was another one.
fn age(blocks: &[PriceBlock], prices: &[Option<U256>], now: u64) -> u64 {
    let same = prices.iter().rev().take_while(|price| Some(*price) == prices.last()).count();
    blocks.get(blocks.len() - same).map_or(0, |block| now - block.timestamp)
}

fn unanswered_ppm(known: &KnownPrices, token: Address) -> u64 {
    let of = |token: Address| known.feeds.iter().find(|feed| feed.token == token);
    let rate = of(token).filter(|feed| feed.in_dollars).and_then(|_| of(known.native));
    [of(token), rate].into_iter().flatten().map(|feed| feed.deviation_ppm).sum()
}

fn is_torn(known: &KnownPrices, blocks: &[PriceBlock], token: Address) -> bool {
    let Some(price) = pool_price(known, blocks, token) else { return false };
    let two = U256::from(2);
    told(known, blocks, token).iter().any(|(own, _)| *own > price * two || *own * two < price)
}

/// The mean over the pools by what they hold of the native token, where each price is brought to between half and twice of the
/// lowest one that no more of it lies above than up to.
fn pool_price(known: &KnownPrices, blocks: &[PriceBlock], token: Address) -> Option<U256> {
    let mut told = told(known, blocks, token);
    if told.is_empty() {
        return None;
    }
    told.sort_unstable();
    let held = |told: &[(U256, U256)]| told.iter().map(|(_, native)| *native).sum::<U256>();
    let middle = (1..=told.len()).find(|upto| held(&told[..*upto]) >= held(&told[*upto..]))?;
    let (middle, _) = told[middle - 1];
    let sum: U512 = told
        .iter()
        .map(|(price, native)| {
            let brought = if *price > middle * U256::from(2) {
                middle * U256::from(2)
            } else if *price < middle / U256::from(2) {
                middle / U256::from(2)
            } else {
                *price
            };
            U512::from(brought) * U512::from(*native)
        })
        .sum();
    Some((sum / U512::from(held(&told))).to()).filter(|price: &U256| !price.is_zero())
}

/// What all its pools say, each with its weight.
fn told(known: &KnownPrices, blocks: &[PriceBlock], token: Address) -> Vec<(U256, U256)> {
    let pairs = known.pools.get(&token).into_iter().flatten();
    let ranges = known.ranged.iter().filter(|(_, range)| range.token == token);
    let told = pairs.filter_map(|pool| told_by(known, blocks, *pool));
    let least = U256::from(known.least.max(1));
    let told_by_ranges = ranges.map(|(name, range)| {
        let behind = blocks.last().map_or(B256::ZERO, |block| block.hash);
        let found = || told_by_range(range, *name, blocks);
        *known.ranges_told.borrow_mut().entry((*name, behind)).or_insert_with(found)
    });
    told.chain(told_by_ranges.filter(|(_, weight)| *weight >= least)).collect()
}

/// The price in a pool of ranges, and what a pair holds that takes as much of the native token until its price is 9/4 of that, and
/// gives as much until it is 4/9: the lesser of both.
fn told_by_range(range: &JudgedRange, name: B256, blocks: &[PriceBlock]) -> (U256, U256) {
    let said = || blocks.iter().flat_map(|block| &block.ranged).filter(|(other, _)| *other == name);
    let mut stood = said().filter_map(|(_, said)| match said {
        RangedSaid::Stands(sqrt_price) => Some(*sqrt_price),
        RangedSaid::Changes(_) => None,
    });
    let changed = said().filter_map(|(_, said)| match said {
        RangedSaid::Changes(change) => Some(*change),
        RangedSaid::Stands(_) => None,
    });
    let here = stood.next_back().unwrap_or(range.sqrt_price);
    let changes: Vec<Change> = range.changes.iter().copied().chain(changed).collect();
    let (square, whole): (U512, U512) = (here.widening_mul(here), U512::ONE << 192usize);
    let price: U512 = if range.is_native_first {
        whole * U512::from(ten(36)) / square
    } else {
        square * U512::from(ten(36)) / whole
    };
    let (three, two) = (U256::from(3), U256::from(2));
    let [above, below] = [here * three / two, here * two / three];
    let [upwards, downwards] =
        [(here, above), (below, here)].map(|(low, high)| held(&changes, range.is_native_first, low, high));
    let [taken, given] = if range.is_native_first { [downwards, upwards] } else { [upwards, downwards] };
    (price.to(), (taken * two).min(given * three))
}

/// What ranges hold of token 0, or of token 1, between two prices, rounded down from one end of a range to the next (whitepaper of
/// Uniswap V3, 6.2).
pub fn held(changes: &[Change], is_of_token0: bool, low: U256, high: U256) -> U256 {
    let mut whole = BTreeMap::<(i32, i32), i128>::new();
    for Change { lower, upper, delta } in changes {
        *whole.entry((*lower, *upper)).or_default() += delta;
    }
    whole.retain(|_, held| *held > 0);
    let ranges: Vec<(U256, U256, i128)> = whole
        .into_iter()
        .map(|((lower, upper), held)| (sqrt_price_at(lower), sqrt_price_at(upper), held))
        .collect();
    let ends = ranges.iter().flat_map(|(lower, upper, _)| [*lower, *upper]);
    let mut prices: Vec<U256> = ends.filter(|end| low < *end && *end < high).chain([low, high]).collect();
    prices.sort_unstable();
    let stretch = |pair: &[U256]| -> U256 {
        let covers = |range: &&(U256, U256, i128)| range.0 <= pair[0] && pair[1] <= range.1;
        let liquidity: i128 = ranges.iter().filter(covers).map(|(.., held)| held).sum();
        let product = U512::from(liquidity.unsigned_abs()) * U512::from(pair[1] - pair[0]);
        let amount: U512 = if is_of_token0 {
            (product << 96usize) / U512::from(pair[0]) / U512::from(pair[1])
        } else {
            product >> 96usize
        };
        amount.to()
    };
    prices.windows(2).map(stretch).sum()
}

/// The price in a pool, and what it holds of the native token.
fn told_by(known: &KnownPrices, blocks: &[PriceBlock], pool: Address) -> Option<(U256, U256)> {
    let told = blocks.iter().flat_map(|block| &block.syncs).rfind(|(emitter, ..)| *emitter == pool);
    let (native, other) =
        told.map(|(_, native, other)| (*native, *other)).or(known.held.get(&pool).copied())?;
    if native < known.least || native == 0 || other == 0 {
        return None;
    }
    Some((U256::from(native) * ten(36) / U256::from(other), U256::from(native)))
}

/// Second by second; and how long ago those were.
fn average(
    window: u64,
    blocks: &[PriceBlock],
    prices: &[Option<U256>],
    now: u64,
) -> Option<((U256, u64), u64)> {
    let (mut seconds, mut half_seconds_ago) = (Vec::new(), 0);
    for second in now.saturating_sub(window)..now {
        let standing = blocks.iter().zip(prices).rfind(|(block, _)| block.timestamp <= second);
        if let Some(price) = standing.and_then(|(_, price)| *price) {
            seconds.push(price);
            half_seconds_ago += 2 * (now - second) - 1;
        }
    }
    let covered = seconds.len() as u64;
    if covered == 0 || 2 * covered < window {
        return None;
    }
    seconds.sort_unstable();
    let median = seconds[seconds.len().div_ceil(2) - 1];
    let (low, high) = (median / U256::from(2), median * U256::from(2));
    let sum: U512 = seconds.into_iter().map(|price| U512::from(price.max(low).min(high))).sum();
    Some((((sum / U512::from(covered)).to(), covered), half_seconds_ago / (2 * covered)))
}

/// What the feed of a proxy says last, and whether it still speaks for the proxy.
fn last_answer(
    known: &KnownPrices,
    loaded: B256,
    blocks: &[PriceBlock],
    proxy: Address,
) -> Option<(Read, bool)> {
    let mut speaks = true;
    let mut read = known.learnt.get(&(proxy, loaded)).copied();
    for block in blocks {
        if let Some(read) = read.as_mut().filter(|_| speaks) {
            for answered in block.answers.iter().filter(|answered| answered.emitter == read.aggregator) {
                if answered.round > read.last.round {
                    read.last = *answered;
                }
            }
        }
        let moved = |(emitter, latest): &(Address, Address)| {
            *emitter == proxy && read.is_some_and(|read| read.aggregator != *latest)
        };
        speaks &= !block.confirmed.iter().any(moved);
        if let Some(learnt) = known.learnt.get(&(proxy, block.hash)) {
            (read, speaks) = (Some(*learnt), true);
        }
    }
    Some((read?, speaks))
}

fn feed_price(
    known: &KnownPrices,
    loaded: B256,
    blocks: &[PriceBlock],
    token: Address,
    now: u64,
) -> JudgedPrice {
    let of = |token: Address| known.feeds.iter().find(|feed| feed.token == token);
    let Some(feed) = of(token).filter(|_| token != known.native) else { return JudgedPrice::Unknown };
    let rate = if feed.in_dollars { of(known.native).map(Some) } else { Some(None) };
    let Some(rate) = rate else { return JudgedPrice::Unknown };
    let (mut numerator, mut denominator) = (U512::from(ten(54)), U512::from(ten(feed.token_decimals)));
    let mut oldest = 0;
    for (feed, is_rate) in [(Some(feed), false), (rate, true)] {
        let Some(feed) = feed else { continue };
        let Some((read, speaks)) = last_answer(known, loaded, blocks, feed.proxy) else {
            return JudgedPrice::Unknown;
        };
        let age = now.saturating_sub(read.last.updated_at);
        if !speaks || age > feed.lifetime || read.last.answer <= 0 {
            return JudgedPrice::Stale;
        }
        oldest = oldest.max(age);
        let (answer, scale) = (U512::from(read.last.answer.unsigned_abs()), U512::from(ten(read.decimals)));
        let (up, down) = if is_rate { (scale, answer) } else { (answer, scale) };
        numerator *= up;
        denominator *= down;
    }
    let price = numerator / denominator;
    if price.is_zero() { JudgedPrice::Stale } else { JudgedPrice::Fresh(price.to(), oldest) }
}

fn ten(power: u8) -> U256 {
    U256::from(10).pow(U256::from(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATIVE: Address = Address::repeat_byte(1);
    const TOKEN: Address = Address::repeat_byte(2);
    const POOL: Address = Address::repeat_byte(3);
    const AGGREGATOR: Address = Address::repeat_byte(4);

    fn feed(token: Address, proxy: u8) -> JudgedFeed {
        let proxy = Address::repeat_byte(proxy);
        JudgedFeed { proxy, token, token_decimals: 6, in_dollars: true, lifetime: 100, deviation_ppm: 7 }
    }

    fn answered(round: u64, answer: i64, updated_at: u64) -> Answered {
        Answered { emitter: AGGREGATOR, round, answer, updated_at }
    }

    fn known() -> KnownPrices {
        let read = |answer| Read { aggregator: AGGREGATOR, decimals: 2, last: answered(1, answer, 990) };
        let foreign = Read { aggregator: Address::ZERO, ..read(200_000) };
        KnownPrices {
            native: NATIVE,
            pools: [(TOKEN, vec![POOL])].into(),
            ranged: BTreeMap::new(),
            held: [(POOL, (500, 1))].into(),
            least: 10,
            feeds: vec![feed(TOKEN, 0x10), feed(NATIVE, 0x11)],
            learnt: [
                ((Address::repeat_byte(0x10), B256::ZERO), read(100)),
                ((Address::repeat_byte(0x11), B256::ZERO), foreign),
            ]
            .into(),
            window: 100,
            ranges_told: RefCell::default(),
        }
    }

    fn block(timestamp: u64, held: (u128, u128), answers: Vec<Answered>) -> PriceBlock {
        let hash = B256::from(U256::from(timestamp));
        let syncs = vec![(POOL, held.0, held.1)];
        PriceBlock { hash, timestamp, syncs, answers, ..PriceBlock::default() }
    }

    #[test]
    fn a_dollar_of_six_decimals_is_worth_the_rate() {
        let judged = judge(&known(), B256::ZERO, &[block(1_000, (400, 2), vec![])], TOKEN);
        // 1/2000 of 10^18 wei for 10^6 units: 5 · 10^8 wei for one.
        assert_eq!(judged.feed, JudgedPrice::Fresh(U256::from(5) * ten(44), 10));
        assert_eq!((judged.pool, judged.average), (Some(U256::from(200) * ten(36)), None));
        let late = judge(&known(), B256::ZERO, &[block(1_091, (400, 2), vec![])], TOKEN);
        assert_eq!(late.feed, JudgedPrice::Stale);
    }

    #[test]
    fn pools_count_by_what_they_hold_and_none_for_more_than_twice_the_middle() {
        let mut known = known();
        let other = Address::repeat_byte(5);
        known.pools.insert(TOKEN, vec![POOL, other]);
        let price =
            |known: &KnownPrices| judge(known, B256::ZERO, &[block(1_000, (300, 50), vec![])], TOKEN).pool;
        assert_eq!(price(&known), Some(U256::from(6) * ten(36)), "the other holds nothing");
        for (held, expected) in [((60, 1), 7), ((9, 1), 6), ((300, 60), 5), ((400, 4), 78)] {
            known.held.insert(other, held);
            // (6 · 300 + 12 · 60) / 360 of the first, and (50 · 300 + 100 · 400) / 700 of the last.
            let found = price(&known).map(|price| (price / ten(36)).to::<u64>());
            assert_eq!(found, Some(expected), "{held:?}");
        }
    }

    #[test]
    fn a_range_weighs_as_the_pair_that_is_as_deep() {
        let mut known = known();
        known.pools.clear();
        let (one, whole) = (U256::ONE << 96, Change { lower: -800_000, upper: 800_000, delta: 1_000_000 });
        let range =
            |changes, sqrt_price| JudgedRange { token: TOKEN, is_native_first: false, sqrt_price, changes };
        let told =
            |changes: Vec<Change>, sqrt_price| told_by_range(&range(changes, sqrt_price), B256::ZERO, &[]);
        assert_eq!(told(vec![whole], one), (ten(36), U256::from(999_999)));
        assert_eq!(told(vec![whole], one * U256::from(2)), (ten(36) * U256::from(4), U256::from(1_999_998)));
        // 1 % of the price to either side: 1.0001^50 − 1 and 1 − 1.0001^-50 of the liquidity.
        let narrow = Change { lower: -100, upper: 100, delta: 1_000_000 };
        assert_eq!(told(vec![narrow], one).1, U256::from(2 * 5_012));
        assert_eq!(told(vec![narrow], sqrt_price_at(100)).1, U256::ZERO);
        known.ranged.insert(B256::ZERO, range(vec![whole], one));
        let moved = PriceBlock {
            ranged: vec![(B256::ZERO, RangedSaid::Stands(one * U256::from(2)))],
            ..block(1_000, (1, 1), vec![])
        };
        assert_eq!(judge(&known, B256::ZERO, &[moved], TOKEN).pool, Some(ten(36) * U256::from(4)));
    }

    #[test]
    fn answers_count_by_round_and_only_of_the_aggregator() {
        let stranger = Answered { emitter: POOL, ..answered(9, 7, 1_000) };
        let blocks = [block(1_000, (4, 2), vec![answered(2, 200, 1_000), answered(1, 1, 1_000), stranger])];
        let judged = judge(&known(), B256::ZERO, &blocks, TOKEN);
        assert_eq!(judged.feed, JudgedPrice::Fresh(U256::from(10) * ten(44), 10));
        let blocks = [block(1_000, (4, 2), vec![answered(2, -1, 1_000)])];
        assert_eq!(judge(&known(), B256::ZERO, &blocks, TOKEN).feed, JudgedPrice::Stale);
    }

    #[test]
    fn a_proxy_that_has_moved_has_no_price_until_it_was_read_again() {
        let moved = |proxy: u8, to| {
            let confirmed = vec![(Address::repeat_byte(proxy), to)];
            PriceBlock { confirmed, ..block(1_000, (4, 2), vec![]) }
        };
        let judged = |moved| judge(&known(), B256::ZERO, &[moved], TOKEN).feed;
        assert_eq!(judged(moved(0x10, POOL)), JudgedPrice::Stale);
        assert!(matches!(judged(moved(0x10, AGGREGATOR)), JudgedPrice::Fresh(..)));
        assert!(matches!(judged(moved(0x12, POOL)), JudgedPrice::Fresh(..)));
    }

    #[test]
    fn an_average_is_over_the_seconds_in_which_a_price_stood() {
        let blocks = [
            block(1_000, (100, 1), vec![]),
            block(1_075, (180, 1), vec![]),
            block(1_100, (9_999, 1), vec![]),
        ];
        assert_eq!(
            judge(&known(), B256::ZERO, &blocks, TOKEN).average,
            Some((U256::from(120) * ten(36), 100))
        );
        let blocks = [
            block(1_000, (100, 1), vec![]),
            block(1_050, (9_999, 1), vec![]),
            block(1_051, (100, 1), vec![]),
        ];
        // Fifty seconds at 100, one at 200 and not at 9,999.
        let expected = U256::from(5_200) * ten(36) / U256::from(51);
        assert_eq!(judge(&known(), B256::ZERO, &blocks, TOKEN).average, Some((expected, 51)));
        assert_eq!(judge(&known(), B256::ZERO, &blocks[..1], TOKEN).average, None);
    }

    #[test]
    fn what_is_acted_upon_lies_near_feed_and_average() {
        let judged = |pool: u64, feed, average: Option<u64>| Judged {
            pool: Some(U256::from(pool)),
            is_torn: false,
            feed,
            average: average.map(|average| (U256::from(average), 100)),
            pool_age_s: 1,
            average_age_s: 50,
            unanswered_ppm: 1_000,
        };
        let fresh = JudgedPrice::Fresh(U256::from(100), 0);
        assert!(judged(105, fresh, None).to_act_upon(50_000, 0).is_some());
        assert!(judged(106, fresh, None).to_act_upon(50_000, 0).is_none());
        assert!(judged(106, fresh, Some(100)).to_act_upon(0, 0).is_some());
        assert!(judged(106, JudgedPrice::Unknown, Some(100)).to_act_upon(50_000, 50_000).is_none());
        assert!(judged(106, JudgedPrice::Stale, None).to_act_upon(50_000, 0).is_none());
        let told = |quotes: Vec<JudgedQuote>| -> Vec<_> {
            let parts = |quote: &JudgedQuote| (quote.age_s, quote.deviation_ppm, quote.unexplained_ppm);
            quotes.iter().map(parts).collect()
        };
        let all = told(judged(106, fresh, Some(103)).quotes());
        let expected = [(1, 60_000, 59_000), (0, 60_000, 59_000), (50, 30_000, 29_127)];
        assert_eq!(all, expected.map(|(age, whole, rest)| (age, Some(whole), Some(rest))));
        assert_eq!(told(judged(106, JudgedPrice::Stale, None).quotes()), [(1, None, None)]);
    }
}
