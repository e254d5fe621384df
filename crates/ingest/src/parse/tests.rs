//! Compared with a plain reading by serde_json, on generated blocks and on real ones.

use std::io::Read;
use std::path::PathBuf;

use alloy_primitives::{U256, keccak256};
use headwater_reference::fake_node::{BlockBuilder, FakeBlock, FakeLog, FakeTransaction, encode};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// The slow and obvious reading.
mod plain {
    use super::*;

    pub(super) fn bytes(value: &Value) -> Vec<u8> {
        alloy_primitives::hex::decode(value.as_str().expect("a string")).expect("hexadecimal")
    }

    fn quantity(value: &Value) -> U256 {
        U256::from_str_radix(&value.as_str().expect("a string")[2..], 16).expect("hexadecimal")
    }

    fn small(value: &Value) -> u64 {
        quantity(value).to()
    }

    fn address(value: &Value) -> Address {
        Address::from_slice(&bytes(value))
    }

    fn hash(value: &Value) -> B256 {
        B256::from_slice(&bytes(value))
    }

    pub(super) fn block(block: &Value) -> ParsedBlock {
        let list = block["transactions"].as_array().expect("a list");
        ParsedBlock {
            header: Header {
                number: small(&block["number"]),
                hash: hash(&block["hash"]),
                parent_hash: hash(&block["parentHash"]),
                timestamp: small(&block["timestamp"]),
                base_fee_per_gas: block.get("baseFeePerGas").filter(|fee| !fee.is_null()).map(small),
                gas_used: small(&block["gasUsed"]),
                gas_limit: small(&block["gasLimit"]),
                beneficiary: address(&block["miner"]),
                logs_bloom: Bloom::from_slice(&bytes(&block["logsBloom"])),
            },
            receipts_root: block.get("receiptsRoot").filter(|root| !root.is_null()).map(hash),
            transactions: list.iter().map(transaction).collect(),
        }
    }

    fn transaction(transaction: &Value) -> Transaction {
        Transaction {
            hash: hash(&transaction["hash"]),
            from: address(&transaction["from"]),
            to: Some(&transaction["to"]).filter(|to| !to.is_null()).map(address),
            value: quantity(&transaction["value"]),
            input: bytes(&transaction["input"]).into(),
            nonce: small(&transaction["nonce"]),
            gas_limit: small(&transaction["gas"]),
        }
    }

    pub(super) fn log(log: &Value) -> Log {
        Log {
            address: address(&log["address"]),
            topics: log["topics"].as_array().expect("a list").iter().map(hash).collect(),
            data: bytes(&log["data"]).into(),
            transaction_index: small(&log["transactionIndex"]) as u32,
            log_index: small(&log["logIndex"]) as u32,
        }
    }
}

/// Both readings of a block agree, however its text is laid out.
fn compare(block: &FakeBlock) {
    let logs = Value::Array(block.logs().into_iter().cloned().collect());
    let expected = plain::block(&block.block);
    let expected_logs: Vec<Log> = block.logs().into_iter().map(plain::log).collect();
    // `encode` writes in a node's order, serde_json sorts, and its pretty form has white space everywhere.
    for (text, logs) in [
        (encode(&block.block), encode(&logs)),
        (block.block.to_string(), logs.to_string()),
        (format!("{:#}", block.block), format!(" {logs:#}\n")),
    ]
    .map(|(text, logs)| (text.into_bytes(), logs.into_bytes()))
    {
        assert_eq!(parse_block(&text).expect("it is whole"), expected);
        assert_eq!(parse_logs(&logs, block.hash()).expect("they are whole"), expected_logs);
        let link = parse_link(&text).expect("it is whole");
        assert_eq!(
            (link.number, link.hash, link.parent_hash),
            (block.number(), block.hash(), block.parent_hash())
        );
    }
}

prop_compose! {
    fn fake_log()(
        address in any::<[u8; 20]>(),
        topics in vec(any::<[u8; 32]>(), 0..=4),
        data in vec(any::<u8>(), 0..200),
    ) -> FakeLog {
        FakeLog { address: address.into(), topics: topics.into_iter().map(B256::from).collect(), data: data.into() }
    }
}

