//! Prices that somebody pushes, and a feed that stops: nothing is acted upon by them where prices are held to their feeds, which they are
//! by default, or to their averages, which has to be configured.

use std::fmt;

use alloy_primitives::{Address, U256};
use anyhow::{Context, ensure};
use headwater_market::{FeedPrice, PriceSnapshot};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::follower::{ACTING, BEGINNING, BY_DEFAULT, Followed, Follower, RESEARCH};
use super::market::{Coin, Coins, HEARTBEAT};

const BLOCK_TIME: u64 = 12;

/// Blocks until the averages cover their whole window of half an hour.
const BLOCKS: u64 = 155;

/// Seconds by which an answer may be late, by default.
const GRACE: u64 = 300;

/// What is checked in a round at least.
pub(super) const FLOOR: u64 = 12;

#[derive(Debug, Default)]
pub(super) struct Counts {
    acted_upon: u64,
    held_back: u64,
    averages: u64,
    believed_by_default: u64,
    held_back_by_default: u64,
}

impl Counts {
    pub(super) fn all(&self) -> u64 {
        let Self { acted_upon, held_back, averages, believed_by_default, held_back_by_default } = self;
        acted_upon + held_back + averages + believed_by_default + held_back_by_default
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acted_upon, held_back, averages, believed_by_default, held_back_by_default } = self;
        write!(
            f,
            "{held_back} findings not acted upon because a feed has stopped, or the price that they are counted in was pushed away from its \
             feed or its average, {acted_upon} before and after it; {averages} averages moved within their bound; without \
             max_average_deviation_ppm, which is the default, {held_back_by_default} not acted upon because of their feed, and \
             {believed_by_default} valued at a pushed price that no feed contradicts"
        )
    }
}

pub(super) fn judge(
    random: &mut ChaCha8Rng,
    follower: &mut Follower,
    coins: &Coins,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    for _ in 0..BLOCKS {
        follower.block(random, BLOCK_TIME, Vec::new())?;
    }
    judge_pushed(random, follower, coins, &coins.plain, counts).context("held to its average")?;
    judge_pushed(random, follower, coins, &coins.fed, counts).context("held to its feed")?;
    judge_silence(random, follower, coins, counts).context("a feed that stops")
}

/// Somebody moves what a coin is worth, for one block.
fn judge_pushed(
    random: &mut ChaCha8Rng,
    follower: &mut Follower,
    coins: &Coins,
    coin: &Coin,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    let before = follower.block(random, BLOCK_TIME, Vec::new())?;
    counts.acted_upon += expect(&before, coin.token, true)?;
    let price = in_pool(&before.prices, coin)?;
    let pushed = coin.pushed(coins.native, random.random_range(2..1_000), random.random());
    let during = follower.block(random, BLOCK_TIME, vec![pushed])?;
    ensure!(in_pool(&during.prices, coin)? != price, "the price was not pushed");
    counts.held_back += expect(&during, coin.token, false)?;
    judge_default(&during, coin.token, coin.token == coins.fed.token, counts).context("by default")?;
    let after = follower.block(random, BLOCK_TIME, vec![coin.restored()])?;
    let average = after.prices.average(&coin.token).context("it has an average")?;
    let (covered, pushed_for) = (U256::from(average.covered_s), U256::from(BLOCK_TIME));
    let twice = covered * U256::from(2);
    let least = price * (twice - pushed_for) / twice - U256::ONE;
    let most = (price * (covered + pushed_for)).div_ceil(covered);
    let is_within = average.mantissa >= least && average.mantissa <= most;
    ensure!(is_within, "the average is {}, and not between {least} and {most}", average.mantissa);
    counts.averages += 1;
    counts.acted_upon += expect(&after, coin.token, true)?;
    Ok(())
}

/// Without `max_average_deviation_ppm`, which is the default, a pushed price is believed unless the coin has a feed.
fn judge_default(
    during: &Followed,
    coin: Address,
    has_feed: bool,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    let [worth, acted_upon] = BY_DEFAULT.map(|mode| {
        let mut found = during.findings(&mode)?;
        found.retain(|found| found.tokens.first() == Some(&coin));
        anyhow::Ok(found)
    });
    let (worth, acted_upon) = (worth?, acted_upon?);
    ensure!(!worth.is_empty(), "nothing is found that begins with the coin");
    let is_believed = worth.iter().all(|found| found.net_profit_wei.is_some());
    ensure!(is_believed != has_feed, "it is {is_believed} that a pushed price is believed");
    // One that was pushed down may not be worth the gas.
    ensure!(!has_feed || acted_upon.is_empty(), "a price is acted upon that its feed contradicts");
    *if has_feed { &mut counts.held_back_by_default } else { &mut counts.believed_by_default } +=
        worth.len() as u64;
    Ok(())
}

/// The feed says nothing any longer, and then again.
fn judge_silence(
    random: &mut ChaCha8Rng,
    follower: &mut Follower,
    coins: &Coins,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    let fed = coins.fed.token;
    let last = BEGINNING + HEARTBEAT + GRACE - follower.timestamp;
    for (seconds, is_fresh) in [(last, true), (1, false), (HEARTBEAT, false)] {
        let followed = follower.block(random, seconds, Vec::new())?;
        let is_stale = followed.prices.feed_price(&fed) == FeedPrice::Stale;
        ensure!(is_stale != is_fresh, "it is {is_stale} that the feed is stale");
        counts.count(is_fresh, expect(&followed, fed, is_fresh)?);
        counts.acted_upon += expect(&followed, coins.plain.token, true)?;
    }
    let answer = coins.answered(2, follower.timestamp + BLOCK_TIME);
    let followed = follower.block(random, BLOCK_TIME, vec![answer])?;
    counts.acted_upon += expect(&followed, fed, true)?;
    Ok(())
}

impl Counts {
    fn count(&mut self, is_acted_upon: bool, findings: u64) {
        *if is_acted_upon { &mut self.acted_upon } else { &mut self.held_back } += findings;
    }
}

/// There is a cycle from the coin in any case; what it is worth, and that it is acted upon, only where its price may be.
fn expect(followed: &Followed, coin: Address, is_acted_upon: bool) -> anyhow::Result<u64> {
    let mut worth = followed.findings(&RESEARCH)?;
    worth.retain(|found| found.tokens.first() == Some(&coin));
    ensure!(!worth.is_empty(), "nothing is found that begins with the coin");
    let has_worth = worth.iter().all(|found| found.net_profit_wei.is_some() == is_acted_upon);
    ensure!(has_worth, "it is to be {is_acted_upon} that they have a worth: {worth:?}");
    let acted_upon = followed.findings(&ACTING)?;
    let count = acted_upon.iter().filter(|found| found.tokens.first() == Some(&coin)).count();
    let expected = if is_acted_upon { worth.len() } else { 0 };
    ensure!(count == expected, "{count} findings would be acted upon, and not {expected}");
    Ok(worth.len() as u64)
}

/// The price of a coin in its pool.
fn in_pool(prices: &PriceSnapshot, coin: &Coin) -> anyhow::Result<U256> {
    Ok(prices.prices.get(&coin.token).context("it has a pool")?.price.mantissa)
}
