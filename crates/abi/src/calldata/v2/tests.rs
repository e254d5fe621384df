use alloy_primitives::{Address, Bytes, U256, hex};
use alloy_sol_types::{SolCall, SolInterface};
use headwater_events::Transaction;
use proptest::prelude::*;

use super::*;
use crate::calldata::MAX_PATH;
use crate::interfaces::IUniswapV2Router02::{IUniswapV2Router02Calls as Function, *};

const ROUTER: Address = Address::repeat_byte(0x7a);
const VALUE: u64 = 1_000;

fn read(input: &[u8]) -> Result<Option<Call>, Malformed> {
    Input::new(ROUTER, U256::from(VALUE), input).map_or(Ok(None), |input| uniswap_v2_router(&input))
}

fn path(tokens: usize) -> Vec<Address> {
    (0..tokens).map(|token| Address::left_padding_from(&token.to_be_bytes())).collect()
}

fn check(
    encoded: Vec<u8>,
    selector: &str,
    (exact, native, fee_on_transfer): (Exact, Native, bool),
    amount_in: u64,
    amount_out: u64,
) {
    assert_eq!(hex::encode(&encoded[..4]), selector);
    let expected = SwapCall {
        exact,
        amount_in: U256::from(amount_in),
        amount_out: U256::from(amount_out),
        route: Route::V2 { tokens: path(3), native, fee_on_transfer },
        recipient: Some(Address::repeat_byte(2)),
        deadline: Some(U256::from(99)),
    };
    assert_eq!(read(&encoded), Ok(Some(Call::Swap(expected))), "{selector}");
}

#[test]
fn all_nine_swap_functions_are_read_by_the_meaning_of_their_arguments() {
    let (to, deadline, path) = (Address::repeat_byte(2), U256::from(99), path(3));
    let (five, seven) = (U256::from(5), U256::from(7));
    macro_rules! encode {
        ($call:ident { $($argument:ident: $value:expr),* }) => {
            $call { $($argument: $value,)* path: path.clone(), to, deadline }.abi_encode()
        };
    }
    check(
        encode!(swapExactTokensForTokensCall { amountIn: five, amountOutMin: seven }),
        "38ed1739",
        (Exact::Input, Native::None, false),
        5,
        7,
    );
    check(
        encode!(swapTokensForExactTokensCall { amountOut: seven, amountInMax: five }),
        "8803dbee",
        (Exact::Output, Native::None, false),
        5,
        7,
    );
    check(
        encode!(swapExactETHForTokensCall { amountOutMin: seven }),
        "7ff36ab5",
        (Exact::Input, Native::Input, false),
        VALUE,
        7,
    );
    check(
        encode!(swapTokensForExactETHCall { amountOut: seven, amountInMax: five }),
        "4a25d94a",
        (Exact::Output, Native::Output, false),
        5,
        7,
    );
    check(
        encode!(swapExactTokensForETHCall { amountIn: five, amountOutMin: seven }),
        "18cbafe5",
        (Exact::Input, Native::Output, false),
        5,
        7,
    );
    check(
        encode!(swapETHForExactTokensCall { amountOut: seven }),
        "fb3bdb41",
        (Exact::Output, Native::Input, false),
        VALUE,
        7,
    );
    check(
        encode!(swapExactTokensForTokensSupportingFeeOnTransferTokensCall {
            amountIn: five,
            amountOutMin: seven
        }),
        "5c11d795",
        (Exact::Input, Native::None, true),
        5,
        7,
    );
    check(
        encode!(swapExactETHForTokensSupportingFeeOnTransferTokensCall { amountOutMin: seven }),
        "b6f9de95",
        (Exact::Input, Native::Input, true),
        VALUE,
        7,
    );
    check(
        encode!(swapExactTokensForETHSupportingFeeOnTransferTokensCall {
            amountIn: five,
            amountOutMin: seven
        }),
        "791ac947",
        (Exact::Input, Native::Output, true),
        5,
        7,
    );
}

