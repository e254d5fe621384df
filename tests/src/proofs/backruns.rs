//! What is found behind pending transactions, mined right behind them.

mod carried_out;
mod concentrated;
mod orders;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use anyhow::{Context, bail, ensure};
use headwater_detectors::{Arbitrage, ArbitrageConfig, Backruns};
use headwater_events::{
    Behind, BlockEvent, Grade, Header, Kind, Leg, MixedStep, Opportunity, PendingTxEvent, Plan, SwapStep,
};
use headwater_market::{
    ConcentratedKind, ConcentratedPool, MarketSnapshot, PendingPool, PoolLimits, PoolTable, PriceSnapshot,
    Touched,
};
use headwater_reference::evm::{Evm, Message};
use headwater_reference::executed::{Cycle, program_of};
use headwater_simulation::{Effect, Effects, Limits, Means, NoEffect, RouterKind, Routers};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::concentrated::Routed;
use self::orders::{Bent, Order, Orders};
use self::world::{BLOCK_TIME, Reader, World};
use crate::devnet::Artifacts;
use crate::proof::{Proof, ProofArgs, Report};

/// To the wei, and nothing where nothing can be.
pub const BACKRUNS: Proof = Proof {
    name: "backruns",
    about: "400 backruns through V2, 100 of them behind contracts that nobody decodes, as many behind what moves pools of V3, and 100 behind what moves pools of V4: mined right behind their transaction, worth what was predicted to the wei",
    full_duration: "15 s",
    run,
};

/// How much there has to be.
struct Size {
    /// Predictions through pairs alone, and of those behind executed transactions.
    predictions: u64,
    executed: u64,
    /// Transactions of each sort that have to give none, and of those such as would give some.
    hopeless: u64,
    opening: u64,
    /// Predictions behind transactions that move a pool of V3, and of those behind executed ones.
    concentrated: u64,
    concentrated_executed: u64,
    /// Predictions behind computed and behind executed transactions that move pools of V4 and none of V3, and through V4.
    v4: u64,
    /// Transactions of each sort of call of the routers of V3 and V4, and transactions that change ticks.
    each: u64,
}

const FULL: Size = Size {
    predictions: 400,
    executed: 100,
    hopeless: 30,
    opening: 10,
    concentrated: 400,
    concentrated_executed: 100,
    v4: 50,
    each: 10,
};
const QUICK: Size = Size {
    predictions: 24,
    executed: 6,
    hopeless: 2,
    opening: 1,
    concentrated: 24,
    concentrated_executed: 6,
    v4: 3,
    each: 1,
};

/// No chain takes this many blocks to show so few.
const MOST_BLOCKS: u64 = 20_000;

#[derive(Debug, Default)]
struct Tally {
    blocks: u64,
    transactions: u64,
    native: u64,
    executed: u64,
    /// Predictions through pairs alone, mined behind transactions whose effect was computed, and behind such as were executed.
    behind_native: u64,
    behind_executed: u64,
    /// Predictions behind transactions that move a pool of V3, by the same, and behind such as move pools of V4 and none of V3.
    concentrated: [u64; 2],
    v4: [u64; 2],
    /// Predictions through pools of which some have concentrated liquidity, and through such as are of V4.
    mixed: u64,
    through_v4: u64,
    /// Transactions that move a pool of V3, and that move pools of V4 and none of V3, by the same.
    moving: [u64; 2],
    moving_v4: [u64; 2],
    changing_ticks: u64,
    /// Calls of the routers of V3 and V4.
    routed: BTreeMap<Routed, u64>,
    failing: InVain,
    replaced: InVain,
    never_landing: InVain,
    without_gain: u64,
    refused_early: u64,
}

/// Transactions of a sort that has to give no backrun.
#[derive(Clone, Copy, Debug, Default)]
struct InVain {
    transactions: u64,
    /// Behind so many of them one would be found if they landed and succeeded.
    opening: u64,
}

impl InVain {
    fn count(&mut self, would_open: bool) {
        self.transactions += 1;
        self.opening += u64::from(would_open);
    }

    fn is_enough(&self, size: &Size) -> bool {
        self.transactions >= size.hopeless && self.opening >= size.opening
    }
}

