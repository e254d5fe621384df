//! Calls of `UniswapV2Router02` (v2-periphery).

use alloy_primitives::{U256, hex};
use headwater_events::{Call, Exact, Native, Route, SwapCall};

use crate::Malformed;
use crate::calldata::{Arguments, Input, routes};

const EXACT_TOKENS_FOR_TOKENS: [u8; 4] = hex!("38ed1739");
const TOKENS_FOR_EXACT_TOKENS: [u8; 4] = hex!("8803dbee");
const EXACT_ETH_FOR_TOKENS: [u8; 4] = hex!("7ff36ab5");
const TOKENS_FOR_EXACT_ETH: [u8; 4] = hex!("4a25d94a");
const EXACT_TOKENS_FOR_ETH: [u8; 4] = hex!("18cbafe5");
const ETH_FOR_EXACT_TOKENS: [u8; 4] = hex!("fb3bdb41");
const EXACT_TOKENS_FOR_TOKENS_WITH_FEES: [u8; 4] = hex!("5c11d795");
const EXACT_ETH_FOR_TOKENS_WITH_FEES: [u8; 4] = hex!("b6f9de95");
const EXACT_TOKENS_FOR_ETH_WITH_FEES: [u8; 4] = hex!("791ac947");

/// A call of one of the nine swap functions of `UniswapV2Router02`.
///
/// # Errors
///
/// [`Malformed`] when its arguments do not decode, or its path reverts or is absurdly long.
pub fn uniswap_v2_router(input: &Input<'_>) -> Result<Option<Call>, Malformed> {
    let (exact, native, fee_on_transfer) = match input.selector {
        EXACT_TOKENS_FOR_TOKENS => (Exact::Input, Native::None, false),
        TOKENS_FOR_EXACT_TOKENS => (Exact::Output, Native::None, false),
        EXACT_ETH_FOR_TOKENS => (Exact::Input, Native::Input, false),
        TOKENS_FOR_EXACT_ETH => (Exact::Output, Native::Output, false),
        EXACT_TOKENS_FOR_ETH => (Exact::Input, Native::Output, false),
        ETH_FOR_EXACT_TOKENS => (Exact::Output, Native::Input, false),
        EXACT_TOKENS_FOR_TOKENS_WITH_FEES => (Exact::Input, Native::None, true),
        EXACT_ETH_FOR_TOKENS_WITH_FEES => (Exact::Input, Native::Input, true),
        EXACT_TOKENS_FOR_ETH_WITH_FEES => (Exact::Input, Native::Output, true),
        _ => return Ok(None),
    };
    // The functions that take native tokens along leave the argument for the input out.
    let (amounts, rest) = match native {
        Native::Input => ([input.value, input.arguments.uint256(0)?], input.arguments.skip(1)?),
        Native::None | Native::Output => (amounts(input.arguments, exact)?, input.arguments.skip(2)?),
    };
    // Offsets count from the first argument, wherever the path's is.
    let index = if native == Native::Input { 1 } else { 2 };
    let tokens = routes::tokens(input.arguments, index)?;
    let [amount_in, amount_out] = amounts;
    Ok(Some(Call::Swap(SwapCall {
        exact,
        amount_in,
        amount_out,
        route: Route::V2 { tokens, native, fee_on_transfer },
        recipient: Some(rest.address(1)?),
        deadline: Some(rest.uint256(2)?),
    })))
}

/// The first two arguments, input before output: what is exact is written first.
pub(super) fn amounts(arguments: Arguments<'_>, exact: Exact) -> Result<[U256; 2], Malformed> {
    let [first, second] = [arguments.uint256(0)?, arguments.uint256(1)?];
    Ok(match exact {
        Exact::Input => [first, second],
        Exact::Output => [second, first],
    })
}

#[cfg(test)]
mod tests;
