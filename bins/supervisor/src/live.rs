use std::path::PathBuf;
use std::sync::Arc;

use alloy_primitives::{BlockHash, BlockNumber};
use anyhow::Context;
use headwater_bus::clock;
use headwater_decoder::Registry;
use headwater_detectors::Pace;
use headwater_events::{BusEvent, FeedVerdict, MarketLoaded, RunId};
use headwater_ingest::{Start, parse_link};
use headwater_journal::{Journal, JournalWriter};
use headwater_market::ResolvedMarket;
use headwater_node::{Node, NodeConfig, Redial};
use headwater_oracle::resolve_feeds;
use headwater_simulation::NodeSimulator;
use headwater_state::{
    BulkLoad, FoundPool, LendingScan, LoadError, LoadReport, Patience, PoolSearch, load_market,
};
use tracing::{info, warn};

use crate::archive::Archive;
use crate::bot::{Bot, Parts};
use crate::commands::bundled_strategies;
use crate::config::Config;
use crate::failure::Failure;
use crate::hooks::Hooks;
use crate::quarantine;
use crate::resume::{self, Earlier};
use crate::running::Running;
use crate::searches::{Progress, Searches};

/// A live run before it follows the chain: connected, recorded and wired; then loaded. Observers are registered on
/// `bot` before [`Live::load`], so that they see what was loaded.
#[derive(Debug)]
pub struct Live {
    /// Everything but the source.
    pub bot: Bot,
    config: Config,
    node_config: NodeConfig,
    /// The connection over which the market is loaded.
    patience: Patience,
    market: Arc<ResolvedMarket>,
    record: Record,
    /// Where the market is known; nothing before it is loaded.
    start: Option<Start>,
}

/// The journal of a live run.
#[derive(Debug)]
pub struct Record {
    /// Where it is written.
    pub directory: PathBuf,
    /// Who writes it; to be closed after the run.
    pub writer: JournalWriter,
}

impl Live {
    /// Connects to the first node that answers, resolves the market of its chain, opens a journal of the run's own and
    /// wires the bundled bot.
    ///
    /// # Errors
    ///
    /// When no node answers or is on the configured chain, the configuration does not fit the chain, or the journal
    /// cannot be written.
    pub async fn connect(config: Config, node_config: NodeConfig) -> Result<Self, Failure> {
        Self::connect_with(config, node_config, &Hooks::default()).await
    }

    /// As [`Live::connect`], with what a test adds to the wiring.
    ///
    /// # Errors
    ///
    /// As [`Live::connect`].
    pub async fn connect_with(
        config: Config,
        node_config: NodeConfig,
        hooks: &Hooks,
    ) -> Result<Self, Failure> {
        let connected = Connected::to_first(&config, node_config).await?;
        Self::wire(config, connected, None, hooks).await
    }

    /// As [`Live::connect_with`], but goes on with what the last run recorded, if it was about the same market and the chain
    /// has not gone too far since.
    ///
    /// # Errors
    ///
    /// As [`Live::connect`].
    pub async fn resume(config: Config, node_config: NodeConfig, hooks: &Hooks) -> Result<Self, Failure> {
        let connected = Connected::to_first(&config, node_config).await?;
        let earlier = resume::find(&config, &connected.market, connected.run_id);
        let earlier = match earlier {
            Some(earlier) if connected.is_near(&earlier).await.map_err(Failure::runtime)? => Some(earlier),
            _ => None,
        };
        Self::wire(config, connected, earlier, hooks).await
    }

