//! Calls of the V3 `SwapRouter` (v3-periphery) and of `SwapRouter02` (swap-router-contracts).

use alloy_primitives::hex;
use headwater_events::{Call, Exact, Guard, Native, PaymentCall, Route, SwapCall};

use crate::Malformed;
use crate::calldata::limits::{Limits, ReadCall, inner};
use crate::calldata::{Arguments, Input, routes, v2};

const EXACT_INPUT_SINGLE: [u8; 4] = hex!("414bf389");
const EXACT_INPUT: [u8; 4] = hex!("c04b8d59");
const EXACT_OUTPUT_SINGLE: [u8; 4] = hex!("db3e2198");
const EXACT_OUTPUT: [u8; 4] = hex!("f28c0498");

const EXACT_INPUT_SINGLE_02: [u8; 4] = hex!("04e45aaf");
const EXACT_INPUT_02: [u8; 4] = hex!("b858183f");
const EXACT_OUTPUT_SINGLE_02: [u8; 4] = hex!("5023b4df");
const EXACT_OUTPUT_02: [u8; 4] = hex!("09b81346");
const V2_EXACT_INPUT: [u8; 4] = hex!("472b43f3");
const V2_EXACT_OUTPUT: [u8; 4] = hex!("42712a67");

const MULTICALL: [u8; 4] = hex!("ac9650d8");
const MULTICALL_DEADLINE: [u8; 4] = hex!("5ae401dc");
const MULTICALL_PREVIOUS_BLOCK_HASH: [u8; 4] = hex!("1f0464d1");

const UNWRAP_WETH: [u8; 4] = hex!("49404b7c");
const UNWRAP_WETH_WITH_FEE: [u8; 4] = hex!("9b2c0a37");
const SWEEP_TOKEN: [u8; 4] = hex!("df2ab5bb");
const SWEEP_TOKEN_WITH_FEE: [u8; 4] = hex!("e0e189a0");
const REFUND_ETH: [u8; 4] = hex!("12210e8a");
const SELF_PERMIT: [u8; 4] = hex!("f3995c67");
const SELF_PERMIT_IF_NECESSARY: [u8; 4] = hex!("c2e3140a");
const SELF_PERMIT_ALLOWED: [u8; 4] = hex!("4659a494");
const SELF_PERMIT_ALLOWED_IF_NECESSARY: [u8; 4] = hex!("a4a78f0c");

const UNWRAP_WETH_TO_CALLER: [u8; 4] = hex!("49616997");
const UNWRAP_WETH_WITH_FEE_TO_CALLER: [u8; 4] = hex!("d4ef38de");
const SWEEP_TOKEN_TO_CALLER: [u8; 4] = hex!("e90a182f");
const SWEEP_TOKEN_WITH_FEE_TO_CALLER: [u8; 4] = hex!("3068c554");
const WRAP_ETH: [u8; 4] = hex!("1c58db4f");
const PULL: [u8; 4] = hex!("f2d5d56b");

/// A call of the V3 `SwapRouter`; the calls of a multicall are read by `reader`.
///
/// # Errors
///
/// [`Malformed`] when its arguments, or those of a call inside, do not decode, or there is too much of them.
pub fn uniswap_v3_router(
    input: &Input<'_>,
    reader: &dyn ReadCall,
    limits: &mut Limits,
) -> Result<Option<Call>, Malformed> {
    let arguments = input.arguments;
    Ok(Some(match input.selector {
        EXACT_INPUT_SINGLE => single(arguments, Exact::Input, Deadline::Told)?,
        EXACT_OUTPUT_SINGLE => single(arguments, Exact::Output, Deadline::Told)?,
        EXACT_INPUT => multiple(arguments, Exact::Input, Deadline::Told)?,
        EXACT_OUTPUT => multiple(arguments, Exact::Output, Deadline::Told)?,
        MULTICALL => multicall(input, Guard::None, 0, reader, limits)?,
        _ => return Ok(payment(input)?.map(Call::Payment)),
    }))
}

