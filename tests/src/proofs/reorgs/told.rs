//! What the bot tells on its bus, and whether it is the generator's chain, block by block.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use alloy_primitives::{Address, B256, keccak256};
use anyhow::{Context, bail, ensure};
use headwater_bus::EventHandler;
use headwater_events::{AsOf, BlockEvent, BusEvent, Envelope, Grade, ReorgEvent, SourceGap, TokenVerdict};
use headwater_reference::fake_node::{FakeBlock, V2Pair, bytes, quantity};
use headwater_reference::scratch::Known;
use tokio::sync::watch;

use super::history::History;

/// Hears every source event.
pub(super) struct Teller(watch::Sender<Heard>);

/// What was heard so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Not judged yet.
    events: Vec<Envelope>,
    head: Option<AsOf>,
    /// How many logs the head came with, where they are assumed.
    assumed_logs: Option<usize>,
    /// Tokens with the event that judged them, and whether they are refused.
    tokens: BTreeMap<Address, (u64, bool)>,
    pools: BTreeMap<Address, u64>,
}

/// The chain as it was told.
pub(super) struct Told {
    heard: watch::Sender<Heard>,
    chain: Vec<(u64, B256)>,
    next_seq: Option<u64>,
    /// Numbers of the blocks that a gap promised.
    promised: Vec<u64>,
    undone: BTreeSet<B256>,
    /// Whether the head is assumed, and has all logs that are decoded.
    assumed: Option<bool>,
    totals: Totals,
}

/// What was told, counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub depths: Vec<usize>,
    pub blocks: u64,
    pub unannounced: u64,
    /// Blocks that were published again after they had been undone.
    pub came_back: u64,
    /// Blocks published before they were verified.
    pub assumed: u64,
    /// Of these, such that lacked a log, and were undone and published anew for it.
    pub refuted: u64,
}

/// What had been learnt when a block was published.
#[derive(Debug)]
pub(super) struct Learnt {
    pub as_of: AsOf,
    refused: BTreeSet<Address>,
    judged: BTreeSet<Address>,
    pools: BTreeSet<Address>,
}

/// The events that the bot says it decodes.
const DECODED: [&str; 10] = [
    "Transfer(address,address,uint256)",
    "Sync(uint112,uint112)",
    "Swap(address,uint256,uint256,uint256,uint256,address)",
    "Mint(address,uint256,uint256)",
    "Burn(address,uint256,uint256,address)",
    "PairCreated(address,address,address,uint256)",
    "Deposit(address,uint256)",
    "Withdrawal(address,uint256)",
    "AnswerUpdated(int256,uint256,uint256)",
    "AggregatorConfirmed(address,address)",
];

fn decoded_logs(block: &FakeBlock) -> Vec<&serde_json::Value> {
    let decoded = DECODED.map(|signature| serde_json::json!(keccak256(signature)));
    block.logs().into_iter().filter(|log| decoded.contains(&log["topics"][0])).collect()
}

impl Teller {
    pub(super) fn new(anchor: &FakeBlock) -> (Self, Told) {
        let heard = watch::Sender::default();
        let told = Told {
            heard: heard.clone(),
            chain: vec![(anchor.number(), anchor.hash())],
            next_seq: None,
            promised: Vec::new(),
            undone: BTreeSet::new(),
            assumed: None,
            totals: Totals::default(),
        };
        (Self(heard), told)
    }
}

impl EventHandler for Teller {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        self.0.send_modify(|heard| heard.take(envelope));
        Ok(())
    }
}

impl Heard {
    fn take(&mut self, envelope: &Envelope) {
        if envelope.derived.is_some() {
            return;
        }
        let seq = envelope.seq;
        match &envelope.event {
            BusEvent::NewBlock(BlockEvent { header, logs, grade, .. }) => {
                self.assumed_logs = (*grade == Grade::Assumed).then_some(logs.len());
                self.head = Some(AsOf { seq, number: header.number, hash: header.hash });
            }
            BusEvent::Reorg(_) => self.head = None,
            BusEvent::TokenJudged(judged) => {
                let refused = matches!(judged.verdict, TokenVerdict::Refused(_));
                self.tokens.entry(judged.token).or_insert((seq, refused));
            }
            BusEvent::PoolLoaded(loaded) => {
                self.pools.entry(loaded.pool).or_insert(seq);
            }
            _ => {}
        }
        self.events.push(envelope.clone());
    }

    /// Whether the last thing that was told of the chain is this block, with all its logs: if they are assumed, those that
    /// are decoded.
    pub(super) fn stands_on(&self, block: &FakeBlock) -> bool {
        let is_whole = self.assumed_logs.is_none_or(|logs| logs == decoded_logs(block).len());
        self.head.is_some_and(|head| head.hash == block.hash()) && is_whole
    }

    /// Of these tokens and pools those that nothing was learnt about yet.
    pub(super) fn unknown(&self, tokens: &BTreeSet<Address>, pools: &[V2Pair]) -> Vec<Address> {
        let tokens = tokens.iter().copied().filter(|token| !self.tokens.contains_key(token));
        let pools = pools.iter().map(|pool| pool.address).filter(|pool| !self.pools.contains_key(pool));
        tokens.chain(pools).collect()
    }
}

impl Learnt {
    /// Of what there is to know, what had been learnt.
    pub(super) fn known(&self, mut all: Known) -> Known {
        all.found.retain(|pair| self.pools.contains(&pair.address));
        all.refused = self.refused.clone();
        all.judged = self.judged.clone();
        all
    }
}

