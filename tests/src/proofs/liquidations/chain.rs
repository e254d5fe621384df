//! The contracts as a chain: their logs in blocks, and their answers as of the last one.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use alloy_primitives::{Address, B256, BlockHash, Bloom, Bytes, I256, Log, U256, keccak256};
use alloy_sol_types::{SolCall, SolEvent, SolValue, sol};
use anyhow::{Context, ensure};
use headwater_abi::aave;
use headwater_events::{BlockEvent, Grade, Header, LendingLoaded, ReorgEvent};
use headwater_reference::aave::contracts::{Pool, PoolV2};
use headwater_reference::aave::{Release, World};
use headwater_reference::evm::Message;
use headwater_state::{Answer, BlockPlace, LendingChain, LendingScan, LoadError, Question};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::venues::{Make, Venue};
use crate::proofs::lending::play::Turn;

sol! {
    interface Feed {
        event AnswerUpdated(int256 indexed current, uint256 indexed roundId, uint256 updatedAt);

        function aggregator() external view returns (address);
        function latestRoundData() external view returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound);
    }
}

/// Stands for the native currency, which is worth what the first asset is.
const NATIVE: usize = usize::MAX;

/// Which assets have a pool, by their places, of which make, and how deep it is on each side, in dollars. There is none of some
/// pairs, and none of the last asset at all.
const POOLS: [(usize, usize, Make, u64); 19] = [
    (0, 1, Make::V2, 9_000_000),
    (0, 1, Make::V2, 700_000),
    (0, 2, Make::V2, 4_000_000),
    (0, 3, Make::V2, 2_000_000),
    (1, 3, Make::V2, 300_000),
    (0, 4, Make::V2, 1_000_000),
    (2, 4, Make::V2, 20_000),
    (0, 1, Make::V3(500, 10), 800_000),
    (0, 1, Make::V3(3_000, 60), 2_000_000),
    (1, 2, Make::V3(3_000, 60), 500_000),
    (1, 3, Make::V3(500, 10), 1_000_000),
    (0, 4, Make::V3(3_000, 60), 100_000),
    (3, 4, Make::V3(10_000, 200), 400_000),
    (0, 2, Make::V4(450, 10), 600_000),
    (0, 2, Make::V4(3_000, 60), 90_000),
    (2, 3, Make::V4(3_000, 60), 300_000),
    (1, 4, Make::V4(12_345, 90), 200_000),
    (NATIVE, 1, Make::V4(500, 10), 700_000),
    (NATIVE, 3, Make::V4(450, 10), 700_000),
];

/// The blocks that are canonical, and the pools that collateral is sold in.
#[derive(Debug)]
pub(super) struct Chain {
    blocks: Vec<BlockEvent>,
    /// By block: the pools behind it.
    pools: Vec<Vec<Arc<Venue>>>,
    /// By block: what the sequencer's source said last.
    sequencer: Vec<(bool, u64)>,
    random: ChaCha8Rng,
    /// So that no two blocks are the same.
    made: u64,
    seed: u64,
}

impl Chain {
    /// The first block is that in which everything was deployed and opened.
    pub(super) fn open(world: &mut World, opened: &Turn, seed: u64) -> anyhow::Result<Self> {
        let random = ChaCha8Rng::seed_from_u64(seed ^ 0x51_4e_4b);
        let mut chain =
            Self { blocks: Vec::new(), pools: Vec::new(), sequencer: Vec::new(), random, made: 0, seed };
        let mut pools = Vec::new();
        for (number, (one, other, make, dollars)) in (0u8..).zip(POOLS) {
            pools.push(Arc::new(chain.pool(world, number, [one, other], make, dollars)?));
        }
        let sequencer = sequencer(world)?;
        let block = chain.header(world, opened.logs.clone());
        chain.push(block, pools, sequencer);
        Ok(chain)
    }

    /// What a turn did, as a block: the prices first, as whoever reports them is quick; then what users did, then what else
    /// was said; at last some pools have been traded in.
    pub(super) fn block(
        &mut self,
        world: &mut World,
        turn: &Turn,
        also: &[Log],
    ) -> anyhow::Result<BlockEvent> {
        let timestamp = world.evm.block().timestamp;
        let mut logs = Vec::new();
        for (source, price) in &turn.prices {
            let site = world.reserves.iter().find(|site| site.asset == *source).map(|site| site.aggregator);
            let own = world.category_source.filter(|(own, _)| own == source).map(|(_, feed)| feed);
            let feed = site.or(own).context("a price of nothing")?;
            logs.push(answered(feed, *price, timestamp)?);
        }
        logs.extend_from_slice(&turn.logs);
        logs.extend_from_slice(also);
        let (is_down, since) = sequencer(world)?;
        if self.sequencer.last() != Some(&(is_down, since)) {
            logs.push(answered(world.sequencer, U256::from(u8::from(is_down)), since)?);
        }
        let mut pools = self.pools.last().cloned().unwrap_or_default();
        for pool in &mut pools {
            if self.random.random_range(0..4) == 0 {
                let (changed, log) = pool.changed(&mut self.random);
                *pool = Arc::new(changed);
                logs.push(log);
            }
        }
        let block = self.header(world, logs);
        self.push(block.clone(), pools, (is_down, since));
        Ok(block)
    }

