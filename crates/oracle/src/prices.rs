use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256, U512, keccak256};
use headwater_abi::logs;
use headwater_events::{
    AsOf, BlockEvent, BusEvent, Envelope, Log, PoolLoaded, Price, PriceEvent, ReorgEvent, V2Action,
};
use headwater_market::{
    BlockRef, Changes, HORIZON, PoolBook, PoolId, PoolUpdate, PriceId, PriceSnapshot, PriceTable, Reserves,
    ResolvedMarket, TokenPrice,
};
use serde::Serialize;

use crate::config::OracleConfig;
use crate::error::OracleError;

/// Prices as a fold over source events: each block gives a snapshot.
///
/// It is a function of the events alone, and of a reorganised chain it says the same as of the chain that survived.
#[derive(Clone, Debug)]
pub struct Oracle {
    /// The wrapped native token: what prices are counted in.
    quote: Address,
    min_base_reserve: U256,
    factories: Vec<Address>,
    /// The pools that hold the quote, and nobody else's.
    book: PoolBook,
    /// Proven pools without the quote. Their `Sync` comes often and means nothing here.
    others: HashSet<Address>,
    /// The pools against the quote of the token at each place, ascending.
    pools_of: Vec<Vec<PoolId>>,
    /// The token that each pool holds beside the quote.
    token_of: Vec<Option<PriceId>>,
    prices: PriceTable,
    /// The prices after each block that can be rolled back to, oldest first.
    history: VecDeque<PriceTable>,
    /// The prices below the oldest of them.
    base: PriceTable,
    counts: OracleCounts,
}

/// What a block did to the prices.
#[derive(Clone, Debug)]
pub struct PricedBlock {
    /// The prices as of the block.
    pub snapshot: Arc<PriceSnapshot>,
    /// The prices that the block changed, by ascending token. A price that is lost is not among them.
    pub changed: Vec<PriceEvent>,
}

/// The oracle in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OracleCounts {
    /// Blocks applied, undone ones included.
    pub blocks: u64,
    /// Pools against the wrapped native token.
    pub pools: u64,
    /// Tokens that have a price.
    pub prices: u64,
    /// Prices computed: what the blocks cost.
    pub computed: u64,
    /// Logs with the topic of `Sync` or `PairCreated` that do not decode.
    pub malformed: u64,
}

impl Oracle {
    /// Nothing has a price.
    pub fn new(market: &ResolvedMarket, config: &OracleConfig) -> Self {
        Self {
            quote: market.wrapped_native,
            min_base_reserve: config.min_base_reserve_wei,
            factories: market.factories.iter().map(|factory| factory.address).collect(),
            book: PoolBook::new(market),
            others: HashSet::new(),
            pools_of: Vec::new(),
            token_of: Vec::new(),
            prices: PriceTable::default(),
            history: VecDeque::with_capacity(HORIZON + 1),
            base: PriceTable::default(),
            counts: OracleCounts::default(),
        }
    }

    /// Whether an event changes a price.
    pub fn concerns(event: &BusEvent) -> bool {
        match event {
            BusEvent::NewBlock(_)
            | BusEvent::Reorg(_)
            | BusEvent::PoolLoaded(_)
            | BusEvent::TokenJudged(_)
            | BusEvent::MarketLoaded(_) => true,
            BusEvent::NewPendingTx(_)
            | BusEvent::SourceGap(_)
            | BusEvent::Reconnected(_)
            | BusEvent::PriceUpdate(_)
            | BusEvent::LiquidityChange(_)
            | BusEvent::OpportunityFound(_)
            | BusEvent::OutcomeRecorded(_)
            | BusEvent::HealthCheck(_)
            | BusEvent::Shutdown => false,
        }
    }

    /// Applies the next source event; a block gives a snapshot.
    ///
    /// # Errors
    ///
    /// [`OracleError`] when it does not follow from those before.
    pub fn apply(&mut self, envelope: &Envelope) -> Result<Option<PricedBlock>, OracleError> {
        match &envelope.event {
            BusEvent::NewBlock(block) => return self.block(envelope.seq, block).map(Some),
            BusEvent::Reorg(reorg) => self.reorg(reorg)?,
            BusEvent::PoolLoaded(loaded) => self.pool_loaded(loaded),
            BusEvent::TokenJudged(judged) => self.book.token_judged(judged),
            BusEvent::MarketLoaded(loaded) => self.book.market_loaded(loaded),
            other => debug_assert!(!Self::concerns(other), "{} is forgotten here", other.name()),
        }
        Ok(None)
    }

