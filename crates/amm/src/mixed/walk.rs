//! The best input of real numbers, from segment to segment.

use arrayvec::ArrayVec;

use super::MixedHop;
use crate::MAX_HOPS;
use crate::concentrated::{Stretch, Stretches};

/// Stretches that are walked along at most: whoever makes a pool chooses how many there are.
const MOST_STRETCHES: u32 = 256;

/// Where the marginal gain ends.
pub(super) struct Optimum {
    /// Smallest units of the first token.
    pub(super) amount_in: f64,
    /// What goes into each hop then.
    pub(super) inputs: ArrayVec<f64, MAX_HOPS>,
    /// Of an infinitely small swap, per unit of the input.
    pub(super) gain: f64,
}

/// A pool on its way, from where it stands to the end of its segment.
struct Side<'a> {
    curve: Curve,
    /// Input, the fee included, that the segment still takes.
    room: f64,
    /// What comes behind; nothing of a constant product.
    later: Option<Stretches<'a>>,
}

/// A constant product as it stands: `out(a) = out·keep·a / (into + keep·a)`.
#[derive(Clone, Copy)]
pub(super) struct Curve {
    pub(super) into: f64,
    pub(super) out: f64,
    /// What the fee leaves of the input.
    pub(super) keep: f64,
}

/// Some hops in a row as `out(a) = p·a / (1 + r·a)`.
#[derive(Clone, Copy)]
pub(super) struct Map {
    pub(super) p: f64,
    pub(super) r: f64,
}

/// `None` where not even the smallest input gains, or some pool gives nothing at all.
pub(super) fn optimum(hops: &[MixedHop<'_>]) -> Option<Optimum> {
    let mut sides: ArrayVec<Side<'_>, MAX_HOPS> = hops.iter().map(Side::new).collect::<Option<_>>()?;
    let mut amount_in = 0.0;
    let mut inputs: ArrayVec<f64, MAX_HOPS> = hops.iter().map(|_| 0.0).collect();
    let mut go = |sides: &mut [Side<'_>], amount: f64| {
        amount_in += amount;
        sides.iter_mut().zip(&mut inputs).fold(amount, |amount, (side, input)| {
            *input += amount;
            side.take(amount)
        });
    };
    let mut gain = None;
    for _ in 0..MOST_STRETCHES {
        let whole = sides.iter().fold(Map::IDENTITY, |map, side| map.then(&side.curve));
        // Not even a tiny loss is believed at the beginning: the quotes decide.
        let first_gain = *gain.get_or_insert(whole.p.sqrt() - 1.0);
        if first_gain < -f64::EPSILON * 64.0 || !whole.r.is_finite() || whole.r <= 0.0 {
            return None;
        }
        let wanted = ((whole.p.sqrt() - 1.0) / whole.r).max(0.0);
        let (index, reached) = next_boundary(&sides);
        if wanted <= reached {
            go(&mut sides, wanted);
            break;
        }
        go(&mut sides, reached);
        if !sides[index].enter_next() {
            break;
        }
    }
    let gain = gain.unwrap_or(0.0);
    Some(Optimum { amount_in, inputs, gain })
}

/// The hop whose segment ends first, and the input of the cycle that takes it there.
fn next_boundary(sides: &[Side<'_>]) -> (usize, f64) {
    let mut map = Map::IDENTITY;
    let mut nearest = (0, f64::INFINITY);
    for (index, side) in sides.iter().enumerate() {
        let reached = map.input_for(side.room);
        if reached < nearest.1 {
            nearest = (index, reached);
        }
        map = map.then(&side.curve);
    }
    nearest
}

impl<'a> Side<'a> {
    fn new(hop: &MixedHop<'a>) -> Option<Self> {
        match *hop {
            MixedHop::ConstantProduct(hop) => {
                let curve = Curve {
                    into: hop.reserve_in() as f64,
                    out: hop.reserve_out() as f64,
                    keep: f64::from(hop.fee().keep()) / f64::from(hop.fee().scale()),
                };
                Some(Self { curve, room: hop.max_input() as f64, later: None })
            }
            MixedHop::Concentrated(pool, direction) => {
                let curve = Curve { into: 1.0, out: 1.0, keep: 0.0 };
                let mut side = Self { curve, room: 0.0, later: Some(pool.stretches(direction)) };
                side.enter_next().then_some(side)
            }
        }
    }

    /// False at the end of the pool.
    fn enter_next(&mut self) -> bool {
        let Some(Stretch { virtual_in, virtual_out, keep, room }) =
            self.later.as_mut().and_then(Iterator::next)
        else {
            return false;
        };
        self.curve = Curve { into: virtual_in, out: virtual_out, keep };
        self.room = room;
        true
    }

    /// Moves on within the segment; answers what comes out.
    fn take(&mut self, amount_in: f64) -> f64 {
        let amount_out = self.curve.amount_out(amount_in);
        self.curve.into += self.curve.keep * amount_in;
        self.curve.out -= amount_out;
        self.room = (self.room - amount_in).max(0.0);
        amount_out
    }
}

impl Curve {
    fn amount_out(&self, amount_in: f64) -> f64 {
        let kept = self.keep * amount_in;
        self.out * (kept / (self.into + kept))
    }
}

impl Map {
    pub(super) const IDENTITY: Self = Self { p: 1.0, r: 0.0 };

    pub(super) fn then(self, curve: &Curve) -> Self {
        let step = curve.keep / curve.into;
        Self { p: self.p * step * curve.out, r: self.r + step * self.p }
    }

    /// Infinite where no input yields so much.
    fn input_for(self, amount_out: f64) -> f64 {
        let left = self.p - self.r * amount_out;
        if left > 0.0 { amount_out / left } else { f64::INFINITY }
    }
}
