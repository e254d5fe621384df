use headwater_reference::arbitrage::{Best, Swap, best_input};
use proptest::prelude::*;

use super::*;
use crate::Fee;

fn hop(reserve_in: u128, reserve_out: u128, fee_ppm: u32) -> Hop {
    Hop::new(reserve_in, reserve_out, Fee::from_ppm(fee_ppm).expect("a fee below the whole"))
        .expect("reserves within uint112")
}

/// The gain of an input, negative for a loss; `None` where some pool refuses the balance.
fn gain(hops: &[Hop], amount_in: u128) -> Option<i128> {
    let mut amount = amount_in;
    for hop in hops {
        if amount > hop.max_input() {
            return None;
        }
        amount = hop.quote(amount);
    }
    Some(amount as i128 - amount_in as i128)
}

/// Rounded down once, at the end.
fn real_output(hops: &[Hop], amount: u128) -> u128 {
    let map = Mobius::<576, 9>::compose(hops);
    let amount = Uint::<576, 9>::from(amount);
    (map.p * amount / (map.q + map.r * amount)).to()
}

/// A token: its decimals and its price in millionths of a dollar.
type Token = (u32, u64);

const TOKENS: [Token; 10] = [
    (18, 3_000_000_000), // WETH
    (6, 1_000_000),      // USDC
    (6, 999_500),        // USDT
    (18, 1_000_000),     // DAI
    (8, 90_000_000_000), // WBTC
    (18, 2_000_000_000), // MKR
    (2, 1_000_000),      // GUSD
    (9, 120_000),
    (18, 15_000_000),
    (18, 25),
];

fn units(token: Token, dollars: f64) -> u128 {
    (dollars / (token.1 as f64 / 1e6) * 10f64.powi(token.0 as i32)) as u128
}

prop_compose! {
    fn pool_between(a: Token, b: Token)(depth in 2.0f64..8.0, skew in 0.97f64..1.03, fee in prop::sample::select(
        vec![3000u32, 2500, 2000, 1000, 500, 3333]
    )) -> Hop {
        hop(units(a, 10f64.powf(depth)).max(1), units(b, skew * 10f64.powf(depth)).max(1), fee)
    }
}

fn cycle(length: usize) -> impl Strategy<Value = Vec<Hop>> {
    prop::collection::vec(prop::sample::select(TOKENS.to_vec()), length).prop_flat_map(|tokens| {
        let next = |i: usize| tokens[(i + 1) % tokens.len()];
        (0..tokens.len()).map(|i| pool_between(tokens[i], next(i))).collect::<Vec<_>>()
    })
}

/// Against the reference, which knows no closed form and proves how much better any other input can be.
fn check_against_the_judge(hops: &[Hop]) -> Result<(), TestCaseError> {
    let found = size_cycle(hops);
    let gained = found.as_ref().map_or(0, |sizing| sizing.profit);
    let (best, ceiling) = judged(hops).map_or((0, 1), |best| (best.profit, best.ceiling));
    prop_assert!(gained <= ceiling, "{gained} > {ceiling}: impossible in {hops:?}");
    prop_assert!(gained + 2 >= best, "{gained} < {best} - 2 in {hops:?}");
    if let Some(sizing) = found {
        check_consistency(hops, &sizing)?;
    }
    Ok(())
}

fn judged(hops: &[Hop]) -> Option<Best> {
    let swap = |hop: &Hop| Swap {
        reserve_in: hop.reserve_in(),
        reserve_out: hop.reserve_out(),
        fee_ppm: 1_000_000 - 1_000_000 / hop.fee().scale() * hop.fee().keep(),
    };
    best_input(&hops.iter().map(swap).collect::<Vec<_>>())
}

