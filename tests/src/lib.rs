#![doc = include_str!("../README.md")]

pub mod devnet;
pub mod exhaustive;
pub mod follower;
pub mod latency;
pub mod proof;
pub mod proofs;
pub mod replayed;
mod routers;
pub mod workflows;
