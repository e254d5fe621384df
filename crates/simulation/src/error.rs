use headwater_node::NodeError;

/// Why a simulation yields nothing. The variants carry the policy: only [`SimulationError::Reverted`] is a judgement on
/// the finding.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// The contracts refused: the plan does not work on this state. Holds their reason, cut and freed of control
    /// characters, because it is a stranger's text.
    #[error("reverted: {0}")]
    Reverted(String),
    /// The plan is of a shape that is not executed here.
    #[error("cannot be simulated: {0}")]
    Unsupported(&'static str),
    /// The node has no state of that block, or no longer counts it as canonical.
    #[error("the node has no state of the block: {0}")]
    BlockUnknown(String),
    /// The pending transaction that the plan follows, and the plan, cannot be executed one after the other, with the reason.
    #[error("the transaction and what follows it cannot be executed together: {0}")]
    NotWhole(String),
    /// The execution went beyond what it may take.
    #[error("beyond its limits: {0}")]
    TooMuch(&'static str),
    /// There is no state at all, as in a replay.
    #[error("there is no state to simulate on")]
    Unavailable,
    /// The node did not answer, or not with what was asked.
    #[error(transparent)]
    Node(NodeError),
}

impl SimulationError {
    /// Whether the same simulation may succeed when it is run again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Node(error) if error.is_retryable())
    }
}

impl From<NodeError> for SimulationError {
    fn from(error: NodeError) -> Self {
        let Some(rpc) = error.rpc() else { return Self::Node(error) };
        // EIP-1898 gives -32001 to a block that is not there.
        if rpc.code == -32001 || rpc.is_block_unknown() || rpc.message.contains("not canonical") {
            return Self::BlockUnknown(printable(&rpc.message));
        }
        let reason = rpc.revert_data().and_then(revert_reason);
        // geth's code for a revert is 3; nodes that have none say it in words.
        if rpc.code == 3 || reason.is_some() || rpc.message.to_ascii_lowercase().contains("revert") {
            return Self::Reverted(reason.unwrap_or_else(|| printable(&rpc.message)));
        }
        Self::Node(error)
    }
}

/// Selector of `Error(string)`, which `require` reverts with (Solidity, "Panic via assert and Error via require").
const ERROR: [u8; 4] = [0x08, 0xc3, 0x79, 0xa0];
/// Selector of `Panic(uint256)`.
const PANIC: [u8; 4] = [0x4e, 0x48, 0x7b, 0x71];

/// The reason in revert data, in words; `None` where there is none to decode.
fn revert_reason(data: &str) -> Option<String> {
    reason_in(&alloy_primitives::hex::decode(data).ok()?)
}

/// What a contract said when it reverted.
pub(crate) fn reverted(data: &[u8]) -> String {
    reason_in(data).unwrap_or_else(|| "without a reason".to_owned())
}

fn reason_in(data: &[u8]) -> Option<String> {
    let (selector, arguments) = data.split_first_chunk::<4>()?;
    match *selector {
        ERROR => {
            let length = usize::from(u16::from_be_bytes(*arguments.get(32..64)?.last_chunk()?));
            let text = arguments.get(64..64 + length)?;
            Some(printable(&String::from_utf8_lossy(text)))
        }
        PANIC => Some(format!("panic {:#04x}", arguments.get(..32)?.last()?)),
        _ => Some(format!("custom error {}", alloy_primitives::hex::encode_prefixed(selector))),
    }
}

/// Characters of a stranger's text that are kept.
const KEPT: usize = 160;

fn printable(text: &str) -> String {
    text.chars().take(KEPT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use headwater_node::RpcError;

    use super::*;

    fn check(code: i64, message: &str, data: Option<&str>, expected: &str) {
        let error = RpcError { code, message: message.into(), data: data.map(Into::into) };
        let method = "eth_call".into();
        let error = SimulationError::from(NodeError::Rpc { method, error });
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_revert_is_told_from_trouble_with_the_node() {
        let insufficient = "0x08c379a0000000000000000000000000000000000000000000000000000000000000002000000000000000\
            0000000000000000000000000000000000000000000000000c556e697377617056323a204b0000000000000000000000000000000000000000";
        check(3, "execution reverted: UniswapV2: K", Some(insufficient), "reverted: UniswapV2: K");
        check(3, "execution reverted", None, "reverted: execution reverted");
        check(-32000, "execution reverted", Some("0x"), "reverted: execution reverted");
        check(3, "x", Some("0xdeadbeef"), "reverted: custom error 0xdeadbeef");
        let panic = format!("0x4e487b71{:064x}", 0x11);
        check(3, "x", Some(&panic), "reverted: panic 0x11");
        check(-32001, "Resource not found", None, "the node has no state of the block: Resource not found");
        check(-32000, "header not found", None, "the node has no state of the block: header not found");
        check(-32005, "limit exceeded", None, "eth_call: rpc error -32005: limit exceeded");
    }

    #[test]
    fn a_strangers_reason_is_cut_and_made_printable() {
        check(3, "execution reverted\u{1b}[2J\n", None, "reverted: execution reverted [2J ");
        let long = SimulationError::Reverted(printable(&"x".repeat(1000)));
        assert_eq!(long.to_string().len(), "reverted: ".len() + KEPT);
    }

    #[test]
    fn truncated_revert_data_is_no_reason() {
        check(3, "words", Some("0x08c379a000"), "reverted: words");
        let lying = format!("0x08c379a0{:064x}{:064x}", 32, 4000);
        check(3, "words", Some(&lying), "reverted: words");
    }
}
