//! Calls as users sign them, with the calls and plans that they carry inside.
//!
//! Everything is read in place. Offsets and lengths are not believed: what one transaction may nest, repeat and copy is
//! bounded by [`Limits`], because arguments may overlap, so that a small calldata can describe a huge call.
//!
//! Each function here takes a call of one sort of contract: `None` where it has another selector than those it knows, and
//! [`Malformed`](crate::Malformed) where the arguments do not decode. Bytes behind the arguments are allowed, as they are by the contracts: front ends
//! append tags of their own.

mod aave;
mod arguments;
mod limits;
mod permit2;
mod reports;
mod routes;
mod token;
mod universal;
mod v2;
mod v3;
mod v4;

pub use aave::aave_pool;
pub use arguments::{Arguments, Input};
pub use limits::{Limits, MAX_DEPTH, MAX_STEPS, ReadCall, inner};
pub use permit2::permit2;
pub(crate) use reports::observations;
pub use reports::{forwarder, report};
pub use routes::MAX_PATH;
pub use token::token;
pub use universal::{universal_router, universal_router_v1};
pub use v2::uniswap_v2_router;
pub use v3::{swap_router_02, uniswap_v3_router};

#[cfg(test)]
mod tests;
