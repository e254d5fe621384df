//! Two coarse tokens between.
//!
//! In a cycle `a → X → Y → a` both tokens between come in whole units. What the input side pays for `m₁` units of X is
//! smooth, and so is what the output side gives for `m₂` units of Y; but the pool between gives `⌊F(m₁)⌋`, and the
//! fraction that it keeps may be worth more than all the other roundings together. Near the real optimum the profit is
//! flat over thousands of steps of `m₁`, so the best of them is the one whose fraction happens to be small: a point of
//! the integer lattice just below the curve `m₂ = F(m₁)`, and close to its peak.
//!
//! With `x` steps from the optimum, and `t ≥ 0` the fraction lost, the loss is `price·t + bend·x²`. A lattice basis
//! that is reduced in the proportions of that region puts its points on few lines, and along each line the loss is a
//! parabola. Floating point only proposes; every proposal is quoted exactly afterwards.

use alloy_primitives::{U256, U512};
use arrayvec::ArrayVec;

use crate::{Hop, MAX_RESERVE};

/// Lines examined on each side of the one through the peak. In a reduced basis they are at least about one region
/// apart.
const LINES: i128 = 6;
/// Steps next to the peak that are always proposed: the parabola is a poor model of nearly empty pools.
const NEIGHBOURS: u128 = 3;
const PROPOSALS: usize = 2 * (2 * LINES as usize + 1) + 2 * (NEIGHBOURS as usize + 1);

/// Binary places of fractions: what is lost is the product of a fraction and a price of up to 2⁶⁰, over steps of up to
/// 2⁴⁰, and has to be right to less than a unit.
const PLACES: usize = 96;
/// One.
const UNIT: i128 = 1 << PLACES;

/// Amounts of the first token between that deserve an exact quote, and the steps to try from the best of them: the
/// parabola may have missed it by a step or two.
#[derive(Default)]
pub(super) struct Corners {
    pub(super) proposals: ArrayVec<u128, PROPOSALS>,
    pub(super) steps: ArrayVec<u128, 4>,
}

/// For an input near the real optimum.
pub(super) fn corners(hops: [Hop; 3], amount_in: u128) -> Corners {
    let peak = hops[0].quote(amount_in);
    let mut corners = Corners::default();
    corners.proposals.extend(peak.saturating_sub(NEIGHBOURS)..=peak + NEIGHBOURS + 1);
    if let Some(region) = Region::around(&hops, amount_in, peak) {
        region.propose(peak, &mut corners);
    }
    corners
}

/// The loss around the peak: `price·t + bend·(x - offset)²`, with `t = fraction + slope·x - curve·x² - y ≥ 0`.
struct Region {
    /// Where the real optimum lies between the peak's whole units, in 0..1.
    offset: f64,
    /// What the pool between keeps at the peak, in 2⁻⁹⁶.
    fraction: u128,
    /// Output of the pool between per unit of input, modulo one, in 2⁻⁹⁶.
    slope: u128,
    /// Half the second derivative of the pool between, negated.
    curve: f64,
    /// Half the second derivative of the profit, negated.
    bend: f64,
    /// Of one unit of the second token between.
    price: f64,
}

impl Region {
    /// `None` where the numbers are out of all proportion.
    fn around(hops: &[Hop; 3], amount_in: u128, peak: u128) -> Option<Self> {
        let second = hops[1].quote(peak);
        let into = Shape::of(&hops[0], amount_in);
        let between = Shape::of(&hops[1], peak);
        let out = Shape::of(&hops[2], second);
        let inverse_bend = -into.bend / into.slope.powi(3);
        let bend = -0.5 * (out.bend * between.slope.powi(2) + out.slope * between.bend - inverse_bend);
        let region = Self {
            offset: fraction_of_output(&hops[0], amount_in) as f64 / UNIT as f64,
            fraction: fraction_of_output(&hops[1], peak),
            slope: fraction_of_slope(&hops[1], peak),
            curve: -0.5 * between.bend,
            bend,
            price: out.slope,
        };
        let sound = |value: f64| value.is_finite() && value > 0.0;
        (sound(region.bend) && sound(region.price)).then_some(region)
    }

