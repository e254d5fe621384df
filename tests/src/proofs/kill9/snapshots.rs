//! The snapshots that a life leaves, against the chain.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use alloy_primitives::{Address, B256, U256};
use anyhow::{Context, ensure};
use headwater_reference::arbitrage::Pool;
use headwater_reference::fake_node::{FakeNode, V2Pair};
use headwater_reference::scratch::{Known, from_scratch};
use headwater_reference::snapshot::{self, Book, Taken};
use tokio::time::{Instant, interval, timeout_at};

use super::{Generator, Lives, PATIENCE, SNAPSHOT_BLOCKS, lock};
use crate::latency::{FACTORIES, WETH};

/// What was compared.
pub(super) struct Judged {
    pub(super) pools: usize,
    pub(super) prices: usize,
    pub(super) undone: usize,
}

/// The snapshots in a directory, oldest first for each component.
pub(super) fn files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    let paths = entries.into_iter().map(|entry| entry.path());
    let mut files: Vec<_> = paths.filter(|path| path.extension() == Some("hws".as_ref())).collect();
    files.sort_unstable();
    Ok(files)
}

fn newest(directory: &Path, component: &str) -> anyhow::Result<Vec<u8>> {
    let is_of =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(component));
    let newest = files(directory)?.into_iter().rfind(is_of);
    Ok(fs::read(newest.with_context(|| format!("no snapshot of {component}"))?)?)
}

/// Lets the chain grow up to the next block at which a snapshot is due, and waits until it was taken; says of which block.
pub(super) async fn until_saved(
    lives: &Lives,
    node: &FakeNode,
    chain: &Mutex<Generator>,
) -> anyhow::Result<B256> {
    let (run, deadline) = (lives.run()?, Instant::now() + PATIENCE);
    let mut ticks = interval(Duration::from_millis(20));
    loop {
        let block = lock(chain).next();
        let (number, hash) = (block.number(), block.hash());
        node.push_block(block);
        // One after the other, so that no image has to be dropped for the one before it.
        timeout_at(deadline, ticks.tick()).await?;
        if !number.is_multiple_of(SNAPSHOT_BLOCKS) {
            continue;
        }
        let is_saved = |component| -> anyhow::Result<bool> {
            Ok(newest(&run, component).and_then(|file| snapshot::taken(&file))?.hash == hash)
        };
        let soon = Instant::now() + Duration::from_secs(2);
        while timeout_at(soon, ticks.tick()).await.is_ok() {
            if is_saved("state")? && is_saved("oracle")? {
                return Ok(hash);
            }
        }
        ensure!(Instant::now() < deadline, "block {number} is not saved");
    }
}

/// The newest snapshots, which are to be of the block `head`.
pub(super) fn judge(run: &Path, chain: &Generator, head: B256) -> anyhow::Result<Judged> {
    let (taken, book) = snapshot::state(&newest(run, "state")?)?;
    let pools = judge_book(book.clone(), taken, chain, head, |_| true).context("the state")?;
    let (taken, quoted, prices) = snapshot::oracle(&newest(run, "oracle")?)?;
    let has_quote = |pool: &Pool| pool.token0 == WETH || pool.token1 == WETH;
    judge_book(quoted, taken, chain, head, has_quote).context("the oracle")?;
    let expected = prices_at(chain, head)?;
    ensure!(prices == expected, "prices of {prices:?}, and should be {expected:?}");
    Ok(Judged { pools, prices: prices.len(), undone: book.records.len() })
}

/// Compares the reserves at the block, and at each one below it that can be undone; says how many there are.
fn judge_book(
    mut book: Book,
    taken: Taken,
    chain: &Generator,
    head: B256,
    is_in_it: impl Fn(&Pool) -> bool,
) -> anyhow::Result<usize> {
    ensure!(taken.hash == head, "the newest snapshot is of block {}", taken.number);
    let mut at = head;
    loop {
        let expected = chain.pools.get(&at).context("a block that nobody generated")?;
        let expected: BTreeMap<Address, _> = expected
            .iter()
            .filter(|pool| is_in_it(pool))
            .map(|pool| (pool.address, Some((pool.reserve0, pool.reserve1))))
            .collect();
        ensure!(
            book.reserves == expected,
            "other reserves at {at}: {:?} and not {expected:?}",
            book.reserves
        );
        let Some(undone) = book.undo() else { return Ok(expected.len()) };
        ensure!(undone.hash == at, "it undoes {} and not {at}", undone.hash);
        at = undone.parent_hash;
    }
}

/// The prices as they follow from the reserves at a block.
fn prices_at(chain: &Generator, head: B256) -> anyhow::Result<snapshot::Prices> {
    let place =
        chain.blocks.iter().rposition(|generated| generated.block.hash() == head).context("canonical")?;
    let parent = chain.blocks[place - 1].block.hash();
    let loaded = chain.pools[&parent].iter().map(|pool| V2Pair {
        address: pool.address,
        factory: FACTORIES[0],
        token0: pool.token0,
        token1: pool.token1,
        reserve0: pool.reserve0,
        reserve1: pool.reserve1,
    });
    let known = Known {
        factories: FACTORIES.map(|factory| (factory, 3_000)).into(),
        wrapped_native: WETH,
        min_base_reserve: U256::from(10).pow(U256::from(18)),
        loaded: loaded.collect(),
        ..Known::default()
    };
    let scratch = from_scratch(&known, [&chain.blocks[place].block]);
    Ok(scratch.prices.into_iter().map(|(token, price)| (token, (price.mantissa, price.source))).collect())
}
