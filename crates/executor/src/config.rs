use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use alloy_primitives::I256;
use serde::{Deserialize, Serialize};

/// `[executor]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecutorConfig {
    /// A finding with less net profit, in wei, is refused. Default 0.
    pub min_net_profit_wei: I256,
    /// Milliseconds for all simulations of one set together; what has no answer by then is refused. Keep it below the
    /// time between two blocks. Default 200.
    pub simulation_timeout_ms: NonZeroU64,
    /// Findings of one set that are simulated, the best first; the others are refused. Default 32.
    pub max_simulations_per_block: NonZeroU32,
    /// Simulations on their way to the node at a time. Default 8.
    pub concurrency: NonZeroUsize,
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        Self {
            min_net_profit_wei: I256::ZERO,
            simulation_timeout_ms: NonZeroU64::new(200).expect("not zero"),
            max_simulations_per_block: NonZeroU32::new(32).expect("not zero"),
            concurrency: NonZeroUsize::new(8).expect("not zero"),
        }
    }
}

impl ExecutorConfig {
    /// [`ExecutorConfig::simulation_timeout_ms`] as a duration.
    pub fn simulation_timeout(&self) -> Duration {
        Duration::from_millis(self.simulation_timeout_ms.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<ExecutorConfig>) {
        assert_eq!(toml::from_str(text).ok(), expected, "{text}");
    }

    #[test]
    fn defaults_stand_in_and_unknown_keys_are_refused() {
        let default = ExecutorConfig::default();
        check("", Some(default.clone()));
        let least = I256::try_from(1_000_000_000_000_000_000i64).expect("in range");
        check(
            "min_net_profit_wei = '1000000000000000000'",
            Some(ExecutorConfig { min_net_profit_wei: least, ..default.clone() }),
        );
        check(
            "min_net_profit_wei = '-5'",
            Some(ExecutorConfig { min_net_profit_wei: I256::unchecked_from(-5), ..default }),
        );
        check("concurrency = 0", None);
        check("min_profit = '1'", None);
    }
}
