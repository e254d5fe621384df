//! `SwapRouter02` and the Universal Router, which takes what it is paid with through Permit2; and those who swap through them, in
//! pairs and in pools of V3 and V4.

use alloy_primitives::aliases::{U24, U48};
use alloy_primitives::{Address, Bytes, U160, U256, address};
use alloy_sol_types::{SolCall, SolValue};
use anyhow::ensure;
use headwater_reference::pools::{PlaceV3, PlaceV4};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::artifacts::Artifacts;
use super::concentrated::{Place, WHATEVER};
use super::contracts::Permit2;
use super::deployment::{NONCE_WITH_A_FULL_PURSE, created_by};
use super::{Addresses, Devnet, Extent, NEVER, Routers};
use crate::routers::{ADDRESS_THIS, Action, MSG_SENDER, RouterParts, Second, Universal, actions, single_v4};

/// Anvil's last account but two: puts the routers on the chain.
const CREATOR: Address = address!("14dC79964da2C08b23698B3D3cc7Ca32193d9955");

/// Where Permit2 stands on every chain.
const PERMIT2: Address = address!("000000000022D473030F116dDEE9F6B43aC78BA3");

/// How many of anvil's accounts, behind the deployer's, swap through these routers.
const CUSTOMERS: usize = 4;

/// As much as the other ways to swap have.
const GAS: u64 = 700_000;

/// Commands of the Universal Router (`Commands.sol`).
const V3_SWAP_EXACT_IN: u8 = 0x00;
const V2_SWAP_EXACT_IN: u8 = 0x08;
const V2_SWAP_EXACT_OUT: u8 = 0x09;
const WRAP_ETH: u8 = 0x0b;
const V4_SWAP: u8 = 0x10;

/// Actions of V4's router (`Actions.sol`).
const SWAP_EXACT_IN_SINGLE: u8 = 0x06;
const SETTLE: u8 = 0x0b;
const SETTLE_ALL: u8 = 0x0c;
const TAKE_ALL: u8 = 0x0f;

/// A swap through pairs.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathSwap<'a> {
    pub(super) tokens: &'a [Address],
    pub(super) amount_in: U256,
    /// What comes out as the pairs are.
    pub(super) amount_out: U256,
}

/// A swap to a price.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal {
    pub(super) zero_for_one: bool,
    pub(super) sqrt_price_limit: U256,
    /// Leads there or thereabouts.
    pub(super) amount_in: U256,
}

/// Who swaps through the routers, out of a seed of their own.
#[derive(Clone, Debug)]
pub(super) struct Customers {
    random: ChaCha8Rng,
    /// Whether the routers are there.
    are_open: bool,
}

/// A call that is to be sent, with the wei that go along.
type Call = (Address, U256, Vec<u8>);

/// Where everything will stand.
pub(super) fn derive() -> Routers {
    let nth = |count| created_by(CREATOR, NONCE_WITH_A_FULL_PURSE + count);
    Routers { swap_router_02: nth(0), universal: nth(1), permit2: PERMIT2 }
}

/// The contracts, and what the customers allow them.
pub(super) fn deploy(devnet: &Devnet, artifacts: &Artifacts) -> anyhow::Result<()> {
    let addresses = devnet.addresses();
    let Routers { swap_router_02, universal, permit2 } = addresses.routers;
    devnet.rpc().call::<Value>("anvil_setCode", json!([permit2, artifacts.permit2()?]))?;
    let parts = RouterParts {
        factory_v2: addresses.exchange("uniswap").address,
        factory_v3: addresses.concentrated.factory,
        manager: addresses.concentrated.manager,
        wrapped: addresses.weth,
        permit2,
    };
    for (code, expected) in
        [(parts.swap_router_02(artifacts)?, swap_router_02), (parts.universal_router(artifacts)?, universal)]
    {
        let created = devnet.create_mined(CREATOR, &code)?;
        ensure!(created == expected, "a router stands at {created} and not at {expected}");
    }
    for customer in customers(devnet) {
        for token in addresses.tokens.iter().map(|token| token.address).chain([addresses.weth]) {
            devnet.approve(*customer, token, swap_router_02)?;
            devnet.approve(*customer, token, permit2)?;
            let (spender, amount, expiration) = (universal, U160::MAX, U48::MAX);
            let approve = Permit2::approveCall { token, spender, amount, expiration };
            devnet.send(*customer, permit2, U256::ZERO, approve.abi_encode(), 100_000)?;
        }
    }
    devnet.mine()?;
    Ok(())
}

