//! Chainlink feeds: what a proxy is asked, and what it and its aggregator say in logs.
//!
//! Sources: `AggregatorProxy.sol` and `EACAggregatorProxy.sol` (chainlink, `contracts/src/v0.6` and `v0.7`), and the
//! aggregators of libocr (`OffchainAggregator.sol`, `OCR2Aggregator.sol`). The proxy of version 0.6, which most feeds have,
//! emits nothing when its owner confirms another aggregator; later ones emit `AggregatorConfirmed`.

use alloy_primitives::{Address, Bytes, I256, U256};
use alloy_sol_types::{SolCall, sol};
use headwater_events::Log;

use crate::Malformed;
use crate::logs::{AGGREGATOR_CONFIRMED, ANSWER_UPDATED, feeds};

sol! {
    /// `AggregatorV2V3Interface.sol` and `AggregatorProxyInterface.sol`.
    #[sol(all_derives)]
    interface IAggregatorProxy {
        event AnswerUpdated(int256 indexed current, uint256 indexed roundId, uint256 updatedAt);
        event AggregatorConfirmed(address indexed previous, address indexed latest);

        function aggregator() external view returns (address);
        function phaseId() external view returns (uint16);
        function decimals() external view returns (uint8);
        function typeAndVersion() external view returns (string);
        function latestRoundData() external view returns (
            uint80 roundId,
            int256 answer,
            uint256 startedAt,
            uint256 updatedAt,
            uint80 answeredInRound
        );
    }
}

/// Proxy: the aggregator that it reads from.
pub fn aggregator() -> Bytes {
    IAggregatorProxy::aggregatorCall {}.abi_encode().into()
}

/// Aggregator: what it is (`TypeAndVersionInterface.sol`).
pub fn type_and_version() -> Bytes {
    IAggregatorProxy::typeAndVersionCall {}.abi_encode().into()
}

/// Whether an answer of [`type_and_version`] is that of an aggregator which two proxies read differently, one of them later than its
/// logs say (`DualAggregator.sol` of chainlink's SVR feeds).
pub fn is_dual(answer: &[u8]) -> bool {
    let told = IAggregatorProxy::typeAndVersionCall::abi_decode_returns_validate(answer);
    told.is_ok_and(|told| told.starts_with("DualAggregator"))
}

/// Proxy: the number of its phase.
pub fn phase_id() -> Bytes {
    IAggregatorProxy::phaseIdCall {}.abi_encode().into()
}

/// Proxy: the last round.
pub fn latest_round_data() -> Bytes {
    IAggregatorProxy::latestRoundDataCall {}.abi_encode().into()
}

/// The answer of [`phase_id`].
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_phase_id(answer: &[u8]) -> Result<u16, Malformed> {
    Ok(IAggregatorProxy::phaseIdCall::abi_decode_returns_validate(answer)?)
}

/// A proxy's last round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyRound {
    /// The phase that the round is of: the upper 16 of its 80 bits.
    pub phase: u16,
    /// The aggregator's own number of it: the other 64.
    pub round: u64,
    /// What was answered; signed, and not always above zero.
    pub answer: I256,
    /// Seconds since the Unix epoch: when the round began. Of a sequencer's feed, since when it is as it says.
    pub started_at: U256,
    /// Seconds since the Unix epoch; zero where there is no answer yet.
    pub updated_at: U256,
}

/// The answer of [`latest_round_data`].
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_latest_round_data(answer: &[u8]) -> Result<ProxyRound, Malformed> {
    let told = IAggregatorProxy::latestRoundDataCall::abi_decode_returns_validate(answer)?;
    let id: u128 = told.roundId.to();
    let (phase, round) = ((id >> 64) as u16, id as u64);
    let (started_at, updated_at) = (told.startedAt, told.updatedAt);
    Ok(ProxyRound { phase, round, answer: told.answer, started_at, updated_at })
}

/// What a log says about a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedLog {
    /// An aggregator has a new answer.
    AnswerUpdated {
        /// What was answered; signed.
        answer: I256,
        /// The aggregator's own number of the round.
        round: U256,
        /// Seconds since the Unix epoch.
        updated_at: U256,
    },
    /// A proxy reads from another aggregator.
    AggregatorConfirmed {
        /// The new one.
        latest: Address,
    },
}

