use std::sync::Arc;

use alloy_primitives::{Address, I256, TxHash, U256, U512};
use headwater_events::{FeedRound, Price};
use serde::{Deserialize, Serialize};

/// A Chainlink feed that is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Feed {
    /// How people call it.
    pub name: String,
    /// The proxy, whose aggregator may change.
    pub proxy: Address,
    /// The token whose price it is.
    pub token: Address,
    /// What the price is counted in.
    pub quote: FeedQuote,
    /// Seconds between two answers at most, as its operators promise.
    pub heartbeat_s: u64,
    /// Parts per million by which the price has to move for an answer before that: as far may it have moved since the last one
    /// without a word.
    pub deviation_ppm: u32,
}

/// What the price of a feed is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedQuote {
    /// US dollars. It becomes a price in the native token by the feed of the wrapped native token in US dollars.
    Usd,
    /// The native token, of which 10^18 smallest units are one.
    Native,
}

/// What is known of a feed as of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeedReading {
    /// Nothing was learnt yet.
    #[default]
    Unknown,
    /// It cannot be read.
    Refused,
    /// Its proxy said that it reads from another aggregator, about which nothing was learnt yet.
    Moved,
    /// Its last round.
    Round(FeedRound),
    /// It could be read once, and cannot any longer, or what it said since is not known.
    Lost,
}

impl FeedReading {
    /// The last round, if there is one.
    pub fn round(&self) -> Option<&FeedRound> {
        match self {
            Self::Round(round) => Some(round),
            Self::Unknown | Self::Refused | Self::Moved | Self::Lost => None,
        }
    }
}

/// The feeds as of a block.
#[derive(Clone, Debug, Default)]
pub struct Feeds {
    /// Which there are.
    pub feeds: Arc<[Feed]>,
    /// What is known of each, in the same order.
    pub readings: Arc<[FeedReading]>,
    /// Seconds that an answer may be late: then its feed is stale.
    pub grace_s: u64,
}

/// A token's price as its feed gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedPrice {
    /// There is no feed of it, or the feed, or the one by which it becomes a price in the native token, was never read.
    Unknown,
    /// The feed, or the one by which it becomes a price in the native token, is silent for too long, says nothing above zero, has
    /// just changed its aggregator, cannot be read any longer, or was not learnt anew behind a gap yet.
    Stale,
    /// It has one.
    Fresh {
        /// How much of the native token.
        price: Price,
        /// The proxy of its feed.
        proxy: Address,
        /// Seconds since the older of the answers that it is made of.
        age_s: u64,
        /// Parts per million by which the price may have moved since without an answer: the `deviation_ppm` of the feeds that it is
        /// made of, added up.
        unanswered_ppm: u64,
    },
}

/// The greatest number of decimal places that is believed, of an answer and of a token.
pub const MOST_FEED_DECIMALS: u8 = 36;

/// The bits of the greatest answer: `int192` (libocr, `OffchainAggregator.sol`).
pub const FEED_ANSWER_BITS: usize = 191;

/// Decimal places of the native token.
const NATIVE_DECIMALS: u8 = 18;

impl Feeds {
    /// The price of a token in the native token `native`, at the block of this timestamp.
    pub fn price(&self, token: &Address, native: Address, now: u64) -> FeedPrice {
        let found = self.feeds.iter().position(|feed| feed.token == *token && *token != native);
        found.map_or(FeedPrice::Unknown, |at| self.price_of(at, native, now, |at| self.readings.get(at)))
    }

