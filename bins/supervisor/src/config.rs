//! The configuration: the crates' own tables, composed.

use std::fmt;
use std::path::{Path, PathBuf};

use headwater_decoder::DecoderConfig;
use headwater_detectors::{ArbitrageConfig, LiquidationConfig, MempoolConfig};
use headwater_executor::ExecutorConfig;
use headwater_ingest::IngestConfig;
use headwater_journal::JournalConfig;
use headwater_market::MarketConfig;
use headwater_node::NodeConfig;
use headwater_oracle::OracleConfig;
use headwater_state::StateConfig;
use serde::Deserialize;

/// `headwater.toml`. Every table may be absent; unknown keys are refused.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The node to follow. Absent: the bundled recording is replayed.
    pub node: Option<NodeConfig>,
    /// Factories, base tokens, presets.
    pub market: MarketConfig,
    /// Following the chain.
    pub ingest: IngestConfig,
    /// Pending transactions, and what is found behind them.
    pub mempool: MempoolConfig,
    /// Logs and calldata.
    pub decoder: DecoderConfig,
    /// Prices.
    pub oracle: OracleConfig,
    /// Head, fees, pools.
    pub state: StateConfig,
    /// The strategies.
    pub detectors: DetectorsConfig,
    /// Simulation and judgement.
    pub executor: ExecutorConfig,
    /// The record of a live run.
    pub journal: JournalConfig,
}

/// `[detectors]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectorsConfig {
    /// Cycles of pools.
    pub arbitrage: ArbitrageConfig,
    /// Positions that may be liquidated, where a lending pool is configured.
    pub liquidation: LiquidationConfig,
}

/// Why a configuration is refused: every error that was found.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is wrong.
    #[error("{}", Listed(path, faults))]
    Faulty {
        /// The file.
        path: PathBuf,
        /// What is wrong, in the order of the text.
        faults: Vec<Fault>,
    },
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

struct Listed<'a>(&'a Path, &'a [Fault]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.1.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            let Fault { line, column, message } = fault;
            write!(f, "{separator}{}:{line}:{column}: {message}", self.0.display())?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|faults| ConfigError::Faulty { path: path.to_owned(), faults })
    }

    /// Parses a configuration; on failure says everything that is wrong with it.
    ///
    /// The parser stops at its first error, so what it complains of is blanked out and it is asked again.
    ///
    /// # Errors
    ///
    /// Every fault, in the order of the text.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut rest = text.to_owned();
        loop {
            let error = match toml::from_str(&rest) {
                Ok(config) if faults.is_empty() => return Ok(config),
                Ok(_) => break,
                Err(error) => error,
            };
            let at = error.span().map_or(0, |span| span.start).min(rest.len());
            faults.push(fault(text, at, error.message()));
            if !blank_out(&mut rest, at) {
                break;
            }
        }
        // What is said to be missing may only have been blanked out.
        let blamed: Vec<_> = faults.iter().filter_map(|fault| text.lines().nth(fault.line - 1)).collect();
        let is_there = |fault: &Fault| {
            let key = fault.message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
            key.is_some_and(|key| blamed.iter().any(|line| line.trim_start().starts_with(key)))
        };
        let mut faults: Vec<_> = faults.iter().filter(|fault| !is_there(fault)).cloned().collect();
        faults.sort_by_key(|fault| (fault.line, fault.column));
        Err(faults)
    }
}

fn fault(text: &str, at: usize, message: &str) -> Fault {
    let before = text.get(..at).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    Fault { line, column: at - line_start + 1, message: without_text(&message.trim().replace('\n', "; ")) }
}

/// The parser repeats a text that is not what it expects, and that may be a URL with a key.
fn without_text(message: &str) -> String {
    let Some((before, rest)) = message.split_once("string \"") else { return without_urls(message) };
    let after = rest.rsplit_once('"').map_or("", |(_, after)| after);
    format!("{before}a string{after}")
}

/// Names of keys and of variants are told, unless they are URLs.
fn without_urls(message: &str) -> String {
    let is_url = |word: &str| {
        word.split_once("://").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_alphanumeric()))
    };
    let words: Vec<_> = message.split(' ').map(|word| if is_url(word) { "(a URL)" } else { word }).collect();
    words.join(" ")
}

/// Blanks out the line at `at`, and if it begins a table the whole table, keeping every other byte in its place. Says
/// whether that changed anything.
fn blank_out(text: &mut String, at: usize) -> bool {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = |from: usize| text[from..].find('\n').map_or(text.len(), |offset| from + offset);
    let mut end = line_end(start);
    if text[start..end].trim_start().starts_with('[') {
        while end < text.len() && !text[end + 1..line_end(end + 1)].trim_start().starts_with('[') {
            end = line_end(end + 1);
        }
    }
    let blank: String = text[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
    let changed = blank.len() == end - start && blank != text[start..end];
    if changed {
        text.replace_range(start..end, &blank);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(usize, &str)]) {
        let faults = Config::parse(text).err().unwrap_or_default();
        let found: Vec<_> = faults.iter().map(|fault| (fault.line, fault.message.as_str())).collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((line, message), (expected_line, part)) in found.iter().zip(expected) {
            assert!(line == expected_line && message.contains(part), "{found:?}");
        }
    }

    #[test]
    fn an_empty_configuration_is_the_defaults() {
        check("", &[]);
    }

    #[test]
    fn every_error_is_named_with_its_line() {
        check(
            "[market]\npreset = \"mars\"\n\n[detectors.arbitrage]\nmax_hopps = 3\nmax_hops = \"three\"\n\n[wallet]\nkey = 1\n",
            &[(2, "mars"), (5, "max_hopps"), (6, "invalid type"), (8, "wallet")],
        );
    }

    #[test]
    fn text_that_is_not_toml_is_one_error() {
        check("[node\nurls = 3", &[(1, "")]);
    }

    #[test]
    fn a_url_of_a_wrong_kind_is_refused_without_repeating_it() {
        let faults =
            Config::parse("[node]\nurls = [\"ftp://user:secret@host/key\"]\n").err().unwrap_or_default();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(!faults[0].message.contains("secret"), "{faults:?}");
    }

    #[test]
    fn a_url_in_a_wrong_place_is_not_repeated() {
        for text in [
            "[node]\nurls = \"ws://host/secret\"\n",
            "[node]\nurls = []\nchain_id = \"ws://host/\\\"secret\"\n",
            "node = \"ws://host/secret\"\n",
            "[market]\nmax_pools = \"ws://host/secret\"\n",
            "[market]\npreset = \"ws://host/secret\"\n",
            "[market]\n\"ws://host/secret\" = 1\n",
        ] {
            let faults = Config::parse(text).err().unwrap_or_default();
            assert_eq!(faults.len(), 1, "{faults:?}");
            let message = &faults[0].message;
            assert!(message.contains("expected") && !message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn a_value_that_is_refused_is_not_said_to_be_missing_as_well() {
        check("[ingest]\nfoo = 1\n[node]\nurls = [\"ftp://host\"]\n", &[(2, "foo"), (4, "not a node URL")]);
    }
}
