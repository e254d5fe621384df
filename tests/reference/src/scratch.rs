//! Pools and prices of one chain from scratch: its blocks are folded once, oldest first, and every price is computed anew
//! after each of them. Nothing is ever undone, because a block that was reorganised away is not among them.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, U256, U512, keccak256};
use serde_json::Value;

use crate::fake_node::{FakeBlock, V2Pair, bytes, sync_topic};

/// What is known beside the blocks.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Factories whose `PairCreated` counts, with their pools' fee in parts per million.
    pub factories: BTreeMap<Address, u32>,
    /// What prices are counted in.
    pub wrapped_native: Address,
    /// Wei of it that a pool must hold for its price to count.
    pub min_base_reserve: U256,
    /// Pools as they stood before the first block.
    pub loaded: Vec<V2Pair>,
    /// Pools that no block created and that were proven later: what they hold is what their `Sync` says.
    pub found: Vec<V2Pair>,
    /// Tokens whose pools are not quoted.
    pub refused: BTreeSet<Address>,
    /// Tokens about which there is a verdict: without it, a pool that a block created is not quoted.
    pub judged: BTreeSet<Address>,
}

/// The market after the last block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scratch {
    /// Every proven pool.
    pub pools: BTreeMap<Address, ScratchPool>,
    /// Every token that has a price, but for the wrapped native one.
    pub prices: BTreeMap<Address, ScratchPrice>,
}

/// A pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScratchPool {
    /// Whose it is.
    pub factory: Address,
    /// The token with the lower address.
    pub token0: Address,
    /// The token with the higher address.
    pub token1: Address,
    /// Parts per million of the input.
    pub fee_ppm: u32,
    /// What it holds; `None` before its first `Sync`.
    pub reserves: Option<(u128, u128)>,
    /// Whether it may be quoted: it holds something of both, neither is refused, and if a block created it, both are judged.
    pub is_quoted: bool,
}

/// A price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScratchPrice {
    /// Wei per smallest unit, times 10^36, rounded down.
    pub mantissa: U256,
    /// The pool that holds most of the wrapped native token; the lowest address of several.
    pub source: Address,
    /// The block in which it became what it is.
    pub changed_at: u64,
}

/// The market after these blocks, which stand on each other and on the block of [`Known::loaded`].
pub fn from_scratch<'a>(known: &Known, blocks: impl IntoIterator<Item = &'a FakeBlock>) -> Scratch {
    let mut scratch = before_blocks(known);
    blocks.into_iter().for_each(|block| scratch.block(known, block));
    scratch
}

/// The market before the first block.
pub fn before_blocks(known: &Known) -> Scratch {
    let mut pools = BTreeMap::new();
    for (pairs, is_loaded) in [(&known.loaded, true), (&known.found, false)] {
        for pair in pairs {
            let pool = ScratchPool {
                factory: pair.factory,
                token0: pair.token0,
                token1: pair.token1,
                fee_ppm: known.factories[&pair.factory],
                reserves: is_loaded.then_some((pair.reserve0, pair.reserve1)),
                is_quoted: false,
            };
            pools.insert(pair.address, pool);
        }
    }
    Scratch { pools, prices: BTreeMap::new() }
}

impl Scratch {
    /// The market after one more block.
    pub fn block(&mut self, known: &Known, block: &FakeBlock) {
        block.logs().into_iter().for_each(|log| self.log(known, log));
        self.quote(known);
        self.price(known, block.number());
    }

    fn log(&mut self, known: &Known, log: &Value) {
        let emitter = Address::from_slice(&bytes(&log["address"]));
        let topics: Vec<B256> = log["topics"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|topic| B256::from_slice(&bytes(topic)))
            .collect();
        let data = bytes(&log["data"]);
        if data.len() != 64 {
            return;
        }
        let words = [U256::from_be_slice(&data[..32]), U256::from_be_slice(&data[32..])];
        if topics == [sync_topic()] {
            if let Some(pool) = self.pools.get_mut(&emitter)
                && words.iter().all(|word| word.bit_len() <= 112)
            {
                pool.reserves = Some((words[0].to(), words[1].to()));
            }
        } else if let [topic, token0, token1] = topics[..]
            && topic == keccak256("PairCreated(address,address,address,uint256)")
            && let Some(fee_ppm) = known.factories.get(&emitter)
        {
            let pool = ScratchPool {
                factory: emitter,
                token0: Address::from_word(token0),
                token1: Address::from_word(token1),
                fee_ppm: *fee_ppm,
                reserves: None,
                is_quoted: false,
            };
            self.pools.entry(Address::from_word(words[0].into())).or_insert(pool);
        }
    }

