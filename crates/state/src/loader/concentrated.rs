//! Pools of Uniswap V3 and V4, read from the node.

use alloy_primitives::{Address, B256, BlockHash, BlockNumber, Bytes, U64, U256};
use headwater_abi::calls::v4::PoolSlot;
use headwater_abi::calls::{self, v3, v4};
use headwater_abi::logs;
use headwater_events::{
    AsOf, BusEvent, ConcentratedLoaded, ConcentratedState, LoadedTick, Log, PoolProof, Protocol, V4Action,
    V4Loaded,
};
use headwater_market::{ConcentratedKey, ResolvedMarket, V4Key};
use headwater_node::{Node, NodeError};
use serde::{Deserialize, Serialize};

use super::bulk::{PAGE, ensure_canonical};
use super::lasting::Lasting;
use super::question::{Answer, Question, ask};
use crate::error::LoadError;

/// Questions by which a pool is recognised.
const INTRODUCTION: usize = 6;

/// Of them, the first whose answers never change.
const UNCHANGING: usize = 4;

/// Ticks of a word of the contract's bitmap.
const WORD: i32 = 256;

/// `MAX_TICK` of v3-core's `TickMath.sol`.
const MAX_TICK: i32 = 887_272;

/// Initialised ticks of a pool that is taken; whoever pays for more keeps the pool to himself.
const MOST_TICKS: usize = 65_536;

/// A pool that is being read, page by page, all as of one block: which of its ticks are initialised, then what they hold. What was
/// read stays read when the node fails in between.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    loaded: Loaded,
    /// Words of the bitmap that were not read yet, the next one last.
    words: Vec<i16>,
    /// Initialised ticks of which nothing more is known yet, the next one last once all words are read.
    open: Vec<i32>,
}

/// What was read so far.
#[derive(Clone, Debug)]
enum Loaded {
    V3(ConcentratedLoaded),
    V4(V4Loaded),
}

/// What the node says that a pool of V4 is made of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// This.
    Of(V4Key),
    /// It knows no such pool.
    Unknown,
    /// It does not search its logs that far.
    Unanswered,
}

/// How far a reading has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is more to ask.
    Open,
    /// The pool is known.
    Done,
    /// It does not answer as such a pool does, or holds too much.
    Refused,
}

/// Recognises pools of the configured factories by what they say of themselves and by their addresses, which only the
/// factory's own code can have; `None` for whatever else is there. What never changes of those is kept in `lasting`.
pub(super) async fn recognise(
    node: &Node,
    market: &ResolvedMarket,
    pools: &[Address],
    as_of: AsOf,
    lasting: &mut Lasting,
) -> Result<Vec<Option<Reading>>, LoadError> {
    let mut readings = Vec::with_capacity(pools.len());
    for page in pools.chunks(PAGE / INTRODUCTION) {
        let about = || {
            let itself = [calls::token0(), calls::token1(), v3::fee(), v3::tick_spacing()];
            itself.into_iter().chain([v3::slot0(), v3::liquidity()])
        };
        let questions: Vec<_> =
            page.iter().flat_map(|pool| about().map(|data| Question { to: *pool, data })).collect();
        let answers = lasting.ask(node, as_of.hash, &questions).await?;
        let answers = answers.as_chunks::<INTRODUCTION>().0;
        for ((pool, answers), questions) in page.iter().zip(answers).zip(questions.chunks(INTRODUCTION)) {
            let reading = begin(market, *pool, as_of, answers);
            if reading.is_some() {
                questions
                    .iter()
                    .zip(answers)
                    .take(UNCHANGING)
                    .for_each(|(it, answer)| lasting.keep(it, answer));
            }
            readings.push(reading);
        }
    }
    Ok(readings)
}

