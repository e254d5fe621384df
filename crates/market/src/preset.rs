use alloy_primitives::{Address, B256, address, b256};
use headwater_events::{LendingProtocol, Protocol};
use serde::{Deserialize, Serialize};

use crate::config::{ConcentratedFactory, ConcentratedManager, Factory, LendingPool};
use crate::feeds::{Feed, FeedQuote};

/// A chain whose contracts are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Ethereum mainnet, chain 1: Uniswap V2, V3 and V4, and SushiSwap.
    Mainnet,
    /// The development chain of `cargo xtask devnet`, chain 31337.
    Devnet,
    /// No chain: everything stands in the configuration.
    None,
}

/// What a preset supplies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresetTables {
    /// The factories whose pools are tracked.
    pub factories: Vec<Factory>,
    /// The factories of pools with concentrated liquidity.
    pub concentrated_factories: Vec<ConcentratedFactory>,
    /// The managers of V4's pools.
    pub concentrated_managers: Vec<ConcentratedManager>,
    /// The wrapped native token.
    pub wrapped_native: Address,
    /// Where cycles begin, the preferred one first.
    pub base_tokens: Vec<Address>,
    /// Routers whose calls are decoded.
    pub routers: Vec<Address>,
    /// The same with the interface of `SwapRouter02`, beside those that every chain may have.
    pub swap_routers_02: Vec<Address>,
    /// The same of the Universal Router since V4.
    pub universal_routers: Vec<Address>,
    /// Chainlink feeds that are read.
    pub feeds: Vec<Feed>,
    /// Lending pools whose positions are followed.
    pub lending: Vec<LendingPool>,
    /// Tokens by the names that people give them; for display only.
    pub tokens: &'static [(&'static str, Address)],
}

/// Chain id of Ethereum mainnet.
pub const MAINNET_CHAIN_ID: u64 = 1;
/// Chain id of the development chain, which is also anvil's and hardhat's default.
pub const DEVNET_CHAIN_ID: u64 = 31337;

/// Keccak-256 of the creation code of `UniswapV2Pair` (v2-periphery `UniswapV2Library.pairFor`).
const UNISWAP_V2_INIT_CODE_HASH: B256 =
    b256!("96e8ac4277198ff8b6f785478aa9a39f403cb768dd02cbee326c3e7da348845f");
/// Keccak-256 of the creation code of `UniswapV3Pool` (v3-periphery `PoolAddress.sol`).
const UNISWAP_V3_INIT_CODE_HASH: B256 =
    b256!("e34f199b19b2b4f47f68442619d555527d244f78a3297ea89325f843f87b8b54");
/// The same of SushiSwap's pair (sushiswap `UniswapV2Library.pairFor`).
const SUSHISWAP_INIT_CODE_HASH: B256 =
    b256!("e18a34eb0e04b04f7a0ac29a6e80748dca96319b42c54d679cb821dca90c6303");

const MAINNET_TOKENS: [(&str, Address); 5] = [
    ("WETH", address!("C02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2")),
    ("USDC", address!("A0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48")),
    ("USDT", address!("dAC17F958D2ee523a2206206994597C13D831ec7")),
    ("DAI", address!("6B175474E89094C44Da98b954EedeAC495271d0F")),
    ("WBTC", address!("2260FAC5E5542a773Aa44fBCfeDf7C193bc2C599")),
];

/// Token, proxy, heartbeat in seconds and deviation in parts per million, as Chainlink lists them (docs.chain.link/data-feeds,
/// Ethereum mainnet): ETH / USD, BTC / USD, USDC / USD, USDT / USD, DAI / USD. The price of bitcoin stands for that of WBTC: the
/// feed does not see whether the one can be had for the other.
const MAINNET_FEEDS: [(&str, Address, u64, u32); 5] = [
    ("WETH", address!("5f4eC3Df9cbd43714FE2740f5E3616155c5b8419"), 3_600, 5_000),
    ("WBTC", address!("F4030086522a5bEEa4988F8cA5B36dbC97BeE88c"), 3_600, 5_000),
    ("USDC", address!("8fFfFfd4AfB6115b954Bd326cbe7B4BA576818f6"), 86_400, 2_500),
    ("USDT", address!("3E7d1eAB13ad0104d2750B8863b489D65364e32D"), 86_400, 2_500),
    ("DAI", address!("Aed0c38402a5d19df6E4c03F4E2DceD6e29c1ee9"), 3_600, 2_500),
];

