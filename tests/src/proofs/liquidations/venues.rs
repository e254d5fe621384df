//! The pools that collateral is sold in: for the judge by the formulas that their authors published, and as a node tells of them.

#![expect(clippy::too_many_arguments, reason = "events have the arguments that the contracts give them")]

use alloy_primitives::{Address, B256, I256, Log, U256, keccak256};
use alloy_sol_types::{SolEvent, SolValue, sol};
use headwater_events::{
    BusEvent, ConcentratedLoaded, ConcentratedState, Header, LoadedTick, PoolLoaded, PoolProof, Protocol,
    V4Loaded,
};
use headwater_reference::arbitrage::{MixedPool, PoolName};
use headwater_reference::formulas::{Formula, Ranged, V2_FEE_PPM, fees_v4, sqrt_price_at};
use headwater_reference::pools::{Change, PlaceV4, State};
use rand::{Rng, RngExt};

/// Of the pairs.
pub(super) const FACTORY: Address = Address::repeat_byte(0xfa);
/// Of Uniswap V3.
pub(super) const FACTORY_V3: Address = Address::repeat_byte(0xf3);
/// Of Uniswap V3's pools.
pub(super) const INIT_CODE_HASH: B256 = B256::repeat_byte(0x1c);
/// Of Uniswap V4.
pub(super) const MANAGER: Address = Address::repeat_byte(0xf4);

/// Ranges that a pool has at most.
const MOST_RANGES: usize = 9;

sol! {
    interface Pair {
        event Sync(uint112 reserve0, uint112 reserve1);
    }

    interface V3 {
        event Swap(address indexed sender, address indexed recipient, int256 amount0, int256 amount1, uint160 sqrtPriceX96, uint128 liquidity, int24 tick);
        event Mint(address sender, address indexed owner, int24 indexed tickLower, int24 indexed tickUpper, uint128 amount, uint256 amount0, uint256 amount1);
        event Burn(address indexed owner, int24 indexed tickLower, int24 indexed tickUpper, uint128 amount, uint256 amount0, uint256 amount1);
    }

    interface V4 {
        event Swap(bytes32 indexed id, address indexed sender, int128 amount0, int128 amount1, uint160 sqrtPriceX96, uint128 liquidity, int24 tick, uint24 fee);
        event ModifyLiquidity(bytes32 indexed id, address indexed sender, int24 tickLower, int24 tickUpper, int256 liquidityDelta, bytes32 salt);
        event ProtocolFeeUpdated(bytes32 indexed id, uint24 protocolFee);
    }
}

/// Which pool it is to be: what it computes, and for V3 and V4 its fee and the distance of its ticks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Make {
    V2,
    V3(u32, i32),
    V4(u32, i32),
}

/// A pool as it stands.
#[derive(Clone, Debug)]
pub(super) struct Venue {
    /// As the judge knows it.
    pub(super) pool: MixedPool,
    pub(super) protocol: Protocol,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Pair([u128; 2]),
    Ranged(Ranges),
}

#[derive(Clone, Debug)]
struct Ranges {
    /// About where it stays.
    home: i32,
    sqrt_price: U256,
    tick: i32,
    fee: u32,
    spacing: i32,
    changes: Vec<Change>,
    /// Of both directions, in 24 bits; none in V3.
    protocol_fee: u32,
}

impl Venue {
    /// With so much of both tokens, the lower address first; the number is no other's.
    pub(super) fn new(
        make: Make,
        number: u8,
        [(token0, amount0), (token1, amount1)]: [(Address, u128); 2],
    ) -> Self {
        let ranges = |fee, spacing| Ranges::new([amount0, amount1], fee, spacing);
        let (name, protocol, kind) = match make {
            Make::V2 => {
                let name = PoolName { address: Address::repeat_byte(0xb0 + number), id: None };
                (name, Protocol::UniswapV2, Kind::Pair([amount0, amount1]))
            }
            Make::V3(fee, spacing) => {
                let salt = keccak256((token0, token1, U256::from(fee)).abi_encode());
                let name = PoolName { address: FACTORY_V3.create2(salt, INIT_CODE_HASH), id: None };
                (name, Protocol::UniswapV3, Kind::Ranged(ranges(fee, spacing)))
            }
            Make::V4(fee, spacing) => {
                let (manager, hooks) = (MANAGER, Address::ZERO);
                let id = PlaceV4 { manager, currencies: [token0, token1], fee, spacing, hooks }.id();
                let ranges = Ranges { protocol_fee: 500 | 250 << 12, ..ranges(fee, spacing) };
                (PoolName { address: manager, id: Some(id) }, Protocol::UniswapV4, Kind::Ranged(ranges))
            }
        };
        let formula = kind.formula();
        Self { pool: MixedPool { name, token0, token1, formula }, protocol, kind }
    }

