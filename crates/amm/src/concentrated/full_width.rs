//! Products of 512 bits and their quotients: `FullMath.sol` of v3-core.
//!
//! Our own because the libraries' full-width division knows neither that most numerators here are of 384 bits nor that no
//! remainder is wanted; measured in `crates/bench/benches/concentrated.rs`.

use alloy_primitives::U256;

const LIMBS: usize = 4;

/// `a · b / divisor`, rounded down; `None` where the divisor is zero or the quotient exceeds 256 bits, on which `mulDiv` of
/// `FullMath.sol` reverts.
pub fn mul_div(a: U256, b: U256, divisor: U256) -> Option<U256> {
    divide(product(&a, &b), &divisor).map(|(quotient, _)| quotient)
}

/// As [`mul_div`], rounded up: `mulDivRoundingUp` of `FullMath.sol`.
pub fn mul_div_up(a: U256, b: U256, divisor: U256) -> Option<U256> {
    let (quotient, is_exact) = divide(product(&a, &b), &divisor)?;
    if is_exact { Some(quotient) } else { quotient.checked_add(U256::ONE) }
}

/// `a / b`, rounded up; `b` is not zero.
pub(super) fn div_up(a: U256, b: U256) -> U256 {
    let mut numerator = [0; 2 * LIMBS];
    numerator[..LIMBS].copy_from_slice(a.as_limbs());
    match divide(numerator, &b) {
        Some((quotient, is_exact)) => quotient + U256::from(!is_exact),
        None => U256::MAX,
    }
}

/// `a / b`, rounded down; `b` is not zero.
pub(super) fn div(a: U256, b: U256) -> U256 {
    let mut numerator = [0; 2 * LIMBS];
    numerator[..LIMBS].copy_from_slice(a.as_limbs());
    divide(numerator, &b).map_or(U256::MAX, |(quotient, _)| quotient)
}

/// `a · b / 2^96`, rounded down or up; for factors whose product has at most 352 bits.
pub(super) fn mul_shift_96(a: u128, b: &U256, is_rounded_up: bool) -> U256 {
    let wide = product(&U256::from(a), b);
    let limb = |index: usize| (wide[index] >> 32) | (wide[index + 1] << 32);
    let quotient = U256::from_limbs([limb(1), limb(2), limb(3), limb(4)]);
    let has_remainder = wide[0] != 0 || wide[1] << 32 != 0;
    quotient + U256::from(is_rounded_up && has_remainder)
}

fn product(a: &U256, b: &U256) -> [u64; 2 * LIMBS] {
    let (a, b) = (a.as_limbs(), b.as_limbs());
    let mut wide = [0u64; 2 * LIMBS];
    for (i, left) in a.iter().enumerate() {
        if *left == 0 {
            continue;
        }
        let mut carry = 0u64;
        for (j, right) in b.iter().enumerate() {
            let sum = u128::from(*left) * u128::from(*right) + u128::from(wide[i + j]) + u128::from(carry);
            wide[i + j] = sum as u64;
            carry = (sum >> 64) as u64;
        }
        wide[i + LIMBS] = carry;
    }
    wide
}

fn significant(limbs: &[u64]) -> usize {
    limbs.iter().rposition(|limb| *limb != 0).map_or(0, |index| index + 1)
}

/// Quotient, and whether there is no remainder.
fn divide(numerator: [u64; 2 * LIMBS], divisor: &U256) -> Option<(U256, bool)> {
    let divisor = divisor.as_limbs();
    let length = significant(divisor);
    let top = significant(&numerator);
    if length == 0 {
        return None;
    }
    if top < length {
        return Some((U256::ZERO, top == 0));
    }
    // The quotient has `top - length + 1` limbs or one less.
    if top - length > LIMBS {
        return None;
    }
    match length {
        1 => by_one_limb(numerator, top, divisor[0]),
        2 => by_limbs::<2>(numerator, top, divisor),
        3 => by_limbs::<3>(numerator, top, divisor),
        _ => by_limbs::<4>(numerator, top, divisor),
    }
}

