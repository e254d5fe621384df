//! What was injected, and what came of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::faults::Kind;

/// One fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// Whether it did any harm.
    pub(super) bit: bool,
    /// Whether that was noticed.
    pub(super) detected: bool,
    /// From the bite to the first canonical block behind the fault; there is one, or the run has failed.
    pub(super) repaired: Option<Duration>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Ledger(BTreeMap<Kind, Vec<Case>>);

impl Ledger {
    pub(super) fn note(&mut self, kind: Kind, case: Case) {
        self.0.entry(kind).or_default().push(case);
    }

    /// How much of its turn a kind has had: what bites seldom comes up to three times as often.
    pub(super) fn turns(&self, kind: Kind) -> usize {
        self.0.get(&kind).map_or(0, |cases| cases.len() + 2 * bitten(cases))
    }

    /// How often it bit.
    pub(super) fn bites_of(&self, kind: Kind) -> usize {
        self.0.get(&kind).map_or(0, |cases| bitten(cases))
    }

    /// Faults that bit.
    pub(super) fn bites(&self) -> u64 {
        self.0.values().flatten().filter(|case| case.bit).count() as u64
    }

    /// How often the kind bit that bit least.
    pub(super) fn least(&self, kinds: &[Kind], skipped: &[Kind]) -> usize {
        kinds
            .iter()
            .filter(|kind| !skipped.contains(kind))
            .map(|kind| self.bites_of(*kind))
            .min()
            .unwrap_or_default()
    }

    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "{:26} {:>8} {:>6} {:>8} {:>8} {:>9} {:>9}",
            "fault", "injected", "bit", "detected", "repaired", "p50 s", "max s"
        );
        for (kind, cases) in &self.0 {
            let mut times: Vec<Duration> = cases.iter().filter_map(|case| case.repaired).collect();
            times.sort_unstable();
            let seconds = |time: Option<&Duration>| time.copied().unwrap_or_default().as_secs_f64();
            let _ = write!(
                text,
                "\n{:26} {:>8} {:>6} {:>8} {:>8} {:>9.2} {:>9.2}",
                kind.name(),
                cases.len(),
                bitten(cases),
                cases.iter().filter(|case| case.bit && case.detected).count(),
                times.len(),
                seconds(times.get(times.len() / 2)),
                seconds(times.last())
            );
        }
        text
    }
}

fn bitten(cases: &[Case]) -> usize {
    cases.iter().filter(|case| case.bit).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_bit_too_seldom_is_seen() {
        let mut ledger = Ledger::default();
        let kinds = [Kind::Cut, Kind::Killed];
        let case = |bit| Case { bit, detected: bit, repaired: bit.then_some(Duration::from_secs(1)) };
        for bit in [true, false, true] {
            ledger.note(Kind::Cut, case(bit));
        }
        assert_eq!((ledger.turns(Kind::Cut), ledger.turns(Kind::Killed)), (7, 0));
        assert_eq!(ledger.least(&kinds, &[]), 0);
        assert_eq!(ledger.least(&kinds, &[Kind::Killed]), 2);
        ledger.note(Kind::Killed, case(true));
        assert_eq!((ledger.least(&kinds, &[]), ledger.bites()), (1, 3));
    }
}
