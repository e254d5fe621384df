//! The sale of what was seized: through one pool, or through two by way of a token between.

use alloy_primitives::{Address, U256};
use headwater_amm::{Fee, Hop};
use headwater_events::SwapStep;
use headwater_market::{PoolId, PoolMeta, PoolTable};
use rustc_hash::FxHashMap;

/// How an amount becomes another token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sale {
    /// None where there is nothing to swap.
    pub(super) steps: Vec<SwapStep>,
    /// What is had in the end.
    pub(super) amount_out: U256,
    /// Whether that is what was wanted.
    pub(super) is_sold: bool,
}

/// Which pools a token is in. What a pool holds is looked up when it is asked.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// How many pools of the table are known here.
    known: usize,
    by_token: FxHashMap<Address, Vec<PoolId>>,
    /// By pair, the lower address first.
    by_pair: FxHashMap<[Address; 2], Vec<PoolId>>,
}

impl Sale {
    /// What was seized stays what it is.
    pub(super) fn none(seized: U256) -> Self {
        Self { steps: Vec::new(), amount_out: seized, is_sold: false }
    }
}

impl Routes {
    /// Takes note of the pools that are new. A table that shrank is another table.
    pub(super) fn learn(&mut self, pools: &PoolTable) {
        if pools.len() < self.known {
            *self = Self::default();
        }
        for (id, meta, _) in pools.iter().skip(self.known) {
            let pair = [meta.token0, meta.token1];
            self.by_pair.entry(pair).or_default().push(id);
            pair.into_iter().for_each(|token| self.by_token.entry(token).or_default().push(id));
        }
        self.known = pools.len();
    }

    /// The sale that yields most; of equals the one through fewer pools, and then through lower addresses. `None` where no
    /// pool leads there.
    pub(super) fn sell(&self, pools: &PoolTable, from: Address, to: Address, amount: U256) -> Option<Sale> {
        if from == to {
            return Some(Sale { steps: Vec::new(), amount_out: amount, is_sold: true });
        }
        let mut best: Option<Vec<SwapStep>> = None;
        let mut offer = |steps: Vec<SwapStep>| {
            if best.as_ref().is_none_or(|best| is_better(&steps, best)) {
                best = Some(steps);
            }
        };
        for direct in self.swaps(pools, from, to, amount) {
            offer(vec![direct]);
        }
        for first in self.by_token.get(&from).into_iter().flatten() {
            let Some(first) = swap(pools, *first, from, amount).filter(|step| step.token_out != to) else {
                continue;
            };
            for second in self.swaps(pools, first.token_out, to, first.amount_out) {
                offer(vec![first.clone(), second]);
            }
        }
        let steps = best?;
        let amount_out = steps.last()?.amount_out;
        Some(Sale { steps, amount_out, is_sold: true })
    }

    /// Through each pool of two tokens.
    fn swaps(
        &self,
        pools: &PoolTable,
        from: Address,
        to: Address,
        amount: U256,
    ) -> impl Iterator<Item = SwapStep> {
        let pair = [from.min(to), from.max(to)];
        let listed = self.by_pair.get(&pair).into_iter().flatten();
        listed.filter_map(move |id| swap(pools, *id, from, amount))
    }
}

/// What a pool gives for an amount, if it may be quoted and takes that much.
fn swap(pools: &PoolTable, id: PoolId, token_in: Address, amount_in: U256) -> Option<SwapStep> {
    let PoolMeta { address, token0, token1, fee_ppm, .. } = *pools.meta(id)?;
    let held = pools.quoted(id)?;
    let hop = Hop::new(held.reserve0, held.reserve1, Fee::from_ppm(fee_ppm).ok()?).ok()?;
    let (hop, token_out) = if token_in == token0 { (hop, token1) } else { (hop.reversed(), token0) };
    if amount_in > U256::from(hop.max_input()) {
        return None;
    }
    let amount_out = hop.amount_out(amount_in).ok().filter(|out| !out.is_zero())?;
    Some(SwapStep { pool: address, token_in, token_out, amount_in, amount_out })
}

fn is_better(steps: &[SwapStep], than: &[SwapStep]) -> bool {
    let yields = |steps: &[SwapStep]| steps.last().map_or(U256::ZERO, |step| step.amount_out);
    let path = |steps: &[SwapStep]| steps.iter().map(|step| step.pool).collect::<Vec<_>>();
    yields(steps)
        .cmp(&yields(than))
        .then_with(|| than.len().cmp(&steps.len()))
        .then_with(|| path(than).cmp(&path(steps)))
        .is_gt()
}
