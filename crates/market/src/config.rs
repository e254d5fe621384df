use std::collections::BTreeMap;
use std::fmt;

use alloy_primitives::{Address, B256, keccak256};
use headwater_events::{LendingProtocol, Protocol};
use serde::{Deserialize, Serialize};

use crate::feeds::{Feed, FeedQuote};
use crate::preset::Preset;

/// The `[market]` table of the configuration: which pools there are, and where cycles begin.
///
/// Nothing in it is required: the preset of the chain supplies what is absent. Addresses, hashes and amounts are kept
/// as they are written and judged by [`ResolvedMarket::resolve`], so that every mistake can be told at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MarketConfig {
    /// `"mainnet"`, `"devnet"` or `"none"`. Default: the preset of the node's chain, `"none"` for an unknown chain.
    pub preset: Option<Preset>,
    /// Factories in addition to the preset's; one with the address of a preset's factory replaces it.
    pub factories: Vec<FactoryConfig>,
    /// The wrapped native token. Default: the preset's.
    pub wrapped_native: Option<String>,
    /// Where cycles begin, the preferred one first; replaces the preset's list. Default: the preset's, or the wrapped
    /// native token alone.
    pub base_tokens: Option<Vec<String>>,
    /// Routers in addition to the preset's.
    pub routers: Vec<String>,
    /// Pools that are loaded at start at most, all factories together, each factory's oldest first; 0 loads none, and
    /// pools are found as they trade. Default: 10,000.
    pub max_pools: Option<usize>,
    /// Only pools of which both tokens are listed here (or are base tokens) are loaded at start. Default: all pools.
    pub tokens: Vec<String>,
    /// By token, the least reserve in its smallest units (a decimal string) that a pool must hold of it to be loaded
    /// at start. Default: none.
    pub min_reserves: BTreeMap<String, String>,
    /// Contracts that emit `Sync` and are not proven (yet) whose reserves are remembered at most; further ones are
    /// counted and forgotten. Default: 16,384.
    pub max_candidates: Option<usize>,
    /// The most gas that a token's transfer may use when the token is tried out before it is quoted. Default: 500,000.
    pub max_transfer_gas: Option<std::num::NonZeroU64>,
    /// Pools of constant product that are tracked at most, those that blocks created included, and as many with concentrated
    /// liquidity; further ones are counted and left. Default: 1,000,000.
    pub max_tracked_pools: Option<usize>,
    /// Chainlink feeds in addition to the preset's; one of a token that the preset has a feed of replaces that.
    pub feeds: Vec<FeedConfig>,
    /// Lending pools whose positions are followed, in addition to the preset's; one with the address of a preset's replaces it.
    /// Mainnet's preset has none: a pool whose revision is not proven is refused, and who has something in it stands in its logs
    /// since it was made, which not every node gives. Default: none.
    pub lending: Vec<LendingConfig>,
    /// Factories of Uniswap V3 and managers of V4 whose logs are searched for pools, as nobody lists them. Default: none, and only
    /// pools of two listed (else base) tokens with a usual fee are loaded at start.
    pub history: Vec<HistoryConfig>,
}

/// One `[[market.history]]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryConfig {
    /// A factory of `"uniswap-v3"` or `"uniswap-v4"`, the preset's or a configured one.
    pub factory: String,
    /// The block from which on its logs are searched: that in which it was made, or an earlier one.
    pub from_block: u64,
    /// Blocks whose logs are asked for at once at most; fewer where the node refuses. Default: 10,000.
    #[serde(default = "default_log_range")]
    pub log_range: std::num::NonZeroU64,
}

/// Where the pools of a factory are searched for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct History {
    /// The factory of V3, or the manager of V4.
    pub factory: Address,
    /// From here on its logs are searched.
    pub from_block: u64,
    /// Blocks whose logs are asked for at once at most.
    pub log_range: std::num::NonZeroU64,
}

/// One `[[market.feeds]]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedConfig {
    /// How people call it. Default: its address.
    #[serde(default)]
    pub name: Option<String>,
    /// The proxy: what `data.chain.link` lists.
    pub proxy: String,
    /// The token whose price it is.
    pub token: String,
    /// `"usd"` or `"native"`. Default: `"usd"`.
    #[serde(default = "default_quote")]
    pub quote: FeedQuote,
    /// Seconds between two answers at most. Default: 3,600.
    #[serde(default = "default_heartbeat_s")]
    pub heartbeat_s: u64,
    /// Parts per million by which the price has to move for an answer before that. Default: 5,000.
    #[serde(default = "default_deviation_ppm")]
    pub deviation_ppm: u32,
}

const fn default_quote() -> FeedQuote {
    FeedQuote::Usd
}

const fn default_heartbeat_s() -> u64 {
    3_600
}

const fn default_deviation_ppm() -> u32 {
    5_000
}

/// One `[[market.lending]]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LendingConfig {
    /// What it computes: `"aave-v3"` or `"aave-v2"`. Which revision, the pool says itself.
    pub protocol: LendingProtocol,
    /// The pool's proxy.
    pub pool: String,
    /// How people call it. Default: its address.
    #[serde(default)]
    pub name: Option<String>,
    /// The block from which on its logs are searched for accounts: that in which it was made, or an earlier one. Default: 0.
    #[serde(default)]
    pub from_block: u64,
    /// Blocks whose logs are asked for at once at most; fewer where the node refuses. Default: 10,000.
    #[serde(default = "default_log_range")]
    pub log_range: std::num::NonZeroU64,
}

