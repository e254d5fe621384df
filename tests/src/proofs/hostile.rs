//! Hostile tokens, factories and pools, loaded by the bot's own loader from a node whose tokens are EVM programs: refused with a
//! reason, never quoted and never in a finding, each beside an honest twin that is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_primitives::{Address, B256, Bloom, U256, keccak256};
use anyhow::{Context, ensure};
use headwater_detectors::{Arbitrage, ArbitrageConfig, Detector};
use headwater_events::{
    BlockEvent, BusEvent, DecodedBlock, Envelope, Grade, Header, Log, Protocol, RunId, TokenJudged,
    TokenVerdict,
};
use headwater_market::{
    FactoryConfig, MarketConfig, MarketSnapshot, Preset, PriceSnapshot, ResolvedMarket, Touched, WholeView,
};
use headwater_node::{Node, NodeConfig};
use headwater_reference::fake_node::{BlockBuilder, FakeNode, V2Pair, V2World, sync_topic};
use headwater_reference::tokens::Habit;
use headwater_state::{AppliedBlock, BulkLoad, Subject, World, bulk_load};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::proof::{Proof, ProofArgs, Report};
use crate::replayed::runtime;

/// Tokens, lying factories, reserves at the maximum, unjudged tokens, a flood of fake pools.
pub const HOSTILE: Proof = Proof {
    name: "hostile",
    about: "hostile tokens of twelve habits, lying factories, greatest reserves, pools of tokens that nobody has judged and a thousand fake pools: never quoted and in no finding; honest twins are",
    full_duration: "2 min",
    run,
};

const CHAIN_ID: u64 = 5;

/// Hostile tokens of a round, and honest ones.
const TOKENS: usize = 12;

/// Fake pools of a flood, and how many of them may be remembered.
const FLOOD: usize = 1_000;
const REMEMBERED: usize = 64;

/// The most that a pair can hold of a token.
const GREATEST: u128 = (1 << 112) - 1;

#[derive(Debug, Default)]
struct Tally {
    refused: u64,
    quoted: u64,
    findings: u64,
    lies: u64,
    created: u64,
    fakes: u64,
    reasons: BTreeMap<String, u64>,
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
    let Tally { refused, quoted, findings, lies, created, fakes, reasons } = &tally;
    let told = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>();
    let lines = vec![
        format!("{refused} hostile tokens refused before their pools were quoted: {}", told.join(", ")),
        format!("  {quoted} pools of honest twins quoted, a third of them at the greatest reserves"),
        format!(
            "  {findings} findings: every honest twin whose pools are not full is in one, no hostile token is"
        ),
        format!("{lies} contracts that a lying factory lists refused"),
        format!("{created} pools that blocks created not quoted before the verdict, and then"),
        format!("{fakes} fake pools that emit Sync: none tracked, {REMEMBERED} remembered at most"),
    ];
    let checked = refused + quoted + lies + created + fakes;
    let floor = rounds * (TOKENS as u64 * 3 + 2 + 1 + FLOOD as u64);
    Ok(Report { checked, floor, skipped: 0, seed: args.seed, lines })
}

/// A token with its two pools, which disagree about its price.
struct Case {
    pools: [V2Pair; 2],
    token: Address,
    /// `None`: it is honest.
    hostile: Option<Hostile>,
}

async fn play(random: &mut ChaCha8Rng, tally: &mut Tally) -> anyhow::Result<()> {
    let [one, two, native] = [(); 3].map(|()| Address::from(random.random::<[u8; 20]>()));
    let market = market([one, two], native, random.random())?;
    let world = V2World::default().factory(one).factory(two).token(native, 18, "NATIVE");
    let (mut world, cases) = populate(random, world, &market, native);
    let lies = [(); 2].map(|()| {
        let [honest, _] = pools(random, &market, native, 1);
        V2Pair { address: Address::from(random.random::<[u8; 20]>()), ..honest }
    });
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

    let mut follower = Follower { world: World::new(&market), head: (100, block.hash()), seq: 0 };
    for event in &load.events {
        follower.take(event.clone())?;
    }
    let [created, _] = pools(random, &market, native, 1);
    let logs =
        (0..FLOOD).map(|_| sync(Address::from(random.random::<[u8; 20]>()), random.random(), GREATEST));
    let logs = [pair_created(&created)].into_iter().chain(logs).chain([sync_of(&created)]).collect();
    let followed = follower.block(random, logs)?;
    let snapshot = &followed.snapshot;
    for lie in &lies {
        ensure!(snapshot.pools.find(&lie.address).is_none(), "a lie of its factory is tracked");
    }
    judge_verdicts(&load, snapshot, &cases, tally)?;
    judge_findings(snapshot, &cases, native, tally)?;
    let counts = follower.world.counts();
    ensure!(counts.candidates == REMEMBERED as u64, "{} fake pools are remembered", counts.candidates);
    ensure!(counts.book.candidates_refused == (FLOOD - REMEMBERED) as u64, "{:?}", counts.book);
    ensure!(counts.pools == load.report.pools + 1, "a fake pool is tracked");
    tally.fakes += FLOOD as u64;
    judge_created(random, &mut follower, &followed, &created, native)?;
    tally.created += 1;
    Ok(())
}

