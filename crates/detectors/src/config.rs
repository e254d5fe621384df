use alloy_primitives::U256;
use headwater_events::Protocol;
use serde::{Deserialize, Serialize};

use crate::ConfigError;

/// The `[detectors]` table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The built-in search for arbitrage.
    pub arbitrage: ArbitrageConfig,
    /// The built-in search for positions that may be liquidated; it runs where a lending pool is configured.
    pub liquidation: LiquidationConfig,
}

/// The `[detectors.arbitrage]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArbitrageConfig {
    /// The longest cycle that is searched: 2 to 4 pools. Default 3; there are many more cycles of 4.
    pub max_hops: MaxHops,
    /// The least profit after gas, in wei, that is worth reporting; a decimal string. What leaves nothing after gas is
    /// never reported, not even with the default of `"0"`.
    pub min_net_profit_wei: U256,
    /// Whether only what remains profitable after gas is reported. Default true. With false every cycle that gains a
    /// unit of its base token is reported, whatever gas costs and whether or not its token has a price; for research.
    pub profit_after_gas: bool,
    /// Gas of a transaction before its first swap: 21,000 for being one, and the executing contract's own work. Default
    /// 40,000.
    pub gas_base: u64,
    /// Gas of one swap through a constant-product pool with its two token transfers. Default 70,000; tokens with
    /// logic of their own take more.
    pub gas_per_hop: u64,
    /// Gas of one swap through a pool of Uniswap V3 or V4 with its callback, without the ticks that it crosses. Default 120,000.
    pub gas_per_v3_hop: u64,
    /// Gas of an initialised tick that it crosses: three words of storage that change, and one that is read. Default 22,000.
    pub gas_per_crossing: u64,
}

impl Default for ArbitrageConfig {
    fn default() -> Self {
        Self {
            max_hops: MaxHops::THREE,
            min_net_profit_wei: U256::ZERO,
            profit_after_gas: true,
            gas_base: 40_000,
            gas_per_hop: 70_000,
            gas_per_v3_hop: 120_000,
            gas_per_crossing: 22_000,
        }
    }
}

impl ArbitrageConfig {
    /// Gas that a cycle through such pools and over so many initialised ticks is expected to use.
    pub fn gas(&self, hops: impl IntoIterator<Item = Protocol>, crossings: u32) -> u64 {
        let Self { gas_base, gas_per_hop, gas_per_v3_hop, gas_per_crossing, .. } = *self;
        Gas { base: gas_base, hop: gas_per_hop, v3_hop: gas_per_v3_hop, crossing: gas_per_crossing }
            .of(hops, crossings)
    }
}

/// What the parts of a transaction are expected to use.
struct Gas {
    base: u64,
    hop: u64,
    v3_hop: u64,
    crossing: u64,
}

impl Gas {
    fn of(&self, hops: impl IntoIterator<Item = Protocol>, crossings: u32) -> u64 {
        let of_hop = |protocol| match protocol {
            Protocol::UniswapV2 => self.hop,
            Protocol::UniswapV3 | Protocol::UniswapV4 => self.v3_hop,
        };
        let ticks = self.crossing.saturating_mul(crossings.into());
        hops.into_iter().map(of_hop).fold(self.base.saturating_add(ticks), u64::saturating_add)
    }
}

/// The `[detectors.liquidation]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LiquidationConfig {
    /// The least profit after gas, in wei, that is worth reporting; a decimal string. What leaves nothing after gas is
    /// never reported, not even with the default of `"0"`.
    pub min_net_profit_wei: U256,
    /// Whether only what remains profitable after gas is reported. Default true. With false every position that may be
    /// liquidated is reported, whether or not a pool buys its collateral; for research.
    pub profit_after_gas: bool,
    /// Gas of a transaction with a liquidation call, before its first swap. Default 450,000.
    pub gas_base: u64,
    /// Gas of one swap through a constant-product pool with its two token transfers. Default 70,000.
    pub gas_per_hop: u64,
    /// Gas of one swap through a pool of Uniswap V3 or V4 with its callback, without the ticks that it crosses. Default 120,000.
    pub gas_per_v3_hop: u64,
    /// Gas of an initialised tick that it crosses. Default 22,000.
    pub gas_per_crossing: u64,
}

