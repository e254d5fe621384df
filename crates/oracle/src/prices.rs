use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256, U512, keccak256};
use headwater_abi::logs;
use headwater_events::{
    AsOf, BlockEvent, BusEvent, Envelope, FeedRequest, Log, MarketResynced, PoolLoaded, Price, PriceEvent,
    ReorgEvent, ResyncRequest, V2Action, V4Quarantined,
};
use headwater_market::{
    BlockPrices, BlockRef, BookImage, Changes, ConcentratedId, ConcentratedImage, ConcentratedKey, Feed,
    FeedReading, Feeds, HORIZON, PairLike, PoolBook, PoolId, PoolUpdate, PriceChange, PriceId, PriceSnapshot,
    PriceSources, PriceTable, PriceWindow, Refused, Reserves, ResolvedMarket, RolledBack, TokenPrice,
};
use serde::{Deserialize, Serialize};

use crate::config::OracleConfig;
use crate::error::{ImageError, OracleError};
use crate::feeds::{FeedBook, FeedCounts};
use crate::ranged::RangedPools;

/// Blocks beyond the horizon whose prices may wait to be forgotten until there is time.
const TO_BE_FORGOTTEN: usize = 8;

/// Prices as a fold over source events: each block gives a snapshot.
///
/// It is a function of the events alone, and of a reorganised chain it says the same as of the chain that survived.
#[derive(Clone, Debug)]
pub struct Oracle {
    /// The wrapped native token: what prices are counted in.
    quote: Address,
    min_base_reserve: U256,
    config: OracleConfig,
    factories: Vec<Address>,
    /// The pairs that hold the quote, and nobody else's.
    book: PoolBook,
    /// The pools with concentrated liquidity that do. Verdicts about their tokens are the book's.
    ranged: RangedPools,
    /// Proven pools without the quote. Their `Sync` comes often and means nothing here.
    others: imbl::HashSet<Address>,
    /// What the token at each place is quoted in.
    quoted: Vec<Quoted>,
    /// The token that each pair holds beside the quote.
    token_of: Vec<Option<PriceId>>,
    /// The same of each pool with concentrated liquidity.
    token_of_ranged: Vec<Option<PriceId>>,
    prices: PriceTable,
    /// The prices after each block that can be rolled back to, oldest first.
    history: VecDeque<PriceTable>,
    /// The prices below the oldest of them.
    base: PriceTable,
    /// How the prices changed in the last blocks.
    window: PriceWindow,
    /// The Chainlink feeds, and what is known of them.
    feeds: Arc<[Feed]>,
    feed_book: FeedBook,
    readings: Arc<[FeedReading]>,
    /// The last block.
    seen: Option<AsOf>,
    /// Its timestamp.
    timestamp: u64,
    counts: OracleCounts,
}

/// A token and its pools against the quote. Most have one, which is why that one lies here.
#[derive(Clone, Debug, Default)]
struct Quoted {
    token: Address,
    first: Option<Side>,
    others: Vec<Side>,
}

/// A pool, seen from the quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Side {
    pool: AnyPool,
    /// The contract that its logs are of.
    address: Address,
    /// Whether the quote is its token 0.
    is_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnyPool {
    Pair(PoolId),
    Ranged(ConcentratedId),
}

impl Quoted {
    fn sides(&self) -> impl Iterator<Item = &Side> {
        self.first.iter().chain(&self.others)
    }

    fn add(&mut self, side: Side) {
        match self.first {
            None => self.first = Some(side),
            Some(_) if self.sides().any(|known| *known == side) => {}
            Some(_) => self.others.push(side),
        }
    }
}

/// The oracle at a moment, to be saved; cheap to take.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "SavedOracle", into = "SavedOracle")]
pub struct OracleImage {
    min_base_reserve: U256,
    book: BookImage,
    others: imbl::HashSet<Address>,
    prices: PriceTable,
    history: VecDeque<PriceTable>,
    base: PriceTable,
    counts: OracleCounts,
    window: PriceWindow,
    feeds: FeedBook,
    ranged: ConcentratedImage,
}

impl OracleImage {
    /// Version of what is saved: it changes when this, anything within it, or the rule that gives the prices does.
    pub const VERSION: u16 = 7;
}

