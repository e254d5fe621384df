use alloy_primitives::{Address, U256, address, b256};
use proptest::prelude::*;

use super::*;
use crate::ConcentratedError;

const SPACING: i32 = 10;

fn price(tick: i32) -> PoolPrice {
    PoolPrice { sqrt_price: sqrt_price_at_tick(tick).expect("a tick that there is"), tick }
}

fn pool(version: Version, fee: u32, tick: i32, ranges: &[(i32, i32, i128)]) -> ConcentratedPool {
    let mut pool = ConcentratedPool::new(version, SwapFee::of_lp(fee), SPACING).expect("a pool");
    pool.apply(&PoolEvent::Initialized(price(tick))).expect("the first event");
    for (lower, upper, delta) in ranges {
        let event = PoolEvent::LiquidityChanged { lower: *lower, upper: *upper, delta: *delta };
        pool.apply(&event).expect("a range");
    }
    pool
}

/// Ranges about zero in multiples of the spacing.
fn ranges() -> impl Strategy<Value = Vec<(i32, i32, i128)>> {
    let range = (-300i32..300, 1i32..200, 1u32..90)
        .prop_map(|(lower, width, bits)| (lower * SPACING, (lower + width) * SPACING, 1i128 << bits | 1));
    prop::collection::vec(range, 1..12)
}

fn any_pool() -> impl Strategy<Value = ConcentratedPool> {
    let version = prop_oneof![Just(Version::V3), Just(Version::V4)];
    (version, 0u32..20_000, -3_000i32..3_000, ranges())
        .prop_map(|(version, fee, tick, ranges)| pool(version, fee, tick, &ranges))
}

fn directions() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::ZeroForOne), Just(Direction::OneForZero)]
}

#[test]
fn the_identity_of_a_v4_pool_is_the_managers() {
    // Ether and USDC at 0.05 % without a hook, on mainnet.
    let key = PoolKey {
        currency0: Address::ZERO,
        currency1: address!("a0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"),
        fee: 500,
        tick_spacing: 10,
        hooks: Address::ZERO,
    };
    let known = b256!("21c67e77068de97969ba93d4aab21826d33ca12bb9f565d8496e8fda8a82ca27");
    assert_eq!(key.id(), known);
    assert!(key.pool().is_ok());
}

#[test]
fn a_hook_or_a_dynamic_fee_is_recognised_and_refused() {
    let plain = PoolKey {
        currency0: Address::ZERO,
        currency1: Address::repeat_byte(1),
        fee: 3_000,
        tick_spacing: 60,
        hooks: Address::ZERO,
    };
    let check = |hooks: Address, swaps: bool, amounts: bool| {
        let key = PoolKey { hooks, ..plain };
        assert_eq!(key.pool().err(), Some(Unsupported::Hooked(hooks)));
        let permissions = key.permissions();
        assert_eq!((permissions.sees_swaps(), permissions.changes_amounts()), (swaps, amounts), "{hooks}");
    };
    check(address!("0000000000000000000000000000000000000080"), true, false);
    check(address!("0000000000000000000000000000000000000088"), true, true);
    check(address!("00000000000000000000000000000000000000c4"), true, true);
    check(address!("0000000000000000000000000000000000002800"), false, false);
    // Bits above the lowest fourteen say nothing.
    check(address!("1111111111111111111111111111111111114000"), false, false);
    assert!(HookPermissions::of(address!("1111111111111111111111111111111111114000")).is_empty());
    let dynamic = PoolKey { fee: DYNAMIC_FEE, ..plain };
    assert_eq!(dynamic.pool().err(), Some(Unsupported::DynamicFee));
    let invalid = PoolKey { fee: 1_000_001, ..plain }.pool().err();
    assert_eq!(invalid, Some(Unsupported::Invalid(ConcentratedError::FeeTooHigh(1_000_001))));
}

#[test]
fn a_protocol_fee_is_taken_before_the_other_and_for_one_direction() {
    let fee = SwapFee::of_lp(3_000).with_protocol(1_000 << 12 | 50);
    assert_eq!(fee.pips(Direction::ZeroForOne), 50 + 3_000);
    // 1000 + 3000 - 3
    assert_eq!(fee.pips(Direction::OneForZero), 3_997);
}

