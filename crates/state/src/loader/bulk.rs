mod candidates;
mod listing;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};

use alloy_primitives::{Address, BlockHash, BlockNumber, U64};
use futures_util::{StreamExt, stream};
use headwater_abi::calls;
use headwater_events::{AsOf, BusEvent, MarketLoaded, PoolLoaded, PoolProof, TokenVerdict};
use headwater_market::{ConcentratedKey, ResolvedMarket};
use headwater_node::Node;
use serde::{Deserialize, Serialize};

use self::candidates::Candidates;
use self::listing::Listing;
use super::concentrated::{Progress, Reading};
use super::history::FoundPool;
use super::lasting::Lasting;
use super::proof_of;
use super::question::{Answer, Question};
use super::token::{Held, judge};
use crate::error::LoadError;

/// Contracts that are asked together.
pub(super) const PAGE: usize = 500;

/// Pools with concentrated liquidity that are read at the same time.
const AT_A_TIME: usize = 8;

/// Batches that the questions about one of them are sent in at the same time.
const BATCHES_OF_ONE: usize = 4;

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
    /// Blocks that were gone before the load was through, so that it began at another one.
    pub begun_anew: u64,
    /// Failures of the node that were borne.
    pub failures: u64,
    /// Tokens accepted without a look at what is held of them later, because the node runs no call at another time than its block's.
    pub untimed: u64,
}

/// Loads the pools and tokens that the configuration asks for, all as of the canonical block `block`, in one attempt. `progress` is
/// told how much was asked, and of how much; the second number changes as pools and tokens are found. It is never zero.
///
/// # Errors
///
/// As [`BulkLoader::go_on`].
pub async fn bulk_load(
    node: &Node,
    market: &ResolvedMarket,
    block: BlockHash,
    progress: impl Fn(u64, u64) + Send + Sync,
) -> Result<BulkLoad, LoadError> {
    BulkLoader::new(market, &[]).go_on(node, block, progress).await
}

/// The initial load of a market, which goes on where a failure of the node has broken it off. [`load_market`](crate::load_market)
/// does so with patience.
#[derive(Debug)]
pub struct BulkLoader<'a> {
    market: &'a ResolvedMarket,
    found: &'a [FoundPool],
    /// What is known as of one block.
    load: Option<Load<'a>>,
    begun_anew: u64,
}

impl<'a> BulkLoader<'a> {
    /// Nothing is known yet. Of the pools that a [`PoolSearch`](crate::PoolSearch) has `found` those are loaded that have liquidity at
    /// the price where they stand, the oldest first: the others are found when they trade.
    pub fn new(market: &'a ResolvedMarket, found: &'a [FoundPool]) -> Self {
        Self { market, found, load: None, begun_anew: 0 }
    }

    /// Loads as of the canonical block `block`. If it failed before, as of the same block, it asks only for what is missing; as of
    /// another one it begins anew, and does not ask again for what no block changes.
    ///
    /// # Errors
    ///
    /// [`LoadError::BlockGone`] when the node no longer answers for the block: go on at a newer one.
    /// [`LoadError::NoFactory`] when a configured factory is none. Else what the node failed with.
    pub async fn go_on(
        &mut self,
        node: &Node,
        block: BlockHash,
        progress: impl Fn(u64, u64) + Send + Sync,
    ) -> Result<BulkLoad, LoadError> {
        let goes_on = self.load.as_ref().is_some_and(|load| load.block == block);
        let mut load = match self.load.take_if(|_| goes_on) {
            Some(load) => load,
            None => self.begin(node, block).await?,
        };
        let loaded = load.go_on(node, &progress).await;
        match loaded {
            Ok(()) => Ok(load.finish(self.begun_anew)),
            Err(error) => {
                self.load = Some(load);
                Err(error)
            }
        }
    }

