//! Pools on a real node: loaded from it while its heads advance and are reorganised, and then followed by the events alone.

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use anyhow::{Context, bail, ensure};
use headwater_actor::Component as _;
use headwater_bus::{BusConfig, EventBus, EventHandler, SourcePublisher, Timeline, Topology};
use headwater_events::{BusEvent, Envelope, Grade, ReorgEvent};
use headwater_ingest::{Fetcher, Link};
use headwater_market::{ConcentratedKey, MarketConfig, MarketSnapshot, Preset, Reserves, ResolvedMarket};
use headwater_node::{Node, NodeConfig};
use headwater_state::{LoadRequest, Loader, Patience, StateConfig, Subject, World, load_market};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::exchange::{Exchange, reserves};
use super::tap::{Gate, Held, Tap, meanwhile};
use super::{Place, Stored, factories, is_known, managed};
use crate::devnet::{Artifacts, CHAIN_ID, Devnet, Extent, Trader};

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Times that everything is loaded anew, by somebody who knows nothing.
    pub(super) starts: u64,
    /// Blocks in which pools are still found and loaded, at least.
    pub(super) loading: u64,
    /// Blocks that are followed behind that.
    pub(super) followed: u64,
    /// Pools of V3 that are there before.
    pub(super) pools: usize,
    /// Blocks that a reorganisation undoes at most.
    pub(super) deepest: u64,
}

/// Requests of the load at the start from one block to the next, and blocks at most.
const REQUESTS_PER_BLOCK: u64 = 2;
const BLOCKS_PER_START: u64 = 8;

/// So many requests after a load has chosen a block, the block is undone: once in each start.
const UNDONE_BEHIND: u64 = 5;

/// Blocks behind those of a start until a pool that nobody has found yet is a failure: it is found when it trades, in a block that stays
/// until it is read.
const MOST_BLOCKS_MORE: u64 = 400;

/// Blocks that come while one pool is read, at most; a look-up has a few seconds.
const BLOCKS_PER_READING: u64 = 2;

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) blocks: u64,
    pub(super) starts: u64,
    pub(super) reorgs: u64,
    pub(super) deepest: u64,
    pub(super) pairs: u64,
    pub(super) pools: u64,
    pub(super) compared: u64,
    pub(super) ticks: u64,
    pub(super) loaded_at_start: u64,
    /// Of them, as of a block that was the head no longer when the load was through.
    pub(super) loaded_below: u64,
    /// Times that the block of a load at the start was undone.
    pub(super) begun_anew: u64,
    pub(super) loaded_late: u64,
    /// Of them, those that the world took up under blocks that came between one request of the reading and the next.
    pub(super) taken_under: u64,
    /// Readings whose block was undone while they went on.
    pub(super) undone_readings: u64,
    /// Questions about blocks that were undone before, and answers that came too late.
    pub(super) undone_loads: u64,
    pub(super) state_calls: u64,
    pub(super) followed_blocks: u64,
    pub(super) created_while_followed: u64,
    pub(super) sent: super::exchange::Sent,
    pub(super) compared_v4: u64,
    pub(super) v4: managed::Sent,
    pub(super) v4_pools: u64,
    pub(super) v4_loaded: u64,
    pub(super) v4_refused: u64,
}

/// Blocks that the pools are left to move on while a question waits.
const LATEST_ANSWER: u64 = 6;

/// Every source event, in the order of the bus.
struct Out(mpsc::Sender<Envelope>);

impl EventHandler for Out {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        Ok(self.0.send(envelope.clone()).await?)
    }
}

/// The node's chain, and who moves it.
struct Stage<'a> {
    devnet: &'a Devnet,
    exchange: Exchange,
    trader: Trader,
    random: &'a mut ChaCha8Rng,
    deepest: u64,
    /// From the block before the first start on.
    chain: Vec<Link>,
    /// So many of its blocks stay.
    floor: usize,
    tally: Tally,
}

/// Somebody who follows the node, with the parts that the bot is made of.
struct Follower {
    node: Node,
    fetcher: Fetcher,
    world: World,
    bus: EventBus,
    publisher: SourcePublisher,
    told: mpsc::Receiver<Envelope>,
    /// Questions, and the height at which they are asked.
    waiting: VecDeque<(u64, LoadRequest)>,
    snapshot: Option<Arc<MarketSnapshot>>,
}

