use alloy_primitives::{B256, Bytes, I256};
use headwater_abi::logs::{AGGREGATOR_CONFIRMED, ANSWER_UPDATED};
use headwater_events::{Grade, Header, Log};
use headwater_market::FeedQuote;
use proptest::prelude::*;

use super::*;

const PROXY: Address = Address::repeat_byte(0x11);
const OTHER_PROXY: Address = Address::repeat_byte(0x12);
const OLD: Address = Address::repeat_byte(0x21);
const NEW: Address = Address::repeat_byte(0x22);
const STRANGER: Address = Address::repeat_byte(0x66);

fn feed(proxy: Address) -> Feed {
    let token = Address::repeat_byte(proxy[0] + 0x70);
    let (quote, heartbeat_s) = (FeedQuote::Native, 3_600);
    Feed { name: String::new(), proxy, token, quote, heartbeat_s, deviation_ppm: 5_000 }
}

fn book() -> FeedBook {
    let mut book = FeedBook::new(&[feed(PROXY), feed(OTHER_PROXY)]);
    book.begin(0, hash(0, 0));
    book
}

/// The hash of the block at a height on a branch.
fn hash(number: u64, branch: u64) -> B256 {
    U256::from(number * 1_000 + branch + 1).into()
}

/// Blocks come every 12 seconds.
fn block(number: u64, branch: u64, logs: Vec<Log>) -> BlockEvent {
    let header = Header {
        number,
        hash: hash(number, branch),
        parent_hash: B256::ZERO,
        timestamp: 12 * number,
        base_fee_per_gas: None,
        gas_used: 0,
        gas_limit: 0,
        beneficiary: Address::ZERO,
        logs_bloom: Default::default(),
    };
    BlockEvent { header, transactions: vec![], logs, grade: Grade::Matched }
}

fn log(address: Address, topics: [B256; 3], data: Bytes) -> Log {
    Log { address, topics: topics.into_iter().collect(), data, transaction_index: 0, log_index: 0 }
}

fn answered(emitter: Address, round: u64, answer: i64, updated_at: u64) -> Log {
    let answer = B256::from(I256::try_from(answer).expect("small").to_be_bytes::<32>());
    let data = B256::from(U256::from(updated_at)).0.into();
    log(emitter, [ANSWER_UPDATED, answer, U256::from(round).into()], data)
}

fn confirmed(emitter: Address, latest: Address) -> Log {
    log(emitter, [AGGREGATOR_CONFIRMED, OLD.into_word(), latest.into_word()], Bytes::new())
}

fn resolved(number: u64, branch: u64, aggregator: Address, round: u64, answer: u64) -> FeedResolved {
    let verdict = FeedVerdict::Accepted(FeedRound {
        aggregator,
        phase: if aggregator == NEW { 2 } else { 1 },
        decimals: 8,
        token_decimals: 18,
        round,
        answer: (answer > 0).then(|| U256::from(answer)),
        updated_at: 12 * number,
    });
    FeedResolved { proxy: PROXY, number, hash: hash(number, branch), verdict }
}

/// What the first feed says.
fn said(book: &FeedBook) -> Option<(Address, u64, u64)> {
    let readings = book.readings();
    let round = readings[0].round()?;
    Some((round.aggregator, round.round, round.answer.map_or(0, |answer| answer.to())))
}

#[test]
fn answers_of_the_aggregator_go_on_from_what_was_learnt_and_those_of_anybody_else_change_nothing() {
    let mut book = book();
    book.apply(&block(1, 0, vec![answered(OLD, 9, 90, 12)]));
    assert_eq!(said(&book), None, "nobody has said yet who speaks for the feed");
    book.resolved(&resolved(1, 0, OLD, 9, 90));
    let stranger = || answered(STRANGER, 99, 1, 24);
    book.apply(&block(2, 0, vec![stranger(), answered(OLD, 10, 100, 24), stranger()]));
    assert_eq!(said(&book), Some((OLD, 10, 100)));
    book.apply(&block(3, 0, vec![stranger(), answered(PROXY, 11, 5, 36), answered(NEW, 12, 6, 36)]));
    assert_eq!(said(&book), Some((OLD, 10, 100)));
    assert_eq!((book.counts().answers, book.counts().resolved), (1, 1));
}

