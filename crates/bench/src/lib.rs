#![doc = include_str!("../README.md")]

pub mod seed;
pub mod synthetic;
