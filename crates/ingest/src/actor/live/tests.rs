//! Against a node that misbehaves, over real sockets.

use std::collections::HashMap;

use alloy_primitives::{Address, B256};
use headwater_actor::{Command, Exit};
use headwater_bus::{BusConfig, EventBus, EventHandler, Timeline, Topology};
use headwater_events::{Envelope, Grade};
use headwater_reference::fake_node::{
    Announcing, BlockBuilder, FakeBlock, FakeLog, FakeNode, FakeTransaction, Fault, HeadFault, RpcErr, Times,
};
use tokio::sync::mpsc;

use super::*;
use crate::parse::{parse_block, parse_logs};

mod assumed;

/// Longer than anything here takes: what exceeds it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

struct Collect(mpsc::Sender<BusEvent>);

impl EventHandler for Collect {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        self.0.send(envelope.event.clone()).await?;
        Ok(())
    }
}

/// A node with block 100, and an ingest that has not been started.
struct Rig {
    node: FakeNode,
    config: IngestConfig,
    urls: Vec<String>,
    first: FakeBlock,
    names: HashMap<B256, String>,
    bus: EventBus,
    events: mpsc::Receiver<BusEvent>,
}

impl Rig {
    async fn new() -> Self {
        let (node, url) = FakeNode::start(1).await.expect("a port is free");
        let bus = EventBus::new(&BusConfig::default(), &Topology::new(), &Timeline::default(), None, None);
        let (sender, events) = mpsc::channel(1024);
        bus.register("collect", Collect(sender));
        let first = BlockBuilder::first(100).build();
        node.push_block(first.clone());
        let config = IngestConfig {
            reconnect_min_ms: const { NonZeroU64::new(20).expect("not zero") },
            ..IngestConfig::default()
        };
        Self { node, config, urls: vec![url], first, names: HashMap::new(), bus, events }
    }

    /// Blocks on top of `parent`, with two transactions of two logs each; `branch` tells them from others.
    fn blocks(&mut self, parent: &FakeBlock, count: u64, branch: &str) -> Vec<FakeBlock> {
        let mut blocks = Vec::new();
        let mut parent = parent.clone();
        for _ in 0..count {
            let number = parent.number() as u8;
            let log = |seed: u8| FakeLog::sync(Address::repeat_byte(seed), u128::from(number), 7);
            let emitting = |seed| FakeTransaction::emitting(vec![log(seed), log(seed + 1)]);
            let salt = branch.bytes().map(u64::from).sum();
            let block =
                BlockBuilder::child_of(&parent).salt(salt).transactions([emitting(1), emitting(3)]).build();
            self.names.insert(block.hash(), format!("{}{branch}", block.number()));
            blocks.push(block.clone());
            parent = block;
        }
        blocks
    }

    fn node_config(&self) -> NodeConfig {
        let urls = self.urls.iter().map(|url| url.parse().expect("an endpoint")).collect();
        NodeConfig { chain_id: Some(1), ..NodeConfig::new(urls) }
    }

    async fn start(&self, limit: Option<u64>) -> (System, ActorHandle<IngestStatus>) {
        let start = Start::After { number: 100, hash: self.first.hash() };
        let ingest = LiveIngest::new(&self.config, &self.node_config(), start, limit, self.bus.publisher());
        let system = System::start().await.expect("it starts");
        let handle = ingest.spawn(&system, RestartPolicy { intensity: 1, ..RestartPolicy::default() });
        (system, handle)
    }

    /// Starts, and waits until it follows the chain.
    async fn follow(&self) -> (System, ActorHandle<IngestStatus>) {
        let started = self.start(None).await;
        self.node.until_subscribed("newHeads", 1).await;
        // For the first block of its chain, and for its head.
        self.node.until_requested("eth_getBlockByNumber", 2).await;
        started
    }

