//! Pools of Uniswap V3, read from the node.

use alloy_primitives::{Address, U256};
use headwater_abi::calls::{self, v3};
use headwater_events::{AsOf, ConcentratedLoaded, ConcentratedState, LoadedTick, PoolProof, Protocol};
use headwater_market::ResolvedMarket;
use headwater_node::Node;

use super::bulk::{PAGE, ensure_canonical};
use super::question::{Answer, Question, ask};
use crate::error::LoadError;

/// Questions by which a pool is recognised.
const INTRODUCTION: usize = 6;

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
    loaded: ConcentratedLoaded,
    /// Words of the bitmap that were not read yet, the next one last.
    words: Vec<i16>,
    /// Initialised ticks of which nothing more is known yet, the next one last once all words are read.
    open: Vec<i32>,
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
/// factory's own code can have; `None` for whatever else is there.
pub(super) async fn recognise(
    node: &Node,
    market: &ResolvedMarket,
    pools: &[Address],
    as_of: AsOf,
) -> Result<Vec<Option<Reading>>, LoadError> {
    let mut readings = Vec::with_capacity(pools.len());
    for page in pools.chunks(PAGE / INTRODUCTION) {
        let about = || {
            let itself = [calls::token0(), calls::token1(), v3::fee(), v3::tick_spacing()];
            itself.into_iter().chain([v3::slot0(), v3::liquidity()])
        };
        let questions: Vec<_> =
            page.iter().flat_map(|pool| about().map(|data| Question { to: *pool, data })).collect();
        let answers = ask(node, as_of.hash, &questions).await?;
        let answers = answers.as_chunks::<INTRODUCTION>().0;
        readings.extend(page.iter().zip(answers).map(|(pool, answers)| begin(market, *pool, as_of, answers)));
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
    Some(Reading { loaded, words, open: Vec::new() })
}

/// Every word in which a tick can be, the lowest last.
fn words_of(spacing: i32) -> Vec<i16> {
    let greatest = MAX_TICK / spacing;
    let words = (-greatest).div_euclid(WORD)..=greatest.div_euclid(WORD);
    words.rev().filter_map(|word| i16::try_from(word).ok()).collect()
}

impl Reading {
    pub(super) fn pool(&self) -> Address {
        self.loaded.pool
    }

    pub(super) fn number(&self) -> u64 {
        self.loaded.number
    }

    pub(super) fn tokens(&self) -> [Address; 2] {
        [self.loaded.token0, self.loaded.token1]
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
        ensure_canonical(node, self.loaded.hash, self.loaded.number).await?;
        Ok(Progress::Done)
    }

    async fn read_words(&mut self, node: &Node) -> Result<Progress, LoadError> {
        let rest = self.words.len().saturating_sub(PAGE);
        let page: Vec<_> = self.words[rest..].iter().rev().copied().collect();
        let answers = self.ask(node, page.iter().map(|word| v3::tick_bitmap(*word))).await?;
        let spacing = self.loaded.tick_spacing;
        for (word, answer) in page.into_iter().zip(answers) {
            let Ok(bits) = answer.read(v3::decode_tick_bitmap) else { return Ok(Progress::Refused) };
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
        let Some(questions) = page.iter().map(|tick| v3::ticks(*tick)).collect::<Option<Vec<_>>>() else {
            return Ok(Progress::Refused);
        };
        let answers = self.ask(node, questions).await?;
        let mut ticks = Vec::with_capacity(page.len());
        for (index, answer) in page.into_iter().zip(answers) {
            let Ok((liquidity_net, liquidity_gross)) = answer.read(v3::decode_ticks) else {
                return Ok(Progress::Refused);
            };
            ticks.push(LoadedTick { index, liquidity_net, liquidity_gross });
        }
        if let Some(state) = &mut self.loaded.state {
            state.ticks.append(&mut ticks);
        }
        self.open.truncate(rest);
        Ok(Progress::Open)
    }

    async fn ask(
        &self,
        node: &Node,
        questions: impl IntoIterator<Item = alloy_primitives::Bytes>,
    ) -> Result<Vec<Answer>, LoadError> {
        let to = self.loaded.pool;
        let questions: Vec<_> = questions.into_iter().map(|data| Question { to, data }).collect();
        ask(node, self.loaded.hash, &questions).await
    }

    /// What was read; whole once [`Progress::Done`] was said.
    pub(super) fn finish(self) -> ConcentratedLoaded {
        self.loaded
    }
}

/// The places of the bits that are set, upwards.
fn ones(bits: U256) -> impl Iterator<Item = i32> {
    (0..WORD).filter(move |bit| bits.bit(*bit as usize))
}
