use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

/// `[decoder]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecoderConfig {
    /// Contracts with the interface of `UniswapV2Router02` whose calls are decoded, beside those of the market's
    /// preset. Default: none.
    pub routers: Vec<Address>,
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
}
