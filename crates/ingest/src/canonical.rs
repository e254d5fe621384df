use std::collections::{HashMap, VecDeque};

use alloy_primitives::{BlockHash, BlockNumber};
use headwater_events::{Log, ReorgEvent, SourceGap};

/// Where in the chain a block belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// Height.
    pub number: BlockNumber,
    /// Hash of the block.
    pub hash: BlockHash,
    /// Hash of the block below.
    pub parent_hash: BlockHash,
}

/// Blocks that are remembered: the deepest reorganisation that can be followed.
pub const REMEMBERED: usize = 256;
/// Headers that the node announced and that may not have been needed yet.
const ANNOUNCED: usize = 1024;
/// The longest way from our head to the node's that is walked by headers.
const LONGEST_WAY: usize = 8192;

/// The chain as it was published: decides what a head means, and asks for the headers that it needs for that.
///
/// No runtime and no input or output: whoever drives it fetches what [`Step::Fetch`] asks for.
#[derive(Clone, Debug, Default)]
pub struct Canonical {
    /// What was published, oldest first; never empty once it was begun.
    chain: VecDeque<Link>,
    /// The logs that the head was published with, as long as they are not verified.
    assumed: Option<Vec<Log>>,
    announced: Announced,
    /// From the head that is being placed downwards, as far as its ancestors are known.
    branch: Vec<Link>,
}

/// What to do next about a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it was published, or has been meanwhile.
    Known,
    /// Give the header of this hash to [`Canonical::ancestor`].
    Fetch(BlockHash),
    /// The way from our head to it is known.
    Advance(Advance),
}

/// The way from our head to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    /// What is undone first, if anything is.
    pub reorg: Option<ReorgEvent>,
    /// The blocks to publish then, oldest first.
    pub path: Vec<Link>,
}

/// Blocks that are fetched together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The blocks, oldest first.
    pub links: Vec<Link>,
    /// That the node announced none of them.
    pub gap: Option<SourceGap>,
}

/// Why a head cannot be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// The common ancestor lies below what is remembered: whoever holds a state has to load it anew.
    #[error("the chain was reorganised below block {oldest}, the oldest that is remembered")]
    BelowHorizon {
        /// Height of the oldest block that is remembered.
        oldest: BlockNumber,
    },
    /// The head is too far away to be reached block by block.
    #[error("block {head} is more than {LONGEST_WAY} blocks away")]
    TooFar {
        /// Height of the head.
        head: BlockNumber,
    },
    /// The node gave another header than the one asked for, or numbers that do not follow each other.
    #[error("block {child} does not follow the block that the node gives as its parent")]
    Unconnected {
        /// Height of the child.
        child: BlockNumber,
    },
}

impl Canonical {
    /// A chain of which nothing is known: the first head begins it.
    pub fn unanchored() -> Self {
        Self::default()
    }

    /// A chain whose last published block is `number`: the next one is its child.
    pub fn anchored(number: BlockNumber, hash: BlockHash) -> Self {
        // Nothing asks for the parent of the oldest block.
        let anchor = Link { number, hash, parent_hash: BlockHash::ZERO };
        Self { chain: [anchor].into(), ..Self::default() }
    }

    /// The published blocks that are remembered, oldest first.
    pub fn published(&self) -> impl DoubleEndedIterator<Item = &Link> {
        self.chain.iter()
    }

    /// The last published block.
    pub fn head(&self) -> Option<&Link> {
        self.chain.back()
    }

    /// The lowest block that is remembered: a reorganisation can go down to it.
    pub fn oldest(&self) -> Option<&Link> {
        self.chain.front()
    }

    /// Notes that the node announced a block: it is no gap, and its header need not be fetched. Whether it is the first
    /// announcement of it.
    pub fn announce(&mut self, link: Link) -> bool {
        self.announced.insert(link)
    }

    /// Whether a block is part of the chain as it was published.
    pub fn is_published(&self, hash: BlockHash) -> bool {
        self.position(hash).is_some()
    }

    /// What is to be done so that `head` becomes our head. Forgets a head that was being placed.
    ///
    /// # Errors
    ///
    /// [`CanonicalError`].
    pub fn advance_to(&mut self, head: Link) -> Result<Step, CanonicalError> {
        self.branch.clear();
        if self.is_published(head.hash) {
            return Ok(Step::Known);
        }
        self.branch.push(head);
        self.place()
    }

    /// Continues with the header that [`Step::Fetch`] asked for.
    ///
    /// # Errors
    ///
    /// [`CanonicalError`].
    pub fn ancestor(&mut self, link: Link) -> Result<Step, CanonicalError> {
        let Some(child) = self.branch.last() else { return Ok(Step::Known) };
        if child.parent_hash != link.hash || child.number != link.number.wrapping_add(1) {
            return Err(CanonicalError::Unconnected { child: child.number });
        }
        self.branch.push(link);
        self.place()
    }

