use std::path::Path;
use std::time::Duration;

use headwater_actor::{Command, Exit};
use headwater_bus::{BusConfig, EventBus, EventHandler, Timeline, Topology};
use headwater_events::{BlockEvent, Grade, Header, Reconnected, ReorgEvent, RunId};
use headwater_journal::{Journal, JournalConfig};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn bus(first_seq: u64) -> EventBus {
    let config = BusConfig { first_seq, capacity: 16, ..BusConfig::default() };
    EventBus::new(&config, &Topology::new(), &Timeline::default(), None, None)
}

fn block(number: u64) -> BusEvent {
    let hash = |number: u64| alloy_primitives::keccak256(number.to_be_bytes());
    BusEvent::NewBlock(BlockEvent {
        header: Header {
            number,
            hash: hash(number),
            parent_hash: hash(number.wrapping_sub(1)),
            timestamp: number,
            base_fee_per_gas: None,
            gas_used: 0,
            gas_limit: 0,
            beneficiary: Default::default(),
            logs_bloom: Default::default(),
        },
        transactions: Vec::new(),
        logs: Vec::new(),
        grade: Grade::Matched,
    })
}

/// A recording of these events, beginning with the number `first`.
async fn recording(directory: &Path, first: u64, events: Vec<BusEvent>) -> Recording {
    let config = JournalConfig::in_directory(directory);
    let journal = Journal::create(&config, RunId(1), first).expect("it is empty");
    let (writer, recorder) = journal.start().expect("it starts");
    let config = BusConfig { first_seq: first, ..BusConfig::default() };
    let bus = EventBus::new(&config, &Topology::new(), &Timeline::default(), Some(recorder), None);
    for event in events {
        bus.publisher().publish(event, None).await.expect("the bus is open");
    }
    writer.close().await.expect("it closes");
    Recording::open(directory).expect("it holds")
}

struct Collect(mpsc::Sender<(u64, BusEvent)>);

impl EventHandler for Collect {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        self.0.send((envelope.seq, envelope.event.clone())).await?;
        Ok(())
    }
}

struct Playing {
    _system: System,
    handle: ActorHandle<ReplayStatus>,
    events: mpsc::Receiver<(u64, BusEvent)>,
}

async fn play(
    recording: &Recording,
    bus: &EventBus,
    progress: Option<BlockProgress>,
    limit: Option<u64>,
) -> Playing {
    let (sender, events) = mpsc::channel(4096);
    bus.register("collect", Collect(sender));
    let system = System::start().await.expect("it starts");
    let policy = RestartPolicy { intensity: 3, ..RestartPolicy::default() };
    let handle = ReplayIngest::new(recording, bus.publisher(), progress, limit).spawn(&system, policy);
    Playing { _system: system, handle, events }
}

impl Playing {
    async fn next(&mut self) -> (u64, BusEvent) {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("the bus is open")
    }

    async fn exit(&self) -> Exit {
        timeout(PATIENCE, self.handle.control().ended()).await.expect("it ends")
    }
}

#[tokio::test]
async fn every_event_is_published_in_order_under_its_number() {
    let directory = TempDir::new().expect("a temporary directory");
    let mut events: Vec<BusEvent> = (1..=200).map(block).collect();
    events.insert(7, BusEvent::Reconnected(Reconnected { epoch: 2, endpoint: 0 }));
    let recording = recording(directory.path(), 41, events.clone()).await;
    let bus = bus(41);
    let mut playing = play(&recording, &bus, None, None).await;
    for (seq, event) in (41..).zip(events) {
        assert_eq!(playing.next().await, (seq, event));
    }
    assert_eq!(playing.exit().await, Exit::Drained);
    let status = playing.handle.observed().expect("it has been seen");
    assert_eq!((status.seq, status.blocks), (241, 200));
}

#[tokio::test]
async fn no_more_blocks_are_under_way_than_the_window_holds() {
    let directory = TempDir::new().expect("a temporary directory");
    let recording = recording(directory.path(), 1, (1..=40).map(block).collect()).await;
    let bus = bus(1);
    let progress = BlockProgress::new(["detector".into()]);
    let mut playing = play(&recording, &bus, Some(progress.clone()), None).await;
    for seq in 1..=40 {
        assert_eq!(playing.next().await.0, seq);
        if seq >= WINDOW as u64 {
            let done = seq - WINDOW as u64 + 1;
            // Let it run as far as it will: it must not come further than the window.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            assert!(playing.events.try_recv().is_err(), "{seq} is one window ahead of what is done");
            progress.receive("detector", done);
        }
    }
    assert_eq!(playing.exit().await, Exit::Drained);
}

#[tokio::test]
async fn a_bus_that_counts_otherwise_is_an_error() {
    let directory = TempDir::new().expect("a temporary directory");
    let recording = recording(directory.path(), 5, (1..=3).map(block).collect()).await;
    let playing = play(&recording, &bus(1), None, None).await;
    let exit = playing.exit().await;
    let Exit::Failed(message) = exit else { panic!("a failure is expected, got {exit:?}") };
    assert!(message.contains("event 5 of the recording became event 1"), "{message}");
}

#[tokio::test]
async fn killed_incarnations_repeat_and_skip_nothing() {
    let directory = TempDir::new().expect("a temporary directory");
    let events: Vec<BusEvent> = (1..=300).map(block).collect();
    let recording = recording(directory.path(), 1, events).await;
    let bus = bus(1);
    let mut playing = play(&recording, &bus, None, None).await;
    for seq in 1..=300 {
        assert_eq!(playing.next().await.0, seq);
        if seq % 120 == 0 {
            playing.handle.control().kill();
        }
    }
    assert_eq!(playing.exit().await, Exit::Drained);
}

#[tokio::test]
async fn a_limit_counts_blocks_that_are_not_undone() {
    let directory = TempDir::new().expect("a temporary directory");
    let mut events: Vec<BusEvent> = (1..=3).map(block).collect();
    events.push(BusEvent::Reorg(ReorgEvent {
        ancestor_number: 1,
        ancestor_hash: Default::default(),
        undone: vec![Default::default(); 2],
        old_head: Default::default(),
        new_head: Default::default(),
    }));
    events.extend((2..=9).map(block));
    let recording = recording(directory.path(), 1, events).await;
    let bus = bus(1);
    let playing = play(&recording, &bus, None, Some(5)).await;
    assert_eq!(playing.exit().await, Exit::Drained);
    let status = playing.handle.observed().expect("it has been seen");
    assert_eq!((status.blocks, status.undone, status.head.map(|head| head.0)), (7, 2, Some(5)));
}

#[tokio::test]
async fn a_replay_that_waits_for_a_block_can_be_stopped() {
    let directory = TempDir::new().expect("a temporary directory");
    let recording = recording(directory.path(), 1, (1..=40).map(block).collect()).await;
    let bus = bus(1);
    let mut playing = play(&recording, &bus, Some(BlockProgress::new(["never".into()])), None).await;
    for seq in 1..=WINDOW as u64 {
        assert_eq!(playing.next().await.0, seq);
    }
    playing.handle.control().tell(Command::Stop);
    assert_eq!(playing.exit().await, Exit::Stopped);
}
