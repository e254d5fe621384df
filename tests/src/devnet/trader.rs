//! Everybody who trades on the devnet, out of one seed.
//!
//! Three phases follow each other. While prices *drift*, random swaps through the routers move each pool by 0.1–3 %, on its
//! own, so that cycles become profitable; a lone arbitrageur closes one gap now and then. Then arbitrage *closes* them all: every
//! pool is swapped back to a common reference price. Then it is *quiet*: nothing moves by more than the fees absorb, and no
//! cycle is profitable. Pools with concentrated liquidity go through the same phases; what happens in lending is in phases of its own.
//! Through which router a swap goes, and each of the three, has a sequence of chance of its own. Sizes are computed in floating point (products, quotients, square roots: exact to IEEE 754 everywhere),
//! which is good enough for someone who makes prices and has none to hit.

#![expect(non_snake_case, reason = "the router's parameters keep their names in Solidity")]

use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::contracts::{Pair, Router};
use super::deployment::{LATE_POOLS, worth};
use super::routers::{Customers, PathSwap};
use super::{Addresses, DEPLOYER, Devnet, NEVER, Pool, concentrated, lending};

/// A pool this far from the reference price is swapped back: two such pools differ by less than twice the fee of 0.3 %, three by
/// less than three times, so that no cycle is profitable once all are within.
const CLOSED_WITHIN: f64 = 0.0015;

/// How far a quiet swap may move a price.
const WHISPER: f64 = 0.0003;

/// Where the crowd's other transactions keep the base fee, in wei.
const USUAL_BASE_FEE: f64 = 1e9;

/// Half of the devnet's gas limit, as EIP-1559 has it.
const GAS_TARGET: f64 = 15e6;

/// Blocks before the first new pair appears.
const NEW_PAIRS_AFTER: u64 = 100;

/// Everybody's orders, block by block.
#[derive(Clone, Debug)]
pub struct Trader {
    random: ChaCha8Rng,
    phase: Phase,
    /// Blocks left in this phase; closing has no such limit.
    left: u32,
    blocks: u64,
    pools: Vec<Pool>,
    /// How many of the late pairs were created.
    created: usize,
    reference: Reference,
    customers: Customers,
    concentrated: concentrated::Users,
    lending: lending::Users,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Drifting,
    Closing,
    Quiet,
}

/// What the world outside pays for a token: wei per smallest unit.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    wei_per_unit: Vec<(Address, f64)>,
}

/// One direction of a pool as it stands.
#[derive(Clone, Copy, Debug)]
struct Side {
    token_in: Address,
    token_out: Address,
    reserve_in: f64,
    reserve_out: f64,
}

/// A pool as it stands.
#[derive(Clone, Debug)]
struct Quote {
    pool: Pool,
    router: Address,
    reserves: [f64; 2],
}

/// A swap to be sent, before it is decided through which of the router's functions.
#[derive(Clone, Debug)]
struct Order {
    router: Address,
    path: Vec<Address>,
    amount_in: f64,
    amount_out: f64,
}

/// Whether one end of a path is ether itself rather than a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Tokens,
    FromEther,
    ToEther,
}

