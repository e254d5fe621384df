//! The same pools for the detector, by the books that follow them, and for the judge.

use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};
use anyhow::ensure;
use headwater_amm::{DYNAMIC_FEE, PoolKey};
use headwater_events::{AsOf, DecodedBlock, Protocol, TokenJudged, TokenVerdict};
use headwater_market::{
    BlockRef, Changes, ConcentratedBook, ConcentratedCounts, ConcentratedEvent, ConcentratedFactory,
    ConcentratedManager, ConcentratedPrice, ConcentratedUpdate, Head, MarketConfig, MarketSnapshot, PoolBook,
    PoolId, PoolMeta, PoolTable, PriceSnapshot, Reserves, ResolvedMarket, Touched, WholeView,
};
use headwater_reference::arbitrage::{MixedPool, PoolName};
use headwater_reference::formulas::{Formula, Ranged, fees_v4, sqrt_price_at};
use headwater_reference::pools::{Change, PlaceV4, State};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Decimals and the price of a whole one in dollars. The first is the native token, which pools of V4 alone have; the next three
/// are where cycles begin, the last one is refused.
const TOKENS: [(i32, f64); 14] = [
    (18, 3_000.0),
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
const NATIVE: usize = 0;
const BASES: usize = 3;
const REFUSED: usize = TOKENS.len() - 1;
const V3_FEES: [(u32, i32); 4] = [(100, 1), (500, 10), (3_000, 60), (10_000, 200)];
const V4_FEES: [(u32, i32); 5] = [(0, 1), (100, 1), (450, 7), (3_000, 60), (12_345, 90)];
/// Of so many pools one is of V4.
const V4_EVERY: usize = 5;
const MANAGER: Address = Address::repeat_byte(0xf4);

/// What the book is to say of the pools of V4 that it was offered and that it refuses.
const REFUSALS: ConcentratedCounts = ConcentratedCounts {
    hooked_pools: 1,
    dynamic_fee_pools: 1,
    foreign_factories: 0,
    contradictions: 0,
    not_heard: 0,
    conflicting_proofs: 0,
    losses: 0,
    unproven_loads: 0,
    foreign_loads: 0,
    impossible_loads: 0,
    repeated_loads: 0,
    quarantined: 0,
    pools_refused: 0,
    underived_pools: 0,
};

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
    name: PoolName,
    /// Of V3.
    factory: Address,
    tokens: [usize; 2],
    kind: Kind,
    /// How often it changed.
    version: u64,
}

enum Kind {
    Pair([u128; 2]),
    V3(Ticks),
    V4 {
        ticks: Ticks,
        /// Of both directions, in 24 bits.
        protocol_fee: u32,
    },
}

/// What a pool with concentrated liquidity is made of, and where it stands.
pub(super) struct Ticks {
    pub(super) sqrt_price: U256,
    tick: i32,
    fee: u32,
    spacing: i32,
    pub(super) changes: Vec<Change>,
}

/// A pool of V4 as a manager would be told to make it.
pub(super) struct Managed<'a> {
    pub(super) name: PoolName,
    pub(super) ticks: &'a Ticks,
    pub(super) protocol_fee: u32,
    pub(super) place: PlaceV4,
}

pub(super) fn bases() -> Vec<Address> {
    (1..=BASES).map(token).collect()
}

/// How many tokens there are beside the native one.
pub(super) const CONTRACTS: usize = TOKENS.len() - 1;

/// Each has one pool, so that there may be several of the same tokens and fee.
fn factory(index: usize) -> ConcentratedFactory {
    let address = Address::from_word(U256::from(1_000_000 + index).into());
    ConcentratedFactory { name: "uniswap".into(), address, init_code_hash: B256::ZERO, deployer: None }
}

/// Zero, and then ever higher addresses.
fn token(number: usize) -> Address {
    Address::repeat_byte(number as u8)
}

