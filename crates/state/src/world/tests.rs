use alloy_primitives::{B256, Bytes};
use headwater_events::PoolQuarantined;
use headwater_market::{BookError, Changes, ConcentratedKey, PoolId};
use headwater_reference::rebuild::Rebuild;
use proptest::prelude::*;

use super::*;
use crate::testing::{
    History, address, any_history, created, judged, loaded, market, quarantined, seen, sync,
};

fn apply(world: &mut World, envelope: &Envelope) -> Option<AppliedBlock> {
    world.apply(envelope).expect("a history is in order")
}

/// Plays a history; gives what its last block did.
fn play(history: &History) -> (World, AppliedBlock) {
    let mut world = World::new(&market());
    let mut blocks = Vec::new();
    blocks.extend(history.events.iter().filter_map(|envelope| apply(&mut world, envelope)));
    (world, blocks.pop().expect("a history has a block"))
}

fn factory() -> Address {
    market().factories[0].address
}

#[track_caller]
fn check_changes(history: &History, expected: Option<&[u32]>) {
    let expected =
        expected.map_or(Changes::All, |ids| Changes::Pools(ids.iter().copied().map(PoolId).collect()));
    assert_eq!(play(history).1.snapshot.changes, expected);
}

#[track_caller]
fn check_requests(history: &History, expected: &[Subject]) {
    let (world, block) = play(history);
    let as_of = block.snapshot.as_of;
    let expected: Vec<_> = expected.iter().map(|subject| LoadRequest { subject: *subject, as_of }).collect();
    assert_eq!(world.requests(&block), expected);
}

#[test]
fn a_snapshot_names_its_parent_and_what_changed_since() {
    let mut history = History::new();
    history
        .add(BusEvent::PoolLoaded(loaded(1, Some(5))))
        .add(BusEvent::PoolLoaded(loaded(2, Some(5))))
        .block(vec![]);
    check_changes(&history, None);
    check_changes(history.block(vec![]), Some(&[]));
    check_changes(history.block(vec![sync(2, 7), sync(9, 1), sync(2, 8)]), Some(&[1]));
    check_changes(history.block(vec![created(factory(), 3)]), Some(&[2]));
    check_changes(history.add(BusEvent::PoolLoaded(loaded(9, None))).block(vec![sync(1, 1)]), Some(&[0, 3]));
    check_changes(history.add(BusEvent::TokenJudged(judged(0xa2, true))).block(vec![]), Some(&[1]));
    // The parent is the snapshot before, which was undone; what a verdict changed stays.
    check_changes(history.reorg(1).block(vec![]), Some(&[]));
    check_changes(history.reorg(3).block(vec![sync(2, 1)]), Some(&[0, 1, 2]));
    check_changes(history.block(vec![]), Some(&[]));
    let (_, block) = play(&history);
    let parent = block.snapshot.parent.expect("it is not the first");
    assert_eq!((parent.seq, block.snapshot.as_of.seq), (14, 15));
}

#[test]
fn a_token_whose_verdict_is_left_out_is_not_quoted() {
    let mut history = History::new();
    history.add(BusEvent::PoolLoaded(loaded(1, Some(5)))).block(vec![]);
    let (mut world, block) = play(&history);
    assert!(block.snapshot.pools.quoted(PoolId(0)).is_some());
    history.add(BusEvent::TokenJudged(judged(0xa1, false))).block(vec![]);
    let [.., verdict, next] = &history.events[..] else { panic!("there are two more") };
    world.leave_out(verdict);
    assert_eq!(apply(&mut world, next).expect("a block").snapshot.pools.quoted(PoolId(0)), None);
}

#[test]
fn the_head_tells_the_next_base_fee() {
    let mut history = History::new();
    let (_, block) = play(history.block(vec![]));
    let head = block.snapshot.head;
    assert_eq!((head.gas_used, head.next_base_fee_per_gas()), (15_000_000, Some(1_000_000_007)));
}

