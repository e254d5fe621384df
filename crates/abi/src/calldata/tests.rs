use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use headwater_events::{Call, Command, Exact, Guard, Instruction, Route, SwapCall, V4Hop, V4Instruction};

use super::*;
use crate::Malformed;

/// Which function of this module a contract's calls are read by.
#[derive(Clone, Copy, Debug)]
enum Of {
    V2,
    V3,
    Router02,
    Universal,
    UniversalV1,
    Permit2,
    Aave,
    Anyone,
}

impl ReadCall for Of {
    fn read(&self, input: &Input<'_>, limits: &mut Limits) -> Result<Option<Call>, Malformed> {
        match self {
            Self::V2 => uniswap_v2_router(input),
            Self::V3 => uniswap_v3_router(input, self, limits),
            Self::Router02 => swap_router_02(input, self, limits),
            Self::Universal => universal_router(input, limits),
            Self::UniversalV1 => universal_router_v1(input, limits),
            Self::Permit2 => Ok(permit2(input, limits)?.map(Call::Permit2)),
            Self::Aave => Ok(aave_pool(input, limits)?.map(Call::Aave)),
            Self::Anyone => match (token(input)?, report(input)?) {
                (Some(call), _) => Ok(Some(Call::Token(call))),
                (_, Some(report)) => Ok(Some(Call::Transmit(report))),
                _ => forwarder(input, self, limits),
            },
        }
    }
}

fn read(of: Of, calldata: &[u8]) -> Result<Option<Call>, Malformed> {
    let input = Input::new(Address::ZERO, U256::ZERO, calldata).expect("a case has a selector");
    of.read(&input, &mut Limits::default())
}

fn word(value: usize) -> B256 {
    U256::from(value).into()
}

fn call(signature: &str, words: &[B256]) -> Vec<u8> {
    [&keccak256(signature)[..4], &words.concat()].concat()
}

/// `bytes`, padded.
fn bytes(content: &[u8]) -> Vec<u8> {
    let mut encoded = word(content.len()).to_vec();
    encoded.extend(content);
    encoded.resize(encoded.len().next_multiple_of(32), 0);
    encoded
}

/// `bytes[]` of so many elements, all of which are the same place in the calldata.
fn repeated(count: usize, content: &[u8]) -> Vec<u8> {
    let offsets = vec![word(32 * count); count].concat();
    [&word(count)[..], &offsets, &bytes(content)].concat()
}