/// Honest and hostile tokens by turns.
fn populate(
    random: &mut ChaCha8Rng,
    mut world: V2World,
    market: &ResolvedMarket,
    native: Address,
) -> (V2World, Vec<Case>) {
    let mut cases = Vec::new();
    for place in 0..TOKENS {
        for is_hostile in [false, true] {
            let pools = pools(random, market, native, place);
            let token = other(&pools[0], native);
            let hostile = is_hostile.then(|| hostile(random, place, pools[0].address));
            world = match &hostile {
                None => world.token(token, random.random_range(1..=77), "TWIN"),
                Some(hostile) => world.hostile_token(token, hostile.decimals, hostile.habit),
            };
            world = pools.into_iter().fold(world, V2World::pair);
            cases.push(Case { pools, token, hostile });
        }
    }
    (world, cases)
}

fn judge_verdicts(
    load: &BulkLoad,
    snapshot: &MarketSnapshot,
    cases: &[Case],
    tally: &mut Tally,
) -> anyhow::Result<()> {
    for Case { pools, token, hostile } in cases {
        let quoted = pools.iter().filter(|pool| is_quoted(snapshot, pool.address)).count();
        let Some(hostile) = hostile else {
            ensure!(refusal(load, *token).is_none(), "an honest token is refused");
            ensure!(quoted == pools.len(), "a pool of an honest token is not quoted");
            tally.quoted += quoted as u64;
            continue;
        };
        let reason = refusal(load, *token).with_context(|| format!("{:?} is not refused", hostile.habit))?;
        ensure!(reason.starts_with(hostile.reason), "{:?}: {reason}", hostile.habit);
        ensure!(quoted == 0, "a pool of {:?} is quoted", hostile.habit);
        *tally.reasons.entry(hostile.reason.to_owned()).or_default() += 1;
        tally.refused += 1;
    }
    Ok(())
}

/// The two pools of every token disagree, so that each would be in a finding if it were quoted.
fn judge_findings(
    snapshot: &Arc<MarketSnapshot>,
    cases: &[Case],
    native: Address,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let as_of = snapshot.as_of;
    let prices =
        PriceSnapshot { as_of, quote: native, prices: Default::default(), sources: Default::default() };
    let decoded = DecodedBlock {
        as_of,
        actions: Vec::new(),
        unknown_logs: 0,
        unknown_calls: 0,
        malformed: 0,
        set_aside: false,
    };
    let view = WholeView::new(Arc::clone(snapshot), Arc::new(prices), Arc::new(decoded), Touched::All)?;
    let config = ArbitrageConfig { profit_after_gas: false, ..ArbitrageConfig::default() };
    let found = Arbitrage::new(config, vec![native]).evaluate(&view);
    let used: BTreeSet<Address> = found.iter().flat_map(|found| found.path.iter().copied()).collect();
    let honest = cases.iter().filter(|case| case.hostile.is_none()).flat_map(|case| &case.pools);
    // Nothing can be added to what a pair holds at most.
    let honest = honest.filter(|pool| pool.reserve0.max(pool.reserve1) < GREATEST);
    let honest: BTreeSet<Address> = honest.map(|pool| pool.address).collect();
    ensure!(used == honest, "findings lead through {used:?}, and honest pools are {honest:?}");
    tally.findings += found.len() as u64;
    Ok(())
}

