#![doc = include_str!("../README.md")]

pub mod aave;
pub mod anvil;
pub mod arbitrage;
pub mod calldata;
pub mod digest;
pub mod evm;
pub mod executed;
pub mod fake_node;
pub mod journal;
pub mod market;
pub mod pools;
pub mod rebuild;
pub mod receipts;
pub mod rpc;
pub mod scratch;
pub mod snapshot;