#[test]
fn an_answer_of_an_earlier_round_is_old_news() {
    let mut book = book();
    book.resolved(&resolved(0, 0, OLD, 10, 100));
    book.apply(&block(
        1,
        0,
        vec![answered(OLD, 12, 120, 12), answered(OLD, 11, 110, 12), answered(OLD, 12, 1, 12)],
    ));
    assert_eq!(said(&book), Some((OLD, 12, 120)));
}

#[test]
fn an_answer_that_is_not_above_zero_takes_the_price_away() {
    let mut book = book();
    book.resolved(&resolved(0, 0, OLD, 10, 100));
    for (number, answer) in [(1, 0), (2, -7)] {
        book.apply(&block(number, 0, vec![answered(OLD, 10 + number, answer, 12)]));
        assert_eq!(said(&book), Some((OLD, 10 + number, 0)));
    }
    assert_eq!(book.counts().impossible_answers, 2);
    book.apply(&block(3, 0, vec![answered(OLD, 13, 130, 36)]));
    assert_eq!(said(&book), Some((OLD, 13, 130)));
}

#[test]
fn what_was_learnt_late_goes_on_with_what_was_said_meanwhile() {
    let mut book = book();
    book.resolved(&resolved(0, 0, OLD, 10, 100));
    for number in 1..=5 {
        let logs = vec![answered(OLD, 10 + number, 100, 0), answered(NEW, number, 200 + number as i64, 0)];
        book.apply(&block(number, 0, logs));
    }
    assert_eq!(said(&book), Some((OLD, 15, 100)));
    book.resolved(&resolved(3, 0, NEW, 3, 203));
    assert_eq!(said(&book), Some((NEW, 5, 205)), "the two answers above the block were remembered");
    assert_eq!(book.counts().phase_changes, 1);
    book.apply(&block(6, 0, vec![answered(OLD, 16, 1, 0)]));
    assert_eq!(said(&book), Some((NEW, 5, 205)), "the old aggregator speaks for nobody any longer");
}

#[test]
fn a_flood_of_foreign_answers_pushes_nothing_out_but_makes_late_news_unusable() {
    let mut book = book();
    book.resolved(&resolved(0, 0, OLD, 10, 100));
    book.apply(&block(1, 0, vec![]));
    let mut flood: Vec<_> = (0..5_000).map(|round| answered(STRANGER, round, 1, 0)).collect();
    flood.push(answered(OLD, 11, 110, 24));
    book.apply(&block(2, 0, flood));
    assert_eq!(said(&book), Some((OLD, 11, 110)));
    book.resolved(&resolved(1, 0, NEW, 1, 201));
    assert_eq!((said(&book), book.counts().foreign), (Some((OLD, 11, 110)), 1));
    book.resolved(&resolved(2, 0, NEW, 1, 201));
    assert_eq!(said(&book), Some((NEW, 1, 201)), "as of the block itself it is usable");
}

#[test]
fn a_proxy_that_says_that_it_reads_from_another_has_no_price_until_that_is_learnt() {
    let mut book = book();
    book.resolved(&resolved(0, 0, OLD, 10, 100));
    book.apply(&block(
        1,
        0,
        vec![confirmed(STRANGER, NEW), confirmed(OTHER_PROXY, NEW), confirmed(PROXY, OLD)],
    ));
    assert_eq!(said(&book), Some((OLD, 10, 100)));
    book.apply(&block(2, 0, vec![confirmed(PROXY, NEW), answered(OLD, 11, 110, 24)]));
    assert_eq!(book.readings()[0], FeedReading::Moved);
    assert!(book.due(24, 300).contains(&PROXY));
    assert!(book.roll_back(hash(1, 0)));
    assert_eq!(said(&book), Some((OLD, 10, 100)));
    book.apply(&block(2, 0, vec![confirmed(PROXY, NEW)]));
    book.resolved(&resolved(2, 0, NEW, 1, 201));
    assert_eq!(said(&book), Some((NEW, 1, 201)));
}

