use alloy_primitives::{Address, BlockHash, U256};
use headwater_abi::calls;
use headwater_events::{TokenJudged, TokenVerdict};
use headwater_node::{Node, ask_with_code};
use headwater_simulation::{TokenFault, TokenTrial};
use tracing::warn;

use super::question::{Answer, Question, ask};
use crate::error::LoadError;

/// The most decimals with which one whole token is less than 2^256 smallest units.
const MOST_DECIMALS: u8 = 77;

/// Questions of each token beside its trial.
const QUESTIONS: usize = 3;

/// Trials that are asked for together: each carries a few kilobytes of code.
const TRIALS: usize = 100;

/// A token that is to be judged, and a pool that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) token: Address,
    pub(super) holder: Address,
}

/// Asks tokens what they are, and tries them out on the state of the block; the verdicts come in the order of the tokens. A token
/// of which its pool holds nothing cannot be tried out, and gets none.
pub(super) async fn judge(
    node: &Node,
    block: BlockHash,
    tokens: &[Held],
    max_gas: u64,
) -> Result<Vec<TokenJudged>, LoadError> {
    let about = |held: &Held| {
        [calls::decimals(), calls::symbol(), calls::balance_of(held.holder)].map(|data| (held.token, data))
    };
    let questions: Vec<_> = tokens.iter().flat_map(about).map(|(to, data)| Question { to, data }).collect();
    let answers = ask(node, block, &questions).await?;
    let mut judged = Vec::with_capacity(tokens.len());
    let mut trials = Vec::with_capacity(tokens.len());
    for (held, answers) in tokens.iter().zip(answers.as_chunks::<QUESTIONS>().0) {
        match introduced(held, answers, max_gas) {
            Introduced::Judged(verdict) => judged.push(Some(TokenJudged { token: held.token, verdict })),
            Introduced::Holding(verdict, trial) => {
                trials.push((judged.len(), trial));
                judged.push(Some(TokenJudged { token: held.token, verdict }));
            }
            Introduced::Absent => judged.push(None),
        }
    }
    for page in trials.chunks(TRIALS) {
        let questions: Vec<_> = page.iter().map(|(_, trial)| trial.question(block)).collect();
        let answers = ask_with_code(node, block, &questions).await?;
        for ((place, trial), answer) in page.iter().zip(answers) {
            let outcome = match answer {
                Answer::Returned(bytes) => trial.verdict(&bytes),
                Answer::Failed(reason) => Err(TokenFault::NoEnd(reason)),
            };
            if let (Err(fault), Some(judged)) = (outcome, &mut judged[*place]) {
                judged.verdict = TokenVerdict::Refused(fault.to_string());
            }
        }
    }
    let judged: Vec<_> = judged.into_iter().flatten().collect();
    for TokenJudged { token, verdict } in &judged {
        if let TokenVerdict::Refused(reason) = verdict {
            warn!(%token, %reason, "a token is refused; its pools are not quoted");
        }
    }
    Ok(judged)
}

/// What is known of a token before it is tried out.
enum Introduced {
    /// It need not be tried out.
    Judged(TokenVerdict),
    /// This is the verdict if nothing is found.
    Holding(TokenVerdict, TokenTrial),
    /// Its pool holds nothing of it.
    Absent,
}

/// A token must say its decimals; a symbol is for the reader.
fn introduced(held: &Held, [decimals, symbol, balance]: &[Answer; QUESTIONS], max_gas: u64) -> Introduced {
    let refused = |reason| Introduced::Judged(TokenVerdict::Refused(reason));
    let decimals = match decimals.read(calls::decode_decimals) {
        Ok(0) => return refused("decimals: it has none".to_owned()),
        Ok(decimals) if decimals <= MOST_DECIMALS => decimals,
        Ok(decimals) => return refused(format!("decimals: it says that it has {decimals} decimals")),
        Err(reason) => return refused(format!("decimals: it does not say its decimals: {reason}")),
    };
    match balance.read(calls::decode_uint256) {
        Ok(U256::ZERO) => Introduced::Absent,
        Ok(balance) => {
            let symbol = symbol.read(calls::decode_symbol).unwrap_or_default();
            let Held { token, holder } = *held;
            let trial = TokenTrial { token, holder, held: balance, max_gas };
            Introduced::Holding(TokenVerdict::Accepted { decimals, symbol }, trial)
        }
        Err(_) => refused(TokenFault::NoBalance.to_string()),
    }
}
