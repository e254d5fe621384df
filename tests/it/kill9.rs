//! A sample of the proof `kill9`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn a_process_that_is_killed_goes_on_where_its_record_ends() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("kill9")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
