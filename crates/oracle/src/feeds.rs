use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

use alloy_primitives::{Address, BlockHash, BlockNumber, U256};
use headwater_abi::chainlink::{FeedLog, feed_log};
use headwater_events::{BlockEvent, FeedResolved, FeedRound, FeedVerdict};
use headwater_market::{Feed, FeedReading, HORIZON, positive_answer};
use serde::{Deserialize, Serialize};

/// Answers of contracts that no feed reads from that are remembered of a block at most: a feed that is learnt a few blocks late
/// may read from one of them.
const MOST_FOREIGN_ANSWERS: usize = 4_096;

/// Blocks until a feed that is silent beyond its heartbeat is asked again: it may read from another aggregator by now.
const SILENT_RECHECK: BlockNumber = 10;

/// Verdicts about a feed above the block below all records that are remembered at most.
const MOST_RESOLUTIONS: usize = 128;

/// What is known of the Chainlink feeds, as a fold over what blocks say and what was learnt from the node, with undo.
///
/// A [`FeedResolved`] says what a proxy read as of a block; the `AnswerUpdated` of its aggregator in later blocks go on from
/// there. Those of every other contract change nothing. What is known of a feed is a function of the blocks that survive, and of
/// what was learnt as of one of them: a verdict as of a block that was undone counts again when that block comes back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct FeedBook {
    /// The proxies, by feed.
    proxies: Vec<Address>,
    /// Promised seconds between two answers, by feed.
    heartbeats: Vec<u64>,
    /// As of the block below all records, by feed.
    settled: Vec<Standing>,
    /// What was learnt as of blocks above that, by feed.
    learnt: Vec<Vec<Resolution>>,
    /// One per applied block, oldest first; at most [`HORIZON`].
    records: VecDeque<Record>,
    /// The block below the oldest record.
    base: Option<(BlockNumber, BlockHash)>,
    /// After the last block, by feed.
    current: Vec<Standing>,
    counts: FeedCounts,
}

/// What is known of a feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Standing {
    reading: FeedReading,
    /// The block as of which it was last learnt from the node.
    resolved_at: Option<BlockNumber>,
}

impl Standing {
    /// The same, once that was learnt from the node as of its block. A feed that was read once and cannot be any longer is no
    /// feed that never could: what is held to it stays held back.
    fn learning(self, learnt: FeedReading, number: BlockNumber) -> Self {
        let is_lost = self.was_read() && learnt == FeedReading::Refused;
        let reading = if is_lost { FeedReading::Lost } else { learnt };
        Self { reading, resolved_at: Some(number) }
    }

    /// The same, once what happened since is not known. A feed that was read once has no price until it is learnt anew, and what is
    /// held to it stays held back; the others object to nothing, as before.
    fn losing(self) -> Self {
        let reading = if self.was_read() { FeedReading::Lost } else { FeedReading::Unknown };
        Self { reading, resolved_at: None }
    }

    fn was_read(&self) -> bool {
        !matches!(self.reading, FeedReading::Unknown | FeedReading::Refused)
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Resolution {
    number: BlockNumber,
    hash: BlockHash,
    reading: FeedReading,
}

/// What a block said about feeds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    number: BlockNumber,
    hash: BlockHash,
    said: Vec<Said>,
    /// Whether it said more than is remembered.
    is_cut: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Said {
    Answer { aggregator: Address, round: u64, answer: Option<U256>, updated_at: u64 },
    Confirmed { proxy: Address, aggregator: Address },
}

/// The feeds in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedCounts {
    /// Answers taken, those of undone blocks included.
    pub answers: u64,
    /// Answers of aggregators that were not above zero, or more than an aggregator can hold.
    pub impossible_answers: u64,
    /// Logs with the topic of a feed's that do not decode.
    pub malformed: u64,
    /// Verdicts taken.
    pub resolved: u64,
    /// Verdicts after which the feed reads from another aggregator than before.
    pub phase_changes: u64,
    /// Verdicts that feeds cannot be read.
    pub refused: u64,
    /// Verdicts about no configured feed, or as of a block that is not known.
    pub foreign: u64,
}

impl FeedBook {
    pub(crate) fn new(feeds: &[Feed]) -> Self {
        Self {
            proxies: feeds.iter().map(|feed| feed.proxy).collect(),
            heartbeats: feeds.iter().map(|feed| feed.heartbeat_s).collect(),
            settled: vec![Standing::default(); feeds.len()],
            learnt: vec![Vec::new(); feeds.len()],
            current: vec![Standing::default(); feeds.len()],
            ..Self::default()
        }
    }

