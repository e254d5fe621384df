//! The blocks that a fake node knows, and which of them are the chain.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256, keccak256};
use bytes::Bytes;
use serde_json::Value;

use super::block::{FakeBlock, bytes, hash, quantity, sync_topic};
use super::encode::encode;

/// A tree of blocks with one canonical branch.
#[derive(Debug, Default)]
pub struct Chain {
    blocks: HashMap<B256, Arc<Stored>>,
    canonical: BTreeMap<u64, B256>,
    /// Reserves after the blocks that were forgotten.
    forgotten: HashMap<Address, (U256, U256)>,
}

/// A block with its answers, written once.
#[derive(Debug)]
pub struct Stored {
    /// The block.
    pub block: FakeBlock,
    /// Its hash.
    pub hash: B256,
    /// Its number.
    pub number: u64,
    /// What `newHeads` pushes: the block without its transactions, uncles and size.
    pub header_json: Bytes,
    /// `eth_getBlockBy…(…, true)`.
    pub full_json: Bytes,
    /// `eth_getBlockBy…(…, false)`.
    pub hashes_json: Bytes,
    /// `eth_getBlockReceipts`.
    pub receipts_json: Bytes,
    /// `eth_getLogs` without address and topics.
    pub logs_json: Bytes,
    /// Each log, with what a filter looks at.
    pub logs: Vec<StoredLog>,
    /// Reserves after the block's last `Sync` of each address.
    pub synced: HashMap<Address, (U256, U256)>,
    /// The pairs that it says to have created, each with who says so.
    pub created: HashSet<(Address, Address)>,
}

/// A log with its text.
#[derive(Debug)]
pub struct StoredLog {
    /// The emitting contract.
    pub address: Address,
    /// Its topics.
    pub topics: Vec<B256>,
    /// As `eth_getLogs` shows it.
    pub json: Bytes,
    /// As a `logs` subscription shows it when its block is orphaned.
    pub removed_json: Bytes,
}

/// Which logs: the `address` and `topics` of `eth_getLogs` and of a `logs` subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFilter {
    addresses: Vec<Address>,
    topics: Vec<Vec<B256>>,
}

impl Chain {
    /// Adds a block and makes it the head: what was canonical at its height and above no longer is. The branch below is
    /// followed as far as its blocks are known. Gives the orphaned blocks, the highest first.
    pub fn add(&mut self, block: FakeBlock) -> Vec<Arc<Stored>> {
        let stored = Arc::new(Stored::new(block));
        let (number, hash) = (stored.number, stored.hash);
        self.blocks.insert(hash, stored);
        let mut orphaned = self.cut_from(number);
        let mut at = hash;
        while let Some(block) = self.blocks.get(&at) {
            let previous = self.canonical.insert(block.number, at);
            if previous == Some(at) {
                break;
            }
            orphaned.extend(previous.and_then(|hash| self.blocks.get(&hash).cloned()));
            at = block.block.parent_hash();
        }
        orphaned
    }

    /// Takes a whole branch, oldest first, and makes its last block the head. Gives the orphaned blocks, the highest
    /// first.
    pub fn add_branch(&mut self, blocks: impl IntoIterator<Item = FakeBlock>) -> Vec<Arc<Stored>> {
        let mut blocks: Vec<FakeBlock> = blocks.into_iter().collect();
        let Some(tip) = blocks.pop() else { return Vec::new() };
        blocks.into_iter().for_each(|block| self.add_orphan(block));
        self.add(tip)
    }

    /// Takes a block without making it canonical.
    pub fn add_orphan(&mut self, block: FakeBlock) {
        self.blocks.insert(block.hash(), Arc::new(Stored::new(block)));
    }

    /// Whether a block is part of the chain.
    pub fn is_canonical(&self, block: &Stored) -> bool {
        self.canonical.get(&block.number) == Some(&block.hash)
    }

    /// The newest block.
    pub fn head(&self) -> Option<&Arc<Stored>> {
        self.canonical.last_key_value().and_then(|(_, hash)| self.blocks.get(hash))
    }

    /// Any block, canonical or not.
    pub fn by_hash(&self, hash: B256) -> Option<&Arc<Stored>> {
        self.blocks.get(&hash)
    }

    /// A canonical block.
    pub fn by_number(&self, number: u64) -> Option<&Arc<Stored>> {
        self.blocks.get(self.canonical.get(&number)?)
    }

