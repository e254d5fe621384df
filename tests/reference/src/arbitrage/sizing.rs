use alloy_primitives::Uint;

use super::{MAX_BALANCE, Swap, WHOLE};

/// Wide enough for three pools' products, an amount and 192 binary places.
type Wide = Uint<768, 12>;

/// The best input that the search found, and how much better any other can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Best {
    /// Smallest units.
    pub amount_in: u128,
    /// Smallest units.
    pub profit: u128,
    /// No integer input gains more than this.
    pub ceiling: u128,
}

/// Steps after which the search gives up proving that nothing is better; the ceiling then tells what is open.
const PATIENCE: usize = 2_000_000;

/// The integer input of a cycle of two or three swaps that gains most, to within one unit; `None` where none gains, or
/// none was found to gain and none gains more than one unit.
///
/// Every input makes the cycle pass a whole amount of every token on its way. So the search goes through the whole
/// amounts of one token, outwards from the best real amount, and asks of each: what is the least input that makes it,
/// and what do the pools give for it? It is over as soon as, for one of the tokens, even a cycle of real numbers through
/// the next amount on either side gains at most one unit more than the best so far.
pub fn best_input(swaps: &[Swap]) -> Option<Best> {
    if !gains_in_the_small(swaps) {
        return None;
    }
    let limit = greatest_input(swaps);
    let mut levels: Vec<Level<'_>> = (0..swaps.len()).map(|at| Level::new(swaps, at, limit)).collect();
    let mut best: Option<(u128, u128)> = None;
    let mut ceiling = u128::MAX;
    for _ in 0..PATIENCE {
        for level in &mut levels {
            for amount in level.next_amounts() {
                let Some((amount_in, profit)) = level.exact(amount, limit) else { continue };
                let better =
                    best.is_none_or(|(least, most)| profit > most || (profit == most && amount_in < least));
                if better && profit > 0 {
                    best = Some((amount_in, profit));
                }
            }
            ceiling = ceiling.min(level.outside());
        }
        if ceiling <= best.map_or(0, |(_, profit)| profit) + 1 {
            break;
        }
    }
    best.map(|(amount_in, profit)| Best { amount_in, profit, ceiling: ceiling.max(profit) })
}

/// Whether an infinitely small input gains: otherwise none does, because every pool gets worse with the amount.
fn gains_in_the_small(swaps: &[Swap]) -> bool {
    let all =
        |factor: fn(&Swap) -> Wide| swaps.iter().fold(Wide::ONE, |product, swap| product * factor(swap));
    all(|swap| Wide::from(swap.reserve_out) * Wide::from(WHOLE - swap.fee_ppm))
        > all(|swap| Wide::from(swap.reserve_in) * Wide::from(WHOLE))
}

/// The greatest input that no pool refuses, by bisection.
fn greatest_input(swaps: &[Swap]) -> u128 {
    greatest_true(MAX_BALANCE, |input| through(swaps, input).is_some())
}

fn through(swaps: &[Swap], input: u128) -> Option<u128> {
    swaps.iter().try_fold(input, |amount, swap| swap.output(amount))
}

/// The greatest number up to `end` for which `holds`, which holds up to some number and not beyond; 0 if for none.
fn greatest_true(end: u128, holds: impl Fn(u128) -> bool) -> u128 {
    let (mut low, mut high) = (0, end);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if holds(middle) { low = middle } else { high = middle - 1 }
    }
    low
}

/// The search through the whole amounts of one token of the cycle: the input (level 0), or what pool `level` gives.
struct Level<'a> {
    before: &'a [Swap],
    after: Real,
    after_swaps: &'a [Swap],
    /// The pools before it as one real function.
    inverse: Real,
    /// Amounts not yet tried: up to and including, and from.
    down: u128,
    up: u128,
    end: u128,
}

