use tokio::sync::watch;

/// What an actor has been told. Level-triggered: it holds until something stronger is said, and is seen whenever it
/// is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
    /// Work.
    #[default]
    Run,
    /// Take nothing new, finish what was accepted, end.
    Drain,
    /// End at once; what was accepted is given up and counted.
    Stop,
}

/// A fault for tests to inject into a running actor. A source has no message in hand: both strike when it next shows its
/// state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Panic when the next message is in hand, before it is handled.
    PanicBefore,
    /// Panic after the next message was handled, before that is noted.
    PanicAfter,
}

/// How a source learns that it is to stop.
#[derive(Clone, Debug)]
pub struct StopSignal {
    command: watch::Receiver<Command>,
}

impl StopSignal {
    pub(crate) fn new(command: watch::Receiver<Command>) -> Self {
        Self { command }
    }

    /// Whether to stop.
    pub fn is_stopped(&self) -> bool {
        *self.command.borrow() > Command::Run
    }

    /// Waits until it is time to stop. Cancel-safe.
    pub async fn stopped(&mut self) {
        // The sender lives as long as the actor's entry in the system; when it is gone, so is the reason to run.
        let _ = self.command.wait_for(|command| *command > Command::Run).await;
    }
}
