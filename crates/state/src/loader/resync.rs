use alloy_primitives::Address;
use headwater_abi::calls;
use headwater_actor::Component;
use headwater_bus::SourcePublisher;
use headwater_events::{BusEvent, MarketResynced, ResyncRequest};
use headwater_market::ResolvedMarket;
use headwater_node::{Node, NodeConfig, NodeError};
use serde::Serialize;
use tracing::{debug, info, warn};

use super::bulk::{PAGE, ensure_canonical};
use super::question::{Question, ask};
use crate::config::StateConfig;
use crate::error::LoadError;

/// Tries of a request before it is left; the next block asks again.
const TRIES: u32 = 2;

/// Asks the node what the tracked pools hold, when state or oracle has lost the market, and publishes the answer as a source
/// event.
///
/// It asks for one block. Should that be undone before the answer is applied, whoever asked does not take it, and asks again.
#[derive(Debug)]
pub struct Resynchroniser {
    config: StateConfig,
    node_config: NodeConfig,
    node: Option<Node>,
    publisher: SourcePublisher,
    /// The last answer: under which number it was published, and about how many pools.
    published: Option<(u64, usize)>,
    /// Failed tries in a row.
    failures: u32,
    observed: ResynchroniserObserved,
}

/// The resynchroniser in figures, by incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ResynchroniserObserved {
    /// Requests taken.
    pub requests: u64,
    /// Requests that an answer was on the way to.
    pub repeated: u64,
    /// Answers published.
    pub answered: u64,
    /// Requests about a block that the node no longer answers for.
    pub block_gone: u64,
    /// Tries that failed.
    pub failed: u64,
}

impl Resynchroniser {
    /// Not connected yet.
    pub fn new(
        market: &ResolvedMarket,
        config: StateConfig,
        mut node_config: NodeConfig,
        publisher: SourcePublisher,
    ) -> Self {
        node_config.chain_id = Some(market.chain_id);
        Self {
            config,
            node_config,
            node: None,
            publisher,
            published: None,
            failures: 0,
            observed: ResynchroniserObserved::default(),
        }
    }

    /// Asks with patience; `None` if the request is left.
    async fn try_to_learn(&mut self, request: &ResyncRequest) -> Option<MarketResynced> {
        for _ in 0..TRIES {
            tokio::time::sleep(self.config.retry_after(self.failures)).await;
            match self.learn(request).await {
                Ok(learnt) => {
                    self.failures = 0;
                    return Some(learnt);
                }
                Err(LoadError::BlockGone { .. }) => {
                    self.observed.block_gone += 1;
                    return None;
                }
                Err(error) => self.note_failure(&error),
            }
        }
        None
    }

    fn note_failure(&mut self, error: &LoadError) {
        self.failures = self.failures.saturating_add(1);
        self.observed.failed += 1;
        warn!(%error, failures = self.failures, "the reserves of the pools cannot be asked anew");
        if self.node.as_ref().is_some_and(|node| node.close_reason().is_some()) {
            self.node = None;
        }
    }

    async fn learn(&mut self, request: &ResyncRequest) -> Result<MarketResynced, LoadError> {
        let node = self.connect().await?;
        let (number, hash) = (request.as_of.number, request.as_of.hash);
        let mut reserves = Vec::with_capacity(request.pools.len());
        for pools in request.pools.chunks(PAGE) {
            let question = |pool: &Address| Question { to: *pool, data: calls::get_reserves() };
            let questions: Vec<_> = pools.iter().map(question).collect();
            let answers = ask(&node, hash, &questions).await?;
            let held = answers.iter().map(|answer| answer.read(calls::decode_get_reserves).ok());
            reserves.extend(pools.iter().copied().zip(held));
        }
        ensure_canonical(&node, hash, number).await?;
        Ok(MarketResynced { number, hash, reserves })
    }

    async fn connect(&mut self) -> Result<Node, NodeError> {
        if let Some(node) = &self.node {
            return Ok(node.clone());
        }
        let (node, _) = Node::connect_first(&self.node_config).await?;
        Ok(self.node.insert(node).clone())
    }

    async fn publish(&mut self, resynced: MarketResynced) {
        let (block, pools) = (resynced.number, resynced.reserves.len());
        match self.publisher.publish(BusEvent::MarketResynced(resynced), None).await {
            Ok(seq) => {
                info!(block, pools, seq, "the node has told what the pools hold");
                self.published = Some((seq, pools));
                self.observed.answered += 1;
            }
            Err(_) => debug!("nothing is published any longer"),
        }
    }

    /// Whether whoever asked had not seen the last answer yet, and that says as much.
    fn is_answered(&self, request: &ResyncRequest) -> bool {
        self.published.is_some_and(|(seq, pools)| request.as_of.seq < seq && request.pools.len() <= pools)
    }
}

impl Component for Resynchroniser {
    type Message = ResyncRequest;
    type Observed = ResynchroniserObserved;

    async fn handle(&mut self, request: &ResyncRequest) -> anyhow::Result<()> {
        self.observed.requests += 1;
        if self.is_answered(request) {
            self.observed.repeated += 1;
        } else if let Some(resynced) = self.try_to_learn(request).await {
            self.publish(resynced).await;
        }
        Ok(())
    }

    /// A later block will do as well, unless it is asked about fewer pools.
    fn superseded(&self, request: &ResyncRequest, later: &ResyncRequest) -> bool {
        later.as_of.seq >= request.as_of.seq && later.pools.len() >= request.pools.len()
    }

    fn observe(&self) -> ResynchroniserObserved {
        self.observed
    }
}
