//! `SwapRouter` (v3-periphery) and `SwapRouter02` (swap-router-contracts).

use alloy_primitives::{Address, U256};
use headwater_abi::Malformed;
use headwater_abi::calldata::{Input, Limits, ReadCall, swap_router_02, uniswap_v3_router};
use headwater_events::{Call, Exact, Guard, PaymentCall, Route, SwapCall, Transaction};

use super::ledger::{ConcentratedLeg, Ledger, Payer};
use super::v2::{amounts_in, amounts_out};
use super::{Not, RouterKind};

/// The caller, to `SwapRouter02` and the Universal Router (`Constants.sol`).
const MSG_SENDER: Address = Address::with_last_byte(1);
/// The router itself.
const ADDRESS_THIS: Address = Address::with_last_byte(2);

/// Follows a call of either router.
pub(super) fn follow(transaction: &Transaction, ledger: &mut Ledger<'_>) -> Result<(), Not> {
    let input = Input::of(transaction).ok_or(Not::Known)?;
    let call = Inside(ledger.router.kind).read(&input, &mut Limits::default());
    call_of_router(&call.ok().flatten().ok_or(Not::Known)?, ledger)
}

/// A multicall carries calls of the same router.
struct Inside(RouterKind);

impl ReadCall for Inside {
    fn read(&self, input: &Input<'_>, limits: &mut Limits) -> Result<Option<Call>, Malformed> {
        match self.0 {
            RouterKind::UniswapV3 => uniswap_v3_router(input, self, limits),
            RouterKind::SwapRouter02 => swap_router_02(input, self, limits),
            RouterKind::UniswapV2 | RouterKind::UniversalRouterV1 | RouterKind::UniversalRouter => Ok(None),
        }
    }
}

fn call_of_router(call: &Call, ledger: &mut Ledger<'_>) -> Result<(), Not> {
    match call {
        Call::Swap(swap) => swapped(swap, ledger),
        Call::Payment(payment) => paid(payment, ledger),
        Call::Multicall { guard, calls } => {
            check(guard, ledger)?;
            calls.iter().try_for_each(|call| call_of_router(call, ledger))
        }
        _ => Err(Not::Known),
    }
}

fn check(guard: &Guard, ledger: &Ledger<'_>) -> Result<(), Not> {
    match guard {
        Guard::None => Ok(()),
        Guard::Deadline(deadline) => in_time(*deadline, ledger),
        Guard::PreviousBlockHash(hash) if *hash == ledger.moment.parent => Ok(()),
        Guard::PreviousBlockHash(_) => Err(Not::Succeeding("Blockhash")),
    }
}

fn in_time(deadline: U256, ledger: &Ledger<'_>) -> Result<(), Not> {
    let is_late = deadline < U256::from(ledger.moment.timestamp);
    if is_late { Err(Not::Succeeding("Transaction too old")) } else { Ok(()) }
}

fn swapped(call: &SwapCall, ledger: &mut Ledger<'_>) -> Result<(), Not> {
    if let Some(deadline) = call.deadline {
        in_time(deadline, ledger)?;
    }
    let recipient = recipient_of(call, ledger)?;
    let token_in = match &call.route {
        Route::V2 { tokens, .. } | Route::V3 { tokens, .. } => *tokens.first().ok_or(Not::Known)?,
        Route::V4 { .. } => return Err(Not::Known),
    };
    // `CONTRACT_BALANCE`: all that the router has.
    let is_all = ledger.router.kind == RouterKind::SwapRouter02
        && call.exact == Exact::Input
        && call.amount_in.is_zero();
    let (amount_in, payer) =
        if is_all { (ledger.all_of(token_in), Payer::Router) } else { (call.amount_in, Payer::Sender) };
    let swap = Order { exact: call.exact, amount_in, amount_out: call.amount_out, payer, recipient };
    match &call.route {
        Route::V2 { tokens, .. } => through_pairs(&swap, tokens, ledger, pay),
        Route::V3 { tokens, fees, price_limit } => {
            through_pools(&swap, tokens, fees, price_limit.map(U256::from), ledger, pay)
        }
        Route::V4 { .. } => Err(Not::Known),
    }
}

