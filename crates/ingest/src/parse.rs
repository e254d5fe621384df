//! The hot path: JSON-RPC text straight into events.
//!
//! One pass, in any order of the fields; what is not needed is passed over. All calldata of a block lies in one buffer,
//! all log data in another; the events hold slices of them.

mod hex;
mod json;

use std::ops::Range;

use alloy_primitives::{Address, B256, Bloom, Bytes};
use headwater_events::{Header, Log, PendingTxEvent, Topics, Transaction};

use crate::canonical::Link;
use json::{Cursor, Fault, Layout, Parsed};

pub use json::ParseError;

/// What `eth_getBlockByHash(hash, true)` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedBlock {
    /// The header.
    pub header: Header,
    /// Root of the trie of the receipts; absent where the node does not tell it.
    pub receipts_root: Option<B256>,
    /// The transactions.
    pub transactions: Vec<Transaction>,
}

/// What `eth_getBlockReceipts` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedReceipts {
    /// In the order of the transactions.
    pub receipts: Vec<Receipt>,
    /// The logs of them all, in their order.
    pub logs: Vec<Log>,
}

/// What the receipts trie says of a transaction (yellow paper, section 4.3.1; EIP-658; EIP-2718).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Type of the transaction (EIP-2718); 0 for one of before.
    pub kind: u8,
    /// What became of it.
    pub outcome: Outcome,
    /// Gas used by it and those before it.
    pub cumulative_gas_used: u64,
    /// Bloom of its logs, as the node tells it.
    pub logs_bloom: Bloom,
    /// Which of the block's logs are its.
    pub logs: Range<usize>,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Whether it succeeded (EIP-658).
    Status(bool),
    /// The state behind it, before Byzantium.
    Root(B256),
}

/// Parses a block with its whole transactions.
///
/// # Errors
///
/// The first field that is missing, stands there twice or is not what it should be.
pub fn parse_block(text: &[u8]) -> Result<ParsedBlock, ParseError> {
    let mut cursor = Cursor::new(text);
    let parsed = block(&mut cursor).and_then(|block| cursor.end().map(|()| block));
    parsed.map_err(|fault| fault.into_error("block"))
}

/// Parses an announced header.
///
/// # Errors
///
/// As [`parse_block`].
pub(crate) fn parse_header(text: &[u8]) -> Result<Header, ParseError> {
    let mut cursor = Cursor::new(text);
    let parsed = header(&mut cursor).and_then(|header| cursor.end().map(|()| header));
    parsed.map(|parts| parts.header).map_err(|fault| fault.into_error("header"))
}

/// A log that the node pushed, or takes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PushedLog {
    Added { block: B256, log: Log },
    Removed { block: B256, log_index: u32 },
}

/// Parses a log of a subscription.
///
/// # Errors
///
/// As [`parse_block`].
pub(crate) fn parse_pushed_log(text: &[u8]) -> Result<PushedLog, ParseError> {
    pushed_log(text).map_err(|fault| fault.into_error("log"))
}

/// Parses the answer to `eth_getLogs({blockHash})`, all logs of the block `hash`.
///
/// # Errors
///
/// As [`parse_block`]; a log of another block, or one marked as removed, is an error as well.
pub fn parse_logs(text: &[u8], hash: B256) -> Result<Vec<Log>, ParseError> {
    parse_part(text, Part::Whole, hash)
}

/// Parses the answer to `eth_getBlockReceipts`, all receipts of the block `hash`.
///
/// # Errors
///
/// As [`parse_logs`].
pub fn parse_receipts(text: &[u8], hash: B256) -> Result<ParsedReceipts, ParseError> {
    let mut cursor = Cursor::new(text);
    let parsed = receipts(&mut cursor, hash).and_then(|receipts| cursor.end().map(|()| receipts));
    parsed.map_err(|fault| fault.into_error("receipts"))
}

/// Which part of a list a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    /// Without the bracket at its end.
    First,
    /// Without the bracket at its begin.
    Last,
}

/// As [`parse_logs`], of a part of the answer; places in errors count from where the part begins.
pub(crate) fn parse_part(text: &[u8], part: Part, hash: B256) -> Result<Vec<Log>, ParseError> {
    let mut cursor = Cursor::new(text);
    let parsed = logs(&mut cursor, part, hash).and_then(|logs| cursor.end().map(|()| logs));
    parsed.map_err(|fault| fault.into_error("logs"))
}