/// What holds for every sizing: the amounts are the pools', and no smaller input yields the output.
fn check_consistency(hops: &[Hop], sizing: &CycleSizing) -> Result<(), TestCaseError> {
    prop_assert_eq!(&sizing.amounts, &quote_cycle(hops, sizing.amount_in));
    prop_assert_eq!(gain(hops, sizing.amount_in), Some(sizing.profit as i128));
    prop_assert_eq!(sizing.amount_out, sizing.amount_in + sizing.profit);
    let less = quote_cycle(hops, sizing.amount_in - 1);
    prop_assert!(less[hops.len() - 1] < sizing.amount_out, "a smaller input yields as much");
    prop_assert!(is_profitable(hops));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        max_global_rejects: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn two_hops_are_within_two_units_of_the_best_integer(hops in cycle(2)) {
        check_against_the_judge(&hops)?;
    }

    #[test]
    fn three_hops_are_within_two_units_of_the_best_integer(hops in cycle(3)) {
        check_against_the_judge(&hops)?;
    }

    #[test]
    fn four_hops_lose_no_more_than_a_unit_of_each_token_between(hops in cycle(4)) {
        let found = size_cycle(&hops);
        if let Some(optimum) = Mobius::<576, 9>::compose(&hops).optimum() {
            let amounts = quote_cycle(&hops, optimum.amount_in);
            // What the rest of the cycle gives for one unit more.
            let price = |k: usize| real_output(&hops[k..], amounts[k - 1] + 1) - real_output(&hops[k..], amounts[k - 1]);
            let units = (1..4).map(|k| price(k) + 1).sum::<u128>();
            let gained = found.as_ref().map_or(0, |sizing| sizing.profit);
            prop_assert!(gained + 2 + units >= optimum.profit, "{gained} of {} in {hops:?}", optimum.profit);
        }
        if let Some(sizing) = found {
            check_consistency(&hops, &sizing)?;
        }
    }

    #[test]
    fn tiny_and_lopsided_pools_are_within_two_units_as_well(
        reserves in prop::collection::vec((1u128..3000, 1u128..3000), 2..=3),
    ) {
        let hops: Vec<_> = reserves.iter().map(|(x, y)| hop(*x, *y, 3000)).collect();
        let greatest = (1..3000).filter_map(|input| gain(&hops, input)).max().unwrap_or(0).max(0);
        let gained = size_cycle(&hops).map_or(0, |sizing| sizing.profit as i128);
        prop_assert!(gained <= greatest && gained + 2 >= greatest, "{gained}, not {greatest}, in {hops:?}");
    }

    #[test]
    fn no_pool_is_filled_beyond_uint112(
        shares in prop::collection::vec((0.2f64..0.999, 0.2f64..0.999), 2..=3),
    ) {
        let part = |share: f64| (MAX_RESERVE as f64 * share) as u128;
        let hops: Vec<_> = shares.iter().map(|(x, y)| hop(part(*x), part(*y), 3000)).collect();
        if let Some(sizing) = size_cycle(&hops) {
            prop_assert_eq!(gain(&hops, sizing.amount_in), Some(sizing.profit as i128));
            let limit = input_limit(&hops);
            prop_assert!(sizing.amount_in <= limit);
            prop_assert!(gain(&hops, limit).is_some() && gain(&hops, limit + 1).is_none());
            prop_assert!(gain(&hops, limit).unwrap_or(0) <= sizing.profit as i128 + 2);
        }
    }

    #[test]
    fn the_logarithms_never_turn_a_profitable_cycle_away(
        reserves in prop::collection::vec((0u32..112, any::<u128>(), 0u32..1_000_000), 2..=4),
        nudge in -3i128..=3,
    ) {
        // A chain of pools whose last one closes the cycle at break-even, give or take a few units: the hardest case.
        let mut hops = Vec::new();
        let sized = |bits: u32, value: u128| ((value % (1 << bits)) + (1 << bits)).min(MAX_RESERVE);
        for (bits, value, fee) in &reserves[1..] {
            hops.push(hop(sized(*bits, *value), sized(bits / 2, value >> 16), *fee));
        }
        let scale = |hop: &Hop, value: u128| Uint::<576, 9>::from(value) * Uint::from(hop.scale());
        let keep = |hop: &Hop, value: u128| Uint::<576, 9>::from(value) * Uint::from(hop.keep());
        let into = hops.iter().fold(Uint::<576, 9>::ONE, |all, hop| all * scale(hop, hop.reserve_in()));
        let out = hops.iter().fold(Uint::<576, 9>::ONE, |all, hop| all * keep(hop, hop.reserve_out()));
        let (bits, value, fee) = reserves[0];
        let first = hop(sized(bits, value), 1, fee);
        let even = into * scale(&first, first.reserve_in()) / (out * Uint::from(first.keep()));
        prop_assume!(even <= Uint::from(MAX_RESERVE - 3) && even > Uint::from(3));
        let last = hop(first.reserve_in(), even.to::<u128>().saturating_add_signed(nudge), fee);
        hops.push(last);
        let rates: f64 = hops.iter().map(Hop::log_rate).sum();
        prop_assert!(may_profit(rates) || !is_profitable(&hops), "{rates} for {hops:?}");
        prop_assert!(may_profit(rates) || size_cycle(&hops).is_none());
    }

    #[test]
    fn a_cycle_that_does_not_profit_has_no_size(hops in cycle(3)) {
        prop_assert!(is_profitable(&hops) || size_cycle(&hops).is_none());
        prop_assert!(is_profitable(&hops) || (1..1000).all(|input| gain(&hops, input * 7919) <= Some(0)));
    }
}

#[test]
fn the_margin_of_the_logarithms_is_ten_times_what_break_even_cycles_need() {
    // Products that are exactly equal: their logarithms should sum up to zero and err by rounding alone.
    let mut worst = 0f64;
    for step in 1..20_000u128 {
        let (x, y, z) = (step * 7_919_777_777, MAX_RESERVE / step, step * step * 31_337 + 1);
        let pools = [hop(x, y, 0), hop(y, z, 0), hop(z, x, 0)];
        let sum: f64 = pools.iter().map(Hop::log_rate).sum();
        worst = worst.max(sum.abs());
    }
    assert!(worst > 0.0 && worst < LOG_MARGIN / 10.0, "{worst:e}");
}

#[test]
fn a_step_of_a_six_decimals_token_is_trimmed_to_its_foot() {
    let (ether, usdc) = (10u128.pow(18), 10u128.pow(6));
    let hops = [hop(1_000 * ether, 3_100_000 * usdc, 3000), hop(6_060_000 * usdc, 2_000 * ether, 2500)];
    let sizing = size_cycle(&hops).expect("the cycle gains");
    assert!(judged(&hops).is_some_and(|best| best.ceiling <= sizing.profit + 2));
    assert_eq!(hops[0].least_input(sizing.amounts[0]), Some(sizing.amount_in));
    assert!(gain(&hops, sizing.amount_in - 1) < Some(sizing.profit as i128 - 100_000_000));
}

#[test]
fn lengths_that_cannot_be_sized_are_none() {
    let pool = hop(1_000_000, 2_000_000, 3000);
    let check = |length: usize, sized: bool| {
        assert_eq!(size_cycle(&vec![pool; length]).is_some(), sized, "{length} hops");
    };
    check(0, false);
    check(1, false);
    check(2, true);
    check(3, true);
    check(4, true);
    check(5, false);
}
