use std::num::NonZeroUsize;

use alloy_primitives::U256;
use serde::{Deserialize, Serialize};

/// `[oracle]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OracleConfig {
    /// Source events that wait for the oracle; while it is full the forwarder waits. Default: 256.
    pub mailbox: NonZeroUsize,
    /// Wei of the wrapped native token that a pool must hold for its price to count, as a decimal string.
    /// Default: 1 ether.
    pub min_base_reserve_wei: U256,
}

impl Default for OracleConfig {
    fn default() -> Self {
        Self {
            mailbox: NonZeroUsize::new(256).expect("not zero"),
            min_base_reserve_wei: U256::from(1_000_000_000_000_000_000u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, least_wei: Option<u128>) {
        let config = toml::from_str::<OracleConfig>(text);
        let found = config.ok().map(|config| config.min_base_reserve_wei);
        assert_eq!(found, least_wei.map(U256::from), "{text}");
    }

    #[test]
    fn amounts_are_decimal_strings_of_any_size_and_unknown_keys_are_refused() {
        check("", Some(1_000_000_000_000_000_000));
        check("min_base_reserve_wei = '50000000000000000000'", Some(50_000_000_000_000_000_000));
        check("min_base_reserve_wei = '0'", Some(0));
        check("min_base_reserve_wei = '1.5'", None);
        check("min_base_reserve = '1'", None);
        check("mailbox = 0", None);
    }
}