    fn quote(&mut self, known: &Known) {
        let learnt: BTreeSet<Address> =
            known.loaded.iter().chain(&known.found).map(|pair| pair.address).collect();
        for (address, pool) in &mut self.pools {
            let is_accepted = |token| {
                !known.refused.contains(token) && (learnt.contains(address) || known.judged.contains(token))
            };
            pool.is_quoted = is_accepted(&pool.token0)
                && is_accepted(&pool.token1)
                && pool.reserves.is_some_and(|(reserve0, reserve1)| reserve0 > 0 && reserve1 > 0);
        }
    }

    fn price(&mut self, known: &Known, number: u64) {
        let before = std::mem::take(&mut self.prices);
        let tokens: BTreeSet<Address> =
            self.pools.values().flat_map(|pool| [pool.token0, pool.token1]).collect();
        for token in tokens.into_iter().filter(|token| *token != known.wrapped_native) {
            let Some((mantissa, source)) = self.price_of(known, token) else { continue };
            let same = before.get(&token).filter(|before| before.mantissa == mantissa);
            let changed_at = same.map_or(number, |before| before.changed_at);
            self.prices.insert(token, ScratchPrice { mantissa, source, changed_at });
        }
    }

    /// The mean over the deep pools against the wrapped native token, weighted by what they hold of it; none counts with more than
    /// twice, or less than half, of the lowest price that as much of it is at or below as above.
    fn price_of(&self, known: &Known, token: Address) -> Option<(U256, Address)> {
        let one = U256::from(10).pow(U256::from(36));
        let mut deep: Vec<(U256, U256)> = Vec::new();
        let mut deepest: Option<(U256, Address)> = None;
        for (address, pool) in &self.pools {
            let Some((reserve0, reserve1)) = pool.reserves.filter(|_| pool.is_quoted) else { continue };
            let (base, other) = match (pool.token0, pool.token1) {
                (base, other) if (base, other) == (known.wrapped_native, token) => (reserve0, reserve1),
                (other, base) if (other, base) == (token, known.wrapped_native) => (reserve1, reserve0),
                _ => continue,
            };
            let base = U256::from(base);
            if base < known.min_base_reserve {
                continue;
            }
            deep.push((base * one / U256::from(other), base));
            if deepest.is_none_or(|(most, _)| base > most) {
                deepest = Some((base, *address));
            }
        }
        let is_middle = |middle: &U256| {
            let up_to: U256 = deep.iter().filter(|(price, _)| price <= middle).map(|(_, base)| *base).sum();
            let above: U256 = deep.iter().filter(|(price, _)| price > middle).map(|(_, base)| *base).sum();
            up_to >= above
        };
        let middle = deep.iter().map(|(price, _)| *price).filter(is_middle).min()?;
        let (mut weighted, mut weight) = (U512::ZERO, U512::ZERO);
        for (price, base) in &deep {
            let counted = (*price).max(middle / U256::from(2)).min(middle * U256::from(2));
            weighted += U512::from(counted) * U512::from(*base);
            weight += U512::from(*base);
        }
        let mantissa: U256 = weighted.checked_div(weight)?.to();
        (!mantissa.is_zero()).then_some((mantissa, deepest?.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_node::{BlockBuilder, FakeLog, FakeTransaction};

    const WETH: Address = Address::repeat_byte(1);
    const TOKEN: Address = Address::repeat_byte(2);
    const OTHER: Address = Address::repeat_byte(3);
    const FACTORY: Address = Address::repeat_byte(0xfa);

    fn pair(address: u8, token0: Address, token1: Address) -> V2Pair {
        let address = Address::repeat_byte(address);
        V2Pair { address, factory: FACTORY, token0, token1, reserve0: 100, reserve1: 50 }
    }

    fn known() -> Known {
        Known {
            factories: [(FACTORY, 3_000)].into(),
            wrapped_native: WETH,
            min_base_reserve: U256::from(10),
            loaded: vec![pair(0x10, WETH, TOKEN)],
            found: vec![pair(0x11, WETH, OTHER)],
            refused: BTreeSet::new(),
            judged: BTreeSet::new(),
        }
    }

    fn blocks(syncs: &[&[(u8, u128, u128)]]) -> Vec<FakeBlock> {
        let mut blocks = vec![BlockBuilder::first(100).build()];
        for syncs in syncs {
            let logs = syncs.iter().map(|(pool, a, b)| FakeLog::sync(Address::repeat_byte(*pool), *a, *b));
            let transaction = FakeTransaction::emitting(logs.collect());
            let parent = blocks.last().expect("there is a first");
            blocks.push(BlockBuilder::child_of(parent).transaction(transaction).build());
        }
        blocks.split_off(1)
    }

    fn check(known: &Known, syncs: &[&[(u8, u128, u128)]], token: Address, expected: Option<(u64, u8, u64)>) {
        let scratch = from_scratch(known, &blocks(syncs));
        let found = scratch.prices.get(&token).map(|price| (price.mantissa, price.source, price.changed_at));
        let one = U256::from(10).pow(U256::from(36));
        let expected =
            expected.map(|(price, source, at)| (U256::from(price) * one, Address::repeat_byte(source), at));
        assert_eq!(found, expected, "{syncs:?}");
    }

    #[test]
    fn a_price_is_dated_by_the_block_that_changed_it() {
        let known = known();
        check(&known, &[&[], &[]], TOKEN, Some((2, 0x10, 101)));
        check(&known, &[&[], &[(0x10, 300, 100)], &[(0x10, 600, 200)]], TOKEN, Some((3, 0x10, 102)));
        check(&known, &[&[], &[(0x10, 9, 3)]], TOKEN, None);
        check(&known, &[&[], &[(0x10, 0, 0)], &[(0x10, 100, 50)]], TOKEN, Some((2, 0x10, 103)));
        check(&known, &[&[(0x11, 100, 50), (0x11, 100, 20)]], OTHER, Some((5, 0x11, 101)));
        check(&known, &[&[(0x12, 100, 50)]], OTHER, None);
    }

    #[test]
    fn the_price_in_several_pools_is_their_weighted_mean_and_none_counts_for_more_than_twice_the_middle() {
        let mut known = known();
        known.loaded.push(pair(0x12, WETH, TOKEN));
        // (2 · 100 + 4 · 100) / 200.
        check(&known, &[&[(0x12, 100, 25)]], TOKEN, Some((3, 0x10, 101)));
        // (5 · 100 + 10 · 400) / 500: the 2 counts as half of 10.
        check(&known, &[&[(0x12, 400, 40)]], TOKEN, Some((9, 0x12, 101)));
        // (6 · 300 + 12 · 60) / 360: the 60 counts as twice 6.
        check(&known, &[&[(0x10, 300, 50), (0x12, 60, 1)]], TOKEN, Some((7, 0x10, 101)));
        known.refused.insert(TOKEN);
        check(&known, &[&[(0x12, 300, 50)]], TOKEN, None);
    }

    #[test]
    fn a_pool_is_created_by_a_configured_factory_and_by_nobody_else() {
        let created = |factory| {
            let topics = vec![
                keccak256("PairCreated(address,address,address,uint256)"),
                TOKEN.into_word(),
                OTHER.into_word(),
            ];
            let data = [Address::repeat_byte(0x13).into_word(), B256::ZERO].concat().into();
            let logs = vec![FakeLog { address: factory, topics, data }];
            let block = BlockBuilder::first(101).transaction(FakeTransaction::emitting(logs)).build();
            from_scratch(&known(), &[block]).pools.get(&Address::repeat_byte(0x13)).copied()
        };
        assert_eq!(created(Address::ZERO), None);
        let pool = created(FACTORY).expect("it was created");
        assert_eq!((pool.token0, pool.token1, pool.reserves), (TOKEN, OTHER, None));
    }

    #[test]
    fn what_no_pair_can_hold_is_not_believed() {
        let scratch = from_scratch(&known(), &blocks(&[&[(0x10, 1 << 112, 7), (0x11, (1 << 112) - 1, 7)]]));
        let reserves: Vec<_> = scratch.pools.values().map(|pool| pool.reserves).collect();
        assert_eq!(reserves, [Some((100, 50)), Some(((1 << 112) - 1, 7))]);
    }
}
