use std::future::Future;

use headwater_events::{Opportunity, Simulated};

use crate::SimulationError;

/// Executes findings on the state of their own block.
pub trait Simulator: Send + Sync + 'static {
    /// Whether there is any state to execute on. Where there is none, no verdict depends on when it was asked for.
    const HAS_STATE: bool;

    /// Executes the finding's plan at the end of its block.
    ///
    /// # Errors
    ///
    /// [`SimulationError`]: whatever it is, the finding must not be acted upon.
    fn simulate(
        &self,
        opportunity: &Opportunity,
    ) -> impl Future<Output = Result<Simulated, SimulationError>> + Send;
}

/// There is no state, as in a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unavailable;

impl Simulator for Unavailable {
    const HAS_STATE: bool = false;

    async fn simulate(&self, _opportunity: &Opportunity) -> Result<Simulated, SimulationError> {
        Err(SimulationError::Unavailable)
    }
}
