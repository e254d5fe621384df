//! The state of the pools as a plain fold over source events, told as JSON (what `headwater journal dump` prints; integers
//! beyond 64 bits may be decimal strings): no undo records, no candidates, no pages. After a reorganisation the surviving blocks are simply all there is.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::arbitrage::Pool;

/// Folds one source event after the other.
#[derive(Debug, Clone, Default)]
pub struct Rebuild {
    /// Factories whose `PairCreated` counts, with their pools' fee.
    factories: BTreeMap<Address, u32>,
    /// Pools that were proven by an answer of the node: they stay, whatever the chain does.
    loaded: BTreeMap<Address, Identity>,
    /// Tokens that were judged, and whether they may be quoted.
    judged: BTreeMap<Address, bool>,
    /// Reserves at the initial load, before the first block.
    initial: BTreeMap<Address, (u128, u128)>,
    /// The canonical blocks, oldest first.
    chain: Vec<Block>,
    next_seq: u64,
}

#[derive(Debug, Clone, Copy)]
struct Identity {
    token0: Address,
    token1: Address,
    fee_ppm: u32,
}

#[derive(Debug, Clone)]
struct Block {
    at: At,
    syncs: Vec<(Address, (u128, u128))>,
    created: Vec<(Address, Identity)>,
}

/// The figures of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Sequence number of its event.
    pub seq: u64,
    /// Height.
    pub number: u64,
    /// Hash.
    pub hash: B256,
    /// Parent's hash.
    pub parent_hash: B256,
    /// Wei per gas; absent before London.
    pub base_fee_per_gas: Option<u64>,
    /// Gas used.
    pub gas_used: u64,
    /// Gas limit.
    pub gas_limit: u64,
}

impl At {
    /// Wei per gas in the next block, by EIP-1559.
    pub fn next_base_fee(&self) -> Option<u64> {
        let (base, target) = (i128::from(self.base_fee_per_gas?), i128::from(self.gas_limit / 2));
        let distance = i128::from(self.gas_used) - target;
        let change = base * distance.abs() / target / 8;
        let next = match distance.signum() {
            1 => base + change.max(1),
            0 => base,
            _ => base - change,
        };
        u64::try_from(next).ok()
    }
}

impl Rebuild {
    /// Nothing yet. `factories`: whose `PairCreated` counts, with the fee of their pools in parts per million.
    pub fn new(factories: impl IntoIterator<Item = (Address, u32)>) -> Self {
        Self { factories: factories.into_iter().collect(), ..Self::default() }
    }

    /// Takes the next event; says which block it was, if it was one.
    ///
    /// # Errors
    /// A hole in the sequence, a block that does not stand on the one before, a reorganisation to an unknown ancestor,
    /// or JSON of another shape.
    pub fn take(&mut self, envelope: &Value) -> Result<Option<At>> {
        let seq = envelope["seq"].as_u64().context("seq")?;
        ensure!(
            self.next_seq == 0 || seq == self.next_seq,
            "event {seq} comes where {} was due",
            self.next_seq
        );
        self.next_seq = seq + 1;
        let event = envelope["event"].as_object().context("event")?;
        let (kind, payload) = event.iter().next().context("an event has a kind")?;
        match kind.as_str() {
            "NewBlock" => return self.block(seq, payload).map(Some),
            "Reorg" => self.reorg(payload)?,
            "PoolLoaded" => self.pool_loaded(payload)?,
            "TokenJudged" => {
                let verdict = &payload["verdict"];
                let is_accepted = verdict.get("accepted").is_some();
                ensure!(is_accepted || verdict.get("refused").is_some(), "a verdict of another shape");
                self.judged.insert(field(payload, "token")?, is_accepted);
            }
            _ => {}
        }
        Ok(None)
    }

    fn block(&mut self, seq: u64, payload: &Value) -> Result<At> {
        let header = &payload["header"];
        let number = |name: &str| header[name].as_u64().with_context(|| format!("header.{name}"));
        let at = At {
            seq,
            number: number("number")?,
            hash: field(header, "hash")?,
            parent_hash: field(header, "parent_hash")?,
            base_fee_per_gas: header["base_fee_per_gas"].as_u64(),
            gas_used: number("gas_used")?,
            gas_limit: number("gas_limit")?,
        };
        if let Some(last) = self.chain.last() {
            let stands_on_it = at.parent_hash == last.at.hash && at.number == last.at.number + 1;
            ensure!(stands_on_it, "block {} does not stand on {}", at.number, last.at.number);
        }
        let mut block = Block { at, syncs: Vec::new(), created: Vec::new() };
        for log in payload["logs"].as_array().context("logs")? {
            self.log(log, &mut block)?;
        }
        self.chain.push(block);
        Ok(at)
    }

