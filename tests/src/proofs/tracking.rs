//! Pools followed by their logs alone, against the storage of the contracts that logged them: on a chain in memory, with every
//! way to arrive late, and on a real node, with the parts of the bot that load and follow; and the bot as it is started, which asks its
//! node for no state behind the load.

mod bot;
mod chain;
pub(super) mod exchange;
mod managed;
mod node;
pub(super) mod tap;

use anyhow::{Context, ensure};
use headwater_amm::ConcentratedPool;
use headwater_events::{
    BusEvent, ConcentratedLoaded, ConcentratedState, Envelope, LoadedTick, MarketLoaded, PoolProof, Protocol,
    RunId, V4Loaded,
};
use headwater_market::{
    ConcentratedBook, ConcentratedKey, FactoryConfig, MarketConfig, Preset, ResolvedMarket,
};
use headwater_reference::pools::{PlaceV3, PlaceV4, State, StoredTick};
use headwater_state::{World, WorldImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::chain::Chain;
use crate::devnet::Artifacts;
use crate::proof::{Proof, ProofArgs, Report};
use crate::replayed::runtime;

/// Every block, every reorganisation, every restart.
pub const TRACKING: Proof = Proof {
    name: "tracking",
    about: "real pools of Uniswap V3 and V4 followed by their logs alone, 3,000 blocks in memory; V2, V3 and V4 on anvil, loaded while heads come and go, 300 blocks: equal to their storage; the bot, 100 blocks: the same, and no call that reads state",
    full_duration: "10 min",
    run,
};

/// `POOL_INIT_CODE_HASH` in `PoolAddress.sol` of v3-periphery.
pub(super) const INIT_CODE_HASH: &str = "0xe34f199b19b2b4f47f68442619d555527d244f78a3297ea89325f843f87b8b54";

/// Blocks of a round, and how many rounds.
const BLOCKS: u64 = 300;
const ROUNDS: u64 = 10;

#[derive(Debug, Default)]
struct Tally {
    blocks: u64,
    reorgs: u64,
    deepest: usize,
    compared: u64,
    compared_v4: u64,
    ticks: u64,
    late_loads: u64,
    below_blocks: u64,
    refused_loads: u64,
    restores: u64,
    lost: u64,
    chain: chain::Counts,
}

/// Somebody who follows the chain.
struct Follower {
    world: World,
    seq: u64,
    /// It follows from the first block on, so that it has to know every pool.
    knows_all: bool,
    /// Readings that arrive at a height.
    coming: Vec<(u64, ConcentratedKey, BusEvent)>,
}

/// A pool as its contract stores it.
#[derive(Clone, Debug)]
struct Stored {
    place: Place,
    state: State,
    ticks: Vec<StoredTick>,
    /// V4's.
    protocol_fee: u32,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    V3(PlaceV3),
    V4(PlaceV4),
}

impl Place {
    fn spacing(&self) -> i32 {
        match self {
            Self::V3(place) => place.spacing,
            Self::V4(place) => place.spacing,
        }
    }

    fn key(&self) -> ConcentratedKey {
        match self {
            Self::V3(place) => ConcentratedKey::V3(place.pool),
            Self::V4(place) => ConcentratedKey::V4 { manager: place.manager, id: place.id() },
        }
    }
}

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let artifacts = Artifacts::install()?;
    let (factory, v4) = (artifacts.factory_v3()?, artifacts.manager_v4()?);
    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    let mut tally = Tally::default();
    let (rounds, blocks) = if args.quick { (1, 120) } else { (ROUNDS, BLOCKS) };
    for round in 0..rounds {
        let mut chain = Chain::create(&factory, &v4)?;
        play(&mut random, &mut chain, blocks, &mut tally)
            .with_context(|| format!("round {round}, seed {}", args.seed))?;
        tally.chain += chain.counts;
    }
    let Tally { compared, ticks, reorgs, deepest, late_loads, below_blocks, refused_loads, restores, .. } =
        tally;
    let acts = &tally.chain;
    let least = rounds * blocks / 20;
    for (what, count) in [
        ("reorganisations", reorgs),
        ("late readings", late_loads),
        ("readings with events above", below_blocks),
        ("restarts", restores),
        ("swaps", acts.swaps),
        ("mints", acts.mints),
        ("burns", acts.burns),
        ("logs of strangers", acts.strangers),
        ("swaps of V4", acts.v4.swaps),
        ("changes of liquidity of V4", acts.v4.changes),
    ] {
        ensure!(count >= least, "only {count} {what}, {least} at least: {tally:?}");
    }
    for (what, count) in [
        ("pools of V4", acts.v4.created),
        ("hooked pools of V4", acts.v4.hooked),
        ("pools of V4 with a dynamic fee", acts.v4.dynamic),
        ("protocol fees", acts.v4.protocol_fees),
        ("comparisons of V4", tally.compared_v4),
    ] {
        ensure!(count >= rounds, "only {count} {what}: {tally:?}");
    }
    ensure!(args.quick || deepest >= 60, "no reorganisation was deep: {deepest}");
    ensure!(args.quick || refused_loads > 0, "no reading was of an undone block");
    let on_node = follow_node(args, &mut random)?;
    let turns = if args.quick { 20 } else { 100 };
    let bot = bot::follow(turns, args.seed).with_context(|| format!("the bot, seed {}", args.seed))?;
    let mut lines = vec![
        format!(
            "{} blocks of real pools: {} created, {} swaps, {} mints, {} burns, {} logs of strangers",
            tally.blocks, acts.created, acts.swaps, acts.mints, acts.burns, acts.strangers
        ),
        format!(
            "  {} pools of V4 created in a real PoolManager, {} more with a hook and {} with a dynamic fee refused; {} swaps, {} \
             changes of liquidity and {} of the protocol's fee asked for",
            acts.v4.created,
            acts.v4.hooked,
            acts.v4.dynamic,
            acts.v4.swaps,
            acts.v4.changes,
            acts.v4.protocol_fees
        ),
        format!("  {reorgs} reorganisations, {deepest} blocks at most"),
        format!(
            "  {compared} times a pool was compared with its storage, {} times one of V4: price, tick, liquidity, {ticks} ticks, V4's \
             protocol fee",
            tally.compared_v4
        ),
        format!(
            "  {late_loads} pools taken up as of an earlier block, {below_blocks} under events of theirs; {refused_loads} \
             readings of undone blocks refused; {} followers began above a reorganisation and were lost",
            tally.lost
        ),
        format!("  {restores} restarts from an image, equal in pools and undo records"),
    ];
    lines.extend(lines_of(&on_node));
    lines.extend(bot::lines_of(&bot));
    let floor = rounds * blocks * 8 + on_node.followed_blocks * 30;
    Ok(Report { checked: compared + on_node.compared, floor, skipped: 0, seed: args.seed, lines })
}

