#![doc = include_str!("../README.md")]

mod actor;
mod config;
mod error;
mod feeds;
mod prices;
mod ranged;
mod rebuild;
mod resolver;
#[cfg(test)]
mod samples;
mod ticks;
mod transmissions;

pub use actor::{OracleActor, OracleMessage, OracleObserved, Wiring};
pub use config::OracleConfig;
pub use error::{ImageError, OracleError, RebuildError};
pub use feeds::FeedCounts;
pub use prices::{Oracle, OracleCounts, OracleImage, PricedBlock};
pub use resolver::{FeedResolver, FeedResolverObserved, resolve_feeds};
pub use ticks::{ObserveError, TickObservation, TickObservations, mean_tick};
pub use transmissions::{
    TransmissionActor, TransmissionCounts, TransmissionMessage, TransmissionObserved, TransmissionWiring,
    Transmissions,
};
