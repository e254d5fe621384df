use alloy_primitives::U256;

use super::quote::Direction;
use super::swap_math::{Version, WHOLE_FEE};
use super::tick_math::{MAX_SQRT_PRICE, MAX_TICK, MIN_SQRT_PRICE, MIN_TICK};
use super::ticks::{Tick, Ticks};
use crate::ConcentratedError;

/// Everything about a pool that decides what a swap gives. Fee growth does not.
///
/// A clone shares the ticks with the original; a change to one of them copies the word of up to 256 ticks that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConcentratedPool {
    version: Version,
    fee: SwapFee,
    /// `None` before the pool is initialised.
    price: Option<PoolPrice>,
    /// Of the range that the price is in.
    liquidity: u128,
    ticks: Ticks,
}

/// What a pool takes of the input, in hundredths of a basis point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwapFee {
    /// What the liquidity providers get; of V3 the whole fee, a part of which is the protocol's without changing any amount.
    pub lp: u32,
    /// What the protocol of V4 gets on top, for token 0 in and for token 1 in.
    pub protocol: [u32; 2],
}

/// Where a pool stands. Both are needed: a swap that ends exactly at a tick on its way down leaves the tick below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolPrice {
    /// The square root of token 1 per token 0, in smallest units, with 96 bits after the point.
    pub sqrt_price: U256,
    /// As the contract stores it.
    pub tick: i32,
}

/// What a log says about a pool, whatever its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolEvent {
    /// `Initialize`.
    Initialized(PoolPrice),
    /// `Swap`: where the pool stands afterwards.
    Swapped {
        /// Afterwards.
        price: PoolPrice,
        /// Afterwards.
        liquidity: u128,
    },
    /// `Mint` and `ModifyLiquidity`, negative for `Burn`: a change, so that it must be applied once.
    LiquidityChanged {
        /// Where the range begins.
        lower: i32,
        /// Where it ends.
        upper: i32,
        /// By how much.
        delta: i128,
    },
    /// `ProtocolFeeUpdated` of V4: twelve bits for each direction.
    ProtocolFeeChanged(u32),
}

/// Takes back one event; the last one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUndo(Before);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    State(Option<PoolPrice>, u128),
    Liquidity { lower: i32, upper: i32, delta: i128 },
    Protocol([u32; 2]),
}

impl SwapFee {
    /// A fee of V3, or of V4 without a protocol fee.
    pub const fn of_lp(lp: u32) -> Self {
        Self { lp, protocol: [0; 2] }
    }

    /// With V4's protocol fee as the contract stores it: the lower twelve bits for token 0 in, the next for token 1 in.
    pub const fn with_protocol(self, packed: u32) -> Self {
        Self { protocol: [packed & 0xfff, (packed >> 12) & 0xfff], ..self }
    }

    /// V4's protocol fee as the contract stores it.
    pub const fn packed_protocol(&self) -> u32 {
        self.protocol[0] | self.protocol[1] << 12
    }

    /// What is taken in one direction: `calculateSwapFee` of V4's `ProtocolFeeLibrary.sol`.
    pub const fn pips(&self, direction: Direction) -> u32 {
        let protocol = match direction {
            Direction::ZeroForOne => self.protocol[0],
            Direction::OneForZero => self.protocol[1],
        };
        let both = protocol as u64 * self.lp as u64 / WHOLE_FEE as u64;
        protocol + self.lp - both as u32
    }
}

impl ConcentratedPool {
    /// A pool that has been created and not initialised.
    ///
    /// # Errors
    /// A tick spacing or a fee that no such pool can have.
    pub fn new(version: Version, fee: SwapFee, tick_spacing: i32) -> Result<Self, ConcentratedError> {
        // `enableFeeAmount` of V3's factory takes less than 16384, `initialize` of V4's manager up to 32767.
        if !(1..=i32::from(i16::MAX)).contains(&tick_spacing) {
            return Err(ConcentratedError::TickSpacing(tick_spacing));
        }
        let is_too_high = match version {
            Version::V3 => fee.lp >= WHOLE_FEE,
            Version::V4 => fee.lp > WHOLE_FEE,
        };
        if is_too_high {
            return Err(ConcentratedError::FeeTooHigh(fee.lp));
        }
        Ok(Self { version, fee, price: None, liquidity: 0, ticks: Ticks::new(tick_spacing) })
    }

