//! Aave V2 and V3 on their own bytecode: a pool with reserves, categories, an oracle whose answers can be set, and a sentinel.
//!
//! The releases differ in their constructors and in what can be configured; what users do is the same.

pub mod contracts;
mod deployment;
mod second;

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall;
use anyhow::Context;

use self::contracts::{
    Aggregator, Configurator, ConfiguratorV2, ConfiguratorV3_6, Oracle, Pool, Sentinel, Sequencer, Token,
};
use crate::evm::{Artifact, Evm, Failure, Message, Receipt};

pub use self::deployment::{Builder, CATEGORIES, Category, Protocol, RESERVES, Terms};

/// Which release the contracts are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// `@aave/protocol-v2` 1.0.1.
    V2,
    /// `@aave/core-v3` 1.19.3.
    V3_0,
    /// `@aave-dao/aave-v3-origin` 3.6.0.
    V3_6,
}

/// Compiled contracts by name; libraries are linked as they are met.
#[derive(Clone, Debug, Default)]
pub struct Contracts(pub BTreeMap<String, Artifact>);

/// A chain that contracts can be put on: one in memory, or a node's.
pub trait Ground {
    /// Creates a contract; the arguments of its constructor stand behind its code.
    ///
    /// # Errors
    /// A constructor that reverts.
    fn create(&mut self, from: Address, code: &[u8]) -> anyhow::Result<Address>;

    /// Sends a call for good.
    ///
    /// # Errors
    /// A revert.
    fn send<C: SolCall>(&mut self, from: Address, to: Address, call: &C) -> anyhow::Result<()>;

    /// Asks a contract something.
    ///
    /// # Errors
    /// A revert.
    fn read<C: SolCall>(&mut self, of: Address, call: &C) -> anyhow::Result<C::Return>;
}

impl Ground for &mut Evm {
    fn create(&mut self, from: Address, code: &[u8]) -> anyhow::Result<Address> {
        Evm::deploy(self, from, code, &[])
    }

    fn send<C: SolCall>(&mut self, from: Address, to: Address, call: &C) -> anyhow::Result<()> {
        Evm::send(self, from, to, call).map(drop)
    }

    fn read<C: SolCall>(&mut self, of: Address, call: &C) -> anyhow::Result<C::Return> {
        Evm::read(self, of, call)
    }
}

/// One asset of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// The underlying token.
    pub asset: Address,
    /// What suppliers hold.
    pub a_token: Address,
    /// What borrowers owe at the variable rate.
    pub variable_debt: Address,
    /// What borrowers owe at rates of their own; zero after 3.0.
    pub stable_debt: Address,
    /// Says the price.
    pub aggregator: Address,
    /// Of the underlying token.
    pub decimals: u8,
}

/// A deployed pool and the chain that it lives on.
#[derive(Debug)]
pub struct World {
    /// The chain.
    pub evm: Evm,
    /// Whose contracts.
    pub release: Release,
    /// May do everything that is not a user's business.
    pub admin: Address,
    /// Receives the protocol's fees.
    pub treasury: Address,
    /// The pool's proxy.
    pub pool: Address,
    /// The configurator's proxy.
    pub configurator: Address,
    /// `AaveOracle`.
    pub oracle: Address,
    /// `PriceOracleSentinel`; the zero address in V2.
    pub sentinel: Address,
    /// What the sentinel asks; the zero address in V2.
    pub sequencer: Address,
    /// In the order of the pool's list. The last one of V2 is frozen, and nobody ever has anything of it.
    pub reserves: Vec<Site>,
    /// The price source of category 1 in 3.0, and its aggregator.
    pub category_source: Option<(Address, Address)>,
    /// A dollar in the base currency: eight decimals, or in V2 two thousandths of an ether.
    pub dollar: U256,
}

impl World {
    /// Sends a call and keeps what it did.
    ///
    /// # Errors
    /// A revert.
    pub fn act<C: SolCall>(&mut self, from: Address, to: Address, call: &C) -> Result<Receipt, Failure> {
        self.evm.transact(&Message::new(from, to, call))
    }

    /// Sends a call to the pool.
    ///
    /// # Errors
    /// A revert.
    pub fn in_pool<C: SolCall>(&mut self, from: Address, call: &C) -> Result<Receipt, Failure> {
        self.act(from, self.pool, call)
    }

