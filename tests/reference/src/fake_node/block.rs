//! Blocks that a fake node serves: built from parts, or taken from a recording.

use alloy_primitives::{Address, B256, Bytes, U256, hex, keccak256};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::receipts::receipts_root;

/// A block with its receipts, as a node would show them: quantities and data are `0x` strings.
#[derive(Debug, Clone, PartialEq)]
pub struct FakeBlock {
    /// `eth_getBlockByHash(hash, true)`.
    pub block: Value,
    /// `eth_getBlockReceipts(hash)`; the logs are in here.
    pub receipts: Vec<Value>,
}

/// A transaction to be put into a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeTransaction {
    /// The sender.
    pub from: Address,
    /// The callee; `None` creates a contract.
    pub to: Option<Address>,
    /// The calldata.
    pub input: Bytes,
    /// Wei sent along.
    pub value: U256,
    /// The sender's nonce.
    pub nonce: u64,
    /// The gas limit.
    pub gas: u64,
    /// What it emits.
    pub logs: Vec<FakeLog>,
    /// Whether it succeeded.
    pub success: bool,
    /// Its type (EIP-2718).
    pub kind: u8,
}

/// A log to be emitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeLog {
    /// The emitting contract.
    pub address: Address,
    /// At most four.
    pub topics: Vec<B256>,
    /// The rest.
    pub data: Bytes,
}

/// Builds a block whose bloom, receipts root, indices and back references agree with each other.
#[derive(Debug, Clone)]
pub struct BlockBuilder {
    number: u64,
    parent_hash: B256,
    timestamp: u64,
    base_fee_per_gas: Option<u64>,
    gas_limit: u64,
    salt: u64,
    transactions: Vec<FakeTransaction>,
}

impl Default for FakeTransaction {
    fn default() -> Self {
        Self {
            from: Address::repeat_byte(0xf0),
            to: Some(Address::repeat_byte(0x70)),
            input: Bytes::new(),
            value: U256::ZERO,
            nonce: 0,
            gas: 300_000,
            logs: Vec::new(),
            success: true,
            kind: 0,
        }
    }
}

impl FakeTransaction {
    /// A successful transaction that emits these logs.
    pub fn emitting(logs: Vec<FakeLog>) -> Self {
        Self { logs, ..Self::default() }
    }
}

impl FakeLog {
    /// Uniswap V2 `Sync(uint112,uint112)`.
    pub fn sync(pair: Address, reserve0: u128, reserve1: u128) -> Self {
        let words = [U256::from(reserve0).to_be_bytes::<32>(), U256::from(reserve1).to_be_bytes::<32>()];
        Self { address: pair, topics: vec![sync_topic()], data: words.concat().into() }
    }
}

/// `keccak256("Sync(uint112,uint112)")`.
pub fn sync_topic() -> B256 {
    keccak256("Sync(uint112,uint112)")
}

impl BlockBuilder {
    /// A block without a known parent: the first that a node has.
    pub fn first(number: u64) -> Self {
        Self {
            number,
            parent_hash: keccak256(number.to_be_bytes()),
            timestamp: 1_700_000_000,
            base_fee_per_gas: Some(10_000_000_000),
            gas_limit: 30_000_000,
            salt: 0,
            transactions: Vec::new(),
        }
    }

    /// A block on top of `parent`, twelve seconds later, with the same base fee.
    pub fn child_of(parent: &FakeBlock) -> Self {
        Self {
            number: parent.number() + 1,
            parent_hash: parent.hash(),
            timestamp: quantity(&parent.block["timestamp"]) + 12,
            base_fee_per_gas: parent.block.get("baseFeePerGas").map(quantity),
            gas_limit: quantity(&parent.block["gasLimit"]),
            salt: 0,
            transactions: Vec::new(),
        }
    }

    /// Seconds since 1970.
    pub fn timestamp(mut self, timestamp: u64) -> Self {
        self.timestamp = timestamp;
        self
    }

    /// Wei; `None` for a block before London.
    pub fn base_fee_per_gas(mut self, fee: Option<u64>) -> Self {
        self.base_fee_per_gas = fee;
        self
    }

    /// The block's gas limit.
    pub fn gas_limit(mut self, gas_limit: u64) -> Self {
        self.gas_limit = gas_limit;
        self
    }

    /// Makes the hash differ from that of a block with the same content: a competing block.
    pub fn salt(mut self, salt: u64) -> Self {
        self.salt = salt;
        self
    }