impl Trader {
    /// The same seed trades the same on the same chain.
    pub fn new(seed: u64, devnet: &Devnet) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            phase: Phase::Quiet,
            left: 3,
            blocks: 0,
            pools: devnet.addresses().pools.clone(),
            created: 0,
            reference: Reference::at_the_start(devnet.addresses()),
            customers: Customers::new(seed ^ 0x2047_e450_0000, devnet),
            concentrated: concentrated::Users::new(seed, devnet),
            lending: lending::Users::new(seed, devnet),
        }
    }

    /// Sends this block's transactions to the mempool: none to eight swaps or changes of liquidity, and what the rest of the
    /// world sends.
    ///
    /// # Errors
    /// A node that does not answer.
    pub fn trade(&mut self, devnet: &Devnet) -> anyhow::Result<()> {
        let quotes = self.quotes(devnet)?;
        let concentrated = self.concentrated.quotes(devnet)?;
        let reference = &self.reference;
        let is_closed = quotes.iter().all(|quote| reference.gap(quote).abs() <= CLOSED_WITHIN)
            && !concentrated.iter().any(|quote| quote.is_apart(reference));
        self.enter_phase(is_closed);
        self.crowd(devnet)?;
        match self.phase {
            Phase::Drifting => self.drift(devnet, &quotes)?,
            Phase::Closing => self.close(devnet, &quotes)?,
            Phase::Quiet => self.whisper(devnet, &quotes)?,
        }
        self.concentrated.act(devnet, self.phase, &self.reference, &concentrated)?;
        self.lending.act(devnet)?;
        self.blocks += 1;
        Ok(())
    }

    fn enter_phase(&mut self, is_closed: bool) {
        let (phase, left) = match self.phase {
            Phase::Closing if !is_closed => return,
            _ if self.left > 0 => {
                self.left -= 1;
                return;
            }
            Phase::Drifting => {
                self.reference.wander(&mut self.random);
                (Phase::Closing, 0)
            }
            Phase::Closing => (Phase::Quiet, self.random.random_range(4..=8)),
            Phase::Quiet => (Phase::Drifting, self.random.random_range(10..=17)),
        };
        (self.phase, self.left) = (phase, left);
    }

    /// Everybody else's transactions, as far as they matter here: they use gas, so that the base fee wanders around its usual
    /// value.
    fn crowd(&mut self, devnet: &Devnet) -> anyhow::Result<()> {
        let base_fee = devnet.head()?.base_fee_per_gas as f64;
        let calling = (1.0 - base_fee / USUAL_BASE_FEE).clamp(-0.5, 0.5);
        let noise = self.random.random_range(-0.25..0.25);
        let gas = (GAS_TARGET * (0.95 + calling + noise)).clamp(0.0, 16e6) as u64;
        let account = self.account(devnet);
        devnet.send(
            account,
            devnet.addresses().burner,
            U256::ZERO,
            abi_word(gas),
            gas + gas / 32 + 50_000,
        )?;
        Ok(())
    }

    fn drift(&mut self, devnet: &Devnet, quotes: &[Quote]) -> anyhow::Result<()> {
        for _ in 0..self.random.random_range(0..=8) {
            let quote = &quotes[self.random.random_range(0..quotes.len())];
            match self.random.random_range(0..100) {
                0..68 => self.swap_at_random(devnet, quote)?,
                68..82 => self.swap_through_two(devnet, quote, quotes)?,
                82..92 => self.swap_back(devnet, quote)?,
                92..96 => self.add_liquidity(devnet, quote)?,
                _ => self.remove_liquidity(devnet, quote)?,
            }
        }
        let due = self.blocks >= NEW_PAIRS_AFTER && self.random.random_range(0..20) == 0;
        if due && let Some(pair) = LATE_POOLS.get(self.created) {
            devnet.fund_pool(DEPLOYER, *pair)?;
            self.pools.push(devnet.addresses().pool(pair.0, pair.1, pair.2));
            self.created += 1;
        }
        Ok(())
    }

    fn close(&mut self, devnet: &Devnet, quotes: &[Quote]) -> anyhow::Result<()> {
        let apart: Vec<_> =
            quotes.iter().filter(|quote| self.reference.gap(quote).abs() > CLOSED_WITHIN).take(8).collect();
        apart.into_iter().try_for_each(|quote| self.swap_back(devnet, quote))
    }

    fn whisper(&mut self, devnet: &Devnet, quotes: &[Quote]) -> anyhow::Result<()> {
        for _ in 0..self.random.random_range(0..=2) {
            let quote = &quotes[self.random.random_range(0..quotes.len())];
            let side = quote.sides()[self.random.random_range(0..2)];
            let moved = self.random.random_range(WHISPER / 10.0..WHISPER);
            if self.reference.gap(quote).abs() + WHISPER < CLOSED_WITHIN * 1.2 {
                let order = Order::single(quote.router, side, side.amount_that_moves(moved));
                self.send(devnet, &order)?;
            }
        }
        Ok(())
    }

    fn swap_at_random(&mut self, devnet: &Devnet, quote: &Quote) -> anyhow::Result<()> {
        let side = quote.sides()[self.random.random_range(0..2)];
        let moved = self.random.random_range(0.001..0.03);
        self.send(devnet, &Order::single(quote.router, side, side.amount_that_moves(moved)))
    }

    /// On through another pool of the same exchange, where there is one.
    fn swap_through_two(&mut self, devnet: &Devnet, quote: &Quote, quotes: &[Quote]) -> anyhow::Result<()> {
        let first = quote.sides()[self.random.random_range(0..2)];
        let onward: Vec<Side> = quotes
            .iter()
            .filter(|other| other.router == quote.router && other.pool != quote.pool)
            .flat_map(Quote::sides)
            .filter(|side| side.token_in == first.token_out)
            .collect();
        if onward.is_empty() {
            return Ok(());
        }
        let second = onward[self.random.random_range(0..onward.len())];
        let moved = self.random.random_range(0.001..0.01);
        let mut order = Order::single(quote.router, first, first.amount_that_moves(moved));
        order.path.push(second.token_out);
        order.amount_out = second.amount_out(order.amount_out);
        self.send(devnet, &order)
    }

    /// The arbitrageur: back to the reference price.
    fn swap_back(&mut self, devnet: &Devnet, quote: &Quote) -> anyhow::Result<()> {
        let gap = self.reference.gap(quote);
        let [zero_for_one, one_for_zero] = quote.sides();
        // A pool that gives too much of token1 for token0 is given token0.
        let side = if gap > 0.0 { zero_for_one } else { one_for_zero };
        let target = self.reference.rate(side.token_in, side.token_out);
        let amount_in = side.amount_that_reaches(target);
        self.send(devnet, &Order::single(quote.router, side, amount_in))
    }

    fn add_liquidity(&mut self, devnet: &Devnet, quote: &Quote) -> anyhow::Result<()> {
        let share = self.random.random_range(0.002..0.02);
        let account = self.account(devnet);
        let add = Router::addLiquidityCall {
            tokenA: quote.pool.token0,
            tokenB: quote.pool.token1,
            amountADesired: integer(quote.reserves[0] * share),
            amountBDesired: integer(quote.reserves[1] * share),
            amountAMin: U256::ZERO,
            amountBMin: U256::ZERO,
            to: account,
            deadline: NEVER,
        };
        devnet.send(account, quote.router, U256::ZERO, add.abi_encode(), 400_000)?;
        Ok(())
    }

    /// The deployer takes out a part of what it put in.
    fn remove_liquidity(&mut self, devnet: &Devnet, quote: &Quote) -> anyhow::Result<()> {
        let share = self.random.random_range(0.002..0.01);
        let remove = Router::removeLiquidityCall {
            tokenA: quote.pool.token0,
            tokenB: quote.pool.token1,
            liquidity: integer((quote.reserves[0] * quote.reserves[1]).sqrt() * share),
            amountAMin: U256::ZERO,
            amountBMin: U256::ZERO,
            to: DEPLOYER,
            deadline: NEVER,
        };
        devnet.approve(DEPLOYER, quote.pool.address, quote.router)?;
        devnet.send(DEPLOYER, quote.router, U256::ZERO, remove.abi_encode(), 400_000)?;
        Ok(())
    }

    /// Through one of the functions of a router that fit: of the exchange's own, or of one that leads to every make of pools.
    fn send(&mut self, devnet: &Devnet, order: &Order) -> anyhow::Result<()> {
        if order.router == devnet.addresses().exchange("uniswap").router {
            let (amount_in, amount_out) = (integer(order.amount_in), integer(order.amount_out));
            let swap = PathSwap { tokens: &order.path, amount_in, amount_out };
            if self.customers.swap_pairs(devnet, &swap)? {
                return Ok(());
            }
        }
        let to = self.account(devnet);
        let ends = order.ends(devnet.addresses().weth, self.random.random_range(0..2) == 0);
        // Some ask for what they were quoted, and fail if another order comes first.
        let patience = if self.random.random_range(0..10) == 0 { 0.999 } else { 0.5 };
        let (value, data) = match self.random.random_range(0..12) {
            0..3 => order.exact_out(ends, to),
            3..5 => order.exact_in_with_fee_on_transfer(ends, to, patience),
            _ => order.exact_in(ends, to, patience),
        };
        devnet.send(to, order.router, value, data, 500_000)?;
        Ok(())
    }

    /// Anyone but the deployer.
    fn account(&mut self, devnet: &Devnet) -> Address {
        let accounts = devnet.accounts();
        accounts[self.random.random_range(1..accounts.len())]
    }

    /// Every pool that stands; one whose creation was orphaned does not.
    fn quotes(&self, devnet: &Devnet) -> anyhow::Result<Vec<Quote>> {
        let ask = Pair::getReservesCall {};
        let calls: Vec<_> = self.pools.iter().map(|pool| (pool.address, &ask)).collect();
        let answers = devnet.read(&calls)?;
        let quotes = self.pools.iter().zip(answers).filter_map(|(pool, reserves)| {
            let reserves = reserves?;
            Some(Quote {
                router: devnet.addresses().exchange(&pool.factory).router,
                pool: pool.clone(),
                reserves: [float(reserves.reserve0), float(reserves.reserve1)],
            })
        });
        Ok(quotes.collect())
    }
}

