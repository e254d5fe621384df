use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

use crate::registry::{Interface, Registry};

/// `[decoder]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecoderConfig {
    /// Contracts with the interface of `UniswapV2Router02` whose calls are decoded, beside those of the market's
    /// preset. Default: none.
    pub routers: Vec<Address>,
    /// Contracts with other known interfaces, beside those that are known without configuration. Default: none.
    pub contracts: Vec<KnownContract>,
}

/// `[[decoder.contracts]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownContract {
    /// The contract.
    pub address: Address,
    /// What it can be asked for.
    pub interface: Interface,
}

impl DecoderConfig {
    /// What `registry` knows, and what the configuration and the market say beside it.
    #[must_use]
    pub fn extend(&self, registry: Registry, market_routers: &[Address]) -> Registry {
        let routers = market_routers.iter().chain(&self.routers).copied();
        let registry = registry.contracts(Interface::UniswapV2Router, routers);
        self.contracts
            .iter()
            .fold(registry, |registry, known| registry.contracts(known.interface, [known.address]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&[Address]>) {
        let config = toml::from_str::<DecoderConfig>(text).ok();
        assert_eq!(config.map(|config| config.routers).as_deref(), expected, "{text}");
    }

    #[test]
    fn unknown_keys_and_half_addresses_are_refused() {
        check("", Some(&[]));
        check(
            "routers = ['0x1111111111111111111111111111111111111111']",
            Some(&[Address::repeat_byte(0x11)]),
        );
        check("routers = ['0x1111']", None);
        check("router = []", None);
    }

    #[test]
    fn a_contract_is_given_with_its_interface_by_name() {
        let config = |interface: &str| {
            let address = Address::repeat_byte(0x11);
            let text = format!("contracts = [{{ address = '{address}', interface = '{interface}' }}]");
            toml::from_str::<DecoderConfig>(&text)
        };
        for name in [
            "uniswap-v2-router",
            "uniswap-v3-router",
            "swap-router-02",
            "universal-router-v1",
            "universal-router",
            "permit2",
            "aave-pool",
        ] {
            let registry = config(name).expect("a known interface").extend(Registry::empty(), &[]);
            assert!(registry.knows(Address::repeat_byte(0x11)), "{name}");
        }
        assert!(config("router").is_err());
    }
}