fn by_one_limb(numerator: [u64; 2 * LIMBS], top: usize, divisor: u64) -> Option<(U256, bool)> {
    let shift = divisor.leading_zeros();
    let divisor = divisor << shift;
    let reciprocal = reciprocal(divisor);
    let mut remainder = spill(numerator[top - 1], shift);
    let mut quotient = [0u64; LIMBS + 1];
    for index in (0..top).rev() {
        let lower = if index == 0 { 0 } else { numerator[index - 1] };
        let limb = (numerator[index] << shift) | spill(lower, shift);
        let (digit, rest) = two_by_one(remainder, limb, divisor, reciprocal);
        quotient[index] = digit;
        remainder = rest;
    }
    narrow(quotient).map(|quotient| (quotient, remainder == 0))
}

/// The bits that a shift to the left moves into the next limb.
fn spill(limb: u64, shift: u32) -> u64 {
    if shift == 0 { 0 } else { limb >> (64 - shift) }
}

/// Knuth, The Art of Computer Programming, volume 2, algorithm D.
fn by_limbs<const N: usize>(
    numerator: [u64; 2 * LIMBS],
    top: usize,
    divisor: &[u64; LIMBS],
) -> Option<(U256, bool)> {
    let shift = divisor[N - 1].leading_zeros();
    let mut normal = [0u64; N];
    for index in 0..N {
        let lower = if index == 0 { 0 } else { divisor[index - 1] };
        normal[index] = (divisor[index] << shift) | spill(lower, shift);
    }
    let mut rest = [0u64; 2 * LIMBS + 1];
    rest[top] = spill(numerator[top - 1], shift);
    for index in 0..top {
        let lower = if index == 0 { 0 } else { numerator[index - 1] };
        rest[index] = (numerator[index] << shift) | spill(lower, shift);
    }
    let reciprocal = reciprocal(normal[N - 1]);
    let mut quotient = [0u64; LIMBS + 1];
    for position in (0..=top - N).rev() {
        quotient[position] = digit::<N>(&mut rest, position, &normal, reciprocal);
    }
    let is_exact = rest[..N].iter().all(|limb| *limb == 0);
    narrow(quotient).map(|quotient| (quotient, is_exact))
}

/// One digit of the quotient; what it stands for is taken off `rest`.
fn digit<const N: usize>(
    rest: &mut [u64; 2 * LIMBS + 1],
    position: usize,
    divisor: &[u64; N],
    reciprocal: u64,
) -> u64 {
    let (high, middle, low) = (rest[position + N], rest[position + N - 1], rest[position + N - 2]);
    let (mut estimate, mut left, mut is_over);
    if high >= divisor[N - 1] {
        estimate = u64::MAX;
        (left, is_over) = middle.overflowing_add(divisor[N - 1]);
    } else {
        (estimate, left) = two_by_one(high, middle, divisor[N - 1], reciprocal);
        is_over = false;
    }
    // At most two too many; after two rounds at most one.
    while !is_over
        && u128::from(estimate) * u128::from(divisor[N - 2]) > (u128::from(left) << 64 | u128::from(low))
    {
        estimate -= 1;
        (left, is_over) = left.overflowing_add(divisor[N - 1]);
    }
    if estimate == 0 {
        return 0;
    }
    let mut borrow = 0u64;
    let mut carry = 0u64;
    for (index, limb) in divisor.iter().enumerate() {
        let taken = u128::from(estimate) * u128::from(*limb) + u128::from(carry);
        carry = (taken >> 64) as u64;
        let (difference, first) = rest[position + index].overflowing_sub(taken as u64);
        let (difference, second) = difference.overflowing_sub(borrow);
        rest[position + index] = difference;
        borrow = u64::from(first) + u64::from(second);
    }
    let (difference, first) = rest[position + N].overflowing_sub(carry);
    let (difference, second) = difference.overflowing_sub(borrow);
    rest[position + N] = difference;
    if first || second {
        estimate -= 1;
        give_back(rest, position, divisor);
    }
    estimate
}

