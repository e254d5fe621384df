use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headwater_bus::clock::{self, Instant};
use headwater_bus::{DropReason, Inbox, Mailbox, Message};
use ractor::{Actor, ActorCell, ActorRef};
use serde::Serialize;
use tokio::sync::watch;
use tracing::{error, info};

use crate::component::{Component, Resume, Source};
use crate::control::{Command, Fault, StopSignal};
use crate::quarantine::{Quarantine, Quarantined};
use crate::restart::{Poison, RestartPolicy};
use crate::warden::{Child, Warden, WardenMessage};

/// The supervision tree: starts actors, restarts those that fail, gives up on those that keep failing.
#[derive(Clone)]
pub struct System {
    warden: ActorRef<WardenMessage>,
    fatal: watch::Sender<Option<Fatal>>,
    quarantine: Quarantine,
    delays: Option<Delays>,
    poisons: Option<Poisons>,
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System").field("given_up", &self.given_up()).finish_non_exhaustive()
    }
}

/// Pauses for tests: how long the actor of a name waits before it handles its next message.
pub type Delays = Arc<dyn Fn(&str) -> Duration + Send + Sync>;

/// Poison for tests: whether the actor of a name panics on its messages that stem from a source event.
pub type Poisons = Arc<dyn Fn(&str, u64) -> bool + Send + Sync>;

/// An actor was given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{actor} was given up: {reason}")]
pub struct Fatal {
    /// Which.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// Whether it ended by its own word: it said that it cannot go on, and neither panicked nor was killed.
    pub by_its_own_word: bool,
}

/// How an actor ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// Everything that was accepted is processed.
    Drained,
    /// Told to stop; what was left is counted as abandoned.
    Stopped,
    /// Failed too often.
    Failed(String),
}

/// The life of an actor so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ActorStatus {
    /// Messages that it is done with.
    pub processed: u64,
    /// Times that it was started anew.
    pub restarts: u32,
    /// Messages that were set aside.
    pub quarantined: u64,
    /// How it ended, if it has.
    pub exit: Option<Exit>,
}

impl System {
    /// An empty tree.
    ///
    /// # Errors
    ///
    /// When the root actor cannot be spawned.
    pub async fn start() -> anyhow::Result<Self> {
        let fatal = watch::Sender::new(None);
        let (warden, _) = Actor::spawn(None, Warden, fatal.clone()).await?;
        Ok(Self { warden, fatal, quarantine: Quarantine::default(), delays: None, poisons: None })
    }

    /// Makes every actor that is spawned from now on pause before each message, so that a test can make any of them
    /// slow.
    pub fn delayed_by(mut self, delays: Delays) -> Self {
        self.delays = Some(delays);
        self
    }

    /// Makes actors that are spawned from now on panic on certain messages, so that a test can poison any of them.
    pub fn poisoned_by(mut self, poisons: Poisons) -> Self {
        self.poisons = Some(poisons);
        self
    }

    /// Makes every actor that is spawned from now on set aside into `quarantine`, and what is in it already.
    pub fn with_quarantine(mut self, quarantine: Quarantine) -> Self {
        self.quarantine = quarantine;
        self
    }

    /// Runs a component on a mailbox. `build` makes each incarnation; on a restart it rebuilds the component's state
    /// as of [`Resume::last_processed`]. It is dropped when the actor ends, and with it the sending ends it holds.
    pub fn spawn<C, B, F>(
        &self,
        mailbox: Mailbox<C::Message>,
        policy: RestartPolicy,
        build: B,
    ) -> ActorHandle<C::Observed>
    where
        C: Component,
        B: Fn(Resume) -> F + Send + Sync + 'static,
        F: Future<Output = anyhow::Result<C>> + Send + 'static,
    {
        let name = mailbox.owner().to_string();
        let (observed, observer) = watch::channel(None);
        let shared = Arc::new(Shared::new(name, policy, self.quarantine.clone()));
        let inbox = mailbox.into_inbox();
        let build = Arc::new(build);
        let work = {
            let (shared, hooks) = (Arc::clone(&shared), (self.delays.clone(), self.poisons.clone()));
            move || -> Work {
                let (shared, inbox) = (Arc::clone(&shared), Arc::clone(&inbox));
                let (delays, poisons) = hooks.clone();
                let (build, observed) = (Arc::clone(&build), observed.clone());
                Box::pin(async move {
                    let mut inbox = Inbox::lock(&inbox).await;
                    let component = build(shared.resume(inbox.last_processed())).await?;
                    shared.stands();
                    Incarnation { shared: &shared, inbox: &mut inbox, component, observed, delays, poisons }
                        .run()
                        .await
                })
            }
        };
        self.adopt(shared, observer, Box::new(work))
    }

