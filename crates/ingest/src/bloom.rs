use std::fmt;
use std::hint::black_box;

use alloy_primitives::{Bloom, keccak256};
use headwater_events::Log;

/// Sets of the cache: a full block has about 2,000 addresses and topics, and most come again from among some tens of
/// thousands. Eight megabytes.
const SET_BITS: u32 = 16;

/// Computes the bloom of a block's logs (yellow paper, section 4.3.1) for every block of a chain.
///
/// Of each address and topic keccak-256 chooses three of 2,048 bits. Most of them occur in block after block, so their
/// bits are kept in a cache of two slots a set; a collision costs a hash and nothing else.
pub struct BloomBuilder {
    sets: Box<[Set]>,
}

type Set = [Slot; 2];

/// One line of the processor's caches.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Slot {
    /// An address fills the first twenty bytes; then `length` says so.
    value: [u8; 32],
    /// Zero in a slot that was never filled.
    length: u8,
    bits: [u16; 3],
}

const EMPTY: Slot = Slot { value: [0; 32], length: 0, bits: [0; 3] };

impl Slot {
    fn holds<const N: usize>(&self, value: &[u8; N]) -> bool {
        usize::from(self.length) == N && self.value[..N] == *value
    }
}

impl Default for BloomBuilder {
    fn default() -> Self {
        Self { sets: vec![[EMPTY; 2]; 1 << SET_BITS].into() }
    }
}

impl fmt::Debug for BloomBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filled = self.sets.as_flattened().iter().filter(|slot| slot.length > 0).count();
        f.debug_struct("BloomBuilder").field("filled", &filled).finish()
    }
}

impl BloomBuilder {
    /// The bloom of all addresses and topics of `logs`.
    pub fn bloom(&mut self, logs: &[Log]) -> Bloom {
        self.fetch(logs);
        let mut bloom = [0; 256];
        for log in logs {
            self.add(&mut bloom, &log.address.0.0);
            for topic in &log.topics {
                self.add(&mut bloom, &topic.0);
            }
        }
        Bloom::new(bloom)
    }

    /// Touches the sets of all values, so that their way from memory is waited for once and not one after the other.
    fn fetch(&self, logs: &[Log]) {
        let touch = |mixed| {
            for slot in &self.sets[set_of(mixed)] {
                black_box(slot.length);
            }
        };
        for log in logs {
            touch(mixed(&log.address.0.0));
            log.topics.iter().for_each(|topic| touch(mixed(&topic.0)));
        }
    }

    fn add<const N: usize>(&mut self, bloom: &mut [u8; 256], value: &[u8; N]) {
        for bit in self.bits(value) {
            // Bit 0 is the lowest bit of the last byte.
            bloom[255 - usize::from(bit / 8)] |= 1 << (bit % 8);
        }
    }

    fn bits<const N: usize>(&mut self, value: &[u8; N]) -> [u16; 3] {
        let mixed = mixed(value);
        let set = &mut self.sets[set_of(mixed)];
        if let Some(slot) = set.iter().find(|slot| slot.holds(value)) {
            return slot.bits;
        }
        let bits = hashed_bits(value);
        // Which of the two gives way is left to chance, unless one is free.
        let slot = if set[0].length == 0 { &mut set[0] } else { &mut set[(mixed & 1) as usize] };
        slot.value[..N].copy_from_slice(value);
        slot.length = N as u8;
        slot.bits = bits;
        bits
    }
}

fn hashed_bits(value: &[u8]) -> [u16; 3] {
    let hash = keccak256(value);
    [0, 2, 4].map(|at| u16::from_be_bytes([hash[at], hash[at + 1]]) & 0x7ff)
}

/// What a value is found by: its ends, mixed. Addresses in topics differ at the end, signatures everywhere.
fn mixed<const N: usize>(value: &[u8; N]) -> u64 {
    let word = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let both = word(value.last_chunk()) ^ word(value.first_chunk()).rotate_left(17) ^ N as u64;
    both.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn set_of(mixed: u64) -> usize {
    (mixed >> (u64::BITS - SET_BITS)) as usize
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
        let mut builder = BloomBuilder::default();
        let address = Address::ZERO;
        let mut as_topic = [EMPTY.value; 1];
        as_topic[0][..20].copy_from_slice(address.as_slice());
        assert_eq!(builder.bits(&address.0.0), hashed_bits(address.as_slice()));
        assert_eq!(builder.bits(&as_topic[0]), hashed_bits(&as_topic[0]));
        assert_eq!(builder.bits(&address.0.0), hashed_bits(address.as_slice()));
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
