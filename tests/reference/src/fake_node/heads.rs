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

/// What is wrong with the logs that are pushed beside a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFault {
    /// Each comes twice.
    Twice,
    /// The last comes first.
    Reversed,
    /// They come before the head.
    BeforeHead,
    /// The first does not come at all.
    Missing,
    /// Those of the parent come once more, in front.
    OfParent,
    /// The first is taken back, and comes again behind the others.
    TakenBack,
}

impl LogFault {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Twice, Self::Reversed, Self::BeforeHead, Self::Missing, Self::OfParent, Self::TakenBack];

    /// What is pushed of these logs; `parent` has those of the block below, and `removed` how they are taken back.
    pub(super) fn distort<T: Clone>(self, logs: &[T], removed: &[T], parent: &[T]) -> Vec<T> {
        let all = logs.iter().cloned();
        match self {
            Self::Twice => logs.iter().flat_map(|log| [log.clone(), log.clone()]).collect(),
            Self::Reversed => all.rev().collect(),
            Self::BeforeHead => all.collect(),
            Self::Missing => all.skip(1).collect(),
            Self::OfParent => parent.iter().cloned().chain(all).collect(),
            Self::TakenBack => all.chain(removed.first().cloned()).chain(logs.first().cloned()).collect(),
        }
    }
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
    fn logs_come_out_as_each_fault_says() {
        let expected = [
            vec![1, 1, 2, 2, 3, 3],
            vec![3, 2, 1],
            vec![1, 2, 3],
            vec![2, 3],
            vec![8, 9, 1, 2, 3],
            vec![1, 2, 3, -1, 1],
        ];
        for (fault, expected) in LogFault::ALL.into_iter().zip(expected) {
            assert_eq!(fault.distort(&[1, 2, 3], &[-1, -2, -3], &[8, 9]), expected, "{fault:?}");
            assert!(fault.distort::<i32>(&[], &[], &[]).is_empty(), "{fault:?}");
        }
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
