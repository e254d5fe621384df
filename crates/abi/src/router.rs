//! Calls of `UniswapV2Router02`.

use alloy_primitives::{Address, U256};
use alloy_sol_types::SolInterface;
use headwater_events::{RouterSwap, RouterSwapKind, Transaction};

use crate::Malformed;
use crate::interfaces::IUniswapV2Router02::IUniswapV2Router02Calls as Call;

/// The longest path that is taken for meant. Every hop costs the user some 60,000 gas; real paths have two to five
/// tokens.
pub const MAX_PATH: usize = 32;

/// The swap that a transaction asks a router for; `None` where it calls nothing or another function.
///
/// Bytes behind the arguments are allowed, as they are by the contract: front ends append tags of their own.
///
/// # Errors
///
/// [`Malformed`] when it carries a known selector with arguments that do not decode, or with a path that reverts.
pub fn swap(transaction: &Transaction) -> Result<Option<RouterSwap>, Malformed> {
    let Some(router) = transaction.to else { return Ok(None) };
    call(router, &transaction.input, transaction.value)
}

/// As [`swap`], of the parts of a transaction. `value` is in wei.
///
/// # Errors
///
/// As [`swap`].
pub fn call(router: Address, input: &[u8], value: U256) -> Result<Option<RouterSwap>, Malformed> {
    let Some((selector, arguments)) = input.split_first_chunk::<4>() else { return Ok(None) };
    if !Call::valid_selector(*selector) {
        return Ok(None);
    }
    let swap = read(router, Call::abi_decode_raw_validate(*selector, arguments)?, value);
    let hops = 2..=MAX_PATH;
    if hops.contains(&swap.path.len()) { Ok(Some(swap)) } else { Err(Malformed::PathLength(swap.path.len())) }
}

/// Reads the arguments that every kind names in its own order.
fn read(router: Address, call: Call, value: U256) -> RouterSwap {
    macro_rules! swap {
        ($kind:ident, $call:ident, in $amount_in:expr, out $amount_out:expr) => {
            RouterSwap {
                router,
                kind: RouterSwapKind::$kind,
                amount_in: $amount_in,
                amount_out: $amount_out,
                path: $call.path,
                to: $call.to,
                deadline: $call.deadline,
            }
        };
    }
    match call {
        Call::swapExactTokensForTokens(c) => {
            swap!(ExactTokensForTokens, c, in c.amountIn, out c.amountOutMin)
        }
        Call::swapTokensForExactTokens(c) => {
            swap!(TokensForExactTokens, c, in c.amountInMax, out c.amountOut)
        }
        Call::swapExactETHForTokens(c) => swap!(ExactEthForTokens, c, in value, out c.amountOutMin),
        Call::swapTokensForExactETH(c) => swap!(TokensForExactEth, c, in c.amountInMax, out c.amountOut),
        Call::swapExactTokensForETH(c) => swap!(ExactTokensForEth, c, in c.amountIn, out c.amountOutMin),
        Call::swapETHForExactTokens(c) => swap!(EthForExactTokens, c, in value, out c.amountOut),
        Call::swapExactTokensForTokensSupportingFeeOnTransferTokens(c) => {
            swap!(ExactTokensForTokensSupportingFeeOnTransfer, c, in c.amountIn, out c.amountOutMin)
        }
        Call::swapExactETHForTokensSupportingFeeOnTransferTokens(c) => {
            swap!(ExactEthForTokensSupportingFeeOnTransfer, c, in value, out c.amountOutMin)
        }
        Call::swapExactTokensForETHSupportingFeeOnTransferTokens(c) => {
            swap!(ExactTokensForEthSupportingFeeOnTransfer, c, in c.amountIn, out c.amountOutMin)
        }
    }
}

#[cfg(test)]
mod tests;