    /// Runs a source. `build` makes each incarnation.
    pub fn spawn_source<S, B, F>(
        &self,
        name: impl Into<String>,
        policy: RestartPolicy,
        build: B,
    ) -> ActorHandle<S::Observed>
    where
        S: Source,
        B: Fn(Resume) -> F + Send + Sync + 'static,
        F: Future<Output = anyhow::Result<S>> + Send + 'static,
    {
        let (observed, observer) = watch::channel(None);
        let shared = Arc::new(Shared::new(name.into(), policy, self.quarantine.clone()));
        let build = Arc::new(build);
        let work = {
            let shared = Arc::clone(&shared);
            move || -> Work {
                let (shared, build, observed) = (Arc::clone(&shared), Arc::clone(&build), observed.clone());
                Box::pin(async move {
                    let mut source = build(shared.resume(None)).await?;
                    shared.stands();
                    let stop = StopSignal::new(shared.command.subscribe());
                    let observe = |state| {
                        shared.processed.fetch_add(1, Ordering::Relaxed);
                        observed.send_replace(Some(state));
                        let mut faults = [Fault::PanicBefore, Fault::PanicAfter].into_iter();
                        if faults.any(|fault| shared.take_fault(fault)) {
                            panic!("injected into a source");
                        }
                    };
                    source.run(stop.clone(), &observe).await?;
                    Ok(if stop.is_stopped() { Exit::Stopped } else { Exit::Drained })
                })
            }
        };
        self.adopt(shared, observer, Box::new(work))
    }

    fn adopt<O>(
        &self,
        shared: Arc<Shared>,
        observed: watch::Receiver<Option<O>>,
        work: Box<dyn Fn() -> Work + Send + Sync>,
    ) -> ActorHandle<O> {
        let child = Child::new(Arc::clone(&shared), work.into());
        if self.warden.cast(WardenMessage::Adopt(Box::new(child))).is_err() {
            shared.end(Exit::Failed("the system has ended".into()));
        }
        ActorHandle { control: ActorControl { shared }, observed }
    }

    /// Resolves when an actor was given up.
    pub async fn fatal(&self) -> Fatal {
        let mut fatal = self.fatal.subscribe();
        loop {
            if let Some(fatal) = fatal.borrow_and_update().clone() {
                return fatal;
            }
            if fatal.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The actor that was given up, if any was.
    pub fn given_up(&self) -> Option<Fatal> {
        self.fatal.borrow().clone()
    }

    /// Holds the actor that was given up, from the moment on that it is.
    pub fn watch_fatal(&self) -> watch::Receiver<Option<Fatal>> {
        self.fatal.subscribe()
    }

    /// The messages that were set aside, oldest first.
    pub fn quarantined(&self) -> Vec<Quarantined> {
        self.quarantine.own()
    }

    /// Ends the tree; actors that still run are killed.
    pub fn end(&self) {
        self.warden.get_cell().stop_children(None);
        self.warden.stop(None);
    }
}

/// What one incarnation does, from its build to its end.
pub(crate) type Work = Pin<Box<dyn Future<Output = anyhow::Result<Exit>> + Send>>;

/// What outlives the incarnations of an actor.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) policy: RestartPolicy,
    command: watch::Sender<Command>,
    fault: Mutex<Option<Fault>>,
    exit: watch::Sender<Option<Exit>>,
    cell: Mutex<Option<ActorCell>>,
    busy_since: Mutex<Option<Instant>>,
    processed: AtomicU64,
    incarnations: AtomicU32,
    quarantined: AtomicU64,
    quarantine: Quarantine,
    last_failure: Mutex<String>,
    /// Since when it fails to work.
    down_since: Mutex<Option<Instant>>,
}

impl Shared {
    fn new(name: String, policy: RestartPolicy, quarantine: Quarantine) -> Self {
        Self {
            name,
            policy,
            command: watch::Sender::new(Command::Run),
            fault: Mutex::new(None),
            exit: watch::Sender::new(None),
            cell: Mutex::new(None),
            busy_since: Mutex::new(None),
            processed: AtomicU64::new(0),
            incarnations: AtomicU32::new(0),
            quarantined: AtomicU64::new(0),
            quarantine,
            last_failure: Mutex::new(String::new()),
            down_since: Mutex::new(None),
        }
    }

