//! What is asked of a pool, and what its answers say.

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256, U256};
use headwater_abi::calls::v4::PoolSlot;
use headwater_abi::calls::{self, v3, v4};
use headwater_events::{Difference, Protocol};
use headwater_market::{ConcentratedKind, ConcentratedMeta, ConcentratedPool, PoolMeta, Reserves};
use headwater_node::{Answer, Question};

/// Ticks of a word of the contract's bitmap.
const WORD: i32 = 256;

/// Questions about a pool of V3, or words of a manager of V4, beside those about its ticks: where it stands, its liquidity, two words of its bitmap.
pub(super) const BESIDE_TICKS: usize = 4;

/// A pool as it was followed, and what to ask about it.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) pool: Address,
    /// Which of the manager's pools, of V4.
    pub(super) id: Option<B256>,
    pub(super) protocol: Protocol,
    ours: Ours,
}

#[derive(Clone, Debug)]
enum Ours {
    Pair(Reserves),
    Concentrated(Ticks),
    /// A pool of V4: what the liquidity providers get never changes.
    Managed {
        ticks: Ticks,
        lp_fee: u32,
        /// Both directions, in 24 bits.
        protocol_fee: u32,
    },
}

/// What is asked of a pool with concentrated liquidity, as it was followed.
#[derive(Clone, Debug)]
struct Ticks {
    price: (U256, i32),
    liquidity: u128,
    /// Words of the bitmap.
    words: Vec<(i16, U256)>,
    /// Net and gross liquidity.
    ticks: Vec<(i32, i128, u128)>,
}

/// The same as the node has it, in the same order.
struct Theirs {
    price: (U256, i32),
    liquidity: u128,
    words: Vec<U256>,
    ticks: Vec<(i128, u128)>,
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
    /// `Swap` or `Initialize` of V3 or V4.
    Price(U256),
    /// `ProtocolFeeUpdated` of V4.
    ProtocolFee(u32),
}

