use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use headwater_bus::{EventHandler, Stage, Stamps, Timeline};
use headwater_events::{BusEvent, Envelope, Grade};
use serde::Serialize;

use crate::in_flight::InFlight;

/// Histograms of the stages that blocks pass, by grade of completeness.
#[derive(Clone, Debug)]
pub struct Latencies {
    timeline: Timeline,
    grades: Arc<Mutex<BTreeMap<Grade, Stages>>>,
}

/// The histograms of one grade, in the order of [`Stage::ALL`].
#[derive(Debug, Default)]
struct Stages {
    blocks: u64,
    stages: [StageHistograms; Stage::ALL.len()],
}

#[derive(Debug)]
struct StageHistograms {
    since_first: Histogram<u64>,
    own: Histogram<u64>,
}

impl Default for StageHistograms {
    fn default() -> Self {
        // Whole from the start, 36 KiB: one that grows with what it is given takes more with every delay that is longer than all before.
        let histogram =
            || Histogram::new_with_max(LONGEST, 2).expect("two digits up to an hour are supported");
        Self { since_first: histogram(), own: histogram() }
    }
}

/// Longer than this is told as this, in nanoseconds: an hour.
const LONGEST: u64 = 3_600_000_000_000;

impl StageHistograms {
    fn record(&mut self, since_first: u64, own: u64) {
        for (histogram, nanos) in [(&mut self.since_first, since_first), (&mut self.own, own)] {
            histogram.record(nanos.min(LONGEST)).expect("it reaches that far");
        }
    }
}

impl Latencies {
    /// Empty histograms over the stamps of `timeline`.
    pub fn new(timeline: &Timeline) -> Self {
        Self { timeline: timeline.clone(), grades: Arc::default() }
    }

    /// What collects the stamps of blocks that are done; to be registered on the bus.
    pub fn handler(&self) -> LatencyHandler {
        LatencyHandler { latencies: self.clone(), in_flight: InFlight::new(&self.timeline) }
    }

    /// Adds the stamps of a block that is done.
    pub fn record(&self, grade: Grade, stamps: &Stamps) {
        let mut grades = self.lock();
        let stages = grades.entry(grade).or_default();
        stages.blocks += 1;
        for stage in Stage::ALL {
            let Some(since_first) = stamps.since_first(stage) else { continue };
            let histograms = &mut stages.stages[stage as usize];
            histograms.record(since_first, since_first.saturating_sub(begin_of(stage, stamps)));
        }
    }

    /// The percentiles so far.
    pub fn report(&self) -> LatencyReport {
        LatencyReport {
            by_grade: self.lock().iter().map(|(grade, stages)| (grade.as_str(), stages.report())).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Grade, Stages>> {
        self.grades.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the stages that a stage waits for were over, in nanoseconds since the first stamp.
fn begin_of(stage: Stage, stamps: &Stamps) -> u64 {
    let waits_for: &[Stage] = match stage {
        Stage::LastByte => &[],
        Stage::Published => &[Stage::LastByte],
        Stage::Decoded | Stage::Priced | Stage::Applied => &[Stage::Published],
        Stage::Detected => &[Stage::Decoded, Stage::Priced, Stage::Applied],
        Stage::Received => &[Stage::Detected],
        Stage::Decided => &[Stage::Received],
    };
    waits_for.iter().filter_map(|stage| stamps.since_first(*stage)).max().unwrap_or(0)
}

impl Stages {
    fn report(&self) -> StagesReport {
        let stages = Stage::ALL
            .into_iter()
            .zip(&self.stages)
            .filter(|(_, histograms)| !histograms.since_first.is_empty())
            .map(|(stage, histograms)| StageReport {
                stage: stage.as_str(),
                since_first: Percentiles::of(&histograms.since_first),
                own: Percentiles::of(&histograms.own),
            })
            .collect();
        StagesReport { blocks: self.blocks, stages }
    }
}

/// The latencies of a run. All figures are nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct LatencyReport {
    /// By grade of completeness, weakest first where compared by name.
    pub by_grade: BTreeMap<&'static str, StagesReport>,
}

/// The latencies of the blocks of one grade.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StagesReport {
    /// Blocks measured.
    pub blocks: u64,
    /// The stages that were reached, in their order.
    pub stages: Vec<StageReport>,
}

/// The latencies of one stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StageReport {
    /// The stage.
    pub stage: &'static str,
    /// Since the last byte of the block was read, or since its publication where it came over no socket.
    pub since_first: Percentiles,
    /// Since the last of the stages that this one waits for was over.
    pub own: Percentiles,
}

/// Of a histogram with two significant digits: up to one percent above what was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Percentiles {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    #[serde(rename = "p99.9")]
    pub p99_9: u64,
    pub max: u64,
    pub count: u64,
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p99_9: histogram.value_at_quantile(0.999),
            max: histogram.max(),
            count: histogram.len(),
        }
    }
}

