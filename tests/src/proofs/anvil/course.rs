//! The node's side: the chain grows, and is taken back.

use std::collections::BTreeMap;

use anyhow::ensure;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::follower::Following;
use super::misdeed::Misdeed;
use crate::devnet::{Devnet, Genesis, Head, Purchase, Trader};
use crate::follower::Results;

/// A devnet, its trader, and where the process began.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) devnet: Devnet,
    trader: Trader,
    random: ChaCha8Rng,
    /// Height at which the market was loaded: what every history has in common.
    loaded: u64,
    /// How deep a reorganisation may be, and how high the chain above the load: the state keeps what it needs to undo so many
    /// blocks below the highest that it saw, so that every history can be followed from every other.
    deepest: u64,
}

/// What was done, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Deeds(BTreeMap<Misdeed, Deed>);

#[derive(Debug, Default)]
struct Deed {
    times: u64,
    /// How often the process stood on a block that was taken back, told of it, and came to the new head.
    followed: u64,
    /// Blocks taken back, by turn.
    depths: Vec<u64>,
}

impl Course {
    pub(super) fn new(devnet: Devnet, seed: u64, deepest: u64) -> anyhow::Result<Self> {
        let (trader, loaded) = (Trader::new(seed, &devnet), devnet.head()?.number);
        Ok(Self { devnet, trader, random: ChaCha8Rng::seed_from_u64(seed), loaded, deepest })
    }

    /// The first block that the process told of.
    pub(super) fn first(&self) -> u64 {
        self.loaded + 1
    }

    /// Blocks since the market was loaded.
    fn height(&self) -> anyhow::Result<u64> {
        Ok(self.devnet.head()?.number - self.loaded)
    }

    /// Blocks in which it is traded.
    pub(super) fn grow_by(&mut self, blocks: u64) -> anyhow::Result<()> {
        for _ in 0..blocks {
            self.trader.trade(&self.devnet)?;
            self.devnet.mine()?;
        }
        Ok(())
    }

    /// A last block, at which the process arrives.
    pub(super) fn settle(&mut self, following: &mut Following) -> anyhow::Result<()> {
        self.make_room(1)?;
        self.grow_by(1)?;
        following.until_written(self.devnet.head()?.hash)?;
        Ok(())
    }

    /// So many blocks can be added, if need be after others were taken back.
    fn make_room(&mut self, blocks: u64) -> anyhow::Result<()> {
        let above = (self.height()? + blocks).saturating_sub(self.deepest);
        if above > 0 {
            self.devnet.roll_back(above + 1)?;
            self.diverge(1)?;
        }
        Ok(())
    }

    /// The last of these blocks is the node's head.
    pub(super) fn ensure_head(&self, results: &Results) -> anyhow::Result<()> {
        let Head { number, hash, .. } = self.devnet.head()?;
        let last = results.blocks.last().map(|block| (block.number, block.hash));
        ensure!(
            last == Some((number, hash)),
            "it ends at {last:?}, and the node's head is {number} ({hash})"
        );
        Ok(())
    }

    /// One of them, at a depth of chance. Most are waited for on both sides, so that it is sure what came of them; the others
    /// follow hard on each other.
    pub(super) fn play(
        &mut self,
        misdeed: Misdeed,
        following: &mut Following,
        deeds: &mut Deeds,
    ) -> anyhow::Result<()> {
        let depth = self.choose_depth(misdeed);
        let above = match misdeed {
            Misdeed::Reverted => depth,
            Misdeed::RestartHigher => 2,
            _ => 0,
        };
        self.make_room(above + 1)?;
        // The last block is traded in: where empty blocks are replaced by empty ones, they may be the same again.
        self.grow_by(depth.saturating_sub(self.height()?).max(1))?;
        let is_awaited = misdeed.is_restart() || self.random.random_range(0..5) > 0;
        let old = self.devnet.head()?;
        let before = if is_awaited { following.until_written(old.hash)? } else { 0 };
        let taken_back = match misdeed {
            Misdeed::ReorgEmpty => self.reorg(depth, false)?,
            Misdeed::ReorgTraded => self.reorg(depth, true)?,
            Misdeed::Reverted => self.revert(depth, following, is_awaited)?,
            Misdeed::RolledBack => self.roll_back(depth)?,
            Misdeed::RestartLower | Misdeed::RestartHigher => self.another_history(misdeed)?,
        };
        let deed = deeds.0.entry(misdeed).or_default();
        deed.times += 1;
        if is_awaited {
            let after = following.until_written(self.devnet.head()?.hash)?;
            ensure!(after > before, "{misdeed:?}, {depth} deep, is not told as a reorganisation");
            deed.followed += 1;
            deed.depths.push(taken_back);
        }
        Ok(())
    }

