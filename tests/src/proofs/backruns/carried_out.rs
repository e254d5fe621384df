//! Cycles through pools of either sort, carried out on the contracts pool by pool.

use alloy_primitives::{Address, I256, U256};
use alloy_sol_types::{SolCall, sol};
use anyhow::{Context, ensure};
use headwater_amm::{Fee, Hop, MAX_SQRT_PRICE, MIN_SQRT_PRICE};
use headwater_events::{MixedStep, Protocol};
use headwater_reference::evm::{Evm, Message, Receipt};
use headwater_reference::pools::{ActV3, ActV4, CallV4, OWNER, Order, PlaceV3, PlaceV4, payer_v3};

use super::world::{World, balance, reserves};

sol! {
    function transfer(address to, uint256 amount) external returns (bool);
    interface Pair {
        function swap(uint256 amount0Out, uint256 amount1Out, address to, bytes data) external;
    }
    event Swap(
        address indexed sender, address indexed recipient, int256 amount0, int256 amount1, uint160 sqrtPriceX96,
        uint128 liquidity, int24 tick
    );
}

/// What V4's manager logs.
mod manager {
    alloy_sol_types::sol! {
        event Swap(
            bytes32 indexed id, address indexed sender, int128 amount0, int128 amount1, uint160 sqrtPriceX96,
            uint128 liquidity, int24 tick, uint24 fee
        );
    }
}

/// What the trader gains for good: each pool takes the whole of what the one before gave, and gives what was predicted and no unit
/// more.
pub(super) fn predicted(evm: &mut Evm, world: &World, steps: &[MixedStep]) -> anyhow::Result<U256> {
    let token = steps.first().context("a cycle of no pools")?.swap.token_in;
    let before = purse(evm, token)?;
    for (step, next) in steps.iter().zip(steps.iter().cycle().skip(1)) {
        let (amount_in, amount_out) = (step.swap.amount_in, step.swap.amount_out);
        ensure!(step.swap.token_out == next.swap.token_in, "no cycle: {steps:?}");
        let given = through(evm, world, step, amount_in)?;
        ensure!(given == Some(amount_out), "{given:?} of {step:?}");
    }
    purse(evm, token)?.checked_sub(before).context("the cycle costs more than it gives")
}

/// What the trader gains with the same input on a state that nothing was predicted for; nothing where it loses, or a pool does not
/// take all of it.
pub(super) fn at_once(evm: &mut Evm, world: &World, steps: &[MixedStep]) -> anyhow::Result<Option<U256>> {
    let mut amount = steps.first().context("a cycle of no pools")?.swap.amount_in;
    let amount_in = amount;
    for step in steps {
        let Some(given) = through(evm, world, step, amount)? else { return Ok(None) };
        amount = given;
    }
    Ok(amount.checked_sub(amount_in).filter(|gain| !gain.is_zero()))
}

fn through(evm: &mut Evm, world: &World, step: &MixedStep, amount: U256) -> anyhow::Result<Option<U256>> {
    match step.protocol {
        Protocol::UniswapV2 => through_pair(evm, step, amount),
        Protocol::UniswapV3 => {
            let place = world.places.iter().find(|place| place.pool == step.swap.pool);
            through_pool(evm, place.context("an unknown pool")?, step, amount)
        }
        Protocol::UniswapV4 => {
            let place = world.places_v4.iter().find(|place| Some(place.id()) == step.pool_id);
            through_manager(evm, world, place.context("an unknown pool of V4")?, step, amount)
        }
    }
}

fn through_pair(evm: &mut Evm, step: &MixedStep, amount: U256) -> anyhow::Result<Option<U256>> {
    let (pair, held) = (step.swap.pool, reserves(evm, step.swap.pool));
    let hop = Hop::new(held.reserve0, held.reserve1, Fee::UNISWAP_V2)?;
    let Ok(out) = (if step.zero_for_one { hop } else { hop.reversed() }).amount_out(amount) else {
        return Ok(None);
    };
    forward(evm, step.swap.token_in, &transferCall { to: pair, amount })?;
    let ask = |out: U256| {
        let [out0, out1] = if step.zero_for_one { [U256::ZERO, out] } else { [out, U256::ZERO] };
        Pair::swapCall { amount0Out: out0, amount1Out: out1, to: payer_v3().0, data: Default::default() }
    };
    let more = message(pair, &ask(out + U256::ONE));
    ensure!(evm.call(&more).is_err(), "the pair gives more than {out}");
    forward(evm, pair, &ask(out))?;
    Ok(Some(out))
}

fn through_pool(
    evm: &mut Evm,
    place: &PlaceV3,
    step: &MixedStep,
    amount: U256,
) -> anyhow::Result<Option<U256>> {
    let zero_for_one = step.zero_for_one;
    let act = ActV3::Swap(order(step, place.tokens, amount)?);
    let message =
        Message { from: super::SENDER, to: payer_v3().0, value: U256::ZERO, data: place.calldata(&act) };
    let receipt = evm.transact(&message)?;
    let swaps = receipt.events::<Swap>(place.pool);
    let swap = swaps.first().context("a swap says so")?;
    let (taken, given) =
        if zero_for_one { (swap.amount0, -swap.amount1) } else { (swap.amount1, -swap.amount0) };
    ensure!(given >= I256::ZERO, "the pool takes both");
    Ok((taken.into_raw() == amount).then_some(given.into_raw()))
}

fn through_manager(
    evm: &mut Evm,
    world: &World,
    place: &PlaceV4,
    step: &MixedStep,
    amount: U256,
) -> anyhow::Result<Option<U256>> {
    let act = ActV4::Swap(order(step, place.currencies, amount)?);
    let CallV4 { to, value, data } = world.routers_v4.call(place, &act);
    let receipt = evm.transact(&Message { from: OWNER, to, value, data })?;
    let swaps = receipt.events::<manager::Swap>(place.manager);
    let swap = swaps.first().context("a swap says so")?;
    let [amount0, amount1] = [swap.amount0, swap.amount1].map(I256::try_from);
    let (taken, given) = if step.zero_for_one { (-amount0?, amount1?) } else { (-amount1?, amount0?) };
    ensure!(given >= I256::ZERO, "the pool takes both");
    Ok((taken.into_raw() == amount).then_some(given.into_raw()))
}

/// All of an amount, as far as prices go.
fn order(step: &MixedStep, tokens: [Address; 2], amount: U256) -> anyhow::Result<Order> {
    let zero_for_one = step.zero_for_one;
    ensure!(zero_for_one == (step.swap.token_in == tokens[0]), "another direction: {step:?}");
    let sqrt_price_limit = if zero_for_one { MIN_SQRT_PRICE + U256::ONE } else { MAX_SQRT_PRICE - U256::ONE };
    Ok(Order { zero_for_one, amount, is_exact_in: true, sqrt_price_limit })
}

/// What the traders have of a token: who goes through V4 is another one.
fn purse(evm: &mut Evm, token: Address) -> anyhow::Result<U256> {
    Ok(balance(evm, token, payer_v3().0)? + balance(evm, token, OWNER)?)
}

/// A call by the trader.
fn message<C: SolCall>(to: Address, call: &C) -> Message {
    let data = [to.into_word().as_slice(), &call.abi_encode()].concat().into();
    Message { from: super::SENDER, to: payer_v3().0, value: U256::ZERO, data }
}

fn forward<C: SolCall>(evm: &mut Evm, to: Address, call: &C) -> anyhow::Result<Receipt> {
    Ok(evm.transact(&message(to, call))?)
}
