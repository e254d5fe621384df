//! A disk that answers with I/O errors. In a binary of its own: it fails for whoever writes in this process.

#![cfg(feature = "fail-points")]

use std::sync::Arc;
use std::time::Duration;

use headwater_bus::{BusConfig, EventBus, Timeline, Topology};
use headwater_events::{BusEvent, Reconnected, RunId};
use headwater_journal::FailPoint::{RecordSync, RecordWrite, RecordWriteHalf};
use headwater_journal::{Journal, JournalConfig, JournalError, fail_at, verify};
use tempfile::TempDir;
use tokio::time::timeout;

async fn publish(bus: &EventBus, count: u64) {
    for epoch in 1..=count {
        let event = BusEvent::Reconnected(Reconnected { epoch, endpoint: 0 });
        bus.publisher().publish(event, None).await.expect("the bus is open");
    }
}

#[tokio::test]
async fn writes_that_fail_are_tried_again_and_a_sync_that_fails_is_not() {
    let directory = TempDir::new().expect("a temporary directory");
    let config = JournalConfig { segment_bytes: 300, ..JournalConfig::in_directory(directory.path()) };
    let journal = Journal::open(&config, RunId(7)).expect("it is free");
    let bus_config = BusConfig { run_id: RunId(7), ..BusConfig::default() };
    let (writer, recorder) = journal.start().expect("it starts");
    let backlog = Arc::new(writer.backlog());
    let bus =
        EventBus::new(&bus_config, &Topology::new(), &Timeline::default(), Some(recorder), Some(backlog));
    let mut status = writer.status();
    let mut published = 0;
    for point in [RecordWrite, RecordWriteHalf] {
        fail_at(point, 2);
        publish(&bus, 40).await;
        published += 40;
        status.wait_for(|status| status.failure.is_some()).await.expect("the failure can be seen");
        assert!(*bus.journal_stalled().borrow(), "nothing is acted upon meanwhile");
        status.wait_for(|status| status.recorded == published).await.expect("it goes on");
    }
    fail_at(RecordSync, 1);
    publish(&bus, 1).await;
    timeout(Duration::from_secs(30), writer.failed()).await.expect("whoever waits for a failure hears of it");
    assert!(writer.status().borrow().failure.is_some() && *bus.journal_stalled().borrow());
    let error = writer.close().await.expect_err("nobody knows what is on the disk");
    assert!(matches!(error, JournalError::Io { action: "sync", .. }), "{error}");
    let last_seq = verify(directory.path()).expect("what was recorded holds").last_seq;
    assert!(last_seq >= published, "{last_seq} of {published}");
}