    /// Whether it is about these feeds, and its parts belong together.
    pub(crate) fn is_about(&self, feeds: &[Feed]) -> bool {
        let proxies = feeds.iter().map(|feed| feed.proxy);
        let heartbeats = feeds.iter().map(|feed| feed.heartbeat_s);
        let lengths = [self.settled.len(), self.learnt.len(), self.current.len()];
        proxies.eq(self.proxies.iter().copied())
            && heartbeats.eq(self.heartbeats.iter().copied())
            && lengths == [feeds.len(); 3]
            && self.records.len() <= HORIZON
    }

    pub(crate) fn counts(&self) -> FeedCounts {
        self.counts
    }

    /// What is known of each feed after the last block.
    pub(crate) fn readings(&self) -> Arc<[FeedReading]> {
        self.current.iter().map(|standing| standing.reading).collect()
    }

    /// Whether these are the readings after the last block.
    pub(crate) fn has_read(&self, readings: &[FeedReading]) -> bool {
        self.current.iter().map(|standing| &standing.reading).eq(readings)
    }

    /// Takes note of the block that the initial load is true for.
    pub(crate) fn begin(&mut self, number: BlockNumber, hash: BlockHash) {
        if self.records.is_empty() {
            self.base.get_or_insert((number, hash));
        }
    }

    /// Applies a block, which stands on the last one.
    pub(crate) fn apply(&mut self, block: &BlockEvent) {
        if self.proxies.is_empty() {
            return;
        }
        let (number, hash) = (block.header.number, block.header.hash);
        self.base.get_or_insert((number.saturating_sub(1), block.header.parent_hash));
        let record = self.record(block);
        let before = self.current.clone();
        for (feed, standing) in before.into_iter().enumerate() {
            let mut after = self.after(feed, standing, &record);
            if let Some(resolution) = self.resolution(feed, hash) {
                after = after.learning(resolution.reading, number);
            }
            self.counts.answers += u64::from(is_news(&standing, &after));
            self.current[feed] = after;
        }
        self.records.push_back(record);
        if self.records.len() > HORIZON {
            self.settle_oldest();
        }
    }

    /// Undoes the blocks above `ancestor`; says whether it is a block that is remembered.
    pub(crate) fn roll_back(&mut self, ancestor: BlockHash) -> bool {
        if self.proxies.is_empty() {
            return true;
        }
        let at = self.records.iter().position(|record| record.hash == ancestor);
        let kept = match at {
            Some(at) => at + 1,
            None if self.base.is_some_and(|(_, hash)| hash == ancestor) => 0,
            None => return false,
        };
        self.records.truncate(kept);
        self.recompute();
        true
    }

    /// What the feeds say is not known any longer; the next block stands on `head`.
    pub(crate) fn lose(&mut self, head: Option<(BlockNumber, BlockHash)>) {
        self.current.iter_mut().for_each(|standing| *standing = standing.losing());
        self.settled.clone_from(&self.current);
        self.learnt.iter_mut().for_each(Vec::clear);
        self.records.clear();
        self.base = head;
    }

