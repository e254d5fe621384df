use std::collections::HashMap;

use alloy_primitives::{Address, B256, U256, U512, keccak256};
use headwater_events::{BusEvent, ConcentratedState, Log};

/// What pools of V3 and V4 say of prices: as they were read, and by the last of the recorded logs.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    /// Of the pools that were read, by address or id; whether it is one of V4.
    tokens: HashMap<B256, (Address, Address, bool)>,
    /// Blocks, and the square root of the price behind each swap in them, oldest first.
    stood: HashMap<B256, Vec<(B256, U256)>>,
}

impl Ranges {
    pub(super) fn take(&mut self, event: &BusEvent) {
        match event {
            BusEvent::ConcentratedLoaded(read) => {
                self.tokens.insert(read.pool.into_word(), (read.token0, read.token1, false));
                self.read(read.pool.into_word(), read.hash, read.state.as_ref());
            }
            BusEvent::V4Loaded(read) => {
                self.tokens.insert(read.id, (read.currency0, read.currency1, true));
                self.read(read.id, read.hash, Some(&read.state));
            }
            BusEvent::NewBlock(block) => {
                for (name, sqrt_price) in block.logs.iter().filter_map(said) {
                    self.stood.entry(name).or_default().push((block.header.hash, sqrt_price));
                }
            }
            BusEvent::Reorg(reorg) => {
                for stood in self.stood.values_mut() {
                    stood.retain(|(hash, _)| !reorg.undone.contains(hash));
                }
            }
            _ => {}
        }
    }

    /// It is told behind blocks that came meanwhile.
    fn read(&mut self, name: B256, hash: B256, state: Option<&ConcentratedState>) {
        if let Some(state) = state {
            self.stood.entry(name).or_default().insert(0, (hash, state.sqrt_price));
        }
    }

    /// What each says that one unit of a token is worth in wei, times 10^36.
    pub(super) fn prices(&self, token: Address, native: Address) -> impl Iterator<Item = U256> {
        self.tokens.iter().filter_map(move |(name, (token0, token1, is_of_v4))| {
            let is_native = |held: &Address| *held == native || (*is_of_v4 && held.is_zero());
            let (_, sqrt_price) = self.stood.get(name)?.last()?;
            let (square, whole): (U512, U512) = (sqrt_price.widening_mul(*sqrt_price), U512::ONE << 192usize);
            let scale = U512::from(10u8).pow(U512::from(36u8));
            let price: U512 = match (token0, token1) {
                (one, other) if is_native(one) && *other == token => whole * scale / square,
                (one, other) if *one == token && is_native(other) => square * scale / whole,
                _ => return None,
            };
            Some(price.to())
        })
    }
}

/// The pool that swapped, by address or id, and the square root of its price behind that.
fn said(log: &Log) -> Option<(B256, U256)> {
    let word = |at: usize| log.data.get(32 * at..32 * at + 32).map(U256::from_be_slice);
    let is = |signature: &str| log.topics.first() == Some(&keccak256(signature));
    let of_pancake = "Swap(address,address,int256,int256,uint160,uint128,int24,uint128,uint128)";
    if is("Swap(address,address,int256,int256,uint160,uint128,int24)") || is(of_pancake) {
        return Some((log.address.into_word(), word(2)?));
    }
    let of_v4 = is("Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24)");
    of_v4.then(|| Some((*log.topics.get(1)?, word(2)?))).flatten()
}
