#![doc = include_str!("../README.md")]

mod component;
mod control;
mod quarantine;
mod restart;
mod system;
mod warden;

pub use component::{Component, Resume, Source};
pub use control::{Command, Fault, StopSignal};
pub use quarantine::{Aside, Quarantine, Quarantined};
pub use restart::{Poison, RestartPolicy};
pub use system::{ActorControl, ActorHandle, ActorStatus, Delays, Exit, Fatal, Poisons, System};
