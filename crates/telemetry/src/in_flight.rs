use std::collections::VecDeque;

use headwater_bus::{Stage, Stamps, Timeline};

/// What waits for its blocks to be done, in the order of the chain.
#[derive(Debug)]
pub(crate) struct InFlight<T> {
    timeline: Timeline,
    waiting: VecDeque<(Option<u64>, T)>,
}

/// A block that is this far behind is not waited for: something on its way was given up.
const PATIENCE: usize = 16;

impl<T> InFlight<T> {
    pub(crate) fn new(timeline: &Timeline) -> Self {
        Self { timeline: timeline.clone(), waiting: VecDeque::new() }
    }

    /// `block` is the sequence number of the block to wait for, if it is one.
    pub(crate) fn push(&mut self, block: Option<u64>, item: T) {
        self.waiting.push_back((block, item));
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next whose block is done, or was passed over for one that is, with its stamps.
    pub(crate) fn pop_done(&mut self) -> Option<(T, Option<Stamps>)> {
        let (block, _) = self.waiting.front()?;
        let stamps = block.and_then(|seq| self.timeline.read(seq));
        let is_settled = self.waiting.iter().any(|(block, _)| block.is_some_and(|seq| self.is_decided(seq)));
        // Not a block, or one whose stamps are gone.
        let is_unstamped = stamps.is_none();
        (is_settled || is_unstamped || self.waiting.len() > PATIENCE).then(|| self.pop(stamps))?
    }

    fn is_decided(&self, block: u64) -> bool {
        self.timeline.read(block).is_some_and(|stamps| stamps.since_first(Stage::Decided).is_some())
    }

    /// The next, whether it is done or not.
    pub(crate) fn pop_any(&mut self) -> Option<(T, Option<Stamps>)> {
        let (block, _) = self.waiting.front()?;
        let stamps = block.and_then(|seq| self.timeline.read(seq));
        self.pop(stamps)
    }

    fn pop(&mut self, stamps: Option<Stamps>) -> Option<(T, Option<Stamps>)> {
        self.waiting.pop_front().map(|(_, item)| (item, stamps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(in_flight: &mut InFlight<u64>) -> Vec<u64> {
        std::iter::from_fn(|| in_flight.pop_done()).map(|(item, _)| item).collect()
    }

    #[test]
    fn the_order_of_the_chain_is_kept() {
        let timeline = Timeline::default();
        let mut in_flight = InFlight::new(&timeline);
        for seq in 1..=3 {
            timeline.begin(seq, None);
            in_flight.push(Some(seq), seq);
        }
        in_flight.push(None, 4);
        assert_eq!(done(&mut in_flight), [0; 0]);
        timeline.stamp(1, Stage::Decided);
        assert_eq!(done(&mut in_flight), [1]);
        timeline.stamp(3, Stage::Decided);
        assert_eq!(
            done(&mut in_flight),
            [2, 3, 4],
            "blocks are decided in order: the second was passed over"
        );
    }

    #[test]
    fn a_block_that_is_never_done_is_not_waited_for_for_ever() {
        let timeline = Timeline::default();
        let mut in_flight = InFlight::new(&timeline);
        for seq in 1..=20 {
            timeline.begin(seq, None);
            in_flight.push(Some(seq), seq);
        }
        assert_eq!(done(&mut in_flight), [1, 2, 3, 4]);
        assert_eq!(in_flight.pop_any().map(|(item, _)| item), Some(5));
    }
}
