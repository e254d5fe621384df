//! The bundled supervisor as a library: the wiring of the bot, its configuration, and what the command line does with them.

mod archive;
pub mod bot;
pub mod cli;
pub mod commands;
pub mod config;
pub mod failure;
pub mod graph;
mod hooks;
mod live;
mod quarantine;
mod report;
mod resume;
mod running;
mod searches;
mod session;

pub use archive::Archive;
pub use bot::{Bot, Parts, Strategy};
pub use config::Config;
pub use failure::Failure;
pub use hooks::Hooks;
pub use live::{Live, Record};
pub use report::say;
pub use running::{Ended, Running};
pub use session::Session;
