//! Questions to the `PoolManager` of Uniswap V4 (v4-core `IExtsload.sol`), which tells words of its storage, and where they are
//! (`StateLibrary.sol`).

use alloy_primitives::{B256, Bytes, I256, U256, keccak256};
use alloy_sol_types::SolCall;

use crate::Malformed;
use crate::interfaces::IExtsload;
use crate::words::{int24, uint160};

/// `POOLS_SLOT`: the mapping from ids to pools.
const POOLS_SLOT: U256 = U256::from_limbs([6, 0, 0, 0]);
/// `LIQUIDITY_OFFSET`, behind the price and two words of fees.
const LIQUIDITY_OFFSET: U256 = U256::from_limbs([3, 0, 0, 0]);
/// `TICKS_OFFSET`: the mapping from ticks to what they hold.
const TICKS_OFFSET: U256 = U256::from_limbs([4, 0, 0, 0]);
/// `TICK_BITMAP_OFFSET`: the mapping from words to which of their ticks are initialised.
const TICK_BITMAP_OFFSET: U256 = U256::from_limbs([5, 0, 0, 0]);

/// Where a pool begins in the manager's storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSlot(U256);

/// The first word of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot0 {
    /// The square root of currency 1 per currency 0 with 96 bits after the point; zero where there is no pool.
    pub sqrt_price: U256,
    /// The tick of that price.
    pub tick: i32,
    /// Twelve bits for each direction, in hundredths of a basis point.
    pub protocol_fee: u32,
    /// What the liquidity providers get, in hundredths of a basis point.
    pub lp_fee: u32,
}

impl PoolSlot {
    /// By the pool's id.
    pub fn of(id: B256) -> Self {
        Self(keccak256([id.0, POOLS_SLOT.to_be_bytes()].concat()).into())
    }

    /// Where [`decode_slot0`]'s word is.
    pub fn slot0(self) -> U256 {
        self.0
    }

    /// Where the liquidity of the range that the price is in is, in the lower half of the word.
    pub fn liquidity(self) -> U256 {
        self.0.wrapping_add(LIQUIDITY_OFFSET)
    }

    /// Where it stands which of 256 ticks are initialised, one bit for each. Ticks are counted in units of the spacing.
    pub fn tick_bitmap(self, word: i16) -> U256 {
        self.entry(TICK_BITMAP_OFFSET, word.into())
    }

    /// Where [`decode_tick`]'s word is.
    pub fn tick(self, tick: i32) -> U256 {
        self.entry(TICKS_OFFSET, tick)
    }

    fn entry(self, mapping: U256, key: i32) -> U256 {
        let key = I256::unchecked_from(key).into_raw();
        let mapping = self.0.wrapping_add(mapping);
        keccak256([key.to_be_bytes::<32>(), mapping.to_be_bytes()].concat()).into()
    }
}

/// Manager: words of its storage.
pub fn extsload(slots: &[U256]) -> Bytes {
    let slots = slots.iter().map(|slot| B256::from(*slot)).collect();
    IExtsload::extsloadCall { slots }.abi_encode().into()
}

/// The answer of [`extsload`], in the order of the question.
///
/// # Errors
///
/// [`Malformed`] when it is none, or of another length.
pub fn decode_extsload(answer: &[u8], asked: usize) -> Result<Vec<U256>, Malformed> {
    let words = IExtsload::extsloadCall::abi_decode_returns_validate(answer)?;
    if words.len() != asked {
        return Err(Malformed::Encoding(format!("{} words instead of {asked}", words.len())));
    }
    Ok(words.into_iter().map(|word| U256::from_be_bytes(word.0)).collect())
}

/// The first word of a pool (`Slot0.sol`).
///
/// # Errors
///
/// [`Malformed`] when it is none: its highest 24 bits are never set.
pub fn decode_slot0(word: U256) -> Result<Slot0, Malformed> {
    let bits = |from: usize, count: usize| (word >> from) & ((U256::ONE << count) - U256::ONE);
    if word >> 232usize != U256::ZERO {
        return Err(Malformed::OutOfRange("Slot0"));
    }
    // The sign of 24 bits, as a word of its own has it.
    let tick = I256::from_raw(bits(160, 24) << 232usize).asr(232);
    Ok(Slot0 {
        sqrt_price: U256::from(uint160(&bits(0, 160).into())?),
        tick: int24(&tick.into_raw().into())?,
        protocol_fee: bits(184, 24).to(),
        lp_fee: bits(208, 24).to(),
    })
}

/// What a tick holds: net and gross liquidity, in the upper and the lower half of the word.
pub fn decode_tick(word: U256) -> (i128, u128) {
    let net: u128 = (word >> 128usize).to();
    (net.cast_signed(), word.wrapping_to())
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{b256, hex};

    use super::*;

    #[test]
    fn the_question_carries_the_selector_of_the_deployed_contract() {
        let asked = extsload(&[U256::from(6), U256::from(7)]);
        assert_eq!(hex::encode(&asked[..4]), "dbd035ff");
        assert_eq!(asked.len(), 4 + 32 * 4);
        assert_eq!(asked[asked.len() - 1], 7);
    }

    #[test]
    fn a_pool_begins_where_solidity_puts_it() {
        let id = b256!("21c67e77068de97969ba93d4aab21826d33ca12bb9f565d8496e8fda8a82ca27");
        let pool = PoolSlot::of(id);
        let begins = keccak256([id.as_slice(), &[0; 31], &[6]].concat());
        assert_eq!(pool.slot0(), U256::from_be_bytes(begins.0));
        assert_eq!(pool.liquidity(), pool.slot0() + U256::from(3));
        let below = [&[0xff; 31][..], &[0xfe], &(pool.slot0() + U256::from(5)).to_be_bytes::<32>()].concat();
        assert_eq!(B256::from(pool.tick_bitmap(-2)), keccak256(below));
        let above = [&[0; 31][..], &[60], &(pool.slot0() + U256::from(4)).to_be_bytes::<32>()].concat();
        assert_eq!(B256::from(pool.tick(60)), keccak256(above));
    }

    #[test]
    fn a_word_is_taken_apart_from_its_lowest_bit() {
        let tick = U256::from((1u32 << 24) - 7);
        let word =
            (U256::ONE << 96) | (tick << 160) | (U256::from(0x3e8_001u32) << 184) | (U256::from(500) << 208);
        let read = decode_slot0(word).expect("it is a first word");
        let expected = Slot0 { sqrt_price: U256::ONE << 96, tick: -7, protocol_fee: 0x3e8_001, lp_fee: 500 };
        assert_eq!(read, expected);
        assert!(decode_slot0(U256::MAX).is_err());
        let minus = U256::from((-5i128).cast_unsigned()) << 128;
        assert_eq!(decode_tick(minus | U256::from(9)), (-5, 9));
    }

    #[test]
    fn an_answer_has_as_many_words_as_were_asked_for() {
        let answer = IExtsload::extsloadCall::abi_encode_returns(&vec![B256::with_last_byte(3); 2]);
        assert_eq!(decode_extsload(&answer, 2).ok(), Some(vec![U256::from(3); 2]));
        assert!(decode_extsload(&answer, 3).is_err());
        assert!(decode_extsload(&[], 0).is_err(), "nobody is there");
    }
}
