//! Pools whose contracts are made to differ from what was followed of them, on a real node: each kind of difference is noticed
//! within its bound, that pool alone is quoted no longer, and what cannot be believed changes nothing.

mod bot;
mod injury;

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use anyhow::{Context, ensure};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::bot::{Bot, CALLS, MOST_QUARANTINED, POOLS, TICKS};
use self::injury::{Injury, Kind};
use super::tracking::exchange::Exchange;
use crate::devnet::{self, Artifacts, Devnet, Trader};
use crate::proof::{Proof, ProofArgs, Report};
use crate::replayed::runtime;

/// Every kind of difference, several times.
pub const TRIPWIRE: Proof = Proof {
    name: "tripwire",
    about: "pairs and pools of V3 on anvil, changed behind the bot's back in every way: that pool is quarantined, nothing else",
    full_duration: "5 min",
    run,
};

/// Pools of V3 that there are.
const V3_POOLS: usize = 14;

/// Blocks with trade before anything is done, and behind each deed.
const QUIET: u64 = 12;
const BETWEEN: u64 = 3;

#[derive(Debug, Default)]
struct Tally {
    blocks: u64,
    control_blocks: u64,
    /// Compared in blocks in which nothing was wrong.
    control_compared: u64,
    injected: BTreeMap<Kind, u64>,
    /// Blocks until it was noticed.
    slowest: u64,
    bound: u64,
    /// Times that a pool that nobody touched was compared with its storage.
    undisturbed: u64,
    findings: u64,
    /// Findings over a quarantined pool by somebody who did not hear of it.
    averted: u64,
    blamed: u64,
    gone: u64,
    samples: u64,
    calls: u64,
    most_calls: u64,
    replays: u64,
}

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    if !devnet::available("the tripwire")? {
        return Ok(Report { skipped: 1, seed: args.seed, ..Report::default() });
    }
    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    let rounds = if args.quick { 1 } else { 8 };
    let mut tally = Tally::default();
    let (devnet, artifacts) = (Devnet::start()?, Artifacts::install()?);
    let exchange = Exchange::deploy(&devnet, &artifacts, &mut random, V3_POOLS)?;
    let trader = Trader::new(random.random(), &devnet);
    let mut stage = Stage { devnet, exchange, trader };
    for round in 0..rounds {
        runtime(2)?
            .block_on(stage.round(&mut random, &mut tally))
            .with_context(|| format!("round {round}, seed {}", args.seed))?;
    }
    for kind in Kind::ALL {
        ensure!(tally.injected.get(&kind) == Some(&rounds), "{kind:?} was not tried: {tally:?}");
    }
    ensure!(tally.findings > 0 && tally.averted > 0, "nothing was to be found anyway: {tally:?}");
    ensure!(tally.most_calls <= CALLS, "a sample cost {} calls", tally.most_calls);
    let injected: u64 = tally.injected.values().sum();
    let kinds: Vec<_> = tally.injected.iter().map(|(kind, times)| format!("{kind:?} {times}")).collect();
    let lines = vec![
        format!("{injected} differences, each noticed as what it is, and its pool alone quarantined:"),
        format!("  {}", kinds.join(", ")),
        format!("  after {} blocks at most, where {} were allowed at most", tally.slowest, tally.bound),
        format!(
            "{} blocks in which nothing was wrong: {} pools compared, no alarm",
            tally.control_blocks, tally.control_compared
        ),
        format!(
            "{} times a pool that nobody touched was quoted, with what its storage holds; {} findings, none over a quarantined \
             pool; {} are found over them without the quarantine",
            tally.undisturbed, tally.findings, tally.averted
        ),
        format!(
            "{} differences in too many pools at once: the endpoint was blamed, and no pool; {} blocks that the node no longer \
             had: not compared",
            tally.blamed, tally.gone
        ),
        format!(
            "{} blocks, {} samples, {} calls in the node's own log, {} for one block at most (budget {CALLS})",
            tally.blocks, tally.samples, tally.calls, tally.most_calls
        ),
        format!("{} records folded anew: the same pools, prices and quarantines", tally.replays),
    ];
    let floor = rounds * Kind::ALL.len() as u64;
    Ok(Report { checked: injected, floor, skipped: 0, seed: args.seed, lines })
}

/// The node, and who uses it.
struct Stage {
    devnet: Devnet,
    exchange: Exchange,
    trader: Trader,
}

impl Stage {
    async fn round(&mut self, random: &mut ChaCha8Rng, tally: &mut Tally) -> anyhow::Result<()> {
        let mut bot = Bot::start(&self.devnet, &self.exchange).await?;
        self.quiet(&mut bot, random, tally).await?;
        let mut kinds = Kind::ALL;
        kinds.shuffle(random);
        for kind in kinds {
            self.injure(&mut bot, kind, random, tally).await.with_context(|| format!("{kind:?}"))?;
        }
        self.block_gone(&mut bot, tally).await?;
        self.too_many(&mut bot, random, tally).await?;
        tally.findings += bot.findings;
        tally.averted += bot.averted;
        tally.samples += bot.observed().samples;
        tally.calls += bot.calls();
        tally.most_calls = tally.most_calls.max(bot.most_calls);
        ensure!(bot.observed().failed == 0, "samples failed: {:?}", bot.observed());
        bot.replay()?;
        tally.replays += 1;
        bot.finish();
        Ok(())
    }

    /// A block with whatever goes on.
    async fn trade(
        &mut self,
        bot: &mut Bot,
        random: &mut ChaCha8Rng,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        for _ in 0..random.random_range(1..5) {
            self.exchange.act(&self.devnet, random)?;
        }
        self.trader.trade(&self.devnet)?;
        self.pass(bot, None, tally).await.map(drop)
    }

