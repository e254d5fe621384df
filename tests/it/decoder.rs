//! A sample of the proof `decoder`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn what_was_meant_comes_back_and_what_was_bent_is_malformed() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("decoder")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
