use alloy_primitives::{Address, U256};
use serde::{Deserialize, Serialize};

use crate::AsOf;

/// What a block did, in the protocols' own words: one per block, in the order of execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodedBlock {
    /// The block.
    pub as_of: AsOf,
    /// Calls (at their transaction's place) and events (at their log's place).
    pub actions: Vec<Action>,
    /// Logs whose shape no decoder knows.
    pub unknown_logs: u32,
    /// Calls to a known router whose selector no decoder knows.
    pub unknown_calls: u32,
    /// Logs and calls that carry a known selector and do not decode.
    pub malformed: u32,
    /// Nothing is known of the block's actions, because it was set aside: there is no view of it.
    pub set_aside: bool,
}

/// One decoded call or event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// An event of a constant-product pool or its factory.
    V2 {
        /// Place of the log in the block.
        log_index: u32,
        /// The contract that emitted it: not yet proven to be a pool.
        emitter: Address,
        /// The event.
        action: V2Action,
    },
    /// ERC-20 `Transfer`.
    Transfer {
        /// Place of the log in the block.
        log_index: u32,
        /// The transfer.
        transfer: TokenTransfer,
    },
    /// An event of the wrapped native token.
    Weth {
        /// Place of the log in the block.
        log_index: u32,
        /// The contract that emitted it.
        emitter: Address,
        /// The event.
        action: WethAction,
    },
    /// A call to a Uniswap V2 router, as a user signed it.
    RouterSwap {
        /// Place of the transaction in the block.
        transaction_index: u32,
        /// The call.
        swap: RouterSwap,
    },
}

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

/// A call of one of the nine swap functions of `UniswapV2Router02`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterSwap {
    /// The router that was called.
    pub router: Address,
    /// Which function.
    pub kind: RouterSwapKind,
    /// Exact input, or for an exact-output function the greatest that the user would pay. For the functions that
    /// take native tokens this is the transaction's value.
    pub amount_in: U256,
    /// Exact output, or for an exact-input function the least that the user would accept.
    pub amount_out: U256,
    /// The tokens, from input to output.
    pub path: Vec<Address>,
    /// Recipient.
    pub to: Address,
    /// Seconds since the Unix epoch after which the call reverts.
    pub deadline: U256,
}

/// The swap functions of `UniswapV2Router02` (v2-periphery).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the contract's own")]
pub enum RouterSwapKind {
    ExactTokensForTokens,
    TokensForExactTokens,
    ExactEthForTokens,
    TokensForExactEth,
    ExactTokensForEth,
    EthForExactTokens,
    ExactTokensForTokensSupportingFeeOnTransfer,
    ExactEthForTokensSupportingFeeOnTransfer,
    ExactTokensForEthSupportingFeeOnTransfer,
}
