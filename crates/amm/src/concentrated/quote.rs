use alloy_primitives::U256;

use super::pool::{ConcentratedPool, PoolPrice};
use super::swap_math::{Step, Terms, Version, WHOLE_FEE};
use super::tick_math::{MAX_SQRT_PRICE, MAX_TICK, MIN_SQRT_PRICE, MIN_TICK, sqrt_price, tick};
use super::ticks::Next;
use crate::ConcentratedError;

/// Which token goes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Token 0 in, token 1 out: the price falls.
    ZeroForOne,
    /// Token 1 in, token 0 out: the price rises.
    OneForZero,
}

/// What a swap does, to the wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// What the pool takes, the fee included. Less than asked for where the price limit, or the end of all liquidity, came first.
    pub amount_in: U256,
    /// What the pool gives.
    pub amount_out: U256,
    /// Where it stands afterwards.
    pub price: PoolPrice,
    /// Of the range in which it stands afterwards.
    pub liquidity: u128,
    /// How many initialised ticks the price went over.
    pub crossings: u32,
}

/// The last step of a swap as numbers that rank what lies near by, never amounts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastStep {
    /// Virtual reserve of the token that goes in, where the swap ends.
    pub(crate) virtual_in: f64,
    /// Of the one that comes out.
    pub(crate) virtual_out: f64,
    /// What the fee leaves of the input.
    pub(crate) keep: f64,
    /// The fraction of a unit that is lost where the fee is taken.
    pub(crate) fee_rest: f64,
    /// The fraction of a unit that is lost where the output is rounded.
    pub(crate) rest: f64,
    /// How far the input without the fee may change, down and up, for the step to stay the last.
    pub(crate) reach: (f64, f64),
}

/// Where a swap in one direction passes. Swaps of sizes near one another need not all begin at the pool's price: up to the last place
/// that both pass, they are the same, rounding included.
#[derive(Clone, Debug)]
pub(crate) struct Path<'a> {
    pool: &'a ConcentratedPool,
    direction: Direction,
    /// The first is where the pool stands.
    places: Vec<Place>,
}

/// Where a swap is before a round of the contract's loop, and what it has moved until then.
#[derive(Clone, Copy, Debug)]
struct Place {
    amount_in: U256,
    amount_out: U256,
    price: PoolPrice,
    liquidity: u128,
    crossings: u32,
}

/// Rounds of the contract's loop that a quote on a [`Path`] takes at most, behind the last place that is known: a swap that takes more
/// is not looked at. A round is a tick, or a word of the bitmap: with a tick spacing of 1 a word is 2.6 % of the price. Whoever makes a
/// pool chooses how many a swap takes.
const MOST_ROUNDS: u32 = 128;

/// One that is under way.
struct Swap<'a> {
    pool: &'a ConcentratedPool,
    terms: Terms,
    is_exact_in: bool,
    limit: U256,
    /// Of what was asked for.
    left: U256,
    /// Of the other token.
    calculated: U256,
    price: PoolPrice,
    liquidity: u128,
    crossings: u32,
}

impl Direction {
    pub(super) fn is_zero_for_one(self) -> bool {
        self == Self::ZeroForOne
    }
}

impl ConcentratedPool {
    /// What comes out for `amount_in`: a swap of V3's `UniswapV3Pool.sol` or V4's `Pool.sol`, to the wei.
    ///
    /// Without a limit (the square root of a price, with 96 bits after the point) the swap goes on as long as there is
    /// liquidity, as a router's does.
    ///
    /// # Errors
    /// Whatever the contract reverts on.
    pub fn exact_in(
        &self,
        direction: Direction,
        amount_in: U256,
        sqrt_price_limit: Option<U256>,
    ) -> Result<Quote, ConcentratedError> {
        Swap::new(self, direction, true, amount_in, sqrt_price_limit)?.run()
    }

