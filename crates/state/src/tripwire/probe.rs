//! What is asked of a pool, and what its answers say.

use std::collections::BTreeSet;

use alloy_primitives::{Address, U256};
use headwater_abi::calls::{self, v3};

use headwater_events::{Difference, Protocol};
use headwater_market::{ConcentratedMeta, ConcentratedPool, PoolMeta, Reserves};
use headwater_node::{Answer, Question};

/// Ticks of a word of the contract's bitmap.
const WORD: i32 = 256;

/// Questions about a pool of V3 beside those about its ticks: where it stands, its liquidity, two words of its bitmap.
pub(super) const BESIDE_TICKS: usize = 4;

/// A pool as it was followed, and what to ask about it.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) pool: Address,
    pub(super) protocol: Protocol,
    ours: Ours,
}

#[derive(Clone, Debug)]
enum Ours {
    Pair(Reserves),
    Concentrated {
        price: (U256, i32),
        liquidity: u128,
        /// Words of the bitmap.
        words: Vec<(i16, U256)>,
        /// Net and gross liquidity.
        ticks: Vec<(i32, i128, u128)>,
    },
}

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) difference: Difference,
    pub(super) ours: String,
    pub(super) theirs: String,
    /// What an event would have said.
    pub(super) said: Option<Said>,
}

/// What a log says that sets a pool's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// `Sync`.
    Reserves(u128, u128),
    /// `Swap` or `Initialize` of V3.
    Price(U256),
}

impl Probe {
    pub(super) fn pair(meta: &PoolMeta, held: Reserves) -> Self {
        Self { pool: meta.address, protocol: meta.protocol, ours: Ours::Pair(held) }
    }

    /// `turn` counts the samples of the pool, so that its ticks take turns, `most` at a time.
    pub(super) fn concentrated(
        meta: &ConcentratedMeta,
        pool: &ConcentratedPool,
        turn: usize,
        most: usize,
    ) -> Self {
        let price = pool.price().map_or((U256::ZERO, 0), |price| (price.sqrt_price, price.tick));
        let all: Vec<_> =
            pool.ticks().map(|tick| (tick.index, tick.liquidity_net, tick.liquidity_gross)).collect();
        let words = words(&all, price.1, meta.tick_spacing, turn);
        let count = all.len().min(most);
        let first = turn.wrapping_mul(most).checked_rem(all.len()).unwrap_or(0);
        let ticks = all.iter().cycle().skip(first).take(count).copied().collect();
        let ours = Ours::Concentrated { price, liquidity: pool.liquidity(), words, ticks };
        Self { pool: meta.address, protocol: Protocol::UniswapV3, ours }
    }

    pub(super) fn questions(&self) -> impl Iterator<Item = Question> {
        let data = match &self.ours {
            Ours::Pair(_) => vec![calls::get_reserves()],
            Ours::Concentrated { words, ticks, .. } => {
                let words = words.iter().map(|(word, _)| v3::tick_bitmap(*word));
                let ticks = ticks.iter().filter_map(|(tick, ..)| v3::ticks(*tick));
                [v3::slot0(), v3::liquidity()].into_iter().chain(words).chain(ticks).collect()
            }
        };
        data.into_iter().map(|data| Question { to: self.pool, data })
    }

    pub(super) fn len(&self) -> usize {
        self.questions().count()
    }

    /// What differs; the first of it, where several things do.
    pub(super) fn judge(&self, answers: &[Answer]) -> Option<Found> {
        let is_nothing = |answer: &Answer| matches!(answer, Answer::Returned(bytes) if bytes.is_empty());
        if answers.iter().any(is_nothing) {
            return found(Difference::Gone, "a pool", "nothing");
        }
        let judged = match &self.ours {
            Ours::Pair(held) => judge_pair(*held, answers),
            Ours::Concentrated { price, liquidity, words, ticks } => {
                judge_concentrated(*price, *liquidity, words, ticks, answers)
            }
        };
        judged.unwrap_or_else(|reason| found(Difference::Nonsense, "a pool", reason))
    }
}

