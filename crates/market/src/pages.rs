use std::sync::Arc;

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
        self.branches.iter().flat_map(|branch| branch.iter()).flat_map(|leaf| leaf.iter())
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
}
