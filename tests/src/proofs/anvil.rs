//! A real node that misbehaves, and the real process that follows it.
//!
//! The chain is reorganised in every way that anvil knows, and the node is restarted with another history behind the same
//! address. At the end of each round, and of the run, what the process wrote is compared with what the node says of its chain
//! now; and where the node comes back with another chain, the process has to end and say so.

mod course;
mod follower;
mod misdeed;

use std::collections::BTreeMap;
use std::path::Path;

use alloy_primitives::Address;
use anyhow::{Context, ensure};
use headwater_journal::Recording;
use headwater_reference::arbitrage::Pool;
use headwater_reference::market::pools_at;
use headwater_reference::rebuild::Rebuild;
use headwater_simulation::Unavailable;
use headwater_supervisor::commands::replay_parts;
use headwater_supervisor::{Bot, Config};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::course::{Course, Deeds};
use self::follower::Following;
use self::misdeed::Misdeed;
use super::live::{compare_chain, search_again};
use super::replay::as_json;
use crate::devnet::{self, CHAIN_ID, Devnet, GENESIS_TIMESTAMP, Genesis};
use crate::follower::Results;
use crate::proof::{Proof, ProofArgs, Report};
use crate::replayed::runtime;

/// The process and anvil at its worst.
pub const ANVIL: Proof = Proof {
    name: "anvil",
    about: "anvil reorganised in every way it knows and restarted with other histories: its chain, reserves and findings",
    full_duration: "5 min",
    run,
};

struct Size {
    rounds: u64,
    /// Of each kind, in each round.
    each: u64,
    /// Of each kind, followed and told as a reorganisation.
    floor: u64,
    /// Times that the node comes back on another chain.
    ends: u64,
    deepest: u64,
}

const FULL: Size = Size { rounds: 14, each: 4, floor: 20, ends: 6, deepest: 64 };
const QUICK: Size = Size { rounds: 2, each: 1, floor: 1, ends: 3, deepest: 12 };

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    if !devnet::available("the anvil proof")? {
        return Ok(Report { skipped: 1, seed: args.seed, ..Report::default() });
    }
    let size = if args.quick { QUICK } else { FULL };
    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    let mut report = misbehave(&size, &mut random)?;
    report.seed = args.seed;
    report.lines.extend(another_chain(&size, &mut random)?);
    Ok(report)
}

/// Everything that can be followed, by one process.
fn misbehave(size: &Size, random: &mut ChaCha8Rng) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir()?;
    let devnet = Devnet::start()?;
    let mut following = Following::start(folder.path(), &devnet, 0)?;
    let mut course = Course::new(devnet, random.random(), size.deepest)?;
    // Out of the quiet phase that every trader begins with.
    course.grow_by(5)?;
    let mut deeds = Deeds::default();
    let mut judged = Judged::default();
    for round in 0..size.rounds {
        for misdeed in Misdeed::round(size.each, random) {
            course.play(misdeed, &mut following, &mut deeds)?;
        }
        course.settle(&mut following)?;
        judged.judge(&course, &following).with_context(|| format!("round {round}"))?;
        let restart = if round % 2 == 0 { Misdeed::RestartHigher } else { Misdeed::RestartLower };
        course.play(restart, &mut following, &mut deeds)?;
    }
    course.settle(&mut following)?;
    let results = following.finish()?;
    results.ensure_conserved()?;
    ensure!(results.summary.unfilled == 0, "{} blocks are missing", results.summary.unfilled);
    let last = compare_chain(&course.devnet, course.first(), &results)?;
    let searched = search_again(&course.devnet, &results)?;
    judged.cycles += searched.cycles;
    ensure!(judged.cycles > 0, "nothing was profitable: the findings were not judged");
    let pools = judge_reserves(&course.devnet, &folder.path().join("journal"), &results)?;
    deeds.ensure_covered(size.floor, size.rounds / 2)?;
    let mut lines = deeds.table();
    lines.push(format!(
        "{} times in between: {} blocks as the node has them; findings as by exhaustive search in {} of them, {} cycles in all",
        judged.times, judged.blocks, judged.searched, judged.cycles
    ));
    lines.extend([
        format!("at the end: {last}"),
        searched.to_string(),
        format!("{} edges conserved, nothing lost, {} gaps", results.summary.edges.len(), results.gaps),
        format!("{pools} pools: reserves of a replay of the journal and of a plain fold of it are those that the node tells"),
    ]);
    let floor = size.floor * Misdeed::ANNOYING.len() as u64;
    Ok(Report { checked: deeds.followed(), floor, skipped: 0, seed: 0, lines })
}

/// What was judged while the process was at work.
#[derive(Debug, Default)]
struct Judged {
    times: u64,
    blocks: usize,
    searched: u64,
    cycles: u64,
}

impl Judged {
    fn judge(&mut self, course: &Course, following: &Following) -> anyhow::Result<()> {
        let mut results = following.so_far()?;
        compare_chain(&course.devnet, course.first(), &results)?;
        self.times += 1;
        self.blocks += results.blocks.len();
        // The findings of the last one may still be on their way.
        results.blocks.pop();
        let searched = search_again(&course.devnet, &results)?;
        self.searched += searched.blocks;
        self.cycles += searched.cycles;
        Ok(())
    }
}

