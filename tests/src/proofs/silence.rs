//! Nodes that fall silent, in five ways, and nodes whose answers are poison: left in time, asked with restraint, and no
//! block is missed or repeated.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use headwater_actor::{RestartPolicy, System};
use headwater_bus::{BusConfig, EventBus, EventHandler, Timeline, Topology};
use headwater_events::{BusEvent, Envelope};
use headwater_ingest::{IngestConfig, LiveIngest, Start};
use headwater_node::NodeConfig;
use headwater_reference::fake_node::{
    BlockBuilder, FakeBlock, FakeLog, FakeNode, FakeTransaction, Fault, RpcErr, Times,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::proof::{Proof, ProofArgs, Report};
use crate::replayed::runtime;

/// Silence and poison.
pub const SILENCE: Proof = Proof {
    name: "silence",
    about: "a silent node is left within 5 block times, poison costs one reconnect a second, every block once",
    full_duration: "1 min",
    run,
};

/// A silent node has to be left, and a block of another be there, within so many block times.
const MOST_BLOCK_TIMES: f64 = 5.0;

/// Two attempts may be seen closer together than a second by as much as the node is late in taking the first.
const LATE_ACCEPT: Duration = Duration::from_millis(50);

/// What exceeds it hangs.
const PATIENCE: Duration = Duration::from_secs(40);

/// Frames are taken up to 16 MiB.
const LIMIT: NonZeroUsize = NonZeroUsize::new(16 << 20).expect("not zero");

/// Scenarios side by side: they wait most of the time.
const AT_ONCE: usize = 12;

/// How a node falls silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// Its head stands still; it answers everything.
    Frozen,
    /// It answers pings, and no request.
    Answerless,
    /// Nothing comes from it, pongs neither.
    HalfOpen,
    /// Its head moves and everything is answered, but no head is announced.
    Mute,
    /// Heads are announced and everything is answered but `eth_getLogs`.
    Logless,
}

/// What a node gives instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poison {
    /// JSON that ends in the middle.
    Malformed,
    /// A list where a block belongs.
    WrongType,
    /// An answer to a question that was not asked.
    UnknownId,
    /// A frame of 17 MiB.
    Oversized,
    /// Two hundred malformed messages a second.
    Flood,
    /// The connection ends when a subscription is asked for.
    Hangup,
    /// Limit exceeded (-32005), whenever a subscription is asked for.
    Limited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Silence(Silence),
    Poison(Poison),
    /// Behind the preferred address another chain comes up.
    OtherChain,
}

#[derive(Clone, Copy, Debug)]
struct Scenario {
    kind: Kind,
    block_time: Duration,
    /// For how long the poison is given.
    poisoned: Duration,
    seed: u64,
}

/// What a scenario measured.
#[derive(Clone, Copy, Debug)]
struct Measured {
    kind: Kind,
    block_time: Duration,
    blocks: usize,
    /// From the silence to the first block from the other endpoint, in block times.
    left_after: Option<f64>,
    /// Connections made under poison, and the most of them within a second.
    reconnects: Option<(usize, usize)>,
}

const SILENCES: [Silence; 5] =
    [Silence::Frozen, Silence::Answerless, Silence::HalfOpen, Silence::Mute, Silence::Logless];
const POISONS: [Poison; 7] = [
    Poison::Malformed,
    Poison::WrongType,
    Poison::UnknownId,
    Poison::Oversized,
    Poison::Flood,
    Poison::Hangup,
    Poison::Limited,
];

/// One block a second, its time measured by the bot itself; and twice as fast, its time configured.
const A_SECOND: Duration = Duration::from_secs(1);
const HALF_A_SECOND: Duration = Duration::from_millis(500);

