//! Pools with concentrated liquidity, of Uniswap V3 and V4, of tokens that have pairs as well; and who uses them.
//!
//! Swaps go to a price and not for an amount: that is what the pools of both, and `SwapRouter02`, let everybody ask for. Through the
//! Universal Router they come near it. Some go past every router: to V3 by a contract of the devnet's own, and to V4 by its authors'
//! routers for tests, through which liquidity is moved as well.

use alloy_primitives::{Address, B256, U256, address, b256, keccak256};
use alloy_sol_types::{SolCall, SolValue};
use anyhow::{Context, ensure};
use headwater_reference::pools::{
    ActV3, ActV4, CallV4, Change, Order, PlaceV3, PlaceV4, RoutersV4, State, create_pool_v3, payer_v3,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::artifacts::Artifacts;
use super::contracts::{Token, Weth};
use super::deployment::{NONCE_WITH_A_FULL_PURSE, created_by, worth};
use super::routers::{Customers, Goal};
use super::trader::{Phase, Reference};
use super::{Addresses, Concentrated, DEPLOYER, Devnet, Extent, RangedPool, lending};

/// Anvil's last account: puts everything on the chain that is not of V2, and uses V4.
pub(super) const ARCHITECT: Address = address!("a0Ee7A142d267C1f36714E4a8F75612F20a79720");

/// `POOL_INIT_CODE_HASH` in `PoolAddress.sol` of v3-periphery.
const POOL_INIT_CODE_HASH: B256 = b256!("e34f199b19b2b4f47f68442619d555527d244f78a3297ea89325f843f87b8b54");

/// Two tokens, fee and tick spacing, and as deep at the start as a pair that is worth so much ether on each side.
type Site = (&'static str, &'static str, u32, i32, u64);

const V3: [Site; 6] = [
    ("WETH", "USDC", 500, 10, 3_000),
    ("WETH", "USDC", 3_000, 60, 1_200),
    ("WETH", "WBTC", 3_000, 60, 1_000),
    ("USDC", "USDT", 500, 10, 2_500),
    ("WETH", "DAI", 3_000, 60, 800),
    ("WETH", "LINK", 10_000, 200, 300),
];

const V4: [Site; 3] =
    [("WETH", "USDT", 500, 10, 1_500), ("USDC", "DAI", 100, 1, 2_000), ("WETH", "WBTC", 3_000, 60, 700)];

/// A pool of V3 that somebody creates later on.
const LATE: Site = ("WETH", "UNI", 3_000, 60, 250);

/// Blocks before that.
const LATE_AFTER: u64 = 60;

/// All that a price can be, for the late pool's tick spacing.
const EVERYWHERE: i32 = 887_220;

/// Far more than the pools of V3 ever ask for, in ether.
const PURSE_OF_THE_PAYER: u64 = 50_000;

/// Ticks around the first price within which liquidity lies at the start: more of it near, some for whatever comes.
const NEAR: i32 = 600;
const FAR: i32 = 12_000;

/// A pool this far from the reference price is swapped back. Quiet swaps stay well within.
const CLOSED_WITHIN: f64 = 1e-4;
const WHISPER: f64 = 4e-5;

/// What is asked for by those who swap to a price.
pub(super) const WHATEVER: U256 = U256::from_limbs([0, 1 << 60, 0, 0]);

/// One of the pools.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    V3(PlaceV3),
    V4(PlaceV4, RoutersV4),
}

/// A pool as it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quote {
    pool: usize,
    tokens: [Address; 2],
    /// Hundredths of a basis point.
    fee: u32,
    state: State,
}

/// Who swaps in the pools, and moves liquidity, out of a seed of its own.
#[derive(Clone, Debug)]
pub(super) struct Users {
    random: ChaCha8Rng,
    customers: Customers,
    blocks: u64,
    /// The late one is the last.
    places: Vec<(Place, Site)>,
    is_late_created: bool,
    /// What was added since the start; of what a reorganisation undid, the contracts refuse to give anything back.
    positions: Vec<(usize, Change)>,
}

