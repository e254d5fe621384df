//! Real blocks decoded, against what independent classifiers saw in them.
//!
//! The directory holds `blocks/<n>.json.gz` (`block` with its transactions, `receipts`) and `truth/<n>.json`
//! (`own.swaps`, `own.syncs`), as JSON-RPC writes them.

use std::fs::{self, File};
use std::path::Path;

use alloy_primitives::{Address, B256, Bytes, U256};
use anyhow::{Context, ensure};
use flate2::read::GzDecoder;
use headwater_decoder::Decoder;
use headwater_events::{
    Action, AsOf, BlockEvent, DecodedBlock, Grade, Header, Log, Topics, Transaction, V2Action,
};
use serde::Deserialize;

use crate::proof::Report;

/// The V2 swaps of the eight blocks. Fewer prove less than was claimed.
const FLOOR: u64 = 74;

/// Routers whose calls are decoded along: Uniswap's and SushiSwap's.
const ROUTERS: [Address; 2] = [
    alloy_primitives::address!("7a250d5630b4cf539739df2c5dacb4c659f2488d"),
    alloy_primitives::address!("d9e1ce17f2641f24ae83637ab66a2cca9c378b9f"),
];

/// Compares the V2 swaps and syncs of every block in `directory`, one by one, place and amounts included.
///
/// # Errors
///
/// A block whose decoding differs from the truth, or a file that cannot be read.
pub fn compare(directory: &Path) -> anyhow::Result<Report> {
    let mut numbers = block_numbers(&directory.join("blocks"))?;
    numbers.sort_unstable();
    let mut report = Report { floor: FLOOR, ..Report::default() };
    for number in numbers {
        let compared = compare_block(directory, number).with_context(|| format!("block {number}"))?;
        report.checked += compared.swaps;
        report.lines.push(compared.line(number));
    }
    Ok(report)
}

/// What a block holds, once it is sure that truth and decoder agree.
struct Compared {
    swaps: u64,
    syncs: u64,
    calls: u64,
    decoded: DecodedBlock,
}

impl Compared {
    fn line(&self, number: u64) -> String {
        let Self { swaps, syncs, calls, decoded } = self;
        format!(
            "block {number}: {swaps} swaps and {syncs} syncs as in the truth; {calls} router calls; {} unknown logs, {} \
             unknown calls, {} malformed",
            decoded.unknown_logs, decoded.unknown_calls, decoded.malformed
        )
    }
}

pub(super) fn block_numbers(blocks: &Path) -> anyhow::Result<Vec<u64>> {
    let entries = fs::read_dir(blocks).with_context(|| format!("{} cannot be read", blocks.display()))?;
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".json.gz")?.parse().ok());
        numbers.push(number.with_context(|| format!("{} is no block", name.display()))?);
    }
    Ok(numbers)
}

fn compare_block(directory: &Path, number: u64) -> anyhow::Result<Compared> {
    let block = File::open(directory.join(format!("blocks/{number}.json.gz")))?;
    let block: BlockFile = serde_json::from_reader(GzDecoder::new(block)).context("the block")?;
    let truth = File::open(directory.join(format!("truth/{number}.json")))?;
    let truth: TruthFile = serde_json::from_reader(truth).context("the truth")?;

    let block = block.event(number);
    let decoded = Decoder::new(ROUTERS).decode(&block, AsOf { seq: 1, number, hash: block.header.hash });
    let swaps: Vec<_> = decoded.actions.iter().filter_map(Swap::of).collect();
    let expected: Vec<_> = truth.own.swaps.iter().filter(|swap| swap.kind == "v2").map(Swap::from).collect();
    ensure!(swaps == expected, "the swaps differ: decoded {swaps:#?}, expected {expected:#?}");
    let syncs: Vec<_> = decoded.actions.iter().filter_map(Sync::of).collect();
    ensure!(
        syncs == truth.own.syncs,
        "the syncs differ: decoded {syncs:#?}, expected {:#?}",
        truth.own.syncs
    );

    let calls = decoded.actions.iter().filter(|action| matches!(action, Action::RouterSwap { .. })).count();
    Ok(Compared { swaps: swaps.len() as u64, syncs: syncs.len() as u64, calls: calls as u64, decoded })
}

/// A swap as both sides tell it.
#[derive(Debug, PartialEq, Eq)]
struct Swap {
    log_index: u32,
    pool: Address,
    sender: Address,
    to: Address,
    /// In of token 0 and 1, out of token 0 and 1.
    amounts: [U256; 4],
}

impl Swap {
    fn of(action: &Action) -> Option<Self> {
        let Action::V2 { log_index, emitter, action } = action else { return None };
        let V2Action::Swap { sender, to, amount0_in, amount1_in, amount0_out, amount1_out } = action else {
            return None;
        };
        let amounts = [*amount0_in, *amount1_in, *amount0_out, *amount1_out];
        Some(Self { log_index: *log_index, pool: *emitter, sender: *sender, to: *to, amounts })
    }
}

impl From<&TrueSwap> for Swap {
    fn from(swap: &TrueSwap) -> Self {
        // Of a V3 swap the amounts are signed, and not read here.
        let amount = |place: usize| swap.raw.get(place).and_then(|raw| raw.parse().ok()).unwrap_or_default();
        let amounts = [0, 1, 2, 3].map(amount);
        Self { log_index: swap.log_index, pool: swap.pool, sender: swap.sender, to: swap.to, amounts }
    }
}

/// A `Sync` as both sides tell it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Sync {
    log_index: u32,
    pool: Address,
    #[serde(deserialize_with = "decimal")]
    reserve0: u128,
    #[serde(deserialize_with = "decimal")]
    reserve1: u128,
}

