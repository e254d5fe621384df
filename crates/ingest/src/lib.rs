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

pub use actor::{IngestStatus, LiveIngest, ReplayIngest, ReplayStatus, Start};
pub use bloom::BloomBuilder;
pub use canonical::{Advance, Canonical, CanonicalError, Link, Run, Step};
pub use config::IngestConfig;
pub use error::{FetchError, Incomplete, IngestError};
pub use fetch::{Fetched, Fetcher, match_logs};
pub use parse::{ParseError, ParsedBlock, parse_block, parse_link, parse_logs};