fn scenarios(args: &ProofArgs) -> Vec<Scenario> {
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let mut scenarios = Vec::new();
    let (at_a_second, faster, poisons, poisoned) = if args.quick {
        (1, 1, &POISONS[1..4], Duration::from_millis(3_200))
    } else {
        (4, 2, &POISONS[..], Duration::from_secs(7))
    };
    let mut add = |kind, block_time| {
        scenarios.push(Scenario { kind, block_time, poisoned, seed: rng.random() });
    };
    for (index, silence) in SILENCES.into_iter().enumerate() {
        // Of the sample only the first kind, so that the measured block time is in it.
        let at_a_second = if args.quick && index > 0 { 0 } else { at_a_second };
        (0..at_a_second).for_each(|_| add(Kind::Silence(silence), A_SECOND));
        (0..faster).for_each(|_| add(Kind::Silence(silence), HALF_A_SECOND));
    }
    for poison in poisons {
        (0..faster).for_each(|_| add(Kind::Poison(*poison), HALF_A_SECOND));
    }
    (0..faster).for_each(|_| add(Kind::OtherChain, HALF_A_SECOND));
    scenarios
}

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let scenarios = scenarios(args);
    let floor = if args.quick { 10 } else { 40 };
    let measured: Vec<Measured> = runtime(2)?.block_on(async {
        let runs = scenarios.iter().map(|scenario| async move {
            let measuring = timeout(PATIENCE, measure(scenario));
            let measured = measuring.await.context("it hangs").and_then(|measured| measured);
            measured.with_context(|| format!("{scenario:?}"))
        });
        stream::iter(runs).buffer_unordered(AT_ONCE).try_collect().await
    })?;
    let mut report = Report { checked: measured.len() as u64, floor, seed: args.seed, ..Report::default() };
    for silence in SILENCES {
        for block_time in [A_SECOND, HALF_A_SECOND] {
            report.lines.extend(line_of_silence(silence, block_time, &measured));
        }
    }
    report.lines.extend(POISONS.into_iter().filter_map(|poison| line_of_poison(poison, &measured)));
    let blocks: usize = measured.iter().map(|measured| measured.blocks).sum();
    report.lines.push(format!("{blocks} canonical blocks over all scenarios, each published exactly once"));
    Ok(report)
}

fn line_of_silence(silence: Silence, block_time: Duration, measured: &[Measured]) -> Option<String> {
    let of_it =
        |measured: &&Measured| (measured.kind, measured.block_time) == (Kind::Silence(silence), block_time);
    let mut times: Vec<f64> = measured.iter().filter(of_it).filter_map(|one| one.left_after).collect();
    times.sort_by(f64::total_cmp);
    let (p50, max) = (times.get(times.len() / 2)?, times.last()?);
    let kind = format!("{silence:?}");
    Some(format!(
        "{kind:10} at {block_time:?} a block: {} times, left after p50 {p50:.2}, max {max:.2} block times (at most 5)",
        times.len()
    ))
}

fn line_of_poison(poison: Poison, measured: &[Measured]) -> Option<String> {
    let of_it = measured.iter().filter(|measured| measured.kind == Kind::Poison(poison));
    let counts: Vec<_> = of_it.filter_map(|measured| measured.reconnects).collect();
    let within_a_second = counts.iter().map(|(_, most)| most).max()?;
    let all: usize = counts.iter().map(|(all, _)| all).sum();
    let kind = format!("{poison:?}");
    Some(format!(
        "{kind:10} {} times: {all} reconnects, at most {within_a_second} within a second",
        counts.len()
    ))
}

async fn measure(scenario: &Scenario) -> anyhow::Result<Measured> {
    let mut stage = Stage::start(scenario).await?;
    let mut measured = Measured {
        kind: scenario.kind,
        block_time: scenario.block_time,
        blocks: 0,
        left_after: None,
        reconnects: None,
    };
    let calm = stage.rng.random_range(3..6);
    stage.produce(calm).await;
    stage.settle().await?;
    match scenario.kind {
        Kind::Silence(silence) => measured.left_after = Some(stage.fall_silent(silence).await?),
        Kind::Poison(poison) => {
            measured.reconnects = Some(stage.poison(poison, scenario.poisoned).await?);
        }
        Kind::OtherChain => stage.another_chain().await?,
    }
    stage.produce(2).await;
    stage.settle().await?;
    measured.blocks = stage.judge()?;
    Ok(measured)
}

