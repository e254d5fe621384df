use std::borrow::Cow;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use headwater_events::{DecodedBlock, FeedRequest, OpportunitySet, ResyncRequest};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};

use crate::bus::Closed;
use crate::edge::{Channel, DropReason, Edge, OverflowPolicy, Topology};
use crate::sync::AtomicU64;

/// What a mailbox carries.
pub trait Message: Send + Sync + 'static {
    /// The sequence number of the source event that the message stems from; `None` if it stems from none.
    ///
    /// On every edge these ascend strictly, which is how a repetition after a restart of the sender is recognised.
    fn seq(&self) -> Option<u64>;
}

impl Message for Arc<DecodedBlock> {
    fn seq(&self) -> Option<u64> {
        Some(self.as_of.seq)
    }
}

impl Message for OpportunitySet {
    fn seq(&self) -> Option<u64> {
        Some(self.as_of.seq)
    }
}

impl Message for ResyncRequest {
    /// It may be made again, as of the same block.
    fn seq(&self) -> Option<u64> {
        None
    }
}

impl Message for FeedRequest {
    /// As a [`ResyncRequest`].
    fn seq(&self) -> Option<u64> {
        None
    }
}

/// The sender waits while the mailbox is full.
#[derive(Clone, Copy, Debug)]
pub struct Wait;

/// The newest message is dropped and counted while the mailbox is full.
#[derive(Clone, Copy, Debug)]
pub struct DropNewest;

trait Policy {
    const POLICY: OverflowPolicy;
}

impl Policy for Wait {
    const POLICY: OverflowPolicy = OverflowPolicy::Wait;
}

impl Policy for DropNewest {
    const POLICY: OverflowPolicy = OverflowPolicy::DropNewest;
}

/// The bounded mailbox of an actor. It outlives every incarnation of the actor, and with it the messages in hand.
#[derive(Debug)]
pub struct Mailbox<M> {
    owner: Cow<'static, str>,
    capacity: usize,
    topology: Topology,
    sender: mpsc::Sender<Parcel<M>>,
    inbox: Arc<Mutex<Inbox<M>>>,
}

impl<M: Message> Mailbox<M> {
    /// A mailbox of `owner` that holds `capacity` messages.
    pub fn new(topology: &Topology, owner: impl Into<Cow<'static, str>>, capacity: usize) -> Self {
        let (sender, receiver) = mpsc::channel(capacity);
        Self {
            owner: owner.into(),
            capacity,
            topology: topology.clone(),
            sender,
            inbox: Arc::new(Mutex::new(Inbox {
                receiver,
                in_hand: VecDeque::new(),
                attempts: 0,
                done: None,
            })),
        }
    }

    /// A sending end that waits while the mailbox is full.
    pub fn waiting(&self, from: impl Into<Cow<'static, str>>, carries: &'static str) -> Outlet<M, Wait> {
        self.outlet(from, carries)
    }

    /// A sending end that drops (and counts) while the mailbox is full.
    pub fn dropping(
        &self,
        from: impl Into<Cow<'static, str>>,
        carries: &'static str,
    ) -> Outlet<M, DropNewest> {
        self.outlet(from, carries)
    }

    fn outlet<P: Policy>(&self, from: impl Into<Cow<'static, str>>, carries: &'static str) -> Outlet<M, P> {
        let edge =
            self.topology.edge(from, self.owner.clone(), carries, Channel::Mpsc, self.capacity, P::POLICY);
        let position = Arc::new(AtomicU64::new(0));
        Outlet { sender: self.sender.clone(), edge, position, policy: PhantomData }
    }

    /// Whose it is.
    pub fn owner(&self) -> &Cow<'static, str> {
        &self.owner
    }

    /// The receiving end. From now on the mailbox is closed once every [`Outlet`] is gone.
    pub fn into_inbox(self) -> Arc<Mutex<Inbox<M>>> {
        self.inbox
    }
}

/// A sending end of a mailbox: one edge of the topology.
#[derive(Debug)]
pub struct Outlet<M, P> {
    sender: mpsc::Sender<Parcel<M>>,
    edge: Arc<Edge>,
    position: Arc<AtomicU64>,
    policy: PhantomData<P>,
}

impl<M, P> Clone for Outlet<M, P> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            edge: Arc::clone(&self.edge),
            position: Arc::clone(&self.position),
            policy: PhantomData,
        }
    }
}

impl<M, P> Outlet<M, P> {
    /// The edge that this end sends on.
    pub fn edge(&self) -> &Arc<Edge> {
        &self.edge
    }

    fn parcel(&self, message: M) -> Parcel<M> {
        Parcel { message, edge: Arc::clone(&self.edge), position: Arc::clone(&self.position) }
    }
}

impl<M> Outlet<M, Wait> {
    /// Hands a message over, waiting while the mailbox is full.
    ///
    /// # Errors
    ///
    /// [`Closed`] when nobody will ever read it.
    pub async fn send(&self, message: M) -> Result<(), Closed> {
        let permit = self.sender.reserve().await.map_err(|_| Closed)?;
        self.edge.accept(1);
        permit.send(self.parcel(message));
        Ok(())
    }
}

