//! What users do: through routers, past them, in vain.

use alloy_primitives::{Address, Bytes, U256, keccak256};
use alloy_sol_types::sol;
use headwater_amm::{ConcentratedError, Fee, Hop};
use headwater_events::{PendingTxEvent, Transaction};
use headwater_market::MarketSnapshot;
use headwater_reference::executed::private_swap;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::concentrated::Routed;
use super::world::{World, data, private};

sol! {
    function swapExactTokensForTokens(uint256 amountIn, uint256 amountOutMin, address[] path, address to, uint256 deadline) external;
    function swapTokensForExactTokens(uint256 amountOut, uint256 amountInMax, address[] path, address to, uint256 deadline) external;
    function swapExactETHForTokens(uint256 amountOutMin, address[] path, address to, uint256 deadline) external payable;
    function swapExactTokensForETH(uint256 amountIn, uint256 amountOutMin, address[] path, address to, uint256 deadline) external;
    function swapExactTokensForTokensSupportingFeeOnTransferTokens(uint256 amountIn, uint256 amountOutMin, address[] path, address to, uint256 deadline) external;
}

/// What the mempool shows in a block, and what comes of it.
#[derive(Debug)]
pub(super) enum Order {
    /// It is mined and succeeds; `executed`: only executing it tells what it does. Which of the calls of their
    /// routers it is, if any.
    Landing { pending: PendingTxEvent, executed: bool, routed: Option<Routed> },
    /// It is mined and fails.
    Failing(Box<Bent>),
    /// The second takes the place of the first.
    Replaced { first: Box<PendingTxEvent>, second: Box<PendingTxEvent> },
    /// The next block cannot hold it.
    NeverLanding(Box<Bent>),
}

/// A transaction that comes to nothing, and what it would be without that by which it does: that one lands and succeeds.
#[derive(Debug)]
pub(super) struct Bent {
    pub(super) pending: PendingTxEvent,
    pub(super) straight: PendingTxEvent,
}

impl Order {
    pub(super) fn shown(&self) -> Vec<&PendingTxEvent> {
        match self {
            Self::Landing { pending, .. } => vec![pending],
            Self::Failing(bent) | Self::NeverLanding(bent) => vec![&bent.pending],
            Self::Replaced { first, second } => vec![first, second],
        }
    }
}

impl Order {
    fn replaced(first: PendingTxEvent, mut second: PendingTxEvent) -> Self {
        second.max_fee_per_gas = first.max_fee_per_gas + 1;
        Self::Replaced { first: Box::new(first), second: Box::new(second) }
    }

    fn failing([pending, straight]: [PendingTxEvent; 2]) -> Self {
        Self::Failing(Box::new(Bent { pending, straight }))
    }

    fn never_landing(random: &mut ChaCha8Rng, straight: PendingTxEvent) -> Self {
        let mut pending = straight.clone();
        match random.random_range(0..3) {
            0 => pending.transaction.nonce += 1,
            1 => pending.max_fee_per_gas = GWEI - 1,
            _ => pending.max_fee_per_gas = u128::MAX,
        }
        Self::NeverLanding(Box::new(Bent { pending, straight }))
    }
}

/// Makes them.
#[derive(Debug, Default)]
pub(super) struct Orders {
    made: u64,
    /// Of the calls through V3 and V4, which are made in turn.
    turn: usize,
}

const GWEI: u128 = 1_000_000_000;

impl Orders {
    pub(super) fn next(
        &mut self,
        random: &mut ChaCha8Rng,
        world: &World,
        market: &MarketSnapshot,
    ) -> anyhow::Result<Order> {
        let user = world.users[random.random_range(0..world.users.len())];
        if random.random() {
            match self.next_v3(random, world, market, user) {
                // A pool that has not got enough: something through the pairs instead.
                Err(error) if error.is::<ConcentratedError>() => {}
                made => return made,
            }
        }
        let landing = |pending, executed| Order::Landing { pending, executed, routed: None };
        Ok(match random.random_range(0..12) {
            0..5 => landing(self.routed(random, world, market, user), false),
            5..8 => landing(self.private(random, world, market, user), true),
            8 => Order::failing(self.private_in_vain(random, world, market, user)),
            9 => Order::failing(self.doomed(random, world, market, user)),
            10 => {
                let first = self.routed(random, world, market, user);
                Order::replaced(first, self.routed(random, world, market, user))
            }
            _ => {
                let pending = self.routed(random, world, market, user);
                Order::never_landing(random, pending)
            }
        })
    }