/// Where everything will stand, but for the pools.
pub(super) fn derive() -> Concentrated {
    let nth = |count| created_by(ARCHITECT, NONCE_WITH_A_FULL_PURSE + count);
    Concentrated {
        factory: nth(0),
        init_code_hash: POOL_INIT_CODE_HASH,
        manager: nth(1),
        swaps: nth(2),
        liquidity: nth(3),
        pools: Vec::new(),
    }
}

/// How many contracts the architect has created when it comes to lending.
pub(super) const CONTRACTS: u8 = 4;

/// The pools of both, in the order of the tables.
pub(super) fn pools(addresses: &Addresses) -> Vec<RangedPool> {
    let places = places(addresses);
    let pools = places.map(|(place, (_, _, fee, tick_spacing, _))| {
        let [token0, token1] = place.tokens();
        let (address, id) = match place {
            Place::V3(place) => (place.pool, None),
            Place::V4(place, _) => (place.manager, Some(place.id())),
        };
        RangedPool { token0, token1, fee, tick_spacing, address, id }
    });
    pools.collect()
}

fn places(addresses: &Addresses) -> impl Iterator<Item = (Place, Site)> {
    let v3 = V3.iter().map(|site| (Place::V3(place_v3(addresses, site)), *site));
    let v4 = V4.iter().map(|site| (Place::V4(place_v4(addresses, site), routers(addresses)), *site));
    v3.chain(v4)
}

fn sorted(addresses: &Addresses, (a, b, ..): &Site) -> [Address; 2] {
    let mut tokens = [a, b].map(|symbol| addresses.token(symbol));
    tokens.sort_unstable();
    tokens
}

fn place_v3(addresses: &Addresses, site: &Site) -> PlaceV3 {
    let (tokens, (_, _, fee, spacing, _)) = (sorted(addresses, site), *site);
    let Concentrated { factory, init_code_hash, .. } = addresses.concentrated;
    let salt = keccak256((tokens[0], tokens[1], U256::from(fee)).abi_encode());
    PlaceV3 { pool: factory.create2(salt, init_code_hash), factory, tokens, fee, spacing }
}

fn place_v4(addresses: &Addresses, site: &Site) -> PlaceV4 {
    let (currencies, (_, _, fee, spacing, _)) = (sorted(addresses, site), *site);
    PlaceV4 { manager: addresses.concentrated.manager, currencies, fee, spacing, hooks: Address::ZERO }
}

fn routers(addresses: &Addresses) -> RoutersV4 {
    let Concentrated { manager, swaps, liquidity, .. } = addresses.concentrated;
    RoutersV4 { manager, swaps, liquidity }
}

/// Contracts, purses, and every pool with a price and liquidity.
pub(super) fn deploy(devnet: &Devnet, artifacts: &Artifacts) -> anyhow::Result<()> {
    let Concentrated { factory, manager, swaps, liquidity, .. } = devnet.addresses().concentrated;
    let [manager_v4, swaps_v4, liquidity_v4, _] = artifacts.manager_v4()?;
    for (code, expected) in [
        (artifacts.factory_v3()?.creation_code()?, factory),
        (RoutersV4::creation(&manager_v4, ARCHITECT)?, manager),
        (RoutersV4::creation(&swaps_v4, manager)?, swaps),
        (RoutersV4::creation(&liquidity_v4, manager)?, liquidity),
    ] {
        let created = devnet.create_mined(ARCHITECT, &code)?;
        ensure!(created == expected, "a contract stands at {created} and not at {expected}");
    }
    lending::deploy_feeds(devnet)?;
    fill_purses(devnet)?;
    let reference = Reference::at_the_start(devnet.addresses());
    for (place, site) in places(devnet.addresses()) {
        open(devnet, &place, &site, &reference).with_context(|| format!("opening {site:?}"))?;
    }
    Ok(())
}

