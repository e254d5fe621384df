use std::time::Duration;

use alloy_primitives::{BlockHash, BlockNumber};
use headwater_bus::Closed;
use headwater_journal::JournalError;
use headwater_node::NodeError;

use crate::canonical::CanonicalError;
use crate::parse::ParseError;

/// Why following the chain, or a recording, ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// No node could be connected to, or the connection failed.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A block could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A head could not be placed in the chain.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// The connection to the node is gone.
    #[error("the connection to {endpoint} is gone: {reason}")]
    Disconnected {
        /// The redacted endpoint.
        endpoint: String,
        /// Why, in words.
        reason: String,
    },
    /// The node does not say what others say, or says nothing.
    #[error("{endpoint} has fallen silent at block {head}: {reason}")]
    Silent {
        /// The redacted endpoint.
        endpoint: String,
        /// Height of the last block that it gave.
        head: BlockNumber,
        /// What gave it away.
        reason: &'static str,
    },
    /// The node's head lies below all blocks that are remembered; it has to catch up first.
    #[error("{endpoint} is at block {head}, far behind block {ours}, the last that was published")]
    Behind {
        /// The redacted endpoint.
        endpoint: String,
        /// Height of its head.
        head: BlockNumber,
        /// Height of ours.
        ours: BlockNumber,
    },
    /// The bus takes no more source events.
    #[error("the bus is closed")]
    BusClosed(#[from] Closed),
    /// The recording cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The bus numbers the events of a replay otherwise than the recording does.
    #[error("event {recorded} of the recording became event {published}")]
    OutOfStep {
        /// Its number in the recording.
        recorded: u64,
        /// Its number on the bus.
        published: u64,
    },
    /// The task that reads the recording died; a defect.
    #[error("the reader of the recording died")]
    ReaderDied,
}

impl IngestError {
    /// Whether a new connection can help.
    pub fn is_mended_by_reconnecting(&self) -> bool {
        match self {
            Self::Node(error) => !error.is_another_chain() && *error != NodeError::NoEndpoint,
            Self::Fetch(_) | Self::Disconnected { .. } | Self::Silent { .. } | Self::Behind { .. } => true,
            Self::Canonical(error) => matches!(error, CanonicalError::Unconnected { .. }),
            Self::BusClosed(_) | Self::Journal(_) | Self::OutOfStep { .. } | Self::ReaderDied => false,
        }
    }
}

/// Why a block could not be had from the node.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The request failed.
    #[error("block {number}: {source}")]
    Node {
        /// Height of the block.
        number: BlockNumber,
        /// Why.
        source: NodeError,
    },
    /// The node does not have a block that it announced.
    #[error("the node does not have block {number} ({hash}), asked for {after:?}")]
    Unavailable {
        /// Height of the block.
        number: BlockNumber,
        /// Its hash.
        hash: BlockHash,
        /// For how long it was asked.
        after: Duration,
    },
    /// The logs do not become complete.
    #[error("the logs of block {number} ({hash}) are not complete after {after:?}: {reason}")]
    Incomplete {
        /// Height of the block.
        number: BlockNumber,
        /// Its hash.
        hash: BlockHash,
        /// For how long they were asked for.
        after: Duration,
        /// What is wrong with them.
        reason: Incomplete,
    },
    /// The answer is not what it should be.
    #[error("block {number}: malformed answer to {method}: {source}")]
    Malformed {
        /// Height of the block.
        number: BlockNumber,
        /// What was asked.
        method: &'static str,
        /// Where and what.
        source: ParseError,
    },
    /// The node gave another block than the one asked for.
    #[error("block {number} ({hash}) was asked for, and another one given")]
    AnotherBlock {
        /// Height of the block.
        number: BlockNumber,
        /// Its hash.
        hash: BlockHash,
    },
}

impl FetchError {
    /// Whether the block may have been reorganised away, so that the head is worth asking for.
    pub fn may_be_orphaned(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Incomplete { .. })
    }
}

/// Why logs, or receipts, are not those of their block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// Their bloom is not the header's.
    #[error("{logs} logs, and their bloom is not the header's")]
    Bloom {
        /// How many there are.
        logs: usize,
    },
    /// The receipts do not hash to the header's receipts root.
    #[error("{receipts} receipts, and their root is not the header's")]
    Receipts {
        /// How many there are.
        receipts: usize,
    },
    /// The node does not tell the header's receipts root, so that nothing can be proven.
    #[error("the header has no receiptsRoot; set [ingest] completeness to \"matched\" for this node")]
    NoReceiptsRoot,
    /// Their indices do not count up from zero.
    #[error("a log with index {found} where {expected} comes next")]
    Index {
        /// The index that comes next.
        expected: u32,
        /// The one that stands there.
        found: u32,
    },
    /// A log of a transaction that the block does not have, or out of the order of the transactions.
    #[error("log {log} names transaction {transaction}")]
    Transaction {
        /// The log's index.
        log: u32,
        /// The transaction's index.
        transaction: u32,
    },
}
