use alloy_primitives::{Address, B256, Bytes, U256, hex};
use headwater_abi::logs;
use headwater_events::{Grade, Header, Topics, V2Action};

use super::*;

const ROUTER: Address = Address::repeat_byte(0x7a);
const AS_OF: AsOf = AsOf { seq: 7, number: 3, hash: B256::repeat_byte(9) };

fn block(transactions: Vec<Transaction>, logs: Vec<Log>) -> BlockEvent {
    let header = Header {
        number: AS_OF.number,
        hash: AS_OF.hash,
        parent_hash: B256::ZERO,
        timestamp: 0,
        base_fee_per_gas: None,
        gas_used: 0,
        gas_limit: 0,
        beneficiary: Address::ZERO,
        logs_bloom: Default::default(),
    };
    BlockEvent { header, transactions, logs, grade: Grade::Proven }
}

fn transaction(to: Address, input: &[u8]) -> Transaction {
    Transaction {
        hash: B256::ZERO,
        from: Address::ZERO,
        to: Some(to),
        value: U256::from(5),
        input: Bytes::copy_from_slice(input),
        nonce: 0,
        gas_limit: 0,
    }
}

/// `swapExactETHForTokens(0, [0x01, 0x02], 0x03, 4)`
fn swap_call() -> Vec<u8> {
    let words = [0, 0x80, 3, 4, 2, 1, 2];
    let words = words.iter().flat_map(|word: &u8| B256::with_last_byte(*word));
    hex!("7ff36ab5").into_iter().chain(words).collect()
}

fn log(transaction_index: u32, log_index: u32, topic: B256, words: usize) -> Log {
    Log {
        address: Address::repeat_byte(1),
        topics: Topics::from_iter([topic]),
        data: vec![0; 32 * words].into(),
        transaction_index,
        log_index,
    }
}

fn sync(transaction_index: u32, log_index: u32) -> Log {
    log(transaction_index, log_index, logs::SYNC, 2)
}

/// The order of what was decoded: `t` and the transaction's place, or `l` and the log's.
fn places(decoded: &DecodedBlock) -> Vec<String> {
    let place = |action: &Action| match action {
        Action::Call { transaction_index, .. } => format!("t{transaction_index}"),
        Action::V2 { log_index, action: V2Action::Sync { .. }, .. } => format!("l{log_index}"),
        other => format!("{other:?}"),
    };
    decoded.actions.iter().map(place).collect()
}

fn check(
    transactions: Vec<Transaction>,
    logs: Vec<Log>,
    order: &[&str],
    [unknown_logs, unknown_calls, malformed]: [u32; 3],
) {
    let decoded = Decoder::new([ROUTER]).decode(&block(transactions, logs), AS_OF);
    assert_eq!(places(&decoded), order);
    assert_eq!(decoded.as_of, AS_OF);
    let counts = [decoded.unknown_logs, decoded.unknown_calls, decoded.malformed];
    assert_eq!(counts, [unknown_logs, unknown_calls, malformed]);
}

#[test]
fn a_call_comes_before_the_logs_of_its_transaction_and_after_earlier_ones() {
    let swap = || transaction(ROUTER, &swap_call());
    check(
        vec![transaction(Address::ZERO, &[]), swap(), swap(), swap()],
        vec![sync(0, 0), sync(1, 1), sync(1, 2), sync(3, 3)],
        &["l0", "t1", "l1", "l2", "t2", "t3", "l3"],
        [0; 3],
    );
}

#[test]
fn logs_of_a_block_whose_transactions_were_not_fetched_are_decoded() {
    check(vec![], vec![sync(0, 0), sync(4, 1)], &["l0", "l1"], [0; 3]);
}

#[test]
fn an_empty_block_decodes_to_nothing() {
    check(vec![], vec![], &[], [0; 3]);
}

#[test]
fn only_calls_of_known_routers_are_read() {
    check(vec![transaction(Address::repeat_byte(0x55), &swap_call())], vec![], &[], [0; 3]);
    let creation = Transaction { to: None, ..transaction(ROUTER, &swap_call()) };
    check(vec![creation], vec![], &[], [0; 3]);
}

#[test]
fn what_is_not_understood_is_counted_by_kind() {
    let truncated = &swap_call()[..100];
    check(
        vec![
            transaction(ROUTER, &hex!("e8e33700")), // addLiquidity
            transaction(ROUTER, truncated),
            transaction(ROUTER, &[]), // native tokens, nothing called
        ],
        vec![
            log(0, 0, B256::repeat_byte(3), 0),
            log(1, 1, logs::SYNC, 1),
            log(1, 2, logs::SYNC, 3),
            sync(2, 3),
        ],
        &["l3"],
        [1, 1, 3],
    );
}