    async fn begin(&mut self, node: &Node, block: BlockHash) -> Result<Load<'a>, LoadError> {
        let number = number_of(node, block).await?;
        self.begun_anew += u64::from(self.load.is_some());
        let lasting = self.load.take().map(|load| load.lasting).unwrap_or_default();
        Ok(Load {
            market: self.market,
            block,
            number,
            lasting,
            listings: None,
            candidates: Candidates::all(self.market, self.found),
            reading: Vec::new(),
            tokens: None,
            pools: Vec::new(),
            concentrated: Vec::new(),
            judged: Vec::new(),
            seen: HashSet::new(),
            taken: HashSet::new(),
            done: 0,
            pages: 0,
            report: LoadReport::default(),
        })
    }

    /// Grows with whatever is learnt as of one block.
    pub(super) fn learnt(&self) -> u64 {
        self.load.as_ref().map_or(0, Load::learnt)
    }

    /// What is being loaded, in words.
    pub(super) fn doing(&self) -> String {
        match &self.load {
            None => "loading the market".to_owned(),
            Some(load) => format!("loading the market as of block {}, {}", load.number, load.doing()),
        }
    }
}

/// A load as of one block. Whatever an answer tells is taken in before the next question, so that a failure loses no more than what is
/// on its way.
#[derive(Debug)]
struct Load<'a> {
    market: &'a ResolvedMarket,
    block: BlockHash,
    number: BlockNumber,
    lasting: Lasting,
    /// The factories that have more to tell, the next first; nothing before they have said how much.
    listings: Option<VecDeque<Listing<'a>>>,
    /// Pools with concentrated liquidity that may be there, the next first.
    candidates: VecDeque<Candidates>,
    /// Those that are there and being read, in order.
    reading: Vec<Slot>,
    /// Once all pools are known.
    tokens: Option<VecDeque<Held>>,
    pools: Vec<PoolLoaded>,
    /// Whole.
    concentrated: Vec<Reading>,
    judged: Vec<BusEvent>,
    /// Every contract that was listed, so that none is taken twice.
    seen: HashSet<Address>,
    /// The keys of `concentrated`.
    taken: HashSet<ConcentratedKey>,
    /// Places of listings, candidates, pools with concentrated liquidity and tokens that were asked about.
    done: u64,
    /// Of the pools with concentrated liquidity that were read.
    pages: u64,
    report: LoadReport,
}

/// Is told how much was asked, and of how much.
type Tell<'a> = dyn Fn(u64, u64) + Send + Sync + 'a;

/// A pool with concentrated liquidity that is read beside others.
#[derive(Debug)]
struct Slot {
    reading: Reading,
    progress: Progress,
    pages: u64,
}

impl Slot {
    fn new(reading: Reading) -> Self {
        Self { reading, progress: Progress::Open, pages: 0 }
    }

    fn is_open(&self) -> bool {
        self.progress == Progress::Open
    }

    async fn read(&mut self, node: &Node) -> Result<(), LoadError> {
        while self.is_open() {
            self.progress = self.reading.go_on(node).await?;
            self.pages += 1;
        }
        Ok(())
    }
}

/// As many pools as the node's requests on their way allow.
fn at_a_time(node: &Node) -> usize {
    (node.limits().max_in_flight / BATCHES_OF_ONE).clamp(1, AT_A_TIME)
}

