#![doc = include_str!("../README.md")]

mod concentrated;
mod constant_product;
mod cycle;
mod error;
mod mixed;

pub use concentrated::{
    ConcentratedPool, DYNAMIC_FEE, Direction, HookPermissions, MAX_SQRT_PRICE, MAX_TICK, MIN_SQRT_PRICE,
    MIN_TICK, PoolEvent, PoolKey, PoolPrice, PoolUndo, Quote, Segment, Segments, SwapFee, Tick, Unsupported,
    Version, mul_div, mul_div_up, sqrt_price_at_tick, tick_at_sqrt_price,
};
pub use constant_product::{Fee, Hop, MAX_RESERVE};
pub use cycle::{CycleSizing, LOG_MARGIN, MAX_HOPS, is_profitable, may_profit, quote_cycle, size_cycle};
pub use error::{AmmError, ConcentratedError};
pub use mixed::{Bounded, Effort, MixedHop, quote_mixed_cycle, size_mixed_cycle};