impl Told {
    pub(super) async fn until(&self, is_so: impl FnMut(&Heard) -> bool) {
        // It is owned here, so it cannot be gone.
        drop(self.heard.subscribe().wait_for(is_so).await);
    }

    pub(super) fn heard(&self) -> watch::Ref<'_, Heard> {
        self.heard.borrow()
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals.clone()
    }

    pub(super) fn learnt(&self) -> anyhow::Result<Learnt> {
        let heard = self.heard.borrow();
        let as_of = heard.head.context("no head")?;
        let before = |seq: u64| seq < as_of.seq;
        let judged = heard.tokens.iter().filter(|(_, (seq, _))| before(*seq));
        let refused = judged.clone().filter(|(_, (_, refused))| *refused);
        let pools = heard.pools.iter().filter(|(_, seq)| before(**seq));
        Ok(Learnt {
            as_of,
            refused: refused.map(|(token, _)| *token).collect(),
            judged: judged.map(|(token, _)| *token).collect(),
            pools: pools.map(|(pool, _)| *pool).collect(),
        })
    }

    /// Folds what was heard since the last time.
    pub(super) fn judge(&mut self, history: &History) -> anyhow::Result<()> {
        let mut events = Vec::new();
        self.heard.send_if_modified(|heard| {
            events = mem::take(&mut heard.events);
            false
        });
        for Envelope { seq, event, .. } in events {
            ensure!(
                self.next_seq.is_none_or(|next| next == seq),
                "event {seq} where {:?} was due",
                self.next_seq
            );
            self.next_seq = Some(seq + 1);
            match event {
                BusEvent::NewBlock(block) => self.block(&block, history)?,
                BusEvent::Reorg(reorg) => self.reorg(&reorg, history)?,
                BusEvent::SourceGap(gap) => self.gap(&gap)?,
                BusEvent::Reconnected(_) => bail!("it had to connect anew"),
                _ => {}
            }
        }
        Ok(())
    }

    /// A block stands on the one before, and is what the generator made, to the last log.
    fn block(&mut self, block: &BlockEvent, history: &History) -> anyhow::Result<()> {
        let (number, hash) = (block.header.number, block.header.hash);
        let made = history.all.get(&hash).with_context(|| format!("nobody made block {number} ({hash})"))?;
        let (below, parent) = *self.chain.last().context("the first block stays")?;
        ensure!(
            made.number() == number && number == below + 1 && made.parent_hash() == parent,
            "block {number} does not stand on {below} ({parent})"
        );
        ensure!(self.assumed != Some(false), "block {number} stands on one whose logs are not whole");
        self.assumed = None;
        let mut logs = made.logs();
        if block.grade == Grade::Assumed {
            self.totals.assumed += 1;
            let decoded = decoded_logs(made);
            self.assumed = Some(decoded.len() == block.logs.len());
            let indices: BTreeSet<u64> = block.logs.iter().map(|log| log.log_index.into()).collect();
            logs = decoded.into_iter().filter(|log| indices.contains(&quantity(&log["logIndex"]))).collect();
        }
        ensure!(
            logs.len() == block.logs.len(),
            "block {number} has {} logs, not {}",
            logs.len(),
            block.logs.len()
        );
        for (made, log) in logs.iter().zip(&block.logs) {
            let same = bytes(&made["address"]) == log.address.as_slice()
                && bytes(&made["data"]) == log.data
                && made["topics"] == serde_json::json!(log.topics.as_slice());
            ensure!(same, "block {number} has another log: {made} is {log:?}");
        }
        if !self.promised.is_empty() {
            let due = self.promised.remove(0);
            ensure!(due == number, "block {number} comes where a gap promised {due}");
        }
        self.chain.push((number, hash));
        self.totals.blocks += 1;
        self.totals.came_back += u64::from(self.undone.remove(&hash));
        Ok(())
    }

    /// It names all that stood above the block at which the branches part, and nothing else, newest first.
    fn reorg(&mut self, reorg: &ReorgEvent, history: &History) -> anyhow::Result<()> {
        ensure!(self.promised.is_empty(), "a gap is not filled before a reorganisation");
        let ancestor = (reorg.ancestor_number, reorg.ancestor_hash);
        let at = self.chain.iter().rposition(|block| *block == ancestor);
        let at = at.with_context(|| format!("{ancestor:?} is none of the chain"))?;
        let undone: Vec<B256> = self.chain.drain(at + 1..).rev().map(|(_, hash)| hash).collect();
        ensure!(undone == reorg.undone, "{undone:?} are undone, and not {:?}", reorg.undone);
        ensure!(undone.first() == Some(&reorg.old_head), "{} was not the head", reorg.old_head);
        if reorg.old_head == reorg.new_head {
            ensure!(self.assumed == Some(false), "{} is undone for nothing", reorg.old_head);
            self.assumed = None;
            self.totals.refuted += 1;
            return Ok(());
        }
        self.assumed = None;
        let parting = history.common_ancestor(reorg.old_head, reorg.new_head);
        let parting = parting.context("a head that nobody made")?;
        ensure!(
            (parting.number(), parting.hash()) == ancestor,
            "the branches part at {} ({}), and not at {ancestor:?}",
            parting.number(),
            parting.hash()
        );
        self.totals.depths.push(undone.len());
        self.undone.extend(undone);
        Ok(())
    }

    fn gap(&mut self, gap: &SourceGap) -> anyhow::Result<()> {
        let numbers: Vec<u64> = (gap.from..=gap.to).collect();
        ensure!(gap.filled == numbers.len() as u64 && self.promised.is_empty(), "not filled: {gap:?}");
        self.totals.unannounced += gap.filled;
        self.promised = numbers;
        Ok(())
    }
}
