use headwater_events::{BlockEvent, ReorgEvent, RunId};
use tempfile::TempDir;

use super::*;
use crate::JournalConfig;
use crate::samples::{devnet_block, envelope, wrap};

/// What is saved in these tests.
type Numbers = Vec<u64>;

/// A directory for the snapshots of two components; a reorganisation undoes three blocks at most.
struct Place(TempDir);

const HORIZON: BlockNumber = 3;

impl Place {
    fn new() -> Self {
        Self(TempDir::new().expect("a temporary directory"))
    }

    fn of(&self, name: &'static str) -> Snapshots {
        Snapshots::new(self.0.path(), name, 1, "as it was", HORIZON)
    }

    fn state(&self) -> Snapshots {
        self.of("state")
    }

    /// Saves what is told apart by its event: that of a block of the same number.
    fn saved(self, seqs: impl IntoIterator<Item = u64>) -> Self {
        for seq in seqs {
            self.state().save(&image(seq)).expect("there is room");
        }
        self
    }

    fn left(&self) -> Vec<u64> {
        let files = self.state().files().expect("it is readable");
        files.into_iter().map(|(seq, _)| seq).collect()
    }
}

fn image(seq: u64) -> Image<Numbers> {
    Image { as_of: AsOf { seq, number: seq, hash: hash(seq) }, content: vec![seq; 9] }
}

fn hash(seq: u64) -> B256 {
    B256::from(alloy_primitives::U256::from(seq))
}

/// The event of the newest snapshot up to `until` that serves.
fn newest(snapshots: &Snapshots, until: u64) -> Option<u64> {
    let found: Option<Image<Numbers>> = snapshots.newest(until);
    found.map(|found| {
        assert_eq!(
            (found.as_of, &found.content),
            (image(found.as_of.seq).as_of, &image(found.as_of.seq).content)
        );
        found.as_of.seq
    })
}

#[test]
fn the_newest_up_to_an_event_is_found() {
    let place = Place::new().saved([10, 20]);
    place.of("oracle").save(&image(30)).expect("there is room");
    for (until, found) in [(9, None), (10, Some(10)), (19, Some(10)), (20, Some(20)), (u64::MAX, Some(20))] {
        assert_eq!(newest(&place.state(), until), found, "{until}");
    }
    assert_eq!(newest(&place.of("oracle"), 99), Some(30));
}

#[test]
fn the_newest_two_stay_and_as_many_as_reach_beyond_the_horizon() {
    let place = Place::new();
    let check = |seq, left: &[u64], needed| {
        place.state().save(&image(seq)).expect("there is room");
        assert_eq!((place.left(), place.state().needed_from()), (left.to_vec(), needed));
    };
    check(10, &[10], None);
    check(11, &[10, 11], None);
    check(12, &[10, 11, 12], None);
    check(13, &[10, 11, 12, 13], Some(10));
    check(14, &[11, 12, 13, 14], Some(11));
    check(30, &[14, 30], Some(14));
    check(60, &[30, 60], Some(30));
}

#[test]
fn a_file_that_is_cut_off_or_changed_anywhere_is_refused_and_the_one_before_it_serves() {
    let place = Place::new().saved([10, 20]);
    let path = place.state().path(20);
    let whole = fs::read(&path).expect("it was saved");
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).expect("it can be written");
        assert_eq!(newest(&place.state(), 99), Some(10), "cut off at {length}");
    }
    for bit in 0..8 * whole.len() {
        let mut bent = whole.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bent).expect("it can be written");
        assert_eq!(newest(&place.state(), 99), Some(10), "bit {bit}");
    }
    fs::write(&path, [&whole[..], b"\0"].concat()).expect("it can be written");
    assert_eq!(newest(&place.state(), 99), Some(10));
    fs::write(&path, whole).expect("it can be written");
    assert_eq!(newest(&place.state(), 99), Some(20));
}

#[test]
fn a_snapshot_of_another_version_configuration_or_name_is_refused() {
    let place = Place::new().saved([10]);
    let path = place.0.path();
    let refusal =
        |snapshots: Snapshots| snapshots.examine(&snapshots.path(10)).err().map(|it| it.to_string());
    assert_eq!(refusal(place.state()), None);
    let newer = Snapshots::new(path, "state", 2, "as it was", HORIZON);
    assert_eq!(refusal(newer).as_deref(), Some("the image is of version 1, and this program reads 2"));
    let other = Snapshots::new(path, "state", 1, "changed", HORIZON);
    assert_eq!(refusal(other).as_deref(), Some("it was taken under another configuration"));
    fs::copy(place.state().path(10), place.state().path(11)).expect("it can be copied");
    assert_eq!(newest(&place.state(), 11), Some(10));
}

#[test]
fn a_length_that_the_payload_cannot_hold_is_refused_before_anything_is_allocated() {
    let place = Place::new();
    for claimed in [u64::from(u32::MAX), u64::MAX] {
        // As many elements, and none of them there.
        let mut payload = vec![253];
        payload.extend(claimed.to_le_bytes());
        let (length, crc) = (payload.len() as u64, crc32c::crc32c(&payload));
        let (as_of, configuration) = (image(10).as_of, crc32c::crc32c(b"as it was"));
        let header = Header { version: 1, configuration, as_of, length, crc };
        fs::write(place.state().path(10), [&header.encode()[..], &payload].concat()).expect("it is written");
        let read: Result<Image<Numbers>, _> = place.state().read(&place.state().path(10));
        assert!(matches!(read, Err(Refusal::Payload(_))), "{:?}", read.err());
    }
}