#[test]
fn a_verdict_about_a_block_that_was_undone_counts_again_when_the_block_comes_back() {
    let mut book = book();
    book.resolved(&resolved(0, 0, OLD, 10, 100));
    book.apply(&block(1, 0, vec![]));
    book.apply(&block(2, 0, vec![]));
    book.resolved(&resolved(2, 0, NEW, 1, 201));
    assert!(book.roll_back(hash(1, 0)));
    assert_eq!(said(&book), Some((OLD, 10, 100)));
    book.apply(&block(2, 7, vec![answered(OLD, 11, 110, 24)]));
    assert_eq!(said(&book), Some((OLD, 11, 110)));
    assert!(book.roll_back(hash(1, 0)));
    book.apply(&block(2, 0, vec![]));
    assert_eq!(said(&book), Some((NEW, 1, 201)));
}

#[test]
fn a_feed_is_asked_when_nothing_is_known_when_it_is_silent_and_now_and_then() {
    let mut book = book();
    assert!(book.due(0, 300).is_empty(), "there is no block to ask about");
    book.apply(&block(1, 0, vec![]));
    assert_eq!(book.due(12, 300), [PROXY, OTHER_PROXY]);
    book.resolved(&resolved(1, 0, OLD, 10, 100));
    let refused = FeedVerdict::Refused("it is none".to_owned());
    book.resolved(&FeedResolved { proxy: OTHER_PROXY, number: 1, hash: hash(1, 0), verdict: refused });
    assert!(book.due(12, 300).is_empty());
    for number in 2..=300 {
        book.apply(&block(number, 0, vec![]));
    }
    assert!(book.due(12 + 3_600, 300).is_empty());
    assert_eq!(book.due(12 + 3_601, 300), [PROXY], "silent beyond its heartbeat");
    book.resolved(&resolved(300, 0, OLD, 10, 100));
    book.apply(&block(301, 0, vec![]));
    assert_eq!(
        book.due(3_612, 300),
        [OTHER_PROXY],
        "what was refused is asked again as seldom as the others"
    );
    assert!(book.due(99_999, 900).is_empty(), "it was only just asked");
    for number in 302..=310 {
        book.apply(&block(number, 0, vec![]));
    }
    assert_eq!(book.due(99_999, 900), [PROXY]);
}

#[test]
fn a_feed_that_cannot_be_read_any_longer_is_no_feed_that_never_could() {
    let refused = |number: u64| FeedResolved {
        verdict: FeedVerdict::Refused("it does not say its phase".to_owned()),
        ..resolved(number, 0, OLD, 1, 1)
    };
    let mut never = book();
    never.resolved(&refused(0));
    assert_eq!(never.readings()[0], FeedReading::Refused);
    let mut once = book();
    once.resolved(&resolved(0, 0, OLD, 10, 100));
    once.apply(&block(1, 0, vec![]));
    once.resolved(&refused(1));
    assert_eq!(once.readings()[0], FeedReading::Lost);
    once.apply(&block(2, 0, vec![answered(OLD, 11, 110, 24)]));
    assert_eq!(once.readings()[0], FeedReading::Lost);
    once.resolved(&resolved(2, 0, OLD, 11, 110));
    assert_eq!(said(&once), Some((OLD, 11, 110)));
    assert!(once.roll_back(hash(1, 0)));
    assert_eq!(once.readings()[0], FeedReading::Lost);
}

#[test]
fn a_feed_that_was_read_before_a_loss_has_no_price_until_it_is_learnt_anew() {
    let mut book = book();
    book.resolved(&resolved(0, 0, OLD, 10, 100));
    book.apply(&block(1, 0, vec![]));
    book.lose(Some((2, hash(2, 0))));
    assert_eq!(*book.readings(), [FeedReading::Lost, FeedReading::Unknown], "the other was never read");
    book.apply(&block(3, 0, vec![answered(OLD, 11, 110, 36)]));
    assert_eq!(book.readings()[0], FeedReading::Lost, "who speaks for it may be another one by now");
    assert_eq!(book.due(36, 300), [PROXY, OTHER_PROXY], "it is asked at once");
    book.lose(None);
    assert_eq!(book.readings()[0], FeedReading::Lost);
    book.apply(&block(4, 0, vec![]));
    book.resolved(&resolved(4, 0, OLD, 11, 110));
    assert_eq!(said(&book), Some((OLD, 11, 110)));
    assert!(book.roll_back(B256::ZERO), "the block below has no other name here");
    assert_eq!(book.readings()[0], FeedReading::Lost);
}

