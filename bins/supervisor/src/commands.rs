//! What the command line asks for.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use headwater_actor::Quarantine;
use headwater_bus::{BusConfig, clock};
use headwater_decoder::Registry;
use headwater_detectors::{Arbitrage, Liquidations, Pace};
use headwater_events::{BusEvent, MarketLoaded, RunId};
use headwater_journal::{Examined, Info, JournalError, Recording, SetAside, TornTail, examine};
use headwater_market::{DEVNET_CHAIN_ID, ResolvedMarket};
use headwater_node::{Endpoint, NodeConfig};
use headwater_simulation::Unavailable;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, warn};

use crate::archive::Archive;
use crate::bot::{Bot, Parts, Strategy};
use crate::cli::{ConfigArgs, JournalCommand, ReplayArgs, RunArgs};
use crate::config::Config;
use crate::failure::Failure;
use crate::graph as drawing;
use crate::hooks::Hooks;
use crate::live::Live;
use crate::quarantine;
use crate::report::say;
use crate::session::Session;

/// The bundled recording: some minutes of the devnet, with reorganisations among them.
const BUNDLED: &[u8] = include_bytes!("../../../tests/recordings/devnet.hwj");

/// `headwater run`.
///
/// # Errors
///
/// As its [`Failure`] says.
pub async fn run(arguments: RunArgs) -> Result<(), Failure> {
    run_with(arguments, Hooks::default()).await
}

/// `headwater run` with what a test adds to it.
///
/// # Errors
///
/// As its [`Failure`] says.
pub async fn run_with(arguments: RunArgs, hooks: Hooks) -> Result<(), Failure> {
    let config = load(arguments.config.as_deref())?;
    match node_of(&config, &arguments)? {
        Some(node) => live(config, node, &arguments, hooks).await,
        None if arguments.live => Err(Failure::usage(anyhow!(
            "--live needs a node: give --rpc URL, or [node] urls in a file given with --config"
        ))),
        None => {
            say(
                "REPLAY of the bundled recording: no node is contacted (follow a chain with --rpc URL or --config FILE)",
            );
            let recording =
                Recording::embedded("the bundled recording", BUNDLED).map_err(Failure::runtime)?;
            replay_recording(config, &recording, arguments.ndjson.as_deref()).await
        }
    }
}

/// `headwater replay`.
///
/// # Errors
///
/// As its [`Failure`] says.
pub async fn replay(arguments: ReplayArgs) -> Result<(), Failure> {
    let config = load(arguments.config.as_deref())?;
    let recording = Recording::open(&arguments.journal).map_err(Failure::runtime)?;
    say(format_args!("REPLAY of {}: no node is contacted", arguments.journal.display()));
    // Damage is met, and told, where it stands.
    recording.torn_tail().ok().flatten().iter().for_each(say_torn);
    replay_recording(config, &recording, arguments.ndjson.as_deref()).await
}

/// `headwater journal`.
///
/// # Errors
///
/// As its [`Failure`] says.
pub fn journal(command: JournalCommand) -> Result<(), Failure> {
    match command {
        JournalCommand::Info { journal } => {
            let Examined { info, damage } = examine(journal).map_err(Failure::runtime)?;
            print_info(&info)?;
            info.torn.iter().for_each(say_torn);
            damage.map_or(Ok(()), |damage| Err(damaged(&info, damage)))
        }
        JournalCommand::Verify { journal } => verify_journal(&journal),
        JournalCommand::Dump { journal } => dump(&journal),
        JournalCommand::Quarantine { journal, retry: None, .. } => list_quarantined(&journal),
        JournalCommand::Quarantine { journal, retry: Some(seq), config } => {
            retry_quarantined(&load(config.as_deref())?, &journal, seq)
        }
    }
}

/// An incomplete record at the end counts as damage here.
fn verify_journal(journal: &Path) -> Result<(), Failure> {
    let Examined { info, damage } = examine(journal).map_err(Failure::runtime)?;
    let torn = info.torn.clone().map(JournalError::from);
    match damage.or(torn) {
        Some(damage) => Err(damaged(&info, damage)),
        None => print_lines([format!(
            "{} events, {} to {}: all hold",
            info.records, info.first_seq, info.last_seq
        )]),
    }
}

