//! Random histories with reorganisations: the bot ends where a rebuild from scratch of the surviving chain ends.

mod history;
mod judge;
mod told;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use headwater_bus::SnapshotReader;
use headwater_events::{AsOf, Grade};
use headwater_market::{MarketSnapshot, PriceSnapshot};
use headwater_node::NodeConfig;
use headwater_reference::fake_node::{Announcing, FakeNode, LogFault};
use headwater_reference::scratch::Known;
use headwater_supervisor::{Config, Ended, Live, Record, Running};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::timeout;

use self::history::{FACTORIES, HORIZON, History, INIT_CODE_HASH, LISTED, Step, WETH};
use self::told::{Teller, Told};
use crate::proof::{Proof, ProofArgs, Report};
use crate::replayed::runtime;

/// Random histories, announced as geth, reth and anvil do.
pub const REORGS: Proof = Proof {
    name: "reorgs",
    about: "500 random histories, reorganised 1 to 64 deep, announced in three ways, by three grades: state = rebuild",
    full_duration: "3 min",
    run,
};

/// No chain has it.
const CHAIN_ID: u64 = 424_243;
/// Histories that are followed at the same time.
const AT_ONCE: usize = 4;
/// A bot that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time that the node takes for logs that it has pushed already.
const SLOW_ANSWER: Duration = Duration::from_millis(8);
/// Further steps of a history behind its deep reorganisation.
const STEPS: usize = 6;
/// So many blocks have to be assumed, and found to be wrong, in a full run.
const LEAST_ASSUMED: u64 = 300;
const LEAST_REFUTED: u64 = 30;
/// Each style has to be seen this often in a full run.
const LEAST_OF_A_STYLE: usize = 20;

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let histories: u64 = if args.quick { 12 } else { 500 };
    let mut report = Report { floor: histories, seed: args.seed, ..Report::default() };
    let folder = tempfile::tempdir()?;
    runtime(2)?.block_on(async {
        let all: Vec<Followed> = stream::iter(0..histories)
            .map(|index| tokio::spawn(follow(args.seed, index, folder.path().join(index.to_string()))))
            .buffer_unordered(AT_ONCE)
            .map(|followed| followed.context("a history")?)
            .try_collect()
            .await?;
        report.checked = all.len() as u64;
        let reorgs = by_style(&all);
        if !args.quick {
            ensure_covered(&reorgs)?;
        }
        report.lines.extend(table(&reorgs));
        let sum = |count: fn(&Followed) -> u64| all.iter().map(count).sum::<u64>();
        report.lines.push(format!(
            "{} blocks published, each exactly as made; pools, quotes and prices equal a rebuild from scratch at {} points; \
             {} blocks came unannounced, {} were undone and came back",
            sum(|followed| followed.blocks),
            sum(|followed| followed.compared),
            sum(|followed| followed.unannounced),
            sum(|followed| followed.came_back),
        ));
        let (assumed, refuted) = (sum(|followed| followed.assumed), sum(|followed| followed.refuted));
        report.lines.push(format!(
            "{assumed} of them were assumed from pushed logs; {refuted} of these lacked a log, and were undone and came again"
        ));
        let least = if args.quick { (1, 0) } else { (LEAST_ASSUMED, LEAST_REFUTED) };
        ensure!(assumed >= least.0 && refuted >= least.1, "only {assumed} were assumed, {refuted} refuted");
        report.lines.push(beyond_the_horizon(args, folder.path()).await?);
        anyhow::Ok(())
    })?;
    Ok(report)
}

/// What became of a history.
#[derive(Debug)]
struct Followed {
    announcing: Announcing,
    /// The depth of each reorganisation that the bot told of.
    depths: Vec<usize>,
    blocks: u64,
    unannounced: u64,
    came_back: u64,
    assumed: u64,
    refuted: u64,
    /// Snapshots that were compared with a rebuild.
    compared: u64,
}

