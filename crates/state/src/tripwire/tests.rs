//! Against a node that holds other reserves than were followed, and does not tell everything.

use std::sync::Mutex;

use headwater_bus::{BusConfig, EventBus, EventHandler, HandlerReport, Timeline, Topology};
use headwater_events::{BlockEvent, Envelope, Grade, Header, MarketLoaded, PoolLoaded};
use headwater_reference::fake_node::{
    BlockBuilder, FakeBlock, FakeLog, FakeNode, FakeTransaction, Fault, RpcErr, Times, V2Pair, V2World,
};
use tokio::task::JoinHandle;

use super::*;
use crate::testing::{History, address, judged, loaded, market};
use crate::world::World;

/// Pools, by their addresses.
const POOLS: std::ops::Range<u8> = 1..7;
/// What each was followed to hold of its first token.
const HELD: u128 = 1_000;

/// What the tripwire published.
#[derive(Clone, Default)]
struct Published(Arc<Mutex<Vec<BusEvent>>>);

impl EventHandler for Published {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        self.0.lock().expect("no panic").push(envelope.event.clone());
        Ok(())
    }
}

/// A tripwire of two pools a block, and a node in which some pools hold something else.
struct Bench {
    fake: FakeNode,
    snapshot: Arc<MarketSnapshot>,
    tripwire: Tripwire,
    bus: EventBus,
    published: Published,
    handler: JoinHandle<HandlerReport>,
}

impl Bench {
    /// The node's blocks hold the logs.
    async fn new(differing: &[u8], logs: Vec<FakeLog>) -> Self {
        let market = market();
        let (fake, url) = FakeNode::start(market.chain_id).await.expect("a port");
        let block = BlockBuilder::first(100).transaction(FakeTransaction::emitting(logs)).build();
        fake.push_block(block.clone());
        let pairs = POOLS.map(|pool| {
            let meta = loaded(pool, None);
            let reserve0 = if differing.contains(&pool) { 7 } else { HELD };
            V2Pair {
                address: meta.pool,
                factory: meta.factory,
                token0: meta.token0,
                token1: meta.token1,
                reserve0,
                reserve1: 2 * HELD,
            }
        });
        fake.answer_v2(pairs.fold(V2World::default(), V2World::pair));
        let bus = EventBus::new(&BusConfig::default(), &Topology::new(), &Timeline::default(), None, None);
        let published = Published::default();
        let handler = bus.register("published", published.clone());
        let config = TripwireConfig {
            enabled: true,
            pools: std::num::NonZeroUsize::new(2).expect("not zero"),
            ..TripwireConfig::default()
        };
        let node = NodeConfig::new(vec![url.parse().expect("a URL")]);
        let tripwire = Tripwire::new(&market, config, node, bus.publisher());
        Self { fake, snapshot: followed(&market, &block), tripwire, bus, published, handler }
    }

    async fn sample(&mut self) -> TripwireObserved {
        let request = SampleRequest { snapshot: Arc::clone(&self.snapshot) };
        self.tripwire.handle(&request).await.expect("it goes on");
        self.tripwire.observe()
    }

    /// The pools that were quarantined, and why.
    async fn told(self) -> Vec<(Address, Difference)> {
        self.bus.close_source();
        self.bus.close_derived();
        self.handler.await.expect("no panic");
        let published = self.published.0.lock().expect("no panic");
        let quarantined = published.iter().map(|event| match event {
            BusEvent::PoolQuarantined(pool) => (pool.pool, pool.difference),
            other => panic!("{other:?}"),
        });
        quarantined.collect()
    }
}