/// An image as it is saved: of earlier prices only what was different.
#[derive(Serialize, Deserialize)]
struct SavedOracle {
    min_base_reserve: U256,
    book: BookImage,
    /// Ascending.
    others: Vec<Address>,
    prices: PriceTable,
    /// For each block of the history, the newest first, and at last for the base: the prices that differ from those
    /// before it in this list.
    earlier: Vec<Vec<(PriceId, Option<TokenPrice>)>>,
    counts: OracleCounts,
    /// Oldest first.
    window: Vec<BlockPrices>,
    feeds: FeedBook,
    ranged: ConcentratedImage,
}

impl From<OracleImage> for SavedOracle {
    fn from(image: OracleImage) -> Self {
        let OracleImage { min_base_reserve, book, others, prices, history, base, counts, .. } = image;
        let OracleImage { window, feeds, ranged, .. } = image;
        let mut others: Vec<_> = others.into_iter().collect();
        others.sort_unstable();
        let tables = || std::iter::once(&prices).chain(history.iter().rev());
        let older = tables().skip(1).chain([&base]);
        let earlier = tables().zip(older).map(|(newer, older)| newer.differing(older)).collect();
        let window = window.blocks().cloned().collect();
        Self { min_base_reserve, book, others, prices, earlier, counts, window, feeds, ranged }
    }
}

impl From<SavedOracle> for OracleImage {
    fn from(saved: SavedOracle) -> Self {
        let SavedOracle { min_base_reserve, book, others, prices, earlier, counts, window, feeds, ranged } =
            saved;
        let mut table = prices.clone();
        let mut history = VecDeque::with_capacity(HORIZON + 1);
        for differing in earlier {
            // A place that no token has is one of a damaged image.
            for (place, price) in differing.into_iter().filter(|(place, _)| prices.token(*place).is_some()) {
                table.set(place, price);
            }
            history.push_front(table.clone());
        }
        let base = history.pop_front().unwrap_or_default();
        let others = others.into_iter().collect();
        let window = PriceWindow::of_blocks(window);
        Self { min_base_reserve, book, others, prices, history, base, counts, window, feeds, ranged }
    }
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OracleCounts {
    /// Blocks applied, undone ones included.
    pub blocks: u64,
    /// Pools against the native token, of every sort.
    pub pools: u64,
    /// Tokens that have a price.
    pub prices: u64,
    /// Prices computed: what the blocks cost.
    pub computed: u64,
    /// Logs with the topic of something that pools say, or their factories, that do not decode.
    pub malformed: u64,
    /// Whether what the pools hold is lost, so that nothing has a price.
    pub lost: bool,
    /// The Chainlink feeds.
    pub feeds: FeedCounts,
}

impl Oracle {
    /// Nothing has a price.
    pub fn new(market: &ResolvedMarket, config: &OracleConfig) -> Self {
        Self {
            quote: market.wrapped_native,
            min_base_reserve: config.min_base_reserve_wei,
            config: config.clone(),
            factories: market.factories.iter().map(|factory| factory.address).collect(),
            book: PoolBook::new(market),
            ranged: RangedPools::new(market),
            others: imbl::HashSet::new(),
            quoted: Vec::new(),
            token_of: Vec::new(),
            token_of_ranged: Vec::new(),
            prices: PriceTable::default(),
            history: VecDeque::with_capacity(HORIZON + TO_BE_FORGOTTEN + 1),
            base: PriceTable::default(),
            window: PriceWindow::default(),
            feeds: market.feeds.clone().into(),
            feed_book: FeedBook::new(&market.feeds),
            readings: vec![FeedReading::Unknown; market.feeds.len()].into(),
            seen: None,
            timestamp: 0,
            counts: OracleCounts::default(),
        }
    }

    /// The oracle as it is now, to be saved.
    pub fn image(&self) -> OracleImage {
        let (base, history) = self.undoable();
        OracleImage {
            min_base_reserve: self.min_base_reserve,
            book: self.book.image(),
            others: self.others.clone(),
            prices: self.prices.clone(),
            history: history.cloned().collect(),
            base: base.clone(),
            counts: self.counts,
            window: self.window.clone(),
            feeds: self.feed_book.clone(),
            ranged: self.ranged.book.image(),
        }
    }