#[test]
fn strangers_and_unjudged_tokens_raise_questions_once() {
    let mut history = History::new();
    check_requests(
        history.block(vec![sync(9, 1), sync(8, 1), sync(9, 2)]),
        &[Subject::Pool(address(8)), Subject::Pool(address(9))],
    );
    let holder = address(1);
    let tokens = [0xa0, 0xa1].map(|token| Subject::Token { token: address(token), holder });
    check_requests(history.block(vec![created(factory(), 1), sync(1, 1)]), &tokens);
    check_requests(history.block(vec![sync(1, 2)]), &tokens);
    history.add(BusEvent::TokenJudged(judged(0xa0, false)));
    check_requests(history.block(vec![sync(1, 2)]), &tokens[1..]);
    history.add(BusEvent::TokenJudged(judged(0xa1, true)));
    check_requests(history.block(vec![sync(1, 3)]), &[]);
}

#[test]
fn a_foreign_factory_and_a_malformed_log_change_nothing() {
    let mut history = History::new();
    let mut cut = sync(1, 5);
    cut.data = Bytes::copy_from_slice(&cut.data[..63]);
    history.add(BusEvent::PoolLoaded(loaded(1, Some(4))));
    let (world, block) = play(history.block(vec![created(address(0xee), 2), sync(2, 6), cut]));
    let quoted: Vec<_> =
        block.snapshot.pools.iter().map(|(id, ..)| block.snapshot.pools.quoted(id)).collect();
    assert_eq!(quoted, [Some(Reserves { reserve0: 4, reserve1: 8 })]);
    let counts = world.counts();
    assert_eq!((counts.malformed, counts.book.foreign_factories, counts.candidates), (1, 1, 1));
}

#[test]
fn liquidity_is_told_as_the_block_left_it() {
    let mut history = History::new();
    history.add(BusEvent::PoolLoaded(loaded(1, Some(4)))).add(BusEvent::PoolLoaded(loaded(2, Some(4))));
    let (_, block) = play(history.block(vec![sync(2, 5), sync(1, 6), sync(2, 7), sync(3, 1)]));
    let told: Vec<_> = block.liquidity().map(|told| (told.pool, told.reserve0)).collect();
    assert_eq!(told, [(address(1), 6), (address(2), 7)]);
}

#[test]
fn a_hole_is_an_error_and_a_deep_reorganisation_loses_the_world() {
    let mut history = History::new();
    for _ in 0..66 {
        history.block(vec![]);
    }
    let mut world = World::new(&market());
    apply(&mut world, &history.events[0]);
    let hole = world.apply(&history.events[2]);
    assert!(matches!(hole, Err(WorldError::Book(BookError::Discontinuous { number: 3, .. }))));
    history.events[1..].iter().for_each(|envelope| drop(apply(&mut world, envelope)));
    history.reorg(65);
    apply(&mut world, history.events.last().expect("the reorganisation"));
    assert!(world.counts().lost);
    let asked = world.resync_request().expect("it is lost");
    assert_eq!((asked.as_of.number, asked.as_of.seq, asked.pools.len()), (1, 67, 0));
}

/// What a snapshot quotes, by ascending address.
fn quoted(snapshot: &MarketSnapshot) -> Vec<(Address, u128, u128)> {
    let pools = snapshot.pools.iter();
    let mut quoted: Vec<_> = pools
        .filter_map(|(id, meta, _)| {
            let held = snapshot.pools.quoted(id)?;
            Some((meta.address, held.reserve0, held.reserve1))
        })
        .collect();
    quoted.sort_unstable();
    quoted
}

/// The pools that differ between two snapshots.
fn difference(before: &MarketSnapshot, now: &MarketSnapshot) -> Vec<PoolId> {
    let told = |snapshot: &MarketSnapshot, id| (snapshot.pools.reserves(id), snapshot.pools.quoted(id));
    let is_new = |id: PoolId| id.index() >= before.pools.len();
    let ids = now.pools.iter().map(|(id, ..)| id);
    ids.filter(|id| is_new(*id) || told(before, *id) != told(now, *id)).collect()
}

