//! A sample of the proof `tracking`.

use headwater_tests::devnet;
use headwater_tests::proof::{self, ProofArgs};

#[test]
fn pools_followed_by_their_logs_are_what_the_contracts_store() -> anyhow::Result<()> {
    if !devnet::available("pools of Uniswap V3 followed by their logs")? {
        return Ok(());
    }
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("tracking")?.run)(&args)?;
    report.verdict()
}
