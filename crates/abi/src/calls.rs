//! Questions to contracts as calldata, and their answers.
//!
//! One function makes the calldata, the one named `decode_…` reads what came back. Answers are read strictly: a
//! contract that is not what it was taken for shows here.

pub mod v3;
pub mod v4;

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::SolCall;

use crate::Malformed;
use crate::interfaces::{IERC20, IUniswapV2Factory, IUniswapV2Pair};

/// Factory: how many pairs there are.
pub fn all_pairs_length() -> Bytes {
    IUniswapV2Factory::allPairsLengthCall {}.abi_encode().into()
}

/// Factory: the pair of an index, from zero.
pub fn all_pairs(index: U256) -> Bytes {
    IUniswapV2Factory::allPairsCall { index }.abi_encode().into()
}

/// Factory: the pair of two tokens in any order; the zero address where there is none.
pub fn get_pair(token_a: Address, token_b: Address) -> Bytes {
    IUniswapV2Factory::getPairCall { tokenA: token_a, tokenB: token_b }.abi_encode().into()
}

/// Pair: its factory.
pub fn factory() -> Bytes {
    IUniswapV2Pair::factoryCall {}.abi_encode().into()
}

/// Pair: the token with the lower address.
pub fn token0() -> Bytes {
    IUniswapV2Pair::token0Call {}.abi_encode().into()
}

/// Pair: the token with the higher address.
pub fn token1() -> Bytes {
    IUniswapV2Pair::token1Call {}.abi_encode().into()
}

/// Pair: its reserves.
pub fn get_reserves() -> Bytes {
    IUniswapV2Pair::getReservesCall {}.abi_encode().into()
}

/// Pair: swaps. The input must have been transferred before, unless `data` asks for a call-back.
pub fn pair_swap(amount0_out: U256, amount1_out: U256, to: Address, data: Bytes) -> Bytes {
    IUniswapV2Pair::swapCall { amount0Out: amount0_out, amount1Out: amount1_out, to, data }
        .abi_encode()
        .into()
}

/// Token: its decimals.
pub fn decimals() -> Bytes {
    IERC20::decimalsCall {}.abi_encode().into()
}

/// Token: its symbol.
pub fn symbol() -> Bytes {
    IERC20::symbolCall {}.abi_encode().into()
}

/// Token: the balance of an account, in smallest units.
pub fn balance_of(account: Address) -> Bytes {
    IERC20::balanceOfCall { account }.abi_encode().into()
}

/// Token: transfers smallest units from the caller.
pub fn transfer(to: Address, amount: U256) -> Bytes {
    IERC20::transferCall { to, amount }.abi_encode().into()
}

/// An answer that is an address: of [`all_pairs`], [`get_pair`], [`factory`], [`token0`], [`token1`].
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_address(answer: &[u8]) -> Result<Address, Malformed> {
    Ok(IUniswapV2Pair::token0Call::abi_decode_returns_validate(answer)?)
}

/// An answer that is a number: of [`all_pairs_length`], [`balance_of`].
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_uint256(answer: &[u8]) -> Result<U256, Malformed> {
    Ok(IERC20::balanceOfCall::abi_decode_returns_validate(answer)?)
}

/// The answer of [`get_reserves`]: of token 0 and of token 1, each below 2^112.
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_get_reserves(answer: &[u8]) -> Result<(u128, u128), Malformed> {
    let held = IUniswapV2Pair::getReservesCall::abi_decode_returns_validate(answer)?;
    Ok((held.reserve0.to(), held.reserve1.to()))
}

/// The answer of [`decimals`].
///
/// # Errors
///
/// [`Malformed`] when it is none, or beyond 255.
pub fn decode_decimals(answer: &[u8]) -> Result<u8, Malformed> {
    Ok(IERC20::decimalsCall::abi_decode_returns_validate(answer)?)
}

/// The answer of [`transfer`]: whether the token calls it a success. Tokens that answer nothing at all (USDT among
/// them) have succeeded if they did not revert.
///
/// # Errors
///
/// [`Malformed`] when it is neither empty nor a truth value.
pub fn decode_transfer(answer: &[u8]) -> Result<bool, Malformed> {
    if answer.is_empty() {
        return Ok(true);
    }
    Ok(IERC20::transferCall::abi_decode_returns_validate(answer)?)
}

/// Characters of a symbol that are kept.
const SYMBOL_LENGTH: usize = 32;

/// The answer of [`symbol`]: a `string`, or the `bytes32` of early tokens (MKR). What is not printable is left out,
/// and what is longer than 32 characters is cut: a symbol is for the reader, and written by strangers.
///
/// # Errors
///
/// [`Malformed`] when it is neither.
pub fn decode_symbol(answer: &[u8]) -> Result<String, Malformed> {
    let text = match <&[u8; 32]>::try_from(answer) {
        Ok(word) => {
            String::from_utf8_lossy(word.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
        }
        Err(_) => IERC20::symbolCall::abi_decode_returns_validate(answer)?,
    };
    Ok(text.chars().filter(|character| is_printable(*character)).take(SYMBOL_LENGTH).collect())
}

/// Neither a control character nor one that changes how its neighbours are shown.
fn is_printable(character: char) -> bool {
    let reorders =
        matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    !character.is_control() && !reorders && character != char::REPLACEMENT_CHARACTER
}

/// The arguments of [`pair_swap`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairSwap {
    /// Smallest units of token 0 that go out.
    pub amount0_out: U256,
    /// Smallest units of token 1 that go out.
    pub amount1_out: U256,
    /// Recipient.
    pub to: Address,
    /// For the call-back; empty for none.
    pub data: Bytes,
}

