//! Compared with the judges' own encoder, on generated blocks and on real ones.

use std::io::Read;
use std::path::PathBuf;

use alloy_primitives::{Address, hex};
use headwater_reference::fake_node::{BlockBuilder, FakeBlock, FakeLog, FakeTransaction, encode};
use headwater_reference::receipts;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::error::Incomplete;
use crate::fetch::prove_receipts;
use crate::parse::{parse_block, parse_receipts};

/// Of EIP-2718, 2930, 1559, 4844 and 7702, and the greatest that an envelope can have.
const KINDS: [u8; 6] = [0, 1, 2, 3, 4, 0x7f];

prop_compose! {
    fn fake_log()(
        address in any::<[u8; 20]>(),
        topics in vec(any::<[u8; 32]>(), 0..=4),
        data in vec(any::<u8>(), 0..100),
    ) -> FakeLog {
        FakeLog { address: address.into(), topics: topics.into_iter().map(B256::from).collect(), data: data.into() }
    }
}

prop_compose! {
    fn fake_transaction()(
        kind in prop::sample::select(&KINDS[..]),
        gas in prop_oneof![0..300u64, 0..1_000_000_000u64],
        success in any::<bool>(),
        logs in vec(fake_log(), 0..4),
    ) -> FakeTransaction {
        FakeTransaction { kind, gas, success, ..FakeTransaction::emitting(logs) }
    }
}

fn prove(block: &Value, receipts: &[Value]) -> Result<(), Incomplete> {
    let parsed = parse_block(encode(block).as_bytes()).expect("it is whole");
    let text = encode(&Value::from(receipts));
    let receipts = parse_receipts(text.as_bytes(), parsed.header.hash).expect("they are whole");
    prove_receipts(&parsed, &receipts, receipts_root(&receipts))
}

