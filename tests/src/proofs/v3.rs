//! Quotes against the contracts' own bytecode: Uniswap V2, V3 and V4, PancakeSwap V3. Of PancakeSwap V2 no package has the bytecode:
//! it is Uniswap's with the numbers of the fee replaced.

mod book;
mod orders;
mod pairs;
mod world;

use alloy_primitives::I256;
use anyhow::{Context, bail, ensure};
use headwater_amm::{
    ConcentratedPool, Direction, Fee, PoolEvent, PoolKey, PoolPrice, Quote, SwapFee, Version,
};
use headwater_reference::evm::{Artifact, Failure};
use headwater_reference::pools::{Change, FeeV2, ManagerV4, Order, Outcome, PoolV3, State};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::book::Book;
use self::pairs::Charged;
use self::world::Place;
use crate::devnet::Artifacts;
use crate::proof::{Proof, ProofArgs, Report};

/// Every amount, price, tick and liquidity, and what both refuse.
pub const V3: Proof = Proof {
    name: "v3",
    about: "100,000 swaps of Uniswap V3, 10,000 of V4, of PancakeSwap V3, of V2 and of its fork with another fee: bit-equal to the contracts' own bytecode",
    full_duration: "5 min",
    run,
};

/// How much is compared.
struct Size {
    v3: u64,
    pancake: u64,
    v4: u64,
    /// And as many of its fork.
    v2: u64,
    /// Swaps in one pool, before another is made.
    per_pool: u64,
    /// One swap at least crosses so many ticks.
    deepest: u32,
    /// The share of swaps in pools at an extreme tick; a sample has few pools.
    at_the_edge: f64,
}

const FULL: Size = Size {
    v3: 100_000,
    pancake: 10_000,
    v4: 10_000,
    v2: 10_000,
    per_pool: 200,
    deepest: 50,
    at_the_edge: 0.05,
};
const QUICK: Size =
    Size { v3: 900, pancake: 300, v4: 300, v2: 200, per_pool: 60, deepest: 20, at_the_edge: 0.0 };

/// Of the swaps that succeed, these have to cross five ticks or more, be in either direction, ask for an output, be stopped by a
/// price limit, and go through a gap.
const DEEP_SHARE: f64 = 0.2;
const DIRECTION_SHARE: f64 = 0.25;
const EXACT_OUT_SHARE: f64 = 0.25;
const LIMITED_SHARE: f64 = 0.05;
const GAP_SHARE: f64 = 0.2;

#[derive(Debug, Default)]
struct Tally {
    pools: u64,
    swaps: u64,
    refused: u64,
    deep: u64,
    crossings: u64,
    deepest: u32,
    zero_for_one: u64,
    exact_out: u64,
    limited: u64,
    at_the_edge: u64,
    through_gaps: u64,
    changes: u64,
    ticks: u64,
    /// Logs that the book was told.
    followed: u64,
}

impl Tally {
    /// Enough of every kind.
    fn ensure_varied(&self, size: &Size) -> anyhow::Result<()> {
        for (kind, count, least) in [
            ("cross five ticks", self.deep, DEEP_SHARE),
            ("take token 0", self.zero_for_one, DIRECTION_SHARE),
            ("take token 1", self.swaps - self.zero_for_one, DIRECTION_SHARE),
            ("are exact out", self.exact_out, EXACT_OUT_SHARE),
            ("stop at a limit", self.limited, LIMITED_SHARE),
            ("go through a gap", self.through_gaps, GAP_SHARE),
            ("are at an extreme tick", self.at_the_edge, size.at_the_edge),
        ] {
            let share = count as f64 / self.swaps as f64;
            ensure!(count > 0 && share >= least, "only {share:.3} {kind}, below {least}");
        }
        ensure!(self.refused > 0, "none is refused");
        ensure!(self.deepest >= size.deepest, "none crosses {} ticks", size.deepest);
        Ok(())
    }
}

/// A real pool.
trait Exchange {
    fn state(&self) -> State;
    fn modify(&mut self, lower: i32, upper: i32, delta: i128) -> Result<Change, Failure>;
    fn swap(&mut self, order: &Order) -> Result<Outcome, Failure>;
    /// Compares all ticks, and answers how many.
    fn compare_ticks(&mut self, pool: &ConcentratedPool) -> anyhow::Result<u64>;
    /// Tells the book, where one follows it, what it logged meanwhile, and compares.
    fn tell(&mut self, _book: Option<&mut Book>) -> anyhow::Result<u64> {
        Ok(0)
    }
}

