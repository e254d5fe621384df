//! Going on with what an earlier run recorded.
//!
//! A run leaves a journal and, beside it, the market that it was about. The next one goes on with it if its market is the
//! same: state and oracle are rebuilt from their newest snapshots and the record behind them, and the chain is followed from where it ends, so that a crash costs
//! what happened meanwhile and nothing else.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use headwater_events::{BusEvent, Grade, Header, RunId};
use headwater_ingest::{Canonical, Link, REMEMBERED};
use headwater_journal::{
    DESCRIPTION, Journal, JournalConfig, JournalError, Recording, Snapshots, describe, runs,
};
use headwater_market::ResolvedMarket;
use tracing::{info, warn};

use crate::archive::Archive;
use crate::config::Config;

/// Among so many events at the end of a record stand, as a rule, as many blocks as the chain is remembered for; where they do not, it is
/// read from farther back.
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
    Ok(describe(directory, &serde_json::to_vec_pretty(market)?)?)
}

/// The newest run's record, if it can be gone on with; else it is said why not. An incomplete record at its end is cut off. Runs that
/// ended before their first block, as with a configuration that was wrong, cost no earlier one its place.
pub(crate) fn find(config: &Config, market: &ResolvedMarket, run_id: RunId) -> Option<Earlier> {
    for directory in runs(&config.journal.directory).iter().rev() {
        match open(config, directory, market, run_id) {
            Ok(earlier) => {
                if let Some(torn) = earlier.journal.torn_tail() {
                    warn!(file = %torn.file.display(), torn.offset, torn.bytes, "cut off the incomplete record of a run that was cut off");
                }
                let last = earlier.chain.head().map(|link| link.number);
                info!(journal = %directory.display(), events = earlier.events.end(), last_block = last, "going on with an earlier run");
                return Some(earlier);
            }
            Err(reason) => {
                let (journal, reason) = (directory.display(), format!("{reason:#}"));
                if holds_a_block(directory) {
                    warn!(%journal, reason, "the last run is not gone on with; beginning anew");
                    return None;
                }
                info!(%journal, reason, "a run that ended before its first block is passed over");
            }
        }
    }
    None
}

/// What cannot be read may hold one.
fn holds_a_block(directory: &Path) -> bool {
    let recording = match Recording::open(directory) {
        Ok(recording) => recording,
        Err(JournalError::Empty { .. }) => return false,
        Err(_) => return true,
    };
    let is_one = |event: &BusEvent| matches!(event, BusEvent::NewBlock(_));
    recording
        .records(recording.first_seq())
        .any(|record| record.map_or(true, |record| is_one(&record.envelope.event)))
}

fn open(
    config: &Config,
    directory: &Path,
    market: &ResolvedMarket,
    run_id: RunId,
) -> anyhow::Result<Earlier> {
    let noted: serde_json::Value =
        serde_json::from_slice(&fs::read(directory.join(DESCRIPTION)).context(DESCRIPTION)?)?;
    ensure!(noted == serde_json::to_value(market)?, "it is about another market");
    let journal = JournalConfig { directory: directory.to_owned(), ..config.journal.clone() };
    let journal = Journal::open(&journal, run_id)?;
    let next = journal.next_seq();
    ensure!(next > 1, "nothing was recorded");
    let recording = Recording::open(directory)?;
    let first = recording.first_seq();
    let archive = Archive::beside(directory, market, config)?;
    let left = Snapshots::admit(&archive.all(), &recording, next)?;
    let is_whole = first == 1 || left.iter().all(|snapshots| *snapshots > 0);
    ensure!(is_whole, "its beginning was removed, and there is no snapshot to go on from");
    let mut events = LAST_EVENTS;
    let mut chain = published(&recording, next.saturating_sub(events).max(first))?;
    while chain.published().count() < REMEMBERED && events < next - first {
        events = events.saturating_mul(4);
        chain = published(&recording, next.saturating_sub(events).max(first))?;
    }
    ensure!(chain.head().is_some(), "it ended before its market was loaded");
    Ok(Earlier { journal, directory: directory.to_owned(), events: first..=next - 1, chain })
}

/// The chain at the end of a record, as its events from `from` on tell it.
fn published(recording: &Recording, from: u64) -> anyhow::Result<Canonical> {
    let mut chain = Canonical::unanchored();
    for record in recording.records(from) {
        let record = record?;
        match &record.envelope.event {
            BusEvent::MarketLoaded(loaded) if chain.head().is_none() => {
                chain = Canonical::anchored(loaded.number, loaded.hash);
            }
            BusEvent::NewBlock(block) => {
                let Header { number, hash, parent_hash, .. } = block.header;
                chain.extend(Link { number, hash, parent_hash });
                if block.grade == Grade::Assumed {
                    chain.assume(block.logs.clone());
                }
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