    /// As [`Self::exact_in`] without a limit, if it takes no more than so many rounds of the contract's loop: ticks, and words of the
    /// bitmap. `None` where it takes more.
    pub(crate) fn exact_in_within(
        &self,
        direction: Direction,
        amount_in: U256,
        most_rounds: u32,
    ) -> Result<Option<Quote>, ConcentratedError> {
        let mut swap = Swap::new(self, direction, true, amount_in, None)?;
        for _ in 0..most_rounds {
            swap.round()?;
            if swap.is_through() {
                let quote = swap.quote(amount_in);
                return check_width(swap.terms.version, &quote).map(|()| Some(quote));
            }
        }
        Ok(None)
    }

    /// What goes in for `amount_out`. Where the pool does not hold that much, what it does give is quoted, as the contract does:
    /// the caller compares.
    ///
    /// # Errors
    /// Whatever the contract reverts on.
    pub fn exact_out(
        &self,
        direction: Direction,
        amount_out: U256,
        sqrt_price_limit: Option<U256>,
    ) -> Result<Quote, ConcentratedError> {
        if self.fee().pips(direction) >= WHOLE_FEE {
            return Err(ConcentratedError::FeeTooHigh(self.fee().pips(direction)));
        }
        Swap::new(self, direction, false, amount_out, sqrt_price_limit)?.run()
    }

    /// All that can be swapped from one price to another, where the first tick on the way is. It may be more than one swap of V4 can
    /// ask for: a wide range ends far beyond that, and is there nevertheless.
    pub(super) fn walk(
        &self,
        direction: Direction,
        price: PoolPrice,
        liquidity: u128,
        end: U256,
    ) -> Option<Quote> {
        let swap = Swap {
            pool: self,
            terms: Terms::of(self, direction),
            is_exact_in: true,
            limit: end,
            // More than any range can take.
            left: U256::MAX >> 1,
            calculated: U256::ZERO,
            price,
            liquidity,
            crossings: 0,
        };
        swap.go().ok()
    }
}

impl<'a> Path<'a> {
    /// The places that a swap of this input passes.
    pub(crate) fn new(pool: &'a ConcentratedPool, direction: Direction, amount_in: u128) -> Self {
        let mut path = Self { pool, direction, places: Vec::new() };
        let Some(mut swap) = path.begin(true, U256::from(amount_in.max(1))) else { return path };
        for _ in 0..MOST_ROUNDS {
            path.places.push(swap.place(U256::from(amount_in.max(1))));
            if swap.round().is_err() || swap.is_through() {
                break;
            }
        }
        path
    }

    /// As [`ConcentratedPool::exact_in`] without a limit; `None` also where it takes too many rounds.
    pub(crate) fn exact_in(&self, amount_in: u128) -> Option<Quote> {
        self.quote(true, U256::from(amount_in))
    }

    /// As [`ConcentratedPool::exact_out`] without a limit; `None` also where it takes too many rounds.
    pub(crate) fn exact_out(&self, amount_out: u128) -> Option<Quote> {
        self.quote(false, U256::from(amount_out))
    }

    /// How a swap ends; `None` where it is refused, ends in a gap, or takes too many rounds.
    pub(crate) fn last_step(&self, amount_in: u128) -> Option<LastStep> {
        self.begin(true, U256::from(amount_in))?.last_step()
    }

    fn quote(&self, is_exact_in: bool, amount: U256) -> Option<Quote> {
        let mut swap = self.begin(is_exact_in, amount)?;
        for _ in 0..MOST_ROUNDS {
            swap.round().ok()?;
            if swap.is_through() {
                let quote = swap.quote(amount);
                return check_width(swap.terms.version, &quote).is_ok().then_some(quote);
            }
        }
        None
    }

    /// At the last place that a swap so large goes beyond.
    fn begin(&self, is_exact_in: bool, amount: U256) -> Option<Swap<'a>> {
        let mut swap = Swap::new(self.pool, self.direction, is_exact_in, amount, None).ok()?;
        let moved = |place: &Place| if is_exact_in { place.amount_in } else { place.amount_out };
        let passed = self.places.partition_point(|place| moved(place) < amount);
        if let Some(place) = passed.checked_sub(1).and_then(|last| self.places.get(last)) {
            swap.left = amount - moved(place);
            swap.calculated = if is_exact_in { place.amount_out } else { place.amount_in };
            (swap.price, swap.liquidity, swap.crossings) = (place.price, place.liquidity, place.crossings);
        }
        Some(swap)
    }
}

