//! Swaps through V4's `PoolManager` (v4-periphery `V4Router.sol`, `BaseActionsRouter.sol`, `DeltaResolver.sol`), as far as the router
//! itself pays.

use alloy_primitives::{Address, I256, U256};
use headwater_amm::Quote;
use headwater_events::{Exact, Route, SwapCall, V4Hop, V4Instruction};
use rustc_hash::FxHashMap;

use super::Not;
use super::ledger::Ledger;
use super::routers::meant;
use super::universal::{CONTRACT_BALANCE, NATIVE, pay_out, take_out};

/// What the manager owes the router by currency, negative where it is owed.
#[derive(Default)]
struct Deltas(FxHashMap<Address, I256>);

/// Follows the actions that are settled together.
pub(super) fn carry_out(actions: &[V4Instruction], ledger: &mut Ledger<'_>) -> Result<(), Not> {
    let mut deltas = Deltas::default();
    actions.iter().try_for_each(|action| act(action, &mut deltas, ledger))?;
    let is_settled = deltas.0.values().all(|delta| delta.is_zero());
    if is_settled { Ok(()) } else { Err(Not::Succeeding("CurrencyNotSettled")) }
}

fn act(action: &V4Instruction, deltas: &mut Deltas, ledger: &mut Ledger<'_>) -> Result<(), Not> {
    match action {
        V4Instruction::Swap(swap) => swapped(swap, deltas, ledger),
        V4Instruction::Settle { currency, amount, payer_is_user } => {
            // Native tokens are the router's in any case.
            if *payer_is_user && *currency != NATIVE {
                return Err(Not::Known);
            }
            let amount = match *amount {
                CONTRACT_BALANCE if *currency == NATIVE => ledger.native(),
                CONTRACT_BALANCE => ledger.all_of(*currency),
                U256::ZERO => deltas.debt(*currency)?,
                amount => amount,
            };
            settle(*currency, amount, deltas, ledger)
        }
        V4Instruction::SettleAll { currency, max_amount } => {
            let amount = deltas.debt(*currency)?;
            if amount > *max_amount {
                return Err(Not::Succeeding("V4TooMuchRequested"));
            }
            if *currency == NATIVE { settle(*currency, amount, deltas, ledger) } else { Err(Not::Known) }
        }
        V4Instruction::Take { currency, recipient, amount } => {
            let all = deltas.credit(*currency)?;
            let amount = if amount.is_zero() { all } else { *amount };
            take(*currency, meant(*recipient, ledger), amount, deltas, ledger)
        }
        V4Instruction::TakeAll { currency, min_amount } => {
            let amount = deltas.credit(*currency)?;
            if amount < *min_amount {
                return Err(Not::Succeeding("V4TooLittleReceived"));
            }
            take(*currency, ledger.sender, amount, deltas, ledger)
        }
        V4Instruction::TakePortion { currency, recipient, bips } => {
            let all = deltas.credit(*currency)?;
            let amount = all.checked_mul(*bips).ok_or(Not::Known)? / U256::from(10_000);
            take(*currency, meant(*recipient, ledger), amount, deltas, ledger)
        }
        V4Instruction::SettlePair { .. } | V4Instruction::TakePair { .. } | V4Instruction::Unknown(_) => {
            Err(Not::Known)
        }
    }
}

/// An amount of none stands for what is owed or due already.
fn swapped(call: &SwapCall, deltas: &mut Deltas, ledger: &mut Ledger<'_>) -> Result<(), Not> {
    let Route::V4 { currencies, pools } = &call.route else { return Err(Not::Known) };
    if currencies.len() != pools.len() + 1 || pools.iter().any(|pool| !pool.hook_data.is_empty()) {
        return Err(Not::Known);
    }
    let ends = currencies.first().zip(currencies.last());
    let (first, last) = ends.ok_or(Not::Known)?;
    match call.exact {
        Exact::Input => {
            let mut amount = call.amount_in;
            if amount.is_zero() {
                amount = deltas.credit(*first)?;
            }
            for (pair, pool) in currencies.windows(2).zip(pools) {
                amount = through([pair[0], pair[1]], pool, Exact::Input, amount, deltas, ledger)?.amount_out;
            }
            if amount < call.amount_out {
                return Err(Not::Succeeding("V4TooLittleReceived"));
            }
        }
        Exact::Output => {
            let mut amount = call.amount_out;
            if amount.is_zero() {
                amount = deltas.debt(*last)?;
            }
            for (pair, pool) in currencies.windows(2).zip(pools).rev() {
                amount = through([pair[0], pair[1]], pool, Exact::Output, amount, deltas, ledger)?.amount_in;
            }
            if amount > call.amount_in {
                return Err(Not::Succeeding("V4TooMuchRequested"));
            }
        }
    }
    ledger.count_swap();
    Ok(())
}

fn through(
    [from, to]: [Address; 2],
    pool: &V4Hop,
    exact: Exact,
    amount: U256,
    deltas: &mut Deltas,
    ledger: &mut Ledger<'_>,
) -> Result<Quote, Not> {
    let leg = ledger.v4(from, to, pool)?;
    let quote = match exact {
        Exact::Input => leg.exact_in(amount, None)?,
        Exact::Output => leg.exact_out(amount, None)?,
    };
    ledger.go_to(leg, &quote)?;
    deltas.add(from, -signed(quote.amount_in)?)?;
    deltas.add(to, signed(quote.amount_out)?)?;
    Ok(quote)
}

fn settle(currency: Address, amount: U256, deltas: &mut Deltas, ledger: &mut Ledger<'_>) -> Result<(), Not> {
    take_out(currency, amount, ledger)?;
    deltas.add(currency, signed(amount)?)
}

fn take(
    currency: Address,
    recipient: Address,
    amount: U256,
    deltas: &mut Deltas,
    ledger: &mut Ledger<'_>,
) -> Result<(), Not> {
    deltas.add(currency, -signed(amount)?)?;
    pay_out(currency, recipient, amount, ledger)
}

fn signed(amount: U256) -> Result<I256, Not> {
    I256::try_from(amount).map_err(|_| Not::Known)
}

impl Deltas {
    fn of(&self, currency: Address) -> I256 {
        self.0.get(&currency).copied().unwrap_or_default()
    }

    fn add(&mut self, currency: Address, amount: I256) -> Result<(), Not> {
        let delta = self.0.entry(currency).or_default();
        *delta = delta.checked_add(amount).ok_or(Not::Known)?;
        Ok(())
    }

    /// What the router owes.
    fn debt(&self, currency: Address) -> Result<U256, Not> {
        let delta = self.of(currency);
        if delta.is_positive() { Err(Not::Succeeding("DeltaNotNegative")) } else { Ok(delta.unsigned_abs()) }
    }

    /// What the router is owed.
    fn credit(&self, currency: Address) -> Result<U256, Not> {
        let delta = self.of(currency);
        if delta.is_negative() { Err(Not::Succeeding("DeltaNotPositive")) } else { Ok(delta.unsigned_abs()) }
    }
}
