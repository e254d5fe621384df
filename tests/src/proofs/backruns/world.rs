//! Two exchanges of Uniswap V2, one of V3 and one of V4 with their routers over the same three tokens, in an EVM in memory; and their
//! users.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;

use alloy_primitives::aliases::U48;
use alloy_primitives::{Address, B256, BlockHash, Bytes, U160, U256, keccak256};
use alloy_sol_types::{SolCall, SolValue, sol};
use anyhow::{Context, ensure};
use headwater_amm::{SwapFee, Version};
use headwater_events::{AsOf, Protocol, TokenJudged, TokenVerdict};
use headwater_market::{
    BlockRef, ConcentratedBook, ConcentratedFactory, ConcentratedKey, ConcentratedManager, ConcentratedPool,
    ConcentratedPrice, ConcentratedTable, ConcentratedUpdate, Head, MarketConfig, MarketSnapshot, PoolBook,
    PoolMeta, PoolTable, Refused, Reserves, ResolvedMarket, V4Key,
};
use headwater_reference::evm::{Evm, Message, Parameters};
use headwater_reference::formulas::sqrt_price_at;
use headwater_reference::pools::{
    ActV3, ActV4, Change, PlaceV3, PlaceV4, RoutersV4, State, StoredTick, create_pool_v3, payer_v3,
};
use headwater_simulation::{AccountState, BlockFigures, SimulationError, StateReader};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::devnet::Artifacts;
use crate::proofs::tracking::INIT_CODE_HASH;
use crate::routers::RouterParts;

sol! {
    function createPair(address tokenA, address tokenB) external returns (address pair);
    function mint(address to, uint256 amount) external;
    function deposit() external payable;
    function transfer(address to, uint256 amount) external returns (bool);
    function approve(address spender, uint256 amount) external returns (bool);
    function balanceOf(address owner) external view returns (uint256);
    interface Pair {
        function mint(address to) external returns (uint256 liquidity);
    }
    interface Permit2 {
        function approve(address token, address spender, uint160 amount, uint48 expiration) external;
    }
}

/// Who deploys and provides the liquidity.
const OWNER: Address = Address::repeat_byte(0x0a);

/// Blocks come so many seconds apart.
pub(super) const BLOCK_TIME: u64 = 12;

const GAS_LIMIT: u64 = 30_000_000;

/// The chain, as its judges see it.
#[derive(Clone)]
pub(super) struct Chain(Rc<RefCell<Evm>>);

/// The same chain as the part under test reads it. An EVM stays on its thread, and so do the questions.
#[derive(Debug)]
pub(super) struct Reader;

thread_local! {
    static READ: RefCell<Option<Chain>> = const { RefCell::new(None) };
}

/// An answer from the chain of this thread.
fn read<T>(ask: impl FnOnce(&Evm) -> T) -> Result<T, SimulationError> {
    let chain = READ.with_borrow(Clone::clone).ok_or(SimulationError::Unavailable)?;
    Ok(ask(&chain.evm()))
}

/// What stands on it.
pub(super) struct World {
    pub(super) chain: Chain,
    /// Router and factory of each exchange.
    pub(super) exchanges: [[Address; 2]; 2],
    /// The second is the wrapped native token.
    pub(super) tokens: [Address; 3],
    pub(super) users: Vec<Address>,
    /// Has no tokens.
    pub(super) poor: Address,
    pub(super) pools: PoolTable,
    pub(super) routers_v3: RoutersV3,
    pub(super) routers_v4: RoutersV4,
    pub(super) places: Vec<PlaceV3>,
    /// Between the first and the third token, and between the native one and each of these.
    pub(super) places_v4: [PlaceV4; 3],
    concentrated: ConcentratedTable,
    /// No token of these.
    refused: Refused,
}

/// Who swaps through V3.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoutersV3 {
    pub(super) factory: Address,
    /// `SwapRouter`.
    pub(super) first: Address,
    /// `SwapRouter02`, whose pairs are those of the first exchange.
    pub(super) second: Address,
    /// The Universal Router, the same.
    pub(super) universal: Address,
    /// The Universal Router before V4, the same.
    pub(super) universal_v1: Address,
    /// Takes the users' tokens for both of them.
    pub(super) permit2: Address,
}

/// Ticks that anything happens between.
const MOST_TICK: i32 = 60_000;

impl Chain {
    pub(super) fn evm(&self) -> RefMut<'_, Evm> {
        self.0.borrow_mut()
    }
}