    /// Says whether logs of the pool `deaf_to` were kept from the bot.
    async fn pass(
        &mut self,
        bot: &mut Bot,
        deaf_to: Option<Address>,
        tally: &mut Tally,
    ) -> anyhow::Result<bool> {
        self.devnet.mine()?;
        tally.blocks += 1;
        bot.block(&self.devnet, deaf_to).await
    }

    async fn quiet(
        &mut self,
        bot: &mut Bot,
        random: &mut ChaCha8Rng,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let before = bot.observed().compared;
        for _ in 0..QUIET {
            self.trade(bot, random, tally).await?;
        }
        let observed = bot.observed();
        ensure!(bot.quarantined.is_empty(), "a false alarm: {:?}", bot.quarantined);
        ensure!(observed.wavered + observed.blamed + observed.block_gone == 0, "{observed:?}");
        tally.control_blocks += QUIET;
        tally.control_compared += observed.compared - before;
        Ok(())
    }

    async fn injure(
        &mut self,
        bot: &mut Bot,
        kind: Kind,
        random: &mut ChaCha8Rng,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let known: BTreeSet<_> = bot.quarantined.keys().copied().collect();
        let (victim, injury) = match kind {
            Kind::MissedSync | Kind::MissedSwap => (self.miss(bot, kind, random, tally).await?, None),
            _ => {
                let victim = bot.victim(kind, random)?;
                let injury = Injury::inflict(&self.devnet, kind, &victim, random)?;
                (victim, Some(injury))
            }
        };
        let bound = bot.bound(kind, &victim);
        let mut blocks = 0;
        while !bot.quarantined.contains_key(&victim.pool) {
            ensure!(blocks < bound, "not noticed within {bound} blocks");
            blocks += 1;
            self.pass(bot, None, tally).await?;
        }
        if let Some(injury) = injury {
            injury.heal(&self.devnet)?;
        }
        tally.slowest = tally.slowest.max(blocks);
        tally.bound = tally.bound.max(bound);
        *tally.injected.entry(kind).or_default() += 1;
        let found = bot.quarantined[&victim.pool];
        ensure!(found == kind.expected(), "taken for {found:?}");
        let new: Vec<_> = bot.quarantined.keys().filter(|pool| !known.contains(*pool)).collect();
        ensure!(new == [&victim.pool], "others were quarantined: {new:?}");
        for _ in 0..BETWEEN {
            self.trade(bot, random, tally).await?;
        }
        ensure!(!bot.is_quoted(&victim.pool), "it is quoted again");
        tally.undisturbed += bot.compare(&self.devnet, &self.exchange)?;
        Ok(())
    }

    /// Trades until a pool says something that is kept from the bot.
    async fn miss(
        &mut self,
        bot: &mut Bot,
        kind: Kind,
        random: &mut ChaCha8Rng,
        tally: &mut Tally,
    ) -> anyhow::Result<bot::Victim> {
        for _ in 0..200 {
            let victim = bot.victim(kind, random)?;
            for _ in 0..8 {
                self.exchange.act(&self.devnet, random)?;
            }
            self.trader.trade(&self.devnet)?;
            if self.pass(bot, Some(victim.pool), tally).await? {
                return Ok(victim);
            }
        }
        anyhow::bail!("nobody trades")
    }

    /// The block is undone before anybody asks about it.
    async fn block_gone(&mut self, bot: &mut Bot, tally: &mut Tally) -> anyhow::Result<()> {
        let (before, known) = (bot.observed(), bot.quarantined.len());
        self.devnet.mine()?;
        bot.block_undone_before_it_is_asked_about(&self.devnet).await?;
        tally.blocks += 1;
        let gone = bot.observed().block_gone - before.block_gone;
        ensure!(gone == 1 && bot.quarantined.len() == known, "{:?}", bot.observed());
        tally.gone += gone;
        self.pass(bot, None, tally).await.map(drop)
    }

    /// More pools differ than may: it is the node.
    async fn too_many(
        &mut self,
        bot: &mut Bot,
        random: &mut ChaCha8Rng,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let (before, known) = (bot.observed(), bot.quarantined.clone());
        ensure!(known.len() as u64 <= MOST_QUARANTINED, "too many before");
        let mut injuries = Vec::new();
        let mut seen = BTreeSet::new();
        for _ in 0..10_000 {
            if (known.len() + injuries.len()) as u64 > MOST_QUARANTINED + POOLS {
                break;
            }
            let victim = bot.victim(Kind::Reserves, random)?;
            if seen.insert(victim.pool) {
                injuries.push(Injury::inflict(&self.devnet, Kind::Reserves, &victim, random)?);
            }
        }
        ensure!((known.len() + injuries.len()) as u64 > MOST_QUARANTINED + POOLS, "there are too few pairs");
        // Up to the limit each is believed; beyond it, none.
        for _ in 0..2 * bot.lap() {
            self.pass(bot, None, tally).await?;
        }
        let observed = bot.observed();
        let blamed = observed.blamed - before.blamed;
        ensure!(blamed > 0, "nobody was blamed: {observed:?}");
        let new = bot.quarantined.len() - known.len();
        ensure!(new < injuries.len(), "{new} of {} pools were quarantined", injuries.len());
        injuries.into_iter().try_for_each(|injury| injury.heal(&self.devnet))?;
        tally.blamed += blamed;
        self.pass(bot, None, tally).await.map(drop)
    }
}

/// Blocks until every tick of so many had its turn, where a lap takes `lap` blocks.
fn blocks_for_ticks(lap: u64, ticks: usize) -> u64 {
    lap * (1 + (ticks as u64).div_ceil(TICKS))
}
