//! What is done to a contract.

use alloy_primitives::{Address, B256, Bytes, I256, U256, keccak256};
use anyhow::Context;
use headwater_events::Difference;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::bot::Victim;
use crate::devnet::Devnet;

/// How a pool comes to differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A pair's reserves change and nothing is logged.
    Reserves,
    /// A pair's logs do not arrive.
    MissedSync,
    PairGone,
    PairNonsense,
    Price,
    /// The logs of a pool of V3 do not arrive.
    MissedSwap,
    CurrentTick,
    Liquidity,
    /// What a tick holds.
    Tick,
    /// Which ticks are initialised.
    Bitmap,
    PoolGone,
    PoolNonsense,
    /// Of a pool of V4, an entry of its manager, all from here on.
    V4Price,
    V4MissedSwap,
    V4CurrentTick,
    V4Liquidity,
    V4Tick,
    V4Bitmap,
    V4ProtocolFee,
    V4Gone,
    V4Nonsense,
}

/// Which pools something can be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Make {
    V2,
    V3,
    V4,
}

impl Kind {
    pub(super) const ALL: [Self; 21] = [
        Self::Reserves,
        Self::MissedSync,
        Self::PairGone,
        Self::PairNonsense,
        Self::Price,
        Self::MissedSwap,
        Self::CurrentTick,
        Self::Liquidity,
        Self::Tick,
        Self::Bitmap,
        Self::PoolGone,
        Self::PoolNonsense,
        Self::V4Price,
        Self::V4MissedSwap,
        Self::V4CurrentTick,
        Self::V4Liquidity,
        Self::V4Tick,
        Self::V4Bitmap,
        Self::V4ProtocolFee,
        Self::V4Gone,
        Self::V4Nonsense,
    ];

    pub(super) fn make(self) -> Make {
        match self {
            Self::Reserves | Self::MissedSync | Self::PairGone | Self::PairNonsense => Make::V2,
            Self::Price
            | Self::MissedSwap
            | Self::CurrentTick
            | Self::Liquidity
            | Self::Tick
            | Self::Bitmap
            | Self::PoolGone
            | Self::PoolNonsense => Make::V3,
            Self::V4Price
            | Self::V4MissedSwap
            | Self::V4CurrentTick
            | Self::V4Liquidity
            | Self::V4Tick
            | Self::V4Bitmap
            | Self::V4ProtocolFee
            | Self::V4Gone
            | Self::V4Nonsense => Make::V4,
        }
    }

    /// Whether logs are kept from the bot, and nothing is done to the contract.
    pub(super) fn is_missed(self) -> bool {
        matches!(self, Self::MissedSync | Self::MissedSwap | Self::V4MissedSwap)
    }

    pub(super) fn expected(self) -> Difference {
        match self {
            Self::Reserves => Difference::ReservesWithoutSync,
            Self::MissedSync | Self::MissedSwap | Self::V4MissedSwap => Difference::MissedEvent,
            Self::PairGone | Self::PoolGone | Self::V4Gone => Difference::Gone,
            Self::PairNonsense | Self::PoolNonsense | Self::V4Nonsense => Difference::Nonsense,
            Self::Price | Self::V4Price => Difference::Price,
            Self::CurrentTick | Self::V4CurrentTick => Difference::CurrentTick,
            Self::Liquidity | Self::V4Liquidity => Difference::Liquidity,
            Self::Tick | Self::Bitmap | Self::V4Tick | Self::V4Bitmap => Difference::Ticks,
            Self::V4ProtocolFee => Difference::ProtocolFee,
        }
    }
}

/// What was done, so that it can be undone.
#[derive(Debug)]
pub(super) enum Injury {
    Slot { pool: Address, slot: U256, before: B256 },
    Code { pool: Address, before: Bytes },
}

