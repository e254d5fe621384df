//! The one integration binary.

mod architecture;
mod devnet;
mod executed;
mod recall;
mod simulation;
