use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{BlockHash, BlockNumber};
use futures_util::future::try_join_all;
use headwater_actor::{ActorHandle, RestartPolicy, Source, StopSignal, System};
use headwater_bus::{SourcePublisher, clock};
use headwater_events::{BusEvent, Reconnected};
use headwater_node::{Node, NodeConfig, NodeError, Notification, Subscription};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::canonical::{Advance, Canonical, Link, Run, Step};
use crate::config::IngestConfig;
use crate::error::IngestError;
use crate::fetch::{Fetched, Fetcher, fetch_at, fetch_head, fetch_link};
use crate::outbox::Outbox;
use crate::parse::parse_link;

/// Where following the chain begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the node's head: it is the first block that is published.
    Head,
    /// Behind a block that is known already, as the one that the market was loaded at: its child is the first block
    /// that is published, however far the node has come meanwhile.
    After {
        /// Height of that block.
        number: BlockNumber,
        /// Its hash.
        hash: BlockHash,
    },
    /// Behind the last of these blocks, which an earlier run published, oldest first: what the chain did meanwhile is
    /// published first, be it a reorganisation of them.
    Behind(Vec<Link>),
}

/// What can be seen of following the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IngestStatus {
    /// Counts connections, from 1.
    pub epoch: u64,
    /// Which of the configured endpoints, from 0.
    pub endpoint: u32,
    /// The last block that was published.
    pub head: Option<(BlockNumber, BlockHash)>,
    /// Blocks published, those that were undone later included.
    pub blocks: u64,
    /// Blocks undone.
    pub undone: u64,
    /// Reorganisations.
    pub reorgs: u64,
    /// Blocks that the node did not announce.
    pub unannounced: u64,
    /// Announcements that were dropped because we were too slow for them; the blocks were fetched.
    pub missed_heads: u64,
    /// Answers that were not complete and were asked for again.
    pub retries: u64,
}

impl IngestStatus {
    /// Blocks published that are canonical.
    pub fn canonical_blocks(&self) -> u64 {
        self.blocks.saturating_sub(self.undone)
    }
}

/// Follows the chain of a node. Every incarnation of the actor is a clone of it: the position is shared, so that a
/// restart neither repeats nor skips a block.
#[derive(Clone, Debug)]
pub struct LiveIngest {
    follower: Arc<Mutex<Follower>>,
}

impl LiveIngest {
    /// Nothing is connected to before it runs. `limit`: how many canonical blocks to publish before it ends by itself.
    pub fn new(
        config: &IngestConfig,
        node: &NodeConfig,
        start: Start,
        limit: Option<u64>,
        publisher: SourcePublisher,
    ) -> Self {
        let is_continued = matches!(start, Start::Behind(_));
        let canonical = match start {
            Start::Head => Canonical::unanchored(),
            Start::After { number, hash } => Canonical::anchored(number, hash),
            Start::Behind(chain) => Canonical::behind(chain),
        };
        let follower = Follower {
            fetcher: Fetcher::new(config.completeness, config.complete_within()),
            config: config.clone(),
            node: node.clone(),
            limit,
            canonical,
            is_continued,
            outbox: Outbox::new(publisher),
            status: IngestStatus::default(),
            last_attempt: None,
            failures: 0,
        };
        Self { follower: Arc::new(Mutex::new(follower)) }
    }

    /// Runs it as the actor `ingest`.
    pub fn spawn(self, system: &System, policy: RestartPolicy) -> ActorHandle<IngestStatus> {
        system.spawn_source("ingest", policy, move |_| {
            let source = self.clone();
            async move { Ok(source) }
        })
    }
}

impl Source for LiveIngest {
    type Observed = IngestStatus;

    async fn run(
        &mut self,
        stop: StopSignal,
        observe: &(dyn Fn(IngestStatus) + Send + Sync),
    ) -> anyhow::Result<()> {
        let mut follower = self.follower.lock().await;
        match follower.run(stop, observe).await {
            Err(Halt::Failed(error)) => Err(error.into()),
            Ok(()) | Err(Halt::Ended) => Ok(()),
        }
    }
}

/// Why the shell does not go on.
#[derive(Debug)]
enum Halt {
    /// Told to stop, or enough blocks were published.
    Ended,
    Failed(IngestError),
}

