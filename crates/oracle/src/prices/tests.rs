use std::collections::BTreeMap;

use alloy_primitives::B256;
use headwater_events::{FeedResolved, FeedRound, FeedVerdict};
use headwater_market::{BookError, FeedQuote};
use proptest::prelude::*;

use super::*;
use crate::samples::*;

fn oracle() -> Oracle {
    Oracle::new(&market(), &OracleConfig::default())
}

/// Applies events one after another; what the last block gave.
fn run(oracle: &mut Oracle, events: impl IntoIterator<Item = BusEvent>) -> Option<PricedBlock> {
    let mut last = None;
    for (seq, event) in (1..).zip(events) {
        last = oracle.apply(&envelope(seq, event)).expect("the events follow from each other").or(last);
    }
    last
}

fn mantissa(base: u128, other: u128) -> U256 {
    U256::from(base) * U256::from(10).pow(U256::from(36)) / U256::from(other)
}

/// `events` at the first block leave the token `1` with a price of this mantissa from that pool.
#[track_caller]
fn check(learnt: Vec<BusEvent>, logs: Vec<Log>, expected: Option<(U256, Address)>) {
    let events = [market_loaded()].into_iter().chain(learnt).chain([plain_block(1, logs)]);
    let priced = run(&mut oracle(), events).expect("there is a block");
    let found = priced.snapshot.prices.get(&token(1)).copied();
    let expected = expected.map(|(mantissa, source)| TokenPrice {
        price: Price { quote: QUOTE, mantissa },
        source,
        changed_at: 1,
        changed_at_s: 0,
    });
    assert_eq!(found, expected);
    assert_eq!(priced.changed.len(), usize::from(expected.is_some()));
}

fn pool_of(number: u8, base: u128, other: u128) -> BusEvent {
    loaded(pool(number), 1, Some((base, other)), (0, hash(0)))
}

#[test]
fn a_price_is_what_one_smallest_unit_is_worth_in_wei() {
    // 3,000 of a token with 6 decimals for one ether: a millionth is worth 333,333,333.33… wei.
    let third = U256::from(333_333_333_333_333_333_333_333_333u128) * U256::from(10).pow(U256::from(18))
        + U256::from(333_333_333_333_333_333u128);
    assert_eq!(mantissa(ETHER, 3_000_000_000), third);
    check(vec![pool_of(1, ETHER, 3_000_000_000)], vec![], Some((third, pool(1))));
}

#[test]
fn either_side_of_a_pool_may_be_the_quote() {
    let even = loaded(pool(2), 2, Some((2 * ETHER, 5)), (0, hash(0)));
    let odd = loaded(pool(3), 3, Some((2 * ETHER, 5)), (0, hash(0)));
    let priced = run(&mut oracle(), [market_loaded(), even, odd, plain_block(1, vec![])]).expect("a block");
    for number in [2, 3] {
        let price = priced.snapshot.price(&token(number)).expect("it has a pool");
        assert_eq!(price.mantissa, mantissa(2 * ETHER, 5));
    }
    assert_eq!(priced.snapshot.price(&QUOTE), Some(Price::unit(QUOTE)));
}

#[test]
fn no_price_can_change_without_changing_the_digest() {
    let mut oracle = oracle();
    let events = [
        market_loaded(),
        pool_of(1, ETHER, 7),
        pool_of(2, ETHER, 9),
        plain_block(1, vec![]),
        plain_block(2, vec![]),
    ];
    run(&mut oracle, events);
    let place = oracle.prices.place(token(1));
    let price = *oracle.prices.at(place).expect("it has pools");
    let with = |change: &dyn Fn(&mut TokenPrice)| {
        let mut other = price;
        change(&mut other);
        Some(other)
    };
    let changes = [
        None,
        with(&|price| price.price.mantissa += U256::from(1)),
        with(&|price| price.price.quote = token(2)),
        with(&|price| price.source = pool(9)),
        with(&|price| price.changed_at += 1),
    ];
    let whole = oracle.digest();
    for changed in changes {
        for table in 0..3 {
            let mut other = oracle.clone();
            match table {
                0 => other.prices.set(place, changed),
                1 => other.history[0].set(place, changed),
                _ => other.history[1].set(place, changed),
            }
            assert_ne!(other.digest(), whole, "{changed:?} in table {table}");
        }
    }
    let mut other = oracle.clone();
    other.base = other.prices.clone();
    assert_ne!(other.digest(), whole, "the prices below the oldest undo record");
}