fn customers(devnet: &Devnet) -> &[Address] {
    &devnet.accounts()[1..=CUSTOMERS]
}

impl Customers {
    /// Nobody where there are no such routers.
    pub(super) fn new(seed: u64, devnet: &Devnet) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed);
        Self { random, are_open: devnet.extent() == Extent::Whole }
    }

    /// Swaps through pairs of the first exchange, unless the exchange's own router is to do it.
    pub(super) fn swap_pairs(&mut self, devnet: &Devnet, swap: &PathSwap<'_>) -> anyhow::Result<bool> {
        let call = match self.turn() {
            0..3 => self.second_pairs(devnet.addresses(), swap),
            3..6 => self.universal_pairs(devnet.addresses(), swap),
            _ => return Ok(false),
        };
        self.send(devnet, call)
    }

    /// Swaps in a pool with concentrated liquidity, unless somebody else is to do it.
    pub(super) fn swap(&mut self, devnet: &Devnet, place: &Place, goal: &Goal) -> anyhow::Result<bool> {
        let addresses = devnet.addresses();
        let call = match (self.turn(), place) {
            (0..5, Place::V3(place)) => second_pool(addresses, place, goal),
            (5..8, Place::V3(place)) => self.universal_pool(addresses, place, goal),
            (0..8, Place::V4(place, _)) => self.universal_v4(addresses, place, goal)?,
            _ => return Ok(false),
        };
        self.send(devnet, call)
    }

    /// Of ten. The last where the routers are not there.
    fn turn(&mut self) -> u8 {
        if self.are_open { self.random.random_range(0..10) } else { 9 }
    }

    fn send(&mut self, devnet: &Devnet, (to, value, data): Call) -> anyhow::Result<bool> {
        let customer = customers(devnet)[self.random.random_range(0..CUSTOMERS)];
        devnet.send(customer, to, value, data, GAS)?;
        Ok(true)
    }

    /// Whether ether is sent along for wrapped ether, where that is possible.
    fn sends_ether(&mut self, addresses: &Addresses, token_in: Address) -> bool {
        token_in == addresses.weth && self.random.random_range(0..4) > 0
    }

    fn second_pairs(&mut self, addresses: &Addresses, swap: &PathSwap<'_>) -> Call {
        let (router, weth) = (addresses.routers.swap_router_02, addresses.weth);
        let (path, amount_in, least) = (swap.tokens.to_vec(), swap.amount_in, swap.least());
        let exact_in =
            |to| Second::swapExactTokensForTokensCall { amountIn: amount_in, amountOutMin: least, path, to };
        if self.sends_ether(addresses, swap.tokens[0]) {
            return (router, amount_in, exact_in(MSG_SENDER).abi_encode());
        }
        let data = match self.random.random_range(0..4) {
            0 => {
                let (path, to) = (swap.tokens.to_vec(), MSG_SENDER);
                let (wanted, most) = (swap.amount_out, swap.most());
                Second::swapTokensForExactTokensCall { amountOut: wanted, amountInMax: most, path, to }
                    .abi_encode()
            }
            1 if swap.tokens.last() == Some(&weth) => {
                let unwrap = Second::unwrapWETH9Call { amountMinimum: least };
                let calls = vec![exact_in(ADDRESS_THIS).abi_encode().into(), unwrap.abi_encode().into()];
                Second::multicallCall { deadline: NEVER, calls }.abi_encode()
            }
            _ => exact_in(MSG_SENDER).abi_encode(),
        };
        (router, U256::ZERO, data)
    }

    fn universal_pairs(&mut self, addresses: &Addresses, swap: &PathSwap<'_>) -> Call {
        let PathSwap { tokens, amount_in, amount_out } = *swap;
        let tokens = tokens.to_vec();
        if self.sends_ether(addresses, tokens[0]) {
            let swap = (MSG_SENDER, amount_in, swap.least(), tokens, false).abi_encode_params();
            return wrapped_first(addresses, amount_in, (V2_SWAP_EXACT_IN, swap));
        }
        let command = match self.random.random_range(0..4) {
            0 => (V2_SWAP_EXACT_OUT, (MSG_SENDER, amount_out, swap.most(), tokens, true).abi_encode_params()),
            _ => (V2_SWAP_EXACT_IN, (MSG_SENDER, amount_in, swap.least(), tokens, true).abi_encode_params()),
        };
        execute(addresses, U256::ZERO, [command])
    }

    fn universal_pool(&mut self, addresses: &Addresses, place: &PlaceV3, goal: &Goal) -> Call {
        let [token_in, token_out] = goal.ends(place.tokens);
        let path: Bytes = (token_in, U24::from(place.fee), token_out).abi_encode_packed().into();
        let swap = |payer_is_user: bool| {
            let parameters = (MSG_SENDER, goal.amount_in, U256::ZERO, path, payer_is_user);
            (V3_SWAP_EXACT_IN, parameters.abi_encode_params())
        };
        match self.sends_ether(addresses, token_in) {
            true => wrapped_first(addresses, goal.amount_in, swap(false)),
            false => execute(addresses, U256::ZERO, [swap(true)]),
        }
    }

    fn universal_v4(&mut self, addresses: &Addresses, place: &PlaceV4, goal: &Goal) -> anyhow::Result<Call> {
        let ([currency_in, currency_out], amount) = (goal.ends(place.currencies), goal.amount_in);
        let take = (TAKE_ALL, (currency_out, U256::ZERO).abi_encode_params());
        if self.sends_ether(addresses, currency_in) {
            let settle = (SETTLE, (currency_in, amount, false).abi_encode_params());
            // Nothing named: all that was settled.
            let swap = single_v4(SWAP_EXACT_IN_SINGLE, place, goal.zero_for_one, 0, 0);
            let command = (V4_SWAP, actions([settle, swap, take]).to_vec());
            return Ok(wrapped_first(addresses, amount, command));
        }
        let swap = single_v4(SWAP_EXACT_IN_SINGLE, place, goal.zero_for_one, amount.try_into()?, 0);
        let settle = (SETTLE_ALL, (currency_in, amount).abi_encode_params());
        Ok(execute(addresses, U256::ZERO, [(V4_SWAP, actions([swap, settle, take]).to_vec())]))
    }
}

