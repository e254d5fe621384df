use alloy_primitives::{Address, B256, Bytes, I256, U160, U256, keccak256};
use alloy_sol_types::{SolCall, SolValue};
use anyhow::{Context, bail, ensure};

use super::v2::{createPairCall, mintCall as mintPairCall, swapCall as swapPairCall};
use super::v3::{self, PAYER, PAYER_ADDRESS, int24};
use super::v4::{self, ModifyLiquidityParams, POOLS_SLOT, PoolKey, SwapParams, TestSettings};
use super::{Change, OWNER, PURSE, State, approveCall, balanceOfCall, create_token, mintCall, transferCall};
use crate::evm::{Artifact, Evm, Failure, Message, Parameters, Receipt};
use crate::formulas::{Formula, HIGHEST, LOWEST, Ranged, Way, fees_v4};

/// What is deployed.
#[derive(Clone, Copy, Debug)]
pub struct Code<'a> {
    /// `UniswapV2Factory`.
    pub factory_v2: &'a Artifact,
    /// `UniswapV3Factory`.
    pub factory_v3: &'a Artifact,
    /// `PoolManager`, and its authors' routers and token for tests: swaps, liquidity, token.
    pub manager_v4: [&'a Artifact; 4],
}

/// Pools of Uniswap V2, V3 and V4 on one chain, which share their tokens. A pool is named by the order of its creation.
#[derive(Debug)]
pub struct Several {
    evm: Evm,
    factory_v2: Address,
    factory_v3: Address,
    manager: Address,
    swap_router: Address,
    liquidity_router: Address,
    tokens: Vec<Address>,
    pools: Vec<(Kind, [Address; 2])>,
    /// By the place of the pool.
    terms: Vec<Terms>,
}

#[derive(Clone, Debug)]
enum Kind {
    V2(Address),
    V3(Address),
    V4(PoolKey),
}

/// What a pool of V3 or V4 is made of; nothing of a pair.
#[derive(Debug, Default)]
struct Terms {
    tick_spacing: i32,
    /// Of an input of token 0 and of token 1.
    fee_pips: [u32; 2],
    changes: Vec<Change>,
}

impl Several {
    /// A chain with the three exchanges and so many tokens, in the order of their addresses.
    ///
    /// # Errors
    /// What is not the artifact that it should be.
    pub fn create(code: &Code<'_>, tokens: usize) -> anyhow::Result<Self> {
        let mut evm = Evm::new(&Parameters::default());
        let [manager, swap_router, liquidity_router, token] = code.manager_v4;
        let owner = OWNER.abi_encode();
        let factory_v2 = evm.deploy(OWNER, &code.factory_v2.creation_code()?, &owner)?;
        let factory_v3 = evm.deploy(OWNER, &code.factory_v3.creation_code()?, &[])?;
        evm.place(PAYER_ADDRESS, PAYER.concat().into());
        let manager = evm.deploy(OWNER, &manager.creation_code()?, &owner)?;
        let mut router =
            |router: &Artifact| evm.deploy(OWNER, &router.creation_code()?, &manager.abi_encode());
        let (swap_router, liquidity_router) = (router(swap_router)?, router(liquidity_router)?);
        evm.send(OWNER, manager, &v4::setProtocolFeeControllerCall { controller: OWNER })?;
        let mut addresses = Vec::new();
        for _ in 0..tokens {
            let token = create_token(&mut evm, token, OWNER)?;
            evm.send(OWNER, token, &mintCall { to: PAYER_ADDRESS, amount: PURSE })?;
            for spender in [swap_router, liquidity_router] {
                evm.send(OWNER, token, &approveCall { spender, amount: U256::MAX })?;
            }
            addresses.push(token);
        }
        addresses.sort_unstable();
        let (tokens, pools, terms) = (addresses, Vec::new(), Vec::new());
        Ok(Self { evm, factory_v2, factory_v3, manager, swap_router, liquidity_router, tokens, pools, terms })
    }

    /// In the order of their addresses, as pools have them.
    pub fn tokens(&self) -> &[Address] {
        &self.tokens
    }