const fn default_log_range() -> std::num::NonZeroU64 {
    LendingPool::LOG_RANGE
}

/// A lending pool that is followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LendingPool {
    /// How people call it.
    pub name: String,
    /// What it computes.
    pub protocol: LendingProtocol,
    /// The pool's proxy.
    pub pool: Address,
    /// From here on its logs are searched for accounts.
    pub from_block: u64,
    /// Blocks whose logs are asked for at once at most.
    pub log_range: std::num::NonZeroU64,
}

impl LendingPool {
    /// Blocks whose logs are asked for at once at most, unless the configuration says otherwise.
    pub const LOG_RANGE: std::num::NonZeroU64 = std::num::NonZeroU64::new(10_000).expect("not zero");
}

/// One `[[market.factories]]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactoryConfig {
    /// What its pools compute: `"uniswap-v2"`, `"uniswap-v3"` or `"uniswap-v4"`, whose factory is the `PoolManager`.
    pub protocol: Protocol,
    /// How people call it. Default: its address.
    #[serde(default)]
    pub name: Option<String>,
    /// The contract.
    pub address: String,
    /// Keccak-256 of the pools' creation code, from which their addresses derive. Default: none, and the factory is
    /// asked for each pool; required for `"uniswap-v3"`.
    #[serde(default)]
    pub init_code_hash: Option<String>,
    /// The contract that deploys the pools and from which their addresses derive, where the factory does not itself (PancakeSwap V3).
    /// Only for `"uniswap-v3"`. Default: the factory.
    #[serde(default)]
    pub deployer: Option<String>,
    /// Fee in parts per million of the input. Default: 3,000. Not for `"uniswap-v3"` and `"uniswap-v4"`, where each pool
    /// has its own.
    #[serde(default = "default_fee_ppm")]
    pub fee_ppm: u32,
}

const fn default_fee_ppm() -> u32 {
    Factory::UNISWAP_V2_FEE_PPM
}

/// A factory whose pools are tracked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Factory {
    /// How people call it.
    pub name: String,
    /// What its pools compute.
    pub protocol: Protocol,
    /// The contract.
    pub address: Address,
    /// Keccak-256 of the pools' creation code; absent where addresses do not derive, and the factory is asked.
    pub init_code_hash: Option<B256>,
    /// Fee in parts per million of the input.
    pub fee_ppm: u32,
}

impl Factory {
    /// The fee that `UniswapV2Pair.swap` charges: 3 of 1,000.
    pub const UNISWAP_V2_FEE_PPM: u32 = 3_000;

    /// The address of the pool of two tokens, given in any order (EIP-1014; v2-core `UniswapV2Factory.createPair`);
    /// `None` without an init-code hash.
    pub fn derive(&self, one: Address, other: Address) -> Option<Address> {
        let (token0, token1) = (one.min(other), one.max(other));
        let salt = keccak256([token0.as_slice(), token1.as_slice()].concat());
        Some(self.address.create2(salt, self.init_code_hash?))
    }
}

/// A factory of Uniswap V3 whose pools are tracked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConcentratedFactory {
    /// How people call it.
    pub name: String,
    /// The contract.
    pub address: Address,
    /// Keccak-256 of the pools' creation code.
    pub init_code_hash: B256,
    /// Who deploys the pools, if it is not the factory itself. Not written where it is, so that a market of before is the same market.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployer: Option<Address>,
}

impl ConcentratedFactory {
    /// The address of the pool of two tokens, given in any order, with a fee in hundredths of a basis point (EIP-1014; v3-core
    /// `UniswapV3PoolDeployer.deploy`; PancakeSwap's deployer salts alike).
    pub fn derive(&self, one: Address, other: Address, fee: u32) -> Address {
        let mut salted = [0; 96];
        salted[12..32].copy_from_slice(one.min(other).as_slice());
        salted[44..64].copy_from_slice(one.max(other).as_slice());
        salted[92..].copy_from_slice(&fee.to_be_bytes());
        self.deployer.unwrap_or(self.address).create2(keccak256(salted), self.init_code_hash)
    }
}

/// A `PoolManager` of Uniswap V4 whose pools without hooks are tracked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConcentratedManager {
    /// How people call it.
    pub name: String,
    /// The contract.
    pub address: Address,
}