    /// Sends a call of the administrator to the configurator.
    ///
    /// # Errors
    /// A revert.
    pub fn configure<C: SolCall>(&mut self, call: &C) -> Result<Receipt, Failure> {
        self.act(self.admin, self.configurator, call)
    }

    /// `Pool.getUserAccountData`.
    ///
    /// # Errors
    /// A revert.
    pub fn account_data(&mut self, account: Address) -> anyhow::Result<Pool::getUserAccountDataReturn> {
        self.evm.read(self.pool, &Pool::getUserAccountDataCall { user: account })
    }

    /// `AaveOracle.getAssetPrice`.
    ///
    /// # Errors
    /// A revert.
    pub fn price(&mut self, source: Address) -> anyhow::Result<U256> {
        self.evm.read(self.oracle, &Oracle::getAssetPriceCall { asset: source })
    }

    /// Makes an aggregator say this from now on.
    pub fn set_price(&mut self, aggregator: Address, price: U256) {
        // `MockAggregator._latestAnswer` is its only variable.
        self.evm.set_storage(aggregator, U256::ZERO, price);
    }

    /// The price that an asset of [`RESERVES`] began with.
    pub fn home(&self, place: usize) -> U256 {
        U256::from(RESERVES[place].price) * self.dollar / U256::from(100_000_000)
    }

    /// Whether the oracle asks nobody for the price of this asset: one ether is one ether in V2.
    pub fn is_fixed(&self, place: usize) -> bool {
        self.release == Release::V2 && place == 0
    }

    /// `PriceOracleSentinel.isLiquidationAllowed`; V2 has none.
    ///
    /// # Errors
    /// A revert.
    pub fn liquidation_allowed(&mut self) -> anyhow::Result<bool> {
        if self.release == Release::V2 {
            return Ok(true);
        }
        self.evm.read(self.sentinel, &Sentinel::isLiquidationAllowedCall {})
    }

    /// Tells the sentinel's source that the sequencer is down, or since when it is up again; nobody in V2.
    ///
    /// # Errors
    /// A revert.
    pub fn set_sequencer(&mut self, down: bool, since: u64) -> anyhow::Result<()> {
        if self.release == Release::V2 {
            return Ok(());
        }
        let call = Sequencer::setAnswerCall { isDown: down, timestamp: U256::from(since) };
        self.evm.send(self.admin, self.sequencer, &call).map(drop)
    }

    /// Pauses a reserve, or ends the pause; with a grace period where the release has one. V2 pauses all at once.
    ///
    /// # Errors
    /// A revert.
    pub fn set_pause(&mut self, asset: Address, paused: bool, grace: u64) -> Result<Receipt, Failure> {
        match self.release {
            Release::V2 => self.configure(&ConfiguratorV2::setPoolPauseCall { val: paused }),
            Release::V3_0 => self.configure(&Configurator::setReservePauseCall { asset, paused }),
            Release::V3_6 => {
                let grace = alloy_primitives::Uint::from(grace);
                self.configure(&ConfiguratorV3_6::setReservePauseCall { asset, paused, gracePeriod: grace })
            }
        }
    }

    /// Gives an account tokens, and the pool the right to take them.
    ///
    /// # Errors
    /// A revert.
    pub fn endow(&mut self, account: Address, site: &Site, amount: U256) -> anyhow::Result<()> {
        self.evm.send(account, site.asset, &Token::mintCall { account, value: amount })?;
        let approval = Token::approveCall { spender: self.pool, value: U256::MAX };
        self.evm.send(account, site.asset, &approval).map(drop)
    }

    /// An ERC-20 balance.
    ///
    /// # Errors
    /// A revert.
    pub fn balance(&mut self, token: Address, account: Address) -> anyhow::Result<U256> {
        self.evm.read(token, &Token::balanceOfCall { account })
    }

    /// What an aggregator says.
    ///
    /// # Errors
    /// A revert, or a negative price.
    pub fn answer(&mut self, aggregator: Address) -> anyhow::Result<U256> {
        let answer = self.evm.read(aggregator, &Aggregator::latestAnswerCall {})?;
        U256::try_from(answer).context("a negative price")
    }
}

impl Contracts {
    /// The contract that goes by this name.
    ///
    /// # Errors
    /// None does.
    pub fn named(&self, name: &str) -> anyhow::Result<&Artifact> {
        self.0.get(name).with_context(|| format!("no contract {name}"))
    }
}
