//! Pools of V3 and V4 of every honest and every hostile token, with liquidity and at prices that disagree: only those of honest tokens
//! are quoted and found, and somebody swaps some of them up to the end of their liquidity.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use alloy_primitives::{Address, I256, U256, keccak256};
use anyhow::{Context, bail, ensure};
use headwater_events::{Log, MixedStep, Opportunity, Plan, Protocol};
use headwater_market::{ConcentratedKey, ResolvedMarket, V4Key};
use headwater_reference::arbitrage::PoolName;
use headwater_reference::fake_node::V2Pair;
use headwater_reference::formulas::{Formula, Ranged, Way, sqrt_price_at};
use headwater_reference::pools::{Change, State};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::exchange::Exchange;
use super::follower::{Followed, Follower, RESEARCH, log, word};
use super::market::{Case, Kind, TOKENS};

/// In hundredths of a basis point, with the spacing that belongs to it.
const FEE: u32 = 3_000;
const SPACING: i32 = 60;

/// Ticks from the price to either end of the liquidity: a factor of about three and a third.
const REACH: i32 = 12_000;

/// Ticks between the prices of the two pools of a token: about a third.
const APART: i32 = 3_000;

const MOST_TICK: i32 = 887_272;

/// What is checked in a round at least: both pools of every token, and a finding of every honest one.
pub(super) const FLOOR: u64 = 5 * TOKENS as u64;

#[derive(Debug, Default)]
pub(super) struct Counts {
    refused: u64,
    quoted: u64,
    unjudged: u64,
    findings: u64,
    exhausted: u64,
    findings_behind: u64,
    cases: BTreeMap<usize, u64>,
}

impl Counts {
    pub(super) fn all(&self) -> u64 {
        let Self { refused, quoted, unjudged, findings, findings_behind, .. } = self;
        refused + quoted + unjudged + findings + findings_behind
    }

    /// How often the hostile case that came least often had both its pools refused.
    pub(super) fn rarest(&self) -> u64 {
        (0..TOKENS).map(|case| self.cases.get(&case).copied().unwrap_or_default()).min().unwrap_or_default()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refused, quoted, unjudged, findings, exhausted, findings_behind, .. } = self;
        write!(
            f,
            "pools of V3 and V4 with liquidity that disagree: {refused} of hostile tokens not quoted though a cycle through both would gain, \
             each case {} times at least; {unjudged} of unjudged tokens not quoted; {quoted} of honest twins quoted, every one of them in \
             one of {findings} findings, and {findings_behind} more behind {exhausted} swaps up to the end of a pool's liquidity: each gains \
             what it says by the reference formulas",
            self.rarest()
        )
    }
}

/// A pool of V3 or V4, as the judge knows it.
struct Pool {
    name: PoolName,
    key: ConcentratedKey,
    token: Address,
    native: Address,
    state: State,
    change: Change,
}

/// The pool of V3 of a token, and the one of V4.
struct Twins {
    pools: [Pool; 2],
    /// Which hostile case.
    kind: Judged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    Honest,
    Hostile(usize),
    Not,
}

