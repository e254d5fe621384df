//! What the contracts say and do, beside what was found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_primitives::{Address, I256, U256, U512};
use alloy_sol_types::SolError;
use anyhow::{Context, bail, ensure};
use headwater_events::{Kind, LiquidationPlan, Opportunity, Plan, Protocol, SaleStep};
use headwater_reference::aave::contracts::{Errors, Pool, StableToken};
use headwater_reference::aave::{CATEGORIES, RESERVES, Release, Site, World};
use headwater_reference::arbitrage::{self, PoolName};
use headwater_reference::evm::{Failure, Revert};

use super::bot::{UNPRICED, mantissa};
use super::chain::{Chain, sequencer};
use super::venues::Venue;
use super::{Seen, Tally};
use crate::proofs::lending::play::Play;

const WAD: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);
const HALF_CLOSED_ABOVE: U256 = U256::from_limbs([950_000_000_000_000_000, 0, 0, 0]);
/// Gas of the call, of a swap through a pair and through a pool of V3 or V4, and of a tick, as the configuration has them by default.
const GAS_BASE: u64 = 450_000;
const GAS_PER_HOP: u64 = 70_000;
const GAS_PER_V3_HOP: u64 = 120_000;
const GAS_PER_CROSSING: u64 = 22_000;

/// Whose position a finding is about.
pub(super) fn borrower(found: &Opportunity) -> Option<Address> {
    plan(found).map(|plan| plan.borrower)
}

pub(super) fn plan(found: &Opportunity) -> Option<&LiquidationPlan> {
    match &found.plan {
        Plan::Liquidate(plan) => Some(plan),
        Plan::LiquidateBehind(behind) => Some(behind.liquidation()),
        Plan::Swaps(_) | Plan::Behind(_) | Plan::Mixed(_) | Plan::Inform => None,
    }
}

/// Everybody whose health factor is below one.
pub(super) fn below(world: &mut World, accounts: &[Address]) -> anyhow::Result<BTreeSet<Address>> {
    let mut below = BTreeSet::new();
    for account in accounts {
        if world.account_data(*account)?.healthFactor < WAD {
            below.insert(*account);
        }
    }
    Ok(below)
}

/// Judges the findings of the block that the contracts are at; says who is below one.
pub(super) fn block(
    world: &mut World,
    play: &Play,
    chain: &Chain,
    accounts: &[Address],
    found: &[Opportunity],
    tally: &mut Tally,
) -> anyhow::Result<BTreeSet<Address>> {
    let below = below(world, accounts)?;
    tally.accounts += accounts.len() as u64;
    let mut open = below.clone();
    for found in found {
        let borrower = borrower(found).context("a finding that is no liquidation")?;
        ensure!(below.contains(&borrower), "{borrower} is found, and is healthy");
        ensure!(open.remove(&borrower), "{borrower} is found twice");
        finding(world, play, chain, found, tally).with_context(|| format!("{found:?}"))?;
    }
    for borrower in open {
        not_found(world, play, borrower, tally).with_context(|| format!("{borrower} is not found"))?;
    }
    Ok(below)
}