prop_compose! {
    fn fake_transaction()(
        from in any::<[u8; 20]>(),
        to in option::of(any::<[u8; 20]>()),
        input in vec(any::<u8>(), 0..300),
        value in any::<[u64; 4]>(),
        nonce in any::<u64>(),
        gas in 0..1_000_000_000u64,
        logs in vec(fake_log(), 0..6),
    ) -> FakeTransaction {
        FakeTransaction {
            from: from.into(),
            to: to.map(Address::from),
            input: input.into(),
            value: U256::from_limbs(value),
            nonce,
            gas,
            logs,
            success: true,
            kind: 0,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn generated_blocks_are_read_as_a_plain_reading_reads_them(
        number in 0..u64::MAX,
        fee in any::<Option<u64>>(),
        transactions in vec(fake_transaction(), 0..8),
    ) {
        compare(&BlockBuilder::first(number).base_fee_per_gas(fee).transactions(transactions).build());
    }

    #[test]
    fn no_text_makes_it_panic(text in vec(any::<u8>(), 0..200)) {
        let _ = parse_block(&text);
        let _ = parse_logs(&text, B256::ZERO);
        let _ = parse_header(&text);
        let _ = parse_pushed_log(&text);
    }

    #[test]
    fn a_changed_byte_is_an_error_or_the_same_as_in_a_plain_reading(at in any::<prop::sample::Index>(), byte in 0x20u8..0x7f) {
        let block = sample();
        let mut text = encode(&block.block).into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        if let Ok(parsed) = parse_block(&text) {
            match serde_json::from_slice::<Value>(&text) {
                Ok(value) => prop_assert_eq!(parsed, plain::block(&value)),
                // In a text that is passed over, only the end of an escape is looked at, and not what it stands for.
                Err(error) => prop_assert!(byte == b'\\', "what we take is no JSON: {error}"),
            }
        }
    }
}

fn sample() -> FakeBlock {
    let log = |seed: u8| FakeLog {
        address: Address::repeat_byte(seed),
        topics: vec![keccak256([seed]), keccak256([seed, 1])],
        data: vec![seed; 64].into(),
    };
    let transaction = |seed: u8| FakeTransaction {
        input: vec![seed; 68].into(),
        ..FakeTransaction::emitting(vec![log(seed), log(seed + 1)])
    };
    BlockBuilder::first(17).transactions([transaction(1), transaction(2)]).build()
}

#[test]
fn a_text_cut_off_anywhere_is_an_error() {
    let block = sample();
    let text = encode(&block.block).into_bytes();
    for length in 0..text.len() {
        parse_block(&text[..length]).expect_err("it is cut off");
    }
    let logs = Value::Array(block.logs().into_iter().cloned().collect()).to_string();
    for length in 0..logs.len() {
        parse_logs(&logs.as_bytes()[..length], block.hash()).expect_err("they are cut off");
    }
}

#[test]
fn a_pushed_log_says_of_which_block_it_is_and_whether_it_is_taken_back() {
    let block = sample();
    for log in block.logs() {
        let text = encode(log).into_bytes();
        let pushed = parse_pushed_log(&text).expect("it is whole");
        assert_eq!(pushed, PushedLog::Added { block: block.hash(), log: plain::log(log) });
        let mut removed = log.clone();
        removed["removed"] = true.into();
        let pushed = parse_pushed_log(encode(&removed).as_bytes()).expect("it is whole");
        let log_index = plain::log(log).log_index;
        assert_eq!(pushed, PushedLog::Removed { block: block.hash(), log_index });
        for length in 0..text.len() {
            parse_pushed_log(&text[..length]).expect_err("it is cut off");
        }
    }
}

#[test]
fn an_announced_header_is_that_of_the_block() {
    let block = sample();
    let mut announced = block.block.clone();
    announced.as_object_mut().expect("an object").remove("transactions");
    let header = parse_header(encode(&announced).as_bytes()).expect("it is whole");
    assert_eq!(header, plain::block(&block.block).header);
    announced.as_object_mut().expect("an object").remove("logsBloom");
    let error = parse_header(encode(&announced).as_bytes()).expect_err("a field is missing");
    assert_eq!(error.path, "header.logsBloom");
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Value), message: &str) {
    let mut block = sample().block;
    change(&mut block);
    let error = parse_block(block.to_string().as_bytes()).expect_err(message);
    assert_eq!(format!("{}: {}", error.path, error.reason), message);
}

#[test]
fn an_error_names_the_field_and_the_place() {
    refused(|block| block["hash"] = json!("0x12"), "block.hash: 2 digits instead of 64");
    refused(|block| block["number"] = json!(17), "block.number: '1' instead of '\\\"'");
    refused(|block| block["number"] = json!("17"), "block.number: it does not begin with 0x");
    refused(|block| block["number"] = json!("0x"), "block.number: no 64-bit quantity");
    refused(|block| block["gasUsed"] = json!("0x10000000000000000"), "block.gasUsed: no 64-bit quantity");
    refused(|block| block["gasLimit"] = Value::Null, "block.gasLimit: 'n' instead of '\\\"'");
    refused(
        |block| drop(block.as_object_mut().map(|block| block.remove("miner"))),
        "block.miner: it is missing",
    );
    refused(
        |block| block["transactions"][1]["input"] = json!("0x123"),
        "block.transactions[1].input: an odd number of digits",
    );
    refused(
        |block| block["transactions"][0]["input"] = json!("0x0x12"),
        "block.transactions[0].input: no hexadecimal digits",
    );
    refused(
        |block| block["transactions"][1]["from"] = json!(format!("0x{}", "zz".repeat(20))),
        "block.transactions[1].from: no hexadecimal digits",
    );
    refused(
        |block| drop(block["transactions"][1].as_object_mut().map(|fields| fields.remove("to"))),
        "block.transactions[1].to: it is missing",
    );
    refused(|block| block["transactions"] = json!(["0x12"]), "block.transactions[0]: '\\\"' instead of '{'");
}

#[test]
fn hashes_in_place_of_transactions_are_not_taken_for_an_empty_block() {
    let mut block = sample().block;
    block["transactions"] = json!([keccak256("1"), keccak256("2")]);
    parse_block(block.to_string().as_bytes()).expect_err("the transactions are missing");
}

#[track_caller]
fn log_refused(change: impl FnOnce(&mut Value), message: &str) {
    let block = sample();
    let mut logs = Value::Array(block.logs().into_iter().cloned().collect());
    change(&mut logs);
    let error = parse_logs(logs.to_string().as_bytes(), block.hash()).expect_err(message);
    assert_eq!(format!("{}: {}", error.path, error.reason), message);
}

#[test]
fn a_log_of_another_block_a_removed_one_and_a_fifth_topic_are_refused() {
    log_refused(|logs| logs[2]["blockHash"] = json!(B256::ZERO), "logs[2].blockHash: another block's");
    log_refused(|logs| logs[1]["removed"] = json!(true), "logs[1].removed: the log was removed");
    let five = json!([B256::ZERO, B256::ZERO, B256::ZERO, B256::ZERO, B256::ZERO]);
    log_refused(|logs| logs[3]["topics"] = five, "logs[3].topics[4]: more than four topics");
    log_refused(|logs| logs[0]["logIndex"] = json!("0x100000000"), "logs[0].logIndex: no 32-bit quantity");
    log_refused(|logs| logs[0]["logIndex"] = Value::Null, "logs[0].logIndex: 'n' instead of '\\\"'");
}

#[test]
fn a_field_that_stands_there_twice_is_refused() {
    let text = sample().block.to_string();
    let twice = text.replacen(
        "{",
        "{\"hash\":\"0x0000000000000000000000000000000000000000000000000000000000000000\",",
        1,
    );
    let error = parse_block(twice.as_bytes()).expect_err("which one counts?");
    assert_eq!((error.path.as_str(), error.reason.as_str()), ("block.hash", "it stands there twice"));
}

#[test]
fn what_is_not_needed_may_be_anything() {
    let mut block = sample().block;
    block["extra"] = json!({"a": ["\"}{\\", -1.5e-3, true, null, {}], "": [[], [[{"x\\\"": "\\\\"}]]]});
    block["transactions"][0]["accessList"] = json!([{"address": "0x12", "storageKeys": ["]", "}"]}]);
    assert_eq!(parse_block(block.to_string().as_bytes()).expect("it is whole"), plain::block(&block));
}

proptest! {
    /// The keys of one object are tried on the next: another order, keys that are left out, that are new, that begin like
    /// others, more of them than are remembered.
    #[test]
    fn no_object_is_misread_after_another(
        shapes in vec((any::<prop::sample::Index>(), vec("[a-z]{1,3}|addres|addresss|data0", 0..12)), 1..12),
    ) {
        let template = sample().logs()[0].clone();
        let block_hash = sample().hash();
        let fields: Vec<(String, Value)> = template.as_object().expect("a log").clone().into_iter().collect();
        let (mut expected, mut texts) = (Vec::new(), Vec::new());
        for (turn, extra) in &shapes {
            let mut fields = fields.clone();
            let turned = turn.index(fields.len());
            fields.rotate_left(turned);
            let mut log = template.clone();
            log["logIndex"] = format!("{:#x}", expected.len()).into();
            expected.push(plain::log(&log));
            let known = fields.iter().map(|(name, _)| format!("{name:?}:{}", log[name]));
            let unknown = extra.iter().map(|name| format!("{name:?}:[{name:?}]"));
            let mut members: Vec<String> = known.chain(unknown).collect();
            let turned = turn.index(members.len());
            members.rotate_right(turned);
            texts.push(format!("{{{}}}", members.join(",")));
        }
        let text = format!("[{}]", texts.join(","));
        prop_assert_eq!(parse_logs(text.as_bytes(), block_hash).expect("they are whole"), expected);
    }
}

#[test]
fn an_abyss_of_brackets_is_refused_and_not_descended_into() {
    let text = format!("{{\"x\":{}", "[".repeat(1 << 20));
    let error = parse_block(text.as_bytes()).expect_err("too deep");
    assert_eq!(error.reason, "too deeply nested");
}

#[test]
fn all_data_of_a_block_lies_in_one_buffer() {
    let block = sample();
    let logs = Value::Array(block.logs().into_iter().cloned().collect()).to_string();
    let logs = parse_logs(logs.as_bytes(), block.hash()).expect("they are whole");
    let ends = logs.windows(2).map(|pair| (pair[0].data.as_ptr_range().end, pair[1].data.as_ptr()));
    assert!(ends.into_iter().all(|(end, start)| end == start));
}

#[test]
fn real_blocks_are_read_as_a_plain_reading_reads_them() {
    #[expect(
        clippy::disallowed_methods,
        reason = "real blocks are not part of the repository; the variable names them"
    )]
    let Ok(directory) = std::env::var("HEADWATER_MAINNET") else {
        eprintln!("SKIPPED: HEADWATER_MAINNET is not set; no real block was compared");
        return;
    };
    let mut compared = 0;
    let files = std::fs::read_dir(PathBuf::from(directory).join("blocks")).expect("the blocks are there");
    for file in files {
        let file = std::fs::File::open(file.expect("readable").path()).expect("readable");
        let mut text = String::new();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("it decompresses");
        let recorded: Value = serde_json::from_str(&text).expect("it is JSON");
        compare(&FakeBlock::from_recorded(&recorded).expect("it is a block"));
        compared += 1;
    }
    assert!(compared >= 8, "{compared} real blocks compared");
    eprintln!("{compared} real blocks compared");
}

