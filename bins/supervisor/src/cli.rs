use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 a failure at run time, 2 bad usage or configuration, 3 a component kept failing";

/// Headwater: real-time EVM searching.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, args_conflicts_with_subcommands = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// How diagnostics are written to stderr (`RUST_LOG` says which).
    #[arg(long, global = true, value_enum, default_value_t)]
    pub log: LogFormat,
    /// What to do; `run` when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The arguments of `run`.
    #[command(flatten)]
    pub run: RunArgs,
}

/// How diagnostics are written.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow a chain; without a configuration and without a URL: replay the bundled recording.
    Run(RunArgs),
    /// Replay a journal or a recording through the same actors. Opens no socket.
    Replay(ReplayArgs),
    /// Look into a journal.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Print the topology: every edge with its channel, capacity and policy.
    Graph(ConfigArgs),
    /// Check a configuration: every error in its text, each with its place, or the first thing that does not fit together.
    Check(ConfigArgs),
}

/// The arguments of `run`.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// The configuration (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A node (ws, wss, http, https or an IPC path), in place of the configured ones.
    #[arg(long, value_name = "URL")]
    pub rpc: Option<String>,
    /// Follow a chain or fail: never fall back to the bundled recording.
    #[arg(long)]
    pub live: bool,
    /// Begin anew, instead of going on with what the last run recorded.
    #[arg(long)]
    pub fresh: bool,
    /// Stop, drained, after this many canonical blocks.
    #[arg(long, value_name = "N")]
    pub blocks: Option<u64>,
    /// Write results as NDJSON to a file, in place of what is in it, or to stdout (`-`).
    #[arg(long, value_name = "FILE|-")]
    pub ndjson: Option<PathBuf>,
}

/// The arguments of `replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// A journal's directory, one of its segments, or a compressed recording.
    pub journal: PathBuf,
    /// The configuration (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write results as NDJSON to a file, in place of what is in it, or to stdout (`-`).
    #[arg(long, value_name = "FILE|-")]
    pub ndjson: Option<PathBuf>,
}

/// What to do with a journal.
#[derive(Clone, Debug, Subcommand)]
pub enum JournalCommand {
    /// What it holds.
    Info {
        /// A journal's directory, one of its segments, or a compressed recording.
        journal: PathBuf,
    },
    /// Whether every record of it is whole and in sequence.
    Verify {
        /// A journal's directory, one of its segments, or a compressed recording.
        journal: PathBuf,
    },
    /// Every record as one line of JSON.
    Dump {
        /// A journal's directory, one of its segments, or a compressed recording.
        journal: PathBuf,
    },
    /// What was set aside because it ended an actor twice.
    Quarantine {
        /// A journal's directory, one of its segments, or a compressed recording.
        journal: PathBuf,
        /// Hand what stems from this event to its actors again, each rebuilt as of the event before; fails if one still does.
        #[arg(long, value_name = "SEQ")]
        retry: Option<u64>,
        /// The configuration of the run (TOML); the defaults where it is absent.
        #[arg(long, value_name = "FILE", requires = "retry")]
        config: Option<PathBuf>,
    },
}

/// Only a configuration.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// The configuration (TOML); the defaults where it is absent.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