impl<'a> Swap<'a> {
    fn new(
        pool: &'a ConcentratedPool,
        direction: Direction,
        is_exact_in: bool,
        amount: U256,
        limit: Option<U256>,
    ) -> Result<Self, ConcentratedError> {
        let price = pool.price().ok_or(ConcentratedError::NotInitialized)?;
        if amount.is_zero() {
            return Err(ConcentratedError::ZeroAmount);
        }
        // An `int256` that is not negative.
        if amount.bit(255) {
            return Err(ConcentratedError::Overflow);
        }
        let zero_for_one = direction.is_zero_for_one();
        let limit = match limit {
            Some(limit) => check_limit(limit, price.sqrt_price, zero_for_one)?,
            None if zero_for_one => check_limit(MIN_SQRT_PRICE + U256::ONE, price.sqrt_price, true)?,
            None => check_limit(MAX_SQRT_PRICE - U256::ONE, price.sqrt_price, false)?,
        };
        let terms = Terms::of(pool, direction);
        let (calculated, liquidity) = (U256::ZERO, pool.liquidity());
        Ok(Self { pool, terms, is_exact_in, limit, left: amount, calculated, price, liquidity, crossings: 0 })
    }

    /// What the contract's integers hold.
    fn run(self) -> Result<Quote, ConcentratedError> {
        let version = self.terms.version;
        let quote = self.go()?;
        check_width(version, &quote)?;
        Ok(quote)
    }

    /// At least once, since a limit is ahead of the price and an amount is not zero; and where the price stands at a tick that
    /// the way leads over, just that tick is crossed.
    fn go(mut self) -> Result<Quote, ConcentratedError> {
        let asked = self.left;
        loop {
            self.round()?;
            if self.is_through() {
                return Ok(self.quote(asked));
            }
        }
    }

    fn round(&mut self) -> Result<(), ConcentratedError> {
        if self.liquidity == 0 { self.leap() } else { self.step() }
    }

    fn is_through(&self) -> bool {
        self.left.is_zero() || self.price.sqrt_price == self.limit
    }

    fn quote(&self, asked: U256) -> Quote {
        let used = asked - self.left;
        let (amount_in, amount_out) =
            if self.is_exact_in { (used, self.calculated) } else { (self.calculated, used) };
        let Self { price, liquidity, crossings, .. } = *self;
        Quote { amount_in, amount_out, price, liquidity, crossings }
    }

    /// Of a swap by its input.
    fn place(&self, asked: U256) -> Place {
        let Quote { amount_in, amount_out, price, liquidity, crossings } = self.quote(asked);
        Place { amount_in, amount_out, price, liquidity, crossings }
    }

    fn last_step(mut self) -> Option<LastStep> {
        for _ in 0..MOST_ROUNDS {
            let (start, left, liquidity) = (self.price, self.left, self.liquidity);
            if liquidity == 0 {
                self.leap().ok()?;
                if self.price.sqrt_price == self.limit {
                    return None;
                }
                continue;
            }
            self.step().ok()?;
            if self.left.is_zero() {
                let next = self.pool.table().next_within_word(start.tick, self.terms.zero_for_one);
                let end = self.nearer(price_at(&next));
                let way = [start.sqrt_price, self.price.sqrt_price, end];
                return Some(self.terms.describe(way, liquidity, left));
            }
            if self.price.sqrt_price == self.limit {
                return None;
            }
        }
        None
    }

