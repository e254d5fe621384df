use std::collections::{HashSet, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;

use alloy_primitives::TxHash;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use headwater_actor::{ActorHandle, RestartPolicy, Source, StopSignal, System};
use headwater_bus::Mempool;
use headwater_node::{Node, NodeConfig, NodeError, Notification, Redial, Reply, Subscription};
use serde::Serialize;
use tracing::{debug, info, warn};

use crate::parse::parse_pending;

/// Shows the pending transactions of a node to the mempool's broadcast, whole: as the node pushes them, or asked for by the
/// hashes that it pushes.
///
/// It has a connection of its own and publishes no source event: nothing that happens here delays a block.
#[derive(Clone, Debug)]
pub struct MempoolIngest {
    node: Redial,
    mempool: Arc<Mempool>,
    max_in_flight: NonZeroUsize,
    status: MempoolStatus,
}

/// What can be seen from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MempoolStatus {
    /// Transactions and hashes that the node pushed.
    pub pushed: u64,
    /// Shown to the broadcast.
    pub shown: u64,
    /// Pushed again.
    pub repeated: u64,
    /// Asked for by their hash.
    pub asked: u64,
    /// Of these, such that the node did not give: mined already, gone, or no answer came.
    pub ungiven: u64,
    /// Hashes that were dropped because too many were asked for; one that is pushed again is new.
    pub dropped: u64,
    /// Pushed while we were too slow, and dropped by the connection.
    pub missed: u64,
    /// Such as could not be read, or are of a type that is not followed.
    pub malformed: u64,
    /// Connections that were lost.
    pub lost: u64,
}

/// The last hashes that were asked for or shown, so that none is twice. One that was dropped is none of them.
#[derive(Debug, Default)]
struct Recent {
    known: HashSet<TxHash>,
    order: VecDeque<TxHash>,
}

/// Hashes that are remembered.
const REMEMBERED: usize = 16_384;

impl Recent {
    /// Whether it is among the last ones.
    fn holds(&self, hash: &TxHash) -> bool {
        self.known.contains(hash)
    }

    /// Says whether it was not among the last ones yet.
    fn insert(&mut self, hash: TxHash) -> bool {
        if !self.known.insert(hash) {
            return false;
        }
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(hash);
        true
    }
}

impl MempoolIngest {
    /// Nothing is connected to before it runs. At most `max_in_flight` hashes are asked for at the same time.
    pub fn new(node: &NodeConfig, max_in_flight: NonZeroUsize, mempool: Mempool) -> Self {
        Self {
            node: Redial::new(node.clone()),
            mempool: Arc::new(mempool),
            max_in_flight,
            status: MempoolStatus::default(),
        }
    }

    /// Runs it as the actor `mempool`.
    pub fn spawn(self, system: &System, policy: RestartPolicy) -> ActorHandle<MempoolStatus> {
        system.spawn_source("mempool", policy, move |_| {
            let source = self.clone();
            async move { Ok(source) }
        })
    }

    async fn follow(&mut self, observe: &(dyn Fn(MempoolStatus) + Send + Sync)) -> Result<(), NodeError> {
        let node = self.node.node().await?;
        let mut pushed = subscribe(&node).await?;
        let mut recent = Recent::default();
        let mut asked = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(answer) = asked.next(), if !asked.is_empty() => self.take_answer(answer),
                notification = pushed.recv() => {
                    let Some(notification) = notification else { return Ok(()) };
                    let has_room = asked.len() < self.max_in_flight.get();
                    if let Some(hash) = self.take(&notification, &mut recent, has_room) {
                        asked.push(ask(node.clone(), hash));
                    }
                }
            }
            observe(self.status.clone());
        }
    }

    /// Takes what was pushed; a hash whose transaction is to be asked for, which needs room, is given back.
    fn take(&mut self, notification: &Notification, recent: &mut Recent, has_room: bool) -> Option<TxHash> {
        self.status.pushed += 1;
        self.status.missed += notification.missed;
        if notification.raw.first() != Some(&b'"') {
            self.show(&notification.raw, Some(recent));
            return None;
        }
        let hash = match notification.parse::<TxHash>() {
            Ok(hash) => hash,
            Err(error) => {
                debug!(%error, "malformed hash of a pending transaction");
                self.status.malformed += 1;
                return None;
            }
        };
        if recent.holds(&hash) {
            self.status.repeated += 1;
            return None;
        }
        if !has_room {
            self.status.dropped += 1;
            return None;
        }
        recent.insert(hash);
        self.status.asked += 1;
        Some(hash)
    }

    fn take_answer(&mut self, answer: Result<Reply, NodeError>) {
        match answer {
            Ok(reply) if !reply.is_null() => self.show(&reply.raw, None),
            Ok(_) | Err(_) => self.status.ungiven += 1,
        }
    }

    fn show(&mut self, text: &[u8], recent: Option<&mut Recent>) {
        match parse_pending(text) {
            Ok(Some(pending)) => {
                if recent.is_some_and(|recent| !recent.insert(pending.transaction.hash)) {
                    self.status.repeated += 1;
                    return;
                }
                self.status.shown += 1;
                self.mempool.announce(&Arc::new(pending));
            }
            Ok(None) => self.status.ungiven += 1,
            Err(error) => {
                debug!(%error, "a pending transaction is passed over");
                self.status.malformed += 1;
            }
        }
    }
}

/// Whole transactions where the node pushes them (geth, reth, erigon), hashes where it does not know the parameter.
async fn subscribe(node: &Node) -> Result<Subscription, NodeError> {
    match node.subscribe("newPendingTransactions", true).await {
        Err(error) if error.rpc().is_some() => node.subscribe("newPendingTransactions", ()).await,
        other => other,
    }
}

async fn ask(node: Node, hash: TxHash) -> Result<Reply, NodeError> {
    node.request("eth_getTransactionByHash", [hash]).await
}

impl Source for MempoolIngest {
    type Observed = MempoolStatus;

    async fn run(
        &mut self,
        mut stop: StopSignal,
        observe: &(dyn Fn(MempoolStatus) + Send + Sync),
    ) -> anyhow::Result<()> {
        loop {
            let ended = tokio::select! {
                biased;
                () = stop.stopped() => return Ok(()),
                ended = self.follow(observe) => ended,
            };
            self.status.lost += 1;
            match ended {
                Ok(()) => info!("the mempool's connection is gone"),
                Err(error) => warn!(%error, "the mempool cannot be followed"),
            }
            observe(self.status.clone());
            tokio::select! {
                () = stop.stopped() => return Ok(()),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

/// From a lost connection to the next attempt.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

#[cfg(test)]
mod tests;