/// Reads the calldata of [`pair_swap`].
///
/// # Errors
///
/// [`Malformed`] when it is that of another function, or does not decode.
pub fn decode_pair_swap(calldata: &[u8]) -> Result<PairSwap, Malformed> {
    let call = IUniswapV2Pair::swapCall::abi_decode_validate(calldata)?;
    Ok(PairSwap { amount0_out: call.amount0Out, amount1_out: call.amount1Out, to: call.to, data: call.data })
}

#[cfg(test)]
mod tests {
    use alloy_primitives::hex;

    use super::*;

    fn check<T: PartialEq + std::fmt::Debug>(
        decode: fn(&[u8]) -> Result<T, Malformed>,
        answer: &str,
        expected: Option<T>,
    ) {
        let answer = hex::decode(answer.replace(' ', "")).expect("a case is hexadecimal");
        assert_eq!(decode(&answer).ok(), expected, "{answer:02x?}");
    }

    fn word(low: &str) -> String {
        format!("{low:0>64}")
    }

    fn words(low: &[&str]) -> String {
        low.iter().map(|low| word(low)).collect()
    }

    #[test]
    fn questions_carry_the_selectors_of_the_deployed_contracts() {
        let zero = Address::ZERO;
        for (calldata, selector) in [
            (all_pairs_length(), "574f2ba3"),
            (all_pairs(U256::ZERO), "1e3dd18b"),
            (get_pair(zero, zero), "e6a43905"),
            (factory(), "c45a0155"),
            (token0(), "0dfe1681"),
            (token1(), "d21220a7"),
            (get_reserves(), "0902f1ac"),
            (pair_swap(U256::ZERO, U256::ZERO, zero, Bytes::new()), "022c0d9f"),
            (decimals(), "313ce567"),
            (symbol(), "95d89b41"),
            (balance_of(zero), "70a08231"),
            (transfer(zero, U256::ZERO), "a9059cbb"),
        ] {
            assert_eq!(hex::encode(&calldata[..4]), selector);
        }
    }

    #[test]
    fn reserves_are_three_words_within_their_types() {
        let max = "ffffffffffffffffffffffffffff";
        let beyond = "10000000000000000000000000000";
        check(decode_get_reserves, &words(&["7", "9", "5f5e1000"]), Some((7, 9)));
        check(decode_get_reserves, &words(&[max, "0", "0"]), Some(((1 << 112) - 1, 0)));
        check(decode_get_reserves, &words(&[beyond, "0", "0"]), None);
        check(decode_get_reserves, &words(&["7", "9"]), None);
        check(decode_get_reserves, "", None);
    }

    #[test]
    fn an_address_has_twelve_zero_bytes_before_it() {
        check(decode_address, &word("01"), Some(Address::with_last_byte(1)));
        check(decode_address, &format!("01{}", "0".repeat(62)), None);
        check(decode_address, &"0".repeat(62), None);
    }

    #[test]
    fn decimals_fit_a_byte() {
        check(decode_decimals, &word("12"), Some(18));
        check(decode_decimals, &word("100"), None);
        check(decode_decimals, "", None);
    }

    #[test]
    fn a_transfer_succeeds_by_true_or_by_silence() {
        check(decode_transfer, "", Some(true));
        check(decode_transfer, &word("1"), Some(true));
        check(decode_transfer, &word("0"), Some(false));
        check(decode_transfer, &word("2"), None);
        check(decode_transfer, "01", None);
    }

    #[test]
    fn a_symbol_is_a_string_or_a_word() {
        let string = |length: &str, bytes: &str| format!("{}{}{bytes:0<64}", word("20"), word(length));
        let text = |expected: &str| Some(expected.to_owned());
        check(decode_symbol, &string("4", "57455448"), text("WETH"));
        check(decode_symbol, &format!("{:0<64}", "4d4b52"), text("MKR"));
        check(decode_symbol, &word(""), text(""));
        check(decode_symbol, &string("5", "41e280ae42"), text("AB"));
        check(decode_symbol, &string("2", "0a41"), text("A"));
        check(decode_symbol, &string("ffffffff", "41"), None);
        check(decode_symbol, "", None);
    }

    #[test]
    fn a_symbol_written_by_a_vandal_is_cut() {
        let long = format!("{}{}{}", word("20"), word("60"), "41".repeat(96));
        check(decode_symbol, &long, Some("A".repeat(32)));
    }

    #[test]
    fn the_arguments_of_a_swap_come_back() {
        let (out, to) = (U256::from(5), Address::repeat_byte(3));
        let data = Bytes::from_static(b"call me");
        let calldata = pair_swap(out, U256::ZERO, to, data.clone());
        let expected = PairSwap { amount0_out: out, amount1_out: U256::ZERO, to, data };
        assert_eq!(decode_pair_swap(&calldata), Ok(expected));
        assert!(decode_pair_swap(&calldata[..calldata.len() - 32]).is_err());
        assert!(decode_pair_swap(&transfer(to, out)).is_err());
    }
}
