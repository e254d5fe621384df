#![doc = include_str!("../README.md")]

mod actor;
mod config;
mod decoder;

pub use actor::{DecoderActor, DecoderMessage, DecoderObserved};
pub use config::DecoderConfig;
pub use decoder::Decoder;
