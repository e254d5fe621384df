#![doc = include_str!("../README.md")]

mod actor;
mod config;
mod error;
mod loader;
mod rebuild;
#[cfg(test)]
mod testing;
mod tripwire;
mod world;

pub use actor::{StateActor, StateMessage, StateObserved, Wiring};
pub use config::{StateConfig, TripwireConfig};
pub use error::{LoadError, RebuildError, WorldError};
pub use headwater_node::{Answer, Question};
pub use loader::{
    BlockPlace, BulkLoad, BulkLoader, FoundPool, HistorySearch, LendingChain, LendingLoader,
    LendingLoaderObserved, LendingScan, LoadReport, Loader, LoaderObserved, Patience, PoolSearch,
    Resynchroniser, ResynchroniserObserved, Searched, bulk_load, load_market,
};
pub use tripwire::{SampleRequest, Tripwire, TripwireObserved};
pub use world::{AppliedBlock, LendingRequest, LoadRequest, Subject, World, WorldCounts, WorldImage};