    fn next_v3(
        &mut self,
        random: &mut ChaCha8Rng,
        world: &World,
        market: &MarketSnapshot,
        user: Address,
    ) -> anyhow::Result<Order> {
        let sort = Routed::ALL[self.turn % Routed::ALL.len()];
        Ok(match random.random_range(0..12) {
            0..5 => {
                self.turn += 1;
                let pending = self.routed_v3(random, world, market, user, sort)?;
                Order::Landing { pending, executed: sort.is_executed(), routed: Some(sort) }
            }
            5..8 => {
                let pending = if random.random() {
                    self.undecoded_v3(random, world, market, user)?
                } else {
                    self.undecoded_v4(random, world, market, user)?
                };
                Order::Landing { pending, executed: true, routed: None }
            }
            8 => Order::failing(self.undecoded_v3_in_vain(random, world, market, user)?),
            9 => Order::failing(self.doomed_v3(random, world, market, user)?),
            10 => {
                let first = self.routed_v3(random, world, market, user, sort)?;
                let other = Routed::ALL[random.random_range(0..Routed::ALL.len())];
                Order::replaced(first, self.routed_v3(random, world, market, user, other)?)
            }
            _ => {
                let pending = self.routed_v3(random, world, market, user, sort)?;
                Order::never_landing(random, pending)
            }
        })
    }

    /// Two or three different tokens, and an amount of the first that moves a price.
    fn way(random: &mut ChaCha8Rng, world: &World, market: &MarketSnapshot) -> (Vec<Address>, U256) {
        let mut tokens = world.tokens.to_vec();
        tokens.rotate_left(random.random_range(0..3));
        if random.random_range(0..2) == 0 {
            tokens.swap(0, 1);
        }
        tokens.truncate(random.random_range(2..=3));
        let depth = market
            .pools
            .iter()
            .filter(|(_, meta, _)| meta.token0 == tokens[0] || meta.token1 == tokens[0])
            .filter_map(|(_, meta, held)| {
                Some(if meta.token0 == tokens[0] { held?.reserve0 } else { held?.reserve1 })
            })
            .min()
            .unwrap_or_default();
        (tokens, U256::from(depth) * U256::from(random.random_range(5..300u64)) / U256::from(1_000))
    }

    /// A call of a router that succeeds.
    fn routed(
        &mut self,
        random: &mut ChaCha8Rng,
        world: &World,
        market: &MarketSnapshot,
        user: Address,
    ) -> PendingTxEvent {
        let [router, factory] = world.exchanges[random.random_range(0..2)];
        let (path, amount) = Self::way(random, world, market);
        let (to, deadline) = (user, U256::from(market.head.timestamp + 60));
        let least = U256::from(1);
        let out = quote(market, factory, &path, amount);
        let wrapped = world.tokens[1];
        let (value, input) = match random.random_range(0..4) {
            0 => {
                let call = swapTokensForExactTokensCall {
                    amountOut: out,
                    amountInMax: amount * U256::from(2),
                    path,
                    to,
                    deadline,
                };
                (U256::ZERO, data(&call))
            }
            1 => {
                let call = swapExactTokensForTokensSupportingFeeOnTransferTokensCall {
                    amountIn: amount,
                    amountOutMin: least,
                    path,
                    to,
                    deadline,
                };
                (U256::ZERO, data(&call))
            }
            _ if path.first() == Some(&wrapped) => {
                (amount, data(&swapExactETHForTokensCall { amountOutMin: least, path, to, deadline }))
            }
            _ if path.last() == Some(&wrapped) => {
                let call =
                    swapExactTokensForETHCall { amountIn: amount, amountOutMin: least, path, to, deadline };
                (U256::ZERO, data(&call))
            }
            _ => {
                let call =
                    swapExactTokensForTokensCall { amountIn: amount, amountOutMin: out, path, to, deadline };
                (U256::ZERO, data(&call))
            }
        };
        self.sign(world, user, router, value, input)
    }

