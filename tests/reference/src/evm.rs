//! A small chain in memory whose contracts are other people's bytecode, run by revm: what a contract really does decides.
//!
//! Nothing is charged for gas, so that a balance changes by what contracts move and by nothing else; anybody may be the
//! caller, contracts included. Time stands still until [`Evm::set_block`] moves it.

mod artifact;
mod revert;
mod world;

use alloy_primitives::{Address, B256, Bytes, Log, TxKind, U256};
use alloy_sol_types::{SolCall, SolEvent};
use anyhow::{Context as _, anyhow};
use revm::context::result::{ExecResultAndState, ExecutionResult, HaltReason, Output};
use revm::context::{BlockEnv, CfgEnv, Context, TxEnv};
use revm::handler::MainnetContext;
use revm::primitives::hardfork::SpecId;
use revm::state::EvmState;
use revm::{ExecuteEvm, MainBuilder, MainnetEvm};

pub use self::artifact::Artifact;
pub use self::revert::Revert;
pub use self::world::Snapshot;
use self::world::World;

/// Enough for everything, and within a block's own limit.
const GAS_LIMIT: u64 = 1_000_000_000;

/// What a chain begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// As `CHAINID` says it.
    pub chain_id: u64,
    /// The first block.
    pub block: Block,
    /// Whether contracts and creation code may be of any size.
    pub unlimited_code_size: bool,
}

/// What a contract can see of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Height.
    pub number: u64,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// Wei, as `BASEFEE` says it; nobody pays it.
    pub base_fee_per_gas: u64,
}

/// The chain.
pub struct Evm {
    machine: MainnetEvm<MainnetContext<World>>,
}

/// A message from an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sends it; a contract may be.
    pub from: Address,
    /// Whom it calls.
    pub to: Address,
    /// Wei.
    pub value: U256,
    /// The input.
    pub data: Bytes,
}

/// What a transaction left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What it returned.
    pub output: Bytes,
    /// Its logs, in their order.
    pub logs: Vec<Log>,
    /// Refunds taken off.
    pub gas_used: u64,
}

/// Why a call or a transaction came to nothing.
#[derive(Debug)]
pub enum Failure {
    /// The contract reverted.
    Reverted(Revert),
    /// The machine stopped: no gas, an invalid opcode, too much code.
    Halted(HaltReason),
    /// It was not a transaction: the caller cannot pay the value.
    Refused(anyhow::Error),
}

impl Default for Parameters {
    fn default() -> Self {
        let block = Block { number: 1, timestamp: 1_700_000_000, base_fee_per_gas: 1_000_000_000 };
        Self { chain_id: 1, block, unlimited_code_size: false }
    }
}

impl Message {
    /// A contract's function with its arguments, without value.
    pub fn new<C: SolCall>(from: Address, to: Address, call: &C) -> Self {
        Self { from, to, value: U256::ZERO, data: call.abi_encode().into() }
    }

    /// The same with wei.
    pub fn with_value(self, value: U256) -> Self {
        Self { value, ..self }
    }
}

impl Receipt {
    /// What the function returned.
    ///
    /// # Errors
    /// Bytes that are not its type.
    pub fn returned<C: SolCall>(&self) -> anyhow::Result<C::Return> {
        C::abi_decode_returns(&self.output).with_context(|| format!("what {} returned", C::SIGNATURE))
    }

    /// All events of this kind from this contract, in their order.
    pub fn events<E: SolEvent>(&self, of: Address) -> Vec<E> {
        let logs = self.logs.iter().filter(|log| log.address == of);
        logs.filter_map(|log| E::decode_log_data(&log.data).ok()).collect()
    }
}

impl Evm {
    /// An empty chain under mainnet's present rules (Osaka), without its limit on the gas of a transaction.
    pub fn new(parameters: &Parameters) -> Self {
        let mut rules = CfgEnv::new_with_spec(SpecId::OSAKA).with_chain_id(parameters.chain_id);
        rules.tx_gas_limit_cap = Some(u64::MAX);
        rules.disable_eip3607 = true;
        rules.disable_base_fee = true;
        if parameters.unlimited_code_size {
            rules.limit_contract_code_size = Some(usize::MAX);
            rules.limit_contract_initcode_size = Some(usize::MAX);
        }
        let context = Context::<BlockEnv, TxEnv, CfgEnv, _, _, ()>::new(World::default(), SpecId::OSAKA);
        let machine = context.with_cfg(rules).build_mainnet();
        let mut evm = Self { machine };
        evm.set_block(parameters.block);
        evm
    }