    /// What a node would say of it as of a block.
    pub(super) fn loaded(&self, head: &Header) -> BusEvent {
        let MixedPool { name: PoolName { address, id }, token0, token1, .. } = self.pool;
        let (number, hash, proof) = (head.number, head.hash, PoolProof::FactoryAnswer);
        let (pool, protocol) = (address, self.protocol);
        match (&self.kind, id) {
            (Kind::Pair([reserve0, reserve1]), _) => BusEvent::PoolLoaded(PoolLoaded {
                pool,
                factory: FACTORY,
                protocol,
                token0,
                token1,
                fee_ppm: V2_FEE_PPM,
                reserves: Some((*reserve0, *reserve1)),
                block_number: number,
                block_hash: hash,
                proof,
            }),
            (Kind::Ranged(ranges), None) => BusEvent::ConcentratedLoaded(ConcentratedLoaded {
                pool,
                factory: FACTORY_V3,
                protocol,
                token0,
                token1,
                fee: ranges.fee,
                tick_spacing: ranges.spacing,
                number,
                hash,
                proof,
                state: Some(ranges.state()),
            }),
            (Kind::Ranged(ranges), Some(id)) => BusEvent::V4Loaded(V4Loaded {
                manager: address,
                id,
                currency0: token0,
                currency1: token1,
                fee: ranges.fee,
                tick_spacing: ranges.spacing,
                number,
                hash,
                protocol_fee: ranges.protocol_fee,
                state: ranges.state(),
            }),
        }
    }

    /// The pool after somebody traded in it, or gave liquidity or took it, or the protocol asked for more; and what it says.
    pub(super) fn changed(&self, random: &mut impl Rng) -> (Self, Log) {
        let mut changed = self.clone();
        let PoolName { address, id } = self.pool.name;
        let data = match &mut changed.kind {
            Kind::Pair(reserves) => {
                trade(reserves, random);
                let [reserve0, reserve1] = reserves.map(alloy_primitives::Uint::from);
                Pair::Sync { reserve0, reserve1 }.encode_log_data()
            }
            Kind::Ranged(ranges) => ranges.change(id, random),
        };
        changed.pool.formula = changed.kind.formula();
        (changed, Log { address, data })
    }
}

/// Somebody swaps up to some percent one way or the other.
fn trade(reserves: &mut [u128; 2], random: &mut impl Rng) {
    let moved = random.random_range(960..1_040u128);
    let [reserve0, reserve1] = [reserves[0] * moved / 1_000, reserves[1] * 1_000 / moved];
    // What many trades in one direction would come to is no market any longer.
    if reserve0 > 1_000_000 && reserve1 > 1_000_000 && reserve0 >> 110 == 0 && reserve1 >> 110 == 0 {
        *reserves = [reserve0, reserve1];
    }
}

impl Kind {
    fn formula(&self) -> Formula {
        match self {
            Self::Pair(reserves) => Formula::Pair(*reserves),
            Self::Ranged(ranges) => {
                let Ranges { sqrt_price, tick, fee, spacing, changes, protocol_fee, .. } = ranges;
                let state = State { sqrt_price: *sqrt_price, tick: *tick, liquidity: ranges.liquidity() };
                Formula::Ranged(Ranged::new(state, changes, *spacing, fees_v4(*fee, *protocol_fee)))
            }
        }
    }
}

impl Ranges {
    /// As deep as a pair of these reserves over three quarters of all prices near by, and ever deeper towards the middle.
    fn new(amounts: [u128; 2], fee: u32, spacing: i32) -> Self {
        let [amount0, amount1] = amounts.map(|amount| amount as f64);
        let home = ((amount1 / amount0).ln() / 1.0001f64.ln()).floor() as i32;
        let align = |tick: i32| tick.div_euclid(spacing) * spacing;
        let around = |width: i32, part: f64| Change {
            lower: align(home - width),
            upper: align(home + width) + spacing,
            delta: ((amount0 * amount1).sqrt() * part) as i128 + 1_000,
        };
        let changes = vec![around(12_000, 0.5), around(1_200, 0.5), around(300, 1.0), around(120, 1.0)];
        let mut ranges =
            Self { home, sqrt_price: U256::ZERO, tick: home, fee, spacing, changes, protocol_fee: 0 };
        ranges.sqrt_price = sqrt_price_at(home);
        ranges
    }

    /// Of the ranges that the tick is in.
    fn liquidity(&self) -> u128 {
        let here = self.changes.iter().filter(|change| (change.lower..change.upper).contains(&self.tick));
        here.map(|change| change.delta.unsigned_abs()).sum()
    }

