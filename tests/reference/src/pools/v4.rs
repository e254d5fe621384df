use alloy_primitives::{Address, B256, Bytes, I256, Log, U160, U256, keccak256};
use alloy_sol_types::{SolCall, SolValue, sol};
use anyhow::Context;

use super::v3::int24;
use super::{Change, OWNER, Order, Outcome, PURSE, State, StoredTick, approveCall, mintCall, tokens};
use crate::evm::{Artifact, Evm, Failure, Message, Parameters};

sol! {
    #[derive(Debug)]
    struct PoolKey { address currency0; address currency1; uint24 fee; int24 tickSpacing; address hooks; }
    struct ModifyLiquidityParams { int24 tickLower; int24 tickUpper; int256 liquidityDelta; bytes32 salt; }
    struct SwapParams { bool zeroForOne; int256 amountSpecified; uint160 sqrtPriceLimitX96; }
    struct TestSettings { bool takeClaims; bool settleUsingBurn; }

    function initialize(PoolKey key, uint160 sqrtPriceX96) external returns (int24 tick);
    function setProtocolFeeController(address controller) external;
    function setProtocolFee(PoolKey key, uint24 newProtocolFee) external;
    function modifyLiquidity(PoolKey key, ModifyLiquidityParams params, bytes hookData)
        external returns (int256 delta);
    function swap(PoolKey key, SwapParams params, TestSettings settings, bytes hookData)
        external returns (int256 delta);

    event ModifyLiquidity(
        bytes32 indexed id, address indexed sender, int24 tickLower, int24 tickUpper, int256 liquidityDelta, bytes32 salt
    );
    event Swap(
        bytes32 indexed id, address indexed sender, int128 amount0, int128 amount1, uint160 sqrtPriceX96,
        uint128 liquidity, int24 tick, uint24 fee
    );
}

/// The slot of `PoolManager`'s mapping of pools.
pub(super) const POOLS_SLOT: u64 = 6;

/// Behind the price, two fee growths and the liquidity.
const TICKS_OFFSET: u64 = 4;

/// A `PoolManager` with one pool at a time, used through its authors' own test routers.
#[derive(Debug)]
pub struct ManagerV4 {
    evm: Evm,
    manager: Address,
    swap_router: Address,
    liquidity_router: Address,
    tokens: [Address; 2],
    key: PoolKey,
}

impl ManagerV4 {
    /// A chain with the manager, both routers, two tokens and one pool at a price.
    ///
    /// # Errors
    /// What is not the artifact that it should be; a price that the manager refuses.
    pub fn create(
        [manager, swap_router, liquidity_router, token]: [&Artifact; 4],
        fee: u32,
        tick_spacing: i32,
        sqrt_price: U256,
    ) -> anyhow::Result<Self> {
        let mut evm = Evm::new(&Parameters::default());
        let manager =
            evm.deploy(OWNER, &manager.creation_code()?, &OWNER.abi_encode()).context("the manager")?;
        let mut deploy =
            |router: &Artifact| evm.deploy(OWNER, &router.creation_code()?, &manager.abi_encode());
        let (swap_router, liquidity_router) = (deploy(swap_router)?, deploy(liquidity_router)?);
        let tokens = tokens(&mut evm, token, OWNER)?;
        for (token, spender) in
            [(0, swap_router), (0, liquidity_router), (1, swap_router), (1, liquidity_router)]
        {
            evm.send(OWNER, tokens[token], &approveCall { spender, amount: U256::MAX })?;
        }
        evm.send(OWNER, manager, &setProtocolFeeControllerCall { controller: OWNER })?;
        let [currency0, currency1] = tokens;
        let (fee, tickSpacing, hooks) = (fee.try_into()?, int24(tick_spacing), Address::ZERO);
        let key = PoolKey { currency0, currency1, fee, tickSpacing, hooks };
        let sqrtPriceX96 = U160::from(sqrt_price);
        evm.send(OWNER, manager, &initializeCall { key: key.clone(), sqrtPriceX96 })?;
        Ok(Self { evm, manager, swap_router, liquidity_router, tokens, key })
    }

