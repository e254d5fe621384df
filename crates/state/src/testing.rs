//! Histories of source events for tests.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bloom, Bytes};
use headwater_abi::logs;
use headwater_bus::{Backlog, BacklogError, Image, Shelf};
use headwater_events::{
    BlockEvent, BusEvent, Difference, Envelope, Grade, Header, Log, MarketLoaded, PoolLoaded, PoolProof,
    PoolQuarantined, Protocol, ReorgEvent, RunId, TokenJudged, TokenVerdict,
};
use headwater_market::{MarketConfig, MarketSnapshot, ResolvedMarket};
use proptest::prelude::*;

use crate::world::WorldImage;

pub(crate) const GENESIS: B256 = B256::ZERO;

pub(crate) fn market() -> ResolvedMarket {
    let mut market =
        ResolvedMarket::resolve(&MarketConfig::default(), 1).expect("the preset supplies everything");
    // The pools of these tests have addresses that are easily read.
    market.factories.iter_mut().for_each(|factory| factory.init_code_hash = None);
    market
}

pub(crate) fn address(seed: u8) -> Address {
    Address::repeat_byte(seed)
}

fn word(low: &[u8]) -> B256 {
    B256::left_padding_from(low)
}

fn log(emitter: Address, topics: &[B256], data: [B256; 2]) -> Log {
    Log {
        address: emitter,
        topics: topics.iter().copied().collect(),
        data: Bytes::from(data.concat()),
        transaction_index: 0,
        log_index: 0,
    }
}

pub(crate) fn sync(pool: u8, amount: u128) -> Log {
    let data = [amount, 2 * amount].map(|amount| word(&amount.to_be_bytes()));
    log(address(pool), &[logs::SYNC], data)
}

pub(crate) fn created(factory: Address, pool: u8) -> Log {
    let topics = [logs::PAIR_CREATED, word(address(0xa0).as_slice()), word(address(0xa0 + pool).as_slice())];
    log(factory, &topics, [word(address(pool).as_slice()), B256::with_last_byte(1)])
}

pub(crate) fn loaded(pool: u8, amount: Option<u128>) -> PoolLoaded {
    PoolLoaded {
        pool: address(pool),
        factory: market().factories[0].address,
        protocol: Protocol::UniswapV2,
        token0: address(0xa0),
        token1: address(0xa0 + pool),
        fee_ppm: 3_000,
        reserves: amount.map(|amount| (amount, 2 * amount)),
        block_number: 0,
        block_hash: GENESIS,
        proof: PoolProof::FactoryAnswer,
    }
}

pub(crate) fn judged(token: u8, refused: bool) -> TokenJudged {
    let accepted = TokenVerdict::Accepted { decimals: 18, symbol: String::new() };
    let verdict = if refused { TokenVerdict::Refused("it lies".into()) } else { accepted };
    TokenJudged { token: address(token), verdict }
}

pub(crate) fn quarantined(pool: u8) -> PoolQuarantined {
    PoolQuarantined {
        pool: address(pool),
        protocol: Protocol::UniswapV2,
        number: 0,
        hash: GENESIS,
        difference: Difference::Gone,
        ours: "a pool".to_owned(),
        theirs: "nothing".to_owned(),
    }
}

/// Source events in order, on a chain that stands on the genesis.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) events: Vec<Arc<Envelope>>,
    /// The canonical hashes, the genesis first.
    chain: Vec<B256>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self { events: Vec::new(), chain: vec![GENESIS] }
    }

    pub(crate) fn add(&mut self, event: BusEvent) -> &mut Self {
        let seq = self.events.len() as u64 + 1;
        self.events.push(Arc::new(Envelope { run_id: RunId(0), seq, received_at: 0, derived: None, event }));
        self
    }

    /// A child of the head, unlike any block before.
    pub(crate) fn block(&mut self, logs: Vec<Log>) -> &mut Self {
        let parent_hash = *self.chain.last().expect("the genesis");
        let hash = word(&(self.events.len() as u64 + 1).to_be_bytes());
        let header = Header {
            number: self.chain.len() as u64,
            hash,
            parent_hash,
            timestamp: 12 * self.chain.len() as u64,
            base_fee_per_gas: Some(1_000_000_007),
            gas_used: 15_000_000 + self.events.len() as u64,
            gas_limit: 30_000_000,
            beneficiary: Address::ZERO,
            logs_bloom: Bloom::ZERO,
        };
        self.chain.push(hash);
        self.add(BusEvent::NewBlock(BlockEvent {
            header,
            transactions: Vec::new(),
            logs,
            grade: Grade::Assumed,
        }))
    }

    /// Undoes so many blocks, or all there are.
    pub(crate) fn reorg(&mut self, depth: usize) -> &mut Self {
        let depth = depth.min(self.chain.len() - 1);
        let old_head = *self.chain.last().expect("the genesis");
        let mut undone = self.chain.split_off(self.chain.len() - depth);
        undone.reverse();
        let ancestor_hash = *self.chain.last().expect("the genesis");
        let ancestor_number = self.chain.len() as u64 - 1;
        let new_head = B256::repeat_byte(0xff);
        self.add(BusEvent::Reorg(ReorgEvent { ancestor_number, ancestor_hash, undone, old_head, new_head }))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Block(Vec<Vec<Log>>),
    Reorg(usize),
    Loaded(u8),
    Judged(u8, bool),
    Quarantined(u8),
}

