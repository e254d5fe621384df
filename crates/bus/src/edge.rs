use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// One connection between two parts: what it is, and what went over it.
///
/// The sender counts what it handed over, the receiver what it processed, and whoever gives an event up counts that;
/// so that on every edge that has come to rest `accepted = processed + Σ dropped`, or something was lost.
#[derive(Debug)]
pub struct Edge {
    /// Where it begins.
    pub from: Cow<'static, str>,
    /// Where it ends.
    pub to: Cow<'static, str>,
    /// What travels on it, in words.
    pub carries: &'static str,
    /// The kind of channel.
    pub channel: Channel,
    /// How many items it holds.
    pub capacity: usize,
    /// What happens when it is full or its reader is behind.
    pub policy: OverflowPolicy,
    accepted: AtomicU64,
    processed: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
}

/// The kinds of channel that edges are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Each reader sees every event.
    Broadcast,
    /// Point to point.
    Mpsc,
    /// The last few values.
    Watch,
}

/// What happens when an edge is full or its reader is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OverflowPolicy {
    /// The sender waits.
    Wait,
    /// The newest is dropped and counted.
    DropNewest,
    /// The oldest value falls off.
    Latest,
    /// A lagging reader is repaired from the ring, then from the journal; beyond both it is told to rebuild.
    Repair,
}

/// Why an event that was handed over was not processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// The queue was full and its policy is to drop.
    Full,
    /// A newer one makes it pointless.
    Superseded,
    /// It came a second time, after its sender was restarted.
    Repeated,
    /// It could not be processed and was set aside.
    Quarantined,
    /// It was no longer kept anywhere when its reader asked for it.
    Lost,
    /// Its reader was told to stop without draining.
    Abandoned,
}

impl DropReason {
    /// Every reason, in the order of their counters.
    pub const ALL: [Self; 6] =
        [Self::Full, Self::Superseded, Self::Repeated, Self::Quarantined, Self::Lost, Self::Abandoned];

    /// As written in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Superseded => "superseded",
            Self::Repeated => "repeated",
            Self::Quarantined => "quarantined",
            Self::Lost => "lost",
            Self::Abandoned => "abandoned",
        }
    }
}

impl Edge {
    /// Counts `count` items handed over by the sender.
    pub fn accept(&self, count: u64) {
        self.accepted.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts `count` items that the receiver is done with.
    pub fn process(&self, count: u64) {
        self.processed.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts `count` items given up.
    pub fn drop_for(&self, reason: DropReason, count: u64) {
        self.dropped[reason as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// What went over the edge so far.
    pub fn counts(&self) -> Counts {
        Counts {
            accepted: self.accepted.load(Ordering::Relaxed),
            processed: self.processed.load(Ordering::Relaxed),
            dropped: DropReason::ALL.map(|reason| self.dropped[reason as usize].load(Ordering::Relaxed)),
        }
    }

    /// The edge and its counts, for results.
    pub fn report(&self) -> EdgeReport {
        EdgeReport {
            from: self.from.to_string(),
            to: self.to.to_string(),
            carries: self.carries,
            channel: self.channel,
            capacity: self.capacity,
            policy: self.policy,
            counts: self.counts(),
        }
    }
}

/// What went over an edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Handed over by the sender.
    pub accepted: u64,
    /// Done with by the receiver.
    pub processed: u64,
    /// Given up, in the order of [`DropReason::ALL`].
    pub dropped: [u64; DropReason::ALL.len()],
}

impl Counts {
    /// Given up for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Given up for `reason`.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Whether everything that was handed over is accounted for. True only once the edge has come to rest.
    pub fn conserved(&self) -> bool {
        self.accepted == self.processed + self.dropped_total()
    }
}

/// An edge as results show it.
#[derive(Clone, Debug, Serialize)]
pub struct EdgeReport {
    /// Where it begins.
    pub from: String,
    /// Where it ends.
    pub to: String,
    /// What travels on it.
    pub carries: &'static str,
    /// The kind of channel.
    pub channel: Channel,
    /// How many items it holds.
    pub capacity: usize,
    /// What happens when it is full.
    pub policy: OverflowPolicy,
    /// What went over it.
    pub counts: Counts,
}

/// All edges of a running system, in the order in which they were wired: the graph is drawn from these.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    edges: Arc<Mutex<Vec<Arc<Edge>>>>,
}

impl Topology {
    /// No edges yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an edge.
    pub fn edge(
        &self,
        from: impl Into<Cow<'static, str>>,
        to: impl Into<Cow<'static, str>>,
        carries: &'static str,
        channel: Channel,
        capacity: usize,
        policy: OverflowPolicy,
    ) -> Arc<Edge> {
        let edge = Arc::new(Edge {
            from: from.into(),
            to: to.into(),
            carries,
            channel,
            capacity,
            policy,
            accepted: AtomicU64::new(0),
            processed: AtomicU64::new(0),
            dropped: Default::default(),
        });
        self.edges.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&edge));
        edge
    }

    /// Every edge with its counts.
    pub fn report(&self) -> Vec<EdgeReport> {
        self.edges.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|edge| edge.report()).collect()
    }
}
