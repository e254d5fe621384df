use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use alloy_primitives::{Address, BlockHash, BlockNumber, U64, U256};
use headwater_abi::calls;
use headwater_events::{AsOf, BusEvent, MarketLoaded, PoolLoaded, TokenVerdict};
use headwater_market::{Factory, LoadFilter, ResolvedMarket, V4Key};
use headwater_node::Node;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::concentrated::{Progress, Reading, recognise, recognise_v4};
use super::history::FoundPool;
use super::proof_of;
use super::question::{Answer, Question, ask};
use super::token::{Held, judge};
use crate::error::LoadError;

/// Contracts that are asked together.
pub(super) const PAGE: usize = 500;

/// Pools without proof in a row after which a factory is taken for a liar and left.
const MOST_REFUSED_IN_A_ROW: u64 = 1_000;

/// Fees for which pools with concentrated liquidity are looked for: those that the factories of Uniswap and PancakeSwap know, in
/// hundredths of a basis point. A pool with another one is found when it trades.
const FEES: [u32; 5] = [100, 500, 2_500, 3_000, 10_000];

/// The same for V4, where anybody chooses fee and tick spacing: the pairs that were V3's.
const V4_FEES: [(u32, i32); 4] = [(100, 1), (500, 10), (3_000, 60), (10_000, 200)];

/// What the initial load learnt, as source events in the order in which they are to be published.
#[derive(Clone, Debug)]
pub struct BulkLoad {
    /// `PoolLoaded`, `ConcentratedLoaded` and `V4Loaded` of every pool, `TokenJudged` of every token of theirs, and `MarketLoaded`.
    pub events: Vec<BusEvent>,
    /// What was asked and what was left out.
    pub report: LoadReport,
}

impl BulkLoad {
    /// The tokens that were judged, so that a [`Loader`](crate::Loader) does not ask about them again.
    pub fn judged_tokens(&self) -> impl Iterator<Item = Address> {
        self.events.iter().filter_map(|event| match event {
            BusEvent::TokenJudged(judged) => Some(judged.token),
            _ => None,
        })
    }
}

/// The initial load in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// Pools loaded, those with concentrated liquidity left out.
    pub pools: u64,
    /// Pools with concentrated liquidity loaded.
    pub concentrated_pools: u64,
    /// Pools that a factory listed and the configuration does not ask for.
    pub filtered: u64,
    /// Contracts that a factory listed and that do not prove to be its pools.
    pub refused: u64,
    /// Tokens judged.
    pub tokens: u64,
    /// Tokens refused.
    pub tokens_refused: u64,
    /// Tokens accepted without a look at what is held of them later, because the node runs no call at another time than its block's.
    pub untimed: u64,
}

/// Loads the pools and tokens that the configuration asks for, all as of the canonical block `block`. `progress` is
/// told how many contracts were asked, and of how many; the second number grows once the tokens are known.
///
/// # Errors
///
/// [`LoadError::BlockGone`] when the node no longer answers for the block: load at a newer one.
/// [`LoadError::NoFactory`] when a configured factory is none. Else what the node failed with.
pub async fn bulk_load(
    node: &Node,
    market: &ResolvedMarket,
    block: BlockHash,
    progress: impl Fn(u64, u64) + Send + Sync,
) -> Result<BulkLoad, LoadError> {
    bulk_load_with(node, market, &[], block, progress).await
}

