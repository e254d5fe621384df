//! The faults: how each is injected, how it shows that it bit, and that it was noticed.

use std::time::Duration;

use alloy_primitives::Address;
use headwater_events::Grade;
use headwater_reference::fake_node::{Announcing, Fault, HeadFault, LogFault, RpcErr, Times};
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Stage;
use super::chain::DEEPEST;
use super::life::{GIVEN_UP_AFTER, Shown};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    // Of the connection: one at a time.
    Cut,
    Refused,
    ResubscriptionRefused,
    Silent,
    TooManyRequests,
    WrongChainLater,
    Disagreement,
    // Of answers that are none, or late.
    Oversized,
    Malformed,
    WrongType,
    UnknownId,
    SlowAnswer,
    // Of answers about blocks.
    NotThereYet,
    PartialLogs,
    BloomContradicted,
    ReceiptsNotThereYet,
    PartialReceipts,
    PushedInPart,
    // Of heads.
    PartialFrame,
    HeadsTwice,
    HeadsOutOfOrder,
    HeadsLeftOut,
    ReorgGeth,
    ReorgReth,
    ReorgAnvil,
    // Of components.
    PanicIngest,
    PanicDecoder,
    PanicOracle,
    PanicState,
    PanicDetector,
    PanicExecutor,
    PoisonFinding,
    PoisonChain,
    SlowSubscriber,
    // Of the process and its disk.
    FullDisk,
    FailingWrites,
    FailingSync,
    Killed,
    WrongChainAtStart,
}

/// Who injects it: one of each track at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Track {
    Connection,
    Nonsense,
    Answers,
    Heads,
    Components,
    Process,
}

impl Track {
    pub(super) const ALL: [Self; 6] =
        [Self::Connection, Self::Nonsense, Self::Answers, Self::Heads, Self::Components, Self::Process];
}

/// What an injected fault did before it was lifted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Struck {
    /// When it is known to have bitten.
    pub(super) bit: Option<Instant>,
    /// Whether the process said so.
    pub(super) detected: bool,
}

/// Until a fault bites, and until it is noticed.
const BITES_WITHIN: Duration = Duration::from_secs(3);
const NOTICED_WITHIN: Duration = Duration::from_secs(5);
/// Until a poisonous message is set aside.
const SET_ASIDE_WITHIN: Duration = Duration::from_secs(2);
/// Until it is known whether the market is lost with it.
const LOST_WITHIN: Duration = Duration::from_millis(500);
/// Failures in a row that are borne, and most of one poison.
const BORNE: usize = 5;
const MOST_PANICS: usize = 4;
/// How late the answers are that would have been sooner than what is pushed.
const LATE: Duration = Duration::from_millis(60);
const PUSHED_FIRST: u64 = 20;
/// With what words an answer that will not do is noticed.
const ASKS_AGAIN: [&str; 2] = ["asking again", "connecting anew"];
/// Until a process that was started follows the chain.
const STARTED_WITHIN: Duration = Duration::from_secs(30);
const ANOTHER_CHAIN: u64 = 5;
/// More than fit into the mailbox, the forwarder and the broadcast of who is slow.
const BURST: usize = 32;

/// Who can lose the market; in what words it says so, and that it has it again.
pub(super) const LOSSES: [(&str, &str, &str); 2] = [
    ("state", "the market is lost", "the market is whole again"),
    ("oracle", "what prices come from is lost", "there are prices again"),
];

