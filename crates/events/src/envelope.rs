use std::borrow::Cow;
use std::fmt;

use alloy_primitives::{B256, BlockHash, BlockNumber};
use serde::{Deserialize, Serialize};

use crate::{
    BlockEvent, ConcentratedLoaded, FeedResolved, HealthEvent, LendingLoaded, LiquidityEvent, MarketLoaded,
    MarketResynced, Opportunity, Outcome, PendingEffect, PendingTxEvent, PoolLoaded, PoolQuarantined,
    PriceEvent, Reconnected, ReorgEvent, SourceGap, TokenJudged, V4Loaded, V4Quarantined,
};

/// Everything that can be said on the bus. Matched exhaustively, so that a new variant is considered everywhere.
///
/// Facts that can be undone stay facts: a block that is reorganised away is followed by a [`ReorgEvent`] that names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BusEvent {
    /// A canonical block, its transactions and all its logs.
    NewBlock(BlockEvent),
    /// A transaction seen in the mempool. Travels on the mempool's own broadcast and is never journaled; what was found on is, as
    /// [`BusEvent::PendingEffect`].
    NewPendingTx(PendingTxEvent),
    /// Blocks that were canonical and no longer are.
    Reorg(ReorgEvent),
    /// Blocks that the node did not announce, and what was done about it.
    SourceGap(SourceGap),
    /// The connection to the node was made anew.
    Reconnected(Reconnected),
    /// A pool whose factory proved it.
    PoolLoaded(PoolLoaded),
    /// What was learnt about a token.
    TokenJudged(TokenJudged),
    /// The initial load of the market is complete as of a block.
    MarketLoaded(MarketLoaded),
    /// A price changed (derived).
    PriceUpdate(PriceEvent),
    /// The reserves of a pool changed (derived).
    LiquidityChange(LiquidityEvent),
    /// A detector found something (derived).
    OpportunityFound(Opportunity),
    /// What became of a finding (derived).
    OutcomeRecorded(Outcome),
    /// A component changed its health (derived).
    HealthCheck(HealthEvent),
    /// The process is about to stop (derived).
    Shutdown,
    /// The reserves of the tracked pools were asked anew, after the market was lost.
    MarketResynced(MarketResynced),
    /// A Chainlink feed was asked what it reads from and what it says.
    FeedResolved(FeedResolved),
    /// A pool with concentrated liquidity was read, whose factory proved it.
    ConcentratedLoaded(ConcentratedLoaded),
    /// A lending pool was asked for all that it is. Boxed, because it is rare and large.
    LendingLoaded(Box<LendingLoaded>),
    /// A pool of Uniswap V4 was read.
    V4Loaded(V4Loaded),
    /// A followed pool is not what the node says that it is. Boxed, because it is rare and large.
    PoolQuarantined(Box<PoolQuarantined>),
    /// The same of a pool of Uniswap V4.
    V4Quarantined(Box<V4Quarantined>),
    /// What a pending transaction would do to the tracked pools, where something was found behind it. Boxed, because it is rare and
    /// large.
    PendingEffect(Box<PendingEffect>),
}

impl BusEvent {
    /// Whether the event is a source event: sequenced, journaled and replayed.
    pub fn is_source(&self) -> bool {
        match self {
            Self::NewBlock(_)
            | Self::Reorg(_)
            | Self::SourceGap(_)
            | Self::Reconnected(_)
            | Self::PoolLoaded(_)
            | Self::TokenJudged(_)
            | Self::MarketLoaded(_)
            | Self::MarketResynced(_)
            | Self::FeedResolved(_)
            | Self::ConcentratedLoaded(_)
            | Self::LendingLoaded(_)
            | Self::V4Loaded(_)
            | Self::PoolQuarantined(_)
            | Self::V4Quarantined(_)
            | Self::PendingEffect(_) => true,
            Self::NewPendingTx(_)
            | Self::PriceUpdate(_)
            | Self::LiquidityChange(_)
            | Self::OpportunityFound(_)
            | Self::OutcomeRecorded(_)
            | Self::HealthCheck(_)
            | Self::Shutdown => false,
        }
    }

