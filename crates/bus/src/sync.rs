//! The locks and atomics of the lane and the mailbox: the standard library's, or those of shuttle, which decides at each of
//! them who goes on.

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic::AtomicU64};
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic::AtomicU64};

/// Does what blocks on a disk where it may.
#[cfg(not(feature = "shuttle"))]
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    tokio::task::spawn_blocking(work).await
}

/// As a task of its own, which may go on before or after any other.
#[cfg(feature = "shuttle")]
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, shuttle::future::JoinError> {
    shuttle::future::spawn(async move { work() }).await
}
