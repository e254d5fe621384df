use alloy_primitives::hex;
use headwater_events::TokenCall;

use crate::Malformed;
use crate::calldata::Input;

const TRANSFER: [u8; 4] = hex!("a9059cbb");
const TRANSFER_FROM: [u8; 4] = hex!("23b872dd");
const APPROVE: [u8; 4] = hex!("095ea7b3");

/// A call with the shape of an ERC-20 function (EIP-20). Whether the contract is such a token, a call does not tell.
///
/// # Errors
///
/// [`Malformed`] when its arguments do not decode.
pub fn token(input: &Input<'_>) -> Result<Option<TokenCall>, Malformed> {
    let arguments = input.arguments;
    Ok(Some(match input.selector {
        TRANSFER => TokenCall::Transfer { to: arguments.address(0)?, amount: arguments.uint256(1)? },
        TRANSFER_FROM => TokenCall::TransferFrom {
            from: arguments.address(0)?,
            to: arguments.address(1)?,
            amount: arguments.uint256(2)?,
        },
        APPROVE => TokenCall::Approve { spender: arguments.address(0)?, amount: arguments.uint256(1)? },
        _ => return Ok(None),
    }))
}
