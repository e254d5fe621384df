//! The bundled bot, wired: read it beside the picture in the README.
//!
//! ```text
//!  node or journal
//!        │
//!     ingest ══ broadcast ══╦═► decoder ── decoded blocks ─► detectors ── findings ─► executor ─► outcomes
//!                           ╠═► oracle ─── prices ·········► detectors                   ▲
//!                           ╠═► state ──── market ·········► detectors                   ║
//!                           ╠════════════ heads and reorgs ══════════════════════════════╣
//!                           ║                                                            ▼
//!     mempool ══ droppable ═╩═► backrun ── findings behind pending transactions ─► pending-executor ─► outcomes
//! ```
//!
//! In a replay the recorded effects of pending transactions take the place of the mempool.
//!
//! The supervisor owns what outlives the actors: the broadcast, the mailboxes, the watch cells. Nothing flows before the
//! source is spawned, which comes last; everything drains in the order of the data once the source has ended.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use headwater_actor::{ActorControl, Delays, Poisons, Quarantine, RestartPolicy, Resume, System};
use headwater_bus::{
    Backlog, BlockProgress, BusConfig, EventBus, EventHandler, HandlerReport, Mailbox, Mempool, Recorder,
    SnapshotWriter, Timeline, Topology,
};
use headwater_decoder::{Decoder, DecoderActor, DecoderMessage, Interface, Registry};
use headwater_detectors::{
    ARBITRAGE, Arbitrage, BACKRUN, BackrunActor, BackrunMessage, BackrunReplay, BackrunWiring, CrossingActor,
    CrossingMessage, CrossingWiring, Crossings, Detector, DetectorActor, Indices, Pace, RecordedMemory,
    RecordedMessage, RecordedWiring, Standing, Wiring,
};
use headwater_events::{Origin, RunId};
use headwater_executor::{Executor, ExecutorActor, ExecutorMessage, Reports};
use headwater_ingest::{LiveIngest, MempoolIngest, ReplayIngest, Start};
use headwater_journal::Recording;
use headwater_market::{MarketSnapshot, PendingReports, PriceSnapshot, ResolvedMarket};
use headwater_node::{NodeConfig, Redial};
use headwater_oracle::{
    FeedResolver, OracleActor, OracleMessage, TransmissionActor, TransmissionMessage, TransmissionWiring,
    Wiring as OracleWiring,
};
use headwater_simulation::{Effects, NodeState, RouterKind, Routers, Simulator};
use headwater_state::{
    LendingLoader, Loader, Resynchroniser, StateActor, StateMessage, Tripwire, Wiring as StateWiring,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::archive::Archive;
use crate::config::Config;
use crate::running::{Digests, Running};

/// What a bot is made of, beside its source.
#[derive(Clone)]
pub struct Parts {
    /// The crates' configurations.
    pub config: Config,
    /// The contracts of the chain.
    pub market: Arc<ResolvedMarket>,
    /// The strategies; each runs in an actor of its own.
    pub strategies: Vec<Strategy>,
    /// What calls and events are decoded, beside those that configuration and market name.
    pub registry: Registry,
    /// Labels this run.
    pub run_id: RunId,
    /// The sequence number that the source begins with.
    pub first_seq: u64,
    /// The events of the run that is gone on with: what state and oracle are rebuilt from before anything flows.
    pub earlier: Option<RangeInclusive<u64>>,
    /// Where source events are recorded, in a live run.
    pub recorder: Option<Recorder>,
    /// What lag is repaired from beyond the ring, and what components are rebuilt from.
    pub backlog: Arc<dyn Backlog>,
    /// Where state and oracle are saved, so that a rebuild need not begin with the record; nowhere in a replay.
    pub archive: Option<Archive>,
    /// Whether the source keeps a clock of its own: then blocks may be skipped.
    pub pace: Pace,
    /// The node to ask about unknown contracts; nobody in a replay.
    pub node: Option<NodeConfig>,
    /// What was set aside when the events were recorded, and where it is written down what is set aside now.
    pub quarantine: Quarantine,
    /// Pauses for tests.
    pub delays: Option<Delays>,
    /// Poison for tests.
    pub poisons: Option<Poisons>,
    /// Sizes of the bus.
    pub bus: BusConfig,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("run_id", &self.run_id)
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}

/// What `registry` knows, and what configuration and market name beside it.
pub(crate) fn extended(registry: Registry, config: &Config, market: &ResolvedMarket) -> Registry {
    let registry = registry
        .contracts(Interface::SwapRouter02, market.swap_routers_02.iter().copied())
        .contracts(Interface::UniversalRouter, market.universal_routers.iter().copied());
    config.decoder.extend(registry, &market.routers)
}

/// The routers whose calls are decoded, as contracts whose effect can be computed.
fn routers_of(registry: &Registry, contracts: &ResolvedMarket) -> Routers {
    let kind_of = |interface| match interface {
        Interface::UniswapV2Router => Some(RouterKind::UniswapV2),
        Interface::UniswapV3Router => Some(RouterKind::UniswapV3),
        Interface::SwapRouter02 => Some(RouterKind::SwapRouter02),
        Interface::UniversalRouterV1 => Some(RouterKind::UniversalRouterV1),
        Interface::UniversalRouter => Some(RouterKind::UniversalRouter),
        Interface::Permit2 | Interface::AavePool => None,
    };
    let kinds = registry.known().filter_map(|(router, interface)| Some((router, kind_of(interface)?)));
    Routers { kinds: kinds.collect(), wrapped_native: contracts.wrapped_native }
}

/// A way to make a detector, as often as its actor is restarted.
#[derive(Clone)]
pub struct Strategy {
    pub(crate) name: Origin,
    pub(crate) build: Arc<dyn Fn() -> Box<dyn Detector> + Send + Sync>,
}

impl Strategy {
    /// The strategy that `build` makes.
    pub fn new<D: Detector>(build: impl Fn() -> D + Send + Sync + 'static) -> Self {
        let name = Origin::Owned(build().name().to_owned());
        Self { name, build: Arc::new(move || Box::new(build())) }
    }
}

impl fmt::Debug for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Strategy").field(&self.name).finish()
    }
}

