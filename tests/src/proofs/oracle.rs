//! Prices by feeds and over time: changes of phase, silence, strangers, manipulated blocks, answers that are still pending, and
//! reorganisations over all of it, beside a judge that computes every price anew from the blocks that survive.

mod history;
mod live;
mod observations;
mod ranged;

use alloy_primitives::{Address, B256, I256, U256};
use anyhow::{Context, ensure};
use headwater_market::{FeedPrice, PendingAnswer, PriceSnapshot, ResolvedMarket};
use headwater_oracle::{Oracle, OracleConfig, PricedBlock};
use headwater_reference::feeds::{Judged, JudgedPrice, JudgedQuote, judge};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::history::{AVERAGE_PPM, ETHER, FEED_PPM, FEEDS, History, NATIVE, TOKENS, WINDOW};
use self::ranged::Attack;
use crate::proof::{Proof, ProofArgs, Report};
use crate::replayed::runtime;

/// Prices by feeds and over time.
pub const ORACLE: Proof = Proof {
    name: "oracle",
    about: "feeds through changes of phase, silence and reorganisations, averages under manipulation, pending answers: = a judge; sums of ticks = `observe`",
    full_duration: "2 min",
    run,
};

/// What happened in the histories, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    compared: u64,
    fresh: u64,
    stale: u64,
    averages: u64,
    held_back: u64,
    reorgs: u64,
    undone: u64,
    phases: u64,
    strangers: u64,
    resolved: u64,
    pending: u64,
    restored: u64,
    manipulated: u64,
    torn: u64,
    /// Prices of which the furthest other is explained by the silence of a feed, or is not.
    explained: u64,
    unexplained: u64,
    /// Prices of the token that only pools of V3 and V4 hold.
    ranged: u64,
    /// Attacks by a narrow range, and those that moved the price.
    attacks: u64,
    felt: u64,
}

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let (histories, steps, manipulations) = if args.quick { (6, 60, 20) } else { (120, 220, 1_000) };
    let mut counts = Counts::default();
    for index in 0..histories {
        let seed = args.seed ^ u64::wrapping_mul(index, 0x9e37_79b9_7f4a_7c15);
        follow(seed, steps, &mut counts).with_context(|| format!("history {index}"))?;
    }
    for index in 0..manipulations {
        let mut random = ChaCha8Rng::seed_from_u64(args.seed.wrapping_add(index));
        manipulate(&mut random, &mut counts).with_context(|| format!("manipulation {index}"))?;
    }
    for index in 0..manipulations {
        let mut random = ChaCha8Rng::seed_from_u64(args.seed.wrapping_sub(index));
        attack(&mut random, &mut counts).with_context(|| format!("narrow range {index}"))?;
    }
    let observed = observations::run(args.seed, args.quick)?;
    let lived = runtime(2)?.block_on(live::run())?;
    let Counts { compared, fresh, stale, averages, held_back, reorgs, undone, phases, .. } = counts;
    let Counts { strangers, resolved, pending, restored, manipulated, torn, .. } = counts;
    let Counts { explained, unexplained, ranged, attacks, felt, .. } = counts;
    let least = if args.quick { 1 } else { 100 };
    for (what, count) in [
        ("fresh prices of feeds", fresh),
        ("stale ones", stale),
        ("averages", averages),
        ("prices about which pools disagree", torn),
        ("prices that were held back", held_back),
        ("distances that the silence of a feed explains", explained),
        ("distances that it does not", unexplained),
        ("prices of pools of V3 and V4 alone", ranged),
        ("narrow ranges that were felt", felt),
        ("reorganisations", reorgs),
        ("changes of phase", phases),
        ("answers of strangers", strangers),
        ("pending answers", pending),
        ("restorations", restored),
    ] {
        ensure!(count >= least, "only {count} {what}");
    }
    let lines = vec![
        format!(
            "{histories} histories, {reorgs} reorganisations that undid {undone} blocks: {compared} prices by pool, feed and time \
             equal those of the judge; {fresh} of feeds were fresh and {stale} stale, {averages} were averages, {torn} were of pools \
             that lay far apart, and {held_back} were not to be acted upon"
        ),
        format!(
            "every source with its age and how far the others lie as the judge has it; the silence of a feed explained {explained} \
             distances whole, and {unexplained} it did not"
        ),
        format!(
            "{phases} changes of phase, {resolved} verdicts, some late and some about blocks that were undone; {strangers} answers \
             of strangers changed nothing; {restored} times the oracle went on from an image of itself"
        ),
        format!("{pending} pending answers were worth what they said when they landed"),
        format!(
            "{manipulations} blocks that moved a price a millionfold moved no average beyond its bound, in {manipulated} blocks"
        ),
        format!(
            "{ranged} prices were of pools of Uniswap V3 and V4 alone; {attacks} narrow ranges at a foreign price, each like a pair of more \
             than ninety times what it held, moved no price beyond what their own capital may; {felt} were felt"
        ),
        observed.line(),
        lived,
    ];
    let checked = compared + pending + manipulated + attacks + observed.compared;
    let (floor, observations) = if args.quick { (1_000, 500) } else { (50_000, 5_000) };
    ensure!(observed.compared >= observations, "only {} sums of ticks", observed.compared);
    Ok(Report { checked, floor, seed: args.seed, lines, ..Report::default() })
}

