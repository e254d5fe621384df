//! Plans for the Universal Router (universal-router `Commands.sol`, `Dispatcher.sol`).

use alloy_primitives::hex;
use headwater_events::{Call, Command, Exact, Instruction, Native, Route, SwapCall};

use crate::Malformed;
use crate::calldata::{Arguments, Input, Limits, permit2, routes, v2, v4};

const EXECUTE: [u8; 4] = hex!("24856bc3");
const EXECUTE_WITH_DEADLINE: [u8; 4] = hex!("3593564c");

const ALLOW_REVERT: u8 = 0x80;

const V3_SWAP_EXACT_IN: u8 = 0x00;
const V3_SWAP_EXACT_OUT: u8 = 0x01;
const PERMIT2_TRANSFER_FROM: u8 = 0x02;
const PERMIT2_PERMIT_BATCH: u8 = 0x03;
const SWEEP: u8 = 0x04;
const TRANSFER: u8 = 0x05;
const PAY_PORTION: u8 = 0x06;
const V2_SWAP_EXACT_IN: u8 = 0x08;
const V2_SWAP_EXACT_OUT: u8 = 0x09;
const PERMIT2_PERMIT: u8 = 0x0a;
const WRAP_ETH: u8 = 0x0b;
const UNWRAP_WETH: u8 = 0x0c;
const PERMIT2_TRANSFER_FROM_BATCH: u8 = 0x0d;
const BALANCE_CHECK_ERC20: u8 = 0x0e;
const V4_SWAP: u8 = 0x10;
const EXECUTE_SUB_PLAN: u8 = 0x21;

/// A plan for the Universal Router, from its second version on.
///
/// # Errors
///
/// [`Malformed`] when the plan or one of its commands does not decode, or is too much.
pub fn universal_router(input: &Input<'_>, limits: &mut Limits) -> Result<Option<Call>, Malformed> {
    plan(input, &Dialect { masked: 0x7f, has_v4: true }, limits)
}

/// A plan for the first versions, in which other commands have the numbers of V4's: those are unknown here.
///
/// # Errors
///
/// As [`universal_router`].
pub fn universal_router_v1(input: &Input<'_>, limits: &mut Limits) -> Result<Option<Call>, Malformed> {
    plan(input, &Dialect { masked: 0x3f, has_v4: false }, limits)
}

/// In what the versions differ.
struct Dialect {
    /// Bits of a command that tell its type.
    masked: u8,
    has_v4: bool,
}

fn plan(input: &Input<'_>, dialect: &Dialect, limits: &mut Limits) -> Result<Option<Call>, Malformed> {
    let deadline = match input.selector {
        EXECUTE => None,
        EXECUTE_WITH_DEADLINE => Some(input.arguments.uint256(2)?),
        _ => return Ok(None),
    };
    let commands = commands(input.arguments, dialect, limits)?;
    Ok(Some(Call::UniversalRouter { deadline, commands }))
}

/// `(bytes commands, bytes[] inputs)`, one byte a command.
fn commands(
    arguments: Arguments<'_>,
    dialect: &Dialect,
    limits: &mut Limits,
) -> Result<Vec<Command>, Malformed> {
    let commands = arguments.bytes(0)?;
    let (length, inputs) = arguments.array(1)?;
    if commands.len() != length {
        return Err(Malformed::Refused("not as many inputs as commands"));
    }
    limits.spend(length)?;
    let read = |(index, command): (usize, &u8)| {
        let input = Arguments::new(inputs.bytes(index)?);
        let instruction = instruction(command & dialect.masked, input, dialect, limits)?;
        Ok(Command { allow_revert: command & ALLOW_REVERT != 0, instruction })
    };
    commands.iter().enumerate().map(read).collect()
}

fn instruction(
    command: u8,
    input: Arguments<'_>,
    dialect: &Dialect,
    limits: &mut Limits,
) -> Result<Instruction, Malformed> {
    Ok(match command {
        V3_SWAP_EXACT_IN => v3_swap(input, Exact::Input)?,
        V3_SWAP_EXACT_OUT => v3_swap(input, Exact::Output)?,
        V2_SWAP_EXACT_IN => v2_swap(input, Exact::Input)?,
        V2_SWAP_EXACT_OUT => v2_swap(input, Exact::Output)?,
        V4_SWAP if dialect.has_v4 => Instruction::V4(v4::actions(input, limits)?),
        EXECUTE_SUB_PLAN => Instruction::SubPlan(limits.deeper(|limits| commands(input, dialect, limits))?),
        PERMIT2_PERMIT => {
            input.bytes(6)?;
            Instruction::Permit(permit2::permit_single(input)?)
        }
        PERMIT2_PERMIT_BATCH => {
            input.bytes(1)?;
            Instruction::Permit(permit2::permit_batch(input.tail(0)?, limits)?)
        }
        PERMIT2_TRANSFER_FROM => Instruction::TransferFrom {
            token: input.address(0)?,
            recipient: input.address(1)?,
            amount: input.uint160(2)?,
        },
        PERMIT2_TRANSFER_FROM_BATCH => Instruction::TransferFromBatch(permit2::transfers(input, 0, limits)?),
        WRAP_ETH => Instruction::Wrap { recipient: input.address(0)?, amount: input.uint256(1)? },
        UNWRAP_WETH => Instruction::Unwrap { recipient: input.address(0)?, amount_min: input.uint256(1)? },
        SWEEP => Instruction::Sweep {
            token: input.address(0)?,
            recipient: input.address(1)?,
            amount_min: input.uint256(2)?,
        },
        TRANSFER => Instruction::Transfer {
            token: input.address(0)?,
            recipient: input.address(1)?,
            amount: input.uint256(2)?,
        },
        PAY_PORTION => Instruction::PayPortion {
            token: input.address(0)?,
            recipient: input.address(1)?,
            bips: input.uint256(2)?,
        },
        BALANCE_CHECK_ERC20 => Instruction::BalanceCheck {
            owner: input.address(0)?,
            token: input.address(1)?,
            min_balance: input.uint256(2)?,
        },
        unknown => Instruction::Unknown(unknown),
    })
}

/// `(address recipient, uint256 exact, uint256 limit, bytes path, bool payerIsUser)`
fn v3_swap(input: Arguments<'_>, exact: Exact) -> Result<Instruction, Malformed> {
    let path = input.bytes(3)?;
    let (tokens, fees) = match exact {
        Exact::Input => routes::packed(path)?,
        Exact::Output => routes::packed_backwards(path)?,
    };
    swap(input, exact, Route::V3 { tokens, fees, price_limit: None })
}

/// `(address recipient, uint256 exact, uint256 limit, address[] path, bool payerIsUser)`. What came in is measured, so that an exact
/// input may shrink on its way.
fn v2_swap(input: Arguments<'_>, exact: Exact) -> Result<Instruction, Malformed> {
    let tokens = routes::tokens(input, 3)?;
    swap(input, exact, Route::V2 { tokens, native: Native::None, fee_on_transfer: exact == Exact::Input })
}

fn swap(input: Arguments<'_>, exact: Exact, route: Route) -> Result<Instruction, Malformed> {
    let [amount_in, amount_out] = v2::amounts(input.skip(1)?, exact)?;
    let recipient = Some(input.address(0)?);
    let swap = SwapCall { exact, amount_in, amount_out, route, recipient, deadline: None };
    Ok(Instruction::Swap { swap, payer_is_user: input.boolean(4)? })
}
