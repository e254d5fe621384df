//! The one integration binary.

mod actors;
mod anvil;
mod architecture;
mod burst;
mod chaos;
mod cli;
mod cycles;
mod decoder;
mod devnet;
mod disk_full;
mod executed;
mod graph;
mod journal_damage;
mod kill9;
mod lag;
mod lending;
mod live;
mod mainnet;
mod oracle;
mod poison;
mod recall;
mod reorgs;
mod replay;
mod silence;
mod simulation;
mod v3;
