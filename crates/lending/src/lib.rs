#![doc = include_str!("../README.md")]

mod account;
mod error;
mod event;
mod fold;
mod index;
mod interest;
mod liquidation;
mod market;
mod math;
mod reserve;
mod revision;

pub use account::AccountData;
pub use error::{LendingError, Refusal};
pub use event::{CollateralTerms, LendingEvent, Rates, Scaling, StableSupply};
pub use fold::{Touch, Undo};
pub use index::{Crossing, Examined, LiquidationIndex};
pub use liquidation::{Liquidation, LiquidationCall, Pair};
pub use market::Market;
pub use reserve::{EModeCategory, Holding, MAX_RESERVES, Position, Reserve, ReserveId, StableDebt};
pub use revision::Revision;