/// Pools that are loaded at the start.
pub(crate) const BULK: std::ops::Range<u8> = 1..4;
/// Pools that are proven by the node after they have traded.
const LAZY: std::ops::Range<u8> = 4..7;
/// Pools that their factory announces.
const CREATED: std::ops::Range<u8> = 7..10;
/// Contracts that only pretend.
const JUNK: std::ops::Range<u8> = 10..12;

fn any_logs() -> impl Strategy<Value = Vec<Log>> {
    let known = BULK.start..LAZY.end;
    let factory = market().factories[0].address;
    let one = |pools: std::ops::Range<u8>| (pools, 1u128..1_000_000);
    prop_oneof![
        6 => one(known).prop_map(|(pool, amount)| vec![sync(pool, amount)]),
        // A pair trades only after it was created.
        1 => one(CREATED).prop_map(move |(pool, amount)| vec![created(factory, pool), sync(pool, amount)]),
        1 => one(JUNK).prop_map(|(pool, amount)| vec![created(address(0xee), pool), sync(pool, amount)]),
    ]
}

/// A market of three pools, and what may happen to it within 200 events; with verdicts that keep pools from being quoted,
/// where there may be `refusals`.
pub(crate) fn any_history(refusals: bool) -> impl Strategy<Value = History> {
    let quarantines = u32::from(refusals);
    let step = prop_oneof![
        12 => prop::collection::vec(any_logs(), 0..5).prop_map(Step::Block),
        1 => prop_oneof![3 => 1usize..5, 1 => 5usize..=64].prop_map(Step::Reorg),
        1 => LAZY.prop_map(Step::Loaded),
        1 => (0xa0u8..0xac, Just(refusals).prop_flat_map(|possible| any::<bool>().prop_map(move |yes| yes && possible)))
            .prop_map(|(token, refused)| Step::Judged(token, refused)),
        quarantines => (BULK.start..CREATED.end).prop_map(Step::Quarantined),
    ];
    prop::collection::vec(step, 1..200).prop_map(|steps| {
        let mut history = History::new();
        for pool in BULK {
            history.add(BusEvent::PoolLoaded(loaded(pool, Some(1_000))));
        }
        let base = MarketLoaded { number: 0, hash: GENESIS, chain_id: 1, pools: 3 };
        history.add(BusEvent::MarketLoaded(base));
        // A reorganisation uses up undo records, which only further blocks bring back.
        let mut undoable = 0usize;
        for step in steps {
            match step {
                Step::Block(logs) => {
                    undoable = (undoable + 1).min(64);
                    history.block(logs.concat());
                }
                Step::Reorg(depth) => {
                    let depth = depth.min(undoable);
                    undoable -= depth;
                    history.reorg(depth);
                }
                Step::Loaded(pool) => {
                    history.add(BusEvent::PoolLoaded(loaded(pool, None)));
                }
                Step::Judged(token, refused) => {
                    history.add(BusEvent::TokenJudged(judged(token, refused)));
                }
                Step::Quarantined(pool) => {
                    history.add(BusEvent::PoolQuarantined(Box::new(quarantined(pool))));
                }
            }
        }
        history
    })
}

/// A snapshot as text, everything included.
pub(crate) fn seen(snapshot: &MarketSnapshot) -> String {
    let pools: Vec<_> =
        snapshot.pools.iter().map(|(id, meta, held)| (id, meta, held, snapshot.pools.quoted(id))).collect();
    let MarketSnapshot { as_of, parent, head, changes, concentrated_changes, .. } = snapshot;
    let concentrated = snapshot.concentrated.iter();
    let concentrated: Vec<_> = concentrated
        .map(|(id, meta, pool)| (id, meta, pool, snapshot.quoted_concentrated(id).is_some()))
        .collect();
    format!("{as_of:?} {parent:?} {head:?} {changes:?} {pools:#?} {concentrated_changes:?} {concentrated:#?}")
}

/// Images in memory, in any order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelved(pub(crate) Vec<Image<WorldImage>>);

impl Shelf<WorldImage> for Shelved {
    fn newest(&self, until: u64) -> Option<Image<WorldImage>> {
        let in_time = self.0.iter().filter(|image| image.as_of.seq <= until);
        in_time.max_by_key(|image| image.as_of.seq).cloned()
    }
}

/// The first so many events as a record.
#[derive(Clone, Debug)]
pub(crate) struct Recorded(pub(crate) Vec<Arc<Envelope>>);

impl Backlog for Recorded {
    fn read(&self, from: u64, limit: usize) -> Result<Vec<Arc<Envelope>>, BacklogError> {
        let oldest = self.0.first().map_or(from, |first| first.seq);
        if from < oldest {
            return Err(BacklogError::Gone { wanted: from, oldest });
        }
        // At most seven at once, so that a rebuild takes several reads.
        Ok(self.0.iter().filter(|envelope| envelope.seq >= from).take(limit.min(7)).cloned().collect())
    }
}
