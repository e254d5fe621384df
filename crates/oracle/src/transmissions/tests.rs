use alloy_primitives::{B256, Bytes, I256, U256};
use headwater_events::{Grade, Header, Log};
use headwater_reference::calldata::{Abi, call, event};

use super::*;

const AGGREGATOR: Address = Address::repeat_byte(0xa9);
const ORACLE: Address = Address::repeat_byte(0x01);
const LIMITS: PoolLimits = PoolLimits { transactions: 16, bytes: 1 << 20, age: Duration::from_secs(60) };

fn int(value: i64) -> Abi {
    Abi::Word(I256::try_from(value).expect("it fits").into_raw().into())
}

fn word(value: u64) -> Abi {
    Abi::Word(U256::from(value).into())
}

/// `transmit` of version 2, of an epoch and round, observed at second 1,000.
fn transmit(epoch_and_round: u64, observations: &[i64]) -> Vec<u8> {
    let observations = Abi::Array(observations.iter().map(|value| int(*value)).collect());
    let report = headwater_reference::calldata::encode(&[word(1_000), word(0), observations, int(0)]);
    let context = [word(0), word(epoch_and_round), word(0)];
    let empty = || Abi::Array(Vec::new());
    let arguments: Vec<Abi> =
        context.into_iter().chain([Abi::Bytes(report), empty(), empty(), word(0)]).collect();
    call("transmit(bytes32[3],bytes,bytes32[],bytes32[],bytes32)", &arguments)
}

fn forward(to: Address, input: Vec<u8>) -> Vec<u8> {
    call("forward(address,bytes)", &[Abi::Word(to.into_word()), Abi::Bytes(input)])
}

fn pending(hash: u8, to: Address, nonce: u64, fee: u128, input: Vec<u8>) -> Arc<PendingTxEvent> {
    let transaction = Transaction {
        hash: B256::repeat_byte(hash),
        from: ORACLE,
        to: Some(to),
        value: U256::ZERO,
        input: Bytes::from(input),
        nonce,
        gas_limit: 400_000,
    };
    Arc::new(PendingTxEvent { transaction, max_fee_per_gas: fee, max_priority_fee_per_gas: None })
}