    /// The oracle that an image was taken of right behind a block, about the same market.
    ///
    /// # Errors
    ///
    /// [`ImageError`] where the configuration is another one, or the parts of the image contradict each other.
    pub fn of_image(
        market: &ResolvedMarket,
        config: &OracleConfig,
        image: OracleImage,
    ) -> Result<Self, ImageError> {
        let OracleImage { min_base_reserve, book, others, prices, history, base, counts, .. } = image;
        let OracleImage { window, feeds, ranged, .. } = image;
        if min_base_reserve != config.min_base_reserve_wei {
            return Err(ImageError::OtherReserve);
        }
        let book = PoolBook::of_image(market, book)?;
        if history.len() != book.undoable() {
            return Err(ImageError::History);
        }
        if !feeds.is_about(&market.feeds) {
            return Err(ImageError::OtherFeeds);
        }
        let empty = Self::new(market, config);
        let readings = feeds.readings();
        let ranged = RangedPools::of_image(market, ranged)?;
        let empty = Self { ranged, feed_book: feeds, readings, ..empty };
        let mut oracle = Self { book, others, prices, history, base, counts, window, ..empty };
        let ids: Vec<_> = oracle.book.table().iter().map(|(id, ..)| id).collect();
        for id in ids {
            oracle.token_of(id);
        }
        for id in oracle.ranged.ids() {
            oracle.token_of_ranged(id);
        }
        Ok(oracle)
    }

    /// Whether an event changes a price.
    pub fn concerns(event: &BusEvent) -> bool {
        match event {
            BusEvent::NewBlock(_)
            | BusEvent::Reorg(_)
            | BusEvent::PoolLoaded(_)
            | BusEvent::TokenJudged(_)
            | BusEvent::MarketLoaded(_)
            | BusEvent::MarketResynced(_)
            | BusEvent::PoolQuarantined(_)
            | BusEvent::ConcentratedLoaded(_)
            | BusEvent::V4Loaded(_)
            | BusEvent::V4Quarantined(_)
            | BusEvent::FeedResolved(_) => true,
            BusEvent::NewPendingTx(_)
            | BusEvent::SourceGap(_)
            | BusEvent::Reconnected(_)
            | BusEvent::LendingLoaded(_)
            | BusEvent::PendingEffect(_)
            | BusEvent::PriceUpdate(_)
            | BusEvent::LiquidityChange(_)
            | BusEvent::OpportunityFound(_)
            | BusEvent::OutcomeRecorded(_)
            | BusEvent::HealthCheck(_)
            | BusEvent::Shutdown => false,
        }
    }

    /// Applies the next source event; a block gives a snapshot, unless the reserves are lost.
    ///
    /// # Errors
    ///
    /// [`OracleError`] when it does not follow from those before.
    pub fn apply(&mut self, envelope: &Envelope) -> Result<Option<PricedBlock>, OracleError> {
        match &envelope.event {
            BusEvent::NewBlock(block) => return self.block(envelope.seq, block),
            BusEvent::Reorg(reorg) => self.reorg(envelope.seq, reorg),
            BusEvent::MarketResynced(resynced) => self.resync(resynced),
            BusEvent::PoolQuarantined(pool) => self.quarantine(&pool.pool),
            BusEvent::V4Quarantined(pool) => self.ranged.book.quarantine_key(&key_of(pool)),
            BusEvent::PoolLoaded(loaded) => self.pool_loaded(loaded),
            BusEvent::ConcentratedLoaded(loaded) => self.ranged.v3_loaded(loaded),
            BusEvent::V4Loaded(loaded) => self.ranged.v4_loaded(loaded),
            BusEvent::TokenJudged(judged) => self.judge(judged.token, |book| book.token_judged(judged)),
            BusEvent::MarketLoaded(loaded) => {
                self.book.market_loaded(loaded);
                self.ranged.book.market_loaded(loaded);
                self.feed_book.begin(loaded.number, loaded.hash);
            }
            BusEvent::FeedResolved(resolved) => {
                self.feed_book.resolved(resolved);
                self.readings = self.feed_book.readings();
            }
            other => debug_assert!(!Self::concerns(other), "{} is forgotten here", other.name()),
        }
        Ok(None)
    }

