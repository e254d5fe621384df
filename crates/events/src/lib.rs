//! What crosses crates: the bus event, its payloads, its envelope, and what detectors and the executor say.
//!
//! Plain data. No runtime, no input or output, no protocol arithmetic.
//!
//! **Source events** come from the node (or from a journal) and carry the sequence number without holes; they are
//! journaled, and only they are replayed. **Derived events** are conclusions: they name the source event that caused
//! them, handlers and recorders read them, components never do.
//!
//! Journaled types use plain serde derives and grow at the end, because the journal's encoding is positional.

mod action;
mod chain;
mod envelope;
mod finding;
mod learnt;
mod lending;
mod market;
#[cfg(feature = "planted-bugs")]
mod planted;
mod system;

pub use action::{
    AaveAction, AaveCall, Action, Call, ChainlinkAction, Command, CompoundAction, Custom, DecodedBlock,
    Exact, FlashLoan, Guard, Instruction, Native, PaymentCall, Permit, Permit2Call, Permit2Transfer,
    PermitDetails, Route, SignatureTransfer, SwapCall, TokenCall, TokenTransfer, Transmission, TransmitKind,
    V2Action, V3Action, V4Action, V4Hop, V4Instruction, Value, WethAction,
};
pub use chain::{
    BlockEvent, Grade, Header, Log, PendingTxEvent, Reconnected, ReorgEvent, SourceGap, Topics, Transaction,
};
pub use envelope::{AsOf, BusEvent, Envelope, Origin, RunId, Snapshot};
pub use finding::{
    BackrunSet, Behind, Kind, Leg, LiquidateBehind, LiquidationPlan, MixedStep, Opportunity, OpportunityId,
    OpportunitySet, Outcome, Plan, Refusal, SaleStep, Simulated, SwapStep, Verdict,
};
pub use learnt::{
    ConcentratedEffect, ConcentratedLoaded, ConcentratedState, Difference, FeedRequest, FeedResolved,
    FeedRound, FeedVerdict, LoadedTick, MarketLoaded, MarketResynced, PendingEffect, PoolLoaded, PoolProof,
    PoolQuarantined, Protocol, ResyncRequest, TokenJudged, TokenVerdict, V4Loaded, V4Quarantined,
};
pub use lending::{
    LendingAccount, LendingCategory, LendingContracts, LendingHolding, LendingLoaded, LendingLog,
    LendingPrice, LendingProtocol, LendingReserve, LendingStableSupply, ScaledChange, Sequencer,
};
pub use market::{LiquidityEvent, Price, PriceEvent};
#[cfg(feature = "planted-bugs")]
pub use planted::is_planted;
pub use system::{Health, HealthEvent};
