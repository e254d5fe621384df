//! A full block into the market and into prices: one after the other, and as in production, where everything else that
//! ran since the last block has emptied the caches.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use criterion::{Criterion, criterion_group, criterion_main};
use headwater_abi::logs;
use headwater_bench::Evictor;
use headwater_events::{
    BlockEvent, BusEvent, Envelope, Grade, Header, Log, MarketLoaded, PoolLoaded, PoolProof, Protocol, RunId,
};
use headwater_market::{MarketConfig, ResolvedMarket};
use headwater_oracle::{Oracle, OracleConfig};
use headwater_state::World;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const POOLS: u64 = 10_000;
const TOUCHED: usize = 50;
const LOGS: usize = 600;
const WETH: Address = Address::repeat_byte(0xee);
const FACTORY: Address = Address::repeat_byte(0xfa);

fn named(kind: &str, number: u64) -> Address {
    Address::from_word(keccak256(format!("{kind} {number}")))
}

fn market() -> ResolvedMarket {
    let text = format!(
        "preset = 'none'\nmax_pools = 1000000\nwrapped_native = '{WETH}'\n[[factories]]\nprotocol = 'uniswap-v2'\naddress = '{FACTORY}'"
    );
    let config: MarketConfig = toml::from_str(&text).expect("a market table");
    ResolvedMarket::resolve(&config, 31_337).expect("complete")
}

fn envelope(seq: u64, event: BusEvent) -> Envelope {
    Envelope { run_id: RunId(0), seq, received_at: 0, derived: None, event }
}

/// Seven of ten pools hold the wrapped native token.
fn loaded(number: u64) -> BusEvent {
    let token = named("token", number * 3 / 5);
    let other = if number % 10 < 7 { WETH } else { named("token", number * 3 / 5 + 1) };
    BusEvent::PoolLoaded(PoolLoaded {
        pool: named("pool", number),
        factory: FACTORY,
        protocol: Protocol::UniswapV2,
        token0: token.min(other),
        token1: token.max(other),
        fee_ppm: 3_000,
        reserves: Some((10u128.pow(20), 10u128.pow(21))),
        block_number: 0,
        block_hash: hash(0),
        proof: PoolProof::FactoryAnswer,
    })
}

fn hash(block: u64) -> B256 {
    U256::from(0x1000 + block).into()
}

/// Some `Sync`, and transfers.
fn block(number: u64, random: &mut ChaCha8Rng) -> BusEvent {
    let transfer = keccak256("Transfer(address,address,uint256)");
    let mut all: Vec<Log> = (0..LOGS as u32)
        .map(|log_index| Log {
            address: named("token", random.random_range(0..POOLS)),
            topics: [transfer, B256::repeat_byte(1), B256::repeat_byte(2)].into_iter().collect(),
            data: Bytes::from(vec![0; 32]),
            transaction_index: log_index / 3,
            log_index,
        })
        .collect();
    for log in all.iter_mut().step_by(LOGS / TOUCHED) {
        let (reserve0, reserve1) =
            (random.random_range(1..10u128.pow(22)), random.random_range(1..10u128.pow(22)));
        log.address = named("pool", random.random_range(0..POOLS));
        log.topics = [logs::SYNC].into_iter().collect();
        log.data = [reserve0, reserve1].map(|held| U256::from(held).to_be_bytes::<32>()).concat().into();
    }
    let header = Header {
        number,
        hash: hash(number),
        parent_hash: hash(number - 1),
        timestamp: 0,
        base_fee_per_gas: Some(1_000_000_000),
        gas_used: 15_000_000,
        gas_limit: 30_000_000,
        beneficiary: Address::ZERO,
        logs_bloom: Default::default(),
    };
    BusEvent::NewBlock(BlockEvent { header, transactions: Vec::new(), logs: all, grade: Grade::Matched })
}

fn apply(criterion: &mut Criterion) {
    let market = market();
    let mut world = World::new(&market);
    let mut oracle = Oracle::new(&market, &OracleConfig::default());
    let mut seq = 0;
    let mut next = |event| {
        seq += 1;
        envelope(seq, event)
    };
    for number in 0..POOLS {
        let event = next(loaded(number));
        world.apply(&event).expect("it is in order");
        oracle.apply(&event).expect("it is in order");
    }
    let event =
        next(BusEvent::MarketLoaded(MarketLoaded { number: 0, hash: hash(0), chain_id: 1, pools: POOLS }));
    world.apply(&event).expect("it is in order");
    oracle.apply(&event).expect("it is in order");

    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut blocks = (1..).map(|number| next(block(number, &mut random)));
    let blocks: Vec<Envelope> = blocks.by_ref().take(256).collect();
    // The chain begins anew after the last of them: what is cloned shares all that it does not change.
    criterion.bench_function("256 blocks into the market", |b| {
        b.iter(|| {
            let mut world = world.clone();
            blocks.iter().for_each(|block| drop(world.apply(block).expect("they follow")));
        });
    });
    criterion.bench_function("256 blocks into prices", |b| {
        b.iter(|| {
            let mut oracle = oracle.clone();
            blocks.iter().for_each(|block| drop(oracle.apply(block).expect("they follow")));
        });
    });

    let mut cold = Evictor::default();
    criterion.bench_function("a block into the market, cold", |b| {
        b.iter_custom(|rounds| {
            cold.timed(rounds, &blocks, || world.clone(), |world, block| drop(world.apply(block)))
        });
    });
    criterion.bench_function("a block into prices, cold", |b| {
        b.iter_custom(|rounds| {
            cold.timed(rounds, &blocks, || oracle.clone(), |oracle, block| drop(oracle.apply(block)))
        });
    });
}

criterion_group!(benches, apply);
criterion_main!(benches);