/// As [`bulk_load`], and of the pools that a [`PoolSearch`](crate::PoolSearch) has found those that have liquidity at the price where
/// they stand, the oldest first: the others are found when they trade.
///
/// # Errors
///
/// As [`bulk_load`].
pub async fn bulk_load_with(
    node: &Node,
    market: &ResolvedMarket,
    found: &[FoundPool],
    block: BlockHash,
    progress: impl Fn(u64, u64) + Send + Sync,
) -> Result<BulkLoad, LoadError> {
    let number = number_of(node, block).await?;
    let mut load = Load {
        node,
        filter: &market.load,
        block,
        number,
        progress: &progress,
        pools: Vec::new(),
        concentrated: Vec::new(),
        seen: HashSet::new(),
        asked: 0,
        report: LoadReport::default(),
    };
    load.all_pools(&market.factories).await?;
    load.all_concentrated(market).await?;
    load.all_v4(market).await?;
    load.all_found(market, found).await?;
    let mut events = load.all_tokens().await?;
    ensure_canonical(node, block, number).await?;
    let (pools, concentrated, report) = (load.pools, load.concentrated, load.report);
    let loaded = MarketLoaded { number, hash: block, chain_id: market.chain_id, pools: report.pools };
    events.splice(0..0, pools.into_iter().map(BusEvent::PoolLoaded));
    events.extend(concentrated.into_iter().map(Reading::finish));
    events.push(BusEvent::MarketLoaded(loaded));
    Ok(BulkLoad { events, report })
}

struct Load<'a> {
    node: &'a Node,
    filter: &'a LoadFilter,
    block: BlockHash,
    number: BlockNumber,
    progress: &'a (dyn Fn(u64, u64) + Send + Sync),
    pools: Vec<PoolLoaded>,
    /// Whole.
    concentrated: Vec<Reading>,
    /// Every contract that was listed, so that none is taken twice.
    seen: HashSet<Address>,
    /// Places of listings, and tokens, that were asked about.
    asked: u64,
    report: LoadReport,
}

/// What a factory is asked for, and how far.
struct Listing<'a> {
    factory: &'a Factory,
    places: Places,
    next: u64,
    refused_in_a_row: u64,
}

/// Where a factory's pools are looked for.
enum Places {
    /// Everywhere, oldest first.
    All { length: u64 },
    /// The pools of two listed tokens.
    Of(Vec<(Address, Address)>),
}

impl Listing<'_> {
    fn left(&self) -> u64 {
        let length = match &self.places {
            Places::All { length } => *length,
            Places::Of(pairs) => pairs.len() as u64,
        };
        length - self.next
    }

    /// The next questions for pools.
    fn turn_page(&mut self, most: usize) -> Vec<Question> {
        let first = self.next;
        let count = self.left().min(most as u64);
        self.next += count;
        let to = self.factory.address;
        let ask = |place: u64| match &self.places {
            Places::All { .. } => calls::all_pairs(U256::from(place)),
            Places::Of(pairs) => {
                let (token0, token1) = pairs[usize::try_from(place).expect("an index")];
                calls::get_pair(token0, token1)
            }
        };
        (first..self.next).map(|place| Question { to, data: ask(place) }).collect()
    }
}

impl<'a> Load<'a> {
    /// The factories take turns, so that the limit is shared among them.
    async fn all_pools(&mut self, factories: &'a [Factory]) -> Result<(), LoadError> {
        let mut listings = self.listings(factories).await?;
        let total: u64 = listings.iter().map(Listing::left).sum();
        let total = total.min(self.room() as u64);
        while self.room() > 0 && !listings.is_empty() {
            for listing in &mut listings {
                self.page(listing).await?;
                (self.progress)(self.asked, total.max(self.asked));
            }
            listings.retain(|listing| listing.left() > 0);
        }
        Ok(())
    }

    /// Pools that may still be taken.
    fn room(&self) -> usize {
        self.filter.max_pools - self.pools.len() - self.concentrated.len()
    }