pub(super) fn judge(
    random: &mut ChaCha8Rng,
    follower: &mut Follower,
    market: &ResolvedMarket,
    native: Address,
    cases: &[Case],
    exchange: &Exchange,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    let places: BTreeMap<Address, usize> = hostile_places(cases);
    let of_case = |case: &Case| match &case.kind {
        Kind::Honest(_) => (case.token, Judged::Honest),
        Kind::Hostile(_) => (case.token, Judged::Hostile(places[&case.token])),
    };
    let unjudged = Address::from(random.random::<[u8; 20]>());
    let tokens = cases.iter().map(of_case).chain([(unjudged, Judged::Not)]);
    let mut twins: Vec<Twins> =
        tokens.map(|(token, kind)| Twins { pools: create(random, market, native, token), kind }).collect();
    let logs = twins.iter().flat_map(|twins| &twins.pools).flat_map(|pool| pool.creation(market)).collect();
    let followed = follower.block(random, 12, logs)?;
    judge_standing(&followed, &twins, counts)?;
    let honest = cases.iter().filter(|case| matches!(case.kind, Kind::Honest(_)));
    let pairs: Vec<&V2Pair> = honest.flat_map(|case| &case.pools).collect();
    let (found, used) = judge_findings(&followed, &twins, &pairs, exchange)?;
    for twins in twins.iter().filter(|twins| twins.kind == Judged::Honest) {
        let is_found = twins.pools.iter().all(|pool| used.contains(&pool.name));
        ensure!(is_found, "a pool of V3 or V4 of the honest token {} is in no finding", twins.pools[0].token);
    }
    counts.findings += found;

    let mut logs = Vec::new();
    for pool in twins.iter_mut().flat_map(|twins| &mut twins.pools) {
        if random.random_range(0..3) == 0 {
            logs.push(pool.exhaust(random));
        }
    }
    counts.exhausted += logs.len() as u64;
    let followed = follower.block(random, 12, logs)?;
    judge_standing(&followed, &twins, &mut Counts::default()).context("behind swaps to the end")?;
    counts.findings_behind += judge_findings(&followed, &twins, &pairs, exchange)?.0;
    Ok(())
}

/// The hostile cases come in their order.
fn hostile_places(cases: &[Case]) -> BTreeMap<Address, usize> {
    let hostile = cases.iter().filter(|case| matches!(case.kind, Kind::Hostile(_)));
    hostile.enumerate().map(|(place, case)| (case.token, place)).collect()
}

/// They stand where the judge knows them to, and are quoted if their token is honest.
fn judge_standing(followed: &Followed, twins: &[Twins], counts: &mut Counts) -> anyhow::Result<()> {
    let snapshot = followed.market();
    for Twins { pools, kind } in twins {
        for pool in pools {
            let id = snapshot.concentrated.find_key(&pool.key).context("a pool is not tracked")?;
            let followed = snapshot.concentrated.pool(id).context("nothing is known of a pool")?;
            let price = followed.price().context("it has no price")?;
            let state =
                State { sqrt_price: price.sqrt_price, tick: price.tick, liquidity: followed.liquidity() };
            ensure!(state == pool.state, "a pool stands at {state:?}, and not at {:?}", pool.state);
            let is_quoted = snapshot.quoted_concentrated(id).is_some();
            ensure!(
                is_quoted == (*kind == Judged::Honest),
                "it is {is_quoted} that a pool of {kind:?} is quoted"
            );
        }
        match kind {
            Judged::Honest => counts.quoted += 2,
            Judged::Not => counts.unjudged += 2,
            Judged::Hostile(case) => {
                let [one, other] = pools;
                let is_tempting = [(one, other), (other, one)].map(|(one, other)| gains(one, other));
                let is_pristine = pools.iter().all(|pool| pool.state.liquidity > 0);
                ensure!(!is_pristine || is_tempting.contains(&true), "the pools of case {case} tempt nobody");
                counts.refused += 2;
                *counts.cases.entry(*case).or_default() += 1;
            }
        }
    }
    Ok(())
}

/// Whether some amount of the native token gains, if it buys the token in one pool and sells it in the other.
fn gains(bought: &Pool, sold: &Pool) -> bool {
    let (bought_at, sold_at) = (bought.formula(), sold.formula());
    let zero_for_one = bought.native < bought.token;
    let buy = Way { formula: &bought_at, zero_for_one };
    let sell = Way { formula: &sold_at, zero_for_one: !zero_for_one };
    (0..120).map(|bits| 1u128 << bits).any(|amount| {
        let back = buy.output(amount).and_then(|token| sell.output(token));
        back.is_some_and(|back| back > amount)
    })
}