/// What a log says about a feed; `None` for every other log.
///
/// # Errors
///
/// [`Malformed`] when it carries a topic of these with arguments that do not belong to it.
pub fn feed_log(log: &Log) -> Result<Option<FeedLog>, Malformed> {
    match log.topics.first() {
        Some(&ANSWER_UPDATED) => answer_updated(log).map(Some),
        Some(&AGGREGATOR_CONFIRMED) => aggregator_confirmed(log).map(Some),
        _ => Ok(None),
    }
}

fn answer_updated(log: &Log) -> Result<FeedLog, Malformed> {
    let (answer, round, updated_at) = feeds::answer(log)?;
    Ok(FeedLog::AnswerUpdated { answer, round, updated_at })
}

fn aggregator_confirmed(log: &Log) -> Result<FeedLog, Malformed> {
    let [_, latest] = feeds::confirmed(log)?;
    Ok(FeedLog::AggregatorConfirmed { latest })
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{B256, hex};
    use alloy_sol_types::SolEvent;

    use super::*;

    fn word(value: i64) -> B256 {
        I256::try_from(value).expect("small").to_be_bytes::<32>().into()
    }

    fn log(topics: &[B256], data: &[u8]) -> Log {
        Log {
            address: Address::repeat_byte(1),
            topics: topics.iter().copied().collect(),
            data: data.to_vec().into(),
            transaction_index: 0,
            log_index: 0,
        }
    }

    #[test]
    fn questions_and_topics_are_those_of_the_deployed_contracts() {
        for (calldata, selector) in
            [(aggregator(), "245a7bfc"), (phase_id(), "58303b10"), (latest_round_data(), "feaf968c")]
        {
            assert_eq!(hex::encode(calldata), selector);
        }
        assert_eq!(IAggregatorProxy::AnswerUpdated::SIGNATURE_HASH, ANSWER_UPDATED);
        assert_eq!(IAggregatorProxy::AggregatorConfirmed::SIGNATURE_HASH, AGGREGATOR_CONFIRMED);
    }

    #[test]
    fn a_round_of_the_proxy_is_the_aggregators_behind_its_phase() {
        let phase: U256 = U256::from(6) << 64;
        let id = B256::from(phase + U256::from(1_234));
        let words = [id, word(-5), word(7), word(9), id].concat();
        let round = ProxyRound {
            phase: 6,
            round: 1_234,
            answer: I256::try_from(-5).expect("small"),
            started_at: U256::from(7),
            updated_at: U256::from(9),
        };
        assert_eq!(decode_latest_round_data(&words), Ok(round));
        let beyond = [B256::repeat_byte(1).to_vec(), words[32..].to_vec()].concat();
        for wrong in [&words[..128], &beyond, &[]] {
            assert!(decode_latest_round_data(wrong).is_err());
        }
    }

    #[test]
    fn an_aggregator_with_two_faces_says_so() {
        let told = |text: &str| IAggregatorProxy::typeAndVersionCall::abi_encode_returns(&text.to_owned());
        assert!(is_dual(&told("DualAggregator 1.0.0")));
        assert!(!is_dual(&told("AccessControlledOffchainAggregator 4.0.0")) && !is_dual(&[]));
    }

    #[test]
    fn an_answer_stands_in_the_topics_and_its_time_in_the_data() {
        let answered = log(&[ANSWER_UPDATED, word(-3), word(8)], word(11).as_slice());
        let expected = FeedLog::AnswerUpdated {
            answer: I256::try_from(-3).expect("small"),
            round: U256::from(8),
            updated_at: U256::from(11),
        };
        assert_eq!(feed_log(&answered), Ok(Some(expected)));
        assert!(feed_log(&log(&[ANSWER_UPDATED, word(3)], word(11).as_slice())).is_err());
        assert!(feed_log(&log(&[ANSWER_UPDATED, word(3), word(8)], &[])).is_err());
        assert_eq!(feed_log(&log(&[word(3)], &[])), Ok(None));
        assert_eq!(feed_log(&log(&[], &[])), Ok(None));
    }

    #[test]
    fn a_confirmed_aggregator_is_the_second_argument() {
        let latest = Address::repeat_byte(9);
        let confirmed = |latest| log(&[AGGREGATOR_CONFIRMED, word(1), latest], &[]);
        let expected = FeedLog::AggregatorConfirmed { latest };
        assert_eq!(feed_log(&confirmed(latest.into_word())), Ok(Some(expected)));
        assert!(feed_log(&confirmed(B256::repeat_byte(9))).is_err());
        assert!(feed_log(&log(&[AGGREGATOR_CONFIRMED], &[])).is_err());
    }
}