/// Two nodes on one chain, and the ingest that follows the first of them.
struct Stage {
    nodes: Vec<FakeNode>,
    /// The generator's chain, without the block that it begins behind.
    chain: Vec<FakeBlock>,
    first: FakeBlock,
    /// Whether the first node gets the blocks.
    frozen: bool,
    block_time: Duration,
    ticks: tokio::time::Interval,
    events: mpsc::Receiver<(Instant, BusEvent)>,
    seen: Vec<(Instant, BusEvent)>,
    rng: ChaCha8Rng,
    _system: System,
    _bus: EventBus,
}

struct Collect(mpsc::Sender<(Instant, BusEvent)>);

impl EventHandler for Collect {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        self.0.send((Instant::now(), envelope.event.clone())).await?;
        Ok(())
    }
}

fn millis(duration: Duration) -> anyhow::Result<NonZeroU64> {
    NonZeroU64::new(u64::try_from(duration.as_millis())?).context("not zero")
}

impl Stage {
    async fn start(scenario: &Scenario) -> anyhow::Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(scenario.seed);
        let first = BlockBuilder::first(100).build();
        let (mut nodes, mut urls) = (Vec::new(), Vec::new());
        let count = if let Kind::Poison(_) = scenario.kind { 1 } else { 2 };
        for _ in 0..count {
            let (node, url) = FakeNode::start(1).await?;
            node.push_block(first.clone());
            urls.push(url.parse()?);
            nodes.push(node);
        }
        let mut node_config =
            NodeConfig { chain_id: Some(1), max_message_bytes: LIMIT, ..NodeConfig::new(urls) };
        let mut config = IngestConfig::default();
        if scenario.block_time != A_SECOND {
            config.block_time_ms = Some(millis(scenario.block_time)?);
            config.complete_within_ms = millis(scenario.block_time * 2)?;
        }
        if let Kind::Poison(_) = scenario.kind {
            // The sooner a question is given up, the sooner it would connect anew.
            node_config.request_timeout_ms = millis(Duration::from_millis(200))?;
        }
        let bus = EventBus::new(&BusConfig::default(), &Topology::new(), &Timeline::default(), None, None);
        let (sender, events) = mpsc::channel(1024);
        bus.register("collect", Collect(sender));
        let start = Start::After { number: 100, hash: first.hash() };
        let system = System::start().await?;
        let ingest = LiveIngest::new(&config, &node_config, start, None, bus.publisher());
        ingest.spawn(&system, RestartPolicy::default());
        nodes[0].until_subscribed("newHeads", 1).await;
        let phase = scenario.block_time.mul_f64(rng.random());
        let mut ticks = interval_at(Instant::now() + phase, scenario.block_time);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            nodes,
            chain: Vec::new(),
            first,
            frozen: false,
            block_time: scenario.block_time,
            ticks,
            events,
            seen: Vec::new(),
            rng,
            _system: system,
            _bus: bus,
        })
    }

    /// The next blocks, each at its time.
    async fn produce(&mut self, count: usize) {
        for _ in 0..count {
            self.ticks.tick().await;
            self.produce_one();
        }
    }

    fn produce_one(&mut self) {
        let parent = self.chain.last().unwrap_or(&self.first);
        let number = parent.number() + 1;
        // Timestamps are whole seconds.
        let since_first = self.block_time.as_secs_f64() * (number - 100) as f64;
        let timestamp = 1_700_000_000 + since_first as u64;
        let emitting = |seed: u8| {
            let log = FakeLog::sync(Address::repeat_byte(seed), u128::from(number), 7);
            FakeTransaction::emitting(vec![log])
        };
        let transactions: Vec<_> = (1..=self.rng.random_range(1..9)).map(emitting).collect();
        let block = BlockBuilder::child_of(parent).timestamp(timestamp).transactions(transactions).build();
        for (index, node) in self.nodes.iter().enumerate() {
            if index > 0 || !self.frozen {
                node.push_block(block.clone());
            }
        }
        self.chain.push(block);
    }

    /// Waits until the newest block is published.
    async fn settle(&mut self) -> anyhow::Result<()> {
        let newest = self.chain.last().map_or(self.first.hash(), FakeBlock::hash);
        while !self.seen.iter().any(|(_, event)| is_block(event, newest)) {
            self.see().await?;
        }
        Ok(())
    }

    async fn see(&mut self) -> anyhow::Result<()> {
        let event = self.events.recv().await.context("the bus is closed")?;
        self.seen.push(event);
        Ok(())
    }

    /// The first node falls silent at a random moment; how long it takes until a block of the other is there.
    async fn fall_silent(&mut self, silence: Silence) -> anyhow::Result<f64> {
        let before = self.block_time.mul_f64(self.rng.random_range(0.0..0.9));
        let at = Instant::now() + before;
        tokio::select! {
            () = tokio::time::sleep_until(at) => {}
            _ = self.ticks.tick() => self.produce_one(),
        }
        let node = &self.nodes[0];
        match silence {
            Silence::Frozen => self.frozen = true,
            Silence::Answerless => node.go_silent(),
            Silence::HalfOpen => node.go_half_open(),
            Silence::Mute => node.go_mute(),
            Silence::Logless => node.inject("eth_getLogs", Fault::Silence, Times::Always),
        }
        let since = Instant::now();
        let left = loop {
            tokio::select! {
                _ = self.ticks.tick() => self.produce_one(),
                event = self.events.recv() => self.seen.push(event.context("the bus is closed")?),
            }
            if let Some(at) = self.first_block_of_the_other() {
                break at;
            }
        };
        let block_times = left.duration_since(since).as_secs_f64() / self.block_time.as_secs_f64();
        ensure!(block_times <= MOST_BLOCK_TIMES, "left after {block_times:.2} block times");
        Ok(block_times)
    }

    fn first_block_of_the_other(&self) -> Option<Instant> {
        let changed = |event: &BusEvent| matches!(event, BusEvent::Reconnected(event) if event.endpoint == 1);
        let mut later = self.seen.iter().skip_while(|(_, event)| !changed(event));
        later.find(|(_, event)| matches!(event, BusEvent::NewBlock(_))).map(|(at, _)| *at)
    }

    /// The node gives poison for a while; how often it was connected to, and how often at most within a second.
    async fn poison(&mut self, poison: Poison, duration: Duration) -> anyhow::Result<(usize, usize)> {
        let node = &self.nodes[0];
        let before = node.connections();
        let always = |method, fault| node.inject(method, fault, Times::Always);
        match poison {
            Poison::Malformed => always("eth_getLogs", Fault::Text("{\"jsonrpc\":\"2.0\",\"id".to_owned())),
            Poison::WrongType => always("eth_getBlockByHash", Fault::Result(json!(["a block"]))),
            Poison::UnknownId => {
                let text = r#"{"jsonrpc":"2.0","id":4000000000,"result":[]}"#;
                always("eth_getLogs", Fault::Text(text.to_owned()));
            }
            Poison::Oversized => {
                let text = json!({"jsonrpc": "2.0", "id": 1, "result": "x".repeat(LIMIT.get() + (1 << 20))});
                always("eth_getLogs", Fault::Text(text.to_string()));
            }
            Poison::Flood => {}
            Poison::Hangup => always("eth_subscribe", Fault::DropConnection),
            Poison::Limited => {
                always("eth_subscribe", Fault::Error(RpcErr::new(-32005, "limit exceeded")));
            }
        }
        if matches!(poison, Poison::Hangup | Poison::Limited) {
            node.drop_connections();
        }
        self.endure(poison == Poison::Flood, duration).await?;
        let node = &self.nodes[0];
        let made = node.connected_at().split_off(before);
        ["eth_getLogs", "eth_getBlockByHash", "eth_subscribe"].iter().for_each(|method| node.mend(method));
        ensure!(made.len() >= 2, "the poison did not bite: {} reconnects", made.len());
        let most = most_within_a_second(&made);
        ensure!(most <= 1, "{most} reconnects within a second, {} in all", made.len());
        Ok((made.len(), most))
    }

    async fn endure(&mut self, flood: bool, duration: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + duration;
        let mut drops = tokio::time::interval(Duration::from_millis(5));
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return Ok(()),
                _ = drops.tick(), if flood => self.nodes[0].send_text("{"),
                _ = self.ticks.tick() => self.produce_one(),
                event = self.events.recv() => self.seen.push(event.context("the bus is closed")?),
            }
        }
    }

    /// The preferred node comes back on another chain; the other one is lost as well, and has to be returned to.
    async fn another_chain(&mut self) -> anyhow::Result<()> {
        self.nodes[0].change_chain_id(5);
        self.nodes[0].drop_connections();
        self.nodes[1].until_subscribed("newHeads", 1).await;
        self.produce(2).await;
        self.settle().await?;
        let asked = self.nodes[0].requests("eth_chainId");
        self.nodes[1].drop_connections();
        self.produce(1).await;
        self.settle().await?;
        ensure!(self.nodes[0].requests("eth_chainId") > asked, "the preferred node was not tried");
        ensure!(self.nodes[0].subscriptions("newHeads") == 0, "a node on another chain is followed");
        Ok(())
    }

    /// Exactly the generator's chain, each block once, in order; every gap within it; one reconnection a connection.
    fn judge(&mut self) -> anyhow::Result<usize> {
        while let Ok(event) = self.events.try_recv() {
            self.seen.push(event);
        }
        let (mut published, mut epoch) = (Vec::new(), 1);
        for (_, event) in &self.seen {
            match event {
                BusEvent::NewBlock(block) => {
                    ensure!(!block.logs.is_empty(), "block {} without its logs", block.header.number);
                    published.push(block.header.hash);
                }
                BusEvent::SourceGap(gap) => {
                    let last = 100 + self.chain.len() as u64;
                    ensure!(
                        gap.from > 100 && gap.to <= last && gap.filled == gap.to - gap.from + 1,
                        "{gap:?}"
                    );
                }
                BusEvent::Reconnected(again) => {
                    epoch += 1;
                    ensure!(again.epoch == epoch, "connection {epoch} calls itself {}", again.epoch);
                }
                other => anyhow::bail!("nothing was reorganised: {other:?}"),
            }
        }
        let canonical: Vec<B256> = self.chain.iter().map(FakeBlock::hash).collect();
        ensure!(published == canonical, "published {published:?}, and the chain is {canonical:?}");
        Ok(canonical.len())
    }
}

