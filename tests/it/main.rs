//! The one integration binary.

mod actors;
mod architecture;
mod devnet;
mod executed;
mod lag;
mod live;
mod mainnet;
mod recall;
mod replay;
mod simulation;
