use std::collections::HashMap;

use alloy_primitives::Address;
use headwater_actor::Component;
use headwater_bus::SourcePublisher;
use headwater_events::{BusEvent, LendingLoaded};
use headwater_market::ResolvedMarket;
use headwater_node::{Node, NodeConfig, NodeError};
use serde::Serialize;
use tracing::{debug, error, info, warn};

use super::LendingScan;
use crate::config::StateConfig;
use crate::error::LoadError;
use crate::world::LendingRequest;

/// Ranges of blocks that are searched for one request, so that it ends before the actor is taken for stalled; the next one goes
/// on behind them.
const RANGES_AT_ONCE: u32 = 64;

/// Loads the lending pools that the state has lost, and publishes each as a source event. The next block asks again until
/// the answer is applied.
#[derive(Debug)]
pub struct LendingLoader {
    config: StateConfig,
    node_config: NodeConfig,
    node: Option<Node>,
    publisher: SourcePublisher,
    /// What was searched so far; a load that fails leaves it further than before.
    scans: HashMap<Address, LendingScan>,
    /// Under which number each pool was published last.
    published: HashMap<Address, u64>,
    /// Failed tries in a row.
    failures: u32,
    observed: LendingLoaderObserved,
}

/// The lending loader in figures, by incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LendingLoaderObserved {
    /// Requests taken.
    pub requests: u64,
    /// Requests that an answer was on the way to.
    pub repeated: u64,
    /// Pools published.
    pub loaded: u64,
    /// Requests about a block that the node no longer answers for.
    pub block_gone: u64,
    /// Tries that failed.
    pub failed: u64,
}

impl LendingLoader {
    /// Not connected yet.
    pub fn new(
        market: &ResolvedMarket,
        config: StateConfig,
        mut node_config: NodeConfig,
        publisher: SourcePublisher,
    ) -> Self {
        node_config.chain_id = Some(market.chain_id);
        let scan = |pool: &headwater_market::LendingPool| (pool.pool, LendingScan::new(pool.clone()));
        Self {
            config,
            node_config,
            node: None,
            publisher,
            scans: market.lending.iter().map(scan).collect(),
            published: HashMap::new(),
            failures: 0,
            observed: LendingLoaderObserved::default(),
        }
    }

    /// Asks once; the next block asks again.
    async fn try_to_load(&mut self, request: &LendingRequest) -> Option<LendingLoaded> {
        tokio::time::sleep(self.config.retry_after(self.failures)).await;
        match self.load(request).await {
            Ok(loaded) => {
                self.failures = 0;
                return loaded;
            }
            Err(LoadError::BlockGone { .. }) => self.observed.block_gone += 1,
            Err(error @ (LoadError::Unproven { .. } | LoadError::Differs { .. })) => {
                self.note_failure();
                error!(%error, "the lending pool is not followed");
            }
            Err(error) => {
                self.note_failure();
                warn!(%error, failures = self.failures, "a lending pool cannot be loaded");
            }
        }
        None
    }

    fn note_failure(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.observed.failed += 1;
        if self.node.as_ref().is_some_and(|node| node.close_reason().is_some()) {
            self.node = None;
        }
    }

    async fn load(&mut self, request: &LendingRequest) -> Result<Option<LendingLoaded>, LoadError> {
        let node = self.connect().await?;
        let Some(scan) = self.scans.get_mut(&request.pool) else { return Ok(None) };
        if !scan.search(&node, request.as_of.hash, RANGES_AT_ONCE).await? {
            return Ok(None);
        }
        scan.load(&node, request.as_of.hash).await.map(Some)
    }

    async fn connect(&mut self) -> Result<Node, NodeError> {
        if let Some(node) = &self.node {
            return Ok(node.clone());
        }
        let (node, _) = Node::connect_first(&self.node_config).await?;
        Ok(self.node.insert(node).clone())
    }

    async fn publish(&mut self, loaded: LendingLoaded) {
        let (pool, block, accounts) = (loaded.pool, loaded.number, loaded.accounts.len());
        match self.publisher.publish(BusEvent::LendingLoaded(Box::new(loaded)), None).await {
            Ok(seq) => {
                info!(%pool, block, accounts, seq, "a lending pool is loaded");
                self.published.insert(pool, seq);
                self.observed.loaded += 1;
            }
            Err(_) => debug!("nothing is published any longer"),
        }
    }

    /// Whether whoever asked had not seen the last answer yet.
    fn is_answered(&self, request: &LendingRequest) -> bool {
        self.published.get(&request.pool).is_some_and(|seq| request.as_of.seq < *seq)
    }
}

impl Component for LendingLoader {
    type Message = LendingRequest;
    type Observed = LendingLoaderObserved;

    async fn handle(&mut self, request: &LendingRequest) -> anyhow::Result<()> {
        self.observed.requests += 1;
        if self.is_answered(request) {
            self.observed.repeated += 1;
        } else if let Some(loaded) = self.try_to_load(request).await {
            self.publish(loaded).await;
        }
        Ok(())
    }

    /// A later block will do as well.
    fn superseded(&self, request: &LendingRequest, later: &LendingRequest) -> bool {
        later.pool == request.pool && later.as_of.seq >= request.as_of.seq
    }

    fn observe(&self) -> LendingLoaderObserved {
        self.observed
    }
}