/// The payer of V3 gets tokens; the routers of V4 may take the architect's.
fn fill_purses(devnet: &Devnet) -> anyhow::Result<()> {
    let addresses = devnet.addresses();
    let (payer, code) = payer_v3();
    devnet.rpc().call::<Value>("anvil_setCode", json!([payer, code]))?;
    for token in &addresses.tokens {
        let mint = Token::mintCall { account: payer, amount: worth(&token.symbol, PURSE_OF_THE_PAYER) };
        devnet.send(DEPLOYER, token.address, U256::ZERO, mint.abi_encode(), 150_000)?;
    }
    let ether = worth("WETH", PURSE_OF_THE_PAYER);
    devnet.send(ARCHITECT, addresses.weth, ether, Weth::depositCall {}.abi_encode(), 100_000)?;
    let transfer = Token::transferCall { to: payer, amount: ether };
    devnet.send(ARCHITECT, addresses.weth, U256::ZERO, transfer.abi_encode(), 100_000)?;
    let tokens = addresses.tokens.iter().map(|token| token.address);
    for token in tokens.chain([addresses.weth]) {
        for router in [addresses.concentrated.swaps, addresses.concentrated.liquidity] {
            devnet.approve(ARCHITECT, token, router)?;
        }
    }
    devnet.mine()?;
    Ok(())
}

fn open(devnet: &Devnet, place: &Place, site: &Site, reference: &Reference) -> anyhow::Result<()> {
    if let Place::V3(place) = place {
        let create = create_pool_v3(place.tokens, place.fee);
        devnet.send_mined(ARCHITECT, place.factory, create.to_vec(), 7_000_000)?;
    }
    let [token0, token1] = place.tokens();
    let price = sqrt_price(reference.rate(token0, token1));
    place.act_mined(devnet, &ActV3::Initialize(price))?;
    let tick = place.state(devnet)?.tick;
    for (ticks, share) in [(NEAR, 0.6), (FAR, 0.4)] {
        let (spacing, delta) = (site.3, (liquidity(site) * share) as i128);
        let lower = (tick - ticks).div_euclid(spacing) * spacing;
        let upper = (tick + ticks).div_euclid(spacing) * spacing;
        place.act_mined(devnet, &ActV3::Modify(Change { lower, upper, delta }))?;
    }
    Ok(())
}

/// That of a pair of this depth: the square root of the product of what it holds.
fn liquidity((a, b, _, _, ether): &Site) -> f64 {
    let [a, b] = [a, b].map(|symbol| worth(symbol, *ether).to::<u128>() as f64);
    (a * b).sqrt()
}

/// With 96 bits after the point.
fn sqrt_price(rate: f64) -> U256 {
    U256::from((rate.sqrt() * 2f64.powi(96)) as u128)
}

impl Place {
    fn tokens(&self) -> [Address; 2] {
        match self {
            Self::V3(place) => place.tokens,
            Self::V4(place, _) => place.currencies,
        }
    }

    /// Where price and tick are stored.
    fn slot(&self) -> (Address, U256) {
        match self {
            Self::V3(place) => (place.pool, U256::ZERO),
            Self::V4(place, _) => (place.manager, place.slot()),
        }
    }

    /// Where the liquidity in range is stored (v3-core `UniswapV3Pool.sol`, v4-core `Pool.sol`).
    fn slot_of_liquidity(&self) -> (Address, U256) {
        match self {
            Self::V3(place) => (place.pool, U256::from(4)),
            Self::V4(place, _) => (place.manager, place.slot() + U256::from(3)),
        }
    }

    fn state(&self, devnet: &Devnet) -> anyhow::Result<State> {
        let words = devnet.storage(&[self.slot()])?;
        Ok(State::from_words(words[0], U256::ZERO))
    }

    fn call(&self, act: &ActV3) -> CallV4 {
        match self {
            Self::V3(place) => CallV4 { to: payer_v3().0, value: U256::ZERO, data: place.calldata(act) },
            Self::V4(place, routers) => {
                let act = match *act {
                    ActV3::Initialize(price) => ActV4::Initialize(price),
                    ActV3::Modify(change) => ActV4::Modify(change),
                    ActV3::Swap(order) => ActV4::Swap(order),
                };
                routers.call(place, &act)
            }
        }
    }

    fn act_mined(&self, devnet: &Devnet, act: &ActV3) -> anyhow::Result<()> {
        let CallV4 { to, data, .. } = self.call(act);
        devnet.send_mined(ARCHITECT, to, data.to_vec(), 2_000_000)
    }
}

impl Quote {
    /// Smallest units of token 1 for one of token 0.
    fn rate(&self) -> f64 {
        let root = self.state.sqrt_price.to::<u128>() as f64 / 2f64.powi(96);
        root * root
    }

