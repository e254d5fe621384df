//! The parts of the bot that follow, price, find and compare, and somebody who never hears of a quarantine.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use anyhow::{Context, ensure};
use headwater_actor::Component as _;
use headwater_bus::{BusConfig, EventBus, EventHandler, SourcePublisher, Timeline, Topology};
use headwater_detectors::{Arbitrage, ArbitrageConfig, Detector as _};
use headwater_events::{
    BusEvent, DecodedBlock, Difference, Envelope, Grade, Opportunity, Protocol, ReorgEvent,
};
use headwater_ingest::{Fetcher, Link};
use headwater_market::{
    FactoryConfig, MarketConfig, MarketSnapshot, Preset, PriceSnapshot, Reserves, ResolvedMarket, Touched,
    WholeView,
};
use headwater_node::{Node, NodeConfig};
use headwater_oracle::{Oracle, OracleConfig};
use headwater_state::{SampleRequest, Tripwire, TripwireConfig, TripwireObserved, World, bulk_load};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::super::tracking::INIT_CODE_HASH;
use super::super::tracking::exchange::{Exchange, reserves};
use super::super::tracking::tap::Tap;
use super::injury::Kind;
use crate::devnet::{CHAIN_ID, Devnet};

/// `[state.tripwire]`.
pub(super) const POOLS: u64 = 4;
pub(super) const TICKS: u64 = 8;
pub(super) const CALLS: u64 = 104;
pub(super) const MOST_QUARANTINED: u64 = 13;

/// Every source event, in the order of the bus.
struct Out(mpsc::Sender<Envelope>);

impl EventHandler for Out {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        Ok(self.0.send(envelope.clone()).await?)
    }
}

/// A pool to which something is done.
#[derive(Clone, Debug)]
pub(super) struct Victim {
    pub(super) pool: Address,
    pub(super) spacing: i32,
    pub(super) current_tick: i32,
    pub(super) ticks: Vec<i32>,
}

pub(super) struct Bot {
    node: Node,
    fetcher: Fetcher,
    market: Arc<ResolvedMarket>,
    bus: EventBus,
    publisher: SourcePublisher,
    told: mpsc::Receiver<Envelope>,
    world: World,
    /// Without the quarantines.
    unguarded: World,
    oracle: Oracle,
    detectors: [Arbitrage; 2],
    tripwire: Tripwire,
    /// What only the tripwire asks.
    tap: Tap,
    record: Vec<Envelope>,
    head: Link,
    snapshots: [Option<Arc<MarketSnapshot>>; 2],
    prices: Option<Arc<PriceSnapshot>>,
    pub(super) quarantined: BTreeMap<Address, Difference>,
    pub(super) findings: u64,
    pub(super) averted: u64,
    pub(super) most_calls: u64,
}

impl Bot {
    pub(super) async fn start(devnet: &Devnet, exchange: &Exchange) -> anyhow::Result<Self> {
        let market = Arc::new(market(devnet, exchange)?);
        let tap = Tap::to(devnet.http_url().trim_start_matches("http://").parse()?)?;
        let config = |url: &str| -> anyhow::Result<NodeConfig> { Ok(NodeConfig::new(vec![url.parse()?])) };
        let (node, _) = Node::connect_first(&config(&devnet.http_url())?).await?;
        let bus = EventBus::new(&BusConfig::default(), &Topology::new(), &Timeline::default(), None, None);
        let (sender, told) = mpsc::channel(4_096);
        drop(bus.register("tripwire-proof", Out(sender)));
        let size = |size| NonZeroUsize::new(usize::try_from(size).expect("small")).expect("not zero");
        let tripwire = TripwireConfig {
            enabled: true,
            pools: size(POOLS),
            ticks: usize::try_from(TICKS)?,
            calls: size(CALLS),
            most_quarantined: size(MOST_QUARANTINED),
            ..TripwireConfig::default()
        };
        let tripwire = Tripwire::new(&market, tripwire, config(&tap.url())?, bus.publisher());
        let head = head(devnet)?;
        let load = bulk_load(&node, &market, head.hash, |_, _| {}).await?;
        ensure!(load.report.concentrated_pools >= 8, "only {} pools of V3", load.report.concentrated_pools);
        let search = || {
            let config = ArbitrageConfig { profit_after_gas: false, ..ArbitrageConfig::default() };
            Arbitrage::new(config, market.base_tokens.clone())
        };
        let mut bot = Self {
            node,
            fetcher: Fetcher::new(Grade::Matched, Duration::from_secs(10)),
            publisher: bus.publisher(),
            told,
            world: World::new(&market),
            unguarded: World::new(&market),
            oracle: Oracle::new(&market, &OracleConfig::default()),
            detectors: [search(), search()],
            tripwire,
            tap,
            record: Vec::new(),
            head,
            snapshots: [None, None],
            prices: None,
            quarantined: BTreeMap::new(),
            findings: 0,
            averted: 0,
            most_calls: 0,
            market,
            bus,
        };
        for event in load.events {
            bot.publish(event).await?;
        }
        Ok(bot)
    }

