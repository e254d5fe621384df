#![doc = include_str!("../README.md")]

pub mod devnet;
pub mod proof;
pub mod proofs;
pub mod workflows;