    /// The oracle in figures.
    pub fn counts(&self) -> OracleCounts {
        let pools = self.book.table().len() as u64;
        OracleCounts { pools, prices: self.prices.len() as u64, ..self.counts }
    }

    /// keccak-256 of [`Oracle::account`].
    pub fn digest(&self) -> B256 {
        let mut text = String::new();
        self.account(&mut text);
        keccak256(text)
    }

    /// Appends the account of the oracle's own pools, every price, and what each undo record would bring back, one a
    /// line, to `text`. The README says what stands in a line.
    pub fn account(&self, text: &mut String) {
        self.book.account(text);
        let current = dated(&self.prices);
        current.iter().for_each(|(token, price)| tell_price(text, "price", token, Some(price)));
        let mut before = dated(&self.base);
        for prices in &self.history {
            let after = dated(prices);
            text.push_str("unprice\n");
            let tokens: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            for token in tokens.into_iter().filter(|token| before.get(*token) != after.get(*token)) {
                tell_price(text, "was", token, before.get(token));
            }
            before = after;
        }
    }

    fn block(&mut self, seq: u64, block: &BlockEvent) -> Result<PricedBlock, OracleError> {
        let header = &block.header;
        let (number, hash, parent_hash) = (header.number, header.hash, header.parent_hash);
        let updates: Vec<_> = block.logs.iter().filter_map(|log| self.pool_update(log)).collect();
        self.book.apply_block(BlockRef { number, hash, parent_hash }, updates)?;
        let as_of = AsOf { seq, number, hash };
        let changed = self.reprice(as_of);
        self.remember();
        self.counts.blocks += 1;
        let snapshot = PriceSnapshot { as_of, quote: self.quote, prices: self.prices.clone() };
        Ok(PricedBlock { snapshot: Arc::new(snapshot), changed })
    }

    fn reorg(&mut self, reorg: &ReorgEvent) -> Result<(), OracleError> {
        let undone = self.book.roll_back(reorg.ancestor_hash)?;
        self.history.truncate(self.history.len() - undone);
        self.prices.roll_back_to(self.history.back().unwrap_or(&self.base));
        Ok(())
    }

    fn pool_loaded(&mut self, loaded: &PoolLoaded) {
        if self.is_quoted_in(loaded.token0, loaded.token1) {
            self.others.remove(&loaded.pool);
            self.book.pool_loaded(loaded);
        } else {
            self.others.insert(loaded.pool);
        }
    }

    /// What a log means for the pools of the quote.
    fn pool_update(&mut self, log: &Log) -> Option<PoolUpdate> {
        let emitter = log.address;
        match logs::pool_change(log) {
            Ok(Some(V2Action::Sync { reserve0, reserve1 })) => (!self.others.contains(&emitter))
                .then_some(PoolUpdate::Sync { emitter, reserves: Reserves { reserve0, reserve1 } }),
            Ok(Some(V2Action::PairCreated { token0, token1, pair, .. })) => {
                if self.is_quoted_in(token0, token1) {
                    return Some(PoolUpdate::PairCreated { emitter, token0, token1, pair });
                }
                if self.factories.contains(&emitter) {
                    self.others.insert(pair);
                }
                None
            }
            Ok(_) => None,
            Err(_) => {
                self.counts.malformed += 1;
                None
            }
        }
    }

    fn is_quoted_in(&self, token0: Address, token1: Address) -> bool {
        token0 == self.quote || token1 == self.quote
    }

    /// Brings the prices up to date with the book; says which changed.
    fn reprice(&mut self, as_of: AsOf) -> Vec<PriceEvent> {
        let mut places: Vec<PriceId> = match self.book.take_changes() {
            Changes::All => {
                let ids: Vec<_> = self.book.table().iter().map(|(id, ..)| id).collect();
                ids.into_iter().filter_map(|id| self.token_of(id)).collect()
            }
            Changes::Pools(ids) => ids.iter().filter_map(|id| self.token_of(*id)).collect(),
        };
        places.sort_unstable();
        places.dedup();
        let mut changed: Vec<_> =
            places.into_iter().filter_map(|place| self.reprice_token(place, as_of)).collect();
        changed.sort_unstable_by_key(|change| change.token);
        changed
    }

