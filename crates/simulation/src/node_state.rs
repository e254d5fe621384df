use std::time::Duration;

use alloy_primitives::{Address, B256, BlockHash, Bytes, U64, U256};
use headwater_node::{Call, Node, NodeError, Redial, Reply};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::SimulationError;
use crate::pinned::{AccountState, BlockFigures, StateReader};

/// The state as a node tells it.
#[derive(Clone, Debug)]
pub struct NodeState {
    node: Redial,
    timeout: Duration,
}

impl NodeState {
    /// Gives a request up after `timeout`.
    pub fn new(node: Redial, timeout: Duration) -> Self {
        Self { node, timeout }
    }

    async fn ask(&self, method: &str, params: Value) -> Result<Reply, SimulationError> {
        let node = self.node.node().await?;
        Ok(node.request_within(self.timeout, method, params).await?)
    }
}

/// EIP-1898: by hash, and refused if the block is no longer canonical.
fn behind(at: BlockHash) -> Value {
    json!({ "blockHash": at, "requireCanonical": true })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    number: U64,
    timestamp: U64,
    base_fee_per_gas: Option<U64>,
    gas_used: U64,
    gas_limit: U64,
    miner: Address,
}

#[derive(Deserialize)]
struct Hash {
    hash: B256,
}

impl StateReader for NodeState {
    async fn block(&self, hash: BlockHash) -> Result<BlockFigures, SimulationError> {
        let reply = self.ask("eth_getBlockByHash", json!([hash, false])).await?;
        let header: Option<Header> = reply.parse()?;
        let header = header.ok_or_else(|| SimulationError::BlockUnknown(hash.to_string()))?;
        Ok(BlockFigures {
            number: header.number.to(),
            timestamp: header.timestamp.to(),
            base_fee_per_gas: header.base_fee_per_gas.map(|fee| fee.to()),
            gas_used: header.gas_used.to(),
            gas_limit: header.gas_limit.to(),
            beneficiary: header.miner,
        })
    }

    async fn account(&self, at: BlockHash, address: Address) -> Result<AccountState, SimulationError> {
        let node: Node = self.node.node().await?;
        let methods = ["eth_getBalance", "eth_getTransactionCount", "eth_getCode"];
        let calls = methods.map(|method| Call::new(method, (address, behind(at))));
        let calls = calls.into_iter().collect::<Result<Vec<_>, _>>()?;
        let answers = node.batch(&calls).await?.into_iter().collect::<Result<Vec<_>, _>>()?;
        let [balance, nonce, code] = answers.as_slice() else {
            let reason = format!("{} answers in place of three", answers.len());
            return Err(NodeError::Decode { reason }.into());
        };
        let nonce: U64 = nonce.parse()?;
        Ok(AccountState { balance: balance.parse()?, nonce: nonce.to(), code: code.parse::<Bytes>()? })
    }

    async fn slot(&self, at: BlockHash, address: Address, slot: U256) -> Result<U256, SimulationError> {
        let slot = B256::from(slot);
        let word: B256 = self.ask("eth_getStorageAt", json!([address, slot, behind(at)])).await?.parse()?;
        Ok(word.into())
    }

    async fn hash_of(&self, _at: BlockHash, number: u64) -> Result<BlockHash, SimulationError> {
        let reply = self.ask("eth_getBlockByNumber", json!([format!("{number:#x}"), false])).await?;
        let found: Option<Hash> = reply.parse()?;
        Ok(found.ok_or_else(|| SimulationError::BlockUnknown(number.to_string()))?.hash)
    }
}
