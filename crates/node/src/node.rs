//! The handle.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::warn;

use crate::batch::{Call, encode_params, encode_subscription};
use crate::connection::Connection;
use crate::endpoint::Address;
use crate::envelope::subscription_id;
use crate::http::Http;
use crate::subscription::{Route, route};
use crate::{CloseReason, Counters, Endpoint, Limits, NodeConfig, NodeError, Reply, Subscription, Transport};

/// More of them would only wait in the node, with their time running.
const BATCHES_AT_A_TIME: usize = 4;

/// A handle to one connection with one node. Cloning is cheap, and all clones share the connection; when the last
/// handle (a [`Subscription`] holds one) is dropped, it is closed.
///
/// A `Node` never reconnects and never sends a request twice. When the connection dies, everything pending fails with
/// [`NodeError::ConnectionLost`], every subscription ends, and [`Node::closed`] resolves; whoever needs the node makes a
/// new connection, and knows by that that it may have missed something.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    limits: Limits,
    kind: Kind,
}

enum Kind {
    Socket(Connection),
    Http(Box<Http>),
}

impl Node {
    /// Connects. Over HTTP nothing is sent yet: the first request opens the connection.
    ///
    /// # Errors
    /// [`NodeError::Connect`] and [`NodeError::ConnectTimeout`].
    pub async fn connect(endpoint: &Endpoint, limits: &Limits) -> Result<Self, NodeError> {
        let kind = match endpoint.address() {
            Address::Url { uri, authorization, .. } if endpoint.transport() == Transport::Http => {
                Kind::Http(Box::new(Http::new(endpoint.to_string(), uri, authorization.clone(), limits)))
            }
            _ => Kind::Socket(Connection::open(endpoint, limits).await?),
        };
        Ok(Self { inner: Arc::new(Inner { endpoint: endpoint.clone(), limits: limits.clone(), kind }) })
    }

    /// Connects to the first of the configured endpoints that answers and is on the configured chain; gives the chain id
    /// with it. The endpoints passed over are logged.
    ///
    /// # Errors
    /// Where none will do: the error that asking again cannot mend (a wrong chain before an unreachable host), else the
    /// last one.
    pub async fn connect_first(config: &NodeConfig) -> Result<(Self, u64), NodeError> {
        let mut failure = NodeError::NoEndpoint;
        for endpoint in &config.urls {
            match Self::connect_to_chain(endpoint, &config.limits(), config.chain_id).await {
                Ok(connected) => return Ok(connected),
                Err(error) => {
                    warn!(%endpoint, %error, "node passed over");
                    if failure.is_retryable() || failure == NodeError::NoEndpoint {
                        failure = error;
                    }
                }
            }
        }
        Err(failure)
    }

    /// Connects and refuses a node on another chain than `expected`; gives the chain id with the handle.
    ///
    /// # Errors
    /// As [`Node::connect`] and [`Node::chain_id`], and [`NodeError::WrongChain`].
    pub async fn connect_to_chain(
        endpoint: &Endpoint,
        limits: &Limits,
        expected: Option<u64>,
    ) -> Result<(Self, u64), NodeError> {
        let node = Self::connect(endpoint, limits).await?;
        let actual = node.chain_id().await?;
        match expected {
            Some(expected) if expected != actual => {
                Err(NodeError::WrongChain { endpoint: endpoint.to_string(), expected, actual })
            }
            _ => Ok((node, actual)),
        }
    }

    /// Sends a request and waits for its answer, at most the configured time. `params` is a list or an object, `()`
    /// stands for none. Cancelling gives the request up: its late answer is counted and thrown away.
    ///
    /// # Errors
    /// Any [`NodeError`] but those of connecting.
    pub async fn request(&self, method: &str, params: impl Serialize) -> Result<Reply, NodeError> {
        self.request_within(self.inner.limits.request_timeout, method, params).await
    }

    /// As [`Node::request`], with a time-out of its own.
    ///
    /// # Errors
    /// As [`Node::request`].
    pub async fn request_within(
        &self,
        timeout: Duration,
        method: &str,
        params: impl Serialize,
    ) -> Result<Reply, NodeError> {
        let params = encode_params(method, &params)?;
        self.exchange(timeout, method, &params, None).await
    }

