//! Every account of an Aave pool is valued and liquidated as the pool's own bytecode does it.

mod follower;
mod judge;
mod loaded;
mod logs;
pub(super) mod play;
pub(super) mod reach;

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, U256};
use anyhow::{Context, ensure};
use headwater_lending::{
    LendingError, LendingEvent, Liquidation, LiquidationCall, LiquidationIndex, Market, Pair, Refusal,
    ReserveId,
};
use headwater_reference::aave::{Contracts, Release, World};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::follower::Follower;
use self::play::Play;
use self::reach::{Move, Reach};
use crate::devnet::{self, Artifacts};
use crate::proof::{Proof, ProofArgs, Report};

/// The mathematics of lending against the contracts.
pub const LENDING: Proof = Proof {
    name: "lending",
    about: "Aave V2, V3.0 and V3.6 on their own bytecode: accounts, liquidations to the wei, refusals, the index",
    full_duration: "1 min",
    run,
};

/// How much is played.
struct Size {
    worlds: u64,
    /// As long as something did not happen often enough, another world follows; so many at most.
    most_worlds: u64,
    users: usize,
    turns: u64,
    /// How many accounts below the threshold are liquidated in each turn, for comparison.
    liquidated: usize,
    /// Liquidations compared, per release.
    floor: u64,
    /// Each category, per release.
    category_floor: u64,
    /// Single prices whose accounts looked at are bounded, where most borrowers are out of their reach, per release.
    reach_floor: u64,
}

const FULL: Size = Size {
    worlds: 2,
    most_worlds: 20,
    users: 200,
    turns: 250,
    liquidated: 4,
    floor: 5_000,
    category_floor: 25,
    reach_floor: 30,
};
const QUICK: Size = Size {
    worlds: 1,
    most_worlds: 60,
    users: 60,
    turns: 140,
    liquidated: 2,
    floor: 300,
    category_floor: 1,
    reach_floor: 3,
};

/// What happened often enough has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    InterestAlone,
    EMode,
    HalfClosed,
    /// Though the account is far below one.
    HalfClosedFarBelow,
    WhollyClosed,
    CollateralCapped,
    KeptInThePool,
    SameAsset,
    StableDebt,
    /// A repayment at a stable rate that was smaller than the interest.
    InterestLeft,
    DustRefused,
    WrittenOff,
    PausedRefused,
    InactiveRefused,
    SentinelRefused,
    GraceRefused,
    HealthyRefused,
    NotCollateralRefused,
    NotBorrowedRefused,
    NothingRefused,
    /// More variable debt would be burned than there is, as its index has not grown with the balance.
    IndexBehindRefused,
    TakenBack,
}