impl World {
    pub(super) fn create(random: &mut ChaCha8Rng, count: usize) -> anyhow::Result<Self> {
        let manager = ConcentratedManager { name: "uniswap".into(), address: MANAGER };
        let market = ResolvedMarket {
            concentrated_factories: (0..count).map(factory).collect(),
            concentrated_managers: vec![manager],
            ..ResolvedMarket::resolve(&MarketConfig::default(), 1)?
        };
        let (mut book, mut verdicts) = (ConcentratedBook::new(&market), PoolBook::new(&market));
        for number in 0..REFUSED {
            let verdict = TokenVerdict::Accepted { decimals: 18, symbol: String::new() };
            verdicts.token_judged(&TokenJudged { token: token(number), verdict });
        }
        verdicts.refuse_token(token(REFUSED));
        let mut pools: Vec<Pool> = Vec::new();
        for index in 0..count {
            pools.push(Pool::random(random, &pools));
            ensure!(pools[..index].iter().all(|pool| pool.name != pools[index].name), "two pools of a name");
        }
        let mut table = PoolTable::default();
        pools.iter().for_each(|pool| pool.insert(&mut table));
        let block = BlockRef { number: 0, hash: hash(0), parent_hash: B256::ZERO };
        book.apply_block(block, pools.iter().flat_map(Pool::creation).chain(refused()));
        ensure!(book.counts() == REFUSALS, "the book refuses other pools: {:?}", book.counts());
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
            name: pool.name,
            token0: token(pool.tokens[0]),
            token1: token(pool.tokens[1]),
            formula: pool.formula(),
        };
        self.pools.iter().filter(|pool| !pool.is_refused()).map(judged).collect()
    }

    /// Those of V4 among them, of tokens with these addresses.
    pub(super) fn managed(&self, manager: Address, tokens: &[Address]) -> Vec<Managed<'_>> {
        let address = |token: usize| token.checked_sub(1).map_or(Address::ZERO, |index| tokens[index]);
        let managed = self.pools.iter().filter(|pool| !pool.is_refused()).filter_map(|pool| {
            let Kind::V4 { ticks, protocol_fee } = &pool.kind else { return None };
            let place = place_v4(manager, pool.tokens.map(address), ticks);
            Some(Managed { name: pool.name, ticks, protocol_fee: *protocol_fee, place })
        });
        managed.collect()
    }

    pub(super) fn version(&self, name: PoolName) -> u64 {
        let pool = self.pools.iter().find(|pool| pool.name == name);
        pool.map_or(0, |pool| pool.version)
    }

    /// Every eighth pool trades, gets more liquidity, or is taxed anew.
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
                Kind::V3(ticks) => {
                    let (event, _) = ticks.change(random);
                    updates.push(said(pool.name, event, None));
                }
                Kind::V4 { protocol_fee, .. } if random.random_range(0..4) == 0 => {
                    *protocol_fee = random_protocol_fee(random);
                    updates.push(said(pool.name, ConcentratedEvent::ProtocolFeeChanged(*protocol_fee), None));
                }
                Kind::V4 { ticks, protocol_fee } => {
                    let (event, is_down) = ticks.change(random);
                    let fee = fees_v4(ticks.fee, *protocol_fee)[usize::from(!is_down)];
                    let charged = matches!(event, ConcentratedEvent::Swapped { .. }).then_some(fee);
                    updates.push(said(pool.name, event, charged));
                }
            }
        }
        let block = BlockRef { number, hash: hash(number), parent_hash: self.head };
        self.book.apply_block(block, updates);
        ensure!(self.book.counts() == REFUSALS, "the book refuses what its pools say");
        (self.head, self.touched) = (block.hash, Touched::Pools(touched));
        Ok(())
    }
}

