//! What users do with pools of V3 and V4.

use alloy_primitives::aliases::U24;
use alloy_primitives::{Address, Bytes, U160, U256};
use alloy_sol_types::{SolCall, SolValue, sol};
use anyhow::Context;
use headwater_amm::{ConcentratedError, Direction, MAX_SQRT_PRICE, MIN_SQRT_PRICE, Quote};
use headwater_events::PendingTxEvent;
use headwater_market::{ConcentratedKey, ConcentratedPool, MarketSnapshot};
use headwater_reference::pools::{
    ActV3, ActV4, CallV4, Change, OWNER, Order as PoolOrder, PlaceV3, PlaceV4, payer_v3,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::orders::{self, Orders};
use super::world::{World, data};
use crate::routers::{ADDRESS_THIS, MSG_SENDER, Second, Universal, actions, path_v4, single_v4};

sol! {
    /// `SwapRouter` of v3-periphery.
    interface First {
        struct Single { address tokenIn; address tokenOut; uint24 fee; address recipient; uint256 deadline; uint256 exact; uint256 limit; uint160 sqrtPriceLimitX96; }
        struct Path { bytes path; address recipient; uint256 deadline; uint256 exact; uint256 limit; }
        function exactInputSingle(Single params) external payable returns (uint256);
        function exactOutputSingle(Single params) external payable returns (uint256);
        function exactInput(Path params) external payable returns (uint256);
        function exactOutput(Path params) external payable returns (uint256);
        function multicall(bytes[] calls) external payable returns (bytes[]);
        function unwrapWETH9(uint256 amountMinimum, address recipient) external payable;
        function refundETH() external payable;
    }
}

/// The router itself, to the first of them.
const NOBODY: Address = Address::ZERO;

/// A call of a router: computed without being executed, unless Permit2 pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Routed {
    Single,
    /// The swap stops at a price.
    Limited,
    Path,
    ExactOutput,
    /// Backwards through two pools.
    ExactOutputPath,
    /// With native tokens, and what is left back.
    NativeIn,
    NativeOut,
    Second,
    SecondExactOutput,
    PairsThenPool,
    PoolThenPairs,
    Universal(Plan),
    /// The Universal Router before V4.
    UniversalV1(Plan),
    V4,
    V4Path,
    V4ExactOutput,
    /// And backwards through two pools.
    V4ExactOutputPath,
    PoolThenV4,
}

/// What a Universal Router of either dialect is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Plan {
    /// Wrap, and swap through two pools of V3.
    Pools,
    /// And backwards, with what is left back as native tokens.
    PoolsExactOutput,
    Pairs,
    PairsExactOutput,
    /// With a part of what comes out for somebody else.
    PairsThenPool,
    /// Permit2 pays the first pool.
    PermittedPools,
    /// The same of the first pair.
    PermittedPairs,
}

impl Plan {
    const fn is_permitted(self) -> bool {
        matches!(self, Self::PermittedPools | Self::PermittedPairs)
    }
}

impl Routed {
    pub(super) const ALL: [Self; 30] = [
        Self::Single,
        Self::Limited,
        Self::Path,
        Self::ExactOutput,
        Self::ExactOutputPath,
        Self::NativeIn,
        Self::NativeOut,
        Self::Second,
        Self::SecondExactOutput,
        Self::PairsThenPool,
        Self::PoolThenPairs,
        Self::Universal(Plan::Pools),
        Self::Universal(Plan::PoolsExactOutput),
        Self::Universal(Plan::Pairs),
        Self::Universal(Plan::PairsExactOutput),
        Self::Universal(Plan::PairsThenPool),
        Self::Universal(Plan::PermittedPools),
        Self::Universal(Plan::PermittedPairs),
        Self::UniversalV1(Plan::Pools),
        Self::UniversalV1(Plan::PoolsExactOutput),
        Self::UniversalV1(Plan::Pairs),
        Self::UniversalV1(Plan::PairsExactOutput),
        Self::UniversalV1(Plan::PairsThenPool),
        Self::UniversalV1(Plan::PermittedPools),
        Self::UniversalV1(Plan::PermittedPairs),
        Self::V4,
        Self::V4Path,
        Self::V4ExactOutput,
        Self::V4ExactOutputPath,
        Self::PoolThenV4,
    ];

