use serde::{Deserialize, Serialize};

use crate::Origin;

/// A component changed its health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthEvent {
    /// The component.
    pub component: Origin,
    /// Its health now.
    pub health: Health,
}

/// The health of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// At work.
    Running,
    /// Failed and started anew, for the nth time.
    Restarted(u32),
    /// Set a message aside that it could not process, with the reason.
    Quarantined(String),
    /// Failed too often: given up.
    Failed(String),
    /// Ended in good order.
    Stopped,
}

impl Health {
    pub(crate) fn on_heap(&self) -> usize {
        match self {
            Self::Quarantined(reason) | Self::Failed(reason) => reason.capacity(),
            Self::Running | Self::Restarted(_) | Self::Stopped => 0,
        }
    }
}