/// A pool that the last block created: asked about, and quoted once the verdict has come.
fn judge_created(
    random: &mut ChaCha8Rng,
    follower: &mut Follower,
    followed: &AppliedBlock,
    created: &V2Pair,
    native: Address,
) -> anyhow::Result<()> {
    ensure!(!is_quoted(&followed.snapshot, created.address), "a pool of an unjudged token is quoted");
    let token = other(created, native);
    let question = Subject::Token { token, holder: created.address };
    let requests = follower.world.requests(followed);
    ensure!(requests.iter().any(|request| request.subject == question), "nobody asks about {token}");
    let verdict = TokenVerdict::Accepted { decimals: 18, symbol: String::new() };
    follower.take(BusEvent::TokenJudged(TokenJudged { token, verdict }))?;
    let judged = follower.block(random, Vec::new())?;
    ensure!(is_quoted(&judged.snapshot, created.address), "a created pool is not quoted after the verdict");
    Ok(())
}

fn market(
    factories: [Address; 2],
    native: Address,
    init_code_hash: [u8; 32],
) -> anyhow::Result<ResolvedMarket> {
    let factory = |address: Address| FactoryConfig {
        protocol: Protocol::UniswapV2,
        name: None,
        address: address.to_string(),
        init_code_hash: Some(B256::from(init_code_hash).to_string()),
        fee_ppm: 3_000,
    };
    let config = MarketConfig {
        preset: Some(Preset::None),
        wrapped_native: Some(native.to_string()),
        max_candidates: Some(REMEMBERED),
        factories: factories.map(factory).into(),
        ..MarketConfig::default()
    };
    Ok(ResolvedMarket::resolve(&config, CHAIN_ID)?)
}

/// A pool of the native token and a new one, and one of the other factory that holds three quarters of the token; in every third
/// place the first holds all that it can.
fn pools(random: &mut ChaCha8Rng, market: &ResolvedMarket, native: Address, place: usize) -> [V2Pair; 2] {
    let token = Address::from(random.random::<[u8; 20]>());
    let (token0, token1) = (native.min(token), native.max(token));
    let held = [(); 2].map(|()| match place % 3 {
        0 => GREATEST,
        _ => 1 << random.random_range(40..100),
    });
    let less = |holds: Address, amount: u128| if holds == token { amount / 4 * 3 } else { amount };
    [(0, held), (1, [less(token0, held[0]), less(token1, held[1])])].map(|(at, [reserve0, reserve1])| {
        let factory = &market.factories[at];
        let address = factory.derive(token0, token1).unwrap_or_default();
        V2Pair { address, factory: factory.address, token0, token1, reserve0, reserve1 }
    })
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

fn sync(pool: Address, reserve0: u64, reserve1: u128) -> Log {
    let words = [U256::from(reserve0), U256::from(reserve1)];
    log(pool, vec![sync_topic()], words)
}

fn sync_of(pool: &V2Pair) -> Log {
    log(pool.address, vec![sync_topic()], [pool.reserve0, pool.reserve1].map(U256::from))
}

fn pair_created(pool: &V2Pair) -> Log {
    let topic = keccak256("PairCreated(address,address,address,uint256)");
    let topics = vec![topic, pool.token0.into_word(), pool.token1.into_word()];
    log(pool.factory, topics, [pool.address.into_word().into(), U256::from(1)])
}

fn log(address: Address, topics: Vec<B256>, words: [U256; 2]) -> Log {
    let data = words.map(|word| word.to_be_bytes::<32>()).concat().into();
    Log { address, topics: topics.into_iter().collect(), data, transaction_index: 0, log_index: 0 }
}

/// Somebody who follows the chain behind the load.
struct Follower {
    world: World,
    head: (u64, B256),
    seq: u64,
}

impl Follower {
    fn take(&mut self, event: BusEvent) -> anyhow::Result<Option<AppliedBlock>> {
        self.seq += 1;
        let envelope = Envelope { run_id: RunId(1), seq: self.seq, received_at: 0, derived: None, event };
        Ok(self.world.apply(&envelope)?)
    }

    fn block(&mut self, random: &mut ChaCha8Rng, logs: Vec<Log>) -> anyhow::Result<AppliedBlock> {
        let (number, parent_hash) = (self.head.0 + 1, self.head.1);
        let hash = B256::from(random.random::<[u8; 32]>());
        let header = Header {
            number,
            hash,
            parent_hash,
            timestamp: 1_700_000_000,
            base_fee_per_gas: Some(1_000_000_000),
            gas_used: 15_000_000,
            gas_limit: 30_000_000,
            beneficiary: Address::ZERO,
            logs_bloom: Bloom::ZERO,
        };
        self.head = (number, hash);
        let block = BlockEvent { header, transactions: Vec::new(), logs, grade: Grade::Matched };
        self.take(BusEvent::NewBlock(block))?.context("a block gives a snapshot")
    }
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