/// Parses the part of a header (or of a block) that says where in the chain it belongs.
///
/// # Errors
///
/// As [`parse_block`].
pub fn parse_link(text: &[u8]) -> Result<Link, ParseError> {
    let mut cursor = Cursor::new(text);
    let parsed = link(&mut cursor).and_then(|link| cursor.end().map(|()| link));
    parsed.map_err(|fault| fault.into_error("header"))
}

/// Fills a slot with the value of a field. A field that stands there twice is an error.
macro_rules! fill {
    ($cursor:ident, $slot:ident, $name:literal, $value:expr) => {{
        let value = $value.map_err(|fault: Fault| fault.in_field($name))?;
        match $slot.replace(value) {
            None => Ok(()),
            Some(_) => $cursor.fault("it stands there twice").map_err(|fault| fault.in_field($name)),
        }
    }};
}

/// Takes the value out of a slot. A field that is missing is an error.
macro_rules! need {
    ($cursor:ident, $slot:ident, $name:literal) => {
        match $slot {
            Some(value) => value,
            None => return $cursor.fault("it is missing").map_err(|fault| fault.in_field($name)),
        }
    };
}

/// Parses a transaction that the mempool shows; `None` for one that is mined already.
///
/// # Errors
///
/// As [`parse_block`]; a transaction of a type that cannot be executed from these fields alone (blobs, EIP-4844;
/// authorizations, EIP-7702) is an error as well.
pub fn parse_pending(text: &[u8]) -> Result<Option<PendingTxEvent>, ParseError> {
    let (mut cursor, mut fees) = (Cursor::new(text), Cursor::new(text));
    let parsed = pending(&mut cursor, &mut fees).and_then(|pending| cursor.end().map(|()| pending));
    parsed.map_err(|fault| fault.into_error("transaction"))
}

/// Read twice: what a block's transactions have as well, and what decides whether a block can hold it.
fn pending(cursor: &mut Cursor<'_>, fields: &mut Cursor<'_>) -> Parsed<Option<PendingTxEvent>> {
    let (mut pool, mut layout) = (DataPool::for_text(cursor.length()), Layout::default());
    let mut transaction = transaction(cursor, &mut layout, &mut pool)?;
    pool.deal(std::iter::once(&mut transaction.input));
    let (mut price, mut most, mut priority, mut kind, mut block) = (None, None, None, None, None);
    fields.object(|cursor, key| match key {
        b"gasPrice" => fill!(cursor, price, "gasPrice", optional(cursor, fee)),
        b"maxFeePerGas" => fill!(cursor, most, "maxFeePerGas", optional(cursor, fee)),
        b"maxPriorityFeePerGas" => fill!(cursor, priority, "maxPriorityFeePerGas", optional(cursor, fee)),
        b"type" => fill!(cursor, kind, "type", hex::quantity(cursor)),
        b"blockHash" => fill!(cursor, block, "blockHash", optional(cursor, hex::fixed::<32>)),
        _ => cursor.skip(),
    })?;
    let kind = kind.unwrap_or(0);
    if kind > 2 {
        return cursor
            .fault("transactions of this type are not followed")
            .map_err(|fault| fault.in_field("type"));
    }
    if block.flatten().is_some() {
        return Ok(None);
    }
    // Of EIP-1559 the fees are its own; a gas price beside them is what it would pay now.
    let (max_fee_per_gas, max_priority_fee_per_gas) = if kind == 2 {
        (most.flatten(), Some(need!(cursor, priority, "maxPriorityFeePerGas").unwrap_or(0)))
    } else {
        (price.flatten(), None)
    };
    let max_fee_per_gas = need!(cursor, max_fee_per_gas, "maxFeePerGas");
    Ok(Some(PendingTxEvent { transaction, max_fee_per_gas, max_priority_fee_per_gas }))
}

/// Wei per gas.
fn fee(cursor: &mut Cursor<'_>) -> Parsed<u128> {
    let wide = hex::wide_quantity(cursor)?;
    match u128::try_from(wide) {
        Ok(fee) => Ok(fee),
        Err(_) => cursor.fault("no fee is that high"),
    }
}

