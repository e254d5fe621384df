//! Calls of contracts as of one block, many at a time.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use alloy_primitives::{Address, BlockHash, BlockNumber, Bytes, U64};
use serde::{Deserialize, Serialize};

use crate::batch::Call;
use crate::error::{NodeError, RpcError};
use crate::node::Node;
use crate::reply::Reply;

/// A call of a contract.
#[derive(Clone, Debug)]
pub struct Question {
    /// The contract.
    pub to: Address,
    /// The calldata.
    pub data: Bytes,
}

/// A call without data of code that stands nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeCall {
    /// Who calls.
    pub from: Address,
    /// Whose code is run.
    pub to: Address,
    /// The gas that it may use.
    pub gas: u64,
    /// What stands where, for this call.
    pub code: Vec<(Address, Bytes)>,
    /// The time that the call sees in place of its block's, in seconds since the Unix epoch. Not every node knows that (the block overrides
    /// of `eth_call`), and one that does not refuses it or takes no notice.
    pub time: Option<u64>,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The contract returned this; nothing at all where there is no contract.
    Returned(Bytes),
    /// The contract failed, with the node's words.
    Failed(String),
}

impl Answer {
    /// The answer, read.
    ///
    /// # Errors
    ///
    /// Why it cannot be, in words.
    pub fn read<T, E: Display>(&self, decode: impl FnOnce(&[u8]) -> Result<T, E>) -> Result<T, String> {
        match self {
            Self::Returned(bytes) => decode(bytes).map_err(|error| match bytes.is_empty() {
                true => "nothing comes back: there is no contract, or it has no such function".to_owned(),
                false => error.to_string(),
            }),
            Self::Failed(reason) => Err(reason.clone()),
        }
    }
}

/// Why contracts could not be asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AskError {
    /// The block that was asked about is unknown, no longer canonical, or its state is no longer kept: ask about a
    /// newer one.
    #[error("the node no longer answers for block {block}: {reason}")]
    BlockGone {
        /// The block.
        block: BlockHash,
        /// The node's words.
        reason: String,
    },
    /// The node does not run code in place of what stands at an address (the state overrides of `eth_call`).
    #[error(
        "the node knows no state overrides in eth_call ({reason}): use one that does, such as geth, reth, erigon, nethermind or anvil"
    )]
    NoOverrides {
        /// What it does instead.
        reason: String,
    },
    /// The node fails.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Invalid parameters (JSON-RPC 2.0, section 5.1).
const INVALID_PARAMETERS: i64 = -32602;

/// Tries of a call that the node says it cannot answer at the moment.
const TRIES: u32 = 4;
/// Pause before the second try; four times as long before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Asks all at one block; the answers come in the order of the questions. A call that the node is too busy for is
/// repeated a few times.
///
/// # Errors
///
/// [`AskError`] when the node does not answer for the block, or fails. A contract that fails is an answer.
pub async fn ask(node: &Node, block: BlockHash, questions: &[Question]) -> Result<Vec<Answer>, AskError> {
    let calls = questions.iter().map(|question| call(question, block)).collect::<Result<Vec<_>, _>>()?;
    ask_all(node, block, &calls).await
}

/// As [`ask`], with code in place of what stands at some addresses, for each call alone. The code that is called has to return
/// something, so that it is seen whether it was run.
///
/// # Errors
///
/// As [`ask`], and [`AskError::NoOverrides`].
pub async fn ask_with_code(
    node: &Node,
    block: BlockHash,
    questions: &[CodeCall],
) -> Result<Vec<Answer>, AskError> {
    let calls = questions.iter().map(|question| question.call(block)).collect::<Result<Vec<_>, _>>()?;
    let answers = ask_all(node, block, &calls).await.map_err(|error| match error {
        AskError::Node(NodeError::Rpc { error, .. }) if error.code == INVALID_PARAMETERS => {
            AskError::NoOverrides { reason: error.message }
        }
        error => error,
    })?;
    if answers.iter().any(|answer| matches!(answer, Answer::Returned(bytes) if bytes.is_empty())) {
        return Err(AskError::NoOverrides { reason: "it ignores the code that is given".to_owned() });
    }
    Ok(answers)
}

async fn ask_all(node: &Node, block: BlockHash, calls: &[Call]) -> Result<Vec<Answer>, AskError> {
    let mut answers: Vec<Option<Answer>> = vec![None; calls.len()];
    let mut open: Vec<usize> = (0..calls.len()).collect();
    let mut pause = FIRST_PAUSE;
    for tries_left in (0..TRIES).rev() {
        let batch: Vec<Call> = open.iter().map(|index| calls[*index].clone()).collect();
        let replies = node.batch(&batch).await?;
        let mut again = Vec::new();
        for (index, reply) in open.into_iter().zip(replies) {
            match answer(block, reply) {
                Ok(answer) => answers[index] = Some(answer),
                Err(AskError::Node(error)) if error.is_retryable() && tries_left > 0 => again.push(index),
                Err(error) => return Err(error),
            }
        }
        open = again;
        if open.is_empty() {
            break;
        }
        tokio::time::sleep(pause).await;
        pause *= 4;
    }
    Ok(answers.into_iter().map(|answer| answer.expect("the last try answers or returns an error")).collect())
}