    /// Whether only executing it tells what it does.
    pub(super) fn is_executed(self) -> bool {
        matches!(self, Self::Universal(plan) | Self::UniversalV1(plan) if plan.is_permitted())
    }
}

/// A way through two pools of V3, and how much to begin with.
struct Way {
    tokens: [Address; 3],
    fees: [u32; 2],
    amount: U256,
}

impl Way {
    /// Tokens in any order, and an amount that moves a price over ticks.
    fn random(random: &mut ChaCha8Rng, world: &World, first: Option<Address>) -> anyhow::Result<Self> {
        let mut tokens = world.tokens;
        tokens.rotate_left(random.random_range(0..3));
        if random.random() {
            tokens.swap(0, 1);
        }
        if let Some(at) = first.and_then(|first| tokens.iter().position(|token| *token == first)) {
            tokens.swap(0, at);
        }
        let fees = [place(world, tokens[0], tokens[1])?.fee, place(world, tokens[1], tokens[2])?.fee];
        let amount = U256::from(10).pow(U256::from(17)) * U256::from(random.random_range(50..20_000u64));
        Ok(Self { tokens, fees, amount })
    }

    fn packed(&self) -> Bytes {
        let [a, b, c] = self.tokens;
        let [one, other] = self.fees.map(U24::from);
        (a, one, b, other, c).abi_encode_packed().into()
    }

    fn packed_backwards(&self) -> Bytes {
        let [a, b, c] = self.tokens;
        let [one, other] = self.fees.map(U24::from);
        (c, other, b, one, a).abi_encode_packed().into()
    }

    /// What comes out of the first pool, and of both.
    fn quote(&self, world: &World, market: &MarketSnapshot) -> anyhow::Result<[Quote; 2]> {
        let [a, b, c] = self.tokens;
        let first = quote(world, market, [a, b], self.amount)?;
        let second = quote(world, market, [b, c], first.amount_out)?;
        Ok([first, second])
    }
}

fn place(world: &World, a: Address, b: Address) -> anyhow::Result<&PlaceV3> {
    let tokens = [a.min(b), a.max(b)];
    world.places.iter().find(|place| place.tokens == tokens).context("no pool of these tokens")
}

fn pool<'a>(market: &'a MarketSnapshot, place: &PlaceV3) -> anyhow::Result<&'a ConcentratedPool> {
    let id = market.concentrated.find(&place.pool).context("a pool that nobody follows")?;
    market.concentrated.pool(id).map(|pool| &**pool).context("a pool that is not known")
}

fn v4_pool<'a>(market: &'a MarketSnapshot, place: &PlaceV4) -> anyhow::Result<&'a ConcentratedPool> {
    let key = ConcentratedKey::V4 { manager: place.manager, id: place.id() };
    let id = market.concentrated.find_key(&key).context("a pool that nobody follows")?;
    market.concentrated.pool(id).map(|pool| &**pool).context("a pool that is not known")
}

fn direction(from: Address, to: Address) -> Direction {
    if from < to { Direction::ZeroForOne } else { Direction::OneForZero }
}

fn quote(
    world: &World,
    market: &MarketSnapshot,
    [from, to]: [Address; 2],
    amount: U256,
) -> anyhow::Result<Quote> {
    whole(pool(market, place(world, from, to)?)?, direction(from, to), amount, true)
}

/// A swap that does not end at the end of all prices: nothing can be done any more with a pool that stands there.
fn whole(
    pool: &ConcentratedPool,
    direction: Direction,
    amount: U256,
    is_exact_in: bool,
) -> anyhow::Result<Quote> {
    let quote = match is_exact_in {
        true => pool.exact_in(direction, amount, None)?,
        false => pool.exact_out(direction, amount, None)?,
    };
    let done = if is_exact_in { quote.amount_in } else { quote.amount_out };
    if done == amount { Ok(quote) } else { Err(ConcentratedError::PriceLimit.into()) }
}