    fn state(&self) -> ConcentratedState {
        let mut ticks = std::collections::BTreeMap::<i32, (i128, u128)>::new();
        for change in &self.changes {
            for (index, net) in [(change.lower, change.delta), (change.upper, -change.delta)] {
                let tick = ticks.entry(index).or_default();
                *tick = (tick.0 + net, tick.1 + change.delta.unsigned_abs());
            }
        }
        let tick =
            |(index, (liquidity_net, liquidity_gross))| LoadedTick { index, liquidity_net, liquidity_gross };
        ConcentratedState {
            sqrt_price: self.sqrt_price,
            tick: self.tick,
            liquidity: self.liquidity(),
            ticks: ticks.into_iter().map(tick).collect(),
        }
    }

    fn change(&mut self, id: Option<B256>, random: &mut impl Rng) -> alloy_primitives::LogData {
        match random.random_range(0..8) {
            0 if self.changes.len() < MOST_RANGES => self.mint(id, random),
            1 if self.changes.len() > 4 => self.burn(id, random),
            2 if id.is_some() => {
                self.protocol_fee = random.random_range(0..=1_000) | random.random_range(0..=1_000) << 12;
                let fee = alloy_primitives::Uint::from(self.protocol_fee);
                V4::ProtocolFeeUpdated { id: id.unwrap_or_default(), protocolFee: fee }.encode_log_data()
            }
            _ => self.swap(id, random),
        }
    }

    fn swap(&mut self, id: Option<B256>, random: &mut impl Rng) -> alloy_primitives::LogData {
        let before = self.sqrt_price;
        self.tick = self.home + random.random_range(-350..=350);
        self.sqrt_price = sqrt_price_at(self.tick) + U256::from(random.random_range(0..1_000u32));
        let is_down = self.sqrt_price < before;
        let sign: i128 = if is_down { 1 } else { -1 };
        let (price, liquidity) = (alloy_primitives::Uint::from(self.sqrt_price), self.liquidity());
        let (tick, sender) = (signed(self.tick), Address::ZERO);
        match id {
            None => V3::Swap {
                sender,
                recipient: sender,
                amount0: I256::unchecked_from(sign),
                amount1: I256::unchecked_from(-sign),
                sqrtPriceX96: price,
                liquidity,
                tick,
            }
            .encode_log_data(),
            Some(id) => {
                let fee = fees_v4(self.fee, self.protocol_fee)[usize::from(!is_down)];
                let fee = alloy_primitives::Uint::from(fee);
                let (amount0, amount1) = (-sign, sign);
                V4::Swap { id, sender, amount0, amount1, sqrtPriceX96: price, liquidity, tick, fee }
                    .encode_log_data()
            }
        }
    }

    /// Liquidity in a narrow range about the price.
    fn mint(&mut self, id: Option<B256>, random: &mut impl Rng) -> alloy_primitives::LogData {
        let lower = (self.tick.div_euclid(self.spacing) - random.random_range(0..3)) * self.spacing;
        let upper = lower + random.random_range(3..6) * self.spacing;
        let delta = self.changes[0].delta * random.random_range(1..4);
        self.changes.push(Change { lower, upper, delta });
        modified(id, lower, upper, delta)
    }

    /// The last that came goes.
    fn burn(&mut self, id: Option<B256>, random: &mut impl Rng) -> alloy_primitives::LogData {
        let at = random.random_range(4..self.changes.len());
        let Change { lower, upper, delta } = self.changes.remove(at);
        modified(id, lower, upper, -delta)
    }
}

fn modified(id: Option<B256>, lower: i32, upper: i32, delta: i128) -> alloy_primitives::LogData {
    let (lower, upper, owner) = (signed(lower), signed(upper), Address::ZERO);
    let (sender, amount, some) = (owner, delta.unsigned_abs(), U256::ONE);
    match id {
        Some(id) => V4::ModifyLiquidity {
            id,
            sender,
            tickLower: lower,
            tickUpper: upper,
            liquidityDelta: I256::unchecked_from(delta),
            salt: B256::ZERO,
        }
        .encode_log_data(),
        None if delta < 0 => {
            V3::Burn { owner, tickLower: lower, tickUpper: upper, amount, amount0: some, amount1: some }
                .encode_log_data()
        }
        None => V3::Mint {
            sender,
            owner,
            tickLower: lower,
            tickUpper: upper,
            amount,
            amount0: some,
            amount1: some,
        }
        .encode_log_data(),
    }
}

fn signed(tick: i32) -> alloy_primitives::aliases::I24 {
    alloy_primitives::aliases::I24::unchecked_from(tick)
}