const DEVNET_TOKENS: [(&str, Address); 7] = [
    ("WETH", address!("5fbdb2315678afecb367f032d93f642f64180aa3")),
    ("USDC", address!("5fc8d32690cc91d4c39d9d3abcbd16989f875707")),
    ("USDT", address!("0165878a594ca255338adfa4d48449f69242eb8f")),
    ("DAI", address!("2279b7a0a67db372996a5fab50d91eaa73d2ebe6")),
    ("WBTC", address!("a513e6e4b8f2a923d98304ec87f64353c4d5c853")),
    ("LINK", address!("8a791620dd6260079bf849dc5567adc3f2fdc318")),
    ("UNI", address!("610178da211fef7d417bc0e6fed39f05609ad788")),
];

/// How many of a preset's tokens, from the first on, are base tokens: WETH, USDC, USDT, DAI, WBTC.
const BASE_TOKENS: usize = 5;

impl Preset {
    /// The preset of a chain; [`Preset::None`] for one that is not known.
    pub fn of_chain(chain_id: u64) -> Self {
        match chain_id {
            MAINNET_CHAIN_ID => Self::Mainnet,
            DEVNET_CHAIN_ID => Self::Devnet,
            _ => Self::None,
        }
    }

    /// The chain that the preset describes.
    pub fn chain_id(self) -> Option<u64> {
        match self {
            Self::Mainnet => Some(MAINNET_CHAIN_ID),
            Self::Devnet => Some(DEVNET_CHAIN_ID),
            Self::None => None,
        }
    }

    /// As written in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mainnet => "mainnet",
            Self::Devnet => "devnet",
            Self::None => "none",
        }
    }

    /// What the preset supplies; nothing for [`Preset::None`].
    pub fn tables(self) -> Option<PresetTables> {
        match self {
            Self::Mainnet => Some(mainnet()),
            Self::Devnet => Some(devnet()),
            Self::None => None,
        }
    }
}

fn mainnet() -> PresetTables {
    PresetTables {
        factories: vec![
            uniswap_v2(
                "uniswap",
                address!("5C69bEe701ef814a2B6a3EDD4B1652CB9cc5aA6f"),
                UNISWAP_V2_INIT_CODE_HASH,
            ),
            uniswap_v2(
                "sushi",
                address!("C0AEe478e3658e2610c5F7A4A2E1777cE9e4f2Ac"),
                SUSHISWAP_INIT_CODE_HASH,
            ),
        ],
        // `FACTORY_ADDRESS` of v3-sdk.
        concentrated_factories: vec![ConcentratedFactory {
            name: "uniswap-v3".to_owned(),
            address: address!("1F98431c8aD98523631AE4a59f267346ea31F984"),
            init_code_hash: UNISWAP_V3_INIT_CODE_HASH,
            deployer: None,
        }],
        // `PoolManager` on Ethereum (docs.uniswap.org, v4 deployments).
        concentrated_managers: vec![ConcentratedManager {
            name: "uniswap-v4".to_owned(),
            address: address!("000000000004444c5dc75cB358380D2e3dE08A90"),
        }],
        routers: vec![
            address!("7a250d5630B4cF539739dF2C5dAcb4c659F2488D"),
            address!("d9e1cE17f2641f24aE83637ab66a2cca9C378B9F"),
        ],
        feeds: MAINNET_FEEDS
            .iter()
            .map(|(token, proxy, heartbeat_s, ppm)| in_dollars(token, *proxy, *heartbeat_s, *ppm))
            .collect(),
        ..with_tokens(&MAINNET_TOKENS)
    }
}

