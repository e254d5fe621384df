//! Cycles that others took: what a block's transactions made of the pools.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use alloy_primitives::{Address, B256, I256, U256};
use headwater_events::{
    Action, BlockEvent, DecodedBlock, MixedStep, Protocol, SwapStep, V2Action, V3Action, V4Action,
};

use crate::concentrated::{ConcentratedKey, ConcentratedMeta};
use crate::snapshot::MarketSnapshot;

/// Swaps of one transaction that begin and end with one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenCycle {
    /// Place of the transaction in the block.
    pub transaction_index: u32,
    /// In the order in which the amounts follow from one another: nested swaps log the other way round.
    pub steps: Vec<MixedStep>,
}

impl TakenCycle {
    /// The token that it begins and ends with.
    pub fn token(&self) -> Address {
        self.steps.first().map_or(Address::ZERO, |step| step.swap.token_in)
    }

    /// What went in, in smallest units.
    pub fn amount_in(&self) -> U256 {
        self.steps.first().map_or(U256::ZERO, |step| step.swap.amount_in)
    }

    /// What came out, in smallest units, before gas and tips: negative where it lost.
    pub fn gain(&self) -> I256 {
        let out = self.steps.last().map_or(U256::ZERO, |step| step.swap.amount_out);
        I256::from_raw(out) - I256::from_raw(self.amount_in())
    }
}

/// The cycles that a block's transactions took through pools that the market knows, by transaction and first log.
///
/// A cycle is two swaps or more of one transaction, through different pools, in which each output is the next one's input, to the
/// unit, and the last token is the first one: what is kept there is the gain. So a swap that some other contract takes part in
/// between, a token that takes a fee, and a cycle that gains nothing at all are not seen. Whether the cycle was there before, or is
/// one half of a sandwich, it does not say.
pub fn taken_cycles(block: &BlockEvent, decoded: &DecodedBlock, market: &MarketSnapshot) -> Vec<TakenCycle> {
    let logs = block.logs.iter();
    let places: HashMap<u32, u32> = logs.map(|log| (log.log_index, log.transaction_index)).collect();
    let mut by_transaction = BTreeMap::<u32, Vec<MixedStep>>::new();
    for action in &decoded.actions {
        let Some((log_index, step)) = swap_of(action, market) else { continue };
        if let Some(transaction) = places.get(&log_index) {
            by_transaction.entry(*transaction).or_default().push(step);
        }
    }
    let cycles = by_transaction.into_iter().flat_map(|(transaction_index, swaps)| {
        let cycles = cycles_of(&swaps).into_iter();
        cycles.map(move |steps| TakenCycle { transaction_index, steps })
    });
    cycles.collect()
}

/// From each swap that no other one feeds, along the amounts.
fn cycles_of(swaps: &[MixedStep]) -> Vec<Vec<MixedStep>> {
    let mut by_input = HashMap::<(Address, U256), Vec<usize>>::new();
    for (at, MixedStep { swap, .. }) in swaps.iter().enumerate() {
        by_input.entry((swap.token_in, swap.amount_in)).or_default().push(at);
    }
    let outputs: BTreeSet<_> = swaps.iter().map(|step| (step.swap.token_out, step.swap.amount_out)).collect();
    let mut used = vec![false; swaps.len()];
    let mut cycles = Vec::new();
    let is_first = |step: &MixedStep| !outputs.contains(&(step.swap.token_in, step.swap.amount_in));
    for first in (0..swaps.len()).filter(|at| is_first(&swaps[*at])) {
        let mut path = vec![first];
        let mut last = &swaps[first].swap;
        while last.token_out != swaps[first].swap.token_in {
            let after = by_input.get(&(last.token_out, last.amount_out)).into_iter().flatten();
            let Some(next) = after.copied().find(|at| !used[*at] && !path.contains(at)) else { break };
            path.push(next);
            last = &swaps[next].swap;
        }
        let pools: BTreeSet<_> = path.iter().map(|at| (swaps[*at].swap.pool, swaps[*at].pool_id)).collect();
        let is_cycle = last.token_out == swaps[first].swap.token_in;
        if is_cycle && path.len() > 1 && pools.len() == path.len() {
            path.iter().for_each(|at| used[*at] = true);
            cycles.push(path.iter().map(|at| swaps[*at].clone()).collect());
        }
    }
    cycles
}

/// A swap through a pool that the market knows, from one token into the other.
fn swap_of(action: &Action, market: &MarketSnapshot) -> Option<(u32, MixedStep)> {
    match action {
        Action::V2 { log_index, emitter, action } => {
            let V2Action::Swap { amount0_in, amount1_in, amount0_out, amount1_out, .. } = action else {
                return None;
            };
            let meta = market.pools.meta(market.pools.find(emitter)?)?;
            let zero_for_one = match (amount0_out.is_zero(), amount1_out.is_zero()) {
                (true, false) => true,
                (false, true) => false,
                _ => return None,
            };
            let amounts =
                if zero_for_one { [*amount0_in, *amount1_out] } else { [*amount1_in, *amount0_out] };
            let tokens = [meta.token0, meta.token1];
            Some((*log_index, step((meta.protocol, *emitter, None), tokens, zero_for_one, amounts)?))
        }
        Action::V3 { log_index, emitter, action: V3Action::Swap { amount0, amount1, .. } } => {
            let meta = known(market, &ConcentratedKey::V3(*emitter))?;
            let pool = (Protocol::UniswapV3, *emitter, None);
            Some((*log_index, signed_step(pool, meta, [*amount0, *amount1])?))
        }
        Action::V4 { log_index, emitter, action: V4Action::Swap { id, amount0, amount1, .. } } => {
            let meta = known(market, &ConcentratedKey::V4 { manager: *emitter, id: *id })?;
            let pool = (Protocol::UniswapV4, *emitter, Some(*id));
            let amounts = [*amount0, *amount1].map(|amount| I256::try_from(amount).unwrap_or_default());
            Some((*log_index, signed_step(pool, meta, amounts.map(|amount| -amount))?))
        }
        _ => None,
    }
}