    /// The best points of the lines through the region.
    fn propose(&self, peak: u128, corners: &mut Corners) {
        // The region in which about one lattice point is expected.
        let loss = (self.price * self.price * self.bend).cbrt();
        let extent = Extent { width: (loss / self.bend).sqrt(), height: loss / self.price };
        let (along, across) = reduced_basis(self.slope, extent);
        let middle = self.middle_line(along, across, extent.height);
        for line in middle.saturating_sub(LINES)..=middle.saturating_add(LINES) {
            let Some(start) = across.scaled(line).map(|point| point.raised(self.fraction)) else { continue };
            // Close to the peak the floating point has digits to spare.
            let Some(start) = extent.nearest(start, along) else { continue };
            let points = self.best_on_line(start, along).into_iter();
            let first =
                points.filter_map(|x| peak.checked_add_signed(x).filter(|first| *first <= MAX_RESERVE));
            corners.proposals.extend(first);
        }
        let steps = [along.x, across.x, along.x + across.x, along.x - across.x];
        corners.steps.extend(steps.into_iter().map(i128::unsigned_abs).filter(|step| *step > 0));
    }

    /// The line that passes nearest to the middle of the region.
    fn middle_line(&self, along: Point, across: Point, height: f64) -> i128 {
        let (x, rest) = (self.offset, 0.5 * height - self.fraction as f64 / UNIT as f64);
        let determinant = along.x() * across.rest() - along.rest() * across.x();
        ((along.x() * rest - along.rest() * x) / determinant).round() as i128
    }

    /// The steps before and after the minimum of the loss on the part of the line that is below the curve.
    fn best_on_line(&self, start: Point, along: Point) -> ArrayVec<i128, 2> {
        let (x, dx, rest, drest) = (start.x(), along.x(), start.rest(), along.rest());
        // The fraction lost, `t(j) = a·j² + b·j + c`, must not be negative.
        let (a, b, c) = (-self.curve * dx * dx, drest - 2.0 * self.curve * x * dx, rest - self.curve * x * x);
        let Some((from, to)) = non_negative(a, b, c) else { return ArrayVec::new() };
        let square = self.bend * dx * dx + self.price * a;
        let linear = 2.0 * self.bend * dx * (x - self.offset) + self.price * b;
        let lowest = if square > 0.0 { -linear / (2.0 * square) } else { f64::NEG_INFINITY * linear };
        let lowest = lowest.clamp(from, to);
        let points = [lowest.floor(), lowest.ceil()].into_iter().filter(|j| j.is_finite());
        points.filter_map(|j| along.scaled(j as i128)?.x.checked_add(start.x)).collect()
    }
}

/// The range in which `a·j² + b·j + c ≥ 0` for `a ≤ 0`.
fn non_negative(a: f64, b: f64, c: f64) -> Option<(f64, f64)> {
    let discriminant = b * b - 4.0 * a * c;
    if discriminant < 0.0 || (b == 0.0 && c < 0.0) {
        return None;
    }
    // Of the two forms of a root, the one without cancellation.
    let half = -0.5 * (b + discriminant.sqrt().copysign(b));
    let (first, second) = (c / half, if a == 0.0 { f64::INFINITY.copysign(b) } else { half / a });
    if first.is_nan() || second.is_nan() {
        return Some((f64::NEG_INFINITY, f64::INFINITY));
    }
    Some((first.min(second), first.max(second)))
}

/// A step of the lattice: `x` units of the first token, and what it moves the second, modulo whole units.
#[derive(Clone, Copy)]
struct Point {
    x: i128,
    /// In 2⁻⁹⁶.
    rest: i128,
}

