//! Handmade files, of any age.

use headwater_bus::{Backlog, BacklogError};
use headwater_events::RunId;
use tempfile::TempDir;

use super::*;
use crate::appender::Appender;
use crate::samples::envelopes;
use crate::{Journal, JournalBacklog, Recording};

/// The present of these tests.
const NOW: Duration = Duration::from_hours(1_000);
/// The run that removes.
const OWN: u64 = 9;

/// A journal's directory, with runs whose segments hold one event each and are all of one size.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().expect("a temporary directory"))
    }

    fn config(&self) -> JournalConfig {
        JournalConfig { segment_bytes: 1, ..JournalConfig::in_directory(self.0.path()).of_run(RunId(OWN)) }
    }

    fn run(&self, run: u64) -> PathBuf {
        JournalConfig::in_directory(self.0.path()).of_run(RunId(run)).directory
    }

    /// A run whose segments have these ages in hours, oldest first; the last of them is begun and empty.
    fn with(self, run: u64, ages: &[u64]) -> Self {
        let directory = self.run(run);
        fs::create_dir_all(&directory).expect("it can be made");
        fs::write(directory.join(DESCRIPTION), "{}").expect("it can be written");
        let mut appender = Appender::new(directory.clone(), RunId(run), 1, 1, 1);
        appender.begin_segment().expect("it begins");
        for seq in 1..ages.len() as u64 {
            appender.append(&envelopes([seq])).expect("it appends");
        }
        for ((_, file), age) in segment_files(&directory).expect("it is there").iter().zip(ages) {
            let file = File::options().append(true).open(file).expect("it is there");
            file.set_modified(UNIX_EPOCH + NOW - Duration::from_hours(*age)).expect("any time will do");
        }
        self
    }

    fn apply(&self, keep_bytes: u64, keep_hours: u64, needed_from: u64) -> Removed {
        let config = JournalConfig { keep_bytes, keep_hours, ..self.config() };
        Retention::new(&config, Some(self.0.path().into())).apply(needed_from, NOW)
    }

    /// The indices of the segments of a run.
    fn left(&self, run: u64) -> Vec<u32> {
        let files = segment_files(&self.run(run)).unwrap_or_default();
        files.into_iter().map(|(index, _)| index).collect()
    }
}

const ALL: u64 = u64::MAX;

#[test]
fn nothing_is_removed_unless_it_was_asked_for() {
    let place = Place::new().with(1, &[900, 900]).with(OWN, &[800, 800, 800, 800]);
    assert_eq!(place.apply(0, 0, ALL), Removed::default());
    assert_eq!((place.left(1), place.left(OWN)), (vec![1, 2], vec![1, 2, 3, 4]));
}

#[test]
fn what_is_too_old_goes_oldest_first_and_the_newest_two_segments_stay() {
    let place = Place::new().with(OWN, &[50, 40, 30, 20, 0]);
    let removed = place.apply(0, 35, ALL);
    assert_eq!((removed.runs, removed.segments, place.left(OWN)), (0, 2, vec![3, 4, 5]));
    assert_eq!(place.apply(0, 1, ALL).segments, 1);
    assert_eq!(place.apply(1, 1, ALL), Removed::default());
    assert_eq!(place.left(OWN), [4, 5]);
}

#[test]
fn an_old_segment_behind_a_young_one_stays_so_that_there_is_no_hole() {
    let place = Place::new().with(OWN, &[1, 50, 50, 50, 0]);
    assert_eq!(place.apply(0, 35, ALL), Removed::default());
}

#[test]
fn what_is_too_much_goes_oldest_first() {
    let place = Place::new().with(OWN, &[0; 6]);
    let sizes: Vec<_> = units(&place.run(OWN)).expect("it is there").iter().map(|unit| unit.bytes).collect();
    let kept: u64 = sizes[2..].iter().sum();
    let removed = place.apply(kept, 0, ALL);
    assert_eq!((removed.segments, removed.bytes), (2, sizes[0] + sizes[1]));
    assert_eq!(place.left(OWN), [3, 4, 5, 6]);
    assert_eq!(place.apply(kept, 0, ALL), Removed::default());
    assert_eq!(place.apply(kept - 1, 0, ALL).segments, 1);
}