impl Kind {
    pub(super) const ALL: [Self; 39] = [
        Self::Cut,
        Self::Refused,
        Self::ResubscriptionRefused,
        Self::Silent,
        Self::TooManyRequests,
        Self::WrongChainLater,
        Self::Disagreement,
        Self::Oversized,
        Self::Malformed,
        Self::WrongType,
        Self::UnknownId,
        Self::SlowAnswer,
        Self::NotThereYet,
        Self::PartialLogs,
        Self::BloomContradicted,
        Self::ReceiptsNotThereYet,
        Self::PartialReceipts,
        Self::PushedInPart,
        Self::PartialFrame,
        Self::HeadsTwice,
        Self::HeadsOutOfOrder,
        Self::HeadsLeftOut,
        Self::ReorgGeth,
        Self::ReorgReth,
        Self::ReorgAnvil,
        Self::PanicIngest,
        Self::PanicDecoder,
        Self::PanicOracle,
        Self::PanicState,
        Self::PanicDetector,
        Self::PanicExecutor,
        Self::PoisonFinding,
        Self::PoisonChain,
        Self::SlowSubscriber,
        Self::FullDisk,
        Self::FailingWrites,
        Self::FailingSync,
        Self::Killed,
        Self::WrongChainAtStart,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut at any byte",
            Self::Refused => "connections refused",
            Self::ResubscriptionRefused => "re-subscription refused",
            Self::Silent => "silent, answering pings",
            Self::TooManyRequests => "429 with Retry-After",
            Self::Oversized => "frame beyond 16 MiB",
            Self::Malformed => "malformed JSON",
            Self::WrongType => "wrong types",
            Self::UnknownId => "unknown ids",
            Self::WrongChainLater => "wrong chain id, later",
            Self::Disagreement => "disagreeing endpoints",
            Self::PartialFrame => "partial frames",
            Self::SlowAnswer => "slow answers",
            Self::NotThereYet => "logs not there yet",
            Self::PartialLogs => "logs in part",
            Self::BloomContradicted => "logs against the bloom",
            Self::ReceiptsNotThereYet => "receipts not there yet",
            Self::PartialReceipts => "receipts in part",
            Self::PushedInPart => "pushed logs in part",
            Self::HeadsTwice => "heads twice",
            Self::HeadsOutOfOrder => "heads out of order",
            Self::HeadsLeftOut => "heads left out",
            Self::ReorgGeth => "reorg as geth does",
            Self::ReorgReth => "reorg as reth does",
            Self::ReorgAnvil => "reorg as anvil does",
            Self::PanicIngest => "panic in ingest",
            Self::PanicDecoder => "panic in decoder",
            Self::PanicOracle => "panic in oracle",
            Self::PanicState => "panic in state",
            Self::PanicDetector => "panic in a detector",
            Self::PanicExecutor => "panic in executor",
            Self::PoisonFinding => "poison in what acts",
            Self::PoisonChain => "poison in what follows",
            Self::SlowSubscriber => "slow subscriber",
            Self::FullDisk => "full disk",
            Self::FailingWrites => "writes that fail",
            Self::FailingSync => "a sync that fails",
            Self::Killed => "kill -9",
            Self::WrongChainAtStart => "wrong chain id, at start",
        }
    }

    pub(super) fn track(self) -> Track {
        match self {
            _ if self <= Self::Disagreement => Track::Connection,
            _ if self <= Self::SlowAnswer => Track::Nonsense,
            _ if self <= Self::PushedInPart => Track::Answers,
            _ if self <= Self::ReorgAnvil => Track::Heads,
            _ if self <= Self::SlowSubscriber => Track::Components,
            _ => Track::Process,
        }
    }

    /// Of some it can only be seen that they did no harm.
    pub(super) fn is_noticed_silently(self) -> bool {
        matches!(self, Self::PartialFrame | Self::SlowAnswer | Self::HeadsTwice | Self::HeadsOutOfOrder)
    }

    /// Whether it ends the process.
    pub(super) fn ends_the_process(self) -> bool {
        matches!(self, Self::FailingSync | Self::Killed | Self::WrongChainAtStart)
    }

    /// Whether what is followed has to be asked for anew behind it.
    pub(super) fn loses_the_market(self) -> bool {
        self == Self::PoisonChain
    }

    /// The completeness that a process has to ask for so that it bites.
    pub(super) fn needs(self) -> Option<Grade> {
        match self {
            Self::NotThereYet | Self::PartialLogs | Self::BloomContradicted => Some(Grade::Matched),
            Self::ReceiptsNotThereYet | Self::PartialReceipts => Some(Grade::Proven),
            Self::PushedInPart => Some(Grade::Assumed),
            _ => None,
        }
    }

    /// Whether it can bite a process that asks for this completeness; what is assumed is matched afterwards.
    pub(super) fn can_bite(self, grade: Grade) -> bool {
        let is_enough = |needed| needed == grade || (needed == Grade::Matched && grade == Grade::Assumed);
        self.needs().is_none_or(is_enough)
    }

    fn panicking(self) -> Option<&'static str> {
        match self {
            Self::PanicIngest => Some("ingest"),
            Self::PanicDecoder => Some("decoder"),
            Self::PanicOracle => Some("oracle"),
            Self::PanicState => Some("state"),
            Self::PanicDetector => Some("arbitrage"),
            Self::PanicExecutor => Some("executor"),
            _ => None,
        }
    }
}

