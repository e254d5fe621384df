//! Honest and hostile tokens, each with two pools that disagree about its price, and coins in which profits are counted.

use alloy_primitives::{Address, B256, U256};
use headwater_events::{BusEvent, FeedResolved, FeedRound, FeedVerdict, Log, Protocol};
use headwater_market::{FactoryConfig, FeedConfig, FeedQuote, MarketConfig, Preset, ResolvedMarket};
use headwater_reference::fake_node::{V2Pair, V2World};
use headwater_reference::tokens::Habit;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::exchange::Exchange;
use super::follower::{BEGINNING, answer_updated, sync_of};

pub(super) const CHAIN_ID: u64 = 5;

/// Hostile tokens of a round, and honest ones.
pub(super) const TOKENS: usize = 18;

/// Contracts that are not proven and remembered at most.
pub(super) const REMEMBERED: usize = 64;

/// Pools that are tracked at most: those that are loaded, and ten more.
pub(super) const TRACKED: usize = TOKENS * 4 + 6 + 10;

/// The most that a pair can hold of a token.
pub(super) const GREATEST: u128 = (1 << 112) - 1;

const ETHER: u128 = 1_000_000_000_000_000_000;

/// Seconds between two answers of the feed at most.
pub(super) const HEARTBEAT: u64 = 3_600;

/// Native tokens per whole coin, with 18 decimal places, as the feed says and as the pools do.
const PER_COIN: u128 = ETHER / 1_000;

fn any_address(random: &mut ChaCha8Rng) -> Address {
    random.random::<[u8; 20]>().into()
}

/// The addresses of a round.
pub(super) struct Places {
    pub(super) native: Address,
    /// Of Uniswap V2.
    pub(super) factories: [Address; 2],
    /// Of Uniswap V3, and the manager of V4.
    concentrated: [Address; 2],
    coins: [Address; 2],
    proxy: Address,
}

impl Places {
    pub(super) fn new(random: &mut ChaCha8Rng) -> Self {
        let mut two = || [(); 2].map(|()| any_address(random));
        let (factories, concentrated, coins, [native, proxy]) = (two(), two(), two(), two());
        Self { native, factories, concentrated, coins, proxy }
    }

    /// Cycles begin with a coin, or with the native token; the first coin has a feed.
    pub(super) fn market(&self, random: &mut ChaCha8Rng) -> anyhow::Result<ResolvedMarket> {
        let mut factory = |protocol, address: Address| FactoryConfig {
            protocol,
            name: None,
            address: address.to_string(),
            init_code_hash: (protocol != Protocol::UniswapV4)
                .then(|| B256::from(random.random::<[u8; 32]>()).to_string()),
            fee_ppm: 3_000,
            deployer: None,
        };
        let [v3, v4] = self.concentrated;
        let mut factories: Vec<_> =
            self.factories.iter().map(|address| factory(Protocol::UniswapV2, *address)).collect();
        factories.push(factory(Protocol::UniswapV3, v3));
        factories.push(factory(Protocol::UniswapV4, v4));
        let feed = FeedConfig {
            name: None,
            proxy: self.proxy.to_string(),
            token: self.coins[0].to_string(),
            quote: FeedQuote::Native,
            heartbeat_s: HEARTBEAT,
            deviation_ppm: 5_000,
        };
        let bases = self.coins.into_iter().chain([self.native]);
        let config = MarketConfig {
            preset: Some(Preset::None),
            wrapped_native: Some(self.native.to_string()),
            base_tokens: Some(bases.map(|token| token.to_string()).collect()),
            max_candidates: Some(REMEMBERED),
            max_tracked_pools: Some(TRACKED),
            factories,
            feeds: vec![feed],
            ..MarketConfig::default()
        };
        Ok(ResolvedMarket::resolve(&config, CHAIN_ID)?)
    }
}

/// How much two pools hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// As much as they can of the native token.
    Full,
    /// The first as much as it can of the token.
    FullOfToken,
    Usual,
}

/// A token with its two pools.
pub(super) struct Case {
    pub(super) pools: [V2Pair; 2],
    pub(super) token: Address,
    pub(super) depth: Depth,
    pub(super) kind: Kind,
    /// What the pools really hold of the token: somebody may have given them more, and the token may have taken some away.
    pub(super) held: [u128; 2],
}

pub(super) enum Kind {
    Honest(Habit),
    Hostile(Hostile),
}

/// A token that is to be refused, and why.
pub(super) struct Hostile {
    pub(super) decimals: u8,
    pub(super) habit: Habit,
    pub(super) reason: &'static str,
}

impl Hostile {
    /// Whether a single swap in and a single one out already fail or lose. Not so what only a later transfer shows, and what only
    /// misleads whoever asks for a balance, nor what takes its time; and what runs for ever runs too long to be tried.
    pub(super) fn bites_at_once(&self) -> bool {
        match self.habit {
            Habit::Ordinary => self.reason == "shrunk",
            Habit::Once | Habit::Grows | Habit::Flatters | Habit::Endless => false,
            Habit::Accrues | Habit::Decays => false,
            _ => true,
        }
    }
}

