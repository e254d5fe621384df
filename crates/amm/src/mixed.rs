//! Sizing a cycle of pools of any kind.

use alloy_primitives::{U256, U512};
use arrayvec::ArrayVec;

use crate::concentrated::Path;
use crate::{ConcentratedPool, CycleSizing, Direction, Hop, MAX_HOPS, size_cycle};

mod stairs;
mod walk;

/// Below this gain of an infinitely small swap, floating point knows too little of the best input, and exact quotes correct it.
const THIN: f64 = 1e-8;

/// How many segments to either side of the best are gone through, where they are near enough to matter.
const NEIGHBOURS: usize = 16;

/// How far the search for whole units goes that lose least to the roundings on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// As far as a block with many cycles allows: what is lost is worth less than a unit of each token on the way, or a part in 10⁹ of
    /// the gain. Where no amount among four thousand comes as near, it may be more.
    Brief,
    /// Until the gain is within one part in 10⁹ of the best: for three pools between coarse tokens, milliseconds.
    Thorough,
}

impl Effort {
    fn patience(self) -> Patience {
        let [for_little, for_much] = match self {
            Self::Brief => [512, 4_096],
            // What a fee of a hundredth of a percent leaves is whole at every ten thousandth.
            Self::Thorough => [40_960; 2],
        };
        Patience { looked: 0, for_little, for_much }
    }

    /// What is not worth looking for, of a gain, where a unit of each token on the way is worth so much.
    fn negligible(self, gain: f64, unit_of_each: f64) -> f64 {
        match self {
            Self::Brief => unit_of_each.min(gain * 1e-6).max(gain * 1e-9),
            Self::Thorough => gain * 2e-10,
        }
    }
}

/// Amounts that are looked at at most.
struct Patience {
    looked: u32,
    /// As long as what may be missing is worth less than a unit of each token on the way.
    for_little: u32,
    for_much: u32,
}

impl Patience {
    fn is_at_end(&self, is_little: bool) -> bool {
        self.looked >= if is_little { self.for_little } else { self.for_much }
    }
}

/// One direction through a pool of any kind.
#[derive(Clone, Copy, Debug)]
pub enum MixedHop<'a> {
    /// Uniswap V2 and its forks.
    ConstantProduct(Hop),
    /// Uniswap V3, its forks, and V4.
    Concentrated(&'a ConcentratedPool, Direction),
}

/// What becomes of a swap whose rounds are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounded {
    /// It goes through.
    Through {
        /// Smallest units.
        amount_out: u128,
        /// Initialised ticks that it goes over.
        crossings: u32,
    },
    /// The pool does not take all of it, or reverts.
    Refused,
    /// It would take more rounds, and was not looked at to its end.
    TooLong,
}

/// Parts per million.
const WHOLE: u32 = 1_000_000;

