use alloy_primitives::U256;
use headwater_actor::{ActorHandle, Exit, Fault, Poison, RestartPolicy, System};
use headwater_bus::{BacklogError, BusConfig, EventBus, EventHandler, Mailbox, Resync, Topology};
use headwater_events::PriceEvent;
use tokio::sync::mpsc;

use super::*;
use crate::samples::*;

/// A record in memory.
struct Record {
    oldest: u64,
    events: Vec<Arc<Envelope>>,
}

impl Backlog for Record {
    fn read(&self, from: u64, limit: usize) -> Result<Vec<Arc<Envelope>>, BacklogError> {
        if from < self.oldest {
            return Err(BacklogError::Gone { wanted: from, oldest: self.oldest });
        }
        Ok(self.events.iter().filter(|event| event.seq >= from).take(limit).cloned().collect())
    }
}

/// A market of two pools that trade in turn, with a reorganisation of two blocks; its last block is the twelfth.
fn story() -> Vec<BusEvent> {
    let trade = |number: u64| {
        let traded = u8::try_from(number % 2).expect("small");
        vec![sync(pool(traded), traded, ETHER * 2, 100 + u128::from(number))]
    };
    let held = Some((ETHER, 100));
    let mut events = vec![loaded(pool(0), 0, held, (0, hash(0))), loaded(pool(1), 1, held, (0, hash(0)))];
    events.push(market_loaded());
    events.extend((1..=8).map(|number| plain_block(number, trade(number))));
    events.push(reorg((6, hash(6)), vec![hash(8), hash(7)]));
    events.push(block(7, hash(107), hash(6), vec![]));
    events.extend((8..=12).map(|number| block(number, hash(100 + number), hash(99 + number), trade(number))));
    events
}

fn record() -> Record {
    let events = (1..).zip(story()).map(|(seq, event)| Arc::new(envelope(seq, event))).collect();
    Record { oldest: 1, events }
}

struct Collect(mpsc::Sender<(u64, PriceEvent)>);

impl EventHandler for Collect {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        let BusEvent::PriceUpdate(update) = &envelope.event else { return Ok(()) };
        Ok(self.0.send((envelope.seq, update.clone())).await?)
    }
}

struct Rig {
    topology: Topology,
    bus: EventBus,
    wiring: Wiring,
}

impl Rig {
    fn new(backlog: impl Backlog) -> Self {
        let (topology, timeline) = (Topology::new(), Timeline::default());
        let bus = EventBus::new(&BusConfig::default(), &topology, &timeline, None, None);
        let wiring = Wiring {
            market: Arc::new(market()),
            config: OracleConfig::default(),
            snapshots: SnapshotWriter::new(&topology, "oracle", "prices"),
            derived: bus.derived("oracle"),
            timeline,
            resynchroniser: None,
            feed_resolver: None,
            quarantine: Quarantine::default(),
            backlog: Arc::new(backlog),
            images: None,
            first_seq: 1,
        };
        Self { topology, bus, wiring }
    }

    async fn spawn(&self) -> ActorHandle<OracleObserved> {
        let mailbox = Mailbox::new(&self.topology, "oracle", 4);
        self.bus.feed(mailbox.waiting("bus", "source events"), OracleMessage::interest);
        let wiring = self.wiring.clone();
        let policy = RestartPolicy { poison: Poison::Escalate, ..RestartPolicy::default() };
        let system = System::start().await.expect("a tree");
        system.spawn(mailbox, policy, move |resume| {
            let wiring = wiring.clone();
            async move { Ok(OracleActor::build(wiring, resume).await?) }
        })
    }
}

type Told = (Vec<(AsOf, Vec<U256>)>, Vec<(u64, PriceEvent)>);

