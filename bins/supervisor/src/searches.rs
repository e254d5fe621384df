//! Searches of the chain's history, whose progress is kept beside the journals: a start that was interrupted goes on where it was.

use std::fs;
use std::path::Path;

use alloy_primitives::{BlockHash, BlockNumber};
use anyhow::{anyhow, ensure};
use headwater_ingest::parse_link;
use headwater_journal::note;
use headwater_node::{Node, NodeError};
use headwater_state::{HistorySearch, LoadError, Patience, Searched};
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
    pub(crate) patience: &'a mut Patience,
    pub(crate) chain_id: u64,
    /// Of all runs.
    pub(crate) journals: &'a Path,
}

/// Is told how many blocks were searched, and of how many.
pub(crate) type Progress<'a> = dyn Fn(u64, u64) + Send + Sync + 'a;

impl Searches<'_> {
    /// Searches up to the node's head, from where the last run came to. Where the node fails, it goes on behind a pause.
    pub(crate) async fn search<S: HistorySearch>(
        &mut self,
        mut search: S,
        progress: &Progress<'_>,
    ) -> anyhow::Result<S> {
        let path = self.journals.join(format!("search-{}.json", search.contract()));
        match self.kept(&path, &search).await? {
            Ok(Some(searched)) => search.go_on(searched),
            Ok(None) => {}
            Err(reason) => {
                warn!(file = %path.display(), reason = format!("{reason:#}"), "a search begins anew");
            }
        }
        let (first, about) = (search.searched().next, search.about());
        let doing = format!("searching the chain for {about}");
        info!(from_block = first, "{doing}");
        let mut gone = 0;
        loop {
            match self.go_on(&path, &mut search, first, progress).await {
                Ok(true) => return Ok(search),
                Ok(false) => gone = 0,
                Err(LoadError::BlockGone { .. }) if gone < MOST_GONE => gone += 1,
                Err(error) => self.patience.bear(error, &doing, search.searched().next).await?,
            }
        }
    }

    /// Some ranges of blocks more; says whether these were the last. `first` is where the search begins.
    async fn go_on<S: HistorySearch>(
        &mut self,
        path: &Path,
        search: &mut S,
        first: BlockNumber,
        progress: &Progress<'_>,
    ) -> Result<bool, LoadError> {
        let node = self.patience.node().await?;
        let head = node.request("eth_getBlockByNumber", ("latest", false)).await?;
        let head = parse_link(&head.raw)
            .map_err(|error| NodeError::Decode { reason: format!("eth_getBlockByNumber: {error}") })?;
        let of = (head.number + 1).saturating_sub(first).max(1);
        let told = |next: BlockNumber| progress(next.saturating_sub(first).min(of), of);
        told(search.searched().next);
        let is_through = search.search(&node, head.hash, RANGES, &told).await?;
        self.keep(&node, path, search, head.number).await?;
        if !is_through {
            info!(searched = search.searched().next, of = head.number, "searching the chain");
        }
        Ok(is_through)
    }

    /// What the last run has kept; the inner error says why that cannot be gone on with.
    async fn kept<S: HistorySearch>(
        &mut self,
        path: &Path,
        search: &S,
    ) -> anyhow::Result<anyhow::Result<Option<Searched<S::Found>>>> {
        let kept = match self.read(path, search) {
            Ok(Some(kept)) => kept,
            Ok(None) => return Ok(Ok(None)),
            Err(reason) => return Ok(Err(reason)),
        };
        loop {
            let doing = "looking how far the last search came";
            match self.is_ours(&kept).await {
                Ok(true) => return Ok(Ok(Some(Searched { next: kept.number + 1, found: kept.found }))),
                Ok(false) => return Ok(Err(anyhow!("block {} is another one on this chain", kept.number))),
                Err(error) => self.patience.bear(error, doing, 0).await?,
            }
        }
    }

    fn read<S: HistorySearch>(
        &self,
        path: &Path,
        search: &S,
    ) -> anyhow::Result<Option<Checkpoint<S::Found>>> {
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
        Ok(Some(kept))
    }

    async fn is_ours<F>(&mut self, kept: &Checkpoint<F>) -> Result<bool, LoadError> {
        let node = self.patience.node().await?;
        Ok(hash_of(&node, kept.number).await? == Some(kept.hash))
    }

    /// A disk that is full delays nobody here.
    async fn keep<S: HistorySearch>(
        &self,
        node: &Node,
        path: &Path,
        search: &S,
        head: BlockNumber,
    ) -> Result<(), LoadError> {
        let searched = search.searched();
        let number = searched.next.saturating_sub(1).min(head.saturating_sub(DEPTH));
        let Some(hash) = hash_of(node, number).await? else { return Ok(()) };
        let kept = Checkpoint {
            version: VERSION,
            chain_id: self.chain_id,
            about: search.about(),
            number,
            hash,
            found: searched.found,
        };
        if let Err(error) = self.write(path, &kept) {
            warn!(error = format!("{error:#}"), "how far a search came is not kept");
        }
        Ok(())
    }

    fn write<F: Serialize>(&self, path: &Path, kept: &Checkpoint<F>) -> anyhow::Result<()> {
        fs::create_dir_all(self.journals)?;
        Ok(note(path, &serde_json::to_vec(kept)?)?)
    }
}

async fn hash_of(node: &Node, number: BlockNumber) -> Result<Option<BlockHash>, LoadError> {
    let told = node.request("eth_getBlockByNumber", (format!("{number:#x}"), false)).await?;
    Ok(parse_link(&told.raw).ok().filter(|link| link.number == number).map(|link| link.hash))
}
