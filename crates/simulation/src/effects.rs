use std::sync::Arc;

use alloy_primitives::{Address, Bytes, U256};
use headwater_events::PendingTxEvent;
use headwater_market::{ConcentratedId, ConcentratedPool, MarketSnapshot, PoolId, Reserves};
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::SimulationError;
use crate::assembler::calldata;
use crate::executed;
use crate::native::{Index, Moment, Not, Router, RouterKind, Swap, Swapped, is_in, swap};
use crate::pinned::{Ended, Limits, PinnedState, StateReader};

/// `factory()` of `UniswapV2Router02`, of `SwapRouter` and of `SwapRouter02`, which has that of V3.
const FACTORY: [u8; 4] = [0xc4, 0x5a, 0x01, 0x55];
/// `SwapRouter02.factoryV2()`
const FACTORY_V2: [u8; 4] = [0x68, 0xe0, 0xd4, 0xe1];
/// `UniswapV2Router02.WETH()`
const WETH: [u8; 4] = [0xad, 0x5c, 0x46, 0x48];
/// `WETH9()` of the routers of V3 (v3-periphery `PeripheryImmutableState.sol`)
const WETH9: [u8; 4] = [0x4a, 0xa4, 0xa4, 0xfc];
/// `IERC20.balanceOf(address owner)`
const BALANCE_OF: [u8; 4] = [0x70, 0xa0, 0x82, 0x31];
/// `IERC20.allowance(address owner, address spender)`
const ALLOWANCE: [u8; 4] = [0xdd, 0x62, 0xed, 0x3e];

/// What a pending transaction does to the tracked pools when it is the first of the next block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The pools whose reserves it changes, ascending, with what they hold behind it.
    pub reserves: Vec<(PoolId, Reserves)>,
    /// The pools with concentrated liquidity that it changes, ascending, as they are behind it.
    pub concentrated: Vec<(ConcentratedId, Arc<ConcentratedPool>)>,
    /// How it is known.
    pub means: Means,
}

/// How an effect is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    /// Computed from the call of a known router.
    Native,
    /// Executed.
    Executed,
    /// Read from a record.
    Recorded,
}

/// Why a pending transaction has no effect that could be built on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoEffect {
    /// It reverts, with the reason.
    #[error("it fails: {0}")]
    Fails(String),
    /// The next block cannot hold it as the first: its nonce, its balance or its fee do not allow it.
    #[error("the next block cannot begin with it: {0}")]
    Impossible(String),
    /// It changes no tracked pool.
    #[error("it changes no tracked pool")]
    Untouched,
    /// A pool's logs, and what it says of itself behind the transaction, are not of one pool.
    #[error("a pool does not stand where its logs lead")]
    Contradiction,
    /// It cannot be told.
    #[error(transparent)]
    Unknown(#[from] SimulationError),
}

/// Contracts that are believed to be routers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routers {
    /// Which contract each is.
    pub kinds: FxHashMap<Address, RouterKind>,
    /// The chain's wrapped native token. A Universal Router does not say which one it wraps: it is not computed unless this one stands
    /// in its code.
    pub wrapped_native: Address,
}

/// Tells what pending transactions do to the tracked pools: calls of known routers by arithmetic, the others by executing
/// them on the state behind the block.
#[derive(Debug)]
pub struct Effects<R> {
    reader: R,
    limits: Limits,
    routers: Routers,
    /// What the routers said they are made of, `None` of those that are none: it cannot change (`UniswapV2Router02` and those of V3
    /// have it as immutables).
    told: FxHashMap<Address, Option<Router>>,
    index: Index,
    pinned: Option<PinnedState>,
}

impl<R: StateReader> Effects<R> {
    /// Reads the state with `reader`, and computes calls of `routers`.
    pub fn new(reader: R, limits: Limits, routers: Routers) -> Self {
        let (told, index) = (FxHashMap::default(), Index::default());
        Self { reader, limits, routers, told, index, pinned: None }
    }

    /// What the transaction does as the first of the block after that of `market`.
    ///
    /// # Errors
    ///
    /// [`NoEffect`]: nothing may be built on it.
    pub async fn of(
        &mut self,
        pending: &PendingTxEvent,
        market: &Arc<MarketSnapshot>,
    ) -> Result<Effect, NoEffect> {
        let Self { reader, limits, routers, told, index, pinned } = self;
        index.follow(market);
        if pinned.as_ref().is_none_or(|state| state.as_of().hash != market.as_of.hash) {
            *pinned = Some(PinnedState::behind(reader, market.as_of, *limits).await?);
        }
        let Some(state) = pinned else { return Err(NoEffect::Untouched) };
        Question { reader, state, routers, told, index, market, pending }.answer().await
    }
}