/// One finding: the call, executed and taken back; then the sale and what is left.
fn finding(
    world: &mut World,
    play: &Play,
    chain: &Chain,
    found: &Opportunity,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let plan = plan(found).context("no plan")?;
    let head = chain.head();
    ensure!(found.kind == Kind::Liquidation && found.as_of.hash == head.hash, "kind and block");
    let protocol = if world.release == Release::V2 { "aave-v2" } else { "aave-v3" };
    ensure!(found.valid_until == head.number + 1 && plan.protocol == protocol && plan.pool == world.pool);
    let account = world.account_data(plan.borrower)?;
    ensure!(account.healthFactor == plan.health_factor, "the contract says {}", account.healthFactor);
    let (collateral, debt) = (site(world, plan.collateral)?, site(world, plan.debt)?);
    let owed = owed(world, &debt, plan.borrower)?;
    let supplied = world.balance(collateral.a_token, plan.borrower)?;
    let whole = attempt(world, play, plan, U256::MAX)?;
    let Ok(outcome) = attempt(world, play, plan, plan.debt_to_cover)? else {
        bail!("the contract refuses it")
    };
    let expected = Outcome { repaid: plan.repay, seized: plan.seize, ..outcome };
    ensure!(outcome == expected, "the contract did {outcome:?}");
    match whole {
        Ok(whole) => ensure!(whole == outcome, "more could be repaid: {whole:?}"),
        Err(revert) => {
            let (is_it, why) = match world.release {
                Release::V2 => (revert.reason().as_deref() == Some("23"), Seen::BurnAvoided),
                Release::V3_0 | Release::V3_6 => {
                    (revert.selector() == Some(Errors::MustNotLeaveDust::SELECTOR), Seen::DustAvoided)
                }
            };
            ensure!(is_it, "refused in whole: {revert}");
            tally.see(why);
            let more = attempt(world, play, plan, plan.debt_to_cover + U256::ONE)?;
            ensure!(more.is_err(), "more could be repaid all the same");
        }
    }
    sale(world, chain, found, plan, tally)?;
    let is_half = plan.health_factor > HALF_CLOSED_ABOVE || world.release == Release::V2;
    let half = is_half && !outcome.cleared && plan.repay < owed;
    let capped = outcome.left.is_zero() || outcome.left * U256::from(1_000) < supplied;
    let stable = world.release != Release::V3_6 && !stable_debt(world, &debt, plan.borrower)?.is_zero();
    let e_mode = in_e_mode(world, &collateral, plan.borrower)?;
    for (what, is) in [
        (Seen::HalfClosed, half && !capped && whole_is_half(plan.repay, owed, world.release)),
        (Seen::WhollyClosed, outcome.cleared),
        (Seen::CollateralCapped, capped && !outcome.cleared || outcome.written_off),
        (Seen::StableDebt, stable),
        (Seen::SameAsset, plan.collateral == plan.debt),
        (Seen::EMode, e_mode),
        (Seen::Profitable, found.net_profit_wei.is_some_and(|net| net.is_positive())),
    ] {
        if is {
            tally.see(what);
        }
    }
    tally.findings += 1;
    Ok(())
}

/// Up to 3.0 half is half of the reserve's debt; in 3.6 it is half of all debt, which may be more or less of this one.
fn whole_is_half(repaid: U256, owed: U256, release: Release) -> bool {
    release == Release::V3_6 || repaid == (owed * U256::from(5_000) + U256::from(5_000)) / U256::from(10_000)
}

/// A position below one that was not found: nothing can be taken of it.
pub(super) fn not_found(
    world: &mut World,
    play: &Play,
    borrower: Address,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let sites = world.reserves.clone();
    let mut said = BTreeMap::new();
    for collateral in &sites {
        for debt in &sites {
            let owed = owed(world, debt, borrower)?;
            let supplied = world.balance(collateral.a_token, borrower)?;
            if owed.is_zero() || supplied.is_zero() {
                continue;
            }
            let plan = LiquidationPlan {
                protocol: String::new(),
                pool: world.pool,
                borrower,
                collateral: collateral.asset,
                debt: debt.asset,
                debt_to_cover: U256::ZERO,
                repay: U256::ZERO,
                seize: U256::ZERO,
                health_factor: U256::ZERO,
                sale: Vec::new(),
                unsearched: 0,
            };
            let quarter = owed / U256::from(4);
            for repay in [U256::MAX, quarter, quarter + quarter, owed - quarter, U256::from(1_000)] {
                match attempt(world, play, &plan, repay)? {
                    Ok(outcome) => bail!("{plan:?} goes through: {outcome:?}"),
                    Err(revert) => *said.entry(reason(world.release, &revert)).or_insert(0u64) += 1,
                }
            }
        }
    }
    tally.refused += 1;
    for what in said.into_keys().flatten() {
        tally.see(what);
        let (is_down, _) = sequencer(world)?;
        if what == Seen::Sentinel && !is_down {
            tally.see(Seen::SentinelGrace);
        }
    }
    Ok(())
}

