//! The same pools for the detector, by the books that follow them, and for the judge.

use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};
use anyhow::ensure;
use headwater_events::{AsOf, DecodedBlock, Protocol, TokenJudged, TokenVerdict};
use headwater_market::{
    BlockRef, Changes, ConcentratedBook, ConcentratedEvent, ConcentratedFactory, ConcentratedPrice,
    ConcentratedUpdate, Head, MarketConfig, MarketSnapshot, PoolBook, PoolId, PoolMeta, PoolTable,
    PriceSnapshot, Reserves, ResolvedMarket, Touched, WholeView,
};
use headwater_reference::arbitrage::MixedPool;
use headwater_reference::formulas::{Formula, Ranged, sqrt_price_at};
use headwater_reference::pools::{Change, State};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Decimals and the price of a whole one in dollars. The first three are where cycles begin, the last one is refused.
const TOKENS: [(i32, f64); 13] = [
    (18, 3_000.0),
    (6, 1.0),
    (18, 1.0),
    (8, 90_000.0),
    (6, 0.9996),
    (18, 15.0),
    (18, 0.02),
    (9, 0.4),
    (18, 6.5),
    (18, 120.0),
    (18, 0.9),
    (2, 45.0),
    (18, 2.0),
];
const BASES: usize = 3;
const REFUSED: usize = TOKENS.len() - 1;
const FEES: [(u32, i32); 4] = [(100, 1), (500, 10), (3_000, 60), (10_000, 200)];

pub(super) struct World {
    pools: Vec<Pool>,
    table: PoolTable,
    book: ConcentratedBook,
    /// Knows the refused token.
    verdicts: PoolBook,
    head: B256,
    touched: Touched,
}

struct Pool {
    address: Address,
    factory: Address,
    tokens: [usize; 2],
    kind: Kind,
    /// How often it changed.
    version: u64,
}

enum Kind {
    Pair([u128; 2]),
    Ranged { place: Place, fee: u32, spacing: i32, changes: Vec<Change> },
}

/// Where a pool stands.
#[derive(Clone, Copy)]
struct Place {
    sqrt_price: U256,
    tick: i32,
}

pub(super) fn bases() -> Vec<Address> {
    (0..BASES).map(token).collect()
}

/// Each has one pool, so that there may be several of the same tokens and fee.
fn factory(index: usize) -> ConcentratedFactory {
    let address = Address::from_word(U256::from(1_000_000 + index).into());
    ConcentratedFactory { name: "uniswap".into(), address, init_code_hash: B256::ZERO, deployer: None }
}

fn token(number: usize) -> Address {
    Address::repeat_byte(number as u8 + 1)
}

impl World {
    pub(super) fn create(random: &mut ChaCha8Rng, count: usize) -> anyhow::Result<Self> {
        let market = ResolvedMarket {
            concentrated_factories: (0..count).map(factory).collect(),
            ..ResolvedMarket::resolve(&MarketConfig::default(), 1)?
        };
        let (mut book, mut verdicts) = (ConcentratedBook::new(&market), PoolBook::new(&market));
        for number in 0..REFUSED {
            let verdict = TokenVerdict::Accepted { decimals: 18, symbol: String::new() };
            verdicts.token_judged(&TokenJudged { token: token(number), verdict });
        }
        verdicts.refuse_token(token(REFUSED));
        let pools: Vec<Pool> = (0..count).map(|index| Pool::random(random, index)).collect();
        let mut table = PoolTable::default();
        pools.iter().for_each(|pool| pool.insert(&mut table));
        let block = BlockRef { number: 0, hash: hash(0), parent_hash: B256::ZERO };
        book.apply_block(block, pools.iter().flat_map(Pool::creation));
        ensure!(book.counts().contradictions == 0, "the book refuses its own pools");
        Ok(Self { pools, table, book, verdicts, head: block.hash, touched: Touched::All })
    }

