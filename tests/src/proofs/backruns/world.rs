//! Two exchanges of Uniswap V2 with their routers over the same three tokens, in an EVM in memory; and their users.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use alloy_primitives::{Address, B256, BlockHash, Bytes, U256, keccak256};
use alloy_sol_types::{SolCall, SolValue, sol};
use anyhow::Context;
use headwater_events::{AsOf, Protocol};
use headwater_market::{Head, MarketSnapshot, PoolMeta, PoolTable, Reserves};
use headwater_reference::evm::{Evm, Message, Parameters};
use headwater_simulation::{AccountState, BlockFigures, SimulationError, StateReader};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::devnet::Artifacts;

sol! {
    function createPair(address tokenA, address tokenB) external returns (address pair);
    function mint(address to, uint256 amount) external;
    function deposit() external payable;
    function transfer(address to, uint256 amount) external returns (bool);
    function approve(address spender, uint256 amount) external returns (bool);
    function balanceOf(address owner) external view returns (uint256);
    interface Pair {
        function mint(address to) external returns (uint256 liquidity);
    }
}

/// Who deploys and provides the liquidity.
const OWNER: Address = Address::repeat_byte(0x0a);

/// Blocks come so many seconds apart.
pub(super) const BLOCK_TIME: u64 = 12;

const GAS_LIMIT: u64 = 30_000_000;

/// The chain, as its judges see it.
#[derive(Clone)]
pub(super) struct Chain(Rc<RefCell<Evm>>);

/// The same chain as the part under test reads it. An EVM stays on its thread, and so do the questions.
#[derive(Debug)]
pub(super) struct Reader;

thread_local! {
    static READ: RefCell<Option<Chain>> = const { RefCell::new(None) };
}

/// An answer from the chain of this thread.
fn read<T>(ask: impl FnOnce(&Evm) -> T) -> Result<T, SimulationError> {
    let chain = READ.with_borrow(Clone::clone).ok_or(SimulationError::Unavailable)?;
    Ok(ask(&chain.evm()))
}

/// What stands on it.
pub(super) struct World {
    pub(super) chain: Chain,
    /// Router and factory of each exchange.
    pub(super) exchanges: [[Address; 2]; 2],
    /// The second is the wrapped native token.
    pub(super) tokens: [Address; 3],
    pub(super) users: Vec<Address>,
    pub(super) pools: PoolTable,
}

impl Chain {
    pub(super) fn evm(&self) -> RefMut<'_, Evm> {
        self.0.borrow_mut()
    }
}

impl World {
    pub(super) fn new(random: &mut ChaCha8Rng, artifacts: &Artifacts) -> anyhow::Result<Self> {
        let mut evm = Evm::new(&Parameters::default());
        evm.fund(OWNER, U256::MAX >> 8);
        let code = |path: &str| artifacts.contract(path)?.creation_code();
        let plain = code("@uniswap/v4-core/out/TestERC20.sol/TestERC20.json")?;
        let mut plain_token = || evm.deploy(OWNER, &plain, &U256::ZERO.abi_encode());
        let (first, third) = (plain_token()?, plain_token()?);
        let wrapped = evm.deploy(OWNER, &code("@uniswap/v2-periphery/build/WETH9.json")?, &[])?;
        let tokens = [first, wrapped, third];
        let mut exchanges = [[Address::ZERO; 2]; 2];
        for exchange in &mut exchanges {
            let factory = artifacts.factory_v2()?.creation_code()?;
            let factory = evm.deploy(OWNER, &factory, &OWNER.abi_encode()).context("the factory")?;
            let router = code("@uniswap/v2-periphery/build/UniswapV2Router02.json")?;
            let router =
                evm.deploy(OWNER, &router, &(factory, wrapped).abi_encode()).context("the router")?;
            *exchange = [router, factory];
        }
        let users = (1..=6).map(|number| Address::repeat_byte(0x50 + number)).collect();
        let chain = Chain(Rc::new(RefCell::new(evm)));
        READ.set(Some(chain.clone()));
        let mut world = Self { chain, exchanges, tokens, users, pools: PoolTable::default() };
        world.open_pools(random)?;
        world.endow_users()?;
        Ok(world)
    }