/// What a call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) repaid: U256,
    pub(super) seized: U256,
    /// Nothing is owed in this asset any longer.
    cleared: bool,
    /// Something was written off.
    written_off: bool,
    /// Of the collateral.
    left: U256,
}

/// Runs a call and takes it back.
pub(super) fn attempt(
    world: &mut World,
    play: &Play,
    plan: &LiquidationPlan,
    repay: U256,
) -> anyhow::Result<Result<Outcome, Revert>> {
    let before = world.evm.snapshot();
    let outcome = executed(world, play, plan, repay);
    world.evm.revert(&before)?;
    outcome
}

fn executed(
    world: &mut World,
    play: &Play,
    plan: &LiquidationPlan,
    repay: U256,
) -> anyhow::Result<Result<Outcome, Revert>> {
    let call = Pool::liquidationCallCall {
        collateralAsset: plan.collateral,
        debtAsset: plan.debt,
        user: plan.borrower,
        debtToCover: repay,
        receiveAToken: false,
    };
    let (liquidator, same) = (play.liquidator, plan.collateral == plan.debt);
    let debt_before = world.balance(plan.debt, liquidator)?;
    let collateral_before = world.balance(plan.collateral, liquidator)?;
    let receipt = match world.in_pool(liquidator, &call) {
        Ok(receipt) => receipt,
        Err(Failure::Reverted(revert)) => return Ok(Err(revert)),
        Err(failure) => bail!("it did not run: {failure}"),
    };
    let [done] = &receipt.events::<Pool::LiquidationCall>(world.pool)[..] else { bail!("not one event") };
    let (repaid, seized) = (done.debtToCover, done.liquidatedCollateralAmount);
    let (debt_after, collateral_after) =
        (world.balance(plan.debt, liquidator)?, world.balance(plan.collateral, liquidator)?);
    if same {
        ensure!(debt_after == debt_before - repaid + seized, "the liquidator's balance");
    } else {
        ensure!(debt_after == debt_before - repaid, "what the liquidator paid");
        ensure!(collateral_after == collateral_before + seized, "what the liquidator got");
    }
    let (collateral, debt) = (site(world, plan.collateral)?, site(world, plan.debt)?);
    Ok(Ok(Outcome {
        repaid,
        seized,
        cleared: owed(world, &debt, plan.borrower)?.is_zero(),
        written_off: !receipt.events::<Pool::DeficitCreated>(world.pool).is_empty(),
        left: world.balance(collateral.a_token, plan.borrower)?,
    }))
}

/// The best sale of all, and what it leaves.
fn sale(
    world: &mut World,
    chain: &Chain,
    found: &Opportunity,
    plan: &LiquidationPlan,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let Some(out) = sold(chain, found, plan)? else {
        ensure!(found.net_profit_wei.is_none(), "a profit of what is not sold");
        tally.see(Seen::Unsold);
        return Ok(());
    };
    let protocols: Vec<Protocol> = plan.sale.iter().map(|step| step.step.protocol).collect();
    let crosses = found.gas > swaps_gas(plan.sale.iter());
    tally.sales += u64::from(!plan.sale.is_empty());
    tally.ranged_sales += u64::from(protocols.iter().any(|protocol| *protocol != Protocol::UniswapV2));
    for (what, is) in [
        (Seen::SoldInOnePool, plan.sale.len() == 1),
        (Seen::SoldInTwoPools, plan.sale.len() == 2),
        (Seen::SoldThroughV3, protocols.contains(&Protocol::UniswapV3)),
        (Seen::SoldThroughV4, protocols.contains(&Protocol::UniswapV4)),
        (Seen::SoldThroughTwoMakes, protocols.first() != protocols.last()),
        (Seen::SoldOverTicks, crosses),
        (Seen::SoldByWayOfNative, found.tokens.contains(&Address::ZERO)),
    ] {
        if is {
            tally.see(what);
        }
    }
    let gain = U256::from(out).saturating_sub(plan.repay);
    ensure!(found.profit == gain, "the profit is {gain}");
    ensure!(found.net_profit_wei == net_profit(world, chain, found, plan, out)?, "the net profit");
    Ok(())
}