/// Where a digit was one too many.
fn give_back<const N: usize>(rest: &mut [u64; 2 * LIMBS + 1], position: usize, divisor: &[u64; N]) {
    let mut carry = 0u64;
    for (index, limb) in divisor.iter().enumerate() {
        let sum = u128::from(rest[position + index]) + u128::from(*limb) + u128::from(carry);
        rest[position + index] = sum as u64;
        carry = (sum >> 64) as u64;
    }
    rest[position + N] = rest[position + N].wrapping_add(carry);
}

fn narrow(limbs: [u64; LIMBS + 1]) -> Option<U256> {
    let [a, b, c, d, beyond] = limbs;
    (beyond == 0).then(|| U256::from_limbs([a, b, c, d]))
}

/// `(2^128 - 1) / divisor - 2^64` of a divisor whose highest bit is set; Möller and Granlund, "Improved division by invariant
/// integers" (2011), section 3.
fn reciprocal(divisor: u64) -> u64 {
    let numerator = (u128::from(!divisor) << 64) | u128::from(u64::MAX);
    (numerator / u128::from(divisor)) as u64
}

/// Quotient and remainder of two limbs by one, `high < divisor`; algorithm 4 of the same paper.
fn two_by_one(high: u64, low: u64, divisor: u64, reciprocal: u64) -> (u64, u64) {
    let estimate =
        (u128::from(reciprocal) * u128::from(high)).wrapping_add(u128::from(high) << 64 | u128::from(low));
    let mut quotient = ((estimate >> 64) as u64).wrapping_add(1);
    let mut remainder = low.wrapping_sub(quotient.wrapping_mul(divisor));
    if remainder > estimate as u64 {
        quotient = quotient.wrapping_sub(1);
        remainder = remainder.wrapping_add(divisor);
    }
    if remainder >= divisor {
        quotient = quotient.wrapping_add(1);
        remainder -= divisor;
    }
    (quotient, remainder)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U512;
    use proptest::prelude::*;

    use super::*;

    /// Numbers of every length, with long runs of equal bits, at which corrections of a digit happen.
    fn number() -> impl Strategy<Value = U256> {
        let runs = (0usize..257, 0usize..257).prop_map(|(a, b)| {
            let ones = |bits: usize| if bits == 256 { U256::MAX } else { (U256::ONE << bits) - U256::ONE };
            ones(a) ^ ones(b)
        });
        let any =
            (any::<[u64; 4]>(), 0usize..256).prop_map(|(limbs, shift)| U256::from_limbs(limbs) >> shift);
        prop_oneof![runs, any]
    }

    fn by_definition(a: U256, b: U256, divisor: U256, up: u64) -> Option<U256> {
        let divisor = U512::from(divisor);
        if divisor.is_zero() {
            return None;
        }
        let (quotient, rest) = (U512::from(a) * U512::from(b)).div_rem(divisor);
        let quotient = quotient + U512::from(if rest.is_zero() { 0 } else { up });
        (quotient <= U512::from(U256::MAX)).then(|| quotient.to())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn a_full_width_quotient_is_the_definitions(a in number(), b in number(), divisor in number()) {
            prop_assert_eq!(mul_div(a, b, divisor), by_definition(a, b, divisor, 0));
            prop_assert_eq!(mul_div_up(a, b, divisor), by_definition(a, b, divisor, 1));
            if !divisor.is_zero() {
                prop_assert_eq!(Some(div(a, divisor)), by_definition(a, U256::ONE, divisor, 0));
                prop_assert_eq!(Some(div_up(a, divisor)), by_definition(a, U256::ONE, divisor, 1));
            }
        }

        #[test]
        fn a_division_by_a_power_of_two_is_a_shift(a in any::<u128>(), b in number()) {
            let b = b >> 32;
            let divisor = U256::ONE << 96;
            prop_assert_eq!(Some(mul_shift_96(a, &b, false)), by_definition(U256::from(a), b, divisor, 0));
            prop_assert_eq!(Some(mul_shift_96(a, &b, true)), by_definition(U256::from(a), b, divisor, 1));
        }
    }
}
