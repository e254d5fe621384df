use alloy_primitives::{Address, Bytes, U256};
use headwater_abi::logs::pool_change;
use headwater_events::{PendingTxEvent, V2Action};
use headwater_market::{MarketSnapshot, PoolId, PoolTable, Reserves};
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::SimulationError;
use crate::assembler::calldata;
use crate::native::{Not, Pairs, Router, Swap, Swapped, swap};
use crate::pinned::{Ended, Limits, PinnedState, StateReader};

/// `IUniswapV2Router02.factory()`
const FACTORY: [u8; 4] = [0xc4, 0x5a, 0x01, 0x55];
/// `IUniswapV2Router02.WETH()`
const WETH: [u8; 4] = [0xad, 0x5c, 0x46, 0x48];
/// `IERC20.balanceOf(address owner)`
const BALANCE_OF: [u8; 4] = [0x70, 0xa0, 0x82, 0x31];
/// `IERC20.allowance(address owner, address spender)`
const ALLOWANCE: [u8; 4] = [0xdd, 0x62, 0xed, 0x3e];

/// What a pending transaction does to the tracked pools when it is the first of the next block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The pools whose reserves it changes, ascending, with what they hold behind it.
    pub reserves: Vec<(PoolId, Reserves)>,
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
    /// It cannot be told.
    #[error(transparent)]
    Unknown(#[from] SimulationError),
}

/// Tells what pending transactions do to the tracked pools: calls of known routers by arithmetic, the others by executing
/// them on the state behind the block.
#[derive(Debug)]
pub struct Effects<R> {
    reader: R,
    limits: Limits,
    /// Contracts that are believed to be Uniswap V2 routers, and what they said they are made of: it cannot change
    /// (`UniswapV2Router02` has both as immutables).
    routers: FxHashMap<Address, Option<Router>>,
    pairs: Pairs,
    pinned: Option<PinnedState>,
}

impl<R: StateReader> Effects<R> {
    /// `routers`: contracts with the code of `UniswapV2Router02`.
    pub fn new(reader: R, limits: Limits, routers: &[Address]) -> Self {
        let routers = routers.iter().map(|router| (*router, None)).collect();
        Self { reader, limits, routers, pairs: Pairs::default(), pinned: None }
    }

    /// What the transaction does as the first of the block after that of `market`.
    ///
    /// # Errors
    ///
    /// [`NoEffect`]: nothing may be built on it.
    pub async fn of(
        &mut self,
        pending: &PendingTxEvent,
        market: &MarketSnapshot,
    ) -> Result<Effect, NoEffect> {
        let Self { reader, limits, routers, pairs, pinned } = self;
        let pools = &market.pools;
        pairs.follow(pools);
        if pinned.as_ref().is_none_or(|state| state.as_of().hash != market.as_of.hash) {
            *pinned = Some(PinnedState::behind(reader, market.as_of, *limits).await?);
        }
        let Some(state) = pinned else { return Err(NoEffect::Untouched) };
        Question { reader, state, routers, pairs, pools, pending }.answer().await
    }
}

/// What one transaction does on one state.
struct Question<'a, R> {
    reader: &'a R,
    state: &'a mut PinnedState,
    routers: &'a mut FxHashMap<Address, Option<Router>>,
    pairs: &'a Pairs,
    pools: &'a PoolTable,
    pending: &'a PendingTxEvent,
}

impl<R: StateReader> Question<'_, R> {
    async fn answer(&mut self) -> Result<Effect, NoEffect> {
        self.may_be_next().await?;
        if let Some(router) = self.router().await? {
            let timestamp = self.state.next().timestamp;
            match swap(&self.pending.transaction, &router, self.pools, self.pairs, timestamp) {
                Ok(swapped) if self.is_sure(&router, &swapped).await? => {
                    let changed = swapped.hops.iter().map(|hop| (hop.pool, hop.after)).collect();
                    return effect(self.pools, changed, Means::Native);
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
        match self.routers.get(&address) {
            None => return Ok(None),
            Some(Some(router)) => return Ok(Some(*router)),
            Some(None) => {}
        }
        let factory = self.ask(address, FACTORY, &[]).await?;
        let wrapped = self.ask(address, WETH, &[]).await?;
        let router = factory.zip(wrapped).map(|(factory, wrapped)| Router {
            address,
            factory: Address::from_word(factory.into()),
            wrapped_native: Address::from_word(wrapped.into()),
        });
        match router {
            Some(known) => drop(self.routers.insert(address, Some(known))),
            None => drop(self.routers.remove(&address)),
        }
        Ok(router)
    }

    /// Whether nothing outside of the pools' reserves is against the swap: the sender has what is taken and allows it, the
    /// pools hold exactly their reserves, and no contract is sent native tokens.
    async fn is_sure(&mut self, router: &Router, swapped: &Swapped) -> Result<bool, NoEffect> {
        let from = self.pending.transaction.from;
        if let Some((token, amount)) = swapped.pays {
            let held = self.ask(token, BALANCE_OF, &[from]).await?;
            let allowed = self.ask(token, ALLOWANCE, &[from, router.address]).await?;
            let (Some(held), Some(allowed)) = (held, allowed) else { return Ok(false) };
            if held < amount || allowed < amount {
                return Err(NoEffect::Fails("the router cannot take the input".to_owned()));
            }
        }
        // The sender gets back what it sent too much.
        for paid in swapped.pays_native.then_some(swapped.recipient).into_iter().chain([from]) {
            if self.state.account(self.reader, paid).await?.has_code {
                return Ok(false);
            }
        }
        for Swap { pool, before, .. } in &swapped.hops {
            let Some(meta) = self.pools.meta(*pool) else { return Ok(false) };
            for (token, reserve) in [(meta.token0, before.reserve0), (meta.token1, before.reserve1)] {
                // A pool takes what it was given beyond its reserves for part of the input.
                if self.ask(token, BALANCE_OF, &[meta.address]).await? != Some(U256::from(reserve)) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
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
        let logs = match self.state.run(self.reader, vec![call]).await?.pop() {
            Some(Ended::Done { logs, .. }) => logs,
            Some(Ended::Failed(reason)) => return Err(NoEffect::Fails(reason)),
            Some(Ended::Impossible(reason)) => return Err(NoEffect::Impossible(reason)),
            None => return Err(SimulationError::Unsupported("nothing was executed").into()),
        };
        let mut changed = FxHashMap::default();
        for log in &logs {
            // Pools whose state is more than two reserves would be read here.
            if let (Some(pool), Ok(Some(V2Action::Sync { reserve0, reserve1 }))) =
                (self.pools.find(&log.address), pool_change(log))
            {
                changed.insert(pool, Reserves { reserve0, reserve1 });
            }
        }
        effect(self.pools, changed.into_iter().collect(), Means::Executed)
    }
}

/// What is left of the changes when those are left out that change nothing, or that cannot be.
fn effect(pools: &PoolTable, mut changed: Vec<(PoolId, Reserves)>, means: Means) -> Result<Effect, NoEffect> {
    changed.retain(|(pool, after)| after.is_possible() && pools.reserves(*pool) != Some(*after));
    changed.sort_unstable_by_key(|(pool, _)| *pool);
    if changed.is_empty() { Err(NoEffect::Untouched) } else { Ok(Effect { reserves: changed, means }) }
}

fn one_word(answer: &Bytes) -> Option<U256> {
    Some(U256::from_be_bytes(*answer.first_chunk::<32>()?))
}
