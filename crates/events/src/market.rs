use alloy_primitives::{Address, U256, U512, uint};
use serde::{Deserialize, Serialize};

use crate::AsOf;

/// How much of `quote` one smallest unit of a token is worth: `mantissa / 10^SCALE` smallest units of `quote`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// The token that the price is counted in.
    pub quote: Address,
    /// The value, scaled by 10^[`Price::SCALE`].
    pub mantissa: U256,
}

impl Price {
    /// Decimal places of the mantissa: enough for one smallest unit of an 18-decimals token worth 10^-18 of another.
    pub const SCALE: u8 = 36;

    /// The mantissa of one: 10^[`Price::SCALE`].
    pub const ONE: U256 = uint!(1_000_000_000_000_000_000_000_000_000_000_000_000_U256);

    /// The price of `quote` in itself.
    pub fn unit(quote: Address) -> Self {
        Self { quote, mantissa: Self::ONE }
    }

    /// What `amount` smallest units are worth, in smallest units of the quote, rounded down; `None` beyond 256 bits.
    pub fn value(&self, amount: U256) -> Option<U256> {
        let product: U512 = amount.widening_mul(self.mantissa);
        let scaled = product / U512::from(Self::ONE);
        (scaled.bit_len() <= 256).then(|| scaled.to())
    }
}

/// The price of a token as of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceEvent {
    /// The block.
    pub as_of: AsOf,
    /// The token.
    pub token: Address,
    /// Its price.
    pub price: Price,
    /// The pool with the greatest weight in it.
    pub source: Address,
}

/// The reserves of a pool as of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiquidityEvent {
    /// The block.
    pub as_of: AsOf,
    /// The pool.
    pub pool: Address,
    /// Reserve of the token with the lower address.
    pub reserve0: u128,
    /// Reserve of the token with the higher address.
    pub reserve1: u128,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_of_one_is_worth_the_amount_and_a_value_beyond_256_bits_is_none() {
        let unit = Price::unit(Address::ZERO);
        assert_eq!(Price::ONE, U256::from(10u8).pow(U256::from(Price::SCALE)));
        assert_eq!(unit.value(U256::MAX), Some(U256::MAX));
        let dear = Price { mantissa: Price::ONE + Price::ONE, ..unit };
        assert_eq!(dear.value(U256::from(21)), Some(U256::from(42)));
        assert_eq!(dear.value(U256::MAX), None);
    }
}
