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

    /// The next whose block is done, with its stamps.
    pub(crate) fn pop_done(&mut self) -> Option<(T, Option<Stamps>)> {
        let (block, _) = self.waiting.front()?;
        let stamps = block.and_then(|seq| self.timeline.read(seq));
        let is_done = match (block, &stamps) {
            (Some(_), Some(stamps)) => stamps.since_first(Stage::Decided).is_some(),
            // Not a block, or one whose stamps are gone.
            _ => true,
        };
        (is_done || self.waiting.len() > PATIENCE).then(|| self.pop(stamps))?
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
        timeline.stamp(2, Stage::Decided);
        assert_eq!(done(&mut in_flight), [0; 0]);
        timeline.stamp(1, Stage::Decided);
        assert_eq!(done(&mut in_flight), [1, 2]);
        timeline.stamp(3, Stage::Decided);
        assert_eq!(done(&mut in_flight), [3, 4]);
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
