#![doc = include_str!("../README.md")]

mod address_index;
mod book;
mod concentrated;
mod config;
mod feeds;
mod fees;
mod lending;
mod pages;
mod pending;
mod pools;
mod preset;
mod prices;
mod reports;
mod snapshot;
mod taken;
mod view;
mod window;

pub use book::{
    Applied, BadImage, BlockRef, BookCounts, BookError, BookImage, HORIZON, PoolBook, PoolUpdate, Refused,
    RolledBack,
};
pub use concentrated::{
    ConcentratedApplied, ConcentratedBook, ConcentratedCounts, ConcentratedId, ConcentratedImage,
    ConcentratedKey, ConcentratedKind, ConcentratedMeta, ConcentratedTable, ConcentratedUpdate, PairLike,
    concentrated_event, v4_event,
};
pub use config::{
    ConcentratedFactory, ConcentratedManager, ConfigError, ConfigErrors, DEFAULT_MAX_CANDIDATES,
    DEFAULT_MAX_POOLS, Factory, FactoryConfig, FeedConfig, History, HistoryConfig, LendingConfig,
    LendingPool, LoadFilter, MarketConfig, ResolvedMarket,
};
pub use feeds::{
    FEED_ANSWER_BITS, Feed, FeedPrice, FeedQuote, FeedReading, Feeds, MOST_FEED_DECIMALS, NotPending,
    PendingAnswer, PendingPrice, positive_answer,
};
pub use fees::next_base_fee;
/// What the state of a pool with concentrated liquidity is made of: its mathematics is another crate's.
pub use headwater_amm::{
    ConcentratedPool, PoolEvent as ConcentratedEvent, PoolKey as V4Key, PoolPrice as ConcentratedPrice,
    Unsupported as V4Refusal,
};
pub use headwater_events::LendingProtocol;
pub use headwater_lending::{LendingError, Revision};
pub use lending::{LendingBook, LendingCheck, LendingCounts, LendingFeeds, LendingMarket, LendingTable};
pub use pages::Pages;
pub use pending::{Arrival, PendingPool, PoolCounts, PoolLimits};
pub use pools::{PoolId, PoolMeta, PoolTable, Reserves};
pub use preset::{DEVNET_CHAIN_ID, MAINNET_CHAIN_ID, Preset, PresetTables};
pub use prices::{
    PriceId, PriceLimits, PriceSnapshot, PriceSource, PriceSources, PriceTable, Quote, TokenPrice,
};
pub use reports::{PendingQuote, PendingReport, PendingReports, ReportSender};
pub use snapshot::{Changes, Head, MarketSnapshot};
pub use taken::{TakenCycle, taken_cycles};
pub use view::{MixedBlocks, Touched, WholeView};
pub use window::{BlockPrices, MAX_WINDOW_BLOCKS, PriceChange, PriceWindow, TimeWeighted};
