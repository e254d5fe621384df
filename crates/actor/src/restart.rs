use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use headwater_bus::clock::Instant;

/// When a failed actor is started anew, and when it is given up.
#[derive(Clone, Debug)]
pub struct RestartPolicy {
    /// Failures within `within` that are borne; one more escalates.
    pub intensity: u32,
    /// The span that failures are counted in.
    pub within: Duration,
    /// Pause before the first restart; it doubles with every failure within the span.
    pub first_backoff: Duration,
    /// Greatest pause.
    pub greatest_backoff: Duration,
    /// A message that takes longer than this is taken for a hang, and the actor is killed.
    pub stall: Duration,
    /// What becomes of a message that ended two incarnations.
    pub poison: Poison,
}

/// What becomes of a message that ended two incarnations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poison {
    /// It is set aside and counted, and the flow goes on.
    Quarantine,
    /// It must not be skipped: the actor is given up, and the system told.
    Escalate,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            intensity: 5,
            within: Duration::from_secs(10),
            first_backoff: Duration::from_millis(10),
            greatest_backoff: Duration::from_secs(2),
            stall: Duration::from_secs(30),
            poison: Poison::Quarantine,
        }
    }
}

/// The failures of one actor that still count.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    recent: VecDeque<Instant>,
}

impl Failures {
    /// Notes a failure; says how long to pause before the restart, or `None` if it was one too many.
    pub(crate) fn note(&mut self, policy: &RestartPolicy, now: Instant) -> Option<Duration> {
        while self.recent.front().is_some_and(|first| now.duration_since(*first) > policy.within) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        let failures = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        (failures <= policy.intensity).then(|| backoff(policy, failures - 1))
    }
}

/// Doubles from the first pause to the greatest, less up to a quarter at random, so that what failed together does
/// not come back together.
fn backoff(policy: &RestartPolicy, earlier_failures: u32) -> Duration {
    let full = policy
        .first_backoff
        .saturating_mul(2u32.saturating_pow(earlier_failures))
        .min(policy.greatest_backoff);
    let quarter = RandomState::new().hash_one(earlier_failures) % 256;
    full - full.mul_f64(quarter as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use headwater_bus::clock;

    use super::*;

    fn policy() -> RestartPolicy {
        RestartPolicy { intensity: 3, within: Duration::from_secs(10), ..RestartPolicy::default() }
    }

    #[test]
    fn one_failure_too_many_within_the_span_escalates() {
        let (mut failures, now) = (Failures::default(), clock::now());
        assert!((0..3).all(|_| failures.note(&policy(), now).is_some()));
        assert_eq!(failures.note(&policy(), now), None);
    }

    #[test]
    fn failures_that_lie_apart_never_escalate() {
        let (mut failures, start) = (Failures::default(), clock::now());
        assert!((0..50).all(|n| failures.note(&policy(), start + Duration::from_secs(4 * n)).is_some()));
    }

    #[test]
    fn the_pause_doubles_up_to_its_greatest() {
        for (failures, full_millis) in [(0, 10), (1, 20), (3, 80), (30, 2_000)] {
            let (pause, full) = (backoff(&policy(), failures), Duration::from_millis(full_millis));
            assert!(pause <= full && pause >= full.mul_f64(0.75), "{failures}: {pause:?} of {full:?}");
        }
    }
}
