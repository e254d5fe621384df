//! The root of a block's receipts trie, straight from the yellow paper (appendices B and D): RLP over a tree of strings
//! and lists, and a trie that is built by dividing the pairs by their next nibble.

use alloy_primitives::{B256, keccak256};
use serde_json::Value;

use crate::fake_node::{bytes, quantity};

/// What RLP knows.
#[derive(Clone, Debug)]
enum Item {
    String(Vec<u8>),
    List(Vec<Item>),
}

/// Pairs of nibbles that are still to be gone and the value at their end.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The root of the trie of receipts as `eth_getBlockReceipts` shows them.
///
/// # Panics
/// Where they are no receipts.
pub fn receipts_root(receipts: &[Value]) -> B256 {
    let key = |index: usize| nibbles(&rlp(&integer(index as u64)));
    let pairs: Pairs =
        receipts.iter().enumerate().map(|(index, receipt)| (key(index), in_trie(receipt))).collect();
    if pairs.is_empty() { keccak256(rlp(&Item::String(Vec::new()))) } else { keccak256(rlp(&node(pairs))) }
}

/// A receipt as it stands in the trie.
fn in_trie(receipt: &Value) -> Vec<u8> {
    let outcome = match receipt["status"].is_string() {
        true => integer(quantity(&receipt["status"])),
        false => string(&receipt["root"]),
    };
    let logs = receipt["logs"].as_array().expect("a list of logs").iter().map(log).collect();
    let gas = integer(quantity(&receipt["cumulativeGasUsed"]));
    let list = rlp(&Item::List(vec![outcome, gas, string(&receipt["logsBloom"]), Item::List(logs)]));
    match quantity(&receipt["type"]) {
        0 => list,
        kind => [vec![u8::try_from(kind).expect("a type is a byte")], list].concat(),
    }
}

fn log(log: &Value) -> Item {
    let topics = log["topics"].as_array().expect("a list of topics").iter().map(string).collect();
    Item::List(vec![string(&log["address"]), Item::List(topics), string(&log["data"])])
}

fn string(value: &Value) -> Item {
    Item::String(bytes(value))
}

/// Big-endian without leading zeros.
fn integer(number: u64) -> Item {
    Item::String(number.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect())
}

fn rlp(item: &Item) -> Vec<u8> {
    match item {
        Item::String(text) if text.len() == 1 && text[0] < 0x80 => text.clone(),
        Item::String(text) => [head(0x80, text.len()), text.clone()].concat(),
        Item::List(items) => {
            let items = items.iter().map(rlp).collect::<Vec<_>>().concat();
            [head(0xc0, items.len()), items].concat()
        }
    }
}

fn head(offset: u8, length: usize) -> Vec<u8> {
    if length < 56 {
        return vec![offset + length as u8];
    }
    let digits: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    [vec![offset + 55 + digits.len() as u8], digits].concat()
}

fn nibbles(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).collect()
}

/// The node under which these pairs, at least one, lie.
fn node(pairs: Pairs) -> Item {
    if let [(path, value)] = &pairs[..] {
        return Item::List(vec![Item::String(compact(path, true)), Item::String(value.clone())]);
    }
    let shared = shared_nibbles(&pairs);
    if shared > 0 {
        let path = pairs[0].0[..shared].to_vec();
        let rest = pairs.into_iter().map(|(path, value)| (path[shared..].to_vec(), value)).collect();
        return Item::List(vec![Item::String(compact(&path, false)), reference(node(rest))]);
    }
    let branch = |nibble: u8| {
        let below: Pairs = pairs
            .iter()
            .filter(|(path, _)| path.first() == Some(&nibble))
            .map(|(path, value)| (path[1..].to_vec(), value.clone()))
            .collect();
        if below.is_empty() { Item::String(Vec::new()) } else { reference(node(below)) }
    };
    let here = pairs.iter().find(|(path, _)| path.is_empty());
    let value = here.map(|(_, value)| value.clone()).unwrap_or_default();
    Item::List((0..16).map(branch).chain([Item::String(value)]).collect())
}

fn shared_nibbles(pairs: &Pairs) -> usize {
    let (first, _) = &pairs[0];
    let shared = |path: &[u8]| path.iter().zip(first).take_while(|(one, other)| one == other).count();
    pairs.iter().map(|(path, _)| shared(path)).min().unwrap_or(0)
}

/// A node below another: itself if it is shorter than a hash, else its hash.
fn reference(node: Item) -> Item {
    let text = rlp(&node);
    if text.len() < 32 { node } else { Item::String(keccak256(text).to_vec()) }
}

/// Nibbles as bytes, with a flag for a leaf and one for an odd number (appendix C).
fn compact(path: &[u8], is_leaf: bool) -> Vec<u8> {
    let flag = 2 * u8::from(is_leaf) + (path.len() % 2) as u8;
    let start = if path.len() % 2 == 1 { vec![flag] } else { vec![flag, 0] };
    [&start[..], path].concat().chunks(2).map(|two| two[0] << 4 | two[1]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The root of an empty trie is known from every empty block.
    #[test]
    fn a_block_without_transactions_has_the_root_of_the_empty_trie() {
        let expected = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421";
        assert_eq!(receipts_root(&[]).to_string(), expected);
    }

    /// The examples of the yellow paper's companion page on RLP (ethereum.org, "Recursive-length prefix serialization").
    #[test]
    fn the_published_examples_of_rlp_hold() {
        let text = |text: &str| Item::String(text.as_bytes().to_vec());
        let long = "Lorem ipsum dolor sit amet, consectetur adipisicing elit";
        for (item, expected) in [
            (text("dog"), b"\x83dog".to_vec()),
            (Item::List(vec![text("cat"), text("dog")]), b"\xc8\x83cat\x83dog".to_vec()),
            (text(""), vec![0x80]),
            (Item::List(Vec::new()), vec![0xc0]),
            (integer(0), vec![0x80]),
            (integer(15), vec![0x0f]),
            (integer(1024), vec![0x82, 0x04, 0x00]),
            (text(long), [&[0xb8, 0x38], long.as_bytes()].concat()),
        ] {
            assert_eq!(rlp(&item), expected, "{item:?}");
        }
    }
}
