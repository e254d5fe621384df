use alloy_primitives::{Address, B256, keccak256};

/// The pair of two tokens in the order in which pairs keep them: by ascending address.
pub fn sort_tokens(a: Address, b: Address) -> (Address, Address) {
    if a < b { (a, b) } else { (b, a) }
}

/// Where a Uniswap V2 factory puts the pair of two tokens, given in any order: CREATE2 (EIP-1014) with the salt
/// `keccak256(token0 ++ token1)` (v2-core, `UniswapV2Factory.createPair`).
pub fn pair_address(factory: Address, init_code_hash: B256, token_a: Address, token_b: Address) -> Address {
    let (token0, token1) = sort_tokens(token_a, token_b);
    let mut tokens = [0; 40];
    tokens[..20].copy_from_slice(token0.as_slice());
    tokens[20..].copy_from_slice(token1.as_slice());
    factory.create2(keccak256(tokens), init_code_hash)
}

/// How the V4 `PoolManager` names the pool of two currencies, given in any order (v4-core `PoolId.sol`): the hash of its key.
pub fn v4_pool_id(
    currency_a: Address,
    currency_b: Address,
    fee: u32,
    tick_spacing: i32,
    hooks: Address,
) -> B256 {
    let (currency0, currency1) = sort_tokens(currency_a, currency_b);
    let mut key = [0; 160];
    key[..32].copy_from_slice(currency0.into_word().as_slice());
    key[32..64].copy_from_slice(currency1.into_word().as_slice());
    key[92..96].copy_from_slice(&fee.to_be_bytes());
    if tick_spacing < 0 {
        key[96..124].fill(0xff);
    }
    key[124..128].copy_from_slice(&tick_spacing.to_be_bytes());
    key[128..].copy_from_slice(hooks.into_word().as_slice());
    keccak256(key)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{address, b256};

    use super::*;

    const USDC: Address = address!("a0b86991c6218b36c1d19d4a2e9eb0ce3606eb48");
    const WETH: Address = address!("c02aaa39b223fe8d0a0e5c4f27ead9083c756cc2");

    fn check(factory: Address, init_code_hash: B256, expected: Address) {
        assert_eq!(pair_address(factory, init_code_hash, USDC, WETH), expected);
        assert_eq!(pair_address(factory, init_code_hash, WETH, USDC), expected);
    }

    #[test]
    fn the_pairs_of_mainnet_lie_where_they_are_derived() {
        check(
            address!("5c69bee701ef814a2b6a3edd4b1652cb9cc5aa6f"),
            b256!("96e8ac4277198ff8b6f785478aa9a39f403cb768dd02cbee326c3e7da348845f"),
            address!("b4e16d0168e52d35cacd2c6185b44281ec28c9dc"),
        );
        check(
            address!("c0aee478e3658e2610c5f7a4a2e1777ce9e4f2ac"),
            b256!("e18a34eb0e04b04f7a0ac29a6e80748dca96319b42c54d679cb821dca90c6303"),
            address!("397ff1542f962076d0bfe58ea045ffa2d347aca0"),
        );
    }

    #[test]
    fn a_pool_of_mainnet_has_the_name_that_its_key_hashes_to() {
        // Native tokens and USDC at 0.05 %, without hooks.
        let id = b256!("21c67e77068de97969ba93d4aab21826d33ca12bb9f565d8496e8fda8a82ca27");
        assert_eq!(v4_pool_id(USDC, Address::ZERO, 500, 10, Address::ZERO), id);
        assert_eq!(v4_pool_id(Address::ZERO, USDC, 500, 10, Address::ZERO), id);
    }
}