/// The part of Headwater under test.
struct Tested {
    pool: PendingPool,
    effects: Effects<Reader>,
    backruns: Backruns<Arbitrage>,
    now: Duration,
}

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let size = if args.quick { &QUICK } else { &FULL };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tally = runtime.block_on(play(args.seed, size)).with_context(|| format!("seed {}", args.seed))?;
    let [computed, executed] = tally.concentrated;
    let [moving, moving_executed] = tally.moving;
    let [computed_v4, executed_v4] = tally.v4;
    let [moving_v4, moving_executed_v4] = tally.moving_v4;
    let Tally { failing, replaced, never_landing, .. } = tally;
    let checked = tally.behind_native + tally.behind_executed + tally.mixed;
    let lines = vec![
        format!(
            "{} blocks, {} transactions: the effect of {} computed, of {} executed, each equal to the pools' storage behind it",
            tally.blocks, tally.transactions, tally.native, tally.executed
        ),
        format!(
            "{} backruns through V2 mined right behind computed transactions, {} behind executed ones, worth what was predicted to \
             the wei; put before its transaction, {} of all fail or lose",
            tally.behind_native, tally.behind_executed, tally.refused_early
        ),
        format!(
            "{computed} backruns behind {moving} computed transactions that move a pool of V3, {executed} behind {moving_executed} \
             executed ones",
        ),
        format!(
            "{computed_v4} backruns behind {moving_v4} computed transactions that move pools of V4 alone, {executed_v4} behind \
             {moving_executed_v4} executed ones; {} transactions change ticks; {} backruns go through V3 or V4, {} through V4",
            tally.changing_ticks, tally.mixed, tally.through_v4
        ),
        format!("calls of the routers of V3 and V4: {:?}", tally.routed),
        format!(
            "none behind {} that fail, {} that are replaced, {} that never land, though {}, {} and {} of these would open some; {} that \
             land open nothing",
            failing.transactions,
            replaced.transactions,
            never_landing.transactions,
            failing.opening,
            replaced.opening,
            never_landing.opening,
            tally.without_gain
        ),
    ];
    Ok(Report { checked, floor: size.predictions + size.concentrated, skipped: 0, seed: args.seed, lines })
}

async fn play(seed: u64, size: &Size) -> anyhow::Result<Tally> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World::new(&mut random, &Artifacts::install()?)?;
    let mut orders = Orders::default();
    let mut tested = Tested::new(&world);
    let mut tally = Tally::default();
    let enough = |tally: &Tally| {
        let Tally { concentrated: [computed, executed], v4, .. } = *tally;
        let plain = tally.behind_native + tally.behind_executed;
        plain >= size.predictions
            && plain + tally.mixed >= size.predictions + size.concentrated
            && tally.behind_executed >= size.executed
            && computed + executed >= size.concentrated
            && executed >= size.concentrated_executed
            && v4.iter().all(|count| *count >= size.v4)
            && tally.through_v4 >= size.v4
            && Routed::ALL.iter().all(|sort| tally.routed.get(sort).is_some_and(|count| *count >= size.each))
            && tally.changing_ticks >= size.each
            && [tally.failing, tally.replaced, tally.never_landing].iter().all(|sort| sort.is_enough(size))
    };
    while !enough(&tally) {
        ensure!(tally.blocks < MOST_BLOCKS, "too little after {MOST_BLOCKS} blocks: {tally:?}");
        tally.blocks += 1;
        block(&mut random, &mut world, &mut orders, &mut tested, &mut tally)
            .await
            .with_context(|| format!("block {}", tally.blocks))?;
    }
    Ok(tally)
}

