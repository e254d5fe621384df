//! Which inputs about the optimum lose least to whole units.
//!
//! Amounts are whole units at several places: what a pool gives is rounded down, and a concentrated pool rounds the input down
//! once more after its fee. Where a unit is worth a noticeable part of the gain, the best input is the one at which these
//! fractions happen to be small, and the optimum of real numbers is flat enough to go far for it.
//!
//! So all hops are put down as they stand at one exact quote: virtual reserves, and the fraction that each rounding takes there. A
//! small step away from it, everything that happens is the change of a constant product plus a known fraction, rounded: floating
//! point follows that to 10⁻⁹ of a unit. Whole amounts of one token with a dear unit are gone through: first the two at which its fee's
//! rounding takes nothing, then from the optimum outwards, until no farther one can be better, one is good enough, or patience ends;
//! those of which a fee's rounding takes too much are passed over. Exact quotes judge what is proposed.

use arrayvec::ArrayVec;

use super::walk::{Curve, Map};
use super::{Effort, Leg, Patience, quote_legs};
use crate::concentrated::LastStep;
use crate::{Hop, MAX_HOPS};

/// How far from the optimum, in units: floating point follows the change of an amount no farther.
const FAR: f64 = 4_194_304.0;
/// What a crossing may take, in all that the roundings of a step may.
const CROSSINGS: f64 = 2.0;
/// A token whose fee is rounded is gone through before a dearer one up to this factor: most of its amounts are passed over.
const PREFERENCE: f64 = 16.0;
/// How many of them are quoted.
const QUOTED: usize = 6;
/// Units that are not worth looking for.
const NEGLIGIBLE_UNITS: f64 = 0.25;
/// What floating point may be wrong by, in units.
const BLUR: f64 = 1e-9;

/// Amounts of one token that deserve an exact quote.
pub(super) struct Proposals {
    /// The hop that they come out of; `None` for inputs of the cycle.
    pub(super) level: Option<usize>,
    pub(super) amounts: ArrayVec<u128, QUOTED>,
    /// Where the segments end, one unit beyond, if that is near enough to matter: below and above.
    pub(super) beyond: [Option<u128>; 2],
}