#[derive(Debug, Default)]
struct Tally {
    accounts: u64,
    liquidations: u64,
    refusals: u64,
    events: u64,
    actions: u64,
    reverted: u64,
    turns: u64,
    worlds: u64,
    looked_at: u64,
    watched: u64,
    below: u64,
    seen: BTreeMap<Seen, u64>,
    reach: Reach,
}

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let size = if args.quick { QUICK } else { FULL };
    let mut report = Report { seed: args.seed, ..Report::default() };
    if !devnet::available("the proof lending")? {
        report.skipped = 1;
        return Ok(report);
    }
    let packages = Artifacts::install()?;
    for release in [Release::V2, Release::V3_0, Release::V3_6] {
        let contracts = packages.aave(release)?;
        let mut tally = Tally::default();
        while tally.worlds < size.worlds
            || (tally.verdict(release, &size).is_err() && tally.worlds < size.most_worlds)
        {
            let seed = args.seed.wrapping_mul(1_000_003).wrapping_add(tally.worlds);
            run_world(release, &contracts, seed, &size, &mut tally)
                .with_context(|| format!("{release:?}, world of seed {seed}"))?;
            tally.worlds += 1;
        }
        tally.verdict(release, &size).with_context(|| tally.lines(release, &size).join("\n"))?;
        report.checked += tally.liquidations;
        report.floor += size.floor;
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
    play.open(&mut world)?;
    let accounts = play.accounts(&world);
    let market = loaded::load(&mut world, &accounts)?;
    let mut follower = Follower::new(market, world.evm.block().timestamp);
    let mut prices = ChaCha8Rng::seed_from_u64(seed ^ 0x9e_ac);
    let mut healthy = compare_accounts(&mut world, &follower.market, &accounts, tally)?;
    for turn in 0..size.turns {
        let before = follower.market.clone();
        let happened = play.turn(&mut world)?;
        tally.events += follower.follow(&mut world, &happened)? as u64;
        tally.actions += happened.done;
        tally.reverted += happened.reverted;
        *tally.seen.entry(Seen::InterestLeft).or_default() += happened.interest_left;
        if play.random.random_range(0..10) == 0 {
            let depth = follower.reorganise(play.random.random_range(1..=12))?;
            *tally.seen.entry(Seen::TakenBack).or_default() += depth as u64;
        }
        let still = compare_accounts(&mut world, &follower.market, &accounts, tally)
            .with_context(|| format!("turn {turn}"))?;
        count_interest_alone(&before, &follower.market, &healthy, &still, tally);
        healthy = still;
        compare_index(&world, &mut follower, &accounts, &healthy, tally)
            .with_context(|| format!("turn {turn}"))?;
        compare_liquidations(&mut world, &mut play, &follower.market, &accounts, &healthy, size, tally)
            .with_context(|| format!("turn {turn}"))?;
        if prices.random_range(0..8) == 0 {
            bound_looked_at(&mut world, &follower, &accounts, &mut prices, tally)
                .with_context(|| format!("turn {turn}"))?;
        }
        tally.turns += 1;
    }
    let again = loaded::load(&mut world, &accounts)?;
    ensure!(again == follower.market, "a second load differs from what was followed");
    Ok(())
}

/// All accounts, number by number; returns those with a health factor of one and above.
fn compare_accounts(
    world: &mut World,
    market: &Market,
    accounts: &[Address],
    tally: &mut Tally,
) -> anyhow::Result<BTreeSet<Address>> {
    let timestamp = world.evm.block().timestamp;
    let mut healthy = BTreeSet::new();
    for account in accounts {
        let said = judge::account_data(world, *account)?;
        let found = market.account_data(*account, timestamp)?;
        ensure!(found == said, "{account}: the contract says {said:?}, the events {found:?}");
        tally.accounts += 1;
        if !said.is_below_threshold() {
            healthy.insert(*account);
        }
    }
    Ok(healthy)
}

/// Accounts that time alone has put below the threshold: nothing of theirs has changed, and no price and no terms.
fn count_interest_alone(
    before: &Market,
    after: &Market,
    healthy: &BTreeSet<Address>,
    still: &BTreeSet<Address>,
    tally: &mut Tally,
) {
    let terms = |market: &Market| {
        let thresholds = market.reserves().map(|reserve| reserve.liquidation_threshold);
        let prices = market.prices().collect::<Vec<_>>();
        (thresholds.collect::<Vec<_>>(), prices, market.e_mode_categories().collect::<Vec<_>>())
    };
    if terms(before) != terms(after) {
        return;
    }
    let fallen =
        healthy.difference(still).filter(|account| before.position(**account) == after.position(**account));
    let fallen = fallen.count() as u64;
    *tally.seen.entry(Seen::InterestAlone).or_default() += fallen;
}

/// What the index finds is what a look at everybody finds.
fn compare_index(
    world: &World,
    follower: &mut Follower,
    accounts: &[Address],
    healthy: &BTreeSet<Address>,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let examined = follower.index.examine(&follower.market, world.evm.block().timestamp);
    ensure!(examined.unknown.is_empty(), "cannot tell of {:?}", examined.unknown);
    let found: BTreeSet<Address> = examined.below.iter().map(|crossing| crossing.account).collect();
    let all: BTreeSet<Address> =
        accounts.iter().copied().filter(|account| !healthy.contains(account)).collect();
    ensure!(found == all, "the index finds {found:?}, a full scan {all:?}");
    tally.below += found.len() as u64;
    tally.looked_at += examined.looked_at as u64;
    let (watched, close) = follower.index.len();
    tally.watched += (watched + close) as u64;
    Ok(())
}

