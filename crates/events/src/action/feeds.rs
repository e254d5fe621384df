use alloy_primitives::{Address, I256, U256};
use serde::{Deserialize, Serialize};

/// Events of Chainlink's aggregators (libocr `OffchainAggregator.sol`, `OCR2Aggregator.sol`). The emitter is the aggregator, not
/// the proxy that consumers read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChainlinkAction {
    /// A round has its answer.
    AnswerUpdated {
        /// The answer, in the feed's own decimals.
        current: I256,
        /// The aggregator's round.
        round_id: U256,
        /// Seconds since the Unix epoch.
        updated_at: U256,
    },
    /// The same, with what it was made of.
    NewTransmission {
        /// The aggregator's round.
        round_id: u32,
        /// The median of the observations (`int192`).
        answer: I256,
        /// Who sent it.
        transmitter: Address,
        /// As they were sent.
        observations: Vec<I256>,
        /// When they were made, in seconds since the Unix epoch; OCR1 does not tell.
        observations_timestamp: Option<u32>,
    },
    /// A proxy reads from another aggregator: here the emitter is the proxy.
    AggregatorConfirmed {
        /// The one before.
        previous: Address,
        /// The new one.
        latest: Address,
    },
}

/// A call of `transmit`: an answer before it is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transmission {
    /// By which function.
    pub kind: TransmitKind,
    /// The answer that the aggregator would take: the observation in the middle, the upper one of two (`int192`).
    pub answer: I256,
    /// As they were sent.
    pub observations: Vec<I256>,
    /// When they were made, in seconds since the Unix epoch; OCR1 does not tell.
    pub observations_timestamp: Option<u32>,
    /// The protocol's epoch, times 256, and round: what does not grow is stale.
    pub epoch_and_round: u64,
}

/// The functions that carry a report to an aggregator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransmitKind {
    /// `transmit` of an `OffchainAggregator`.
    Ocr1,
    /// `transmit` of an `OCR2Aggregator`.
    Ocr2,
    /// `transmitSecondary` of a feed of Smart Value Recapture.
    Ocr2Secondary,
}
