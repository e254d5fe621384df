//! A poisonous event in each component of a live bot: it is set aside, nothing is found in what is not known, and behind
//! the resynchronisation everything is as if nothing had been.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::{B256, U256};
use anyhow::{Context, ensure};
use headwater_actor::{ActorControl, Fault as Injected, Poisons};
use headwater_bus::{BlockProgress, EventHandler, SnapshotReader};
use headwater_events::{BusEvent, Envelope};
use headwater_journal::Recording;
use headwater_market::{MarketSnapshot, PriceSnapshot};
use headwater_node::NodeConfig;
use headwater_reference::fake_node::{FakeBlock, FakeNode, Fault, RpcErr, Times, V2Pair};
use headwater_reference::rebuild::Rebuild;
use headwater_reference::scratch::{Known, from_scratch};
use headwater_supervisor::{Config, Ended, Failure, Hooks, Live, Record, Running, Session};
use headwater_telemetry::NdjsonSink;
use tokio::sync::watch;
use tokio::time::{Instant, interval, timeout, timeout_at};

use super::actors::mute_planned_panics;
use super::kill9::Generator;
use super::replay::as_json;
use crate::exhaustive::Exhaustive;
use crate::follower::Results;
use crate::latency::{FACTORIES, WETH, config_text};
use crate::proof::{Proof, ProofArgs, Report};
use crate::replayed::{Setup, replay, runtime};
use crate::workflows::headwater;

/// Poison in a live run.
pub const POISON: Proof = Proof {
    name: "poison",
    about: "a poisonous block or reorganisation in each component of a live bot: set aside, resynchronised, replayed alike",
    full_duration: "1 min",
    run,
};

const CHAIN_ID: u64 = 424_246;
/// For what takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// From a poisonous event to the incarnation that goes on behind it: two restarts.
const BACK_WITHIN: Duration = Duration::from_secs(1);
/// Blocks before the poison, and behind the recovery.
const BEFORE: usize = 6;
const AFTER: usize = 10;
/// How long the node takes for an answer, so that the chain goes on meanwhile.
const SLOW: Duration = Duration::from_millis(120);

/// What is poisonous to whom, and what happens meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    actor: &'static str,
    what: What,
    meanwhile: Meanwhile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Block,
    Reorg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    /// The node answers at once.
    Nothing,
    /// It is slow, and the chain grows.
    Growth,
    /// It is slow, and the chain is reorganised below what it was asked about.
    Reorg,
    /// The process ends, and another goes on with its record.
    Restart,
}

const CASES: [Case; 15] = [
    case("state", What::Block, Meanwhile::Growth),
    case("oracle", What::Reorg, Meanwhile::Reorg),
    case("decoder", What::Block, Meanwhile::Nothing),
    case("arbitrage", What::Block, Meanwhile::Nothing),
    case("executor", What::Block, Meanwhile::Nothing),
    case("state", What::Block, Meanwhile::Restart),
    case("state", What::Block, Meanwhile::Nothing),
    case("state", What::Block, Meanwhile::Reorg),
    case("state", What::Reorg, Meanwhile::Nothing),
    case("state", What::Reorg, Meanwhile::Growth),
    case("oracle", What::Block, Meanwhile::Nothing),
    case("oracle", What::Block, Meanwhile::Growth),
    case("oracle", What::Block, Meanwhile::Reorg),
    case("oracle", What::Block, Meanwhile::Restart),
    case("executor", What::Reorg, Meanwhile::Nothing),
];

const fn case(actor: &'static str, what: What, meanwhile: Meanwhile) -> Case {
    Case { actor, what, meanwhile }
}