async fn follow(seed: u64, index: u64, folder: std::path::PathBuf) -> anyhow::Result<Followed> {
    let announcing = Announcing::ALL[index as usize % 3];
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    // Three styles by three grades, whatever the depth.
    let completeness = [Grade::Matched, Grade::Assumed, Grade::Proven][(index % 3 + index / 3) as usize % 3];
    let followed = async {
        let mut rig = Rig::start(History::new(announcing, random.random()), completeness, &folder).await?;
        let depth = deep(index, &mut random);
        let step = rig.history.grow_towards(depth);
        rig.play(step).await?;
        let step = Step { is_awaited: true, ..rig.history.reorganise(depth) };
        rig.play(step).await?;
        for _ in 0..STEPS {
            rig.node.distort_logs(any_log_fault(&mut random));
            let step = rig.history.anything();
            rig.play(step).await?;
        }
        rig.conclude().await
    };
    let followed = timeout(PATIENCE * 4, followed).await.context("it hangs").flatten();
    followed.with_context(|| format!("history {index}, announced as {} does", announcing.name()))
}

fn any_log_fault(random: &mut ChaCha8Rng) -> Option<LogFault> {
    LogFault::ALL.get(random.random_range(0..2 * LogFault::ALL.len())).copied()
}

/// How deep the first reorganisation of a history is: all that can be undone, then each decade in turn.
fn deep(index: u64, random: &mut ChaCha8Rng) -> u64 {
    match index / 3 % 8 {
        0 => HORIZON,
        1 => random.random_range(1..10),
        turn => {
            let decade = 10 * (turn - 1);
            random.random_range(decade..(decade + 10).min(HORIZON + 1))
        }
    }
}

/// A bot that follows a fake node.
struct Rig {
    history: History,
    node: FakeNode,
    told: Told,
    market: SnapshotReader<MarketSnapshot>,
    prices: SnapshotReader<PriceSnapshot>,
    running: Running,
    record: Record,
    compared: u64,
}

impl Rig {
    async fn start(history: History, completeness: Grade, folder: &Path) -> anyhow::Result<Self> {
        let (node, url) = FakeNode::start(CHAIN_ID).await?;
        node.answer_v2(history.contracts());
        node.push_block(history.head().clone());
        let config = NodeConfig::new(vec![url.parse()?]);
        let mut live = Live::connect(configuration(folder, completeness)?, config)
            .await
            .map_err(|failure| anyhow::anyhow!("{failure}"))?;
        let (teller, told) = Teller::new(history.head());
        live.bot.register("judge", teller);
        let (market, prices) = (live.bot.market.reader("judge"), live.bot.prices.reader("judge"));
        live.load(|_, _| {}).await?;
        let (running, record) = live.follow(None);
        timeout(PATIENCE, node.until_subscribed("newHeads", 1)).await.context("the subscription")?;
        if completeness == Grade::Assumed {
            // The node is slower in answering than in pushing, as real ones are.
            node.delay("eth_getLogs", SLOW_ANSWER);
        }
        Ok(Self { history, node, told, market, prices, running, record, compared: 0 })
    }

    /// Lets the node do a step; if it is awaited, compares all there is when it has arrived.
    async fn play(&mut self, step: Step) -> anyhow::Result<()> {
        self.node.push_branch(step.branch, self.history.announcing, &step.faults);
        if step.is_awaited {
            let learnt = self.arrive().await?;
            self.compare(learnt.as_of, &learnt.known(self.history.known())).await?;
        }
        Ok(())
    }

    /// Waits until the head is the last block that was published; says what had been learnt by then.
    async fn arrive(&mut self) -> anyhow::Result<told::Learnt> {
        let head = self.history.head();
        let arrived = timeout(PATIENCE, self.told.until(|told| told.stands_on(head)));
        let is_in_time = arrived.await.is_ok();
        self.told.judge(&self.history)?;
        let head = self.history.head();
        ensure!(is_in_time, "block {} ({}) does not arrive", head.number(), head.hash());
        self.told.learnt()
    }