fn list_quarantined(journal: &Path) -> Result<(), Failure> {
    let recording = Recording::open(journal).map_err(Failure::runtime)?;
    let set_aside = recording.set_aside().map_err(Failure::runtime)?;
    if set_aside.is_empty() {
        return print_lines(["nothing was set aside".to_owned()]);
    }
    print_lines(set_aside.iter().map(|SetAside { seq, actor, from, reason }| {
        let event = seq.map_or_else(|| "no event".to_owned(), |seq| format!("event {seq}"));
        format!("{event}: {actor}, from {from}: {reason}")
    }))
}

fn retry_quarantined(config: &Config, journal: &Path, seq: u64) -> Result<(), Failure> {
    let recording = Recording::open(journal).map_err(Failure::runtime)?;
    let mut set_aside = recording.set_aside().map_err(Failure::runtime)?;
    set_aside.retain(|set_aside| set_aside.seq == Some(seq));
    if set_aside.is_empty() {
        return Err(Failure::usage(anyhow!(
            "nothing that stems from event {seq} was set aside; without --retry all is listed"
        )));
    }
    let (mut lines, mut failing) = (Vec::new(), 0);
    for one in &set_aside {
        let outcome = quarantine::retry(config, &recording, one).map_err(Failure::runtime)?;
        failing += usize::from(outcome.is_err());
        let says = outcome.map_or_else(|reason| format!("still fails: {reason}"), |()| "passes".to_owned());
        lines.push(format!("event {seq}: {}, from {}: {says}", one.actor, one.from));
    }
    print_lines(lines)?;
    match failing {
        0 => Ok(()),
        _ => Err(Failure::runtime(anyhow!("{failing} of {} still fail", set_aside.len()))),
    }
}

/// What does not hold, and what does.
fn damaged(info: &Info, damage: JournalError) -> Failure {
    let damage = anyhow::Error::from(damage);
    Failure::runtime(match info.records {
        0 => damage,
        _ => anyhow!("{damage}; events {} to {} before it hold", info.first_seq, info.last_seq),
    })
}

/// An incomplete record at the end keeps nobody from reading what stands before it.
fn say_torn(torn: &TornTail) {
    say(format_args!("notice: {}; what stands before it is read", JournalError::from(torn.clone())));
}

/// `headwater graph`.
///
/// # Errors
///
/// As its [`Failure`] says.
pub async fn graph(arguments: ConfigArgs) -> Result<(), Failure> {
    let config = load(arguments.config.as_deref())?;
    let edges = topology(config).await.map_err(Failure::usage)?;
    print_lines([drawing::text(&edges), drawing::mermaid(&edges)])
}

/// `headwater check`.
///
/// # Errors
///
/// Everything that is wrong with the configuration.
pub fn check(arguments: ConfigArgs) -> Result<(), Failure> {
    let path = arguments.config.ok_or_else(|| Failure::usage(anyhow!("check needs --config FILE")))?;
    let config = load(Some(&path))?;
    let node = config.node.as_ref();
    node.map_or(Ok(()), |node| ensure_followable(node, &format!("{}: node.urls", path.display())))?;
    let chain = config.node.as_ref().and_then(|node| node.chain_id);
    let chain = chain.or_else(|| config.market.preset.and_then(headwater_market::Preset::chain_id));
    ResolvedMarket::resolve(&config.market, chain.unwrap_or(DEVNET_CHAIN_ID))
        .with_context(|| path.display().to_string())
        .map_err(Failure::usage)?;
    print_lines([format!("{}: no errors", path.display())])
}

/// The edges of a live bot, from the objects that would run.
///
/// # Errors
///
/// When the market of the configuration is wrong.
pub async fn topology(config: Config) -> anyhow::Result<Vec<headwater_bus::EdgeReport>> {
    let node = NodeConfig::new(Vec::new());
    let market = ResolvedMarket::resolve(&config.market, DEVNET_CHAIN_ID)?;
    let scratch = Recording::embedded("the bundled recording", BUNDLED)?;
    let market = Arc::new(market);
    let parts = Parts {
        strategies: bundled_strategies(&config, &market),
        registry: Registry::default(),
        market: Arc::clone(&market),
        run_id: RunId(0),
        first_seq: 1,
        earlier: None,
        recorder: None,
        backlog: Arc::new(scratch.backlog(RunId(0))),
        // Nothing is saved before a block comes.
        archive: Some(Archive::beside(&config.journal.directory, &market, &config)?),
        pace: Pace::Newest,
        node: Some(node),
        quarantine: Quarantine::default(),
        delays: None,
        poisons: None,
        bus: BusConfig::default(),
        config,
    };
    let mut bot = Bot::wire(parts, Unavailable).await?;
    let _session = Session::with_sink(&mut bot, None);
    let edges = bot.topology.report();
    bot.system.end();
    Ok(edges)
}

