use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

use alloy_primitives::Address;

/// The addresses seen last, or whatever else has a name, so many at most.
#[derive(Clone, Debug)]
pub(super) struct Remembered<K = Address> {
    known: HashSet<K>,
    /// Oldest first.
    order: VecDeque<K>,
    most: usize,
}

impl<K: Copy + Eq + Hash> Remembered<K> {
    pub(super) fn new(most: usize) -> Self {
        Self { known: HashSet::new(), order: VecDeque::new(), most }
    }

    pub(super) fn contains(&self, address: &K) -> bool {
        self.known.contains(address)
    }

    pub(super) fn insert(&mut self, address: K) {
        if !self.known.insert(address) {
            return;
        }
        self.order.push_back(address);
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut remembered = Remembered::new(2);
        let [a, b, c] = [1, 2, 3].map(Address::repeat_byte);
        [a, b, a, c].into_iter().for_each(|address| remembered.insert(address));
        assert_eq!([a, b, c].map(|address| remembered.contains(&address)), [false, true, true]);
    }
}
