//! The state behind one block, fetched as the EVM asks for it.
//!
//! An execution that meets something unknown is given up, what it met is fetched, and it begins again: the EVM never waits
//! for a node, and what was fetched stays for all executions on that block.

use std::future::Future;
use std::sync::Arc;

use alloy_primitives::{Address, B256, BlockHash, Bytes, TxKind, U256};
use headwater_events::{AsOf, Log, PendingTxEvent};
use headwater_market::next_base_fee;
use revm::bytecode::Bytecode;
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction};
use revm::context::{BlockEnv, CfgEnv, Context, TxEnv};
use revm::database_interface::DBErrorMarker;
use revm::handler::MainnetContext;
use revm::primitives::hardfork::SpecId;
use revm::state::AccountInfo;
use revm::{Database, ExecuteEvm, MainBuilder, MainnetEvm};
use rustc_hash::FxHashMap;

use crate::SimulationError;

/// What can be asked about the state behind a block.
pub trait StateReader: Send + Sync + 'static {
    /// The header's figures.
    ///
    /// # Errors
    ///
    /// [`SimulationError`] where it cannot be told; the same for the others.
    fn block(&self, hash: BlockHash) -> impl Future<Output = Result<BlockFigures, SimulationError>> + Send;

    /// An account; an empty one where nobody has been.
    fn account(
        &self,
        at: BlockHash,
        address: Address,
    ) -> impl Future<Output = Result<AccountState, SimulationError>> + Send;

    /// One word of a contract's storage.
    fn slot(
        &self,
        at: BlockHash,
        address: Address,
        slot: U256,
    ) -> impl Future<Output = Result<U256, SimulationError>> + Send;

    /// The hash of a block below, by its height.
    fn hash_of(
        &self,
        at: BlockHash,
        number: u64,
    ) -> impl Future<Output = Result<BlockHash, SimulationError>> + Send;
}

/// What of a header decides what the next block can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockFigures {
    /// Height.
    pub number: u64,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    /// Wei per gas; absent before London.
    pub base_fee_per_gas: Option<u64>,
    /// Gas used.
    pub gas_used: u64,
    /// Gas limit.
    pub gas_limit: u64,
    /// Recipient of the priority fees.
    pub beneficiary: Address,
}

/// An account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountState {
    /// Wei.
    pub balance: U256,
    /// Transactions sent.
    pub nonce: u64,
    /// Runtime code.
    pub code: Bytes,
}

/// What of an account decides whether it can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Wei.
    pub balance: U256,
    /// Transactions sent.
    pub nonce: u64,
    /// Whether it is a contract, or has delegated to one (EIP-7702).
    pub has_code: bool,
}

/// What an execution may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// As `CHAINID` says it.
    pub chain_id: u64,
    /// Seconds from the block to the next one, in which everything is executed.
    pub block_time_s: u64,
    /// The most gas of one transaction. One that is allowed more is not executed: with less it might do something else.
    pub max_gas: u64,
    /// The most accounts, words and hashes that are fetched for a block; what is beyond fails until the next.
    pub max_fetched: usize,
}

/// The state behind a block, as far as it is known.
#[derive(Debug)]
pub struct PinnedState {
    as_of: AsOf,
    next: BlockFigures,
    limits: Limits,
    known: Arc<Known>,
    fetched: usize,
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It succeeded.
    Done {
        /// What it returned.
        output: Bytes,
        /// Its logs, in their order.
        logs: Vec<Log>,
        /// Gas used.
        gas_used: u64,
    },
    /// It reverted or came to a halt, with the reason.
    Failed(String),
    /// No block could hold it: its nonce, its balance or its fee do not allow it.
    Impossible(String),
}

impl PinnedState {
    /// Nothing is known but the block's figures.
    ///
    /// # Errors
    ///
    /// [`SimulationError`] where the reader cannot tell them.
    pub async fn behind<R: StateReader>(
        reader: &R,
        as_of: AsOf,
        limits: Limits,
    ) -> Result<Self, SimulationError> {
        let at = reader.block(as_of.hash).await?;
        let base_fee = at.base_fee_per_gas.map(|base_fee| next_base_fee(base_fee, at.gas_used, at.gas_limit));
        let next = BlockFigures {
            number: at.number + 1,
            timestamp: at.timestamp.saturating_add(limits.block_time_s),
            base_fee_per_gas: base_fee,
            ..at
        };
        Ok(Self { as_of, next, limits, known: Arc::default(), fetched: 0 })
    }

