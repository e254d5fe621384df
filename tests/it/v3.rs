//! A sample of the proof `v3`.

use headwater_tests::devnet;
use headwater_tests::proof::{self, ProofArgs};

#[test]
fn swaps_are_what_the_pools_own_bytecode_does() -> anyhow::Result<()> {
    if !devnet::available("swaps against the bytecode of Uniswap V2, V3 and V4")? {
        return Ok(());
    }
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("v3")?.run)(&args)?;
    report.verdict()
}
