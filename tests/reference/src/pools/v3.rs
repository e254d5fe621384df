use std::mem;

use alloy_primitives::{Address, B256, Bytes, I256, Log, U160, U256, b256, bytes, keccak256};
use alloy_sol_types::{SolCall, SolValue, sol};
use anyhow::Context;

use super::{Change, OWNER, Order, Outcome, State, tokens};
use crate::evm::{Artifact, Block, Evm, Failure, Message, Parameters, Receipt};

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
    function increaseObservationCardinalityNext(uint16 observationCardinalityNext) external;
    function observe(uint32[] secondsAgos)
        external returns (int56[] tickCumulatives, uint160[] secondsPerLiquidityCumulativeX128s);
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

/// What PancakeSwap calls otherwise.
mod pancake {
    use alloy_sol_types::sol;

    sol! {
        function pancakeV3SwapCallback(int256 amount0, int256 amount1, bytes data) external;
        function pancakeV3MintCallback(uint256 amount0, uint256 amount1, bytes data) external;

        event Swap(
            address indexed sender, address indexed recipient, int256 amount0, int256 amount1, uint160 sqrtPriceX96,
            uint128 liquidity, int24 tick, uint128 protocolFeesToken0, uint128 protocolFeesToken1
        );
    }
}

/// Deploys whatever stands behind the salt that it is called with; tells whoever asks for `parameters()` the five words that stand
/// behind this code.
const DEPLOYER: [Bytes; 4] = [
    // Only `parameters()` comes with four bytes.
    bytes!("36600414601c57"),
    // Deploy: size, copy, salt, `CREATE2`, give back the address.
    bytes!("602036038060205f375f35905f5ff55f5260205ff3"),
    // Tell.
    bytes!("5b60a06027"),
    bytes!("5f3960a05ff3"),
];

/// Where the payer stands.
pub(super) const PAYER_ADDRESS: Address = Address::repeat_byte(0xfa);

/// A `UniswapV3Pool` that its factory created.
#[derive(Debug)]
pub struct PoolV3 {
    evm: Evm,
    pool: Address,
    callback_data: Bytes,
    fork: Fork,
    tokens: [Address; 2],
    deployer: Address,
    code_hash: B256,
    /// What the pool logged and nobody has taken yet.
    told: Vec<Log>,
}

/// What a `UniswapV3Factory` makes its pools of (v3-periphery `PoolAddress.sol`).
const POOL_CODE_HASH: B256 = b256!("e34f199b19b2b4f47f68442619d555527d244f78a3297ea89325f843f87b8b54");

/// Where a pool comes from: its address derives from that (EIP-1014).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The contract.
    pub pool: Address,
    /// The contract that created it.
    pub deployer: Address,
    /// Hash of what it was created with.
    pub code_hash: B256,
    /// The tokens, the lower address first.
    pub tokens: [Address; 2],
}

/// Whose pool it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fork {
    Uniswap,
    PancakeSwap,
}