/// How many there are, and which pools with concentrated liquidity they lead through.
fn judge_findings(
    followed: &Followed,
    twins: &[Twins],
    pairs: &[&V2Pair],
    exchange: &Exchange,
) -> anyhow::Result<(u64, BTreeSet<PoolName>)> {
    let honest = twins.iter().filter(|twins| twins.kind == Judged::Honest).flat_map(|twins| &twins.pools);
    let mut formulas: BTreeMap<PoolName, Formula> = honest.map(|pool| (pool.name, pool.formula())).collect();
    let ranged: BTreeSet<PoolName> = formulas.keys().copied().collect();
    for pair in pairs {
        let reserves = exchange.reserves(pair.address);
        formulas.insert(PoolName { address: pair.address, id: None }, Formula::Pair(reserves));
    }
    let mut used = BTreeSet::new();
    let mut count = 0;
    for found in followed.findings(&RESEARCH)? {
        // Cycles of pairs alone were carried out before.
        let Plan::Mixed(steps) = &found.plan else { continue };
        judge_finding(&found, steps, &formulas).with_context(|| format!("{found:?}"))?;
        used.extend(steps.iter().map(name_of).filter(|name| ranged.contains(name)));
        count += 1;
    }
    Ok((count, used))
}

fn judge_finding(
    found: &Opportunity,
    steps: &[MixedStep],
    formulas: &BTreeMap<PoolName, Formula>,
) -> anyhow::Result<()> {
    let mut amount = found.amount_in;
    for step in steps {
        let Some(formula) = formulas.get(&name_of(step)) else { bail!("it leads through {step:?}") };
        ensure!(step.swap.amount_in == amount, "{step:?} takes something else than {amount}");
        let way = Way { formula, zero_for_one: step.swap.token_in < step.swap.token_out };
        let out = u128::try_from(amount).ok().and_then(|amount| way.output(amount));
        amount = step.swap.amount_out;
        ensure!(out.map(U256::from) == Some(amount), "{step:?}: the formula gives {out:?}");
    }
    ensure!(amount == found.amount_in + found.profit, "{amount} are left");
    ensure!(!found.profit.is_zero(), "it gains nothing");
    Ok(())
}

fn name_of(step: &MixedStep) -> PoolName {
    PoolName { address: step.swap.pool, id: step.pool_id }
}

/// Two pools of a token and the native one, at prices that are a third apart.
fn create(random: &mut ChaCha8Rng, market: &ResolvedMarket, native: Address, token: Address) -> [Pool; 2] {
    let tick = random.random_range(-200_000..200_000);
    let apart = if random.random() { APART } else { -APART };
    let liquidity = 1u128 << random.random_range(50..90);
    let pool = |protocol, tick: i32| {
        let (name, key) = match protocol {
            Protocol::UniswapV4 => {
                let (manager, id) = (market.concentrated_managers[0].address, v4_key(native, token).id());
                (PoolName { address: manager, id: Some(id) }, ConcentratedKey::V4 { manager, id })
            }
            _ => {
                let address = market.concentrated_factories[0].derive(native, token, FEE);
                (PoolName { address, id: None }, ConcentratedKey::V3(address))
            }
        };
        let here = tick.div_euclid(SPACING) * SPACING;
        let change = Change { lower: here - REACH, upper: here + REACH, delta: liquidity as i128 };
        let state = State { sqrt_price: sqrt_price_at(tick), tick, liquidity };
        Pool { name, key, token, native, state, change }
    };
    [pool(Protocol::UniswapV3, tick), pool(Protocol::UniswapV4, tick + apart)]
}

fn v4_key(native: Address, token: Address) -> V4Key {
    let (currency0, currency1) = (native.min(token), native.max(token));
    V4Key { currency0, currency1, fee: FEE, tick_spacing: SPACING, hooks: Address::ZERO }
}

