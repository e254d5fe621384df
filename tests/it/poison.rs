//! A sample of the proof `poison`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn poison_in_a_live_run_costs_the_blocks_until_the_market_is_told_anew() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("poison")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