/// What an index that has just been made looks at when one price changes, and all else stays as it is.
fn bound_looked_at(
    world: &mut World,
    follower: &Follower,
    accounts: &[Address],
    random: &mut ChaCha8Rng,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let (timestamp, changed) = (world.evm.block().timestamp, Move::random(world, random)?);
    let mut index = LiquidationIndex::new(&follower.market, timestamp);
    let mut market = follower.market.clone();
    let source = world.reserves[changed.place].asset;
    let undo = market.apply(&LendingEvent::PriceChanged { source, price: changed.after }, timestamp)?;
    index.follow(undo.touches(), &market, timestamp);
    let looked_at = index.examine(&market, timestamp).looked_at;
    tally.reach.bound(world, accounts, &changed, looked_at as u64)
}

/// Some accounts below the threshold with all their pairs, and some calls that should be refused.
fn compare_liquidations(
    world: &mut World,
    play: &mut Play,
    market: &Market,
    accounts: &[Address],
    healthy: &BTreeSet<Address>,
    size: &Size,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let timestamp = world.evm.block().timestamp;
    let below: Vec<Address> = accounts.iter().copied().filter(|account| !healthy.contains(account)).collect();
    for _ in 0..below.len().min(size.liquidated) {
        let borrower = below[play.random.random_range(0..below.len())];
        for pair in market.pairs(borrower) {
            let part = play.random.random_range(1..1_000);
            for call in judge::calls(market, borrower, play.liquidator, pair, timestamp, part)? {
                judge::compare(world, market, &call, tally)?;
            }
        }
        let [collateral, debt] =
            [0; 2].map(|_| ReserveId(play.random.random_range(0..world.reserves.len() as u16)));
        let liquidator = if play.random.random_range(0..8) == 0 { borrower } else { play.liquidator };
        let anything = LiquidationCall {
            borrower,
            liquidator,
            pair: Pair { collateral, debt },
            debt_to_cover: U256::MAX,
            receive_a_token: false,
        };
        judge::compare(world, market, &anything, tally)?;
    }
    for _ in 0..2 {
        let borrower = accounts[play.random.random_range(0..accounts.len())];
        for pair in market.pairs(borrower).into_iter().take(1) {
            let liquidator = play.liquidator;
            let call = LiquidationCall {
                borrower,
                liquidator,
                pair,
                debt_to_cover: U256::MAX,
                receive_a_token: false,
            };
            judge::compare(world, market, &call, tally)?;
        }
    }
    Ok(())
}

impl Tally {
    fn executed(
        &mut self,
        market: &Market,
        call: &LiquidationCall,
        liquidation: &Liquidation,
    ) -> anyhow::Result<()> {
        self.liquidations += 1;
        let half = U256::from(950_000_000_000_000_000u64);
        let everything = call.debt_to_cover == U256::MAX && !liquidation.collateral_capped;
        let cleared = liquidation.debt_cleared;
        let position = market.position(call.borrower).context("an account that was never seen")?;
        let stable = !position.holding(call.pair.debt).stable_debt.principal.is_zero();
        let seen = [
            (Seen::EMode, judge::in_e_mode(market, call)?),
            (Seen::HalfClosed, everything && !cleared && liquidation.health_factor > half),
            (Seen::HalfClosedFarBelow, everything && !cleared && liquidation.health_factor <= half),
            (Seen::WhollyClosed, everything && cleared),
            (Seen::CollateralCapped, liquidation.collateral_capped),
            (Seen::KeptInThePool, call.receive_a_token),
            (Seen::SameAsset, call.pair.collateral == call.pair.debt),
            (Seen::StableDebt, stable),
            (Seen::WrittenOff, !liquidation.deficit.is_zero()),
        ];
        for (what, _) in seen.into_iter().filter(|(_, is)| *is) {
            *self.seen.entry(what).or_default() += 1;
        }
        Ok(())
    }