/// A call of `SwapRouter02`; the calls of a multicall are read by `reader`.
///
/// # Errors
///
/// As [`uniswap_v3_router`].
pub fn swap_router_02(
    input: &Input<'_>,
    reader: &dyn ReadCall,
    limits: &mut Limits,
) -> Result<Option<Call>, Malformed> {
    let arguments = input.arguments;
    Ok(Some(match input.selector {
        EXACT_INPUT_SINGLE_02 => single(arguments, Exact::Input, Deadline::Absent)?,
        EXACT_OUTPUT_SINGLE_02 => single(arguments, Exact::Output, Deadline::Absent)?,
        EXACT_INPUT_02 => multiple(arguments, Exact::Input, Deadline::Absent)?,
        EXACT_OUTPUT_02 => multiple(arguments, Exact::Output, Deadline::Absent)?,
        V2_EXACT_INPUT => v2_swap(arguments, Exact::Input)?,
        V2_EXACT_OUTPUT => v2_swap(arguments, Exact::Output)?,
        MULTICALL => multicall(input, Guard::None, 0, reader, limits)?,
        MULTICALL_DEADLINE => multicall(input, Guard::Deadline(arguments.uint256(0)?), 1, reader, limits)?,
        MULTICALL_PREVIOUS_BLOCK_HASH => {
            multicall(input, Guard::PreviousBlockHash(arguments.word(0)?), 1, reader, limits)?
        }
        _ => {
            let payment = payment(input)?;
            return Ok(match payment {
                Some(known) => Some(known),
                None => payment_of_02(input)?,
            }
            .map(Call::Payment));
        }
    }))
}

/// Whether the swap functions say until when they are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deadline {
    Told,
    Absent,
}

/// `exactInputSingle`, `exactOutputSingle`: a structure of fixed size.
fn single(arguments: Arguments<'_>, exact: Exact, deadline: Deadline) -> Result<Call, Malformed> {
    let tokens = vec![arguments.address(0)?, arguments.address(1)?];
    let fees = vec![arguments.uint24(2)?];
    let (deadline, rest) = told(arguments, 4, deadline)?;
    let [amount_in, amount_out] = v2::amounts(rest, exact)?;
    let price_limit = Some(rest.uint160(2)?).filter(|limit| !limit.is_zero());
    Ok(Call::Swap(SwapCall {
        exact,
        amount_in,
        amount_out,
        route: Route::V3 { tokens, fees, price_limit },
        recipient: Some(arguments.address(3)?),
        deadline,
    }))
}

/// `exactInput`, `exactOutput`: a structure with a packed path, which is written backwards for an exact output.
fn multiple(arguments: Arguments<'_>, exact: Exact, deadline: Deadline) -> Result<Call, Malformed> {
    let arguments = arguments.tail(0)?;
    let path = arguments.bytes(0)?;
    let (tokens, fees) = match exact {
        Exact::Input => routes::packed(path)?,
        Exact::Output => routes::packed_backwards(path)?,
    };
    let (deadline, rest) = told(arguments, 2, deadline)?;
    let [amount_in, amount_out] = v2::amounts(rest, exact)?;
    Ok(Call::Swap(SwapCall {
        exact,
        amount_in,
        amount_out,
        route: Route::V3 { tokens, fees, price_limit: None },
        recipient: Some(arguments.address(1)?),
        deadline,
    }))
}

/// The deadline, if there is one, and what comes behind it.
fn told<'a>(
    arguments: Arguments<'a>,
    index: usize,
    deadline: Deadline,
) -> Result<(Option<alloy_primitives::U256>, Arguments<'a>), Malformed> {
    Ok(match deadline {
        Deadline::Told => (Some(arguments.uint256(index)?), arguments.skip(index + 1)?),
        Deadline::Absent => (None, arguments.skip(index)?),
    })
}

/// What came in is measured, so that an exact input may shrink on its way (swap-router-contracts `V2SwapRouter.sol`).
fn v2_swap(arguments: Arguments<'_>, exact: Exact) -> Result<Call, Malformed> {
    let [amount_in, amount_out] = v2::amounts(arguments, exact)?;
    let tokens = routes::tokens(arguments, 2)?;
    Ok(Call::Swap(SwapCall {
        exact,
        amount_in,
        amount_out,
        route: Route::V2 { tokens, native: Native::None, fee_on_transfer: exact == Exact::Input },
        recipient: Some(arguments.address(3)?),
        deadline: None,
    }))
}