    /// The two tokens, the lower address first.
    pub fn tokens(&self) -> [Address; 2] {
        self.tokens
    }

    /// The pool's identity, by the hash of its key as the ABI encodes it.
    pub fn id(&self) -> B256 {
        keccak256(self.key.abi_encode())
    }

    /// Adds liquidity, or takes it out.
    ///
    /// # Errors
    /// A range or an amount that the manager refuses.
    pub fn modify(&mut self, lower: i32, upper: i32, delta: i128) -> Result<Change, Failure> {
        let params = ModifyLiquidityParams {
            tickLower: int24(lower),
            tickUpper: int24(upper),
            liquidityDelta: I256::try_from(delta).unwrap_or_default(),
            salt: B256::ZERO,
        };
        let call = modifyLiquidityCall { key: self.key.clone(), params, hookData: Bytes::new() };
        let receipt = self.evm.transact(&Message::new(OWNER, self.liquidity_router, &call))?;
        let logs = receipt.events::<ModifyLiquidity>(self.manager);
        let ModifyLiquidity { tickLower, tickUpper, liquidityDelta, .. } =
            logs.first().expect("a change of liquidity says so");
        let delta = i128::try_from(*liquidityDelta).expect("what was asked for");
        Ok(Change { lower: tickLower.as_i32(), upper: tickUpper.as_i32(), delta })
    }

    /// Both directions in 24 bits, as the manager takes them.
    ///
    /// # Errors
    /// A fee that the manager refuses.
    pub fn set_protocol_fee(&mut self, packed: u32) -> anyhow::Result<()> {
        let newProtocolFee = packed.try_into()?;
        self.evm.send(OWNER, self.manager, &setProtocolFeeCall { key: self.key.clone(), newProtocolFee })?;
        Ok(())
    }

    /// Swaps for good. The outcome's signs are V3's: positive where the pool got it.
    ///
    /// # Errors
    /// What the manager refuses.
    pub fn swap(&mut self, order: &Order) -> Result<(Outcome, u32), Failure> {
        let specified = I256::from_raw(order.amount);
        let params = SwapParams {
            zeroForOne: order.zero_for_one,
            amountSpecified: if order.is_exact_in { -specified } else { specified },
            sqrtPriceLimitX96: U160::from(order.sqrt_price_limit),
        };
        let settings = TestSettings { takeClaims: false, settleUsingBurn: false };
        let call = swapCall { key: self.key.clone(), params, settings, hookData: Bytes::new() };
        let receipt = self.evm.transact(&Message::new(OWNER, self.swap_router, &call))?;
        let logs = receipt.events::<Swap>(self.manager);
        let Swap { amount0, amount1, sqrtPriceX96, liquidity, tick, fee, .. } =
            logs.first().expect("a swap that succeeds says so");
        let state =
            State { sqrt_price: U256::from(*sqrtPriceX96), tick: tick.as_i32(), liquidity: *liquidity };
        let [amount0, amount1] =
            [amount0, amount1].map(|amount| -I256::try_from(*amount).unwrap_or_default());
        Ok((Outcome { amount0, amount1, state, gas_used: receipt.gas_used }, fee.to()))
    }

    /// By the manager's storage.
    pub fn state(&self) -> State {
        let word = |offset: u64| self.evm.storage(self.manager, self.pool_slot() + U256::from(offset));
        State::from_words(word(0), word(3))
    }

    /// Net and gross liquidity of a tick, by the manager's storage: the net one in the upper half of the word.
    pub fn tick(&self, tick: i32) -> (i128, u128) {
        let ticks = self.pool_slot() + U256::from(TICKS_OFFSET);
        let key = (I256::try_from(tick).unwrap_or_default(), ticks).abi_encode();
        let word = self.evm.storage(self.manager, keccak256(key).into());
        let net: u128 = (word >> 128usize).to();
        (net as i128, word.wrapping_to())
    }

    fn pool_slot(&self) -> U256 {
        keccak256((self.id(), U256::from(POOLS_SLOT)).abi_encode()).into()
    }
}