impl Pool {
    fn formula(&self) -> Formula {
        Formula::Ranged(Ranged::new(self.state, &[self.change], SPACING, [FEE; 2]))
    }

    /// What is logged when it comes into being, gets its price and then its liquidity.
    fn creation(&self, market: &ResolvedMarket) -> Vec<Log> {
        let State { sqrt_price, tick, liquidity } = self.state;
        let Change { lower, upper, .. } = self.change;
        let (token0, token1) = (self.native.min(self.token), self.native.max(self.token));
        let [lower, upper, tick] = [lower, upper, tick].map(signed);
        let (fee, spacing) = (U256::from(FEE), signed(SPACING));
        let anybody = Address::repeat_byte(1).into_word();
        match self.key {
            ConcentratedKey::V3(pool) => {
                let created = keccak256("PoolCreated(address,address,uint24,int24,address)");
                let topics = vec![created, token0.into_word(), token1.into_word(), fee.into()];
                let mint = keccak256("Mint(address,address,int24,int24,uint128,uint256,uint256)");
                let minted = [U256::ONE, U256::from(liquidity), U256::ONE, U256::ONE];
                vec![
                    log(market.concentrated_factories[0].address, topics, &[spacing, word(pool)]),
                    log(pool, vec![keccak256("Initialize(uint160,int24)")], &[sqrt_price, tick]),
                    log(pool, vec![mint, anybody, lower.into(), upper.into()], &minted),
                ]
            }
            ConcentratedKey::V4 { manager, id } => {
                let created =
                    keccak256("Initialize(bytes32,address,address,uint24,int24,address,uint160,int24)");
                let topics = vec![created, id, token0.into_word(), token1.into_word()];
                let modified = keccak256("ModifyLiquidity(bytes32,address,int24,int24,int256,bytes32)");
                let words = [lower, upper, U256::from(liquidity), U256::ZERO];
                vec![
                    log(manager, topics, &[fee, spacing, U256::ZERO, sqrt_price, tick]),
                    log(manager, vec![modified, id, anybody], &words),
                ]
            }
        }
    }

    /// Somebody swaps as long as there is anything: the price ends where the liquidity does, or, without a limit, where all prices do.
    fn exhaust(&mut self, random: &mut ChaCha8Rng) -> Log {
        let (is_up, is_limited) = (random.random::<bool>(), random.random::<bool>());
        let (sqrt_price, tick) = match (is_up, is_limited) {
            (true, true) => (sqrt_price_at(self.change.upper), self.change.upper),
            (true, false) => (sqrt_price_at(MOST_TICK) - U256::ONE, MOST_TICK - 1),
            (false, true) => (sqrt_price_at(self.change.lower), self.change.lower - 1),
            (false, false) => (sqrt_price_at(-MOST_TICK) + U256::ONE, -MOST_TICK),
        };
        self.state = State { sqrt_price, tick, liquidity: 0 };
        let (took, gave) = (U256::from(1_000), I256::MINUS_ONE.into_raw());
        let amounts = if is_up { [gave, took] } else { [took, gave] };
        let anybody = Address::repeat_byte(1).into_word();
        match self.key {
            ConcentratedKey::V3(pool) => {
                let swap = keccak256("Swap(address,address,int256,int256,uint160,uint128,int24)");
                let words = [amounts[0], amounts[1], sqrt_price, U256::ZERO, signed(tick)];
                log(pool, vec![swap, anybody, anybody], &words)
            }
            ConcentratedKey::V4 { manager, id } => {
                let swap = keccak256("Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24)");
                // It tells what the swapper gets, and not the pool.
                let words = [amounts[1], amounts[0], sqrt_price, U256::ZERO, signed(tick), U256::from(FEE)];
                log(manager, vec![swap, id, anybody], &words)
            }
        }
    }
}

/// As the contract ABI writes a signed integer.
fn signed(value: i32) -> U256 {
    I256::try_from(value).expect("it has 32 bits").into_raw()
}
