use alloy_primitives::{Address, Bytes, I256, U160, U256, bytes, keccak256};
use alloy_sol_types::{SolCall, SolValue, sol};
use anyhow::Context;

use super::{Change, OWNER, Order, Outcome, State, tokens};
use crate::evm::{Artifact, Evm, Failure, Message, Parameters, Receipt};

sol! {
    function createPool(address tokenA, address tokenB, uint24 fee) external returns (address pool);
    function enableFeeAmount(uint24 fee, int24 tickSpacing) external;
    function initialize(uint160 sqrtPriceX96) external;
    function mint(address recipient, int24 tickLower, int24 tickUpper, uint128 amount, bytes data)
        external returns (uint256 amount0, uint256 amount1);
    function burn(int24 tickLower, int24 tickUpper, uint128 amount)
        external returns (uint256 amount0, uint256 amount1);
    function swap(address recipient, bool zeroForOne, int256 amountSpecified, uint160 sqrtPriceLimitX96, bytes data)
        external returns (int256 amount0, int256 amount1);
    function ticks(int24 tick) external returns (
        uint128 liquidityGross, int128 liquidityNet, uint256, uint256, int56, uint160, uint32, bool initialized
    );
    function tickBitmap(int16 wordPosition) external returns (uint256 bits);

    event Mint(
        address sender, address indexed owner, int24 indexed tickLower, int24 indexed tickUpper, uint128 amount,
        uint256 amount0, uint256 amount1
    );
    event Burn(
        address indexed owner, int24 indexed tickLower, int24 indexed tickUpper, uint128 amount, uint256 amount0,
        uint256 amount1
    );
    event Swap(
        address indexed sender, address indexed recipient, int256 amount0, int256 amount1, uint160 sqrtPriceX96,
        uint128 liquidity, int24 tick
    );
}

/// Calls the contract whose address the first word of its calldata is, with what follows, and returns what that returns; and pays
/// what a pool asks for in `uniswapV3SwapCallback` and `uniswapV3MintCallback`, with the tokens that the callback's data names.
pub(super) const PAYER: [Bytes; 15] = [
    // The selector: of the two callbacks, or the zeros that an address begins with.
    bytes!("5f3560e01c"),
    bytes!("8063fa461e3314603957"),
    bytes!("8063d348799714603957"),
    // Forward: copy, call, give back.
    bytes!("602036038060205f37"),
    bytes!("5f5f825f5f5f355af1"),
    bytes!("3d5f5f3e6035573d5ffd"),
    bytes!("5b3d5ff3"),
    // Pay: an amount that is positive, to the caller, by `transfer(address,uint256)`; token 0, then token 1.
    bytes!("5b"),
    bytes!("6004355f811315606257"),
    bytes!("63a9059cbb60e01b5f523360045280602452"),
    bytes!("5f5f60445f5f6084355af150"),
    bytes!("5b50"),
    bytes!("6024355f811315608c57"),
    bytes!("63a9059cbb60e01b5f523360045280602452"),
    bytes!("5f5f60445f5f60a4355af1505b5000"),
];

/// Where the payer stands.
pub(super) const PAYER_ADDRESS: Address = Address::repeat_byte(0xfa);

/// A `UniswapV3Pool` that its factory created.
#[derive(Debug)]
pub struct PoolV3 {
    evm: Evm,
    pool: Address,
    callback_data: Bytes,
}

impl PoolV3 {
    /// A chain with the factory, two tokens and one pool at a price.
    ///
    /// # Errors
    /// What is not the artifact that it should be; a price that the pool refuses.
    pub fn create(
        factory: &Artifact,
        token: &Artifact,
        fee: u32,
        tick_spacing: i32,
        sqrt_price: U256,
    ) -> anyhow::Result<Self> {
        let mut evm = Evm::new(&Parameters::default());
        let factory = evm.deploy(OWNER, &factory.creation_code()?, &[]).context("the factory")?;
        evm.place(PAYER_ADDRESS, PAYER.concat().into());
        let [token0, token1] = tokens(&mut evm, token, PAYER_ADDRESS)?;
        let fee = fee.try_into()?;
        let enable = enableFeeAmountCall { fee, tickSpacing: tick_spacing.try_into()? };
        // The factory knows the three usual fees already, and then refuses.
        let _known = evm.transact(&Message::new(OWNER, factory, &enable));
        let pool = evm.send(OWNER, factory, &createPoolCall { tokenA: token0, tokenB: token1, fee })?;
        evm.send(OWNER, pool, &initializeCall { sqrtPriceX96: U160::from(sqrt_price) })?;
        Ok(Self { evm, pool, callback_data: (token0, token1).abi_encode().into() })
    }