    /// Takes what was learnt about a feed.
    pub(crate) fn resolved(&mut self, resolved: &FeedResolved) {
        let Some(feed) = self.proxies.iter().position(|proxy| *proxy == resolved.proxy) else {
            self.counts.foreign += 1;
            return;
        };
        let reading = match &resolved.verdict {
            FeedVerdict::Accepted(round) => FeedReading::Round(*round),
            FeedVerdict::Refused(_) => FeedReading::Refused,
        };
        let (number, hash) = (resolved.number, resolved.hash);
        let before = self.current[feed];
        if self.base == Some((number, hash)) {
            self.settled[feed] = self.settled[feed].learning(reading, number);
        } else if self.is_usable(number, hash) {
            let learnt = &mut self.learnt[feed];
            learnt.retain(|known| known.hash != hash);
            learnt.push(Resolution { number, hash, reading });
            if learnt.len() > MOST_RESOLUTIONS {
                learnt.remove(0);
            }
        } else {
            self.counts.foreign += 1;
            return;
        }
        self.counts.resolved += 1;
        self.counts.refused += u64::from(reading == FeedReading::Refused);
        self.current[feed] = self.standing_after(feed, self.records.len());
        let aggregator = |standing: &Standing| standing.reading.round().map(|round| round.aggregator);
        let (old, new) = (aggregator(&before), aggregator(&self.current[feed]));
        self.counts.phase_changes += u64::from(new.is_some() && old.is_some() && old != new);
    }

    /// The feeds that the node is to be asked about at the block of this timestamp, which is the last one. A proxy emits nothing
    /// when its owner gives it another aggregator (before version 0.7), so that a feed that is silent beyond its heartbeat is
    /// asked again, and every feed every `recheck_blocks`.
    pub(crate) fn due(&self, timestamp: u64, recheck_blocks: BlockNumber) -> Vec<Address> {
        let Some(number) = self.records.back().map(|record| record.number) else { return Vec::new() };
        let feeds = self.proxies.iter().zip(&self.heartbeats).zip(&self.current);
        let due = feeds.filter(|((_, heartbeat), standing)| {
            let Some(resolved_at) = standing.resolved_at else { return true };
            let since = number.saturating_sub(resolved_at);
            since >= recheck_blocks
                || match &standing.reading {
                    FeedReading::Unknown | FeedReading::Moved => true,
                    FeedReading::Refused => false,
                    FeedReading::Lost => since >= SILENT_RECHECK,
                    FeedReading::Round(round) => {
                        let silent = timestamp.saturating_sub(round.updated_at) > **heartbeat;
                        (silent || round.answer.is_none()) && since >= SILENT_RECHECK
                    }
                }
        });
        due.map(|((proxy, _), _)| *proxy).collect()
    }

    /// Appends what is known of each feed, and what the last blocks changed of that, one a line. Nothing without feeds.
    pub(crate) fn account(&self, text: &mut String) {
        let mut order: Vec<_> = (0..self.proxies.len()).collect();
        order.sort_unstable_by_key(|feed| self.proxies[*feed]);
        for feed in &order {
            tell(text, "feed", &self.proxies[*feed], &self.current[*feed]);
        }
        if order.is_empty() {
            return;
        }
        for block in 0..self.records.len() {
            text.push_str("unfeed\n");
            for feed in &order {
                let [before, after] = [block, block + 1].map(|upto| self.standing_after(*feed, upto));
                if before.reading != after.reading {
                    tell(text, "was", &self.proxies[*feed], &before);
                }
            }
        }
    }

    /// A verdict as of a block serves if all that was said since is remembered. One that is not known may come back.
    fn is_usable(&self, number: BlockNumber, hash: BlockHash) -> bool {
        let is_above = self.base.is_none_or(|(base, _)| number > base);
        let at = self
            .records
            .iter()
            .position(|record| record.hash == hash)
            .map_or(self.records.len(), |at| at + 1);
        is_above && self.records.iter().skip(at).all(|record| !record.is_cut)
    }

    fn record(&mut self, block: &BlockEvent) -> Record {
        let (mut said, mut foreign, mut is_cut) = (Vec::new(), 0, false);
        for log in &block.logs {
            let log_said = match feed_log(log) {
                Ok(Some(told)) => self.said(log.address, told),
                Ok(None) => None,
                Err(_) => {
                    self.counts.malformed += 1;
                    None
                }
            };
            let Some((told, is_ours)) = log_said else { continue };
            if !is_ours {
                foreign += 1;
            }
            if !is_ours && foreign > MOST_FOREIGN_ANSWERS {
                is_cut = true;
            } else {
                said.push(told);
            }
        }
        Record { number: block.header.number, hash: block.header.hash, said, is_cut }
    }