fn link(cursor: &mut Cursor<'_>) -> Parsed<Link> {
    let (mut number, mut hash, mut parent_hash) = (None, None, None);
    cursor.object(|cursor, key| match key {
        b"number" => fill!(cursor, number, "number", hex::quantity(cursor)),
        b"hash" => fill!(cursor, hash, "hash", hex::fixed(cursor)),
        b"parentHash" => fill!(cursor, parent_hash, "parentHash", hex::fixed(cursor)),
        _ => cursor.skip(),
    })?;
    Ok(Link {
        number: need!(cursor, number, "number"),
        hash: B256::new(need!(cursor, hash, "hash")),
        parent_hash: B256::new(need!(cursor, parent_hash, "parentHash")),
    })
}

fn block(cursor: &mut Cursor<'_>) -> Parsed<ParsedBlock> {
    let HeaderParts { header, receipts_root, transactions } = header(cursor)?;
    Ok(ParsedBlock { header, receipts_root, transactions: need!(cursor, transactions, "transactions") })
}

/// A header, and the transactions where they stand beside it.
struct HeaderParts {
    header: Header,
    receipts_root: Option<B256>,
    transactions: Option<Vec<Transaction>>,
}

fn header(cursor: &mut Cursor<'_>) -> Parsed<HeaderParts> {
    let (mut number, mut hash, mut parent_hash, mut timestamp) = (None, None, None, None);
    let (mut base_fee, mut gas_used, mut gas_limit) = (None, None, None);
    let (mut beneficiary, mut bloom, mut receipts_root, mut list) = (None, None, None, None);
    cursor.object(|cursor, key| match key {
        b"number" => fill!(cursor, number, "number", hex::quantity(cursor)),
        b"hash" => fill!(cursor, hash, "hash", hex::fixed(cursor)),
        b"parentHash" => fill!(cursor, parent_hash, "parentHash", hex::fixed(cursor)),
        b"timestamp" => fill!(cursor, timestamp, "timestamp", hex::quantity(cursor)),
        b"baseFeePerGas" => fill!(cursor, base_fee, "baseFeePerGas", optional(cursor, hex::quantity)),
        b"gasUsed" => fill!(cursor, gas_used, "gasUsed", hex::quantity(cursor)),
        b"gasLimit" => fill!(cursor, gas_limit, "gasLimit", hex::quantity(cursor)),
        b"miner" => fill!(cursor, beneficiary, "miner", hex::fixed(cursor)),
        b"logsBloom" => fill!(cursor, bloom, "logsBloom", hex::fixed(cursor)),
        b"receiptsRoot" => fill!(cursor, receipts_root, "receiptsRoot", optional(cursor, hex::fixed)),
        b"transactions" => fill!(cursor, list, "transactions", transactions(cursor)),
        _ => cursor.skip(),
    })?;
    let header = Header {
        number: need!(cursor, number, "number"),
        hash: B256::new(need!(cursor, hash, "hash")),
        parent_hash: B256::new(need!(cursor, parent_hash, "parentHash")),
        timestamp: need!(cursor, timestamp, "timestamp"),
        base_fee_per_gas: base_fee.flatten(),
        gas_used: need!(cursor, gas_used, "gasUsed"),
        gas_limit: need!(cursor, gas_limit, "gasLimit"),
        beneficiary: Address::new(need!(cursor, beneficiary, "miner")),
        logs_bloom: Bloom::new(need!(cursor, bloom, "logsBloom")),
    };
    Ok(HeaderParts { header, receipts_root: receipts_root.flatten().map(B256::new), transactions: list })
}

fn transactions(cursor: &mut Cursor<'_>) -> Parsed<Vec<Transaction>> {
    let mut list = Vec::with_capacity(cursor.length() / TEXT_PER_TRANSACTION);
    let (mut pool, mut layout) = (DataPool::for_text(cursor.length()), Layout::default());
    cursor.list(|cursor| {
        list.push(transaction(cursor, &mut layout, &mut pool)?);
        Ok(())
    })?;
    pool.deal(list.iter_mut().map(|transaction| &mut transaction.input));
    Ok(list)
}