/// What is followed as of the block: none of its logs.
fn followed(market: &ResolvedMarket, block: &FakeBlock) -> Arc<MarketSnapshot> {
    let mut history = History::new();
    let (block_number, block_hash) = (block.number() - 1, block.parent_hash());
    for pool in POOLS {
        history.add(BusEvent::PoolLoaded(PoolLoaded {
            block_number,
            block_hash,
            ..loaded(pool, Some(HELD))
        }));
        history.add(BusEvent::TokenJudged(judged(0xa0 + pool, false)));
    }
    history.add(BusEvent::TokenJudged(judged(0xa0, false)));
    let base = MarketLoaded {
        number: block_number,
        hash: block_hash,
        chain_id: market.chain_id,
        pools: POOLS.len() as u64,
    };
    history.add(BusEvent::MarketLoaded(base));
    let header = Header {
        number: block.number(),
        hash: block.hash(),
        parent_hash: block_hash,
        timestamp: 12,
        base_fee_per_gas: Some(1),
        gas_used: 0,
        gas_limit: 30_000_000,
        beneficiary: Address::ZERO,
        logs_bloom: alloy_primitives::Bloom::ZERO,
    };
    let (transactions, logs) = (Vec::new(), Vec::new());
    history.add(BusEvent::NewBlock(BlockEvent { header, transactions, logs, grade: Grade::Assumed }));
    let mut world = World::new(market);
    let applied = history.events.iter().map(|event| world.apply(event).expect("it follows"));
    applied.last().flatten().expect("a block comes last").snapshot
}

#[tokio::test]
async fn an_event_that_was_missed_is_told_apart_from_reserves_without_one() {
    let mut bench = Bench::new(&[2], vec![FakeLog::sync(address(1), 7, 9)]).await;
    let observed = bench.sample().await;
    assert_eq!((observed.quarantined, observed.unexplained, observed.failed), (2, 0, 0));
    let expected = [(address(1), Difference::MissedEvent), (address(2), Difference::ReservesWithoutSync)];
    assert_eq!(bench.told().await, expected);
}

/// A lap of three samples, the first of which finds pools that differ, on a node that does not tell its logs.
async fn check_without_logs(fault: Fault) {
    let mut bench = Bench::new(&[2], vec![FakeLog::sync(address(1), 7, 9)]).await;
    bench.fake.inject("eth_getLogs", fault.clone(), Times::Always);
    let observed = bench.sample().await;
    assert_eq!((observed.quarantined, observed.unexplained), (2, 2), "{fault:?}: {observed:?}");
    bench.sample().await;
    let observed = bench.sample().await;
    assert_eq!((observed.compared, observed.failed), (6, 0), "the others have their turn: {fault:?}");
    let expected = [1, 2].map(|pool| (address(pool), Difference::ReservesWithoutSync));
    assert_eq!(bench.told().await, expected, "{fault:?}");
}

#[tokio::test]
async fn a_pool_that_differs_is_quarantined_though_the_node_does_not_tell_its_logs() {
    let refusal = RpcErr::new(-32601, "the method eth_getLogs does not exist/is not available");
    check_without_logs(Fault::Error(refusal)).await;
    check_without_logs(Fault::Error(RpcErr::new(-32005, "query returned more than 10000 results"))).await;
    check_without_logs(Fault::Result(serde_json::json!("nothing"))).await;
    check_without_logs(Fault::Silence).await;
}

#[tokio::test]
async fn pools_that_cannot_be_compared_do_not_keep_the_others_from_their_turn() {
    let mut bench = Bench::new(&[3], Vec::new()).await;
    let refusal = RpcErr::new(-32601, "the method eth_call does not exist/is not available");
    bench.fake.inject("eth_call", Fault::Error(refusal), Times::Always);
    for _ in 0..TRIES {
        bench.sample().await;
    }
    bench.fake.mend("eth_call");
    let observed = bench.sample().await;
    assert_eq!((observed.failed, observed.samples), (u64::from(TRIES), 1), "{observed:?}");
    assert_eq!(bench.told().await, [(address(3), Difference::ReservesWithoutSync)]);
}

#[tokio::test]
async fn a_sample_that_failed_is_tried_again() {
    let mut bench = Bench::new(&[1], Vec::new()).await;
    let refusal = RpcErr::new(-32601, "the method eth_call does not exist/is not available");
    bench.fake.inject("eth_call", Fault::Error(refusal), Times::Next(1));
    assert_eq!(bench.sample().await.failed, 1);
    assert_eq!(bench.sample().await.quarantined, 1);
}
