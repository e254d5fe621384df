//! Real blocks decoded, against what independent classifiers saw in them.
//!
//! The directory holds `blocks/<n>.json.gz` (`block` with its transactions, `receipts`) and `truth/<n>.json`
//! (`own.swaps`, `own.syncs`, `own.liquidations`, `own.answers`), as JSON-RPC writes them. Where logs were rebuilt, the price, tick and liquidity of V3
//! swaps are estimates, so that only their amounts are compared.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;

use alloy_primitives::{Address, B256, Bytes, U256};
use anyhow::{Context, ensure};
use flate2::read::GzDecoder;
use headwater_decoder::Decoder;
use headwater_events::{
    AaveAction, Action, AsOf, BlockEvent, ChainlinkAction, CompoundAction, DecodedBlock, Exact, Grade,
    Header, Log, Route, SwapCall, Topics, Transaction, V2Action, V3Action,
};
use serde::Deserialize;

use crate::proof::Report;

/// The swaps of the eight blocks: 74 of V2 and 17 of V3. Fewer prove less than was claimed.
const FLOOR: u64 = 91;

/// The calls of routers in them that led to swaps, and the reports to aggregators.
const CALLS_FLOOR: u64 = 37;

/// Routers whose calls are decoded along: Uniswap's and SushiSwap's.
const ROUTERS: [Address; 2] = [
    alloy_primitives::address!("7a250d5630b4cf539739df2c5dacb4c659f2488d"),
    alloy_primitives::address!("d9e1ce17f2641f24ae83637ab66a2cca9c378b9f"),
];

/// Compares the swaps, syncs, liquidations and answers of every block in `directory`, one by one, place and amounts included.
/// What is counted are the swaps.
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

/// Compares what was signed with what it led to: the calls of routers with the swaps of their transactions, the reports to
/// aggregators with their answers.
///
/// # Errors
///
/// A call that says otherwise than its logs, or a file that cannot be read.
pub fn compare_calls(directory: &Path) -> anyhow::Result<Report> {
    let mut report = Report { floor: CALLS_FLOOR, ..Report::default() };
    let (mut swaps, mut reports, mut without) = (0, 0, 0);
    for number in block_numbers(&directory.join("blocks"))? {
        let (_, decoded, truth) = read(directory, number).with_context(|| format!("block {number}"))?;
        for action in &decoded.actions {
            let Action::Call { transaction_index, call, .. } = action else { continue };
            let context = || format!("block {number}, transaction {transaction_index}: {call:?}");
            let led_to = truth.swaps.iter().filter(|swap| swap.tx_index == *transaction_index);
            let led_to: Vec<_> = led_to.collect();
            for swap in call.swaps() {
                // A call that failed has no logs.
                match led_to.is_empty() {
                    true => without += 1,
                    false => {
                        ensure!(led_to.iter().any(|done| done.is_of(swap)), "no such swap: {}", context())
                    }
                }
                swaps += u64::from(!led_to.is_empty());
            }
            if let headwater_events::Call::Transmit(report) = call {
                let mut answers = truth.answers.iter();
                let answer =
                    answers.find(|answer| answer.tx_index == *transaction_index).with_context(context)?;
                ensure!(
                    answer.answer == report.answer.to_string(),
                    "another answer than {}: {}",
                    answer.answer,
                    context()
                );
                reports += 1;
            }
        }
    }
    report.checked = swaps + reports;
    report.verdict()?;
    report.lines = vec![format!(
        "real blocks: {swaps} swaps in calls of routers and {reports} reports led to what they say; {without} swaps failed"
    )];
    Ok(report)
}

/// What a block holds, once it is sure that truth and decoder agree.
pub(super) struct Compared {
    swaps: u64,
    pub(super) syncs: u64,
    liquidations: usize,
    pub(super) answers: usize,
    pub(super) decoded: DecodedBlock,
    pub(super) block: BlockEvent,
}