    /// A pair of V2 with these reserves.
    ///
    /// # Errors
    /// Reserves that the pair refuses.
    pub fn add_v2(&mut self, tokens: [usize; 2], reserves: [u128; 2]) -> anyhow::Result<usize> {
        let tokens = self.pair_of(tokens)?;
        let [tokenA, tokenB] = tokens;
        let pair = self.evm.send(OWNER, self.factory_v2, &createPairCall { tokenA, tokenB })?;
        for (token, reserve) in tokens.into_iter().zip(reserves) {
            self.evm.send(OWNER, token, &transferCall { to: pair, amount: U256::from(reserve) })?;
        }
        self.evm.send(OWNER, pair, &mintPairCall { to: OWNER })?;
        Ok(self.add(Kind::V2(pair), tokens, Terms::default()))
    }

    /// A pool of V3 at a price, without liquidity.
    ///
    /// # Errors
    /// A price that the pool refuses.
    pub fn add_v3(
        &mut self,
        tokens: [usize; 2],
        fee: u32,
        tick_spacing: i32,
        sqrt_price: U256,
    ) -> anyhow::Result<usize> {
        let tokens = self.pair_of(tokens)?;
        let terms = Terms { tick_spacing, fee_pips: [fee; 2], changes: Vec::new() };
        let ([tokenA, tokenB], fee) = (tokens, fee.try_into()?);
        let enable = v3::enableFeeAmountCall { fee, tickSpacing: tick_spacing.try_into()? };
        // The factory knows the three usual fees already, and then refuses.
        let _known = self.evm.transact(&Message::new(OWNER, self.factory_v3, &enable));
        let create = v3::createPoolCall { tokenA, tokenB, fee };
        let pool = self.evm.send(OWNER, self.factory_v3, &create)?;
        self.evm.send(OWNER, pool, &v3::initializeCall { sqrtPriceX96: U160::from(sqrt_price) })?;
        Ok(self.add(Kind::V3(pool), tokens, terms))
    }

    /// A pool of V4 at a price, without liquidity, and with the protocol's fee for both directions in 24 bits.
    ///
    /// # Errors
    /// A price or a fee that the manager refuses.
    pub fn add_v4(
        &mut self,
        tokens: [usize; 2],
        fee: u32,
        tick_spacing: i32,
        sqrt_price: U256,
        protocol_fee: u32,
    ) -> anyhow::Result<usize> {
        let tokens = self.pair_of(tokens)?;
        let [currency0, currency1] = tokens;
        let terms = Terms { tick_spacing, fee_pips: fees_v4(fee, protocol_fee), changes: Vec::new() };
        let (fee, tickSpacing) = (fee.try_into()?, int24(tick_spacing));
        let key = PoolKey { currency0, currency1, fee, tickSpacing, hooks: Address::ZERO };
        let initialize = v4::initializeCall { key: key.clone(), sqrtPriceX96: U160::from(sqrt_price) };
        self.evm.send(OWNER, self.manager, &initialize)?;
        let newProtocolFee = protocol_fee.try_into()?;
        self.evm.send(OWNER, self.manager, &v4::setProtocolFeeCall { key: key.clone(), newProtocolFee })?;
        Ok(self.add(Kind::V4(key), tokens, terms))
    }

    /// Adds liquidity to a pool of V3 or V4.
    ///
    /// # Errors
    /// A range that the pool refuses, or a pair of V2.
    pub fn add_liquidity(
        &mut self,
        pool: usize,
        lower: i32,
        upper: i32,
        amount: u128,
    ) -> anyhow::Result<Change> {
        let (kind, tokens) = self.pools[pool].clone();
        let [tickLower, tickUpper] = [lower, upper].map(int24);
        let change = match kind {
            Kind::V2(_) => bail!("a pair has no ranges"),
            Kind::V3(address) => {
                let (recipient, data) = (PAYER_ADDRESS, tokens.abi_encode().into());
                let mint = v3::mintCall { recipient, tickLower, tickUpper, amount, data };
                let receipt = self.forward(address, &mint)?;
                let logs = receipt.events::<v3::Mint>(address);
                let log = logs.first().context("a mint says so")?;
                let (lower, upper) = (log.tickLower.as_i32(), log.tickUpper.as_i32());
                Change { lower, upper, delta: log.amount.try_into()? }
            }
            Kind::V4(key) => {
                let (liquidityDelta, salt) = (I256::try_from(amount)?, B256::ZERO);
                let params = ModifyLiquidityParams { tickLower, tickUpper, liquidityDelta, salt };
                let call = v4::modifyLiquidityCall { key, params, hookData: Bytes::new() };
                let receipt = self.evm.transact(&Message::new(OWNER, self.liquidity_router, &call))?;
                let logs = receipt.events::<v4::ModifyLiquidity>(self.manager);
                let log = logs.first().context("a change of liquidity says so")?;
                let (lower, upper) = (log.tickLower.as_i32(), log.tickUpper.as_i32());
                Change { lower, upper, delta: i128::try_from(log.liquidityDelta)? }
            }
        };
        self.terms[pool].changes.push(change);
        Ok(change)
    }

