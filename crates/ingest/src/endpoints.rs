//! Which endpoint is tried next, and when.

use std::time::Duration;

use headwater_bus::clock::{self, Instant};

/// The configured endpoints, in order of preference. Each is tried at most once in the configured time, and less often
/// while it fails; one that has just failed comes after the others. No input or output in here.
#[derive(Debug)]
pub(crate) struct Endpoints {
    lines: Vec<Line>,
    failed_last: Option<usize>,
    least: Duration,
    most: Duration,
}

#[derive(Debug, Default)]
struct Line {
    tried: Option<Instant>,
    /// Not tried again before.
    due: Option<Instant>,
    /// In a row, without a block in between.
    failures: u32,
    wrong_chain: bool,
}

impl Endpoints {
    pub(crate) fn new(count: usize, least: Duration, most: Duration) -> Self {
        let lines = std::iter::repeat_with(Line::default).take(count).collect();
        Self { lines, failed_last: None, least, most: most.max(least) }
    }

    /// The first in order of those that can be tried the soonest, and when.
    pub(crate) fn next(&self, now: Instant) -> Option<(usize, Instant)> {
        let order = |index: &usize| (self.due(*index, now), self.failed_last == Some(*index), *index);
        let index = (0..self.lines.len()).min_by_key(order)?;
        Some((index, self.due(index, now)))
    }

    /// Whether it can be tried now.
    pub(crate) fn is_due(&self, index: usize, now: Instant) -> bool {
        self.due(index, now) == now
    }

    fn due(&self, index: usize, now: Instant) -> Instant {
        self.lines[index].due.map_or(now, |due| due.max(now))
    }

    pub(crate) fn tried(&mut self, index: usize, now: Instant) {
        self.lines[index].tried = Some(now);
        self.set_due(index);
    }

    /// The attempt failed, or the connection that came of it.
    pub(crate) fn failed(&mut self, index: usize, on_wrong_chain: bool) {
        self.failed_last = Some(index);
        let line = &mut self.lines[index];
        line.failures = line.failures.saturating_add(1);
        line.wrong_chain = on_wrong_chain;
        self.set_due(index);
    }

    /// It gave a block. Whatever chain another one was on before may have changed since.
    pub(crate) fn worked(&mut self, index: usize) {
        self.lines.iter_mut().for_each(|line| line.wrong_chain = false);
        let Line { tried, due, .. } = self.lines[index];
        self.lines[index] = Line { tried, due, ..Line::default() };
    }

    /// Whether each was on another chain when it was tried since the last block.
    pub(crate) fn are_all_on_another_chain(&self) -> bool {
        self.lines.iter().all(|line| line.wrong_chain)
    }

    /// From one attempt to the next: doubled with every failure, with up to a quarter of jitter, so that many clients
    /// of a node that comes back don't come at once.
    fn set_due(&mut self, index: usize) {
        let line = &mut self.lines[index];
        let doubled = self.least.saturating_mul(1 << line.failures.saturating_sub(1).min(16));
        let pause = doubled.min(self.most);
        let jitter = clock::unix_nanos() % 256;
        line.due = line.tried.map(|tried| tried + pause + pause.mul_f64(jitter as f64 / 1024.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn endpoints(count: usize) -> (Endpoints, Instant) {
        (Endpoints::new(count, SECOND, 30 * SECOND), clock::now())
    }

    #[test]
    fn one_that_failed_comes_after_the_others_and_the_preferred_one_before_the_rest() {
        let (mut endpoints, now) = endpoints(3);
        for expected in [0, 1, 2] {
            assert_eq!(endpoints.next(now), Some((expected, now)));
            endpoints.tried(expected, now);
            endpoints.failed(expected, false);
        }
        let (_, due) = endpoints.next(now).expect("there are three");
        assert!(due >= now + SECOND, "none is tried twice within a second");
        assert_eq!(endpoints.next(now + 2 * SECOND).map(|(index, _)| index), Some(0));
        endpoints.failed(0, false);
        assert_eq!(endpoints.next(now + 9 * SECOND).map(|(index, _)| index), Some(1));
    }

    #[test]
    fn the_pause_doubles_up_to_the_most_and_is_never_below_the_least() {
        let (mut endpoints, mut now) = endpoints(1);
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            endpoints.tried(0, now);
            endpoints.failed(0, false);
            let (_, due) = endpoints.next(now).expect("there is one");
            let pause = due - now;
            assert!(pause >= expected * SECOND && pause <= expected * SECOND * 5 / 4, "{pause:?}");
            now = due;
        }
        endpoints.worked(0);
        endpoints.tried(0, now);
        let (_, due) = endpoints.next(now).expect("there is one");
        assert!(due - now >= SECOND && due - now <= SECOND * 5 / 4);
    }

    #[test]
    fn only_all_of_them_being_on_another_chain_is_the_end() {
        let (mut endpoints, _) = endpoints(2);
        endpoints.failed(0, true);
        assert!(!endpoints.are_all_on_another_chain());
        endpoints.failed(1, true);
        assert!(endpoints.are_all_on_another_chain());
        endpoints.failed(0, false);
        assert!(!endpoints.are_all_on_another_chain());
    }

    #[test]
    fn what_chain_an_endpoint_was_on_before_the_last_block_counts_no_longer() {
        let (mut endpoints, _) = endpoints(2);
        endpoints.failed(0, true);
        endpoints.worked(1);
        endpoints.failed(1, true);
        assert!(!endpoints.are_all_on_another_chain(), "the first has not been asked again");
        endpoints.failed(0, true);
        assert!(endpoints.are_all_on_another_chain());
    }
}
