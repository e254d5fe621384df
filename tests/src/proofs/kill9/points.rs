//! Lives that end at a fail point.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use headwater_events::BusEvent;
use headwater_journal::{FailPoint, Recording};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tokio::time::{Instant, interval, timeout_at};

use super::{Generator, Lives, PATIENCE, Size};
use crate::workflows::headwater;

/// What happened at the fail points.
pub(super) struct Died {
    pub(super) points: Vec<&'static str>,
    pub(super) deaths: u64,
    pub(super) skipped: u64,
    /// What the runs with retention had to show.
    pub(super) retained: String,
}

/// Segments of few blocks, of which none stays that is not needed.
const RETENTION: &str = "segment_bytes = 16384\nkeep_bytes = 1\n";

/// Lets lives end at the fail points: those of a run's first moments and of retention in runs of their own, in `folder`.
pub(super) async fn die_at_each(
    lives: &mut Lives,
    random: &mut ChaCha8Rng,
    size: &Size,
    chain: &Mutex<Generator>,
    folder: &Path,
) -> anyhow::Result<Died> {
    let mut died = Died { points: Vec::new(), deaths: 0, skipped: 0, retained: String::new() };
    if !has_fail_points()? {
        ensure!(size.points < FailPoint::ALL.len(), "{REMEDY}");
        crate::devnet::write_skip(REMEDY, "deaths at fail points")?;
        died.skipped = size.points as u64 + 2;
        died.retained = format!("no deaths at fail points: {REMEDY}");
        return Ok(died);
    }
    let (first, later): (Vec<_>, Vec<_>) =
        FailPoint::ALL.iter().copied().partition(|point| point.name().starts_with("about-"));
    let mut later: Vec<_> = later.into_iter().filter(|point| *point != FailPoint::SegmentRemove).collect();
    later.shuffle(random);
    later.truncate(size.points);
    for _round in 0..size.rounds {
        later.shuffle(random);
        for point in &later {
            if matches!(point, FailPoint::TailCut | FailPoint::TailSync) {
                // Something has to be torn first.
                lives.die_at(FailPoint::RecordWriteHalf, random).await?;
                died.deaths += 1;
            }
            lives.die_at(*point, random).await?;
            died.deaths += 1;
        }
    }
    let few = if size.points < first.len() { 1 } else { first.len() };
    let mut first = first;
    first.shuffle(random);
    first.truncate(few);
    for round in 0..size.rounds {
        for point in &first {
            let place = folder.join(format!("first-{}-{round}", point.name()));
            let mut anew = Lives::new(&place, &lives.url, "")?;
            anew.die_at(*point, random).await?;
            died.deaths += 1;
            anew.begin(chain).await?;
            anew.run().with_context(|| format!("behind a death at {}", point.name()))?;
        }
    }
    died.deaths += size.rounds;
    died.retained = retain(&folder.join("retained"), &lives.url, random, size.rounds, chain).await?;
    let points = later.iter().chain(&first).chain([&FailPoint::SegmentRemove]);
    died.points = points.map(|point| point.name()).collect();
    died.points.sort_unstable();
    Ok(died)
}

const REMEDY: &str = "build the supervisor with `cargo build -p headwater-supervisor --features fail-points`, as cargo xtask does";

/// Whether the process was built with them.
fn has_fail_points() -> anyhow::Result<bool> {
    let found = Command::new("grep").args(["-q", "-F", "HEADWATER_FAIL_POINT"]).arg(headwater()?).status()?;
    Ok(found.success())
}

/// Lives that remove what they no longer need of their own record, and die at it.
async fn retain(
    folder: &Path,
    url: &str,
    random: &mut ChaCha8Rng,
    deaths: u64,
    chain: &Mutex<Generator>,
) -> anyhow::Result<String> {
    let mut lives = Lives::new(folder, url, RETENTION)?;
    lives.begin(chain).await?;
    for _death in 0..deaths {
        lives.die_at(FailPoint::SegmentRemove, random).await?;
    }
    let mut process = lives.start(None)?;
    lives.until_written(2).await?;
    process.kill()?;
    let resumed = lives.count("going on with an earlier run")?;
    ensure!(resumed == deaths + 1, "{resumed} of {deaths} lives went on with a record that was cut short");
    let recording = Recording::open(lives.run()?)?;
    let first = recording.first_seq();
    let mut blocks = 0;
    for record in recording.records(first) {
        blocks += usize::from(matches!(record?.envelope.event, BusEvent::NewBlock(_)));
    }
    ensure!(
        first > 1 && blocks >= 64,
        "event {first} is the first that is left, with {blocks} blocks behind it"
    );
    Ok(format!(
        "a run that keeps nothing it does not need: {deaths} deaths while it removed segments, {resumed} lives went on; {first} is the \
         first event left, {blocks} blocks are behind it"
    ))
}

impl Lives {
    /// Starts a life that ends at a fail point, and waits for its end.
    async fn die_at(&mut self, point: FailPoint, random: &mut ChaCha8Rng) -> anyhow::Result<()> {
        let passage = random.random_range(1..=most_passages(point));
        let mut process = self.start(Some(&format!("{}:{passage}", point.name())))?;
        let deadline = Instant::now() + PATIENCE;
        let mut ticks = interval(Duration::from_millis(10));
        while !process.has_ended()? {
            if timeout_at(deadline, ticks.tick()).await.is_err() {
                let log = std::fs::read_to_string(self.log(self.begun - 1))?;
                bail!("it does not come to passage {passage} of {}:\n{log}", point.name());
            }
        }
        if !process.was_aborted()? {
            let log = std::fs::read_to_string(self.log(self.begun - 1))?;
            bail!("it ended otherwise than at {}:\n{log}", point.name());
        }
        Ok(())
    }
}

/// How often a life comes to a point within a moment.
fn most_passages(point: FailPoint) -> u64 {
    match point {
        FailPoint::RecordWrite | FailPoint::RecordWriteHalf => 30,
        FailPoint::SnapshotCreate
        | FailPoint::SnapshotWrite
        | FailPoint::SnapshotWriteHalf
        | FailPoint::SnapshotSync
        | FailPoint::SnapshotRename
        | FailPoint::SnapshotDirectorySync => 6,
        FailPoint::SegmentRemove => 4,
        FailPoint::SnapshotRemove | FailPoint::RecordSync => 2,
        _ => 1,
    }
}
