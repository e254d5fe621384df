use alloy_primitives::{Bytes, U256, hex, keccak256};
use headwater_events::{TokenCall, Topics, Value};

use super::*;

const VAULT: Address = Address::repeat_byte(0xfa);
const OTHER: Address = Address::repeat_byte(0x0b);
const DEPOSIT: [u8; 4] = hex!("6e553f65");

fn deposit(input: &Input<'_>) -> Result<Custom, Malformed> {
    let arguments = input.arguments;
    Ok(Custom::new("deposit").with("assets", arguments.uint256(0)?).with("to", arguments.address(1)?))
}

fn calldata(selector: [u8; 4], words: &[u8]) -> Vec<u8> {
    selector.into_iter().chain(words.iter().flat_map(|word| B256::with_last_byte(*word))).collect()
}

fn call(registry: &Registry, contract: Address, calldata: &[u8]) -> Result<Option<Call>, Malformed> {
    registry.call(&Input::new(contract, U256::ZERO, calldata).expect("there is a selector"))
}

fn deposited() -> Result<Option<Call>, Malformed> {
    let custom = Custom::new("deposit").with("assets", U256::from(5)).with("to", Address::with_last_byte(6));
    Ok(Some(Call::Custom(custom)))
}

#[test]
fn a_function_of_ones_own_is_read_of_whom_it_is_said() {
    let everybodys = Registry::default().calls(DEPOSIT, deposit);
    let of_one = Registry::default().calls_of(VAULT, DEPOSIT, deposit);
    let calldata = calldata(DEPOSIT, &[5, 6]);
    assert_eq!(call(&Registry::default(), VAULT, &calldata), Ok(None));
    for (registry, contract, expected) in [
        (&everybodys, VAULT, deposited()),
        (&everybodys, OTHER, deposited()),
        (&of_one, VAULT, deposited()),
        (&of_one, OTHER, Ok(None)),
    ] {
        assert_eq!(call(registry, contract, &calldata), expected);
    }
    assert_eq!(call(&everybodys, VAULT, &calldata[..40]), Err(Malformed::Truncated));
}

#[test]
fn ones_own_goes_before_the_built_in_and_the_narrower_before_the_wider() {
    let transfer = calldata(hex!("a9059cbb"), &[6, 5]);
    let built_in = Call::Token(TokenCall::Transfer { to: Address::with_last_byte(6), amount: U256::from(5) });
    assert_eq!(call(&Registry::default(), VAULT, &transfer), Ok(Some(built_in.clone())));
    let named = |name: &'static str| move |_: &Input<'_>| Ok(Custom::new(name));
    let registry = Registry::default().calls_of(VAULT, hex!("a9059cbb"), named("narrow"));
    assert_eq!(call(&registry, OTHER, &transfer), Ok(Some(built_in)));
    let registry = registry.calls(hex!("a9059cbb"), named("wide"));
    assert_eq!(call(&registry, VAULT, &transfer), Ok(Some(Call::Custom(Custom::new("narrow")))));
    assert_eq!(call(&registry, OTHER, &transfer), Ok(Some(Call::Custom(Custom::new("wide")))));
}

#[test]
fn a_function_of_ones_own_is_found_inside_a_multicall() {
    let inner = calldata(DEPOSIT, &[5, 6]);
    let mut multicall = calldata(hex!("ac9650d8"), &[0x20, 1, 0x20, inner.len() as u8]);
    multicall.extend(inner);
    multicall.resize(multicall.len().next_multiple_of(32) + 4, 0);
    let read = |registry: Registry| {
        let registry = registry.contracts(Interface::UniswapV3Router, [VAULT]);
        match call(&registry, VAULT, &multicall) {
            Ok(Some(Call::Multicall { calls, .. })) => calls,
            other => panic!("{other:?} is no multicall"),
        }
    };
    assert_eq!(read(Registry::default()), [Call::Unknown(DEPOSIT)]);
    let deposited = deposited().expect("it decodes").expect("it is known");
    assert_eq!(read(Registry::default().calls(DEPOSIT, deposit)), [deposited]);
}

#[test]
fn an_event_of_ones_own_is_read_of_whom_it_is_said() {
    let topic = keccak256("Deposited(address,uint256)");
    let log = |address| Log {
        address,
        topics: Topics::from_iter([topic, B256::with_last_byte(6)]),
        data: Bytes::copy_from_slice(&B256::with_last_byte(5)[..]),
        transaction_index: 0,
        log_index: 3,
    };
    let decode = |event: &Event<'_>| {
        let (owner, assets) = (event.indexed.address(0)?, event.data.uint256(0)?);
        assert_eq!(event.indexed.word(1), Err(Malformed::Truncated));
        Ok(Custom::new("deposited").with("owner", owner).with("assets", assets))
    };
    assert_eq!(Registry::default().event(&log(VAULT)), Ok(None));
    let registry = Registry::default().events_of(VAULT, topic, decode);
    assert_eq!(registry.event(&log(OTHER)), Ok(None));
    let Ok(Some(Action::Custom { log_index: 3, emitter: VAULT, custom })) = registry.event(&log(VAULT))
    else {
        panic!("it is one's own")
    };
    assert_eq!(custom.get("assets"), Some(&Value::Uint(U256::from(5))));
    let registry = Registry::default().events(topic, decode);
    assert!(matches!(registry.event(&log(OTHER)), Ok(Some(Action::Custom { .. }))));
}

#[test]
fn an_unknown_function_is_told_from_an_unknown_contract() {
    let registry = Registry::default();
    assert_eq!(registry.contracts.len(), KNOWN.len());
    // A known contract with another function is worth counting; a stranger is not.
    let permit2 = address!("000000000022d473030f116ddee9f6b43ac78ba3");
    assert!(registry.knows(permit2) && !registry.knows(VAULT));
    assert_eq!(call(&registry, permit2, &calldata(hex!("a9059cbb"), &[6, 5])), Ok(None));
}
