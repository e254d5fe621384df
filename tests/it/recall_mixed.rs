//! A sample of the proof `recall-mixed`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn every_cycle_of_mixed_pools_that_gains_is_found() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("recall-mixed")?.run)(&args)?;
    report.verdict()
}
