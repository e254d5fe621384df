//! A bot that follows a node whose feed changes its aggregator without a word, and its record without a node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, I256, U256, keccak256};
use anyhow::{Context, bail, ensure};
use headwater_bus::{EventHandler, SnapshotReader};
use headwater_events::{AsOf, BusEvent, Envelope, RunId};
use headwater_journal::Recording;
use headwater_market::{FeedPrice, PendingReports, PriceSnapshot};
use headwater_node::NodeConfig;
use headwater_reference::calldata::{Abi, call, encode};
use headwater_reference::fake_node::{
    BlockBuilder, CallRequest, FakeBlock, FakeLog, FakeNode, FakeTransaction, RpcErr, V2Pair, V2World,
    address_word, word,
};
use headwater_simulation::Unavailable;
use headwater_supervisor::commands::replay_parts;
use headwater_supervisor::{Bot, Config, Live, Record, Running};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

const CHAIN_ID: u64 = 424_245;
const NATIVE: Address = Address::repeat_byte(0x77);
const COIN: Address = Address::repeat_byte(0x21);
const FACTORY: Address = Address::repeat_byte(0xfa);
const POOL: Address = Address::repeat_byte(0x50);
const PROXY: Address = Address::repeat_byte(0xb0);
const OLD: Address = Address::repeat_byte(0xc1);
const NEW: Address = Address::repeat_byte(0xc2);
const STRANGER: Address = Address::repeat_byte(0x66);
const ETHER: u128 = 1_000_000_000_000_000_000;
const HEARTBEAT: u64 = 600;
const GRACE: u64 = 240;
const PATIENCE: Duration = Duration::from_secs(30);
/// Blocks within which a change of phase has to be noticed, once the old aggregator is silent beyond its heartbeat.
const NOTICED_WITHIN: u64 = 20;

/// Whom the proxy reads from changes at this block.
struct Script {
    moves_at: AtomicU64,
}

impl Script {
    /// The proxy of version 0.6, and the token.
    fn call(&self, world: &V2World, call: &CallRequest<'_>) -> Result<Bytes, RpcErr> {
        if call.to != PROXY {
            return world.call(call);
        }
        let has_moved = call.block_number >= self.moves_at.load(Ordering::SeqCst);
        let (aggregator, phase, answer) = if has_moved { (NEW, 2u64, 40u64) } else { (OLD, 1, 10) };
        if call.is("aggregator()") {
            return Ok(address_word(aggregator));
        }
        if call.is("phaseId()") {
            return Ok(word(U256::from(phase)));
        }
        if call.is("decimals()") {
            return Ok(word(U256::from(1)));
        }
        if call.is("latestRoundData()") {
            let of_phase: U256 = U256::from(phase) << 64;
            let (id, time) = (of_phase + U256::from(1), U256::from(call.timestamp));
            return Ok([id, U256::from(answer), time, time, id].map(word).concat().into());
        }
        Err(RpcErr::reverted(b"unknown"))
    }
}

/// The last block that was published, and how many verdicts about feeds.
struct Heads(watch::Sender<(Option<AsOf>, u64)>);

impl EventHandler for Heads {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        self.0.send_modify(|(head, resolved)| match &envelope.event {
            BusEvent::NewBlock(block) => {
                *head =
                    Some(AsOf { seq: envelope.seq, number: block.header.number, hash: block.header.hash });
            }
            BusEvent::FeedResolved(_) => *resolved += 1,
            _ => {}
        });
        Ok(())
    }
}

struct Rig {
    node: FakeNode,
    script: Arc<Script>,
    head: FakeBlock,
    timestamp: u64,
    heard: watch::Receiver<(Option<AsOf>, u64)>,
    prices: SnapshotReader<PriceSnapshot>,
    reports: watch::Receiver<PendingReports>,
    running: Running,
    record: Record,
}

fn configuration(folder: &str) -> anyhow::Result<Config> {
    let text = format!(
        "[market]\npreset = 'none'\nwrapped_native = '{NATIVE:#x}'\n[[market.factories]]\nprotocol = 'uniswap-v2'\naddress = '{FACTORY:#x}'\n\
         [[market.feeds]]\nproxy = '{PROXY:#x}'\ntoken = '{COIN:#x}'\nquote = 'native'\nheartbeat_s = {HEARTBEAT}\n\
         [mempool]\nenabled = true\n[oracle]\nfeed_grace_s = {GRACE}\nmax_feed_deviation_ppm = 500000\n[journal]\ndirectory = '{folder}'\n"
    );
    Config::parse(&text).map_err(|faults| anyhow::anyhow!("{faults:?}"))
}