fn is_block(event: &BusEvent, hash: B256) -> bool {
    matches!(event, BusEvent::NewBlock(block) if block.header.hash == hash)
}

fn most_within_a_second(moments: &[Instant]) -> usize {
    let window = A_SECOND - LATE_ACCEPT;
    let within = |first: &Instant| {
        moments.iter().filter(|moment| *moment >= first && moment.duration_since(*first) < window).count()
    };
    moments.iter().map(within).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_second_is_found() {
        let start = Instant::now();
        let most = |millis: &[u64]| {
            let moments: Vec<_> = millis.iter().map(|after| start + Duration::from_millis(*after)).collect();
            most_within_a_second(&moments)
        };
        assert_eq!(most(&[]), 0);
        assert_eq!(most(&[0, 1_000, 2_100, 4_200]), 1);
        assert_eq!(most(&[0, 1_000, 1_300, 1_900, 3_000]), 3);
    }

    #[test]
    fn every_kind_is_in_the_full_run_and_there_are_enough() {
        let all = scenarios(&ProofArgs { seed: 1, quick: false, rest: Vec::new() });
        assert!(all.len() >= 40, "{}", all.len());
        let has = |kind| all.iter().any(|scenario| scenario.kind == kind);
        assert!(SILENCES.into_iter().all(|silence| has(Kind::Silence(silence))));
        assert!(POISONS.into_iter().all(|poison| has(Kind::Poison(poison))) && has(Kind::OtherChain));
    }
}