    /// The block that the state is behind.
    pub fn as_of(&self) -> AsOf {
        self.as_of
    }

    /// The block in which everything is executed: the next one, as far as it can be foreseen.
    pub fn next(&self) -> &BlockFigures {
        &self.next
    }

    /// Code at an address that nobody has used, for this state alone.
    ///
    /// # Errors
    ///
    /// [`SimulationError::Unsupported`] for bytes that are no code.
    pub fn place(&mut self, address: Address, code: Bytes) -> Result<(), SimulationError> {
        let account = AccountState { code, ..AccountState::default() };
        Arc::make_mut(&mut self.known).insert_account(address, account)
    }

    /// What of an account decides whether it can send.
    ///
    /// # Errors
    ///
    /// As [`StateReader::account`], and [`SimulationError::TooMuch`].
    pub async fn account<R: StateReader>(
        &mut self,
        reader: &R,
        address: Address,
    ) -> Result<Sender, SimulationError> {
        if !self.known.accounts.contains_key(&address) {
            self.fetch(reader, Unknown::Account(address)).await?;
        }
        let info = self.known.accounts.get(&address).cloned().unwrap_or_default();
        Ok(Sender { balance: info.balance, nonce: info.nonce, has_code: !info.is_empty_code_hash() })
    }

    /// What a view function returns; `None` where it fails.
    ///
    /// # Errors
    ///
    /// As [`PinnedState::run`].
    pub async fn view<R: StateReader>(
        &mut self,
        reader: &R,
        to: Address,
        data: Bytes,
    ) -> Result<Option<Bytes>, SimulationError> {
        let call = self.our_call(to, data);
        let mut ended = self.run(reader, vec![call]).await?;
        Ok(match ended.pop() {
            Some(Ended::Done { output, .. }) => Some(output),
            _ => None,
        })
    }

    /// A call from an account of ours, with all the gas that there may be.
    pub(crate) fn our_call(&self, to: Address, data: Bytes) -> TxEnv {
        TxEnv {
            caller: OURSELVES,
            kind: TxKind::Call(to),
            data,
            gas_limit: self.limits.max_gas,
            gas_price: self.next.base_fee_per_gas.unwrap_or(0).into(),
            chain_id: None,
            ..TxEnv::default()
        }
    }

    /// The transaction as its sender signed it.
    ///
    /// # Errors
    ///
    /// [`SimulationError::TooMuch`] where it may use more gas than is executed here.
    pub(crate) fn their_call(&self, pending: &PendingTxEvent) -> Result<TxEnv, SimulationError> {
        let PendingTxEvent { transaction, max_fee_per_gas, max_priority_fee_per_gas } = pending;
        if transaction.gas_limit > self.limits.max_gas {
            return Err(SimulationError::TooMuch("gas of the transaction"));
        }
        Ok(TxEnv {
            tx_type: if max_priority_fee_per_gas.is_some() { 2 } else { 0 },
            caller: transaction.from,
            kind: transaction.to.map_or(TxKind::Create, TxKind::Call),
            value: transaction.value,
            data: transaction.input.clone(),
            nonce: transaction.nonce,
            gas_limit: transaction.gas_limit,
            gas_price: *max_fee_per_gas,
            gas_priority_fee: *max_priority_fee_per_gas,
            chain_id: Some(self.limits.chain_id),
            ..TxEnv::default()
        })
    }

    /// Executes transactions one after the other at the beginning of the next block, until one does not succeed; says how each
    /// ended that was executed. Nothing of it stays.
    ///
    /// # Errors
    ///
    /// Trouble with the reader, and [`SimulationError::TooMuch`].
    pub async fn run<R: StateReader>(
        &mut self,
        reader: &R,
        transactions: Vec<TxEnv>,
    ) -> Result<Vec<Ended>, SimulationError> {
        self.repeat(reader, move |machine| execute(machine, &transactions)).await
    }