    async fn next(&mut self) -> BusEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("the bus is open")
    }

    /// The next events are these: `+101` a block, `-102-101` a reorganisation, `gap101..102`, `again2` a reconnection.
    async fn says(&mut self, expected: &str) {
        let mut said = Vec::new();
        for _ in expected.split(' ') {
            let event = self.next().await;
            said.push(self.name(&event));
        }
        assert_eq!(said.join(" "), expected);
    }

    /// Takes events until this one has come.
    async fn until_published(&mut self, expected: &str) {
        loop {
            let event = self.next().await;
            if self.name(&event) == expected {
                return;
            }
        }
    }

    /// Nothing waits to be read.
    fn says_no_more(&mut self) {
        let more = self.events.try_recv();
        assert!(more.is_err(), "{more:?}");
    }

    fn name(&self, event: &BusEvent) -> String {
        match event {
            BusEvent::NewBlock(block) => format!("+{}", self.names[&block.header.hash]),
            BusEvent::Reorg(reorg) => {
                let undone = reorg.undone.iter().map(|hash| format!("-{}", self.names[hash]));
                undone.collect::<Vec<_>>().concat()
            }
            BusEvent::SourceGap(gap) => {
                assert_eq!(gap.filled, gap.to - gap.from + 1);
                format!("gap{}..{}", gap.from, gap.to)
            }
            BusEvent::Reconnected(reconnected) => format!("again{}", reconnected.epoch),
            other => other.name().to_owned(),
        }
    }
}

use std::num::NonZeroU64;

#[tokio::test]
async fn announced_blocks_are_published_whole_and_in_order() {
    let mut rig = Rig::new().await;
    let blocks = rig.blocks(&rig.first.clone(), 5, "");
    let (_system, handle) = rig.follow().await;
    for block in &blocks {
        rig.node.push_block(block.clone());
        let BusEvent::NewBlock(published) = rig.next().await else { panic!("a block is expected") };
        let logs = serde_json::Value::Array(block.logs().into_iter().cloned().collect()).to_string();
        let parsed = parse_block(block.block.to_string().as_bytes()).expect("it is whole");
        assert_eq!(published.header, parsed.header);
        assert_eq!(published.transactions, parsed.transactions);
        assert_eq!(published.logs, parse_logs(logs.as_bytes(), block.hash()).expect("they are whole"));
        assert_eq!((published.logs.len(), published.grade), (4, Grade::Matched));
    }
    let status = handle.observed().expect("it has been seen");
    assert_eq!((status.epoch, status.blocks, status.unannounced, status.retries), (1, 5, 0, 0));
}

#[tokio::test]
async fn a_head_announced_twice_is_published_once() {
    let mut rig = Rig::new().await;
    let blocks = rig.blocks(&rig.first.clone(), 3, "");
    let _running = rig.follow().await;
    for block in blocks {
        let hash = block.hash();
        rig.node.push_block(block);
        rig.node.announce(hash);
        rig.node.announce(rig.first.hash());
    }
    rig.says("+101 +102 +103").await;
    rig.says_no_more();
}

#[tokio::test]
async fn blocks_that_are_not_announced_are_a_gap_and_are_filled() {
    let mut rig = Rig::new().await;
    let blocks = rig.blocks(&rig.first.clone(), 6, "");
    let (_system, handle) = rig.follow().await;
    rig.node.push_block(blocks[0].clone());
    rig.says("+101").await;
    blocks[1..4].iter().for_each(|block| rig.node.add_block(block.clone()));
    rig.node.push_block(blocks[4].clone());
    rig.says("gap102..104 +102 +103 +104 +105").await;
    rig.node.push_block(blocks[5].clone());
    rig.says("+106").await;
    assert_eq!(handle.observed().map(|status| status.unannounced), Some(3));
}

#[tokio::test]
async fn what_came_before_the_first_connection_is_no_gap() {
    let mut rig = Rig::new().await;
    let blocks = rig.blocks(&rig.first.clone(), 40, "");
    blocks[..39].iter().for_each(|block| rig.node.add_block(block.clone()));
    let _running = rig.follow().await;
    let names: Vec<String> = (101..=139).map(|number| format!("+{number}")).collect();
    rig.says(&names.join(" ")).await;
    rig.node.push_block(blocks[39].clone());
    rig.says("+140").await;
}