#[test]
fn functions_are_known_by_the_hash_of_their_signature() {
    let single = "(address,address,uint24,address,uint256,uint256,uint256,uint160)";
    let single_02 = "(address,address,uint24,address,uint256,uint256,uint160)";
    let permit = "((address,uint160,uint48,uint48),address,uint256)";
    let permits = "((address,uint160,uint48,uint48)[],address,uint256)";
    let ocr2 = "(bytes32[3],bytes,bytes32[],bytes32[],bytes32)";
    for (of, signature) in [
        (Of::V2, "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)".to_owned()),
        (Of::V3, format!("exactInputSingle({single})")),
        (Of::V3, format!("exactOutputSingle({single})")),
        (Of::V3, "exactInput((bytes,address,uint256,uint256,uint256))".to_owned()),
        (Of::V3, "exactOutput((bytes,address,uint256,uint256,uint256))".to_owned()),
        (Of::V3, "multicall(bytes[])".to_owned()),
        (Of::V3, "unwrapWETH9(uint256,address)".to_owned()),
        (Of::V3, "unwrapWETH9WithFee(uint256,address,uint256,address)".to_owned()),
        (Of::V3, "sweepToken(address,uint256,address)".to_owned()),
        (Of::V3, "sweepTokenWithFee(address,uint256,address,uint256,address)".to_owned()),
        (Of::V3, "refundETH()".to_owned()),
        (Of::V3, "selfPermit(address,uint256,uint256,uint8,bytes32,bytes32)".to_owned()),
        (Of::V3, "selfPermitIfNecessary(address,uint256,uint256,uint8,bytes32,bytes32)".to_owned()),
        (Of::V3, "selfPermitAllowed(address,uint256,uint256,uint8,bytes32,bytes32)".to_owned()),
        (Of::V3, "selfPermitAllowedIfNecessary(address,uint256,uint256,uint8,bytes32,bytes32)".to_owned()),
        (Of::Router02, format!("exactInputSingle({single_02})")),
        (Of::Router02, format!("exactOutputSingle({single_02})")),
        (Of::Router02, "exactInput((bytes,address,uint256,uint256))".to_owned()),
        (Of::Router02, "exactOutput((bytes,address,uint256,uint256))".to_owned()),
        (Of::Router02, "swapExactTokensForTokens(uint256,uint256,address[],address)".to_owned()),
        (Of::Router02, "swapTokensForExactTokens(uint256,uint256,address[],address)".to_owned()),
        (Of::Router02, "multicall(bytes[])".to_owned()),
        (Of::Router02, "multicall(uint256,bytes[])".to_owned()),
        (Of::Router02, "multicall(bytes32,bytes[])".to_owned()),
        (Of::Router02, "unwrapWETH9(uint256)".to_owned()),
        (Of::Router02, "unwrapWETH9(uint256,address)".to_owned()),
        (Of::Router02, "unwrapWETH9WithFee(uint256,uint256,address)".to_owned()),
        (Of::Router02, "sweepToken(address,uint256)".to_owned()),
        (Of::Router02, "sweepTokenWithFee(address,uint256,uint256,address)".to_owned()),
        (Of::Router02, "wrapETH(uint256)".to_owned()),
        (Of::Router02, "pull(address,uint256)".to_owned()),
        (Of::Universal, "execute(bytes,bytes[])".to_owned()),
        (Of::Universal, "execute(bytes,bytes[],uint256)".to_owned()),
        (Of::UniversalV1, "execute(bytes,bytes[],uint256)".to_owned()),
        (Of::Permit2, "approve(address,address,uint160,uint48)".to_owned()),
        (Of::Permit2, format!("permit(address,{permit},bytes)")),
        (Of::Permit2, format!("permit(address,{permits},bytes)")),
        (Of::Permit2, "transferFrom(address,address,uint160,address)".to_owned()),
        (Of::Permit2, "transferFrom((address,address,uint160,address)[])".to_owned()),
        (
            Of::Permit2,
            "permitTransferFrom(((address,uint256),uint256,uint256),(address,uint256),address,bytes)"
                .to_owned(),
        ),
        (
            Of::Permit2,
            "permitTransferFrom(((address,uint256)[],uint256,uint256),(address,uint256)[],address,bytes)"
                .to_owned(),
        ),
        (Of::Aave, "supply(address,uint256,address,uint16)".to_owned()),
        (Of::Aave, "deposit(address,uint256,address,uint16)".to_owned()),
        (Of::Aave, "withdraw(address,uint256,address)".to_owned()),
        (Of::Aave, "borrow(address,uint256,uint256,uint16,address)".to_owned()),
        (Of::Aave, "repay(address,uint256,uint256,address)".to_owned()),
        (Of::Aave, "liquidationCall(address,address,address,uint256,bool)".to_owned()),
        (Of::Aave, "flashLoan(address,address[],uint256[],uint256[],address,bytes,uint16)".to_owned()),
        (Of::Aave, "flashLoanSimple(address,address,uint256,bytes,uint16)".to_owned()),
        (Of::Aave, "setUserEMode(uint8)".to_owned()),
        (Of::Aave, "setUserUseReserveAsCollateral(address,bool)".to_owned()),
        (Of::Anyone, "transfer(address,uint256)".to_owned()),
        (Of::Anyone, "transferFrom(address,address,uint256)".to_owned()),
        (Of::Anyone, "approve(address,uint256)".to_owned()),
        (Of::Anyone, "transmit(bytes,bytes32[],bytes32[],bytes32)".to_owned()),
        (Of::Anyone, format!("transmit{ocr2}")),
        (Of::Anyone, format!("transmitSecondary{ocr2}")),
    ] {
        // Zeros are the arguments of some functions, and an error of the others.
        let found = read(of, &call(&signature, &[B256::ZERO; 12]));
        assert_ne!(found, Ok(None), "{of:?} {signature}");
        assert_eq!(read(of, &call(&format!("{signature} "), &[B256::ZERO; 12])), Ok(None), "{of:?}");
    }
}

