//! Pools as their authors published them, each on a chain in memory: what they do with an order is the judgement.

#![expect(non_snake_case, reason = "arguments are named as the contracts name them")]

mod several;
mod v2;
mod v3;
mod v4;

use alloy_primitives::{Address, I256, U256, address};
use alloy_sol_types::{SolValue, sol};

use crate::evm::{Artifact, Evm};

pub use self::several::{Code, Several};
pub use self::v2::{FeeV2, PairV2};
pub use self::v3::{ActV3, ExchangeV3, Origin, PlaceV3, PoolV3, StoredTick, create_pool_v3, payer_v3};
pub use self::v4::{ActV4, CallV4, ManagerV4, PlaceV4, RoutersV4};

/// Owns everything and calls everything.
pub const OWNER: Address = address!("00000000000000000000000000000000000000a1");

/// More of each token than any pool here ever asks for.
const PURSE: U256 = U256::from_limbs([0, 0, 0, 1 << 60]);

sol! {
    function mint(address to, uint256 amount) external;
    function approve(address spender, uint256 amount) external returns (bool);
    function transfer(address to, uint256 amount) external returns (bool);
    function balanceOf(address account) external returns (uint256 balance);
}

/// A swap as the pool's function takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Token 0 in.
    pub zero_for_one: bool,
    /// Of the input, or of the output.
    pub amount: U256,
    /// Whether the amount is the input.
    pub is_exact_in: bool,
    /// The square root of a price, with 96 bits after the point.
    pub sqrt_price_limit: U256,
}

/// A change of liquidity, by the pool's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where the range begins.
    pub lower: i32,
    /// Where it ends.
    pub upper: i32,
    /// By how much; negative where it was taken out.
    pub delta: i128,
}

/// What a swap did, by the pool's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Positive where the pool got it, negative where it gave it.
    pub amount0: I256,
    /// As `amount0`.
    pub amount1: I256,
    /// Where the pool stands afterwards.
    pub state: State,
    /// What it cost.
    pub gas_used: u64,
}

/// Where a pool stands, by its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// With 96 bits after the point; zero before it is initialised.
    pub sqrt_price: U256,
    /// As the contract stores it.
    pub tick: i32,
    /// Of the range that the price is in.
    pub liquidity: u128,
}

impl State {
    /// By the words of its storage. Both contracts keep price and tick in one word, in this order from the lowest bit.
    pub fn from_words(slot0: U256, liquidity: U256) -> Self {
        let tick = (slot0 >> 160usize).as_limbs()[0] as u32;
        Self {
            sqrt_price: slot0 & ((U256::ONE << 160usize) - U256::ONE),
            // Sign of 24 bits.
            tick: ((tick << 8) as i32) >> 8,
            liquidity: liquidity.wrapping_to(),
        }
    }
}

/// Two tokens that `owner` holds plenty of, the lower address first.
fn tokens(evm: &mut Evm, token: &Artifact, holder: Address) -> anyhow::Result<[Address; 2]> {
    let mut tokens = [create_token(evm, token, holder)?, create_token(evm, token, holder)?];
    tokens.sort_unstable();
    Ok(tokens)
}

fn create_token(evm: &mut Evm, token: &Artifact, holder: Address) -> anyhow::Result<Address> {
    let token = evm.deploy(OWNER, &token.creation_code()?, &U256::ZERO.abi_encode())?;
    evm.send(OWNER, token, &mintCall { to: holder, amount: PURSE })?;
    Ok(token)
}