impl MixedHop<'_> {
    /// What comes out for an input, both in smallest units, as the contract rounds; zero for zero. `None` where the pool does not
    /// take all of it, or reverts.
    pub fn quote(&self, amount_in: u128) -> Option<u128> {
        match self {
            Self::ConstantProduct(hop) => (amount_in <= hop.max_input()).then(|| hop.quote(amount_in)),
            Self::Concentrated(..) if amount_in == 0 => Some(0),
            Self::Concentrated(pool, direction) => {
                let asked = U256::from(amount_in);
                let quote = pool.exact_in(*direction, asked, None).ok()?;
                if quote.amount_in < asked {
                    return None;
                }
                quote.amount_out.try_into().ok()
            }
        }
    }

    /// Initialised ticks that a swap of this input goes over.
    pub fn crossings(&self, amount_in: u128) -> u32 {
        match self {
            Self::ConstantProduct(_) => 0,
            Self::Concentrated(pool, direction) => {
                pool.exact_in(*direction, U256::from(amount_in), None).map_or(0, |quote| quote.crossings)
            }
        }
    }

    /// As [`MixedHop::quote`] with [`MixedHop::crossings`], if the swap takes no more than so many rounds of the contract's loop. A
    /// round is a tick, or a word of the bitmap: whoever makes a pool chooses how many a swap takes.
    pub fn quote_within(&self, amount_in: u128, most_rounds: u32) -> Bounded {
        let through = |amount_out, crossings| Bounded::Through { amount_out, crossings };
        match self {
            Self::Concentrated(pool, direction) if amount_in > 0 => {
                let asked = U256::from(amount_in);
                match pool.exact_in_within(*direction, asked, most_rounds) {
                    Ok(None) => Bounded::TooLong,
                    Ok(Some(quote)) if quote.amount_in == asked => quote
                        .amount_out
                        .try_into()
                        .map_or(Bounded::Refused, |amount_out| through(amount_out, quote.crossings)),
                    Ok(Some(_)) | Err(_) => Bounded::Refused,
                }
            }
            _ => self.quote(amount_in).map_or(Bounded::Refused, |amount_out| through(amount_out, 0)),
        }
    }

    /// By how much less a swap yields than if all of it went at the pool's price, the fee taken either way: in parts per million,
    /// rounded up. `None` of what is no swap: nothing goes in, or the fee takes it all.
    pub fn price_impact_ppm(&self, amount_in: u128, amount_out: u128) -> Option<u32> {
        let [out, into] = self.rate()?;
        // At most 128 + 340 + 20 bits.
        let yielded = U512::from(amount_out) * into * U512::from(WHOLE);
        let kept = yielded.checked_div(U512::from(amount_in) * out)?;
        Some(WHOLE - kept.min(U512::from(WHOLE)).to::<u32>())
    }

    /// The reserve of the token that goes in: of concentrated liquidity the virtual one of the range that the price is in. It ranks, and
    /// is never an amount. `None` of a pool that is not initialised.
    pub fn virtual_reserve_in(&self) -> Option<f64> {
        match self {
            Self::ConstantProduct(hop) => Some(hop.reserve_in() as f64),
            Self::Concentrated(pool, direction) => {
                let sqrt_price = f64::from(pool.price()?.sqrt_price) / 2f64.powi(96);
                let liquidity = pool.liquidity() as f64;
                Some(match direction {
                    Direction::ZeroForOne => liquidity / sqrt_price,
                    Direction::OneForZero => liquidity * sqrt_price,
                })
            }
        }
    }

    /// Output per input of an infinitely small swap, the fee taken, as a fraction of at most 340 bits.
    fn rate(&self) -> Option<[U512; 2]> {
        match self {
            Self::ConstantProduct(hop) => {
                let of = |reserve, part: u32| U512::from(reserve) * U512::from(part);
                Some([of(hop.reserve_out(), hop.fee().keep()), of(hop.reserve_in(), hop.fee().scale())])
            }
            Self::Concentrated(pool, direction) => {
                let sqrt_price = pool.price()?.sqrt_price;
                let price: [U512; 2] = [sqrt_price.widening_mul(sqrt_price), U512::ONE << 192usize];
                let [out, into] = match direction {
                    Direction::ZeroForOne => price,
                    Direction::OneForZero => [price[1], price[0]],
                };
                let fee = pool.fee().pips(*direction);
                Some([out * U512::from(WHOLE.saturating_sub(fee)), into * U512::from(WHOLE)])
            }
        }
    }

    /// Natural logarithm of the output per input of an infinitely small swap, fee taken, in smallest units; of a pool without
    /// liquidity at its price, more than any swap gets. `None` of a pool that is not initialised.
    ///
    /// A filter, never an amount: the sum over a cycle goes to [`may_profit`](crate::may_profit). A square root of a price loses
    /// 2⁻⁵³ of itself in the conversion, and a logarithm of a price is at most 89 in magnitude, so that
    /// [`LOG_MARGIN`](crate::LOG_MARGIN) holds for these as well.
    pub fn log_rate(&self) -> Option<f64> {
        match self {
            Self::ConstantProduct(hop) => Some(hop.log_rate()),
            Self::Concentrated(pool, direction) => pool.marginal_rate(*direction).map(f64::ln),
        }
    }
}

