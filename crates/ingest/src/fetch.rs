//! A block from the node, by its hash, whole.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join;
use headwater_events::{BlockEvent, Grade, Header, Log};
use headwater_node::{Node, NodeError, Reply};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::bloom::BloomBuilder;
use crate::canonical::Link;
use crate::error::{FetchError, Incomplete};
use crate::parse::{ParseError, ParsedBlock, parse_block, parse_link, parse_logs};

const GET_BLOCK: &str = "eth_getBlockByHash";
const GET_LOGS: &str = "eth_getLogs";

/// The pause after the first answer that was not complete; each one after it is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Fetches blocks and judges whether their logs are complete.
#[derive(Debug)]
pub struct Fetcher {
    least: Grade,
    within: Duration,
    bloom: Mutex<BloomBuilder>,
}

/// A block with the moment at which its last byte had been read.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The block.
    pub block: BlockEvent,
    /// When the last byte of the last answer had been read from the socket.
    pub received_at: Instant,
    /// How many answers were not complete.
    pub retries: u64,
}

/// What one round of requests gave.
struct Answers {
    block: Option<(ParsedBlock, Instant)>,
    logs: Option<(Vec<Log>, Instant)>,
}

impl Fetcher {
    /// Logs that reach less than the grade `least` are asked for again, for the time `within`.
    pub fn new(least: Grade, within: Duration) -> Self {
        Self { least, within, bloom: Mutex::default() }
    }

    /// Fetches a block. A node that does not have it yet, or gives its logs in part, is asked again: it announces a
    /// head before it has indexed it.
    ///
    /// # Errors
    ///
    /// [`FetchError`]; a lost connection, a time-out of a request and a malformed answer are given back at once.
    pub async fn fetch(&self, node: &Node, link: &Link) -> Result<Fetched, FetchError> {
        let begun = Instant::now();
        let (mut pause, mut retries) = (FIRST_PAUSE, 0);
        let mut block = None;
        loop {
            let answers = request(node, link, block.is_none()).await?;
            block = block.or(answers.block);
            let failure = match (block.take(), answers.logs) {
                (Some((parsed, at)), Some((logs, logs_at))) => match self.grade(&parsed, &logs) {
                    Ok(grade) => {
                        let ParsedBlock { header, transactions } = parsed;
                        let block = BlockEvent { header, transactions, logs, grade };
                        return Ok(Fetched { block, received_at: at.max(logs_at), retries });
                    }
                    Err(reason) => {
                        block = Some((parsed, at));
                        let Link { number, hash, .. } = *link;
                        FetchError::Incomplete { number, hash, after: begun.elapsed(), reason }
                    }
                },
                (known, _) => {
                    block = known;
                    FetchError::Unavailable { number: link.number, hash: link.hash, after: begun.elapsed() }
                }
            };
            if begun.elapsed() + pause > self.within {
                return Err(failure);
            }
            debug!(%failure, retries, "asking again");
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            retries += 1;
        }
    }

    /// The grade that the logs reach, if it suffices.
    fn grade(&self, block: &ParsedBlock, logs: &[Log]) -> Result<Grade, Incomplete> {
        let judged = {
            let mut bloom = self.bloom.lock().unwrap_or_else(PoisonError::into_inner);
            match_logs(&block.header, block.transactions.len(), logs, &mut bloom)
        };
        match judged {
            Ok(()) => Ok(Grade::Matched),
            Err(_) if self.least == Grade::Assumed => Ok(Grade::Assumed),
            Err(reason) => Err(reason),
        }
    }
}

