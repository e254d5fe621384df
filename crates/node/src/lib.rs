#![doc = include_str!("../README.md")]

mod batch;
mod config;
mod connection;
mod counters;
mod endpoint;
mod envelope;
mod error;
mod http;
mod json_stream;
mod node;
mod question;
mod redial;
mod reply;
mod router;
mod subscription;
mod tls;
mod transport;

pub use batch::Call;
pub use config::{Limits, NodeConfig};
pub use counters::Counters;
pub use endpoint::{Endpoint, EndpointError, Transport};
pub use error::{CloseReason, NodeError, RpcError};
pub use node::Node;
pub use question::{Answer, AskError, CodeCall, Question, ask, ask_with_code, ensure_canonical};
pub use redial::Redial;
pub use reply::Reply;
pub use subscription::{Notification, Subscription};