impl<M> Outlet<M, DropNewest> {
    /// Hands a message over; drops and counts it if the mailbox is full. Says whether it was taken.
    ///
    /// # Errors
    ///
    /// [`Closed`] when nobody will ever read it.
    pub fn offer(&self, message: M) -> Result<bool, Closed> {
        match self.sender.try_reserve() {
            Ok(permit) => {
                self.edge.accept(1);
                permit.send(self.parcel(message));
                Ok(true)
            }
            Err(mpsc::error::TrySendError::Full(())) => {
                self.edge.accept(1);
                self.edge.drop_for(DropReason::Full, 1);
                Ok(false)
            }
            Err(mpsc::error::TrySendError::Closed(())) => Err(Closed),
        }
    }
}

/// A message on its way, with the edge that it travels on.
#[derive(Debug)]
pub struct Parcel<M> {
    /// The message.
    pub message: M,
    edge: Arc<Edge>,
    /// The last sequence number taken from this edge.
    position: Arc<AtomicU64>,
}

impl<M: Message> Parcel<M> {
    /// Whether the message came before: its sender was restarted and said it again.
    fn is_repetition(&self) -> bool {
        self.message.seq().is_some_and(|seq| self.position.fetch_max(seq, Ordering::AcqRel) >= seq)
    }
}

/// The receiving end of a mailbox with the messages in hand: taken from the channel, not done with.
///
/// An incarnation of the actor holds the guard for its life. When it panics, the guard falls, and the next incarnation
/// finds the message that killed it still at the front.
#[derive(Debug)]
pub struct Inbox<M> {
    receiver: mpsc::Receiver<Parcel<M>>,
    in_hand: VecDeque<Parcel<M>>,
    /// How many incarnations have begun with the message at the front.
    attempts: u32,
    /// The greatest sequence number that was processed.
    done: Option<u64>,
}

/// Messages taken from the channel at once.
const BATCH: usize = 32;

impl<M: Message> Inbox<M> {
    /// Waits for a message and takes it in hand, with others that are there already. `false` once the mailbox is
    /// closed and empty. Cancel-safe.
    pub async fn fill(&mut self) -> bool {
        while self.in_hand.is_empty() {
            let Some(parcel) = self.receiver.recv().await else { return false };
            self.take(parcel);
        }
        while self.in_hand.len() < BATCH {
            let Ok(parcel) = self.receiver.try_recv() else { break };
            self.take(parcel);
        }
        true
    }

    fn take(&mut self, parcel: Parcel<M>) {
        if parcel.is_repetition() {
            parcel.edge.drop_for(DropReason::Repeated, 1);
        } else {
            self.in_hand.push_back(parcel);
        }
    }

    /// The message whose turn it is.
    pub fn front(&self) -> Option<&M> {
        self.in_hand.front().map(|parcel| &parcel.message)
    }

    /// Who sent the message whose turn it is.
    pub fn front_from(&self) -> Option<&str> {
        self.in_hand.front().map(|parcel| &*parcel.edge.from)
    }

    /// Notes that the message at the front is about to be handled; says how often that was so before.
    pub fn attempt(&mut self) -> u32 {
        self.attempts += 1;
        self.attempts - 1
    }

    /// The messages behind the front, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = &M> {
        self.in_hand.iter().skip(1).map(|parcel| &parcel.message)
    }

    /// The message at the front is processed.
    pub fn complete(&mut self) {
        if let Some(parcel) = self.pop() {
            parcel.edge.process(1);
        }
    }

    /// The message at the front is given up.
    pub fn discard(&mut self, reason: DropReason) {
        if let Some(parcel) = self.pop() {
            parcel.edge.drop_for(reason, 1);
        }
    }

    fn pop(&mut self) -> Option<Parcel<M>> {
        let parcel = self.in_hand.pop_front()?;
        self.attempts = 0;
        if let Some(seq) = parcel.message.seq() {
            self.done = self.done.max(Some(seq));
        }
        Some(parcel)
    }

    /// The greatest sequence number that was processed: a rebuild ends there.
    pub fn last_processed(&self) -> Option<u64> {
        self.done
    }

    /// Takes no further messages; those that are inside can still be read.
    pub fn close(&mut self) {
        self.receiver.close();
    }

    /// Closes the mailbox and gives up everything in it.
    pub fn abandon(&mut self) {
        self.give_up();
    }

    /// The guard of an incarnation.
    pub async fn lock(inbox: &Arc<Mutex<Self>>) -> OwnedMutexGuard<Self> {
        Arc::clone(inbox).lock_owned().await
    }
}

impl<M> Inbox<M> {
    fn give_up(&mut self) {
        self.receiver.close();
        let in_hand = std::mem::take(&mut self.in_hand);
        let inside = std::iter::from_fn(|| self.receiver.try_recv().ok());
        in_hand.into_iter().chain(inside).for_each(|parcel| parcel.edge.drop_for(DropReason::Abandoned, 1));
    }
}

/// What nobody will ever read is counted, also where the actor was given up and could not do it.
impl<M> Drop for Inbox<M> {
    fn drop(&mut self) {
        self.give_up();
    }
}