    /// A call of a router that fails: too late, for too much, or without the tokens; and the same as it succeeds.
    fn doomed(
        &mut self,
        random: &mut ChaCha8Rng,
        world: &World,
        market: &MarketSnapshot,
        user: Address,
    ) -> [PendingTxEvent; 2] {
        let [router, factory] = world.exchanges[random.random_range(0..2)];
        let (path, amount) = Self::way(random, world, market);
        let out = quote(market, factory, &path, amount);
        let soon = U256::from(market.head.timestamp + 60);
        let late = U256::from(market.head.timestamp);
        let bent = match random.random_range(0..3) {
            0 => (amount, U256::ZERO, late),
            1 => (amount, out + U256::ONE, soon),
            _ => (U256::from(10).pow(U256::from(26)), U256::ZERO, soon),
        };
        [bent, (amount, out, soon)].map(|(amount, least, deadline)| {
            let (path, to) = (path.clone(), user);
            let call =
                swapExactTokensForTokensCall { amountIn: amount, amountOutMin: least, path, to, deadline };
            self.sign(world, user, router, U256::ZERO, data(&call))
        })
    }

    /// A call of a contract of the user's own, which swaps on the pair.
    fn private(
        &mut self,
        random: &mut ChaCha8Rng,
        world: &World,
        market: &MarketSnapshot,
        user: Address,
    ) -> PendingTxEvent {
        let [_, straight] = self.private_in_vain(random, world, market, user);
        straight
    }

    /// A call of such a contract that asks the pair for one unit too much; and of one that does not.
    fn private_in_vain(
        &mut self,
        random: &mut ChaCha8Rng,
        world: &World,
        market: &MarketSnapshot,
        user: Address,
    ) -> [PendingTxEvent; 2] {
        let [_, factory] = world.exchanges[random.random_range(0..2)];
        let (mut path, amount) = Self::way(random, world, market);
        path.truncate(2);
        let out = quote(market, factory, &path, amount);
        let pair = pair(market, factory, path[0], path[1]).map_or(Address::ZERO, |(pair, _)| pair);
        let [greedy, modest] = private(user);
        [(greedy, out + U256::ONE), (modest, out)].map(|(contract, out)| {
            let code = private_swap(user, pair, [path[0], path[1]], [amount, out]);
            world.chain.evm().place(contract, code);
            self.sign(world, user, contract, U256::ZERO, Bytes::new())
        })
    }

    fn sign(
        &mut self,
        world: &World,
        user: Address,
        to: Address,
        value: U256,
        input: Bytes,
    ) -> PendingTxEvent {
        self.sign_with(world, user, to, value, input, 900_000)
    }

    pub(super) fn sign_with(
        &mut self,
        world: &World,
        user: Address,
        to: Address,
        value: U256,
        input: Bytes,
        gas_limit: u64,
    ) -> PendingTxEvent {
        self.made += 1;
        let transaction = Transaction {
            hash: keccak256(self.made.to_be_bytes()),
            from: user,
            to: Some(to),
            value,
            input,
            nonce: world.chain.evm().nonce(user),
            gas_limit,
        };
        let max_priority_fee_per_gas = self.made.is_multiple_of(2).then_some(GWEI / 10);
        PendingTxEvent { transaction, max_fee_per_gas: 3 * GWEI, max_priority_fee_per_gas }
    }
}

fn pair(market: &MarketSnapshot, factory: Address, a: Address, b: Address) -> Option<(Address, Hop)> {
    let (_, meta, held) = market
        .pools
        .iter()
        .find(|(_, meta, _)| meta.factory == factory && meta.token0 == a.min(b) && meta.token1 == a.max(b))?;
    let held = held?;
    let hop = Hop::new(held.reserve0, held.reserve1, Fee::UNISWAP_V2).ok()?;
    Some((meta.address, if meta.token0 == a { hop } else { hop.reversed() }))
}

/// What comes out of pairs.
pub(super) fn quote(market: &MarketSnapshot, factory: Address, path: &[Address], amount: U256) -> U256 {
    path.windows(2).fold(amount, |amount, tokens| {
        let hop = pair(market, factory, tokens[0], tokens[1]).map(|(_, hop)| hop);
        hop.and_then(|hop| hop.amount_out(amount).ok()).unwrap_or_default()
    })
}
