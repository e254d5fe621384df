use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use headwater_events::{AsOf, Snapshot};
use tokio::sync::watch;

use crate::edge::{Channel, DropReason, Edge, OverflowPolicy, Topology};

/// How many snapshots a watch holds, so that parts of different speed have one in common.
pub const WINDOW: usize = 8;

/// The last few snapshots, oldest first.
pub type Window<S> = ArrayVec<Arc<S>, WINDOW>;

/// What a watch holds.
#[derive(Debug)]
struct Cell<S> {
    window: Window<S>,
    /// The greatest sequence number that the writer is done with: of what lies before it, no snapshot will come.
    reached: u64,
}

/// The writing end of a watch of snapshots. The supervisor owns the cell; the component that publishes borrows it.
#[derive(Debug)]
pub struct SnapshotWriter<S> {
    cell: watch::Sender<Cell<S>>,
    topology: Topology,
    from: Cow<'static, str>,
    carries: &'static str,
    edges: Arc<std::sync::Mutex<Vec<Arc<Edge>>>>,
}

impl<S> Clone for SnapshotWriter<S> {
    fn clone(&self) -> Self {
        Self {
            cell: self.cell.clone(),
            topology: self.topology.clone(),
            from: self.from.clone(),
            carries: self.carries,
            edges: Arc::clone(&self.edges),
        }
    }
}

impl<S: Snapshot> SnapshotWriter<S> {
    /// An empty cell, published into by `from`.
    pub fn new(topology: &Topology, from: impl Into<Cow<'static, str>>, carries: &'static str) -> Self {
        let (cell, _) = watch::channel(Cell { window: Window::new(), reached: 0 });
        Self { cell, topology: topology.clone(), from: from.into(), carries, edges: Arc::default() }
    }

    /// A reading end for `to`: one edge of the topology.
    pub fn reader(&self, to: impl Into<Cow<'static, str>>) -> SnapshotReader<S> {
        let edge = self.topology.edge(
            self.from.clone(),
            to,
            self.carries,
            Channel::Watch,
            WINDOW,
            OverflowPolicy::Latest,
        );
        self.lock_edges().push(Arc::clone(&edge));
        SnapshotReader { cell: self.cell.subscribe(), edge, used: Arc::default() }
    }

    /// Publishes a snapshot; the oldest falls off. One of a source event that is already there replaces it, and
    /// everything after it: its writer was restarted and says it again. Gives back what is in the window no longer,
    /// to be dropped when nobody waits: it may be large.
    pub fn publish(&self, snapshot: Arc<S>) -> Window<S> {
        let seq = snapshot.as_of().seq;
        let mut fresh = true;
        let mut past = Window::new();
        self.cell.send_modify(|Cell { window, reached }| {
            *reached = seq.max(*reached);
            while window.last().is_some_and(|last| last.as_of().seq >= seq) {
                past.extend(window.pop());
                fresh = false;
            }
            if window.is_full() {
                past.push(window.remove(0));
            }
            window.push(snapshot);
        });
        if fresh {
            self.lock_edges().iter().for_each(|edge| edge.accept(1));
        }
        past
    }

    /// Says that there will be no snapshot of the source event `seq`, so that nobody waits for it.
    pub fn pass(&self, seq: u64) {
        self.cell.send_if_modified(|cell| {
            let is_news = seq > cell.reached;
            cell.reached = seq.max(cell.reached);
            is_news
        });
    }

    /// What is in the cell now.
    pub fn window(&self) -> Window<S> {
        self.cell.borrow().window.clone()
    }