    /// One round of the contract's loop.
    fn step(&mut self) -> Result<(), ConcentratedError> {
        let zero_for_one = self.terms.zero_for_one;
        let next = self.pool.table().next_within_word(self.price.tick, zero_for_one);
        let next_price = price_at(&next);
        let step = self.compute(self.nearer(next_price))?;
        let start = self.price.sqrt_price;
        self.take(&step)?;
        if step.sqrt_price == next_price {
            self.arrive(&next)
        } else {
            // A swap that begins at a tick that was crossed downwards and moves nothing stays below it.
            if step.sqrt_price != start {
                self.price.tick = tick(step.sqrt_price);
            }
            Ok(())
        }
    }

    /// All the rounds of the contract's loop that lead through a gap: without liquidity nothing is swapped or rounded.
    fn leap(&mut self) -> Result<(), ConcentratedError> {
        let zero_for_one = self.terms.zero_for_one;
        let found = self.pool.table().next(self.price.tick, zero_for_one);
        let last = if zero_for_one { MIN_TICK } else { MAX_TICK };
        let next = Next { index: found.map_or(last, |tick| tick.index), tick: found };
        let next_price = price_at(&next);
        let target = self.nearer(next_price);
        self.price.sqrt_price = target;
        if target == next_price {
            return self.arrive(&next);
        }
        // The limit. Where a word of the bitmap ends just there, the contract has arrived at a tick.
        let at = tick(target);
        let is_end = zero_for_one && self.pool.table().is_first_of_word(at) && sqrt_price(at) == target;
        self.price.tick = if is_end { at - 1 } else { at };
        Ok(())
    }

    fn arrive(&mut self, next: &Next<'_>) -> Result<(), ConcentratedError> {
        let zero_for_one = self.terms.zero_for_one;
        if let Some(tick) = next.tick {
            let net = if zero_for_one { -tick.liquidity_net } else { tick.liquidity_net };
            self.liquidity =
                self.liquidity.checked_add_signed(net).ok_or(ConcentratedError::LiquidityOutOfBounds)?;
            self.crossings += 1;
        }
        let index = next.index.clamp(MIN_TICK, MAX_TICK);
        self.price.tick = if zero_for_one { index - 1 } else { index };
        Ok(())
    }

    fn compute(&self, target: U256) -> Result<Step, ConcentratedError> {
        let (price, liquidity) = (self.price.sqrt_price, self.liquidity);
        if self.is_exact_in {
            self.terms.step_in(price, target, liquidity, self.left)
        } else {
            self.terms.step_out(price, target, liquidity, self.left)
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), ConcentratedError> {
        let (used, other) = if self.is_exact_in {
            (step.amount_in, step.amount_out)
        } else {
            (step.amount_out, step.amount_in)
        };
        self.left = self.left.checked_sub(used).ok_or(ConcentratedError::Overflow)?;
        self.calculated = self.calculated.checked_add(other).ok_or(ConcentratedError::Overflow)?;
        self.price.sqrt_price = step.sqrt_price;
        Ok(())
    }

    fn nearer(&self, next_price: U256) -> U256 {
        if self.terms.zero_for_one { next_price.max(self.limit) } else { next_price.min(self.limit) }
    }
}

/// V3 counts in `int256`, V4 in `int128`.
fn check_width(version: Version, quote: &Quote) -> Result<(), ConcentratedError> {
    let bits = match version {
        Version::V3 => 255,
        Version::V4 => 127,
    };
    // The input is a negative number of the contract's, of which there is one more.
    let is_over = quote.amount_in > U256::ONE << bits || quote.amount_out >= U256::ONE << bits;
    if is_over { Err(ConcentratedError::Overflow) } else { Ok(()) }
}

fn price_at(next: &Next<'_>) -> U256 {
    match next.tick {
        Some(tick) => tick.sqrt_price,
        None => sqrt_price(next.index.clamp(MIN_TICK, MAX_TICK)),
    }
}

fn check_limit(limit: U256, price: U256, zero_for_one: bool) -> Result<U256, ConcentratedError> {
    let is_ahead = if zero_for_one { limit < price } else { limit > price };
    let is_price = limit > MIN_SQRT_PRICE && limit < MAX_SQRT_PRICE;
    if is_ahead && is_price { Ok(limit) } else { Err(ConcentratedError::PriceLimit) }
}