#[test]
fn an_amount_is_walked_along_so_many_ticks_and_no_more() {
    let ranges: Vec<_> = (0..9).map(|step| (100 * step, 100 * (step + 1), 1_000_000)).collect();
    let pool = pool(Version::V3, 3_000, 0, &ranges);
    let whole = pool.amount_up_to(false, price(900).sqrt_price, 9);
    assert_eq!(pool.amount_up_to(false, MAX_SQRT_PRICE, 20), whole, "there is nothing above");
    assert_eq!(
        pool.amount_up_to(false, MAX_SQRT_PRICE, 0),
        pool.amount_up_to(false, price(100).sqrt_price, 9)
    );
    assert_eq!(
        pool.amount_up_to(false, MAX_SQRT_PRICE, 4),
        pool.amount_up_to(false, price(500).sqrt_price, 9)
    );
    assert_eq!(pool.amount_up_to(true, MIN_SQRT_PRICE, 20), U256::ZERO);
    let empty = ConcentratedPool::new(Version::V3, SwapFee::of_lp(500), SPACING).expect("a pool");
    assert_eq!(empty.amount_up_to(true, MAX_SQRT_PRICE, 9), U256::ZERO);
}

proptest! {
    /// What a swap gives is what lies on its way, but for what is rounded at the ends of words.
    #[test]
    fn an_amount_up_to_a_price_is_what_a_swap_gives(
        pool in any_pool(),
        direction in directions(),
        target in -6_000i32..6_000,
    ) {
        let target = price(target).sqrt_price;
        let here = pool.price().expect("it is initialised").sqrt_price;
        prop_assume!(target != here && (target < here) == (direction == Direction::ZeroForOne));
        let enough = U256::ONE << 200;
        let Ok(quote) = pool.exact_in(direction, enough, Some(target)) else { return Ok(()) };
        prop_assume!(quote.price.sqrt_price == target);
        let found = pool.amount_up_to(direction == Direction::OneForZero, target, 1_000);
        let most = quote.amount_out + U256::from(quote.crossings + 12);
        prop_assert!(quote.amount_out <= found && found <= most, "{found}, and the swap gives {quote:?}");
    }
}

#[test]
fn what_the_contract_refuses_is_an_error() {
    let empty = ConcentratedPool::new(Version::V3, SwapFee::of_lp(500), SPACING).expect("a pool");
    let (one, down) = (U256::ONE, Direction::ZeroForOne);
    assert_eq!(empty.exact_in(down, one, None), Err(ConcentratedError::NotInitialized));
    let mut pool = pool(Version::V3, 500, 5, &[(-100, 100, 1_000_000)]);
    assert_eq!(pool.exact_in(down, U256::ZERO, None), Err(ConcentratedError::ZeroAmount));
    assert_eq!(pool.exact_in(down, U256::MAX, None), Err(ConcentratedError::Overflow));
    for limit in [price(5).sqrt_price, price(6).sqrt_price, MIN_SQRT_PRICE, U256::ZERO] {
        assert_eq!(pool.exact_in(down, one, Some(limit)), Err(ConcentratedError::PriceLimit));
    }
    let before = pool.clone();
    let check = |pool: &mut ConcentratedPool, event, expected| {
        assert_eq!(pool.apply(&event), Err(expected));
    };
    check(&mut pool, PoolEvent::Initialized(price(1)), ConcentratedError::AlreadyInitialized);
    let range = |lower, upper, delta| PoolEvent::LiquidityChanged { lower, upper, delta };
    check(&mut pool, range(-5, 10, 1), ConcentratedError::TickOutOfBounds(-5));
    check(&mut pool, range(10, 10, 1), ConcentratedError::TickOutOfBounds(10));
    check(&mut pool, range(0, 887_280, 1), ConcentratedError::TickOutOfBounds(887_280));
    check(&mut pool, range(-100, 100, -1_000_001), ConcentratedError::LiquidityOutOfBounds);
    check(&mut pool, range(200, 300, -1), ConcentratedError::LiquidityOutOfBounds);
    assert_eq!(pool, before);
}

#[test]
fn a_swap_that_stops_at_a_tick_on_its_way_down_stands_below_it() {
    let pool = pool(Version::V3, 500, 5, &[(-100, 100, 1_000_000_000)]);
    let limit = price(-100).sqrt_price;
    let quote = pool.exact_in(Direction::ZeroForOne, U256::from(1u64 << 40), Some(limit)).expect("a quote");
    assert_eq!((quote.price.sqrt_price, quote.price.tick), (limit, -101));
    assert_eq!((quote.crossings, quote.liquidity), (1, 0));
    let back = price(100).sqrt_price;
    let quote = pool.exact_in(Direction::OneForZero, U256::from(1u64 << 40), Some(back)).expect("a quote");
    assert_eq!((quote.price.tick, quote.crossings, quote.liquidity), (100, 1, 0));
}