    fn refused(&mut self, refusal: &Refusal) {
        self.refusals += 1;
        let what = match refusal {
            Refusal::PoolPaused | Refusal::ReservePaused => Seen::PausedRefused,
            Refusal::ReserveInactive => Seen::InactiveRefused,
            Refusal::PriceOracleSentinel => Seen::SentinelRefused,
            Refusal::GracePeriod { .. } => Seen::GraceRefused,
            Refusal::HealthFactorNotBelowThreshold(_) => Seen::HealthyRefused,
            Refusal::CollateralCannotBeLiquidated => Seen::NotCollateralRefused,
            Refusal::NotBorrowed => Seen::NotBorrowedRefused,
            Refusal::MustNotLeaveDust => Seen::DustRefused,
            Refusal::InvalidBurnAmount => Seen::NothingRefused,
            Refusal::Unknown(LendingError::Arithmetic) => Seen::IndexBehindRefused,
            Refusal::Unknown(_) | Refusal::SelfLiquidation => return,
        };
        *self.seen.entry(what).or_default() += 1;
    }

    fn verdict(&self, release: Release, size: &Size) -> anyhow::Result<()> {
        ensure!(
            self.liquidations >= size.floor,
            "{release:?}: only {} liquidations, below the floor of {}",
            self.liquidations,
            size.floor
        );
        self.reach.verdict(size.reach_floor).with_context(|| format!("{release:?}"))?;
        for what in wanted(release) {
            let times = self.seen.get(what).copied().unwrap_or(0);
            let floor = size.category_floor;
            ensure!(times >= floor, "{release:?}: {what:?} only {times} times, below the floor of {floor}");
        }
        Ok(())
    }

    fn lines(&self, release: Release, size: &Size) -> Vec<String> {
        let Self { accounts, liquidations, refusals, events, actions, reverted, turns, .. } = self;
        let Self { worlds, looked_at, watched, below, seen, .. } = self;
        let seen: Vec<_> = seen.iter().map(|(what, times)| format!("{what:?} {times}")).collect();
        let Size { users, .. } = size;
        vec![
            format!("{release:?}: {worlds} worlds of {users} borrowers, {turns} turns"),
            format!(
                "  {actions} actions of users and guardians, {reverted} more reverted, {events} events followed"
            ),
            format!(
                "  {accounts} accounts compared, number by number; after the last turn everything loaded again"
            ),
            format!(
                "  {liquidations} liquidations equal to the executed ones, {refusals} refused as predicted"
            ),
            format!(
                "  the index looked at {looked_at} of {watched} accounts to find {below} below the threshold"
            ),
            self.reach.line(),
            format!("  {}", seen.join(", ")),
        ]
    }
}

/// What has to have been seen, by release.
fn wanted(release: Release) -> &'static [Seen] {
    match release {
        Release::V2 => &[
            Seen::InterestAlone,
            Seen::HalfClosed,
            Seen::HalfClosedFarBelow,
            Seen::CollateralCapped,
            Seen::KeptInThePool,
            Seen::SameAsset,
            Seen::StableDebt,
            Seen::InterestLeft,
            Seen::PausedRefused,
            Seen::InactiveRefused,
            Seen::HealthyRefused,
            Seen::NotCollateralRefused,
            Seen::NotBorrowedRefused,
            Seen::NothingRefused,
            Seen::IndexBehindRefused,
            Seen::TakenBack,
        ],
        Release::V3_0 => &[
            Seen::InterestAlone,
            Seen::EMode,
            Seen::HalfClosed,
            Seen::WhollyClosed,
            Seen::CollateralCapped,
            Seen::KeptInThePool,
            Seen::StableDebt,
            Seen::PausedRefused,
            Seen::SentinelRefused,
            Seen::HealthyRefused,
            Seen::NotCollateralRefused,
            Seen::NotBorrowedRefused,
            Seen::NothingRefused,
            Seen::TakenBack,
        ],
        Release::V3_6 => &[
            Seen::InterestAlone,
            Seen::EMode,
            Seen::HalfClosed,
            Seen::WhollyClosed,
            Seen::CollateralCapped,
            Seen::KeptInThePool,
            Seen::DustRefused,
            Seen::WrittenOff,
            Seen::PausedRefused,
            Seen::SentinelRefused,
            Seen::GraceRefused,
            Seen::HealthyRefused,
            Seen::NotCollateralRefused,
            Seen::NotBorrowedRefused,
            Seen::NothingRefused,
            Seen::TakenBack,
        ],
    }
}