#[derive(Clone, Copy)]
enum TransactionField {
    Hash,
    From,
    To,
    Value,
    Input,
    Nonce,
    Gas,
    Other,
}

impl TransactionField {
    fn named(key: &[u8]) -> Self {
        match key {
            b"hash" => Self::Hash,
            b"from" => Self::From,
            b"to" => Self::To,
            b"value" => Self::Value,
            b"input" => Self::Input,
            b"nonce" => Self::Nonce,
            b"gas" => Self::Gas,
            _ => Self::Other,
        }
    }
}

fn transaction<'a>(
    cursor: &mut Cursor<'a>,
    layout: &mut Layout<'a, TransactionField>,
    pool: &mut DataPool,
) -> Parsed<Transaction> {
    let (mut hash, mut from, mut to, mut value) = (None, None, None, None);
    let (mut input, mut nonce, mut gas_limit) = (None, None, None);
    cursor.alike(layout, TransactionField::named, |cursor, field| match field {
        TransactionField::Hash => fill!(cursor, hash, "hash", hex::fixed(cursor)),
        TransactionField::From => fill!(cursor, from, "from", hex::fixed(cursor)),
        TransactionField::To => fill!(cursor, to, "to", optional(cursor, hex::fixed)),
        TransactionField::Value => fill!(cursor, value, "value", hex::wide_quantity(cursor)),
        TransactionField::Input => fill!(cursor, input, "input", pool.data(cursor)),
        TransactionField::Nonce => fill!(cursor, nonce, "nonce", hex::quantity(cursor)),
        TransactionField::Gas => fill!(cursor, gas_limit, "gas", hex::quantity(cursor)),
        TransactionField::Other => cursor.skip(),
    })?;
    need!(cursor, input, "input");
    Ok(Transaction {
        hash: B256::new(need!(cursor, hash, "hash")),
        from: Address::new(need!(cursor, from, "from")),
        to: need!(cursor, to, "to").map(Address::new),
        value: need!(cursor, value, "value"),
        input: Bytes::new(),
        nonce: need!(cursor, nonce, "nonce"),
        gas_limit: need!(cursor, gas_limit, "gas"),
    })
}

/// Bytes of text, roughly: what a vector is sized by.
const TEXT_PER_LOG: usize = 600;
const TEXT_PER_TRANSACTION: usize = 1_200;

fn logs<'a>(cursor: &mut Cursor<'a>, part: Part, block_hash: B256) -> Parsed<Vec<Log>> {
    let mut list = Vec::with_capacity(cursor.length() / TEXT_PER_LOG);
    let (mut pool, mut layout) = (DataPool::for_text(cursor.length()), Layout::default());
    let item = |cursor: &mut Cursor<'a>| {
        list.push(log(cursor, &mut layout, block_hash, &mut pool)?);
        Ok(())
    };
    match part {
        Part::Whole => cursor.list(item),
        Part::First => cursor.expect(b'[').and_then(|()| cursor.items(item)),
        Part::Last => cursor.items(item).and_then(|()| cursor.expect(b']')),
    }?;
    pool.deal(list.iter_mut().map(|log| &mut log.data));
    Ok(list)
}

#[derive(Clone, Copy)]
enum LogField {
    Address,
    Topics,
    Data,
    TransactionIndex,
    LogIndex,
    BlockHash,
    Removed,
    Other,
}

impl LogField {
    fn named(key: &[u8]) -> Self {
        match key {
            b"address" => Self::Address,
            b"topics" => Self::Topics,
            b"data" => Self::Data,
            b"transactionIndex" => Self::TransactionIndex,
            b"logIndex" => Self::LogIndex,
            b"blockHash" => Self::BlockHash,
            b"removed" => Self::Removed,
            _ => Self::Other,
        }
    }
}