fn devnet() -> PresetTables {
    PresetTables {
        factories: vec![
            uniswap_v2(
                "uniswap",
                address!("e7f1725e7734ce288f8367e1bb143e90bb3f0512"),
                UNISWAP_V2_INIT_CODE_HASH,
            ),
            uniswap_v2(
                "sushi",
                address!("9fe46736679d2d9a65f0992f2272de9f3c7fa6e0"),
                UNISWAP_V2_INIT_CODE_HASH,
            ),
        ],
        routers: vec![
            address!("cf7ed3acca5a467e9e704c703e8d87f634fb0fc9"),
            address!("dc64a140aa3e981100a9beca4e685f962f0cf6c9"),
        ],
        swap_routers_02: vec![address!("7b31b399a224ad30d48838f55b41b6a6f1e033ed")],
        universal_routers: vec![address!("47690cc4c0c91be612a643d85195f4d57488de97")],
        concentrated_factories: vec![ConcentratedFactory {
            name: "uniswap-v3".to_owned(),
            address: address!("d04ff4a75edd737a73e92b2f2274cb887d96e110"),
            init_code_hash: UNISWAP_V3_INIT_CODE_HASH,
            deployer: None,
        }],
        concentrated_managers: vec![ConcentratedManager {
            name: "uniswap-v4".to_owned(),
            address: address!("c6b8fbf96cf7bbe45576417ec2163acecfa88ecc"),
        }],
        lending: vec![
            lending_pool(
                "aave-v3.0",
                LendingProtocol::AaveV3,
                address!("a8341097e7bca3e9e20809f8513c20782a4686e3"),
            ),
            lending_pool(
                "aave-v3.6",
                LendingProtocol::AaveV3,
                address!("a95509b2a7a37319384a500bc0524b2ef1f872d0"),
            ),
            lending_pool(
                "aave-v2",
                LendingProtocol::AaveV2,
                address!("da8cd8fbe4eea0f27e1125856bc77cfdcb9f60bf"),
            ),
        ],
        ..with_tokens(&DEVNET_TOKENS)
    }
}

fn with_tokens(tokens: &'static [(&'static str, Address)]) -> PresetTables {
    let addresses = tokens.iter().map(|(_, address)| *address);
    PresetTables {
        factories: Vec::new(),
        concentrated_factories: Vec::new(),
        concentrated_managers: Vec::new(),
        wrapped_native: tokens[0].1,
        base_tokens: addresses.take(BASE_TOKENS).collect(),
        routers: Vec::new(),
        swap_routers_02: Vec::new(),
        universal_routers: Vec::new(),
        feeds: Vec::new(),
        lending: Vec::new(),
        tokens,
    }
}

fn in_dollars(token: &str, proxy: Address, heartbeat_s: u64, deviation_ppm: u32) -> Feed {
    let (_, address) =
        MAINNET_TOKENS.iter().find(|(name, _)| *name == token).expect("it stands in the table");
    Feed {
        name: format!("{token}/USD"),
        proxy,
        token: *address,
        quote: FeedQuote::Usd,
        heartbeat_s,
        deviation_ppm,
    }
}

fn uniswap_v2(name: &str, address: Address, init_code_hash: B256) -> Factory {
    Factory {
        name: name.to_owned(),
        protocol: Protocol::UniswapV2,
        address,
        init_code_hash: Some(init_code_hash),
        fee_ppm: Factory::UNISWAP_V2_FEE_PPM,
    }
}

