use alloy_primitives::{U256, U512};

use crate::AmmError;

/// The greatest reserve that a pair can hold (`uint112`, v2-core `UniswapV2Pair.sol`).
pub const MAX_RESERVE: u128 = (1 << 112) - 1;

/// What a pool keeps of the input, as the fraction that its contract multiplies with.
///
/// The fraction is reduced, so that 3,000 parts per million become Uniswap's own 997/1000 and 2,500 become Pancake's
/// 9975/10000 over four, 399/400: the quotients are the contracts', because a factor common to numerator and
/// denominator does not change a floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fee {
    keep: u32,
    scale: u32,
}

impl Fee {
    /// Uniswap V2, SushiSwap and most of their forks: 0.3 %.
    pub const UNISWAP_V2: Self = Self { keep: 997, scale: 1000 };

    /// From a fee in parts per million of the input. A fee of 1,000,000 or more is refused.
    pub const fn from_ppm(fee_ppm: u32) -> Result<Self, AmmError> {
        const WHOLE: u32 = 1_000_000;
        if fee_ppm >= WHOLE {
            return Err(AmmError::FeeTooHigh(fee_ppm));
        }
        let divisor = greatest_common_divisor(WHOLE - fee_ppm, WHOLE);
        Ok(Self { keep: (WHOLE - fee_ppm) / divisor, scale: WHOLE / divisor })
    }

    /// Numerator of the part of the input that is swapped.
    pub const fn keep(self) -> u32 {
        self.keep
    }

    /// Denominator of the part of the input that is swapped.
    pub const fn scale(self) -> u32 {
        self.scale
    }
}

const fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// One direction through a constant-product pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    reserve_in: u128,
    reserve_out: u128,
    fee: Fee,
}

impl Hop {
    /// Reserves in smallest units of their tokens. Refused where one is zero or beyond `uint112`.
    pub fn new(reserve_in: u128, reserve_out: u128, fee: Fee) -> Result<Self, AmmError> {
        for reserve in [reserve_in, reserve_out] {
            if reserve == 0 {
                return Err(AmmError::InsufficientLiquidity);
            }
            if reserve > MAX_RESERVE {
                return Err(AmmError::ReserveTooLarge(reserve));
            }
        }
        Ok(Self { reserve_in, reserve_out, fee })
    }

    /// Reserve of the token that goes in, in its smallest units.
    pub fn reserve_in(&self) -> u128 {
        self.reserve_in
    }

    /// Reserve of the token that comes out, in its smallest units.
    pub fn reserve_out(&self) -> u128 {
        self.reserve_out
    }

    /// The fee.
    pub fn fee(&self) -> Fee {
        self.fee
    }

    /// The same pool the other way round.
    pub fn reversed(&self) -> Self {
        Self { reserve_in: self.reserve_out, reserve_out: self.reserve_in, fee: self.fee }
    }

    /// The pool after somebody swapped `amount_in` for `amount_out`, in the same direction.
    pub fn after(&self, amount_in: u128, amount_out: u128) -> Result<Self, AmmError> {
        let reserve_in = self.reserve_in.checked_add(amount_in).ok_or(AmmError::Overflow)?;
        let reserve_out = self.reserve_out.checked_sub(amount_out).ok_or(AmmError::InsufficientLiquidity)?;
        Self::new(reserve_in, reserve_out, self.fee)
    }

    /// What comes out for `amount_in`, both in smallest units: `getAmountOut` of v2-periphery's
    /// `UniswapV2Library.sol`, with its roundings and its reverts.
    pub fn amount_out(&self, amount_in: U256) -> Result<U256, AmmError> {
        if amount_in.is_zero() {
            return Err(AmmError::InsufficientInput);
        }
        let kept = checked_mul(amount_in, self.keep())?;
        let numerator = checked_mul(kept, U256::from(self.reserve_out))?;
        let denominator = checked_mul(U256::from(self.reserve_in), self.scale())?
            .checked_add(kept)
            .ok_or(AmmError::Overflow)?;
        Ok(numerator / denominator)
    }

    /// What the router asks for `amount_out`, both in smallest units: `getAmountIn` of `UniswapV2Library.sol`.
    ///
    /// It adds one whether or not the division left a remainder, so that it is one more than [`Hop::least_input`]
    /// where there was none.
    pub fn amount_in(&self, amount_out: U256) -> Result<U256, AmmError> {
        if amount_out.is_zero() {
            return Err(AmmError::InsufficientOutput);
        }
        let left = U256::from(self.reserve_out).checked_sub(amount_out).filter(|left| !left.is_zero());
        let left = left.ok_or(AmmError::InsufficientLiquidity)?;
        let numerator = checked_mul(checked_mul(U256::from(self.reserve_in), amount_out)?, self.scale())?;
        let denominator = checked_mul(left, self.keep())?;
        (numerator / denominator).checked_add(U256::ONE).ok_or(AmmError::Overflow)
    }