fn pending_text(fields: &str) -> String {
    format!(
        r#"{{"hash":"0x{}","from":"0x{}","to":null,"value":"0x1","input":"0xabcd","nonce":"0x7","gas":"0x5208",{fields}}}"#,
        "11".repeat(32),
        "22".repeat(20)
    )
}

#[test]
fn a_pending_transaction_has_the_fees_of_its_type() {
    let check = |fields: &str, expected: Result<Option<(u128, Option<u128>)>, &str>| {
        let parsed = parse_pending(pending_text(fields).as_bytes());
        match (parsed, expected) {
            (Ok(Some(pending)), Ok(Some(fees))) => {
                assert_eq!((pending.max_fee_per_gas, pending.max_priority_fee_per_gas), fees, "{fields}");
                assert_eq!((pending.transaction.nonce, pending.transaction.input.len()), (7, 2));
            }
            (Ok(None), Ok(None)) => {}
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (parsed, expected) => panic!("{fields}: {parsed:?} in place of {expected:?}"),
        }
    };
    check(r#""gasPrice":"0x5""#, Ok(Some((5, None))));
    check(r#""type":"0x1","gasPrice":"0x5","blockHash":null"#, Ok(Some((5, None))));
    let london = r#""type":"0x2","gasPrice":"0x5","maxFeePerGas":"0x9","maxPriorityFeePerGas":"0x2""#;
    check(london, Ok(Some((9, Some(2)))));
    check(&format!(r#"{london},"blockHash":"0x{}""#, "33".repeat(32)), Ok(None));
    check(r#""type":"0x2","gasPrice":"0x5""#, Err("maxPriorityFeePerGas"));
    check(r#""type":"0x0""#, Err("maxFeePerGas"));
    check(r#""type":"0x3","gasPrice":"0x5""#, Err("type"));
    check(r#""type":"0x4","gasPrice":"0x5""#, Err("type"));
    check(r#""gasPrice":"0x100000000000000000000000000000000""#, Err("gasPrice"));
    check(r#""gasPrice":"0x5","gasPrice":"0x6""#, Err("twice"));
}
