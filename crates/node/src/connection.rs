//! A socket with its reader, and the requests that share it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::debug;

use crate::batch::{Call, encode_batch, encode_request};
use crate::endpoint::Endpoint;
use crate::router::{Failure, Reading, Router};
use crate::subscription::Route;
use crate::transport::{Incoming, MessageReader, MessageWriter, open};
use crate::{CloseReason, Limits, NodeError, Reply};

/// One connection over WebSocket or IPC. Its reader is a task of its own that waits for nothing but the socket; the
/// writers are the callers themselves, one at a time, which saves a hop.
pub(crate) struct Connection {
    /// Emptied when the connection ends, which closes the socket although handles may live on.
    writer: Arc<Mutex<Option<MessageWriter>>>,
    pub(crate) router: Arc<Router>,
    reader: AbortHandle,
    in_flight: Semaphore,
}

impl Connection {
    pub(crate) async fn open(endpoint: &Endpoint, limits: &Limits) -> Result<Self, NodeError> {
        let deadline = Instant::now() + limits.connect_timeout;
        let opened = timeout_at(deadline, open(endpoint.address(), limits.max_message_bytes)).await;
        let (reader, writer) = opened
            .map_err(|_| NodeError::ConnectTimeout {
                endpoint: endpoint.to_string(),
                after: limits.connect_timeout,
            })?
            .map_err(|reason| NodeError::Connect { endpoint: endpoint.to_string(), reason })?;
        let router = Router::new();
        let reading = Reading::new(limits.max_malformed);
        let writer = Arc::new(Mutex::new(Some(writer)));
        let task = run(reader, reading, EndsWithReader(router.clone()), writer.clone(), limits.keep_alive);
        let reader = tokio::spawn(task).abort_handle();
        let in_flight = Semaphore::new(limits.max_in_flight.min(Semaphore::MAX_PERMITS));
        Ok(Self { writer, router, reader, in_flight })
    }

    /// One request; with a route it is a subscription. Fails with `None` when the deadline passes.
    pub(crate) async fn request(
        &self,
        method: &str,
        params: &RawValue,
        route: Option<Route>,
        deadline: Instant,
    ) -> Option<Result<Reply, NodeError>> {
        let exchange = async {
            let _permit = self.in_flight.acquire().await.expect("the semaphore is never closed");
            let mut ticket = self.router.book(1, route).map_err(|reason| lost(method, reason))?;
            let text = encode_request(ticket.first_id, method, params)?;
            self.send(text).await.map_err(|reason| lost(method, reason))?;
            let answer = ticket.answers().await.pop().expect("one was booked");
            answer.map_err(|failure| failed(method, failure))
        };
        timeout_at(deadline, exchange).await.ok()
    }

    /// One batch of at most the configured size.
    pub(crate) async fn batch(
        &self,
        calls: &[Call],
        deadline: Instant,
    ) -> Option<Result<Vec<Result<Reply, NodeError>>, NodeError>> {
        let exchange = async {
            let _permit = self.in_flight.acquire().await.expect("the semaphore is never closed");
            let mut ticket = self.router.book(calls.len(), None).map_err(|reason| lost("batch", reason))?;
            let text = encode_batch(ticket.first_id, calls)?;
            self.send(text).await.map_err(|reason| lost("batch", reason))?;
            let answers = ticket.answers().await;
            let named = calls.iter().zip(answers);
            Ok(named.map(|(call, answer)| answer.map_err(|failure| failed(call.method(), failure))).collect())
        };
        timeout_at(deadline, exchange).await.ok()
    }

    /// Writes a message, or fails as soon as the connection does.
    async fn send(&self, text: String) -> Result<(), CloseReason> {
        tokio::select! {
            biased;
            reason = self.router.closed() => Err(reason),
            sent = self.write(text) => sent.map_err(|reason| {
                self.router.close(reason.clone());
                self.router.close_reason().unwrap_or(reason)
            }),
        }
    }

