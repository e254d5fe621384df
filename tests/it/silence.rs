//! A sample of the proof `silence`.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn a_silent_node_is_left_in_time_and_a_poison_reply_costs_one_reconnect_a_second() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("silence")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