    /// Adds a transaction.
    pub fn transaction(mut self, transaction: FakeTransaction) -> Self {
        self.transactions.push(transaction);
        self
    }

    /// Adds transactions.
    pub fn transactions(mut self, transactions: impl IntoIterator<Item = FakeTransaction>) -> Self {
        self.transactions.extend(transactions);
        self
    }

    /// The block. Each transaction uses two thirds of its gas limit.
    pub fn build(self) -> FakeBlock {
        let mut receipts = Vec::new();
        let mut transactions = Vec::new();
        let mut gas_used = 0;
        for (index, transaction) in self.transactions.iter().enumerate() {
            let used = transaction.gas * 2 / 3;
            gas_used += used;
            transactions.push(self.transaction_json(index, transaction));
            receipts.push(self.receipt_json(index, transaction, used, gas_used));
        }
        let mut block = self.header_json(gas_used);
        block["transactions"] = Value::from(transactions);
        let block = FakeBlock { block, receipts }.with_log_indices().with_logs_bloom();
        block.with_receipts_root().rehashed(self.salt)
    }

    fn header_json(&self, gas_used: u64) -> Value {
        let mut header = json!({
            "number": hex_quantity(self.number),
            "parentHash": self.parent_hash,
            "timestamp": hex_quantity(self.timestamp),
            "gasLimit": hex_quantity(self.gas_limit),
            "gasUsed": hex_quantity(gas_used),
            "difficulty": "0x0",
            "extraData": "0x",
            "miner": Address::repeat_byte(0xc0),
            "mixHash": B256::repeat_byte(0x01),
            "nonce": "0x0000000000000000",
            "sha3Uncles": "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347",
            "size": "0x400",
            "stateRoot": B256::repeat_byte(0x03),
            "transactionsRoot": B256::repeat_byte(0x04),
            "uncles": [],
        });
        if let Some(fee) = self.base_fee_per_gas {
            header["baseFeePerGas"] = hex_quantity(fee).into();
        }
        header
    }

    fn transaction_json(&self, index: usize, transaction: &FakeTransaction) -> Value {
        json!({
            "blockNumber": hex_quantity(self.number),
            "from": transaction.from,
            "gas": hex_quantity(transaction.gas),
            "gasPrice": hex_quantity(self.base_fee_per_gas.unwrap_or(10_000_000_000) + 1_000_000_000),
            "hash": self.transaction_hash(index, transaction),
            "input": transaction.input,
            "nonce": hex_quantity(transaction.nonce),
            "to": transaction.to,
            "transactionIndex": hex_quantity(index as u64),
            "value": transaction.value,
            "type": hex_quantity(transaction.kind.into()),
            "chainId": "0x1",
            "v": "0x25",
            "r": B256::repeat_byte(0x11),
            "s": B256::repeat_byte(0x12),
        })
    }

    fn receipt_json(&self, index: usize, transaction: &FakeTransaction, used: u64, cumulative: u64) -> Value {
        let hash = self.transaction_hash(index, transaction);
        let number = hex_quantity(self.number);
        let place = hex_quantity(index as u64);
        let logs: Vec<Value> = transaction
            .logs
            .iter()
            .map(|log| {
                json!({
                    "address": log.address, "topics": log.topics, "data": log.data, "blockNumber": number,
                    "transactionHash": hash, "transactionIndex": place, "removed": false,
                })
            })
            .collect();
        json!({
            "blockNumber": number,
            "contractAddress": null,
            "cumulativeGasUsed": hex_quantity(cumulative),
            "effectiveGasPrice": hex_quantity(self.base_fee_per_gas.unwrap_or(10_000_000_000) + 1_000_000_000),
            "from": transaction.from,
            "gasUsed": hex_quantity(used),
            "logsBloom": hex::encode_prefixed(logs_bloom(&logs)),
            "logs": logs,
            "status": if transaction.success { "0x1" } else { "0x0" },
            "to": transaction.to,
            "transactionHash": hash,
            "transactionIndex": place,
            "type": hex_quantity(transaction.kind.into()),
        })
    }

    /// The same transaction in two competing blocks has the same hash, as on a chain.
    fn transaction_hash(&self, index: usize, transaction: &FakeTransaction) -> B256 {
        keccak256(format!("{} {index} {transaction:?}", self.number))
    }
}

