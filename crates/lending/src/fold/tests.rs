use alloy_primitives::{Address, U256};
use proptest::prelude::*;

use crate::math::{RAY, Rounding, ray_div, ray_mul};
use crate::{
    CollateralTerms, EModeCategory, Holding, LendingError, LendingEvent, Market, Rates, Reserve, ReserveId,
    Revision, Scaling, StableDebt, StableSupply, Touch,
};

const NOW: u64 = 1_700_000_000;
const ASSET: ReserveId = ReserveId(0);

fn account(number: u8) -> Address {
    Address::with_last_byte(number)
}

fn reserve(id: u16) -> Reserve {
    Reserve {
        id: ReserveId(id),
        asset: Address::repeat_byte(u8::try_from(id).expect("few") + 0xa0),
        decimals: 18,
        liquidity_index: RAY,
        variable_borrow_index: RAY,
        liquidity_rate: RAY / U256::from(20),
        variable_borrow_rate: RAY / U256::from(10),
        last_update: NOW,
        scaled_variable_debt: U256::ZERO,
        ltv: 7_500,
        liquidation_threshold: 8_000,
        liquidation_bonus: 10_500,
        liquidation_protocol_fee: 1_000,
        active: true,
        frozen: false,
        paused: false,
        grace_period_until: 0,
        e_mode_category: 0,
    }
}

fn market(revision: Revision) -> Market {
    let mut market = Market::new(revision);
    market.set_reserve(reserve(0)).expect("in range");
    market.set_reserve(reserve(1)).expect("in range");
    market
}

fn scaling(value: u64, balance_increase: u64, index: U256) -> Scaling {
    Scaling {
        reserve: ASSET,
        account: account(1),
        value: U256::from(value),
        balance_increase: U256::from(balance_increase),
        index,
    }
}

fn follow(market: &mut Market, event: LendingEvent) {
    let _ = market.apply(&event, NOW).expect("it follows");
}

fn held(market: &Market) -> Holding {
    market.position(account(1)).map_or(Holding::none(ASSET), |position| position.holding(ASSET))
}

/// Halves of a unit meet often.
fn index() -> U256 {
    RAY * U256::from(15) / U256::from(10)
}

#[test]
fn a_mint_adds_what_it_is_without_the_interest() {
    let mut market = market(Revision::V3_0);
    follow(&mut market, LendingEvent::SupplyMinted(scaling(1_000, 0, RAY)));
    follow(&mut market, LendingEvent::SupplyMinted(scaling(650, 500, index())));
    assert_eq!(held(&market).scaled_supply, U256::from(1_100));
}

#[test]
fn a_mint_smaller_than_the_interest_takes_away() {
    let mut market = market(Revision::V3_0);
    follow(&mut market, LendingEvent::DebtMinted(scaling(1_000, 0, RAY)));
    follow(&mut market, LendingEvent::DebtMinted(scaling(350, 500, index())));
    assert_eq!(held(&market).scaled_debt, U256::from(900));
    assert_eq!(market.reserve(ASSET).expect("listed").scaled_variable_debt, U256::from(900));
}

#[test]
fn a_burn_takes_the_interest_with_it() {
    let mut market = market(Revision::V3_0);
    follow(&mut market, LendingEvent::SupplyMinted(scaling(1_000, 0, RAY)));
    follow(&mut market, LendingEvent::SupplyBurned(scaling(1_000, 500, index())));
    assert!(market.position(account(1)).is_none(), "nothing is left of it");
}

#[test]
fn a_burn_of_more_than_is_there_does_not_follow() {
    let mut market = market(Revision::V3_0);
    let before = market.clone();
    let event = LendingEvent::SupplyBurned(scaling(10, 0, RAY));
    let missed = LendingError::DoesNotFollow { reserve: ASSET, account: account(1) };
    assert_eq!(market.apply(&event, NOW), Err(missed));
    assert_eq!(market, before);
}

#[test]
fn a_balance_that_no_scaled_balance_has_does_not_follow() {
    // At this index the balances are 0, 1, 3, 4, 6: there is no 2.
    let mut market = market(Revision::V3_6);
    let event = LendingEvent::SupplyMinted(scaling(2, 0, index()));
    let missed = LendingError::DoesNotFollow { reserve: ASSET, account: account(1) };
    assert_eq!(market.apply(&event, NOW), Err(missed));
}