    /// What the pool gives from here on, as a formula.
    ///
    /// # Errors
    /// None that a pool of this chain has.
    pub fn formula(&self, pool: usize) -> anyhow::Result<Formula> {
        if let Kind::V2(_) = self.pools[pool].0 {
            return Ok(Formula::Pair(self.reserves(pool)?));
        }
        let Terms { tick_spacing, fee_pips, changes } = &self.terms[pool];
        Ok(Formula::Ranged(Ranged::new(self.state(pool)?, changes, *tick_spacing, *fee_pips)))
    }

    /// Reserves of a pair of V2, by its storage.
    ///
    /// # Errors
    /// A pool of another kind.
    pub fn reserves(&self, pool: usize) -> anyhow::Result<[u128; 2]> {
        let Kind::V2(pair) = self.pools[pool].0 else { bail!("not a pair") };
        let word = self.evm.storage(pair, U256::from(8));
        let mask = (U256::ONE << 112usize) - U256::ONE;
        Ok([word & mask, (word >> 112usize) & mask].map(|reserve| reserve.to()))
    }

    /// Where a pool of V3 or V4 stands, by its storage.
    ///
    /// # Errors
    /// A pair of V2.
    pub fn state(&self, pool: usize) -> anyhow::Result<State> {
        let (contract, slot) = match &self.pools[pool].0 {
            Kind::V2(_) => bail!("a pair has no ticks"),
            // `slot0` and `liquidity`: in V4 three words apart, in V3 four.
            Kind::V3(address) => {
                let word = |slot: u64| self.evm.storage(*address, U256::from(slot));
                return Ok(State::from_words(word(0), word(4)));
            }
            Kind::V4(key) => {
                let id = keccak256(key.abi_encode());
                (self.manager, U256::from_be_bytes(keccak256((id, U256::from(POOLS_SLOT)).abi_encode()).0))
            }
        };
        let word = |offset: u64| self.evm.storage(contract, slot + U256::from(offset));
        Ok(State::from_words(word(0), word(3)))
    }

    /// What a pool would give for an input, by its own code; of a pair, which does not say, by the formula of its library.
    /// `None` where it refuses, or does not take all of it.
    pub fn answer(&mut self, pool: usize, zero_for_one: bool, amount_in: u128) -> Option<u128> {
        if amount_in == 0 {
            return Some(0);
        }
        let message = match &self.pools[pool].0 {
            Kind::V2(_) => {
                let formula = &Formula::Pair(self.reserves(pool).ok()?);
                return Way { formula, zero_for_one }.output(amount_in);
            }
            _ => self.swap_message(pool, zero_for_one, amount_in),
        };
        let receipt = self.evm.call(&message).ok()?;
        self.given(pool, zero_for_one, amount_in, &receipt)
    }

    /// Swaps for good.
    ///
    /// # Errors
    /// A pool that refuses, does not take all of the input, or gives another amount; and a pair that would give more.
    pub fn swap(
        &mut self,
        pool: usize,
        zero_for_one: bool,
        amount_in: u128,
        expected: u128,
    ) -> anyhow::Result<()> {
        if let (Kind::V2(pair), tokens) = self.pools[pool].clone() {
            let (to, amount) = (pair, U256::from(amount_in));
            self.evm.send(OWNER, tokens[usize::from(!zero_for_one)], &transferCall { to, amount })?;
            let ask = |out: u128| {
                let (zero, out) = (U256::ZERO, U256::from(out));
                let (amount0Out, amount1Out) = if zero_for_one { (zero, out) } else { (out, zero) };
                Message::new(
                    OWNER,
                    pair,
                    &swapPairCall { amount0Out, amount1Out, to: OWNER, data: Bytes::new() },
                )
            };
            ensure!(self.evm.call(&ask(expected + 1)).is_err(), "the pair gives more than {expected}");
            self.evm.transact(&ask(expected)).with_context(|| format!("asking the pair for {expected}"))?;
            return Ok(());
        }
        let receipt = self.evm.transact(&self.swap_message(pool, zero_for_one, amount_in))?;
        let given = self.given(pool, zero_for_one, amount_in, &receipt);
        ensure!(given == Some(expected), "the pool gives {given:?}, not {expected}");
        Ok(())
    }