    /// [`Node::request`] with the result parsed: for small answers.
    ///
    /// # Errors
    /// As [`Node::request`], and [`NodeError::Decode`].
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: impl Serialize,
    ) -> Result<T, NodeError> {
        self.request(method, params).await?.parse()
    }

    /// Sends the calls as JSON-RPC batches of the configured size, four at a time, and gives their answers in the order of
    /// the calls. One call that fails does not fail the others. The time-out is that of each batch, from when it is sent.
    ///
    /// # Errors
    /// The outer error where a batch as a whole failed: a lost connection, a time-out.
    pub async fn batch(&self, calls: &[Call]) -> Result<Vec<Result<Reply, NodeError>>, NodeError> {
        let chunks: Vec<_> =
            calls.chunks(self.inner.limits.max_batch.max(1)).map(|chunk| self.chunk(chunk)).collect();
        let answers: Vec<_> = stream::iter(chunks).buffered(BATCHES_AT_A_TIME).try_collect().await?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Subscribes (`eth_subscribe`) to `kind`: `newHeads`, `logs`, `newPendingTransactions`, … `filter` is what follows the
    /// kind, `()` stands for nothing. The queue holds the configured number of notifications.
    ///
    /// # Errors
    /// As [`Node::request`], and [`NodeError::SubscriptionsUnsupported`] over HTTP.
    pub async fn subscribe(&self, kind: &str, filter: impl Serialize) -> Result<Subscription, NodeError> {
        if let Kind::Http(_) = self.inner.kind {
            return Err(NodeError::SubscriptionsUnsupported { endpoint: self.inner.endpoint.to_string() });
        }
        let params = encode_subscription(kind, &filter)?;
        let (route, receiving) = route(self.inner.limits.subscription_capacity);
        let timeout = self.inner.limits.request_timeout;
        let reply = self.exchange(timeout, "eth_subscribe", &params, Some(route)).await?;
        let id: &RawValue = reply.parse()?;
        Ok(receiving.into_subscription(subscription_id(id.get()), self.clone()))
    }

    /// The chain id (`eth_chainId`).
    ///
    /// # Errors
    /// As [`Node::call`].
    pub async fn chain_id(&self) -> Result<u64, NodeError> {
        let quantity: String = self.call("eth_chainId", ()).await?;
        let digits = quantity.strip_prefix("0x").unwrap_or(&quantity);
        u64::from_str_radix(digits, 16)
            .map_err(|_| NodeError::Decode { reason: "the chain id is no quantity".to_owned() })
    }

    /// Resolves with the reason when the connection dies. An HTTP node has no connection to lose: there it never does.
    pub async fn closed(&self) -> CloseReason {
        match &self.inner.kind {
            Kind::Socket(connection) => connection.router.closed().await,
            Kind::Http(_) => std::future::pending().await,
        }
    }

    /// Why the connection is gone, if it is.
    pub fn close_reason(&self) -> Option<CloseReason> {
        match &self.inner.kind {
            Kind::Socket(connection) => connection.router.close_reason(),
            Kind::Http(_) => None,
        }
    }

    /// What this connection has seen so far.
    pub fn counters(&self) -> Counters {
        match &self.inner.kind {
            Kind::Socket(connection) => connection.router.counters.snapshot(),
            Kind::Http(http) => http.counters.snapshot(),
        }
    }

    /// Where it is connected to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// The limits it was made with.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    pub(crate) fn forget_subscription(&self, id: &str) {
        if let Kind::Socket(connection) = &self.inner.kind {
            connection.router.forget_subscription(id);
        }
    }

    async fn exchange(
        &self,
        timeout: Duration,
        method: &str,
        params: &RawValue,
        route: Option<Route>,
    ) -> Result<Reply, NodeError> {
        let deadline = Instant::now() + timeout;
        let answer = match &self.inner.kind {
            Kind::Socket(connection) => connection.request(method, params, route, deadline).await,
            Kind::Http(http) => http.request(method, params, deadline).await,
        };
        answer.unwrap_or_else(|| Err(NodeError::Timeout { method: method.to_owned(), after: timeout }))
    }

    async fn chunk(&self, calls: &[Call]) -> Result<Vec<Result<Reply, NodeError>>, NodeError> {
        let timeout = self.inner.limits.request_timeout;
        let deadline = Instant::now() + timeout;
        let answers = match &self.inner.kind {
            Kind::Socket(connection) => connection.batch(calls, deadline).await,
            Kind::Http(http) => http.batch(calls, deadline).await,
        };
        answers.unwrap_or_else(|| Err(NodeError::Timeout { method: "batch".to_owned(), after: timeout }))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("endpoint", &self.inner.endpoint).finish_non_exhaustive()
    }
}