/// One block: a transaction is seen, what follows it is predicted, and both are mined.
async fn block(
    random: &mut ChaCha8Rng,
    world: &mut World,
    orders: &mut Orders,
    tested: &mut Tested,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let market = Arc::new(world.market()?);
    let order = orders.next(random, world, &market)?;
    tested.stand_behind(&market)?;
    tally.transactions += 1;
    let seen = tested.see(&order);
    match &order {
        Order::Landing { pending, executed, routed } => {
            let (found, effect) = tested.predict(&seen, &market).await?;
            let effect = effect.with_context(|| format!("no effect of {pending:?}"))?;
            let native = effect.means == Means::Native;
            ensure!(native != *executed, "{:?} for {pending:?}", effect.means);
            *(if native { &mut tally.native } else { &mut tally.executed }) += 1;
            if let Some(sort) = routed {
                *tally.routed.entry(*sort).or_default() += 1;
            }
            tally.without_gain += u64::from(found.is_empty());
            mine(random, world, tested, pending, &Predicted { market, found, effect }, tally)?;
        }
        Order::Failing(bent) => {
            let Bent { pending, straight } = &**bent;
            let (found, _) = tested.predict(&seen, &market).await?;
            ensure!(found.is_empty(), "found behind a transaction that fails: {found:?}");
            tally.failing.count(tested.would_open(straight, &market).await?);
            let mut evm = world.chain.evm();
            let before = evm.snapshot();
            evm.transact(&message(straight)).map_err(|failure| anyhow::anyhow!("{failure}: {straight:?}"))?;
            evm.revert(&before)?;
            evm.forget_snapshots();
            ensure!(evm.transact(&message(pending)).is_err(), "it does not fail: {pending:?}");
            drop(evm);
            tested.mined(world, pending);
        }
        Order::Replaced { first, second } => {
            let (found, effect) = tested.predict(&seen, &market).await?;
            let effect = effect.with_context(|| format!("no effect of {second:?}"))?;
            let of_first = found.iter().any(|found| found.follows() == Some(first.transaction.hash));
            ensure!(!of_first, "found behind a transaction that was replaced");
            tally.replaced.count(tested.would_open(first, &market).await?);
            mine(random, world, tested, second, &Predicted { market, found, effect }, tally)?;
        }
        Order::NeverLanding(bent) => {
            let (found, _) = tested.predict(&seen, &market).await?;
            ensure!(found.is_empty(), "found behind a transaction that cannot land: {found:?}");
            tally.never_landing.count(tested.would_open(&bent.straight, &market).await?);
            tested.now += Duration::from_secs(1_000);
        }
    }
    world.chain.evm().advance(BLOCK_TIME);
    Ok(())
}

/// What is said of a transaction before it is mined.
struct Predicted {
    market: Arc<MarketSnapshot>,
    found: Vec<Opportunity>,
    effect: Effect,
}

/// Whether the pairs hold what they should: those that the effect names what it says, the others what they held.
fn compare_reserves(evm: &Evm, pools: &PoolTable, effect: &Effect) -> anyhow::Result<()> {
    for (id, meta, before) in pools.iter() {
        let changed = effect.reserves.iter().find(|(pool, _)| *pool == id).map(|(_, after)| *after);
        let held = world::reserves(evm, meta.address);
        ensure!(changed.or(before) == Some(held), "{} holds {held:?}, not {effect:?}", meta.address);
    }
    Ok(())
}

/// Whether the pools with concentrated liquidity stand where they should, and have the ticks and the fees that they should.
fn compare_pools(evm: &Evm, world: &World, predicted: &Predicted) -> anyhow::Result<()> {
    let Predicted { market, effect, .. } = predicted;
    for place in world.all_places() {
        let id = market.concentrated.find_key(&place.key()).context("a pool that nobody follows")?;
        let changed = effect.concentrated.iter().find(|(pool, _)| *pool == id).map(|(_, after)| after);
        let expected = changed.or(market.concentrated.pool(id)).context("a pool that is not known")?;
        let (state, ticks, protocol_fee) = place.stored(evm)?;
        let price = expected.price().map(|price| (price.sqrt_price, price.tick));
        ensure!(
            price == Some((state.sqrt_price, state.tick)) && expected.liquidity() == state.liquidity,
            "{place:?} stands at {state:?}, not {price:?} with {}",
            expected.liquidity()
        );
        let held = expected.ticks().map(|tick| (tick.index, tick.liquidity_net, tick.liquidity_gross));
        ensure!(held.eq(ticks), "{place:?} has other ticks");
        ensure!(expected.fee().packed_protocol() == protocol_fee, "{place:?} takes another fee");
    }
    Ok(())
}

/// Whether pools of V3 are moved, and pools of V4.
fn moves(predicted: &Predicted) -> (bool, bool) {
    let Predicted { market, effect, .. } = predicted;
    let moved = effect.concentrated.iter().filter_map(|(id, _)| market.concentrated.meta(*id));
    let is_v3: Vec<bool> = moved.map(|meta| meta.kind == ConcentratedKind::V3).collect();
    (is_v3.contains(&true), is_v3.contains(&false))
}

fn changes_ticks(predicted: &Predicted) -> bool {
    let Predicted { market, effect, .. } = predicted;
    let differs = |before: &ConcentratedPool, after| !before.differing_ticks(after).is_empty();
    let mut changed = effect.concentrated.iter();
    changed.any(|(id, after)| market.concentrated.pool(*id).is_some_and(|before| differs(before, after)))
}