/// The market that a run is about: preset and configuration put together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResolvedMarket {
    /// The node's chain.
    pub chain_id: u64,
    /// The preset that was taken.
    pub preset: Preset,
    /// The factories whose pools are tracked; no address twice.
    pub factories: Vec<Factory>,
    /// The factories of pools with concentrated liquidity that are tracked; no address twice.
    pub concentrated_factories: Vec<ConcentratedFactory>,
    /// The managers of V4's pools that are tracked; no address twice. Not written where there is none, so that a market of before
    /// is the same market.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub concentrated_managers: Vec<ConcentratedManager>,
    /// The wrapped native token.
    pub wrapped_native: Address,
    /// Where cycles begin, the preferred one first; at least one.
    pub base_tokens: Vec<Address>,
    /// Routers whose calls are decoded.
    pub routers: Vec<Address>,
    /// The same with the interface of `SwapRouter02`. Not written where there is none, so that a market of before is the same market.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub swap_routers_02: Vec<Address>,
    /// The same of the Universal Router since V4. Not written where there is none, so that a market of before is the same market.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub universal_routers: Vec<Address>,
    /// Which pools are loaded at start.
    pub load: LoadFilter,
    /// Unproven emitters of `Sync` that are remembered at most.
    pub max_candidates: usize,
    /// The Chainlink feeds that are read; no token and no proxy twice.
    pub feeds: Vec<Feed>,
    /// The lending pools that are followed; none twice. Not written where there is none, so that a market of before is the
    /// same market.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lending: Vec<LendingPool>,
    /// Whose logs are searched for pools with concentrated liquidity; none twice. Not written where there is none, so that a market
    /// of before is the same market.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// Which pools are loaded at start. A pool that is left out is loaded when it trades.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadFilter {
    /// Pools at most, all factories together.
    pub max_pools: usize,
    /// Both tokens of a pool are among these, ascending; all pools pass if there is none.
    pub tokens: Vec<Address>,
    /// By token, the least that a pool must hold of it, in its smallest units.
    pub min_reserves: BTreeMap<Address, u128>,
    /// The most gas of a token's transfer. It decides no pool's identity, and so is not written.
    #[serde(skip)]
    pub max_transfer_gas: u64,
    /// Pools of constant product that are tracked at most, and as many with concentrated liquidity.
    #[serde(skip)]
    pub max_tracked_pools: usize,
}

impl LoadFilter {
    /// Whether a pool of these tokens is to be loaded.
    pub fn wants_tokens(&self, token0: &Address, token1: &Address) -> bool {
        let listed = |token| self.tokens.binary_search(token).is_ok();
        self.tokens.is_empty() || (listed(token0) && listed(token1))
    }

    /// Whether a pool that holds this much of these tokens is to be loaded.
    pub fn wants_reserves(
        &self,
        (token0, held0): (&Address, u128),
        (token1, held1): (&Address, u128),
    ) -> bool {
        let enough = |token, held| self.min_reserves.get(token).is_none_or(|least| held >= *least);
        enough(token0, held0) && enough(token1, held1)
    }
}

/// A mistake in the configuration, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    /// The key, as `market.factories[1].address`.
    pub place: String,
    /// What is wrong with its value.
    pub problem: String,
}

/// Every mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(index, error)| {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")
        })
    }
}

impl std::error::Error for ConfigErrors {}

/// Pools that are loaded at start at most, unless the configuration says otherwise.
pub const DEFAULT_MAX_POOLS: usize = 10_000;
/// The most gas of a transfer, unless the configuration says otherwise.
const DEFAULT_MAX_TRANSFER_GAS: u64 = 500_000;
/// Pools that are tracked at most, unless the configuration says otherwise.
const DEFAULT_MAX_TRACKED_POOLS: usize = 1_000_000;
/// Unproven emitters of `Sync` that are remembered at most, unless the configuration says otherwise.
pub const DEFAULT_MAX_CANDIDATES: usize = 16_384;

impl ResolvedMarket {
    /// Puts the configuration and its preset together for a node on `chain_id`.
    ///
    /// # Errors
    ///
    /// Every mistake at once, each with its place.
    pub fn resolve(config: &MarketConfig, chain_id: u64) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::default();
        let preset = config.preset.unwrap_or_else(|| Preset::of_chain(chain_id));
        reader.check_chain(preset, chain_id);
        let tables = preset.tables();

        let factories =
            reader.factories(&config.factories, tables.as_ref().map_or(&[], |known| &known.factories));
        let concentrated_factories = reader.concentrated_factories(
            &config.factories,
            tables.as_ref().map_or(&[], |known| &known.concentrated_factories),
        );
        let concentrated_managers = reader.concentrated_managers(
            &config.factories,
            tables.as_ref().map_or(&[], |known| &known.concentrated_managers),
        );
        let wrapped_native = match &config.wrapped_native {
            Some(text) => reader.address("market.wrapped_native", text),
            None => tables.as_ref().map(|known| known.wrapped_native),
        };
        if config.wrapped_native.is_none() && wrapped_native.is_none() {
            reader.refuse("market.wrapped_native", "is required without a preset");
        }
        let base_tokens = match &config.base_tokens {
            Some(listed) => reader.distinct("market.base_tokens", listed),
            None => {
                let alone = wrapped_native.into_iter().collect();
                tables.as_ref().map_or(alone, |known| known.base_tokens.clone())
            }
        };
        if config.base_tokens.as_ref().is_some_and(Vec::is_empty) {
            reader.refuse("market.base_tokens", "must not be empty: a cycle begins with a base token");
        }
        let feeds =
            reader.feeds(&config.feeds, tables.as_ref().map_or(&[], |known| &known.feeds), wrapped_native);
        let lending = reader.lending(&config.lending, tables.as_ref().map_or(&[], |known| &known.lending));
        let (mut routers, swap_routers_02, universal_routers) = tables
            .map(|known| (known.routers, known.swap_routers_02, known.universal_routers))
            .unwrap_or_default();
        for router in reader.distinct("market.routers", &config.routers) {
            if !routers.contains(&router) {
                routers.push(router);
            }
        }
        let load = LoadFilter {
            max_pools: config.max_pools.unwrap_or(DEFAULT_MAX_POOLS),
            tokens: reader.load_tokens(&config.tokens, &base_tokens),
            min_reserves: reader.min_reserves(&config.min_reserves),
            max_transfer_gas: config.max_transfer_gas.map_or(DEFAULT_MAX_TRANSFER_GAS, |gas| gas.get()),
            max_tracked_pools: config.max_tracked_pools.unwrap_or(DEFAULT_MAX_TRACKED_POOLS),
        };
        let max_candidates = config.max_candidates.unwrap_or(DEFAULT_MAX_CANDIDATES);
        let searchable: Vec<Address> = concentrated_factories
            .iter()
            .map(|factory| factory.address)
            .chain(concentrated_managers.iter().map(|manager| manager.address))
            .collect();
        let history = reader.history(&config.history, &searchable);

