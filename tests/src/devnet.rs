//! The devnet: anvil with other people's real bytecode: two Uniswap V2 exchanges with seven tokens and twenty pools, pools of
//! Uniswap V3 and V4 of the same tokens with the routers to all of them, Aave V2, V3.0 and V3.6 with two hundred borrowers, and a seeded trader who
//! makes prices drift apart.
//!
//! Everything that reaches a block is fixed: the accounts, the order of transactions (first in, first out, sent one after
//! another), the timestamps (twelve seconds apart, from [`GENESIS_TIMESTAMP`]). So one seed makes one chain, hash for hash.
//! Mining is the caller's: a block exists when [`Devnet::mine`] is called.

mod artifacts;
mod concentrated;
mod contracts;
mod deployment;
mod lending;
mod routers;
mod trader;

use std::io::Write as _;
use std::num::NonZeroU64;
use std::path::Path;
use std::thread;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolCall;
use anyhow::{Context, ensure};
use headwater_reference::anvil::Anvil;
use headwater_reference::rpc::Rpc;
use serde_json::{Value, json};
use tokio::time::Instant;

pub use self::artifacts::{Artifacts, Recipe};
use self::contracts::{Router, Token};
pub use self::deployment::{
    Addresses, Concentrated, DEPLOYER, Erc20, Exchange, Lending, PAIR_INIT_CODE_HASH, Pool, PriceFeed,
    RangedPool, Routers,
};
pub(crate) use self::lending::BANKER;
pub use self::lending::Borrower;
pub use self::trader::Trader;

/// Anvil's own.
pub const CHAIN_ID: u64 = 31337;

/// 2023-11-14 22:13:20 UTC; a devnet knows no wall clock.
pub const GENESIS_TIMESTAMP: u64 = 1_700_000_000;

/// Seconds between blocks, whatever the pace at which they are mined.
pub const BLOCK_SECONDS: u64 = 12;

/// Wei, at the start.
const BASE_FEE: u64 = 1_000_000_000;

/// Where a transaction's deadline is of no interest.
const NEVER: U256 = U256::MAX;

/// What a chain begins with: two that differ in it have no block in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// As the node says it.
    pub chain_id: u64,
    /// Seconds since 1970 of the first block.
    pub timestamp: u64,
}

impl Default for Genesis {
    fn default() -> Self {
        Self { chain_id: CHAIN_ID, timestamp: GENESIS_TIMESTAMP }
    }
}

/// How much stands on a devnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everything.
    Whole,
    /// The exchanges of pairs alone: for those who bring other pools themselves, or have to know all that can be found.
    Pairs,
}

/// A running devnet; gone when dropped.
#[derive(Debug)]
pub struct Devnet {
    extent: Extent,
    artifacts: Artifacts,
    anvil: Anvil,
    addresses: Addresses,
    accounts: Vec<Address>,
    /// Where anvil keeps the states of blocks beyond the last 500.
    old_states: tempfile::TempDir,
}

/// How fast a live devnet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From one block to the next, by the wall clock; the timestamps keep their own step.
    pub block_time: Duration,
    /// Every so many turns, the last one, two or three blocks are replaced instead of one being added.
    pub reorg_every: Option<NonZeroU64>,
}

/// Ether for tokens, through one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purchase {
    /// One of anvil's unlocked accounts.
    pub from: Address,
    /// The exchange's.
    pub router: Address,
    /// What is bought.
    pub token: Address,
    /// What is paid.
    pub wei: u128,
}

/// What mining answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Height.
    pub number: u64,
    /// Hash.
    pub hash: B256,
    /// Seconds since 1970, by the devnet's own reckoning.
    pub timestamp: u64,
    /// Wei.
    pub base_fee_per_gas: u64,
    /// How many transactions the block holds.
    pub transactions: usize,
}

