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
    BusEvent, DecodedBlock, Difference, Envelope, Grade, Log, Opportunity, Plan, Protocol, ReorgEvent,
};
use headwater_ingest::{Fetcher, Link};
use headwater_market::{
    ConcentratedKey, ConcentratedKind, ConcentratedMeta, FactoryConfig, MarketConfig, MarketSnapshot, Preset,
    PriceSnapshot, Reserves, ResolvedMarket, Touched, WholeView,
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
use super::injury::{Kind, Make};
use super::liar::Liar;
use crate::devnet::{CHAIN_ID, Devnet};

/// `[state.tripwire]`.
pub(super) const POOLS: u64 = 4;
pub(super) const TICKS: u64 = 8;
pub(super) const CALLS: u64 = 104;
pub(super) const MOST_QUARANTINED: u64 = 22;

/// Every source event, in the order of the bus.
struct Out(mpsc::Sender<Envelope>);

impl EventHandler for Out {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        Ok(self.0.send(envelope.clone()).await?)
    }
}

/// What a pool is called: its address, and of V4 its manager's and its id.
pub(super) type Name = (Address, Option<B256>);

/// A pool to which something is done.
#[derive(Clone, Debug)]
pub(super) struct Victim {
    pub(super) name: Name,
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
    /// Asks a liar first, and then the node.
    torn: Tripwire,
    pub(super) liar: Liar,
    /// What only the tripwire asks.
    tap: Tap,
    record: Vec<Envelope>,
    head: Link,
    snapshots: [Option<Arc<MarketSnapshot>>; 2],
    prices: Option<Arc<PriceSnapshot>>,
    pub(super) quarantined: BTreeMap<Name, Difference>,
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
        let liar = Liar::in_front_of(devnet.http_url().trim_start_matches("http://").parse()?)?;
        let both = NodeConfig::new(vec![liar.url().parse()?, tap.url().parse()?]);
        let torn = Tripwire::new(&market, tripwire.clone(), both, bus.publisher());
        let tripwire = Tripwire::new(&market, tripwire, config(&tap.url())?, bus.publisher());
        let head = head(devnet)?;
        let load = bulk_load(&node, &market, head.hash, |_, _| {}).await?;
        ensure!(load.report.concentrated_pools >= 16, "only {} pools of V3", load.report.concentrated_pools);
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
            torn,
            liar,
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

    /// Of the one that asks two endpoints.
    pub(super) fn torn(&self) -> TripwireObserved {
        self.torn.observe()
    }

    /// The endpoints that it asks, by their hosts.
    pub(super) fn endpoints(&self) -> [String; 2] {
        [self.liar.url(), self.tap.url()]
    }

