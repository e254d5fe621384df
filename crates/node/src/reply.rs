//! An answer that has not been parsed yet.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use tokio::time::Instant;

use crate::NodeError;

/// The result of a request: the raw JSON value, a slice of the received message.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// The `result` member as the node wrote it. It is the whole value, and nothing behind it. It may not have been
    /// walked: that it is well-formed is for the one parse that reads it to find out.
    pub raw: Bytes,
    /// When the last byte of the message had been read from the socket.
    pub received_at: Instant,
}

impl Reply {
    /// Parses the result, borrowing from it where `T` borrows.
    ///
    /// # Errors
    /// [`NodeError::Decode`] where the result is not a `T`.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, NodeError> {
        serde_json::from_slice(&self.raw).map_err(|error| NodeError::Decode { reason: error.to_string() })
    }

    /// Whether the node answered `null`, as for a block or a transaction that it does not have.
    pub fn is_null(&self) -> bool {
        self.raw.as_ref() == b"null"
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("bytes", &self.raw.len())
            .field("received_at", &self.received_at)
            .finish()
    }
}
