//! A block from the node, by its hash, whole.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::{B256, Bloom};
use bytes::Bytes;
use futures_util::future::join;
use headwater_events::{BlockEvent, Grade, Header, Log};
use headwater_node::{Node, NodeError, Reply};
use memchr::memmem;
use serde_json::json;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::bloom::BloomBuilder;
use crate::canonical::Link;
use crate::error::{FetchError, Incomplete};
use crate::parse::{
    ParseError, ParsedBlock, ParsedReceipts, Part, parse_block, parse_link, parse_part, parse_receipts,
};
use crate::receipts::receipts_root;

const GET_BLOCK: &str = "eth_getBlockByHash";
const GET_LOGS: &str = "eth_getLogs";
const GET_RECEIPTS: &str = "eth_getBlockReceipts";

/// The pause after the first answer that was not complete; each one after it is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The same where the node says that it is asked too often.
const FIRST_LIMITED_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_LIMITED_PAUSE: Duration = Duration::from_secs(2);

/// Fetches blocks and judges whether their logs are complete: by `eth_getLogs` and the header's bloom, or, where they have
/// to be proven, by `eth_getBlockReceipts` and the header's receipts root.
#[derive(Debug)]
pub struct Fetcher {
    least: Grade,
    within: Duration,
    /// One for each half of the logs.
    blooms: [Arc<Mutex<BloomBuilder>>; 2],
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
    logs: Option<(Evidence, Instant)>,
    /// Whether the node said that it is asked too often.
    limited: bool,
}

/// The logs of a block, with what is compared with its header.
enum Evidence {
    Bloom(BloomedLogs),
    Root(ParsedReceipts, B256),
}

impl Evidence {
    fn into_logs(self) -> Vec<Log> {
        match self {
            Self::Bloom((logs, _)) | Self::Root(ParsedReceipts { logs, .. }, _) => logs,
        }
    }
}

/// The pause from one question to the next.
struct Pause(Duration);

impl Pause {
    fn next(&mut self, limited: bool) -> Duration {
        let (first, longest) = match limited {
            true => (FIRST_LIMITED_PAUSE, LONGEST_LIMITED_PAUSE),
            false => (FIRST_PAUSE, LONGEST_PAUSE),
        };
        let pause = self.0.clamp(first, longest);
        self.0 = pause * 2;
        pause
    }
}

/// Logs and the bloom of them all.
type BloomedLogs = (Vec<Log>, Bloom);

impl Fetcher {
    /// Logs that reach less than the grade `least` are asked for again, for the time `within`.
    pub fn new(least: Grade, within: Duration) -> Self {
        Self { least, within, blooms: Default::default() }
    }

