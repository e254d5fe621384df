/// Something that carries a known topic or selector, or answers a known question, and does not have its shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A log with more or fewer indexed arguments.
    #[error("{found} topics instead of {expected}")]
    Topics {
        /// How many the event has, topic 0 included.
        expected: usize,
        /// How many the log has.
        found: usize,
    },
    /// A log with more or less data.
    #[error("{found} bytes of data instead of {expected}")]
    DataLength {
        /// How many the event has.
        expected: usize,
        /// How many the log has.
        found: usize,
    },
    /// A value that its type cannot hold.
    #[error("a value beyond the range of its type {0}")]
    OutOfRange(&'static str),
    /// A swap path that no router accepts, or an absurdly long one.
    #[error("a path of {0} tokens")]
    PathLength(usize),
    /// Calldata or an answer that is not the ABI encoding of its types.
    #[error("not an encoding of the expected types: {0}")]
    Encoding(String),
    /// An argument that lies beyond the end of the data.
    #[error("an argument beyond the end of the data")]
    Truncated,
    /// Arguments that the contract refuses together.
    #[error("{0}")]
    Refused(&'static str),
    /// Calls or plans within one another, deeper than is taken for meant.
    #[error("nested deeper than {0} levels")]
    TooDeep(usize),
    /// A call that asks for more than is taken for meant.
    #[error("more than {0} steps and words")]
    TooLong(usize),
}

impl From<alloy_sol_types::Error> for Malformed {
    fn from(error: alloy_sol_types::Error) -> Self {
        Self::Encoding(error.to_string())
    }
}
