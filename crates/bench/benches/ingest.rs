//! A full block's text into events.

use std::hint::black_box;

use alloy_primitives::{Address, Bytes, keccak256};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headwater_ingest::{BloomBuilder, parse_block, parse_logs};
use headwater_reference::fake_node::{BlockBuilder, FakeLog, FakeTransaction, encode};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// 250 transactions, 600 logs; addresses and topics come from among some thousands, as in block after block.
fn full_block(random: &mut ChaCha8Rng) -> (Vec<u8>, Vec<u8>, alloy_primitives::B256) {
    let account = |random: &mut ChaCha8Rng| {
        Address::from_word(keccak256(random.random_range(0..12_000u64).to_be_bytes()))
    };
    let transactions = (0..250u64).map(|index| {
        let logs = (0..if index % 5 < 2 { 3 } else { 2 }).map(|_| FakeLog {
            address: account(random),
            topics: vec![
                keccak256("Transfer(address,address,uint256)"),
                account(random).into_word(),
                account(random).into_word(),
            ],
            data: Bytes::from(vec![7; 64]),
        });
        let logs = logs.collect();
        let mut input = vec![0u8; 4 + 32 * random.random_range(2..10usize)];
        random.fill(&mut input[..]);
        FakeTransaction {
            from: account(random),
            to: Some(account(random)),
            input: input.into(),
            nonce: index,
            ..FakeTransaction::emitting(logs)
        }
    });
    let block = BlockBuilder::first(1_000).transactions(transactions).build();
    let logs = Value::Array(block.logs().into_iter().cloned().collect());
    let text = |value: &Value| encode(value).into_bytes();
    (text(&block.block), text(&logs), block.hash())
}

fn ingest(criterion: &mut Criterion) {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (block, logs, hash) = full_block(&mut random);
    let mut group = criterion.benchmark_group("ingest");
    group.throughput(Throughput::Bytes(block.len() as u64));
    group.bench_function("block of 250 transactions", |b| b.iter(|| parse_block(black_box(&block))));
    group.throughput(Throughput::Bytes(logs.len() as u64));
    group.bench_function("600 logs", |b| b.iter(|| parse_logs(black_box(&logs), hash)));
    group.finish();

    let blocks: Vec<_> = (0..64)
        .map(|_| {
            let (_, logs, hash) = full_block(&mut random);
            parse_logs(&logs, hash).expect("generated")
        })
        .collect();
    let mut builder = BloomBuilder::default();
    let mut round = blocks.iter().cycle();
    criterion.bench_function("bloom of 600 logs", |b| {
        b.iter(|| builder.bloom(round.next().expect("it has no end")));
    });
}

criterion_group!(benches, ingest);
criterion_main!(benches);