/// Behind what [`TICKS_OFFSET`] is behind, and the ticks.
const BITMAP_OFFSET: u64 = 5;

/// Wei that is sent along where a currency is the native one; what is left comes back.
const ALONG: U256 = U256::from_limbs([0, 1 << 12, 0, 0]);

/// A manager, and its authors' routers, on whatever chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoutersV4 {
    /// `PoolManager`.
    pub manager: Address,
    /// `PoolSwapTest`.
    pub swaps: Address,
    /// `PoolModifyLiquidityTest`.
    pub liquidity: Address,
}

/// One of the manager's pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlaceV4 {
    /// The manager.
    pub manager: Address,
    /// The lower address first; zero is the native one.
    pub currencies: [Address; 2],
    /// Hundredths of a basis point; `0x800000` where a hook sets it.
    pub fee: u32,
    /// Ticks that may be initialised are multiples of it.
    pub spacing: i32,
    /// Zero for none.
    pub hooks: Address,
}

/// What somebody does with a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActV4 {
    /// Creates it with a price.
    Initialize(U256),
    /// Adds liquidity, or takes it out.
    Modify(Change),
    /// Swaps.
    Swap(Order),
    /// Sets what the protocol takes, in 24 bits.
    ProtocolFee(u32),
}

/// A transaction that does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallV4 {
    /// Whom it calls.
    pub to: Address,
    /// Wei.
    pub value: U256,
    /// The input.
    pub data: Bytes,
}

impl RoutersV4 {
    /// Puts manager and routers on a chain, where [`OWNER`] owns them, may set the protocol's fees, and pays with these tokens and with
    /// wei.
    ///
    /// # Errors
    /// What is not the artifact that it should be.
    pub fn deploy(
        evm: &mut Evm,
        [manager, swaps, liquidity, _]: &[Artifact; 4],
        tokens: &[Address],
    ) -> anyhow::Result<Self> {
        let manager = evm.deploy(OWNER, &manager.creation_code()?, &OWNER.abi_encode())?;
        let swaps = evm.deploy(OWNER, &swaps.creation_code()?, &manager.abi_encode())?;
        let liquidity = evm.deploy(OWNER, &liquidity.creation_code()?, &manager.abi_encode())?;
        evm.send(OWNER, manager, &setProtocolFeeControllerCall { controller: OWNER })?;
        evm.fund(OWNER, U256::ONE << 120usize);
        for token in tokens {
            evm.send(OWNER, *token, &mintCall { to: OWNER, amount: PURSE })?;
            for spender in [swaps, liquidity] {
                evm.send(OWNER, *token, &approveCall { spender, amount: U256::MAX })?;
            }
        }
        Ok(Self { manager, swaps, liquidity })
    }

    /// Creation code with its argument: of the manager its owner, of a router its manager.
    ///
    /// # Errors
    /// What is not the artifact that it should be.
    pub fn creation(artifact: &Artifact, argument: Address) -> anyhow::Result<Bytes> {
        Ok([&artifact.creation_code()?[..], &argument.abi_encode()].concat().into())
    }

    /// With what the manager's owner says who sets the protocol's fees.
    pub fn controlled_by(controller: Address) -> Bytes {
        setProtocolFeeControllerCall { controller }.abi_encode().into()
    }

    /// With what a token is told that a router may take of it.
    pub fn approve(spender: Address) -> Bytes {
        approveCall { spender, amount: U256::MAX }.abi_encode().into()
    }