    /// By how much the pool pays more token 1 for token 0 than the world does.
    fn gap(&self, reference: &Reference) -> f64 {
        self.rate() / reference.rate(self.tokens[0], self.tokens[1]) - 1.0
    }

    /// The input that leads to a price if no tick is crossed on the way (whitepaper of V3, section 6.2.3).
    fn amount_that_reaches(&self, sqrt_price_limit: U256) -> U256 {
        let root = |price: U256| price.to::<u128>() as f64 / 2f64.powi(96);
        let (from, to) = (root(self.state.sqrt_price), root(sqrt_price_limit));
        let moved = if to < from { 1.0 / to - 1.0 / from } else { to - from };
        let amount = self.state.liquidity as f64 * moved / (1.0 - f64::from(self.fee) / 1e6);
        U256::from((amount as u128).max(1))
    }

    pub(super) fn is_apart(&self, reference: &Reference) -> bool {
        self.gap(reference).abs() > CLOSED_WITHIN
    }
}

impl Users {
    /// Nobody where there are no such pools.
    pub(super) fn new(seed: u64, devnet: &Devnet) -> Self {
        let addresses = devnet.addresses();
        let late = (Place::V3(place_v3(addresses, &LATE)), LATE);
        let places = match devnet.extent() {
            Extent::Whole => places(addresses).chain([late]).collect(),
            Extent::Pairs => Vec::new(),
        };
        let random = ChaCha8Rng::seed_from_u64(seed ^ 0x0c0c_e247_4a7e_d000);
        let customers = Customers::new(seed ^ 0x0c0c_e247_4a7e_d001, devnet);
        Self { random, customers, blocks: 0, places, is_late_created: false, positions: Vec::new() }
    }

    /// Every pool that stands.
    pub(super) fn quotes(&self, devnet: &Devnet) -> anyhow::Result<Vec<Quote>> {
        if self.places.is_empty() {
            return Ok(Vec::new());
        }
        let slots: Vec<_> =
            self.places.iter().flat_map(|(place, _)| [place.slot(), place.slot_of_liquidity()]).collect();
        let words = devnet.storage(&slots)?;
        let places = self.places.iter().zip(words.chunks_exact(2)).enumerate();
        let quotes = places.map(|(pool, ((place, (_, _, fee, ..)), words))| Quote {
            pool,
            tokens: place.tokens(),
            fee: *fee,
            state: State::from_words(words[0], words[1]),
        });
        Ok(quotes.filter(|quote| !quote.state.sqrt_price.is_zero()).collect())
    }

    /// This block's part of what happens.
    pub(super) fn act(
        &mut self,
        devnet: &Devnet,
        phase: Phase,
        reference: &Reference,
        quotes: &[Quote],
    ) -> anyhow::Result<()> {
        if quotes.is_empty() {
            return Ok(());
        }
        self.blocks += 1;
        match phase {
            Phase::Drifting => self.drift(devnet, reference, quotes),
            Phase::Closing => {
                let mut apart = quotes.iter().filter(|quote| quote.is_apart(reference));
                apart.try_for_each(|quote| self.swap_back(devnet, reference, quote))
            }
            Phase::Quiet if self.random.random_range(0..3) == 0 => {
                let quote = &quotes[self.random.random_range(0..quotes.len())];
                let whispered = self.random.random_range(-WHISPER..WHISPER);
                let rate = reference.rate(quote.tokens[0], quote.tokens[1]);
                self.swap_exactly_to(devnet, quote, rate * (1.0 + whispered))
            }
            Phase::Quiet => Ok(()),
        }
    }

    fn drift(&mut self, devnet: &Devnet, reference: &Reference, quotes: &[Quote]) -> anyhow::Result<()> {
        for _ in 0..self.random.random_range(0..=2) {
            let quote = &quotes[self.random.random_range(0..quotes.len())];
            match self.random.random_range(0..100) {
                0..60 => {
                    let moved = self.random.random_range(0.001..0.012);
                    let sign = if self.random.random_range(0..2) == 0 { 1.0 } else { -1.0 };
                    self.swap_to(devnet, quote, quote.rate() * (1.0 + sign * moved))?;
                }
                60..78 => self.swap_back(devnet, reference, quote)?,
                78..92 => self.add_liquidity(devnet, quote)?,
                _ => self.remove_liquidity(devnet)?,
            }
        }
        if !self.is_late_created && self.blocks > LATE_AFTER && self.random.random_range(0..10) == 0 {
            self.is_late_created = true;
            self.create_late(devnet, reference)?;
        }
        Ok(())
    }