const PAIRS: [Charged; 2] = [
    Charged { name: "Uniswap V2", contract: FeeV2::UNISWAP, fee: Fee::UNISWAP_V2 },
    Charged {
        name: "V2 at PancakeSwap's 0.25 % (Uniswap's bytecode with the fee's numbers replaced)",
        contract: FeeV2::PANCAKESWAP,
        fee: match Fee::from_ppm(2_500) {
            Ok(fee) => fee,
            Err(_) => panic!("a fee below the whole"),
        },
    },
];

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let size = if args.quick { QUICK } else { FULL };
    let artifacts = Artifacts::install()?;
    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    let [manager, swaps, liquidity, token] = artifacts.manager_v4()?;
    let factory = artifacts.factory_v3()?;

    let mut v3 = Tally::default();
    while v3.swaps < size.v3 {
        run_v3(&mut random, &size, &factory, &token, &mut v3)
            .with_context(|| format!("pool {} of V3, seed {}", v3.pools, args.seed))?;
    }
    let pancake_pool = artifacts.pool_pancake()?;
    let mut pancake = Tally::default();
    while pancake.swaps < size.pancake {
        run_pancake(&mut random, &size, &pancake_pool, &token, &mut pancake)
            .with_context(|| format!("pool {} of PancakeSwap, seed {}", pancake.pools, args.seed))?;
    }
    let mut v4 = Tally::default();
    while v4.swaps < size.v4 {
        run_v4(&mut random, &size, [&manager, &swaps, &liquidity, &token], &mut v4)
            .with_context(|| format!("pool {} of V4, seed {}", v4.pools, args.seed))?;
    }
    let factory = artifacts.factory_v2()?;
    let mut v2 = PAIRS.map(|charged| (charged, pairs::Tally::default()));
    for (charged, tally) in &mut v2 {
        while tally.swaps < size.v2 {
            let most = size.per_pool.min(size.v2 - tally.swaps);
            pairs::run(&mut random, most, charged, [&factory, &token], tally).with_context(|| {
                format!("{} after {} swaps, seed {}", charged.name, tally.swaps, args.seed)
            })?;
        }
    }
    for (name, tally) in [("V3", &v3), ("PancakeSwap", &pancake), ("V4", &v4)] {
        tally.ensure_varied(&size).with_context(|| format!("the swaps of {name}: {tally:?}"))?;
    }
    let mut lines = lines("Uniswap V3", &v3);
    lines.extend(self::lines("PancakeSwap V3", &pancake));
    lines.extend(self::lines("Uniswap V4", &v4));
    for (charged, tally) in &v2 {
        lines.push(tally.line(charged.name)?);
    }
    let pairs: u64 = v2.iter().map(|(_, tally)| tally.swaps).sum();
    Ok(Report {
        checked: v3.swaps + pancake.swaps + v4.swaps + pairs,
        floor: size.v3 + size.pancake + size.v4 + PAIRS.len() as u64 * size.v2,
        skipped: 0,
        seed: args.seed,
        lines,
    })
}

fn lines(name: &str, tally: &Tally) -> Vec<String> {
    let Tally { pools, swaps, refused, deep, crossings, deepest, .. } = tally;
    let Tally { exact_out, limited, at_the_edge, through_gaps, changes, ticks, followed, .. } = tally;
    let [one_way, other_way] = [tally.zero_for_one, swaps - tally.zero_for_one];
    let mut lines = vec![
        format!(
            "{name}: {swaps} swaps in {pools} pools, amounts, price, tick and liquidity bit-equal; {refused} more \
             orders refused by both"
        ),
        format!(
            "  {deep} ({:.0} %) cross five ticks or more; {crossings} crossings, {deepest} at most in one swap",
            100.0 * *deep as f64 / *swaps as f64
        ),
        format!(
            "  {one_way} one way, {other_way} the other; {exact_out} exact out, {limited} stopped by a price limit, {through_gaps} through a gap without \
             liquidity, {at_the_edge} in pools at an extreme tick"
        ),
        format!(
            "  {changes} changes of liquidity followed by their logs, {ticks} ticks compared with the pools'"
        ),
    ];
    if *followed > 0 {
        lines.push(format!(
            "  {followed} of the pools' own logs decoded and followed: price, tick and liquidity the contracts' behind each block of them"
        ));
    }
    lines
}

