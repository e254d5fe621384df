//! Loading from a node that fails now and then.

use std::time::Duration;

use alloy_primitives::BlockHash;
use headwater_market::ResolvedMarket;
use headwater_node::{Node, NodeConfig, NodeError};
use serde::Deserialize;
use tokio::time::sleep;
use tracing::warn;

use super::bulk::{BulkLoad, BulkLoader};
use super::history::FoundPool;
use crate::config::StateConfig;
use crate::error::LoadError;

/// Failures in a row, nothing learnt in between, after which a load is given up: with the pauses that are the default, half a minute
/// and what the tries take.
const MOST_FAILURES: u32 = 12;

/// Blocks that may be gone before a market is loaded as of one.
const MOST_GONE: u32 = 4;

/// A node that asks to be left alone for longer is not waited for.
const MOST_ASKED: Duration = Duration::from_secs(60);

/// How a load bears a node that fails: it pauses, ever longer, makes a new connection where the old one was lost, and goes on with what
/// it has.
#[derive(Debug)]
pub struct Patience {
    config: StateConfig,
    node_config: NodeConfig,
    /// Nothing while there is no connection.
    node: Option<Node>,
    /// Since something was learnt.
    in_a_row: u32,
    /// In all.
    failures: u64,
    /// How far the load had come when the node failed last.
    learnt: u64,
}

impl Patience {
    /// With a connection that is open already; new ones are made as `node_config` says.
    pub fn new(config: &StateConfig, node_config: &NodeConfig, node: Node) -> Self {
        Self {
            config: config.clone(),
            node_config: node_config.clone(),
            node: Some(node),
            in_a_row: 0,
            failures: 0,
            learnt: 0,
        }
    }

    /// The connection, if need be a new one.
    ///
    /// # Errors
    ///
    /// As [`Node::connect_first`], without a further try.
    pub async fn node(&mut self) -> Result<Node, LoadError> {
        if let Some(node) = self.node.as_ref().filter(|node| node.close_reason().is_none()) {
            return Ok(node.clone());
        }
        let (node, _) = Node::connect_first(&self.node_config).await?;
        Ok(self.node.insert(node).clone())
    }

    /// Pauses before the next try. `doing`: what failed, in words; `learnt` differs from what it was at the last failure if that has
    /// learnt something since.
    ///
    /// # Errors
    ///
    /// [`LoadError::GivenUp`] where the node failed too often in a row or asking again cannot help, with what can; an error that is not
    /// the node's as it is.
    pub async fn bear(&mut self, error: LoadError, doing: &str, learnt: u64) -> Result<(), LoadError> {
        if learnt != self.learnt {
            (self.learnt, self.in_a_row) = (learnt, 0);
        }
        self.in_a_row += 1;
        self.failures += 1;
        let pause = match &error {
            LoadError::BlockGone { .. } => None,
            LoadError::Node(node) if node.is_retryable() => self.pause(node),
            LoadError::Node(_) => None,
            _ => return Err(error),
        };
        let Some(pause) = pause else { return Err(self.give_up(error, doing)) };
        warn!(%error, failures = self.in_a_row, ?pause, "{doing}: the node failed; going on behind a pause");
        sleep(pause).await;
        Ok(())
    }

    /// Failures in all.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    fn pause(&self, error: &NodeError) -> Option<Duration> {
        let own = self.config.retry_after(self.in_a_row);
        let asked = match error {
            NodeError::RateLimited { retry_in, .. } => *retry_in,
            _ => Duration::ZERO,
        };
        (self.in_a_row < MOST_FAILURES && asked <= MOST_ASKED).then_some(own.max(asked))
    }

    fn give_up(&self, error: LoadError, doing: &str) -> LoadError {
        let endpoint = match &self.node {
            Some(node) => node.endpoint().to_string(),
            None => self.node_config.urls.first().map_or_else(String::new, ToString::to_string),
        };
        let (doing, failures, remedy) = (doing.to_owned(), self.in_a_row, remedy(&error));
        LoadError::GivenUp { doing, endpoint, failures, remedy, error: Box::new(error) }
    }
}

/// What whoever runs the bot can do about it.
fn remedy(error: &LoadError) -> &'static str {
    let LoadError::Node(error) = error else {
        return "use a node that keeps the state of its blocks for longer, or load less (market.max_pools, market.tokens)";
    };
    match error {
        NodeError::TooLarge { .. } => "raise node.max_message_bytes or lower node.max_batch",
        NodeError::ConnectionLost { .. } if !error.is_retryable() => {
            "raise node.max_message_bytes or lower node.max_batch"
        }
        NodeError::Connect { .. } | NodeError::ConnectTimeout { .. } | NodeError::ConnectionLost { .. } => {
            "see that the node runs and can be reached, or name another one in node.urls"
        }
        NodeError::Timeout { .. } => {
            "raise node.request_timeout_ms, or lower node.max_batch and node.max_in_flight"
        }
        NodeError::RateLimited { .. } | NodeError::HttpStatus { status: 429, .. } => SLOWER,
        NodeError::Rpc { error, .. } if error.is_rate_limit() => SLOWER,
        _ => "use an endpoint that serves this request, with this key and for this block",
    }
}

const SLOWER: &str = "it allows fewer requests than this takes: lower node.max_batch and node.max_in_flight, load less (market.max_pools, \
                      market.tokens), or use another endpoint";

/// Loads the market at the node's head. Where the node fails, it goes on as of the same block with what is not known yet; where the
/// block is gone, it begins at a newer one.
///
/// # Errors
///
/// As [`Patience::bear`], and those of [`BulkLoader::go_on`] that are not the node's.
pub async fn load_market(
    patience: &mut Patience,
    market: &ResolvedMarket,
    found: &[FoundPool],
    progress: impl Fn(u64, u64) + Send + Sync,
) -> Result<BulkLoad, LoadError> {
    let mut loader = BulkLoader::new(market, found);
    let (mut block, mut gone) = (None, 0);
    let before = patience.failures();
    loop {
        match go_on(patience, &mut loader, &mut block, &progress).await {
            Ok(mut load) => {
                load.report.failures = patience.failures() - before;
                return Ok(load);
            }
            Err(error @ LoadError::BlockGone { .. }) if gone < MOST_GONE => {
                (block, gone) = (None, gone + 1);
                warn!(%error, "{}: beginning at a newer one", loader.doing());
                sleep(patience.config.retry_after(gone)).await;
            }
            Err(error) => patience.bear(error, &loader.doing(), loader.learnt()).await?,
        }
    }
}

/// As of the block that was begun with, or else the node's head.
async fn go_on(
    patience: &mut Patience,
    loader: &mut BulkLoader<'_>,
    block: &mut Option<BlockHash>,
    progress: &(impl Fn(u64, u64) + Send + Sync),
) -> Result<BulkLoad, LoadError> {
    let node = patience.node().await?;
    let block = match *block {
        Some(block) => block,
        None => *block.insert(head(&node).await?),
    };
    loader.go_on(&node, block, progress).await
}

#[derive(Deserialize)]
struct Head {
    hash: BlockHash,
}

async fn head(node: &Node) -> Result<BlockHash, LoadError> {
    let head: Head = node.call("eth_getBlockByNumber", ("latest", false)).await?;
    Ok(head.hash)
}
