//! The bundled bot. Process concerns stand here; the bot itself is the picture in `bot.rs`.

use std::process::ExitCode;

use clap::Parser;
use headwater_supervisor::cli::{Cli, Command, LogFormat};
use headwater_supervisor::{Failure, commands, say};
use headwater_telemetry::init_tracing;

/// The system's allocator keeps what each thread once needed: see the workspace's `Cargo.toml` for the measurement.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let format = match cli.log {
        LogFormat::Human => headwater_telemetry::LogFormat::Human,
        LogFormat::Json => headwater_telemetry::LogFormat::Json,
    };
    match init_tracing(format).map_err(Failure::usage).and_then(|()| run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(format_args!("error: {failure}"));
            ExitCode::from(failure.exit_code())
        }
    }
}

#[tokio::main]
async fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(arguments) => commands::run(arguments).await,
        Command::Replay(arguments) => commands::replay(arguments).await,
        Command::Journal(command) => commands::journal(command),
        Command::Graph(arguments) => commands::graph(arguments).await,
        Command::Check(arguments) => commands::check(arguments),
    }
}

/// What the command line's parser has to say: help, or an error in which a URL is not repeated, as it may hold a secret.
fn refuse(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && error.to_string().contains("://") {
        let text = error.to_string();
        let words = text.split_inclusive(char::is_whitespace);
        let told = words.map(|word| if word.contains("://") { "<a URL>\n" } else { word });
        say(told.collect::<String>().trim_end());
    } else {
        // That nobody reads it is no error.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
