//! A sample of the proof `hostile`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn hostile_tokens_and_pools_are_refused_and_their_honest_twins_are_quoted() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("hostile")?.run)(&args)?;
    report.verdict()
}
