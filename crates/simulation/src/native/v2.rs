//! `UniswapV2Router02` (v2-periphery), and how a pair's amounts are reckoned (`UniswapV2Library.sol`).

use alloy_primitives::{Address, U256};
use headwater_abi::calldata::{Input, uniswap_v2_router};
use headwater_events::{Call, Exact, Native, Route, SwapCall, Transaction};

use super::ledger::{Ledger, Leg};
use super::{Moment, Not, Router};

/// Follows a call of the router.
pub(super) fn follow(transaction: &Transaction, ledger: &mut Ledger<'_>) -> Result<(), Not> {
    let input = Input::of(transaction).ok_or(Not::Known)?;
    let Ok(Some(Call::Swap(call))) = uniswap_v2_router(&input) else { return Err(Not::Known) };
    let Route::V2 { tokens, native, .. } = &call.route else { return Err(Not::Known) };
    let recipient = call.recipient.ok_or(Not::Known)?;
    check(transaction, &call, tokens, *native, ledger.router, ledger.moment)?;
    if tokens.contains(&recipient) || recipient == ledger.router.address {
        return Err(Not::Known);
    }
    ledger.check_recipient(recipient)?;
    let way = ledger.way(tokens)?;
    let amounts = amounts(&call, &way)?;
    for (leg, amount) in way.iter().zip(amounts.windows(2)) {
        ledger.go_through(leg, amount[0], amount[1])?;
    }
    if let (Some(token), Some(amount)) = (tokens.first(), amounts.first())
        && *native != Native::Input
    {
        ledger.take_from_sender(*token, *amount);
    }
    if *native == Native::Output {
        ledger.pay_native(recipient);
    }
    // The sender gets back what it sent too much.
    ledger.pay_native(ledger.sender);
    ledger.count_swap();
    Ok(())
}

/// What the router requires before it looks at a pool.
fn check(
    transaction: &Transaction,
    call: &SwapCall,
    tokens: &[Address],
    native: Native,
    router: &Router,
    moment: &Moment,
) -> Result<(), Not> {
    if call.deadline.is_some_and(|deadline| deadline < U256::from(moment.timestamp)) {
        return Err(Not::Succeeding("EXPIRED"));
    }
    if native != Native::Input && !transaction.value.is_zero() {
        return Err(Not::Succeeding("the function takes no value"));
    }
    let wrapped = match native {
        Native::None => return Ok(()),
        Native::Input => tokens.first(),
        Native::Output => tokens.last(),
    };
    if wrapped == Some(&router.wrapped_native) { Ok(()) } else { Err(Not::Succeeding("INVALID_PATH")) }
}

/// `getAmountsOut` or `getAmountsIn`, with the router's limit.
fn amounts(call: &SwapCall, way: &[Leg]) -> Result<Vec<U256>, Not> {
    match call.exact {
        Exact::Input => {
            let amounts = amounts_out(call.amount_in, way)?;
            let out = amounts.last().copied().unwrap_or_default();
            if out < call.amount_out {
                return Err(Not::Succeeding("INSUFFICIENT_OUTPUT_AMOUNT"));
            }
            Ok(amounts)
        }
        Exact::Output => {
            let amounts = amounts_in(call.amount_out, way)?;
            let taken = amounts.first().copied().unwrap_or_default();
            if taken > call.amount_in {
                return Err(Not::Succeeding("EXCESSIVE_INPUT_AMOUNT"));
            }
            Ok(amounts)
        }
    }
}

/// `getAmountsOut`
pub(super) fn amounts_out(amount_in: U256, way: &[Leg]) -> Result<Vec<U256>, Not> {
    let mut amounts = vec![amount_in];
    let mut amount = amount_in;
    for leg in way {
        amount = leg.hop.amount_out(amount).map_err(refused)?;
        amounts.push(amount);
    }
    Ok(amounts)
}

/// `getAmountsIn`
pub(super) fn amounts_in(amount_out: U256, way: &[Leg]) -> Result<Vec<U256>, Not> {
    let mut amounts = vec![amount_out];
    let mut amount = amount_out;
    for leg in way.iter().rev() {
        amount = leg.hop.amount_in(amount).map_err(refused)?;
        amounts.push(amount);
    }
    amounts.reverse();
    Ok(amounts)
}

fn refused<E>(_: E) -> Not {
    Not::Succeeding("the pools do not give it")
}