pub(super) async fn run() -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let config = configuration(&folder.path().display().to_string())?;
    let mut rig = Rig::start(config.clone()).await?;
    let noticed = rig.story().await?;
    let resolved = rig.heard.borrow().1;
    let Rig { running, record, node, .. } = rig;
    let ended = timeout(PATIENCE, running.finish(std::future::ready(()))).await.context("it goes on")?;
    let directory = record.directory.clone();
    record.writer.close().await?;
    drop(node);
    if let Some(fatal) = ended.fatal {
        bail!("{} was given up: {}", fatal.actor, fatal.reason);
    }
    let live = ended.state_digest.context("it did not drain")?;
    let recording = Recording::open(&directory)?;
    let bot = Bot::wire(replay_parts(config, &recording, RunId(9))?, Unavailable).await?;
    let replayed = bot.replay(&recording).finish(std::future::pending());
    let replayed = timeout(PATIENCE, replayed).await.context("the replay does not end")?;
    ensure!(
        replayed.state_digest == Some(live),
        "the record without a node gives {:?}",
        replayed.state_digest
    );
    Ok(format!(
        "live: a report in the mempool was a price by its name until it was mined; a proxy that changed its aggregator without a word was noticed {noticed} blocks after the old one had become silent, \
         a feed that fell silent took its token's price away until it spoke again; the record, with its {resolved} verdicts, gives \
         the same state without a node"
    ))
}

impl Rig {
    async fn start(config: Config) -> anyhow::Result<Self> {
        let (node, url) = FakeNode::start(CHAIN_ID).await?;
        let (token0, token1) = (COIN.min(NATIVE), COIN.max(NATIVE));
        // Worth one.
        let pair = V2Pair {
            address: POOL,
            factory: FACTORY,
            token0,
            token1,
            reserve0: 10 * ETHER,
            reserve1: 10 * ETHER,
        };
        let world =
            V2World::default().factory(FACTORY).pair(pair).token(COIN, 18, "COIN").token(NATIVE, 18, "N");
        let script = Arc::new(Script { moves_at: AtomicU64::new(u64::MAX) });
        let answers = Arc::clone(&script);
        node.answer_calls(move |call| answers.call(&world, call));
        let timestamp = 1_700_000_000;
        let head = BlockBuilder::first(1_000).timestamp(timestamp).build();
        node.push_block(head.clone());
        let mut live = Live::connect(config, NodeConfig::new(vec![url.parse()?]))
            .await
            .map_err(|failure| anyhow::anyhow!("{failure}"))?;
        let (sender, heard) = watch::channel((None, 0));
        live.bot.register("heads", Heads(sender));
        let prices = live.bot.prices.reader("judge");
        let reports = live.bot.reports.subscribe();
        live.load(|_, _| {}).await?;
        let (running, record) = live.follow(None);
        timeout(PATIENCE, node.until_subscribed("newHeads", 1)).await.context("the subscription")?;
        timeout(PATIENCE, node.until_subscribed("newPendingTransactions", 1))
            .await
            .context("the mempool's subscription")?;
        Ok(Self { node, script, head, timestamp, heard, prices, reports, running, record })
    }

    /// A block; what the prices are as of it.
    async fn block(
        &mut self,
        seconds: u64,
        answers: &[(Address, u64, i64)],
    ) -> anyhow::Result<Arc<PriceSnapshot>> {
        self.timestamp += seconds;
        let logs = answers
            .iter()
            .map(|(emitter, round, answer)| answered(*emitter, *round, *answer, self.timestamp));
        let builder = BlockBuilder::child_of(&self.head).timestamp(self.timestamp);
        let block = match answers {
            [] => builder.build(),
            _ => builder.transaction(FakeTransaction::emitting(logs.collect())).build(),
        };
        self.head = block.clone();
        let hash = block.hash();
        self.node.push_block(block);
        let has_come = |(head, _): &(Option<AsOf>, u64)| head.is_some_and(|head| head.hash == hash);
        let heard =
            timeout(PATIENCE, self.heard.wait_for(has_come)).await.context("a block does not come")??;
        let as_of = heard.0.context("a head")?;
        drop(heard);
        Ok(timeout(PATIENCE, self.prices.wait_for(&as_of)).await.context("no prices come")??)
    }

    /// A report in the mempool is a price that can be asked for by its name, and no other; once it is mined it is none.
    async fn announce(&mut self, confirmed: u64, pending: i64) -> anyhow::Result<()> {
        let snapshot = self.prices.latest().context("there are prices")?;
        let observations = [pending - 3, pending, pending + 4];
        let word = |value: i64| Abi::Word(I256::try_from(value).unwrap_or_default().into_raw().into());
        let report = encode(&[word(256), word(0), Abi::Array(observations.map(word).to_vec())]);
        let empty = || Abi::Array(Vec::new());
        let signature = "transmit(bytes,bytes32[],bytes32[],bytes32)";
        let input: Bytes = call(signature, &[Abi::Bytes(report), empty(), empty(), word(0)]).into();
        let transmit =
            FakeTransaction { to: Some(OLD), input: input.clone(), ..FakeTransaction::emitting(vec![]) };
        for (number, to) in [(1, STRANGER), (2, OLD)] {
            self.node.push_pending(json!({
                "hash": B256::repeat_byte(number), "from": transmit.from, "to": to, "value": "0x0", "input": input,
                "nonce": format!("{:#x}", transmit.nonce), "gas": "0x7a120", "gasPrice": "0x5", "blockHash": null,
            }));
        }
        let is_told = |told: &PendingReports| !told.reports.is_empty();
        let told =
            timeout(PATIENCE, self.reports.wait_for(is_told)).await.context("no report comes")??.clone();
        let quotes = told.quotes(&COIN, &snapshot);
        let [quote] = &quotes[..] else { bail!("{quotes:?} are pending") };
        ensure!(quote.transaction == B256::repeat_byte(2) && quote.proxy == PROXY, "{quote:?}");
        ensure!(quote.price.mantissa == tenths(pending.unsigned_abs()), "{quote:?}");
        ensure!(quote.deviation_ppm.is_some(), "it is not compared with the confirmed ones: {quote:?}");
        expect(&*self.block(12, &[]).await?, Some(confirmed), true)?;
        ensure!(!self.reports.borrow().reports.is_empty(), "it is forgotten too early");
        self.timestamp += 12;
        let builder = BlockBuilder::child_of(&self.head).timestamp(self.timestamp);
        let block = builder.transaction(transmit).build();
        self.head = block.clone();
        self.node.push_block(block);
        let is_mined = |told: &PendingReports| told.reports.is_empty();
        timeout(PATIENCE, self.reports.wait_for(is_mined)).await.context("it is pending for ever")??;
        Ok(())
    }