    fn log(&self, log: &Value, block: &mut Block) -> Result<()> {
        let address: Address = field(log, "address")?;
        let topics: Vec<B256> = field(log, "topics")?;
        let data: Bytes = field(log, "data")?;
        let word = |index: usize| U256::from_be_slice(&data[32 * index..32 * (index + 1)]);
        let limit = U256::from(1u8) << 112;
        if topics == [keccak256("Sync(uint112,uint112)")] && data.len() == 64 {
            if word(0) < limit && word(1) < limit {
                block.syncs.push((address, (word(0).to(), word(1).to())));
            }
        } else if let [topic, token0, token1] = topics[..]
            && topic == keccak256("PairCreated(address,address,address,uint256)")
            && data.len() == 64
            && let Some(fee_ppm) = self.factories.get(&address)
        {
            let identity = Identity {
                token0: Address::from_word(token0),
                token1: Address::from_word(token1),
                fee_ppm: *fee_ppm,
            };
            block.created.push((Address::from_word(word(0).into()), identity));
        }
        Ok(())
    }

    fn reorg(&mut self, payload: &Value) -> Result<()> {
        let ancestor: B256 = field(payload, "ancestor_hash")?;
        let mut undone: Vec<B256> = Vec::new();
        while self.chain.last().is_some_and(|block| block.at.hash != ancestor) {
            undone.extend(self.chain.pop().map(|block| block.at.hash));
        }
        let told: Vec<B256> = field(payload, "undone")?;
        if told != undone {
            bail!("the reorganisation to {ancestor} undoes {undone:?}, and says {told:?}");
        }
        Ok(())
    }

    fn pool_loaded(&mut self, payload: &Value) -> Result<()> {
        let pool: Address = field(payload, "pool")?;
        let identity = Identity {
            token0: field(payload, "token0")?,
            token1: field(payload, "token1")?,
            fee_ppm: field(payload, "fee_ppm")?,
        };
        self.loaded.insert(pool, identity);
        match &payload["reserves"] {
            Value::Null => {}
            reserves => {
                self.initial.insert(pool, (integer(&reserves[0])?, integer(&reserves[1])?));
            }
        }
        Ok(())
    }

    /// The canonical blocks, oldest first.
    pub fn chain(&self) -> impl Iterator<Item = At> {
        self.chain.iter().map(|block| block.at)
    }

    /// Every proven pool with its reserves at the head, by ascending address. Those without reserves are left out, those of a refused
    /// token, and those that a block created as long as a token of theirs has not been judged.
    pub fn pools(&self) -> Vec<Pool> {
        let mut known = self.loaded.clone();
        let mut reserves = self.initial.clone();
        for block in &self.chain {
            known.extend(block.created.iter().copied());
            reserves.extend(block.syncs.iter().copied());
        }
        let is_accepted = |pool: &Address, token: &Address| {
            self.judged.get(token).copied().unwrap_or(self.loaded.contains_key(pool))
        };
        known
            .into_iter()
            .filter(|(pool, Identity { token0, token1, .. })| {
                is_accepted(pool, token0) && is_accepted(pool, token1)
            })
            .filter_map(|(address, Identity { token0, token1, fee_ppm })| {
                let (reserve0, reserve1) = *reserves.get(&address)?;
                Some(Pool { address, token0, token1, reserve0, reserve1, fee_ppm })
            })
            .filter(|pool| pool.reserve0 > 0 && pool.reserve1 > 0)
            .collect()
    }
}

fn field<T: serde::de::DeserializeOwned>(object: &Value, name: &str) -> Result<T> {
    serde_json::from_value(object[name].clone()).with_context(|| name.to_owned())
}