    /// Adds liquidity, or takes it out.
    ///
    /// # Errors
    /// A range or an amount that the pool refuses.
    pub fn modify(&mut self, lower: i32, upper: i32, delta: i128) -> Result<Change, Failure> {
        let ([tickLower, tickUpper], amount) = ([lower, upper].map(int24), delta.unsigned_abs());
        if delta > 0 {
            let (recipient, data) = (PAYER_ADDRESS, self.callback_data.clone());
            let receipt = self.forward(&mintCall { recipient, tickLower, tickUpper, amount, data })?;
            let logs = receipt.events::<Mint>(self.pool);
            let Mint { tickLower, tickUpper, amount, .. } = logs.first().expect("a mint says so");
            Ok(Change { lower: tickLower.as_i32(), upper: tickUpper.as_i32(), delta: *amount as i128 })
        } else {
            let receipt = self.forward(&burnCall { tickLower, tickUpper, amount })?;
            let logs = receipt.events::<Burn>(self.pool);
            let Burn { tickLower, tickUpper, amount, .. } = logs.first().expect("a burn says so");
            Ok(Change { lower: tickLower.as_i32(), upper: tickUpper.as_i32(), delta: -(*amount as i128) })
        }
    }

    /// Swaps for good.
    ///
    /// # Errors
    /// What the pool refuses.
    pub fn swap(&mut self, order: &Order) -> Result<Outcome, Failure> {
        let specified = I256::from_raw(order.amount);
        let call = swapCall {
            recipient: PAYER_ADDRESS,
            zeroForOne: order.zero_for_one,
            amountSpecified: if order.is_exact_in { specified } else { -specified },
            sqrtPriceLimitX96: U160::from(order.sqrt_price_limit),
            data: self.callback_data.clone(),
        };
        let receipt = self.forward(&call)?;
        let logs = receipt.events::<Swap>(self.pool);
        let Swap { amount0, amount1, sqrtPriceX96, liquidity, tick, .. } =
            logs.first().expect("a swap that succeeds says so");
        let state =
            State { sqrt_price: U256::from(*sqrtPriceX96), tick: tick.as_i32(), liquidity: *liquidity };
        Ok(Outcome { amount0: *amount0, amount1: *amount1, state, gas_used: receipt.gas_used })
    }

    /// By the pool's storage: `slot0` and `liquidity`.
    pub fn state(&self) -> State {
        let word = |slot: u64| self.evm.storage(self.pool, U256::from(slot));
        State::from_words(word(0), word(4))
    }

    /// Net and gross liquidity of a tick; `None` where the bitmap does not have it.
    ///
    /// # Errors
    /// A pool that does not answer.
    pub fn tick(&mut self, tick: i32, spacing: i32) -> anyhow::Result<Option<(i128, u128)>> {
        let compressed = tick / spacing;
        let word = i16::try_from(compressed >> 8)?;
        let bits = self.evm.read(self.pool, &tickBitmapCall { wordPosition: word })?;
        let answer = self.evm.read(self.pool, &ticksCall { tick: int24(tick) })?;
        anyhow::ensure!(
            bits.bit((compressed & 0xff) as usize) == answer.initialized,
            "bitmap and tick differ"
        );
        Ok(answer.initialized.then_some((answer.liquidityNet, answer.liquidityGross)))
    }

    /// How many ticks the bitmap has, by its words in storage (`mapping(int16 => uint256)` in slot 6).
    pub fn count_ticks(&self, spacing: i32) -> usize {
        let compressed = |tick: i32| (tick / spacing) >> 8;
        let words = compressed(-887_272) - 1..=compressed(887_272) + 1;
        words
            .map(|word| {
                let key = (I256::try_from(word).unwrap_or_default(), U256::from(6)).abi_encode();
                self.evm.storage(self.pool, keccak256(key).into()).count_ones()
            })
            .sum()
    }

    fn forward<C: SolCall>(&mut self, call: &C) -> Result<Receipt, Failure> {
        let data = [self.pool.into_word().as_slice(), &call.abi_encode()].concat().into();
        self.evm.transact(&Message { from: OWNER, to: PAYER_ADDRESS, value: U256::ZERO, data })
    }
}

pub(super) fn int24(tick: i32) -> alloy_primitives::aliases::I24 {
    tick.try_into().expect("a tick has 24 bits")
}