    /// The greatest input that the pair accepts: its balance has to stay within `uint112` (`_update` of
    /// `UniswapV2Pair.sol` reverts with `OVERFLOW` beyond).
    pub fn max_input(&self) -> u128 {
        MAX_RESERVE - self.reserve_in
    }

    /// [`Hop::amount_out`] for an input of at most [`MAX_RESERVE`], where nothing can overflow; zero for zero.
    pub fn quote(&self, amount_in: u128) -> u128 {
        debug_assert!(amount_in <= MAX_RESERVE);
        let kept = U256::from(amount_in) * self.keep();
        let denominator = U256::from(self.reserve_in) * self.scale() + kept;
        narrow(kept * U256::from(self.reserve_out) / denominator)
    }

    /// The least input that yields `amount_out`; `None` where the pool cannot yield it within [`Hop::max_input`].
    pub fn least_input(&self, amount_out: u128) -> Option<u128> {
        let left = self.reserve_out.checked_sub(amount_out).filter(|left| *left > 0)?;
        let numerator = U256::from(self.reserve_in) * self.scale() * U256::from(amount_out);
        let least = numerator.div_ceil(U256::from(left) * self.keep());
        (least <= U256::from(self.max_input())).then(|| narrow(least))
    }

    /// Whether the pair's `swap` accepts these amounts: `UniswapV2Pair.sol`'s check of K with the fee taken from the
    /// input, its liquidity and its balances within `uint112`.
    pub fn accepts(&self, amount_in: u128, amount_out: u128) -> bool {
        if amount_in == 0 || amount_out == 0 || amount_out >= self.reserve_out || amount_in > self.max_input()
        {
            return false;
        }
        let wide = |value: u128| U512::from(value);
        let scale = wide(self.fee.scale.into());
        let taken = wide((self.fee.scale - self.fee.keep).into());
        let balance_in = wide(self.reserve_in + amount_in) * scale - wide(amount_in) * taken;
        let balance_out = wide(self.reserve_out - amount_out) * scale;
        balance_in * balance_out >= wide(self.reserve_in) * wide(self.reserve_out) * scale * scale
    }

    /// Natural logarithm of the output per input of an infinitely small swap, fee taken, in smallest units.
    ///
    /// A filter, never an amount; see [`LOG_MARGIN`](crate::LOG_MARGIN).
    pub fn log_rate(&self) -> f64 {
        let out = self.reserve_out as f64 * f64::from(self.fee.keep);
        let into = self.reserve_in as f64 * f64::from(self.fee.scale);
        (out / into).ln()
    }

    /// What [`Hop::quote`] loses when it is rounded down.
    pub(crate) fn fraction_of_output(&self, amount_in: u128) -> f64 {
        let kept = U256::from(amount_in) * self.keep();
        let denominator = U256::from(self.reserve_in) * self.scale() + kept;
        f64::from(kept * U256::from(self.reserve_out) % denominator) / f64::from(denominator)
    }

    pub(crate) fn keep(&self) -> U256 {
        U256::from(self.fee.keep)
    }

    pub(crate) fn scale(&self) -> U256 {
        U256::from(self.fee.scale)
    }
}

fn checked_mul(a: U256, b: U256) -> Result<U256, AmmError> {
    a.checked_mul(b).ok_or(AmmError::Overflow)
}

