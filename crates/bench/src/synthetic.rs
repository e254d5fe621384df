//! Markets of the shape that a real chain has: most pools against the wrapped native token, some against a stablecoin, a
//! long tail of tokens with few pools each, prices that agree, and a few pools per block that do not.

use std::collections::HashMap;
use std::sync::Arc;

use alloy_primitives::{Address, U256};
use headwater_events::{AsOf, DecodedBlock, Protocol};
use headwater_market::{
    Head, MarketSnapshot, PoolId, PoolMeta, PoolTable, PriceSnapshot, Reserves, Touched, WholeView,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A market and what happens to it.
#[derive(Clone, Debug)]
pub struct SyntheticMarket {
    table: PoolTable,
    /// By token: worth of a smallest unit.
    prices: Vec<f64>,
    /// Pools by pair of tokens.
    parallel: HashMap<(usize, usize), usize>,
    random: ChaCha8Rng,
}

/// Pools that a block touches, as far as this market goes.
pub const TOUCHED: usize = 50;
/// Pools of the same two tokens: as many as there are factories that matter.
const PARALLEL: usize = 6;
/// Touched pools whose price is moved by a few per cent.
const SHOCKED: usize = 2;

impl SyntheticMarket {
    /// A market of so many pools in which no cycle gains.
    pub fn new(seed: u64, pools: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let tokens = pools * 6 / 10 + 2;
        let prices = (0..tokens).map(|_| 10f64.powf(random.random_range(-3.0..1.0))).collect();
        let mut market = Self { table: PoolTable::default(), prices, parallel: HashMap::new(), random };
        for number in 0..pools {
            market.add_pool(number);
        }
        market
    }

    /// The tokens that cycles begin with: the wrapped native token and the stablecoin.
    pub fn base_tokens(&self) -> Vec<Address> {
        vec![token(0), token(1)]
    }

    /// The view of the first block: everything is new.
    pub fn first_view(&self) -> WholeView {
        view(0, &self.table, Touched::All)
    }

    /// The views of a row of blocks, each of which touches about [`TOUCHED`] pools. The first follows the last as well as
    /// the market before, so that the row can be walked round and round.
    pub fn views(&mut self, blocks: usize) -> Vec<WholeView> {
        let disturbed: Vec<Vec<PoolId>> = (0..blocks).map(|_| self.random_pools(TOUCHED / 2)).collect();
        (0..blocks).map(|at| self.disturbed_view(&disturbed, at)).collect()
    }

    /// The market with the pools of one block out of line; those of the block before are back in it.
    fn disturbed_view(&mut self, disturbed: &[Vec<PoolId>], at: usize) -> WholeView {
        let mut table = self.table.clone();
        for (index, id) in disturbed[at].iter().enumerate() {
            let most = if index < SHOCKED { 0.02 } else { 0.000_5 };
            disturb(&mut table, *id, 1.0 + self.random.random_range(-most..most));
        }
        let before = &disturbed[(at + disturbed.len() - 1) % disturbed.len()];
        let mut touched: Vec<_> = before.iter().chain(&disturbed[at]).copied().collect();
        touched.sort_unstable();
        touched.dedup();
        view(at as u64 + 1, &table, Touched::Pools(touched))
    }

    fn random_pools(&mut self, count: usize) -> Vec<PoolId> {
        let pools = self.table.len() as u32;
        (0..count).map(|_| PoolId(self.random.random_range(0..pools))).collect()
    }

    fn add_pool(&mut self, number: usize) {
        let (a, b) = self.pair_with_room();
        let (token0, token1, a, b) =
            if token(a) < token(b) { (token(a), token(b), a, b) } else { (token(b), token(a), b, a) };
        let mut address = [0x70; 20];
        address[12..].copy_from_slice(&(number as u64).to_be_bytes());
        let meta = PoolMeta {
            address: address.into(),
            factory: Address::ZERO,
            protocol: Protocol::UniswapV2,
            token0,
            token1,
            fee_ppm: 3000,
        };
        let id = self.table.insert(meta, true);
        let worth = 10f64.powf(self.random.random_range(18.0..22.0));
        let held = |token: usize| (worth / self.prices[token]) as u128;
        self.table.set_reserves(id, Some(Reserves { reserve0: held(a), reserve1: held(b) }));
    }

    fn pair_with_room(&mut self) -> (usize, usize) {
        loop {
            let (a, b) = self.random_pair();
            let pools = self.parallel.entry((a.min(b), a.max(b))).or_default();
            if *pools < PARALLEL {
                *pools += 1;
                return (a, b);
            }
        }
    }

    /// 70 % against token 0, 12 % against token 1, the rest between tokens that few have heard of.
    fn random_pair(&mut self) -> (usize, usize) {
        let tokens = self.prices.len();
        // Few tokens have most of the pools.
        let tail = |random: &mut ChaCha8Rng| {
            2 + ((tokens - 2) as f64 * random.random_range(0f64..1.0).powi(2)) as usize
        };
        let first = tail(&mut self.random);
        match self.random.random_range(0..100) {
            0..70 => (0, first),
            70..82 => (1, first),
            82..84 => (0, 1),
            _ => {
                let second = tail(&mut self.random);
                if first == second { (0, first) } else { (first, second) }
            }
        }
    }
}

fn disturb(table: &mut PoolTable, id: PoolId, by: f64) {
    if let Some(held) = table.reserves(id) {
        table.set_reserves(id, Some(Reserves { reserve0: (held.reserve0 as f64 * by) as u128, ..held }));
    }
}

fn token(number: usize) -> Address {
    let mut address = [0x10; 20];
    address[..8].copy_from_slice(&(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    address.into()
}

fn view(number: u64, table: &PoolTable, touched: Touched) -> WholeView {
    let as_of = AsOf { seq: number, number, hash: U256::from(number + 1).into() };
    let head = Head {
        timestamp: 0,
        base_fee_per_gas: Some(1_000_000_000),
        gas_used: 15_000_000,
        gas_limit: 30_000_000,
    };
    let market = MarketSnapshot::of_pools(as_of, head, table.clone());
    let prices =
        PriceSnapshot { as_of, quote: token(0), prices: Default::default(), sources: Default::default() };
    let decoded = DecodedBlock {
        as_of,
        actions: Vec::new(),
        unknown_logs: 0,
        unknown_calls: 0,
        malformed: 0,
        set_aside: false,
    };
    WholeView::new(Arc::new(market), Arc::new(prices), Arc::new(decoded), touched)
        .expect("the parts are made for one block")
}