impl<E: Into<IngestError>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// How often a block may be gone, in a row, before the connection is given up.
const MOST_ORPHANED: u32 = 3;

/// After an announcement that the node's own head contradicts: until it is asked again.
const DOUBT: Duration = Duration::from_millis(500);

/// Who says that a block is the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// An announcement: it may have come late.
    Announced,
    /// The answer to a question.
    Asked,
}

/// What outlives the incarnations.
#[derive(Debug)]
struct Follower {
    config: IngestConfig,
    node: NodeConfig,
    limit: Option<u64>,
    fetcher: Fetcher,
    canonical: Canonical,
    /// Whether an earlier run published before us: then its end was an outage.
    is_continued: bool,
    outbox: Outbox,
    status: IngestStatus,
    last_attempt: Option<Instant>,
    /// Attempts to connect, and connections that gave no block, in a row.
    failures: u32,
}

/// One connection.
struct Session {
    node: Node,
    heads: Subscription,
    stop: StopSignal,
    /// Whether blocks that are not announced are a gap: not those from before the first connection.
    gaps_count: bool,
    orphaned: u32,
    /// Whether a head was announced on which the node does not stand, or not yet.
    in_doubt: bool,
}

impl Session {
    /// Waits for the node, unless told to stop.
    async fn or_stop<T, E>(&mut self, work: impl Future<Output = Result<T, E>>) -> Result<T, Halt>
    where
        Halt: From<E>,
    {
        tokio::select! {
            biased;
            () = self.stop.stopped() => Err(Halt::Ended),
            done = work => Ok(done?),
        }
    }
}

impl Follower {
    async fn run(
        &mut self,
        mut stop: StopSignal,
        observe: &(dyn Fn(IngestStatus) + Send + Sync),
    ) -> Result<(), Halt> {
        self.outbox.flush().await?;
        self.end_if_done()?;
        loop {
            let connected = tokio::select! {
                biased;
                () = stop.stopped() => return Err(Halt::Ended),
                connected = self.connect() => connected,
            };
            let outcome = match connected {
                Ok((node, heads, endpoint)) => {
                    let gaps_count = self.status.epoch > 0 || self.is_continued;
                    let stop = stop.clone();
                    let session = Session { node, heads, stop, gaps_count, orphaned: 0, in_doubt: false };
                    self.follow(session, endpoint, observe).await
                }
                Err(error) => Err(error.into()),
            };
            match outcome {
                // The first connection has to work: a wrong address is no outage.
                Err(Halt::Failed(error)) if self.status.epoch > 0 && error.is_mended_by_reconnecting() => {
                    warn!(%error, epoch = self.status.epoch, "connecting anew");
                    self.failures = self.failures.saturating_add(1);
                }
                Err(halt) => return Err(halt),
                Ok(never) => match never {},
            }
        }
    }

    /// The first endpoint that answers, is on the right chain and takes a subscription; at most one attempt in
    /// the configured time, and fewer while they fail.
    async fn connect(&mut self) -> Result<(Node, Subscription, u32), NodeError> {
        if let Some(last) = self.last_attempt {
            sleep_until(last + self.pause()).await;
        }
        self.last_attempt = Some(Instant::now());
        let mut failure = NodeError::NoEndpoint;
        for (index, endpoint) in (0..).zip(&self.node.urls) {
            let attempt = async {
                let (node, _) =
                    Node::connect_to_chain(endpoint, &self.node.limits(), self.node.chain_id).await?;
                let heads = node.subscribe("newHeads", ()).await?;
                Ok((node, heads, index))
            };
            match attempt.await {
                Ok(connected) => return Ok(connected),
                Err(error) => {
                    warn!(%endpoint, %error, "node passed over");
                    if failure.is_retryable() || failure == NodeError::NoEndpoint {
                        failure = error;
                    }
                }
            }
        }
        Err(failure)
    }

    /// From one attempt to the next: doubled with every failure, with up to a quarter of jitter, so that many clients
    /// of a node that comes back don't come at once.
    fn pause(&self) -> Duration {
        let least = Duration::from_millis(self.config.reconnect_min_ms.get());
        let most = Duration::from_millis(self.config.reconnect_max_ms.get()).max(least);
        let pause = least.saturating_mul(1 << self.failures.saturating_sub(1).min(16)).min(most);
        let jitter = clock::unix_nanos() % 256;
        pause + pause.mul_f64(jitter as f64 / 1024.0)
    }

