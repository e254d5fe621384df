//! The one integration binary.

mod architecture;
mod devnet;
mod executed;