#[tokio::test]
async fn reorganisations_of_depth_one_to_ten_are_followed() {
    for depth in 1..=10u64 {
        let mut rig = Rig::new().await;
        let old = rig.blocks(&rig.first.clone(), 10, "a");
        let ancestor = match depth {
            10 => rig.first.clone(),
            _ => old[(9 - depth) as usize].clone(),
        };
        let new = rig.blocks(&ancestor, depth + 1, "b");
        let (_system, handle) = rig.follow().await;
        for block in &old {
            rig.node.push_block(block.clone());
        }
        let added: Vec<String> = (101..=110).map(|number| format!("+{number}a")).collect();
        rig.says(&added.join(" ")).await;
        rig.node.reorg_to(new.clone());
        let undone: String = (111 - depth..=110).rev().map(|number| format!("-{number}a")).collect();
        // Some of the new heads are announced before the first of them is taken, so the reorganisation may come in parts;
        // what is undone first is always the old branch as a whole.
        rig.says(&undone).await;
        let added: Vec<String> = (111 - depth..=111).map(|number| format!("+{number}b")).collect();
        rig.says(&added.join(" ")).await;
        let status = handle.observed().expect("it has been seen");
        assert_eq!((status.reorgs, status.undone, status.unannounced), (1, depth, 0));
        assert_eq!(status.canonical_blocks(), 11);
        assert_eq!(rig.node.canonical_hashes().last(), Some(&new[depth as usize].hash()));
    }
}

#[tokio::test]
async fn heads_out_of_order_lead_to_the_newest_block_and_not_to_the_last_that_was_announced() {
    let mut rig = Rig::new().await;
    let mut blocks = rig.blocks(&rig.first.clone(), 5, "");
    let _running = rig.follow().await;
    // While it waits for the first block, the others are announced; so it reads them at once, the last of them first.
    rig.node.inject("eth_getLogs", Fault::Delay(Duration::from_millis(200)), Times::Next(1));
    let rest = blocks.split_off(1);
    rig.node.push_branch(blocks, Announcing::Reth, &[]);
    rig.node.until_requested("eth_getLogs", 1).await;
    rig.node.push_branch(rest, Announcing::Reth, &[HeadFault::OutOfOrder(4)]);
    let mut said = Vec::new();
    while said.last().is_none_or(|name| name != "+105") {
        let event = rig.next().await;
        said.push(rig.name(&event));
    }
    said.retain(|name| name.starts_with('+'));
    assert_eq!(said.join(" "), "+101 +102 +103 +104 +105");
}

#[tokio::test]
async fn a_head_that_comes_late_undoes_nothing() {
    let mut rig = Rig::new().await;
    let old = rig.blocks(&rig.first.clone(), 2, "a");
    let new = rig.blocks(&rig.first.clone(), 3, "b");
    let next = rig.blocks(&new[2].clone(), 1, "b");
    let late = rig.blocks(&old[1].clone(), 1, "a");
    let (_system, handle) = rig.follow().await;
    rig.node.push_branch(old, Announcing::Reth, &[]);
    rig.says("+101a +102a").await;
    rig.node.push_branch(new, Announcing::Reth, &[]);
    rig.says("-102a-101a +101b +102b +103b").await;
    // Nobody has heard of this one, and the node does not stand on it.
    let asked = rig.node.requests("eth_getBlockByNumber");
    let late_hash = late[0].hash();
    rig.node.add_orphan(late[0].clone());
    rig.node.announce(late_hash);
    let again = rig.node.until_requested("eth_getBlockByNumber", asked + 3);
    timeout(PATIENCE, again).await.expect("it asks, asks for the head, and does so again soon");
    rig.node.push_branch(next, Announcing::Reth, &[]);
    rig.says("+104b").await;
    assert_eq!(handle.observed().map(|status| status.reorgs), Some(1));
}

#[tokio::test]
async fn a_branch_that_comes_back_is_followed_however_it_is_announced() {
    for announcing in Announcing::ALL {
        let mut rig = Rig::new().await;
        let a = rig.blocks(&rig.first.clone(), 3, "a");
        let b = rig.blocks(&a[0].clone(), 1, "b");
        let _running = rig.follow().await;
        rig.node.push_branch(a.clone(), announcing, &[]);
        rig.says("+101a +102a +103a").await;
        rig.node.push_branch(b, announcing, &[]);
        rig.says("-103a-102a +102b").await;
        rig.node.push_branch(a[1..].to_vec(), announcing, &[]);
        rig.says("-102b +102a +103a").await;
        rig.says_no_more();
    }
}

