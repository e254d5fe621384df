//! What tells a V4 pool from another, and which of them are quoted.

use alloy_primitives::{Address, B256, keccak256};

use super::pool::{ConcentratedPool, SwapFee};
use super::swap_math::{Version, WHOLE_FEE};
use crate::ConcentratedError;

/// The fee of a pool whose hook sets it (`LPFeeLibrary.sol`, `DYNAMIC_FEE_FLAG`).
pub const DYNAMIC_FEE: u32 = 0x80_0000;

/// `PoolKey` of V4's manager: its hash is the pool's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// The lower address; zero is the native token.
    pub currency0: Address,
    /// The higher address.
    pub currency1: Address,
    /// Hundredths of a basis point, or [`DYNAMIC_FEE`].
    pub fee: u32,
    /// Ticks that may be initialised are multiples of it.
    pub tick_spacing: i32,
    /// Zero where the pool has none.
    pub hooks: Address,
}

/// What a hook may do: the lowest fourteen bits of its address (`Hooks.sol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HookPermissions(u16);

/// Why a pool is recognised and not quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// Somebody else's code takes part in its swaps or in its liquidity.
    #[error("the pool has a hook at {0}")]
    Hooked(Address),
    /// Its fee is what a hook says.
    #[error("the fee of the pool is dynamic")]
    DynamicFee,
    /// A key that the manager does not accept.
    #[error(transparent)]
    Invalid(#[from] ConcentratedError),
}

impl PoolKey {
    /// `PoolIdLibrary.toId`: the hash of the five words.
    pub fn id(&self) -> B256 {
        let mut words = [0u8; 5 * 32];
        words[12..32].copy_from_slice(self.currency0.as_slice());
        words[44..64].copy_from_slice(self.currency1.as_slice());
        words[92..96].copy_from_slice(&self.fee.to_be_bytes());
        let sign = if self.tick_spacing < 0 { 0xff } else { 0 };
        words[96..124].fill(sign);
        words[124..128].copy_from_slice(&self.tick_spacing.to_be_bytes());
        words[140..160].copy_from_slice(self.hooks.as_slice());
        keccak256(words)
    }

    /// Whether the fee is a hook's to set.
    pub fn has_dynamic_fee(&self) -> bool {
        self.fee == DYNAMIC_FEE
    }

    /// What its hook may do.
    pub fn permissions(&self) -> HookPermissions {
        HookPermissions::of(self.hooks)
    }

    /// The pool, not initialised yet; or why it is not quoted.
    ///
    /// # Errors
    /// A hook, whatever it may do: even one that only watches the liquidity can refuse it. A dynamic fee, which needs one.
    pub fn pool(&self) -> Result<ConcentratedPool, Unsupported> {
        if self.has_dynamic_fee() {
            return Err(Unsupported::DynamicFee);
        }
        if !self.hooks.is_zero() {
            return Err(Unsupported::Hooked(self.hooks));
        }
        if self.fee > WHOLE_FEE {
            return Err(ConcentratedError::FeeTooHigh(self.fee).into());
        }
        Ok(ConcentratedPool::new(Version::V4, SwapFee::of_lp(self.fee), self.tick_spacing)?)
    }
}

impl HookPermissions {
    const ALL: u16 = (1 << 14) - 1;
    /// Before and after a swap, and both changes of amounts.
    const SWAP: u16 = 1 << 7 | 1 << 6 | 1 << 3 | 1 << 2;

    /// By the address alone, as the manager does.
    pub fn of(hooks: Address) -> Self {
        let [.., high, low] = hooks.0.0;
        Self(u16::from_be_bytes([high, low]) & Self::ALL)
    }

    /// None at all.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it is called in a swap.
    pub fn sees_swaps(self) -> bool {
        self.0 & Self::SWAP != 0
    }

    /// Whether it may change what a swap gives.
    pub fn changes_amounts(self) -> bool {
        self.0 & (1 << 3 | 1 << 2) != 0
    }

    /// The bits, as `Hooks.sol` names them: `beforeInitialize` is bit 13, `afterRemoveLiquidityReturnsDelta` bit 0.
    pub fn bits(self) -> u16 {
        self.0
    }
}
