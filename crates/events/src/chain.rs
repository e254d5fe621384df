use alloy_primitives::{Address, B256, BlockHash, BlockNumber, Bloom, Bytes, TxHash, U256};
use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

use crate::envelope::of_vec;

/// A canonical block with everything that the components read of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockEvent {
    /// The fields of the header that decisions need.
    pub header: Header,
    /// All transactions, in their order in the block; none where the logs are assumed.
    pub transactions: Vec<Transaction>,
    /// All logs, by ascending log index; where they are assumed, only those that are decoded.
    pub logs: Vec<Log>,
    /// How sure we are that `logs` is complete.
    pub grade: Grade,
}

impl BlockEvent {
    pub(crate) fn on_heap(&self) -> usize {
        of_vec(&self.transactions)
            + of_vec(&self.logs)
            + self.transactions.iter().map(Transaction::on_heap).sum::<usize>()
            + self.logs.iter().map(|log| log.data.len()).sum::<usize>()
    }
}

/// The part of a block header that decisions need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Height.
    pub number: BlockNumber,
    /// Keccak-256 of the RLP-encoded header, as the node gives it.
    pub hash: BlockHash,
    /// Hash of the block below.
    pub parent_hash: BlockHash,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    /// Wei per gas (EIP-1559); absent before London.
    pub base_fee_per_gas: Option<u64>,
    /// Gas used by all transactions.
    pub gas_used: u64,
    /// Gas limit of the block.
    pub gas_limit: u64,
    /// Recipient of the priority fees.
    pub beneficiary: Address,
    /// Bloom filter over the addresses and topics of all logs (yellow paper, section 4.3.1).
    pub logs_bloom: Bloom,
}

/// How sure we are that the logs of a block are all its logs. Ordered: a later grade is a stronger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Logs pushed by the node under a topic filter; nothing in the header speaks for them. They are verified before
    /// the next block: if they were wrong, the block is undone and comes again, under the same hash.
    Assumed,
    /// The bloom of all the logs equals the header's, and their indices are contiguous from zero.
    Matched,
    /// The receipts hash to the header's receipts root.
    Proven,
}

impl Grade {
    /// As written in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Assumed => "assumed",
            Self::Matched => "matched",
            Self::Proven => "proven",
        }
    }
}

/// A transaction of a block or of the mempool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Hash of the signed transaction.
    pub hash: TxHash,
    /// Sender, as recovered by the node.
    pub from: Address,
    /// Recipient; absent for a contract creation.
    pub to: Option<Address>,
    /// Wei sent along.
    pub value: U256,
    /// Calldata, or init code for a contract creation.
    pub input: Bytes,
    /// Sender's nonce.
    pub nonce: u64,
    /// Gas limit of the transaction.
    pub gas_limit: u64,
}

impl Transaction {
    pub(crate) fn on_heap(&self) -> usize {
        self.input.len()
    }
}

/// Up to four topics, stored inline.
pub type Topics = ArrayVec<B256, 4>;

/// An event that a contract emitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The contract that emitted it.
    pub address: Address,
    /// Topic 0 (the event's signature, unless anonymous) and the indexed arguments.
    pub topics: Topics,
    /// The arguments that are not indexed, ABI-encoded.
    pub data: Bytes,
    /// Place of the transaction in the block.
    pub transaction_index: u32,
    /// Place of the log in the block, from zero without holes.
    pub log_index: u32,
}

/// A transaction seen before it was mined. It is not journaled, as what a mempool shows is no property of the
/// chain; but with its effect, as [`PendingEffect`](crate::PendingEffect), where something was found behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingTxEvent {
    /// The transaction.
    pub transaction: Transaction,
    /// The most wei that it pays per gas, base fee included (EIP-1559); its gas price where it has but one. A block with a
    /// greater base fee cannot hold it.
    pub max_fee_per_gas: u128,
    /// The most wei of that for whoever makes the block (EIP-1559); absent for a transaction of before.
    pub max_priority_fee_per_gas: Option<u128>,
}

/// Blocks that were canonical and no longer are. The blocks that replace them follow as `NewBlock`. One that was assumed and
/// turned out to be otherwise is replaced by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReorgEvent {
    /// Height of the last block that both chains have in common.
    pub ancestor_number: BlockNumber,
    /// Hash of that block: what the world is rolled back to.
    pub ancestor_hash: BlockHash,
    /// The hashes of the blocks that are undone, newest first.
    pub undone: Vec<BlockHash>,
    /// The head before.
    pub old_head: BlockHash,
    /// The head that made the reorganisation known. Blocks up to it follow.
    pub new_head: BlockHash,
}

impl ReorgEvent {
    /// How many blocks are undone.
    pub fn depth(&self) -> usize {
        self.undone.len()
    }
}

/// A hole in what the node announced, both ends included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceGap {
    /// First block that was not announced.
    pub from: BlockNumber,
    /// Last block that was not announced.
    pub to: BlockNumber,
    /// How many of them were fetched by hash, and follow as `NewBlock`.
    pub filled: u64,
}

/// The connection was lost and made anew; what was missed meanwhile follows as a `SourceGap` and its blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconnected {
    /// Counts the connections of this run, from 1.
    pub epoch: u64,
    /// Which of the configured endpoints, from 0.
    pub endpoint: u32,
}
