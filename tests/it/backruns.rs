//! A sample of the proof `backruns`.

use headwater_tests::devnet;
use headwater_tests::proof::{self, ProofArgs};

#[test]
fn what_is_found_behind_a_pending_transaction_is_worth_that_right_behind_it() -> anyhow::Result<()> {
    if !devnet::available("backruns behind the bytecode of Uniswap V2")? {
        return Ok(());
    }
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("backruns")?.run)(&args)?;
    report.verdict()
}

#[test]
fn what_was_found_behind_pending_transactions_is_found_again_in_the_record() -> anyhow::Result<()> {
    if !devnet::available("a record of what was found behind pending transactions")? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    eprintln!("{}", headwater_tests::workflows::record(5, 45, &folder.path().join("devnet.hwj"))?);
    Ok(())
}
