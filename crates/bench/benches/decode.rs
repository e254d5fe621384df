//! Logs and calls into actions.

use std::hint::black_box;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headwater_decoder::{Input, Interface, Registry};
use headwater_events::Log;
use headwater_reference::calldata::{Contract, Random, Signed};

/// A log of a signature, with so many topics and words that hold small numbers.
fn log(signature: &str, topics: usize, words: usize) -> Log {
    let small = B256::with_last_byte(7);
    Log {
        address: Address::repeat_byte(1),
        topics: [keccak256(signature)].into_iter().chain(vec![small; topics - 1]).collect(),
        data: Bytes::from(vec![small; words].concat()),
        transaction_index: 0,
        log_index: 0,
    }
}

/// What a block is made of, roughly: mostly transfers, some swaps, a few of everything else.
fn block() -> Vec<Log> {
    let transfer = log("Transfer(address,address,uint256)", 3, 1);
    let sync = log("Sync(uint112,uint112)", 1, 2);
    let swap = log("Swap(address,uint256,uint256,uint256,uint256,address)", 3, 4);
    let v3_swap = log("Swap(address,address,int256,int256,uint160,uint128,int24)", 3, 5);
    let aave = log("ReserveDataUpdated(address,uint256,uint256,uint256,uint256,uint256)", 2, 5);
    let unknown = log("Approval(address,address,uint256)", 3, 1);
    let of = |log: &Log, count| vec![log.clone(); count];
    [of(&transfer, 350), of(&sync, 70), of(&swap, 70), of(&v3_swap, 80), of(&aave, 30), of(&unknown, 150)]
        .concat()
}

fn decode(criterion: &mut Criterion) {
    let (registry, logs) = (Registry::default(), block());
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(logs.len() as u64));
    group.bench_function("750 logs", |b| {
        b.iter(|| logs.iter().filter_map(|log| registry.event(black_box(log)).ok().flatten()).count());
    });

    let registry = registry.contracts(Interface::UniversalRouter, [Contract::UniversalRouter.address()]);
    let mut random = Random(1);
    let plans: Vec<_> = std::iter::repeat_with(|| Signed::random(&mut random, 2))
        .filter(|signed| signed.contract == Contract::UniversalRouter)
        .take(100)
        .collect();
    group.throughput(Throughput::Elements(plans.len() as u64));
    group.bench_function("100 plans for the Universal Router", |b| {
        b.iter(|| {
            let inputs = plans.iter().filter_map(|plan| {
                Input::new(plan.contract.address(), U256::ZERO, black_box(&plan.calldata))
            });
            inputs.filter_map(|input| registry.call(&input).ok().flatten()).count()
        });
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
