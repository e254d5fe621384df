use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use tokio::sync::watch;

/// Which blocks are done: the executor has received the set of every detector.
///
/// The replay keeps a bounded window of unfinished blocks with it, and its detectors take turns by it. It belongs to the
/// supervisor and outlives the executor, so that a restart forgets no receipt.
#[derive(Clone, Debug)]
pub struct BlockProgress {
    detectors: watch::Sender<BTreeMap<Cow<'static, str>, Spoken>>,
    finished: watch::Sender<u64>,
}

/// How far a detector is.
#[derive(Clone, Copy, Debug, Default)]
struct Spoken {
    /// The last block of which its set was received, or of which it has nothing to say.
    received: u64,
    /// The last block for which it had its turn.
    turn: u64,
    /// The last blocks that it has evaluated itself, the newest first: live, those in between were passed over.
    evaluated: [u64; RECENT],
    /// Whether it takes turns only: it evaluates no block.
    only_attends: bool,
}

/// So far apart the detectors are for a block to be known as evaluated by all.
const RECENT: usize = 16;

impl BlockProgress {
    /// A block is done when all of `detectors` have spoken.
    pub fn new(detectors: impl IntoIterator<Item = Cow<'static, str>>) -> Self {
        let detectors = detectors.into_iter().map(|detector| (detector, Spoken::default())).collect();
        Self { detectors: watch::Sender::new(detectors), finished: watch::Sender::new(0) }
    }

    /// Has somebody take turns with the detectors who evaluates no block, and says with [`BlockProgress::receive`] that one is over.
    pub fn attended_by(self, name: impl Into<Cow<'static, str>>) -> Self {
        let spoken = Spoken { only_attends: true, ..Spoken::default() };
        self.detectors.send_modify(|detectors| {
            detectors.insert(name.into(), spoken);
        });
        self
    }

    /// Notes the receipt of a detector's set for the block of `seq`; says whether this finished the block.
    pub fn receive(&self, detector: &str, seq: u64) -> bool {
        let mut finished = seq;
        self.detectors.send_modify(|detectors| {
            if let Some(spoken) = detectors.get_mut(detector) {
                spoken.received = seq.max(spoken.received);
            }
            finished = detectors.values().map(|spoken| spoken.received).min().unwrap_or(seq);
        });
        self.finished.send_if_modified(|last| {
            let advanced = finished > *last;
            *last = finished.max(*last);
            advanced
        })
    }

    /// As [`BlockProgress::receive`], of a set that came; says whether every detector has evaluated this very block now.
    pub fn receive_set(&self, detector: &str, seq: u64) -> bool {
        let mut by_all = true;
        self.detectors.send_modify(|detectors| {
            if let Some(spoken) = detectors.get_mut(detector) {
                spoken.evaluated.rotate_right(1);
                spoken.evaluated[0] = seq;
            }
            let mut evaluating = detectors.values().filter(|spoken| !spoken.only_attends);
            by_all = evaluating.all(|spoken| spoken.evaluated.contains(&seq));
        });
        self.receive(detector, seq);
        by_all
    }

    /// Waits until it is `detector`'s turn to hand over its set for the block of `seq`: the sets of those before it by name were
    /// received, and those behind it have spoken about the block before. Where all wait for their turn, the sets come in the order of
    /// the blocks and, in each, of the names. A turn that was given is not waited for again. Cancel-safe.
    pub async fn wait_for_turn(&self, detector: &str, seq: u64) {
        let is_turn = |detectors: &BTreeMap<Cow<'static, str>, Spoken>| {
            let own = detectors.get(detector).copied().unwrap_or_default();
            own.turn >= seq
                || detectors.iter().all(|(name, spoken)| match (**name).cmp(detector) {
                    Ordering::Less => spoken.received >= seq,
                    Ordering::Equal => true,
                    Ordering::Greater => spoken.received >= own.received.max(own.turn),
                })
        };
        // The sender lives in `self`, so the wait ends only with the condition.
        let _ = self.detectors.subscribe().wait_for(is_turn).await;
        self.detectors.send_modify(|detectors| {
            if let Some(spoken) = detectors.get_mut(detector) {
                spoken.turn = seq.max(spoken.turn);
            }
        });
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
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_block_is_done_when_the_slowest_detector_has_spoken() {
        let progress = BlockProgress::new(["a".into(), "b".into()]);
        assert!(!progress.receive("a", 7));
        assert!(!progress.receive("a", 9));
        assert!(progress.receive("b", 8));
        assert_eq!(progress.finished(), 8);
    }

    #[test]
    fn a_block_is_evaluated_when_nobody_passed_it_over() {
        let progress = BlockProgress::new(["a".into(), "b".into()]);
        assert!(!progress.receive_set("a", 7) && !progress.receive_set("a", 9));
        assert!(!progress.receive_set("b", 8) && progress.receive_set("b", 9));
        progress.receive("a", 11);
        assert!(!progress.receive_set("b", 11), "one had nothing to say of it");
    }

    #[test]
    fn who_only_attends_has_turns_and_evaluates_nothing() {
        let progress = BlockProgress::new(["a".into(), "c".into()]).attended_by("b");
        let is_turn = |detector, seq| progress.wait_for_turn(detector, seq).now_or_never().is_some();
        assert!(is_turn("a", 3) && !is_turn("b", 3) && !progress.receive_set("a", 3));
        assert!(!is_turn("c", 3) && is_turn("b", 3));
        progress.receive("b", 3);
        assert!(is_turn("c", 3) && progress.receive_set("c", 3) && progress.finished() == 3);
    }

    #[test]
    fn detectors_take_turns_by_block_and_name() {
        let progress = BlockProgress::new(["a".into(), "b".into(), "c".into()]);
        let is_turn = |detector, seq| progress.wait_for_turn(detector, seq).now_or_never().is_some();
        assert!(!is_turn("b", 3) && !is_turn("c", 3) && is_turn("a", 3));
        assert!(is_turn("a", 3), "a turn that was given");
        assert!(!is_turn("a", 5) && !is_turn("b", 3), "its set is on the way");
        progress.receive("a", 3);
        assert!(!is_turn("a", 5) && !is_turn("c", 3) && is_turn("b", 3));
        progress.receive("b", 3);
        assert!(!is_turn("a", 5) && is_turn("c", 3));
        progress.receive("c", 3);
        assert!(!is_turn("b", 5) && is_turn("a", 5));
        // One that has nothing to say of a block has had its turn.
        progress.receive("a", 5);
        progress.receive("b", 5);
        assert!(!is_turn("a", 7) && is_turn("c", 5));
    }

    #[test]
    fn one_alone_need_not_wait() {
        let progress = BlockProgress::new(["a".into()]);
        for seq in 1..5 {
            assert!(progress.wait_for_turn("a", seq).now_or_never().is_some());
        }
    }
}
