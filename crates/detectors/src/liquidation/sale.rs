//! The sale of what was seized: through one pool, or through two by way of a token between, whatever they compute.

use std::cmp::{Ordering, Reverse};

use alloy_primitives::{Address, B256, U256};
use arrayvec::ArrayVec;
use headwater_amm::{Bounded, Direction, Fee, Hop, LOG_MARGIN, MixedHop};
use headwater_events::{MixedStep, Protocol, SaleStep, SwapStep};
use headwater_market::{ConcentratedId, ConcentratedKind, MarketSnapshot, PoolId};
use rustc_hash::FxHashMap;

/// Pools at most that a sale goes through.
const MOST_STEPS: usize = 2;

/// Swaps that are looked at for one sale. Anybody may make pools, and a pool at an absurd price cannot be told from a good one
/// before it is asked.
const MOST_SWAPS: u32 = 256;

/// Rounds of a contract's loop that one of them takes: ticks, and words of a bitmap.
const MOST_ROUNDS: u32 = 256;

/// How an amount becomes another token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sale {
    /// None where there is nothing to swap.
    pub(super) steps: Vec<SaleStep>,
    /// Initialised ticks that they go over.
    pub(super) crossings: u32,
    /// What is had in the end.
    pub(super) amount_out: U256,
    /// Whether that is what was wanted.
    pub(super) is_sold: bool,
    /// Swaps that were left out, and might have led to more.
    pub(super) unsearched: u32,
}

/// Which pools there are between which tokens. What a pool gives is looked up when it is asked.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// How many pools of either table are known here.
    known: [usize; 2],
    /// By token: those that it shares a pool with.
    neighbours: FxHashMap<Address, Vec<Address>>,
    /// By pair, the lower address first.
    by_pair: FxHashMap<[Address; 2], Vec<AnyPool>>,
}

#[derive(Clone, Copy, Debug)]
enum AnyPool {
    Plain(PoolId),
    Concentrated(ConcentratedId),
}

/// A pool, and what goes in.
#[derive(Debug)]
struct Candidate<'a> {
    name: Name,
    protocol: Protocol,
    hop: MixedHop<'a>,
    tokens: [Address; 2],
    /// Natural logarithm of what a unit yields at most.
    log_rate: f64,
}

/// What tells a pool from all others: its address, and its id where many share that.
type Name = (Address, Option<B256>);

/// All pools from one token to the next, to the end.
#[derive(Debug)]
struct Road<'a> {
    legs: ArrayVec<Vec<Candidate<'a>>, MOST_STEPS>,
    /// What it seems to yield: decides what is looked at first, and nothing else.
    estimate: f64,
}

/// A swap that was looked at.
#[derive(Clone, Copy, Debug)]
struct Step<'a> {
    candidate: &'a Candidate<'a>,
    amount_in: u128,
    amount_out: u128,
    crossings: u32,
}

type Steps<'a> = ArrayVec<Step<'a>, MOST_STEPS>;

/// The best sale so far.
struct Search<'a> {
    amount: u128,
    best: Option<Steps<'a>>,
    swaps_left: u32,
    unsearched: u32,
}

impl Sale {
    /// What was seized stays what it is.
    pub(super) fn none(seized: U256) -> Self {
        Self { steps: Vec::new(), crossings: 0, amount_out: seized, is_sold: false, unsearched: 0 }
    }

    /// What each of its pools computes.
    pub(super) fn protocols(&self) -> impl Iterator<Item = Protocol> {
        self.steps.iter().map(|step| step.step.protocol)
    }
}

impl Routes {
    /// Takes note of the pools that are new. A table that shrank is another table.
    pub(super) fn learn(&mut self, market: &MarketSnapshot) {
        let now = [market.pools.len(), market.concentrated.len()];
        if now[0] < self.known[0] || now[1] < self.known[1] {
            *self = Self::default();
        }
        for (id, meta, _) in market.pools.iter().skip(self.known[0]) {
            self.insert(AnyPool::Plain(id), [meta.token0, meta.token1]);
        }
        for (id, meta, _) in market.concentrated.iter().skip(self.known[1]) {
            self.insert(AnyPool::Concentrated(id), [meta.token0, meta.token1]);
        }
        self.known = now;
    }

    fn insert(&mut self, pool: AnyPool, [token0, token1]: [Address; 2]) {
        let pools = self.by_pair.entry([token0, token1]).or_default();
        if pools.is_empty() {
            self.neighbours.entry(token0).or_default().push(token1);
            self.neighbours.entry(token1).or_default().push(token0);
        }
        pools.push(pool);
    }

