#![doc = include_str!("../README.md")]

pub mod aave;
pub mod calldata;
pub mod calls;
pub mod chainlink;
mod error;
mod interfaces;
pub mod logs;
mod pair;
mod words;

pub use error::Malformed;
pub use pair::{pair_address, sort_tokens, v4_pool_id};
