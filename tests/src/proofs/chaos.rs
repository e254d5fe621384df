//! The real process under faults of every kind at once, on a chain that does not wait; in the end it has to hold what the
//! chain says, as if nothing had happened.

mod chain;
mod faults;
mod judge;
mod ledger;
mod life;
mod soak;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures_util::future::try_join_all;
use headwater_events::Grade;
use headwater_reference::fake_node::Announcing;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use self::chain::{BLOCK_TIME, Chain, DEEPEST};
use self::faults::{Kind, LOSSES, Track};
use self::ledger::{Case, Ledger};
use self::life::{Lives, Shown};
pub use self::soak::SOAK;
use crate::latency::config_text;
use crate::proof::{Proof, ProofArgs, Report};

/// Every fault at once.
pub const CHAOS: Proof = Proof {
    name: "chaos",
    about: "the process under every kind of fault at 4 blocks a second: its state, its record and its results are the chain's",
    full_duration: "12 min",
    run,
};

const CHAIN_ID: u64 = 424_245;

/// A kind has to have bitten so often in a full run.
const BITES: usize = 20;

/// Bites of a kind in a full run after which it rests, so that the others have their turn. While the process is dead, nothing
/// else can bite: what ends it never gets ahead of the others.
const PACE: f64 = 28.0;
const PACE_OF_DEATHS: f64 = 25.0;
const FULL: Duration = Duration::from_mins(MINUTES);

/// Without `--minutes`.
const MINUTES: u64 = 10;
const SAMPLE: Duration = Duration::from_secs(12);
/// Bites of all kinds in the sample.
const SAMPLE_FLOOR: u64 = 8;

/// Until a block that was announced after a fault is told by the process.
const REPAIRED_WITHIN: Duration = Duration::from_secs(30);

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let plan = Plan::of(args)?;
    let mut report = runtime()?.block_on(prove(&plan))?;
    if plan.is_full && plan.planted.is_none() {
        for bug in PLANTED {
            report.lines.push(find_planted(&plan, bug)?);
        }
    }
    Ok(report)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()
}

/// Bugs that the process can be told to have, and that have to be found.
const PLANTED: [&str; 3] = ["no-lag-repair", "no-backfill", "no-rollback"];

/// For how long a planted bug is looked for.
const FOUND_WITHIN: Duration = Duration::from_secs(60);