    /// The sale that yields most; of equals the one through fewer pools, then the one that has more of the token between, then the one
    /// through lower addresses and ids.
    ///
    /// No swap yields more than its pool's price says. What cannot come up to the best so far by that is not looked at, and nothing is
    /// lost by it; what is left out beyond that, because a swap takes too many rounds or there were too many swaps, is counted.
    pub(super) fn sell(&self, market: &MarketSnapshot, from: Address, to: Address, amount: U256) -> Sale {
        if from == to {
            return Sale { is_sold: true, ..Sale::none(amount) };
        }
        let none = Sale::none(amount);
        // More than the contracts of any of these pools count with.
        let Ok(amount) = u128::try_from(amount) else { return none };
        let mut roads = self.roads(market, from, to, amount);
        // The roads come in the order of the tables, which a stable sort keeps.
        roads.sort_by(|a, b| b.estimate.total_cmp(&a.estimate));
        let mut search = Search { amount, best: None, swaps_left: MOST_SWAPS, unsearched: 0 };
        for road in &roads {
            match &road.legs[..] {
                [first] => search.look_at(first),
                [first, second] => search.look_through(first, second),
                _ => {}
            }
        }
        search.into_sale(none)
    }

    fn roads<'a>(
        &self,
        market: &'a MarketSnapshot,
        from: Address,
        to: Address,
        amount: u128,
    ) -> Vec<Road<'a>> {
        let of = |token: &Address| self.neighbours.get(token).map_or(&[][..], Vec::as_slice);
        // Whichever end has fewer neighbours is asked.
        let (few, other) = if of(&from).len() <= of(&to).len() { (from, to) } else { (to, from) };
        let between =
            of(&few).iter().copied().filter(|token| self.by_pair.contains_key(&pair(*token, other)));
        let direct = ArrayVec::from_iter([self.candidates(market, from, to)]);
        let two = between.map(|token| {
            ArrayVec::from([self.candidates(market, from, token), self.candidates(market, token, to)])
        });
        std::iter::once(direct).chain(two).filter_map(|legs| Road::new(legs, amount)).collect()
    }

    /// The pools of two tokens that may be quoted.
    fn candidates<'a>(&self, market: &'a MarketSnapshot, from: Address, to: Address) -> Vec<Candidate<'a>> {
        let pools = self.by_pair.get(&pair(from, to)).into_iter().flatten();
        pools.filter_map(|pool| Candidate::new(market, *pool, [from, to])).collect()
    }
}

fn pair(one: Address, other: Address) -> [Address; 2] {
    [one.min(other), one.max(other)]
}

impl<'a> Candidate<'a> {
    fn new(market: &'a MarketSnapshot, pool: AnyPool, tokens: [Address; 2]) -> Option<Self> {
        let zero_for_one = tokens[0] < tokens[1];
        let (name, protocol, hop) = match pool {
            AnyPool::Plain(id) => {
                let (meta, held) = (market.pools.meta(id)?, market.pools.quoted(id)?);
                let hop = Hop::new(held.reserve0, held.reserve1, Fee::from_ppm(meta.fee_ppm).ok()?).ok()?;
                let hop = if zero_for_one { hop } else { hop.reversed() };
                ((meta.address, None), Protocol::UniswapV2, MixedHop::ConstantProduct(hop))
            }
            AnyPool::Concentrated(id) => {
                let (meta, pool) = (market.concentrated.meta(id)?, market.quoted_concentrated(id)?);
                let direction = if zero_for_one { Direction::ZeroForOne } else { Direction::OneForZero };
                let hop = MixedHop::Concentrated(pool, direction);
                match meta.kind {
                    ConcentratedKind::V3 => ((meta.address, None), Protocol::UniswapV3, hop),
                    ConcentratedKind::V4 { id } => ((meta.address, Some(id)), Protocol::UniswapV4, hop),
                }
            }
        };
        Some(Self { name, protocol, hop, tokens, log_rate: hop.log_rate()? })
    }

    /// What an amount would yield if its range had no end.
    fn estimate(&self, amount: f64) -> f64 {
        let depth = self.hop.virtual_reserve_in().unwrap_or(0.0);
        amount * self.log_rate.exp() / (1.0 + amount / depth)
    }
}

impl<'a> Road<'a> {
    /// `None` where a step has no pool.
    fn new(mut legs: ArrayVec<Vec<Candidate<'a>>, MOST_STEPS>, amount: u128) -> Option<Self> {
        let mut estimate = amount as f64;
        for leg in &mut legs {
            let about = estimate;
            leg.sort_by(|a, b| b.estimate(about).total_cmp(&a.estimate(about)));
            estimate = leg.first()?.estimate(about);
        }
        Some(Self { legs, estimate })
    }
}

