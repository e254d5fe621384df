//! One life under every fault that does not end it, looked at from outside: what it holds must not grow.

use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::{Instant, sleep};

use super::{Plan, Stage, judge, keep, runtime};
use crate::proof::{Proof, ProofArgs, Report};

/// Half an hour of chaos.
pub const SOAK: Proof = Proof {
    name: "soak",
    about: "half an hour of chaos in one life: memory grows by less than 1 MiB an hour, tasks and descriptors do not",
    full_duration: "31 min",
    run,
};

/// Without `--minutes`.
const MINUTES: u64 = 30;
const SAMPLE: Duration = Duration::from_secs(8);
/// Of the whole time; the rings and the histories fill meanwhile.
const WARM_UP: f64 = 1.0 / 3.0;
/// From one lull to the next, so many in a full run.
const LULLS: u32 = 36;
/// Of what a fault needed for itself, nothing is left after so long; a look is taken then.
const CALMED: Duration = Duration::from_secs(4);
/// A block on its way takes MiB for a moment; the least that is seen is what stays.
const LOOKS: usize = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// MiB an hour.
const MOST_GROWTH: f64 = 1.0;
/// Tasks and descriptors that the medians of the first and the last third may lie apart.
const MOST_APART: f64 = 2.0;

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let mut plan = Plan::of(args)?;
    if !args.quick && !args.rest.iter().any(|word| word == "--minutes") {
        plan.length = Duration::from_secs(60 * MINUTES);
    }
    if args.quick {
        plan.length = SAMPLE;
    }
    plan.kinds.retain(|kind| !kind.ends_the_process());
    runtime()?.block_on(soak(&plan, args.quick))
}

async fn soak(plan: &Plan, is_sample: bool) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir()?;
    let stage = Stage::start(plan, folder.path()).await?;
    let process = stage.lives.id().context("nobody lives")?;
    let mut samples = Vec::new();
    let lulls = if is_sample { 2 } else { LULLS };
    let pause = plan.length / lulls - CALMED.min(plan.length / (2 * lulls));
    let raged = tokio::select! {
        raged = stage.rage(plan) => raged,
        sampled = watch(&stage, process, pause, &mut samples) => sampled,
    };
    raged.inspect_err(|_| keep(folder.path(), &stage.lives, plan))?;
    stage.settle().await?;
    let mut lines = vec![stage.ledger().table()];
    let seen = Seen::of(&samples);
    lines.extend(seen.iter().flat_map(Seen::lines));
    judge::judge(&stage.chain(), &stage.lives)
        .inspect_err(|_| keep(folder.path(), &stage.lives, plan))
        .with_context(|| lines.join("\n"))?;
    ensure!(stage.lives.count() == 1, "it did not live through");
    let floor = if is_sample { 1 } else { u64::from(lulls) * 2 / 3 };
    let report = Report { checked: samples.len() as u64, floor, skipped: 0, seed: plan.seed, lines };
    if !is_sample {
        seen.context("too few lulls")?.judge().with_context(|| report.to_string())?;
    }
    Ok(report)
}

/// What the process held in a lull.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    hours: f64,
    resident_mib: f64,
    /// What of it is allocated, as the allocator counts it.
    heap_mib: f64,
    descriptors: f64,
    tasks: f64,
}

/// Looks at the process in one lull after the other. Under faults its memory rises and falls by tens of MiB, and whether the
/// least that it needs grows could not be told for hours.
async fn watch(
    stage: &Stage,
    process: u32,
    pause: Duration,
    samples: &mut Vec<Sample>,
) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        sleep(pause).await;
        let _calm = stage.calm.write().await;
        stage.until_caught_up(Instant::now()).await?;
        sleep(CALMED.min(pause)).await;
        let mut looks = Vec::with_capacity(LOOKS);
        for _ in 0..LOOKS {
            sleep(BETWEEN_LOOKS).await;
            looks.push(look(stage, process, began)?);
        }
        let of = |value: fn(&Sample) -> f64| looks.iter().map(value).fold(f64::INFINITY, f64::min);
        samples.push(Sample {
            hours: of(|one| one.hours),
            resident_mib: of(|one| one.resident_mib),
            heap_mib: of(|one| one.heap_mib),
            descriptors: of(|one| one.descriptors),
            tasks: of(|one| one.tasks),
        });
    }
}

fn look(stage: &Stage, process: u32, began: Instant) -> anyhow::Result<Sample> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let shown = stage.lives.shown();
    let kib: f64 = resident.trim().trim_end_matches("kB").trim().parse()?;
    Ok(Sample {
        hours: began.elapsed().as_secs_f64() / 3_600.0,
        resident_mib: kib / 1_024.0,
        heap_mib: shown.heap.context("it does not tell its heap")? as f64 / f64::from(1 << 20),
        descriptors: fs::read_dir(format!("/proc/{process}/fd"))?.count() as f64,
        tasks: shown.tasks.context("it does not tell its tasks")? as f64,
    })
}

