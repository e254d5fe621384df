#![doc = include_str!("../README.md")]

pub mod clock;

mod backlog;
mod bus;
mod edge;
mod handler;
mod images;
mod lane;
mod mailbox;
mod mempool;
mod progress;
mod ring;
#[cfg(all(test, feature = "shuttle"))]
mod schedules;
mod snapshots;
mod sync;
mod timeline;

pub use backlog::{Backlog, BacklogError, JournalHealth, Recorder};
pub use bus::{BusConfig, Closed, DerivedPublisher, EventBus, SourcePublisher};
pub use edge::{Channel, Counts, DropReason, Edge, EdgeReport, OverflowPolicy, Topology};
pub use handler::{EventHandler, HandlerReport};
pub use images::{Image, Images, Shelf};
pub use lane::{Delivery, Resync};
pub use mailbox::{DropNewest, Inbox, Mailbox, Message, Outlet, Parcel, Wait};
pub use mempool::Mempool;
pub use progress::BlockProgress;
pub use snapshots::{Missing, SnapshotReader, SnapshotWriter, WINDOW, Window};
pub use timeline::{Stage, Stamps, Timeline};