    /// What of a block can wait until its prices are published.
    pub fn settle(&mut self) {
        self.book.settle();
        self.ranged.book.settle();
        self.prices.settle();
        self.forget_all_but(HORIZON);
    }

    /// Leaves an event out that must not be applied. If it is one of the chain, what the pools hold is lost from there on:
    /// it goes on with what the blocks behind it say, and gives no snapshot until the rest is told. A token whose verdict is left out is refused.
    pub fn leave_out(&mut self, envelope: &Envelope) {
        match &envelope.event {
            BusEvent::NewBlock(BlockEvent { header, .. }) => {
                self.lose(Some(AsOf { seq: envelope.seq, number: header.number, hash: header.hash }));
            }
            BusEvent::Reorg(reorg) => self.lose(Some(ancestor_of(envelope.seq, reorg))),
            BusEvent::TokenJudged(judged) => self.judge(judged.token, |book| book.refuse_token(judged.token)),
            BusEvent::PoolQuarantined(pool) => self.quarantine(&pool.pool),
            BusEvent::V4Quarantined(pool) => self.ranged.book.quarantine_key(&key_of(pool)),
            _ => {}
        }
    }

    fn quarantine(&mut self, pool: &Address) {
        self.book.quarantine(pool);
        self.ranged.book.quarantine(pool);
    }

    /// Has the book take a verdict, which holds for pools of every sort.
    fn judge(&mut self, token: Address, take: impl FnOnce(&mut PoolBook)) {
        let before = self.book.refused().contains(&token);
        take(&mut self.book);
        if self.book.refused().contains(&token) != before {
            self.ranged.book.note_token(&token);
        }
    }

    /// What the pools hold is lost; the next block stands on `head`, or on whatever it says.
    pub fn lose(&mut self, head: Option<AsOf>) {
        self.book.lose(head.map(|head| head.hash));
        self.ranged.book.lose(head.map(|head| head.hash));
        self.seen = head;
        self.forget_history(self.history.len());
        self.lose_sources(head);
    }

    /// Whether what the pools hold is lost, so that there are no snapshots.
    pub fn is_lost(&self) -> bool {
        self.book.is_lost()
    }

    /// What to ask the node while what the pools hold is lost.
    pub fn resync_request(&self) -> Option<ResyncRequest> {
        let as_of = self.seen.filter(|_| self.book.is_lost())?;
        Some(ResyncRequest { as_of, pools: self.book.proven_pools() })
    }

    /// The feeds that the node is to be asked about as of the last block.
    pub fn feed_request(&self) -> Option<FeedRequest> {
        let proxies = self.feed_book.due(self.timestamp, self.config.feed_recheck_blocks.get());
        let as_of = self.seen.filter(|_| !proxies.is_empty())?;
        Some(FeedRequest { as_of, proxies })
    }

    /// The oracle in figures.
    pub fn counts(&self) -> OracleCounts {
        let pools = (self.book.table().len() + self.ranged.book.table().len()) as u64;
        let lost = self.book.is_lost();
        let feeds = self.feed_book.counts();
        OracleCounts { pools, lost, prices: self.prices.len() as u64, feeds, ..self.counts }
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
        self.ranged.book.account(text);
        let current = dated(&self.prices);
        current.iter().for_each(|(token, price)| tell_price(text, "price", token, Some(price)));
        let (base, history) = self.undoable();
        let mut before = dated(base);
        for prices in history {
            let after = dated(prices);
            text.push_str("unprice\n");
            let tokens: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            for token in tokens.into_iter().filter(|token| before.get(*token) != after.get(*token)) {
                tell_price(text, "was", token, before.get(token));
            }
            before = after;
        }
        self.feed_book.account(text);
    }