/// The same with a bug has to fail.
fn find_planted(plan: &Plan, bug: &str) -> anyhow::Result<String> {
    let plan = Plan { length: FOUND_WITHIN, planted: Some(bug.to_owned()), bites: 0, ..plan.clone() };
    match runtime()?.block_on(prove(&plan)) {
        Ok(report) => bail!("with {bug} planted it passes as well:\n{report}"),
        Err(error) => {
            let said = error.root_cause().to_string();
            let (first, last) = (said.lines().next(), said.lines().last());
            let reason = [first, last.filter(|last| Some(*last) != first)].into_iter().flatten();
            Ok(format!("with {bug} planted it fails: {}", reason.collect::<Vec<_>>().join(" ")))
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug)]
struct Plan {
    seed: u64,
    length: Duration,
    kinds: Vec<Kind>,
    /// Each kind has to have bitten so often.
    bites: usize,
    floor: u64,
    /// The bug that the process is to have.
    planted: Option<String>,
    /// Whether every kind has the time to bite often enough.
    is_full: bool,
}

impl Plan {
    fn of(args: &ProofArgs) -> anyhow::Result<Self> {
        let option = |name: &str| {
            let place = args.rest.iter().position(|word| word == name)?;
            args.rest.get(place + 1).cloned()
        };
        let minutes =
            option("--minutes").map_or(Ok(MINUTES), |minutes| minutes.parse()).context("--minutes")?;
        let length = if args.quick { SAMPLE } else { Duration::from_secs(60 * minutes) };
        let is_full = !args.quick && minutes >= MINUTES;
        Ok(Self {
            seed: args.seed,
            length,
            kinds: Kind::ALL.to_vec(),
            bites: if is_full { BITES } else { 0 },
            floor: if is_full { (BITES * Kind::ALL.len()) as u64 } else { SAMPLE_FLOOR },
            planted: option("--planted"),
            is_full,
        })
    }
}

async fn prove(plan: &Plan) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir()?;
    let stage = Stage::start(plan, folder.path()).await?;
    let skipped = stage.kinds_that_cannot_be(plan);
    let survived = async {
        stage.rage(plan).await?;
        stage.settle().await?;
        judge::judge(&stage.chain(), &stage.lives)
    };
    let judged = survived.await.inspect_err(|_| keep(folder.path(), &stage.lives, plan));
    let ledger = stage.ledger();
    let judged = judged.with_context(|| ledger.table())?;
    ensure!(ledger.least(&plan.kinds, &skipped) >= plan.bites, "a kind bit too seldom:\n{}", ledger.table());
    let late = judged.restarts.late();
    // An unoptimised build rebuilds more slowly than is asked for.
    ensure!(late == 0 || cfg!(debug_assertions), "{late} restarts took too long:\n{}", ledger.table());
    let mut lines = vec![ledger.table()];
    lines.push(format!(
        "{} canonical blocks on record, each once, of {} lives; {} reorganisations undid {} blocks, {} gaps filled",
        judged.blocks,
        stage.lives.count(),
        judged.reorgs,
        judged.undone,
        judged.gaps
    ));
    lines.push(format!(
        "{} findings, {} of them on their way when their block was undone, none behind that; {} edges conserved; {} panics, all \
         injected",
        judged.found, judged.crossed, judged.edges, judged.panics
    ));
    lines.push(judged.restarts.line());
    lines.push(format!(
        "{} times the market was lost, and nothing found in {} blocks until it was whole again",
        judged.lost, judged.silent
    ));
    lines.push("pools, prices and undo records equal a plain fold of the chain".to_owned());
    Ok(Report {
        checked: ledger.bites(),
        floor: plan.floor,
        skipped: skipped.len() as u64,
        seed: plan.seed,
        lines,
    })
}

/// What a failed run leaves is worth looking at.
fn keep(folder: &Path, lives: &Lives, plan: &Plan) {
    if plan.planted.is_some() {
        return;
    }
    let kept = std::env::temp_dir().join(format!("headwater-chaos-{}", plan.seed));
    let _ = fs::remove_dir_all(&kept);
    let _ = std::process::Command::new("cp").arg("-r").arg(folder).arg(&kept).status();
    // The disk is mounted where only the process sees it.
    if let Ok(disk) = lives.disk.seen_from_here() {
        let _ = std::process::Command::new("cp").arg("-r").arg(disk.join("journal")).arg(&kept).status();
    }
}

/// Bites of a kind up to which it has its turn now.
#[derive(Clone, Copy, Debug)]
struct Due {
    any: f64,
    deaths: f64,
}

/// The chain, the process, and what was done to them.
struct Stage {
    chain: Mutex<Chain>,
    lives: Lives,
    ledger: Mutex<Ledger>,
    /// Held by whoever makes branches.
    branching: tokio::sync::Mutex<()>,
    /// Held by all whose faults keep a process from starting; by whoever starts one, alone.
    calm: tokio::sync::RwLock<()>,
}

impl Stage {
    async fn start(plan: &Plan, folder: &Path) -> anyhow::Result<Self> {
        let chain = Chain::start(CHAIN_ID, plan.seed).await?;
        let lives = Lives::new(folder, plan.planted.as_deref(), |journal| configuration(&chain, journal))?;
        let stage = Self {
            chain: Mutex::new(chain),
            lives,
            ledger: Mutex::default(),
            branching: tokio::sync::Mutex::default(),
            calm: tokio::sync::RwLock::default(),
        };
        stage.first_block().await.inspect_err(|_| keep(folder, &stage.lives, plan))?;
        Ok(stage)
    }

    /// Behind it the pools are known. Whoever sets one of them aside does not know it, for good.
    async fn first_block(&self) -> anyhow::Result<()> {
        self.lives.start()?;
        self.started(0).await?;
        let since = Instant::now();
        self.chain().grow();
        self.until_caught_up(since).await?;
        Ok(())
    }

    fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kinds_that_cannot_be(&self, plan: &Plan) -> Vec<Kind> {
        let disk_can_fail = self.lives.shown().logged(0, &["\"disk_can_fail\":true"]).is_some();
        let can_be = |kind: Kind| match kind {
            Kind::FullDisk => self.lives.disk.can_be_full(),
            Kind::FailingWrites | Kind::FailingSync => disk_can_fail,
            _ => true,
        };
        plan.kinds.iter().copied().filter(|kind| !can_be(*kind)).collect()
    }

    /// Faults of all tracks side by side while the chain grows.
    async fn rage(&self, plan: &Plan) -> anyhow::Result<()> {
        let end = Instant::now() + plan.length;
        let raging = try_join_all(Track::ALL.map(|track| self.work(plan, track, end)));
        tokio::select! {
            raged = raging => raged.map(drop),
            () = self.grow() => bail!("the chain does not end"),
        }
    }

    async fn grow(&self) {
        let mut ticks = interval(BLOCK_TIME);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.chain().grow();
        }
    }

    /// One fault of a track after the other, those that bit least before the others.
    async fn work(&self, plan: &Plan, track: Track, end: Instant) -> anyhow::Result<()> {
        let mut random = ChaCha8Rng::seed_from_u64(plan.seed ^ (track as u64 + 1).wrapping_mul(0x9e37_79b9));
        let skipped = self.kinds_that_cannot_be(plan);
        let kinds: Vec<Kind> = plan
            .kinds
            .iter()
            .copied()
            .filter(|kind| kind.track() == track && !skipped.contains(kind))
            .collect();
        let began = Instant::now();
        while Instant::now() < end && !kinds.is_empty() {
            let part = began.elapsed().as_secs_f64() / FULL.as_secs_f64();
            let slowest = self.slowest(plan, &skipped);
            let due = Due { any: part * PACE, deaths: (part * PACE_OF_DEATHS).min(slowest as f64) };
            let is_late = end.duration_since(Instant::now()) < WHOLE * BLOCK_TIME;
            let kinds: Vec<Kind> =
                kinds.iter().copied().filter(|kind| !(is_late && kind.loses_the_market())).collect();
            if let Some(kind) = self.next_of(&kinds, due, &mut random) {
                if kind.ends_the_process() {
                    self.lives.want(self.neediest(plan, &skipped));
                }
                self.case(kind, &mut random).await.with_context(|| kind.name())?;
            }
            sleep(Duration::from_millis(random.random_range(0..100))).await;
        }
        Ok(())
    }

    /// Bites of the kind that bit least, of those that can bite this life and do not end it.
    fn slowest(&self, plan: &Plan, skipped: &[Kind]) -> usize {
        let (ledger, grade) = (self.ledger(), self.lives.grade());
        let others = plan.kinds.iter().filter(|kind| !kind.ends_the_process() && kind.can_bite(grade));
        let others = others.filter(|kind| !skipped.contains(kind));
        others.map(|kind| ledger.bites_of(*kind)).min().unwrap_or_default()
    }

    /// The completeness that the kind needs which bit least of those that need a certain one.
    fn neediest(&self, plan: &Plan, skipped: &[Kind]) -> Option<Grade> {
        let ledger = self.ledger();
        let needy = plan.kinds.iter().filter(|kind| !skipped.contains(kind) && kind.needs().is_some());
        needy.min_by_key(|kind| ledger.bites_of(**kind))?.needs()
    }

    /// One of the kinds that had the least turns, of those that can bite now and did so less often than they are due to.
    fn next_of(&self, kinds: &[Kind], due: Due, random: &mut ChaCha8Rng) -> Option<Kind> {
        let (ledger, grade) = (self.ledger(), self.lives.grade());
        let is_due = |kind: &Kind| {
            let due = if kind.ends_the_process() { due.deaths } else { due.any };
            kind.can_bite(grade) && ledger.bites_of(*kind) as f64 <= due
        };
        let turns: BTreeMap<Kind, usize> =
            kinds.iter().copied().filter(is_due).map(|kind| (kind, ledger.turns(kind))).collect();
        let least = turns.values().min().copied()?;
        let next: Vec<Kind> =
            turns.iter().filter(|(_, turns)| **turns == least).map(|(kind, _)| *kind).collect();
        next.choose(random).copied()
    }

    /// One fault from its injection to its repair.
    async fn case(&self, kind: Kind, random: &mut ChaCha8Rng) -> anyhow::Result<()> {
        let (struck, repaired) = if kind.ends_the_process() {
            // Until a block came: what chain a node was on before it still counts for the process.
            let _alone = self.calm.write().await;
            let struck = self.strike(kind, random).await?;
            (struck, self.until_caught_up(Instant::now()).await?)
        } else {
            let with_others = self.calm.read().await;
            // Another life may have begun meanwhile.
            if !kind.can_bite(self.lives.grade()) {
                return Ok(());
            }
            let struck = self.strike(kind, random).await?;
            drop(with_others);
            (struck, self.until_caught_up(Instant::now()).await?)
        };
        let took = struck.bit.map(|bit| repaired.saturating_duration_since(bit));
        let detected = struck.detected || (struck.bit.is_some() && kind.is_noticed_silently());
        self.ledger().note(kind, Case { bit: struck.bit.is_some(), detected, repaired: took });
        Ok(())
    }

    /// Waits until a canonical block that was announced since then was told.
    async fn until_caught_up(&self, since: Instant) -> anyhow::Result<Instant> {
        let told = |shown: &Shown| {
            let announced = self.chain().announced_since(since);
            announced.iter().filter_map(|hash| shown.blocks.get(hash)).min().copied()
        };
        if let Some(told) = self.lives.until_alive(REPAIRED_WITHIN, told).await? {
            return Ok(told);
        }
        let words = self.lives.last_words();
        // Its summary says on which edge something waits.
        let ended = self.lives.interrupt(REPAIRED_WITHIN).await;
        bail!("it does not recover:\n{words}\nand its end: {ended:?}")
    }

    /// Everything is as it should be for a while; then the process ends in good order.
    async fn settle(&self) -> anyhow::Result<()> {
        let since = Instant::now() - WHOLE * BLOCK_TIME;
        let is_loss = |line: &str| LOSSES.iter().any(|(_, lost, _)| line.contains(lost));
        let lost = self
            .lives
            .shown()
            .log
            .iter()
            .rev()
            .take_while(|(at, _)| *at > since)
            .any(|(_, line)| is_loss(line));
        let calm = if lost { WHOLE as usize } else { CALM };
        for _ in 0..calm {
            sleep(BLOCK_TIME / if lost { 4 } else { 1 }).await;
            self.chain().grow();
        }
        // Whatever came last in this run: its undo records have to be those of a chain that was reorganised.
        self.chain().reorganise(LAST_DEPTH, Announcing::Geth);
        sleep(BLOCK_TIME).await;
        self.chain().grow();
        let head = self.chain().head();
        let told = self.lives.until_alive(REPAIRED_WITHIN, |shown| shown.blocks.get(&head).copied()).await?;
        ensure!(told.is_some(), "the last block is not told:\n{}", self.lives.last_words());
        self.lives.interrupt(REPAIRED_WITHIN).await
    }
}

/// Blocks without faults at the end.
const CALM: usize = 4;

/// Of the reorganisation behind them: deep enough that it reaches blocks which were there under faults.
const LAST_DEPTH: usize = 16;

/// While the market is lost, nobody knows when a price changes; behind so many blocks, every price and every undo record is of
/// blocks with a market. Nothing makes it lost for so long before the end.
const WHOLE: u32 = 2 * DEEPEST as u32 + 32;

/// Sizes that are small, so that what is slow lags; times that fit four blocks a second.
fn configuration(chain: &Chain, journal: &Path) -> String {
    let urls = [chain.wires[0].ws_url(), chain.wires[1].ws_url()];
    format!(
        "[node]\nurls = {urls:?}\nchain_id = {CHAIN_ID}\nmax_message_bytes = {}\nrequest_timeout_ms = 1000\n\
         connect_timeout_ms = 1000\n[state]\nmailbox = 4\n[oracle]\nmailbox = 4\n{}\n[ingest]\nblock_time_ms = {}\n\
         assumed_after_ms = 10\ncomplete_within_ms = 1000\nreconnect_max_ms = 2000\n",
        16 << 20,
        config_text(journal),
        BLOCK_TIME.as_millis()
    )
}