impl Compared {
    fn line(&self, number: u64) -> String {
        let Self { swaps, syncs, liquidations, answers, decoded, .. } = self;
        format!(
            "block {number}: {swaps} swaps, {syncs} syncs, {liquidations} liquidations and {answers} answers as in the truth; \
             {} unknown logs, {} unknown calls, {} malformed",
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

fn read(directory: &Path, number: u64) -> anyhow::Result<(BlockEvent, DecodedBlock, Truth)> {
    let block = File::open(directory.join(format!("blocks/{number}.json.gz")))?;
    let block: BlockFile = serde_json::from_reader(GzDecoder::new(block)).context("the block")?;
    let truth = File::open(directory.join(format!("truth/{number}.json")))?;
    let truth: TruthFile = serde_json::from_reader(truth).context("the truth")?;
    let block = block.event(number);
    let decoded = Decoder::new(ROUTERS).decode(&block, AsOf { seq: 1, number, hash: block.header.hash });
    Ok((block, decoded, truth.own))
}

pub(super) fn compare_block(directory: &Path, number: u64) -> anyhow::Result<Compared> {
    let (block, decoded, truth) = read(directory, number)?;
    let swaps = same("swaps", &decoded, Swap::of, truth.swaps.iter().map(Swap::from).collect())?;
    let syncs = same("syncs", &decoded, Sync::of, truth.syncs)?;
    let liquidations = same("liquidations", &decoded, Liquidation::of, truth.liquidations)?;
    let answers = same("answers", &decoded, Answer::of, truth.answers.iter().map(Answer::from).collect())?;
    // Malformed is what nobody else would have understood either.
    ensure!(decoded.malformed == 0, "{} malformed", decoded.malformed);
    Ok(Compared { swaps: swaps as u64, syncs: syncs as u64, liquidations, answers, decoded, block })
}

/// Compares what was decoded with what is true; says how much it is.
fn same<T: PartialEq + fmt::Debug>(
    what: &str,
    decoded: &DecodedBlock,
    of: fn(&Action) -> Option<T>,
    expected: Vec<T>,
) -> anyhow::Result<usize> {
    let found: Vec<_> = decoded.actions.iter().filter_map(of).collect();
    ensure!(found == expected, "the {what} differ: decoded {found:#?}, expected {expected:#?}");
    Ok(found.len())
}

/// A swap as both sides tell it.
#[derive(Debug, PartialEq, Eq)]
struct Swap {
    log_index: u32,
    pool: Address,
    sender: Address,
    to: Address,
    /// V2: in of token 0 and 1, out of token 0 and 1. V3: of token 0 and 1, negative what the pool gave.
    amounts: Vec<String>,
}

impl Swap {
    fn of(action: &Action) -> Option<Self> {
        let (log_index, pool, sender, to, amounts) = match action {
            Action::V2 {
                log_index,
                emitter,
                action: V2Action::Swap { sender, to, amount0_in, amount1_in, amount0_out, amount1_out },
            } => {
                let amounts = [amount0_in, amount1_in, amount0_out, amount1_out];
                (log_index, emitter, sender, to, amounts.map(ToString::to_string).to_vec())
            }
            Action::V3 {
                log_index,
                emitter,
                action: V3Action::Swap { sender, recipient, amount0, amount1, .. },
            } => (log_index, emitter, sender, recipient, vec![amount0.to_string(), amount1.to_string()]),
            _ => return None,
        };
        Some(Self { log_index: *log_index, pool: *pool, sender: *sender, to: *to, amounts })
    }
}

impl From<&TrueSwap> for Swap {
    fn from(swap: &TrueSwap) -> Self {
        let TrueSwap { log_index, pool, sender, to, .. } = *swap;
        Self { log_index, pool, sender, to, amounts: swap.raw.clone() }
    }
}

/// A liquidation as both sides tell it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Liquidation {
    log_index: u32,
    pool: Address,
    liquidator: Address,
    user: Address,
    debt: Address,
    debt_amount: String,
    collateral: Address,
    collateral_amount: String,
    /// Only Aave has it.
    receive_atoken: Option<bool>,
}

impl Liquidation {
    fn of(action: &Action) -> Option<Self> {
        match action {
            Action::Aave {
                log_index,
                emitter,
                action:
                    AaveAction::LiquidationCall {
                        collateral_asset,
                        debt_asset,
                        user,
                        debt_to_cover,
                        liquidated_collateral_amount,
                        liquidator,
                        receive_atoken,
                    },
            } => Some(Self {
                log_index: *log_index,
                pool: *emitter,
                liquidator: *liquidator,
                user: *user,
                debt: *debt_asset,
                debt_amount: debt_to_cover.to_string(),
                collateral: *collateral_asset,
                collateral_amount: liquidated_collateral_amount.to_string(),
                receive_atoken: Some(*receive_atoken),
            }),
            Action::Compound {
                log_index,
                emitter,
                action:
                    CompoundAction::LiquidateBorrow {
                        liquidator,
                        borrower,
                        repay_amount,
                        collateral,
                        seize_tokens,
                    },
            } => Some(Self {
                log_index: *log_index,
                pool: *emitter,
                liquidator: *liquidator,
                user: *borrower,
                debt: *emitter,
                debt_amount: repay_amount.to_string(),
                collateral: *collateral,
                collateral_amount: seize_tokens.to_string(),
                receive_atoken: None,
            }),
            _ => None,
        }
    }
}

/// An oracle's answer as both sides tell it.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    log_index: u32,
    aggregator: Address,
    answer: String,
    round_id: String,
    updated_at: U256,
}

impl Answer {
    fn of(action: &Action) -> Option<Self> {
        let Action::Chainlink { log_index, emitter, action } = action else { return None };
        let ChainlinkAction::AnswerUpdated { current, round_id, updated_at } = action else { return None };
        Some(Self {
            log_index: *log_index,
            aggregator: *emitter,
            answer: current.to_string(),
            round_id: round_id.to_string(),
            updated_at: *updated_at,
        })
    }
}

impl From<&TrueAnswer> for Answer {
    fn from(answer: &TrueAnswer) -> Self {
        Self {
            log_index: answer.log_index,
            aggregator: answer.aggregator,
            answer: answer.answer.clone(),
            round_id: answer.round_id.clone(),
            updated_at: U256::from(answer.updated_at),
        }
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
    #[serde(default)]
    liquidations: Vec<Liquidation>,
    #[serde(default)]
    answers: Vec<TrueAnswer>,
}

#[derive(Deserialize)]
struct TrueSwap {
    #[serde(default)]
    tx_index: u32,
    log_index: u32,
    pool: Address,
    sender: Address,
    to: Address,
    raw: Vec<String>,
    #[serde(default)]
    amount_in: String,
    #[serde(default)]
    amount_out: String,
    token_in: Option<Address>,
    token_out: Option<Address>,
}

impl TrueSwap {
    /// Whether it is the first swap, or of an exact output the last one, of what a call asks for.
    fn is_of(&self, call: &SwapCall) -> bool {
        let tokens = match &call.route {
            Route::V2 { tokens, .. } | Route::V3 { tokens, .. } => tokens,
            Route::V4 { currencies, .. } => currencies,
        };
        let (token, exact, (is_token, amount)) = match call.exact {
            Exact::Input => (tokens.first(), call.amount_in, (self.token_in, &self.amount_in)),
            Exact::Output => (tokens.last(), call.amount_out, (self.token_out, &self.amount_out)),
        };
        // What a token keeps for itself does not reach the pool.
        let is_fee_kept = matches!(call.route, Route::V2 { fee_on_transfer: true, .. });
        let Ok(amount) = amount.parse::<U256>() else { return false };
        is_token.as_ref() == token && (amount == exact || is_fee_kept && amount < exact)
    }
}

#[derive(Deserialize)]
struct TrueAnswer {
    tx_index: u32,
    log_index: u32,
    aggregator: Address,
    answer: String,
    round_id: String,
    updated_at: u64,
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