/// The input that gains most of a cycle of two to four pools of any kind, no pool twice; `None` where no input was found to gain a
/// whole unit, and for other lengths. A cycle of constant products alone is [`size_cycle`]'s.
///
/// Every amount is the contracts', rounding included, and no smaller input yields the same output. With [`Effort::Thorough`] the gain
/// is within one part in 10⁹ of the best, and a unit, unless two or more of the roundings on the way are of tokens whose units are worth more than
/// that: then it is the best of some ten thousand amounts about the optimum of real numbers, those that a fee spoils passed over.
///
/// Method: as long as no pool crosses a tick the cycle is a Möbius map of virtual reserves, whose optimum is known in closed form.
/// Where that lies beyond the next tick of some pool, the walk goes on from there. Floating point finds the place, and which
/// inputs about it lose least to whole units (see `stairs`); exact quotes decide.
pub fn size_mixed_cycle(hops: &[MixedHop<'_>], effort: Effort) -> Option<CycleSizing> {
    if !(2..=MAX_HOPS).contains(&hops.len()) {
        return None;
    }
    if let Some(plain) = constant_products(hops) {
        return size_cycle(&plain);
    }
    let optimum = walk::optimum(hops)?;
    let legs = hops.iter().zip(&optimum.inputs).map(|(hop, about)| Leg::new(hop, *about)).collect();
    let mut best = Best { legs, effort, found: None };
    let start = best.nearest_possible(optimum.amount_in)?;
    best.consider_input(start);
    if optimum.gain < THIN {
        best.climb(start);
    }
    if best.gain() <= 0 {
        best.consider_next_units(&optimum.inputs);
    }
    best.consider_around();
    best.consider_stairs(start);
    best.consider_around();
    best.into_sizing()
}

/// What comes out of each hop; `None` where some pool does not take its input.
pub fn quote_mixed_cycle(hops: &[MixedHop<'_>], amount_in: u128) -> Option<ArrayVec<u128, MAX_HOPS>> {
    let mut amount = amount_in;
    let quote = |hop: &MixedHop<'_>| {
        amount = hop.quote(amount)?;
        Some(amount)
    };
    hops.iter().map(quote).collect()
}

/// A hop with the places that the swaps in question pass.
#[derive(Clone, Debug)]
enum Leg<'a> {
    ConstantProduct(Hop),
    Concentrated(Path<'a>),
}

impl<'a> Leg<'a> {
    /// For inputs about this one.
    fn new(hop: &MixedHop<'a>, about: f64) -> Self {
        match *hop {
            MixedHop::ConstantProduct(hop) => Self::ConstantProduct(hop),
            // The conversion saturates.
            MixedHop::Concentrated(pool, direction) => {
                Self::Concentrated(Path::new(pool, direction, about as u128))
            }
        }
    }

    /// As [`MixedHop::quote`]; `None` also where a swap takes more rounds than are looked at.
    fn quote(&self, amount_in: u128) -> Option<u128> {
        match self {
            Self::ConstantProduct(hop) => (amount_in <= hop.max_input()).then(|| hop.quote(amount_in)),
            Self::Concentrated(_) if amount_in == 0 => Some(0),
            Self::Concentrated(path) => {
                let quote = path.exact_in(amount_in)?;
                if quote.amount_in < U256::from(amount_in) {
                    return None;
                }
                quote.amount_out.try_into().ok()
            }
        }
    }

    /// The least input that yields `amount_out` or more; `None` where none does.
    fn least_input(&self, amount_out: u128) -> Option<u128> {
        match self {
            Self::ConstantProduct(hop) => hop.least_input(amount_out),
            Self::Concentrated(_) if amount_out == 0 => Some(0),
            Self::Concentrated(path) => {
                let quote = path.exact_out(amount_out)?;
                if quote.amount_out < U256::from(amount_out) {
                    return None;
                }
                self.descend(quote.amount_in.try_into().ok()?, amount_out)
            }
        }
    }

    /// From what the pool asks for an output, which is the least input give or take its roundings, to the least input.
    fn descend(&self, near: u128, amount_out: u128) -> Option<u128> {
        let yields = |amount: u128| self.quote(amount).is_some_and(|out| out >= amount_out);
        let (mut high, mut step) = (near, 1u128);
        while !yields(high) {
            // Past the end of the pool there is no more.
            self.quote(high)?;
            high = high.checked_add(step)?;
            step = step.checked_mul(2)?;
        }
        let (mut low, mut step) = (high, 1);
        while low > 0 && yields(low) {
            high = low;
            low = low.saturating_sub(step);
            step *= 2;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if yields(middle) { high = middle } else { low = middle }
        }
        Some(high)
    }
}

/// What comes out of each leg; `None` where some pool does not take its input.
fn quote_legs(legs: &[Leg<'_>], amount_in: u128) -> Option<ArrayVec<u128, MAX_HOPS>> {
    let mut amount = amount_in;
    let quote = |leg: &Leg<'_>| {
        amount = leg.quote(amount)?;
        Some(amount)
    };
    legs.iter().map(quote).collect()
}

fn constant_products(hops: &[MixedHop<'_>]) -> Option<ArrayVec<Hop, MAX_HOPS>> {
    let plain = |hop: &MixedHop<'_>| match hop {
        MixedHop::ConstantProduct(hop) => Some(*hop),
        MixedHop::Concentrated(..) => None,
    };
    hops.iter().map(plain).collect()
}

/// The best of the inputs considered so far, though it may lose. Of equal gains the smaller input wins.
struct Best<'a> {
    legs: ArrayVec<Leg<'a>, MAX_HOPS>,
    effort: Effort,
    found: Option<Candidate>,
}

struct Candidate {
    amount_in: u128,
    gain: i128,
}