impl Pool {
    /// Of a thousand to thirty million dollars, and a price that is a little off.
    fn random(random: &mut ChaCha8Rng, before: &[Self]) -> Self {
        let index = before.len();
        let managed = index.is_multiple_of(V4_EVERY).then_some(index / V4_EVERY);
        let tokens = match managed {
            // Two of the same tokens, of the native one as well, and a third and a fourth of that.
            Some(1 | 3) => before[index - V4_EVERY].tokens,
            Some(2) => [NATIVE, random.random_range(1..=BASES)],
            Some(4 | 5) => [NATIVE, random.random_range(1..TOKENS.len())],
            _ => {
                // Half of the pools have a base token, as in life.
                let last = if random.random() { BASES } else { TOKENS.len() - 2 };
                let token0 = random.random_range(1..=last);
                [token0, random.random_range(token0 + 1..TOKENS.len())]
            }
        };
        let (depth, skew) =
            (10f64.powf(random.random_range(3.0..7.5)), random.random_range(-0.006f64..0.006));
        let amounts = tokens.map(|token| depth / TOKENS[token].1 * 10f64.powi(TOKENS[token].0));
        let amounts = [amounts[0], amounts[1] * skew.exp()];
        let address = Address::from_word(U256::from(1_000 + index).into());
        let (name, kind) = if let Some(number) = managed {
            // Of no two pools the same, or they would be one.
            let (fee, spacing) = V4_FEES[number % V4_FEES.len()];
            let fee = fee + (number / V4_FEES.len()) as u32;
            let ticks = Ticks::random(random, amounts, (fee, spacing));
            let id = place_v4(MANAGER, tokens.map(token), &ticks).id();
            let kind = Kind::V4 { ticks, protocol_fee: random_protocol_fee(random) };
            (PoolName { address: MANAGER, id: Some(id) }, kind)
        } else if random.random() {
            let kind = Kind::Pair(amounts.map(|amount| amount as u128 + 10_000));
            (PoolName { address, id: None }, kind)
        } else {
            let of = V3_FEES[random.random_range(0..V3_FEES.len())];
            let address = factory(index).derive(token(tokens[0]), token(tokens[1]), of.0);
            (PoolName { address, id: None }, Kind::V3(Ticks::random(random, amounts, of)))
        };
        Self { name, factory: factory(index).address, tokens, kind, version: 0 }
    }

    fn is_refused(&self) -> bool {
        self.tokens.contains(&REFUSED)
    }

    fn insert(&self, table: &mut PoolTable) {
        let Kind::Pair([reserve0, reserve1]) = self.kind else { return };
        let meta = PoolMeta {
            address: self.name.address,
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
        let [token0, token1] = self.tokens.map(token);
        let (ticks, first) = match &self.kind {
            Kind::Pair(_) => return Vec::new(),
            Kind::V3(ticks) => {
                let Ticks { fee, spacing: tick_spacing, .. } = *ticks;
                let (emitter, pool) = (self.factory, self.name.address);
                let created =
                    ConcentratedUpdate::PoolCreated { emitter, token0, token1, fee, tick_spacing, pool };
                let priced = said(self.name, ConcentratedEvent::Initialized(ticks.price()), None);
                (ticks, vec![created, priced])
            }
            Kind::V4 { ticks, protocol_fee } => {
                let (fee, tick_spacing, hooks) = (ticks.fee, ticks.spacing, Address::ZERO);
                let key = PoolKey { currency0: token0, currency1: token1, fee, tick_spacing, hooks };
                let id = self.name.id.unwrap_or_default();
                let made =
                    ConcentratedUpdate::V4Initialized { manager: MANAGER, id, key, price: ticks.price() };
                let taxed = said(self.name, ConcentratedEvent::ProtocolFeeChanged(*protocol_fee), None);
                (ticks, vec![made, taxed])
            }
        };
        let changes = ticks.changes.iter().map(|change| said(self.name, event(change), None));
        first.into_iter().chain(changes).collect()
    }

    fn formula(&self) -> Formula {
        let ranged = |ticks: &Ticks, fees| {
            let Ticks { sqrt_price, tick, spacing, changes, .. } = ticks;
            let state = State { sqrt_price: *sqrt_price, tick: *tick, liquidity: ticks.liquidity() };
            Formula::Ranged(Ranged::new(state, changes, *spacing, fees))
        };
        match &self.kind {
            Kind::Pair(reserves) => Formula::Pair(*reserves),
            Kind::V3(ticks) => ranged(ticks, [ticks.fee; 2]),
            Kind::V4 { ticks, protocol_fee } => ranged(ticks, fees_v4(ticks.fee, *protocol_fee)),
        }
    }
}

impl Ticks {
    fn random(random: &mut ChaCha8Rng, [amount0, amount1]: [f64; 2], (fee, spacing): (u32, i32)) -> Self {
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
        Self { sqrt_price, tick, fee, spacing, changes: changes.collect() }
    }