impl FakeBlock {
    /// A recorded block: `{"block": …, "receipts": […]}` of `eth_getBlockByHash(hash, true)` and `eth_getBlockReceipts`.
    /// Log indices are filled in where the recording has none; nothing else is changed.
    ///
    /// # Errors
    /// Where a part is missing.
    pub fn from_recorded(recorded: &Value) -> Result<Self> {
        let block = recorded.get("block").context("no block")?.clone();
        ensure!(block["hash"].is_string() && block["number"].is_string(), "no hash or no number");
        ensure!(block["transactions"].is_array(), "no transactions");
        let receipts = recorded["receipts"].as_array().context("no receipts")?.clone();
        let block = Self { block, receipts };
        let complete = block.logs().iter().all(|log| log["logIndex"].is_string());
        Ok(if complete { block } else { block.with_log_indices() })
    }

    /// The block's hash.
    pub fn hash(&self) -> B256 {
        hash(&self.block["hash"])
    }

    /// The block's number.
    pub fn number(&self) -> u64 {
        quantity(&self.block["number"])
    }

    /// The hash of the block before.
    pub fn parent_hash(&self) -> B256 {
        hash(&self.block["parentHash"])
    }

    /// All logs, in order.
    pub fn logs(&self) -> Vec<&Value> {
        self.receipts.iter().filter_map(|receipt| receipt["logs"].as_array()).flatten().collect()
    }

    /// Puts the block behind `parent`: parent hash and number, also in the transactions, receipts and logs. The block's
    /// own hash stays.
    pub fn chained_to(self, parent: &FakeBlock) -> Self {
        self.with_parent_hash(parent.hash()).with_number(parent.number() + 1)
    }

    /// Another parent.
    pub fn with_parent_hash(mut self, parent_hash: B256) -> Self {
        self.block["parentHash"] = json!(parent_hash);
        self
    }

    /// Another number, also in the transactions, receipts and logs.
    pub fn with_number(mut self, number: u64) -> Self {
        self.block["number"] = hex_quantity(number).into();
        self.set_everywhere("blockNumber", &hex_quantity(number).into());
        self
    }

    /// Another hash, derived from the content and the salt, also in the transactions, receipts and logs.
    pub fn rehashed(mut self, salt: u64) -> Self {
        self.set_everywhere("blockHash", &Value::Null);
        self.block["hash"] = Value::Null;
        let hash = json!(keccak256(format!("{salt} {} {:?}", self.block, self.receipts)));
        self.block["hash"] = hash.clone();
        self.set_everywhere("blockHash", &hash);
        self
    }

    /// The header's bloom from the logs that are there, and each receipt's from its own.
    pub fn with_logs_bloom(mut self) -> Self {
        for receipt in &mut self.receipts {
            let bloom = receipt["logs"].as_array().map_or([0; 256], logs_bloom);
            receipt["logsBloom"] = hex::encode_prefixed(bloom).into();
        }
        self.block["logsBloom"] = hex::encode_prefixed(logs_bloom(self.logs())).into();
        self
    }

    /// The header's receipts root from the receipts that are there.
    pub fn with_receipts_root(mut self) -> Self {
        self.block["receiptsRoot"] = json!(receipts_root(&self.receipts));
        self
    }

    /// Log indices from 0 without a hole.
    pub fn with_log_indices(mut self) -> Self {
        let logs = self.receipts.iter_mut().filter_map(|receipt| receipt["logs"].as_array_mut()).flatten();
        for (index, log) in logs.enumerate() {
            log["logIndex"] = hex_quantity(index as u64).into();
        }
        self
    }

    fn set_everywhere(&mut self, name: &str, value: &Value) {
        let transactions = self.block["transactions"].as_array_mut().into_iter().flatten();
        for transaction in transactions.filter(|transaction| transaction.is_object()) {
            transaction[name] = value.clone();
        }
        for receipt in &mut self.receipts {
            receipt[name] = value.clone();
            for log in receipt["logs"].as_array_mut().into_iter().flatten() {
                log[name] = value.clone();
            }
        }
    }
}

/// The 2048-bit bloom of logs (yellow paper, section 4.3.1): of each address and topic three bits, by the low eleven
/// bits of the first three pairs of bytes of its keccak.
pub fn logs_bloom<'a>(logs: impl IntoIterator<Item = &'a Value>) -> [u8; 256] {
    let mut bloom = [0; 256];
    for log in logs {
        let topics = log["topics"].as_array().into_iter().flatten();
        for item in std::iter::once(&log["address"]).chain(topics) {
            let hash = keccak256(bytes(item));
            for pair in [0, 2, 4] {
                let bit = usize::from(u16::from_be_bytes([hash[pair], hash[pair + 1]]) & 0x7ff);
                bloom[255 - bit / 8] |= 1 << (bit % 8);
            }
        }
    }
    bloom
}

