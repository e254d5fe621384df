use alloy_primitives::aliases::U160;
use alloy_primitives::{Address, B256, I256, U256};
use headwater_events::Transaction;

use crate::{Malformed, words};

/// A call: whose function, with which arguments.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The contract that is called.
    pub contract: Address,
    /// Wei sent along.
    pub value: U256,
    /// Which function.
    pub selector: [u8; 4],
    /// What it is given.
    pub arguments: Arguments<'a>,
    /// Selector and arguments as they were sent.
    pub calldata: &'a [u8],
}

impl<'a> Input<'a> {
    /// A call; `None` where there is not even a selector.
    pub fn new(contract: Address, value: U256, calldata: &'a [u8]) -> Option<Self> {
        let (selector, arguments) = calldata.split_first_chunk::<4>()?;
        Some(Self { contract, value, selector: *selector, arguments: Arguments(arguments), calldata })
    }

    /// The call that a transaction is; `None` where it makes a contract or only sends native tokens.
    pub fn of(transaction: &'a Transaction) -> Option<Self> {
        Self::new(transaction.to?, transaction.value, &transaction.input)
    }
}

/// ABI-encoded arguments, read in place by the number of their word.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a>(&'a [u8]);

macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident -> $type:ty;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// [`Malformed`] where it is beyond the end, or its type cannot hold it.
        pub fn $name(self, index: usize) -> Result<$type, Malformed> {
            words::$name(&self.word(index)?)
        }
    )*};
}

impl<'a> Arguments<'a> {
    /// Arguments, encoded without a selector.
    pub fn new(encoded: &'a [u8]) -> Self {
        Self(encoded)
    }

    /// A word as it is.
    ///
    /// # Errors
    ///
    /// [`Malformed`] where it is beyond the end.
    pub fn word(self, index: usize) -> Result<B256, Malformed> {
        let from = index.checked_mul(32).ok_or(Malformed::Truncated)?;
        let word = self.0.get(from..).and_then(|rest| rest.first_chunk::<32>());
        word.map(B256::from).ok_or(Malformed::Truncated)
    }

    /// A `uint256`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] where it is beyond the end.
    pub fn uint256(self, index: usize) -> Result<U256, Malformed> {
        Ok(words::uint256(&self.word(index)?))
    }

    /// An `int256`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] where it is beyond the end.
    pub fn int256(self, index: usize) -> Result<I256, Malformed> {
        Ok(words::int256(&self.word(index)?))
    }

    plain! {
        /// An `address`.
        address -> Address;
        /// A `bool`.
        boolean -> bool;
        /// A `uint8`.
        uint8 -> u8;
        /// A `uint16`.
        uint16 -> u16;
        /// A `uint24`.
        uint24 -> u32;
        /// A `uint32`.
        uint32 -> u32;
        /// A `uint40`.
        uint40 -> u64;
        /// A `uint48`.
        uint48 -> u64;
        /// A `uint128`.
        uint128 -> u128;
        /// A `uint160`.
        uint160 -> U160;
        /// An `int24`.
        int24 -> i32;
        /// An `int192`.
        int192 -> I256;
    }

    /// The arguments from a word on: for a structure of fixed size within others.
    ///
    /// # Errors
    ///
    /// [`Malformed`] where that is beyond the end.
    pub fn skip(self, count: usize) -> Result<Self, Malformed> {
        let from = count.checked_mul(32).ok_or(Malformed::Truncated)?;
        self.0.get(from..).map(Self).ok_or(Malformed::Truncated)
    }

    /// What an offset points to: a structure of variable size.
    ///
    /// # Errors
    ///
    /// [`Malformed`] where that is beyond the end.
    pub fn tail(self, index: usize) -> Result<Self, Malformed> {
        let offset = usize::try_from(self.uint256(index)?).map_err(|_| Malformed::Truncated)?;
        self.0.get(offset..).map(Self).ok_or(Malformed::Truncated)
    }

    /// `bytes`, or a `string`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] where they reach beyond the end.
    pub fn bytes(self, index: usize) -> Result<&'a [u8], Malformed> {
        let (length, rest) = self.tail(index)?.length()?;
        rest.0.get(..length).ok_or(Malformed::Truncated)
    }

    /// An array: how many elements it has, and the elements, or the offsets to them, as arguments of their own. There are
    /// at least as many words.
    ///
    /// # Errors
    ///
    /// [`Malformed`] where it reaches beyond the end.
    pub fn array(self, index: usize) -> Result<(usize, Self), Malformed> {
        let (length, rest) = self.tail(index)?.length()?;
        if rest.0.len() / 32 < length { Err(Malformed::Truncated) } else { Ok((length, rest)) }
    }

    fn length(self) -> Result<(usize, Self), Malformed> {
        let length = usize::try_from(self.uint256(0)?).map_err(|_| Malformed::Truncated)?;
        Ok((length, self.skip(1)?))
    }
}