/// The word that the price is in, and one of those that ticks are in or that are next to them, in turn.
fn words(all: &[(i32, i128, u128)], tick: i32, spacing: i32, turn: usize) -> Vec<(i16, U256)> {
    let place = |tick: i32| tick.div_euclid(spacing);
    let word = |tick: i32| place(tick).div_euclid(WORD);
    let of_ticks = all.iter().map(|(tick, ..)| word(*tick));
    let near: BTreeSet<_> =
        of_ticks.chain([word(tick)]).flat_map(|word| [word - 1, word, word + 1]).collect();
    let in_turn = near.iter().nth(turn % near.len()).copied();
    let asked = [Some(word(tick)), in_turn].into_iter().flatten().filter_map(|at| {
        let own = all.iter().map(|(tick, ..)| *tick).filter(|tick| word(*tick) == at);
        let bits = own.fold(U256::ZERO, |bits, tick| {
            bits | U256::ONE << usize::try_from(place(tick).rem_euclid(WORD)).unwrap_or_default()
        });
        Some((i16::try_from(at).ok()?, bits))
    });
    asked.collect()
}

fn found(difference: Difference, ours: impl Into<String>, theirs: impl Into<String>) -> Option<Found> {
    Some(Found { difference, ours: ours.into(), theirs: theirs.into(), said: None })
}

/// `Err` where an answer cannot be read.
fn judge_pair(held: Reserves, answers: &[Answer]) -> Result<Option<Found>, String> {
    let [answer] = answers else { return Err("no answer".to_owned()) };
    let theirs = answer.read(calls::decode_get_reserves)?;
    if theirs == (held.reserve0, held.reserve1) {
        return Ok(None);
    }
    Ok(Some(Found {
        difference: Difference::ReservesWithoutSync,
        ours: format!("reserves {} and {}", held.reserve0, held.reserve1),
        theirs: format!("reserves {} and {}", theirs.0, theirs.1),
        said: Some(Said::Reserves(theirs.0, theirs.1)),
    }))
}