impl Orders {
    /// A call of a router through V3 that succeeds, and is computed.
    pub(super) fn routed_v3(
        &mut self,
        random: &mut ChaCha8Rng,
        world: &World,
        market: &MarketSnapshot,
        user: Address,
        sort: Routed,
    ) -> anyhow::Result<PendingTxEvent> {
        let wrapped = world.tokens[1];
        let first = match sort {
            Routed::Universal(plan) | Routed::UniversalV1(plan) if plan.is_permitted() => None,
            Routed::NativeIn | Routed::Universal(_) | Routed::UniversalV1(_) | Routed::PoolThenV4 => {
                Some(wrapped)
            }
            _ => None,
        };
        if matches!(sort, Routed::V4 | Routed::V4Path | Routed::V4ExactOutput | Routed::V4ExactOutputPath) {
            return self.through_v4(random, world, market, user, sort);
        }
        let mut way = Way::random(random, world, first)?;
        if sort == Routed::NativeOut {
            let at = way.tokens.iter().position(|token| *token == wrapped).unwrap_or(2);
            way.tokens.swap(at, 2);
            let [a, b, c] = way.tokens;
            way.fees = [place(world, a, b)?.fee, place(world, b, c)?.fee];
        }
        let quotes = way.quote(world, market)?;
        let deadline = U256::from(market.head.timestamp + 60);
        let routers = world.routers_v3;
        let (to, value, input) = match sort {
            Routed::Second | Routed::SecondExactOutput | Routed::PairsThenPool | Routed::PoolThenPairs => {
                (routers.second, U256::ZERO, second(sort, &way, &quotes, user, deadline))
            }
            Routed::PoolThenV4 => (routers.universal, way.amount, pool_then_v4(world, &way, deadline)),
            Routed::Universal(plan) | Routed::UniversalV1(plan) => {
                let out_of_pairs = orders::quote(market, world.exchanges[0][1], &way.tokens, way.amount);
                let (mut commands, inputs) = universal(plan, &way, &quotes, out_of_pairs);
                let mut router = routers.universal;
                if matches!(sort, Routed::UniversalV1(_)) {
                    router = routers.universal_v1;
                    // A bit that its mask takes away.
                    commands
                        .iter_mut()
                        .for_each(|command| *command |= u8::from(random.random::<bool>()) << 6);
                }
                let value = if plan.is_permitted() { U256::ZERO } else { way.amount };
                (router, value, data(&Universal::executeCall { commands: commands.into(), inputs, deadline }))
            }
            _ => {
                let value = if sort == Routed::NativeIn { way.amount } else { U256::ZERO };
                let limit = limit(random, market, place(world, way.tokens[0], way.tokens[1])?, &way)?;
                (routers.first, value, first_router(sort, &way, &quotes, user, deadline, limit))
            }
        };
        Ok(self.sign_with(world, user, to, value, input, GAS))
    }

