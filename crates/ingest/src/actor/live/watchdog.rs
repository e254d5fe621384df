//! Notices that a node has fallen silent, whatever else it answers.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::BlockNumber;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use headwater_node::{Node, NodeConfig, NodeError, Transport};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::endpoints::Endpoints;
use crate::fetch::fetch_head;

/// What the follower shows of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    /// When anything new came: a head that was not known, a header or a block that was asked for.
    pub at: Instant,
    /// When a head was last announced that had not been announced before, and the highest.
    pub announced_at: Instant,
    pub announced: BlockNumber,
    /// Height of the last published block.
    pub head: BlockNumber,
    pub block_time: Duration,
    /// Blocks are being fetched: heads are not read meanwhile.
    pub busy: bool,
}

impl Pulse {
    /// That of a connection on which nothing has happened yet.
    pub(super) fn beginning() -> Self {
        let now = Instant::now();
        Self { at: now, announced_at: now, announced: 0, head: 0, block_time: Duration::ZERO, busy: false }
    }
}

/// What the watchdog found.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The node has a head that it did not announce.
    Ask,
    /// No node has anything new; told once in a row.
    Quiet,
    /// The connection is of no use, and the node named here has what this one does not give.
    Leave { reason: &'static str, standby: Option<Standby> },
}

/// A connection with another endpoint.
#[derive(Clone, Debug)]
pub(super) struct Standby {
    pub index: usize,
    pub node: Node,
}

/// The watchdog of one connection; it ends with it.
pub(super) struct Watchdog {
    verdicts: mpsc::Receiver<Verdict>,
    task: AbortHandle,
}

/// What it needs to know.
pub(super) struct Watched {
    pub node: Node,
    pub index: usize,
    pub config: NodeConfig,
    pub endpoints: Arc<Mutex<Endpoints>>,
    pub pulse: watch::Receiver<Pulse>,
    /// Fetching a block may take so long.
    pub complete_within: Duration,
    /// Longest pause between two looks.
    pub longest_pause: Duration,
}

impl Watchdog {
    pub(super) fn spawn(watched: Watched) -> Self {
        let (sender, verdicts) = mpsc::channel(1);
        let standbys = HashMap::new();
        let watching = Watching { watched, standbys, asking: FuturesUnordered::new(), sender };
        Self { verdicts, task: tokio::spawn(watching.run()).abort_handle() }
    }