/// Collects the stamps of blocks that are done.
#[derive(Debug)]
pub struct LatencyHandler {
    latencies: Latencies,
    in_flight: InFlight<Grade>,
}

impl EventHandler for LatencyHandler {
    fn interested_in(&self, event: &BusEvent) -> bool {
        matches!(event, BusEvent::NewBlock(_))
    }

    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        if let BusEvent::NewBlock(block) = &envelope.event {
            self.in_flight.push(Some(envelope.seq), block.grade);
        }
        while let Some((grade, stamps)) = self.in_flight.pop_done() {
            stamps.iter().for_each(|stamps| self.latencies.record(grade, stamps));
        }
        Ok(())
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        while let Some((grade, stamps)) = self.in_flight.pop_any() {
            stamps.iter().for_each(|stamps| self.latencies.record(grade, stamps));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use headwater_bus::{BusConfig, EventBus, Topology, clock};

    use super::*;
    use crate::samples::block;

    #[tokio::test(start_paused = true)]
    async fn a_stage_is_charged_with_what_follows_the_last_that_it_waits_for() {
        let timeline = Timeline::default();
        let latencies = Latencies::new(&timeline);
        let topology = Topology::new();
        let bus = EventBus::new(&BusConfig::default(), &topology, &timeline, None, None);
        let handler = bus.register("latencies", latencies.handler());
        let last_byte = clock::now();
        let micros = |n| tokio::time::advance(Duration::from_micros(n));
        micros(1).await;
        let seq = bus.publisher().publish(block(1), Some(last_byte)).await.expect("open");
        for (pause, stage) in [
            (2, Stage::Decoded),
            (3, Stage::Applied),
            (4, Stage::Priced),
            (5, Stage::Detected),
            (6, Stage::Received),
            (7, Stage::Decided),
        ] {
            micros(pause).await;
            timeline.stamp(seq, stage);
        }
        bus.close_source();
        bus.close_derived();
        handler.await.expect("it ends");

        let report = latencies.report();
        let stages = &report.by_grade["matched"].stages;
        // Three digits: what is read is the upper end of its bucket.
        let found: Vec<_> = stages
            .iter()
            .map(|stage| (stage.stage, stage.since_first.p50 / 1000, stage.own.p50 / 1000))
            .collect();
        assert_eq!(
            found,
            [
                ("last_byte", 0, 0),
                ("published", 1, 1),
                ("decoded", 3, 2),
                ("priced", 10, 9),
                ("applied", 6, 5),
                ("detected", 15, 5),
                ("received", 21, 6),
                ("decided", 28, 7),
            ]
        );
    }

    #[test]
    fn grades_are_kept_apart_and_counted() {
        let timeline = Timeline::default();
        let latencies = Latencies::new(&timeline);
        for (seq, grade) in [(1, Grade::Proven), (2, Grade::Assumed), (3, Grade::Proven)] {
            timeline.begin(seq, None);
            latencies.record(grade, &timeline.read(seq).expect("it was begun"));
        }
        let blocks: Vec<_> =
            latencies.report().by_grade.iter().map(|(grade, stages)| (*grade, stages.blocks)).collect();
        assert_eq!(blocks, [("assumed", 1), ("proven", 2)]);
    }
}
