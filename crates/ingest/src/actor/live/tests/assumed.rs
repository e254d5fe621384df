//! Blocks that are published before they are verified. Whatever is pushed, what is published in the end is the chain.

use headwater_events::Log;
use serde_json::{Value, json};

use super::*;

/// Longer than a push takes here, shorter than the answer that it is raced with.
const QUIET: u64 = 20;
const SLOW: Duration = Duration::from_millis(150);

/// A bot that assumes, and a node that pushes what the test says.
struct Pushing {
    rig: Rig,
    running: (System, ActorHandle<IngestStatus>),
}

impl Pushing {
    async fn start() -> Self {
        Self::start_with(Rig::new().await).await
    }

    async fn start_with(mut rig: Rig) -> Self {
        rig.config.completeness = Grade::Assumed;
        rig.config.assumed_after_ms = millis(QUIET);
        let running = rig.follow().await;
        rig.node.delay("eth_getLogs", SLOW);
        Self { rig, running }
    }

    /// A block with four logs that are pushed and, between them, two that nobody decodes.
    fn block(&mut self, parent: &FakeBlock, branch: &str) -> FakeBlock {
        let unknown = FakeLog {
            address: Address::repeat_byte(9),
            topics: vec![B256::repeat_byte(9)],
            data: Default::default(),
        };
        let sync = |seed: u8| FakeLog::sync(Address::repeat_byte(seed), u128::from(parent.number()), 7);
        let emitting = |seed| FakeTransaction::emitting(vec![sync(seed), unknown.clone(), sync(seed + 1)]);
        let salt = branch.bytes().map(u64::from).sum();
        let block =
            BlockBuilder::child_of(parent).salt(salt).transactions([emitting(1), emitting(3)]).build();
        self.rig.names.insert(block.hash(), format!("{}{branch}", block.number()));
        block
    }

    fn status(&self) -> IngestStatus {
        self.running.1.observed().expect("it has been seen")
    }

    /// The next block is this one, with the logs of these indices.
    async fn publishes(&mut self, block: &FakeBlock, grade: Grade, indices: &[usize]) {
        let event = self.rig.next().await;
        let BusEvent::NewBlock(published) = event else { panic!("a block is expected, not {event:?}") };
        assert_eq!((self.rig.name(&BusEvent::NewBlock(published.clone())), published.grade), {
            (format!("+{}", self.rig.names[&block.hash()]), grade)
        });
        assert_eq!(published.logs, logs_of(block, indices));
        let parsed = parse_block(block.block.to_string().as_bytes()).expect("it is whole");
        assert_eq!(published.header, parsed.header);
        let transactions = if grade == Grade::Assumed { Vec::new() } else { parsed.transactions };
        assert_eq!(published.transactions, transactions);
    }

    /// One block is announced as `push` does it. It is assumed to have the logs `assumed` (or not assumed at all); if those
    /// are not its own, it is undone and comes again. Then the next block follows.
    async fn check(push: impl FnOnce(&FakeNode, &FakeBlock), assumed: Option<&[usize]>) {
        let mut pushing = Self::start().await;
        let first = pushing.rig.first.clone();
        let block = pushing.block(&first, "");
        pushing.rig.node.add_block(block.clone());
        push(&pushing.rig.node, &block);
        let is_right = assumed == Some(&OURS);
        if let Some(indices) = assumed {
            pushing.publishes(&block, Grade::Assumed, indices).await;
        }
        if assumed.is_some() && !is_right {
            pushing.rig.says("-101 gap101..101").await;
        }
        if !is_right {
            pushing.publishes(&block, Grade::Matched, &ALL).await;
        }
        let next = pushing.block(&block, "");
        pushing.rig.node.push_block(next.clone());
        pushing.publishes(&next, Grade::Assumed, &OURS).await;
        let status = pushing.status();
        let refuted = u64::from(assumed.is_some() && !is_right);
        assert_eq!((status.assumed, status.refuted), (1 + u64::from(assumed.is_some()), refuted));
        assert_eq!((status.canonical_blocks(), status.reorgs, status.epoch), (2, 0, 1));
        pushing.rig.says_no_more();
    }
}

/// The logs that are decoded, and all of them.
const OURS: [usize; 4] = [0, 2, 3, 5];
const ALL: [usize; 6] = [0, 1, 2, 3, 4, 5];

fn logs_of(block: &FakeBlock, indices: &[usize]) -> Vec<Log> {
    let logs = Value::Array(block.logs().into_iter().cloned().collect()).to_string();
    let logs = parse_logs(logs.as_bytes(), block.hash()).expect("they are whole");
    indices.iter().map(|index| logs[*index].clone()).collect()
}

fn push(node: &FakeNode, block: &FakeBlock, indices: &[usize]) {
    indices.iter().for_each(|index| node.push_log(block.logs()[*index]));
}

