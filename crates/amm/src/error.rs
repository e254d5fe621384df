/// Why a contract would refuse the computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmmError {
    /// `UniswapV2Library: INSUFFICIENT_INPUT_AMOUNT`.
    #[error("the input is zero")]
    InsufficientInput,
    /// `UniswapV2Library: INSUFFICIENT_OUTPUT_AMOUNT`.
    #[error("the output is zero")]
    InsufficientOutput,
    /// `UniswapV2Library: INSUFFICIENT_LIQUIDITY`, or an output that the reserve does not hold.
    #[error("the reserves do not hold that much")]
    InsufficientLiquidity,
    /// A reserve beyond `uint112`.
    #[error("reserve {0} exceeds uint112")]
    ReserveTooLarge(u128),
    /// A product beyond `uint256`, on which the contract's SafeMath reverts.
    #[error("the product exceeds 256 bits")]
    Overflow,
    /// A fee of the whole input or more.
    #[error("a fee of {0} parts per million leaves nothing to swap")]
    FeeTooHigh(u32),
}

/// Why a pool of concentrated liquidity would revert, or cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConcentratedError {
    /// Nothing is asked for (`AS` of V3, `SwapAmountCannotBeZero` of V4).
    #[error("the amount is zero")]
    ZeroAmount,
    /// The limit is behind the price or no price at all (`SPL` of V3).
    #[error("the price limit is behind the price, or beyond all prices")]
    PriceLimit,
    /// No price has been set (`LOK` of V3).
    #[error("the pool is not initialised")]
    NotInitialized,
    /// A second initialisation (`AI` of V3).
    #[error("the pool is initialised already")]
    AlreadyInitialized,
    /// An amount that the contract's integers do not hold.
    #[error("the amount exceeds the contract's integers")]
    Overflow,
    /// Liquidity below zero or beyond its integers (`LS` and `LA` of V3).
    #[error("liquidity out of bounds")]
    LiquidityOutOfBounds,
    /// A square root that no pool has.
    #[error("price out of bounds")]
    PriceOutOfBounds,
    /// A tick beyond the lowest or the highest, or not a multiple of the spacing.
    #[error("tick {0} out of bounds")]
    TickOutOfBounds(i32),
    /// Not positive, or beyond what the contract accepts.
    #[error("tick spacing {0} out of bounds")]
    TickSpacing(i32),
    /// A fee that leaves nothing, where something has to be left.
    #[error("a fee of {0} hundredths of a basis point is too high")]
    FeeTooHigh(u32),
    /// Ticks that do not add up to the liquidity.
    #[error("the parts are not of one pool")]
    Inconsistent,
}
