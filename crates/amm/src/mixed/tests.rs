use proptest::prelude::*;

use super::*;
use crate::{Fee, PoolEvent, PoolPrice, SwapFee, Version, may_profit, sqrt_price_at_tick};

/// A token: its decimals and its price in dollars.
type Token = (i32, f64);

const TOKENS: [Token; 6] = [(18, 3_000.0), (6, 1.0), (6, 0.9995), (8, 90_000.0), (18, 1.0), (18, 15.0)];
/// Of some of them a unit is worth dollars.
const COARSE: [Token; 4] = [(2, 500.0), (0, 3.0), (18, 1.0), (6, 1.0)];

/// A pool by its parts, of token `a` in and token `b` out.
#[derive(Clone, Debug)]
enum Part {
    Plain(Hop),
    Ranged(ConcentratedPool, Direction),
}

impl Part {
    fn hop(&self) -> MixedHop<'_> {
        match self {
            Self::Plain(hop) => MixedHop::ConstantProduct(*hop),
            Self::Ranged(pool, direction) => MixedHop::Concentrated(pool, *direction),
        }
    }
}

fn hops(parts: &[Part]) -> Vec<MixedHop<'_>> {
    parts.iter().map(Part::hop).collect()
}

fn units((decimals, price): Token, dollars: f64) -> f64 {
    dollars / price * 10f64.powi(decimals)
}

prop_compose! {
    fn part_between(a: Token, b: Token)(
        kind in 0..3, dollars in 3.0f64..8.0, skew in 0.97f64..1.03, fee in prop::sample::select(vec![100u32, 500, 3_000, 10_000]),
        widths in prop::collection::vec((1i32..40, 1i32..40, 0.2f64..2.0), 1..8), is_flipped: bool,
    ) -> Part {
        let depth = 10f64.powf(dollars);
        if kind == 0 {
            let (x, y) = (units(a, depth), units(b, depth * skew));
            let fee = Fee::UNISWAP_V2;
            return Part::Plain(Hop::new(x.max(1.0) as u128, y.max(1.0) as u128, fee).expect("reserves"));
        }
        let (token0, token1) = if is_flipped { (b, a) } else { (a, b) };
        let skew = if is_flipped { 1.0 / skew } else { skew };
        let price = units(token1, skew) / units(token0, 1.0);
        let tick = (price.ln() / 1.0001f64.ln()).floor() as i32;
        let version = if kind == 1 { Version::V3 } else { Version::V4 };
        let mut pool = ConcentratedPool::new(version, SwapFee::of_lp(fee), 10).expect("a pool");
        let sqrt_price = sqrt_price_at_tick(tick).expect("a tick") + U256::from(12_345u32);
        pool.apply(&PoolEvent::Initialized(PoolPrice { sqrt_price, tick })).expect("the first event");
        let liquidity = (units(token0, depth) * units(token1, depth)).sqrt().max(1_000.0);
        for (below, above, share) in widths {
            let middle = tick.div_euclid(10) * 10;
            let (lower, upper) = (middle - below * 10, middle + above * 10);
            let delta = (liquidity * share) as i128;
            pool.apply(&PoolEvent::LiquidityChanged { lower, upper, delta }).expect("a range");
        }
        Part::Ranged(pool, if is_flipped { Direction::OneForZero } else { Direction::ZeroForOne })
    }
}

fn cycle(tokens: &[Token], length: usize) -> impl Strategy<Value = Vec<Part>> + use<> {
    prop::collection::vec(prop::sample::select(tokens.to_vec()), length).prop_flat_map(|tokens| {
        let next = |i: usize| tokens[(i + 1) % tokens.len()];
        (0..tokens.len()).map(|i| part_between(tokens[i], next(i))).collect::<Vec<_>>()
    })
}