impl Load<'_> {
    async fn go_on(&mut self, node: &Node, progress: &Tell<'_>) -> Result<(), LoadError> {
        progress(self.done, self.total());
        self.all_pools(node, progress).await?;
        self.all_concentrated(node, progress).await?;
        self.all_tokens(node, progress).await?;
        ensure_canonical(node, self.block, self.number).await?;
        self.done += 1;
        progress(self.done, self.done);
        Ok(())
    }

    /// What was asked and what is known to be left, the last question with it, which is whether the block is still there.
    fn total(&self) -> u64 {
        let left = self.listings.iter().flatten().map(Listing::left).fold(0, u64::saturating_add);
        let room = self.room() as u64;
        let candidates: usize = self.candidates.iter().map(Candidates::len).sum();
        let reading = self.reading.iter().filter(|slot| slot.is_open()).count();
        let tokens = self.tokens.as_ref().map_or(0, VecDeque::len);
        self.done + left.min(room) + (candidates + reading + tokens) as u64 + 1
    }

    fn learnt(&self) -> u64 {
        self.done + self.pages + self.reading.iter().map(|slot| slot.pages).sum::<u64>()
    }

    fn doing(&self) -> String {
        let listing = self.listings.as_ref().map(VecDeque::front);
        match listing {
            None => "asking the factories how many pools they have".to_owned(),
            Some(Some(listing)) => format!("asking {} for its pools", listing.factory.name),
            Some(None) if !self.candidates.is_empty() || !self.reading.is_empty() => {
                "reading pools of Uniswap V3 and V4".to_owned()
            }
            Some(None) => "trying out the tokens".to_owned(),
        }
    }

    /// Pools that may still be taken.
    fn room(&self) -> usize {
        self.market.load.max_pools - self.pools.len() - self.concentrated.len()
    }

    /// The factories take turns, so that the limit is shared among them.
    async fn all_pools(&mut self, node: &Node, progress: &Tell<'_>) -> Result<(), LoadError> {
        if self.listings.is_none() {
            let factories = &self.market.factories;
            let listings = Listing::all(node, self.block, factories, &self.market.load).await?;
            self.listings = Some(listings.into());
            progress(self.done, self.total());
        }
        while self.room() > 0 && self.page(node).await? {
            progress(self.done, self.total());
        }
        self.listings = Some(VecDeque::new());
        Ok(())
    }

    /// One page of the next factory; `false` where there is none.
    async fn page(&mut self, node: &Node) -> Result<bool, LoadError> {
        let (block, most) = (self.block, PAGE.min(self.room()));
        let Some(listing) = self.listings.as_mut().and_then(VecDeque::front_mut) else { return Ok(false) };
        let (asked, refused) =
            listing.turn_page(node, block, most, &mut self.seen, &mut self.lasting).await?;
        self.done += asked;
        self.report.refused += refused;
        (0..refused).for_each(|_| listing.refuse());
        let listed = listing.listed.as_deref().unwrap_or_default();
        let told = ask_pools(node, block, listed, &self.lasting).await?;
        self.take_page(&told);
        Ok(true)
    }

    /// Judges the pools of a page, whose factory goes to the end of the line if it has more.
    fn take_page(&mut self, told: &[[Answer; 3]]) {
        let Some(mut listing) = self.listings.as_mut().and_then(VecDeque::pop_front) else { return };
        let listed = listing.listed.take().unwrap_or_default();
        for (pool, answers) in listed.into_iter().zip(told) {
            self.judge_pool(&mut listing, pool, answers);
        }
        if let Some(listings) = self.listings.as_mut().filter(|_| listing.left() > 0) {
            listings.push_back(listing);
        }
    }

    fn judge_pool(&mut self, listing: &mut Listing<'_>, pool: Address, answers: &[Answer; 3]) {
        let factory = listing.factory;
        let [zero, one, held] = answers;
        let tokens = zero.read(calls::decode_address).and_then(|token0| {
            let token1 = one.read(calls::decode_address)?;
            Ok((token0, token1, held.read(calls::decode_get_reserves)?))
        });
        let proven = tokens.ok().and_then(|(token0, token1, reserves)| {
            Some((token0, token1, reserves, proof_of(factory, pool, token0, token1)?))
        });
        let Some((token0, token1, reserves, proof)) = proven else {
            self.report.refused += 1;
            return listing.refuse();
        };
        listing.refused_in_a_row = 0;
        if let PoolProof::Create2 { .. } = proof {
            let [token0, token1, _] = about_pool(pool);
            self.lasting.keep(&token0, zero);
            self.lasting.keep(&token1, one);
        }
        let filter = &self.market.load;
        let wanted = filter.wants_tokens(&token0, &token1)
            && filter.wants_reserves((&token0, reserves.0), (&token1, reserves.1));
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

    async fn all_concentrated(&mut self, node: &Node, progress: &Tell<'_>) -> Result<(), LoadError> {
        let as_of = AsOf { seq: 0, number: self.number, hash: self.block };
        loop {
            self.read_through(node, progress).await?;
            let room = self.room();
            let Some(candidates) = self.candidates.front().filter(|_| room > 0) else { break };
            let (taken, lasting) = (&self.taken, &mut self.lasting);
            let readings = candidates.recognise(node, self.market, as_of, taken, lasting).await?;
            self.done += candidates.len() as u64;
            self.candidates.pop_front();
            self.reading = readings.into_iter().take(room).map(Slot::new).collect();
            progress(self.done, self.total());
        }
        self.candidates.clear();
        Ok(())
    }

    /// Several are read at a time, and taken in their order.
    async fn read_through(&mut self, node: &Node, progress: &Tell<'_>) -> Result<(), LoadError> {
        let mut left = self.total() - self.done;
        let open: Vec<_> =
            self.reading.iter_mut().filter(|slot| slot.is_open()).map(|slot| slot.read(node)).collect();
        let mut readings = stream::iter(open).buffer_unordered(at_a_time(node));
        while let Some(read) = readings.next().await {
            read?;
            self.done += 1;
            left -= 1;
            progress(self.done, self.done + left);
        }
        drop(readings);
        for Slot { reading, progress, pages } in self.reading.drain(..) {
            self.pages += pages;
            if progress == Progress::Refused {
                self.report.refused += 1;
                continue;
            }
            self.report.concentrated_pools += 1;
            self.taken.insert(reading.key());
            self.concentrated.push(reading);
        }
        Ok(())
    }

    /// Judges every token of the pools, in the order in which they occur.
    async fn all_tokens(&mut self, node: &Node, progress: &Tell<'_>) -> Result<(), LoadError> {
        if self.tokens.is_none() {
            self.tokens = Some(self.held_tokens().into());
            progress(self.done, self.total());
        }
        while let Some(tokens) = self.tokens.as_mut().filter(|tokens| !tokens.is_empty()) {
            let page: Vec<_> = tokens.iter().take(PAGE).copied().collect();
            let verdicts = judge(node, self.block, &page, self.market.load.max_transfer_gas).await?;
            tokens.drain(..page.len());
            self.report.untimed += verdicts.untimed;
            for judged in verdicts.judged {
                self.report.tokens += 1;
                self.report.tokens_refused += u64::from(matches!(judged.verdict, TokenVerdict::Refused(_)));
                self.judged.push(BusEvent::TokenJudged(judged));
            }
            self.done += page.len() as u64;
            progress(self.done, self.total());
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
    fn leave_unjudged(&mut self) {
        let judged = self.judged.iter();
        let judged: HashSet<_> = judged
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

    fn finish(mut self, begun_anew: u64) -> BulkLoad {
        self.leave_unjudged();
        let (number, hash) = (self.number, self.block);
        let report = LoadReport { begun_anew, ..self.report };
        let loaded = MarketLoaded { number, hash, chain_id: self.market.chain_id, pools: report.pools };
        let pools = self.pools.into_iter().map(BusEvent::PoolLoaded);
        let concentrated = self.concentrated.into_iter().map(Reading::finish);
        let events = pools.chain(self.judged).chain(concentrated);
        BulkLoad { events: events.chain([BusEvent::MarketLoaded(loaded)]).collect(), report }
    }
}

fn about_pool(pool: Address) -> [Question; 3] {
    [calls::token0(), calls::token1(), calls::get_reserves()].map(|data| Question { to: pool, data })
}

async fn ask_pools(
    node: &Node,
    block: BlockHash,
    pools: &[Address],
    lasting: &Lasting,
) -> Result<Vec<[Answer; 3]>, LoadError> {
    let questions: Vec<_> = pools.iter().flat_map(|pool| about_pool(*pool)).collect();
    let answers = lasting.ask(node, block, &questions).await?;
    Ok(answers.as_chunks().0.to_vec())
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