    /// Every third is as deep as can be, or nearly.
    fn choose_depth(&mut self, misdeed: Misdeed) -> u64 {
        let deepest = match misdeed {
            // There has to be room above it.
            Misdeed::Reverted | Misdeed::RestartHigher => self.deepest / 2,
            _ => self.deepest,
        };
        match self.random.random_range(0..6) {
            0 => deepest,
            1 => self.random.random_range(deepest - deepest / 8..=deepest),
            _ => self.random.random_range(1..=deepest / 2),
        }
    }

    fn reorg(&mut self, depth: u64, is_traded: bool) -> anyhow::Result<u64> {
        let count = if is_traded { self.random.random_range(1..=depth.min(8) + 2) } else { 0 };
        let mut purchases: Vec<_> =
            (0..count).map(|turn| (self.purchase(turn), self.random.random_range(0..depth))).collect();
        purchases.sort_by_key(|(_, block)| *block);
        self.devnet.reorg_in_place(depth, &purchases)?;
        Ok(depth)
    }

    /// An account buys once in a reorganisation.
    fn purchase(&mut self, turn: u64) -> Purchase {
        let (addresses, accounts) = (self.devnet.addresses(), self.devnet.accounts());
        let exchange = &addresses.factories[self.random.random_range(0..addresses.factories.len())];
        let token = ["USDC", "USDT", "DAI", "WBTC"][self.random.random_range(0..4)];
        Purchase {
            from: accounts[turn as usize % accounts.len()],
            router: exchange.router,
            token: addresses.token(token),
            wei: self.random.random_range(1..20_000) * 1_000_000_000_000_000,
        }
    }

    fn revert(&mut self, depth: u64, following: &mut Following, is_awaited: bool) -> anyhow::Result<u64> {
        let snapshot = self.devnet.snapshot()?;
        self.grow_by(depth)?;
        if is_awaited {
            following.until_written(self.devnet.head()?.hash)?;
        }
        self.devnet.revert(snapshot)?;
        self.other_blocks(depth)?;
        Ok(depth)
    }

    fn roll_back(&mut self, depth: u64) -> anyhow::Result<u64> {
        self.devnet.roll_back(depth)?;
        self.other_blocks(depth)?;
        Ok(depth)
    }

    /// Instead of `depth` blocks that are gone: fewer, as many, or more.
    fn other_blocks(&mut self, depth: u64) -> anyhow::Result<()> {
        let blocks = match self.random.random_range(0..3) {
            0 => self.random.random_range(1..=depth),
            1 => depth,
            _ => depth + self.random.random_range(1..4),
        };
        let blocks = blocks.min(self.deepest - self.height()?);
        self.diverge(blocks)
    }

    /// So many blocks, none of which was there before.
    pub(super) fn diverge(&mut self, blocks: u64) -> anyhow::Result<()> {
        self.trader.trade(&self.devnet)?;
        self.devnet.mine_another()?;
        self.grow_by(blocks - 1)
    }

    /// The deployment is the same again, and what comes after it is not.
    fn another_history(&mut self, misdeed: Misdeed) -> anyhow::Result<u64> {
        let gone = self.height()?;
        self.restart(Genesis::default())?;
        let blocks = match misdeed {
            Misdeed::RestartLower => self.random.random_range(1..gone.max(2)),
            _ => self.random.random_range(gone + 1..=self.deepest),
        };
        self.diverge(blocks)?;
        Ok(gone)
    }

    pub(super) fn restart(&mut self, genesis: Genesis) -> anyhow::Result<()> {
        self.devnet.restart(genesis)?;
        self.trader = Trader::new(self.random.random(), &self.devnet);
        Ok(())
    }
}

impl Deeds {
    /// Those of which it is sure what came of them.
    pub(super) fn followed(&self) -> u64 {
        self.0.values().map(|deed| deed.followed).sum()
    }

    /// Each kind often enough.
    pub(super) fn ensure_covered(&self, floor: u64, restarts: u64) -> anyhow::Result<()> {
        for misdeed in Misdeed::ANNOYING.into_iter().chain([Misdeed::RestartLower, Misdeed::RestartHigher]) {
            let floor = if misdeed.is_restart() { restarts } else { floor };
            let followed = self.0.get(&misdeed).map_or(0, |deed| deed.followed);
            ensure!(followed >= floor, "{}: only {followed} followed, below {floor}", misdeed.name());
        }
        Ok(())
    }

    pub(super) fn table(&self) -> Vec<String> {
        let head =
            format!("{:20} {:>6} {:>9} {:>8} {:>8}", "misdeed", "times", "followed", "deepest", "undone");
        let lines = self.0.iter().map(|(misdeed, Deed { times, followed, depths })| {
            let (deepest, undone) = (depths.iter().max().unwrap_or(&0), depths.iter().sum::<u64>());
            format!("{:20} {times:>6} {followed:>9} {deepest:>8} {undone:>8}", misdeed.name())
        });
        std::iter::once(head).chain(lines).collect()
    }
}