    /// The canonical block that a number or a tag means.
    pub fn by_tag(&self, tag: &str) -> Option<&Arc<Stored>> {
        match tag {
            "latest" | "pending" => self.head(),
            "earliest" | "safe" | "finalized" => {
                self.canonical.first_key_value().and_then(|(_, hash)| self.blocks.get(hash))
            }
            number => self.by_number(u64::from_str_radix(number.strip_prefix("0x")?, 16).ok()?),
        }
    }

    /// The block that a block parameter means: a tag, a number, a hash, or `{"blockHash"}` / `{"blockNumber"}` (EIP-1898).
    pub fn by_parameter(&self, parameter: &Value) -> Option<&Arc<Stored>> {
        match parameter {
            Value::Null => self.head(),
            Value::String(text) if text.len() == 66 => self.by_hash(text.parse().ok()?),
            Value::String(text) => self.by_tag(text),
            Value::Object(fields) => match fields.get("blockHash") {
                Some(hash) => self.by_hash(hash.as_str()?.parse().ok()?),
                None => self.by_tag(fields.get("blockNumber")?.as_str()?),
            },
            _ => None,
        }
    }

    /// The canonical hashes, from the lowest block to the head.
    pub fn canonical_hashes(&self) -> Vec<B256> {
        self.canonical.values().copied().collect()
    }

    /// The reserves after the last `Sync` of `pair` in `block` or its ancestors.
    pub fn reserves_at(&self, pair: Address, block: B256) -> Option<(U256, U256)> {
        let mut at = block;
        while let Some(block) = self.blocks.get(&at) {
            if let Some(reserves) = block.synced.get(&pair) {
                return Some(*reserves);
            }
            at = block.block.parent_hash();
        }
        self.forgotten.get(&pair).copied()
    }

    /// Forgets the blocks that stand more than `kept` below the head, and keeps the reserves after them.
    pub fn forget_old(&mut self, kept: u64) {
        let Some(lowest) = self.head().map(|head| head.number.saturating_sub(kept)) else { return };
        let above = self.canonical.split_off(&lowest);
        for hash in std::mem::replace(&mut self.canonical, above).values() {
            self.forgotten.extend(self.blocks[hash].synced.iter().map(|(pair, held)| (*pair, *held)));
        }
        self.blocks.retain(|_, block| block.number >= lowest);
    }

    /// Whether `factory` has said in `block` or its ancestors that it created `pair`.
    pub fn has_created(&self, factory: Address, pair: Address, block: B256) -> bool {
        let parent = |block: &&Arc<Stored>| self.blocks.get(&block.block.parent_hash());
        let mut branch = std::iter::successors(self.blocks.get(&block), parent);
        branch.any(|block| block.created.contains(&(factory, pair)))
    }

    fn cut_from(&mut self, number: u64) -> Vec<Arc<Stored>> {
        let cut = self.canonical.split_off(&number);
        cut.values().rev().filter_map(|hash| self.blocks.get(hash).cloned()).collect()
    }
}

impl Stored {
    fn new(block: FakeBlock) -> Self {
        let logs: Vec<StoredLog> = block.logs().into_iter().map(StoredLog::new).collect();
        let texts: Vec<&Bytes> = logs.iter().map(|log| &log.json).collect();
        Self {
            hash: block.hash(),
            number: block.number(),
            header_json: encode(&header_of(&block.block)).into(),
            full_json: encode(&block.block).into(),
            hashes_json: encode(&with_hashes_only(&block.block)).into(),
            receipts_json: encode(&Value::from(block.receipts.clone())).into(),
            logs_json: list_of(&texts),
            synced: syncs_of(&block),
            created: created_by(&block),
            logs,
            block,
        }
    }

    /// `eth_getLogs` of this block.
    pub fn logs_json(&self, filter: &LogFilter) -> Bytes {
        if *filter == LogFilter::default() {
            return self.logs_json.clone();
        }
        let texts: Vec<&Bytes> =
            self.logs.iter().filter(|log| filter.takes(log)).map(|log| &log.json).collect();
        list_of(&texts)
    }
}

impl StoredLog {
    pub(super) fn new(log: &Value) -> Self {
        let mut removed = log.clone();
        removed["removed"] = true.into();
        Self {
            address: Address::from_slice(&bytes(&log["address"])),
            topics: log["topics"].as_array().into_iter().flatten().map(hash).collect(),
            json: encode(log).into(),
            removed_json: encode(&removed).into(),
        }
    }
}

