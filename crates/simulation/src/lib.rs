#![doc = include_str!("../README.md")]

mod assembler;
mod error;
mod flash_swap;
mod node_simulator;
mod simulator;

pub use error::SimulationError;
pub use flash_swap::flash_swap;
pub use node_simulator::NodeSimulator;
pub use simulator::{Simulator, Unavailable};