impl Fork {
    /// Slots of `liquidity` and `tickBitmap`. PancakeSwap's `slot0` takes two.
    fn slots(self) -> (u64, u64) {
        match self {
            Self::Uniswap => (4, 6),
            Self::PancakeSwap => (5, 7),
        }
    }
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
        Self::create_at(
            Parameters::default().block.timestamp,
            [factory, token],
            (fee, tick_spacing),
            sqrt_price,
        )
    }

    /// The same at a time; the contract counts seconds in 32 bits.
    ///
    /// # Errors
    /// As [`PoolV3::create`].
    pub fn create_at(
        timestamp: u64,
        [factory, token]: [&Artifact; 2],
        (fee, tick_spacing): (u32, i32),
        sqrt_price: U256,
    ) -> anyhow::Result<Self> {
        let usual = Parameters::default();
        let mut evm = Evm::new(&Parameters { block: Block { timestamp, ..usual.block }, ..usual });
        let factory = evm.deploy(OWNER, &factory.creation_code()?, &[]).context("the factory")?;
        evm.place(PAYER_ADDRESS, PAYER.concat().into());
        let [token0, token1] = tokens(&mut evm, token, PAYER_ADDRESS)?;
        let fee = fee.try_into()?;
        let enable = enableFeeAmountCall { fee, tickSpacing: tick_spacing.try_into()? };
        // The factory knows the three usual fees already, and then refuses.
        let _known = evm.transact(&Message::new(OWNER, factory, &enable));
        let pool = evm.send(OWNER, factory, &createPoolCall { tokenA: token0, tokenB: token1, fee })?;
        let origin = Origin { pool, deployer: factory, code_hash: POOL_CODE_HASH, tokens: [token0, token1] };
        Self::initialized(evm, Fork::Uniswap, origin, sqrt_price)
    }

    /// A chain with a `PancakeV3Pool`, deployed as PancakeSwap's deployer does it.
    ///
    /// # Errors
    /// As [`PoolV3::create`].
    pub fn create_pancake(
        pool: &Artifact,
        token: &Artifact,
        fee: u32,
        tick_spacing: i32,
        sqrt_price: U256,
    ) -> anyhow::Result<Self> {
        let mut evm = Evm::new(&Parameters::default());
        let [swap, mint] =
            [pancake::pancakeV3SwapCallbackCall::SELECTOR, pancake::pancakeV3MintCallbackCall::SELECTOR];
        let mut payer = PAYER.concat();
        payer[7..11].copy_from_slice(&swap);
        payer[17..21].copy_from_slice(&mint);
        evm.place(PAYER_ADDRESS, payer.into());
        let [token0, token1] = tokens(&mut evm, token, PAYER_ADDRESS)?;
        let deployer = Address::repeat_byte(0xde);
        let parameters = (OWNER, token0, token1, U256::from(fee), I256::try_from(tick_spacing)?).abi_encode();
        evm.place(deployer, [DEPLOYER.concat(), parameters].concat().into());
        let salt = keccak256((token0, token1, U256::from(fee)).abi_encode());
        let code = pool.creation_code()?;
        let data = [salt.as_slice(), &code].concat().into();
        let message = Message { from: OWNER, to: deployer, value: U256::ZERO, data };
        let pool = evm.transact(&message).map_err(|failure| anyhow::anyhow!("the deployer: {failure:?}"))?;
        let pool = Address::from_word(alloy_primitives::B256::from_slice(&pool.output));
        anyhow::ensure!(pool == deployer.create2_from_code(salt, &code), "the pool is elsewhere");
        let origin = Origin { pool, deployer, code_hash: keccak256(&code), tokens: [token0, token1] };
        Self::initialized(evm, Fork::PancakeSwap, origin, sqrt_price)
    }

    fn initialized(mut evm: Evm, fork: Fork, origin: Origin, sqrt_price: U256) -> anyhow::Result<Self> {
        let Origin { pool, deployer, code_hash, tokens } = origin;
        let call = initializeCall { sqrtPriceX96: U160::from(sqrt_price) };
        let receipt = evm
            .transact(&Message::new(OWNER, pool, &call))
            .map_err(|failure| anyhow::anyhow!("the first price: {failure:?}"))?;
        let callback_data = (tokens[0], tokens[1]).abi_encode().into();
        let told = Vec::new();
        let mut initialized = Self { evm, pool, callback_data, fork, tokens, deployer, code_hash, told };
        initialized.note(&receipt);
        Ok(initialized)
    }

    /// Where it comes from.
    pub fn origin(&self) -> Origin {
        let Self { pool, deployer, code_hash, tokens, .. } = *self;
        Origin { pool, deployer, code_hash, tokens }
    }

    /// What the pool logged since this was last asked, as it logged it.
    pub fn take_logs(&mut self) -> Vec<Log> {
        mem::take(&mut self.told)
    }

    fn note(&mut self, receipt: &Receipt) {
        self.told.extend(receipt.logs.iter().filter(|log| log.address == self.pool).cloned());
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
        let told = match self.fork {
            Fork::Uniswap => receipt
                .events::<Swap>(self.pool)
                .into_iter()
                .next()
                .map(|swap| (swap.amount0, swap.amount1, swap.sqrtPriceX96, swap.liquidity, swap.tick)),
            Fork::PancakeSwap => receipt
                .events::<pancake::Swap>(self.pool)
                .into_iter()
                .next()
                .map(|swap| (swap.amount0, swap.amount1, swap.sqrtPriceX96, swap.liquidity, swap.tick)),
        };
        let (amount0, amount1, price, liquidity, tick) = told.expect("a swap that succeeds says so");
        let state = State { sqrt_price: U256::from(price), tick: tick.as_i32(), liquidity };
        Ok(Outcome { amount0, amount1, state, gas_used: receipt.gas_used })
    }

    /// Lets time pass.
    pub fn advance(&mut self, seconds: u64) {
        self.evm.advance(seconds);
    }

    /// Seconds since 1970.
    pub fn now(&self) -> u64 {
        self.evm.block().timestamp
    }

    /// Makes the pool remember so many observations.
    ///
    /// # Errors
    /// What the pool refuses.
    pub fn remember(&mut self, observations: u16) -> anyhow::Result<()> {
        let call = increaseObservationCardinalityNextCall { observationCardinalityNext: observations };
        self.evm.send(OWNER, self.pool, &call).map(drop)
    }

    /// The sums of the tick over time, up to so many seconds ago.
    ///
    /// # Errors
    /// What the pool refuses: `OLD` where it does not remember that far back.
    pub fn observe(&mut self, seconds_ago: &[u32]) -> Result<Vec<i64>, Failure> {
        let call = observeCall { secondsAgos: seconds_ago.to_vec() };
        let receipt = self.evm.call(&Message::new(OWNER, self.pool, &call))?;
        let observed = receipt.returned::<observeCall>().map_err(Failure::Refused)?;
        Ok(observed.tickCumulatives.iter().map(|sum| sum.as_i64()).collect())
    }

    /// By the pool's storage: `slot0` and `liquidity`.
    pub fn state(&self) -> State {
        let word = |slot: u64| self.evm.storage(self.pool, U256::from(slot));
        State::from_words(word(0), word(self.fork.slots().0))
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

    /// How many ticks the bitmap has, by its words in storage (`mapping(int16 => uint256)`).
    pub fn count_ticks(&self, spacing: i32) -> usize {
        let compressed = |tick: i32| (tick / spacing) >> 8;
        let words = compressed(-887_272) - 1..=compressed(887_272) + 1;
        words
            .map(|word| {
                let slot = U256::from(self.fork.slots().1);
                let key = (I256::try_from(word).unwrap_or_default(), slot).abi_encode();
                self.evm.storage(self.pool, keccak256(key).into()).count_ones()
            })
            .sum()
    }

    fn forward<C: SolCall>(&mut self, call: &C) -> Result<Receipt, Failure> {
        let data = [self.pool.into_word().as_slice(), &call.abi_encode()].concat().into();
        let receipt =
            self.evm.transact(&Message { from: OWNER, to: PAYER_ADDRESS, value: U256::ZERO, data })?;
        self.note(&receipt);
        Ok(receipt)
    }
}