impl<'a> Search<'a> {
    /// Each pool by itself.
    fn look_at(&mut self, leg: &'a [Candidate<'a>]) {
        for candidate in leg {
            if self.may_be_best(self.amount, candidate.log_rate)
                && let Some(step) = self.swap(candidate, self.amount)
            {
                self.offer([step].into_iter().collect());
            }
        }
    }

    /// Each pool of the second leg behind the pool of the first that serves it best: a pool yields more for more, so that is the one
    /// with the greatest output that the second takes.
    fn look_through(&mut self, first: &'a [Candidate<'a>], second: &'a [Candidate<'a>]) {
        let rate = second.iter().map(|candidate| candidate.log_rate).fold(f64::NEG_INFINITY, f64::max);
        let mut steps = Vec::new();
        for candidate in first {
            if self.may_be_best(self.amount, candidate.log_rate + rate) {
                steps.extend(self.swap(candidate, self.amount));
            }
        }
        steps.sort_by_key(|step| (Reverse(step.amount_out), step.candidate.name));
        for candidate in second {
            for step in &steps {
                if !self.may_be_best(step.amount_out, candidate.log_rate) {
                    break;
                }
                if let Some(next) = self.swap(candidate, step.amount_out) {
                    self.offer([*step, next].into());
                    break;
                }
            }
        }
    }

    /// Whether so much at such a rate comes up to the best, give or take what floating point may lose.
    fn may_be_best(&self, amount: u128, log_rate: f64) -> bool {
        let best = self.best.as_ref().map_or(0, amount_out);
        best == 0 || (amount as f64).ln() + log_rate >= (best as f64).ln() - LOG_MARGIN
    }

    /// `None` where the pool does not take it, or gives nothing for it, or where that is not looked at.
    fn swap(&mut self, candidate: &'a Candidate<'a>, amount_in: u128) -> Option<Step<'a>> {
        let bounded = match self.swaps_left.checked_sub(1) {
            Some(left) => {
                self.swaps_left = left;
                candidate.hop.quote_within(amount_in, MOST_ROUNDS)
            }
            None => Bounded::TooLong,
        };
        match bounded {
            Bounded::Through { amount_out, crossings } if amount_out > 0 => {
                Some(Step { candidate, amount_in, amount_out, crossings })
            }
            Bounded::Through { .. } | Bounded::Refused => None,
            Bounded::TooLong => {
                self.unsearched = self.unsearched.saturating_add(1);
                None
            }
        }
    }

    fn offer(&mut self, steps: Steps<'a>) {
        if self.best.as_ref().is_none_or(|best| order(&steps, best).is_gt()) {
            self.best = Some(steps);
        }
    }

    fn into_sale(self, none: Sale) -> Sale {
        let Self { best, unsearched, .. } = self;
        let Some(best) = best else { return Sale { unsearched, ..none } };
        Sale {
            amount_out: U256::from(amount_out(&best)),
            crossings: best.iter().map(|step| step.crossings).sum(),
            steps: best.iter().map(Step::told).collect(),
            is_sold: true,
            unsearched,
        }
    }
}

impl Step<'_> {
    fn told(&self) -> SaleStep {
        let Candidate { name: (pool, pool_id), protocol, hop, tokens: [token_in, token_out], .. } =
            *self.candidate;
        let [amount_in, amount_out] = [self.amount_in, self.amount_out].map(U256::from);
        let swap = SwapStep { pool, token_in, token_out, amount_in, amount_out };
        let zero_for_one = token_in < token_out;
        SaleStep {
            step: MixedStep { protocol, pool_id, zero_for_one, swap },
            price_impact_ppm: hop.price_impact_ppm(self.amount_in, self.amount_out).unwrap_or(0),
        }
    }
}

fn amount_out(steps: &Steps<'_>) -> u128 {
    steps.last().map_or(0, |step| step.amount_out)
}

/// The greater is the better; no two ways are equal.
fn order(one: &Steps<'_>, other: &Steps<'_>) -> Ordering {
    let key = |steps: &Steps<'_>| {
        let between = steps.first().map_or(0, |step| step.amount_out);
        let names: Vec<Name> = steps.iter().map(|step| step.candidate.name).collect();
        (amount_out(steps), Reverse(steps.len()), between, Reverse(names))
    };
    key(one).cmp(&key(other))
}
