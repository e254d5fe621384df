use alloy_primitives::{Address, B256, BlockHash, BlockNumber, U256};
use serde::{Deserialize, Serialize};

use crate::envelope::of_vec;
use crate::{AsOf, PendingTxEvent};

/// The mathematics that a pool follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Constant product of two reserves, as Uniswap V2 and its forks compute it.
    UniswapV2,
    /// Concentrated liquidity between ticks, as Uniswap V3 computes it.
    UniswapV3,
    /// The same as Uniswap V4 computes it, without hooks.
    UniswapV4,
}

/// A pool that its factory proved to be its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolLoaded {
    /// The pool.
    pub pool: Address,
    /// The configured factory that it belongs to.
    pub factory: Address,
    /// What it computes.
    pub protocol: Protocol,
    /// The token with the lower address.
    pub token0: Address,
    /// The token with the higher address.
    pub token1: Address,
    /// Fee in parts per million of the input.
    pub fee_ppm: u32,
    /// Reserves of both tokens as of `block_hash`; absent where the pool was discovered by its own `Sync`, which has
    /// already told them.
    pub reserves: Option<(u128, u128)>,
    /// The block that the answers are true for.
    pub block_number: BlockNumber,
    /// Hash of that block.
    pub block_hash: BlockHash,
    /// Why it is believed.
    pub proof: PoolProof,
}

/// A pool with concentrated liquidity that its factory proved to be its own, as of a block. It holds from there on: what later
/// blocks say comes on top.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConcentratedLoaded {
    /// The pool.
    pub pool: Address,
    /// The configured factory that it belongs to.
    pub factory: Address,
    /// What it computes.
    pub protocol: Protocol,
    /// The token with the lower address.
    pub token0: Address,
    /// The token with the higher address.
    pub token1: Address,
    /// Fee in hundredths of a basis point of the input.
    pub fee: u32,
    /// Ticks that may be initialised are multiples of it.
    pub tick_spacing: i32,
    /// Height of the block that the answers are true for.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: BlockHash,
    /// Why it is believed.
    pub proof: PoolProof,
    /// Where it stands; absent where nobody has initialised it.
    pub state: Option<ConcentratedState>,
}

/// Where a pool with concentrated liquidity stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConcentratedState {
    /// The square root of token 1 per token 0, in smallest units, with 96 bits after the point.
    pub sqrt_price: U256,
    /// As the contract stores it.
    pub tick: i32,
    /// Of the range that the price is in.
    pub liquidity: u128,
    /// Every initialised tick, upwards.
    pub ticks: Vec<LoadedTick>,
}

/// An initialised tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedTick {
    /// A multiple of the tick spacing.
    pub index: i32,
    /// What is added to the liquidity when the price crosses upwards.
    pub liquidity_net: i128,
    /// The sum of the positions that end here; above zero.
    pub liquidity_gross: u128,
}

/// What a pending transaction would do to the tracked pools as the first of the block behind a known one. It was told by the node's
/// state, and something was found behind it: so a replay finds it again, and asks nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingEffect {
    /// The block that it comes behind.
    pub behind: AsOf,
    /// The transaction.
    pub pending: PendingTxEvent,
    /// The pairs that it changes, with the reserves of both tokens behind it, in smallest units.
    pub reserves: Vec<(Address, (u128, u128))>,
    /// The pools with concentrated liquidity that it changes.
    pub concentrated: Vec<ConcentratedEffect>,
}

/// A pool with concentrated liquidity behind a pending transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConcentratedEffect {
    /// The pool, or the manager that it is an entry of.
    pub pool: Address,
    /// Which entry; `None` for a pool with an address of its own.
    pub id: Option<B256>,
    /// Where it stands then; of its ticks, those that the transaction changes, with a gross of zero where one is gone.
    pub state: ConcentratedState,
}

impl PendingEffect {
    pub(crate) fn on_heap(&self) -> usize {
        let ticks = self.concentrated.iter().map(|pool| of_vec(&pool.state.ticks));
        self.pending.transaction.on_heap()
            + of_vec(&self.reserves)
            + of_vec(&self.concentrated)
            + ticks.sum::<usize>()
    }
}

/// A pool of Uniswap V4 without hooks, as of a block. It holds from there on: what later blocks say comes on top. That it is the
/// manager's is proven by its id, which is the hash of what it is made of, and by its price, which no other entry has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct V4Loaded {
    /// The configured `PoolManager`.
    pub manager: Address,
    /// The pool in it.
    pub id: B256,
    /// The currency with the lower address; zero is the native one.
    pub currency0: Address,
    /// The currency with the higher address.
    pub currency1: Address,
    /// Fee in hundredths of a basis point of the input, without the protocol's.
    pub fee: u32,
    /// Ticks that may be initialised are multiples of it.
    pub tick_spacing: i32,
    /// Height of the block that the answers are true for.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: BlockHash,
    /// The protocol's fee, twelve bits for each direction, as the contract stores it.
    pub protocol_fee: u32,
    /// Where it stands.
    pub state: ConcentratedState,
}

impl V4Loaded {
    pub(crate) fn on_heap(&self) -> usize {
        of_vec(&self.state.ticks)
    }
}

impl ConcentratedLoaded {
    pub(crate) fn on_heap(&self) -> usize {
        self.state.as_ref().map_or(0, |state| of_vec(&state.ticks))
    }
}

/// Why a pool is believed to be its factory's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolProof {
    /// The address derives from the factory, the tokens and the init-code hash (EIP-1014).
    Create2 {
        /// Keccak-256 of the pool's creation code.
        init_code_hash: B256,
    },
    /// The factory itself listed the pool or answered with it.
    FactoryAnswer,
}