impl LogFilter {
    /// Reads the `address` and `topics` of a filter object. `None` where they are no filter.
    pub fn parse(filter: &Value) -> Option<Self> {
        let addresses = match &filter["address"] {
            Value::Null => Vec::new(),
            Value::Array(items) => items.iter().map(address).collect::<Option<_>>()?,
            one => vec![address(one)?],
        };
        let topics = match &filter["topics"] {
            Value::Null => Vec::new(),
            Value::Array(places) => places.iter().map(alternatives).collect::<Option<_>>()?,
            _ => return None,
        };
        Some(Self { addresses, topics })
    }

    /// A log has to be of one of the addresses, and to have at each place one of the topics; an empty list takes all.
    pub fn takes(&self, log: &StoredLog) -> bool {
        let address = self.addresses.is_empty() || self.addresses.contains(&log.address);
        address
            && log.topics.len() >= self.topics.len()
            && self.topics.iter().zip(&log.topics).all(|(any, topic)| any.is_empty() || any.contains(topic))
    }
}

fn address(value: &Value) -> Option<Address> {
    value.as_str()?.parse().ok()
}

fn alternatives(place: &Value) -> Option<Vec<B256>> {
    match place {
        Value::Null => Some(Vec::new()),
        Value::Array(items) => items.iter().map(|item| item.as_str()?.parse().ok()).collect(),
        one => Some(vec![one.as_str()?.parse().ok()?]),
    }
}

fn header_of(block: &Value) -> Value {
    let mut header = block.clone();
    if let Some(members) = header.as_object_mut() {
        for name in ["transactions", "uncles", "size", "totalDifficulty", "withdrawals"] {
            members.remove(name);
        }
    }
    header
}

fn with_hashes_only(block: &Value) -> Value {
    let mut short = block.clone();
    for transaction in short["transactions"].as_array_mut().into_iter().flatten() {
        if let Some(hash) = transaction.get("hash") {
            *transaction = hash.clone();
        }
    }
    short
}

/// The texts as a JSON list.
pub(super) fn list_of(texts: &[&Bytes]) -> Bytes {
    let mut list = Vec::with_capacity(texts.iter().map(|text| text.len() + 1).sum::<usize>() + 2);
    list.push(b'[');
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            list.push(b',');
        }
        list.extend_from_slice(text);
    }
    list.push(b']');
    list.into()
}

fn created_by(block: &FakeBlock) -> HashSet<(Address, Address)> {
    let topic = keccak256("PairCreated(address,address,address,uint256)");
    let is_it = |log: &&Value| log["topics"].get(0).is_some_and(|first| hash(first) == topic);
    let created = block.logs().into_iter().filter(is_it);
    created
        .map(|log| (Address::from_slice(&bytes(&log["address"])), bytes(&log["data"])))
        .filter(|(_, data)| data.len() >= 32)
        .map(|(factory, data)| (factory, Address::from_slice(&data[12..32])))
        .collect()
}

fn syncs_of(block: &FakeBlock) -> HashMap<Address, (U256, U256)> {
    let mut synced = HashMap::new();
    for log in block.logs() {
        let is_sync = log["topics"]
            .as_array()
            .is_some_and(|topics| topics.len() == 1 && hash(&topics[0]) == sync_topic());
        let data = bytes(&log["data"]);
        if is_sync && data.len() == 64 {
            let reserves = (U256::from_be_slice(&data[..32]), U256::from_be_slice(&data[32..]));
            synced.insert(Address::from_slice(&bytes(&log["address"])), reserves);
        }
    }
    synced
}

