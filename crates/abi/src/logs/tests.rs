use alloy_primitives::{Bytes, LogData, keccak256};
use alloy_sol_types::SolEvent;
use headwater_events::Topics;
use proptest::prelude::*;

use super::*;
use crate::interfaces::{IERC20, IUniswapV2Factory, IUniswapV2Pair, IWETH9};

const LOG_INDEX: u32 = 5;
const EMITTER: Address = Address::repeat_byte(0xee);

fn log(topics: &[B256], data: &[u8]) -> Log {
    Log {
        address: EMITTER,
        topics: topics.iter().copied().collect::<Topics>(),
        data: Bytes::copy_from_slice(data),
        transaction_index: 2,
        log_index: LOG_INDEX,
    }
}

/// The event as alloy reads it, if these are exactly the topics and the data that the event encodes to.
fn canonical<E: SolEvent>(log: &Log) -> Option<E> {
    let data = LogData::new(log.topics.to_vec(), log.data.clone())?;
    let event = E::decode_log_data_validate(&data).ok()?;
    (event.encode_log_data() == data).then_some(event)
}

/// The judge: the same decoding, by alloy's types.
fn by_alloy(log: &Log) -> Option<Action> {
    let v2 = |action| Action::V2 { log_index: LOG_INDEX, emitter: EMITTER, action };
    let weth = |action| Action::Weth { log_index: LOG_INDEX, emitter: EMITTER, action };
    match *log.topics.first()? {
        SYNC => canonical::<IUniswapV2Pair::Sync>(log)
            .map(|e| v2(V2Action::Sync { reserve0: e.reserve0.to(), reserve1: e.reserve1.to() })),
        SWAP => canonical::<IUniswapV2Pair::Swap>(log).map(|e| {
            v2(V2Action::Swap {
                sender: e.sender,
                to: e.to,
                amount0_in: e.amount0In,
                amount1_in: e.amount1In,
                amount0_out: e.amount0Out,
                amount1_out: e.amount1Out,
            })
        }),
        MINT => canonical::<IUniswapV2Pair::Mint>(log)
            .map(|e| v2(V2Action::Mint { sender: e.sender, amount0: e.amount0, amount1: e.amount1 })),
        BURN => canonical::<IUniswapV2Pair::Burn>(log).map(|e| {
            v2(V2Action::Burn { sender: e.sender, to: e.to, amount0: e.amount0, amount1: e.amount1 })
        }),
        PAIR_CREATED => canonical::<IUniswapV2Factory::PairCreated>(log).map(|e| {
            v2(V2Action::PairCreated { token0: e.token0, token1: e.token1, pair: e.pair, count: e.count })
        }),
        TRANSFER => canonical::<IERC20::Transfer>(log).map(|e| Action::Transfer {
            log_index: LOG_INDEX,
            transfer: TokenTransfer { token: EMITTER, from: e.from, to: e.to, amount: e.value },
        }),
        DEPOSIT => canonical::<IWETH9::Deposit>(log)
            .map(|e| weth(WethAction::Deposit { account: e.dst, amount: e.wad })),
        WITHDRAWAL => canonical::<IWETH9::Withdrawal>(log)
            .map(|e| weth(WethAction::Withdrawal { account: e.src, amount: e.wad })),
        _ => None,
    }
}

/// Topic, canonical signature, topics, words of data: those that alloy judges here.
const SHAPES: [(B256, &str, usize, usize); 8] = [
    (SYNC, "Sync(uint112,uint112)", 1, 2),
    (SWAP, "Swap(address,uint256,uint256,uint256,uint256,address)", 3, 4),
    (MINT, "Mint(address,uint256,uint256)", 2, 2),
    (BURN, "Burn(address,uint256,uint256,address)", 3, 2),
    (PAIR_CREATED, "PairCreated(address,address,address,uint256)", 3, 2),
    (TRANSFER, "Transfer(address,address,uint256)", 3, 1),
    (DEPOSIT, "Deposit(address,uint256)", 2, 1),
    (WITHDRAWAL, "Withdrawal(address,uint256)", 2, 1),
];