impl Injury {
    pub(super) fn inflict(
        devnet: &Devnet,
        kind: Kind,
        victim: &Victim,
        random: &mut ChaCha8Rng,
    ) -> anyhow::Result<Self> {
        let (pool, id) = victim.name;
        // `PoolManager`: `pools` in slot 6, in each its first word, `liquidity` in 3, `ticks` in 4, `tickBitmap` in 5.
        let place: U256 = keccak256([id.unwrap_or_default().0, U256::from(6).to_be_bytes()].concat()).into();
        let within = |offset: u64| place.wrapping_add(U256::from(offset));
        let bit = |at: usize| U256::ONE << at;
        let of = |key: i32, mapping: U256| -> anyhow::Result<U256> {
            let key = I256::try_from(key)?.into_raw();
            Ok(keccak256([key.to_be_bytes::<32>(), mapping.to_be_bytes()].concat()).into())
        };
        let mut any_tick = || {
            let at = random.random_range(0..victim.ticks.len().max(1));
            victim.ticks.get(at).copied().context("it has no ticks")
        };
        // `UniswapV2Pair`: both reserves in slot 8. `UniswapV3Pool`: `slot0` in 0, `liquidity` in 4, `ticks` in 5, `tickBitmap` in 6.
        let (slot, changed) = match kind {
            Kind::Reserves => (U256::from(8), bit(random.random_range(0..40)) | bit(112)),
            Kind::Price => (U256::ZERO, bit(random.random_range(0..30))),
            Kind::CurrentTick => (U256::ZERO, bit(160)),
            Kind::Liquidity => (U256::from(4), bit(random.random_range(0..50))),
            Kind::Tick => (of(any_tick()?, U256::from(5))?, bit(0)),
            Kind::Bitmap | Kind::V4Bitmap => {
                let mapping = if kind == Kind::Bitmap { U256::from(6) } else { within(5) };
                let at = victim.current_tick.div_euclid(victim.spacing);
                let bit_of = usize::try_from((at + 7).rem_euclid(256))?;
                (of(at.div_euclid(256), mapping)?, bit(bit_of))
            }
            Kind::V4Price => (place, bit(random.random_range(0..30))),
            Kind::V4CurrentTick => (place, bit(160)),
            Kind::V4ProtocolFee => (place, bit(random.random_range(184..194))),
            Kind::V4Nonsense => (place, bit(210)),
            Kind::V4Liquidity => (within(3), bit(random.random_range(0..50))),
            Kind::V4Tick => (of(any_tick()?, within(4))?, bit(0)),
            Kind::V4Gone => (place, word(devnet, pool, place)?),
            Kind::PairGone | Kind::PoolGone => return Self::code(devnet, pool, Bytes::new()),
            // PUSH1 0 PUSH1 0 REVERT; and PUSH1 1 PUSH1 0 RETURN, one byte of nothing.
            Kind::PairNonsense => {
                return Self::code(devnet, pool, Bytes::from_static(&[0x60, 0, 0x60, 0, 0xfd]));
            }
            Kind::PoolNonsense => {
                return Self::code(devnet, pool, Bytes::from_static(&[0x60, 1, 0x60, 0, 0xf3]));
            }
            Kind::MissedSync | Kind::MissedSwap | Kind::V4MissedSwap => {
                anyhow::bail!("nothing is done to the contract")
            }
        };
        let before = word(devnet, pool, slot)?;
        set_slot(devnet, pool, slot, (before ^ changed).into())?;
        Ok(Self::Slot { pool, slot, before: before.into() })
    }

    fn code(devnet: &Devnet, pool: Address, code: Bytes) -> anyhow::Result<Self> {
        let before: Bytes = devnet.rpc().call("eth_getCode", json!([pool, "latest"]))?;
        devnet.rpc().call::<Value>("anvil_setCode", json!([pool, code]))?;
        Ok(Self::Code { pool, before })
    }

    pub(super) fn heal(self, devnet: &Devnet) -> anyhow::Result<()> {
        match self {
            Self::Slot { pool, slot, before } => set_slot(devnet, pool, slot, before),
            Self::Code { pool, before } => {
                devnet.rpc().call::<Value>("anvil_setCode", json!([pool, before]))?;
                Ok(())
            }
        }
    }
}

fn word(devnet: &Devnet, contract: Address, slot: U256) -> anyhow::Result<U256> {
    let word: B256 = devnet.rpc().call("eth_getStorageAt", json!([contract, slot, "latest"]))?;
    Ok(word.into())
}

fn set_slot(devnet: &Devnet, pool: Address, slot: U256, word: B256) -> anyhow::Result<()> {
    devnet.rpc().call::<Value>("anvil_setStorageAt", json!([pool, slot, word]))?;
    Ok(())
}