    pub(super) fn view(&mut self, number: u64) -> anyhow::Result<WholeView> {
        let as_of = AsOf { seq: number, number, hash: hash(number) };
        let head = Head { timestamp: 0, base_fee_per_gas: None, gas_used: 0, gas_limit: 0 };
        let concentrated_changes = self.book.take_changes();
        let concentrated = match &concentrated_changes {
            Changes::All => Touched::All,
            Changes::Pools(ids) => Touched::Pools(ids.to_vec()),
        };
        let market = MarketSnapshot {
            concentrated: self.book.table().clone(),
            concentrated_changes,
            refused: self.verdicts.refused(),
            ..MarketSnapshot::of_pools(as_of, head, self.table.clone())
        };
        let prices = PriceSnapshot {
            as_of,
            quote: Address::ZERO,
            prices: Default::default(),
            sources: Default::default(),
        };
        let decoded = DecodedBlock {
            as_of,
            actions: Vec::new(),
            unknown_logs: 0,
            unknown_calls: 0,
            malformed: 0,
            set_aside: false,
        };
        let (market, prices, decoded) = (Arc::new(market), Arc::new(prices), Arc::new(decoded));
        let view = WholeView::new(market, prices, decoded, self.touched.clone())?;
        Ok(view.with_touched_concentrated(concentrated))
    }

    /// The pools that may be quoted, as the judge knows them.
    pub(super) fn judged(&self) -> Vec<MixedPool> {
        let judged = |pool: &Pool| MixedPool {
            address: pool.address,
            token0: token(pool.tokens[0]),
            token1: token(pool.tokens[1]),
            formula: pool.formula(),
        };
        self.pools.iter().filter(|pool| !pool.is_refused()).map(judged).collect()
    }

    pub(super) fn version(&self, address: Address) -> u64 {
        let pool = self.pools.iter().find(|pool| pool.address == address);
        pool.map_or(0, |pool| pool.version)
    }

    /// Every eighth pool trades, or gets more liquidity.
    pub(super) fn trade(&mut self, random: &mut ChaCha8Rng, number: u64) -> anyhow::Result<()> {
        let (mut touched, mut updates, mut pairs) = (Vec::new(), Vec::new(), 0);
        for pool in &mut self.pools {
            let id = PoolId(pairs);
            pairs += u32::from(matches!(pool.kind, Kind::Pair(_)));
            if random.random_range(0..8) > 0 {
                continue;
            }
            pool.version += 1;
            match &mut pool.kind {
                Kind::Pair(reserves) => {
                    let part = random.random_range(0.98..1.02);
                    *reserves = [(reserves[0] as f64 * part) as u128, (reserves[1] as f64 / part) as u128];
                    let [reserve0, reserve1] = *reserves;
                    self.table.set_reserves(id, Some(Reserves { reserve0, reserve1 }));
                    touched.push(id);
                }
                Kind::Ranged { place, spacing, changes, .. } => {
                    let event = if random.random() {
                        place.tick += random.random_range(-120..=120);
                        place.sqrt_price =
                            sqrt_price_at(place.tick) + U256::from(random.random_range(0..1_000u32));
                        let Place { sqrt_price, tick } = *place;
                        let price = ConcentratedPrice { sqrt_price, tick };
                        ConcentratedEvent::Swapped { price, liquidity: liquidity(changes, tick) }
                    } else {
                        let lower = place.tick.div_euclid(*spacing) * *spacing;
                        let delta = changes.iter().map(|change| change.delta).max().unwrap_or(1_000) * 2;
                        let change = Change { lower, upper: lower + *spacing, delta };
                        changes.push(change);
                        event(&change)
                    };
                    updates.push(ConcentratedUpdate::Pool { emitter: pool.address, event });
                }
            }
        }
        let block = BlockRef { number, hash: hash(number), parent_hash: self.head };
        self.book.apply_block(block, updates);
        ensure!(self.book.counts().contradictions == 0, "the book refuses what its pools say");
        (self.head, self.touched) = (block.hash, Touched::Pools(touched));
        Ok(())
    }
}

