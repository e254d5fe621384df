//! The 32-byte words of the contract ABI as values. What is not zero where its type says zero is refused, as Solidity's own
//! decoder does.

use alloy_primitives::aliases::U160;
use alloy_primitives::{Address, B256, I256, U256};

use crate::Malformed;

pub(crate) fn uint256(word: &B256) -> U256 {
    U256::from_be_bytes(word.0)
}

pub(crate) fn int256(word: &B256) -> I256 {
    I256::from_raw(uint256(word))
}

pub(crate) fn address(word: &B256) -> Result<Address, Malformed> {
    if word[..12] != [0; 12] {
        return Err(Malformed::OutOfRange("address"));
    }
    Ok(Address::from_word(*word))
}

pub(crate) fn boolean(word: &B256) -> Result<bool, Malformed> {
    match unsigned(word, 1, "bool")? {
        0 => Ok(false),
        _ => Ok(true),
    }
}

pub(crate) fn uint160(word: &B256) -> Result<U160, Malformed> {
    if word[..12] != [0; 12] {
        return Err(Malformed::OutOfRange("uint160"));
    }
    Ok(U160::from_be_slice(&word[12..]))
}

/// A number of at most 128 bits.
pub(crate) fn unsigned(word: &B256, bits: u32, name: &'static str) -> Result<u128, Malformed> {
    let (high, low) = halves(word);
    let is_within = high == 0 && low.checked_shr(bits).unwrap_or(0) == 0;
    if is_within { Ok(low) } else { Err(Malformed::OutOfRange(name)) }
}

/// A number of at most 128 bits, sign included.
pub(crate) fn signed(word: &B256, bits: u32, name: &'static str) -> Result<i128, Malformed> {
    let (high, low) = halves(word);
    let value = low.cast_signed();
    let sign = value >> 127;
    let is_within = high.cast_signed() == sign && value >> (bits - 1) == sign;
    if is_within { Ok(value) } else { Err(Malformed::OutOfRange(name)) }
}

pub(crate) fn int192(word: &B256) -> Result<I256, Malformed> {
    let value = int256(word);
    let sign = value.asr(191);
    if sign.is_zero() || sign == I256::MINUS_ONE { Ok(value) } else { Err(Malformed::OutOfRange("int192")) }
}

fn halves(word: &B256) -> (u128, u128) {
    let (mut high, mut low) = ([0; 16], [0; 16]);
    high.copy_from_slice(&word[..16]);
    low.copy_from_slice(&word[16..]);
    (u128::from_be_bytes(high), u128::from_be_bytes(low))
}

macro_rules! narrow {
    ($($name:ident: $read:ident $bits:literal $type:ty),* $(,)?) => {$(
        pub(crate) fn $name(word: &B256) -> Result<$type, Malformed> {
            // What fits the bits fits the type.
            Ok($read(word, $bits, stringify!($name))? as $type)
        }
    )*};
}

narrow! {
    uint8: unsigned 8 u8,
    uint16: unsigned 16 u16,
    uint24: unsigned 24 u32,
    uint32: unsigned 32 u32,
    uint40: unsigned 40 u64,
    uint48: unsigned 48 u64,
    uint112: unsigned 112 u128,
    uint128: unsigned 128 u128,
    int24: signed 24 i32,
    int128: signed 128 i128,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: PartialEq + std::fmt::Debug>(
        read: fn(&B256) -> Result<T, Malformed>,
        value: I256,
        expected: Option<T>,
    ) {
        assert_eq!(read(&B256::from(value.into_raw())).ok(), expected, "{value}");
    }

    fn int(value: i128) -> I256 {
        I256::try_from(value).expect("it fits")
    }

    #[test]
    fn a_value_fits_its_type_or_is_refused() {
        check(uint8, int(255), Some(255));
        check(uint8, int(256), None);
        check(uint8, int(-1), None);
        check(uint24, int(0xff_ffff), Some(0xff_ffff));
        check(uint24, int(0x100_0000), None);
        check(uint128, int(i128::MAX), Some(i128::MAX as u128));
        check(uint128, I256::from_raw(U256::from(1) << 128), None);
        check(boolean, int(1), Some(true));
        check(boolean, int(0), Some(false));
        check(boolean, int(2), None);
        check(int24, int(-887_272), Some(-887_272));
        check(int24, int(-(1 << 23)), Some(-(1 << 23)));
        check(int24, int(-(1 << 23) - 1), None);
        check(int24, int((1 << 23) - 1), Some((1 << 23) - 1));
        check(int24, int(1 << 23), None);
        check(int128, int(i128::MIN), Some(i128::MIN));
        check(int128, int(i128::MAX), Some(i128::MAX));
        check(int128, I256::from_raw(U256::from(1) << 127), None);
        check(int128, int(i128::MIN) - int(1), None);
        let most = I256::from_raw((U256::from(1) << 191) - U256::from(1));
        check(int192, most, Some(most));
        check(int192, most + int(1), None);
        check(int192, -most - int(1), Some(-most - int(1)));
        check(int192, -most - int(2), None);
        check(uint160, int(5), Some(U160::from(5)));
        check(uint160, I256::from_raw(U256::from(1) << 160), None);
    }
}