impl Stage {
    /// Injects a fault, waits until it has bitten and was noticed, and lifts it.
    pub(super) async fn strike(&self, kind: Kind, random: &mut ChaCha8Rng) -> anyhow::Result<Struck> {
        match kind {
            Kind::Cut | Kind::PartialFrame => self.hurt_the_wire(kind, random).await,
            Kind::Refused | Kind::ResubscriptionRefused | Kind::TooManyRequests => self.refuse(kind).await,
            Kind::Silent => self.fall_silent().await,
            Kind::Oversized | Kind::Malformed | Kind::WrongType | Kind::UnknownId => {
                let (fault, words) = poisonous_answer(kind);
                self.answer_wrongly("eth_getBlockByHash", fault, 1, words).await
            }
            Kind::WrongChainLater => self.come_back_on_another_chain().await,
            Kind::Disagreement => self.disagree(random).await,
            Kind::SlowAnswer => {
                let fault = Fault::Delay(Duration::from_millis(random.random_range(100..600)));
                self.answer_wrongly("eth_getBlockByHash", fault, 1, &[]).await
            }
            Kind::NotThereYet | Kind::ReceiptsNotThereYet => {
                let unknown = Fault::Error(RpcErr::new(-32000, "unknown block"));
                let fault = if random.random() { unknown } else { Fault::Result(json!(null)) };
                let times = random.random_range(1..4);
                self.answer_wrongly(evidence(self.lives.grade()), fault, times, &ASKS_AGAIN).await
            }
            Kind::PartialLogs => {
                let (fault, times) =
                    (Fault::FirstItems(random.random_range(0..90)), random.random_range(1..4));
                self.answer_wrongly("eth_getLogs", fault, times, &ASKS_AGAIN).await
            }
            Kind::PartialReceipts => {
                let (fault, times) =
                    (Fault::FirstItems(random.random_range(0..25)), random.random_range(1..4));
                self.answer_wrongly("eth_getBlockReceipts", fault, times, &ASKS_AGAIN).await
            }
            Kind::PushedInPart => self.push_in_part().await,
            Kind::BloomContradicted => self.contradict_the_bloom(random).await,
            Kind::HeadsTwice | Kind::HeadsOutOfOrder | Kind::HeadsLeftOut => {
                self.announce_wrongly(kind, random).await
            }
            Kind::ReorgGeth => self.reorganise(Announcing::Geth, random).await,
            Kind::ReorgReth => self.reorganise(Announcing::Reth, random).await,
            Kind::ReorgAnvil => self.reorganise(Announcing::Anvil, random).await,
            Kind::PoisonFinding => self.poison(&["arbitrage", "executor"], random).await,
            Kind::PoisonChain => self.poison(&["state", "oracle", "decoder"], random).await,
            Kind::SlowSubscriber => self.slow_down(random).await,
            Kind::FullDisk => self.fill_the_disk().await,
            Kind::FailingWrites => self.fail_writes(random).await,
            Kind::FailingSync => self.fail_a_sync().await,
            Kind::Killed => self.kill().await,
            Kind::WrongChainAtStart => self.start_on_another_chain(random).await,
            Kind::PanicIngest
            | Kind::PanicDecoder
            | Kind::PanicOracle
            | Kind::PanicState
            | Kind::PanicDetector
            | Kind::PanicExecutor => self.panic(kind.panicking().unwrap_or_default(), random).await,
        }
    }