    /// The name of the variant, as logs, counters and dashboards write it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NewBlock(_) => "new_block",
            Self::NewPendingTx(_) => "new_pending_tx",
            Self::Reorg(_) => "reorg",
            Self::SourceGap(_) => "source_gap",
            Self::Reconnected(_) => "reconnected",
            Self::PoolLoaded(_) => "pool_loaded",
            Self::TokenJudged(_) => "token_judged",
            Self::MarketLoaded(_) => "market_loaded",
            Self::PriceUpdate(_) => "price_update",
            Self::LiquidityChange(_) => "liquidity_change",
            Self::OpportunityFound(_) => "opportunity_found",
            Self::OutcomeRecorded(_) => "outcome_recorded",
            Self::HealthCheck(_) => "health_check",
            Self::Shutdown => "shutdown",
            Self::MarketResynced(_) => "market_resynced",
            Self::FeedResolved(_) => "feed_resolved",
            Self::ConcentratedLoaded(_) => "concentrated_loaded",
            Self::LendingLoaded(_) => "lending_loaded",
            Self::V4Loaded(_) => "v4_loaded",
            Self::PoolQuarantined(_) => "pool_quarantined",
            Self::V4Quarantined(_) => "v4_quarantined",
            Self::PendingEffect(_) => "pending_effect",
        }
    }

    /// Approximate size in memory, in bytes, as it travels: in its shared envelope, with all that it holds on the heap. It
    /// is what bounds the ring.
    pub fn weight(&self) -> usize {
        SHARED + self.on_heap()
    }

    fn on_heap(&self) -> usize {
        match self {
            Self::NewBlock(block) => block.on_heap(),
            Self::NewPendingTx(pending) => pending.transaction.on_heap(),
            Self::Reorg(reorg) => of_vec(&reorg.undone),
            Self::TokenJudged(judged) => judged.verdict.on_heap(),
            Self::MarketResynced(resynced) => of_vec(&resynced.reserves),
            Self::FeedResolved(resolved) => resolved.verdict.on_heap(),
            Self::ConcentratedLoaded(loaded) => loaded.on_heap(),
            Self::LendingLoaded(loaded) => size_of::<LendingLoaded>() + loaded.on_heap(),
            Self::V4Loaded(loaded) => loaded.on_heap(),
            Self::PoolQuarantined(pool) => {
                size_of::<PoolQuarantined>() + pool.ours.capacity() + pool.theirs.capacity()
            }
            Self::V4Quarantined(pool) => {
                size_of::<V4Quarantined>() + pool.ours.capacity() + pool.theirs.capacity()
            }
            Self::PendingEffect(effect) => size_of::<PendingEffect>() + effect.on_heap(),
            Self::OpportunityFound(found) => found.on_heap(),
            Self::OutcomeRecorded(outcome) => outcome.on_heap(),
            Self::HealthCheck(check) => of_origin(&check.component) + check.health.on_heap(),
            Self::SourceGap(_)
            | Self::Reconnected(_)
            | Self::PoolLoaded(_)
            | Self::MarketLoaded(_)
            | Self::PriceUpdate(_)
            | Self::LiquidityChange(_)
            | Self::Shutdown => 0,
        }
    }
}

/// Bytes of an event that holds nothing on the heap: in its envelope, beside the two counters of its owners, and in its
/// place in the ring.
const SHARED: usize = size_of::<Envelope>() + 2 * size_of::<usize>() + size_of::<usize>();

/// Bytes of a vector on the heap, room for more included.
pub(crate) fn of_vec<T>(vector: &Vec<T>) -> usize {
    vector.capacity() * size_of::<T>()
}

/// Bytes of a name on the heap.
pub(crate) fn of_origin(origin: &Origin) -> usize {
    match origin {
        Cow::Borrowed(_) => 0,
        Cow::Owned(name) => name.capacity(),
    }
}

/// An event as it travels: shared by `Arc`, never cloned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The run that published the event. A replay is a run of its own.
    pub run_id: RunId,
    /// For a source event its place in the sequence, from 1 without holes; for a derived event the source event that
    /// caused it.
    pub seq: u64,
    /// Wall-clock time of publication in nanoseconds since the Unix epoch. Never reaches a result.
    pub received_at: u64,
    /// Who derived the event and its place among what that origin derived from the same cause; `None` for a source
    /// event.
    pub derived: Option<(Origin, u32)>,
    /// The event itself.
    pub event: BusEvent,
}