    /// A pool as it was read from its contract: price, active liquidity, and each initialised tick with its net and its
    /// gross liquidity.
    ///
    /// # Errors
    /// As [`ConcentratedPool::new`]; and parts that are not of one pool, because the net liquidity up to the price is not
    /// the active one.
    pub fn from_parts(
        version: Version,
        fee: SwapFee,
        tick_spacing: i32,
        price: PoolPrice,
        liquidity: u128,
        ticks: impl IntoIterator<Item = (i32, i128, u128)>,
    ) -> Result<Self, ConcentratedError> {
        let mut pool = Self::new(version, fee, tick_spacing)?;
        pool.apply(&PoolEvent::Initialized(price))?;
        let (mut active, mut whole) = (0i128, 0i128);
        for (index, net, gross) in ticks {
            pool.check_tick(index)?;
            let gross = i128::try_from(gross).map_err(|_| ConcentratedError::LiquidityOutOfBounds)?;
            if gross == 0 || pool.ticks.get(index).is_some() {
                return Err(ConcentratedError::Inconsistent);
            }
            pool.ticks.change(index, gross, net)?;
            let reached = if index <= price.tick { net } else { 0 };
            active = active.checked_add(reached).ok_or(ConcentratedError::LiquidityOutOfBounds)?;
            whole = whole.checked_add(net).ok_or(ConcentratedError::LiquidityOutOfBounds)?;
        }
        if u128::try_from(active) != Ok(liquidity) || whole != 0 {
            return Err(ConcentratedError::Inconsistent);
        }
        pool.liquidity = liquidity;
        Ok(pool)
    }

    /// Which contract's arithmetic.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What is taken of the input.
    pub fn fee(&self) -> SwapFee {
        self.fee
    }

    /// Ticks that may be initialised are multiples of it.
    pub fn tick_spacing(&self) -> i32 {
        self.ticks.spacing()
    }

    /// `None` before the pool is initialised.
    pub fn price(&self) -> Option<PoolPrice> {
        self.price
    }

    /// Of the range that the price is in.
    pub fn liquidity(&self) -> u128 {
        self.liquidity
    }

    /// All initialised ticks, upwards.
    pub fn ticks(&self) -> impl Iterator<Item = &Tick> {
        self.ticks.iter()
    }

    pub(super) fn table(&self) -> &Ticks {
        &self.ticks
    }

    /// Token 1 per token 0 in smallest units (or the other way round), what an infinitely small swap pays, fee taken. A filter,
    /// never an amount. `None` before the pool is initialised.
    pub fn marginal_rate(&self, direction: Direction) -> Option<f64> {
        let sqrt_price = f64::from(self.price?.sqrt_price) / 2f64.powi(96);
        let kept = 1.0 - f64::from(self.fee.pips(direction)) / f64::from(WHOLE_FEE);
        let price = sqrt_price * sqrt_price;
        Some(kept * if direction == Direction::ZeroForOne { price } else { 1.0 / price })
    }

    /// Each tick that differs in `other` as it is here, upwards: index, net and gross, both zero where it is not here. Costs
    /// what was changed since one was cloned from the other.
    pub fn differing_ticks(&self, other: &Self) -> Vec<(i32, i128, u128)> {
        self.ticks.differing(&other.ticks)
    }

    /// The same pool at another moment: where it stood, and what [`ConcentratedPool::differing_ticks`] said about it. The rest is
    /// shared with this one.
    ///
    /// # Errors
    /// What no pool can be.
    pub fn at_another_moment(
        &self,
        price: Option<PoolPrice>,
        liquidity: u128,
        ticks: impl IntoIterator<Item = (i32, i128, u128)>,
    ) -> Result<Self, ConcentratedError> {
        let mut pool = Self { price: None, liquidity, ..self.clone() };
        if let Some(price) = price {
            pool.stand_at(price)?;
        }
        for (index, net, gross) in ticks {
            pool.check_tick(index)?;
            let (old_net, old_gross) =
                pool.ticks.get(index).map_or((0, 0), |tick| (tick.liquidity_net, tick.liquidity_gross));
            let net = net.checked_sub(old_net).ok_or(ConcentratedError::LiquidityOutOfBounds)?;
            let gross =
                gross.checked_signed_diff(old_gross).ok_or(ConcentratedError::LiquidityOutOfBounds)?;
            pool.ticks.change(index, gross, net)?;
        }
        Ok(pool)
    }