/// Mines the transaction, and behind it each finding by itself; one of them for good.
fn mine(
    random: &mut ChaCha8Rng,
    world: &World,
    tested: &mut Tested,
    pending: &PendingTxEvent,
    predicted: &Predicted,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let Predicted { found, effect, .. } = predicted;
    let executed = effect.means == Means::Executed;
    let place = usize::from(executed);
    let (moves_v3, moves_v4) = moves(predicted);
    tally.moving[place] += u64::from(moves_v3);
    tally.moving_v4[place] += u64::from(moves_v4 && !moves_v3);
    tally.changing_ticks += u64::from(changes_ticks(predicted));
    let mut evm = world.chain.evm();
    let before = evm.snapshot();
    for finding in found {
        // Before its transaction it is worth less, or nothing.
        let early = match behind(finding)? {
            behind if behind.is_mixed() => carried_out::at_once(&mut evm, world, behind.swaps())?,
            behind => gain(&mut evm, behind.swaps())?,
        };
        tally.refused_early += u64::from(early.is_none());
        ensure!(early.is_none_or(|early| early < finding.profit), "worth as much before its transaction");
        evm.revert(&before)?;
    }
    evm.transact(&message(pending)).map_err(|failure| anyhow::anyhow!("{failure}: {pending:?}"))?;
    compare_reserves(&evm, &world.pools, effect)?;
    compare_pools(&evm, world, predicted)?;
    let after = evm.snapshot();
    for finding in found {
        ensure!(finding.kind == Kind::Backrun && finding.follows() == Some(pending.transaction.hash));
        let gained = carry_out(&mut evm, world, finding)?;
        ensure!(gained == finding.profit, "worth {gained} behind its transaction: {finding:?}");
        let is_mixed = behind(finding)?.is_mixed();
        tally.mixed += u64::from(is_mixed);
        tally.through_v4 += u64::from(behind(finding)?.swaps().iter().any(|step| step.pool_id.is_some()));
        tally.concentrated[place] += u64::from(moves_v3);
        tally.v4[place] += u64::from(moves_v4 && !moves_v3);
        if !is_mixed {
            *(if executed { &mut tally.behind_executed } else { &mut tally.behind_native }) += 1;
        }
        evm.revert(&after)?;
    }
    if let Some(best) = found.first().filter(|_| random.random_range(0..4) > 0) {
        carry_out(&mut evm, world, best)?;
    }
    evm.forget_snapshots();
    drop(evm);
    tested.mined(world, pending);
    Ok(())
}

/// The plan of a finding: swaps, and nothing in front of the transaction.
fn behind(finding: &Opportunity) -> anyhow::Result<&Behind> {
    let Plan::Behind(behind) = &finding.plan else { bail!("a backrun that follows nothing: {finding:?}") };
    let [Leg::Theirs(_), Leg::Ours(_)] = behind.in_order() else { bail!("another order: {finding:?}") };
    Ok(behind)
}

/// What a finding gains for good.
fn carry_out(evm: &mut Evm, world: &World, finding: &Opportunity) -> anyhow::Result<U256> {
    let behind = behind(finding)?;
    let steps = behind.swaps();
    let path: Vec<_> = steps.iter().map(|step| step.swap.pool).collect();
    ensure!(path == finding.path, "another path than its plan's: {finding:?}");
    if behind.is_mixed() {
        carried_out::predicted(evm, world, steps)
    } else {
        gain(evm, steps)?.context("it fails behind its transaction")
    }
}

/// What swaps through pairs gain as one program, on the state at hand; nothing where they fail.
fn gain(evm: &mut Evm, steps: &[MixedStep]) -> anyhow::Result<Option<U256>> {
    let swaps: Vec<SwapStep> = steps.iter().map(|step| step.swap.clone()).collect();
    let token = swaps.first().context("a backrun through no pool")?.token_in;
    let before = world::balance(evm, token, JUDGE)?;
    evm.place(JUDGE, program_of(JUDGE, &cycle(&swaps))?);
    let call = Message { from: SENDER, to: JUDGE, value: U256::ZERO, data: Default::default() };
    if evm.transact(&call).is_err() {
        return Ok(None);
    }
    let gained = world::balance(evm, token, JUDGE)?.checked_sub(before);
    Ok(Some(gained.context("the cycle costs more than it gives")?))
}

const SENDER: Address = Address::repeat_byte(0x5e);
const JUDGE: Address = Address::repeat_byte(0x1d);