    /// A plan that sells native tokens through V4.
    fn through_v4(
        &mut self,
        random: &mut ChaCha8Rng,
        world: &World,
        market: &MarketSnapshot,
        user: Address,
        sort: Routed,
    ) -> anyhow::Result<PendingTxEvent> {
        let [between, of_first, of_third] = &world.places_v4;
        let (place, next) =
            if random.random() { (of_first, world.tokens[2]) } else { (of_third, world.tokens[0]) };
        let middle = place.currencies[1];
        let amount = U256::from(10).pow(U256::from(17)) * U256::from(random.random_range(50..20_000u64));
        let out = whole(v4_pool(market, place)?, Direction::ZeroForOne, amount, true)?.amount_out;
        let out_of_next = whole(v4_pool(market, between)?, direction(middle, next), out, true)?.amount_out;
        let short = |amount: U256| u128::try_from(amount);
        let half = U256::from(2);
        let (swap, bought) = match sort {
            Routed::V4 => (single_v4(0x06, place, true, short(amount)?, short(out)?), middle),
            Routed::V4ExactOutput => {
                (single_v4(0x08, place, true, short(out / half)?, short(amount)?), middle)
            }
            Routed::V4Path => {
                let path = [(middle, place), (next, between)];
                (path_v4(0x07, Address::ZERO, &path, short(amount)?, short(out_of_next)?), next)
            }
            _ => {
                let path = [(Address::ZERO, place), (middle, between)];
                (path_v4(0x09, next, &path, short(out_of_next / half)?, short(amount)?), next)
            }
        };
        let settle_all = (0x0c, (Address::ZERO, amount).abi_encode_params());
        let take_all = (0x0f, (bought, U256::ZERO).abi_encode_params());
        let sweep = (Address::ZERO, MSG_SENDER, U256::ZERO).abi_encode_params();
        let inputs = vec![actions([swap, settle_all, take_all]), sweep.into()];
        let deadline = U256::from(market.head.timestamp + 60);
        let input = data(&Universal::executeCall { commands: vec![0x10, 0x04].into(), inputs, deadline });
        Ok(self.sign_with(world, user, world.routers_v3.universal, amount, input, GAS))
    }

    /// A transaction with a pool of V4 that nobody decodes: its authors' test routers swap and change liquidity, and the protocol's fee
    /// is set.
    pub(super) fn undecoded_v4(
        &mut self,
        random: &mut ChaCha8Rng,
        world: &World,
        market: &MarketSnapshot,
        user: Address,
    ) -> anyhow::Result<PendingTxEvent> {
        let place = &world.places_v4[random.random_range(0..3)];
        let pool = v4_pool(market, place)?;
        let tick = pool.price().context("a pool without a price")?.tick;
        let (zero_for_one, is_exact_in) = (random.random(), random.random());
        let amount = U256::from(10).pow(U256::from(17)) * U256::from(random.random_range(50..20_000u64));
        let (act, sender) = match random.random_range(0..8) {
            0 => {
                let fee = random.random_range(0..1_000) | random.random_range(0..1_000) << 12;
                (ActV4::ProtocolFee(fee), OWNER)
            }
            1 | 2 => {
                let align = |tick: i32| tick.div_euclid(place.spacing) * place.spacing;
                let width = random.random_range(50..2_000);
                let (lower, upper) = (align(tick - width), align(tick + width) + place.spacing);
                let delta = (pool.liquidity() / random.random_range(2..6)) as i128 + 1_000;
                (ActV4::Modify(Change { lower, upper, delta }), user)
            }
            _ => {
                let way = if zero_for_one { Direction::ZeroForOne } else { Direction::OneForZero };
                whole(pool, way, amount, is_exact_in)?;
                let sqrt_price_limit = farthest(zero_for_one);
                (ActV4::Swap(PoolOrder { zero_for_one, amount, is_exact_in, sqrt_price_limit }), user)
            }
        };
        let CallV4 { to, value, data } = world.routers_v4.call(place, &act);
        Ok(self.sign_with(world, sender, to, value, data, GAS))
    }

    /// A call of a router through V3 that fails: too late, for too much, for a price that is not ahead, or without the tokens; and the
    /// same as it succeeds.
    pub(super) fn doomed_v3(
        &mut self,
        random: &mut ChaCha8Rng,
        world: &World,
        market: &MarketSnapshot,
        user: Address,
    ) -> anyhow::Result<[PendingTxEvent; 2]> {
        let way = Way::random(random, world, None)?;
        let [quote, _] = way.quote(world, market)?;
        let [soon, late] = [60, 0].map(|seconds| U256::from(market.head.timestamp + seconds));
        let place = place(world, way.tokens[0], way.tokens[1])?;
        let behind = pool(market, place)?.price().context("a pool without a price")?.sqrt_price;
        let (any, out, zero) = (U160::ZERO, quote.amount_out, U256::ZERO);
        let bent = match random.random_range(0..4) {
            0 => (user, zero, late, any),
            1 => (user, out + U256::ONE, soon, any),
            2 => (user, zero, soon, U160::from(behind)),
            _ => (world.poor, zero, soon, any),
        };
        Ok([bent, (user, out, soon, any)].map(|(sender, least, deadline, price_limit)| {
            let params = First::Single {
                tokenIn: way.tokens[0],
                tokenOut: way.tokens[1],
                fee: U24::from(way.fees[0]),
                recipient: user,
                deadline,
                exact: way.amount,
                limit: least,
                sqrtPriceLimitX96: price_limit,
            };
            let input = data(&First::exactInputSingleCall { params });
            self.sign_with(world, sender, world.routers_v3.first, U256::ZERO, input, GAS)
        }))
    }

