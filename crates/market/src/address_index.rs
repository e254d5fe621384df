use std::collections::HashMap;
use std::sync::Arc;

use alloy_primitives::Address;
use foldhash::fast::RandomState;

/// Places by address: a flat table that copies share, and beside it what was added since it was last made. A copy costs
/// next to nothing, a lookup one line of memory, and an addition, on the whole, a few copies of itself.
#[derive(Clone, Debug)]
pub(crate) struct AddressIndex<V> {
    settled: Arc<HashMap<Address, V, RandomState>>,
    /// Newer than what is settled.
    recent: imbl::GenericHashMap<Address, V, RandomState, imbl::shared_ptr::DefaultSharedPtr>,
}

/// Of the settled entries, the share that may be added until all are settled anew.
const SHARE: usize = 8;

impl<V> Default for AddressIndex<V> {
    fn default() -> Self {
        let recent = imbl::GenericHashMap::with_hasher(RandomState::default());
        Self { settled: Arc::default(), recent }
    }
}

impl<V: Copy> AddressIndex<V> {
    /// The place of an address.
    pub(crate) fn get(&self, address: &Address) -> Option<V> {
        let recent = if self.recent.is_empty() { None } else { self.recent.get(address) };
        recent.or_else(|| self.settled.get(address)).copied()
    }

    /// Sets the place of an address.
    pub(crate) fn insert(&mut self, address: Address, place: V) {
        if let Some(settled) = Arc::get_mut(&mut self.settled)
            && self.recent.is_empty()
        {
            settled.insert(address, place);
            return;
        }
        self.recent.insert(address, place);
        if self.recent.len() > self.settled.len() / SHARE {
            let recent = std::mem::take(&mut self.recent);
            Arc::make_mut(&mut self.settled).extend(recent.iter().map(|(address, place)| (*address, *place)));
        }
    }
}

impl<V: Copy> FromIterator<(Address, V)> for AddressIndex<V> {
    fn from_iter<I: IntoIterator<Item = (Address, V)>>(places: I) -> Self {
        Self { settled: Arc::new(places.into_iter().collect()), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> Address {
        Address::left_padding_from(&number.to_be_bytes())
    }

    fn check(index: &AddressIndex<u32>, expected: impl Fn(u32) -> Option<u32>) {
        for number in 0..1_200 {
            assert_eq!(index.get(&address(number)), expected(number), "of {number}");
        }
    }

    #[test]
    fn a_copy_does_not_see_later_additions() {
        let mut index = AddressIndex::default();
        (0..100).for_each(|number| index.insert(address(number), number));
        let copy = index.clone();
        (100..1_000).for_each(|number| index.insert(address(number), number));
        check(&copy, |number| (number < 100).then_some(number));
        check(&index, |number| (number < 1_000).then_some(number));
    }

    #[test]
    fn the_last_place_holds_settled_or_not() {
        let mut index = AddressIndex::default();
        (0..100).for_each(|number| index.insert(address(number), number));
        let _copy = index.clone();
        (0..1_000).for_each(|number| index.insert(address(number % 100), number));
        check(&index, |number| (number < 100).then_some(900 + number));
    }
}
