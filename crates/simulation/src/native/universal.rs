//! The Universal Router (universal-router `Dispatcher.sol`, `Payments.sol`), as far as the router itself pays: Permit2 is executed.

use alloy_primitives::{Address, U256};
use headwater_abi::calldata::{Input, Limits, universal_router, universal_router_v1};
use headwater_events::{Call, Command, Exact, Instruction, Route, SwapCall, Transaction};

use super::ledger::{Ledger, Payer};
use super::routers::{Order, meant, through_pairs, through_pools};
use super::{Not, RouterKind, v4};

/// All that the router has (`ActionConstants.sol`).
pub(super) const CONTRACT_BALANCE: U256 = U256::from_limbs([0, 0, 0, 1 << 63]);

/// The native tokens (`Constants.sol`).
pub(super) const NATIVE: Address = Address::ZERO;

/// Follows a plan.
pub(super) fn follow(transaction: &Transaction, ledger: &mut Ledger<'_>) -> Result<(), Not> {
    let input = Input::of(transaction).ok_or(Not::Known)?;
    let mut limits = Limits::default();
    let call = match ledger.router.kind {
        RouterKind::UniversalRouterV1 => universal_router_v1(&input, &mut limits),
        _ => universal_router(&input, &mut limits),
    };
    let Ok(Some(Call::UniversalRouter { deadline, commands })) = call else { return Err(Not::Known) };
    if deadline.is_some_and(|deadline| deadline < U256::from(ledger.moment.timestamp)) {
        return Err(Not::Succeeding("TransactionDeadlinePassed"));
    }
    commands.iter().try_for_each(|command| carry_out(command, ledger))
}

fn carry_out(command: &Command, ledger: &mut Ledger<'_>) -> Result<(), Not> {
    if command.allow_revert {
        return Err(Not::Known);
    }
    match &command.instruction {
        Instruction::Swap { swap, payer_is_user: false } => swapped(swap, ledger),
        Instruction::V4(actions) => v4::carry_out(actions, ledger),
        Instruction::Wrap { recipient, amount } => wrap(meant(*recipient, ledger), *amount, ledger),
        Instruction::Unwrap { recipient, amount_min } => {
            let (wrapped, recipient) = (ledger.router.wrapped_native, meant(*recipient, ledger));
            let held = at_least(*amount_min, wrapped, ledger)?;
            ledger.give(wrapped, held)?;
            pay_out(NATIVE, recipient, held, ledger)
        }
        Instruction::Sweep { token, recipient, amount_min } => {
            let recipient = meant(*recipient, ledger);
            let amount = at_least(*amount_min, *token, ledger)?;
            take_out(*token, amount, ledger)?;
            pay_out(*token, recipient, amount, ledger)
        }
        Instruction::Transfer { token, recipient, amount } if *amount != CONTRACT_BALANCE => {
            let recipient = meant(*recipient, ledger);
            take_out(*token, *amount, ledger)?;
            pay_out(*token, recipient, *amount, ledger)
        }
        Instruction::PayPortion { token, recipient, bips } if !bips.is_zero() => {
            let (whole, recipient) = (U256::from(10_000), meant(*recipient, ledger));
            let all = if *token == NATIVE { ledger.native() } else { ledger.all_of(*token) };
            let amount = all.checked_mul(*bips).ok_or(Not::Known)? / whole;
            take_out(*token, amount, ledger)?;
            pay_out(*token, recipient, amount, ledger)
        }
        _ => Err(Not::Known),
    }
}

fn swapped(call: &SwapCall, ledger: &mut Ledger<'_>) -> Result<(), Not> {
    let recipient = meant(call.recipient.ok_or(Not::Known)?, ledger);
    let token_in = match &call.route {
        Route::V2 { tokens, .. } | Route::V3 { tokens, .. } => *tokens.first().ok_or(Not::Known)?,
        Route::V4 { .. } => return Err(Not::Known),
    };
    let amount_in = match call.exact {
        Exact::Input if call.amount_in == CONTRACT_BALANCE => ledger.all_of(token_in),
        // `ALREADY_PAID`: the pair has it.
        Exact::Input if call.amount_in.is_zero() => return Err(Not::Known),
        Exact::Input | Exact::Output => call.amount_in,
    };
    let (exact, amount_out) = (call.exact, call.amount_out);
    let order = Order { exact, amount_in, amount_out, payer: Payer::Router, recipient };
    match &call.route {
        Route::V2 { tokens, .. } => through_pairs(&order, tokens, ledger, pay),
        Route::V3 { tokens, fees, .. } => through_pools(&order, tokens, fees, None, ledger, pay),
        Route::V4 { .. } => Err(Not::Known),
    }
}

/// `Payments.pay`
fn pay(ledger: &mut Ledger<'_>, token: Address, payer: Payer, amount: U256) -> Result<(), Not> {
    match payer {
        Payer::Router => ledger.give(token, amount),
        Payer::Sender => Err(Not::Known),
    }
}

fn wrap(recipient: Address, amount: U256, ledger: &mut Ledger<'_>) -> Result<(), Not> {
    let amount = if amount == CONTRACT_BALANCE { ledger.native() } else { amount };
    if amount > ledger.native() {
        return Err(Not::Succeeding("InsufficientETH"));
    }
    ledger.give_native(amount)?;
    ledger.hand_to(recipient, ledger.router.wrapped_native, amount)
}

/// All that the router got of a token, if that is enough.
fn at_least(least: U256, token: Address, ledger: &Ledger<'_>) -> Result<U256, Not> {
    let amount = if token == NATIVE { ledger.native() } else { ledger.held(token) };
    if amount < least { Err(Not::Known) } else { Ok(amount) }
}

/// The router gives tokens of its own away.
pub(super) fn take_out(token: Address, amount: U256, ledger: &mut Ledger<'_>) -> Result<(), Not> {
    if token == NATIVE { ledger.give_native(amount) } else { ledger.give(token, amount) }
}

/// Somebody gets tokens.
pub(super) fn pay_out(
    token: Address,
    recipient: Address,
    amount: U256,
    ledger: &mut Ledger<'_>,
) -> Result<(), Not> {
    if token != NATIVE {
        return ledger.hand_to(recipient, token, amount);
    }
    if recipient == ledger.router.address {
        return ledger.get_native(amount);
    }
    ledger.pay_native(recipient);
    Ok(())
}
