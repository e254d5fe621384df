//! What the proofs do, each in a module of its own.

pub mod actors;
pub mod lag;
pub mod live;
pub mod mainnet;
pub mod mainnet_swaps;
pub mod recall;
pub mod replay;
pub mod silence;
