use std::fmt;
use std::sync::Arc;

use headwater_events::AsOf;

use crate::bus::Closed;
use crate::mailbox::{DropNewest, Message, Outlet};

/// What a component was as of a block: all that it needs to go on from there.
#[derive(Clone, Debug)]
pub struct Image<T> {
    /// The block. The component had processed its event, and none behind it.
    pub as_of: AsOf,
    /// The component.
    pub content: T,
}

impl<T: Send + Sync + 'static> Message for Image<T> {
    fn seq(&self) -> Option<u64> {
        Some(self.as_of.seq)
    }
}

/// Where the images of a component are kept.
///
/// Calls may block on a disk: make them from a blocking thread.
pub trait Shelf<T>: Send + Sync + 'static {
    /// The newest image as of event `until` or an earlier one that is whole. One that is not is told, and passed over.
    fn newest(&self, until: u64) -> Option<Image<T>>;
}

/// What a component has for its images: whom to hand them, when, and where to find them again. With them a rebuild folds
/// the events behind the newest image, and not the whole record.
pub struct Images<T> {
    /// Who saves them.
    pub outlet: Outlet<Image<T>, DropNewest>,
    /// One is due at each multiple of this height; never if it is 0.
    pub every: u64,
    /// Where they are found again.
    pub shelf: Arc<dyn Shelf<T>>,
}

impl<T> Clone for Images<T> {
    fn clone(&self) -> Self {
        Self { outlet: self.outlet.clone(), every: self.every, shelf: Arc::clone(&self.shelf) }
    }
}

impl<T> fmt::Debug for Images<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images").field("every", &self.every).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Images<T> {
    /// Hands over what `take` makes, if one is due at this block; while another is still being saved, it is dropped and
    /// counted.
    ///
    /// # Errors
    ///
    /// [`Closed`] when nobody saves any longer.
    pub fn offer(&self, as_of: AsOf, take: impl FnOnce() -> T) -> Result<(), Closed> {
        if self.every > 0 && as_of.number.is_multiple_of(self.every) {
            self.outlet.offer(Image { as_of, content: take() })?;
        }
        Ok(())
    }
}