    async fn wire(
        config: Config,
        connected: Connected,
        earlier: Option<Earlier>,
        hooks: &Hooks,
    ) -> Result<Self, Failure> {
        let Connected { node, node_config, market, run_id } = connected;
        let (journal, directory, events, start) = match earlier {
            Some(Earlier { journal, directory, events, chain }) => {
                (journal, directory, Some(events), Some(Start::Behind(chain)))
            }
            None => {
                let config = config.journal.of_run(run_id);
                let journal = Journal::create(&config, run_id, 1).map_err(Failure::runtime)?;
                resume::note_market(&config.directory, &market).map_err(Failure::runtime)?;
                (journal, config.directory, None, None)
            }
        };
        let first_seq = journal.next_seq();
        // A component is rebuilt from a snapshot or, while there are too few of them, from the first event of the record.
        let recorded_from = events.as_ref().map_or(first_seq, |events| *events.start());
        let archive = Archive::beside(&directory, &market, &config).map_err(Failure::runtime)?;
        let needed_from = archive.needed_from().unwrap_or(recorded_from);
        let journal = journal.with_older_runs(&config.journal.directory).keep_from(needed_from);
        let (writer, recorder) = journal.start().map_err(Failure::runtime)?;
        let archive = archive.with_keeper(writer.keeper());
        info!(journal = %directory.display(), "recording");

        let timeout = config.executor.simulation_timeout();
        let mut simulator = NodeSimulator::new(Redial::new(node_config.clone()), timeout);
        if let (true, Some(chain_id)) = (config.mempool.enabled, node_config.chain_id) {
            simulator = simulator.with_pending(config.mempool.limits(chain_id));
        }
        let mut strategies = bundled_strategies(&config, &market);
        strategies.extend(hooks.strategies.iter().cloned());
        let parts = Parts {
            strategies,
            registry: Registry::default(),
            market: Arc::clone(&market),
            run_id,
            first_seq,
            earlier: events,
            recorder: Some(recorder),
            backlog: Arc::new(writer.backlog()),
            archive: Some(archive),
            pace: Pace::Newest,
            node: Some(node_config.clone()),
            quarantine: quarantine::of_journal(&directory).map_err(Failure::runtime)?,
            delays: hooks.delays.clone(),
            poisons: hooks.poisons.clone(),
            bus: hooks.bus.clone(),
            config: config.clone(),
        };
        let bot = Bot::wire(parts, simulator).await.map_err(Failure::runtime)?;
        let record = Record { directory, writer };
        let patience = Patience::new(&config.state, &node_config, node);
        Ok(Self { bot, config, node_config, patience, market, record, start })
    }

    /// Loads the market at the node's head and publishes it, unless an earlier run has; `progress` is told how many blocks of its
    /// history were searched, then how much was asked, and of how much. A node that fails is borne for a while, and the load goes on
    /// where it was.
    ///
    /// # Errors
    ///
    /// When the node fails for longer, or forgets every head before the load is through.
    pub async fn load(&mut self, progress: impl Fn(u64, u64) + Send + Sync) -> anyhow::Result<()> {
        if self.start.is_none() {
            let (scans, found) = self.search(&progress).await?;
            let loaded = load_market(&mut self.patience, &self.market, &found, &progress).await?;
            let start = publish(&self.bot, loaded).await?;
            if let Start::After { number, hash } = &start {
                self.resolve_feeds(*number, *hash).await?;
                self.load_lending(scans, *hash).await?;
            }
            self.start = Some(start);
        }
        Ok(())
    }

    /// Publishes what the feeds read at the block that the market was loaded at. Where the node fails, the oracle asks with the
    /// first block.
    async fn resolve_feeds(&mut self, number: BlockNumber, hash: BlockHash) -> anyhow::Result<()> {
        let resolved = match self.patience.node().await {
            Ok(node) => resolve_feeds(&node, &self.market.feeds, number, hash).await.map_err(LoadError::from),
            Err(error) => Err(error),
        };
        let resolved = resolved.unwrap_or_else(|error| {
            warn!(%error, "the feeds cannot be asked yet");
            Vec::new()
        });
        for feed in resolved {
            if let FeedVerdict::Refused(reason) = &feed.verdict {
                warn!(proxy = %feed.proxy, reason, "a feed is not used");
            }
            self.bot.bus.publisher().publish(BusEvent::FeedResolved(feed), None).await?;
        }
        Ok(())
    }

    /// Searches the chain's logs for the accounts of the lending pools, and for pools that nobody lists. It is what takes longest, and
    /// so comes before a block is chosen for everything else.
    async fn search(
        &mut self,
        progress: &Progress<'_>,
    ) -> anyhow::Result<(Vec<LendingScan>, Vec<FoundPool>)> {
        let journals = &self.config.journal.directory;
        let patience = &mut self.patience;
        let mut searches = Searches { patience, chain_id: self.market.chain_id, journals };
        let mut scans = Vec::new();
        for lending in &self.market.lending {
            scans.push(searches.search(LendingScan::new(lending.clone()), progress).await?);
        }
        let mut found = Vec::new();
        for history in &self.market.history {
            let search = searches.search(PoolSearch::new(&self.market, history), progress).await?;
            let (pools, refused) = (search.pools().len(), search.refused());
            info!(factory = %history.factory, pools, refused, "its history is searched");
            found.extend_from_slice(search.pools());
        }
        Ok((scans, found))
    }