#[test]
fn a_clone_is_not_changed_by_what_follows() {
    let first = pool(Version::V3, 500, 5, &[(-100, 100, 7), (-9_000, 9_000, 5)]);
    let mut second = first.clone();
    second.apply(&PoolEvent::LiquidityChanged { lower: -100, upper: 50, delta: 1 }).expect("a range");
    assert_eq!(first.ticks().count(), 4);
    assert_eq!((second.ticks().count(), second.liquidity()), (5, 13));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn more_in_is_never_less_out(pool in any_pool(), way in directions(), bits in 0u32..100, more in 1u128..1_000_000) {
        let amount = U256::from((1u128 << bits) + more);
        let [less, more] = [amount - U256::from(more), amount].map(|amount| pool.exact_in(way, amount, None));
        let (less, more) = (less.expect("a quote"), more.expect("a quote"));
        prop_assert!(less.amount_out <= more.amount_out && less.amount_in <= more.amount_in);
        prop_assert!(less.crossings <= more.crossings);
    }

    #[test]
    fn what_comes_out_can_be_asked_for_and_costs_no_more(pool in any_pool(), way in directions(), bits in 0u32..90) {
        let given = pool.exact_in(way, U256::from(1u128 << bits), None).expect("a quote");
        prop_assume!(!given.amount_out.is_zero());
        let asked = pool.exact_out(way, given.amount_out, None).expect("a quote");
        prop_assert_eq!(asked.amount_out, given.amount_out);
        // Each step rounds on its own.
        prop_assert!(asked.amount_in <= given.amount_in + U256::from(2 * (given.crossings + 40)));
    }

    #[test]
    fn there_and_back_gains_nothing(pool in any_pool(), way in directions(), bits in 0u32..90) {
        let there = pool.exact_in(way, U256::from(1u128 << bits), None).expect("a quote");
        prop_assume!(!there.amount_out.is_zero());
        let mut after = pool.clone();
        let swapped = PoolEvent::Swapped { price: there.price, liquidity: there.liquidity };
        after.apply(&swapped).expect("the pool's own");
        let opposite = match way {
            Direction::ZeroForOne => Direction::OneForZero,
            Direction::OneForZero => Direction::ZeroForOne,
        };
        let back = after.exact_in(opposite, there.amount_out, None).expect("a quote");
        prop_assert!(back.amount_out <= there.amount_in);
    }

    #[test]
    fn the_segments_are_the_way_of_a_swap(pool in any_pool(), way in directions()) {
        let segments: Vec<_> = pool.segments(way).collect();
        let whole: U256 = segments.iter().map(|segment| segment.amount_in).sum();
        let out: U256 = segments.iter().map(|segment| segment.amount_out).sum();
        prop_assert!(segments.iter().all(|segment| segment.liquidity > 0));
        let all = pool.exact_in(way, U256::MAX >> 1, None).expect("a quote");
        prop_assert_eq!((all.amount_in, all.amount_out), (whole, out));
        for segment in segments.iter().filter(|segment| segment.liquidity > 1 << 40) {
            let (into, out) = segment.virtual_reserves(way);
            prop_assert!(segment.amount_out <= out && !into.is_zero());
        }
    }

    #[test]
    fn a_swap_is_the_same_from_any_place_on_its_way(
        pool in any_pool(), way in directions(), about in 0u32..100, bits in 0u32..100, less in 0u128..1_000,
    ) {
        let path = Path::new(&pool, way, 1 << about);
        // Also at the very ends of the ranges.
        let ends = pool.segments(way).scan((0u128, 0u128), |moved, segment| {
            moved.0 = moved.0.saturating_add(segment.amount_in.saturating_to());
            moved.1 = moved.1.saturating_add(segment.amount_out.saturating_to());
            Some(*moved)
        });
        let near = |end: u128| [end.saturating_sub(1), end, end.saturating_add(1)];
        let (ins, outs): (Vec<_>, Vec<_>) = ends.take(9).unzip();
        let some = (1u128 << bits).saturating_sub(less).max(1);
        for amount in ins.into_iter().flat_map(near).chain([some]).filter(|amount| *amount > 0) {
            let whole = pool.exact_in(way, U256::from(amount), None).ok();
            prop_assert_eq!(path.exact_in(amount), whole, "{} in", amount);
        }
        for amount in outs.into_iter().flat_map(near).chain([some]).filter(|amount| *amount > 0) {
            let whole = pool.exact_out(way, U256::from(amount), None).ok();
            prop_assert_eq!(path.exact_out(amount), whole, "{} out", amount);
        }
    }

    #[test]
    fn the_stretches_are_the_segments_roughly(pool in any_pool(), way in directions()) {
        let (segments, stretches) = (pool.segments(way), pool.stretches(way));
        for (segment, stretch) in segments.zip(stretches) {
            let (into, out) = segment.virtual_reserves(way);
            let is_near = |exact: U256, found: f64, margin: f64| {
                (f64::from(exact) - found).abs() <= f64::from(exact) * 1e-12 + margin
            };
            prop_assert!(is_near(into, stretch.virtual_in, 2.0), "{segment:?} {stretch:?}");
            prop_assert!(is_near(out, stretch.virtual_out, 2.0), "{segment:?} {stretch:?}");
            // Each word of the bitmap on the way rounds up once, and the fee once more.
            prop_assert!(is_near(segment.amount_in, stretch.room, 8_000.0), "{segment:?} {stretch:?}");
        }
    }

    #[test]
    fn events_taken_back_leave_the_pool_as_it_was(pool in any_pool(), ranges in ranges(), tick in -2_000i32..2_000) {
        let mut changed = pool.clone();
        let mut undos = Vec::new();
        for (lower, upper, delta) in &ranges {
            let event = PoolEvent::LiquidityChanged { lower: *lower, upper: *upper, delta: *delta };
            undos.push(changed.apply(&event).expect("a range"));
        }
        let here = PoolEvent::Swapped { price: price(tick), liquidity: 77 };
        undos.push(changed.apply(&here).expect("a swap"));
        undos.push(changed.apply(&PoolEvent::ProtocolFeeChanged(0x3e8_3e8)).expect("a fee"));
        for undo in undos.into_iter().rev() {
            changed.undo(undo).expect("in the reverse order");
        }
        prop_assert_eq!(&changed, &pool);
    }

    #[test]
    fn a_pool_is_made_of_its_parts_again_and_not_of_others(pool in any_pool()) {
        let parts: Vec<_> =
            pool.ticks().map(|tick| (tick.index, tick.liquidity_net, tick.liquidity_gross)).collect();
        let price = pool.price().expect("a price");
        let make = |liquidity, parts: &[(i32, i128, u128)]| {
            let (version, fee) = (pool.version(), pool.fee());
            ConcentratedPool::from_parts(version, fee, SPACING, price, liquidity, parts.iter().copied())
        };
        let again = make(pool.liquidity(), &parts);
        prop_assert_eq!(again.as_ref(), Ok(&pool));
        prop_assert_eq!(make(pool.liquidity() + 1, &parts), Err(ConcentratedError::Inconsistent));
        prop_assert_eq!(make(pool.liquidity(), &parts[1..]), Err(ConcentratedError::Inconsistent));
    }

    #[test]
    fn the_marginal_rate_is_that_of_a_small_swap(tick in -20_000i32..20_000, fee in 0u32..20_000, way in directions()) {
        let pool = pool(Version::V3, fee, tick, &[(-30_000, 30_000, 10i128.pow(30))]);
        let amount = 10f64.powi(18);
        let out = pool.exact_in(way, U256::from(10u128.pow(18)), None).expect("a quote").amount_out;
        let rate = pool.marginal_rate(way).expect("a price");
        prop_assert!((f64::from(out) / amount / rate - 1.0).abs() < 1e-9);
    }
}