fn cycle(swaps: &[SwapStep]) -> Cycle {
    let first = swaps.first();
    Cycle {
        pools: swaps.iter().map(|step| step.pool).collect(),
        tokens: first
            .map(|step| step.token_in)
            .into_iter()
            .chain(swaps.iter().map(|step| step.token_out))
            .collect(),
        amounts: first
            .map(|step| step.amount_in)
            .into_iter()
            .chain(swaps.iter().map(|step| step.amount_out))
            .collect(),
    }
}

fn message(pending: &PendingTxEvent) -> Message {
    let transaction = &pending.transaction;
    Message {
        from: transaction.from,
        to: transaction.to.unwrap_or_default(),
        value: transaction.value,
        data: transaction.input.clone(),
    }
}

impl Tested {
    fn new(world: &World) -> Self {
        let limits =
            Limits { chain_id: 1, block_time_s: BLOCK_TIME, max_gas: 12_000_000, max_fetched: 4_096 };
        let pairs = world.exchanges.map(|[router, _]| (router, RouterKind::UniswapV2));
        let of_v3 = world.routers_v3;
        let of_v3 = [
            (of_v3.first, RouterKind::UniswapV3),
            (of_v3.second, RouterKind::SwapRouter02),
            (of_v3.universal, RouterKind::UniversalRouter),
            (of_v3.universal_v1, RouterKind::UniversalRouterV1),
        ];
        let routers =
            Routers { kinds: pairs.into_iter().chain(of_v3).collect(), wrapped_native: world.tokens[1] };
        let config = ArbitrageConfig { profit_after_gas: false, ..ArbitrageConfig::default() };
        let pool = PoolLimits { transactions: 64, bytes: 1 << 20, age: Duration::from_secs(120) };
        Self {
            pool: PendingPool::new(pool),
            effects: Effects::new(Reader, limits, routers),
            backruns: Backruns::new(Arbitrage::new(config, world.tokens.to_vec())),
            now: Duration::ZERO,
        }
    }

    fn stand_behind(&mut self, market: &Arc<MarketSnapshot>) -> anyhow::Result<()> {
        let prices = PriceSnapshot {
            as_of: market.as_of,
            quote: Address::ZERO,
            prices: Default::default(),
            sources: Default::default(),
        };
        Ok(self.backruns.stand_behind(Arc::clone(market), Arc::new(prices), Touched::All, Touched::All)?)
    }

    /// The mempool shows what the order is made of; what of it is pending then.
    fn see(&mut self, order: &Order) -> Vec<Arc<PendingTxEvent>> {
        for pending in order.shown() {
            self.pool.see(Arc::new(pending.clone()), self.now);
        }
        self.pool.newest().cloned().collect()
    }

    /// What is found behind all that is pending, and the effect of the last.
    async fn predict(
        &mut self,
        pending: &[Arc<PendingTxEvent>],
        market: &Arc<MarketSnapshot>,
    ) -> anyhow::Result<(Vec<Opportunity>, Option<Effect>)> {
        let (mut found, mut last) = (Vec::new(), None);
        for pending in pending {
            match self.effects.of(pending, market).await {
                Ok(effect) => {
                    found.extend(self.backruns.behind(pending, &effect)?);
                    last = Some(effect);
                }
                Err(NoEffect::Unknown(error)) => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok((found, last))
    }

    /// Whether something is found behind a transaction that lands and succeeds, which the mempool does not show.
    async fn would_open(
        &mut self,
        straight: &PendingTxEvent,
        market: &Arc<MarketSnapshot>,
    ) -> anyhow::Result<bool> {
        let (found, effect) = self.predict(&[Arc::new(straight.clone())], market).await?;
        ensure!(effect.is_some(), "no effect of what should have one: {straight:?}");
        Ok(!found.is_empty())
    }

    fn mined(&mut self, world: &World, pending: &PendingTxEvent) {
        let number = world.chain.evm().block().number;
        let header = Header {
            number,
            hash: world::hash(number),
            parent_hash: world::hash(number - 1),
            timestamp: 0,
            base_fee_per_gas: None,
            gas_used: 0,
            gas_limit: 0,
            beneficiary: Address::ZERO,
            logs_bloom: Default::default(),
        };
        let transactions = vec![pending.transaction.clone()];
        let block = BlockEvent { header, transactions, logs: Vec::new(), grade: Grade::Proven };
        self.now += Duration::from_secs(BLOCK_TIME);
        self.pool.mine(&block, self.now);
    }
}