pub(super) fn int24(tick: i32) -> alloy_primitives::aliases::I24 {
    tick.try_into().expect("a tick has 24 bits")
}

/// A chain with two factories and three tokens, on which pools are created as they come.
#[derive(Debug)]
pub struct ExchangeV3 {
    evm: Evm,
    factories: [Address; 2],
    tokens: [Address; 3],
}

/// One of its pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlaceV3 {
    /// The contract.
    pub pool: Address,
    /// The contract that created it.
    pub factory: Address,
    /// The tokens, the lower address first.
    pub tokens: [Address; 2],
    /// Hundredths of a basis point.
    pub fee: u32,
    /// Ticks that may be initialised are multiples of it.
    pub spacing: i32,
}

/// What somebody does with a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActV3 {
    /// Sets the first price.
    Initialize(U256),
    /// Adds liquidity, or takes it out.
    Modify(Change),
    /// Swaps.
    Swap(Order),
}

/// Who calls pools and pays what they ask for, out of what it holds: where it stands, and its code.
pub fn payer_v3() -> (Address, Bytes) {
    (PAYER_ADDRESS, PAYER.concat().into())
}

/// What a factory is called with to create a pool.
pub fn create_pool_v3([token0, token1]: [Address; 2], fee: u32) -> Bytes {
    let fee = fee.try_into().expect("a fee has 24 bits");
    createPoolCall { tokenA: token1, tokenB: token0, fee }.abi_encode().into()
}

