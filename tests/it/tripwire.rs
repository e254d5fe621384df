//! A sample of the proof `tripwire`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn a_pool_that_differs_from_its_contract_is_quarantined_and_no_other() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("tripwire")?.run)(&args)?;
    if report.skipped > 0 {
        return Ok(());
    }
    report.verdict()
}
