//! A sample of the proof `mainnet`, where its data is at hand.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn real_blocks_show_what_is_known_to_be_in_them() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("mainnet")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