    fn price_of<'a>(
        &'a self,
        at: usize,
        native: Address,
        now: u64,
        reading: impl Fn(usize) -> Option<&'a FeedReading>,
    ) -> FeedPrice {
        let feed = &self.feeds[at];
        let (answer, age_s) = match self.answer(feed, reading(at), now) {
            Ok(answer) => answer,
            Err(why) => return why,
        };
        let mut unanswered_ppm = u64::from(feed.deviation_ppm);
        let (dollars, dollars_age) = match feed.quote {
            FeedQuote::Native => (None, 0),
            FeedQuote::Usd => {
                let is_dollars = |feed: &Feed| feed.token == native && feed.quote == FeedQuote::Usd;
                let Some(at) = self.feeds.iter().position(is_dollars) else { return FeedPrice::Unknown };
                unanswered_ppm += u64::from(self.feeds[at].deviation_ppm);
                match self.answer(&self.feeds[at], reading(at), now) {
                    Ok((dollars, age)) => (Some(dollars), age),
                    Err(why) => return why,
                }
            }
        };
        let Some(mantissa) = in_native(&answer, dollars.as_ref()) else { return FeedPrice::Stale };
        let price = Price { quote: native, mantissa };
        FeedPrice::Fresh { price, proxy: feed.proxy, age_s: age_s.max(dollars_age), unanswered_ppm }
    }

    /// What a feed says, and how old that is.
    fn answer(
        &self,
        feed: &Feed,
        reading: Option<&FeedReading>,
        now: u64,
    ) -> Result<(Answer, u64), FeedPrice> {
        let round = match reading {
            None | Some(FeedReading::Unknown | FeedReading::Refused) => return Err(FeedPrice::Unknown),
            Some(FeedReading::Moved | FeedReading::Lost) => return Err(FeedPrice::Stale),
            Some(FeedReading::Round(round)) => round,
        };
        let age = now.saturating_sub(round.updated_at);
        let is_stale = age > feed.heartbeat_s.saturating_add(self.grace_s);
        let answer = round.answer.filter(|_| !is_stale).ok_or(FeedPrice::Stale)?;
        Ok((Answer { value: answer, decimals: round.decimals, token_decimals: round.token_decimals }, age))
    }

    /// The prices that a pending transmission will give once it lands, one for each token whose price it changes.
    ///
    /// The aggregator takes an answer only within its own bounds, from its own oracles and for a later round; what is told here
    /// holds if it does.
    ///
    /// # Errors
    ///
    /// [`NotPending`] where the transmission changes no price of these feeds.
    pub fn pending(
        &self,
        pending: &PendingAnswer,
        native: Address,
        now: u64,
    ) -> Result<Vec<PendingPrice>, NotPending> {
        let is_its = |reading: &FeedReading| {
            reading.round().is_some_and(|round| round.aggregator == pending.aggregator)
        };
        let at = self.readings.iter().position(is_its).ok_or(NotPending::ForeignAggregator)?;
        let round = self.readings[at].round().ok_or(NotPending::ForeignAggregator)?;
        let answer = positive_answer(pending.median).ok_or(NotPending::ImpossibleAnswer)?;
        let landed = FeedReading::Round(FeedRound { answer: Some(answer), updated_at: now, ..*round });
        let feed = &self.feeds[at];
        let is_changed = |other: &Feed| {
            let by_dollars = feed.token == native && feed.quote == FeedQuote::Usd;
            other.proxy == feed.proxy || (by_dollars && other.quote == FeedQuote::Usd)
        };
        let changed = (0..self.feeds.len()).filter(|index| is_changed(&self.feeds[*index]));
        let known = |index: usize| self.readings.get(index);
        let price_at = |index: usize, has_landed: bool| {
            let reading = |other: usize| if has_landed && other == at { Some(&landed) } else { known(other) };
            match self.price_of(index, native, now, reading) {
                FeedPrice::Fresh { price, .. } if self.feeds[index].token != native => Some(price),
                _ => None,
            }
        };
        let told = changed.map(|index| PendingPrice {
            transaction: pending.transaction,
            proxy: feed.proxy,
            token: self.feeds[index].token,
            answer,
            decimals: round.decimals,
            before: price_at(index, false),
            after: price_at(index, true),
        });
        Ok(told.collect())
    }
}

/// A transmission that was seen in the mempool, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingAnswer {
    /// The transaction.
    pub transaction: TxHash,
    /// The aggregator that it calls.
    pub aggregator: Address,
    /// The median of the report's observations: what the aggregator will answer.
    pub median: I256,
}

