use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use headwater_bus::clock;
use headwater_detectors::Pace;
use headwater_events::{BusEvent, MarketLoaded, RunId};
use headwater_ingest::{Start, parse_link};
use headwater_journal::{Journal, JournalWriter};
use headwater_market::ResolvedMarket;
use headwater_node::{Node, NodeConfig, Redial};
use headwater_simulation::NodeSimulator;
use headwater_state::{BulkLoad, LoadError, bulk_load};
use tracing::{info, warn};

use crate::bot::{Bot, Parts};
use crate::commands::bundled_strategies;
use crate::config::Config;
use crate::failure::Failure;
use crate::running::Running;

/// A live run before it follows the chain: connected, recorded and wired; then loaded. Observers are registered on
/// `bot` before [`Live::load`], so that they see what was loaded.
#[derive(Debug)]
pub struct Live {
    /// Everything but the source.
    pub bot: Bot,
    config: Config,
    node_config: NodeConfig,
    node: Node,
    market: Arc<ResolvedMarket>,
    record: Record,
    start: Start,
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
    pub async fn connect(config: Config, mut node_config: NodeConfig) -> Result<Self, Failure> {
        let (node, chain_id) = Node::connect_first(&node_config).await.map_err(Failure::runtime)?;
        node_config.chain_id = Some(chain_id);
        info!(endpoint = %node.endpoint(), chain_id, "connected");
        let market = ResolvedMarket::resolve(&config.market, chain_id).map_err(Failure::usage)?;
        let market = Arc::new(market);

        let run_id = RunId(clock::unix_nanos());
        let journal_config = config.journal.of_run(run_id);
        let journal = Journal::create(&journal_config, run_id, 1).map_err(Failure::runtime)?;
        // A component that is restarted is rebuilt from the first event on.
        let journal = journal.with_older_runs(&config.journal.directory).keep_from(1);
        let (writer, recorder) = journal.start().map_err(Failure::runtime)?;
        let directory = journal_config.directory;
        info!(journal = %directory.display(), "recording");

        let timeout = config.executor.simulation_timeout();
        let simulator = NodeSimulator::new(Redial::new(node_config.clone()), timeout);
        let parts = Parts {
            strategies: bundled_strategies(&config, &market),
            market: Arc::clone(&market),
            run_id,
            first_seq: 1,
            recorder: Some(recorder),
            backlog: Arc::new(writer.backlog()),
            pace: Pace::Newest,
            node: Some(node_config.clone()),
            delays: None,
            config: config.clone(),
        };
        let bot = Bot::wire(parts, simulator).await.map_err(Failure::runtime)?;
        let record = Record { directory, writer };
        Ok(Self { bot, config, node_config, node, market, record, start: Start::Head })
    }

    /// Loads the market at the node's head and publishes it; `progress` is told how much was asked, and of how much.
    ///
    /// # Errors
    ///
    /// When the node does not answer, or forgets every head before the load is through.
    pub async fn load(&mut self, progress: impl Fn(u64, u64) + Send + Sync) -> anyhow::Result<()> {
        let loaded = load_market(&self.node, &self.market, progress).await?;
        self.start = publish(&self.bot, loaded).await?;
        Ok(())
    }

    /// Begins to follow the chain behind what was loaded; `limit`: how many canonical blocks.
    pub fn follow(self, limit: Option<u64>) -> (Running, Record) {
        let Self { bot, config, node_config, record, start, .. } = self;
        (bot.follow(&config, &node_config, start, limit), record)
    }
}

/// Loads the market at the node's head; at a newer one if that is gone meanwhile.
async fn load_market(
    node: &Node,
    market: &ResolvedMarket,
    progress: impl Fn(u64, u64) + Send + Sync,
) -> anyhow::Result<BulkLoad> {
    const TRIES: u32 = 5;
    let mut tries = 0;
    loop {
        tries += 1;
        let head = node.request("eth_getBlockByNumber", ("latest", false)).await?;
        let head = parse_link(&head.raw).context("eth_getBlockByNumber")?;
        match bulk_load(node, market, head.hash, &progress).await {
            Err(LoadError::BlockGone { .. }) if tries < TRIES => {
                warn!(
                    block = head.number,
                    "the block is gone while the market was loading; loading at a newer one"
                );
            }
            other => return Ok(other?),
        }
    }
}

/// Publishes what was loaded; says where to follow the chain from.
async fn publish(bot: &Bot, loaded: BulkLoad) -> anyhow::Result<Start> {
    let mut start = Start::Head;
    let publisher = bot.bus.publisher();
    info!(pools = loaded.report.pools, tokens = loaded.report.tokens, "the market is loaded");
    for event in loaded.events {
        if let BusEvent::MarketLoaded(MarketLoaded { number, hash, .. }) = &event {
            start = Start::After { number: *number, hash: *hash };
        }
        publisher.publish(event, None).await?;
    }
    Ok(start)
}