fn run_v3(
    random: &mut ChaCha8Rng,
    size: &Size,
    factory: &Artifact,
    token: &Artifact,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let place = Place::of_v3(random);
    let pool = ConcentratedPool::new(Version::V3, SwapFee::of_lp(place.fee), place.spacing)?;
    let real = PoolV3::create(factory, token, place.fee, place.spacing, place.sqrt_price)?;
    let book = Some(Book::of(&real, &place)?);
    run_pool(random, size, &place, pool, (real, book), tally)
}

fn run_pancake(
    random: &mut ChaCha8Rng,
    size: &Size,
    pool: &Artifact,
    token: &Artifact,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let place = Place::of_pancake(random);
    let real = PoolV3::create_pancake(pool, token, place.fee, place.spacing, place.sqrt_price)?;
    let pool = ConcentratedPool::new(Version::V3, SwapFee::of_lp(place.fee), place.spacing)?;
    let book = Some(Book::of(&real, &place)?);
    run_pool(random, size, &place, pool, (real, book), tally)
}

fn run_v4(
    random: &mut ChaCha8Rng,
    size: &Size,
    artifacts: [&Artifact; 4],
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let place = Place::of_v4(random);
    let mut real = ManagerV4::create(artifacts, place.fee, place.spacing, place.sqrt_price)?;
    let [currency0, currency1] = real.tokens();
    let (fee, tick_spacing, hooks) = (place.fee, place.spacing, Default::default());
    let key = PoolKey { currency0, currency1, fee, tick_spacing, hooks };
    ensure!(key.id() == real.id(), "another identity than the manager's");
    let mut pool = key.pool()?;
    if let Some(packed) = place.protocol_fee {
        real.set_protocol_fee(packed)?;
        pool.apply(&PoolEvent::ProtocolFeeChanged(packed))?;
    }
    let fees = [Direction::OneForZero, Direction::ZeroForOne].map(|direction| pool.fee().pips(direction));
    run_pool(random, size, &place, pool, (WithFees { manager: real, fees }, None), tally)
}

/// The manager says in each swap what it charged.
struct WithFees {
    manager: ManagerV4,
    /// By `zero_for_one`.
    fees: [u32; 2],
}

fn run_pool(
    random: &mut ChaCha8Rng,
    size: &Size,
    place: &Place,
    mut pool: ConcentratedPool,
    (mut real, mut book): (impl Exchange, Option<Book>),
    tally: &mut Tally,
) -> anyhow::Result<()> {
    tally.pools += 1;
    pool.apply(&PoolEvent::Initialized(price(real.state())))?;
    let mut positions = Vec::new();
    for position in place.positions(random) {
        // At extreme prices some liquidity is worth more than the contract's integers hold.
        if let Ok(change) = real.modify(position.lower, position.upper, position.delta) {
            follow(&mut pool, change)?;
            positions.push(position);
        }
    }
    for count in 0..size.per_pool {
        if count % 8 == 7 && !positions.is_empty() {
            let index = random.random_range(0..positions.len());
            let position = &mut positions[index];
            let delta = position.another(random);
            if let Ok(change) = real.modify(position.lower, position.upper, delta) {
                position.delta += delta;
                follow(&mut pool, change)?;
                tally.changes += 1;
            }
        }
        let order = orders::order(random, &pool);
        compare(&mut pool, &mut real, &order, place, tally)
            .with_context(|| format!("{order:?} in {place:?}"))?;
        tally.followed += real.tell(book.as_mut()).context("following its logs")?;
    }
    tally.ticks += real.compare_ticks(&pool)?;
    if let Some(book) = &book {
        tally.ticks += real.compare_ticks(book.pool()?).context("the book")?;
    }
    Ok(())
}

fn follow(pool: &mut ConcentratedPool, change: Change) -> anyhow::Result<()> {
    let Change { lower, upper, delta } = change;
    pool.apply(&PoolEvent::LiquidityChanged { lower, upper, delta })?;
    Ok(())
}

