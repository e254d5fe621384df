//! A wired system from its start to its end.

use std::time::Duration;

use alloy_primitives::{B256, keccak256};
use headwater_actor::{ActorControl, Command, Exit, Fatal, Quarantined, System};
use headwater_bus::{EdgeReport, EventBus, HandlerReport, Topology};
use headwater_oracle::OracleObserved;
use headwater_state::StateObserved;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// Actors, handlers and forwarders at work.
#[derive(Debug)]
pub struct Running {
    pub(crate) system: System,
    pub(crate) bus: EventBus,
    pub(crate) topology: Topology,
    /// What produces; when it ends, everything drains in the order of the data.
    pub(crate) source: ActorControl,
    /// What shows pending transactions; it produces as long as the source does.
    pub(crate) mempool: Option<ActorControl>,
    /// The other actors, in the order of the data.
    pub(crate) actors: Vec<ActorControl>,
    pub(crate) handlers: Vec<JoinHandle<HandlerReport>>,
    pub(crate) digests: Digests,
}

/// Where state and oracle leave their digests when they have drained.
#[derive(Clone, Debug)]
pub(crate) struct Digests {
    pub(crate) state: watch::Receiver<Option<StateObserved>>,
    pub(crate) oracle: watch::Receiver<Option<OracleObserved>>,
}

impl Digests {
    /// keccak-256 of both digests in a row; nothing unless both have drained.
    fn together(&self) -> Option<B256> {
        let state = self.state.borrow().and_then(|state| state.digest)?;
        let oracle = self.oracle.borrow().and_then(|oracle| oracle.digest)?;
        Some(keccak256([state, oracle].concat()))
    }
}

/// How a system ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Whether somebody asked for it before the source was exhausted.
    pub interrupted: bool,
    /// The actor that was given up, if any was.
    pub fatal: Option<Fatal>,
    /// Messages that ended an actor twice and were set aside.
    pub quarantined: Vec<Quarantined>,
    /// Each actor and its end; the source is the first.
    pub exits: Vec<(String, Exit)>,
    /// Each handler and its counts.
    pub handlers: Vec<HandlerReport>,
    /// Every edge with its counts.
    pub edges: Vec<EdgeReport>,
    /// Of pools, prices and undo records as of the last block; nothing where state or oracle did not drain.
    pub state_digest: Option<B256>,
}

impl Ended {
    /// The name of the source.
    pub(crate) fn source(&self) -> &str {
        self.exits.first().map_or("", |(source, _)| source)
    }
}

/// From an interruption to the end of the drain, if it can be reached.
const GRACE: Duration = Duration::from_millis(1_500);

/// How long the handlers may take after that: one may write where nobody reads.
const HANDLERS: Duration = Duration::from_millis(1_500);

impl Running {
    /// The actor of a name.
    pub fn actor(&self, name: &str) -> Option<&ActorControl> {
        self.actors().find(|actor| actor.name() == name)
    }

    /// Every actor, in the order of the data.
    pub fn actors(&self) -> impl Iterator<Item = &ActorControl> {
        std::iter::once(&self.source).chain(&self.mempool).chain(&self.actors)
    }

    /// The tree that the actors hang in.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// Every edge with its counts so far.
    pub fn edges(&self) -> Vec<EdgeReport> {
        self.topology.report()
    }

    /// Works until the source is exhausted, an actor is given up or `interrupt` resolves; then drains: the source
    /// first, the sinks last.
    pub async fn finish(self, interrupt: impl Future<Output = ()>) -> Ended {
        let mut interrupt = std::pin::pin!(interrupt);
        let mut interrupted = false;
        let mut fatal = None;
        tokio::select! {
            _ = self.source.ended() => {}
            given_up = self.system.fatal() => fatal = Some(given_up),
            () = interrupt.as_mut() => {
                info!("told to stop: draining");
                interrupted = true;
            }
        }
        self.source.tell(Command::Stop);
        if let Some(mempool) = &self.mempool {
            mempool.tell(Command::Stop);
        }
        if !interrupted && fatal.is_none() {
            tokio::select! {
                () = self.drain() => {}
                given_up = self.system.fatal() => fatal = Some(given_up),
                () = interrupt.as_mut() => interrupted = true,
            }
        }
        let in_haste = interrupted || fatal.is_some();
        let mut patience = std::pin::pin!(async {
            if !in_haste {
                interrupt.await;
            }
            tokio::time::sleep(HANDLERS).await;
        });
        let mut out_of_patience = false;
        if in_haste && tokio::time::timeout(GRACE, self.drain()).await.is_err() {
            warn!("not drained in time: stopping");
            self.stop().await;
        }
        fatal = fatal.or_else(|| self.system.given_up());
        let mut exits = Vec::new();
        for actor in self.actors() {
            exits.push((actor.name().to_owned(), actor.ended().await));
        }
        self.bus.close_derived();
        let mut handlers = Vec::new();
        for mut handler in self.handlers {
            let report = tokio::select! {
                biased;
                report = &mut handler => report,
                () = async { if !out_of_patience { patience.as_mut().await } } => {
                    out_of_patience = true;
                    handler.abort();
                    handler.await
                }
            };
            match report {
                Ok(report) => handlers.push(report),
                Err(error) => warn!(%error, "a handler did not end in good order"),
            }
        }
        let quarantined = self.system.quarantined();
        self.system.end();
        interrupted |= out_of_patience && fatal.is_none();
        let (edges, state_digest) = (self.topology.report(), self.digests.together());
        Ended { interrupted, fatal, quarantined, exits, handlers, edges, state_digest }
    }

    /// Closes the source's lane once the source has ended; every mailbox behind it then closes in turn.
    async fn drain(&self) {
        self.source.ended().await;
        self.bus.close_source();
        for actor in &self.actors {
            actor.ended().await;
        }
    }

    /// Ends every actor at once; what they had not done is counted as abandoned.
    async fn stop(&self) {
        self.bus.close_source();
        for actor in self.actors() {
            actor.tell(Command::Stop);
        }
        for actor in self.actors() {
            if tokio::time::timeout(Duration::from_millis(250), actor.ended()).await.is_err() {
                warn!(actor = actor.name(), "does not stop: killing it");
                actor.kill();
                actor.ended().await;
            }
        }
    }
}
