use std::num::{NonZeroU64, NonZeroUsize};

use alloy_primitives::U256;
use headwater_market::PriceLimits;
use serde::{Deserialize, Serialize};

/// `[oracle]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OracleConfig {
    /// Source events that wait for the oracle; while it is full the forwarder waits. Default: 256.
    pub mailbox: NonZeroUsize,
    /// Wei of the native token that a pool, or the pair that is as deep, must hold for its price to count, as a decimal string.
    /// Default: 1 ether.
    pub min_base_reserve_wei: U256,
    /// Seconds over which the prices in pools are averaged. Default: 1,800.
    pub average_window_s: NonZeroU64,
    /// Parts per million by which a price in pools may lie from that of its token's Chainlink feed to be acted upon; 0: it is not
    /// held to feeds. Default: 50,000.
    pub max_feed_deviation_ppm: u32,
    /// The same for its time-weighted average. Default: 0, not held to averages.
    pub max_average_deviation_ppm: u32,
    /// Seconds by which an answer may be later than its feed's heartbeat: then the feed is stale, and its token's price is not
    /// acted upon. Default: 300.
    pub feed_grace_s: u64,
    /// Blocks after which each feed is asked again what it reads from. Default: 300.
    pub feed_recheck_blocks: NonZeroU64,
}

impl OracleConfig {
    /// What a price in pools is held to.
    pub fn limits(&self) -> PriceLimits {
        PriceLimits {
            average_window_s: self.average_window_s.get(),
            max_feed_deviation_ppm: self.max_feed_deviation_ppm,
            max_average_deviation_ppm: self.max_average_deviation_ppm,
        }
    }
}

impl Default for OracleConfig {
    fn default() -> Self {
        Self {
            mailbox: NonZeroUsize::new(256).expect("not zero"),
            min_base_reserve_wei: U256::from(1_000_000_000_000_000_000u64),
            average_window_s: NonZeroU64::new(1_800).expect("not zero"),
            max_feed_deviation_ppm: 50_000,
            max_average_deviation_ppm: 0,
            feed_grace_s: 300,
            feed_recheck_blocks: NonZeroU64::new(300).expect("not zero"),
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
    fn the_limits_are_those_of_the_market_unless_configured() {
        assert_eq!(OracleConfig::default().limits(), PriceLimits::default());
        let text = "average_window_s = 60\nmax_feed_deviation_ppm = 1\nmax_average_deviation_ppm = 2";
        let limits = toml::from_str::<OracleConfig>(text).expect("known keys").limits();
        let expected =
            PriceLimits { average_window_s: 60, max_feed_deviation_ppm: 1, max_average_deviation_ppm: 2 };
        assert_eq!(limits, expected);
    }

    #[test]
    fn amounts_are_decimal_strings_of_any_size_and_unknown_keys_are_refused() {
        check("", Some(1_000_000_000_000_000_000));
        check("min_base_reserve_wei = '50000000000000000000'", Some(50_000_000_000_000_000_000));
        check("min_base_reserve_wei = '0'", Some(0));
        check("min_base_reserve_wei = '1.5'", None);
        check("min_base_reserve = '1'", None);
        check("mailbox = 0", None);
        check("average_window_s = 0", None);
        check("feed_recheck_blocks = 0", None);
        check("max_deviation_ppm = 1", None);
    }
}
