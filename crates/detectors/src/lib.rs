#![doc = include_str!("../README.md")]

mod actor;
mod arbitrage;
mod backrun;
mod config;
mod crossing;
mod detector;
mod error;
mod liquidation;

pub use actor::{DetectorActor, Observed, Pace, Wiring};
pub use arbitrage::{ARBITRAGE, Arbitrage, Examined};
pub use backrun::{
    BACKRUN, BackrunActor, BackrunMessage, BackrunObserved, BackrunReplay, BackrunWiring, Backruns, Indices,
    MempoolConfig, RecordedMemory, RecordedMessage, RecordedObserved, RecordedWiring, Standing,
};
pub use config::{ArbitrageConfig, Config, LiquidationConfig, MaxHops};
pub use crossing::{CrossingActor, CrossingMessage, CrossingObserved, CrossingWiring, Crossings};
pub use detector::Detector;
pub use error::{ConfigError, EvaluationError};
pub use liquidation::Liquidations;