    /// A call of the payer, which nobody decodes: a swap of either sort with any limit, or a change of liquidity around the price.
    pub(super) fn undecoded_v3(
        &mut self,
        random: &mut ChaCha8Rng,
        world: &World,
        market: &MarketSnapshot,
        user: Address,
    ) -> anyhow::Result<PendingTxEvent> {
        let way = Way::random(random, world, None)?;
        let place = place(world, way.tokens[0], way.tokens[1])?;
        let pool = pool(market, place)?;
        let price = pool.price().context("a pool without a price")?;
        let act = if random.random_range(0..4) == 0 {
            let align = |tick: i32| tick.div_euclid(place.spacing) * place.spacing;
            let width = random.random_range(50..2_000);
            let (lower, upper) = (align(price.tick - width), align(price.tick + width) + place.spacing);
            let delta = (pool.liquidity() / random.random_range(2..6)) as i128 + 1_000;
            ActV3::Modify(Change { lower, upper, delta })
        } else {
            ActV3::Swap(swap_of_payer(random, market, place, &way)?)
        };
        Ok(self.sign_with(world, user, payer_v3().0, U256::ZERO, place.calldata(&act), GAS))
    }

    /// A swap of the payer to a price that is not ahead; and the same with one that is.
    pub(super) fn undecoded_v3_in_vain(
        &mut self,
        random: &mut ChaCha8Rng,
        world: &World,
        market: &MarketSnapshot,
        user: Address,
    ) -> anyhow::Result<[PendingTxEvent; 2]> {
        let way = Way::random(random, world, None)?;
        let place = place(world, way.tokens[0], way.tokens[1])?;
        let straight = swap_of_payer(random, market, place, &way)?;
        let behind = pool(market, place)?.price().context("a pool without a price")?.sqrt_price;
        let bent = PoolOrder { sqrt_price_limit: behind, ..straight };
        Ok([bent, straight].map(|order| {
            let data = place.calldata(&ActV3::Swap(order));
            self.sign_with(world, user, payer_v3().0, U256::ZERO, data, GAS)
        }))
    }
}

/// Of either sort, with any limit.
fn swap_of_payer(
    random: &mut ChaCha8Rng,
    market: &MarketSnapshot,
    place: &PlaceV3,
    way: &Way,
) -> anyhow::Result<PoolOrder> {
    let zero_for_one = way.tokens[0] == place.tokens[0];
    let is_exact_in = random.random();
    whole(pool(market, place)?, direction(way.tokens[0], way.tokens[1]), way.amount, is_exact_in)?;
    let sqrt_price_limit =
        if random.random() { farthest(zero_for_one) } else { limit(random, market, place, way)? };
    Ok(PoolOrder { zero_for_one, amount: way.amount, is_exact_in, sqrt_price_limit })
}

/// More than any of these uses, and no more than is executed.
const GAS: u64 = 12_000_000;

fn farthest(zero_for_one: bool) -> U256 {
    if zero_for_one { MIN_SQRT_PRICE + U256::ONE } else { MAX_SQRT_PRICE - U256::ONE }
}

/// A price ahead, a little way off.
fn limit(
    random: &mut ChaCha8Rng,
    market: &MarketSnapshot,
    place: &PlaceV3,
    way: &Way,
) -> anyhow::Result<U256> {
    let price = pool(market, place)?.price().context("a pool without a price")?.sqrt_price;
    let (whole, off) = (U256::from(100_000), U256::from(random.random_range(50..3_000u32)));
    let is_down = way.tokens[0] == place.tokens[0];
    Ok(price * if is_down { whole - off } else { whole + off } / whole)
}

