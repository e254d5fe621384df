//! A small market for the tests: one factory, tokens and pools by number.

use alloy_primitives::{Address, B256, Bytes, U256};
use headwater_abi::logs;
use headwater_events::{
    BlockEvent, BusEvent, Envelope, Grade, Header, Log, MarketLoaded, PoolLoaded, PoolProof, Protocol,
    ReorgEvent, RunId, TokenJudged, TokenVerdict, Topics,
};
use headwater_market::{MarketConfig, ResolvedMarket};

pub(crate) const QUOTE: Address = Address::repeat_byte(0x80);
pub(crate) const FACTORY: Address = Address::repeat_byte(0xfa);
pub(crate) const ETHER: u128 = 1_000_000_000_000_000_000;

/// A token below the quote (even numbers) or above it.
pub(crate) fn token(number: u8) -> Address {
    let mut token = [if number.is_multiple_of(2) { 0x10 } else { 0x90 }; 20];
    token[19] = number;
    token.into()
}

pub(crate) fn pool(number: u8) -> Address {
    Address::left_padding_from(&[0x50, number])
}

pub(crate) fn hash(block: u64) -> B256 {
    U256::from(0x1000 + block).into()
}

pub(crate) fn market() -> ResolvedMarket {
    let text = format!(
        "preset = 'none'\nwrapped_native = '{QUOTE}'\n[[factories]]\nprotocol = 'uniswap-v2'\naddress = '{FACTORY}'"
    );
    let config: MarketConfig = toml::from_str(&text).expect("a market table");
    ResolvedMarket::resolve(&config, 31_337).expect("complete")
}

pub(crate) fn envelope(seq: u64, event: BusEvent) -> Envelope {
    Envelope { run_id: RunId(0), seq, received_at: 0, derived: None, event }
}

pub(crate) fn block(number: u64, hash: B256, parent_hash: B256, logs: Vec<Log>) -> BusEvent {
    let header = Header {
        number,
        hash,
        parent_hash,
        timestamp: 0,
        base_fee_per_gas: None,
        gas_used: 0,
        gas_limit: 0,
        beneficiary: Address::ZERO,
        logs_bloom: Default::default(),
    };
    BusEvent::NewBlock(BlockEvent { header, transactions: vec![], logs, grade: Grade::Proven })
}

/// The block of a number on a chain without reorganisations.
pub(crate) fn plain_block(number: u64, logs: Vec<Log>) -> BusEvent {
    block(number, hash(number), hash(number - 1), logs)
}

fn log(address: Address, topics: &[B256], words: [B256; 2]) -> Log {
    let topics = topics.iter().copied().collect::<Topics>();
    Log { address, topics, data: Bytes::from(words.concat()), transaction_index: 0, log_index: 0 }
}

/// `Sync` of a pool that holds `base` of the quote and `other` of the token `number`.
pub(crate) fn sync(emitter: Address, number: u8, base: u128, other: u128) -> Log {
    let (reserve0, reserve1) = in_order(number, base, other);
    log(emitter, &[logs::SYNC], [reserve0, reserve1].map(|reserve| U256::from(reserve).into()))
}

/// What a pool of the quote and the token `number` holds, token 0 first.
pub(crate) fn in_order(number: u8, base: u128, other: u128) -> (u128, u128) {
    if token(number) < QUOTE { (other, base) } else { (base, other) }
}

pub(crate) fn pair_created(factory: Address, pair: Address, a: Address, b: Address) -> Log {
    let topics = [logs::PAIR_CREATED, a.min(b).into_word(), a.max(b).into_word()];
    log(factory, &topics, [pair.into_word(), U256::from(1).into()])
}

/// A pool of the quote and the token `number`.
pub(crate) fn loaded(pool: Address, number: u8, held: Option<(u128, u128)>, at: (u64, B256)) -> BusEvent {
    let token = token(number);
    BusEvent::PoolLoaded(PoolLoaded {
        pool,
        factory: FACTORY,
        protocol: Protocol::UniswapV2,
        token0: token.min(QUOTE),
        token1: token.max(QUOTE),
        fee_ppm: 3_000,
        reserves: held.map(|(base, other)| in_order(number, base, other)),
        block_number: at.0,
        block_hash: at.1,
        proof: PoolProof::FactoryAnswer,
    })
}

pub(crate) fn market_loaded() -> BusEvent {
    BusEvent::MarketLoaded(MarketLoaded { number: 0, hash: hash(0), chain_id: 31_337, pools: 0 })
}

pub(crate) fn quote_accepted() -> BusEvent {
    let verdict = TokenVerdict::Accepted { decimals: 18, symbol: String::new() };
    BusEvent::TokenJudged(TokenJudged { token: QUOTE, verdict })
}

pub(crate) fn judged(number: u8, refused: bool) -> BusEvent {
    let verdict = match refused {
        true => TokenVerdict::Refused("takes a fee".to_owned()),
        false => TokenVerdict::Accepted { decimals: 18, symbol: String::new() },
    };
    BusEvent::TokenJudged(TokenJudged { token: token(number), verdict })
}

pub(crate) fn reorg(ancestor: (u64, B256), undone: Vec<B256>) -> BusEvent {
    BusEvent::Reorg(ReorgEvent {
        ancestor_number: ancestor.0,
        ancestor_hash: ancestor.1,
        old_head: undone.first().copied().unwrap_or_default(),
        new_head: B256::ZERO,
        undone,
    })
}