fn gain(hops: &[MixedHop<'_>], amount_in: u128) -> Option<i128> {
    Some(*quote_mixed_cycle(hops, amount_in)?.last()? as i128 - amount_in as i128)
}

/// The greatest gain and its input, by a search that knows nothing of segments: a grid of powers, then ever finer grids about its best.
fn fine_search(hops: &[MixedHop<'_>]) -> (i128, u128) {
    let value = |amount: u128| gain(hops, amount).unwrap_or(i128::MIN);
    let mut best = (0, 0);
    for exponent in 0..440 {
        let amount = 2f64.powf(f64::from(exponent) / 4.0) as u128;
        best = best.max((value(amount), amount));
    }
    let mut width = best.1 / 4;
    while width > 0 {
        for step in 0..=16 {
            let amount = (best.1 + width * step / 8).saturating_sub(width).max(1);
            best = best.max((value(amount), amount));
        }
        width /= 4;
    }
    // Both feet of the steps of all tokens near by.
    for (index, amount) in quote_mixed_cycle(hops, best.1).into_iter().flatten().enumerate() {
        for near in amount.saturating_sub(8)..amount + 8 {
            let before = hops[..=index].iter().rev();
            let least = |amount, hop: &MixedHop<'_>| Leg::new(hop, 0.0).least_input(amount);
            let Some(input) = before.into_iter().try_fold(near, least) else { continue };
            best = best.max((value(input.max(1)), input));
        }
    }
    best
}

/// What a unit of each token between is worth in the first, at an input.
fn units_between(hops: &[MixedHop<'_>], amounts: &[u128]) -> i128 {
    let worth = |(index, amount): (usize, &u128)| {
        let carried = |amount| hops[index + 1..].iter().try_fold(amount, |amount, hop| hop.quote(amount));
        let (more, less) = (carried(amount + 2), amount.checked_sub(2).and_then(carried));
        // At the end of a pool there is no more.
        more.and_then(|more| more.checked_sub(carried(*amount)?))
            .max(carried(*amount).and_then(|at| at.checked_sub(less?)))
            .map(|worth| worth as i128)
    };
    amounts[..amounts.len() - 1].iter().enumerate().map(|pair| worth(pair).unwrap_or(0)).sum()
}

fn check(parts: &[Part]) -> Result<(), TestCaseError> {
    let hops = hops(parts);
    let (best, _) = fine_search(&hops);
    let rates: f64 = hops.iter().filter_map(MixedHop::log_rate).sum();
    prop_assert!(may_profit(rates) || best <= 0, "{rates} turned {best} away");
    for effort in [Effort::Brief, Effort::Thorough] {
        match size_mixed_cycle(&hops, effort) {
            Some(sizing) => check_sizing(&hops, &sizing, best, effort)?,
            None => prop_assert!(best <= 1, "{best} was not found in {parts:?}"),
        }
    }
    Ok(())
}

/// Of coarse tokens, a gain of less than a unit of each of those between need not be found.
fn check_coarse(parts: &[Part]) -> Result<(), TestCaseError> {
    let hops = hops(parts);
    let (best, amount_in) = fine_search(&hops);
    let Some(amounts) = quote_mixed_cycle(&hops, amount_in).filter(|_| best > 0) else { return Ok(()) };
    for effort in [Effort::Brief, Effort::Thorough] {
        match size_mixed_cycle(&hops, effort) {
            Some(sizing) => check_sizing(&hops, &sizing, best, effort)?,
            None => {
                let coarse = units_between(&hops, &amounts);
                prop_assert!(
                    best <= coarse + 1,
                    "{effort:?}: {best} was not found; units are worth {coarse}; in {parts:?}"
                );
            }
        }
    }
    Ok(())
}

fn check_sizing(
    hops: &[MixedHop<'_>],
    sizing: &CycleSizing,
    best: i128,
    effort: Effort,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(quote_mixed_cycle(hops, sizing.amount_in), Some(sizing.amounts.clone()));
    prop_assert_eq!(gain(hops, sizing.amount_in), Some(sizing.profit as i128));
    prop_assert_eq!(sizing.amount_out - sizing.amount_in, sizing.profit);
    let less = quote_mixed_cycle(hops, sizing.amount_in - 1).expect("less is taken as well");
    prop_assert!(less.last() < Some(&sizing.amount_out), "a smaller input yields as much");
    let found = sizing.profit as i128;
    let short = best - found - best / 1_000_000_000 - 1;
    let coarse = units_between(hops, &sizing.amounts);
    prop_assert!(short <= coarse, "{effort:?}: {found}, not {best}; units are worth {coarse}; in {hops:?}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_pools_of_any_kind_gain_what_a_fine_search_finds(parts in cycle(&TOKENS, 2)) {
        check(&parts)?;
    }

    #[test]
    fn three_pools_of_any_kind_gain_what_a_fine_search_finds(parts in cycle(&TOKENS, 3)) {
        check(&parts)?;
    }

    #[test]
    fn four_pools_of_any_kind_gain_what_a_fine_search_finds(parts in cycle(&TOKENS, 4)) {
        check(&parts)?;
    }

    #[test]
    fn among_coarse_tokens_no_more_is_lost_than_a_unit_of_each(
        parts in (2..=4usize).prop_flat_map(|length| cycle(&COARSE, length)),
    ) {
        check_coarse(&parts)?;
    }

    #[test]
    fn the_least_input_is_the_least(
        part in part_between(TOKENS[0], TOKENS[1]), bits in 0u32..45, about in 0u32..70,
    ) {
        let (hop, leg) = (part.hop(), Leg::new(&part.hop(), 2f64.powi(about as i32)));
        if let Some(least) = leg.least_input(1 << bits) {
            prop_assert!(hop.quote(least) >= Some(1 << bits));
            prop_assert!(hop.quote(least - 1) < Some(1 << bits));
        }
    }
}

#[test]
fn a_bounded_quote_is_the_quote_or_says_that_it_is_too_long() {
    let at = |tick| PoolPrice { sqrt_price: sqrt_price_at_tick(tick).expect("a tick"), tick };
    let mut pool = ConcentratedPool::new(Version::V3, SwapFee::of_lp(500), 10).expect("a pool");
    // From here down to the last range there is no end of a word of the bitmap.
    pool.apply(&PoolEvent::Initialized(at(-5))).expect("the first event");
    for step in 0..20 {
        let delta = 1_000_000_000;
        pool.apply(&PoolEvent::LiquidityChanged { lower: -10 * step - 10, upper: 10, delta })
            .expect("a range");
    }
    let hop = MixedHop::Concentrated(&pool, Direction::ZeroForOne);
    for amount in [1, 1_000, 7_000_000, 60_000_000] {
        let amount_out = hop.quote(amount).expect("the ranges hold it");
        let crossings = hop.crossings(amount);
        assert_eq!(hop.quote_within(amount, crossings + 1), Bounded::Through { amount_out, crossings });
        assert_eq!(hop.quote_within(amount, crossings), Bounded::TooLong, "{amount}");
    }
    assert_eq!(hop.quote(u128::MAX >> 64), None);
    assert_eq!(hop.quote_within(u128::MAX >> 64, 100), Bounded::Refused);
}

#[test]
fn the_price_impact_is_what_a_swap_loses_against_the_price() {
    let fee = Fee::from_ppm(0).expect("no fee");
    let hop = MixedHop::ConstantProduct(Hop::new(1_000_000, 2_000_000, fee).expect("reserves"));
    // A million at two each, and half of that is had.
    assert_eq!(hop.quote(1_000_000), Some(1_000_000));
    assert_eq!(hop.price_impact_ppm(1_000_000, 1_000_000), Some(500_000));
    assert_eq!(hop.price_impact_ppm(1_000_000, 1_999_999), Some(1), "rounded up");
    assert_eq!((hop.price_impact_ppm(1, 2), hop.price_impact_ppm(0, 0)), (Some(0), None));
    let mut pool = ConcentratedPool::new(Version::V4, SwapFee::of_lp(3_000), 60).expect("a pool");
    let price = PoolPrice { sqrt_price: U256::ONE << 97usize, tick: 13_863 };
    pool.apply(&PoolEvent::Initialized(price)).expect("the first event");
    // Four for one, and a fee of 0.3 %.
    let down = MixedHop::Concentrated(&pool, Direction::ZeroForOne);
    assert_eq!(down.price_impact_ppm(1_000_000, 3_988_000), Some(0));
    assert_eq!(down.price_impact_ppm(1_000_000, 1_994_000), Some(500_000));
    let up = MixedHop::Concentrated(&pool, Direction::OneForZero);
    assert_eq!(up.price_impact_ppm(4_000_000, 498_500), Some(500_000));
}

#[test]
fn a_cycle_of_constant_products_is_sized_as_before() {
    let hop = |x, y| Hop::new(x, y, Fee::UNISWAP_V2).expect("reserves");
    let plain = [hop(1_000_000, 2_000_000), hop(1_900_000, 1_000_000)];
    let mixed = plain.map(MixedHop::ConstantProduct);
    assert!(size_cycle(&plain).is_some());
    assert_eq!(size_mixed_cycle(&mixed, Effort::Brief), size_cycle(&plain));
    for length in [0, 1, 5] {
        assert_eq!(size_mixed_cycle(&vec![mixed[0]; length], Effort::Brief), None, "{length} hops");
    }
}

/// One unit in leaves nothing after the fee, and the pool ends within the second one that the fee leaves.
#[test]
fn the_unit_that_ends_a_pool_is_found_where_fewer_give_nothing() {
    let tick = -445_597;
    let mut ends_soon = ConcentratedPool::new(Version::V3, SwapFee::of_lp(3_000), 60).expect("a pool");
    for event in [
        PoolEvent::Initialized(PoolPrice { sqrt_price: sqrt_price_at_tick(tick).expect("a tick"), tick }),
        PoolEvent::LiquidityChanged { lower: -445_800, upper: -445_560, delta: 4_359_342_746_813 },
    ] {
        ends_soon.apply(&event).expect("an event of this pool");
    }
    let plain = |x, y| MixedHop::ConstantProduct(Hop::new(x, y, Fee::UNISWAP_V2).expect("reserves"));
    let ranged = MixedHop::Concentrated(&ends_soon, Direction::OneForZero);
    let unit = 10u128.pow(18);
    let hops = [plain(10 * unit, 12_556), ranged, plain(400_000 * unit, 63 * unit)];
    assert_eq!(
        [1, 2, 3, 4].map(|amount| ranged.quote(amount).map(|out| out / unit)),
        [Some(0), Some(22), Some(38), None]
    );
    for effort in [Effort::Brief, Effort::Thorough] {
        let sizing = size_mixed_cycle(&hops, effort).expect("it gains");
        assert_eq!(sizing.amounts[0], 3, "{effort:?}: {sizing:?}");
    }
}

fn ranged(fee: u32, sqrt_price: u128, tick: i32, ranges: &[(i32, i32, i128)]) -> ConcentratedPool {
    let mut pool = ConcentratedPool::new(Version::V3, SwapFee::of_lp(fee), 10).expect("a pool");
    let price = PoolPrice { sqrt_price: U256::from(sqrt_price), tick };
    pool.apply(&PoolEvent::Initialized(price)).expect("the first event");
    for &(lower, upper, delta) in ranges {
        pool.apply(&PoolEvent::LiquidityChanged { lower, upper, delta }).expect("a range");
    }
    pool
}

#[test]
fn a_segment_is_searched_however_long_the_one_before_was() {
    let nearer = ranged(
        100,
        4_349_572_629_570_740_418_818_585,
        -196_210,
        &[(-196_220, -196_120, 135_459_608_809_946), (-196_220, -196_110, 55_482_290_650_695)],
    );
    let farther = ranged(
        3_000,
        4_393_943_373_875_604_697_401_862,
        -196_007,
        &[(-196_090, -196_000, 203_377_724_167_846), (-196_050, -196_000, 13_604_560_194_526)],
    );
    let hops = [
        MixedHop::Concentrated(&nearer, Direction::OneForZero),
        MixedHop::Concentrated(&farther, Direction::ZeroForOne),
    ];
    // The optimum of real numbers is 11,000 units farther, across a tick. At the best the fee of the first pool leaves a whole amount.
    let (best, _) = fine_search(&hops);
    for effort in [Effort::Brief, Effort::Thorough] {
        let sizing = size_mixed_cycle(&hops, effort).expect("it gains");
        assert_eq!((best, sizing.profit), (411_589, 411_589), "{effort:?}");
    }
}

#[test]
fn an_amount_of_which_the_fee_leaves_a_whole_one_is_found_far_from_the_optimum() {
    let pool = ranged(
        100,
        310_789_180_740_421_050_891_479,
        -248_987,
        &[(-249_000, -248_980, 3_964_620_921_382_952_960)],
    );
    let plain =
        |into, out| MixedHop::ConstantProduct(Hop::new(into, out, Fee::UNISWAP_V2).expect("reserves"));
    let hops = [
        plain(111_248_843_301_521_489_920, 1_676_455_903_484_654_911_488),
        plain(2_909_633_343_978_039_008_034_816, 2_989_397_678_913),
        MixedHop::Concentrated(&pool, Direction::OneForZero),
    ];
    // A unit that goes into the last pool is worth more than the whole gain, and the optimum of real numbers has 32,258 of them.
    for effort in [Effort::Brief, Effort::Thorough] {
        let sizing = size_mixed_cycle(&hops, effort).expect("it gains");
        assert_eq!((sizing.amounts[1], sizing.profit), (30_000, 39_209_307_440), "{effort:?}");
    }
}
