use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::error;

/// A message that was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Whose message.
    pub actor: String,
    /// Who sent it.
    pub from: String,
    /// The source event that it stems from.
    pub seq: Option<u64>,
    /// What it did.
    pub reason: String,
}

/// Writes down what was set aside, so that the next process knows of it. May block: it is called from a blocking thread.
pub type Aside = Arc<dyn Fn(&Quarantined) -> anyhow::Result<()> + Send + Sync>;

/// The messages that were set aside, by this process and by those before it.
///
/// What is known here is never handled again: neither by an actor that comes upon it, as in the replay of a recording,
/// nor by one that is rebuilt.
#[derive(Clone, Default)]
pub struct Quarantine(Arc<Inner>);

#[derive(Default)]
struct Inner {
    entries: Mutex<Entries>,
    /// Whether there are any: every message asks.
    is_used: AtomicBool,
    aside: Option<Aside>,
}

#[derive(Default)]
struct Entries {
    all: VecDeque<Entry>,
    seqs: HashSet<u64>,
}

struct Entry {
    set_aside: Quarantined,
    is_own: bool,
}

impl fmt::Debug for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quarantine").field("entries", &self.lock().all.len()).finish_non_exhaustive()
    }
}

/// Messages that are remembered; older ones remain counted and written down.
const REMEMBERED: usize = 65_536;

impl Quarantine {
    /// Knows what was set aside `earlier`; what comes is written by `aside`.
    pub fn new(earlier: impl IntoIterator<Item = Quarantined>, aside: Option<Aside>) -> Self {
        let mut entries = Entries::default();
        earlier.into_iter().for_each(|set_aside| entries.add(Entry { set_aside, is_own: false }));
        let is_used = AtomicBool::new(!entries.all.is_empty());
        Self(Arc::new(Inner { entries: Mutex::new(entries), is_used, aside }))
    }

    /// Whether a message of an actor that stems from the source event `seq` was set aside.
    pub fn contains(&self, actor: &str, seq: u64) -> bool {
        self.any_of(seq, |set_aside| set_aside.actor == actor)
    }

    /// What this process set aside, oldest first.
    pub fn own(&self) -> Vec<Quarantined> {
        self.lock().all.iter().filter(|entry| entry.is_own).map(|entry| entry.set_aside.clone()).collect()
    }

    /// Whether this very message was set aside before.
    pub(crate) fn knows(&self, actor: &str, from: &str, seq: Option<u64>) -> bool {
        seq.is_some_and(|seq| {
            self.any_of(seq, |set_aside| set_aside.actor == actor && set_aside.from == from)
        })
    }

    fn any_of(&self, seq: u64, is_it: impl Fn(&Quarantined) -> bool) -> bool {
        if !self.0.is_used.load(Ordering::Acquire) {
            return false;
        }
        let entries = self.lock();
        let mut of_seq = entries.all.iter().filter(|entry| entry.set_aside.seq == Some(seq));
        entries.seqs.contains(&seq) && of_seq.any(|entry| is_it(&entry.set_aside))
    }

    /// Remembers, then writes down. That it cannot be written down is told and stops nobody: it is remembered.
    pub(crate) async fn add(&self, set_aside: Quarantined) {
        self.lock().add(Entry { set_aside: set_aside.clone(), is_own: true });
        self.0.is_used.store(true, Ordering::Release);
        let Some(aside) = self.0.aside.clone() else { return };
        let written = tokio::task::spawn_blocking(move || aside(&set_aside)).await;
        if let Err(error) = written.map_err(anyhow::Error::from).flatten() {
            error!(
                error = format!("{error:#}"),
                "what was set aside cannot be written down; a run that goes on with this one will meet it again"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn add(&mut self, entry: Entry) {
        if self.all.len() == REMEMBERED
            && let Some(oldest) = self.all.pop_front()
            && let Some(seq) = oldest.set_aside.seq
            && self.all.iter().all(|entry| entry.set_aside.seq != Some(seq))
        {
            self.seqs.remove(&seq);
        }
        self.seqs.extend(entry.set_aside.seq);
        self.all.push_back(entry);
    }
}