#[test]
fn a_range_that_no_swap_of_v4_could_use_up_is_a_segment() {
    let mut pool = ConcentratedPool::new(Version::V4, SwapFee::of_lp(3_000), 60).expect("a pool");
    let price = PoolPrice { sqrt_price: U256::ONE << 96, tick: 0 };
    pool.apply(&PoolEvent::Initialized(price)).expect("the first event");
    let (lower, upper, delta) = (-887_220, 887_220, 10i128.pow(24));
    pool.apply(&PoolEvent::LiquidityChanged { lower, upper, delta }).expect("a range");
    for direction in [Direction::ZeroForOne, Direction::OneForZero] {
        let segments: Vec<_> = pool.segments(direction).collect();
        assert_eq!(segments.len(), 1);
        assert!(segments[0].amount_in > U256::ONE << 127);
        let all = pool.exact_in(direction, segments[0].amount_in, None);
        assert_eq!(all, Err(ConcentratedError::Overflow));
    }
}

#[test]
fn a_pool_whose_fee_takes_everything_has_no_segments() {
    let mut pool = ConcentratedPool::new(Version::V4, SwapFee::of_lp(1_000_000), 60).expect("a pool");
    let price = PoolPrice { sqrt_price: U256::ONE << 96, tick: 0 };
    pool.apply(&PoolEvent::Initialized(price)).expect("the first event");
    let (lower, upper, delta) = (-600, 600, 10i128.pow(24));
    pool.apply(&PoolEvent::LiquidityChanged { lower, upper, delta }).expect("a range");
    for direction in [Direction::ZeroForOne, Direction::OneForZero] {
        assert_eq!(pool.segments(direction).count(), 0);
    }
}
