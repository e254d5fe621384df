use std::borrow::Cow;

use alloy_primitives::{Address, B256, Bytes, I256, U256};
use serde::{Deserialize, Serialize};

/// A call or an event that a custom bot taught the decoder: a name, and values by name in the order in which they were given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custom {
    /// What it is, in the bot's own words.
    pub name: Cow<'static, str>,
    /// What it says.
    pub fields: Vec<(Cow<'static, str>, Value)>,
}

impl Custom {
    /// One that says nothing yet.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), fields: Vec::new() }
    }

    /// Adds a value.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The address of that name, if it is one.
    pub fn address(&self, name: &str) -> Option<Address> {
        match self.get(name) {
            Some(Value::Address(value)) => Some(*value),
            _ => None,
        }
    }

    /// The unsigned number of that name, if it is one.
    pub fn uint(&self, name: &str) -> Option<U256> {
        match self.get(name) {
            Some(Value::Uint(value)) => Some(*value),
            _ => None,
        }
    }
}

/// A value of a [`Custom`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// An address.
    Address(Address),
    /// An unsigned number.
    Uint(U256),
    /// A signed number.
    Int(I256),
    /// A truth value.
    Bool(bool),
    /// A word: a hash, an identifier.
    Word(B256),
    /// Bytes of any length.
    Bytes(Bytes),
    /// Text.
    Text(String),
    /// Several.
    List(Vec<Value>),
}

macro_rules! from {
    ($($type:ty => $variant:ident),* $(,)?) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        }
    )*};
}

from! {
    Address => Address,
    U256 => Uint,
    I256 => Int,
    bool => Bool,
    B256 => Word,
    Bytes => Bytes,
    String => Text,
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_name_and_only_as_what_it_is() {
        let custom =
            Custom::new("deposit").with("vault", Address::repeat_byte(1)).with("shares", U256::from(7));
        assert_eq!(custom.address("vault"), Some(Address::repeat_byte(1)));
        assert_eq!(custom.uint("shares"), Some(U256::from(7)));
        assert_eq!((custom.uint("vault"), custom.address("owner")), (None, None));
    }
}
