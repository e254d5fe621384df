//! Reports on their way to Chainlink's aggregators (libocr `OffchainAggregator.sol`, `OCR2Aggregator.sol`), directly or through
//! a forwarder.

use alloy_primitives::{I256, hex};
use headwater_events::{Call, Transmission, TransmitKind};

use crate::Malformed;
use crate::calldata::limits::{Limits, ReadCall, inner};
use crate::calldata::{Arguments, Input};

const TRANSMIT_OCR1: [u8; 4] = hex!("c9807539");
const TRANSMIT_OCR2: [u8; 4] = hex!("b1dc65a4");
/// Of the feeds of Smart Value Recapture.
const TRANSMIT_SECONDARY: [u8; 4] = hex!("ba0cb29e");
const FORWARD: [u8; 4] = hex!("6fadcf72");

/// An aggregator has at most so many oracles (`maxNumOracles`).
const MAX_ORACLES: usize = 31;

/// A call that brings a report. Whether the contract is an aggregator, and takes it, a call does not tell.
///
/// # Errors
///
/// [`Malformed`] when its arguments or the report do not decode, or an aggregator would refuse the observations.
pub fn report(input: &Input<'_>) -> Result<Option<Transmission>, Malformed> {
    let arguments = input.arguments;
    let kind = match input.selector {
        TRANSMIT_OCR1 => TransmitKind::Ocr1,
        TRANSMIT_OCR2 => TransmitKind::Ocr2,
        TRANSMIT_SECONDARY => TransmitKind::Ocr2Secondary,
        _ => return Ok(None),
    };
    // OCR2 has three words of context before the report; OCR1 has one word of it in the report.
    let (at, report) = match kind {
        TransmitKind::Ocr1 => (0, Arguments::new(arguments.bytes(0)?)),
        TransmitKind::Ocr2 | TransmitKind::Ocr2Secondary => (3, Arguments::new(arguments.bytes(3)?)),
    };
    let [(signatures, _), (others, _)] = [arguments.array(at + 1)?, arguments.array(at + 2)?];
    if signatures != others {
        return Err(Malformed::Refused("signatures of which one half is missing"));
    }
    arguments.word(at + 3)?;
    let observations = observations(report, 2)?;
    let (context, observations_timestamp) = match kind {
        TransmitKind::Ocr1 => {
            if !observations.is_sorted() {
                return Err(Malformed::Refused("observations that are not sorted"));
            }
            (report.word(0)?, None)
        }
        TransmitKind::Ocr2 | TransmitKind::Ocr2Secondary => {
            report.int192(3)?;
            (arguments.word(1)?, Some(report.uint32(0)?))
        }
    };
    let mut epoch_and_round = [0; 8];
    epoch_and_round[3..].copy_from_slice(&context[27..]);
    Ok(Some(Transmission {
        kind,
        answer: observations[observations.len() / 2],
        observations,
        observations_timestamp,
        epoch_and_round: u64::from_be_bytes(epoch_and_round),
    }))
}

/// `int192[]` of an aggregator: at least one, and not more than it has oracles.
pub(crate) fn observations(arguments: Arguments<'_>, index: usize) -> Result<Vec<I256>, Malformed> {
    let (length, observations) = arguments.array(index)?;
    if !(1..=MAX_ORACLES).contains(&length) {
        return Err(Malformed::Refused("no observations, or more than there are oracles"));
    }
    (0..length).map(|index| observations.int192(index)).collect()
}

/// `forward(address,bytes)` of a call that `reader` knows; many contracts have a function of this name, so that one of an
/// unknown call is not taken for anything.
///
/// # Errors
///
/// [`Malformed`] when its arguments, or those of the call inside, do not decode.
pub fn forwarder(
    input: &Input<'_>,
    reader: &dyn ReadCall,
    limits: &mut Limits,
) -> Result<Option<Call>, Malformed> {
    if input.selector != FORWARD {
        return Ok(None);
    }
    let to = input.arguments.address(0)?;
    Ok(match inner(reader, to, input.value, input.arguments.bytes(1)?, limits)? {
        Call::Unknown(_) => None,
        call => Some(Call::Forward { to, call: Box::new(call) }),
    })
}