    fn block(&mut self, seq: u64, block: &BlockEvent) -> Result<Option<PricedBlock>, OracleError> {
        let header = &block.header;
        let (number, hash, parent_hash) = (header.number, header.hash, header.parent_hash);
        let updates: Vec<_> = block.logs.iter().filter_map(|log| self.pool_update(log)).collect();
        let place = BlockRef { number, hash, parent_hash };
        self.book.apply_block(place, updates)?;
        self.counts.malformed += self.ranged.apply_block(place, &block.logs);
        let as_of = AsOf { seq, number, hash };
        self.seen = Some(as_of);
        self.timestamp = header.timestamp;
        self.counts.blocks += 1;
        self.read_feeds(block);
        if self.book.is_lost() {
            self.remember();
            return Ok(None);
        }
        let (changed, changes) = self.reprice(as_of);
        self.remember();
        let timestamp = header.timestamp;
        let prices = BlockPrices { number, hash, timestamp, changes };
        self.window.push(prices, self.config.average_window_s.get());
        let (prices, sources) = (self.prices.clone(), self.sources());
        let snapshot = PriceSnapshot { as_of, quote: self.quote, prices, sources };
        Ok(Some(PricedBlock { snapshot: Arc::new(snapshot), changed }))
    }

    fn read_feeds(&mut self, block: &BlockEvent) {
        self.feed_book.apply(block);
        let is_same = self.feed_book.has_read(&self.readings);
        if !is_same {
            self.readings = self.feed_book.readings();
        }
    }

    fn sources(&self) -> PriceSources {
        let (feeds, readings) = (Arc::clone(&self.feeds), Arc::clone(&self.readings));
        PriceSources {
            timestamp: self.timestamp,
            feeds: Feeds { feeds, readings, grace_s: self.config.feed_grace_s },
            window: self.window.clone(),
            limits: self.config.limits(),
        }
    }

    /// Nothing is known any longer of feeds and of how prices changed.
    fn lose_sources(&mut self, head: Option<AsOf>) {
        self.window.clear();
        self.feed_book.lose(head.map(|head| (head.number, head.hash)));
        self.readings = self.feed_book.readings();
    }

    fn reorg(&mut self, seq: u64, reorg: &ReorgEvent) {
        match self.book.roll_back(reorg.ancestor_hash) {
            RolledBack::Undone(undone) => {
                self.ranged.roll_back(reorg.ancestor_hash);
                self.history.truncate(self.history.len() - undone);
                self.prices.roll_back_to(self.history.back().unwrap_or(&self.base));
                self.window.roll_back(reorg.ancestor_number);
                if !self.feed_book.roll_back(reorg.ancestor_hash) {
                    self.feed_book.lose(Some((reorg.ancestor_number, reorg.ancestor_hash)));
                }
                self.readings = self.feed_book.readings();
            }
            RolledBack::Lost => {
                self.ranged.book.lose(Some(reorg.ancestor_hash));
                let ancestor = ancestor_of(seq, reorg);
                self.seen = Some(ancestor);
                self.forget_history(self.history.len());
                self.lose_sources(Some(ancestor));
            }
        }
    }

    fn resync(&mut self, resynced: &MarketResynced) {
        // As many steps as the book has.
        self.forget_all_but(HORIZON);
        if let Some(forgotten) = self.book.resync(resynced) {
            self.forget_history(forgotten);
        }
    }