    fn resume(&self, last_processed: Option<u64>) -> Resume {
        Resume { last_processed, incarnation: self.incarnations.fetch_add(1, Ordering::Relaxed) }
    }

    pub(crate) fn set_cell(&self, cell: ActorCell) {
        *lock(&self.cell) = Some(cell);
    }

    pub(crate) fn fail(&self, reason: String, now: Instant) {
        *lock(&self.busy_since) = None;
        lock(&self.down_since).get_or_insert(now);
        *lock(&self.last_failure) = reason;
    }

    /// An incarnation stands, with its state rebuilt.
    fn stands(&self) {
        if let Some(since) = lock(&self.down_since).take() {
            let took = clock::now().duration_since(since);
            let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            info!(actor = self.name, took_us, "at work again");
        }
    }

    pub(crate) fn end(&self, exit: Exit) {
        self.exit.send_replace(Some(exit));
    }

    /// Whether one message has been in hand for longer than the policy bears.
    pub(crate) fn is_stalled(&self, now: Instant) -> bool {
        lock(&self.busy_since).is_some_and(|since| now.duration_since(since) > self.policy.stall)
    }

    pub(crate) fn kill(&self) {
        if let Some(cell) = lock(&self.cell).as_ref() {
            cell.kill();
        }
    }

    fn take_fault(&self, fault: Fault) -> bool {
        let mut injected = lock(&self.fault);
        let due = *injected == Some(fault);
        if due {
            *injected = None;
        }
        due
    }

    async fn set_aside(&self, from: String, seq: Option<u64>) {
        let reason = lock(&self.last_failure).clone();
        error!(actor = self.name, seq, reason, "a message ended two incarnations and is set aside");
        self.quarantine.add(Quarantined { actor: self.name.clone(), from, seq, reason }).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One life of a component, from the state that it was rebuilt to until it ends or fails.
struct Incarnation<'a, C: Component> {
    shared: &'a Shared,
    inbox: &'a mut Inbox<C::Message>,
    component: C,
    observed: watch::Sender<Option<C::Observed>>,
    delays: Option<Delays>,
    poisons: Option<Poisons>,
}

/// Incarnations that one message may end before it is taken for poison.
const TRIES: u32 = 2;

impl<C: Component> Incarnation<'_, C> {
    async fn run(mut self) -> anyhow::Result<Exit> {
        let mut command = self.shared.command.subscribe();
        self.observe();
        loop {
            let standing = *command.borrow_and_update();
            match standing {
                Command::Stop => {
                    self.inbox.abandon();
                    return Ok(Exit::Stopped);
                }
                Command::Drain => self.inbox.close(),
                Command::Run => {}
            }
            tokio::select! {
                biased;
                Ok(_) = command.wait_for(|now| *now != standing) => continue,
                open = self.inbox.fill() => if !open { break },
            }
            tokio::select! {
                biased;
                Ok(_) = command.wait_for(|now| *now == Command::Stop) => continue,
                handled = self.work_off() => handled?,
            }
            self.observe();
        }
        self.component.finish().await?;
        self.observe();
        Ok(Exit::Drained)
    }

    /// Handles everything in hand.
    async fn work_off(&mut self) -> anyhow::Result<()> {
        while let Some(message) = self.inbox.front() {
            if self.inbox.waiting().any(|later| self.component.superseded(message, later)) {
                self.inbox.discard(DropReason::Superseded);
                continue;
            }
            let from = self.inbox.front_from().unwrap_or_default();
            let is_known = self.shared.quarantine.knows(&self.shared.name, from, message.seq());
            if self.inbox.attempt() >= TRIES || is_known {
                self.poison(is_known).await?;
                continue;
            }
            self.inbox.waiting().for_each(|later| self.component.look_ahead(later));
            self.handle_front().await?;
        }
        Ok(())
    }