/// To the very price.
fn second_pool(addresses: &Addresses, place: &PlaceV3, goal: &Goal) -> Call {
    let [token_in, token_out] = goal.ends(place.tokens);
    let params = Second::Single {
        tokenIn: token_in,
        tokenOut: token_out,
        fee: U24::from(place.fee),
        recipient: MSG_SENDER,
        exact: WHATEVER,
        limit: U256::ZERO,
        sqrtPriceLimitX96: U160::from(goal.sqrt_price_limit),
    };
    let data = Second::exactInputSingleCall { params }.abi_encode();
    (addresses.routers.swap_router_02, U256::ZERO, data)
}

/// Ether is wrapped, and the router pays with that.
fn wrapped_first(addresses: &Addresses, amount: U256, then: Action) -> Call {
    let wrap = (WRAP_ETH, (ADDRESS_THIS, amount).abi_encode_params());
    execute(addresses, amount, [wrap, then])
}

fn execute<const N: usize>(addresses: &Addresses, value: U256, plan: [Action; N]) -> Call {
    let (commands, inputs): (Vec<u8>, Vec<Bytes>) =
        plan.into_iter().map(|(command, input)| (command, Bytes::from(input))).unzip();
    let call = Universal::executeCall { commands: commands.into(), inputs, deadline: NEVER };
    (addresses.routers.universal, value, call.abi_encode())
}

impl PathSwap<'_> {
    /// Whoever is overtaken bears it.
    fn least(&self) -> U256 {
        self.amount_out / U256::from(2)
    }

    fn most(&self) -> U256 {
        self.amount_in + self.amount_in / U256::from(5)
    }
}

impl Goal {
    /// What goes in, and what comes out.
    fn ends(&self, [one, other]: [Address; 2]) -> [Address; 2] {
        if self.zero_for_one { [one, other] } else { [other, one] }
    }
}