#[tokio::test]
async fn logs_that_come_late_or_in_part_are_asked_for_until_they_are_complete() {
    let mut rig = Rig::new().await;
    let blocks = rig.blocks(&rig.first.clone(), 1, "");
    let (_system, handle) = rig.follow().await;
    rig.node.inject("eth_getLogs", Fault::FirstItems(0), Times::Next(2));
    rig.node.inject("eth_getLogs", Fault::FirstItems(3), Times::Next(1));
    rig.node.answer_with_error("eth_getLogs", RpcErr::new(-32000, "unknown block"), 2);
    rig.node.inject("eth_getBlockByHash", Fault::Result(serde_json::Value::Null), Times::Next(1));
    rig.node.push_block(blocks[0].clone());
    let BusEvent::NewBlock(block) = rig.next().await else { panic!("a block is expected") };
    assert_eq!((block.logs.len(), block.grade), (4, Grade::Matched));
    assert_eq!(handle.observed().map(|status| status.retries), Some(5));
    assert_eq!(rig.node.requests("eth_getLogs"), 6);
    assert_eq!(rig.node.requests("eth_getBlockByHash"), 2, "a block that is known is not fetched again");
}

#[tokio::test]
async fn an_incomplete_block_is_never_published_as_complete() {
    let mut rig = Rig::new().await;
    rig.config.complete_within_ms = const { NonZeroU64::new(20).expect("not zero") };
    let blocks = rig.blocks(&rig.first.clone(), 2, "");
    let _running = rig.follow().await;
    rig.node.inject("eth_getLogs", Fault::FirstItems(3), Times::Always);
    rig.node.push_block(blocks[0].clone());
    // It is given up with the connection, more than once.
    timeout(PATIENCE, rig.node.until(|node| node.connections() >= 3)).await.expect("it connects anew");
    rig.says("again2").await;
    rig.node.mend("eth_getLogs");
    loop {
        let event = rig.next().await;
        match rig.name(&event).as_str() {
            "+101" => break,
            name => assert!(name.starts_with("again") || name.starts_with("gap"), "{name}"),
        }
    }
    rig.node.push_block(blocks[1].clone());
    rig.says("+102").await;
}

#[tokio::test]
async fn proven_blocks_are_those_whose_receipts_hash_to_the_root() {
    let mut rig = Rig::new().await;
    rig.config.completeness = Grade::Proven;
    let blocks = rig.blocks(&rig.first.clone(), 3, "");
    let mut changed = blocks[0].receipts.clone();
    changed[1]["cumulativeGasUsed"] = "0x1".into();
    let (_system, handle) = rig.follow().await;
    for fault in [
        Fault::Result(serde_json::Value::Null),
        Fault::FirstItems(0),
        Fault::FirstItems(1),
        Fault::Result(changed.into()),
    ] {
        rig.node.inject("eth_getBlockReceipts", fault, Times::Next(1));
    }
    for block in blocks {
        let logs = serde_json::Value::Array(block.logs().into_iter().cloned().collect()).to_string();
        let expected = parse_logs(logs.as_bytes(), block.hash()).expect("they are whole");
        rig.node.push_block(block);
        let BusEvent::NewBlock(block) = rig.next().await else { panic!("a block is expected") };
        assert_eq!((block.logs, block.grade), (expected, Grade::Proven));
    }
    assert_eq!(handle.observed().map(|status| status.retries), Some(4));
    assert_eq!((rig.node.requests("eth_getBlockReceipts"), rig.node.requests("eth_getLogs")), (7, 0));
}

#[tokio::test]
async fn receipts_that_never_hash_to_the_root_are_never_published() {
    let mut rig = Rig::new().await;
    rig.config.completeness = Grade::Proven;
    rig.config.complete_within_ms = const { NonZeroU64::new(20).expect("not zero") };
    let blocks = rig.blocks(&rig.first.clone(), 1, "");
    let _running = rig.follow().await;
    rig.node.inject("eth_getBlockReceipts", Fault::FirstItems(1), Times::Always);
    rig.node.push_block(blocks[0].clone());
    // The present head is asked for three times, and then a new connection made.
    rig.says("again2").await;
    rig.node.mend("eth_getBlockReceipts");
    rig.until_published("+101").await;
}