impl World {
    pub(super) fn new(random: &mut ChaCha8Rng, artifacts: &Artifacts) -> anyhow::Result<Self> {
        let mut evm = Evm::new(&Parameters::default());
        evm.fund(OWNER, U256::MAX >> 8);
        let code = |path: &str| artifacts.contract(path)?.creation_code();
        let plain = code("@uniswap/v4-core/out/TestERC20.sol/TestERC20.json")?;
        let mut plain_token = || evm.deploy(OWNER, &plain, &U256::ZERO.abi_encode());
        let (first, third) = (plain_token()?, plain_token()?);
        let wrapped = evm.deploy(OWNER, &code("@uniswap/v2-periphery/build/WETH9.json")?, &[])?;
        let tokens = [first, wrapped, third];
        let mut exchanges = [[Address::ZERO; 2]; 2];
        for exchange in &mut exchanges {
            let factory = artifacts.factory_v2()?.creation_code()?;
            let factory = evm.deploy(OWNER, &factory, &OWNER.abi_encode()).context("the factory")?;
            let router = code("@uniswap/v2-periphery/build/UniswapV2Router02.json")?;
            let router =
                evm.deploy(OWNER, &router, &(factory, wrapped).abi_encode()).context("the router")?;
            *exchange = [router, factory];
        }
        let routers_v4 = RoutersV4::deploy(&mut evm, &artifacts.manager_v4()?, &[first, third])?;
        let makers = [exchanges[0][1], routers_v4.manager];
        let routers_v3 = RoutersV3::deploy(&mut evm, artifacts, makers, wrapped)?;
        let places_v4 = places_v4(routers_v4.manager, [first, third]);
        let (payer, code) = payer_v3();
        evm.place(payer, code);
        let users = (1..=6).map(|number| Address::repeat_byte(0x50 + number)).collect();
        let chain = Chain(Rc::new(RefCell::new(evm)));
        READ.set(Some(chain.clone()));
        let (pools, concentrated, places) = (PoolTable::default(), ConcentratedTable::default(), Vec::new());
        let poor = Address::repeat_byte(0x5f);
        let mut world = Self {
            chain,
            exchanges,
            tokens,
            users,
            poor,
            pools,
            routers_v3,
            places,
            concentrated,
            refused: Refused::default(),
            routers_v4,
            places_v4,
        };
        for token in tokens {
            world.give(token, payer, U256::from(10).pow(U256::from(28)))?;
        }
        world.open_pools(random)?;
        world.endow_users()?;
        Ok(world)
    }

    /// Every pair of tokens on both exchanges, at much the same price.
    fn open_pools(&mut self, random: &mut ChaCha8Rng) -> anyhow::Result<()> {
        let [a, b, c] = self.tokens;
        let scale = U256::from(10).pow(U256::from(18));
        let pairs = [(a, b, 2u64), (b, c, 3), (a, c, 6)];
        for ((one, other, price), fee) in pairs.into_iter().zip([(500, 10), (3_000, 60), (10_000, 200)]) {
            self.open_concentrated(random, [one, other], price, fee)?;
        }
        for (place, price) in self.places_v4.into_iter().zip([6.0, 0.5, 3.0]) {
            self.open_v4(random, &place, price)?;
        }
        self.follow_concentrated()?;
        for (one, other, price) in pairs {
            for [_, factory] in self.exchanges {
                let depth = scale * U256::from(random.random_range(1_000u64..50_000));
                let pair = {
                    let mut evm = self.chain.evm();
                    evm.send(OWNER, factory, &createPairCall { tokenA: one, tokenB: other })?
                };
                self.give(one, pair, depth)?;
                self.give(other, pair, depth * U256::from(price))?;
                self.chain.evm().send(OWNER, pair, &Pair::mintCall { to: OWNER })?;
                let meta = PoolMeta {
                    address: pair,
                    factory,
                    protocol: Protocol::UniswapV2,
                    token0: one.min(other),
                    token1: one.max(other),
                    fee_ppm: 3_000,
                };
                self.pools.insert(meta, true);
            }
        }
        Ok(())
    }

