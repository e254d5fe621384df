use alloy_primitives::U256;
use headwater_events::{
    ConcentratedLoaded, ConcentratedState, FeedResolved, FeedRound, FeedVerdict, LoadedTick, MarketLoaded,
    MarketResynced, PoolProof, Protocol, Reconnected, SourceGap,
};
use proptest::prelude::*;

use super::*;
use crate::samples::{devnet_block, envelope, source_event, wrap};

fn record(envelope: &Envelope) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_record(envelope, &mut bytes).expect("it is small");
    bytes
}

fn read_back(bytes: &[u8], run_id: RunId) -> Result<Envelope, Damage> {
    let (head, payload) = bytes.split_first_chunk().expect("a record has a head");
    let head = RecordHeader::decode(head);
    assert!(head.has_sane_length() && head.holds_for(payload));
    decode_payload(run_id, head.seq, head.schema, payload)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What stands here is on the disks of users: when this test fails, the schema version has to change, and the old
/// bytes must stay readable.
#[test]
fn the_bytes_on_the_disk_do_not_change() {
    let header = SegmentHeader { compressed: false, run_id: RunId(0x0123_4567_89ab_cdef), first_seq: 42 };
    assert_eq!(hex(&header.encode()), "8948574a0d0a1a0a01000000efcdab89674523012a00000000000000a52040b6");

    let reconnected = wrap(1, BusEvent::Reconnected(Reconnected { epoch: 2, endpoint: 1 }));
    assert_eq!(hex(&record(&reconnected)), "08000000ca9ae8f501000000000000000200fc01ca9a3b040201");

    let gap = wrap(300, BusEvent::SourceGap(SourceGap { from: 20_000_000, to: 20_000_001, filled: 2 }));
    assert_eq!(hex(&record(&gap)), "1100000058fec1192c010000000000000200fc2ccb9a3b03fc002d3101fc012d310102");

    let loaded = MarketLoaded { number: 5, hash: [0xab; 32].into(), chain_id: 31_337, pools: 16 };
    assert_eq!(
        hex(&record(&wrap(3, BusEvent::MarketLoaded(loaded)))),
        "2c000000536a376803000000000000000200fc03ca9a3b070520ababababababababababababababababababababababababababababababababfb697a10"
    );

    let reserves = vec![([0xcd; 20].into(), Some((7, 300))), ([0xef; 20].into(), None)];
    let resynced = MarketResynced { number: 5, hash: [0xab; 32].into(), reserves };
    assert_eq!(
        hex(&record(&wrap(3, BusEvent::MarketResynced(resynced)))),
        "590000007708070903000000000000000200fc03ca9a3b0e0520abababababababababababababababababababababababababababababababab0214cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd0107fb2c0114efefefefefefefefefefefefefefefefefefefef00"
    );

    let round = FeedRound {
        aggregator: [0xaa; 20].into(),
        phase: 6,
        decimals: 8,
        token_decimals: 18,
        round: 300,
        answer: Some(U256::from(7)),
        updated_at: 1_700_000_000,
    };
    let feed =
        |verdict| FeedResolved { proxy: [0xcd; 20].into(), number: 5, hash: [0xab; 32].into(), verdict };
    assert_eq!(
        hex(&record(&wrap(3, BusEvent::FeedResolved(feed(FeedVerdict::Accepted(round)))))),
        "8000000025039ef903000000000000000200fc03ca9a3b0f14cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd0520abababababababababababababababababababababababababababababababab0014aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa060812fb2c0101200000000000000000000000000000000000000000000000000000000000000007fc00f15365"
    );
    let refused = feed(FeedVerdict::Refused("no".to_owned()));
    assert_eq!(
        hex(&record(&wrap(3, BusEvent::FeedResolved(refused)))),
        "41000000a3f8312803000000000000000200fc03ca9a3b0f14cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd0520abababababababababababababababababababababababababababababababab01026e6f"
    );

    let tick = |index, liquidity_net| LoadedTick { index, liquidity_net, liquidity_gross: 300 };
    let state = ConcentratedState {
        sqrt_price: U256::from(7),
        tick: -1,
        liquidity: 0,
        ticks: vec![tick(60, 300), tick(120, -300)],
    };
    let concentrated = ConcentratedLoaded {
        pool: [0xaa; 20].into(),
        factory: [0xbb; 20].into(),
        protocol: Protocol::UniswapV3,
        token0: [0xcc; 20].into(),
        token1: [0xdd; 20].into(),
        fee: 3_000,
        tick_spacing: 60,
        number: 5,
        hash: [0xab; 32].into(),
        proof: PoolProof::FactoryAnswer,
        state: Some(state),
    };
    assert_eq!(
        hex(&record(&wrap(3, BusEvent::ConcentratedLoaded(concentrated)))),
        "b5000000457aca0303000000000000000200fc03ca9a3b1014aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa14bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb0114cccccccccccccccccccccccccccccccccccccccc14ddddddddddddddddddddddddddddddddddddddddfbb80b780520abababababababababababababababababababababababababababababababab010120000000000000000000000000000000000000000000000000000000000000000701000278fb5802fb2c01f0fb5702fb2c01"
    );

    let block = record(&wrap(7, BusEvent::NewBlock(devnet_block(1))));
    assert_eq!((block.len(), crc32c::crc32c(&block)), (8411, 2424359758));
}

#[test]
fn a_header_is_read_as_it_was_written() {
    for compressed in [false, true] {
        let header = SegmentHeader { compressed, run_id: RunId(u64::MAX), first_seq: 9 };
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }
}

#[test]
fn any_flipped_bit_of_a_header_is_noticed() {
    let whole = SegmentHeader { compressed: false, run_id: RunId(1), first_seq: 1 }.encode();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(SegmentHeader::decode(&bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn a_later_format_is_refused_by_its_number() {
    let mut bytes = SegmentHeader { compressed: false, run_id: RunId(1), first_seq: 1 }.encode();
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::decode(&bytes), Err(BadHeader::Newer(9)));
}

#[test]
fn an_unknown_schema_a_leftover_and_a_derived_event_are_no_events() {
    let bytes = record(&envelope(1));
    let payload = &bytes[RECORD_HEADER_BYTES..];
    assert_eq!(decode_payload(RunId(0), 1, 1, payload), Err(Damage::Schema(1)));
    let longer = [payload, &[0]].concat();
    assert!(matches!(decode_payload(RunId(0), 1, SCHEMA_VERSION, &longer), Err(Damage::Payload(_))));
    let derived = record(&wrap(1, BusEvent::Shutdown));
    assert_eq!(read_back(&derived, RunId(0)), Err(Damage::NotASource("shutdown")));
}

#[test]
fn a_payload_that_claims_a_sextillion_elements_is_refused_without_allocating() {
    // received_at 0, variant NewBlock, then a header whose first field is a varint of 2^64 - 1 and hashes of as many
    // bytes.
    let mut payload = vec![0, 0, 253];
    payload.extend([0xff; 8]);
    payload.push(253);
    payload.extend([0xff; 8]);
    assert!(matches!(decode_payload(RunId(0), 1, SCHEMA_VERSION, &payload), Err(Damage::Payload(_))));
}

proptest! {
    #[test]
    fn every_source_event_is_read_as_it_was_written(event in source_event(), seq in any::<u64>()) {
        let envelope = wrap(seq.saturating_sub(2_000_000_000), event);
        prop_assert_eq!(read_back(&record(&envelope), envelope.run_id), Ok((*envelope).clone()));
    }

    #[test]
    fn no_payload_makes_decoding_panic(payload in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode_payload(RunId(0), 1, SCHEMA_VERSION, &payload);
    }

    /// Damage that a checksum would catch first, were it not for whoever can compute one.
    #[test]
    fn no_change_to_a_payload_makes_decoding_panic(event in source_event(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut payload = record(&wrap(1, event)).split_off(RECORD_HEADER_BYTES);
        let at = at.index(payload.len());
        payload[at] = byte;
        let _ = decode_payload(RunId(0), 1, SCHEMA_VERSION, &payload);
    }
}
