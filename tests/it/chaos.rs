//! Samples of the proofs `chaos` and `soak`.

use headwater_tests::proof::{self, ProofArgs};

fn check(name: &str) -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find(name)?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}

#[test]
fn a_process_under_every_kind_of_fault_holds_what_the_chain_says() -> anyhow::Result<()> {
    check("chaos")
}

#[test]
fn what_a_process_holds_is_looked_at() -> anyhow::Result<()> {
    check("soak")
}