    /// Every pair of tokens on both exchanges, at much the same price.
    fn open_pools(&mut self, random: &mut ChaCha8Rng) -> anyhow::Result<()> {
        let [a, b, c] = self.tokens;
        let scale = U256::from(10).pow(U256::from(18));
        for (one, other, price) in [(a, b, 2u64), (b, c, 3), (a, c, 6)] {
            for [_, factory] in self.exchanges {
                let depth = scale * U256::from(random.random_range(1_000u64..50_000));
                let pair = {
                    let mut evm = self.chain.evm();
                    evm.send(OWNER, factory, &createPairCall { tokenA: one, tokenB: other })?
                };
                self.give(one, pair, depth)?;
                self.give(other, pair, depth * U256::from(price))?;
                self.chain.evm().send(OWNER, pair, &Pair::mintCall { to: OWNER })?;
                let meta = PoolMeta {
                    address: pair,
                    factory,
                    protocol: Protocol::UniswapV2,
                    token0: one.min(other),
                    token1: one.max(other),
                    fee_ppm: 3_000,
                };
                self.pools.insert(meta, true);
            }
        }
        Ok(())
    }

    fn endow_users(&mut self) -> anyhow::Result<()> {
        let much = U256::from(10).pow(U256::from(24));
        for user in self.users.clone() {
            self.chain.evm().fund(user, much);
            for token in self.tokens {
                self.give(token, user, much)?;
                let spenders = self.exchanges.map(|[router, _]| router).into_iter().chain([private(user)]);
                for spender in spenders {
                    self.chain.evm().send(user, token, &approveCall { spender, amount: U256::MAX })?;
                }
            }
        }
        Ok(())
    }

    /// Out of nowhere, or wrapped.
    fn give(&self, token: Address, to: Address, amount: U256) -> anyhow::Result<()> {
        let mut evm = self.chain.evm();
        if token == self.tokens[1] {
            evm.transact(&Message::new(OWNER, token, &depositCall {}).with_value(amount))?;
            evm.send(OWNER, token, &transferCall { to, amount })?;
        } else {
            evm.transact(&Message::new(OWNER, token, &mintCall { to, amount }))?;
        }
        Ok(())
    }

    /// The market behind the last block, with the pairs' own reserves.
    pub(super) fn market(&mut self) -> MarketSnapshot {
        let evm = self.chain.evm();
        let held: Vec<_> =
            self.pools.iter().map(|(id, meta, _)| (id, reserves(&evm, meta.address))).collect();
        for (id, reserves) in held {
            self.pools.set_reserves(id, Some(reserves));
        }
        let next = evm.block();
        let figures = figures(&evm);
        let as_of = AsOf { seq: next.number, number: next.number - 1, hash: hash(next.number - 1) };
        let head = Head {
            timestamp: figures.timestamp,
            base_fee_per_gas: figures.base_fee_per_gas,
            gas_used: figures.gas_used,
            gas_limit: figures.gas_limit,
        };
        MarketSnapshot::of_pools(as_of, head, self.pools.clone())
    }
}

/// The contract of a user's own.
pub(super) fn private(user: Address) -> Address {
    Address::from_word(keccak256([user.as_slice(), b"private"].concat()))
}

/// By the pair's storage: `reserve0` and `reserve1` stand in slot 8 (v2-core `UniswapV2Pair.sol`).
pub(super) fn reserves(evm: &Evm, pair: Address) -> Reserves {
    let word = evm.storage(pair, U256::from(8));
    let mask = (U256::ONE << 112usize) - U256::ONE;
    Reserves { reserve0: (word & mask).to(), reserve1: ((word >> 112usize) & mask).to() }
}

pub(super) fn balance(evm: &mut Evm, token: Address, owner: Address) -> anyhow::Result<U256> {
    evm.read(token, &balanceOfCall { owner })
}

pub(super) fn hash(number: u64) -> B256 {
    keccak256(number.to_be_bytes())
}

/// What the block before the one that is open looked like.
fn figures(evm: &Evm) -> BlockFigures {
    let next = evm.block();
    BlockFigures {
        number: next.number - 1,
        timestamp: next.timestamp - BLOCK_TIME,
        base_fee_per_gas: Some(next.base_fee_per_gas),
        // At its target, so that the base fee stays.
        gas_used: GAS_LIMIT / 2,
        gas_limit: GAS_LIMIT,
        beneficiary: Address::repeat_byte(0xbe),
    }
}

impl StateReader for Reader {
    async fn block(&self, _hash: BlockHash) -> Result<BlockFigures, SimulationError> {
        read(figures)
    }

    async fn account(&self, _at: BlockHash, address: Address) -> Result<AccountState, SimulationError> {
        read(|evm| AccountState {
            balance: evm.balance(address),
            nonce: evm.nonce(address),
            code: evm.code(address),
        })
    }

    async fn slot(&self, _at: BlockHash, address: Address, slot: U256) -> Result<U256, SimulationError> {
        read(|evm| evm.storage(address, slot))
    }

    async fn hash_of(&self, _at: BlockHash, number: u64) -> Result<BlockHash, SimulationError> {
        Ok(hash(number))
    }
}

/// The calldata of a call.
pub(super) fn data<C: SolCall>(call: &C) -> Bytes {
    call.abi_encode().into()
}