impl Pool {
    /// Of a thousand to thirty million dollars, and a price that is a little off.
    fn random(random: &mut ChaCha8Rng, index: usize) -> Self {
        // Half of the pools have a base token, as in life.
        let bases = if random.random() { BASES } else { TOKENS.len() - 1 };
        let token0 = random.random_range(0..bases);
        let tokens = [token0, random.random_range(token0 + 1..TOKENS.len())];
        let (depth, skew) =
            (10f64.powf(random.random_range(3.0..7.5)), random.random_range(-0.006f64..0.006));
        let amounts = tokens.map(|token| depth / TOKENS[token].1 * 10f64.powi(TOKENS[token].0));
        let amounts = [amounts[0], amounts[1] * skew.exp()];
        let kind = if random.random() {
            Kind::Pair(amounts.map(|amount| amount as u128 + 10_000))
        } else {
            Self::ranged(random, amounts)
        };
        let address = match &kind {
            Kind::Pair(_) => Address::from_word(U256::from(1_000 + index).into()),
            Kind::Ranged { fee, .. } => factory(index).derive(token(tokens[0]), token(tokens[1]), *fee),
        };
        Self { address, factory: factory(index).address, tokens, kind, version: 0 }
    }

    fn ranged(random: &mut ChaCha8Rng, [amount0, amount1]: [f64; 2]) -> Kind {
        let (fee, spacing) = FEES[random.random_range(0..FEES.len())];
        let tick = ((amount1 / amount0).ln() / 1.0001f64.ln()).floor() as i32;
        let sqrt_price = sqrt_price_at(tick) + U256::from(random.random_range(0..1_000u32));
        let liquidity = (amount0 * amount1).sqrt();
        let ranges = 0..random.random_range(1..8);
        let changes = ranges.map(|_| {
            let width = 10f64.powf(random.random_range(1.0..3.3)) as i32 + spacing;
            let middle = tick + random.random_range(-width..=width);
            let align = |tick: i32| tick.div_euclid(spacing) * spacing;
            let delta = (liquidity * 10f64.powf(random.random_range(-1.0..0.5))) as i128 + 1_000;
            Change { lower: align(middle - width), upper: align(middle + width) + spacing, delta }
        });
        Kind::Ranged { place: Place { sqrt_price, tick }, fee, spacing, changes: changes.collect() }
    }

    fn is_refused(&self) -> bool {
        self.tokens.contains(&REFUSED)
    }

    fn insert(&self, table: &mut PoolTable) {
        let Kind::Pair([reserve0, reserve1]) = self.kind else { return };
        let meta = PoolMeta {
            address: self.address,
            factory: Address::ZERO,
            protocol: Protocol::UniswapV2,
            token0: token(self.tokens[0]),
            token1: token(self.tokens[1]),
            fee_ppm: 3_000,
        };
        let id = table.insert(meta, !self.is_refused());
        table.set_reserves(id, Some(Reserves { reserve0, reserve1 }));
    }

    /// The logs of a pool from its creation on.
    fn creation(&self) -> Vec<ConcentratedUpdate> {
        let Kind::Ranged { place, fee, spacing, changes } = &self.kind else { return Vec::new() };
        let (emitter, [token0, token1]) = (self.address, self.tokens.map(token));
        let created = ConcentratedUpdate::PoolCreated {
            emitter: self.factory,
            token0,
            token1,
            fee: *fee,
            tick_spacing: *spacing,
            pool: emitter,
        };
        let price = ConcentratedPrice { sqrt_price: place.sqrt_price, tick: place.tick };
        let events = std::iter::once(ConcentratedEvent::Initialized(price)).chain(changes.iter().map(event));
        let events = events.map(|event| ConcentratedUpdate::Pool { emitter, event });
        std::iter::once(created).chain(events).collect()
    }

    fn formula(&self) -> Formula {
        match &self.kind {
            Kind::Pair(reserves) => Formula::Pair(*reserves),
            Kind::Ranged { place: Place { sqrt_price, tick }, fee, spacing, changes } => {
                let (sqrt_price, tick, liquidity) = (*sqrt_price, *tick, liquidity(changes, *tick));
                let state = State { sqrt_price, tick, liquidity };
                Formula::Ranged(Ranged::new(state, changes, *spacing, [*fee; 2]))
            }
        }
    }
}

/// Of the ranges that a tick is in.
fn liquidity(changes: &[Change], tick: i32) -> u128 {
    let here = changes.iter().filter(|change| (change.lower..change.upper).contains(&tick));
    here.map(|change| change.delta.unsigned_abs()).sum()
}

fn event(change: &Change) -> ConcentratedEvent {
    let Change { lower, upper, delta } = *change;
    ConcentratedEvent::LiquidityChanged { lower, upper, delta }
}

fn hash(number: u64) -> B256 {
    U256::from(number + 1).into()
}