#[tokio::test]
async fn a_lost_connection_is_made_anew_and_what_was_missed_is_filled() {
    let mut rig = Rig::new().await;
    let blocks = rig.blocks(&rig.first.clone(), 6, "");
    let _running = rig.follow().await;
    rig.node.push_block(blocks[0].clone());
    rig.says("+101").await;
    rig.node.refuse_connections(true);
    rig.node.drop_connections();
    rig.node.until(|node| node.open_connections() == 0).await;
    blocks[1..4].iter().for_each(|block| rig.node.add_block(block.clone()));
    rig.node.refuse_connections(false);
    rig.says("again2 gap102..104 +102 +103 +104").await;
    rig.node.push_block(blocks[4].clone());
    rig.says("+105").await;
    rig.node.close_connections(1001);
    rig.says("again3").await;
    rig.node.until_subscribed("newHeads", 1).await;
    rig.node.push_block(blocks[5].clone());
    // Whether the announcement or the question came first, it is published once.
    let event = rig.next().await;
    match rig.name(&event).as_str() {
        "gap106..106" => rig.says("+106").await,
        name => assert_eq!(name, "+106"),
    }
}

#[tokio::test]
async fn a_reorganisation_while_disconnected_is_followed() {
    let mut rig = Rig::new().await;
    let old = rig.blocks(&rig.first.clone(), 3, "a");
    let new = rig.blocks(&old[0].clone(), 4, "b");
    let _running = rig.follow().await;
    old.iter().for_each(|block| rig.node.push_block(block.clone()));
    rig.says("+101a +102a +103a").await;
    rig.node.refuse_connections(true);
    rig.node.drop_connections();
    rig.node.until(|node| node.open_connections() == 0).await;
    new.iter().for_each(|block| rig.node.add_block(block.clone()));
    rig.node.refuse_connections(false);
    rig.says("again2 -103a-102a gap102..105 +102b +103b +104b +105b").await;
}

#[tokio::test]
async fn a_node_that_announces_nothing_is_asked_for_its_head() {
    let mut rig = Rig::new().await;
    rig.config.head_timeout_ms = const { NonZeroU64::new(30).expect("not zero") };
    let blocks = rig.blocks(&rig.first.clone(), 2, "");
    let _running = rig.follow().await;
    blocks.into_iter().for_each(|block| rig.node.add_block(block));
    let mut said = Vec::new();
    while said.last().is_none_or(|name| name != "+102") {
        let event = rig.next().await;
        said.push(rig.name(&event));
    }
    let blocks: Vec<_> = said.iter().filter(|name| name.starts_with('+')).collect();
    assert_eq!(blocks, ["+101", "+102"], "{said:?}");
}

#[tokio::test]
async fn a_block_that_is_gone_when_it_is_fetched_gives_way_to_the_present_head() {
    let mut rig = Rig::new().await;
    rig.config.complete_within_ms = const { NonZeroU64::new(20).expect("not zero") };
    let orphan = rig.blocks(&rig.first.clone(), 1, "a");
    let blocks = rig.blocks(&rig.first.clone(), 1, "b");
    let (_system, handle) = rig.follow().await;
    rig.node.inject("eth_getLogs", Fault::FirstItems(0), Times::Always);
    rig.node.push_block(orphan[0].clone());
    rig.node.until_requested("eth_getLogs", 1).await;
    rig.node.add_block(blocks[0].clone());
    rig.node.mend("eth_getLogs");
    let event = rig.next().await;
    match rig.name(&event).as_str() {
        // It was had just before it was gone.
        "+101a" => assert_eq!(handle.observed().map(|status| status.epoch), Some(1)),
        name => {
            assert_eq!(name, "gap101..101");
            rig.says("+101b").await;
        }
    }
}

