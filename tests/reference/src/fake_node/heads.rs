//! How a node tells of its chain: the manners of the clients, and what goes wrong with heads on the way.

use alloy_primitives::B256;

/// How a client announces a branch that replaces another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Announcing {
    /// The logs of the orphaned blocks as removed, then each new block, its head at an old number.
    Geth,
    /// Each new block; nothing is said of the old ones.
    Reth,
    /// Nothing but the last new block, whose parent nobody has heard of.
    Anvil,
}

/// What is wrong with the heads of some blocks that are announced together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadFault {
    /// Each comes twice in a row.
    Twice,
    /// Of so many in a row the last comes first.
    OutOfOrder(usize),
    /// Of so many in a row only the last comes.
    Skipping(usize),
    /// The last orphan comes once more behind all others.
    Late,
}

impl Announcing {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Geth, Self::Reth, Self::Anvil];

    /// Its name for a reader.
    pub fn name(self) -> &'static str {
        match self {
            Self::Geth => "geth",
            Self::Reth => "reth",
            Self::Anvil => "anvil",
        }
    }

    /// The blocks of a new branch whose heads are announced.
    pub fn heads(self, branch: &[B256]) -> Vec<B256> {
        match self {
            Self::Geth | Self::Reth => branch.to_vec(),
            Self::Anvil => branch.last().copied().into_iter().collect(),
        }
    }
}

impl HeadFault {
    /// The heads as they come out of it; `orphan` is the last block that is no longer canonical.
    pub fn distort(self, heads: &[B256], orphan: Option<B256>) -> Vec<B256> {
        match self {
            Self::Twice => heads.iter().flat_map(|head| [*head, *head]).collect(),
            Self::OutOfOrder(row) => {
                heads.chunks(row.max(1)).flat_map(|row| row.iter().rev()).copied().collect()
            }
            Self::Skipping(row) => heads.chunks(row.max(1)).filter_map(|row| row.last()).copied().collect(),
            Self::Late => heads.iter().copied().chain(orphan).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fault: HeadFault, expected: &[u8]) {
        let heads = [1, 2, 3, 4, 5].map(B256::repeat_byte);
        let expected: Vec<B256> = expected.iter().copied().map(B256::repeat_byte).collect();
        assert_eq!(fault.distort(&heads, Some(B256::repeat_byte(9))), expected, "{fault:?}");
    }

    #[test]
    fn heads_come_out_as_each_fault_says() {
        check(HeadFault::Twice, &[1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
        check(HeadFault::OutOfOrder(3), &[3, 2, 1, 5, 4]);
        check(HeadFault::OutOfOrder(0), &[1, 2, 3, 4, 5]);
        check(HeadFault::Skipping(2), &[2, 4, 5]);
        check(HeadFault::Late, &[1, 2, 3, 4, 5, 9]);
    }
}