/// Finds backruns in a replay. What was set aside live, of another actor, is none of its.
const BACKRUN_REPLAY: &str = "backrun-replay";

/// Messages that wait for an actor before whoever sends to it waits.
const MAIL: usize = 64;

/// Pending transactions that wait for their look; what is more is dropped.
const PENDING_MAIL: usize = 256;

/// Requests that wait for the resynchroniser: one of the state and one of the oracle; the next block asks again.
const RESYNC_REQUESTS: usize = 2;

/// Requests that wait for the lending loader for each of its pools; a later block asks again.
const LENDING_REQUESTS: usize = 1;

/// Blocks that wait for the tripwire; of several, it samples the newest.
const SAMPLES: usize = 16;

/// Requests that wait for the feed resolver; a later block asks again.
const FEED_REQUESTS: usize = 1;

/// Asking for all pools takes its time; each request of the node has a limit of its own.
const RESYNC: fn() -> RestartPolicy =
    || RestartPolicy { stall: Duration::from_mins(5), ..RestartPolicy::default() };

/// Everything but the source, wired and waiting.
#[derive(Debug)]
pub struct Bot {
    /// The supervision tree.
    pub system: System,
    /// The broadcast.
    pub bus: EventBus,
    /// Every edge.
    pub topology: Topology,
    /// Where blocks are stamped.
    pub timeline: Timeline,
    /// Which blocks are done.
    pub progress: BlockProgress,
    /// The market of the last few blocks.
    pub market: SnapshotWriter<MarketSnapshot>,
    /// The prices of the last few blocks.
    pub prices: SnapshotWriter<PriceSnapshot>,
    /// The oracles' reports that are pending behind the last block: prices that are not there yet. None without a mempool.
    pub reports: watch::Sender<PendingReports>,
    /// Who hears of pending transactions; nobody where they are not asked for.
    mempool: Option<Mempool>,
    actors: Vec<ActorControl>,
    handlers: Vec<JoinHandle<HandlerReport>>,
    digests: Digests,
}