    /// Loads the lending pools at the block that the market was loaded at. Where the node fails, the state asks with the first
    /// block; a pool that cannot be followed is an error.
    async fn load_lending(&mut self, scans: Vec<LendingScan>, hash: BlockHash) -> anyhow::Result<()> {
        for mut scan in scans {
            let loaded = match self.patience.node().await {
                Ok(node) => scan.load(&node, hash).await,
                Err(error) => Err(error),
            };
            match loaded {
                Ok(loaded) => {
                    info!(pool = %loaded.pool, accounts = loaded.accounts.len(), "a lending pool is loaded");
                    let event = BusEvent::LendingLoaded(Box::new(loaded));
                    self.bot.bus.publisher().publish(event, None).await?;
                }
                Err(error) if error.is_retryable() => warn!(%error, "a lending pool cannot be loaded yet"),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Begins to follow the chain behind what was loaded; `limit`: how many canonical blocks.
    pub fn follow(self, limit: Option<u64>) -> (Running, Record) {
        let Self { bot, config, node_config, record, start, .. } = self;
        (bot.follow(&config, &node_config, start.unwrap_or(Start::Head), limit), record)
    }
}

/// A node, the market of its chain, and the run that begins.
struct Connected {
    run_id: RunId,
    node: Node,
    node_config: NodeConfig,
    market: Arc<ResolvedMarket>,
}

/// Blocks that are filled in behind an earlier run; behind more of them, loading the market anew is faster.
const NEAR: u64 = 4_096;

impl Connected {
    async fn to_first(config: &Config, mut node_config: NodeConfig) -> Result<Self, Failure> {
        let (node, chain_id) = Node::connect_first(&node_config).await.map_err(Failure::runtime)?;
        node_config.chain_id = Some(chain_id);
        info!(endpoint = %node.endpoint(), chain_id, "connected");
        let market = ResolvedMarket::resolve(&config.market, chain_id).map_err(Failure::usage)?;
        let run_id = RunId(clock::unix_nanos());
        Ok(Self { run_id, node, node_config, market: Arc::new(market) })
    }

    /// Whether the node's chain still has a block of the record that is near enough to be gone on from.
    async fn is_near(&self, earlier: &Earlier) -> anyhow::Result<bool> {
        let head = self.node.request("eth_getBlockByNumber", ("latest", false)).await?;
        let head = parse_link(&head.raw).context("eth_getBlockByNumber")?;
        let last = earlier.chain.head().map_or(0, |link| link.number);
        if head.number.saturating_sub(last) > NEAR {
            warn!(
                last_block = last,
                head = head.number,
                "the chain has gone too far since the last run; loading anew"
            );
            return Ok(false);
        }
        for link in earlier.chain.published().rev() {
            if link.number > head.number {
                continue;
            }
            let block =
                self.node.request("eth_getBlockByNumber", (format!("{:#x}", link.number), false)).await?;
            if !block.is_null() && parse_link(&block.raw).context("eth_getBlockByNumber")?.hash == link.hash {
                return Ok(true);
            }
        }
        warn!(last_block = last, "no block of the last run is on the node's chain; loading anew");
        Ok(false)
    }
}

/// Publishes what was loaded; says where to follow the chain from.
async fn publish(bot: &Bot, loaded: BulkLoad) -> anyhow::Result<Start> {
    let mut start = Start::Head;
    let publisher = bot.bus.publisher();
    let LoadReport { pools, concentrated_pools, tokens, failures, begun_anew, refused, .. } = loaded.report;
    info!(pools, concentrated_pools, tokens, failures, begun_anew, "the market is loaded");
    if refused > 0 {
        warn!(
            refused,
            "contracts that a factory lists do not derive from it: where that is most of them, the init_code_hash of its \
             [[market.factories]] is another one's"
        );
    }
    for event in loaded.events {
        if let BusEvent::MarketLoaded(MarketLoaded { number, hash, .. }) = &event {
            start = Start::After { number: *number, hash: *hash };
        }
        publisher.publish(event, None).await?;
    }
    Ok(start)
}