/// The same on a real node, from which the pools are loaded.
fn follow_node(args: &ProofArgs, random: &mut ChaCha8Rng) -> anyhow::Result<node::Tally> {
    let size = match args.quick {
        true => node::Size { starts: 2, loading: 20, followed: 20, pools: 6, deepest: 6 },
        false => node::Size { starts: 4, loading: 80, followed: 220, pools: 12, deepest: 30 },
    };
    let tally =
        runtime(2)?.block_on(node::follow(size, random)).with_context(|| format!("seed {}", args.seed))?;
    for (what, count, least) in [
        ("blocks", tally.blocks, size.loading + size.followed),
        ("reorganisations", tally.reorgs, tally.blocks / 40),
        ("pools loaded at start", tally.loaded_at_start, size.starts),
        ("pools loaded at start below the head", tally.loaded_below, if args.quick { 4 } else { 20 }),
        ("pools loaded late", tally.loaded_late, if args.quick { 2 } else { 15 }),
        (
            "pools taken up under blocks that came meanwhile",
            tally.taken_under,
            if args.quick { 1 } else { 10 },
        ),
        ("starts whose block was reorganised away", tally.begun_anew, size.starts),
        ("late loads whose block was reorganised away meanwhile", tally.undone_readings, 1),
        ("blocks without a question", tally.followed_blocks, if args.quick { 20 } else { 200 }),
        (
            "pools created and compared while followed",
            tally.created_while_followed,
            if args.quick { 0 } else { 5 },
        ),
        ("pools of V4 compared", tally.compared_v4, size.loading + size.followed),
        ("pools of V4 loaded", tally.v4_loaded, 2),
        ("hooked pools of V4", tally.v4.hooked, 1),
        ("pools of V4 with a dynamic fee", tally.v4.dynamic, 1),
        ("refused pools of V4", tally.v4_refused, 2),
    ] {
        ensure!(count >= least, "only {count} {what}, {least} at least: {tally:?}");
    }
    Ok(tally)
}