impl Case {
    /// Whether it costs the market, or only what the actor says of one block.
    fn loses_the_market(self) -> bool {
        ["state", "oracle"].contains(&self.actor)
    }
}

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    mute_planned_panics();
    let cases = if args.quick { &CASES[..6] } else { &CASES[..] };
    let mut report = Report { seed: args.seed, ..Report::default() };
    let mut all = Judged::default();
    for (place, case) in cases.iter().enumerate() {
        let folder = tempfile::tempdir()?;
        let seed = args.seed.wrapping_mul(1_000) + place as u64;
        let lived =
            async { timeout(2 * PATIENCE, live(*case, seed, folder.path())).await.context("it hangs")? };
        let done = runtime(2)?.block_on(lived);
        let judged = done.and_then(|lived| judge(*case, &lived, folder.path()));
        all.add(&judged.with_context(|| format!("{case:?}, seed {seed}"))?);
    }
    runtime(2)?.block_on(kept_failing(args.seed)).context("a component that keeps failing")?;
    report.checked = all.evaluated;
    report.floor = cases.len() as u64 * (BEFORE + AFTER) as u64;
    report.lines = vec![
        format!(
            "{} live runs, in each one poisonous event of one component: set aside once, at most {:?} until it goes on, \
             no sibling restarted, every edge conserved",
            cases.len(),
            all.slowest
        ),
        format!(
            "{} blocks judged by exhaustive search: all {} cycles found, none invented; {} blocks without a market, in none \
             of them a finding",
            all.evaluated, all.cycles, all.silent
        ),
        format!(
            "{} resynchronisations; at the end pools and prices are a plain fold of the chain",
            all.resyncs
        ),
        format!("{} replays of what was recorded say the same, byte for byte", cases.len()),
        "a state that fails at everything: nothing is acted upon from then on, all drains, exit code 3"
            .to_owned(),
    ];
    Ok(report)
}

/// What a run left behind.
struct Lived {
    generator: Generator,
    /// What each process wrote.
    results: Vec<String>,
    /// The blocks from the poison on of which there is no market.
    lost: BTreeSet<B256>,
    /// Until the poisoned actor went on.
    back: Duration,
    poisoned_seq: u64,
    resyncs: u64,
    run: PathBuf,
}

#[derive(Default)]
struct Judged {
    evaluated: u64,
    cycles: u64,
    silent: u64,
    resyncs: u64,
    slowest: Duration,
}