fn lending_pool(name: &str, protocol: LendingProtocol, pool: Address) -> LendingPool {
    LendingPool { name: name.to_owned(), protocol, pool, from_block: 0, log_range: LendingPool::LOG_RANGE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(preset: Preset, factory: &str, token0: &str, token1: &str, pair: Address) {
        let tables = preset.tables().expect("a case names a chain");
        let token =
            |name: &str| tables.tokens.iter().find(|(symbol, _)| *symbol == name).expect("a known token").1;
        let factory = tables.factories.iter().find(|known| known.name == factory).expect("a known factory");
        for (one, other) in [(token0, token1), (token1, token0)] {
            assert_eq!(factory.derive(token(one), token(other)), Some(pair), "{one}/{other}");
        }
    }

    #[test]
    fn well_known_pools_derive_from_their_factories() {
        let mainnet = |factory, pair| check(Preset::Mainnet, factory, "USDC", "WETH", pair);
        mainnet("uniswap", address!("B4e16d0168e52d35CaCD2c6185b44281Ec28C9Dc"));
        mainnet("sushi", address!("397FF1542f962076d0BFE58eA045FfA2d347ACa0"));
        check(
            Preset::Mainnet,
            "uniswap",
            "WETH",
            "USDT",
            address!("0d4a11d5EEaaC28EC3F61d100daF4d40471f1852"),
        );
        check(Preset::Devnet, "sushi", "WETH", "USDC", address!("d6222fa53ceb0fecad471e0a7bb76bc1f916a566"));
    }

    /// USDC/WETH at 0.05 % and WBTC/WETH at 0.3 %, as the chain has them.
    #[test]
    fn well_known_pools_of_v3_derive_from_their_factory() {
        let factory = &mainnet().concentrated_factories[0];
        let token =
            |name| MAINNET_TOKENS.iter().find(|(symbol, _)| *symbol == name).expect("a known token").1;
        for (one, other, fee, pool) in [
            ("WETH", "USDC", 500, address!("88e6A0c2dDD26FEEb64F039a2c41296FcB3f5640")),
            ("USDC", "WETH", 3_000, address!("8ad599c3A0ff1De082011EFDDc58f1908eb6e6D8")),
            ("WBTC", "WETH", 3_000, address!("CBCdF9626bC03E24f779434178A73a0B4bad62eD")),
        ] {
            assert_eq!(factory.derive(token(one), token(other), fee), pool, "{one}/{other}");
        }
    }

    #[test]
    fn the_devnet_preset_is_the_devnet() {
        let deployed = include_str!("../../../tests/devnet/addresses.json");
        let deployed: serde_json::Value = serde_json::from_str(deployed).expect("it is JSON");
        let address = |value: &serde_json::Value| -> Address {
            value.as_str().and_then(|text| text.parse().ok()).expect("an address")
        };
        let preset = devnet();
        assert_eq!(Preset::Devnet.chain_id(), deployed["chain_id"].as_u64());
        assert_eq!(preset.wrapped_native, address(&deployed["weth"]));
        let factories = deployed["factories"].as_array().expect("a list");
        assert_eq!(preset.factories.len(), factories.len());
        for ((factory, router), deployed) in preset.factories.iter().zip(&preset.routers).zip(factories) {
            assert_eq!(
                (factory.address, *router),
                (address(&deployed["address"]), address(&deployed["router"]))
            );
            assert_eq!(Some(factory.name.as_str()), deployed["name"].as_str());
            let hash = factory.init_code_hash.map(|hash| hash.to_string());
            assert_eq!(hash.as_deref(), deployed["init_code_hash"].as_str());
        }
        let ranged = &deployed["concentrated"];
        let [factory] = &preset.concentrated_factories[..] else { panic!("one factory of V3") };
        assert_eq!(factory.address, address(&ranged["factory"]));
        assert_eq!(ranged["init_code_hash"].as_str(), Some(&*factory.init_code_hash.to_string()));
        let [manager] = &preset.concentrated_managers[..] else { panic!("one manager of V4") };
        assert_eq!(manager.address, address(&ranged["manager"]));
        for pool in ranged["pools"].as_array().expect("a list").iter().filter(|pool| pool["id"].is_null()) {
            let fee = u32::try_from(pool["fee"].as_u64().expect("a fee")).expect("24 bits");
            let derived = factory.derive(address(&pool["token0"]), address(&pool["token1"]), fee);
            assert_eq!(derived, address(&pool["address"]));
        }
        let routers = &deployed["routers"];
        assert_eq!(preset.swap_routers_02, [address(&routers["swap_router_02"])]);
        assert_eq!(preset.universal_routers, [address(&routers["universal"])]);
        let lending = deployed["lending"].as_array().expect("a list").iter();
        let lending = lending.map(|pool| (pool["name"].as_str().expect("a name"), address(&pool["pool"])));
        assert!(preset.lending.iter().map(|pool| (&*pool.name, pool.pool)).eq(lending));
        for token in deployed["tokens"].as_array().expect("a list") {
            let name = token["symbol"].as_str().expect("a symbol");
            assert!(preset.tokens.contains(&(name, address(&token["address"]))), "{name}");
        }
        for pool in deployed["pools"].as_array().expect("a list") {
            let factory = preset.factories.iter().find(|known| pool["factory"].as_str() == Some(&known.name));
            let factory = factory.expect("a factory of the preset");
            let derived = factory.derive(address(&pool["token0"]), address(&pool["token1"]));
            assert_eq!(derived, Some(address(&pool["address"])));
        }
    }

    #[test]
    fn each_base_token_of_mainnet_has_a_feed_and_no_two_share_one() {
        let tables = mainnet();
        for token in &tables.base_tokens {
            assert_eq!(tables.feeds.iter().filter(|feed| feed.token == *token).count(), 1, "{token}");
        }
        let proxies: std::collections::BTreeSet<_> = tables.feeds.iter().map(|feed| feed.proxy).collect();
        assert_eq!(proxies.len(), tables.feeds.len());
        assert!(devnet().feeds.is_empty());
    }

    #[test]
    fn a_chain_id_names_its_preset() {
        for preset in [Preset::Mainnet, Preset::Devnet] {
            assert_eq!(preset.chain_id().map(Preset::of_chain), Some(preset));
        }
        assert_eq!(Preset::of_chain(10), Preset::None);
    }
}
