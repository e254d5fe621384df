//! The `[node]` table and its run-time form.

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::Endpoint;

/// The `[node]` table of the configuration. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The nodes, in order of preference: the first that answers is used, the others are for failover.
    #[serde(deserialize_with = "endpoints")]
    pub urls: Vec<Endpoint>,
    /// The chain the node must be on; a node on another chain is refused. Absent: any chain is taken.
    #[serde(default)]
    pub chain_id: Option<u64>,
    /// Milliseconds until a request is given up on. Default 10,000.
    #[serde(default = "default_request_timeout_ms")]
    pub request_timeout_ms: NonZeroU64,
    /// Milliseconds until connecting (name, TCP, TLS and WebSocket handshake together) is given up on. Default 5,000.
    #[serde(default = "default_connect_timeout_ms")]
    pub connect_timeout_ms: NonZeroU64,
    /// Largest message taken from the node, in bytes. Default 67,108,864 (64 MiB).
    #[serde(default = "default_max_message_bytes")]
    pub max_message_bytes: NonZeroUsize,
    /// Requests (a batch counts as one) on their way at a time; further ones wait within their time-out. Default 256.
    #[serde(default = "default_max_in_flight")]
    pub max_in_flight: NonZeroUsize,
    /// Calls in one JSON-RPC batch; larger batches are sent in chunks of it. Default 100.
    #[serde(default = "default_max_batch")]
    pub max_batch: NonZeroUsize,
    /// Notifications that one subscription holds for a slow consumer before the newest are dropped. Default 8,192.
    #[serde(default = "default_subscription_capacity")]
    pub subscription_capacity: NonZeroUsize,
    /// Malformed messages within ten seconds that are put up with before the connection is closed. Default 64.
    #[serde(default = "default_max_malformed")]
    pub max_malformed: u64,
    /// Milliseconds without a byte from a WebSocket after which it is pinged; after as many more without one the
    /// connection is closed. Default 5,000.
    #[serde(default = "default_keep_alive_ms")]
    pub keep_alive_ms: NonZeroU64,
}

/// The same limits with durations in place of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Until a request is given up on.
    pub request_timeout: Duration,
    /// Until connecting is given up on.
    pub connect_timeout: Duration,
    /// Largest message taken from the node, in bytes.
    pub max_message_bytes: usize,
    /// Requests on their way at a time.
    pub max_in_flight: usize,
    /// Calls in one JSON-RPC batch.
    pub max_batch: usize,
    /// Notifications held for a slow consumer of one subscription.
    pub subscription_capacity: usize,
    /// Malformed messages within ten seconds that are put up with.
    pub max_malformed: u64,
    /// Without a byte from a WebSocket until it is pinged, and from then until it is closed.
    pub keep_alive: Duration,
}

impl NodeConfig {
    /// The default limits for these endpoints, on any chain.
    pub fn new(urls: Vec<Endpoint>) -> Self {
        Self {
            urls,
            chain_id: None,
            request_timeout_ms: default_request_timeout_ms(),
            connect_timeout_ms: default_connect_timeout_ms(),
            max_message_bytes: default_max_message_bytes(),
            max_in_flight: default_max_in_flight(),
            max_batch: default_max_batch(),
            subscription_capacity: default_subscription_capacity(),
            max_malformed: default_max_malformed(),
            keep_alive_ms: default_keep_alive_ms(),
        }
    }

    /// The limits in their run-time form.
    pub fn limits(&self) -> Limits {
        Limits {
            request_timeout: Duration::from_millis(self.request_timeout_ms.get()),
            connect_timeout: Duration::from_millis(self.connect_timeout_ms.get()),
            max_message_bytes: self.max_message_bytes.get(),
            max_in_flight: self.max_in_flight.get(),
            max_batch: self.max_batch.get(),
            subscription_capacity: self.subscription_capacity.get(),
            max_malformed: self.max_malformed,
            keep_alive: Duration::from_millis(self.keep_alive_ms.get()),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        NodeConfig::new(Vec::new()).limits()
    }
}

/// Every text that is no endpoint is named, by its place: the text itself may hold a key.
fn endpoints<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Endpoint>, D::Error> {
    struct Urls;

    impl<'de> Visitor<'de> for Urls {
        type Value = Vec<Endpoint>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of node URLs")
        }

        fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
            Err(E::custom("a URL by itself, expected a list of node URLs: put it into brackets"))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Self::Value, A::Error> {
            let (mut urls, mut wrong) = (Vec::new(), Vec::new());
            while let Some(text) = texts.next_element::<String>()? {
                let place = urls.len() + wrong.len() + 1;
                match text.parse() {
                    Ok(url) => urls.push(url),
                    Err(error) => wrong.push(format!("URL {place} is {error}")),
                }
            }
            if wrong.is_empty() { Ok(urls) } else { Err(A::Error::custom(wrong.join("; "))) }
        }
    }

    deserializer.deserialize_any(Urls)
}

const fn default_request_timeout_ms() -> NonZeroU64 {
    NonZeroU64::new(10_000).expect("not zero")
}

const fn default_connect_timeout_ms() -> NonZeroU64 {
    NonZeroU64::new(5_000).expect("not zero")
}

const fn default_max_message_bytes() -> NonZeroUsize {
    NonZeroUsize::new(64 * 1024 * 1024).expect("not zero")
}

const fn default_max_in_flight() -> NonZeroUsize {
    NonZeroUsize::new(256).expect("not zero")
}

const fn default_max_batch() -> NonZeroUsize {
    NonZeroUsize::new(100).expect("not zero")
}

const fn default_subscription_capacity() -> NonZeroUsize {
    NonZeroUsize::new(8_192).expect("not zero")
}

const fn default_max_malformed() -> u64 {
    64
}

const fn default_keep_alive_ms() -> NonZeroU64 {
    NonZeroU64::new(5_000).expect("not zero")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_urls_alone_are_a_configuration() {
        let config: NodeConfig = serde_json::from_str(r#"{"urls":["ws://localhost:1"]}"#).expect("complete");
        assert_eq!(config, NodeConfig::new(vec!["ws://localhost:1".parse().expect("an endpoint")]));
        assert_eq!(config.limits(), Limits::default());
        assert_eq!(config.limits().request_timeout, Duration::from_secs(10));
    }

    #[test]
    fn unknown_keys_zeros_and_bad_urls_are_refused_without_repeating_the_url() {
        for (key, value) in
            [("url", "1"), ("max_in_flight", "0"), ("request_timeout_ms", "0"), ("max_batch", "0")]
        {
            let text = format!(r#"{{"urls":[],"{key}":{value}}}"#);
            assert!(serde_json::from_str::<NodeConfig>(&text).is_err(), "{text}");
        }
        for (urls, reason) in [
            (r#"["gopher://SECRET"]"#, "URL 1 is not a node URL"),
            (r#""ws://SECRET""#, "put it into brackets"),
            (r#"["ws://SECRET", "gopher://SECRET", "ipc://"]"#, "URL 2 is not a node URL: expected ws"),
            (r#"["ws://SECRET", "gopher://SECRET", "ipc://"]"#, "URL 3 is not a node URL: the ipc path"),
        ] {
            let error =
                serde_json::from_str::<NodeConfig>(&format!(r#"{{"urls":{urls}}}"#)).expect_err("refused");
            let text = error.to_string();
            assert!(text.contains(reason) && !text.contains("SECRET"), "{text}");
        }
    }
}