/// A price that is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingPrice {
    /// The transaction that will make it.
    pub transaction: TxHash,
    /// The proxy of the feed that it answers.
    pub proxy: Address,
    /// The token whose price it changes: the feed's own, and for the feed of the native token in US dollars each token that is
    /// counted in those.
    pub token: Address,
    /// The answer of the feed.
    pub answer: U256,
    /// Decimal places of the answer.
    pub decimals: u8,
    /// The price before, in the native token; `None` for the native token itself, and where there is none that is fresh.
    pub before: Option<Price>,
    /// The price when the transaction has landed; `None` as before.
    pub after: Option<Price>,
}

/// Why a transmission changes no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPending {
    /// It calls a contract that no feed reads from.
    #[error("no feed reads from the contract that is called")]
    ForeignAggregator,
    /// The median is not above zero, or more than an aggregator can hold.
    #[error("the median is no price")]
    ImpossibleAnswer,
}

/// An answer that can be a price: above zero, and not more than an aggregator can hold.
pub fn positive_answer(answer: I256) -> Option<U256> {
    let value = answer.into_raw();
    (answer.is_positive() && value.bit_len() <= FEED_ANSWER_BITS).then_some(value)
}

struct Answer {
    value: U256,
    decimals: u8,
    token_decimals: u8,
}

