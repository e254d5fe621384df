//! What survives what: writing, tearing, damaging, continuing.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::error::Damage;
use crate::format::{HEADER_BYTES, MAX_RECORD_BYTES, RECORD_HEADER_BYTES};
use crate::samples::{envelopes, wrap};
use crate::{Info, info, verify};
use headwater_events::{BusEvent, SourceGap};

/// A directory and what its journals are configured with.
struct Place {
    directory: TempDir,
    segment_bytes: u64,
}

impl Place {
    fn new() -> Self {
        Self { directory: TempDir::new().expect("a temporary directory"), segment_bytes: 1 << 20 }
    }

    fn of_small_segments() -> Self {
        Self { segment_bytes: 200, ..Self::new() }
    }

    fn config(&self) -> JournalConfig {
        JournalConfig {
            segment_bytes: self.segment_bytes,
            ..JournalConfig::in_directory(self.directory.path().join("journal"))
        }
    }

    fn segment(&self, index: u32) -> PathBuf {
        self.config().directory.join(crate::recording::segment_name(index))
    }

    /// Appends as one run, the way the writer's thread does.
    fn append(&self, run: u64, seqs: impl IntoIterator<Item = u64>) {
        let journal = Journal::open(&self.config(), RunId(run)).expect("it opens");
        let JournalConfig { directory, segment_bytes, .. } = journal.config.clone();
        let mut appender =
            Appender::new(directory, RunId(run), segment_bytes, journal.next_index, journal.next_seq);
        appender.begin_segment().expect("it begins");
        appender.append(&envelopes(seqs)).expect("it appends");
    }

    fn seqs(&self) -> Result<Vec<u64>, JournalError> {
        let recording = Recording::open(self.config().directory)?;
        recording.records(0).map(|record| Ok(record?.envelope.seq)).collect()
    }

    fn info(&self) -> Info {
        info(self.config().directory).expect("it can be read")
    }

    fn edit(&self, index: u32, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.segment(index);
        let mut bytes = fs::read(&path).expect("the segment is there");
        change(&mut bytes);
        fs::write(&path, bytes).expect("it can be written");
    }

    /// Where each record of segment 1 begins, and where the file ends.
    fn offsets(&self) -> Vec<usize> {
        let recording = Recording::open(self.segment(1)).expect("it opens");
        let end = fs::read(self.segment(1)).expect("it is there").len();
        let begins = recording.records(0).map(|record| record.expect("whole").offset as usize);
        begins.chain([end]).collect()
    }

    #[track_caller]
    fn is_damaged(&self, index: u32, offset: usize, check: impl FnOnce(&Damage) -> bool) {
        match self.seqs() {
            Err(JournalError::Damaged { path, offset: at, damage }) => {
                assert_eq!((path, at as usize), (self.segment(index), offset));
                assert!(check(&damage), "{damage:?}");
            }
            other => panic!("damage expected, got {other:?}"),
        }
    }
}

#[test]
fn what_is_written_is_read_across_segments_and_runs() {
    let place = Place::of_small_segments();
    place.append(1, 1..=20);
    place.append(2, 21..=40);
    assert_eq!(place.seqs().expect("it holds"), (1..=40).collect::<Vec<_>>());
    let info = verify(place.config().directory).expect("it holds");
    assert!(info.segments.len() > 4, "{info:?}");
    assert_eq!((info.records, info.first_seq, info.last_seq), (40, 1, 40));
    assert_eq!(info.count("reconnected"), 40);
    assert_eq!(info.runs.len(), 2);
    assert_eq!(info.segments.iter().map(|segment| segment.records).sum::<u64>(), 40);
}

#[test]
fn reading_begins_at_any_sequence_number() {
    let place = Place::of_small_segments();
    place.append(1, 1..=40);
    let recording = Recording::open(place.config().directory).expect("it opens");
    for from in 0..=42 {
        let seqs: Vec<u64> =
            recording.records(from).map(|record| record.expect("it holds").envelope.seq).collect();
        assert_eq!(seqs, (from.max(1)..=40).collect::<Vec<_>>());
    }
}

