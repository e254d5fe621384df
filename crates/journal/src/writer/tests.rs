use std::fs;
use std::time::Duration;

use headwater_bus::{Backlog, BacklogError, BusConfig, EventBus, Timeline, Topology};
use headwater_events::{BusEvent, Reconnected, RunId};
use tempfile::TempDir;

use super::*;
use crate::samples::envelopes;
use crate::{Journal, Recording, verify};

fn config(directory: &TempDir) -> JournalConfig {
    JournalConfig { segment_bytes: 300, ..JournalConfig::in_directory(directory.path()) }
}

fn start(directory: &TempDir) -> (JournalWriter, EventBus) {
    let journal = Journal::open(&config(directory), RunId(7)).expect("it is free");
    let config = BusConfig { run_id: RunId(7), first_seq: journal.next_seq(), ..BusConfig::default() };
    let (writer, recorder) = journal.start().expect("it starts");
    let backlog = Arc::new(writer.backlog());
    let bus = EventBus::new(&config, &Topology::new(), &Timeline::default(), Some(recorder), Some(backlog));
    (writer, bus)
}

async fn publish(bus: &EventBus, count: u64) {
    for epoch in 1..=count {
        let event = BusEvent::Reconnected(Reconnected { epoch, endpoint: 0 });
        bus.publisher().publish(event, None).await.expect("the bus is open");
    }
}

async fn recorded(writer: &JournalWriter, seq: u64) {
    writer.status().wait_for(|status| status.recorded >= seq).await.expect("the writer lives");
}

fn seqs(events: &[Arc<Envelope>]) -> Vec<u64> {
    events.iter().map(|envelope| envelope.seq).collect()
}

#[tokio::test]
async fn all_that_the_bus_published_is_in_the_journal_after_closing() {
    let directory = TempDir::new().expect("a temporary directory");
    let (writer, bus) = start(&directory);
    publish(&bus, 1_000).await;
    let status = writer.close().await.expect("it closes");
    assert_eq!((status.recorded, status.synced, status.failure), (1_000, 1_000, None));
    let info = verify(directory.path()).expect("it holds");
    assert_eq!((info.records, info.last_seq, info.bytes), (1_000, 1_000, status.bytes));
    assert_eq!(info.segments.len(), status.segments as usize);
}

#[tokio::test]
async fn a_writer_that_ends_in_good_order_has_not_failed() {
    let directory = TempDir::new().expect("a temporary directory");
    let (writer, bus) = start(&directory);
    publish(&bus, 3).await;
    let (failed, mut status) = (writer.failed(), writer.status());
    // With the last recorder it ends by itself.
    drop(bus);
    status.wait_for(|status| status.complete).await.expect("it says so");
    assert_eq!(writer.close().await.expect("it closes").recorded, 3);
    assert!(tokio::time::timeout(Duration::ZERO, failed).await.is_err(), "it did not fail");
}

#[tokio::test]
async fn what_is_recorded_can_be_read_while_the_writer_goes_on() {
    let directory = TempDir::new().expect("a temporary directory");
    let (writer, bus) = start(&directory);
    let backlog = writer.backlog();
    let mut next = 1;
    for round in 1..=20 {
        publish(&bus, 37).await;
        recorded(&writer, round * 37).await;
        while next <= round * 37 {
            let batch = backlog.read(next, 10).expect("it can be read");
            assert_eq!(batch.first().map(|envelope| envelope.seq), Some(next));
            next += batch.len() as u64;
        }
        assert_eq!(seqs(&backlog.read(next, 10).expect("the end is no error")), [0; 0]);
    }
    assert_eq!(seqs(&backlog.read(3, 4).expect("anywhere")), [3, 4, 5, 6]);
    writer.close().await.expect("it closes");
}

#[tokio::test]
async fn nothing_beyond_what_is_recorded_is_given_out() {
    let directory = TempDir::new().expect("a temporary directory");
    let (writer, bus) = start(&directory);
    publish(&bus, 20).await;
    writer.close().await.expect("it closes");
    let recorded = Arc::new(AtomicU64::new(12));
    let backlog = JournalBacklog::of_journal(directory.path().into(), Arc::clone(&recorded));
    assert_eq!(seqs(&backlog.read(10, 50).expect("it can be read")), [10, 11, 12]);
    recorded.store(15, Ordering::Release);
    assert_eq!(seqs(&backlog.read(13, 50).expect("it can be read")), [13, 14, 15]);
}

#[tokio::test]
async fn a_backlog_says_what_is_gone_and_what_is_damaged() {
    let directory = TempDir::new().expect("a temporary directory");
    let (writer, bus) = start(&directory);
    publish(&bus, 100).await;
    writer.close().await.expect("it closes");
    fs::remove_file(directory.path().join("00000001.hwj")).expect("it is there");
    let recording = Recording::open(directory.path()).expect("old segments may go");
    let oldest = recording.first_seq();
    let backlog = recording.backlog(RunId(9));
    let gone = backlog.read(1, 5).expect_err("it is gone");
    assert!(matches!(gone, BacklogError::Gone { wanted: 1, oldest: first } if first == oldest), "{gone}");
    let events = backlog.read(oldest, 2).expect("it is kept");
    assert_eq!(seqs(&events), [oldest, oldest + 1]);
    assert!(events.iter().all(|envelope| envelope.run_id == RunId(9)));

    let second = directory.path().join("00000002.hwj");
    let mut bytes = fs::read(&second).expect("it is there");
    let damaged = Recording::open(&second).expect("it holds").records(0).nth(1).expect("two records");
    bytes[damaged.expect("it holds").offset as usize + 4] ^= 1;
    fs::write(&second, bytes).expect("it can be written");
    let backlog = recording.backlog(RunId(9));
    let before = backlog.read(oldest, 50).expect("what stands before the damage is given out");
    assert_eq!(seqs(&before), [oldest]);
    let error = backlog.read(oldest + 1, 50).expect_err("it is damaged");
    assert!(error.to_string().contains("00000002.hwj is damaged at byte"), "{error}");
}