    /// What the traders have of a token.
    ///
    /// # Errors
    /// A token that does not answer.
    pub fn purse(&mut self, token: usize) -> anyhow::Result<U256> {
        let token = self.tokens[token];
        let owner = self.evm.read(token, &balanceOfCall { account: OWNER })?;
        Ok(owner + self.evm.read(token, &balanceOfCall { account: PAYER_ADDRESS })?)
    }

    /// Does something and takes it back.
    ///
    /// # Errors
    /// Whatever it fails with.
    pub fn try_out<T>(&mut self, act: impl FnOnce(&mut Self) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let before = self.evm.snapshot();
        let outcome = act(self);
        self.evm.revert(&before)?;
        self.evm.forget_snapshots();
        outcome
    }

    fn add(&mut self, kind: Kind, tokens: [Address; 2], terms: Terms) -> usize {
        self.pools.push((kind, tokens));
        self.terms.push(terms);
        self.pools.len() - 1
    }

    fn pair_of(&self, [token0, token1]: [usize; 2]) -> anyhow::Result<[Address; 2]> {
        ensure!(token0 < token1, "the lower address comes first");
        Ok([self.tokens[token0], self.tokens[token1]])
    }

    fn swap_message(&self, pool: usize, zero_for_one: bool, amount_in: u128) -> Message {
        let (kind, tokens) = &self.pools[pool];
        let limit = U160::from(if zero_for_one { LOWEST } else { HIGHEST });
        let specified = I256::from_raw(U256::from(amount_in));
        match kind {
            Kind::V2(address) | Kind::V3(address) => {
                let call = v3::swapCall {
                    recipient: PAYER_ADDRESS,
                    zeroForOne: zero_for_one,
                    amountSpecified: specified,
                    sqrtPriceLimitX96: limit,
                    data: tokens.abi_encode().into(),
                };
                forwarded(*address, &call)
            }
            Kind::V4(key) => {
                let params = SwapParams {
                    zeroForOne: zero_for_one,
                    amountSpecified: -specified,
                    sqrtPriceLimitX96: limit,
                };
                let settings = TestSettings { takeClaims: false, settleUsingBurn: false };
                let call = v4::swapCall { key: key.clone(), params, settings, hookData: Bytes::new() };
                Message::new(OWNER, self.swap_router, &call)
            }
        }
    }

    /// By the swap's own log; `None` where the pool did not take all of the input.
    fn given(&self, pool: usize, zero_for_one: bool, amount_in: u128, receipt: &Receipt) -> Option<u128> {
        let [amount0, amount1] = match &self.pools[pool].0 {
            Kind::V2(address) | Kind::V3(address) => {
                let logs = receipt.events::<v3::Swap>(*address);
                logs.first().map(|log| [log.amount0, log.amount1])?
            }
            Kind::V4(_) => {
                let logs = receipt.events::<v4::Swap>(self.manager);
                let log = logs.first()?;
                [log.amount0, log.amount1].map(|amount| -I256::try_from(amount).unwrap_or_default())
            }
        };
        let (taken, given) = if zero_for_one { (amount0, -amount1) } else { (amount1, -amount0) };
        let is_whole = taken.into_raw() == U256::from(amount_in);
        is_whole.then(|| given.into_raw().try_into().ok()).flatten()
    }

    fn forward<C: SolCall>(&mut self, to: Address, call: &C) -> Result<Receipt, Failure> {
        self.evm.transact(&forwarded(to, call))
    }
}

fn forwarded<C: SolCall>(to: Address, call: &C) -> Message {
    let data = [to.into_word().as_slice(), &call.abi_encode()].concat().into();
    Message { from: OWNER, to: PAYER_ADDRESS, value: U256::ZERO, data }
}
