//! A pool as the bot follows it: by its own logs, decoded, block by block.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bloom, keccak256};
use anyhow::{Context, ensure};
use headwater_amm::ConcentratedPool;
use headwater_events::{
    BlockEvent, BusEvent, ConcentratedLoaded, Envelope, Grade, Header, Log, MarketLoaded, PoolProof,
    Protocol, RunId,
};
use headwater_market::{FactoryConfig, MarketConfig, Preset, ResolvedMarket};
use headwater_reference::pools::{Origin, PoolV3, State};
use headwater_state::World;

use super::world::Place;

const CHAIN_ID: u64 = 1;

/// The factory that is configured; the pools derive from their deployer.
const FACTORY: Address = Address::repeat_byte(0xfc);

pub(super) struct Book {
    world: World,
    pool: Address,
    seq: u64,
    head: (u64, B256),
    followed: Option<Arc<ConcentratedPool>>,
}

impl Book {
    /// Knows of a pool that nobody has given a price yet.
    pub(super) fn of(real: &PoolV3, place: &Place) -> anyhow::Result<Self> {
        let Origin { pool, deployer, code_hash, tokens: [token0, token1] } = real.origin();
        let factory = FactoryConfig {
            protocol: Protocol::UniswapV3,
            name: None,
            address: FACTORY.to_string(),
            init_code_hash: Some(code_hash.to_string()),
            fee_ppm: 3_000,
            deployer: Some(deployer.to_string()),
        };
        let config = MarketConfig {
            preset: Some(Preset::None),
            factories: vec![factory],
            wrapped_native: Some(token0.to_string()),
            base_tokens: Some(vec![token0.to_string()]),
            ..MarketConfig::default()
        };
        let market = ResolvedMarket::resolve(&config, CHAIN_ID)?;
        let head = (1, B256::repeat_byte(1));
        let mut book = Self { world: World::new(&market), pool, seq: 0, head, followed: None };
        let (number, hash) = head;
        book.take(BusEvent::ConcentratedLoaded(ConcentratedLoaded {
            pool,
            factory: FACTORY,
            protocol: Protocol::UniswapV3,
            token0,
            token1,
            fee: place.fee,
            tick_spacing: place.spacing,
            number,
            hash,
            proof: PoolProof::Create2 { init_code_hash: code_hash },
            state: None,
        }))?;
        book.take(BusEvent::MarketLoaded(MarketLoaded { number, hash, chain_id: CHAIN_ID, pools: 0 }))?;
        Ok(book)
    }

    /// The next block has what the pool has logged meanwhile, and behind it the pool stands where its contract does. How many logs those
    /// were; without any there is no block.
    pub(super) fn follow(&mut self, real: &mut PoolV3) -> anyhow::Result<u64> {
        let logs = (0..).zip(real.take_logs()).map(|(index, log)| Log {
            address: log.address,
            topics: log.topics().iter().copied().collect(),
            data: log.data.data,
            transaction_index: index,
            log_index: index,
        });
        let logs: Vec<Log> = logs.collect();
        if logs.is_empty() {
            return Ok(0);
        }
        let count = logs.len() as u64;
        let (number, parent_hash) = (self.head.0 + 1, self.head.1);
        let hash = keccak256(parent_hash);
        self.head = (number, hash);
        let header = Header {
            number,
            hash,
            parent_hash,
            timestamp: 1_700_000_000 + 12 * number,
            base_fee_per_gas: Some(1_000_000_000),
            gas_used: 15_000_000,
            gas_limit: 30_000_000,
            beneficiary: Address::ZERO,
            logs_bloom: Bloom::ZERO,
        };
        let block = BlockEvent { header, transactions: Vec::new(), logs, grade: Grade::Matched };
        self.take(BusEvent::NewBlock(block))?;
        let pool = self.pool()?;
        let price = pool.price().context("a pool that has a price")?;
        let found = State { sqrt_price: price.sqrt_price, tick: price.tick, liquidity: pool.liquidity() };
        ensure!(found == real.state(), "the book has {found:?}, and the contract {:?}", real.state());
        Ok(count)
    }

    /// The pool as of the last block.
    pub(super) fn pool(&self) -> anyhow::Result<&ConcentratedPool> {
        self.followed.as_deref().context("the pool is not followed")
    }

    fn take(&mut self, event: BusEvent) -> anyhow::Result<()> {
        self.seq += 1;
        let envelope = Envelope { run_id: RunId(1), seq: self.seq, received_at: 0, derived: None, event };
        if let Some(applied) = self.world.apply(&envelope)? {
            let pools = &applied.snapshot.concentrated;
            self.followed = pools.find(&self.pool).and_then(|id| pools.pool(id)).map(Arc::clone);
        }
        self.world.settle();
        Ok(())
    }
}
