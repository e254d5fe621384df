//! A pool of Uniswap V3 for tests.

use alloy_primitives::{Address, B256, U256};
use headwater_events::AsOf;
use headwater_market::{
    BlockRef, ConcentratedBook, ConcentratedEvent, ConcentratedFactory, ConcentratedPrice, ConcentratedTable,
    ConcentratedUpdate, Head, MarketConfig, MarketSnapshot, PoolTable, ResolvedMarket,
};

pub(crate) const TOKENS: [Address; 2] = [Address::repeat_byte(1), Address::repeat_byte(2)];
pub(crate) const FACTORY: Address = Address::repeat_byte(0xf3);

fn factory() -> ConcentratedFactory {
    ConcentratedFactory { name: "v3".into(), address: FACTORY, init_code_hash: B256::ZERO, deployer: None }
}

/// Where it is.
pub(crate) fn pool() -> Address {
    factory().derive(TOKENS[0], TOKENS[1], 3_000)
}

/// The price of one.
pub(crate) fn price() -> ConcentratedPrice {
    ConcentratedPrice { sqrt_price: U256::ONE << 96usize, tick: 0 }
}

/// A market that has its factory.
pub(crate) fn resolved() -> ResolvedMarket {
    ResolvedMarket {
        concentrated_factories: vec![factory()],
        ..ResolvedMarket::resolve(&MarketConfig::default(), 1).expect("the default")
    }
}

/// The pool after the block in which it was created, and said this.
pub(crate) fn table(events: impl IntoIterator<Item = ConcentratedEvent>) -> ConcentratedTable {
    let [token0, token1] = TOKENS;
    let created = ConcentratedUpdate::PoolCreated {
        emitter: FACTORY,
        token0,
        token1,
        fee: 3_000,
        tick_spacing: 60,
        pool: pool(),
    };
    let said = events.into_iter().map(|event| ConcentratedUpdate::Pool { emitter: pool(), event });
    let block = BlockRef { number: 1, hash: B256::repeat_byte(1), parent_hash: B256::ZERO };
    let mut book = ConcentratedBook::new(&resolved());
    book.apply_block(block, std::iter::once(created).chain(said));
    book.table().clone()
}

/// These pools and no others.
pub(crate) fn snapshot(concentrated: ConcentratedTable) -> MarketSnapshot {
    let head = Head { timestamp: 0, base_fee_per_gas: None, gas_used: 0, gas_limit: 0 };
    MarketSnapshot { concentrated, ..MarketSnapshot::of_pools(AsOf::GENESIS, head, PoolTable::default()) }
}
