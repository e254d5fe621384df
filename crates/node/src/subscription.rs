//! What a node pushes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::{Node, NodeError};

/// One pushed message.
#[derive(Clone, PartialEq, Eq)]
pub struct Notification {
    /// The `params.result` member as the node wrote it, a slice of the message.
    pub raw: Bytes,
    /// When the last byte of the message had been read from the socket.
    pub received_at: Instant,
    /// How many notifications of this subscription were dropped between the previous one and this one, because the
    /// queue was full. Not 0: there is a hole here, and the consumer has to fetch what it missed.
    pub missed: u64,
}

/// A live subscription. It ends (`recv` gives `None`) when the connection does; a new connection needs a new one.
///
/// The socket is read whether or not the consumer keeps up: when the queue is full the newest notification is dropped
/// and counted, and the next one that fits says how many are missing before it. Dropping the subscription stops the
/// delivery, but only [`Subscription::unsubscribe`] tells the node.
#[derive(Debug)]
pub struct Subscription {
    id: String,
    queue: mpsc::Receiver<Notification>,
    dropped: Arc<AtomicU64>,
    node: Node,
}

/// The sending end, held by the reader of the socket.
#[derive(Debug)]
pub(crate) struct Route {
    queue: mpsc::Sender<Notification>,
    dropped: Arc<AtomicU64>,
    missed: u64,
}

/// What became of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    Queued,
    Dropped,
    ConsumerGone,
}

/// The receiving end before the node has given the subscription its id.
#[derive(Debug)]
pub(crate) struct Receiving {
    queue: mpsc::Receiver<Notification>,
    dropped: Arc<AtomicU64>,
}

pub(crate) fn route(capacity: usize) -> (Route, Receiving) {
    let (sender, receiver) = mpsc::channel(capacity);
    let dropped = Arc::new(AtomicU64::new(0));
    (Route { queue: sender, dropped: dropped.clone(), missed: 0 }, Receiving { queue: receiver, dropped })
}

impl Route {
    pub(crate) fn deliver(&mut self, raw: Bytes, received_at: Instant) -> Delivery {
        match self.queue.try_send(Notification { raw, received_at, missed: self.missed }) {
            Ok(()) => {
                self.missed = 0;
                Delivery::Queued
            }
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.missed += 1;
                self.dropped.fetch_add(1, Relaxed);
                Delivery::Dropped
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Delivery::ConsumerGone,
        }
    }
}

impl Receiving {
    pub(crate) fn into_subscription(self, id: String, node: Node) -> Subscription {
        Subscription { id, queue: self.queue, dropped: self.dropped, node }
    }
}

impl Subscription {
    /// The next notification in the order of arrival; `None` once the connection is gone and the queue is drained.
    /// Cancel safe.
    pub async fn recv(&mut self) -> Option<Notification> {
        self.queue.recv().await
    }

    /// The next notification if one is waiting.
    pub fn try_recv(&mut self) -> Option<Notification> {
        self.queue.try_recv().ok()
    }

    /// Notifications dropped so far because the queue was full. It tells of a drop at once, also where nothing has
    /// come after it; [`Notification::missed`] tells where in the order the hole is.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Notifications that wait in the queue.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The id that the node gave it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The connection it lives on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Ends the subscription at the node (`eth_unsubscribe`) and here.
    ///
    /// # Errors
    /// As for any request; here it has ended in any case.
    pub async fn unsubscribe(self) -> Result<(), NodeError> {
        let Self { id, node, queue, .. } = self;
        let answer = node.request("eth_unsubscribe", [&id]).await;
        node.forget_subscription(&id);
        drop(queue);
        answer.map(drop)
    }
}

impl Notification {
    /// Parses the payload, borrowing from it where `T` borrows.
    ///
    /// # Errors
    /// [`NodeError::Decode`] where the payload is not a `T`.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, NodeError> {
        serde_json::from_slice(&self.raw).map_err(|error| NodeError::Decode { reason: error.to_string() })
    }
}

impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notification")
            .field("bytes", &self.raw.len())
            .field("received_at", &self.received_at)
            .field("missed", &self.missed)
            .finish()
    }
}
