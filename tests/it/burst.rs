//! A sample of the proof `burst`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn a_subscriber_that_is_too_slow_delays_nobody_and_loses_nothing() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("burst")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