        match wrapped_native {
            Some(wrapped_native) if reader.errors.is_empty() => Ok(Self {
                chain_id,
                preset,
                factories,
                concentrated_factories,
                concentrated_managers,
                wrapped_native,
                base_tokens,
                routers,
                swap_routers_02,
                universal_routers,
                load,
                max_candidates,
                feeds,
                lending,
                history,
            }),
            _ => Err(ConfigErrors(reader.errors)),
        }
    }

    /// The lending pools' addresses, in the order of the configuration.
    pub fn lending_pools(&self) -> Vec<Address> {
        self.lending.iter().map(|lending| lending.pool).collect()
    }

    /// The configured factory at an address.
    pub fn factory(&self, address: &Address) -> Option<&Factory> {
        self.factories.iter().find(|factory| factory.address == *address)
    }

    /// The factory from which a pool of these tokens derives the address `pool`, if there is one: the proof that needs
    /// nobody's word.
    pub fn deriving_factory(&self, pool: &Address, token0: Address, token1: Address) -> Option<&Factory> {
        self.factories.iter().find(|factory| factory.derive(token0, token1).as_ref() == Some(pool))
    }
}

/// Reads values and gathers what is wrong with them.
#[derive(Default)]
struct Reader {
    errors: Vec<ConfigError>,
}

impl Reader {
    fn refuse(&mut self, place: impl Into<String>, problem: impl Into<String>) {
        self.errors.push(ConfigError { place: place.into(), problem: problem.into() });
    }

    /// A preset's addresses mean nothing on another chain; a development chain may be a fork of any.
    fn check_chain(&mut self, preset: Preset, chain_id: u64) {
        let foreign = preset.chain_id().is_some_and(|known| known != chain_id);
        if foreign && Preset::of_chain(chain_id) != Preset::Devnet {
            let name = preset.as_str();
            self.refuse("market.preset", format!("\"{name}\" does not describe chain {chain_id}"));
        }
    }

    fn factories(&mut self, configured: &[FactoryConfig], preset: &[Factory]) -> Vec<Factory> {
        let mut factories = preset.to_vec();
        let mut seen = Vec::new();
        for (index, config) in configured.iter().enumerate() {
            let place = format!("market.factories[{index}]");
            if config.protocol != Protocol::UniswapV2 {
                continue;
            }
            let Some(factory) = self.factory(&place, config) else { continue };
            if seen.contains(&factory.address) {
                self.refuse(format!("{place}.address"), "stands here twice");
            }
            seen.push(factory.address);
            match factories.iter_mut().find(|known| known.address == factory.address) {
                Some(known) => *known = factory,
                None => factories.push(factory),
            }
        }
        if factories.is_empty() && configured.is_empty() {
            self.refuse("market.factories", "at least one is required without a preset");
        }
        factories
    }

    fn concentrated_factories(
        &mut self,
        configured: &[FactoryConfig],
        preset: &[ConcentratedFactory],
    ) -> Vec<ConcentratedFactory> {
        let (mut factories, mut seen) = (preset.to_vec(), Vec::new());
        for (index, config) in configured.iter().enumerate() {
            if config.protocol != Protocol::UniswapV3 {
                continue;
            }
            let place = format!("market.factories[{index}]");
            let Some(factory) = self.concentrated_factory(&place, config) else { continue };
            if seen.contains(&factory.address) {
                self.refuse(format!("{place}.address"), "stands here twice");
            }
            seen.push(factory.address);
            match factories.iter_mut().find(|known| known.address == factory.address) {
                Some(known) => *known = factory,
                None => factories.push(factory),
            }
        }
        factories
    }

    fn concentrated_factory(&mut self, place: &str, config: &FactoryConfig) -> Option<ConcentratedFactory> {
        let address = self.address(&format!("{place}.address"), &config.address);
        let init_code_hash = self.init_code_hash(place, config);
        if config.init_code_hash.is_none() {
            self.refuse(
                format!("{place}.init_code_hash"),
                "is required: the pools' addresses derive from it",
            );
        }
        if config.fee_ppm != default_fee_ppm() {
            self.refuse(format!("{place}.fee_ppm"), "is each pool's own");
        }
        let deployer = match &config.deployer {
            Some(text) => Some(self.address(&format!("{place}.deployer"), text)?),
            None => None,
        };
        let address = address?;
        let name = config.name.clone().unwrap_or_else(|| address.to_string());
        Some(ConcentratedFactory { name, address, init_code_hash: init_code_hash??, deployer })
    }