impl Kind {
    pub(super) fn habit(&self) -> Habit {
        match self {
            Self::Honest(habit) => *habit,
            Self::Hostile(hostile) => hostile.habit,
        }
    }
}

/// Honest and hostile tokens by turns.
pub(super) fn populate(
    random: &mut ChaCha8Rng,
    mut world: V2World,
    market: &ResolvedMarket,
    native: Address,
) -> (V2World, Vec<Case>) {
    let mut cases = Vec::new();
    let shift = random.random_range(0..6);
    for place in 0..TOKENS {
        let depth = match (place + shift) % 6 {
            0 => Depth::Full,
            3 => Depth::FullOfToken,
            _ => Depth::Usual,
        };
        for is_hostile in [false, true] {
            // Where the first pool is the one that is favoured, the token has to be sold there to be bitten.
            let is_favoured = is_hostile && matches!(place, FEE_TO_THE_POOL | ONLY_FROM_THE_POOL);
            let less_native = is_favoured || (depth == Depth::Usual && random.random());
            let pools = pools(random, market, native, depth, less_native);
            let token = other(&pools[0], native);
            let kind = match is_hostile {
                true => Kind::Hostile(hostile(random, place, pools[0].address)),
                false if random.random() => Kind::Honest(Habit::Silent),
                false => Kind::Honest(Habit::Ordinary),
            };
            let decimals = match &kind {
                Kind::Hostile(hostile) => hostile.decimals,
                Kind::Honest(_) => random.random_range(1..=77),
            };
            world = pools.into_iter().fold(world.hostile_token(token, decimals, kind.habit()), V2World::pair);
            let is_taken = place == SHRUNK && is_hostile;
            let is_given = place == SHRUNK && depth == Depth::Usual;
            let held = pools.map(|pool| match reserve_of(&pool, token) {
                reserve if is_taken => reserve - reserve / 8,
                reserve if is_given => reserve + 1 + (reserve >> 40),
                reserve => reserve,
            });
            world = pools
                .iter()
                .zip(held)
                .fold(world, |world, (pool, held)| world.holding(pool.address, token, held));
            cases.push(Case { pools, token, depth, kind, held });
        }
    }
    (world, cases)
}

const FEE_TO_THE_POOL: usize = 1;
const ONLY_FROM_THE_POOL: usize = 2;
/// The last one.
const SHRUNK: usize = TOKENS - 1;

fn reserve_of(pair: &V2Pair, token: Address) -> u128 {
    if pair.token0 == token { pair.reserve0 } else { pair.reserve1 }
}

fn hostile(random: &mut ChaCha8Rng, place: usize, pool: Address) -> Hostile {
    let ppm = random.random_range(10_000..=1_000_000);
    let (habit, reason) = match place {
        0 => (Habit::Fee(ppm), "inexact"),
        FEE_TO_THE_POOL => (Habit::FeeTo(pool, ppm), "inexact"),
        ONLY_FROM_THE_POOL => (Habit::OnlyFrom(pool), "transfer-fails"),
        3 => (Habit::OnlyFrom(any_address(random)), "transfer-fails"),
        4 => (Habit::Once, "transfer-fails"),
        5 => (Habit::Endless, "gas"),
        6 => (Habit::Verbose(random.random_range(0..1_000)), "transfer-fails"),
        7 => (Habit::Verbose(random.random_range(1 << 26..=u32::MAX)), "gas"),
        8 => (Habit::Denies, "no-success"),
        9 => (Habit::Grows, "inexact"),
        10 => (Habit::Pretends, "inexact"),
        11 => (Habit::Flatters, "inexact"),
        12..=14 => (Habit::Ordinary, "decimals"),
        15 => (Habit::Accrues, "accrues"),
        16 => (Habit::Decays, "accrues"),
        _ => (Habit::Ordinary, "shrunk"),
    };
    let decimals = match place {
        12 => 0,
        13 => 255,
        14 => random.random_range(78..255),
        _ => random.random_range(1..=77),
    };
    Hostile { decimals, habit, reason }
}

/// A pool of the native token and a new one, and one of the other factory that holds three quarters of either.
pub(super) fn pools(
    random: &mut ChaCha8Rng,
    market: &ResolvedMarket,
    native: Address,
    depth: Depth,
    less_native: bool,
) -> [V2Pair; 2] {
    let token = any_address(random);
    let [held_native, held] = [(); 2].map(|()| 1u128 << random.random_range(40..100));
    let held = match depth {
        Depth::Full => [GREATEST; 2],
        Depth::FullOfToken => [held_native, GREATEST],
        Depth::Usual => [held_native, held],
    };
    let less = |amount: u128| amount / 4 * 3;
    let second = if less_native { [less(held[0]), held[1]] } else { [held[0], less(held[1])] };
    [(0, held), (1, second)].map(|(at, held)| pair(market, at, [native, token], held))
}

