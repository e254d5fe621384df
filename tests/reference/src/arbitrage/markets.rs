use alloy_primitives::Address;

use super::{Pool, Swap};

/// A market that can be repeated from its seed: tokens of 2 to 18 decimals, pools between them that disagree a little
/// about prices, and a trader who makes them drift apart.
#[derive(Clone, Debug)]
pub struct Market {
    /// The pools.
    pub pools: Vec<Pool>,
    /// Tokens that arbitrage may begin with, in order of preference.
    pub bases: Vec<Address>,
    random: Random,
}

/// Decimals and price in millionths of a dollar.
const TOKENS: [(u32, u64); 11] = [
    (18, 3_000_000_000),
    (6, 1_000_000),
    (18, 1_000_000),
    (6, 999_000),
    (8, 90_000_000_000),
    (18, 2_000_000_000),
    (18, 15_000_000),
    (9, 120_000),
    (2, 1_001_000),
    (18, 25),
    (0, 400_000_000),
];

const FEES: [u32; 8] = [3000, 3000, 3000, 2500, 2000, 1000, 500, 3333];

impl Market {
    /// A market of so many pools.
    pub fn new(seed: u64, pools: usize) -> Self {
        let mut market =
            Self { pools: Vec::new(), bases: vec![token(0), token(1), token(2)], random: Random(seed) };
        for number in 0..pools {
            let pool = market.random_pool(number);
            market.pools.push(pool);
        }
        market
    }

    /// Trades for one block; says which pools were touched, ascending.
    pub fn trade(&mut self) -> Vec<usize> {
        let trades = self.random.below(6);
        let mut touched: Vec<_> =
            (0..trades).map(|_| self.random.below(self.pools.len() as u64) as usize).collect();
        touched.sort_unstable();
        touched.dedup();
        for index in &touched {
            self.change(*index);
        }
        touched
    }

    /// A swap of up to 3 % of a reserve, and now and then liquidity that comes or goes.
    fn change(&mut self, index: usize) {
        let pool = self.pools[index];
        let per_mille = u128::from(self.random.below(3_000) + 1);
        let zero_in = self.random.below(2) == 0;
        let (reserve_in, reserve_out) =
            if zero_in { (pool.reserve0, pool.reserve1) } else { (pool.reserve1, pool.reserve0) };
        let amount_in = reserve_in * per_mille / 100_000;
        let swap = Swap { reserve_in, reserve_out, fee_ppm: pool.fee_ppm };
        let Some(amount_out) = swap.output(amount_in) else { return };
        let (after_in, after_out) = (reserve_in + amount_in, reserve_out - amount_out);
        let scale = if self.random.below(8) == 0 { u128::from(self.random.below(40) + 80) } else { 100 };
        let scaled = |reserve: u128| (reserve * scale / 100).max(1);
        let pool = &mut self.pools[index];
        (pool.reserve0, pool.reserve1) = if zero_in {
            (scaled(after_in), scaled(after_out))
        } else {
            (scaled(after_out), scaled(after_in))
        };
    }

    fn random_pool(&mut self, number: usize) -> Pool {
        // Half of the pools have a base token, as in life.
        let a = if self.random.below(2) == 0 {
            self.random.below(3)
        } else {
            self.random.below(TOKENS.len() as u64)
        };
        let b = (a + 1 + self.random.below(TOKENS.len() as u64 - 1)) % TOKENS.len() as u64;
        let (a, b) = (a as usize, b as usize);
        let (a, b) = if token(a) < token(b) { (a, b) } else { (b, a) };
        let dollars = 10f64.powf(2.5 + 5.0 * self.random.part());
        let disagreement = 0.985 + 0.03 * self.random.part();
        let mut address = [0x90; 20];
        address[12..].copy_from_slice(&(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        Pool {
            address: address.into(),
            token0: token(a),
            token1: token(b),
            reserve0: units(a, dollars),
            reserve1: units(b, dollars * disagreement),
            fee_ppm: FEES[self.random.below(FEES.len() as u64) as usize],
        }
    }
}

/// The address of a token; not in the order of their numbers.
fn token(number: usize) -> Address {
    Address::repeat_byte([0xc0, 0xa0, 0x6b, 0xda, 0x22, 0x9f, 0x51, 0xb2, 0x05, 0x95, 0xe4][number])
}

fn units(number: usize, dollars: f64) -> u128 {
    let (decimals, price) = TOKENS[number];
    ((dollars * 1e6 / price as f64 * 10f64.powi(decimals as i32)) as u128).max(1)
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// In 0..1.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
