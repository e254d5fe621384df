use headwater_bus::{Closed, Missing};
use headwater_market::MixedBlocks;

/// A value that no detector can work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Cycles of another length.
    #[error("max_hops is {0}, and cycles of 2 to 4 pools are searched")]
    MaxHops(u8),
}

/// Why a block could not be evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// A part of its view is not to be had.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The parts of its view are of different blocks.
    #[error(transparent)]
    Mixed(#[from] MixedBlocks),
    /// Nobody takes findings any longer.
    #[error("the findings have no reader")]
    Unread(#[from] Closed),
}