    pub(super) fn observed(&self) -> TripwireObserved {
        self.tripwire.observe()
    }

    async fn publish(&mut self, event: BusEvent) -> anyhow::Result<()> {
        let seq = self.publisher.publish(event, None).await?;
        while self.record.last().is_none_or(|last| last.seq < seq) {
            self.take().await?;
        }
        Ok(())
    }

    async fn take(&mut self) -> anyhow::Result<()> {
        let envelope = self.told.recv().await.context("the bus has ended")?;
        if envelope.derived.is_some() {
            return Ok(());
        }
        if let Some(block) = self.world.apply(&envelope)? {
            self.snapshots[0] = Some(block.snapshot);
        }
        if let BusEvent::PoolQuarantined(pool) = &envelope.event {
            let twice = self.quarantined.insert(pool.pool, pool.difference);
            ensure!(twice.is_none(), "{} is quarantined twice", pool.pool);
            ensure!(pool.hash == self.head.hash && pool.ours != pool.theirs, "{pool:?}");
        } else if let Some(block) = self.unguarded.apply(&envelope)? {
            self.snapshots[1] = Some(block.snapshot);
        }
        if let Some(block) = self.oracle.apply(&envelope)? {
            self.prices = Some(block.snapshot);
        }
        self.record.push(envelope);
        Ok(())
    }

    /// The node's head, and what is found in it; then some of its pools are compared. Says whether logs of `deaf_to` were left
    /// out.
    pub(super) async fn block(&mut self, devnet: &Devnet, deaf_to: Option<Address>) -> anyhow::Result<bool> {
        let was_deaf = self.follow(devnet, deaf_to).await?;
        self.search()?;
        self.sample().await?;
        Ok(was_deaf)
    }

    async fn follow(&mut self, devnet: &Devnet, deaf_to: Option<Address>) -> anyhow::Result<bool> {
        let link = head(devnet)?;
        let mut block = self.fetcher.fetch(&self.node, &link).await?.block;
        let all = block.logs.len();
        // What the last of them says is missed: one without an effect is not.
        block.logs.retain(|log| {
            Some(log.address) != deaf_to || log.topics.first() != Some(&telling(deaf_to, &self.world))
        });
        let was_deaf = block.logs.len() < all;
        self.head = link;
        self.publish(BusEvent::NewBlock(block)).await?;
        Ok(was_deaf)
    }

    async fn sample(&mut self) -> anyhow::Result<()> {
        let (calls, quarantined) = (self.calls(), self.observed().quarantined);
        let snapshot = self.snapshots[0].clone().context("there is a snapshot")?;
        self.tripwire.handle(&SampleRequest { snapshot }).await?;
        for _ in quarantined..self.observed().quarantined {
            self.take().await?;
        }
        self.most_calls = self.most_calls.max(self.calls() - calls);
        Ok(())
    }

    /// Asks about a block that was canonical when the question arose.
    pub(super) async fn block_undone_before_it_is_asked_about(
        &mut self,
        devnet: &Devnet,
    ) -> anyhow::Result<()> {
        let below = self.head;
        self.follow(devnet, None).await?;
        devnet.roll_back(1)?;
        devnet.mine_another()?;
        let compared = self.observed().compared;
        self.sample().await?;
        ensure!(self.observed().compared == compared, "it was compared");
        let old_head = self.head.hash;
        let reorg = ReorgEvent {
            ancestor_number: below.number,
            ancestor_hash: below.hash,
            undone: vec![old_head],
            old_head,
            new_head: head(devnet)?.hash,
        };
        self.publish(BusEvent::Reorg(reorg)).await?;
        self.block(devnet, None).await.map(drop)
    }