/// Those whose values the proof `decoder` judges.
const OTHER_SHAPES: [(B256, &str, usize, usize); 34] = [
    (V3_INITIALIZE, "Initialize(uint160,int24)", 1, 2),
    (V3_SWAP, "Swap(address,address,int256,int256,uint160,uint128,int24)", 3, 5),
    (PANCAKE_V3_SWAP, "Swap(address,address,int256,int256,uint160,uint128,int24,uint128,uint128)", 3, 7),
    (V3_MINT, "Mint(address,address,int24,int24,uint128,uint256,uint256)", 4, 4),
    (V3_BURN, "Burn(address,int24,int24,uint128,uint256,uint256)", 4, 3),
    (V3_COLLECT, "Collect(address,address,int24,int24,uint128,uint128)", 4, 3),
    (V3_FLASH, "Flash(address,address,uint256,uint256,uint256,uint256)", 3, 4),
    (V3_SET_FEE_PROTOCOL, "SetFeeProtocol(uint8,uint8,uint8,uint8)", 1, 4),
    (V3_POOL_CREATED, "PoolCreated(address,address,uint24,int24,address)", 4, 2),
    (V4_INITIALIZE, "Initialize(bytes32,address,address,uint24,int24,address,uint160,int24)", 4, 5),
    (V4_MODIFY_LIQUIDITY, "ModifyLiquidity(bytes32,address,int24,int24,int256,bytes32)", 3, 4),
    (V4_SWAP, "Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24)", 3, 6),
    (V4_DONATE, "Donate(bytes32,address,uint256,uint256)", 3, 2),
    (V4_PROTOCOL_FEE_UPDATED, "ProtocolFeeUpdated(bytes32,uint24)", 2, 1),
    (AAVE_SUPPLY, "Supply(address,address,address,uint256,uint16)", 4, 2),
    (AAVE_DEPOSIT, "Deposit(address,address,address,uint256,uint16)", 4, 2),
    (AAVE_WITHDRAW, "Withdraw(address,address,address,uint256)", 4, 1),
    (AAVE_BORROW, "Borrow(address,address,address,uint256,uint8,uint256,uint16)", 4, 4),
    (AAVE_BORROW_V2, "Borrow(address,address,address,uint256,uint256,uint256,uint16)", 4, 4),
    (AAVE_REPAY, "Repay(address,address,address,uint256,bool)", 4, 2),
    (AAVE_REPAY_V2, "Repay(address,address,address,uint256)", 4, 1),
    (AAVE_LIQUIDATION_CALL, "LiquidationCall(address,address,address,uint256,uint256,address,bool)", 4, 4),
    (AAVE_RESERVE_DATA_UPDATED, "ReserveDataUpdated(address,uint256,uint256,uint256,uint256,uint256)", 2, 5),
    (AAVE_COLLATERAL_ENABLED, "ReserveUsedAsCollateralEnabled(address,address)", 3, 0),
    (AAVE_COLLATERAL_DISABLED, "ReserveUsedAsCollateralDisabled(address,address)", 3, 0),
    (AAVE_USER_E_MODE_SET, "UserEModeSet(address,uint8)", 2, 1),
    (AAVE_DEFICIT_CREATED, "DeficitCreated(address,address,uint256)", 3, 1),
    (AAVE_DEFICIT_COVERED, "DeficitCovered(address,address,uint256)", 2, 2),
    (LIQUIDATE_BORROW, "LiquidateBorrow(address,address,uint256,address,uint256)", 1, 5),
    (ABSORB_DEBT, "AbsorbDebt(address,address,uint256,uint256)", 3, 2),
    (ABSORB_COLLATERAL, "AbsorbCollateral(address,address,address,uint256,uint256)", 4, 2),
    (BUY_COLLATERAL, "BuyCollateral(address,address,uint256,uint256)", 3, 2),
    (ANSWER_UPDATED, "AnswerUpdated(int256,uint256,uint256)", 3, 1),
    (AGGREGATOR_CONFIRMED, "AggregatorConfirmed(address,address)", 3, 0),
];

/// Those of variable length.
const LONG: [(B256, &str); 2] = [
    (NEW_TRANSMISSION_OCR1, "NewTransmission(uint32,int192,address,int192[],bytes,bytes32)"),
    (
        NEW_TRANSMISSION_OCR2,
        "NewTransmission(uint32,int192,address,uint32,int192[],bytes,int192,bytes32,uint40)",
    ),
];