impl Judged {
    fn add(&mut self, other: &Self) {
        self.evaluated += other.evaluated;
        self.cycles += other.cycles;
        self.silent += other.silent;
        self.resyncs += other.resyncs;
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// The next event that an actor is handed, once armed, is poison to it for ever.
#[derive(Clone, Default)]
struct Vial(Arc<AtomicU64>);

impl Vial {
    const EMPTY: u64 = 0;
    const ARMED: u64 = u64::MAX;

    fn arm(&self) {
        self.0.store(Self::ARMED, Ordering::SeqCst);
    }

    fn seq(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn poisons(&self, victim: &'static str) -> Poisons {
        let vial = self.clone();
        Arc::new(move |actor: &str, seq: u64| {
            if actor != victim || vial.seq() == Self::EMPTY {
                return false;
            }
            let armed = vial.0.compare_exchange(Self::ARMED, seq, Ordering::SeqCst, Ordering::SeqCst);
            armed.is_ok() || vial.seq() == seq
        })
    }
}

async fn live(case: Case, seed: u64, folder: &Path) -> anyhow::Result<Lived> {
    let (node, url) = FakeNode::start(CHAIN_ID).await?;
    let mut generator = Generator::new(seed);
    node.answer_v2(generator.world.contracts());
    node.push_block(generator.blocks[0].block.clone());
    let vial = Vial::default();
    let hooks = || Hooks { poisons: Some(vial.poisons(case.actor)), ..Hooks::default() };
    let mut bot = Bot::start(&url, &folder.join("journal"), hooks(), false).await?;
    node.until_subscribed("newHeads", 1).await;
    for _ in 0..BEFORE {
        bot.follow(&node, generator.next()).await?;
    }
    match case.meanwhile {
        Meanwhile::Nothing => {}
        Meanwhile::Growth | Meanwhile::Reorg => node.delay("eth_call", SLOW),
        Meanwhile::Restart => {
            let busy = RpcErr { code: -32_000, message: "busy".to_owned(), data: None };
            node.inject("eth_call", Fault::Error(busy), Times::Always);
        }
    }
    vial.arm();
    let began = Instant::now();
    match case.what {
        What::Block => node.push_block(generator.next()),
        What::Reorg => node.reorg_to(generator.reorganise()),
    }
    bot.until_set_aside(case.actor).await?;
    let back = began.elapsed();
    let (mut results, mut lost) = (Vec::new(), BTreeSet::new());
    if case.loses_the_market() {
        if case.meanwhile == Meanwhile::Reorg {
            node.reorg_to(generator.reorganise());
        }
        if case.meanwhile == Meanwhile::Restart {
            bot.follow(&node, generator.next()).await?;
            lost.extend(bot.heard().blocks.range(vial.seq()..).map(|(_, block)| *block));
            results.push(bot.end(case).await?);
            node.mend("eth_call");
            bot = Bot::start(&url, &folder.join("journal"), hooks(), true).await?;
            node.until_requested("eth_subscribe", 2).await;
        }
        let whole_from = bot.until_resynced(&node, &mut generator).await?;
        lost.extend(bot.heard().blocks.range(vial.seq()..whole_from).map(|(_, block)| *block));
    }
    for at in 0..AFTER {
        if at == AFTER / 2 {
            let branch = generator.reorganise();
            node.reorg_to(branch);
            bot.until_done(generator.head().hash()).await?;
        }
        bot.follow(&node, generator.next()).await?;
    }
    bot.compare_market(&generator)?;
    let resyncs = bot.heard().resyncs;
    let run = bot.record.directory.clone();
    results.push(bot.end(case).await?);
    Ok(Lived { generator, results, lost, back, poisoned_seq: vial.seq(), resyncs, run })
}

/// A bot that follows the fake node.
struct Bot {
    heard: watch::Receiver<Heard>,
    progress: BlockProgress,
    market: SnapshotReader<MarketSnapshot>,
    prices: SnapshotReader<PriceSnapshot>,
    actors: Vec<ActorControl>,
    running: Running,
    session: Session,
    record: Record,
    written: Written,
}

/// What it told on its bus.
#[derive(Clone, Debug, Default)]
struct Heard {
    /// The last block, and its event.
    head: Option<(B256, u64)>,
    resyncs: u64,
    /// The blocks by their events.
    blocks: BTreeMap<u64, B256>,
}

struct Ear(watch::Sender<Heard>);

impl EventHandler for Ear {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        self.0.send_modify(|heard| match &envelope.event {
            BusEvent::NewBlock(block) => {
                heard.head = Some((block.header.hash, envelope.seq));
                heard.blocks.insert(envelope.seq, block.header.hash);
            }
            BusEvent::MarketResynced(_) => heard.resyncs += 1,
            _ => {}
        });
        Ok(())
    }

    fn interested_in(&self, event: &BusEvent) -> bool {
        matches!(event, BusEvent::NewBlock(_) | BusEvent::MarketResynced(_))
    }
}

/// Results in memory.
#[derive(Clone, Debug, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Bot {
    async fn start(url: &str, journal: &Path, hooks: Hooks, resume: bool) -> anyhow::Result<Self> {
        Self::start_with(url, configuration(journal)?, hooks, resume).await
    }

    async fn start_with(url: &str, config: Config, hooks: Hooks, resume: bool) -> anyhow::Result<Self> {
        let node = NodeConfig::new(vec![url.parse()?]);
        let connected = match resume {
            true => Live::resume(config, node, &hooks).await,
            false => Live::connect_with(config, node, &hooks).await,
        };
        let mut live = connected.map_err(|failure| anyhow::anyhow!("{failure}"))?;
        let written = Written::default();
        let session =
            Session::with_sink(&mut live.bot, Some(NdjsonSink::to_writer("memory", written.clone())));
        let (ear, heard) = watch::channel(Heard::default());
        live.bot.register("ear", Ear(ear));
        live.load(|_, _| {}).await?;
        let progress = live.bot.progress.clone();
        let (market, prices) = (live.bot.market.reader("judge"), live.bot.prices.reader("judge"));
        let (running, record) = live.follow(None);
        let actors = running.actors().cloned().collect();
        Ok(Self { heard, progress, market, prices, actors, running, session, record, written })
    }

    fn heard(&self) -> Heard {
        self.heard.borrow().clone()
    }

    /// Waits until nothing more will be said of a block.
    async fn until_done(&mut self, block: B256) -> anyhow::Result<()> {
        let is_head = |heard: &Heard| heard.head.is_some_and(|(head, _)| head == block);
        let heard =
            timeout(PATIENCE, self.heard.wait_for(is_head)).await.context("a block does not come")??;
        let seq = heard.head.context("it is the head")?.1;
        drop(heard);
        timeout(PATIENCE, self.progress.wait_for(seq)).await.context("a block does not get done")
    }

    async fn follow(&mut self, node: &FakeNode, block: FakeBlock) -> anyhow::Result<()> {
        let hash = block.hash();
        node.push_block(block);
        self.until_done(hash).await
    }

    async fn until_set_aside(&self, actor: &str) -> anyhow::Result<()> {
        let actor = self.actors.iter().find(|control| control.name() == actor).context("no such actor")?;
        let (deadline, mut ticks) = (Instant::now() + PATIENCE, interval(Duration::from_millis(2)));
        while actor.status().quarantined == 0 {
            timeout_at(deadline, ticks.tick()).await.context("nothing is set aside")?;
        }
        Ok(())
    }

    /// Lets the chain grow until a block has a market again; says which event that is.
    async fn until_resynced(&mut self, node: &FakeNode, generator: &mut Generator) -> anyhow::Result<u64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.follow(node, generator.next()).await?;
            let seq = self.heard().head.context("a head")?.1;
            let market = self.market.latest().is_some_and(|market| market.as_of.seq == seq);
            if market && self.prices.latest().is_some_and(|prices| prices.as_of.seq == seq) {
                return Ok(seq);
            }
            ensure!(Instant::now() < deadline, "the market stays lost: {:?}", self.heard().resyncs);
        }
    }

    /// Pools and prices of the head are what the chain says from its beginning on.
    fn compare_market(&self, generator: &Generator) -> anyhow::Result<()> {
        let head = generator.head().hash();
        let market = self.market.latest().filter(|market| market.as_of.hash == head).context("no market")?;
        let prices = self.prices.latest().filter(|prices| prices.as_of.hash == head).context("no prices")?;
        let expected = &generator.pools[&head];
        for pool in expected {
            let held = market.pools.find(&pool.address).and_then(|id| market.pools.quoted(id));
            let held = held.map(|held| (held.reserve0, held.reserve1));
            ensure!(held == Some((pool.reserve0, pool.reserve1)), "{pool:?} holds {held:?}");
        }
        ensure!(market.pools.len() == expected.len(), "{} pools", market.pools.len());
        let first = &generator.pools[&generator.blocks[0].block.hash()];
        let loaded = first.iter().map(|pool| V2Pair {
            address: pool.address,
            factory: FACTORIES[0],
            token0: pool.token0,
            token1: pool.token1,
            reserve0: pool.reserve0,
            reserve1: pool.reserve1,
        });
        let known = Known {
            factories: FACTORIES.map(|factory| (factory, 3_000)).into(),
            wrapped_native: WETH,
            min_base_reserve: U256::from(10).pow(U256::from(18)),
            loaded: loaded.collect(),
            ..Known::default()
        };
        let scratch = from_scratch(&known, generator.blocks[1..].iter().map(|generated| &generated.block));
        ensure!(!scratch.prices.is_empty() && scratch.prices.len() == prices.prices.len(), "other prices");
        for (token, expected) in &scratch.prices {
            let told = prices.prices.get(token).context("a price is missing")?;
            let is_so = (told.price.mantissa, told.source) == (expected.mantissa, expected.source);
            ensure!(is_so, "{token} is worth {expected:?}, and told to be {told:?}");
        }
        Ok(())
    }

    /// Ends it, drained; gives what it wrote.
    async fn end(self, case: Case) -> anyhow::Result<String> {
        let statuses: Vec<_> =
            self.actors.iter().map(|actor| (actor.name().to_owned(), actor.status())).collect();
        let (summary, ended, written) = self.session.finish(self.running, std::future::ready(())).await;
        written?;
        self.record.writer.close().await?;
        ensure!(ended.fatal.is_none(), "given up: {:?}", ended.fatal);
        ensure_conserved(&ended)?;
        let is_first = !ended.quarantined.is_empty();
        for (name, status) in &statuses {
            let expected = match name == case.actor && is_first {
                // A message of the executor may be the chain's, or a detector's about the same block.
                true if name == "executor" && case.what == What::Block => 2..=4,
                true => 2..=2,
                false => 0..=0,
            };
            ensure!(expected.contains(&status.restarts), "{name}: {status:?}");
            ensure!(status.restarts == 2 * status.quarantined as u32, "{name}: {status:?}");
        }
        ensure!(summary.quarantined.len() == ended.quarantined.len(), "the summary names other messages");
        let bytes = self.written.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(String::from_utf8(bytes)?)
    }
}