    async fn compare(&mut self, as_of: AsOf, known: &Known) -> anyhow::Result<()> {
        let market = timeout(PATIENCE, self.market.wait_for(&as_of)).await.context("the market")??;
        let prices = timeout(PATIENCE, self.prices.wait_for(&as_of)).await.context("the prices")??;
        judge::compare(known, &self.history, &market, &prices)
            .with_context(|| format!("as of block {}", as_of.number))?;
        self.compared += 1;
        Ok(())
    }

    /// Everything trades once more and is learnt about; then the market is what the history alone says.
    async fn conclude(mut self) -> anyhow::Result<Followed> {
        let step = self.history.touch_all();
        self.play(step).await?;
        let (tokens, pools) = (self.history.tokens(), self.history.found().to_vec());
        let learnt = self.told.until(|told| told.unknown(&tokens, &pools).is_empty());
        if timeout(PATIENCE, learnt).await.is_err() {
            bail!("nothing is learnt of {:?}", self.told.heard().unknown(&tokens, &pools));
        }
        let step = Step { is_awaited: false, ..self.history.rest() };
        self.play(step).await?;
        let learnt = self.arrive().await?;
        self.compare(learnt.as_of, &self.history.known()).await?;
        let told = self.told.totals();
        let followed = Followed {
            announcing: self.history.announcing,
            depths: told.depths,
            blocks: told.blocks,
            unannounced: told.unannounced,
            came_back: told.came_back,
            assumed: told.assumed,
            refuted: told.refuted,
            compared: self.compared,
        };
        let ended = self.stop().await?;
        match ended.fatal {
            Some(fatal) => bail!("{} was given up: {}", fatal.actor, fatal.reason),
            None => Ok(followed),
        }
    }

    async fn stop(self) -> anyhow::Result<Ended> {
        let ended = self.running.finish(std::future::ready(())).await;
        self.record.writer.close().await?;
        Ok(ended)
    }
}

fn configuration(folder: &Path, completeness: Grade) -> anyhow::Result<Config> {
    let factories = FACTORIES.map(|factory| {
        format!(
            "[[market.factories]]\nprotocol = \"uniswap-v2\"\naddress = \"{factory:#x}\"\ninit_code_hash = \"{INIT_CODE_HASH:#x}\"\n"
        )
    });
    let text = format!(
        "[market]\npreset = \"none\"\nwrapped_native = \"{WETH:#x}\"\ntokens = {:?}\n{}\n[ingest]\ncompleteness = {:?}\n[journal]\ndirectory = {:?}\n",
        LISTED.map(|token| format!("{token:#x}")),
        factories.concat(),
        completeness.as_str(),
        folder.display().to_string(),
    );
    Config::parse(&text).map_err(|faults| anyhow::anyhow!("{faults:?}"))
}

/// A reorganisation beyond the horizon costs the market until the node has told it anew; one that is deeper than what the
/// source remembers ends the bot, and its end says why.
async fn beyond_the_horizon(args: &ProofArgs, folder: &Path) -> anyhow::Result<String> {
    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    let deeper = random.random_range(HORIZON + 2..=250);
    let depths = if args.quick { vec![HORIZON + 1] } else { vec![HORIZON + 1, deeper, 250] };
    for (place, depth) in depths.iter().enumerate() {
        let rig = too_deep(Announcing::ALL[place % 3], *depth, args.seed, folder).await?;
        let survived = timeout(2 * PATIENCE, survive(rig)).await.context("it hangs").flatten();
        survived.with_context(|| format!("{depth} blocks deep"))?;
    }
    if args.quick {
        return Ok(format!("{depths:?} deep: the market is lost and told anew, and is that of a rebuild"));
    }
    let rig = too_deep(Announcing::Geth, 300, args.seed, folder).await?;
    let ended = timeout(PATIENCE, rig.running.finish(std::future::pending())).await;
    rig.record.writer.close().await?;
    let fatal = ended.context("it goes on")?.fatal.context("it ended in good order")?;
    let words = "the chain was reorganised below block";
    ensure!(fatal.actor == "ingest" && fatal.reason.contains(words), "300 blocks deep: {fatal:?}");
    Ok(format!(
        "{depths:?} deep: the market is lost and told anew, and is that of a rebuild; 300 deep ends the bot: {words}"
    ))
}