/// The component that a derived event comes from.
pub type Origin = Cow<'static, str>;

/// Tells one run of the process from another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunId({self})")
    }
}

/// The block that something derived is true for.
///
/// Two are the same moment of the chain when their hashes and the sequence numbers agree: the number repeats in a reorg, and
/// a block that was undone can come again, with more that is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AsOf {
    /// Sequence number of the `NewBlock` event.
    pub seq: u64,
    /// Height of the block.
    pub number: BlockNumber,
    /// Hash of the block: what identifies it.
    pub hash: BlockHash,
}

impl AsOf {
    /// Before any block was seen.
    pub const GENESIS: Self = Self { seq: 0, number: 0, hash: B256::ZERO };

    /// Whether both speak of the same block, as it was published the same time.
    pub fn same_block(&self, other: &Self) -> bool {
        self.hash == other.hash && self.seq == other.seq
    }
}

impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.number, self.hash)
    }
}

/// Something that is true as of a block.
pub trait Snapshot: Send + Sync + 'static {
    /// The block.
    fn as_of(&self) -> AsOf;
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, Bytes, U256};

    use super::*;
    use crate::{
        BlockEvent, ConcentratedState, Grade, Header, Kind, LendingAccount, LendingContracts, LendingHolding,
        LendingPrice, LendingReserve, LiquidationPlan, LoadedTick, Log, OpportunityId, Plan, PoolProof,
        Protocol, Refusal, SaleStep, SwapStep, Transaction, Verdict,
    };

    fn check(event: BusEvent, on_heap: usize) {
        assert_eq!(event.weight(), BusEvent::Shutdown.weight() + on_heap, "{}", event.name());
    }

    /// A word of so many bytes.
    fn word(length: usize) -> String {
        let mut word = String::with_capacity(length);
        word.extend(std::iter::repeat_n('a', length));
        word
    }

    fn finding(hops: usize) -> Opportunity {
        let step = || SwapStep {
            pool: Address::ZERO,
            token_in: Address::ZERO,
            token_out: Address::ZERO,
            amount_in: U256::ZERO,
            amount_out: U256::ZERO,
        };
        Opportunity {
            kind: Kind::Custom(word(7)),
            as_of: AsOf::GENESIS,
            path: vec![Address::ZERO; hops],
            tokens: vec![Address::ZERO; hops + 1],
            amount_in: U256::ZERO,
            amount_out: U256::ZERO,
            profit: U256::ZERO,
            gas: 0,
            net_profit_wei: None,
            valid_until: 0,
            plan: Plan::Swaps(std::iter::repeat_with(step).take(hops).collect()),
        }
    }

    #[test]
    fn an_event_that_holds_nothing_weighs_its_envelope() {
        assert!(BusEvent::Shutdown.weight() > size_of::<Envelope>());
    }

    #[test]
    fn a_finding_weighs_its_path_its_tokens_and_its_plan() {
        let on_heap = |hops: usize| 20 * (2 * hops + 1) + hops * size_of::<SwapStep>() + 7;
        check(BusEvent::OpportunityFound(finding(0)), 20 + 7);
        check(BusEvent::OpportunityFound(finding(3)), on_heap(3));
    }

    #[test]
    fn a_liquidation_weighs_its_plan_and_a_loaded_pool_all_that_it_is() {
        let Plan::Swaps(swaps) = finding(2).plan else { panic!("swaps") };
        let sold = |swap: SwapStep| SaleStep { step: swap.into(), price_impact_ppm: 0 };
        let sale = swaps.into_iter().map(sold).collect();
        let plan = LiquidationPlan {
            protocol: word(5),
            pool: Address::ZERO,
            borrower: Address::ZERO,
            collateral: Address::ZERO,
            debt: Address::ZERO,
            debt_to_cover: U256::ZERO,
            repay: U256::ZERO,
            seize: U256::ZERO,
            health_factor: U256::ZERO,
            sale,
            unsearched: 0,
        };
        let found = Opportunity { plan: Plan::Liquidate(Box::new(plan)), ..finding(0) };
        let on_heap = size_of::<LiquidationPlan>() + 5 + 2 * size_of::<SaleStep>();
        check(BusEvent::OpportunityFound(found), 20 + 7 + on_heap);

        let contracts =
            LendingContracts { provider: Address::ZERO, configurator: Address::ZERO, oracle: Address::ZERO };
        let account = |holdings| LendingAccount {
            account: Address::ZERO,
            e_mode: 0,
            holdings: Vec::with_capacity(holdings),
        };
        let loaded = LendingLoaded {
            pool: Address::ZERO,
            number: 1,
            hash: B256::ZERO,
            protocol: crate::LendingProtocol::AaveV3,
            revision: 10,
            paused: false,
            contracts,
            sequencer: None,
            reserves: Vec::with_capacity(2),
            stable_supplies: Vec::new(),
            categories: Vec::new(),
            prices: Vec::with_capacity(3),
            accounts: vec![account(4), account(1)],
        };
        let reserves = 2 * size_of::<LendingReserve>() + 3 * size_of::<LendingPrice>();
        let accounts = 2 * size_of::<LendingAccount>() + 5 * size_of::<LendingHolding>();
        let on_heap = size_of::<LendingLoaded>() + reserves + accounts;
        check(BusEvent::LendingLoaded(Box::new(loaded)), on_heap);
    }

    #[test]
    fn an_outcome_weighs_its_reason_and_a_name_of_its_own() {
        let outcome = |detector: Origin, verdict| {
            let opportunity = OpportunityId { as_of: AsOf::GENESIS, detector, index: 0 };
            BusEvent::OutcomeRecorded(Outcome { opportunity, verdict, simulated: None })
        };
        check(outcome("arbitrage".into(), Verdict::WouldSend), 0);
        check(outcome(word(9).into(), Verdict::Refused(Refusal::Reverted(word(1_000)))), 1_009);
    }

    #[test]
    fn a_pool_that_was_read_weighs_its_ticks_and_the_room_behind_them() {
        let loaded = |state| {
            BusEvent::ConcentratedLoaded(ConcentratedLoaded {
                pool: Address::ZERO,
                factory: Address::ZERO,
                protocol: Protocol::UniswapV3,
                token0: Address::ZERO,
                token1: Address::ZERO,
                fee: 0,
                tick_spacing: 1,
                number: 0,
                hash: B256::ZERO,
                proof: PoolProof::FactoryAnswer,
                state,
            })
        };
        check(loaded(None), 0);
        let (sqrt_price, ticks) = (U256::ZERO, Vec::with_capacity(9));
        let state = ConcentratedState { sqrt_price, tick: 0, liquidity: 0, ticks };
        check(loaded(Some(state)), 9 * size_of::<LoadedTick>());
    }

    #[test]
    fn a_block_weighs_its_calldata_its_logs_and_the_room_behind_them() {
        let header = Header {
            number: 1,
            hash: B256::ZERO,
            parent_hash: B256::ZERO,
            timestamp: 0,
            base_fee_per_gas: None,
            gas_used: 0,
            gas_limit: 0,
            beneficiary: Address::ZERO,
            logs_bloom: Default::default(),
        };
        let data = Bytes::from_static(&[0; 64]);
        let log = Log {
            address: Address::ZERO,
            topics: Default::default(),
            data: data.clone(),
            transaction_index: 0,
            log_index: 0,
        };
        let transaction = Transaction {
            hash: B256::ZERO,
            from: Address::ZERO,
            to: None,
            value: U256::ZERO,
            input: data,
            nonce: 0,
            gas_limit: 0,
        };
        let mut logs = Vec::with_capacity(5);
        logs.extend([log.clone(), log]);
        let block = BlockEvent { header, transactions: vec![transaction], logs, grade: Grade::Matched };
        check(BusEvent::NewBlock(block), size_of::<Transaction>() + 64 + 5 * size_of::<Log>() + 2 * 64);
    }
}
