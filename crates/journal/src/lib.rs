#![doc = include_str!("../README.md")]

mod appender;
mod aside;
mod backlog;
mod compressed;
mod config;
mod durable;
mod error;
mod fail_points;
mod format;
mod inspect;
mod journal;
mod recording;
mod records;
mod retention;
mod segment;
mod snapshots;
mod writer;

#[cfg(test)]
mod samples;

pub use aside::{SetAside, note_set_aside};
pub use backlog::JournalBacklog;
pub use compressed::{Exported, export_recording};
pub use config::JournalConfig;
pub use durable::{describe, note};
pub use error::{Damage, JournalError};
pub use fail_points::FailPoint;
#[cfg(feature = "fail-points")]
pub use fail_points::fail_at;
pub use format::{FORMAT_VERSION, MAX_RECORD_BYTES, SCHEMA_VERSION};
pub use inspect::{Examined, Info, SegmentInfo, examine, info, verify};
pub use journal::{DESCRIPTION, Journal};
pub use recording::{Recording, TornTail, runs};
pub use records::{Record, Records};
pub use snapshots::{MAX_SNAPSHOT_BYTES, Refusal, Snapshots};
pub use writer::{JournalStatus, JournalWriter, Keeper};
