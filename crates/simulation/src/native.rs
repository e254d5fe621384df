//! What a call of a Uniswap V2 router does to tracked pools, without executing it.
//!
//! Only constant-product pools: a router of concentrated liquidity would stand beside [`swap`], and until then is executed.

use alloy_primitives::{Address, U256};
use headwater_abi::calldata::{Input, uniswap_v2_router};
use headwater_amm::{Fee, Hop};
use headwater_events::{Call, Exact, Native, Route, SwapCall, Transaction};
use headwater_market::{PoolId, PoolTable, Reserves};
use rustc_hash::FxHashMap;

/// What a router is made of, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Router {
    pub(crate) address: Address,
    pub(crate) factory: Address,
    pub(crate) wrapped_native: Address,
}

/// Pools by their factory and tokens: what a router looks them up by.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    by_tokens: FxHashMap<(Address, Address, Address), PoolId>,
    seen: usize,
}

impl Pairs {
    /// Takes the pools in that are new. A table that shrank is another table.
    pub(crate) fn follow(&mut self, pools: &PoolTable) {
        if pools.len() < self.seen {
            *self = Self::default();
        }
        for index in self.seen..pools.len() {
            let Ok(id) = u32::try_from(index).map(PoolId) else { break };
            if let Some(meta) = pools.meta(id) {
                self.by_tokens.insert((meta.factory, meta.token0, meta.token1), id);
            }
        }
        self.seen = pools.len();
    }

    fn find(&self, factory: Address, a: Address, b: Address) -> Option<PoolId> {
        self.by_tokens.get(&(factory, a.min(b), a.max(b))).copied()
    }
}

/// What a call does, if nothing outside the pools is against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Swapped {
    /// The pools that it goes through, before and after.
    pub(crate) hops: Vec<Swap>,
    /// What the router takes from the sender's tokens; nothing where native tokens come along.
    pub(crate) pays: Option<(Address, U256)>,
    /// Who gets the output, where that is not the router's to unwrap.
    pub(crate) recipient: Address,
    /// Whether the recipient is sent native tokens, which a contract can refuse.
    pub(crate) pays_native: bool,
}

/// A pool that is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Swap {
    pub(crate) pool: PoolId,
    pub(crate) before: Reserves,
    pub(crate) after: Reserves,
}

/// Why there is no answer of this kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Not {
    /// The call reverts.
    Succeeding(&'static str),
    /// It has to be executed to be known.
    Known,
}

/// Gas that suffices for any such call of plain tokens: whoever allows less may run out of it, which only executing tells.
fn ample_gas(hops: usize) -> u64 {
    200_000 + 150_000 * hops as u64
}

/// `UniswapV2Router02` (v2-periphery) with pools as they are in `pools`, in a block of `timestamp`.
pub(crate) fn swap(
    transaction: &Transaction,
    router: &Router,
    pools: &PoolTable,
    pairs: &Pairs,
    timestamp: u64,
) -> Result<Swapped, Not> {
    let input = Input::of(transaction).ok_or(Not::Known)?;
    let Ok(Some(Call::Swap(call))) = uniswap_v2_router(&input) else { return Err(Not::Known) };
    let Route::V2 { tokens, native, .. } = &call.route else { return Err(Not::Known) };
    let recipient = call.recipient.ok_or(Not::Known)?;
    check(transaction, &call, tokens, *native, router, timestamp)?;
    let is_special = |address: &Address| pools.find(address).is_some() || tokens.contains(address);
    if is_special(&recipient) || recipient == Address::ZERO || recipient == router.address {
        return Err(Not::Known);
    }
    let way = way(tokens, router, pools, pairs)?;
    if transaction.gas_limit < ample_gas(way.len()) {
        return Err(Not::Known);
    }
    let amounts = amounts(&call, &way)?;
    let mut hops = Vec::with_capacity(way.len());
    for (leg, amount) in way.iter().zip(amounts.windows(2)) {
        hops.push(leg.swapped(amount[0], amount[1])?);
    }
    let pays = (*native != Native::Input).then(|| Some((*tokens.first()?, *amounts.first()?))).flatten();
    Ok(Swapped { hops, pays, recipient, pays_native: *native == Native::Output })
}

/// What the router requires before it looks at a pool.
fn check(
    transaction: &Transaction,
    call: &SwapCall,
    tokens: &[Address],
    native: Native,
    router: &Router,
    timestamp: u64,
) -> Result<(), Not> {
    if call.deadline.is_some_and(|deadline| deadline < U256::from(timestamp)) {
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

/// A pool on the way, in the direction of the swap.
struct Leg {
    pool: PoolId,
    held: Reserves,
    hop: Hop,
    zero_for_one: bool,
}

impl Leg {
    fn swapped(&self, amount_in: U256, amount_out: U256) -> Result<Swap, Not> {
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
        Ok(Swap { pool: self.pool, before: self.held, after: Reserves { reserve0, reserve1 } })
    }
}

/// The pools between the tokens: all tracked, all with tokens that may be quoted, none twice.
fn way(tokens: &[Address], router: &Router, pools: &PoolTable, pairs: &Pairs) -> Result<Vec<Leg>, Not> {
    let mut way: Vec<Leg> = Vec::with_capacity(tokens.len().saturating_sub(1));
    for pair in tokens.windows(2) {
        let pool = pairs.find(router.factory, pair[0], pair[1]).ok_or(Not::Known)?;
        let (meta, held) = pools.meta(pool).zip(pools.quoted(pool)).ok_or(Not::Known)?;
        if way.iter().any(|leg| leg.pool == pool) {
            return Err(Not::Known);
        }
        let zero_for_one = pair[0] == meta.token0;
        let fee = Fee::from_ppm(meta.fee_ppm).map_err(|_| Not::Known)?;
        let hop = Hop::new(held.reserve0, held.reserve1, fee).map_err(|_| Not::Known)?;
        let hop = if zero_for_one { hop } else { hop.reversed() };
        way.push(Leg { pool, held, hop, zero_for_one });
    }
    if way.is_empty() { Err(Not::Known) } else { Ok(way) }
}

/// `getAmountsOut` or `getAmountsIn` of `UniswapV2Library.sol`, with the router's limit.
fn amounts(call: &SwapCall, way: &[Leg]) -> Result<Vec<U256>, Not> {
    let refused = |_| Not::Succeeding("the pools do not give it");
    match call.exact {
        Exact::Input => {
            let mut amounts = vec![call.amount_in];
            let mut amount = call.amount_in;
            for leg in way {
                amount = leg.hop.amount_out(amount).map_err(refused)?;
                amounts.push(amount);
            }
            if amount < call.amount_out {
                return Err(Not::Succeeding("INSUFFICIENT_OUTPUT_AMOUNT"));
            }
            Ok(amounts)
        }
        Exact::Output => {
            let mut amounts = vec![call.amount_out];
            let mut amount = call.amount_out;
            for leg in way.iter().rev() {
                amount = leg.hop.amount_in(amount).map_err(refused)?;
                amounts.push(amount);
            }
            if amount > call.amount_in {
                return Err(Not::Succeeding("EXCESSIVE_INPUT_AMOUNT"));
            }
            amounts.reverse();
            Ok(amounts)
        }
    }
}
