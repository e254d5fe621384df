//! A sample of the proof `cycles`.

use headwater_tests::devnet;
use headwater_tests::proof::{self, ProofArgs};

#[test]
fn mixed_cycles_gain_on_the_contracts_what_was_predicted() -> anyhow::Result<()> {
    if !devnet::available("mixed cycles against the bytecode of Uniswap V2, V3 and V4")? {
        return Ok(());
    }
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("cycles")?.run)(&args)?;
    report.verdict()
}
