//! What is asked of the node: what the proxies of the feeds read from, and what they say.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{BlockHash, BlockNumber};
use headwater_abi::{calls, chainlink};
use headwater_actor::Component;
use headwater_bus::SourcePublisher;
use headwater_events::{BusEvent, FeedRequest, FeedResolved, FeedRound, FeedVerdict};
use headwater_market::{Feed, MOST_FEED_DECIMALS, ResolvedMarket, positive_answer};
use headwater_node::{Answer, AskError, Node, NodeConfig, NodeError, Question, ask, ensure_canonical};
use serde::Serialize;
use tracing::{debug, info, warn};

/// Feeds that are asked together.
const PAGE: usize = 100;

/// Questions about a feed.
const QUESTIONS: usize = 5;

/// Until a try is given up; the next block asks again.
const TRY_AT_MOST: Duration = Duration::from_secs(8);

/// Asks what feeds read as of a block; the verdicts come in the order of the feeds.
///
/// # Errors
///
/// [`AskError`] when the node does not answer for the block, or fails. A proxy that fails is a verdict.
pub async fn resolve_feeds(
    node: &Node,
    feeds: &[Feed],
    number: BlockNumber,
    hash: BlockHash,
) -> Result<Vec<FeedResolved>, AskError> {
    let mut resolved = Vec::with_capacity(feeds.len());
    for feeds in feeds.chunks(PAGE) {
        let questions: Vec<_> = feeds.iter().flat_map(questions).collect();
        let answers = ask(node, hash, &questions).await?;
        for (feed, answers) in feeds.iter().zip(answers.as_chunks::<QUESTIONS>().0) {
            let verdict = match round(answers) {
                Ok(round) => FeedVerdict::Accepted(round),
                Err(reason) => FeedVerdict::Refused(reason),
            };
            resolved.push(FeedResolved { proxy: feed.proxy, number, hash, verdict });
        }
    }
    if !feeds.is_empty() {
        ensure_canonical(node, hash, number).await?;
    }
    Ok(resolved)
}

fn questions(feed: &Feed) -> [Question; QUESTIONS] {
    let of_proxy = |data| Question { to: feed.proxy, data };
    [
        of_proxy(chainlink::aggregator()),
        of_proxy(chainlink::phase_id()),
        of_proxy(calls::decimals()),
        of_proxy(chainlink::latest_round_data()),
        Question { to: feed.token, data: calls::decimals() },
    ]
}

/// The round that a proxy's answers tell of; why they do not, in words.
fn round(
    [aggregator, phase, decimals, latest, token_decimals]: &[Answer; QUESTIONS],
) -> Result<FeedRound, String> {
    let said = |what: &str, reason: String| format!("it does not say its {what}: {reason}");
    let aggregator = aggregator.read(calls::decode_address).map_err(|reason| said("aggregator", reason))?;
    let phase = phase.read(chainlink::decode_phase_id).map_err(|reason| said("phase", reason))?;
    let decimals = decimals.read(calls::decode_decimals).map_err(|reason| said("decimals", reason))?;
    let latest =
        latest.read(chainlink::decode_latest_round_data).map_err(|reason| said("last round", reason))?;
    let token_decimals = token_decimals
        .read(calls::decode_decimals)
        .map_err(|reason| format!("its token does not say its decimals: {reason}"))?;
    if aggregator.is_zero() {
        return Err("it reads from nobody".to_owned());
    }
    if decimals == 0 || decimals > MOST_FEED_DECIMALS {
        return Err(format!("it says that its answers have {decimals} decimals"));
    }
    if token_decimals > MOST_FEED_DECIMALS {
        return Err(format!("its token says that it has {token_decimals} decimals"));
    }
    if latest.phase != phase {
        return Err(format!("its last round is of phase {}, and it is in phase {phase}", latest.phase));
    }
    let updated_at =
        u64::try_from(latest.updated_at).map_err(|_| "its last round is of no time".to_owned())?;
    let answer = positive_answer(latest.answer);
    Ok(FeedRound { aggregator, phase, decimals, token_decimals, round: latest.round, answer, updated_at })
}

