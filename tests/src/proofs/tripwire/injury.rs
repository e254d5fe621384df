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
}

impl Kind {
    pub(super) const ALL: [Self; 12] = [
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
    ];

    pub(super) fn is_of_pair(self) -> bool {
        matches!(self, Self::Reserves | Self::MissedSync | Self::PairGone | Self::PairNonsense)
    }

    pub(super) fn expected(self) -> Difference {
        match self {
            Self::Reserves => Difference::ReservesWithoutSync,
            Self::MissedSync | Self::MissedSwap => Difference::MissedEvent,
            Self::PairGone | Self::PoolGone => Difference::Gone,
            Self::PairNonsense | Self::PoolNonsense => Difference::Nonsense,
            Self::Price => Difference::Price,
            Self::CurrentTick => Difference::CurrentTick,
            Self::Liquidity => Difference::Liquidity,
            Self::Tick | Self::Bitmap => Difference::Ticks,
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
        let pool = victim.pool;
        let bit = |at: usize| U256::ONE << at;
        let of = |key: i32, mapping: u64| -> anyhow::Result<U256> {
            let (key, mapping) = (I256::try_from(key)?.into_raw(), U256::from(mapping));
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
            Kind::Tick => (of(any_tick()?, 5)?, bit(0)),
            Kind::Bitmap => {
                let place = victim.current_tick.div_euclid(victim.spacing);
                let bit_of = usize::try_from((place + 7).rem_euclid(256))?;
                (of(place.div_euclid(256), 6)?, bit(bit_of))
            }
            Kind::PairGone | Kind::PoolGone => return Self::code(devnet, pool, Bytes::new()),
            // PUSH1 0 PUSH1 0 REVERT; and PUSH1 1 PUSH1 0 RETURN, one byte of nothing.
            Kind::PairNonsense => {
                return Self::code(devnet, pool, Bytes::from_static(&[0x60, 0, 0x60, 0, 0xfd]));
            }
            Kind::PoolNonsense => {
                return Self::code(devnet, pool, Bytes::from_static(&[0x60, 1, 0x60, 0, 0xf3]));
            }
            Kind::MissedSync | Kind::MissedSwap => anyhow::bail!("nothing is done to the contract"),
        };
        let before: B256 = devnet.rpc().call("eth_getStorageAt", json!([pool, slot, "latest"]))?;
        set_slot(devnet, pool, slot, (U256::from_be_bytes(before.0) ^ changed).into())?;
        Ok(Self::Slot { pool, slot, before })
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

fn set_slot(devnet: &Devnet, pool: Address, slot: U256, word: B256) -> anyhow::Result<()> {
    devnet.rpc().call::<Value>("anvil_setStorageAt", json!([pool, slot, word]))?;
    Ok(())
}