    /// A pool of V3 with a dozen ranges around the price.
    fn open_concentrated(
        &mut self,
        random: &mut ChaCha8Rng,
        mut tokens: [Address; 2],
        price: u64,
        (fee, spacing): (u32, i32),
    ) -> anyhow::Result<()> {
        let mut tick = ((price as f64).ln() / 1.0001f64.ln()) as i32;
        if tokens[0] > tokens[1] {
            (tokens, tick) = ([tokens[1], tokens[0]], -tick);
        }
        let factory = self.routers_v3.factory;
        let message =
            Message { from: OWNER, to: factory, value: U256::ZERO, data: create_pool_v3(tokens, fee) };
        let created = self.chain.evm().transact(&message)?;
        let pool = Address::from_word(B256::from_slice(&created.output));
        let place = PlaceV3 { pool, factory, tokens, fee, spacing };
        self.act(&place, &ActV3::Initialize(sqrt_price_at(tick + random.random_range(-20..20))))?;
        for range in ranges(random, price as f64, tick, spacing) {
            self.act(&place, &ActV3::Modify(range))?;
        }
        self.places.push(place);
        Ok(())
    }

    /// The same of V4; `price` of currency 0.
    fn open_v4(&self, random: &mut ChaCha8Rng, place: &PlaceV4, price: f64) -> anyhow::Result<()> {
        // Currency 0 is the first token, or the native one.
        let is_upside_down = place.currencies[0] == self.tokens[2];
        let price = if is_upside_down { 1.0 / price } else { price };
        let tick = (price.ln() / 1.0001f64.ln()) as i32;
        let act = |act: ActV4| self.routers_v4.act(&mut self.chain.evm(), place, &act);
        act(ActV4::Initialize(sqrt_price_at(tick + random.random_range(-20..20))))?;
        act(ActV4::ProtocolFee(random.random_range(0..1_000) | random.random_range(0..1_000) << 12))?;
        for range in ranges(random, price, tick, place.spacing) {
            act(ActV4::Modify(range))?;
        }
        Ok(())
    }

    /// Has the market's table know the pools.
    fn follow_concentrated(&mut self) -> anyhow::Result<()> {
        let (address, manager) = (self.routers_v3.factory, self.routers_v4.manager);
        let factory = ConcentratedFactory {
            name: "uniswap".into(),
            address,
            init_code_hash: INIT_CODE_HASH.parse()?,
            deployer: None,
        };
        let market = ResolvedMarket {
            concentrated_factories: vec![factory],
            concentrated_managers: vec![ConcentratedManager { name: "uniswap".into(), address: manager }],
            ..ResolvedMarket::resolve(&MarketConfig::default(), 1)?
        };
        let mut verdicts = PoolBook::new(&market);
        for token in self.tokens {
            let verdict = TokenVerdict::Accepted { decimals: 18, symbol: String::new() };
            verdicts.token_judged(&TokenJudged { token, verdict });
        }
        self.refused = verdicts.refused();
        let mut book = ConcentratedBook::new(&market);
        let block = BlockRef { number: 1, hash: hash(1), parent_hash: hash(0) };
        let created = self.places.iter().map(|place| ConcentratedUpdate::PoolCreated {
            emitter: place.factory,
            token0: place.tokens[0],
            token1: place.tokens[1],
            fee: place.fee,
            tick_spacing: place.spacing,
            pool: place.pool,
        });
        let initialized = self.places_v4.iter().map(|place| {
            let [currency0, currency1] = place.currencies;
            let PlaceV4 { manager, fee, spacing: tick_spacing, hooks, .. } = *place;
            ConcentratedUpdate::V4Initialized {
                manager,
                id: place.id(),
                key: V4Key { currency0, currency1, fee, tick_spacing, hooks },
                price: ConcentratedPrice { sqrt_price: sqrt_price_at(0), tick: 0 },
            }
        });
        book.apply_block(block, created.chain(initialized));
        self.concentrated = book.table().clone();
        let pools = self.places.len() + self.places_v4.len();
        ensure!(self.concentrated.len() == pools, "the book does not take the pools");
        Ok(())
    }

    fn act(&self, place: &PlaceV3, act: &ActV3) -> anyhow::Result<()> {
        let message = Message { from: OWNER, to: payer_v3().0, value: U256::ZERO, data: place.calldata(act) };
        self.chain.evm().transact(&message).with_context(|| format!("{act:?}"))?;
        Ok(())
    }

    fn endow_users(&mut self) -> anyhow::Result<()> {
        let much = U256::from(10).pow(U256::from(24));
        self.chain.evm().fund(self.poor, much);
        for user in self.users.clone() {
            self.chain.evm().fund(user, much);
            for token in self.tokens {
                self.give(token, user, much)?;
                let RoutersV3 { first, second, universal, universal_v1, permit2, .. } = self.routers_v3;
                let routers = self.exchanges.map(|[router, _]| router);
                let routers = routers.into_iter().chain([first, second, permit2]);
                let RoutersV4 { swaps, liquidity, .. } = self.routers_v4;
                let spenders = routers.chain(private(user)).chain([swaps, liquidity]);
                for spender in spenders {
                    self.chain.evm().send(user, token, &approveCall { spender, amount: U256::MAX })?;
                }
                for spender in [universal, universal_v1] {
                    let (amount, expiration) = (U160::MAX, U48::MAX);
                    let approve = Permit2::approveCall { token, spender, amount, expiration };
                    self.chain.evm().send(user, permit2, &approve)?;
                }
            }
        }
        Ok(())
    }