impl Reference {
    /// What every pool begins with.
    pub(super) fn at_the_start(addresses: &Addresses) -> Self {
        let symbols = addresses.tokens.iter().map(|token| (token.symbol.as_str(), token.address));
        let wei_per_unit = symbols
            .chain([("WETH", addresses.weth)])
            .map(|(symbol, address)| (address, 1e18 / float(worth(symbol, 1))))
            .collect();
        Self { wei_per_unit }
    }

    fn wei_per_unit(&self, token: Address) -> f64 {
        self.wei_per_unit.iter().find(|entry| entry.0 == token).expect("one of the devnet's tokens").1
    }

    /// Smallest units out for one in.
    pub(super) fn rate(&self, token_in: Address, token_out: Address) -> f64 {
        self.wei_per_unit(token_in) / self.wei_per_unit(token_out)
    }

    /// By how much the pool pays more token1 for token0 than the world does.
    fn gap(&self, quote: &Quote) -> f64 {
        quote.reserves[1] / quote.reserves[0] / self.rate(quote.pool.token0, quote.pool.token1) - 1.0
    }

    /// The world moves on.
    fn wander(&mut self, random: &mut ChaCha8Rng) {
        for (_, wei_per_unit) in &mut self.wei_per_unit {
            *wei_per_unit *= 1.0 + random.random_range(-0.004..0.004);
        }
    }
}