#[test]
fn pools_count_by_what_they_hold_of_the_quote() {
    // Prices 1 and 2, weights 3 and 1: 5/4.
    let pools = vec![pool_of(1, 3 * ETHER, 3 * ETHER), pool_of(2, ETHER, ETHER / 2)];
    let mean = mantissa(5, 4);
    check(pools.clone(), vec![], Some((mean, pool(1))));
    check(pools.into_iter().rev().collect(), vec![], Some((mean, pool(1))));
    let tie = vec![pool_of(2, ETHER, ETHER), pool_of(1, ETHER, ETHER)];
    check(tie, vec![], Some((mantissa(1, 1), pool(1))));
}

#[test]
fn a_pool_at_an_absurd_price_counts_for_no_more_than_its_share() {
    // 999 ether at 5 · 10^8 wei for a unit, and one ether at 10^18: a thousandth more, and not two millionfold.
    let (deep, usual) = (pool_of(1, 999 * ETHER, 999 * 2_000_000_000), mantissa(500_000_000, 1));
    check(
        vec![deep.clone(), pool_of(2, ETHER, 1)],
        vec![],
        Some((usual + usual / U256::from(1_000), pool(1))),
    );
    // One ether at next to nothing: half a thousandth less.
    let worthless = pool_of(2, ETHER, (1 << 112) - 1);
    check(vec![worthless, deep], vec![], Some((usual - usual / U256::from(2_000), pool(1))));
}

#[test]
fn thin_pools_are_refused() {
    check(vec![pool_of(1, ETHER - 1, 7)], vec![], None);
    check(vec![pool_of(1, ETHER - 1, 7), pool_of(2, ETHER, 5)], vec![], Some((mantissa(ETHER, 5), pool(2))));
    check(vec![pool_of(1, ETHER, 0)], vec![], None);
}

#[test]
fn the_extremes_of_reserves_neither_overflow_nor_vanish() {
    let max = (1 << 112) - 1;
    check(vec![pool_of(1, max, 1)], vec![], Some((mantissa(max, 1), pool(1))));
    check(vec![pool_of(1, ETHER, max)], vec![], Some((mantissa(ETHER, max), pool(1))));
    let deepest = vec![pool_of(1, max, 1), pool_of(2, max, 1), pool_of(3, max, 1)];
    check(deepest, vec![], Some((mantissa(max, 1), pool(1))));
}

#[test]
fn a_created_pool_is_priced_from_its_first_sync_on_if_its_tokens_are_judged() {
    let judged = || vec![quote_accepted(), judged(1, false)];
    let created = || pair_created(FACTORY, pool(1), token(1), QUOTE);
    let sync = || sync(pool(1), 1, ETHER, 5);
    let price = Some((mantissa(ETHER, 5), pool(1)));
    check(judged(), vec![created(), sync()], price);
    check(judged(), vec![created()], None);
    check(judged()[..1].to_vec(), vec![created(), sync()], None);
}

#[test]
fn a_sync_before_the_proof_is_not_forgotten() {
    let mut oracle = oracle();
    run(&mut oracle, [market_loaded(), plain_block(1, vec![sync(pool(1), 1, ETHER, 5)])]);
    let learnt = loaded(pool(1), 1, None, (1, hash(1)));
    let priced = run(&mut oracle, [learnt, plain_block(2, vec![])]).expect("a block");
    let known = priced.snapshot.prices.get(&token(1)).expect("proven now");
    assert_eq!((known.price.mantissa, known.changed_at, known.age(5)), (mantissa(ETHER, 5), 2, 3));
}