fn lines_of(tally: &node::Tally) -> Vec<String> {
    let sent = &tally.sent;
    vec![
        format!(
            "{} blocks of a node: {} pairs of Uniswap V2 and {} pools of V3; {} created, {} swaps, {} mints, {} burns sent",
            tally.blocks, tally.pairs, tally.pools, sent.created, sent.swaps, sent.mints, sent.burns
        ),
        format!(
            "  {} pools of Uniswap V4: {} created, {} swaps, {} changes of liquidity and {} of the protocol's fee sent; {} more with a \
             hook and {} with a dynamic fee, {} of them refused by name",
            tally.v4_pools,
            tally.v4.created,
            tally.v4.swaps,
            tally.v4.changes,
            tally.v4.protocol_fees,
            tally.v4.hooked,
            tally.v4.dynamic,
            tally.v4_refused
        ),
        format!("  {} reorganisations, {} blocks at most", tally.reorgs, tally.deepest),
        format!(
            "  {} times a pool was compared with its storage, {} times one of V4, {} ticks",
            tally.compared, tally.compared_v4, tally.ticks
        ),
        format!(
            "  {} starts: {} pools of V2, V3 and V4 loaded, {} of them as of a block on which others stood by then, and {} times the \
             block was reorganised away, so that the load began anew",
            tally.starts, tally.loaded_at_start, tally.loaded_below, tally.begun_anew
        ),
        format!(
            "  {} pools of V3 and V4 loaded later, {} of them taken up under blocks that had come while they were read; {} readings \
             ended because their block was undone meanwhile, and {} more questions or answers were about undone blocks; {} calls that \
             read state until then",
            tally.loaded_late,
            tally.taken_under,
            tally.undone_readings,
            tally.undone_loads,
            tally.state_calls
        ),
        format!(
            "  {} blocks were then followed, with every pool known in each, {} that were created in them among them; no call read \
             state",
            tally.followed_blocks, tally.created_while_followed
        ),
    ]
}

fn play(random: &mut ChaCha8Rng, chain: &mut Chain, blocks: u64, tally: &mut Tally) -> anyhow::Result<()> {
    let market = market(chain)?;
    let mut followers = vec![Follower::new(&market, chain, true)];
    for count in 0..blocks {
        if random.random_range(0..10) == 0 && chain.height() > 1 {
            let most = chain.undoable().min(64);
            let depth = if random.random_range(0..4) == 0 { most } else { most.min(5) };
            let depth = random.random_range(1..=depth.max(1));
            let reorg = chain.undo(depth)?;
            followers.iter_mut().try_for_each(|follower| follower.take(BusEvent::Reorg(reorg.clone())))?;
            tally.reorgs += 1;
            tally.deepest = tally.deepest.max(depth);
            let before = followers.len();
            followers.retain(|follower| !follower.world.is_lost());
            tally.lost += (before - followers.len()) as u64;
            compare(random, chain, &mut followers, tally)?;
        }
        if count % 12 == 11 {
            if followers.len() > 3 {
                followers.remove(1);
            }
            followers.push(Follower::new(&market, chain, false));
        }
        let block = chain.block(random)?;
        tally.blocks += 1;
        for follower in &mut followers {
            follower.take(BusEvent::NewBlock(block.clone()))?;
            follower.read(chain.height(), tally)?;
        }
        compare(random, chain, &mut followers, tally)?;
        if count % 8 == 7 {
            for follower in &mut followers {
                follower.restart(&market)?;
                tally.restores += 1;
            }
        }
    }
    let strangers = chain.strangers();
    for follower in &followers {
        let book = follower.world.concentrated();
        ensure!(strangers.iter().all(|pool| book.table().find(pool).is_none()), "a stranger got in");
        ensure!(book.counts().contradictions == 0, "a log of a real pool was refused: {:?}", book.counts());
        let [refused, foreign] = chain.refused_v4();
        for place in refused.iter().chain(foreign) {
            ensure!(book.table().find_key(&Place::V4(*place).key()).is_none(), "{place:?} got in");
        }
        if follower.knows_all {
            let (counts, sent) = (book.counts(), chain.counts.v4);
            let found = (counts.hooked_pools, counts.dynamic_fee_pools);
            ensure!(found == (sent.hooked, sent.dynamic), "{found:?} refused, {sent:?}");
            ensure!(refused.iter().all(|place| book.is_refused(place.manager, place.id())), "not remembered");
        }
    }
    Ok(())
}