impl Point {
    fn x(self) -> f64 {
        self.x as f64
    }

    fn rest(self) -> f64 {
        self.rest as f64 / UNIT as f64
    }

    fn scaled(self, factor: i128) -> Option<Self> {
        Some(Self { x: self.x.checked_mul(factor)?, rest: self.rest.checked_mul(factor)? })
    }

    fn raised(self, by: u128) -> Self {
        Self { rest: self.rest.saturating_add_unsigned(by), ..self }
    }
}

/// The proportions of the region.
#[derive(Clone, Copy)]
struct Extent {
    width: f64,
    height: f64,
}

impl Extent {
    fn dot(self, a: Point, b: Point) -> f64 {
        a.x() * b.x() / (self.width * self.width) + a.rest() * b.rest() / (self.height * self.height)
    }

    /// The point of the line that is nearest to the peak, or next to it.
    fn nearest(self, start: Point, along: Point) -> Option<Point> {
        let mut point = start;
        // What the first rounding leaves, the second removes.
        for _ in 0..2 {
            let times = -(self.dot(point, along) / self.dot(along, along)).round();
            let moved = along.scaled(times as i128)?;
            point = Point { x: point.x.checked_add(moved.x)?, rest: point.rest.checked_add(moved.rest)? };
        }
        Some(point)
    }
}

/// Lagrange's reduction of the lattice of steps, in the proportions of the region: the shorter vector first.
fn reduced_basis(slope: u128, extent: Extent) -> (Point, Point) {
    let dot = |a: Point, b: Point| extent.dot(a, b);
    // Around zero, a slope of nearly one is a slope of a little less than nothing.
    let mut short = Point {
        x: 1,
        rest: if slope < UNIT.unsigned_abs() / 2 { slope as i128 } else { slope as i128 - UNIT },
    };
    let mut long = Point { x: 0, rest: UNIT };
    loop {
        if dot(long, long) < dot(short, short) {
            std::mem::swap(&mut short, &mut long);
        }
        let times = (dot(short, long) / dot(short, short)).round();
        let Some(multiple) = short.scaled(times as i128).filter(|_| times != 0.0) else {
            return (short, long);
        };
        let next = Point { x: long.x - multiple.x, rest: long.rest - multiple.rest };
        if dot(next, next) >= dot(long, long) {
            return (short, long);
        }
        long = next;
    }
}

/// First and second derivative of a pool's output.
struct Shape {
    slope: f64,
    bend: f64,
}

impl Shape {
    fn of(hop: &Hop, amount_in: u128) -> Self {
        let keep = f64::from(hop.fee().keep()) / f64::from(hop.fee().scale());
        let (x, y) = (hop.reserve_in() as f64, hop.reserve_out() as f64);
        let balance = x + keep * amount_in as f64;
        let slope = keep * x / balance * (y / balance);
        Self { slope, bend: -2.0 * keep * slope / balance }
    }
}

/// What the pool keeps because it gives whole units only, in 2⁻⁹⁶.
fn fraction_of_output(hop: &Hop, amount_in: u128) -> u128 {
    let kept = U256::from(amount_in) * hop.keep();
    let denominator = U256::from(hop.reserve_in()) * hop.scale() + kept;
    let rest = (kept * U256::from(hop.reserve_out())) % denominator;
    ((rest << PLACES) / denominator).to()
}

/// The pool's output per input, modulo one, in 2⁻⁹⁶.
fn fraction_of_slope(hop: &Hop, amount_in: u128) -> u128 {
    let wide = |value: U256| U512::from(value);
    let balance = U256::from(hop.reserve_in()) * hop.scale() + U256::from(amount_in) * hop.keep();
    let numerator =
        wide(hop.keep() * hop.scale() * U256::from(hop.reserve_in())) * U512::from(hop.reserve_out());
    let square = wide(balance) * wide(balance);
    (((numerator % square) << PLACES) / square).to()
}
