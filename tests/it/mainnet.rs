//! The proofs `mainnet`, a sample of it, and `mainnet-market`, where their data is at hand.

use headwater_tests::proof::{self, ProofArgs};

#[test]
fn real_blocks_show_what_is_known_to_be_in_them() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("mainnet")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}

#[test]
fn what_others_saw_in_real_blocks_is_what_is_said_of_them() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("mainnet-market")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
