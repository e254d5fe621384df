//! A seeded market of many pools, and blocks that touch some of them.

use std::collections::HashMap;

use alloy_primitives::{Address, B256, Bytes, U256, b256, keccak256};
use headwater_reference::arbitrage;
use headwater_reference::fake_node::{BlockBuilder, FakeBlock, FakeLog, FakeTransaction, V2Pair, V2World};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The sizes of a load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Pools of the market.
    pub pools: usize,
    /// Pools that a block touches.
    pub touched: usize,
    /// Of those, pools that are shocked by about two percent; the others move within their fee.
    pub shocked: usize,
    /// Transactions of a block.
    pub transactions: usize,
    /// Logs of a block.
    pub logs: usize,
}

impl Default for Load {
    fn default() -> Self {
        Self { pools: 10_000, touched: 50, shocked: 2, transactions: 250, logs: 600 }
    }
}

/// keccak-256 of the pair's creation code, as Uniswap V2 on mainnet has it; any fixed value would do.
pub(super) const INIT_CODE_HASH: B256 =
    b256!("96e8ac4277198ff8b6f785478aa9a39f403cb768dd02cbee326c3e7da348845f");
/// Two factories, so that two pools can hold the same tokens.
pub(crate) const FACTORIES: [Address; 2] = [Address::repeat_byte(0xfa), Address::repeat_byte(0xfb)];
/// The wrapped native token.
pub(crate) const WETH: Address = Address::repeat_byte(0xee);
const USDC: Address = Address::repeat_byte(0xdc);

/// WETH per token at the start, times 10^18: prices lie far apart, as real ones do.
struct Token {
    address: Address,
    price: f64,
}

#[derive(Clone)]
struct Pool {
    address: Address,
    factory: Address,
    token0: Address,
    token1: Address,
    /// The reserves at which no cycle through the pool pays.
    fair: (u128, u128),
    /// The reserves now.
    now: (u128, u128),
}

/// Makes one block after the other.
#[derive(Clone)]
pub struct World {
    load: Load,
    pools: Vec<Pool>,
    /// Pools that the last block shocked: the next one puts them back.
    moved: Vec<usize>,
    known: HashMap<Address, usize>,
    /// Pools with a sibling, which a shock makes profitable.
    paired: Vec<usize>,
    random: ChaCha8Rng,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("load", &self.load).finish_non_exhaustive()
    }
}

impl World {
    /// The market at its start: 70 % of the pools hold WETH, 12 % USDC, the others two tail tokens; some have
    /// a sibling over the same two tokens.
    pub fn new(load: Load, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let tokens: Vec<Token> = (0..load.pools * 3 / 5)
            .map(|index| Token {
                address: Address::from_word(keccak256((index as u64).to_be_bytes())),
                price: 10f64.powf(random.random_range(-4.0..1.0)),
            })
            .collect();
        let usdc = Token { address: USDC, price: 1.0 / 3_000.0 };
        let weth = Token { address: WETH, price: 1.0 };
        let mut world = Self {
            load,
            pools: Vec::new(),
            moved: Vec::new(),
            known: HashMap::new(),
            paired: Vec::new(),
            random: random.clone(),
        };
        world.add(&weth, &usdc, &mut random);
        while world.pools.len() < load.pools {
            let token = &tokens[random.random_range(0..tokens.len())];
            let other = match random.random_range(0.0..1.0) {
                kind if kind < 0.70 => &weth,
                kind if kind < 0.82 => &usdc,
                _ => &tokens[random.random_range(0..tokens.len())],
            };
            if other.address != token.address {
                world.add(token, other, &mut random);
            }
        }
        world
    }

    /// A pool of the first factory; if it has one of these tokens already, one of the second, and then the two are
    /// siblings; if that has one as well, none.
    fn add(&mut self, a: &Token, b: &Token, random: &mut ChaCha8Rng) {
        let (low, high) = if a.address < b.address { (a, b) } else { (b, a) };
        let addresses = FACTORIES.map(|factory| pair_address(factory, low.address, high.address));
        let Some(place) = addresses.iter().position(|address| !self.known.contains_key(address)) else {
            return;
        };
        let weth_each_side = 10f64.powf(random.random_range(0.7..3.0));
        let units = |token: &Token| (weth_each_side / token.price * 1e18) as u128;
        let fair = (units(low), units(high));
        let (address, index) = (addresses[place], self.pools.len());
        if place == 1 {
            self.paired.extend([self.known[&addresses[0]], index]);
        }
        self.known.insert(address, index);
        let (factory, token0, token1) = (FACTORIES[place], low.address, high.address);
        self.pools.push(Pool { address, factory, token0, token1, fair, now: fair });
    }

