use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use headwater_bus::clock;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, ActorRuntime, SupervisionEvent};
use tokio::sync::watch;
use tracing::{debug, error, warn};

use crate::restart::Failures;
use crate::system::{Exit, Fatal, Shared, Work};

/// A message that must not be skipped ended two incarnations; a restart would not help.
#[derive(Debug, thiserror::Error)]
#[error("event {seq:?} cannot be processed and must not be skipped: {reason}")]
pub(crate) struct Hopeless {
    pub(crate) seq: Option<u64>,
    pub(crate) reason: String,
}

/// One actor under supervision.
pub(crate) struct Child {
    shared: Arc<Shared>,
    work: Arc<dyn Fn() -> Work + Send + Sync>,
    failures: Failures,
    /// The incarnation that lives now.
    alive: Option<ActorId>,
}

impl Child {
    pub(crate) fn new(shared: Arc<Shared>, work: Arc<dyn Fn() -> Work + Send + Sync>) -> Self {
        Self { shared, work, failures: Failures::default(), alive: None }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

/// The root of the tree. It awaits no child: it launches, and hears of their ends.
pub(crate) struct Warden;

#[derive(Debug)]
pub(crate) enum WardenMessage {
    Adopt(Box<Child>),
    Launch(usize),
    LookForStalls,
}

pub(crate) struct Ward {
    children: BTreeMap<usize, Child>,
    adopted: usize,
    fatal: watch::Sender<Option<Fatal>>,
}

const STALL_CHECK: Duration = Duration::from_secs(1);

impl Actor for Warden {
    type Msg = WardenMessage;
    type State = Ward;
    type Arguments = watch::Sender<Option<Fatal>>;

    async fn pre_start(
        &self,
        myself: ActorRef<WardenMessage>,
        fatal: Self::Arguments,
    ) -> Result<Ward, ActorProcessingErr> {
        myself.send_interval(STALL_CHECK, || WardenMessage::LookForStalls);
        Ok(Ward { children: BTreeMap::new(), adopted: 0, fatal })
    }

    async fn handle(
        &self,
        myself: ActorRef<WardenMessage>,
        message: WardenMessage,
        ward: &mut Ward,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WardenMessage::Adopt(child) => {
                let key = ward.adopted;
                ward.adopted += 1;
                ward.children.insert(key, *child);
                ward.launch(key, &myself);
            }
            WardenMessage::Launch(key) => ward.launch(key, &myself),
            WardenMessage::LookForStalls => ward.kill_the_stalled(),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<WardenMessage>,
        event: SupervisionEvent,
        ward: &mut Ward,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(cell, _, reason) => match reason.as_deref() {
                Some(DRAINED) => ward.ended(cell.get_id(), Exit::Drained),
                Some(STOPPED) => ward.ended(cell.get_id(), Exit::Stopped),
                _ => ward.failed(cell.get_id(), "killed".into(), None, &myself),
            },
            SupervisionEvent::ActorFailed(cell, error) => {
                let own_word = error.downcast_ref::<Failure>();
                ward.failed(cell.get_id(), error.to_string(), own_word, &myself);
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl Ward {
    fn launch(&mut self, key: usize, warden: &ActorRef<WardenMessage>) {
        let Some(child) = self.children.get_mut(&key) else { return };
        let shell = Shell { work: Arc::downgrade(&child.work) };
        match ActorRuntime::spawn_linked_instant(None, shell, (), warden.get_cell()) {
            Ok((actor, _)) => {
                child.alive = Some(actor.get_id());
                child.shared.set_cell(actor.get_cell());
            }
            Err(error) => self.give_up(key, format!("cannot be spawned: {error}"), false),
        }
    }

    fn key_of(&self, id: ActorId) -> Option<usize> {
        self.children.iter().find(|(_, child)| child.alive == Some(id)).map(|(key, _)| *key)
    }

    fn ended(&mut self, id: ActorId, exit: Exit) {
        let Some(child) = self.key_of(id).and_then(|key| self.children.remove(&key)) else { return };
        debug!(actor = child.shared.name, ?exit, "ended");
        let shared = Arc::clone(&child.shared);
        // The sending ends that the actor held fall before its end is told, so that whoever waits for it finds the
        // mailboxes behind it closed.
        drop(child);
        shared.end(exit);
    }

    /// `own_word`: the error that it ended with, where it neither panicked nor was killed.
    fn failed(
        &mut self,
        id: ActorId,
        reason: String,
        own_word: Option<&Failure>,
        warden: &ActorRef<WardenMessage>,
    ) {
        let Some(key) = self.key_of(id) else { return };
        let Some(child) = self.children.get_mut(&key) else { return };
        child.alive = None;
        let now = clock::now();
        child.shared.fail(reason.clone(), now);
        match child.failures.note(&child.shared.policy, now) {
            Some(pause) if !own_word.is_some_and(|failure| failure.hopeless) => {
                warn!(actor = child.shared.name, reason, pause_ms = pause.as_millis(), "failed; restarting");
                warden.send_after(pause, move || WardenMessage::Launch(key));
            }
            _ => self.give_up(key, reason, own_word.is_some()),
        }
    }

    fn give_up(&mut self, key: usize, reason: String, by_its_own_word: bool) {
        let Some(child) = self.children.remove(&key) else { return };
        error!(actor = child.shared.name, reason, "given up");
        let fatal = Fatal { actor: child.shared.name.clone(), reason: reason.clone(), by_its_own_word };
        self.fatal.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(fatal);
            is_first
        });
        let shared = Arc::clone(&child.shared);
        drop(child);
        shared.end(Exit::Failed(reason));
    }

    fn kill_the_stalled(&self) {
        let now = clock::now();
        for child in self.children.values().filter(|child| child.shared.is_stalled(now)) {
            error!(actor = child.shared.name, "no progress within its deadline; killing it");
            child.shared.kill();
        }
    }
}

/// The ractor actor around one incarnation: it carries life and death, and no message of ours.
///
/// It is dropped some time after its end was told. So it does not own what it works with: that falls with the child,
/// and whoever hears of the end finds everything in the mailbox accounted for.
struct Shell {
    work: Weak<dyn Fn() -> Work + Send + Sync>,
}

const DRAINED: &str = "drained";
const STOPPED: &str = "stopped";

/// Why an incarnation failed, in words that keep the whole chain of causes.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
struct Failure {
    reason: String,
    hopeless: bool,
}

impl Actor for Shell {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<()>, _: ()) -> Result<(), ActorProcessingErr> {
        Ok(myself.cast(())?)
    }

    async fn handle(&self, myself: ActorRef<()>, _: (), _: &mut ()) -> Result<(), ActorProcessingErr> {
        let Some(work) = self.work.upgrade().map(|work| work()) else {
            myself.stop(None);
            return Ok(());
        };
        match work.await {
            Ok(Exit::Stopped) => myself.stop(Some(STOPPED.into())),
            Ok(_) => myself.stop(Some(DRAINED.into())),
            Err(error) => {
                let hopeless = error.is::<Hopeless>();
                return Err(Box::new(Failure { reason: format!("{error:#}"), hopeless }));
            }
        }
        Ok(())
    }
}