#[test]
fn a_transfer_of_which_half_cannot_follow_changes_nothing() {
    let mut market = market(Revision::V3_6);
    let event = LendingEvent::SupplyTransferred {
        reserve: ASSET,
        from: account(1),
        to: account(2),
        value: U256::ONE,
    };
    let before = market.clone();
    assert!(market.apply(&event, NOW).is_err());
    assert_eq!(market, before);
}

fn stable_mint(amount: u64, balance_increase: u64, new_rate: U256, supply: StableSupply) -> LendingEvent {
    LendingEvent::StableDebtMinted {
        reserve: ASSET,
        account: account(1),
        amount: U256::from(amount),
        balance_increase: U256::from(balance_increase),
        new_rate,
        supply,
    }
}

fn stable_burn(amount: u64, supply: StableSupply) -> LendingEvent {
    LendingEvent::StableDebtBurned { reserve: ASSET, account: account(1), amount: U256::from(amount), supply }
}

#[test]
fn the_second_version_lends_and_leaves_interest_in_the_same_words() {
    let mut market = market(Revision::V2);
    let (lent, rate, later) = (1_000_000, RAY / U256::from(10), NOW + 31_536_000);
    let total = |total: u64| StableSupply { total: U256::from(total), average_rate: rate };
    follow(&mut market, stable_mint(lent, 0, rate, total(lent)));
    let grown: u64 = held(&market).stable_debt.balance(Revision::V2, later).expect("small").to();
    let interest = grown - lent;
    assert!((105_000..106_000).contains(&interest), "{interest}");
    let principal = |event: LendingEvent| {
        let mut after = market.clone();
        let undo = after.apply(&event, later)?;
        let principal: u64 = held(&after).stable_debt.principal.to();
        after.revert(undo);
        assert_eq!(after, market);
        Ok(principal)
    };
    // 500 more are lent: the event says 500, and the interest becomes debt as well.
    assert_eq!(principal(stable_mint(500, interest, rate, total(grown + 500))), Ok(grown + 500));
    // 500 are repaid: the event says what is left of the interest.
    assert_eq!(principal(stable_mint(interest - 500, interest, rate, total(grown - 500))), Ok(grown - 500));
    let missed = LendingError::DoesNotFollow { reserve: ASSET, account: account(1) };
    assert_eq!(principal(stable_mint(500, interest, rate, total(grown + 501))), Err(missed));
}

#[test]
fn a_repayment_that_leaves_no_average_rate_leaves_no_supply_whatever_it_says() {
    let mut market = market(Revision::V2);
    let rate = RAY / U256::from(10);
    follow(
        &mut market,
        stable_mint(500, 0, rate, StableSupply { total: U256::from(500), average_rate: rate }),
    );
    follow(&mut market, stable_burn(400, StableSupply { total: U256::from(100), average_rate: U256::ZERO }));
    // As the token counts from nothing again.
    follow(&mut market, stable_mint(70, 0, rate, StableSupply { total: U256::from(70), average_rate: rate }));
    assert_eq!(held(&market).stable_debt.principal, U256::from(170));
}

#[test]
fn a_transfer_of_the_second_version_is_told_in_smallest_units() {
    let mut market = market(Revision::V2);
    follow(&mut market, LendingEvent::SupplyMinted(scaling(1_000, 0, RAY)));
    // Twenty years at five percent double the index.
    let later = NOW + 20 * 31_536_000;
    let event = LendingEvent::SupplyTransferred {
        reserve: ASSET,
        from: account(1),
        to: account(2),
        value: U256::from(600),
    };
    let _ = market.apply(&event, later).expect("it follows");
    assert_eq!(held(&market).scaled_supply, U256::from(700));
}