#[test]
fn what_is_not_proven_changes_nothing() {
    let foreign = Address::repeat_byte(0xbb);
    check(vec![], vec![sync(pool(1), 1, ETHER, 5)], None);
    check(vec![], vec![pair_created(foreign, pool(1), token(1), QUOTE), sync(pool(1), 1, ETHER, 5)], None);
    check(
        vec![pool_of(1, ETHER, 5)],
        vec![pair_created(foreign, pool(1), token(1), token(2)), sync(pool(1), 1, ETHER, 6)],
        Some((mantissa(ETHER, 6), pool(1))),
    );
}

#[test]
fn pools_without_the_quote_are_not_even_candidates() {
    let mut oracle = oracle();
    let created = pair_created(FACTORY, pool(1), token(1), token(3));
    run(&mut oracle, [market_loaded(), plain_block(1, vec![created, sync(pool(1), 1, ETHER, 5)])]);
    assert_eq!((oracle.counts().pools, oracle.book.candidates()), (0, 0));
}

/// What a feed of the token `1` in the native token reads as of a block: so many wei for a smallest unit.
fn feed_resolved(number: u64, wei: u64) -> BusEvent {
    let round = FeedRound {
        aggregator: Address::repeat_byte(0xfe),
        phase: 1,
        decimals: 18,
        token_decimals: 0,
        round: number,
        answer: Some(U256::from(wei)),
        updated_at: 0,
    };
    let verdict = FeedVerdict::Accepted(round);
    BusEvent::FeedResolved(FeedResolved { proxy: PROXY, number, hash: hash(number), verdict })
}

const PROXY: Address = Address::repeat_byte(0xfd);

#[test]
fn after_a_loss_no_price_goes_unguarded_until_its_feed_was_learnt_anew() {
    let mut market = market();
    market.feeds.push(Feed {
        name: String::new(),
        proxy: PROXY,
        token: token(1),
        quote: FeedQuote::Native,
        heartbeat_s: 3_600,
        deviation_ppm: 1,
    });
    let mut oracle = Oracle::new(&market, &OracleConfig::default());
    let price = |priced: Option<PricedBlock>| {
        priced.expect("a block").snapshot.price(&token(1)).map(|price| price.mantissa)
    };
    // The feed bears out 20 wei for a unit, and not 40.
    let start =
        [market_loaded(), pool_of(1, 20 * ETHER, ETHER), feed_resolved(0, 20), plain_block(1, vec![])];
    assert_eq!(price(run(&mut oracle, start)), Some(mantissa(20, 1)));
    oracle.leave_out(&envelope(5, plain_block(2, vec![])));
    assert!(run(&mut oracle, [plain_block(3, vec![])]).is_none(), "what pools hold is lost");
    let told = |number: u64, base: u128| {
        let reserves = vec![(pool(1), Some(in_order(1, base * ETHER, ETHER)))];
        BusEvent::MarketResynced(MarketResynced { number, hash: hash(number), reserves })
    };
    let back = run(&mut oracle, [told(3, 40), plain_block(4, vec![])]);
    assert_eq!(price(back), None, "it moved by as much as it likes, and nobody bears it out");
    assert_eq!(oracle.feed_request().map(|request| request.proxies), Some(vec![PROXY]));
    assert_eq!(price(run(&mut oracle, [feed_resolved(4, 20), plain_block(5, vec![])])), None);
    let learnt = [feed_resolved(5, 40), plain_block(6, vec![])];
    assert_eq!(price(run(&mut oracle, learnt)), Some(mantissa(40, 1)));
}

