#![doc = include_str!("../README.md")]

pub mod anvil;
pub mod arbitrage;
pub mod digest;
pub mod executed;
pub mod fake_node;
pub mod feeds;
pub mod journal;
pub mod market;
pub mod rebuild;
pub mod receipts;
pub mod rpc;
pub mod scratch;
pub mod snapshot;
