//! The chain that grows, on two nodes, and what the judge keeps of it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use alloy_primitives::B256;
use headwater_reference::fake_node::{
    Announcing, BlockBuilder, FakeBlock, FakeNode, Fault, HeadFault, Times, V2Pair, Wire, sync_topic,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::latency::{Load, World};

/// Every block carries twenty-five swaps: a hundred logs that the bot reads, and some transfers beside them.
const LOAD: Load = Load { pools: 40, touched: 25, shocked: 4, transactions: 30, logs: 120 };

/// The deepest reorganisation that is promised to be followed.
pub(super) const DEEPEST: usize = 64;

/// Blocks that the nodes still serve.
const SERVED: u64 = 300;

/// How long it is remembered when a block was announced.
const ANNOUNCED: usize = 512;

/// Two nodes on one chain, each behind a wire.
pub(super) struct Chain {
    pub(super) nodes: [FakeNode; 2],
    pub(super) wires: [Wire; 2],
    world: World,
    loaded: Vec<V2Pair>,
    /// The world after each of the last blocks; the last is after the head.
    worlds: VecDeque<World>,
    head: FakeBlock,
    /// The last blocks, whole.
    recent: VecDeque<(B256, FakeBlock)>,
    /// The canonical blocks behind the first, with nothing in them but what the judge folds.
    canonical: Vec<FakeBlock>,
    first: FakeBlock,
    /// When each of the last blocks was announced.
    announced: VecDeque<(B256, Instant)>,
    /// A node that stands on a branch of its own, and the blocks that it does not get.
    apart: Option<(usize, Vec<FakeBlock>)>,
    random: ChaCha8Rng,
}

impl Chain {
    pub(super) async fn start(chain_id: u64, seed: u64) -> anyhow::Result<Self> {
        let world = World::new(LOAD, seed);
        let first = BlockBuilder::first(1_000).build();
        let (one, _) = FakeNode::start(chain_id).await?;
        let (two, _) = FakeNode::start(chain_id).await?;
        let wires = [Wire::to(one.port()).await?, Wire::to(two.port()).await?];
        let nodes = [one, two];
        for node in &nodes {
            node.answer_v2(world.contracts());
            node.push_block(first.clone());
        }
        Ok(Self {
            nodes,
            wires,
            loaded: world.pairs(),
            worlds: [world.clone()].into(),
            world,
            head: first.clone(),
            recent: [(first.hash(), first.clone())].into(),
            canonical: Vec::new(),
            first,
            announced: VecDeque::new(),
            apart: None,
            random: ChaCha8Rng::seed_from_u64(seed),
        })
    }

    /// The pairs as they were loaded.
    pub(super) fn loaded(&self) -> &[V2Pair] {
        &self.loaded
    }

    /// The block at which the market was loaded.
    pub(super) fn first(&self) -> &FakeBlock {
        &self.first
    }

    /// The canonical blocks behind the first.
    pub(super) fn canonical(&self) -> &[FakeBlock] {
        &self.canonical
    }

    pub(super) fn head(&self) -> B256 {
        self.head.hash()
    }

    /// Blocks that were announced since then, the oldest first, those that are orphaned meanwhile left out.
    pub(super) fn announced_since(&self, since: Instant) -> Vec<B256> {
        let later = self.announced.iter().rev().take_while(|(_, at)| *at >= since).map(|(hash, _)| *hash);
        let later: BTreeSet<B256> = later.collect();
        self.recent.iter().map(|(hash, _)| *hash).filter(|hash| later.contains(hash)).collect()
    }

    /// The node that the bot follows.
    pub(super) fn followed(&self) -> Option<usize> {
        let follows = |index: &usize| self.nodes[*index].subscriptions("newHeads") > 0;
        (0..self.nodes.len()).find(follows)
    }

    /// One more block, announced as it should be.
    pub(super) fn grow(&mut self) {
        let block = self.next();
        self.push(vec![block], Announcing::Reth, &[]);
    }

    /// So many more blocks at once, announced with faults.
    pub(super) fn grow_by(&mut self, blocks: usize, faults: &[HeadFault]) {
        let branch = (0..blocks).map(|_| self.next()).collect();
        self.push(branch, Announcing::Reth, faults);
    }

    /// Replaces the last blocks by one more; says how many.
    pub(super) fn reorganise(&mut self, depth: usize, announcing: Announcing) -> usize {
        let depth = self.roll_back(depth);
        let branch = (0..=depth).map(|_| self.next()).collect();
        self.push(branch, announcing, &[]);
        depth
    }

    /// One more block, of which the node that is followed first gives other logs than the header promises: `bend` says
    /// which.
    pub(super) fn grow_contradicted(&mut self, bend: impl FnOnce(&mut Vec<Value>), node: usize) {
        let block = self.next();
        let mut logs: Vec<Value> = block.logs().into_iter().cloned().collect();
        bend(&mut logs);
        self.nodes[node].inject("eth_getLogs", Fault::Result(Value::from(logs)), Times::Next(1));
        self.push(vec![block], Announcing::Reth, &[]);
    }

    /// Lets a node stand on a branch of its own, which replaces so many blocks.
    pub(super) fn set_apart(&mut self, node: usize, depth: usize) {
        let (world, worlds, head, recent, canonical) = (
            self.world.clone(),
            self.worlds.clone(),
            self.head.clone(),
            self.recent.clone(),
            self.canonical.clone(),
        );
        let depth = self.roll_back(depth);
        let branch: Vec<FakeBlock> = (0..=depth).map(|_| self.next()).collect();
        (self.world, self.worlds, self.head, self.recent, self.canonical) =
            (world, worlds, head, recent, canonical);
        self.apart = Some((node, Vec::new()));
        self.nodes[node].push_branch(branch, Announcing::Reth, &[]);
    }

    /// Brings the node that was set apart back.
    pub(super) fn bring_back(&mut self) {
        if let Some((node, missed)) = self.apart.take() {
            self.nodes[node].push_branch(missed, Announcing::Reth, &[]);
        }
    }

    fn next(&mut self) -> FakeBlock {
        let block = self.world.block(&self.head);
        self.head = block.clone();
        self.worlds.push_back(self.world.clone());
        self.recent.push_back((block.hash(), block.clone()));
        while self.worlds.len() > DEEPEST + 1 {
            self.worlds.pop_front();
            self.recent.pop_front();
        }
        self.canonical.push(thin(&block));
        block
    }

    fn roll_back(&mut self, depth: usize) -> usize {
        let depth = depth.min(self.worlds.len() - 1);
        let kept = self.worlds.len() - depth;
        self.worlds.truncate(kept);
        self.recent.truncate(kept);
        self.canonical.truncate(self.canonical.len() - depth);
        let (world, head) = (self.worlds.back(), self.recent.back());
        self.world = world.expect("one is left").diverted(self.random.random());
        self.head = head.expect("one is left").1.clone();
        depth
    }

    fn push(&mut self, branch: Vec<FakeBlock>, announcing: Announcing, faults: &[HeadFault]) {
        for block in &branch {
            self.announced.push_back((block.hash(), Instant::now()));
        }
        while self.announced.len() > ANNOUNCED {
            self.announced.pop_front();
        }
        for (index, node) in self.nodes.iter().enumerate() {
            match &mut self.apart {
                Some((apart, missed)) if *apart == index => missed.extend(branch.iter().cloned()),
                _ => node.push_branch(branch.iter().cloned(), announcing, faults),
            }
        }
        if self.head.number().is_multiple_of(SERVED / 4) && self.apart.is_none() {
            self.nodes.iter().for_each(|node| node.forget_old(SERVED));
        }
    }
}

/// From one block to the next.
pub(super) const BLOCK_TIME: Duration = Duration::from_millis(250);

/// A block with nothing in it but its place in the chain and what pools say.
fn thin(block: &FakeBlock) -> FakeBlock {
    let is_sync = |log: &&Value| log["topics"][0] == json!(sync_topic());
    let part = |log: &Value| json!({"address": log["address"], "topics": log["topics"], "data": log["data"]});
    let logs: Vec<Value> = block.logs().into_iter().filter(is_sync).map(part).collect();
    let header = ["number", "hash", "parentHash"].map(|name| (name.to_owned(), block.block[name].clone()));
    FakeBlock { block: Value::Object(header.into_iter().collect()), receipts: vec![json!({"logs": logs})] }
}
