//! The one integration binary.

mod actors;
mod architecture;
mod cli;
mod devnet;
mod executed;
mod graph;
mod lag;
mod live;
mod mainnet;
mod recall;
mod replay;
mod silence;
mod simulation;