impl Quote {
    fn sides(&self) -> [Side; 2] {
        let Pool { token0, token1, .. } = self.pool;
        let [reserve0, reserve1] = self.reserves;
        [
            Side { token_in: token0, token_out: token1, reserve_in: reserve0, reserve_out: reserve1 },
            Side { token_in: token1, token_out: token0, reserve_in: reserve1, reserve_out: reserve0 },
        ]
    }
}

impl Side {
    fn amount_out(&self, amount_in: f64) -> f64 {
        let after_fee = amount_in * 0.997;
        self.reserve_out * after_fee / (self.reserve_in + after_fee)
    }

    /// The input that lowers the price by about this fraction.
    fn amount_that_moves(&self, fraction: f64) -> f64 {
        self.reserve_in * fraction / 2.0
    }

    /// The input after which the pool gives `rate`, leaving the fee out of account.
    fn amount_that_reaches(&self, rate: f64) -> f64 {
        ((self.reserve_in * self.reserve_out / rate).sqrt() - self.reserve_in).max(0.0)
    }
}

impl Order {
    fn single(router: Address, side: Side, amount_in: f64) -> Self {
        let path = vec![side.token_in, side.token_out];
        Self { router, path, amount_in, amount_out: side.amount_out(amount_in) }
    }

    fn ends(&self, weth: Address, in_ether: bool) -> Ends {
        match (self.path.first(), self.path.last()) {
            (Some(first), _) if *first == weth && in_ether => Ends::FromEther,
            (_, Some(last)) if *last == weth && in_ether => Ends::ToEther,
            _ => Ends::Tokens,
        }
    }

