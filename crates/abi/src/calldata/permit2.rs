//! Calls of Permit2 (permit2 `IAllowanceTransfer.sol`, `ISignatureTransfer.sol`).

use alloy_primitives::hex;
use headwater_events::{Permit, Permit2Call, Permit2Transfer, PermitDetails, SignatureTransfer};

use crate::Malformed;
use crate::calldata::{Arguments, Input, Limits};

const APPROVE: [u8; 4] = hex!("87517c45");
const PERMIT: [u8; 4] = hex!("2b67b570");
const PERMIT_BATCH: [u8; 4] = hex!("2a2d80d1");
const TRANSFER_FROM: [u8; 4] = hex!("36c78516");
const TRANSFER_FROM_BATCH: [u8; 4] = hex!("0d58b1db");
const PERMIT_TRANSFER_FROM: [u8; 4] = hex!("30f28b7a");
const PERMIT_TRANSFER_FROM_BATCH: [u8; 4] = hex!("edd9444b");

/// Words of the static structures.
const PERMIT_SINGLE: usize = 6;
const DETAILS: usize = 4;
const PAIR: usize = 2;

/// A call of Permit2. The functions that sign for a witness of somebody else's type are not read.
///
/// # Errors
///
/// [`Malformed`] when its arguments do not decode, or its lists do not belong together.
pub fn permit2(input: &Input<'_>, limits: &mut Limits) -> Result<Option<Permit2Call>, Malformed> {
    let arguments = input.arguments;
    Ok(Some(match input.selector {
        APPROVE => Permit2Call::Approve {
            token: arguments.address(0)?,
            spender: arguments.address(1)?,
            amount: arguments.uint160(2)?,
            expiration: arguments.uint48(3)?,
        },
        PERMIT => {
            arguments.bytes(1 + PERMIT_SINGLE)?;
            Permit2Call::Permit { owner: arguments.address(0)?, permit: permit_single(arguments.skip(1)?)? }
        }
        PERMIT_BATCH => {
            arguments.bytes(2)?;
            Permit2Call::Permit {
                owner: arguments.address(0)?,
                permit: permit_batch(arguments.tail(1)?, limits)?,
            }
        }
        TRANSFER_FROM => Permit2Call::TransferFrom(vec![transfer(arguments)?]),
        TRANSFER_FROM_BATCH => Permit2Call::TransferFrom(transfers(arguments, 0, limits)?),
        PERMIT_TRANSFER_FROM => permit_transfer(arguments)?,
        PERMIT_TRANSFER_FROM_BATCH => permit_transfers(arguments, limits)?,
        _ => return Ok(None),
    }))
}

/// `PermitSingle`.
pub(super) fn permit_single(arguments: Arguments<'_>) -> Result<Permit, Malformed> {
    Ok(Permit {
        details: vec![details(arguments)?],
        spender: arguments.address(DETAILS)?,
        deadline: arguments.uint256(DETAILS + 1)?,
    })
}

/// `PermitBatch`.
pub(super) fn permit_batch(arguments: Arguments<'_>, limits: &mut Limits) -> Result<Permit, Malformed> {
    Ok(Permit {
        details: structures(arguments, 0, DETAILS, limits, details)?,
        spender: arguments.address(1)?,
        deadline: arguments.uint256(2)?,
    })
}

/// `AllowanceTransferDetails[]`.
pub(super) fn transfers(
    arguments: Arguments<'_>,
    index: usize,
    limits: &mut Limits,
) -> Result<Vec<Permit2Transfer>, Malformed> {
    structures(arguments, index, DETAILS, limits, transfer)
}

fn transfer(arguments: Arguments<'_>) -> Result<Permit2Transfer, Malformed> {
    Ok(Permit2Transfer {
        from: arguments.address(0)?,
        to: arguments.address(1)?,
        amount: arguments.uint160(2)?,
        token: arguments.address(3)?,
    })
}

fn details(arguments: Arguments<'_>) -> Result<PermitDetails, Malformed> {
    Ok(PermitDetails {
        token: arguments.address(0)?,
        amount: arguments.uint160(1)?,
        expiration: arguments.uint48(2)?,
        nonce: arguments.uint48(3)?,
    })
}

fn permit_transfer(arguments: Arguments<'_>) -> Result<Permit2Call, Malformed> {
    arguments.bytes(7)?;
    let transfer = SignatureTransfer {
        token: arguments.address(0)?,
        permitted: arguments.uint256(1)?,
        to: arguments.address(4)?,
        requested: arguments.uint256(5)?,
    };
    Ok(Permit2Call::PermitTransferFrom {
        owner: arguments.address(6)?,
        transfers: vec![transfer],
        nonce: arguments.uint256(2)?,
        deadline: arguments.uint256(3)?,
    })
}

fn permit_transfers(arguments: Arguments<'_>, limits: &mut Limits) -> Result<Permit2Call, Malformed> {
    arguments.bytes(3)?;
    let permit = arguments.tail(0)?;
    let pair = |arguments: Arguments<'_>| Ok((arguments.address(0)?, arguments.uint256(1)?));
    let permitted = structures(permit, 0, PAIR, limits, pair)?;
    let requested = structures(arguments, 1, PAIR, limits, pair)?;
    if permitted.len() != requested.len() {
        return Err(Malformed::Refused("not as many transfers as permissions"));
    }
    let transfers = permitted.into_iter().zip(requested);
    Ok(Permit2Call::PermitTransferFrom {
        owner: arguments.address(2)?,
        transfers: transfers
            .map(|((token, permitted), (to, requested))| SignatureTransfer {
                token,
                permitted,
                to,
                requested,
            })
            .collect(),
        nonce: permit.uint256(1)?,
        deadline: permit.uint256(2)?,
    })
}

/// An array of structures of `words` words each.
fn structures<T>(
    arguments: Arguments<'_>,
    index: usize,
    words: usize,
    limits: &mut Limits,
    read: impl Fn(Arguments<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let (length, elements) = arguments.array(index)?;
    limits.spend(length)?;
    (0..length).map(|index| read(elements.skip(index * words)?)).collect()
}
