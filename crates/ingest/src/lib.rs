#![doc = include_str!("../README.md")]

mod actor;
mod block_time;
mod bloom;
mod canonical;
mod config;
mod endpoints;
mod error;
mod fetch;
mod outbox;
mod parse;
mod pushed;
mod receipts;

pub use actor::{IngestStatus, LiveIngest, MempoolIngest, MempoolStatus, ReplayIngest, ReplayStatus, Start};
pub use bloom::BloomBuilder;
pub use canonical::{Advance, Canonical, CanonicalError, Link, REMEMBERED, Run, Step};
pub use config::IngestConfig;
pub use error::{FetchError, Incomplete, IngestError};
pub use fetch::{Fetched, Fetcher, match_logs, prove_receipts};
pub use parse::{
    Outcome, ParseError, ParsedBlock, ParsedReceipts, Receipt, parse_block, parse_link, parse_logs,
    parse_pending, parse_receipts,
};
pub use receipts::receipts_root;
