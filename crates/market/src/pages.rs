use std::sync::Arc;

use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const LEAF: usize = 32;
const BRANCH: usize = 32;

/// A growing array that is cheap to copy and cheap to change: a copy shares everything, a change copies two small
/// pages. Publishing it costs what was touched, not what it holds.
#[derive(Debug)]
pub struct Pages<T> {
    branches: Vec<Arc<Vec<Arc<Vec<T>>>>>,
    len: usize,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { branches: Vec::new(), len: 0 }
    }
}

impl<T> Clone for Pages<T> {
    fn clone(&self) -> Self {
        Self { branches: self.branches.clone(), len: self.len }
    }
}

impl<T: Clone> Pages<T> {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The element at `index`.
    pub fn get(&self, index: usize) -> Option<&T> {
        self.branches.get(index / (LEAF * BRANCH))?.get(index / LEAF % BRANCH)?.get(index % LEAF)
    }

    /// The element at `index`, to be changed; what other copies share is copied first.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let branch = Arc::make_mut(self.branches.get_mut(index / (LEAF * BRANCH))?);
        Arc::make_mut(branch.get_mut(index / LEAF % BRANCH)?).get_mut(index % LEAF)
    }

    /// Appends an element; says its index.
    pub fn push(&mut self, element: T) -> usize {
        let index = self.len;
        if index.is_multiple_of(LEAF * BRANCH) {
            self.branches.push(Arc::new(Vec::with_capacity(BRANCH)));
        }
        let branch = Arc::make_mut(self.branches.last_mut().expect("a branch was just made sure of"));
        if index.is_multiple_of(LEAF) {
            branch.push(Arc::new(Vec::with_capacity(LEAF)));
        }
        Arc::make_mut(branch.last_mut().expect("a leaf was just made sure of")).push(element);
        self.len += 1;
        index
    }

    /// All elements in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.leaves().flat_map(|leaf| leaf.iter())
    }

    /// The indices at which `other` holds something else or nothing, ascending; pages that both share are not looked at.
    pub fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize>
    where
        T: PartialEq,
    {
        let others = other.leaves().map(Some).chain(std::iter::repeat(None));
        let leaves = self.leaves().zip(others).enumerate();
        let changed = leaves.filter(|(_, (own, other))| other.is_none_or(|other| !Arc::ptr_eq(own, other)));
        let indices = changed.flat_map(|(at, (own, _))| (0..own.len()).map(move |index| at * LEAF + index));
        indices.filter(|index| self.get(*index) != other.get(*index))
    }

    fn leaves(&self) -> impl Iterator<Item = &Arc<Vec<T>>> {
        self.branches.iter().flat_map(|branch| branch.iter())
    }
}

impl<T: Clone> FromIterator<T> for Pages<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut pages = Self::default();
        elements.into_iter().for_each(|element| {
            pages.push(element);
        });
        pages
    }
}

/// As a sequence.
impl<T: Clone + Serialize> Serialize for Pages<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut elements = serializer.serialize_seq(Some(self.len))?;
        self.iter().try_for_each(|element| elements.serialize_element(element))?;
        elements.end()
    }
}

impl<'de, T: Clone + Deserialize<'de>> Deserialize<'de> for Pages<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_does_not_see_later_changes() {
        let mut pages = Pages::default();
        (0..5_000u32).for_each(|n| assert_eq!(pages.push(n), n as usize));
        let copy = pages.clone();
        for index in [0, 31, 32, 1_023, 1_024, 4_999] {
            *pages.get_mut(index).expect("it is inside") += 1_000_000;
        }
        pages.push(7);
        assert!(copy.iter().copied().eq(0..5_000));
        assert_eq!(pages.get(1_024), Some(&1_001_024));
        assert_eq!((pages.len(), copy.len(), copy.get(5_000)), (5_001, 5_000, None));
    }
    #[test]
    fn what_differs_from_a_copy_is_what_was_changed_since() {
        let mut pages: Pages<u32> = (0..3_000).collect();
        let copy = pages.clone();
        for index in [0, 40, 2_999] {
            *pages.get_mut(index).expect("it is inside") += 1;
        }
        *pages.get_mut(50).expect("it is inside") += 0;
        pages.push(7);
        assert_eq!(pages.differing(&copy).collect::<Vec<_>>(), [0, 40, 2_999, 3_000]);
        assert_eq!(pages.differing(&pages).count(), 0);
        let empty = Pages::default();
        assert_eq!((pages.differing(&empty).count(), empty.differing(&pages).count()), (3_001, 0));
    }
}