fn compare(
    pool: &mut ConcentratedPool,
    real: &mut impl Exchange,
    order: &Order,
    place: &Place,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let direction = if order.zero_for_one { Direction::ZeroForOne } else { Direction::OneForZero };
    let limit = Some(order.sqrt_price_limit);
    let quoted = if order.is_exact_in {
        pool.exact_in(direction, order.amount, limit)
    } else {
        pool.exact_out(direction, order.amount, limit)
    };
    let (quote, outcome) = match (quoted, real.swap(order)) {
        (Ok(quote), Ok(outcome)) => (quote, outcome),
        (Err(_), Err(Failure::Reverted(_))) => {
            tally.refused += 1;
            return Ok(());
        }
        (quoted, outcome) => bail!("quoted {quoted:?}, the pool did {outcome:?}, from {:?}", pool.price()),
    };
    let state =
        State { sqrt_price: quote.price.sqrt_price, tick: quote.price.tick, liquidity: quote.liquidity };
    let [taken, given] = [I256::from_raw(quote.amount_in), -I256::from_raw(quote.amount_out)];
    let (amount0, amount1) = if order.zero_for_one { (taken, given) } else { (given, taken) };
    let expected = Outcome { amount0, amount1, state, ..outcome };
    ensure!(expected == outcome, "quoted {expected:?}, the pool did {outcome:?}");
    ensure!(real.state() == state, "quoted {state:?}, the storage holds {:?}", real.state());
    count(pool, order, &quote, place, tally)?;
    pool.apply(&PoolEvent::Swapped { price: price(outcome.state), liquidity: outcome.state.liquidity })?;
    Ok(())
}

fn count(
    pool: &ConcentratedPool,
    order: &Order,
    quote: &Quote,
    place: &Place,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let before = pool.price().context("a pool that swaps has a price")?.tick;
    let [low, high] = [before.min(quote.price.tick), before.max(quote.price.tick)];
    let between: Vec<_> = pool.ticks().filter(|tick| low < tick.index && tick.index <= high).collect();
    ensure!(between.len() == quote.crossings as usize, "{} ticks lie between, {quote:?}", between.len());
    let mut liquidity = pool.liquidity().min(quote.liquidity);
    let mut here = if order.zero_for_one { quote.liquidity } else { pool.liquidity() };
    for tick in &between {
        here = here.checked_add_signed(tick.liquidity_net).context("a negative liquidity")?;
        liquidity = liquidity.min(here);
    }
    tally.swaps += 1;
    tally.crossings += u64::from(quote.crossings);
    tally.deepest = tally.deepest.max(quote.crossings);
    tally.deep += u64::from(quote.crossings >= 5);
    tally.zero_for_one += u64::from(order.zero_for_one);
    tally.exact_out += u64::from(!order.is_exact_in);
    tally.limited += u64::from(quote.price.sqrt_price == order.sqrt_price_limit);
    tally.at_the_edge += u64::from(place.is_extreme);
    tally.through_gaps += u64::from(liquidity == 0 && quote.crossings > 0);
    Ok(())
}

fn price(state: State) -> PoolPrice {
    PoolPrice { sqrt_price: state.sqrt_price, tick: state.tick }
}

impl Exchange for PoolV3 {
    fn state(&self) -> State {
        self.state()
    }

    fn modify(&mut self, lower: i32, upper: i32, delta: i128) -> Result<Change, Failure> {
        self.modify(lower, upper, delta)
    }

    fn swap(&mut self, order: &Order) -> Result<Outcome, Failure> {
        self.swap(order)
    }

    fn compare_ticks(&mut self, pool: &ConcentratedPool) -> anyhow::Result<u64> {
        let mut count = 0;
        for tick in pool.ticks() {
            let theirs = self.tick(tick.index, pool.tick_spacing())?;
            let ours = Some((tick.liquidity_net, tick.liquidity_gross));
            ensure!(theirs == ours, "tick {}: {ours:?}, the pool has {theirs:?}", tick.index);
            count += 1;
        }
        let all = self.count_ticks(pool.tick_spacing());
        ensure!(all == count, "{count} ticks, the pool's bitmap has {all}");
        Ok(count as u64)
    }

    fn tell(&mut self, book: Option<&mut Book>) -> anyhow::Result<u64> {
        let Some(book) = book else { return Ok(0) };
        book.follow(self)
    }
}

impl Exchange for WithFees {
    fn state(&self) -> State {
        self.manager.state()
    }

    fn modify(&mut self, lower: i32, upper: i32, delta: i128) -> Result<Change, Failure> {
        self.manager.modify(lower, upper, delta)
    }

    fn swap(&mut self, order: &Order) -> Result<Outcome, Failure> {
        let (outcome, fee) = self.manager.swap(order)?;
        assert_eq!(fee, self.fees[usize::from(order.zero_for_one)], "the fee that the manager charged");
        Ok(outcome)
    }

    fn compare_ticks(&mut self, pool: &ConcentratedPool) -> anyhow::Result<u64> {
        for tick in pool.ticks() {
            let theirs = self.manager.tick(tick.index);
            let ours = (tick.liquidity_net, tick.liquidity_gross);
            ensure!(theirs == ours, "tick {}: {ours:?}, the pool has {theirs:?}", tick.index);
        }
        Ok(pool.ticks().count() as u64)
    }
}
