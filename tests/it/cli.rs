//! The real `headwater` process: what it says, where it says it, and the code that it ends with.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use anyhow::{Context, ensure};
use headwater_bus::EventHandler;
use headwater_bus::clock::{self, Instant};
use headwater_events::{Envelope, RunId};
use headwater_journal::Recording;
use headwater_reference::fake_node::{BlockBuilder, FakeBlock, FakeNode, V2World, word};
use headwater_simulation::Unavailable;
use headwater_supervisor::commands::replay_parts;
use headwater_supervisor::{Bot, Config, Session};
use headwater_telemetry::NdjsonSink;
use headwater_tests::workflows::headwater;
use serde_json::Value;
use tokio::sync::Notify;

const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/recordings/devnet.hwj");
/// Generous, for what takes milliseconds on a quiet machine.
const DEADLINE: Duration = Duration::from_secs(20);

fn command(arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(headwater()?);
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
    Ok(command)
}

/// Runs it to its end; it ends with `code`, says each of `parts` on stderr, and does not panic.
fn check(arguments: &[&str], code: i32, parts: &[&str]) -> anyhow::Result<Output> {
    let output = command(arguments)?.output()?;
    let stderr = text(&output.stderr);
    ensure!(output.status.code() == Some(code), "{arguments:?} ended with {}:\n{stderr}", output.status);
    for part in parts {
        ensure!(stderr.contains(part), "{arguments:?} does not say {part:?}:\n{stderr}");
    }
    ensure!(!stderr.contains("panicked"), "{arguments:?}:\n{stderr}");
    Ok(output)
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_stderr_ends_nothing() -> anyhow::Result<()> {
    let full = || fs::File::options().write(true).open("/dev/full");
    let folder = tempfile::tempdir()?;
    let results = folder.path().join("results.ndjson").display().to_string();
    let mut replay = command(&["replay", RECORDING, "--ndjson", &results])?;
    let output = replay.stdout(Stdio::piped()).stderr(full()?).output()?;
    ensure!(output.status.code() == Some(0), "it ended with {}", output.status);
    ensure!(text(&output.stdout).contains("blocks"), "no summary");
    let status = command(&["replay", "nowhere"])?.stderr(full()?).status()?;
    ensure!(status.code() == Some(1), "it ended with {status}");
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn errors(output: &Output) -> usize {
    text(&output.stderr).lines().filter(|line| line.starts_with("error: ")).count()
}

fn written(folder: &tempfile::TempDir, name: &str, content: impl AsRef<[u8]>) -> anyhow::Result<String> {
    let path = folder.path().join(name);
    fs::write(&path, content)?;
    Ok(path.display().to_string())
}

#[test]
fn a_wrong_url_is_one_line_and_never_repeated() -> anyhow::Result<()> {
    let refused = "error: --rpc: not a node URL";
    for (arguments, says) in [
        (&["--rpc", "ftp://user:SECRET@host/SECRET"][..], refused),
        (&["run", "--rpc", "ws://"], refused),
        (&["run", "--rpc", "host-SECRET"], refused),
        (&["run", "--live", "--rpc", "ws://:80/SECRET"], refused),
        (&["--rpc", "ws://host:99999/SECRET"], "error: --rpc: not a node URL: a port"),
        (&["--rpc", "https://host/SECRET"], "error: --rpc: new heads are announced over ws://"),
        (&["wss://host/SECRET"], "unrecognized subcommand"),
        (&["run", "--rcp=wss://host/SECRET"], "unexpected argument"),
    ] {
        let output = check(arguments, 2, &[says])?;
        ensure!(errors(&output) == 1 && output.stdout.is_empty(), "{}", text(&output.stderr));
        ensure!(!text(&output.stderr).contains("SECRET"), "{}", text(&output.stderr));
    }
    Ok(())
}

#[test]
fn a_node_that_cannot_be_reached_ends_the_run() -> anyhow::Result<()> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let url = format!("ws://127.0.0.1:{port}/SECRET");
    let began = clock::now();
    let output = check(&["--rpc", &url], 1, &["error: cannot connect to ws://127.0.0.1"])?;
    ensure!(began.elapsed() < DEADLINE && errors(&output) == 1);
    ensure!(!text(&output.stderr).contains("SECRET"), "{}", text(&output.stderr));
    Ok(())
}

#[test]
fn live_without_a_node_does_not_fall_back_to_the_recording() -> anyhow::Result<()> {
    let output = check(&["--live"], 2, &["--live needs a node"])?;
    ensure!(errors(&output) == 1 && !text(&output.stderr).contains("REPLAY"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_another_chain_is_refused() -> anyhow::Result<()> {
    let (node, url) = FakeNode::start(5).await?;
    node.push_block(BlockBuilder::first(1).build());
    let folder = tempfile::tempdir()?;
    let config = written(&folder, "headwater.toml", format!("[node]\nurls = [{url:?}]\nchain_id = 1\n"))?;
    let output = check(&["--config", &config], 1, &["chain 5", "chain 1"])?;
    ensure!(errors(&output) == 1, "{}", text(&output.stderr));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lending_pool_of_a_revision_that_is_not_proven_ends_the_run_with_a_remedy() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (node, url, _) = empty_chain().await?;
    let pool = Address::repeat_byte(0xaa);
    for (protocol, question, revision) in
        [("aave-v3", "POOL_REVISION()", 9u64), ("aave-v2", "LENDINGPOOL_REVISION()", 3)]
    {
        let world = V2World::default().factory(Address::repeat_byte(0xfa));
        node.answer_calls(move |call| match call.to == pool && call.is(question) {
            true => Ok(word(U256::from(revision))),
            false => world.call(call),
        });
        let market = fs::read_to_string(empty_market(&folder, 0xee)?)?;
        let lending = format!(
            "[[market.lending]]\nname = \"lender\"\nprotocol = \"{protocol}\"\npool = \"{pool:#x}\"\n"
        );
        let config = written(&folder, "headwater.toml", lending + &market)?;
        let revision = format!("revision {revision} of the ");
        let parts = ["the positions of lender are refused", &revision, "without its [[market.lending]]"];
        let output = check(&["--config", &config, "--rpc", &url, "--fresh"], 1, &parts)?;
        ensure!(errors(&output) == 1, "{}", text(&output.stderr));
    }
    Ok(())
}

#[test]
fn every_error_of_a_configuration_is_named_with_its_line() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let faulty = "[market]\npreset = \"mars\"\n[ingest]\nfoo = 1\n[node]\nurls = [\"ftp://SECRET\"]\n";
    let config = written(&folder, "headwater.toml", faulty)?;
    let expected = [":2:10: ", "mars", ":4:1: ", "unknown field `foo`", ":6:", "not a node URL"];
    for command in ["check", "run", "graph"] {
        let output = check(&[command, "--config", &config], 2, &expected)?;
        let stderr = text(&output.stderr);
        ensure!(stderr.lines().count() == 3 && !stderr.contains("SECRET"), "{stderr}");
    }
    let sound = written(&folder, "sound.toml", "[market]\npreset = \"mainnet\"\n")?;
    let output = check(&["check", "--config", &sound], 0, &[])?;
    ensure!(text(&output.stdout).contains("no errors"));
    check(&["check", "--config", "no-such-file.toml"], 2, &["no-such-file.toml"])?;
    check(&["check"], 2, &["--config"])?;
    Ok(())
}

#[test]
fn a_file_that_is_no_journal_is_named() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let recording = fs::read(RECORDING)?;
    let mut bent = recording.clone();
    bent[recording.len() / 2] ^= 1;
    for (name, content) in [
        ("empty.hwj", &b""[..]),
        ("foreign.hwj", b"this is a text, and no journal at all"),
        ("truncated.hwj", &recording[..recording.len() / 2]),
        ("bent.hwj", &bent),
    ] {
        let path = written(&folder, name, content)?;
        for arguments in [&["replay", &path][..], &["journal", "verify", &path], &["journal", "dump", &path]]
        {
            let output = check(arguments, 1, &[name])?;
            ensure!(errors(&output) == 1, "{arguments:?}: {}", text(&output.stderr));
        }
    }
    let output = check(&["replay", "no-such-file.hwj"], 1, &["no-such-file.hwj"])?;
    ensure!(text(&output.stderr).matches("os error 2").count() == 1, "{}", text(&output.stderr));
    check(&["replay", &folder.path().display().to_string()], 1, &["no journal in"])?;
    Ok(())
}

#[test]
fn without_arguments_the_bundled_recording_is_replayed_and_said_to_be() -> anyhow::Result<()> {
    let output = check(&[], 0, &["REPLAY of the bundled recording"])?;
    let stdout = text(&output.stdout);
    for part in [
        "337 blocks",
        "7380 arbitrage in pairs, 14800 arbitrage with pools of V3 or V4, 5749 backrun, 924 liquidation",
        "0 events lost, every edge conserved",
        "Best opportunities",
        "Edges",
        "Latency",
    ] {
        ensure!(stdout.contains(part), "the summary lacks {part:?}:\n{stdout}");
    }
    Ok(())
}

#[test]
fn results_on_stdout_have_it_for_themselves() -> anyhow::Result<()> {
    let output = check(&["replay", RECORDING, "--ndjson", "-"], 0, &["REPLAY", "0 events lost"])?;
    let stdout = text(&output.stdout);
    let lines: Vec<Value> = stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let count = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    ensure!(lines.last().context("nothing was written")?["type"] == "summary" && count("summary") == 1);
    ensure!(count("block") == 337 && count("reorg") == 8 && count("opportunity") >= 50);
    ensure!(count("outcome") == count("opportunity"));
    let liquidations = lines.iter().filter(|line| line["kind"] == "liquidation");
    let pools: BTreeSet<&str> = liquidations.filter_map(|line| line["path"][0].as_str()).collect();
    ensure!(pools.len() == 3, "a liquidation in each revision: {pools:?}");
    let digest = |lines: &str| -> anyhow::Result<Value> {
        let last = lines.lines().last().context("nothing was written")?;
        Ok(serde_json::from_str::<Value>(last)?["state_digest"].clone())
    };
    let again = check(&["replay", RECORDING, "--ndjson", "-"], 0, &["REPLAY"])?;
    let told = digest(&stdout)?;
    ensure!(
        told.as_str().is_some_and(|told| told.len() == 66) && told == digest(&text(&again.stdout))?,
        "{told}"
    );
    Ok(())
}

#[test]
fn a_reader_that_leaves_is_no_error() -> anyhow::Result<()> {
    for arguments in [&["replay", RECORDING, "--ndjson", "-"][..], &["journal", "dump", RECORDING]] {
        let mut process = Running::start(arguments)?;
        process.line()?;
        process.lines = None;
        let (code, stderr) = process.end()?;
        ensure!(code == Some(0) && !stderr.contains("panicked"), "{arguments:?}: {code:?}\n{stderr}");
    }
    Ok(())
}

#[test]
fn a_full_disk_is_one_error_and_said_once() -> anyhow::Result<()> {
    let full = "cannot write results to /dev/full: No space left on device";
    let output = check(&["--ndjson", "/dev/full"], 1, &[full])?;
    ensure!(errors(&output) == 1 && text(&output.stderr).lines().count() < 8, "{}", text(&output.stderr));
    check(&["--ndjson", "/no-such-folder/results"], 2, &["/no-such-folder/results"])?;
    let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
    let output = command(&["graph"])?.stdout(full).output()?;
    ensure!(output.status.code() == Some(1) && text(&output.stderr).contains("stdout"));
    Ok(())
}

#[test]
fn a_journal_is_looked_into() -> anyhow::Result<()> {
    let info = text(&check(&["journal", "info", RECORDING], 0, &[])?.stdout);
    ensure!(info.contains("337 new_block") && info.contains("8 reorg"), "{info}");
    let verified = text(&check(&["journal", "verify", RECORDING], 0, &[])?.stdout);
    ensure!(verified.contains("1043 events, 1 to 1043: all hold"), "{verified}");
    let dump = text(&check(&["journal", "dump", RECORDING], 0, &[])?.stdout);
    let events: Vec<Value> = dump.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let numbers: Vec<_> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
    ensure!(numbers == (1..=1043).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn ctrl_c_and_sigterm_end_a_replay_drained() -> anyhow::Result<()> {
    for signal in ["-INT", "-TERM"] {
        // Nobody reads on, so that the replay cannot be through before it is interrupted.
        let process = Running::start(&["replay", RECORDING, "--ndjson", "-"])?;
        process.line()?;
        let took = process.send(signal)?;
        let mut last = process.line()?;
        while last["type"] != "summary" {
            last = process.line()?;
        }
        let (code, stderr) = process.end()?;
        ensure!(code == Some(0) && stderr.contains("every edge conserved"), "{signal}: {code:?}\n{stderr}");
        ensure!(last["blocks"].as_u64() < Some(337), "{last}");
        ensure!(took.elapsed() < Duration::from_secs(5), "{:?}", took.elapsed());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_reading_does_not_hold_up_an_interruption() -> anyhow::Result<()> {
    let recording = Recording::open(RECORDING)?;
    let parts = replay_parts(Config::default(), &recording, RunId(1))?;
    let mut bot = Bot::wire(parts, Unavailable).await?;
    let (stuck, writing) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    bot.register("stuck", StuckHandler(Arc::clone(&stuck)));
    let sink = NdjsonSink::to_writer("a pipe", StuckPipe(Arc::clone(&writing)));
    let session = Session::with_sink(&mut bot, Some(sink));
    let both = async {
        stuck.notified().await;
        writing.notified().await;
    };
    let (_, ended, written) =
        tokio::time::timeout(Duration::from_secs(5), session.finish(bot.replay(&recording), both)).await?;
    ensure!(ended.interrupted && written.is_err_and(|error| error.to_string().contains("timed out")));
    ensure!(ended.handlers.iter().all(|handler| handler.name != "stuck"), "{:?}", ended.handlers);
    Ok(())
}

/// Does not come back from the first event.
struct StuckHandler(Arc<Notify>);

impl EventHandler for StuckHandler {
    async fn handle(&mut self, _: &Envelope) -> anyhow::Result<()> {
        self.0.notify_one();
        std::future::pending().await
    }
}

/// Nobody reads behind it.
struct StuckPipe(Arc<Notify>);

impl Write for StuckPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        self.0.notify_one();
        loop {
            thread::park();
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_a_live_run_drained_and_recorded() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (node, url, mut head) = empty_chain().await?;
    let config = empty_market(&folder, 0xee)?;
    let process = Running::start(&["--config", &config, "--rpc", &url, "--ndjson", "-"])?;
    tokio::time::timeout(DEADLINE, node.until_subscribed("newHeads", 1)).await?;
    for _ in 0..4 {
        head = BlockBuilder::child_of(&head).build();
        node.push_block(head.clone());
    }
    for number in 101..104 {
        let line = process.line()?;
        ensure!(line["type"] == "block" && line["number"] == number, "{line}");
    }
    let took = process.send("-INT")?;
    let mut last = process.line()?;
    while last["type"] != "summary" {
        last = process.line()?;
    }
    let (code, stderr) = process.end()?;
    ensure!(took.elapsed() < Duration::from_secs(5), "{:?}", took.elapsed());
    ensure!(code == Some(0) && stderr.contains("every edge conserved"), "{code:?}\n{stderr}");
    let blocks = last["blocks"].as_u64().context("a summary counts its blocks")?;
    ensure!((3..=4).contains(&blocks), "{last}");

    let run = only_entry(&folder.path().join("journal"))?.display().to_string();
    check(&["journal", "verify", &run], 0, &[])?;
    let replayed = text(&check(&["replay", &run, "--config", &config], 0, &["REPLAY"])?.stdout);
    ensure!(replayed.contains(&format!("{blocks} blocks (101 to {})", 100 + blocks)), "{replayed}");
    Ok(())
}

/// A chain of one block, with a factory that has made no pool.
async fn empty_chain() -> anyhow::Result<(FakeNode, String, FakeBlock)> {
    let (node, url) = FakeNode::start(31_337_000).await?;
    node.answer_v2(V2World::default().factory(Address::repeat_byte(0xfa)));
    let head = BlockBuilder::first(100).build();
    node.push_block(head.clone());
    Ok((node, url, head))
}

/// A configuration for it, with its journal beside it.
fn empty_market(folder: &tempfile::TempDir, wrapped_native: u8) -> anyhow::Result<String> {
    let config = format!(
        "[market]\npreset = \"none\"\nwrapped_native = \"{:#x}\"\n[[market.factories]]\nprotocol = \"uniswap-v2\"\n\
         address = \"{:#x}\"\n[journal]\ndirectory = {:?}\n",
        Address::repeat_byte(wrapped_native),
        Address::repeat_byte(0xfa),
        folder.path().join("journal").display().to_string(),
    );
    written(folder, &format!("{wrapped_native}.toml"), config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_with_the_last_one_unless_it_cannot_or_shall_not() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (node, url, mut head) = empty_chain().await?;
    let (config, another) = (empty_market(&folder, 0xee)?, empty_market(&folder, 0xef)?);
    let (goes_on, anew) = ("going on with an earlier run", "beginning anew");
    for (config, more, says, runs) in [
        (&config, &[][..], "recording", 1),
        (&config, &[], goes_on, 1),
        (&config, &["--fresh"], "recording", 2),
        (&config, &[], goes_on, 2),
        (&another, &[], anew, 3),
        (&another, &[], goes_on, 3),
    ] {
        let before = head.number();
        let arguments =
            [&["--config", config, "--rpc", &url, "--blocks", "2", "--ndjson", "-"], more].concat();
        let process = Running::start(&arguments)?;
        tokio::time::timeout(DEADLINE, node.until_subscribed("newHeads", 1)).await?;
        for _ in 0..2 {
            head = BlockBuilder::child_of(&head).build();
            node.push_block(head.clone());
        }
        for number in [before + 1, before + 2] {
            let mut line = process.line()?;
            // Whether the node announces them before we ask for its head is for the two processes to race.
            if line["type"] == "gap" {
                line = process.line()?;
            }
            ensure!(line["type"] == "block" && line["number"] == number, "{line}");
        }
        ensure!(process.line()?["type"] == "summary");
        let (code, stderr) = process.end()?;
        ensure!(code == Some(0) && stderr.contains(says), "{code:?} without {says:?}\n{stderr}");
        ensure!(says == goes_on || !stderr.contains(goes_on), "{stderr}");
        let journal = folder.path().join("journal");
        ensure!(fs::read_dir(&journal)?.count() == runs, "{arguments:?}: {runs} runs expected\n{stderr}");
        tokio::time::timeout(DEADLINE, node.until(|node| node.subscriptions("newHeads") == 0)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_costs_the_last_run_nothing() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (node, url, mut head) = empty_chain().await?;
    let config = empty_market(&folder, 0xee)?;
    let lending =
        "[[market.lending]]\nprotocol = \"aave-v2\"\npool = \"0x00000000000000000000000000000000000000fa\"\n";
    let wrong = written(&folder, "wrong.toml", fs::read_to_string(&config)? + lending)?;
    for says in ["recording", "going on with an earlier run"] {
        let process =
            Running::start(&["--config", &config, "--rpc", &url, "--blocks", "1", "--ndjson", "-"])?;
        tokio::time::timeout(DEADLINE, node.until_subscribed("newHeads", 1)).await?;
        head = BlockBuilder::child_of(&head).build();
        node.push_block(head.clone());
        while process.line()?["type"] != "summary" {}
        let (code, stderr) = process.end()?;
        ensure!(code == Some(0) && stderr.contains(says), "{code:?} without {says:?}\n{stderr}");
        tokio::time::timeout(DEADLINE, node.until(|node| node.subscriptions("newHeads") == 0)).await?;
        check(
            &["--config", &wrong, "--rpc", &url],
            1,
            &["of [[market.lending]] does not answer as such a pool"],
        )?;
    }
    Ok(())
}

fn only_entry(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut entries = fs::read_dir(folder)?;
    let entry = entries.next().context("the folder is empty")??.path();
    ensure!(entries.next().is_none(), "one run leaves one journal");
    Ok(entry)
}

/// A process whose stdout is read when asked for.
struct Running {
    child: Guarded,
    lines: Option<Receiver<String>>,
    stderr: thread::JoinHandle<String>,
}

impl Running {
    fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = Guarded(command(arguments)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?);
        let stdout = BufReader::new(child.0.stdout.take().context("stdout is piped")?);
        let mut stderr = child.0.stderr.take().context("stderr is piped")?;
        let (sender, lines) = sync_channel(0);
        thread::spawn(move || {
            // Whoever asks for no more lines closes the pipe.
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let stderr = thread::spawn(move || {
            let mut said = Vec::new();
            let _ = stderr.read_to_end(&mut said);
            text(&said)
        });
        Ok(Self { child, lines: Some(lines), stderr })
    }

    /// The next line of stdout.
    fn line(&self) -> anyhow::Result<Value> {
        let lines = self.lines.as_ref().context("stdout is closed")?;
        Ok(serde_json::from_str(&lines.recv_timeout(DEADLINE)?)?)
    }

    fn send(&self, signal: &str) -> anyhow::Result<Instant> {
        let now = clock::now();
        let sent = Command::new("kill").args([signal, &self.child.0.id().to_string()]).status()?;
        ensure!(sent.success(), "kill ended with {sent}");
        Ok(now)
    }

    /// Its exit code and what it said on stderr.
    fn end(mut self) -> anyhow::Result<(Option<i32>, String)> {
        let status = self.child.0.wait()?;
        drop(self.lines.take());
        Ok((status.code(), self.stderr.join().ok().context("stderr is read")?))
    }
}

/// A process that does not outlive a test that fails.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