/// One history, compared behind each of its blocks.
fn follow(seed: u64, steps: usize, counts: &mut Counts) -> anyhow::Result<()> {
    let (market, config) = (history::market()?, history::config()?);
    let mut history = History::new(seed);
    let mut oracle = Oracle::new(&market, &config);
    for envelope in history.begin() {
        oracle.apply(&envelope)?;
    }
    let mut predicted: Vec<(Address, U256)> = Vec::new();
    for _ in 0..steps {
        for envelope in history.step(counts) {
            let priced = oracle.apply(&envelope)?;
            oracle.settle();
            let Some(PricedBlock { snapshot, .. }) = priced else { continue };
            compare(&history, &snapshot, counts)?;
            land(&history, &snapshot, &mut predicted, counts)?;
            if let Some(pending) = history.announce() {
                predicted = predict(&snapshot, &pending)?;
            }
            if history.random.random_bool(0.05) {
                oracle = again(&market, &config, &oracle)?;
                counts.restored += 1;
            }
        }
    }
    Ok(())
}

/// The oracle that is made of an image of itself.
fn again(market: &ResolvedMarket, config: &OracleConfig, oracle: &Oracle) -> anyhow::Result<Oracle> {
    let restored = Oracle::of_image(market, config, oracle.image())?;
    ensure!(restored.digest() == oracle.digest(), "its image is another oracle");
    Ok(restored)
}

/// Every price beside the judge's.
fn compare(history: &History, snapshot: &PriceSnapshot, counts: &mut Counts) -> anyhow::Result<()> {
    let blocks = history.blocks();
    for token in TOKENS {
        let judged = judge(&history.known, history.loaded(), &blocks, token);
        compare_token(snapshot, token, &judged, counts)
            .with_context(|| format!("token {token} at block {}", snapshot.as_of.number))?;
    }
    ensure!(snapshot.price(&NATIVE).is_some() && snapshot.quotes(&NATIVE).is_empty(), "the native token");
    Ok(())
}

