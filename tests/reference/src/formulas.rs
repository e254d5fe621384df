//! What pools give, by the formulas that their authors published: one step after the other, in wide integers. The contracts
//! themselves say the same, but take a thousand times as long; whoever uses these asks them now and then.

mod ranged;

use alloy_primitives::{U256, U512};

use crate::arbitrage::Swap;

pub(crate) use self::ranged::{HIGHEST, LOWEST};
pub use self::ranged::{Ranged, fees_v4, sqrt_price_at};

/// The fee of every Uniswap V2 pair.
pub const V2_FEE_PPM: u32 = 3_000;

/// A pool as it stands.
#[derive(Clone, Debug)]
pub enum Formula {
    /// Uniswap V2 with its reserves: `getAmountOut` of `UniswapV2Library.sol`.
    Pair([u128; 2]),
    /// Uniswap V3 or V4.
    Ranged(Ranged),
}

/// One direction through a pool.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The pool.
    pub formula: &'a Formula,
    /// Token 0 in.
    pub zero_for_one: bool,
}

impl Way<'_> {
    /// What comes out; `None` where the pool refuses, or does not take all of it.
    pub fn output(&self, amount_in: u128) -> Option<u128> {
        match self.formula {
            _ if amount_in == 0 => Some(0),
            Formula::Pair(_) => self.swap()?.output(amount_in),
            Formula::Ranged(ranged) => ranged.output(self.zero_for_one, amount_in),
        }
    }

    /// Initialised ticks that a swap of this input goes over; `None` where it is refused.
    pub fn crossings(&self, amount_in: u128) -> Option<u32> {
        match self.formula {
            Formula::Pair(_) => Some(0),
            Formula::Ranged(ranged) => ranged.crossings(self.zero_for_one, amount_in),
        }
    }

    /// The least input that yields so much or more; `None` where none does.
    pub fn least_input(&self, amount_out: u128) -> Option<u128> {
        let near = match self.formula {
            _ if amount_out == 0 => return Some(0),
            Formula::Pair(_) => self.pair_input(amount_out)?,
            Formula::Ranged(ranged) => ranged.input(self.zero_for_one, amount_out)?,
        };
        self.descend(near, amount_out)
    }

    /// Output per input of an infinitely small swap, the fee taken, as a fraction; no swap gets more.
    pub fn rate(&self) -> [U512; 2] {
        match self.formula {
            Formula::Pair([reserve0, reserve1]) => {
                let held = [*reserve0, *reserve1].map(U512::from);
                let [into, out] = if self.zero_for_one { held } else { [held[1], held[0]] };
                [out * U512::from(1_000_000 - V2_FEE_PPM), into * U512::from(1_000_000)]
            }
            Formula::Ranged(ranged) => ranged.rate(self.zero_for_one),
        }
    }

    /// `getAmountIn` of `UniswapV2Library.sol`.
    fn pair_input(&self, amount_out: u128) -> Option<u128> {
        let Swap { reserve_in, reserve_out, fee_ppm } = self.swap()?;
        let left = reserve_out.checked_sub(amount_out).filter(|left| *left > 0)?;
        let wide = |amount: u128| U512::from(amount);
        let (whole, kept) = (wide(1_000_000), wide(u128::from(1_000_000 - fee_ppm)));
        let into = wide(reserve_in) * wide(amount_out) * whole / (wide(left) * kept);
        (into.bit_len() < 128).then(|| into.wrapping_to::<u128>() + 1)
    }

    fn swap(&self) -> Option<Swap> {
        let Formula::Pair([reserve0, reserve1]) = *self.formula else { return None };
        let (reserve_in, reserve_out) =
            if self.zero_for_one { (reserve0, reserve1) } else { (reserve1, reserve0) };
        Some(Swap { reserve_in, reserve_out, fee_ppm: V2_FEE_PPM })
    }

    /// From an input near the least one to the least one, by asking alone.
    fn descend(&self, near: u128, amount_out: u128) -> Option<u128> {
        let yields = |amount: u128| self.output(amount).map(|out| out >= amount_out);
        let (mut high, mut step) = (near, 1u128);
        while !yields(high)? {
            high = high.checked_add(step)?;
            step *= 2;
        }
        let (mut low, mut step) = (high.saturating_sub(1), 2u128);
        while low > 0 && yields(low) == Some(true) {
            high = low;
            low = low.saturating_sub(step);
            step *= 2;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if yields(middle)? { high = middle } else { low = middle }
        }
        Some(high)
    }
}

/// `⌊a·b/c⌋`; `None` where it does not fit.
fn mul_div(a: U256, b: U256, c: U256) -> Option<U256> {
    let (quotient, _) = divide(a, b, c)?;
    Some(quotient)
}

/// `⌈a·b/c⌉`; `None` where it does not fit.
fn mul_div_up(a: U256, b: U256, c: U256) -> Option<U256> {
    let (quotient, rest) = divide(a, b, c)?;
    quotient.checked_add(U256::from(u8::from(!rest)))
}

/// The quotient, and whether nothing is left.
fn divide(a: U256, b: U256, c: U256) -> Option<(U256, bool)> {
    if c.is_zero() {
        return None;
    }
    let product: U512 = a.widening_mul(b);
    let (quotient, rest) = product.div_rem(U512::from(c));
    (quotient.bit_len() <= 256).then(|| (quotient.wrapping_to(), rest.is_zero()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_input_of_a_pair_is_the_least() {
        let formula = Formula::Pair([1_000_003, 77_777]);
        for zero_for_one in [true, false] {
            let way = Way { formula: &formula, zero_for_one };
            for amount in [1u128, 2, 99, 1_000, 70_000] {
                let least = way.least_input(amount).expect("the pair has it");
                assert!(way.output(least) >= Some(amount) && way.output(least - 1) < Some(amount));
            }
        }
        assert_eq!(Way { formula: &formula, zero_for_one: true }.least_input(77_777), None);
    }
}
