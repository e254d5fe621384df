//! A sample of the proof `journal-damage`.

use headwater_tests::proof::{self, ProofArgs};
use headwater_tests::proofs::journal_damage;

#[test]
fn all_before_the_damage_is_read_and_the_damage_is_named() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 1, quick: true, rest: Vec::new() };
    let report = (proof::find("journal-damage")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}

#[test]
fn the_process_names_it_and_needs_little_memory() -> anyhow::Result<()> {
    eprintln!("{}", journal_damage::process(1, 50)?);
    Ok(())
}
