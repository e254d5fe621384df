//! A sample of the proof `recall`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn every_cycle_of_the_exhaustive_search_is_found() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("recall")?.run)(&args)?;
    report.verdict()
}