    /// Follows the chain over one connection.
    async fn follow(
        &mut self,
        mut session: Session,
        endpoint: u32,
        observe: &(dyn Fn(IngestStatus) + Send + Sync),
    ) -> Result<Never, Halt> {
        self.status.epoch += 1;
        self.status.endpoint = endpoint;
        let epoch = self.status.epoch;
        info!(endpoint = %session.node.endpoint(), epoch, "following the chain");
        if session.gaps_count {
            self.publish(BusEvent::Reconnected(Reconnected { epoch, endpoint })).await?;
        }
        observe(self.status.clone());
        self.catch_up(&mut session, observe).await?;
        session.gaps_count = true;
        loop {
            let in_doubt = std::mem::take(&mut session.in_doubt);
            let patience = self.config.head_timeout();
            let patience = if in_doubt { patience.min(DOUBT) } else { patience };
            let waiting = timeout(patience, session.heads.recv());
            let next = tokio::select! {
                biased;
                () = session.stop.stopped() => return Err(Halt::Ended),
                next = waiting => next,
            };
            match next {
                Ok(Some(head)) => self.take_heads(&mut session, &head, observe).await?,
                Ok(None) => return Err(disconnected(&session.node).await.into()),
                Err(_) => {
                    warn!(after = ?patience, "no new head: asking for it");
                    self.catch_up(&mut session, observe).await?;
                }
            }
        }
    }

    /// Asks the node for its head and goes there.
    async fn catch_up(
        &mut self,
        session: &mut Session,
        observe: &(dyn Fn(IngestStatus) + Send + Sync),
    ) -> Result<(), Halt> {
        let node = session.node.clone();
        match session.or_stop(fetch_head(&node)).await? {
            Some(head) => self.advance_to(session, head, Word::Asked, observe).await,
            None => Ok(()),
        }
    }

    /// Takes an announced head, and all that wait behind it: the newest that is not published is where to go, and the
    /// others are on the way. If one is not, or could not be read, they came out of order or the chain was reorganised
    /// among them: then the node is asked.
    async fn take_heads(
        &mut self,
        session: &mut Session,
        first: &Notification,
        observe: &(dyn Fn(IngestStatus) + Send + Sync),
    ) -> Result<(), Halt> {
        let mut heads = vec![self.take_head(first)];
        while let Some(head) = session.heads.try_recv() {
            heads.push(self.take_head(&head));
        }
        let is_new = |head: &&Link| !self.canonical.is_published(head.hash);
        let newest = heads.iter().flatten().rfind(is_new).copied();
        if let Some(head) = newest {
            self.advance_to(session, head, Word::Announced, observe).await?;
        }
        let is_published = |head: &Link| self.canonical.is_published(head.hash);
        if heads.iter().all(|head| head.as_ref().is_some_and(is_published)) {
            return Ok(());
        }
        self.catch_up(session, observe).await?;
        session.in_doubt = newest.is_some_and(|head| !self.canonical.is_published(head.hash));
        Ok(())
    }

    fn take_head(&mut self, head: &Notification) -> Option<Link> {
        if head.missed > 0 {
            warn!(
                missed = head.missed,
                "heads came faster than they were taken; their blocks will be fetched"
            );
            self.status.missed_heads += head.missed;
        }
        match parse_link(&head.raw) {
            Ok(link) => {
                self.canonical.announce(link);
                Some(link)
            }
            Err(error) => {
                warn!(%error, "malformed announcement of a head");
                None
            }
        }
    }

