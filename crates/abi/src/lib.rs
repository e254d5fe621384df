#![doc = include_str!("../README.md")]

pub mod calls;
pub mod chainlink;
mod error;
mod interfaces;
pub mod logs;
mod pair;
pub mod router;

pub use error::Malformed;
pub use pair::{pair_address, sort_tokens};
