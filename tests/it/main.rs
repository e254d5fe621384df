//! The one integration binary.

mod actors;
mod architecture;
mod cli;
mod devnet;
mod executed;
mod graph;
mod kill9;
mod lag;
mod live;
mod mainnet;
mod recall;
mod reorgs;
mod replay;
mod simulation;
