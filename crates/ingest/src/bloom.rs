use std::fmt;
use std::hash::BuildHasher;
use std::hint::black_box;

use alloy_primitives::{Bloom, keccak256};
use foldhash::quality::RandomState;
use headwater_events::Log;

/// Sets of the cache: a full block has about 2,000 addresses and topics, and most come again from among some tens of
/// thousands. Half a megabyte, of which a block reads a small part.
const SET_BITS: u32 = 13;

/// Computes the bloom of a block's logs (yellow paper, section 4.3.1) for every block of a chain.
///
/// Of each address and topic keccak-256 chooses three of 2,048 bits. Most of them occur in block after block, so their
/// bits are kept in a cache. What is in there is known by a hash of 64 bits under a key that is drawn anew in each run:
/// that a value is taken for another one happens once in some 10^18 lookups, and nobody can bring it about.
pub struct BloomBuilder {
    sets: Box<[Set]>,
    key: RandomState,
    /// Of the values of the block in hand.
    hashes: Vec<u64>,
}

/// One line of the processor's caches.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Set([Slot; 4]);

#[derive(Clone, Copy, Default)]
struct Slot {
    /// Zero in a slot that was never filled.
    hash: u64,
    bits: [u16; 3],
}

impl Default for BloomBuilder {
    fn default() -> Self {
        let sets = vec![Set::default(); 1 << SET_BITS].into();
        Self { sets, key: RandomState::default(), hashes: Vec::new() }
    }
}

impl fmt::Debug for BloomBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filled = self.sets.iter().flat_map(|set| set.0).filter(|slot| slot.hash > 0).count();
        f.debug_struct("BloomBuilder").field("filled", &filled).finish()
    }
}

impl BloomBuilder {
    /// The bloom of all addresses and topics of `logs`.
    pub fn bloom(&mut self, logs: &[Log]) -> Bloom {
        let values = || {
            logs.iter().flat_map(|log| log.topics.iter().map(|topic| &topic[..]).chain([&log.address[..]]))
        };
        self.fetch(values());
        let mut bloom = [0; 256];
        for (value, at) in values().zip(0..) {
            for bit in self.bits(value, self.hashes[at]) {
                // Bit 0 is the lowest bit of the last byte.
                bloom[255 - usize::from(bit / 8)] |= 1 << (bit % 8);
            }
        }
        Bloom::new(bloom)
    }

    /// Touches the sets of all values, so that their way from memory is waited for once and not one after the other.
    fn fetch<'a>(&mut self, values: impl Iterator<Item = &'a [u8]>) {
        self.hashes.clear();
        for value in values {
            let hash = self.key.hash_one(value).max(1);
            black_box(self.sets[set_of(hash)].0[0].bits[0]);
            self.hashes.push(hash);
        }
    }

    fn bits(&mut self, value: &[u8], hash: u64) -> [u16; 3] {
        let Set(slots) = &mut self.sets[set_of(hash)];
        if let Some(slot) = slots.iter().find(|slot| slot.hash == hash) {
            return slot.bits;
        }
        let bits = hashed_bits(value);
        // Which one gives way is left to chance, unless one is free.
        let chosen = slots.iter().position(|slot| slot.hash == 0).unwrap_or(hash as usize % slots.len());
        slots[chosen] = Slot { hash, bits };
        bits
    }
}

fn hashed_bits(value: &[u8]) -> [u16; 3] {
    let hash = keccak256(value);
    [0, 2, 4].map(|at| u16::from_be_bytes([hash[at], hash[at + 1]]) & 0x7ff)
}

fn set_of(hash: u64) -> usize {
    (hash >> (u64::BITS - SET_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn log(address: u8, topics: &[u8]) -> Log {
        Log {
            address: Address::repeat_byte(address),
            topics: topics.iter().map(|byte| B256::repeat_byte(*byte)).collect(),
            data: Default::default(),
            transaction_index: 0,
            log_index: 0,
        }
    }

    fn plain(logs: &[Log]) -> Bloom {
        let mut bloom = Bloom::ZERO;
        logs.iter().for_each(|log| bloom.accrue_raw_log(log.address, &log.topics));
        bloom
    }

    #[test]
    fn an_address_is_not_taken_for_a_topic_that_begins_like_it() {
        let logs = [Log { topics: [B256::ZERO].into_iter().collect(), ..log(0, &[]) }];
        let mut builder = BloomBuilder::default();
        let address = log(0, &[]);
        for logs in [&logs[..], &[address], &logs[..]] {
            assert_eq!(builder.bloom(logs), plain(logs));
        }
    }

    #[test]
    fn more_values_than_it_holds_do_no_harm() {
        let mut builder = BloomBuilder::default();
        for _ in 0..2 {
            for number in 0..50_000u64 {
                let logs =
                    [Log { address: Address::from_word(keccak256(number.to_be_bytes())), ..log(0, &[]) }];
                assert_eq!(builder.bloom(&logs), plain(&logs));
            }
        }
    }

    proptest! {
        /// Few different values, so that the same builder meets each of them often, and the slots of a small range.
        #[test]
        fn the_bloom_is_the_one_that_hashing_everything_gives(
            blocks in vec(vec((0u8..40, vec(any::<u8>(), 0..=4)), 0..30), 1..6),
        ) {
            let mut builder = BloomBuilder::default();
            for block in blocks {
                let logs: Vec<Log> = block.iter().map(|(address, topics)| log(*address, topics)).collect();
                prop_assert_eq!(builder.bloom(&logs), plain(&logs));
            }
        }
    }
}