/// What was learnt about a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenJudged {
    /// The token.
    pub token: Address,
    /// The verdict.
    pub verdict: TokenVerdict,
}

/// Whether a token may be quoted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenVerdict {
    /// An ordinary ERC-20.
    Accepted {
        /// As `decimals()` says.
        decimals: u8,
        /// As `symbol()` says; empty where it says nothing printable.
        symbol: String,
    },
    /// Not to be quoted, with the reason in words.
    Refused(String),
}

impl TokenVerdict {
    pub(crate) fn on_heap(&self) -> usize {
        match self {
            Self::Accepted { symbol: words, .. } | Self::Refused(words) => words.capacity(),
        }
    }
}

/// The reserves of the tracked pools as of one block, asked after state or oracle had lost the market: who lost it takes it
/// up again from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarketResynced {
    /// Height of the block that the answers are true for.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: BlockHash,
    /// Every pool that was asked, with what it holds of both tokens; nothing where there is no pool.
    pub reserves: Vec<(Address, Option<(u128, u128)>)>,
}

/// A followed pool of which the node, asked twice, says something else than was followed. It is not quoted from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolQuarantined {
    /// The pool.
    pub pool: Address,
    /// What it computes.
    pub protocol: Protocol,
    /// Height of the block as of which both were compared.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: BlockHash,
    /// Which kind of difference it is.
    pub difference: Difference,
    /// What was followed, in words for the reader.
    pub ours: String,
    /// What the node says, in words for the reader.
    pub theirs: String,
}

/// The same of a pool of Uniswap V4, which has no address of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct V4Quarantined {
    /// The manager.
    pub manager: Address,
    /// The pool.
    pub id: B256,
    /// Height of the block as of which both were compared.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: BlockHash,
    /// Which kind of difference it is.
    pub difference: Difference,
    /// What was followed, in words for the reader.
    pub ours: String,
    /// What the node says, in words for the reader.
    pub theirs: String,
}

/// How a pool differs from what was followed of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// The node's logs tell of the change: an event did not arrive here.
    MissedEvent,
    /// A pair holds other reserves, and none of its recent logs says so.
    ReservesWithoutSync,
    /// A pool of V3 or V4 stands at another price.
    Price,
    /// Its price is the same, and the tick that it stores beside it another one.
    CurrentTick,
    /// The liquidity of the range that the price is in is another one.
    Liquidity,
    /// A tick is initialised here and not there, or the other way round, or holds another liquidity.
    Ticks,
    /// There is no contract any longer; or no pool of this id.
    Gone,
    /// The contract fails, or answers what no pool can.
    Nonsense,
    /// The protocol takes another fee of a pool of V4.
    ProtocolFee,
}

impl Difference {
    /// As logs, counters and dashboards write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MissedEvent => "missed_event",
            Self::ReservesWithoutSync => "reserves_without_sync",
            Self::Price => "price",
            Self::CurrentTick => "current_tick",
            Self::Liquidity => "liquidity",
            Self::Ticks => "ticks",
            Self::Gone => "gone",
            Self::Nonsense => "nonsense",
            Self::ProtocolFee => "protocol_fee",
        }
    }
}

/// A request to ask the node what pools hold as of a block, because the market was lost. The answer is a
/// [`MarketResynced`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResyncRequest {
    /// The last block that is known.
    pub as_of: AsOf,
    /// Every pool that is tracked.
    pub pools: Vec<Address>,
}

/// The initial load is complete: every pool that the configuration asks for was published as `PoolLoaded`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarketLoaded {
    /// Height of the block that the load is true for. The next `NewBlock` is its child.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: BlockHash,
    /// The chain, as the node says.
    pub chain_id: u64,
    /// How many pools were loaded.
    pub pools: u64,
}

/// What the proxy of a configured Chainlink feed answered as of a block. It holds from there on: the answers that its
/// aggregator gives in later blocks come with the blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedResolved {
    /// The proxy: what the configuration names.
    pub proxy: Address,
    /// Height of the block that the answers are true for.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: BlockHash,
    /// What was learnt.
    pub verdict: FeedVerdict,
}

/// Whether a feed can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedVerdict {
    /// It can: its last round.
    Accepted(FeedRound),
    /// Not to be used, with the reason in words.
    Refused(String),
}

impl FeedVerdict {
    pub(crate) fn on_heap(&self) -> usize {
        match self {
            Self::Accepted(_) => 0,
            Self::Refused(reason) => reason.capacity(),
        }
    }
}

/// A round of a Chainlink feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedRound {
    /// The contract that the proxy reads from in this phase, and that emits `AnswerUpdated`.
    pub aggregator: Address,
    /// Counts the aggregators that the proxy has had.
    pub phase: u16,
    /// Decimal places of the answer.
    pub decimals: u8,
    /// Decimal places of the token whose price it is.
    pub token_decimals: u8,
    /// The aggregator's own number of the round; the proxy puts the phase before it.
    pub round: u64,
    /// How much of the quote one whole token is worth, scaled by 10^`decimals`; absent where the aggregator says nothing
    /// above zero.
    pub answer: Option<U256>,
    /// When the aggregator took it, in seconds since the Unix epoch.
    pub updated_at: u64,
}

/// A request to ask the node what feeds read as of a block. The answers are [`FeedResolved`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedRequest {
    /// The last block that is known.
    pub as_of: AsOf,
    /// The proxies.
    pub proxies: Vec<Address>,
}
