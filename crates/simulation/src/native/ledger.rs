//! The pools and the router's purse while a call is followed.

use alloy_primitives::{Address, U256};
use headwater_amm::{ConcentratedError, Direction, Fee, Hop, Quote};
use headwater_events::{Transaction, V4Hop};
use headwater_market::{
    ConcentratedEvent, ConcentratedId, ConcentratedKey, ConcentratedPool, MarketSnapshot, PoolId, Reserves,
    V4Key,
};
use rustc_hash::FxHashMap;

use super::{Index, Moment, Not, Router, Swap, Swapped};

/// What is followed: copies of the pools that were gone through, and what the router got and gave.
pub(super) struct Ledger<'a> {
    pub(super) router: &'a Router,
    pub(super) moment: &'a Moment,
    pub(super) sender: Address,
    market: &'a MarketSnapshot,
    index: &'a Index,
    gas_limit: u64,
    /// The router's, in wei.
    native: U256,
    /// The router's tokens, beyond what it had before.
    held: FxHashMap<Address, U256>,
    done: Swapped,
    /// Gas that suffices for all that was done, of plain tokens.
    ample_gas: u64,
    swaps: usize,
}

/// Whose tokens a pool is paid with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payer {
    Sender,
    Router,
}

/// A pair on the way, in the direction of the swap.
pub(super) struct Leg {
    pool: PoolId,
    held: Reserves,
    pub(super) hop: Hop,
    zero_for_one: bool,
}

/// A pool with concentrated liquidity on the way, in the direction of the swap.
pub(super) struct ConcentratedLeg {
    pub(super) id: ConcentratedId,
    pool: ConcentratedPool,
    direction: Direction,
}

/// Gas that suffices for any call before its first swap: whoever allows less than is ample may run out of it, which only
/// executing tells.
const AMPLE_GAS: u64 = 200_000;
const AMPLE_GAS_PER_PAIR: u64 = 150_000;
const AMPLE_GAS_PER_POOL: u64 = 200_000;
const AMPLE_GAS_PER_CROSSING: u64 = 60_000;
/// A swap looks at each word of the bitmap on its way, of 256 ticks that may be initialised.
const AMPLE_GAS_PER_WORD: u64 = 10_000;

impl<'a> Ledger<'a> {
    pub(super) fn new(
        transaction: &Transaction,
        router: &'a Router,
        market: &'a MarketSnapshot,
        index: &'a Index,
        moment: &'a Moment,
    ) -> Self {
        Self {
            router,
            moment,
            sender: transaction.from,
            market,
            index,
            gas_limit: transaction.gas_limit,
            native: moment.native.saturating_add(transaction.value),
            held: FxHashMap::default(),
            done: Swapped::default(),
            ample_gas: AMPLE_GAS,
            swaps: 0,
        }
    }

    /// What was done, if that is how it goes.
    pub(super) fn end(mut self, ended: Result<(), Not>) -> Result<Swapped, Not> {
        match ended {
            Ok(()) if self.gas_limit >= self.ample_gas && self.swaps > 0 => {
                self.done.is_single = self.swaps == 1;
                Ok(self.done)
            }
            // The reason holds only if the router had nothing and no contract was sent anything before, which nobody has looked at.
            Err(Not::Succeeding(reason))
                if self.done.presumed_empty.is_empty() && self.done.paid_native.is_empty() =>
            {
                Err(Not::Succeeding(reason))
            }
            _ => Err(Not::Known),
        }
    }

    pub(super) fn native(&self) -> U256 {
        self.native
    }

    /// All that the router has of a token, if it had nothing of it before the call.
    pub(super) fn all_of(&mut self, token: Address) -> U256 {
        if !self.done.presumed_empty.contains(&token) {
            self.done.presumed_empty.push(token);
        }
        self.held(token)
    }

    /// What the router got of a token and did not give away: it has no less.
    pub(super) fn held(&self, token: Address) -> U256 {
        self.held.get(&token).copied().unwrap_or_default()
    }