fn begin(
    market: &ResolvedMarket,
    pool: Address,
    as_of: AsOf,
    [token0, token1, fee, tick_spacing, slot0, liquidity]: &[Answer; INTRODUCTION],
) -> Option<Reading> {
    let token0 = token0.read(calls::decode_address).ok()?;
    let token1 = token1.read(calls::decode_address).ok()?;
    let fee = fee.read(v3::decode_fee).ok()?;
    let tick_spacing = tick_spacing.read(v3::decode_tick_spacing).ok().filter(|spacing| *spacing > 0)?;
    let (sqrt_price, tick) = slot0.read(v3::decode_slot0).ok()?;
    let liquidity = liquidity.read(v3::decode_liquidity).ok()?;
    let mut factories = market.concentrated_factories.iter();
    let factory = factories.find(|factory| factory.derive(token0, token1, fee) == pool)?;
    if token0 >= token1 {
        return None;
    }
    // Nothing can be minted before the first price.
    let is_initialised = !sqrt_price.is_zero();
    let state = ConcentratedState { sqrt_price, tick, liquidity, ticks: Vec::new() };
    let loaded = ConcentratedLoaded {
        pool,
        factory: factory.address,
        protocol: Protocol::UniswapV3,
        token0,
        token1,
        fee,
        tick_spacing,
        number: as_of.number,
        hash: as_of.hash,
        proof: PoolProof::Create2 { init_code_hash: factory.init_code_hash },
        state: is_initialised.then_some(state),
    };
    let words = if is_initialised { words_of(tick_spacing) } else { Vec::new() };
    Some(Reading { loaded: Loaded::V3(loaded), words, open: Vec::new() })
}

/// Reads where pools of a manager of V4 stand; `None` for those that are not there.
///
/// # Errors
///
/// What the node fails with.
pub(super) async fn recognise_v4(
    node: &Node,
    manager: Address,
    keys: &[V4Key],
    as_of: AsOf,
) -> Result<Vec<Option<Reading>>, LoadError> {
    let mut readings = Vec::with_capacity(keys.len());
    for page in keys.chunks(PAGE / 2) {
        let places = page.iter().map(|key| PoolSlot::of(key.id()));
        let slots: Vec<_> = places.flat_map(|place| [place.slot0(), place.liquidity()]).collect();
        let Some(words) = words_at(node, manager, as_of.hash, &slots).await? else {
            readings.extend(page.iter().map(|_| None));
            continue;
        };
        let words = words.as_chunks::<2>().0;
        readings.extend(page.iter().zip(words).map(|(key, words)| begin_v4(manager, key, as_of, *words)));
    }
    Ok(readings)
}

fn begin_v4(manager: Address, key: &V4Key, as_of: AsOf, [slot0, liquidity]: [U256; 2]) -> Option<Reading> {
    let slot0 = v4::decode_slot0(slot0).ok()?;
    // A pool that nobody made has no price; and the fee of one without hooks never changes.
    if slot0.sqrt_price.is_zero() || slot0.lp_fee != key.fee {
        return None;
    }
    let state = ConcentratedState {
        sqrt_price: slot0.sqrt_price,
        tick: slot0.tick,
        liquidity: liquidity.wrapping_to(),
        ticks: Vec::new(),
    };
    let loaded = V4Loaded {
        manager,
        id: key.id(),
        currency0: key.currency0,
        currency1: key.currency1,
        fee: key.fee,
        tick_spacing: key.tick_spacing,
        number: as_of.number,
        hash: as_of.hash,
        protocol_fee: slot0.protocol_fee,
        state,
    };
    let words = words_of(key.tick_spacing);
    Some(Reading { loaded: Loaded::V4(loaded), words, open: Vec::new() })
}

