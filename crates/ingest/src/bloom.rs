use std::fmt;

use alloy_primitives::{Bloom, keccak256};
use headwater_events::Log;

/// Slots of the cache: a full block has about 2,000 addresses and topics, and most come again from among some tens of
/// thousands. Five megabytes.
const SLOT_BITS: u32 = 17;

/// Computes the bloom of a block's logs (yellow paper, section 4.3.1) for every block of a chain.
///
/// Of each address and topic keccak-256 chooses three of 2,048 bits. Most of them occur in block after block, so their
/// bits are kept in a direct-mapped cache; a collision costs a hash and nothing else.
pub struct BloomBuilder {
    slots: Box<[Slot]>,
}

#[derive(Clone, Copy)]
struct Slot {
    /// An address fills the first twenty bytes; then `length` says so.
    value: [u8; 32],
    /// Zero in a slot that was never filled.
    length: u8,
    bits: [u16; 3],
}

const EMPTY: Slot = Slot { value: [0; 32], length: 0, bits: [0; 3] };

impl Default for BloomBuilder {
    fn default() -> Self {
        Self { slots: vec![EMPTY; 1 << SLOT_BITS].into() }
    }
}

impl fmt::Debug for BloomBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filled = self.slots.iter().filter(|slot| slot.length > 0).count();
        f.debug_struct("BloomBuilder").field("filled", &filled).finish()
    }
}

impl BloomBuilder {
    /// The bloom of all addresses and topics of `logs`.
    pub fn bloom(&mut self, logs: &[Log]) -> Bloom {
        let mut bloom = [0; 256];
        for log in logs {
            self.add(&mut bloom, log.address.as_slice());
            for topic in &log.topics {
                self.add(&mut bloom, topic.as_slice());
            }
        }
        Bloom::new(bloom)
    }

    fn add(&mut self, bloom: &mut [u8; 256], value: &[u8]) {
        for bit in self.bits(value) {
            // Bit 0 is the lowest bit of the last byte.
            bloom[255 - usize::from(bit / 8)] |= 1 << (bit % 8);
        }
    }

    fn bits(&mut self, value: &[u8]) -> [u16; 3] {
        let slot = &mut self.slots[slot_of(value)];
        let length = value.len();
        if usize::from(slot.length) != length || slot.value[..length] != *value {
            slot.value[..length].copy_from_slice(value);
            slot.length = length as u8;
            slot.bits = hashed_bits(value);
        }
        slot.bits
    }
}

fn hashed_bits(value: &[u8]) -> [u16; 3] {
    let hash = keccak256(value);
    [0, 2, 4].map(|at| u16::from_be_bytes([hash[at], hash[at + 1]]) & 0x7ff)
}

/// Where a value is kept: its ends, mixed. Addresses in topics differ at the end, signatures everywhere.
fn slot_of(value: &[u8]) -> usize {
    let word = |bytes: &[u8]| bytes.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    let mixed = word(&value[value.len() - 8..]) ^ word(&value[..8]).rotate_left(17) ^ value.len() as u64;
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SLOT_BITS)) as usize
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
        assert_eq!(builder.bits(address.as_slice()), hashed_bits(address.as_slice()));
        assert_eq!(builder.bits(&as_topic[0]), hashed_bits(&as_topic[0]));
        assert_eq!(builder.bits(address.as_slice()), hashed_bits(address.as_slice()));
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
