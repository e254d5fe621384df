//! The one place where clocks are read.
//!
//! Monotonic time follows tokio's clock, so that a test can pause and advance it. Wall-clock time only ever labels
//! what is recorded; no result depends on it.

use std::time::{SystemTime, UNIX_EPOCH};

pub use tokio::time::Instant;

/// Monotonic time.
pub fn now() -> Instant {
    Instant::now()
}

/// Wall-clock nanoseconds since the Unix epoch; zero if the clock stands before it.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the seam through which everybody else reads the clock"
)]
pub fn unix_nanos() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}