    /// The node that is followed, as soon as one is.
    async fn followed(&self) -> anyhow::Result<usize> {
        let deadline = Instant::now() + NOTICED_WITHIN;
        loop {
            if let Some(node) = self.chain().followed() {
                return Ok(node);
            }
            if Instant::now() > deadline {
                return Ok(0);
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the chain says so, for as long as a fault may take to bite.
    async fn until_bitten(&self, has_bitten: impl Fn(&super::chain::Chain) -> bool) -> Option<Instant> {
        let deadline = Instant::now() + BITES_WITHIN;
        while Instant::now() < deadline {
            if has_bitten(&self.chain()) {
                return Some(Instant::now());
            }
            sleep(Duration::from_millis(5)).await;
        }
        None
    }

    fn mark(&self) -> usize {
        self.lives.shown().log.len()
    }

    async fn noticed(&self, from: usize, words: &[&str]) -> anyhow::Result<Option<Instant>> {
        self.lives.until_alive(NOTICED_WITHIN, |shown| shown.logged(from, words)).await
    }

    async fn hurt_the_wire(&self, kind: Kind, random: &mut ChaCha8Rng) -> anyhow::Result<Struck> {
        let (node, from) = (self.followed().await?, self.mark());
        let count = |chain: &super::chain::Chain| {
            let counts = chain.wires[node].counts();
            counts.cut + counts.stalled
        };
        let before = count(&self.chain());
        let bytes = random.random_range(0..60_000);
        match kind {
            Kind::Cut => self.chain().wires[node].cut_after(bytes),
            _ => {
                let pause = Duration::from_millis(random.random_range(50..500));
                self.chain().wires[node].stall_after(bytes, pause);
            }
        }
        let bit = self.until_bitten(|chain| count(chain) > before).await;
        self.chain().wires[node].spare();
        let detected =
            kind == Kind::Cut && bit.is_some() && self.noticed(from, &["connecting anew"]).await?.is_some();
        Ok(Struck { bit, detected })
    }

    /// The connection is lost, and the next ones are not taken as they should be.
    async fn refuse(&self, kind: Kind) -> anyhow::Result<Struck> {
        let (node, from) = (self.followed().await?, self.mark());
        let count = |chain: &super::chain::Chain| {
            let of_wires =
                |wire: &headwater_reference::fake_node::Wire| wire.counts().refused + wire.counts().limited;
            let of_nodes = |node: &headwater_reference::fake_node::FakeNode| node.struck("eth_subscribe");
            chain.wires.iter().map(of_wires).sum::<u64>() + chain.nodes.iter().map(of_nodes).sum::<u64>()
        };
        let before = count(&self.chain());
        {
            let chain = self.chain();
            match kind {
                Kind::Refused => chain.wires.iter().for_each(|wire| wire.refuse(true)),
                Kind::TooManyRequests => chain.wires.iter().for_each(|wire| wire.limit(2, 1)),
                _ => {
                    for node in &chain.nodes {
                        let error = Fault::Error(RpcErr::new(-32005, "limit exceeded"));
                        node.inject("eth_subscribe", error, Times::Next(1));
                    }
                }
            }
            chain.wires[node].cut();
        }
        let bit = self.until_bitten(|chain| count(chain) > before).await;
        let detected = bit.is_some() && self.noticed(from, &["node passed over"]).await?.is_some();
        self.mend();
        Ok(Struck { bit, detected })
    }

    fn mend(&self) {
        let chain = self.chain();
        chain.wires.iter().for_each(headwater_reference::fake_node::Wire::welcome);
        chain.nodes.iter().for_each(|node| node.mend("eth_subscribe"));
    }

    async fn fall_silent(&self) -> anyhow::Result<Struck> {
        let (node, from) = (self.followed().await?, self.mark());
        self.chain().nodes[node].go_silent();
        let head = self.chain().head();
        let bit = self.until_bitten(|chain| chain.head() != head).await;
        let detected = self.noticed(from, &["connecting anew"]).await?.is_some();
        self.chain().nodes[node].speak_again();
        Ok(Struck { bit, detected })
    }

    async fn answer_wrongly(
        &self,
        method: &str,
        fault: Fault,
        times: u64,
        words: &[&str],
    ) -> anyhow::Result<Struck> {
        let (node, from) = (self.followed().await?, self.mark());
        let before = self.chain().nodes[node].struck(method);
        self.chain().nodes[node].inject(method, fault, Times::Next(times));
        let bit = self.until_bitten(|chain| chain.nodes[node].struck(method) > before).await;
        let noticed = |shown: &Shown| words.iter().find_map(|word| shown.logged(from, &[word]));
        let detected = bit.is_some()
            && !words.is_empty()
            && self.lives.until_alive(NOTICED_WITHIN, noticed).await?.is_some();
        self.chain().nodes[node].mend(method);
        Ok(Struck { bit, detected })
    }

    /// The node that is followed comes back on another chain, and is tried again when the other one is lost.
    async fn come_back_on_another_chain(&self) -> anyhow::Result<Struck> {
        let (node, from) = (self.followed().await?, self.mark());
        let asked = self.chain().nodes[node].requests("eth_chainId");
        self.chain().nodes[node].change_chain_id(ANOTHER_CHAIN);
        self.chain().wires[node].cut();
        let other = 1 - node;
        self.until_bitten(|chain| chain.nodes[other].subscriptions("newHeads") > 0).await;
        self.chain().wires[other].cut();
        let bit = self.until_bitten(|chain| chain.nodes[node].requests("eth_chainId") > asked).await;
        let detected = bit.is_some() && self.noticed(from, &["node passed over", "chain"]).await?.is_some();
        self.chain().nodes[node].change_chain_id(super::CHAIN_ID);
        Ok(Struck { bit, detected })
    }

    /// The other node stands on another branch, and is all there is for a while.
    async fn disagree(&self, random: &mut ChaCha8Rng) -> anyhow::Result<Struck> {
        let _branch = self.branching.lock().await;
        let (node, from) = (self.followed().await?, self.mark());
        {
            let mut chain = self.chain();
            chain.set_apart(1 - node, random.random_range(1..6));
            chain.wires[node].refuse(true);
            chain.wires[node].cut();
        }
        let noticed = self.noticed(from, &["disagrees with the one before"]).await?;
        let mut chain = self.chain();
        chain.wires[node].refuse(false);
        chain.bring_back();
        Ok(Struck { bit: noticed, detected: noticed.is_some() })
    }

    /// The first of the logs that the node pushes do not come, and what it is asked for comes late.
    async fn push_in_part(&self) -> anyhow::Result<Struck> {
        let (node, from) = (self.followed().await?, self.mark());
        {
            let chain = self.chain();
            chain.nodes[node].inject("eth_getLogs", Fault::Delay(LATE), Times::Next(PUSHED_FIRST));
            chain.nodes[node].distort_logs(Some(LogFault::Missing));
        }
        let bit = self.noticed(from, &["other logs were pushed than the block has"]).await?;
        let chain = self.chain();
        chain.nodes[node].distort_logs(None);
        chain.nodes[node].mend("eth_getLogs");
        Ok(Struck { bit, detected: bit.is_some() })
    }

    async fn contradict_the_bloom(&self, random: &mut ChaCha8Rng) -> anyhow::Result<Struck> {
        let _branch = self.branching.lock().await;
        let (node, from) = (self.followed().await?, self.mark());
        let before = self.chain().nodes[node].struck("eth_getLogs");
        let stranger = Address::from(random.random::<[u8; 20]>());
        let at = random.random_range(0..100usize);
        let bend = |logs: &mut Vec<serde_json::Value>| {
            let at = at % logs.len();
            logs[at]["address"] = json!(stranger);
        };
        self.chain().grow_contradicted(bend, node);
        let bit = self.until_bitten(|chain| chain.nodes[node].struck("eth_getLogs") > before).await;
        let noticed = |shown: &Shown| ASKS_AGAIN.iter().find_map(|words| shown.logged(from, &[words]));
        let detected = bit.is_some() && self.lives.until_alive(NOTICED_WITHIN, noticed).await?.is_some();
        self.chain().nodes[node].mend("eth_getLogs");
        Ok(Struck { bit, detected })
    }

    async fn announce_wrongly(&self, kind: Kind, random: &mut ChaCha8Rng) -> anyhow::Result<Struck> {
        let _branch = self.branching.lock().await;
        let (_, from) = (self.followed().await?, self.mark());
        let row = random.random_range(2..7);
        let fault = match kind {
            Kind::HeadsTwice => HeadFault::Twice,
            Kind::HeadsOutOfOrder => HeadFault::OutOfOrder(row),
            _ => HeadFault::Skipping(row),
        };
        let is_heard = self.chain().followed().is_some();
        self.chain().grow_by(row, &[fault]);
        let bit = is_heard.then(Instant::now);
        let detected =
            kind == Kind::HeadsLeftOut && self.noticed(from, &["did not announce these"]).await?.is_some();
        Ok(Struck { bit, detected })
    }

    async fn reorganise(&self, announcing: Announcing, random: &mut ChaCha8Rng) -> anyhow::Result<Struck> {
        let _branch = self.branching.lock().await;
        self.followed().await?;
        let depth = random.random_range(1..=DEEPEST);
        let (since, before) = (Instant::now(), self.lives.shown().reorgs.len());
        self.chain().reorganise(depth, announcing);
        let told = |shown: &Shown| shown.reorgs.get(before).map(|(at, _)| *at);
        let told = self.lives.until_alive(2 * NOTICED_WITHIN, told).await?;
        Ok(Struck { bit: told.map(|_| since), detected: told.is_some() })
    }

    async fn panic(&self, actor: &str, random: &mut ChaCha8Rng) -> anyhow::Result<Struck> {
        self.until_it_bears(actor, 1).await?;
        let from = self.mark();
        let when = if random.random() { "before" } else { "after" };
        self.lives.say(&format!("panic-{when} {actor}"))?;
        let named = format!("\"actor\":\"{actor}\"");
        let bit = self.noticed(from, &["failed; restarting", &named]).await?;
        Ok(Struck { bit, detected: bit.is_some() })
    }

    /// Waits until an actor may fail so often without being given up.
    async fn until_it_bears(&self, actor: &str, failures: usize) -> anyhow::Result<()> {
        let bears = |shown: &Shown| (shown.failures(actor) + failures <= BORNE).then_some(());
        self.lives.until_alive(GIVEN_UP_AFTER, bears).await.map(drop)
    }

    /// A message ends two incarnations of one of the actors, is set aside, and what was lost with it is taken up again.
    async fn poison(&self, actors: &[&str], random: &mut ChaCha8Rng) -> anyhow::Result<Struck> {
        let from = self.mark();
        let mut bit = None;
        // A message that is superseded again and again before it is tried once more is none; then another has its turn.
        for _ in 0..2 {
            let actor = actors.choose(random).copied().unwrap_or_default();
            self.until_it_bears(actor, MOST_PANICS).await?;
            self.lives.say(&format!("poison {actor}"))?;
            let named = format!("\"actor\":\"{actor}\"");
            let aside = |shown: &Shown| shown.logged(from, &["is set aside", &named]);
            bit = self.lives.until_alive(SET_ASIDE_WITHIN, aside).await?;
            if bit.is_some() {
                self.until_whole(from, actor).await?;
                break;
            }
        }
        Ok(Struck { bit, detected: bit.is_some() })
    }

    /// Waits until what an actor lost is there again, if it lost the market.
    async fn until_whole(&self, from: usize, actor: &str) -> anyhow::Result<()> {
        let Some((lost, whole)) =
            LOSSES.iter().find_map(|(who, lost, whole)| (*who == actor).then_some((lost, whole)))
        else {
            return Ok(());
        };
        // A message that is none of the chain costs nothing.
        let is_lost = self.lives.until_alive(LOST_WITHIN, |shown| shown.logged(from, &[lost])).await?;
        if is_lost.is_some() {
            let whole = |shown: &Shown| shown.logged(from, &[whole]);
            let is_whole = self.lives.until_alive(super::REPAIRED_WITHIN, whole).await?;
            anyhow::ensure!(is_whole.is_some(), "the market stays lost:\n{}", self.lives.last_words());
        }
        Ok(())
    }

    async fn slow_down(&self, random: &mut ChaCha8Rng) -> anyhow::Result<Struck> {
        let _branch = self.branching.lock().await;
        let from = self.mark();
        let who = ["slow state", "slow oracle", "slow-handler"].choose(random).copied().unwrap_or_default();
        self.lives.say(&format!("{who} 40"))?;
        self.chain().grow_by(BURST, &[]);
        let bit = self.noticed(from, &["a lag is repaired"]).await?;
        self.lives.say(&format!("{who} 0"))?;
        Ok(Struck { bit, detected: bit.is_some() })
    }

    async fn fill_the_disk(&self) -> anyhow::Result<Struck> {
        let from = self.mark();
        self.lives.disk.fill(true)?;
        let bit = self.noticed(from, &["the journal cannot be written"]).await?;
        sleep(Duration::from_millis(300)).await;
        self.lives.disk.fill(false)?;
        if bit.is_some() {
            self.noticed(from, &["the journal can be written again"]).await?;
        }
        Ok(Struck { bit, detected: bit.is_some() })
    }

    /// Some writes of the record fail, before anything or half of it is written.
    async fn fail_writes(&self, random: &mut ChaCha8Rng) -> anyhow::Result<Struck> {
        let from = self.mark();
        let point = ["record-write", "record-write-half"].choose(random).copied().unwrap_or_default();
        self.lives.say(&format!("fail {point} {}", random.random_range(1..4)))?;
        let bit = self.noticed(from, &["the journal cannot be written", "Input/output error"]).await?;
        if bit.is_some() {
            let again = self.noticed(from, &["the journal can be written again"]).await?;
            anyhow::ensure!(
                again.is_some(),
                "the journal is not written again:\n{}",
                self.lives.last_words()
            );
        }
        Ok(Struck { bit, detected: bit.is_some() })
    }

    /// Nobody knows what is on the disk: the process has to end with an error, and the next one to go on.
    async fn fail_a_sync(&self) -> anyhow::Result<Struck> {
        let from = self.mark();
        self.lives.let_end(true);
        self.lives.say("fail record-sync 1")?;
        let bit = Instant::now();
        self.until_ended().await?;
        let failed = self.lives.exit_code() == Some(1)
            && self.lives.last_words().contains("the journal failed; nothing more is recorded");
        anyhow::ensure!(failed, "{}\n{}", self.lives.ending(), self.lives.last_words());
        self.lives.start()?;
        self.started(from).await?;
        self.lives.let_end(false);
        let resumed = self.lives.shown().logged(from, &["going on with an earlier run"]);
        Ok(Struck { bit: Some(bit), detected: resumed.is_some() })
    }

    /// Waits until the process has ended by itself.
    async fn until_ended(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + STARTED_WITHIN;
        while !self.lives.has_ended()? {
            anyhow::ensure!(Instant::now() < deadline, "it does not end:\n{}", self.lives.last_words());
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    async fn kill(&self) -> anyhow::Result<Struck> {
        let from = self.mark();
        self.lives.kill()?;
        let bit = Instant::now();
        self.lives.start()?;
        let started = self.started(from).await?;
        let resumed = self.lives.shown().logged(from, &["going on with an earlier run"]);
        Ok(Struck { bit: Some(bit), detected: started && resumed.is_some() })
    }

    /// The first node is on another chain when the process starts, or both are, and then it has to refuse.
    async fn start_on_another_chain(&self, random: &mut ChaCha8Rng) -> anyhow::Result<Struck> {
        let from = self.mark();
        self.lives.let_end(true);
        self.lives.kill()?;
        let wrong = if random.random() { 1 } else { 2 };
        self.chain().nodes.iter().take(wrong).for_each(|node| node.change_chain_id(ANOTHER_CHAIN));
        self.lives.start()?;
        let bit = Instant::now();
        let mut detected = false;
        if wrong == 2 {
            self.until_ended().await?;
            detected = self.lives.last_words().contains("chain");
            anyhow::ensure!(detected, "it does not refuse another chain:\n{}", self.lives.last_words());
        } else {
            self.started(from).await?;
            detected |= self.lives.shown().logged(from, &["node passed over"]).is_some();
        }
        self.chain().nodes.iter().for_each(|node| node.change_chain_id(super::CHAIN_ID));
        if wrong == 2 {
            self.lives.start()?;
            self.started(from).await?;
        }
        self.lives.let_end(false);
        Ok(Struck { bit: Some(bit), detected })
    }

    /// Waits until the process follows the chain.
    pub(super) async fn started(&self, from: usize) -> anyhow::Result<bool> {
        let follows = |shown: &Shown| {
            shown.logged(from, &["under remote control"]).and(shown.logged(from, &["following the chain"]))
        };
        let started = self.lives.until_alive(STARTED_WITHIN, follows).await?;
        anyhow::ensure!(started.is_some(), "it does not start:\n{}", self.lives.last_words());
        Ok(true)
    }
}

/// What the process asks for to know the logs of a block.
fn evidence(grade: Grade) -> &'static str {
    if grade == Grade::Proven { "eth_getBlockReceipts" } else { "eth_getLogs" }
}

/// An answer that is none, and with what words it is noticed.
fn poisonous_answer(kind: Kind) -> (Fault, &'static [&'static str]) {
    match kind {
        Kind::Oversized => {
            let text = json!({"jsonrpc": "2.0", "id": 1, "result": "x".repeat(17 << 20)});
            (Fault::Text(text.to_string()), &["connecting anew"])
        }
        Kind::Malformed => {
            (Fault::Text("{\"jsonrpc\":\"2.0\",\"id".to_owned()), &["malformed message", "connecting anew"])
        }
        Kind::UnknownId => (
            Fault::Text(r#"{"jsonrpc":"2.0","id":4000000000,"result":[]}"#.to_owned()),
            &["never made", "connecting anew"],
        ),
        _ => (Fault::Result(json!(["a block"])), &["connecting anew"]),
    }
}
