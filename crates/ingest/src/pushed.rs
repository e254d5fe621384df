//! Logs that a node pushes one by one, gathered by block.

use std::collections::{BTreeMap, HashMap, VecDeque};

use alloy_primitives::{BlockHash, Bloom, BloomInput};
use headwater_abi::logs::FOLLOWED;
use headwater_bus::clock::Instant;
use headwater_events::Log;

use crate::parse::PushedLog;

/// Blocks whose logs are kept: a node pushes those of the newest.
const BLOCKS: usize = 16;

/// Logs that are kept of them together.
const LOGS: usize = 1 << 16;

/// What was pushed of the newest blocks: late, early, twice, out of order, of blocks that nobody announces, and taken
/// back. No input or output in here.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    blocks: HashMap<BlockHash, OfBlock>,
    order: VecDeque<BlockHash>,
    logs: usize,
}

#[derive(Debug)]
struct OfBlock {
    logs: BTreeMap<u32, Log>,
    last_at: Instant,
}

impl Gathered {
    /// Takes what was pushed at `at`.
    pub(crate) fn take(&mut self, pushed: PushedLog, at: Instant) {
        match pushed {
            PushedLog::Added { block, log } => {
                let of_block = self.blocks.entry(block).or_insert_with(|| {
                    self.order.push_back(block);
                    OfBlock { logs: BTreeMap::new(), last_at: at }
                });
                of_block.last_at = at;
                self.logs += usize::from(of_block.logs.insert(log.log_index, log).is_none());
                while self.order.len() > BLOCKS || self.logs > LOGS {
                    self.forget_oldest();
                }
            }
            PushedLog::Removed { block, log_index } => {
                let Some(of_block) = self.blocks.get_mut(&block) else { return };
                of_block.last_at = at;
                self.logs -= usize::from(of_block.logs.remove(&log_index).is_some());
            }
        }
    }

    /// When the last log of a block came, if it has any.
    pub(crate) fn last_at(&self, block: BlockHash) -> Option<Instant> {
        self.blocks.get(&block).filter(|of_block| !of_block.logs.is_empty()).map(|of_block| of_block.last_at)
    }

    /// The logs of a block, by ascending index.
    pub(crate) fn logs(&self, block: BlockHash) -> Vec<Log> {
        self.blocks.get(&block).map(|of_block| of_block.logs.values().cloned().collect()).unwrap_or_default()
    }

    fn forget_oldest(&mut self) {
        let oldest = self.order.pop_front().and_then(|block| self.blocks.remove(&block));
        self.logs -= oldest.map_or(0, |of_block| of_block.logs.len());
    }
}

/// Whether a log is of those that are asked to be pushed.
pub(crate) fn is_pushed(log: &Log) -> bool {
    log.topics.first().is_some_and(|topic| FOLLOWED.contains(topic))
}

/// Whether a block with this bloom certainly has no log that would be pushed. A bloom without a bit says nothing: there
/// are chains that keep none.
pub(crate) fn has_none(bloom: &Bloom) -> bool {
    !bloom.is_zero() && !FOLLOWED.iter().any(|topic| bloom.contains_input(BloomInput::Raw(&topic[..])))
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;
    use headwater_abi::logs::SYNC;
    use headwater_bus::clock;

    use super::*;

    fn log(log_index: u32) -> Log {
        let topics = [SYNC].into_iter().collect();
        Log { address: Default::default(), topics, data: Default::default(), transaction_index: 0, log_index }
    }

    fn hash(block: u8) -> BlockHash {
        B256::repeat_byte(block)
    }

    /// Each word is a block and a log of it; `-` takes it back.
    fn check(pushed: &str, block: u8, expected: &[u32]) {
        let mut gathered = Gathered::default();
        for word in pushed.split(' ') {
            let (is_removed, word) = word.strip_prefix('-').map_or((false, word), |word| (true, word));
            let (block, index) = word.split_once('.').expect("a block and a log");
            let (block, log_index) = (hash(block.parse().expect("a block")), index.parse().expect("a log"));
            let pushed = match is_removed {
                true => PushedLog::Removed { block, log_index },
                false => PushedLog::Added { block, log: log(log_index) },
            };
            gathered.take(pushed, clock::now());
        }
        let indices: Vec<u32> = gathered.logs(hash(block)).iter().map(|log| log.log_index).collect();
        assert_eq!(indices, expected, "{pushed}");
        assert_eq!(gathered.last_at(hash(block)).is_some(), !expected.is_empty(), "{pushed}");
        let kept: usize = gathered.blocks.values().map(|of_block| of_block.logs.len()).sum();
        assert_eq!(gathered.logs, kept);
    }

    #[test]
    fn logs_are_put_in_order_each_once_and_by_block() {
        check("1.0 1.1 1.2", 1, &[0, 1, 2]);
        check("1.2 1.0 1.1 1.0", 1, &[0, 1, 2]);
        check("1.0 2.7 1.3 2.6", 2, &[6, 7]);
        check("1.0", 2, &[]);
    }

    #[test]
    fn what_is_taken_back_is_gone_until_it_comes_again() {
        check("1.0 1.1 -1.0", 1, &[1]);
        check("1.0 -1.0", 1, &[]);
        check("1.0 -1.0 1.0", 1, &[0]);
        check("-1.0 1.1", 1, &[1]);
    }

    #[test]
    fn only_the_newest_blocks_are_remembered() {
        let pushed: Vec<String> = (1..=40).map(|block| format!("{block}.0 {block}.1")).collect();
        check(&pushed.join(" "), 24, &[]);
        check(&pushed.join(" "), 25, &[0, 1]);
    }

    #[test]
    fn no_more_logs_are_remembered_than_there_is_room_for() {
        let mut gathered = Gathered::default();
        for index in 0..3 * LOGS as u32 {
            gathered.take(PushedLog::Added { block: hash(1), log: log(index) }, clock::now());
            assert!(gathered.logs <= LOGS);
        }
    }

    #[test]
    fn a_bloom_rules_logs_out_only_where_it_has_bits() {
        let mut bloom = Bloom::ZERO;
        assert!(!has_none(&bloom));
        bloom.accrue(BloomInput::Raw(&[7; 32]));
        assert!(has_none(&bloom));
        bloom.accrue(BloomInput::Raw(&SYNC[..]));
        assert!(!has_none(&bloom));
    }
}
