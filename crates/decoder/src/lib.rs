#![doc = include_str!("../README.md")]

mod actor;
mod config;
mod decoder;
mod registry;

pub use actor::{DecoderActor, DecoderMessage, DecoderObserved};
pub use config::{DecoderConfig, KnownContract};
pub use decoder::Decoder;
pub use headwater_abi::Malformed;
pub use headwater_abi::calldata::{Arguments, Input};
pub use registry::{Event, Interface, Registry};