/// Words of a manager's storage; `None` where the contract does not tell them.
async fn words_at(
    node: &Node,
    manager: Address,
    block: BlockHash,
    slots: &[U256],
) -> Result<Option<Vec<U256>>, LoadError> {
    let question = Question { to: manager, data: v4::extsload(slots) };
    let answers = ask(node, block, &[question]).await?;
    let read = |answer: &Answer| answer.read(|bytes| v4::decode_extsload(bytes, slots.len())).ok();
    Ok(answers.first().and_then(read))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LogFilter {
    address: Address,
    topics: [B256; 2],
    from_block: U64,
    to_block: U64,
}

#[derive(Deserialize)]
struct ToldLog {
    topics: Vec<B256>,
    data: Bytes,
}

/// What a pool of V4 is made of stands nowhere in the manager's storage, but in the log of its creation. Nobody has to be believed: the
/// id is the hash of it.
///
/// # Errors
///
/// What the node fails with.
pub(super) async fn made_of(node: &Node, manager: Address, id: B256, as_of: AsOf) -> Result<Made, LoadError> {
    let filter = LogFilter {
        address: manager,
        topics: [logs::V4_INITIALIZE, id],
        from_block: U64::ZERO,
        to_block: U64::from(as_of.number),
    };
    let told: Vec<ToldLog> = match node.call("eth_getLogs", (filter,)).await {
        Ok(told) => told,
        Err(error @ NodeError::Rpc { .. }) if !error.is_retryable() => return Ok(Made::Unanswered),
        Err(error) => return Err(error.into()),
    };
    let key = told.into_iter().filter_map(|told| key_of(manager, told)).find(|key| key.id() == id);
    Ok(key.map_or(Made::Unknown, Made::Of))
}

fn key_of(manager: Address, told: ToldLog) -> Option<V4Key> {
    let log = Log {
        address: manager,
        topics: told.topics.into_iter().take(4).collect(),
        data: told.data,
        transaction_index: 0,
        log_index: 0,
    };
    match logs::v4_change(&log).ok()?? {
        V4Action::Initialize { currency0, currency1, fee, tick_spacing, hooks, .. } => {
            Some(V4Key { currency0, currency1, fee, tick_spacing, hooks })
        }
        _ => None,
    }
}

/// Every word in which a tick can be, the lowest last.
fn words_of(spacing: i32) -> Vec<i16> {
    let greatest = MAX_TICK / spacing;
    let words = (-greatest).div_euclid(WORD)..=greatest.div_euclid(WORD);
    words.rev().filter_map(|word| i16::try_from(word).ok()).collect()
}

impl Loaded {
    fn place(&self) -> (BlockNumber, BlockHash) {
        match self {
            Self::V3(loaded) => (loaded.number, loaded.hash),
            Self::V4(loaded) => (loaded.number, loaded.hash),
        }
    }

    fn spacing(&self) -> i32 {
        match self {
            Self::V3(loaded) => loaded.tick_spacing,
            Self::V4(loaded) => loaded.tick_spacing,
        }
    }

    fn state(&mut self) -> Option<&mut ConcentratedState> {
        match self {
            Self::V3(loaded) => loaded.state.as_mut(),
            Self::V4(loaded) => Some(&mut loaded.state),
        }
    }
}

impl Reading {
    pub(super) fn key(&self) -> ConcentratedKey {
        match &self.loaded {
            Loaded::V3(loaded) => ConcentratedKey::V3(loaded.pool),
            Loaded::V4(loaded) => ConcentratedKey::V4 { manager: loaded.manager, id: loaded.id },
        }
    }

    /// Whether anything can be swapped where it stands.
    pub(super) fn has_liquidity(&self) -> bool {
        match &self.loaded {
            Loaded::V3(loaded) => loaded.state.as_ref().is_some_and(|state| state.liquidity > 0),
            Loaded::V4(loaded) => loaded.state.liquidity > 0,
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.loaded.place().0
    }

    /// Who holds its tokens: itself, or its manager.
    pub(super) fn holder(&self) -> Address {
        match &self.loaded {
            Loaded::V3(loaded) => loaded.pool,
            Loaded::V4(loaded) => loaded.manager,
        }
    }

    /// The contracts of its tokens: the native currency has none.
    pub(super) fn tokens(&self) -> impl Iterator<Item = Address> + use<> {
        let tokens = match &self.loaded {
            Loaded::V3(loaded) => [loaded.token0, loaded.token1],
            Loaded::V4(loaded) => [loaded.currency0, loaded.currency1],
        };
        tokens.into_iter().filter(|token| !token.is_zero())
    }

    /// Asks for one page more.
    ///
    /// # Errors
    ///
    /// What the node fails with; the same page is asked for again then.
    pub(super) async fn go_on(&mut self, node: &Node) -> Result<Progress, LoadError> {
        if !self.words.is_empty() {
            return self.read_words(node).await;
        }
        if !self.open.is_empty() {
            return self.read_ticks(node).await;
        }
        let (number, hash) = self.loaded.place();
        ensure_canonical(node, hash, number).await?;
        Ok(Progress::Done)
    }

    async fn read_words(&mut self, node: &Node) -> Result<Progress, LoadError> {
        let rest = self.words.len().saturating_sub(PAGE);
        let page: Vec<_> = self.words[rest..].iter().rev().copied().collect();
        let Some(bitmaps) = self.ask_words(node, &page).await? else { return Ok(Progress::Refused) };
        let spacing = self.loaded.spacing();
        for (word, bits) in page.into_iter().zip(bitmaps) {
            let first = i32::from(word) * WORD;
            self.open.extend(ones(bits).map(|bit| (first + bit) * spacing));
        }
        self.words.truncate(rest);
        if self.words.is_empty() {
            self.open.reverse();
        }
        Ok(if self.open.len() > MOST_TICKS { Progress::Refused } else { Progress::Open })
    }

    async fn read_ticks(&mut self, node: &Node) -> Result<Progress, LoadError> {
        let rest = self.open.len().saturating_sub(PAGE);
        let page: Vec<_> = self.open[rest..].iter().rev().copied().collect();
        let Some(held) = self.ask_ticks(node, &page).await? else { return Ok(Progress::Refused) };
        let ticks = page.into_iter().zip(held).map(|(index, (liquidity_net, liquidity_gross))| LoadedTick {
            index,
            liquidity_net,
            liquidity_gross,
        });
        if let Some(state) = self.loaded.state() {
            state.ticks.extend(ticks);
        }
        self.open.truncate(rest);
        Ok(Progress::Open)
    }

    /// Which ticks are initialised; `None` where the contract does not say.
    async fn ask_words(&self, node: &Node, words: &[i16]) -> Result<Option<Vec<U256>>, LoadError> {
        match &self.loaded {
            Loaded::V3(loaded) => {
                let questions = words.iter().map(|word| v3::tick_bitmap(*word));
                let answers = ask_pool(node, loaded, questions).await?;
                Ok(answers.iter().map(|answer| answer.read(v3::decode_tick_bitmap).ok()).collect())
            }
            Loaded::V4(loaded) => {
                let pool = PoolSlot::of(loaded.id);
                let slots: Vec<_> = words.iter().map(|word| pool.tick_bitmap(*word)).collect();
                words_at(node, loaded.manager, loaded.hash, &slots).await
            }
        }
    }

    /// Net and gross liquidity; `None` where the contract does not say.
    async fn ask_ticks(&self, node: &Node, ticks: &[i32]) -> Result<Option<Vec<(i128, u128)>>, LoadError> {
        match &self.loaded {
            Loaded::V3(loaded) => {
                let Some(questions) = ticks.iter().map(|tick| v3::ticks(*tick)).collect::<Option<Vec<_>>>()
                else {
                    return Ok(None);
                };
                let answers = ask_pool(node, loaded, questions).await?;
                Ok(answers.iter().map(|answer| answer.read(v3::decode_ticks).ok()).collect())
            }
            Loaded::V4(loaded) => {
                let pool = PoolSlot::of(loaded.id);
                let slots: Vec<_> = ticks.iter().map(|tick| pool.tick(*tick)).collect();
                let words = words_at(node, loaded.manager, loaded.hash, &slots).await?;
                Ok(words.map(|words| words.into_iter().map(v4::decode_tick).collect()))
            }
        }
    }

    /// What was read; whole once [`Progress::Done`] was said.
    pub(super) fn finish(self) -> BusEvent {
        match self.loaded {
            Loaded::V3(loaded) => BusEvent::ConcentratedLoaded(loaded),
            Loaded::V4(loaded) => BusEvent::V4Loaded(loaded),
        }
    }
}

async fn ask_pool(
    node: &Node,
    loaded: &ConcentratedLoaded,
    questions: impl IntoIterator<Item = Bytes>,
) -> Result<Vec<Answer>, LoadError> {
    let questions: Vec<_> = questions.into_iter().map(|data| Question { to: loaded.pool, data }).collect();
    ask(node, loaded.hash, &questions).await
}

/// The places of the bits that are set, upwards.
fn ones(bits: U256) -> impl Iterator<Item = i32> {
    (0..WORD).filter(move |bit| bits.bit(*bit as usize))
}
