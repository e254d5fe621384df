use alloy_primitives::{Address, U256};

use crate::{ReserveId, Revision};

/// Why a market cannot say what was asked, or cannot follow an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LendingError {
    /// A `POOL_REVISION` whose arithmetic nobody has compared with its bytecode.
    #[error("revision {0} of the pool is not proven; proven are {proven}", proven = Revision::PROVEN_NAMES)]
    UnprovenRevision(u64),
    /// A `LENDINGPOOL_REVISION` of V2 whose arithmetic nobody has compared with its bytecode.
    #[error("revision {0} of the lending pool is not proven; proven is 2 (Aave V2)")]
    UnprovenLendingPool(u64),
    /// An event or a field that this revision does not have.
    #[error("{0} has no {1}")]
    NotInRevision(Revision, &'static str),
    /// Nothing was loaded for it.
    #[error("reserve {0} is not known")]
    UnknownReserve(ReserveId),
    /// A reserve beyond the 128 that the user's bitmap has room for.
    #[error("reserve {0} is beyond the bitmap of a user")]
    ReserveOutOfRange(ReserveId),
    /// No price was given for an asset or a price source.
    #[error("there is no price for {0}")]
    MissingPrice(Address),
    /// A time before the reserve's last update.
    #[error("{timestamp} is before reserve {reserve}'s last update at {last_update}")]
    BeforeLastUpdate {
        /// Whose update.
        reserve: ReserveId,
        /// Seconds since 1970.
        last_update: u64,
        /// What was asked for.
        timestamp: u64,
    },
    /// A result that does not fit 256 bits, or a division by zero: the contract reverts.
    #[error("the arithmetic leaves 256 bits or divides by zero")]
    Arithmetic,
    /// An event that cannot follow what is held: an event before it was missed.
    #[error("an event of {account} in reserve {reserve} does not follow from what is held")]
    DoesNotFollow {
        /// Where.
        reserve: ReserveId,
        /// Whose balance.
        account: Address,
    },
}

/// Why the contract would refuse a liquidation call; in the order in which it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The market cannot tell; the contract's answer is not known, but for [`LendingError::Arithmetic`].
    #[error(transparent)]
    Unknown(#[from] LendingError),
    /// The whole pool is paused (2 only).
    #[error("the pool is paused")]
    PoolPaused,
    /// Nobody liquidates himself (from 3.4 on).
    #[error("the borrower is the liquidator")]
    SelfLiquidation,
    /// One of the two reserves is not active.
    #[error("a reserve is not active")]
    ReserveInactive,
    /// One of the two reserves is paused.
    #[error("a reserve is paused")]
    ReservePaused,
    /// `PriceOracleSentinel` allows only what is below 0.95 at present.
    #[error("the oracle's sentinel allows no liquidation of this health")]
    PriceOracleSentinel,
    /// The grace period of one of the two reserves runs until this second, which still belongs to it.
    #[error("a grace period runs until {until}")]
    GracePeriod {
        /// Seconds since 1970.
        until: u64,
    },
    /// The account is healthy.
    #[error("the health factor {0} is not below one")]
    HealthFactorNotBelowThreshold(U256),
    /// The borrower does not use the asset as collateral, or (2, 3.0) it counts nothing.
    #[error("the asset is not collateral of this account")]
    CollateralCannotBeLiquidated,
    /// The borrower owes nothing in this asset.
    #[error("the account owes nothing in this asset")]
    NotBorrowed,
    /// Too little debt or collateral would remain (from 3.3 on).
    #[error("the call would leave dust")]
    MustNotLeaveDust,
    /// An amount so small that its scaled form is zero: `INVALID_BURN_AMOUNT`.
    #[error("an amount rounds to nothing")]
    InvalidBurnAmount,
}
