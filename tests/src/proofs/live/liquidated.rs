//! Liquidations that were found, carried out: the pool's own `liquidationCall` on the state of their block and at its time.
//!
//! The node traces the call as one right behind the block's last transaction, with the block's own number and timestamp, and keeps
//! nothing of it. The banker sends it, who has every token and has allowed every pool to take them.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, I256, U256};
use alloy_sol_types::{SolCall, SolEvent, sol};
use anyhow::{Context, ensure};
use headwater_reference::aave::contracts::Pool;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::devnet::{BANKER, Devnet, Lending};
use crate::follower::{FoundLine, Results};

sol! {
    event Transfer(address indexed from, address indexed to, uint256 value);
}

/// How many are carried out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// In each pool at most; if there are more, the seed says which.
    pub(super) most: usize,
    /// In all pools together.
    pub(super) floor: u64,
    /// In each pool.
    pub(super) floor_of_each: u64,
}

/// What a finding says, as far as the pool decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Predicted {
    pool: Address,
    block: B256,
    borrower: Address,
    collateral: Address,
    debt: Address,
    taken: Taken,
}

/// Smallest units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken {
    repaid: U256,
    seized: U256,
}

/// Carries out a sample of the findings of canonical blocks: each takes and gives what it says, and no more could be repaid.
pub(super) fn execute(devnet: &Devnet, results: &Results, size: Size, seed: u64) -> anyhow::Result<String> {
    let mut by_pool = BTreeMap::<Address, Vec<Predicted>>::new();
    for found in results.blocks.iter().flat_map(|block| results.found_in(block.hash)) {
        if found.kind == "liquidation" {
            let predicted = Predicted::of(found).with_context(|| format!("not a liquidation: {found:?}"))?;
            by_pool.entry(predicted.pool).or_default().push(predicted);
        }
    }
    let (mut all, mut parts, mut told) = (0, 0, Vec::new());
    for Lending { name, pool, .. } in &devnet.addresses().lending {
        let sample = sample(by_pool.remove(pool).unwrap_or_default(), size.most, seed);
        for predicted in &sample {
            let is_part = judge(devnet, predicted).with_context(|| format!("{predicted:?} in {name}"))?;
            parts += u64::from(is_part);
        }
        let carried_out = sample.len() as u64;
        ensure!(carried_out >= size.floor_of_each, "only {carried_out} found liquidations in {name}");
        all += carried_out;
        told.push(format!("{carried_out} in {name}"));
    }
    ensure!(by_pool.is_empty(), "liquidations in pools that there are not: {:?}", by_pool.keys());
    ensure!(all >= size.floor, "only {all} found liquidations are carried out, below {}", size.floor);
    Ok(format!(
        "{all} liquidations, picked by the seed, carried out by liquidationCall behind their block and at its time: {}; repaid and \
         seized are the predicted amounts to the wei, and the most that goes through ({parts} name a part, as the whole is refused)",
        told.join(", ")
    ))
}

fn sample(mut all: Vec<Predicted>, most: usize, seed: u64) -> Vec<Predicted> {
    all.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    all.truncate(most);
    all
}

impl Predicted {
    fn of(found: &FoundLine) -> Option<Self> {
        Some(Self {
            pool: *found.path.first()?,
            block: found.block_hash,
            borrower: found.borrower?,
            collateral: found.collateral?,
            debt: found.debt?,
            taken: Taken { repaid: found.repay?, seized: found.seize? },
        })
    }

    fn call(&self, debt_to_cover: U256) -> Value {
        let call = Pool::liquidationCallCall {
            collateralAsset: self.collateral,
            debtAsset: self.debt,
            user: self.borrower,
            debtToCover: debt_to_cover,
            receiveAToken: false,
        };
        let message = json!({ "from": BANKER, "to": self.pool, "data": Bytes::from(call.abi_encode()) });
        let tracer = json!({ "tracer": "callTracer", "tracerConfig": { "withLog": true } });
        json!([message, { "blockHash": self.block }, tracer])
    }
}

/// Says whether it is a part of what is owed, because the pool refuses the whole that it allows.
fn judge(devnet: &Devnet, predicted: &Predicted) -> anyhow::Result<bool> {
    let carry_out = |debt_to_cover: U256| -> anyhow::Result<Option<Taken>> {
        let frame: Frame = devnet.rpc().call("debug_traceCall", predicted.call(debt_to_cover))?;
        frame.taken(predicted)
    };
    if let Some(whole) = carry_out(U256::MAX)? {
        ensure!(whole == predicted.taken, "the contracts did {whole:?}");
        return Ok(false);
    }
    let repay = predicted.taken.repaid;
    let part = carry_out(repay)?.context("the contracts refuse it")?;
    ensure!(part == predicted.taken, "the contracts did {part:?}");
    let more = carry_out(repay + U256::ONE)?;
    ensure!(more.is_none(), "more could be repaid: {more:?}");
    Ok(true)
}

/// A call as the node traces it, with those that it made.
#[derive(Debug, Default, Deserialize)]
struct Frame {
    /// Where it failed.
    error: Option<String>,
    #[serde(default)]
    calls: Vec<Frame>,
    #[serde(default)]
    logs: Vec<Emitted>,
}

#[derive(Debug, Deserialize)]
struct Emitted {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
}