    /// The token that a pool holds beside the quote; takes note of whose pool it is.
    fn token_of(&mut self, id: PoolId) -> Option<PriceId> {
        if let Some(Some(known)) = self.token_of.get(id.index()) {
            return Some(*known);
        }
        let meta = self.book.table().meta(id)?;
        let token = if meta.token0 == self.quote { meta.token1 } else { meta.token0 };
        let place = self.prices.place(token);
        self.token_of.resize(self.token_of.len().max(id.index() + 1), None);
        self.token_of[id.index()] = Some(place);
        self.pools_of.resize(self.pools_of.len().max(place.index() + 1), Vec::new());
        let pools = &mut self.pools_of[place.index()];
        if let Err(at) = pools.binary_search(&id) {
            pools.insert(at, id);
        }
        Some(place)
    }

    fn reprice_token(&mut self, place: PriceId, as_of: AsOf) -> Option<PriceEvent> {
        self.counts.computed += 1;
        let token = self.prices.token(place)?;
        let before = self.prices.at(place);
        let Some((price, source)) = self.price_in_pools(place) else {
            if before.is_some() {
                self.prices.set(place, None);
            }
            return None;
        };
        let same = before.filter(|before| before.price == price);
        let changed_at = same.map_or(as_of.number, |before| before.changed_at);
        let is_news = same.is_none();
        let current = TokenPrice { price, source, changed_at };
        if before != Some(&current) {
            self.prices.set(place, Some(current));
        }
        is_news.then_some(PriceEvent { as_of, token, price, source })
    }

    /// The mean of a token's prices in its deep pools, weighted by what they hold of the quote, and the pool that
    /// weighs most.
    fn price_in_pools(&self, place: PriceId) -> Option<(Price, Address)> {
        let table = self.book.table();
        let mut mean = WeightedMean::default();
        for id in self.pools_of.get(place.index())? {
            let (Some(meta), Some(held)) = (table.meta(*id), table.quoted(*id)) else { continue };
            let is_first = meta.token0 == self.quote;
            let (base, other) =
                if is_first { (held.reserve0, held.reserve1) } else { (held.reserve1, held.reserve0) };
            if U256::from(base) >= self.min_base_reserve {
                mean.add(base, other, meta.address);
            }
        }
        let (mantissa, source) = mean.finish()?;
        Some((Price { quote: self.quote, mantissa }, source))
    }

    /// Keeps as many steps as the book does.
    fn remember(&mut self) {
        self.history.push_back(self.prices.clone());
        if self.history.len() > HORIZON
            && let Some(oldest) = self.history.pop_front()
        {
            self.base = oldest;
        }
    }
}

fn dated(prices: &PriceTable) -> BTreeMap<Address, TokenPrice> {
    prices.iter().map(|(token, price)| (*token, *price)).collect()
}

fn tell_price(text: &mut String, word: &str, token: &Address, price: Option<&TokenPrice>) {
    let told = match price {
        None => writeln!(text, "{word} {token:#x} -"),
        Some(TokenPrice { price, source, changed_at }) => {
            let Price { quote, mantissa } = price;
            writeln!(text, "{word} {token:#x} {quote:#x} {mantissa} {source:#x} {changed_at}")
        }
    };
    told.expect("a string takes everything");
}

/// Prices of one token in several pools, weighted by the base reserve.
#[derive(Debug, Default)]
struct WeightedMean {
    pools: usize,
    /// The last price: the mean of one pool is its price, as most tokens have it.
    last: U256,
    /// Σ weight · mantissa. A mantissa is below 2^112 · 10^36 < 2^232 and a weight below 2^112, so that 2^168 pools fit.
    weighted: U512,
    weight: U512,
    /// The greatest base reserve, and whose; the lowest address of several.
    deepest: Option<(u128, Address)>,
}

impl WeightedMean {
    /// Adds a pool that holds `base` of the quote and `other`, which is not zero, of the token.
    fn add(&mut self, base: u128, other: u128, pool: Address) {
        let mantissa = U256::from(base) * Price::ONE / U256::from(other);
        self.pools += 1;
        self.last = mantissa;
        self.weighted += U512::from(mantissa) * U512::from(base);
        self.weight += U512::from(base);
        let is_deeper =
            self.deepest.is_none_or(|(deepest, holder)| base > deepest || (base == deepest && pool < holder));
        if is_deeper {
            self.deepest = Some((base, pool));
        }
    }

    fn finish(self) -> Option<(U256, Address)> {
        let (_, source) = self.deepest?;
        let mantissa = match self.pools {
            1 => self.last,
            _ => self.weighted.checked_div(self.weight)?.to(),
        };
        // A token whose smallest unit is worth less than can be written is worth nothing.
        (!mantissa.is_zero()).then_some((mantissa, source))
    }
}

#[cfg(test)]
mod tests;
