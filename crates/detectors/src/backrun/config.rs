use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use headwater_market::PoolLimits;
use headwater_simulation::Limits;
use serde::{Deserialize, Serialize};

/// `[mempool]`: pending transactions and what can be gained behind them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MempoolConfig {
    /// Whether the node is asked for pending transactions at all. Default false.
    pub enabled: bool,
    /// The most transactions that are kept; the oldest goes first. Default 4,096.
    pub max_transactions: NonZeroUsize,
    /// The most bytes of them all. Default 16 MiB.
    pub max_bytes: NonZeroUsize,
    /// Seconds after which one is forgotten that was not mined. Default 120.
    pub max_age_s: NonZeroU64,
    /// How many of those that are kept are looked at again behind a new block, the newest first. Default 64.
    pub max_per_block: NonZeroUsize,
    /// Milliseconds for the effect of one transaction. Default 100.
    pub effect_timeout_ms: NonZeroU64,
    /// Seconds from one block to the next: when a pending transaction is taken to be mined. Default 12.
    pub block_time_s: u64,
    /// The most gas of a transaction that is executed; one that is allowed more has no effect here. Default 3,000,000.
    pub max_gas: NonZeroU64,
    /// The most accounts and words of storage that are fetched for the transactions behind one block. Default 4,096.
    pub max_fetched: NonZeroUsize,
    /// Transactions of which only the hash is known that are asked for at the same time; more are dropped and counted. Default
    /// 64.
    pub max_in_flight: NonZeroUsize,
}

impl Default for MempoolConfig {
    fn default() -> Self {
        const fn usize(number: usize) -> NonZeroUsize {
            NonZeroUsize::new(number).expect("not zero")
        }
        const fn u64(number: u64) -> NonZeroU64 {
            NonZeroU64::new(number).expect("not zero")
        }
        Self {
            enabled: false,
            max_transactions: const { usize(4_096) },
            max_bytes: const { usize(16 << 20) },
            max_age_s: const { u64(120) },
            max_per_block: const { usize(64) },
            effect_timeout_ms: const { u64(100) },
            block_time_s: 12,
            max_gas: const { u64(3_000_000) },
            max_fetched: const { usize(4_096) },
            max_in_flight: const { usize(64) },
        }
    }
}

impl MempoolConfig {
    /// What is kept.
    pub fn pool(&self) -> PoolLimits {
        PoolLimits {
            transactions: self.max_transactions.get(),
            bytes: self.max_bytes.get(),
            age: Duration::from_secs(self.max_age_s.get()),
        }
    }

    /// What an execution may take.
    pub fn limits(&self, chain_id: u64) -> Limits {
        Limits {
            chain_id,
            block_time_s: self.block_time_s,
            max_gas: self.max_gas.get(),
            max_fetched: self.max_fetched.get(),
        }
    }

    /// For the effect of one transaction.
    pub fn effect_timeout(&self) -> Duration {
        Duration::from_millis(self.effect_timeout_ms.get())
    }
}
