//! Pools on a real node: loaded from it while its heads advance and are reorganised, and then followed by the events alone.

use std::collections::VecDeque;
use std::mem;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use anyhow::{Context, bail, ensure};
use headwater_actor::Component as _;
use headwater_bus::{BusConfig, EventBus, EventHandler, SourcePublisher, Timeline, Topology};
use headwater_events::{BusEvent, Envelope, Grade, ReorgEvent};
use headwater_ingest::{Fetcher, Link};
use headwater_market::{ConcentratedKey, MarketConfig, MarketSnapshot, Preset, Reserves, ResolvedMarket};
use headwater_node::{Node, NodeConfig};
use headwater_state::{LoadRequest, Loader, StateConfig, Subject, World, bulk_load};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::exchange::{Exchange, reserves};
use super::tap::Tap;
use super::{Place, Stored, factories, is_known, managed};
use crate::devnet::{Artifacts, CHAIN_ID, Devnet, Trader};

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Blocks, from the first load on.
    pub(super) blocks: u64,
    /// Of them, those in which pools are still found and loaded.
    pub(super) loading: u64,
    /// Pools of V3 that are there before.
    pub(super) pools: usize,
    /// Blocks that a reorganisation undoes at most.
    pub(super) deepest: u64,
}

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) blocks: u64,
    pub(super) reorgs: u64,
    pub(super) deepest: u64,
    pub(super) pairs: u64,
    pub(super) pools: u64,
    pub(super) compared: u64,
    pub(super) ticks: u64,
    pub(super) loaded_at_start: u64,
    pub(super) loaded_late: u64,
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

/// Somebody who follows the node, with the parts that the bot is made of.
struct Follower {
    node: Node,
    fetcher: Fetcher,
    world: World,
    publisher: SourcePublisher,
    told: mpsc::Receiver<Envelope>,
    loader: Loader,
    /// Questions, and the height at which they are asked.
    waiting: VecDeque<(u64, LoadRequest)>,
    snapshot: Option<Arc<MarketSnapshot>>,
    /// From the block of the first load on.
    chain: Vec<Link>,
}

