//! Requests over HTTP: one POST each, nothing sent twice.

use std::error::Error as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::warn;

use crate::batch::{Call, encode_batch, encode_request};
use crate::connection::lost;
use crate::counters::{Live, add_one};
use crate::envelope::{AnswerId, Envelope, Message, Outcome, Parser, Path};
use crate::{CloseReason, Limits, NodeError, Reply, tls};

/// A client with kept-alive connections. Redirects are not followed, proxies of the environment are not used, and a
/// request whose kept connection turns out to be dead fails: whoever asked decides whether to ask again.
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    shown: String,
    uri: Uri,
    authorization: Option<HeaderValue>,
    max_message_bytes: usize,
    in_flight: Semaphore,
    next_id: AtomicU64,
    parser: Mutex<Parser>,
    /// Nothing is sent before: the node said so (`Retry-After`).
    not_before: Mutex<Option<Instant>>,
    pub(crate) counters: Live,
}

/// A node that asks to be left alone for longer is asked again after this.
const LONGEST_HEEDED: Duration = Duration::from_secs(300);

struct Body {
    status: StatusCode,
    bytes: Bytes,
    received_at: Instant,
}

impl Http {
    pub(crate) fn new(shown: String, uri: &Uri, authorization: Option<HeaderValue>, limits: &Limits) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limits.connect_timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::client_config().as_ref().clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build(connector);
        Self {
            client,
            shown,
            uri: uri.clone(),
            authorization,
            max_message_bytes: limits.max_message_bytes,
            in_flight: Semaphore::new(limits.max_in_flight.min(Semaphore::MAX_PERMITS)),
            next_id: AtomicU64::new(1),
            parser: Mutex::default(),
            not_before: Mutex::default(),
            counters: Live::default(),
        }
    }

    /// One request. Fails with `None` when the deadline passes.
    pub(crate) async fn request(
        &self,
        method: &str,
        params: &RawValue,
        deadline: Instant,
    ) -> Option<Result<Reply, NodeError>> {
        let exchange = async {
            let id = self.take_ids(1);
            let body = self.post(method, encode_request(id, method, params)?, deadline).await?;
            self.single(method, id, body)
        };
        self.counted_timeout(deadline, 1, exchange).await
    }

    /// One batch of at most the configured size.
    pub(crate) async fn batch(
        &self,
        calls: &[Call],
        deadline: Instant,
    ) -> Option<Result<Vec<Result<Reply, NodeError>>, NodeError>> {
        let exchange = async {
            let first_id = self.take_ids(calls.len());
            let body = self.post("batch", encode_batch(first_id, calls)?, deadline).await?;
            self.members(calls, first_id, body)
        };
        self.counted_timeout(deadline, calls.len(), exchange).await
    }

    fn take_ids(&self, count: usize) -> u64 {
        self.counters.requests.fetch_add(count as u64, Relaxed);
        self.next_id.fetch_add(count as u64, Relaxed)
    }

    async fn counted_timeout<T>(
        &self,
        deadline: Instant,
        count: usize,
        exchange: impl Future<Output = Result<T, NodeError>>,
    ) -> Option<Result<T, NodeError>> {
        let permitted = async {
            let _permit = self.in_flight.acquire().await.expect("the semaphore is never closed");
            exchange.await
        };
        let answer = timeout_at(deadline, permitted).await.ok();
        let counter = if answer.is_some() { &self.counters.answers } else { &self.counters.given_up };
        counter.fetch_add(count as u64, Relaxed);
        answer
    }

    async fn post(&self, method: &str, text: String, deadline: Instant) -> Result<Body, NodeError> {
        self.wait_until_welcome(method, deadline).await?;
        let mut request = Request::new(Full::new(Bytes::from(text)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        let answer =
            self.client.request(request).await.map_err(|error| self.request_failed(method, &error))?;
        let status = answer.status();
        self.note_retry_after(status, answer.headers());
        let body = Limited::new(answer.into_body(), self.max_message_bytes).collect().await;
        let body = body.map_err(|error| self.body_failed(method, error.as_ref()))?;
        let (bytes, received_at) = (body.to_bytes(), Instant::now());
        self.counters.bytes_received.fetch_add(bytes.len() as u64, Relaxed);
        Ok(Body { status, bytes, received_at })
    }

    /// Waits as long as the node asked for; if that is longer than the caller waits, it is told at once.
    async fn wait_until_welcome(&self, method: &str, deadline: Instant) -> Result<(), NodeError> {
        let not_before = *self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        match not_before {
            Some(at) if at > deadline => {
                let retry_in = at.duration_since(Instant::now());
                Err(NodeError::RateLimited { method: method.to_owned(), retry_in })
            }
            Some(at) => {
                sleep_until(at).await;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn note_retry_after(&self, status: StatusCode, headers: &HeaderMap) {
        if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return;
        }
        let Some(after) = retry_after(headers) else { return };
        warn!(endpoint = self.shown, ?after, "the node asks to be left alone");
        *self.not_before.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + after);
    }

    fn parse(&self, method: &str, body: &Body) -> Result<Message, NodeError> {
        let mut parser = self.parser.lock().unwrap_or_else(PoisonError::into_inner);
        let (path, parsed) = parser.parse(&body.bytes);
        drop(parser);
        add_one(match path {
            Path::Fast => &self.counters.fast_envelopes,
            Path::Full => &self.counters.full_envelopes,
        });
        parsed.map_err(|malformed| {
            add_one(&self.counters.malformed);
            if body.status.is_success() {
                invalid(method, malformed.0)
            } else {
                NodeError::HttpStatus { method: method.to_owned(), status: body.status.as_u16() }
            }
        })
    }

    fn single(&self, method: &str, id: u64, body: Body) -> Result<Reply, NodeError> {
        match self.parse(method, &body)? {
            Message::One(Envelope::Answer { id: AnswerId::Number(answered), outcome }) if answered == id => {
                finish(method, outcome, body.received_at)
            }
            Message::One(Envelope::Answer { id: AnswerId::Absent, outcome: Outcome::Error(error) }) => {
                Err(NodeError::Rpc { method: method.to_owned(), error })
            }
            _ => {
                add_one(&self.counters.unknown_answers);
                Err(invalid(method, "the answer is to something else"))
            }
        }
    }

    fn members(
        &self,
        calls: &[Call],
        first_id: u64,
        body: Body,
    ) -> Result<Vec<Result<Reply, NodeError>>, NodeError> {
        let members = match self.parse("batch", &body)? {
            Message::Batch(members) => members,
            Message::One(Envelope::Answer { outcome: Outcome::Error(error), .. }) => {
                let refused = |call: &Call| {
                    Err(NodeError::Rpc { method: call.method().to_owned(), error: error.clone() })
                };
                return Ok(calls.iter().map(refused).collect());
            }
            Message::One(_) => return Err(invalid("batch", "no batch came back")),
        };
        let missing = |call: &Call| Err(invalid(call.method(), "missing from the answer to its batch"));
        let mut answers: Vec<_> = calls.iter().map(missing).collect();
        for member in members {
            let Ok(Envelope::Answer { id: AnswerId::Number(id), outcome }) = member else {
                add_one(&self.counters.malformed);
                continue;
            };
            let index = id.checked_sub(first_id).and_then(|index| usize::try_from(index).ok());
            match index.filter(|index| *index < calls.len()) {
                Some(index) => answers[index] = finish(calls[index].method(), outcome, body.received_at),
                None => drop(add_one(&self.counters.unknown_answers)),
            }
        }
        Ok(answers)
    }

    fn request_failed(&self, method: &str, error: &hyper_util::client::legacy::Error) -> NodeError {
        let reason = innermost(error);
        if error.is_connect() {
            return NodeError::Connect { endpoint: self.shown.clone(), reason };
        }
        lost(method, CloseReason::Broken(reason))
    }

    fn body_failed(
        &self,
        method: &str,
        error: &(dyn std::error::Error + Send + Sync + 'static),
    ) -> NodeError {
        if error.is::<LengthLimitError>() {
            return NodeError::TooLarge { method: method.to_owned(), limit: self.max_message_bytes };
        }
        lost(method, CloseReason::Broken(error.to_string()))
    }
}

/// RFC 9110, section 10.2.3: seconds. The other form, a date, would be only as good as both clocks, and is not heeded.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_HEEDED))
}

fn finish(method: &str, outcome: Outcome, received_at: Instant) -> Result<Reply, NodeError> {
    match outcome {
        Outcome::Result(raw) => Ok(Reply { raw, received_at }),
        Outcome::Error(error) => Err(NodeError::Rpc { method: method.to_owned(), error }),
        Outcome::Invalid(what) => Err(invalid(method, what)),
    }
}

fn invalid(method: &str, what: &'static str) -> NodeError {
    NodeError::InvalidAnswer { method: method.to_owned(), what }
}

/// The cause at the bottom: "connection refused" rather than "client error".
fn innermost(error: &hyper_util::client::legacy::Error) -> String {
    let Some(mut cause) = error.source() else { return error.to_string() };
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
