//! Calls of the pools of Aave V2 (`ILendingPool.sol`) and V3 (`IPool.sol`).

use alloy_primitives::hex;
use headwater_events::{AaveCall, FlashLoan};

use crate::Malformed;
use crate::calldata::{Arguments, Input, Limits};

const SUPPLY: [u8; 4] = hex!("617ba037");
const DEPOSIT: [u8; 4] = hex!("e8eda9df");
const WITHDRAW: [u8; 4] = hex!("69328dec");
const BORROW: [u8; 4] = hex!("a415bcad");
const REPAY: [u8; 4] = hex!("573ade81");
const LIQUIDATION_CALL: [u8; 4] = hex!("00a718a9");
const FLASH_LOAN: [u8; 4] = hex!("ab9c4b5d");
const FLASH_LOAN_SIMPLE: [u8; 4] = hex!("42b0b77c");
const SET_USER_E_MODE: [u8; 4] = hex!("28530a47");
const SET_USE_AS_COLLATERAL: [u8; 4] = hex!("5a3b74b9");

/// A call of an Aave pool, of either version.
///
/// # Errors
///
/// [`Malformed`] when its arguments do not decode, or its lists do not belong together.
pub fn aave_pool(input: &Input<'_>, limits: &mut Limits) -> Result<Option<AaveCall>, Malformed> {
    let arguments = input.arguments;
    Ok(Some(match input.selector {
        SUPPLY | DEPOSIT => AaveCall::Supply {
            asset: arguments.address(0)?,
            amount: arguments.uint256(1)?,
            on_behalf_of: arguments.address(2)?,
            referral_code: arguments.uint16(3)?,
        },
        WITHDRAW => AaveCall::Withdraw {
            asset: arguments.address(0)?,
            amount: arguments.uint256(1)?,
            to: arguments.address(2)?,
        },
        BORROW => AaveCall::Borrow {
            asset: arguments.address(0)?,
            amount: arguments.uint256(1)?,
            rate_mode: arguments.uint256(2)?,
            referral_code: arguments.uint16(3)?,
            on_behalf_of: arguments.address(4)?,
        },
        REPAY => AaveCall::Repay {
            asset: arguments.address(0)?,
            amount: arguments.uint256(1)?,
            rate_mode: arguments.uint256(2)?,
            on_behalf_of: arguments.address(3)?,
        },
        LIQUIDATION_CALL => AaveCall::LiquidationCall {
            collateral_asset: arguments.address(0)?,
            debt_asset: arguments.address(1)?,
            user: arguments.address(2)?,
            debt_to_cover: arguments.uint256(3)?,
            receive_atoken: arguments.boolean(4)?,
        },
        FLASH_LOAN => flash_loan(arguments, limits)?,
        FLASH_LOAN_SIMPLE => {
            arguments.bytes(3)?;
            arguments.uint16(4)?;
            AaveCall::FlashLoanSimple {
                receiver: arguments.address(0)?,
                asset: arguments.address(1)?,
                amount: arguments.uint256(2)?,
            }
        }
        SET_USER_E_MODE => AaveCall::SetUserEMode { category: arguments.uint8(0)? },
        SET_USE_AS_COLLATERAL => {
            AaveCall::SetUseAsCollateral { asset: arguments.address(0)?, enabled: arguments.boolean(1)? }
        }
        _ => return Ok(None),
    }))
}

fn flash_loan(arguments: Arguments<'_>, limits: &mut Limits) -> Result<AaveCall, Malformed> {
    let [(length, assets), (amounts_length, amounts), (modes_length, modes)] =
        [arguments.array(1)?, arguments.array(2)?, arguments.array(3)?];
    if amounts_length != length || modes_length != length {
        return Err(Malformed::Refused("not as many amounts or modes as assets"));
    }
    limits.spend(length)?;
    arguments.bytes(5)?;
    arguments.uint16(6)?;
    let loans = (0..length).map(|index| {
        Ok(FlashLoan {
            asset: assets.address(index)?,
            amount: amounts.uint256(index)?,
            mode: modes.uint256(index)?,
        })
    });
    Ok(AaveCall::FlashLoan {
        receiver: arguments.address(0)?,
        loans: loans.collect::<Result<_, Malformed>>()?,
        on_behalf_of: arguments.address(4)?,
    })
}
