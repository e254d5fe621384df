use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::sol;
use anyhow::Context;

use super::{OWNER, tokens, transferCall};
use crate::evm::{Artifact, Evm, Message, Parameters};

sol! {
    function createPair(address tokenA, address tokenB) external returns (address pair);
    function mint(address to) external returns (uint256 liquidity);
    function swap(uint256 amount0Out, uint256 amount1Out, address to, bytes data) external;
}

/// A `UniswapV2Pair` that its factory created.
#[derive(Debug)]
pub struct PairV2 {
    evm: Evm,
    pair: Address,
    tokens: [Address; 2],
}

impl PairV2 {
    /// A chain with the factory, two tokens and one pair with these reserves.
    ///
    /// # Errors
    /// What is not the artifact that it should be; reserves that the pair refuses.
    pub fn create(factory: &Artifact, token: &Artifact, reserves: [u128; 2]) -> anyhow::Result<Self> {
        let mut evm = Evm::new(&Parameters::default());
        let arguments = alloy_sol_types::SolValue::abi_encode(&OWNER);
        let factory = evm.deploy(OWNER, &factory.creation_code()?, &arguments).context("the factory")?;
        let tokens = tokens(&mut evm, token, OWNER)?;
        let [tokenA, tokenB] = tokens;
        let pair = evm.send(OWNER, factory, &createPairCall { tokenA, tokenB })?;
        for (token, reserve) in tokens.into_iter().zip(reserves) {
            evm.send(OWNER, token, &transferCall { to: pair, amount: U256::from(reserve) })?;
        }
        evm.send(OWNER, pair, &mintCall { to: OWNER })?;
        Ok(Self { evm, pair, tokens })
    }

    /// By the pair's storage.
    pub fn reserves(&self) -> [u128; 2] {
        let word = self.evm.storage(self.pair, U256::from(8));
        let mask = (U256::ONE << 112usize) - U256::ONE;
        [word & mask, (word >> 112usize) & mask].map(|reserve| reserve.to())
    }

    /// Whether the pair gives `amount_out` for `amount_in`; if it does, that is so from now on.
    ///
    /// # Errors
    /// A token that cannot be transferred.
    pub fn swap(&mut self, zero_for_one: bool, amount_in: u128, amount_out: u128) -> anyhow::Result<bool> {
        let before = self.evm.snapshot();
        let token_in = self.tokens[usize::from(!zero_for_one)];
        self.evm.send(OWNER, token_in, &transferCall { to: self.pair, amount: U256::from(amount_in) })?;
        let out = U256::from(amount_out);
        let (amount0Out, amount1Out) = if zero_for_one { (U256::ZERO, out) } else { (out, U256::ZERO) };
        let call = swapCall { amount0Out, amount1Out, to: OWNER, data: Bytes::new() };
        let is_given = self.evm.transact(&Message::new(OWNER, self.pair, &call)).is_ok();
        if !is_given {
            self.evm.revert(&before)?;
        }
        self.evm.forget_snapshots();
        Ok(is_given)
    }
}
