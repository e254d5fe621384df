use std::fmt;

use headwater_actor::{Delays, Poisons};
use headwater_bus::BusConfig;

use crate::bot::{Bot, Strategy};
use crate::running::Running;

/// What a test adds to a live run; the default adds nothing.
pub struct Hooks {
    /// Pauses before the messages of any actor.
    pub delays: Option<Delays>,
    /// Messages that end whoever handles them.
    pub poisons: Option<Poisons>,
    /// Strategies beside the bundled ones.
    pub strategies: Vec<Strategy>,
    /// Sizes of the bus.
    pub bus: BusConfig,
    /// Sees the bot before anything flows.
    pub wired: Box<dyn FnOnce(&mut Bot) + Send + Sync>,
    /// Sees it at work.
    pub running: Box<dyn FnOnce(&Running) + Send + Sync>,
}

impl Default for Hooks {
    fn default() -> Self {
        let (wired, running) = (Box::new(|_: &mut Bot| {}), Box::new(|_: &Running| {}));
        let (delays, poisons, strategies) = (None, None, Vec::new());
        Self { delays, poisons, strategies, bus: BusConfig::default(), wired, running }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("bus", &self.bus).finish_non_exhaustive()
    }
}