#[test]
fn a_stable_debt_that_is_burned_whole_leaves_nothing() {
    let mut market = market(Revision::V3_0);
    let amount = U256::from(500);
    let rate = RAY / U256::from(7);
    let supply = StableSupply { total: amount, average_rate: rate };
    follow(&mut market, stable_mint(500, 0, rate, supply));
    assert_eq!(held(&market).stable_debt, StableDebt { principal: amount, rate, last_update: NOW });
    follow(&mut market, stable_burn(500, StableSupply { total: U256::ZERO, average_rate: U256::ZERO }));
    assert!(market.position(account(1)).is_none());
}

#[test]
fn events_of_another_revision_are_refused() {
    let check = |revision, event: LendingEvent| {
        let refused = market(revision).apply(&event, NOW);
        assert!(matches!(refused, Err(LendingError::NotInRevision(..))), "{event:?}: {refused:?}");
    };
    let (reserve, category) = (ASSET, 1);
    check(Revision::V3_0, LendingEvent::GracePeriodChanged { reserve, until: 5 });
    check(
        Revision::V3_0,
        LendingEvent::AssetCollateralInEModeChanged { reserve, category, collateral: true },
    );
    check(Revision::V3_0, LendingEvent::AssetLtvZeroInEModeChanged { reserve, category, ltv_zero: true });
    check(Revision::V3_6, LendingEvent::EModeAssetCategoryChanged { reserve, category });
    let supply = StableSupply { total: U256::ONE, average_rate: RAY };
    check(Revision::V3_6, stable_burn(1, supply));
    check(Revision::V3_6, stable_mint(1, 0, RAY, supply));
    check(Revision::V3_0, LendingEvent::PoolPaused(true));
    check(Revision::V3_6, LendingEvent::PoolPaused(true));
}

#[test]
fn an_event_of_a_reserve_that_was_not_loaded_is_refused() {
    let event = LendingEvent::ReservePaused(ReserveId(7), true);
    let unknown = Err(LendingError::UnknownReserve(ReserveId(7)));
    assert_eq!(market(Revision::V3_6).apply(&event, NOW), unknown);
}

#[test]
fn a_collateral_that_stays_in_the_pool_accrues_without_an_event_after_the_first_release() {
    let event = LendingEvent::Liquidated { collateral: ASSET, receive_a_token: true };
    let later = NOW + 86_400;
    let accrued = |revision| {
        let mut market = market(revision);
        let _ = market.apply(&event, later).expect("it follows");
        market.reserve(ASSET).expect("listed").clone()
    };
    assert_eq!(accrued(Revision::V3_0), reserve(0));
    let newer = accrued(Revision::V3_6);
    assert_eq!(newer.last_update, later);
    assert!(newer.liquidity_index > RAY);
    assert_eq!(newer.variable_borrow_index, RAY, "nobody owes anything");
}

fn any_event() -> impl Strategy<Value = LendingEvent> {
    let id = || (0..2u16).prop_map(ReserveId);
    let who = || (1..4u8).prop_map(account);
    let some = || (0..1_000u64).prop_map(U256::from);
    let scaled = (id(), who(), some()).prop_map(|(reserve, account, value)| Scaling {
        reserve,
        account,
        value,
        balance_increase: U256::ZERO,
        index: RAY,
    });
    let rates = (id(), some()).prop_map(|(reserve, more)| Rates {
        reserve,
        liquidity_rate: more,
        variable_borrow_rate: more,
        liquidity_index: RAY + more,
        variable_borrow_index: RAY + more,
    });
    let terms = (id(), 0..9_000u16).prop_map(|(reserve, liquidation_threshold)| CollateralTerms {
        reserve,
        ltv: 10,
        liquidation_threshold,
        liquidation_bonus: 10_500,
    });
    prop_oneof![
        scaled.clone().prop_map(LendingEvent::SupplyMinted),
        scaled.clone().prop_map(LendingEvent::SupplyBurned),
        scaled.clone().prop_map(LendingEvent::DebtMinted),
        scaled.prop_map(LendingEvent::DebtBurned),
        rates.prop_map(LendingEvent::ReserveDataUpdated),
        terms.prop_map(LendingEvent::CollateralConfigurationChanged),
        (id(), who(), who(), some()).prop_map(|(reserve, from, to, value)| {
            LendingEvent::SupplyTransferred { reserve, from, to, value }
        }),
        (id(), who(), any::<bool>()).prop_map(|(reserve, account, enabled)| {
            LendingEvent::CollateralUseChanged { reserve, account, enabled }
        }),
        (who(), 0..3u8).prop_map(|(account, category)| LendingEvent::EModeSet { account, category }),
        (1..3u8, 0..9_000u16).prop_map(|(id, ltv)| {
            LendingEvent::EModeCategoryAdded(id, EModeCategory { ltv, ..EModeCategory::default() })
        }),
        (id(), 1..3u8, any::<bool>()).prop_map(|(reserve, category, collateral)| {
            LendingEvent::AssetCollateralInEModeChanged { reserve, category, collateral }
        }),
        id().prop_map(LendingEvent::ReserveDropped),
        (0..4u16).prop_map(|id| LendingEvent::ReserveListed(Box::new(reserve(id)))),
        (id(), any::<bool>()).prop_map(|(id, paused)| LendingEvent::ReservePaused(id, paused)),
        (id(), any::<u32>()).prop_map(|(reserve, until)| {
            LendingEvent::GracePeriodChanged { reserve, until: until.into() }
        }),
        (who(), some()).prop_map(|(source, price)| LendingEvent::PriceChanged { source, price }),
        any::<bool>().prop_map(LendingEvent::LiquidationAllowed),
    ]
}

