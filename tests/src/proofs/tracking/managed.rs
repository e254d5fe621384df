//! Pools of Uniswap V4 in one manager, and what somebody does with them.

use alloy_primitives::{Address, U256};
use headwater_amm::sqrt_price_at_tick;
use headwater_reference::pools::{ActV4, Change, Order, PlaceV4, RoutersV4};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Fees with their tick spacings; anybody may choose others.
const FEES: [(u32, i32); 4] = [(500, 10), (3_000, 60), (10_000, 200), (77, 25)];

/// `LPFeeLibrary.DYNAMIC_FEE_FLAG`.
const DYNAMIC_FEE: u32 = 0x80_0000;

/// Faces of the dice on which a pool is one that has to be refused.
const HOOKED: u32 = 0;
const DYNAMIC: u32 = 1;

/// The highest fee that the protocol may take, in one direction (`ProtocolFeeLibrary.MAX_PROTOCOL_FEE`).
const MOST_PROTOCOL_FEE: u32 = 1_000;

/// Within these ticks liquidity ends.
pub(super) const NEAR: i32 = 60_000;

/// What was sent; what of it the manager refused left no log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) created: u64,
    pub(super) hooked: u64,
    pub(super) dynamic: u64,
    pub(super) swaps: u64,
    pub(super) changes: u64,
    pub(super) protocol_fees: u64,
}

/// The pools of a manager.
#[derive(Clone, Debug)]
pub(super) struct Managed {
    pub(super) routers: RoutersV4,
    /// Without hooks.
    pub(super) places: Vec<PlaceV4>,
    /// With a hook, or a fee that one sets.
    pub(super) refused: Vec<PlaceV4>,
    positions: Vec<(PlaceV4, Change)>,
}

impl Managed {
    pub(super) fn new(routers: RoutersV4) -> Self {
        Self { routers, places: Vec::new(), refused: Vec::new(), positions: Vec::new() }
    }

    /// A pool that is not there yet and its first price, if the dice find one. One in four has a hook or a dynamic fee, which nobody ever
    /// calls: the hook's address says that it wants to know of gifts, or of nothing.
    pub(super) fn choose(&self, random: &mut ChaCha8Rng, currencies: &[Address]) -> Option<(PlaceV4, ActV4)> {
        let mut pick = || currencies[random.random_range(0..currencies.len())];
        let mut pair = [pick(), pick()];
        pair.sort_unstable();
        let (fee, spacing) = FEES[random.random_range(0..FEES.len())];
        let dice = random.random_range(0..8);
        let kind = if self.places.len() < 2 { dice } else { self.lacking().unwrap_or(dice) };
        let (fee, hooks) = match kind {
            HOOKED => (fee, hook(0x11, 1 << 4)),
            DYNAMIC => (DYNAMIC_FEE, hook(0x22, 0)),
            _ => (fee, Address::ZERO),
        };
        let place = PlaceV4 { manager: self.routers.manager, currencies: pair, fee, spacing, hooks };
        let is_there = self.places.contains(&place) || self.refused.contains(&place);
        let price = sqrt_price_at_tick(random.random_range(-20_000..20_000))?;
        (pair[0] != pair[1] && !is_there).then_some((place, ActV4::Initialize(price)))
    }

    /// Which kind of a pool that is refused there is none of.
    pub(super) fn lacking(&self) -> Option<u32> {
        let has =
            |is_dynamic: bool| self.refused.iter().any(|place| (place.fee == DYNAMIC_FEE) == is_dynamic);
        [(HOOKED, false), (DYNAMIC, true)].into_iter().find(|(_, kind)| !has(*kind)).map(|(kind, _)| kind)
    }

    pub(super) fn add(&mut self, place: PlaceV4, sent: &mut Sent) {
        if place.hooks.is_zero() {
            sent.created += 1;
            self.places.push(place);
            return;
        }
        let is_dynamic = place.fee == DYNAMIC_FEE;
        sent.dynamic += u64::from(is_dynamic);
        sent.hooked += u64::from(!is_dynamic);
        self.refused.push(place);
    }

    pub(super) fn keep(&mut self, mut is_there: impl FnMut(&PlaceV4) -> bool) {
        self.places.retain(&mut is_there);
        self.refused.retain(&mut is_there);
        let (places, refused) = (&self.places, &self.refused);
        self.positions.retain(|(place, _)| places.contains(place) || refused.contains(place));
    }

    /// One of all the pools.
    pub(super) fn pick(&self, random: &mut ChaCha8Rng) -> Option<PlaceV4> {
        let all = self.places.len() + self.refused.len();
        let at = (all > 0).then(|| random.random_range(0..all))?;
        self.places.iter().chain(&self.refused).nth(at).copied()
    }

    /// What is done with a pool that stands at a tick.
    pub(super) fn act(
        &mut self,
        random: &mut ChaCha8Rng,
        place: &PlaceV4,
        tick: i32,
        sent: &mut Sent,
    ) -> Option<ActV4> {
        let act = match random.random_range(0..11) {
            0..=3 => ActV4::Modify(self.mint(random, place, tick)?),
            4 | 5 => ActV4::Modify(self.burn(random, place)?),
            6 => {
                let mut part = || random.random_range(0..=MOST_PROTOCOL_FEE);
                ActV4::ProtocolFee(part() | part() << 12)
            }
            _ => ActV4::Swap(swap(random, tick)),
        };
        match act {
            ActV4::Swap(_) => sent.swaps += 1,
            ActV4::Modify(_) => sent.changes += 1,
            ActV4::ProtocolFee(_) => sent.protocol_fees += 1,
            ActV4::Initialize(_) => {}
        }
        Some(act)
    }

    fn mint(&mut self, random: &mut ChaCha8Rng, place: &PlaceV4, tick: i32) -> Option<Change> {
        let at = tick.div_euclid(place.spacing);
        let (below, width) = (random.random_range(-40..30), random.random_range(1..60));
        let (lower, upper) = ((at + below) * place.spacing, (at + below + width) * place.spacing);
        if lower < -NEAR || upper > NEAR {
            return None;
        }
        let change = Change { lower, upper, delta: random.random_range(1 << 20..1i128 << 60) };
        self.positions.push((*place, change));
        Some(change)
    }

    /// The whole position, a part, or nothing, which is a poke.
    fn burn(&mut self, random: &mut ChaCha8Rng, place: &PlaceV4) -> Option<Change> {
        let (_, position) = self.positions.iter_mut().rfind(|(owner, _)| owner == place)?;
        let delta = [0, -(position.delta / 3), -position.delta][random.random_range(0..3)];
        let change = Change { delta, ..*position };
        position.delta += delta;
        self.positions.retain(|(_, position)| position.delta > 0);
        Some(change)
    }
}

fn swap(random: &mut ChaCha8Rng, tick: i32) -> Order {
    let zero_for_one = random.random_range(0..2) == 0;
    let limit = (tick + if zero_for_one { -4_000 } else { 4_000 }).clamp(-50_000, 50_000);
    let amount = U256::from(random.random_range(1u128..1 << 56)) << random.random_range(0..8usize);
    let is_exact_in = random.random_range(0..3) > 0;
    Order {
        zero_for_one,
        amount,
        is_exact_in,
        sqrt_price_limit: sqrt_price_at_tick(limit).unwrap_or_default(),
    }
}

fn hook(byte: u8, permissions: u8) -> Address {
    let mut hook = Address::repeat_byte(byte);
    hook.0[18..].copy_from_slice(&[0, permissions]);
    hook
}