fn market(chain: &Chain) -> anyhow::Result<ResolvedMarket> {
    let address = chain.factory().to_string();
    let config = MarketConfig {
        preset: Some(Preset::None),
        wrapped_native: Some(address.clone()),
        factories: factories(address, chain.manager().to_string()),
        ..MarketConfig::default()
    };
    Ok(ResolvedMarket::resolve(&config, 1)?)
}

/// Of V3, and the manager of V4.
fn factories(factory: String, manager: String) -> Vec<FactoryConfig> {
    let init_code_hash = Some(INIT_CODE_HASH.to_owned());
    let (v3, v4, fee_ppm) = (Protocol::UniswapV3, Protocol::UniswapV4, 3_000);
    vec![
        FactoryConfig { protocol: v3, name: None, address: factory, init_code_hash, deployer: None, fee_ppm },
        FactoryConfig {
            protocol: v4,
            name: None,
            address: manager,
            init_code_hash: None,
            deployer: None,
            fee_ppm,
        },
    ]
}

/// A pool that a book knows is what its contract stores; `false` where it does not know it.
fn is_known(book: &ConcentratedBook, stored: &Stored) -> anyhow::Result<bool> {
    let known = book.proven_key(&stored.place.key()).and_then(|id| book.table().pool(id));
    let Some(pool) = known else { return Ok(false) };
    ensure_equal(pool, stored)?;
    Ok(true)
}

fn ensure_equal(pool: &ConcentratedPool, stored: &Stored) -> anyhow::Result<()> {
    let Stored { place, state, ticks, protocol_fee } = stored;
    let price = pool.price().map(|price| (price.sqrt_price, price.tick)).unwrap_or_default();
    let found = State { sqrt_price: price.0, tick: price.1, liquidity: pool.liquidity() };
    ensure!(found == *state, "{place:?}: {found:?}, its storage has {state:?}");
    let found: Vec<_> =
        pool.ticks().map(|tick| (tick.index, tick.liquidity_net, tick.liquidity_gross)).collect();
    ensure!(found == *ticks, "{place:?}: {found:?}, its storage has {ticks:?}");
    let [zero, one] = pool.fee().protocol;
    ensure!(
        zero | one << 12 == *protocol_fee,
        "{place:?}: fee {zero} and {one}, its storage has {protocol_fee}"
    );
    Ok(())
}

/// Every pool that a follower knows is what its contract stores; one that it does not know is read.
fn compare(
    random: &mut ChaCha8Rng,
    chain: &Chain,
    followers: &mut [Follower],
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let mut stored: Vec<_> = chain
        .pools()
        .iter()
        .map(|place| {
            let (state, ticks) = chain.reading(place);
            Stored { place: Place::V3(*place), state, ticks, protocol_fee: 0 }
        })
        .collect();
    for place in chain.pools_v4() {
        let (state, ticks, protocol_fee) = chain.reading_v4(place)?;
        stored.push(Stored { place: Place::V4(*place), state, ticks, protocol_fee });
    }
    for follower in followers {
        for stored in &stored {
            if !is_known(follower.world.concentrated(), stored)? {
                ensure!(!follower.knows_all, "{:?} is not known", stored.place);
                follower.ask(random, chain, stored);
                continue;
            }
            tally.compared += 1;
            tally.compared_v4 += u64::from(matches!(stored.place, Place::V4(_)));
            tally.ticks += stored.ticks.len() as u64;
        }
    }
    Ok(())
}

