//! The best input of a cycle by asking: of the cycle it is only known that more in is never less out.

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Smallest units; negative where every input that was tried loses.
    pub gain: i128,
    /// Smallest units.
    pub amount_in: u128,
    /// How often it asked.
    pub asked: u64,
}

/// The greatest gain that a search finds.
///
/// It asks at every power of two, then on ever finer grids about the best, then within a millionth of it, then on both sides of the
/// `suspect`, an input that somebody holds for the best; and trims the best of each: the least input with the same output, and with
/// the next ones.
///
/// `output` answers what comes out for an input, `None` where it is not taken.
pub fn fine_search(suspect: Option<u128>, mut output: impl FnMut(u128) -> Option<u128>) -> Found {
    let mut search = Search { output: &mut output, best: (i128::MIN, 0), asked: 0 };
    for bits in 0..112 {
        search.try_input(1 << bits);
    }
    let mut width = search.best.1 / 2;
    while width > search.best.1 >> 30 {
        search.grid(width, 4);
        width /= 4;
    }
    search.grid(search.best.1 >> 20, 24);
    search.trim();
    search.climb_steps();
    if let Some(suspect) = suspect {
        for bits in 0..64 {
            search.try_input(suspect.saturating_sub(1 << bits));
            search.try_input(suspect.saturating_add(1 << bits));
        }
        search.trim();
    }
    let (gain, amount_in) = search.best;
    Found { gain, amount_in, asked: search.asked }
}

struct Search<'a> {
    output: &'a mut dyn FnMut(u128) -> Option<u128>,
    best: (i128, u128),
    asked: u64,
}

impl Search<'_> {
    fn ask(&mut self, amount_in: u128) -> Option<u128> {
        self.asked += 1;
        (self.output)(amount_in)
    }

    fn try_input(&mut self, amount_in: u128) {
        if amount_in == 0 {
            return;
        }
        if let Some(out) = self.ask(amount_in) {
            let gain = out as i128 - amount_in as i128;
            if gain > self.best.0 {
                self.best = (gain, amount_in);
            }
        }
    }

    /// So many inputs on each side, up to `width` away.
    fn grid(&mut self, width: u128, steps: u128) {
        let middle = self.best.1;
        for step in 1..=steps {
            let away = width / steps * step;
            self.try_input(middle.saturating_sub(away));
            self.try_input(middle.saturating_add(away));
        }
    }

    /// The least input that yields what the best yields.
    fn trim(&mut self) {
        let (gain, amount_in) = self.best;
        if gain == i128::MIN {
            return;
        }
        let target = amount_in.saturating_add_signed(gain);
        self.least_for(target, amount_in);
    }

    /// The least inputs that yield the next outputs: in units that are coarse on the way, the next steps of the stairs.
    fn climb_steps(&mut self) {
        for _ in 0..4 {
            let (gain, start) = self.best;
            if gain == i128::MIN {
                return;
            }
            let target = start.saturating_add_signed(gain) + 1;
            let mut step = 1u128;
            while step < start {
                let beyond = start + step;
                if self.ask(beyond).is_some_and(|out| out >= target) {
                    self.least_for(target, beyond);
                    break;
                }
                step *= 2;
            }
        }
    }

    /// By bisection below an input that yields the target.
    fn least_for(&mut self, target: u128, from: u128) {
        let (mut high, mut step) = (from, 1u128);
        let mut low = from.saturating_sub(step);
        while low > 0 && self.ask(low).is_some_and(|out| out >= target) {
            high = low;
            step *= 2;
            low = low.saturating_sub(step);
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.ask(middle).is_some_and(|out| out >= target) { high = middle } else { low = middle }
        }
        self.try_input(high);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smooth_curve_and_stairs_are_searched_to_their_best() {
        let smooth = |amount: u128| Some(amount * 3_000_000_000 / (2_000_000_000 + amount));
        let truth = (1..2_000_000_000u128)
            .step_by(999)
            .filter_map(|amount| smooth(amount).map(|out| out as i128 - amount as i128));
        let found = fine_search(None, smooth);
        assert!(found.gain >= truth.max().unwrap_or(0), "{found:?}");
        let stairs = |amount: u128| smooth(amount / 1_000 * 1_000);
        let truth =
            (1..2_000_000u128).filter_map(|step| Some(stairs(step * 1_000)? as i128 - step as i128 * 1_000));
        let found = fine_search(None, stairs);
        assert!(found.gain + 1 >= truth.max().unwrap_or(0) && found.amount_in % 1_000 == 0, "{found:?}");
    }

    #[test]
    fn a_better_neighbour_of_a_suspect_is_found() {
        let spike = |amount: u128| Some(if amount == 12_345_678 { amount + 5 } else { amount / 2 });
        assert_eq!(fine_search(Some(12_345_679), spike).gain, 5);
        assert!(fine_search(None, spike).gain < 5);
    }
}