/// What the sale yields: no way through one or two pools yields more, and every step of it is what its pool does. `None` where there is
/// no way.
pub(super) fn sold(
    chain: &Chain,
    found: &Opportunity,
    plan: &LiquidationPlan,
) -> anyhow::Result<Option<u128>> {
    let seized = u128::try_from(plan.seize)?;
    let best = match plan.collateral == plan.debt {
        true => Some(seized),
        false => best_sale(chain.pools(), plan.collateral, plan.debt, seized),
    };
    let mut tokens = vec![plan.debt, plan.collateral];
    let (mut amount, mut token, mut crossings) = (plan.seize, plan.collateral, 0);
    for SaleStep { step, price_impact_ppm } in &plan.sale {
        let swap = &step.swap;
        ensure!(swap.token_in == token && swap.amount_in == amount, "the sale has a hole");
        let name = PoolName { address: swap.pool, id: step.pool_id };
        let venue = chain.pools().iter().find(|venue| venue.pool.name == name).context("no such pool")?;
        ensure!(step.protocol == venue.protocol, "not what the pool computes: {step:?}");
        ensure!(step.zero_for_one == (token == venue.pool.token0), "another direction: {step:?}");
        let out = self::swap(venue, token, u128::try_from(amount)?).context("a pool that refuses")?;
        ensure!((out.1, U256::from(out.0)) == (swap.token_out, swap.amount_out), "the pool gives {out:?}");
        let way = venue.pool.way(&token);
        crossings += way.crossings(u128::try_from(amount)?).context("a pool that refuses")?;
        let impact = price_impact(way.rate(), amount, swap.amount_out);
        ensure!(impact == u64::from(*price_impact_ppm), "the price impact is {impact}: {step:?}");
        (token, amount) = (swap.token_out, swap.amount_out);
        tokens.push(token);
    }
    let pools = plan.sale.iter().map(|step| step.step.swap.pool);
    let path: Vec<Address> = std::iter::once(plan.pool).chain(pools).collect();
    ensure!(found.path == path && found.tokens == tokens, "path and tokens");
    ensure!(found.amount_in == plan.repay && found.amount_out == amount, "amounts");
    ensure!(plan.unsearched == 0, "not searched to the end");
    let gas = swaps_gas(plan.sale.iter()) + GAS_PER_CROSSING * u64::from(crossings);
    ensure!(found.gas == gas, "gas of {gas}");
    let Some(out) = best else {
        ensure!(plan.sale.is_empty(), "a sale that there is not");
        return Ok(None);
    };
    ensure!(token == plan.debt && amount == U256::from(out), "the best sale gives {out}");
    Ok(Some(out))
}

/// Without ticks.
fn swaps_gas<'a>(sale: impl Iterator<Item = &'a SaleStep>) -> u64 {
    let of = |step: &SaleStep| match step.step.protocol {
        Protocol::UniswapV2 => GAS_PER_HOP,
        Protocol::UniswapV3 | Protocol::UniswapV4 => GAS_PER_V3_HOP,
    };
    GAS_BASE + sale.map(of).sum::<u64>()
}

/// What is missing, in parts per million and rounded up, of what the rate of an infinitely small swap would give.
fn price_impact([out, into]: [U512; 2], amount_in: U256, amount_out: U256) -> u64 {
    let million = U512::from(1_000_000u32);
    let kept = U512::from(amount_out) * into * million / (U512::from(amount_in) * out);
    (million - kept).to()
}

pub(super) fn net_profit(
    world: &mut World,
    chain: &Chain,
    found: &Opportunity,
    plan: &LiquidationPlan,
    out: u128,
) -> anyhow::Result<Option<I256>> {
    let priced = world.reserves[UNPRICED].asset != plan.debt;
    let native = world.price(world.reserves[0].asset)?;
    let decimals = site(world, plan.debt)?.decimals;
    let price = mantissa(world.price(plan.debt)?, native, decimals);
    let repaid = u128::try_from(plan.repay)?;
    let next = next_base_fee(chain);
    let net = match out.checked_sub(repaid) {
        Some(gain) => arbitrage::net_profit(gain, Some(price), found.gas, Some(next)),
        None => {
            let loss = arbitrage::net_profit(repaid - out, Some(price), 0, None).context("too much")?;
            let gas = arbitrage::net_profit(0, Some(price), found.gas, Some(next)).context("too much")?;
            gas.checked_sub(loss)
        }
    };
    Ok(net.filter(|_| priced))
}

