//! The files of a journal, read by their description alone (the README of `crates/journal`): which records stand before
//! the first thing that does not hold, and what that is. Payloads are bytes here.

/// What stands in front of a segment's records.
const HEADER: usize = 32;
/// What stands in front of a record's payload.
const HEAD: usize = 18;
/// The longest payload.
const LONGEST: usize = 64 << 20;
const MAGIC: &[u8] = b"\x89HWJ\r\n\x1a\n";

/// What a journal holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What stands before the end.
    pub records: Vec<Record>,
    /// How it ends.
    pub end: End,
}

/// A record that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which file.
    pub file: usize,
    /// Where in the file.
    pub offset: usize,
    /// Bytes of its payload.
    pub length: usize,
    /// Its sequence number.
    pub seq: u64,
}

impl Record {
    /// Where the next begins.
    pub fn end(&self) -> usize {
        self.offset + HEAD + self.length
    }
}

/// How a journal ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Between two records.
    Whole,
    /// In what a writer that was cut off left of a record or a header, at the very end.
    Torn {
        /// Which file.
        file: usize,
        /// Where it begins.
        offset: usize,
    },
    /// In damage.
    Damaged {
        /// Which file.
        file: usize,
        /// Where the damaged record or header begins.
        offset: usize,
        /// What is wrong there.
        fault: Fault,
    },
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The file does not begin as a segment does.
    Magic,
    /// The header's checksum.
    Header,
    /// The segment is of another run than those around it.
    Run,
    /// The sequence number is not the next.
    Sequence,
    /// No record has that length.
    Length,
    /// The file is too short for it.
    Incomplete,
    /// The record's checksum.
    Checksum,
}

/// CRC-32C (Castagnoli), bit by bit.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// Reads the files of a journal, in order.
pub fn read(files: &[&[u8]]) -> Verdict {
    let (mut records, mut next_seq) = (Vec::new(), None);
    for (file, bytes) in files.iter().enumerate() {
        let is_last = file + 1 == files.len();
        let end = match header_fault(files, file) {
            Some(_) if is_last && is_torn_header(bytes) => Some(End::Torn { file, offset: 0 }),
            Some(fault) => Some(End::Damaged { file, offset: 0, fault }),
            None if next_seq.is_some_and(|next| next != first_seq(bytes)) => {
                Some(End::Damaged { file, offset: 0, fault: Fault::Sequence })
            }
            None => {
                let mut next = first_seq(bytes);
                let end = read_segment(file, bytes, is_last, &mut next, &mut records);
                next_seq = Some(next);
                end
            }
        };
        if let Some(end) = end {
            return Verdict { records, end };
        }
    }
    Verdict { records, end: End::Whole }
}

fn read_segment(
    file: usize,
    bytes: &[u8],
    is_last: bool,
    next: &mut u64,
    records: &mut Vec<Record>,
) -> Option<End> {
    let mut offset = HEADER;
    while offset < bytes.len() {
        let fault = match record_at(bytes, offset) {
            Ok((seq, length)) if seq == *next => {
                records.push(Record { file, offset, length, seq });
                offset += HEAD + length;
                *next += 1;
                continue;
            }
            Ok(_) => Fault::Sequence,
            Err(fault) => fault,
        };
        let is_later = |at| record_at(bytes, at).is_ok_and(|(seq, _)| seq >= *next);
        let is_torn = is_last && fault != Fault::Sequence && !(offset + 1..bytes.len()).any(is_later);
        return Some(if is_torn { End::Torn { file, offset } } else { End::Damaged { file, offset, fault } });
    }
    None
}

/// The sequence number and the length of the payload of the record that begins there.
fn record_at(bytes: &[u8], offset: usize) -> Result<(u64, usize), Fault> {
    let rest = &bytes[offset..];
    if rest.len() < HEAD {
        return Err(Fault::Incomplete);
    }
    let length = number(&rest[..4]) as usize;
    if length == 0 || length > LONGEST {
        return Err(Fault::Length);
    }
    if rest.len() < HEAD + length {
        return Err(Fault::Incomplete);
    }
    // The checksum is of all but itself.
    let covered = [&rest[..4], &rest[8..HEAD + length]].concat();
    if u64::from(crc32c(&covered)) != number(&rest[4..8]) {
        return Err(Fault::Checksum);
    }
    Ok((number(&rest[8..16]), length))
}