fn log<'a>(
    cursor: &mut Cursor<'a>,
    layout: &mut Layout<'a, LogField>,
    expected: B256,
    pool: &mut DataPool,
) -> Parsed<Log> {
    let (mut address, mut topics, mut data) = (None, None, None);
    let (mut transaction_index, mut log_index, mut block_hash) = (None, None, None);
    cursor.alike(layout, LogField::named, |cursor, field| match field {
        LogField::Address => fill!(cursor, address, "address", hex::fixed(cursor)),
        LogField::Topics => fill!(cursor, topics, "topics", topic_list(cursor)),
        LogField::Data => fill!(cursor, data, "data", pool.data(cursor)),
        LogField::TransactionIndex => {
            fill!(cursor, transaction_index, "transactionIndex", hex::index(cursor))
        }
        LogField::LogIndex => fill!(cursor, log_index, "logIndex", hex::index(cursor)),
        LogField::BlockHash => fill!(cursor, block_hash, "blockHash", hex::fixed(cursor)),
        LogField::Removed if cursor.peek() == Some(b't') => {
            cursor.fault("the log was removed").map_err(|fault| fault.in_field("removed"))
        }
        LogField::Removed | LogField::Other => cursor.skip(),
    })?;
    need!(cursor, data, "data");
    if B256::new(need!(cursor, block_hash, "blockHash")) != expected {
        return cursor.fault("another block's").map_err(|fault| fault.in_field("blockHash"));
    }
    Ok(Log {
        address: Address::new(need!(cursor, address, "address")),
        topics: need!(cursor, topics, "topics"),
        data: Bytes::new(),
        transaction_index: need!(cursor, transaction_index, "transactionIndex"),
        log_index: need!(cursor, log_index, "logIndex"),
    })
}

fn pushed_log(text: &[u8]) -> Parsed<PushedLog> {
    let (mut block_hash, mut log_index, mut is_removed) = (None, None, false);
    let mut cursor = Cursor::new(text);
    cursor.object(|cursor, key| match key {
        b"blockHash" => fill!(cursor, block_hash, "blockHash", hex::fixed(cursor)),
        b"logIndex" => fill!(cursor, log_index, "logIndex", hex::index(cursor)),
        b"removed" => {
            is_removed = cursor.peek() == Some(b't');
            cursor.skip()
        }
        _ => cursor.skip(),
    })?;
    cursor.end()?;
    let block = B256::new(need!(cursor, block_hash, "blockHash"));
    if is_removed {
        return Ok(PushedLog::Removed { block, log_index: need!(cursor, log_index, "logIndex") });
    }
    let (mut pool, mut layout) = (DataPool::for_text(text.len()), Layout::default());
    let mut log = log(&mut Cursor::new(text), &mut layout, block, &mut pool)?;
    pool.deal([&mut log.data].into_iter());
    Ok(PushedLog::Added { block, log })
}

fn receipts<'a>(cursor: &mut Cursor<'a>, block_hash: B256) -> Parsed<ParsedReceipts> {
    let mut list = Vec::with_capacity(cursor.length() / TEXT_PER_TRANSACTION);
    let mut logs = ReceiptLogs {
        block_hash,
        list: Vec::with_capacity(cursor.length() / TEXT_PER_LOG),
        layout: Layout::default(),
        pool: DataPool::for_text(cursor.length()),
    };
    let mut layout = Layout::default();
    cursor.list(|cursor| {
        list.push(receipt(cursor, &mut layout, &mut logs)?);
        Ok(())
    })?;
    let ReceiptLogs { list: mut logs, pool, .. } = logs;
    pool.deal(logs.iter_mut().map(|log| &mut log.data));
    Ok(ParsedReceipts { receipts: list, logs })
}

/// The logs of one receipt after the other.
struct ReceiptLogs<'a> {
    block_hash: B256,
    list: Vec<Log>,
    layout: Layout<'a, LogField>,
    pool: DataPool,
}

impl<'a> ReceiptLogs<'a> {
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Parsed<Range<usize>> {
        let start = self.list.len();
        cursor.list(|cursor| {
            self.list.push(log(cursor, &mut self.layout, self.block_hash, &mut self.pool)?);
            Ok(())
        })?;
        Ok(start..self.list.len())
    }
}

#[derive(Clone, Copy)]
enum ReceiptField {
    Type,
    Status,
    Root,
    CumulativeGasUsed,
    LogsBloom,
    Logs,
    BlockHash,
    Other,
}

