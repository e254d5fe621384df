#![doc = include_str!("../README.md")]

mod in_flight;
mod latencies;
mod logs;
mod ndjson;
#[cfg(test)]
mod samples;
mod summary;

pub use latencies::{Latencies, LatencyHandler, LatencyReport, Percentiles, StageReport, StagesReport};
pub use logs::{LogFormat, TracingError, init_tracing, init_tracing_to};
pub use ndjson::{Ndjson, NdjsonError, NdjsonSink};
pub use summary::{EdgeSummary, SetAside, Summary, Tally, TallyHandler};