/// The wires to the node.
struct Wires {
    /// Blocks come here.
    plain: Tap,
    /// Whatever is loaded comes here, and each request is held.
    held: Tap,
    gate: Gate,
}

pub(super) async fn follow(size: Size, random: &mut ChaCha8Rng) -> anyhow::Result<Tally> {
    let (devnet, artifacts) = (Devnet::start_with(Extent::Pairs)?, Artifacts::install()?);
    let mut stage = Stage::set(&devnet, &artifacts, random, size)?;
    let market = Arc::new(market(&stage.exchange)?);
    let node = devnet.http_url().trim_start_matches("http://").parse()?;
    let (held, gate) = Tap::with_gate(node)?;
    let mut wires = Wires { plain: Tap::to(node)?, held, gate };
    let (mut follower, mut loader) = load(&mut stage, &mut wires, &market, size).await?;
    let Wires { plain, held, gate } = wires;
    drop(gate);
    let state_calls = || plain.state_calls() + held.state_calls();
    let before = state_calls();
    ensure!(before > 0, "the taps heard nothing of the load");
    follow_on(&mut stage, &mut follower, &mut loader, size).await?;
    let after = state_calls();
    ensure!(after == before, "{} calls that read state, while the pools were followed", after - before);
    let blocks = size.loading + size.followed;
    ensure!(plain.calls("eth_getBlockByHash") as u64 >= blocks, "the tap did not hear of every block");
    judge_refused(&mut stage, &follower, &loader)?;
    follower.end();
    let Stage { exchange, mut tally, .. } = stage;
    let snapshot = follower.snapshot.as_ref().context("there is a snapshot")?;
    tally.pairs = snapshot.pools.len() as u64;
    tally.pools = exchange.places().len() as u64;
    tally.v4_pools = exchange.managed.places.len() as u64;
    tally.v4 = exchange.sent_v4;
    tally.state_calls = before as u64;
    tally.sent = exchange.sent;
    Ok(tally)
}

/// Starts, and finds what there is, again and again; the last one until it knows every pool.
async fn load(
    stage: &mut Stage<'_>,
    wires: &mut Wires,
    market: &Arc<ResolvedMarket>,
    size: Size,
) -> anyhow::Result<(Follower, Loader)> {
    let mut started: Option<(Follower, Loader)> = None;
    for start in 1..=size.starts {
        if let Some((follower, _)) = started.take() {
            follower.end();
        }
        let (mut follower, mut loader) = Follower::start(stage, wires, market).await?;
        let until = stage.tally.blocks + size.loading / size.starts;
        compare(stage, &follower, Look::default())?;
        while stage.tally.blocks < until
            || (start == size.starts && stage.unknown_to(&follower).next().is_some())
        {
            let is_reorg = stage.undo_by_chance(Some(&mut follower)).await?;
            stage.block(is_reorg, Some(&mut follower)).await?;
            follower.ask(&mut loader, stage, &mut wires.gate).await?;
            compare(stage, &follower, Look::default())?;
            ensure!(
                stage.tally.blocks < until + MOST_BLOCKS_MORE,
                "not known in block {}: {:?}; {:?}",
                stage.chain.last().map_or(0, |head| head.number),
                stage.unknown_to(&follower).collect::<Vec<_>>(),
                (loader.observe(), follower.world.counts().concentrated)
            );
        }
        started = Some((follower, loader));
    }
    let (mut follower, loader) = started.context("there was a start")?;
    follower.waiting.clear();
    Ok((follower, loader))
}

/// Nothing is asked any longer.
async fn follow_on(
    stage: &mut Stage<'_>,
    follower: &mut Follower,
    loader: &mut Loader,
    size: Size,
) -> anyhow::Result<()> {
    stage.floor = stage.chain.len();
    let known: BTreeSet<_> = places(&stage.exchange).map(|place| place.key()).collect();
    let mut created = BTreeSet::new();
    for left in (0..size.followed).rev() {
        let is_reorg = stage.undo_by_chance(Some(follower)).await?;
        if is_reorg {
            compare(stage, follower, Look { knows_all: true, ..Look::default() })?;
        }
        stage.block(is_reorg, Some(follower)).await?;
        follower.ask_about_refused(loader, &stage.exchange).await?;
        compare(stage, follower, Look { knows_all: true, has_market: true, everywhere: left == 0 })?;
        created.extend(places(&stage.exchange).map(|place| place.key()).filter(|key| !known.contains(key)));
        stage.tally.followed_blocks += 1;
    }
    stage.tally.created_while_followed = created.len() as u64;
    Ok(())
}

