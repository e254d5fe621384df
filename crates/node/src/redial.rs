use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::NodeConfig;
use crate::error::NodeError;
use crate::node::Node;

/// A connection for requests that is made when it is first needed, and anew once it was lost.
///
/// [`Node`] itself never reconnects, because whoever follows a chain has to know. Whoever only asks questions does not.
#[derive(Clone, Debug)]
pub struct Redial {
    config: Arc<NodeConfig>,
    line: Arc<Mutex<Line>>,
}

#[derive(Debug, Default)]
struct Line {
    node: Option<Node>,
    /// When the last attempt failed, and how.
    failed: Option<(Instant, NodeError)>,
}

/// From one failed attempt to the next.
const PAUSE: Duration = Duration::from_secs(1);

impl Redial {
    /// Dials the first endpoint of `config` that answers and is on its chain.
    pub fn new(config: NodeConfig) -> Self {
        Self { config: Arc::new(config), line: Arc::default() }
    }

    /// The connection, if need be a new one. Within a second of a failed attempt none is made.
    ///
    /// # Errors
    ///
    /// As [`Node::connect_first`]; the last error again within the pause.
    pub async fn node(&self) -> Result<Node, NodeError> {
        let mut line = self.line.lock().await;
        if let Some(node) = line.node.as_ref().filter(|node| node.close_reason().is_none()) {
            return Ok(node.clone());
        }
        if let Some((_, error)) = line.failed.as_ref().filter(|(at, _)| at.elapsed() < PAUSE) {
            return Err(error.clone());
        }
        match Node::connect_first(&self.config).await {
            Ok((node, _)) => {
                *line = Line { node: Some(node.clone()), failed: None };
                Ok(node)
            }
            Err(error) => {
                line.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}