#[test]
fn a_small_calldata_that_describes_a_huge_call_is_refused() {
    let payment = call("refundETH()", &[]);
    let mut calldata = payment;
    for _ in 0..3 {
        calldata = [call("multicall(bytes[])", &[word(32)]), repeated(200, &calldata)].concat();
    }
    assert!(calldata.len() < 30_000);
    assert_eq!(read(Of::V3, &calldata), Err(Malformed::TooLong(MAX_STEPS)));
}

/// The one hop of a V4 swap carries so many bytes for its hook, in so many swaps, all of which are the same place.
#[test]
fn bytes_that_are_copied_again_and_again_are_counted() {
    let words = [1, 2, 500, 10, 0, 1, 7, 0, 9 * 32].map(word).concat();
    let swap = [&word(32)[..], &words, &bytes(&[7; 3200])].concat();
    let plan = |swaps: usize| {
        let parameters = repeated(swaps, &swap);
        let actions = bytes(&vec![6; swaps]);
        let input = [word(64).to_vec(), word(64 + actions.len()).to_vec(), actions, parameters].concat();
        let inputs = [word(1).to_vec(), word(32).to_vec(), bytes(&input)].concat();
        [call("execute(bytes,bytes[])", &[word(64), word(128)]), bytes(&[0x10]), inputs].concat()
    };
    assert_eq!(read(Of::Universal, &plan(50)), Err(Malformed::TooLong(MAX_STEPS)));
    let Ok(Some(call)) = read(Of::Universal, &plan(20)) else { panic!("twenty are not too many") };
    assert_eq!(call.swaps().len(), 20);
    let hop = V4Hop { fee: 500, tick_spacing: 10, hooks: Address::ZERO, hook_data: vec![7; 3200].into() };
    assert!(call.swaps().iter().all(|swap| {
        matches!(&swap.route, Route::V4 { pools, .. } if pools == std::slice::from_ref(&hop))
    }));
}

#[test]
fn nesting_is_followed_as_deep_as_is_meant_and_no_deeper() {
    let nested = |depth: usize| {
        let mut calldata = call("refundETH()", &[]);
        for _ in 0..depth {
            calldata = [call("multicall(bytes[])", &[word(32)]), repeated(1, &calldata)].concat();
        }
        read(Of::V3, &calldata)
    };
    assert!(nested(MAX_DEPTH).is_ok());
    assert_eq!(nested(MAX_DEPTH + 1), Err(Malformed::TooDeep(MAX_DEPTH)));

    let plan = |depth: usize| {
        let wrap = [word(1), word(2)].concat();
        let (mut command, mut input) = (0x0b, wrap);
        for _ in 0..depth {
            let inputs = [word(1).to_vec(), word(32).to_vec(), bytes(&input)].concat();
            input = [word(64).to_vec(), word(128).to_vec(), bytes(&[command]), inputs].concat();
            command = 0x21;
        }
        let inputs = [word(1).to_vec(), word(32).to_vec(), bytes(&input)].concat();
        let calldata =
            [call("execute(bytes,bytes[])", &[word(64), word(128)]), bytes(&[command]), inputs].concat();
        read(Of::Universal, &calldata)
    };
    assert!(plan(MAX_DEPTH).is_ok());
    assert_eq!(plan(MAX_DEPTH + 1), Err(Malformed::TooDeep(MAX_DEPTH)));
}