/// What the samples behind the warm-up say.
#[derive(Debug)]
struct Seen {
    /// MiB an hour, and between what the true slope lies with 95 % (Sen 1968).
    growth: (f64, f64, f64),
    /// The same of the heap in use.
    heap_growth: (f64, f64, f64),
    resident: (f64, f64),
    /// Medians of the first and the last third.
    descriptors: (f64, f64),
    tasks: (f64, f64),
    /// Resident memory and the heap in use in each lull, those of the warm-up included.
    course: Vec<(f64, f64)>,
}

impl Seen {
    fn of(samples: &[Sample]) -> Option<Self> {
        let warm = &samples[(samples.len() as f64 * WARM_UP) as usize..];
        let growth = |value: fn(&Sample) -> f64| {
            theil_sen(&warm.iter().map(|one| (one.hours, value(one))).collect::<Vec<_>>())
        };
        let third = (warm.len() / 3).max(1);
        let thirds = |value: fn(&Sample) -> f64| {
            Some((median(warm.get(..third)?, value), median(warm.get(warm.len() - third..)?, value)))
        };
        Some(Self {
            growth: growth(|one| one.resident_mib)?,
            heap_growth: growth(|one| one.heap_mib)?,
            resident: thirds(|one| one.resident_mib)?,
            descriptors: thirds(|one| one.descriptors)?,
            tasks: thirds(|one| one.tasks)?,
            course: samples.iter().map(|one| (one.resident_mib, one.heap_mib)).collect(),
        })
    }

    fn lines(&self) -> Vec<String> {
        let grows = |what: &str, (slope, low, high): (f64, f64, f64)| {
            format!(
                "{what} grows by {slope:.2} MiB an hour (Theil–Sen over the lulls, 95 % interval {low:.2} to {high:.2})"
            )
        };
        let pair = |(first, last): (f64, f64)| format!("{first:.1} and {last:.1}");
        let course: Vec<_> =
            self.course.iter().map(|(resident, heap)| format!("{resident:.1}/{heap:.1}")).collect();
        vec![
            grows("resident memory", self.growth),
            grows("the heap in use", self.heap_growth),
            format!(
                "medians of the first and the last third behind the warm-up: {} MiB",
                pair(self.resident)
            ),
            format!("resident/in use in each lull from the start on, in MiB: {}", course.join(" ")),
            format!("descriptors {}, tasks {}", pair(self.descriptors), pair(self.tasks)),
        ]
    }

    fn judge(&self) -> anyhow::Result<()> {
        let (slope, ..) = self.growth;
        ensure!(slope < MOST_GROWTH, "memory grows by {slope:.2} MiB an hour");
        for (what, (first, last)) in [("descriptors", self.descriptors), ("tasks", self.tasks)] {
            ensure!(last - first <= MOST_APART, "{what} grow from {first} to {last}");
        }
        Ok(())
    }
}

fn median(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The median of the slopes between all pairs of points, and the ends of its 95 % interval by their ranks (P. K. Sen,
/// Estimates of the regression coefficient based on Kendall's tau, 1968).
fn theil_sen(points: &[(f64, f64)]) -> Option<(f64, f64, f64)> {
    let mut slopes = Vec::new();
    for (index, (x, y)) in points.iter().enumerate() {
        slopes.extend(points[index + 1..].iter().map(|(later, other)| (other - y) / (later - x)));
    }
    slopes.sort_by(f64::total_cmp);
    let (count, pairs) = (points.len() as f64, slopes.len() as f64);
    let spread = 1.96 * (count * (count - 1.0) * (2.0 * count + 5.0) / 18.0).sqrt();
    let at = |rank: f64| slopes.get((rank.max(0.0) as usize).min(slopes.len().checked_sub(1)?)).copied();
    Some((at(pairs / 2.0)?, at((pairs - spread) / 2.0)?, at((pairs + spread) / 2.0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(growth: f64, more_tasks: f64) -> Vec<Sample> {
        let sample = |lull: u32| {
            let hours = f64::from(50 * lull) / 3_600.0;
            let spike = if lull.is_multiple_of(7) { 30.0 } else { 0.0 };
            let noise = f64::from(lull * 7_919 % 13) / 100.0;
            let tasks = 20.0 + more_tasks * hours;
            Sample {
                hours,
                resident_mib: 50.0 + growth * hours + spike + noise,
                heap_mib: 30.0,
                descriptors: 30.0,
                tasks,
            }
        };
        (0..LULLS).map(sample).collect()
    }

    #[test]
    fn growth_is_seen_through_spikes() {
        assert!(Seen::of(&samples(0.0, 0.0)).is_some_and(|seen| seen.judge().is_ok()));
        assert!(Seen::of(&samples(3.0, 0.0)).is_some_and(|seen| seen.judge().is_err()));
        assert!(Seen::of(&samples(0.0, 20.0)).is_some_and(|seen| seen.judge().is_err()));
        let (slope, low, high) =
            theil_sen(&[(0.0, 0.0), (1.0, 2.0), (2.0, 4.0), (3.0, 6.0), (4.0, 90.0)]).expect("points");
        assert!(low <= slope && slope <= high && slope == 2.0, "{low} {slope} {high}");
    }
}