    /// A block with a `Sync`, a swap of V2 and one of V3, a liquidation, an answer and a log that nobody knows.
    fn block() -> Value {
        let of = |signature: &str| alloy_primitives::keccak256(signature);
        let logs = [
            log(0, &[word(77)], &[]),
            log(1, &[of("Sync(uint112,uint112)")], &[10, 20]),
            log(
                2,
                &[of("Swap(address,uint256,uint256,uint256,uint256,address)"), word(3), word(4)],
                &[5, 0, 0, 6],
            ),
            log(
                3,
                &[of("Swap(address,address,int256,int256,uint160,uint128,int24)"), word(3), word(4)],
                &[7, 8, 1, 1, 1],
            ),
            log(4, &[of("LiquidateBorrow(address,address,uint256,address,uint256)")], &[3, 4, 50, 6, 60]),
            log(5, &[of("AnswerUpdated(int256,uint256,uint256)"), word(700), word(8)], &[9]),
        ];
        json!({
            "block": { "hash": word(9), "parentHash": word(8), "transactions": [] },
            "receipts": [{ "logs": logs }],
        })
    }

    fn truth(amount_out: &str, reserve1: &str) -> Value {
        let pool = Address::repeat_byte(1);
        let [sender, to, collateral] = [3, 4, 6].map(|low| Address::from_word(word(low)));
        json!({ "own": {
            "swaps": [
                { "log_index": 2, "kind": "v2", "pool": pool, "sender": sender, "to": to,
                  "raw": ["5", "0", "0", amount_out] },
                { "log_index": 3, "kind": "v3", "pool": pool, "sender": sender, "to": to, "raw": ["7", "8"] },
            ],
            "syncs": [{ "log_index": 1, "pool": pool, "reserve0": "10", "reserve1": reserve1 }],
            "liquidations": [
                { "log_index": 4, "pool": pool, "liquidator": sender, "user": to, "debt": pool,
                  "debt_amount": "50", "collateral": collateral, "collateral_amount": "60" },
            ],
            "answers": [
                { "tx_index": 0, "log_index": 5, "aggregator": pool, "answer": "700", "round_id": "8",
                  "updated_at": 9 },
            ],
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
        assert_eq!(report.checked, 2);
        let line = &report.lines[0];
        assert!(line.contains("2 swaps, 1 syncs, 1 liquidations and 1 answers"), "{line}");
        assert!(report.verdict().is_err(), "two swaps are below the floor");
    }

    #[test]
    fn one_wei_of_difference_is_found() {
        assert!(compare_with(&truth("7", "20")).is_err());
        assert!(compare_with(&truth("6", "21")).is_err());
        for (list, index, field, value) in [
            ("swaps", 1, "raw", json!(["7", "9"])),
            ("swaps", 1, "log_index", json!(4)),
            ("liquidations", 0, "debt_amount", json!("51")),
            ("liquidations", 0, "collateral_amount", json!("61")),
            ("answers", 0, "answer", json!("-700")),
        ] {
            let mut other = truth("6", "20");
            other["own"][list][index][field] = value;
            assert!(compare_with(&other).is_err(), "{list} {field}");
        }
    }

    #[test]
    fn a_swap_that_is_missing_or_invented_is_found() {
        for list in ["swaps", "syncs", "liquidations", "answers"] {
            let mut fewer = truth("6", "20");
            fewer["own"][list] = json!([]);
            assert!(compare_with(&fewer).is_err(), "{list}");
        }
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        assert!(compare(Path::new("nowhere")).is_err());
    }
}