impl Default for LiquidationConfig {
    fn default() -> Self {
        Self {
            min_net_profit_wei: U256::ZERO,
            profit_after_gas: true,
            gas_base: 450_000,
            gas_per_hop: 70_000,
            gas_per_v3_hop: 120_000,
            gas_per_crossing: 22_000,
        }
    }
}

impl LiquidationConfig {
    /// Gas that a liquidation is expected to use whose sale goes through such pools and over so many initialised ticks.
    pub fn gas(&self, hops: impl IntoIterator<Item = Protocol>, crossings: u32) -> u64 {
        let Self { gas_base, gas_per_hop, gas_per_v3_hop, gas_per_crossing, .. } = *self;
        Gas { base: gas_base, hop: gas_per_hop, v3_hop: gas_per_v3_hop, crossing: gas_per_crossing }
            .of(hops, crossings)
    }
}

/// The longest cycle that is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct MaxHops(u8);

impl MaxHops {
    /// Cycles of two pools.
    pub const TWO: Self = Self(2);
    /// Cycles of two and three pools.
    pub const THREE: Self = Self(3);
    /// Cycles of two to four pools.
    pub const FOUR: Self = Self(4);

    /// As a number of pools.
    pub fn get(self) -> usize {
        self.0.into()
    }
}

impl TryFrom<u8> for MaxHops {
    type Error = ConfigError;

    fn try_from(hops: u8) -> Result<Self, ConfigError> {
        matches!(hops, 2..=4).then_some(Self(hops)).ok_or(ConfigError::MaxHops(hops))
    }
}

impl From<MaxHops> for u8 {
    fn from(hops: MaxHops) -> Self {
        hops.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_table_is_the_default() {
        assert_eq!(parse(""), Ok(Config::default()));
        assert_eq!(parse("[arbitrage]\n[liquidation]"), Ok(Config::default()));
    }

    #[test]
    fn every_value_can_be_set() {
        let config = parse(
            "[arbitrage]\nmax_hops = 2\nmin_net_profit_wei = \"1000000000000000000000\"\nprofit_after_gas = false\n\
             gas_base = 1\ngas_per_hop = 2\ngas_per_v3_hop = 30\ngas_per_crossing = 400",
        );
        let config = config.expect("all keys are known").arbitrage;
        assert_eq!(config.max_hops, MaxHops::TWO);
        assert_eq!(config.min_net_profit_wei, U256::from(10u8).pow(U256::from(21u8)));
        assert!(!config.profit_after_gas);
        assert_eq!(config.gas([Protocol::UniswapV2; 3], 0), 7);
        assert_eq!(config.gas([Protocol::UniswapV2, Protocol::UniswapV3], 2), 833);
        let config = parse(
            "[liquidation]\nmin_net_profit_wei = \"7\"\nprofit_after_gas = false\ngas_base = 1\ngas_per_hop = 2\n\
             gas_per_v3_hop = 30\ngas_per_crossing = 400",
        );
        let config = config.expect("all keys are known").liquidation;
        assert_eq!((config.min_net_profit_wei, config.profit_after_gas), (U256::from(7), false));
        assert_eq!(config.gas([Protocol::UniswapV4, Protocol::UniswapV2], 1), 433);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let check = |text: &str, says: &str| {
            let error = parse(text).expect_err("it is wrong");
            assert!(error.contains(says), "{error}");
        };
        check("[arbitrage]\nmax_hops = 5", "max_hops is 5");
        check("[arbitrage]\nmax_hops = 1", "max_hops is 1");
        check("[arbitrage]\nmin_net_profit_wei = \"-1\"", "min_net_profit_wei");
        check("[arbitrage]\nmin_profit = \"1\"", "unknown field");
        check("[arbitrge]", "unknown field");
        check("[liquidation]\nmax_hops = 2", "unknown field");
    }
}
