//! The shells: what connects, waits and publishes.

mod live;
mod replay;

pub use live::{IngestStatus, LiveIngest, Start};
pub use replay::{ReplayIngest, ReplayStatus};
