use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use headwater_actor::{Exit, Fault, Quarantined, RestartPolicy, System};
use headwater_bus::{BusConfig, EventBus, EventHandler, Image, Mailbox, Missing, Resync, Topology};
use headwater_events::MarketResynced;
use headwater_market::Changes;
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;
use crate::testing::{History, Recorded, Shelved, address, any_history, loaded, market, seen, sync};
use crate::world::Subject;

/// The state on a bus of its own.
struct Bench {
    bus: EventBus,
    topology: Topology,
    wiring: Wiring,
}

impl Bench {
    fn new(record: &[Arc<Envelope>]) -> Self {
        let (topology, timeline) = (Topology::new(), Timeline::default());
        let bus = EventBus::new(&BusConfig::default(), &topology, &timeline, None, None);
        let wiring = Wiring {
            market: Arc::new(market()),
            snapshots: SnapshotWriter::new(&topology, "state", "market"),
            derived: bus.derived("state"),
            timeline,
            loader: None,
            resynchroniser: None,
            lending_loader: None,
            tripwire: None,
            quarantine: Quarantine::default(),
            backlog: Arc::new(Recorded(record.to_vec())),
            images: None,
            first_seq: 1,
        };
        Self { bus, topology, wiring }
    }

    async fn actor(&self, last_processed: Option<u64>) -> Result<StateActor, RebuildError> {
        StateActor::build(self.wiring.clone(), Resume { last_processed, incarnation: 0 }).await
    }

    fn last(&self) -> Option<String> {
        self.wiring.snapshots.window().last().map(|snapshot| seen(snapshot))
    }

    /// The snapshots that were published and are still in the cell.
    fn published(&self) -> Vec<String> {
        self.wiring.snapshots.window().iter().map(|snapshot| seen(snapshot)).collect()
    }
}