fn with_path(tokens: usize) -> Vec<u8> {
    let (zero, to) = (U256::ZERO, Address::ZERO);
    swapExactETHForTokensCall { amountOutMin: zero, path: path(tokens), to, deadline: zero }.abi_encode()
}

#[test]
fn a_path_that_reverts_or_is_absurd_is_refused() {
    for (tokens, accepted) in [(0, false), (1, false), (2, true), (MAX_PATH, true), (MAX_PATH + 1, false)] {
        let expected = if accepted { None } else { Some(Malformed::PathLength(tokens)) };
        assert_eq!(read(&with_path(tokens)).err(), expected);
    }
}

#[test]
fn a_path_that_claims_more_than_is_there_is_refused() {
    let mut input = with_path(3);
    let length_at = 4 + 4 * 32;
    for claimed in [U256::from(4), U256::from(u32::MAX), U256::from(u64::MAX), U256::MAX] {
        input[length_at..length_at + 32].copy_from_slice(&claimed.to_be_bytes::<32>());
        assert!(matches!(read(&input), Err(Malformed::Truncated)), "{claimed}");
    }
}

#[test]
fn a_path_elsewhere_than_in_the_calldata_is_refused() {
    let mut input = with_path(3);
    let offset_at = 4 + 32;
    for offset in [U256::from(1 << 20), U256::from(u64::MAX), U256::MAX] {
        input[offset_at..offset_at + 32].copy_from_slice(&offset.to_be_bytes::<32>());
        assert!(matches!(read(&input), Err(Malformed::Truncated)), "{offset}");
    }
}

#[test]
fn a_tag_behind_the_arguments_is_allowed() {
    let mut input = with_path(2);
    let untagged = read(&input);
    input.extend(b"referrer");
    assert_eq!(read(&input), untagged);
    assert!(matches!(untagged, Ok(Some(_))));
}

#[test]
fn other_functions_and_creations_are_not_swaps() {
    assert_eq!(read(&[]), Ok(None));
    assert_eq!(read(&[0x38, 0xed, 0x17]), Ok(None));
    assert_eq!(read(&hex!("e8e33700")), Ok(None)); // addLiquidity
    let creation = Transaction {
        hash: Default::default(),
        from: Address::ZERO,
        to: None,
        value: U256::ZERO,
        input: Bytes::from(with_path(2)),
        nonce: 0,
        gas_limit: 0,
    };
    assert!(Input::of(&creation).is_none());
    let call = Transaction { to: Some(ROUTER), ..creation };
    assert!(matches!(uniswap_v2_router(&Input::of(&call).expect("it calls")), Ok(Some(_))));
}

proptest! {
    #[test]
    fn calldata_cut_anywhere_is_an_error_and_no_panic(tokens in 2..MAX_PATH, cut in any::<prop::sample::Index>()) {
        let input = with_path(tokens);
        let cut = 4 + cut.index(input.len() - 4);
        prop_assert!(read(&input[..cut]).is_err());
    }

    #[test]
    fn any_bytes_behind_a_known_selector_do_no_harm(
        selector in 0..9usize,
        mut bytes in prop::collection::vec(any::<u8>(), 0..512),
        small in any::<bool>(),
    ) {
        if small {
            // Offsets and lengths that point inside are what reaches the depths of a decoder.
            bytes.chunks_mut(32).for_each(|word| { let keep = word.len() - 1; word[..keep].fill(0) });
        }
        let selector = Function::selector_at(selector).expect("there are nine");
        let input = [&selector[..], &bytes].concat();
        if let Ok(call) = read(&input) {
            let Some(Call::Swap(SwapCall { route: Route::V2 { tokens, .. }, .. })) = call else {
                panic!("{call:?} is no swap")
            };
            prop_assert!((2..=MAX_PATH).contains(&tokens.len()));
        }
    }
}