proptest! {
    #[test]
    fn every_snapshot_is_what_the_surviving_blocks_say(history in any_history(false)) {
        let mut world = World::new(&market());
        let mut judge = Rebuild::new([(factory(), 3_000)]);
        for envelope in &history.events {
            let json = serde_json::to_value(&**envelope).expect("an envelope is JSON");
            let at = judge.take(&json).expect("a history is in order");
            let block = apply(&mut world, envelope);
            prop_assert_eq!(at.is_some(), block.is_some());
            let (Some(at), Some(block)) = (at, block) else { continue };
            let expected: Vec<_> =
                judge.pools().iter().map(|pool| (pool.address, pool.reserve0, pool.reserve1)).collect();
            prop_assert_eq!(quoted(&block.snapshot), expected);
            prop_assert_eq!(block.snapshot.as_of.hash, at.hash);
            prop_assert_eq!(block.snapshot.head.next_base_fee_per_gas(), at.next_base_fee());
        }
    }

    #[test]
    fn a_world_of_a_saved_image_goes_on_as_the_world_does(history in any_history(true), every in 1usize..40) {
        let mut world = World::new(&market());
        let mut restored = world.clone();
        for (index, envelope) in history.events.iter().enumerate() {
            let (block, again) = (apply(&mut world, envelope), apply(&mut restored, envelope));
            let seen = |block: &Option<AppliedBlock>| block.as_ref().map(|block| seen(&block.snapshot));
            prop_assert_eq!(seen(&again), seen(&block));
            if index % every == 0 {
                let saved = serde_json::to_string(&restored.image()).expect("an image is JSON");
                let image = serde_json::from_str(&saved).expect("as it was written");
                restored = World::of_image(&market(), image).expect("it is of a world");
            }
            // Undo records, candidates and verdicts included.
            prop_assert_eq!(json(&restored.image()), json(&world.image()));
        }
    }

    #[test]
    fn what_differs_from_the_parent_is_told(history in any_history(true)) {
        let mut world = World::new(&market());
        let mut last: Option<AppliedBlock> = None;
        for block in history.events.iter().filter_map(|envelope| apply(&mut world, envelope)) {
            let now = &block.snapshot;
            prop_assert_eq!(now.parent, last.as_ref().map(|last| last.snapshot.as_of));
            match (&now.changes, &last) {
                // Of an undone block or not.
                (Changes::Pools(told), Some(last)) => {
                    let unsaid = difference(&last.snapshot, now).into_iter().find(|id| !told.contains(id));
                    prop_assert_eq!(unsaid, None);
                    prop_assert!(told.is_sorted_by(|a, b| a < b));
                }
                (Changes::All, None) => {}
                (told, _) => prop_assert!(false, "{told:?} as of {:?}", now.as_of),
            }
            last = Some(block);
        }
    }
}

fn json(image: &WorldImage) -> serde_json::Value {
    serde_json::to_value(image).expect("an image is JSON")
}

#[test]
fn an_image_whose_parts_contradict_each_other_is_of_no_world() {
    let mut world = World::new(&market());
    let mut history = History::new();
    history.add(BusEvent::PoolLoaded(loaded(1, Some(5)))).block(vec![sync(1, 7)]);
    history.events.iter().for_each(|envelope| drop(apply(&mut world, envelope)));
    let check = |path: &str, value: serde_json::Value| {
        let mut image = json(&world.image());
        *image.pointer_mut(path).expect("a part of it") = value;
        let image: Result<WorldImage, _> = serde_json::from_value(image);
        image.is_ok_and(|image| World::of_image(&market(), image).is_ok())
    };
    assert!(check("/blocks", 7.into()));
    for path in ["/book/standing", "/book/table/reserves", "/book/table/admitted"] {
        assert!(!check(path, serde_json::json!([])), "{path}");
    }
    assert!(!check("/book/changed", serde_json::json!([1])));
}

fn market_v3() -> ResolvedMarket {
    let factory = headwater_market::ConcentratedFactory {
        name: "v3".to_owned(),
        address: address(0xf3),
        init_code_hash: B256::repeat_byte(3),
        deployer: None,
    };
    ResolvedMarket { concentrated_factories: vec![factory], ..market() }
}

