//! Every borrower of an Aave pool who may be liquidated is found in the blocks in which he may be and in no other, and each
//! prediction is what the pool's own bytecode does.

mod bot;
mod chain;
mod judge;
mod pending;
mod venues;

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use anyhow::{Context, ensure};
use headwater_events::Opportunity;
use headwater_reference::aave::contracts::Oracle;
use headwater_reference::aave::{Contracts, Release, World};
use rand::RngExt;

use self::bot::Bot;
use self::chain::Chain;
use self::pending::Reporter;
use crate::devnet::{self, Artifacts};
use crate::proof::{Proof, ProofArgs, Report};
use crate::proofs::lending::play::Play;
use crate::proofs::lending::reach::Reach;

/// The detector of liquidations against the contracts.
pub const LIQUIDATIONS: Proof = Proof {
    name: "liquidations",
    about: "200 Aave borrowers on V2, V3.0 and V3.6 bytecode: all that may be liquidated and no other; repay, seize and sale to the wei",
    full_duration: "3 min",
    run,
};

/// How much is played.
struct Size {
    users: usize,
    /// Blocks of a world that are judged.
    blocks: u64,
    /// As long as something did not happen often enough, another world follows; so many at most.
    most_worlds: u64,
    /// Positions that became liquidatable and were found, per release.
    floor: u64,
    /// Each category, per release.
    category_floor: u64,
    /// Positions that a pending report would make liquidatable, found before it landed, per release.
    crossing_floor: u64,
    /// Single prices whose accounts looked at are bounded, where most borrowers are out of their reach, per release.
    reach_floor: u64,
    /// Sales through a pool of V3 or V4, per release; and they are a third of all.
    ranged_floor: u64,
}

const FULL: Size = Size {
    users: 200,
    blocks: 300,
    most_worlds: 20,
    floor: 50,
    category_floor: 5,
    crossing_floor: 50,
    reach_floor: 30,
    ranged_floor: 500,
};
const QUICK: Size = Size {
    users: 50,
    blocks: 60,
    most_worlds: 60,
    floor: 15,
    category_floor: 1,
    crossing_floor: 5,
    reach_floor: 3,
    ranged_floor: 30,
};

/// What happened often enough has been seen. Of findings, but for those that say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    /// Nothing but time has gone by since the block before.
    InterestAlone,
    PriceMoved,
    EMode,
    HalfClosed,
    WhollyClosed,
    CollateralCapped,
    StableDebt,
    SameAsset,
    /// The whole debt would leave dust, and a part of it is named.
    DustAvoided,
    /// The whole allowed debt would be more than there is to burn, and a part of it is named; V2 only.
    BurnAvoided,
    /// Not found, because nothing can be taken: a reserve is paused.
    Paused,
    /// The same: a grace period runs.
    Grace,
    /// The same: the oracle's sentinel.
    Sentinel,
    /// Of these: the sequencer is up again, and not for long enough.
    SentinelGrace,
    SoldInOnePool,
    SoldInTwoPools,
    SoldThroughV3,
    SoldThroughV4,
    /// One pool after another that computes something else.
    SoldThroughTwoMakes,
    SoldOverTicks,
    /// Through two pools of V4, and the native currency between.
    SoldByWayOfNative,
    Unsold,
    Profitable,
    /// A block that was undone, and whose findings went with it.
    TakenBack,
    /// The pool was lost and loaded again.
    Reloaded,
    /// Found, and nothing by a bot to which the same pool says that it is of a revision that is not claimed.
    RefusedRevision,
}

#[derive(Debug, Default)]
struct Tally {
    worlds: u64,
    blocks: u64,
    accounts: u64,
    /// Positions that were not liquidatable in the block before, and are found.
    became: u64,
    findings: u64,
    refused: u64,
    looked_at: u64,
    borrowers: u64,
    logs: u64,
    /// Sales through pools, and those of them that go through one of V3 or V4.
    sales: u64,
    ranged_sales: u64,
    seen: BTreeMap<Seen, u64>,
    pending: pending::Counts,
    reach: Reach,
}

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let size = if args.quick { QUICK } else { FULL };
    let mut report = Report { seed: args.seed, ..Report::default() };
    if !devnet::available("the proof liquidations")? {
        report.skipped = 1;
        return Ok(report);
    }
    let packages = Artifacts::install()?;
    for release in [Release::V2, Release::V3_0, Release::V3_6] {
        let contracts = packages.aave(release)?;
        let mut tally = Tally::default();
        while tally.worlds == 0 || (tally.verdict(release, &size).is_err() && tally.worlds < size.most_worlds)
        {
            let seed = args.seed.wrapping_mul(1_000_003).wrapping_add(tally.worlds);
            run_world(release, &contracts, seed, &size, &mut tally)
                .with_context(|| format!("{release:?}, world of seed {seed}"))?;
            tally.worlds += 1;
        }
        tally.verdict(release, &size).with_context(|| tally.lines(release, &size).join("\n"))?;
        report.checked += tally.became + tally.pending.found;
        report.floor += size.floor + size.crossing_floor;
        report.lines.extend(tally.lines(release, &size));
    }
    Ok(report)
}

