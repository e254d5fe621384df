//! Events of price feeds.

use alloy_primitives::{Address, I256, U256};
use headwater_events::{Action, ChainlinkAction, Log};

use super::{indexed, shape};
use crate::Malformed;
use crate::calldata::{Arguments, observations};
use crate::words::{address, int256, uint32, uint256};

fn chainlink(log: &Log, action: ChainlinkAction) -> Action {
    Action::Chainlink { log_index: log.log_index, emitter: log.address, action }
}

/// The answer, the aggregator's round and the time of an `AnswerUpdated`.
pub(crate) fn answer(log: &Log) -> Result<(I256, U256, U256), Malformed> {
    let [updated_at] = &shape::<3, 1>(log)?;
    Ok((int256(&log.topics[1]), uint256(&log.topics[2]), uint256(updated_at)))
}

/// The aggregators before and after an `AggregatorConfirmed`.
pub(crate) fn confirmed(log: &Log) -> Result<[Address; 2], Malformed> {
    let [] = &shape::<3, 0>(log)?;
    Ok([address(&log.topics[1])?, address(&log.topics[2])?])
}

pub(super) fn answer_updated(log: &Log) -> Result<Action, Malformed> {
    let (current, round_id, updated_at) = answer(log)?;
    Ok(chainlink(log, ChainlinkAction::AnswerUpdated { current, round_id, updated_at }))
}

pub(super) fn aggregator_confirmed(log: &Log) -> Result<Action, Malformed> {
    let [previous, latest] = confirmed(log)?;
    Ok(chainlink(log, ChainlinkAction::AggregatorConfirmed { previous, latest }))
}

pub(super) fn new_transmission_ocr1(log: &Log) -> Result<Action, Malformed> {
    indexed::<2>(log)?;
    let data = Arguments::new(&log.data);
    data.bytes(3)?;
    data.word(4)?;
    let action = ChainlinkAction::NewTransmission {
        round_id: uint32(&log.topics[1])?,
        answer: data.int192(0)?,
        transmitter: data.address(1)?,
        observations: observations(data, 2)?,
        observations_timestamp: None,
    };
    Ok(chainlink(log, action))
}

pub(super) fn new_transmission_ocr2(log: &Log) -> Result<Action, Malformed> {
    indexed::<2>(log)?;
    let data = Arguments::new(&log.data);
    data.bytes(4)?;
    data.int192(5)?;
    data.word(6)?;
    data.uint40(7)?;
    let action = ChainlinkAction::NewTransmission {
        round_id: uint32(&log.topics[1])?,
        answer: data.int192(0)?,
        transmitter: data.address(1)?,
        observations: observations(data, 3)?,
        observations_timestamp: Some(data.uint32(2)?),
    };
    Ok(chainlink(log, action))
}