fn judge_refused(stage: &mut Stage<'_>, follower: &Follower, loader: &Loader) -> anyhow::Result<()> {
    let counts = follower.world.concentrated().counts();
    ensure!(counts.contradictions == 0, "a log of a real pool was refused: {counts:?}");
    let observed = loader.observe();
    ensure!(observed.unnamed == 0, "the node did not name a pool");
    stage.tally.v4_refused =
        counts.hooked_pools + counts.dynamic_fee_pools + observed.hooked + observed.dynamic_fee;
    stage.tally.undone_loads += counts.foreign_loads;
    let table = follower.world.concentrated().table();
    let known = |place: &_| table.find_key(&Place::V4(*place).key()).is_some();
    ensure!(!stage.exchange.managed.refused.iter().any(known), "a pool that has to be refused got in");
    Ok(())
}

fn market(exchange: &Exchange) -> anyhow::Result<ResolvedMarket> {
    let config = MarketConfig {
        preset: Some(Preset::Devnet),
        factories: factories(exchange.factory().to_string(), exchange.managed.routers.manager.to_string()),
        ..MarketConfig::default()
    };
    Ok(ResolvedMarket::resolve(&config, CHAIN_ID)?)
}

fn places(exchange: &Exchange) -> impl Iterator<Item = Place> {
    let v3 = exchange.places().iter().copied().map(Place::V3);
    v3.chain(exchange.managed.places.iter().copied().map(Place::V4))
}

/// What has to be known, and how far it is looked.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    /// Every pool that is there.
    knows_all: bool,
    /// The market as of the head: right after a reorganisation there is none of the ancestor.
    has_market: bool,
    /// For ticks of any height.
    everywhere: bool,
}

/// The pools that are known, with and without reserves, are what the node's storage holds at its head.
fn compare(stage: &mut Stage<'_>, follower: &Follower, look: Look) -> anyhow::Result<()> {
    let Stage { devnet, exchange, chain, tally, .. } = stage;
    let head = chain.last().context("there is a head")?;
    let book = follower.world.concentrated();
    for place in places(exchange) {
        if !follower.knows(&place) {
            ensure!(!look.knows_all, "{place:?} is not known in block {}", head.number);
            continue;
        }
        let (state, ticks, protocol_fee) = match &place {
            Place::V3(place) => {
                let (state, ticks) = exchange.stored(devnet, place, look.everywhere)?;
                (state, ticks, 0)
            }
            Place::V4(place) => exchange.stored_v4(devnet, place, look.everywhere)?,
        };
        let stored = Stored { place, state, ticks, protocol_fee };
        ensure!(is_known(book, &stored)?, "{place:?} is known");
        tally.compared += 1;
        tally.compared_v4 += u64::from(matches!(place, Place::V4(_)));
        tally.ticks += stored.ticks.len() as u64;
    }
    let snapshot = follower.snapshot.as_ref().filter(|snapshot| snapshot.as_of.hash == head.hash);
    ensure!(snapshot.is_some() || !look.has_market, "there is no market as of block {}", head.number);
    let Some(snapshot) = snapshot else { return Ok(()) };
    let mut pairs: BTreeSet<Address> = devnet.addresses().pools.iter().map(|pool| pool.address).collect();
    for (_, meta, held) in snapshot.pools.iter() {
        let [reserve0, reserve1] = reserves(devnet, meta.address)?;
        // As long as nobody has given it anything, a pair says nothing: then there is nothing to be known.
        let stored = (reserve0 > 0 || reserve1 > 0).then_some(Reserves { reserve0, reserve1 });
        ensure!(held == stored, "pair {}: {held:?}, its storage has {stored:?}", meta.address);
        pairs.remove(&meta.address);
        tally.compared += 1;
    }
    ensure!(!look.knows_all || pairs.is_empty(), "{pairs:?} are not known in block {}", head.number);
    Ok(())
}

impl<'a> Stage<'a> {
    fn set(
        devnet: &'a Devnet,
        artifacts: &Artifacts,
        random: &'a mut ChaCha8Rng,
        size: Size,
    ) -> anyhow::Result<Self> {
        let exchange = Exchange::deploy(devnet, artifacts, random, size.pools)?;
        let trader = Trader::new(random.random(), devnet);
        let chain = vec![head(devnet)?];
        let (deepest, tally) = (size.deepest, Tally::default());
        Ok(Self { devnet, exchange, trader, random, deepest, chain, floor: 1, tally })
    }

