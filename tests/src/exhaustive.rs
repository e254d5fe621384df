//! The findings of a block as its results tell them, against the exhaustive search on the same reserves.

use std::collections::{BTreeMap, HashMap};

use alloy_primitives::{Address, U256};
use anyhow::{Context, ensure};
use headwater_reference::arbitrage::{Best, Cycle, Pool, Swap, best_input, search_sized_by};

use crate::follower::FoundLine;

/// Gains of a unit or two are within the tolerance of both sides: they may be found or not.
const DUST: u128 = 2;

/// The search, which remembers the sizes of cycles whose reserves it has seen before.
#[derive(Debug, Default)]
pub struct Exhaustive {
    remembered: HashMap<Vec<Swap>, Option<Best>>,
}

/// Path and tokens: what tells one cycle from another.
type Way<'a> = (&'a [Address], &'a [Address]);

impl Exhaustive {
    /// Every profitable cycle of two or three pools through `bases`.
    pub fn search(&mut self, pools: &[Pool], bases: &[Address]) -> Vec<Cycle> {
        let remembered = &mut self.remembered;
        search_sized_by(pools, bases, 3, &mut |swaps| {
            *remembered.entry(swaps.to_vec()).or_insert_with(|| best_input(swaps))
        })
    }

    /// Nothing is missing among `found`, nothing invented, everything as large as integers allow, and every amount what
    /// the pools give. Says how many cycles there are.
    ///
    /// # Errors
    ///
    /// The first difference.
    pub fn compare(&mut self, found: &[FoundLine], pools: &[Pool], bases: &[Address]) -> anyhow::Result<u64> {
        let truth = self.search(pools, bases);
        let by_way: BTreeMap<Way<'_>, &FoundLine> =
            found.iter().map(|found| ((&found.path[..], &found.tokens[..]), found)).collect();
        ensure!(by_way.len() == found.len(), "a cycle is reported twice");
        for cycle in &truth {
            let found = by_way.get(&(&cycle.path[..], &cycle.tokens[..]));
            let profit = found.map_or(0, |found| found.profit.to::<u128>());
            ensure!(profit <= cycle.ceiling, "{profit} is more than any input gains in {cycle:?}");
            let within = profit + DUST >= cycle.ceiling || profit + DUST > cycle.profit;
            ensure!(within, "{profit} is not within {DUST} units of the best in {cycle:?}");
        }
        let known: BTreeMap<Way<'_>, &Cycle> =
            truth.iter().map(|cycle| ((&cycle.path[..], &cycle.tokens[..]), cycle)).collect();
        for found in found {
            quote_again(found, pools)?;
            let is_known = known.contains_key(&(&found.path[..], &found.tokens[..]));
            ensure!(is_known || found.profit <= U256::from(DUST), "invented: {found:?}");
        }
        Ok(truth.len() as u64)
    }
}

/// What comes out at the end is what the pools give, and the profit what it leaves.
fn quote_again(found: &FoundLine, pools: &[Pool]) -> anyhow::Result<()> {
    let mut amount = found.amount_in.to::<u128>();
    for (pool, token_in) in found.path.iter().zip(&found.tokens) {
        let pool = pools.iter().find(|known| known.address == *pool).context("an unknown pool")?;
        let Pool { reserve0, reserve1, fee_ppm, .. } = *pool;
        let (reserve_in, reserve_out) =
            if *token_in == pool.token0 { (reserve0, reserve1) } else { (reserve1, reserve0) };
        let output = Swap { reserve_in, reserve_out, fee_ppm }.output(amount);
        amount = output.with_context(|| format!("more than {} can hold: {found:?}", pool.address))?;
    }
    let is_so = U256::from(amount) == found.amount_out && found.amount_in + found.profit == found.amount_out;
    ensure!(is_so, "the pools give {amount}: {found:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    fn token(n: u8) -> Address {
        Address::repeat_byte(n)
    }

    fn market() -> [Pool; 2] {
        [1_000_000, 1_100_000].map(|reserve1| Pool {
            address: Address::from_word(U256::from(reserve1).into()),
            token0: token(1),
            token1: token(2),
            reserve0: 1_000_000,
            reserve1,
            fee_ppm: 3000,
        })
    }

    fn right() -> FoundLine {
        let cycle = Exhaustive::default().search(&market(), &[token(1)]).remove(0);
        FoundLine {
            kind: "arbitrage".to_owned(),
            detector: "arbitrage".to_owned(),
            index: 0,
            hops: None,
            borrower: None,
            health_factor: None,
            collateral: None,
            debt: None,
            repay: None,
            seize: None,
            block: 1,
            block_hash: B256::ZERO,
            amount_in: U256::from(cycle.amount_in),
            amount_out: U256::from(cycle.amount_in + cycle.profit),
            profit: U256::from(cycle.profit),
            path: cycle.path,
            tokens: cycle.tokens,
        }
    }

    fn compare(found: &[FoundLine]) -> anyhow::Result<u64> {
        Exhaustive::default().compare(found, &market(), &[token(1)])
    }

    #[test]
    fn what_the_search_finds_is_accepted_once() {
        assert_eq!(compare(&[right()]).expect("it is right"), 1);
        assert!(compare(&[right(), right()]).is_err());
    }

    #[test]
    fn what_is_missing_invented_small_or_wrong_is_refused() {
        assert!(compare(&[]).is_err());
        let one = U256::ONE;
        assert!(compare(&[FoundLine { profit: right().profit + one, ..right() }]).is_err());
        assert!(compare(&[FoundLine { amount_out: right().amount_out + one, ..right() }]).is_err());
        let mut reverse = right();
        reverse.path.reverse();
        assert!(compare(&[right(), reverse]).is_err());
    }
}