fn changed(log: &Value, name: &str, value: Value) -> Value {
    let mut log = log.clone();
    log[name] = value;
    log
}

#[tokio::test]
async fn logs_after_the_head_make_a_block_before_it_is_verified() {
    Pushing::check(|node, block| node.announce(block.hash()), Some(&OURS)).await;
}

#[tokio::test]
async fn logs_before_the_head_out_of_order_and_twice_do_so_as_well() {
    let push = |node: &FakeNode, block: &FakeBlock| {
        push(node, block, &[5, 0, 3]);
        node.announce_head(block.hash());
        push(node, block, &[2, 0, 5, 5]);
    };
    Pushing::check(push, Some(&OURS)).await;
}

#[tokio::test]
async fn a_log_that_was_not_pushed_is_found_and_the_block_comes_again() {
    let push = |node: &FakeNode, block: &FakeBlock| {
        node.announce_head(block.hash());
        push(node, block, &[0, 2, 5]);
    };
    Pushing::check(push, Some(&[0, 2, 5])).await;
}

#[tokio::test]
async fn a_block_whose_logs_are_not_pushed_at_all_is_not_assumed_to_have_none() {
    Pushing::check(|node, block| node.announce_head(block.hash()), None).await;
}

#[tokio::test]
async fn logs_of_another_block_are_not_taken_for_its_own() {
    let push = |node: &FakeNode, block: &FakeBlock| {
        node.announce_head(block.hash());
        for log in block.logs() {
            node.push_log(&changed(log, "blockHash", json!(B256::repeat_byte(7))));
        }
        push(node, block, &OURS);
    };
    Pushing::check(push, Some(&OURS)).await;
}

#[tokio::test]
async fn a_log_that_is_taken_back_does_not_count_until_it_is_pushed_again() {
    let take_back = |node: &FakeNode, block: &FakeBlock| {
        push(node, block, &OURS);
        node.push_log(&changed(block.logs()[2], "removed", true.into()));
        node.announce_head(block.hash());
    };
    Pushing::check(take_back, Some(&[0, 3, 5])).await;
    let and_again = |node: &FakeNode, block: &FakeBlock| {
        take_back(node, block);
        push(node, block, &[2]);
    };
    Pushing::check(and_again, Some(&OURS)).await;
}

#[tokio::test]
async fn a_log_that_lies_is_found_out() {
    let mut pushing = Pushing::start().await;
    let first = pushing.rig.first.clone();
    let block = pushing.block(&first, "");
    pushing.rig.node.add_block(block.clone());
    pushing.rig.node.announce_head(block.hash());
    push(&pushing.rig.node, &block, &[0, 2, 3]);
    let lie = changed(block.logs()[5], "data", json!(format!("0x{}", "11".repeat(64))));
    pushing.rig.node.push_log(&lie);
    let BusEvent::NewBlock(published) = pushing.rig.next().await else { panic!("a block is expected") };
    assert_eq!((published.grade, published.logs[3].data[0]), (Grade::Assumed, 0x11));
    pushing.rig.says("-101 gap101..101").await;
    pushing.publishes(&block, Grade::Matched, &ALL).await;
}

#[tokio::test]
async fn logs_that_come_late_refute_nothing_twice() {
    let mut pushing = Pushing::start().await;
    let first = pushing.rig.first.clone();
    let block = pushing.block(&first, "");
    pushing.rig.node.add_block(block.clone());
    push(&pushing.rig.node, &block, &[0]);
    pushing.rig.node.announce_head(block.hash());
    pushing.publishes(&block, Grade::Assumed, &[0]).await;
    push(&pushing.rig.node, &block, &OURS);
    pushing.rig.says("-101 gap101..101").await;
    pushing.publishes(&block, Grade::Matched, &ALL).await;
    push(&pushing.rig.node, &block, &OURS);
    let next = pushing.block(&block, "");
    pushing.rig.node.push_block(next.clone());
    pushing.publishes(&next, Grade::Assumed, &OURS).await;
}

#[tokio::test]
async fn a_block_without_decoded_logs_waits_for_none_where_its_bloom_rules_them_out() {
    let mut pushing = Pushing::start().await;
    let unknown = FakeLog {
        address: Address::repeat_byte(9),
        topics: vec![B256::repeat_byte(9)],
        data: Default::default(),
    };
    let block = BlockBuilder::child_of(&pushing.rig.first)
        .transaction(FakeTransaction::emitting(vec![unknown]))
        .build();
    pushing.rig.names.insert(block.hash(), "101".to_owned());
    pushing.rig.node.push_block(block.clone());
    pushing.publishes(&block, Grade::Assumed, &[]).await;
}