impl Said {
    /// Whether both set the same.
    pub(super) fn is_of_kind(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

impl Probe {
    pub(super) fn pair(meta: &PoolMeta, held: Reserves) -> Self {
        Self { pool: meta.address, id: None, protocol: meta.protocol, ours: Ours::Pair(held) }
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
        let ticks = Ticks { price, liquidity: pool.liquidity(), words, ticks };
        let (protocol, id, ours) = match meta.kind {
            ConcentratedKind::V3 => (Protocol::UniswapV3, None, Ours::Concentrated(ticks)),
            ConcentratedKind::V4 { id } => {
                let [zero_in, one_in] = pool.fee().protocol;
                let protocol_fee = zero_in | one_in << 12;
                let ours = Ours::Managed { ticks, lp_fee: meta.fee, protocol_fee };
                (Protocol::UniswapV4, Some(id), ours)
            }
        };
        Self { pool: meta.address, id, protocol, ours }
    }

    pub(super) fn name(&self) -> (Address, Option<B256>) {
        (self.pool, self.id)
    }

    pub(super) fn questions(&self) -> impl Iterator<Item = Question> {
        let data = match &self.ours {
            Ours::Pair(_) => vec![calls::get_reserves()],
            Ours::Concentrated(Ticks { words, ticks, .. }) => {
                let words = words.iter().map(|(word, _)| v3::tick_bitmap(*word));
                let ticks = ticks.iter().filter_map(|(tick, ..)| v3::ticks(*tick));
                [v3::slot0(), v3::liquidity()].into_iter().chain(words).chain(ticks).collect()
            }
            // A manager tells many words at once.
            Ours::Managed { ticks, .. } => {
                let place = PoolSlot::of(self.id.unwrap_or_default());
                let words = ticks.words.iter().map(|(word, _)| place.tick_bitmap(*word));
                let held = ticks.ticks.iter().map(|(tick, ..)| place.tick(*tick));
                let slots: Vec<_> =
                    [place.slot0(), place.liquidity()].into_iter().chain(words).chain(held).collect();
                vec![v4::extsload(&slots)]
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
            Ours::Concentrated(ticks) => read_concentrated(ticks, answers).map(|theirs| ticks.judge(&theirs)),
            Ours::Managed { ticks, lp_fee, protocol_fee } => {
                judge_managed(ticks, *lp_fee, *protocol_fee, answers)
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

/// `Err` where an answer cannot be read.
fn read_concentrated(ours: &Ticks, answers: &[Answer]) -> Result<Theirs, String> {
    let words = ours.words.len();
    let (Some([slot0, in_range]), Some(of_words), Some(of_ticks)) =
        (answers.first_chunk(), answers.get(2..2 + words), answers.get(2 + words..))
    else {
        return Err("answers are missing".to_owned());
    };
    Ok(Theirs {
        price: slot0.read(v3::decode_slot0)?,
        liquidity: in_range.read(v3::decode_liquidity)?,
        words: of_words.iter().map(|answer| answer.read(v3::decode_tick_bitmap)).collect::<Result<_, _>>()?,
        ticks: of_ticks.iter().map(|answer| answer.read(v3::decode_ticks)).collect::<Result<_, _>>()?,
    })
}

/// The same of V4, whose pools share their manager: one that is not there has no price.
fn judge_managed(
    ours: &Ticks,
    lp_fee: u32,
    protocol_fee: u32,
    answers: &[Answer],
) -> Result<Option<Found>, String> {
    let [answer] = answers else { return Err("no answer".to_owned()) };
    let (words, asked) = (ours.words.len(), 2 + ours.words.len() + ours.ticks.len());
    let told = answer.read(|bytes| v4::decode_extsload(bytes, asked))?;
    let slot0 = v4::decode_slot0(told[0]).map_err(|malformed| malformed.to_string())?;
    if slot0.sqrt_price.is_zero() && !ours.price.0.is_zero() {
        return Ok(found(Difference::Gone, "a pool", "no pool of this id"));
    }
    if slot0.lp_fee != lp_fee {
        return Err(format!("a fee of {}, which never changes", slot0.lp_fee));
    }
    let theirs = Theirs {
        price: (slot0.sqrt_price, slot0.tick),
        // The upper half of the word is empty.
        liquidity: told[1].wrapping_to(),
        words: told[2..2 + words].to_vec(),
        ticks: told[2 + words..].iter().map(|word| v4::decode_tick(*word)).collect(),
    };
    if let Some(found) = ours.judge(&theirs) {
        return Ok(Some(found));
    }
    let words = |fee: u32| format!("a protocol fee of {} and {}", fee & 0xfff, fee >> 12);
    let differs = slot0.protocol_fee != protocol_fee;
    Ok(differs.then(|| Found {
        difference: Difference::ProtocolFee,
        ours: words(protocol_fee),
        theirs: words(slot0.protocol_fee),
        said: Some(Said::ProtocolFee(slot0.protocol_fee)),
    }))
}

impl Ticks {
    /// The first thing that differs.
    fn judge(&self, theirs: &Theirs) -> Option<Found> {
        let (sqrt_price, tick) = self.price;
        if theirs.price.0 != sqrt_price {
            let words = |(price, tick): (U256, i32)| format!("square root of the price {price}, tick {tick}");
            let (ours, said) = (words(self.price), Some(Said::Price(theirs.price.0)));
            let theirs = words(theirs.price);
            return Some(Found { difference: Difference::Price, ours, theirs, said });
        }
        if theirs.price.1 != tick {
            let theirs = format!("tick {}", theirs.price.1);
            return found(Difference::CurrentTick, format!("tick {tick}"), theirs);
        }
        if theirs.liquidity != self.liquidity {
            let words = |liquidity: u128| format!("liquidity {liquidity}");
            return found(Difference::Liquidity, words(self.liquidity), words(theirs.liquidity));
        }
        for ((word, ours), theirs) in self.words.iter().zip(&theirs.words) {
            if ours != theirs {
                let words = |bits: &U256| format!("word {word} of the bitmap {bits:#x}");
                return found(Difference::Ticks, words(ours), words(theirs));
            }
        }
        for ((index, net, gross), theirs) in self.ticks.iter().zip(&theirs.ticks) {
            if (*net, *gross) != *theirs {
                let words = |net: i128, gross: u128| format!("tick {index} with net {net} and gross {gross}");
                return found(Difference::Ticks, words(*net, *gross), words(theirs.0, theirs.1));
            }
        }
        None
    }
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
        Probe { pool, id: None, protocol: Protocol::UniswapV2, ours: Ours::Pair(held) }
    }

    fn ticks() -> Ticks {
        Ticks {
            price: (U256::from(9), 3),
            liquidity: 11,
            words: vec![(0, U256::from(6))],
            ticks: vec![(60, 4, 4)],
        }
    }

    fn concentrated() -> Probe {
        let (pool, ours) = (Address::repeat_byte(2), Ours::Concentrated(ticks()));
        Probe { pool, id: None, protocol: Protocol::UniswapV3, ours }
    }

    fn managed() -> Probe {
        let ours = Ours::Managed { ticks: ticks(), lp_fee: 3_000, protocol_fee: 5 | 7 << 12 };
        let (pool, id) = (Address::repeat_byte(3), Some(B256::repeat_byte(4)));
        Probe { pool, id, protocol: Protocol::UniswapV4, ours }
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
    fn a_pool_of_v4_is_asked_about_in_one_call_and_differs_in_the_first_thing_that_does() {
        assert_eq!(managed().len(), 1);
        let said = |price: u64, tick: u64, fees: [u64; 2], held: [u64; 2], net: u64, gross: u64| {
            let [protocol, lp] = fees.map(U256::from);
            let slot0 = U256::from(price) | U256::from(tick) << 160 | protocol << 184 | lp << 208;
            let tick = U256::from(gross) | U256::from(net) << 128;
            let words = [slot0, U256::from(held[0]), U256::from(held[1]), tick];
            let told = [U256::from(32), U256::from(words.len())].into_iter().chain(words);
            let bytes: Vec<_> = told.flat_map(|word| word.to_be_bytes::<32>()).collect();
            kind(&managed(), &[Answer::Returned(Bytes::from(bytes))])
        };
        let fees = [5 | 7 << 12, 3_000];
        assert_eq!(said(9, 3, fees, [11, 6], 4, 4), None);
        assert_eq!(said(0, 0, [0, 0], [0, 0], 0, 0), Some(Difference::Gone));
        assert_eq!(said(9, 3, [5 | 7 << 12, 2_999], [11, 6], 4, 4), Some(Difference::Nonsense));
        assert_eq!(said(8, 2, fees, [10, 7], 5, 5), Some(Difference::Price));
        assert_eq!(said(9, 2, fees, [10, 7], 5, 5), Some(Difference::CurrentTick));
        assert_eq!(said(9, 3, fees, [10, 7], 5, 5), Some(Difference::Liquidity));
        assert_eq!(said(9, 3, fees, [11, 7], 4, 4), Some(Difference::Ticks));
        assert_eq!(said(9, 3, fees, [11, 6], 3, 4), Some(Difference::Ticks));
        assert_eq!(said(9, 3, [5 | 8 << 12, 3_000], [11, 6], 4, 4), Some(Difference::ProtocolFee));
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
