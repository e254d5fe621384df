use alloy_primitives::{Address, B256, Bloom, Bytes, U256};
use headwater_events::{
    Behind, BlockEvent, Grade, Header, Kind, LiquidateBehind, LiquidationPlan, MixedStep, PendingTxEvent,
    Protocol, SwapStep, Transaction,
};

use super::*;

pub(crate) fn hash(name: u8) -> B256 {
    B256::repeat_byte(name)
}

/// A block whose height is its sequence number unless a test cares.
pub(crate) fn block(name: u8, number: u64) -> BusEvent {
    BusEvent::NewBlock(BlockEvent {
        header: Header {
            number,
            hash: hash(name),
            parent_hash: hash(name.wrapping_sub(1)),
            timestamp: 0,
            base_fee_per_gas: None,
            gas_used: 0,
            gas_limit: 0,
            beneficiary: Address::ZERO,
            logs_bloom: Bloom::ZERO,
        },
        transactions: vec![],
        logs: vec![],
        grade: Grade::Proven,
    })
}

pub(crate) fn reorg(ancestor: u8, undone: &[u8]) -> BusEvent {
    BusEvent::Reorg(ReorgEvent {
        ancestor_number: 1,
        ancestor_hash: hash(ancestor),
        undone: undone.iter().copied().map(hash).collect(),
        old_head: hash(undone[0]),
        new_head: hash(99),
    })
}

pub(crate) fn as_of(name: u8, seq: u64) -> AsOf {
    AsOf { seq, number: seq, hash: hash(name) }
}

pub(crate) fn finding(as_of: AsOf) -> Opportunity {
    let step = |pool, token_in, token_out| SwapStep {
        pool: Address::repeat_byte(pool),
        token_in: Address::repeat_byte(token_in),
        token_out: Address::repeat_byte(token_out),
        amount_in: U256::from(10),
        amount_out: U256::from(10),
    };
    Opportunity {
        kind: Kind::Arbitrage,
        as_of,
        path: vec![],
        tokens: vec![],
        amount_in: U256::from(10),
        amount_out: U256::from(15),
        profit: U256::from(5),
        gas: 200_000,
        net_profit_wei: Some(I256::ONE),
        valid_until: as_of.number + 1,
        plan: Plan::Swaps(vec![step(8, 1, 2), step(9, 2, 1)]),
    }
}

fn liquidation() -> Plan {
    Plan::Liquidate(Box::new(liquidation_plan()))
}

fn liquidation_behind() -> Plan {
    let transaction = Transaction {
        hash: hash(7),
        from: Address::ZERO,
        to: None,
        value: U256::ZERO,
        input: Bytes::new(),
        nonce: 0,
        gas_limit: 0,
    };
    let pending = PendingTxEvent { transaction, max_fee_per_gas: 1, max_priority_fee_per_gas: None };
    Plan::LiquidateBehind(Box::new(LiquidateBehind::new(pending, liquidation_plan())))
}

fn liquidation_plan() -> LiquidationPlan {
    LiquidationPlan {
        protocol: "aave-v3".to_owned(),
        pool: Address::repeat_byte(1),
        borrower: Address::repeat_byte(2),
        collateral: Address::repeat_byte(3),
        debt: Address::repeat_byte(4),
        debt_to_cover: U256::MAX,
        repay: U256::from(10),
        seize: U256::from(11),
        health_factor: U256::from(12),
        sale: vec![],
        unsearched: 0,
    }
}

pub(crate) fn set(as_of: AsOf, findings: usize) -> OpportunitySet {
    OpportunitySet { as_of, detector: "arbitrage".into(), items: vec![finding(as_of); findings] }
}

const LIVE: Circumstances = Circumstances { has_state: true, journal_stalled: false, ending: false };
const REPLAY: Circumstances = Circumstances { has_state: false, journal_stalled: false, ending: false };

/// An executor that has seen blocks 1 and 2, as events 1 and 2.
fn executor() -> Executor {
    let mut executor = Executor::new(&ExecutorConfig::default());
    executor.apply(1, &block(1, 1));
    executor.apply(2, &block(2, 2));
    executor
}

fn check(executor: &mut Executor, finding: Opportunity, circumstances: Circumstances, expected: Next) {
    let set = OpportunitySet { as_of: finding.as_of, detector: "arbitrage".into(), items: vec![finding] };
    assert_eq!(executor.receive(&set, circumstances), [expected], "{circumstances:?}");
}

fn expired() -> Next {
    Next::Judged(Verdict::Expired)
}

#[test]
fn a_finding_of_the_head_is_simulated() {
    check(&mut executor(), finding(as_of(2, 2)), LIVE, Next::Simulate);
}

#[test]
fn a_finding_whose_block_is_no_longer_the_head_has_expired() {
    check(&mut executor(), finding(as_of(1, 1)), LIVE, expired());
}

#[test]
fn a_newer_head_that_waits_in_the_mailbox_expires_what_is_in_hand() {
    let mut executor = executor();
    executor.foresee(3);
    check(&mut executor, finding(as_of(2, 2)), LIVE, expired());
    executor.apply(3, &block(3, 3));
    check(&mut executor, finding(as_of(3, 3)), LIVE, Next::Simulate);
}

#[test]
fn a_reorg_cancels_the_opportunity() {
    let mut executor = executor();
    executor.apply(3, &reorg(1, &[2]));
    check(&mut executor, finding(as_of(2, 2)), LIVE, refused(Refusal::Orphaned));
}

#[test]
fn a_block_that_becomes_canonical_again_is_no_longer_orphaned() {
    let mut executor = executor();
    executor.apply(3, &reorg(1, &[2]));
    executor.apply(4, &block(2, 2));
    check(&mut executor, finding(as_of(2, 4)), LIVE, Next::Simulate);
}