/// For an input near the optimum, where `best` is the gain known so far. `None` where no rounding is worth looking for, or nothing in
/// these segments can be better. `patience`: how many amounts may still be looked at.
pub(super) fn proposals(
    legs: &[Leg<'_>],
    amount_in: u128,
    best: i128,
    effort: Effort,
    patience: &mut Patience,
) -> Option<Proposals> {
    let outputs = quote_legs(legs, amount_in)?;
    let inputs = std::iter::once(amount_in).chain(outputs.iter().copied());
    let treads: ArrayVec<Tread, MAX_HOPS> =
        legs.iter().zip(inputs.clone()).map(|(leg, amount)| Tread::at(leg, amount)).collect::<Option<_>>()?;
    let stairs = Stairs::new(treads);
    let enough = NEGLIGIBLE_UNITS.max(effort.negligible(best.max(0) as f64, stairs.unit_of_each()));
    if !stairs.at_stake().is_finite() || stairs.at_stake() <= enough {
        return None;
    }
    let at = inputs.clone().nth(stairs.level)?;
    // What is here, as the offsets' gains are counted from it.
    let here = outputs.last()?.wrapping_sub(amount_in).cast_signed();
    let known = best.saturating_sub(here) as f64;
    let found = stairs.search(known, enough, patience);
    let amount = |offset: f64| at.checked_add_signed(offset as i128);
    Some(Proposals {
        level: stairs.level.checked_sub(1),
        amounts: found.offsets.iter().filter_map(|(offset, _)| amount(*offset)).collect(),
        beyond: found.beyond.map(|offset| offset.and_then(amount)),
    })
}

/// A hop as it stands at an exact quote.
struct Tread {
    /// With the fee's part of further input.
    curve: Curve,
    /// Whether what the fee leaves is rounded down.
    is_fee_rounded: bool,
    /// What that takes, in units of the input.
    fee_rest: f64,
    /// What rounding down the output takes.
    rest: f64,
    /// How far the kept input may change, down and up, until the segment ends.
    reach: (f64, f64),
}

impl Tread {
    fn at(leg: &Leg<'_>, amount_in: u128) -> Option<Self> {
        match leg {
            Leg::ConstantProduct(hop) => Some(Self::of_constant_product(hop, amount_in)),
            Leg::Concentrated(path) => Self::of_concentrated(&path.last_step(amount_in)?),
        }
    }

    fn of_constant_product(hop: &Hop, amount_in: u128) -> Self {
        let keep = f64::from(hop.fee().keep()) / f64::from(hop.fee().scale());
        let kept = keep * amount_in as f64;
        let into = hop.reserve_in() as f64 + kept;
        let out = hop.reserve_out() as f64 * (hop.reserve_in() as f64 / into);
        Self {
            curve: Curve { into, out, keep },
            is_fee_rounded: false,
            fee_rest: 0.0,
            rest: hop.fraction_of_output(amount_in),
            reach: (-kept, hop.max_input() as f64 - amount_in as f64),
        }
    }

    fn of_concentrated(step: &LastStep) -> Option<Self> {
        let curve = Curve { into: step.virtual_in, out: step.virtual_out, keep: step.keep };
        let sound = |value: f64| value.is_finite() && value > 0.0;
        (sound(curve.into) && sound(curve.out) && sound(curve.keep)).then_some(Self {
            curve,
            // Without a fee there is nothing to round: pools of V4 may have none.
            is_fee_rounded: step.keep < 1.0,
            fee_rest: step.fee_rest,
            rest: step.rest,
            reach: step.reach,
        })
    }

    /// Output per kept input.
    fn slope(&self) -> f64 {
        self.curve.out / self.curve.into
    }

    /// What the output changes by when the input does.
    fn forward(&self, input: f64) -> Option<f64> {
        let kept = self.curve.keep * input;
        let kept = if self.is_fee_rounded { (self.fee_rest + kept + BLUR).floor() } else { kept };
        if kept < self.reach.0 || kept > self.reach.1 {
            return None;
        }
        Some((self.rest + self.curve.out * (kept / (self.curve.into + kept)) + BLUR).floor())
    }

    /// The least change of the input that changes the output so far.
    fn backward(&self, output: f64) -> Option<f64> {
        let output = output - self.rest;
        let kept = self.curve.into * (output / (self.curve.out - output));
        if kept < self.reach.0 || kept > self.reach.1 {
            return None;
        }
        let kept = if self.is_fee_rounded { (kept - BLUR).ceil() - self.fee_rest } else { kept };
        Some((kept / self.curve.keep - BLUR).ceil())
    }
}

struct Stairs {
    treads: ArrayVec<Tread, MAX_HOPS>,
    /// The token that is gone through: before the first hop it is 0.
    level: usize,
    /// What a unit of the token before each hop is worth in the first one, fee taken.
    prices: ArrayVec<f64, MAX_HOPS>,
    /// The gain by the offset `x` of that token, in real numbers: `linear·x - bend·x²`.
    linear: f64,
    bend: f64,
}

impl Stairs {
    fn new(treads: ArrayVec<Tread, MAX_HOPS>) -> Self {
        let mut price = 1.0;
        let mut prices: ArrayVec<f64, MAX_HOPS> = treads
            .iter()
            .rev()
            .map(|tread| {
                price *= tread.curve.keep * tread.slope();
                price
            })
            .collect();
        prices.reverse();
        let weight = |hop: usize| prices[hop] * if treads[hop].is_fee_rounded { PREFERENCE } else { 1.0 };
        let level = (0..prices.len()).max_by(|a, b| weight(*a).total_cmp(&weight(*b))).unwrap_or(0);
        let compose = |part: &[Tread]| part.iter().fold(Map::IDENTITY, |map, tread| map.then(&tread.curve));
        let (before, after) = treads.split_at(level);
        let (before, after) = (compose(before), compose(after));
        let linear = after.p - 1.0 / before.p;
        let bend = after.p * after.r + before.r / (before.p * before.p);
        Self { treads, level, prices, linear, bend }
    }

    /// What one more unit out of a hop is worth.
    fn price_after(&self, hop: usize) -> f64 {
        self.prices.get(hop + 1).copied().unwrap_or(1.0)
    }

    /// What one unit of each token that comes out of a hop is worth.
    fn unit_of_each(&self) -> f64 {
        (0..self.treads.len()).map(|hop| self.price_after(hop)).sum()
    }

    /// What all roundings together can take.
    fn at_stake(&self) -> f64 {
        let fee = |hop: usize| if self.treads[hop].is_fee_rounded { self.prices[hop] } else { 0.0 };
        (0..self.treads.len()).map(|hop| self.price_after(hop) + fee(hop)).sum()
    }

    /// What they take at the quote.
    fn taken(&self) -> f64 {
        let treads = self.treads.iter().enumerate();
        treads.map(|(hop, tread)| (tread.rest + tread.fee_rest * tread.slope()) * self.price_after(hop)).sum()
    }

    /// The gain of real numbers, against the quote.
    fn smooth(&self, offset: f64) -> f64 {
        (self.linear - self.bend * offset) * offset
    }

    /// The offset nearest to the optimum of real numbers that the segments reach.
    fn middle(&self) -> f64 {
        self.nearest_within(0.0, (self.linear / (2.0 * self.bend)).round().clamp(-FAR, FAR))
    }

    /// The farthest offset on the way from one that the segments reach to another.
    fn nearest_within(&self, from: f64, to: f64) -> f64 {
        if self.gain(to).is_some() {
            return to;
        }
        let (mut inside, mut outside) = (from, to);
        while (outside - inside).abs() > 1.0 {
            let between = ((inside + outside) / 2.0).trunc();
            *(if self.gain(between).is_some() { &mut inside } else { &mut outside }) = between;
        }
        inside
    }

    /// The first offset beyond the segments, if it may be better than what lacks `missing`: each crossing less rounds less.
    fn beyond(&self, middle: f64, direction: f64, missing: f64) -> Option<f64> {
        let limit = missing + CROSSINGS * self.at_stake();
        let to = middle + direction * (limit / self.bend).sqrt().ceil().min(FAR);
        let end = self.nearest_within(middle, to);
        (end != to).then_some(end + direction)
    }

    /// What is better than `known`, going outwards from the middle.
    fn search(&self, known: f64, enough: f64, patience: &mut Patience) -> Search {
        let middle = self.middle();
        let top = self.smooth(middle);
        let ceiling = self.taken() + top;
        let mut missing = ceiling - known;
        let mut search = Search { offsets: ArrayVec::new(), beyond: [None; 2] };
        let mut sides = [Some(middle - 1.0), Some(middle)];
        let unit_of_each = self.unit_of_each();
        if missing > enough {
            for offset in self.whole_ones(middle).into_iter().flatten() {
                patience.looked += 1;
                if let Some(gain) = self.gain(offset) {
                    search.insert(offset, gain);
                    missing = missing.min(ceiling - gain);
                }
            }
        }
        while missing > enough && !patience.is_at_end(missing <= unit_of_each) {
            let distance =
                |side: usize| sides[side].map_or(f64::INFINITY, |offset: f64| (offset - middle).abs());
            let side = usize::from(distance(1) <= distance(0));
            let Some(offset) = sides[side] else { break };
            patience.looked += 1;
            // The next unit away costs more than can be gained.
            if top - self.smooth(offset) > missing || (offset - middle).abs() > FAR {
                sides[side] = None;
                continue;
            }
            let Some(gain) = self.gain(offset) else {
                sides[side] = None;
                continue;
            };
            search.insert(offset, gain);
            missing = missing.min(ceiling - gain);
            let direction = if side == 1 { 1.0 } else { -1.0 };
            sides[side] = Some(self.next_worthy(offset + direction, direction, missing));
        }
        search.beyond = [-1.0, 1.0].map(|direction| self.beyond(middle, direction, missing.max(0.0)));
        search
    }

    /// The nearest offsets to either side of which the fee's rounding takes next to nothing: of a fee of a hundredth of a percent they lie
    /// ten thousand units apart, farther than patience goes step by step.
    fn whole_ones(&self, middle: f64) -> [Option<f64>; 2] {
        let tread = &self.treads[self.level];
        let fee = 1.0 - tread.curve.keep;
        let lost = (tread.fee_rest + tread.curve.keep * middle + BLUR).rem_euclid(1.0);
        let below = middle - ((1.0 - lost) / fee).ceil();
        let above = middle + (lost / fee).floor();
        [below, above].map(|offset| (tread.is_fee_rounded && offset.abs() <= FAR).then_some(offset))
    }

    /// From an offset on in a direction, the first one of which the fee's rounding does not take all that is still missing: one more
    /// unit of input moves what is rounded away by the fee of a unit, so the others need not be looked at.
    fn next_worthy(&self, offset: f64, direction: f64, missing: f64) -> f64 {
        let tread = &self.treads[self.level];
        let fee = 1.0 - tread.curve.keep;
        // In units of what the fee leaves.
        let bearable = missing * tread.curve.keep / self.prices[self.level];
        if !tread.is_fee_rounded || bearable >= 1.0 {
            return offset;
        }
        let lost = (tread.fee_rest + tread.curve.keep * offset + BLUR).rem_euclid(1.0);
        if lost <= bearable {
            return offset;
        }
        let to_go = if direction > 0.0 { lost - bearable } else { 1.0 - lost };
        offset + direction * (to_go / fee).floor().max(0.0)
    }

    fn gain(&self, offset: f64) -> Option<f64> {
        let (before, after) = self.treads.split_at(self.level);
        let out = after.iter().try_fold(offset, |offset, tread| tread.forward(offset))?;
        let into = before.iter().rev().try_fold(offset, |offset, tread| tread.backward(offset))?;
        Some(out - into)
    }
}

struct Search {
    /// And what they gain against the quote, the best first.
    offsets: ArrayVec<(f64, f64), QUOTED>,
    beyond: [Option<f64>; 2],
}

impl Search {
    fn insert(&mut self, offset: f64, gain: f64) {
        if self.offsets.iter().any(|(known, _)| *known == offset) {
            return;
        }
        let position = self.offsets.iter().position(|(_, known)| gain > *known).unwrap_or(self.offsets.len());
        if position == QUOTED {
            return;
        }
        if self.offsets.is_full() {
            self.offsets.pop();
        }
        self.offsets.insert(position, (offset, gain));
    }
}
