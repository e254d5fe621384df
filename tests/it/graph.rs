//! The README is held to what runs: the topology, the minimal bot, the defaults, the names.

use std::collections::{BTreeSet, HashSet};
use std::process::Command;

use anyhow::ensure;
use headwater_supervisor::{Config, commands, graph};
use headwater_tests::proof::PROOFS;
use headwater_tests::workflows::headwater;
use serde_json::Value;

const README: &str = include_str!("../../README.md");
const MINIMAL: &str = include_str!("../../bins/minimal/src/main.rs");

/// The fenced block in `language` that begins with `first`.
fn quoted(language: &str, first: &str) -> Option<&'static str> {
    let start = README.find(&format!("```{language}\n{first}"))? + "```\n".len() + language.len();
    let length = README[start..].find("```")?;
    Some(&README[start..start + length])
}

#[tokio::test]
async fn the_readme_shows_the_topology_that_runs() -> anyhow::Result<()> {
    let edges = commands::topology(Config::default()).await?;
    assert_eq!(quoted("text", " from "), Some(&*graph::text(&edges)), "the table in README.md");
    assert_eq!(quoted("mermaid", "flowchart"), Some(&*graph::mermaid(&edges)), "the chart in README.md");
    Ok(())
}

#[tokio::test]
async fn a_configured_lending_pool_is_loaded_and_has_its_detector() -> anyhow::Result<()> {
    let pool =
        "[[market.lending]]\nprotocol = 'aave-v3'\npool = '0x87870Bca3F3fD6335C3F4ce8392D69350B4fA4E2'";
    let config = Config::parse(pool).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    let edges = commands::topology(config).await?;
    for (from, to) in [("state", "lending-loader"), ("decoder", "liquidation"), ("liquidation", "executor")] {
        ensure!(edges.iter().any(|edge| edge.from == from && edge.to == to), "{from} to {to}");
    }
    Ok(())
}

#[tokio::test]
async fn with_a_mempool_pending_reports_reach_who_liquidates_behind_them() -> anyhow::Result<()> {
    let pool = "[mempool]\nenabled = true\n[[market.lending]]\nprotocol = 'aave-v3'\npool = '0x87870Bca3F3fD6335C3F4ce8392D69350B4fA4E2'";
    let config = Config::parse(pool).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    let edges = commands::topology(config).await?;
    for (from, to) in [
        ("mempool", "transmissions"),
        ("transmissions", "pending-liquidation"),
        ("pending-liquidation", "pending-executor"),
    ] {
        ensure!(edges.iter().any(|edge| edge.from == from && edge.to == to), "{from} to {to}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_found_behind_pending_transactions_waits_in_no_mailbox_of_what_is_found_in_blocks()
-> anyhow::Result<()> {
    let pool = "[mempool]\nenabled = true\n[[market.lending]]\nprotocol = 'aave-v3'\npool = '0x87870Bca3F3fD6335C3F4ce8392D69350B4fA4E2'";
    let config = Config::parse(pool).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    let edges = commands::topology(config).await?;
    let into = |mailbox: &str| -> BTreeSet<String> {
        edges.iter().filter(|edge| edge.to == mailbox).map(|edge| edge.from.to_string()).collect()
    };
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    ensure!(
        into("executor") == names(&["arbitrage", "bus", "forwarder", "liquidation"]),
        "{:?}",
        into("executor")
    );
    let behind = into("pending-executor");
    ensure!(behind == names(&["backrun", "bus", "forwarder", "pending-liquidation"]), "{behind:?}");
    Ok(())
}

#[test]
fn the_readme_quotes_the_minimal_bot_in_full() {
    assert_eq!(quoted("rust", "//!"), Some(MINIMAL));
    assert!(MINIMAL.lines().count() <= 60, "{} lines", MINIMAL.lines().count());
}

#[test]
fn the_configuration_in_the_readme_is_the_defaults() -> anyhow::Result<()> {
    let shown = quoted("toml", "[node]").unwrap_or_default();
    let config = Config::parse(shown).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    let node = config.node.clone().map(|node| node.limits());
    assert_eq!(node, Some(headwater_node::Limits::default()));
    let debug = |config: Config| format!("{:#?}", Config { node: None, ..config });
    let unset = |mut config: Config| {
        // Written out in the README, and the same as leaving them out.
        config.market.max_pools = config.market.max_pools.filter(|pools| *pools != 10_000);
        config.market.max_candidates = config.market.max_candidates.filter(|most| *most != 16_384);
        config
    };
    assert_eq!(debug(unset(config)), debug(Config::default()));
    for table in [
        "market",
        "ingest",
        "mempool",
        "decoder",
        "oracle",
        "state",
        "state.tripwire",
        "detectors.arbitrage",
        "detectors.liquidation",
        "executor",
        "journal",
    ] {
        ensure!(shown.contains(&format!("[{table}]")), "[{table}] is not shown");
    }
    Ok(())
}

#[test]
fn the_readme_names_every_proof_and_every_command() -> anyhow::Result<()> {
    for proof in PROOFS {
        ensure!(README.contains(&format!("| `{}` |", proof.name)), "README.md does not name {}", proof.name);
    }
    let help = Command::new(headwater()?).arg("--help").output()?;
    let help = String::from_utf8(help.stdout)?;
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for command in listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        ensure!(README.contains(&format!("`headwater {command}")), "README.md does not name {command}");
    }
    Ok(())
}

#[test]
fn the_results_in_the_readme_are_those_of_the_bundled_recording() -> anyhow::Result<()> {
    let output = Command::new(headwater()?).args(["--ndjson", "-"]).output()?;
    let written: HashSet<Value> =
        String::from_utf8(output.stdout)?.lines().map(timeless).collect::<anyhow::Result<_>>()?;
    let shown = quoted("json", "{").unwrap_or_default();
    let mut types = HashSet::new();
    for line in shown.lines().map(timeless) {
        let line = line?;
        ensure!(written.contains(&line), "no such result: {line}");
        types.insert(line["type"].to_string());
    }
    ensure!(types.len() == 4, "{types:?}");
    Ok(())
}

/// A result without what depends on a clock.
fn timeless(line: &str) -> anyhow::Result<Value> {
    let mut line: Value = serde_json::from_str(line)?;
    line.as_object_mut().and_then(|line| line.remove("latency_ns"));
    Ok(line)
}

/// Cargo builds it only when it builds the whole workspace; then it has to work.
#[test]
fn the_minimal_bot_reports_each_block_of_the_recording() -> anyhow::Result<()> {
    let bot = headwater()?.with_file_name(format!("headwater-minimal{}", std::env::consts::EXE_SUFFIX));
    if !bot.is_file() {
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "headwater-minimal"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .status()?;
        ensure!(status.success(), "building the minimal bot: {status}");
    }
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/recordings/devnet.hwj");
    let output = Command::new(&bot).arg(recording).output()?;
    let printed = String::from_utf8(output.stdout)?;
    ensure!(output.status.success() && printed.lines().count() == 337, "{}: {printed}", output.status);
    ensure!(
        printed.lines().all(|line| line.starts_with("block ") && line.contains(" ppm from 0x")),
        "{printed}"
    );
    let silent = Command::new(&bot).output()?;
    ensure!(!silent.status.success() && String::from_utf8(silent.stderr)?.contains("usage:"));
    Ok(())
}
