//! The pattern of the seed, connected to a node: typed receipts, events by value on one broadcast, the same search.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::{B256, U256};
use anyhow::Context;
use futures_util::future::try_join;
use headwater_bench::seed::{
    Handling, SeedBus, SeedDecoder, SeedEvent, SeedHandler, SeedKind, SeedObserver, parse_receipts,
    parse_transactions,
};
use headwater_detectors::{Arbitrage, Detector};
use headwater_events::{AsOf, BusEvent, DecodedBlock};
use headwater_market::{
    Head, MarketSnapshot, PoolMeta, PoolTable, PriceSnapshot, Reserves, ResolvedMarket, Touched, WholeView,
};
use headwater_node::{Node, NodeConfig};
use headwater_supervisor::Config;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Found;

/// A running bot after the pattern of the seed.
pub(super) struct Seed {
    received: mpsc::Receiver<Instant>,
    found: Arc<Mutex<BTreeMap<B256, Found>>>,
    follower: JoinHandle<anyhow::Result<()>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypedHeader {
    hash: B256,
    number: alloy_primitives::U64,
}

impl Seed {
    pub(super) async fn start(
        node_config: NodeConfig,
        config: &Config,
        chain_id: u64,
        with_transactions: bool,
    ) -> anyhow::Result<Self> {
        let (node, _) = Node::connect_first(&node_config).await?;
        let market = ResolvedMarket::resolve(&config.market, chain_id)?;
        let head: TypedHeader = node.call("eth_getBlockByNumber", ("latest", false)).await?;
        let loaded = headwater_state::bulk_load(&node, &market, head.hash, |_, _| {}).await?;
        let mut pools = PoolTable::default();
        for event in loaded.events {
            if let BusEvent::PoolLoaded(loaded) = event {
                let meta = PoolMeta {
                    address: loaded.pool,
                    factory: loaded.factory,
                    protocol: loaded.protocol,
                    token0: loaded.token0,
                    token1: loaded.token1,
                    fee_ppm: loaded.fee_ppm,
                };
                let id = pools.insert(meta, true);
                pools.set_reserves(
                    id,
                    loaded.reserves.map(|(reserve0, reserve1)| Reserves { reserve0, reserve1 }),
                );
            }
        }
        let arbitrage = Arbitrage::new(config.detectors.arbitrage.clone(), market.base_tokens.clone());
        let mut searcher =
            Searcher { bus: SeedBus::new(256), arbitrage, pools, quote: market.wrapped_native, seq: 0 };
        // The first examination is of everything, as it is for the bot beside it.
        searcher.search(head.number.to(), head.hash, Touched::All);

        let bus = searcher.bus.clone();
        let found = Arc::default();
        let (sender, received) = mpsc::channel(16);
        bus.register(SeedDecoder {
            bus: bus.clone(),
            sync_topic: headwater_reference::fake_node::sync_topic(),
        });
        bus.register(SeedObserver::default());
        bus.register(SeedObserver::default());
        bus.register(searcher);
        bus.register(Executor { received: sender, found: Arc::clone(&found) });
        let mut heads = node.subscribe("newHeads", ()).await?;
        let follower = tokio::spawn(async move {
            while let Some(head) = heads.recv().await {
                let header: TypedHeader = head.parse()?;
                let (number, hash) = (header.number.to(), header.hash);
                let block = async {
                    if !with_transactions {
                        return Ok(Vec::new());
                    }
                    let reply = node.request("eth_getBlockByHash", (hash, true)).await?;
                    anyhow::Ok(parse_transactions(&reply.raw)?)
                };
                let receipts = async {
                    let reply = node.request("eth_getBlockReceipts", (hash,)).await?;
                    anyhow::Ok(parse_receipts(&reply.raw)?)
                };
                let (transactions, receipts) = try_join(block, receipts).await?;
                bus.publish(SeedEvent::Block { number, hash, receipts, transactions });
            }
            Ok(())
        });
        Ok(Self { received, found, follower })
    }

    /// When the executor had the findings of the next block in hand.
    pub(super) async fn found(&mut self) -> anyhow::Result<Instant> {
        self.received.recv().await.context("the seed has ended")
    }

    /// Everything that was found, by block.
    pub(super) fn all_found(&self) -> BTreeMap<B256, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// State and search in one handler, as in the article: its tables are its own.
struct Searcher {
    bus: SeedBus,
    arbitrage: Arbitrage,
    pools: PoolTable,
    quote: alloy_primitives::Address,
    seq: u64,
}

impl Searcher {
    fn search(&mut self, number: u64, hash: B256, touched: Touched) -> Found {
        self.seq += 1;
        let as_of = AsOf { seq: self.seq, number, hash };
        let head =
            Head { timestamp: 0, base_fee_per_gas: Some(10_000_000_000), gas_used: 0, gas_limit: 30_000_000 };
        let market = MarketSnapshot::of_pools(as_of, head, self.pools.clone());
        let prices = PriceSnapshot {
            as_of,
            quote: self.quote,
            prices: Default::default(),
            sources: Default::default(),
        };
        let decoded = DecodedBlock {
            as_of,
            actions: Vec::new(),
            unknown_logs: 0,
            unknown_calls: 0,
            malformed: 0,
            set_aside: false,
        };
        let view = WholeView::new(Arc::new(market), Arc::new(prices), Arc::new(decoded), touched);
        let Ok(view) = view else { return Found::new() };
        self.arbitrage.evaluate(&view).into_iter().map(|found| (found.path, found.profit)).collect()
    }
}

impl SeedHandler for Searcher {
    fn interested_in(&self) -> Vec<SeedKind> {
        vec![SeedKind::Decoded]
    }

    fn handle(&mut self, event: SeedEvent) -> Handling<'_> {
        Box::pin(async move {
            let SeedEvent::Decoded { number, hash, reserves } = event else { return };
            let mut touched = Vec::new();
            for (pool, (reserve0, reserve1)) in reserves {
                if let Some(id) = self.pools.find(&pool) {
                    let held = Reserves { reserve0: reserve0.to(), reserve1: reserve1.to() };
                    self.pools.set_reserves(id, Some(held));
                    touched.push(id);
                }
            }
            touched.sort_unstable();
            let findings = self.search(number, hash, Touched::Pools(touched)).into_iter().collect();
            self.bus.publish(SeedEvent::Opportunities { hash, findings });
        })
    }
}

struct Executor {
    received: mpsc::Sender<Instant>,
    found: Arc<Mutex<BTreeMap<B256, Found>>>,
}

impl SeedHandler for Executor {
    fn interested_in(&self) -> Vec<SeedKind> {
        vec![SeedKind::Opportunities]
    }

    fn handle(&mut self, event: SeedEvent) -> Handling<'_> {
        Box::pin(async move {
            let now = Instant::now();
            let SeedEvent::Opportunities { hash, findings } = event else { return };
            let findings: BTreeMap<_, U256> = findings.into_iter().collect();
            self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(hash, findings);
            // Whoever measures has gone; there is nobody to tell.
            let _ = self.received.send(now).await;
        })
    }
}