    pub(super) fn get(&mut self, token: Address, amount: U256) -> Result<(), Not> {
        let held = self.held.entry(token).or_default();
        *held = held.checked_add(amount).ok_or(Not::Known)?;
        Ok(())
    }

    /// The router gives tokens away that it got.
    pub(super) fn give(&mut self, token: Address, amount: U256) -> Result<(), Not> {
        let held = self.held.entry(token).or_default();
        *held = held.checked_sub(amount).ok_or(Not::Known)?;
        Ok(())
    }

    pub(super) fn get_native(&mut self, amount: U256) -> Result<(), Not> {
        self.native = self.native.checked_add(amount).ok_or(Not::Known)?;
        Ok(())
    }

    pub(super) fn give_native(&mut self, amount: U256) -> Result<(), Not> {
        self.native = self.native.checked_sub(amount).ok_or(Not::Known)?;
        Ok(())
    }

    pub(super) fn take_from_sender(&mut self, token: Address, amount: U256) {
        self.done.pays.push((token, amount));
    }

    pub(super) fn pay_native(&mut self, recipient: Address) {
        self.done.paid_native.push(recipient);
    }

    /// Somebody gets tokens: the router, or somebody whom that does not concern any further.
    pub(super) fn hand_to(&mut self, recipient: Address, token: Address, amount: U256) -> Result<(), Not> {
        if recipient == self.router.address {
            self.get(token, amount)
        } else {
            self.check_recipient(recipient)
        }
    }

    /// Whether nothing follows from somebody's getting tokens.
    pub(super) fn check_recipient(&self, recipient: Address) -> Result<(), Not> {
        let MarketSnapshot { pools, concentrated, .. } = self.market;
        let is_pool = pools.find(&recipient).is_some() || concentrated.find(&recipient).is_some();
        if is_pool || recipient == Address::ZERO || recipient == self.router.wrapped_native {
            return Err(Not::Known);
        }
        Ok(())
    }

    /// The pairs between the tokens: all tracked, all with tokens that may be quoted, none twice.
    pub(super) fn way(&self, tokens: &[Address]) -> Result<Vec<Leg>, Not> {
        let factory = self.router.factory_v2.ok_or(Not::Known)?;
        let pools = &self.market.pools;
        let mut way: Vec<Leg> = Vec::with_capacity(tokens.len().saturating_sub(1));
        for pair in tokens.windows(2) {
            let pool = self.index.pair(factory, pair[0], pair[1]).ok_or(Not::Known)?;
            let (meta, quoted) = pools.meta(pool).zip(pools.quoted(pool)).ok_or(Not::Known)?;
            if way.iter().any(|leg| leg.pool == pool) {
                return Err(Not::Known);
            }
            let held = self.done.hops.iter().find(|swap| swap.pool == pool).map_or(quoted, |swap| swap.after);
            let zero_for_one = pair[0] == meta.token0;
            let fee = Fee::from_ppm(meta.fee_ppm).map_err(|_| Not::Known)?;
            let hop = Hop::new(held.reserve0, held.reserve1, fee).map_err(|_| Not::Known)?;
            let hop = if zero_for_one { hop } else { hop.reversed() };
            way.push(Leg { pool, held, hop, zero_for_one });
        }
        if way.is_empty() { Err(Not::Known) } else { Ok(way) }
    }

    /// A pair takes one amount and gives the other.
    pub(super) fn go_through(&mut self, leg: &Leg, amount_in: U256, amount_out: U256) -> Result<(), Not> {
        let after = leg.after(amount_in, amount_out)?;
        match self.done.hops.iter_mut().find(|swap| swap.pool == leg.pool) {
            Some(swap) => swap.after = after,
            None => self.done.hops.push(Swap { pool: leg.pool, before: leg.held, after }),
        }
        self.ample_gas += AMPLE_GAS_PER_PAIR;
        Ok(())
    }

    /// The pool of V3 between two tokens, if it is tracked and may be quoted.
    pub(super) fn concentrated(&self, from: Address, to: Address, fee: u32) -> Result<ConcentratedLeg, Not> {
        let factory = self.router.factory_v3.ok_or(Not::Known)?;
        let id = self.index.pool(factory, from, to, fee).ok_or(Not::Known)?;
        self.leg(id, from < to)
    }

