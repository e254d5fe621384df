#![doc = include_str!("../README.md")]

mod actor;
mod config;
mod error;
mod loader;
mod rebuild;
#[cfg(test)]
mod testing;
mod world;

pub use actor::{StateActor, StateMessage, StateObserved, Wiring};
pub use config::StateConfig;
pub use error::{LoadError, RebuildError, WorldError};
pub use loader::{
    BulkLoad, LoadReport, Loader, LoaderObserved, Resynchroniser, ResynchroniserObserved, bulk_load,
};
pub use world::{AppliedBlock, LoadRequest, Subject, World, WorldCounts, WorldImage};
