//! Sizing a cycle of constant-product pools.

use alloy_primitives::{U256, Uint};
use arrayvec::ArrayVec;

use crate::{Hop, MAX_RESERVE};

mod lattice;
mod root;

/// The longest cycle that [`size_cycle`] sizes.
pub const MAX_HOPS: usize = 4;

/// How far below zero the sum of up to [`MAX_HOPS`] [`Hop::log_rate`]s of a profitable cycle can come out.
///
/// Each logarithm is at most 92 in magnitude, so that its conversion, division and rounding together err by less than
/// 3·10⁻¹⁴, and a sum of four by less than 2·10⁻¹³.
pub const LOG_MARGIN: f64 = 1e-12;

/// The best input of a cycle and what becomes of it, in smallest units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CycleSizing {
    /// What goes into the first pool: the least amount that yields `amount_out`.
    pub amount_in: u128,
    /// What comes out of each pool, in order; each is the next one's input.
    pub amounts: ArrayVec<u128, MAX_HOPS>,
    /// What comes out of the last pool.
    pub amount_out: u128,
    /// `amount_out - amount_in`, at least one.
    pub profit: u128,
}

/// Whether a cycle whose logarithmic rates sum up to `log_rates` deserves an exact look. Never refuses a cycle that
/// [`is_profitable`].
pub fn may_profit(log_rates: f64) -> bool {
    log_rates > -LOG_MARGIN
}

/// Whether an infinitely small input of the cycle gains, exactly: the product of output reserves after fees exceeds the
/// product of input reserves.
///
/// # Panics
/// Beyond [`MAX_HOPS`] hops.
pub fn is_profitable(hops: &[Hop]) -> bool {
    assert!(hops.len() <= MAX_HOPS, "a cycle of more than {MAX_HOPS} hops");
    let product = |factors: fn(&Hop) -> U256| {
        hops.iter().fold(Uint::<576, 9>::ONE, |product, hop| product * Uint::from(factors(hop)))
    };
    product(|hop| hop.keep() * U256::from(hop.reserve_out()))
        > product(|hop| hop.scale() * U256::from(hop.reserve_in()))
}

/// The input of the cycle that gains most, in exact integers; `None` where no input gains a whole unit, and for less
/// than two or more than [`MAX_HOPS`] hops.
///
/// The gain is within 2 units of the greatest that any integer input can have for two and three hops, whatever the
/// decimals of the tokens between. For four hops it is within 2 units plus one unit of each token between, at its price
/// in the first. (Where some reserve would leave `uint112`, the input stops
/// short of that, and three hops have the claim of four.)
///
/// Method: n hops compose to `out(a) = P·a / (Q + R·a)`, whose best real input is `(√(P·Q) − Q) / R`. What integers
/// make of it is a staircase, one step per smallest unit of the coarsest token between; the input is trimmed to the
/// foot of the best step near by.
pub fn size_cycle(hops: &[Hop]) -> Option<CycleSizing> {
    // The widths hold n products of a uint112 and a fee's 20 bits.
    match hops.len() {
        2 => size::<320, 5>(hops),
        3 => size::<448, 7>(hops),
        4 => size::<576, 9>(hops),
        _ => None,
    }
}

/// What comes out of each hop for an input of at most [`MAX_RESERVE`], each output the next input.
pub fn quote_cycle(hops: &[Hop], amount_in: u128) -> ArrayVec<u128, MAX_HOPS> {
    let mut amount = amount_in;
    let quote = |hop: &Hop| {
        amount = hop.quote(amount);
        amount
    };
    hops.iter().map(quote).collect()
}

fn size<const BITS: usize, const LIMBS: usize>(hops: &[Hop]) -> Option<CycleSizing> {
    let map = Mobius::<BITS, LIMBS>::compose(hops);
    let optimum = map.optimum()?;
    let limit = input_limit(hops);
    let start = optimum.amount_in.min(limit);
    let mut best = Best { hops, limit, found: None };
    best.consider_around(start);
    // One unit of the first token is a coarse step only in nearly empty pools.
    if start < limit {
        best.consider_input(start + 1);
    }
    let good_enough = best.profit().saturating_add(2) >= optimum.profit;
    if !good_enough && hops.len() == 3 && start < limit {
        let corners = lattice::corners([hops[0], hops[1], hops[2]], start);
        corners.proposals.iter().for_each(|first| best.consider(0, *first));
        best.climb(&corners.steps);
    }
    best.into_sizing()
}

/// A cycle as the function `out(a) = p·a / (q + r·a)` of real numbers.
struct Mobius<const BITS: usize, const LIMBS: usize> {
    p: Uint<BITS, LIMBS>,
    q: Uint<BITS, LIMBS>,
    r: Uint<BITS, LIMBS>,
}