fn judge_concentrated(
    (sqrt_price, tick): (U256, i32),
    liquidity: u128,
    words: &[(i16, U256)],
    ticks: &[(i32, i128, u128)],
    answers: &[Answer],
) -> Result<Option<Found>, String> {
    let (Some([slot0, in_range]), Some(of_words), Some(of_ticks)) =
        (answers.first_chunk(), answers.get(2..2 + words.len()), answers.get(2 + words.len()..))
    else {
        return Err("answers are missing".to_owned());
    };
    let (their_price, their_tick) = slot0.read(v3::decode_slot0)?;
    let their_liquidity = in_range.read(v3::decode_liquidity)?;
    let their_words: Vec<_> =
        of_words.iter().map(|answer| answer.read(v3::decode_tick_bitmap)).collect::<Result<_, _>>()?;
    let their_ticks: Vec<_> =
        of_ticks.iter().map(|answer| answer.read(v3::decode_ticks)).collect::<Result<_, _>>()?;
    if their_price != sqrt_price {
        let words = |price: U256, tick: i32| format!("square root of the price {price}, tick {tick}");
        let (ours, theirs) = (words(sqrt_price, tick), words(their_price, their_tick));
        let said = Some(Said::Price(their_price));
        return Ok(Some(Found { difference: Difference::Price, ours, theirs, said }));
    }
    if their_tick != tick {
        return Ok(found(Difference::CurrentTick, format!("tick {tick}"), format!("tick {their_tick}")));
    }
    if their_liquidity != liquidity {
        let words = |liquidity: u128| format!("liquidity {liquidity}");
        return Ok(found(Difference::Liquidity, words(liquidity), words(their_liquidity)));
    }
    for ((word, ours), theirs) in words.iter().zip(their_words) {
        if *ours != theirs {
            let words = |bits: U256| format!("word {word} of the bitmap {bits:#x}");
            return Ok(found(Difference::Ticks, words(*ours), words(theirs)));
        }
    }
    for ((index, net, gross), theirs) in ticks.iter().zip(their_ticks) {
        if (*net, *gross) != theirs {
            let words = |net: i128, gross: u128| format!("tick {index} with net {net} and gross {gross}");
            return Ok(found(Difference::Ticks, words(*net, *gross), words(theirs.0, theirs.1)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Bytes;

    use super::*;

    fn answer(words: &[u64]) -> Answer {
        let words: Vec<_> = words.iter().flat_map(|word| U256::from(*word).to_be_bytes::<32>()).collect();
        Answer::Returned(Bytes::from(words))
    }

    fn pair() -> Probe {
        let pool = Address::repeat_byte(1);
        let held = Reserves { reserve0: 5, reserve1: 7 };
        Probe { pool, protocol: Protocol::UniswapV2, ours: Ours::Pair(held) }
    }

    fn concentrated() -> Probe {
        let ours = Ours::Concentrated {
            price: (U256::from(9), 3),
            liquidity: 11,
            words: vec![(0, U256::from(6))],
            ticks: vec![(60, 4, 4)],
        };
        Probe { pool: Address::repeat_byte(2), protocol: Protocol::UniswapV3, ours }
    }

    fn kind(probe: &Probe, answers: &[Answer]) -> Option<Difference> {
        probe.judge(answers).map(|found| found.difference)
    }

    #[test]
    fn a_pair_is_what_it_was_or_differs_in_one_of_three_ways() {
        let failed = Answer::Failed("execution reverted".to_owned());
        for (answers, expected) in [
            (vec![answer(&[5, 7, 1])], None),
            (vec![answer(&[5, 8, 1])], Some(Difference::ReservesWithoutSync)),
            (vec![answer(&[7, 5, 1])], Some(Difference::ReservesWithoutSync)),
            (vec![answer(&[])], Some(Difference::Gone)),
            (vec![answer(&[5, 7])], Some(Difference::Nonsense)),
            (vec![failed], Some(Difference::Nonsense)),
        ] {
            assert_eq!(kind(&pair(), &answers), expected, "{answers:?}");
        }
    }

    #[test]
    fn a_pool_of_v3_differs_in_the_first_thing_that_does() {
        let said = |price, tick, liquidity, word, net, gross| {
            let slot0 = answer(&[price, tick, 0, 0, 0, 0, 1]);
            let held = answer(&[gross, net, 0, 0, 0, 0, 0, 1]);
            kind(&concentrated(), &[slot0, answer(&[liquidity]), answer(&[word]), held])
        };
        assert_eq!(said(9, 3, 11, 6, 4, 4), None);
        assert_eq!(said(8, 2, 10, 7, 5, 5), Some(Difference::Price));
        assert_eq!(said(9, 2, 10, 7, 5, 5), Some(Difference::CurrentTick));
        assert_eq!(said(9, 3, 10, 7, 5, 5), Some(Difference::Liquidity));
        assert_eq!(said(9, 3, 11, 7, 4, 4), Some(Difference::Ticks));
        assert_eq!(said(9, 3, 11, 6, 4, 5), Some(Difference::Ticks));
        assert_eq!(said(9, 3, 11, 6, 3, 4), Some(Difference::Ticks));
    }

    #[test]
    fn words_hold_the_bits_of_the_ticks_and_take_turns() {
        let ticks = [(-60, 1, 1), (0, 1, 1), (256 * 60, -2, 2)];
        let bit = |at: usize| U256::ONE << at;
        let of_turn = |turn| words(&ticks, 30, 60, turn);
        assert_eq!(of_turn(0), [(0, bit(0)), (-2, U256::ZERO)]);
        assert_eq!(of_turn(1), [(0, bit(0)), (-1, bit(255))]);
        assert_eq!(of_turn(3), [(0, bit(0)), (1, bit(0))]);
        assert_eq!(of_turn(4), [(0, bit(0)), (2, U256::ZERO)]);
        assert_eq!(of_turn(5), of_turn(0));
    }
}