/// Runs the story, with a fault injected before the event at `fault`; what was published.
async fn run(fault: Option<(usize, Fault)>) -> Told {
    let rig = Rig::new(record());
    let (sender, mut updates) = mpsc::channel(256);
    let handler = rig.bus.register("collect", Collect(sender));
    let mut reader = rig.wiring.snapshots.reader("test");
    let actor = rig.spawn().await;
    let mut snapshots = Vec::new();
    for (index, event) in story().into_iter().enumerate() {
        if let Some((at, fault)) = fault
            && at == index
        {
            actor.control().inject(fault);
        }
        let as_of = match &event {
            BusEvent::NewBlock(block) => Some((block.header.number, block.header.hash)),
            _ => None,
        };
        let seq = rig.bus.publisher().publish(event, None).await.expect("open");
        if let Some((number, hash)) = as_of {
            let as_of = AsOf { seq, number, hash };
            let snapshot = reader.wait_for(&as_of).await.expect("each block has its snapshot");
            let price = |number| snapshot.price(&token(number)).expect("both have a pool").mantissa;
            snapshots.push((snapshot.as_of, vec![price(0), price(1)]));
        }
    }
    rig.bus.close_source();
    assert_eq!(actor.control().ended().await, Exit::Drained);
    assert_eq!(actor.control().status().restarts, u32::from(fault.is_some()));
    rig.bus.close_derived();
    handler.await.expect("it ends");
    let mut told = Vec::new();
    while let Ok(update) = updates.try_recv() {
        told.push(update);
    }
    let read = rig.wiring.timeline.read(4).expect("the first block was begun");
    assert!(read.since_first(Stage::Priced).is_some());
    reader.settle();
    let edges = rig.topology.report();
    assert!(edges.iter().all(|edge| edge.counts.conserved()), "{edges:?}");
    (snapshots, told)
}

#[tokio::test]
async fn a_restart_at_any_event_changes_nothing_that_is_published() {
    let undisturbed = run(None).await;
    assert_eq!(undisturbed.0.len(), 14);
    assert!(undisturbed.1.len() > 12, "{:?}", undisturbed.1);
    for at in 0..story().len() {
        for fault in [Fault::PanicBefore, Fault::PanicAfter] {
            assert_eq!(run(Some((at, fault))).await, undisturbed, "{fault:?} at {at}");
        }
    }
}

#[tokio::test]
async fn a_resync_is_answered_from_the_record() {
    let rig = Rig::new(record());
    let fresh = Resume { last_processed: None, incarnation: 0 };
    let mut resynced = OracleActor::build(rig.wiring.clone(), fresh).await.expect("nothing to rebuild");
    let message = OracleMessage(Delivery::Resync(Resync { from: 1, to: 10 }));
    assert_eq!(message.seq(), Some(10));
    resynced.handle(&message).await.expect("the record is complete");
    assert!(rig.wiring.snapshots.window().is_empty(), "a rebuild publishes nothing");

    let mut oracle = rig.wiring.empty();
    for envelope in &record().events[..10] {
        oracle.apply(envelope).expect("the story follows");
    }
    assert_eq!(resynced.observe().oracle, oracle.counts());
    let next = OracleMessage(Delivery::Event(Arc::clone(&record().events[10])));
    resynced.handle(&next).await.expect("it follows");
    let published = rig.wiring.snapshots.window().pop().expect("a block was priced");
    let expected = oracle.apply(&record().events[10]).expect("it follows").expect("a block");
    assert!(published.prices.iter().eq(expected.snapshot.prices.iter()));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_does_not_reach_is_an_error_and_no_guess() {
    let check = async |record: Record, last: u64| {
        let resume = Resume { last_processed: Some(last), incarnation: 1 };
        OracleActor::build(Rig::new(record).wiring, resume).await.expect_err("incomplete").to_string()
    };
    let events = record().events;
    let (length, after) = (events.len() as u64, events.len() as u64 + 1);
    assert_eq!(
        check(record(), after).await,
        format!("the record does not reach event {after}: event {after} is not in it")
    );
    let late = Record { oldest: 3, events: events[2..].to_vec() };
    assert_eq!(check(late, length).await, "event 1 is no longer kept; the oldest is 3");
    let holed = [&events[..4], &events[5..]].concat();
    let holed = Record { oldest: 1, events: holed };
    assert_eq!(check(holed, length).await, "event 6 stands in the record where 5 was due");
}