#[test]
fn a_record_torn_at_any_byte_is_cut_off_and_reported() {
    let whole = Place::new();
    whole.append(1, 1..=3);
    let bytes = fs::read(whole.segment(1)).expect("it is there");
    let last = whole.offsets()[2];
    for length in last..bytes.len() {
        let place = Place::new();
        fs::create_dir_all(place.config().directory).expect("it can be made");
        fs::write(place.segment(1), &bytes[..length]).expect("it can be written");
        let torn = (length > last).then(|| TornTail {
            file: place.segment(1),
            offset: last as u64,
            bytes: (length - last) as u64,
            last_seq: 2,
        });
        assert_eq!(place.info().torn, torn);
        let journal = Journal::open(&place.config(), RunId(2)).expect("a torn tail is no damage");
        assert_eq!((journal.torn_tail(), journal.next_seq()), (torn.as_ref(), 3));
        drop(journal);
        assert_eq!(place.info().torn, None);
        place.append(2, 3..=5);
        assert_eq!(place.seqs().expect("it holds"), [1, 2, 3, 4, 5]);
    }
}

#[test]
fn a_flipped_bit_is_a_torn_tail_in_the_last_record_and_damage_before() {
    let place = Place::new();
    place.append(1, 1..=4);
    let bytes = fs::read(place.segment(1)).expect("it is there");
    let offsets = place.offsets();
    for bit in HEADER_BYTES * 8..bytes.len() * 8 {
        fs::write(place.segment(1), &bytes).expect("it can be written");
        place.edit(1, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let record = offsets.partition_point(|begin| *begin <= bit / 8) - 1;
        if record == 3 {
            assert_eq!(place.info().torn.map(|torn| torn.last_seq), Some(3), "bit {bit}");
        } else {
            place.is_damaged(1, offsets[record], |_| true);
            let opened = Journal::open(&place.config(), RunId(2));
            assert!(matches!(opened, Err(JournalError::Damaged { .. })), "bit {bit}");
        }
    }
}

#[test]
fn nothing_is_cut_off_a_damaged_journal() {
    let place = Place::new();
    place.append(1, 1..=4);
    let second = place.offsets()[1];
    place.edit(1, |bytes| bytes[second + RECORD_HEADER_BYTES] ^= 1);
    let before = fs::read(place.segment(1)).expect("it is there");
    Journal::open(&place.config(), RunId(2)).expect_err("it is damaged");
    assert_eq!(fs::read(place.segment(1)).expect("it is there"), before);
}

#[test]
fn an_absurd_length_is_refused_before_anything_is_allocated() {
    for length in [0, MAX_RECORD_BYTES as u32 + 1, u32::MAX] {
        let place = Place::new();
        place.append(1, 1..=3);
        let first = place.offsets()[0];
        place.edit(1, |bytes| bytes[first..first + 4].copy_from_slice(&length.to_le_bytes()));
        place.is_damaged(1, first, |damage| *damage == Damage::Length(length));
    }
}

#[test]
fn a_length_beyond_the_file_does_not_hide_the_records_behind_it() {
    let place = Place::new();
    place.append(1, 1..=3);
    let first = place.offsets()[0];
    place.edit(1, |bytes| bytes[first + 1] = 0xff);
    place.is_damaged(1, first, |damage| *damage == Damage::Incomplete);
}

#[test]
fn zeros_behind_the_last_record_are_a_torn_tail() {
    let place = Place::new();
    place.append(1, 1..=3);
    let end = fs::metadata(place.segment(1)).expect("it is there").len();
    place.edit(1, |bytes| bytes.extend([0; 4096]));
    assert_eq!(place.info().torn.map(|torn| (torn.offset, torn.bytes)), Some((end, 4096)));
    place.append(2, 4..=4);
    assert_eq!(place.seqs().expect("it holds"), [1, 2, 3, 4]);
}

#[test]
fn a_segment_that_was_cut_off_in_its_header_is_removed_and_reported() {
    for head in [0, 1, 8, HEADER_BYTES - 1] {
        let place = Place::new();
        place.append(1, 1..=3);
        let bytes = fs::read(place.segment(1)).expect("it is there");
        fs::write(place.segment(2), &bytes[..head]).expect("it can be written");
        let torn = place.info().torn.expect("it is torn");
        assert_eq!((torn.offset, torn.bytes, torn.last_seq), (0, head as u64, 3));
        let journal = Journal::open(&place.config(), RunId(2)).expect("it is no damage");
        assert_eq!((journal.torn_tail(), journal.next_seq()), (Some(&torn), 4));
        assert!(!place.segment(2).exists());
    }
}

#[test]
fn a_torn_record_before_the_last_segment_is_damage() {
    let place = Place::new();
    place.append(1, 1..=3);
    place.append(2, 4..=5);
    let last = place.offsets()[2];
    place.edit(1, |bytes| bytes.truncate(bytes.len() - 1));
    place.is_damaged(1, last, |damage| *damage == Damage::Incomplete);
}

#[test]
fn a_missing_segment_is_damage() {
    let place = Place::of_small_segments();
    place.append(1, 1..=40);
    fs::remove_file(place.segment(2)).expect("it is there");
    place.is_damaged(3, 0, |damage| matches!(damage, Damage::Sequence { .. }));
}

#[test]
fn a_broken_header_hides_nothing_that_stands_before_it() {
    for (at, damage) in [(0, Damage::Magic), (20, Damage::Header)] {
        let place = Place::of_small_segments();
        place.append(1, 1..=40);
        let last = place.info().segments.len() as u32;
        for broken in 2..=last {
            let first_seq = place.info().segments[broken as usize - 1].first_seq;
            let whole = fs::read(place.segment(broken)).expect("it is there");
            place.edit(broken, |bytes| bytes[at] ^= 1);
            place.is_damaged(broken, 0, |found| *found == damage);
            let before = Recording::open(place.config().directory).expect("the first segment is whole");
            let seqs: Vec<_> =
                before.records(0).map_while(Result::ok).map(|record| record.envelope.seq).collect();
            assert_eq!(seqs, (1..first_seq).collect::<Vec<_>>());
            Journal::open(&place.config(), RunId(2)).expect_err("it is damaged");
            fs::write(place.segment(broken), whole).expect("it can be written");
        }
    }
}

#[test]
fn records_behind_a_blank_header_are_not_removed() {
    let place = Place::new();
    place.append(1, 1..=3);
    place.append(2, 4..=6);
    place.edit(2, |bytes| bytes[..HEADER_BYTES].fill(0));
    let before = fs::read(place.segment(2)).expect("it is there");
    place.is_damaged(2, 0, |damage| *damage == Damage::Magic);
    Journal::open(&place.config(), RunId(3)).expect_err("it is damaged");
    assert_eq!(fs::read(place.segment(2)).expect("it is there"), before);
    place.edit(2, |bytes| bytes.fill(0));
    assert_eq!(place.info().torn.map(|torn| (torn.offset, torn.last_seq)), Some((0, 3)));
}

#[test]
fn a_segment_of_another_run_among_those_of_one_is_damage() {
    let (place, other) = (Place::of_small_segments(), Place::of_small_segments());
    place.append(1, 1..=40);
    other.append(2, 1..=40);
    fs::copy(other.segment(3), place.segment(3)).expect("it can be copied");
    let (expected, actual) = (RunId(1), RunId(2));
    place.is_damaged(3, 0, |damage| *damage == Damage::Run { expected, actual });
}

#[test]
fn a_first_segment_in_the_middle_is_not_where_reading_begins() {
    let place = Place::of_small_segments();
    place.append(1, 1..=40);
    fs::copy(place.segment(1), place.segment(4)).expect("it can be copied");
    place.is_damaged(4, 0, |damage| matches!(damage, Damage::Sequence { actual: 1, .. }));
    let recording = Recording::open(place.config().directory).expect("the first segment is whole");
    let first = recording.records(1).next().expect("there are events").expect("it holds");
    assert_eq!((first.envelope.seq, &*first.file), (1, &*place.segment(1)));
}

#[test]
fn a_segment_that_is_there_twice_is_damage() {
    let place = Place::new();
    place.append(1, 1..=3);
    fs::copy(place.segment(1), place.segment(2)).expect("it can be copied");
    place.is_damaged(2, 0, |damage| *damage == Damage::Sequence { expected: 4, actual: 1 });
    let read = info(place.config().directory).expect_err("it is damaged, wherever reading begins");
    assert!(matches!(read, JournalError::Damaged { offset: 0, .. }), "{read}");
    Journal::open(&place.config(), RunId(2)).expect_err("it is damaged");
}

#[test]
fn no_more_is_allocated_than_a_record_may_have() {
    let place = Place::new();
    place.append(1, 1..=3);
    let recording = Recording::open(place.config().directory).expect("it opens");
    for length in [u32::MAX, MAX_RECORD_BYTES as u32 + 1, MAX_RECORD_BYTES as u32, 100_000] {
        place.edit(1, |bytes| bytes[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(&length.to_le_bytes()));
        let mut reader = crate::segment::SegmentReader::open(&recording.segments()[0]).expect("it opens");
        assert!(reader.next_frame().is_err());
        assert!(reader.payload().is_empty(), "{length}");
    }
}

#[test]
fn a_repeated_record_is_damage() {
    let place = Place::new();
    place.append(1, 1..=3);
    let offsets = place.offsets();
    let repeated = fs::read(place.segment(1)).expect("it is there")[offsets[1]..offsets[2]].to_vec();
    place.edit(1, |bytes| bytes.extend(&repeated));
    place.is_damaged(1, offsets[3], |damage| *damage == Damage::Sequence { expected: 4, actual: 2 });
}

#[test]
fn runs_without_events_leave_no_pile_of_empty_segments() {
    let place = Place::new();
    for run in 1..=5 {
        place.append(run, []);
    }
    place.append(6, 1..=2);
    assert_eq!(place.info().segments.len(), 1);
    assert_eq!(place.seqs().expect("it holds"), [1, 2]);
}

#[test]
fn a_second_writer_is_kept_out() {
    let place = Place::new();
    let first = Journal::open(&place.config(), RunId(1)).expect("it is free");
    let second = Journal::open(&place.config(), RunId(2));
    assert!(matches!(second, Err(JournalError::InUse { .. })), "{second:?}");
    drop(first);
    Journal::open(&place.config(), RunId(2)).expect("it is free again");
}

#[test]
fn creating_refuses_what_is_there_already() {
    let place = Place::new();
    let journal = Journal::create(&place.config(), RunId(1), 500).expect("it is empty");
    assert_eq!(journal.next_seq(), 500);
    drop(journal);
    place.append(1, 1..=1);
    let again = Journal::create(&place.config(), RunId(1), 500);
    assert!(matches!(again, Err(JournalError::Exists { .. })), "{again:?}");
}

#[test]
fn a_foreign_file_gets_one_clear_message() {
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join("notes.txt");
    for content in [&b""[..], b"hello", b"\x89HWJ", &[7; 5000], &[0; 64]] {
        fs::write(&file, content).expect("it can be written");
        let message = Recording::open(&file).expect_err("it is foreign").to_string();
        assert_eq!(message, format!("not a headwater journal: {}", file.display()));
    }
    let message = Recording::open(directory.path()).expect_err("it is empty").to_string();
    assert_eq!(message, format!("no journal in {}", directory.path().display()));
    let runs = ["run-18ebfd5540457a54", "run-18ebfd5545ffb751"].map(|run| directory.path().join(run));
    runs.iter().for_each(|run| fs::create_dir(run).expect("it can be made"));
    let message = Recording::open(directory.path()).expect_err("it is the directory of all").to_string();
    assert!(message.ends_with(&format!("the newest is {}", runs[1].display())), "{message}");
    let missing = directory.path().join("missing");
    let message = Recording::open(&missing).expect_err("it is not there").to_string();
    assert!(message.starts_with(&format!("cannot open {}: ", missing.display())), "{message}");
}

#[test]
fn an_event_out_of_turn_or_derived_is_not_recorded() {
    let place = Place::new();
    let journal = Journal::open(&place.config(), RunId(1)).expect("it is free");
    let mut appender = Appender::new(place.config().directory, RunId(1), 1 << 20, 1, journal.next_seq());
    appender.begin_segment().expect("it begins");
    let hole = appender.append(&envelopes([1, 3])).expect_err("2 is missing");
    assert!(matches!(hole, JournalError::OutOfTurn { expected: 2, actual: 3 }), "{hole}");
    let derived = appender.append(&[wrap(2, BusEvent::Shutdown)]).expect_err("it is derived");
    assert!(matches!(derived, JournalError::NotASource { seq: 2, .. }), "{derived}");
}

#[test]
fn info_says_which_blocks_and_how_deep_a_reorganisation() {
    let place = Place::new();
    let journal = Journal::open(&place.config(), RunId(1)).expect("it is free");
    let mut appender = Appender::new(place.config().directory, RunId(1), 1 << 20, 1, journal.next_seq());
    appender.begin_segment().expect("it begins");
    let block = |number| BusEvent::NewBlock(crate::samples::devnet_block(number));
    let reorg = headwater_events::ReorgEvent {
        ancestor_number: 10,
        ancestor_hash: [1; 32].into(),
        undone: vec![[3; 32].into(), [2; 32].into()],
        old_head: [3; 32].into(),
        new_head: [5; 32].into(),
    };
    let gap = BusEvent::SourceGap(SourceGap { from: 11, to: 11, filled: 1 });
    let events = [block(10), block(11), block(12), BusEvent::Reorg(reorg), gap, block(11)];
    let batch: Vec<_> = (1..).zip(events).map(|(seq, event)| wrap(seq, event)).collect();
    appender.append(&batch).expect("it appends");
    let info = place.info();
    assert_eq!(info.blocks, Some((10, 12)));
    assert_eq!((info.count("new_block"), info.count("reorg"), info.deepest_reorg), (4, 1, 2));
}