#[test]
fn what_nobody_knows_inside_is_kept_as_unknown_and_counted() {
    let mint = call("mint(uint256)", &[word(1)]);
    let calldata = [call("multicall(uint256,bytes[])", &[word(9), word(64)]), repeated(2, &mint)].concat();
    let Ok(Some(found)) = read(Of::Router02, &calldata) else { panic!("it is a multicall") };
    assert_eq!(found.unknown(), 2);
    let selector = [mint[0], mint[1], mint[2], mint[3]];
    let calls = vec![Call::Unknown(selector), Call::Unknown(selector)];
    assert_eq!(found, Call::Multicall { guard: Guard::Deadline(U256::from(9)), calls });
}

fn execute(command: u8, input: &[u8]) -> Vec<u8> {
    let inputs = [word(1).to_vec(), word(32).to_vec(), bytes(input)].concat();
    [call("execute(bytes,bytes[])", &[word(64), word(128)]), bytes(&[command]), inputs].concat()
}

fn instruction(of: Of, command: u8, input: &[u8]) -> Command {
    match read(of, &execute(command, input)) {
        Ok(Some(Call::UniversalRouter { mut commands, .. })) if commands.len() == 1 => commands.remove(0),
        other => panic!("{other:?} is no plan of one command"),
    }
}

#[test]
fn a_command_that_had_another_meaning_before_is_not_taken_for_its_successor() {
    let input = [word(64).to_vec(), word(96).to_vec(), bytes(&[]), word(0).to_vec()].concat();
    let command = |of, command| instruction(of, command, &input).instruction;
    assert_eq!(command(Of::Universal, 0x10), Instruction::V4(Vec::new()));
    assert_eq!(command(Of::UniversalV1, 0x10), Instruction::Unknown(0x10));
    // The seventh bit belongs to the command since another version.
    assert_eq!(command(Of::Universal, 0x40), Instruction::Unknown(0x40));
}

#[test]
fn a_command_that_may_fail_says_so() {
    let wrap = [word(1), word(2)].concat();
    assert!(!instruction(Of::Universal, 0x0b, &wrap).allow_revert);
    assert!(instruction(Of::Universal, 0x8b, &wrap).allow_revert);
}

fn v4(action: u8, parameters: &[u8]) -> Result<Option<Call>, Malformed> {
    let parameters = [word(1).to_vec(), word(32).to_vec(), bytes(parameters)].concat();
    let input = [word(64).to_vec(), word(128).to_vec(), bytes(&[action]), parameters].concat();
    read(Of::Universal, &execute(0x10, &input))
}

/// `ExactOutputParams`, with the words of the structure before the path, one hop, and the data of its hook.
fn exact_output(head: &[usize]) -> Vec<u8> {
    let head: Vec<u8> = head.iter().flat_map(|value| word(*value)).collect();
    let hop = [[5, 3000, 60, 0, 160].map(word).concat(), bytes(b"hook")].concat();
    [&word(32)[..], &head, &word(1)[..], &word(32)[..], &hop].concat()
}

#[test]
fn a_v4_path_leads_from_input_to_output_and_another_version_is_not_guessed() {
    let Ok(Some(call)) = v4(0x09, &exact_output(&[9, 128, 70, 80])) else { panic!("it is a swap") };
    let Call::UniversalRouter { commands, .. } = &call else { panic!("it is a plan") };
    let hop =
        V4Hop { fee: 3000, tick_spacing: 60, hooks: Address::ZERO, hook_data: Bytes::from_static(b"hook") };
    let expected = SwapCall {
        exact: Exact::Output,
        amount_in: U256::from(80),
        amount_out: U256::from(70),
        route: Route::V4 {
            currencies: vec![Address::with_last_byte(5), Address::with_last_byte(9)],
            pools: vec![hop],
        },
        recipient: None,
        deadline: None,
    };
    assert_eq!(commands[0].instruction, Instruction::V4(vec![V4Instruction::Swap(expected)]));

    // A structure with one more word before the amounts.
    let other = v4(0x09, &exact_output(&[9, 160, 300, 70, 80]));
    assert_eq!(other, Err(Malformed::Refused("a structure of another version")));
}