impl Bot {
    /// Wires a bot whose findings are simulated by `simulator`.
    ///
    /// # Errors
    ///
    /// When the supervision tree cannot be started.
    pub async fn wire<S: Simulator + Clone>(parts: Parts, simulator: S) -> anyhow::Result<Self> {
        let Parts {
            config,
            market: contracts,
            strategies,
            registry,
            run_id,
            first_seq,
            earlier,
            recorder,
            backlog,
            archive,
            pace,
            node,
            quarantine,
            delays,
            poisons,
            bus: sizes,
        } = parts;
        let mut system = System::start().await?.with_quarantine(quarantine.clone());
        if let Some(poisons) = poisons {
            system = system.poisoned_by(poisons);
        }
        if let Some(delays) = delays {
            system = system.delayed_by(delays);
        }

        // What outlives the actors: the broadcast, the mailboxes, the watch cells, the progress of blocks.
        let (topology, timeline) = (Topology::new(), Timeline::default());
        let bus_config = BusConfig { run_id, first_seq, ..sizes };
        let bus = EventBus::new(&bus_config, &topology, &timeline, recorder, Some(Arc::clone(&backlog)));
        let decoder_mail = Mailbox::<DecoderMessage>::new(&topology, "decoder", MAIL);
        let oracle_mail = Mailbox::<OracleMessage>::new(&topology, "oracle", config.oracle.mailbox.get());
        let state_mail = Mailbox::<StateMessage>::new(&topology, "state", config.state.mailbox.get());
        let executor_mail = Mailbox::<ExecutorMessage>::new(&topology, "executor", MAIL);
        let prices = SnapshotWriter::<PriceSnapshot>::new(&topology, "oracle", "prices");
        let market = SnapshotWriter::<MarketSnapshot>::new(&topology, "state", "market");
        // A replay has no mempool: what was found behind its transactions is found again from their recorded effects, by a bot that
        // looks for arbitrages.
        let finds_recorded = pace == Pace::EveryBlock
            && node.is_none()
            && strategies.iter().any(|strategy| strategy.name == ARBITRAGE);
        let mut progress = BlockProgress::new(strategies.iter().map(|strategy| strategy.name.clone()));
        if finds_recorded {
            progress = progress.attended_by(BACKRUN);
        }
        let mut actors = Vec::new();
        let recorded_from = earlier.as_ref().map_or(first_seq, |earlier| *earlier.start());
        let recorded_until = earlier.map(|earlier| *earlier.end());
        let behind = move |resume: Resume| Resume {
            last_processed: resume.last_processed.or(recorded_until),
            ..resume
        };

        // Broadcast to mailboxes: the forwarders hold the position and repair a lag.
        // They are woken in this order, and the state has the most to do.
        bus.feed(state_mail.waiting("forwarder", "blocks, reorgs, pools, tokens"), StateMessage::interest);
        bus.feed(decoder_mail.waiting("forwarder", "blocks"), DecoderMessage::interest);
        bus.feed(oracle_mail.waiting("forwarder", "blocks, reorgs, pools"), OracleMessage::interest);
        bus.feed(executor_mail.waiting("forwarder", "heads and reorgs"), ExecutorMessage::interest);

        // Executor: findings and heads in, outcomes out.
        let reports = Reports { bus: bus.clone(), timeline: timeline.clone(), progress: progress.clone() };
        let (executor_config, given_up) = (config.executor.clone(), system.watch_fatal());
        let act = move || {
            let (config, executor) = (&executor_config, Executor::new(&executor_config));
            ExecutorActor::new(executor, config, simulator.clone(), given_up.clone(), reports.clone())
        };
        let findings: Vec<_> = strategies
            .iter()
            .map(|strategy| executor_mail.waiting(strategy.name.clone(), "findings of a block"))
            .collect();
        let recorded_findings = finds_recorded.then(|| executor_mail.waiting(BACKRUN_REPLAY, "backruns"));
        let act_behind = act.clone();
        let executor = system.spawn(executor_mail, RestartPolicy::default(), move |_| {
            let actor = act();
            async { Ok(actor) }
        });

        // What is found behind pending transactions has an executor of its own: its simulations delay no finding of a block.
        let standing = watch::Sender::<Standing>::default();
        let stands = standing.subscribe();
        let pending_node = node.clone().filter(|_| config.mempool.enabled);
        let (backruns, pending_executor) = pending_node
            .map(|node| {
                let mail = Mailbox::<ExecutorMessage>::new(&topology, "pending-executor", MAIL);
                bus.feed(mail.waiting("forwarder", "heads and reorgs"), ExecutorMessage::interest);
                let backruns = (node, mail.dropping("backrun", "backruns"));
                let crossings = (!contracts.lending.is_empty())
                    .then(|| mail.dropping("pending-liquidation", "liquidations behind reports"));
                let executor = system.spawn(mail, RestartPolicy::default(), move |_| {
                    let actor = act_behind().behind(stands.clone());
                    async { Ok(actor) }
                });
                (backruns, (crossings, executor.control().clone()))
            })
            .unzip();
        let (crossing_findings, pending_executor) = pending_executor.unzip();
        let crossing_findings = crossing_findings.flatten();

        // Detectors: a whole view in, one set of findings out for every block.
        let mut decoded = Vec::new();
        for (strategy, findings) in strategies.into_iter().zip(findings) {
            let mail = Mailbox::new(&topology, strategy.name.clone(), MAIL);
            decoded.push(mail.waiting("decoder", "decoded blocks"));
            let wiring = Wiring {
                market: market.reader(strategy.name.clone()),
                prices: prices.reader(strategy.name.clone()),
                findings,
                timeline: timeline.clone(),
                progress: progress.clone(),
                pace,
            };
            let detector = system.spawn(mail, RestartPolicy::default(), move |_| {
                let (detector, wiring) = ((strategy.build)(), wiring.clone());
                async move { Ok(DetectorActor::new(detector, wiring)) }
            });
            actors.push(detector.control().clone());
        }

        let registry = extended(registry, &config, &contracts);

        // Backruns: pending transactions and blocks in, what can be gained behind the former out. The blocks wait in a forwarder
        // of its own; whatever else it has no time for is dropped and counted. Never in a replay, which has no mempool.
        let (mut mempool, backrun) = backruns
            .map(|(node, findings)| {
                let mail = Mailbox::<BackrunMessage>::new(&topology, "backrun", PENDING_MAIL);
                bus.feed(mail.waiting("forwarder", "blocks and reorgs"), BackrunMessage::interest);
                let mut mempool = Mempool::new();
                mempool.subscribe(mail.dropping("mempool", "pending transactions"));
                let wiring = BackrunWiring {
                    market: market.reader("backrun"),
                    prices: prices.reader("backrun"),
                    findings,
                    standing,
                    record: bus.publisher(),
                    indices: Indices::default(),
                };
                let (config, contracts) = (config.clone(), Arc::clone(&contracts));
                let routers = routers_of(&registry, &contracts);
                let backrun = system.spawn(mail, RestartPolicy::default(), move |_| {
                    let search =
                        Arbitrage::new(config.detectors.arbitrage.clone(), contracts.base_tokens.clone());
                    let state = NodeState::new(Redial::new(node.clone()), config.mempool.effect_timeout());
                    let limits = config.mempool.limits(node.chain_id.unwrap_or(0));
                    let effects = Effects::new(state, limits, routers.clone());
                    let actor = BackrunActor::new(search, effects, config.mempool.clone(), wiring.clone());
                    async move { Ok(actor) }
                });
                (mempool, backrun.control().clone())
            })
            .unzip();

        let recorded = recorded_findings.map(|findings| {
            let mail = Mailbox::<RecordedMessage>::new(&topology, BACKRUN_REPLAY, MAIL);
            bus.feed(mail.waiting("forwarder", "blocks and recorded effects"), RecordedMessage::interest);
            let wiring = RecordedWiring {
                market: market.reader(BACKRUN_REPLAY),
                prices: prices.reader(BACKRUN_REPLAY),
                findings,
                progress: progress.clone(),
                memory: RecordedMemory::default(),
            };
            let (arbitrage, base_tokens) =
                (config.detectors.arbitrage.clone(), contracts.base_tokens.clone());
            let recorded = system.spawn(mail, RestartPolicy::default(), move |_| {
                let search = Arbitrage::new(arbitrage.clone(), base_tokens.clone());
                let actor = BackrunReplay::new(search, wiring.clone());
                async move { Ok(actor) }
            });
            recorded.control().clone()
        });

        // Pending reports: what is on its way to the aggregators of feeds and lending pools, for whoever asks; and the positions
        // that it would make liquidatable.
        let reports = watch::Sender::<PendingReports>::default();
        let crossing_mail = crossing_findings.map(|findings| {
            (findings, Mailbox::<CrossingMessage>::new(&topology, "pending-liquidation", MAIL))
        });
        let to_crossings =
            crossing_mail.as_ref().map(|(_, mail)| mail.dropping("transmissions", "pending reports"));
        let is_read = !contracts.feeds.is_empty() || !contracts.lending.is_empty();
        let transmissions = mempool.as_mut().filter(|_| is_read).map(|mempool| {
            let mail = Mailbox::<TransmissionMessage>::new(&topology, "transmissions", PENDING_MAIL);
            bus.feed(mail.waiting("forwarder", "blocks and reorgs"), TransmissionMessage::interest);
            mempool.subscribe(mail.dropping("mempool", "pending transactions"));
            let wiring = TransmissionWiring {
                prices: prices.reader("transmissions"),
                market: market.reader("transmissions"),
                reports: reports.clone(),
                reader: to_crossings,
                limits: config.mempool.pool(),
            };
            let transmissions = system.spawn(mail, RestartPolicy::default(), move |_| {
                let wiring = wiring.clone();
                async move { Ok(TransmissionActor::new(wiring)) }
            });
            transmissions.control().clone()
        });
        let crossings = crossing_mail.map(|(findings, mail)| {
            let wiring = CrossingWiring {
                market: market.reader("pending-liquidation"),
                prices: prices.reader("pending-liquidation"),
                findings,
                indices: Indices::default(),
                max_per_block: config.mempool.max_per_block,
            };
            let (liquidation, block_time_s) =
                (config.detectors.liquidation.clone(), config.mempool.block_time_s);
            let crossings = system.spawn(mail, RestartPolicy::default(), move |_| {
                let actor =
                    CrossingActor::new(Crossings::new(liquidation.clone(), block_time_s), wiring.clone());
                async move { Ok(actor) }
            });
            crossings.control().clone()
        });

        // Snapshots: what state and oracle hand over now and then is saved beside the record.
        let archive = archive.as_ref();
        let (state_images, state_archivist) =
            archive.map(|archive| archive.keep(&archive.state, &system, &topology)).unzip();
        let (oracle_images, oracle_archivist) =
            archive.map(|archive| archive.keep(&archive.oracle, &system, &topology)).unzip();

        // State: the market as of each block; it asks the loader about contracts that it does not know, the
        // resynchroniser about all pools when the market is lost, and the lending loader about lending pools.
        let resynchroniser = node.clone().map(|node| {
            let mail = Mailbox::new(&topology, "resynchroniser", RESYNC_REQUESTS);
            let requests = ["state", "oracle"].map(|from| mail.dropping(from, "lost markets"));
            let (contracts, config, publisher) =
                (Arc::clone(&contracts), config.state.clone(), bus.publisher());
            let resynchroniser = system.spawn(mail, RESYNC(), move |_| {
                let resynchroniser =
                    Resynchroniser::new(&contracts, config.clone(), node.clone(), publisher.clone());
                async move { Ok(resynchroniser) }
            });
            (requests, resynchroniser.control().clone())
        });
        let (resync_requests, resynchroniser) = resynchroniser.unzip();
        let [from_state, from_oracle] = resync_requests.map_or([None, None], |requests| requests.map(Some));
        let feed_node = node.clone();
        let lending_loader = node.clone().filter(|_| !contracts.lending.is_empty()).map(|node| {
            let mail = Mailbox::new(&topology, "lending-loader", LENDING_REQUESTS * contracts.lending.len());
            let requests = mail.dropping("state", "lending pools to be loaded");
            let (contracts, config, publisher) =
                (Arc::clone(&contracts), config.state.clone(), bus.publisher());
            let loader = system.spawn(mail, RESYNC(), move |_| {
                let loader = LendingLoader::new(&contracts, config.clone(), node.clone(), publisher.clone());
                async move { Ok(loader) }
            });
            (requests, loader.control().clone())
        });
        let (lending_requests, lending_loader) = lending_loader.unzip();
        // Tripwire: a few pools of each block are compared with the node, and quarantined where they differ.
        let (samples, tripwire) = node
            .clone()
            .filter(|_| config.state.tripwire.enabled)
            .map(|node| {
                let mail = Mailbox::new(&topology, "tripwire", SAMPLES);
                let samples = mail.dropping("state", "pools to be compared");
                let (contracts, tripwire, publisher) =
                    (Arc::clone(&contracts), config.state.tripwire.clone(), bus.publisher());
                let every = tripwire.every_blocks;
                let tripwire = system.spawn(mail, RestartPolicy::default(), move |_| {
                    let tripwire =
                        Tripwire::new(&contracts, tripwire.clone(), node.clone(), publisher.clone());
                    async move { Ok(tripwire) }
                });
                ((samples, every), tripwire.control().clone())
            })
            .unzip();
        let loader = node.filter(|_| config.state.lazy_loading).map(|node| {
            let mail = Mailbox::new(&topology, "loader", config.state.load_requests.get());
            let requests = mail.dropping("state", "unknown contracts");
            let (contracts, config, publisher) =
                (Arc::clone(&contracts), config.state.clone(), bus.publisher());
            let loader = system.spawn(mail, RestartPolicy::default(), move |_| {
                let loader =
                    Loader::new(Arc::clone(&contracts), config.clone(), node.clone(), publisher.clone(), []);
                async move { Ok(loader) }
            });
            (requests, loader.control().clone())
        });
        let (requests, loader) = loader.unzip();
        let wiring = StateWiring {
            market: Arc::clone(&contracts),
            snapshots: market.clone(),
            derived: bus.derived("state"),
            timeline: timeline.clone(),
            loader: requests,
            lending_loader: lending_requests,
            tripwire: samples,
            resynchroniser: from_state,
            quarantine: quarantine.clone(),
            backlog: Arc::clone(&backlog),
            images: state_images,
            first_seq: recorded_from,
        };
        let state = system.spawn(state_mail, RestartPolicy::default(), move |resume| {
            let wiring = wiring.clone();
            async move { Ok(StateActor::build(wiring, behind(resume)).await?) }
        });

        // Oracle: the prices as of each block; it asks the resolver what feeds read.
        let resolver = feed_node.filter(|_| !contracts.feeds.is_empty()).map(|node| {
            let mail = Mailbox::new(&topology, "feed-resolver", FEED_REQUESTS);
            let requests = mail.dropping("oracle", "feeds to be resolved");
            let (contracts, publisher) = (Arc::clone(&contracts), bus.publisher());
            let resolver = system.spawn(mail, RestartPolicy::default(), move |_| {
                let resolver = FeedResolver::new(Arc::clone(&contracts), node.clone(), publisher.clone());
                async move { Ok(resolver) }
            });
            (requests, resolver.control().clone())
        });
        let (feed_requests, resolver) = resolver.unzip();
        let wiring = OracleWiring {
            market: Arc::clone(&contracts),
            config: config.oracle.clone(),
            snapshots: prices.clone(),
            derived: bus.derived("oracle"),
            timeline: timeline.clone(),
            resynchroniser: from_oracle,
            feed_resolver: feed_requests,
            quarantine,
            backlog,
            images: oracle_images,
            first_seq: recorded_from,
        };
        let oracle = system.spawn(oracle_mail, RestartPolicy::default(), move |resume| {
            let wiring = wiring.clone();
            async move { Ok(OracleActor::build(wiring, behind(resume)).await?) }
        });

        // Decoder: what each block did, to every detector.
        let decoder = Decoder::with_registry(registry);
        let decoder_timeline = timeline.clone();
        let decoder = system.spawn(decoder_mail, RestartPolicy::default(), move |_| {
            let (decoder, decoded) = (decoder.clone(), decoded.clone());
            let timeline = decoder_timeline.clone();
            async move { Ok(DecoderActor::new(decoder, decoded, timeline)) }
        });

        let chain = [decoder.control(), oracle.control(), state.control()].map(Clone::clone);
        let archivists = state_archivist.into_iter().chain(oracle_archivist);
        let actors = chain
            .into_iter()
            .chain(loader)
            .chain(resynchroniser)
            .chain(lending_loader)
            .chain(tripwire)
            .chain(resolver)
            .chain(actors)
            .chain(backrun)
            .chain(recorded)
            .chain(transmissions)
            .chain(crossings)
            .chain(pending_executor)
            .chain([executor.control().clone()])
            .chain(archivists)
            .collect();
        let digests = Digests { state: state.observer(), oracle: oracle.observer() };
        let handlers = Vec::new();
        Ok(Self {
            system,
            bus,
            topology,
            timeline,
            progress,
            market,
            prices,
            reports,
            mempool,
            actors,
            handlers,
            digests,
        })
    }