    /// Calls in the node's log.
    pub(super) fn calls(&self) -> u64 {
        let beside = ["eth_getBlockByNumber", "eth_getLogs"].map(|method| self.tap.calls(method));
        (self.tap.state_calls() + beside.iter().sum::<usize>()) as u64
    }

    fn search(&mut self) -> anyhow::Result<()> {
        let mut found: [Vec<Opportunity>; 2] = Default::default();
        let prices = self.prices.clone().context("there are prices")?;
        for ((snapshot, detector), found) in self.snapshots.iter().zip(&mut self.detectors).zip(&mut found) {
            let snapshot = snapshot.clone().context("there is a snapshot")?;
            let decoded = DecodedBlock {
                as_of: snapshot.as_of,
                actions: Vec::new(),
                unknown_logs: 0,
                unknown_calls: 0,
                malformed: 0,
                set_aside: false,
            };
            let view = WholeView::new(snapshot, Arc::clone(&prices), Arc::new(decoded), Touched::All)?;
            *found = detector.evaluate(&view);
        }
        let is_over =
            |found: &&Opportunity| found.path.iter().any(|pool| self.quarantined.contains_key(pool));
        let [guarded, unguarded] = &found;
        ensure!(!guarded.iter().any(|found| is_over(&found)), "a finding over a quarantined pool");
        self.findings += guarded.len() as u64;
        self.averted += unguarded.iter().filter(is_over).count() as u64;
        Ok(())
    }

    pub(super) fn is_quoted(&self, pool: &Address) -> bool {
        let Some(snapshot) = &self.snapshots[0] else { return false };
        let (pools, concentrated) = (&snapshot.pools, &snapshot.concentrated);
        pools.find(pool).is_some_and(|id| pools.quoted(id).is_some())
            || concentrated.find(pool).is_some_and(|id| snapshot.quoted_concentrated(id).is_some())
    }

    /// Any pool of the kind that is quoted.
    pub(super) fn victim(&self, kind: Kind, random: &mut ChaCha8Rng) -> anyhow::Result<Victim> {
        let snapshot = self.snapshots[0].as_ref().context("there is a snapshot")?;
        let pairs = snapshot.pools.iter().filter(|(id, ..)| snapshot.pools.quoted(*id).is_some());
        let pairs = pairs.map(|(_, meta, _)| Victim {
            pool: meta.address,
            spacing: 1,
            current_tick: 0,
            ticks: Vec::new(),
        });
        let concentrated = snapshot.concentrated.iter().filter_map(|(_, meta, pool)| {
            let pool = pool.filter(|pool| pool.liquidity() > 0)?;
            Some(Victim {
                pool: meta.address,
                spacing: meta.tick_spacing,
                current_tick: pool.price()?.tick,
                ticks: pool.ticks().map(|tick| tick.index).collect(),
            })
        });
        let mut all: Vec<_> = if kind.is_of_pair() { pairs.collect() } else { concentrated.collect() };
        ensure!(!all.is_empty(), "there is no pool left");
        Ok(all.swap_remove(random.random_range(0..all.len())))
    }

    /// Blocks until every pool had its turn.
    pub(super) fn lap(&self) -> u64 {
        let all = self.snapshots[0].as_ref().map_or(0, |all| all.pools.len() + all.concentrated.len());
        (all as u64).div_ceil(POOLS) + 1
    }

    pub(super) fn bound(&self, kind: Kind, victim: &Victim) -> u64 {
        match kind {
            Kind::Tick => super::blocks_for_ticks(self.lap(), victim.ticks.len()),
            _ => self.lap(),
        }
    }

