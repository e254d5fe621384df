#![doc = include_str!("../README.md")]

mod actor;
mod config;
mod error;
mod prices;
mod rebuild;
#[cfg(test)]
mod samples;

pub use actor::{OracleActor, OracleMessage, OracleObserved, Wiring};
pub use config::OracleConfig;
pub use error::{ImageError, OracleError, RebuildError};
pub use prices::{Oracle, OracleCounts, OracleImage, PricedBlock};