    /// Takes back some blocks, where the dice say so.
    async fn undo_by_chance(&mut self, follower: Option<&mut Follower>) -> anyhow::Result<bool> {
        let undoable = (self.chain.len() as u64).saturating_sub(self.floor as u64).min(self.deepest);
        let is_reorg = undoable > 0 && self.random.random_range(0..10) == 0;
        if is_reorg {
            let depth = self.random.random_range(1..=undoable);
            self.undo(depth as usize, follower).await?;
        }
        Ok(is_reorg)
    }

    async fn undo(&mut self, depth: usize, follower: Option<&mut Follower>) -> anyhow::Result<()> {
        let kept = self.chain.len().checked_sub(depth).context("deeper than the chain")?;
        self.devnet.roll_back(depth as u64)?;
        self.exchange.forget_undone(self.devnet)?;
        let undone = self.chain.split_off(kept);
        self.tally.reorgs += 1;
        self.tally.deepest = self.tally.deepest.max(depth as u64);
        match follower {
            Some(follower) => follower.undo(&undone, self.chain.last()).await,
            None => Ok(()),
        }
    }

    /// The next block; after a reorganisation another one than was there.
    async fn block(&mut self, is_another: bool, follower: Option<&mut Follower>) -> anyhow::Result<()> {
        let Self { devnet, exchange, random, .. } = self;
        if random.random_range(0..20) == 0 {
            exchange.create(devnet, random)?;
            exchange.create_v4(devnet, random)?;
        }
        for _ in 0..random.random_range(0..6) {
            exchange.act(devnet, random)?;
            exchange.act_v4(devnet, random)?;
        }
        self.trader.trade(devnet)?;
        if is_another {
            devnet.mine_another()?;
        } else {
            devnet.mine()?;
        }
        let link = head(devnet)?;
        self.chain.push(link);
        self.tally.blocks += 1;
        match follower {
            Some(follower) => follower.block(&link, random).await,
            None => Ok(()),
        }
    }

    fn place_of(&self, block: &B256) -> Option<usize> {
        self.chain.iter().position(|link| link.hash == *block)
    }

    fn unknown_to(&self, follower: &Follower) -> impl Iterator<Item = Place> {
        places(&self.exchange).filter(|place| !follower.knows(place))
    }

    /// Undoes a block of the chain, and all above it.
    async fn undo_through(&mut self, at: usize, follower: Option<&mut Follower>) -> anyhow::Result<()> {
        self.undo(self.chain.len() - at, follower).await
    }
}

/// The chain while everything is loaded, as of a block that the load has chosen.
#[derive(Debug, Default)]
struct Start {
    /// The place of the block in the chain, once it is chosen, and how much was asked since.
    stands_at: Option<usize>,
    asked: u64,
    blocks: u64,
    was_undone: bool,
}

impl Start {
    /// What comes before a request.
    async fn between(&mut self, held: &Held, stage: &mut Stage<'_>) -> anyhow::Result<()> {
        if held.asks_for_head() {
            (self.stands_at, self.asked) = (Some(stage.chain.len() - 1), 0);
            return Ok(());
        }
        let Some(stands_at) = self.stands_at else { return Ok(()) };
        self.asked += 1;
        if !self.was_undone && self.asked == UNDONE_BEHIND {
            stage.undo_through(stands_at, None).await?;
            self.was_undone = true;
            return stage.block(true, None).await;
        }
        if self.asked.is_multiple_of(REQUESTS_PER_BLOCK) && self.blocks < BLOCKS_PER_START {
            self.blocks += 1;
            // Those above it alone can be undone.
            stage.floor = stage.floor.max(stands_at + 1).min(stage.chain.len());
            let is_reorg = stage.undo_by_chance(None).await?;
            stage.block(is_reorg, None).await?;
        }
        Ok(())
    }
}

/// The chain while one pool is read as of a block.
struct Reading {
    as_of: B256,
    asked: u64,
    blocks: u64,
}

