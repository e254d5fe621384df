//! The judges: plain, slow, obviously right, and without any Headwater crate, so that they cannot share its mistakes.

pub mod anvil;
pub mod arbitrage;
pub mod executed;
pub mod fake_node;
pub mod market;
pub mod rebuild;
pub mod rpc;
