use alloy_primitives::{Address, B256, Bytes, I256, U160, U256, keccak256};
use alloy_sol_types::{SolValue, sol};
use anyhow::Context;

use super::v3::int24;
use super::{Change, OWNER, Order, Outcome, State, approveCall, tokens};
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