#[test]
fn a_refused_token_has_no_price_until_it_is_accepted() {
    let mut oracle = oracle();
    let price = |priced: Option<PricedBlock>| priced.and_then(|priced| priced.snapshot.price(&token(1)));
    let start = [market_loaded(), pool_of(1, ETHER, 5), plain_block(1, vec![])];
    assert!(price(run(&mut oracle, start)).is_some());
    assert!(price(run(&mut oracle, [judged(1, true), plain_block(2, vec![])])).is_none());
    assert!(price(run(&mut oracle, [judged(1, false), plain_block(3, vec![])])).is_some());
}

#[test]
fn a_price_is_withdrawn_when_its_pool_runs_dry() {
    let mut oracle = oracle();
    run(&mut oracle, [market_loaded(), pool_of(1, ETHER, 5), plain_block(1, vec![])]);
    let dry = run(&mut oracle, [plain_block(2, vec![sync(pool(1), 1, ETHER / 2, 10)])]).expect("a block");
    assert_eq!((dry.snapshot.price(&token(1)), dry.changed.len()), (None, 0));
}

#[test]
fn every_block_has_its_snapshot_and_only_changes_are_told() {
    let mut oracle = oracle();
    run(&mut oracle, [market_loaded(), pool_of(1, ETHER, 5), plain_block(1, vec![])]);
    let still = run(&mut oracle, [plain_block(2, vec![])]).expect("a block");
    assert_eq!((still.snapshot.as_of.number, still.changed.len()), (2, 0));
    // Twice as much of both: deeper, at the same price.
    let deeper = run(&mut oracle, [plain_block(3, vec![sync(pool(1), 1, 2 * ETHER, 10)])]).expect("a block");
    assert_eq!(deeper.changed.len(), 0);
    assert_eq!(deeper.snapshot.prices.get(&token(1)).expect("it has a price").changed_at, 1);
    let moved = run(&mut oracle, [plain_block(4, vec![sync(pool(1), 1, 2 * ETHER, 11)])]).expect("a block");
    let [event] = &moved.changed[..] else { panic!("one price changed: {:?}", moved.changed) };
    assert_eq!((event.token, event.as_of.number), (token(1), 4));
    assert_eq!(Some(event.price), moved.snapshot.price(&token(1)));
    assert_eq!(moved.snapshot.prices.get(&token(1)).expect("it has a price").changed_at, 4);
}

#[test]
fn a_block_costs_what_it_touched() {
    let mut oracle = oracle();
    let pools = (0..200).map(|number| loaded(pool(number), number, Some((ETHER, 5)), (0, hash(0))));
    run(&mut oracle, [market_loaded()].into_iter().chain(pools).chain([plain_block(1, vec![])]));
    assert_eq!((oracle.counts().computed, oracle.counts().prices), (200, 200));
    run(&mut oracle, [plain_block(2, vec![])]);
    assert_eq!(oracle.counts().computed, 200);
    let logs = [7, 9, 7].map(|number| sync(pool(number), number, ETHER, 6)).to_vec();
    let priced = run(&mut oracle, [plain_block(3, logs)]).expect("a block");
    assert_eq!((oracle.counts().computed, priced.changed.len()), (202, 2));
    let tokens: Vec<_> = priced.changed.iter().map(|event| event.token).collect();
    assert!(tokens.is_sorted(), "{tokens:?}");
}

#[test]
fn malformed_logs_are_counted_and_change_nothing() {
    let mut oracle = oracle();
    let mut cut = sync(pool(1), 1, ETHER, 6);
    cut.data.truncate(63);
    run(&mut oracle, [market_loaded(), pool_of(1, ETHER, 5), plain_block(1, vec![cut])]);
    assert_eq!(oracle.counts().malformed, 1);
    assert_eq!(oracle.prices.get(&token(1)).expect("it has a price").price.mantissa, mantissa(ETHER, 5));
}