/// A quantity as nodes write it: hexadecimal without leading zeros.
pub fn hex_quantity(number: u64) -> String {
    format!("{number:#x}")
}

/// Reads a quantity.
///
/// # Panics
/// Where the value is none: a fake block is wrong.
pub fn quantity(value: &Value) -> u64 {
    let text = value.as_str().expect("a quantity is a string");
    u64::from_str_radix(text.strip_prefix("0x").expect("0x"), 16).expect("a quantity of 64 bits")
}

/// Reads data.
///
/// # Panics
/// Where the value is none: a fake block is wrong.
pub fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("data is a string")).expect("data is hexadecimal")
}

pub(super) fn hash(value: &Value) -> B256 {
    B256::from_slice(&bytes(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(byte: u8) -> FakeLog {
        FakeLog {
            address: Address::repeat_byte(byte),
            topics: vec![B256::repeat_byte(byte)],
            data: vec![byte].into(),
        }
    }

    #[test]
    fn a_built_block_agrees_with_itself() {
        let first = BlockBuilder::first(7).build();
        let block = BlockBuilder::child_of(&first)
            .transaction(FakeTransaction::emitting(vec![log(1), log(2)]))
            .transaction(FakeTransaction { nonce: 1, ..FakeTransaction::emitting(vec![log(3)]) })
            .build();
        assert_eq!((block.number(), block.parent_hash()), (8, first.hash()));
        let indices: Vec<u64> = block.logs().iter().map(|log| quantity(&log["logIndex"])).collect();
        assert_eq!(indices, [0, 1, 2]);
        for log in block.logs() {
            assert_eq!(hash(&log["blockHash"]), block.hash());
            let index = quantity(&log["transactionIndex"]) as usize;
            assert_eq!(log["transactionHash"], block.block["transactions"][index]["hash"]);
        }
        assert_eq!(bytes(&block.block["logsBloom"]), logs_bloom(block.logs()));
        assert_ne!(bytes(&block.block["logsBloom"]), [0; 256]);
    }

    #[test]
    fn competing_blocks_have_different_hashes_and_equal_ones_the_same() {
        let builder = BlockBuilder::first(1).transaction(FakeTransaction::emitting(vec![log(1)]));
        let block = builder.clone().build();
        assert_eq!(block, builder.clone().build());
        assert_ne!(block.hash(), builder.clone().salt(1).build().hash());
        assert_ne!(block.hash(), builder.transaction(FakeTransaction::default()).build().hash());
    }

    #[test]
    fn the_bloom_is_that_of_another_implementation() {
        let ours = json!({"address": Address::repeat_byte(9), "topics": [B256::repeat_byte(1), B256::repeat_byte(2)]});
        let topics = vec![B256::repeat_byte(1), B256::repeat_byte(2)];
        let theirs = [alloy_primitives::Log::new_unchecked(Address::repeat_byte(9), topics, Bytes::new())];
        assert_eq!(logs_bloom([&ours]), alloy_primitives::logs_bloom(&theirs).0.0);
    }

    #[test]
    fn a_recording_is_put_into_a_chain() {
        let parent = BlockBuilder::first(100).build();
        let mut recorded =
            BlockBuilder::first(5).transaction(FakeTransaction::emitting(vec![log(1), log(2)])).build();
        let own_hash = recorded.hash();
        recorded.block["logsBloom"] = "0x00".into();
        for log in recorded.receipts[0]["logs"].as_array_mut().expect("logs") {
            log.as_object_mut().expect("a log").remove("logIndex");
        }
        let value = json!({"block": recorded.block, "receipts": recorded.receipts});
        let block = FakeBlock::from_recorded(&value).expect("whole").chained_to(&parent).with_logs_bloom();
        assert_eq!((block.number(), block.parent_hash(), block.hash()), (101, parent.hash(), own_hash));
        assert_eq!(quantity(&block.logs()[1]["logIndex"]), 1);
        assert_eq!(quantity(&block.logs()[1]["blockNumber"]), 101);
        assert_eq!(bytes(&block.block["logsBloom"]), logs_bloom(block.logs()));
        assert!(FakeBlock::from_recorded(&json!({"block": {}})).is_err());
    }
}