impl<'a> Level<'a> {
    fn new(swaps: &'a [Swap], at: usize, limit: u128) -> Self {
        let (before, after_swaps) = swaps.split_at(at);
        let end = through(before, limit).unwrap_or(0);
        let (inverse, after) = (Real::of(before), Real::of(after_swaps));
        let mut level = Self { before, after, after_swaps, inverse, down: 0, up: 1, end };
        // The real profit rises up to its peak and falls beyond.
        let rises = |amount: u128| level.real_profit(amount) > level.real_profit(amount - 1);
        let peak = greatest_true(end, rises);
        (level.down, level.up) = (peak, peak + 1);
        level
    }

    /// Profit in real numbers of passing this amount, in 2⁻¹⁹² units, off by no more than two of those.
    fn real_profit(&self, amount: u128) -> Profit {
        match self.inverse.invert(amount) {
            Some(cost) => Profit::difference(self.after.apply(amount), cost),
            None => Profit::Impossible,
        }
    }

    fn next_amounts(&mut self) -> impl Iterator<Item = u128> + use<> {
        let down = (self.down > 0).then_some(self.down);
        let up = (self.up <= self.end).then_some(self.up);
        self.down = self.down.saturating_sub(1);
        self.up = self.up.saturating_add(1).min(self.end + 1);
        down.into_iter().chain(up)
    }

    /// The least input that makes this amount, and its profit.
    fn exact(&self, amount: u128, limit: u128) -> Option<(u128, u128)> {
        let amount_in = match self.before {
            [] => amount,
            before => before.iter().rev().try_fold(amount, |amount, swap| least_input(swap, amount))?,
        };
        if amount_in > limit {
            return None;
        }
        // The chain from the input may pass a little more than the amount asked for, never less.
        debug_assert!(through(self.before, amount_in) >= Some(amount));
        debug_assert!(through(self.after_swaps, amount).is_some());
        let profit = through(self.before, amount_in).and_then(|amount| through(self.after_swaps, amount))?;
        Some((amount_in, profit.checked_sub(amount_in)?))
    }

    /// What no amount that was not tried yet gains more than.
    fn outside(&self) -> u128 {
        let down = (self.down > 0).then(|| self.real_profit(self.down).whole_units());
        let up = (self.up <= self.end).then(|| self.real_profit(self.up).whole_units());
        down.into_iter().chain(up).max().unwrap_or(0)
    }
}

/// The least input that makes the pool give `output`, by bisection over its output.
fn least_input(swap: &Swap, output: u128) -> Option<u128> {
    let room = MAX_BALANCE - swap.reserve_in;
    if output >= swap.reserve_out || swap.output(room)? < output {
        return None;
    }
    // A guess from the formula, corrected by asking the pool.
    let (x, y) = (Wide::from(swap.reserve_in), Wide::from(swap.reserve_out));
    let guess = x * Wide::from(WHOLE) * Wide::from(output)
        / ((y - Wide::from(output)) * Wide::from(WHOLE - swap.fee_ppm));
    let mut input: u128 = guess.min(Wide::from(room)).to();
    while swap.output(input)? < output {
        input += 1;
    }
    while input > 0 && swap.output(input - 1)? >= output {
        input -= 1;
    }
    Some(input)
}

/// Pools in a row as a function of real numbers: `a ↦ p·a / (q + r·a)`.
struct Real {
    p: Wide,
    q: Wide,
    r: Wide,
}

/// Binary places of real amounts: the profit has to be seen to rise and fall even between neighbouring amounts of a token
/// whose smallest unit is worth next to nothing.
const PLACES: usize = 192;

impl Real {
    fn of(swaps: &[Swap]) -> Self {
        let mut row = Self { p: Wide::ONE, q: Wide::ONE, r: Wide::ZERO };
        for swap in swaps {
            let keep = Wide::from(WHOLE - swap.fee_ppm);
            let into = Wide::from(swap.reserve_in) * Wide::from(WHOLE);
            row = Self {
                r: into * row.r + keep * row.p,
                p: keep * Wide::from(swap.reserve_out) * row.p,
                q: into * row.q,
            };
        }
        row
    }