    fn exact_in(&self, ends: Ends, to: Address, patience: f64) -> (U256, Vec<u8>) {
        let (path, deadline) = (self.path.clone(), NEVER);
        let (value, [amountIn, amountOutMin]) = self.exact_in_amounts(ends, patience);
        let data = match ends {
            Ends::FromEther => {
                Router::swapExactETHForTokensCall { amountOutMin, path, to, deadline }.abi_encode()
            }
            Ends::ToEther => {
                Router::swapExactTokensForETHCall { amountIn, amountOutMin, path, to, deadline }.abi_encode()
            }
            Ends::Tokens => {
                Router::swapExactTokensForTokensCall { amountIn, amountOutMin, path, to, deadline }
                    .abi_encode()
            }
        };
        (value, data)
    }

    fn exact_in_with_fee_on_transfer(&self, ends: Ends, to: Address, patience: f64) -> (U256, Vec<u8>) {
        type FromEther = Router::swapExactETHForTokensSupportingFeeOnTransferTokensCall;
        type ToEther = Router::swapExactTokensForETHSupportingFeeOnTransferTokensCall;
        type Tokens = Router::swapExactTokensForTokensSupportingFeeOnTransferTokensCall;
        let (path, deadline) = (self.path.clone(), NEVER);
        let (value, [amountIn, amountOutMin]) = self.exact_in_amounts(ends, patience);
        let data = match ends {
            Ends::FromEther => FromEther { amountOutMin, path, to, deadline }.abi_encode(),
            Ends::ToEther => ToEther { amountIn, amountOutMin, path, to, deadline }.abi_encode(),
            Ends::Tokens => Tokens { amountIn, amountOutMin, path, to, deadline }.abi_encode(),
        };
        (value, data)
    }

    fn exact_out(&self, ends: Ends, to: Address) -> (U256, Vec<u8>) {
        let (path, deadline) = (self.path.clone(), NEVER);
        let amountOut = integer(self.amount_out * 0.999);
        let amountInMax = integer(self.amount_in * 1.2);
        match ends {
            Ends::FromEther => {
                let call = Router::swapETHForExactTokensCall { amountOut, path, to, deadline };
                (amountInMax, call.abi_encode())
            }
            Ends::ToEther => {
                let call = Router::swapTokensForExactETHCall { amountOut, amountInMax, path, to, deadline };
                (U256::ZERO, call.abi_encode())
            }
            Ends::Tokens => {
                let call =
                    Router::swapTokensForExactTokensCall { amountOut, amountInMax, path, to, deadline };
                (U256::ZERO, call.abi_encode())
            }
        }
    }

    /// The ether to send along, and what goes in and must come out.
    fn exact_in_amounts(&self, ends: Ends, patience: f64) -> (U256, [U256; 2]) {
        let amount_in = integer(self.amount_in);
        let value = if ends == Ends::FromEther { amount_in } else { U256::ZERO };
        (value, [amount_in, integer(self.amount_out * patience)])
    }
}

fn abi_word(value: u64) -> Vec<u8> {
    U256::from(value).to_be_bytes::<32>().to_vec()
}

/// Amounts of the devnet stay far below 2^112.
fn float<const BITS: usize, const LIMBS: usize>(amount: alloy_primitives::Uint<BITS, LIMBS>) -> f64 {
    amount.to::<u128>() as f64
}

/// At least one unit, since the contracts refuse nothing at all.
fn integer(amount: f64) -> U256 {
    U256::from((amount as u128).max(1))
}
