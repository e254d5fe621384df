//! What is found behind pending transactions, mined right behind them.

mod orders;
mod world;

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use anyhow::{Context, bail, ensure};
use headwater_detectors::{Arbitrage, ArbitrageConfig, Backruns};
use headwater_events::{BlockEvent, Grade, Header, Kind, Leg, Opportunity, PendingTxEvent, Plan, SwapStep};
use headwater_market::{PendingPool, PoolLimits, PoolTable, PriceSnapshot, Touched};
use headwater_reference::evm::Message;
use headwater_reference::executed::{Cycle, program_of};
use headwater_simulation::{Effect, Effects, Limits, Means, NoEffect};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::orders::{Order, Orders};
use self::world::{BLOCK_TIME, Reader, World};
use crate::devnet::Artifacts;
use crate::proof::{Proof, ProofArgs, Report};

/// To the wei, and nothing where nothing can be.
pub const BACKRUNS: Proof = Proof {
    name: "backruns",
    about: "200 backruns, 50 of them behind contracts that nobody decodes: mined right behind their transaction, worth what was predicted to the wei",
    full_duration: "5 s",
    run,
};

/// How many predictions there have to be, of those how many behind executed transactions, and how many of each sort of
/// transactions that have to give none.
struct Size {
    predictions: u64,
    executed: u64,
    hopeless: u64,
}

const FULL: Size = Size { predictions: 400, executed: 100, hopeless: 30 };
const QUICK: Size = Size { predictions: 24, executed: 6, hopeless: 2 };

/// No chain takes this many blocks to show so few.
const MOST_BLOCKS: u64 = 20_000;

#[derive(Debug, Default)]
struct Tally {
    blocks: u64,
    transactions: u64,
    native: u64,
    executed: u64,
    /// Predictions mined behind transactions whose effect was computed, and behind such as were executed.
    behind_native: u64,
    behind_executed: u64,
    failing: u64,
    replaced: u64,
    never_landing: u64,
    without_gain: u64,
    refused_early: u64,
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
    let checked = tally.behind_native + tally.behind_executed;
    let lines = vec![
        format!(
            "{} blocks, {} transactions: the effect of {} computed, of {} executed, each equal to the pairs' reserves behind it",
            tally.blocks, tally.transactions, tally.native, tally.executed
        ),
        format!(
            "{} backruns mined right behind computed transactions, {} behind executed ones, worth what was predicted to the wei; \
             put before its transaction, {} of them fail",
            tally.behind_native, tally.behind_executed, tally.refused_early
        ),
        format!(
            "none behind {} that fail, {} that are replaced, {} that never land; {} open nothing",
            tally.failing, tally.replaced, tally.never_landing, tally.without_gain
        ),
    ];
    Ok(Report { checked, floor: size.predictions, skipped: 0, seed: args.seed, lines })
}

async fn play(seed: u64, size: &Size) -> anyhow::Result<Tally> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World::new(&mut random, &Artifacts::install()?)?;
    let mut orders = Orders::default();
    let mut tested = Tested::new(&world);
    let mut tally = Tally::default();
    let enough = |tally: &Tally| {
        tally.behind_native + tally.behind_executed >= size.predictions
            && tally.behind_executed >= size.executed
            && [tally.failing, tally.replaced, tally.never_landing].iter().all(|sort| *sort >= size.hopeless)
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
    let market = Arc::new(world.market());
    let order = orders.next(random, world, &market)?;
    tested.stand_behind(&market)?;
    tally.transactions += 1;
    let seen = tested.see(&order);
    match &order {
        Order::Landing { pending, executed } => {
            let (found, effect) = tested.predict(&seen, &market).await?;
            let effect = effect.with_context(|| format!("no effect of {pending:?}"))?;
            let native = effect.means == Means::Native;
            ensure!(native != *executed, "{:?} for {pending:?}", effect.means);
            *(if native { &mut tally.native } else { &mut tally.executed }) += 1;
            tally.without_gain += u64::from(found.is_empty());
            mine(random, world, tested, pending, &Predicted { found, effect }, tally)?;
        }
        Order::Failing { pending } => {
            let (found, _) = tested.predict(&seen, &market).await?;
            ensure!(found.is_empty(), "found behind a transaction that fails: {found:?}");
            ensure!(world.chain.evm().transact(&message(pending)).is_err(), "it does not fail: {pending:?}");
            tested.mined(world, pending);
            tally.failing += 1;
        }
        Order::Replaced { first, second } => {
            let (found, effect) = tested.predict(&seen, &market).await?;
            let effect = effect.with_context(|| format!("no effect of {second:?}"))?;
            let of_first = found.iter().any(|found| found.follows() == Some(first.transaction.hash));
            ensure!(!of_first, "found behind a transaction that was replaced");
            mine(random, world, tested, second, &Predicted { found, effect }, tally)?;
            tally.replaced += 1;
        }
        Order::NeverLanding { .. } => {
            let (found, _) = tested.predict(&seen, &market).await?;
            ensure!(found.is_empty(), "found behind a transaction that cannot land: {found:?}");
            tested.now += Duration::from_secs(1_000);
            tally.never_landing += 1;
        }
    }
    world.chain.evm().advance(BLOCK_TIME);
    Ok(())
}