    /// The transaction that does something with a pool.
    pub fn call(&self, place: &PlaceV4, act: &ActV4) -> CallV4 {
        let (key, hookData) = (place.key(), Bytes::new());
        let (to, data) = match *act {
            ActV4::Initialize(price) => {
                (self.manager, initializeCall { key, sqrtPriceX96: U160::from(price) }.abi_encode())
            }
            ActV4::Modify(Change { lower, upper, delta }) => {
                let [tickLower, tickUpper] = [lower, upper].map(int24);
                let liquidityDelta = I256::try_from(delta).unwrap_or_default();
                let params = ModifyLiquidityParams { tickLower, tickUpper, liquidityDelta, salt: B256::ZERO };
                (self.liquidity, modifyLiquidityCall { key, params, hookData }.abi_encode())
            }
            ActV4::Swap(order) => {
                let specified = I256::from_raw(order.amount);
                let params = SwapParams {
                    zeroForOne: order.zero_for_one,
                    amountSpecified: if order.is_exact_in { -specified } else { specified },
                    sqrtPriceLimitX96: U160::from(order.sqrt_price_limit),
                };
                let settings = TestSettings { takeClaims: false, settleUsingBurn: false };
                (self.swaps, swapCall { key, params, settings, hookData }.abi_encode())
            }
            ActV4::ProtocolFee(packed) => {
                let newProtocolFee = packed.try_into().expect("a fee has 24 bits");
                (self.manager, setProtocolFeeCall { key, newProtocolFee }.abi_encode())
            }
        };
        let pays = place.currencies[0].is_zero() && to != self.manager;
        CallV4 { to, value: if pays { ALONG } else { U256::ZERO }, data: data.into() }
    }

    /// Does something with a pool in a chain in memory; the logs of everybody who takes part.
    ///
    /// # Errors
    /// What the manager refuses.
    pub fn act(&self, evm: &mut Evm, place: &PlaceV4, act: &ActV4) -> Result<Vec<Log>, Failure> {
        let CallV4 { to, value, data } = self.call(place, act);
        Ok(evm.transact(&Message { from: OWNER, to, value, data })?.logs)
    }
}

impl PlaceV4 {
    /// The hash of what it is made of.
    pub fn id(&self) -> B256 {
        keccak256(self.key().abi_encode())
    }

    /// Where the pool stands, all its initialised ticks upwards with net and gross liquidity, and what the protocol takes, by the
    /// manager's storage. Only ticks up to `most` are looked for.
    ///
    /// # Errors
    /// What the storage cannot be read for.
    pub fn read(
        &self,
        most: i32,
        mut storage: impl FnMut(&[U256]) -> anyhow::Result<Vec<U256>>,
    ) -> anyhow::Result<(State, Vec<StoredTick>, u32)> {
        let pool = U256::from_be_bytes(keccak256((self.id(), U256::from(POOLS_SLOT)).abi_encode()).0);
        let slot = |key: i32, offset: u64| -> U256 {
            let mapping = pool + U256::from(offset);
            keccak256((I256::try_from(key).unwrap_or_default(), mapping).abi_encode()).into()
        };
        let most = most / self.spacing / 256 + 1;
        let mut slots = vec![pool, pool + U256::from(3)];
        slots.extend((-most..=most).map(|word| slot(word, BITMAP_OFFSET)));
        let words = storage(&slots)?;
        let ticks: Vec<i32> = (-most..=most)
            .zip(&words[2..])
            .flat_map(|(word, bits)| {
                let set = (0..256).filter(move |bit| bits.bit(*bit as usize));
                set.map(move |bit| (word * 256 + bit) * self.spacing)
            })
            .collect();
        let held = storage(&ticks.iter().map(|tick| slot(*tick, TICKS_OFFSET)).collect::<Vec<_>>())?;
        let ticks = ticks.into_iter().zip(held).map(|(tick, packed)| {
            (tick, (packed >> 128usize).wrapping_to::<u128>() as i128, packed.wrapping_to())
        });
        // Behind price and tick.
        let protocol_fee = (words[0] >> 184usize).wrapping_to::<u32>() & 0xff_ffff;
        Ok((State::from_words(words[0], words[1]), ticks.collect(), protocol_fee))
    }

    fn key(&self) -> PoolKey {
        let Self { currencies: [currency0, currency1], fee, spacing, hooks, .. } = *self;
        let fee = fee.try_into().expect("a fee has 24 bits");
        PoolKey { currency0, currency1, fee, tickSpacing: int24(spacing), hooks }
    }
}