    /// Out of nowhere, or wrapped.
    fn give(&self, token: Address, to: Address, amount: U256) -> anyhow::Result<()> {
        let mut evm = self.chain.evm();
        if token == self.tokens[1] {
            evm.transact(&Message::new(OWNER, token, &depositCall {}).with_value(amount))?;
            evm.send(OWNER, token, &transferCall { to, amount })?;
        } else {
            evm.transact(&Message::new(OWNER, token, &mintCall { to, amount }))?;
        }
        Ok(())
    }

    /// The market behind the last block, by the pools' own storage.
    pub(super) fn market(&mut self) -> anyhow::Result<MarketSnapshot> {
        let evm = self.chain.evm();
        let mut concentrated = self.concentrated.clone();
        for place in self.all_places() {
            let id = concentrated.find_key(&place.key()).context("a pool that nobody follows")?;
            concentrated.set(id, Some(Arc::new(place.real(&evm)?)));
        }
        let held: Vec<_> =
            self.pools.iter().map(|(id, meta, _)| (id, reserves(&evm, meta.address))).collect();
        for (id, reserves) in held {
            self.pools.set_reserves(id, Some(reserves));
        }
        let next = evm.block();
        let figures = figures(&evm);
        let as_of = AsOf { seq: next.number, number: next.number - 1, hash: hash(next.number - 1) };
        let head = Head {
            timestamp: figures.timestamp,
            base_fee_per_gas: figures.base_fee_per_gas,
            gas_used: figures.gas_used,
            gas_limit: figures.gas_limit,
        };
        let (refused, plain) =
            (self.refused.clone(), MarketSnapshot::of_pools(as_of, head, self.pools.clone()));
        Ok(MarketSnapshot { concentrated, refused, ..plain })
    }
}

/// A dozen ranges around a price, and one over all that happens.
fn ranges(random: &mut ChaCha8Rng, price: f64, tick: i32, spacing: i32) -> Vec<Change> {
    // A pair of so much of one and what it is worth of the other has this liquidity.
    let depth = random.random_range(1_000.0..30_000.0) * 1e18 * price.sqrt();
    let align = |tick: i32| tick.div_euclid(spacing) * spacing;
    let range = |middle: i32, width: i32, part: f64| Change {
        lower: align(middle - width),
        upper: align(middle + width) + spacing,
        delta: (depth * part) as i128,
    };
    let mut ranges = vec![range(tick, 40_000, 0.3)];
    for _ in 0..12 {
        let (off, width) = (random.random_range(-3_000..3_000), random.random_range(50..3_000));
        ranges.push(range(tick + off, width, random.random_range(0.05..1.0)));
    }
    ranges
}

fn places_v4(manager: Address, [first, third]: [Address; 2]) -> [PlaceV4; 3] {
    let native = Address::ZERO;
    let of = |currencies, (fee, spacing)| {
        let hooks = Address::ZERO;
        PlaceV4 { manager, currencies, fee, spacing, hooks }
    };
    [
        of([first.min(third), first.max(third)], (500, 10)),
        of([native, first], (3_000, 60)),
        of([native, third], (450, 7)),
    ]
}

impl RoutersV3 {
    fn deploy(
        evm: &mut Evm,
        artifacts: &Artifacts,
        [factory_v2, manager]: [Address; 2],
        wrapped: Address,
    ) -> anyhow::Result<Self> {
        let code = |path: &str| artifacts.contract(path)?.creation_code();
        let factory = evm.deploy(OWNER, &artifacts.factory_v3()?.creation_code()?, &[])?;
        let first = code("@uniswap/v3-periphery/artifacts/contracts/SwapRouter.sol/SwapRouter.json")?;
        let first = evm.deploy(OWNER, &first, &(factory, wrapped).abi_encode())?;
        let permit2 = Address::repeat_byte(0xd2);
        evm.place(permit2, artifacts.permit2()?);
        let parts = RouterParts { factory_v2, factory_v3: factory, manager, wrapped, permit2 };
        let second = evm.deploy(OWNER, &parts.swap_router_02(artifacts)?, &[])?;
        let universal = evm.deploy(OWNER, &parts.universal_router(artifacts)?, &[])?;
        let universal_v1 = evm.deploy(OWNER, &parts.universal_router_v1(artifacts)?, &[])?;
        Ok(Self { factory, first, second, universal, universal_v1, permit2 })
    }
}