    /// In 2⁻¹⁹² units, rounded up.
    fn apply(&self, amount: u128) -> Wide {
        let amount = Wide::from(amount);
        ((self.p * amount) << PLACES).div_ceil(self.q + self.r * amount)
    }

    /// The amount that gives `output`, in 2⁻¹⁹² units, rounded down; `None` where none does.
    fn invert(&self, output: u128) -> Option<Wide> {
        let output = Wide::from(output);
        let left = self.p.checked_sub(self.r * output).filter(|left| !left.is_zero())?;
        Some(((self.q * output) << PLACES) / left)
    }
}

/// A difference of real amounts, ordered.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Profit {
    /// No input, however great, makes the amount.
    Impossible,
    Loss(std::cmp::Reverse<Wide>),
    Gain(Wide),
}

impl Profit {
    fn difference(output: Wide, cost: Wide) -> Self {
        if output >= cost { Self::Gain(output - cost) } else { Self::Loss(std::cmp::Reverse(cost - output)) }
    }

    /// No integer profit is greater.
    fn whole_units(&self) -> u128 {
        match self {
            Self::Gain(gain) => (*gain >> PLACES).to(),
            Self::Loss(_) | Self::Impossible => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swap(reserve_in: u128, reserve_out: u128) -> Swap {
        Swap { reserve_in, reserve_out, fee_ppm: 3000 }
    }

    /// Every input there is, in pools that are small enough for that.
    fn exhaustive(swaps: &[Swap]) -> u128 {
        let gain = |input: u128| through(swaps, input).and_then(|out| out.checked_sub(input));
        (1..20_000).filter_map(gain).max().unwrap_or(0)
    }

    #[test]
    fn it_agrees_with_trying_every_input() {
        let mut gaining = 0;
        for step in 1..300u128 {
            let (a, b, c) = (step * 37 % 1_900 + 20, step * 91 % 2_300 + 15, step * 53 % 1_700 + 30);
            for swaps in [vec![swap(a, b), swap(b, a + 60)], vec![swap(a, b), swap(c, a), swap(b, c * 2)]] {
                let truth = exhaustive(&swaps);
                let found = best_input(&swaps);
                let profit = found.map_or(0, |best| best.profit);
                assert!(profit <= truth && truth <= profit + 1, "{profit}, not {truth}, in {swaps:?}");
                assert!(
                    found.is_none_or(|best| truth <= best.ceiling),
                    "{found:?} below {truth} in {swaps:?}"
                );
                gaining += usize::from(profit > 0);
            }
        }
        assert!(gaining > 50, "only {gaining} cycles gained");
    }

    #[test]
    fn coarse_tokens_between_do_not_stop_it() {
        // WETH, USDC, USDT, WETH: the tokens between have 6 decimals.
        let (ether, dollar) = (10u128.pow(18), 10u128.pow(6));
        let swaps = [
            swap(100 * ether, 310_000 * dollar),
            swap(500_000 * dollar, 501_000 * dollar),
            swap(600_000 * dollar, 201 * ether),
        ];
        let best = best_input(&swaps).expect("it gains");
        assert!(best.ceiling <= best.profit + 1);
        for away in 1..=2_000u128 {
            for input in [best.amount_in + away * 1_000_003, best.amount_in - away * 1_000_003] {
                let gain = through(&swaps, input).map(|out| out as i128 - input as i128);
                assert!(gain <= Some(best.ceiling as i128));
            }
        }
    }

    #[test]
    fn a_loss_is_nothing() {
        assert_eq!(best_input(&[swap(1_000, 1_000), swap(1_000, 1_000)]), None);
        assert_eq!(best_input(&[swap(10, 10), swap(10, 11)]), None);
    }
}
