//! The bot's snapshots beside a rebuild from scratch.

use anyhow::{Context, ensure};
use headwater_market::{MarketSnapshot, PriceSnapshot};
use headwater_reference::fake_node::quantity;
use headwater_reference::scratch::{Known, Scratch, ScratchPool, ScratchPrice, from_scratch};

use super::history::History;

pub(super) fn compare(
    known: &Known,
    history: &History,
    market: &MarketSnapshot,
    prices: &PriceSnapshot,
) -> anyhow::Result<()> {
    let head = history.head();
    for as_of in [market.as_of, prices.as_of] {
        ensure!((as_of.number, as_of.hash) == (head.number(), head.hash()), "a snapshot of {as_of:?}");
    }
    let told =
        (market.head.timestamp, market.head.base_fee_per_gas, market.head.gas_used, market.head.gas_limit);
    let field = |name: &str| quantity(&head.block[name]);
    let made = (field("timestamp"), Some(field("baseFeePerGas")), field("gasUsed"), field("gasLimit"));
    ensure!(told == made, "the head is {made:?}, and told to be {told:?}");
    let scratch = from_scratch(known, history.blocks());
    compare_pools(&scratch, market)?;
    compare_prices(&scratch, prices)
}

/// Every pool, and nothing of what is none any longer.
fn compare_pools(scratch: &Scratch, market: &MarketSnapshot) -> anyhow::Result<()> {
    for (address, expected) in &scratch.pools {
        let id = market.pools.find(address).with_context(|| format!("pool {address} is missing"))?;
        let meta = market.pools.meta(id).with_context(|| format!("pool {address} is nothing"))?;
        let told = ScratchPool {
            factory: meta.factory,
            token0: meta.token0,
            token1: meta.token1,
            fee_ppm: meta.fee_ppm,
            reserves: market.pools.reserves(id).map(|held| (held.reserve0, held.reserve1)).filter(holds),
            is_quoted: market.pools.quoted(id).is_some(),
        };
        let expected = &ScratchPool { reserves: expected.reserves.filter(holds), ..*expected };
        ensure!(
            meta.address == *address && told == *expected,
            "pool {address} is {expected:?}, and told to be {told:?}"
        );
    }
    for (id, meta, reserves) in market.pools.iter() {
        let is_known =
            market.pools.find(&meta.address) == Some(id) && scratch.pools.contains_key(&meta.address);
        ensure!(is_known || reserves.is_none(), "{} is no pool, and holds {reserves:?}", meta.address);
    }
    Ok(())
}

/// A pair that has said nothing yet holds nothing, as far as its contract tells.
fn holds(reserves: &(u128, u128)) -> bool {
    *reserves != (0, 0)
}

fn compare_prices(scratch: &Scratch, prices: &PriceSnapshot) -> anyhow::Result<()> {
    let learnt = History::learnt_tokens();
    for (token, expected) in &scratch.prices {
        let told = prices.prices.get(token).with_context(|| format!("token {token} has no price"))?;
        let told = ScratchPrice {
            mantissa: told.price.mantissa,
            source: told.source,
            changed_at: if learnt.contains(token) { expected.changed_at } else { told.changed_at },
        };
        ensure!(told == *expected, "token {token} is worth {expected:?}, and told to be worth {told:?}");
    }
    let too_many = prices.prices.iter().find(|(token, _)| !scratch.prices.contains_key(*token));
    ensure!(
        too_many.is_none() && prices.prices.len() == scratch.prices.len(),
        "no price is due: {too_many:?}"
    );
    Ok(())
}