    /// Every pool that nobody touched is quoted, with what its storage holds. Says how many they are.
    pub(super) fn compare(&self, devnet: &Devnet, exchange: &Exchange) -> anyhow::Result<u64> {
        let snapshot = self.snapshots[0].as_ref().context("there is a snapshot")?;
        let mut compared = 0;
        for (id, meta, held) in snapshot.pools.iter() {
            let [reserve0, reserve1] = reserves(devnet, meta.address)?;
            let stored = Reserves { reserve0, reserve1 };
            if self.quarantined.contains_key(&meta.address) {
                ensure!(snapshot.pools.quoted(id).is_none(), "{} is quoted", meta.address);
                continue;
            }
            if reserve0 == 0 && reserve1 == 0 {
                continue;
            }
            ensure!(held == Some(stored), "{}: {held:?}, its storage has {stored:?}", meta.address);
            ensure!(snapshot.pools.quoted(id) == Some(stored), "{} is not quoted", meta.address);
            compared += 1;
        }
        for place in exchange.places() {
            let Some(id) = snapshot.concentrated.find(&place.pool) else { continue };
            let pool = snapshot.concentrated.pool(id);
            if self.quarantined.contains_key(&place.pool) {
                ensure!(pool.is_none(), "{} is quoted", place.pool);
                continue;
            }
            let pool = pool.with_context(|| format!("{} is not quoted", place.pool))?;
            let (state, ticks) = exchange.stored(devnet, place, false)?;
            let price = pool.price().map(|price| (price.sqrt_price, price.tick)).unwrap_or_default();
            ensure!(price == (state.sqrt_price, state.tick), "{place:?}: {price:?}, not {state:?}");
            ensure!(pool.liquidity() == state.liquidity, "{place:?}: {}, not {state:?}", pool.liquidity());
            let held = pool.ticks().map(|tick| (tick.index, tick.liquidity_net, tick.liquidity_gross));
            ensure!(held.eq(ticks), "{place:?} has other ticks");
            compared += 1;
        }
        Ok(compared)
    }

    /// Folds the record anew.
    pub(super) fn replay(&self) -> anyhow::Result<()> {
        let (mut world, mut oracle) =
            (World::new(&self.market), Oracle::new(&self.market, &OracleConfig::default()));
        for envelope in &self.record {
            world.apply(envelope)?;
            oracle.apply(envelope)?;
        }
        ensure!(world.digest() == self.world.digest(), "a replay gives other pools");
        ensure!(oracle.digest() == self.oracle.digest(), "a replay gives other prices");
        ensure!(world.digest() != self.unguarded.digest(), "the quarantines are in no digest");
        let image = serde_json::from_str(&serde_json::to_string(&world.image())?)?;
        let restored = World::of_image(&self.market, image)?;
        ensure!(restored.digest() == world.digest(), "an image forgets");
        let counts = world.counts();
        let told = counts.book.quarantined + counts.concentrated.quarantined;
        ensure!(told == self.quarantined.len() as u64, "{told} are counted");
        Ok(())
    }

    pub(super) fn finish(self) {
        self.bus.close_source();
        self.bus.close_derived();
    }
}

/// The event that sets a pool's state.
fn telling(pool: Option<Address>, world: &World) -> B256 {
    let is_concentrated = pool.is_some_and(|pool| world.concentrated().proven(&pool).is_some());
    let swap = "Swap(address,address,int256,int256,uint160,uint128,int24)";
    let name = if is_concentrated { swap } else { "Sync(uint112,uint112)" };
    alloy_primitives::keccak256(name)
}

fn market(devnet: &Devnet, exchange: &Exchange) -> anyhow::Result<ResolvedMarket> {
    let addresses = devnet.addresses();
    let tokens = addresses.tokens.iter().map(|token| token.address).chain([addresses.weth]);
    let config = MarketConfig {
        preset: Some(Preset::Devnet),
        tokens: tokens.map(|token| token.to_string()).collect(),
        factories: vec![FactoryConfig {
            protocol: Protocol::UniswapV3,
            name: None,
            address: exchange.factory().to_string(),
            init_code_hash: Some(INIT_CODE_HASH.to_owned()),
            deployer: None,
            fee_ppm: 3_000,
        }],
        ..MarketConfig::default()
    };
    Ok(ResolvedMarket::resolve(&config, CHAIN_ID)?)
}

fn head(devnet: &Devnet) -> anyhow::Result<Link> {
    let block: Value = devnet.rpc().call("eth_getBlockByNumber", json!(["latest", false]))?;
    let hash = |field: &str| -> anyhow::Result<B256> { Ok(serde_json::from_value(block[field].clone())?) };
    let number = devnet.head()?.number;
    Ok(Link { number, hash: hash("hash")?, parent_hash: hash("parentHash")? })
}
