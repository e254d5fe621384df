//! What is left to the execution, and what is not; the arithmetic is the proof `backruns`'.

use std::sync::Arc;

use alloy_primitives::Bytes;
use headwater_amm::{SwapFee, Version};
use headwater_events::{TokenJudged, TokenVerdict};
use headwater_market::PoolBook;

use super::*;
use crate::assembler::calldata;
use crate::testing::{FACTORY, TOKENS, pool, price, resolved, snapshot, table};

const ROUTER: Address = Address::repeat_byte(0x44);
const USER: Address = Address::repeat_byte(0x55);
const DEEP: u128 = 10u128.pow(24);

/// `SwapRouter.exactInputSingle`
const FIRST: [u8; 4] = [0x41, 0x4b, 0xf3, 0x89];
/// `SwapRouter02.exactInputSingle`
const SECOND: [u8; 4] = [0x04, 0xe4, 0x5a, 0xaf];

/// A pool at the price of one, with much liquidity around it.
fn market() -> MarketSnapshot {
    let delta = DEEP as i128;
    let ticks = [(-6_000, delta, DEEP), (6_000, -delta, DEEP)];
    let fee = SwapFee::of_lp(3_000);
    let pool = ConcentratedPool::from_parts(Version::V3, fee, 60, price(), DEEP, ticks).expect("a pool");
    let mut concentrated = table([]);
    concentrated.set(ConcentratedId(0), Some(Arc::new(pool)));
    let mut verdicts = PoolBook::new(&resolved());
    for token in TOKENS {
        let verdict = TokenVerdict::Accepted { decimals: 18, symbol: String::new() };
        verdicts.token_judged(&TokenJudged { token, verdict });
    }
    MarketSnapshot { refused: verdicts.refused(), ..snapshot(concentrated) }
}

/// A swap of token 0 in by the first router, and what of it is asked for.
#[derive(Clone, Copy)]
struct Asked {
    kind: RouterKind,
    recipient: Address,
    deadline: u64,
    amount_in: u64,
    least: u64,
    gas_limit: u64,
}

const USUAL: Asked = Asked {
    kind: RouterKind::UniswapV3,
    recipient: USER,
    deadline: 100,
    amount_in: 1_000_000,
    least: 0,
    gas_limit: 1_000_000,
};

impl Asked {
    fn input(&self) -> Bytes {
        let word = |address: Address| U256::from_be_bytes(address.into_word().0);
        let begin = [word(TOKENS[0]), word(TOKENS[1]), U256::from(3_000), word(self.recipient)];
        let end = [U256::from(self.amount_in), U256::from(self.least), U256::ZERO];
        let (selector, deadline) = match self.kind {
            RouterKind::SwapRouter02 => (SECOND, None),
            _ => (FIRST, Some(U256::from(self.deadline))),
        };
        let words: Vec<U256> = begin.into_iter().chain(deadline).chain(end).collect();
        calldata(selector, &words).into()
    }

    fn answer(&self) -> Result<Swapped, Not> {
        let transaction = Transaction {
            hash: B256::ZERO,
            from: USER,
            to: Some(ROUTER),
            value: U256::ZERO,
            input: self.input(),
            nonce: 0,
            gas_limit: self.gas_limit,
        };
        let router = Router {
            address: ROUTER,
            kind: self.kind,
            factory_v2: None,
            factory_v3: Some(FACTORY),
            manager: None,
            wrapped_native: Address::repeat_byte(0xee),
        };
        let (market, mut index) = (market(), Index::default());
        index.follow(&market);
        let moment = Moment { timestamp: 100, parent: B256::ZERO, native: U256::ZERO };
        swap(&transaction, &router, &market, &index, &moment)
    }
}

#[test]
fn a_swap_takes_its_input_from_the_sender_and_moves_the_pool() {
    for asked in [USUAL, Asked { kind: RouterKind::SwapRouter02, ..USUAL }] {
        let swapped = asked.answer().expect("it is known");
        assert_eq!(swapped.pays, [(TOKENS[0], U256::from(1_000_000))]);
        assert!(swapped.is_single && swapped.presumed_empty.is_empty() && swapped.paid_native.is_empty());
        let [(ConcentratedId(0), after)] = &swapped.concentrated[..] else { panic!("one pool: {swapped:?}") };
        let price = after.price().expect("it has a price").sqrt_price;
        assert!(price < U256::ONE << 96usize, "{price}");
    }
}

#[test]
fn what_the_router_itself_refuses_fails_by_name() {
    let check = |asked: Asked, reason| assert_eq!(asked.answer(), Err(Not::Succeeding(reason)));
    check(Asked { deadline: 99, ..USUAL }, "Transaction too old");
    check(Asked { least: 1_000_000, ..USUAL }, "Too little received");
    check(Asked { amount_in: 0, ..USUAL }, "AS");
}

#[test]
fn what_is_not_sure_is_executed() {
    let check = |asked: Asked| assert_eq!(asked.answer(), Err(Not::Known));
    check(Asked { gas_limit: 200_000, ..USUAL });
    check(Asked { recipient: pool(), ..USUAL });
    check(Asked { recipient: TOKENS[1], ..USUAL });
    // All that the router has, of which nothing is known: neither that it is nothing nor that it is too little.
    let second = Asked { kind: RouterKind::SwapRouter02, ..USUAL };
    check(Asked { amount_in: 0, ..second });
    check(Asked { kind: RouterKind::UniversalRouter, ..USUAL });
}

#[test]
fn a_universal_router_is_known_by_the_factories_in_its_code() {
    let mut index = Index::default();
    index.follow(&market());
    let pushed = |address: Address| [&[0x60, 0x00, 0x7f][..], address.into_word().as_slice()].concat();
    assert_eq!(index.makers_in(&pushed(FACTORY)), [None, Some(FACTORY), None]);
    assert_eq!(index.makers_in(&pushed(pool())), [None; 3]);
    // Without the push it is data.
    assert_eq!(index.makers_in(FACTORY.into_word().as_slice()), [None; 3]);
}
