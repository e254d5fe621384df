use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use headwater_bus::{BusConfig, EventBus, Stage, Topology, clock};
use headwater_events::{
    Behind, Kind, LiquidationPlan, MixedStep, Opportunity, PendingTxEvent, Plan, Protocol, Refusal,
    ReorgEvent, RunId, SaleStep, Simulated, SourceGap, SwapStep, Transaction, Verdict,
};

use super::*;
use crate::samples::{block, hash, opportunity, outcome};
use crate::{Latencies, Tally};

/// What was written.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic holds it").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn lines(&self) -> Vec<String> {
        let text =
            String::from_utf8(self.0.lock().expect("no panic holds it").clone()).expect("JSON is UTF-8");
        text.lines().map(str::to_owned).collect()
    }
}

struct Failing(io::ErrorKind);

impl Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hex(byte: &str, count: usize) -> String {
    format!("0x{}", byte.repeat(count))
}

/// The lines that a handler writes for one event and the end.
async fn lines(event: BusEvent) -> Vec<String> {
    let paper = Paper::default();
    let sink = NdjsonSink::to_writer("paper", paper.clone());
    let mut ndjson = Ndjson::new(&sink, &Timeline::default());
    assert!(ndjson.interested_in(&event));
    let derived = (!event.is_source()).then(|| ("arbitrage".into(), 3));
    let envelope = Envelope { run_id: RunId(9), seq: 77, received_at: 123_456_789, derived, event };
    ndjson.handle(&envelope).await.expect("paper takes everything");
    ndjson.finish().await.expect("paper takes everything");
    sink.finish().await.expect("paper takes everything");
    paper.lines()
}

async fn check(event: BusEvent, expected: String) {
    assert_eq!(lines(event).await, [expected]);
}

#[test]
fn the_topics_are_those_of_the_signatures() {
    let signatures = [
        "Swap(address,uint256,uint256,uint256,uint256,address)",
        "Swap(address,address,int256,int256,uint160,uint128,int24)",
        "Swap(address,address,int256,int256,uint160,uint128,int24,uint128,uint128)",
        "Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24)",
    ];
    assert_eq!(SWAPS, signatures.map(keccak256));
}

#[tokio::test]
async fn an_opportunity_line_is_golden_and_knows_no_clock() {
    let expected = |net: &str| {
        format!(
            "{{\"type\":\"opportunity\",\"kind\":\"arbitrage\",\"block\":2,\"block_hash\":\"{}\",\"path\":[\"{}\",\"{}\"],\
             \"tokens\":[\"{}\",\"{}\",\"{}\"],\"amount_in\":\"1000000000000000000\",\
             \"amount_out\":\"1000000000000000005\",\"profit\":\"5\",\"gas\":200000,\"net_profit_wei\":{net},\
             \"detector\":\"arbitrage\",\"index\":3}}",
            hex("02", 32),
            hex("ab", 20),
            hex("cd", 20),
            hex("ef", 20),
            hex("01", 20),
            hex("ef", 20),
        )
    };
    check(BusEvent::OpportunityFound(opportunity(2)), expected("\"-7\"")).await;
    let unpriced = Opportunity { net_profit_wei: None, ..opportunity(2) };
    check(BusEvent::OpportunityFound(unpriced), expected("null")).await;
}

fn pending() -> PendingTxEvent {
    let transaction = Transaction {
        hash: B256::repeat_byte(0x77),
        from: Address::ZERO,
        to: None,
        value: U256::ZERO,
        input: Bytes::new(),
        nonce: 0,
        gas_limit: 0,
    };
    PendingTxEvent { transaction, max_fee_per_gas: 1, max_priority_fee_per_gas: None }
}