#[tokio::test]
async fn it_ends_drained_after_the_number_of_blocks_that_was_asked_for() {
    let mut rig = Rig::new().await;
    let blocks = rig.blocks(&rig.first.clone(), 9, "");
    blocks.into_iter().for_each(|block| rig.node.add_block(block));
    let (_system, handle) = rig.start(Some(4)).await;
    let exit = timeout(PATIENCE, handle.control().ended()).await.expect("it ends");
    assert_eq!(exit, Exit::Drained);
    rig.says("+101 +102 +103 +104").await;
    rig.says_no_more();
}

#[tokio::test]
async fn undone_blocks_do_not_count_for_the_number_that_was_asked_for() {
    let mut rig = Rig::new().await;
    let old = rig.blocks(&rig.first.clone(), 2, "a");
    let new = rig.blocks(&rig.first.clone(), 3, "b");
    let (_system, handle) = rig.start(Some(3)).await;
    rig.node.until_subscribed("newHeads", 1).await;
    rig.node.until_requested("eth_getBlockByNumber", 1).await;
    old.iter().for_each(|block| rig.node.push_block(block.clone()));
    rig.says("+101a +102a").await;
    rig.node.reorg_to(new);
    rig.says("-102a-101a +101b +102b +103b").await;
    assert_eq!(timeout(PATIENCE, handle.control().ended()).await.expect("it ends"), Exit::Drained);
}

#[tokio::test]
async fn a_node_on_another_chain_is_refused_by_name() {
    let mut rig = Rig::new().await;
    let (_other, url) = FakeNode::start(5).await.expect("a port is free");
    rig.urls = vec![url];
    let (_system, handle) = rig.start(None).await;
    let exit = timeout(PATIENCE, handle.control().ended()).await.expect("it ends");
    let Exit::Failed(message) = exit else { panic!("a failure is expected, got {exit:?}") };
    assert!(message.contains("is on chain 5, not on chain 1"), "{message}");
}

#[tokio::test]
async fn the_first_endpoint_that_will_do_is_used_and_named() {
    let mut rig = Rig::new().await;
    let (_other, wrong) = FakeNode::start(5).await.expect("a port is free");
    rig.urls = vec![wrong, rig.node.http_url(), rig.urls[0].clone()];
    let blocks = rig.blocks(&rig.first.clone(), 1, "");
    let (_system, handle) = rig.follow().await;
    rig.node.push_block(blocks[0].clone());
    rig.says("+101").await;
    assert_eq!(handle.observed().map(|status| status.endpoint), Some(2));
}

