use alloy_primitives::{Address, BlockHash, U256};
use headwater_abi::calls;
use headwater_events::{TokenJudged, TokenVerdict};
use headwater_node::{AskError, Node, ask_with_code};
use headwater_simulation::{Later, TokenFault, TokenTrial};
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
    /// What a pair says that it holds; of other pools nothing is known.
    pub(super) reserve: Option<u128>,
}

/// What was found out about tokens.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// In the order of the tokens.
    pub(super) judged: Vec<TokenJudged>,
    /// Tokens that were accepted without a look at a later time, because the node knows no other time than the block's.
    pub(super) untimed: u64,
}

/// Asks tokens what they are, and tries them out on the state of the block; the verdicts come in the order of the tokens. A token
/// of which its pool holds nothing cannot be tried out, and gets none.
pub(super) async fn judge(
    node: &Node,
    block: BlockHash,
    tokens: &[Held],
    max_gas: u64,
) -> Result<Verdicts, LoadError> {
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
    let mut untimed = 0;
    for page in trials.chunks(TRIALS) {
        let questions: Vec<_> = page.iter().map(|(_, trial)| trial.question(block)).collect();
        let answers = ask_with_code(node, block, &questions).await?;
        let mut passed = Vec::with_capacity(page.len());
        for ((place, trial), answer) in page.iter().zip(answers) {
            let outcome = match answer {
                Answer::Returned(bytes) => trial.verdict(&bytes).map(|()| trial.later(block, &bytes)),
                Answer::Failed(reason) => Err(TokenFault::NoEnd(reason)),
            };
            match (outcome, &mut judged[*place]) {
                (Ok(later), _) => passed.push((*place, later)),
                (Err(fault), Some(judged)) => judged.verdict = TokenVerdict::Refused(fault.to_string()),
                (Err(_), None) => {}
            }
        }
        let looks = look_later(node, block, passed.iter().map(|(_, later)| later)).await?;
        for ((place, _), look) in passed.iter().zip(looks) {
            match (look, &mut judged[*place]) {
                (Look::Untimed, _) => untimed += 1,
                (Look::Other(fault), Some(judged)) => {
                    judged.verdict = TokenVerdict::Refused(fault.to_string());
                }
                _ => {}
            }
        }
    }
    if untimed > 0 {
        warn!(
            tokens = untimed,
            "the node runs no call at another time (block overrides of eth_call): a balance that changes with time alone is not found"
        );
    }
    let judged: Vec<_> = judged.into_iter().flatten().collect();
    for TokenJudged { token, verdict } in &judged {
        if let TokenVerdict::Refused(reason) = verdict {
            warn!(%token, %reason, "a token is refused; its pools are not quoted");
        }
    }
    Ok(Verdicts { judged, untimed })
}

/// What a look at a later time showed.
enum Look {
    /// The same balance.
    Same,
    Other(TokenFault),
    /// It was none.
    Untimed,
}

/// The balances later; a node that refuses to run a call at another time is none that fails.
async fn look_later(
    node: &Node,
    block: BlockHash,
    tokens: impl ExactSizeIterator<Item = &Later> + Clone,
) -> Result<Vec<Look>, LoadError> {
    let questions: Vec<_> = tokens.clone().map(|later| later.question.clone()).collect();
    if questions.is_empty() {
        return Ok(Vec::new());
    }
    let answers = match ask_with_code(node, block, &questions).await {
        Ok(answers) => answers,
        Err(AskError::NoOverrides { .. }) => return Ok(tokens.map(|_| Look::Untimed).collect()),
        Err(AskError::Node(error)) if error.rpc().is_some() && !error.is_retryable() => {
            return Ok(tokens.map(|_| Look::Untimed).collect());
        }
        Err(error) => return Err(error.into()),
    };
    let look = |(later, answer): (&Later, Answer)| match answer {
        Answer::Returned(bytes) => match later.verdict(&bytes) {
            Ok(true) => Look::Same,
            Ok(false) => Look::Untimed,
            Err(fault) => Look::Other(fault),
        },
        // It has succeeded at the block's own time, and nothing in it can fail: so says the node.
        Answer::Failed(_) => Look::Untimed,
    };
    Ok(tokens.zip(answers).map(look).collect())
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
        // Anybody may give a pair more than its reserve. Less is left where the token has taken it away.
        Ok(balance) if held.reserve.is_some_and(|reserve| balance < U256::from(reserve)) => {
            refused(TokenFault::Shrunk.to_string())
        }
        Ok(balance) => {
            let symbol = symbol.read(calls::decode_symbol).unwrap_or_default();
            let Held { token, holder, .. } = *held;
            let trial = TokenTrial { token, holder, held: balance, max_gas };
            Introduced::Holding(TokenVerdict::Accepted { decimals, symbol }, trial)
        }
        Err(_) => refused(TokenFault::NoBalance.to_string()),
    }
}