    async fn handle_front(&mut self) -> anyhow::Result<()> {
        let Some(message) = self.inbox.front() else { return Ok(()) };
        *lock(&self.shared.busy_since) = Some(clock::now());
        if let Some(delays) = &self.delays {
            tokio::time::sleep(delays(&self.shared.name)).await;
        }
        if self.shared.take_fault(Fault::PanicBefore) {
            panic!("injected before the message");
        }
        let poison = |poisons: &Poisons| message.seq().is_some_and(|seq| poisons(&self.shared.name, seq));
        if self.poisons.as_ref().is_some_and(poison) {
            panic!("injected by poison");
        }
        self.component.handle(message).await?;
        if self.shared.take_fault(Fault::PanicAfter) {
            panic!("injected after the message");
        }
        self.inbox.complete();
        self.shared.processed.fetch_add(1, Ordering::Relaxed);
        *lock(&self.shared.busy_since) = None;
        Ok(())
    }

    /// The message in hand is not to be handled: it goes aside, and the component is told.
    async fn poison(&mut self, is_known: bool) -> anyhow::Result<()> {
        let Some(message) = self.inbox.front() else { return Ok(()) };
        let seq = message.seq();
        if self.shared.policy.poison == Poison::Escalate {
            let reason = lock(&self.shared.last_failure).clone();
            return Err(crate::warden::Hopeless { seq, reason }.into());
        }
        if !is_known {
            let from = self.inbox.front_from().unwrap_or_default().to_owned();
            self.shared.set_aside(from, seq).await;
        }
        self.component.set_aside(message).await?;
        self.shared.quarantined.fetch_add(1, Ordering::Relaxed);
        self.inbox.discard(DropReason::Quarantined);
        Ok(())
    }

    fn observe(&self) {
        self.observed.send_replace(Some(self.component.observe()));
    }
}

/// Sees one actor, and steers it through its [`ActorControl`].
#[derive(Clone, Debug)]
pub struct ActorHandle<O> {
    control: ActorControl,
    observed: watch::Receiver<Option<O>>,
}

impl<O: Clone> ActorHandle<O> {
    /// The component's state as it was last seen; `None` before its first incarnation stood.
    pub fn observed(&self) -> Option<O> {
        self.observed.borrow().clone()
    }

    /// The state as it changes.
    pub fn observer(&self) -> watch::Receiver<Option<O>> {
        self.observed.clone()
    }

    /// What steers it.
    pub fn control(&self) -> &ActorControl {
        &self.control
    }
}

/// Steers one actor, whatever it is.
#[derive(Clone, Debug)]
pub struct ActorControl {
    shared: Arc<Shared>,
}

impl ActorControl {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its life so far.
    pub fn status(&self) -> ActorStatus {
        ActorStatus {
            processed: self.shared.processed.load(Ordering::Relaxed),
            restarts: self.shared.incarnations.load(Ordering::Relaxed).saturating_sub(1),
            quarantined: self.shared.quarantined.load(Ordering::Relaxed),
            exit: self.shared.exit.borrow().clone(),
        }
    }

    /// Tells it something; what was said before and is stronger stands.
    pub fn tell(&self, command: Command) {
        self.shared.command.send_if_modified(|now| {
            let stronger = command > *now;
            *now = command.max(*now);
            stronger
        });
    }

    /// Kills the incarnation at its next await, as a hang would be; the restart policy applies.
    pub fn kill(&self) {
        self.shared.kill();
    }

    /// Has the next message end in a panic, for tests.
    pub fn inject(&self, fault: Fault) {
        *lock(&self.shared.fault) = Some(fault);
    }

    /// Waits for its end.
    pub async fn ended(&self) -> Exit {
        let mut exit = self.shared.exit.subscribe();
        loop {
            if let Some(exit) = exit.borrow_and_update().clone() {
                return exit;
            }
            if exit.changed().await.is_err() {
                return Exit::Failed("the system has ended".into());
            }
        }
    }
}

#[cfg(test)]
mod schedules;