    /// The same market with another future.
    pub fn diverted(&self, seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), ..self.clone() }
    }

    /// Other blocks from now on; the pools stay.
    pub fn reload(&mut self, load: Load) {
        self.load = Load { pools: self.load.pools, ..load };
    }

    /// The pools as they are now.
    pub fn pools(&self) -> Vec<arbitrage::Pool> {
        let pools = self.pools.iter().map(|pool| arbitrage::Pool {
            address: pool.address,
            token0: pool.token0,
            token1: pool.token1,
            reserve0: pool.now.0,
            reserve1: pool.now.1,
            fee_ppm: 3_000,
        });
        pools.collect()
    }

    /// The contracts, for the fake node's calls.
    pub fn contracts(&self) -> V2World {
        let mut tokens: Vec<Address> =
            self.pools.iter().flat_map(|pool| [pool.token0, pool.token1]).collect();
        tokens.sort_unstable();
        tokens.dedup();
        let world = tokens
            .iter()
            .fold(FACTORIES.into_iter().fold(V2World::default(), V2World::factory), |world, token| {
                world.token(*token, 18, "TKN")
            });
        self.pairs().into_iter().fold(world, V2World::pair)
    }

    /// The pairs with what they hold now.
    pub fn pairs(&self) -> Vec<V2Pair> {
        let pairs = self.pools.iter().map(|pool| V2Pair {
            address: pool.address,
            factory: pool.factory,
            token0: pool.token0,
            token1: pool.token1,
            reserve0: pool.now.0,
            reserve1: pool.now.1,
        });
        pairs.collect()
    }

    /// The next block: it puts back what the last one shocked, shocks others and moves some more within their fee.
    pub fn block(&mut self, parent: &FakeBlock) -> FakeBlock {
        let back = std::mem::take(&mut self.moved);
        for index in &back {
            self.pools[*index].now = self.pools[*index].fair;
        }
        self.paired.shuffle(&mut self.random);
        let shocked: Vec<usize> = self.paired.iter().copied().take(self.load.shocked).collect();
        for index in &shocked {
            self.shock(*index, 0.02);
        }
        let mut touched = back;
        touched.extend(shocked.iter().filter(|index| !touched.contains(index)).copied().collect::<Vec<_>>());
        while touched.len() < self.load.touched {
            let index = self.random.random_range(0..self.pools.len());
            if !touched.contains(&index) {
                self.shock(index, 0.0005);
                touched.push(index);
            }
        }
        self.moved = shocked;
        let swaps: Vec<Vec<FakeLog>> = touched.iter().map(|index| self.swap_logs(*index)).collect();
        let transactions = self.fill(swaps);
        BlockBuilder::child_of(parent).transactions(transactions).build()
    }

    /// Moves a pool along its product by a share of its price.
    fn shock(&mut self, index: usize, share: f64) {
        let up = self.random.random_bool(0.5);
        let pool = &mut self.pools[index];
        let factor = if up { (1.0 + share).sqrt() } else { 1.0 / (1.0 + share).sqrt() };
        pool.now = ((pool.fair.0 as f64 * factor) as u128, (pool.fair.1 as f64 / factor) as u128);
    }

    /// Two transfers, a sync and a swap: what a swap of the real pair emits.
    fn swap_logs(&self, index: usize) -> Vec<FakeLog> {
        let pool = &self.pools[index];
        let trader = Address::repeat_byte(0x7a);
        vec![
            transfer(pool.token0, trader, pool.address, 1_000_000),
            transfer(pool.token1, pool.address, trader, 1_000_000),
            FakeLog::sync(pool.address, pool.now.0, pool.now.1),
            FakeLog {
                address: pool.address,
                topics: vec![
                    keccak256("Swap(address,uint256,uint256,uint256,uint256,address)"),
                    trader.into_word(),
                    trader.into_word(),
                ],
                data: words(&[1_000_000, 0, 0, 1_000_000]),
            },
        ]
    }

    /// Spreads the swaps over the block's transactions and adds transfers up to its logs.
    fn fill(&mut self, mut swaps: Vec<Vec<FakeLog>>) -> Vec<FakeTransaction> {
        let mut others = self.load.logs.saturating_sub(swaps.iter().map(Vec::len).sum());
        (0..self.load.transactions)
            .map(|index| {
                let mut logs = swaps.pop().unwrap_or_default();
                let left = self.load.transactions - index;
                for _ in 0..others.div_ceil(left) {
                    others -= 1;
                    logs.push(self.some_transfer());
                }
                self.transaction(index, logs)
            })
            .collect()
    }

    fn some_transfer(&mut self) -> FakeLog {
        let token = self.pools[self.random.random_range(0..self.pools.len())].token0;
        let (from, to) = (self.account(), self.account());
        transfer(token, from, to, self.random.random())
    }

    /// One of a few thousand accounts, as a block's transfers come from.
    fn account(&mut self) -> Address {
        Address::from_word(keccak256(self.random.random_range(0..4_000u64).to_be_bytes()))
    }

    fn transaction(&mut self, index: usize, logs: Vec<FakeLog>) -> FakeTransaction {
        let mut input = vec![0u8; 4 + 32 * self.random.random_range(2..10usize)];
        self.random.fill(&mut input[..]);
        FakeTransaction {
            from: self.account(),
            to: Some(self.account()),
            input: input.into(),
            value: U256::from(self.random.random::<u64>()),
            nonce: index as u64,
            ..FakeTransaction::emitting(logs)
        }
    }
}

/// EIP-1014, as `UniswapV2Factory.createPair` does it.
fn pair_address(factory: Address, low: Address, high: Address) -> Address {
    factory.create2(keccak256([low.as_slice(), high.as_slice()].concat()), INIT_CODE_HASH)
}

fn transfer(token: Address, from: Address, to: Address, amount: u64) -> FakeLog {
    let topics = vec![keccak256("Transfer(address,address,uint256)"), from.into_word(), to.into_word()];
    FakeLog { address: token, topics, data: words(&[amount]) }
}

fn words(values: &[u64]) -> Bytes {
    values.iter().flat_map(|value| U256::from(*value).to_be_bytes::<32>()).collect::<Vec<_>>().into()
}