/// The strategies of the bundled bot.
pub fn bundled_strategies(config: &Config, market: &ResolvedMarket) -> Vec<Strategy> {
    let (arbitrage, base_tokens) = (config.detectors.arbitrage.clone(), market.base_tokens.clone());
    let mut strategies = vec![Strategy::new(move || Arbitrage::new(arbitrage.clone(), base_tokens.clone()))];
    if !market.lending.is_empty() {
        let liquidation = config.detectors.liquidation.clone();
        strategies.push(Strategy::new(move || Liquidations::new(liquidation.clone())));
    }
    strategies
}

/// What a replay of `recording` is made of: the market is that of the chain it was recorded on.
///
/// # Errors
///
/// When the recording does not say its chain, or the configuration does not fit it.
pub fn replay_parts(config: Config, recording: &Recording, run_id: RunId) -> anyhow::Result<Parts> {
    let chain_id = chain_of(recording)?;
    let market = ResolvedMarket::resolve(&config.market, chain_id)?;
    Ok(Parts {
        strategies: bundled_strategies(&config, &market),
        registry: Registry::default(),
        market: Arc::new(market),
        run_id,
        first_seq: recording.first_seq(),
        earlier: None,
        recorder: None,
        backlog: Arc::new(recording.backlog(run_id)),
        archive: None,
        pace: Pace::EveryBlock,
        node: None,
        quarantine: quarantine::of_recording(recording)?,
        delays: None,
        poisons: None,
        bus: BusConfig::default(),
        config,
    })
}

/// The chain that was recorded, as the end of its initial load says.
pub(crate) fn chain_of(recording: &Recording) -> anyhow::Result<u64> {
    for record in recording.records(recording.first_seq()) {
        match &record?.envelope.event {
            BusEvent::MarketLoaded(MarketLoaded { chain_id, .. }) => return Ok(*chain_id),
            BusEvent::NewBlock(_) => break,
            _ => {}
        }
    }
    let why = match recording.first_seq() {
        1 => "it is no recording of a run",
        _ => {
            "its beginning was removed (keep_bytes or keep_hours of [journal]), and only a run can go on with it"
        }
    };
    Err(anyhow!("{} does not begin with the load of a market: {why}", recording.path().display()))
}

async fn replay_recording(
    config: Config,
    recording: &Recording,
    ndjson: Option<&Path>,
) -> Result<(), Failure> {
    let mut interruption = Interruption::listen();
    let parts = replay_parts(config, recording, new_run()).map_err(Failure::runtime)?;
    let mut bot = Bot::wire(parts, Unavailable).await.map_err(Failure::runtime)?;
    let session = Session::observe(&mut bot, ndjson).map_err(Failure::usage)?;
    session.conclude(bot.replay(recording), interruption.comes()).await?;
    Ok(())
}

async fn live(config: Config, node: NodeConfig, arguments: &RunArgs, hooks: Hooks) -> Result<(), Failure> {
    let mut interruption = Interruption::listen();
    let connect = async {
        match arguments.fresh {
            true => Live::connect_with(config, node, &hooks).await,
            false => Live::resume(config, node, &hooks).await,
        }
    };
    let mut live = tokio::select! {
        live = connect => live?,
        () = interruption.comes() => return Err(Failure::runtime(anyhow!("interrupted before the node answered"))),
    };
    (hooks.wired)(&mut live.bot);
    let session = Session::observe(&mut live.bot, arguments.ndjson.as_deref()).map_err(Failure::usage)?;
    let bar = progress_bar();
    let progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    tokio::select! {
        loaded = live.load(progress) => loaded.map_err(Failure::runtime)?,
        () = interruption.comes() => return Err(Failure::runtime(anyhow!("interrupted while the market was loading"))),
    }
    bar.finish_and_clear();
    let (running, record) = live.follow(arguments.blocks);
    (hooks.running)(&running);
    let unrecorded = record.writer.failed();
    let stop = async {
        tokio::select! {
            () = interruption.comes() => {}
            () = unrecorded => error!("without a record nothing goes on: draining"),
        }
    };
    let concluded = session.conclude(running, stop).await;
    record.writer.close().await.map_err(Failure::runtime)?;
    say(format_args!("recorded in {} (headwater replay reads it)", record.directory.display()));
    concluded.map(drop)
}

