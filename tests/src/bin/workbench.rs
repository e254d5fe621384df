//! The workflows that need more than cargo; `cargo xtask` runs them.

#![expect(clippy::print_stdout, reason = "a command line tool: standard output is where its results go")]

use std::io::{ErrorKind, Write, stdout};
use std::num::NonZeroU64;
use std::time::Duration;

use clap::{Parser, Subcommand};
use headwater_tests::devnet::{Addresses, Devnet, Pace, Trader};
use headwater_tests::latency::{Load, Plan, measure};
use headwater_tests::proof::{self, PROOFS, Proof, ProofArgs};
use headwater_tests::workflows;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Headwater's workflows")]
struct Arguments {
    #[command(subcommand)]
    workflow: Workflow,
}

#[derive(Debug, Subcommand)]
enum Workflow {
    /// A local chain on which a seeded trader makes prices drift; runs until Ctrl-C
    Devnet(DevnetArguments),
    /// The devnet and the supervisor together, live
    Demo(DemoArguments),
    /// Makes the bundled recording
    Record(RecordArguments),
    /// Blocks through the whole bot over a real socket, timed, beside the pattern of the seed
    Latency(LatencyArguments),
    /// One acceptance item of an issue at its full size
    Prove(ProveArguments),
}

#[derive(Debug, clap::Args)]
struct LatencyArguments {
    /// Decides the market and its blocks
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Pools of the market
    #[arg(long, default_value_t = 10_000)]
    pools: usize,
    /// Blocks that are measured
    #[arg(long, default_value_t = 400)]
    blocks: usize,
    /// Milliseconds from one block to the next
    #[arg(long, default_value_t = 90)]
    pace_ms: u64,
}

#[derive(Debug, clap::Args)]
struct DemoArguments {
    /// Decides every trade
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long; there are four blocks in a second
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[derive(Debug, clap::Args)]
struct RecordArguments {
    /// Decides every trade
    #[arg(long, default_value_t = 8)]
    seed: u64,
    /// Canonical blocks
    #[arg(long, default_value_t = 320)]
    blocks: u64,
    /// Where to
    #[arg(long, default_value = "tests/recordings/devnet.hwj")]
    file: std::path::PathBuf,
}

#[derive(Debug, clap::Args)]
struct DevnetArguments {
    /// Decides every trade
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Milliseconds between blocks
    #[arg(long, default_value_t = 250)]
    block_time_ms: u64,
    /// Stop after this many
    #[arg(long)]
    blocks: Option<u64>,
    /// Replace the last one to three blocks every so many blocks
    #[arg(long)]
    reorg_every: Option<NonZeroU64>,
    /// Print the table of contracts as JSON and end
    #[arg(long)]
    addresses: bool,
}

#[derive(Debug, clap::Args)]
struct ProveArguments {
    /// Which; see --list
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// All proofs with their durations
    #[arg(long)]
    list: bool,
    /// Repeats a former run; `random` takes one that nobody has chosen, and the report names it
    #[arg(long, default_value = "1", value_parser = seed)]
    seed: u64,
    /// A smaller sample
    #[arg(long)]
    quick: bool,
    /// For how long, where the proof lets it be chosen
    #[arg(long)]
    minutes: Option<u64>,
    /// Passed to the proof
    #[arg(last = true)]
    rest: Vec<String>,
}

fn seed(text: &str) -> Result<u64, std::num::ParseIntError> {
    if text == "random" { Ok(headwater_bus::clock::unix_nanos()) } else { text.parse() }
}

/// As that of the supervisor: what is measured here has to be what is delivered.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<()> {
    match Arguments::parse().workflow {
        Workflow::Devnet(arguments) => devnet(&arguments),
        Workflow::Demo(arguments) => workflows::demo(arguments.seed, 4 * arguments.seconds),
        Workflow::Record(arguments) => {
            println!("{}", workflows::record(arguments.seed, arguments.blocks, &arguments.file)?);
            Ok(())
        }
        Workflow::Latency(arguments) => latency(&arguments),
        Workflow::Prove(arguments) => prove(&arguments),
    }
}

fn devnet(arguments: &DevnetArguments) -> anyhow::Result<()> {
    if arguments.addresses {
        println!("{}", serde_json::to_string_pretty(&Addresses::derive())?);
        return Ok(());
    }
    let devnet = Devnet::start()?;
    let mut trader = Trader::new(arguments.seed, &devnet);
    println!("# {} (requests: {}), seed {}", devnet.ws_url(), devnet.http_url(), arguments.seed);
    println!("# headwater.toml:\n{}", devnet.configuration());
    println!("# Trading, one block every {} ms. Ctrl-C ends it.", arguments.block_time_ms);
    let pace = Pace {
        block_time: Duration::from_millis(arguments.block_time_ms),
        reorg_every: arguments.reorg_every,
    };
    let mut left = arguments.blocks;
    devnet.run(&mut trader, pace, |_| {
        left = left.map(|left| left.saturating_sub(1));
        left != Some(0)
    })
}

fn prove(arguments: &ProveArguments) -> anyhow::Result<()> {
    let Some(name) = arguments.name.as_ref().filter(|_| !arguments.list) else {
        return list();
    };
    let mut rest = arguments.rest.clone();
    rest.extend(arguments.minutes.iter().flat_map(|minutes| ["--minutes".to_owned(), minutes.to_string()]));
    let args = ProofArgs { seed: arguments.seed, quick: arguments.quick, rest };
    let report = (proof::find(name)?.run)(&args)?;
    println!("{report}");
    anyhow::ensure!(
        report.checked > 0 || report.skipped == 0,
        "{name} checked nothing: above stands what it needs"
    );
    report.verdict()
}

/// Whoever reads only the first lines closes the pipe, and that is no failure.
fn list() -> anyhow::Result<()> {
    let mut out = stdout().lock();
    let mut line =
        |proof: &Proof| writeln!(out, "{:12} {:>8}  {}", proof.name, proof.full_duration, proof.about);
    match PROOFS.iter().try_for_each(&mut line) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Blocks before those that are measured: as many as fill the ring of the bus, as it is in a bot that has run for an hour.
const WARM_UP: usize = 240;

fn latency(arguments: &LatencyArguments) -> anyhow::Result<()> {
    let load = Load { pools: arguments.pools, ..Load::default() };
    let pace = Duration::from_millis(arguments.pace_ms);
    let measured =
        measure(Plan { load, seed: arguments.seed, blocks: arguments.blocks, warm_up: WARM_UP, pace })?;
    println!(
        "{} transactions, {} logs a block, {} of {} pools touched, a block every {} ms, seed {}",
        load.transactions, load.logs, load.touched, load.pools, arguments.pace_ms, arguments.seed
    );
    println!("{}", measured.table());
    Ok(())
}