#[tokio::test]
async fn a_killed_incarnation_repeats_and_skips_nothing() {
    let mut rig = Rig::new().await;
    let blocks = rig.blocks(&rig.first.clone(), 30, "");
    let (_system, handle) = rig.follow().await;
    rig.node.delay("eth_getLogs", Duration::from_millis(2));
    for (index, block) in blocks.into_iter().enumerate() {
        rig.node.push_block(block);
        if index == 15 {
            handle.control().kill();
        }
    }
    let mut published = Vec::new();
    while published.len() < 30 {
        if let BusEvent::NewBlock(block) = rig.next().await {
            published.push(block.header.number);
        }
    }
    assert_eq!(published, (101..=130).collect::<Vec<_>>());
    rig.says_no_more();
    assert_eq!(handle.control().status().restarts, 1);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_silent_node() {
    let mut rig = Rig::new().await;
    let blocks = rig.blocks(&rig.first.clone(), 1, "");
    let (_system, handle) = rig.follow().await;
    rig.node.inject("eth_getLogs", Fault::Silence, Times::Always);
    rig.node.push_block(blocks[0].clone());
    rig.node.until_requested("eth_getLogs", 1).await;
    handle.control().tell(Command::Stop);
    let exit = timeout(Duration::from_secs(5), handle.control().ended()).await.expect("it ends at once");
    assert_eq!(exit, Exit::Stopped);
}

/// Another node on the same chain, with the blocks that `rig.node` has.
async fn another(rig: &mut Rig, blocks: &[FakeBlock]) -> FakeNode {
    let (node, url) = FakeNode::start(1).await.expect("a port is free");
    node.push_block(rig.first.clone());
    blocks.iter().for_each(|block| node.add_block(block.clone()));
    rig.urls.push(url);
    node
}

fn millis(millis: u64) -> NonZeroU64 {
    NonZeroU64::new(millis).expect("not zero")
}

/// Block times of 100 ms.
async fn quick() -> Rig {
    let mut rig = Rig::new().await;
    (rig.config.block_time_ms, rig.config.complete_within_ms) = (Some(millis(100)), millis(200));
    rig
}

#[tokio::test]
async fn a_node_whose_head_stands_still_is_left_for_one_that_is_ahead() {
    let mut rig = quick().await;
    let blocks = rig.blocks(&rig.first.clone(), 4, "");
    let other = another(&mut rig, &blocks[..1]).await;
    let (_system, handle) = rig.follow().await;
    rig.node.push_block(blocks[0].clone());
    rig.says("+101").await;
    blocks[1..3].iter().for_each(|block| other.push_block(block.clone()));
    rig.says("again2 gap102..103 +102 +103").await;
    other.push_block(blocks[3].clone());
    rig.says("+104").await;
    let status = handle.observed().expect("it has been seen");
    assert_eq!((status.epoch, status.endpoint, status.silences, status.disagreements), (2, 1, 1, 0));
}

#[tokio::test]
async fn a_quiet_chain_is_no_fault() {
    let mut rig = quick().await;
    let blocks = rig.blocks(&rig.first.clone(), 2, "");
    let other = another(&mut rig, &blocks[..1]).await;
    let (_system, handle) = rig.follow().await;
    rig.node.push_block(blocks[0].clone());
    rig.says("+101").await;
    // Asked again and again, over the one connection.
    let asked = |node: &FakeNode| node.requests("eth_getBlockByNumber") >= 4;
    timeout(PATIENCE, other.until(asked)).await.expect("it looks around");
    let status = handle.observed().expect("it has been seen");
    assert_eq!((status.epoch, status.quiet, status.silences), (1, 1, 0));
    assert_eq!(other.connections(), 1);
    rig.node.push_block(blocks[1].clone());
    rig.says("+102").await;
}

#[tokio::test]
async fn a_node_that_only_stops_announcing_is_left_as_well() {
    let mut rig = quick().await;
    let blocks = rig.blocks(&rig.first.clone(), 3, "");
    let other = another(&mut rig, &blocks[..1]).await;
    let (_system, handle) = rig.follow().await;
    rig.node.push_block(blocks[0].clone());
    rig.says("+101").await;
    rig.node.go_mute();
    rig.node.add_block(blocks[1].clone());
    rig.says("gap102..102 +102 again2").await;
    other.until_subscribed("newHeads", 1).await;
    blocks[1..].iter().for_each(|block| other.push_block(block.clone()));
    rig.until_published("+103").await;
    assert_eq!(handle.observed().map(|status| (status.endpoint, status.silences)), Some((1, 1)));
}

#[tokio::test]
async fn a_repeated_announcement_is_no_sign_of_life() {
    let mut rig = quick().await;
    let blocks = rig.blocks(&rig.first.clone(), 2, "");
    let other = another(&mut rig, &blocks).await;
    let _running = rig.follow().await;
    rig.node.push_block(blocks[0].clone());
    rig.says("+101").await;
    let repeating = async {
        loop {
            rig.node.announce(blocks[0].hash());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let left = other.until_subscribed("newHeads", 1);
    tokio::select! {
        () = repeating => {}
        left = timeout(PATIENCE, left) => left.expect("it is left"),
    }
    rig.says("again2 gap102..102 +102").await;
}

#[tokio::test]
async fn endpoints_that_disagree_are_followed_as_a_reorganisation_and_counted() {
    let mut rig = quick().await;
    let ours = rig.blocks(&rig.first.clone(), 2, "a");
    let theirs = rig.blocks(&ours[0].clone(), 3, "b");
    let other = another(&mut rig, &ours[..1]).await;
    theirs.iter().for_each(|block| other.add_block(block.clone()));
    let (_system, handle) = rig.follow().await;
    ours.iter().for_each(|block| rig.node.push_block(block.clone()));
    rig.says("+101a +102a again2 -102a gap102..104 +102b +103b +104b").await;
    let status = handle.observed().expect("it has been seen");
    assert_eq!((status.disagreements, status.reorgs), (1, 1));
}

#[tokio::test]
async fn another_chain_behind_the_address_halts_it_only_when_all_are_on_one() {
    let mut rig = Rig::new().await;
    let blocks = rig.blocks(&rig.first.clone(), 1, "");
    let other = another(&mut rig, &[]).await;
    let (_system, handle) = rig.follow().await;
    rig.node.change_chain_id(5);
    rig.node.drop_connections();
    rig.says("again2").await;
    other.until_subscribed("newHeads", 1).await;
    other.push_block(blocks[0].clone());
    rig.until_published("+101").await;
    // The first is passed over by name; that the second is on another chain as well is the end.
    other.change_chain_id(5);
    other.drop_connections();
    let exit = timeout(PATIENCE, handle.control().ended()).await.expect("it halts");
    let Exit::Failed(message) = exit else { panic!("a failure is expected, got {exit:?}") };
    assert!(message.contains("is on chain 5, not on chain 1"), "{message}");
}

#[tokio::test]
async fn another_first_block_behind_the_address_is_another_chain_however_high_it_is() {
    for height in [2, 101] {
        let mut rig = Rig::new().await;
        rig.node.add_block(BlockBuilder::first(0).build());
        rig.node.add_block(rig.first.clone());
        let blocks = rig.blocks(&rig.first.clone(), 1, "");
        let (_system, handle) = rig.follow().await;
        rig.node.drop_connections();
        rig.says("again2").await;
        rig.node.push_block(blocks[0].clone());
        rig.until_published("+101").await;
        rig.node.add_block(BlockBuilder::first(0).salt(1).build());
        rig.node.add_block(BlockBuilder::first(height).salt(1).build());
        rig.node.drop_connections();
        let exit = timeout(PATIENCE, handle.control().ended()).await.expect("it halts");
        let Exit::Failed(message) = exit else { panic!("a failure is expected, got {exit:?}") };
        assert!(message.contains("is on another chain than before"), "{message}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_far_behind_is_no_reorganisation() {
    let mut rig = Rig::new().await;
    let blocks = rig.blocks(&rig.first.clone(), 1, "");
    let (behind, url) = FakeNode::start(1).await.expect("a port is free");
    behind.push_block(BlockBuilder::first(40).build());
    rig.urls.push(url);
    let _running = rig.follow().await;
    rig.node.drop_connections();
    timeout(PATIENCE, behind.until_requested("eth_getBlockByNumber", 2)).await.expect("it is tried");
    rig.node.add_block(blocks[0].clone());
    rig.until_published("+101").await;
}

#[tokio::test]
async fn a_long_outage_is_made_up_for_in_strides() {
    let mut rig = Rig::new().await;
    let mut parent = rig.first.clone();
    for _ in 0..1_200 {
        let block = BlockBuilder::child_of(&parent).build();
        rig.node.add_block(block.clone());
        parent = block;
    }
    let _running = rig.start(None).await;
    let BusEvent::NewBlock(first) = rig.next().await else { panic!("a block is expected") };
    assert_eq!(first.header.number, 101);
    let walked = rig.node.asked();
    let headers = walked.iter().filter(|asked| asked.params[1] == false).count() as u64;
    assert!(headers <= STRIDE + 10, "{headers} headers before the first block");
    for number in 102..=1_300 {
        let BusEvent::NewBlock(block) = rig.next().await else { panic!("a block is expected") };
        assert_eq!(block.header.number, number);
    }
}

#[tokio::test]
async fn a_node_that_is_asked_too_often_is_asked_less_often() {
    let mut rig = Rig::new().await;
    let blocks = rig.blocks(&rig.first.clone(), 1, "");
    let _running = rig.follow().await;
    rig.node.answer_with_error("eth_getLogs", RpcErr::new(-32005, "limit exceeded"), 2);
    rig.node.push_block(blocks[0].clone());
    rig.says("+101").await;
    let asked: Vec<_> =
        rig.node.asked().iter().filter(|asked| asked.method == "eth_getLogs").map(|asked| asked.at).collect();
    let pauses: Vec<_> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(
        pauses.len() == 2 && pauses[0] >= Duration::from_millis(250) && pauses[1] >= pauses[0],
        "{pauses:?}"
    );
}