    fn lock_edges(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Edge>>> {
        self.edges.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The reading end of a watch of snapshots.
#[derive(Debug)]
pub struct SnapshotReader<S> {
    cell: watch::Receiver<Cell<S>>,
    edge: Arc<Edge>,
    /// Sequence number of the last snapshot that was used; what lies before it and was not used is superseded. Shared by
    /// the incarnations of the reader, so that a snapshot that two of them used is counted once.
    used: Arc<AtomicU64>,
}

impl<S> Clone for SnapshotReader<S> {
    fn clone(&self) -> Self {
        Self { cell: self.cell.clone(), edge: Arc::clone(&self.edge), used: Arc::clone(&self.used) }
    }
}

/// Why there is no snapshot of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The window is past it: it fell off, or its block was never published under this hash.
    #[error("the snapshot of that block is no longer in the window")]
    Passed,
    /// Its writer had lost what the snapshots are of.
    #[error("there is no snapshot of that block: its writer had lost the market")]
    Lost,
    /// Nobody publishes any longer.
    #[error("the snapshots have ended")]
    Ended,
}

impl<S: Snapshot> SnapshotReader<S> {
    /// Waits for the snapshot of a block, as of the very event that published it: a block that was undone and came back
    /// has another one, in which more may have been learnt. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`Missing`] when it will never come.
    pub async fn wait_for(&mut self, as_of: &AsOf) -> Result<Arc<S>, Missing> {
        let found = {
            let cell =
                self.cell.wait_for(|cell| cell.reached >= as_of.seq).await.map_err(|_| Missing::Ended)?;
            let found = cell.window.iter().find(|snapshot| snapshot.as_of() == *as_of).cloned();
            let is_last = cell.window.last().is_none_or(|last| last.as_of().seq < as_of.seq);
            found.ok_or(if is_last { Missing::Lost } else { Missing::Passed })
        };
        if let Ok(snapshot) = &found {
            self.count(snapshot.as_of().seq);
        }
        found
    }

    /// What is in the cell now, oldest first.
    pub fn window(&self) -> Window<S> {
        self.cell.borrow().window.clone()
    }

    /// The newest snapshot, if any was published.
    pub fn latest(&self) -> Option<Arc<S>> {
        self.cell.borrow().window.last().cloned()
    }

    /// Counts the snapshot of `seq` as used, and those since the last used one as superseded.
    fn count(&mut self, seq: u64) {
        if self.used.fetch_max(seq, Ordering::AcqRel) >= seq {
            return;
        }
        let settled = self.edge.counts();
        let published = settled.accepted;
        let later =
            self.cell.borrow().window.iter().filter(|snapshot| snapshot.as_of().seq > seq).count() as u64;
        let skipped = published.saturating_sub(later + settled.processed + settled.dropped_total() + 1);
        self.edge.drop_for(DropReason::Superseded, skipped);
        self.edge.process(1);
    }

    /// Counts what was published and never used as superseded: the reader has come to its end.
    pub fn settle(&mut self) {
        let counts = self.edge.counts();
        let left = counts.accepted.saturating_sub(counts.processed + counts.dropped_total());
        self.edge.drop_for(DropReason::Superseded, left);
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives_for_tests::hash;

    use super::*;

    mod alloy_primitives_for_tests {
        /// A hash that is as easy to read as its seed.
        pub(super) fn hash(seed: u8) -> headwater_events::AsOf {
            headwater_events::AsOf { seq: seed.into(), number: seed.into(), hash: [seed; 32].into() }
        }
    }

    #[derive(Debug)]
    struct At(AsOf);

    impl Snapshot for At {
        fn as_of(&self) -> AsOf {
            self.0
        }
    }

    fn cell() -> (SnapshotWriter<At>, SnapshotReader<At>) {
        let topology = Topology::new();
        let writer = SnapshotWriter::new(&topology, "state", "market");
        let reader = writer.reader("arbitrage");
        (writer, reader)
    }

    #[tokio::test]
    async fn the_last_eight_can_be_had_and_older_ones_have_passed() {
        let (writer, mut reader) = cell();
        (1..=10).for_each(|seed| drop(writer.publish(Arc::new(At(hash(seed))))));
        assert_eq!(reader.wait_for(&hash(3)).await.map(|s| s.0), Ok(hash(3)));
        assert_eq!(reader.wait_for(&hash(2)).await.map(|s| s.0), Err(Missing::Passed));
    }

    #[tokio::test]
    async fn a_block_of_another_hash_is_not_given_for_the_one_asked_for() {
        let (writer, mut reader) = cell();
        writer.publish(Arc::new(At(hash(5))));
        let orphan = AsOf { hash: [9; 32].into(), ..hash(5) };
        assert_eq!(reader.wait_for(&orphan).await.map(|s| s.0), Err(Missing::Passed));
    }

    #[tokio::test]
    async fn of_a_block_that_was_undone_and_came_back_each_time_has_a_snapshot_of_its_own() {
        let (writer, mut reader) = cell();
        let again = AsOf { seq: 7, ..hash(5) };
        for as_of in [hash(5), hash(6), again] {
            writer.publish(Arc::new(At(as_of)));
        }
        assert_eq!(reader.wait_for(&again).await.map(|snapshot| snapshot.0), Ok(again));
        assert_eq!(reader.wait_for(&hash(5)).await.map(|snapshot| snapshot.0), Ok(hash(5)));
    }

    #[tokio::test]
    async fn what_is_skipped_is_counted_and_conserved() {
        let (writer, mut reader) = cell();
        for seed in 1..=20 {
            writer.publish(Arc::new(At(hash(seed))));
            if seed % 3 == 0 {
                reader.wait_for(&hash(seed)).await.expect("it was just published");
            }
        }
        reader.settle();
        let counts = reader.edge.counts();
        assert_eq!((counts.accepted, counts.processed), (20, 6));
        assert!(counts.conserved(), "{counts:?}");
    }

    #[tokio::test]
    async fn a_snapshot_said_again_replaces_the_first() {
        let (writer, mut reader) = cell();
        (1..=3).for_each(|seed| drop(writer.publish(Arc::new(At(hash(seed))))));
        writer.publish(Arc::new(At(hash(3))));
        assert_eq!(writer.window().len(), 3);
        reader.wait_for(&hash(3)).await.expect("it is there");
        assert!(reader.edge.counts().conserved());
    }

    #[tokio::test]
    async fn a_block_that_is_passed_over_keeps_nobody_waiting() {
        let (writer, mut reader) = cell();
        (1..=2).for_each(|seed| drop(writer.publish(Arc::new(At(hash(seed))))));
        writer.pass(3);
        assert_eq!(reader.wait_for(&hash(3)).await.map(|s| s.0), Err(Missing::Lost));
        writer.pass(1);
        assert_eq!(reader.wait_for(&hash(2)).await.map(|s| s.0), Ok(hash(2)));
        writer.publish(Arc::new(At(hash(4))));
        assert_eq!(reader.wait_for(&hash(4)).await.map(|s| s.0), Ok(hash(4)));
        reader.settle();
        assert!(reader.edge.counts().conserved(), "{:?}", reader.edge.counts());
    }

    #[tokio::test]
    async fn the_end_of_the_writer_ends_the_wait() {
        let (writer, mut reader) = cell();
        drop(writer);
        assert_eq!(reader.wait_for(&hash(1)).await.map(|s| s.0), Err(Missing::Ended));
    }
}
