use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[state]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateConfig {
    /// Source events that wait for the state; while it is full the forwarder waits. Default: 256.
    pub mailbox: NonZeroUsize,
    /// Whether an unknown contract that emits `Sync` is looked up while the chain goes on. Default: true.
    pub lazy_loading: bool,
    /// Unknown contracts that wait to be looked up; further ones are dropped and counted, and asked again when they
    /// trade again. Default: 1,024.
    pub load_requests: NonZeroUsize,
    /// Contracts that were looked up and are no pool of ours that are remembered, so that nobody is asked about them
    /// again; the oldest is forgotten first. Default: 65,536.
    pub remembered_refusals: NonZeroUsize,
    /// Milliseconds until a failed look-up, or the initial load, is tried again; doubles with every failure in a row. Default: 250.
    pub first_retry_ms: NonZeroU64,
    /// Milliseconds between two tries at most, up to 5,000. Default: 4,000.
    pub greatest_retry_ms: NonZeroU64,
    /// Comparing what is followed with the node.
    pub tripwire: TripwireConfig,
}

/// `[state.tripwire]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TripwireConfig {
    /// Whether the node is asked at all. Default: false.
    pub enabled: bool,
    /// Blocks from one sample to the next. Default: 1.
    pub every_blocks: NonZeroU64,
    /// Pools of a sample at most. Default: 4.
    pub pools: NonZeroUsize,
    /// Initialised ticks of a pool of Uniswap V3 or V4 that are compared at a time; they take turns. Default: 8.
    pub ticks: usize,
    /// Calls that a sample costs at most, the second opinion on each difference included; 11 at least. A sample has fewer pools
    /// where that is not enough. Default: 64.
    pub calls: NonZeroUsize,
    /// Pools that are quarantined within 256 blocks at most; where more differ, the endpoint is not believed. Default: 8.
    pub most_quarantined: NonZeroUsize,
}

impl TripwireConfig {
    /// Enough for one pool at least.
    pub(crate) fn budget(&self) -> usize {
        self.calls.get().max(11)
    }
}

impl Default for TripwireConfig {
    fn default() -> Self {
        let size = |size| NonZeroUsize::new(size).expect("not zero");
        Self {
            enabled: false,
            every_blocks: NonZeroU64::MIN,
            pools: size(4),
            ticks: 8,
            calls: size(64),
            most_quarantined: size(8),
        }
    }
}

/// Two tries with their pauses must end before the supervisor takes the loader for stalled.
const GREATEST_RETRY: Duration = Duration::from_secs(5);

impl StateConfig {
    /// How long to pause after so many failures in a row.
    pub(crate) fn retry_after(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let greatest = Duration::from_millis(self.greatest_retry_ms.get()).min(GREATEST_RETRY);
        Duration::from_millis(self.first_retry_ms.get())
            .saturating_mul(2u32.saturating_pow(doublings))
            .min(greatest)
    }
}

impl Default for StateConfig {
    fn default() -> Self {
        let size = |size| NonZeroUsize::new(size).expect("not zero");
        let millis = |millis| NonZeroU64::new(millis).expect("not zero");
        Self {
            mailbox: size(256),
            lazy_loading: true,
            load_requests: size(1_024),
            remembered_refusals: size(65_536),
            first_retry_ms: millis(250),
            greatest_retry_ms: millis(4_000),
            tripwire: TripwireConfig::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_the_default_and_unknown_keys_and_zeros_are_refused() {
        let parse = |text| toml::from_str::<StateConfig>(text);
        assert_eq!(parse("").expect("every value has a default"), StateConfig::default());
        assert!(parse("lazy = true").is_err());
        assert!(parse("mailbox = 0").is_err());
        assert!(parse("[tripwire]\npool = 1").is_err());
        assert!(!parse("").expect("a default").tripwire.enabled);
        assert!(!parse("lazy_loading = false").expect("a known key").lazy_loading);
    }

    #[test]
    fn the_pause_doubles_up_to_its_greatest() {
        let config = StateConfig::default();
        let pauses = [0, 1, 2, 3, 5, 40].map(|failures| config.retry_after(failures).as_millis());
        assert_eq!(pauses, [0, 250, 500, 1_000, 4_000, 4_000]);
        let hour = NonZeroU64::new(3_600_000).expect("not zero");
        let patient = StateConfig { greatest_retry_ms: hour, ..config };
        assert_eq!(patient.retry_after(40), GREATEST_RETRY);
    }
}