#[tokio::test]
async fn the_writer_removes_what_is_too_much_and_nobody_needs() {
    let directory = TempDir::new().expect("a temporary directory");
    let config = JournalConfig { keep_bytes: 1, ..config(&directory) };
    let journal = Journal::open(&config, RunId(7)).expect("it is free").keep_from(1);
    let (writer, recorder) = journal.start().expect("it starts");
    let bus =
        EventBus::new(&BusConfig::default(), &Topology::new(), &Timeline::default(), Some(recorder), None);
    publish(&bus, 200).await;
    recorded(&writer, 200).await;
    let backlog = writer.backlog();
    assert_eq!(seqs(&backlog.read(1, 2).expect("it is needed")), [1, 2]);
    writer.keep_from(150);
    let oldest = || Recording::open(directory.path()).map_or(1, |recording| recording.first_seq());
    // It looks again whenever it begins a segment.
    for _ in 0..10_000 {
        if oldest() > 1 {
            break;
        }
        publish(&bus, 1).await;
    }
    publish(&bus, 1).await;
    let gone = backlog.read(1, 2).expect_err("it is gone");
    assert!(matches!(gone, BacklogError::Gone { wanted: 1, oldest } if oldest <= 150), "{gone}");
    assert_eq!(seqs(&backlog.read(150, 2).expect("it is needed")), [150, 151]);
    writer.close().await.expect("it closes");
    verify(directory.path()).expect("what stays holds");
}

#[tokio::test]
async fn a_new_run_goes_on_where_the_last_one_ended() {
    let directory = TempDir::new().expect("a temporary directory");
    for run in 0..3 {
        let (writer, bus) = start(&directory);
        publish(&bus, 10).await;
        assert_eq!(writer.close().await.expect("it closes").recorded, (run + 1) * 10);
    }
    assert_eq!(verify(directory.path()).expect("it holds").last_seq, 30);
}

#[tokio::test]
async fn the_disk_has_everything_soon_after_the_last_event() {
    let directory = TempDir::new().expect("a temporary directory");
    let (writer, bus) = start(&directory);
    publish(&bus, 3).await;
    let mut status = writer.status();
    status.wait_for(|status| status.synced == 3).await.expect("the writer lives");
}

#[tokio::test]
async fn a_failed_write_stalls_the_journal_and_is_tried_again() {
    let directory = TempDir::new().expect("a temporary directory");
    let (writer, bus) = start(&directory);
    publish(&bus, 2).await;
    recorded(&writer, 2).await;
    fs::remove_dir_all(directory.path()).expect("it is there");
    let mut status = writer.status();
    publish(&bus, 100).await;
    status.wait_for(|status| status.failure.is_some()).await.expect("the failure can be seen");
    assert!(*bus.journal_stalled().borrow(), "nothing is acted upon meanwhile");
    publish(&bus, 1).await;
    fs::create_dir_all(directory.path()).expect("there is room again");
    status.wait_for(|status| status.failure.is_none()).await.expect("it goes on");
    recorded(&writer, 103).await;
    assert!(!*bus.journal_stalled().borrow());
    writer.close().await.expect("all was written");
    let info = verify(directory.path()).expect("what there was room for holds");
    assert_eq!(info.last_seq, 103);
}

#[tokio::test]
async fn a_failure_that_does_not_pass_is_told_before_another_event_comes() {
    let directory = TempDir::new().expect("a temporary directory");
    let journal = Journal::open(&config(&directory), RunId(7)).expect("it is free");
    let (writer, recorder) = journal.start().expect("it starts");
    let config = BusConfig { first_seq: 5, ..BusConfig::default() };
    let bus = EventBus::new(&config, &Topology::new(), &Timeline::default(), Some(recorder), None);
    let mut stalled = bus.journal_stalled();
    publish(&bus, 1).await;
    stalled.wait_for(|stalled| *stalled).await.expect("the bus says so");
    let error = writer.close().await.expect_err("it begins with 1");
    assert!(matches!(error, JournalError::OutOfTurn { expected: 1, actual: 5 }), "{error}");
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_to_the_end_is_an_error() {
    let directory = TempDir::new().expect("a temporary directory");
    let (writer, bus) = start(&directory);
    fs::remove_dir_all(directory.path()).expect("it is there");
    let mut status = writer.status();
    publish(&bus, 100).await;
    status.wait_for(|status| status.failure.is_some()).await.expect("the failure can be seen");
    let error = writer.close().await.expect_err("there is no room until the end");
    assert!(matches!(error, JournalError::Io { action: "create", .. }), "{error}");
}

#[tokio::test]
async fn a_writer_that_is_dropped_writes_what_it_was_given() {
    let directory = TempDir::new().expect("a temporary directory");
    let journal = Journal::open(&config(&directory), RunId(7)).expect("it is free");
    let (mut writer, recorder) = journal.start().expect("it starts");
    let bus =
        EventBus::new(&BusConfig::default(), &Topology::new(), &Timeline::default(), Some(recorder), None);
    publish(&bus, 5).await;
    let (_, never) = oneshot::channel();
    let ended = std::mem::replace(&mut writer.ended, never);
    drop(writer);
    ended.await.expect("it ends in good order").expect("without an error");
    assert_eq!(verify(directory.path()).expect("it holds").last_seq, 5);
}

#[test]
fn the_samples_differ_so_that_a_mix_up_would_show() {
    let events = envelopes(1..=3);
    assert!(events.windows(2).all(|pair| pair[0].event != pair[1].event));
}