#[tokio::test]
async fn the_quicker_answer_makes_a_block_of_its_own_grade() {
    let mut pushing = Pushing::start().await;
    pushing.rig.node.mend("eth_getLogs");
    let first = pushing.rig.first.clone();
    let block = pushing.block(&first, "");
    pushing.rig.node.add_block(block.clone());
    pushing.rig.node.announce_head(block.hash());
    pushing.publishes(&block, Grade::Matched, &ALL).await;
}

#[tokio::test]
async fn an_assumed_block_is_verified_by_the_next_connection_if_the_first_is_lost() {
    let mut pushing = Pushing::start().await;
    let first = pushing.rig.first.clone();
    let block = pushing.block(&first, "");
    pushing.rig.node.mend("eth_getLogs");
    pushing.rig.node.inject("eth_getLogs", Fault::Silence, Times::Next(1));
    pushing.rig.node.add_block(block.clone());
    pushing.rig.node.announce_head(block.hash());
    push(&pushing.rig.node, &block, &[0, 2]);
    pushing.publishes(&block, Grade::Assumed, &[0, 2]).await;
    pushing.rig.node.drop_connections();
    pushing.rig.says("again2 -101 gap101..101").await;
    pushing.publishes(&block, Grade::Matched, &ALL).await;
}

#[tokio::test]
async fn an_assumed_block_is_verified_by_the_next_incarnation() {
    let mut pushing = Pushing::start().await;
    let first = pushing.rig.first.clone();
    let block = pushing.block(&first, "");
    pushing.rig.node.add_block(block.clone());
    pushing.rig.node.announce_head(block.hash());
    push(&pushing.rig.node, &block, &[0, 2]);
    pushing.publishes(&block, Grade::Assumed, &[0, 2]).await;
    pushing.running.1.control().kill();
    pushing.rig.says("again2 -101 gap101..101").await;
    pushing.publishes(&block, Grade::Matched, &ALL).await;
}

#[tokio::test]
async fn an_assumed_block_that_is_reorganised_away_is_undone_once() {
    let mut rig = Rig::new().await;
    rig.config.complete_within_ms = millis(100);
    let mut pushing = Pushing::start_with(rig).await;
    let first = pushing.rig.first.clone();
    let (old, new) = (pushing.block(&first, "a"), pushing.block(&first, "b"));
    let next = pushing.block(&new, "b");
    pushing.rig.node.mend("eth_getLogs");
    pushing.rig.node.inject("eth_getLogs", Fault::Result(Value::Null), Times::Always);
    pushing.rig.node.push_block(old.clone());
    pushing.publishes(&old, Grade::Assumed, &OURS).await;
    pushing.rig.node.add_block(new.clone());
    pushing.rig.node.add_block(next.clone());
    pushing.rig.node.announce_head(next.hash());
    // It was never verified; and what is below it has nothing to do with that.
    pushing.rig.says("-101a").await;
    pushing.rig.node.mend("eth_getLogs");
    pushing.rig.until_published("+102b").await;
    assert_eq!(pushing.status().refuted, 0);
}

#[tokio::test]
async fn it_does_not_end_on_a_block_that_is_not_verified() {
    let mut rig = Rig::new().await;
    rig.config.completeness = Grade::Assumed;
    let blocks = rig.blocks(&rig.first.clone(), 1, "");
    let (_system, handle) = rig.start(Some(1)).await;
    rig.node.until_subscribed("newHeads", 1).await;
    rig.node.until_requested("eth_getBlockByNumber", 2).await;
    rig.node.delay("eth_getLogs", SLOW);
    rig.node.add_block(blocks[0].clone());
    rig.node.announce_head(blocks[0].hash());
    rig.node.push_log(blocks[0].logs()[0]);
    rig.says("+101 -101 gap101..101 +101").await;
    assert_eq!(timeout(PATIENCE, handle.control().ended()).await.expect("it ends"), Exit::Drained);
}

#[tokio::test]
async fn what_an_earlier_run_assumed_is_verified_first() {
    let mut pushing = Pushing::start().await;
    let first = pushing.rig.first.clone();
    let block = pushing.block(&first, "");
    pushing.rig.node.push_block(block.clone());
    pushing.publishes(&block, Grade::Assumed, &OURS).await;
    let mut published = Canonical::anchored(100, first.hash());
    published.extend(Link { number: 101, hash: block.hash(), parent_hash: first.hash() });
    published.assume(logs_of(&block, &[0, 2, 3]));
    let Pushing { mut rig, running: (_system, handle) } = pushing;
    handle.control().tell(Command::Stop);
    timeout(PATIENCE, handle.control().ended()).await.expect("it ends");
    let start = Start::Behind(published);
    let ingest = LiveIngest::new(&rig.config, &rig.node_config(), start, None, rig.bus.publisher());
    let system = System::start().await.expect("it starts");
    let _handle = ingest.spawn(&system, RestartPolicy::default());
    rig.says("again1 -101 gap101..101 +101").await;
}
