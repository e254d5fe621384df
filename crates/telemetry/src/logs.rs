use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How diagnostics are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// For programs: one JSON object a line.
    Json,
}

/// Why there are no diagnostics.
#[derive(Debug, thiserror::Error)]
pub enum TracingError {
    /// `RUST_LOG` cannot be read.
    #[error("RUST_LOG is no filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something else in the process has set a subscriber already.
    #[error("diagnostics were set up before: {0}")]
    Taken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Without `RUST_LOG`: what this workspace has to say, and from others what is wrong.
const DEFAULT_FILTER: &str = "warn,headwater=info";

/// Sends diagnostics to stderr, filtered by `RUST_LOG`.
///
/// # Errors
///
/// [`TracingError`]: a filter that cannot be read, or a second call.
pub fn init_tracing(format: LogFormat) -> Result<(), TracingError> {
    init_tracing_to(format, std::io::stderr().is_terminal(), std::io::stderr)
}

/// As [`init_tracing`], into `writer`: for whoever shares the terminal with progress bars.
///
/// # Errors
///
/// As [`init_tracing`].
pub fn init_tracing_to<W>(format: LogFormat, colours: bool, writer: W) -> Result<(), TracingError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = filter(from_environment().as_deref())?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Human => builder.with_ansi(colours).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(TracingError::Taken)
}

#[expect(clippy::disallowed_methods, reason = "RUST_LOG is where everybody looks for the log filter")]
fn from_environment() -> Option<String> {
    std::env::var("RUST_LOG").ok()
}

fn filter(given: Option<&str>) -> Result<EnvFilter, TracingError> {
    let directives = given.filter(|given| !given.trim().is_empty()).unwrap_or(DEFAULT_FILTER);
    Ok(EnvFilter::builder().parse(directives)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: Option<&str>, expected: Option<&[&str]>) {
        let filter = filter(given).ok().map(|filter| filter.to_string());
        let mut found: Option<Vec<_>> = filter.as_deref().map(|text| text.split(',').collect());
        found.iter_mut().for_each(|directives| directives.sort_unstable());
        assert_eq!(found.as_deref(), expected, "{given:?}");
    }

    #[test]
    fn the_filter_of_the_environment_replaces_the_default() {
        check(None, Some(&["headwater=info", "warn"]));
        check(Some(" "), Some(&["headwater=info", "warn"]));
        check(Some("headwater_node=trace"), Some(&["headwater_node=trace"]));
        check(Some("headwater=louder"), None);
    }
}
