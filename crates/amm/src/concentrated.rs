//! Concentrated liquidity: Uniswap V3, its forks that differ in fee and event shape only, and Uniswap V4 without hooks.

mod full_width;
mod pool;
mod quote;
mod segments;
mod sqrt_price;
mod swap_math;
#[cfg(test)]
mod tests;
mod tick_math;
mod ticks;
mod v4;

pub use full_width::{mul_div, mul_div_up};
pub use pool::{ConcentratedPool, PoolEvent, PoolPrice, PoolUndo, SwapFee};
pub use quote::{Direction, Quote};
pub(crate) use quote::{LastStep, Path};
pub use segments::{Segment, Segments};
pub(crate) use segments::{Stretch, Stretches};
pub use swap_math::Version;
pub use tick_math::{
    MAX_SQRT_PRICE, MAX_TICK, MIN_SQRT_PRICE, MIN_TICK, sqrt_price_at_tick, tick_at_sqrt_price,
};
pub use ticks::Tick;
pub use v4::{DYNAMIC_FEE, HookPermissions, PoolKey, Unsupported};