fn known<'a>(market: &'a MarketSnapshot, key: &ConcentratedKey) -> Option<&'a ConcentratedMeta> {
    market.concentrated.meta(market.concentrated.find_key(key)?)
}

/// Amounts as the pool counts them: what it got is positive.
fn signed_step(
    pool: (Protocol, Address, Option<B256>),
    meta: &ConcentratedMeta,
    [amount0, amount1]: [I256; 2],
) -> Option<MixedStep> {
    let zero_for_one = amount0.is_positive();
    let (into, out) = if zero_for_one { (amount0, amount1) } else { (amount1, amount0) };
    let amounts = [into.into_raw(), out.is_negative().then(|| out.unsigned_abs())?];
    step(pool, [meta.token0, meta.token1], zero_for_one, amounts)
}

fn step(
    (protocol, pool, pool_id): (Protocol, Address, Option<B256>),
    [token0, token1]: [Address; 2],
    zero_for_one: bool,
    [amount_in, amount_out]: [U256; 2],
) -> Option<MixedStep> {
    let (token_in, token_out) = if zero_for_one { (token0, token1) } else { (token1, token0) };
    let swap = SwapStep { pool, token_in, token_out, amount_in, amount_out };
    (!amount_in.is_zero()).then_some(MixedStep { protocol, pool_id, zero_for_one, swap })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swap(pool: u8, [from, to]: [u8; 2], [amount_in, amount_out]: [u64; 2]) -> MixedStep {
        let [token_in, token_out] = [from, to].map(Address::repeat_byte);
        let [amount_in, amount_out] = [amount_in, amount_out].map(U256::from);
        let swap = SwapStep { pool: Address::repeat_byte(pool), token_in, token_out, amount_in, amount_out };
        MixedStep { protocol: Protocol::UniswapV2, pool_id: None, zero_for_one: from < to, swap }
    }

    /// The pools of each cycle.
    fn check(swaps: &[MixedStep], expected: &[&[u8]]) {
        let pools = |steps: &Vec<MixedStep>| steps.iter().map(|step| step.swap.pool[0]).collect::<Vec<_>>();
        let found: Vec<_> = cycles_of(swaps).iter().map(pools).collect();
        assert_eq!(found, expected, "{swaps:?}");
    }

    #[test]
    fn a_cycle_begins_where_the_amounts_do_not_follow_whatever_the_order_of_the_logs() {
        let [a, b, c] =
            [swap(11, [1, 2], [100, 200]), swap(12, [2, 3], [200, 300]), swap(13, [3, 1], [300, 101])];
        check(&[a.clone(), b.clone(), c.clone()], &[&[11, 12, 13]]);
        check(&[c.clone(), b.clone(), a.clone()], &[&[11, 12, 13]]);
        let loses = swap(13, [3, 1], [300, 99]);
        check(&[a.clone(), b.clone(), loses], &[&[11, 12, 13]]);
        check(&[a, b], &[]);
        check(&[c], &[]);
    }

    #[test]
    fn what_does_not_follow_to_the_unit_or_returns_through_its_own_pool_is_none() {
        check(&[swap(11, [1, 2], [100, 200]), swap(12, [2, 1], [199, 101])], &[]);
        check(&[swap(11, [1, 2], [100, 200]), swap(11, [2, 1], [200, 99])], &[]);
        check(&[swap(11, [1, 2], [100, 200]), swap(12, [2, 1], [200, 100])], &[]);
    }

    #[test]
    fn a_swap_is_of_one_cycle_only() {
        let shared = swap(12, [2, 1], [200, 101]);
        check(&[swap(11, [1, 2], [100, 200]), swap(13, [1, 2], [90, 200]), shared], &[&[11, 12]]);
        let two = [
            swap(11, [1, 2], [100, 200]),
            swap(12, [2, 1], [200, 101]),
            swap(13, [1, 2], [50, 90]),
            swap(14, [2, 1], [90, 51]),
        ];
        check(&two, &[&[11, 12], &[13, 14]]);
    }

    #[test]
    fn the_gain_is_what_came_out_less_what_went_in() {
        let steps = vec![swap(11, [1, 2], [100, 200]), swap(12, [2, 1], [200, 93])];
        let taken = TakenCycle { transaction_index: 3, steps };
        assert_eq!((taken.token(), taken.amount_in()), (Address::repeat_byte(1), U256::from(100)));
        assert_eq!(taken.gain(), I256::try_from(-7).expect("it fits"));
    }
}
