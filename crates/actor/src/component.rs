use std::fmt::Debug;
use std::future::Future;

use headwater_bus::Message;
use serde::Serialize;

use crate::control::StopSignal;

/// The logic of an actor with a mailbox: it is handed one message at a time.
///
/// The message stays in the mailbox's hand until `handle` returns; a panic or an error ends this incarnation, and the
/// next one is handed the same message once more.
pub trait Component: Send + 'static {
    /// What the mailbox carries.
    type Message: Message;
    /// What can be seen from outside: one serializable value for tests, dashboards and post-mortems.
    type Observed: Clone + Debug + Serialize + Send + Sync + 'static;

    /// Processes a message. May be dropped at any await when the actor is killed.
    ///
    /// # Errors
    ///
    /// An error ends the incarnation, as a panic does.
    fn handle(&mut self, message: &Self::Message) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Whether `message` need not be handled because `later` waits behind it. What is skipped so is counted.
    fn superseded(&self, _message: &Self::Message, _later: &Self::Message) -> bool {
        false
    }

    /// Shown each message that waits behind the one about to be handled, oldest first: whoever would act on the one in
    /// hand may learn from them that it is too late. They are handled in their own turn nonetheless.
    fn look_ahead(&mut self, _waiting: &Self::Message) {}

    /// Told that `message` is set aside: it ended two incarnations, or was set aside before. It is not handled; this
    /// incarnation stands as of the message before it, and says here what follows from the loss.
    ///
    /// # Errors
    ///
    /// As for [`Component::handle`].
    fn set_aside(&mut self, _message: &Self::Message) -> impl Future<Output = anyhow::Result<()>> + Send {
        async { Ok(()) }
    }

    /// Called once after the last message of a mailbox that was closed.
    ///
    /// # Errors
    ///
    /// As for [`Component::handle`].
    fn finish(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send {
        async { Ok(()) }
    }

    /// The state as it can be seen from outside.
    fn observe(&self) -> Self::Observed;
}

/// An actor that has no mailbox: it produces until it is told to stop, or has nothing more to say.
pub trait Source: Send + 'static {
    /// What can be seen from outside.
    type Observed: Clone + Debug + Serialize + Send + Sync + 'static;

    /// Produces. Returns when `stop` says so or the source is exhausted; reports what can be seen through `observe`.
    ///
    /// # Errors
    ///
    /// An error ends the incarnation; the restart policy decides what follows.
    fn run(
        &mut self,
        stop: StopSignal,
        observe: &(dyn Fn(Self::Observed) + Send + Sync),
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What a new incarnation of a component starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The greatest sequence number that earlier incarnations processed: a rebuild ends there.
    pub last_processed: Option<u64>,
    /// Counts incarnations, from 0.
    pub incarnation: u32,
}