    async fn listings(&self, factories: &'a [Factory]) -> Result<Vec<Listing<'a>>, LoadError> {
        let questions: Vec<_> = factories
            .iter()
            .map(|factory| Question { to: factory.address, data: calls::all_pairs_length() })
            .collect();
        let answers = ask(self.node, self.block, &questions).await?;
        let lengths = factories.iter().zip(&answers);
        lengths.map(|(factory, answer)| self.listing(factory, answer)).collect()
    }

    fn listing(&self, factory: &'a Factory, length: &Answer) -> Result<Listing<'a>, LoadError> {
        let length = length
            .read(calls::decode_uint256)
            .map_err(|reason| LoadError::NoFactory { factory: factory.name.clone(), reason })?;
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let tokens = &self.filter.tokens;
        let pairs = tokens.len() as u64 * (tokens.len() as u64).saturating_sub(1) / 2;
        let places = if tokens.is_empty() || pairs > length {
            Places::All { length }
        } else {
            let rest = |index: usize| tokens[index + 1..].iter();
            Places::Of(
                tokens
                    .iter()
                    .enumerate()
                    .flat_map(|(at, one)| rest(at).map(|other| (*one, *other)))
                    .collect(),
            )
        };
        Ok(Listing { factory, places, next: 0, refused_in_a_row: 0 })
    }

    async fn page(&mut self, listing: &mut Listing<'a>) -> Result<(), LoadError> {
        let questions = listing.turn_page(PAGE.min(self.room()));
        let answers = ask(self.node, self.block, &questions).await?;
        self.asked += questions.len() as u64;
        let mut listed = Vec::with_capacity(answers.len());
        for answer in &answers {
            match answer.read(calls::decode_address) {
                // No pool of these two tokens.
                Ok(Address::ZERO) => {}
                Ok(pool) if self.seen.insert(pool) => listed.push(pool),
                _ => self.refuse(listing),
            }
        }
        for (pool, answers) in listed.iter().zip(self.ask_pools(&listed).await?) {
            self.judge_pool(listing, *pool, &answers);
        }
        Ok(())
    }

    async fn ask_pools(&self, pools: &[Address]) -> Result<Vec<[Answer; 3]>, LoadError> {
        let about = || [calls::token0(), calls::token1(), calls::get_reserves()];
        let questions: Vec<_> =
            pools.iter().flat_map(|pool| about().map(|data| Question { to: *pool, data })).collect();
        let answers = ask(self.node, self.block, &questions).await?;
        Ok(answers.as_chunks().0.to_vec())
    }

    fn judge_pool(&mut self, listing: &mut Listing<'_>, pool: Address, [token0, token1, held]: &[Answer; 3]) {
        let factory = listing.factory;
        let tokens = token0.read(calls::decode_address).and_then(|token0| {
            let token1 = token1.read(calls::decode_address)?;
            Ok((token0, token1, held.read(calls::decode_get_reserves)?))
        });
        let Ok((token0, token1, reserves)) = tokens else { return self.refuse(listing) };
        let Some(proof) = proof_of(factory, pool, token0, token1) else { return self.refuse(listing) };
        listing.refused_in_a_row = 0;
        let wanted = self.filter.wants_tokens(&token0, &token1)
            && self.filter.wants_reserves((&token0, reserves.0), (&token1, reserves.1));
        if !wanted {
            self.report.filtered += 1;
            return;
        }
        self.report.pools += 1;
        self.pools.push(PoolLoaded {
            pool,
            factory: factory.address,
            protocol: factory.protocol,
            token0,
            token1,
            fee_ppm: factory.fee_ppm,
            reserves: Some(reserves),
            block_number: self.number,
            block_hash: self.block,
            proof,
        });
    }

    fn refuse(&mut self, listing: &mut Listing<'_>) {
        self.report.refused += 1;
        listing.refused_in_a_row += 1;
        if listing.refused_in_a_row == MOST_REFUSED_IN_A_ROW {
            let factory = &listing.factory.name;
            warn!(
                factory,
                refused = MOST_REFUSED_IN_A_ROW,
                "lists what is not its own; the rest is not asked for"
            );
            listing.places = Places::All { length: listing.next };
        }
    }

    /// Nobody lists pools with concentrated liquidity: those of two listed (else base) tokens are where their addresses derive, or
    /// not there. They have no reserves, so that none is left out for what it holds.
    async fn all_concentrated(&mut self, market: &ResolvedMarket) -> Result<(), LoadError> {
        let tokens = if self.filter.tokens.is_empty() { &market.base_tokens } else { &self.filter.tokens };
        let pairs = tokens
            .iter()
            .enumerate()
            .flat_map(|(at, one)| tokens[at + 1..].iter().map(move |other| (*one, *other)));
        let factories = &market.concentrated_factories;
        let places: Vec<_> = pairs
            .flat_map(|(one, other)| FEES.map(|fee| (one, other, fee)))
            .flat_map(|(one, other, fee)| {
                factories.iter().map(move |factory| factory.derive(one, other, fee))
            })
            .collect();
        let as_of = AsOf { seq: 0, number: self.number, hash: self.block };
        for page in places.chunks(PAGE) {
            if self.room() == 0 {
                return Ok(());
            }
            let readings = recognise(self.node, market, page, as_of).await?;
            self.read_through(readings).await?;
        }
        Ok(())
    }

    /// Nor does anybody list V4's pools: those of two listed (else base) tokens, or of one and the native currency, without hooks and
    /// with a usual fee, have an id under which the manager's storage has a price, or are not there.
    async fn all_v4(&mut self, market: &ResolvedMarket) -> Result<(), LoadError> {
        let tokens = if self.filter.tokens.is_empty() { &market.base_tokens } else { &self.filter.tokens };
        let currencies: Vec<_> = [Address::ZERO].into_iter().chain(tokens.iter().copied()).collect();
        let pairs = currencies
            .iter()
            .enumerate()
            .flat_map(|(at, one)| currencies[at + 1..].iter().map(move |other| (*one, *other)));
        let keys: Vec<_> = pairs
            .flat_map(|(one, other)| {
                V4_FEES.map(|(fee, tick_spacing)| V4Key {
                    currency0: one.min(other),
                    currency1: one.max(other),
                    fee,
                    tick_spacing,
                    hooks: Address::ZERO,
                })
            })
            .collect();
        let as_of = AsOf { seq: 0, number: self.number, hash: self.block };
        for manager in &market.concentrated_managers {
            for page in keys.chunks(PAGE) {
                if self.room() == 0 {
                    return Ok(());
                }
                let readings = recognise_v4(self.node, manager.address, page, as_of).await?;
                self.read_through(readings).await?;
            }
        }
        Ok(())
    }

    async fn all_found(&mut self, market: &ResolvedMarket, found: &[FoundPool]) -> Result<(), LoadError> {
        let mut known: HashSet<_> = self.concentrated.iter().map(Reading::key).collect();
        let found: Vec<_> = found.iter().filter(|pool| known.insert(pool.key())).collect();
        let as_of = AsOf { seq: 0, number: self.number, hash: self.block };
        let total = self.asked + found.len() as u64;
        for page in found.chunks(PAGE) {
            if self.room() == 0 {
                break;
            }
            let pools: Vec<_> = page.iter().filter_map(|pool| pool.v3()).collect();
            let mut readings = recognise(self.node, market, &pools, as_of).await?;
            for manager in &market.concentrated_managers {
                let keys: Vec<_> = page.iter().filter_map(|pool| pool.v4(manager.address)).collect();
                readings.extend(recognise_v4(self.node, manager.address, &keys, as_of).await?);
            }
            readings.retain(|reading| reading.as_ref().is_some_and(Reading::has_liquidity));
            self.read_through(readings).await?;
            self.asked += page.len() as u64;
            (self.progress)(self.asked, total);
        }
        Ok(())
    }

    async fn read_through(&mut self, readings: Vec<Option<Reading>>) -> Result<(), LoadError> {
        for mut reading in readings.into_iter().flatten().take(self.room()) {
            let mut progress = Progress::Open;
            while progress == Progress::Open {
                progress = reading.go_on(self.node).await?;
            }
            if progress == Progress::Refused {
                self.report.refused += 1;
                continue;
            }
            self.report.concentrated_pools += 1;
            self.concentrated.push(reading);
        }
        Ok(())
    }

    /// Every token of the pools, in the order in which they occur, with the pool that holds most of it; of pools with concentrated
    /// liquidity, which have no reserves, the first.
    fn held_tokens(&self) -> Vec<Held> {
        let of_pair = |pool: &PoolLoaded| {
            let (reserve0, reserve1) = pool.reserves.unwrap_or_default();
            [(pool.token0, pool.pool, reserve0), (pool.token1, pool.pool, reserve1)]
        };
        let concentrated = self
            .concentrated
            .iter()
            .flat_map(|pool| pool.tokens().map(move |token| (token, pool.holder(), 0)));
        let mut places: HashMap<Address, usize> = HashMap::new();
        let mut tokens: Vec<(Held, u128)> = Vec::new();
        for (token, holder, reserve) in self.pools.iter().flat_map(of_pair).chain(concentrated) {
            let held = (Held { token, holder, reserve: (reserve > 0).then_some(reserve) }, reserve);
            match places.entry(token) {
                Entry::Vacant(vacant) => {
                    vacant.insert(tokens.len());
                    tokens.push(held);
                }
                Entry::Occupied(place) => {
                    let known = &mut tokens[*place.get()];
                    if known.1 < reserve {
                        *known = held;
                    }
                }
            }
        }
        tokens.into_iter().map(|(held, _)| held).collect()
    }

    /// Pools of a token that could not be tried out, because its pools hold nothing of it, are left out: they are found when they
    /// trade.
    fn leave_unjudged(&mut self, events: &[BusEvent]) {
        let judged: HashSet<_> = events
            .iter()
            .filter_map(|event| match event {
                BusEvent::TokenJudged(judged) => Some(judged.token),
                _ => None,
            })
            .collect();
        let before = self.pools.len() + self.concentrated.len();
        self.pools.retain(|pool| judged.contains(&pool.token0) && judged.contains(&pool.token1));
        self.concentrated.retain(|pool| pool.tokens().all(|token| judged.contains(&token)));
        self.report.pools = self.pools.len() as u64;
        self.report.concentrated_pools = self.concentrated.len() as u64;
        self.report.filtered += (before - self.pools.len() - self.concentrated.len()) as u64;
    }

    /// Judges every token of the pools, in the order in which they occur.
    async fn all_tokens(&mut self) -> Result<Vec<BusEvent>, LoadError> {
        let tokens = self.held_tokens();
        let total = self.asked + tokens.len() as u64;
        let mut events = Vec::with_capacity(self.pools.len() + tokens.len() + 1);
        for page in tokens.chunks(PAGE) {
            let verdicts = judge(self.node, self.block, page, self.filter.max_transfer_gas).await?;
            self.report.untimed += verdicts.untimed;
            for judged in verdicts.judged {
                self.report.tokens += 1;
                self.report.tokens_refused += u64::from(matches!(judged.verdict, TokenVerdict::Refused(_)));
                events.push(BusEvent::TokenJudged(judged));
            }
            self.asked += page.len() as u64;
            (self.progress)(self.asked, total);
        }
        self.leave_unjudged(&events);
        Ok(events)
    }
}

#[derive(Deserialize)]
struct BlockPlace {
    number: U64,
}

pub(super) async fn number_of(node: &Node, block: BlockHash) -> Result<BlockNumber, LoadError> {
    let place: Option<BlockPlace> = node.call("eth_getBlockByHash", (block, false)).await?;
    let gone = || LoadError::BlockGone { block, reason: "it is unknown".to_owned() };
    let place = place.ok_or_else(gone)?;
    Ok(place.number.to())
}

/// Not every node heeds that a call asks for a canonical block, and the chain may have turned in the meantime.
pub(super) async fn ensure_canonical(
    node: &Node,
    block: BlockHash,
    number: BlockNumber,
) -> Result<(), LoadError> {
    Ok(headwater_node::ensure_canonical(node, block, number).await?)
}