impl Reading {
    /// What comes before a request; of the first reading that stands on a block which can be undone, it is.
    async fn between(&mut self, stage: &mut Stage<'_>, follower: &mut Follower) -> anyhow::Result<()> {
        self.asked += 1;
        if !self.asked.is_multiple_of(2) || self.blocks == BLOCKS_PER_READING {
            return Ok(());
        }
        self.blocks += 1;
        let stands_at = stage.place_of(&self.as_of);
        let is_reorg = match stands_at.filter(|at| *at >= stage.floor && stage.tally.undone_readings == 0) {
            Some(stands_at) => {
                stage.undo_through(stands_at, Some(follower)).await?;
                true
            }
            None => stage.undo_by_chance(Some(follower)).await?,
        };
        stage.block(is_reorg, Some(follower)).await
    }
}

impl Follower {
    /// Loads what there is, as the bot does, while the chain goes on; and then follows it from there.
    async fn start(
        stage: &mut Stage<'_>,
        wires: &mut Wires,
        market: &Arc<ResolvedMarket>,
    ) -> anyhow::Result<(Self, Loader)> {
        let config = StateConfig { first_retry_ms: NonZeroU64::MIN, ..StateConfig::default() };
        let [plain, held] = [&wires.plain, &wires.held].map(|tap| -> anyhow::Result<_> {
            let mut config = NodeConfig::new(vec![tap.url().parse()?]);
            config.chain_id = Some(CHAIN_ID);
            Ok(config)
        });
        let (node_config, (node, _)) = (held?, Node::connect_first(&plain?).await?);
        stage.block(false, None).await?;
        stage.floor = stage.chain.len() - 1;
        let load = async {
            let (node, _) = Node::connect_first(&node_config).await?;
            let mut patience = Patience::new(&config, &node_config, node);
            anyhow::Ok(load_market(&mut patience, market, &[], |_, _| {}).await?)
        };
        let mut start = Start::default();
        let between = async |held: &Held| start.between(held, stage).await;
        let load = meanwhile(load, &mut wires.gate, between).await??;
        let stands_at = start.stands_at.context("it asked for no head")?;
        stage.tally.starts += 1;
        let loaded = load.report.pools + load.report.concentrated_pools;
        stage.tally.loaded_at_start += loaded;
        stage.tally.loaded_below += if stands_at + 1 < stage.chain.len() { loaded } else { 0 };
        stage.tally.begun_anew += load.report.begun_anew;
        let is_of_v4 = |event: &&BusEvent| matches!(event, BusEvent::V4Loaded(_));
        stage.tally.v4_loaded += load.events.iter().filter(is_of_v4).count() as u64;
        stage.floor = stands_at + 1;

        let bus = EventBus::new(&BusConfig::default(), &Topology::new(), &Timeline::default(), None, None);
        let (sender, told) = mpsc::channel(65_536);
        drop(bus.register("tracking", Out(sender)));
        let judged: Vec<_> = load.judged_tokens().collect();
        let loader = Loader::new(Arc::clone(market), config, node_config, bus.publisher(), judged);
        let mut follower = Self {
            node,
            fetcher: Fetcher::new(Grade::Matched, Duration::from_secs(10)),
            world: World::new(market),
            publisher: bus.publisher(),
            bus,
            told,
            waiting: VecDeque::new(),
            snapshot: None,
        };
        for event in load.events {
            follower.publish(event).await?;
        }
        for link in &stage.chain[stands_at + 1..] {
            follower.block(link, stage.random).await?;
        }
        Ok((follower, loader))
    }

    fn end(&self) {
        self.bus.close_source();
        self.bus.close_derived();
    }

    async fn publish(&mut self, event: BusEvent) -> anyhow::Result<()> {
        let seq = self.publisher.publish(event, None).await?;
        self.take_until(seq).await
    }

    /// Applies what the bus delivers, up to an event.
    async fn take_until(&mut self, seq: u64) -> anyhow::Result<()> {
        loop {
            let envelope = self.told.recv().await.context("the bus has ended")?;
            let at = envelope.seq;
            if envelope.derived.is_none()
                && let Some(block) = self.world.apply(&envelope)?
            {
                let requests = self.world.requests(&block);
                let number = block.snapshot.as_of.number;
                self.waiting.extend(requests.into_iter().map(|request| (number, request)));
                self.snapshot = Some(block.snapshot);
            }
            if at >= seq {
                return Ok(());
            }
        }
    }

