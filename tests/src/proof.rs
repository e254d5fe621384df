//! The proofs: each acceptance item as one command that counts what it checked.

use std::fmt;

use anyhow::{Context, ensure};

/// One acceptance item of an issue, at its full size.
#[derive(Clone, Copy, Debug)]
pub struct Proof {
    /// As typed after `cargo xtask prove`.
    pub name: &'static str,
    /// One line for the list.
    pub about: &'static str,
    /// How long the full size takes on a quiet two-core machine, for the one who has to wait.
    pub full_duration: &'static str,
    /// Carries it out.
    pub run: fn(&ProofArgs) -> anyhow::Result<Report>,
}

/// What may be chosen about a proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofArgs {
    /// Everything that is random comes out of this.
    pub seed: u64,
    /// A smaller sample, for the test suite.
    pub quick: bool,
    /// Whatever else the proof understands.
    pub rest: Vec<String>,
}

/// What a proof did.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Report {
    /// Cases that were compared and agreed.
    pub checked: u64,
    /// Fewer than this prove nothing.
    pub floor: u64,
    /// Cases that could not be compared.
    pub skipped: u64,
    /// The seed that repeats it.
    pub seed: u64,
    /// What was done and counted, for the reader.
    pub lines: Vec<String>,
}

/// All proofs there are, in the order of the issue.
pub const PROOFS: &[Proof] = &[
    crate::proofs::replay::REPLAY,
    crate::proofs::live::LIVE,
    crate::proofs::mainnet::MAINNET,
    crate::proofs::mainnet_market::MAINNET_MARKET,
    crate::proofs::recall::RECALL,
    crate::proofs::recall_mixed::RECALL_MIXED,
    crate::proofs::lending::LENDING,
    crate::proofs::liquidations::LIQUIDATIONS,
    crate::proofs::actors::ACTORS,
    crate::proofs::poison::POISON,
    crate::proofs::lag::LAG,
    crate::proofs::chaos::CHAOS,
    crate::proofs::chaos::SOAK,
    crate::proofs::reorgs::REORGS,
    crate::proofs::kill9::KILL9,
    crate::proofs::burst::BURST,
    crate::proofs::disk_full::DISK_FULL,
    crate::proofs::journal_damage::JOURNAL_DAMAGE,
    crate::proofs::silence::SILENCE,
    crate::proofs::anvil::ANVIL,
    crate::proofs::decoder::DECODER,
    crate::proofs::v3::V3,
    crate::proofs::cycles::CYCLES,
    crate::proofs::oracle::ORACLE,
    crate::proofs::tracking::TRACKING,
    crate::proofs::tripwire::TRIPWIRE,
    crate::proofs::backruns::BACKRUNS,
    crate::proofs::hostile::HOSTILE,
];

/// By name.
///
/// # Errors
/// A name that is not in the list; the error lists them.
pub fn find(name: &str) -> anyhow::Result<&'static Proof> {
    let known = || PROOFS.iter().map(|proof| proof.name).collect::<Vec<_>>().join(", ");
    PROOFS
        .iter()
        .find(|proof| proof.name == name)
        .with_context(|| format!("there is no proof {name:?}; there are: {}", known()))
}

impl Report {
    /// Whether enough was checked.
    ///
    /// # Errors
    /// Fewer cases than the floor.
    pub fn verdict(&self) -> anyhow::Result<()> {
        ensure!(
            self.checked >= self.floor,
            "only {} cases checked, below the floor of {}",
            self.checked,
            self.floor
        );
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "seed {}", self.seed)?;
        write!(f, "{} cases checked (floor {}), {} skipped", self.checked, self.floor, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_below_its_floor_fails() {
        let report = |checked| Report { checked, floor: 10, ..Report::default() };
        assert!(report(10).verdict().is_ok());
        assert!(report(9).verdict().is_err());
    }

    #[test]
    fn the_last_line_counts_what_was_skipped() {
        let report =
            Report { checked: 12, floor: 10, skipped: 3, seed: 7, lines: vec!["compared".to_owned()] };
        assert_eq!(report.to_string(), "compared\nseed 7\n12 cases checked (floor 10), 3 skipped");
    }

    #[test]
    fn an_unknown_proof_is_an_error() {
        assert!(find("no such proof").is_err());
    }

    #[test]
    fn no_two_proofs_share_a_name() {
        let mut names: Vec<_> = PROOFS.iter().map(|proof| proof.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