fn compare_token(
    snapshot: &PriceSnapshot,
    token: Address,
    judged: &Judged,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    let pool = snapshot.prices.get(&token).map(|known| known.price.mantissa);
    ensure!(pool == judged.pool, "in its pool {:?}, and told to be {pool:?}", judged.pool);
    let feed = match snapshot.feed_price(&token) {
        FeedPrice::Unknown => JudgedPrice::Unknown,
        FeedPrice::Stale => JudgedPrice::Stale,
        FeedPrice::Fresh { price, age_s, .. } => JudgedPrice::Fresh(price.mantissa, age_s),
    };
    ensure!(feed == judged.feed, "by its feed {:?}, and told to be {feed:?}", judged.feed);
    let average = snapshot.average(&token).map(|average| (average.mantissa, average.covered_s));
    ensure!(average == judged.average, "over time {:?}, and told to be {average:?}", judged.average);
    let acted_upon = snapshot.price(&token).map(|price| price.mantissa);
    let expected = judged.to_act_upon(FEED_PPM, AVERAGE_PPM);
    ensure!(acted_upon == expected, "to be acted upon {expected:?}, and told to be {acted_upon:?}");
    let quotes: Vec<_> = snapshot
        .quotes(&token)
        .into_iter()
        .map(|quote| JudgedQuote {
            price: quote.price.mantissa,
            age_s: quote.age_s,
            deviation_ppm: quote.deviation_ppm,
            unexplained_ppm: quote.unexplained_ppm,
        })
        .collect();
    let expected = judged.quotes();
    ensure!(quotes == expected, "the sources are {expected:?}, and told to be {quotes:?}");
    counts.unexplained += u64::from(quotes.iter().any(|quote| quote.unexplained_ppm > Some(0)));
    counts.explained += u64::from(
        quotes.iter().any(|quote| quote.unexplained_ppm == Some(0) && quote.deviation_ppm > Some(0)),
    );
    counts.compared += 1;
    counts.ranged += u64::from(token == TOKENS[3] && pool.is_some());
    counts.fresh += u64::from(matches!(feed, JudgedPrice::Fresh(..)));
    counts.stale += u64::from(feed == JudgedPrice::Stale);
    counts.averages += u64::from(average.is_some());
    counts.torn += u64::from(judged.is_torn);
    counts.held_back += u64::from(pool.is_some() && acted_upon.is_none());
    Ok(())
}

/// The prices that a pending answer is said to give.
fn predict(snapshot: &PriceSnapshot, pending: &PendingAnswer) -> anyhow::Result<Vec<(Address, U256)>> {
    let stranger = PendingAnswer { aggregator: Address::repeat_byte(0x66), ..*pending };
    ensure!(snapshot.pending(&stranger).is_err(), "a stranger's transmission is believed");
    let nothing = PendingAnswer { median: I256::ZERO, ..*pending };
    ensure!(snapshot.pending(&nothing).is_err(), "an answer of zero is believed");
    let Ok(told) = snapshot.pending(pending) else { return Ok(Vec::new()) };
    ensure!(told.iter().all(|price| price.transaction == pending.transaction), "of another transaction");
    Ok(told.iter().filter_map(|price| Some((price.token, price.after?.mantissa))).collect())
}

/// In the block after, the answer alone has landed.
fn land(
    history: &History,
    snapshot: &PriceSnapshot,
    predicted: &mut Vec<(Address, U256)>,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    let predicted = std::mem::take(predicted);
    if !history.has_landed {
        return Ok(());
    }
    for (token, mantissa) in predicted {
        // Another feed may have become stale in the meantime.
        if let FeedPrice::Fresh { price, .. } = snapshot.feed_price(&token) {
            ensure!(
                price.mantissa == mantissa,
                "{token} was to be worth {mantissa}, and is {}",
                price.mantissa
            );
            counts.pending += 1;
        }
    }
    Ok(())
}

