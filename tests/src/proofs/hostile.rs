//! Hostile tokens, factories and pools, loaded by the bot's own loader from a node whose tokens are EVM programs: refused with a
//! reason and never quoted, each beside an honest twin that is.

use alloy_primitives::{Address, B256, Bloom, U256};
use anyhow::{Context, ensure};
use headwater_events::{BlockEvent, BusEvent, Envelope, Grade, Header, Log, Protocol, RunId, TokenVerdict};
use headwater_market::{FactoryConfig, MarketConfig, MarketSnapshot, Preset, ResolvedMarket};
use headwater_node::{Node, NodeConfig};
use headwater_reference::fake_node::{BlockBuilder, FakeNode, V2Pair, V2World, sync_topic};
use headwater_reference::tokens::Habit;
use headwater_state::{BulkLoad, World, bulk_load};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::proof::{Proof, ProofArgs, Report};
use crate::replayed::runtime;

/// Tokens, lying factories, reserves at the maximum, a flood of fake pools.
pub const HOSTILE: Proof = Proof {
    name: "hostile",
    about: "hostile tokens of twelve habits, lying factories, greatest reserves and a thousand fake pools: refused with a reason, never quoted; their honest twins are",
    full_duration: "2 min",
    run,
};

const CHAIN_ID: u64 = 5;

/// Fake pools of a flood, and how many of them may be remembered.
const FLOOD: usize = 1_000;
const REMEMBERED: usize = 64;

/// The most that a pair can hold of a token.
const GREATEST: u128 = (1 << 112) - 1;

#[derive(Debug, Default)]
struct Tally {
    refused: u64,
    quoted: u64,
    lies: u64,
    fakes: u64,
    reasons: std::collections::BTreeMap<String, u64>,
}

/// A token that is to be refused, and why.
struct Hostile {
    decimals: u8,
    habit: Habit,
    reason: &'static str,
}

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    let mut tally = Tally::default();
    let rounds = if args.quick { 3 } else { 60 };
    let runtime = runtime(2)?;
    for round in 0..rounds {
        runtime
            .block_on(play(&mut random, &mut tally))
            .with_context(|| format!("round {round}, seed {}", args.seed))?;
    }
    let Tally { refused, quoted, lies, fakes, reasons } = &tally;
    let told = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>();
    let lines = vec![
        format!("{refused} hostile tokens refused before their pools were quoted: {}", told.join(", ")),
        format!("  {quoted} pools of honest twins quoted, a third of them at the greatest reserves"),
        format!("{lies} contracts that a lying factory lists refused"),
        format!("{fakes} fake pools that emit Sync: none tracked, {REMEMBERED} remembered at most"),
    ];
    let checked = refused + quoted + lies + fakes;
    let floor = rounds * (12 + 12 + 2 + FLOOD as u64);
    Ok(Report { checked, floor, skipped: 0, seed: args.seed, lines })
}

async fn play(random: &mut ChaCha8Rng, tally: &mut Tally) -> anyhow::Result<()> {
    let [factory, native] = [(); 2].map(|()| Address::from(random.random::<[u8; 20]>()));
    let market = market(factory, native, random.random())?;
    let mut world = V2World::default().factory(factory).token(native, 18, "NATIVE");
    let mut cases = Vec::new();
    for place in 0..12 {
        let twin = pool(random, &market, native, place);
        world = world.token(other(&twin, native), random.random_range(1..=77), "TWIN").pair(twin);
        let pair = pool(random, &market, native, place);
        let hostile = hostile(random, place, pair.address);
        world = world.hostile_token(other(&pair, native), hostile.decimals, hostile.habit).pair(pair);
        cases.push((hostile, pair, twin));
    }
    let lies = [pool(random, &market, native, 0), pool(random, &market, native, 0)];
    let lies = lies.map(|pair| V2Pair { address: Address::from(random.random::<[u8; 20]>()), ..pair });
    for lie in lies {
        world = world.token(other(&lie, native), 18, "LIE").pair(lie);
    }
    let (fake, url) = FakeNode::start(CHAIN_ID).await?;
    let block = BlockBuilder::first(100).build();
    fake.push_block(block.clone());
    fake.answer_v2(world);
    let (node, _) = Node::connect_first(&NodeConfig::new(vec![url.parse()?])).await?;
    let load = bulk_load(&node, &market, block.hash(), |_, _| {}).await?;
    ensure!(load.report.refused == 2, "{} contracts of the lying factory were refused", load.report.refused);
    tally.lies += load.report.refused;

    let mut flooded = World::new(&market);
    let snapshot = followed(random, &mut flooded, &load, block.hash())?;
    for lie in &lies {
        ensure!(snapshot.pools.find(&lie.address).is_none(), "a lie of its factory is tracked");
    }
    for (hostile, pair, twin) in &cases {
        let token = other(pair, native);
        let reason = refusal(&load, token).with_context(|| format!("{:?} is not refused", hostile.habit))?;
        ensure!(reason.starts_with(hostile.reason), "{:?}: {reason}", hostile.habit);
        *tally.reasons.entry(hostile.reason.to_owned()).or_default() += 1;
        ensure!(!is_quoted(&snapshot, pair.address), "a pool of {:?} is quoted", hostile.habit);
        tally.refused += 1;
        ensure!(refusal(&load, other(twin, native)).is_none(), "an honest token is refused");
        ensure!(is_quoted(&snapshot, twin.address), "a pool of an honest token is not quoted");
        tally.quoted += 1;
    }
    let counts = flooded.counts();
    ensure!(counts.candidates == REMEMBERED as u64, "{} fake pools are remembered", counts.candidates);
    ensure!(counts.book.candidates_refused == (FLOOD - REMEMBERED) as u64, "{:?}", counts.book);
    ensure!(counts.pools == load.report.pools, "a fake pool is tracked");
    tally.fakes += FLOOD as u64;
    Ok(())
}