    /// The block in which calls and transactions run.
    pub fn block(&self) -> Block {
        let block = &self.machine.ctx.block;
        Block { number: block.number.to(), timestamp: block.timestamp.to(), base_fee_per_gas: block.basefee }
    }

    /// What follows runs in this block; it may be an earlier one.
    pub fn set_block(&mut self, block: Block) {
        let env = BlockEnv {
            number: U256::from(block.number),
            timestamp: U256::from(block.timestamp),
            basefee: block.base_fee_per_gas,
            gas_limit: u64::MAX,
            ..BlockEnv::default()
        };
        self.machine.set_block(env);
    }

    /// Moves time on, one block in which `seconds` have gone by.
    pub fn advance(&mut self, seconds: u64) {
        let Block { number, timestamp, base_fee_per_gas } = self.block();
        self.set_block(Block { number: number + 1, timestamp: timestamp + seconds, base_fee_per_gas });
    }

    /// Creates a contract; the constructor's arguments are ABI-encoded, empty where it has none.
    ///
    /// # Errors
    /// A constructor that reverts, with its reason; code beyond the limit; libraries that were not linked.
    pub fn deploy(&mut self, from: Address, code: &[u8], arguments: &[u8]) -> anyhow::Result<Address> {
        self.deploy_with_value(from, U256::ZERO, code, arguments)
    }

    /// As [`Evm::deploy`], with wei for a payable constructor.
    ///
    /// # Errors
    /// As [`Evm::deploy`], or a creator that does not have the wei.
    pub fn deploy_with_value(
        &mut self,
        from: Address,
        value: U256,
        code: &[u8],
        arguments: &[u8],
    ) -> anyhow::Result<Address> {
        let data = [code, arguments].concat().into();
        let result = self.execute(from, TxKind::Create, value, data).context("creating a contract")?;
        let ExecutionResult::Success { output: Output::Create(_, Some(address)), .. } = &result.result else {
            return Err(failure(result.result).context("creating a contract"));
        };
        let address = *address;
        self.world().apply(result.state);
        Ok(address)
    }

    /// Runs a message for good.
    ///
    /// # Errors
    /// A revert (see [`Failure`]); then nothing has changed but the sender's nonce.
    pub fn transact(&mut self, message: &Message) -> Result<Receipt, Failure> {
        let result = self.run(message)?;
        let receipt = receipt(result.result);
        self.world().apply(result.state);
        receipt
    }

    /// Runs a message and forgets what it changed.
    ///
    /// # Errors
    /// A revert (see [`Failure`]).
    pub fn call(&mut self, message: &Message) -> Result<Receipt, Failure> {
        receipt(self.run(message)?.result)
    }

    /// Sends a function call for good and decodes what it returned.
    ///
    /// # Errors
    /// A revert, with the function's name and the reason.
    pub fn send<C: SolCall>(&mut self, from: Address, to: Address, call: &C) -> anyhow::Result<C::Return> {
        let receipt = self.transact(&Message::new(from, to, call)).with_context(|| named::<C>(to))?;
        receipt.returned::<C>()
    }

    /// Asks a contract something, from nobody's account.
    ///
    /// # Errors
    /// A revert, with the function's name and the reason.
    pub fn read<C: SolCall>(&mut self, of: Address, call: &C) -> anyhow::Result<C::Return> {
        let receipt = self.call(&Message::new(Address::ZERO, of, call)).with_context(|| named::<C>(of))?;
        receipt.returned::<C>()
    }

    /// Gives an account wei out of nowhere.
    pub fn fund(&mut self, account: Address, wei: U256) {
        let balance = self.balance(account).saturating_add(wei);
        self.world().set_balance(account, balance);
    }

    /// Wei.
    pub fn balance(&self, account: Address) -> U256 {
        self.machine.ctx.journaled_state.database.balance(account)
    }

    /// How many transactions it has sent, or contracts it has created.
    pub fn nonce(&self, account: Address) -> u64 {
        self.machine.ctx.journaled_state.database.nonce(account)
    }

    /// The runtime code; empty where none is.
    pub fn code(&self, account: Address) -> Bytes {
        self.machine.ctx.journaled_state.database.code(account)
    }

