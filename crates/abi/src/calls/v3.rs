//! Questions to pools of Uniswap V3 (v3-core `IUniswapV3PoolState.sol`, `IUniswapV3PoolImmutables.sol`).

use alloy_primitives::{B256, Bytes, U256, aliases::I24};
use alloy_sol_types::SolCall;

use crate::Malformed;
use crate::interfaces::IUniswapV3Pool;
use crate::words::{int24, int128, uint24, uint128, uint160, uint256};

/// Words of the answer of [`slot0`].
const SLOT0_WORDS: usize = 7;
/// Words of the answer of [`ticks`].
const TICK_WORDS: usize = 8;

/// Pool: its fee.
pub fn fee() -> Bytes {
    IUniswapV3Pool::feeCall {}.abi_encode().into()
}

/// Pool: what its initialised ticks are multiples of.
pub fn tick_spacing() -> Bytes {
    IUniswapV3Pool::tickSpacingCall {}.abi_encode().into()
}

/// Pool: where it stands.
pub fn slot0() -> Bytes {
    IUniswapV3Pool::slot0Call {}.abi_encode().into()
}

/// Pool: the liquidity of the range that the price is in.
pub fn liquidity() -> Bytes {
    IUniswapV3Pool::liquidityCall {}.abi_encode().into()
}

/// Pool: which of 256 ticks are initialised. Ticks are counted in units of the spacing.
pub fn tick_bitmap(word: i16) -> Bytes {
    IUniswapV3Pool::tickBitmapCall { wordPosition: word }.abi_encode().into()
}

/// Pool: one tick; `None` for one that no 24 bits hold.
pub fn ticks(tick: i32) -> Option<Bytes> {
    let tick = I24::try_from(tick).ok()?;
    Some(IUniswapV3Pool::ticksCall { tick }.abi_encode().into())
}

/// The answer of [`fee`], in hundredths of a basis point.
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_fee(answer: &[u8]) -> Result<u32, Malformed> {
    let [fee] = words(answer)?;
    uint24(&fee)
}

/// The answer of [`tick_spacing`].
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_tick_spacing(answer: &[u8]) -> Result<i32, Malformed> {
    let [spacing] = words(answer)?;
    int24(&spacing)
}

/// The answer of [`slot0`]: the square root of token 1 per token 0 with 96 bits after the point, and the tick. Both are zero before
/// the pool is initialised.
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_slot0(answer: &[u8]) -> Result<(U256, i32), Malformed> {
    let words: [B256; SLOT0_WORDS] = words(answer)?;
    Ok((U256::from(uint160(&words[0])?), int24(&words[1])?))
}

/// The answer of [`liquidity`].
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_liquidity(answer: &[u8]) -> Result<u128, Malformed> {
    let [liquidity] = words(answer)?;
    uint128(&liquidity)
}

/// The answer of [`tick_bitmap`]: one bit for each tick, the lowest for the first.
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_tick_bitmap(answer: &[u8]) -> Result<U256, Malformed> {
    let [bits] = words(answer)?;
    Ok(uint256(&bits))
}

/// The answer of [`ticks`]: net and gross liquidity.
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_ticks(answer: &[u8]) -> Result<(i128, u128), Malformed> {
    let words: [B256; TICK_WORDS] = words(answer)?;
    Ok((int128(&words[1])?, uint128(&words[0])?))
}

fn words<const N: usize>(answer: &[u8]) -> Result<[B256; N], Malformed> {
    let (words, rest) = answer.as_chunks::<32>();
    match <[[u8; 32]; N]>::try_from(words) {
        Ok(words) if rest.is_empty() => Ok(words.map(B256::from)),
        _ => Err(Malformed::Encoding(format!("{} bytes instead of {}", answer.len(), 32 * N))),
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::hex;

    use super::*;

    #[test]
    fn questions_carry_the_selectors_of_the_deployed_contracts() {
        let tick = ticks(-887_272).expect("it has 24 bits");
        for (calldata, selector) in [
            (fee(), "ddca3f43"),
            (tick_spacing(), "d0c93a7c"),
            (slot0(), "3850c7bd"),
            (liquidity(), "1a686502"),
            (tick_bitmap(-1), "5339c296"),
            (tick.clone(), "f30dba93"),
        ] {
            assert_eq!(hex::encode(&calldata[..4]), selector);
        }
        assert_eq!(hex::encode(&tick_bitmap(-2)[4..]), format!("{}fe", "f".repeat(62)));
        assert_eq!(hex::encode(&tick[4..]), format!("{}f27618", "f".repeat(58)));
        assert_eq!(ticks(1 << 23), None);
    }

    /// So many words, of which the first are these.
    fn answer(words: usize, first: &[U256]) -> Vec<u8> {
        let mut bytes = first.iter().flat_map(|word| word.to_be_bytes::<32>()).collect::<Vec<_>>();
        bytes.resize(32 * words, 0xff);
        bytes
    }

    #[test]
    fn answers_are_read_by_their_first_words_and_refused_in_another_shape() {
        let (one, minus) = (U256::ONE << 96, U256::MAX - U256::from(6));
        assert_eq!(decode_slot0(&answer(7, &[one, minus])).ok(), Some((one, -7)));
        assert_eq!(decode_ticks(&answer(8, &[U256::from(9), minus])).ok(), Some((-7, 9)));
        assert_eq!(decode_fee(&answer(1, &[U256::from(500)])).ok(), Some(500));
        assert_eq!(decode_tick_spacing(&answer(1, &[U256::from(10)])).ok(), Some(10));
        assert_eq!(decode_liquidity(&answer(1, &[U256::from(u128::MAX)])).ok(), Some(u128::MAX));
        assert_eq!(decode_tick_bitmap(&answer(1, &[U256::MAX])).ok(), Some(U256::MAX));

        assert!(decode_slot0(&answer(6, &[one, minus])).is_err(), "too short");
        assert!(decode_slot0(&answer(7, &[U256::MAX, minus])).is_err(), "no price has so many bits");
        assert!(decode_ticks(&answer(8, &[U256::MAX, minus])).is_err(), "no liquidity has so many bits");
        assert!(decode_fee(&answer(1, &[U256::from(1 << 24)])).is_err());
        assert!(decode_liquidity(&[]).is_err(), "nobody is there");
        assert!(decode_tick_bitmap(&[0; 33]).is_err());
    }
}