    fn concentrated_managers(
        &mut self,
        configured: &[FactoryConfig],
        preset: &[ConcentratedManager],
    ) -> Vec<ConcentratedManager> {
        let (mut managers, mut seen) = (preset.to_vec(), Vec::new());
        for (index, config) in configured.iter().enumerate() {
            if config.protocol != Protocol::UniswapV4 {
                continue;
            }
            let place = format!("market.factories[{index}]");
            let Some(manager) = self.concentrated_manager(&place, config) else { continue };
            if seen.contains(&manager.address) {
                self.refuse(format!("{place}.address"), "stands here twice");
            }
            seen.push(manager.address);
            match managers.iter_mut().find(|known| known.address == manager.address) {
                Some(known) => *known = manager,
                None => managers.push(manager),
            }
        }
        managers
    }

    fn concentrated_manager(&mut self, place: &str, config: &FactoryConfig) -> Option<ConcentratedManager> {
        let address = self.address(&format!("{place}.address"), &config.address);
        if config.init_code_hash.is_some() {
            self.refuse(format!("{place}.init_code_hash"), "is none: its pools are no contracts");
        }
        self.refuse_deployer(place, config);
        if config.fee_ppm != default_fee_ppm() {
            self.refuse(format!("{place}.fee_ppm"), "is each pool's own");
        }
        let address = address?;
        let name = config.name.clone().unwrap_or_else(|| address.to_string());
        Some(ConcentratedManager { name, address })
    }

    /// `None` where there is none, `Some(None)` where it is none.
    fn init_code_hash(&mut self, place: &str, config: &FactoryConfig) -> Option<Option<B256>> {
        config.init_code_hash.as_ref().map(|text| {
            let hash = text.parse::<B256>().ok();
            if hash.is_none() {
                self.refuse(format!("{place}.init_code_hash"), "is no hash of 32 bytes in hex");
            }
            hash
        })
    }

    fn refuse_deployer(&mut self, place: &str, config: &FactoryConfig) {
        if config.deployer.is_some() {
            self.refuse(format!("{place}.deployer"), "is none: only pools of uniswap-v3 have one");
        }
    }

    fn factory(&mut self, place: &str, config: &FactoryConfig) -> Option<Factory> {
        self.refuse_deployer(place, config);
        let address = self.address(&format!("{place}.address"), &config.address);
        let init_code_hash = self.init_code_hash(place, config);
        if config.fee_ppm >= 1_000_000 {
            self.refuse(format!("{place}.fee_ppm"), "must be below 1000000, which is the whole input");
        }
        let address = address?;
        Some(Factory {
            name: config.name.clone().unwrap_or_else(|| address.to_string()),
            protocol: config.protocol,
            address,
            init_code_hash: match init_code_hash {
                Some(hash) => Some(hash?),
                None => None,
            },
            fee_ppm: config.fee_ppm,
        })
    }

    fn feeds(&mut self, configured: &[FeedConfig], preset: &[Feed], native: Option<Address>) -> Vec<Feed> {
        let mut own = Vec::<Feed>::new();
        for (index, config) in configured.iter().enumerate() {
            let place = format!("market.feeds[{index}]");
            let Some(feed) = self.feed(&place, config) else { continue };
            if own.iter().any(|known| known.proxy == feed.proxy) {
                self.refuse(format!("{place}.proxy"), "stands here twice");
            }
            if own.iter().any(|known| known.token == feed.token) {
                self.refuse(format!("{place}.token"), "has a feed already");
            }
            if feed.quote == FeedQuote::Native && Some(feed.token) == native {
                self.refuse(format!("{place}.quote"), "is what the token itself is: its price is one");
            }
            own.push(feed);
        }
        let is_new =
            |known: &&Feed| own.iter().all(|feed| feed.token != known.token && feed.proxy != known.proxy);
        let feeds: Vec<Feed> = preset.iter().filter(is_new).chain(&own).cloned().collect();
        let in_dollars = |feed: &&Feed| feed.quote == FeedQuote::Usd;
        let has_rate = feeds.iter().filter(in_dollars).any(|feed| Some(feed.token) == native);
        if native.is_some() && !has_rate && own.iter().any(|feed| in_dollars(&feed)) {
            self.refuse("market.feeds", "a feed in usd needs one of the wrapped native token in usd as well");
        }
        feeds
    }

    fn lending(&mut self, configured: &[LendingConfig], preset: &[LendingPool]) -> Vec<LendingPool> {
        let mut own = Vec::<LendingPool>::new();
        for (index, config) in configured.iter().enumerate() {
            let place = format!("market.lending[{index}].pool");
            let Some(pool) = self.address(&place, &config.pool) else { continue };
            if own.iter().any(|known| known.pool == pool) {
                self.refuse(place, "stands here twice");
            }
            own.push(LendingPool {
                name: config.name.clone().unwrap_or_else(|| pool.to_string()),
                protocol: config.protocol,
                pool,
                from_block: config.from_block,
                log_range: config.log_range,
            });
        }
        let is_new = |known: &&LendingPool| own.iter().all(|pool| pool.pool != known.pool);
        preset.iter().filter(is_new).chain(&own).cloned().collect()
    }

