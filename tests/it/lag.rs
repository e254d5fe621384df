//! A sample of the proof `lag`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn a_reader_that_is_too_slow_gets_every_event_or_is_told_which_are_gone() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("lag")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
