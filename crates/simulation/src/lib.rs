#![doc = include_str!("../README.md")]

mod assembler;
mod behind;
mod effects;
mod error;
mod executed;
mod flash_swap;
mod native;
mod node_simulator;
mod node_state;
mod pinned;
mod simulator;
#[cfg(test)]
mod testing;
mod trial;

pub use behind::simulate_behind;
pub use effects::{Effect, Effects, Means, NoEffect, Routers};
pub use error::SimulationError;
pub use flash_swap::flash_swap;
pub use native::RouterKind;
pub use node_simulator::NodeSimulator;
pub use node_state::NodeState;
pub use pinned::{AccountState, BlockFigures, Ended, Limits, PinnedState, Sender, StateReader};
pub use simulator::{Simulator, Unavailable};
pub use trial::{Later, Leg, TokenFault, TokenTrial};
