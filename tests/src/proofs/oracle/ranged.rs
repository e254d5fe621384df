//! Pools of Uniswap V3 and V4 beside the pairs: where they stand, and what they say.

#![expect(non_snake_case, reason = "fields are named as the contracts name them")]

use std::collections::BTreeMap;

use alloy_primitives::aliases::{I24, U24};
use alloy_primitives::{Address, B256, BlockHash, I256, LogData, U160, U256, keccak256};
use alloy_sol_types::{SolEvent, SolValue, sol};
use headwater_events::{
    BusEvent, ConcentratedLoaded, ConcentratedState, LoadedTick, Log, PoolProof, Protocol, TokenJudged,
    TokenVerdict, V4Loaded,
};
use headwater_reference::feeds::{JudgedRange, RangedSaid};
use headwater_reference::formulas::sqrt_price_at;
use headwater_reference::pools::Change;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::history::{ETHER, NATIVE, TOKENS, log};

sol! {
    event PoolCreated(
        address indexed token0, address indexed token1, uint24 indexed fee, int24 tickSpacing, address pool
    );
    event Initialize(uint160 sqrtPriceX96, int24 tick);
    event Swap(
        address indexed sender, address indexed recipient, int256 amount0, int256 amount1, uint160 sqrtPriceX96,
        uint128 liquidity, int24 tick
    );
    event Mint(
        address sender, address indexed owner, int24 indexed tickLower, int24 indexed tickUpper, uint128 amount,
        uint256 amount0, uint256 amount1
    );
    event Burn(
        address indexed owner, int24 indexed tickLower, int24 indexed tickUpper, uint128 amount, uint256 amount0,
        uint256 amount1
    );
}

mod v4 {
    use alloy_sol_types::sol;

    sol! {
        event ModifyLiquidity(
            bytes32 indexed id, address indexed sender, int24 tickLower, int24 tickUpper, int256 liquidityDelta,
            bytes32 salt
        );
        event Swap(
            bytes32 indexed id, address indexed sender, int128 amount0, int128 amount1, uint160 sqrtPriceX96,
            uint128 liquidity, int24 tick, uint24 fee
        );
    }
}

const FACTORY: Address = Address::repeat_byte(0xf3);
const MANAGER: Address = Address::repeat_byte(0xf4);
const INIT_CODE_HASH: B256 = B256::repeat_byte(0x1c);