/// The market that the journal gives, by a replay and by the judges' fold, is the one that the node tells. Says how many pools
/// it holds.
fn judge_reserves(devnet: &Devnet, journal: &Path, results: &Results) -> anyhow::Result<usize> {
    let mut runs: Vec<_> = std::fs::read_dir(journal)?.collect::<Result<_, _>>()?;
    // Beside it lies how far the chain was searched.
    runs.retain(|entry| entry.path().is_dir());
    let [run] = &runs[..] else { anyhow::bail!("{} records instead of one", runs.len()) };
    let recording = Recording::open(run.path())?;
    let factories = devnet.addresses().factories.iter().map(|exchange| exchange.address);
    let factories: Vec<Address> = factories.collect();
    let head = results.blocks.last().context("no block")?.number;
    let truth = by_address(pools_at(devnet.rpc(), &factories, head)?);
    let mut rebuild = Rebuild::new(factories.iter().map(|factory| (*factory, 3_000)));
    for record in recording.records(recording.first_seq()) {
        rebuild.take(&as_json(&record?.envelope)?)?;
    }
    ensure!(by_address(rebuild.pools()) == truth, "a fold of the journal has other reserves than the node");
    ensure!(
        replayed_market(&recording)? == truth,
        "a replay of the journal has other reserves than the node"
    );
    Ok(truth.len())
}

fn by_address(pools: Vec<Pool>) -> BTreeMap<Address, (u128, u128)> {
    pools.into_iter().map(|pool| (pool.address, (pool.reserve0, pool.reserve1))).collect()
}

/// The reserves at the end of a replay.
fn replayed_market(recording: &Recording) -> anyhow::Result<BTreeMap<Address, (u128, u128)>> {
    runtime(2)?.block_on(async {
        let parts = replay_parts(Config::default(), recording, recording.run_id())?;
        let bot = Bot::wire(parts, Unavailable).await?;
        let market = bot.market.clone();
        let ended = bot.replay(recording).finish(std::future::pending()).await;
        ensure!(ended.fatal.is_none(), "the replay was given up: {:?}", ended.fatal);
        let window = market.window();
        let snapshot = window.last().context("no market was published")?;
        let pools = snapshot.pools.iter();
        let reserves = pools.filter_map(|(_, meta, reserves)| Some((meta.address, reserves?)));
        Ok(reserves.map(|(pool, reserves)| (pool, (reserves.reserve0, reserves.reserve1))).collect())
    })
}

/// Behind the same address there is suddenly another chain, shorter or longer: the process ends and says why. Begun again, it
/// loads what is there now, or refuses it. If it is the same chain from before the load, it goes on.
fn another_chain(size: &Size, random: &mut ChaCha8Rng) -> anyhow::Result<Vec<String>> {
    let (mut said, mut survived) = (BTreeMap::<&str, u64>::new(), 0);
    let mut devnet = Devnet::start()?;
    for turn in 0..size.ends {
        let folder = tempfile::tempdir()?;
        let mut following = Following::start(folder.path(), &devnet, 0)?;
        let mut course = Course::new(devnet, random.random(), HORIZON + 20)?;
        let (genesis, blocks, words) = match turn % 3 {
            0 => {
                let genesis = Genesis { timestamp: GENESIS_TIMESTAMP + 1 + turn, ..Genesis::default() };
                (genesis, 5, Some(OTHER_GENESIS))
            }
            1 => (Genesis { chain_id: CHAIN_ID + 1, ..Genesis::default() }, 5, Some(OTHER_CHAIN_ID)),
            _ => (Genesis::default(), HORIZON + 1, None),
        };
        course.grow_by(blocks)?;
        course.settle(&mut following)?;
        course.restart(genesis)?;
        course.diverge(if turn % 2 == 0 { 1 } else { blocks + 4 })?;
        let Some(words) = words else {
            following.until_said(&TOLD_ANEW)?;
            course.settle(&mut following)?;
            course.ensure_head(&following.finish()?)?;
            survived += 1;
            devnet = course.devnet;
            continue;
        };
        following.ends_saying(words)?;
        *said.entry(words).or_default() += 1;
        if words == OTHER_CHAIN_ID {
            Following::start(folder.path(), &course.devnet, 1).err().context("it follows another chain")?;
        } else {
            begin_again(folder.path(), &mut course).context(words)?;
        }
        course.restart(Genesis::default())?;
        devnet = course.devnet;
    }
    let lines = said.iter().map(|(words, times)| format!("ended {times} times, saying: {words}"));
    let again = "begun again, it loads what is there now and follows it, or refuses another chain id";
    let deep = format!("{survived} times a restart took back more than can be undone, and it went on");
    Ok(lines.chain([again.to_owned(), deep]).collect())
}

/// What the state can undo.
const HORIZON: u64 = 64;

const OTHER_GENESIS: &str = "is on another chain than before";
/// What state and oracle say when the node has told what the pools hold.
const TOLD_ANEW: [&str; 2] = ["the market is whole again", "there are prices again"];
const OTHER_CHAIN_ID: &str = "is on chain 31338, not on chain 31337";

fn begin_again(folder: &Path, course: &mut Course) -> anyhow::Result<()> {
    let first = course.devnet.head()?.number + 1;
    let mut following = Following::start(folder, &course.devnet, 1)?;
    course.grow_by(3)?;
    course.settle(&mut following)?;
    let results = following.finish()?;
    let began = results.blocks.first().map(|block| block.number);
    ensure!(began == Some(first), "it begins with block {began:?} instead of {first}");
    course.ensure_head(&results)
}