async fn too_deep(announcing: Announcing, depth: u64, seed: u64, folder: &Path) -> anyhow::Result<Rig> {
    let folder = folder.join(format!("too deep {depth}"));
    let mut rig = Rig::start(History::new(announcing, seed), Grade::Matched, &folder).await?;
    let step = Step { is_awaited: true, faults: Vec::new(), ..rig.history.grow(depth + 2) };
    rig.play(step).await?;
    let step = Step { is_awaited: false, faults: Vec::new(), ..rig.history.reorganise(depth) };
    rig.play(step).await?;
    Ok(rig)
}

/// Lets the chain grow until its market is told, and compares that with a rebuild.
async fn survive(mut rig: Rig) -> anyhow::Result<()> {
    loop {
        let step = Step { is_awaited: false, ..rig.history.rest() };
        rig.play(step).await?;
        let seq = rig.arrive().await?.as_of.seq;
        let reached = |snapshot: Option<u64>| snapshot == Some(seq);
        let market = rig.market.latest().map(|market| market.as_of.seq);
        if reached(market) && reached(rig.prices.latest().map(|prices| prices.as_of.seq)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let step = rig.history.grow(HORIZON);
    rig.play(Step { is_awaited: false, faults: Vec::new(), ..step }).await?;
    rig.conclude().await.map(drop)
}

/// The depths of all reorganisations, by how they were announced.
fn by_style(all: &[Followed]) -> BTreeMap<Announcing, Vec<usize>> {
    let mut reorgs: BTreeMap<Announcing, Vec<usize>> = BTreeMap::new();
    for followed in all {
        reorgs.entry(followed.announcing).or_default().extend(&followed.depths);
    }
    reorgs
}

fn table(reorgs: &BTreeMap<Announcing, Vec<usize>>) -> Vec<String> {
    let mut lines =
        vec![format!("{:8} {:>8} {:>8} {:>8}  by decade", "style", "reorgs", "deepest", "undone")];
    for (announcing, depths) in reorgs {
        let (deepest, undone) = (depths.iter().max().unwrap_or(&0), depths.iter().sum::<usize>());
        let mut line = format!("{:8} {:>8} {deepest:>8} {undone:>8} ", announcing.name(), depths.len());
        for count in by_decade(depths) {
            let _ = write!(line, " {count}");
        }
        lines.push(line);
    }
    lines
}

/// How many are 0 to 9 deep, 10 to 19, … 60 to 64.
fn by_decade(depths: &[usize]) -> [usize; 7] {
    let mut counts = [0; 7];
    depths.iter().for_each(|depth| counts[(depth / 10).min(6)] += 1);
    counts
}

fn ensure_covered(reorgs: &BTreeMap<Announcing, Vec<usize>>) -> anyhow::Result<()> {
    for announcing in Announcing::ALL {
        let depths = reorgs.get(&announcing).map(Vec::as_slice).unwrap_or_default();
        let name = announcing.name();
        ensure!(
            depths.len() >= LEAST_OF_A_STYLE,
            "only {} reorganisations in the style of {name}",
            depths.len()
        );
        ensure!(
            by_decade(depths).iter().all(|count| *count > 0),
            "a decade of depths is missing in that of {name}"
        );
        ensure!(
            depths.iter().max() == Some(&(HORIZON as usize)),
            "none in the style of {name} is {HORIZON} deep"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_style_or_a_depth_that_is_missing_is_a_failure() {
        let whole = |least: usize| -> Vec<usize> { (least..=64).collect() };
        let reorgs = |anvil| Announcing::ALL.into_iter().zip([whole(1), whole(1), anvil]).collect();
        assert!(ensure_covered(&reorgs(whole(1))).is_ok());
        assert!(ensure_covered(&reorgs(whole(10))).is_err());
        assert!(ensure_covered(&reorgs((1..64).collect())).is_err());
        assert!(ensure_covered(&reorgs(vec![5, 15, 25, 35, 45, 55, 64])).is_err());
        assert!(ensure_covered(&BTreeMap::new()).is_err());
    }
}