/// A market with a factory of V3, and a history whose blocks hold these logs.
fn play_v3(blocks: Vec<Vec<Log>>) -> (World, AppliedBlock) {
    let (mut world, mut history) = (World::new(&market_v3()), History::new());
    for logs in blocks {
        history.block(logs);
    }
    let applied = history.events.iter().filter_map(|envelope| apply(&mut world, envelope)).last();
    (world, applied.expect("a history has a block"))
}

fn log(emitter: Address, topics: Vec<B256>, words: &[u64]) -> Log {
    let data: Vec<u8> = words.iter().flat_map(|word| U256::from(*word).to_be_bytes::<32>()).collect();
    Log {
        address: emitter,
        topics: topics.into_iter().collect(),
        data: Bytes::from(data),
        transaction_index: 0,
        log_index: 0,
    }
}

fn swap_v3(emitter: Address, words: &[u64]) -> Log {
    let topic = keccak256("Swap(address,address,int256,int256,uint160,uint128,int24)");
    log(emitter, vec![topic, B256::ZERO, B256::ZERO], words)
}

/// Where the pool of two tokens is.
fn pool_v3() -> Address {
    market_v3().concentrated_factories[0].derive(address(1), address(2), 500)
}

/// Its factory creates the pool of two tokens, and it gets the least price that there is.
fn created_v3(pool: Address) -> Vec<Log> {
    let created = keccak256("PoolCreated(address,address,uint24,int24,address)");
    let topics = vec![created, address(1).into_word(), address(2).into_word(), U256::from(500).into()];
    let mut creation = log(address(0xf3), topics, &[10]);
    creation.data = [&creation.data[..], pool.into_word().as_slice()].concat().into();
    let price = U256::from(4_295_128_739u64).to_be_bytes::<32>();
    let tick = alloy_primitives::I256::try_from(-887_272).expect("it fits").to_be_bytes::<32>();
    let mut first = log(pool, vec![keccak256("Initialize(uint160,int24)")], &[]);
    first.data = [price, tick].concat().into();
    vec![creation, first]
}

#[test]
fn an_unknown_emitter_of_v3_events_is_asked_about_and_a_created_pool_is_not() {
    let (world, block) = play_v3(vec![[created_v3(pool_v3()), vec![swap_v3(address(9), &[1; 5])]].concat()]);
    assert_eq!(asked(&world, &block), [Subject::Concentrated(ConcentratedKey::V3(address(9)))]);
    let tokens = [1, 2].map(|token| Subject::Token { token: address(token), holder: pool_v3() });
    let all: Vec<_> = world.requests(&block).iter().map(|request| request.subject).collect();
    assert_eq!(all[..2], tokens, "nobody has judged its tokens");
    let id = world.concentrated().proven(&pool_v3()).expect("its factory created it");
    assert!(world.concentrated().table().pool(id).is_some_and(|pool| pool.price().is_some()));
}

