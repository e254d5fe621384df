use std::fmt;
use std::sync::Arc;

use headwater_events::PendingTxEvent;

use crate::bus::Closed;
use crate::mailbox::{DropNewest, Message, Outlet};

/// The mempool's own broadcast: every subscriber has an edge of its own, and what does not fit into its mailbox is dropped and
/// counted there. It never waits, and has nothing to do with the lane of the source events.
#[derive(Default)]
pub struct Mempool {
    subscribers: Vec<Tell>,
}

/// Offers a transaction to one mailbox.
type Tell = Box<dyn Fn(Arc<PendingTxEvent>) -> Result<bool, Closed> + Send + Sync>;

impl Mempool {
    /// Nobody hears anything yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whoever reads the mailbox hears of every transaction from now on.
    pub fn subscribe<M: Message + From<Arc<PendingTxEvent>>>(&mut self, outlet: Outlet<M, DropNewest>) {
        self.subscribers.push(Box::new(move |pending| outlet.offer(pending.into())));
    }

    /// Tells every subscriber; one that reads no longer is passed over.
    pub fn announce(&self, pending: &Arc<PendingTxEvent>) {
        for tell in &self.subscribers {
            let _ = tell(Arc::clone(pending));
        }
    }
}

impl fmt::Debug for Mempool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mempool").field("subscribers", &self.subscribers.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256, Bytes, U256};
    use headwater_events::Transaction;

    use super::*;
    use crate::{DropReason, Mailbox, Topology};

    #[derive(Debug)]
    struct Seen;

    impl Message for Seen {
        fn seq(&self) -> Option<u64> {
            None
        }
    }

    impl From<Arc<PendingTxEvent>> for Seen {
        fn from(_: Arc<PendingTxEvent>) -> Self {
            Self
        }
    }

    #[tokio::test]
    async fn a_slow_subscriber_loses_what_it_has_no_room_for_and_delays_nobody() {
        let topology = Topology::new();
        let (slow, fast) =
            (Mailbox::<Seen>::new(&topology, "slow", 2), Mailbox::<Seen>::new(&topology, "fast", 9));
        let mut mempool = Mempool::new();
        let outlets = [&slow, &fast].map(|mailbox| mailbox.dropping("mempool", "pending transactions"));
        let edges = outlets.each_ref().map(|outlet| Arc::clone(outlet.edge()));
        outlets.into_iter().for_each(|outlet| mempool.subscribe(outlet));
        let transaction = Transaction {
            hash: B256::ZERO,
            from: Address::ZERO,
            to: None,
            value: U256::ZERO,
            input: Bytes::new(),
            nonce: 0,
            gas_limit: 0,
        };
        let pending = PendingTxEvent { transaction, max_fee_per_gas: 1, max_priority_fee_per_gas: None };
        let pending = Arc::new(pending);
        (0..5).for_each(|_| mempool.announce(&pending));
        drop(mempool);
        for mailbox in [slow, fast] {
            let inbox = mailbox.into_inbox();
            let mut inbox = crate::Inbox::lock(&inbox).await;
            while inbox.fill().await {
                inbox.complete();
            }
        }
        let counts = edges.map(|edge| edge.counts());
        assert_eq!(counts.map(|counts| (counts.accepted, counts.processed)), [(5, 2), (5, 5)]);
        assert_eq!(counts[0].dropped_for(DropReason::Full), 3);
        assert!(counts.iter().all(|counts| counts.conserved()));
    }
}
