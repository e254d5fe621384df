use alloy_primitives::{Address, B256, BlockHash, U64};
use headwater_abi::aave;
use headwater_node::Node;
use serde::{Deserialize, Serialize};

use crate::error::LoadError;
use crate::loader::bulk::ensure_canonical;
use crate::loader::question::{Answer, Question, ask};

/// What a load needs of a chain. A node is one; a chain in memory can be another.
pub trait LendingChain: Sync {
    /// Where a block stands.
    fn place(&self, block: BlockHash) -> impl Future<Output = Result<BlockPlace, LoadError>> + Send;

    /// Calls contracts as of a block; the answers come in the order of the questions.
    fn ask(
        &self,
        block: BlockHash,
        questions: &[Question],
    ) -> impl Future<Output = Result<Vec<Answer>, LoadError>> + Send;

    /// Who got something of these tokens in these blocks, the last one included: token and account.
    fn holders(
        &self,
        tokens: &[Address],
        from: u64,
        to: u64,
    ) -> impl Future<Output = Result<Vec<(Address, Address)>, LoadError>> + Send;

    /// Whether the block still is what the chain has at this height.
    fn ensure_canonical(
        &self,
        block: BlockHash,
        number: u64,
    ) -> impl Future<Output = Result<(), LoadError>> + Send;
}

/// Height and time of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPlace {
    /// Height.
    pub number: u64,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
}

#[derive(Deserialize)]
struct ToldBlock {
    number: U64,
    timestamp: U64,
}

#[derive(Deserialize)]
struct ToldLog {
    address: Address,
    topics: Vec<B256>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LogFilter<'a> {
    address: &'a [Address],
    topics: [&'a [B256]; 1],
    from_block: U64,
    to_block: U64,
}

impl LendingChain for Node {
    async fn place(&self, block: BlockHash) -> Result<BlockPlace, LoadError> {
        let told: Option<ToldBlock> = self.call("eth_getBlockByHash", (block, false)).await?;
        let gone = || LoadError::BlockGone { block, reason: "it is unknown".to_owned() };
        let told = told.ok_or_else(gone)?;
        Ok(BlockPlace { number: told.number.to(), timestamp: told.timestamp.to() })
    }

    async fn ask(&self, block: BlockHash, questions: &[Question]) -> Result<Vec<Answer>, LoadError> {
        ask(self, block, questions).await
    }

    async fn holders(
        &self,
        tokens: &[Address],
        from: u64,
        to: u64,
    ) -> Result<Vec<(Address, Address)>, LoadError> {
        let filter = LogFilter {
            address: tokens,
            topics: [&aave::HOLDERS],
            from_block: U64::from(from),
            to_block: U64::from(to),
        };
        let logs: Vec<ToldLog> = self.call("eth_getLogs", (filter,)).await?;
        let of_log = |log: ToldLog| {
            let holders: Vec<Address> = aave::holders(&log.topics).collect();
            holders.into_iter().map(move |account| (log.address, account))
        };
        Ok(logs.into_iter().flat_map(of_log).collect())
    }

    async fn ensure_canonical(&self, block: BlockHash, number: u64) -> Result<(), LoadError> {
        ensure_canonical(self, block, number).await
    }
}
