//! The proof `disk-full`, which is quick.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn a_full_disk_stops_what_acts_and_loses_nothing() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("disk-full")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
