use headwater_events::{BusEvent, RunId};
use tempfile::TempDir;

use super::*;
use crate::appender::Appender;
use crate::samples::{devnet_block, envelopes, wrap};
use crate::verify;

fn journal(events: &[Arc<headwater_events::Envelope>]) -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    let mut appender = Appender::new(directory.path().into(), RunId(7), 64 << 10, 1, 1);
    appender.begin_segment().expect("it begins");
    appender.append(events).expect("it appends");
    directory
}

fn read_all(path: &Path) -> Result<Vec<Arc<headwater_events::Envelope>>, JournalError> {
    Recording::open(path)?.records(0).map(|record| Ok(record?.envelope)).collect()
}

#[test]
fn a_recording_of_three_hundred_devnet_blocks_is_below_two_megabytes() {
    let events: Vec<_> =
        (1..=300).map(|number| wrap(number, BusEvent::NewBlock(devnet_block(number)))).collect();
    let directory = journal(&events);
    let file = directory.path().join("bundled.hwj");
    let exported = export_recording(directory.path(), &file, None).expect("it can be exported");
    assert_eq!(exported.records, 300);
    assert!(exported.bytes > 1_500_000, "the blocks are of realistic size: {exported:?}");
    assert!(exported.compressed_bytes < 1_200_000, "{exported:?}");
    assert_eq!(read_all(&file).expect("it holds"), events);
    let info = verify(&file).expect("it holds");
    assert_eq!((info.records, info.blocks, info.bytes), (300, Some((1, 300)), exported.compressed_bytes));
}

#[test]
fn an_export_ends_where_it_is_told_to() {
    let directory = journal(&envelopes(1..=9));
    let file = directory.path().join("part.hwj");
    export_recording(directory.path(), &file, Some(4)).expect("it can be exported");
    assert_eq!(read_all(&file).expect("it holds"), envelopes(1..=4));
}

#[test]
fn a_recording_cut_off_or_changed_anywhere_is_refused() {
    let directory = journal(&envelopes(1..=9));
    let file = directory.path().join("small.hwj");
    export_recording(directory.path(), &file, None).expect("it can be exported");
    let whole = std::fs::read(&file).expect("it is there");
    for length in 0..whole.len() {
        std::fs::write(&file, &whole[..length]).expect("it can be written");
        read_all(&file).expect_err("it is cut off");
    }
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&file, &bytes).expect("it can be written");
        // Deflate has bits without a meaning: padding. They may change, the events may not.
        if let Ok(read) = read_all(&file) {
            assert_eq!(read, envelopes(1..=9), "bit {bit}");
            assert!(bit / 8 >= HEADER_BYTES + PREAMBLE_BYTES, "bit {bit} of the head means something");
        }
    }
    std::fs::write(&file, [&whole[..], b"x"].concat()).expect("it can be written");
    read_all(&file).expect_err("something follows");
}
