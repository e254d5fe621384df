#![doc = include_str!("../README.md")]

mod evictor;
pub mod seed;
pub mod synthetic;

pub use evictor::Evictor;