    async fn write(&self, text: String) -> Result<(), CloseReason> {
        let mut writer = self.writer.lock().await;
        let Some(writer) = writer.as_mut() else {
            return Err(self.router.close_reason().unwrap_or(CloseReason::ReaderEnded));
        };
        let mut unfinished = UnfinishedWrite { router: &self.router, tears_the_stream: writer.is_ipc() };
        let sent = writer.send(text).await;
        unfinished.tears_the_stream = false;
        sent
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// On IPC a message that is cut off in the middle (the caller's time is up, the node does not read) would corrupt the
/// stream for everybody, so it ends the connection. A WebSocket keeps the message whole and sends it later.
struct UnfinishedWrite<'a> {
    router: &'a Router,
    tears_the_stream: bool,
}

impl Drop for UnfinishedWrite<'_> {
    fn drop(&mut self) {
        if self.tears_the_stream {
            self.router.close(CloseReason::Broken("a write was cut off: the node does not read".to_owned()));
        }
    }
}

/// However the reader ends (end of stream, abort, panic), the books are closed and nobody waits for ever.
struct EndsWithReader(Arc<Router>);

impl Drop for EndsWithReader {
    fn drop(&mut self) {
        self.0.close(CloseReason::ReaderEnded);
    }
}

async fn run(
    reader: MessageReader,
    reading: Reading,
    books: EndsWithReader,
    writer: Arc<Mutex<Option<MessageWriter>>>,
    keep_alive: Duration,
) {
    let router = &books.0;
    let heard = reader.heard();
    let reason = tokio::select! {
        reason = keep(heard, &writer, keep_alive) => reason,
        reason = read(reader, reading, router) => reason,
        reason = router.closed() => reason,
    };
    debug!(%reason, "connection ended");
    router.close(reason);
    writer.lock().await.take();
}

/// Pings a socket on which nothing comes; resolves when the ping brings nothing either.
async fn keep(
    heard: Option<Arc<AtomicU64>>,
    writer: &Mutex<Option<MessageWriter>>,
    after: Duration,
) -> CloseReason {
    let Some(heard) = heard else { return std::future::pending().await };
    loop {
        let before = heard.load(Relaxed);
        sleep(after).await;
        if heard.load(Relaxed) != before {
            continue;
        }
        let deadline = Instant::now() + after;
        // A failed or unfinished ping shows by what is not heard.
        let _ = timeout_at(deadline, ping(writer)).await;
        sleep_until(deadline).await;
        if heard.load(Relaxed) == before {
            return CloseReason::Silent { after: after * 2 };
        }
    }
}

async fn ping(writer: &Mutex<Option<MessageWriter>>) -> Result<(), CloseReason> {
    match writer.lock().await.as_mut() {
        Some(writer) => writer.ping().await,
        None => Ok(()),
    }
}

async fn read(mut reader: MessageReader, mut reading: Reading, router: &Router) -> CloseReason {
    loop {
        let end = match reader.next().await {
            Ok(Incoming::Json(message)) => router.on_message(&message, Instant::now(), &mut reading),
            Ok(Incoming::Binary) => router.on_binary(&mut reading),
            Ok(Incoming::Garbage) => router.on_malformed("bytes between messages", &mut reading),
            Err(reason) => Some(reason),
        };
        if let Some(reason) = end {
            return reason;
        }
        // Whoever was answered waits for this worker, and no other one can take it over; the next message waits for
        // any.
        yield_now().await;
    }
}

pub(crate) fn lost(method: &str, reason: CloseReason) -> NodeError {
    NodeError::ConnectionLost { method: method.to_owned(), reason }
}

fn failed(method: &str, failure: Failure) -> NodeError {
    let method = method.to_owned();
    match failure {
        Failure::Rpc(error) => NodeError::Rpc { method, error },
        Failure::Invalid(what) => NodeError::InvalidAnswer { method, what },
        Failure::Lost(reason) => NodeError::ConnectionLost { method, reason },
    }
}
