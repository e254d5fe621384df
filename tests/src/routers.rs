//! The routers of Uniswap that came after that of V3: their contracts, and how they are called (swap-router-contracts,
//! universal-router, v4-periphery).

use alloy_primitives::aliases::{I24, U24};
use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_sol_types::{SolValue, sol};
use headwater_reference::pools::PlaceV4;

use crate::devnet::Artifacts;

sol! {
    /// `SwapRouter02` of swap-router-contracts.
    interface Second {
        struct Single { address tokenIn; address tokenOut; uint24 fee; address recipient; uint256 exact; uint256 limit; uint160 sqrtPriceLimitX96; }
        struct Path { bytes path; address recipient; uint256 exact; uint256 limit; }
        function exactInputSingle(Single params) external payable returns (uint256);
        function exactOutput(Path params) external payable returns (uint256);
        function exactInput(Path params) external payable returns (uint256);
        function swapExactTokensForTokens(uint256 amountIn, uint256 amountOutMin, address[] path, address to) external payable returns (uint256);
        function swapTokensForExactTokens(uint256 amountOut, uint256 amountInMax, address[] path, address to) external payable returns (uint256);
        function unwrapWETH9(uint256 amountMinimum) external payable;
        function multicall(uint256 deadline, bytes[] calls) external payable returns (bytes[]);
    }
    interface Universal {
        struct PoolKey { address currency0; address currency1; uint24 fee; int24 tickSpacing; address hooks; }
        struct PathKey { address currency; uint24 fee; int24 tickSpacing; address hooks; bytes hookData; }
        struct Single { PoolKey poolKey; bool zeroForOne; uint128 exact; uint128 limit; bytes hookData; }
        struct Path { address currency; PathKey[] path; uint128 exact; uint128 limit; }
        function execute(bytes commands, bytes[] inputs, uint256 deadline) external payable;
    }
}

/// The caller, to these routers.
pub(crate) const MSG_SENDER: Address = Address::with_last_byte(1);
/// The router itself, to these routers.
pub(crate) const ADDRESS_THIS: Address = Address::with_last_byte(2);

/// Stands for contracts that are not there.
const NOBODY: Address = Address::repeat_byte(0xdd);

/// What the routers are told of when they are created.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouterParts {
    /// Of the pairs.
    pub(crate) factory_v2: Address,
    /// Of the pools of V3.
    pub(crate) factory_v3: Address,
    /// Of the pools of V4.
    pub(crate) manager: Address,
    /// The wrapped native token.
    pub(crate) wrapped: Address,
    /// Takes the users' tokens for the Universal Router.
    pub(crate) permit2: Address,
}

impl RouterParts {
    /// Creation code with its arguments.
    pub(crate) fn swap_router_02(&self, artifacts: &Artifacts) -> anyhow::Result<Bytes> {
        let path = "@uniswap/swap-router-contracts/artifacts/contracts/SwapRouter02.sol/SwapRouter02.json";
        let positions = Address::ZERO;
        let arguments = (self.factory_v2, self.factory_v3, positions, self.wrapped).abi_encode();
        Ok([&artifacts.contract(path)?.creation_code()?[..], &arguments].concat().into())
    }

    /// The same of the Universal Router. What holds positions is not there.
    pub(crate) fn universal_router(&self, artifacts: &Artifacts) -> anyhow::Result<Bytes> {
        let path = "@uniswap/universal-router/artifacts/contracts/UniversalRouter.sol/UniversalRouter.json";
        let [pair, pool] = init_code_hashes(artifacts)?;
        let Self { factory_v2, factory_v3, manager, wrapped, permit2 } = *self;
        let arguments = (permit2, wrapped, factory_v2, factory_v3, pair, pool, manager, NOBODY, NOBODY);
        Ok([&artifacts.contract(path)?.creation_code()?[..], &arguments.abi_encode()].concat().into())
    }

    /// The same of the Universal Router before V4. The markets for what cannot be divided are not there.
    pub(crate) fn universal_router_v1(&self, artifacts: &Artifacts) -> anyhow::Result<Bytes> {
        let path = "universal-router-v1/artifacts/contracts/UniversalRouter.sol/UniversalRouter.json";
        let [pair, pool] = init_code_hashes(artifacts)?;
        let Self { factory_v2, factory_v3, wrapped, permit2, .. } = *self;
        let arguments = (permit2, wrapped, [NOBODY; 14], factory_v2, factory_v3, pair, pool);
        Ok([&artifacts.contract(path)?.creation_code()?[..], &arguments.abi_encode()].concat().into())
    }
}

/// Of the pairs and of the pools of V3: the Universal Router computes their addresses.
fn init_code_hashes(artifacts: &Artifacts) -> anyhow::Result<[B256; 2]> {
    let hash = |path: &str| anyhow::Ok(keccak256(artifacts.contract(path)?.creation_code()?));
    Ok([
        hash("@uniswap/v2-core/build/UniswapV2Pair.json")?,
        hash("@uniswap/v3-core/artifacts/contracts/UniswapV3Pool.sol/UniswapV3Pool.json")?,
    ])
}

/// An action of V4's router with its parameters.
pub(crate) type Action = (u8, Vec<u8>);

/// What the command for V4 takes.
pub(crate) fn actions<const N: usize>(actions: [Action; N]) -> Bytes {
    let (names, parameters): (Vec<u8>, Vec<Bytes>) =
        actions.into_iter().map(|(name, parameters)| (name, Bytes::from(parameters))).unzip();
    (Bytes::from(names), parameters).abi_encode_params().into()
}

/// A swap through one pool.
pub(crate) fn single_v4(name: u8, place: &PlaceV4, zero_for_one: bool, exact: u128, limit: u128) -> Action {
    let [currency0, currency1] = place.currencies;
    let key = Universal::PoolKey {
        currency0,
        currency1,
        fee: U24::from(place.fee),
        tickSpacing: I24::try_from(place.spacing).unwrap_or_default(),
        hooks: Address::ZERO,
    };
    let parameters =
        Universal::Single { poolKey: key, zeroForOne: zero_for_one, exact, limit, hookData: Bytes::new() };
    (name, parameters.abi_encode())
}

/// `currency`: where an exact input begins, or an exact output ends.
pub(crate) fn path_v4(
    name: u8,
    currency: Address,
    path: &[(Address, &PlaceV4)],
    exact: u128,
    limit: u128,
) -> Action {
    let key = |(currency, place): &(Address, &PlaceV4)| Universal::PathKey {
        currency: *currency,
        fee: U24::from(place.fee),
        tickSpacing: I24::try_from(place.spacing).unwrap_or_default(),
        hooks: Address::ZERO,
        hookData: Bytes::new(),
    };
    let path = path.iter().map(key).collect();
    (name, Universal::Path { currency, path, exact, limit }.abi_encode())
}
