use headwater_bus::BacklogError;
use headwater_market::{BadImage, BookError};

/// Why an event cannot be applied. What the oracle holds is no longer that of the chain: it has to be rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OracleError {
    /// A block is missing, or a reorganisation reaches beyond the horizon.
    #[error(transparent)]
    Book(#[from] BookError),
}

/// Why an image cannot be gone on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// It is of no book.
    #[error(transparent)]
    Book(#[from] BadImage),
    /// Its prices remember other blocks than its pools do.
    #[error("its prices do not belong to its pools")]
    History,
    /// What a pool must hold to count has been changed since.
    #[error("it was taken with another min_base_reserve_wei")]
    OtherReserve,
    /// The feeds have been changed since.
    #[error("it was taken with other feeds")]
    OtherFeeds,
}

/// Why the oracle cannot be rebuilt from the record.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The record cannot be read, or does not reach back far enough.
    #[error(transparent)]
    Backlog(#[from] BacklogError),
    /// The record ends before the event that the rebuild is to end with.
    #[error("the record does not reach event {wanted}: event {next} is not in it")]
    Short {
        /// The last event that is needed.
        wanted: u64,
        /// The first that is missing.
        next: u64,
    },
    /// The runtime is shutting down.
    #[error("the process ends before event {wanted} was reached")]
    ShuttingDown {
        /// The last event that is needed.
        wanted: u64,
    },
    /// The record has a hole.
    #[error("event {found} stands in the record where {wanted} was due")]
    Hole {
        /// The event that was due.
        wanted: u64,
        /// The event that stands there.
        found: u64,
    },
    /// An event of the record cannot be applied.
    #[error("event {seq}: {error}")]
    Oracle {
        /// The event.
        seq: u64,
        /// Why.
        #[source]
        error: OracleError,
    },
}