fn event(envelope: &Arc<Envelope>) -> StateMessage {
    Delivery::Event(Arc::clone(envelope)).into()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

fn short_history() -> History {
    let mut history = History::new();
    history.add(BusEvent::PoolLoaded(loaded(1, Some(5))));
    for amount in 1..6 {
        history.block(vec![sync(1, amount), sync(2, amount)]);
    }
    history.add(BusEvent::PoolLoaded(loaded(2, None))).reorg(2);
    for amount in 11..15 {
        history.block(vec![sync(2, amount)]);
    }
    history
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn a_rebuilt_actor_says_what_an_undisturbed_one_says(
        history in any_history(true),
        deaths in prop::collection::btree_map(0usize..200, any::<bool>(), 1..5),
    ) {
        let (undisturbed, disturbed) = (Bench::new(&[]), Bench::new(&history.events));
        runtime().block_on(async {
            let mut whole = undisturbed.actor(None).await.expect("nothing to rebuild");
            let mut mortal = disturbed.actor(None).await.expect("nothing to rebuild");
            for (index, envelope) in history.events.iter().enumerate() {
                whole.handle(&event(envelope)).await.expect("in order");
                if let Some(had_handled_it) = deaths.get(&index) {
                    // It dies with the message in hand, before or after it did its work, and the message comes again.
                    if *had_handled_it {
                        mortal.handle(&event(envelope)).await.expect("in order");
                    }
                    let last = (index > 0).then_some(envelope.seq - 1);
                    mortal = disturbed.actor(last).await.expect("the record is whole");
                }
                mortal.handle(&event(envelope)).await.expect("in order");
                assert_eq!(disturbed.last(), undisturbed.last());
            }
            assert_eq!(disturbed.published(), undisturbed.published());
            assert_eq!(mortal.observe().world, whole.observe().world);
        });
    }
}

#[tokio::test]
async fn a_panic_in_the_middle_leaves_the_same_snapshots_on_a_real_bus() {
    let history = short_history();
    let mut published = BTreeMap::new();
    for fault in [None, Some(Fault::PanicBefore), Some(Fault::PanicAfter)] {
        let bench = Bench::new(&history.events);
        let system = System::start().await.expect("a system");
        let mailbox = Mailbox::new(&bench.topology, "state", 16);
        let feeder = bench.bus.feed(mailbox.waiting("bus", "source events"), StateMessage::interest);
        let wiring = bench.wiring.clone();
        let actor = system.spawn(mailbox, RestartPolicy::default(), move |resume| {
            let wiring = wiring.clone();
            async move { Ok(StateActor::build(wiring, resume).await?) }
        });
        for (index, envelope) in history.events.iter().enumerate() {
            if index == 7
                && let Some(fault) = fault
            {
                actor.control().inject(fault);
            }
            bench.bus.publisher().publish(envelope.event.clone(), None).await.expect("open");
        }
        bench.bus.close_source();
        assert_eq!(actor.control().ended().await, Exit::Drained);
        feeder.await.expect("it ends with the source");
        assert_eq!(actor.control().status().restarts, u32::from(fault.is_some()));
        published.insert(format!("{fault:?}"), bench.published());
        system.end();
    }
    let whole = &published["None"];
    assert_eq!(whole.len(), 8);
    assert!(published.values().all(|snapshots| snapshots == whole));
}

#[tokio::test]
async fn what_the_record_does_not_hold_cannot_be_rebuilt() {
    let history = short_history();
    let (all, last) = (&history.events, history.events.len() as u64);
    assert!(Bench::new(all).actor(Some(last)).await.is_ok());
    let gone = Bench::new(&all[1..]).actor(Some(last)).await;
    assert!(matches!(gone, Err(RebuildError::Backlog(_))), "{gone:?}");
    let holed = [&all[..3], &all[4..]].concat();
    let holed = Bench::new(&holed).actor(Some(last)).await;
    assert!(matches!(holed, Err(RebuildError::Hole { wanted: 4, found: 5 })), "{holed:?}");
}

fn json(image: &WorldImage) -> serde_json::Value {
    serde_json::to_value(image).expect("an image is JSON")
}

/// The image without what its pools stand on.
fn damaged(image: &WorldImage) -> WorldImage {
    let mut image = json(image);
    image["book"]["standing"] = serde_json::json!([]);
    serde_json::from_value(image).expect("it has the shape of one")
}

/// What an actor hands over at every second block.
async fn saved(history: &History) -> Vec<Image<WorldImage>> {
    let mut bench = Bench::new(&[]);
    let mailbox = Mailbox::new(&bench.topology, "snapshots", 16);
    let outlet = mailbox.dropping("state", "images");
    bench.wiring.images = Some(Images { outlet, every: 2, shelf: Arc::new(Shelved::default()) });
    let mut actor = bench.actor(None).await.expect("nothing to rebuild");
    for envelope in &history.events {
        actor.handle(&event(envelope)).await.expect("in order");
    }
    drop((actor, bench));
    let inbox = mailbox.into_inbox();
    let mut inbox = headwater_bus::Inbox::lock(&inbox).await;
    let mut images = Vec::new();
    while inbox.fill().await {
        images.extend(inbox.front().cloned());
        inbox.complete();
    }
    images
}

impl Bench {
    fn with_images(mut self, images: Vec<Image<WorldImage>>) -> Self {
        let outlet = Mailbox::new(&self.topology, "snapshots", 16).dropping("state", "images");
        self.wiring.images = Some(Images { outlet, every: 0, shelf: Arc::new(Shelved(images)) });
        self
    }
}

#[tokio::test]
async fn a_rebuild_begins_with_the_newest_image_that_serves_and_the_record_may_begin_there() {
    let history = short_history();
    let last = history.events.len() as u64;
    let whole = Bench::new(&history.events).actor(Some(last)).await.expect("the record is whole");
    let images = saved(&history).await;
    let taken: Vec<_> = images.iter().map(|image| (image.as_of.seq, image.as_of.number)).collect();
    assert_eq!(taken, [(3, 2), (5, 4), (9, 4), (11, 6)]);
    let check = async |images: &[Image<WorldImage>], kept_from: usize| {
        let bench = Bench::new(&history.events[kept_from - 1..]).with_images(images.to_vec());
        let actor = bench.actor(Some(last)).await.ok()?;
        Some(json(&actor.world.image()) == json(&whole.world.image()))
    };
    assert_eq!(check(&images, 12).await, Some(true));
    assert_eq!(check(&images[..2], 6).await, Some(true), "its block was undone, which the record tells");
    assert_eq!(check(&images[..2], 7).await, None, "the record begins behind it");
    assert_eq!(check(&[], 1).await, Some(true));
    let mut broken = images.clone();
    broken[3].content = damaged(&images[3].content);
    assert_eq!(check(&broken, 10).await, Some(true), "the one before it serves");
    assert_eq!(check(&broken, 12).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_stays_short_is_an_error_and_not_a_hang() {
    let history = short_history();
    let short = Bench::new(&history.events[..3]).actor(Some(5)).await;
    assert!(matches!(short, Err(RebuildError::Short { wanted: 5, next: 4 })), "{short:?}");
}

#[tokio::test]
async fn lost_events_are_made_up_for_from_the_record() {
    let history = short_history();
    let (bench, undisturbed) = (Bench::new(&history.events), Bench::new(&[]));
    let mut actor = bench.actor(None).await.expect("nothing to rebuild");
    let mut whole = undisturbed.actor(None).await.expect("nothing to rebuild");
    for envelope in &history.events {
        whole.handle(&event(envelope)).await.expect("in order");
    }
    for envelope in &history.events[..3] {
        actor.handle(&event(envelope)).await.expect("in order");
    }
    let resync = Delivery::Resync(Resync { from: 4, to: 10 });
    assert_eq!(StateMessage(resync.clone()).seq(), Some(10));
    actor.handle(&resync.into()).await.expect("the record is whole");
    for envelope in &history.events[10..] {
        actor.handle(&event(envelope)).await.expect("in order");
    }
    assert_eq!(bench.published().last(), undisturbed.published().last());
}

#[tokio::test]
async fn a_block_that_does_not_follow_is_an_error() {
    let history = short_history();
    let bench = Bench::new(&history.events);
    let mut actor = bench.actor(None).await.expect("nothing to rebuild");
    actor.handle(&event(&history.events[1])).await.expect("the first block");
    assert!(actor.handle(&event(&history.events[3])).await.is_err());
    assert_eq!(bench.published().len(), 1);
}

/// Passes on what was derived.
struct Derived(mpsc::Sender<BusEvent>);

impl EventHandler for Derived {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        Ok(self.0.send(envelope.event.clone()).await?)
    }

    fn interested_in(&self, event: &BusEvent) -> bool {
        !event.is_source()
    }
}

#[tokio::test]
async fn a_block_is_stamped_and_its_liquidity_told() {
    let history = short_history();
    let bench = Bench::new(&[]);
    let (sender, mut told) = mpsc::channel(16);
    let handler = bench.bus.register("derived", Derived(sender));
    let mut actor = bench.actor(None).await.expect("nothing to rebuild");
    bench.wiring.timeline.begin(2, None);
    for envelope in &history.events[..3] {
        actor.handle(&event(envelope)).await.expect("in order");
    }
    assert!(bench.wiring.timeline.read(2).and_then(|stamps| stamps.since_first(Stage::Applied)).is_some());
    bench.bus.close_source();
    bench.bus.close_derived();
    handler.await.expect("it ends with the bus");
    let mut reserves = Vec::new();
    while let Some(event) = told.recv().await {
        let BusEvent::LiquidityChange(change) = event else { panic!("{event:?}") };
        reserves.push((change.as_of.seq, change.pool, change.reserve0));
    }
    assert_eq!(reserves, [(2, address(1), 1), (3, address(1), 2)]);
}

#[tokio::test]
async fn questions_that_the_loader_has_no_room_for_are_dropped_and_asked_again() {
    let history = short_history();
    let mut bench = Bench::new(&[]);
    let capacity = NonZeroUsize::MIN.get();
    let mailbox: Mailbox<LoadRequest> = Mailbox::new(&bench.topology, "loader", capacity);
    bench.wiring.loader = Some(mailbox.dropping("state", "questions"));
    let mut actor = bench.actor(None).await.expect("nothing to rebuild");
    for envelope in &history.events[..2] {
        actor.handle(&event(envelope)).await.expect("in order");
    }
    // The tokens of pool 1 are unjudged, and pool 2 is a stranger: three questions for one place.
    let observed = actor.observe();
    assert_eq!((observed.requested, observed.not_requested), (1, 2));
    let inbox = mailbox.into_inbox();
    let mut inbox = headwater_bus::Inbox::lock(&inbox).await;
    assert!(inbox.fill().await);
    assert_eq!(inbox.front().map(|request| request.subject), Some(Subject::Pool(address(2))));
    inbox.complete();
    actor.handle(&event(&history.events[2])).await.expect("in order");
    assert_eq!(actor.observe().requested, 2);
}

/// What the actor says of the world, without its questions.
fn seen_world(actor: &StateActor) -> WorldCounts {
    actor.observe().world
}

#[tokio::test]
async fn a_block_that_is_set_aside_costs_the_snapshots_until_the_market_is_told_anew() {
    let mut history = History::new();
    history.add(BusEvent::PoolLoaded(loaded(1, Some(5)))).add(BusEvent::PoolLoaded(loaded(2, Some(6))));
    for amount in 1..5 {
        history.block(vec![sync(1, amount)]);
    }
    let BusEvent::NewBlock(asked) = &history.events[5].event else { panic!("the fourth block") };
    let (number, hash) = (asked.header.number, asked.header.hash);
    let reserves = vec![(address(1), Some((4, 8))), (address(2), Some((77, 154)))];
    history.block(vec![sync(1, 50)]);
    history.add(BusEvent::MarketResynced(MarketResynced { number, hash, reserves }));
    history.block(vec![]);

    let mut bench = Bench::new(&history.events);
    let mailbox: Mailbox<ResyncRequest> = Mailbox::new(&bench.topology, "resynchroniser", 8);
    bench.wiring.resynchroniser = Some(mailbox.dropping("state", "lost markets"));
    let known =
        Quarantined { actor: "state".into(), from: "bus".into(), seq: Some(5), reason: String::new() };
    bench.wiring.quarantine = Quarantine::new([known], None);
    let mut reader = bench.wiring.snapshots.reader("test");
    let mut actor = bench.actor(None).await.expect("nothing to rebuild");
    for envelope in &history.events {
        match envelope.seq {
            5 => actor.set_aside(&event(envelope)).await.expect("it is only left out"),
            _ => actor.handle(&event(envelope)).await.expect("in order"),
        }
        // A restart changes nothing.
        let rebuilt = bench.actor(Some(envelope.seq)).await.expect("the record is whole");
        assert_eq!(seen_world(&rebuilt), seen_world(&actor), "event {}", envelope.seq);
        assert_eq!(seen_world(&actor).lost, (5..8).contains(&envelope.seq));
    }
    let published: Vec<_> = bench.wiring.snapshots.window().iter().map(|market| market.as_of.seq).collect();
    assert_eq!(published, [3, 4, 9]);
    let lost = |seq: u64| {
        let BusEvent::NewBlock(block) = &history.events[seq as usize - 1].event else { panic!("a block") };
        AsOf { seq, number: block.header.number, hash: block.header.hash }
    };
    assert_eq!(reader.wait_for(&lost(7)).await.map(|market| market.as_of), Err(Missing::Passed));
    let market = reader.latest().expect("the last block");
    let held = |pool| market.pools.find(&address(pool)).and_then(|id| market.pools.quoted(id));
    assert_eq!(held(1).map(|held| held.reserve0), Some(50), "the block above the answer said so");
    assert_eq!(held(2).map(|held| held.reserve0), Some(77));
    assert_eq!((market.parent, &market.changes), (None, &Changes::All));
    // It asked when it was lost, and again with every block.
    let inbox = mailbox.into_inbox();
    let mut inbox = headwater_bus::Inbox::lock(&inbox).await;
    assert!(inbox.fill().await);
    let request = inbox.front().expect("a request").clone();
    assert_eq!((request.as_of, request.pools), (lost(5), vec![address(1), address(2)]));
    assert_eq!(actor.observe().resync_requests, 3);
}

#[tokio::test(start_paused = true)]
async fn events_that_the_record_does_not_hold_either_cost_the_market() {
    let history = short_history();
    let bench = Bench::new(&history.events[..3]);
    let mut actor = bench.actor(None).await.expect("nothing to rebuild");
    for envelope in &history.events[..3] {
        actor.handle(&event(envelope)).await.expect("in order");
    }
    actor.handle(&Delivery::Resync(Resync { from: 4, to: 5 }).into()).await.expect("it goes on");
    assert!(seen_world(&actor).lost);
    actor.handle(&event(&history.events[5])).await.expect("it stands on whatever it says");
    assert_eq!(bench.published().len(), 2);
    assert_eq!(actor.world.resync_request().map(|request| request.as_of.seq), Some(6));
}
