//! A sample of the proof `reorgs`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn whatever_is_reorganised_the_state_is_that_of_a_rebuild_from_scratch() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("reorgs")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
