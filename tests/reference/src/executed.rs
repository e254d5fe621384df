//! The judge by execution: a predicted cycle is carried out on a fork of its block, through the pairs' real `swap` and
//! the tokens' real `transfer`, and the balance decides.
//!
//! The caller borrows by flash swap: the first pair pays out before it is paid, calls back, and is paid from the end of
//! the cycle. So nothing is overridden but the caller's code; its starting balance is whatever it is, mostly nothing.
//! Source of the protocol: `UniswapV2Pair.swap` and `IUniswapV2Callee` of Uniswap's v2-core.

mod program;

use std::path::Path;

use alloy_primitives::{Address, Bytes, I256, U256, address, hex};
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::anvil::Anvil;
use crate::rpc::Rpc;

/// Holds the program and the balance; an address that nobody else has a use for.
const CALLER: Address = address!("00000000000000000000000000000000c0ffee01");

/// Enough for ten hops through any ERC-20; below a block's limit.
const GAS_LIMIT: &str = "0x4c4b40";

/// A cycle of constant-product pools with every amount spelled out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// In the order of the swaps; at least two, none twice.
    pub pools: Vec<Address>,
    /// `tokens[i]` goes into `pools[i]`, `tokens[i + 1]` comes out: one more than there are pools, the last the first.
    pub tokens: Vec<Address>,
    /// `amounts[i]` goes into `pools[i]`, `amounts[i + 1]` comes out: one more than there are pools.
    pub amounts: Vec<U256>,
}

/// The code of `caller` that carries a cycle out when it is called without data: whoever has another chain than a fork can place
/// it there.
///
/// # Errors
/// A malformed cycle.
pub fn program_of(caller: Address, cycle: &Cycle) -> anyhow::Result<Bytes> {
    program::assemble(caller, cycle)
}

/// The code of a contract that takes `amounts[0]` of a token from `payer`, who has to have allowed it, gives it to a pair and
/// has that pay `amounts[1]` of the other to the payer; no router knows it.
pub fn private_swap(payer: Address, pair: Address, tokens: [Address; 2], amounts: [U256; 2]) -> Bytes {
    program::private_swap(payer, pair, tokens, amounts)
}

/// What became of a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// Carried out.
    Balanced {
        /// Smallest units of the first token; negative for a loss.
        gained: I256,
        /// Gas used by the transaction, its base cost included.
        gas: u64,
    },
    /// The contracts refused.
    Reverted,
}

/// A fork of the node under test, moved from block to block.
#[derive(Debug)]
pub struct Judge {
    fork: Anvil,
    source: Rpc,
    sender: Address,
    pristine: Option<Pristine>,
}

/// The fork as it was before anything was executed on it.
#[derive(Clone, Debug)]
struct Pristine {
    block: u64,
    snapshot: Value,
}

impl Judge {
    /// Starts the fork with the given anvil. `source_url` is the plain HTTP address of the node whose blocks are judged;
    /// it must still have the state of those blocks.
    ///
    /// # Errors
    /// A binary or a node that does not answer.
    pub fn start(anvil: &Path, source_url: &str) -> anyhow::Result<Self> {
        // Storage is cached on disk by chain and block number, and every devnet is chain 31337: the cache would lie.
        let arguments = ["--fork-url", source_url, "--no-mining", "--no-storage-caching", "--no-rate-limit"];
        let fork = Anvil::spawn(anvil, &arguments.map(str::to_owned))?;
        let accounts: Vec<Address> = fork.rpc().call("eth_accounts", json!([]))?;
        let sender = *accounts.first().context("the fork has no account")?;
        Ok(Self { fork, source: Rpc::new(source_url)?, sender, pristine: None })
    }