fn run_world(
    release: Release,
    contracts: &Contracts,
    seed: u64,
    size: &Size,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let mut world = World::deploy(release, contracts)?;
    let mut play = Play::new(seed, size.users);
    let opened = play.open(&mut world)?;
    let accounts = play.accounts(&world);
    let mut chain = Chain::open(&mut world, &opened, seed)?;
    let mut bot = Bot::start(&mut world, &chain)?;
    let mut before = judge::below(&mut world, &accounts)?;
    let mut reporter = Reporter::new(seed);
    for block in 0..size.blocks {
        if play.random.random_range(0..12) == 0 {
            fork(&mut world, &mut play, &mut chain, &mut bot, tally)?;
        }
        let reloads = play.random.random_range(0..40) == 0;
        let turn = play.turn(&mut world)?;
        let event = match reloads {
            true => {
                let said = reshape(&mut world)?;
                chain.block(&mut world, &turn, &said)?
            }
            false => chain.block(&mut world, &turn, &[])?,
        };
        tally.logs += event.logs.len() as u64;
        let is_quiet = turn.logs.is_empty() && turn.prices.is_empty();
        let found = bot.block(&event, &mut play.random).with_context(|| format!("block {block}"))?;
        ensure!(bot.is_following() != reloads, "the pool is lost if and only if it was reshaped");
        if reloads {
            ensure!(found.is_empty(), "something is found in a pool that is lost");
            bot.reload(&mut world, &chain)?;
            *tally.seen.entry(Seen::Reloaded).or_default() += 1;
            tally.blocks += 1;
            before = judge::below(&mut world, &accounts)?;
            continue;
        }
        tally.looked_at += bot.looked_at();
        tally.borrowers += bot.borrowers() as u64;
        let below = judge::block(&mut world, &play, &chain, &accounts, &found, tally)
            .with_context(|| format!("block {block}"))?;
        count_new(&below, &before, &found, is_quiet, tally);
        before = below;
        tally.blocks += 1;
        reporter
            .report(&mut world, &play, &chain, &bot, &accounts, tally)
            .with_context(|| format!("a report pending behind block {block}"))?;
    }
    refuse(&mut world, &mut play, &mut chain, &mut bot, tally).context("a revision that is not claimed")?;
    let loaded = bot.load(&mut world, &chain)?;
    bot.ensure_same(&loaded)
}

/// Of the revisions that are not claimed.
fn unproven(release: Release) -> &'static [u64] {
    match release {
        Release::V2 => &[1, 3],
        Release::V3_0 | Release::V3_6 => &[2, 9, 11],
    }
}

/// Some blocks more, in which bots that were told of another revision find nothing, whatever is found.
fn refuse(
    world: &mut World,
    play: &mut Play,
    chain: &mut Chain,
    bot: &mut Bot,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let revisions = unproven(world.release).iter();
    let mut refused: Vec<Bot> =
        revisions.map(|revision| Bot::start_refused(*revision, world, chain)).collect::<Result<_, _>>()?;
    for _ in 0..3 {
        let turn = play.turn(world)?;
        let block = chain.block(world, &turn, &[])?;
        let found = bot.block(&block, &mut play.random)?;
        for refused in &mut refused {
            let in_refused = refused.block(&block, &mut play.random)?;
            ensure!(!refused.is_following(), "the pool is followed");
            ensure!(in_refused.is_empty(), "{in_refused:?} is found");
        }
        *tally.seen.entry(Seen::RefusedRevision).or_default() += found.len() as u64;
    }
    Ok(())
}

/// Those who have become liquidatable and are found.
fn count_new(
    below: &BTreeSet<Address>,
    before: &BTreeSet<Address>,
    found: &[Opportunity],
    is_quiet: bool,
    tally: &mut Tally,
) {
    let found: BTreeSet<Address> = found.iter().filter_map(judge::borrower).collect();
    let new = below.difference(before).filter(|account| found.contains(*account)).count() as u64;
    tally.became += new;
    let why = if is_quiet { Seen::InterestAlone } else { Seen::PriceMoved };
    *tally.seen.entry(why).or_default() += new;
}