/// As when its logs were assumed and turned out to be others: the hash is the same.
#[test]
fn what_was_found_in_a_block_before_it_was_undone_is_refused_when_it_has_come_again() {
    let mut executor = executor();
    executor.apply(3, &reorg(1, &[2]));
    check(&mut executor, finding(as_of(2, 2)), LIVE, refused(Refusal::Orphaned));
    executor.apply(4, &block(2, 2));
    check(&mut executor, finding(as_of(2, 2)), LIVE, refused(Refusal::Orphaned));
    check(&mut executor, finding(as_of(2, 4)), LIVE, Next::Simulate);
}

#[test]
fn only_the_newest_orphans_are_remembered() {
    let mut executor = executor();
    for seq in 3..2_000 {
        executor.apply(seq, &reorg(1, &[2, 3]));
    }
    assert_eq!(executor.orphaned.len(), ORPHANS);
}

/// A swap through such a pool behind a transaction.
pub(crate) fn behind(protocol: Protocol) -> Plan {
    let transaction = Transaction {
        hash: hash(7),
        from: Address::ZERO,
        to: None,
        value: U256::ZERO,
        input: Default::default(),
        nonce: 0,
        gas_limit: 0,
    };
    let pending = PendingTxEvent { transaction, max_fee_per_gas: 1, max_priority_fee_per_gas: None };
    let swap = SwapStep {
        pool: Address::ZERO,
        token_in: Address::ZERO,
        token_out: Address::ZERO,
        amount_in: U256::ZERO,
        amount_out: U256::ZERO,
    };
    Plan::Behind(Box::new(Behind::new(pending, vec![MixedStep { protocol, ..swap.into() }])))
}

#[test]
fn what_there_is_to_gain_is_asked_before_anything_else() {
    let at = as_of(1, 1); // not the head
    let with = |net_profit_wei| Opportunity { net_profit_wei, ..finding(at) };
    for circumstances in [LIVE, REPLAY] {
        let inform = Opportunity { plan: Plan::Inform, ..with(None) };
        check(&mut executor(), inform, circumstances, refused(Refusal::NothingToDo));
        for plan in [liquidation(), liquidation_behind(), Plan::Mixed(vec![]), behind(Protocol::UniswapV3)] {
            let unable = Opportunity { plan, ..with(Some(I256::MAX)) };
            check(&mut executor(), unable, circumstances, refused(Refusal::NotExecutable));
        }
        let plain = Opportunity { plan: behind(Protocol::UniswapV2), ..with(None) };
        check(&mut executor(), plain, circumstances, refused(Refusal::NoNetProfit));
        check(&mut executor(), with(None), circumstances, refused(Refusal::NoNetProfit));
        let loss = with(Some(I256::MINUS_ONE));
        check(&mut executor(), loss, circumstances, refused(Refusal::BelowMinimum));
    }
}

#[test]
fn without_state_the_verdict_does_not_depend_on_the_moment() {
    let unsimulated = || Next::Judged(Verdict::Unsimulated);
    let mut executor = executor();
    check(&mut executor, finding(as_of(2, 2)), REPLAY, unsimulated());
    executor.apply(3, &reorg(1, &[2]));
    check(&mut executor, finding(as_of(2, 2)), REPLAY, unsimulated());
    let stalled = Circumstances { journal_stalled: true, ..REPLAY };
    check(&mut executor, finding(as_of(1, 1)), stalled, unsimulated());
}

#[test]
fn nothing_is_acted_upon_while_the_journal_stalls() {
    let ending = Circumstances { ending: true, journal_stalled: true, ..LIVE };
    check(&mut executor(), finding(as_of(2, 2)), ending, refused(Refusal::Ending));
    let stalled = Circumstances { journal_stalled: true, ..LIVE };
    check(&mut executor(), finding(as_of(2, 2)), stalled, refused(Refusal::JournalStalled));
}

#[test]
fn a_restarted_executor_learns_the_head_from_the_set_in_hand() {
    let mut executor = Executor::new(&ExecutorConfig::default());
    check(&mut executor, finding(as_of(7, 7)), LIVE, Next::Simulate);
    check(&mut executor, finding(as_of(6, 6)), LIVE, expired());
}

#[test]
fn a_set_uses_up_its_simulations_best_first() {
    let limit = std::num::NonZeroU32::MIN.saturating_add(1);
    let config = ExecutorConfig { max_simulations_per_block: limit, ..ExecutorConfig::default() };
    let mut executor = Executor::new(&config);
    let next = executor.receive(&set(as_of(1, 1), 4), LIVE);
    let too_many = || refused(Refusal::TooMany);
    assert_eq!(next, [Next::Simulate, Next::Simulate, too_many(), too_many()]);
}

#[test]
fn the_simulation_decides() {
    let conclude = |result| Executor::conclude(&finding(as_of(1, 1)), result);
    let yields = |profit| Ok(Simulated { profit: U256::from(profit), gas_used: None });
    assert_eq!(conclude(yields(5)), Verdict::WouldSend);
    let simulated = U256::from(4);
    assert_eq!(conclude(yields(4)), Verdict::Refused(Refusal::ProfitDiffers { simulated }));
    let reverted = SimulationError::Reverted("UniswapV2: K".into());
    assert_eq!(conclude(Err(reverted)), Verdict::Refused(Refusal::Reverted("UniswapV2: K".into())));
    let failed = conclude(Err(SimulationError::BlockUnknown("gone".into())));
    assert!(matches!(failed, Verdict::Refused(Refusal::SimulationFailed(_))), "{failed:?}");
    assert_eq!(conclude(Err(SimulationError::Unavailable)), Verdict::Unsimulated);
}
