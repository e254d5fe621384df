//! A sample of the proof `anvil`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn a_real_node_that_misbehaves_is_followed() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 5, quick: true, rest: Vec::new() };
    let report = (proof::find("anvil")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