#[test]
fn of_a_quarantined_pool_nothing_is_known_or_asked_again() {
    let mut history = History::new();
    history.block(created_v3(pool_v3())).block(vec![swap_v3(pool_v3(), &[1, 1, 1 << 40, 0, 0])]);
    history
        .add(BusEvent::PoolQuarantined(Box::new(PoolQuarantined { pool: pool_v3(), ..quarantined(7) })))
        .block(vec![]);
    let mut world = World::new(&market_v3());
    let blocks: Vec<_> = history.events.iter().filter_map(|envelope| apply(&mut world, envelope)).collect();
    let id = world.concentrated().proven(&pool_v3()).expect("its factory created it");
    let known = |block: &AppliedBlock| block.snapshot.concentrated.pool(id).is_some();
    assert_eq!(blocks.iter().map(known).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(blocks[2].snapshot.concentrated_changes, Changes::Pools([id].into()));

    let image = serde_json::from_value(json(&world.image())).expect("as it was written");
    let restored = World::of_image(&market_v3(), image).expect("it is of a world");
    let seen = history.events.len();
    history.block(vec![swap_v3(pool_v3(), &[1, 1, 1 << 41, 0, 0])]).reorg(3).block(created_v3(pool_v3()));
    history.block(vec![swap_v3(pool_v3(), &[1; 4])]).block(vec![swap_v3(pool_v3(), &[1, 1, 1 << 40, 0, 0])]);
    for mut world in [world, restored] {
        for envelope in &history.events[seen..] {
            let Some(block) = apply(&mut world, envelope) else { continue };
            assert!(!known(&block), "it is known in block {}", block.snapshot.as_of.number);
            assert!(world.requests(&block).is_empty(), "it is asked about");
        }
        assert_eq!(world.counts().concentrated.quarantined, 1);
    }
}

#[test]
fn a_quarantine_that_is_left_out_holds_all_the_same() {
    let mut history = History::new();
    history.add(BusEvent::PoolLoaded(loaded(1, Some(5)))).block(vec![]);
    let (mut world, block) = play(&history);
    assert!(block.snapshot.pools.quoted(PoolId(0)).is_some());
    history.add(BusEvent::PoolQuarantined(Box::new(quarantined(1)))).block(vec![sync(1, 6)]);
    let [.., verdict, next] = &history.events[..] else { panic!("there are two more") };
    world.leave_out(verdict);
    let block = apply(&mut world, next).expect("a block");
    assert_eq!(block.snapshot.pools.quoted(PoolId(0)), None);
    assert_eq!(block.snapshot.changes, Changes::Pools([PoolId(0)].into()));
}

#[test]
fn a_pool_whose_log_cannot_be_read_is_asked_about_when_it_next_trades() {
    let unreadable = vec![swap_v3(pool_v3(), &[1; 4])];
    let (world, block) = play_v3(vec![created_v3(pool_v3()), unreadable.clone()]);
    let id = world.concentrated().proven(&pool_v3()).expect("its factory created it");
    assert!(world.concentrated().table().pool(id).is_none(), "nothing is known of it");
    assert_eq!(asked(&world, &block), []);
    let counts = world.counts();
    assert_eq!((counts.malformed, counts.concentrated.contradictions), (1, 1));

    let price = vec![swap_v3(pool_v3(), &[1, 1, 1 << 40, 0, 0])];
    let (world, block) = play_v3(vec![created_v3(pool_v3()), unreadable, price]);
    assert_eq!(asked(&world, &block), [Subject::Concentrated(ConcentratedKey::V3(pool_v3()))]);
}

/// What is asked about other than tokens.
fn asked(world: &World, block: &AppliedBlock) -> Vec<Subject> {
    let requests = world.requests(block).into_iter().inspect(|request| {
        assert_eq!(request.as_of, block.snapshot.as_of);
    });
    requests
        .map(|request| request.subject)
        .filter(|subject| !matches!(subject, Subject::Token { .. }))
        .collect()
}

#[test]
fn a_verdict_about_a_token_holds_for_pools_with_concentrated_liquidity() {
    let (mut world, block) = play_v3(vec![created_v3(pool_v3()), vec![]]);
    let id = world.concentrated().proven(&pool_v3()).expect("its factory created it");
    assert!(block.snapshot.quoted_concentrated(id).is_none(), "nobody has judged its tokens");
    let mut history = History::new();
    history.block(vec![]).block(vec![]);
    let mut check = |token: u8, is_refused: bool, is_left_out: bool, expected: Option<&[_]>| {
        history.add(BusEvent::TokenJudged(judged(token, is_refused))).block(vec![]);
        let [.., verdict, next] = &history.events[..] else { panic!("there are two more") };
        if is_left_out {
            world.leave_out(verdict);
        } else {
            apply(&mut world, verdict);
        }
        let snapshot = apply(&mut world, next).expect("a block").snapshot;
        let changed = expected.map_or(vec![], <[_]>::to_vec);
        assert_eq!(snapshot.concentrated_changes, headwater_market::Changes::Pools(changed.into()));
        snapshot.quoted_concentrated(id).is_some()
    };
    assert!(!check(1, true, false, None));
    assert!(!check(1, false, false, Some(&[id])));
    assert!(check(2, false, false, Some(&[id])));
    assert!(check(9, true, false, None));
    assert!(!check(2, false, true, Some(&[id])));
    let judged: Vec<_> = world.requests(&block);
    assert!(judged.is_empty(), "{judged:?}");
}
