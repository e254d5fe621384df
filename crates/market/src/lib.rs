#![doc = include_str!("../README.md")]

mod address_index;
mod book;
mod config;
mod feeds;
mod fees;
mod pages;
mod pending;
mod pools;
mod preset;
mod prices;
mod snapshot;
mod view;
mod window;

pub use book::{
    Applied, BadImage, BlockRef, BookCounts, BookError, BookImage, HORIZON, PoolBook, PoolUpdate, RolledBack,
};
pub use config::{
    ConfigError, ConfigErrors, DEFAULT_MAX_CANDIDATES, DEFAULT_MAX_POOLS, Factory, FactoryConfig, FeedConfig,
    LoadFilter, MarketConfig, ResolvedMarket,
};
pub use feeds::{
    FEED_ANSWER_BITS, Feed, FeedPrice, FeedQuote, FeedReading, Feeds, MOST_FEED_DECIMALS, NotPending,
    PendingAnswer, PendingPrice, positive_answer,
};
pub use fees::next_base_fee;
pub use pages::Pages;
pub use pending::{Arrival, PendingPool, PoolCounts, PoolLimits};
pub use pools::{PoolId, PoolMeta, PoolTable, Reserves};
pub use preset::{DEVNET_CHAIN_ID, MAINNET_CHAIN_ID, Preset, PresetTables};
pub use prices::{
    PriceId, PriceLimits, PriceSnapshot, PriceSource, PriceSources, PriceTable, Quote, TokenPrice,
};
pub use snapshot::{Changes, Head, MarketSnapshot};
pub use view::{MixedBlocks, Touched, WholeView};
pub use window::{BlockPrices, MAX_WINDOW_BLOCKS, PriceChange, PriceWindow, TimeWeighted};