fn multicall(
    input: &Input<'_>,
    guard: Guard,
    index: usize,
    reader: &dyn ReadCall,
    limits: &mut Limits,
) -> Result<Call, Malformed> {
    let (length, calls) = input.arguments.array(index)?;
    limits.spend(length)?;
    // The router calls itself, for the same sender and with the same value.
    let calls =
        (0..length).map(|index| inner(reader, input.contract, input.value, calls.bytes(index)?, limits));
    Ok(Call::Multicall { guard, calls: calls.collect::<Result<_, _>>()? })
}

/// What both routers offer.
fn payment(input: &Input<'_>) -> Result<Option<PaymentCall>, Malformed> {
    let arguments = input.arguments;
    Ok(Some(match input.selector {
        UNWRAP_WETH => PaymentCall::UnwrapWeth {
            amount_min: arguments.uint256(0)?,
            recipient: Some(arguments.address(1)?),
            fee: None,
        },
        UNWRAP_WETH_WITH_FEE => PaymentCall::UnwrapWeth {
            amount_min: arguments.uint256(0)?,
            recipient: Some(arguments.address(1)?),
            fee: Some((arguments.uint256(2)?, arguments.address(3)?)),
        },
        SWEEP_TOKEN => PaymentCall::SweepToken {
            token: arguments.address(0)?,
            amount_min: arguments.uint256(1)?,
            recipient: Some(arguments.address(2)?),
            fee: None,
        },
        SWEEP_TOKEN_WITH_FEE => PaymentCall::SweepToken {
            token: arguments.address(0)?,
            amount_min: arguments.uint256(1)?,
            recipient: Some(arguments.address(2)?),
            fee: Some((arguments.uint256(3)?, arguments.address(4)?)),
        },
        REFUND_ETH => PaymentCall::RefundEth,
        SELF_PERMIT | SELF_PERMIT_IF_NECESSARY => {
            signature(arguments)?;
            PaymentCall::SelfPermit {
                token: arguments.address(0)?,
                amount: arguments.uint256(1)?,
                deadline: arguments.uint256(2)?,
                if_necessary: input.selector == SELF_PERMIT_IF_NECESSARY,
            }
        }
        SELF_PERMIT_ALLOWED | SELF_PERMIT_ALLOWED_IF_NECESSARY => {
            signature(arguments)?;
            PaymentCall::SelfPermitAllowed {
                token: arguments.address(0)?,
                nonce: arguments.uint256(1)?,
                expiry: arguments.uint256(2)?,
                if_necessary: input.selector == SELF_PERMIT_ALLOWED_IF_NECESSARY,
            }
        }
        _ => return Ok(None),
    }))
}

/// `v`, `r` and `s` behind three arguments: not kept, but there.
fn signature(arguments: Arguments<'_>) -> Result<(), Malformed> {
    arguments.uint8(3)?;
    arguments.word(5)?;
    Ok(())
}

/// What `SwapRouter02` has beside: the same with the caller as the recipient, and two more.
fn payment_of_02(input: &Input<'_>) -> Result<Option<PaymentCall>, Malformed> {
    let arguments = input.arguments;
    Ok(Some(match input.selector {
        UNWRAP_WETH_TO_CALLER => {
            PaymentCall::UnwrapWeth { amount_min: arguments.uint256(0)?, recipient: None, fee: None }
        }
        UNWRAP_WETH_WITH_FEE_TO_CALLER => PaymentCall::UnwrapWeth {
            amount_min: arguments.uint256(0)?,
            recipient: None,
            fee: Some((arguments.uint256(1)?, arguments.address(2)?)),
        },
        SWEEP_TOKEN_TO_CALLER => PaymentCall::SweepToken {
            token: arguments.address(0)?,
            amount_min: arguments.uint256(1)?,
            recipient: None,
            fee: None,
        },
        SWEEP_TOKEN_WITH_FEE_TO_CALLER => PaymentCall::SweepToken {
            token: arguments.address(0)?,
            amount_min: arguments.uint256(1)?,
            recipient: None,
            fee: Some((arguments.uint256(2)?, arguments.address(3)?)),
        },
        WRAP_ETH => PaymentCall::WrapEth { amount: arguments.uint256(0)? },
        PULL => PaymentCall::Pull { token: arguments.address(0)?, amount: arguments.uint256(1)? },
        _ => return Ok(None),
    }))
}