#[tokio::test]
async fn a_backrun_names_the_transaction_that_it_follows() {
    let plan = Plan::Behind(Box::new(Behind::new(pending(), Vec::new())));
    let found =
        lines(BusEvent::OpportunityFound(Opportunity { kind: Kind::Backrun, plan, ..opportunity(2) })).await;
    let follows = format!("\"follows\":\"{}\"", hex("77", 32));
    assert!(found[0].contains("\"kind\":\"backrun\"") && found[0].contains(&follows), "{found:?}");
}

#[tokio::test]
async fn a_line_of_mixed_pools_says_what_each_of_them_computes_and_does() {
    let step = |protocol, zero_for_one, amount_in, amount_out| MixedStep {
        protocol,
        pool_id: (protocol == Protocol::UniswapV4).then_some(B256::repeat_byte(0x1D)),
        zero_for_one,
        swap: SwapStep {
            pool: Address::repeat_byte(0xAB),
            token_in: Address::ZERO,
            token_out: Address::ZERO,
            amount_in: U256::from(amount_in),
            amount_out: U256::from(amount_out),
        },
    };
    let steps = vec![
        step(Protocol::UniswapV3, true, 7, 8),
        step(Protocol::UniswapV2, false, 8, 12),
        step(Protocol::UniswapV4, false, 12, 13),
    ];
    let behind = Plan::Behind(Box::new(Behind::new(pending(), steps.clone())));
    let found =
        lines(BusEvent::OpportunityFound(Opportunity { plan: Plan::Mixed(steps), ..opportunity(2) })).await;
    let found_behind =
        lines(BusEvent::OpportunityFound(Opportunity { plan: behind, ..opportunity(2) })).await;
    let id = hex("1d", 32);
    let hops = format!(
        "\"hops\":[{{\"protocol\":\"uniswap-v3\",\"zero_for_one\":true,\"amount_in\":\"7\",\"amount_out\":\"8\"}},\
         {{\"protocol\":\"uniswap-v2\",\"zero_for_one\":false,\"amount_in\":\"8\",\"amount_out\":\"12\"}},\
         {{\"protocol\":\"uniswap-v4\",\"pool_id\":\"{id}\",\"zero_for_one\":false,\"amount_in\":\"12\",\"amount_out\":\"13\"}}]}}"
    );
    assert!(found[0].ends_with(&hops), "{found:?}");
    assert!(found_behind[0].ends_with(&hops), "{found_behind:?}");
}

#[tokio::test]
async fn a_liquidation_line_is_golden() {
    let plan = LiquidationPlan {
        protocol: "aave-v3".to_owned(),
        pool: Address::repeat_byte(0xAB),
        borrower: Address::repeat_byte(0xBB),
        collateral: Address::repeat_byte(0x01),
        debt: Address::repeat_byte(0xEF),
        debt_to_cover: U256::MAX,
        repay: U256::from(1_000),
        seize: U256::from(10).pow(U256::from(18)),
        health_factor: U256::from(999_999_999_999_999_999u64),
        sale: vec![],
        unsearched: 0,
    };
    let found = Opportunity {
        kind: Kind::Liquidation,
        plan: Plan::Liquidate(Box::new(plan.clone())),
        path: vec![Address::repeat_byte(0xAB)],
        tokens: vec![Address::repeat_byte(0xEF), Address::repeat_byte(0x01)],
        ..opportunity(2)
    };
    let expected = format!(
        "{{\"type\":\"opportunity\",\"kind\":\"liquidation\",\"block\":2,\"block_hash\":\"{}\",\"path\":[\"{}\"],\
         \"tokens\":[\"{}\",\"{}\"],\"amount_in\":\"1000000000000000000\",\
         \"amount_out\":\"1000000000000000005\",\"profit\":\"5\",\"gas\":200000,\"net_profit_wei\":\"-7\",\
         \"detector\":\"arbitrage\",\"index\":3,\"protocol\":\"aave-v3\",\"borrower\":\"{}\",\
         \"collateral\":\"{}\",\"debt\":\"{}\",\"repay\":\"1000\",\"seize\":\"1000000000000000000\",\
         \"health_factor\":\"999999999999999999\"}}",
        hex("02", 32),
        hex("ab", 20),
        hex("ef", 20),
        hex("01", 20),
        hex("bb", 20),
        hex("01", 20),
        hex("ef", 20),
    );
    check(BusEvent::OpportunityFound(found.clone()), expected.clone()).await;

    let swap = SwapStep {
        pool: Address::repeat_byte(0xCD),
        token_in: Address::repeat_byte(0x01),
        token_out: Address::repeat_byte(0xEF),
        amount_in: U256::from(7),
        amount_out: U256::from(8),
    };
    let pool_id = Some(B256::repeat_byte(0x1D));
    let step = MixedStep { protocol: Protocol::UniswapV4, pool_id, zero_for_one: true, swap };
    let sale = vec![SaleStep { step, price_impact_ppm: 1_234 }];
    let plan = LiquidationPlan { sale, unsearched: 3, ..plan };
    let sold = Opportunity { plan: Plan::Liquidate(Box::new(plan)), ..found };
    let without_end = expected.trim_end_matches('}');
    let expected = format!(
        "{without_end},\"unsearched\":3,\"hops\":[{{\"protocol\":\"uniswap-v4\",\"pool_id\":\"{}\",\
         \"zero_for_one\":true,\"amount_in\":\"7\",\"amount_out\":\"8\",\"price_impact_ppm\":1234}}]}}",
        hex("1d", 32)
    );
    check(BusEvent::OpportunityFound(sold), expected).await;
}