/// As a node shows them from before Byzantium: the state's root and no status.
fn before_byzantium(block: &mut FakeBlock) {
    for (index, receipt) in block.receipts.iter_mut().enumerate() {
        receipt["root"] = json!(B256::with_last_byte(index as u8));
        receipt.as_object_mut().expect("an object").remove("status");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The keys of a trie of more than 16, 128 and 256 receipts differ in length.
    #[test]
    fn the_root_is_that_of_the_judges(
        few in vec(fake_transaction(), 0..20),
        times in prop_oneof![Just(1usize), Just(1), Just(20)],
        is_old in any::<bool>(),
    ) {
        let count = few.len() * times;
        let mut block = BlockBuilder::first(9).transactions(few.into_iter().cycle().take(count)).build();
        if is_old {
            before_byzantium(&mut block);
            block = block.with_receipts_root();
        }
        let text = encode(&Value::from(block.receipts.clone()));
        let parsed = parse_receipts(text.as_bytes(), block.hash()).expect("they are whole");
        prop_assert_eq!(receipts_root(&parsed), receipts::receipts_root(&block.receipts));
        prop_assert_eq!(prove(&block.block, &block.receipts), Ok(()));
    }

    #[test]
    fn no_text_makes_it_panic(text in vec(any::<u8>(), 0..200)) {
        let _ = parse_receipts(&text, B256::ZERO);
    }
}

type Change<T> = fn(&mut T);

fn sample() -> FakeBlock {
    let log = |seed: u8| FakeLog {
        address: Address::repeat_byte(seed),
        topics: vec![B256::repeat_byte(seed), B256::repeat_byte(seed + 1)],
        data: vec![seed; 64].into(),
    };
    let emitting = |kind: u8, seed| FakeTransaction {
        kind,
        ..FakeTransaction::emitting(vec![log(seed), log(seed + 1)])
    };
    BlockBuilder::first(17).transactions([emitting(0, 1), emitting(2, 3), emitting(3, 5)]).build()
}

/// Flips the last bit of a hexadecimal string of even length.
fn flip(value: &mut Value) {
    let mut bytes = hex::decode(value.as_str().expect("a string")).expect("hexadecimal");
    *bytes.last_mut().expect("not empty") ^= 1;
    *value = hex::encode_prefixed(bytes).into();
}

#[test]
fn whatever_is_changed_in_a_receipt_is_noticed() {
    let block = sample();
    assert_eq!(prove(&block.block, &block.receipts), Ok(()));
    let changes: [(&str, Change<Vec<Value>>); 15] = [
        ("status", |receipts| receipts[1]["status"] = "0x0".into()),
        ("gas", |receipts| receipts[1]["cumulativeGasUsed"] = "0x61a81".into()),
        ("type", |receipts| receipts[1]["type"] = "0x1".into()),
        ("no type", |receipts| drop(receipts[1].as_object_mut().expect("an object").remove("type"))),
        ("bloom", |receipts| flip(&mut receipts[1]["logsBloom"])),
        ("address", |receipts| flip(&mut receipts[1]["logs"][0]["address"])),
        ("topic", |receipts| flip(&mut receipts[1]["logs"][0]["topics"][1])),
        ("one topic less", |receipts| {
            drop(receipts[1]["logs"][0]["topics"].as_array_mut().expect("a list").pop())
        }),
        ("data", |receipts| flip(&mut receipts[1]["logs"][1]["data"])),
        ("one log less", |receipts| drop(receipts[2]["logs"].as_array_mut().expect("a list").pop())),
        ("one receipt less", |receipts| drop(receipts.pop())),
        ("none at all", Vec::clear),
        ("two in the wrong order", |receipts| receipts.swap(0, 1)),
        // The trie says nothing of these.
        ("index of a log", |receipts| receipts[2]["logs"][1]["logIndex"] = "0x6".into()),
        ("transaction of a log", |receipts| receipts[1]["logs"][1]["transactionIndex"] = "0x2".into()),
    ];
    for (name, change) in changes {
        let mut receipts = block.receipts.clone();
        change(&mut receipts);
        let refusal = prove(&block.block, &receipts).expect_err(name);
        let count = receipts.len();
        match name {
            "index of a log" => assert_eq!(refusal, Incomplete::Index { expected: 5, found: 6 }),
            "transaction of a log" => assert!(matches!(refusal, Incomplete::Transaction { .. }), "{refusal}"),
            _ => assert_eq!(refusal, Incomplete::Receipts { receipts: count }, "{name}"),
        }
    }
}

#[test]
fn a_header_without_a_receipts_root_proves_nothing() {
    let mut block = sample();
    block.block.as_object_mut().expect("an object").remove("receiptsRoot");
    assert_eq!(prove(&block.block, &block.receipts), Err(Incomplete::NoReceiptsRoot));
}

#[test]
fn receipts_that_are_not_whole_or_of_another_block_are_refused_by_the_field() {
    let block = sample();
    let changes: [(Change<Value>, &str); 6] = [
        (|receipt| receipt["status"] = Value::Null, "receipts[1].status: it is missing"),
        (|receipt| receipt["status"] = "0x2".into(), "receipts[1].status: neither 0 nor 1"),
        (|receipt| receipt["type"] = "0x100".into(), "receipts[1].type: no 8-bit quantity"),
        (|receipt| flip(&mut receipt["blockHash"]), "receipts[1].blockHash: another block's"),
        (
            |receipt| flip(&mut receipt["logs"][1]["blockHash"]),
            "receipts[1].logs[1].blockHash: another block's",
        ),
        (
            |receipt| receipt["logs"][0]["removed"] = true.into(),
            "receipts[1].logs[0].removed: the log was removed",
        ),
    ];
    for (change, message) in changes {
        let mut receipts = block.receipts.clone();
        change(&mut receipts[1]);
        let text = encode(&Value::from(receipts));
        let error = parse_receipts(text.as_bytes(), block.hash()).expect_err(message);
        assert_eq!(format!("{}: {}", error.path, error.reason), message);
    }
}

/// Most recorded blocks were rebuilt from traces, with roots that belong to nothing; two are genuine.
#[test]
fn genuine_blocks_are_proven() {
    #[expect(
        clippy::disallowed_methods,
        reason = "real blocks are not part of the repository; the variable names them"
    )]
    let Ok(directory) = std::env::var("HEADWATER_MAINNET") else {
        eprintln!("SKIPPED: HEADWATER_MAINNET is not set; no real block was proven");
        return;
    };
    let (mut proven, mut rebuilt) = (0, 0);
    for file in std::fs::read_dir(PathBuf::from(directory).join("blocks")).expect("the blocks are there") {
        let file = std::fs::File::open(file.expect("readable").path()).expect("readable");
        let mut text = String::new();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("it decompresses");
        let recorded: Value = serde_json::from_str(&text).expect("it is JSON");
        let is_rebuilt = recorded["_meta"]["logs"].is_array();
        let block = FakeBlock::from_recorded(&recorded).expect("it is a block");
        let root = block.block["receiptsRoot"].clone();
        let judged = json!(receipts::receipts_root(&block.receipts)) == root;
        assert_eq!(prove(&block.block, &block.receipts).is_ok(), judged, "block {}", block.number());
        assert!(judged || is_rebuilt, "block {} is genuine", block.number());
        (proven, rebuilt) = (proven + u64::from(judged), rebuilt + u64::from(!judged));
    }
    assert!(proven >= 2, "{proven} real blocks proven, {rebuilt} rebuilt");
    eprintln!("{proven} real blocks proven; {rebuilt} rebuilt, whose roots belong to nothing");
}