fn all_shapes() -> impl Iterator<Item = (B256, &'static str, usize, usize)> {
    SHAPES.into_iter().chain(OTHER_SHAPES)
}

#[test]
fn topics_are_the_hashes_of_their_signatures() {
    let known = all_shapes().map(|(topic, signature, ..)| (topic, signature)).chain(LONG);
    let topics: Vec<_> = known
        .map(|(topic, signature)| {
            assert_eq!(topic, keccak256(signature), "{signature}");
            topic
        })
        .collect();
    assert!(TOPICS.iter().all(|topic| topics.contains(topic)) && TOPICS.len() == topics.len());
}

#[test]
fn the_rarer_events_can_be_searched() {
    assert!(OTHERS.is_sorted_by(|(one, _), (other, _)| one < other));
}

/// A word of which only the lowest `bits` may be set.
fn word(bits: usize) -> impl Strategy<Value = B256> {
    any::<[u8; 32]>().prop_map(move |bytes| B256::from(U256::from_be_bytes(bytes) >> (256 - bits)))
}

fn any_word() -> impl Strategy<Value = B256> {
    prop_oneof![4 => word(112), 4 => word(160), 1 => word(113), 1 => word(161), 2 => word(256)]
}

/// Logs of the known topics, most of the right shape, many just beside it.
fn any_log() -> impl Strategy<Value = Log> {
    let off = prop_oneof![8 => Just(0isize), 1 => -1..=1isize];
    let cut = prop_oneof![8 => Just(0isize), 1 => -33..=33isize];
    let words = prop::collection::vec(any_word(), 5);
    let arguments = prop::collection::vec(prop_oneof![9 => word(160), 1 => word(256)], 3);
    (0..SHAPES.len(), off, cut, words, arguments).prop_map(|(shape, off, cut, words, arguments)| {
        let (topic, _, topics, length) = SHAPES[shape];
        let indexed = (topics - 1).saturating_add_signed(off).min(3);
        let topics: Vec<_> = [topic].into_iter().chain(arguments.into_iter().take(indexed)).collect();
        let data = words.concat();
        log(&topics, &data[..(32 * length).saturating_add_signed(cut).min(data.len())])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn fixed_layout_and_alloy_read_the_same(log in any_log()) {
        let expected = by_alloy(&log);
        prop_assert_eq!(action(&log).ok().flatten(), expected.clone());
        let concentrated = match expected.clone() {
            Some(Action::V3 { action, .. }) => match action {
                V3Action::Swap { .. }
                | V3Action::PoolCreated { .. }
                | V3Action::Initialize { .. }
                | V3Action::Mint { .. }
                | V3Action::Burn { .. } => Some(action),
                _ => None,
            },
            _ => None,
        };
        prop_assert_eq!(concentrated_change(&log).ok().flatten(), concentrated);
        let change = match expected {
            Some(Action::V2 { action, .. })
                if matches!(action, V2Action::Sync { .. } | V2Action::PairCreated { .. }) => Some(action),
            _ => None,
        };
        prop_assert_eq!(pool_change(&log).ok().flatten(), change);
    }

    #[test]
    fn well_formed_logs_are_never_refused(log in any_log(), seed in 0..SHAPES.len() + OTHER_SHAPES.len()) {
        let (topic, _, topics, words) = all_shapes().nth(seed).expect("it is one of them");
        // Every type holds zero and one.
        let small = B256::with_last_byte(log.data.first().copied().unwrap_or(1) % 2);
        let log = self::log(&[&[topic][..], &vec![small; topics - 1]].concat(), &vec![small; words].concat());
        prop_assert!(matches!(action(&log), Ok(Some(_))), "{:?}", log);
    }
}

fn check(topics: &[B256], data: &[u8], expected: &str) {
    let found = match action(&log(topics, data)) {
        Ok(None) => "unknown".to_owned(),
        Ok(Some(_)) => "known".to_owned(),
        Err(error) => error.to_string(),
    };
    assert_eq!(found, expected);
}

#[test]
fn truncated_and_oversized_data_is_refused() {
    for (topic, signature, topics, words) in all_shapes() {
        let topics = [&[topic][..], &vec![B256::ZERO; topics - 1]].concat();
        let length = 32 * words;
        check(&topics, &vec![0; length], "known");
        for wrong in [0, length.saturating_sub(1), length + 1, length + 32] {
            if wrong == length {
                continue;
            }
            let expected = format!("{wrong} bytes of data instead of {length}");
            check(&topics, &vec![0; wrong], &expected);
            assert!(action(&log(&topics, &vec![0; wrong])).is_err(), "{signature}");
        }
    }
}

#[test]
fn reserves_beyond_uint112_are_refused() {
    let max = B256::from(U256::from((1u128 << 112) - 1));
    let beyond = B256::from(U256::from(1u128 << 112));
    check(&[SYNC], &[max, max].concat(), "known");
    check(&[SYNC], &[max, beyond].concat(), "a value beyond the range of its type uint112");
    check(&[SYNC], &[beyond, max].concat(), "a value beyond the range of its type uint112");
    check(&[SYNC], &[B256::repeat_byte(0xff), max].concat(), "a value beyond the range of its type uint112");
}

#[test]
fn events_of_other_protocols_with_the_same_topic_are_unknown() {
    let any = B256::ZERO;
    check(&[TRANSFER, any, any, any], &[], "unknown"); // ERC-721
    check(&[MINT], &[0; 96], "unknown"); // Compound V2's cToken
}

#[test]
fn indexed_arguments_that_are_too_many_or_too_few_are_refused() {
    let any = B256::ZERO;
    check(&[TRANSFER, any], &[0; 64], "2 topics instead of 3");
    check(&[SYNC, any], &[0; 32], "2 topics instead of 1");
    check(&[SWAP], &[0; 192], "1 topics instead of 3");
    check(&[MINT, any, any], &[0; 32], "3 topics instead of 2");
}

/// OCR1: an answer of 7 out of the observations.
fn transmission(observations: &[u64]) -> Vec<u8> {
    let at = 0xa0 + 32 * (1 + observations.len() as u64);
    let words =
        [7, 3, 0xa0, at, 9, observations.len() as u64].into_iter().chain(observations.iter().copied());
    words.chain([1, 0]).flat_map(|word| B256::from(U256::from(word))).collect()
}

#[test]
fn a_transmission_has_observations_and_not_more_than_there_are_oracles() {
    let topics = [NEW_TRANSMISSION_OCR1, B256::with_last_byte(5)];
    check(&topics, &transmission(&[1; 31]), "known");
    check(&topics, &transmission(&[6, 7, 8]), "known");
    check(&topics, &transmission(&[]), "no observations, or more than there are oracles");
    check(&topics, &transmission(&[1; 32]), "no observations, or more than there are oracles");
    check(&topics, &transmission(&[1; 3])[..8 * 32], "an argument beyond the end of the data");
    check(&topics[..1], &transmission(&[1; 3]), "1 topics instead of 2");
}

#[test]
fn a_value_that_its_type_cannot_hold_is_refused() {
    let (one, many) = (B256::with_last_byte(1), B256::repeat_byte(0xee));
    let beyond = |name: &str| format!("a value beyond the range of its type {name}");
    check(&[V3_INITIALIZE], &[many, one].concat(), &beyond("uint160"));
    check(&[V3_INITIALIZE], &[one, many].concat(), &beyond("int24"));
    check(&[V3_SWAP, many, one], &[one; 5].concat(), &beyond("address"));
    check(&[V3_SWAP, one, one], &[one, one, one, many, one].concat(), &beyond("uint128"));
    check(&[V4_SWAP, many, one], &[many, one, one, one, one, one].concat(), &beyond("int128"));
    check(&[V4_SWAP, many, one], &[one, one, one, one, one, many].concat(), &beyond("uint24"));
    check(&[AAVE_SUPPLY, one, one, many], &[one; 2].concat(), &beyond("uint16"));
    check(&[AAVE_BORROW, one, one, one], &[one, one, many, one].concat(), &beyond("uint8"));
    check(&[AAVE_BORROW_V2, one, one, one], &[one, one, many, one].concat(), "known");
    check(&[AAVE_REPAY, one, one, one], &[one, B256::with_last_byte(2)].concat(), &beyond("bool"));
}

#[test]
fn a_log_of_another_topic_or_of_none_is_unknown() {
    check(&[], &[0; 64], "unknown");
    check(&[keccak256("Sync(uint256,uint256)")], &[0; 64], "unknown");
}