#[test]
fn what_is_needed_stays() {
    // Segment n holds event n.
    let place = Place::new().with(OWN, &[50; 6]);
    assert_eq!(place.apply(1, 1, 1), Removed::default());
    assert_eq!(place.apply(1, 1, 3).segments, 2);
    assert_eq!(place.left(OWN), [3, 4, 5, 6]);
}

#[test]
fn older_runs_go_first_and_whole() {
    let place = Place::new().with(1, &[50, 50]).with(2, &[40, 10]).with(OWN, &[0; 4]);
    let removed = place.apply(0, 35, ALL);
    assert_eq!((removed.runs, removed.segments), (1, 0));
    assert!(!place.run(1).exists());
    assert_eq!((place.left(2), place.left(OWN)), (vec![1, 2], vec![1, 2, 3, 4]));
    let own: u64 = units(&place.run(OWN)).expect("it is there").iter().map(|unit| unit.bytes).sum();
    let removed = place.apply(own, 0, ALL);
    assert_eq!((removed.runs, removed.segments, place.run(2).exists()), (1, 0, false));
}

#[test]
fn a_run_that_is_being_written_stays() {
    let place = Place::new().with(1, &[900, 900]).with(OWN, &[0, 0]);
    let config = JournalConfig { directory: place.run(1), ..place.config() };
    let running = Journal::open(&config, RunId(1)).expect("it is free");
    assert_eq!(place.apply(1, 1, ALL), Removed::default());
    drop(running);
    assert_eq!(place.apply(1, 1, ALL).runs, 1);
}

#[test]
fn what_is_no_run_is_not_touched() {
    let place = Place::new().with(1, &[900, 900]).with(OWN, &[0, 0]);
    let kept = place.0.path().join("kept");
    fs::rename(place.run(1), &kept).expect("it can be renamed");
    fs::create_dir(place.run(2)).expect("it can be made");
    fs::write(place.run(2).join("notes"), "mine").expect("it can be written");
    let place = place.with(3, &[900]);
    fs::write(place.run(3).join("notes"), "mine").expect("it can be written");
    assert_eq!(place.apply(1, 1, ALL).runs, 1);
    assert!(kept.join("00000001.hwj").exists() && place.run(2).join("notes").exists());
    assert_eq!(fs::read_dir(place.run(3)).expect("it is there").count(), 1, "what is not ours stays");
}

#[test]
fn a_directory_that_does_not_open_up_stops_nothing() {
    let place = Place::new().with(OWN, &[50, 50, 50]);
    let config = JournalConfig { keep_hours: 1, ..place.config() };
    let missing = Some(place.0.path().join("missing"));
    assert_eq!(Retention::new(&config, missing).apply(ALL, NOW).segments, 1);
}

#[test]
fn the_backlog_says_what_is_gone() {
    let place = Place::new().with(OWN, &[50; 6]);
    let recorded = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(5));
    let backlog = JournalBacklog::of_journal(place.run(OWN), recorded);
    let first = backlog.read(1, 1).expect("it is there");
    assert_eq!(first.len(), 1);
    assert_eq!(place.apply(1, 1, 4).segments, 3);
    for wanted in 1..=3 {
        let gone = backlog.read(wanted, 3);
        assert!(matches!(gone, Err(BacklogError::Gone { oldest: 4, .. })), "{wanted}: {gone:?}");
    }
    let kept: Vec<_> = backlog.read(4, 9).expect("it is kept").iter().map(|event| event.seq).collect();
    assert_eq!(kept, [4, 5]);
    assert_eq!(Recording::open(place.run(OWN)).expect("it holds").first_seq(), 4);
}
