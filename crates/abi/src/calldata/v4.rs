//! Actions of the V4 router, which the Universal Router carries out (v4-periphery `Actions.sol`, `IV4Router.sol`).

use alloy_primitives::{Address, Bytes, U256};
use headwater_events::{Exact, Route, SwapCall, V4Hop, V4Instruction};

use crate::Malformed;
use crate::calldata::{Arguments, Limits, routes};

const SWAP_EXACT_IN_SINGLE: u8 = 0x06;
const SWAP_EXACT_IN: u8 = 0x07;
const SWAP_EXACT_OUT_SINGLE: u8 = 0x08;
const SWAP_EXACT_OUT: u8 = 0x09;
const SETTLE: u8 = 0x0b;
const SETTLE_ALL: u8 = 0x0c;
const SETTLE_PAIR: u8 = 0x0d;
const TAKE: u8 = 0x0e;
const TAKE_ALL: u8 = 0x0f;
const TAKE_PORTION: u8 = 0x10;
const TAKE_PAIR: u8 = 0x11;

/// `(bytes actions, bytes[] params)`, one byte an action.
pub(super) fn actions(
    arguments: Arguments<'_>,
    limits: &mut Limits,
) -> Result<Vec<V4Instruction>, Malformed> {
    let actions = arguments.bytes(0)?;
    let (length, parameters) = arguments.array(1)?;
    if actions.len() != length {
        return Err(Malformed::Refused("not as many parameters as actions"));
    }
    limits.spend(length)?;
    let read = |(index, action): (usize, &u8)| {
        instruction(*action, Arguments::new(parameters.bytes(index)?), limits)
    };
    actions.iter().enumerate().map(read).collect()
}

fn instruction(action: u8, input: Arguments<'_>, limits: &mut Limits) -> Result<V4Instruction, Malformed> {
    Ok(match action {
        SWAP_EXACT_IN_SINGLE => V4Instruction::Swap(single(input, Exact::Input, limits)?),
        SWAP_EXACT_OUT_SINGLE => V4Instruction::Swap(single(input, Exact::Output, limits)?),
        SWAP_EXACT_IN => V4Instruction::Swap(multiple(input, Exact::Input, limits)?),
        SWAP_EXACT_OUT => V4Instruction::Swap(multiple(input, Exact::Output, limits)?),
        SETTLE => V4Instruction::Settle {
            currency: input.address(0)?,
            amount: input.uint256(1)?,
            payer_is_user: input.boolean(2)?,
        },
        SETTLE_ALL => V4Instruction::SettleAll { currency: input.address(0)?, max_amount: input.uint256(1)? },
        SETTLE_PAIR => {
            V4Instruction::SettlePair { currency0: input.address(0)?, currency1: input.address(1)? }
        }
        TAKE => V4Instruction::Take {
            currency: input.address(0)?,
            recipient: input.address(1)?,
            amount: input.uint256(2)?,
        },
        TAKE_ALL => V4Instruction::TakeAll { currency: input.address(0)?, min_amount: input.uint256(1)? },
        TAKE_PORTION => V4Instruction::TakePortion {
            currency: input.address(0)?,
            recipient: input.address(1)?,
            bips: input.uint256(2)?,
        },
        TAKE_PAIR => V4Instruction::TakePair {
            currency0: input.address(0)?,
            currency1: input.address(1)?,
            recipient: input.address(2)?,
        },
        unknown => V4Instruction::Unknown(unknown),
    })
}

/// `ExactInputSingleParams`, `ExactOutputSingleParams`: a pool's key, the direction, the amounts, data for the hook.
fn single(input: Arguments<'_>, exact: Exact, limits: &mut Limits) -> Result<SwapCall, Malformed> {
    let input = input.tail(0)?;
    // Later versions of the structure are longer, and would be misread: there the offset of the data is another one.
    laid_out(input, 8, 9)?;
    let [currency0, currency1] = [input.address(0)?, input.address(1)?];
    let currencies = if input.boolean(5)? { vec![currency0, currency1] } else { vec![currency1, currency0] };
    let pool = V4Hop {
        fee: input.uint24(2)?,
        tick_spacing: input.int24(3)?,
        hooks: input.address(4)?,
        hook_data: copied(input.bytes(8)?, limits)?,
    };
    swap(exact, [input.uint128(6)?, input.uint128(7)?], currencies, vec![pool])
}

/// `ExactInputParams`, `ExactOutputParams`: one end, the path from or to it, the amounts. An exact output names the currency
/// that comes out, and its path begins with the one that goes in.
fn multiple(input: Arguments<'_>, exact: Exact, limits: &mut Limits) -> Result<SwapCall, Malformed> {
    let input = input.tail(0)?;
    laid_out(input, 1, 4)?;
    let end = input.address(0)?;
    let (length, path) = input.array(1)?;
    routes::bounded(length + 1)?;
    limits.spend(length)?;
    let (mut currencies, mut pools) = (Vec::with_capacity(length + 1), Vec::with_capacity(length));
    for index in 0..length {
        let key = path.tail(index)?;
        currencies.push(key.address(0)?);
        pools.push(V4Hop {
            fee: key.uint24(1)?,
            tick_spacing: key.int24(2)?,
            hooks: key.address(3)?,
            hook_data: copied(key.bytes(4)?, limits)?,
        });
    }
    match exact {
        Exact::Input => currencies.insert(0, end),
        Exact::Output => currencies.push(end),
    }
    swap(exact, [input.uint128(2)?, input.uint128(3)?], currencies, pools)
}

fn swap(
    exact: Exact,
    [first, second]: [u128; 2],
    currencies: Vec<Address>,
    pools: Vec<V4Hop>,
) -> Result<SwapCall, Malformed> {
    let [first, second] = [first, second].map(U256::from);
    let (amount_in, amount_out) = match exact {
        Exact::Input => (first, second),
        Exact::Output => (second, first),
    };
    let route = Route::V4 { currencies, pools };
    Ok(SwapCall { exact, amount_in, amount_out, route, recipient: None, deadline: None })
}

/// Whether the offset at `index` points right behind a structure of `words` words, where every encoder lets it point.
fn laid_out(input: Arguments<'_>, index: usize, words: usize) -> Result<(), Malformed> {
    let is_there = input.uint256(index)? == U256::from(32 * words);
    if is_there { Ok(()) } else { Err(Malformed::Refused("a structure of another version")) }
}

fn copied(bytes: &[u8], limits: &mut Limits) -> Result<Bytes, Malformed> {
    limits.spend(bytes.len().div_ceil(32))?;
    Ok(Bytes::copy_from_slice(bytes))
}
