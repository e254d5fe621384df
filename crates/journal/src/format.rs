//! The bytes: a segment is a header and then records, all integers little-endian.
//!
//! ```text
//! header   magic 8 | format u16 | flags u16 | run id u64 | first seq u64 | crc32c u32 (of the 28 bytes before)
//! record   length u32 (of the payload) | crc32c u32 (of all but itself) | seq u64 | schema u16 | payload
//! payload  bincode 2, standard configuration: received_at u64, BusEvent
//! ```

use headwater_events::{BusEvent, Envelope, RunId};
use serde::{Deserialize, Serialize};

use crate::error::Damage;

/// Begins every file. Like PNG's, it is not text, and shows a transfer that rewrote line ends.
pub(crate) const MAGIC: [u8; 8] = *b"\x89HWJ\r\n\x1a\n";
/// Version of the framing.
pub const FORMAT_VERSION: u16 = 1;
/// Version of the payload: it changes when a journaled type does.
pub const SCHEMA_VERSION: u16 = 2;
/// Largest payload in bytes that is written or believed. A block of 60 M gas is below 2 MB.
pub const MAX_RECORD_BYTES: usize = 64 << 20;

pub(crate) const HEADER_BYTES: usize = 32;
pub(crate) const RECORD_HEADER_BYTES: usize = 18;

const COMPRESSED: u16 = 1;

/// The head of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Whether the records follow as one compressed stream.
    pub(crate) compressed: bool,
    pub(crate) run_id: RunId,
    pub(crate) first_seq: u64,
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// Another sort of file.
    Foreign,
    /// A later format.
    Newer(u16),
    /// Our magic, and a checksum that does not hold.
    Damaged,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&(u16::from(self.compressed) * COMPRESSED).to_le_bytes());
        bytes[12..20].copy_from_slice(&self.run_id.0.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.first_seq.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let bytes: &[u8; HEADER_BYTES] =
            bytes.get(..HEADER_BYTES).and_then(|head| head.try_into().ok()).ok_or(BadHeader::Foreign)?;
        if bytes[..8] != MAGIC {
            return Err(BadHeader::Foreign);
        }
        if u32_at(bytes, 28) != crc32c::crc32c(&bytes[..28]) {
            return Err(BadHeader::Damaged);
        }
        let (format, flags) = (u16_at(bytes, 8), u16_at(bytes, 10));
        if format != FORMAT_VERSION || flags & !COMPRESSED != 0 {
            return Err(BadHeader::Newer(format));
        }
        let (run_id, first_seq) = (RunId(u64_at(bytes, 12)), u64_at(bytes, 20));
        Ok(Self { compressed: flags & COMPRESSED != 0, run_id, first_seq })
    }
}

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) length: u32,
    pub(crate) crc: u32,
    pub(crate) seq: u64,
    pub(crate) schema: u16,
}

impl RecordHeader {
    pub(crate) fn decode(bytes: &[u8; RECORD_HEADER_BYTES]) -> Self {
        Self {
            length: u32_at(bytes, 0),
            crc: u32_at(bytes, 4),
            seq: u64_at(bytes, 8),
            schema: u16_at(bytes, 16),
        }
    }

    /// Whether a payload of the claimed length can exist at all.
    pub(crate) fn has_sane_length(&self) -> bool {
        (1..=MAX_RECORD_BYTES).contains(&(self.length as usize))
    }

    pub(crate) fn holds_for(&self, payload: &[u8]) -> bool {
        self.crc == crc32c::crc32c_append(self.crc_of_head(), payload)
    }

    /// The checksum up to the payload, for whoever reads that in parts.
    pub(crate) fn crc_of_head(&self) -> u32 {
        let crc = crc32c::crc32c(&self.length.to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &self.seq.to_le_bytes());
        crc32c::crc32c_append(crc, &self.schema.to_le_bytes())
    }
}

#[derive(Serialize)]
struct PayloadRef<'a> {
    received_at: u64,
    event: &'a BusEvent,
}

#[derive(Deserialize)]
struct Payload {
    received_at: u64,
    event: BusEvent,
}

fn encoding() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_RECORD_BYTES>()
}

/// Appends the record of `envelope` to `out`. On an error `out` is as it was.
pub(crate) fn encode_record(envelope: &Envelope, out: &mut Vec<u8>) -> Result<(), String> {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
    let payload = PayloadRef { received_at: envelope.received_at, event: &envelope.event };
    let written = bincode::serde::encode_into_std_write(payload, out, encoding());
    let length = out.len() - start - RECORD_HEADER_BYTES;
    let refusal = match written {
        Ok(_) if length <= MAX_RECORD_BYTES => None,
        Ok(_) => Some(format!("{length} bytes exceed the limit of {MAX_RECORD_BYTES}")),
        Err(error) => Some(error.to_string()),
    };
    if let Some(reason) = refusal {
        out.truncate(start);
        return Err(reason);
    }
    let length = u32::try_from(length).expect("the limit is below 4 GiB");
    let head = RecordHeader { length, crc: 0, seq: envelope.seq, schema: SCHEMA_VERSION };
    let crc = crc32c::crc32c_append(head.crc_of_head(), &out[start + RECORD_HEADER_BYTES..]);
    let head = &mut out[start..start + RECORD_HEADER_BYTES];
    head[0..4].copy_from_slice(&length.to_le_bytes());
    head[4..8].copy_from_slice(&crc.to_le_bytes());
    head[8..16].copy_from_slice(&envelope.seq.to_le_bytes());
    head[16..18].copy_from_slice(&SCHEMA_VERSION.to_le_bytes());
    Ok(())
}

/// The envelope of a payload whose checksum holds.
pub(crate) fn decode_payload(
    run_id: RunId,
    seq: u64,
    schema: u16,
    payload: &[u8],
) -> Result<Envelope, Damage> {
    if schema != SCHEMA_VERSION {
        return Err(Damage::Schema(schema));
    }
    let (decoded, used): (Payload, usize) = bincode::serde::decode_from_slice(payload, encoding())
        .map_err(|error| Damage::Payload(error.to_string()))?;
    if used != payload.len() {
        return Err(Damage::Payload(format!("{} bytes are left over", payload.len() - used)));
    }
    if !decoded.event.is_source() {
        return Err(Damage::NotASource(decoded.event.name()));
    }
    Ok(Envelope { run_id, seq, received_at: decoded.received_at, derived: None, event: decoded.event })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

#[cfg(test)]
mod tests;