    /// What is remembered of a log, and whether it is one of a feed's.
    fn said(&mut self, emitter: Address, told: FeedLog) -> Option<(Said, bool)> {
        match told {
            FeedLog::AnswerUpdated { answer, round, updated_at } => {
                let reads_from = |standing: &Standing| {
                    standing.reading.round().is_some_and(|round| round.aggregator == emitter)
                };
                let is_ours = self.current.iter().any(reads_from);
                let (Ok(round), Ok(updated_at)) = (u64::try_from(round), u64::try_from(updated_at)) else {
                    self.counts.malformed += 1;
                    return None;
                };
                let answer = positive_answer(answer);
                self.counts.impossible_answers += u64::from(is_ours && answer.is_none());
                Some((Said::Answer { aggregator: emitter, round, answer, updated_at }, is_ours))
            }
            FeedLog::AggregatorConfirmed { latest } => {
                let said = Said::Confirmed { proxy: emitter, aggregator: latest };
                self.proxies.contains(&emitter).then_some((said, true))
            }
        }
    }

    /// What is known of a feed after a block.
    fn after(&self, feed: usize, before: Standing, record: &Record) -> Standing {
        let mut after = before;
        for said in &record.said {
            let FeedReading::Round(round) = &mut after.reading else { continue };
            match said {
                Said::Answer { aggregator, round: number, answer, updated_at } => {
                    if *aggregator == round.aggregator && *number > round.round {
                        let (number, updated_at, answer) = (*number, *updated_at, *answer);
                        *round = FeedRound { round: number, answer, updated_at, ..*round };
                    }
                }
                Said::Confirmed { proxy, aggregator } => {
                    if *proxy == self.proxies[feed] && *aggregator != round.aggregator {
                        after.reading = FeedReading::Moved;
                    }
                }
            }
        }
        after
    }

    /// What is known of a feed after so many of the records.
    fn standing_after(&self, feed: usize, upto: usize) -> Standing {
        self.records.iter().take(upto).fold(self.settled[feed], |before, record| {
            let after = self.after(feed, before, record);
            let learnt = self.resolution(feed, record.hash);
            learnt.map_or(after, |learnt| after.learning(learnt.reading, learnt.number))
        })
    }

    fn resolution(&self, feed: usize, hash: BlockHash) -> Option<&Resolution> {
        self.learnt[feed].iter().find(|known| known.hash == hash)
    }

    fn recompute(&mut self) {
        for feed in 0..self.current.len() {
            self.current[feed] = self.standing_after(feed, self.records.len());
        }
    }

    /// The oldest block can no longer be undone.
    fn settle_oldest(&mut self) {
        for feed in 0..self.settled.len() {
            self.settled[feed] = self.standing_after(feed, 1);
        }
        let Some(Record { number, hash, .. }) = self.records.pop_front() else { return };
        self.base = Some((number, hash));
        self.learnt.iter_mut().for_each(|learnt| learnt.retain(|known| known.number > number));
    }
}

fn is_news(before: &Standing, after: &Standing) -> bool {
    let number = |standing: &Standing| standing.reading.round().map(|round| (round.aggregator, round.round));
    before.resolved_at == after.resolved_at && number(before) != number(after) && number(after).is_some()
}

fn tell(text: &mut String, word: &str, proxy: &Address, standing: &Standing) {
    let told = match &standing.reading {
        FeedReading::Unknown => writeln!(text, "{word} {proxy:#x} unknown"),
        FeedReading::Refused => writeln!(text, "{word} {proxy:#x} refused"),
        FeedReading::Moved => writeln!(text, "{word} {proxy:#x} moved"),
        FeedReading::Lost => writeln!(text, "{word} {proxy:#x} lost"),
        FeedReading::Round(round) => {
            let FeedRound { aggregator, phase, decimals, token_decimals, round, answer, updated_at } = round;
            let answer = answer.map_or_else(|| "-".to_owned(), |answer| answer.to_string());
            writeln!(
                text,
                "{word} {proxy:#x} {aggregator:#x} {phase} {decimals} {token_decimals} {round} {answer} {updated_at}"
            )
        }
    };
    told.expect("a string takes everything");
}

#[cfg(test)]
mod tests;
