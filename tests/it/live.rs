//! A sample of the proof `live`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn a_live_chain_is_followed_and_its_findings_are_worth_what_they_say() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 3, quick: true, rest: Vec::new() };
    let report = (proof::find("live")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