impl Sync {
    fn of(action: &Action) -> Option<Self> {
        let Action::V2 { log_index, emitter, action: V2Action::Sync { reserve0, reserve1 } } = action else {
            return None;
        };
        Some(Self { log_index: *log_index, pool: *emitter, reserve0: *reserve0, reserve1: *reserve1 })
    }
}

fn decimal<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
struct TruthFile {
    own: Truth,
}

#[derive(Deserialize)]
struct Truth {
    swaps: Vec<TrueSwap>,
    syncs: Vec<Sync>,
}

#[derive(Deserialize)]
struct TrueSwap {
    log_index: u32,
    kind: String,
    pool: Address,
    sender: Address,
    to: Address,
    raw: Vec<String>,
}

#[derive(Deserialize)]
struct BlockFile {
    block: RpcBlock,
    receipts: Vec<RpcReceipt>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RpcBlock {
    hash: B256,
    parent_hash: B256,
    transactions: Vec<RpcTransaction>,
}

#[derive(Deserialize)]
struct RpcTransaction {
    hash: B256,
    from: Address,
    to: Option<Address>,
    value: U256,
    input: Bytes,
}

#[derive(Deserialize)]
struct RpcReceipt {
    logs: Vec<RpcLog>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RpcLog {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
    transaction_index: U256,
    log_index: U256,
}

impl BlockFile {
    /// What the decoder reads of the block; the rest stays empty.
    fn event(self, number: u64) -> BlockEvent {
        let header = Header {
            number,
            hash: self.block.hash,
            parent_hash: self.block.parent_hash,
            timestamp: 0,
            base_fee_per_gas: None,
            gas_used: 0,
            gas_limit: 0,
            beneficiary: Address::ZERO,
            logs_bloom: Default::default(),
        };
        let transactions = self.block.transactions.into_iter().map(RpcTransaction::typed).collect();
        let logs = self.receipts.into_iter().flat_map(|receipt| receipt.logs).map(RpcLog::typed).collect();
        BlockEvent { header, transactions, logs, grade: Grade::Matched }
    }
}

impl RpcTransaction {
    fn typed(self) -> Transaction {
        let Self { hash, from, to, value, input } = self;
        Transaction { hash, from, to, value, input, nonce: 0, gas_limit: 0 }
    }
}

impl RpcLog {
    fn typed(self) -> Log {
        Log {
            address: self.address,
            topics: self.topics.into_iter().collect::<Topics>(),
            data: self.data,
            transaction_index: self.transaction_index.saturating_to(),
            log_index: self.log_index.saturating_to(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use serde_json::{Value, json};

    use super::*;

    fn word(low: u64) -> B256 {
        U256::from(low).into()
    }

    fn log(index: u64, topics: &[B256], words: &[u64]) -> Value {
        let data: Vec<u8> = words.iter().flat_map(|low| word(*low)).collect();
        json!({
            "address": Address::repeat_byte(1),
            "topics": topics,
            "data": Bytes::from(data),
            "transactionIndex": "0x0",
            "logIndex": format!("{index:#x}"),
        })
    }

    /// A block with a `Sync`, a V2 `Swap` and a log that nobody knows.
    fn block() -> Value {
        let swap = alloy_primitives::keccak256("Swap(address,uint256,uint256,uint256,uint256,address)");
        let sync = alloy_primitives::keccak256("Sync(uint112,uint112)");
        let logs = [
            log(0, &[word(77)], &[]),
            log(1, &[sync], &[10, 20]),
            log(2, &[swap, word(3), word(4)], &[5, 0, 0, 6]),
        ];
        json!({
            "block": { "hash": word(9), "parentHash": word(8), "transactions": [] },
            "receipts": [{ "logs": logs }],
        })
    }

    fn truth(amount_out: &str, reserve1: &str) -> Value {
        let (pool, sender, to) =
            (Address::repeat_byte(1), Address::from_word(word(3)), Address::from_word(word(4)));
        let v3 = json!({ "log_index": 9, "kind": "v3", "pool": pool, "sender": sender, "to": to, "raw": ["1", "-2"] });
        json!({ "own": {
            "swaps": [
                { "log_index": 2, "kind": "v2", "pool": pool, "sender": sender, "to": to,
                  "raw": ["5", "0", "0", amount_out] },
                v3,
            ],
            "syncs": [{ "log_index": 1, "pool": pool, "reserve0": "10", "reserve1": reserve1 }],
        }})
    }

    fn compare_with(truth: &Value) -> anyhow::Result<Report> {
        let directory = tempfile::tempdir()?;
        for folder in ["blocks", "truth"] {
            fs::create_dir(directory.path().join(folder))?;
        }
        let mut file =
            GzEncoder::new(File::create(directory.path().join("blocks/5.json.gz"))?, Compression::fast());
        file.write_all(block().to_string().as_bytes())?;
        file.finish()?;
        fs::write(directory.path().join("truth/5.json"), truth.to_string())?;
        compare(directory.path())
    }

    #[test]
    fn a_block_that_agrees_is_counted_and_told() {
        let report = compare_with(&truth("6", "20")).expect("both say the same");
        assert_eq!(report.checked, 1);
        assert!(report.lines[0].contains("1 swaps and 1 syncs"), "{:?}", report.lines);
        assert!(report.verdict().is_err(), "one swap is below the floor");
    }

    #[test]
    fn one_wei_of_difference_is_found() {
        assert!(compare_with(&truth("7", "20")).is_err());
        assert!(compare_with(&truth("6", "21")).is_err());
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        assert!(compare(Path::new("nowhere")).is_err());
    }
}