/// What one transaction does on one state.
struct Question<'a, R> {
    reader: &'a R,
    state: &'a mut PinnedState,
    routers: &'a Routers,
    told: &'a mut FxHashMap<Address, Option<Router>>,
    index: &'a Index,
    market: &'a Arc<MarketSnapshot>,
    pending: &'a PendingTxEvent,
}

impl<R: StateReader> Question<'_, R> {
    async fn answer(&mut self) -> Result<Effect, NoEffect> {
        self.may_be_next().await?;
        if let Some(router) = self.router().await? {
            let native = self.state.account(self.reader, router.address).await?.balance;
            let (timestamp, parent) = (self.state.next().timestamp, self.market.as_of.hash);
            let moment = Moment { timestamp, parent, native };
            match swap(&self.pending.transaction, &router, self.market, self.index, &moment) {
                Ok(swapped) if self.is_sure(&router, &swapped).await? => {
                    return effect(self.market, swapped.into(), Means::Native);
                }
                Err(Not::Succeeding(reason)) => return Err(NoEffect::Fails(reason.to_owned())),
                Ok(_) | Err(Not::Known) => {}
            }
        }
        self.executed().await
    }

    /// Whether the next block can begin with the transaction, as far as that follows from its sender's account.
    async fn may_be_next(&mut self) -> Result<(), NoEffect> {
        let impossible = |reason: &str| Err(NoEffect::Impossible(reason.to_owned()));
        let PendingTxEvent { transaction, max_fee_per_gas, .. } = self.pending;
        let next = *self.state.next();
        if *max_fee_per_gas < u128::from(next.base_fee_per_gas.unwrap_or(0)) {
            return impossible("it pays less than the base fee");
        }
        if transaction.gas_limit > next.gas_limit {
            return impossible("it may use more gas than a block has");
        }
        let sender = self.state.account(self.reader, transaction.from).await?;
        if sender.nonce != transaction.nonce {
            return impossible("its nonce is not its sender's next");
        }
        let fee = U256::from(*max_fee_per_gas).checked_mul(U256::from(transaction.gas_limit));
        let needed = fee.and_then(|fee| fee.checked_add(transaction.value));
        if needed.is_none_or(|needed| needed > sender.balance) {
            return impossible("its sender cannot pay for it");
        }
        Ok(())
    }

    /// What the called contract is made of, if it is a router.
    async fn router(&mut self) -> Result<Option<Router>, SimulationError> {
        let Some(address) = self.pending.transaction.to else { return Ok(None) };
        let Some(kind) = self.routers.kinds.get(&address).copied() else { return Ok(None) };
        if let Some(told) = self.told.get(&address) {
            return Ok(*told);
        }
        let [factory_v2, factory_v3, wrapped_native] = match kind {
            RouterKind::UniswapV2 => {
                [self.named(address, FACTORY).await?, None, self.named(address, WETH).await?]
            }
            RouterKind::UniswapV3 => {
                [None, self.named(address, FACTORY).await?, self.named(address, WETH9).await?]
            }
            RouterKind::SwapRouter02 => [
                self.named(address, FACTORY_V2).await?,
                self.named(address, FACTORY).await?,
                self.named(address, WETH9).await?,
            ],
            // Of which factories pools are tracked may change.
            RouterKind::UniversalRouterV1 | RouterKind::UniversalRouter => {
                return self.universal(address, kind).await;
            }
        };
        let is_one = factory_v2.is_some() || factory_v3.is_some();
        let router = wrapped_native.filter(|_| is_one).map(|wrapped_native| Router {
            address,
            kind,
            factory_v2,
            factory_v3,
            manager: None,
            wrapped_native,
        });
        self.told.insert(address, router);
        Ok(router)
    }

    async fn universal(
        &mut self,
        address: Address,
        kind: RouterKind,
    ) -> Result<Option<Router>, SimulationError> {
        let code = self.state.code(self.reader, address).await?;
        let [factory_v2, factory_v3, manager] = self.index.makers_in(&code);
        let wrapped_native = self.routers.wrapped_native;
        let router = Router { address, kind, factory_v2, factory_v3, manager, wrapped_native };
        Ok(is_in(&code, &wrapped_native).then_some(router))
    }

    /// Whether nothing outside of the pools' reserves is against the swap: the sender has what is taken and allows it, the
    /// pairs hold exactly their reserves, the router has nothing where that matters, and no contract is sent native tokens.
    async fn is_sure(&mut self, router: &Router, swapped: &Swapped) -> Result<bool, NoEffect> {
        let from = self.pending.transaction.from;
        let mut taken: FxHashMap<Address, U256> = FxHashMap::default();
        for (token, amount) in &swapped.pays {
            let sum = taken.entry(*token).or_default();
            *sum = sum.saturating_add(*amount);
        }
        for (token, amount) in taken {
            let held = self.ask(token, BALANCE_OF, &[from]).await?;
            let allowed = self.ask(token, ALLOWANCE, &[from, router.address]).await?;
            let (Some(held), Some(allowed)) = (held, allowed) else { return Ok(false) };
            match held < amount || allowed < amount {
                true if swapped.is_single => {
                    return Err(NoEffect::Fails("the router cannot take the input".to_owned()));
                }
                // One swap may give what the next one takes.
                true => return Ok(false),
                false => {}
            }
        }
        for token in &swapped.presumed_empty {
            if self.ask(*token, BALANCE_OF, &[router.address]).await? != Some(U256::ZERO) {
                return Ok(false);
            }
        }
        for paid in &swapped.paid_native {
            if self.state.account(self.reader, *paid).await?.has_code {
                return Ok(false);
            }
        }
        for Swap { pool, before, .. } in &swapped.hops {
            let Some(meta) = self.market.pools.meta(*pool) else { return Ok(false) };
            for (token, reserve) in [(meta.token0, before.reserve0), (meta.token1, before.reserve1)] {
                // A pool takes what it was given beyond its reserves for part of the input.
                if self.ask(token, BALANCE_OF, &[meta.address]).await? != Some(U256::from(reserve)) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The address that a contract answers with.
    async fn named(
        &mut self,
        contract: Address,
        function: [u8; 4],
    ) -> Result<Option<Address>, SimulationError> {
        Ok(self.ask(contract, function, &[]).await?.map(|word| Address::from_word(word.into())))
    }

    async fn ask(
        &mut self,
        contract: Address,
        function: [u8; 4],
        arguments: &[Address],
    ) -> Result<Option<U256>, SimulationError> {
        let words: Vec<_> =
            arguments.iter().map(|address| U256::from_be_bytes(address.into_word().0)).collect();
        let answer = self.state.view(self.reader, contract, calldata(function, &words).into()).await?;
        Ok(answer.as_ref().and_then(one_word))
    }

    async fn executed(&mut self) -> Result<Effect, NoEffect> {
        let call = self.state.their_call(self.pending)?;
        let market = Arc::clone(self.market);
        let questions = move |logs: &[_]| executed::questions(&market, logs);
        let (ended, answers) = self.state.run_and_ask(self.reader, call, questions).await?;
        match ended {
            Ended::Done { logs, .. } => {
                let changed = executed::changed(self.market, &logs, &answers);
                effect(self.market, changed.ok_or(NoEffect::Contradiction)?, Means::Executed)
            }
            Ended::Failed(reason) => Err(NoEffect::Fails(reason)),
            Ended::Impossible(reason) => Err(NoEffect::Impossible(reason)),
        }
    }
}

/// The pools that a transaction may have changed.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    pub(crate) reserves: Vec<(PoolId, Reserves)>,
    pub(crate) concentrated: Vec<(ConcentratedId, ConcentratedPool)>,
}

impl From<Swapped> for Changed {
    fn from(swapped: Swapped) -> Self {
        let reserves = swapped.hops.iter().map(|hop| (hop.pool, hop.after)).collect();
        Self { reserves, concentrated: swapped.concentrated }
    }
}

/// What is left of the changes when those are left out that change nothing, or that cannot be.
fn effect(market: &MarketSnapshot, changed: Changed, means: Means) -> Result<Effect, NoEffect> {
    let Changed { mut reserves, concentrated } = changed;
    reserves.retain(|(pool, after)| after.is_possible() && market.pools.reserves(*pool) != Some(*after));
    reserves.sort_unstable_by_key(|(pool, _)| *pool);
    let is_other = |(id, after): &(_, ConcentratedPool)| {
        market.concentrated.pool(*id).is_some_and(|before| **before != *after)
    };
    let concentrated = concentrated.into_iter().filter(is_other);
    let mut concentrated: Vec<_> = concentrated.map(|(id, after)| (id, Arc::new(after))).collect();
    concentrated.sort_unstable_by_key(|(id, _)| *id);
    if reserves.is_empty() && concentrated.is_empty() {
        return Err(NoEffect::Untouched);
    }
    Ok(Effect { reserves, concentrated, means })
}

fn one_word(answer: &Bytes) -> Option<U256> {
    Some(U256::from_be_bytes(*answer.first_chunk::<32>()?))
}

#[cfg(test)]
mod tests {
    use alloy_primitives::keccak256;

    use super::*;

    #[test]
    fn the_selectors_are_those_of_the_signatures() {
        for (selector, signature) in [
            (FACTORY, "factory()"),
            (FACTORY_V2, "factoryV2()"),
            (WETH, "WETH()"),
            (WETH9, "WETH9()"),
            (BALANCE_OF, "balanceOf(address)"),
            (ALLOWANCE, "allowance(address,address)"),
        ] {
            assert_eq!(selector, keccak256(signature)[..4], "{signature}");
        }
    }
}