/// A price that moves by a tenth at most, but for one block in which it is anything; the average keeps to its bound.
fn manipulate(random: &mut ChaCha8Rng, counts: &mut Counts) -> anyhow::Result<()> {
    let (market, config) = (history::market()?, history::config()?);
    let mut history = History::new(random.random());
    let mut oracle = Oracle::new(&market, &config);
    for envelope in history.begin() {
        oracle.apply(&envelope)?;
    }
    let (blocks, at) = (40, random.random_range(0..40));
    let is_up: bool = random.random();
    let (mut honest, mut manipulated_for) = (Vec::new(), 0);
    for index in 0..blocks {
        let seconds = random.random_range(5..15);
        let jitter = random.random_range(900u128..=1_000);
        let envelope = match (index == at, is_up) {
            (false, _) => history.one_price(seconds, jitter, 1),
            (true, true) => history.one_price(seconds, 1_000_000_000, 1),
            (true, false) => history.one_price(seconds, 1_000, 1_000_000),
        };
        let snapshot = oracle.apply(&envelope)?.context("a block has a snapshot")?.snapshot;
        let price = snapshot.prices.get(&TOKENS[0]).context("it has a pool")?.price.mantissa;
        if index == at {
            let far = U256::from(100_000);
            let is_far = |other: &U256| if is_up { price > *other * far } else { price * far < *other };
            ensure!(honest.iter().all(is_far), "it was not moved");
        } else {
            honest.push(price);
        }
        if index == at + 1 {
            manipulated_for = seconds;
        }
        let Some(average) = snapshot.average(&TOKENS[0]) else { continue };
        if honest.is_empty() {
            continue;
        }
        let (low, high) = (honest.iter().min().context("one")?, honest.iter().max().context("one")?);
        let (c, d) = (U256::from(average.covered_s), U256::from(manipulated_for));
        if d * U256::from(2) >= c {
            continue;
        }
        let two_c = c * U256::from(2);
        let (least, most) = (*low * (two_c - d) / two_c, (*high * (c + d)).div_ceil(c));
        ensure!(
            average.mantissa + U256::from(1) >= least && average.mantissa <= most,
            "{} is not between {least} and {most}, {d} of {c} seconds",
            average.mantissa
        );
        ensure!(average.covered_s <= WINDOW, "it covers more than its window");
        counts.manipulated += 1;
    }
    Ok(())
}

/// Somebody creates a pool with one narrow range at a price far off, which looks like a pair that is far deeper than all others. It
/// weighs three times at most what it holds of the native token, and so moves the price by its share of that at most.
fn attack(random: &mut ChaCha8Rng, counts: &mut Counts) -> anyhow::Result<()> {
    let (market, config) = (history::market()?, history::config()?);
    let mut history = History::new(random.random());
    let mut oracle = Oracle::new(&market, &config);
    for envelope in history.begin() {
        oracle.apply(&envelope)?;
    }
    let price_of =
        |snapshot: &PriceSnapshot| snapshot.prices.get(&TOKENS[0]).map(|known| known.price.mantissa);
    let per_mille = random.random_range(900u128..=1_100);
    let snapshot = oracle.apply(&history.one_price(12, per_mille, 1))?.context("a block")?.snapshot;
    let honest = price_of(&snapshot).context("it has a pool")?;
    let sign = if random.random() { 1 } else { -1 };
    let held = random.random_range(ETHER / 3..3 * ETHER);
    let attack = Attack::new(sign * random.random_range(100..150_000), 1, held);
    let pair = U256::from(10 * ETHER / 1_000 * per_mille);
    // A range of two percent is like fifty pairs.
    ensure!(attack.looks_like() > U256::from(held) * U256::from(90), "it looks like little");
    let snapshot = oracle.apply(&history.attack(12, per_mille, &attack))?.context("a block")?.snapshot;
    let moved = price_of(&snapshot).context("it has a pool still")?;
    let (weight, all) = (U256::from(3 * held), pair + U256::from(3 * held));
    let (most, least) = (honest + honest * weight / all, honest - honest * weight / all / U256::from(2));
    let one = U256::from(1);
    ensure!(
        least <= moved + one && moved <= most + one,
        "{moved} is not between {least} and {most}: {held} held, the price was {honest}"
    );
    counts.attacks += 1;
    counts.felt += u64::from(moved != honest);
    Ok(())
}

/// A hash of nothing in particular.
fn hash_of(number: u64) -> B256 {
    alloy_primitives::keccak256(number.to_be_bytes())
}

/// How many feeds there are is known to the judge as well.
const _: () = assert!(FEEDS == 3);