impl PlaceV3 {
    /// What the payer is called with.
    pub fn calldata(&self, act: &ActV3) -> Bytes {
        let recipient = PAYER_ADDRESS;
        let data: Bytes = (self.tokens[0], self.tokens[1]).abi_encode().into();
        let call = match *act {
            ActV3::Initialize(price) => initializeCall { sqrtPriceX96: U160::from(price) }.abi_encode(),
            ActV3::Modify(Change { lower, upper, delta }) => {
                let ([tickLower, tickUpper], amount) = ([lower, upper].map(int24), delta.unsigned_abs());
                if delta > 0 {
                    mintCall { recipient, tickLower, tickUpper, amount, data }.abi_encode()
                } else {
                    burnCall { tickLower, tickUpper, amount }.abi_encode()
                }
            }
            ActV3::Swap(order) => {
                let specified = I256::from_raw(order.amount);
                swapCall {
                    recipient,
                    zeroForOne: order.zero_for_one,
                    amountSpecified: if order.is_exact_in { specified } else { -specified },
                    sqrtPriceLimitX96: U160::from(order.sqrt_price_limit),
                    data,
                }
                .abi_encode()
            }
        };
        [self.pool.into_word().as_slice(), &call].concat().into()
    }

    /// Where the pool stands, and all its initialised ticks upwards with net and gross liquidity, by its storage: `slot0` in slot 0,
    /// `liquidity` in 4, `ticks` in 5, `tickBitmap` in 6. Only ticks up to `most` are looked for.
    ///
    /// # Errors
    /// What the storage cannot be read for.
    pub fn read(
        &self,
        most: i32,
        mut storage: impl FnMut(&[U256]) -> anyhow::Result<Vec<U256>>,
    ) -> anyhow::Result<(State, Vec<StoredTick>)> {
        let slot = |key: i32, mapping: u64| -> U256 {
            let key = (I256::try_from(key).unwrap_or_default(), U256::from(mapping)).abi_encode();
            keccak256(key).into()
        };
        let most = most / self.spacing / 256 + 1;
        let mut slots = vec![U256::ZERO, U256::from(4)];
        slots.extend((-most..=most).map(|word| slot(word, 6)));
        let words = storage(&slots)?;
        let ticks: Vec<i32> = (-most..=most)
            .zip(&words[2..])
            .flat_map(|(word, bits)| {
                let set = (0..256).filter(move |bit| bits.bit(*bit as usize));
                set.map(move |bit| (word * 256 + bit) * self.spacing)
            })
            .collect();
        let held = storage(&ticks.iter().map(|tick| slot(*tick, 5)).collect::<Vec<_>>())?;
        let ticks = ticks.into_iter().zip(held).map(|(tick, packed)| {
            (tick, (packed >> 128usize).wrapping_to::<u128>() as i128, packed.wrapping_to())
        });
        Ok((State::from_words(words[0], words[1]), ticks.collect()))
    }
}

/// An initialised tick with its net and its gross liquidity.
pub type StoredTick = (i32, i128, u128);

impl ExchangeV3 {
    /// The fees that a factory begins with, with their tick spacings.
    pub const FEES: [(u32, i32); 3] = [(500, 10), (3_000, 60), (10_000, 200)];

