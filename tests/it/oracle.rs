//! A sample of the proof `oracle`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn prices_of_feeds_and_over_time_are_those_of_a_judge_that_forgets_nothing() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("oracle")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