    /// Executes one transaction at the beginning of the next block, and then asks view functions what its logs give rise to, on the
    /// state behind it; each answer in its place, `None` where a function fails.
    ///
    /// # Errors
    ///
    /// As [`PinnedState::run`].
    pub(crate) async fn run_and_ask<R: StateReader>(
        &mut self,
        reader: &R,
        transaction: TxEnv,
        questions: impl Fn(&[Log]) -> Vec<Question> + Send + Sync + 'static,
    ) -> Result<(Ended, Vec<Option<Bytes>>), SimulationError> {
        let ours = self.our_call(Address::ZERO, Bytes::new());
        self.repeat(reader, move |machine| {
            let ended = transact(machine, transaction.clone())?;
            let Ended::Done { logs, .. } = &ended else { return Ok((ended, Vec::new())) };
            let asked = (0..).zip(questions(logs)).map(|(nonce, Question { of, calldata })| {
                let (kind, data) = (TxKind::Call(of), calldata.into());
                Ok(match transact(machine, TxEnv { kind, data, nonce, ..ours.clone() })? {
                    Ended::Done { output, .. } => Some(output),
                    Ended::Failed(_) | Ended::Impossible(_) => None,
                })
            });
            let answers = asked.collect::<Result<_, Unknown>>()?;
            Ok((ended, answers))
        })
        .await
    }

    /// The runtime code of an account.
    ///
    /// # Errors
    ///
    /// As [`PinnedState::account`].
    pub(crate) async fn code<R: StateReader>(
        &mut self,
        reader: &R,
        address: Address,
    ) -> Result<Bytes, SimulationError> {
        self.account(reader, address).await?;
        let code = self.known.accounts.get(&address).and_then(|info| info.code.as_ref());
        Ok(code.map(Bytecode::original_bytes).unwrap_or_default())
    }

    /// Does the work on the state as far as it is known, and again with what it met that is not, until nothing is missing.
    async fn repeat<R: StateReader, T: Send + 'static>(
        &mut self,
        reader: &R,
        work: impl Fn(&mut Machine<'_>) -> Result<T, Unknown> + Send + Sync + 'static,
    ) -> Result<T, SimulationError> {
        let work = Arc::new(work);
        loop {
            let (known, next, chain_id) = (Arc::clone(&self.known), self.next, self.limits.chain_id);
            let work = Arc::clone(&work);
            let working = tokio::task::spawn_blocking(move || work(&mut machine(&known, &next, chain_id)));
            let result = working
                .await
                .map_err(|_| SimulationError::Unsupported("the execution did not come to an end"))?;
            match result {
                Ok(done) => return Ok(done),
                Err(unknown) => self.fetch(reader, unknown).await?,
            }
        }
    }

    async fn fetch<R: StateReader>(&mut self, reader: &R, unknown: Unknown) -> Result<(), SimulationError> {
        if self.fetched >= self.limits.max_fetched {
            return Err(SimulationError::TooMuch("accounts and words of storage"));
        }
        self.fetched += 1;
        let at = self.as_of.hash;
        match unknown {
            Unknown::Account(address) => {
                let account = reader.account(at, address).await?;
                Arc::make_mut(&mut self.known).insert_account(address, account)?;
            }
            Unknown::Slot(address, slot) => {
                let word = reader.slot(at, address, slot).await?;
                Arc::make_mut(&mut self.known).slots.insert((address, slot), word);
            }
            Unknown::Hash(number) => {
                let hash = reader.hash_of(at, number).await?;
                Arc::make_mut(&mut self.known).hashes.insert(number, hash);
            }
        }
        Ok(())
    }
}

/// Who calls for us. It holds enough for any gas, on this state and nowhere else.
const OURSELVES: Address = Address::new(*b"headwater simulation");

/// A call of a view function, and whom it is asked of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) of: Address,
    pub(crate) calldata: Vec<u8>,
}

/// What was fetched.
#[derive(Clone, Debug, Default)]
struct Known {
    accounts: FxHashMap<Address, AccountInfo>,
    slots: FxHashMap<(Address, U256), U256>,
    hashes: FxHashMap<u64, BlockHash>,
}

