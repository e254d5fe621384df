use std::fmt;

use alloy_primitives::{Bytes, U256, hex};
use alloy_sol_types::{Panic, Revert as Reason, SolError};

/// What a contract said when it reverted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revert {
    /// As returned: nothing, a string, a panic or a custom error.
    pub data: Bytes,
}

impl Revert {
    pub(super) fn new(data: Bytes) -> Self {
        Self { data }
    }

    /// The string of `revert("…")` and `require(…, "…")`.
    pub fn reason(&self) -> Option<String> {
        Reason::abi_decode(&self.data).ok().map(|reason| reason.reason)
    }

    /// The code of a failed assertion: 0x11 is an overflow, 0x12 a division by zero, 0x32 an index beyond the end.
    pub fn panic_code(&self) -> Option<U256> {
        Panic::abi_decode(&self.data).ok().map(|panic| panic.code)
    }

    /// The arguments of a custom error.
    pub fn error<E: SolError>(&self) -> Option<E> {
        E::abi_decode(&self.data).ok()
    }

    /// The first four bytes, which name a custom error.
    pub fn selector(&self) -> Option<[u8; 4]> {
        self.data.first_chunk().copied()
    }
}

impl fmt::Display for Revert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = self.reason() {
            write!(f, "{reason:?}")
        } else if let Some(code) = self.panic_code() {
            write!(f, "panic 0x{code:x}")
        } else if self.data.is_empty() {
            f.write_str("without a reason")
        } else {
            write!(f, "custom error 0x{}", hex::encode(&self.data))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revert_says_what_the_contract_said() {
        let check = |data: Vec<u8>, expected: &str| {
            assert_eq!(Revert::new(data.into()).to_string(), expected);
        };
        check(Reason { reason: "SPL".to_owned() }.abi_encode(), "\"SPL\"");
        check(Panic { code: U256::from(0x11) }.abi_encode(), "panic 0x11");
        check(Vec::new(), "without a reason");
        check(vec![1, 2, 3, 4, 5], "custom error 0x0102030405");
    }
}