    /// Adds a subscriber of every event.
    pub fn register(&mut self, name: impl Into<Origin>, handler: impl EventHandler) {
        self.handlers.push(self.bus.register(name, handler));
    }

    /// Begins to follow a chain behind `start`; `limit`: how many canonical blocks.
    pub fn follow(mut self, config: &Config, node: &NodeConfig, start: Start, limit: Option<u64>) -> Running {
        let mempool = self.mempool.take().map(|mempool| {
            let pending = MempoolIngest::new(node, config.mempool.max_in_flight, mempool);
            pending.spawn(&self.system, RestartPolicy::default()).control().clone()
        });
        let source = LiveIngest::new(&config.ingest, node, start, limit, self.bus.publisher());
        let handle = source.spawn(&self.system, RestartPolicy::default());
        self.running(handle.control().clone(), mempool)
    }

    /// Begins to replay a recording.
    pub fn replay(self, recording: &Recording) -> Running {
        let source = ReplayIngest::new(recording, self.bus.publisher(), Some(self.progress.clone()), None);
        let handle = source.spawn(&self.system, RestartPolicy::default());
        self.running(handle.control().clone(), None)
    }

    fn running(self, source: ActorControl, mempool: Option<ActorControl>) -> Running {
        let Self { system, bus, topology, actors, handlers, digests, .. } = self;
        Running { system, bus, topology, source, mempool, actors, handlers, digests }
    }
}