/// Asks the node what feeds read, when the oracle wants to know, and publishes the answers as source events.
///
/// It has a connection of its own, made when first needed and anew when it was lost. What it fails at is asked again with a
/// later block.
#[derive(Debug)]
pub struct FeedResolver {
    market: Arc<ResolvedMarket>,
    node_config: NodeConfig,
    node: Option<Node>,
    publisher: SourcePublisher,
    observed: FeedResolverObserved,
}

/// The resolver in figures, by incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FeedResolverObserved {
    /// Requests taken.
    pub requests: u64,
    /// Verdicts published.
    pub resolved: u64,
    /// Of these, such that a feed cannot be read.
    pub refused: u64,
    /// Requests about a block that the node no longer answers for.
    pub block_gone: u64,
    /// Requests that failed.
    pub failed: u64,
}

impl FeedResolver {
    /// Not connected yet.
    pub fn new(market: Arc<ResolvedMarket>, mut node_config: NodeConfig, publisher: SourcePublisher) -> Self {
        node_config.chain_id = Some(market.chain_id);
        Self { market, node_config, node: None, publisher, observed: FeedResolverObserved::default() }
    }

    async fn learn(&mut self, request: &FeedRequest) -> Result<Vec<FeedResolved>, AskError> {
        let node = self.connect().await?;
        let is_asked = |feed: &&Feed| request.proxies.contains(&feed.proxy);
        let feeds: Vec<Feed> = self.market.feeds.iter().filter(is_asked).cloned().collect();
        resolve_feeds(&node, &feeds, request.as_of.number, request.as_of.hash).await
    }

    async fn connect(&mut self) -> Result<Node, NodeError> {
        if let Some(node) = &self.node {
            return Ok(node.clone());
        }
        let (node, _) = Node::connect_first(&self.node_config).await?;
        Ok(self.node.insert(node).clone())
    }

    async fn publish(&mut self, resolved: Vec<FeedResolved>) {
        for resolved in resolved {
            self.note(&resolved);
            if self.publisher.publish(BusEvent::FeedResolved(resolved), None).await.is_err() {
                debug!("nothing is published any longer");
                return;
            }
        }
    }

    fn note(&mut self, resolved: &FeedResolved) {
        self.observed.resolved += 1;
        if let FeedVerdict::Refused(reason) = &resolved.verdict {
            self.observed.refused += 1;
            warn!(proxy = %resolved.proxy, reason, "a feed is not used");
        }
    }

    fn note_failure(&mut self, error: &AskError) {
        if let AskError::BlockGone { .. } = error {
            self.observed.block_gone += 1;
            return;
        }
        self.observed.failed += 1;
        warn!(%error, "feeds cannot be asked");
        if self.node.as_ref().is_some_and(|node| node.close_reason().is_some()) {
            self.node = None;
        }
    }
}

impl Component for FeedResolver {
    type Message = FeedRequest;
    type Observed = FeedResolverObserved;

    async fn handle(&mut self, request: &FeedRequest) -> anyhow::Result<()> {
        self.observed.requests += 1;
        let learnt = match tokio::time::timeout(TRY_AT_MOST, self.learn(request)).await {
            Ok(learnt) => learnt,
            Err(_) => Err(NodeError::Timeout { method: "eth_call".to_owned(), after: TRY_AT_MOST }.into()),
        };
        match learnt {
            Ok(resolved) => {
                info!(block = request.as_of.number, feeds = resolved.len(), "feeds are resolved");
                self.publish(resolved).await;
            }
            Err(error) => self.note_failure(&error),
        }
        Ok(())
    }

    fn observe(&self) -> FeedResolverObserved {
        self.observed
    }
}

#[cfg(test)]
mod tests;
