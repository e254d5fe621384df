#![doc = include_str!("../README.md")]

mod address_index;
mod book;
mod config;
mod fees;
mod pages;
mod pools;
mod preset;
mod prices;
mod snapshot;
mod view;

pub use book::{
    Applied, BadImage, BlockRef, BookCounts, BookError, BookImage, HORIZON, PoolBook, PoolUpdate, RolledBack,
};
pub use config::{
    ConfigError, ConfigErrors, DEFAULT_MAX_CANDIDATES, DEFAULT_MAX_POOLS, Factory, FactoryConfig, LoadFilter,
    MarketConfig, ResolvedMarket,
};
pub use fees::next_base_fee;
pub use pages::Pages;
pub use pools::{PoolId, PoolMeta, PoolTable, Reserves};
pub use preset::{DEVNET_CHAIN_ID, MAINNET_CHAIN_ID, Preset, PresetTables};
pub use prices::{PriceId, PriceSnapshot, PriceTable, TokenPrice};
pub use snapshot::{Changes, Head, MarketSnapshot};
pub use view::{MixedBlocks, Touched, WholeView};