    /// Follows one log of the pool.
    ///
    /// # Errors
    /// An event that the contract cannot have emitted after the ones before it; nothing has changed then, and the pool has to be
    /// read again, because one before it is missing.
    pub fn apply(&mut self, event: &PoolEvent) -> Result<PoolUndo, ConcentratedError> {
        let before = Before::State(self.price, self.liquidity);
        match *event {
            PoolEvent::Initialized(price) => {
                if self.price.is_some() {
                    return Err(ConcentratedError::AlreadyInitialized);
                }
                self.stand_at(price)?;
            }
            PoolEvent::Swapped { price, liquidity } => {
                if self.price.is_none() {
                    return Err(ConcentratedError::NotInitialized);
                }
                self.stand_at(price)?;
                self.liquidity = liquidity;
            }
            PoolEvent::LiquidityChanged { lower, upper, delta } => {
                self.change_liquidity(lower, upper, delta)?;
                return Ok(PoolUndo(Before::Liquidity { lower, upper, delta }));
            }
            PoolEvent::ProtocolFeeChanged(packed) => {
                let before = self.fee.protocol;
                self.fee = self.fee.with_protocol(packed);
                return Ok(PoolUndo(Before::Protocol(before)));
            }
        }
        Ok(PoolUndo(before))
    }

    /// Takes an event back that [`ConcentratedPool::apply`] followed.
    ///
    /// # Errors
    /// Another order than the reverse one.
    pub fn undo(&mut self, undo: PoolUndo) -> Result<(), ConcentratedError> {
        match undo.0 {
            Before::State(price, liquidity) => (self.price, self.liquidity) = (price, liquidity),
            Before::Liquidity { lower, upper, delta } => {
                let opposite = delta.checked_neg().ok_or(ConcentratedError::LiquidityOutOfBounds)?;
                self.change_liquidity(lower, upper, opposite)?;
            }
            Before::Protocol(protocol) => self.fee.protocol = protocol,
        }
        Ok(())
    }

    fn stand_at(&mut self, price: PoolPrice) -> Result<(), ConcentratedError> {
        if !(MIN_SQRT_PRICE..MAX_SQRT_PRICE).contains(&price.sqrt_price) {
            return Err(ConcentratedError::PriceOutOfBounds);
        }
        // One below the lowest is where a swap ends that has gone all the way down.
        if !(MIN_TICK - 1..=MAX_TICK).contains(&price.tick) {
            return Err(ConcentratedError::TickOutOfBounds(price.tick));
        }
        self.price = Some(price);
        Ok(())
    }

    fn change_liquidity(&mut self, lower: i32, upper: i32, delta: i128) -> Result<(), ConcentratedError> {
        self.check_tick(lower)?;
        self.check_tick(upper)?;
        if lower >= upper {
            return Err(ConcentratedError::TickOutOfBounds(lower));
        }
        // A poke, which collects fees.
        if delta == 0 {
            return Ok(());
        }
        let tick = self.price.ok_or(ConcentratedError::NotInitialized)?.tick;
        let opposite = delta.checked_neg().ok_or(ConcentratedError::LiquidityOutOfBounds)?;
        let mut liquidity = self.liquidity;
        if (lower..upper).contains(&tick) {
            liquidity = liquidity.checked_add_signed(delta).ok_or(ConcentratedError::LiquidityOutOfBounds)?;
        }
        let mut ticks = self.ticks.clone();
        ticks.change(lower, delta, delta)?;
        ticks.change(upper, delta, opposite)?;
        (self.ticks, self.liquidity) = (ticks, liquidity);
        Ok(())
    }

    fn check_tick(&self, index: i32) -> Result<(), ConcentratedError> {
        let is_there = (MIN_TICK..=MAX_TICK).contains(&index) && index % self.tick_spacing() == 0;
        if is_there { Ok(()) } else { Err(ConcentratedError::TickOutOfBounds(index)) }
    }
}
