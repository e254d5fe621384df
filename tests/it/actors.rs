//! A sample of the proof `actors`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn what_ends_an_actor_leaves_the_order_the_siblings_and_the_findings() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("actors")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
