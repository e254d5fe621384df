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