impl Known {
    fn insert_account(&mut self, address: Address, account: AccountState) -> Result<(), SimulationError> {
        let AccountState { balance, nonce, code } = account;
        let code = Bytecode::new_raw_checked(code)
            .map_err(|_| SimulationError::Unsupported("the code of an account is none"))?;
        let info = AccountInfo::default().with_code(code);
        self.accounts.insert(address, AccountInfo { balance, nonce, ..info });
        Ok(())
    }
}

/// What an execution met and nobody knows yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Unknown {
    #[error("account {0}")]
    Account(Address),
    #[error("slot {1} of {0}")]
    Slot(Address, U256),
    #[error("hash of block {0}")]
    Hash(u64),
}

impl DBErrorMarker for Unknown {}

struct Lookup<'a>(&'a Known);

impl Database for Lookup<'_> {
    type Error = Unknown;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Unknown> {
        if address == OURSELVES {
            return Ok(Some(AccountInfo { balance: U256::MAX >> 1, ..AccountInfo::default() }));
        }
        self.0.accounts.get(&address).cloned().map(Some).ok_or(Unknown::Account(address))
    }

    /// Accounts come with their code.
    fn code_by_hash(&mut self, _code_hash: B256) -> Result<Bytecode, Unknown> {
        Ok(Bytecode::default())
    }

    fn storage(&mut self, address: Address, index: U256) -> Result<U256, Unknown> {
        self.0.slots.get(&(address, index)).copied().ok_or(Unknown::Slot(address, index))
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, Unknown> {
        self.0.hashes.get(&number).copied().ok_or(Unknown::Hash(number))
    }
}

type Machine<'a> = MainnetEvm<MainnetContext<Lookup<'a>>>;

/// An EVM in the next block on what is known.
fn machine<'a>(known: &'a Known, next: &BlockFigures, chain_id: u64) -> Machine<'a> {
    let mut rules = CfgEnv::new_with_spec(SpecId::OSAKA).with_chain_id(chain_id);
    rules.tx_gas_limit_cap = Some(u64::MAX);
    let context: MainnetContext<Lookup<'_>> = Context::new(Lookup(known), SpecId::OSAKA);
    let mut machine = context.with_cfg(rules).build_mainnet();
    machine.set_block(BlockEnv {
        number: U256::from(next.number),
        timestamp: U256::from(next.timestamp),
        basefee: next.base_fee_per_gas.unwrap_or(0),
        gas_limit: next.gas_limit,
        beneficiary: next.beneficiary,
        ..BlockEnv::default()
    });
    machine
}

fn execute(machine: &mut Machine<'_>, transactions: &[TxEnv]) -> Result<Vec<Ended>, Unknown> {
    let mut ended = Vec::with_capacity(transactions.len());
    for transaction in transactions {
        let end = transact(machine, transaction.clone())?;
        let succeeded = matches!(end, Ended::Done { .. });
        ended.push(end);
        if !succeeded {
            break;
        }
    }
    Ok(ended)
}

fn transact(machine: &mut Machine<'_>, transaction: TxEnv) -> Result<Ended, Unknown> {
    Ok(match machine.transact_one(transaction) {
        Ok(result) => how(result),
        Err(EVMError::Database(unknown)) => return Err(unknown),
        Err(EVMError::Transaction(invalid)) => Ended::Impossible(impossible(&invalid)),
        Err(other) => Ended::Impossible(other.to_string()),
    })
}

fn how(result: ExecutionResult) -> Ended {
    match result {
        ExecutionResult::Success { gas, logs, output, .. } => Ended::Done {
            output: output.into_data(),
            logs: (0..).zip(logs).map(|(index, log)| emitted(index, log)).collect(),
            gas_used: gas.tx_gas_used(),
        },
        ExecutionResult::Revert { output, .. } => Ended::Failed(crate::error::reverted(&output)),
        ExecutionResult::Halt { reason, .. } => Ended::Failed(format!("{reason:?}")),
    }
}

fn emitted(log_index: u32, log: alloy_primitives::Log) -> Log {
    let (topics, data) = log.data.split();
    Log { address: log.address, topics: topics.into_iter().collect(), data, transaction_index: 0, log_index }
}

fn impossible(invalid: &InvalidTransaction) -> String {
    invalid.to_string()
}
