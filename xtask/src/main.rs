//! `cargo xtask <workflow>`: thin, so that it compiles in seconds. What needs the workspace runs in the tests' workbench.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod mutants;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail, ensure};

const USAGE: &str = "usage: cargo xtask <workflow> [options]

  devnet    a local chain on which seeded traders make prices drift and dip, until Ctrl-C
  demo      the devnet and the supervisor together, live, for a minute
  record    makes the bundled recording from the devnet
  latency   blocks through the whole bot over a real socket, timed, beside the pattern of the seed
  mutants   plants named breakages in a copy of the tree; each must turn the tests red
  prove     one acceptance item of an issue at its full size; --list names them
  test      all tests, anvil included; --offline leaves out, and says so, what needs Node.js

`cargo xtask <workflow> --help` lists the options of all but test and mutants.";

/// Workflows of the workbench, and whether they run an optimised build: where time is part of the result, or long.
const WORKBENCH: [(&str, bool); 5] =
    [("devnet", false), ("demo", true), ("record", true), ("latency", true), ("prove", true)];

/// Proofs whose process can be told to have bugs.
const CHAOS: [&str; 2] = ["chaos", "soak"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let (workflow, rest) = arguments.split_first().context(USAGE)?;
    match workflow.as_str() {
        "test" => test(rest),
        "mutants" => mutants::run(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        name => match WORKBENCH.iter().find(|(known, _)| *known == name) {
            Some((_, release)) => workbench(*release, arguments),
            None => bail!("there is no workflow {name:?}\n{USAGE}"),
        },
    }
}

/// Runs a workflow of the workbench, with the supervisor built beside it.
fn workbench(release: bool, arguments: &[String]) -> anyhow::Result<()> {
    let profile: &[&str] = if release { &["--release"] } else { &[] };
    build_supervisor(profile)?;
    if CHAOS.iter().any(|proof| arguments.iter().any(|argument| argument == proof)) {
        let mut build =
            cargo(&["build", "--quiet", "--package", "headwater-tests", "--bin", "headwater-chaos"]);
        succeed(build.args(["--features", "planted-bugs"]).args(profile))?;
    }
    let mut run = cargo(&["run", "--quiet", "--package", "headwater-tests", "--bin", "workbench"]);
    succeed(run.args(profile).arg("--").args(arguments))
}

/// Workflows and tests start the real process; some of them let it die at a fail point.
fn build_supervisor(profile: &[&str]) -> anyhow::Result<()> {
    let mut build = cargo(&["build", "--quiet", "--package", "headwater-supervisor", "--bin", "headwater"]);
    succeed(build.args(["--features", "fail-points"]).args(profile))
}

/// Everything that can be tested here; a part that cannot run fails, unless it was left out by request.
fn test(arguments: &[String]) -> anyhow::Result<()> {
    let offline = match arguments {
        [] => false,
        [flag] if flag == "--offline" => true,
        _ => bail!("usage: cargo xtask test [--offline]"),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let skips = root.join("target/skipped-tests");
    fs::create_dir_all(root.join("target"))?;
    fs::write(&skips, "").with_context(|| format!("writing {}", skips.display()))?;

    build_supervisor(&[])?;
    let mut runner = if nextest_is_there() {
        cargo(&["nextest", "run", "--workspace", "--no-fail-fast"])
    } else {
        eprintln!("cargo-nextest is not installed; running the same tests with cargo test");
        cargo(&["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"])
    };
    runner.env("HEADWATER_SKIPS", &skips);
    if offline {
        runner.env("HEADWATER_OFFLINE", "1");
    }
    let tests = succeed(&mut runner);
    let schedules = succeed(&mut cargo(&SCHEDULES));
    let failing_disk = succeed(&mut cargo(&FAILING_DISK));
    // nextest does not run the examples in the documentation.
    let examples = succeed(&mut cargo(&["test", "--quiet", "--workspace", "--doc"]));
    report_skips(&skips, offline)?;
    tests.and(schedules).and(failing_disk).and(examples)
}

/// The tests in which shuttle decides who goes on; in a build of their own, as its locks work nowhere else.
const SCHEDULES: [&str; 8] =
    ["test", "--quiet", "--package", "headwater-bus", "--features", "shuttle", "--lib", "schedules"];

/// The tests of a disk that fails; in a build of their own, as no other one has the hooks.
const FAILING_DISK: [&str; 8] = [
    "test",
    "--quiet",
    "--package",
    "headwater-journal",
    "--features",
    "fail-points",
    "--test",
    "failing_disk",
];

/// Parts that cannot run without data of the reader's own; they are counted, and fail nobody.
const OPTIONAL: &str = "(HEADWATER_MAINNET is not set)";

fn report_skips(skips: &Path, offline: bool) -> anyhow::Result<()> {
    let skipped = fs::read_to_string(skips)?;
    for part in skipped.lines() {
        println!("skipped: {part}");
    }
    let count = skipped.lines().count();
    println!("{count} parts skipped{}", if offline { " (--offline)" } else { "" });
    let needed = skipped.lines().filter(|part| !part.ends_with(OPTIONAL)).count();
    ensure!(offline || needed == 0, "{needed} parts were skipped although nobody asked for it");
    Ok(())
}

fn nextest_is_there() -> bool {
    cargo(&["nextest", "--version"]).output().is_ok_and(|output| output.status.success())
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("starting {}", command.get_program().display()))?;
    ensure!(status.success(), "{} ended with {status}", describe(command));
    Ok(())
}

fn describe(command: &Command) -> String {
    let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
    format!("cargo {}", arguments.collect::<Vec<_>>().join(" "))
}