impl ReceiptField {
    fn named(key: &[u8]) -> Self {
        match key {
            b"type" => Self::Type,
            b"status" => Self::Status,
            b"root" => Self::Root,
            b"cumulativeGasUsed" => Self::CumulativeGasUsed,
            b"logsBloom" => Self::LogsBloom,
            b"logs" => Self::Logs,
            b"blockHash" => Self::BlockHash,
            _ => Self::Other,
        }
    }
}

fn receipt<'a>(
    cursor: &mut Cursor<'a>,
    layout: &mut Layout<'a, ReceiptField>,
    of_block: &mut ReceiptLogs<'a>,
) -> Parsed<Receipt> {
    let (mut kind, mut status, mut root, mut gas) = (None, None, None, None);
    let (mut bloom, mut logs, mut block_hash) = (None, None, None);
    cursor.alike(layout, ReceiptField::named, |cursor, field| match field {
        ReceiptField::Type => fill!(cursor, kind, "type", hex::byte(cursor)),
        ReceiptField::Status => fill!(cursor, status, "status", optional(cursor, hex::bit)),
        ReceiptField::Root => fill!(cursor, root, "root", optional(cursor, hex::fixed)),
        ReceiptField::CumulativeGasUsed => fill!(cursor, gas, "cumulativeGasUsed", hex::quantity(cursor)),
        ReceiptField::LogsBloom => fill!(cursor, bloom, "logsBloom", hex::fixed(cursor)),
        ReceiptField::Logs => fill!(cursor, logs, "logs", of_block.read(cursor)),
        ReceiptField::BlockHash => fill!(cursor, block_hash, "blockHash", hex::fixed(cursor)),
        ReceiptField::Other => cursor.skip(),
    })?;
    if B256::new(need!(cursor, block_hash, "blockHash")) != of_block.block_hash {
        return cursor.fault("another block's").map_err(|fault| fault.in_field("blockHash"));
    }
    let outcome = match (status.flatten(), root.flatten()) {
        (Some(status), _) => Outcome::Status(status),
        (None, Some(root)) => Outcome::Root(B256::new(root)),
        (None, None) => return cursor.fault("it is missing").map_err(|fault| fault.in_field("status")),
    };
    Ok(Receipt {
        kind: kind.unwrap_or(0),
        outcome,
        cumulative_gas_used: need!(cursor, gas, "cumulativeGasUsed"),
        logs_bloom: Bloom::new(need!(cursor, bloom, "logsBloom")),
        logs: need!(cursor, logs, "logs"),
    })
}

fn topic_list(cursor: &mut Cursor<'_>) -> Parsed<Topics> {
    let mut topics = Topics::new();
    cursor.list(|cursor| {
        let topic = B256::new(hex::fixed(cursor)?);
        topics.try_push(topic).or_else(|_| cursor.fault("more than four topics"))
    })?;
    Ok(topics)
}

#[inline]
fn optional<'a, T>(
    cursor: &mut Cursor<'a>,
    value: impl FnOnce(&mut Cursor<'a>) -> Parsed<T>,
) -> Parsed<Option<T>> {
    if cursor.null() { Ok(None) } else { value(cursor).map(Some) }
}

/// Byte strings of many owners in one buffer, dealt out once it no longer grows.
struct DataPool {
    buffer: Vec<u8>,
    ends: Vec<usize>,
}

impl DataPool {
    /// With room for what a text of this length seldom exceeds.
    fn for_text(length: usize) -> Self {
        Self { buffer: Vec::with_capacity(length / 4), ends: Vec::with_capacity(length / TEXT_PER_LOG) }
    }

    #[inline]
    fn data(&mut self, cursor: &mut Cursor<'_>) -> Parsed<usize> {
        let length = hex::data(cursor, &mut self.buffer)?;
        self.ends.push(self.buffer.len());
        Ok(length)
    }

    /// Gives each owner, in the order of [`DataPool::data`], its slice.
    fn deal<'a>(mut self, owners: impl Iterator<Item = &'a mut Bytes>) {
        self.buffer.shrink_to_fit();
        let buffer = Bytes::from(self.buffer);
        let mut start = 0;
        for (owner, end) in owners.zip(self.ends) {
            let range: Range<usize> = start..end;
            if !range.is_empty() {
                *owner = buffer.slice(range);
            }
            start = end;
        }
    }
}

#[cfg(test)]
mod tests;
