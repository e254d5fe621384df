//! Going on with what an earlier run recorded.
//!
//! A run leaves a journal and, beside it, the market that it was about. The next one goes on with it if its market is the
//! same: state and oracle are rebuilt from the record, and the chain is followed from where it ends, so that a crash costs
//! what happened meanwhile and nothing else.

use std::fs::{self, File};
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use headwater_events::{BusEvent, Header, RunId};
use headwater_ingest::{Canonical, Link};
use headwater_journal::{DESCRIPTION, Journal, JournalConfig, Recording};
use headwater_market::{HORIZON, ResolvedMarket};
use tracing::{info, warn};

/// Among so many events at the end of a record stand, as a rule, as many blocks as the chain is remembered for.
const LAST_EVENTS: u64 = 2_048;

/// An earlier run's record, opened to be written on.
#[derive(Debug)]
pub(crate) struct Earlier {
    /// Repaired, and locked.
    pub(crate) journal: Journal,
    /// Where it is.
    pub(crate) directory: PathBuf,
    /// Its events.
    pub(crate) events: RangeInclusive<u64>,
    /// The chain as it was published; at least one block of it.
    pub(crate) chain: Canonical,
}

/// Notes what market a new run's journal is about.
pub(crate) fn note_market(directory: &Path, market: &ResolvedMarket) -> anyhow::Result<()> {
    let path = directory.join(DESCRIPTION);
    let write = || -> anyhow::Result<()> {
        let mut file = File::create(&path)?;
        file.write_all(&serde_json::to_vec_pretty(market)?)?;
        Ok(file.sync_all()?)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// The newest run's record, if it can be gone on with; else it is said why not. An incomplete record at its end is cut off.
pub(crate) fn find(config: &JournalConfig, market: &ResolvedMarket, run_id: RunId) -> Option<Earlier> {
    let directory = newest_run(&config.directory)?;
    match open(config, &directory, market, run_id) {
        Ok(earlier) => {
            if let Some(torn) = earlier.journal.torn_tail() {
                warn!(file = %torn.file.display(), torn.offset, torn.bytes, "cut off the incomplete record of a run that was cut off");
            }
            let last = earlier.chain.head().map(|link| link.number);
            info!(journal = %directory.display(), events = earlier.events.end(), last_block = last, "going on with an earlier run");
            Some(earlier)
        }
        Err(reason) => {
            warn!(journal = %directory.display(), reason = format!("{reason:#}"), "the last run is not gone on with; beginning anew");
            None
        }
    }
}

/// Runs sort by time.
fn newest_run(directory: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?;
    let runs = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("run-"));
    runs.map(|entry| entry.path()).max()
}

fn open(
    config: &JournalConfig,
    directory: &Path,
    market: &ResolvedMarket,
    run_id: RunId,
) -> anyhow::Result<Earlier> {
    let noted: serde_json::Value =
        serde_json::from_slice(&fs::read(directory.join(DESCRIPTION)).context(DESCRIPTION)?)?;
    ensure!(noted == serde_json::to_value(market)?, "it is about another market");
    let config = JournalConfig { directory: directory.to_owned(), ..config.clone() };
    let journal = Journal::open(&config, run_id)?;
    let next = journal.next_seq();
    ensure!(next > 1, "nothing was recorded");
    let recording = Recording::open(directory)?;
    let first = recording.first_seq();
    let mut chain = published(&recording, next.saturating_sub(LAST_EVENTS).max(first))?;
    if chain.head().is_none() {
        chain = published(&recording, first)?;
    }
    ensure!(chain.head().is_some(), "it ended before its market was loaded");
    Ok(Earlier { journal, directory: directory.to_owned(), events: first..=next - 1, chain })
}

/// The chain at the end of a record, as its events from `from` on tell it.
fn published(recording: &Recording, from: u64) -> anyhow::Result<Canonical> {
    let mut chain = Canonical::unanchored();
    // Of a part of the record it cannot be said how far back the state knew; of the whole of it, nothing comes before.
    let mut undoable = if from == recording.first_seq() { 0 } else { HORIZON };
    for record in recording.records(from) {
        let record = record?;
        match &record.envelope.event {
            BusEvent::NewBlock(_) => undoable = (undoable + 1).min(HORIZON),
            BusEvent::Reorg(reorg) => {
                // Whoever folds the record fails here, as the run did that ended with it.
                let left = undoable.checked_sub(reorg.depth());
                undoable = left.with_context(|| {
                    format!(
                        "it ends with a reorganisation of {} blocks, more than can be undone",
                        reorg.depth()
                    )
                })?;
            }
            _ => {}
        }
        match &record.envelope.event {
            BusEvent::MarketLoaded(loaded) if chain.head().is_none() => {
                chain = Canonical::anchored(loaded.number, loaded.hash);
            }
            BusEvent::NewBlock(block) => {
                let Header { number, hash, parent_hash, .. } = block.header;
                chain.extend(Link { number, hash, parent_hash });
            }
            BusEvent::Reorg(reorg) if chain.is_published(reorg.ancestor_hash) => chain.undo(reorg),
            // Of blocks before `from`.
            BusEvent::Reorg(reorg) => {
                chain = Canonical::anchored(reorg.ancestor_number, reorg.ancestor_hash);
            }
            _ => {}
        }
    }
    Ok(chain)
}
