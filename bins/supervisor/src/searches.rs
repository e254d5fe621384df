//! Searches of the chain's history, whose progress is kept beside the journals: a start that was interrupted goes on where it was.

use std::fs;
use std::path::Path;

use alloy_primitives::{BlockHash, BlockNumber};
use anyhow::{Context, ensure};
use headwater_ingest::parse_link;
use headwater_journal::note;
use headwater_node::Node;
use headwater_state::{HistorySearch, LoadError, Searched};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

/// Ranges of blocks behind which the progress is kept.
const RANGES: u32 = 64;

/// So deep a block is not undone; the progress is kept as of one, so that it is not gone on with on another chain.
const DEPTH: u64 = 64;

/// Heads in a row that a node may forget before it answers for one.
const MOST_GONE: u32 = 5;

const VERSION: u32 = 1;

/// What is kept of a search.
#[derive(Serialize, Deserialize)]
struct Checkpoint<F> {
    version: u32,
    chain_id: u64,
    about: String,
    /// Everything up to this block was searched.
    number: BlockNumber,
    hash: BlockHash,
    found: F,
}

/// The searches of a chain.
#[derive(Debug)]
pub(crate) struct Searches<'a> {
    pub(crate) node: &'a Node,
    pub(crate) chain_id: u64,
    /// Of all runs.
    pub(crate) journals: &'a Path,
}

impl Searches<'_> {
    /// Searches up to the node's head, from where the last run came to.
    pub(crate) async fn search<S: HistorySearch>(&self, mut search: S) -> anyhow::Result<S> {
        let path = self.journals.join(format!("search-{}.json", search.contract()));
        match self.kept(&path, &search).await {
            Ok(Some(searched)) => search.go_on(searched),
            Ok(None) => {}
            Err(reason) => {
                warn!(file = %path.display(), reason = format!("{reason:#}"), "a search begins anew");
            }
        }
        info!(from_block = search.searched().next, "searching the chain for {}", search.about());
        let mut gone = 0;
        loop {
            let head = self.node.request("eth_getBlockByNumber", ("latest", false)).await?;
            let head = parse_link(&head.raw).context("eth_getBlockByNumber")?;
            let is_through = match search.search(self.node, head.hash, RANGES).await {
                Err(LoadError::BlockGone { .. }) if gone < MOST_GONE => {
                    gone += 1;
                    continue;
                }
                searched => searched?,
            };
            gone = 0;
            self.keep(&path, &search, head.number).await?;
            if is_through {
                return Ok(search);
            }
            info!(searched = search.searched().next, of = head.number, "searching the chain");
        }
    }

    async fn kept<S: HistorySearch>(
        &self,
        path: &Path,
        search: &S,
    ) -> anyhow::Result<Option<Searched<S::Found>>> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let kept: Checkpoint<S::Found> = serde_json::from_slice(&text)?;
        ensure!(
            kept.version == VERSION,
            "it is of version {}, and this program reads {VERSION}",
            kept.version
        );
        ensure!(kept.chain_id == self.chain_id, "it is of chain {}", kept.chain_id);
        ensure!(kept.about == search.about(), "it was for {}", kept.about);
        let is_ours = self.hash_of(kept.number).await? == Some(kept.hash);
        ensure!(is_ours, "block {} is another one on this chain", kept.number);
        Ok(Some(Searched { next: kept.number + 1, found: kept.found }))
    }

    /// A disk that is full delays nobody here.
    async fn keep<S: HistorySearch>(&self, path: &Path, search: &S, head: BlockNumber) -> anyhow::Result<()> {
        let searched = search.searched();
        let number = searched.next.saturating_sub(1).min(head.saturating_sub(DEPTH));
        let Some(hash) = self.hash_of(number).await? else { return Ok(()) };
        let kept = Checkpoint {
            version: VERSION,
            chain_id: self.chain_id,
            about: search.about(),
            number,
            hash,
            found: searched.found,
        };
        let text = serde_json::to_vec(&kept)?;
        let written = fs::create_dir_all(self.journals).map_err(anyhow::Error::from);
        if let Err(error) = written.and_then(|()| Ok(note(path, &text)?)) {
            warn!(error = format!("{error:#}"), "how far a search came is not kept");
        }
        Ok(())
    }

    async fn hash_of(&self, number: BlockNumber) -> anyhow::Result<Option<BlockHash>> {
        let told = self.node.request("eth_getBlockByNumber", (format!("{number:#x}"), false)).await?;
        Ok(parse_link(&told.raw).ok().filter(|link| link.number == number).map(|link| link.hash))
    }
}
