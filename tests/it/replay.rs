//! A sample of the proof `replay`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn a_replay_says_the_same_whatever_the_threads_the_delays_and_the_network() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("replay")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