fn load(path: Option<&Path>) -> Result<Config, Failure> {
    path.map_or_else(|| Ok(Config::default()), Config::load).map_err(Failure::usage)
}

/// The node to follow: `--rpc` takes the place of the configured URLs.
fn node_of(config: &Config, arguments: &RunArgs) -> Result<Option<NodeConfig>, Failure> {
    let Some(url) = &arguments.rpc else {
        config.node.iter().try_for_each(|node| ensure_followable(node, "node.urls"))?;
        return Ok(config.node.clone());
    };
    // Parsed here and not by the command line's parser, which would repeat it with whatever secret it holds.
    let url = url.parse().context("--rpc").map_err(Failure::usage)?;
    let node = config.node.clone().unwrap_or_else(|| NodeConfig::new(Vec::new()));
    let node = NodeConfig { urls: vec![url], ..node };
    ensure_followable(&node, "--rpc")?;
    Ok(Some(node))
}

fn ensure_followable(node: &NodeConfig, place: &str) -> Result<(), Failure> {
    if node.urls.iter().any(Endpoint::carries_subscriptions) {
        return Ok(());
    }
    Err(Failure::usage(anyhow!(
        "{place}: new heads are announced over ws://, wss:// and IPC, and there is no such URL"
    )))
}

fn new_run() -> RunId {
    RunId(clock::unix_nanos())
}

/// Ctrl-C, and what ends a service. What comes between two waits is not lost.
struct Interruption([Option<Signal>; 2]);

impl Interruption {
    /// Hears from now on.
    fn listen() -> Self {
        Self([SignalKind::interrupt(), SignalKind::terminate()].map(|kind| match signal(kind) {
            Ok(heard) => Some(heard),
            Err(error) => {
                warn!(signal = kind.as_raw_value(), %error, "a signal cannot be heard");
                None
            }
        }))
    }

    async fn comes(&mut self) {
        let [ctrl_c, terminate] = self.0.each_mut().map(|signal| async move {
            match signal {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        });
        tokio::select! {
            () = ctrl_c => {}
            () = terminate => {}
        }
    }
}

/// Drawn on a terminal only.
fn progress_bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("loading the market {bar:40} {pos}/{len} ({eta})");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn print_info(info: &Info) -> Result<(), Failure> {
    let blocks = info.blocks.map_or_else(|| "none".to_owned(), |(low, high)| format!("{low} to {high}"));
    let mut lines = vec![
        format!("{}: {} bytes in {} files", info.path.display(), info.bytes, info.segments.len()),
        format!("events {} to {} ({})", info.first_seq, info.last_seq, info.records),
        format!("blocks {blocks}; the deepest reorganisation undid {}", info.deepest_reorg),
    ];
    lines.extend(info.kinds.iter().map(|(kind, count)| format!("  {count:8} {kind}")));
    print_lines(lines)
}

fn dump(journal: &Path) -> Result<(), Failure> {
    let recording = Recording::open(journal).map_err(Failure::runtime)?;
    recording.torn_tail().ok().flatten().iter().for_each(say_torn);
    let mut out = io::BufWriter::new(io::stdout().lock());
    for record in recording.records(recording.first_seq()) {
        let record = record.map_err(Failure::runtime)?;
        let written = serde_json::to_writer(&mut out, &*record.envelope)
            .map_err(io::Error::from)
            .and_then(|()| out.write_all(b"\n"));
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.context("stdout").map_err(Failure::runtime)?,
        }
    }
    out.flush().context("stdout").map_err(Failure::runtime)
}

fn print_lines(lines: impl IntoIterator<Item = String>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for line in lines {
        match writeln!(out, "{}", line.trim_end()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.context("stdout").map_err(Failure::runtime)?,
        }
    }
    Ok(())
}
