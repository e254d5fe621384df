use alloy_primitives::aliases::U160;
use alloy_primitives::{Address, B256, I256, U256};
use serde::{Deserialize, Serialize};

/// Events of Uniswap V2 pairs and factories (v2-core `UniswapV2Pair.sol`, `UniswapV2Factory.sol`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum V2Action {
    /// Amounts that went in and out, in smallest units.
    Swap {
        /// Caller of `swap`.
        sender: Address,
        /// Recipient of the output.
        to: Address,
        /// In, token 0.
        amount0_in: U256,
        /// In, token 1.
        amount1_in: U256,
        /// Out, token 0.
        amount0_out: U256,
        /// Out, token 1.
        amount1_out: U256,
    },
    /// The reserves after whatever happened: absolute, so that the last one of a block suffices.
    Sync {
        /// Reserve of token 0 (`uint112`).
        reserve0: u128,
        /// Reserve of token 1 (`uint112`).
        reserve1: u128,
    },
    /// Liquidity added.
    Mint {
        /// Caller of `mint`.
        sender: Address,
        /// Added, token 0.
        amount0: U256,
        /// Added, token 1.
        amount1: U256,
    },
    /// Liquidity removed.
    Burn {
        /// Caller of `burn`.
        sender: Address,
        /// Recipient.
        to: Address,
        /// Removed, token 0.
        amount0: U256,
        /// Removed, token 1.
        amount1: U256,
    },
    /// A factory made a pool.
    PairCreated {
        /// The token with the lower address.
        token0: Address,
        /// The token with the higher address.
        token1: Address,
        /// The pool.
        pair: Address,
        /// How many pools the factory has now.
        count: U256,
    },
}

/// ERC-20 `Transfer` (EIP-20).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenTransfer {
    /// The token.
    pub token: Address,
    /// From.
    pub from: Address,
    /// To.
    pub to: Address,
    /// Smallest units.
    pub amount: U256,
}

/// Events of WETH9.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WethAction {
    /// Native tokens wrapped.
    Deposit {
        /// Whose balance grew.
        account: Address,
        /// Wei.
        amount: U256,
    },
    /// Native tokens unwrapped.
    Withdrawal {
        /// Whose balance shrank.
        account: Address,
        /// Wei.
        amount: U256,
    },
}

/// Events of Uniswap V3 pools and factories (v3-core `IUniswapV3PoolEvents.sol`, `IUniswapV3Factory.sol`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum V3Action {
    /// The pool got its first price.
    Initialize {
        /// Square root of token 1 per token 0, times 2^96.
        sqrt_price_x96: U160,
        /// The tick of that price.
        tick: i32,
    },
    /// A swap, with the state after it: absolute, so that the last one of a block suffices for the price.
    Swap {
        /// Caller of `swap`.
        sender: Address,
        /// Recipient of the output.
        recipient: Address,
        /// What the pool gained of token 0; negative is what it gave.
        amount0: I256,
        /// What the pool gained of token 1; negative is what it gave.
        amount1: I256,
        /// Square root of token 1 per token 0 after the swap, times 2^96.
        sqrt_price_x96: U160,
        /// Liquidity in range after the swap.
        liquidity: u128,
        /// Tick after the swap.
        tick: i32,
        /// What PancakeSwap V3 tells beside it: the protocol's share of the fee, in token 0 and 1.
        protocol_fees: Option<(u128, u128)>,
    },
    /// Liquidity added to a range: a difference, which must not be applied twice.
    Mint {
        /// Caller of `mint`.
        sender: Address,
        /// Owner of the position.
        owner: Address,
        /// Lower end of the range.
        tick_lower: i32,
        /// Upper end of the range.
        tick_upper: i32,
        /// Liquidity added.
        amount: u128,
        /// Paid, token 0.
        amount0: U256,
        /// Paid, token 1.
        amount1: U256,
    },
    /// Liquidity removed from a range; of none where only fees are settled.
    Burn {
        /// Owner of the position.
        owner: Address,
        /// Lower end of the range.
        tick_lower: i32,
        /// Upper end of the range.
        tick_upper: i32,
        /// Liquidity removed.
        amount: u128,
        /// Owed for it, token 0.
        amount0: U256,
        /// Owed for it, token 1.
        amount1: U256,
    },
    /// What was owed to a position was paid out.
    Collect {
        /// Owner of the position.
        owner: Address,
        /// Recipient.
        recipient: Address,
        /// Lower end of the range.
        tick_lower: i32,
        /// Upper end of the range.
        tick_upper: i32,
        /// Paid out, token 0.
        amount0: u128,
        /// Paid out, token 1.
        amount1: u128,
    },
    /// A flash loan.
    Flash {
        /// Caller of `flash`.
        sender: Address,
        /// Recipient of the loan.
        recipient: Address,
        /// Lent, token 0.
        amount0: U256,
        /// Lent, token 1.
        amount1: U256,
        /// Paid for it, token 0.
        paid0: U256,
        /// Paid for it, token 1.
        paid1: U256,
    },
    /// The protocol's share of the fees changed: one part in so many, zero for none.
    SetFeeProtocol {
        /// Before, token 0.
        old0: u8,
        /// Before, token 1.
        old1: u8,
        /// Now, token 0.
        new0: u8,
        /// Now, token 1.
        new1: u8,
    },
    /// A factory made a pool.
    PoolCreated {
        /// The token with the lower address.
        token0: Address,
        /// The token with the higher address.
        token1: Address,
        /// Fee in parts per million of the input.
        fee: u32,
        /// Only multiples of it can be ends of ranges.
        tick_spacing: i32,
        /// The pool.
        pool: Address,
    },
}

