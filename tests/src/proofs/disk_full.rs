//! The real process on a file system of one MiB that fills up, and on which room is made again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use alloy_primitives::B256;
use anyhow::{Context, ensure};
use headwater_events::BusEvent;
use headwater_journal::Recording;
use headwater_reference::fake_node::FakeNode;
use tokio::time::{Instant, interval, sleep, timeout_at};

use super::kill9::Generator;
use crate::latency::config_text;
use crate::proof::{Proof, ProofArgs, Report};
use crate::workflows::{Process, headwater};

/// A full disk.
pub const DISK_FULL: Proof = Proof {
    name: "disk-full",
    about: "a file system of one MiB fills up: nothing is acted upon, nothing recorded is lost, and with room it goes on",
    full_duration: "10 s",
    run,
};

const CHAIN_ID: u64 = 424_244;
const BLOCK_TIME: Duration = Duration::from_millis(40);
/// Until nothing more is acted upon.
const HALTED_WITHIN: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);
/// Blocks on the full disk, and behind it.
const MORE: usize = 8;

/// Mounts the file system in a namespace of its own, fills half of it, and becomes the process.
const IN_A_SMALL_PLACE: &str = "mount -t tmpfs -o size=1m tmpfs \"$1\" && head -c 600000 /dev/zero > \"$1/ballast\" && shift && exec \"$@\"";

const STALLED: &str = "\"reason\":\"journal_stalled\"";

/// Whether a finding came as far as its simulation, which is what comes before it is sent.
fn passed_the_gate(outcome: &str) -> bool {
    let before_it = ["no_net_profit", "below_minimum", "nothing_to_do", "orphaned", "journal_stalled"];
    !outcome.contains("\"expired\"")
        && !before_it.iter().any(|reason| outcome.contains(&format!("\"reason\":\"{reason}\"")))
}

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let may_mount = Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"])
        .stderr(Stdio::null())
        .status();
    if !may_mount.is_ok_and(|status| status.success()) {
        crate::devnet::write_skip("no file system can be mounted here", "the proof on a full disk")?;
        return Ok(Report { skipped: 1, seed: args.seed, ..Report::default() });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(prove(args.seed))
}

async fn prove(seed: u64) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir()?;
    let small = folder.path().join("small");
    fs::create_dir(&small)?;
    let (node, url) = FakeNode::start(CHAIN_ID).await?;
    let mut generator = Generator::new(seed);
    node.answer_v2(generator.world.contracts());
    node.push_block(generator.blocks[0].block.clone());
    fs::write(folder.path().join("headwater.toml"), config_text(&small.join("journal")))?;
    let seen = Seen { results: folder.path().join("results"), log: folder.path().join("log") };
    let mut command = Command::new("unshare");
    command
        .args(["-rm", "sh", "-c", IN_A_SMALL_PLACE, "sh"])
        .arg(&small)
        .arg(headwater()?)
        .args(["run", "--rpc", &url, "--config"])
        .arg(folder.path().join("headwater.toml"))
        .arg("--ndjson")
        .arg(&seen.results)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&seen.log)?);
    let process = Process::start(&mut command)?;
    // The process is what `unshare` became, and its namespace can be looked into from here.
    let inside = PathBuf::from(format!("/proc/{}/root", process.id())).join(small.strip_prefix("/")?);
    tokio::time::timeout(PATIENCE, node.until_subscribed("newHeads", 1)).await?;

    let mut before_full = 0;
    while !seen.log()?.contains("cannot be written") {
        before_full += 1;
        ensure!(before_full < 200, "the disk does not fill up:\n{}", seen.log()?);
        node.push_block(generator.next());
        sleep(BLOCK_TIME).await;
    }
    sleep(HALTED_WITHIN).await;
    let outcomes = seen.outcomes()?.len();
    for _ in 0..MORE {
        node.push_block(generator.next());
        sleep(BLOCK_TIME).await;
    }
    seen.until(|results, _| outcomes_in(results).len() > outcomes).await?;
    let meanwhile: Vec<String> = seen.outcomes()?.split_off(outcomes);
    let acted = meanwhile.iter().find(|line| passed_the_gate(line));
    ensure!(acted.is_none(), "acted upon while the disk was full: {acted:?}");
    let refused = meanwhile.iter().filter(|line| line.contains(STALLED)).count();
    ensure!(refused > 0, "nothing was refused for the journal's sake: {meanwhile:?}");

    fs::remove_file(inside.join("ballast")).context("making room")?;
    seen.until(|_, log| log.contains("can be written again")).await?;
    let outcomes = seen.outcomes()?.len();
    for _ in 0..MORE {
        node.push_block(generator.next());
        sleep(BLOCK_TIME).await;
    }
    seen.until(|results, _| outcomes_in(results).iter().skip(outcomes).any(|line| passed_the_gate(line)))
        .await?;
    let recorded =
        until_recorded(&inside.join("journal"), generator.blocks.last().map(|last| last.block.hash()))
            .await?;
    let generated: Vec<B256> = generator.blocks.iter().map(|generated| generated.block.hash()).collect();
    ensure!(generated.ends_with(&recorded), "the record is not the chain");
    process.interrupt()?;
    process.succeed()?;
    Ok(Report {
        checked: recorded.len() as u64,
        floor: 2 * MORE as u64,
        skipped: 0,
        seed,
        lines: vec![
            format!("{before_full} blocks until the disk was full"),
            format!(
                "{} findings meanwhile, none acted upon, {refused} of them for the journal alone",
                meanwhile.len()
            ),
            format!(
                "{} blocks on record, each once, without a hole, those from the full disk among them",
                recorded.len()
            ),
        ],
    })
}

/// Waits until the block is on record; gives all that are.
async fn until_recorded(journal: &Path, last: Option<B256>) -> anyhow::Result<Vec<B256>> {
    let deadline = Instant::now() + PATIENCE;
    let mut ticks = interval(Duration::from_millis(20));
    loop {
        timeout_at(deadline, ticks.tick()).await.context("the last block is not recorded")?;
        let run = fs::read_dir(journal)?.next().context("no run")??.path();
        let mut blocks = Vec::new();
        for record in Recording::open(run)?.records(1).flatten() {
            if let BusEvent::NewBlock(block) = &record.envelope.event {
                blocks.push(block.header.hash);
            }
        }
        if blocks.last().copied() == last {
            return Ok(blocks);
        }
    }
}

/// What the process has written so far.
struct Seen {
    results: PathBuf,
    log: PathBuf,
}

impl Seen {
    fn log(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    fn outcomes(&self) -> anyhow::Result<Vec<String>> {
        Ok(outcomes_in(&fs::read_to_string(&self.results)?))
    }

    async fn until(&self, is_so: impl Fn(&str, &str) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut ticks = interval(Duration::from_millis(20));
        while !is_so(&fs::read_to_string(&self.results)?, &self.log()?) {
            let in_time = timeout_at(deadline, ticks.tick()).await;
            in_time.with_context(|| format!("it does not come on:\n{}", self.log().unwrap_or_default()))?;
        }
        Ok(())
    }
}

fn outcomes_in(results: &str) -> Vec<String> {
    let whole = results.rfind('\n').map_or("", |end| &results[..end]);
    whole.lines().filter(|line| line.contains(r#""type":"outcome""#)).map(str::to_owned).collect()
}