    fn history(&mut self, configured: &[HistoryConfig], searchable: &[Address]) -> Vec<History> {
        let mut histories = Vec::<History>::new();
        for (index, config) in configured.iter().enumerate() {
            let place = format!("market.history[{index}].factory");
            let Some(factory) = self.address(&place, &config.factory) else { continue };
            if !searchable.contains(&factory) {
                self.refuse(place, "is no configured factory of uniswap-v3 or uniswap-v4");
            } else if histories.iter().any(|known| known.factory == factory) {
                self.refuse(place, "stands here twice");
            }
            histories.push(History { factory, from_block: config.from_block, log_range: config.log_range });
        }
        histories
    }

    fn feed(&mut self, place: &str, config: &FeedConfig) -> Option<Feed> {
        let proxy = self.address(&format!("{place}.proxy"), &config.proxy);
        let token = self.address(&format!("{place}.token"), &config.token);
        if config.heartbeat_s == 0 {
            self.refuse(format!("{place}.heartbeat_s"), "must be above zero");
        }
        let (proxy, token) = (proxy?, token?);
        Some(Feed {
            name: config.name.clone().unwrap_or_else(|| proxy.to_string()),
            proxy,
            token,
            quote: config.quote,
            heartbeat_s: config.heartbeat_s,
            deviation_ppm: config.deviation_ppm,
        })
    }

    /// An address that is written in mixed case carries a checksum (ERC-55), and it is held to it.
    fn address(&mut self, place: &str, text: &str) -> Option<Address> {
        let Ok(address) = text.parse::<Address>() else {
            self.refuse(place, "is no address of 20 bytes in hex");
            return None;
        };
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let mixed = digits.contains(|c: char| c.is_ascii_uppercase())
            && digits.contains(|c: char| c.is_ascii_lowercase());
        if mixed && address.to_checksum(None).strip_prefix("0x") != Some(digits) {
            self.refuse(place, "its checksum is wrong: a digit may be mistyped");
            return None;
        }
        if address.is_zero() {
            self.refuse(place, "is the zero address");
            return None;
        }
        Some(address)
    }

