//! A recording in one file: a header, then all records as one deflate stream.
//!
//! ```text
//! header 32 | length of the records u64 | crc32c of the records u32 | deflate stream to the end of the file
//! ```

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::Serialize;

use crate::error::{Damage, JournalError};
use crate::format::{HEADER_BYTES, SegmentHeader, encode_record};
use crate::recording::Recording;

/// The length and the checksum of the records.
const PREAMBLE_BYTES: usize = 12;
/// A recording is held in memory while it is read; a larger one is a journal and stays in segments.
const MOST_BYTES: u64 = 1 << 30;

/// What was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// How many events.
    pub records: u64,
    /// Their size as segments, in bytes.
    pub bytes: u64,
    /// The size of the file, in bytes.
    pub compressed_bytes: u64,
}

/// Writes the events of the journal at `source`, up to sequence number `last` where given, into one compressed file,
/// which replaces `file` as a whole or not at all. The events of several runs become those of the first.
///
/// # Errors
///
/// Whatever reading the journal or writing the file fails with; [`JournalError::Torn`] where the events end before
/// `last`, or in an incomplete record.
pub fn export_recording(
    source: impl AsRef<Path>,
    file: impl AsRef<Path>,
    last: Option<u64>,
) -> Result<Exported, JournalError> {
    let (source, file) = (Recording::open(source)?, file.as_ref());
    let mut records = source.records(source.first_seq());
    let mut bytes = Vec::new();
    let mut count = 0;
    for record in records.by_ref() {
        let record = record?;
        if last.is_some_and(|last| record.envelope.seq > last) {
            break;
        }
        encode_record(&record.envelope, &mut bytes)
            .map_err(|reason| JournalError::Encode { seq: record.envelope.seq, reason })?;
        count += 1;
    }
    if let Some(torn) = records.torn_tail() {
        return Err(torn.clone().into());
    }
    let header = SegmentHeader { compressed: true, run_id: source.run_id(), first_seq: source.first_seq() };
    let compressed = compress(&header, &bytes).map_err(JournalError::io("compress", file))?;
    source.copy_set_aside(file)?;
    replace(file, &compressed)?;
    let compressed_bytes = compressed.len() as u64;
    Ok(Exported { records: count, bytes: (HEADER_BYTES + bytes.len()) as u64, compressed_bytes })
}

fn compress(header: &SegmentHeader, records: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = header.encode().to_vec();
    out.extend_from_slice(&(records.len() as u64).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(records).to_le_bytes());
    let mut encoder = DeflateEncoder::new(out, Compression::best());
    encoder.write_all(records)?;
    encoder.finish()
}

fn replace(file: &Path, bytes: &[u8]) -> Result<(), JournalError> {
    let aside = file.with_extension("partial");
    let mut writer = File::create(&aside).map_err(JournalError::io("create", &aside))?;
    writer.write_all(bytes).map_err(JournalError::io("write", &aside))?;
    writer.sync_all().map_err(JournalError::io("write", &aside))?;
    fs::rename(&aside, file).map_err(JournalError::io("rename", &aside))
}

/// The records of a compressed recording whose header holds.
pub(crate) fn read(path: &Path) -> Result<Arc<[u8]>, JournalError> {
    let file = File::open(path).map_err(JournalError::io("open", path))?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(JournalError::io("read", path))?;
    decompress_named(path, &bytes)
}

/// The records of the bytes of a compressed recording whose header holds.
pub(crate) fn decompress_named(path: &Path, bytes: &[u8]) -> Result<Arc<[u8]>, JournalError> {
    decompress(bytes)
        .map_err(|reason| JournalError::damaged(path, HEADER_BYTES as u64, Damage::Compression(reason)))
}

fn decompress(file: &[u8]) -> Result<Arc<[u8]>, String> {
    let body = file.get(HEADER_BYTES..).unwrap_or_default();
    let (preamble, stream) = body.split_first_chunk::<PREAMBLE_BYTES>().ok_or("it is cut off")?;
    let (length, crc) = preamble.split_first_chunk::<8>().expect("twelve bytes");
    let length = u64::from_le_bytes(*length);
    if length > MOST_BYTES || file.len() as u64 > MOST_BYTES {
        return Err(format!("{length} bytes are more than a recording may have"));
    }
    let mut records = Vec::new();
    let mut decoder = DeflateDecoder::new(stream);
    decoder.by_ref().take(length + 1).read_to_end(&mut records).map_err(|error| error.to_string())?;
    if records.len() as u64 != length {
        return Err(format!("it holds {} bytes instead of {length}", records.len()));
    }
    if crc32c::crc32c(&records).to_le_bytes() != crc {
        return Err("the checksum of the records does not hold".into());
    }
    if decoder.total_in() != stream.len() as u64 {
        return Err("something follows the records".into());
    }
    Ok(records.into())
}

#[cfg(test)]
mod tests;