fn market(factory: Address, native: Address, init_code_hash: [u8; 32]) -> anyhow::Result<ResolvedMarket> {
    let config = MarketConfig {
        preset: Some(Preset::None),
        wrapped_native: Some(native.to_string()),
        max_candidates: Some(REMEMBERED),
        factories: vec![FactoryConfig {
            protocol: Protocol::UniswapV2,
            name: None,
            address: factory.to_string(),
            init_code_hash: Some(B256::from(init_code_hash).to_string()),
            fee_ppm: 3_000,
        }],
        ..MarketConfig::default()
    };
    Ok(ResolvedMarket::resolve(&config, CHAIN_ID)?)
}

/// A pool of the native token and a new one; every third holds all that it can.
fn pool(random: &mut ChaCha8Rng, market: &ResolvedMarket, native: Address, place: usize) -> V2Pair {
    let token = Address::from(random.random::<[u8; 20]>());
    let (token0, token1) = (native.min(token), native.max(token));
    let factory = &market.factories[0];
    let [reserve0, reserve1] = [(); 2].map(|()| match place % 3 {
        0 => GREATEST,
        _ => 1 << random.random_range(10..100),
    });
    let address = factory.derive(token0, token1).unwrap_or_default();
    V2Pair { address, factory: factory.address, token0, token1, reserve0, reserve1 }
}

fn other(pair: &V2Pair, native: Address) -> Address {
    if pair.token0 == native { pair.token1 } else { pair.token0 }
}

fn hostile(random: &mut ChaCha8Rng, place: usize, pool: Address) -> Hostile {
    let ppm = random.random_range(10_000..=1_000_000);
    let (habit, reason) = match place {
        0 => (Habit::Fee(ppm), "inexact"),
        1 => (Habit::FeeTo(pool, ppm), "inexact"),
        2 => (Habit::OnlyFrom(pool), "transfer-fails"),
        3 => (Habit::OnlyFrom(Address::from(random.random::<[u8; 20]>())), "transfer-fails"),
        4 => (Habit::Once, "transfer-fails"),
        5 => (Habit::Endless, "gas"),
        6 => (Habit::Verbose(random.random_range(0..1_000)), "transfer-fails"),
        7 => (Habit::Verbose(random.random_range(1 << 26..=u32::MAX)), "gas"),
        8 => (Habit::Denies, "no-success"),
        9 => (Habit::Grows, "inexact"),
        _ => (Habit::Ordinary, "decimals"),
    };
    let decimals = match place {
        10 => 0,
        11 => random.random_range(78..=255),
        _ => random.random_range(1..=77),
    };
    Hostile { decimals, habit, reason }
}

/// The market as of the block behind the load, in which a thousand strangers say what they hold.
fn followed(
    random: &mut ChaCha8Rng,
    world: &mut World,
    load: &BulkLoad,
    parent_hash: B256,
) -> anyhow::Result<std::sync::Arc<MarketSnapshot>> {
    let logs: Vec<_> = (0..FLOOD as u32)
        .map(|log_index| Log {
            address: Address::from(random.random::<[u8; 20]>()),
            topics: [sync_topic()].into_iter().collect(),
            data: [U256::from(random.random::<u64>()), U256::from(GREATEST)]
                .map(|word| word.to_be_bytes::<32>())
                .concat()
                .into(),
            transaction_index: 0,
            log_index,
        })
        .collect();
    let header = Header {
        number: 101,
        hash: B256::from(random.random::<[u8; 32]>()),
        parent_hash,
        timestamp: 1_700_000_000,
        base_fee_per_gas: Some(1_000_000_000),
        gas_used: 15_000_000,
        gas_limit: 30_000_000,
        beneficiary: Address::ZERO,
        logs_bloom: Bloom::ZERO,
    };
    let block = BlockEvent { header, transactions: Vec::new(), logs, grade: Grade::Matched };
    let events = load.events.iter().cloned().chain([BusEvent::NewBlock(block)]);
    let mut applied = None;
    for (seq, event) in (1..).zip(events) {
        let envelope = Envelope { run_id: RunId(1), seq, received_at: 0, derived: None, event };
        applied = world.apply(&envelope)?;
    }
    Ok(applied.context("the block gives a snapshot")?.snapshot)
}

fn refusal(load: &BulkLoad, token: Address) -> Option<&str> {
    load.events.iter().find_map(|event| match event {
        BusEvent::TokenJudged(judged) if judged.token == token => match &judged.verdict {
            TokenVerdict::Refused(reason) => Some(reason.as_str()),
            TokenVerdict::Accepted { .. } => None,
        },
        _ => None,
    })
}

fn is_quoted(snapshot: &MarketSnapshot, pool: Address) -> bool {
    snapshot.pools.find(&pool).is_some_and(|id| snapshot.pools.quoted(id).is_some())
}