#[test]
fn what_does_not_follow_is_an_error() {
    let mut oracle = oracle();
    run(&mut oracle, [market_loaded(), plain_block(1, vec![])]);
    let skipped = oracle.apply(&envelope(9, plain_block(3, vec![]))).expect_err("block 2 is missing");
    assert!(matches!(skipped, OracleError::Book(BookError::Discontinuous { number: 3, .. })));
}

#[test]
fn reorganisations_reach_to_the_horizon_and_not_beyond() {
    let blocks = |reserve: u128| {
        (1..=70u64).map(move |number| {
            plain_block(number, vec![sync(pool(1), 1, ETHER, reserve + u128::from(number))])
        })
    };
    for (ancestor, reached) in [(6, true), (5, false)] {
        let mut oracle = oracle();
        run(&mut oracle, [market_loaded(), pool_of(1, ETHER, 5)].into_iter().chain(blocks(100)));
        let undone = (ancestor + 1..=70).rev().map(hash).collect();
        let rolled_back = oracle.apply(&envelope(99, reorg((ancestor, hash(ancestor)), undone)));
        assert!(rolled_back.is_ok());
        assert_eq!(oracle.counts().lost, !reached, "to block {ancestor}");
        if reached {
            assert_eq!(
                oracle.prices.get(&token(1)).expect("it has a price").price.mantissa,
                mantissa(ETHER, 106)
            );
            assert_eq!(oracle.prices.get(&token(1)).expect("it has a price").changed_at, 6);
        }
    }
}

/// What happens to a random chain.
#[derive(Clone, Debug)]
enum Step {
    /// A block with the `Sync` of some pools: pool, base in tenths of an ether, other.
    Block(Vec<(u8, u8, u8)>),
    /// A block in which a pool is created.
    Creation(u8),
    /// So many blocks are undone.
    Reorg(usize),
    /// A pool is learnt, with or without its reserves as of a block so deep below the head.
    Learn(u8, Option<usize>),
    /// A token is judged.
    Judge(u8, bool),
}

const POOLS: u8 = 6;

/// Two pools per token.
fn token_of(pool: u8) -> u8 {
    pool % 3
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pool = 0..POOLS;
    let step = prop_oneof![
        6 => prop::collection::vec((pool.clone(), 1..40u8, 1..9u8), 0..4).prop_map(Step::Block),
        1 => pool.clone().prop_map(Step::Creation),
        2 => (1..6usize).prop_map(Step::Reorg),
        2 => (pool, prop::option::of(0..4usize)).prop_map(|(pool, depth)| Step::Learn(pool, depth)),
        1 => (0..3u8, any::<bool>()).prop_map(|(token, refused)| Step::Judge(token, refused)),
    ];
    prop::collection::vec(step, 1..60)
}

type Held = [Option<(u128, u128)>; POOLS as usize];

/// Tells a chain's story twice: as it happened, and as if only what survives had happened.
struct Story {
    happened: Vec<BusEvent>,
    /// With the place of their block in `chain`, so that undone ones can be taken out.
    survived: Vec<(Option<B256>, BusEvent)>,
    /// The canonical chain: hash, and what each pool holds after it.
    chain: Vec<(B256, Held)>,
    blocks: u64,
}