    /// What it found; it never ends before it has said to leave.
    pub(super) async fn verdict(&mut self) -> Verdict {
        match self.verdicts.recv().await {
            Some(verdict) => verdict,
            None => Verdict::Leave { reason: "its watchdog has died", standby: None },
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Block times without anything new after which it looks around: late enough for a missed slot, early enough that the
/// first block of another node is there within five.
const fn patience(block_time: Duration) -> Duration {
    block_time.saturating_mul(5).checked_div(2).expect("two is not zero")
}

/// The block time at which patience lasts so long.
pub(super) fn block_time_of(patience: Duration) -> Duration {
    patience * 2 / 5
}

/// A question that is not answered within this counts as unanswered, however short the block time is.
const SHORTEST_QUESTION: Duration = Duration::from_secs(1);

/// Questions that may go unanswered in a row.
const MOST_UNANSWERED: u32 = 2;

struct Watching {
    watched: Watched,
    /// Connections made for an earlier look.
    standbys: HashMap<usize, Node>,
    /// Questions to other endpoints that are on their way; a dial that was begun is never given up for a quicker answer,
    /// because the next one would have to wait.
    asking: FuturesUnordered<BoxFuture<'static, Asked>>,
    sender: mpsc::Sender<Verdict>,
}

/// What another endpoint gave.
struct Asked {
    standby: Option<Standby>,
    head: Option<BlockNumber>,
}

/// What a look around gave.
enum Look {
    /// The node itself has something new, and did not announce it.
    OwnAhead(BlockNumber),
    OtherAhead(Standby),
    Nobody {
        /// Whether the node answered at all.
        answered: bool,
    },
}

impl Watching {
    async fn run(mut self) {
        let (mut quiet, mut unanswered) = (0, 0);
        loop {
            let pulse = self.pulse();
            let stale_at = pulse.at + self.patience(&pulse);
            if Instant::now() < stale_at {
                (quiet, unanswered) = (0, 0);
                self.standbys.clear();
                self.asking.clear();
                // Patience itself changes: with the block time, and while blocks are fetched.
                let changed = tokio::select! {
                    () = sleep_until(stale_at) => Ok(()),
                    changed = self.watched.pulse.changed() => changed,
                };
                if changed.is_err() {
                    return;
                }
                continue;
            }
            let look = self.look(&pulse).await;
            if self.pulse().at != pulse.at {
                continue;
            }
            let verdict = match look {
                Look::OwnAhead(head) => {
                    self.tell(Verdict::Ask).await;
                    if !self.stays_mute(head).await {
                        continue;
                    }
                    let standby = self.any_standby().await;
                    Verdict::Leave { reason: "its head moves, and it announces none", standby }
                }
                Look::OtherAhead(standby) => {
                    Verdict::Leave { reason: "another node is ahead", standby: Some(standby) }
                }
                Look::Nobody { answered } => {
                    unanswered = if answered { 0 } else { unanswered + 1 };
                    if unanswered < MOST_UNANSWERED {
                        self.stay(&pulse, quiet).await;
                        quiet += 1;
                        continue;
                    }
                    Verdict::Leave { reason: "it answers nothing", standby: None }
                }
            };
            self.tell(verdict).await;
            return;
        }
    }

    fn pulse(&self) -> Pulse {
        *self.watched.pulse.borrow()
    }

    fn patience(&self, pulse: &Pulse) -> Duration {
        let patience = patience(pulse.block_time);
        if pulse.busy { patience.max(self.watched.complete_within) } else { patience }
    }

    async fn tell(&mut self, verdict: Verdict) {
        // Nobody listens any more: this task is about to be aborted.
        let _ = self.sender.send(verdict).await;
    }

    /// A quiet chain is no fault: the next looks come later and later.
    async fn stay(&mut self, pulse: &Pulse, quiet: u32) {
        if quiet == 0 {
            let since = pulse.at.elapsed();
            info!(head = pulse.head, ?since, "no new head, and no other node is ahead: staying");
            self.tell(Verdict::Quiet).await;
        }
        sleep((pulse.block_time * (1 << quiet.min(16))).min(self.watched.longest_pause)).await;
    }

    /// Whether the announcement of a head that the node has does not come. While blocks are fetched none is read.
    async fn stays_mute(&mut self, head: BlockNumber) -> bool {
        let asked_at = Instant::now();
        let mut idle = 0;
        while idle < 2 {
            sleep(self.pulse().block_time / 4).await;
            let pulse = self.pulse();
            if pulse.announced >= head || pulse.announced_at > asked_at {
                return false;
            }
            idle = if pulse.busy { 0 } else { idle + 1 };
        }
        true
    }

    /// Asks the node itself and all others at once; the first that has something new decides.
    async fn look(&mut self, pulse: &Pulse) -> Look {
        let question = pulse.block_time.max(SHORTEST_QUESTION);
        let node = self.watched.node.clone();
        let mut own = pin!(timeout(question, fetch_head(&node)));
        self.ask_others();
        let mut answered = None;
        loop {
            tokio::select! {
                biased;
                answer = &mut own, if answered.is_none() => {
                    answered = Some(matches!(answer, Ok(Ok(_))));
                    match answer {
                        Ok(Ok(Some(head))) if head.number > pulse.head && !pulse.busy => {
                            return Look::OwnAhead(head.number);
                        }
                        _ => {}
                    }
                }
                Some(Asked { standby, head }) = self.asking.next() => match (standby, head) {
                    (Some(standby), Some(head)) if head > pulse.head => return Look::OtherAhead(standby),
                    (Some(standby), _) => drop(self.standbys.insert(standby.index, standby.node)),
                    (None, _) => {}
                },
                else => return Look::Nobody { answered: answered.unwrap_or(false) },
            }
        }
    }

    /// Asks all other endpoints for their heads, unless an earlier look still does. One that was tried within the last
    /// second, and is not connected, is left out.
    fn ask_others(&mut self) {
        if !self.asking.is_empty() {
            return;
        }
        let now = Instant::now();
        let Watched { config, endpoints, index: present, .. } = &self.watched;
        for (index, url) in config.urls.iter().enumerate() {
            if index == *present || url.transport() == Transport::Http {
                continue;
            }
            let node = self.standbys.remove(&index).filter(|node| node.close_reason().is_none());
            if node.is_none() {
                let mut endpoints = endpoints.lock().unwrap_or_else(PoisonError::into_inner);
                if !endpoints.is_due(index, now) {
                    continue;
                }
                endpoints.tried(index, now);
            }
            self.asking.push(ask(index, node, config.clone(), endpoints.clone()).boxed());
        }
    }

    /// A connection with another endpoint, wherever its head is.
    async fn any_standby(&mut self) -> Option<Standby> {
        while let Some(Asked { standby, .. }) = self.asking.next().await {
            if standby.is_some() {
                return standby;
            }
        }
        let index = *self.standbys.keys().min()?;
        self.standbys.remove(&index).map(|node| Standby { index, node })
    }
}

/// The head of an endpoint, over the connection that there is or a new one.
async fn ask(
    index: usize,
    node: Option<Node>,
    config: NodeConfig,
    endpoints: Arc<Mutex<Endpoints>>,
) -> Asked {
    let (endpoint, limits) = (&config.urls[index], config.limits());
    let within = limits.connect_timeout;
    let asking = async {
        let node = match node {
            Some(node) => node,
            None => Node::connect_to_chain(endpoint, &limits, config.chain_id).await?.0,
        };
        let head = fetch_head(&node).await.ok().flatten().map(|head| head.number);
        Ok::<_, NodeError>((node, head))
    };
    match timeout(within, asking).await {
        Ok(Ok((node, head))) => Asked { standby: Some(Standby { index, node }), head },
        Ok(Err(error)) => {
            let wrong_chain = error.is_another_chain();
            if wrong_chain {
                warn!(%endpoint, %error, "node passed over");
            } else {
                debug!(%endpoint, %error, "no help");
            }
            endpoints.lock().unwrap_or_else(PoisonError::into_inner).failed(index, wrong_chain);
            Asked { standby: None, head: None }
        }
        Err(_) => Asked { standby: None, head: None },
    }
}
