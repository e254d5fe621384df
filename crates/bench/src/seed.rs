//! The pattern that Headwater began from, built by us to be measured beside it: an event bus that broadcasts events
//! by value, boxed handlers that say on every event what they care for, and receipts parsed into their full types.
//!
//! It is written as it is usually written, not worse: one broadcast channel, one task a handler, `serde_json` into typed
//! receipts, the same search over the same tables as Headwater's.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;

use alloy_primitives::{Address, B256, U256};
use alloy_rpc_types_eth::{Block, Transaction, TransactionReceipt};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

/// What handlers say they care for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeedKind {
    /// A block.
    Block,
    /// Decoded swaps.
    Decoded,
    /// What was found in a block.
    Opportunities,
}

/// What travels on the bus, by value.
#[derive(Clone, Debug)]
pub enum SeedEvent {
    /// A block with its receipts, and with its transactions where the bot is given them.
    Block {
        /// Its height.
        number: u64,
        /// Its hash.
        hash: B256,
        /// Everything that it did.
        receipts: Vec<TransactionReceipt>,
        /// What it was made of; empty where nobody asked for it.
        transactions: Vec<Transaction>,
    },
    /// The reserves that a block left.
    Decoded {
        /// Its height.
        number: u64,
        /// Its hash.
        hash: B256,
        /// By pool.
        reserves: HashMap<Address, (U256, U256)>,
    },
    /// What was found in a block.
    Opportunities {
        /// Its hash.
        hash: B256,
        /// The pools and the profit of each, in smallest units.
        findings: Vec<(Vec<Address>, U256)>,
    },
}

impl SeedEvent {
    /// Of which kind it is.
    pub fn kind(&self) -> SeedKind {
        match self {
            Self::Block { .. } => SeedKind::Block,
            Self::Decoded { .. } => SeedKind::Decoded,
            Self::Opportunities { .. } => SeedKind::Opportunities,
        }
    }
}

/// What a handler's work is, boxed.
pub type Handling<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A subscriber of the seed's bus.
pub trait SeedHandler: Send + 'static {
    /// What it cares for, said anew on every event.
    fn interested_in(&self) -> Vec<SeedKind>;
    /// Takes an event.
    fn handle(&mut self, event: SeedEvent) -> Handling<'_>;
}

/// The bus: one broadcast of events by value.
#[derive(Clone, Debug)]
pub struct SeedBus {
    sender: broadcast::Sender<SeedEvent>,
}

impl SeedBus {
    /// A bus that holds so many events.
    pub fn new(capacity: usize) -> Self {
        Self { sender: broadcast::Sender::new(capacity) }
    }

    /// Says something; nobody listening is no error.
    pub fn publish(&self, event: SeedEvent) {
        let _ = self.sender.send(event);
    }

    /// Runs a handler on its own task until the bus is gone. What it misses, it misses.
    pub fn register(&self, mut handler: impl SeedHandler) -> JoinHandle<()> {
        let mut events = self.sender.subscribe();
        tokio::spawn(async move {
            loop {
                match events.recv().await {
                    Ok(event) if handler.interested_in().contains(&event.kind()) => {
                        handler.handle(event).await
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        })
    }
}

/// Parses receipts into their full types.
///
/// # Errors
///
/// What `serde_json` says.
pub fn parse_receipts(json: &[u8]) -> serde_json::Result<Vec<TransactionReceipt>> {
    serde_json::from_slice(json)
}

/// Parses a block's transactions into their full types.
///
/// # Errors
///
/// What `serde_json` says.
pub fn parse_transactions(json: &[u8]) -> serde_json::Result<Vec<Transaction>> {
    serde_json::from_slice(json).map(|block: Block| block.transactions.into_transactions_vec())
}

/// Decodes `Sync` logs into reserves, the last of each pool.
pub struct SeedDecoder {
    /// Where it publishes.
    pub bus: SeedBus,
    /// keccak-256 of `Sync(uint112,uint112)`.
    pub sync_topic: B256,
}

impl std::fmt::Debug for SeedDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeedDecoder").finish_non_exhaustive()
    }
}

impl SeedHandler for SeedDecoder {
    fn interested_in(&self) -> Vec<SeedKind> {
        vec![SeedKind::Block]
    }

    fn handle(&mut self, event: SeedEvent) -> Handling<'_> {
        Box::pin(async move {
            let SeedEvent::Block { number, hash, receipts, .. } = event else { return };
            let logs = receipts.iter().flat_map(TransactionReceipt::logs);
            let reserves = logs
                .filter(|log| log.topic0() == Some(&self.sync_topic) && log.data().data.len() == 64)
                .map(|log| {
                    let data = &log.data().data;
                    let words = (U256::from_be_slice(&data[..32]), U256::from_be_slice(&data[32..]));
                    (log.address(), words)
                })
                .collect();
            self.bus.publish(SeedEvent::Decoded { number, hash, reserves });
        })
    }
}

/// A handler that looks at every block and does nothing: the oracle, the metrics, the recorder of a typical bot.
#[derive(Debug, Default)]
pub struct SeedObserver {
    /// Blocks seen.
    pub blocks: u64,
}

impl SeedHandler for SeedObserver {
    fn interested_in(&self) -> Vec<SeedKind> {
        vec![SeedKind::Block]
    }

    fn handle(&mut self, _event: SeedEvent) -> Handling<'_> {
        Box::pin(async move { self.blocks += 1 })
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Bloom, Bytes};

    use super::*;

    #[tokio::test]
    async fn a_block_comes_out_as_reserves() {
        let bus = SeedBus::new(16);
        let mut events = bus.sender.subscribe();
        let sync_topic = B256::repeat_byte(7);
        bus.register(SeedDecoder { bus: bus.clone(), sync_topic });
        let log = serde_json::json!({
            "address": Address::repeat_byte(1), "topics": [sync_topic], "data": Bytes::from(vec![1; 64]),
            "blockHash": B256::ZERO, "blockNumber": "0x1", "transactionHash": B256::ZERO, "transactionIndex": "0x0",
            "logIndex": "0x0", "removed": false,
        });
        let receipt = serde_json::json!({
            "transactionHash": B256::ZERO, "transactionIndex": "0x0", "blockHash": B256::ZERO, "blockNumber": "0x1",
            "from": Address::ZERO, "to": null, "cumulativeGasUsed": "0x5208", "gasUsed": "0x5208",
            "effectiveGasPrice": "0x1", "contractAddress": null, "logs": [log], "logsBloom": Bloom::ZERO,
            "status": "0x1", "type": "0x2",
        });
        let json = serde_json::to_vec(&[receipt]).expect("it is JSON");
        let receipts = parse_receipts(&json).expect("it is a receipt");
        let transactions = Vec::new();
        bus.publish(SeedEvent::Block { number: 1, hash: B256::ZERO, receipts, transactions });
        assert!(matches!(events.recv().await, Ok(SeedEvent::Block { .. })));
        let Ok(SeedEvent::Decoded { reserves, .. }) = events.recv().await else { panic!("not decoded") };
        let expected = U256::from_be_bytes([1u8; 32]);
        assert_eq!(reserves.get(&Address::repeat_byte(1)), Some(&(expected, expected)));
    }
}
