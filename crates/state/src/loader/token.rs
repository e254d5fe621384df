use alloy_primitives::{Address, BlockHash};
use headwater_abi::calls;
use headwater_events::{TokenJudged, TokenVerdict};
use headwater_node::Node;

use super::question::{Answer, Question, ask};
use crate::error::LoadError;

/// The most decimals with which one whole token is less than 2^256 smallest units.
const MOST_DECIMALS: u8 = 77;

/// Asks tokens what they are; the verdicts come in the order of the tokens.
pub(super) async fn judge(
    node: &Node,
    block: BlockHash,
    tokens: &[Address],
) -> Result<Vec<TokenJudged>, LoadError> {
    let questions: Vec<_> = tokens
        .iter()
        .flat_map(|token| [calls::decimals(), calls::symbol()].map(|data| Question { to: *token, data }))
        .collect();
    let answers = ask(node, block, &questions).await?;
    let judged = tokens.iter().zip(answers.as_chunks().0);
    Ok(judged
        .map(|(token, [decimals, symbol])| TokenJudged { token: *token, verdict: verdict(decimals, symbol) })
        .collect())
}

/// A token must say its decimals; a symbol is for the reader.
fn verdict(decimals: &Answer, symbol: &Answer) -> TokenVerdict {
    match decimals.read(calls::decode_decimals) {
        Ok(decimals) if decimals <= MOST_DECIMALS => {
            TokenVerdict::Accepted { decimals, symbol: symbol.read(calls::decode_symbol).unwrap_or_default() }
        }
        Ok(decimals) => TokenVerdict::Refused(format!("it says that it has {decimals} decimals")),
        Err(reason) => TokenVerdict::Refused(format!("it does not say its decimals: {reason}")),
    }
}