fn is_followed(aggregator: &Address) -> bool {
    *aggregator == AGGREGATOR
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A block with these transactions; each of the aggregator's was taken.
fn block(hash: u8, mined: &[&Arc<PendingTxEvent>]) -> BlockEvent {
    let header = Header {
        number: 1,
        hash: B256::repeat_byte(hash),
        parent_hash: B256::ZERO,
        timestamp: 0,
        base_fee_per_gas: None,
        gas_used: 0,
        gas_limit: 0,
        beneficiary: Address::ZERO,
        logs_bloom: Default::default(),
    };
    let transactions: Vec<_> = mined.iter().map(|pending| pending.transaction.clone()).collect();
    let logs = transactions.iter().zip(0..).map(|(transaction, index)| {
        let observations = Abi::Array(vec![int(5)]);
        let data = [
            int(5),
            Abi::Word(transaction.from.into_word()),
            word(1_000),
            observations,
            Abi::Bytes(vec![0]),
            int(0),
            word(0),
            word(1),
        ];
        let signature = "NewTransmission(uint32,int192,address,uint32,int192[],bytes,int192,bytes32,uint40)";
        let (topics, data) = event(signature, &[U256::ONE.into()], &data);
        Log {
            address: AGGREGATOR,
            topics: topics.into_iter().collect(),
            data: data.into(),
            transaction_index: index,
            log_index: index,
        }
    });
    let logs = logs.collect();
    BlockEvent { header, transactions, logs, grade: Grade::Proven }
}

fn answers(transmissions: &Transmissions) -> Vec<i64> {
    transmissions.reports().iter().map(|report| report.answer.try_into().expect("small")).collect()
}

fn seen(all: &[&Arc<PendingTxEvent>]) -> Transmissions {
    let mut transmissions = Transmissions::new(LIMITS);
    for pending in all {
        transmissions.see(pending, is_followed, seconds(0));
    }
    transmissions
}

#[test]
fn a_report_is_worth_the_median_of_its_observations_directly_and_through_a_forwarder() {
    let forwarder = Address::repeat_byte(0xf0);
    let direct = pending(1, AGGREGATOR, 1, 1, transmit(10, &[30, 10, 20]));
    let through = pending(2, forwarder, 2, 1, forward(AGGREGATOR, transmit(11, &[1, 2, 3, 4])));
    let transmissions = seen(&[&direct, &through]);
    // Of an even number the upper one in the middle; the order is that of the report.
    assert_eq!(answers(&transmissions), [10, 3]);
    let reports = transmissions.reports();
    assert_eq!(reports[0].answer().transaction, direct.transaction.hash);
    assert_eq!((reports[1].observed_at, reports[1].sender), (Some(1_000), ReportSender::Unknown));
}

#[test]
fn what_nobody_reads_or_is_no_price_or_does_not_decode_is_none() {
    let foreign = pending(1, Address::repeat_byte(7), 1, 1, transmit(10, &[5]));
    let impossible = pending(2, AGGREGATOR, 2, 1, transmit(10, &[-5]));
    let cut = pending(3, AGGREGATOR, 3, 1, transmit(10, &[5])[..100].to_vec());
    let transmissions = seen(&[&foreign, &impossible, &cut]);
    let counts = transmissions.counts();
    assert!(answers(&transmissions).is_empty());
    assert_eq!((counts.foreign, counts.impossible, counts.malformed, counts.taken), (1, 1, 1, 0));
}

#[test]
fn a_report_is_gone_once_it_is_mined_replaced_or_old() {
    let first = pending(1, AGGREGATOR, 1, 1, transmit(10, &[5]));
    let mut transmissions = seen(&[&first]);
    transmissions.mine(&block(9, &[&first]), is_followed, seconds(12));
    assert!(answers(&transmissions).is_empty());

    let dearer = pending(2, AGGREGATOR, 1, 2, transmit(10, &[6]));
    assert_eq!(answers(&seen(&[&first, &dearer])), [6]);
    assert_eq!(answers(&seen(&[&dearer, &first])), [6], "it pays less");
    // Whatever has its nonce takes its place.
    let cancelled = pending(3, ORACLE, 1, 3, Vec::new());
    assert!(answers(&seen(&[&first, &cancelled])).is_empty());

    let mut transmissions = seen(&[&first]);
    let next = pending(4, AGGREGATOR, 2, 1, transmit(12, &[7]));
    assert!(transmissions.see(&next, is_followed, seconds(61)));
    assert_eq!(answers(&transmissions), [7]);
}

#[test]
fn a_report_that_was_overtaken_is_none_until_that_is_undone() {
    let first = pending(1, AGGREGATOR, 1, 1, transmit(10, &[5]));
    let mut other = PendingTxEvent::clone(&pending(2, AGGREGATOR, 1, 1, transmit(10, &[6])));
    other.transaction.from = Address::repeat_byte(2);
    let other = Arc::new(other);
    let mut transmissions = seen(&[&first]);
    transmissions.mine(&block(9, &[&other]), is_followed, seconds(12));
    assert_eq!((answers(&transmissions), transmissions.counts().stale), (vec![], 1));
    let late = pending(3, AGGREGATOR, 2, 1, transmit(9, &[7]));
    assert!(!transmissions.see(&late, is_followed, seconds(13)), "of an earlier round");
    let reorg = ReorgEvent {
        ancestor_number: 0,
        ancestor_hash: B256::ZERO,
        undone: vec![B256::repeat_byte(9)],
        old_head: B256::repeat_byte(9),
        new_head: B256::ZERO,
    };
    transmissions.undo(&reorg, is_followed, seconds(14));
    assert_eq!(answers(&transmissions), [5]);
}

#[test]
fn whoever_has_reported_is_known() {
    let first = pending(1, AGGREGATOR, 1, 1, transmit(10, &[5]));
    let next = pending(2, AGGREGATOR, 2, 1, transmit(11, &[6]));
    let mut transmissions = seen(&[&first, &next]);
    assert!(transmissions.reports().iter().all(|report| report.sender == ReportSender::Unknown));
    transmissions.mine(&block(9, &[&first]), is_followed, seconds(12));
    let reports = transmissions.reports();
    assert_eq!((reports.len(), reports[0].sender), (1, ReportSender::Known));
}