    /// Fetches a block. A node that does not have it yet, or gives its logs in part, is asked again: it announces a
    /// head before it has indexed it.
    ///
    /// # Errors
    ///
    /// [`FetchError`]; a lost connection, a time-out of a request and a malformed answer are given back at once.
    pub async fn fetch(&self, node: &Node, link: &Link) -> Result<Fetched, FetchError> {
        let begun = Instant::now();
        let (mut pauses, mut retries) = (Pause(FIRST_PAUSE), 0);
        let mut block = None;
        loop {
            let answers = self.request(node, link, block.is_none()).await?;
            let pause = pauses.next(answers.limited);
            block = block.or(answers.block);
            let failure = match (block.take(), answers.logs) {
                (Some((parsed, at)), Some((evidence, logs_at))) => match self.grade(&parsed, &evidence) {
                    Ok(grade) => {
                        let ParsedBlock { header, transactions, .. } = parsed;
                        let block = BlockEvent { header, transactions, logs: evidence.into_logs(), grade };
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
            retries += 1;
        }
    }

    /// The grade that the logs reach, if it suffices.
    fn grade(&self, block: &ParsedBlock, evidence: &Evidence) -> Result<Grade, Incomplete> {
        let (logs, bloom) = match evidence {
            Evidence::Root(receipts, root) => {
                return prove_receipts(block, receipts, *root).map(|()| Grade::Proven);
            }
            Evidence::Bloom((logs, bloom)) => (logs, bloom),
        };
        match match_logs(&block.header, block.transactions.len(), logs, bloom) {
            Ok(()) => Ok(Grade::Matched),
            // A chain without blooms: nothing in the header speaks for any logs, or against them.
            Err(Incomplete::Bloom { .. }) if self.least == Grade::Assumed && bloom_is_absent(block) => {
                Ok(Grade::Assumed)
            }
            Err(reason) => Err(reason),
        }
    }

    /// Asks for the block (unless it is known) and its logs at once, the logs last: their answer is the one that is worth
    /// waiting for. The block is parsed while the logs are on their way.
    async fn request(&self, node: &Node, link: &Link, with_block: bool) -> Result<Answers, FetchError> {
        let block = async {
            if !with_block {
                return Ok((None, false));
            }
            let reply = match answer(node.request(GET_BLOCK, (link.hash, true)).await, link)? {
                Answered::With(reply) => reply,
                Answered::NotYet { limited } => return Ok((None, limited)),
            };
            let raw = reply.raw;
            let parsed = aside(raw.len(), move || parse_block(&raw)).await;
            let parsed = parsed.map_err(malformed(link, GET_BLOCK))?;
            let header = &parsed.header;
            if (header.number, header.hash, header.parent_hash) != (link.number, link.hash, link.parent_hash)
            {
                return Err(FetchError::AnotherBlock { number: link.number, hash: link.hash });
            }
            Ok((Some((parsed, reply.received_at)), false))
        };
        let logs = async {
            let asked = match self.least {
                Grade::Proven => node.request(GET_RECEIPTS, [link.hash]).await,
                _ => node.request(GET_LOGS, [json!({ "blockHash": link.hash })]).await,
            };
            let reply = match answer(asked, link)? {
                Answered::With(reply) => reply,
                Answered::NotYet { limited } => return Ok((None, limited)),
            };
            let evidence = match self.least {
                Grade::Proven => {
                    read_receipts(reply.raw, link.hash).await.map_err(malformed(link, GET_RECEIPTS))?
                }
                _ => {
                    let logs = self.read_logs(&reply.raw, link.hash).await;
                    Evidence::Bloom(logs.map_err(malformed(link, GET_LOGS))?)
                }
            };
            Ok((Some((evidence, reply.received_at)), false))
        };
        let (block, logs) = join(block, logs).await;
        let ((block, block_limited), (logs, logs_limited)) = (block?, logs?);
        Ok(Answers { block, logs, limited: block_limited || logs_limited })
    }

    /// Parses logs and computes their bloom: many of them in two parts, on two threads, if the second wakes up in time.
    async fn read_logs(&self, text: &Bytes, hash: B256) -> Result<BloomedLogs, ParseError> {
        let [ours, theirs] = &self.blooms;
        if let Some([first, second]) = halves(text) {
            let theirs = Arc::clone(theirs);
            let second = Offered::new(move || read_part(&second, Part::Last, hash, &theirs));
            let first = read_part(&first, Part::First, hash, ours);
            let second = second.done().await;
            if let (Ok((mut logs, bloom)), Ok((rest, bloom_of_rest))) = (first, second) {
                logs.extend(rest);
                return Ok((logs, bloom | bloom_of_rest));
            }
            // The whole text says where it is wrong, or that it was only cut at a wrong place.
        }
        read_part(text, Part::Whole, hash, ours)
    }
}

async fn read_receipts(text: Bytes, hash: B256) -> Result<Evidence, ParseError> {
    let length = text.len();
    let read = move || {
        let receipts = parse_receipts(&text, hash)?;
        let root = receipts_root(&receipts);
        Ok(Evidence::Root(receipts, root))
    };
    aside(length, read).await
}

/// Shorter answers are parsed where they are received.
const WORTH_A_THREAD: usize = 64 << 10;

/// Works through an answer beside what else is on its way: on a thread of its own if it is long. A spawned task would
/// not do: it is kept for the worker that spawned it, and that one is busy with the rest of the block.
async fn aside<T: Send + 'static>(length: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if length < WORTH_A_THREAD { work() } else { joined(spawn_blocking(work)).await }
}

/// Work for whoever comes first: a thread that has to wake up, or the one that offers it, when it has nothing else left.
struct Offered<T, F> {
    work: Arc<Mutex<Option<F>>>,
    aside: JoinHandle<Option<T>>,
}

impl<T: Send + 'static, F: FnOnce() -> T + Send + 'static> Offered<T, F> {
    fn new(work: F) -> Self {
        let work = Arc::new(Mutex::new(Some(work)));
        let theirs = Arc::clone(&work);
        Self { work, aside: spawn_blocking(move || Self::take(&theirs).map(|work| work())) }
    }

    fn take(work: &Mutex<Option<F>>) -> Option<F> {
        work.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn done(self) -> T {
        match Self::take(&self.work) {
            Some(work) => work(),
            None => joined(self.aside).await.expect("who took it did it"),
        }
    }
}

async fn joined<T>(work: JoinHandle<T>) -> T {
    match work.await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // It was not begun because the runtime is being shut down, and so is this task.
        Err(Err(_)) => std::future::pending().await,
    }
}

/// A list of objects as two parts, cut between two objects; `None` where no such place is seen. The first is the longer
/// one: it is begun at once, and the second when a thread has woken up or the first is done, whichever is sooner.
fn halves(text: &Bytes) -> Option<[Bytes; 2]> {
    if text.len() < WORTH_A_THREAD {
        return None;
    }
    let about = text.len() / 8 * 5;
    let end = about + memmem::find(&text[about..], b"},{")? + 1;
    Some([text.slice(..end), text.slice(end + 1..)])
}

fn read_part(
    text: &[u8],
    part: Part,
    hash: B256,
    bloom: &Mutex<BloomBuilder>,
) -> Result<BloomedLogs, ParseError> {
    let logs = parse_part(text, part, hash)?;
    let bloom = bloom.lock().unwrap_or_else(PoisonError::into_inner).bloom(&logs);
    Ok((logs, bloom))
}

/// Whether the logs, of which `bloom` is, are all the logs of the block, as far as its header can tell.
///
/// # Errors
///
/// What speaks against it.
pub fn match_logs(
    header: &Header,
    transactions: usize,
    logs: &[Log],
    bloom: &Bloom,
) -> Result<(), Incomplete> {
    match_indices(transactions, logs)?;
    if *bloom == header.logs_bloom { Ok(()) } else { Err(Incomplete::Bloom { logs: logs.len() }) }
}

/// Whether the receipts, of whose trie `root` is the root, are the receipts of the block. The trie says nothing of the
/// indices of logs and transactions; they have to be what their places make them.
///
/// # Errors
///
/// What speaks against it.
pub fn prove_receipts(block: &ParsedBlock, receipts: &ParsedReceipts, root: B256) -> Result<(), Incomplete> {
    let ParsedReceipts { receipts, logs } = receipts;
    if root != block.receipts_root.ok_or(Incomplete::NoReceiptsRoot)? {
        return Err(Incomplete::Receipts { receipts: receipts.len() });
    }
    match_indices(block.transactions.len(), logs)?;
    for (place, receipt) in receipts.iter().enumerate() {
        for log in &logs[receipt.logs.clone()] {
            if log.transaction_index as usize != place {
                return Err(Incomplete::Transaction {
                    log: log.log_index,
                    transaction: log.transaction_index,
                });
            }
        }
    }
    Ok(())
}

fn bloom_is_absent(block: &ParsedBlock) -> bool {
    block.header.logs_bloom.is_zero()
}

fn match_indices(transactions: usize, logs: &[Log]) -> Result<(), Incomplete> {
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
    Ok(())
}

/// An answer, if it is one.
enum Answered {
    With(Reply),
    /// The node does not know the block (yet), or wants to be asked later.
    NotYet {
        limited: bool,
    },
}

fn answer(answer: Result<Reply, NodeError>, link: &Link) -> Result<Answered, FetchError> {
    match answer {
        Ok(reply) if reply.is_null() => Ok(Answered::NotYet { limited: false }),
        Ok(reply) => Ok(Answered::With(reply)),
        Err(NodeError::Rpc { error, .. }) if error.is_block_unknown() || error.is_retryable() => {
            Ok(Answered::NotYet { limited: error.is_rate_limit() })
        }
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
    let mut pauses = Pause(FIRST_PAUSE);
    loop {
        let pause = match answer(node.request(GET_BLOCK, (hash, false)).await, &sought)? {
            Answered::With(reply) => return parse_link(&reply.raw).map_err(malformed(&sought, GET_BLOCK)),
            Answered::NotYet { limited } => pauses.next(limited),
        };
        let after = begun.elapsed();
        if after + pause > within {
            return Err(FetchError::Unavailable { number: sought.number, hash, after });
        }
        sleep(pause).await;
    }
}

/// The node's head; `None` where it has no block at all.
///
/// # Errors
///
/// As [`Fetcher::fetch`].
pub(crate) async fn fetch_head(node: &Node) -> Result<Option<Link>, FetchError> {
    fetch_tagged(node, "latest", 0).await
}

/// The header at a height of the node's chain; `None` where it has none.
///
/// # Errors
///
/// As [`Fetcher::fetch`].
pub(crate) async fn fetch_link_at(node: &Node, number: u64) -> Result<Option<Link>, FetchError> {
    fetch_tagged(node, &format!("{number:#x}"), number).await
}

async fn fetch_tagged(node: &Node, tag: &str, number: u64) -> Result<Option<Link>, FetchError> {
    let method = "eth_getBlockByNumber";
    let reply =
        node.request(method, (tag, false)).await.map_err(|source| FetchError::Node { number, source })?;
    if reply.is_null() {
        return Ok(None);
    }
    parse_link(&reply.raw).map(Some).map_err(|source| FetchError::Malformed { number, method, source })
}

#[cfg(test)]
mod tests {
    use headwater_reference::fake_node::{BlockBuilder, FakeLog, FakeTransaction};
    use serde_json::Value;

    use super::*;
    use crate::parse::parse_logs;

    fn many_logs() -> (Bytes, B256) {
        let emitting = |seed: u8| {
            let data = vec![seed; 320].into();
            let log = FakeLog { address: [seed; 20].into(), topics: vec![[seed; 32].into()], data };
            FakeTransaction::emitting(vec![log])
        };
        let block = BlockBuilder::first(17).transactions((0..=200).map(emitting)).build();
        let logs = Value::Array(block.logs().into_iter().cloned().collect());
        (serde_json::to_vec(&logs).expect("it is JSON").into(), block.hash())
    }

    async fn check(text: &Bytes, hash: B256) {
        let fetcher = Fetcher::new(Grade::Matched, Duration::ZERO);
        let whole = parse_logs(text, hash).map(|logs| {
            let bloom = BloomBuilder::default().bloom(&logs);
            (logs, bloom)
        });
        assert_eq!(fetcher.read_logs(text, hash).await, whole);
    }

    #[tokio::test]
    async fn logs_read_in_halves_are_the_logs_read_whole() {
        let (text, hash) = many_logs();
        assert!(halves(&text).is_some());
        check(&text, hash).await;
    }

    #[tokio::test]
    async fn a_fault_in_either_half_is_told_by_its_place_in_the_whole() {
        let (text, hash) = many_logs();
        for at in [text.len() / 4, 3 * text.len() / 4] {
            let mut broken = text.to_vec();
            broken[at] = b'\\';
            check(&broken.into(), hash).await;
        }
    }

    #[tokio::test]
    async fn a_cut_inside_a_string_does_no_harm() {
        let (text, hash) = many_logs();
        let (about, mut odd) = (text.len() / 8 * 5, text.to_vec());
        let end = about + memmem::find(&text[about..], b"},{").expect("objects follow each other");
        let string = br#","odd":"},{","even":"},{""#;
        odd.splice(end..end, string.iter().copied());
        parse_logs(&odd, hash).expect("the whole is in order");
        check(&odd.into(), hash).await;
    }
}