/// The actors that a block passes through.
const ACTORS: [&str; 6] = ["ingest", "decoder", "oracle", "state", "arbitrage", "executor"];

/// A bot goes on with what was recorded, and each of its actors panics once. Says for each how long it took until it had
/// started anew and a further block was done.
pub(super) async fn panic_in_each(
    node: &FakeNode,
    url: &str,
    config: &str,
    generator: &Mutex<Generator>,
) -> anyhow::Result<Vec<(&'static str, Duration)>> {
    mute_planned_panics();
    let next = || generator.lock().unwrap_or_else(PoisonError::into_inner).next();
    let config = Config::parse(config).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    let subscribed = node.requests("eth_subscribe");
    let mut bot = Bot::start_with(url, config, Hooks::default(), true).await?;
    timeout(PATIENCE, node.until_requested("eth_subscribe", subscribed + 1))
        .await
        .context("no subscription")?;
    bot.follow(node, next()).await?;
    let mut restarts = Vec::new();
    for name in ACTORS {
        let actor = bot.actors.iter().find(|actor| actor.name() == name).context("no such actor")?.clone();
        let began = Instant::now();
        actor.inject(Injected::PanicBefore);
        bot.follow(node, next()).await?;
        let (deadline, mut ticks) = (Instant::now() + PATIENCE, interval(Duration::from_millis(2)));
        while actor.status().restarts == 0 {
            timeout_at(deadline, ticks.tick()).await.with_context(|| format!("{name} does not panic"))?;
        }
        bot.follow(node, next()).await?;
        restarts.push((name, began.elapsed()));
        ensure!(actor.status().restarts == 1, "{name}: {:?}", actor.status());
    }
    let (_, ended, written) = bot.session.finish(bot.running, std::future::ready(())).await;
    written?;
    bot.record.writer.close().await?;
    ensure!(ended.fatal.is_none(), "given up: {:?}", ended.fatal);
    Ok(restarts)
}