    /// A block of the node, fetched as ingest does.
    async fn block(&mut self, link: &Link, random: &mut ChaCha8Rng) -> anyhow::Result<()> {
        let fetched = self.fetcher.fetch(&self.node, link).await?;
        let known = self.waiting.len();
        self.publish(BusEvent::NewBlock(fetched.block)).await?;
        for (due, _) in self.waiting.iter_mut().skip(known) {
            *due += random.random_range(0..=LATEST_ANSWER);
        }
        Ok(())
    }

    async fn undo(&mut self, undone: &[Link], ancestor: Option<&Link>) -> anyhow::Result<()> {
        let ancestor = ancestor.context("the block of the load stays")?;
        let old_head = undone.last().map_or(B256::ZERO, |link| link.hash);
        let reorg = ReorgEvent {
            ancestor_number: ancestor.number,
            ancestor_hash: ancestor.hash,
            undone: undone.iter().rev().map(|link| link.hash).collect(),
            old_head,
            new_head: B256::repeat_byte(1),
        };
        self.publish(BusEvent::Reorg(reorg)).await
    }

    /// Asks what is due, about the block in which the question arose, while the chain goes on; the answers are applied under the blocks
    /// since.
    async fn ask(
        &mut self,
        loader: &mut Loader,
        stage: &mut Stage<'_>,
        gate: &mut Gate,
    ) -> anyhow::Result<()> {
        let height = stage.chain.last().map_or(0, |link| link.number);
        let due: Vec<_> = self.waiting.iter().filter(|(due, _)| *due <= height).map(|(_, it)| *it).collect();
        self.waiting.retain(|(due, _)| *due > height);
        for request in due {
            let before = loader.observe();
            let stood = stage.place_of(&request.as_of.hash).is_some();
            let mut reading = Reading { as_of: request.as_of.hash, asked: 0, blocks: 0 };
            let between = async |_: &Held| reading.between(stage, self).await;
            meanwhile(loader.handle(&request), gate, between).await??;
            let after = loader.observe();
            let published = (after.pools + after.tokens) - (before.pools + before.tokens);
            for _ in 0..published {
                let envelope = self.told.recv().await.context("the bus has ended")?;
                self.world.apply(&envelope)?;
            }
            let gone = after.block_gone - before.block_gone;
            *(if stood { &mut stage.tally.undone_readings } else { &mut stage.tally.undone_loads }) += gone;
            if let Subject::Concentrated(key) = request.subject {
                let loaded = after.pools - before.pools;
                stage.tally.loaded_late += loaded;
                stage.tally.v4_loaded += if matches!(key, ConcentratedKey::V4 { .. }) { loaded } else { 0 };
                let is_taken = reading.blocks > 0 && self.knows_key(&key);
                stage.tally.taken_under += if is_taken { loaded } else { 0 };
            }
            ensure!(after.failed == before.failed, "the node failed");
        }
        Ok(())
    }

    /// The only questions left are about pools that have to be refused; of them the loader has known that since it asked.
    async fn ask_about_refused(&mut self, loader: &mut Loader, exchange: &Exchange) -> anyhow::Result<()> {
        let refused: Vec<_> = exchange.managed.refused.iter().map(|place| Place::V4(*place).key()).collect();
        for (_, request) in mem::take(&mut self.waiting) {
            let is_refused = |key: &ConcentratedKey| refused.contains(key);
            let Subject::Concentrated(key) = request.subject else { bail!("it asks again: {request:?}") };
            ensure!(is_refused(&key), "it asks again: {request:?}");
            let before = loader.observe();
            loader.handle(&request).await?;
            ensure!(loader.observe().pools == before.pools, "{request:?} was taken");
        }
        Ok(())
    }

    fn knows(&self, place: &Place) -> bool {
        self.knows_key(&place.key())
    }

    fn knows_key(&self, key: &ConcentratedKey) -> bool {
        let book = self.world.concentrated();
        book.proven_key(key).is_some_and(|id| book.table().pool(id).is_some())
    }
}

fn head(devnet: &Devnet) -> anyhow::Result<Link> {
    let block: Value = devnet.rpc().call("eth_getBlockByNumber", json!(["latest", false]))?;
    let hash = |field: &str| -> anyhow::Result<B256> { Ok(serde_json::from_value(block[field].clone())?) };
    let number = devnet.head()?.number;
    Ok(Link { number, hash: hash("hash")?, parent_hash: hash("parentHash")? })
}