    /// The pool of V4 between two currencies.
    pub(super) fn v4(&self, from: Address, to: Address, hop: &V4Hop) -> Result<ConcentratedLeg, Not> {
        let (currency0, currency1) = (from.min(to), from.max(to));
        let V4Hop { fee, tick_spacing, hooks, .. } = *hop;
        let id = V4Key { currency0, currency1, fee, tick_spacing, hooks }.id();
        let manager = self.router.manager.ok_or(Not::Known)?;
        let key = ConcentratedKey::V4 { manager, id };
        let id = self.market.concentrated.find_key(&key).ok_or(Not::Known)?;
        self.leg(id, from < to)
    }

    fn leg(&self, id: ConcentratedId, zero_for_one: bool) -> Result<ConcentratedLeg, Not> {
        let done = self.done.concentrated.iter().find(|(done, _)| *done == id);
        let pool = match done {
            Some((_, pool)) => pool.clone(),
            None => self.market.quoted_concentrated(id).map(|pool| (**pool).clone()).ok_or(Not::Known)?,
        };
        let direction = if zero_for_one { Direction::ZeroForOne } else { Direction::OneForZero };
        Ok(ConcentratedLeg { id, pool, direction })
    }

    /// The pool goes where the swap leads it.
    pub(super) fn go_to(&mut self, leg: ConcentratedLeg, quote: &Quote) -> Result<(), Not> {
        let ConcentratedLeg { id, mut pool, .. } = leg;
        let ticks = pool.price().map_or(0, |price| price.tick.abs_diff(quote.price.tick));
        let words = u64::from(ticks) / (256 * u64::from(pool.tick_spacing().unsigned_abs())) + 2;
        self.ample_gas += AMPLE_GAS_PER_POOL
            + AMPLE_GAS_PER_CROSSING * u64::from(quote.crossings)
            + AMPLE_GAS_PER_WORD * words;
        let event = ConcentratedEvent::Swapped { price: quote.price, liquidity: quote.liquidity };
        pool.apply(&event).map_err(|_| Not::Known)?;
        match self.done.concentrated.iter_mut().find(|(done, _)| *done == id) {
            Some((_, before)) => *before = pool,
            None => self.done.concentrated.push((id, pool)),
        }
        Ok(())
    }

    /// A swap was done.
    pub(super) fn count_swap(&mut self) {
        self.swaps += 1;
    }
}

impl Leg {
    fn after(&self, amount_in: U256, amount_out: U256) -> Result<Reserves, Not> {
        let [amount_in, amount_out] =
            [amount_in, amount_out].map(|amount| u128::try_from(amount).map_err(|_| Not::Known));
        let (amount_in, amount_out) = (amount_in?, amount_out?);
        if !self.hop.accepts(amount_in, amount_out) {
            return Err(Not::Known);
        }
        let after = self.hop.after(amount_in, amount_out).map_err(|_| Not::Known)?;
        let (reserve0, reserve1) = if self.zero_for_one {
            (after.reserve_in(), after.reserve_out())
        } else {
            (after.reserve_out(), after.reserve_in())
        };
        Ok(Reserves { reserve0, reserve1 })
    }
}

impl ConcentratedLeg {
    pub(super) fn exact_in(&self, amount: U256, limit: Option<U256>) -> Result<Quote, Not> {
        self.pool.exact_in(self.direction, amount, limit).map_err(not)
    }

    pub(super) fn exact_out(&self, amount: U256, limit: Option<U256>) -> Result<Quote, Not> {
        self.pool.exact_out(self.direction, amount, limit).map_err(not)
    }
}

fn not(error: ConcentratedError) -> Not {
    match error {
        ConcentratedError::ZeroAmount => Not::Succeeding("AS"),
        ConcentratedError::PriceLimit => Not::Succeeding("SPL"),
        _ => Not::Known,
    }
}