fn ensure_conserved(ended: &Ended) -> anyhow::Result<()> {
    // The judge does not say what it leaves unread.
    for edge in ended.edges.iter().filter(|edge| edge.to != "judge") {
        ensure!(edge.counts.conserved(), "not conserved: {edge:?}");
    }
    Ok(())
}

fn configuration(journal: &Path) -> anyhow::Result<Config> {
    Config::parse(&config_text(journal)).map_err(|faults| anyhow::anyhow!("{faults:?}"))
}

/// What was found is what there was to be found; the record is the chain; and its replay says the same.
fn judge(case: Case, lived: &Lived, folder: &Path) -> anyhow::Result<Judged> {
    let mut judged = Judged { resyncs: lived.resyncs, slowest: lived.back, ..Judged::default() };
    ensure!(lived.back < BACK_WITHIN, "it took {:?} to go on", lived.back);
    let poisoned = judge_record(case, lived)?;
    let mut exhaustive = Exhaustive::default();
    let (mut found_live, mut evaluated) = (BTreeSet::new(), BTreeSet::new());
    for text in &lived.results {
        let (blocks, found) = Results::read_lines(text)?;
        for block in &blocks {
            let here = found.get(&block.hash).map_or(&[][..], Vec::as_slice);
            // Nobody is told of what the executor was not told.
            let is_lost = lived.lost.contains(&block.hash) || poisoned == Some(block.hash);
            if is_lost || !block.was_evaluated() {
                ensure!(here.is_empty(), "found in block {}, of which there is no view", block.number);
                judged.silent += u64::from(is_lost);
                continue;
            }
            let pools = lived.generator.pools.get(&block.hash).context("a block that nobody generated")?;
            let cycles = exhaustive.compare(here, pools, &[WETH]);
            judged.cycles += cycles.with_context(|| format!("block {}", block.number))?;
            judged.evaluated += 1;
            evaluated.insert(block.hash);
        }
        let findings = text.lines().filter(|line| line.contains(r#""type":"opportunity""#));
        found_live.extend(findings.map(str::to_owned));
    }
    let costs_a_block = case.loses_the_market() || poisoned.is_some();
    ensure!(costs_a_block == (judged.silent > 0), "{} blocks without a view", judged.silent);
    ensure!(case.loses_the_market() == (lived.resyncs > 0), "{} resynchronisations", lived.resyncs);
    judge_quarantine(case, lived, folder)?;

    let recording = Recording::open(&lived.run)?;
    let setup = Setup { config: configuration(&folder.join("journal"))?, ..Setup::default() };
    let replayed = replay(&recording, &setup, |_| ())?;
    ensure!(replayed.ended.fatal.is_none(), "the replay was given up: {:?}", replayed.ended.fatal);
    ensure!(replayed.actors.iter().all(|(_, status)| status.restarts == 0), "the replay came to grief");
    let mut said_live = BTreeSet::new();
    for line in &replayed.lines.opportunities {
        let value: serde_json::Value = serde_json::from_str(line)?;
        let block: B256 = serde_json::from_value(value["block_hash"].clone())?;
        ensure!(!lived.lost.contains(&block), "the replay finds something where there was no market: {line}");
        if evaluated.contains(&block) {
            ensure!(found_live.contains(line), "the run did not say this: {line}");
            said_live.insert(line.clone());
        }
    }
    ensure!(
        said_live.len() == found_live.len(),
        "{} of {} findings in the replay",
        said_live.len(),
        found_live.len()
    );
    Ok(judged)
}

/// The record is the chain, whatever was set aside; says which block was poison.
fn judge_record(case: Case, lived: &Lived) -> anyhow::Result<Option<B256>> {
    let mut rebuild = Rebuild::new(FACTORIES.map(|factory| (factory, 3_000)));
    let (mut kind, mut poisoned) = ("", None);
    for record in Recording::open(&lived.run)?.records(1) {
        let envelope = record?.envelope;
        if envelope.seq == lived.poisoned_seq {
            kind = envelope.event.name();
        }
        let block = rebuild.take(&as_json(&envelope)?)?;
        poisoned = poisoned.or(block.filter(|at| at.seq == lived.poisoned_seq).map(|at| at.hash));
    }
    ensure!(
        kind == if case.what == What::Block { "new_block" } else { "reorg" },
        "it was poison in a {kind:?}"
    );
    let recorded: Vec<B256> = rebuild.chain().map(|at| at.hash).collect();
    let chain: Vec<B256> = lived.generator.blocks.iter().map(|generated| generated.block.hash()).collect();
    ensure!(recorded == chain[1..], "the record is not the chain");
    let mut expected = lived.generator.pools[&lived.generator.head().hash()].clone();
    expected.sort_by_key(|pool| pool.address);
    ensure!(rebuild.pools() == expected, "the record has other reserves than the chain");
    Ok(poisoned)
}

/// The command lists what was set aside, and hands it out again.
fn judge_quarantine(case: Case, lived: &Lived, folder: &Path) -> anyhow::Result<()> {
    let config = folder.join("headwater.toml");
    fs::write(&config, config_text(&folder.join("journal")))?;
    let seq = lived.poisoned_seq.to_string();
    let ask = |more: &[&str]| -> anyhow::Result<String> {
        let mut command = Command::new(headwater()?);
        let output = command.args(["journal", "quarantine"]).arg(&lived.run).args(more).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let listed = ask(&[])?;
    let line = format!("event {seq}: {}, from", case.actor);
    ensure!(
        listed.lines().all(|listed| listed.starts_with(&line)) && listed.contains("injected"),
        "{listed}"
    );
    let retried = ask(&["--retry", &seq, "--config", &config.display().to_string()])?;
    ensure!(retried.lines().all(|retried| retried.ends_with("passes")) && !retried.is_empty(), "{retried}");
    Ok(())
}

/// A state that fails at everything is given up: the executor acts no more, everything drains, and the exit code says it.
async fn kept_failing(seed: u64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (node, url) = FakeNode::start(CHAIN_ID).await?;
    let mut generator = Generator::new(seed);
    node.answer_v2(generator.world.contracts());
    node.push_block(generator.blocks[0].block.clone());
    let failing = Arc::new(AtomicU64::new(0));
    let fails = Arc::clone(&failing);
    let poisons: Poisons = Arc::new(move |actor, _| actor == "state" && fails.load(Ordering::SeqCst) > 0);
    let hooks = Hooks { poisons: Some(poisons), ..Hooks::default() };
    let mut bot = Bot::start(&url, &folder.path().join("journal"), hooks, false).await?;
    for _ in 0..BEFORE {
        bot.follow(&node, generator.next()).await?;
    }
    failing.store(1, Ordering::SeqCst);
    for _ in 0..BEFORE {
        node.push_block(generator.next());
    }
    let Bot { session, running, record, .. } = bot;
    let concluded = timeout(PATIENCE, session.conclude(running, std::future::pending())).await;
    record.writer.close().await?;
    let Err(failure) = concluded.context("it does not end")? else { anyhow::bail!("it ended in good order") };
    ensure!(failure.exit_code() == 3, "{failure}");
    let Failure::GivenUp(fatal) = failure else { anyhow::bail!("{failure}") };
    ensure!(fatal.actor == "state" && fatal.reason.contains("injected"), "{fatal}");
    Ok(())
}