    /// Says how many blocks it took to notice the change of phase.
    async fn story(&mut self) -> anyhow::Result<u64> {
        // Resolved at the start; strangers change nothing, the aggregator does.
        expect(&*self.block(12, &[]).await?, Some(10), true)?;
        expect(&*self.block(12, &[(STRANGER, 50, 77)]).await?, Some(10), true)?;
        expect(&*self.block(12, &[(OLD, 2, 12), (STRANGER, 51, 77)]).await?, Some(12), true)?;
        expect(&*self.block(12, &[(NEW, 9, 77)]).await?, Some(12), true)?;
        self.announce(12, 14).await?;
        // Far from its pool the feed objects.
        expect(&*self.block(12, &[(OLD, 3, 40)]).await?, Some(40), false)?;
        expect(&*self.block(12, &[(OLD, 4, 10)]).await?, Some(10), true)?;

        // The proxy reads from another aggregator, and nobody says so.
        self.script.moves_at.store(self.head.number() + 1, Ordering::SeqCst);
        let silent_from = self.timestamp;
        let mut noticed = 0;
        loop {
            let snapshot = self.block(30, &[]).await?;
            match by_feed(&snapshot) {
                FeedPrice::Fresh { price, .. } if price.mantissa == tenths(40) => break,
                FeedPrice::Fresh { price, .. } => ensure!(price.mantissa == tenths(10), "{price:?}"),
                FeedPrice::Stale => {
                    ensure!(self.timestamp - silent_from > HEARTBEAT, "it is stale too early")
                }
                FeedPrice::Unknown => bail!("the feed is forgotten"),
            }
            noticed += u64::from(self.timestamp - silent_from > HEARTBEAT);
            ensure!(noticed <= NOTICED_WITHIN, "the change of phase is not noticed");
        }
        expect(&*self.block(12, &[(OLD, 5, 11)]).await?, Some(40), false)?;
        expect(&*self.block(12, &[(NEW, 2, 9)]).await?, Some(9), true)?;

        // Silence takes the price away, as long as the node knows no better.
        self.script.moves_at.store(u64::MAX, Ordering::SeqCst);
        self.node.answer_calls(|_| Err(RpcErr::reverted(b"nothing")));
        expect(&*self.block(HEARTBEAT + GRACE, &[]).await?, Some(9), true)?;
        expect(&*self.block(1, &[]).await?, None, false)?;
        Ok(noticed)
    }
}

/// The coin's price in tenths of the native token by its feed; `None` where that is stale. The pool says ten tenths.
fn expect(snapshot: &PriceSnapshot, by: Option<u64>, is_acted_upon: bool) -> anyhow::Result<()> {
    let found = match by_feed(snapshot) {
        FeedPrice::Fresh { price, .. } => Some(price.mantissa),
        FeedPrice::Stale => None,
        FeedPrice::Unknown => bail!("block {}: nothing is known of the feed", snapshot.as_of.number),
    };
    ensure!(found == by.map(tenths), "block {}: {found:?} where {by:?} was due", snapshot.as_of.number);
    ensure!(
        snapshot.price(&COIN).is_some() == is_acted_upon,
        "block {}: {:?} is acted upon",
        snapshot.as_of.number,
        snapshot.price(&COIN)
    );
    Ok(())
}

fn by_feed(snapshot: &PriceSnapshot) -> FeedPrice {
    snapshot.feed_price(&COIN)
}

fn tenths(tenths: u64) -> U256 {
    U256::from(10).pow(U256::from(35)) * U256::from(tenths)
}

fn answered(emitter: Address, round: u64, answer: i64, updated_at: u64) -> FakeLog {
    let answer = I256::try_from(answer).unwrap_or_default().to_be_bytes::<32>().into();
    let topics = vec![keccak256("AnswerUpdated(int256,uint256,uint256)"), answer, U256::from(round).into()];
    FakeLog { address: emitter, topics, data: B256::from(U256::from(updated_at)).0.into() }
}