    /// The oldest `steps` can no longer be undone. Whatever is undone later, the next block prices everything anew.
    fn forget_history(&mut self, steps: usize) {
        if let Some(oldest) = self.history.drain(..steps).next_back() {
            self.base = oldest;
        }
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

    /// Brings the prices up to date with the book; says which are new, and all that changed.
    fn reprice(&mut self, as_of: AsOf) -> (Vec<PriceEvent>, Vec<PriceChange>) {
        let mut places: Vec<PriceId> = match self.book.take_changes() {
            Changes::All => {
                let ids: Vec<_> = self.book.table().iter().map(|(id, ..)| id).collect();
                ids.into_iter().filter_map(|id| self.token_of(id)).collect()
            }
            Changes::Pools(ids) => ids.iter().filter_map(|id| self.token_of(*id)).collect(),
        };
        let ranged = self.ranged.take_changes();
        places.extend(ranged.into_iter().filter_map(|id| self.token_of_ranged(id)));
        places.sort_unstable();
        places.dedup();
        self.prices.fetch(places.iter().copied());
        let (mut changed, mut changes) = (Vec::new(), Vec::new());
        for place in places {
            let before = self.mantissa_at(place);
            changed.extend(self.reprice_token(place, as_of));
            let after = self.mantissa_at(place);
            if before != after {
                changes.push(PriceChange { place, before, after });
            }
        }
        changed.sort_unstable_by_key(|change| change.token);
        (changed, changes)
    }

    fn mantissa_at(&self, place: PriceId) -> Option<U256> {
        self.prices.at(place).map(|known| known.price.mantissa)
    }

    /// The token that a pair holds beside the quote; takes note of whose pool it is.
    fn token_of(&mut self, id: PoolId) -> Option<PriceId> {
        if let Some(Some(known)) = self.token_of.get(id.index()) {
            return Some(*known);
        }
        let meta = self.book.table().meta(id)?;
        let is_first = meta.token0 == self.quote;
        let token = if is_first { meta.token1 } else { meta.token0 };
        let side = Side { pool: AnyPool::Pair(id), address: meta.address, is_first };
        let place = self.add_side(token, side);
        self.token_of.resize(self.token_of.len().max(id.index() + 1), None);
        self.token_of[id.index()] = Some(place);
        Some(place)
    }

    /// The same of a pool with concentrated liquidity.
    fn token_of_ranged(&mut self, id: ConcentratedId) -> Option<PriceId> {
        if let Some(Some(known)) = self.token_of_ranged.get(id.index()) {
            return Some(*known);
        }
        let (meta, token, is_first) = self.ranged.side(id)?;
        let side = Side { pool: AnyPool::Ranged(id), address: meta.address, is_first };
        let place = self.add_side(token, side);
        self.token_of_ranged.resize(self.token_of_ranged.len().max(id.index() + 1), None);
        self.token_of_ranged[id.index()] = Some(place);
        Some(place)
    }

    fn add_side(&mut self, token: Address, side: Side) -> PriceId {
        let place = self.prices.place(token);
        self.quoted.resize(self.quoted.len().max(place.index() + 1), Quoted::default());
        self.quoted[place.index()].token = token;
        self.quoted[place.index()].add(side);
        place
    }

    fn reprice_token(&mut self, place: PriceId, as_of: AsOf) -> Option<PriceEvent> {
        self.counts.computed += 1;
        let quoted = self.quoted.get(place.index())?;
        let (token, before) = (quoted.token, self.prices.at(place));
        let Some((price, source)) = self.price_in_pools(quoted) else {
            if before.is_some() {
                self.prices.set(place, None);
            }
            return None;
        };
        let same = before.filter(|before| before.price == price);
        let (changed_at, changed_at_s) =
            same.map_or((as_of.number, self.timestamp), |before| (before.changed_at, before.changed_at_s));
        let is_news = same.is_none();
        let current = TokenPrice { price, source, changed_at, changed_at_s };
        if before != Some(&current) {
            self.prices.set(place, Some(current));
        }
        is_news.then_some(PriceEvent { as_of, token, price, source })
    }

    /// What a token's deep pools say together, and the deepest of them.
    fn price_in_pools(&self, quoted: &Quoted) -> Option<(Price, Address)> {
        let refused = self.book.refused();
        let told = quoted.sides().filter_map(|side| self.told_by(side, &refused));
        let mut pools = told.filter(|told| U256::from(told.base) >= self.min_base_reserve);
        let first = pools.next()?;
        // Most tokens have one pool.
        let (mantissa, pool) = match pools.next() {
            None => (first.mantissa, first.pool),
            Some(second) => combined([first, second].into_iter().chain(pools).collect())?,
        };
        // A token whose smallest unit is worth less than can be written is worth nothing.
        (!mantissa.is_zero()).then_some((Price { quote: self.quote, mantissa }, pool))
    }

    /// What a pool says that may be quoted.
    fn told_by(&self, side: &Side, refused: &Refused) -> Option<PoolPrice> {
        match side.pool {
            AnyPool::Pair(id) => {
                let Reserves { reserve0, reserve1 } = self.book.table().quoted(id)?;
                let (base, other) = if side.is_first { (reserve0, reserve1) } else { (reserve1, reserve0) };
                Some(PoolPrice::new(base, other, side.address))
            }
            AnyPool::Ranged(id) => {
                let PairLike { mantissa, reserve: base } = *self.ranged.told(id)?;
                let (meta, ..) = self.ranged.side(id)?;
                let is_refused = refused.contains(&meta.token0) || refused.contains(&meta.token1);
                (!is_refused).then_some(PoolPrice { mantissa, base, pool: side.address })
            }
        }
    }

    /// The prices after each block that can be undone, and those below the oldest of them: as many steps as the book has.
    fn undoable(&self) -> (&PriceTable, impl Iterator<Item = &PriceTable>) {
        let forgotten = self.history.len().saturating_sub(HORIZON);
        let base = forgotten.checked_sub(1).map_or(&self.base, |oldest| &self.history[oldest]);
        (base, self.history.iter().skip(forgotten))
    }

    /// Keeps as many steps as the book does.
    fn remember(&mut self) {
        self.history.push_back(self.prices.clone());
        self.forget_all_but(HORIZON + TO_BE_FORGOTTEN);
    }

    fn forget_all_but(&mut self, kept: usize) {
        self.forget_history(self.history.len().saturating_sub(kept));
    }
}

fn key_of(pool: &V4Quarantined) -> ConcentratedKey {
    ConcentratedKey::V4 { manager: pool.manager, id: pool.id }
}

/// The block that a reorganisation leaves on top.
fn ancestor_of(seq: u64, reorg: &ReorgEvent) -> AsOf {
    AsOf { seq, number: reorg.ancestor_number, hash: reorg.ancestor_hash }
}

fn dated(prices: &PriceTable) -> BTreeMap<Address, TokenPrice> {
    prices.iter().map(|(token, price)| (*token, *price)).collect()
}

fn tell_price(text: &mut String, word: &str, token: &Address, price: Option<&TokenPrice>) {
    let told = match price {
        None => writeln!(text, "{word} {token:#x} -"),
        Some(TokenPrice { price, source, changed_at, changed_at_s: _ }) => {
            let Price { quote, mantissa } = price;
            writeln!(text, "{word} {token:#x} {quote:#x} {mantissa} {source:#x} {changed_at}")
        }
    };
    told.expect("a string takes everything");
}

/// A token's price in a pool.
#[derive(Clone, Copy, Debug)]
struct PoolPrice {
    /// Below 2^249.
    mantissa: U256,
    /// What the pool holds of the quote, or what a pair that is as deep holds: its weight.
    base: u128,
    pool: Address,
}

impl PoolPrice {
    /// In a pool that holds `base` of the quote and `other`, which is not zero, of the token.
    fn new(base: u128, other: u128, pool: Address) -> Self {
        Self { mantissa: U256::from(base) * Price::ONE / U256::from(other), base, pool }
    }
}

/// The mean of prices, weighted by liquidity, and the deepest pool; the lowest address of several.
///
/// None counts with more than twice, or less than half, of their median by liquidity. So if the honest prices lie between `lo`
/// and `hi ≤ 2·lo`, and other pools have a share `s < 1/2` of the liquidity, then the mean lies between `lo·(1 − s/2)` and
/// `hi·(1 + s)`, whatever those others say. Where no price is more than twice another one, it is the mean of them as they are.
fn combined(mut pools: Vec<PoolPrice>) -> Option<(U256, Address)> {
    pools.sort_unstable_by_key(|pool| pool.mantissa);
    let deepest = pools.iter().max_by_key(|pool| (pool.base, Reverse(pool.pool)))?.pool;
    // 2^128 pools fit, and into the sum of products as many.
    let liquidity: U256 = pools.iter().map(|pool| U256::from(pool.base)).sum();
    let median = median(&pools, liquidity)?;
    let (least, most) = (median / U256::from(2), median * U256::from(2));
    let counted = |pool: &PoolPrice| U512::from(pool.mantissa.clamp(least, most)) * U512::from(pool.base);
    let weighted: U512 = pools.iter().map(counted).sum();
    Some((weighted.checked_div(U512::from(liquidity))?.to(), deepest))
}

/// The lowest price at which, with those below it, at least half of the liquidity is.
fn median(ascending: &[PoolPrice], liquidity: U256) -> Option<U256> {
    let mut passed = U256::ZERO;
    let reached = ascending.iter().find(|pool| {
        passed += U256::from(pool.base);
        passed * U256::from(2) >= liquidity
    });
    reached.map(|pool| pool.mantissa)
}

#[cfg(test)]
mod tests;