/// The square root of what a coin's smallest unit is worth in wei, and twice the logarithm of it to the base of 1.0001.
const USUAL: [(u128, i32); TOKENS.len()] = [(22_360, 200_311), (17_320, 195_202), (1, 0), (20, 59_918)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Make {
    V3,
    /// With the wrapped native token.
    V4,
    /// With the native currency.
    V4Native,
}

struct Place {
    make: Make,
    token: usize,
    fee: u32,
    spacing: i32,
}

const PLACES: [Place; 4] = [
    Place { make: Make::V3, token: 3, fee: 3_000, spacing: 60 },
    Place { make: Make::V4Native, token: 3, fee: 500, spacing: 10 },
    Place { make: Make::V3, token: 1, fee: 500, spacing: 10 },
    Place { make: Make::V4, token: 2, fee: 3_000, spacing: 60 },
];

/// Where a pool stands.
#[derive(Clone, Debug)]
pub(super) struct Stand {
    sqrt_price: U256,
    /// Each range once.
    ranges: BTreeMap<(i32, i32), i128>,
}

/// What follows the other tables.
pub(super) fn market() -> String {
    format!(
        "[[market.factories]]\nprotocol = 'uniswap-v3'\naddress = '{FACTORY:#x}'\ninit_code_hash = '{INIT_CODE_HASH:#x}'\n\
         [[market.factories]]\nprotocol = 'uniswap-v4'\naddress = '{MANAGER:#x}'\n"
    )
}

impl Place {
    /// Token 0 and token 1.
    fn tokens(&self) -> [Address; 2] {
        let native = if self.make == Make::V4Native { Address::ZERO } else { NATIVE };
        let token = TOKENS[self.token];
        [native.min(token), native.max(token)]
    }

    fn is_native_first(&self) -> bool {
        self.tokens()[1] == TOKENS[self.token]
    }

    fn tick(&self) -> i32 {
        let (_, tick) = USUAL[self.token];
        if self.is_native_first() { -tick } else { tick }
    }

    /// By which a full range holds ten of the native token.
    fn liquidity(&self) -> i128 {
        (10 * ETHER / USUAL[self.token].0) as i128
    }

    fn aligned(&self, tick: i32) -> i32 {
        tick.div_euclid(self.spacing) * self.spacing
    }

    fn v3(&self) -> Address {
        let [token0, token1] = self.tokens();
        FACTORY.create2(keccak256((token0, token1, U256::from(self.fee)).abi_encode()), INIT_CODE_HASH)
    }
}

/// What a pool is called.
pub(super) fn name(place: usize) -> B256 {
    let place = &PLACES[place];
    let [token0, token1] = place.tokens();
    match place.make {
        Make::V3 => place.v3().into_word(),
        Make::V4 | Make::V4Native => {
            let (fee, spacing) = (U256::from(place.fee), I256::try_from(place.spacing).unwrap_or_default());
            keccak256((token0, token1, fee, spacing, Address::ZERO).abi_encode())
        }
    }
}

/// Where the pools stand at first: a wide range, and a narrow one that makes the liquidity tenfold.
pub(super) fn usual() -> Vec<Stand> {
    let stand = |place: &Place| {
        let (tick, liquidity) = (place.tick(), place.liquidity());
        let about = |away: i32| (place.aligned(tick - away), place.aligned(tick + away));
        let ranges = [(about(12_000), liquidity), (about(3 * place.spacing), 9 * liquidity)];
        Stand { sqrt_price: sqrt_price_at(tick), ranges: ranges.into() }
    };
    PLACES.iter().map(stand).collect()
}

/// The same for the judge.
pub(super) fn known() -> BTreeMap<B256, JudgedRange> {
    let stands = usual().into_iter().zip(&PLACES).enumerate();
    let known = stands.map(|(index, (stand, place))| {
        let (token, is_native_first) = (TOKENS[place.token], place.is_native_first());
        let Stand { sqrt_price, ranges } = stand;
        let changes =
            ranges.into_iter().map(|((lower, upper), delta)| Change { lower, upper, delta }).collect();
        (name(index), JudgedRange { token, is_native_first, sqrt_price, changes })
    });
    known.collect()
}

/// The same for the oracle.
pub(super) fn loaded(number: u64, hash: BlockHash) -> Vec<BusEvent> {
    let stands = usual().into_iter().zip(&PLACES).enumerate();
    let event = |(index, (stand, place)): (usize, (Stand, &Place))| {
        let [token0, token1] = place.tokens();
        let (fee, tick_spacing) = (place.fee, place.spacing);
        let state = stand.state();
        match place.make {
            Make::V3 => BusEvent::ConcentratedLoaded(ConcentratedLoaded {
                pool: place.v3(),
                factory: FACTORY,
                protocol: Protocol::UniswapV3,
                token0,
                token1,
                fee,
                tick_spacing,
                number,
                hash,
                proof: PoolProof::Create2 { init_code_hash: INIT_CODE_HASH },
                state: Some(state),
            }),
            Make::V4 | Make::V4Native => BusEvent::V4Loaded(V4Loaded {
                manager: MANAGER,
                id: name(index),
                currency0: token0,
                currency1: token1,
                fee,
                tick_spacing,
                number,
                hash,
                protocol_fee: 0,
                state,
            }),
        }
    };
    stands.map(event).collect()
}

pub(super) fn accepted(token: Address) -> BusEvent {
    let verdict = TokenVerdict::Accepted { decimals: 18, symbol: String::new() };
    BusEvent::TokenJudged(TokenJudged { token, verdict })
}

/// What the pools do in a block.
pub(super) fn acts(random: &mut ChaCha8Rng, stands: &[Stand]) -> Vec<(usize, RangedSaid)> {
    let mut acts = Vec::new();
    for (index, (stand, place)) in stands.iter().zip(&PLACES).enumerate() {
        match random.random_range(0..20) {
            // Anywhere, where there may be no liquidity at all.
            0 => acts.push((index, stands_about(random, place.tick(), 100_000))),
            1..6 => acts.push((index, stands_about(random, place.tick(), 600))),
            6 | 7 => acts.push((index, RangedSaid::Changes(more(random, place)))),
            8 => {
                let at = random.random_range(0..stand.ranges.len().max(1));
                if let Some((range, held)) = stand.ranges.iter().nth(at) {
                    let delta = if random.random() { *held } else { random.random_range(1..=*held) };
                    let change = Change { lower: range.0, upper: range.1, delta: -delta };
                    acts.push((index, RangedSaid::Changes(change)));
                }
            }
            _ => {}
        }
    }
    acts
}

fn stands_about(random: &mut ChaCha8Rng, tick: i32, away: i32) -> RangedSaid {
    let tick = tick + random.random_range(-away..away);
    let (from, to) = (sqrt_price_at(tick), sqrt_price_at(tick + 1));
    RangedSaid::Stands(from + (to - from) * U256::from(random.random_range(0..1_000u32)) / U256::from(1_000))
}

fn more(random: &mut ChaCha8Rng, place: &Place) -> Change {
    let width = place.spacing * random.random_range(1..300);
    let lower = place.aligned(place.tick() - random.random_range(0..width + place.spacing));
    let delta = place.liquidity() / 100 * random.random_range(1..2_000);
    Change { lower, upper: lower + width, delta }
}

impl Stand {
    pub(super) fn follow(&mut self, said: &RangedSaid) {
        match *said {
            RangedSaid::Stands(sqrt_price) => self.sqrt_price = sqrt_price,
            RangedSaid::Changes(Change { lower, upper, delta }) => {
                *self.ranges.entry((lower, upper)).or_default() += delta;
                self.ranges.retain(|_, held| *held > 0);
            }
        }
    }

    /// The log of what it says, once that is done.
    pub(super) fn log(&self, index: usize, said: &RangedSaid) -> Log {
        let (place, state) = (&PLACES[index], self.state());
        let (sender, id) = (Address::repeat_byte(0x5e), name(index));
        let (sqrtPriceX96, tick) = (U160::from(state.sqrt_price), int24(state.tick));
        let data = match (place.make, *said) {
            (Make::V3, RangedSaid::Stands(_)) => Swap {
                sender,
                recipient: sender,
                amount0: I256::ZERO,
                amount1: I256::ZERO,
                sqrtPriceX96,
                liquidity: state.liquidity,
                tick,
            }
            .encode_log_data(),
            (Make::V3, RangedSaid::Changes(change)) => change_log(&change),
            (_, RangedSaid::Stands(_)) => v4::Swap {
                id,
                sender,
                amount0: 0,
                amount1: 0,
                sqrtPriceX96,
                liquidity: state.liquidity,
                tick,
                fee: U24::from(place.fee),
            }
            .encode_log_data(),
            (_, RangedSaid::Changes(Change { lower, upper, delta })) => v4::ModifyLiquidity {
                id,
                sender,
                tickLower: int24(lower),
                tickUpper: int24(upper),
                liquidityDelta: I256::try_from(delta).unwrap_or_default(),
                salt: B256::ZERO,
            }
            .encode_log_data(),
        };
        let emitter = if place.make == Make::V3 { place.v3() } else { MANAGER };
        log(emitter, data.topics().to_vec(), data.data)
    }

    fn state(&self) -> ConcentratedState {
        let tick = tick_of(self.sqrt_price);
        let covers = |(range, _): &(&(i32, i32), &i128)| (range.0..range.1).contains(&tick);
        let liquidity: i128 = self.ranges.iter().filter(covers).map(|(_, held)| held).sum();
        let mut ticks = BTreeMap::<i32, (i128, u128)>::new();
        for ((lower, upper), held) in &self.ranges {
            for (end, net) in [(*lower, *held), (*upper, -held)] {
                let tick = ticks.entry(end).or_default();
                *tick = (tick.0 + net, tick.1 + held.unsigned_abs());
            }
        }
        let ticks = ticks.into_iter().map(|(index, (liquidity_net, liquidity_gross))| LoadedTick {
            index,
            liquidity_net,
            liquidity_gross,
        });
        ConcentratedState {
            sqrt_price: self.sqrt_price,
            tick,
            liquidity: liquidity.unsigned_abs(),
            ticks: ticks.collect(),
        }
    }
}

/// The last whose price is not above this one, by halving.
fn tick_of(sqrt_price: U256) -> i32 {
    let (mut low, mut high) = (-887_272i32, 887_272);
    while high - low > 1 {
        let middle = (low + high).div_euclid(2);
        if sqrt_price_at(middle) <= sqrt_price { low = middle } else { high = middle }
    }
    low
}

fn int24(tick: i32) -> I24 {
    tick.try_into().expect("a tick has 24 bits")
}

fn change_log(change: &Change) -> LogData {
    let owner = Address::repeat_byte(0x5e);
    let (tickLower, tickUpper) = (int24(change.lower), int24(change.upper));
    let (amount, amount0, amount1) = (change.delta.unsigned_abs(), U256::ZERO, U256::ZERO);
    if change.delta > 0 {
        Mint { sender: owner, owner, tickLower, tickUpper, amount, amount0, amount1 }.encode_log_data()
    } else {
        Burn { owner, tickLower, tickUpper, amount, amount0, amount1 }.encode_log_data()
    }
}

/// A pool of V3 of the first coin that somebody creates at a price of their own.
pub(super) struct Attack {
    tick: i32,
    change: Change,
}

impl Attack {
    const PLACE: Place = Place { make: Make::V3, token: 0, fee: 10_000, spacing: 200 };

    /// With so much of the native token on the one side of the price, and a range of that many spacings to either side.
    pub(super) fn new(tick_away: i32, half_width: i32, held: u128) -> Self {
        let place = Self::PLACE;
        let tick = place.aligned(place.tick() + tick_away);
        let (lower, upper) = (tick - half_width * place.spacing, tick + half_width * place.spacing);
        // The native token is token 1, and lies below the price: liquidity times the distance of the roots.
        let distance = sqrt_price_at(tick) - sqrt_price_at(lower);
        let liquidity: U256 = (U256::from(held) << 96usize) / distance;
        let delta = i128::try_from(liquidity).expect("what is held is a few ether");
        Self { tick, change: Change { lower, upper, delta } }
    }

    /// What the pair that the pool looks like at its price would hold of the native token.
    pub(super) fn looks_like(&self) -> U256 {
        (U256::from(self.change.delta.unsigned_abs()) * sqrt_price_at(self.tick)) >> 96usize
    }

    pub(super) fn logs(&self) -> Vec<Log> {
        let place = Self::PLACE;
        let [token0, token1] = place.tokens();
        let created = PoolCreated {
            token0,
            token1,
            fee: U24::from(place.fee),
            tickSpacing: int24(place.spacing),
            pool: place.v3(),
        };
        let initialized =
            Initialize { sqrtPriceX96: U160::from(sqrt_price_at(self.tick)), tick: int24(self.tick) };
        let emitted = [
            (FACTORY, created.encode_log_data()),
            (place.v3(), initialized.encode_log_data()),
            (place.v3(), change_log(&self.change)),
        ];
        emitted.into_iter().map(|(emitter, data)| log(emitter, data.topics().to_vec(), data.data)).collect()
    }
}