/// A number, or a decimal string where it may not fit into one.
fn integer(value: &Value) -> Result<u128> {
    match value {
        Value::String(digits) => Ok(digits.parse()?),
        number => number.as_u64().map(u128::from).with_context(|| format!("{number} is no whole number")),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use serde_json::json;

    use super::*;

    fn block(seq: u64, number: u64, hash: u8, parent: u8, syncs: &[(u8, u64, u64)]) -> Value {
        let logs: Vec<_> = syncs
            .iter()
            .map(|(pool, reserve0, reserve1)| {
                let data =
                    [U256::from(*reserve0), U256::from(*reserve1)].map(|word| word.to_be_bytes::<32>());
                json!({
                    "address": Address::repeat_byte(*pool),
                    "topics": [keccak256("Sync(uint112,uint112)")],
                    "data": Bytes::from(data.concat()),
                })
            })
            .collect();
        let header = json!({
            "number": number, "hash": B256::repeat_byte(hash), "parent_hash": B256::repeat_byte(parent),
            "base_fee_per_gas": 7, "gas_used": 15_000_001, "gas_limit": 30_000_000,
        });
        json!({ "seq": seq, "event": { "NewBlock": { "header": header, "logs": logs } } })
    }

    fn loaded(seq: u64, pool: u8, reserves: Option<(u64, u64)>) -> Value {
        let [token0, token1] = [1, 2].map(Address::repeat_byte);
        let pool = Address::repeat_byte(pool);
        let payload = json!({ "pool": pool, "token0": token0, "token1": token1, "fee_ppm": 3000, "reserves": reserves });
        json!({ "seq": seq, "event": { "PoolLoaded": payload } })
    }

    fn reserves(rebuild: &Rebuild) -> Vec<(u128, u128)> {
        rebuild.pools().iter().map(|pool| (pool.reserve0, pool.reserve1)).collect()
    }

    #[test]
    fn a_reorganisation_leaves_what_the_surviving_blocks_say() {
        let mut rebuild = Rebuild::new([]);
        rebuild.take(&loaded(1, 9, Some((10, 20)))).unwrap();
        rebuild.take(&block(2, 1, 1, 0, &[(9, 11, 19), (8, 5, 5)])).unwrap();
        rebuild.take(&block(3, 2, 2, 1, &[(9, 12, 18)])).unwrap();
        assert_eq!(reserves(&rebuild), [(12, 18)]);
        let undone = [B256::repeat_byte(2)];
        let reorg = json!({ "seq": 4, "event": { "Reorg": { "ancestor_hash": B256::repeat_byte(1), "undone": undone } } });
        rebuild.take(&reorg).unwrap();
        assert_eq!(reserves(&rebuild), [(11, 19)]);
        rebuild.take(&loaded(5, 8, None)).unwrap();
        rebuild.take(&block(6, 2, 3, 1, &[])).unwrap();
        assert_eq!(reserves(&rebuild), [(5, 5), (11, 19)]);
    }

    #[test]
    fn a_pool_that_a_block_created_waits_for_the_verdicts_about_its_tokens() {
        let [factory, pool, token0, token1] = [7, 9, 1, 2].map(Address::repeat_byte);
        let mut rebuild = Rebuild::new([(factory, 3_000)]);
        let mut first = block(1, 1, 1, 0, &[(9, 5, 6)]);
        let created = json!({
            "address": factory,
            "topics": [keccak256("PairCreated(address,address,address,uint256)"), token0.into_word(), token1.into_word()],
            "data": Bytes::from([pool.into_word(), B256::ZERO].concat()),
        });
        first["event"]["NewBlock"]["logs"].as_array_mut().unwrap().insert(0, created);
        rebuild.take(&first).unwrap();
        let mut judge = |seq: u64, token: Address, verdict: Value| {
            let payload = json!({ "token": token, "verdict": verdict });
            rebuild.take(&json!({ "seq": seq, "event": { "TokenJudged": payload } })).unwrap();
            reserves(&rebuild)
        };
        let accepted = || json!({ "accepted": { "decimals": 18, "symbol": "A" } });
        assert_eq!(judge(2, token0, accepted()), []);
        assert_eq!(judge(3, token1, accepted()), [(5, 6)]);
        assert_eq!(judge(4, token1, json!({ "refused": "it lies" })), []);
    }

    #[test]
    fn reserves_beyond_a_number_are_strings() {
        let mut event = loaded(1, 9, None);
        event["event"]["PoolLoaded"]["reserves"] = json!(["340282366920938463463374607431768211455", 7]);
        let mut rebuild = Rebuild::new([]);
        rebuild.take(&event).unwrap();
        assert_eq!(reserves(&rebuild), [(u128::MAX, 7)]);
        event["event"]["PoolLoaded"]["reserves"] = json!([0.5, 7]);
        assert!(Rebuild::new([]).take(&event).is_err());
    }

    #[test]
    fn a_hole_is_an_error() {
        let mut rebuild = Rebuild::new([]);
        rebuild.take(&block(1, 1, 1, 0, &[])).unwrap();
        assert!(rebuild.clone().take(&block(3, 2, 2, 1, &[])).is_err());
        assert!(rebuild.clone().take(&block(2, 2, 2, 7, &[])).is_err());
        assert!(rebuild.take(&block(2, 2, 2, 1, &[])).is_ok());
    }

    #[test]
    fn the_next_base_fee_follows_the_eip() {
        let mut rebuild = Rebuild::new([]);
        let at = rebuild.take(&block(1, 1, 1, 0, &[])).unwrap().unwrap();
        assert_eq!(at.next_base_fee(), Some(8));
    }
}