    /// Undoes the blocks above a height.
    pub(super) fn undo_to(&mut self, height: usize) -> anyhow::Result<ReorgEvent> {
        let old_head = self.head().hash;
        let undone: Vec<BlockHash> =
            self.blocks.drain(height..).map(|block| block.header.hash).rev().collect();
        self.pools.truncate(height);
        self.sequencer.truncate(height);
        ensure!(!undone.is_empty(), "nothing to undo");
        let ancestor = self.head();
        let (ancestor_number, ancestor_hash) = (ancestor.number, ancestor.hash);
        Ok(ReorgEvent { ancestor_number, ancestor_hash, undone, old_head, new_head: ancestor_hash })
    }

    /// How many blocks there are.
    pub(super) fn height(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn head(&self) -> &Header {
        &self.blocks.last().expect("a chain has a first block").header
    }

    /// As of the last block.
    pub(super) fn pools(&self) -> &[Arc<Venue>] {
        self.pools.last().map_or(&[], Vec::as_slice)
    }

    fn push(&mut self, block: BlockEvent, pools: Vec<Arc<Venue>>, sequencer: (bool, u64)) {
        self.blocks.push(block);
        self.pools.push(pools);
        self.sequencer.push(sequencer);
    }

    fn header(&mut self, world: &World, logs: Vec<Log>) -> BlockEvent {
        self.made += 1;
        let block = world.evm.block();
        let hash = keccak256(format!("block {} of {}", self.made, self.seed));
        let parent_hash = self.blocks.last().map_or(B256::ZERO, |below| below.header.hash);
        let logs = logs.into_iter().zip(0..).map(|(log, log_index)| headwater_events::Log {
            address: log.address,
            topics: log.topics().iter().copied().collect(),
            data: log.data.data,
            transaction_index: 0,
            log_index,
        });
        BlockEvent {
            header: Header {
                number: block.number,
                hash,
                parent_hash,
                timestamp: block.timestamp,
                base_fee_per_gas: Some(self.random.random_range(1..60) * 100_000_000),
                gas_used: self.random.random_range(0..30_000_000),
                gas_limit: 30_000_000,
                beneficiary: Address::ZERO,
                logs_bloom: Bloom::ZERO,
            },
            transactions: Vec::new(),
            logs: logs.collect(),
            grade: Grade::Proven,
        }
    }

    /// At the oracle's prices, give or take a percent.
    fn pool(
        &mut self,
        world: &mut World,
        number: u8,
        assets: [usize; 2],
        make: Make,
        dollars: u64,
    ) -> anyhow::Result<Venue> {
        let mut sides = Vec::new();
        for asset in assets {
            let is_native = asset == NATIVE;
            let site = world.reserves[if is_native { 0 } else { asset }];
            let dollars = dollars * self.random.random_range(990..1_010) / 1_000;
            let unit = U256::from(10).pow(U256::from(site.decimals));
            let held = U256::from(dollars) * world.dollar * unit / world.price(site.asset)?;
            let token = if is_native { Address::ZERO } else { site.asset };
            sides.push((token, u128::try_from(held)?));
        }
        sides.sort_unstable();
        let [one, other] = sides[..] else { unreachable!("two sides") };
        Ok(Venue::new(make, number, [one, other]))
    }
}

/// `AnswerUpdated`, as an aggregator emits it; the toys that the releases bring along are silent.
fn answered(feed: Address, answer: U256, updated_at: u64) -> anyhow::Result<Log> {
    let event = Feed::AnswerUpdated {
        current: I256::try_from(answer)?,
        roundId: U256::ONE,
        updatedAt: U256::from(updated_at),
    };
    Ok(Log { address: feed, data: event.encode_log_data() })
}

/// Whether it is down, and since when it is as it is; V2 knows of none.
pub(super) fn sequencer(world: &mut World) -> anyhow::Result<(bool, u64)> {
    if world.release == Release::V2 {
        return Ok((false, 0));
    }
    let round = world.evm.read(world.sequencer, &Feed::latestRoundDataCall {})?;
    // A real one says the same in both places.
    let since = match world.release {
        Release::V3_0 => round.updatedAt,
        Release::V2 | Release::V3_6 => round.startedAt,
    };
    Ok((!round.answer.is_zero(), u64::try_from(since)?))
}

/// What a node would learn: a load, asked of the contracts as of the chain's last block. The machine that runs them stays on
/// its thread, so that the questions come to it.
pub(super) fn load(
    world: &mut World,
    chain: &Chain,
    scan: &mut LendingScan,
) -> anyhow::Result<Result<LendingLoaded, LoadError>> {
    load_told(chain, scan, |question| answer(world, question))
}

/// The same of a pool that says that it is of another revision.
pub(super) fn load_as(
    revision: u64,
    world: &mut World,
    chain: &Chain,
    scan: &mut LendingScan,
) -> anyhow::Result<Result<LendingLoaded, LoadError>> {
    let (pool, selector) = match world.release {
        Release::V2 => (world.pool, PoolV2::LENDINGPOOL_REVISIONCall::SELECTOR),
        Release::V3_0 | Release::V3_6 => (world.pool, Pool::POOL_REVISIONCall::SELECTOR),
    };
    load_told(chain, scan, |question| match question.to == pool && question.data[..] == selector {
        true => Answer::Returned(U256::from(revision).abi_encode().into()),
        false => answer(world, question),
    })
}

fn load_told(
    chain: &Chain,
    scan: &mut LendingScan,
    mut answer: impl FnMut(&Question) -> Answer,
) -> anyhow::Result<Result<LendingLoaded, LoadError>> {
    let (asks, asked) = sync_channel(1);
    let told = Told { asks, chain };
    std::thread::scope(|scope| {
        let load = scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            anyhow::Ok(runtime.block_on(scan.load(&told, told.chain.head().hash)))
        });
        for (questions, answers) in asked {
            let said = questions.iter().map(&mut answer).collect();
            answers.send(said)?;
        }
        load.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
    })
}

