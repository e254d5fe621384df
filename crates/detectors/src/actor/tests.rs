use std::sync::Mutex;

use alloy_primitives::{Address, U256};
use headwater_actor::{ActorHandle, Exit, RestartPolicy, System};
use headwater_bus::{Mailbox, SnapshotWriter, Topology};
use headwater_events::{Kind, Opportunity, Plan};
use headwater_market::{Changes, Head, PoolId, PoolTable};

use super::*;

/// Says of each block how many pools it was told were touched (1000 for all of them); fails once where told to.
struct Tell {
    fails_at: Option<u64>,
    failed: Arc<Mutex<bool>>,
}

impl Detector for Tell {
    fn name(&self) -> &str {
        "tell"
    }

    fn evaluate(&mut self, view: &WholeView) -> Vec<Opportunity> {
        let mut failed = self.failed.lock().expect("no other panic");
        if self.fails_at == Some(view.as_of().number) && !*failed {
            *failed = true;
            drop(failed);
            panic!("as told");
        }
        let touched = match view.touched() {
            Touched::All => 1000,
            Touched::Pools(pools) => pools.len() as u64,
        };
        vec![Opportunity {
            kind: Kind::Custom("tell".into()),
            as_of: view.as_of(),
            path: vec![],
            tokens: vec![],
            amount_in: U256::ZERO,
            amount_out: U256::ZERO,
            profit: U256::ZERO,
            gas: touched,
            net_profit_wei: None,
            valid_until: view.as_of().number + 1,
            plan: Plan::Inform,
        }]
    }
}

/// Collects sets.
struct Collect(Arc<Mutex<Vec<OpportunitySet>>>);

impl Component for Collect {
    type Message = OpportunitySet;
    type Observed = ();

    async fn handle(&mut self, set: &OpportunitySet) -> anyhow::Result<()> {
        self.0.lock().expect("no panic").push(set.clone());
        Ok(())
    }

    fn observe(&self) {}
}

fn as_of(number: u64) -> AsOf {
    AsOf { seq: number, number, hash: U256::from(number).into() }
}

/// A block that touched as many pools as its number says, each block others.
fn market(number: u64) -> Arc<MarketSnapshot> {
    let touched = (0..number as u32).map(|pool| PoolId(number as u32 * 100 + pool));
    let head = Head { timestamp: 0, base_fee_per_gas: None, gas_used: 0, gas_limit: 0 };
    Arc::new(MarketSnapshot {
        parent: Some(as_of(number - 1)),
        changes: Changes::Pools(touched.collect()),
        ..MarketSnapshot::of_pools(as_of(number), head, PoolTable::default())
    })
}

fn prices(number: u64) -> Arc<PriceSnapshot> {
    Arc::new(PriceSnapshot {
        as_of: as_of(number),
        quote: Address::ZERO,
        prices: Default::default(),
        sources: Default::default(),
    })
}

fn decoded(number: u64) -> Arc<DecodedBlock> {
    let as_of = as_of(number);
    Arc::new(DecodedBlock {
        as_of,
        actions: vec![],
        unknown_logs: 0,
        unknown_calls: 0,
        malformed: 0,
        set_aside: false,
    })
}

/// A detector between its sources and its reader.
struct Bench {
    system: System,
    topology: Topology,
    markets: SnapshotWriter<MarketSnapshot>,
    prices: SnapshotWriter<PriceSnapshot>,
    sets: Arc<Mutex<Vec<OpportunitySet>>>,
    collector: ActorHandle<()>,
    mailbox: Mailbox<Arc<DecodedBlock>>,
    wiring: Wiring<OpportunitySet>,
}

impl Bench {
    async fn new(pace: Pace) -> Self {
        let system = System::start().await.expect("the root starts");
        let topology = Topology::new();
        let markets = SnapshotWriter::new(&topology, "state", "market");
        let prices = SnapshotWriter::new(&topology, "oracle", "prices");
        let sets: Arc<Mutex<Vec<OpportunitySet>>> = Arc::default();
        let executor = Mailbox::new(&topology, "executor", 4);
        let wiring = Wiring {
            market: markets.reader("tell"),
            prices: prices.reader("tell"),
            findings: executor.waiting("tell", "findings"),
            timeline: Timeline::default(),
            progress: BlockProgress::new(["tell".into()]),
            pace,
        };
        let collected = Arc::clone(&sets);
        let collector = system.spawn(executor, RestartPolicy::default(), move |_| {
            let sets = Arc::clone(&collected);
            async move { Ok(Collect(sets)) }
        });
        let mailbox = Mailbox::new(&topology, "tell", 16);
        Self { system, topology, markets, prices, sets, collector, mailbox, wiring }
    }

