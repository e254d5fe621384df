//! What can go wrong between here and the node, with what to do about it.

use std::time::Duration;

use alloy_primitives::B256;
use serde::Deserialize;

use crate::EndpointError;

/// Why a request, a subscription or a connection failed. No variant holds a raw URL.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The text is no endpoint.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// No endpoint is configured.
    #[error("no node is configured")]
    NoEndpoint,
    /// The connection could not be made.
    #[error("cannot connect to {endpoint}: {reason}")]
    Connect {
        /// The redacted endpoint.
        endpoint: String,
        /// The cause in words.
        reason: String,
    },
    /// The connection was not made in time.
    #[error("cannot connect to {endpoint}: no answer within {after:?}")]
    ConnectTimeout {
        /// The redacted endpoint.
        endpoint: String,
        /// The time allowed.
        after: Duration,
    },
    /// The node serves another chain than the configured one.
    #[error("{endpoint} is on chain {actual}, not on chain {expected}")]
    WrongChain {
        /// The redacted endpoint.
        endpoint: String,
        /// The configured chain id.
        expected: u64,
        /// The chain id that the node gave.
        actual: u64,
    },
    /// The node has another first block than before: it follows another chain under the same chain id, as a development node
    /// does that was restarted.
    #[error(
        "{endpoint} is on another chain than before: its first block is {actual}, not {expected}; run headwater again to begin \
         with what is there now"
    )]
    AnotherGenesis {
        /// The redacted endpoint.
        endpoint: String,
        /// Hash of the first block of the chain that was followed.
        expected: B256,
        /// Hash of the first block that the node has now.
        actual: B256,
    },
    /// The connection died before the answer came. Whether the node acted on the request is unknown.
    #[error("{method}: connection lost: {reason}")]
    ConnectionLost {
        /// What was asked.
        method: String,
        /// Why the connection died.
        reason: CloseReason,
    },
    /// No answer in time. Whether the node acted on the request is unknown.
    #[error("{method}: no answer within {after:?}")]
    Timeout {
        /// What was asked.
        method: String,
        /// The time allowed.
        after: Duration,
    },
    /// The node answered with a JSON-RPC error.
    #[error("{method}: {error}")]
    Rpc {
        /// What was asked.
        method: String,
        /// The node's error, whole.
        error: RpcError,
    },
    /// An HTTP answer that is not JSON-RPC.
    #[error("{method}: http status {status}")]
    HttpStatus {
        /// What was asked.
        method: String,
        /// The status code.
        status: u16,
    },
    /// The node asked, over HTTP, to be left alone for longer than the time allowed; nothing was sent.
    #[error("{method}: not sent: the node asked to be left alone for another {retry_in:?}")]
    RateLimited {
        /// What was to be asked.
        method: String,
        /// Until it may be asked again.
        retry_in: Duration,
    },
    /// The answer is no JSON-RPC answer to this request.
    #[error("{method}: invalid answer: {what}")]
    InvalidAnswer {
        /// What was asked.
        method: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The answer is larger than the configured limit.
    #[error("{method}: the answer exceeds {limit} bytes")]
    TooLarge {
        /// What was asked.
        method: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The result is not of the expected type.
    #[error("unexpected result: {reason}")]
    Decode {
        /// The parser's words.
        reason: String,
    },
    /// The parameters could not be written as JSON.
    #[error("{method}: parameters cannot be encoded: {reason}")]
    Encode {
        /// What was asked.
        method: String,
        /// The encoder's words.
        reason: String,
    },
    /// HTTP carries no subscriptions; configure a WebSocket or IPC endpoint.
    #[error("{endpoint} carries no subscriptions: http has none, use ws or ipc")]
    SubscriptionsUnsupported {
        /// The redacted endpoint.
        endpoint: String,
    },
}

impl NodeError {
    /// Whether the same request may succeed when it is sent again, perhaps over another connection. For a request that
    /// changes something (a transaction), what "again" means is the caller's to decide: the node may have acted.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::ConnectTimeout { .. }
            | Self::Timeout { .. }
            | Self::RateLimited { .. } => true,
            // The same question would bring the same answer.
            Self::ConnectionLost { reason, .. } => !matches!(reason, CloseReason::MessageTooLarge { .. }),
            Self::Rpc { error, .. } => error.is_retryable(),
            Self::HttpStatus { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::InvalidAnswer { .. }
            | Self::Endpoint(_)
            | Self::NoEndpoint
            | Self::WrongChain { .. }
            | Self::AnotherGenesis { .. }
            | Self::TooLarge { .. }
            | Self::Decode { .. }
            | Self::Encode { .. }
            | Self::SubscriptionsUnsupported { .. } => false,
        }
    }

    /// Whether the node is on another chain than the one that is followed.
    pub fn is_another_chain(&self) -> bool {
        matches!(self, Self::WrongChain { .. } | Self::AnotherGenesis { .. })
    }

    /// Whether the connection is gone, so that a new one has to be made first.
    pub fn is_connection_lost(&self) -> bool {
        matches!(self, Self::ConnectionLost { .. })
    }

    /// The node's own error, where it gave one.
    pub fn rpc(&self) -> Option<&RpcError> {
        match self {
            Self::Rpc { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// A JSON-RPC error object (JSON-RPC 2.0, section 5.1).
#[derive(Debug, Clone, PartialEq, Deserialize, thiserror::Error)]
#[error("rpc error {code}: {message}")]
pub struct RpcError {
    /// The code; 0 where the node gave none.
    #[serde(default)]
    pub code: i64,
    /// The node's words.
    #[serde(default)]
    pub message: String,
    /// What the node added; for a reverted `eth_call` the revert data as a hex string.
    #[serde(default)]
    pub data: Option<serde_json::Value>,
}

impl RpcError {
    /// Whether the code says that it is the node's momentary condition: internal error (-32603), resource unavailable
    /// (-32002) and limit exceeded (-32005) of EIP-1474, and 429 as some providers put it.
    pub fn is_retryable(&self) -> bool {
        matches!(self.code, -32603 | -32002 | -32005 | 429)
    }

    /// Whether the node says that it is asked too often: limit exceeded (-32005) of EIP-1474, and 429 as some providers
    /// put it.
    pub fn is_rate_limit(&self) -> bool {
        matches!(self.code, -32005 | 429)
    }

    /// Whether the node does not know the block that was asked about (yet). There is no code for it, so the words of
    /// geth, reth, erigon, nethermind and anvil are compared.
    pub fn is_block_unknown(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        const WORDS: [&str; 6] = [
            "unknown block",
            "header not found",
            "block not found",
            "header for hash not found",
            "blocknotfound",
            // Anvil, as EIP-1474 names code -32001.
            "resource not found",
        ];
        WORDS.iter().any(|words| message.contains(words))
    }

    /// The revert data of a reverted `eth_call` as the hex string that the node gave.
    pub fn revert_data(&self) -> Option<&str> {
        match self.data.as_ref()? {
            serde_json::Value::String(hex) => Some(hex),
            serde_json::Value::Object(fields) => fields.get("data")?.as_str(),
            _ => None,
        }
    }
}

/// Why a connection is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The node closed it in good order.
    #[error("closed by the node (code {code})")]
    ByNode {
        /// The WebSocket close code (RFC 6455, section 7.4); 1005 where none was given, as on IPC.
        code: u16,
    },
    /// The stream ended or broke.
    #[error("{0}")]
    Broken(String),
    /// The node sent a message beyond the limit.
    #[error("a message exceeds {limit} bytes")]
    MessageTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The node sent too many messages that are no JSON-RPC.
    #[error("{count} malformed messages within ten seconds")]
    TooManyMalformed {
        /// How many.
        count: u64,
    },
    /// Not a byte came, and a ping was not answered: the peer is gone without a word.
    #[error("nothing heard for {after:?}, and no answer to a ping")]
    Silent {
        /// How long.
        after: Duration,
    },
    /// The reading task ended without a reason of its own: the runtime is shutting down, or a defect here.
    #[error("the reading task ended")]
    ReaderEnded,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revert_data_is_found_where_nodes_put_it() {
        let error = |text: &str| serde_json::from_str::<RpcError>(text).expect("an error object");
        let geth = error(r#"{"code":3,"message":"execution reverted","data":"0x08c379a0"}"#);
        assert_eq!(geth.revert_data(), Some("0x08c379a0"));
        let ganache = error(r#"{"code":-32000,"message":"revert","data":{"data":"0x01"}}"#);
        assert_eq!(ganache.revert_data(), Some("0x01"));
        assert_eq!(error(r#"{"message":"x"}"#).revert_data(), None);
    }

    #[test]
    fn an_error_says_whether_asking_again_can_help() {
        let rpc = |code| NodeError::Rpc {
            method: "eth_call".into(),
            error: RpcError { code, message: String::new(), data: None },
        };
        assert!(rpc(-32005).is_retryable());
        assert!(!rpc(-32602).is_retryable(), "invalid parameters stay invalid");
        assert!(!rpc(3).is_retryable(), "a revert stays a revert");
        assert!(NodeError::HttpStatus { method: "m".into(), status: 429 }.is_retryable());
        assert!(!NodeError::HttpStatus { method: "m".into(), status: 401 }.is_retryable());
    }
}