impl Best<'_> {
    /// At the very end of a pool, floating point may be a little beyond.
    fn nearest_possible(&self, amount_in: f64) -> Option<u128> {
        // The conversion saturates.
        let proposed = (amount_in as u128).max(1);
        let unit = (proposed >> 52).max(1);
        let mut shorter = (0..16).map(|attempt| proposed.saturating_sub(unit * ((1 << attempt) - 1)).max(1));
        shorter.find(|amount| quote_legs(&self.legs, *amount).is_some())
    }

    fn consider_input(&mut self, amount_in: u128) {
        let amounts = quote_legs(&self.legs, amount_in);
        let out = amounts.and_then(|amounts| amounts.last().copied());
        self.offer(amount_in, out.unwrap_or(0));
    }

    /// The least input that makes hop `level` yield `amount` or more, which at its end the next pool may not take.
    fn consider(&mut self, level: usize, amount: u128) {
        if let Some(amount_in) = self.input_for(Some(level), amount) {
            self.consider_input(amount_in);
        }
    }

    fn offer(&mut self, amount_in: u128, amount_out: u128) {
        let Some(gain) = amount_out.checked_signed_diff(amount_in).filter(|_| amount_out > 0) else { return };
        let is_better = self
            .found
            .as_ref()
            .is_none_or(|best| gain > best.gain || (gain == best.gain && amount_in < best.amount_in));
        if is_better {
            self.found = Some(Candidate { amount_in, gain });
        }
    }

    /// Ever smaller steps to either side, for as long as they gain.
    fn climb(&mut self, start: u128) {
        let mut step = start / 4;
        while step > start >> 30 {
            let at = self.found.as_ref().map_or(start, |best| best.amount_in);
            self.consider_input(at.saturating_sub(step).max(1));
            self.consider_input(at.saturating_add(step));
            if self.found.as_ref().is_none_or(|best| best.amount_in == at) {
                step /= 2;
            }
        }
    }

    /// Both ends of the step that the best so far falls on, for every token on the way, and one unit less: the unit that ends a
    /// segment may buy next to nothing.
    fn consider_around(&mut self) {
        let Some(at) = self.found.as_ref().map(|best| best.amount_in) else { return };
        self.consider_input(at - 1);
        self.consider_input(at + 1);
        for (level, amount) in quote_legs(&self.legs, at).into_iter().flatten().enumerate() {
            for near in amount.saturating_sub(1)..=amount + 1 {
                self.consider(level, near);
            }
        }
    }

    /// Whole amounts of each token about those of real numbers: of a dear one the roundings may leave nothing, and the unit that ends
    /// a pool be the one that gains.
    fn consider_next_units(&mut self, inputs: &[f64]) {
        for (level, about) in inputs.iter().skip(1).enumerate() {
            // The conversion saturates.
            let about = *about as u128;
            for near in about..=about.saturating_add(3) {
                self.consider(level, near);
            }
        }
    }

    /// What the model of all roundings proposes, in the segments about the best so far and in their neighbours.
    fn consider_stairs(&mut self, start: u128) {
        let at = self.found.as_ref().map_or(start, |best| best.amount_in);
        let mut patience = self.effort.patience();
        let mut beyond = self.consider_segment(at, &mut patience);
        for _ in 0..NEIGHBOURS {
            for side in [0, 1] {
                beyond[side] = beyond[side].and_then(|at| self.consider_segment(at, &mut patience)[side]);
            }
        }
    }

    /// Answers inputs just beyond both ends.
    fn consider_segment(&mut self, amount_in: u128, patience: &mut Patience) -> [Option<u128>; 2] {
        if self.effort == Effort::Thorough {
            // What was looked at in one segment says nothing about the next.
            patience.looked = 0;
        }
        let proposals = stairs::proposals(&self.legs, amount_in, self.gain(), self.effort, patience);
        let Some(proposals) = proposals else {
            return [None; 2];
        };
        for amount in proposals.amounts {
            if let Some(amount_in) = self.input_for(proposals.level, amount) {
                self.consider_input(amount_in);
            }
        }
        proposals.beyond.map(|amount| self.input_for(proposals.level, amount?))
    }

    /// The least input that makes a hop yield an amount; the amount, of no hop.
    fn input_for(&self, level: Option<usize>, amount: u128) -> Option<u128> {
        let before = level.map_or(&[][..], |level| &self.legs[..=level]);
        before.iter().rev().try_fold(amount, |amount, leg| leg.least_input(amount))
    }

    fn gain(&self) -> i128 {
        self.found.as_ref().map_or(0, |best| best.gain)
    }

    fn into_sizing(self) -> Option<CycleSizing> {
        let found = self.found.filter(|best| best.gain > 0)?;
        let target = found.amount_in.checked_add_signed(found.gain)?;
        let least = self.legs.iter().rev().try_fold(target, |amount, leg| leg.least_input(amount));
        let inputs = [least.unwrap_or(found.amount_in).min(found.amount_in), found.amount_in];
        inputs.into_iter().find_map(|amount_in| {
            let amounts = quote_legs(&self.legs, amount_in)?;
            let amount_out = *amounts.last()?;
            Some(CycleSizing { amount_in, amount_out, profit: amount_out.checked_sub(amount_in)?, amounts })
        })
    }
}

#[cfg(test)]
mod tests;