#[tokio::test]
async fn outcome_lines_are_golden() {
    let expected = |rest: &str| {
        format!(
            "{{\"type\":\"outcome\",\"block\":2,\"block_hash\":\"{}\",\"detector\":\"arbitrage\",\"index\":3,{rest}}}",
            hex("02", 32)
        )
    };
    let simulated = |gas_used| Some(Simulated { profit: U256::from(5), gas_used });
    check(outcome(2, Verdict::Expired, None), expected(r#""verdict":"expired""#)).await;
    check(outcome(2, Verdict::Unsimulated, None), expected(r#""verdict":"unsimulated""#)).await;
    check(
        outcome(2, Verdict::WouldSend, simulated(Some(171_000))),
        expected(r#""verdict":"would_send","simulated_profit":"5","gas_used":171000"#),
    )
    .await;
    check(
        outcome(2, Verdict::Refused(Refusal::Reverted("UniswapV2: K".into())), None),
        expected(r#""verdict":"refused","reason":"reverted","detail":"UniswapV2: K""#),
    )
    .await;
    check(
        outcome(2, Verdict::Refused(Refusal::ProfitDiffers { simulated: U256::from(5) }), simulated(None)),
        expected(r#""verdict":"refused","reason":"profit_differs","simulated_profit":"5""#),
    )
    .await;
}

#[tokio::test]
async fn chain_lines_are_golden() {
    check(
        block(2),
        format!(
            "{{\"type\":\"block\",\"number\":2,\"hash\":\"{}\",\"parent_hash\":\"{}\",\"txs\":0,\"logs\":2,\"swaps\":1,\
             \"grade\":\"matched\",\"latency_ns\":{{}}}}",
            hex("02", 32),
            hex("01", 32)
        ),
    )
    .await;
    let reorg = ReorgEvent {
        ancestor_number: 1,
        ancestor_hash: hash(1),
        undone: vec![hash(3), hash(2)],
        old_head: hash(3),
        new_head: hash(4),
    };
    check(
        BusEvent::Reorg(reorg),
        format!(
            "{{\"type\":\"reorg\",\"depth\":2,\"old_head\":\"{}\",\"new_head\":\"{}\"}}",
            hex("03", 32),
            hex("04", 32)
        ),
    )
    .await;
    check(
        BusEvent::SourceGap(SourceGap { from: 5, to: 6, filled: 2 }),
        r#"{"type":"gap","from":5,"to":6,"filled":2}"#.to_owned(),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_block_line_closes_its_block_and_tells_its_latencies() {
    let (topology, timeline, paper) = (Topology::new(), Timeline::default(), Paper::default());
    let bus = EventBus::new(&BusConfig::default(), &topology, &timeline, None, None);
    let sink = NdjsonSink::to_writer("paper", paper.clone());
    let handler = bus.register("ndjson", Ndjson::new(&sink, &timeline));
    let last_byte = clock::now();
    tokio::time::advance(Duration::from_micros(2)).await;
    let seq = bus.publisher().publish(block(1), Some(last_byte)).await.expect("open");
    let found = BusEvent::OpportunityFound(opportunity(1));
    bus.derived("arbitrage").publish(seq, 0, [found]).expect("open");
    tokio::time::advance(Duration::from_micros(3)).await;
    timeline.stamp(seq, Stage::Decided);
    bus.publisher().publish(block(2), None).await.expect("open");
    bus.close_source();
    bus.close_derived();
    handler.await.expect("it ends");
    let tally = Tally::default();
    sink.summary(&tally.summary(&topology, &Latencies::new(&timeline))).await.expect("paper");
    sink.finish().await.expect("paper");

    let lines = paper.lines();
    let of_type = |kind: &str| -> Vec<&String> {
        lines.iter().filter(|line| line.starts_with(&format!("{{\"type\":\"{kind}\""))).collect()
    };
    assert_eq!((of_type("opportunity").len(), of_type("block").len(), lines.len()), (1, 2, 4));
    assert!(
        of_type("block")[0].ends_with(r#""latency_ns":{"last_byte":0,"published":2000,"decided":5000}}"#),
        "{lines:?}"
    );
    assert!(of_type("block")[1].ends_with(r#""latency_ns":{"published":0}}"#), "{lines:?}");
    assert!(lines[3].starts_with(r#"{"type":"summary","blocks":0,"#), "{}", lines[3]);
    assert!(lines[3].contains(
        r#"{"from":"bus","to":"ndjson","carries":"source events","accepted":2,"processed":2,"dropped":{}}"#
    ));
}

#[tokio::test]
async fn a_full_disk_is_said_clearly_and_once_more_at_the_end() {
    let sink = NdjsonSink::to_writer("results.ndjson", Failing(io::ErrorKind::StorageFull));
    let broken = sink.finish().await;
    assert!(broken.is_ok(), "nothing was written yet: {broken:?}");
    sink.line("gap", &GapView::new(&SourceGap { from: 1, to: 1, filled: 1 })).await.expect("it is queued");
    let told = sink.broken().await.to_string();
    assert!(told.starts_with("cannot write results to results.ndjson: "), "{told}");
    assert!(sink.finish().await.is_err());
    let later = sink.line("gap", &GapView::new(&SourceGap { from: 2, to: 2, filled: 1 })).await;
    assert!(matches!(later, Err(NdjsonError::Write { .. })), "{later:?}");
}

#[tokio::test]
async fn a_closed_pipe_ends_quietly() {
    let sink = NdjsonSink::to_writer("stdout", Failing(io::ErrorKind::BrokenPipe));
    for number in 1..=3000 {
        let gap = SourceGap { from: number, to: number, filled: 1 };
        sink.line("gap", &GapView::new(&gap)).await.expect("it is no error");
    }
    assert!(matches!(sink.broken().await, NdjsonError::PipeClosed));
    assert!(sink.finish().await.is_ok());
}

#[test]
fn a_file_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().expect("there is room");
    let path = directory.path().join("no").join("results.ndjson");
    let error = NdjsonSink::file(&path).expect_err("there is no such directory");
    assert!(error.to_string().contains("results.ndjson"), "{error}");
}
