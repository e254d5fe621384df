//! The hexadecimal strings of JSON-RPC, decoded in place (execution-apis: `QUANTITY` and `DATA`).

use alloy_primitives::{U256, hex};

use super::json::{Cursor, Fault, Parsed};

/// The digits of a string that begins with `0x`.
#[inline]
fn digits<'a>(cursor: &mut Cursor<'a>) -> Parsed<(&'a [u8], usize)> {
    cursor.peek();
    let at = cursor.offset();
    match cursor.string()? {
        [b'0', b'x', digits @ ..] => Ok((digits, at)),
        _ => Err(Fault::new(at, "it does not begin with 0x")),
    }
}

/// Exactly `N` bytes: a hash, an address, a bloom.
#[inline]
pub(super) fn fixed<const N: usize>(cursor: &mut Cursor<'_>) -> Parsed<[u8; N]> {
    cursor.peek();
    let at = cursor.offset();
    let digits = match cursor.string_of(2 * N + 2) {
        Some([b'0', b'x', digits @ ..]) => digits,
        Some(_) => return Err(Fault::new(at, "it does not begin with 0x")),
        None => digits(cursor)?.0,
    };
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return Err(Fault::new(at, format_args!("{} digits instead of {}", digits.len(), 2 * N)));
    }
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| Fault::new(at, "no hexadecimal digits"))?;
    Ok(bytes)
}

/// Any number of bytes, appended to `out`; says how many.
#[inline]
pub(super) fn data(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Parsed<usize> {
    let (digits, at) = digits(cursor)?;
    if digits.len() % 2 == 1 {
        return Err(Fault::new(at, "an odd number of digits"));
    }
    let start = out.len();
    out.resize(start + digits.len() / 2, 0);
    // The decoder passes over a second prefix.
    let is_prefixed = digits.starts_with(b"0x");
    if is_prefixed || hex::decode_to_slice(digits, &mut out[start..]).is_err() {
        return Err(Fault::new(at, "no hexadecimal digits"));
    }
    Ok(digits.len() / 2)
}

/// An unsigned integer of at most 64 bits.
#[inline]
pub(super) fn quantity(cursor: &mut Cursor<'_>) -> Parsed<u64> {
    let (digits, at) = digits(cursor)?;
    if !(1..=16).contains(&digits.len()) {
        return Err(Fault::new(at, "no 64-bit quantity"));
    }
    let mut value = 0;
    for digit in digits {
        value = value << 4 | u64::from(nibble(*digit, at)?);
    }
    Ok(value)
}

/// As [`quantity`], of at most 32 bits.
#[inline]
pub(super) fn index(cursor: &mut Cursor<'_>) -> Parsed<u32> {
    let at = cursor.offset();
    quantity(cursor)?.try_into().map_err(|_| Fault::new(at, "no 32-bit quantity"))
}

/// As [`quantity`], of at most 8 bits.
pub(super) fn byte(cursor: &mut Cursor<'_>) -> Parsed<u8> {
    let at = cursor.offset();
    quantity(cursor)?.try_into().map_err(|_| Fault::new(at, "no 8-bit quantity"))
}

/// As [`quantity`]: 0 or 1.
pub(super) fn bit(cursor: &mut Cursor<'_>) -> Parsed<bool> {
    let at = cursor.offset();
    match quantity(cursor)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Fault::new(at, "neither 0 nor 1")),
    }
}

/// An unsigned integer of at most 256 bits.
#[inline]
pub(super) fn wide_quantity(cursor: &mut Cursor<'_>) -> Parsed<U256> {
    let (digits, at) = digits(cursor)?;
    if !(1..=64).contains(&digits.len()) {
        return Err(Fault::new(at, "no 256-bit quantity"));
    }
    let mut limbs = [0; 4];
    for (limb, chunk) in limbs.iter_mut().zip(digits.rchunks(16)) {
        for digit in chunk {
            *limb = *limb << 4 | u64::from(nibble(*digit, at)?);
        }
    }
    Ok(U256::from_limbs(limbs))
}

#[inline]
fn nibble(digit: u8, at: usize) -> Parsed<u8> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(Fault::new(at, "no hexadecimal digits")),
    }
}
