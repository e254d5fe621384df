//! Plans that users might sign, encoded by hand: what the contract ABI says, written down as a head and a tail, and nothing that
//! reads. Functions and events are named by their canonical signatures (Solidity's contract ABI specification; the interfaces
//! of v3-periphery, swap-router-contracts, universal-router, v4-periphery, permit2, aave-v3-origin and libocr).

use alloy_primitives::{Address, B256, I256, U256, keccak256};

mod plans;

pub use plans::{Contract, Signed};

/// A value as the ABI knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Abi {
    /// Anything of 32 bytes.
    Word(B256),
    /// `bytes`.
    Bytes(Vec<u8>),
    /// A structure, or the arguments of a function.
    Tuple(Vec<Abi>),
    /// An array of variable length.
    Array(Vec<Abi>),
}

impl From<U256> for Abi {
    fn from(value: U256) -> Self {
        Self::Word(value.into())
    }
}

impl From<u64> for Abi {
    fn from(value: u64) -> Self {
        U256::from(value).into()
    }
}

impl From<I256> for Abi {
    fn from(value: I256) -> Self {
        value.into_raw().into()
    }
}

impl From<Address> for Abi {
    fn from(value: Address) -> Self {
        Self::Word(value.into_word())
    }
}

impl From<bool> for Abi {
    fn from(value: bool) -> Self {
        u64::from(value).into()
    }
}

impl From<B256> for Abi {
    fn from(value: B256) -> Self {
        Self::Word(value)
    }
}

impl From<Vec<u8>> for Abi {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl Abi {
    fn is_dynamic(&self) -> bool {
        match self {
            Self::Word(_) => false,
            Self::Bytes(_) | Self::Array(_) => true,
            Self::Tuple(parts) => parts.iter().any(Self::is_dynamic),
        }
    }

    /// As it stands in a head, if it is static, or in a tail.
    fn encoded(&self) -> Vec<u8> {
        match self {
            Self::Word(word) => word.to_vec(),
            Self::Bytes(bytes) => {
                let mut encoded = word(bytes.len());
                encoded.extend(bytes);
                encoded.resize(encoded.len().div_ceil(32) * 32, 0);
                encoded
            }
            Self::Tuple(parts) => encode(parts),
            Self::Array(elements) => [word(elements.len()), encode(elements)].concat(),
        }
    }
}

fn word(value: usize) -> Vec<u8> {
    B256::from(U256::from(value)).to_vec()
}

/// Heads, then tails: what is dynamic leaves an offset in its place, counted from the first head.
pub fn encode(parts: &[Abi]) -> Vec<u8> {
    let head = |part: &Abi| if part.is_dynamic() { 32 } else { part.encoded().len() };
    let heads: usize = parts.iter().map(head).sum();
    let (mut encoded, mut tails) = (Vec::new(), Vec::new());
    for part in parts {
        if part.is_dynamic() {
            encoded.extend(word(heads + tails.len()));
            tails.extend(part.encoded());
        } else {
            encoded.extend(part.encoded());
        }
    }
    encoded.extend(tails);
    encoded
}

/// A call of the function with this canonical signature.
pub fn call(signature: &str, arguments: &[Abi]) -> Vec<u8> {
    [&keccak256(signature)[..4], &encode(arguments)].concat()
}

/// An event as it is logged: topics and data.
pub fn event(signature: &str, indexed: &[B256], data: &[Abi]) -> (Vec<B256>, Vec<u8>) {
    let topics = [keccak256(signature)].into_iter().chain(indexed.iter().copied());
    (topics.collect(), encode(data))
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014), as values of the chain.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    /// A number of at most so many bits; now and then the greatest, or nothing.
    pub fn uint(&mut self, bits: usize) -> U256 {
        let any = U256::from_limbs([self.draw(), self.draw(), self.draw(), self.draw()]);
        match self.below(16) {
            0 => U256::ZERO,
            1 => U256::MAX >> (256 - bits),
            _ => any >> (256 - bits) >> self.below(bits as u64) as usize,
        }
    }

    /// A signed number of at most so many bits, now and then at the end of its range.
    pub fn int(&mut self, bits: usize) -> I256 {
        let size = I256::from_raw(self.uint(bits - 1));
        // The two's complement of the size: one below its negative.
        if self.coin() { size } else { I256::from_raw(!size.into_raw()) }
    }

    /// An address; now and then one of the small numbers that routers take for themselves and their callers.
    pub fn address(&mut self) -> Address {
        match self.below(8) {
            0 => Address::with_last_byte(self.below(3) as u8),
            _ => Address::from_word(self.word()),
        }
    }

    /// A word.
    pub fn word(&mut self) -> B256 {
        U256::from_limbs([self.draw(), self.draw(), self.draw(), self.draw()]).into()
    }

    /// Up to so many bytes.
    pub fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.draw() as u8).collect()
    }

    /// So many of something.
    pub fn several<T>(&mut self, least: u64, most: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..least + self.below(most - least + 1)).map(|_| make(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::hex;

    use super::*;

    /// The examples of Solidity's contract ABI specification.
    #[test]
    fn the_encoder_writes_what_the_specification_shows() {
        let baz = call("baz(uint32,bool)", &[Abi::from(69), true.into()]);
        let expected = "cdcd77c0\
            0000000000000000000000000000000000000000000000000000000000000045\
            0000000000000000000000000000000000000000000000000000000000000001";
        assert_eq!(hex::encode(baz), expected);

        let numbers = Abi::Array([1, 2, 3].map(Abi::from).to_vec());
        let sam = call("sam(bytes,bool,uint256[])", &[b"dave".to_vec().into(), true.into(), numbers]);
        let expected = "a5643bf2\
            0000000000000000000000000000000000000000000000000000000000000060\
            0000000000000000000000000000000000000000000000000000000000000001\
            00000000000000000000000000000000000000000000000000000000000000a0\
            0000000000000000000000000000000000000000000000000000000000000004\
            6461766500000000000000000000000000000000000000000000000000000000\
            0000000000000000000000000000000000000000000000000000000000000003\
            0000000000000000000000000000000000000000000000000000000000000001\
            0000000000000000000000000000000000000000000000000000000000000002\
            0000000000000000000000000000000000000000000000000000000000000003";
        assert_eq!(hex::encode(sam), expected);

        let nested =
            Abi::Array(vec![Abi::Array([1, 2].map(Abi::from).to_vec()), Abi::Array(vec![Abi::from(3)])]);
        let texts = [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()].map(Abi::from).to_vec();
        let g = call("g(uint256[][],string[])", &[nested, Abi::Array(texts)]);
        let words = "2289b18c 40 140 2 40 a0 2 1 2 1 3 3 60 a0 e0 3 6f6e65- 3 74776f- 5 7468726565-";
        let written: String = words
            .split(' ')
            .map(|word| match word.strip_suffix('-') {
                Some(text) => format!("{text:0<64}"),
                None if word.len() == 8 => word.to_owned(),
                None => format!("{word:0>64}"),
            })
            .collect();
        assert_eq!(hex::encode(g), written);
    }

    #[test]
    fn random_numbers_keep_to_their_types() {
        let mut random = Random(1);
        for _ in 0..10_000 {
            assert!(random.uint(24) < U256::from(1 << 24));
            let int = random.int(24);
            assert!(int >= I256::try_from(-(1 << 23)).expect("it fits"), "{int}");
            assert!(int < I256::try_from(1 << 23).expect("it fits"), "{int}");
        }
    }
}