#[test]
fn lists_that_belong_together_are_of_one_length() {
    let plan = |commands: &[u8]| {
        let inputs = [word(1).to_vec(), word(32).to_vec(), bytes(&[0; 64])].concat();
        let commands = bytes(commands);
        let head = [word(64), word(64 + commands.len())];
        read(Of::Universal, &[call("execute(bytes,bytes[])", &head), commands, inputs].concat())
    };
    assert!(plan(&[0x0b]).is_ok());
    assert_eq!(plan(&[0x0b, 0x0b]), Err(Malformed::Refused("not as many inputs as commands")));
    assert_eq!(plan(&[]), Err(Malformed::Refused("not as many inputs as commands")));
}

#[test]
fn a_packed_path_ends_with_a_token() {
    let path = |length: usize| {
        let input = [word(1), word(2), word(3), word(160), word(1)].concat();
        read(Of::Universal, &execute(0x00, &[input, bytes(&vec![1; length])].concat())).err()
    };
    assert_eq!(path(43), None);
    assert_eq!(path(20 + 23 * (MAX_PATH - 1)), None);
    assert_eq!(path(20 + 23 * MAX_PATH), Some(Malformed::PathLength(MAX_PATH + 1)));
    assert_eq!(path(20), Some(Malformed::PathLength(1)));
    for length in [0, 19, 42, 44, 65] {
        assert_eq!(path(length), Some(Malformed::Refused("a path that ends within a hop")), "{length}");
    }
}

/// OCR1: `observations` in this order.
fn transmit(observations: &[i8]) -> Vec<u8> {
    let signed =
        |value: &i8| B256::from(alloy_primitives::I256::try_from(*value).expect("it fits").into_raw());
    let mut report = [word(0x0507), word(0), word(96), word(observations.len())].concat();
    report.extend(observations.iter().flat_map(signed));
    let report = bytes(&report);
    let at = 128 + report.len();
    let head = [128, at, at + 32, 0].map(word);
    [call("transmit(bytes,bytes32[],bytes32[],bytes32)", &head), report, vec![0; 64]].concat()
}

#[test]
fn the_answer_of_a_report_is_the_upper_observation_in_the_middle() {
    for (observations, expected) in [
        (&[5][..], Some(5)),
        (&[4, 5, 9], Some(5)),
        (&[4, 5, 6, 9], Some(6)),
        (&[-9, -2, 3], Some(-2)),
        (&[5, 4, 9], None),
        (&[], None),
    ] {
        let found = match read(Of::Anyone, &transmit(observations)) {
            Ok(Some(Call::Transmit(report))) => {
                assert_eq!(report.epoch_and_round, 0x0507);
                Some(report.answer.as_i8())
            }
            Err(Malformed::Refused(_)) => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected, "{observations:?}");
    }
}

#[test]
fn a_call_is_forwarded_only_if_it_is_known() {
    let forward = |inner: &[u8]| {
        let calldata = [call("forward(address,bytes)", &[word(7), word(64)]), bytes(inner)].concat();
        read(Of::Anyone, &calldata)
    };
    let Ok(Some(Call::Forward { to, call: inside })) = forward(&transmit(&[5])) else {
        panic!("it is known")
    };
    assert_eq!(to, Address::with_last_byte(7));
    assert!(matches!(*inside, Call::Transmit(_)));
    assert_eq!(forward(&call("mint(uint256)", &[word(1)])), Ok(None));
    assert_eq!(forward(&[]), Ok(None));
    assert_eq!(forward(&transmit(&[2, 1])), Err(Malformed::Refused("observations that are not sorted")));
}
