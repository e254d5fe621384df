//! Somebody who follows the chain behind the load: state, oracle and detector over the same events.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bloom, U256, keccak256};
use anyhow::Context;
use headwater_detectors::{Arbitrage, ArbitrageConfig, Detector};
use headwater_events::{
    BlockEvent, BusEvent, DecodedBlock, Envelope, Grade, Header, Log, Opportunity, RunId,
};
use headwater_market::{MarketSnapshot, PriceSnapshot, ResolvedMarket, Touched, WholeView};
use headwater_oracle::{Oracle, OracleConfig};
use headwater_reference::fake_node::{V2Pair, sync_topic};
use headwater_state::{AppliedBlock, World};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Seconds since the Unix epoch at the block of the load.
pub(super) const BEGINNING: u64 = 1_700_000_000;

/// Parts per million by which a price may lie from its average.
const AVERAGE_PPM: u32 = 50_000;

/// Every cycle that gains, whatever it is worth.
pub(super) const RESEARCH: Mode = Mode { profit_after_gas: false, limits: Limits::WithAverage };
/// What would be acted upon.
pub(super) const ACTING: Mode = Mode { profit_after_gas: true, limits: Limits::WithAverage };
/// The same two where nothing is configured.
pub(super) const BY_DEFAULT: [Mode; 2] = [
    Mode { profit_after_gas: false, limits: Limits::Default },
    Mode { profit_after_gas: true, limits: Limits::Default },
];

pub(super) struct Mode {
    profit_after_gas: bool,
    limits: Limits,
}

/// What the prices of pools are held to.
#[derive(Clone, Copy)]
enum Limits {
    /// `max_average_deviation_ppm` is configured as well.
    WithAverage,
    /// Feeds alone.
    Default,
}

pub(super) struct Follower {
    pub(super) world: World,
    oracle: Oracle,
    /// One that nobody has configured.
    default_oracle: Oracle,
    bases: Vec<Address>,
    head: (u64, B256),
    pub(super) timestamp: u64,
    seq: u64,
}

/// Everything as of a block.
pub(super) struct Followed {
    pub(super) applied: AppliedBlock,
    pub(super) prices: Arc<PriceSnapshot>,
    default_prices: Arc<PriceSnapshot>,
    bases: Vec<Address>,
}

impl Follower {
    pub(super) fn new(market: &ResolvedMarket, head: (u64, B256)) -> Self {
        let config = OracleConfig { max_average_deviation_ppm: AVERAGE_PPM, ..OracleConfig::default() };
        let (world, oracle) = (World::new(market), Oracle::new(market, &config));
        let default_oracle = Oracle::new(market, &OracleConfig::default());
        let bases = market.base_tokens.clone();
        Self { world, oracle, default_oracle, bases, head, timestamp: BEGINNING, seq: 0 }
    }

    /// Bytes of what state and oracle would save now, undo records included.
    pub(super) fn saved(&self) -> anyhow::Result<[usize; 2]> {
        Ok([serde_json::to_vec(&self.world.image())?.len(), serde_json::to_vec(&self.oracle.image())?.len()])
    }

    pub(super) fn take(&mut self, event: BusEvent) -> anyhow::Result<Option<Followed>> {
        self.seq += 1;
        let envelope = Envelope { run_id: RunId(1), seq: self.seq, received_at: 0, derived: None, event };
        let (applied, priced) = (self.world.apply(&envelope)?, self.oracle.apply(&envelope)?);
        let by_default = self.default_oracle.apply(&envelope)?;
        self.world.settle();
        self.oracle.settle();
        self.default_oracle.settle();
        let Some(((applied, priced), by_default)) = applied.zip(priced).zip(by_default) else {
            return Ok(None);
        };
        let (prices, default_prices) = (priced.snapshot, by_default.snapshot);
        Ok(Some(Followed { applied, prices, default_prices, bases: self.bases.clone() }))
    }

    pub(super) fn block(
        &mut self,
        random: &mut ChaCha8Rng,
        seconds: u64,
        logs: Vec<Log>,
    ) -> anyhow::Result<Followed> {
        let (number, parent_hash) = (self.head.0 + 1, self.head.1);
        let hash = B256::from(random.random::<[u8; 32]>());
        self.timestamp += seconds;
        let header = Header {
            number,
            hash,
            parent_hash,
            timestamp: self.timestamp,
            base_fee_per_gas: Some(1_000_000_000),
            gas_used: 15_000_000,
            gas_limit: 30_000_000,
            beneficiary: Address::ZERO,
            logs_bloom: Bloom::ZERO,
        };
        self.head = (number, hash);
        let block = BlockEvent { header, transactions: Vec::new(), logs, grade: Grade::Matched };
        self.take(BusEvent::NewBlock(block))?.context("a block gives a snapshot")
    }
}

impl Followed {
    pub(super) fn market(&self) -> &MarketSnapshot {
        &self.applied.snapshot
    }

    pub(super) fn is_quoted(&self, pool: Address) -> bool {
        let pools = &self.market().pools;
        pools.find(&pool).is_some_and(|id| pools.quoted(id).is_some())
    }

    /// What the detector of cycles finds.
    pub(super) fn findings(&self, mode: &Mode) -> anyhow::Result<Vec<Opportunity>> {
        let as_of = self.market().as_of;
        let decoded = DecodedBlock {
            as_of,
            actions: Vec::new(),
            unknown_logs: 0,
            unknown_calls: 0,
            malformed: 0,
            set_aside: false,
        };
        let prices = match mode.limits {
            Limits::WithAverage => &self.prices,
            Limits::Default => &self.default_prices,
        };
        let (market, prices) = (Arc::clone(&self.applied.snapshot), Arc::clone(prices));
        let view = WholeView::new(market, prices, Arc::new(decoded), Touched::All)?;
        let config =
            ArbitrageConfig { profit_after_gas: mode.profit_after_gas, ..ArbitrageConfig::default() };
        Ok(Arbitrage::new(config, self.bases.clone()).evaluate(&view))
    }
}

/// `Sync` with these words, of whomever.
pub(super) fn sync(pool: Address, words: [U256; 2]) -> Log {
    log(pool, vec![sync_topic()], &words)
}

pub(super) fn sync_of(pool: &V2Pair) -> Log {
    sync(pool.address, [pool.reserve0, pool.reserve1].map(U256::from))
}

pub(super) fn pair_created(pool: &V2Pair) -> Log {
    let topic = keccak256("PairCreated(address,address,address,uint256)");
    let topics = vec![topic, pool.token0.into_word(), pool.token1.into_word()];
    log(pool.factory, topics, &[word(pool.address), U256::ONE])
}

pub(super) fn answer_updated(aggregator: Address, answer: u128, round: u64, at: u64) -> Log {
    let topic = keccak256("AnswerUpdated(int256,uint256,uint256)");
    let topics = vec![topic, U256::from(answer).into(), U256::from(round).into()];
    log(aggregator, topics, &[U256::from(at)])
}

pub(super) fn word(address: Address) -> U256 {
    U256::from_be_bytes(address.into_word().0)
}

pub(super) fn log(address: Address, topics: Vec<B256>, words: &[U256]) -> Log {
    let data: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes::<32>()).collect();
    let topics = topics.into_iter().collect();
    Log { address, topics, data: data.into(), transaction_index: 0, log_index: 0 }
}
