//! The logs that are pushed beside the heads, and the block that they make.

use std::future::pending;
use std::time::Duration;

use alloy_primitives::BlockHash;
use headwater_abi::logs::FOLLOWED;
use headwater_events::{BlockEvent, Grade, Header};
use headwater_node::{Node, NodeError, Notification, Subscription};
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::fetch::Fetched;
use crate::parse::{parse_header, parse_pushed_log};
use crate::pushed::{Gathered, has_none};

/// The logs that a node pushes, and the head that it announced last.
///
/// A node does not say which log of a block is its last, and pushes heads and logs in any order. So a block's logs are
/// taken for all when its head is there and no further one has come for a while.
#[derive(Debug)]
pub(super) struct PushedLogs {
    subscription: Subscription,
    gathered: Gathered,
    /// The head that can be assumed, and when it came.
    head: Option<(Header, Instant)>,
    /// Logs that were dropped because we were too slow for them, up to the last head.
    dropped: u64,
    quiet: Duration,
}

impl PushedLogs {
    /// Asks for the logs that are decoded.
    pub(super) async fn subscribe(node: &Node, quiet: Duration) -> Result<Self, NodeError> {
        let subscription = node.subscribe("logs", json!({ "topics": [FOLLOWED] })).await?;
        Ok(Self { subscription, gathered: Gathered::default(), head: None, dropped: 0, quiet })
    }

    /// Takes note of an announced head. None can be assumed after logs that were dropped, or that cannot be read.
    pub(super) fn announced(&mut self, head: &Notification) {
        self.head = parse_header(&head.raw).ok().map(|header| (header, head.received_at));
        self.drain();
        let dropped = self.subscription.dropped();
        if dropped > self.dropped {
            warn!(dropped = dropped - self.dropped, "logs came faster than they were taken");
            (self.dropped, self.head) = (dropped, None);
        }
    }

    /// The block of the head that was announced last, once its logs are taken for all; never, if it is another one or
    /// nothing can be assumed. Cancel-safe.
    pub(super) async fn assumed(&mut self, hash: BlockHash) -> Fetched {
        loop {
            self.drain();
            let Some((header, head_at)) = self.head.as_ref().filter(|(header, _)| header.hash == hash) else {
                return pending().await;
            };
            let due = match self.gathered.last_at(hash) {
                Some(last_at) => Some(last_at.max(*head_at) + self.quiet),
                None => has_none(&header.logs_bloom).then_some(*head_at),
            };
            tokio::select! {
                biased;
                pushed = self.subscription.recv() => match pushed {
                    Some(pushed) => self.take(&pushed),
                    None => return pending().await,
                },
                () = sleep_until(due.unwrap_or(*head_at)), if due.is_some() => {
                    let received_at = self.gathered.last_at(hash).map_or(*head_at, |last| last.max(*head_at));
                    let (header, logs) = (header.clone(), self.gathered.logs(hash));
                    let block = BlockEvent { header, transactions: Vec::new(), logs, grade: Grade::Assumed };
                    return Fetched { block, received_at, retries: 0 };
                }
            }
        }
    }

    fn drain(&mut self) {
        while let Some(pushed) = self.subscription.try_recv() {
            self.take(&pushed);
        }
    }

    fn take(&mut self, pushed: &Notification) {
        match parse_pushed_log(&pushed.raw) {
            Ok(log) => self.gathered.take(log, pushed.received_at),
            Err(error) => {
                warn!(%error, "malformed pushed log");
                self.head = None;
            }
        }
    }
}