/// Reads an optional block number or tag of a range; `None` where it is neither.
pub(super) fn range_end(chain: &Chain, value: &Value, default: u64) -> Option<u64> {
    match value {
        Value::Null => Some(default),
        Value::String(text) if text.starts_with("0x") => Some(quantity(value)),
        Value::String(tag) => Some(chain.by_tag(tag)?.number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::block::{BlockBuilder, FakeLog, FakeTransaction};
    use super::*;

    #[test]
    fn a_longer_or_shorter_branch_orphans_what_stood_there() {
        let a1 = BlockBuilder::first(1).build();
        let a2 = BlockBuilder::child_of(&a1).build();
        let a3 = BlockBuilder::child_of(&a2).build();
        let b2 = BlockBuilder::child_of(&a1).salt(1).build();
        let mut chain = Chain::default();
        for block in [&a1, &a2, &a3] {
            assert!(chain.add(block.clone()).is_empty());
        }
        let orphaned: Vec<B256> = chain.add(b2.clone()).iter().map(|block| block.hash).collect();
        assert_eq!(orphaned, [a3.hash(), a2.hash()]);
        assert_eq!(chain.canonical_hashes(), [a1.hash(), b2.hash()]);
        assert!(chain.by_hash(a3.hash()).is_some(), "an orphan is still known by its hash");
        let back = chain.add(a3.clone());
        assert_eq!(back.iter().map(|block| block.hash).collect::<Vec<_>>(), [b2.hash()]);
        assert_eq!(chain.canonical_hashes(), [a1.hash(), a2.hash(), a3.hash()]);
    }

    #[test]
    fn reserves_are_those_of_the_last_sync_on_the_branch() {
        let pair = Address::repeat_byte(1);
        let sync = |reserve| {
            FakeTransaction::emitting(vec![FakeLog::sync(pair, 1, 1), FakeLog::sync(pair, reserve, 9)])
        };
        let a1 = BlockBuilder::first(1).transaction(sync(10)).build();
        let a2 = BlockBuilder::child_of(&a1).transaction(sync(20)).build();
        let b2 = BlockBuilder::child_of(&a1).salt(1).build();
        let mut chain = Chain::default();
        for block in [&a1, &a2, &b2] {
            chain.add(block.clone());
        }
        let first = |block: &FakeBlock| chain.reserves_at(pair, block.hash()).map(|reserves| reserves.0);
        assert_eq!(first(&a2), Some(U256::from(20)));
        assert_eq!(first(&b2), Some(U256::from(10)), "the orphan's sync does not count");
        assert_eq!(chain.reserves_at(Address::ZERO, a2.hash()), None);
    }

    #[test]
    fn reserves_of_forgotten_blocks_are_remembered() {
        let pair = Address::repeat_byte(1);
        let sync = |reserve| FakeTransaction::emitting(vec![FakeLog::sync(pair, reserve, 9)]);
        let mut blocks = vec![BlockBuilder::first(1).transaction(sync(10)).build()];
        for number in 2..6 {
            let block = BlockBuilder::child_of(&blocks[number - 2]);
            blocks.push(if number == 2 { block.transaction(sync(20)) } else { block }.build());
        }
        let mut chain = Chain::default();
        blocks.iter().for_each(|block| drop(chain.add(block.clone())));
        chain.forget_old(1);
        assert_eq!(chain.canonical_hashes(), [blocks[3].hash(), blocks[4].hash()]);
        assert!(chain.by_hash(blocks[2].hash()).is_none());
        let held = chain.reserves_at(pair, blocks[4].hash()).map(|reserves| reserves.0);
        assert_eq!(held, Some(U256::from(20)));
    }

    #[test]
    fn filters_take_logs_by_address_and_topics() {
        let log = |address: u8, topics: &[u8]| FakeLog {
            address: Address::repeat_byte(address),
            topics: topics.iter().map(|byte| B256::repeat_byte(*byte)).collect(),
            data: Default::default(),
        };
        let block = BlockBuilder::first(1)
            .transaction(FakeTransaction::emitting(vec![
                log(1, &[1, 2]),
                log(2, &[1]),
                log(2, &[3, 2]),
                log(3, &[]),
            ]))
            .build();
        let stored = Stored::new(block);
        let (one, two, three) = (B256::repeat_byte(1), B256::repeat_byte(2), B256::repeat_byte(3));
        for (filter, expected) in [
            (json!({}), vec![0, 1, 2, 3]),
            (json!({"address": Address::repeat_byte(2)}), vec![1, 2]),
            (json!({"address": [Address::repeat_byte(1), Address::repeat_byte(3)]}), vec![0, 3]),
            (json!({"topics": [one]}), vec![0, 1]),
            (json!({"topics": [null, two]}), vec![0, 2]),
            (json!({"topics": [[one, three], two]}), vec![0, 2]),
            (json!({"topics": [null]}), vec![0, 1, 2]),
            (json!({"topics": [], "address": []}), vec![0, 1, 2, 3]),
        ] {
            let parsed = LogFilter::parse(&filter).expect("a filter");
            let answer: Vec<Value> = serde_json::from_slice(&stored.logs_json(&parsed)).expect("a list");
            let indices: Vec<u64> = answer.iter().map(|log| quantity(&log["logIndex"])).collect();
            assert_eq!(indices, expected, "{filter}");
        }
        assert_eq!(LogFilter::parse(&json!({"topics": "x"})), None);
    }
}