fn header_fault(files: &[&[u8]], file: usize) -> Option<Fault> {
    let bytes = files[file];
    if bytes.len() < HEADER {
        let is_cut = MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]);
        let is_blank = bytes.iter().all(|byte| *byte == 0);
        return Some(if is_cut || is_blank { Fault::Header } else { Fault::Magic });
    }
    if &bytes[..8] != MAGIC {
        return Some(if bytes.iter().all(|byte| *byte == 0) { Fault::Header } else { Fault::Magic });
    }
    if u64::from(crc32c(&bytes[..28])) != number(&bytes[28..32]) {
        return Some(Fault::Header);
    }
    let before = file.checked_sub(1).map(|before| run(files[before]));
    let goes_on = || {
        let readable = (file + 1..files.len()).take_while(|later| header_holds(files[*later]));
        readable.into_iter().any(|later| Some(run(files[later])) == before)
    };
    (before.is_some_and(|before| before != run(bytes)) && goes_on()).then_some(Fault::Run)
}

fn header_holds(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER && &bytes[..8] == MAGIC && u64::from(crc32c(&bytes[..28])) == number(&bytes[28..32])
}

/// Shorter than a header and the beginning of one, or nothing but zeros.
fn is_torn_header(bytes: &[u8]) -> bool {
    let begins = bytes.len() < HEADER && MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]);
    begins || bytes.iter().all(|byte| *byte == 0)
}

fn run(segment: &[u8]) -> u64 {
    number(&segment[12..20])
}

fn first_seq(segment: &[u8]) -> u64 {
    number(&segment[20..28])
}

/// Little-endian.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(run: u64, first: u64, payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = [MAGIC, &[1, 0, 0, 0], &run.to_le_bytes(), &first.to_le_bytes()].concat();
        bytes.extend(crc32c(&bytes).to_le_bytes());
        for (seq, payload) in (first..).zip(payloads) {
            let length = (payload.len() as u32).to_le_bytes();
            let rest = [&seq.to_le_bytes()[..], &[1, 0], payload].concat();
            bytes
                .extend([&length, &crc32c(&[&length, &rest[..]].concat()).to_le_bytes(), &rest[..]].concat());
        }
        bytes
    }

    fn check(files: &[&[u8]], records: usize, end: End) {
        let verdict = read(files);
        assert_eq!((verdict.records.len(), verdict.end), (records, end));
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn what_is_torn_and_what_is_damaged() {
        let (one, two) = (segment(7, 1, &[b"a", b"bb", b"c"]), segment(7, 4, &[b"d", b"e"]));
        let damaged = |file, offset, fault| End::Damaged { file, offset, fault };
        check(&[&one, &two], 5, End::Whole);
        check(&[&one, &two[..two.len() - 1]], 4, End::Torn { file: 1, offset: 51 });
        check(&[&one, &[]], 3, End::Torn { file: 1, offset: 0 });
        check(&[&one, &[0; 4096]], 3, End::Torn { file: 1, offset: 0 });
        check(&[&one, &[7; 4096]], 3, damaged(1, 0, Fault::Magic));
        check(&[&one, &[&two[..], &[0; 9]].concat()], 5, End::Torn { file: 1, offset: 70 });
        check(&[&one[..one.len() - 1], &two], 2, damaged(0, 71, Fault::Incomplete));
        check(&[&one, &one], 3, damaged(1, 0, Fault::Sequence));
        let foreign = segment(8, 4, &[b"d", b"e"]);
        check(&[&one, &foreign], 5, End::Whole);
        check(&[&one, &foreign, &segment(7, 6, &[])], 3, damaged(1, 0, Fault::Run));
        for (at, fault) in [(51, Fault::Length), (55, Fault::Checksum), (69, Fault::Checksum)] {
            let mut bent = one.clone();
            bent[at] ^= if at == 51 { 2 } else { 1 };
            check(&[&bent, &two], 1, damaged(0, 51, fault));
            check(&[&bent], 1, damaged(0, 51, fault));
        }
    }
}
