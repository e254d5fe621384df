mod beside;
mod watchdog;

use std::future::pending;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use alloy_primitives::{BlockHash, BlockNumber};
use futures_util::future::try_join_all;
use headwater_actor::{ActorHandle, RestartPolicy, Source, StopSignal, System};
use headwater_bus::SourcePublisher;
use headwater_events::{BlockEvent, BusEvent, Grade, Log, Reconnected, SourceGap};
use headwater_node::{Node, NodeConfig, NodeError, Notification, Subscription};
use serde::Serialize;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use self::beside::PushedLogs;
use self::watchdog::{Pulse, Standby, Verdict, Watchdog, Watched, block_time_of};
use crate::block_time::BlockTime;
use crate::canonical::{Advance, Canonical, Link, Run, Step};
use crate::config::IngestConfig;
use crate::endpoints::Endpoints;
use crate::error::{FetchError, IngestError};
use crate::fetch::{Fetched, Fetcher, fetch_head, fetch_link, fetch_link_at};
use crate::outbox::Outbox;
use crate::parse::parse_link;
use crate::pushed::is_pushed;

/// Where following the chain begins.
#[derive(Clone, Debug)]
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
    /// Behind what an earlier run published: what the chain did meanwhile is published first, be it a reorganisation of
    /// its blocks.
    Behind(Canonical),
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
    /// Blocks published as `assumed`.
    pub assumed: u64,
    /// Of these, such that had other logs than were assumed: undone, and published anew.
    pub refuted: u64,
    /// Connections that were left because the node had fallen silent.
    pub silences: u64,
    /// Times that no endpoint had anything new.
    pub quiet: u64,
    /// Times that another endpoint did not have the blocks that the one before it gave as canonical; each was followed as
    /// a reorganisation.
    pub disagreements: u64,
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
            Start::Behind(published) => published,
        };
        let pace =
            [config.reconnect_min_ms, config.reconnect_max_ms].map(|ms| Duration::from_millis(ms.get()));
        let follower = Follower {
            fetcher: Arc::new(Fetcher::new(config.completeness, config.complete_within())),
            config: config.clone(),
            node: node.clone(),
            limit,
            canonical,
            is_continued,
            outbox: Outbox::new(publisher),
            status: IngestStatus::default(),
            endpoints: Arc::new(std::sync::Mutex::new(Endpoints::new(node.urls.len(), pace[0], pace[1]))),
            standby: None,
            refused: None,
            genesis: None,
            block_time: BlockTime::default(),
            pulse: watch::Sender::new(Pulse::beginning()),
            width: config.backfill_batch(),
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

/// Blocks of a longer way that are gone at a time.
const STRIDE: u64 = 512;

/// What outlives the incarnations.
#[derive(Debug)]
struct Follower {
    config: IngestConfig,
    node: NodeConfig,
    limit: Option<u64>,
    fetcher: Arc<Fetcher>,
    canonical: Canonical,
    /// Whether an earlier run published before us: then its end was an outage.
    is_continued: bool,
    outbox: Outbox,
    status: IngestStatus,
    endpoints: Arc<std::sync::Mutex<Endpoints>>,
    /// A connection with another endpoint, made before the last one was left.
    standby: Option<Standby>,
    /// Why no incarnation can go on: every endpoint is on another chain.
    refused: Option<NodeError>,
    /// The first block of the chain, once a node gave it.
    genesis: Option<BlockHash>,
    block_time: BlockTime,
    pulse: watch::Sender<Pulse>,
    /// Blocks that are fetched together: fewer after a connection that did not bear so many.
    width: usize,
}

/// One connection.
struct Session {
    node: Node,
    heads: Subscription,
    /// Where blocks may be assumed.
    logs: Option<PushedLogs>,
    stop: StopSignal,
    /// Whether blocks that are not announced are a gap: not those from before the first connection.
    gaps_count: bool,
    orphaned: u32,
    /// Whether a head was announced on which the node does not stand, or not yet.
    in_doubt: bool,
    /// Whether another endpoint was followed before, and this one has not shown yet that it agrees.
    may_disagree: bool,
}

/// A connection on which the heads, and the logs if need be, are pushed.
struct Line {
    node: Node,
    heads: Subscription,
    logs: Option<PushedLogs>,
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
        if let Some(refused) = &self.refused {
            return Err(refused.clone().into());
        }
        loop {
            let connected = tokio::select! {
                biased;
                () = stop.stopped() => return Err(Halt::Ended),
                connected = self.connect() => connected,
            };
            let outcome = match connected {
                Ok((Line { node, heads, logs }, endpoint)) => {
                    let gaps_count = self.status.epoch > 0 || self.is_continued;
                    let may_disagree = self.status.epoch > 0 && endpoint != self.status.endpoint;
                    let stop = stop.clone();
                    let (orphaned, in_doubt) = (0, false);
                    let session =
                        Session { node, heads, logs, stop, gaps_count, orphaned, in_doubt, may_disagree };
                    self.follow(session, endpoint, observe).await
                }
                Err(error) => Err(error.into()),
            };
            match outcome {
                // The first connection has to work: a wrong address is no outage.
                Err(Halt::Failed(error)) if self.status.epoch > 0 && error.is_mended_by_reconnecting() => {
                    warn!(%error, epoch = self.status.epoch, "connecting anew");
                    let present = self.status.endpoint as usize;
                    self.endpoints().failed(present, false);
                    self.width = (self.width / 2).max(1);
                }
                Err(halt) => return Err(halt),
                Ok(never) => match never {},
            }
        }
    }

    /// The connection that is open already, or the first endpoint that answers, is on the right chain and takes a
    /// subscription. Before the first connection each is tried once; after it they are tried until one will do, or all
    /// are on another chain.
    async fn connect(&mut self) -> Result<(Line, u32), NodeError> {
        if let Some(Standby { index, node }) = self.standby.take() {
            let line = match self.ensure_same_chain(&node).await {
                Ok(()) => subscribe(&self.config, node).await,
                Err(error) => Err(error),
            };
            match line {
                Ok(line) => return Ok((line, index as u32)),
                Err(error) => self.pass_over(index, &error),
            }
        }
        let (mut failure, mut tries) = (NodeError::NoEndpoint, 0);
        loop {
            let next = self.endpoints().next(Instant::now());
            let (index, due) = next.ok_or(NodeError::NoEndpoint)?;
            sleep_until(due).await;
            let error = match self.dial(index).await {
                Ok(line) => return Ok((line, index as u32)),
                Err(error) => error,
            };
            self.pass_over(index, &error);
            if failure.is_retryable() || failure == NodeError::NoEndpoint {
                failure = error.clone();
            }
            tries += 1;
            if self.endpoints().are_all_on_another_chain() {
                self.refused = Some(error.clone());
                return Err(error);
            }
            if self.status.epoch == 0 && tries == self.node.urls.len() {
                return Err(failure);
            }
        }
    }

    /// Connecting, the chain id and the subscription together may take as long as connecting.
    async fn dial(&mut self, index: usize) -> Result<Line, NodeError> {
        self.endpoints().tried(index, Instant::now());
        let (endpoint, limits) = (self.node.urls[index].clone(), self.node.limits());
        let expected = self.node.chain_id;
        let attempt = async {
            let (node, chain_id) = Node::connect_to_chain(&endpoint, &limits, expected).await?;
            self.ensure_same_chain(&node).await?;
            Ok((subscribe(&self.config, node).await?, chain_id))
        };
        let after = limits.connect_timeout;
        let too_late = |_| Err(NodeError::ConnectTimeout { endpoint: endpoint.to_string(), after });
        let (line, chain_id) = timeout(after, attempt).await.unwrap_or_else(too_late)?;
        // Whatever the first node was on, the others have to be on as well.
        self.node.chain_id.get_or_insert(chain_id);
        Ok(line)
    }

    /// Two chains may share a chain id, as those of a development node before and after its restart. A node that does not
    /// give its first block is believed.
    async fn ensure_same_chain(&mut self, node: &Node) -> Result<(), NodeError> {
        let Ok(Some(Link { hash: actual, .. })) = fetch_link_at(node, 0).await else { return Ok(()) };
        let expected = *self.genesis.get_or_insert(actual);
        if expected == actual {
            return Ok(());
        }
        Err(NodeError::AnotherGenesis { endpoint: node.endpoint().to_string(), expected, actual })
    }

    fn pass_over(&self, index: usize, error: &NodeError) {
        warn!(endpoint = %self.node.urls[index], %error, "node passed over");
        self.endpoints().failed(index, error.is_another_chain());
    }

    fn endpoints(&self) -> std::sync::MutexGuard<'_, Endpoints> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut watchdog = self.set_watchdog(&session);
        self.work(&mut session, &mut watchdog, None, observe).await?;
        (session.gaps_count, session.may_disagree) = (true, false);
        loop {
            let in_doubt = std::mem::take(&mut session.in_doubt);
            let head = tokio::select! {
                biased;
                () = session.stop.stopped() => return Err(Halt::Ended),
                verdict = watchdog.verdict() => match verdict {
                    Verdict::Ask => {
                        warn!("the node has a head that it did not announce");
                        None
                    }
                    other => {
                        self.heed(other, &session)?;
                        observe(self.status.clone());
                        session.in_doubt = in_doubt;
                        continue;
                    }
                },
                next = session.heads.recv() => match next {
                    Some(head) => Some(head),
                    None => return Err(disconnected(&session.node).await.into()),
                },
                () = sleep(DOUBT), if in_doubt => None,
            };
            self.work(&mut session, &mut watchdog, head, observe).await?;
        }
    }

    /// Goes to an announced head, or to the one that the node is asked for, unless the watchdog says to leave.
    async fn work(
        &mut self,
        session: &mut Session,
        watchdog: &mut Watchdog,
        head: Option<Notification>,
        observe: &(dyn Fn(IngestStatus) + Send + Sync),
    ) -> Result<(), Halt> {
        let node = session.node.clone();
        // Not a sign of life: the same head may have been announced again.
        self.pulse.send_modify(|pulse| pulse.busy = true);
        let leave = async {
            loop {
                match watchdog.verdict().await {
                    Verdict::Ask | Verdict::Quiet => {}
                    Verdict::Leave { reason, standby } => return (reason, standby),
                }
            }
        };
        let done = {
            let work = async {
                match &head {
                    Some(head) => self.take_heads(session, head, observe).await,
                    None => self.catch_up(session, observe).await,
                }
            };
            tokio::select! {
                biased;
                (reason, standby) = leave => Err((reason, standby)),
                done = work => Ok(done),
            }
        };
        self.pulse.send_modify(|pulse| pulse.busy = false);
        done.unwrap_or_else(|(reason, standby)| Err(self.leave(&node, reason, standby)))
    }

    fn heed(&mut self, verdict: Verdict, session: &Session) -> Result<(), Halt> {
        match verdict {
            Verdict::Ask => Ok(()),
            Verdict::Quiet => {
                self.status.quiet += 1;
                Ok(())
            }
            Verdict::Leave { reason, standby } => Err(self.leave(&session.node, reason, standby)),
        }
    }

    fn leave(&mut self, node: &Node, reason: &'static str, standby: Option<Standby>) -> Halt {
        self.status.silences += 1;
        self.standby = standby;
        let head = self.status.head.map_or(0, |(number, _)| number);
        IngestError::Silent { endpoint: node.endpoint().to_string(), head, reason }.into()
    }

    fn set_watchdog(&self, session: &Session) -> Watchdog {
        let (head, block_time) = (self.status.head.map_or(0, |(number, _)| number), self.block_time());
        self.pulse.send_replace(Pulse { head, block_time, ..Pulse::beginning() });
        Watchdog::spawn(Watched {
            node: session.node.clone(),
            index: self.status.endpoint as usize,
            config: self.node.clone(),
            endpoints: self.endpoints.clone(),
            pulse: self.pulse.subscribe(),
            complete_within: self.config.complete_within(),
            longest_pause: self.config.head_timeout(),
        })
    }

    /// As configured, or as the chain's own timestamps tell it; at most what makes patience the configured time.
    fn block_time(&self) -> Duration {
        let most = block_time_of(self.config.head_timeout());
        let configured = self.config.block_time_ms.map(|ms| Duration::from_millis(ms.get()));
        configured.or(self.block_time.mean()).map_or(most, |block_time| block_time.min(most))
    }

    /// Asks the node for its head and goes there.
    async fn catch_up(
        &mut self,
        session: &mut Session,
        observe: &(dyn Fn(IngestStatus) + Send + Sync),
    ) -> Result<(), Halt> {
        let node = session.node.clone();
        let Some(head) = session.or_stop(fetch_head(&node)).await? else { return Ok(()) };
        match (self.canonical.oldest(), self.canonical.head()) {
            // It cannot be told from here whether it has other blocks.
            (Some(oldest), Some(ours)) if head.number < oldest.number => {
                let (endpoint, ours) = (node.endpoint().to_string(), ours.number);
                Err(IngestError::Behind { endpoint, head: head.number, ours }.into())
            }
            _ => self.advance_to(session, head, Word::Asked, observe).await,
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
        let mut heads = vec![self.take_head(session, first)];
        while let Some(head) = session.heads.try_recv() {
            heads.push(self.take_head(session, &head));
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

    fn take_head(&mut self, session: &mut Session, head: &Notification) -> Option<Link> {
        if let Some(logs) = &mut session.logs {
            logs.announced(head);
        }
        if head.missed > 0 {
            warn!(
                missed = head.missed,
                "heads came faster than they were taken; their blocks will be fetched"
            );
            self.status.missed_heads += head.missed;
        }
        match parse_link(&head.raw) {
            Ok(link) => {
                if self.canonical.announce(link) {
                    let (now, is_published) = (Instant::now(), self.canonical.is_published(link.hash));
                    self.pulse.send_modify(|pulse| {
                        (pulse.announced_at, pulse.announced) = (now, pulse.announced.max(link.number));
                        if !is_published {
                            pulse.at = now;
                        }
                    });
                }
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
        self.stride_towards(session, head, observe).await?;
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

    /// A way is walked down by headers before its first block can be published. So a long one, as after a long outage, is
    /// gone in strides, each to a block that the node gives by its height.
    async fn stride_towards(
        &mut self,
        session: &mut Session,
        head: Link,
        observe: &(dyn Fn(IngestStatus) + Send + Sync),
    ) -> Result<(), Halt> {
        while let Some(ours) = self.canonical.head().map(|ours| ours.number)
            && head.number.saturating_sub(ours) > STRIDE
        {
            let node = session.node.clone();
            match session.or_stop(fetch_link_at(&node, ours + STRIDE)).await? {
                Some(link) => self.try_advance(session, link, Word::Asked, observe).await?,
                None => return Ok(()),
            }
        }
        Ok(())
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
                Step::Known => return self.verify(session, observe).await,
                Step::Advance(advance) => break advance,
                Step::Fetch(hash) => {
                    let node = session.node.clone();
                    let ancestor = fetch_link(&node, hash, child, self.config.complete_within());
                    let link = session.or_stop(ancestor).await?;
                    beat(&self.pulse);
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
            if std::mem::take(&mut session.may_disagree) {
                let endpoint = session.node.endpoint();
                warn!(%endpoint, depth = reorg.depth(), "this node disagrees with the one before it");
                self.status.disagreements += 1;
            }
            self.canonical.undo(&reorg);
            self.publish(BusEvent::Reorg(reorg)).await?;
        }
        self.verify(session, observe).await?;
        for run in self.canonical.runs(&advance.path, self.width) {
            #[cfg(feature = "planted-bugs")]
            if run.gap.is_some() && session.gaps_count && headwater_events::is_planted("no-backfill") {
                run.links.into_iter().for_each(|link| self.canonical.extend(link));
                continue;
            }
            if let (Some(_), None, [link]) = (&session.logs, &run.gap, &run.links[..]) {
                self.fetch_or_assume(session, *link, observe).await?;
                self.worked(session);
                continue;
            }
            let node = session.node.clone();
            let (fetcher, pulse) = (&self.fetcher, &self.pulse);
            let fetches = run.links.iter().map(|link| async {
                let fetched = fetcher.fetch(&node, link).await?;
                beat(pulse);
                Ok::<_, FetchError>(fetched)
            });
            let fetched = session.or_stop(try_join_all(fetches)).await?;
            self.publish_run(run, fetched, session.gaps_count, observe).await?;
            self.worked(session);
        }
        Ok(())
    }

    fn worked(&mut self, session: &mut Session) {
        session.orphaned = 0;
        self.width = (self.width * 2).min(self.config.backfill_batch());
        self.endpoints().worked(self.status.endpoint as usize);
    }

    /// Publishes an announced block by whichever is there first: what the node is asked for, or what it pushes. In the
    /// second case the answer verifies it.
    async fn fetch_or_assume(
        &mut self,
        session: &mut Session,
        link: Link,
        observe: &(dyn Fn(IngestStatus) + Send + Sync),
    ) -> Result<(), Halt> {
        let (node, fetcher) = (session.node.clone(), Arc::clone(&self.fetcher));
        let mut fetch = pin!(fetcher.fetch(&node, &link));
        let assumed = async {
            match &mut session.logs {
                Some(logs) => logs.assumed(link.hash).await,
                None => pending().await,
            }
        };
        let assumed = tokio::select! {
            biased;
            () = session.stop.stopped() => return Err(Halt::Ended),
            fetched = &mut fetch => {
                self.accept(link, fetched?);
                return self.publish_accepted(observe).await;
            }
            assumed = assumed => assumed,
        };
        self.assume(link, assumed);
        self.publish_accepted(observe).await?;
        let fetched = session.or_stop(fetch).await?;
        self.settle(fetched, observe).await
    }

    /// Verifies the head, if it was published as assumed: before anything is put on top of it, and whoever published it.
    async fn verify(
        &mut self,
        session: &mut Session,
        observe: &(dyn Fn(IngestStatus) + Send + Sync),
    ) -> Result<(), Halt> {
        let Some((link, _)) = self.canonical.assumed() else { return Ok(()) };
        let (node, fetcher) = (session.node.clone(), Arc::clone(&self.fetcher));
        let fetched = session.or_stop(fetcher.fetch(&node, &link)).await?;
        self.settle(fetched, observe).await
    }

    /// Compares the assumed head with what was fetched. Where they differ it is undone and published anew.
    async fn settle(
        &mut self,
        fetched: Fetched,
        observe: &(dyn Fn(IngestStatus) + Send + Sync),
    ) -> Result<(), Halt> {
        beat(&self.pulse);
        let Some((link, assumed)) = self.canonical.assumed() else { return Ok(()) };
        if is_all_of(assumed, &fetched.block) {
            self.canonical.confirm();
        } else if let Some(reorg) = self.canonical.refute() {
            warn!(number = link.number, hash = %link.hash, "other logs were pushed than the block has");
            self.status.refuted += 1;
            self.status.undone += 1;
            let gap = SourceGap { from: link.number, to: link.number, filled: 1 };
            self.outbox.accept(BusEvent::Reorg(reorg), None);
            self.outbox.accept(BusEvent::SourceGap(gap), None);
            self.accept(link, fetched);
        }
        self.publish_accepted(observe).await
    }

    /// Makes an assumed block the head.
    fn assume(&mut self, link: Link, assumed: Fetched) {
        let logs = assumed.block.logs.clone();
        self.accept(link, assumed);
        self.canonical.assume(logs);
        self.status.assumed += 1;
    }

    /// Makes a block the head; it will be published, whatever happens to the actor.
    fn accept(&mut self, link: Link, Fetched { block, received_at, retries }: Fetched) {
        self.canonical.extend(link);
        self.block_time.observe(link.number, block.header.timestamp);
        let block_time = self.block_time();
        self.pulse.send_modify(|pulse| {
            (pulse.at, pulse.head, pulse.block_time) = (Instant::now(), link.number, block_time);
        });
        self.status.head = Some((link.number, link.hash));
        self.status.blocks += 1;
        self.status.retries += retries;
        self.outbox.accept(BusEvent::NewBlock(block), Some(received_at));
    }

    async fn publish_accepted(&mut self, observe: &(dyn Fn(IngestStatus) + Send + Sync)) -> Result<(), Halt> {
        self.outbox.flush().await?;
        observe(self.status.clone());
        self.end_if_done()
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
        for (link, fetched) in run.links.into_iter().zip(fetched) {
            self.accept(link, fetched);
            self.publish_accepted(observe).await?;
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
            // What is assumed may still be undone.
            _ if self.canonical.assumed().is_some() => Ok(()),
            Some(limit) if self.status.canonical_blocks() >= limit => Err(Halt::Ended),
            _ => Ok(()),
        }
    }
}

/// Whether the node stands on a block. Asked before an announcement undoes anything: it may be of a branch that the node
/// has left meanwhile.
async fn is_canonical(session: &mut Session, head: &Link) -> Result<bool, Halt> {
    let node = session.node.clone();
    let there = session.or_stop(fetch_link_at(&node, head.number)).await?;
    Ok(there.is_some_and(|there| there.hash == head.hash))
}

/// The logs first: those of the first announced head have to be among them.
async fn subscribe(config: &IngestConfig, node: Node) -> Result<Line, NodeError> {
    let logs = match config.completeness {
        Grade::Assumed => Some(PushedLogs::subscribe(&node, config.assumed_after()).await?),
        Grade::Matched | Grade::Proven => None,
    };
    let heads = node.subscribe("newHeads", ()).await?;
    Ok(Line { node, heads, logs })
}

/// Whether the logs are all those of the block that would be pushed.
fn is_all_of(assumed: &[Log], block: &BlockEvent) -> bool {
    block.logs.iter().filter(|log| is_pushed(log)).eq(assumed)
}

/// Something new came of the node.
fn beat(pulse: &watch::Sender<Pulse>) {
    pulse.send_modify(|pulse| pulse.at = Instant::now());
}

/// Following a chain ends only by a halt.
enum Never {}

async fn disconnected(node: &Node) -> IngestError {
    let reason = node.closed().await.to_string();
    IngestError::Disconnected { endpoint: node.endpoint().to_string(), reason }
}

#[cfg(test)]
mod tests;