/// EIP-1559.
fn next_base_fee(chain: &Chain) -> u64 {
    let head = chain.head();
    let (base, used, target) = (
        u128::from(head.base_fee_per_gas.unwrap_or(0)),
        u128::from(head.gas_used),
        u128::from(head.gas_limit) / 2,
    );
    let next = match used.cmp(&target) {
        std::cmp::Ordering::Equal => base,
        std::cmp::Ordering::Greater => base + (base * (used - target) / target / 8).max(1),
        std::cmp::Ordering::Less => base - base * (target - used) / target / 8,
    };
    next as u64
}

/// The most that any way through one or two pools gives.
fn best_sale(venues: &[Arc<Venue>], from: Address, to: Address, amount: u128) -> Option<u128> {
    let mut best = None;
    for first in venues {
        let Some((out, middle)) = swap(first, from, amount) else { continue };
        if middle == to {
            best = best.max(Some(out));
            continue;
        }
        for second in venues {
            if let Some((out, end)) = swap(second, middle, out)
                && end == to
            {
                best = best.max(Some(out));
            }
        }
    }
    best
}

/// How much comes out of a pool, and of which token.
fn swap(venue: &Venue, token_in: Address, amount: u128) -> Option<(u128, Address)> {
    let token_out = match token_in {
        token if token == venue.pool.token0 => venue.pool.token1,
        token if token == venue.pool.token1 => venue.pool.token0,
        _ => return None,
    };
    let out = venue.pool.way(&token_in).output(amount).filter(|out| *out > 0)?;
    Some((out, token_out))
}

fn site(world: &World, asset: Address) -> anyhow::Result<Site> {
    world.reserves.iter().find(|site| site.asset == asset).copied().context("an unknown asset")
}

/// At both rates.
fn owed(world: &mut World, site: &Site, account: Address) -> anyhow::Result<U256> {
    let variable = world.balance(site.variable_debt, account)?;
    match world.release {
        Release::V2 | Release::V3_0 => Ok(variable + world.balance(site.stable_debt, account)?),
        Release::V3_6 => Ok(variable),
    }
}

fn stable_debt(world: &mut World, site: &Site, account: Address) -> anyhow::Result<U256> {
    world.evm.read(site.stable_debt, &StableToken::principalBalanceOfCall { user: account })
}

fn in_e_mode(world: &mut World, collateral: &Site, account: Address) -> anyhow::Result<bool> {
    if world.release == Release::V2 {
        return Ok(false);
    }
    let mode: u64 = world.evm.read(world.pool, &Pool::getUserEModeCall { user: account })?.to();
    let place = world.reserves.iter().position(|site| site.asset == collateral.asset).context("listed")?;
    let is_member = u64::from(RESERVES[place].category) == mode;
    Ok(is_member && CATEGORIES.iter().any(|category| u64::from(category.id) == mode))
}

/// What of a refusal is counted.
fn reason(release: Release, revert: &Revert) -> Option<Seen> {
    match release {
        Release::V2 => (revert.reason().as_deref() == Some("64")).then_some(Seen::Paused),
        Release::V3_0 => match revert.reason().as_deref() {
            Some("29") => Some(Seen::Paused),
            Some("59") => Some(Seen::Sentinel),
            _ => None,
        },
        Release::V3_6 => match revert.selector() {
            Some(Errors::ReservePaused::SELECTOR) => Some(Seen::Paused),
            Some(Errors::LiquidationGraceSentinelCheckFailed::SELECTOR) => Some(Seen::Grace),
            Some(Errors::PriceOracleSentinelCheckFailed::SELECTOR) => Some(Seen::Sentinel),
            _ => None,
        },
    }
}