/// `eth_call` at a block by its hash (EIP-1898), which must be canonical.
fn call(question: &Question, block: BlockHash) -> Result<Call, NodeError> {
    #[derive(Serialize)]
    struct Transaction<'a> {
        to: Address,
        data: &'a Bytes,
    }
    let transaction = Transaction { to: question.to, data: &question.data };
    Call::new("eth_call", (transaction, Place { block_hash: block, require_canonical: true }))
}

/// EIP-1898: by hash, and refused if the block is not canonical.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    block_hash: BlockHash,
    require_canonical: bool,
}

impl CodeCall {
    fn call(&self, block: BlockHash) -> Result<Call, NodeError> {
        #[derive(Serialize)]
        struct Transaction {
            from: Address,
            to: Address,
            gas: U64,
        }
        #[derive(Serialize)]
        struct Account<'a> {
            code: &'a Bytes,
        }
        #[derive(Serialize)]
        struct Block {
            time: U64,
        }
        let transaction = Transaction { from: self.from, to: self.to, gas: U64::from(self.gas) };
        let place = Place { block_hash: block, require_canonical: true };
        let accounts: BTreeMap<_, _> =
            self.code.iter().map(|(address, code)| (*address, Account { code })).collect();
        match self.time {
            None => Call::new("eth_call", (transaction, place, accounts)),
            Some(time) => {
                let block = Block { time: U64::from(time) };
                Call::new("eth_call", (transaction, place, accounts, block))
            }
        }
    }
}

fn answer(block: BlockHash, reply: Result<Reply, NodeError>) -> Result<Answer, AskError> {
    let error = match reply {
        Ok(reply) => return Ok(Answer::Returned(reply.parse()?)),
        Err(error) => error,
    };
    match error.rpc() {
        // A contract chooses what its revert says.
        Some(rpc) if is_revert(rpc) => Ok(Answer::Failed(rpc.message.clone())),
        Some(rpc) if is_block_gone(rpc) => Err(AskError::BlockGone { block, reason: rpc.message.clone() }),
        Some(rpc) if is_halt(rpc) => Ok(Answer::Failed(rpc.message.clone())),
        _ => Err(error.into()),
    }
}

/// Whether the node has the block's state no longer, or does not regard the block as canonical. As for unknown blocks
/// there is no code for it, and the words of geth, erigon, nethermind and reth are compared.
fn is_block_gone(error: &RpcError) -> bool {
    const WORDS: [&str; 6] = [
        "canonical",
        "missing trie node",
        "state not available",
        "state is not available",
        "historical state",
        "pruned",
    ];
    error.is_block_unknown() || says_any(error, &WORDS)
}

/// Whether the contract reverted, and not the node failed: only then the answer is final. Code 3 is geth's for it.
fn is_revert(error: &RpcError) -> bool {
    error.code == 3 || says_any(error, &["revert"])
}

/// Whether the EVM halted otherwise, in the words of geth, anvil, nethermind and erigon.
fn is_halt(error: &RpcError) -> bool {
    const WORDS: [&str; 14] = [
        "invalid opcode",
        "out of gas",
        "invalid jump",
        "stack underflow",
        "stack limit",
        "vm execution error",
        "evm error",
        "gas uint64 overflow",
        "return data out of bounds",
        "write protection",
        "max call depth exceeded",
        "max initcode size exceeded",
        "contract address collision",
        "insufficient balance for transfer",
    ];
    says_any(error, &WORDS)
}

fn says_any(error: &RpcError, words: &[&str]) -> bool {
    let message = error.message.to_ascii_lowercase();
    words.iter().any(|words| message.contains(words))
}

#[derive(Deserialize)]
struct BlockPlace {
    hash: BlockHash,
}

/// Makes sure that a block is canonical: not every node heeds that a call asks for one, and the chain may have turned in the
/// meantime.
///
/// # Errors
///
/// [`AskError::BlockGone`] when it is not.
pub async fn ensure_canonical(node: &Node, block: BlockHash, number: BlockNumber) -> Result<(), AskError> {
    let place: Option<BlockPlace> = node.call("eth_getBlockByNumber", (U64::from(number), false)).await?;
    match place {
        Some(place) if place.hash == block => Ok(()),
        _ => Err(AskError::BlockGone { block, reason: "it is no longer canonical".to_owned() }),
    }
}
