use std::num::NonZeroU64;
use std::time::Duration;

use headwater_events::Grade;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// `[ingest]`: following the chain. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// `"matched"` (default): the logs of a block are believed when their bloom equals the header's and their indices
    /// have no hole; they are asked for again until they do. `"proven"`: the receipts are fetched instead and believed when
    /// they hash to the header's receipts root, which takes a node that serves `eth_getBlockReceipts`. `"assumed"`: a block is
    /// published as soon as its head and the logs that the node pushes beside it are there, without its transactions and
    /// with no other logs than those that are decoded; they are verified by what `"matched"` fetches, before the next
    /// block, and a block that was wrong is undone and published anew. On a chain whose headers carry no bloom the logs
    /// are taken as `eth_getLogs` gives them.
    #[serde(deserialize_with = "completeness")]
    pub completeness: Grade,
    /// Milliseconds without a further pushed log after which those of a block are taken for all, where completeness is
    /// `"assumed"`: a node does not say which is the last. Default 2.
    pub assumed_after_ms: NonZeroU64,
    /// Milliseconds within which the node must give a block that it announced, with all its logs. Default 2,000.
    pub complete_within_ms: NonZeroU64,
    /// Most milliseconds without a new head until the node is asked for it, and the other endpoints with it; less where
    /// two and a half block times are less. Default 30,000.
    pub head_timeout_ms: NonZeroU64,
    /// Milliseconds from one block to the next. Absent (default): measured, as the mean of the timestamps of the last 16
    /// blocks, and at least 250.
    pub block_time_ms: Option<NonZeroU64>,
    /// Blocks that are fetched at the same time when several are missing. Default 32.
    pub backfill_batch: NonZeroU64,
    /// Least milliseconds from one attempt to connect to an endpoint to the next. Default 1,000.
    pub reconnect_min_ms: NonZeroU64,
    /// Most milliseconds from one attempt to connect to an endpoint to the next. Default 30,000.
    pub reconnect_max_ms: NonZeroU64,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            completeness: Grade::Matched,
            assumed_after_ms: const { NonZeroU64::new(2).expect("not zero") },
            complete_within_ms: const { NonZeroU64::new(2_000).expect("not zero") },
            head_timeout_ms: const { NonZeroU64::new(30_000).expect("not zero") },
            block_time_ms: None,
            backfill_batch: const { NonZeroU64::new(32).expect("not zero") },
            reconnect_min_ms: const { NonZeroU64::new(1_000).expect("not zero") },
            reconnect_max_ms: const { NonZeroU64::new(30_000).expect("not zero") },
        }
    }
}

impl IngestConfig {
    pub(crate) fn assumed_after(&self) -> Duration {
        Duration::from_millis(self.assumed_after_ms.get())
    }

    pub(crate) fn complete_within(&self) -> Duration {
        Duration::from_millis(self.complete_within_ms.get())
    }

    pub(crate) fn head_timeout(&self) -> Duration {
        Duration::from_millis(self.head_timeout_ms.get())
    }

    pub(crate) fn backfill_batch(&self) -> usize {
        usize::try_from(self.backfill_batch.get()).unwrap_or(usize::MAX)
    }
}

fn completeness<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Grade, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "matched" => Ok(Grade::Matched),
        "assumed" => Ok(Grade::Assumed),
        "proven" => Ok(Grade::Proven),
        other => Err(D::Error::custom(format_args!(
            "unknown completeness {other:?}; expected \"proven\", \"matched\" or \"assumed\""
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<IngestConfig, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_a_configuration() {
        assert_eq!(parse(""), Ok(IngestConfig::default()));
        assert_eq!(parse("completeness = \"matched\""), Ok(IngestConfig::default()));
        for grade in [Grade::Assumed, Grade::Matched, Grade::Proven] {
            let text = format!("completeness = \"{}\"", grade.as_str());
            assert_eq!(parse(&text).map(|config| config.completeness), Ok(grade));
        }
    }

    #[test]
    fn unknown_keys_unknown_grades_and_zeros_are_refused() {
        for (text, words) in [
            ("completness = \"matched\"", "unknown field"),
            ("completeness = \"perfect\"", "expected \"proven\", \"matched\" or \"assumed\""),
            ("head_timeout_ms = 0", "nonzero"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(words), "{error}");
        }
    }
}
