use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

use crate::AsOf;

mod calls;
mod custom;
mod feeds;
mod lending;
mod pools;

pub use calls::{
    AaveCall, Call, Command, Exact, FlashLoan, Guard, Instruction, Native, PaymentCall, Permit, Permit2Call,
    Permit2Transfer, PermitDetails, Route, SignatureTransfer, SwapCall, TokenCall, V4Hop, V4Instruction,
};
pub use custom::{Custom, Value};
pub use feeds::{ChainlinkAction, Transmission, TransmitKind};
pub use lending::{AaveAction, CompoundAction};
pub use pools::{TokenTransfer, V2Action, V3Action, V4Action, WethAction};

/// What a block did, in the protocols' own words: one per block, in the order of execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodedBlock {
    /// The block.
    pub as_of: AsOf,
    /// Calls (at their transaction's place) and events (at their log's place).
    pub actions: Vec<Action>,
    /// Logs whose shape no decoder knows.
    pub unknown_logs: u32,
    /// Calls of known contracts, and calls and commands inside decoded ones, that no decoder knows.
    pub unknown_calls: u32,
    /// Logs and calls that carry a known selector and do not decode.
    pub malformed: u32,
    /// Nothing is known of the block's actions, because it was set aside: there is no view of it.
    pub set_aside: bool,
}

/// One decoded call or event. Whether an emitter is what it seems to be, a proof has to tell.
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
    /// A call of a transaction, as a user signed it. Whether it succeeded is what the logs tell.
    Call {
        /// Place of the transaction in the block.
        transaction_index: u32,
        /// The contract that was called.
        contract: Address,
        /// The call.
        call: Call,
    },
    /// An event of a concentrated-liquidity pool or its factory.
    V3 {
        /// Place of the log in the block.
        log_index: u32,
        /// The contract that emitted it.
        emitter: Address,
        /// The event.
        action: V3Action,
    },
    /// An event of Uniswap V4's pools.
    V4 {
        /// Place of the log in the block.
        log_index: u32,
        /// The contract that emitted it.
        emitter: Address,
        /// The event.
        action: V4Action,
    },
    /// An event of an Aave pool.
    Aave {
        /// Place of the log in the block.
        log_index: u32,
        /// The contract that emitted it.
        emitter: Address,
        /// The event.
        action: AaveAction,
    },
    /// A liquidation in Compound.
    Compound {
        /// Place of the log in the block.
        log_index: u32,
        /// The contract that emitted it.
        emitter: Address,
        /// The event.
        action: CompoundAction,
    },
    /// An event of a Chainlink aggregator.
    Chainlink {
        /// Place of the log in the block.
        log_index: u32,
        /// The contract that emitted it.
        emitter: Address,
        /// The event.
        action: ChainlinkAction,
    },
    /// An event that a custom bot taught the decoder.
    Custom {
        /// Place of the log in the block.
        log_index: u32,
        /// The contract that emitted it.
        emitter: Address,
        /// The event.
        custom: Custom,
    },
}
