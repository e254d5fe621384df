//! What the proofs do, each in a module of its own.

pub mod live;
pub mod mainnet_swaps;
pub mod recall;