/// Whether the logs are all the logs of the block, as far as its header can tell.
///
/// # Errors
///
/// What speaks against it.
pub fn match_logs(
    header: &Header,
    transactions: usize,
    logs: &[Log],
    bloom: &mut BloomBuilder,
) -> Result<(), Incomplete> {
    let mut transaction = 0;
    for (expected, log) in (0..).zip(logs) {
        if log.log_index != expected {
            return Err(Incomplete::Index { expected, found: log.log_index });
        }
        if log.transaction_index < transaction || log.transaction_index as usize >= transactions {
            return Err(Incomplete::Transaction { log: expected, transaction: log.transaction_index });
        }
        transaction = log.transaction_index;
    }
    if bloom.bloom(logs) == header.logs_bloom { Ok(()) } else { Err(Incomplete::Bloom { logs: logs.len() }) }
}

/// Asks for the block (unless it is known) and its logs at once, the logs last: their answer is the one that is worth
/// waiting for. The block is parsed while the logs are on their way.
async fn request(node: &Node, link: &Link, with_block: bool) -> Result<Answers, FetchError> {
    let block = async {
        if !with_block {
            return Ok(None);
        }
        let Some(reply) = answer(node.request(GET_BLOCK, (link.hash, true)).await, link)? else {
            return Ok(None);
        };
        // On another thread where there is one: the logs may be here before the transactions are parsed.
        let raw = reply.raw;
        let parsed = tokio::spawn(async move { parse_block(&raw) }).await;
        let parsed = parsed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let parsed = parsed.map_err(malformed(link, GET_BLOCK))?;
        let header = &parsed.header;
        if (header.number, header.hash, header.parent_hash) != (link.number, link.hash, link.parent_hash) {
            return Err(FetchError::AnotherBlock { number: link.number, hash: link.hash });
        }
        Ok(Some((parsed, reply.received_at)))
    };
    let logs = async {
        let filter = json!({ "blockHash": link.hash });
        let Some(reply) = answer(node.request(GET_LOGS, [filter]).await, link)? else { return Ok(None) };
        let logs = parse_logs(&reply.raw, link.hash).map_err(malformed(link, GET_LOGS))?;
        Ok(Some((logs, reply.received_at)))
    };
    let (block, logs) = join(block, logs).await;
    Ok(Answers { block: block?, logs: logs? })
}

/// The answer; `None` where the node does not know the block (yet).
fn answer(answer: Result<Reply, NodeError>, link: &Link) -> Result<Option<Reply>, FetchError> {
    match answer {
        Ok(reply) if reply.is_null() => Ok(None),
        Ok(reply) => Ok(Some(reply)),
        Err(NodeError::Rpc { error, .. }) if error.is_block_unknown() || error.is_retryable() => Ok(None),
        Err(source) => Err(FetchError::Node { number: link.number, source }),
    }
}

fn malformed(link: &Link, method: &'static str) -> impl FnOnce(ParseError) -> FetchError {
    let number = link.number;
    move |source| FetchError::Malformed { number, method, source }
}

/// The header of a hash; `child` is the height of the block above it.
///
/// # Errors
///
/// As [`Fetcher::fetch`].
pub(crate) async fn fetch_link(
    node: &Node,
    hash: alloy_primitives::BlockHash,
    child: u64,
    within: Duration,
) -> Result<Link, FetchError> {
    let sought = Link { number: child.saturating_sub(1), hash, parent_hash: Default::default() };
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(reply) = answer(node.request(GET_BLOCK, (hash, false)).await, &sought)? {
            return parse_link(&reply.raw).map_err(malformed(&sought, GET_BLOCK));
        }
        let after = begun.elapsed();
        if after + pause > within {
            return Err(FetchError::Unavailable { number: sought.number, hash, after });
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The node's head; `None` where it has no block at all.
///
/// # Errors
///
/// As [`Fetcher::fetch`].
pub(crate) async fn fetch_head(node: &Node) -> Result<Option<Link>, FetchError> {
    let method = "eth_getBlockByNumber";
    let reply = node
        .request(method, ("latest", false))
        .await
        .map_err(|source| FetchError::Node { number: 0, source })?;
    if reply.is_null() {
        return Ok(None);
    }
    parse_link(&reply.raw).map(Some).map_err(|source| FetchError::Malformed { number: 0, method, source })
}
