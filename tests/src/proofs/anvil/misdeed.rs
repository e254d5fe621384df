//! What a development node can be made to do to those who follow it.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// One way to take back what was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Misdeed {
    /// `anvil_reorg`: as many blocks as before, all empty.
    ReorgEmpty,
    /// `anvil_reorg` with transactions in the new blocks.
    ReorgTraded,
    /// `evm_snapshot`, blocks, `evm_revert`, other blocks: fewer, as many or more.
    Reverted,
    /// `anvil_rollback`, then other blocks: fewer, as many or more.
    RolledBack,
    /// Another node behind the address, whose chain is another one above the deployment, and shorter.
    RestartLower,
    /// The same, and longer.
    RestartHigher,
}

impl Misdeed {
    /// Those that leave the node running.
    pub(super) const ANNOYING: [Self; 4] =
        [Self::ReorgEmpty, Self::ReorgTraded, Self::Reverted, Self::RolledBack];

    /// So many of each, in random order.
    pub(super) fn round(each: u64, random: &mut ChaCha8Rng) -> Vec<Self> {
        let mut round: Vec<Self> = (0..each).flat_map(|_| Self::ANNOYING).collect();
        round.shuffle(random);
        round
    }

    pub(super) fn is_restart(self) -> bool {
        matches!(self, Self::RestartLower | Self::RestartHigher)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ReorgEmpty => "anvil_reorg, empty",
            Self::ReorgTraded => "anvil_reorg, traded",
            Self::Reverted => "evm_revert",
            Self::RolledBack => "anvil_rollback",
            Self::RestartLower => "restart, lower",
            Self::RestartHigher => "restart, higher",
        }
    }
}
