#![doc = include_str!("../README.md")]

mod fees;
mod pages;
mod pools;
mod prices;
mod snapshot;
mod view;

pub use fees::next_base_fee;
pub use pages::Pages;
pub use pools::{PoolId, PoolMeta, PoolTable, Reserves};
pub use prices::{PriceSnapshot, TokenPrice};
pub use snapshot::{Changes, Head, MarketSnapshot};
pub use view::{MixedBlocks, Touched, WholeView};