    /// Puts runtime code at an address, without a constructor.
    pub fn place(&mut self, account: Address, code: Bytes) {
        self.world().place(account, code);
    }

    /// One word of a contract's storage; zero where nothing was written.
    pub fn storage(&self, account: Address, slot: U256) -> U256 {
        self.machine.ctx.journaled_state.database.slot(account, slot)
    }

    /// Overwrites one word of a contract's storage.
    pub fn set_storage(&mut self, account: Address, slot: U256, value: U256) {
        self.world().set_slot(account, slot, value);
    }

    /// What [`Evm::revert`] goes back to. Costs nothing by itself; from then on every change is remembered.
    pub fn snapshot(&mut self) -> Snapshot {
        let block = self.block();
        self.world().snapshot(block)
    }

    /// Takes back everything since the snapshot, the block included; costs what was changed. The snapshot stays good, later
    /// ones are gone.
    ///
    /// # Errors
    /// A snapshot that was taken after one that has been gone back to, or given up.
    pub fn revert(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let block = self.world().revert(snapshot)?;
        self.set_block(block);
        Ok(())
    }

    /// Gives up all snapshots, and the memory that they take.
    pub fn forget_snapshots(&mut self) {
        self.world().forget_snapshots();
    }

    fn world(&mut self) -> &mut World {
        &mut self.machine.ctx.journaled_state.database
    }

    fn run(&mut self, message: &Message) -> Result<ExecResultAndState<ExecutionResult>, Failure> {
        let Message { from, to, value, data } = message;
        self.execute(*from, TxKind::Call(*to), *value, data.clone()).map_err(Failure::Refused)
    }

    fn execute(
        &mut self,
        from: Address,
        kind: TxKind,
        value: U256,
        data: Bytes,
    ) -> anyhow::Result<ExecResultAndState<ExecutionResult, EvmState>> {
        let transaction = TxEnv {
            caller: from,
            kind,
            value,
            data,
            nonce: self.nonce(from),
            gas_limit: GAS_LIMIT,
            gas_price: 0,
            chain_id: None,
            ..TxEnv::default()
        };
        self.machine.transact(transaction).map_err(|error| anyhow!("not a transaction: {error}"))
    }
}

