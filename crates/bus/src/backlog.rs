use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use headwater_events::Envelope;
use tokio::sync::{mpsc, watch};

/// Source events that are kept beyond the ring: what repairs a lag, and what a component is rebuilt from.
///
/// Calls may block on a disk; the bus makes them from a blocking thread.
pub trait Backlog: Send + Sync + 'static {
    /// At most `limit` source events with sequence numbers from `from` on, ascending without holes; fewer where they
    /// are large. Empty when nothing that old or newer is kept yet.
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

/// Whether the journal holds up whoever acts: it does not keep up, as the bus sees, or it cannot be written, as only the
/// journal itself knows.
#[derive(Clone, Debug, Default)]
pub struct JournalHealth(Arc<Health>);

#[derive(Debug, Default)]
struct Health {
    behind: AtomicBool,
    failing: AtomicBool,
    stalled: watch::Sender<bool>,
}

impl JournalHealth {
    /// Says that the journal cannot be written, or that it can again.
    pub fn set_failing(&self, failing: bool) {
        self.0.failing.store(failing, Ordering::Release);
        self.0.tell();
    }

    pub(crate) fn set_behind(&self, behind: bool) {
        self.0.behind.store(behind, Ordering::Release);
        self.0.tell();
    }

    pub(crate) fn stalled(&self) -> watch::Receiver<bool> {
        self.0.stalled.subscribe()
    }
}

impl Health {
    fn tell(&self) {
        self.stalled.send_if_modified(|stalled| {
            let now = self.behind.load(Ordering::Acquire) || self.failing.load(Ordering::Acquire);
            std::mem::replace(stalled, now) != now
        });
    }
}

/// The bus's end of a journal: a bounded queue into it, and how far it has come.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Arc<Envelope>>,
    recorded: Arc<AtomicU64>,
    health: JournalHealth,
}

impl Recorder {
    /// `recorded` is the sequence number up to which [`Backlog::read`] can answer.
    pub fn new(queue: mpsc::Sender<Arc<Envelope>>, recorded: Arc<AtomicU64>) -> Self {
        Self { queue, recorded, health: JournalHealth::default() }
    }

    /// Where the journal says that it cannot be written.
    pub fn health(&self) -> &JournalHealth {
        &self.health
    }

    pub(crate) fn queue(&self) -> &mpsc::Sender<Arc<Envelope>> {
        &self.queue
    }

    /// The last sequence number that the journal holds.
    pub fn recorded(&self) -> u64 {
        self.recorded.load(Ordering::Acquire)
    }
}
