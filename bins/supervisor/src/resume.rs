//! Going on with what an earlier run recorded.
//!
//! A run leaves a journal and, beside it, the market that it was about. The next one goes on with it if its market is the
//! same: state and oracle are rebuilt from the record, and the chain is followed from where it ends, so that a crash costs
//! what happened meanwhile and nothing else.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use headwater_events::{BusEvent, RunId};
use headwater_ingest::Link;
use headwater_journal::{DESCRIPTION, Journal, JournalConfig, Recording};
use headwater_market::ResolvedMarket;
use tracing::{info, warn};

/// Blocks of the record that the chain may have left when we come back.
const REMEMBERED: usize = 256;

/// Events behind which so many blocks are found, reorganisations and what was learnt among them.
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
    /// Its last canonical blocks, oldest first; at least one.
    pub(crate) chain: Vec<Link>,
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

/// The newest run's record, if it can be gone on with. Why not is said, and nothing of it is touched.
pub(crate) fn find(config: &JournalConfig, market: &ResolvedMarket, run_id: RunId) -> Option<Earlier> {
    let directory = newest_run(&config.directory)?;
    match open(config, &directory, market, run_id) {
        Ok(earlier) => {
            if let Some(torn) = earlier.journal.torn_tail() {
                warn!(file = %torn.file.display(), torn.offset, torn.bytes, "cut off the incomplete record of a run that was cut off");
            }
            let last = earlier.chain.last().map(|link| link.number);
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
    let chain = last_blocks(&recording, next.saturating_sub(LAST_EVENTS).max(first))?;
    ensure!(!chain.is_empty(), "it ended before its market was loaded");
    Ok(Earlier { journal, directory: directory.to_owned(), events: first..=next - 1, chain })
}

/// The canonical blocks at the end of a record, as its events from `from` on tell them.
fn last_blocks(recording: &Recording, from: u64) -> anyhow::Result<Vec<Link>> {
    let mut chain: VecDeque<Link> = VecDeque::new();
    for record in recording.records(from) {
        match &record?.envelope.event {
            BusEvent::MarketLoaded(loaded) if chain.is_empty() => {
                chain.push_back(anchor(loaded.number, loaded.hash));
            }
            BusEvent::NewBlock(block) => {
                let header = &block.header;
                chain.push_back(Link {
                    number: header.number,
                    hash: header.hash,
                    parent_hash: header.parent_hash,
                });
            }
            BusEvent::Reorg(reorg) => {
                chain.truncate(chain.len().saturating_sub(reorg.depth()));
                if chain.is_empty() {
                    chain.push_back(anchor(reorg.ancestor_number, reorg.ancestor_hash));
                }
            }
            _ => {}
        }
        while chain.len() > REMEMBERED {
            chain.pop_front();
        }
    }
    Ok(chain.into())
}

/// A block whose parent nobody will ask for.
fn anchor(number: u64, hash: alloy_primitives::B256) -> Link {
    Link { number, hash, parent_hash: Default::default() }
}