#[test]
fn the_bytes_are_those_of_the_description() {
    let place = Place::new().saved([0x0a0b]);
    let bytes = fs::read(place.state().path(0x0a0b)).expect("it was saved");
    let payload = [&[9][..], &[251, 0x0b, 0x0a].repeat(9)].concat();
    let mut expected = b"\x89HWS\r\n\x1a\n\x01\0\x01\0".to_vec();
    expected.extend(crc32c::crc32c(b"as it was").to_le_bytes());
    expected.extend(b"\x0b\x0a\0\0\0\0\0\0\x0b\x0a\0\0\0\0\0\0");
    expected.extend(hash(0x0a0b));
    expected.extend([28, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend(crc32c::crc32c(&payload).to_le_bytes());
    expected.extend(crc32c::crc32c(&expected).to_le_bytes());
    expected.extend(&payload);
    assert_eq!(bytes, expected);
    assert!(place.0.path().join("state-00000000000000002571.hws").exists());
}

fn block(seq: u64) -> BusEvent {
    let mut block: BlockEvent = devnet_block(seq);
    (block.header.hash, block.header.parent_hash) = (hash(seq), hash(seq - 1));
    BusEvent::NewBlock(block)
}

fn reorg(undone: &[u64]) -> BusEvent {
    BusEvent::Reorg(ReorgEvent {
        ancestor_number: 0,
        ancestor_hash: B256::ZERO,
        undone: undone.iter().copied().map(hash).collect(),
        old_head: B256::ZERO,
        new_head: B256::ZERO,
    })
}

/// A record of these events, from 1 on.
fn record(directory: &Path, events: Vec<BusEvent>) -> (Recording, u64) {
    let mut appender = crate::appender::Appender::new(directory.to_path_buf(), RunId(7), u64::MAX, 1, 1);
    appender.begin_segment().expect("it begins");
    let envelopes: Vec<_> = (1..).zip(events).map(|(seq, event)| wrap(seq, event)).collect();
    appender.append(&envelopes).expect("it appends");
    (Recording::open(directory).expect("it holds"), envelopes.len() as u64 + 1)
}

#[test]
fn what_the_record_contradicts_is_refused_and_removed() {
    let check = |events: Vec<BusEvent>, saved: &[u64], left: &[u64]| {
        let place = Place::new();
        for seq in saved {
            place.state().save(&image(*seq)).expect("there is room");
        }
        let (recording, next) = record(place.0.path(), events);
        let (state, oracle) = (place.state(), place.of("oracle"));
        let counts = Snapshots::admit(&[&state, &oracle], &recording, next).expect("it is readable");
        assert_eq!((counts, place.left()), (vec![left.len(), 0], left.to_vec()), "{saved:?}");
    };
    let blocks = |upto: u64| (1..=upto).map(block).collect::<Vec<_>>();
    check(blocks(4), &[2, 3], &[2, 3]);
    check(blocks(4), &[3, 5], &[3]);
    check(blocks(4), &[5], &[]);
    // A block that was undone, one below it, and one that was made again.
    let undone = [blocks(4), vec![reorg(&[4, 3])]].concat();
    check(undone.clone(), &[2, 3, 4], &[2]);
    check([undone, vec![block(6)]].concat(), &[2, 4, 6], &[2, 6]);
    // Something else stands there.
    let other = BusEvent::clone(&envelope(2).event);
    check(vec![block(1), other, block(3)], &[1, 2, 3], &[1, 3]);
}

#[test]
fn what_another_program_may_go_on_from_stays_and_what_was_not_finished_goes() {
    let place = Place::new().saved([1, 2]);
    let unfinished = place.state().path(3).with_extension(TEMPORARY);
    fs::write(&unfinished, b"half").expect("it can be written");
    fs::write(place.0.path().join("notes.tmp"), b"mine").expect("it can be written");
    let (recording, next) = record(place.0.path(), (1..=4).map(block).collect());
    let newer = Snapshots::new(place.0.path(), "state", 2, "as it was", HORIZON);
    assert_eq!(Snapshots::admit(&[&newer], &recording, next).expect("readable"), [0]);
    assert_eq!(place.left(), [1, 2]);
    assert!(!unfinished.exists() && place.0.path().join("notes.tmp").exists());
}

#[test]
fn a_snapshot_that_cannot_be_written_leaves_those_before_it() {
    let place = Place::new().saved([1]);
    fs::create_dir(place.state().path(2)).expect("its name is taken");
    assert!(place.state().save(&image(2)).is_err());
    assert_eq!(newest(&place.state(), 9), Some(1));
    assert!(files_ending_in(place.0.path(), TEMPORARY).expect("readable").is_empty());
}

#[test]
fn snapshots_go_with_their_run() {
    let place = Place::new();
    let config = JournalConfig { keep_bytes: 1, ..JournalConfig::in_directory(place.0.path()) };
    let old = config.of_run(RunId(1));
    fs::create_dir(&old.directory).expect("it is new");
    record(&old.directory, vec![block(1)]);
    Snapshots::new(&old.directory, "state", 1, "", HORIZON).save(&image(1)).expect("there is room");
    let retention = crate::retention::Retention::new(&config.of_run(RunId(2)), Some(place.0.path().into()));
    fs::create_dir(config.of_run(RunId(2)).directory).expect("it is new");
    assert_eq!(retention.apply(u64::MAX, std::time::Duration::ZERO).runs, 1);
    assert!(!old.directory.exists());
}
