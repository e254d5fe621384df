//! What the proofs do, each in a module of its own.

pub mod actors;
pub mod anvil;
pub mod backruns;
pub mod burst;
pub mod chaos;
pub mod cycles;
pub mod decoder;
pub mod disk_full;
pub mod journal_damage;
pub mod kill9;
pub mod lag;
pub mod lending;
pub mod liquidations;
pub mod live;
pub mod mainnet;
pub mod mainnet_swaps;
pub mod oracle;
pub mod poison;
pub mod recall;
pub mod recall_mixed;
pub mod reorgs;
pub mod replay;
pub mod silence;
pub mod tracking;
pub mod tripwire;
pub mod v3;
