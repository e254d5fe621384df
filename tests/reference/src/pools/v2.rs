use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::sol;
use anyhow::{Context, ensure};

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

/// What a pair takes of the input: `taken` of `scale` parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeV2 {
    /// In parts of the scale.
    pub taken: u8,
    /// Its square has 24 bits at most.
    pub scale: u16,
}

impl FeeV2 {
    /// `UniswapV2Pair.sol`: 3 of 1,000.
    pub const UNISWAP: Self = Self { taken: 3, scale: 1000 };
    /// PancakeSwap V2's 25 of 10,000, reduced: both sides of its check of K, divided by 25 squared.
    pub const PANCAKESWAP: Self = Self { taken: 1, scale: 400 };

    /// The code of Uniswap's pair with this fee's numbers in place of its own: what `swap` multiplies the balances with (once in the code,
    /// for both), the inputs (twice) and the former product.
    fn put_into(self, code: &[u8]) -> anyhow::Result<Bytes> {
        let square = (u32::from(self.scale) * u32::from(self.scale)).to_be_bytes();
        ensure!(square[0] == 0, "the square of {} has more than 24 bits", self.scale);
        let [scale0, scale1] = self.scale.to_be_bytes();
        let mask = [0x63, 0xff, 0xff, 0xff, 0xff];
        let with_mask = |push: &[u8]| [push, &mask].concat();
        let code = replace(code, &with_mask(&[0x61, 0x03, 0xe8]), &with_mask(&[0x61, scale0, scale1]), 1)?;
        let code = replace(&code, &with_mask(&[0x60, 3]), &with_mask(&[0x60, self.taken]), 2)?;
        let square = [0x62, square[1], square[2], square[3]];
        Ok(replace(&code, &[0x62, 0x0f, 0x42, 0x40], &square, 1)?.into())
    }
}

/// All places of it, which are `times`.
fn replace(code: &[u8], from: &[u8], to: &[u8], times: usize) -> anyhow::Result<Vec<u8>> {
    let mut replaced = code.to_vec();
    let places: Vec<_> = code.windows(from.len()).enumerate().filter(|(_, bytes)| *bytes == from).collect();
    ensure!(places.len() == times, "the code has {} places of {from:x?}, and not {times}", places.len());
    for (at, _) in places {
        replaced[at..at + to.len()].copy_from_slice(to);
    }
    Ok(replaced)
}

impl PairV2 {
    /// A chain with the factory, two tokens and one pair with these reserves and Uniswap's fee.
    ///
    /// # Errors
    /// What is not the artifact that it should be; reserves that the pair refuses.
    pub fn create(factory: &Artifact, token: &Artifact, reserves: [u128; 2]) -> anyhow::Result<Self> {
        Self::create_fork(factory, token, reserves, FeeV2::UNISWAP)
    }

    /// The same with another fee: the pair's own code, with nothing but the numbers of its fee replaced.
    ///
    /// # Errors
    /// As [`PairV2::create`]; code without these numbers.
    pub fn create_fork(
        factory: &Artifact,
        token: &Artifact,
        reserves: [u128; 2],
        fee: FeeV2,
    ) -> anyhow::Result<Self> {
        let mut evm = Evm::new(&Parameters::default());
        let arguments = alloy_sol_types::SolValue::abi_encode(&OWNER);
        let factory = evm.deploy(OWNER, &factory.creation_code()?, &arguments).context("the factory")?;
        let tokens = tokens(&mut evm, token, OWNER)?;
        let [tokenA, tokenB] = tokens;
        let pair = evm.send(OWNER, factory, &createPairCall { tokenA, tokenB })?;
        if fee != FeeV2::UNISWAP {
            let code = fee.put_into(&evm.code(pair))?;
            evm.place(pair, code);
        }
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
