//! The initialised ticks of a pool, shared between snapshots.

use std::sync::Arc;

use alloy_primitives::U256;

use super::tick_math::sqrt_price;
use crate::ConcentratedError;

/// Ticks of one word of the contract's bitmap, in units of the tick spacing.
const WORD: i32 = 256;

/// An initialised tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// A multiple of the tick spacing.
    pub index: i32,
    /// What is added to the liquidity when the price crosses upwards.
    pub liquidity_net: i128,
    /// The sum of the positions that end here; the tick is gone when it is zero.
    pub liquidity_gross: u128,
    /// The square root of the price here, with 96 bits after the point.
    pub sqrt_price: U256,
}

/// As the contract's `mapping(int16 => uint256) tickBitmap`, in the same words: a swap goes from word to word, and rounds at
/// each end, so the words are part of the result (`TickBitmap.sol` of v3-core, `nextInitializedTickWithinOneWord`).
///
/// A clone shares everything. A change copies the list of words and the one word that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticks {
    spacing: i32,
    /// Without empty ones, in their order.
    words: Arc<Vec<Arc<Word>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    index: i32,
    bits: [u64; 4],
    /// One for each bit, in their order.
    ticks: Vec<Tick>,
}

/// Where a step of a swap may end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next<'a> {
    pub(super) index: i32,
    /// `None` at the end of a word.
    pub(super) tick: Option<&'a Tick>,
}

impl Ticks {
    pub(super) fn new(spacing: i32) -> Self {
        Self { spacing, words: Arc::default() }
    }

    pub(super) fn spacing(&self) -> i32 {
        self.spacing
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Tick> {
        self.words.iter().flat_map(|word| &word.ticks)
    }

    pub(super) fn get(&self, index: i32) -> Option<&Tick> {
        let (word, bit) = self.place(index);
        let word = &self.words[self.find(word).ok()?];
        word.has(bit).then(|| &word.ticks[word.rank(bit)])
    }

    /// The next tick from `from` on, downwards (`from` itself included) or upwards (excluded), within one word.
    pub(super) fn next_within_word(&self, from: i32, downwards: bool) -> Next<'_> {
        let compressed = from.div_euclid(self.spacing);
        let compressed = if downwards { compressed } else { compressed + 1 };
        let (word, bit) = (compressed.div_euclid(WORD), compressed.rem_euclid(WORD) as usize);
        let end = word * WORD + if downwards { 0 } else { WORD - 1 };
        let found = self.find(word).ok().and_then(|position| self.words[position].next(bit, downwards));
        match found {
            Some(tick) => Next { index: tick.index, tick: Some(tick) },
            None => Next { index: end * self.spacing, tick: None },
        }
    }

    /// The same over all words.
    pub(super) fn next(&self, from: i32, downwards: bool) -> Option<&Tick> {
        let within = self.next_within_word(from, downwards).tick;
        within.or_else(|| {
            let compressed = from.div_euclid(self.spacing) + i32::from(!downwards);
            match (self.find(compressed.div_euclid(WORD)), downwards) {
                (Ok(position) | Err(position), true) => self.words[..position].last()?.ticks.last(),
                (Ok(position), false) => self.words.get(position + 1)?.ticks.first(),
                (Err(position), false) => self.words.get(position)?.ticks.first(),
            }
        })
    }

    /// Whether a step downwards can end here without a tick: the first of a word.
    pub(super) fn is_first_of_word(&self, index: i32) -> bool {
        index % (WORD * self.spacing) == 0
    }

    /// Adds to or takes from a position's end.
    pub(super) fn change(&mut self, index: i32, gross: i128, net: i128) -> Result<(), ConcentratedError> {
        let (word, bit) = self.place(index);
        let before = self.get(index).copied();
        let tick = before.unwrap_or_else(|| Tick {
            index,
            liquidity_net: 0,
            liquidity_gross: 0,
            sqrt_price: sqrt_price(index),
        });
        let liquidity_gross =
            tick.liquidity_gross.checked_add_signed(gross).ok_or(ConcentratedError::LiquidityOutOfBounds)?;
        let liquidity_net =
            tick.liquidity_net.checked_add(net).ok_or(ConcentratedError::LiquidityOutOfBounds)?;
        let after = Tick { liquidity_gross, liquidity_net, ..tick };
        if before.is_some() || liquidity_gross > 0 {
            self.put(word, bit, after, before.is_some());
        }
        Ok(())
    }

    /// Each tick that differs in `other` as it is here, upwards: index, net and gross, both zero where it is not here.
    pub(super) fn differing(&self, other: &Self) -> Vec<(i32, i128, u128)> {
        let own = self.unshared(other).filter(|tick| other.get(tick.index) != Some(tick));
        let gone = other.unshared(self).filter(|tick| self.get(tick.index).is_none());
        let own = own.map(|tick| (tick.index, tick.liquidity_net, tick.liquidity_gross));
        let mut ticks: Vec<_> = own.chain(gone.map(|tick| (tick.index, 0, 0))).collect();
        ticks.sort_unstable_by_key(|(index, ..)| *index);
        ticks
    }

    /// The ticks in words that are not the very ones of `other`.
    fn unshared(&self, other: &Self) -> impl Iterator<Item = &Tick> {
        let is_shared = |word: &&Arc<Word>| {
            other.find(word.index).is_ok_and(|position| Arc::ptr_eq(word, &other.words[position]))
        };
        self.words.iter().filter(move |word| !is_shared(word)).flat_map(|word| &word.ticks)
    }

    fn put(&mut self, word: i32, bit: usize, tick: Tick, is_there: bool) {
        let found = self.find(word);
        let words = Arc::make_mut(&mut self.words);
        let position = found.unwrap_or_else(|position| {
            words.insert(position, Arc::new(Word { index: word, bits: [0; 4], ticks: Vec::new() }));
            position
        });
        let word = Arc::make_mut(&mut words[position]);
        let rank = word.rank(bit);
        match (is_there, tick.liquidity_gross > 0) {
            (true, true) => word.ticks[rank] = tick,
            (false, _) => {
                word.ticks.insert(rank, tick);
                word.bits[bit / 64] |= 1 << (bit % 64);
            }
            (true, false) => {
                word.ticks.remove(rank);
                word.bits[bit / 64] &= !(1 << (bit % 64));
            }
        }
        if word.ticks.is_empty() {
            words.remove(position);
        }
    }

    fn place(&self, index: i32) -> (i32, usize) {
        let compressed = index.div_euclid(self.spacing);
        (compressed.div_euclid(WORD), compressed.rem_euclid(WORD) as usize)
    }

    fn find(&self, word: i32) -> Result<usize, usize> {
        self.words.binary_search_by_key(&word, |word| word.index)
    }
}

impl Word {
    fn has(&self, bit: usize) -> bool {
        self.bits[bit / 64] >> (bit % 64) & 1 == 1
    }

    /// How many ticks stand below a bit.
    fn rank(&self, bit: usize) -> usize {
        let whole = self.bits[..bit / 64].iter().map(|limb| limb.count_ones()).sum::<u32>();
        let part = self.bits[bit / 64] & ((1 << (bit % 64)) - 1);
        (whole + part.count_ones()) as usize
    }

    fn next(&self, bit: usize, downwards: bool) -> Option<&Tick> {
        let rank = self.rank(bit);
        if downwards {
            let count = rank + usize::from(self.has(bit));
            self.ticks[..count].last()
        } else {
            self.ticks.get(rank)
        }
    }
}
