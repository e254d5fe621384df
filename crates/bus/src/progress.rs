use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Which blocks are done: the executor has received the set of every detector.
///
/// The replay keeps a bounded window of unfinished blocks with it. It belongs to the supervisor and outlives the
/// executor, so that a restart forgets no receipt.
#[derive(Clone, Debug)]
pub struct BlockProgress {
    /// The last block of which each detector's set was received.
    received: Arc<Mutex<BTreeMap<Cow<'static, str>, u64>>>,
    finished: watch::Sender<u64>,
}

impl BlockProgress {
    /// A block is done when all of `detectors` have spoken.
    pub fn new(detectors: impl IntoIterator<Item = Cow<'static, str>>) -> Self {
        let received = detectors.into_iter().map(|detector| (detector, 0)).collect();
        Self { received: Arc::new(Mutex::new(received)), finished: watch::Sender::new(0) }
    }

    /// Notes the receipt of a detector's set for the block of `seq`; says whether this finished the block.
    pub fn receive(&self, detector: &str, seq: u64) -> bool {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = received.get_mut(detector) {
            *last = seq.max(*last);
        }
        let finished = received.values().copied().min().unwrap_or(seq);
        self.finished.send_if_modified(|last| {
            let advanced = finished > *last;
            *last = finished.max(*last);
            advanced
        })
    }

    /// Sequence number of the last block that is done.
    pub fn finished(&self) -> u64 {
        *self.finished.borrow()
    }

    /// Waits until the block of `seq` is done. Cancel-safe.
    pub async fn wait_for(&self, seq: u64) {
        let mut finished = self.finished.subscribe();
        // The sender lives in `self`, so the wait ends only with the condition.
        let _ = finished.wait_for(|done| *done >= seq).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_done_when_the_slowest_detector_has_spoken() {
        let progress = BlockProgress::new(["a".into(), "b".into()]);
        assert!(!progress.receive("a", 7));
        assert!(!progress.receive("a", 9));
        assert!(progress.receive("b", 8));
        assert_eq!(progress.finished(), 8);
    }
}
