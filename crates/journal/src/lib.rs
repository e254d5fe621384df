#![doc = include_str!("../README.md")]

mod appender;
mod aside;
mod backlog;
mod compressed;
mod config;
mod error;
mod format;
mod inspect;
mod journal;
mod recording;
mod records;
mod retention;
mod segment;
mod writer;

#[cfg(test)]
mod samples;

pub use aside::{SetAside, note_set_aside};
pub use backlog::JournalBacklog;
pub use compressed::{Exported, export_recording};
pub use config::JournalConfig;
pub use error::{Damage, JournalError};
pub use format::{FORMAT_VERSION, MAX_RECORD_BYTES, SCHEMA_VERSION};
pub use inspect::{Examined, Info, SegmentInfo, examine, info, verify};
pub use journal::{DESCRIPTION, Journal};
pub use recording::{Recording, TornTail};
pub use records::{Record, Records};
pub use writer::{JournalStatus, JournalWriter};