    /// Two factories and the tokens.
    ///
    /// # Errors
    /// What is not the artifact that it should be.
    pub fn create(factory: &Artifact, token: &Artifact) -> anyhow::Result<Self> {
        let mut evm = Evm::new(&Parameters::default());
        let code = factory.creation_code()?;
        let factories = [evm.deploy(OWNER, &code, &[])?, evm.deploy(OWNER, &code, &[])?];
        evm.place(PAYER_ADDRESS, PAYER.concat().into());
        let ([token0, token1], [token2, _]) =
            (tokens(&mut evm, token, PAYER_ADDRESS)?, tokens(&mut evm, token, PAYER_ADDRESS)?);
        Ok(Self { evm, factories, tokens: [token0, token1, token2] })
    }

    /// The factories.
    pub fn factories(&self) -> [Address; 2] {
        self.factories
    }

    /// The tokens.
    pub fn tokens(&self) -> [Address; 3] {
        self.tokens
    }

    /// The chain, to look at it.
    pub fn memory(&self) -> &Evm {
        &self.evm
    }

    /// The chain, to go back on it.
    pub fn evm(&mut self) -> &mut Evm {
        &mut self.evm
    }

    /// A factory creates a pool, without a price: of all tokens but one, with one of the fees. Logs included.
    ///
    /// # Errors
    /// A pool that is there already.
    pub fn create_pool(
        &mut self,
        factory: usize,
        without: usize,
        fee: usize,
    ) -> Result<(PlaceV3, Vec<Log>), Failure> {
        let mut tokens = [self.tokens[(without + 1) % 3], self.tokens[(without + 2) % 3]];
        tokens.sort_unstable();
        let ((fee, spacing), factory) = (Self::FEES[fee], self.factories[factory]);
        let call = createPoolCall {
            tokenA: tokens[1],
            tokenB: tokens[0],
            fee: fee.try_into().expect("a fee has 24 bits"),
        };
        let receipt = self.evm.transact(&Message::new(OWNER, factory, &call))?;
        let pool = receipt.returned::<createPoolCall>().map_err(Failure::Refused)?;
        Ok((PlaceV3 { pool, factory, tokens, fee, spacing }, receipt.logs))
    }

    /// Does something with a pool; the logs of everybody who takes part.
    ///
    /// # Errors
    /// What the pool refuses.
    pub fn act(&mut self, place: &PlaceV3, act: &ActV3) -> Result<Vec<Log>, Failure> {
        let message =
            Message { from: OWNER, to: PAYER_ADDRESS, value: U256::ZERO, data: place.calldata(act) };
        Ok(self.evm.transact(&message)?.logs)
    }

    /// By a pool's storage: `slot0` and `liquidity`.
    pub fn state(&self, place: &PlaceV3) -> State {
        let word = |slot: u64| self.evm.storage(place.pool, U256::from(slot));
        State::from_words(word(0), word(4))
    }

    /// All initialised ticks upwards with net and gross liquidity, by a pool's storage (`ticks` in slot 5, `tickBitmap` in slot 6).
    pub fn ticks(&self, place: &PlaceV3) -> Vec<(i32, i128, u128)> {
        let slot = |key: i32, mapping: u64| {
            let key = (I256::try_from(key).unwrap_or_default(), U256::from(mapping)).abi_encode();
            self.evm.storage(place.pool, keccak256(key).into())
        };
        let most = 887_272 / place.spacing / 256 + 1;
        let words = (-most..=most).map(|word| (word, slot(word, 6))).filter(|(_, bits)| !bits.is_zero());
        words
            .flat_map(|(word, bits)| {
                let set = (0..256).filter(move |bit| bits.bit(*bit as usize));
                set.map(move |bit| (word * 256 + bit) * place.spacing)
            })
            .map(|tick| {
                let packed = slot(tick, 5);
                (tick, (packed >> 128usize).wrapping_to::<u128>() as i128, packed.wrapping_to())
            })
            .collect()
    }
}