    fn place(&mut self) -> Result<Step, CanonicalError> {
        let (Some(oldest), Some(head)) = (self.chain.front().copied(), self.branch.first().copied()) else {
            return Ok(Step::Advance(Advance { reorg: None, path: std::mem::take(&mut self.branch) }));
        };
        while let Some(lowest) = self.branch.last().copied() {
            if let Some(position) = self.position(lowest.parent_hash) {
                return self.advance(position, lowest, head).map(Step::Advance);
            }
            if lowest.number <= oldest.number.saturating_add(1) {
                return Err(CanonicalError::BelowHorizon { oldest: oldest.number });
            }
            if self.branch.len() >= LONGEST_WAY {
                return Err(CanonicalError::TooFar { head: head.number });
            }
            match self.announced.get(lowest.parent_hash) {
                Some(parent) if parent.number.wrapping_add(1) == lowest.number => self.branch.push(parent),
                Some(_) => return Err(CanonicalError::Unconnected { child: lowest.number }),
                None => return Ok(Step::Fetch(lowest.parent_hash)),
            }
        }
        Ok(Step::Known)
    }

    fn advance(&mut self, ancestor: usize, lowest: Link, head: Link) -> Result<Advance, CanonicalError> {
        let Link { number, hash, .. } = self.chain[ancestor];
        if number.wrapping_add(1) != lowest.number {
            return Err(CanonicalError::Unconnected { child: lowest.number });
        }
        let undone: Vec<BlockHash> = self.chain.range(ancestor + 1..).rev().map(|link| link.hash).collect();
        let reorg = undone.first().copied().map(|old_head| ReorgEvent {
            ancestor_number: number,
            ancestor_hash: hash,
            undone,
            old_head,
            new_head: head.hash,
        });
        let mut path = std::mem::take(&mut self.branch);
        path.reverse();
        Ok(Advance { reorg, path })
    }

    /// Undoes the blocks that `reorg` names.
    pub fn undo(&mut self, reorg: &ReorgEvent) {
        self.assumed = None;
        self.chain.truncate(self.chain.len().saturating_sub(reorg.depth()));
        debug_assert_eq!(self.chain.back().map(|link| link.hash), Some(reorg.ancestor_hash));
    }

    /// Notes that the head was published with these logs, which have to be verified before anything is put on top of it.
    pub fn assume(&mut self, logs: Vec<Log>) {
        self.assumed = Some(logs);
    }

    /// The head and the logs that it was published with, if they are not verified.
    pub fn assumed(&self) -> Option<(Link, &[Log])> {
        Some((*self.head()?, self.assumed.as_deref()?))
    }

    /// Notes that the logs of the head are what they were assumed to be.
    pub fn confirm(&mut self) {
        self.assumed = None;
    }

    /// What takes back a head whose logs are not what they were assumed to be: it is undone, and comes again. `None` where
    /// nothing was assumed.
    pub fn refute(&mut self) -> Option<ReorgEvent> {
        let (Link { number, hash, parent_hash }, _) = self.assumed()?;
        let reorg = ReorgEvent {
            ancestor_number: number.saturating_sub(1),
            ancestor_hash: parent_hash,
            undone: vec![hash],
            old_head: hash,
            new_head: hash,
        };
        self.chain.pop_back();
        self.assumed = None;
        Some(reorg)
    }

    /// Makes a published block the head.
    pub fn extend(&mut self, link: Link) {
        self.assumed = None;
        debug_assert!(self.chain.back().is_none_or(|head| head.hash == link.parent_hash));
        if self.chain.len() == REMEMBERED {
            self.chain.pop_front();
        }
        self.chain.push_back(link);
    }

    /// Divides a path into what is fetched together: at most `most` blocks, all announced, or none of them.
    pub fn runs(&self, path: &[Link], most: usize) -> Vec<Run> {
        let announced = |link: &Link| self.announced.get(link.hash).is_some();
        path.chunk_by(|one, next| announced(one) == announced(next))
            .flat_map(|alike| alike.chunks(most.max(1)))
            .map(|links| Run {
                gap: (!announced(&links[0])).then(|| SourceGap {
                    from: links[0].number,
                    to: links[links.len() - 1].number,
                    filled: links.len() as u64,
                }),
                links: links.to_vec(),
            })
            .collect()
    }

    /// Where in the chain a block is; the newest are the likeliest.
    fn position(&self, hash: BlockHash) -> Option<usize> {
        self.chain.iter().rposition(|link| link.hash == hash)
    }
}

/// The latest headers that the node announced.
#[derive(Clone, Debug, Default)]
struct Announced {
    links: HashMap<BlockHash, Link>,
    order: VecDeque<BlockHash>,
}

impl Announced {
    fn insert(&mut self, link: Link) -> bool {
        if self.links.insert(link.hash, link).is_some() {
            return false;
        }
        self.order.push_back(link.hash);
        if self.order.len() > ANNOUNCED
            && let Some(oldest) = self.order.pop_front()
        {
            self.links.remove(&oldest);
        }
        true
    }

    fn get(&self, hash: BlockHash) -> Option<Link> {
        self.links.get(&hash).copied()
    }
}

#[cfg(test)]
mod tests;
