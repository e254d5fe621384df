use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use headwater_events::Envelope;
use tokio::sync::mpsc;

/// Source events that are kept beyond the ring: what repairs a lag, and what a component is rebuilt from.
///
/// Calls may block on a disk; the bus makes them from a blocking thread.
pub trait Backlog: Send + Sync + 'static {
    /// At most `limit` source events with sequence numbers from `from` on, ascending without holes. Empty when
    /// nothing that old or newer is kept yet.
    ///
    /// # Errors
    ///
    /// [`BacklogError::Gone`] when `from` is older than what is kept.
    fn read(&self, from: u64, limit: usize) -> Result<Vec<Arc<Envelope>>, BacklogError>;
}

/// Why a backlog has no answer.
#[derive(Debug, thiserror::Error)]
pub enum BacklogError {
    /// The events are no longer kept.
    #[error("event {wanted} is no longer kept; the oldest is {oldest}")]
    Gone {
        /// The sequence number asked for.
        wanted: u64,
        /// The oldest that is kept.
        oldest: u64,
    },
    /// The backlog cannot be read.
    #[error("the backlog cannot be read: {0}")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The bus's end of a journal: a bounded queue into it, and how far it has come.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Arc<Envelope>>,
    recorded: Arc<AtomicU64>,
    failing: Arc<AtomicBool>,
}

impl Recorder {
    /// `recorded` is the sequence number up to which [`Backlog::read`] can answer.
    pub fn new(queue: mpsc::Sender<Arc<Envelope>>, recorded: Arc<AtomicU64>) -> Self {
        Self { queue, recorded, failing: Arc::default() }
    }

    /// A recorder whose journal says here when it cannot be written for the moment.
    pub fn with_health(self, failing: Arc<AtomicBool>) -> Self {
        Self { failing, ..self }
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    pub(crate) fn queue(&self) -> &mpsc::Sender<Arc<Envelope>> {
        &self.queue
    }

    /// The last sequence number that the journal holds.
    pub fn recorded(&self) -> u64 {
        self.recorded.load(Ordering::Acquire)
    }
}
