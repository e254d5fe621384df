use alloy_primitives::{Address, B256, U256};
use headwater_market::FeedQuote;
use headwater_reference::fake_node::{BlockBuilder, CallRequest, FakeNode, RpcErr, address_word, word};

use super::*;

const CHAIN_ID: u64 = 5;
const TOKEN: Address = Address::repeat_byte(0x77);
const AGGREGATOR: Address = Address::repeat_byte(0x21);

fn feed(proxy: u8) -> Feed {
    let (quote, heartbeat_s, deviation_ppm) = (FeedQuote::Usd, 3_600, 5_000);
    let proxy = Address::repeat_byte(proxy);
    Feed { name: String::new(), proxy, token: TOKEN, quote, heartbeat_s, deviation_ppm }
}

/// What a proxy says.
#[derive(Clone, Copy)]
struct Says {
    decimals: u64,
    phase_of_round: u64,
    answer: U256,
    has_data: bool,
}

const HONEST: Says =
    Says { decimals: 8, phase_of_round: 6, answer: U256::from_limbs([42, 0, 0, 0]), has_data: true };

fn answer(says: Says, call: &CallRequest<'_>) -> Result<alloy_primitives::Bytes, RpcErr> {
    if call.to == TOKEN {
        return Ok(word(U256::from(6)));
    }
    if call.is("aggregator()") {
        return Ok(address_word(AGGREGATOR));
    }
    if call.is("phaseId()") {
        return Ok(word(U256::from(6)));
    }
    if call.is("decimals()") {
        return Ok(word(U256::from(says.decimals)));
    }
    if call.is("latestRoundData()") && says.has_data {
        let phase: U256 = U256::from(says.phase_of_round) << 64;
        let id = phase + U256::from(1_234);
        return Ok([id, says.answer, U256::from(9), U256::from(10), id].map(word).concat().into());
    }
    Err(RpcErr::reverted(b"No data present"))
}

async fn resolve(says: Says, feeds: &[Feed]) -> (Vec<FeedResolved>, B256, usize) {
    let (fake, url) = FakeNode::start(CHAIN_ID).await.expect("a port");
    let block = BlockBuilder::first(100).build();
    fake.push_block(block.clone());
    // A contract that is none answers nothing.
    fake.answer_calls(move |call| match call.to[0] {
        0xee => Ok(alloy_primitives::Bytes::new()),
        _ => answer(says, call),
    });
    let config = NodeConfig::new(vec![url.parse().expect("a URL")]);
    let (node, _) = Node::connect_first(&config).await.expect("it listens");
    let resolved = resolve_feeds(&node, feeds, 100, block.hash()).await.expect("an honest node");
    let batched = fake.asked().iter().filter(|asked| asked.method == "eth_call" && asked.in_batch).count();
    (resolved, block.hash(), batched)
}

async fn check(says: Says, expected: Result<FeedRound, &str>) {
    let (resolved, hash, _) = resolve(says, &[feed(0x11)]).await;
    let [FeedResolved { proxy, number: 100, hash: of, verdict }] = &resolved[..] else {
        panic!("{resolved:?}")
    };
    assert_eq!((*proxy, *of), (Address::repeat_byte(0x11), hash));
    match (verdict, expected) {
        (FeedVerdict::Accepted(round), Ok(expected)) => assert_eq!(*round, expected),
        (FeedVerdict::Refused(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
        (found, expected) => panic!("{found:?} is not {expected:?}"),
    }
}

fn honest_round() -> FeedRound {
    FeedRound {
        aggregator: AGGREGATOR,
        phase: 6,
        decimals: 8,
        token_decimals: 6,
        round: 1_234,
        answer: Some(U256::from(42)),
        updated_at: 10,
    }
}

#[tokio::test]
async fn a_proxy_says_its_aggregator_its_phase_and_its_last_round() {
    check(HONEST, Ok(honest_round())).await;
}

#[tokio::test]
async fn absurd_decimals_a_foreign_phase_and_missing_data_are_refused_with_a_reason() {
    check(Says { decimals: 0, ..HONEST }, Err("0 decimals")).await;
    check(Says { decimals: 255, ..HONEST }, Err("255 decimals")).await;
    check(Says { decimals: 37, ..HONEST }, Err("37 decimals")).await;
    check(Says { decimals: 256, ..HONEST }, Err("does not say its decimals")).await;
    check(Says { phase_of_round: 5, ..HONEST }, Err("of phase 5")).await;
    check(Says { has_data: false, ..HONEST }, Err("does not say its last round")).await;
}

#[tokio::test]
async fn an_answer_that_is_not_above_zero_is_told_as_none() {
    for answer in [U256::ZERO, U256::MAX, U256::from(1) << 200] {
        check(Says { answer, ..HONEST }, Ok(FeedRound { answer: None, ..honest_round() })).await;
    }
}

#[tokio::test]
async fn all_feeds_are_asked_in_batches_and_a_contract_that_is_none_is_refused() {
    let feeds = [feed(0x11), feed(0xee), feed(0x12)];
    let (resolved, _, batched) = resolve(HONEST, &feeds).await;
    let accepted: Vec<_> =
        resolved.iter().map(|feed| matches!(feed.verdict, FeedVerdict::Accepted(_))).collect();
    assert_eq!((accepted, batched), (vec![true, false, true], 15));
    assert!(resolve(HONEST, &[]).await.0.is_empty());
}