/// Whether tests that need anvil can run; `what` names the part for the one who reads that it was left out. `Ok(false)`
/// only if the runner asked for it (`cargo xtask test --offline`): then this says aloud and counts what was skipped.
///
/// # Errors
/// Node.js is missing and nobody said that this is all right.
pub fn available(what: &str) -> anyhow::Result<bool> {
    if read_variable("HEADWATER_OFFLINE").is_none_or(|value| value.is_empty()) {
        ensure!(artifacts::npm_is_there(), "{what} was not run: {}", artifacts::NO_NPM);
        return Ok(true);
    }
    write_skip("offline", what)?;
    Ok(false)
}

/// To the one who watches, and to the file whose lines `cargo xtask test` counts at the end.
pub(crate) fn write_skip(why: &str, what: &str) -> anyhow::Result<()> {
    writeln!(std::io::stderr(), "SKIPPED ({why}): {what}")?;
    if let Some(path) = read_variable("HEADWATER_SKIPS") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(format!("{what} ({why})\n").as_bytes())?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the test runner has no other way to talk to a test")]
pub(crate) fn read_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Devnet {
    /// Fetches what is missing, starts anvil, deploys everything. Takes a few seconds.
    ///
    /// # Errors
    /// No Node.js, no way to the package registry, or an anvil that does not do as it is told.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(Extent::Whole)
    }

    /// As [`Devnet::start`], with as much as is asked for.
    ///
    /// # Errors
    /// As [`Devnet::start`].
    pub fn start_with(extent: Extent) -> anyhow::Result<Self> {
        let artifacts = Artifacts::install()?;
        let old_states = artifacts.temporary_directory()?;
        let arguments = arguments(Genesis::default(), old_states.path())?;
        let anvil = Anvil::spawn(&artifacts.anvil()?, &arguments)?;
        let accounts = anvil.rpc().call("eth_accounts", json!([]))?;
        let addresses = Addresses::derive();
        let devnet = Self { extent, artifacts, anvil, addresses, accounts, old_states };
        devnet.deploy()?;
        Ok(devnet)
    }

    /// Ends the node and starts another at the same address. With the same genesis the blocks of the deployment are the same
    /// again, and everything after them is gone; with another one everything is.
    ///
    /// # Errors
    /// As [`Devnet::start`].
    pub fn restart(&mut self, genesis: Genesis) -> anyhow::Result<()> {
        let arguments = arguments(genesis, self.old_states.path())?;
        self.anvil.restart(&self.artifacts.anvil()?, &arguments)?;
        self.deploy()
    }

    fn deploy(&self) -> anyhow::Result<()> {
        deployment::deploy(self, &self.artifacts).context("deploying the devnet's contracts")?;
        if self.extent == Extent::Whole {
            concentrated::deploy(self, &self.artifacts).context("deploying Uniswap V3 and V4")?;
            lending::deploy(self, &self.artifacts).context("deploying Aave")?;
            routers::deploy(self, &self.artifacts).context("deploying the routers")?;
            // Blocks with little in them have lowered it, blocks with much have raised it.
            self.rpc().call::<Value>("anvil_setNextBlockBaseFeePerGas", json!([hex(BASE_FEE)]))?;
            self.mine()?;
        }
        Ok(())
    }

    /// How much stands here.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// For judges and requests of the test's own.
    pub fn rpc(&self) -> &Rpc {
        self.anvil.rpc()
    }

    /// `http://127.0.0.1:port`
    pub fn http_url(&self) -> String {
        self.anvil.http_url()
    }

    /// `ws://127.0.0.1:port`
    pub fn ws_url(&self) -> String {
        self.anvil.ws_url()
    }

    /// Who stands where.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Who owes something to one of the lending pools; the same on every devnet with everything on it.
    pub fn borrowers(&self) -> Vec<Borrower> {
        lending::borrowers(self)
    }

    /// Anvil's unlocked accounts; the first is the deployer.
    pub fn accounts(&self) -> &[Address] {
        &self.accounts
    }

    /// A configuration for this devnet, ready to be saved; its last table is `[market]`, or one below it.
    pub fn configuration(&self) -> String {
        let node = format!("[node]\nurls = [\"{}\"]\nchain_id = {CHAIN_ID}\n\n", self.ws_url());
        match self.extent {
            Extent::Whole => node + "[market]\npreset = \"devnet\"\n",
            Extent::Pairs => node + &self.addresses.market_of_pairs(),
        }
    }

    /// Mines one block out of everything that was sent, twelve seconds after its parent.
    ///
    /// # Errors
    /// A node that does not answer.
    pub fn mine(&self) -> anyhow::Result<Head> {
        self.mine_after(BLOCK_SECONDS)
    }

    /// The last block.
    ///
    /// # Errors
    /// A node that does not answer.
    pub fn head(&self) -> anyhow::Result<Head> {
        let block: Value = self.rpc().call("eth_getBlockByNumber", json!(["latest", false]))?;
        Ok(Head {
            number: quantity(&block["number"])?,
            hash: serde_json::from_value(block["hash"].clone())?,
            timestamp: quantity(&block["timestamp"])?,
            base_fee_per_gas: quantity(&block["baseFeePerGas"])?,
            transactions: block["transactions"].as_array().map_or(0, Vec::len),
        })
    }

    /// Replaces the last `depth` blocks by `depth + 1` others, in which `trader` trades on from where it is.
    ///
    /// Of anvil's three ways to a reorg this is the one that looks like a node's: `anvil_rollback` announces nothing, and each
    /// block mined afterwards is announced as a new head whose parent is, for the first, the common ancestor.
    /// `anvil_reorg` announces its own replacements, but they are as many as the old ones, so that no block is higher than
    /// the old head; `evm_revert` needs a snapshot taken beforehand. In all of them the orphaned blocks are gone at once, also
    /// by hash, and no `removed` logs are announced.
    ///
    /// # Errors
    /// Fewer blocks than `depth` since the contracts were deployed, or a node that does not answer.
    pub fn reorg(&self, depth: u64, trader: &mut Trader) -> anyhow::Result<Head> {
        self.roll_back(depth)?;
        trader.trade(self)?;
        let mut head = self.mine_another()?;
        for _ in 0..depth {
            trader.trade(self)?;
            head = self.mine()?;
        }
        Ok(head)
    }

    /// Replaces the last `depth` blocks by as many others through `anvil_reorg`, which announces the new ones itself. They are
    /// empty but for the `purchases`: of each, the number is the block that it goes into, counted from 0.
    ///
    /// # Errors
    /// Fewer blocks than `depth`, or a node that does not answer.
    pub fn reorg_in_place(&self, depth: u64, purchases: &[(Purchase, u64)]) -> anyhow::Result<Head> {
        let pairs: Vec<Value> =
            purchases.iter().map(|(purchase, block)| json!([self.transaction_of(purchase), block])).collect();
        self.rpc().call::<Value>("anvil_reorg", json!([depth, pairs]))?;
        self.head()
    }

    /// Takes back the last `depth` blocks; announces nothing.
    ///
    /// # Errors
    /// Fewer blocks than `depth`, or a node that does not answer.
    pub fn roll_back(&self, depth: u64) -> anyhow::Result<()> {
        self.rpc().call::<Value>("anvil_rollback", json!([depth]))?;
        Ok(())
    }

    /// `evm_snapshot`: what [`Devnet::revert`] goes back to.
    ///
    /// # Errors
    /// A node that does not answer.
    pub fn snapshot(&self) -> anyhow::Result<U256> {
        self.rpc().call("evm_snapshot", json!([]))
    }

    /// `evm_revert`: the blocks since the snapshot are gone; announces nothing.
    ///
    /// # Errors
    /// A node that does not have the snapshot, or does not answer.
    pub fn revert(&self, snapshot: U256) -> anyhow::Result<()> {
        let is_done: bool = self.rpc().call("evm_revert", json!([snapshot]))?;
        ensure!(is_done, "the node has no snapshot {snapshot}");
        Ok(())
    }

    /// As [`Devnet::mine`], a second later: another block than the one that was mined at this height before, even without
    /// transactions.
    ///
    /// # Errors
    /// A node that does not answer.
    pub fn mine_another(&self) -> anyhow::Result<Head> {
        self.mine_after(BLOCK_SECONDS + 1)
    }

    /// Trades and mines at a steady pace for as long as `go_on` says so of each new head: the devnet live. What goes into a block
    /// is sent right behind the one before, so that it is pending for a while. A block that is late is not waited for again, so
    /// that the pace holds on average.
    ///
    /// # Errors
    /// A node that does not answer.
    pub fn run(
        &self,
        trader: &mut Trader,
        pace: Pace,
        mut go_on: impl FnMut(&Head) -> bool,
    ) -> anyhow::Result<()> {
        let mut next = Instant::now();
        for count in 1u64.. {
            next += pace.block_time;
            let wait = || thread::sleep(next.saturating_duration_since(Instant::now()));
            let head = match pace.reorg_every {
                Some(every) if count.is_multiple_of(every.get()) => {
                    wait();
                    self.reorg(1 + count / every.get() % 3, trader)?
                }
                _ => {
                    trader.trade(self)?;
                    wait();
                    self.mine()?
                }
            };
            if !go_on(&head) {
                break;
            }
        }
        Ok(())
    }

    fn mine_after(&self, seconds: u64) -> anyhow::Result<Head> {
        let timestamp = self.head()?.timestamp + seconds;
        self.rpc().call::<Value>("evm_mine", json!([{ "timestamp": timestamp }]))?;
        self.head()
    }

    /// Sends a call to the mempool.
    pub(crate) fn send(
        &self,
        from: Address,
        to: Address,
        value: U256,
        data: Vec<u8>,
        gas: u64,
    ) -> anyhow::Result<B256> {
        self.send_transaction(
            from,
            json!({ "to": to, "value": value, "data": Bytes::from(data), "gas": hex(gas) }),
        )
    }

    fn transaction_of(&self, purchase: &Purchase) -> Value {
        let buy = Router::swapExactETHForTokensCall {
            amountOutMin: U256::ZERO,
            path: vec![self.addresses.weth, purchase.token],
            to: purchase.from,
            deadline: NEVER,
        };
        json!({
            "from": purchase.from,
            "to": purchase.router,
            "value": U256::from(purchase.wei),
            "data": Bytes::from(buy.abi_encode()),
            "gas": hex(300_000),
            "gasPrice": hex(1_000_000_000_000),
        })
    }

    fn create(&self, from: Address, code: Bytes) -> anyhow::Result<B256> {
        self.send_transaction(from, json!({ "data": code, "gas": hex(6_000_000) }))
    }

    /// A contract of this creation code, in a block of its own.
    pub(crate) fn create_mined(&self, from: Address, code: &[u8]) -> anyhow::Result<Address> {
        let code = Bytes::copy_from_slice(code);
        let creation = self.send_transaction(from, json!({ "data": code, "gas": hex(15_000_000) }))?;
        self.mine()?;
        let receipt = self.receipt(creation)?;
        Ok(receipt["contractAddress"].as_str().context("the contract was not created")?.parse()?)
    }

    /// Sends a call, and nothing else, in a block.
    fn send_mined(&self, from: Address, to: Address, data: Vec<u8>, gas: u64) -> anyhow::Result<()> {
        let sent = self.send(from, to, U256::ZERO, data, gas)?;
        self.mine()?;
        self.receipt(sent).map(drop)
    }

    /// Of a transaction that is mined and succeeded.
    fn receipt(&self, transaction: B256) -> anyhow::Result<Value> {
        let receipt: Value = self.rpc().call("eth_getTransactionReceipt", json!([transaction]))?;
        ensure!(receipt["status"] == "0x1", "a transaction of the deployment failed: {receipt}");
        Ok(receipt)
    }

    /// Words of a contract's storage at the head.
    pub(crate) fn storage(&self, slots: &[(Address, U256)]) -> anyhow::Result<Vec<U256>> {
        let questions: Vec<_> = slots
            .iter()
            .map(|(contract, slot)| ("eth_getStorageAt", json!([contract, slot, "latest"])))
            .collect();
        let answers = self.rpc().batch(&questions)?;
        let words = answers
            .into_iter()
            .map(|answer| Ok(U256::from_be_bytes(serde_json::from_value::<B256>(answer)?.0)));
        words.collect()
    }

    fn send_transaction(&self, from: Address, mut transaction: Value) -> anyhow::Result<B256> {
        transaction["from"] = json!(from);
        transaction["maxFeePerGas"] = json!(hex(1_000_000_000_000));
        transaction["maxPriorityFeePerGas"] = json!(hex(100_000_000));
        self.rpc().call("eth_sendTransaction", json!([transaction]))
    }

    fn approve(&self, owner: Address, token: Address, spender: Address) -> anyhow::Result<B256> {
        let approve = Token::approveCall { spender, amount: U256::MAX };
        self.send(owner, token, U256::ZERO, approve.abi_encode(), 100_000)
    }

    /// Creates a pair and funds it at the prices of the start.
    fn fund_pool(
        &self,
        from: Address,
        (factory, a, b, ether): (&str, &str, &str, u64),
    ) -> anyhow::Result<B256> {
        let add = Router::addLiquidityCall {
            tokenA: self.addresses.token(a),
            tokenB: self.addresses.token(b),
            amountADesired: deployment::worth(a, ether),
            amountBDesired: deployment::worth(b, ether),
            amountAMin: U256::ZERO,
            amountBMin: U256::ZERO,
            to: from,
            deadline: NEVER,
        };
        self.send(from, self.addresses.exchange(factory).router, U256::ZERO, add.abi_encode(), 4_000_000)
    }

    /// Reads many things at the head in one request.
    fn read<C: SolCall>(&self, calls: &[(Address, &C)]) -> anyhow::Result<Vec<Option<C::Return>>> {
        let questions: Vec<_> = calls
            .iter()
            .map(|(to, call)| {
                ("eth_call", json!([{ "to": to, "data": Bytes::from(call.abi_encode()) }, "latest"]))
            })
            .collect();
        let answers = self.rpc().batch(&questions)?;
        answers.into_iter().map(|answer| decode::<C>(answer)).collect()
    }
}

fn arguments(genesis: Genesis, old_states: &Path) -> anyhow::Result<Vec<String>> {
    let old_states = old_states.to_str().context("a temporary directory with an odd name")?;
    let arguments = [
        "--no-mining",
        "--order=fifo",
        "--balance=1000000",
        &format!("--base-fee={BASE_FEE}"),
        "--gas-limit=30000000",
        &format!("--chain-id={}", genesis.chain_id),
        &format!("--timestamp={}", genesis.timestamp),
        "--cache-path",
        old_states,
    ];
    Ok(arguments.map(str::to_owned).to_vec())
}

/// `None` where there is no contract.
fn decode<C: SolCall>(answer: Value) -> anyhow::Result<Option<C::Return>> {
    let bytes: Bytes = serde_json::from_value(answer)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    Ok(Some(C::abi_decode_returns(&bytes)?))
}

fn hex(quantity: u64) -> String {
    format!("{quantity:#x}")
}

fn quantity(value: &Value) -> anyhow::Result<u64> {
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x")).context("not a quantity")?;
    Ok(u64::from_str_radix(digits, 16)?)
}