pub(super) async fn follow(size: Size, random: &mut ChaCha8Rng) -> anyhow::Result<Tally> {
    let (devnet, artifacts) = (Devnet::start()?, Artifacts::install()?);
    let mut exchange = Exchange::deploy(&devnet, &artifacts, random, size.pools)?;
    let mut trader = Trader::new(random.random(), &devnet);
    let tap = Tap::to(devnet.http_url().trim_start_matches("http://").parse()?)?;
    let market = Arc::new(market(&exchange)?);
    let bus = EventBus::new(&BusConfig::default(), &Topology::new(), &Timeline::default(), None, None);
    let mut tally = Tally::default();
    let mut follower = Follower::start(&devnet, &tap, &bus, market, &mut tally).await?;

    let (mut calls, mut first_followed) = (None, 0);
    let mut height = 0;
    while height < size.blocks {
        let is_loading = calls.is_none();
        let floor = if is_loading { 1 } else { first_followed };
        let undoable = (follower.chain.len() as u64).saturating_sub(floor).min(size.deepest);
        let is_reorg = undoable > 0 && random.random_range(0..10) == 0;
        if is_reorg {
            let depth = random.random_range(1..=undoable);
            devnet.roll_back(depth)?;
            exchange.forget_undone(&devnet)?;
            follower.undo(depth as usize).await?;
            tally.reorgs += 1;
            tally.deepest = tally.deepest.max(depth);
            if !is_loading {
                compare(&devnet, &exchange, &follower, false, &mut tally)?;
            }
        }
        let created = |exchange: &Exchange| exchange.sent.created + exchange.sent_v4.created;
        let before = created(&exchange);
        if random.random_range(0..20) == 0 {
            exchange.create(&devnet, random)?;
            exchange.create_v4(&devnet, random)?;
        }
        tally.created_while_followed += if is_loading { 0 } else { created(&exchange) - before };
        for _ in 0..random.random_range(0..6) {
            exchange.act(&devnet, random)?;
            exchange.act_v4(&devnet, random)?;
        }
        trader.trade(&devnet)?;
        if is_reorg {
            devnet.mine_another()?;
        } else {
            devnet.mine()?;
        }
        follower.block(&devnet, random).await?;
        height += 1;
        tally.blocks += 1;
        tally.followed_blocks += u64::from(!is_loading);
        if is_loading {
            follower.ask(&mut tally).await?;
            let knows_all = places(&exchange).all(|place| follower.knows(&place));
            if height >= size.loading && knows_all {
                follower.waiting.clear();
                calls = Some(tap.state_calls());
                first_followed = follower.chain.len() as u64;
            }
            ensure!(height < 4 * size.loading, "pools are not known after {height} blocks");
        } else {
            follower.ask_about_refused(&exchange).await?;
        }
        let everywhere = height == size.blocks;
        compare(&devnet, &exchange, &follower, everywhere, &mut tally)?;
    }
    let before = calls.context("the pools were never all known")?;
    let after = tap.state_calls();
    ensure!(before > 0, "the tap heard nothing of the load");
    ensure!(after == before, "{} calls that read state, while the pools were followed", after - before);
    ensure!(tap.calls("eth_getBlockByHash") as u64 >= tally.blocks, "the tap did not hear of every block");
    let counts = follower.world.concentrated().counts();
    ensure!(counts.contradictions == 0, "a log of a real pool was refused: {counts:?}");
    let snapshot = follower.snapshot.as_ref().context("there is a snapshot")?;
    tally.pairs = snapshot.pools.len() as u64;
    tally.pools = exchange.places().len() as u64;
    tally.v4_pools = exchange.managed.places.len() as u64;
    tally.v4 = exchange.sent_v4;
    let observed = follower.loader.observe();
    ensure!(observed.unnamed == 0, "the node did not name a pool");
    tally.v4_refused =
        counts.hooked_pools + counts.dynamic_fee_pools + observed.hooked + observed.dynamic_fee;
    let table = follower.world.concentrated().table();
    let known = |place: &_| table.find_key(&Place::V4(*place).key()).is_some();
    ensure!(!exchange.managed.refused.iter().any(known), "a pool that has to be refused got in");
    tally.state_calls = before as u64;
    tally.undone_loads = counts.foreign_loads + follower.loader.observe().block_gone;
    tally.sent = exchange.sent;
    bus.close_source();
    bus.close_derived();
    Ok(tally)
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

/// The pools that are known, with and without reserves, are what the node's storage holds at its head.
fn compare(
    devnet: &Devnet,
    exchange: &Exchange,
    follower: &Follower,
    everywhere: bool,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let book = follower.world.concentrated();
    for place in places(exchange).filter(|place| follower.knows(place)) {
        let (state, ticks, protocol_fee) = match &place {
            Place::V3(place) => {
                let (state, ticks) = exchange.stored(devnet, place, everywhere)?;
                (state, ticks, 0)
            }
            Place::V4(place) => exchange.stored_v4(devnet, place, everywhere)?,
        };
        let stored = Stored { place, state, ticks, protocol_fee };
        ensure!(is_known(book, &stored)?, "{place:?} is known");
        tally.compared += 1;
        tally.compared_v4 += u64::from(matches!(place, Place::V4(_)));
        tally.ticks += stored.ticks.len() as u64;
    }
    // Right after a reorganisation there is none of the ancestor.
    let head = follower.chain.last().map(|link| link.hash);
    let Some(snapshot) = follower.snapshot.as_ref().filter(|snapshot| Some(snapshot.as_of.hash) == head)
    else {
        return Ok(());
    };
    for (_, meta, held) in snapshot.pools.iter() {
        let [reserve0, reserve1] = reserves(devnet, meta.address)?;
        // As long as nobody has given it anything, a pair says nothing: then there is nothing to be known.
        let stored = (reserve0 > 0 || reserve1 > 0).then_some(Reserves { reserve0, reserve1 });
        ensure!(held == stored, "pair {}: {held:?}, its storage has {stored:?}", meta.address);
        tally.compared += 1;
    }
    Ok(())
}

impl Follower {
    async fn start(
        devnet: &Devnet,
        tap: &Tap,
        bus: &EventBus,
        market: Arc<ResolvedMarket>,
        tally: &mut Tally,
    ) -> anyhow::Result<Self> {
        let mut node_config = NodeConfig::new(vec![tap.url().parse()?]);
        node_config.chain_id = Some(CHAIN_ID);
        let (node, _) = Node::connect_first(&node_config).await?;
        let (sender, told) = mpsc::channel(65_536);
        drop(bus.register("tracking", Out(sender)));
        let head = head(devnet)?;
        let load = bulk_load(&node, &market, head.hash, |_, _| {}).await?;
        tally.loaded_at_start = load.report.concentrated_pools;
        let is_of_v4 = |event: &&BusEvent| matches!(event, BusEvent::V4Loaded(_));
        tally.v4_loaded = load.events.iter().filter(is_of_v4).count() as u64;
        let config = StateConfig { first_retry_ms: NonZeroU64::MIN, ..StateConfig::default() };
        let judged: Vec<_> = load.judged_tokens().collect();
        let loader = Loader::new(Arc::clone(&market), config, node_config, bus.publisher(), judged);
        let mut follower = Self {
            node,
            fetcher: Fetcher::new(Grade::Matched, Duration::from_secs(10)),
            world: World::new(&market),
            publisher: bus.publisher(),
            told,
            loader,
            waiting: VecDeque::new(),
            snapshot: None,
            chain: vec![head],
        };
        for event in load.events {
            follower.publish(event).await?;
        }
        Ok(follower)
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

    /// The node's head, fetched as ingest does.
    async fn block(&mut self, devnet: &Devnet, random: &mut ChaCha8Rng) -> anyhow::Result<()> {
        let link = head(devnet)?;
        let fetched = self.fetcher.fetch(&self.node, &link).await?;
        let known = self.waiting.len();
        self.publish(BusEvent::NewBlock(fetched.block)).await?;
        self.chain.push(link);
        for (due, _) in self.waiting.iter_mut().skip(known) {
            *due += random.random_range(0..=LATEST_ANSWER);
        }
        Ok(())
    }

    async fn undo(&mut self, depth: usize) -> anyhow::Result<()> {
        let undone = self.chain.split_off(self.chain.len() - depth);
        let ancestor = self.chain.last().context("the block of the load stays")?;
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

    /// Asks what is due, about the block in which the question arose; the answers are applied under the blocks since.
    async fn ask(&mut self, tally: &mut Tally) -> anyhow::Result<()> {
        let height = self.chain.last().map_or(0, |link| link.number);
        let due: Vec<_> = self.waiting.iter().filter(|(due, _)| *due <= height).map(|(_, it)| *it).collect();
        self.waiting.retain(|(due, _)| *due > height);
        for request in due {
            let before = self.loader.observe();
            self.loader.handle(&request).await?;
            let after = self.loader.observe();
            let published = (after.pools + after.tokens) - (before.pools + before.tokens);
            for _ in 0..published {
                let envelope = self.told.recv().await.context("the bus has ended")?;
                self.world.apply(&envelope)?;
            }
            if let Subject::Concentrated(key) = request.subject {
                let loaded = after.pools - before.pools;
                tally.loaded_late += loaded;
                tally.v4_loaded += if matches!(key, ConcentratedKey::V4 { .. }) { loaded } else { 0 };
            }
            ensure!(after.failed == before.failed, "the node failed");
        }
        Ok(())
    }

    /// The only questions left are about pools that have to be refused; of them the loader has known that since it asked.
    async fn ask_about_refused(&mut self, exchange: &Exchange) -> anyhow::Result<()> {
        let refused: Vec<_> = exchange.managed.refused.iter().map(|place| Place::V4(*place).key()).collect();
        for (_, request) in mem::take(&mut self.waiting) {
            let is_refused = |key: &ConcentratedKey| refused.contains(key);
            let Subject::Concentrated(key) = request.subject else { bail!("it asks again: {request:?}") };
            ensure!(is_refused(&key), "it asks again: {request:?}");
            let before = self.loader.observe();
            self.loader.handle(&request).await?;
            ensure!(self.loader.observe().pools == before.pools, "{request:?} was taken");
        }
        Ok(())
    }

    fn knows(&self, place: &Place) -> bool {
        let book = self.world.concentrated();
        book.proven_key(&place.key()).is_some_and(|id| book.table().pool(id).is_some())
    }
}

fn head(devnet: &Devnet) -> anyhow::Result<Link> {
    let block: Value = devnet.rpc().call("eth_getBlockByNumber", json!(["latest", false]))?;
    let hash = |field: &str| -> anyhow::Result<B256> { Ok(serde_json::from_value(block[field].clone())?) };
    let number = devnet.head()?.number;
    Ok(Link { number, hash: hash("hash")?, parent_hash: hash("parentHash")? })
}