fn recipient_of(call: &SwapCall, ledger: &Ledger<'_>) -> Result<Address, Not> {
    let named = call.recipient.ok_or(Not::Known)?;
    Ok(match ledger.router.kind {
        RouterKind::SwapRouter02 => meant(named, ledger),
        // `SwapRouter.exactInputInternal`
        _ if named == Address::ZERO => ledger.router.address,
        _ => named,
    })
}

/// Whom an address stands for that may be one of the constants.
pub(super) fn meant(named: Address, ledger: &Ledger<'_>) -> Address {
    match named {
        MSG_SENDER => ledger.sender,
        ADDRESS_THIS => ledger.router.address,
        other => other,
    }
}

/// A swap without what the routers write differently.
pub(super) struct Order {
    pub(super) exact: Exact,
    /// Exact, or the most.
    pub(super) amount_in: U256,
    /// Exact, or the least.
    pub(super) amount_out: U256,
    pub(super) payer: Payer,
    pub(super) recipient: Address,
}

/// How a router pays a pool.
pub(super) type Pay = fn(&mut Ledger<'_>, Address, Payer, U256) -> Result<(), Not>;

/// `PeripheryPayments.pay`: with the router's own wei, where the token is the wrapped one and there are enough.
fn pay(ledger: &mut Ledger<'_>, token: Address, payer: Payer, amount: U256) -> Result<(), Not> {
    if token == ledger.router.wrapped_native && ledger.native() >= amount {
        return ledger.give_native(amount);
    }
    match payer {
        Payer::Router => ledger.give(token, amount),
        Payer::Sender => {
            ledger.take_from_sender(token, amount);
            Ok(())
        }
    }
}

/// Through pairs that are given what they are paid, and give what they then may: `V2SwapRouter.sol` of both packages.
pub(super) fn through_pairs(
    order: &Order,
    tokens: &[Address],
    ledger: &mut Ledger<'_>,
    pay: Pay,
) -> Result<(), Not> {
    let [token_in, .., token_out] = *tokens else { return Err(Not::Known) };
    let way = ledger.way(tokens)?;
    let amount_in = match order.exact {
        Exact::Input => order.amount_in,
        Exact::Output => amounts_in(order.amount_out, &way)?.first().copied().unwrap_or_default(),
    };
    if order.exact == Exact::Output && amount_in > order.amount_in {
        return Err(Not::Succeeding("Too much requested"));
    }
    let amounts = amounts_out(amount_in, &way)?;
    pay(ledger, token_in, order.payer, amount_in)?;
    for (leg, amount) in way.iter().zip(amounts.windows(2)) {
        ledger.go_through(leg, amount[0], amount[1])?;
    }
    let amount_out = amounts.last().copied().unwrap_or_default();
    if order.exact == Exact::Input && amount_out < order.amount_out {
        return Err(Not::Succeeding("Too little received"));
    }
    receive(order, tokens, token_out, amount_out, ledger)
}

/// Through pools of V3: `SwapRouter.sol`, and `V3SwapRouter.sol` of both packages.
pub(super) fn through_pools(
    order: &Order,
    tokens: &[Address],
    fees: &[u32],
    limit: Option<U256>,
    ledger: &mut Ledger<'_>,
    pay: Pay,
) -> Result<(), Not> {
    let [_, .., token_out] = *tokens else { return Err(Not::Known) };
    if fees.len() + 1 != tokens.len() {
        return Err(Not::Known);
    }
    let amount_out = match order.exact {
        Exact::Input => forwards(order, tokens, fees, limit, ledger, pay)?,
        Exact::Output => backwards(order, tokens, fees, limit, ledger, pay)?,
    };
    receive(order, tokens, token_out, amount_out, ledger)
}

fn receive(
    order: &Order,
    tokens: &[Address],
    token_out: Address,
    amount_out: U256,
    ledger: &mut Ledger<'_>,
) -> Result<(), Not> {
    if tokens.contains(&order.recipient) {
        return Err(Not::Known);
    }
    ledger.count_swap();
    ledger.hand_to(order.recipient, token_out, amount_out)
}

/// Pool by pool; what one gives, the router pays the next with. A pool takes less than it is offered where the price would go
/// beyond all limits.
fn forwards(
    order: &Order,
    tokens: &[Address],
    fees: &[u32],
    limit: Option<U256>,
    ledger: &mut Ledger<'_>,
    pay: Pay,
) -> Result<U256, Not> {
    let (mut amount, mut payer) = (order.amount_in, order.payer);
    for (place, (pair, fee)) in tokens.windows(2).zip(fees).enumerate() {
        let leg = ledger.concentrated(pair[0], pair[1], *fee)?;
        let quote = leg.exact_in(amount, limit)?;
        pay(ledger, pair[0], payer, quote.amount_in)?;
        ledger.go_to(leg, &quote)?;
        (amount, payer) = (quote.amount_out, Payer::Router);
        if place + 1 < fees.len() {
            ledger.get(pair[1], amount)?;
        }
    }
    if amount < order.amount_out { Err(Not::Succeeding("Too little received")) } else { Ok(amount) }
}

/// From the last pool to the first: each is paid by the one before it, within its callback, so none may come twice.
fn backwards(
    order: &Order,
    tokens: &[Address],
    fees: &[u32],
    limit: Option<U256>,
    ledger: &mut Ledger<'_>,
    pay: Pay,
) -> Result<U256, Not> {
    let mut legs: Vec<ConcentratedLeg> = Vec::with_capacity(fees.len());
    let mut quotes = Vec::with_capacity(fees.len());
    let mut wanted = order.amount_out;
    for (pair, fee) in tokens.windows(2).zip(fees).rev() {
        let leg = ledger.concentrated(pair[0], pair[1], *fee)?;
        if legs.iter().any(|other| other.id == leg.id) {
            return Err(Not::Known);
        }
        let quote = leg.exact_out(wanted, limit)?;
        if limit.is_none() && quote.amount_out != wanted {
            return Err(Not::Succeeding("the pools do not give it"));
        }
        wanted = quote.amount_in;
        legs.push(leg);
        quotes.push(quote);
    }
    if wanted > order.amount_in {
        return Err(Not::Succeeding("Too much requested"));
    }
    pay(ledger, tokens[0], order.payer, wanted)?;
    for (leg, quote) in legs.into_iter().zip(&quotes) {
        ledger.go_to(leg, quote)?;
    }
    quotes.first().map(|quote| quote.amount_out).ok_or(Not::Known)
}

/// `PeripheryPayments.sol` and its extensions. What the router has to have at least is only known where it got as much.
fn paid(payment: &PaymentCall, ledger: &mut Ledger<'_>) -> Result<(), Not> {
    let wrapped = ledger.router.wrapped_native;
    match payment {
        PaymentCall::WrapEth { amount } => {
            ledger.give_native(*amount)?;
            ledger.get(wrapped, *amount)
        }
        PaymentCall::UnwrapWeth { amount_min, recipient, fee: None } => {
            let (held, recipient) = (ledger.held(wrapped), recipient.unwrap_or(ledger.sender));
            if held < *amount_min || recipient == ledger.router.address {
                return Err(Not::Known);
            }
            ledger.give(wrapped, held)?;
            ledger.pay_native(recipient);
            Ok(())
        }
        PaymentCall::SweepToken { token, amount_min, recipient, fee: None } => {
            let (held, recipient) = (ledger.held(*token), recipient.unwrap_or(ledger.sender));
            if held < *amount_min || recipient == ledger.router.address {
                return Err(Not::Known);
            }
            ledger.give(*token, held)?;
            ledger.check_recipient(recipient)
        }
        PaymentCall::RefundEth => {
            ledger.give_native(ledger.native())?;
            ledger.pay_native(ledger.sender);
            Ok(())
        }
        PaymentCall::Pull { token, amount } => {
            ledger.take_from_sender(*token, *amount);
            ledger.get(*token, *amount)
        }
        PaymentCall::UnwrapWeth { .. }
        | PaymentCall::SweepToken { .. }
        | PaymentCall::SelfPermit { .. }
        | PaymentCall::SelfPermitAllowed { .. } => Err(Not::Known),
    }
}
