use alloy_primitives::{Address, BlockHash, U256};
use headwater_bus::BacklogError;
use headwater_market::{BookError, LendingError};
use headwater_node::{AskError, NodeError};

/// Why an event cannot be applied. The world is unchanged, and no longer that of the chain: it has to be rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// A block is missing, or a reorganisation reaches beyond the horizon.
    #[error(transparent)]
    Book(#[from] BookError),
}

/// Why the world cannot be rebuilt from the record.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The record cannot be read, or does not reach back far enough.
    #[error(transparent)]
    Backlog(#[from] BacklogError),
    /// The record ends before the event that the rebuild is to end with.
    #[error("the record does not reach event {wanted}: event {next} is not in it")]
    Short {
        /// The last event that is needed.
        wanted: u64,
        /// The first that is missing.
        next: u64,
    },
    /// The runtime is shutting down.
    #[error("the process ends before event {wanted} was reached")]
    ShuttingDown {
        /// The last event that is needed.
        wanted: u64,
    },
    /// The record has a hole.
    #[error("event {found} stands in the record where {wanted} was due")]
    Hole {
        /// The event that was due.
        wanted: u64,
        /// The event that stands there.
        found: u64,
    },
    /// An event of the record cannot be applied.
    #[error("event {seq}: {error}")]
    World {
        /// The event.
        seq: u64,
        /// Why.
        #[source]
        error: WorldError,
    },
}

/// Why something could not be learnt from the node.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// The block that was asked about is unknown, no longer canonical, or its state is no longer kept: ask about a
    /// newer one.
    #[error("the node no longer answers for block {block}: {reason}")]
    BlockGone {
        /// The block.
        block: BlockHash,
        /// The node's words.
        reason: String,
    },
    /// The node fails.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The node failed too often in a row, or does not serve what is needed.
    #[error("{doing}: {error} ({endpoint}; failed {failures} in a row): {remedy}")]
    GivenUp {
        /// What was being done.
        doing: String,
        /// Of the last connection, redacted.
        endpoint: String,
        /// Failures in a row.
        failures: u32,
        /// What can be done about it.
        remedy: &'static str,
        /// The last of them.
        error: Box<LoadError>,
    },
    /// Tokens cannot be tried out on this node, so that no pool could be quoted.
    #[error("tokens cannot be tried out: {0}")]
    NoTrials(AskError),
    /// A configured factory does not answer as one does.
    #[error("{factory} does not answer as a factory: {reason}")]
    NoFactory {
        /// Its configured name.
        factory: String,
        /// What it does instead.
        reason: String,
    },
    /// A configured lending pool runs a revision whose arithmetic is not proven, or has more reserves than fit.
    #[error(
        "the positions of {pool} are refused: {error}; without its [[market.lending]] the rest is followed"
    )]
    Unproven {
        /// Its configured name.
        pool: String,
        /// Which it is, and which are proven.
        #[source]
        error: LendingError,
    },
    /// A configured lending pool, or a contract of it, does not answer as one does.
    #[error("{pool} of [[market.lending]] does not answer as such a pool: {reason}")]
    NoPool {
        /// Its configured name.
        pool: String,
        /// What it does instead.
        reason: String,
    },
    /// The logs that the node gave do not name everybody who has something in a lending pool.
    #[error(
        "the logs of {pool} name holders of {found} of the {total} scaled units of {token}: \
         its from_block is too late, or the node does not give all logs"
    )]
    Incomplete {
        /// The pool's configured name.
        pool: String,
        /// A supply or a debt token.
        token: Address,
        /// What those who were found hold.
        found: U256,
        /// What there is.
        total: U256,
    },
    /// An account is not what the pool says of it.
    #[error("{pool} says {said} of {account}, but its balances come to {found}")]
    Differs {
        /// The pool's configured name.
        pool: String,
        /// Whose account.
        account: Address,
        /// The contract's six numbers.
        said: String,
        /// What was computed.
        found: String,
    },
}

impl From<AskError> for LoadError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::BlockGone { block, reason } => Self::BlockGone { block, reason },
            error @ AskError::NoOverrides { .. } => Self::NoTrials(error),
            AskError::Node(error) => Self::Node(error),
        }
    }
}

impl LoadError {
    /// Whether the same may succeed with a newer block or a new connection.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::BlockGone { .. } => true,
            Self::Node(error) => error.is_retryable(),
            Self::GivenUp { .. }
            | Self::NoTrials(_)
            | Self::NoFactory { .. }
            | Self::Unproven { .. }
            | Self::NoPool { .. }
            | Self::Incomplete { .. }
            | Self::Differs { .. } => false,
        }
    }
}