impl Frame {
    /// `None` where the pool refuses. The pool's event and what the banker paid and got have to agree.
    fn taken(&self, predicted: &Predicted) -> anyhow::Result<Option<Taken>> {
        let Predicted { pool, borrower, collateral, debt, .. } = *predicted;
        if let Some(error) = &self.error {
            ensure!(error.contains("revert"), "it did not run: {error}");
            return Ok(None);
        }
        let done: Vec<Pool::LiquidationCall> = self.events(pool);
        let [done] = &done[..] else { anyhow::bail!("not one LiquidationCall: {}", done.len()) };
        let about = (done.collateralAsset, done.debtAsset, done.user, done.liquidator);
        ensure!(about == (collateral, debt, borrower, BANKER), "another liquidation: {about:?}");
        let taken = Taken { repaid: done.debtToCover, seized: done.liquidatedCollateralAmount };
        let [repaid, seized] = [taken.repaid, taken.seized].map(I256::try_from);
        let mut gains = BTreeMap::from([(debt, I256::ZERO), (collateral, I256::ZERO)]);
        *gains.entry(debt).or_default() -= repaid?;
        *gains.entry(collateral).or_default() += seized?;
        for (token, told) in gains {
            let gain = self.gain(token)?;
            ensure!(gain == told, "the banker's {token} changes by {gain}, and the event says {told}");
        }
        Ok(Some(taken))
    }

    /// What the banker has more of a token.
    fn gain(&self, token: Address) -> anyhow::Result<I256> {
        let mut gain = I256::ZERO;
        for Transfer { from, to, value } in self.events(token) {
            let value = I256::try_from(value)?;
            gain += if to == BANKER { value } else { I256::ZERO };
            gain -= if from == BANKER { value } else { I256::ZERO };
        }
        Ok(gain)
    }

    /// Those of this kind, and of all calls that did not fail.
    fn events<E: SolEvent>(&self, of: Address) -> Vec<E> {
        if self.error.is_some() {
            return Vec::new();
        }
        let own = self.logs.iter().filter(|log| log.address == of);
        let own = own.filter_map(|log| E::decode_raw_log(log.topics.iter().copied(), &log.data).ok());
        own.chain(self.calls.iter().flat_map(|call| call.events(of))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: Address = Address::repeat_byte(1);

    fn predicted() -> Predicted {
        let [borrower, collateral, debt] = [2, 3, 4].map(Address::repeat_byte);
        let taken = Taken { repaid: U256::from(70), seized: U256::from(9) };
        Predicted { pool: POOL, block: B256::ZERO, borrower, collateral, debt, taken }
    }

    fn log<E: SolEvent>(address: Address, event: &E) -> Value {
        let told = event.encode_log_data();
        json!({ "address": address, "topics": told.topics(), "data": told.data })
    }

    fn transfer(token: Address, from: Address, to: Address, value: u64) -> Value {
        log(token, &Transfer { from, to, value: U256::from(value) })
    }

    /// As a proxy has it: the pool's logs are those of a call that it delegates, and those of tokens are further down.
    fn frame(event: u64, paid: u64, got: u64) -> Frame {
        let Predicted { borrower, collateral, debt, .. } = predicted();
        let done = Pool::LiquidationCall {
            collateralAsset: collateral,
            debtAsset: debt,
            user: borrower,
            debtToCover: U256::from(event),
            liquidatedCollateralAmount: U256::from(9),
            liquidator: BANKER,
            receiveAToken: false,
        };
        let failed =
            json!({ "error": "execution reverted", "logs": [transfer(collateral, POOL, BANKER, 5)] });
        let tokens = json!([
            { "logs": [transfer(collateral, POOL, BANKER, got), transfer(collateral, POOL, POOL, 1)] },
            { "logs": [transfer(debt, BANKER, POOL, paid)] },
            failed,
        ]);
        let delegated = json!({ "logs": [log(POOL, &done)], "calls": tokens });
        serde_json::from_value(json!({ "type": "CALL", "calls": [delegated] })).expect("a frame")
    }

    #[test]
    fn what_was_taken_is_what_the_pool_says_and_the_tokens_did() {
        let taken = frame(70, 70, 9).taken(&predicted()).expect("a liquidation");
        assert_eq!(taken, Some(predicted().taken));
        let less = frame(69, 69, 9).taken(&predicted()).expect("a liquidation");
        assert_ne!(less, Some(predicted().taken));
        for (event, paid, got) in [(70, 71, 9), (70, 70, 8), (71, 70, 9)] {
            assert!(frame(event, paid, got).taken(&predicted()).is_err(), "{event}, {paid}, {got}");
        }
        assert!(Frame::default().taken(&predicted()).is_err(), "nothing happened");
    }

    #[test]
    fn a_refusal_is_told_from_a_call_that_did_not_run() {
        let failed = |error: &str| Frame { error: Some(error.to_owned()), ..Frame::default() };
        assert_eq!(failed("execution reverted: 45").taken(&predicted()).expect("a refusal"), None);
        assert!(failed("out of gas").taken(&predicted()).is_err());
    }

    #[test]
    fn a_sample_is_picked_by_the_seed() {
        let of = |number| Predicted { block: B256::repeat_byte(number), ..predicted() };
        let all: Vec<_> = (0..50).map(of).collect();
        let picked = |seed| sample(all.clone(), 10, seed);
        assert!(picked(1).len() == 10 && picked(1) == picked(1) && picked(1) != picked(2));
    }
}
