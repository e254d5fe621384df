//! What the proofs do, each in a module of its own.

pub mod mainnet_swaps;
