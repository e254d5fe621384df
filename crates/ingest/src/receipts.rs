//! The root of the receipts trie (yellow paper, section 4.3.1; receipts by EIP-658 and EIP-2718).

use alloy_primitives::B256;
use alloy_rlp::{Encodable, Header, encode_list, list_length};
use alloy_trie::root::ordered_trie_root_with_encoder;
use headwater_events::Log;

use crate::parse::{Outcome, ParsedReceipts, Receipt};

/// The root of the trie of a block's receipts: what its header commits to.
pub fn receipts_root(receipts: &ParsedReceipts) -> B256 {
    let ParsedReceipts { receipts, logs } = receipts;
    ordered_trie_root_with_encoder(receipts, |receipt, out| encode(receipt, &logs[receipt.logs.clone()], out))
}

/// As it stands in the trie: the type, unless it is 0, and a list of four behind it.
fn encode(receipt: &Receipt, logs: &[Log], out: &mut Vec<u8>) {
    if receipt.kind > 0 {
        out.push(receipt.kind);
    }
    let logs_length: usize = logs.iter().map(|log| list(log_length(log)).length_with_payload()).sum();
    let Receipt { outcome, cumulative_gas_used, logs_bloom, .. } = receipt;
    let outcome: &dyn Encodable = match outcome {
        Outcome::Status(status) => status,
        Outcome::Root(root) => root,
    };
    let length = outcome.length() + cumulative_gas_used.length() + logs_bloom.length();
    list(length + list(logs_length).length_with_payload()).encode(out);
    outcome.encode(out);
    cumulative_gas_used.encode(out);
    logs_bloom.encode(out);
    list(logs_length).encode(out);
    logs.iter().for_each(|log| encode_log(log, out));
}

fn encode_log(log: &Log, out: &mut Vec<u8>) {
    list(log_length(log)).encode(out);
    log.address.encode(out);
    encode_list::<B256, B256>(&log.topics, out);
    log.data.encode(out);
}

/// Bytes of a log without the head of its list.
fn log_length(log: &Log) -> usize {
    log.address.length() + list_length::<B256, B256>(&log.topics) + log.data.length()
}

fn list(payload_length: usize) -> Header {
    Header { list: true, payload_length }
}

#[cfg(test)]
mod tests;