impl Follower {
    fn new(market: &ResolvedMarket, chain: &Chain, knows_all: bool) -> Self {
        let mut follower = Self { world: World::new(market), seq: 0, knows_all, coming: Vec::new() };
        let (number, hash) = (chain.height(), chain.head());
        let loaded = BusEvent::MarketLoaded(MarketLoaded { number, hash, chain_id: 1, pools: 0 });
        follower.take(loaded).expect("an empty world takes it");
        follower
    }

    fn take(&mut self, event: BusEvent) -> anyhow::Result<()> {
        self.seq += 1;
        let envelope = Envelope { run_id: RunId(1), seq: self.seq, received_at: 0, derived: None, event };
        self.world.apply(&envelope)?;
        Ok(())
    }

    /// Asks the node now; the answer takes its time.
    fn ask(&mut self, random: &mut ChaCha8Rng, chain: &Chain, stored: &Stored) {
        let key = stored.place.key();
        if self.coming.iter().any(|(_, coming, _)| *coming == key) {
            return;
        }
        let loaded = loaded(chain, stored);
        self.coming.push((chain.height() + random.random_range(0..12), key, loaded));
    }

    /// Takes the answers that have come.
    fn read(&mut self, height: u64, tally: &mut Tally) -> anyhow::Result<()> {
        let due: Vec<_> = self.coming.extract_if(.., |(at, ..)| *at <= height).collect();
        for (_, key, loaded) in due {
            let before = self.world.concentrated().heard();
            self.take(loaded)?;
            let book = self.world.concentrated();
            if book.proven_key(&key).is_some_and(|id| book.table().pool(id).is_some()) {
                tally.late_loads += 1;
                tally.below_blocks += u64::from(book.heard() < before);
            } else {
                tally.refused_loads += 1;
            }
        }
        Ok(())
    }

    /// Goes on from an image that was written and read.
    fn restart(&mut self, market: &ResolvedMarket) -> anyhow::Result<()> {
        let written = serde_json::to_string(&self.world.image())?;
        let image: WorldImage = serde_json::from_str(&written)?;
        let world = World::of_image(market, image)?;
        ensure!(world.digest() == self.world.digest(), "the image is of another world");
        ensure!(serde_json::to_string(&world.image())? == written, "the image of the image is another one");
        self.world = world;
        Ok(())
    }
}

/// What a loader would tell.
fn loaded(chain: &Chain, stored: &Stored) -> BusEvent {
    let (number, hash, state) = (chain.height(), chain.head(), stored.state);
    let ticks = stored.ticks.iter().map(|(index, liquidity_net, liquidity_gross)| LoadedTick {
        index: *index,
        liquidity_net: *liquidity_net,
        liquidity_gross: *liquidity_gross,
    });
    let (sqrt_price, tick, liquidity) = (state.sqrt_price, state.tick, state.liquidity);
    let state = ConcentratedState { sqrt_price, tick, liquidity, ticks: ticks.collect() };
    match &stored.place {
        Place::V3(place) => BusEvent::ConcentratedLoaded(ConcentratedLoaded {
            pool: place.pool,
            factory: place.factory,
            protocol: Protocol::UniswapV3,
            token0: place.tokens[0],
            token1: place.tokens[1],
            fee: place.fee,
            tick_spacing: place.spacing,
            number,
            hash,
            proof: PoolProof::Create2 { init_code_hash: INIT_CODE_HASH.parse().expect("a hash") },
            state: (!sqrt_price.is_zero()).then_some(state),
        }),
        Place::V4(place) => BusEvent::V4Loaded(V4Loaded {
            manager: place.manager,
            id: place.id(),
            currency0: place.currencies[0],
            currency1: place.currencies[1],
            fee: place.fee,
            tick_spacing: place.spacing,
            number,
            hash,
            protocol_fee: stored.protocol_fee,
            state,
        }),
    }
}
