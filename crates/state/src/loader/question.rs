//! Calls of contracts as of one block, many at a time.

use alloy_primitives::BlockHash;
use headwater_node::Node;
pub(super) use headwater_node::{Answer, Question};

use crate::error::LoadError;

/// As [`headwater_node::ask`].
pub(super) async fn ask(
    node: &Node,
    block: BlockHash,
    questions: &[Question],
) -> Result<Vec<Answer>, LoadError> {
    Ok(headwater_node::ask(node, block, questions).await?)
}