impl Story {
    fn tell(steps: &[Step]) -> Self {
        let mut story = Self {
            happened: vec![market_loaded(), quote_accepted()],
            survived: vec![(None, market_loaded()), (None, quote_accepted())],
            chain: vec![(hash(0), [None; POOLS as usize])],
            blocks: 0,
        };
        steps.iter().for_each(|step| story.step(step));
        story.block(vec![], |_| {});
        story
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Block(syncs) => {
                let amounts = |base: u8, other: u8| (u128::from(base) * ETHER / 10, u128::from(other));
                let logs = syncs.iter().map(|(number, base, other)| {
                    let (base, other) = amounts(*base, *other);
                    sync(pool(*number), token_of(*number), base, other)
                });
                self.block(logs.collect(), |held| {
                    syncs.iter().for_each(|(number, base, other)| {
                        held[usize::from(*number)] = Some(amounts(*base, *other));
                    });
                });
            }
            Step::Creation(number) => {
                let log = pair_created(FACTORY, pool(*number), token(token_of(*number)), QUOTE);
                self.block(vec![log], |_| {});
            }
            Step::Reorg(depth) => self.reorg((*depth).min(self.chain.len() - 1)),
            Step::Learn(number, depth) => {
                let at = self.chain.len() - 1 - depth.unwrap_or(0).min(self.chain.len() - 1);
                let (hash, held) = self.chain[at];
                let held = depth.and(held[usize::from(*number)]);
                self.learn(loaded(pool(*number), token_of(*number), held, (at as u64, hash)));
            }
            Step::Judge(token, refused) => self.learn(judged(*token, *refused)),
        }
    }

    fn block(&mut self, logs: Vec<Log>, change: impl FnOnce(&mut Held)) {
        self.blocks += 1;
        let (parent, mut held) = self.chain[self.chain.len() - 1];
        let own = hash(self.blocks);
        let event = block(self.chain.len() as u64, own, parent, logs);
        change(&mut held);
        self.chain.push((own, held));
        self.happened.push(event.clone());
        self.survived.push((Some(own), event));
    }

    fn reorg(&mut self, depth: usize) {
        let undone: Vec<_> =
            self.chain.split_off(self.chain.len() - depth).into_iter().rev().map(|(hash, _)| hash).collect();
        self.survived.retain(|(block, _)| block.is_none_or(|hash| !undone.contains(&hash)));
        let ancestor = (self.chain.len() as u64 - 1, self.chain[self.chain.len() - 1].0);
        self.happened.push(reorg(ancestor, undone));
    }

    fn learn(&mut self, event: BusEvent) {
        self.happened.push(event.clone());
        self.survived.push((None, event));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_reorganised_chain_has_the_prices_of_what_survived(steps in steps()) {
        let story = Story::tell(&steps);
        let prices = |events: Vec<BusEvent>| -> BTreeMap<Address, TokenPrice> {
            let priced = run(&mut oracle(), events).expect("it ends with a block");
            priced.snapshot.prices.iter().map(|(token, price)| (*token, *price)).collect()
        };
        let survived = story.survived.into_iter().map(|(_, event)| event).collect();
        prop_assert_eq!(prices(story.happened), prices(survived));
    }

    #[test]
    fn an_oracle_of_a_saved_image_goes_on_as_the_oracle_does(steps in steps(), every in 1usize..9) {
        let (mut whole, mut restored) = (oracle(), oracle());
        for (index, event) in Story::tell(&steps).happened.into_iter().enumerate() {
            let event = envelope(index as u64 + 1, event);
            let told = |oracle: &mut Oracle| oracle.apply(&event).expect("it follows").map(|block| block.changed);
            prop_assert_eq!(told(&mut restored), told(&mut whole));
            let is_block = matches!(event.event, BusEvent::NewBlock(_));
            if is_block && index % every == 0 {
                let saved = serde_json::to_string(&restored.image()).expect("an image is JSON");
                let saved = serde_json::from_str(&saved).expect("as it was written");
                restored = Oracle::of_image(&market(), &OracleConfig::default(), saved).expect("of an oracle");
                // Earlier prices and undo records included.
                prop_assert_eq!(json(&restored), json(&whole));
            }
        }
    }

    /// Whatever strangers say in pools with less than half of the liquidity.
    #[test]
    fn no_pool_moves_a_price_by_more_than_its_share_of_the_liquidity(
        lowest in 1u128..1 << 100,
        honest in prop::collection::vec((0u128..=1_000_000, 1u128..1 << 90), 1..5),
        foreign in prop::collection::vec((0usize..232, 1u128..1 << 90), 0..5),
    ) {
        let priced = |mantissa: U256, base: u128, number: usize| {
            PoolPrice { mantissa, base, pool: pool(number as u8) }
        };
        let at = |ppm: u128| U256::from(lowest) + U256::from(lowest) * U256::from(ppm) / U256::from(1_000_000);
        let mut pools: Vec<_> =
            honest.iter().enumerate().map(|(number, (ppm, base))| priced(at(*ppm), *base, number)).collect();
        let low = pools.iter().map(|pool| pool.mantissa).min().expect("one is honest");
        let high = pools.iter().map(|pool| pool.mantissa).max().expect("one is honest");
        let theirs: U512 = honest.iter().map(|(_, base)| U512::from(*base)).sum();
        let mut share = U512::ZERO;
        for (number, (bits, base)) in foreign.into_iter().enumerate() {
            if share + U512::from(base) < theirs {
                share += U512::from(base);
                pools.push(priced(U256::ONE << bits, base, 5 + number));
            }
        }
        let (mean, _) = combined(pools).expect("there are pools");
        let (mean, all, two) = (U512::from(mean), theirs + share, U512::from(2));
        let (low, high) = (U512::from(low), U512::from(high));
        prop_assert!(mean * all <= high * all + high * share, "{mean} is above {high} by more than {share} of {all}");
        // The median's half and the mean are rounded down.
        prop_assert!((mean + two) * all * two >= low * all * two - low * share, "{mean} is below {low} by more");
    }

    #[test]
    fn every_price_is_what_a_search_of_the_whole_table_gives(steps in steps()) {
        let mut oracle = oracle();
        let priced = run(&mut oracle, Story::tell(&steps).happened).expect("it ends with a block");
        for number in 0..3 {
            let mut deep = Vec::new();
            for (id, meta, _) in oracle.book.table().iter() {
                let Some(held) = oracle.book.table().quoted(id) else { continue };
                let (base, other) = match meta.token0 == QUOTE {
                    true => (held.reserve0, held.reserve1),
                    false => (held.reserve1, held.reserve0),
                };
                let is_ours = meta.token0 == token(number) || meta.token1 == token(number);
                if is_ours && base >= ETHER {
                    deep.push((mantissa(base, other), base));
                }
            }
            let all: u128 = deep.iter().map(|(_, base)| base).sum();
            let up_to = |price: U256| deep.iter().filter(|(other, _)| *other <= price).map(|(_, base)| base).sum::<u128>();
            let middle = deep.iter().map(|(price, _)| *price).filter(|price| 2 * up_to(*price) >= all).min();
            let expected = middle.map(|middle| {
                let counted = |price: U256| price.max(middle / U256::from(2)).min(middle * U256::from(2));
                let weighted: U512 =
                    deep.iter().map(|(price, base)| U512::from(counted(*price)) * U512::from(*base)).sum();
                (weighted / U512::from(all)).to::<U256>()
            });
            prop_assert_eq!(priced.snapshot.price(&token(number)).map(|price| price.mantissa), expected);
        }
    }
}

/// An image of an oracle. Places without a price at the end of a table may be there or not.
fn json(oracle: &Oracle) -> serde_json::Value {
    let mut image = serde_json::to_value(oracle.image()).expect("an image is JSON");
    let prices = image["prices"]["prices"].as_array_mut().expect("a column");
    while prices.pop_if(|price| price.is_null()).is_some() {}
    image
}

#[test]
fn an_image_that_was_taken_with_another_minimum_is_refused() {
    let image = oracle().image();
    let config = OracleConfig { min_base_reserve_wei: U256::ONE, ..OracleConfig::default() };
    let refused = Oracle::of_image(&market(), &config, image.clone()).err();
    assert_eq!(refused, Some(ImageError::OtherReserve));
    assert!(Oracle::of_image(&market(), &OracleConfig::default(), image).is_ok());
}