    /// Three transactions, one after another.
    fn create_late(&mut self, devnet: &Devnet, reference: &Reference) -> anyhow::Result<()> {
        let pool = self.places.len() - 1;
        let Place::V3(place) = self.places[pool].0 else { return Ok(()) };
        let create = create_pool_v3(place.tokens, place.fee);
        devnet.send(ARCHITECT, place.factory, U256::ZERO, create.to_vec(), 6_000_000)?;
        let price = sqrt_price(reference.rate(place.tokens[0], place.tokens[1]));
        self.send(devnet, pool, &ActV3::Initialize(price))?;
        let (lower, upper) = (-EVERYWHERE, EVERYWHERE);
        self.send(devnet, pool, &ActV3::Modify(Change { lower, upper, delta: liquidity(&LATE) as i128 }))
    }

    /// The arbitrageur.
    fn swap_back(&mut self, devnet: &Devnet, reference: &Reference, quote: &Quote) -> anyhow::Result<()> {
        self.swap_to(devnet, quote, reference.rate(quote.tokens[0], quote.tokens[1]))
    }

    /// Through one of the routers, for the most part.
    fn swap_to(&mut self, devnet: &Devnet, quote: &Quote, rate: f64) -> anyhow::Result<()> {
        let sqrt_price_limit = sqrt_price(rate);
        let goal = Goal {
            zero_for_one: sqrt_price_limit < quote.state.sqrt_price,
            sqrt_price_limit,
            amount_in: quote.amount_that_reaches(sqrt_price_limit),
        };
        match self.customers.swap(devnet, &self.places[quote.pool].0, &goal)? {
            true => Ok(()),
            false => self.swap_exactly_to(devnet, quote, rate),
        }
    }

    fn swap_exactly_to(&mut self, devnet: &Devnet, quote: &Quote, rate: f64) -> anyhow::Result<()> {
        let sqrt_price_limit = sqrt_price(rate);
        let zero_for_one = sqrt_price_limit < quote.state.sqrt_price;
        let order = Order { zero_for_one, amount: WHATEVER, is_exact_in: true, sqrt_price_limit };
        self.send(devnet, quote.pool, &ActV3::Swap(order))
    }

    /// Around the price or to one side of it.
    fn add_liquidity(&mut self, devnet: &Devnet, quote: &Quote) -> anyhow::Result<()> {
        let (_, site) = self.places[quote.pool];
        let (spacing, share) = (site.3, self.random.random_range(0.02..0.3));
        let (at, most) = (quote.state.tick.div_euclid(spacing), (NEAR / spacing).max(2));
        let [below, above] = [self.random.random_range(-1..most), self.random.random_range(2..=most)];
        let (lower, upper) = ((at - below) * spacing, (at + above) * spacing);
        let change = Change { lower, upper, delta: (liquidity(&site) * share) as i128 };
        self.positions.push((quote.pool, change));
        self.send(devnet, quote.pool, &ActV3::Modify(change))
    }

    /// The whole of a position that was added, or half of it.
    fn remove_liquidity(&mut self, devnet: &Devnet) -> anyhow::Result<()> {
        if self.positions.is_empty() {
            return Ok(());
        }
        let index = self.random.random_range(0..self.positions.len());
        let (pool, Change { lower, upper, delta }) = self.positions[index];
        let taken = if self.random.random_range(0..2) == 0 { delta } else { delta / 2 };
        self.positions[index].1.delta -= taken;
        self.positions.retain(|(_, position)| position.delta > 0);
        self.send(devnet, pool, &ActV3::Modify(Change { lower, upper, delta: -taken }))
    }

    fn send(&mut self, devnet: &Devnet, pool: usize, act: &ActV3) -> anyhow::Result<()> {
        let CallV4 { to, value, data } = self.places[pool].0.call(act);
        devnet.send(ARCHITECT, to, value, data.to_vec(), 700_000)?;
        Ok(())
    }
}