    /// Carries out the cycle on the state at the end of `block`. The fork is left as it was before.
    ///
    /// # Errors
    /// A malformed cycle, a node without that block; a refusal by the contracts is not an error but
    /// [`Execution::Reverted`].
    pub fn execute(&mut self, block: u64, cycle: &Cycle) -> anyhow::Result<Execution> {
        let code = program::assemble(CALLER, cycle)?;
        self.rewind(block)?;
        let rpc = self.fork.rpc();
        rpc.call::<Value>("anvil_setCode", json!([CALLER, code]))?;
        let before = balance(rpc, cycle.tokens[0], CALLER)?;
        let transaction = json!({ "from": self.sender, "to": CALLER, "gas": GAS_LIMIT });
        let hash: Value = rpc.call("eth_sendTransaction", json!([transaction]))?;
        rpc.call::<Value>("evm_mine", json!([]))?;
        let receipt: Value = rpc.call("eth_getTransactionReceipt", json!([hash]))?;
        match receipt["status"].as_str() {
            Some("0x0") => return Ok(Execution::Reverted),
            Some("0x1") => {}
            _ => bail!("the fork did not mine the transaction: {receipt}"),
        }
        let after = balance(rpc, cycle.tokens[0], CALLER)?;
        let gained = I256::try_from(after)? - I256::try_from(before)?;
        Ok(Execution::Balanced { gained, gas: quantity(&receipt["gasUsed"])?.to() })
    }

    /// The most that each hop gives for `amount_in` by the reserves at the end of `block`, in the contracts' own rounding
    /// (`UniswapV2Library.getAmountOut`, fee 0.3 %): what a [`Cycle`] wants as its amounts.
    ///
    /// # Errors
    /// As [`Judge::execute`].
    pub fn amounts(
        &self,
        block: u64,
        pools: &[Address],
        tokens: &[Address],
        amount_in: U256,
    ) -> anyhow::Result<Vec<U256>> {
        ensure!(pools.len() + 1 == tokens.len(), "{} pools but {} tokens", pools.len(), tokens.len());
        let mut amounts = vec![amount_in];
        for (hop, pool) in pools.iter().enumerate() {
            let (token_in, token_out) = (tokens[hop], tokens[hop + 1]);
            let (reserve0, reserve1) = reserves(&self.source, *pool, block)?;
            let (into, out_of) =
                if token_in < token_out { (reserve0, reserve1) } else { (reserve1, reserve0) };
            amounts.push(amount_out(amounts[hop], into, out_of));
        }
        Ok(amounts)
    }

    /// Brings the fork to the end of `block`, untouched.
    fn rewind(&mut self, block: u64) -> anyhow::Result<()> {
        let rpc = self.fork.rpc();
        match self.pristine.take().filter(|pristine| pristine.block == block) {
            Some(pristine) => {
                let reverted: bool = rpc.call("evm_revert", json!([pristine.snapshot]))?;
                ensure!(reverted, "the fork lost its snapshot of block {block}");
            }
            None => {
                let forking = json!({ "jsonRpcUrl": self.source.url(), "blockNumber": block });
                rpc.call::<Value>("anvil_reset", json!([{ "forking": forking }]))?;
            }
        }
        let forked: Value = rpc.call("eth_blockNumber", json!([]))?;
        ensure!(quantity(&forked)? == U256::from(block), "the fork stands at {forked} instead of {block}");
        let snapshot = rpc.call("evm_snapshot", json!([]))?;
        self.pristine = Some(Pristine { block, snapshot });
        Ok(())
    }
}

/// `UniswapV2Library.getAmountOut`
fn amount_out(amount_in: U256, reserve_in: U256, reserve_out: U256) -> U256 {
    let with_fee = amount_in * U256::from(997);
    with_fee * reserve_out / (reserve_in * U256::from(1000) + with_fee)
}

fn reserves(rpc: &Rpc, pool: Address, block: u64) -> anyhow::Result<(U256, U256)> {
    let answer = read(rpc, pool, "0x0902f1ac".to_owned(), json!(format!("{block:#x}")))?;
    ensure!(answer.len() == 96, "{pool} is no pair at block {block}");
    Ok((U256::from_be_slice(&answer[..32]), U256::from_be_slice(&answer[32..64])))
}

fn balance(rpc: &Rpc, token: Address, holder: Address) -> anyhow::Result<U256> {
    let data = format!("0x70a08231{}", hex::encode(holder.into_word()));
    let answer = read(rpc, token, data, json!("latest"))?;
    ensure!(answer.len() == 32, "{token} is no token");
    Ok(U256::from_be_slice(&answer))
}

fn read(rpc: &Rpc, to: Address, data: String, block: Value) -> anyhow::Result<Vec<u8>> {
    let answer: Bytes = rpc.call("eth_call", json!([{ "to": to, "data": data }, block]))?;
    Ok(answer.to_vec())
}

fn quantity(value: &Value) -> anyhow::Result<U256> {
    let text = value.as_str().with_context(|| format!("not a quantity: {value}"))?;
    Ok(text.parse()?)
}
