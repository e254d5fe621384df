//! A sample of the proof `liquidations`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn who_may_be_liquidated_is_found_and_the_contracts_do_what_is_predicted() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("liquidations")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