    /// Somebody trades, or adds liquidity; and whether the price falls.
    fn change(&mut self, random: &mut ChaCha8Rng) -> (ConcentratedEvent, bool) {
        if random.random() {
            let before = self.sqrt_price;
            self.tick += random.random_range(-120..=120);
            self.sqrt_price = sqrt_price_at(self.tick) + U256::from(random.random_range(0..1_000u32));
            let swapped = ConcentratedEvent::Swapped { price: self.price(), liquidity: self.liquidity() };
            return (swapped, self.sqrt_price < before);
        }
        let lower = self.tick.div_euclid(self.spacing) * self.spacing;
        let delta = self.changes.iter().map(|change| change.delta).max().unwrap_or(1_000) * 2;
        let change = Change { lower, upper: lower + self.spacing, delta };
        self.changes.push(change);
        (event(&change), false)
    }

    fn price(&self) -> ConcentratedPrice {
        ConcentratedPrice { sqrt_price: self.sqrt_price, tick: self.tick }
    }

    /// Of the ranges that the tick is in.
    fn liquidity(&self) -> u128 {
        let here = self.changes.iter().filter(|change| (change.lower..change.upper).contains(&self.tick));
        here.map(|change| change.delta.unsigned_abs()).sum()
    }
}

fn place_v4(manager: Address, currencies: [Address; 2], ticks: &Ticks) -> PlaceV4 {
    PlaceV4 { manager, currencies, fee: ticks.fee, spacing: ticks.spacing, hooks: Address::ZERO }
}

/// Of both directions, each up to a tenth of a percent.
fn random_protocol_fee(random: &mut ChaCha8Rng) -> u32 {
    let mut half = || random.random_range(0..2u32) * random.random_range(0..=1_000u32);
    half() | half() << 12
}

/// A pool with a hook and one whose fee a hook sets, at a price at which everybody would want to trade.
fn refused() -> [ConcentratedUpdate; 2] {
    let hooks = Address::repeat_byte(0x80);
    let price = ConcentratedPrice { sqrt_price: sqrt_price_at(0), tick: 0 };
    [3_000, DYNAMIC_FEE].map(|fee| {
        let (currency0, currency1) = (token(1), token(2));
        let key = PoolKey { currency0, currency1, fee, tick_spacing: 60, hooks };
        ConcentratedUpdate::V4Initialized { manager: MANAGER, id: key.id(), key, price }
    })
}

/// The log of a pool; of V4, of its manager.
fn said(name: PoolName, event: ConcentratedEvent, charged: Option<u32>) -> ConcentratedUpdate {
    let PoolName { address, id } = name;
    match id {
        None => ConcentratedUpdate::Pool { emitter: address, event },
        Some(id) => ConcentratedUpdate::V4 { manager: address, id, event, charged },
    }
}

fn event(change: &Change) -> ConcentratedEvent {
    let Change { lower, upper, delta } = *change;
    ConcentratedEvent::LiquidityChanged { lower, upper, delta }
}

fn hash(number: u64) -> B256 {
    U256::from(number + 1).into()
}