/// Wei of the native token for one smallest unit, scaled by 10^[`Price::SCALE`] and rounded down; `None` where that is zero,
/// beyond 256 bits, or made of more decimals than are believed. `dollars` is the price of the native token in US dollars.
fn in_native(answer: &Answer, dollars: Option<&Answer>) -> Option<U256> {
    let power = |decimals: u8| U512::from(10u8).pow(U512::from(decimals));
    let decimals =
        [Some(answer.decimals), Some(answer.token_decimals), dollars.map(|dollars| dollars.decimals)];
    if decimals.into_iter().flatten().any(|decimals| decimals > MOST_FEED_DECIMALS) {
        return None;
    }
    // At most 191 + 120 + 180 bits above, 191 + 120 + 120 below.
    let (scaled_up, scaled_down) = match dollars {
        None => (U512::from(1), U512::from(1)),
        Some(dollars) => (power(dollars.decimals), U512::from(dollars.value)),
    };
    let above = U512::from(answer.value) * scaled_up * power(NATIVE_DECIMALS + Price::SCALE);
    let below = scaled_down * power(answer.decimals) * power(answer.token_decimals);
    let mantissa = above.checked_div(below)?;
    (!mantissa.is_zero() && mantissa.bit_len() <= 256).then(|| mantissa.to())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATIVE: Address = Address::repeat_byte(1);
    const COIN: Address = Address::repeat_byte(2);
    const GOLD: Address = Address::repeat_byte(3);

    fn feed(token: Address, quote: FeedQuote) -> Feed {
        let proxy = Address::repeat_byte(token[0] + 0x10);
        Feed { name: String::new(), proxy, token, quote, heartbeat_s: 3_600, deviation_ppm: 5_000 }
    }

    fn round(token: Address, decimals: u8, token_decimals: u8, answer: u64, updated_at: u64) -> FeedReading {
        FeedReading::Round(FeedRound {
            aggregator: Address::repeat_byte(token[0] + 0x20),
            phase: 1,
            decimals,
            token_decimals,
            round: 1,
            answer: (answer > 0).then(|| U256::from(answer)),
            updated_at,
        })
    }

    /// The native token at 2,000 dollars, a coin of 6 decimals at one, and gold of 8 decimals at 30 of the native token.
    fn feeds() -> Feeds {
        Feeds {
            feeds: [feed(NATIVE, FeedQuote::Usd), feed(COIN, FeedQuote::Usd), feed(GOLD, FeedQuote::Native)]
                .into(),
            readings: [
                round(NATIVE, 8, 18, 200_000_000_000, 10_000),
                round(COIN, 8, 6, 100_000_000, 9_000),
                round(GOLD, 9, 8, 30_000_000_000, 9_990),
            ]
            .into(),
            grace_s: 100,
        }
    }

    fn with(at: usize, reading: FeedReading) -> Feeds {
        let mut feeds = feeds();
        let mut readings = feeds.readings.to_vec();
        readings[at] = reading;
        feeds.readings = readings.into();
        feeds
    }

    fn wei(whole: u64, token_decimals: u8, per: u64) -> U256 {
        let power = |decimals: u8| U256::from(10u8).pow(U256::from(decimals));
        U256::from(whole) * power(18 + 36) / power(token_decimals) / U256::from(per)
    }

    fn fresh(feeds: &Feeds, token: Address, now: u64) -> Option<(U256, u64)> {
        match feeds.price(&token, NATIVE, now) {
            FeedPrice::Fresh { price, age_s, .. } => Some((price.mantissa, age_s)),
            _ => None,
        }
    }

    #[test]
    fn dollars_become_wei_by_the_feed_of_the_native_token() {
        assert_eq!(fresh(&feeds(), COIN, 10_012), Some((wei(1, 6, 2_000), 1_012)));
        assert_eq!(fresh(&feeds(), GOLD, 10_012).map(|(_, age)| age), Some(22));
        let gold = with(2, round(GOLD, 1, 8, 300, 9_990));
        assert_eq!(fresh(&gold, GOLD, 10_012), Some((wei(30, 8, 1), 22)));
        assert_eq!(feeds().price(&NATIVE, NATIVE, 10_012), FeedPrice::Unknown, "it is what is counted in");
        assert_eq!(feeds().price(&Address::ZERO, NATIVE, 10_012), FeedPrice::Unknown);
    }

    #[test]
    fn a_price_in_dollars_may_move_unanswered_as_far_as_both_of_its_feeds() {
        let unanswered = |token| match feeds().price(&token, NATIVE, 10_012) {
            FeedPrice::Fresh { unanswered_ppm, .. } => Some(unanswered_ppm),
            FeedPrice::Unknown | FeedPrice::Stale => None,
        };
        assert_eq!([COIN, GOLD, NATIVE].map(unanswered), [Some(10_000), Some(5_000), None]);
    }

    #[test]
    fn an_answer_that_is_too_late_is_no_price_and_neither_is_what_is_made_of_it() {
        // The coin's answer of 9,000 holds until 3,600 seconds and the grace have passed.
        assert!(fresh(&feeds(), COIN, 12_700).is_some());
        assert_eq!(feeds().price(&COIN, NATIVE, 12_701), FeedPrice::Stale);
        let old_dollars = with(0, round(NATIVE, 8, 18, 200_000_000_000, 6_000));
        assert_eq!(old_dollars.price(&COIN, NATIVE, 10_000), FeedPrice::Stale);
        assert!(fresh(&old_dollars, GOLD, 10_000).is_some(), "it does not depend on dollars");
        for gone in [FeedReading::Moved, FeedReading::Lost] {
            assert_eq!(with(0, gone).price(&COIN, NATIVE, 10_000), FeedPrice::Stale);
        }
        for unknown in [FeedReading::Unknown, FeedReading::Refused] {
            assert_eq!(with(0, unknown).price(&COIN, NATIVE, 10_000), FeedPrice::Unknown);
            assert_eq!(with(1, unknown).price(&COIN, NATIVE, 10_000), FeedPrice::Unknown);
        }
    }

    #[test]
    fn nothing_above_zero_or_absurd_decimals_are_no_price() {
        assert_eq!(with(1, round(COIN, 8, 6, 0, 9_999)).price(&COIN, NATIVE, 10_000), FeedPrice::Stale);
        for (decimals, token_decimals) in [(37, 6), (255, 6), (8, 37), (8, 255)] {
            let absurd = with(1, round(COIN, decimals, token_decimals, 7, 9_999));
            assert_eq!(absurd.price(&COIN, NATIVE, 10_000), FeedPrice::Stale);
        }
        assert_eq!(with(1, round(COIN, 36, 36, 1, 9_999)).price(&COIN, NATIVE, 10_000), FeedPrice::Stale);
    }

    #[test]
    fn the_extremes_neither_overflow_nor_wrap() {
        let most = (U256::from(1) << FEED_ANSWER_BITS) - U256::from(1);
        let one = U256::from(1);
        for value in [one, most] {
            for dollars in [None, Some(one), Some(most)] {
                for decimals in [0, MOST_FEED_DECIMALS] {
                    let answer = |value| Answer { value, decimals, token_decimals: decimals };
                    let dollars = dollars.map(answer);
                    let found = in_native(&answer(value), dollars.as_ref());
                    assert!(found.is_none_or(|mantissa| !mantissa.is_zero()));
                }
            }
        }
        assert_eq!(positive_answer(I256::MAX), None);
        assert_eq!(positive_answer(I256::from_raw(most)), Some(most));
        assert_eq!(positive_answer(I256::ZERO), None);
        assert_eq!(positive_answer(I256::MINUS_ONE), None);
    }

    fn pending(token: Address, median: i64) -> PendingAnswer {
        PendingAnswer {
            transaction: TxHash::repeat_byte(7),
            aggregator: Address::repeat_byte(token[0] + 0x20),
            median: I256::try_from(median).expect("small"),
        }
    }

    #[test]
    fn a_pending_answer_gives_the_price_that_it_will_have() {
        let told = feeds().pending(&pending(COIN, 110_000_000), NATIVE, 10_012).expect("its aggregator");
        let [price] = told[..] else { panic!("{told:?}") };
        assert_eq!((price.token, price.proxy, price.decimals), (COIN, Address::repeat_byte(0x12), 8));
        assert_eq!(price.transaction, TxHash::repeat_byte(7));
        assert_eq!(price.before.map(|price| price.mantissa), Some(wei(1, 6, 2_000)));
        assert_eq!(price.after.map(|price| price.mantissa), Some(wei(11, 6, 20_000)));
    }

    #[test]
    fn a_pending_answer_of_the_native_token_changes_every_price_in_dollars() {
        let told =
            feeds().pending(&pending(NATIVE, 250_000_000_000), NATIVE, 10_012).expect("its aggregator");
        let tokens: Vec<_> = told.iter().map(|price| price.token).collect();
        assert_eq!(tokens, [NATIVE, COIN]);
        assert_eq!((told[0].before, told[0].after), (None, None));
        assert_eq!(told[1].after.map(|price| price.mantissa), Some(wei(1, 6, 2_500)));
    }

    #[test]
    fn a_pending_answer_ends_staleness_only_of_its_own_feed() {
        let stale = with(1, round(COIN, 8, 6, 100_000_000, 1));
        let told = stale.pending(&pending(COIN, 100_000_000), NATIVE, 10_012).expect("its aggregator");
        assert_eq!(told[0].before, None);
        assert_eq!(told[0].after.map(|price| price.mantissa), Some(wei(1, 6, 2_000)));
        let stale = with(0, round(NATIVE, 8, 18, 200_000_000_000, 1));
        let told = stale.pending(&pending(COIN, 100_000_000), NATIVE, 10_012).expect("its aggregator");
        assert_eq!((told[0].before, told[0].after), (None, None));
    }

    #[test]
    fn a_foreign_aggregator_or_an_impossible_answer_changes_nothing() {
        let foreign = PendingAnswer { aggregator: Address::repeat_byte(9), ..pending(COIN, 1) };
        assert_eq!(feeds().pending(&foreign, NATIVE, 10_012), Err(NotPending::ForeignAggregator));
        for median in [0, -1] {
            let told = feeds().pending(&pending(COIN, median), NATIVE, 10_012);
            assert_eq!(told, Err(NotPending::ImpossibleAnswer));
        }
    }
}