fn first_router(
    sort: Routed,
    way: &Way,
    quotes: &[Quote; 2],
    user: Address,
    deadline: U256,
    limit: U256,
) -> Bytes {
    let [one, both] = quotes;
    let single = |recipient, exact, limit, price: U256| First::Single {
        tokenIn: way.tokens[0],
        tokenOut: way.tokens[1],
        fee: U24::from(way.fees[0]),
        recipient,
        deadline,
        exact,
        limit,
        sqrtPriceLimitX96: U160::from(price),
    };
    let along = |path, recipient, exact, limit| First::Path { path, recipient, deadline, exact, limit };
    let (zero, half) = (U256::ZERO, U256::from(2));
    match sort {
        Routed::Single => {
            let params = single(user, way.amount, one.amount_out, zero);
            data(&First::exactInputSingleCall { params })
        }
        Routed::Limited => {
            data(&First::exactInputSingleCall { params: single(user, way.amount, zero, limit) })
        }
        Routed::Path => {
            let params = along(way.packed(), user, way.amount, both.amount_out);
            data(&First::exactInputCall { params })
        }
        Routed::ExactOutput => {
            let params = single(user, one.amount_out / half, way.amount, zero);
            data(&First::exactOutputSingleCall { params })
        }
        Routed::ExactOutputPath => {
            let params = along(way.packed_backwards(), user, both.amount_out / half, way.amount);
            data(&First::exactOutputCall { params })
        }
        Routed::NativeIn => {
            let params = single(user, one.amount_out / half, way.amount, zero);
            let swap = First::exactOutputSingleCall { params }.abi_encode();
            let calls = vec![swap.into(), First::refundETHCall {}.abi_encode().into()];
            data(&First::multicallCall { calls })
        }
        // Native tokens out.
        _ => {
            let params = along(way.packed(), NOBODY, way.amount, both.amount_out);
            let swap = First::exactInputCall { params }.abi_encode();
            let unwrap = First::unwrapWETH9Call { amountMinimum: both.amount_out, recipient: user };
            data(&First::multicallCall { calls: vec![swap.into(), unwrap.abi_encode().into()] })
        }
    }
}

fn second(sort: Routed, way: &Way, quotes: &[Quote; 2], user: Address, deadline: U256) -> Bytes {
    let [a, b, c] = way.tokens;
    let zero = U256::ZERO;
    let single = |tokens: [Address; 2], fee: u32, recipient, exact, limit| {
        let params = Second::Single {
            tokenIn: tokens[0],
            tokenOut: tokens[1],
            fee: U24::from(fee),
            recipient,
            exact,
            limit,
            sqrtPriceLimitX96: U160::ZERO,
        };
        Bytes::from(Second::exactInputSingleCall { params }.abi_encode())
    };
    let pairs = |path: Vec<Address>, amount, to| {
        let call = Second::swapExactTokensForTokensCall { amountIn: amount, amountOutMin: zero, path, to };
        Bytes::from(call.abi_encode())
    };
    match sort {
        Routed::Second => single([a, b], way.fees[0], user, way.amount, quotes[0].amount_out),
        Routed::SecondExactOutput => {
            let half = U256::from(2);
            let params = Second::Path {
                path: way.packed_backwards(),
                recipient: MSG_SENDER,
                exact: quotes[1].amount_out / half,
                limit: way.amount,
            };
            let swap = Second::exactOutputCall { params }.abi_encode();
            let pairs = Second::swapTokensForExactTokensCall {
                amountOut: way.amount / U256::from(50),
                amountInMax: way.amount,
                path: vec![a, c],
                to: MSG_SENDER,
            };
            let calls = vec![swap.into(), pairs.abi_encode().into()];
            data(&Second::multicallCall { deadline, calls })
        }
        Routed::PairsThenPool => {
            let first = pairs(vec![a, b], way.amount, ADDRESS_THIS);
            // Nothing named: all that the router has.
            let then = single([b, c], way.fees[1], MSG_SENDER, zero, zero);
            data(&Second::multicallCall { deadline, calls: vec![first, then] })
        }
        _ => {
            let first = single([a, b], way.fees[0], ADDRESS_THIS, way.amount, zero);
            let then = pairs(vec![b, c], zero, MSG_SENDER);
            data(&Second::multicallCall { deadline, calls: vec![first, then] })
        }
    }
}

