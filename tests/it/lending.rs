//! A sample of the proof `lending`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn accounts_and_liquidations_are_those_of_the_protocols_bytecode() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("lending")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
