#![doc = include_str!("../README.md")]

mod actor;
mod config;
mod executor;

pub use actor::{ExecutorActor, ExecutorMessage, Reports};
pub use config::ExecutorConfig;
pub use executor::{Circumstances, Counted, Executor, Next};