/// The pool of two tokens of a factory.
pub(super) fn pair(market: &ResolvedMarket, at: usize, tokens: [Address; 2], held: [u128; 2]) -> V2Pair {
    let factory = &market.factories[at];
    let address = factory.derive(tokens[0], tokens[1]).unwrap_or_default();
    let ([token0, token1], [reserve0, reserve1]) =
        if tokens[0] < tokens[1] { (tokens, held) } else { ([tokens[1], tokens[0]], [held[1], held[0]]) };
    V2Pair { address, factory: factory.address, token0, token1, reserve0, reserve1 }
}

pub(super) fn other(pair: &V2Pair, native: Address) -> Address {
    if pair.token0 == native { pair.token1 } else { pair.token0 }
}

/// The pair after a swap that multiplies what it holds of one token, and divides what it holds of the other.
pub(super) fn pushed(pair: &V2Pair, native: Address, times: u128, is_up: bool) -> V2Pair {
    let V2Pair { reserve0, reserve1, .. } = *pair;
    let (reserve0, reserve1) = if (pair.token0 == native) == is_up {
        (reserve0 * times, reserve1 / times)
    } else {
        (reserve0 / times, reserve1 * times)
    };
    V2Pair { reserve0, reserve1, ..*pair }
}

/// A coin in which profits are counted: what it is worth, one pool says; two others disagree about what a token is worth in it.
pub(super) struct Coin {
    pub(super) token: Address,
    pub(super) valued_by: V2Pair,
    disagreeing: [V2Pair; 2],
}

/// One that has a feed, and one that has none.
pub(super) struct Coins {
    pub(super) fed: Coin,
    pub(super) plain: Coin,
    pub(super) native: Address,
    proxy: Address,
    aggregator: Address,
}

impl Coins {
    pub(super) fn new(random: &mut ChaCha8Rng, market: &ResolvedMarket, places: &Places) -> Self {
        let [fed, plain] = places.coins.map(|coin| {
            let (sold, held) = (any_address(random), 100_000 * ETHER);
            let disagreeing =
                [(0, held), (1, held / 4 * 3)].map(|(at, of)| pair(market, at, [coin, sold], [held, of]));
            let worth = [10_000 * ETHER, 10_000 * ETHER / PER_COIN * ETHER];
            Coin { token: coin, valued_by: pair(market, 0, [places.native, coin], worth), disagreeing }
        });
        let aggregator = any_address(random);
        Self { fed, plain, native: places.native, proxy: places.proxy, aggregator }
    }

    /// Those that disagree.
    pub(super) fn disagreeing(&self) -> impl Iterator<Item = &V2Pair> {
        [&self.fed, &self.plain].into_iter().flat_map(|coin| &coin.disagreeing)
    }

    fn all(&self) -> impl Iterator<Item = &V2Pair> {
        [&self.fed.valued_by, &self.plain.valued_by].into_iter().chain(self.disagreeing())
    }

    pub(super) fn add_to(&self, world: V2World) -> V2World {
        let tokens = self.all().flat_map(|pair| [pair.token0, pair.token1]);
        let tokens = tokens.filter(|token| *token != self.native);
        let world = tokens.fold(world, |world, token| world.token(token, 18, "COIN"));
        self.all().fold(world, |world, pair| world.pair(*pair))
    }

    /// What is learnt of the feed: it answered just when everything begins.
    pub(super) fn resolved(&self, number: u64, hash: B256) -> BusEvent {
        let round = FeedRound {
            aggregator: self.aggregator,
            phase: 1,
            decimals: 18,
            token_decimals: 18,
            round: 1,
            answer: Some(U256::from(PER_COIN)),
            updated_at: BEGINNING,
        };
        BusEvent::FeedResolved(FeedResolved {
            proxy: self.proxy,
            number,
            hash,
            verdict: FeedVerdict::Accepted(round),
        })
    }

    /// The feed answers what it answered before.
    pub(super) fn answered(&self, round: u64, at: u64) -> Log {
        answer_updated(self.aggregator, PER_COIN, round, at)
    }
}

impl Coin {
    /// A swap in the pool that says what the coin is worth.
    pub(super) fn pushed(&self, native: Address, times: u128, is_up: bool) -> Log {
        sync_of(&pushed(&self.valued_by, native, times, is_up))
    }

    /// The swap back.
    pub(super) fn restored(&self) -> Log {
        sync_of(&self.valued_by)
    }
}

/// Puts all tokens and pools on the exchange.
pub(super) fn place(exchange: &mut Exchange, native: Address, cases: &[Case], coins: &Coins) {
    exchange.place_token(native, Habit::Ordinary);
    for case in cases {
        exchange.place_token(case.token, case.kind.habit());
        for (pair, held) in case.pools.iter().zip(case.held) {
            exchange.place_pair(pair);
            exchange.give(pair.address, case.token, held);
        }
    }
    for pair in coins.all() {
        for token in [pair.token0, pair.token1].into_iter().filter(|token| *token != native) {
            exchange.place_token(token, Habit::Ordinary);
        }
    }
    coins.all().for_each(|pair| exchange.place_pair(pair));
}