    /// Sends the blocks, publishes the snapshots of `published`, and has everything drained. Says what was found (the
    /// block and how many pools were said to be touched) and how the detector saw itself.
    async fn run(
        self,
        blocks: impl IntoIterator<Item = u64>,
        published: impl IntoIterator<Item = u64>,
        fails_at: Option<u64>,
    ) -> (Vec<(u64, u64)>, Observed) {
        let Self { system, topology, markets, prices: price_cell, sets, collector, mailbox, wiring } = self;
        let outlet = mailbox.waiting("decoder", "decoded blocks");
        for number in blocks {
            outlet.send(decoded(number)).await.expect("the mailbox is open");
        }
        drop(outlet);
        let failed = Arc::default();
        let detector = system.spawn(mailbox, RestartPolicy::default(), move |_| {
            let (wiring, failed) = (wiring.clone(), Arc::clone(&failed));
            async move { Ok(DetectorActor::new(Tell { fails_at, failed }, wiring)) }
        });
        // The market is ahead of the prices, and both come after the decoded blocks.
        let published: Vec<u64> = published.into_iter().collect();
        for number in &published {
            markets.publish(market(*number));
            tokio::task::yield_now().await;
        }
        for number in &published {
            price_cell.publish(prices(*number));
            tokio::task::yield_now().await;
        }
        assert_eq!(detector.control().ended().await, Exit::Drained);
        assert_eq!(collector.control().ended().await, Exit::Drained);
        for edge in topology.report() {
            assert!(edge.counts.conserved(), "{edge:?}");
        }
        let sets = sets.lock().expect("no panic");
        let found = sets.iter().map(|set| (set.as_of.number, set.items[0].gas)).collect();
        (found, detector.observed().expect("it ran"))
    }
}

#[tokio::test]
async fn every_block_is_evaluated_as_one_view_and_gets_one_set() {
    let bench = Bench::new(Pace::EveryBlock).await;
    let (found, observed) = bench.run(1..=5, 1..=5, None).await;
    assert_eq!(found, [(1, 1000), (2, 2), (3, 3), (4, 4), (5, 5)]);
    assert_eq!((observed.evaluated, observed.full_examinations, observed.missed), (5, 1, 0));
}

#[tokio::test]
async fn a_detector_that_is_behind_goes_on_with_the_newest_block() {
    let bench = Bench::new(Pace::Newest).await;
    let (found, observed) = bench.run(1..=5, 1..=5, None).await;
    assert_eq!(found, [(5, 1000)]);
    assert_eq!((observed.evaluated, observed.as_of), (1, Some(as_of(5))));
}

#[tokio::test]
async fn what_skipped_blocks_touched_is_examined_with_the_next() {
    let bench = Bench::new(Pace::EveryBlock).await;
    // Blocks 3 and 4 never reach the detector; the market names their changes all the same.
    let (found, _) = bench.run([1, 2, 5], 1..=5, None).await;
    assert_eq!(found, [(1, 1000), (2, 2), (5, 3 + 4 + 5)]);
}

#[tokio::test]
async fn a_block_whose_snapshots_have_passed_is_missed_and_the_next_examined_in_full() {
    let bench = Bench::new(Pace::EveryBlock).await;
    let (found, observed) = bench.run([1, 20], (1..=20).filter(|number| *number != 1), None).await;
    assert_eq!(found, [(20, 1000)]);
    assert_eq!(observed.missed, 1);
}

#[tokio::test]
async fn a_failure_repeats_the_block_and_loses_no_set() {
    let bench = Bench::new(Pace::EveryBlock).await;
    let (found, _) = bench.run(1..=4, 1..=4, Some(3)).await;
    assert_eq!(found, [(1, 1000), (2, 2), (3, 1000), (4, 4)]);
}

#[tokio::test]
async fn a_block_that_was_set_aside_is_missed_and_what_it_touched_is_examined_with_the_next() {
    let bench = Bench::new(Pace::EveryBlock).await;
    let (outlet, progress) =
        (bench.mailbox.waiting("before", "decoded blocks"), bench.wiring.progress.clone());
    for number in [1, 2] {
        outlet.send(decoded(number)).await.expect("the mailbox is open");
    }
    let set_aside = DecodedBlock { set_aside: true, ..DecodedBlock::clone(&decoded(3)) };
    outlet.send(Arc::new(set_aside)).await.expect("the mailbox is open");
    drop(outlet);
    let (found, observed) = bench.run(4..=4, 1..=4, None).await;
    assert_eq!(found, [(1, 1000), (2, 2), (4, 3 + 4)]);
    assert_eq!((observed.evaluated, observed.missed), (3, 1));
    assert_eq!(progress.finished(), 3, "nobody waits for its set; the others are the executor's to receive");
}