type Asks = SyncSender<(Vec<Question>, SyncSender<Vec<Answer>>)>;

/// The chain as a node would tell of it.
struct Told<'a> {
    asks: Asks,
    chain: &'a Chain,
}

fn answer(world: &mut World, question: &Question) -> Answer {
    // The toys are proxy and aggregator in one, and do not say so.
    let mut feeds = world.reserves.iter().map(|site| site.aggregator);
    let of_category = world.category_source.is_some_and(|(_, aggregator)| aggregator == question.to);
    let is_price = of_category || feeds.any(|feed| feed == question.to);
    if question.data[..] == Feed::aggregatorCall::SELECTOR && (is_price || question.to == world.sequencer) {
        return Answer::Returned(question.to.abi_encode().into());
    }
    if question.data[..] == Feed::latestRoundDataCall::SELECTOR
        && is_price
        && let Ok(answer) = world.answer(question.to)
    {
        let round = (U256::ONE << 64) + U256::ONE;
        let words = [round, answer, U256::ONE, U256::ONE, round];
        return Answer::Returned(Bytes::from(words.map(|word| word.to_be_bytes::<32>()).concat()));
    }
    let (from, to, data) = (Address::ZERO, question.to, question.data.clone());
    match world.evm.call(&Message { from, to, value: U256::ZERO, data }) {
        Ok(receipt) => Answer::Returned(receipt.output),
        Err(failure) => Answer::Failed(failure.to_string()),
    }
}

impl LendingChain for Told<'_> {
    async fn place(&self, block: BlockHash) -> Result<BlockPlace, LoadError> {
        let head = self.chain.head();
        if head.hash != block {
            return Err(LoadError::BlockGone { block, reason: "not the head".to_owned() });
        }
        Ok(BlockPlace { number: head.number, timestamp: head.timestamp })
    }

    async fn ask(&self, block: BlockHash, questions: &[Question]) -> Result<Vec<Answer>, LoadError> {
        let (answers, answered) = sync_channel(1);
        let gone = |_| LoadError::BlockGone { block, reason: "nobody answers".to_owned() };
        self.asks.send((questions.to_vec(), answers)).map_err(|_| gone(()))?;
        answered.recv().map_err(|_| gone(()))
    }

    async fn holders(
        &self,
        tokens: &[Address],
        from: u64,
        to: u64,
    ) -> Result<Vec<(Address, Address)>, LoadError> {
        let blocks = self.chain.blocks.iter().filter(|block| (from..=to).contains(&block.header.number));
        let logs = blocks.flat_map(|block| &block.logs);
        let logs = logs.filter(|log| {
            tokens.contains(&log.address)
                && log.topics.first().is_some_and(|topic| aave::HOLDERS.contains(topic))
        });
        let holders = logs.flat_map(|log| aave::holders(&log.topics).map(|account| (log.address, account)));
        Ok(holders.collect())
    }

    async fn ensure_canonical(&self, block: BlockHash, _number: u64) -> Result<(), LoadError> {
        self.place(block).await.map(drop)
    }
}