impl std::fmt::Debug for Evm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evm").field("block", &self.block()).finish_non_exhaustive()
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reverted(revert) => write!(f, "reverted: {revert}"),
            Self::Halted(reason) => write!(f, "halted: {reason:?}"),
            Self::Refused(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for Failure {}

fn named<C: SolCall>(to: Address) -> String {
    format!("{} of {to}", C::SIGNATURE)
}

fn receipt(result: ExecutionResult) -> Result<Receipt, Failure> {
    match result {
        ExecutionResult::Success { gas, logs, output, .. } => {
            Ok(Receipt { output: output.into_data(), logs, gas_used: gas.tx_gas_used() })
        }
        ExecutionResult::Revert { output, .. } => Err(Failure::Reverted(Revert::new(output))),
        ExecutionResult::Halt { reason, .. } => Err(Failure::Halted(reason)),
    }
}

fn failure(result: ExecutionResult) -> anyhow::Error {
    match receipt(result) {
        Ok(_) => anyhow!("the creation left no contract"),
        Err(failure) => failure.into(),
    }
}

/// The hash that names a block whose hash nobody knows: a chain in memory seals none.
fn pretended_hash(number: u64) -> B256 {
    alloy_primitives::keccak256(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{address, bytes};
    use alloy_sol_types::sol;

    use super::*;

    sol! {
        function add(uint256 amount) external returns (uint256 sum);
        event Summed(uint256 sum);
    }

    const ALICE: Address = address!("00000000000000000000000000000000000a11ce");

    /// Adds its argument to slot 0, logs and returns the sum; reverts with the block's number and timestamp and the base fee
    /// where the argument is zero.
    ///
    /// `CALLDATALOAD(4) DUP1 JUMPI(22)`, the revert, and from 22 the sum, its log and its return. Creation code copies it out.
    fn adder() -> Vec<u8> {
        let topic = Summed::SIGNATURE_HASH;
        let revert = bytes!("6004358060165743 5f52 42602052 48604052 60605f fd");
        let head = [&bytes!("5b5f54 01 80 5f55 5f52 7f")[..], topic.as_slice()].concat();
        let runtime = [&revert[..], &head, &bytes!("60205f a1 60205f f3")].concat();
        let creation = [&[0x60, runtime.len() as u8][..], &bytes!("80600a5f395ff300")].concat();
        assert_eq!(creation.len(), 10);
        [creation, runtime].concat()
    }

    fn chain() -> (Evm, Address) {
        let mut evm = Evm::new(&Parameters::default());
        let adder = evm.deploy(ALICE, &adder(), &[]).expect("the constructor returns the code");
        (evm, adder)
    }

    fn add(evm: &mut Evm, adder: Address, amount: u64) -> Result<Receipt, Failure> {
        evm.transact(&Message::new(ALICE, adder, &addCall { amount: U256::from(amount) }))
    }

    #[test]
    fn a_transaction_stays_and_a_call_is_forgotten() {
        let (mut evm, adder) = chain();
        let receipt = add(&mut evm, adder, 40).expect("it adds");
        let summed: Vec<_> = receipt.events::<Summed>(adder).into_iter().map(|event| event.sum).collect();
        assert_eq!((summed, evm.nonce(ALICE)), (vec![U256::from(40)], 2));
        let two = addCall { amount: U256::from(2) };
        assert_eq!(evm.read(adder, &two).expect("it adds"), U256::from(42));
        assert_eq!(evm.storage(adder, U256::ZERO), U256::from(40));
        assert!((21_000..60_000).contains(&receipt.gas_used), "{}", receipt.gas_used);
    }

    #[test]
    fn a_revert_is_an_error_with_what_it_said() {
        let (mut evm, adder) = chain();
        evm.set_block(Block { number: 7, timestamp: 8, base_fee_per_gas: 9 });
        let Err(Failure::Reverted(revert)) = add(&mut evm, adder, 0) else { panic!("it reverts") };
        let words: Vec<_> = revert.data.chunks(32).map(U256::from_be_slice).collect();
        assert_eq!(words, [7, 8, 9].map(U256::from));
        let error = evm.send(ALICE, adder, &addCall { amount: U256::ZERO }).expect_err("it reverts");
        assert!(format!("{error:#}").contains("add(uint256)"), "{error:#}");
    }

    #[test]
    fn a_snapshot_is_gone_back_to_as_often_as_one_likes() {
        let (mut evm, adder) = chain();
        add(&mut evm, adder, 1).expect("it adds");
        let first = evm.snapshot();
        let block = evm.block();
        for _ in 0..2 {
            evm.advance(12);
            add(&mut evm, adder, 10).expect("it adds");
            let second = evm.snapshot();
            evm.fund(ALICE, U256::from(5));
            evm.place(ALICE, bytes!("00"));
            let other = evm.deploy(ALICE, &super::tests::adder(), &[]).expect("a contract");
            evm.revert(&first).expect("the snapshot is good");
            assert!(evm.revert(&second).is_err(), "a later snapshot is gone");
            assert_eq!((evm.storage(adder, U256::ZERO), evm.nonce(ALICE)), (U256::ONE, 2));
            assert_eq!((evm.block(), evm.balance(ALICE)), (block, U256::ZERO));
            assert!(evm.code(other).is_empty() && evm.code(ALICE).is_empty() && !evm.code(adder).is_empty());
        }
        evm.forget_snapshots();
        assert!(evm.revert(&first).is_err());
    }

    #[test]
    fn value_is_moved_and_cannot_be_made_up() {
        let (mut evm, _) = chain();
        let bob = Address::repeat_byte(0xb0);
        let gift = Message { from: ALICE, to: bob, value: U256::from(3), data: Bytes::new() };
        assert!(matches!(evm.transact(&gift), Err(Failure::Refused(_))));
        evm.fund(ALICE, U256::from(5));
        evm.transact(&gift).expect("she has it");
        assert_eq!((evm.balance(ALICE), evm.balance(bob)), (U256::from(2), U256::from(3)));
    }

    #[test]
    fn code_is_limited_unless_somebody_says_otherwise() {
        // Returns 0x7000 zero bytes, which is more than EIP-170 allows.
        let code = bytes!("6170005ff3");
        let deploy = |unlimited_code_size| {
            let parameters = Parameters { unlimited_code_size, ..Parameters::default() };
            Evm::new(&parameters).deploy(ALICE, &code, &[])
        };
        assert!(deploy(false).is_err());
        assert!(deploy(true).is_ok());
    }
}