/// The best real input and the gain that no input exceeds, both rounded.
struct Optimum {
    amount_in: u128,
    profit: u128,
}

impl<const BITS: usize, const LIMBS: usize> Mobius<BITS, LIMBS> {
    fn compose(hops: &[Hop]) -> Self {
        let identity = Self { p: Uint::ONE, q: Uint::ONE, r: Uint::ZERO };
        hops.iter().fold(identity, |map, hop| {
            let out = Uint::from(hop.keep() * U256::from(hop.reserve_out()));
            let into = Uint::from(hop.scale() * U256::from(hop.reserve_in()));
            // `r` comes from the old `p`.
            Self { r: into * map.r + Uint::from(hop.fee().keep()) * map.p, p: out * map.p, q: into * map.q }
        })
    }

    /// `None` where no input gains.
    fn optimum(&self) -> Option<Optimum> {
        if self.p <= self.q {
            return None;
        }
        // The root needs only the leading bits of p and q: 128 of each, so that their product fits 256.
        let shift = self.p.bit_len().saturating_sub(128);
        let leading = |value: Uint<BITS, LIMBS>| (value >> shift).to::<u128>();
        let root = root::floor_sqrt_of_product(leading(self.p), leading(self.q));
        let root = (Uint::<BITS, LIMBS>::from(root) << shift).max(self.q);
        let amount_in = (root - self.q) / self.r;
        let profit = ((self.p - root) - (root - self.q)) / self.r;
        let clamp = |value: Uint<BITS, LIMBS>| value.min(Uint::from(MAX_RESERVE)).to::<u128>();
        Some(Optimum { amount_in: clamp(amount_in), profit: clamp(profit) })
    }
}

/// The greatest input for which no pool's balance leaves `uint112`.
fn input_limit(hops: &[Hop]) -> u128 {
    hops.iter().rev().fold(MAX_RESERVE, |limit_out, hop| {
        // What yields no more than the limit is what is less than the least that yields more.
        hop.least_input(limit_out + 1).map_or(hop.max_input(), |beyond| beyond - 1)
    })
}

/// The best of the inputs considered so far. Of equal gains the smaller input wins.
struct Best<'a> {
    hops: &'a [Hop],
    limit: u128,
    found: Option<Candidate>,
}

struct Candidate {
    amount_in: u128,
    profit: u128,
}

impl Best<'_> {
    /// Both ends of the step that a real input falls on, for every token between.
    fn consider_around(&mut self, amount_in: u128) {
        let mut amount = amount_in;
        for level in 0..self.hops.len() - 1 {
            amount = self.hops[level].quote(amount);
            self.consider(level, amount);
            self.consider(level, amount + 1);
        }
    }

    fn consider_input(&mut self, amount_in: u128) {
        let first = self.hops[0].quote(amount_in);
        self.consider(0, first);
    }

    /// The least input that makes hop `level` yield `amount`, and all that the later hops make of it.
    fn consider(&mut self, level: usize, amount: u128) {
        let (before, after) = self.hops.split_at(level + 1);
        let amount_in = before.iter().rev().try_fold(amount, |amount, hop| hop.least_input(amount));
        let Some(amount_in) = amount_in.filter(|amount_in| (1..=self.limit).contains(amount_in)) else {
            return;
        };
        let carried = after.iter().fold(amount, |amount, hop| hop.quote(amount));
        let Some(profit) = carried.checked_sub(amount_in).filter(|profit| *profit > 0) else { return };
        let better = self
            .found
            .as_ref()
            .is_none_or(|best| profit > best.profit || (profit == best.profit && amount_in < best.amount_in));
        if better {
            self.found = Some(Candidate { amount_in, profit });
        }
    }

    /// Moves on by these steps of the first token between for as long as that gains.
    fn climb(&mut self, steps: &[u128]) {
        while let Some(before) = self.found.as_ref().map(|best| best.amount_in) {
            let first = self.hops[0].quote(before);
            for step in steps {
                self.consider(0, first.saturating_sub(*step));
                self.consider(0, first.saturating_add(*step));
            }
            if self.found.as_ref().is_none_or(|best| best.amount_in == before) {
                return;
            }
        }
    }

    fn profit(&self) -> u128 {
        self.found.as_ref().map_or(0, |best| best.profit)
    }

    fn into_sizing(self) -> Option<CycleSizing> {
        let found = self.found?;
        let target = found.amount_in + found.profit;
        let amount_in = self.hops.iter().rev().try_fold(target, |amount, hop| hop.least_input(amount));
        let amount_in = amount_in.unwrap_or(found.amount_in).min(found.amount_in);
        let amounts = quote_cycle(self.hops, amount_in);
        let amount_out = *amounts.last()?;
        Some(CycleSizing { amount_in, amount_out, profit: amount_out.checked_sub(amount_in)?, amounts })
    }
}

#[cfg(test)]
mod tests;
