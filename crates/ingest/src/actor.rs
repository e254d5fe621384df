//! The shells: what connects, waits and publishes.

mod live;
mod mempool;
mod replay;

pub use live::{IngestStatus, LiveIngest, Start};
pub use mempool::{MempoolIngest, MempoolStatus};
pub use replay::{ReplayIngest, ReplayStatus};