/// A pool with concentrated liquidity, of either make.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    V3(&'a PlaceV3),
    V4(&'a PlaceV4),
}

impl World {
    pub(super) fn all_places(&self) -> impl Iterator<Item = Place<'_>> {
        self.places.iter().map(Place::V3).chain(self.places_v4.iter().map(Place::V4))
    }
}

impl Place<'_> {
    pub(super) fn key(&self) -> ConcentratedKey {
        match self {
            Self::V3(place) => ConcentratedKey::V3(place.pool),
            Self::V4(place) => ConcentratedKey::V4 { manager: place.manager, id: place.id() },
        }
    }

    /// Where it stands, its ticks and its protocol's fee, by its storage.
    pub(super) fn stored(&self, evm: &Evm) -> anyhow::Result<(State, Vec<StoredTick>, u32)> {
        let words = |contract| {
            move |slots: &[U256]| Ok(slots.iter().map(|slot| evm.storage(contract, *slot)).collect())
        };
        match self {
            Self::V3(place) => {
                let (state, ticks) = place.read(MOST_TICK, words(place.pool))?;
                Ok((state, ticks, 0))
            }
            Self::V4(place) => place.read(MOST_TICK, words(place.manager)),
        }
    }

    fn real(&self, evm: &Evm) -> anyhow::Result<ConcentratedPool> {
        let (State { sqrt_price, tick, liquidity }, ticks, protocol_fee) = self.stored(evm)?;
        let price = ConcentratedPrice { sqrt_price, tick };
        let (version, fee, spacing) = match self {
            Self::V3(place) => (Version::V3, place.fee, place.spacing),
            Self::V4(place) => (Version::V4, place.fee, place.spacing),
        };
        let fee = SwapFee::of_lp(fee).with_protocol(protocol_fee);
        Ok(ConcentratedPool::from_parts(version, fee, spacing, price, liquidity, ticks)?)
    }
}

/// The contracts of a user's own.
pub(super) fn private(user: Address) -> [Address; 2] {
    [1, 2].map(|number| Address::from_word(keccak256([user.as_slice(), b"private", &[number]].concat())))
}

/// By the pair's storage: `reserve0` and `reserve1` stand in slot 8 (v2-core `UniswapV2Pair.sol`).
pub(super) fn reserves(evm: &Evm, pair: Address) -> Reserves {
    let word = evm.storage(pair, U256::from(8));
    let mask = (U256::ONE << 112usize) - U256::ONE;
    Reserves { reserve0: (word & mask).to(), reserve1: ((word >> 112usize) & mask).to() }
}

pub(super) fn balance(evm: &mut Evm, token: Address, owner: Address) -> anyhow::Result<U256> {
    evm.read(token, &balanceOfCall { owner })
}

pub(super) fn hash(number: u64) -> B256 {
    keccak256(number.to_be_bytes())
}

/// What the block before the one that is open looked like.
fn figures(evm: &Evm) -> BlockFigures {
    let next = evm.block();
    BlockFigures {
        number: next.number - 1,
        timestamp: next.timestamp - BLOCK_TIME,
        base_fee_per_gas: Some(next.base_fee_per_gas),
        // At its target, so that the base fee stays.
        gas_used: GAS_LIMIT / 2,
        gas_limit: GAS_LIMIT,
        beneficiary: Address::repeat_byte(0xbe),
    }
}

impl StateReader for Reader {
    async fn block(&self, _hash: BlockHash) -> Result<BlockFigures, SimulationError> {
        read(figures)
    }

    async fn account(&self, _at: BlockHash, address: Address) -> Result<AccountState, SimulationError> {
        read(|evm| AccountState {
            balance: evm.balance(address),
            nonce: evm.nonce(address),
            code: evm.code(address),
        })
    }

    async fn slot(&self, _at: BlockHash, address: Address, slot: U256) -> Result<U256, SimulationError> {
        read(|evm| evm.storage(address, slot))
    }

    async fn hash_of(&self, _at: BlockHash, number: u64) -> Result<BlockHash, SimulationError> {
        Ok(hash(number))
    }
}

/// The calldata of a call.
pub(super) fn data<C: SolCall>(call: &C) -> Bytes {
    call.abi_encode().into()
}