/// Blocks that are undone again: what is found in them is not judged, what is found behind them is.
fn fork(
    world: &mut World,
    play: &mut Play,
    chain: &mut Chain,
    bot: &mut Bot,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let (snapshot, height) = (world.evm.snapshot(), chain.height());
    for _ in 0..play.random.random_range(1..=4) {
        let turn = play.turn(world)?;
        let block = chain.block(world, &turn, &[])?;
        bot.block(&block, &mut play.random)?;
        *tally.seen.entry(Seen::TakenBack).or_default() += 1;
    }
    world.evm.revert(&snapshot)?;
    let reorg = chain.undo_to(height)?;
    bot.reorganise(&reorg)
}

/// Something only the node can tell the consequences of; here there are none.
fn reshape(world: &mut World) -> anyhow::Result<Vec<alloy_primitives::Log>> {
    let site = world.reserves[0];
    let call = Oracle::setAssetSourcesCall { assets: vec![site.asset], sources: vec![site.aggregator] };
    let (admin, oracle) = (world.admin, world.oracle);
    Ok(world.act(admin, oracle, &call).map_err(anyhow::Error::new)?.logs)
}

impl Tally {
    fn see(&mut self, what: Seen) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn verdict(&self, release: Release, size: &Size) -> anyhow::Result<()> {
        let floor = size.floor;
        ensure!(self.became >= floor, "{release:?}: only {} positions, below {floor}", self.became);
        let Size { crossing_floor, category_floor, reach_floor, ranged_floor, .. } = *size;
        let Self { sales, ranged_sales, reach, .. } = self;
        ensure!(*ranged_sales >= ranged_floor, "{release:?}: only {ranged_sales} sales through V3 or V4");
        ensure!(
            ranged_sales * 3 >= *sales,
            "{release:?}: only {ranged_sales} of {sales} sales through V3 or V4"
        );
        reach.verdict(reach_floor).with_context(|| format!("{release:?}"))?;
        let found = self.pending.found;
        ensure!(found >= crossing_floor, "{release:?}: only {found} crossings, below {crossing_floor}");
        let least = self.pending.fates().into_iter().min().unwrap_or(0);
        ensure!(least >= category_floor, "{release:?}: a fate of a report is missing: {:?}", self.pending);
        for what in wanted(release) {
            let times = self.seen.get(&what).copied().unwrap_or(0);
            let floor = size.category_floor;
            ensure!(times >= floor, "{release:?}: {what:?} only {times} times, below the floor of {floor}");
        }
        Ok(())
    }

    fn lines(&self, release: Release, size: &Size) -> Vec<String> {
        let Self {
            worlds,
            blocks,
            accounts,
            became,
            findings,
            refused,
            looked_at,
            borrowers,
            logs,
            sales,
            ranged_sales,
            reach,
            seen,
            ..
        } = self;
        let seen: Vec<_> = seen.iter().map(|(what, times)| format!("{what:?} {times}")).collect();
        vec![
            format!("{release:?}: {worlds} worlds of {} borrowers, {blocks} blocks, {logs} logs", size.users),
            format!(
                "  {accounts} accounts compared by getUserAccountData: each below one is found, and no other"
            ),
            format!(
                "  {became} positions became liquidatable; {findings} findings equal to the executed liquidationCall, \
                 {refused} refused by the contract and not found"
            ),
            format!(
                "  looked at {looked_at} of {borrowers} accounts; after the last block everything loaded again"
            ),
            reach.line(),
            format!(
                "  {sales} of them sold through pools, {ranged_sales} through one of V3 or V4: each sale the best of all ways"
            ),
            self.pending.line(),
            format!("  {}", seen.join(", ")),
        ]
    }
}

/// What has to have been seen, by release.
fn wanted(release: Release) -> impl Iterator<Item = Seen> {
    let all = [
        Seen::InterestAlone,
        Seen::PriceMoved,
        Seen::HalfClosed,
        Seen::CollateralCapped,
        Seen::Paused,
        Seen::SoldInOnePool,
        Seen::SoldInTwoPools,
        Seen::SoldThroughV3,
        Seen::SoldThroughV4,
        Seen::SoldThroughTwoMakes,
        Seen::SoldOverTicks,
        Seen::SoldByWayOfNative,
        Seen::Unsold,
        Seen::Profitable,
        Seen::TakenBack,
        Seen::Reloaded,
        Seen::RefusedRevision,
    ];
    let own = match release {
        Release::V2 => &[Seen::StableDebt][..],
        Release::V3_0 => &[Seen::StableDebt],
        Release::V3_6 => &[Seen::DustAvoided, Seen::Grace],
    };
    // V2 has neither categories nor a sentinel, and never lets all of a debt be repaid.
    let third = match release {
        Release::V2 => &[][..],
        Release::V3_0 | Release::V3_6 => {
            &[Seen::EMode, Seen::WhollyClosed, Seen::Sentinel, Seen::SentinelGrace]
        }
    };
    all.into_iter().chain(own.iter().copied()).chain(third.iter().copied())
}