/// For quotients that the reserves bound.
fn narrow(value: U256) -> u128 {
    debug_assert!(value.bit_len() <= 128);
    value.to()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNISWAP: u32 = 3000;

    fn hop(reserve_in: u128, reserve_out: u128, fee_ppm: u32) -> Hop {
        Hop::new(reserve_in, reserve_out, Fee::from_ppm(fee_ppm).expect("a fee below the whole"))
            .expect("reserves within uint112")
    }

    /// Reserves of every order of magnitude that a `uint112` has.
    fn reserve() -> impl Strategy<Value = u128> {
        (0u32..112, any::<u128>())
            .prop_map(|(bits, value)| (value % (1 << bits)) + (1 << bits).min(MAX_RESERVE / 2))
    }

    fn any_hop() -> impl Strategy<Value = Hop> {
        (reserve(), reserve(), 0u32..100_000).prop_map(|(x, y, fee)| hop(x, y, fee))
    }

    #[test]
    fn a_fee_becomes_the_fraction_that_the_contract_multiplies_with() {
        let check = |ppm, keep, scale| {
            let fee = Fee::from_ppm(ppm).expect("a fee below the whole");
            assert_eq!((fee.keep(), fee.scale()), (keep, scale), "{ppm} ppm");
        };
        check(3000, 997, 1000);
        check(2500, 399, 400);
        check(2000, 499, 500);
        check(1000, 999, 1000);
        check(10_000, 99, 100);
        check(0, 1, 1);
        check(1, 999_999, 1_000_000);
        check(999_999, 1, 1_000_000);
        assert_eq!(Fee::from_ppm(UNISWAP), Ok(Fee::UNISWAP_V2));
        assert_eq!(Fee::from_ppm(1_000_000), Err(AmmError::FeeTooHigh(1_000_000)));
    }

    #[test]
    fn amounts_out_are_the_contracts() {
        // The vectors of v2-core's `UniswapV2Pair.spec.ts` (swapTestCases): amount in, reserves, greatest output.
        let check = |amount: u64, reserve_in: u64, reserve_out: u64, expected: u128| {
            let ether = 10u128.pow(18);
            let hop = hop(u128::from(reserve_in) * ether, u128::from(reserve_out) * ether, UNISWAP);
            let out = hop.amount_out(U256::from(u128::from(amount) * ether)).expect("a quote");
            assert_eq!(out, U256::from(expected), "{amount} into {reserve_in}/{reserve_out}");
        };
        check(1, 5, 10, 1_662_497_915_624_478_906);
        check(1, 10, 5, 453_305_446_940_074_565);
        check(2, 5, 10, 2_851_015_155_847_869_602);
        check(2, 10, 5, 831_248_957_812_239_453);
        check(1, 10, 10, 906_610_893_880_149_131);
        check(1, 100, 100, 987_158_034_397_061_298);
        check(1, 1000, 1000, 996_006_981_039_903_216);
    }

    #[test]
    fn amounts_in_are_the_librarys() {
        let check = |out: u64, reserve_in, reserve_out, expected: Result<u64, AmmError>| {
            let got = hop(reserve_in, reserve_out, UNISWAP).amount_in(U256::from(out));
            assert_eq!(got, expected.map(U256::from), "{out} from {reserve_in}/{reserve_out}");
        };
        // v2-periphery's `UniswapV2Router01.spec.ts`, and the edges of its reverts.
        check(1, 100, 100, Ok(2));
        check(0, 100, 100, Err(AmmError::InsufficientOutput));
        check(100, 100, 100, Err(AmmError::InsufficientLiquidity));
        check(101, 100, 100, Err(AmmError::InsufficientLiquidity));
        check(99, 100, 100, Ok(9930));
        // Without a remainder the library still adds one.
        check(3, 997, 1000, Ok(4));
        assert_eq!(hop(997, 1000, UNISWAP).least_input(3), Some(4));
        check(500, 997, 1000, Ok(1001));
        assert_eq!(hop(997, 1000, UNISWAP).least_input(500), Some(1000));
    }

    #[test]
    fn what_the_contract_reverts_on_is_an_error() {
        let pool = hop(100, 100, UNISWAP);
        assert_eq!(pool.amount_out(U256::ZERO), Err(AmmError::InsufficientInput));
        assert_eq!(pool.amount_out(U256::from(2)), Ok(U256::ONE));
        assert_eq!(pool.amount_out(U256::MAX), Err(AmmError::Overflow));
        assert_eq!(pool.amount_out(U256::MAX / U256::from(997)), Err(AmmError::Overflow));
        assert_eq!(Hop::new(0, 1, Fee::UNISWAP_V2), Err(AmmError::InsufficientLiquidity));
        assert_eq!(Hop::new(1, 0, Fee::UNISWAP_V2), Err(AmmError::InsufficientLiquidity));
        let beyond = MAX_RESERVE + 1;
        assert_eq!(Hop::new(beyond, 1, Fee::UNISWAP_V2), Err(AmmError::ReserveTooLarge(beyond)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_pair_accepts_the_quote_and_refuses_one_unit_more(hop in any_hop(), part in 0.0f64..2.0) {
            let amount_in = ((hop.reserve_in() as f64 * part) as u128).clamp(1, hop.max_input().max(1));
            prop_assume!(amount_in <= hop.max_input());
            let amount_out = hop.quote(amount_in);
            prop_assert_eq!(hop.amount_out(U256::from(amount_in)), Ok(U256::from(amount_out)));
            prop_assert!(amount_out == 0 || hop.accepts(amount_in, amount_out));
            prop_assert!(!hop.accepts(amount_in, amount_out + 1));
        }

        #[test]
        fn the_least_input_yields_the_output_and_one_unit_less_does_not(hop in any_hop(), part in 0.0f64..1.0) {
            let out = ((hop.reserve_out() as f64 * part) as u128).max(1);
            if let Some(least) = hop.least_input(out) {
                prop_assert!(hop.quote(least) >= out);
                prop_assert!(hop.quote(least - 1) < out);
                let asked = hop.amount_in(U256::from(out)).expect("within the reserves");
                prop_assert!(asked - U256::from(least) <= U256::ONE);
            } else {
                prop_assert!(out >= hop.reserve_out() || hop.quote(hop.max_input()) < out);
            }
        }

        #[test]
        fn a_reduced_fraction_changes_no_quotient(hop in any_hop(), amount in 1..=MAX_RESERVE) {
            let kept = U512::from(amount) * U512::from(hop.fee.keep) * U512::from(1_000_000 / hop.fee.scale);
            let whole = U512::from(hop.reserve_in) * U512::from(1_000_000) + kept;
            prop_assert_eq!(U512::from(hop.quote(amount)), kept * U512::from(hop.reserve_out) / whole);
        }
    }
}
