#![doc = include_str!("../README.md")]

mod constant_product;
mod cycle;
mod error;

pub use constant_product::{Fee, Hop, MAX_RESERVE};
pub use cycle::{CycleSizing, LOG_MARGIN, MAX_HOPS, is_profitable, may_profit, quote_cycle, size_cycle};
pub use error::AmmError;