    /// The same pools are asked about at two endpoints.
    pub(super) async fn ask_both(&mut self) -> anyhow::Result<()> {
        let snapshot = self.snapshots[0].clone().context("there is a snapshot")?;
        self.torn.handle(&SampleRequest { snapshot }).await
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
        let quarantined = match &envelope.event {
            BusEvent::PoolQuarantined(pool) => {
                ensure!(pool.hash == self.head.hash && pool.ours != pool.theirs, "{pool:?}");
                Some(((pool.pool, None), pool.difference))
            }
            BusEvent::V4Quarantined(pool) => {
                ensure!(pool.hash == self.head.hash && pool.ours != pool.theirs, "{pool:?}");
                Some(((pool.manager, Some(pool.id)), pool.difference))
            }
            _ => None,
        };
        if let Some((name, difference)) = quarantined {
            let twice = self.quarantined.insert(name, difference);
            ensure!(twice.is_none(), "{name:?} is quarantined twice");
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
    pub(super) async fn block(&mut self, devnet: &Devnet, deaf_to: Option<Name>) -> anyhow::Result<bool> {
        let was_deaf = self.follow(devnet, deaf_to).await?;
        self.search()?;
        self.sample().await?;
        Ok(was_deaf)
    }

    async fn follow(&mut self, devnet: &Devnet, deaf_to: Option<Name>) -> anyhow::Result<bool> {
        let link = head(devnet)?;
        let mut block = self.fetcher.fetch(&self.node, &link).await?.block;
        let all = block.logs.len();
        // What the last of them says is missed: one without an effect is not.
        block.logs.retain(|log| deaf_to.is_none_or(|name| !is_told_by(log, name, &self.world)));
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
            |found: &&Opportunity| names_of(found).iter().any(|name| self.quarantined.contains_key(name));
        let [guarded, unguarded] = &found;
        ensure!(!guarded.iter().any(|found| is_over(&found)), "a finding over a quarantined pool");
        self.findings += guarded.len() as u64;
        self.averted += unguarded.iter().filter(is_over).count() as u64;
        Ok(())
    }

    pub(super) fn is_quoted(&self, name: &Name) -> bool {
        let Some(snapshot) = &self.snapshots[0] else { return false };
        let (pools, concentrated) = (&snapshot.pools, &snapshot.concentrated);
        pools.find(&name.0).is_some_and(|id| pools.quoted(id).is_some())
            || concentrated
                .find_key(&key_of(*name))
                .is_some_and(|id| snapshot.quoted_concentrated(id).is_some())
    }

    /// Any pool of the kind that is quoted.
    pub(super) fn victim(&self, kind: Kind, random: &mut ChaCha8Rng) -> anyhow::Result<Victim> {
        let snapshot = self.snapshots[0].as_ref().context("there is a snapshot")?;
        let pairs = snapshot.pools.iter().filter(|(id, ..)| snapshot.pools.quoted(*id).is_some());
        let pairs = pairs.map(|(_, meta, _)| Victim {
            name: (meta.address, None),
            spacing: 1,
            current_tick: 0,
            ticks: Vec::new(),
        });
        let make = kind.make();
        let concentrated = snapshot.concentrated.iter().filter_map(|(id, meta, pool)| {
            let is_of_make = (meta.kind == ConcentratedKind::V3) == (make == Make::V3);
            let is_quoted = snapshot.quoted_concentrated(id).is_some();
            let pool = pool.filter(|pool| is_of_make && is_quoted && pool.ticks().next().is_some())?;
            Some(Victim {
                name: name_of(meta),
                spacing: meta.tick_spacing,
                current_tick: pool.price()?.tick,
                ticks: pool.ticks().map(|tick| tick.index).collect(),
            })
        });
        let mut all: Vec<_> = if make == Make::V2 { pairs.collect() } else { concentrated.collect() };
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
            Kind::Tick | Kind::V4Tick => super::blocks_for_ticks(self.lap(), victim.ticks.len()),
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
            if self.quarantined.contains_key(&(meta.address, None)) {
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
            if self.quarantined.contains_key(&(place.pool, None)) {
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
        Ok(compared + self.compare_v4(devnet, exchange)?)
    }

    fn compare_v4(&self, devnet: &Devnet, exchange: &Exchange) -> anyhow::Result<u64> {
        let snapshot = self.snapshots[0].as_ref().context("there is a snapshot")?;
        let mut compared = 0;
        for place in exchange.places_v4() {
            let name = (place.manager, Some(place.id()));
            let Some(id) = snapshot.concentrated.find_key(&key_of(name)) else { continue };
            let pool = snapshot.concentrated.pool(id);
            if self.quarantined.contains_key(&name) {
                ensure!(pool.is_none(), "{place:?} is quoted");
                continue;
            }
            let pool = pool.with_context(|| format!("{place:?} is not quoted"))?;
            let (state, ticks, protocol_fee) = exchange.stored_v4(devnet, place, false)?;
            let price = pool.price().map(|price| (price.sqrt_price, price.tick)).unwrap_or_default();
            ensure!(price == (state.sqrt_price, state.tick), "{place:?}: {price:?}, not {state:?}");
            ensure!(pool.liquidity() == state.liquidity, "{place:?}: {}, not {state:?}", pool.liquidity());
            let held = pool.ticks().map(|tick| (tick.index, tick.liquidity_net, tick.liquidity_gross));
            ensure!(held.eq(ticks), "{place:?} has other ticks");
            let [zero_in, one_in] = pool.fee().protocol;
            ensure!(zero_in | one_in << 12 == protocol_fee, "{place:?} has another protocol fee");
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

/// Whether a log is one by which a pool tells where it stands.
fn is_told_by(log: &Log, (address, id): Name, world: &World) -> bool {
    let v4 = "Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24)";
    let v3 = "Swap(address,address,int256,int256,uint160,uint128,int24)";
    let telling = match id {
        Some(_) => v4,
        None if world.concentrated().proven(&address).is_some() => v3,
        None => "Sync(uint112,uint112)",
    };
    log.address == address
        && log.topics.first() == Some(&alloy_primitives::keccak256(telling))
        && (id.is_none() || log.topics.get(1).copied() == id)
}

fn key_of((address, id): Name) -> ConcentratedKey {
    id.map_or(ConcentratedKey::V3(address), |id| ConcentratedKey::V4 { manager: address, id })
}

fn name_of(meta: &ConcentratedMeta) -> Name {
    match meta.kind {
        ConcentratedKind::V3 => (meta.address, None),
        ConcentratedKind::V4 { id } => (meta.address, Some(id)),
    }
}

/// The pools that a finding goes through.
fn names_of(found: &Opportunity) -> Vec<Name> {
    match &found.plan {
        Plan::Mixed(steps) => steps.iter().map(|step| (step.swap.pool, step.pool_id)).collect(),
        _ => found.path.iter().map(|pool| (*pool, None)).collect(),
    }
}

fn market(devnet: &Devnet, exchange: &Exchange) -> anyhow::Result<ResolvedMarket> {
    let addresses = devnet.addresses();
    let tokens = addresses.tokens.iter().map(|token| token.address).chain([addresses.weth]);
    let config = MarketConfig {
        preset: Some(Preset::Devnet),
        tokens: tokens.map(|token| token.to_string()).collect(),
        factories: vec![
            FactoryConfig {
                protocol: Protocol::UniswapV3,
                name: None,
                address: exchange.factory().to_string(),
                init_code_hash: Some(INIT_CODE_HASH.to_owned()),
                deployer: None,
                fee_ppm: 3_000,
            },
            FactoryConfig {
                protocol: Protocol::UniswapV4,
                name: None,
                address: exchange.manager().to_string(),
                init_code_hash: None,
                deployer: None,
                fee_ppm: 3_000,
            },
        ],
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