proptest! {
    #[test]
    fn what_is_taken_back_was_never_there(events in proptest::collection::vec(any_event(), 1..60)) {
        let mut market = market(Revision::V3_6);
        let mut past = Vec::new();
        for event in &events {
            let before = market.clone();
            match market.apply(event, NOW) {
                Ok(undo) => past.push((before, undo)),
                Err(_) => prop_assert_eq!(&market, &before, "a refused event changes nothing"),
            }
        }
        for (before, undo) in past.into_iter().rev() {
            market.revert(undo);
            prop_assert_eq!(&market, &before);
        }
    }

    #[test]
    fn an_account_that_changed_is_touched(events in proptest::collection::vec(any_event(), 1..60)) {
        let mut market = market(Revision::V3_6);
        for event in &events {
            let before = market.clone();
            let Ok(undo) = market.apply(event, NOW) else { continue };
            let touched: Vec<_> = undo.touches().collect();
            for number in 1..4 {
                let changed = before.position(account(number)) != market.position(account(number));
                prop_assert!(!changed || touched.contains(&Touch::Account(account(number))));
            }
        }
    }

    /// `ScaledBalanceTokenBase._mintScaled` and `_burnScaled` of 3.6, which name rounded balances only.
    #[test]
    fn a_scaled_balance_is_followed_through_rounded_events(
        amounts in proptest::collection::vec((any::<u32>(), any::<bool>(), 0..1_000_000_000u64), 1..30),
        debt in any::<bool>(),
    ) {
        let rounding = if debt { Rounding::Up } else { Rounding::Down };
        let mut market = market(Revision::V3_6);
        let (mut scaled, mut index, mut previous) = (U256::ZERO, RAY, RAY);
        for (amount, minted, growth) in amounts {
            index += U256::from(growth) * U256::from(10).pow(U256::from(17));
            let balance = |scaled, index| ray_mul(scaled, index, rounding);
            let interest = balance(scaled, index)? - balance(scaled, previous)?;
            let part = ray_div(U256::from(amount), index, Rounding::Up)?;
            let next = if minted { scaled + part } else { scaled.saturating_sub(part) };
            let (new, old) = (balance(next, index)?, balance(scaled, previous)?);
            let event = |value| Scaling {
                reserve: ASSET, account: account(1), value, balance_increase: interest, index,
            };
            let event = match (new >= old, debt) {
                (true, false) => LendingEvent::SupplyMinted(event(new - old)),
                (true, true) => LendingEvent::DebtMinted(event(new - old)),
                (false, false) => LendingEvent::SupplyBurned(event(old - new)),
                (false, true) => LendingEvent::DebtBurned(event(old - new)),
            };
            let _ = market.apply(&event, NOW)?;
            (scaled, previous) = (next, index);
            let held = held(&market);
            prop_assert_eq!(if debt { held.scaled_debt } else { held.scaled_supply }, scaled);
        }
    }
}