    fn distinct(&mut self, place: &str, texts: &[String]) -> Vec<Address> {
        let mut addresses = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let place = format!("{place}[{index}]");
            match self.address(&place, text) {
                Some(address) if addresses.contains(&address) => self.refuse(place, "stands here twice"),
                Some(address) => addresses.push(address),
                None => {}
            }
        }
        addresses
    }

    fn load_tokens(&mut self, configured: &[String], base_tokens: &[Address]) -> Vec<Address> {
        let mut tokens = self.distinct("market.tokens", configured);
        if !configured.is_empty() {
            tokens.extend_from_slice(base_tokens);
        }
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    fn min_reserves(&mut self, configured: &BTreeMap<String, String>) -> BTreeMap<Address, u128> {
        let mut least = BTreeMap::new();
        for (token, amount) in configured {
            let place = format!("market.min_reserves.{token}");
            let token = self.address(&place, token);
            match amount.parse::<u128>() {
                Ok(amount) => {
                    if token.is_some_and(|token| least.insert(token, amount).is_some()) {
                        self.refuse(place, "stands here twice");
                    }
                }
                Err(_) => self.refuse(place, "is no whole number of smallest units"),
            }
        }
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset::DEVNET_CHAIN_ID;
    use alloy_primitives::address;

    const TOKEN: &str = "0x1111111111111111111111111111111111111111";

    fn resolve(chain_id: u64, text: &str) -> Result<ResolvedMarket, ConfigErrors> {
        let config: MarketConfig = toml::from_str(text).expect("the text is a market table");
        ResolvedMarket::resolve(&config, chain_id)
    }

    #[track_caller]
    fn refused(chain_id: u64, text: &str, places: &[&str]) {
        let errors = resolve(chain_id, text).expect_err("a case has mistakes");
        let found: Vec<_> = errors.0.iter().map(|error| error.place.as_str()).collect();
        assert_eq!(found, places, "{errors}");
    }

    #[test]
    fn an_empty_table_is_the_preset_of_the_chain() {
        for preset in [Preset::Mainnet, Preset::Devnet] {
            let chain_id = preset.chain_id().expect("a chain");
            let market = resolve(chain_id, "").expect("the preset supplies everything");
            let tables = preset.tables().expect("a chain");
            assert_eq!((market.preset, market.load.max_pools), (preset, DEFAULT_MAX_POOLS));
            assert_eq!(market.factories, tables.factories);
            assert_eq!(market.base_tokens, tables.base_tokens);
            assert_eq!(market.wrapped_native, tables.base_tokens[0]);
        }
        refused(10, "", &["market.factories", "market.wrapped_native"]);
    }

    #[test]
    fn values_extend_and_override_the_preset() {
        let market = resolve(
            1,
            r#"
            base_tokens = ["0xdAC17F958D2ee523a2206206994597C13D831ec7"]
            routers = ["0x1111111111111111111111111111111111111111", "0x7a250d5630b4cf539739df2c5dacb4c659f2488d"]
            [[factories]]
            protocol = "uniswap-v2"
            address = "0x2222222222222222222222222222222222222222"
            [[factories]]
            protocol = "uniswap-v2"
            address = "0xC0AEe478e3658e2610c5F7A4A2E1777cE9e4f2Ac"
            fee_ppm = 2500
            "#,
        )
        .expect("the table is right");
        assert_eq!(market.base_tokens.len(), 1);
        assert_eq!(market.routers.len(), 3, "a known router is not added again");
        let fees: Vec<_> = market.factories.iter().map(|factory| factory.fee_ppm).collect();
        assert_eq!(fees, [3_000, 2_500, 3_000], "an address that is known replaces, another one is added");
        assert_eq!(market.factories[1].init_code_hash, None);
    }

    #[test]
    fn without_a_preset_everything_stands_in_the_table() {
        let text = format!(
            "preset = 'none'\nwrapped_native = '{TOKEN}'\n[[factories]]\nprotocol = 'uniswap-v2'\naddress = '{TOKEN}'"
        );
        let market = resolve(1, &text).expect("complete");
        assert_eq!((market.factories.len(), market.routers.len()), (1, 0));
        assert_eq!(market.base_tokens, [market.wrapped_native]);
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_place() {
        refused(
            1,
            r#"
            wrapped_native = "0x12"
            base_tokens = []
            routers = ["0x7A250d5630b4cf539739df2c5dacb4c659f2488d"]
            tokens = ["0x1111111111111111111111111111111111111111", "0x1111111111111111111111111111111111111111"]
            min_reserves = { "0x1111111111111111111111111111111111111111" = "1.5" }
            [[factories]]
            protocol = "uniswap-v2"
            address = "0x0000000000000000000000000000000000000000"
            init_code_hash = "0x96"
            fee_ppm = 1000000
            "#,
            &[
                "market.factories[0].address",
                "market.factories[0].init_code_hash",
                "market.factories[0].fee_ppm",
                "market.wrapped_native",
                "market.base_tokens",
                "market.routers[0]",
                "market.tokens[1]",
                "market.min_reserves.0x1111111111111111111111111111111111111111",
            ],
        );
    }

    #[test]
    fn factories_of_v3_stand_beside_those_of_v2() {
        let hash = "0xe34f199b19b2b4f47f68442619d555527d244f78a3297ea89325f843f87b8b54";
        let text = format!("[[factories]]\nprotocol = 'uniswap-v3'\naddress = '{TOKEN}'");
        let market = resolve(1, &format!("{text}\ninit_code_hash = '{hash}'")).expect("the table is right");
        assert_eq!((market.factories.len(), market.concentrated_factories.len()), (2, 2));
        assert_eq!(resolve(DEVNET_CHAIN_ID, "").expect("the preset").concentrated_factories.len(), 1);
        refused(1, &text, &["market.factories[0].init_code_hash"]);
        refused(
            1,
            &format!("{text}\ninit_code_hash = '0x12'\nfee_ppm = 500"),
            &["market.factories[0].init_code_hash", "market.factories[0].fee_ppm"],
        );
    }

    #[test]
    fn feeds_extend_the_preset_and_replace_those_of_their_token() {
        let feeds = |text: &str| resolve(1, text).expect("the table is right").feeds;
        let known = feeds("");
        assert_eq!(known, Preset::Mainnet.tables().expect("a chain").feeds);
        let usdc = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";
        let own = feeds(&format!(
            "[[feeds]]\nproxy = '{TOKEN}'\ntoken = '{usdc}'\nquote = 'native'\nheartbeat_s = 60\n[[feeds]]\nproxy = '0x2222222222222222222222222222222222222222'\ntoken = '{TOKEN}'"
        ));
        assert_eq!(own.len(), known.len() + 1);
        let of =
            |token: &str| own.iter().find(|feed| feed.token == token.parse::<Address>().expect("an address"));
        let replaced = of(usdc).expect("it has one");
        assert_eq!((replaced.quote, replaced.heartbeat_s), (FeedQuote::Native, 60));
        let added = of(TOKEN).expect("it has one");
        assert_eq!((added.quote, added.heartbeat_s, added.deviation_ppm), (FeedQuote::Usd, 3_600, 5_000));
    }

    #[test]
    fn mistakes_in_feeds_are_told_with_their_place() {
        let weth = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2";
        let text = format!(
            "[[feeds]]\nproxy = '0x12'\ntoken = '{TOKEN}'\nheartbeat_s = 0\n\
             [[feeds]]\nproxy = '{TOKEN}'\ntoken = '{TOKEN}'\n\
             [[feeds]]\nproxy = '{TOKEN}'\ntoken = '{TOKEN}'\n\
             [[feeds]]\nproxy = '{weth}'\ntoken = '{weth}'\nquote = 'native'"
        );
        refused(
            1,
            &text,
            &[
                "market.feeds[0].proxy",
                "market.feeds[0].heartbeat_s",
                "market.feeds[2].proxy",
                "market.feeds[2].token",
                "market.feeds[3].quote",
                "market.feeds",
            ],
        );
        refused(31_337, &format!("[[feeds]]\nproxy = '{TOKEN}'\ntoken = '{TOKEN}'"), &["market.feeds"]);
    }

    #[test]
    fn lending_pools_stand_in_the_table_alone_and_once() {
        let other = "0x2222222222222222222222222222222222222222";
        let text = format!(
            "[[lending]]\nprotocol = 'aave-v3'\npool = '{TOKEN}'\n\
             [[lending]]\nprotocol = 'aave-v3'\npool = '{other}'\nname = 'mine'\nfrom_block = 7\nlog_range = 9"
        );
        let market = resolve(1, &text).expect("the table is right");
        let [first, second] = &market.lending[..] else { panic!("two pools") };
        assert_eq!((first.name.as_str(), first.from_block, first.log_range.get()), (TOKEN, 0, 10_000));
        assert_eq!((second.name.as_str(), second.from_block, second.log_range.get()), ("mine", 7, 9));
        assert_eq!(market.lending_pools(), [first.pool, second.pool]);
        assert!(resolve(1, "").expect("the preset").lending.is_empty());
        let preset = resolve(DEVNET_CHAIN_ID, "").expect("the preset").lending;
        let own = format!("[[lending]]\nprotocol = 'aave-v3'\npool = '{}'\nname = 'mine'\n", preset[1].pool);
        let lending = resolve(DEVNET_CHAIN_ID, &own).expect("it is right").lending;
        let names: Vec<_> = lending.iter().map(|lending| (lending.pool, &*lending.name)).collect();
        let others = [0, 2].map(|place| (preset[place].pool, &*preset[place].name));
        assert_eq!(names, [&others[..], &[(preset[1].pool, "mine")]].concat());
        let twice = "[[lending]]\nprotocol = 'aave-v3'\npool = '0x12'\n".to_owned()
            + &format!("[[lending]]\nprotocol = 'aave-v3'\npool = '{other}'\n").repeat(2);
        refused(1, &twice, &["market.lending[0].pool", "market.lending[2].pool"]);
    }

    #[test]
    fn a_preset_of_another_chain_is_refused_except_on_a_fork() {
        refused(10, "preset = 'mainnet'", &["market.preset"]);
        refused(1, "preset = 'devnet'", &["market.preset"]);
        resolve(31337, "preset = 'mainnet'").expect("a fork of mainnet");
    }

    #[test]
    fn unknown_keys_and_names_are_refused() {
        for text in [
            "presets = 'mainnet'",
            "preset = 'moon'",
            "[[factories]]\nprotocol = 'uniswap-v9'\naddress = ''",
            "[[factories]]\nprotocol = 'uniswap-v2'\naddress = ''\nfee = 1",
            "[[feeds]]\nproxy = ''\ntoken = ''\nheartbeat = 1",
            "[[feeds]]\nproxy = ''\ntoken = ''\nquote = 'eur'",
            "[[lending]]\nprotocol = 'aave-v4'\npool = ''",
            "[[lending]]\nprotocol = 'aave-v3'\npool = ''\nrevision = 1",
            "[[lending]]\nprotocol = 'aave-v3'\npool = ''\nlog_range = 0",
        ] {
            assert!(toml::from_str::<MarketConfig>(text).is_err(), "{text}");
        }
    }

    /// WETH and USDC at 5 basis points on mainnet; the deployer stands in PancakeSwap's v3-sdk.
    #[test]
    fn the_pools_of_pancakeswap_derive_from_its_deployer() {
        let text = "[[factories]]\nprotocol = 'uniswap-v3'\naddress = '0x0BFbCF9fa4f9C56B0F40a671Ad40E0805A091865'\n\
                    deployer = '0x41ff9AA7e16B8B1a8a8dc4f0eFacd93D02d071c9'\n\
                    init_code_hash = '0x6ce8eb472fa82df5469c6ab6d485f17c3ad13c8cd7af59b3d4a8026c5ce0f7e2'";
        let market = resolve(1, text).expect("right");
        let factory = market.concentrated_factories.last().expect("it stands behind the preset's");
        let [weth, usdc] = [market.wrapped_native, address!("A0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48")];
        let pool = address!("1ac1A8FEaAEa1900C4166dEeed0C11cC10669D36");
        assert_eq!(factory.derive(weth, usdc, 500), pool);
        refused(1, &text.replace("v3", "v2"), &["market.factories[0].deployer"]);
    }

    #[test]
    fn only_factories_that_list_nothing_have_a_history() {
        let preset = Preset::Mainnet.tables().expect("a chain");
        let (v2, v3) = (preset.factories[0].address, preset.concentrated_factories[0].address);
        let table = |factory| format!("[[history]]\nfactory = '{factory}'\nfrom_block = 7\n");
        let market = resolve(1, &table(v3)).expect("right");
        let range = market.history[0].log_range.get();
        assert_eq!((market.history[0].factory, market.history[0].from_block, range), (v3, 7, 10_000));
        refused(1, &table(v2), &["market.history[0].factory"]);
        refused(1, &[table(v3), table(v3)].concat(), &["market.history[1].factory"]);
    }

    #[test]
    fn the_load_filter_lets_base_tokens_and_deep_pools_pass() {
        let text = format!("tokens = ['{TOKEN}']\n[min_reserves]\n'{TOKEN}' = '1000'");
        let load = resolve(1, &text).expect("right").load;
        let (token, other) = (Address::repeat_byte(0x11), Address::repeat_byte(0x22));
        let base = Preset::Mainnet.tables().expect("a chain").base_tokens[2];
        assert!(load.wants_tokens(&token, &base) && !load.wants_tokens(&token, &other));
        assert!(load.wants_reserves((&token, 1_000), (&base, 0)));
        assert!(!load.wants_reserves((&base, u128::MAX), (&token, 999)));
    }
}
