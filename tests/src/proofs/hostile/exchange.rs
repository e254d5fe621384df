//! The pairs' own bytecode over tokens as they are, in an EVM in memory.

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::sol;
use anyhow::Context;
use headwater_events::SwapStep;
use headwater_reference::arbitrage::{Swap, best_input};
use headwater_reference::evm::{Evm, Message, Parameters};
use headwater_reference::fake_node::V2Pair;
use headwater_reference::tokens::{self, Habit};

use super::market::other;
use crate::devnet::Artifacts;

sol! {
    function swap(uint256 amount0Out, uint256 amount1Out, address to, bytes data) external;
    function transfer(address to, uint256 amount) external returns (bool);
}

const TRADER: Address = Address::repeat_byte(0x7d);

/// Slots of a `UniswapV2Pair` (v2-core).
const TOKEN0: u64 = 6;
const TOKEN1: u64 = 7;
const RESERVES: u64 = 8;
const UNLOCKED: u64 = 12;

pub(super) struct Exchange {
    evm: Evm,
    pair: Bytes,
}

/// What runs at the address of a pair.
pub(super) fn pair_code(artifacts: &Artifacts) -> anyhow::Result<Bytes> {
    let artifact = artifacts.contract("@uniswap/v2-core/build/UniswapV2Pair.json")?;
    let mut evm = Evm::new(&Parameters::default());
    let pair = evm.deploy(TRADER, &artifact.creation_code()?, &[]).context("a pair")?;
    Ok(evm.code(pair))
}

impl Exchange {
    pub(super) fn new(pair: &Bytes) -> Self {
        Self { evm: Evm::new(&Parameters::default()), pair: pair.clone() }
    }

    pub(super) fn place_token(&mut self, token: Address, habit: Habit) {
        self.evm.place(token, tokens::token(habit));
    }

    /// A pair that holds its reserves.
    pub(super) fn place_pair(&mut self, pair: &V2Pair) {
        self.evm.place(pair.address, self.pair.clone());
        let word = |address: Address| U256::from_be_bytes(address.into_word().0);
        for (slot, value) in [(TOKEN0, word(pair.token0)), (TOKEN1, word(pair.token1)), (UNLOCKED, U256::ONE)]
        {
            self.evm.set_storage(pair.address, U256::from(slot), value);
        }
        self.hold(pair);
    }

    /// The pair's reserves, and what it holds, are these.
    pub(super) fn hold(&mut self, pair: &V2Pair) {
        let [reserve0, reserve1] = [pair.reserve0, pair.reserve1].map(U256::from);
        self.evm.set_storage(pair.address, U256::from(RESERVES), reserve0 | reserve1 << 112usize);
        for (token, reserve) in [(pair.token0, reserve0), (pair.token1, reserve1)] {
            self.evm.set_storage(token, tokens::balance_slot(pair.address), reserve);
        }
    }

    /// It holds so much of a token, whatever its reserve.
    pub(super) fn give(&mut self, pair: Address, token: Address, held: u128) {
        self.evm.set_storage(token, tokens::balance_slot(pair), U256::from(held));
    }

    /// By a pair's storage.
    pub(super) fn reserves(&self, pair: Address) -> [u128; 2] {
        let word = self.evm.storage(pair, U256::from(RESERVES));
        let mask = (U256::ONE << 112usize) - U256::ONE;
        [word & mask, (word >> 112usize) & mask].map(|reserve| reserve.to())
    }

    /// What somebody who has just what the first step takes is left with behind the last: each pair sends what comes out to the next.
    /// Nothing of it stays.
    ///
    /// # Errors
    /// A step that reverts.
    pub(super) fn carry_out(&mut self, steps: &[SwapStep]) -> anyhow::Result<U256> {
        let before = self.evm.snapshot();
        let left = self.swap_through(steps);
        self.evm.revert(&before)?;
        self.evm.forget_snapshots();
        left
    }

    fn swap_through(&mut self, steps: &[SwapStep]) -> anyhow::Result<U256> {
        let (first, last) = steps.first().zip(steps.last()).context("no steps")?;
        let (purse, amount) = (tokens::balance_slot(TRADER), first.amount_in);
        self.evm.set_storage(first.token_in, purse, amount);
        self.evm
            .transact(&Message::new(TRADER, first.token_in, &transferCall { to: first.pool, amount }))
            .context("paying in")?;
        for (at, step) in steps.iter().enumerate() {
            let to = steps.get(at + 1).map_or(TRADER, |next| next.pool);
            let (amount0, amount1) = if step.token_in < step.token_out {
                (U256::ZERO, step.amount_out)
            } else {
                (step.amount_out, U256::ZERO)
            };
            let call = swapCall { amount0Out: amount0, amount1Out: amount1, to, data: Bytes::new() };
            self.evm
                .transact(&Message::new(TRADER, step.pool, &call))
                .with_context(|| format!("swap {at} at {}", step.pool))?;
        }
        Ok(self.evm.storage(last.token_out, purse))
    }
}

/// How a token that is what it says would be bought in one pool and sold in the other, at the best amount; `None` where that gains
/// nothing.
pub(super) fn hostile_steps(first: &V2Pair, second: &V2Pair, native: Address) -> Option<[SwapStep; 2]> {
    let token = other(first, native);
    let swap = |pair: &V2Pair, token_in| {
        let (reserve_in, reserve_out) = if pair.token0 == token_in {
            (pair.reserve0, pair.reserve1)
        } else {
            (pair.reserve1, pair.reserve0)
        };
        Swap { reserve_in, reserve_out, fee_ppm: 3_000 }
    };
    let swaps = [swap(first, native), swap(second, token)];
    let amount_in = best_input(&swaps)?.amount_in;
    let between = swaps[0].output(amount_in)?;
    let amount_out = swaps[1].output(between)?;
    let step = |pool, token_in, token_out, amount_in: u128, amount_out: u128| SwapStep {
        pool,
        token_in,
        token_out,
        amount_in: U256::from(amount_in),
        amount_out: U256::from(amount_out),
    };
    Some([
        step(first.address, native, token, amount_in, between),
        step(second.address, token, native, between, amount_out),
    ])
}