#[test]
fn verdicts_about_unknown_feeds_and_forgotten_blocks_are_left() {
    let mut book = book();
    for number in 1..=70 {
        book.apply(&block(number, 0, vec![]));
    }
    book.resolved(&resolved(5, 0, OLD, 1, 1));
    book.resolved(&FeedResolved { proxy: STRANGER, ..resolved(70, 0, OLD, 1, 1) });
    assert_eq!((said(&book), book.counts().foreign, book.counts().resolved), (None, 2, 0));
    book.lose(Some((70, hash(70, 0))));
    book.resolved(&resolved(70, 0, OLD, 1, 1));
    assert_eq!(said(&book), Some((OLD, 1, 1)));
    assert!(!book.roll_back(hash(69, 0)));
}

#[derive(Clone, Debug)]
enum Step {
    Block(Vec<(bool, u64, i64)>),
    Reorg(usize),
    Resolve(usize, bool, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let said = (any::<bool>(), 0u64..40, -2i64..50);
    prop_oneof![
        8 => proptest::collection::vec(said, 0..3).prop_map(Step::Block),
        1 => (1usize..=64).prop_map(Step::Reorg),
        2 => (0usize..5, any::<bool>(), 0u64..40).prop_map(|(back, is_new, round)| Step::Resolve(back, is_new, round)),
    ]
}

proptest! {
    /// What is known after any history is what a book says that never saw a reorganisation, and its image goes on as it does.
    #[test]
    fn after_reorganisations_it_is_what_the_surviving_blocks_say(steps in proptest::collection::vec(step(), 1..160)) {
        let mut book = book();
        // The blocks that survive, each with what was learnt as of it while it stood.
        let mut chain: Vec<(BlockEvent, Vec<FeedResolved>)> = vec![(block(0, 0, vec![]), vec![])];
        let (mut branch, mut undoable) = (0, 0usize);
        for step in steps {
            match step {
                Step::Block(said) => {
                    let logs = said.iter().map(|(is_new, round, answer)| {
                        answered(if *is_new { NEW } else { OLD }, *round, *answer, 0)
                    });
                    let block = block(chain.len() as u64, branch, logs.collect());
                    book.apply(&block);
                    chain.push((block, vec![]));
                    undoable = (undoable + 1).min(HORIZON);
                }
                Step::Reorg(depth) => {
                    let depth = depth.min(undoable);
                    undoable -= depth;
                    branch += 1;
                    chain.truncate(chain.len() - depth);
                    let (ancestor, _) = chain.last().expect("the first stays");
                    prop_assert!(book.roll_back(ancestor.header.hash));
                }
                Step::Resolve(back, is_new, round) => {
                    let at = chain.len().saturating_sub(1 + back.min(undoable));
                    let header = chain[at].0.header.clone();
                    let aggregator = if is_new { NEW } else { OLD };
                    let learnt = FeedResolved {
                        hash: header.hash,
                        ..resolved(header.number, 0, aggregator, round, 7)
                    };
                    book.resolved(&learnt);
                    chain[at].1 = vec![learnt];
                }
            }
        }
        let mut scratch = self::book();
        for (at, (block, learnt)) in chain.iter().enumerate() {
            if at > 0 {
                scratch.apply(block);
            }
            learnt.iter().for_each(|learnt| scratch.resolved(learnt));
        }
        let readings = |book: &FeedBook| book.readings().to_vec();
        prop_assert_eq!(readings(&book), readings(&scratch));
        let saved = serde_json::to_string(&book).expect("it serializes");
        let restored: FeedBook = serde_json::from_str(&saved).expect("and back");
        let (mut one, mut other) = (String::new(), String::new());
        book.account(&mut one);
        restored.account(&mut other);
        prop_assert_eq!(one, other);
    }
}