/// Events of the Uniswap V4 `PoolManager` (v4-core `IPoolManager.sol`), which holds all pools: each names its pool by
/// the hash of its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum V4Action {
    /// A pool came into being, with its first price.
    Initialize {
        /// The pool.
        id: B256,
        /// The currency with the lower address; zero is the native one.
        currency0: Address,
        /// The currency with the higher address.
        currency1: Address,
        /// Fee in parts per million; `0x800000` where a hook decides.
        fee: u32,
        /// Only multiples of it can be ends of ranges.
        tick_spacing: i32,
        /// The contract that may interfere; zero for none.
        hooks: Address,
        /// Square root of currency 1 per currency 0, times 2^96.
        sqrt_price_x96: U160,
        /// The tick of that price.
        tick: i32,
    },
    /// Liquidity added to a range, or removed: a difference, which must not be applied twice.
    ModifyLiquidity {
        /// The pool.
        id: B256,
        /// Caller.
        sender: Address,
        /// Lower end of the range.
        tick_lower: i32,
        /// Upper end of the range.
        tick_upper: i32,
        /// Added; negative where removed.
        liquidity_delta: I256,
        /// Tells positions of one owner and range apart.
        salt: B256,
    },
    /// A swap, with the state after it.
    Swap {
        /// The pool.
        id: B256,
        /// Caller.
        sender: Address,
        /// What the swapper gained of currency 0, negative is what it gave: the other way round than in V3.
        amount0: i128,
        /// What the swapper gained of currency 1.
        amount1: i128,
        /// Square root of currency 1 per currency 0 after the swap, times 2^96.
        sqrt_price_x96: U160,
        /// Liquidity in range after the swap.
        liquidity: u128,
        /// Tick after the swap.
        tick: i32,
        /// The fee that was charged, in parts per million.
        fee: u32,
    },
    /// A gift to the liquidity in range.
    Donate {
        /// The pool.
        id: B256,
        /// Caller.
        sender: Address,
        /// Given, currency 0.
        amount0: U256,
        /// Given, currency 1.
        amount1: U256,
    },
    /// What the protocol takes of swaps changed.
    ProtocolFeeUpdated {
        /// The pool.
        id: B256,
        /// In parts per million: the lower twelve bits for currency 0 in, the next for currency 1 in.
        protocol_fee: u32,
    },
}