/// What is said of a transaction before it is mined.
struct Predicted {
    found: Vec<Opportunity>,
    effect: Effect,
}

/// Whether the pairs hold what they should: those that the effect names what it says, the others what they held.
fn compare_reserves(
    evm: &headwater_reference::evm::Evm,
    pools: &PoolTable,
    effect: &Effect,
) -> anyhow::Result<()> {
    for (id, meta, before) in pools.iter() {
        let changed = effect.reserves.iter().find(|(pool, _)| *pool == id).map(|(_, after)| *after);
        let held = world::reserves(evm, meta.address);
        ensure!(changed.or(before) == Some(held), "{} holds {held:?}, not {effect:?}", meta.address);
    }
    Ok(())
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
    let Predicted { found, effect } = predicted;
    let executed = effect.means == Means::Executed;
    let mut evm = world.chain.evm();
    let before = evm.snapshot();
    for finding in found {
        // Before its transaction it is worth less, or nothing.
        let early = gain(&mut evm, finding)?;
        tally.refused_early += u64::from(early.is_none());
        ensure!(early.is_none_or(|early| early < finding.profit), "worth as much before its transaction");
        evm.revert(&before)?;
    }
    evm.transact(&message(pending)).map_err(|failure| anyhow::anyhow!("{failure}: {pending:?}"))?;
    compare_reserves(&evm, &world.pools, effect)?;
    let behind = evm.snapshot();
    for finding in found {
        ensure!(finding.kind == Kind::Backrun && finding.follows() == Some(pending.transaction.hash));
        let gained = gain(&mut evm, finding)?.context("it fails behind its transaction")?;
        ensure!(gained == finding.profit, "worth {gained} behind its transaction: {finding:?}");
        *(if executed { &mut tally.behind_executed } else { &mut tally.behind_native }) += 1;
        evm.revert(&behind)?;
    }
    if let Some(best) = found.first().filter(|_| random.random_range(0..4) > 0) {
        gain(&mut evm, best)?;
    }
    evm.forget_snapshots();
    drop(evm);
    tested.mined(world, pending);
    Ok(())
}

/// What the finding's swaps gain, on the state at hand; nothing where they fail.
fn gain(evm: &mut headwater_reference::evm::Evm, finding: &Opportunity) -> anyhow::Result<Option<U256>> {
    let Plan::Behind(behind) = &finding.plan else { bail!("a backrun that follows nothing: {finding:?}") };
    let [Leg::Theirs(_), Leg::Ours(swaps)] = behind.in_order() else { bail!("another order: {finding:?}") };
    let token = *finding.tokens.first().context("a backrun through no token")?;
    let before = world::balance(evm, token, JUDGE)?;
    evm.place(JUDGE, program_of(JUDGE, &cycle(swaps))?);
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
        let limits = Limits { chain_id: 1, block_time_s: BLOCK_TIME, max_gas: 3_000_000, max_fetched: 4_096 };
        let routers = world.exchanges.map(|[router, _]| router);
        let config = ArbitrageConfig { profit_after_gas: false, ..ArbitrageConfig::default() };
        let pool = PoolLimits { transactions: 64, bytes: 1 << 20, age: Duration::from_secs(120) };
        Self {
            pool: PendingPool::new(pool),
            effects: Effects::new(Reader, limits, &routers),
            backruns: Backruns::new(Arbitrage::new(config, world.tokens.to_vec())),
            now: Duration::ZERO,
        }
    }

    fn stand_behind(&mut self, market: &Arc<headwater_market::MarketSnapshot>) -> anyhow::Result<()> {
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
        market: &headwater_market::MarketSnapshot,
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