/// Commands and their inputs.
fn universal(plan: Plan, way: &Way, quotes: &[Quote; 2], out_of_pairs: U256) -> (Vec<u8>, Vec<Bytes>) {
    let [a, b, c] = way.tokens;
    let (all, zero, half) = (U256::ONE << 255usize, U256::ZERO, U256::from(2));
    let is_paid_by_user = plan.is_permitted();
    let through_pools =
        |exact, limit, path: Bytes| (MSG_SENDER, exact, limit, path, is_paid_by_user).abi_encode_params();
    let through_pairs =
        |exact, limit| (MSG_SENDER, exact, limit, way.tokens.to_vec(), is_paid_by_user).abi_encode_params();
    let wrap = (0x0b, (ADDRESS_THIS, way.amount).abi_encode_params());
    let unwrap = (0x0c, (MSG_SENDER, zero).abi_encode_params());
    let out_of_pools = quotes[1].amount_out;
    let plan = match plan {
        Plan::Pools => vec![wrap, (0x00, through_pools(way.amount, out_of_pools, way.packed()))],
        Plan::PoolsExactOutput => {
            vec![wrap, (0x01, through_pools(out_of_pools / half, way.amount, way.packed_backwards())), unwrap]
        }
        Plan::Pairs => vec![wrap, (0x08, through_pairs(way.amount, out_of_pairs))],
        Plan::PairsExactOutput => {
            vec![wrap, (0x09, through_pairs(out_of_pairs / half, way.amount)), unwrap]
        }
        Plan::PairsThenPool => {
            let pairs = (ADDRESS_THIS, way.amount, zero, vec![a, b], false).abi_encode_params();
            let path: Bytes = (b, U24::from(way.fees[1]), c).abi_encode_packed().into();
            let swap = (ADDRESS_THIS, all, zero, path, false).abi_encode_params();
            let fee = (c, Address::repeat_byte(0xfe), U256::from(25)).abi_encode_params();
            let sweep = (c, MSG_SENDER, zero).abi_encode_params();
            vec![wrap, (0x08, pairs), (0x00, swap), (0x06, fee), (0x04, sweep)]
        }
        Plan::PermittedPools => vec![(0x00, through_pools(way.amount, out_of_pools, way.packed()))],
        Plan::PermittedPairs => vec![(0x08, through_pairs(way.amount, out_of_pairs))],
    };
    plan.into_iter().map(|(command, input): (u8, Vec<u8>)| (command, Bytes::from(input))).unzip()
}

/// Wraps, goes through V3 to one of the tokens of V4, and from there on through V4 with all that came out.
fn pool_then_v4(world: &World, way: &Way, deadline: U256) -> Bytes {
    let [wrapped, middle, last] = way.tokens;
    let (all, open) = (U256::ONE << 255usize, U256::ZERO);
    let wrap = (ADDRESS_THIS, way.amount).abi_encode_params();
    let path: Bytes = (wrapped, U24::from(way.fees[0]), middle).abi_encode_packed().into();
    let swap = (ADDRESS_THIS, way.amount, U256::ZERO, path, false).abi_encode_params();
    let settle = (0x0b, (middle, all, false).abi_encode_params());
    let then = single_v4(0x06, &world.places_v4[0], middle < last, 0, 0);
    let take = (0x0e, (last, MSG_SENDER, open).abi_encode_params());
    let inputs = vec![wrap.into(), swap.into(), actions([settle, then, take])];
    data(&Universal::executeCall { commands: vec![0x0b, 0x00, 0x10].into(), inputs, deadline })
}