    /// Publishes what lies between our head and this one. A block that is gone before it could be had was probably
    /// reorganised away: then the node's present head decides.
    async fn advance_to(
        &mut self,
        session: &mut Session,
        mut head: Link,
        mut word: Word,
        observe: &(dyn Fn(IngestStatus) + Send + Sync),
    ) -> Result<(), Halt> {
        loop {
            match self.try_advance(session, head, word, observe).await {
                Err(Halt::Failed(IngestError::Fetch(error)))
                    if error.may_be_orphaned() && session.orphaned < MOST_ORPHANED =>
                {
                    session.orphaned += 1;
                    warn!(%error, "asking for the head");
                    let node = session.node.clone();
                    match session.or_stop(fetch_head(&node)).await? {
                        Some(present) => (head, word) = (present, Word::Asked),
                        None => return Ok(()),
                    }
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_advance(
        &mut self,
        session: &mut Session,
        head: Link,
        word: Word,
        observe: &(dyn Fn(IngestStatus) + Send + Sync),
    ) -> Result<(), Halt> {
        let mut step = self.canonical.advance_to(head)?;
        let mut child = head.number;
        let advance = loop {
            match step {
                Step::Known => return Ok(()),
                Step::Advance(advance) => break advance,
                Step::Fetch(hash) => {
                    let node = session.node.clone();
                    let ancestor = fetch_link(&node, hash, child, self.config.complete_within());
                    let link = session.or_stop(ancestor).await?;
                    child = link.number;
                    step = self.canonical.ancestor(link)?;
                }
            }
        };
        if advance.reorg.is_some() && word == Word::Announced && !is_canonical(session, &head).await? {
            debug!(number = head.number, hash = %head.hash, "announced, but not canonical");
            return Ok(());
        }
        self.go(session, advance, observe).await
    }

    async fn go(
        &mut self,
        session: &mut Session,
        advance: Advance,
        observe: &(dyn Fn(IngestStatus) + Send + Sync),
    ) -> Result<(), Halt> {
        if let Some(reorg) = advance.reorg {
            info!(depth = reorg.depth(), ancestor = reorg.ancestor_number, "reorganisation");
            self.status.reorgs += 1;
            self.status.undone += reorg.depth() as u64;
            self.canonical.undo(&reorg);
            self.publish(BusEvent::Reorg(reorg)).await?;
        }
        for run in self.canonical.runs(&advance.path, self.config.backfill_batch()) {
            let node = session.node.clone();
            let fetches = run.links.iter().map(|link| self.fetcher.fetch(&node, link));
            let fetched = session.or_stop(try_join_all(fetches)).await?;
            self.publish_run(run, fetched, session.gaps_count, observe).await?;
            session.orphaned = 0;
            self.failures = 0;
        }
        Ok(())
    }

    async fn publish_run(
        &mut self,
        run: Run,
        fetched: Vec<Fetched>,
        gaps_count: bool,
        observe: &(dyn Fn(IngestStatus) + Send + Sync),
    ) -> Result<(), Halt> {
        if let Some(gap) = run.gap.filter(|_| gaps_count) {
            warn!(
                from = gap.from,
                to = gap.to,
                filled = gap.filled,
                "the node did not announce these blocks"
            );
            self.status.unannounced += gap.filled;
            self.publish(BusEvent::SourceGap(gap)).await?;
        }
        for (link, Fetched { block, received_at, retries }) in run.links.into_iter().zip(fetched) {
            self.canonical.extend(link);
            self.status.head = Some((link.number, link.hash));
            self.status.blocks += 1;
            self.status.retries += retries;
            self.outbox.accept(BusEvent::NewBlock(block), Some(received_at));
            self.outbox.flush().await?;
            observe(self.status.clone());
            self.end_if_done()?;
        }
        Ok(())
    }

    async fn publish(&mut self, event: BusEvent) -> Result<(), Halt> {
        self.outbox.accept(event, None);
        self.outbox.flush().await?;
        Ok(())
    }

    fn end_if_done(&self) -> Result<(), Halt> {
        match self.limit {
            Some(limit) if self.status.canonical_blocks() >= limit => Err(Halt::Ended),
            _ => Ok(()),
        }
    }
}

/// Whether the node stands on a block. Asked before an announcement undoes anything: it may be of a branch that the node
/// has left meanwhile.
async fn is_canonical(session: &mut Session, head: &Link) -> Result<bool, Halt> {
    let node = session.node.clone();
    let there = session.or_stop(fetch_at(&node, head.number)).await?;
    Ok(there.is_some_and(|there| there.hash == head.hash))
}

/// Following a chain ends only by a halt.
enum Never {}

async fn disconnected(node: &Node) -> IngestError {
    let reason = node.closed().await.to_string();
    IngestError::Disconnected { endpoint: node.endpoint().to_string(), reason }
}

#[cfg(test)]
mod tests;
