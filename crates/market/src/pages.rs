use std::hint::black_box;
use std::mem;
use std::sync::Arc;

use arrayvec::ArrayVec;
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const LEAF: usize = 32;
const BRANCH: usize = 32;

/// Changes that wait at most until the pages are brought up to date by themselves.
const WAITING: usize = 256;

/// A growing array that is cheap to copy and cheap to change: a copy shares everything, and publishing it costs what was
/// touched, not what it holds.
///
/// A change waits in a list beside the pages, which is all that a copy copies; [`Pages::settle`] writes what waits into
/// them, when there is time: each changed page has to be copied then, if it is shared.
#[derive(Debug)]
pub struct Pages<T> {
    branches: Vec<Arc<Branch<T>>>,
    len: usize,
    /// By ascending index; newer than the pages.
    waiting: Vec<(usize, T)>,
}

type Branch<T> = ArrayVec<Arc<Leaf<T>>, BRANCH>;
type Leaf<T> = ArrayVec<T, LEAF>;

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { branches: Vec::new(), len: 0, waiting: Vec::new() }
    }
}

impl<T: Clone> Clone for Pages<T> {
    fn clone(&self) -> Self {
        Self { branches: self.branches.clone(), len: self.len, waiting: self.waiting.clone() }
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
        match self.place(index) {
            Ok(place) => Some(&self.waiting[place].1),
            Err(_) => {
                self.branches.get(index / (LEAF * BRANCH))?.get(index / LEAF % BRANCH)?.get(index % LEAF)
            }
        }
    }

    /// Touches these elements, so that their way from memory is waited for once and not one after the other: from one
    /// block to the next everything else that runs has emptied the caches.
    pub fn fetch(&self, indices: impl IntoIterator<Item = usize>) {
        indices.into_iter().for_each(|index| drop(black_box(self.get(index).cloned())));
    }

    /// Sets the element at `index`; says what it was. Nothing happens beyond the end.
    pub fn set(&mut self, index: usize, element: T) -> Option<T> {
        let before = match self.place(index) {
            Ok(place) => return Some(mem::replace(&mut self.waiting[place].1, element)),
            Err(place) => {
                let before = self.get(index)?.clone();
                self.waiting.insert(place, (index, element));
                before
            }
        };
        if self.waiting.len() >= WAITING {
            self.settle();
        }
        Some(before)
    }

    /// Writes what waits into the pages.
    pub fn settle(&mut self) {
        for (index, element) in mem::take(&mut self.waiting) {
            let branch = Arc::make_mut(&mut self.branches[index / (LEAF * BRANCH)]);
            Arc::make_mut(&mut branch[index / LEAF % BRANCH])[index % LEAF] = element;
        }
    }

    /// Appends an element; says its index.
    pub fn push(&mut self, element: T) -> usize {
        let index = self.len;
        if index.is_multiple_of(LEAF * BRANCH) {
            self.branches.push(Arc::default());
        }
        let branch = Arc::make_mut(self.branches.last_mut().expect("a branch was just made sure of"));
        if index.is_multiple_of(LEAF) {
            branch.push(Arc::default());
        }
        Arc::make_mut(branch.last_mut().expect("a leaf was just made sure of")).push(element);
        self.len += 1;
        index
    }

    /// All elements in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let mut waiting = self.waiting.iter().peekable();
        self.leaves().flat_map(|leaf| leaf.iter()).enumerate().map(move |(index, settled)| {
            waiting.next_if(|(changed, _)| *changed == index).map_or(settled, |(_, element)| element)
        })
    }

    /// The indices at which `other` holds something else or nothing, ascending; pages that both share are not looked at.
    pub fn differing(&self, other: &Self) -> Vec<usize>
    where
        T: PartialEq,
    {
        let others = other.leaves().map(Some).chain(std::iter::repeat(None));
        let leaves = self.leaves().zip(others).enumerate();
        let changed = leaves.filter(|(_, (own, other))| other.is_none_or(|other| !Arc::ptr_eq(own, other)));
        let in_pages = changed.flat_map(|(at, (own, _))| (0..own.len()).map(move |index| at * LEAF + index));
        let waiting = self.waiting.iter().chain(&other.waiting).map(|(index, _)| *index);
        let waiting = waiting.filter(|index| *index < self.len);
        let mut indices: Vec<_> =
            in_pages.chain(waiting).filter(|index| self.get(*index) != other.get(*index)).collect();
        indices.sort_unstable();
        indices.dedup();
        indices
    }

    fn leaves(&self) -> impl Iterator<Item = &Arc<Leaf<T>>> {
        self.branches.iter().flat_map(|branch| branch.iter())
    }

    /// Where among the changes that wait the one of `index` is, or would be.
    fn place(&self, index: usize) -> Result<usize, usize> {
        self.waiting.binary_search_by_key(&index, |(changed, _)| *changed)
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
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_copy_does_not_see_later_changes() {
        let mut pages = Pages::default();
        (0..5_000u32).for_each(|n| assert_eq!(pages.push(n), n as usize));
        for settles in [false, true] {
            let (before, copy) = (pages.iter().copied().collect::<Vec<_>>(), pages.clone());
            for index in [0, 31, 32, 1_023, 1_024, 4_999] {
                assert_eq!(pages.set(index, pages.len() as u32), Some(before[index]));
            }
            if settles {
                pages.settle();
            }
            pages.push(7);
            assert!(copy.iter().eq(&before));
            assert_eq!((pages.get(1_024), copy.get(5_003)), (Some(&(copy.len() as u32)), None));
        }
    }

    proptest! {
        /// `None` settles.
        #[test]
        fn it_is_an_array(changes in vec(proptest::option::weighted(0.99, (0usize..1_300, any::<u8>())), 0..900)) {
            let (mut pages, mut array) = (Pages::default(), vec![0u8; 1_200]);
            for element in &array {
                pages.push(*element);
            }
            for change in changes {
                let Some((index, element)) = change else {
                    pages.settle();
                    continue;
                };
                let before = array.get_mut(index).map(|slot| mem::replace(slot, element));
                prop_assert_eq!(pages.set(index, element), before);
                prop_assert_eq!(pages.get(index), array.get(index));
            }
            prop_assert!(pages.iter().eq(&array));
        }
    }

    #[test]
    fn what_differs_from_a_copy_is_what_was_changed_since() {
        for settles in [false, true] {
            let mut pages: Pages<u32> = (0..3_000).collect();
            pages.set(60, 1);
            let copy = pages.clone();
            for (index, element) in [(0, 1), (40, 41), (50, 50), (2_999, 0)] {
                pages.set(index, element);
            }
            if settles {
                pages.settle();
            }
            pages.push(7);
            assert_eq!(pages.differing(&copy), [0, 40, 2_999, 3_000]);
            assert!(pages.differing(&pages).is_empty());
            let empty = Pages::default();
            assert_eq!((pages.differing(&empty).len(), empty.differing(&pages).len()), (3_001, 0));
        }
    }
}
